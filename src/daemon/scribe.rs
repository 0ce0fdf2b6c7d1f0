//! Rows of the ledger from many passes at once: what comes while a row is being written goes to the disk together, with one
//! `fdatasync` for all of it. Each pass still waits until its own row is on the disk.

use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use super::disk::{in_full, on_disk};
use super::fleet::lock;
use crate::clock;
use crate::ledger::{Entry, Head, Ledger};

/// A row and who waits for it.
type Waiting = (Entry, oneshot::Sender<Result<(), String>>);

/// What is said when nobody answers for a row.
const GONE: &str = "the writing of it panicked";

/// The ledger's one writer in this process.
#[derive(Debug, Clone)]
pub struct Scribe {
    ledger: Arc<Ledger>,
    desk: Arc<Mutex<Desk>>,
}

#[derive(Debug, Default)]
struct Desk {
    waiting: Vec<Waiting>,
    /// Somebody on the blocking pool writes, and looks again here before he stops.
    writing: bool,
}

impl Scribe {
    /// A scribe for a ledger.
    #[must_use]
    pub fn new(ledger: Ledger) -> Self {
        Self { ledger: Arc::new(ledger), desk: Arc::default() }
    }

    /// Keeps a row; when this returns, it is on the disk. A caller who goes away does not take his row back.
    ///
    /// # Errors
    /// Why the row could not be kept, or is not known to be.
    pub async fn keep(&self, entry: Entry) -> Result<(), String> {
        let (written, mut kept) = oneshot::channel();
        let begin = {
            let mut desk = lock(&self.desk);
            desk.waiting.push((entry, written));
            !std::mem::replace(&mut desk.writing, true)
        };
        if begin && clock::is_simulated() {
            // See `on_disk`. Nothing is waited for either, since that would count as a turn of the task.
            self.write();
            return kept.try_recv().unwrap_or_else(|_gone| Err(GONE.to_owned()));
        } else if begin {
            let scribe = self.clone();
            tokio::task::spawn_blocking(move || scribe.write());
        }
        kept.await.unwrap_or_else(|_gone| Err(GONE.to_owned()))
    }

    /// Whether a row could be kept, as far as that shows without one.
    ///
    /// # Errors
    /// Why it could not.
    pub async fn probe(&self) -> Result<(), String> {
        let ledger = self.ledger.clone();
        on_disk(move || ledger.probe()).await
    }

    /// The newest row that is on the disk.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        self.ledger.head()
    }

    fn write(&self) {
        let _left = Left(&self.desk);
        loop {
            let rows = {
                let mut desk = lock(&self.desk);
                if desk.waiting.is_empty() {
                    desk.writing = false;
                    return;
                }
                std::mem::take(&mut desk.waiting)
            };
            let (entries, waiting): (Vec<Entry>, Vec<_>) = rows.into_iter().unzip();
            match self.ledger.append_all(&entries) {
                Ok(kept) => waiting.into_iter().zip(kept).for_each(|(waiting, row)| {
                    // Who has gone away needs no answer.
                    waiting.send(row.map(drop).map_err(|error| in_full(&error))).ok();
                }),
                Err(error) => waiting.into_iter().for_each(|waiting| {
                    waiting.send(Err(in_full(&error))).ok();
                }),
            }
        }
    }
}

/// However the writing ends, also by a panic, the next row begins it again.
struct Left<'a>(&'a Mutex<Desk>);

impl Drop for Left<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            lock(self.0).writing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::Map;

    use super::*;

    fn entry(token: &str) -> Entry {
        Entry {
            at: Timestamp::UNIX_EPOCH,
            provider_at: None,
            token: token.into(),
            rotation_id: None,
            attempt: None,
            event: "promote.succeeded".into(),
            fingerprint: None,
            fields: Map::new(),
        }
    }

    #[tokio::test]
    async fn rows_of_many_are_kept_each_once_and_those_that_cannot_be_are_told() {
        let state = tempfile::tempdir().unwrap();
        let scribe = Scribe::new(Ledger::open(state.path()).unwrap().0);
        let names: Vec<String> = (0..50).map(|number| format!("bot-{number}")).collect();
        let mut tasks = tokio::task::JoinSet::new();
        for name in &names {
            let (scribe, entry) = (scribe.clone(), entry(name));
            tasks.spawn(async move { scribe.keep(entry).await });
        }
        let long = scribe.keep(entry(&"x".repeat(100_000))).await;
        assert!(long.is_err_and(|why| why.contains("longer than")));
        while let Some(kept) = tasks.join_next().await {
            kept.unwrap().unwrap();
        }
        let history = crate::ledger::read(state.path(), None, 100).unwrap();
        let mut kept: Vec<_> = history.rows.iter().filter(|row| !row.token.is_empty()).map(|row| (row.seq, row.token.clone())).collect();
        kept.sort();
        assert_eq!(kept.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), (2..=51).collect::<Vec<_>>());
        assert_eq!(kept.into_iter().map(|(_, token)| token).collect::<std::collections::BTreeSet<_>>(), names.into_iter().collect());
        scribe.keep(entry("later")).await.unwrap();
    }

    #[tokio::test]
    async fn a_disk_that_refuses_is_told_to_everybody_and_the_next_row_is_tried() {
        let state = tempfile::tempdir().unwrap();
        let scribe = Scribe::new(Ledger::open(state.path()).unwrap().0);
        let folder = state.path().join("ledger");
        std::fs::remove_dir(&folder).unwrap();
        std::os::unix::fs::symlink("/dev/null", &folder).unwrap();
        assert!(scribe.probe().await.is_err());
        let (one, other) = tokio::join!(scribe.keep(entry("one")), scribe.keep(entry("other")));
        assert!(one.is_err() && other.is_err());
        std::fs::remove_file(&folder).unwrap();
        scribe.probe().await.unwrap();
        scribe.keep(entry("one")).await.unwrap();
    }
}
