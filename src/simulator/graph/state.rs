//! The world that the simulated Graph keeps: businesses, apps, system users, tokens.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::knobs::Knobs;
use super::violations::{VIOLATIONS_MAX, Violation, ViolationKind};
use crate::simulator::fault::fingerprint;

/// A business.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Business {
    /// Its id.
    pub id: String,
    /// Its tokens must expire.
    #[serde(default)]
    pub requires_expiring: bool,
    /// It may have 10 ordinary system users instead of one.
    #[serde(default)]
    pub full_tier: bool,
    /// The WhatsApp accounts it has, each with its phone numbers' ids.
    #[serde(default)]
    pub whatsapp_accounts: BTreeMap<String, Vec<String>>,
}

/// An app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: String,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// The business that owns it.
    pub business: String,
    /// Calls need `appsecret_proof`.
    #[serde(default)]
    pub require_proof: bool,
    /// Whether it is in good standing.
    #[serde(default)]
    pub status: AppStatus,
    /// The caller's address is not on the app's list of server addresses (F28).
    #[serde(default)]
    pub address_refused: bool,
}

/// The standing of an app.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AppStatus {
    /// Good.
    #[default]
    Ok,
    /// Over its limit.
    Throttled,
    /// Switched off by Meta.
    Disabled,
    /// Gone.
    Deleted,
}

/// A system user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SystemUser {
    /// Its id, as the apps see it.
    pub id: String,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// The business that it belongs to.
    pub business: String,
    /// Whether it is an admin.
    #[serde(default)]
    pub admin: bool,
    /// The apps installed for it.
    #[serde(default)]
    pub installed: BTreeSet<String>,
    /// The assets that it may use; an admin may use all.
    #[serde(default)]
    pub assets: BTreeSet<String>,
}

/// What a token is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    /// A classic system user token.
    #[default]
    SystemUser,
    /// A Business Integration system user token, of Login for Business.
    BusinessIntegration,
    /// A person's token.
    User,
    /// An app token from `client_credentials`.
    App,
}

impl TokenKind {
    /// `type` in introspection.
    pub(super) fn shown(self) -> &'static str {
        match self {
            Self::SystemUser | Self::BusinessIntegration => "SYSTEM_USER",
            Self::User => "USER",
            Self::App => "APP",
        }
    }
}

/// Whether a token was ended, and how. Expiry is not here: it follows from the clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenState {
    /// Not ended.
    #[default]
    Live,
    /// By `oauth/revoke`.
    Revoked,
    /// By `DELETE {user}/access_tokens`.
    BulkRevoked,
    /// By Meta, for security: 190/460.
    SecurityInvalidated,
    /// By logging out: 190/467.
    LoggedOut,
    /// The app's integration was removed: 190/464, and introspection has no `data`.
    Removed,
    /// The app was de-authorised: 190/458.
    Deauthorized,
}

/// A token to be issued by hand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenSpec {
    /// The app.
    pub app: String,
    /// The user, none for an app token.
    pub user: Option<String>,
    /// What it is.
    pub kind: TokenKind,
    /// The scopes.
    pub scopes: Vec<String>,
    /// Targets of scopes; a scope without an entry is for all targets.
    pub granular: BTreeMap<String, Vec<String>>,
    /// Seconds to live: the knob's unless said; 0 never expires.
    pub life_s: Option<i64>,
    /// Seconds since it was issued.
    pub age_s: i64,
    /// Its text; a random one unless said.
    pub text: Option<String>,
}

/// A token.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) fingerprint: String,
    pub(super) app: String,
    pub(super) user: Option<String>,
    pub(super) kind: TokenKind,
    /// What introspection says instead of the true app and type (F12).
    pub(super) app_shown: Option<String>,
    pub(super) kind_shown: Option<String>,
    pub(super) scopes: Vec<String>,
    pub(super) granular: BTreeMap<String, Vec<String>>,
    pub(super) issued_at: Timestamp,
    /// None: never.
    pub(super) expires_at: Option<Timestamp>,
    /// Refused before that (F10).
    pub(super) valid_from: Timestamp,
    pub(super) state: TokenState,
    /// A revoke that takes its time ends it then (F9).
    pub(super) revoked_from: Option<Timestamp>,
    /// Tokens refreshed from one another share their origin's number.
    pub(super) session: usize,
    pub(super) minted_from: Option<String>,
    /// Whether the answer that carried it left whole.
    pub(super) delivered: bool,
    pub(super) uses: u64,
    pub(super) last_use: Option<Timestamp>,
    /// Successful calls such as a consumer makes.
    pub(super) consumer_uses: u64,
    /// The last refresh that was made of it: when, and the number of the token that came.
    pub(super) refreshed: Option<(Timestamp, usize)>,
    /// When a refresh of it was last answered with 190, and the world's revision then.
    pub(super) refused: Option<(Timestamp, u64)>,
}

