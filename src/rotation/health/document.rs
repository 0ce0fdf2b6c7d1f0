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
    /// When, by the host's clock.
    pub at: Timestamp,
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
