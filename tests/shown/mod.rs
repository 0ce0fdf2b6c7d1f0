//! A snapshot that a test makes up.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::fmt;
use std::sync::{Arc, Mutex};

use evertoken::admin::{DaemonFacts, Snapshot};
use evertoken::rotation::health::{BreakerStatus, TokenStatus};
use evertoken::telemetry::metrics::Exposition;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

pub(crate) const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

/// What the test says is shown.
pub(crate) struct MadeUp {
    pub(crate) facts: Mutex<DaemonFacts>,
    pub(crate) tokens: Mutex<Vec<TokenStatus>>,
}

impl MadeUp {
    pub(crate) fn new(tokens: Vec<TokenStatus>) -> Arc<Self> {
        let facts = DaemonFacts {
            now: NOW,
            loop_age: SignedDuration::from_secs(3),
            configured: tokens.len(),
            breaker: BreakerStatus::default(),
            config_taken: true,
            ledger_trouble: None,
            state_trouble: None,
            socket_trouble: None,
            unreadable: Vec::new(),
        };
        Arc::new(Self { facts: Mutex::new(facts), tokens: Mutex::new(tokens) })
    }
}

impl Snapshot for MadeUp {
    fn statuses(&self) -> Vec<TokenStatus> {
        self.tokens.lock().unwrap().clone()
    }

    fn daemon(&self) -> DaemonFacts {
        self.facts.lock().unwrap().clone()
    }

    fn metrics(&self, format: Exposition) -> Result<String, fmt::Error> {
        Ok(format!("{format:?}\n"))
    }
}

/// A token at rest with an hour left, changed by the fields given.
pub(crate) fn token(name: &str, changes: &Value) -> TokenStatus {
    let mut status = json!({
        "name": name, "app_id": "1", "system_user_id": "2", "phase": "rest", "rotation_id": null, "attempt": null,
        "current": { "fingerprint": "00ff", "issued_at": null, "expires_at": "2027-01-15T09:00:00Z", "refresh_due": null,
            "data_access_expires_at": null },
        "previous": null, "next_action": { "what": "rests", "at": "2027-01-15T08:30:00Z", "waiting_for": ["resting"] },
        "conditions": [{ "type": "Ready", "status": "True", "reason": "valid", "message": "works", "severity": "calm" }],
        "sinks": [], "unaccounted": [], "gate": [], "last_error": null
    });
    status.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    serde_json::from_value(status).unwrap()
}
