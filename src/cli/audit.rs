//! `evertoken audit verify`: checks the ledger's chain of hashes, whether a daemon runs or not.

use std::io::ErrorKind;
use std::path::Path;

use super::layout::{TableOptions, instant, plain, thousands, wrapped};
use super::session::settled;
use super::terminal::Progress;
use super::{Exit, Failure, Output, chain, show, terminal};
use crate::config::Environment;
use crate::ledger::{self, Audit, Demand, Finding, LedgerError};

/// `evertoken audit verify`.
pub(super) fn verify(config: &Path, demand: &Demand, output: Output) -> Result<Exit, Failure> {
    let state_dir = settled(config, &Environment::of_process())?.daemon.state_dir;
    let mut progress = Progress::new();
    let audit = ledger::verify(&state_dir, demand, &mut |rows| {
        progress.say(&format!("{} rows read", thousands(rows)));
    });
    drop(progress);
    let audit = audit.map_err(|error| unreadable(&error, &state_dir))?;
    match output {
        Output::Table => terminal::say(&text(&audit, demand, &state_dir, &show::options())),
        Output::Json => terminal::say(&serde_json::to_string_pretty(&audit).map_err(|error| Failure::error(error.to_string()))?),
    }
    Ok(if audit.proves() { Exit::Fine } else { Exit::Error })
}

fn unreadable(error: &LedgerError, state_dir: &Path) -> Failure {
    let folder = state_dir.join("ledger");
    Failure::error(match error {
        LedgerError::Io { source, .. } if source.kind() == ErrorKind::NotFound => format!(
            "there is no ledger in {}: no daemon has run with this state_dir, or somebody removed it. To do: check state_dir in the configuration; the log's `ledger.head` lines tell whether there was one",
            folder.display()
        ),
        LedgerError::Io { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
            format!("{}. To do: run this as the daemon's user or as root", chain(error))
        }
        LedgerError::Io { .. } | LedgerError::TooLong(_) | LedgerError::Unfit(_) => {
            format!("{}. Nothing is proved while a part of the ledger cannot be read", chain(error))
        }
    })
}

/// What was found, for people.
fn text(audit: &Audit, demand: &Demand, state_dir: &Path, options: &TableOptions) -> String {
    let count = |rows: u64| thousands(rows);
    let mut text = match (audit.faults, audit.rows) {
        (0, 0) => "Nothing is proved: no row has a hash\n".to_owned(),
        (0, _) => "The ledger is whole\n".to_owned(),
        (1, _) => "The ledger is BROKEN: 1 fault\n".to_owned(),
        (faults, _) => format!("The ledger is BROKEN: {} faults\n", count(faults)),
    };
    let mut row = |name: &str, what: String| text.push_str(&format!("  {name:<10} {what}\n"));
    row("rows", format!("{} checked", count(audit.rows)));
    if audit.passed_over > 0 {
        row("", format!("{} passed over, as --after said", count(audit.passed_over)));
    }
    if audit.unchained > 0 {
        row("", format!("{} unchained, from before there was a chain: nothing proves them", count(audit.unchained)));
    }
    if let (Some(first), Some(last)) = (audit.first, audit.last) {
        row("time", format!("{} to {}", instant(first), instant(last)));
    }
    if let (Some(seq), Some(head)) = (audit.seq, &audit.head) {
        row("head", format!("{head} (row {seq})"));
    }
    for finding in &audit.findings {
        text.push_str(&wrapped("wrong: ", &plain(&told(finding)), options));
    }
    let untold = audit.faults.saturating_sub(audit.findings.len() as u64);
    if untold > 0 {
        text.push_str(&format!("and {} more\n", count(untold)));
    }
    for note in &audit.notes {
        text.push_str(&wrapped("note: ", &plain(note), options));
    }
    text.push_str(&advice(audit, demand, state_dir, options));
    text
}

fn told(finding: &Finding) -> String {
    let place = match (&finding.file, finding.line) {
        (Some(file), Some(line)) => format!("{file}, line {line}: "),
        (Some(file), None) => format!("{file}: "),
        (None, _) => String::new(),
    };
    match finding.row {
        Some(row) => format!("{place}row {row} {}", finding.what),
        None => format!("{place}{}", finding.what),
    }
}

fn advice(audit: &Audit, demand: &Demand, state_dir: &Path, options: &TableOptions) -> String {
    let what = if audit.faults > 0 {
        format!(
            "keep a copy of {} as it is, and compare it with a backup and with the log: it tells each step too, and the ledger's head with it. Where the cause is known, `--after HASH` checks what comes after it",
            state_dir.join("ledger").display()
        )
    } else if audit.rows == 0 {
        "start the daemon: its first row begins the chain".to_owned()
    } else if demand.heads.is_empty() {
        "an end that was cut off shows only against a head from elsewhere: take the `head` of a `ledger.head` line from the log, and give it with --head".to_owned()
    } else {
        return String::new();
    };
    wrapped("to do: ", &what, options)
}
