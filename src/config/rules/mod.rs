//! What concerns several keys at once. Each rule is a function that looks at every field read and reports what breaks it; none
//! depends on another, so all of them speak in one run.

use std::collections::BTreeSet;

use super::cursor::{join, quoted};
use super::draft::{Draft, EntryDraft, TokenDraft};
use super::mistake::{Position, Report, Wrong, may_show, name_character, nearest};
use super::secret_ref::SecretRef;
use super::settings::{EntryRef, Settings};

mod entries;
mod host;
mod timing;
mod traffic;

pub use timing::{LifeConflict, life_conflicts};

pub(super) fn check(draft: &Draft, start: &Position, report: &Report) {
    names_are_known(draft, report);
    entries::suit_their_stores(draft, report);
    entries::belong_to_one_token(draft, report);
    entries::hold_no_app_secret(draft, report);
    secrets_differ(draft, report);
    timing::check(draft, report);
    host::state_lies_apart_from_stores(draft, start, report);
    host::socket_path_fits(&draft.settings, start, report);
    traffic::warn_of_listening(&draft.settings, report);
    traffic::warn_of_audit_pace(&draft.settings, report);
    warn_of_twins(&draft.settings, report);
    if !draft.broken {
        warn_of_idle(draft, start, report);
    }
}

/// The path of a table that people named.
fn table_path(kind: &str, name: &str) -> String {
    join(kind, &quoted(name))
}

fn token_path(name: &str) -> String {
    table_path("tokens", name)
}

/// Every place where a token is written, its store first, each with the path of its table.
fn places<'a>(name: &str, token: &'a TokenDraft) -> impl Iterator<Item = (String, &'a EntryDraft)> + use<'a> {
    let path = token_path(name);
    let store = (format!("{path}.store"), &token.store);
    std::iter::once(store).chain(token.sinks.iter().map(move |(at, sink)| (format!("{path}.sinks[{at}]"), sink)))
}

/// Every app secret that is kept in a store, with the path of the table that says so.
fn stored_secrets(draft: &Draft) -> impl Iterator<Item = (String, &EntryRef)> {
    draft.apps.iter().flat_map(|(name, app)| {
        let path = table_path("apps", name);
        let both = [("secret", app.secret.as_ref()), ("secret_previous", app.secret_previous.as_ref())];
        both.into_iter().filter_map(move |(key, secret)| match secret {
            Some(SecretRef::Store(entry)) => Some((format!("{path}.{key}.store"), entry)),
            Some(SecretRef::Local(_)) | None => None,
        })
    })
}

fn names_are_known(draft: &Draft, report: &Report) {
    for (name, token) in &draft.tokens {
        if let Some(app) = token.app.as_ref().filter(|app| !draft.misspelt.0 && !draft.apps.contains_key(app.as_str())) {
            report.mistake_at(&[&format!("{}.app", token_path(name.as_str()))], unknown("app", app.as_str(), draft.apps.keys()));
        }
    }
    let written = draft.tokens.iter().flat_map(|(name, token)| places(name, token));
    let written = written.filter_map(|(path, entry)| Some((path, entry.store.as_ref()?)));
    for (path, store) in written.chain(stored_secrets(draft).map(|(path, entry)| (path, &entry.store))) {
        if !draft.misspelt.1 && !draft.stores.contains_key(store.as_str()) {
            report.mistake_at(&[&format!("{path}.name")], unknown("store", store.as_str(), draft.stores.keys()));
        }
    }
}

fn unknown<'a>(kind: &str, name: &str, known: impl Iterator<Item = &'a String> + Clone) -> Wrong {
    let names: Vec<String> = known.clone().map(|name| quoted(name)).collect();
    let fix = match nearest(name, known.map(String::as_str)) {
        Some(near) => format!("did you mean {near:?}?"),
        None if names.is_empty() && may_show(name, name_character) => format!("add a table [{}]", table_path(&format!("{kind}s"), name)),
        None if names.is_empty() => format!("add a table [{kind}s.NAME]"),
        None => format!("known: {}", names.join(", ")),
    };
    let which = if may_show(name, name_character) { format!("{name:?}") } else { "of that name".to_owned() };
    Wrong::new(format!("there is no {kind} {which}"), fix)
}

fn secrets_differ(draft: &Draft, report: &Report) {
    for (name, app) in &draft.apps {
        let (Some(secret), Some(previous)) = (&app.secret, &app.secret_previous) else { continue };
        if secret == previous || entries::same_stored(draft, secret, previous) {
            let path = format!("{}.secret_previous", table_path("apps", name));
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
                &[&format!("{}.system_user_id", token_path(name.as_str()))],
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
    // A token that could not be read may well use them.
    if report.count() > 0 {
        return;
    }
    let apps: BTreeSet<&str> = settings.tokens.values().map(|token| token.app.as_str()).collect();
    let written = settings.tokens.values().flat_map(|token| std::iter::once(&token.store).chain(&token.sinks));
    let secrets = stored_secrets(draft).map(|(_, entry)| entry);
    let stores: BTreeSet<&str> = written.chain(secrets).map(|entry| entry.store.as_str()).collect();
    let idle = |kind, names: Vec<&String>, used: &BTreeSet<&str>| {
        for name in names.into_iter().filter(|name| !used.contains(name.as_str())) {
            report.warning_at(&[&table_path(kind, name)], Wrong::new("no token uses this", "delete it, or name it in a token"));
        }
    };
    idle("apps", draft.apps.keys().collect(), &apps);
    idle("stores", draft.stores.keys().collect(), &stores);
}
