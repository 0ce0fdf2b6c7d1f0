//! Liveness and readiness, computed from a snapshot.

use jiff::{SignedDuration, Timestamp};

use super::DaemonFacts;
use crate::rotation::health::{Phase, TokenStatus};

/// The loop turns at least every 30 s; three missed turns are too many.
pub const LOOP_TURNS_WITHIN: SignedDuration = SignedDuration::from_secs(90);

/// Tokens that one check names; the rest is counted.
const NAMED: usize = 5;

/// One part of readiness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Its name, stable.
    pub name: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// What was found.
    pub detail: String,
}

/// Whether the loop turns.
#[must_use]
pub fn is_live(facts: &DaemonFacts) -> bool {
    facts.loop_age <= LOOP_TURNS_WITHIN
}

/// Every check, in the order in which they are to be read.
#[must_use]
pub fn readiness(facts: &DaemonFacts, tokens: &[TokenStatus]) -> Vec<Check> {
    let age = facts.loop_age.as_secs();
    let config = if facts.config_taken {
        "the configuration is in force"
    } else {
        "the last reload was refused; the configuration before it is in force (see config.rejected in the log)"
    };
    let (ledger, state) = (facts.ledger_trouble.clone(), facts.state_trouble.clone());
    vec![
        Check { name: "loop", holds: is_live(facts), detail: format!("turned {age} s ago") },
        Check { name: "config", holds: true, detail: config.to_owned() },
        Check { name: "state_dir", holds: state.is_none(), detail: state.unwrap_or_else(|| "is locked by this daemon".to_owned()) },
        Check { name: "ledger", holds: ledger.is_none(), detail: ledger.unwrap_or_else(|| "takes rows".to_owned()) },
        looked_at(facts, tokens),
        stores(facts),
        no_token_suffers(facts.now, tokens),
    ]
}

fn looked_at(facts: &DaemonFacts, tokens: &[TokenStatus]) -> Check {
    // An unreadable store is a known reason, which the check of the stores tells.
    let excused = |token: &TokenStatus| facts.unreadable.iter().any(|(name, _)| *name == token.name);
    let seen = tokens.iter().filter(|token| token.phase != Phase::Unknown || excused(token)).count();
    Check {
        name: "looked_at",
        holds: seen >= facts.configured,
        detail: format!("{seen} of {} tokens were looked at since the start", facts.configured),
    }
}

fn stores(facts: &DaemonFacts) -> Check {
    let troubles = facts.unreadable.iter().map(|(token, why)| format!("{token}: {why}")).collect();
    named("stores", "every token's store could be read at the last look", troubles)
}

fn no_token_suffers(now: Timestamp, tokens: &[TokenStatus]) -> Check {
    let suffers = |token: &TokenStatus| {
        if token.ended(now) {
            return Some(format!("{}: expired", token.name));
        }
        let grave = |reason: &str| matches!(reason, "dead" | "expired" | "overdue");
        let condition = token.conditions.iter().find(|condition| grave(&condition.reason))?;
        Some(format!("{}: {}", token.name, condition.reason))
    };
    named("tokens", "no token is dead, expired or past its refresh", tokens.iter().filter_map(suffers).collect())
}

fn named(name: &'static str, fine: &str, troubles: Vec<String>) -> Check {
    if troubles.is_empty() {
        return Check { name, holds: true, detail: fine.to_owned() };
    }
    let more = troubles.len().saturating_sub(NAMED);
    let mut detail = troubles.into_iter().take(NAMED).collect::<Vec<_>>().join("; ");
    if more > 0 {
        detail.push_str(&format!("; and {more} more"));
    }
    Check { name, holds: false, detail }
}
