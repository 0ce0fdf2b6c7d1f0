//! Is what consumers read what we think it is?
//!
//! People edit secrets, other tools write them back, backups are restored. Whatever is current and alive and of the right user is
//! what consumers use, so it is taken over, never fought; what we had staged becomes surplus. Whatever is current and cannot be
//! used is left as it is and shown, except where it is a token that we know to be dead and the living one is at hand: then the
//! living one is put back (I7's only exceptions).

use super::super::evidence::{Content, Evidence, StoreEvidence};
use super::super::policy::Policy;
use super::super::record::{Known, Record, Retiree, RetireeKind, Said, Stage};
use super::super::schedule::scaled;
use super::super::slot::SlotId;
use super::super::token::{Fingerprint, Introspection};
use super::super::verify::{adoptable, death};
use super::{CommitKind, Effect, Look, Reason, Settled, Subject, act, ask, audit, hold, make_current, rotation_slots, start_window_anew};

/// Writes by others, each seen at a look of its own, after which the daemon steps aside.
const FOREIGN_EDITS_TOLERATED: usize = 3;

/// A subject whose current token is the recorded one, or the one that this rotation promoted.
pub(super) fn trusted<'a>(
    evidence: &'a Evidence,
    policy: &'a Policy,
    store: &'a StoreEvidence,
    record: &'a Record,
) -> Settled<Subject<'a>> {
    let life = record.current.life();
    let again = audit(policy, life);
    let Some((slot, content)) = &store.current else {
        let remedy = "put the token back; `evertoken adopt --token-file PATH` does it";
        return hold(evidence, again, Reason::critical("entry_emptied", "somebody emptied the entry: consumers read nothing", remedy));
    };
    let Content::Token { token, .. } = content else {
        let why = if let Content::Unreadable { why, .. } = content { why.as_str() } else { "" };
        let remedy = "put the last good token back (its fingerprint is in `evertoken history`), or a new one; it is taken over at sight";
        return hold(
            evidence,
            again,
            Reason::critical("entry_garbled", format!("somebody put something into the entry that holds no token: {why}"), remedy),
        );
    };
    let subject = Subject { evidence, policy, store, record, slot, content, token: *token, life };
    if *token == record.current.fingerprint {
        if *slot != record.current.slot {
            return rebase(&subject);
        }
        return Ok(subject);
    }
    if rotation_slots(store, record).contains(slot) {
        return Ok(subject);
    }
    foreign(&subject)
}

/// The same token in a new slot: somebody put it again, or changed another key of a JSON secret. Not a new token.
fn rebase<T>(subject: &Subject<'_>) -> Settled<T> {
    let mut next = subject.next_record();
    next.current.slot = subject.slot.clone();
    next.epoch += 1;
    start_window_anew(&mut next);
    if let Some(rotation) = next.rotation.as_mut().filter(|rotation| matches!(rotation.stage, Stage::Intent | Stage::Between)) {
        rotation.base.slot = subject.slot.clone();
        // What is staged was rendered into the older document: only a key payload can differ, but a new name harms none.
        rotation.renderings += 1;
    }
    subject.commit(next, CommitKind::Rebased, "the same token stands in a new version of the entry")
}

/// Somebody else's token.
fn foreign<T>(subject: &Subject<'_>) -> Settled<T> {
    let Subject { evidence, policy, record, token, life, .. } = subject;
    let again = audit(policy, *life);
    if let Some(frozen) = &record.frozen {
        let remedy = "find out who writes it, then `evertoken release`";
        return hold(
            evidence,
            again,
            Reason::attention("frozen", format!("{} (since {})", frozen.why, super::super::time::whole(frozen.at)), remedy),
        );
    }
    let fresh = evidence.clock.boot.plus(-scaled(super::super::revoke_gate::EVIDENCE_AGE, *life));
    // The look must be younger than what was seen in the entry, else an old verdict on a token that has died since would count.
    let looked = ask(evidence, *life, evidence.looks.get(token), fresh.max(asked_of_store(evidence)), Look::Introspect(*token))?;
    match adoptable(policy, &looked.introspection) {
        Ok(()) => take_over(subject, &looked.introspection),
        Err(reasons) if !looked.introspection.valid && known_to_us(record, *token) => put_back(subject, &reasons.join("; ")),
        Err(reasons) => {
            let remedy = "put a good token back; it is taken over at sight. Nothing is refreshed, promoted or revoked meanwhile";
            hold(
                evidence,
                again,
                Reason::critical(
                    "foreign_token",
                    format!("somebody put a token into the entry that cannot be used: {}", reasons.join("; ")),
                    remedy,
                ),
            )
        }
    }
}

