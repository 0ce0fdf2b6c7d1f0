//! What people see of a token: its phase, what happens next and when, and what they must know.
//!
//! Derived from the same evidence as the next step, each time anew: a status cannot be stale in another way than its evidence is.

use jiff::Timestamp;

use super::evidence::Evidence;
use super::plan::{Reason, Severity, Step};
use super::policy::Policy;
use super::record::{Record, Retiree, RetireeKind, Stage};
use super::revoke_gate::{evaluate, victim, window_ends};
use super::schedule::{fitted, refresh_due};
use super::time::{later, whole};
use super::token::Expiry;

mod document;
mod phase;
mod sinks;
mod verdict;

pub use document::{
    Condition, ConjunctStatus, LastError, Lifetime, NextAction, Previous, SinkStatus, TokenStatus, UnaccountedStatus, Window,
};
pub use phase::{Phase, phase};
pub use verdict::{BreakerStatus, STATUS_SCHEMA, StatusDocument, versions_live, worst_first};

/// Builds the status of a token.
#[must_use]
pub fn status(evidence: &Evidence, policy: &Policy, step: &Step) -> TokenStatus {
    let phase = phase(evidence, step);
    let record = evidence.record();
    let (look, why) = next(evidence, step);
    // Never before the look that would find it due.
    let at = due(evidence, policy, &why).map_or(look, |due| due.max(look));
    TokenStatus {
        name: policy.token.clone(),
        app_id: policy.app_id.clone(),
        system_user_id: policy.system_user_id.clone(),
        phase,
        rotation_id: record.and_then(|record| record.rotation.as_ref()).map(|rotation| rotation.id.clone()),
        attempt: record.and_then(|record| record.rotation.as_ref()).map(|rotation| rotation.attempt),
        current: lifetime(evidence, policy, record),
        previous: record.and_then(|record| previous(evidence, policy, record)),
        window: record.map(|record| window(policy, record)),
        next_action: NextAction {
            what: why.text.clone(),
            at: whole(at),
            next_look_at: Some(whole(look)),
            waiting_for: vec![why.code.to_owned()],
        },
        conditions: conditions(evidence, policy, record, &why),
        sinks: sinks::status(evidence),
        unaccounted: record.map(|record| record.unaccounted.iter().map(unaccounted).collect()).unwrap_or_default(),
        gate: record.and_then(|record| gate(evidence, policy, record)).unwrap_or_default(),
        last_error: last_error(evidence),
    }
}

fn next(evidence: &Evidence, step: &Step) -> (Timestamp, Reason) {
    let wall = |boot: super::time::Boot| later(evidence.clock.wall, boot.since(evidence.clock.boot));
    match step {
        Step::Wait { until, why } => (wall(*until), why.clone()),
        Step::Hold { again, why } => (wall(*again), why.clone()),
        Step::Look(_) => (evidence.clock.wall, Reason::calm("looking", "looks at the store and the provider")),
        Step::Do(effect) => (evidence.clock.wall, Reason::calm("acting", effect.name())),
    }
}

/// When the action that is waited for has its own time: the refresh its point or the end of its pause, the revoke its window.
fn due(evidence: &Evidence, policy: &Policy, why: &Reason) -> Option<Timestamp> {
    let record = evidence.record()?;
    let at = match why.code {
        "rest" | "mint_failing" | "mint_retrying" => {
            let pause = record.backoff.as_ref().map(|pause| pause.not_before);
            let minting = record.rotation.as_ref().is_some_and(|rotation| matches!(rotation.stage, Stage::Intent | Stage::Between));
            let point = lifetime(evidence, policy, Some(record)).and_then(|current| current.refresh_due);
            if minting || record.request.is_some() { pause } else { point.max(pause) }
        }
        "propagating" => previous(evidence, policy, record)?.revoke_not_before,
        _ => None,
    }?;
    Some(later(evidence.clock.wall, evidence.clock.boot_at(at).since(evidence.clock.boot)))
}

fn window(policy: &Policy, record: &Record) -> Window {
    Window {
        configured_seconds: policy.window.as_secs(),
        effective_seconds: fitted(policy.window, record.current.life()).as_secs(),
        consumer_ttl_seconds: policy.consumer_ttl.as_secs(),
    }
}

