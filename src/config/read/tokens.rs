//! `[defaults.*]` and `[tokens.NAME]`.

use std::collections::BTreeSet;

use jiff::SignedDuration;

use super::apps::required;
use super::values;
use crate::config::cursor::{Table, Value, word};
use crate::config::draft::{EntryDraft, Timing, TokenDraft};
use crate::config::file::Syntax;
use crate::config::mistake::{Wrong, name_character, passes_for_secret, shown};
use crate::config::settings::{Adopt, AppName, StoreName, TokenSettings};
use crate::rotation::payload::PayloadRule;

const ADOPT: [(&str, Adopt); 2] = [("ask", Adopt::Ask), ("auto", Adopt::Auto)];

/// What tokens share.
pub(super) fn defaults(root: &mut Table<'_>, known: &BTreeSet<String>) -> Timing {
    let mut timing = Timing::default();
    if let Some(mut table) = root.table("defaults") {
        schedule(&mut table, &mut timing, known);
        propagation(&mut table, &mut timing, known);
        table.finish(known);
    }
    timing
}

/// A token, and what of it is right.
pub(super) fn token(table: Table<'_>, shared: &Timing, known: &BTreeSet<String>, syntax: Syntax) -> (TokenDraft, Option<TokenSettings>) {
    let mut table = table;
    let name = |text: &str| {
        let wrong = || Wrong::new(format!("{} is no name of an app", shown(text, name_character)), "name a table [apps.NAME]");
        AppName::new(text).ok_or_else(wrong)
    };
    let app = required(&mut table, "app", known, syntax, "write app = \"NAME\" of a table [apps.NAME]", |value| value.text(name));
    let fix = "write the id of the system user, as in system_user_id = \"10001\"";
    let system_user_id = required(&mut table, "system_user_id", known, syntax, fix, |value| value.text(values::digits));
    let required_scopes = table.value("required_scopes").and_then(|value| scopes(&value));
    let fix = "write store = { name = \"STORE\", entry = \"ENTRY\" }";
    let store = required(&mut table, "store", known, syntax, fix, |value| Some(entry(value.table()?, known, syntax))).unwrap_or_default();
    let sinks = table.value("sinks").map_or_else(Vec::new, |value| sinks(&value, known, syntax));
    let adopt = table.word("adopt", &ADOPT);
    let payload = table.value("payload").map_or(Some(PayloadRule::Raw), |value| payload(value, known));
    let mut timing = *shared;
    schedule(&mut table, &mut timing, known);
    propagation(&mut table, &mut timing, known);
    table.finish(known);
    let keyed = matches!(payload, Some(PayloadRule::Key(_)));
    let draft = TokenDraft { app, system_user_id, store, sinks, keyed, timing };
    let whole = || {
        Some(TokenSettings {
            app: draft.app.clone()?,
            system_user_id: draft.system_user_id.clone()?,
            required_scopes,
            store: draft.store.whole()?,
            sinks: draft.sinks.iter().map(|(_, sink)| sink.whole()).collect::<Option<_>>()?,
            adopt: adopt.unwrap_or_default(),
            payload: payload?,
            schedule: timing.schedule(),
            propagation: timing.propagation(),
        })
    };
    let whole = whole();
    (draft, whole)
}

fn schedule(parent: &mut Table<'_>, timing: &mut Timing, known: &BTreeSet<String>) {
    let unknown = parent.misspelt("schedule", known);
    let table = parent.table("schedule");
    if let Some(mut table) = table {
        let fraction = |at: f64| at > 0.0 && at < 1.0;
        let refresh_at = table.number("refresh_at", fraction, "a fraction of the life between 0 and 1, as in 0.5");
        let spread = |jitter: f64| (0.0..=0.5).contains(&jitter);
        let jitter = table.number("jitter", spread, "a fraction of the refresh point from 0 to 0.5, as in 0.1");
        let audit_interval = some_time(&mut table, "audit_interval");
        let min_life = some_time(&mut table, "min_life");
        timing.refresh_at = over(&table, "refresh_at", refresh_at, timing.refresh_at, known);
        timing.jitter = over(&table, "jitter", jitter, timing.jitter, known);
        timing.audit_interval = over(&table, "audit_interval", audit_interval, timing.audit_interval, known);
        timing.min_life = over(&table, "min_life", min_life, timing.min_life, known);
        table.finish(known);
    } else if unknown || parent.holds("schedule") {
        (timing.refresh_at, timing.jitter, timing.min_life, timing.audit_interval) = (None, None, None, None);
    }
}

