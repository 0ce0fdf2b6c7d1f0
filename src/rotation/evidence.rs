//! What is known at one instant: the argument of [`super::plan::plan`].
//!
//! Every piece carries when it was seen, on the steady clock, because some decisions accept old evidence (a schedule) and some do
//! not (a revoke: 60 s). A piece that is missing or too old is asked for with a `Look`; a piece that could not be had carries its
//! trouble, so that asking again is spaced.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::fault::Fault;
use super::record::{Record, RecordError};
use super::slot::SlotId;
use super::time::{Boot, Clock};
use super::token::{Expiry, Fingerprint, Introspection};

mod sinks;

pub use sinks::SinkEvidence;

/// Everything known about one token.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// All clocks.
    pub clock: Clock,
    /// The nonce of this process, which signs the records it writes.
    pub writer: String,
    /// When this process began to look after the token; first audits are spread from here.
    pub since: Boot,
    /// The entry in the store.
    pub store: Channel<StoreEvidence>,
    /// What the slots hold, as far as they were read. Slots never change their content.
    pub slots: BTreeMap<SlotId, Channel<Option<Content>>>,
    /// What the provider says of each token.
    pub looks: BTreeMap<Fingerprint, Channel<Looked>>,
    /// Whether a token works for a call of its own.
    pub calls: BTreeMap<Fingerprint, Channel<Called>>,
    /// The other places of the token, in configured order.
    pub sinks: Vec<SinkEvidence>,
    /// The token that was captured and is not yet known to be in the store.
    pub captured: Option<Captured>,
    /// A captured token that cannot be opened: kept, shown, never reused, and in the way of the next mint.
    pub spool_trouble: Option<String>,
    /// What this process knows of its own latest mint.
    pub attempt: Option<Attempt>,
    /// What this process knows of its own latest revoke.
    pub revoke: Option<RevokeTry>,
    /// The latest trouble of each kind of effect, until one of the kind succeeds.
    pub effects: BTreeMap<String, Trouble>,
    /// The acknowledgement gates, in configured order.
    pub gates: Vec<GateEvidence>,
    /// The fleet's revocation breaker, as it stands for this token now.
    pub breaker: BreakerEvidence,
    /// Not before this instant may the fleet mint another token.
    pub mint_not_before: Boot,
    /// A person asked, in this process, that the entry be adopted as it is.
    pub adopt: bool,
    /// This process proved that a put beside the current value leaves the current value alone.
    pub proven_beside: bool,
    /// Tokens whose text this process holds.
    pub held: std::collections::BTreeSet<Fingerprint>,
}

/// One thing that is looked at again and again. Both parts lie apart, because a map's node has room for eleven channels and a
/// token at rest uses one.
#[derive(Debug, Clone, PartialEq)]
pub struct Channel<T> {
    /// The latest answer.
    pub seen: Option<Box<Seen<T>>>,
    /// What failed since.
    pub trouble: Option<Box<Trouble>>,
}

impl<T> Default for Channel<T> {
    fn default() -> Self {
        Self { seen: None, trouble: None }
    }
}

/// An answer and when it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen<T> {
    /// The answer.
    pub value: T,
    /// When the question was asked: evidence is never younger than this.
    pub asked: Boot,
}

/// Failures in a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Trouble {
    /// How many.
    pub count: u32,
    /// When the latest was.
    pub at: Boot,
    /// The latest.
    pub fault: Fault,
}

impl<T> Channel<T> {
    /// The latest answer.
    pub fn value(&self) -> Option<&T> {
        self.seen.as_ref().map(|seen| &seen.value)
    }

    /// The latest answer, if it was asked for at `since` or later.
    pub fn value_since(&self, since: Boot) -> Option<&T> {
        self.seen.as_ref().filter(|seen| seen.asked >= since).map(|seen| &seen.value)
    }

    /// Takes an answer.
    pub fn answered(&mut self, value: T, asked: Boot) {
        self.seen = Some(Box::new(Seen { value, asked }));
        self.trouble = None;
    }

    /// Takes a failure. What was seen before stays: it was true when it was asked for.
    pub fn failed(&mut self, fault: Fault, at: Boot) {
        let count = self.trouble.as_ref().map_or(0, |trouble| trouble.count).saturating_add(1);
        self.trouble = Some(Box::new(Trouble { count, at, fault }));
    }
}

/// The entry, as the store shows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreEvidence {
    /// The entry's name for good.
    pub identity: String,
    /// Whether it is there and may be written.
    pub presence: Presence,
    /// What consumers read.
    pub current: Option<(SlotId, Content)>,
    /// When that was asked for; later than the rest where only this was looked at again.
    pub current_asked: Boot,
    /// Slots marked as on their way in.
    pub staged: Vec<SlotId>,
    /// Slots marked as on their way out.
    pub retiring: Vec<SlotId>,
    /// The highest record.
    pub record: Option<Result<Record, RecordError>>,
    /// The number of the highest record, readable or not.
    pub record_number: u64,
    /// When this process first saw that record, or committed it.
    pub record_seen: Boot,
    /// What else rotates the entry.
    pub foreign_rotation: Option<String>,
}

