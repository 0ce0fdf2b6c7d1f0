//! From tables to settings: each table is read in one place, which is therefore also the list of its keys.
//!
//! A value that is wrong is reported and reading goes on: rules see every field by itself ([`Draft`]), and the settings are used only
//! when nothing was reported.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::cron::Tick;
use super::cursor::{Table, join, key_shown, quoted};
use super::draft::Draft;
use super::file::Syntax;
use super::mistake::{Wrong, nearest};
use super::secret_ref::Environment;
use super::settings::{AppName, Daemon, Http, Log, LogFormat, Network, Pace, Settings, StoreName, TokenName};

mod apps;
mod stores;
mod tokens;
pub(super) mod values;

const LEVELS: [(&str, tracing::Level); 5] = [
    ("trace", tracing::Level::TRACE),
    ("debug", tracing::Level::DEBUG),
    ("info", tracing::Level::INFO),
    ("warn", tracing::Level::WARN),
    ("error", tracing::Level::ERROR),
];

/// Reads the main file.
pub(super) fn main_file(root: Table<'_>, environment: &Environment, known: &BTreeSet<String>, syntax: Syntax) -> Draft {
    let mut root = root;
    let mut draft = Draft {
        settings: Settings {
            daemon: daemon(&mut root, environment, known),
            http: http(&mut root, known),
            log: log(&mut root, known),
            network: network(&mut root, known),
            pace: pace(&mut root, known),
            apps: BTreeMap::new(),
            stores: BTreeMap::new(),
            tokens: BTreeMap::new(),
        },
        apps: BTreeMap::new(),
        stores: BTreeMap::new(),
        tokens: BTreeMap::new(),
        timing: tokens::defaults(&mut root, known),
        misspelt: (root.misspelt("apps", known), root.misspelt("stores", known)),
        broken: syntax == Syntax::Broken,
    };
    for (name, table) in root.named_tables("apps") {
        let (app_draft, app) = apps::app(&name, table, known, syntax);
        if let (Some(name), Some(app)) = (checked(&root, "apps", &name, AppName::new), app) {
            draft.settings.apps.insert(name, app);
        }
        draft.apps.insert(name, app_draft);
    }
    for (name, table) in root.named_tables("stores") {
        let (store_draft, store) = stores::store(table, known, syntax);
        if let (Some(name), Some(store)) = (checked(&root, "stores", &name, StoreName::new), store) {
            draft.settings.stores.insert(name, store);
        }
        draft.stores.insert(name, store_draft);
    }
    token_tables(&mut root, &mut draft, known, syntax);
    root.finish(known);
    draft
}

/// Reads a file of `conf.d`: tokens and nothing else.
pub(super) fn tokens_file(root: Table<'_>, main: &Path, draft: &mut Draft, known: &BTreeSet<String>, syntax: Syntax) {
    let mut root = root;
    draft.broken |= syntax == Syntax::Broken;
    token_tables(&mut root, draft, known, syntax);
    let tables: BTreeSet<&str> = known.iter().filter_map(|pattern| pattern.split('.').next()).collect();
    for (key, position) in root.others(&["tokens"]) {
        let wrong = if tables.contains(key.as_str()) {
            Wrong::new("a file in conf.d holds [tokens.NAME] only, so that what all tokens share stands in one place", {
                format!("move it to {}", main.display())
            })
        } else if let Some(near) = nearest(&key, ["tokens"]) {
            Wrong::new("unknown key", format!("did you mean {near:?}?"))
        } else {
            Wrong::new("unknown key", "a file in conf.d holds [tokens.NAME] only")
        };
        root.report.mistake(&position, format!("[{}]", key_shown(&key)), wrong);
    }
}

