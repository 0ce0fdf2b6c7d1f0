//! A rotation from its intent to the promotion: reliability rules I2 (no unaccounted token) and I4 (same string back).

use jiff::SignedDuration;

use super::super::evidence::{AttemptState, Captured, Content};
use super::super::fault::{Fault, FaultClass};
use super::super::record::{Backoff, Known, Retiree, RetireeKind, Rotation, Stage};
use super::super::schedule::{backoff, scaled};
use super::super::slot::SlotId;
use super::super::time::{Boot, later, times, whole};
use super::super::token::{Expiry, Fingerprint};
use super::super::verify::{Verdict, identity, successor};
use super::lost::{brief, lost};
use super::{CommitKind, Effect, Look, Reason, Settled, Subject, act, ask, hold, rest_after, wait};

/// How long another process may take from its intent to a staged token before its attempt counts as lost.
const GRACE: SignedDuration = SignedDuration::from_secs(30);
/// How long the provider may take to accept a token that it has just made.
const LAG_TOLERATED: SignedDuration = SignedDuration::from_mins(10);
/// How long until a token that was not accepted is looked at again.
const LAG_SPACING: SignedDuration = SignedDuration::from_secs(10);

/// Takes an open rotation one step towards the promotion.
pub(super) fn advance(subject: &Subject<'_>) -> Settled {
    if let Some(captured) = &subject.evidence.captured {
        keep(subject, captured)?;
    }
    let Some(rotation) = open(subject) else { return Ok(()) };
    let slots = subject.rotation_slots();
    if let Some(slot) = slots.iter().find(|slot| subject.store.staged.contains(slot)) {
        return promote(subject, rotation, slot);
    }
    render_anew(subject, rotation)?;
    match rotation.stage {
        Stage::Intent => mint(subject, rotation),
        Stage::Between | Stage::Published | Stage::Revoking => Ok(()),
    }
}

/// The rotation that has not promoted yet.
pub(super) fn open<'a>(subject: &Subject<'a>) -> Option<&'a Rotation> {
    let rotation = subject.record.rotation.as_ref()?;
    (matches!(rotation.stage, Stage::Intent | Stage::Between) && subject.token == rotation.base.fingerprint).then_some(rotation)
}

/// A captured token goes into the store before anything else, whatever has become of its rotation.
fn keep(subject: &Subject<'_>, captured: &Captured) -> Settled {
    let Subject { evidence, store, record, life, .. } = *subject;
    let ours = open(subject)
        .filter(|rotation| rotation.stage == Stage::Intent && rotation.id == captured.rotation && rotation.attempt == captured.attempt);
    let token = match (&captured.token, ours) {
        (Ok(token), _) => *token,
        (Err(why), Some(rotation)) => return lost(subject, rotation, &format!("the answer held no usable token: {why}")),
        (Err(_), None) => return act(evidence, life, Effect::DropCaptured),
    };
    let slot = ours.map_or_else(
        || SlotId::staged(&store.identity, &captured.rotation, captured.attempt),
        |rotation| rotation.slot(&store.identity, rotation.attempt, rotation.renderings),
    );
    if store.staged.contains(&slot) || *subject.slot == slot {
        let content = ask(evidence, life, evidence.slots.get(&slot), Boot::ZERO, Look::Slot(slot.clone()))?;
        if content.as_ref().and_then(Content::token) == Some(token) {
            return act(evidence, life, Effect::DropCaptured);
        }
        return occupied(subject, &slot);
    }
    if token == record.current.fingerprint {
        return ours.map_or_else(|| act(evidence, life, Effect::DropCaptured), |rotation| extended(subject, rotation));
    }
    if record.retired.contains(&token) || record.retirees.iter().any(|retiree| retiree.fingerprint == token) {
        let why = format!("the provider returned token {token}, which was replaced before");
        return ours.map_or_else(
            || act(evidence, life, Effect::DropCaptured),
            |rotation| refused(subject, rotation, &why, SignedDuration::from_hours(1)),
        );
    }
    act(evidence, life, Effect::Stage { slot, token })
}

