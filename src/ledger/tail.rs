//! The end of the ledger: what the next row is chained to, and whether the last rows fit each other. Cheap however long the ledger is,
//! since it is looked at with every start; the whole is [`super::verify`]'s.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::chain::ChainHash;
use super::history::row_files;
use super::row::Glance;
use super::{Head, LedgerError, ROW_BYTES_MAX, Repair, failed, marks};

/// How much of a file's end is read for its last row.
const LAST_BYTES: u64 = 4 * ROW_BYTES_MAX as u64;
/// How much of the newest file's end is checked: thousands of rows.
const CHECKED_BYTES: u64 = 4 * 1024 * 1024;
/// Breaks that are told; of a ledger that is broken everywhere the first ones are enough.
const TOLD: usize = 3;

/// The row with the highest number, in whatever file: a clock that was set back can make that an older month's.
#[derive(Debug)]
pub(super) struct Newest {
    pub(super) file: String,
    pub(super) seq: u64,
    pub(super) hash: Option<ChainHash>,
    /// The highest number in any other file.
    elsewhere: u64,
}

impl Newest {
    /// What the next row is chained to; `None` where the row is from before there was a chain.
    pub(super) fn head(&self) -> Option<Head> {
        self.hash.map(|hash| Head { seq: self.seq, hash })
    }
}

/// Finds the newest row by the last rows of all files.
pub(super) fn newest(dir: &Path) -> Result<Option<Newest>, LedgerError> {
    let mut newest: Option<Newest> = None;
    for file in row_files(dir)? {
        let Some((seq, hash)) = last_row(dir, &file)? else { continue };
        match &mut newest {
            Some(newest) if newest.seq >= seq => newest.elsewhere = newest.elsewhere.max(seq),
            Some(_) | None => {
                let elsewhere = newest.as_ref().map_or(0, |before| before.seq);
                newest = Some(Newest { file, seq, hash, elsewhere });
            }
        }
    }
    Ok(newest)
}

fn last_row(dir: &Path, name: &str) -> Result<Option<(u64, Option<ChainHash>)>, LedgerError> {
    let mut last = None;
    // Damage at the end may be longer than what is read first.
    for bytes in [LAST_BYTES, u64::MAX] {
        let end = end(dir, name, bytes)?;
        last = last.or_else(|| end.split(|byte| *byte == b'\n').filter_map(Glance::of).map(|row| (row.seq, row.stated)).next_back());
        if last.is_some() || (end.len() as u64) < bytes {
            break;
        }
    }
    Ok(last)
}

/// The last bytes of a file, from the beginning of a line on.
fn end(dir: &Path, name: &str, bytes: u64) -> Result<Vec<u8>, LedgerError> {
    let path = dir.join(name);
    let read = || {
        let mut file = File::open(&path)?;
        let from = file.metadata()?.len().saturating_sub(bytes);
        file.seek(SeekFrom::Start(from))?;
        let mut end = Vec::new();
        file.take(bytes).read_to_end(&mut end)?;
        if from > 0 {
            let first = end.iter().position(|byte| *byte == b'\n').map_or(end.len(), |at| at + 1);
            end.drain(..first);
        }
        Ok(end)
    };
    read().map_err(failed("read", &path))
}

/// Rows near the end that do not fit the row before them and that no earlier start has told of.
pub(super) fn breaks(dir: &Path, newest: &Newest) -> Result<Vec<Repair>, LedgerError> {
    if !newest.file.ends_with(".jsonl") {
        // Set aside for damage, which was told then.
        return Ok(Vec::new());
    }
    let end = end(dir, &newest.file, CHECKED_BYTES)?;
    let mut found = Vec::new();
    let mut before: Option<(u64, Option<ChainHash>)> = None;
    for row in end.split(|byte| *byte == b'\n').filter_map(Glance::of) {
        if let Some((seq, hash)) = before {
            // Rows that are missing here may stand in another month's file.
            let elsewhere = row.seq > seq.saturating_add(1) && newest.elsewhere > seq;
            match row.misfit(seq, hash) {
                Some(what) if !elsewhere => found.push(Repair::Broken { file: newest.file.clone(), row: row.seq, what }),
                Some(_) | None => (),
            }
        }
        // What follows was written knowing of it.
        if row.event == marks::BROKEN {
            found.clear();
        }
        before = Some((row.seq, row.stated));
    }
    found.truncate(TOLD);
    Ok(found)
}
