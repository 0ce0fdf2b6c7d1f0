//! What the daemon shows of itself, gathered from where it happens.
//!
//! [`Vitals`] are marks that the loop and the workers leave: plain values behind short locks, read by whoever asks. Nothing is decided
//! by them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};

use super::fleet::{Fleet, lock};
use crate::admin::{DaemonFacts, Snapshot};
use crate::clock;
use crate::rotation::evidence::Evidence;
use crate::rotation::health::{BreakerStatus, TokenStatus, versions_live};
use crate::rotation::plan::Severity;
use crate::rotation::time::Boot;
use crate::rotation::token::Expiry;
use crate::telemetry::metrics::{DaemonGauges, Exposition, TokenGauges};

/// Marks of life.
#[derive(Debug)]
pub struct Vitals {
    turned: Mutex<Moment>,
    config: Mutex<Config>,
    ledger_trouble: Mutex<Option<LedgerTrouble>>,
    /// Why the state directory, or the control socket, is not this process's any more.
    state_trouble: Mutex<Option<String>>,
    socket_trouble: Mutex<Option<String>>,
    clock_offset: Mutex<Option<SignedDuration>>,
    tokens: Mutex<BTreeMap<String, Marks>>,
}

/// The ledger takes no rows.
#[derive(Debug, Clone)]
pub struct LedgerTrouble {
    /// Why.
    pub why: String,
    /// Since when that is known, by the host's clock.
    pub since: Timestamp,
    /// Rows that could not be kept since.
    pub rows: u64,
}

/// One instant on both of the host's clocks: the steady one to measure ages, the other to show.
#[derive(Debug, Clone, Copy)]
struct Moment {
    boot: Boot,
    wall: Timestamp,
}

impl Moment {
    fn now() -> Self {
        Self { boot: clock::boot(), wall: clock::wall() }
    }
}

#[derive(Debug)]
struct Config {
    taken: bool,
    taken_at: Timestamp,
}

/// What a token's status does not say.
#[derive(Debug, Clone, Default)]
struct Marks {
    versions_live: u64,
    /// Why its store could not be read, if the last try failed.
    store_trouble: Option<String>,
    /// Since when a sink is known to hold something else than the current payload.
    lagging: BTreeMap<String, Boot>,
    last_success: BTreeMap<&'static str, Timestamp>,
}

impl Default for Vitals {
    /// As at the start: the configuration is in force, and the loop has not had its time to turn yet.
    fn default() -> Self {
        let now = Moment::now();
        Self {
            turned: Mutex::new(now),
            config: Mutex::new(Config { taken: true, taken_at: now.wall }),
            ledger_trouble: Mutex::default(),
            state_trouble: Mutex::default(),
            socket_trouble: Mutex::default(),
            clock_offset: Mutex::default(),
            tokens: Mutex::default(),
        }
    }
}

impl Vitals {
    /// The loop turned.
    pub fn turned(&self) {
        *lock(&self.turned) = Moment::now();
    }

    /// A reload of the configuration was taken or refused.
    pub fn reloaded(&self, taken: bool) {
        let mut config = lock(&self.config);
        config.taken = taken;
        if taken {
            config.taken_at = clock::wall();
        }
    }

    /// A row could not be kept.
    pub fn ledger_lost_row(&self, why: String) {
        self.ledger_unwritable(why);
        if let Some(trouble) = lock(&self.ledger_trouble).as_mut() {
            trouble.rows = trouble.rows.saturating_add(1);
        }
    }

    /// The ledger takes no rows, as far as can be seen without one.
    pub fn ledger_unwritable(&self, why: String) {
        let mut trouble = lock(&self.ledger_trouble);
        let (since, rows) = trouble.as_ref().map_or_else(|| (clock::wall(), 0), |trouble| (trouble.since, trouble.rows));
        *trouble = Some(LedgerTrouble { why, since, rows });
    }

    /// The ledger took a row: the trouble that is over by that, if there was any.
    pub fn ledger_takes_rows(&self) -> Option<LedgerTrouble> {
        lock(&self.ledger_trouble).take()
    }

    /// What keeps the ledger from taking rows, if anything does.
    #[must_use]
    pub fn ledger_trouble(&self) -> Option<LedgerTrouble> {
        lock(&self.ledger_trouble).clone()
    }

    /// The state directory is this process's, or why it is not.
    pub fn state_dir(&self, trouble: Option<String>) {
        *lock(&self.state_trouble) = trouble;
    }

    /// The control socket is there, or why it is not.
    pub fn control_socket(&self, trouble: Option<String>) {
        *lock(&self.socket_trouble) = trouble;
    }

    /// A step of a token succeeded.
    pub fn succeeded(&self, token: &str, step: &'static str) {
        lock(&self.tokens).entry(token.to_owned()).or_default().last_success.insert(step, clock::wall());
    }

