//! An account in a region: its secrets by name, what reads may still show of the past, quotas, and the tally of calls.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::super::fault::fingerprint;
use super::knobs::Knobs;
use super::quota::{Buckets, Tally};
use super::refusal::Refusal;
use super::secret::{CURRENT, Secret, SecretValue};

/// Whose secrets these are.
const ACCOUNT_ID: &str = "111122223333";
/// How many past states of a secret a stale read may reach back to.
const PAST_MAX: usize = 64;

pub(super) struct Account {
    pub(super) region: String,
    pub(super) knobs: Knobs,
    pub(super) tally: Tally,
    pub(super) buckets: Buckets,
    secrets: BTreeMap<String, Tracked>,
    arns_given: u64,
}

/// A secret through time. It stays when the secret is gone, for stale reads and for the history.
#[derive(Default)]
struct Tracked {
    live: Option<Arc<Secret>>,
    past: VecDeque<Past>,
    /// By version; the day of the last `GetSecretValue`.
    accessed: BTreeMap<String, Timestamp>,
    currents: Vec<Current>,
}

struct Past {
    until: Timestamp,
    secret: Option<Arc<Secret>>,
}

/// From when a version was current.
#[derive(Clone)]
pub(super) struct Current {
    pub(super) since: Timestamp,
    pub(super) by: String,
    /// None: nothing was.
    pub(super) version: Option<(String, SecretValue)>,
}

impl Account {
    pub(super) fn new(region: &str) -> Self {
        Self {
            region: region.to_owned(),
            knobs: Knobs::default(),
            tally: Tally::default(),
            buckets: Buckets::default(),
            secrets: BTreeMap::new(),
            arns_given: 0,
        }
    }

    /// The secret that a `SecretId` (a name, an ARN, an ARN without its six last characters) means now.
    pub(super) fn find(&self, id: &str, now: Timestamp) -> Result<Arc<Secret>, Refusal> {
        self.find_as_of(id, now, 0)
    }

    /// The same as it was some milliseconds ago.
    pub(super) fn find_as_of(&self, id: &str, now: Timestamp, age_ms: u64) -> Result<Arc<Secret>, Refusal> {
        let age = SignedDuration::from_millis(i64::try_from(age_ms).unwrap_or(i64::MAX));
        let then = now.saturating_sub(age).unwrap_or(now);
        let seen = |name: &str| self.secrets.get(name).and_then(|tracked| tracked.as_of(then, now));
        let Some(tail) = id.strip_prefix(&self.arn_prefix()) else { return seen(id).ok_or_else(Refusal::no_secret) };
        // A partial ARN whose name ends in a hyphen and six characters is taken for a complete one, as the API reference warns.
        let found = match tail.rsplit_once('-') {
            Some((name, suffix)) if suffix.len() == 6 => seen(name).filter(|secret| secret.arn == id),
            Some(_) | None => seen(tail),
        };
        found.ok_or_else(Refusal::no_secret)
    }

    /// Puts the secret in the place of its former state.
    pub(super) fn commit(&mut self, secret: Secret, by: &str, now: Timestamp) {
        let name = secret.name.clone();
        self.secrets.entry(name).or_default().replace(Some(secret), by, now);
    }

    /// Removes a secret at once and for good.
    pub(super) fn remove(&mut self, name: &str, by: &str, now: Timestamp) {
        if let Some(tracked) = self.secrets.get_mut(name) {
            tracked.replace(None, by, now);
        }
    }

    pub(super) fn live(&self, now: Timestamp) -> impl Iterator<Item = Arc<Secret>> {
        self.secrets.values().filter_map(move |tracked| tracked.as_of(now, now))
    }

    pub(super) fn currents(&self, name: &str) -> Option<&[Current]> {
        self.secrets.get(name).map(|tracked| tracked.currents.as_slice())
    }

    pub(super) fn note_access(&mut self, name: &str, version: &str, now: Timestamp) {
        if let Some(tracked) = self.secrets.get_mut(name) {
            tracked.accessed.insert(version.to_owned(), now);
        }
    }

    pub(super) fn accessed(&self, name: &str, version: &str) -> Option<Timestamp> {
        self.secrets.get(name)?.accessed.get(version).copied()
    }

    pub(super) fn last_accessed(&self, name: &str) -> Option<Timestamp> {
        self.secrets.get(name)?.accessed.values().max().copied()
    }

    /// A new ARN; a name that is used again gets another one.
    pub(super) fn new_arn(&mut self, name: &str) -> String {
        self.arns_given += 1;
        let suffix: String = fingerprint(&format!("{name} {}", self.arns_given)).chars().take(6).collect();
        format!("{}{name}-{suffix}", self.arn_prefix())
    }

    fn arn_prefix(&self) -> String {
        format!("arn:aws:secretsmanager:{}:{ACCOUNT_ID}:secret:", self.region)
    }
}

impl Tracked {
    fn as_of(&self, then: Timestamp, now: Timestamp) -> Option<Arc<Secret>> {
        let past = if then < now { self.past.iter().find(|past| past.until > then) } else { None };
        let secret = past.map_or(&self.live, |past| &past.secret).as_ref()?;
        // Gone once its recovery window is over.
        secret.deletion.is_none_or(|deletion| deletion > now).then(|| Arc::clone(secret))
    }

    fn replace(&mut self, secret: Option<Secret>, by: &str, now: Timestamp) {
        let secret = secret.map(Arc::new);
        let version = secret.as_ref().and_then(|secret| secret.holder(CURRENT)).map(|held| (held.id.clone(), held.value.clone()));
        if self.currents.last().and_then(|last| last.version.as_ref()) != version.as_ref() {
            self.currents.push(Current { since: now, by: by.to_owned(), version });
        }
        if self.past.len() == PAST_MAX {
            self.past.pop_front();
        }
        self.past.push_back(Past { until: now, secret: std::mem::replace(&mut self.live, secret) });
    }
}
