//! `evertoken run`: the daemon's start and end.
//!
//! Signals first, then configuration, lock, doors; the loop is told to the outside as ready when its heap is filled and both doors
//! are open. No look at Meta or a store comes before that: a daemon that starts while one of them is away stays up and says so.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::mpsc;

use super::session::{load, runtime, unusable};
use super::{Exit, Failure, chain};
use crate::admin;
use crate::app::{self, Setup, Shared};
use crate::config::settings::{Log, LogFormat as Configured};
use crate::config::{self, Environment, Settings};
use crate::daemon::control;
use crate::daemon::cron;
use crate::daemon::fleet::Fleet;
use crate::daemon::presence::Presence;
use crate::daemon::run::{Blueprint, Daemon, Heart, Reload};
use crate::daemon::signals;
use crate::daemon::snapshot::FleetSnapshot;
use crate::daemon::wake::QUEUE;
use crate::rotation::health::{Phase, TokenStatus};
use crate::state_dir::{Holder, StateDir, StateDirError};
use crate::telemetry::{self, LogFormat, LogSettings};

/// `evertoken run`.
pub(super) fn run(config: &Path, once: bool) -> Result<Exit, Failure> {
    let signals = signals::register().map_err(|error| Failure::error(format!("signals cannot be handled: {error}")))?;
    let environment = Environment::of_process();
    let loaded = load(config, &environment)?;
    let log = telemetry::init(&log_settings(&loaded.settings.log)).map_err(|error| Failure::error(chain(&error)))?;
    telemetry::install_panic_hook();
    for warning in &loaded.warnings {
        tracing::warn!(event = "config.warning", "{warning}");
    }
    let state = match StateDir::lock(&loaded.settings.daemon.state_dir, Holder::Run) {
        Ok(state) => state,
        Err(error) => {
            // Who works there has the doors too.
            let doors = !once && !matches!(error, StateDirError::Held { daemon: true, .. });
            let closed = if doors { runtime()?.block_on(closed_doors(&loaded.settings)) } else { Vec::new() };
            return Err(hindered(std::iter::once(chain(&error)).chain(closed), &loaded.settings, &environment));
        }
    };
    tracing::info!(event = "daemon.started", version = env!("CARGO_PKG_VERSION"), config = %config.display(), tokens = loaded.settings.tokens.len(), "evertoken starts");
    let fleet = Arc::new(app::fleet(&loaded.settings, state.path(), &log.counts()).map_err(|error| unusable(&error))?);
    runtime()?.block_on(async {
        if once {
            let exit = run_once(loaded.settings, environment, &fleet).await;
            drop(state);
            exit
        } else {
            serve(config, loaded.settings, environment, &fleet, state, signals).await
        }
    })
}

/// Passes of every token until none has anything left to do now.
async fn run_once(settings: Settings, environment: Environment, fleet: &Arc<Fleet>) -> Result<Exit, Failure> {
    let shared = Shared { metrics: fleet.metrics.clone(), environment };
    let setup = Setup::build(settings.clone(), None, &shared).await;
    let setup = setup.map_err(|error| hindered([unusable(&error).text], &settings, &shared.environment))?;
    let mut workers: Vec<_> = setup.tokens().iter().filter_map(|(name, _)| setup.worker(name, fleet)).collect();
    for worker in &mut workers {
        worker.pass(fleet).await;
    }
    fleet.tell_ledger_head();
    let document = admin::Snapshot::document(&FleetSnapshot::new(fleet.clone()));
    Ok(super::show::exit_of(&document))
}

