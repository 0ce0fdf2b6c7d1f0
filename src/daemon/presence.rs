//! The daemon's presence on its machine: the state directory with its lock, the control socket, the ledger. Each can be deleted, replaced
//! or filled up under a process that runs for months, and none of them says so by itself.
//!
//! Every five seconds they are compared with what was locked and bound (device and inode). What is gone is made again. Where another
//! daemon has taken the directory meanwhile, this one stops with exit code 1: the directory is that daemon's by the lock that both go
//! by, two writers of one ledger and one spool would tear both, and a process that ended is seen by whatever supervises it, while one
//! that only watches looks alive. Each condition is told once when it begins and once when it ends.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::task::JoinHandle;

use super::control::server::{self, ControlListener, Placed};
use super::disk::in_full;
use super::fleet::Fleet;
use super::wake::{Wake, Waker};
use crate::admin::Snapshot;
use crate::clock;
use crate::ledger::Entry;
use crate::state_dir::{StateDir, StateDirError};

/// How often it is looked. A look is a handful of `stat` calls.
const EVERY: Duration = Duration::from_secs(5);
/// How long a lock must be held under another daemon's name until it is believed: a look of a command holds it for an instant.
const BELIEVED: Duration = Duration::from_millis(700);

/// What is watched, and with what it is made again.
pub struct Presence {
    fleet: Arc<Fleet>,
    state: Arc<StateDir>,
    waker: Waker,
    snapshot: Arc<dyn Snapshot>,
    socket: PathBuf,
    served: Served,
    state_lost: bool,
    socket_lost: bool,
}

/// The socket that is served now.
struct Served {
    placed: Placed,
    task: JoinHandle<()>,
}

/// How the state directory was found.
enum Found {
    Ours,
    /// It was lost like this, and is made and locked again.
    Restored(String),
    /// It was lost like this, and cannot be had again.
    Lost(String, StateDirError),
}

impl Presence {
    /// Serves the control socket, and holds the state directory.
    #[must_use]
    pub fn new(fleet: Arc<Fleet>, state: StateDir, listener: ControlListener, waker: Waker, snapshot: Arc<dyn Snapshot>) -> Self {
        let socket = listener.path().to_owned();
        let served = serve(listener, &waker, &snapshot);
        Self { fleet, state: Arc::new(state), waker, snapshot, socket, served, state_lost: false, socket_lost: false }
    }

    /// Watches until another daemon has the state directory; then orders the stop, and leaves the reason in `evicted`.
    pub async fn watch(mut self, evicted: Arc<OnceLock<String>>) {
        loop {
            tokio::time::sleep(EVERY).await;
            match self.look().await {
                Ok(None) => {}
                Ok(Some(reason)) => {
                    tracing::error!(event = "state.taken", alert = true, "{reason}");
                    drop(evicted.set(reason));
                    self.fleet.stop();
                    drop(self.waker.send(Wake::Stop).await);
                    // The doors stay open until the loop has ended.
                    return std::future::pending().await;
                }
                Err(panicked) => {
                    tracing::error!(event = "panic", "the state directory is not watched any more: {panicked}");
                    return;
                }
            }
        }
    }

    async fn look(&mut self) -> Result<Option<String>, tokio::task::JoinError> {
        let mut found = self.look_at_state().await?;
        if matches!(found, Found::Lost(_, StateDirError::Held { daemon: true, .. })) {
            tokio::time::sleep(BELIEVED).await;
            found = self.look_at_state().await?;
        }
        if let Some(reason) = self.told(found) {
            return Ok(Some(reason));
        }
        self.look_at_socket();
        self.look_at_ledger().await;
        Ok(None)
    }

    async fn look_at_state(&mut self) -> Result<Found, tokio::task::JoinError> {
        let state = self.state.clone();
        let found = tokio::task::spawn_blocking(move || match state.check() {
            Ok(()) => (None, Found::Ours),
            Err(lost) => match state.retake() {
                Ok(again) => (Some(again), Found::Restored(in_full(&lost))),
                Err(why) => (None, Found::Lost(in_full(&lost), why)),
            },
        });
        let (again, found) = found.await?;
        if let Some(again) = again {
            self.state = Arc::new(again);
            // The ledger and the spool make their folders when they are used; the veto is written when it changes only.
            self.fleet.keep_veto();
        }
        Ok(found)
    }

