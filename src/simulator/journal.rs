//! The record of calls: what came, what was done to it, and whether the answer went out.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use super::fault::Stage;

/// How many calls are remembered.
const ENTRIES_MAX: usize = 20_000;

/// One call.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// The call's number, from 1, without holes.
    pub seq: u64,
    /// Its name.
    pub call: String,
    /// The method.
    pub method: String,
    /// The path, without the query, which may carry secrets.
    pub path: String,
    /// When it was read, by the virtual clock.
    pub received_at: Timestamp,
    /// When it was over.
    pub settled_at: Option<Timestamp>,
    /// Whether the service performed the call (as opposed to a fault that kept it away).
    pub performed: bool,
    /// The status that was sent or would have been.
    pub status: Option<u16>,
    /// What became of the answer.
    pub outcome: Outcome,
    /// The faults that hit the call.
    pub faults: Vec<AppliedFault>,
    /// What the service says of it.
    pub notes: Map<String, Value>,
}

/// A fault that hit a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AppliedFault {
    /// The rule's id.
    pub rule: u64,
    /// The fault's kind.
    pub kind: &'static str,
}

/// What became of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The call is still going on.
    Open,
    /// Handed to the connection whole.
    Answered,
    /// A fault closed the connection there.
    Dropped(Stage),
    /// The client went away first.
    ClientGone,
}

/// The last calls.
#[derive(Debug, Default)]
pub(super) struct Journal {
    last_seq: u64,
    entries: VecDeque<Entry>,
}

impl Journal {
    /// Opens an entry; `seq` is given.
    pub(super) fn open(&mut self, mut entry: Entry) -> u64 {
        self.last_seq += 1;
        entry.seq = self.last_seq;
        if self.entries.len() == ENTRIES_MAX {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
        self.last_seq
    }

    /// Changes an entry, if it is still remembered.
    pub(super) fn amend(&mut self, seq: u64, change: impl FnOnce(&mut Entry)) -> Option<Entry> {
        let first = self.entries.front()?.seq;
        let entry = self.entries.get_mut(usize::try_from(seq.checked_sub(first)?).ok()?)?;
        change(entry);
        Some(entry.clone())
    }

    /// The calls after number `since`.
    pub(super) fn after(&self, since: u64) -> Vec<Entry> {
        self.entries.iter().filter(|entry| entry.seq > since).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_bounded_and_keeps_numbers() {
        let blank = Entry {
            seq: 0,
            call: "me".into(),
            method: "GET".into(),
            path: "/me".into(),
            received_at: Timestamp::UNIX_EPOCH,
            settled_at: None,
            performed: false,
            status: None,
            outcome: Outcome::Open,
            faults: Vec::new(),
            notes: Map::new(),
        };
        let mut journal = Journal::default();
        for _ in 0..ENTRIES_MAX + 5 {
            journal.open(blank.clone());
        }
        assert_eq!(journal.after(0).len(), ENTRIES_MAX);
        assert_eq!(journal.amend(5, |_| ()), None);
        let last = journal.last_seq;
        assert_eq!(journal.amend(last, |entry| entry.performed = true).unwrap().seq, last);
        assert!(journal.after(last - 1)[0].performed);
    }
}
