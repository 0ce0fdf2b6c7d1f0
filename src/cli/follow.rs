//! Following a rotation until it needs no more following.

use std::collections::BTreeMap;
use std::time::Duration;

use super::layout::plain;
use super::status::{grievances, why};
use super::{Exit, Failure, terminal};
use crate::clock;
use crate::daemon::control::client::ControlClient;
use crate::rotation::health::{Phase, TokenStatus};

/// How often a rotation is looked at while it is followed.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);

/// Follows rotations until every one is at rest, or in the hands of a person.
pub(super) async fn follow(client: &ControlClient, names: &[String]) -> Result<Exit, Failure> {
    let mut told: BTreeMap<String, String> = BTreeMap::new();
    loop {
        let document = client.status().await.map_err(|error| Failure::error(super::chain(&error)))?;
        let mut left = 0;
        let mut worst = Exit::Fine;
        for token in document.tokens.iter().filter(|token| names.contains(&token.name)) {
            tell_once(&mut told, token);
            let (ended, exit) = verdict(token);
            worst = worst.max(exit);
            left += usize::from(!ended);
        }
        if left == 0 {
            return Ok(worst);
        }
        tokio::time::sleep(FOLLOW_EVERY).await;
    }
}

/// Where a token is: what a person must know of first, else what is done or waited for.
fn line(token: &TokenStatus) -> String {
    let first = grievances(token, clock::wall()).into_iter().next();
    format!("{}: {}: {}", token.name, token.phase.name(), first.map_or_else(|| why(token), |condition| plain(&condition.message)))
}

/// Says where a token is, when that is news.
pub(super) fn tell_once(told: &mut BTreeMap<String, String>, token: &TokenStatus) {
    let line = line(token);
    if told.get(&token.name) != Some(&line) {
        terminal::say(&line);
        told.insert(token.name.clone(), line);
    }
}

/// Whether a followed token needs no more following, and how it stands.
pub(super) fn verdict(token: &TokenStatus) -> (bool, Exit) {
    let worst = |severity: &str| token.conditions.iter().any(|condition| condition.severity == severity);
    match token.phase {
        _ if worst("critical") => (true, Exit::Critical),
        // A rotation that was asked for and has not begun still shows as rest; its request is what it waits for.
        Phase::Rest if token.next_action.waiting_for.iter().any(|code| code == "acting" || code == "looking") => (false, Exit::Fine),
        Phase::Rest | Phase::Surplus => (true, if worst("attention") { Exit::Attention } else { Exit::Fine }),
        Phase::Frozen | Phase::NeedsHuman | Phase::Unadopted | Phase::Quarantined => (true, Exit::Attention),
        Phase::Unknown
        | Phase::Intent
        | Phase::Captured
        | Phase::Staged
        | Phase::Verified
        | Phase::Marked
        | Phase::Promoted
        | Phase::Propagating
        | Phase::Revoking
        | Phase::Checked => (false, Exit::Fine),
    }
}
