//! The loop: what is due runs on a bounded pool, one pass a token at a time; everything else only wakes it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{Id, JoinError, JoinSet};

use super::fleet::{Fleet, lock};
use super::planner::Planner;
use super::wake::{Reply, Verb, Wake};
use super::worker::{PassEnd, Worker};
use crate::clock;
use crate::rotation::time::Boot;

mod orders;
mod seams;

pub use seams::{Blueprint, Heart, Reload, Reloading};

/// Passes that run at the same time.
const POOL: usize = 16;
/// Timers freeze while a host sleeps, so wall and boot time are read again at least this often.
const BEAT_MAX: Duration = Duration::from_secs(30);
/// How long a stop may take.
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// From the beginning of one reload to that of the next: whoever sends a signal in a loop gets the last one obeyed, not each.
const RELOAD_EVERY: SignedDuration = SignedDuration::from_secs(1);
/// How often something that is missing is looked for again.
const RETRY_MISSING: SignedDuration = SignedDuration::from_secs(30);

/// The daemon.
pub struct Daemon {
    fleet: Arc<Fleet>,
    blueprint: Arc<dyn Blueprint>,
    reload: Reload,
    heart: Box<dyn Heart>,
    rows: Vec<Row>,
    by_name: BTreeMap<String, usize>,
    planner: Planner,
    running: JoinSet<Passed>,
    tasks: BTreeMap<Id, usize>,
    reloading: Option<Reloading>,
    /// A reload was asked for and has not begun, however often it was asked for.
    reload_asked: bool,
    reload_tried: Boot,
    stopping: bool,
}

/// A pass that ended: which token, its worker back, what it came to.
type Passed = (usize, Box<Worker>, PassEnd);

/// One token as the loop sees it.
struct Row {
    name: String,
    app: String,
    /// Out while a pass runs.
    worker: Option<Box<Worker>>,
    orders: Vec<(Verb, oneshot::Sender<Reply>)>,
    urgency: jiff::Timestamp,
    /// No longer configured, or configured otherwise: dropped when its pass ends.
    retired: bool,
}

impl Daemon {
    /// Fills the heap: every token is due at once, which looks at it and decides.
    #[must_use]
    pub fn new(fleet: Arc<Fleet>, blueprint: Arc<dyn Blueprint>, reload: Reload, heart: Box<dyn Heart>) -> Self {
        let mut daemon = Self {
            fleet,
            blueprint: blueprint.clone(),
            reload,
            heart,
            rows: Vec::new(),
            by_name: BTreeMap::new(),
            planner: Planner::default(),
            running: JoinSet::new(),
            tasks: BTreeMap::new(),
            reloading: None,
            reload_asked: false,
            reload_tried: clock::boot(),
            stopping: false,
        };
        daemon.take_tokens(blueprint);
        daemon
    }

    /// Runs until a stop, and then until nothing is under way or the time for it is over.
    pub async fn run(mut self, mut wakes: mpsc::Receiver<Wake>) {
        let mut stop_by: Option<tokio::time::Instant> = None;
        loop {
            if !self.stopping {
                self.start_due();
            }
            if self.stopping && self.running.is_empty() {
                return;
            }
            let pause = self.pause();
            tokio::select! {
                Some(done) = self.running.join_next_with_id(), if !self.running.is_empty() => self.finished(done),
                wake = wakes.recv() => match wake {
                    Some(Wake::Tick) => {}
                    Some(Wake::Stop) | None => {
                        if !self.stopping {
                            self.begin_stop();
                            stop_by = Some(in_future(STOP_WITHIN));
                        }
                    }
                    Some(Wake::Reload) => self.reload_asked = true,
                    Some(Wake::Order(order, answer)) => self.order(order, answer),
                },
                outcome = ended(&mut self.reloading) => self.end_reload(outcome),
                () = tokio::time::sleep(pause) => {}
                () = until(stop_by) => {
                    tracing::warn!(event = "daemon.stopping", "{} pass(es) did not end in time and are left; they are carried on after the next start", self.running.len());
                    return;
                }
            }
            if self.blueprint.waiting() && self.reload_due(RETRY_MISSING) <= SignedDuration::ZERO {
                self.reload_asked = true;
            }
            self.begin_reload();
            self.heart.beat();
        }
    }

