//! What is done about a file that a crash or a bad disk has left in disorder: keep every byte, make room for the next row.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::history::Lines;
use super::{LedgerError, failed, open_options, sync_dir};

/// One repair, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repair {
    /// The last row had no end: its bytes were moved to another file.
    Torn {
        /// The file that was cut.
        file: String,
        /// The file that has the bytes now.
        kept_as: String,
        /// How many.
        bytes: u64,
        /// Their SHA-256, in hex.
        sha256: String,
    },
    /// Rows inside could not be read: the file was renamed, and a new one will be begun.
    Quarantined {
        /// The file.
        file: String,
        /// Its name now.
        kept_as: String,
    },
    /// A row does not fit the row before it. Nothing was changed by that.
    Broken {
        /// The file.
        file: String,
        /// The row's number.
        row: u64,
        /// What is wrong.
        what: String,
    },
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Torn { file, kept_as, bytes, sha256: _ } => {
                write!(f, "the last {bytes} bytes of {file} were no whole row; they are in {kept_as} now")
            }
            Self::Quarantined { file, kept_as } => write!(f, "{file} has unreadable rows inside; it is kept as {kept_as}"),
            Self::Broken { file, row, what } => write!(f, "row {row} of {file} {what}"),
        }
    }
}

/// Brings one file into a state in which a row may be appended. A file that is not there is fine.
pub(super) fn repair(dir: &Path, name: &str) -> Result<Option<Repair>, LedgerError> {
    let path = dir.join(name);
    let scan = match scan(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        scan => scan.map_err(failed("read", &path))?,
    };
    match scan {
        Scan::Whole => Ok(None),
        Scan::Unterminated => {
            let ended = open_options().append(true).open(&path).and_then(|mut file| file.write_all(b"\n").and_then(|()| file.sync_all()));
            ended.map_err(failed("end the last row of", &path))?;
            Ok(None)
        }
        Scan::TornFrom(at) => cut_tail(dir, name, at).map(Some),
        Scan::DamagedInside => {
            let kept_as = free_name(dir, name, "damaged")?;
            fs::rename(&path, dir.join(&kept_as)).map_err(failed("rename", &path))?;
            sync_dir(dir)?;
            Ok(Some(Repair::Quarantined { file: name.to_owned(), kept_as }))
        }
    }
}

enum Scan {
    Whole,
    /// The last row is good and only its line end is missing.
    Unterminated,
    /// From this offset on nothing can be read.
    TornFrom(u64),
    /// After something that cannot be read there are rows again.
    DamagedInside,
}

fn scan(path: &Path) -> io::Result<Scan> {
    let mut first_bad = None;
    let mut unterminated = false;
    for line in Lines::of(File::open(path)?) {
        let line = line?;
        match (line.seq(), first_bad) {
            (Some(_), Some(_)) => return Ok(Scan::DamagedInside),
            (Some(_), None) => unterminated = !line.terminated,
            (None, _) => first_bad = first_bad.or(Some(line.at)),
        }
    }
    Ok(match first_bad {
        Some(at) => Scan::TornFrom(at),
        None if unterminated => Scan::Unterminated,
        None => Scan::Whole,
    })
}

/// Copies the tail to a file of its own and syncs that before anything is cut.
fn cut_tail(dir: &Path, name: &str, at: u64) -> Result<Repair, LedgerError> {
    let path = dir.join(name);
    let kept_as = free_name(dir, name, "torn")?;
    let kept = dir.join(&kept_as);
    let mut file = open_options().read(true).write(true).open(&path).map_err(failed("open", &path))?;
    let mut copy = open_options().write(true).create_new(true).open(&kept).map_err(failed("make", &kept))?;
    let copied = file.seek(SeekFrom::Start(at)).and_then(|_| io::copy(&mut file, &mut copy));
    let bytes = copied.map_err(failed("copy the torn end of", &path))?;
    copy.sync_all().map_err(failed("sync", &kept))?;
    sync_dir(dir)?;
    let sha256 = digest(&kept).map_err(failed("read", &kept))?;
    file.set_len(at).and_then(|()| file.sync_all()).map_err(failed("cut the torn end of", &path))?;
    Ok(Repair::Torn { file: name.to_owned(), kept_as, bytes, sha256 })
}

fn digest(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            read => hash.update(buffer.get(..read).unwrap_or_default()),
        }
    }
}

fn free_name(dir: &Path, name: &str, why: &str) -> Result<String, LedgerError> {
    let mut number = 1_u32;
    loop {
        let candidate = format!("{name}.{why}-{number}");
        let path = dir.join(&candidate);
        if fs::symlink_metadata(&path).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            return Ok(candidate);
        }
        // A folder that cannot even be looked at would make this loop endless.
        number = number.checked_add(1).ok_or_else(|| failed("find a free name beside", &path)(ErrorKind::AlreadyExists.into()))?;
    }
}
