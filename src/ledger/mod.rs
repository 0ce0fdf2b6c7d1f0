//! The ledger: what was done, when, to which token, and on what grounds. It is evidence for people and never permits anything
//! (I8): losing it costs the past, not a token.
//!
//! One JSON line for each event under `<state_dir>/ledger/<YYYY-MM>.jsonl`, the month being that of the row's own time. Rows
//! that come together are one write and one `fdatasync`. Nothing is ever deleted: a torn tail (what a crash leaves) is copied aside and cut off, and a
//! file with damage inside is renamed and a new one begun. Readers take the renamed files in as well and say what they skipped.
//!
//! All functions block; the daemon calls them on the blocking pool.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use nix::fcntl::OFlag;
use nix::unistd::{AccessFlags, access};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::rotation::token::Fingerprint;

mod history;
mod repair;

pub use history::{History, read};
pub use repair::Repair;

/// The version of [`Row`]. Keys may be added under one version; readers ignore those that they do not know.
pub const SCHEMA: u16 = 1;

/// Longest row, in bytes.
const ROW_BYTES_MAX: usize = 64 * 1024;

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
}

/// The one writer of the ledger; who holds the state lock has it.
#[derive(Debug)]
pub struct Ledger {
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    next_seq: u64,
    open: Option<OpenFile>,
}

#[derive(Debug)]
struct OpenFile {
    name: String,
    file: File,
    length: u64,
}

impl Ledger {
    /// Opens the ledger under a state folder and repairs its newest file. What was repaired is returned, to be told to people.
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
        let mut next_seq = 1;
        // Only the newest file can have a torn tail. Older ones are read for the number, until one has a row.
        for (at, name) in months.into_iter().rev().enumerate() {
            if at == 0 {
                repairs.extend(repair::repair(&dir, &name)?);
            }
            if let Some(seq) = history::highest_seq(&dir, &name)? {
                next_seq = seq.saturating_add(1);
                break;
            }
        }
        Ok((Self { dir, state: Mutex::new(State { next_seq, open: None }) }, repairs))
    }

    /// Appends one row; when this returns, it is on the disk. Gives the row's number.
    ///
    /// # Errors
    /// [`LedgerError::Io`] when it is not known to be on the disk (it is not tried again: a failed `fdatasync` says nothing the
    /// second time), [`LedgerError::TooLong`].
    pub fn append(&self, entry: &Entry) -> Result<u64, LedgerError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut line = Vec::new();
        let seq = self.add_line(&mut state, entry, &mut line)?;
        let open = self.file_of(&mut state, entry.at)?;
        self.append_to(&mut state, open, &line)?;
        Ok(seq)
    }

    /// Appends rows in their order, with one write and one `fdatasync` for all rows of a month. Says for each whether it could be
    /// rendered, and its number.
    ///
    /// # Errors
    /// [`LedgerError::Io`] when it is not known of every row that it is on the disk.
    pub fn append_all(&self, entries: &[Entry]) -> Result<Vec<Result<u64, LedgerError>>, LedgerError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = Vec::with_capacity(entries.len());
        for month in entries.chunk_by(|one, next| month(one.at) == month(next.at)) {
            let mut lines = Vec::new();
            for entry in month {
                kept.push(self.add_line(&mut state, entry, &mut lines));
            }
            if let Some(entry) = month.first().filter(|_| !lines.is_empty()) {
                let open = self.file_of(&mut state, entry.at)?;
                self.append_to(&mut state, open, &lines)?;
            }
        }
        Ok(kept)
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

    /// Gives a row its number. It is used up even when the row fails to be written, since it may be on the disk all the same.
    fn add_line(&self, state: &mut State, entry: &Entry, lines: &mut Vec<u8>) -> Result<u64, LedgerError> {
        let seq = state.next_seq;
        let line = line(seq, entry).map_err(failed("render a row of", &self.dir))?;
        if line.len() > ROW_BYTES_MAX {
            return Err(LedgerError::TooLong(line.len()));
        }
        state.next_seq = seq.saturating_add(1);
        lines.extend(line);
        Ok(seq)
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
            repair::repair(&self.dir, &name)?;
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

/// The month that a row belongs to, in UTC.
fn month(at: Timestamp) -> String {
    at.strftime("%Y-%m").to_string()
}

fn line(seq: u64, entry: &Entry) -> io::Result<Vec<u8>> {
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
    let mut line = serde_json::to_vec(&row)?;
    line.push(b'\n');
    Ok(line)
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
            fields: Map::new(),
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
            let row = line(1, &entry()).unwrap();
            let refused = ledger.append_to(&mut ledger.state.lock().unwrap(), open, &row);
            assert!(matches!(refused, Err(LedgerError::Io { .. })), "{device}");
            assert_eq!(ledger.append(&entry()).unwrap(), 1, "{device}");
            assert_eq!(read(state.path(), None, 10).unwrap().rows.len(), 1);
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
        assert_eq!(history.rows.iter().map(|row| row.seq).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(history.notes, ["1970-01.jsonl.torn-1: 1 line(s) cannot be read"]);
    }
}
