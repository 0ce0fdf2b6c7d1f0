//! How a command reaches the tokens: through the running daemon, or, where none runs, by itself with the state directory locked.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tracing::level_filters::LevelFilter;

use super::{Failure, chain, conventional, terminal};
use crate::app::{self, Setup, SetupError, Shared};
use crate::config::{self, Environment, Loaded, Settings};
use crate::daemon::control::ControlError;
use crate::daemon::control::client::ControlClient;
use crate::daemon::fleet::Fleet;
use crate::daemon::run::Blueprint as _;
use crate::daemon::wake::Selector;
use crate::daemon::worker::Worker;
use crate::state_dir::{self, Holder, StateDir, StateDirError};
use crate::telemetry::{LogCounts, LogFormat, LogSettings};

/// How long the socket of a daemon that holds the lock is waited for: it may have just started.
const SOCKET_WITHIN: Duration = Duration::from_secs(5);

/// Reads the configuration; what is wrong with it is said in full.
pub(super) fn load(path: &Path, environment: &Environment) -> Result<Loaded, Failure> {
    config::load(path, environment).map_err(|error| Failure::usage(error.to_string()))
}

/// The settings as the daemon of this host has them: what neither the configuration nor this shell says lies where a unit has it.
pub(super) fn settled(path: &Path, environment: &Environment) -> Result<Settings, Failure> {
    let mut settings = load(path, environment)?.settings;
    conventional::settle(&mut settings, environment, Path::new("/"));
    Ok(settings)
}

/// A runtime as the daemon's: one thread.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::error(format!("the runtime cannot be started: {error}")))
}

/// Warnings of a command go to standard error as text; only what is worth a person's time.
pub(super) fn quiet_log() -> Result<crate::telemetry::Guard, Failure> {
    log_at(LevelFilter::WARN)
}

/// A command's log: text on standard error, from `level` up where RUST_LOG does not say otherwise.
pub(super) fn log_at(level: LevelFilter) -> Result<crate::telemetry::Guard, Failure> {
    let settings = LogSettings { format: LogFormat::Text, level, rust_log: app::rust_log(), is_terminal: true };
    crate::telemetry::init(&settings).map_err(|error| Failure::error(chain(&error)))
}

/// The way to the tokens.
pub(super) enum Session {
    /// A daemon runs.
    Daemon(ControlClient),
    /// None runs: this process acts.
    Alone(Box<Alone>),
}

/// This process in a daemon's place.
pub(super) struct Alone {
    pub(super) setup: Arc<Setup>,
    pub(super) fleet: Arc<Fleet>,
    /// None where there is no state directory and none is needed.
    _state: Option<StateDir>,
}

/// What a command is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It only looks, and leaves nothing behind.
    Look,
    /// It changes something.
    Act,
}

impl Session {
    /// Finds the daemon, or takes its place.
    pub(super) async fn open(purpose: Purpose, mut settings: Settings, environment: Environment, log: &LogCounts) -> Result<Self, Failure> {
        conventional::settle(&mut settings, &environment, Path::new("/"));
        let socket = settings.daemon.control_socket.clone();
        match ControlClient::connect(&socket).await {
            Ok(client) => return Ok(Self::Daemon(client)),
            // A daemon is there, and it is not for us to act beside it.
            Err(error @ (ControlError::NotYours(_) | ControlError::NoAnswer(_))) => return Err(Failure::error(chain(&error))),
            Err(_none) => {}
        }
        let missing = purpose == Purpose::Look && matches!(settings.daemon.state_dir.try_exists(), Ok(false));
        if missing {
            return Alone::new(settings, environment, None, log).await.map(Box::new).map(Self::Alone);
        }
        become_owner(&settings.daemon.state_dir)?;
        let state = match StateDir::lock(&settings.daemon.state_dir, Holder::Command) {
            Ok(state) => state,
            Err(StateDirError::Held { daemon: true, by, .. }) => {
                let client = tokio::time::timeout(SOCKET_WITHIN, async {
                    loop {
                        if let Ok(client) = ControlClient::connect(&socket).await {
                            return client;
                        }
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                });
                let client = client.await.map_err(|_elapsed| {
                    Failure::error(format!("{by} holds the state directory and does not answer on {}: check its log, and that control_socket is the same in its configuration", conventional::tried(&socket)))
                })?;
                return Ok(Self::Daemon(client));
            }
            Err(error) => return Err(Failure::error(chain(&error))),
        };
        Alone::new(settings, environment, Some(state), log).await.map(Box::new).map(Self::Alone)
    }
}

impl Alone {
    async fn new(settings: Settings, environment: Environment, state: Option<StateDir>, log: &LogCounts) -> Result<Self, Failure> {
        let fleet = app::fleet(&settings, &settings.daemon.state_dir, log).map_err(|error| unusable(&error))?;
        let shared = Shared { metrics: fleet.metrics.clone(), environment };
        let setup = Setup::build(settings, None, &shared).await.map_err(|error| unusable(&error))?;
        Ok(Self { setup: Arc::new(setup), fleet: Arc::new(fleet), _state: state })
    }

    /// Workers of the selected tokens, after one look each where the selection asks for a phase.
    pub(super) fn workers(&self, select: &Selector) -> Vec<Worker> {
        let by_phase = select.phase.is_some();
        self.setup
            .tokens()
            .into_iter()
            .filter(|(name, app)| by_phase || select.selects(name, app, ""))
            .filter_map(|(name, _)| self.setup.worker(&name, &self.fleet))
            .collect()
    }
}

/// Why the parts cannot be put together, and what to do.
pub(super) fn unusable(error: &SetupError) -> Failure {
    let text = chain(error);
    match error {
        SetupError::Secret { source, .. } => Failure::error(format!("{text}. To do: {}", source.remedy())),
        SetupError::Graph(..)
        | SetupError::Transport(_)
        | SetupError::Authorities { .. }
        | SetupError::FileStore(..)
        | SetupError::Aws(_)
        | SetupError::Spool(_)
        | SetupError::Ledger(_) => Failure::error(format!("{text}. To do: mend that; `evertoken check` says whether all is well then")),
    }
}

/// Root acts as the owner of the state directory, so that no file in it becomes root's.
pub(super) fn become_owner(state_dir: &Path) -> Result<(), Failure> {
    use nix::unistd::{Gid, Uid, geteuid, setgid, setgroups, setuid};
    let Some((uid, gid)) = state_dir::owner(state_dir) else { return Ok(()) };
    if !geteuid().is_root() || uid == 0 {
        return Ok(());
    }
    terminal::complain(&format!("acts as uid {uid}, which owns {}", state_dir.display()));
    setgroups(&[Gid::from_raw(gid)])
        .and_then(|()| setgid(Gid::from_raw(gid)))
        .and_then(|()| setuid(Uid::from_raw(uid)))
        .map_err(|error| Failure::error(format!("cannot become uid {uid}, which owns the state directory: {error}")))
}
