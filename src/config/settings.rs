//! The configuration as the daemon uses it: types that cannot be wrong, defaults applied, every name resolved.
//!
//! What stands here was checked by [`load`](super::load): a token's `app`, `store` and `sinks` are there, its window is at least
//! twice its consumers' cache, and so on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use jiff::SignedDuration;
use reqwest::Url;

use super::cron::Tick;
pub use super::names::{AppName, NAME_BYTES_MAX, StoreName, TokenName};
use super::secret_ref::SecretRef;
use crate::rotation::payload::PayloadRule;

/// Everything.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// `[daemon]`.
    pub daemon: Daemon,
    /// `[http]`.
    pub http: Http,
    /// `[log]`.
    pub log: Log,
    /// `[network]`.
    pub network: Network,
    /// `[pace]`.
    pub pace: Pace,
    /// `[apps.NAME]`.
    pub apps: BTreeMap<AppName, App>,
    /// `[stores.NAME]`.
    pub stores: BTreeMap<StoreName, Store>,
    /// `[tokens.NAME]`, of all files.
    pub tokens: BTreeMap<TokenName, TokenSettings>,
}

impl Settings {
    /// The app of a token.
    #[must_use]
    pub fn app_of(&self, token: &TokenSettings) -> Option<&App> {
        self.apps.get(&token.app)
    }

    /// How many tokens an app has: what its default audit pace is divided among.
    #[must_use]
    pub fn tokens_of(&self, app: &AppName) -> usize {
        self.tokens.values().filter(|token| token.app == *app).count()
    }
}

/// `[daemon]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daemon {
    /// Where the lock, the spool and the ledger lie.
    pub state_dir: PathBuf,
    /// When the bell rings.
    pub tick: Tick,
    /// Where commands speak to the daemon.
    pub control_socket: PathBuf,
}

/// `[http]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Where to listen; `None` is `"off"`.
    pub listen: Option<SocketAddr>,
}

impl Http {
    /// Loopback: what is served holds no secret, but tells a lot.
    pub(super) const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9469);
}

/// `[log]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// The least level that is written.
    pub level: tracing::Level,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
    /// journald's native protocol.
    Journald,
}

impl LogFormat {
    /// All of them under their names.
    pub(super) const WORDS: [(&'static str, Self); 4] =
        [("auto", Self::Auto), ("json", Self::Json), ("text", Self::Text), ("journald", Self::Journald)];

    /// Its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Json => "json",
            Self::Text => "text",
            Self::Journald => "journald",
        }
    }
}

/// `[network]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Network {
    /// The proxy for every call that leaves the host; none unless set here.
    pub proxy: Option<Url>,
    /// A PEM file of certificate authorities to trust beside the built-in ones.
    pub ca_file: Option<PathBuf>,
}

/// `[pace]`, per second; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Refreshes at the provider.
    pub refreshes_per_second: Option<f64>,
    /// Writes to each store.
    pub store_writes_per_second: Option<f64>,
}

/// `[apps.NAME]`: an app at Meta.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// Its id: digits.
    pub id: String,
    /// Where its secret is.
    pub secret: SecretRef,
    /// Where its former secret is, while it is being rotated.
    pub secret_previous: Option<SecretRef>,
    /// The Graph API: https, or http on loopback.
    pub graph_url: Url,
    /// As in `v26.0`.
    pub graph_version: String,
    /// How the token is got that introspection is asked with.
    pub app_token: AppToken,
}

impl App {
    pub(super) const DEFAULT_GRAPH_VERSION: &str = "v26.0";

    /// Meta's own. The text is a URL, as a test holds; without an unwrap there is no other way to say so.
    pub(super) fn default_graph_url() -> Option<Url> {
        Url::parse("https://graph.facebook.com").ok()
    }
}

/// How an app's own token is got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AppToken {
    /// `id|secret`; fetched only after Graph refused it with code 190.
    #[default]
    Composed,
    /// By `client_credentials`.
    Fetched,
}

