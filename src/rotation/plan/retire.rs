//! The old token's end: window, tombstone, a second full look, the gate, the one revoke, and the proof that it worked.
//!
//! [`Effect::Revoke`] is made here and nowhere else.

use jiff::SignedDuration;

use super::super::fault::FaultClass;
use super::super::record::Stage;
use super::super::revoke_gate::{Victim, evaluate, fresh_since, victim, window_ends};
use super::super::schedule::{fitted, scaled};
use super::super::time::{Boot, later, whole};
use super::super::token::Expiry;
use super::{CommitKind, Effect, Look, Pending, Reason, Settled, Step, Subject, act, ask};

/// How long a revoke may take to show.
const PROOF_WITHIN: SignedDuration = SignedDuration::from_mins(2);
/// Looks for the proof within that time.
const PROOF_LOOKS: i32 = 5;
/// Revokes without effect after which people are told.
const TRIES_TOLERATED: u32 = 3;

/// Takes the next victim one step towards its end; or says what is waited for.
pub(super) fn advance(subject: &Subject<'_>) -> Settled<Option<Pending>> {
    let Subject { evidence, record, .. } = *subject;
    let Some(victim) = victim(record, subject.slot) else { return Ok(None) };
    if record.published.is_none() {
        return Ok(None);
    }
    if ended_by_itself(subject, &victim) {
        return end(subject, &victim, CommitKind::Expired, "the old token ended by itself");
    }
    let tried = evidence.revoke.as_ref().filter(|tried| tried.victim == victim.fingerprint);
    if let Some(tried) = tried
        && let Some(pending) = prove(subject, &victim, tried.at, tried.count)?
    {
        return Ok(Some(pending));
    }
    if victim.revoking { revoke(subject, &victim, tried.map_or(0, |tried| tried.count)) } else { propagate(subject, &victim) }
}

/// By the provider's own clock, with a margin for clocks that are cut to whole seconds.
fn ended_by_itself(subject: &Subject<'_>, victim: &Victim) -> bool {
    let margin = scaled(SignedDuration::from_mins(5), subject.life).max(SignedDuration::from_secs(1));
    let now = subject.evidence.clock.provider.map(|_| subject.evidence.clock.provider_now());
    match (victim.expires, now) {
        (Some(Expiry::At(at)), Some(now)) => now > later(at, margin),
        _ => false,
    }
}

/// Waits for the window, then for the gates, then writes the tombstone.
fn propagate(subject: &Subject<'_>, victim: &Victim) -> Settled<Option<Pending>> {
    let Subject { evidence, policy, record, life, .. } = *subject;
    let Some(ends) = window_ends(policy, record, victim) else { return Ok(None) };
    let over = evidence.clock.boot_at(ends);
    if evidence.clock.boot < over {
        let text = if victim.was_current {
            format!("consumers move to token {}; the window ends {}", record.current.fingerprint, whole(ends))
        } else {
            format!("token {}, which no consumer was given, waits to be revoked, not before {}", victim.fingerprint, whole(ends))
        };
        return Ok(Some(Pending { until: over, why: Reason::calm("propagating", text) }));
    }
    let token = record.current.fingerprint;
    let called = ask(evidence, life, evidence.calls.get(&token), Boot::ZERO, Look::Call(token))?;
    let gate = evaluate(evidence, policy, record, victim);
    // These do not depend on a fresh look; while one of them is closed no tombstone is written and no question asked.
    let closed = gate.conjuncts.iter().find(|conjunct| {
        !conjunct.holds && matches!(conjunct.name, "gates" | "breaker" | "not_held" | "cannot_return" | "not_business_integration")
    });
    if let Some(closed) = closed {
        let until = if closed.name == "breaker" && evidence.breaker.open.is_none() {
            evidence.breaker.not_before
        } else {
            evidence.clock.boot.plus(super::audit(policy, life))
        };
        return Ok(Some(Pending { until, why: held(closed.name, &closed.value, called.business_integration) }));
    }
    let looked = dated(subject, ends)?;
    if !looked.introspection.valid {
        return super::current::dead(subject);
    }
    let mut next = subject.next_record();
    if let Some(rotation) =
        next.rotation.as_mut().filter(|rotation| rotation.stage == Stage::Published && rotation.base.fingerprint == victim.fingerprint)
    {
        rotation.stage = Stage::Revoking;
    } else {
        next.retirees.iter_mut().filter(|retiree| retiree.fingerprint == victim.fingerprint).for_each(|retiree| retiree.revoking = true);
    }
    subject.commit(next, CommitKind::Revoking, format!("token {} may be revoked from now on", victim.fingerprint))
}

