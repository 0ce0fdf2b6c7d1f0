//! Does every place hold the current token, and since when is that proven?

use super::super::evidence::{Evidence, SinkEvidence};
use super::super::fault::FaultClass;
use super::super::record::{Known, Published, Record, Retiree, RetireeKind, Stage};
use super::super::revoke_gate::{fresh_since, victim};
use super::super::schedule::scaled;
use super::super::slot::SlotId;
use super::super::time::{Boot, whole};
use super::super::token::Expiry;
use super::{
    CommitKind, Content, Effect, Look, Pending, Reason, Settled, Severity, Step, Subject, act, ask, make_current, start_window_anew,
};

/// Brings every sink to the current payload, then commits the proof. What cannot be done now is waited for beside everything else.
pub(super) fn ensure(subject: &Subject<'_>) -> Settled<Vec<Pending>> {
    let Subject { evidence, store, record, life, .. } = *subject;
    let mut pending = Vec::new();
    for sink in &evidence.sinks {
        match ensure_sink(subject, sink) {
            Ok(()) => {}
            Err(step) => match *step {
                // One sink in trouble does not keep the others waiting.
                Step::Wait { until, why } => pending.push(Pending { until, why: of_sink(subject, sink, why) }),
                Step::Hold { again, why } => pending.push(Pending { until: again, why }),
                step @ (Step::Look(_) | Step::Do(_)) => return Err(Box::new(step)),
            },
        }
    }
    let promoted = subject.token != record.current.fingerprint;
    let victims = record.rotation.as_ref().is_some_and(|rotation| rotation.stage == Stage::Published || rotation.stage == Stage::Revoking)
        || !record.retirees.is_empty();
    if !pending.is_empty() || !(promoted || (record.published.is_none() && victims)) {
        return Ok(pending);
    }
    // The window starts with the Date of an answer that was asked for after the last place was read back.
    let read_back = evidence.sinks_read().unwrap_or(Boot::ZERO).max(store.current_asked);
    let looked = ask(evidence, life, evidence.looks.get(&subject.token), read_back, Look::Introspect(subject.token))?;
    if !looked.introspection.valid {
        return super::current::dead(subject);
    }
    let Some(date) = looked.date else {
        let until = evidence.clock.boot.plus(scaled(jiff::SignedDuration::from_mins(1), life));
        let why = Reason::attention(
            "no_provider_date",
            "the provider's answers carry no Date: the window cannot start",
            "check what stands between here and Meta",
        );
        return super::wait(until, why);
    };
    let mut next = subject.next_record();
    if promoted {
        make_current(&mut next, Known::from_look(subject.slot.clone(), subject.token, &looked.introspection, date));
        // A mint that went through ends the count of those that did not.
        next.backoff = None;
        let slots = subject.rotation_slots();
        if let Some(rotation) = next.rotation.as_mut() {
            rotation.stage = Stage::Published;
            let used = slots.iter().position(|slot| slot == subject.slot).map_or(0, |place| u32::try_from(place).unwrap_or(0) + 1);
            let id = rotation.id.clone();
            next.unaccounted.retain(|row| row.rotation != id || row.attempt != used);
        }
    }
    next.published = Some(Published { fingerprint: subject.token, at: date });
    let places = match evidence.sinks.len() {
        0 => "its one place".to_owned(),
        sinks => format!("all {} places", sinks + 1),
    };
    subject.commit(next, CommitKind::Published, format!("token {} is in {places} since {}", subject.token, whole(date)))
}

/// From when on a sink must have been read: since the entry was; before a revoke since the second look began, which looks at the sinks
/// first and at the entry last.
fn read_since(subject: &Subject<'_>) -> Boot {
    let Subject { evidence, store, record, .. } = *subject;
    let from = super::retire::second_look(subject);
    if victim(record, subject.slot).is_some_and(|victim| victim.revoking) && evidence.clock.boot >= from {
        from.max(fresh_since(evidence, record))
    } else {
        store.current_asked
    }
}

