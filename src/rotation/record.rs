//! The record of a token: one small document without any token in it, kept in the secret's own entry and changed by
//! compare-and-set on its number.
//!
//! Whoever reads it, on whatever host, carries the rotation on. What can be seen by looking (which slot is current, whether a token
//! lives) is *not* in it: evidence beats memory (I8), and the phase is derived from both each time.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::slot::SlotId;
use super::token::{Expiry, Fingerprint, GranularScopes, Introspection};

mod error;

pub use error::RecordError;

/// The format that this binary writes. A record with a higher one is observed and never written over (I7).
pub const SCHEMA: u32 = 1;

/// Fingerprints of ended tokens that are remembered, so that one coming back is noticed.
const RETIRED_KEPT: usize = 16;
/// Ended rotations that are remembered, so that a token staged late by a slow rotator is known for what it is.
const PAST_KEPT: usize = 4;

/// The document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Format.
    pub schema: u32,
    /// Its number: of two writers of one number the second is refused by the store.
    pub number: u64,
    /// Who wrote it: a nonce of the writing process, so that equal decisions of two processes are still two different documents.
    pub writer: String,
    /// Grows with every change of what is current, also with those that go back (rollback, heal).
    pub epoch: u64,
    /// The token that we know to be current, or are making current.
    pub current: Known,
    /// Since when every place is known to hold the current token; `None` while a place is being (re)written.
    pub published: Option<Published>,
    /// The rotation that is under way.
    pub rotation: Option<Rotation>,
    /// Tokens that we hold, that are not current, and that wait to be revoked.
    #[serde(default)]
    pub retirees: Vec<Retiree>,
    /// Tokens that may have been minted and that nobody holds (I2).
    #[serde(default)]
    pub unaccounted: Vec<Unaccounted>,
    /// When the next mint may be tried.
    pub backoff: Option<Backoff>,
    /// A person said: no refresh, no revoke.
    pub hold: Option<Said>,
    /// The daemon said: no step until a person releases it.
    pub frozen: Option<Said>,
    /// A person asked for a rotation now.
    pub request: Option<Said>,
    /// Tokens that ended, the latest last.
    #[serde(default)]
    pub retired: Vec<Fingerprint>,
    /// Rotations that ended, the latest last.
    #[serde(default)]
    pub past: Vec<Past>,
    /// When others changed the entry, the latest last.
    #[serde(default)]
    pub foreign_edits: Vec<Timestamp>,
}

/// A token as known when it became current.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The slot that holds it.
    pub slot: SlotId,
    /// Which token.
    pub fingerprint: Fingerprint,
    /// Since when it is current, by the provider's clock.
    pub since: Timestamp,
    /// When it was made; where the provider does not say, when it was first seen.
    pub issued_at: Timestamp,
    /// When it ends.
    pub expires: Expiry,
    /// Its permissions, which a successor must hold too.
    pub scopes: BTreeSet<String>,
    /// Its permissions' targets, likewise.
    #[serde(default)]
    pub granular: GranularScopes,
}

impl Known {
    /// A token as introspected. `now` stands in for a missing date of issue.
    #[must_use]
    pub fn from_look(slot: SlotId, fingerprint: Fingerprint, look: &Introspection, now: Timestamp) -> Self {
        Self {
            slot,
            fingerprint,
            since: now,
            issued_at: look.issued_at.unwrap_or(now),
            expires: look.expires.unwrap_or(Expiry::Never),
            scopes: look.scopes.clone(),
            granular: look.granular.clone(),
        }
    }

    /// Its whole life; a token without an end counts as the usual one, so that rules which scale have something to scale by.
    #[must_use]
    pub fn life(&self) -> jiff::SignedDuration {
        match self.expires {
            Expiry::At(at) => at.duration_since(self.issued_at).max(jiff::SignedDuration::from_secs(1)),
            Expiry::Never => super::schedule::USUAL_LIFE,
        }
    }
}

/// Proof that every place held a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Which token.
    pub fingerprint: Fingerprint,
    /// The `Date` of an answer of the provider that was asked for after the last place was read back.
    pub at: Timestamp,
}

/// A rotation under way: from the intent to mint until the old token has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    /// Its name in logs, ledger and slots.
    pub id: String,
    /// When it began, by the provider's clock.
    pub started_at: Timestamp,
    /// The token that it replaces.
    pub base: Known,
    /// How many times a mint was begun.
    pub attempt: u32,
    /// Who committed the attempt's intent; later commits by others do not make it theirs. Only that worker knows what it has sent.
    pub by: String,
    /// How far it is, as far as only a record can know.
    pub stage: Stage,
    /// Why it began (`due`, `requested`).
    pub why: String,
    /// How often the staged document was rendered anew because somebody changed another key of a JSON secret.
    #[serde(default)]
    pub renderings: u32,
}

