//! `[defaults.*]` and `[tokens.NAME]`.

use std::collections::BTreeSet;

use jiff::SignedDuration;

use super::apps::required;
use super::values;
use crate::config::cursor::{Table, Value, word};
use crate::config::file::Syntax;
use crate::config::mistake::{Wrong, shown};
use crate::config::settings::{Adopt, AppName, EntryRef, Propagation, Schedule, StoreName, TokenSettings};
use crate::rotation::payload::PayloadRule;

/// What tokens share.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Defaults {
    pub(super) schedule: Schedule,
    pub(super) propagation: Propagation,
    /// Whether something in them was wrong: then no rule on durations says anything.
    pub(super) flawed: bool,
}

const ADOPT: [(&str, Adopt); 2] = [("ask", Adopt::Ask), ("auto", Adopt::Auto)];

pub(super) fn defaults(root: &mut Table<'_>, known: &BTreeSet<String>) -> Defaults {
    let before = root.report.count();
    let mut defaults = Defaults::default();
    if let Some(mut table) = root.table("defaults") {
        defaults.schedule = schedule(&mut table, defaults.schedule, known);
        defaults.propagation = propagation(&mut table, defaults.propagation, known);
        table.finish(known);
    }
    defaults.flawed = root.report.count() > before;
    defaults
}

/// A token, and whether all of its durations and fractions were right.
pub(super) fn token(table: Table<'_>, defaults: &Defaults, known: &BTreeSet<String>, syntax: Syntax) -> Option<(TokenSettings, bool)> {
    let mut table = table;
    let name = |text: &str| {
        AppName::new(text).ok_or_else(|| Wrong::new(format!("{} is no name of an app", shown(text)), "name a table [apps.NAME]"))
    };
    let app = required(&mut table, "app", syntax, "write app = \"NAME\" of a table [apps.NAME]", |value| value.text(name));
    let fix = "write the id of the system user, as in system_user_id = \"10001\"";
    let system_user_id = required(&mut table, "system_user_id", syntax, fix, |value| value.text(values::digits));
    let required_scopes = table.value("required_scopes").and_then(|value| scopes(&value));
    let fix = "write store = { name = \"STORE\", entry = \"ENTRY\" }";
    let store = required(&mut table, "store", syntax, fix, |value| entry(value.table()?, known, syntax));
    let sinks = table.value("sinks").and_then(|value| sinks(&value, known, syntax));
    let adopt = table.word("adopt", &ADOPT);
    let payload = table.value("payload").map(|value| payload(value, known));
    let before = table.report.count();
    let schedule = schedule(&mut table, defaults.schedule, known);
    let propagation = propagation(&mut table, defaults.propagation, known);
    let timed = table.report.count() == before && !defaults.flawed;
    table.finish(known);
    let token = TokenSettings {
        app: app?,
        system_user_id: system_user_id?,
        required_scopes,
        store: store?,
        sinks: sinks.unwrap_or_default(),
        adopt: adopt.unwrap_or_default(),
        payload: payload.unwrap_or(Some(PayloadRule::Raw))?,
        schedule,
        propagation,
    };
    Some((token, timed))
}

fn schedule(parent: &mut Table<'_>, over: Schedule, known: &BTreeSet<String>) -> Schedule {
    let mut schedule = over;
    if let Some(mut table) = parent.table("schedule") {
        let fraction = |at: f64| at > 0.0 && at < 1.0;
        schedule.refresh_at =
            table.number("refresh_at", fraction, "a fraction of the life between 0 and 1, as in 0.5").unwrap_or(over.refresh_at);
        let spread = |jitter: f64| (0.0..=0.5).contains(&jitter);
        schedule.jitter = table.number("jitter", spread, "a fraction of the refresh point from 0 to 0.5, as in 0.1").unwrap_or(over.jitter);
        schedule.audit_interval = some_time(&mut table, "audit_interval").or(over.audit_interval);
        schedule.min_life = some_time(&mut table, "min_life").unwrap_or(over.min_life);
        table.finish(known);
    }
    schedule
}

fn propagation(parent: &mut Table<'_>, over: Propagation, known: &BTreeSet<String>) -> Propagation {
    let mut propagation = over;
    if let Some(mut table) = parent.table("propagation") {
        propagation.window = some_time(&mut table, "window").unwrap_or(over.window);
        propagation.consumer_ttl = table.duration("consumer_ttl").unwrap_or(over.consumer_ttl);
        table.finish(known);
    }
    propagation
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
pub(super) fn entry(table: Table<'_>, known: &BTreeSet<String>, syntax: Syntax) -> Option<EntryRef> {
    let mut table = table;
    let name = |text: &str| StoreName::new(text).ok_or_else(|| Wrong::new("this is no name of a store", "name a table [stores.NAME]"));
    let store = required(&mut table, "name", syntax, "write name = \"NAME\" of a table [stores.NAME]", |value| value.text(name));
    let entry = required(&mut table, "entry", syntax, "write entry = \"NAME\" of the secret in the store", |value| {
        value.text(|text| Ok(text.to_owned()))
    });
    table.finish(known);
    Some(EntryRef { store: store?, entry: entry? })
}

fn sinks(value: &Value<'_>, known: &BTreeSet<String>, syntax: Syntax) -> Option<Vec<EntryRef>> {
    let items = value.items("sinks = [{ name = \"STORE\", entry = \"ENTRY\" }]")?;
    items.into_iter().map(|item| item.table().and_then(|table| entry(table, known, syntax))).collect()
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
    if !text.is_empty() && text.len() <= 128 && text.chars().all(fine) {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(format!("{} is no name of a permission", shown(text)), "write it as Meta does, as in \"business_management\""))
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
        _ => Ok(PayloadRule::Key(text.to_owned())),
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
