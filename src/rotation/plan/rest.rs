//! Tidy up, look after the current token's health, begin the next rotation when it is due, else wait.

use jiff::Timestamp;
use uuid::Uuid;

use super::super::record::{Retiree, RetireeKind, Rotation, Stage};
use super::super::schedule::{fraction, refresh_due, scaled};
use super::super::slot::{NAMESPACE, SlotId};
use super::super::time::{Boot, times, whole};
use super::super::token::Expiry;
use super::super::verify::identity;
use super::publish::{holds, surplus};
use super::{CommitKind, Effect, Look, Pending, Reason, Settled, Step, Subject, act, ask, audit, hold, make_current, mint};

/// The last rule: always settles.
pub(super) fn settle(subject: &Subject<'_>, pending: Vec<Pending>) -> Settled {
    if mint::open(subject).is_none() && subject.token == subject.record.current.fingerprint {
        strays(subject)?;
        marks(subject)?;
        accounts(subject)?;
    }
    health(subject)?;
    begin(subject, pending)
}

/// Staged tokens that no open rotation will promote: ended ones lose their mark, living ones wait to be revoked.
fn strays(subject: &Subject<'_>) -> Settled {
    let Subject { evidence, store, record, life, .. } = *subject;
    let stray = store.staged.iter().find(|slot| *slot != subject.slot && !record.retirees.iter().any(|retiree| retiree.slot == **slot));
    if let Some(slot) = stray {
        let content = ask(evidence, life, evidence.slots.get(slot), Boot::ZERO, Look::Slot(slot.clone()))?;
        let token = content.as_ref().and_then(super::Content::token);
        let Some(token) = token.filter(|token| !holds(Some(subject.content), *token) && !record.retired.contains(token)) else {
            return act(evidence, life, Effect::Unmark { slot: slot.clone(), retiring: false });
        };
        if record.rotation.as_ref().is_some_and(|rotation| rotation.base.fingerprint == token)
            || record.retirees.iter().any(|retiree| retiree.fingerprint == token)
        {
            return act(evidence, life, Effect::Unmark { slot: slot.clone(), retiring: false });
        }
        let mut next = subject.next_record();
        let against = staged_against(subject, slot).unwrap_or_else(|| subject.slot.clone());
        next.retirees.push(surplus(slot.clone(), token, evidence.clock.provider_now(), against));
        // It was counted as lost when its rotation ended before it was staged.
        next.unaccounted.retain(|row| SlotId::staged(&store.identity, &row.rotation, row.attempt) != *slot);
        return subject.commit(next, CommitKind::Surplus, format!("token {token} was minted and is not needed; it waits to be revoked"));
    }
    Ok(())
}

/// The slot that the rotation of a staged slot wanted to replace.
fn staged_against(subject: &Subject<'_>, slot: &SlotId) -> Option<SlotId> {
    let identity = &subject.store.identity;
    let open =
        subject.record.rotation.iter().map(|rotation| (rotation.id.as_str(), rotation.attempt, rotation.renderings, &rotation.base.slot));
    let past = subject.record.past.iter().map(|past| (past.id.as_str(), past.attempts, past.renderings, &past.base));
    open.chain(past)
        .find(|(id, attempts, renderings, _)| {
            (0..=*renderings).any(|rendering| {
                let name = if rendering == 0 { (*id).to_owned() } else { format!("{id}#{rendering}") };
                (1..=*attempts).any(|attempt| SlotId::staged(identity, &name, attempt) == *slot)
            })
        })
        .map(|(_, _, _, base)| base.clone())
}

