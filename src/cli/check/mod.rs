//! `evertoken check`: everything that a rotation will need, proven before one begins; each finding with its remedy.
//!
//! It works beside a running daemon: stores and the provider are asked through the same code as the daemon's, but no lock is
//! needed and nothing of the state directory is opened. It changes nothing, unless `--write` asks for one record in each adopted
//! entry. What one part lacks keeps no other from being looked at: a secret that cannot be read takes its app out, not the run.
//!
//! `--offline` is for wherever a configuration is tested before it goes to its host, and for `ExecStartPre=`: it makes no call, and
//! only the configuration can fail. What this host lacks is a warning there.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tracing::level_filters::LevelFilter;

use self::finding::Section;
use self::world::World;
use super::session::{become_owner, log_at, runtime};
use super::terminal::Progress;
use super::{Exit, Failure, Output};
use crate::app::Shared;
use crate::config::{self, Environment, Loaded, Settings};
use crate::telemetry::LogCounts;
use crate::telemetry::metrics::{Build, Metrics};

mod finding;
mod host;
mod meta;
mod place;
mod print;
mod token;
mod world;
mod write;

/// How far to go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Depth {
    /// Make no call.
    pub(super) offline: bool,
    /// Write a record to each adopted entry.
    pub(super) write: bool,
}

/// `evertoken check`.
pub(super) fn check(config: &Path, depth: Depth, output: Output) -> Result<Exit, Failure> {
    let environment = Environment::of_process();
    let loaded = match config::load(config, &environment) {
        Ok(loaded) => loaded,
        Err(error) if output == Output::Json => {
            print::json(&[finding::mistakes(&error)])?;
            return Ok(Exit::Usage);
        }
        Err(error) => return Err(Failure::usage(error.to_string())),
    };
    // What the daemon may read and write is what counts, so root looks with its eyes.
    become_owner(&loaded.settings.daemon.state_dir)?;
    // What is worth a log line is a finding here.
    let log = log_at(LevelFilter::OFF)?;
    let sections = runtime()?.block_on(examine(loaded, environment, depth, &log.counts()))?;
    match output {
        Output::Table => print::table(&sections),
        Output::Json => print::json(&sections)?,
    }
    let failed = sections.iter().any(|section| section.worst() == crate::store::Severity::Error);
    Ok(if failed { Exit::Error } else { Exit::Fine })
}

async fn examine(loaded: Loaded, environment: Environment, depth: Depth, log: &LogCounts) -> Result<Vec<Section>, Failure> {
    let mut sections = vec![finding::configuration(&loaded)];
    let settings = Arc::new(loaded.settings);
    let daemon = host::Daemon::find(&settings.daemon.control_socket).await;
    let mut here = vec![host::state_dir(&settings, &daemon), host::doors(&settings, &daemon).await];
    let apps: BTreeMap<String, Section> = settings
        .apps
        .iter()
        .map(|(name, app)| (name.to_string(), host::secrets(name.as_str(), app, &environment, depth.offline)))
        .collect();
    if depth.offline {
        here.iter_mut().for_each(Section::soften);
        here.push(host::network(&settings));
    }
    sections.append(&mut here);
    if !depth.offline {
        online(&settings, &environment, log, apps, &mut sections).await;
    } else {
        sections.extend(apps.into_values());
        let mut access = Section::new("access");
        access.fine("nothing was asked of Meta and of the stores (--offline)");
        sections.push(access);
    }
    if depth.write {
        sections.push(write::prove(&settings, environment, log, &daemon).await);
    }
    Ok(sections)
}

async fn online(
    settings: &Arc<Settings>,
    environment: &Environment,
    log: &LogCounts,
    mut apps: BTreeMap<String, Section>,
    sections: &mut Vec<Section>,
) {
    let metrics = Arc::new(Metrics::new(Build { version: env!("CARGO_PKG_VERSION"), revision: "" }, log));
    let shared = Shared { metrics, environment: environment.clone() };
    let mut progress = Progress::new();
    progress.say("reading secrets");
    let (setup, mut broken) = world::build(settings, &shared, &mut apps).await;
    let Some(setup) = setup else {
        sections.extend(apps.into_values());
        sections.append(&mut broken);
        return;
    };
    let mut asked = BTreeMap::new();
    for (name, app) in &settings.apps {
        let Some(section) = apps.get_mut(name.as_str()) else { continue };
        let Some(client) = setup.client(name.as_str()) else { continue };
        progress.say(&format!("asking Meta about app {name}"));
        if meta::app(name.as_str(), app, client, section).await {
            asked.insert(name.to_string(), Arc::new(std::sync::atomic::AtomicBool::new(true)));
        }
    }
    sections.extend(apps.into_values());
    sections.append(&mut broken);
    let world = Arc::new(World::new(settings.clone(), setup, asked));
    sections.append(&mut token::all(&world, &mut progress).await);
}
