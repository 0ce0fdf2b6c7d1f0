//! What can go wrong with a call, told apart by what it means for a rotation and not by who answered.
//!
//! Every effect has three outcomes (I9): done, not done, unknown. An error therefore says first whether the effect may have
//! happened, then what kind of trouble it was, then how long the other side asked to be left alone.

use std::fmt;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

/// Whether the effect of a failed call may have happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// Certainly nothing happened: the connection failed, or a classified refusal came back.
    NotDone,
    /// It may have happened; only a look can tell.
    Unknown,
}

/// What kind of trouble it was, hence who can end it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultClass {
    /// Nobody answered, or not in time, or not in a way that can be read. Passes by itself.
    Unreachable,
    /// The other side said that it is in trouble. Passes by itself.
    Transient,
    /// Too many calls. Passes by itself when left alone.
    Throttled,
    /// The token that was used or inspected is dead.
    TokenDead,
    /// App id, app secret, proof or an app setting is wrong: all tokens of the app, none of them dead.
    AppCredential,
    /// A permission or role is missing.
    Permission,
    /// A policy block or checkpoint: a person must act, the token is not dead.
    Policy,
    /// Our own request was wrong (an unknown path, version or parameter).
    BadRequest,
    /// A store refused us (credentials, IAM, KMS, file modes).
    Denied,
    /// The entry does not exist or is being deleted.
    Missing,
    /// A limit of the store was reached (size, labels, disk).
    Limit,
}

impl FaultClass {
    /// Whether waiting alone can end it.
    #[must_use]
    pub const fn passes_by_itself(self) -> bool {
        matches!(self, Self::Unreachable | Self::Transient | Self::Throttled)
    }

    /// The stable name for logs, metrics and status.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Transient => "transient",
            Self::Throttled => "throttled",
            Self::TokenDead => "token_dead",
            Self::AppCredential => "app_credential",
            Self::Permission => "permission",
            Self::Policy => "policy",
            Self::BadRequest => "bad_request",
            Self::Denied => "denied",
            Self::Missing => "missing",
            Self::Limit => "limit",
        }
    }
}

impl fmt::Display for FaultClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A failed call, as the rotation core and people see it. Its text never holds a URL, a token or a body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what}")]
pub struct Fault {
    /// Whether the effect may have happened.
    pub certainty: Certainty,
    /// What kind of trouble.
    pub class: FaultClass,
    /// One line for people: what happened, in the words of whoever saw it, free of secrets.
    pub what: String,
    /// How long the other side asked to be left alone.
    pub wait: Option<SignedDuration>,
    /// Graph's error code, where there was one.
    pub code: Option<i64>,
    /// Graph's error subcode, where there was one.
    pub subcode: Option<i64>,
    /// Graph's or AWS's id of the request, for their support.
    pub trace_id: Option<String>,
}

impl Fault {
    /// A fault without the details that only Graph gives.
    #[must_use]
    pub fn new(certainty: Certainty, class: FaultClass, what: impl Into<String>) -> Self {
        Self { certainty, class, what: what.into(), wait: None, code: None, subcode: None, trace_id: None }
    }
}