/// Marks that have done their work.
fn marks(subject: &Subject<'_>) -> Settled {
    let Subject { evidence, store, record, life, .. } = *subject;
    let on_its_way_out = |slot: &SlotId| {
        record.rotation.as_ref().is_some_and(|rotation| rotation.base.slot == *slot)
            || record.retirees.iter().any(|retiree| retiree.slot == *slot)
    };
    if let Some(slot) = store.retiring.iter().find(|slot| !on_its_way_out(slot)) {
        return act(evidence, life, Effect::Unmark { slot: slot.clone(), retiring: true });
    }
    if record.rotation.is_none() && store.staged.contains(subject.slot) {
        return act(evidence, life, Effect::Unmark { slot: subject.slot.clone(), retiring: false });
    }
    // What waits must stay findable: a person's put may have taken our mark off the version that it displaced, or it never had one.
    let old = record.rotation.iter().filter(|rotation| matches!(rotation.stage, Stage::Published | Stage::Revoking));
    let old = old.map(|rotation| (&rotation.base.slot, false));
    let waiting = old.chain(record.retirees.iter().map(|retiree| (&retiree.slot, retiree.why == RetireeKind::Left)));
    // A slot never changes its content, but it can go; then a mark is refused, and what was read before says nothing any more.
    let since = evidence.effects.get("mark_retiring").map_or(Boot::ZERO, |trouble| trouble.at);
    for (slot, left) in waiting.filter(|(slot, _)| !store.staged.contains(*slot) && !store.retiring.contains(*slot)) {
        let held = ask(evidence, life, evidence.slots.get(slot), since, Look::Slot(slot.clone()))?;
        if held.is_some() {
            return act(evidence, life, Effect::MarkRetiring { slot: slot.clone() });
        }
        if left {
            let mut next = subject.next_record();
            next.retirees.retain(|retiree| retiree.slot != *slot);
            return subject.commit(
                next,
                CommitKind::Accounted,
                "a token that is not ours to revoke is in no slot any more; it ends by itself",
            );
        }
    }
    Ok(())
}

/// Tokens that may have been lost and have ended by now.
fn accounts(subject: &Subject<'_>) -> Settled {
    let Subject { evidence, record, .. } = *subject;
    let now = evidence.clock.provider_now();
    let over = |retiree: &Retiree| retiree.why == RetireeKind::Left && retiree.expires.and_then(Expiry::at).is_some_and(|at| at < now);
    let any = record.unaccounted.iter().any(|row| row.bound < now) || record.retirees.iter().any(over);
    if record.rotation.is_some() || evidence.clock.provider.is_none() || !any {
        return Ok(());
    }
    let mut next = subject.next_record();
    next.unaccounted.retain(|row| row.bound >= now);
    next.retirees.retain(|retiree| !over(retiree));
    let ended = record.unaccounted.len() + record.retirees.len() - next.unaccounted.len() - next.retirees.len();
    subject.commit(next, CommitKind::Accounted, format!("{ended} token(s) that nobody uses have ended for certain"))
}

/// The current token is looked at once an audit interval; the first time spread over the interval, so that a restart is no herd.
fn health(subject: &Subject<'_>) -> Settled {
    let Subject { evidence, policy, life, token, .. } = *subject;
    let every = audit(policy, life);
    let looked = match evidence.looks.get(&token).and_then(|channel| channel.seen.as_ref()) {
        None if evidence.clock.boot < first_audit(subject) => return Ok(()),
        None => ask(evidence, life, evidence.looks.get(&token), evidence.clock.boot.plus(-every), Look::Introspect(token))?,
        Some(seen) if evidence.clock.boot < seen.asked.plus(every) => &seen.value,
        Some(_) => ask(evidence, life, evidence.looks.get(&token), evidence.clock.boot.plus(-every), Look::Introspect(token))?,
    };
    if !looked.introspection.valid {
        return super::current::dead(subject);
    }
    if let Err(reasons) = identity(policy, &looked.introspection) {
        let remedy = "correct the configuration, or put a token of this app and system user into the entry";
        return hold(
            evidence,
            every,
            Reason::attention("wrong_identity", format!("the current token is not the configured one: {}", reasons.join("; ")), remedy),
        );
    }
    Ok(())
}

fn first_audit(subject: &Subject<'_>) -> Boot {
    subject.evidence.since.plus(times(audit(subject.policy, subject.life), fraction(&[&subject.policy.token, "first audit"])))
}