/// An answer of the provider about the current token whose `Date` is past the window. `Date` is cut to whole seconds, so the first
/// answer after the estimated end may still carry the second before it: then another is asked for a second later.
fn dated<'a>(subject: &Subject<'a>, ends: jiff::Timestamp) -> Settled<&'a super::super::evidence::Looked> {
    let Subject { evidence, record, life, .. } = *subject;
    let token = record.current.fingerprint;
    let channel = evidence.looks.get(&token);
    if let Some(looked) = channel.and_then(|channel| channel.value()).filter(|looked| looked.date.is_some_and(|date| date >= ends)) {
        return Ok(looked);
    }
    let again = channel.and_then(|channel| channel.seen.as_ref()).map_or(Boot::ZERO, |seen| seen.asked.plus(SignedDuration::from_secs(1)));
    if evidence.clock.boot < again {
        return super::wait(again, Reason::calm("propagating", format!("the window ends {} by the provider's clock", whole(ends))));
    }
    ask(evidence, life, channel, evidence.clock.boot, Look::Introspect(token))
}

/// What a closed conjunct means for people.
fn held(name: &'static str, value: &str, business_integration: bool) -> Reason {
    let text = format!("the old token is not revoked: {name}: {value}");
    match name {
        "gates" => {
            Reason::attention("gate_waiting", text, "make the named consumers reload; nothing breaks meanwhile, the old token still works")
        }
        "breaker" => Reason::attention("breaker", text, "find out why it opened, then `evertoken breaker close`"),
        "not_held" => Reason::attention("held", text, "`evertoken release`"),
        "cannot_return" => Reason::calm("surplus_waiting", text),
        _ if business_integration => Reason::attention(
            "business_integration",
            text,
            "tokens of Login for Business end when the client removes the app; nothing to do",
        ),
        _ => Reason::calm("revoke_waiting", text),
    }
}

/// When everything is looked at once more, after the record said that a token may be revoked.
pub(super) fn second_look(subject: &Subject<'_>) -> Boot {
    let Subject { policy, store, life, .. } = *subject;
    store.record_seen.plus(policy.tick.min(fitted(policy.window, life) / 8))
}

/// The tombstone stands: one more full look later, the gate decides.
fn revoke(subject: &Subject<'_>, victim: &Victim, tries: u32) -> Settled<Option<Pending>> {
    let Subject { evidence, policy, record, life, .. } = *subject;
    let from = second_look(subject);
    if evidence.clock.boot < from {
        return Ok(Some(Pending { until: from, why: Reason::calm("revoking", "everything is looked at once more before the revoke") }));
    }
    let since = fresh_since(evidence, record).max(from);
    // The record comes after the sinks: whoever repairs one says so in the record first, so that a sink that was found right because it
    // was just repaired is not taken for one that was right all along.
    ask(evidence, life, Some(&evidence.store), since.max(evidence.sinks_read().unwrap_or(Boot::ZERO)), Look::Store)?;
    let known = evidence.looks.get(&victim.fingerprint);
    if !evidence.held.contains(&victim.fingerprint) {
        let content = ask(evidence, life, evidence.slots.get(&victim.slot), since, Look::Slot(victim.slot.clone()))?;
        if !super::publish::holds(content.as_ref(), victim.fingerprint) {
            // Another rotator may have closed the book on it since the entry was looked at.
            let read = evidence.slots.get(&victim.slot).and_then(|slot| slot.seen.as_ref()).map(|seen| seen.asked);
            if read > evidence.store.seen.as_ref().map(|seen| seen.asked) {
                return Err(Box::new(Step::Look(Look::Store)));
            }
            let why = Reason::attention(
                "old_token_gone",
                "the old token's slot is gone, so it cannot be revoked; it ends by itself",
                "nothing, or revoke all tokens of the user in Meta's business settings, which kills the current one too",
            );
            return Ok(Some(Pending { until: evidence.clock.boot.plus(super::audit(policy, life)), why }));
        }
    }
    // After a restart it is not known whether the revoke was made already.
    let old = ask(evidence, life, known, Boot::ZERO, Look::Introspect(victim.fingerprint))?;
    if !old.introspection.valid {
        return end(subject, victim, CommitKind::Revoked, "the old token was found dead");
    }
    ask(evidence, life, evidence.looks.get(&record.current.fingerprint), since, Look::Introspect(record.current.fingerprint))?;
    ask(evidence, life, evidence.calls.get(&record.current.fingerprint), Boot::ZERO, Look::Call(record.current.fingerprint))?;
    let gate = evaluate(evidence, policy, record, victim);
    if let Some(closed) = gate.closed_by() {
        let why = held(closed.name, &closed.value, false);
        return Ok(Some(Pending { until: evidence.clock.boot.plus(scaled(SignedDuration::from_secs(60), life)), why }));
    }
    if tries > 0 {
        // The proof did not come in time: once more, at the pace of the bell.
        let again = evidence.revoke.as_ref().map_or(Boot::ZERO, |tried| tried.at).plus(policy.tick.max(scaled(PROOF_WITHIN, life)));
        if evidence.clock.boot < again {
            return Ok(Some(Pending { until: again, why: unproven(tries) }));
        }
    }
    act(evidence, life, Effect::Revoke { victim: victim.clone(), caller: record.current.fingerprint, gate })
}

