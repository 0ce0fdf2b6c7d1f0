//! A row of the ledger: what it says, and its bytes.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::chain::{ChainHash, sealed, split};
use crate::rotation::token::Fingerprint;

/// The version of [`Row`]. Keys may be added under one version; readers ignore those that they do not know.
pub const SCHEMA: u16 = 1;

/// Longest row, in bytes.
pub(super) const ROW_BYTES_MAX: usize = 64 * 1024;

/// What is to be written down. Free of secrets: the caller puts in names, numbers, times and fingerprints.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// When, by the host's clock.
    pub at: Timestamp,
    /// When, by the provider's clock, where its answer carried one.
    pub provider_at: Option<Timestamp>,
    /// The token's name; empty for what concerns the whole daemon.
    pub token: String,
    /// The rotation.
    pub rotation_id: Option<String>,
    /// The attempt of that rotation.
    pub attempt: Option<u32>,
    /// The event's stable name, as in docs/events.md.
    pub event: String,
    /// The token that it is about.
    pub fingerprint: Option<Fingerprint>,
    /// Everything else: outcome, bound, the gate's conjuncts with their values, who asked.
    pub fields: Map<String, Value>,
}

/// One line of the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// [`SCHEMA`] of the writer.
    pub schema: u16,
    /// Grows by one from row to row, over all files.
    pub seq: u64,
    /// See [`Entry::at`].
    pub at: Timestamp,
    /// See [`Entry::provider_at`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_at: Option<Timestamp>,
    /// See [`Entry::token`].
    pub token: String,
    /// See [`Entry::rotation_id`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation_id: Option<String>,
    /// See [`Entry::attempt`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// See [`Entry::event`].
    pub event: String,
    /// See [`Entry::fingerprint`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
    /// See [`Entry::fields`].
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub fields: Map<String, Value>,
}

/// The line of a row, with its hash over `before`, the hash of the row before it. Gives the row's own hash too.
pub(super) fn line(seq: u64, entry: &Entry, before: ChainHash) -> serde_json::Result<(Vec<u8>, ChainHash)> {
    let row = Row {
        schema: SCHEMA,
        seq,
        at: entry.at,
        provider_at: entry.provider_at,
        token: entry.token.clone(),
        rotation_id: entry.rotation_id.clone(),
        attempt: entry.attempt,
        event: entry.event.clone(),
        fingerprint: entry.fingerprint,
        fields: entry.fields.clone(),
    };
    let (mut line, hash) = sealed(serde_json::to_vec(&row)?, before);
    line.push(b'\n');
    Ok((line, hash))
}

/// As much of a line as the chain needs. Asks for no more, so that rows of newer versions pass.
pub(super) struct Glance<'line> {
    pub(super) seq: u64,
    /// When; `None` when it does not say, or not as this version does.
    pub(super) at: Option<Timestamp>,
    pub(super) event: String,
    fields: Option<&'line RawValue>,
    /// What its hash is over.
    body: &'line [u8],
    /// The hash that it states; `None` for a row from before there was a chain.
    pub(super) stated: Option<ChainHash>,
}

impl<'line> Glance<'line> {
    /// Reads a line without its end; `None` when it is no row.
    pub(super) fn of(line: &'line [u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Keys<'line> {
            seq: u64,
            #[serde(borrow, default)]
            at: Option<&'line RawValue>,
            #[serde(borrow, default)]
            event: Option<&'line RawValue>,
            #[serde(borrow, default)]
            fields: Option<&'line RawValue>,
        }
        let keys: Keys<'line> = serde_json::from_slice(line).ok()?;
        let at = keys.at.and_then(|at| serde_json::from_str(at.get()).ok());
        let event = keys.event.and_then(|event| serde_json::from_str(event.get()).ok()).unwrap_or_default();
        let (body, stated) = split(line).map_or((line, None), |(body, stated)| (body, Some(stated)));
        Some(Self { seq: keys.seq, at, event, fields: keys.fields, body, stated })
    }

    /// What it says in words.
    pub(super) fn message(&self) -> String {
        #[derive(Deserialize, Default)]
        struct Said {
            #[serde(default)]
            message: String,
        }
        self.fields.and_then(|fields| serde_json::from_str::<Said>(fields.get()).ok()).unwrap_or_default().message
    }

    /// Whether its hash is the one that it must have after a row with this one.
    pub(super) fn follows(&self, before: ChainHash) -> bool {
        self.stated.is_some_and(|stated| before.then(self.body) == stated)
    }

    /// In what way it does not fit the row before it, for people; `None` when it does.
    pub(super) fn misfit(&self, seq: u64, hash: Option<ChainHash>) -> Option<String> {
        let Some(_stated) = self.stated else {
            return hash.map(|_| {
                "has no hash, though rows before it have: it was put there, or lost its hash, or an older evertoken wrote it".to_owned()
            });
        };
        let before = hash.unwrap_or(ChainHash::NONE);
        if self.follows(before) {
            return if self.seq > seq { None } else { Some(format!("comes after row {seq}")) };
        }
        Some(if self.follows(ChainHash::NONE) {
            "begins a new chain: nothing ties it to the rows before it".to_owned()
        } else if self.seq <= seq {
            format!("comes after row {seq}: it was copied or moved")
        } else if self.seq - seq > 1 {
            let missing =
                if self.seq - seq == 2 { format!("row {} is", seq + 1) } else { format!("rows {} to {} are", seq + 1, self.seq - 1) };
            format!("does not fit row {seq}, which stands before it: {missing} missing, or one of the two was changed")
        } else {
            format!("does not fit row {seq}: it was changed, or that one was")
        })
    }
}
