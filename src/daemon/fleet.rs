//! What all tokens of one process share: the state directory's spool and ledger, the breaker, the pace, the apps, the status.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use jiff::SignedDuration;
use secrecy::SecretString;

use super::pace::Pace;
use super::scribe::Scribe;
use super::snapshot::Vitals;
use super::veto::VetoFile;
use crate::clock;
use crate::graph::Provider;
use crate::ledger::Ledger;
use crate::rotation::breaker::Breaker;
use crate::rotation::health::TokenStatus;
use crate::rotation::time::{Boot, Clock, ProviderTime};
use crate::spool::{Spool, SpoolKey};
use crate::telemetry::metrics::Metrics;

/// One app: its calls, its clock, its keys.
pub struct App {
    /// Its configured name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Its calls.
    pub provider: Arc<dyn Provider>,
    /// The secret and the keys derived from it; swapped on reload.
    pub keys: RwLock<AppKeys>,
    clock: Mutex<Option<ProviderTime>>,
    /// Not before this instant may the app be called for what can wait.
    pressed_until: Mutex<Boot>,
}

/// An app's secret and what is derived from it.
#[derive(Clone)]
pub struct AppKeys {
    /// The secret, for proofs in payloads.
    pub secret: SecretString,
    /// The key that seals new spool slots.
    pub seal: SpoolKey,
    /// Keys that open older slots.
    pub open: Vec<SpoolKey>,
}

impl App {
    /// An app that was never called.
    #[must_use]
    pub fn new(name: String, id: String, provider: Arc<dyn Provider>, keys: AppKeys) -> Self {
        Self { name, id, provider, keys: RwLock::new(keys), clock: Mutex::new(None), pressed_until: Mutex::new(Boot::ZERO) }
    }

    /// All clocks now, with this app's provider.
    #[must_use]
    pub fn clock(&self) -> Clock {
        Clock { wall: clock::wall(), boot: clock::boot(), provider: *lock(&self.clock) }
    }

    /// Takes a `Date` of the provider.
    pub fn saw_date(&self, date: Option<jiff::Timestamp>) {
        if let Some(date) = date {
            *lock(&self.clock) = Some(ProviderTime { date, at: clock::boot() });
        }
    }

    /// Takes what usage headers or a throttling answer asked for.
    pub fn press(&self, wait: SignedDuration) {
        let until = clock::boot().plus(wait);
        let mut pressed = lock(&self.pressed_until);
        *pressed = until.max(*pressed);
    }

    /// Until when the app is to be left alone.
    #[must_use]
    pub fn pressed_until(&self) -> Boot {
        *lock(&self.pressed_until)
    }

    /// The secret and keys in force.
    #[must_use]
    pub fn keys(&self) -> AppKeys {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Everything shared.
pub struct Fleet {
    writer: String,
    workers: AtomicU64,
    /// Sealed slots for captured tokens.
    pub spool: Arc<Spool>,
    /// The audit of everything that was done.
    pub ledger: Scribe,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// How fast the fleet may mint and write.
    pub pace: Mutex<Pace>,
    breaker: Mutex<Breaker>,
    veto: VetoFile,
    /// How many tokens there are.
    pub size: std::sync::atomic::AtomicUsize,
    /// The latest status of each token.
    pub status: Mutex<BTreeMap<String, TokenStatus>>,
    /// How much of each app's call allowance is used, 0 to 1 and above.
    pub usage: Mutex<BTreeMap<String, f64>>,
    /// Marks of life, for whoever looks.
    pub vitals: Vitals,
    stopping: AtomicBool,
    /// Wakes whoever waits for the stop.
    pub stopped: tokio::sync::Notify,
}

impl Fleet {
    /// Puts the shared parts together. The veto that an earlier process left is taken up.
    #[must_use]
    pub fn new(writer: String, spool: Spool, ledger: Ledger, metrics: Arc<Metrics>, pace: Pace, veto: VetoFile) -> Self {
        let breaker = Mutex::new(Breaker::new(veto.read()));
        Self {
            writer,
            workers: AtomicU64::new(0),
            spool: Arc::new(spool),
            ledger: Scribe::new(ledger),
            metrics,
            pace: Mutex::new(pace),
            breaker,
            veto,
            size: std::sync::atomic::AtomicUsize::new(0),
            status: Mutex::new(BTreeMap::new()),
            usage: Mutex::new(BTreeMap::new()),
            vitals: Vitals::default(),
            stopping: AtomicBool::new(false),
            stopped: tokio::sync::Notify::new(),
        }
    }

    /// A name under which one worker signs its records. One for each: a worker that takes another's place (after a panic, or a change of
    /// its configuration) knows as little of what that one has sent as another process does.
    #[must_use]
    pub fn sign(&self) -> String {
        format!("{}.{}", self.writer, self.workers.fetch_add(1, Ordering::Relaxed))
    }

    /// Nothing new is begun from now on.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.stopped.notify_waiters();
    }

    /// Whether nothing new is to be begun.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Waits for the stop.
    pub async fn until_stopped(&self) {
        let stopped = self.stopped.notified();
        if !self.is_stopping() {
            stopped.await;
        }
    }

    /// How many tokens there are.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size.load(Ordering::Relaxed)
    }

    /// Asks or tells the breaker. A veto that changed is written to the state directory.
    pub fn breaker<T>(&self, change: impl FnOnce(&mut Breaker) -> T) -> T {
        let mut breaker = lock(&self.breaker);
        let before = breaker.veto().cloned();
        let answer = change(&mut breaker);
        if breaker.veto() != before.as_ref() {
            self.veto.write(breaker.veto());
        }
        answer
    }

    /// Writes the veto again, where there is one: the state directory was made anew.
    pub fn keep_veto(&self) {
        let breaker = lock(&self.breaker);
        if let Some(veto) = breaker.veto() {
            self.veto.write(Some(veto));
        }
    }

    /// The ledger took a row. Told where it had not before.
    pub fn ledger_resumed(&self) {
        if let Some(trouble) = self.vitals.ledger_takes_rows() {
            tracing::info!(
                event = "ledger.resumed",
                alert = true,
                "the ledger takes rows again; {} row(s) since {} could not be kept",
                trouble.rows,
                trouble.since
            );
        }
    }

    /// Says up to where the ledger goes, in the log: what is known elsewhere cannot be taken out of the ledger unseen.
    pub fn tell_ledger_head(&self) {
        if let Some(head) = self.ledger.head() {
            tracing::info!(event = "ledger.head", row = head.seq, head = %head.hash, "the ledger goes up to row {}", head.seq);
        }
    }

    /// The latest status of each token.
    #[must_use]
    pub fn statuses(&self) -> Vec<TokenStatus> {
        lock(&self.status).values().cloned().collect()
    }
}

/// A lock whose holder may have panicked: the data are plain values, each written whole.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
