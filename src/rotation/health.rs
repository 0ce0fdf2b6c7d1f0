//! What people see of a token: its phase, what happens next and when, and what they must know.
//!
//! Derived from the same evidence as the next step, each time anew: a status cannot be stale in another way than its evidence is.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::evidence::{Content, Evidence};
use super::plan::{Reason, Severity, Step};
use super::policy::Policy;
use super::record::{Record, Stage};
use super::revoke_gate::{evaluate, victim, window_ends};
use super::schedule::refresh_due;
use super::time::later;
use super::token::Expiry;

mod verdict;

pub use verdict::{BreakerStatus, STATUS_SCHEMA, StatusDocument, versions_live, worst_first};

/// How far a rotation is, or which state beside it the token is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing looked at yet.
    Unknown,
    /// Not taken over yet.
    Unadopted,
    /// No rotation.
    Rest,
    /// A mint is about to be tried, or was tried in vain.
    Intent,
    /// A token was received and is not in the store yet.
    Captured,
    /// The new token is in the store beside the current one.
    Staged,
    /// The new token is fit.
    Verified,
    /// The old token is marked to outlive its replacement.
    Marked,
    /// The new token is current in the store.
    Promoted,
    /// Every place holds it; the window runs.
    Propagating,
    /// The old token may be revoked from now on.
    Revoking,
    /// The revoke was made and is being proven.
    Checked,
    /// A token that we hold and nobody uses waits to be revoked.
    Surplus,
    /// A token that failed verification waits to be revoked.
    Quarantined,
    /// The daemon stepped aside.
    Frozen,
    /// A person must act.
    NeedsHuman,
}

impl Phase {
    /// Every phase, for metrics.
    pub const ALL: [Self; 16] = [
        Self::Unknown,
        Self::Unadopted,
        Self::Rest,
        Self::Intent,
        Self::Captured,
        Self::Staged,
        Self::Verified,
        Self::Marked,
        Self::Promoted,
        Self::Propagating,
        Self::Revoking,
        Self::Checked,
        Self::Surplus,
        Self::Quarantined,
        Self::Frozen,
        Self::NeedsHuman,
    ];

    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Unadopted => "unadopted",
            Self::Rest => "rest",
            Self::Intent => "intent",
            Self::Captured => "captured",
            Self::Staged => "staged",
            Self::Verified => "verified",
            Self::Marked => "marked",
            Self::Promoted => "promoted",
            Self::Propagating => "propagating",
            Self::Revoking => "revoking",
            Self::Checked => "checked",
            Self::Surplus => "surplus",
            Self::Quarantined => "quarantined",
            Self::Frozen => "frozen",
            Self::NeedsHuman => "needs_human",
        }
    }
}

/// The phase that the evidence shows.
#[must_use]
pub fn phase(evidence: &Evidence, step: &Step) -> Phase {
    let Some(store) = evidence.store.value() else { return Phase::Unknown };
    if let Step::Hold { why, .. } = step {
        match why.code {
            "not_adopted" | "not_adoptable" | "entry_empty" => return Phase::Unadopted,
            "frozen" | "slot_occupied" | "foreign_rotation" | "newer_record" | "damaged_record" => return Phase::Frozen,
            _ if why.severity == Severity::Critical => return Phase::NeedsHuman,
            _ => {}
        }
    }
    let Some(record) = evidence.record() else { return Phase::Unadopted };
    let current = store.current.as_ref().and_then(|(_, content)| content.token());
    let Some(rotation) = &record.rotation else {
        if record.request.is_some() && record.hold.is_none() && record.frozen.is_none() {
            return Phase::Intent;
        }
        return match record.retirees.first().map(|retiree| retiree.why) {
            None => Phase::Rest,
            Some(super::record::RetireeKind::Quarantined) => Phase::Quarantined,
            Some(super::record::RetireeKind::Surplus | super::record::RetireeKind::Replaced) => Phase::Surplus,
        };
    };
    match rotation.stage {
        Stage::Published => Phase::Propagating,
        Stage::Revoking if evidence.revoke.as_ref().is_some_and(|tried| tried.victim == rotation.base.fingerprint) => Phase::Checked,
        Stage::Revoking => Phase::Revoking,
        Stage::Intent | Stage::Between => {
            let staged = (1..=rotation.attempt)
                .map(|attempt| rotation.slot(&store.identity, attempt, rotation.renderings))
                .find(|slot| store.staged.contains(slot));
            let fit = staged
                .as_ref()
                .and_then(|slot| evidence.slots.get(slot))
                .and_then(|slot| slot.value())
                .and_then(Option::as_ref)
                .and_then(Content::token);
            let fit = fit.is_some_and(|token| {
                evidence.calls.get(&token).is_some_and(|called| called.value().is_some_and(|called| called.outcome.is_ok()))
            });
            if current.is_some() && current != Some(rotation.base.fingerprint) {
                Phase::Promoted
            } else if staged.is_some() && store.retiring.contains(&rotation.base.slot) {
                Phase::Marked
            } else if staged.is_some() {
                if fit { Phase::Verified } else { Phase::Staged }
            } else if evidence.captured.is_some() {
                Phase::Captured
            } else {
                Phase::Intent
            }
        }
    }
}

