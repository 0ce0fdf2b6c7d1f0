//! Verbs that only show: status, plan, explain, history. What they print is made by pure functions beside this file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::session::{Alone, Purpose, Session, load, quiet_log, runtime, settled};
use super::{Exit, Failure, Output, Show, TableOptions, chain, choice, explain as explained, history as told, status as shown, terminal};
use crate::admin::Snapshot as _;
use crate::app;
use crate::config::{Environment, Settings};
use crate::daemon::control::ControlError;
use crate::daemon::control::client::status_at;
use crate::daemon::run::Blueprint as _;
use crate::daemon::snapshot::FleetSnapshot;
use crate::daemon::wake::{Selector, matches};
use crate::ledger;
use crate::rotation::health::{StatusDocument, TokenStatus};
use crate::rotation::plan::Severity;

/// `evertoken status`.
pub(super) fn status(config: &Path, show: &Show) -> Result<Exit, Failure> {
    let document = document(config, show)?;
    print(&document, show.output, |document| shown::table(document, &options()))?;
    Ok(exit_of(&document))
}

/// `evertoken plan`.
pub(super) fn plan(config: &Path, show: &Show) -> Result<Exit, Failure> {
    let document = document(config, show)?;
    print(&document, show.output, |document| shown::plan(document, &options()))?;
    Ok(Exit::Fine)
}

/// `evertoken explain`.
pub(super) fn explain(config: &Path, show: &Show) -> Result<Exit, Failure> {
    let document = document(config, show)?;
    print(&document, show.output, |document| {
        let texts: Vec<String> = document.tokens.iter().map(|token| explained::text(document, token, &options())).collect();
        texts.join("\n")
    })?;
    Ok(exit_of(&document))
}

/// `evertoken history`: read from the ledger itself, whether a daemon runs or not.
pub(super) fn history(config: &Path, tokens: &[String], rows: usize, output: Output) -> Result<Exit, Failure> {
    let settings = settled(config, &Environment::of_process())?;
    let read = |wanted: &dyn Fn(&str) -> bool, rows| {
        ledger::read_where(&settings.daemon.state_dir, wanted, rows).map_err(|error| Failure::error(chain(&error)))
    };
    let history = if tokens.is_empty() {
        read(&|_| true, rows)?
    } else {
        let names = recorded(tokens, &settings, |name| Ok(!read(&|token| token == name, 1)?.rows.is_empty()))?;
        read(&|token| names.contains(token), rows)?
    };
    match output {
        Output::Table => terminal::say(&told::table(&history, &options())),
        Output::Json => {
            terminal::say(&told::json(&history).map_err(|error| Failure::error(error.to_string()))?);
            history.notes.iter().for_each(|note| terminal::complain(note));
        }
    }
    Ok(Exit::Fine)
}

/// The tokens that names and patterns mean: configured ones, and, by its exact name, one that only the ledger still knows.
fn recorded(wanted: &[String], settings: &Settings, kept: impl Fn(&str) -> Result<bool, Failure>) -> Result<BTreeSet<String>, Failure> {
    let configured = || settings.tokens.keys().map(crate::config::settings::TokenName::as_str);
    let mut names = BTreeSet::new();
    for pattern in wanted {
        let meant: Vec<&str> = configured().filter(|name| matches(pattern, name)).collect();
        let none = meant.is_empty();
        names.extend(meant.into_iter().map(str::to_owned));
        if none && kept(pattern)? {
            names.insert(pattern.clone());
        } else if none {
            return Err(Failure::usage(choice::unknown("token", pattern, configured())));
        }
    }
    Ok(names)
}

fn print(document: &StatusDocument, output: Output, table: impl Fn(&StatusDocument) -> String) -> Result<(), Failure> {
    match output {
        Output::Table => terminal::say(&table(document)),
        Output::Json => terminal::say(&serde_json::to_string_pretty(document).map_err(|error| Failure::error(error.to_string()))?),
    }
    Ok(())
}