/// A sink's trouble, for people: what its readers have meanwhile, and what waits for it.
fn of_sink(subject: &Subject<'_>, sink: &SinkEvidence, why: Reason) -> Reason {
    if why.severity == Severity::Calm {
        return why;
    }
    let Subject { evidence, record, .. } = *subject;
    let SinkEvidence { name, read } = sink;
    // What failed may also be the record that a write has to wait for.
    let Some(trouble) = evidence.sink_trouble(sink) else { return why };
    let held = match read.value() {
        None => "what its readers have is not known".to_owned(),
        Some(None) => "it holds nothing, so its readers find no token".to_owned(),
        Some(Some((_, content))) => match content.token() {
            None => "it holds something that is no token".to_owned(),
            Some(token) if token == subject.token => "it held the current token when it was last read".to_owned(),
            Some(token) => format!("its readers have token {token}, {}", fate(evidence, record, token)),
        },
    };
    let waits = subject.token != record.current.fingerprint || victim(record, subject.slot).is_some();
    let waits = if waits { "; the old token is not revoked until this sink holds the current one" } else { "" };
    let remedy = remedy(trouble.fault.class).map(str::to_owned).or(why.remedy);
    let verb = if read.trouble.is_some() { "read" } else { "written" };
    let text = format!("sink {name} cannot be {verb}: {} (try {} failed); {held}{waits}", trouble.fault.what, trouble.count);
    Reason { code: "sink_failing", text, remedy, severity: why.severity }
}

/// When a token that a sink still holds comes to its end.
fn fate(evidence: &Evidence, record: &Record, token: super::Fingerprint) -> String {
    if record.retired.contains(&token) {
        return "which is dead: their calls fail".to_owned();
    }
    match evidence.ends(token) {
        Some(Expiry::At(at)) => format!("which works until {}", whole(at)),
        Some(Expiry::Never) => "which has no end".to_owned(),
        None => "of which no end is known".to_owned(),
    }
}

/// What mends a sink, where that is another thing than for the store.
const fn remedy(class: FaultClass) -> Option<&'static str> {
    match class {
        FaultClass::Denied => Some(
            "give evertoken the right that the failure names (a file's mode or owner, an IAM or KMS permission; `evertoken check` lists \
             them); it is tried again by itself",
        ),
        FaultClass::Missing => {
            Some("create what is missing (evertoken makes no secret for a sink), or take the sink out of the configuration")
        }
        FaultClass::Unreachable
        | FaultClass::Transient
        | FaultClass::Throttled
        | FaultClass::TokenDead
        | FaultClass::AppCredential
        | FaultClass::Permission
        | FaultClass::Policy
        | FaultClass::BadRequest
        | FaultClass::Limit => None,
    }
}

fn ensure_sink(subject: &Subject<'_>, sink: &SinkEvidence) -> Settled {
    let Subject { evidence, store, record, life, .. } = *subject;
    let proven = record.published.as_ref().is_some_and(|published| published.fingerprint == subject.token);
    let equal = |held: &Option<(SlotId, Content)>| held.as_ref().map(|(_, content)| content.payload()) == Some(subject.content.payload());
    // That a place is right, or is wrong again, is said of what was read after the entry. One that is yet to be written may have been
    // read before: the write compares.
    let restarts = proven && (record.rotation.is_some() || !record.retirees.is_empty());
    let since = if restarts || sink.read.value().is_none_or(equal) { read_since(subject) } else { Boot::ZERO };
    let held = ask(evidence, life, Some(&sink.read), since, Look::Sink(sink.name.clone()))?;
    if equal(held) {
        return Ok(());
    }
    if !evidence.held.contains(&subject.token) {
        return Err(Box::new(Step::Look(Look::Current)));
    }
    // Whoever reads this place has not had the new token all along: the window has to start anew. That is committed before the
    // place is written, so that a crash between the two cannot shorten the window.
    if restarts {
        let mut next = subject.next_record();
        start_window_anew(&mut next);
        return subject.commit(
            next,
            CommitKind::Unpublished,
            format!("sink {} does not hold the current token: it is written again and the window starts anew", sink.name),
        );
    }
    // What the place holds may be a newer token, put there by another rotator since the entry was looked at. A write that compares with
    // it may only follow a look at the entry that came after it.
    if sink.read.seen.as_ref().is_some_and(|seen| seen.asked > store.current_asked) {
        return Err(Box::new(Step::Look(Look::Current)));
    }
    let expected = held.as_ref().map(|(slot, _)| slot.clone());
    act(evidence, life, Effect::PublishSink { sink: sink.name.clone(), expected, token: subject.token })
}

/// Makes a retiree of a rotation's other staged tokens: see [`super::rest`].
pub(super) fn surplus(slot: SlotId, token: super::Fingerprint, now: jiff::Timestamp, against: SlotId) -> Retiree {
    Retiree {
        slot,
        fingerprint: token,
        why: RetireeKind::Surplus,
        since: now,
        expires: None,
        staged_against: Some(against),
        revoking: false,
        rejected: None,
    }
}

/// Whether a slot holds this token.
pub(super) fn holds(content: Option<&Content>, token: super::Fingerprint) -> bool {
    content.and_then(Content::token) == Some(token)
}