/// One token, as `status -o json` and `/v1/status` show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenStatus {
    /// Its configured name.
    pub name: String,
    /// Its app's id.
    pub app_id: String,
    /// Its system user.
    pub system_user_id: String,
    /// How far it is.
    pub phase: Phase,
    /// The rotation under way.
    pub rotation_id: Option<String>,
    /// Its attempt.
    pub attempt: Option<u32>,
    /// What consumers read.
    pub current: Option<Lifetime>,
    /// The token that waits to be revoked next.
    pub previous: Option<Previous>,
    /// What happens next.
    pub next_action: NextAction,
    /// Conditions that a person should know of, and the basic ones.
    pub conditions: Vec<Condition>,
    /// The places.
    pub sinks: Vec<SinkStatus>,
    /// Tokens that may exist and that nobody holds.
    pub unaccounted: Vec<UnaccountedStatus>,
    /// The conjuncts of the revoke gate, where there is a token to revoke.
    #[serde(default)]
    pub gate: Vec<ConjunctStatus>,
    /// The latest failure that has not been overcome.
    pub last_error: Option<LastError>,
}

/// A token's life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifetime {
    /// Which token.
    pub fingerprint: String,
    /// When it was made.
    pub issued_at: Option<Timestamp>,
    /// When it ends; absent: never, or unknown.
    pub expires_at: Option<Timestamp>,
    /// When the next rotation is due.
    pub refresh_due: Option<Timestamp>,
    /// When access to data ends; absent: not applicable.
    pub data_access_expires_at: Option<Timestamp>,
}

/// A token on its way out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    /// Which token.
    pub fingerprint: String,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// Before this it is not revoked.
    pub revoke_not_before: Option<Timestamp>,
}

/// What happens next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextAction {
    /// What, one sentence.
    pub what: String,
    /// When, by the host's clock.
    pub at: Timestamp,
    /// What it waits for: the stable name of the condition.
    pub waiting_for: Vec<String>,
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Its name.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, the stable code.
    pub reason: String,
    /// Why, for people; what to do about it.
    pub message: String,
    /// How bad.
    pub severity: String,
}

/// One place of the token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkStatus {
    /// Its name.
    pub name: String,
    /// Whether it held the current payload when last read.
    pub in_sync: Option<bool>,
    /// What failed last.
    pub last_error: Option<String>,
}

/// A lost token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnaccountedStatus {
    /// Whose attempt.
    pub rotation_id: String,
    /// Which attempt.
    pub attempt: u32,
    /// When it was tried.
    pub since: Timestamp,
    /// By when it has ended.
    pub ends_by: Timestamp,
}

/// One conjunct of the revoke gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConjunctStatus {
    /// Its name.
    pub name: String,
    /// Whether it holds.
    pub holds: bool,
    /// What was found.
    pub value: String,
}

/// A failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastError {
    /// Its class.
    pub class: String,
    /// Graph's code.
    pub code: Option<i64>,
    /// Graph's subcode.
    pub subcode: Option<i64>,
    /// The request's id at the other side.
    pub trace_id: Option<String>,
    /// What was tried.
    pub step: String,
    /// What happened.
    pub message: String,
}

