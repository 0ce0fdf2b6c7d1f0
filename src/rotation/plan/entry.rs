//! Can the entry be seen, may it be managed, is it adopted?

use super::super::evidence::{Content, Evidence, Presence, StoreEvidence};
use super::super::policy::Policy;
use super::super::record::{Known, Record, RecordError};
use super::super::schedule::scaled;
use super::super::verify::adoptable;
use super::{CommitKind, Effect, Look, Reason, Settled, act, ask, audit, commit, hold, life_of};

/// The entry, looked at within the audit interval.
pub(super) fn seen<'a>(evidence: &'a Evidence, policy: &Policy) -> Settled<&'a StoreEvidence> {
    let life = life_of(evidence);
    let since = evidence.clock.boot.plus(-audit(policy, life));
    ask(evidence, life, Some(&evidence.store), since, Look::Store)
}

/// The record of an entry that is ours to manage.
pub(super) fn managed<'a>(evidence: &'a Evidence, policy: &Policy, store: &'a StoreEvidence) -> Settled<&'a Record> {
    let again = audit(policy, life_of(evidence));
    match store.presence {
        Presence::Present => {}
        Presence::Absent => {
            let remedy = "create it, or let `evertoken adopt --create --token-file PATH` do so; nothing is minted or written meanwhile";
            return hold(evidence, again, Reason::critical("entry_missing", "the entry does not exist in the store", remedy));
        }
        Presence::Deleting => {
            let remedy =
                "restore the secret if it is still needed, else remove the token from the configuration; nothing is written meanwhile";
            return hold(evidence, again, Reason::critical("entry_deleting", "the entry is scheduled for deletion", remedy));
        }
    }
    if let Some(what) = &store.foreign_rotation {
        let remedy = "turn the other rotation off and remove its pending version; two rotators on one secret destroy each other's tokens";
        return hold(evidence, again, Reason::attention("foreign_rotation", format!("something else rotates this entry: {what}"), remedy));
    }
    match &store.record {
        Some(Ok(record)) => Ok(record),
        Some(Err(error @ RecordError::Newer { .. })) => {
            let remedy = "upgrade this evertoken; until then it only observes";
            hold(evidence, again, Reason::attention("newer_record", error.to_string(), remedy))
        }
        Some(Err(error @ RecordError::Damaged { .. })) => {
            let remedy = "remove the label evertoken-state-<n> (or the file record/<n>) of this record, then `evertoken adopt`; the token itself is not touched";
            hold(evidence, again, Reason::attention("damaged_record", error.to_string(), remedy))
        }
        None => adopt(evidence, policy, store),
    }
}

/// An entry without a record: take it over if that is wanted and its token is good.
fn adopt<T>(evidence: &Evidence, policy: &Policy, store: &StoreEvidence) -> Settled<T> {
    let life = life_of(evidence);
    let again = audit(policy, life);
    let Some((slot, content)) = &store.current else {
        let remedy = "give it its token: `evertoken adopt --token-file PATH`";
        return hold(evidence, again, Reason::attention("entry_empty", "the entry exists and holds nothing", remedy));
    };
    let token = match content {
        Content::Token { token, .. } => *token,
        Content::Unreadable { why, .. } => {
            let remedy = "check the token's `payload` setting against what the entry holds";
            return hold(
                evidence,
                again,
                Reason::attention("entry_unreadable", format!("no token can be found in the entry: {why}"), remedy),
            );
        }
    };
    let wanted = policy.adopt_at_sight || evidence.adopt;
    // Consent makes the look count as asked for now; without it one look an audit interval is enough for status.
    let since = evidence.clock.boot.plus(if wanted { -scaled(super::super::revoke_gate::EVIDENCE_AGE, life) } else { -again });
    let looked = ask(evidence, life, evidence.looks.get(&token), since, Look::Introspect(token))?;
    if let Err(reasons) = adoptable(policy, &looked.introspection) {
        let remedy = "put a living token of this app and system user into the entry, or correct the configuration";
        return hold(
            evidence,
            again,
            Reason::attention("not_adoptable", format!("the entry's token cannot be taken over: {}", reasons.join("; ")), remedy),
        );
    }
    if !wanted {
        let remedy = format!("run `evertoken adopt {}`", policy.token);
        return hold(evidence, again, Reason::attention("not_adopted", "the entry's token is good and waits to be adopted", remedy));
    }
    if !evidence.proven_beside {
        return act(evidence, life, Effect::ProveBeside);
    }
    let known = Known::from_look(slot.clone(), token, &looked.introspection, evidence.clock.provider_now());
    let record = Record::first(store.record_number + 1, &evidence.writer, known);
    commit(evidence, life, record, CommitKind::Adopted, format!("took over token {token}"))
}
