//! Decide: from what is known to the one next step.
//!
//! [`plan`] is a chain of rules in a fixed order; the first that has something to say settles the step. A rule that needs to know
//! more asks for a look; a rule that is content falls through to the next. Nothing is carried over between calls: after each step
//! the daemon looks again and asks again, so a crash between any two steps is the same as no crash.
//!
//! 1. [`entry`]: can the entry be seen, may it be managed, is it adopted?
//! 2. [`current`]: is what consumers read what we think it is, or did somebody change it?
//! 3. [`mint`]: a rotation on its way from the intent to the promotion.
//! 4. [`publish`]: does every place hold the current token?
//! 5. [`retire`]: is there an old token to revoke?
//! 6. [`rest`]: tidy up, look at the current token's health, start the next rotation when it is due, else wait.

use jiff::SignedDuration;

use super::evidence::{Channel, Content, Evidence, StoreEvidence, Trouble};
use super::policy::Policy;
use super::record::{Known, Record, Stage};
use super::schedule::{USUAL_LIFE, backoff, scaled};
use super::slot::SlotId;
use super::time::Boot;
use super::token::Fingerprint;

mod current;
mod entry;
mod lost;
mod mint;
mod publish;
mod rest;
mod retire;
mod step;
#[cfg(test)]
mod tests;

pub use step::{CommitKind, Effect, Look, Reason, Severity, Step};

/// The next step for a token.
#[must_use]
pub fn plan(evidence: &Evidence, policy: &Policy) -> Step {
    match decide(evidence, policy) {
        Err(step) => *step,
        // The last rule always settles; if it ever did not, looking again later is the harmless answer.
        Ok(()) => Step::Wait { until: evidence.clock.boot.plus(policy.tick), why: Reason::calm("idle", "nothing to do") },
    }
}

/// `Ok`: this rule has nothing to say. `Err`: the step is settled.
type Settled<T = ()> = Result<T, Box<Step>>;

fn decide(evidence: &Evidence, policy: &Policy) -> Settled {
    let store = entry::seen(evidence, policy)?;
    let record = entry::managed(evidence, policy, store)?;
    let subject = current::trusted(evidence, policy, store, record)?;
    mint::advance(&subject)?;
    // A sink that is down and a gate that never opens must not keep the next refresh from happening: both only add to what is
    // waited for.
    let mut pending = publish::ensure(&subject)?;
    if pending.is_empty() {
        pending.extend(retire::advance(&subject)?);
    }
    rest::settle(&subject, pending)
}

/// Something that is waited for while other things go on.
struct Pending {
    until: Boot,
    why: Reason,
}

/// A token whose entry is ours and whose current token is the recorded one (or the one just promoted).
struct Subject<'a> {
    evidence: &'a Evidence,
    policy: &'a Policy,
    store: &'a StoreEvidence,
    record: &'a Record,
    /// The slot that consumers read.
    slot: &'a SlotId,
    /// What is in it.
    content: &'a Content,
    /// The token in it.
    token: Fingerprint,
    /// The life that durations scale by.
    life: SignedDuration,
}

impl Subject<'_> {
    /// The slots that attempts of the open rotation use, the earliest first.
    fn rotation_slots(&self) -> Vec<SlotId> {
        rotation_slots(self.store, self.record)
    }

    /// The successor of this record, signed by this process.
    fn next_record(&self) -> Record {
        self.record.next(&self.evidence.writer)
    }

    fn commit<T>(&self, record: Record, kind: CommitKind, detail: impl Into<String>) -> Settled<T> {
        commit(self.evidence, self.life, record, kind, detail)
    }
}

/// The slots that attempts of the open rotation use, the earliest first, as rendered last.
fn rotation_slots(store: &StoreEvidence, record: &Record) -> Vec<SlotId> {
    let Some(rotation) = &record.rotation else { return Vec::new() };
    (1..=rotation.attempt).map(|attempt| rotation.slot(&store.identity, attempt, rotation.renderings)).collect()
}

fn commit<T>(evidence: &Evidence, life: SignedDuration, record: Record, kind: CommitKind, detail: impl Into<String>) -> Settled<T> {
    let read_back = kind == CommitKind::Intent;
    act(evidence, life, Effect::Commit { record: Box::new(record), kind, detail: detail.into(), read_back })
}

/// Settles on an effect, spaced by the troubles that this kind of effect had.
fn act<T>(evidence: &Evidence, life: SignedDuration, effect: Effect) -> Settled<T> {
    let key = effect.key();
    if let Some(trouble) = evidence.effects.get(&key) {
        rest_after(evidence, life, trouble, &key)?;
    }
    Err(Box::new(Step::Do(effect)))
}

