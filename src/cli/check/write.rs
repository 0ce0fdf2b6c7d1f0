//! `check --write`: one record more in each adopted entry, with the content of the last one. It proves what no look can: that this
//! process may write there, and reads back what it wrote.

use std::sync::Arc;

use super::super::session::{Alone, Purpose, Session};
use super::super::terminal::Progress;
use super::finding::Section;
use super::host::Daemon;
use crate::config::{Environment, Settings};
use crate::daemon::wake::Selector;
use crate::telemetry::LogCounts;

/// Writes where no daemon runs; beside one it is refused, since a record of a second writer would make the daemon look at all anew.
pub(super) async fn prove(settings: &Arc<Settings>, environment: Environment, log: &LogCounts, daemon: &Daemon) -> Section {
    let mut section = Section::new("writing");
    let refused = "a daemon runs, and it alone writes records";
    let remedy = "stop it for this; or let it prove the same: `evertoken hold TOKEN`, then `evertoken release TOKEN`, commits two records";
    if daemon.runs() {
        section.error(refused, remedy);
        return section;
    }
    let alone = match Session::open(Purpose::Act, (**settings).clone(), environment, log).await {
        Ok(Session::Alone(alone)) => alone,
        Ok(Session::Daemon(_)) => {
            section.error(refused, remedy);
            return section;
        }
        Err(failure) => {
            section.error(failure.text, "mend that, then check again");
            return section;
        }
    };
    write(&alone, &mut section).await;
    section
}

async fn write(alone: &Alone, section: &mut Section) {
    let mut progress = Progress::new();
    for mut worker in alone.workers(&Selector { all: true, ..Selector::default() }) {
        progress.say(&format!("writing the record of {}", worker.name()));
        match worker.prove_write(&alone.fleet).await {
            Ok(Some(number)) => section.fine(format!("token {}: record {number} is written and was read back", worker.name())),
            Ok(None) => section.fine(format!("token {}: not managed yet, so there is nothing to write", worker.name())),
            Err(why) => section.error(
                format!("token {}: {why}", worker.name()),
                "give evertoken the writing calls of the policy in docs/aws.md, or the file store's folder",
            ),
        }
    }
    if section.findings.is_empty() {
        section.fine("there is no token to write a record of");
    }
}
