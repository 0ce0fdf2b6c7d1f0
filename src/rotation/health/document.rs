//! One token's status as a document: what `status -o json` and `/v1/status` are made of.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Phase;

/// One token, as `status -o json` and `/v1/status` show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenStatus {
    /// Its configured name.
    pub name: String,
    /// Its app's id.
    pub app_id: String,
    /// Its system user.
    pub system_user_id: String,
    /// How far it is.
    pub phase: Phase,
    /// The rotation under way.
    pub rotation_id: Option<String>,
    /// Its attempt.
    pub attempt: Option<u32>,
    /// What consumers read.
    pub current: Option<Lifetime>,
    /// The token that waits to be revoked next.
    pub previous: Option<Previous>,
    /// The window between the publication of a token and the end of the one before it; absent before adoption.
    #[serde(default)]
    pub window: Option<Window>,
    /// What happens next.
    pub next_action: NextAction,
    /// Conditions that a person should know of, and the basic ones.
    pub conditions: Vec<Condition>,
    /// The places.
    pub sinks: Vec<SinkStatus>,
    /// Tokens that may exist and that nobody holds.
    pub unaccounted: Vec<UnaccountedStatus>,
    /// The conjuncts of the revoke gate, where there is a token to revoke.
    #[serde(default)]
    pub gate: Vec<ConjunctStatus>,
    /// The latest failure that has not been overcome.
    pub last_error: Option<LastError>,
}

/// A token's life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifetime {
    /// Which token.
    pub fingerprint: String,
    /// When it was made.
    pub issued_at: Option<Timestamp>,
    /// When it ends; absent: never, or unknown.
    pub expires_at: Option<Timestamp>,
    /// When the next rotation is due.
    pub refresh_due: Option<Timestamp>,
    /// When access to data ends; absent: not applicable.
    pub data_access_expires_at: Option<Timestamp>,
}

/// A token on its way out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    /// Which token.
    pub fingerprint: String,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// Before this it is not revoked.
    pub revoke_not_before: Option<Timestamp>,
}

/// What happens next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextAction {
    /// What, one sentence.
    pub what: String,
    /// When that is due, by the host's clock; where nothing has a time of its own, when the daemon looks next.
    pub at: Timestamp,
    /// When the daemon looks next, by the host's clock; it may look many times before the action is due. Absent from older daemons.
    #[serde(default)]
    pub next_look_at: Option<Timestamp>,
    /// What it waits for: the stable name of the condition.
    pub waiting_for: Vec<String>,
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Its name.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, the stable code.
    pub reason: String,
    /// Why, for people; what to do about it.
    pub message: String,
    /// How bad.
    pub severity: String,
}

/// One place of the token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkStatus {
    /// Its name.
    pub name: String,
    /// Whether it held the current payload when last read.
    pub in_sync: Option<bool>,
    /// What failed last.
    pub last_error: Option<String>,
    /// The token that it held when last read, where that is not the current one.
    #[serde(default)]
    pub holds: Option<String>,
    /// When that one ends, where known: from then on its readers fail.
    #[serde(default)]
    pub holds_until: Option<Timestamp>,
}

/// How long consumers get to move to a new token before the old one may be revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// As configured, in seconds.
    pub configured_seconds: i64,
    /// What it is for this token: the configured one, at most a quarter of the token's life.
    pub effective_seconds: i64,
    /// How long consumers may keep a token before they read it again, as configured.
    pub consumer_ttl_seconds: i64,
}

/// A lost token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnaccountedStatus {
    /// Whose attempt.
    pub rotation_id: String,
    /// Which attempt.
    pub attempt: u32,
    /// When it was tried.
    pub since: Timestamp,
    /// By when it has ended.
    pub ends_by: Timestamp,
    /// What came instead of a token that could be kept; absent where an older version counted it.
    #[serde(default)]
    pub why: Option<String>,
}

/// One conjunct of the revoke gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConjunctStatus {
    /// Its name.
    pub name: String,
    /// Whether it holds.
    pub holds: bool,
    /// What was found.
    pub value: String,
}

/// A failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastError {
    /// Its class.
    pub class: String,
    /// Graph's code.
    pub code: Option<i64>,
    /// Graph's subcode.
    pub subcode: Option<i64>,
    /// The request's id at the other side.
    pub trace_id: Option<String>,
    /// What was tried.
    pub step: String,
    /// What happened.
    pub message: String,
}