fn asked_of_store(evidence: &Evidence) -> super::super::time::Boot {
    evidence.store.seen.as_ref().map_or(evidence.clock.boot, |seen| seen.asked)
}

/// A token that we once held or hold on its way out.
fn known_to_us(record: &Record, token: Fingerprint) -> bool {
    record.retired.contains(&token)
        || record.retirees.iter().any(|retiree| retiree.fingerprint == token)
        || record.rotation.as_ref().is_some_and(|rotation| rotation.base.fingerprint == token)
}

/// A good token that somebody made current: it is the current one from now on. What a person put is never revoked on the strength
/// of its replacement alone, and what it replaced is left to end by itself; only what we minted and nobody uses becomes surplus.
fn take_over<T>(subject: &Subject<'_>, look: &Introspection) -> Settled<T> {
    let Subject { evidence, store, record, token, .. } = subject;
    let now = evidence.clock.provider_now();
    let mut next = subject.next_record();
    let rolled_back = known_to_us(record, *token);
    let known = Known::from_look(subject.slot.clone(), *token, look, now);

    next.retirees.retain(|retiree| retiree.fingerprint != *token);
    let surplus = |slot: &SlotId, fingerprint, expires, against: &SlotId| Retiree {
        slot: slot.clone(),
        fingerprint,
        why: RetireeKind::Surplus,
        since: now,
        expires,
        staged_against: Some(against.clone()),
        revoking: false,
        rejected: None,
    };
    // What the person replaced is not ours to kill. It stays findable: it may have to take the place of what the person put.
    let displaced = &record.current;
    let handled = record
        .rotation
        .as_ref()
        .is_some_and(|rotation| matches!(rotation.stage, Stage::Published | Stage::Revoking) && rotation.base.fingerprint == *token);
    if !handled && displaced.fingerprint != *token && !next.retirees.iter().any(|retiree| retiree.fingerprint == displaced.fingerprint) {
        let left = Retiree {
            why: RetireeKind::Left,
            staged_against: None,
            ..surplus(&displaced.slot, displaced.fingerprint, Some(displaced.expires), subject.slot)
        };
        next.retirees.push(left);
    }
    let slots = rotation_slots(store, record);
    next.unaccounted.extend(super::lost::in_flight(subject));
    if let Some(rotation) = next.end_rotation() {
        if matches!(rotation.stage, Stage::Intent | Stage::Between) {
            for slot in slots.iter().filter(|slot| store.staged.contains(*slot)) {
                // A staged slot that was not read yet is taken up later as a stray.
                if let Some(fingerprint) =
                    evidence.slots.get(slot).and_then(|read| read.value()).and_then(Option::as_ref).and_then(Content::token)
                {
                    next.retirees.push(surplus(slot, fingerprint, None, &rotation.base.slot));
                }
            }
        } else if rotation.base.fingerprint == *token {
            // Rolled back to the old one: the new one is surplus, and could be promoted over the old one by a paused rotator.
            next.retirees.push(surplus(&record.current.slot, record.current.fingerprint, Some(record.current.expires), subject.slot));
        } else if store.retiring.contains(&rotation.base.slot) {
            next.retirees.push(Retiree {
                slot: rotation.base.slot.clone(),
                fingerprint: rotation.base.fingerprint,
                why: RetireeKind::Replaced,
                since: now,
                expires: Some(rotation.base.expires),
                staged_against: None,
                revoking: false,
                rejected: None,
            });
        }
    }
    make_current(&mut next, known);
    // At rest the entry is looked at once an audit interval, so an hour alone would hardly ever see two edits.
    let within = scaled(jiff::SignedDuration::from_hours(1), subject.life).max(audit(subject.policy, subject.life) * 4);
    next.foreign_edits.retain(|at| now.duration_since(*at) < within);
    next.foreign_edits.push(now);
    if next.foreign_edits.len() >= FOREIGN_EDITS_TOLERATED {
        let why = format!("{} writes by somebody else within {within:#}: another tool keeps writing this entry", next.foreign_edits.len());
        next.frozen = Some(Said { at: now, why });
    }
    let detail = if rolled_back { format!("somebody rolled back to token {token}") } else { format!("somebody put token {token}") };
    subject.commit(next, CommitKind::ForeignAdopted, detail)
}