async fn serve(
    config: &Path,
    settings: Settings,
    environment: Environment,
    fleet: &Arc<Fleet>,
    state: StateDir,
    signals: signals::Registered,
) -> Result<Exit, Failure> {
    let failed = |error: &dyn std::error::Error| Failure::error(chain(error));
    let (waker, wakes) = mpsc::channel(QUEUE);
    let snapshot: Arc<dyn admin::Snapshot> = Arc::new(FleetSnapshot::new(fleet.clone()));
    let listener = match settings.http.listen {
        Some(address) => admin::bind(address).await.map(Some),
        None => Ok(None),
    };
    let (listener, socket) = match (listener, control::server::bind(&settings.daemon.control_socket)) {
        (Ok(listener), Ok(socket)) => (listener, socket),
        (listener, socket) => {
            let closed = [listener.err().map(|error| chain(&error)), socket.err().map(|error| chain(&error))];
            return Err(hindered(closed.into_iter().flatten(), &settings, &environment));
        }
    };
    if let Some(listener) = listener {
        tracing::info!(event = "daemon.listening", address = %listener.address(), "serves /livez /readyz /metrics /v1/status");
        tokio::spawn(admin::serve(listener, snapshot.clone()));
    }
    let _bell = cron::ring(settings.daemon.tick.pattern(), waker.clone()).await.map_err(|error| failed(&error))?;

    let shared = Arc::new(Shared { metrics: fleet.metrics.clone(), environment });
    let setup = Setup::build(settings.clone(), None, &shared).await;
    let setup = Arc::new(setup.map_err(|error| hindered([unusable(&error).text], &settings, &shared.environment))?);
    let tokens = setup.settings().tokens.len();
    let reload = reload(config.to_owned(), setup.clone(), shared);
    let daemon = Daemon::new(fleet.clone(), setup, reload, Box::new(Systemd::new(fleet.clone())));
    // Who connected before waits until now: what it names is known from here on.
    let evicted = Arc::new(OnceLock::new());
    tokio::spawn(Presence::new(fleet.clone(), state, socket, waker.clone(), snapshot).watch(evicted.clone()));
    let stopping = fleet.clone();
    let handle = signals.listen(waker, Arc::new(move || stopping.stop())).map_err(|error| failed(&error))?;
    tracing::info!(event = "daemon.ready", tokens, "the configuration is in force and the doors are open; every token is looked at now");
    fleet.tell_ledger_head();
    notify(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(&format!("{tokens} tokens"))]);
    daemon.run(wakes).await;
    handle.close();
    fleet.tell_ledger_head();
    tracing::info!(event = "daemon.stopped", "{}", farewell(&fleet.statuses()));
    evicted.get().map_or(Ok(Exit::Fine), |reason| Err(Failure::error(reason.clone())))
}