fn propagation(parent: &mut Table<'_>, timing: &mut Timing, known: &BTreeSet<String>) {
    let unknown = parent.misspelt("propagation", known);
    let table = parent.table("propagation");
    if let Some(mut table) = table {
        let window = some_time(&mut table, "window");
        let consumer_ttl = table.duration("consumer_ttl");
        timing.window = over(&table, "window", window, timing.window, known);
        timing.consumer_ttl = over(&table, "consumer_ttl", consumer_ttl, timing.consumer_ttl, known);
        table.finish(known);
    } else if unknown || parent.holds("propagation") {
        (timing.window, timing.consumer_ttl) = (None, None);
    }
}

/// What was read under a key, else what is shared. Nothing where the key is there and wrong, or was probably misspelt.
fn over<T>(table: &Table<'_>, key: &str, read: Option<T>, shared: Option<T>, known: &BTreeSet<String>) -> Option<T> {
    if table.holds(key) || table.misspelt(key, known) { read } else { shared }
}

/// A duration that is not zero.
fn some_time(table: &mut Table<'_>, key: &'static str) -> Option<SignedDuration> {
    let duration = table.duration(key)?;
    if duration.is_zero() {
        table.wrong_at(key, Wrong::new("this duration may not be zero", "write at least \"1s\""));
        return None;
    }
    Some(duration)
}

/// `{ name = "STORE", entry = "ENTRY" }`. Whether the entry suits the kind of the store is told once both are known.
pub(super) fn entry(table: Table<'_>, known: &BTreeSet<String>, syntax: Syntax) -> EntryDraft {
    let mut table = table;
    let name = |text: &str| StoreName::new(text).ok_or_else(|| Wrong::new("this is no name of a store", "name a table [stores.NAME]"));
    let store = required(&mut table, "name", known, syntax, "write name = \"NAME\" of a table [stores.NAME]", |value| value.text(name));
    let fix = "write entry = \"NAME\" of the secret in the store";
    let entry = required(&mut table, "entry", known, syntax, fix, |value| value.text(values::entry));
    table.finish(known);
    EntryDraft { store, entry }
}

/// Each under its place in the array; one that is no table counts as one of which nothing is known.
fn sinks(value: &Value<'_>, known: &BTreeSet<String>, syntax: Syntax) -> Vec<(usize, EntryDraft)> {
    let items = value.items("sinks = [{ name = \"STORE\", entry = \"ENTRY\" }]").unwrap_or_default();
    let read = |item: Value<'_>| item.table().map_or_else(EntryDraft::default, |table| entry(table, known, syntax));
    items.into_iter().map(read).enumerate().collect()
}

fn scopes(value: &Value<'_>) -> Option<BTreeSet<String>> {
    let items = value.items("required_scopes = [\"business_management\"]")?;
    if items.is_empty() {
        value.wrong(Wrong::new(
            "an empty list would let a token pass that may do nothing",
            "list scopes, or leave the key out: then those found at adoption are required",
        ));
        return None;
    }
    Some(items.into_iter().filter_map(|item| item.text(scope)).collect())
}

fn scope(text: &str) -> Result<String, Wrong> {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if !text.is_empty() && text.len() <= 128 && text.chars().all(fine) && !passes_for_secret(text) {
        return Ok(text.to_owned());
    }
    let form = |c: char| c.is_ascii_alphabetic() || matches!(c, '_' | ' ' | ',' | '.' | '-');
    if text.contains(',') {
        let what = format!("{} is several permissions in one text", shown(text, form));
        return Err(Wrong::new(what, "quote each by itself, as in [\"business_management\", \"ads_read\"]"));
    }
    Err(Wrong::new(format!("{} is no name of a permission", shown(text, form)), "write it as Meta does, as in \"business_management\""))
}

fn payload(value: Value<'_>, known: &BTreeSet<String>) -> Option<PayloadRule> {
    if value.is_text() {
        return value.text(|text| match word(text, &[("raw", false), ("json", true)]) {
            Ok(false) => Ok(PayloadRule::Raw),
            Ok(true) => Ok(PayloadRule::Json),
            Err(Wrong { what, fix }) => Err(Wrong { what, fix: format!("{fix}, {{ key = \"NAME\" }}, {{ template = \"TEXT\" }}") }),
        });
    }
    let mut table = value.table()?;
    let key = table.text("key", |text| match text {
        "" => Err(Wrong::new("the key is empty", "name the key of the JSON secret that holds the token")),
        text if passes_for_secret(text) => {
            Err(Wrong::new("the value looks like a secret, not like a key", "name the key that holds the token"))
        }
        text => Ok(PayloadRule::Key(text.to_owned())),
    });
    let template = table.text("template", |text| values::template(text).map(PayloadRule::Template));
    let given = ["key", "template"].into_iter().filter(|key| table.holds(key)).count();
    if given != 1 {
        table
            .wrong(Wrong::new(format!("payload holds {given} of key and template"), "write { key = \"NAME\" } or { template = \"TEXT\" }"));
    }
    table.finish(known);
    if given == 1 { key.or(template) } else { None }
}