    fn pause(&self) -> Duration {
        if self.planner.has_ready() && self.running.len() < POOL && !self.stopping {
            return Duration::ZERO;
        }
        let due = self.planner.next_due().map_or(SignedDuration::MAX, |due| due.since(clock::boot()));
        let reload = if self.reload_asked && self.reloading.is_none() { self.reload_due(RELOAD_EVERY) } else { SignedDuration::MAX };
        let beat = self.heart.patience().map_or(BEAT_MAX, |patience| patience.min(BEAT_MAX));
        beat.min(Duration::try_from(due.min(reload)).unwrap_or(Duration::ZERO))
    }

    fn start_due(&mut self) {
        let rows = &self.rows;
        self.planner.advance(clock::boot(), |token| rows.get(token).map_or(jiff::Timestamp::MAX, |row| row.urgency));
        while self.running.len() < POOL {
            let Some(token) = self.planner.take() else { return };
            self.start(token);
        }
    }

    fn start(&mut self, token: usize) {
        let Some(row) = self.rows.get_mut(token) else { return };
        // A token whose pass runs is scheduled again when that ends.
        let Some(mut worker) = row.worker.take() else { return };
        let orders = std::mem::take(&mut row.orders);
        let fleet = self.fleet.clone();
        let handle = self.running.spawn(async move {
            for (verb, answer) in orders {
                let reply = orders::obey(&mut worker, &fleet, verb).await;
                drop(answer.send(reply));
            }
            let end = worker.pass(&fleet).await;
            (token, worker, end)
        });
        self.tasks.insert(handle.id(), token);
    }

    fn finished(&mut self, done: Result<(Id, Passed), JoinError>) {
        match done {
            Ok((id, (token, worker, end))) => {
                self.tasks.remove(&id);
                let Some(row) = self.rows.get_mut(token) else { return };
                row.urgency = worker.urgency();
                if row.retired {
                    self.drop_row(token);
                    return self.add_missing();
                }
                row.worker = Some(worker);
                let waiting = !row.orders.is_empty();
                self.planner.schedule(token, if waiting { Boot::ZERO } else { end.next });
            }
            Err(error) => self.panicked(&error),
        }
    }

    /// A panic in one token's pass touches no other: its worker starts afresh, a while later.
    fn panicked(&mut self, error: &JoinError) {
        let Some(token) = self.tasks.remove(&error.id()) else { return };
        let Some(row) = self.rows.get_mut(token) else { return };
        tracing::error!(
            event = "token.attention",
            alert = true,
            token = row.name,
            reason = "panic",
            "a pass of this token panicked; no other token is touched, and it starts afresh in a minute. Report it with the panic line above"
        );
        if row.retired {
            self.drop_row(token);
            return self.add_missing();
        }
        row.worker = self.blueprint.worker(&row.name, &self.fleet).map(Box::new);
        self.planner.schedule(token, clock::boot().plus(SignedDuration::from_mins(1)));
    }

    fn begin_stop(&mut self) {
        self.stopping = true;
        self.fleet.stop();
        self.heart.stopping();
        tracing::info!(event = "daemon.stopping", "no new step begins; {} pass(es) end first", self.running.len());
    }

    /// How long until the next reload may begin.
    fn reload_due(&self, every: SignedDuration) -> SignedDuration {
        every - clock::boot().since(self.reload_tried)
    }

    /// Begins the reload that was asked for, once it may. What is changed after that is read by the next one.
    fn begin_reload(&mut self) {
        if !self.reload_asked || self.reloading.is_some() || self.reload_due(RELOAD_EVERY) > SignedDuration::ZERO {
            return;
        }
        self.reload_asked = false;
        self.reload_tried = clock::boot();
        self.heart.reloading(true);
        self.reloading = Some((self.reload)());
    }