fn occupied<T>(subject: &Subject<'_>, slot: &SlotId) -> Settled<T> {
    let text = format!("somebody wrote something else under our slot {slot}; nothing is promoted from it");
    let remedy = "find out who writes versions of this secret, remove that version's label, then `evertoken release`";
    hold(subject.evidence, super::audit(subject.policy, subject.life), Reason::attention("slot_occupied", text, remedy))
}

/// The same string came back: the provider extended the token instead of making another. Nothing is staged, nothing is revoked.
fn extended(subject: &Subject<'_>, rotation: &Rotation) -> Settled {
    let Subject { evidence, record, life, .. } = *subject;
    let token = record.current.fingerprint;
    let fresh = evidence
        .clock
        .boot
        .plus(-scaled(super::super::revoke_gate::EVIDENCE_AGE, life))
        .max(evidence.store.seen.as_ref().map_or(Boot::ZERO, |seen| seen.asked));
    let looked = ask(evidence, life, evidence.looks.get(&token), fresh, Look::Introspect(token))?;
    let now = evidence.clock.provider_now();
    let mut next = subject.next_record();
    next.end_rotation();
    next.request = None;
    let before = record.current.expires;
    let after = looked.introspection.expires.unwrap_or(before);
    next.current = Known {
        slot: subject.slot.clone(),
        since: record.current.since,
        ..Known::from_look(subject.slot.clone(), token, &looked.introspection, now)
    };
    let detail = if after > before {
        // The life counts from the refresh, not from the token's birth, else the next one would be due at once.
        next.current.issued_at = now;
        next.backoff = None;
        format!("the provider returned the same token with a later end, {}", ends(after))
    } else {
        next.current.issued_at = record.current.issued_at;
        next.backoff =
            Some(pause(subject, rotation, "the provider returned the same token and the same end", SignedDuration::from_hours(1)));
        format!("the provider returned the same token and did not move its end, {}", ends(after))
    };
    subject.commit(next, CommitKind::Extended, detail)
}

fn ends(expires: Expiry) -> String {
    expires.at().map_or_else(|| "never".to_owned(), |at| whole(at).to_string())
}

/// A staged token is verified and promoted.
fn promote(subject: &Subject<'_>, rotation: &Rotation, slot: &SlotId) -> Settled {
    let Subject { evidence, policy, store, life, .. } = *subject;
    let content = ask(evidence, life, evidence.slots.get(slot), Boot::ZERO, Look::Slot(slot.clone()))?;
    let Some(token) = content.as_ref().and_then(Content::token).filter(|token| *token != rotation.base.fingerprint) else {
        return occupied(subject, slot);
    };
    // A verdict that may change is asked for again; one that was good stays good until the promotion, a moment later.
    let again = evidence.clock.boot.plus(-scaled(LAG_TOLERATED, life));
    let looked = ask(evidence, life, evidence.looks.get(&token), again, Look::Introspect(token))?;
    match successor(policy, &rotation.base, &looked.introspection, evidence.clock.provider_now()) {
        Verdict::Reject { reasons } => return quarantine(subject, rotation, slot, token, &reasons),
        Verdict::NotYet { why } => return lag(subject, rotation, slot, token, &why, looked.introspection.valid),
        Verdict::Accept { .. } => {}
    }
    let called = ask(evidence, life, evidence.calls.get(&token), again, Look::Call(token))?;
    match &called.outcome {
        Err(fault) => return lag(subject, rotation, slot, token, &format!("a call made with it is refused: {}", fault.what), false),
        Ok(Some(id)) if *id != policy.system_user_id => {
            return quarantine(
                subject,
                rotation,
                slot,
                token,
                &[format!("a call made with it speaks for {id}, expected {}", policy.system_user_id)],
            );
        }
        Ok(_) => {}
    }
    if !store.retiring.contains(subject.slot) {
        return act(evidence, life, Effect::MarkRetiring { slot: subject.slot.clone() });
    }
    act(evidence, life, Effect::Promote { from: subject.slot.clone(), to: slot.clone(), token })
}