/// When the current token should be refreshed; `None` for one that never expires.
#[must_use]
pub(super) fn due(subject: &Subject<'_>) -> Option<Timestamp> {
    let current = &subject.record.current;
    let known = if subject.token == current.fingerprint { current.clone() } else { promoted(subject)? };
    match known.expires {
        Expiry::At(_) => Some(refresh_due(subject.policy, known.issued_at, known.life(), &known.fingerprint.whole())),
        Expiry::Never => None,
    }
}

/// What is known of a token that is current and not yet recorded so.
fn promoted(subject: &Subject<'_>) -> Option<super::Known> {
    let looked = subject.evidence.look(subject.token)?;
    Some(super::Known::from_look(subject.slot.clone(), subject.token, &looked.value.introspection, subject.evidence.clock.provider_now()))
}

/// Begins the next attempt when it is time, else waits.
fn begin(subject: &Subject<'_>, mut pending: Vec<Pending>) -> Settled {
    let Subject { evidence, policy, record, life, .. } = *subject;
    let every = audit(policy, life);
    let now = evidence.clock.provider_now();
    let boot = evidence.clock.boot;
    let next_audit = evidence.look(subject.token).map_or_else(|| first_audit(subject), |seen| seen.asked.plus(every));
    let next_store = evidence.store.seen.as_ref().map_or(boot, |seen| seen.asked.plus(every));

    let open = mint::open(subject);
    let not_before = record.backoff.as_ref().map_or(Timestamp::MIN, |pause| pause.not_before);
    let due = match (open, &record.request, due(subject)) {
        (Some(_), _, _) => Some(not_before),
        (None, Some(_), _) => Some(not_before),
        (None, None, due) => due.map(|due| due.max(not_before)),
    };
    if let Some(said) = record.hold.as_ref().or(record.frozen.as_ref()) {
        let left = mint::remaining(subject);
        let release = format!("`evertoken release {}`, when the reason is over; until then nothing is refreshed or revoked", policy.token);
        let text =
            format!("held since {}: {}; the token ends in {:#}", whole(said.at), said.why, jiff::SignedDuration::from_secs(left.as_secs()));
        let why = if left < life / 8 { Reason::critical("held", text, release) } else { Reason::attention("held", text, release) };
        return Err(Box::new(Step::Hold { again: next_audit.min(next_store).max(boot), why }));
    }
    if due.is_some_and(|due| due <= now) && (record.request.is_none() || record.current.expires != Expiry::Never) {
        if let Err(step) = start(subject) {
            match *step {
                Step::Wait { until, why } => pending.push(Pending { until, why }),
                Step::Hold { again, why } => pending.push(Pending { until: again, why }),
                step @ (Step::Look(_) | Step::Do(_)) => return Err(Box::new(step)),
            }
        }
    } else if pending.is_empty() {
        pending.push(Pending { until: due.map_or(Boot::FAR, |due| evidence.clock.boot_at(due)), why: waiting(subject, due) });
    } else if let Some(due) = due {
        pending.push(Pending { until: evidence.clock.boot_at(due), why: waiting(subject, Some(due)) });
    }
    let until = pending.iter().map(|pending| pending.until).chain([next_audit, next_store]).min().unwrap_or(next_store);
    // The worst of what is waited for is what people see; of equals the first, which is nearest to its end.
    pending.sort_by_key(|pending| std::cmp::Reverse(pending.why.severity));
    let why = pending.into_iter().next().map_or_else(|| Reason::calm("rest", "nothing to do"), |pending| pending.why);
    super::wait(until, why)
}

fn waiting(subject: &Subject<'_>, due: Option<Timestamp>) -> Reason {
    match (due, mint::open(subject), &subject.record.backoff) {
        (None, _, _) => Reason::attention(
            "never_expires",
            "the token never expires: it is watched, not rotated",
            "nothing, or put a token that expires into the entry: it is taken over at sight",
        ),
        (Some(due), Some(rotation), Some(pause)) => {
            let lost = subject.record.unaccounted.iter().filter(|row| row.rotation == rotation.id).count();
            let text = format!("the next mint is tried {}, after {}: {}", whole(due), failures(pause.count), pause.why);
            if lost >= super::lost::LOST_TOLERATED || pause.count >= 3 {
                Reason::attention("mint_failing", text, NEXT_TRY)
            } else {
                Reason::calm("mint_retrying", text)
            }
        }
        (Some(due), _, Some(pause)) if pause.not_before == due => Reason::attention(
            "mint_failing",
            format!("the next rotation begins {}, after {}: {}", whole(due), failures(pause.count), pause.why),
            NEXT_TRY,
        ),
        (Some(due), _, _) => Reason::calm("rest", format!("the next rotation begins {}", whole(due))),
    }
}