/// `[stores.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// `kind = "aws-secrets-manager"`.
    AwsSecretsManager(AwsSecretsManager),
    /// `kind = "file"`.
    File(FileSettings),
}

impl Store {
    /// The kind as configured.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::AwsSecretsManager(_) => "aws-secrets-manager",
            Self::File(_) => "file",
        }
    }
}

/// AWS Secrets Manager in one account and region. What is `None` comes from the AWS SDK's default chain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AwsSecretsManager {
    /// The region.
    pub region: Option<String>,
    /// The role to assume.
    pub role_arn: Option<String>,
    /// What the role's owner wants to see with it.
    pub external_id: Option<String>,
    /// The profile of the AWS config files.
    pub profile: Option<String>,
    /// Another endpoint: https, or http on loopback.
    pub endpoint_url: Option<Url>,
}

/// A file store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSettings {
    /// The folder below which entries are.
    pub dir: PathBuf,
    /// Permission bits of published files.
    pub mode: u32,
    /// Their group, by name or number; the process's own when `None`.
    pub group: Option<String>,
}

impl FileSettings {
    pub(super) const DEFAULT_MODE: u32 = 0o640;
}

/// `[tokens.NAME]`.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenSettings {
    /// The app that the token belongs to.
    pub app: AppName,
    /// The app-scoped id of the system user that it speaks for.
    pub system_user_id: String,
    /// Scopes that it must hold; `None`: those found at adoption.
    pub required_scopes: Option<BTreeSet<String>>,
    /// Where the token and the record of its rotation live.
    pub store: EntryRef,
    /// Where else it is published.
    pub sinks: Vec<EntryRef>,
    /// What happens with a valid token that is found in the entry.
    pub adopt: Adopt,
    /// How the token stands in its entries.
    pub payload: PayloadRule,
    /// When it is refreshed.
    pub schedule: Schedule,
    /// How long consumers get.
    pub propagation: Propagation,
}

/// An entry of a store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryRef {
    /// The store.
    pub store: StoreName,
    /// The entry in it.
    pub entry: String,
}

impl fmt::Display for EntryRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.store, self.entry)
    }
}

/// What happens with a valid token that is found in an entry without a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Adopt {
    /// It waits for `evertoken adopt`.
    #[default]
    Ask,
    /// It is taken over when app, user and scopes match.
    Auto,
}

/// `[tokens.NAME.schedule]` over `[defaults.schedule]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The refresh point, a fraction of the life.
    pub refresh_at: f64,
    /// How far it is moved either way, a fraction of it.
    pub jitter: f64,
    /// How often the current token is introspected. `None` where nobody said: then [`AUDIT_INTERVAL`], stretched so that an app's
    /// audits stay under its limit. A value that somebody wrote is obeyed.
    pub audit_interval: Option<SignedDuration>,
    /// How long a new token must live at least.
    pub min_life: SignedDuration,
}

/// The audit interval where nobody wrote one.
pub const AUDIT_INTERVAL: SignedDuration = SignedDuration::from_hours(1);

impl Default for Schedule {
    fn default() -> Self {
        Self { refresh_at: 0.5, jitter: 0.1, audit_interval: None, min_life: SignedDuration::from_hours(7 * 24) }
    }
}

impl Schedule {
    /// The latest point, as a fraction of the life, at which jitter may put the refresh.
    #[must_use]
    pub fn latest_refresh(&self) -> f64 {
        self.refresh_at * (1.0 + self.jitter)
    }
}

/// `[tokens.NAME.propagation]` over `[defaults.propagation]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Propagation {
    /// How long the old token lives on after the new one was published everywhere.
    pub window: SignedDuration,
    /// The longest time that any consumer keeps a token without looking again.
    pub consumer_ttl: SignedDuration,
}

impl Default for Propagation {
    fn default() -> Self {
        Self { window: SignedDuration::from_hours(24), consumer_ttl: SignedDuration::from_mins(5) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_log_format_is_named_once() {
        for (word, format) in LogFormat::WORDS {
            assert_eq!(format.name(), word);
        }
    }
}