/// The provider does not accept its new token yet: waits, and does not mint another meanwhile.
fn lag(subject: &Subject<'_>, rotation: &Rotation, slot: &SlotId, token: Fingerprint, why: &str, valid: bool) -> Settled {
    let Subject { evidence, store, life, .. } = *subject;
    let deadline = store.record_seen.plus(scaled(LAG_TOLERATED, life));
    if !valid && evidence.clock.boot >= deadline {
        return quarantine(subject, rotation, slot, token, &[why.to_owned()]);
    }
    let spacing = scaled(LAG_SPACING, life);
    let looked = evidence.look(token).map(|seen| seen.asked);
    let called = evidence.calls.get(&token).and_then(|call| call.seen.as_ref()).map(|seen| seen.asked);
    let latest = looked.max(called).unwrap_or(Boot::ZERO);
    // A verdict that depends on the old token's end is not worth a question every ten seconds.
    let until = latest.plus(if valid { super::audit(subject.policy, life) } else { spacing });
    if until > evidence.clock.boot {
        return wait(until, Reason::calm("not_accepted_yet", format!("token {token} is staged and waits: {why}")));
    }
    Err(Box::new(super::Step::Look(if looked <= called && !valid {
        Look::Introspect(token)
    } else if called.is_some() && looked > called {
        Look::Call(token)
    } else {
        Look::Introspect(token)
    })))
}

/// The new token is not fit: it is kept aside, to be revoked once it can never be promoted, and the next mint waits. One that does
/// not speak for our app and user is left to end by itself: it may be somebody's only token.
fn quarantine(subject: &Subject<'_>, rotation: &Rotation, slot: &SlotId, token: Fingerprint, reasons: &[String]) -> Settled {
    let now = subject.evidence.clock.provider_now();
    let why = if ours(subject, token) { RetireeKind::Quarantined } else { RetireeKind::Left };
    let ends = subject.evidence.look(token).and_then(|seen| seen.value.introspection.expires);
    // What is not revoked is forgotten at its end, so it needs one: whatever was minted lives no longer than the old one did.
    let bound = (why == RetireeKind::Left).then(|| Expiry::At(later(now, subject.life)));
    let mut next = subject.next_record();
    next.backoff = Some(pause(subject, rotation, &reasons.join("; "), SignedDuration::from_hours(1)));
    next.end_rotation();
    next.unaccounted.retain(|row| row.rotation != rotation.id || row.attempt != rotation.attempt);
    next.retirees.push(Retiree {
        slot: slot.clone(),
        fingerprint: token,
        why,
        since: now,
        expires: ends.or(bound),
        staged_against: Some(subject.slot.clone()),
        revoking: false,
        rejected: Some(brief(&reasons.join("; "))),
    });
    subject.commit(next, CommitKind::Quarantined, format!("token {token} is not fit to replace the current one: {}", reasons.join("; ")))
}

/// Whether a token is known to speak for our app and our user, and not known to speak for anybody else.
fn ours(subject: &Subject<'_>, token: Fingerprint) -> bool {
    let Subject { evidence, policy, .. } = *subject;
    let speaks_for = evidence.calls.get(&token).and_then(|call| call.seen.as_ref()).and_then(|seen| seen.value.outcome.as_ref().ok());
    evidence.look(token).is_some_and(|seen| identity(policy, &seen.value.introspection).is_ok())
        && speaks_for.and_then(Option::as_ref).is_none_or(|id| *id == policy.system_user_id)
}

/// Somebody changed another key of a JSON secret while a token was staged: the same token is staged again in the newer document.
fn render_anew(subject: &Subject<'_>, rotation: &Rotation) -> Settled {
    let Subject { evidence, store, life, .. } = *subject;
    for rendering in (0..rotation.renderings).rev() {
        for attempt in 1..=rotation.attempt {
            let old = rotation.slot(&store.identity, attempt, rendering);
            if !store.staged.contains(&old) {
                continue;
            }
            let content = ask(evidence, life, evidence.slots.get(&old), Boot::ZERO, Look::Slot(old.clone()))?;
            let Some(token) = content.as_ref().and_then(Content::token) else { continue };
            if !evidence.held.contains(&token) {
                return Err(Box::new(super::Step::Look(Look::Slot(old))));
            }
            return act(evidence, life, Effect::Stage { slot: rotation.slot(&store.identity, attempt, rotation.renderings), token });
        }
    }
    Ok(())
}

