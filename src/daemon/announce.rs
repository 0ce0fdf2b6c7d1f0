//! Tells what happens: to the log for operators, to the ledger for ever. One place, so that both say the same.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::disk::on_disk;
use super::fleet::Fleet;
use crate::clock;
use crate::ledger;
use crate::rotation::evidence::{AttemptState, Evidence};
use crate::rotation::fault::{Certainty, Fault};
use crate::rotation::health::TokenStatus;
use crate::rotation::plan::{CommitKind, Effect};
use crate::rotation::record::Record;
use crate::rotation::revoke_gate::Gate;
use crate::rotation::slot::SlotId;
use crate::rotation::token::Fingerprint;

/// Something that was done.
pub(super) enum Told<'a> {
    Committed { record: &'a Record, before: Option<&'a Record>, kind: CommitKind, detail: &'a str },
    RefreshBegins { rotation: &'a str, attempt: u32 },
    RefreshEnded { rotation: &'a str, attempt: u32, state: &'a AttemptState },
    Staged { slot: &'a SlotId, token: Fingerprint, as_ours: bool },
    Marked { slot: &'a SlotId },
    Promoted { from: &'a SlotId, to: &'a SlotId, token: Fingerprint },
    SinkWritten { sink: &'a str, token: Fingerprint },
    RevokeBegins { victim: Fingerprint, caller: Fingerprint, gate: &'a Gate },
    RevokeAnswered { victim: Fingerprint, said: &'a str },
    BreakerOpened { why: &'a str },
}

/// The voice of one token.
pub(super) struct Announcer {
    token: String,
    /// Conditions that were told and have not ended: code to severity.
    open: BTreeMap<String, String>,
    /// The verdict that was told last.
    verified: Option<Fingerprint>,
}

/// One line for the log and one row for the ledger.
struct Line {
    event: &'static str,
    level: tracing::Level,
    alert: bool,
    message: String,
    fingerprint: Option<Fingerprint>,
    attempt: Option<u32>,
    fields: Map<String, Value>,
}

impl Announcer {
    pub(super) const fn new(token: String) -> Self {
        Self { token, open: BTreeMap::new(), verified: None }
    }

    /// Tells one thing.
    pub(super) async fn tell(&mut self, fleet: &Fleet, evidence: &Evidence, told: Told<'_>) {
        let rotation = match &told {
            Told::RefreshBegins { rotation, .. } | Told::RefreshEnded { rotation, .. } => Some((*rotation).to_owned()),
            Told::Committed { record, before, .. } => {
                record.rotation.as_ref().or_else(|| before.and_then(|before| before.rotation.as_ref())).map(|rotation| rotation.id.clone())
            }
            Told::Staged { .. }
            | Told::Marked { .. }
            | Told::Promoted { .. }
            | Told::SinkWritten { .. }
            | Told::RevokeBegins { .. }
            | Told::RevokeAnswered { .. }
            | Told::BreakerOpened { .. } => {
                evidence.record().and_then(|record| record.rotation.as_ref()).map(|rotation| rotation.id.clone())
            }
        };
        if let Told::Marked { .. } = told {
            self.verdict(fleet, evidence, rotation.as_deref()).await;
        }
        let line = line(told);
        self.log(&line, rotation.as_deref());
        self.keep(fleet, evidence, line, rotation).await;
    }

    /// A token is marked for promotion only after its verification: told once for each token.
    async fn verdict(&mut self, fleet: &Fleet, evidence: &Evidence, rotation: Option<&str>) {
        let current = evidence.store.value().and_then(|store| store.current.as_ref()).and_then(|(_, content)| content.token());
        let Some((token, seen)) =
            evidence.looks.iter().filter(|(token, _)| Some(**token) != current).find_map(|(token, look)| Some((*token, look.value()?)))
        else {
            return;
        };
        if self.verified == Some(token) {
            return;
        }
        self.verified = Some(token);
        let ends = seen.introspection.expires.and_then(crate::rotation::token::Expiry::at);
        let mut fields = Map::new();
        fields.insert("expires_at".into(), json!(ends));
        fields.insert("scopes".into(), json!(seen.introspection.scopes));
        let line = Line {
            event: "verify.succeeded",
            level: tracing::Level::INFO,
            alert: false,
            message: format!("token {token} is fit to replace the current one"),
            fingerprint: Some(token),
            attempt: None,
            fields,
        };
        self.log(&line, rotation);
        self.keep(fleet, evidence, line, rotation.map(str::to_owned)).await;
    }

    /// A failed effect: what was tried, what is at risk, what happens next.
    pub(super) fn failed(&self, evidence: &Evidence, effect: &Effect, fault: &Fault, count: u32) {
        let rotation_id = evidence.record().and_then(|record| record.rotation.as_ref()).map(|rotation| rotation.id.as_str());
        let (event, risk) = match effect {
            Effect::Stage { .. } => ("stage.failed", "the new token is kept in the spool; the current one works"),
            Effect::Promote { .. } => ("promote.failed", "consumers go on with the current token"),
            Effect::PublishSink { .. } => ("publish.failed", "this sink keeps what it holds; the old token is not revoked meanwhile"),
            Effect::Revoke { .. } => ("revoke.failed", "both tokens live on"),
            Effect::Commit { .. } => ("store.conflict", "nothing was begun that the record does not say"),
            Effect::ProveBeside
            | Effect::Refresh { .. }
            | Effect::DropCaptured
            | Effect::MarkRetiring { .. }
            | Effect::Unmark { .. }
            | Effect::OpenBreaker { .. } => ("step.failed", "the current token works"),
        };
        let outcome = if fault.certainty == Certainty::Unknown { "unknown, decided by looking" } else { "not done" };
        let (code, subcode) = (fault.code, fault.subcode);
        tracing::warn!(
            event,
            token = self.token,
            rotation_id,
            step = effect.name(),
            class = fault.class.name(),
            code,
            subcode,
            trace_id = fault.trace_id,
            attempt = count,
            outcome,
            risk,
            "{}: {}; it is tried again",
            effect.name(),
            fault.what
        );
    }

    /// Conditions that a person must know of: each is told when it begins, when it gets worse, and when it ends.
    pub(super) fn conditions(&mut self, _fleet: &Fleet, status: &TokenStatus) {
        let now: BTreeMap<String, String> = status
            .conditions
            .iter()
            .filter(|condition| condition.severity != "calm")
            .map(|condition| (condition.reason.clone(), condition.severity.clone()))
            .collect();
        for condition in status.conditions.iter().filter(|condition| condition.severity != "calm") {
            if self.open.get(&condition.reason) == Some(&condition.severity) {
                continue;
            }
            let event = event_of(&condition.reason);
            if condition.severity == "critical" {
                tracing::error!(event, alert = true, token = self.token, reason = condition.reason, next = %status.next_action.at, "{}", condition.message);
            } else {
                tracing::warn!(event, alert = true, token = self.token, reason = condition.reason, next = %status.next_action.at, "{}", condition.message);
            }
        }
        for ended in self.open.keys().filter(|code| !now.contains_key(*code)) {
            tracing::info!(event = "token.recovered", alert = true, token = self.token, reason = ended.as_str(), "over: {ended}");
        }
        self.open = now;
    }

    /// The state of the spool slot, when it is in trouble.
    pub(super) fn spool(&self, evidence: &Evidence) {
        if let Some(trouble) = &evidence.spool_trouble {
            tracing::warn!(
                event = "token.spool",
                alert = true,
                token = self.token,
                "the spool slot cannot take a token: {trouble}. No token is minted meanwhile unless the current one is about to end"
            );
        }
    }

    fn log(&self, line: &Line, rotation_id: Option<&str>) {
        let fingerprint = line.fingerprint.map(|token| token.to_string());
        let detail = (!line.fields.is_empty()).then(|| Value::Object(line.fields.clone()).to_string());
        let (event, alert, attempt) = (line.event, line.alert.then_some(true), line.attempt);
        macro_rules! at {
            ($level:ident) => {
                tracing::$level!(event, alert, token = self.token, rotation_id, attempt, fingerprint, detail, "{}", line.message)
            };
        }
        match line.level {
            tracing::Level::ERROR => at!(error),
            tracing::Level::WARN => at!(warn),
            _ => at!(info),
        }
    }

    async fn keep(&self, fleet: &Fleet, evidence: &Evidence, line: Line, rotation_id: Option<String>) {
        let mut fields = line.fields;
        fields.insert("message".into(), Value::String(line.message));
        let entry = ledger::Entry {
            at: clock::wall(),
            provider_at: evidence.clock.provider.map(|_| evidence.clock.provider_now()),
            token: self.token.clone(),
            rotation_id,
            attempt: line.attempt,
            event: line.event.to_owned(),
            fingerprint: line.fingerprint,
            fields,
        };
        let ledger = fleet.ledger.clone();
        let Err(trouble) = on_disk(move || ledger.append(&entry)).await else { return fleet.vitals.ledger(None) };
        fleet.vitals.ledger(Some(trouble.clone()));
        tracing::error!(
            event = "ledger.failed",
            alert = true,
            token = self.token,
            "a row of the ledger could not be kept: {trouble}. The rotation goes on; this line is its only trace"
        );
    }
}

/// The event under which a condition is told.
fn event_of(code: &str) -> &'static str {
    match code {
        "dead" | "token_dead" | "expired" => "token.dead",
        "overdue" => "token.overdue",
        "unaccounted" => "token.unaccounted",
        "gate_waiting" => "gate.waiting",
        "breaker" => "revoke.held",
        "clock_suspect" => "clock.suspect",
        _ => "token.attention",
    }
}

fn line(told: Told<'_>) -> Line {
    let mut fields = Map::new();
    let info = tracing::Level::INFO;
    let plain = |event, message: String, fingerprint, attempt, fields| Line {
        event,
        level: info,
        alert: false,
        message,
        fingerprint,
        attempt,
        fields,
    };
    match told {
        Told::Committed { record, before, kind, detail } => committed(record, before, kind, detail),
        Told::RefreshBegins { attempt, .. } => {
            plain("refresh.started", "asks the provider for a new token".into(), None, Some(attempt), fields)
        }
        Told::RefreshEnded { attempt, state, .. } => refresh_ended(attempt, state),
        Told::Staged { slot, token, as_ours } => {
            fields.insert("slot".into(), json!(slot));
            if as_ours {
                plain(
                    "stage.succeeded",
                    format!("token {token} stands beside the current one and was read back"),
                    Some(token),
                    None,
                    fields,
                )
            } else {
                let message = "somebody wrote something else under our slot; nothing is promoted from it".to_owned();
                Line {
                    event: "stage.failed",
                    level: tracing::Level::ERROR,
                    alert: true,
                    message,
                    fingerprint: Some(token),
                    attempt: None,
                    fields,
                }
            }
        }
        Told::Marked { slot } => {
            fields.insert("slot".into(), json!(slot));
            plain("promote.marked", "the old token is marked, so that it outlives its replacement".into(), None, None, fields)
        }
        Told::Promoted { from, to, token } => {
            fields.insert("from".into(), json!(from));
            fields.insert("to".into(), json!(to));
            plain("promote.succeeded", format!("consumers of the store read token {token} from now on"), Some(token), None, fields)
        }
        Told::SinkWritten { sink, token } => {
            fields.insert("sink".into(), json!(sink));
            plain("publish.succeeded", format!("sink {sink} was given token {token}"), Some(token), None, fields)
        }
        Told::RevokeBegins { victim, caller, gate } => {
            for conjunct in &gate.conjuncts {
                fields.insert(conjunct.name.into(), json!({ "holds": conjunct.holds, "value": conjunct.value }));
            }
            plain(
                "revoke.started",
                format!("revokes token {victim}, calling with {caller}: every condition holds"),
                Some(victim),
                None,
                fields,
            )
        }
        Told::RevokeAnswered { victim, said } => {
            plain("revoke.answered", format!("the provider said: {said}; what counts is what a look shows"), Some(victim), None, fields)
        }
        Told::BreakerOpened { why } => Line {
            event: "breaker.opened",
            level: tracing::Level::ERROR,
            alert: true,
            message: format!("no token of the fleet is revoked until `evertoken breaker close`: {why}"),
            fingerprint: None,
            attempt: None,
            fields,
        },
    }
}

fn refresh_ended(attempt: u32, state: &AttemptState) -> Line {
    let line =
        |event, level, message| Line { event, level, alert: false, message, fingerprint: None, attempt: Some(attempt), fields: Map::new() };
    match state {
        AttemptState::Answered => {
            line("refresh.succeeded", tracing::Level::INFO, "the provider gave a token; it is kept before anything else is done".to_owned())
        }
        AttemptState::NotSent(trouble) => {
            let why = trouble.as_ref().map(|trouble| trouble.fault.what.as_str()).unwrap_or_default();
            line(
                "refresh.failed",
                tracing::Level::WARN,
                format!("the provider was not reached, so nothing was minted: {why}; the current token works; it is tried again"),
            )
        }
        AttemptState::Refused(fault) => line(
            "refresh.failed",
            tracing::Level::WARN,
            format!("the provider refused, so nothing was minted: {}; the current token works; it is tried again later", fault.what),
        ),
        AttemptState::Unknown(fault) => line(
            "refresh.unknown",
            tracing::Level::WARN,
            format!("the answer was lost, so a token may have been minted that nobody holds: {}; the current token works", fault.what),
        ),
    }
}

fn committed(record: &Record, before: Option<&Record>, kind: CommitKind, detail: &str) -> Line {
    let (info, warn, error) = (tracing::Level::INFO, tracing::Level::WARN, tracing::Level::ERROR);
    let (event, level, alert) = match kind {
        CommitKind::Adopted => ("token.adopted", info, false),
        CommitKind::ForeignAdopted if record.frozen.is_some() && before.is_some_and(|before| before.frozen.is_none()) => {
            ("store.conflict", error, true)
        }
        CommitKind::ForeignAdopted => ("token.adopted", warn, true),
        CommitKind::Rebased => ("store.rebased", info, false),
        CommitKind::Intent
            if before.is_some_and(|before| before.rotation.as_ref().map(|r| &r.id) == record.rotation.as_ref().map(|r| &r.id)) =>
        {
            ("rotation.resumed", info, false)
        }
        CommitKind::Intent => ("rotation.started", info, false),
        CommitKind::AttemptRefused => ("refresh.refused", warn, false),
        CommitKind::AttemptUnknown => ("token.unaccounted", warn, true),
        CommitKind::Extended => ("rotation.extended", if record.backoff.is_some() { warn } else { info }, record.backoff.is_some()),
        CommitKind::Quarantined => ("verify.rejected", error, true),
        CommitKind::Surplus => ("token.surplus", warn, false),
        CommitKind::Unpublished => ("publish.repair", warn, false),
        CommitKind::Published => ("propagation.waiting", info, false),
        CommitKind::Revoking => ("propagation.complete", info, false),
        CommitKind::Revoked if before.is_some_and(|before| before.rotation.is_some()) && record.rotation.is_none() => {
            ("rotation.completed", info, false)
        }
        CommitKind::Revoked => ("revoke.succeeded", info, false),
        CommitKind::Expired if before.is_some_and(|before| before.rotation.is_some()) && record.rotation.is_none() => {
            ("rotation.expired", info, false)
        }
        CommitKind::Expired => ("token.expired", info, false),
        CommitKind::Healing => ("token.healed", error, true),
        CommitKind::Frozen => ("store.conflict", error, true),
        CommitKind::Command => ("token.command", info, false),
        CommitKind::Accounted => ("token.accounted", info, true),
    };
    let mut fields = Map::new();
    fields.insert("record".into(), json!(record.number));
    fields.insert("epoch".into(), json!(record.epoch));
    let attempt = record.rotation.as_ref().map(|rotation| rotation.attempt);
    Line { event, level, alert, message: detail.to_owned(), fingerprint: Some(record.current.fingerprint), attempt, fields }
}
