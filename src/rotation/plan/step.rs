//! What a plan can say: the vocabulary between those who decide and those who do.

use super::super::record::Record;
use super::super::revoke_gate::{Gate, Victim};
use super::super::slot::SlotId;
use super::super::time::Boot;
use super::super::token::Fingerprint;

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
    /// Revoke a token. Issued only by [`super::retire`], only with an open gate.
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