/// What a stop leaves behind.
fn farewell(statuses: &[TokenStatus]) -> String {
    let named = |chosen: fn(&TokenStatus) -> bool| {
        statuses.iter().filter(|status| chosen(status)).map(|status| status.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let mut text = "evertoken ends; the next start looks at everything and carries on".to_owned();
    let open = named(|status| status.phase == Phase::Intent);
    if !open.is_empty() {
        text.push_str(&format!(
            ". A mint was under way or is to be tried again: {open}. The next start looks for its token, and counts it as unaccounted where it may live"
        ));
    }
    let lost = named(|status| !status.unaccounted.is_empty());
    if !lost.is_empty() {
        text.push_str(&format!(". Tokens that nobody holds may be alive: {lost} (`evertoken explain` says until when)"));
    }
    text
}

/// What keeps the daemon from its start: these, and everything else that a look at this host finds, each on a line, so that whoever
/// mends it does not have to start five times.
fn hindered(first: impl IntoIterator<Item = String>, settings: &Settings, environment: &Environment) -> Failure {
    let mut found: Vec<String> = first.into_iter().collect();
    for text in app::obstacles(settings, environment).iter().map(|error| unusable(error).text) {
        if !found.contains(&text) {
            found.push(text);
        }
    }
    Failure::error(found.join("\n"))
}

/// The doors that could not be opened.
async fn closed_doors(settings: &Settings) -> Vec<String> {
    let http = match settings.http.listen {
        Some(address) => admin::bind(address).await.err().map(|error| chain(&error)),
        None => None,
    };
    // The folder of the default socket is the state directory, of which more was said.
    let socket = &settings.daemon.control_socket;
    let own = socket.parent() == Some(&settings.daemon.state_dir);
    let socket = if own { None } else { control::server::look(socket).err().map(|error| chain(&error)) };
    http.into_iter().chain(socket).collect()
}

/// Reads the configuration and every secret again; what is in force stays so until all of it is good.
fn reload(config: PathBuf, first: Arc<Setup>, shared: Arc<Shared>) -> Reload {
    let in_force = Arc::new(std::sync::Mutex::new(first));
    Box::new(move || {
        let (config, shared, in_force) = (config.clone(), shared.clone(), in_force.clone());
        Box::pin(async move {
            let loaded = config::load(&config, &shared.environment).map_err(|error| error.to_string())?;
            for warning in &loaded.warnings {
                tracing::warn!(event = "config.warning", "{warning}");
            }
            let before = crate::daemon::fleet::lock(&in_force).clone();
            if let Some(what) = needs_restart(before.settings(), &loaded.settings) {
                tracing::warn!(
                    event = "config.needs_restart",
                    alert = true,
                    "{what} changed, which takes effect at the next start only; the rest is in force now"
                );
            }
            let setup = Arc::new(Setup::build(loaded.settings, Some(&before), &shared).await.map_err(|error| chain(&error))?);
            *crate::daemon::fleet::lock(&in_force) = setup.clone();
            Ok(setup as Arc<dyn Blueprint>)
        })
    })
}

/// What a reload cannot change.
fn needs_restart(before: &Settings, after: &Settings) -> Option<&'static str> {
    let daemon = before.daemon != after.daemon;
    let http = before.http != after.http;
    let log = before.log != after.log;
    let pace = before.pace != after.pace;
    [(daemon, "[daemon]"), (http, "[http]"), (log, "[log]"), (pace, "[pace]")]
        .into_iter()
        .find_map(|(changed, table)| changed.then_some(table))
}

fn log_settings(log: &Log) -> LogSettings {
    let format = match log.format {
        Configured::Auto => LogFormat::Auto,
        Configured::Json => LogFormat::Json,
        Configured::Text => LogFormat::Text,
        Configured::Journald => LogFormat::Journald,
    };
    LogSettings {
        format,
        level: log.level.into(),
        rust_log: app::rust_log(),
        is_terminal: std::io::IsTerminal::is_terminal(&std::io::stderr()),
    }
}

/// Tells systemd, where it is there, that the loop turns.
struct Systemd {
    fleet: Arc<Fleet>,
    watchdog: Option<Duration>,
    fed: Option<crate::rotation::time::Boot>,
}

impl Systemd {
    fn new(fleet: Arc<Fleet>) -> Self {
        Self { fleet, watchdog: sd_notify::watchdog_enabled(), fed: None }
    }
}

impl Heart for Systemd {
    fn beat(&mut self) {
        self.fleet.vitals.turned();
        let now = crate::clock::boot();
        // Fed by turns of the loop, and not more often than it is any use.
        if let Some(every) = self.watchdog
            && self.fed.is_none_or(|fed| now.since(fed).unsigned_abs() >= every / 4)
        {
            self.fed = Some(now);
            notify(&[sd_notify::NotifyState::Watchdog]);
        }
    }

    fn patience(&self) -> Option<Duration> {
        self.watchdog.map(|every| every / 4)
    }

    fn reloading(&mut self, begins: bool) {
        if begins {
            let state = sd_notify::NotifyState::monotonic_usec_now().ok();
            let states: Vec<_> = std::iter::once(sd_notify::NotifyState::Reloading).chain(state).collect();
            notify(&states);
        } else {
            notify(&[sd_notify::NotifyState::Ready]);
        }
    }

    fn reloaded(&mut self, taken: bool) {
        self.fleet.vitals.reloaded(taken);
    }

    fn stopping(&mut self) {
        notify(&[sd_notify::NotifyState::Stopping]);
    }
}

/// A failure to tell systemd is systemd's to notice.
fn notify(states: &[sd_notify::NotifyState<'_>]) {
    drop(sd_notify::notify(states));
}
