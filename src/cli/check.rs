//! `evertoken check`: the configuration, then access to everything it names; each finding with its remedy. Changes nothing, unless
//! `--write` asks for one record to prove writing.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::session::{load, quiet_log, runtime};
use super::{Exit, Failure, Output, chain, terminal};
use crate::app::{Setup, Shared};
use crate::config::Environment;
use crate::graph::Provider as _;
use crate::store::Severity;
use crate::telemetry::metrics::{Build, Metrics};

/// How far to go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Depth {
    /// Make no call.
    pub(super) offline: bool,
    /// Write a record to each adopted entry.
    pub(super) write: bool,
}

/// One thing found.
#[derive(Debug, Serialize)]
struct Found {
    /// What it is about: an app, a token, a place.
    subject: String,
    /// `fine`, `warning` or `error`.
    severity: &'static str,
    what: String,
    remedy: String,
}

/// `evertoken check`.
pub(super) fn check(config: &Path, depth: Depth, output: Output) -> Result<Exit, Failure> {
    let environment = Environment::of_process();
    let loaded = load(config, &environment)?;
    let mut found = vec![fine(
        "configuration",
        format!(
            "{} token(s), {} app(s), {} store(s)",
            loaded.settings.tokens.len(),
            loaded.settings.apps.len(),
            loaded.settings.stores.len()
        ),
    )];
    found.extend(loaded.warnings.iter().map(|warning| Found {
        subject: "configuration".into(),
        severity: "warning",
        what: warning.to_string(),
        remedy: String::new(),
    }));
    let log = quiet_log()?;
    let metrics = Arc::new(Metrics::new(Build { version: env!("CARGO_PKG_VERSION"), revision: "" }, &log.counts()));
    let shared = Shared { metrics, environment };
    if !depth.offline {
        runtime()?.block_on(async {
            let setup = Setup::build(loaded.settings, None, &shared).await.map_err(|error| Failure::error(chain(&error)))?;
            access(&setup, &mut found).await;
            Ok(())
        })?;
    }
    print(&found, output)
}

async fn access(setup: &Setup, found: &mut Vec<Found>) {
    for (name, app) in &setup.settings().apps {
        let subject = format!("app {name}");
        let Some(client) = setup.client(name.as_str()) else { continue };
        match client.introspect_app().await.result {
            Ok(look) if look.valid && look.app_id.as_deref() == Some(app.id.as_str()) => {
                found.push(fine(subject, "Meta accepts its id and secret".into()))
            }
            Ok(look) => found.push(error(
                subject,
                format!("Meta does not accept its id and secret: it says app {}", look.app_id.unwrap_or_default()),
                "check [apps] id and secret".into(),
            )),
            Err(fault) => found.push(error(subject, fault.to_string(), "check [apps] id and secret, and the way to Meta".into())),
        }
    }
    for (name, token) in &setup.settings().tokens {
        for place in std::iter::once(&token.store).chain(&token.sinks) {
            let subject = format!("token {name}, {place}");
            let Some(store) = setup.store(place.store.as_str()) else { continue };
            match store.examine(&place.entry).await {
                Ok(findings) => found.extend(findings.into_iter().map(|finding| Found {
                    subject: subject.clone(),
                    severity: match finding.severity {
                        Severity::Fine => "fine",
                        Severity::Warning => "warning",
                        Severity::Error => "error",
                    },
                    what: finding.what,
                    remedy: finding.remedy,
                })),
                Err(fault) => found.push(error(subject, fault.to_string(), "check credentials and permissions of the store".into())),
            }
        }
    }
}

fn fine(subject: impl Into<String>, what: String) -> Found {
    Found { subject: subject.into(), severity: "fine", what, remedy: String::new() }
}

fn error(subject: String, what: String, remedy: String) -> Found {
    Found { subject, severity: "error", what, remedy }
}

fn print(found: &[Found], output: Output) -> Result<Exit, Failure> {
    if output == Output::Json {
        terminal::say(&serde_json::to_string_pretty(found).map_err(|error| Failure::error(error.to_string()))?);
    } else {
        let mut text = String::new();
        for found in found {
            text += &format!("{:<8}{}: {}\n", found.severity, found.subject, found.what);
            if !found.remedy.is_empty() {
                text += &format!("        to do: {}\n", found.remedy);
            }
        }
        terminal::say(&text);
    }
    Ok(if found.iter().any(|found| found.severity == "error") { Exit::Error } else { Exit::Fine })
}
