//! The ledger: what was done, when, to which token, and on what grounds. It is evidence for people and never permits anything
//! (I8): losing it costs the past, not a token.
//!
//! One JSON line for each event under `<state_dir>/ledger/<YYYY-MM>.jsonl`, the month being that of the row's own time. Rows
//! that come together are one write and one `fdatasync`. Nothing is ever deleted: a torn tail (what a crash leaves) is copied aside and cut off, and a
//! file with damage inside is renamed and a new one begun. Readers take the renamed files in as well and say what they skipped.
//!
//! The rows are chained by hashes, across all files; [`chain`] has the rule and says what it shows, [`verify`] checks it. Rows from before
//! there was a chain are read for ever and proved by nothing. What is done to the ledger itself is a row too: where the chain begins,
//! what a crash tore off, where a break was found.
//!
//! All functions block; the daemon calls them on the blocking pool.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use nix::fcntl::OFlag;
use nix::unistd::{AccessFlags, access};

mod audit;
mod chain;
mod history;
mod marks;
mod repair;
mod row;
mod tail;

pub use audit::{Audit, Demand, Finding, verify};
pub use chain::{ChainHash, NotAHash};
pub use history::{History, read, read_where};
pub use repair::Repair;
pub use row::{Entry, Row, SCHEMA};

use row::ROW_BYTES_MAX;

/// Why the ledger could not do what was asked. The rotation goes on without; the caller alarms.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The operating system refused.
    #[error("ledger: cannot {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Longer than a row may be.
    #[error("a ledger row of {0} bytes is longer than the {ROW_BYTES_MAX} that one may have")]
    TooLong(usize),
    /// No JSON can be made of it.
    #[error("a ledger row cannot be put into JSON: {0}")]
    Unfit(String),
}

/// The newest row, as its hash stands for all rows before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Its number.
    pub seq: u64,
    /// Its hash.
    pub hash: ChainHash,
}

/// The one writer of the ledger; who holds the state lock has it.
#[derive(Debug)]
pub struct Ledger {
    dir: PathBuf,
    state: Mutex<State>,
    /// Apart from the state, whose lock is held while the disk is waited for.
    shown: Mutex<Option<Head>>,
}

#[derive(Debug)]
struct State {
    next_seq: u64,
    /// What the next row is chained to; `None` where no chain has begun.
    head: Option<Head>,
    /// What was done to the ledger itself and is not in it yet.
    pending: Vec<Entry>,
    open: Option<OpenFile>,
}

#[derive(Debug)]
struct OpenFile {
    name: String,
    file: File,
    length: u64,
}

/// Rows that go to the disk together.
struct Batch {
    next_seq: u64,
    head: Option<Head>,
    lines: Vec<u8>,
}

impl Batch {
    /// Gives a row its number and its hash.
    fn add(&mut self, entry: &Entry) -> Result<u64, LedgerError> {
        let (seq, before) = (self.next_seq, self.head.map_or(ChainHash::NONE, |head| head.hash));
        let (line, hash) = row::line(seq, entry, before).map_err(|error| LedgerError::Unfit(error.to_string()))?;
        if line.len() > ROW_BYTES_MAX {
            return Err(LedgerError::TooLong(line.len()));
        }
        self.next_seq = seq.saturating_add(1);
        self.head = Some(Head { seq, hash });
        self.lines.extend(line);
        Ok(seq)
    }
}

impl Ledger {
    /// Opens the ledger under a state folder, repairs its newest file, and sees whether its last rows fit each other. What was repaired
    /// or found is returned, to be told to people, and goes into the ledger too. A chain that is broken stops nothing: the
    /// next rows go on from the last one.
    ///
    /// # Errors
    /// [`LedgerError::Io`].
    pub fn open(state_dir: &Path) -> Result<(Self, Vec<Repair>), LedgerError> {
        let dir = state_dir.join("ledger");
        // Where there is no state directory somebody only looks, and nothing is made.
        let months = if state_dir.is_dir() {
            make(&dir)?;
            history::months(&dir)?
        } else {
            Vec::new()
        };
        let mut repairs = Vec::new();
        // Only the newest file can have a torn tail.
        if let Some(name) = months.last() {
            repairs.extend(repair::repair(&dir, name)?);
        }
        let newest = if months.is_empty() { None } else { tail::newest(&dir)? };
        if let Some(newest) = &newest {
            repairs.extend(tail::breaks(&dir, newest)?);
        }
        let head = newest.as_ref().and_then(tail::Newest::head);
        let next_seq = newest.map_or(1, |newest| newest.seq.saturating_add(1));
        let pending = repairs.iter().map(|repair| marks::repaired(repair, head)).collect();
        let ledger = Self { dir, state: Mutex::new(State { next_seq, head, pending, open: None }), shown: Mutex::new(head) };
        if !repairs.is_empty() {
            // Where that fails, the first row that can be kept brings it along.
            drop(ledger.append_to_month(&mut lock(&ledger.state), crate::clock::wall(), &[], &mut Vec::new()));
        }
        Ok((ledger, repairs))
    }

