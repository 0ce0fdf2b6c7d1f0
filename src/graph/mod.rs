//! Meta's Graph API: the five calls that a rotation needs.
//!
//! [`Provider`] is what the daemon sees; [`client::GraphClient`] is the real one. Every answer carries the provider's `Date`,
//! because irreversible steps are timed by the provider's clock only (I3.4).
//!
//! Nothing here retries, and nothing decides what a fault means for a rotation: an answer is read as far as it goes, and says
//! whether the effect may have happened. The parts, from the wire upwards: `url` builds what is sent (and never shows it),
//! `transport` sends it within a deadline and reads at most 64 KiB, [`usage`] reads the headers, [`error`] classifies refusals by a
//! table, `redaction` makes Meta's words fit for a log, `introspection` and `lenient` read what Meta spells in several ways.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use crate::rotation::fault::Fault;
use crate::rotation::token::{Introspection, Token};

mod app_token;
pub mod client;
pub mod error;
mod introspection;
mod lenient;
pub mod proof;
mod redaction;
mod transport;
mod url;
pub mod usage;

/// An answer of the provider, or the reason why there is none.
#[derive(Debug, Clone)]
pub struct Answer<T> {
    /// What came of the call.
    pub result: Result<T, Fault>,
    /// The `Date` header of the response, where one came and could be read.
    pub date: Option<Timestamp>,
    /// How hard the app is pressed.
    pub usage: Usage,
}

/// What the usage headers of one answer said.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// The highest percentage seen in any of the headers; 100 and more means throttled.
    pub percent: Option<f64>,
    /// How long until access is regained, the longest of `Retry-After` (seconds), `X-Business-Use-Case-Usage` (minutes) and
    /// `X-Ad-Account-Usage` (seconds). The last is also sent by an app that is far from its limit, so this binds only after a
    /// throttled call or with `percent` at 100; a throttled call's own wait is in [`Fault::wait`].
    pub regain_after: Option<SignedDuration>,
}

/// A refreshed token, as answered. The text is not yet checked: it may be no token at all.
pub struct Refreshed {
    /// `access_token` as it came.
    pub text: secrecy::SecretString,
    /// `expires_in` in seconds, a hint only: introspection decides.
    pub expires_in: Option<i64>,
}

impl std::fmt::Debug for Refreshed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Refreshed").field("expires_in", &self.expires_in).finish_non_exhaustive()
    }
}

/// Who a token speaks for, as it says itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Me {
    /// The app-scoped id.
    pub id: Option<String>,
    /// The display name.
    pub name: Option<String>,
    /// Present for tokens of Login for Business (BISU), which are never scheduled for revoke.
    pub client_business_id: Option<String>,
}

/// The calls of one app at the provider.
#[async_trait]
pub trait Provider: Send + Sync {
    /// `GET oauth/access_token` with `fb_exchange_token`: mints a new token, the old one stays. Never retried here; only a failure
    /// to connect is `NotDone` without an answer.
    async fn refresh(&self, old: &Token) -> Answer<Refreshed>;

    /// `GET debug_token` with the app's token as caller. A dead token is an `Ok` with `valid: false`.
    async fn introspect(&self, token: &Token) -> Answer<Introspection>;

    /// `GET debug_token` of the app token itself: is the app's own credential healthy?
    async fn introspect_app(&self) -> Answer<Introspection>;

    /// `GET me` with the token and its proof: does it work for a consumer?
    async fn me(&self, token: &Token) -> Answer<Me>;

    /// `GET oauth/revoke` of `victim`, called with `caller` (the new token). `Ok(true)` when the body said success; the body never
    /// decides (I9).
    async fn revoke(&self, victim: &Token, caller: &Token) -> Answer<bool>;
}