fn token_tables(root: &mut Table<'_>, draft: &mut Draft, known: &BTreeSet<String>, syntax: Syntax) {
    for (name, table) in root.named_tables("tokens") {
        let first = root.report.position(&[&table.path]).map(|(position, _)| position).filter(|first| !table.stands_at(first));
        if let Some(first) = &first {
            let first = format!("{}:{}", first.file.display(), first.line);
            table.wrong(Wrong::new(format!("this token stands in {first} already"), "rename one of them, or delete it"));
        }
        let (token_draft, token) = tokens::token(table, &draft.timing, known, syntax);
        if let (Some(name), Some(token), None) = (checked(root, "tokens", &name, TokenName::new), token, &first) {
            draft.settings.tokens.insert(name, token);
        }
        // Where the keys of a second one stand is not remembered, so no rule could name the place.
        if first.is_none() {
            draft.tokens.insert(name, token_draft);
        }
    }
}

fn checked<T>(root: &Table<'_>, kind: &str, name: &str, take: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    let taken = take(name);
    if taken.is_none() {
        let wrong = Wrong::new("this name does not fit", "use up to 128 letters, digits, \".\", \"_\" and \"-\", a letter or digit first");
        root.report.mistake_at(&[&join(kind, &quoted(name))], wrong);
    }
    taken
}

fn daemon(root: &mut Table<'_>, environment: &Environment, known: &BTreeSet<String>) -> Daemon {
    let table = root.table("daemon");
    let (mut state_dir, mut tick, mut control_socket) = (None, None, None);
    if let Some(mut table) = table {
        let folder = table.source.folder();
        state_dir = table.text("state_dir", |text| values::path(text, folder));
        tick = table.text("tick", Tick::parse);
        control_socket = table.text("control_socket", |text| values::path(text, folder));
        table.finish(known);
    }
    let state_dir =
        state_dir.or_else(|| environment.state_directory.clone()).unwrap_or_else(|| values::absolute(&PathBuf::from("evertoken-state")));
    let control_socket = control_socket
        .or_else(|| environment.runtime_directory.as_ref().map(|folder| folder.join("control.sock")))
        .unwrap_or_else(|| state_dir.join("control.sock"));
    Daemon { state_dir, tick: tick.unwrap_or_default(), control_socket }
}

fn http(root: &mut Table<'_>, known: &BTreeSet<String>) -> Http {
    let listen = root.table("http").and_then(|mut table| {
        let listen = table.text("listen", values::listen);
        table.finish(known);
        listen
    });
    Http { listen: listen.unwrap_or(Some(Http::DEFAULT_LISTEN)) }
}

fn log(root: &mut Table<'_>, known: &BTreeSet<String>) -> Log {
    let mut log = Log { format: LogFormat::Auto, level: tracing::Level::INFO };
    if let Some(mut table) = root.table("log") {
        log.format = table.word("format", &LogFormat::WORDS).unwrap_or(log.format);
        log.level = table.word("level", &LEVELS).unwrap_or(log.level);
        table.finish(known);
    }
    log
}

fn network(root: &mut Table<'_>, known: &BTreeSet<String>) -> Network {
    let mut network = Network::default();
    if let Some(mut table) = root.table("network") {
        let folder = table.source.folder();
        network.proxy = table.text("proxy", values::proxy_url);
        network.ca_file = table.text("ca_file", |text| values::path(text, folder));
        table.finish(known);
    }
    network
}

fn pace(root: &mut Table<'_>, known: &BTreeSet<String>) -> Pace {
    let mut pace = Pace { refreshes_per_second: Some(1.0), store_writes_per_second: Some(10.0) };
    if let Some(mut table) = root.table("pace") {
        let mut rate = |key, default| {
            let wanted = "a number per second from 0.001 to 10000, or 0 for no limit";
            let fits = |rate: f64| rate.abs() < f64::EPSILON || (0.001..=10_000.0).contains(&rate);
            table.number(key, fits, wanted).map_or(default, |rate| (rate >= 0.001).then_some(rate))
        };
        pace.refreshes_per_second = rate("refreshes_per_second", pace.refreshes_per_second);
        pace.store_writes_per_second = rate("store_writes_per_second", pace.store_writes_per_second);
        table.finish(known);
    }
    pace
}
