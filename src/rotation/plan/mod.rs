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
use super::record::{Known, Record};
use super::revoke_gate::{Gate, Victim};
use super::schedule::{USUAL_LIFE, backoff, scaled};
use super::slot::SlotId;
use super::time::Boot;
use super::token::Fingerprint;

mod current;
mod entry;
mod mint;
mod publish;
mod rest;
mod retire;
#[cfg(test)]
mod tests;

/// What to do next about one token.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Find something out.
    Look(Look),
    /// Change something.
    Do(Effect),
    /// Nothing to do before `until`; what it waits for passes by itself.
    Wait {
        /// When to ask again.
        until: Boot,
        /// What it waits for.
        why: Reason,
    },
    /// Nothing to do until a person or a third party acts; looked at again at `again` all the same.
    Hold {
        /// When to ask again.
        again: Boot,
        /// What stands in the way and who ends it.
        why: Reason,
    },
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// Everything of the entry.
    Store,
    /// Only what consumers read.
    Current,
    /// What a slot holds.
    Slot(SlotId),
    /// What the provider says of a token.
    Introspect(Fingerprint),
    /// Whether a token works for a call of its own.
    Call(Fingerprint),
    /// What a sink holds.
    Sink(String),
}

/// A change. Each has three outcomes: done, not done, unknown.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Prove that a put beside the current value leaves the current value alone.
    ProveBeside,
    /// Write the next record.
    Commit {
        /// The whole next record.
        record: Box<Record>,
        /// What the commit says, for log and ledger.
        kind: CommitKind,
        /// What people should know of it.
        detail: String,
        /// Whether it must be read back before it counts.
        read_back: bool,
    },
    /// Mint a new token from the current one. The only effect that is not idempotent.
    Refresh {
        /// The rotation that it is for.
        rotation: String,
        /// The attempt that it is for.
        attempt: u32,
        /// The token to mint from.
        base: Fingerprint,
    },
    /// Put a token beside the current one.
    Stage {
        /// Under which name.
        slot: SlotId,
        /// Which token (held by this process).
        token: Fingerprint,
    },
    /// Forget the captured token, which is safe in the store (or was never one).
    DropCaptured,
    /// Mark a slot as on its way out.
    MarkRetiring {
        /// Which.
        slot: SlotId,
    },
    /// Make a slot current.
    Promote {
        /// What must be current for this to happen.
        from: SlotId,
        /// What becomes current.
        to: SlotId,
        /// The token in it.
        token: Fingerprint,
    },
    /// Write the current payload to a sink.
    PublishSink {
        /// Which.
        sink: String,
        /// The slot seen in it.
        expected: Option<SlotId>,
        /// The token that it gets.
        token: Fingerprint,
    },
    /// Take a mark off a slot.
    Unmark {
        /// Which.
        slot: SlotId,
        /// Whether it is the retiring mark (else the staged one).
        retiring: bool,
    },
    /// Revoke a token. Issued only by [`retire`], only with an open gate.
    Revoke {
        /// Whom.
        victim: Victim,
        /// The new token, which calls.
        caller: Fingerprint,
        /// The evidence.
        gate: Gate,
    },
    /// Open the fleet's breaker.
    OpenBreaker {
        /// Why.
        why: String,
    },
}

impl Effect {
    /// What its troubles are counted under: the name, and for a sink which one.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::PublishSink { sink, .. } => format!("publish {sink}"),
            Self::Commit { .. }
            | Self::ProveBeside
            | Self::Refresh { .. }
            | Self::Stage { .. }
            | Self::DropCaptured
            | Self::MarkRetiring { .. }
            | Self::Promote { .. }
            | Self::Unmark { .. }
            | Self::Revoke { .. }
            | Self::OpenBreaker { .. } => self.name().to_owned(),
        }
    }

    /// The stable name, for logs and metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::ProveBeside => "prove",
            Self::Commit { .. } => "record",
            Self::Refresh { .. } => "refresh",
            Self::Stage { .. } => "stage",
            Self::DropCaptured => "drop_captured",
            Self::MarkRetiring { .. } => "mark_retiring",
            Self::Promote { .. } => "promote",
            Self::PublishSink { .. } => "publish",
            Self::Unmark { .. } => "unmark",
            Self::Revoke { .. } => "revoke",
            Self::OpenBreaker { .. } => "open_breaker",
        }
    }
}

/// What a commit says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitKind {
    /// The entry's token is taken over.
    Adopted,
    /// Somebody else's token, found current, is taken over.
    ForeignAdopted,
    /// The same token stands in a new slot.
    Rebased,
    /// A mint is about to be tried.
    Intent,
    /// The mint was refused: nothing was minted.
    AttemptRefused,
    /// The mint may have happened and its token is lost.
    AttemptUnknown,
    /// The provider returned the same token again.
    Extended,
    /// The new token failed verification.
    Quarantined,
    /// A token that we hold and do not need waits to be revoked.
    Surplus,
    /// A place is about to be written again: the window starts anew.
    Unpublished,
    /// Every place holds the current token: the window starts.
    Published,
    /// The old token may be revoked from now on.
    Revoking,
    /// The old token is dead by our revoke, or was found dead.
    Revoked,
    /// The old token ended by itself.
    Expired,
    /// A living token is made current in place of a dead one.
    Healing,
    /// Too many others write the entry.
    Frozen,
    /// A person's command.
    Command,
    /// A row about a lost token came to its end.
    Accounted,
}

/// Why nothing is done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The stable name of the condition.
    pub code: &'static str,
    /// What is the case, one sentence for people.
    pub text: String,
    /// What a person can do about it.
    pub remedy: Option<String>,
    /// How bad it is.
    pub severity: Severity,
}

/// How bad a condition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As planned.
    Calm,
    /// A person should look.
    Attention,
    /// Consumers fail or will soon.
    Critical,
}

impl Reason {
    /// Something that is as planned.
    #[must_use]
    pub fn calm(code: &'static str, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), remedy: None, severity: Severity::Calm }
    }

    /// Something that a person should look at.
    #[must_use]
    pub fn attention(code: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { code, text: text.into(), remedy: Some(remedy.into()), severity: Severity::Attention }
    }

    /// Something that hurts now.
    #[must_use]
    pub fn critical(code: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { code, text: text.into(), remedy: Some(remedy.into()), severity: Severity::Critical }
    }
}

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
    let (base, cap) = if trouble.fault.class.passes_by_itself() { (1, 300) } else { (30, 900) };
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

/// The life that durations scale by: the current token's, by the record; the usual one before there is a record.
fn life_of(record: Option<&Record>) -> SignedDuration {
    record.map_or(USUAL_LIFE, |record| record.current.life())
}

/// How often what should not change is looked at.
fn audit(policy: &Policy, life: SignedDuration) -> SignedDuration {
    scaled(policy.audit_interval, life)
}

/// Marks a change of what is current in the record.
fn make_current(record: &mut Record, known: Known) {
    record.epoch += 1;
    record.current = known;
    record.published = None;
}
