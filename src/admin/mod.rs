//! What the daemon shows: probes, metrics, status and a page for people, over HTTP on TCP.
//!
//! Nothing here is secret and nothing changes anything, so there is no login; what is refused is what no honest client does. On
//! loopback a request that names a foreign host is a browser fooled by a rebound name, and one that was forwarded came from somewhere
//! else than this host: both get 403. Whatever a client does, it holds one of a bounded number of connections for a bounded time.
//!
//! **Liveness** (`/livez`) means that the loop turns, and nothing else: a provider or store that is down is not healed by a restart.
//! **Readiness** (`/readyz`) means that the daemon can do its work and that no token suffers: the loop turns, the ledger takes rows,
//! each token was looked at, its store can be read, and none is dead, expired or past its refresh. The provider being down fails
//! it only once a token is overdue by that. A reload that was refused does not: the configuration before it is in force.
//!
//! This module sees only a [`Snapshot`]; the daemon's own [`crate::daemon::snapshot`] is one, and so is a test's.

use std::fmt;

use jiff::{SignedDuration, Timestamp};

use crate::rotation::health::{BreakerStatus, Condition, StatusDocument, TokenStatus};
use crate::rotation::plan::Severity;
use crate::telemetry::metrics::Exposition;

pub mod door;
mod host;
mod listener;
mod page;
mod readiness;
pub(crate) mod routes;

pub use listener::{AdminError, Listener, bind, serve};
pub use readiness::{Check, LOOP_TURNS_WITHIN, is_live, readiness};
pub use routes::{Shown, respond};

/// What is shown, at one instant.
pub trait Snapshot: Send + Sync {
    /// Every token's latest status, in any order.
    fn statuses(&self) -> Vec<TokenStatus>;
    /// The daemon itself.
    fn daemon(&self) -> DaemonFacts;
    /// The answer to a scrape.
    ///
    /// # Errors
    /// As [`crate::telemetry::metrics::Metrics::render`] has them.
    fn metrics(&self, format: Exposition) -> Result<String, fmt::Error>;

    /// The document of `/v1/status`.
    fn document(&self) -> StatusDocument {
        let facts = self.daemon();
        let conditions = facts.conditions();
        StatusDocument::new(self.statuses(), facts.breaker, facts.now).with_conditions(conditions)
    }
}

/// What is to be known of the daemon, beside its tokens.
#[derive(Debug, Clone)]
pub struct DaemonFacts {
    /// The host's wall clock.
    pub now: Timestamp,
    /// How long ago the loop last turned, by the boot clock.
    pub loop_age: SignedDuration,
    /// How many tokens are configured.
    pub configured: usize,
    /// The fleet's breaker.
    pub breaker: BreakerStatus,
    /// Whether the last reload of the configuration was taken; true before the first.
    pub config_taken: bool,
    /// What keeps the ledger from taking rows, if anything does.
    pub ledger_trouble: Option<String>,
    /// Why the state directory is not this process's any more, if so.
    pub state_trouble: Option<String>,
    /// Why the control socket cannot be reached, if so.
    pub socket_trouble: Option<String>,
    /// Tokens whose store could not be read at the last try, and why.
    pub unreadable: Vec<(String, String)>,
}

impl DaemonFacts {
    /// What a person must know of the daemon itself.
    #[must_use]
    pub fn conditions(&self) -> Vec<Condition> {
        let state = self.state_trouble.as_ref().map(|why| {
            let text = format!("the state directory is not this daemon's any more: {why}");
            let remedy = "make it possible again; it is tried every few seconds";
            Condition::of("StateDirectory", "state_lost", &text, Some(remedy), Severity::Attention)
        });
        let ledger = self.ledger_trouble.as_ref().map(|why| {
            let text = format!("the audit ledger takes no rows: {why}");
            let remedy =
                "make room, or let the daemon's user write there; rotations go on meanwhile, and the log is the only trace of them";
            Condition::of("Ledger", "ledger_unwritable", &text, Some(remedy), Severity::Attention)
        });
        let socket = self.socket_trouble.as_ref().map(|why| {
            let text = format!("the control socket is gone: {why}");
            let remedy = "make its folder again; commands reach the daemon when it is back";
            Condition::of("ControlSocket", "control_lost", &text, Some(remedy), Severity::Attention)
        });
        state.into_iter().chain(ledger).chain(socket).collect()
    }
}