/// Whether a revoke worked is decided by looking. `None`: it did not, within the time given.
fn prove(subject: &Subject<'_>, victim: &Victim, tried_at: Boot, tries: u32) -> Settled<Option<Pending>> {
    let Subject { evidence, store, record, life, .. } = *subject;
    let current = record.current.fingerprint;
    let looked = ask(evidence, life, evidence.looks.get(&current), tried_at, Look::Introspect(current))?;
    if !looked.introspection.valid {
        if evidence.breaker.open.is_none() {
            let why = format!("{}: the current token was dead after the old one was revoked", subject.policy.token);
            return act(evidence, life, Effect::OpenBreaker { why });
        }
        return super::current::dead(subject);
    }
    if dead(subject, victim, tried_at)? {
        if store.current_asked < tried_at {
            return Err(Box::new(Step::Look(Look::Current)));
        }
        return end(subject, victim, CommitKind::Revoked, "the old token is revoked");
    }
    let within = scaled(PROOF_WITHIN, life);
    if evidence.clock.boot >= tried_at.plus(within) {
        return Ok(None);
    }
    let last = evidence.look(victim.fingerprint).map_or(tried_at, |seen| seen.asked);
    let until = last.plus(within / PROOF_LOOKS);
    if evidence.clock.boot < until {
        return Ok(Some(Pending { until, why: unproven(tries) }));
    }
    Err(Box::new(Step::Look(Look::Introspect(victim.fingerprint))))
}

/// The composite proof of death: the app's own credential is healthy (the current token was just introspected with it), and the
/// old token introspects as dead or is refused when it is used.
fn dead(subject: &Subject<'_>, victim: &Victim, since: Boot) -> Settled<bool> {
    let Subject { evidence, life, .. } = *subject;
    let channel = evidence.looks.get(&victim.fingerprint);
    if let Some(trouble) = channel.and_then(|channel| channel.trouble.as_ref())
        && trouble.at >= since
        && matches!(trouble.fault.class, FaultClass::BadRequest | FaultClass::Permission | FaultClass::TokenDead)
    {
        // An answer without data proves nothing by itself.
        let called = ask(evidence, life, evidence.calls.get(&victim.fingerprint), since, Look::Call(victim.fingerprint))?;
        return Ok(called.outcome.as_ref().is_err_and(|fault| fault.class == FaultClass::TokenDead));
    }
    Ok(!ask(evidence, life, channel, since, Look::Introspect(victim.fingerprint))?.introspection.valid)
}

fn unproven(tries: u32) -> Reason {
    let text = format!("the old token still lives after {tries} revoke{}", if tries == 1 { "" } else { "s" });
    if tries < TRIES_TOLERATED {
        Reason::calm("revoke_unproven", text)
    } else {
        Reason::attention(
            "revoke_failing",
            text,
            "nothing breaks: it ends by itself; see `evertoken explain` for what the provider answers",
        )
    }
}

/// Closes the book on a victim.
fn end<T>(subject: &Subject<'_>, victim: &Victim, kind: CommitKind, detail: &str) -> Settled<T> {
    let mut next = subject.next_record();
    if next.rotation.as_ref().is_some_and(|rotation| rotation.base.fingerprint == victim.fingerprint) {
        next.end_rotation();
    }
    next.retirees.retain(|retiree| retiree.fingerprint != victim.fingerprint);
    next.retire(victim.fingerprint);
    subject.commit(next, kind, format!("{detail} ({})", victim.fingerprint))
}