/// Whether an entry is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Presence {
    /// It is there.
    Present,
    /// It is not there.
    #[default]
    Absent,
    /// It is being deleted.
    Deleting,
}

/// A payload, as far as decisions need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// It holds a token.
    Token {
        /// Which.
        token: Fingerprint,
        /// The digest of the whole payload.
        payload: Fingerprint,
    },
    /// It holds none that could be found: why, without its text.
    Unreadable {
        /// What is wrong with it.
        why: String,
        /// The digest of the whole payload.
        payload: Fingerprint,
    },
}

impl Content {
    /// The token, where there is one.
    #[must_use]
    pub const fn token(&self) -> Option<Fingerprint> {
        match self {
            Self::Token { token, .. } => Some(*token),
            Self::Unreadable { .. } => None,
        }
    }

    /// The digest of the whole payload.
    #[must_use]
    pub const fn payload(&self) -> Fingerprint {
        match self {
            Self::Token { payload, .. } | Self::Unreadable { payload, .. } => *payload,
        }
    }
}

/// What `debug_token` said, and the provider's `Date` when it said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// What it said.
    pub introspection: Introspection,
    /// When, by the provider's clock.
    pub date: Option<Timestamp>,
}

/// What came of a call made with the token itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Called {
    /// It worked for the user with this id; or why the token is refused (only faults that say something about the token end here).
    pub outcome: Result<Option<String>, Fault>,
    /// The token belongs to Login for Business: it is bound to a client's business and never scheduled for revoke.
    pub business_integration: bool,
}

/// A token that is held outside the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// The rotation that minted it.
    pub rotation: String,
    /// The attempt that minted it.
    pub attempt: u32,
    /// Which token, or why the text is none.
    pub token: Result<Fingerprint, String>,
    /// Whether it is in the spool (else only in this process's memory).
    pub sealed: bool,
}

/// A mint of this process.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// Its rotation.
    pub rotation: String,
    /// Its number.
    pub number: u32,
    /// What came of it.
    pub state: AttemptState,
}

/// What came of a mint.
#[derive(Debug, Clone, PartialEq)]
pub enum AttemptState {
    /// The intent is committed and nothing was sent that could have arrived; with the failures so far.
    NotSent(Option<Trouble>),
    /// An answer with a token came; it was captured.
    Answered,
    /// The provider refused: nothing was minted.
    Refused(Fault),
    /// Something may have been minted.
    Unknown(Fault),
}

/// A revoke of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokeTry {
    /// Which token.
    pub victim: Fingerprint,
    /// When the latest call was made.
    pub at: Boot,
    /// How many calls were made.
    pub count: u32,
    /// What the latest answer said; never believed.
    pub said: String,
}

/// A gate: someone who must have moved before the old token dies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateEvidence {
    /// Its configured name.
    pub name: String,
    /// The token that it has confirmed to use, and when.
    pub confirmed: Option<Fingerprint>,
    /// What it waits for, for people.
    pub detail: String,
}

/// The fleet's breaker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerEvidence {
    /// Why it is open; `None` when it is closed.
    pub open: Option<String>,
    /// When the fleet's allowance lets another revoke through.
    pub not_before: Boot,
}

impl Evidence {
    /// Nothing known yet.
    #[must_use]
    pub fn new(clock: Clock, writer: String, sinks: &[String], gates: Vec<GateEvidence>) -> Self {
        Self {
            clock,
            writer,
            since: clock.boot,
            store: Channel::default(),
            slots: BTreeMap::new(),
            looks: BTreeMap::new(),
            calls: BTreeMap::new(),
            sinks: sinks.iter().map(|name| SinkEvidence { name: name.clone(), read: Channel::default() }).collect(),
            captured: None,
            spool_trouble: None,
            attempt: None,
            revoke: None,
            effects: BTreeMap::new(),
            gates,
            breaker: BreakerEvidence { open: None, not_before: Boot::ZERO },
            mint_not_before: Boot::ZERO,
            adopt: false,
            proven_beside: false,
            held: std::collections::BTreeSet::new(),
        }
    }

    /// The record, where it can be read.
    #[must_use]
    pub fn record(&self) -> Option<&Record> {
        self.store.value().and_then(|store| store.record.as_ref()).and_then(|record| record.as_ref().ok())
    }

    /// When a token of ours ends by itself, current or on its way out; `None` where that is not on record.
    #[must_use]
    pub fn ends(&self, token: Fingerprint) -> Option<Expiry> {
        let record = self.record()?;
        let known = [&record.current].into_iter().chain(record.rotation.iter().map(|rotation| &rotation.base));
        let known = known.map(|known| (known.fingerprint, Some(known.expires)));
        let retirees = record.retirees.iter().map(|retiree| (retiree.fingerprint, retiree.expires));
        known.chain(retirees).find(|(known, _)| *known == token)?.1
    }

    /// What the provider last said of a token.
    #[must_use]
    pub fn look(&self, token: Fingerprint) -> Option<&Seen<Looked>> {
        self.looks.get(&token).and_then(|channel| channel.seen.as_deref())
    }

    /// How long ago something was.
    #[must_use]
    pub const fn age(&self, at: Boot) -> SignedDuration {
        self.clock.boot.since(at)
    }
}