    /// The newest row that is on the disk, where a chain has begun. Never waits for the disk.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        *lock(&self.shown)
    }

    /// Appends one row; when this returns, it is on the disk. Gives the row's number.
    ///
    /// # Errors
    /// As [`Self::append_all`], and what that says of the row.
    pub fn append(&self, entry: &Entry) -> Result<u64, LedgerError> {
        self.append_all(std::slice::from_ref(entry))?.pop().unwrap_or_else(|| Err(LedgerError::Unfit("no row".to_owned())))
    }

    /// Appends rows in their order, with one write and one `fdatasync` for all rows of a month. Says for each whether it could be
    /// rendered ([`LedgerError::TooLong`], [`LedgerError::Unfit`]), and its number.
    ///
    /// # Errors
    /// [`LedgerError::Io`] when it is not known of every row that it is on the disk (it is not tried again: a failed `fdatasync` says
    /// nothing the second time).
    pub fn append_all(&self, entries: &[Entry]) -> Result<Vec<Result<u64, LedgerError>>, LedgerError> {
        let mut state = lock(&self.state);
        let mut kept = Vec::with_capacity(entries.len());
        for rows in entries.chunk_by(|one, next| month(one.at) == month(next.at)) {
            let at = rows.first().map_or(Timestamp::UNIX_EPOCH, |row| row.at);
            self.append_to_month(&mut state, at, rows, &mut kept)?;
        }
        Ok(kept)
    }

    /// Appends rows to the file of a month, after what is to be said of the ledger itself.
    fn append_to_month(
        &self,
        state: &mut State,
        at: Timestamp,
        entries: &[Entry],
        kept: &mut Vec<Result<u64, LedgerError>>,
    ) -> Result<(), LedgerError> {
        let open = self.file_of(state, at)?;
        let mut batch = Batch { next_seq: state.next_seq, head: state.head, lines: Vec::new() };
        if batch.head.is_none() {
            batch.add(&marks::begun(at, state.next_seq))?;
        }
        for mark in &state.pending {
            batch.add(mark)?;
        }
        let before = kept.len();
        kept.extend(entries.iter().map(|entry| batch.add(entry)));
        if state.pending.is_empty() && kept.iter().skip(before).all(Result::is_err) {
            state.open = Some(open);
            return Ok(());
        }
        // Numbers are used up even when their rows fail to be written, since they may be on the disk all the same.
        state.next_seq = batch.next_seq;
        self.append_to(state, open, &batch.lines)?;
        state.pending.clear();
        state.head = batch.head;
        *lock(&self.shown) = batch.head;
        Ok(())
    }

    /// Whether a row could be kept, as far as that shows without one: a full disk does not. The folder is made where it is missing.
    ///
    /// # Errors
    /// [`LedgerError::Io`].
    pub fn probe(&self) -> Result<(), LedgerError> {
        make(&self.dir)?;
        let may = |path: &Path, flags| access(path, flags).map_err(|errno| failed("write to", path)(errno.into()));
        may(&self.dir, AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK)?;
        let newest = self.dir.join(format!("{}.jsonl", month(crate::clock::wall())));
        match may(&newest, AccessFlags::R_OK | AccessFlags::W_OK) {
            Err(LedgerError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(()),
            found => found,
        }
    }

    /// One write, one sync, and the file goes back into the state only when it is in a known condition.
    fn append_to(&self, state: &mut State, mut open: OpenFile, line: &[u8]) -> Result<(), LedgerError> {
        if let Err(error) = open.file.write_all(line) {
            // Part of the row may be there. Cut it off, so that the next row does not stick to it; where even that fails, the
            // file is repaired when it is opened again.
            if open.file.set_len(open.length).is_ok() {
                state.open = Some(open);
            }
            return Err(failed("append to", &self.dir)(error));
        }
        open.file.sync_data().map_err(failed("sync", &self.dir))?;
        open.length = open.length.saturating_add(line.len() as u64);
        state.open = Some(open);
        Ok(())
    }

    /// Takes the file of a row's month out of the state, opened, whole and ready for appending.
    fn file_of(&self, state: &mut State, at: Timestamp) -> Result<OpenFile, LedgerError> {
        let name = format!("{}.jsonl", month(at));
        match state.open.take() {
            // A row must not go to a file that somebody has renamed or removed meanwhile.
            Some(open) if open.name == name && is_at(&open.file, &self.dir.join(&name)) => return Ok(open),
            Some(_) | None => (),
        }
        make(&self.dir)?;
        let path = self.dir.join(&name);
        if path.try_exists().map_err(failed("look at", &path))? {
            let repaired = repair::repair(&self.dir, &name)?;
            // After a write of unknown outcome the disk says which row is the last. Where rows that were written are gone, the chain
            // goes on from them all the same: that they are missing is to be seen.
            if let Some(newest) = tail::newest(&self.dir)?.filter(|newest| state.head.is_none_or(|head| newest.seq > head.seq)) {
                state.next_seq = state.next_seq.max(newest.seq.saturating_add(1));
                state.head = newest.head();
            }
            state.pending.extend(repaired.iter().map(|repair| marks::repaired(repair, state.head)));
        }
        let file = open_options().append(true).create(true).open(&path).map_err(failed("open", &path))?;
        sync_dir(&self.dir)?;
        let length = file.metadata().map_err(failed("look at", &path))?.len();
        Ok(OpenFile { name, file, length })
    }
}