impl Rotation {
    /// The slot of one attempt, as rendered the `rendering`-th time.
    #[must_use]
    pub fn slot(&self, identity: &str, attempt: u32, rendering: u32) -> SlotId {
        let name = if rendering == 0 { self.id.clone() } else { format!("{}#{rendering}", self.id) };
        SlotId::staged(identity, &name, attempt)
    }
}

/// How far a rotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The attempt may mint or have minted.
    Intent,
    /// The attempt ended without a token that we hold; the next one waits.
    Between,
    /// The new token is current in every place; the old one waits to be revoked.
    Published,
    /// The old one may be revoked from now on: it never becomes current again.
    Revoking,
}

/// A token that waits to be revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retiree {
    /// The slot that holds it.
    pub slot: SlotId,
    /// Which token.
    pub fingerprint: Fingerprint,
    /// Why it is here.
    pub why: RetireeKind,
    /// Since when, by the provider's clock.
    pub since: Timestamp,
    /// When it ends by itself, where known.
    pub expires: Option<Expiry>,
    /// While this slot is current, a paused rotator could still promote the token over it, so it is not revoked.
    pub staged_against: Option<SlotId>,
    /// It may be revoked from now on.
    #[serde(default)]
    pub revoking: bool,
    /// Why it was rejected, where it was; absent in the rows of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<String>,
}

/// Why a token waits to be revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetireeKind {
    /// It was current until a rotation replaced it, and the next rotation began before it could be revoked.
    Replaced,
    /// It was minted and somebody else's token became current first.
    Surplus,
    /// It failed verification.
    Quarantined,
    /// It is not ours to revoke: a person replaced it, or the provider answered a refresh with a token of another user. It ends by
    /// itself; what a person replaced stays findable to take the place of a dead one.
    Left,
}

/// A token that may exist and that nobody holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unaccounted {
    /// The rotation whose attempt it was.
    pub rotation: String,
    /// Which attempt.
    pub attempt: u32,
    /// When the attempt was begun, by the provider's clock.
    pub since: Timestamp,
    /// By when it has ended for certain.
    pub bound: Timestamp,
    /// What came instead of a token that could be kept: no answer, or which one. Empty in the rows of older versions.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// A pause before the next mint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    /// Failures in a row.
    pub count: u32,
    /// Not before this instant of the provider's clock.
    pub not_before: Timestamp,
    /// What failed.
    pub why: String,
}

/// What a person or the daemon decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// When.
    pub at: Timestamp,
    /// Why, in one line.
    pub why: String,
}

/// A rotation that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// Its name.
    pub id: String,
    /// How often its staged document was rendered anew.
    #[serde(default)]
    pub renderings: u32,
    /// How many attempts it had.
    pub attempts: u32,
    /// The slot that it replaced or wanted to replace.
    pub base: SlotId,
}

impl Record {
    /// The first record of a token: what adoption writes.
    #[must_use]
    pub fn first(number: u64, writer: &str, current: Known) -> Self {
        Self {
            schema: SCHEMA,
            number,
            writer: writer.to_owned(),
            epoch: 1,
            current,
            published: None,
            rotation: None,
            retirees: Vec::new(),
            unaccounted: Vec::new(),
            backoff: None,
            hold: None,
            frozen: None,
            request: None,
            retired: Vec::new(),
            past: Vec::new(),
            foreign_edits: Vec::new(),
        }
    }

    /// The next record, to be changed and committed by `writer`.
    #[must_use]
    pub fn next(&self, writer: &str) -> Self {
        Self { number: self.number + 1, schema: SCHEMA, writer: writer.to_owned(), ..self.clone() }
    }

    /// Ends the rotation under way, remembering it.
    pub fn end_rotation(&mut self) -> Option<Rotation> {
        let rotation = self.rotation.take()?;
        self.past.push(Past {
            id: rotation.id.clone(),
            renderings: rotation.renderings,
            attempts: rotation.attempt,
            base: rotation.base.slot.clone(),
        });
        keep_last(&mut self.past, PAST_KEPT);
        Some(rotation)
    }

