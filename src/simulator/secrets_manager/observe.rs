//! What an observer sees: every version with its labels and fingerprint, where AWSCURRENT was and when, what was called how often.
//!
//! Observers see the truth, never a stale state, and values only where they ask for them.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;

use super::SecretsManager;
use super::account::{Account, Current};
use super::knobs::Knobs;
use super::quota::Tally;
use super::secret::{Secret, SecretValue};

/// A secret as an observer sees it.
#[derive(Clone, Serialize)]
pub struct SecretDump {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// When it will be gone, where it is scheduled for deletion.
    pub deletion: Option<Timestamp>,
    /// Whether native rotation is on.
    pub rotation_enabled: bool,
    /// Its versions by age, those without a label too.
    pub versions: Vec<VersionDump>,
}

impl SecretDump {
    /// The version under that label.
    #[must_use]
    pub fn labelled(&self, label: &str) -> Option<&VersionDump> {
        self.versions.iter().find(|version| version.labels.contains(label))
    }
}

/// A version as an observer sees it.
#[derive(Clone, Serialize)]
pub struct VersionDump {
    /// Its id.
    pub id: String,
    /// Its labels.
    pub labels: BTreeSet<String>,
    /// The first 16 hex digits of the SHA-256 of its text (of the base64 of its bytes, where it is binary).
    pub fingerprint: String,
    /// When it was made.
    pub created: Timestamp,
    /// What it holds; only where asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// From when a version was current, until the next such entry.
#[derive(Clone, Serialize)]
pub struct CurrentSince {
    /// From when.
    pub since: Timestamp,
    /// The operation that did it, or `person`.
    pub by: String,
    /// The version's id; none: the secret was gone or empty.
    pub version: Option<String>,
    /// Its fingerprint.
    pub fingerprint: Option<String>,
    /// What it holds; only where asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

impl SecretsManager {
    /// A secret as it is now, never stale.
    #[must_use]
    pub fn dump(&self, secret: &str, values: bool, now: Timestamp) -> Option<SecretDump> {
        self.lock().find(secret, now).ok().map(|secret| dump(&secret, values))
    }

    /// All secrets as they are now.
    #[must_use]
    pub fn dump_all(&self, values: bool, now: Timestamp) -> Vec<SecretDump> {
        self.lock().live(now).map(|secret| dump(&secret, values)).collect()
    }

    /// Where AWSCURRENT was, from the secret's creation on, by its name; it outlives the secret.
    #[must_use]
    pub fn current_history(&self, name: &str, values: bool) -> Vec<CurrentSince> {
        let account: &Account = &self.lock();
        account.currents(name).unwrap_or_default().iter().map(|current| current_since(current, values)).collect()
    }

    /// The calls so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.lock().tally.clone()
    }

    /// Forgets the calls so far.
    pub fn reset_tally(&self) {
        self.lock().tally = Tally::default();
    }

    /// The settings.
    #[must_use]
    pub fn knobs(&self) -> Knobs {
        self.lock().knobs.clone()
    }

    /// Changes the settings.
    pub fn turn(&self, turn: impl FnOnce(&mut Knobs)) {
        turn(&mut self.lock().knobs);
    }
}

fn dump(secret: &Secret, values: bool) -> SecretDump {
    let versions = secret.versions.iter().map(|version| VersionDump {
        id: version.id.clone(),
        labels: version.labels.clone(),
        fingerprint: version.value.fingerprint(),
        created: version.created,
        value: values.then(|| version.value.shown()),
    });
    SecretDump {
        name: secret.name.clone(),
        arn: secret.arn.clone(),
        deletion: secret.deletion,
        rotation_enabled: secret.rotation_enabled,
        versions: versions.collect(),
    }
}

fn current_since(current: &Current, values: bool) -> CurrentSince {
    let (id, value) = current.version.as_ref().map_or((None, None), |(id, value)| (Some(id.clone()), Some(value)));
    CurrentSince {
        since: current.since,
        by: current.by.clone(),
        version: id,
        fingerprint: value.map(SecretValue::fingerprint),
        value: value.filter(|_| values).map(SecretValue::shown),
    }
}
