//! Mints whose token nobody holds: counted until they must have ended (I2).

use jiff::SignedDuration;

use super::super::evidence::AttemptState;
use super::super::record::{Backoff, Rotation, Stage, Unaccounted};
use super::super::schedule::scaled;
use super::super::time::later;
use super::mint::remaining;
use super::{CommitKind, Settled, Subject};

/// Spacing of mints after one was lost.
const LOST_SPACING: SignedDuration = SignedDuration::from_mins(15);
/// Lost mints in one rotation after which people are told and the spacing grows.
pub(super) const LOST_TOLERATED: usize = 3;

/// The token that the open attempt may have minted and that is nowhere to be seen. Whoever ends the rotation for another reason has to
/// count it: the process that asked may have died, or may never get its answer.
pub(super) fn in_flight(subject: &Subject<'_>) -> Option<Unaccounted> {
    let Subject { evidence, store, record, .. } = *subject;
    let rotation = record.rotation.as_ref().filter(|rotation| rotation.stage == Stage::Intent)?;
    let staged = (0..=rotation.renderings).map(|rendering| rotation.slot(&store.identity, rotation.attempt, rendering));
    let seen = staged.into_iter().any(|slot| store.staged.contains(&slot) || *subject.slot == slot);
    let ours = |id: &str, attempt| id == rotation.id && attempt == rotation.attempt;
    let kept = evidence.captured.as_ref().is_some_and(|captured| ours(&captured.rotation, captured.attempt) && captured.token.is_ok());
    let mine = evidence.attempt.as_ref().filter(|mine| ours(&mine.rotation, mine.number)).map(|mine| &mine.state);
    let unsent = match mine {
        Some(AttemptState::NotSent(_) | AttemptState::Refused(_)) => true,
        Some(AttemptState::Unknown(_) | AttemptState::Answered) => false,
        None => rotation.by == evidence.writer,
    };
    let why = match mine {
        Some(AttemptState::Unknown(fault)) => fault.what.as_str(),
        Some(AttemptState::NotSent(_) | AttemptState::Refused(_) | AttemptState::Answered) | None => {
            "its rotation ended for another reason while it was under way"
        }
    };
    (!seen && !kept && !unsent).then(|| unaccounted(subject, rotation, why))
}

/// Letters of a reason that a record keeps: it is read by people, and the store's limit is for all of the record.
const WHY_MAX: usize = 300;

/// A reason, as far as a record keeps it.
pub(super) fn brief(why: &str) -> String {
    why.chars().take(WHY_MAX).collect()
}

fn unaccounted(subject: &Subject<'_>, rotation: &Rotation, why: &str) -> Unaccounted {
    let (now, life) = (subject.evidence.clock.provider_now(), subject.life);
    Unaccounted {
        rotation: rotation.id.clone(),
        attempt: rotation.attempt,
        since: now,
        // Whatever was minted lives as long as the old one did from its birth, plus a little for clocks.
        bound: later(now, life.saturating_add(scaled(SignedDuration::from_hours(1), life))),
        why: brief(why),
    }
}

/// The attempt may have minted a token that nobody holds: it is counted until it must have ended.
pub(super) fn lost(subject: &Subject<'_>, rotation: &Rotation, why: &str) -> Settled {
    let Subject { evidence, record, life, .. } = *subject;
    let now = evidence.clock.provider_now();
    let mut next = subject.next_record();
    let lost = record.unaccounted.iter().filter(|row| row.rotation == rotation.id).count() + 1;
    let left = remaining(subject);
    let spacing = if lost >= LOST_TOLERATED && left > life / 8 { left / 4 } else { scaled(LOST_SPACING, life) };
    next.backoff = Some(Backoff {
        count: record.backoff.as_ref().map_or(0, |pause| pause.count).saturating_add(1),
        not_before: later(now, spacing),
        why: why.to_owned(),
    });
    next.unaccounted.push(unaccounted(subject, rotation, why));
    if let Some(rotation) = next.rotation.as_mut() {
        rotation.stage = Stage::Between;
    }
    subject.commit(next, CommitKind::AttemptUnknown, why.to_owned())
}