    /// Tells what changed. A reason to stop, if there is one.
    fn told(&mut self, found: Found) -> Option<String> {
        let (lost, trouble) = match found {
            Found::Ours => (None, None),
            Found::Restored(lost) => (Some(lost), None),
            Found::Lost(lost, StateDirError::Held { by, daemon: true, .. }) => {
                return Some(format!(
                    "{lost}, and {by} holds it now: this daemon stops with exit code 1, so that one of both is in charge. A token that was \
                     received and not stored yet is brought to safety first"
                ));
            }
            Found::Lost(lost, why) => (Some(lost), Some(in_full(&why))),
        };
        if let Some(lost) = lost.filter(|_| !self.state_lost) {
            self.state_lost = true;
            let next = match &trouble {
                None => "it was made again and is locked".to_owned(),
                Some(why) => format!("it cannot be had again yet: {why}; it is tried every {} s", EVERY.as_secs()),
            };
            tracing::error!(
                event = "state.lost",
                alert = true,
                "{lost}; {next}. The rows of the ledger and the captured tokens that lay in it may be gone; what the store holds is not \
                 touched. To do: find out who did it"
            );
        }
        if trouble.is_none() && std::mem::take(&mut self.state_lost) {
            tracing::info!(
                event = "state.restored",
                alert = true,
                "the state directory {} is there and locked by this daemon",
                self.state.path().display()
            );
        }
        self.fleet.vitals.state_dir(trouble);
        None
    }

    fn look_at_socket(&mut self) {
        if self.served.placed.is_there() {
            return;
        }
        let was_lost = std::mem::replace(&mut self.socket_lost, true);
        let bound = server::bind(&self.socket);
        if !was_lost {
            let next = match &bound {
                Ok(_) => "it was made again".to_owned(),
                Err(error) => format!("it cannot be made again yet: {}; it is tried every {} s", in_full(error), EVERY.as_secs()),
            };
            tracing::error!(
                event = "control.lost",
                alert = true,
                "the control socket {} was deleted or replaced under this daemon; {next}. Commands do not reach the daemon meanwhile; tokens are \
                 looked after",
                self.socket.display()
            );
        }
        match bound {
            Ok(listener) => {
                let before = std::mem::replace(&mut self.served, serve(listener, &self.waker, &self.snapshot));
                before.end();
                self.socket_lost = false;
                self.fleet.vitals.control_socket(None);
                tracing::info!(event = "control.restored", alert = true, "the control socket {} is served again", self.socket.display());
            }
            Err(error) => self.fleet.vitals.control_socket(Some(in_full(&error))),
        }
    }

    /// A ledger that cannot be written is noticed before a row is lost, and one that can again before the next row comes: both may be
    /// weeks away.
    async fn look_at_ledger(&self) {
        let Some(trouble) = self.fleet.vitals.ledger_trouble() else {
            if let Err(why) = self.fleet.ledger.probe().await {
                tracing::error!(event = "ledger.failed", alert = true, "the ledger cannot be written: {why}. No row was lost by that yet");
                self.fleet.vitals.ledger_unwritable(why);
            }
            return;
        };
        let mut fields = Map::new();
        fields.insert("message".into(), Value::String(format!("takes rows again; {} row(s) could not be kept", trouble.rows)));
        fields.insert("since".into(), json!(trouble.since));
        let event = "ledger.resumed".to_owned();
        let (rotation_id, attempt, fingerprint) = (None, None, None);
        let entry = Entry { at: clock::wall(), provider_at: None, token: String::new(), rotation_id, attempt, event, fingerprint, fields };
        if self.fleet.ledger.probe().await.is_ok() && self.fleet.ledger.keep(entry).await.is_ok() {
            self.fleet.ledger_resumed();
        }
    }
}

impl Served {
    /// Who is connected is still answered; nobody else can come in by that way.
    fn end(self) {
        tokio::spawn(async move {
            tokio::time::sleep(server::LASTS).await;
            self.task.abort();
        });
    }
}

fn serve(listener: ControlListener, waker: &Waker, snapshot: &Arc<dyn Snapshot>) -> Served {
    let placed = listener.placed();
    Served { placed, task: tokio::spawn(server::serve(listener, waker.clone(), snapshot.clone())) }
}
