//! Checks the whole ledger: every row against the one before it, across all files. Reads only, holds one row of each file in memory, and
//! may run beside the daemon: what is being written at that moment is not counted.
//!
//! The order of the rows is the chain's own: after each row comes the one, in whatever file, whose hash fits. So it needs no rule which
//! file comes after which, and a clock that was set back does no harm. Where none fits, something is wrong; it is told, and the check
//! goes on from the hash that the next row states, so that each fault is told once or twice and not with every later row.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;

use super::chain::ChainHash;
use super::history::{Lines, row_files};
use super::row::Glance;
use super::{LedgerError, failed, marks};

/// Faults that are told one by one.
const TOLD: usize = 20;
/// After how many rows progress is told.
const STRIDE: u64 = 10_000;

/// What is known from elsewhere, and demanded of the ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Demand {
    /// These heads must be in it: rows up to each are then as they were when it was told.
    pub heads: BTreeSet<ChainHash>,
    /// Only what comes after this head is checked; the rows up to it may be gone (put into an archive), or known to be broken.
    pub after: Option<ChainHash>,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Audit {
    /// Rows that fit the row before them.
    pub rows: u64,
    /// Rows from before there was a chain; nothing proves them.
    pub unchained: u64,
    /// Rows that were passed over because [`Demand::after`] said so.
    pub passed_over: u64,
    /// The time of the first checked row.
    pub first: Option<Timestamp>,
    /// The time of the last one.
    pub last: Option<Timestamp>,
    /// The number of the last row.
    pub seq: Option<u64>,
    /// Its hash, in hex.
    pub head: Option<String>,
    /// What is worth knowing and no fault, one line each.
    pub notes: Vec<String>,
    /// How many faults there are.
    pub faults: u64,
    /// The first of them.
    pub findings: Vec<Finding>,
}

impl Audit {
    /// Whether rows were checked and all was in order.
    #[must_use]
    pub const fn proves(&self) -> bool {
        self.faults == 0 && self.rows > 0
    }

    fn saw(&mut self, row: &Glance<'_>, stated: ChainHash) {
        self.first = self.first.or(row.at);
        self.last = row.at.or(self.last);
        (self.seq, self.head) = (Some(row.seq), Some(stated.to_string()));
        if matches!(row.event.as_str(), marks::REPAIRED | marks::BROKEN) {
            self.notes.push(format!("row {}: {}", row.seq, row.message()));
        }
    }

    fn fault(&mut self, finding: Finding) {
        self.faults = self.faults.saturating_add(1);
        if self.findings.len() < TOLD {
            self.findings.push(finding);
        }
    }
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The row's number, where it is one row that is wrong and it can be read.
    pub row: Option<u64>,
    /// The file, where it is in one.
    pub file: Option<String>,
    /// The line in that file, from 1.
    pub line: Option<u64>,
    /// What is wrong.
    pub what: String,
}

/// Checks the ledger under a state folder. `progress` is told now and then how many rows were read.
///
/// # Errors
/// [`LedgerError::Io`] when there is no ledger (`NotFound`) or a file of it cannot be read.
pub fn verify(state_dir: &Path, demand: &Demand, progress: &mut dyn FnMut(u64)) -> Result<Audit, LedgerError> {
    let dir = state_dir.join("ledger");
    let streams = row_files(&dir)?.into_iter().map(|name| Stream::open(&dir, name)).collect::<Result<Vec<_>, _>>()?;
    let mut walk = Walk {
        streams,
        demand,
        missing: demand.heads.clone(),
        audit: Audit::default(),
        before: demand.after,
        begun: false,
        passing: false,
        first: None,
        last: 0,
        current: 0,
    };
    walk.streams.iter_mut().try_for_each(|stream| stream.advance(&mut walk.audit))?;
    walk.begin();
    let mut read = 0_u64;
    while walk.step()? {
        read = read.saturating_add(1);
        if read.is_multiple_of(STRIDE) {
            progress(read);
        }
    }
    Ok(walk.end())
}

/// One file, and the row that comes next in it.
struct Stream {
    name: String,
    path: PathBuf,
    lines: Lines,
    line: u64,
    next: Option<Vec<u8>>,
    /// The number of the next row, kept to choose by.
    seq: u64,
}

impl Stream {
    fn open(dir: &Path, name: String) -> Result<Self, LedgerError> {
        let path = dir.join(&name);
        let lines = Lines::of(File::open(&path).map_err(failed("open", &path))?);
        Ok(Self { name, path, lines, line: 0, next: None, seq: 0 })
    }

    /// Goes to the next row. Lines that are none are told; one without an end is being written, or the next start mends it.
    fn advance(&mut self, audit: &mut Audit) -> Result<(), LedgerError> {
        self.next = None;
        while let Some(line) = self.lines.next() {
            let line = line.map_err(failed("read", &self.path))?;
            self.line = self.line.saturating_add(1);
            match line.seq() {
                Some(seq) => {
                    self.seq = seq;
                    self.next = Some(line.bytes);
                    return Ok(());
                }
                None if !line.terminated => {
                    audit.notes.push(format!("{}: line {} has no end yet: it is being written, or a crash tore it", self.name, self.line));
                }
                None => audit.fault(self.finding(None, "cannot be read: it is damaged, or no row".to_owned())),
            }
        }
        Ok(())
    }

