//! Gauges made from the status snapshot at each scrape, written straight into the answer: ten thousand tokens would otherwise be
//! kept twice.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::Build;
use crate::rotation::health::Phase;
use crate::rotation::token::Expiry;

/// What the status snapshot says of one token. What is `None` has no series, so that a rule over it stays silent.
#[derive(Debug, Clone)]
pub struct TokenGauges {
    /// Its configured name.
    pub token: String,
    /// The phase it is in.
    pub phase: Phase,
    /// When the current token ends; no series for one that never does.
    pub expires: Option<Expiry>,
    /// When its access to data ends.
    pub data_access_expires_at: Option<Timestamp>,
    /// When it is to be refreshed.
    pub refresh_due: Option<Timestamp>,
    /// When the old one is to be revoked.
    pub revoke_due: Option<Timestamp>,
    /// When each step last succeeded.
    pub last_success: Vec<(&'static str, Timestamp)>,
    /// Whether all is well with it.
    pub healthy: bool,
    /// Why it does not go on, where it does not: a stable word.
    pub blocked: Option<String>,
    /// How many versions of it are alive at the provider, as far as known.
    pub versions_live: u64,
    /// How many tokens may be alive that nobody holds.
    pub orphans: u64,
    /// How many consumers have acknowledged the current token, and how many are to.
    pub acks: Option<(u64, u64)>,
    /// For each sink, for how long it has held another token than the current one; zero when it is in step.
    pub sinks: Vec<(String, SignedDuration)>,
}

impl TokenGauges {
    /// A token of which nothing is known but its phase.
    #[must_use]
    pub const fn new(token: String, phase: Phase) -> Self {
        Self {
            token,
            phase,
            expires: None,
            data_access_expires_at: None,
            refresh_due: None,
            revoke_due: None,
            last_success: Vec::new(),
            healthy: false,
            blocked: None,
            versions_live: 0,
            orphans: 0,
            acks: None,
            sinks: Vec::new(),
        }
    }
}

/// What the status snapshot says of the daemon.
#[derive(Debug, Clone, Default)]
pub struct DaemonGauges {
    /// When the loop last turned.
    pub last_tick: Option<Timestamp>,
    /// Whether this process is the one that acts.
    pub leader: bool,
    /// Whether the last reload of the configuration was taken.
    pub config_reload_successful: bool,
    /// When a configuration was last taken.
    pub config_reloaded_at: Option<Timestamp>,
    /// For each app, the share of Meta's rate limit that is used, 1 being all of it.
    pub app_usage: Vec<(String, f64)>,
    /// How far the wall clock is ahead of the provider's.
    pub provider_clock_offset: Option<SignedDuration>,
    /// Whether the breaker forbids every revoke.
    pub breaker_open: bool,
    /// Whether the audit ledger takes rows.
    pub ledger_writable: bool,
    /// Whether the state directory is the one that this process locked.
    pub state_dir_held: bool,
    /// Whether the control socket is the one that this process bound.
    pub control_socket_bound: bool,
}

#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) tokens: Vec<TokenGauges>,
    pub(super) daemon: DaemonGauges,
}

#[derive(Debug)]
pub(super) struct Scrape {
    build: Build,
    snapshot: Arc<Mutex<Snapshot>>,
}

impl Scrape {
    pub(super) const fn new(build: Build, snapshot: Arc<Mutex<Snapshot>>) -> Self {
        Self { build, snapshot }
    }
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let snapshot = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        let mut families = Families(encoder);
        times(&mut families, &snapshot.tokens)?;
        states(&mut families, &snapshot.tokens)?;
        counts(&mut families, &snapshot.tokens)?;
        of_daemon(&mut families, &snapshot.daemon)?;
        families.plain("build_info", "What is running", [([("version", self.build.version), ("revision", self.build.revision)], 1.0)])
    }
}

struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    /// One family of gauges; no family at all without a series.
    fn gauges<'l, const N: usize>(
        &mut self,
        name: &str,
        unit: Option<&Unit>,
        help: &str,
        series: impl IntoIterator<Item = ([(&'static str, &'l str); N], f64)>,
    ) -> fmt::Result {
        let mut series = series.into_iter().peekable();
        if series.peek().is_none() {
            return Ok(());
        }
        let mut metric = self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        series.try_for_each(|(labels, value)| metric.encode_family(&labels)?.encode_gauge(&value))
    }

    fn plain<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = ([(&'static str, &'l str); N], f64)>,
    ) -> fmt::Result {
        self.gauges(name, None, help, series)
    }

    fn seconds<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = ([(&'static str, &'l str); N], f64)>,
    ) -> fmt::Result {
        self.gauges(name, Some(&Unit::Seconds), help, series)
    }
}