    /// A pass of a token ended.
    pub fn passed(&self, evidence: &Evidence, status: &TokenStatus) {
        if let Some(offset) = evidence.clock.offset() {
            *lock(&self.clock_offset) = Some(offset);
        }
        let live = versions_live(evidence);
        let trouble = evidence.store.trouble.as_ref().map(|trouble| trouble.fault.what.clone());
        let behind: BTreeSet<&str> =
            status.sinks.iter().filter(|sink| sink.in_sync == Some(false)).map(|sink| sink.name.as_str()).collect();
        let mut tokens = lock(&self.tokens);
        let marks = tokens.entry(status.name.clone()).or_default();
        marks.versions_live = live;
        marks.store_trouble = trouble;
        marks.lagging.retain(|sink, _| behind.contains(sink.as_str()));
        for sink in behind {
            marks.lagging.entry(sink.to_owned()).or_insert(evidence.clock.boot);
        }
    }
}

/// The fleet, as `admin` wants to see it.
pub struct FleetSnapshot(Arc<Fleet>);

impl FleetSnapshot {
    /// A view of the fleet.
    #[must_use]
    pub const fn new(fleet: Arc<Fleet>) -> Self {
        Self(fleet)
    }

    fn breaker(&self) -> BreakerStatus {
        let why = self.0.breaker(|breaker| breaker.veto().map(|veto| veto.why.clone()));
        BreakerStatus { open: why.is_some(), why }
    }

    fn daemon_gauges(&self) -> DaemonGauges {
        let vitals = &self.0.vitals;
        let (taken, taken_at) = {
            let config = lock(&vitals.config);
            (config.taken, config.taken_at)
        };
        DaemonGauges {
            last_tick: Some(lock(&vitals.turned).wall),
            // There is no election: every process that runs acts.
            leader: true,
            config_reload_successful: taken,
            config_reloaded_at: Some(taken_at),
            app_usage: lock(&self.0.usage).iter().map(|(app, share)| (app.clone(), *share)).collect(),
            provider_clock_offset: *lock(&vitals.clock_offset),
            breaker_open: self.breaker().open,
            ledger_writable: lock(&vitals.ledger_trouble).is_none(),
            state_dir_held: lock(&vitals.state_trouble).is_none(),
            control_socket_bound: lock(&vitals.socket_trouble).is_none(),
        }
    }
}

impl Snapshot for FleetSnapshot {
    fn statuses(&self) -> Vec<TokenStatus> {
        self.0.statuses()
    }

    fn daemon(&self) -> DaemonFacts {
        let vitals = &self.0.vitals;
        // Marks outlive their token's configuration; only what is looked after counts.
        let looked_after: BTreeSet<String> = lock(&self.0.status).keys().cloned().collect();
        let tokens = lock(&vitals.tokens);
        let trouble = |(token, marks): (&String, &Marks)| Some((token.clone(), marks.store_trouble.clone()?));
        let unreadable = tokens.iter().filter(|(token, _)| looked_after.contains(*token)).filter_map(trouble).collect();
        drop(tokens);
        DaemonFacts {
            now: clock::wall(),
            loop_age: clock::boot().since(lock(&vitals.turned).boot),
            configured: self.0.size(),
            breaker: self.breaker(),
            config_taken: lock(&vitals.config).taken,
            ledger_trouble: vitals.ledger_trouble().map(|trouble| trouble.why),
            state_trouble: lock(&vitals.state_trouble).clone(),
            socket_trouble: lock(&vitals.socket_trouble).clone(),
            unreadable,
        }
    }

    fn metrics(&self, format: Exposition) -> Result<String, fmt::Error> {
        let now = Moment::now();
        let marks = lock(&self.0.vitals.tokens).clone();
        let unmarked = Marks::default();
        let gauges = |status: &TokenStatus| token_gauges(status, marks.get(&status.name).unwrap_or(&unmarked), now);
        let tokens = self.0.statuses().iter().map(gauges).collect();
        self.0.metrics.render(tokens, self.daemon_gauges(), format)
    }
}

fn token_gauges(status: &TokenStatus, marks: &Marks, now: Moment) -> TokenGauges {
    let current = status.current.as_ref();
    let blocked = status.conditions.iter().find(|condition| condition.kind == "Attention" && condition.severity() > Severity::Calm);
    let lag = |sink: &str| marks.lagging.get(sink).map_or(SignedDuration::ZERO, |since| now.boot.since(*since));
    TokenGauges {
        expires: current.and_then(|current| current.expires_at).map(Expiry::At),
        data_access_expires_at: current.and_then(|current| current.data_access_expires_at),
        refresh_due: current.and_then(|current| current.refresh_due),
        revoke_due: status.previous.as_ref().and_then(|previous| previous.revoke_not_before),
        last_success: marks.last_success.iter().map(|(step, at)| (*step, *at)).collect(),
        healthy: status.healthy(now.wall),
        blocked: blocked.map(|condition| condition.reason.clone()),
        versions_live: marks.versions_live,
        orphans: u64::try_from(status.unaccounted.len()).unwrap_or(u64::MAX),
        acks: None,
        // A sink that was never read has no series: nobody knows its lag.
        sinks: status.sinks.iter().filter(|sink| sink.in_sync.is_some()).map(|sink| (sink.name.clone(), lag(&sink.name))).collect(),
        ..TokenGauges::new(status.name.clone(), status.phase)
    }
}