/// Builds the status of a token.
#[must_use]
pub fn status(evidence: &Evidence, policy: &Policy, step: &Step) -> TokenStatus {
    let phase = phase(evidence, step);
    let record = evidence.record();
    let (at, why) = next(evidence, step);
    TokenStatus {
        name: policy.token.clone(),
        app_id: policy.app_id.clone(),
        system_user_id: policy.system_user_id.clone(),
        phase,
        rotation_id: record.and_then(|record| record.rotation.as_ref()).map(|rotation| rotation.id.clone()),
        attempt: record.and_then(|record| record.rotation.as_ref()).map(|rotation| rotation.attempt),
        current: lifetime(evidence, policy, record),
        previous: record.and_then(|record| previous(evidence, policy, record)),
        next_action: NextAction { what: why.text.clone(), at, waiting_for: vec![why.code.to_owned()] },
        conditions: conditions(evidence, policy, record, &why),
        sinks: sinks(evidence),
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
    if why.severity > Severity::Calm {
        list.push(condition("Attention", "True", why.code, &why.text, why.remedy.as_deref(), why.severity));
    }
    if let Some(record) = record {
        if let Some((code, text)) = overdue(evidence, policy, record) {
            list.push(condition("RefreshOverdue", "True", code, &text, Some("see `evertoken explain`"), Severity::Attention));
        }
        if !record.unaccounted.is_empty() {
            let text = format!(
                "{} token(s) may exist that nobody holds; the last has ended by {}",
                record.unaccounted.len(),
                latest_bound(record)
            );
            let remedy = "nothing has to be done. Revoking all tokens of the user in Meta's business settings ends them now, and the current one with them";
            list.push(condition("Unaccounted", "True", "unaccounted", &text, Some(remedy), Severity::Attention));
        }
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
    let Expiry::At(end) = current.expires else { return None };
    let due = refresh_due(policy, current.issued_at, current.life(), &current.fingerprint.whole());
    let now = evidence.clock.provider_now();
    let grace = end.duration_since(due) / 10;
    (now > later(due, grace)).then(|| ("overdue", format!("the refresh was due {due} and has not happened; the token ends {end}")))
}

fn latest_bound(record: &Record) -> String {
    record.unaccounted.iter().map(|row| row.bound).max().map(|at| at.to_string()).unwrap_or_default()
}

fn condition(kind: &str, status: &str, reason: &str, text: &str, remedy: Option<&str>, severity: Severity) -> Condition {
    let message = remedy.map_or_else(|| text.to_owned(), |remedy| format!("{text}. To do: {remedy}"));
    let severity = match severity {
        Severity::Calm => "calm",
        Severity::Attention => "attention",
        Severity::Critical => "critical",
    };
    Condition { kind: kind.to_owned(), status: status.to_owned(), reason: reason.to_owned(), message, severity: severity.to_owned() }
}

fn sinks(evidence: &Evidence) -> Vec<SinkStatus> {
    let wanted = evidence.store.value().and_then(|store| store.current.as_ref()).map(|(_, content)| content.payload());
    let status = |sink: &super::evidence::SinkEvidence| SinkStatus {
        name: sink.name.clone(),
        in_sync: sink.read.value().map(|held| held.as_ref().map(|(_, content)| content.payload()) == wanted),
        last_error: sink
            .read
            .trouble
            .as_ref()
            .or_else(|| evidence.effects.get(&format!("publish {}", sink.name)))
            .map(|trouble| trouble.fault.what.clone()),
    };
    evidence.sinks.iter().map(status).collect()
}

fn unaccounted(row: &super::record::Unaccounted) -> UnaccountedStatus {
    UnaccountedStatus { rotation_id: row.rotation.clone(), attempt: row.attempt, since: row.since, ends_by: row.bound }
}

fn last_error(evidence: &Evidence) -> Option<LastError> {
    let effects = evidence.effects.iter().map(|(step, trouble)| (step.as_str(), trouble));
    let store = evidence.store.trouble.iter().map(|trouble| ("look at the store", trouble));
    let looks = evidence.looks.values().filter_map(|look| look.trouble.as_ref()).map(|trouble| ("introspect", trouble));
    let calls = evidence.calls.values().filter_map(|call| call.trouble.as_ref()).map(|trouble| ("call", trouble));
    let sinks = evidence.sinks.iter().filter_map(|sink| sink.read.trouble.as_ref()).map(|trouble| ("read the sink", trouble));
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
