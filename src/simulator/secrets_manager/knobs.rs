//! What can be turned: quotas, staleness, and the variants of behaviour that a client must survive.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Action;

/// The settings. The defaults are AWS as documented.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Knobs {
    /// Calls a second of `PutSecretValue`, `UpdateSecret` and `UpdateSecretVersionStage` together; null is no limit. AWS: 50.
    pub writes_per_second: Option<u32>,
    /// Calls a second of `DescribeSecret` and `GetSecretValue` together; null is no limit. AWS: 10,000.
    pub reads_per_second: Option<u32>,
    /// How old a read may be.
    pub staleness: Staleness,
    /// A put under labels of one's own moves `AWSCURRENT` too, as one example in AWS's user guide says against its API reference.
    pub custom_label_moves_current: bool,
    /// A put that is repeated attaches its labels again, wherever they have gone since.
    pub retried_put_reattaches_labels: bool,
    /// A put without labels leaves the version that was current with `AWSPREVIOUS` alone, taking labels of one's own off it.
    pub displaced_version_loses_labels: bool,
    /// When versions without a label vanish.
    pub pruning: Pruning,
    /// For how long after its creation a version without a label is safe from [`Pruning::Documented`], in seconds. AWS: 24 hours.
    pub deprecated_kept_s: u64,
    /// What KMS says.
    pub kms: Kms,
    /// Which calls the identity's policy does not allow.
    pub deny: Vec<Denial>,
    /// Access key ids that AWS does not know.
    pub unknown_access_keys: BTreeSet<String>,
    /// How far `X-Amz-Date` may be from the simulator's clock, in seconds; null is not checked. AWS: 300. Not checked unless set, as
    /// the simulator's clock may be moved away from the client's.
    pub max_skew_s: Option<u64>,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            writes_per_second: Some(50),
            reads_per_second: Some(10_000),
            staleness: Staleness::default(),
            custom_label_moves_current: false,
            retried_put_reattaches_labels: false,
            displaced_version_loses_labels: false,
            pruning: Pruning::Documented,
            deprecated_kept_s: 24 * 60 * 60,
            kms: Kms::Allows,
            deny: Vec::new(),
            unknown_access_keys: BTreeSet::new(),
            max_skew_s: None,
        }
    }
}

impl Knobs {
    /// These settings with those of `changes` laid over them, key by key.
    ///
    /// # Errors
    /// When `changes` is no object, or has a key or value that no knob takes.
    pub fn with(&self, changes: &Value) -> Result<Self, serde_json::Error> {
        let mut settings = serde_json::to_value(self)?;
        let changes: serde_json::Map<String, Value> = serde_json::from_value(changes.clone())?;
        if let Some(settings) = settings.as_object_mut() {
            settings.extend(changes);
        }
        serde_json::from_value(settings)
    }

    pub(super) fn denies(&self, action: Action, secret: &str) -> bool {
        self.deny.iter().any(|denial| denial.action == action && denial.secret.as_deref().is_none_or(|named| named == secret))
    }
}

/// How long ago what a read shows was true, by kind of call, in milliseconds of the simulator's clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Staleness {
    /// `DescribeSecret`.
    pub describe_ms: u64,
    /// `GetSecretValue`.
    pub get_ms: u64,
    /// `ListSecretVersionIds`.
    pub list_ms: u64,
}

/// When versions without a label vanish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pruning {
    /// When there are more than 100 versions, the oldest first, none younger than [`Knobs::deprecated_kept_s`].
    Documented,
    /// With the call that takes the last label off them.
    AtOnce,
}

/// What KMS says to Secrets Manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kms {
    /// Yes.
    Allows,
    /// The identity may not use the key.
    DeniesAccess,
    /// The key cannot encrypt: writes of values fail.
    CannotEncrypt,
    /// The key cannot decrypt: reads of values fail.
    CannotDecrypt,
}

/// A call that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Denial {
    /// The call.
    pub action: Action,
    /// On which secret, by its name; on all unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}