fn lifetime(evidence: &Evidence, policy: &Policy, record: Option<&Record>) -> Option<Lifetime> {
    let token = evidence.store.value()?.current.as_ref()?.1.token()?;
    let look = evidence.look(token).map(|seen| &seen.value.introspection);
    let known = record.map(|record| &record.current).filter(|known| known.fingerprint == token);
    let expires =
        look.and_then(|look| look.expires).filter(|_| look.is_some_and(|look| look.valid)).or_else(|| known.map(|known| known.expires));
    Some(Lifetime {
        fingerprint: token.to_string(),
        issued_at: known.map(|known| known.issued_at).or_else(|| look.and_then(|look| look.issued_at)),
        expires_at: expires.and_then(Expiry::at),
        refresh_due: known
            .filter(|known| known.expires != Expiry::Never)
            .map(|known| refresh_due(policy, known.issued_at, known.life(), &known.fingerprint.whole())),
        data_access_expires_at: look.and_then(|look| look.data_access_expires_at),
    })
}

fn previous(evidence: &Evidence, policy: &Policy, record: &Record) -> Option<Previous> {
    let slot = &evidence.store.value()?.current.as_ref()?.0;
    let victim = victim(record, slot)?;
    Some(Previous {
        fingerprint: victim.fingerprint.to_string(),
        expires_at: victim.expires.and_then(Expiry::at),
        revoke_not_before: window_ends(policy, record, &victim),
    })
}

fn gate(evidence: &Evidence, policy: &Policy, record: &Record) -> Option<Vec<ConjunctStatus>> {
    let slot = &evidence.store.value()?.current.as_ref()?.0;
    let victim = victim(record, slot)?;
    let gate = evaluate(evidence, policy, record, &victim);
    Some(
        gate.conjuncts
            .into_iter()
            .map(|conjunct| ConjunctStatus { name: conjunct.name.to_owned(), holds: conjunct.holds, value: conjunct.value })
            .collect(),
    )
}

fn conditions(evidence: &Evidence, policy: &Policy, record: Option<&Record>, why: &Reason) -> Vec<Condition> {
    let mut list = vec![ready(evidence, policy, record)];
    list.extend(record.and_then(|record| rejected(policy, record)));
    if why.severity > Severity::Calm {
        list.push(condition("Attention", "True", why.code, &why.text, why.remedy.as_deref(), why.severity));
    }
    if let Some(record) = record {
        if let Some((code, text)) = overdue(evidence, policy, record) {
            list.push(condition("RefreshOverdue", "True", code, &text, Some("see `evertoken explain`"), Severity::Attention));
        }
        if !record.unaccounted.is_empty() {
            let text = lost(record);
            let remedy = "nothing has to be done. Revoking all tokens of the user in Meta's business settings ends them now, and the current one with them";
            list.push(condition("Unaccounted", "True", "unaccounted", &text, Some(remedy), Severity::Attention));
        }
    }
    // A mint that waits for the spool has told it already.
    if let Some(trouble) = evidence.spool_trouble.as_ref().filter(|_| why.code != "spool") {
        let text = format!("the spool cannot take a token: {trouble}");
        let remedy = "free the disk, or move the token's file under spool/ in the state directory away; it is looked at again by itself. \
                      No token is minted meanwhile unless the current one is about to end";
        list.push(condition("Spool", "True", "spool", &text, Some(remedy), Severity::Attention));
    }
    if let Some(offset) = evidence.clock.offset().filter(|offset| offset.abs() > jiff::SignedDuration::from_mins(5)) {
        let text = format!("the host's clock is {:#} off the provider's", jiff::SignedDuration::from_secs(offset.as_secs()));
        list.push(condition(
            "ClockSuspect",
            "True",
            "clock_suspect",
            &text,
            Some("set the host's clock; the provider's clock is used for all that matters"),
            Severity::Attention,
        ));
    }
    list
}

fn ready(evidence: &Evidence, policy: &Policy, record: Option<&Record>) -> Condition {
    let lifetime = lifetime(evidence, policy, record);
    let token = evidence.store.value().and_then(|store| store.current.as_ref()).and_then(|(_, content)| content.token());
    let valid = token.and_then(|token| evidence.look(token)).map(|seen| seen.value.introspection.valid);
    let over = lifetime.as_ref().and_then(|lifetime| lifetime.expires_at).is_some_and(|at| at <= evidence.clock.provider_now());
    match (lifetime, valid, over) {
        (_, Some(false), _) => {
            condition("Ready", "False", "dead", "the provider says that the current token is dead", None, Severity::Critical)
        }
        (Some(_), _, true) => condition("Ready", "False", "expired", "the current token has ended", None, Severity::Critical),
        (Some(_), Some(true), false) => condition("Ready", "True", "valid", "the current token works", None, Severity::Calm),
        (Some(_), None, false) => condition(
            "Ready",
            "Unknown",
            "not_looked_at",
            "not looked at since the start; by its record it has not ended",
            None,
            Severity::Calm,
        ),
        (None, _, _) => {
            condition("Ready", "Unknown", "not_seen", "the entry has not been seen yet, or holds no token", None, Severity::Calm)
        }
    }
}

