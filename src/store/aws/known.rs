//! What is remembered between calls.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::store::RecordBytes;

/// Longest record that is kept between looks, in bytes: an ordinary one has one to two thousand. A longer one is read each time.
const CACHED_RECORD_BYTES_MAX: usize = 4096;

/// Entries that are remembered. Beyond them everything is forgotten, which costs one DescribeSecret an entry and nothing else.
const CACHED_ENTRIES_MAX: usize = 100_000;

/// What is remembered of an entry that holds a token. All of it is immutable or only saves calls: ids are derived from the ARN,
/// a secret once filled stays filled under that ARN, and labels of old records are dropped at the next chance.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) arn: String,
    /// Records under a label, by number, with their version.
    pub(super) records: Vec<(u64, String)>,
    /// A record read or written before, with its version.
    pub(super) record: Option<(String, RecordBytes)>,
}

/// What is remembered, by entry.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<HashMap<String, Known>>);

impl Cache {
    pub(super) fn recall(&self, entry: &str) -> Option<Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(entry).cloned()
    }

    pub(super) fn remember(&self, entry: &str, known: Known) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= CACHED_ENTRIES_MAX && !entries.contains_key(entry) {
            entries.clear();
        }
        entries.insert(entry.to_owned(), known);
    }

    pub(super) fn forget(&self, entry: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(entry);
    }
}

/// A record as it is remembered, if it is short enough.
pub(super) fn kept(version: &str, record: &RecordBytes) -> Option<(String, RecordBytes)> {
    (record.bytes.len() <= CACHED_RECORD_BYTES_MAX).then(|| (version.to_owned(), record.clone()))
}
