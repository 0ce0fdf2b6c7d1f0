//! Knobs about the traffic: who is refused, what the usage headers, the version and the date say.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Refuses calls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// The call, or `*`.
    pub call: String,
    /// How many are still to be refused; null until the knob is taken back.
    #[serde(default)]
    pub times: Option<u32>,
    /// `error.code`: 4, 17, 32, 613, 80007, 80008 throttle; 368 is a policy block; 190 with 459 a checkpoint; 200 "API access blocked".
    pub code: i64,
    /// `error.error_subcode`.
    #[serde(default)]
    pub subcode: Option<i64>,
    /// `error.message`; the known one of the code unless said.
    #[serde(default)]
    pub message: Option<String>,
    /// Usage headers of the refusal (F14).
    #[serde(default)]
    pub usage: Usage,
}

/// Usage headers. Each comes only when set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Usage {
    /// `X-App-Usage`, percent.
    pub app_percent: Option<i64>,
    /// `X-Ad-Account-Usage`, percent.
    pub ad_account_percent: Option<f64>,
    /// `reset_time_duration` in it, **seconds**.
    pub ad_account_reset_s: Option<i64>,
    /// `X-Business-Use-Case-Usage`, percent.
    pub business_percent: Option<i64>,
    /// `estimated_time_to_regain_access` in it, **minutes**.
    pub business_regain_min: Option<i64>,
    /// The business header names the same id twice, as Meta's own sample does.
    pub duplicate_keys: bool,
    /// `Retry-After`, seconds, or any text.
    pub retry_after: Option<String>,
    /// Any other header.
    pub other: BTreeMap<String, String>,
}

/// Versions of the API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VersionKnobs {
    /// The oldest one that still works; older ones are served as this one (F25).
    pub floor: String,
    /// The newest; what is above is unknown.
    pub latest: String,
}

impl Default for VersionKnobs {
    fn default() -> Self {
        Self { floor: "v21.0".into(), latest: "v26.0".into() }
    }
}

/// The `Date` header.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DateKnobs {
    /// None is sent.
    pub missing: bool,
    /// Always this one.
    pub frozen_at: Option<Timestamp>,
    /// Seconds by which it is ahead of the clock.
    pub shift_s: i64,
    /// This text, which need not be a date.
    pub raw: Option<String>,
}
