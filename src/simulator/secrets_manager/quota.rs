//! Rates and counts of calls. AWS counts per account and region and, for most calls, several operations together.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::Action;
use super::knobs::Knobs;
use super::refusal::{ErrorType, Refusal};

/// What a call counts against. Source: the quotas page of the user guide, "Combined rate of …".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Quota {
    /// `DescribeSecret` and `GetSecretValue`.
    Read,
    /// `PutSecretValue`, `UpdateSecret` and `UpdateSecretVersionStage`: the narrow one.
    Write,
    /// One of its own: listing, creating, deleting, restoring.
    Other,
}

impl Action {
    /// What the call counts against.
    #[must_use]
    pub const fn quota(self) -> Quota {
        match self {
            Self::DescribeSecret | Self::GetSecretValue => Quota::Read,
            Self::PutSecretValue | Self::UpdateSecret | Self::UpdateSecretVersionStage => Quota::Write,
            Self::CreateSecret | Self::DeleteSecret | Self::ListSecretVersionIds | Self::RestoreSecret => Quota::Other,
        }
    }
}

/// How many calls came, since the start or the last reset. Calls that a transport fault kept away are not among them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// By what they count against; throttled calls do not count.
    pub quotas: BTreeMap<Quota, u64>,
    /// By operation.
    pub actions: BTreeMap<Action, Counts>,
}

/// How the calls of one operation went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All of them.
    pub calls: u64,
    /// Those refused, by the error's name.
    pub refused: BTreeMap<ErrorType, u64>,
}

impl Tally {
    /// Calls that counted against that quota.
    #[must_use]
    pub fn counted(&self, quota: Quota) -> u64 {
        self.quotas.get(&quota).copied().unwrap_or_default()
    }

    /// Calls of that operation.
    #[must_use]
    pub fn calls(&self, action: Action) -> u64 {
        self.actions.get(&action).map_or(0, |counts| counts.calls)
    }

    pub(super) fn note(&mut self, action: Action, refused: Option<ErrorType>) {
        let counts = self.actions.entry(action).or_default();
        counts.calls += 1;
        if let Some(error) = refused {
            *counts.refused.entry(error).or_default() += 1;
        }
        if refused != Some(ErrorType::ThrottlingException) {
            *self.quotas.entry(action.quota()).or_default() += 1;
        }
    }
}

/// GUESS(S7): a token bucket of one second's calls for each quota; AWS names the rates, not the algorithm.
#[derive(Default)]
pub(super) struct Buckets {
    reads: Option<Bucket>,
    writes: Option<Bucket>,
}

struct Bucket {
    left: f64,
    seen: Timestamp,
}

impl Buckets {
    pub(super) fn take(&mut self, quota: Quota, knobs: &Knobs, now: Timestamp) -> Result<(), Refusal> {
        let (bucket, rate) = match quota {
            Quota::Read => (&mut self.reads, knobs.reads_per_second),
            Quota::Write => (&mut self.writes, knobs.writes_per_second),
            Quota::Other => return Ok(()),
        };
        let Some(rate) = rate.map(f64::from) else { return Ok(()) };
        let bucket = bucket.get_or_insert(Bucket { left: rate, seen: now });
        let passed = now.duration_since(bucket.seen).as_secs_f64().max(0.0);
        *bucket = Bucket { left: passed.mul_add(rate, bucket.left).min(rate), seen: now };
        if bucket.left < 1.0 {
            return Err(Refusal::new(ErrorType::ThrottlingException, "Rate exceeded"));
        }
        bucket.left -= 1.0;
        Ok(())
    }
}