    fn finding(&self, row: Option<u64>, what: String) -> Finding {
        Finding { row, file: Some(self.name.clone()), line: Some(self.line), what }
    }

    fn glance(&self) -> Option<Glance<'_>> {
        Glance::of(self.next.as_ref()?)
    }
}

struct Walk<'a> {
    streams: Vec<Stream>,
    demand: &'a Demand,
    /// Demanded heads that were not met yet.
    missing: BTreeSet<ChainHash>,
    audit: Audit,
    /// The hash that the next row is chained to.
    before: Option<ChainHash>,
    /// A row of a chain was met.
    begun: bool,
    /// Rows are passed over until the demanded one.
    passing: bool,
    /// The number of the first row that was checked. Files are read side by side, so rows from before it may come later.
    first: Option<u64>,
    /// The highest number so far.
    last: u64,
    current: usize,
}

impl Walk<'_> {
    /// Rows up to [`Demand::after`] may be gone, so that its successor stands first; else they are passed over.
    fn begin(&mut self) {
        self.passing = self.demand.after.is_some_and(|after| self.follower(after).is_none());
        self.begun = self.demand.after.is_some() && !self.passing;
    }

    /// The file whose next row fits this hash, the current one first.
    fn follower(&self, hash: ChainHash) -> Option<usize> {
        let fits = |at: &usize| self.streams.get(*at).and_then(Stream::glance).is_some_and(|row| row.follows(hash));
        std::iter::once(self.current).chain(0..self.streams.len()).find(fits)
    }

    /// Takes one row. False when there is none left.
    fn step(&mut self) -> Result<bool, LedgerError> {
        let chosen = if self.passing { None } else { self.follower(self.before.unwrap_or(ChainHash::NONE)) };
        let fits = chosen.is_some();
        let lowest = || {
            let rest = self.streams.iter().enumerate().filter(|(_, stream)| stream.next.is_some());
            rest.min_by_key(|(at, stream)| (stream.seq, *at)).map(|(at, _)| at)
        };
        let Some(at) = chosen.or_else(lowest) else { return Ok(false) };
        self.current = at;
        let Some(stream) = self.streams.get_mut(at) else { return Ok(false) };
        let (line, mut finding) = (stream.next.take().unwrap_or_default(), stream.finding(None, String::new()));
        let what = match Glance::of(&line) {
            Some(row) => {
                finding.row = Some(row.seq);
                self.take(&row, fits)
            }
            None => Some("is no row".to_owned()),
        };
        if let Some(what) = what {
            finding.what = what;
            self.audit.fault(finding);
        }
        if let Some(stream) = self.streams.get_mut(at) {
            stream.advance(&mut self.audit)?;
        }
        Ok(true)
    }

    /// Counts a row and goes on behind it. What is wrong with it, if anything is.
    fn take(&mut self, row: &Glance<'_>, fits: bool) -> Option<String> {
        if let Some(stated) = row.stated {
            self.missing.remove(&stated);
        }
        let earlier = self.first.is_some_and(|first| row.seq < first);
        if self.passing || (earlier && self.demand.after.is_some()) {
            self.audit.passed_over = self.audit.passed_over.saturating_add(1);
            if self.passing && row.stated == self.demand.after {
                (self.passing, self.begun) = (false, true);
            }
            return None;
        }
        let (last, before) = (self.last, self.before);
        let Some(stated) = row.stated else {
            if self.begun && !earlier {
                return row.misfit(last, before);
            }
            self.audit.unchained = self.audit.unchained.saturating_add(1);
            return None;
        };
        let begun = std::mem::replace(&mut self.begun, true);
        self.before = Some(stated);
        self.last = last.max(row.seq);
        self.first = self.first.or(Some(row.seq));
        self.audit.saw(row, stated);
        if !begun && !fits {
            return Some(
                "is the first of the chain that is here, and does not begin it: rows before it are missing, or it was changed".to_owned(),
            );
        }
        let wrong = if begun { row.misfit(last, before) } else { None };
        if wrong.is_none() {
            self.audit.rows = self.audit.rows.saturating_add(1);
        }
        wrong
    }

    fn end(mut self) -> Audit {
        if let Some(after) = self.demand.after.filter(|_| self.passing) {
            self.audit.fault(nowhere(format!("no row has the hash {after}, after which the check was to begin")));
        }
        for head in &self.missing {
            self.audit.fault(nowhere(format!(
                "no row has the hash {head}: the rows from some point on were cut off or replaced, or it is another ledger's"
            )));
        }
        self.audit
    }
}

fn nowhere(what: String) -> Finding {
    Finding { row: None, file: None, line: None, what }
}