/// An intent without a token in sight.
fn mint(subject: &Subject<'_>, rotation: &Rotation) -> Settled {
    let Subject { evidence, store, record, life, .. } = *subject;
    let mine = evidence.attempt.as_ref().filter(|mine| mine.rotation == rotation.id && mine.number == rotation.attempt);
    let trouble = match mine.map(|mine| &mine.state) {
        Some(AttemptState::NotSent(trouble)) => trouble.as_ref(),
        // This very process committed the intent and lost the acknowledgement: it has sent nothing.
        None if rotation.by == evidence.writer => None,
        Some(AttemptState::Refused(fault)) => return refused(subject, rotation, &fault.what, refusal_pause(fault)),
        Some(AttemptState::Unknown(fault)) => return lost(subject, rotation, &fault.what),
        // Another process's attempt, or one from before a crash: whoever made it may still be about to stage.
        None | Some(AttemptState::Answered) => {
            let until = store.record_seen.plus(scaled(GRACE, life));
            if until > evidence.clock.boot {
                return wait(until, Reason::calm("attempt_elsewhere", "a mint may be under way in another process"));
            }
            if evidence.store.seen.as_ref().is_some_and(|seen| seen.asked < until) {
                return Err(Box::new(super::Step::Look(Look::Store)));
            }
            return lost(subject, rotation, "the process that asked ended before it had stored an answer");
        }
    };
    if let Some(said) = record.hold.as_ref().or(record.frozen.as_ref()) {
        return hold(
            evidence,
            super::audit(subject.policy, life),
            Reason::attention("held", format!("held: {}", said.why), "`evertoken release`"),
        );
    }
    if let Some(trouble) = trouble {
        rest_after(evidence, life, trouble, "refresh")?;
    }
    if evidence.mint_not_before > evidence.clock.boot {
        return wait(evidence.mint_not_before, Reason::calm("paced", "other tokens are refreshed first"));
    }
    let base = rotation.base.fingerprint;
    if !evidence.held.contains(&base) {
        return Err(Box::new(super::Step::Look(Look::Current)));
    }
    act(evidence, life, Effect::Refresh { rotation: rotation.id.clone(), attempt: rotation.attempt, base })
}

/// How long a refusal keeps the next mint away, before doubling.
fn refusal_pause(fault: &Fault) -> SignedDuration {
    let least = match fault.class {
        FaultClass::Throttled => SignedDuration::from_mins(15),
        FaultClass::Transient | FaultClass::Unreachable => SignedDuration::from_mins(1),
        FaultClass::TokenDead
        | FaultClass::AppCredential
        | FaultClass::Permission
        | FaultClass::Policy
        | FaultClass::BadRequest
        | FaultClass::Denied
        | FaultClass::Missing
        | FaultClass::Limit => SignedDuration::from_hours(1),
    };
    fault.wait.map_or(least, |wait| wait.max(least))
}

/// The attempt certainly minted nothing.
fn refused(subject: &Subject<'_>, rotation: &Rotation, why: &str, least: SignedDuration) -> Settled {
    let mut next = subject.next_record();
    next.backoff = Some(pause(subject, rotation, why, least));
    if let Some(rotation) = next.rotation.as_mut() {
        rotation.stage = Stage::Between;
    }
    subject.commit(next, CommitKind::AttemptRefused, why.to_owned())
}

/// The pause before the next mint: at least `least`, doubling with each failure in a row, never more than a quarter of what is left.
fn pause(subject: &Subject<'_>, rotation: &Rotation, why: &str, least: SignedDuration) -> Backoff {
    let count = subject.record.backoff.as_ref().map_or(0, |pause| pause.count).saturating_add(1);
    let base = scaled(least, subject.life);
    let cap = times(base, 32.0).min((remaining(subject) / 4).max(base));
    let wait = backoff(base, cap, count, &[&subject.policy.token, &rotation.id]);
    Backoff { count, not_before: later(subject.evidence.clock.provider_now(), wait), why: why.to_owned() }
}

/// What is left of the current token's life.
pub(super) fn remaining(subject: &Subject<'_>) -> SignedDuration {
    match subject.record.current.expires {
        Expiry::At(at) => at.duration_since(subject.evidence.clock.provider_now()).max(SignedDuration::ZERO),
        Expiry::Never => subject.life,
    }
}