impl Token {
    /// Why it does not work now, if so.
    pub(super) fn end(&self, now: Timestamp) -> Option<End> {
        match self.state {
            TokenState::Live if self.revoked_from.is_some_and(|from| from <= now) => Some(End::State(TokenState::Revoked)),
            TokenState::Live if self.expires_at.is_some_and(|at| at <= now) => Some(End::Expired),
            TokenState::Live if now < self.valid_from => Some(End::NotYet),
            TokenState::Live => None,
            ended @ (TokenState::Revoked
            | TokenState::BulkRevoked
            | TokenState::SecurityInvalidated
            | TokenState::LoggedOut
            | TokenState::Removed
            | TokenState::Deauthorized) => Some(End::State(ended)),
        }
    }
}

/// Why a token does not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    State(TokenState),
    Expired,
    NotYet,
}

/// Everything behind the service's lock.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) knobs: Knobs,
    pub(super) businesses: BTreeMap<String, Business>,
    pub(super) apps: BTreeMap<String, App>,
    pub(super) users: BTreeMap<String, SystemUser>,
    pub(super) tokens: Vec<Token>,
    by_text: HashMap<String, usize>,
    pub(super) violations: Vec<Violation>,
    /// Until when an app was told to wait.
    pub(super) throttled_until: BTreeMap<String, Timestamp>,
    /// Counts changes made from outside, each of which is a good reason to try again.
    pub(super) revision: u64,
}

impl World {
    pub(super) fn find(&self, text: &str) -> Option<usize> {
        self.by_text.get(text).copied()
    }

    pub(super) fn find_by_fingerprint(&self, wanted: &str) -> Option<usize> {
        self.tokens.iter().position(|token| token.fingerprint == wanted)
    }

    /// Issues a token. A text that is already a token's takes its place.
    pub(super) fn issue(&mut self, spec: TokenSpec, now: Timestamp) -> usize {
        let life = spec.life_s.unwrap_or(self.knobs.token_life_s);
        let issued_at = later(whole_second(now), spec.age_s.saturating_neg());
        let text = spec.text.unwrap_or_else(|| random_token(&self.knobs.marker));
        let at = self.tokens.len();
        self.by_text.insert(text.clone(), at);
        self.tokens.push(Token {
            fingerprint: fingerprint(&text),
            text,
            app: spec.app,
            user: spec.user,
            kind: spec.kind,
            app_shown: None,
            kind_shown: None,
            scopes: spec.scopes,
            granular: spec.granular,
            issued_at,
            expires_at: (life != 0).then(|| later(issued_at, life)),
            valid_from: issued_at,
            state: TokenState::Live,
            revoked_from: None,
            session: at,
            minted_from: None,
            delivered: true,
            uses: 0,
            last_use: None,
            consumer_uses: 0,
            refreshed: None,
            refused: None,
        });
        at
    }

    pub(super) fn violate(&mut self, kind: ViolationKind, now: Timestamp, detail: String) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(Violation { kind, at: now, detail });
        }
    }
}

/// `at` moved by seconds, as far as time goes.
pub(super) fn later(at: Timestamp, seconds: i64) -> Timestamp {
    let end = if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    at.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(end)
}

/// Graph tells time in whole seconds.
pub(super) fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// Random text of base62 digits.
pub(super) fn random_digits(length: usize) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    // Bytes 6 and 8 of a random UUID carry its version.
    std::iter::repeat_with(|| uuid::Uuid::new_v4().into_bytes())
        .flat_map(|bytes| bytes.into_iter().enumerate().filter(|(at, _)| *at != 6 && *at != 8).map(|(_, byte)| byte))
        .filter_map(|byte| DIGITS.get(usize::from(byte)).copied().map(char::from))
        .take(length)
        .collect()
}

/// A text shaped like Meta's: `EAA`, some 180 base62 digits around the marker, `ZD`.
pub(super) fn random_token(marker: &str) -> String {
    format!("EAA{}{marker}{}ZD", random_digits(90), random_digits(90))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_random_and_carry_the_marker() {
        let (one, two) = (random_token("CANARY"), random_token("CANARY"));
        assert_ne!(one, two);
        assert!(one.starts_with("EAA") && one.ends_with("ZD") && one.contains("CANARY") && one.len() == 191);
        assert!(one.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }

    #[test]
    fn a_token_ends_by_each_cause() {
        let mut world = World::default();
        let now = Timestamp::from_second(1_000_000).unwrap();
        let at = world.issue(TokenSpec { life_s: Some(10), age_s: 4, ..TokenSpec::default() }, now);
        let token = &mut world.tokens[at];
        assert_eq!((token.end(now), token.end(later(now, 5)), token.end(later(now, 6))), (None, None, Some(End::Expired)));
        token.valid_from = later(now, 1);
        assert_eq!(token.end(now), Some(End::NotYet));
        token.revoked_from = Some(later(now, 3));
        assert_eq!(token.end(later(now, 2)), None);
        assert_eq!(token.end(later(now, 3)), Some(End::State(TokenState::Revoked)));
        token.state = TokenState::Removed;
        assert_eq!(token.end(now), Some(End::State(TokenState::Removed)));
    }
}