/// The selected tokens' status: from the daemon, from one elsewhere, or by looking ourselves, which changes nothing.
fn document(config: &Path, show: &Show) -> Result<StatusDocument, Failure> {
    let mut selector = show.select.selector();
    selector.all |= selector == Selector::default();
    if let Some(url) = &show.url {
        if selector.app.is_some() {
            return Err(Failure::usage("a daemon elsewhere does not tell the names of apps: with --url, select by name or --phase"));
        }
        let document = runtime()?.block_on(status_at(url)).map_err(|error| elsewhere(&error))?;
        return narrowed(document, &selector, &BTreeMap::new());
    }
    let environment = Environment::of_process();
    let settings = load(config, &environment)
        .map_err(|Failure { exit, text }| {
            let hint = "a running daemon can be asked without a configuration: --url http://HOST:PORT";
            Failure { exit, text: format!("{} ({hint})", text.trim_end()) }
        })?
        .settings;
    choice::known_app(&selector, &settings)?;
    let apps: BTreeMap<String, String> =
        settings.tokens.iter().map(|(name, token)| (name.as_str().to_owned(), token.app.as_str().to_owned())).collect();
    let log = quiet_log()?;
    let document = runtime()?.block_on(async {
        match Session::open(Purpose::Look, settings, environment, &log.counts()).await? {
            Session::Daemon(client) => client.status().await.map_err(|error| Failure::error(chain(&error))),
            Session::Alone(alone) => {
                let ready = alone.setup.tokens();
                choice::known(&selector, ready.iter().map(|(name, _)| name.as_str()), apps.keys().map(String::as_str))?;
                Ok(look(&alone, &selector).await)
            }
        }
    })?;
    narrowed(document, &selector, &apps)
}

async fn look(alone: &Alone, selector: &Selector) -> StatusDocument {
    if terminal::is_terminal() {
        terminal::complain("no daemon runs: looking at the store and at Meta now; nothing is changed");
    }
    for mut worker in alone.workers(selector) {
        let status = worker.look(&alone.fleet).await;
        crate::daemon::fleet::lock(&alone.fleet.status).insert(status.name.clone(), status);
    }
    FleetSnapshot::new(alone.fleet.clone()).document()
}

/// The selected tokens; `configured` are those of the configuration here, with their apps.
fn narrowed(document: StatusDocument, selector: &Selector, configured: &BTreeMap<String, String>) -> Result<StatusDocument, Failure> {
    let StatusDocument { tokens, breaker, generated_at, conditions, .. } = document;
    choice::known(selector, tokens.iter().map(|token| token.name.as_str()), configured.keys().map(String::as_str))?;
    let chosen: Vec<TokenStatus> = tokens
        .into_iter()
        .filter(|token| selector.selects(&token.name, configured.get(&token.name).map_or("", String::as_str), token.phase.name()))
        .collect();
    Ok(StatusDocument::new(chosen, breaker, generated_at).with_conditions(conditions))
}

/// A daemon elsewhere that could not be asked.
fn elsewhere(error: &ControlError) -> Failure {
    match error {
        ControlError::Unreachable(..) | ControlError::NoAnswer(_) | ControlError::Late(_) => Failure::error(format!(
            "{}. To do: see whether the daemon runs there, and whether its [http] listen is an address that this host can reach",
            chain(error)
        )),
        ControlError::NoDaemon(_)
        | ControlError::NotYours(_)
        | ControlError::TooLong(_)
        | ControlError::CutOff(_)
        | ControlError::Refused(_)
        | ControlError::Strange(_)
        | ControlError::Newer(_) => Failure::error(chain(error)),
        ControlError::Url(_) => Failure::usage(chain(error)),
    }
}

/// A status as an exit code.
pub(super) fn exit_of(document: &StatusDocument) -> Exit {
    match document.severity(document.generated_at) {
        Severity::Calm => Exit::Fine,
        Severity::Attention => Exit::Attention,
        Severity::Critical => Exit::Critical,
    }
}

pub(super) fn options() -> TableOptions {
    TableOptions::of(terminal::is_terminal(), terminal::width(), app::variable)
}