fn times(families: &mut Families<'_>, tokens: &[TokenGauges]) -> fmt::Result {
    let mut family = |name, help, at: fn(&TokenGauges) -> Option<Timestamp>| {
        families.seconds(name, help, tokens.iter().filter_map(|of| Some(([("token", of.token.as_str())], unix(at(of)?)))))
    };
    family("token_expiration_timestamp", "When the current token ends", |of| of.expires.and_then(Expiry::at))?;
    let help = "When the current token's access to data ends";
    family("token_data_access_expiration_timestamp", help, |of| of.data_access_expires_at)?;
    family("token_refresh_due_timestamp", "When the current token is to be refreshed", |of| of.refresh_due)?;
    family("token_revoke_due_timestamp", "When the old token is to be revoked", |of| of.revoke_due)?;
    let series = tokens
        .iter()
        .flat_map(|of| of.last_success.iter().map(move |(step, at)| ([("token", of.token.as_str()), ("step", *step)], unix(*at))));
    families.seconds("token_last_success_timestamp", "When a step last succeeded", series)
}

fn states(families: &mut Families<'_>, tokens: &[TokenGauges]) -> fmt::Result {
    let series = tokens.iter().flat_map(|of| {
        Phase::ALL.into_iter().map(move |phase| ([("token", of.token.as_str()), ("phase", phase.name())], truth(of.phase == phase)))
    });
    families.plain("token_phase", "The phase that the token is in has 1, the others 0", series)?;
    let series = tokens.iter().map(|of| ([("token", of.token.as_str())], truth(of.healthy)));
    families.plain("token_healthy", "Whether all is well with the token", series)?;
    let series = tokens.iter().filter_map(|of| Some(([("token", of.token.as_str()), ("reason", of.blocked.as_deref()?)], 1.0)));
    families.plain("token_blocked", "The token does not go on, for this reason", series)
}

fn counts(families: &mut Families<'_>, tokens: &[TokenGauges]) -> fmt::Result {
    let mut family = |name, help, count: fn(&TokenGauges) -> Option<u64>| {
        families.plain(name, help, tokens.iter().filter_map(|of| Some(([("token", of.token.as_str())], number(count(of)?)))))
    };
    let help = "Versions of the token that are alive: 1 at rest, 2 while it rotates";
    family("token_versions_live", help, |of| Some(of.versions_live))?;
    family("token_orphans", "Tokens that may be alive and that nobody holds", |of| Some(of.orphans))?;
    family("propagation_acks", "Consumers that have acknowledged the current token", |of| of.acks.map(|(given, _)| given))?;
    family("propagation_acks_expected", "Consumers that are to acknowledge the current token", |of| of.acks.map(|(_, all)| all))?;
    let series = tokens.iter().flat_map(|of| {
        of.sinks.iter().map(move |(sink, lag)| ([("token", of.token.as_str()), ("sink", sink.as_str())], lag.as_secs_f64()))
    });
    families.seconds("sink_lag", "For how long a sink has held another token than the current one", series)
}

fn of_daemon(families: &mut Families<'_>, daemon: &DaemonGauges) -> fmt::Result {
    let one = |value: Option<f64>| value.map(|value| ([], value));
    let usage = daemon.app_usage.iter().map(|(app, share)| ([("app", app.as_str())], *share));
    families.gauges("meta_app_usage", Some(&Unit::Other("ratio".into())), "The share of Meta's rate limit that an app uses", usage)?;
    let help = "How far the wall clock is ahead of the provider's";
    families.seconds("provider_clock_offset", help, one(daemon.provider_clock_offset.map(|offset| offset.as_secs_f64())))?;
    families.seconds("scheduler_last_tick_timestamp", "When the loop last turned", one(daemon.last_tick.map(unix)))?;
    families.plain("leader", "Whether this process is the one that acts", one(Some(truth(daemon.leader))))?;
    families.plain("breaker_open", "Whether the breaker forbids every revoke", one(Some(truth(daemon.breaker_open))))?;
    families.plain("ledger_writable", "Whether the audit ledger takes rows", one(Some(truth(daemon.ledger_writable))))?;
    let help = "Whether the state directory is the one that this process locked";
    families.plain("state_directory_held", help, one(Some(truth(daemon.state_dir_held))))?;
    let help = "Whether the control socket is the one that this process bound";
    families.plain("control_socket_bound", help, one(Some(truth(daemon.control_socket_bound))))?;
    let help = "Whether the last reload of the configuration was taken";
    families.plain("config_last_reload_successful", help, one(Some(truth(daemon.config_reload_successful))))?;
    let help = "When a configuration was last taken";
    families.seconds("config_last_reload_success_timestamp", help, one(daemon.config_reloaded_at.map(unix)))
}

fn unix(at: Timestamp) -> f64 {
    at.as_duration().as_secs_f64()
}

fn truth(value: bool) -> f64 {
    f64::from(u8::from(value))
}

/// Counts of tokens are far below 2^32, and more than that is not a number that anyone reads.
fn number(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