/// Makes the ledger's folder where it is missing: also later, when somebody has deleted it under the running program.
fn make(dir: &Path) -> Result<(), LedgerError> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(failed("make", dir)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A lock whose holder may have panicked: the data are plain values, put in place whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The month that a row belongs to, in UTC.
fn month(at: Timestamp) -> String {
    at.strftime("%Y-%m").to_string()
}

fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(ours), Ok(there)) => ours.dev() == there.dev() && ours.ino() == there.ino(),
        (Err(_), _) | (_, Err(_)) => false,
    }
}

fn open_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits());
    options
}

fn sync_dir(dir: &Path) -> Result<(), LedgerError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed("sync", dir))
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LedgerError {
    move |source| LedgerError::Io { doing, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            at: Timestamp::UNIX_EPOCH,
            provider_at: None,
            token: "bot".into(),
            rotation_id: None,
            attempt: None,
            event: "promote.succeeded".into(),
            fingerprint: None,
            fields: serde_json::Map::new(),
        }
    }

    /// `/dev/full` refuses the write, `/dev/null` takes it and refuses the `fdatasync`. The next row goes to a fresh file.
    #[test]
    fn a_failed_append_is_told_and_the_next_one_stands_alone() {
        for device in ["/dev/full", "/dev/null"] {
            let state = tempfile::tempdir().unwrap();
            let (ledger, _) = Ledger::open(state.path()).unwrap();
            let file = OpenOptions::new().append(true).open(device).unwrap();
            let open = OpenFile { name: "1970-01.jsonl".into(), file, length: 0 };
            let refused = ledger.append_to(&mut ledger.state.lock().unwrap(), open, b"{\"seq\":1}\n");
            assert!(matches!(refused, Err(LedgerError::Io { .. })), "{device}");
            assert_eq!((ledger.head(), ledger.append(&entry()).unwrap()), (None, 2), "{device}");
            assert_eq!(read(state.path(), None, 10).unwrap().rows.len(), 2);
            assert!(verify(state.path(), &Demand::default(), &mut |_| ()).unwrap().proves());
        }
    }

    /// A file that takes neither the row nor the cut is given up, and repaired when it is opened for the next row.
    #[test]
    fn part_of_a_row_that_could_not_be_cut_off_is_moved_aside() {
        let state = tempfile::tempdir().unwrap();
        let (ledger, _) = Ledger::open(state.path()).unwrap();
        ledger.append(&entry()).unwrap();
        let path = ledger.dir.join("1970-01.jsonl");
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"schema\":1,\"se").unwrap();
        let read_only = OpenFile { name: "1970-01.jsonl".into(), file: File::open(&path).unwrap(), length: 0 };
        let mut held = ledger.state.lock().unwrap();
        held.open = None;
        assert!(ledger.append_to(&mut held, read_only, b"{}\n").is_err());
        drop(held);
        ledger.append(&entry()).unwrap();
        let history = read(state.path(), None, 10).unwrap();
        assert_eq!(history.rows.iter().map(|row| row.seq).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(history.rows[2].event, marks::REPAIRED);
        assert!(verify(state.path(), &Demand::default(), &mut |_| ()).unwrap().proves());
        assert_eq!(history.notes, ["1970-01.jsonl.torn-1: 1 line(s) cannot be read"]);
    }
}