/// Asks for a look unless its answer is there and was asked for at `since` or later; spaced by the troubles that it had.
fn ask<'a, T>(evidence: &Evidence, life: SignedDuration, channel: Option<&'a Channel<T>>, since: Boot, look: Look) -> Settled<&'a T> {
    if let Some(value) = channel.and_then(|channel| channel.value_since(since)) {
        return Ok(value);
    }
    if let Some(trouble) = channel.and_then(|channel| channel.trouble.as_ref()) {
        let what = match &look {
            Look::Store | Look::Current | Look::Slot(_) => "store",
            Look::Introspect(_) | Look::Call(_) => "provider",
            Look::Sink(_) => "sink",
        };
        rest_after(evidence, life, trouble, what)?;
    }
    Err(Box::new(Step::Look(look)))
}

/// Waits while a trouble is too fresh to try again.
fn rest_after(evidence: &Evidence, life: SignedDuration, trouble: &Trouble, what: &str) -> Settled {
    let until = trouble.at.plus(pause(trouble, life, what));
    if until <= evidence.clock.boot {
        return Ok(());
    }
    let text = format!("{what}: {} (try {} failed)", trouble.fault.what, trouble.count);
    let why = if trouble.fault.class.passes_by_itself() && trouble.count < TRIES_BEFORE_ATTENTION {
        Reason::calm("retrying", text)
    } else {
        Reason::attention("failing", text, remedy(trouble))
    };
    Err(Box::new(Step::Wait { until, why }))
}

/// Failures in a row that are nobody's business yet.
const TRIES_BEFORE_ATTENTION: u32 = 5;

/// How long to wait after a failure: what the other side asked for, else doubling from a second (half a minute for what does not
/// pass by itself), scaled to the life.
fn pause(trouble: &Trouble, life: SignedDuration, what: &str) -> SignedDuration {
    if let Some(asked) = trouble.fault.wait {
        return asked.min(SignedDuration::from_hours(6));
    }
    // A store's throttle is over in a second or so; one of the provider counts calls by the hour.
    let throttled = trouble.fault.class == super::fault::FaultClass::Throttled && matches!(what, "provider" | "refresh" | "revoke");
    let (base, cap) = match trouble.fault.class.passes_by_itself() {
        _ if throttled => (900, 900),
        true => (1, 300),
        false => (30, 900),
    };
    let fit = |seconds| scaled(SignedDuration::from_secs(seconds), life);
    backoff(fit(base), fit(cap), trouble.count, &[what])
}

fn remedy(trouble: &Trouble) -> &'static str {
    use super::fault::FaultClass as Class;
    match trouble.fault.class {
        Class::Unreachable | Class::Transient => "nothing: it is tried again; check the network if it lasts",
        Class::Throttled => "nothing: it is tried again when the other side allows it",
        Class::TokenDead => "see `evertoken explain`",
        Class::AppCredential => "check the app's id and secret and its settings; no token of it is touched meanwhile",
        Class::Permission => "give the app or the system user the missing permission",
        Class::Policy => "a person must lift the block in Meta's business settings; the token is not dead",
        Class::BadRequest => "check graph_version and the configured ids",
        Class::Denied => "check credentials and permissions of the store: `evertoken check`",
        Class::Missing => "check the entry's name; `evertoken adopt --create` makes it",
        Class::Limit => "free the store's limit that is named",
    }
}

fn hold<T>(evidence: &Evidence, again: SignedDuration, why: Reason) -> Settled<T> {
    Err(Box::new(Step::Hold { again: evidence.clock.boot.plus(again), why }))
}

fn wait<T>(until: Boot, why: Reason) -> Settled<T> {
    Err(Box::new(Step::Wait { until, why }))
}

/// The life that durations scale by: the current token's, by the record; before there is one, by what the provider said of the entry's
/// token; else the usual one.
fn life_of(evidence: &Evidence) -> SignedDuration {
    let seen = || {
        let token = evidence.store.value()?.current.as_ref()?.1.token()?;
        let look = &evidence.look(token)?.value.introspection;
        let issued = look.issued_at?;
        Some(look.expires?.at()?.duration_since(issued)).filter(SignedDuration::is_positive)
    };
    evidence.record().map(|record| record.current.life()).or_else(seen).unwrap_or(USUAL_LIFE)
}

/// How often what should not change is looked at.
fn audit(policy: &Policy, life: SignedDuration) -> SignedDuration {
    scaled(policy.audit_interval, life)
}

/// Marks a change of what is current in the record.
fn make_current(record: &mut Record, known: Known) {
    record.epoch += 1;
    record.current = known;
    start_window_anew(record);
}

/// A place is about to be written, or what is current has changed: consumers get a whole window again, and whatever was said to be
/// ready for its revoke is not any more.
fn start_window_anew(record: &mut Record) {
    record.published = None;
    if let Some(rotation) = record.rotation.as_mut().filter(|rotation| rotation.stage == Stage::Revoking) {
        rotation.stage = Stage::Published;
    }
    record.retirees.iter_mut().for_each(|retiree| retiree.revoking = false);
}
