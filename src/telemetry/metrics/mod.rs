//! Metrics: counters and histograms that are counted as things happen, and gauges that are made from the status snapshot at each
//! scrape, so that they can never disagree with what `status` shows.
//!
//! Names are a contract with rules and dashboards: base units in the name, `_total` on counters (the encoder appends it), and no
//! label whose values the configuration does not bound. A token is known by its configured name alone.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, prometheus_text, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::LogCounts;
use crate::rotation::fault::FaultClass;

mod gauges;

pub use gauges::{DaemonGauges, TokenGauges};
use gauges::{Scrape, Snapshot};

/// From an answer out of a cache to the deadline of a call.
const CALL_SECONDS: [f64; 9] = [0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];
/// From one call to a verification that is tried for ten minutes.
const STEP_SECONDS: [f64; 9] = [0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 600.0];

/// The two text formats that scrapers ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Exposition {
    /// OpenMetrics 1.0.
    #[default]
    OpenMetrics,
    /// Prometheus' older text format 0.0.4.
    Prometheus,
}

impl Exposition {
    /// What a scraper's `Accept` header asks for. Without a wish for OpenMetrics it is the older format, which everything reads.
    #[must_use]
    pub fn accepted(accept: Option<&str>) -> Self {
        if accept.is_some_and(|accept| accept.contains("application/openmetrics-text")) { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// The `Content-Type` of the answer.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// What `build_info` says.
#[derive(Debug, Clone, Copy)]
pub struct Build {
    /// The version.
    pub version: &'static str,
    /// The commit it was built from, as far as known.
    pub revision: &'static str,
}

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Held while rendering: the gauges of the scrape that is being answered.
    snapshot: Arc<Mutex<Snapshot>>,
    rendering: Mutex<()>,
    steps: Family<StepLabels, Counter>,
    step_seconds: Timed<StepOnly>,
    failures: Family<FailureLabels, Counter>,
    publishes: Family<PublishLabels, Counter>,
    meta_requests: Family<MetaLabels, Counter>,
    meta_seconds: Timed<EndpointOnly>,
    aws_requests: Family<AwsLabels, Counter>,
}

type Timed<L> = Family<L, Histogram, fn() -> Histogram>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabels {
    token: String,
    step: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepOnly {
    step: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    token: String,
    step: &'static str,
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PublishLabels {
    token: String,
    sink: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MetaLabels {
    endpoint: &'static str,
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndpointOnly {
    endpoint: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AwsLabels {
    operation: &'static str,
    outcome: &'static str,
}

impl Metrics {
    /// Registers every family.
    #[must_use]
    pub fn new(build: Build, log: &LogCounts) -> Self {
        let snapshot = Arc::new(Mutex::new(Snapshot::default()));
        let step_seconds: Timed<StepOnly> = Family::new_with_constructor(|| Histogram::new(STEP_SECONDS));
        let meta_seconds: Timed<EndpointOnly> = Family::new_with_constructor(|| Histogram::new(CALL_SECONDS));
        let mut metrics = Self {
            registry: Registry::with_prefix("evertoken"),
            snapshot: Arc::clone(&snapshot),
            rendering: Mutex::default(),
            steps: Family::default(),
            step_seconds,
            failures: Family::default(),
            publishes: Family::default(),
            meta_requests: Family::default(),
            meta_seconds,
            aws_requests: Family::default(),
        };
        metrics.register(log);
        metrics.registry.register_collector(Box::new(Scrape::new(build, snapshot)));
        metrics
    }

    fn register(&mut self, log: &LogCounts) {
        let registry = &mut self.registry;
        registry.register("rotation_steps", "Steps of rotations that were taken, by their result", self.steps.clone());
        registry.register("rotation_failures", "Steps of rotations that failed, by the class of the fault", self.failures.clone());
        let help = "How long a step of a rotation took";
        registry.register_with_unit("rotation_step_duration", help, Unit::Seconds, self.step_seconds.clone());
        registry.register("sink_publish", "Writes of a token to a sink, by their result", self.publishes.clone());
        let help = "Requests to Meta's Graph API, by the class of the answer; ok when there was no fault";
        registry.register("meta_requests", help, self.meta_requests.clone());
        let help = "How long Meta's Graph API took to answer";
        registry.register_with_unit("meta_request_duration", help, Unit::Seconds, self.meta_seconds.clone());
        registry.register("aws_requests", "Requests to AWS, by operation and outcome", self.aws_requests.clone());
        let help = "Log lines that were never written because their reader was too slow or gone";
        registry.register("log_lines_dropped", help, log.dropped.clone());
        let help = "Log values in which something that looked like a secret was masked; every one is a defect";
        registry.register("log_redactions", help, log.redacted.clone());
    }

    /// Counts one step of a rotation.
    pub fn step(&self, token: &str, step: &'static str, result: &'static str) {
        self.steps.get_or_create_owned(&StepLabels { token: token.to_owned(), step, result }).inc();
    }

    /// Notes how long a step took.
    pub fn step_took(&self, step: &'static str, took: Duration) {
        self.step_seconds.get_or_create_owned(&StepOnly { step }).observe(took.as_secs_f64());
    }

    /// Counts one step that failed.
    pub fn failure(&self, token: &str, step: &'static str, class: FaultClass) {
        self.failures.get_or_create_owned(&FailureLabels { token: token.to_owned(), step, class: class.name() }).inc();
    }

    /// Counts one write of a token to a sink.
    pub fn published(&self, token: &str, sink: &str, result: &'static str) {
        self.publishes.get_or_create_owned(&PublishLabels { token: token.to_owned(), sink: sink.to_owned(), result }).inc();
    }

    /// Counts one request to Meta: `class` is `None` when there was no fault.
    pub fn meta_request(&self, endpoint: &'static str, class: Option<FaultClass>, took: Duration) {
        let class = class.map_or("ok", FaultClass::name);
        self.meta_requests.get_or_create_owned(&MetaLabels { endpoint, class }).inc();
        self.meta_seconds.get_or_create_owned(&EndpointOnly { endpoint }).observe(took.as_secs_f64());
    }

    /// Counts one request to AWS.
    pub fn aws_request(&self, operation: &'static str, outcome: &'static str) {
        self.aws_requests.get_or_create_owned(&AwsLabels { operation, outcome }).inc();
    }

    /// Answers a scrape.
    ///
    /// # Errors
    /// Never in practice: writing into a string cannot fail, and the encoder has no failure of its own for these types.
    pub fn render(&self, tokens: Vec<TokenGauges>, daemon: DaemonGauges, format: Exposition) -> Result<String, fmt::Error> {
        // The collector reads the snapshot while the registry encodes, so a second scrape waits for the first.
        let _alone = self.rendering.lock().unwrap_or_else(PoisonError::into_inner);
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = Snapshot { tokens, daemon };
        let mut body = String::new();
        let encoded = match format {
            Exposition::OpenMetrics => text::encode(&mut body, &self.registry),
            Exposition::Prometheus => prometheus_text::encode(&mut body, &self.registry),
        };
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = Snapshot::default();
        encoded.map(|()| body)
    }
}