/// The entry holds a token of ours that is dead. Put back the recorded one if it lives.
fn put_back<T>(subject: &Subject<'_>, reasons: &str) -> Settled<T> {
    let Subject { evidence, policy, record, life, .. } = subject;
    if living(subject, &record.current.slot, record.current.fingerprint)?.is_none() {
        let text = format!("the entry holds a dead token of ours ({reasons}), and the recorded one is dead or gone too");
        return hold(evidence, audit(policy, *life), Reason::critical("token_dead", text, MINT_ANEW));
    }
    let effect = Effect::Promote { from: subject.slot.clone(), to: record.current.slot.clone(), token: record.current.fingerprint };
    act(evidence, *life, effect)
}

/// What only a person can do about a dead token.
pub(super) const MINT_ANEW: &str = "make a new token in Meta's business settings (System users, Generate token) and put it into the entry with the store's own tools \
     (`aws secretsmanager put-secret-value`, or by writing the file anew); it is taken over at sight";

/// What the provider says of a token that lives and that a slot still holds, on fresh evidence.
fn living<'a>(subject: &Subject<'a>, slot: &SlotId, token: Fingerprint) -> Settled<Option<&'a Introspection>> {
    let Subject { evidence, policy, life, .. } = *subject;
    let life = &life;
    let fresh = evidence.clock.boot.plus(-scaled(super::super::revoke_gate::EVIDENCE_AGE, *life));
    let content = ask(evidence, *life, evidence.slots.get(slot), fresh, Look::Slot(slot.clone()))?;
    if content.as_ref().and_then(Content::token) != Some(token) {
        return Ok(None);
    }
    // A look from before our own revoke says nothing about what lives now.
    let since = evidence.revoke.as_ref().map_or(fresh, |tried| tried.at.max(fresh)).max(asked_of_store(evidence));
    let looked = ask(evidence, *life, evidence.looks.get(&token), since, Look::Introspect(token))?;
    Ok(Some(&looked.introspection).filter(|look| adoptable(policy, look).is_ok()))
}

/// The current token is dead though nobody replaced it. Whatever of ours still lives takes its place.
pub(super) fn dead<T>(subject: &Subject<'_>) -> Settled<T> {
    let Subject { evidence, policy, record, store, life, token, .. } = subject;
    let why = evidence.look(*token).map(|seen| death(&seen.value.introspection)).unwrap_or_default();
    let mut candidates: Vec<(SlotId, Fingerprint)> = Vec::new();
    if let Some(rotation) = &record.rotation {
        for slot in rotation_slots(store, record).into_iter().filter(|slot| store.staged.contains(slot)) {
            let content = ask(evidence, *life, evidence.slots.get(&slot), super::Boot::ZERO, Look::Slot(slot.clone()))?;
            candidates.extend(content.as_ref().and_then(Content::token).map(|token| (slot, token)));
        }
        candidates.push((rotation.base.slot.clone(), rotation.base.fingerprint));
    }
    candidates.extend(
        record
            .retirees
            .iter()
            .filter(|retiree| retiree.why != RetireeKind::Quarantined)
            .map(|retiree| (retiree.slot.clone(), retiree.fingerprint)),
    );
    for (slot, candidate) in candidates.into_iter().filter(|(_, candidate)| candidate != token) {
        if let Some(look) = living(subject, &slot, candidate)? {
            return heal(subject, Known::from_look(slot, candidate, look, evidence.clock.provider_now()), &why);
        }
    }
    let text = format!("the current token is dead ({why}): consumers fail");
    hold(evidence, audit(policy, *life), Reason::critical("token_dead", text, MINT_ANEW))
}

/// Records that a living token takes the place of the dead one; the next pass promotes it.
fn heal<T>(subject: &Subject<'_>, known: Known, why: &str) -> Settled<T> {
    let mut next = subject.next_record();
    let (dead, token) = (subject.token, known.fingerprint);
    next.unaccounted.extend(super::lost::in_flight(subject));
    next.end_rotation();
    next.retirees.retain(|retiree| retiree.fingerprint != token);
    next.retire(dead);
    make_current(&mut next, known);
    subject.commit(next, CommitKind::Healing, format!("token {dead} is dead ({why}); token {token} takes its place"))
}