    fn end_reload(&mut self, outcome: Result<Arc<dyn Blueprint>, String>) {
        self.reloading = None;
        let taken = match outcome {
            Ok(blueprint) => {
                self.take_tokens(blueprint);
                tracing::info!(event = "config.reloaded", tokens = self.by_name.len(), "the configuration is in force");
                true
            }
            Err(mistakes) => {
                tracing::error!(
                    event = "config.rejected",
                    alert = true,
                    "the configuration was not taken, the old one stays in force:\n{mistakes}"
                );
                false
            }
        };
        self.heart.reloaded(taken);
        self.heart.reloading(false);
    }

    /// Takes a blueprint into force. Workers whose token did not change go on with what they know; a token that is no longer
    /// configured is only no longer looked after, nothing of it is revoked.
    fn take_tokens(&mut self, blueprint: Arc<dyn Blueprint>) {
        let old = std::mem::replace(&mut self.blueprint, blueprint.clone());
        let wanted: BTreeSet<String> = blueprint.tokens().into_iter().map(|(name, _app)| name).collect();
        let gone: Vec<usize> = self
            .by_name
            .iter()
            .filter(|(name, _)| !wanted.contains(*name) || blueprint.digest(name) != old.digest(name))
            .map(|(_, token)| *token)
            .collect();
        let dropped: Vec<&str> = self.by_name.keys().filter(|name| !wanted.contains(*name)).map(String::as_str).collect();
        if !dropped.is_empty() {
            tracing::warn!(
                event = "config.dropped",
                alert = true,
                "no longer configured, so no longer looked after; nothing of theirs is revoked, and they end by themselves: {}",
                dropped.join(", ")
            );
        }
        for token in gone {
            self.drop_row(token);
        }
        self.add_missing();
    }

    /// A worker for each token without one. Where a former worker's pass still runs it waits: two would share one spool slot.
    fn add_missing(&mut self) {
        let blueprint = self.blueprint.clone();
        let running: BTreeSet<String> = self.tasks.values().filter_map(|token| Some(self.rows.get(*token)?.name.clone())).collect();
        for (name, app) in blueprint.tokens() {
            if self.by_name.contains_key(&name) || running.contains(&name) {
                continue;
            }
            let Some(worker) = blueprint.worker(&name, &self.fleet) else { continue };
            let token = self.rows.len();
            // Shown from now on, as not looked at yet, so that a person can name it before the first look has ended.
            lock(&self.fleet.status).entry(name.clone()).or_insert_with(|| worker.status());
            self.rows.push(Row {
                name: name.clone(),
                app,
                worker: Some(Box::new(worker)),
                orders: Vec::new(),
                urgency: jiff::Timestamp::MAX,
                retired: false,
            });
            self.by_name.insert(name, token);
            self.planner.schedule(token, clock::boot());
        }
        self.fleet.size.store(self.by_name.len(), Ordering::Relaxed);
    }

    fn drop_row(&mut self, token: usize) {
        self.planner.remove(token);
        let Some(row) = self.rows.get_mut(token) else { return };
        if self.by_name.get(&row.name) == Some(&token) {
            self.by_name.remove(&row.name);
            lock(&self.fleet.status).remove(&row.name);
        }
        row.retired = true;
        row.worker = None;
        for (_, answer) in row.orders.drain(..) {
            drop(answer.send(Reply {
                token: row.name.clone(),
                done: false,
                text: "the token's configuration changed meanwhile; try again".into(),
            }));
        }
    }
}

async fn ended(reloading: &mut Option<Reloading>) -> Result<Arc<dyn Blueprint>, String> {
    match reloading {
        Some(reloading) => reloading.await,
        None => std::future::pending().await,
    }
}

fn in_future(by: Duration) -> tokio::time::Instant {
    #[expect(clippy::disallowed_methods, reason = "a deadline of tokio's own timer, which runs on no other clock")]
    let now = tokio::time::Instant::now();
    now + by
}

async fn until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
