//! Reading the ledger, whatever state it is in.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::Path;

use serde::Deserialize;

use super::{LedgerError, ROW_BYTES_MAX, Row, failed};

/// What the ledger has to say.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct History {
    /// The newest rows, the newest last.
    pub rows: Vec<Row>,
    /// What could not be read, one line for people each.
    pub notes: Vec<String>,
}

/// Reads the newest `limit` rows, of one token or of all.
///
/// # Errors
/// As [`read_where`].
pub fn read(state_dir: &Path, token: Option<&str>, limit: usize) -> Result<History, LedgerError> {
    read_where(state_dir, &|name| token.is_none_or(|token| name == token), limit)
}

/// Reads the newest `limit` rows of the wanted tokens. Changes nothing, so it may run beside the writer; files that were set aside are
/// read as well.
///
/// # Errors
/// [`LedgerError::Io`] when a file cannot be read at all. Damage is a note, a missing ledger is an empty one.
pub fn read_where(state_dir: &Path, wanted: &dyn Fn(&str) -> bool, limit: usize) -> Result<History, LedgerError> {
    let dir = state_dir.join("ledger");
    let mut history = History::default();
    let months = match months(&dir) {
        Err(LedgerError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(history),
        months => months?,
    };
    for month in months.iter().rev() {
        let missing = limit.saturating_sub(history.rows.len());
        if missing == 0 {
            break;
        }
        let mut rows = Vec::new();
        for name in files_of(&dir, month)? {
            read_file(&dir, &name, wanted, missing, &mut rows, &mut history.notes)?;
        }
        newest(&mut rows, missing);
        history.rows.append(&mut rows);
    }
    history.rows.sort_by_key(|row| row.seq);
    Ok(history)
}

fn read_file(
    dir: &Path,
    name: &str,
    wanted: &dyn Fn(&str) -> bool,
    limit: usize,
    rows: &mut Vec<Row>,
    notes: &mut Vec<String>,
) -> Result<(), LedgerError> {
    let path = dir.join(name);
    let mut unreadable = 0_u64;
    for line in Lines::of(File::open(&path).map_err(failed("open", &path))?) {
        let line = line.map_err(failed("read", &path))?;
        match serde_json::from_slice::<Row>(&line.bytes) {
            Ok(row) if wanted(&row.token) => rows.push(row),
            Ok(_) => (),
            Err(_unreadable) => unreadable = unreadable.saturating_add(1),
        }
        // Twice the limit keeps memory bounded and sorting rare.
        if rows.len() > limit.saturating_mul(2).saturating_add(1000) {
            newest(rows, limit);
        }
    }
    if unreadable > 0 {
        notes.push(format!("{name}: {unreadable} line(s) cannot be read"));
    }
    Ok(())
}

fn newest(rows: &mut Vec<Row>, limit: usize) {
    rows.sort_by_key(|row| row.seq);
    rows.drain(..rows.len().saturating_sub(limit));
}

/// The names `YYYY-MM.jsonl` that there are files for, oldest first, also where only set-aside ones are left.
pub(super) fn months(dir: &Path) -> Result<Vec<String>, LedgerError> {
    Ok(file_names(dir)?.iter().filter_map(|name| month_of(name).map(str::to_owned)).collect::<BTreeSet<_>>().into_iter().collect())
}

fn files_of(dir: &Path, month: &str) -> Result<Vec<String>, LedgerError> {
    Ok(file_names(dir)?.into_iter().filter(|name| month_of(name) == Some(month)).collect())
}

/// The files that hold rows, by name: of a month the one that is written, then those that were set aside for damage. Torn ends
/// hold none.
pub(super) fn row_files(dir: &Path) -> Result<Vec<String>, LedgerError> {
    let of_rows = |name: &String| month_of(name).is_some_and(|month| !name.get(month.len()..).unwrap_or_default().starts_with(".torn-"));
    Ok(file_names(dir)?.into_iter().filter(of_rows).collect())
}

fn file_names(dir: &Path) -> Result<BTreeSet<String>, LedgerError> {
    let entries = fs::read_dir(dir).map_err(failed("list", dir))?;
    entries.map(|entry| Ok(entry.map_err(failed("list", dir))?.file_name().to_string_lossy().into_owned())).collect()
}

fn month_of(name: &str) -> Option<&str> {
    let (month, rest) = name.split_once(".jsonl")?;
    let digits = month.len() == 7 && month.bytes().enumerate().all(|(at, byte)| if at == 4 { byte == b'-' } else { byte.is_ascii_digit() });
    (digits && (rest.is_empty() || rest.starts_with('.'))).then(|| name.get(..month.len() + ".jsonl".len()))?
}

/// One line of a file, whatever it holds.
pub(super) struct Line {
    /// Its offset.
    pub(super) at: u64,
    /// Its bytes without the line end.
    pub(super) bytes: Vec<u8>,
    /// Whether it had a line end.
    pub(super) terminated: bool,
}

impl Line {
    /// The row's number; `None` when this is no row. Asks for no more than the number, so that rows of newer versions pass.
    pub(super) fn seq(&self) -> Option<u64> {
        #[derive(Deserialize)]
        struct Numbered {
            seq: u64,
        }
        serde_json::from_slice(&self.bytes).ok().map(|row: Numbered| row.seq)
    }
}

/// Reads lines of bounded length; a longer one comes in pieces, none of which is a row.
pub(super) struct Lines {
    file: BufReader<File>,
    at: u64,
}

impl Lines {
    pub(super) fn of(file: File) -> Self {
        Self { file: BufReader::new(file), at: 0 }
    }
}

impl Iterator for Lines {
    type Item = io::Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut bytes = Vec::new();
        let read = match self.file.by_ref().take(ROW_BYTES_MAX as u64 + 1).read_until(b'\n', &mut bytes) {
            Ok(0) => return None,
            Ok(read) => read,
            Err(error) => return Some(Err(error)),
        };
        let at = self.at;
        self.at = at.saturating_add(read as u64);
        let terminated = bytes.pop_if(|last| *last == b'\n').is_some();
        Some(Ok(Line { at, bytes, terminated }))
    }
}
