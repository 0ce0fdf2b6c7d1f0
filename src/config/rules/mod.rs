//! What concerns several keys at once. Each rule is a function that looks at everything read and reports what breaks it; none
//! depends on another, so all of them speak in one run.

use std::collections::BTreeSet;

use super::cursor::{join, quoted};
use super::mistake::{Position, Report, Wrong, nearest, shown};
use super::read::Draft;
use super::secret_ref::SecretRef;
use super::settings::{EntryRef, Settings, TokenName, TokenSettings};

mod entries;
mod host;
mod timing;
mod traffic;

pub use timing::{LifeConflict, life_conflicts};

pub(super) fn check(draft: &Draft, start: &Position, report: &Report) {
    let settings = &draft.settings;
    names_are_known(draft, report);
    entries::suit_their_stores(settings, report);
    entries::belong_to_one_token(settings, report);
    entries::hold_no_app_secret(settings, report);
    secrets_differ(settings, report);
    timing::check(draft, report);
    host::state_lies_apart_from_stores(settings, start, report);
    host::socket_path_fits(settings, start, report);
    traffic::warn_of_listening(settings, report);
    traffic::warn_of_audit_pace(settings, report);
    warn_of_twins(settings, report);
    if !draft.broken {
        warn_of_idle(draft, start, report);
    }
}

/// The path of a table that people named.
fn table_path(kind: &str, name: &str) -> String {
    join(kind, &quoted(name))
}

fn token_path(name: &TokenName) -> String {
    table_path("tokens", name.as_str())
}

/// Every place where a token is written, its store first, each with the path of its table.
fn places<'a>(name: &TokenName, token: &'a TokenSettings) -> impl Iterator<Item = (String, &'a EntryRef)> + use<'a> {
    let path = token_path(name);
    let store = (format!("{path}.store"), &token.store);
    std::iter::once(store).chain(token.sinks.iter().enumerate().map(move |(at, sink)| (format!("{path}.sinks[{at}]"), sink)))
}

/// Every app secret that is kept in a store, with the path of the table that says so.
fn stored_secrets(settings: &Settings) -> impl Iterator<Item = (String, &EntryRef)> {
    settings.apps.iter().flat_map(|(name, app)| {
        let path = table_path("apps", name.as_str());
        let both = [("secret", Some(&app.secret)), ("secret_previous", app.secret_previous.as_ref())];
        both.into_iter().filter_map(move |(key, secret)| match secret {
            Some(SecretRef::Store(entry)) => Some((format!("{path}.{key}.store"), entry)),
            Some(SecretRef::Local(_)) | None => None,
        })
    })
}

fn names_are_known(draft: &Draft, report: &Report) {
    let settings = &draft.settings;
    for (name, token) in &settings.tokens {
        if !draft.apps.contains(token.app.as_str()) {
            report.mistake_at(&[&format!("{}.app", token_path(name))], unknown("app", token.app.as_str(), &draft.apps));
        }
    }
    let written = settings.tokens.iter().flat_map(|(name, token)| places(name, token));
    for (path, entry) in written.chain(stored_secrets(settings)) {
        if !draft.stores.contains(entry.store.as_str()) {
            report.mistake_at(&[&format!("{path}.name")], unknown("store", entry.store.as_str(), &draft.stores));
        }
    }
}

fn unknown(kind: &str, name: &str, known: &BTreeSet<String>) -> Wrong {
    let fix = match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean {near:?}?"),
        None if known.is_empty() => format!("add a table [{}]", table_path(&format!("{kind}s"), name)),
        None => format!("known: {}", known.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")),
    };
    Wrong::new(format!("there is no {kind} {}", shown(name)), fix)
}

fn secrets_differ(settings: &Settings, report: &Report) {
    for (name, app) in &settings.apps {
        if app.secret_previous.as_ref() == Some(&app.secret) {
            let path = format!("{}.secret_previous", table_path("apps", name.as_str()));
            let fix = "let it name the secret that was used before, or delete it";
            report.mistake_at(&[&path], Wrong::new("secret_previous names the same place as secret", fix));
        }
    }
}

/// Several tokens may speak for one system user, but each is refreshed and watched on its own: mostly a slip.
fn warn_of_twins(settings: &Settings, report: &Report) {
    let mut seen = std::collections::BTreeMap::new();
    for (name, token) in &settings.tokens {
        if let Some(first) = seen.insert((&token.app, &token.system_user_id), name) {
            let what = format!("the token {first} is of the same app and system user");
            report.warning_at(
                &[&format!("{}.system_user_id", token_path(name))],
                Wrong::new(what, "one token with several sinks may be meant"),
            );
        }
    }
}

fn warn_of_idle(draft: &Draft, start: &Position, report: &Report) {
    let settings = &draft.settings;
    if settings.tokens.is_empty() && report.count() == 0 {
        report.warning(start, "", Wrong::new("no token is configured, so there is nothing to keep alive", "add a table [tokens.NAME]"));
        return;
    }
    let apps: BTreeSet<&str> = settings.tokens.values().map(|token| token.app.as_str()).collect();
    let written = settings.tokens.iter().flat_map(|(name, token)| places(name, token));
    let stores: BTreeSet<&str> = written.chain(stored_secrets(settings)).map(|(_, entry)| entry.store.as_str()).collect();
    let idle = |kind, names: &BTreeSet<String>, used: &BTreeSet<&str>| {
        for name in names.iter().filter(|name| !used.contains(name.as_str())) {
            report.warning_at(&[&table_path(kind, name)], Wrong::new("no token uses this", "delete it, or name it in a token"));
        }
    };
    // A token that could not be read may well use them.
    if report.count() == 0 {
        idle("apps", &draft.apps, &apps);
        idle("stores", &draft.stores, &stores);
    }
}