/// What a person can do about a mint that failed.
const NEXT_TRY: &str =
    "mend what the failure names, then `evertoken rotate` tries at once; else the next try comes by itself at the time given";

fn failures(count: u32) -> String {
    format!("{count} failure{}", if count == 1 { "" } else { "s" })
}

/// Commits the intent, once everything allows a mint.
fn start(subject: &Subject<'_>) -> Settled {
    let Subject { evidence, policy, record, store, life, .. } = *subject;
    let last_days = scaled(jiff::SignedDuration::from_hours(7 * 24), life).max(life / 8);
    if let Some(trouble) = &evidence.spool_trouble
        && mint::remaining(subject) > last_days
    {
        let remedy = "free or repair the state directory; the mint goes ahead without a spool only when the token is about to end";
        return hold(
            evidence,
            audit(policy, life),
            Reason::attention("spool", format!("the spool cannot take a token: {trouble}"), remedy),
        );
    }
    if evidence.mint_not_before > evidence.clock.boot {
        return super::wait(evidence.mint_not_before, Reason::calm("paced", "other tokens are refreshed first"));
    }
    // The store and the token are looked at before an intent is written.
    let since = evidence.clock.boot.plus(-audit(policy, life));
    let looked = ask(evidence, life, evidence.looks.get(&subject.token), since, Look::Introspect(subject.token))?;
    if looked.introspection.expires == Some(Expiry::Never) && record.current.expires == Expiry::Never {
        return Ok(());
    }
    if evidence
        .store
        .seen
        .as_ref()
        .is_none_or(|seen| seen.asked < evidence.clock.boot.plus(-scaled(super::super::revoke_gate::EVIDENCE_AGE, life)))
    {
        return Err(Box::new(Step::Look(Look::Store)));
    }
    let now = evidence.clock.provider_now();
    let mut next = subject.next_record();
    let number = next.number;
    if mint::open(subject).is_some() {
        if let Some(rotation) = next.rotation.as_mut() {
            rotation.attempt += 1;
            rotation.by.clone_from(&evidence.writer);
            rotation.stage = Stage::Intent;
        }
    } else {
        // The old token of a rotation whose gate never opened does not keep the next one from beginning.
        let unfinished = next.end_rotation().filter(|rotation| rotation.base.fingerprint != subject.token);
        next.retirees.extend(unfinished.map(|rotation| Retiree {
            slot: rotation.base.slot,
            fingerprint: rotation.base.fingerprint,
            why: RetireeKind::Replaced,
            since: now,
            expires: Some(rotation.base.expires),
            staged_against: None,
            revoking: rotation.stage == Stage::Revoking,
            rejected: None,
        }));
        if let Some(known) = promoted(subject).filter(|_| subject.token != record.current.fingerprint) {
            make_current(&mut next, known);
        }
        let why = if record.request.is_some() { "requested" } else { "due" };
        next.request = None;
        next.rotation = Some(Rotation {
            id: Uuid::new_v5(&NAMESPACE, format!("rotation\n{}\n{number}", store.identity).as_bytes()).to_string(),
            started_at: now,
            base: next.current.clone(),
            attempt: 1,
            by: evidence.writer.clone(),
            stage: Stage::Intent,
            why: why.to_owned(),
            renderings: 0,
        });
    }
    let attempt = next.rotation.as_ref().map_or(1, |rotation| rotation.attempt);
    subject.commit(next, CommitKind::Intent, format!("attempt {attempt}"))
}
