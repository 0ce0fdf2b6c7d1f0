//! What the operator wants for one token, translated from the configuration.

use std::collections::BTreeSet;

use jiff::SignedDuration;

use super::payload::PayloadRule;

/// The wishes for one token. Values that depend on a token's life are limits here; [`super::schedule`] fits them to the life seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// The configured name: the unit of everything that people see.
    pub token: String,
    /// The app that the token must belong to.
    pub app_id: String,
    /// The app-scoped system user that it must speak for.
    pub system_user_id: String,
    /// Scopes it must hold; `None`: those found at adoption.
    pub required_scopes: Option<BTreeSet<String>>,
    /// Whether a valid entry is taken over at first sight.
    pub adopt_at_sight: bool,
    /// How the token stands in its entry.
    pub payload: PayloadRule,
    /// Refresh point as a fraction of the life.
    pub refresh_at: f64,
    /// Spread of the refresh point, a fraction of it.
    pub jitter: f64,
    /// How often the current token and its places are looked at.
    pub audit_interval: SignedDuration,
    /// How long a new token must live at least.
    pub min_life: SignedDuration,
    /// How long consumers get to move, on the provider's clock.
    pub window: SignedDuration,
    /// How long consumers may keep a token before they read it again; only shown against the window, which the configuration's rules
    /// hold to twice this.
    pub consumer_ttl: SignedDuration,
    /// How often the daemon's bell rings: the second look before a revoke comes one of these later.
    pub tick: SignedDuration,
    /// Names of the sinks beside the store.
    pub sinks: Vec<String>,
}