    /// Remembers that a token ended.
    pub fn retire(&mut self, fingerprint: Fingerprint) {
        self.retired.retain(|known| *known != fingerprint);
        self.retired.push(fingerprint);
        keep_last(&mut self.retired, RETIRED_KEPT);
    }

    /// The bytes to store.
    ///
    /// # Errors
    /// Never for a record made here: all its parts are plain data.
    pub fn encode(&self) -> Result<Vec<u8>, RecordError> {
        serde_json::to_vec(self).map_err(|error| RecordError::Damaged { number: self.number, why: error.to_string() })
    }

    /// Reads stored bytes.
    ///
    /// # Errors
    /// When the format is newer than this binary's, or the bytes are no record.
    pub fn decode(number: u64, bytes: &[u8]) -> Result<Self, RecordError> {
        #[derive(Deserialize)]
        struct Format {
            schema: u32,
        }
        let damaged =
            |error: serde_json::Error| RecordError::Damaged { number, why: format!("{:?} at column {}", error.classify(), error.column()) };
        let format: Format = serde_json::from_slice(bytes).map_err(damaged)?;
        if format.schema > SCHEMA {
            return Err(RecordError::Newer { number, schema: format.schema });
        }
        let record: Self = serde_json::from_slice(bytes).map_err(damaged)?;
        if record.number != number {
            return Err(RecordError::Damaged { number, why: format!("it says it is record {}", record.number) });
        }
        Ok(record)
    }
}

fn keep_last<T>(list: &mut Vec<T>, kept: usize) {
    list.drain(..list.len().saturating_sub(kept));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rotation::testing::{known, record};

    #[test]
    fn a_record_survives_its_bytes() {
        let mut record = record();
        record.rotation = Some(Rotation {
            id: "r".into(),
            started_at: Timestamp::UNIX_EPOCH,
            base: known("old"),
            attempt: 2,
            by: "w".into(),
            stage: Stage::Between,
            why: "due".into(),
            renderings: 0,
        });
        let bytes = record.encode().unwrap();
        assert_eq!(Record::decode(record.number, &bytes).unwrap(), record);
    }

    /// A row of a lost token, and of one that was rejected, as the first release wrote them.
    #[test]
    fn rows_without_their_reasons_are_read() {
        let mut record = record();
        let why = "HTTP 200: no access_token in the answer".to_owned();
        let at = Timestamp::UNIX_EPOCH;
        record.unaccounted.push(Unaccounted { rotation: "r".into(), attempt: 1, since: at, bound: at, why });
        let text = String::from_utf8(record.encode().unwrap()).unwrap();
        assert_eq!(Record::decode(record.number, text.as_bytes()).unwrap(), record);
        let old = text.replace(",\"why\":\"HTTP 200: no access_token in the answer\"", "");
        assert_ne!(old, text);
        record.unaccounted[0].why.clear();
        assert_eq!(Record::decode(record.number, old.as_bytes()).unwrap(), record);
        assert_eq!(record.encode().unwrap(), old.as_bytes(), "what is not known is not written");
    }

    #[test]
    fn a_newer_or_damaged_record_is_told_apart() {
        let record = record();
        let text = String::from_utf8(record.encode().unwrap()).unwrap();
        let newer = text.replacen("\"schema\":1", "\"schema\":2", 1);
        assert_eq!(Record::decode(record.number, newer.as_bytes()), Err(RecordError::Newer { number: record.number, schema: 2 }));
        assert!(matches!(Record::decode(record.number, &text.as_bytes()[..40]), Err(RecordError::Damaged { .. })));
        assert!(matches!(Record::decode(record.number + 1, text.as_bytes()), Err(RecordError::Damaged { .. })));
        assert!(matches!(Record::decode(0, b""), Err(RecordError::Damaged { .. })));
    }

    #[test]
    fn memory_of_the_past_is_bounded() {
        let mut record = record();
        for round in 0..40 {
            record.retire(Fingerprint::of(&round.to_string()));
            record.rotation = Some(Rotation {
                id: round.to_string(),
                started_at: Timestamp::UNIX_EPOCH,
                base: known("b"),
                attempt: 1,
                by: String::new(),
                stage: Stage::Intent,
                why: String::new(),
                renderings: 0,
            });
            record.end_rotation();
        }
        assert_eq!(record.retired.len(), RETIRED_KEPT);
        assert_eq!(record.retired.last(), Some(&Fingerprint::of("39")));
        assert_eq!(record.past.len(), PAST_KEPT);
    }
}
