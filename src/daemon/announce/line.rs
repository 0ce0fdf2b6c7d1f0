//! What is said of each thing that is done: its event, its level, its words.

use serde_json::{Map, Value, json};

use crate::rotation::evidence::AttemptState;
use crate::rotation::plan::CommitKind;
use crate::rotation::record::Record;
use crate::rotation::revoke_gate::Gate;
use crate::rotation::slot::SlotId;
use crate::rotation::time::whole;
use crate::rotation::token::Fingerprint;

/// Something that was done.
pub(in crate::daemon) enum Told<'a> {
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

/// One line for the log and one row for the ledger.
pub(super) struct Line {
    pub(super) event: &'static str,
    pub(super) level: tracing::Level,
    pub(super) alert: bool,
    pub(super) message: String,
    pub(super) fingerprint: Option<Fingerprint>,
    pub(super) attempt: Option<u32>,
    pub(super) fields: Map<String, Value>,
}

impl Line {
    /// The token's permissions in one text, for the log: its fields are flat.
    pub(super) fn scopes(&self) -> Option<String> {
        let list = self.fields.get("scopes")?.as_array()?;
        Some(list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "))
    }

    /// The revoke gate in one text, for the log; the ledger keeps each condition by itself.
    pub(super) fn gate(&self) -> Option<String> {
        let told = |(name, conjunct): (&String, &Value)| Some(format!("{name}: {}", conjunct.get("value")?.as_str()?));
        let list: Vec<String> = self.fields.iter().filter_map(told).collect();
        (!list.is_empty()).then(|| list.join("; "))
    }
}

/// What is said of a thing that was done.
pub(super) fn line(told: Told<'_>) -> Line {
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
        AttemptState::Answered => line(
            "refresh.succeeded",
            tracing::Level::INFO,
            "the provider gave a token; it is brought to safety before anything else is done".to_owned(),
        ),
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
            format!("no token came back that can be used, and one may have been minted: {}; the current token works", fault.what),
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
    let message = match record.unaccounted.last() {
        Some(row) if kind == CommitKind::AttemptUnknown => {
            let next = record.backoff.as_ref().map(|pause| format!("; the next mint is tried {}", whole(pause.not_before)));
            format!(
                "a token may exist that nobody holds, because the refresh brought none that can be used: {detail}. It has ended by {}; the \
                 current token works{}",
                whole(row.bound),
                next.unwrap_or_default()
            )
        }
        Some(_) | None => detail.to_owned(),
    };
    let mut fields = Map::new();
    fields.insert("record".into(), json!(record.number));
    fields.insert("epoch".into(), json!(record.epoch));
    let attempt = record.rotation.as_ref().map(|rotation| rotation.attempt);
    Line { event, level, alert, message, fingerprint: Some(record.current.fingerprint), attempt, fields }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::rotation::fault::{Certainty, Fault, FaultClass};
    use crate::rotation::record::{Backoff, Unaccounted};
    use crate::rotation::revoke_gate::Conjunct;
    use crate::rotation::testing::record;

    #[test]
    fn a_lost_mint_is_told_with_its_reason_its_end_and_the_next_try() {
        let why = "HTTP 200: no access_token in the answer";
        let mut lost = record();
        let bound = Timestamp::new(1_800_000_000, 5).unwrap();
        lost.unaccounted.push(Unaccounted { rotation: "r".into(), attempt: 1, since: bound, bound, why: why.into() });
        lost.backoff = Some(Backoff { count: 1, not_before: Timestamp::new(1_700_000_000, 7).unwrap(), why: why.into() });
        let told = line(Told::Committed { record: &lost, before: None, kind: CommitKind::AttemptUnknown, detail: why });
        for part in [why, "It has ended by 2027-01-15T08:00:00Z", "the next mint is tried 2023-11-14T22:13:20Z", "the current token works"]
        {
            assert!(told.message.contains(part), "{part}: {}", told.message);
        }
        let fault = Fault::new(Certainty::Unknown, FaultClass::Unreachable, why);
        let told = line(Told::RefreshEnded { rotation: "r", attempt: 1, state: &AttemptState::Unknown(fault) });
        assert!(told.message.contains(why) && !told.message.contains("lost"), "{}", told.message);
    }

    #[test]
    fn the_gate_is_one_text_in_the_log_and_its_parts_in_the_ledger() {
        let token = Fingerprint::of("old");
        let conjuncts = vec![
            Conjunct { name: "gates", holds: true, value: "0 of 0 confirmed".into() },
            Conjunct { name: "breaker", holds: true, value: "closed".into() },
        ];
        let told = line(Told::RevokeBegins { victim: token, caller: token, gate: &Gate { conjuncts } });
        assert_eq!(told.gate().as_deref(), Some("breaker: closed; gates: 0 of 0 confirmed"));
        assert_eq!(told.fields["breaker"]["value"], "closed");
        assert_eq!(line(Told::BreakerOpened { why: "x" }).gate(), None);
    }
}