/// Overdue: the refresh point is past by more than a tenth of what was left then.
fn overdue(evidence: &Evidence, policy: &Policy, record: &Record) -> Option<(&'static str, String)> {
    let current = &record.current;
    // A successor that is promoted and not yet in every place is the refresh that was due.
    let held = evidence.store.value().and_then(|store| store.current.as_ref()).and_then(|(_, content)| content.token());
    if held.is_some_and(|held| held != current.fingerprint) {
        return None;
    }
    let Expiry::At(end) = current.expires else { return None };
    let due = refresh_due(policy, current.issued_at, current.life(), &current.fingerprint.whole());
    let now = evidence.clock.provider_now();
    let grace = end.duration_since(due) / 10;
    (now > later(due, grace)).then(|| ("overdue", format!("the refresh was due {due} and has not happened; the token ends {}", whole(end))))
}

/// A new token that was not fit, until another takes the current one's place.
fn rejected(policy: &Policy, record: &Record) -> Option<Condition> {
    // One of somebody else is rejected too, and not ours to revoke.
    let waits = |retiree: &&Retiree| {
        (retiree.rejected.is_some() || retiree.why == RetireeKind::Quarantined) && retiree.since >= record.current.since
    };
    let row = record.retirees.iter().rev().find(waits)?;
    let why = row.rejected.as_deref().unwrap_or("it is not what it should be");
    let text = format!("the new token {} was rejected {} and is not put to use: {why}", row.fingerprint, whole(row.since));
    let remedy = format!(
        "mend what is named, at Meta or in the configuration, then `evertoken rotate {}`; else another is minted when the refresh is due",
        policy.token
    );
    Some(condition("Rejected", "True", "quarantined", &text, Some(&remedy), Severity::Attention))
}

/// How many tokens may be alive that nobody holds, why, and until when.
fn lost(record: &Record) -> String {
    let ended = record.unaccounted.iter().map(|row| row.bound).max().map(|at| whole(at).to_string()).unwrap_or_default();
    let why = record.unaccounted.last().map(|row| row.why.as_str()).filter(|why| !why.is_empty());
    match (record.unaccounted.len(), why) {
        (1, why) => format!("a token may exist that nobody holds{}; it has ended by {ended}", told(" (", why)),
        (count, why) => format!("{count} tokens may exist that nobody holds{}; the last has ended by {ended}", told(" (the last: ", why)),
    }
}

fn told(lead: &str, why: Option<&str>) -> String {
    why.map(|why| format!("{lead}{why})")).unwrap_or_default()
}

fn condition(kind: &str, status: &str, reason: &str, text: &str, remedy: Option<&str>, severity: Severity) -> Condition {
    Condition { status: status.to_owned(), ..Condition::of(kind, reason, text, remedy, severity) }
}

fn unaccounted(row: &super::record::Unaccounted) -> UnaccountedStatus {
    UnaccountedStatus {
        rotation_id: row.rotation.clone(),
        attempt: row.attempt,
        since: row.since,
        ends_by: row.bound,
        why: Some(row.why.clone()).filter(|why| !why.is_empty()),
    }
}

fn last_error(evidence: &Evidence) -> Option<LastError> {
    let effects = evidence.effects.iter().map(|(step, trouble)| (step.as_str(), trouble));
    let store = evidence.store.trouble.as_deref().into_iter().map(|trouble| ("look at the store", trouble));
    let looks = evidence.looks.values().filter_map(|look| look.trouble.as_deref()).map(|trouble| ("introspect", trouble));
    let calls = evidence.calls.values().filter_map(|call| call.trouble.as_deref()).map(|trouble| ("call", trouble));
    let sinks = evidence.sinks.iter().filter_map(|sink| sink.read.trouble.as_deref()).map(|trouble| ("read the sink", trouble));
    let (step, trouble) = effects.chain(store).chain(looks).chain(calls).chain(sinks).max_by_key(|(_, trouble)| trouble.at)?;
    let fault = &trouble.fault;
    Some(LastError {
        class: fault.class.name().to_owned(),
        code: fault.code,
        subcode: fault.subcode,
        trace_id: fault.trace_id.clone(),
        step: step.to_owned(),
        message: fault.what.clone(),
    })
}

#[cfg(test)]
mod tests;
