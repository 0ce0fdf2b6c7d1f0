//! Tells what happens: to the log for operators, to the ledger for ever. One place, so that both say the same.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::fleet::Fleet;
use crate::clock;
use crate::ledger;
use crate::rotation::evidence::Evidence;
use crate::rotation::fault::{Certainty, Fault};
use crate::rotation::health::{Condition, TokenStatus};
use crate::rotation::plan::Effect;
use crate::rotation::token::Fingerprint;

mod line;

pub(super) use line::Told;
use line::{Line, line};

/// The voice of one token.
pub(super) struct Announcer {
    token: String,
    /// Conditions that were told and have not ended: code to severity and words.
    open: BTreeMap<String, (String, String)>,
    /// The verdict that was told last.
    verified: Option<Fingerprint>,
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
        let open = |condition: &Condition| (condition.reason.clone(), (condition.severity.clone(), condition.message.clone()));
        let now: BTreeMap<String, (String, String)> =
            status.conditions.iter().filter(|condition| condition.severity != "calm").map(open).collect();
        for condition in status.conditions.iter().filter(|condition| condition.severity != "calm") {
            if self.open.get(&condition.reason).is_some_and(|(severity, _)| *severity == condition.severity) {
                continue;
            }
            let event = event_of(&condition.reason);
            if condition.severity == "critical" {
                tracing::error!(event, alert = true, token = self.token, reason = condition.reason, next_at = %status.next_action.at, "{}", condition.message);
            } else {
                tracing::warn!(event, alert = true, token = self.token, reason = condition.reason, next_at = %status.next_action.at, "{}", condition.message);
            }
        }
        for (ended, (_, message)) in self.open.iter().filter(|(code, _)| !now.contains_key(*code)) {
            let was = message.split(". To do: ").next().unwrap_or_default();
            tracing::info!(event = "token.recovered", alert = true, token = self.token, reason = ended.as_str(), "this is over: {was}");
        }
        self.open = now;
    }

    /// What befell the spool slot. That it is in trouble is a condition, told like others.
    pub(super) fn spool(&self, what: &str) {
        tracing::warn!(event = "token.spool", alert = true, token = self.token, "{what}");
    }

    fn log(&self, line: &Line, rotation_id: Option<&str>) {
        let fingerprint = line.fingerprint.map(|token| token.to_string());
        let number = |name: &str| line.fields.get(name).and_then(Value::as_u64);
        let (record, epoch) = (number("record"), number("epoch"));
        let text = |name: &str| line.fields.get(name).and_then(Value::as_str);
        let (slot, from, to, sink, expires_at) = (text("slot"), text("from"), text("to"), text("sink"), text("expires_at"));
        let (scopes, gate) = (line.scopes(), line.gate());
        let (event, alert, attempt) = (line.event, line.alert.then_some(true), line.attempt);
        macro_rules! at {
            ($level:ident) => {
                tracing::$level!(
                    event,
                    alert,
                    token = self.token,
                    rotation_id,
                    attempt,
                    fingerprint,
                    record,
                    epoch,
                    slot,
                    from,
                    to,
                    sink,
                    expires_at,
                    scopes,
                    gate,
                    "{}",
                    line.message
                )
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
        let Err(trouble) = fleet.ledger.keep(entry).await else {
            if anchored(line.event) {
                fleet.tell_ledger_head();
            }
            return fleet.ledger_resumed();
        };
        fleet.vitals.ledger_lost_row(trouble.clone());
        tracing::error!(
            event = "ledger.failed",
            alert = true,
            token = self.token,
            "a row of the ledger could not be kept: {trouble}. The rotation goes on; this line is its only trace"
        );
    }
}

/// Whether the ledger's head is told with this event: what changes which tokens live or are read. The rows between two such are few.
fn anchored(event: &str) -> bool {
    matches!(event, "rotation.started" | "promote.succeeded" | "token.adopted" | "token.command" | "token.unaccounted")
        || event.starts_with("revoke.")
        || matches!(event, "rotation.completed" | "rotation.expired" | "rotation.extended" | "breaker.opened")
}

/// The event under which a condition is told.
fn event_of(code: &str) -> &'static str {
    match code {
        "dead" | "token_dead" | "expired" => "token.dead",
        "overdue" => "token.overdue",
        "unaccounted" => "token.unaccounted",
        "spool" => "token.spool",
        "gate_waiting" => "gate.waiting",
        "breaker" => "revoke.held",
        "clock_suspect" => "clock.suspect",
        _ => "token.attention",
    }
}
