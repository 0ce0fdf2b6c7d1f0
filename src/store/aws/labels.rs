//! Names in a secret: labels, version ids, and what DescribeSecret tells of them.
//!
//! But for one, every id that we put is a function of what it is for, so a lost answer is resolved by asking for that very id, and a second
//! writer of the same thing meets the first one's version. A label of ours ends in what makes it one version's own.

use std::collections::HashMap;

use aws_sdk_secretsmanager::operation::describe_secret::DescribeSecretOutput;
use uuid::Uuid;

use crate::rotation::slot::{NAMESPACE, SlotId};
use crate::rotation::token::Fingerprint;
use crate::store::Mark;

/// What consumers read.
pub(super) const CURRENT: &str = "AWSCURRENT";
/// AWS's own, of its native rotation.
pub(super) const PENDING: &str = "AWSPENDING";
/// On the version of the one proof that a put beside the current version leaves it alone.
pub(super) const PROBE: &str = "evertoken-probe";
const STAGED: &str = "evertoken-staged-";
const RETIRING: &str = "evertoken-retiring-";
const STATE: &str = "evertoken-state-";
const OURS: &str = "evertoken-";

/// The label of a slot's mark.
pub(super) fn mark_label(mark: Mark, slot: &SlotId) -> String {
    match mark {
        Mark::Staged => format!("{STAGED}{}", slot.last8()),
        Mark::Retiring => format!("{RETIRING}{}", slot.last8()),
    }
}

/// The label of record `number`.
pub(super) fn state_label(number: u64) -> String {
    format!("{STATE}{number}")
}

/// The version of record `number`.
pub(super) fn record_id(arn: &str, number: u64) -> SlotId {
    derived(&format!("record\n{arn}\n{number}"))
}

/// The version that publishes `content` to a sink in place of `expected`.
pub(super) fn sink_id(arn: &str, expected: &SlotId, content: Fingerprint) -> SlotId {
    derived(&format!("sink\n{arn}\n{expected}\n{}", content.whole()))
}

/// The version that puts `content` first into an empty secret; `identity` is its ARN, or its name where it is only made by that.
pub(super) fn install_id(identity: &str, content: Fingerprint) -> SlotId {
    derived(&format!("install\n{identity}\n{}", content.whole()))
}

/// The version of one proof. It is the one id that is drawn: a put under an id that was used before moves no label, so it would
/// prove nothing of a secret that failed the proof once.
pub(super) fn probe_id() -> SlotId {
    SlotId::new(Uuid::new_v4().to_string())
}

fn derived(name: &str) -> SlotId {
    SlotId::new(Uuid::new_v5(&NAMESPACE, name.as_bytes()).to_string())
}

/// Whether AWS could know a version of this name: a ClientRequestToken is 32 to 64 characters long, which the SDK does not check.
pub(super) fn is_version_id(slot: &SlotId) -> bool {
    let name = slot.as_str();
    (32..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// A secret as DescribeSecret shows it, reduced to what is used.
#[derive(Debug, Clone, Default)]
pub(super) struct Description {
    pub(super) arn: String,
    pub(super) deleting: bool,
    pub(super) rotation_enabled: bool,
    pub(super) owning_service: Option<String>,
    pub(super) kms_key: Option<String>,
    /// Region and status of each replica.
    pub(super) replicas: Vec<(String, String)>,
    versions: HashMap<String, Vec<String>>,
}

impl Description {
    /// Takes an answer; `None` when it has no ARN, which no real one lacks.
    pub(super) fn new(answer: DescribeSecretOutput) -> Option<Self> {
        let replica = |status: &aws_sdk_secretsmanager::types::ReplicationStatusType| {
            let state = status.status().map_or("unknown", |state| state.as_str());
            (status.region().unwrap_or("unknown").to_owned(), state.to_owned())
        };
        Some(Self {
            deleting: answer.deleted_date().is_some(),
            rotation_enabled: answer.rotation_enabled().unwrap_or(false),
            replicas: answer.replication_status().iter().map(replica).collect(),
            arn: answer.arn?,
            owning_service: answer.owning_service,
            kms_key: answer.kms_key_id,
            versions: answer.version_ids_to_stages.unwrap_or_default(),
        })
    }

    /// The version that carries a label.
    pub(super) fn holder(&self, label: &str) -> Option<&str> {
        self.versions.iter().find(|(_version, labels)| labels.iter().any(|at| at == label)).map(|(version, _labels)| version.as_str())
    }

    /// Versions that carry a mark, in a steady order.
    pub(super) fn marked(&self, mark: Mark) -> Vec<SlotId> {
        let prefix = match mark {
            Mark::Staged => STAGED,
            Mark::Retiring => RETIRING,
        };
        let carries = |labels: &[String]| labels.iter().any(|label| label.starts_with(prefix));
        let mut slots: Vec<SlotId> =
            self.versions.iter().filter(|(_version, labels)| carries(labels)).map(|(version, _labels)| SlotId::new(version)).collect();
        slots.sort_unstable();
        slots
    }

    /// Records that still carry their label, by number, with the version that does.
    pub(super) fn records(&self) -> Vec<(u64, String)> {
        let number = |label: &String| label.strip_prefix(STATE)?.parse().ok();
        let mut records: Vec<(u64, String)> = self
            .versions
            .iter()
            .flat_map(|(version, labels)| labels.iter().filter_map(number).map(|number| (number, version.clone())))
            .collect();
        records.sort_unstable();
        records
    }

    /// How many labels there are in all, and how many of them are ours.
    pub(super) fn label_counts(&self) -> (usize, usize) {
        let labels = || self.versions.values().flatten();
        (labels().count(), labels().filter(|label| label.starts_with(OURS)).count())
    }

    /// What else rotates this secret, if anything does.
    pub(super) fn foreign_rotation(&self) -> Option<String> {
        if self.rotation_enabled {
            return Some("native rotation is enabled on the secret (RotationEnabled)".to_owned());
        }
        if let Some(version) = self.holder(PENDING) {
            return Some(format!("version {version} carries {PENDING}, which native rotation uses"));
        }
        self.owning_service.as_ref().map(|service| format!("the secret is managed by the AWS service {service:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(versions: &[(&str, &[&str])]) -> Description {
        let versions = versions.iter().map(|(version, labels)| (String::from(*version), labels.iter().map(|l| String::from(*l)).collect()));
        Description { versions: versions.collect(), ..Description::default() }
    }

    #[test]
    fn labels_tell_current_marks_and_records() {
        let secret = described(&[
            ("v1", &[CURRENT, "evertoken-retiring-000000v1"]),
            ("v2", &["evertoken-staged-000000v2"]),
            ("v3", &["evertoken-state-9"]),
            ("v4", &["evertoken-state-10", "evertoken-state-x"]),
        ]);
        assert_eq!(secret.holder(CURRENT), Some("v1"));
        assert_eq!(secret.marked(Mark::Staged), [SlotId::new("v2")]);
        assert_eq!(secret.marked(Mark::Retiring), [SlotId::new("v1")]);
        assert_eq!(secret.records(), [(9, "v3".to_owned()), (10, "v4".to_owned())]);
        assert_eq!(secret.label_counts(), (6, 5));
        assert_eq!(secret.foreign_rotation(), None);
        assert!(described(&[("v1", &[PENDING])]).foreign_rotation().is_some());
    }

    #[test]
    fn ids_differ_by_what_they_are_for_and_suit_aws() {
        let (fp, slot) = (Fingerprint::of("x"), SlotId::new("s"));
        let ids = [
            record_id("arn", 1),
            record_id("arn", 2),
            record_id("other", 1),
            sink_id("arn", &slot, fp),
            install_id("arn", fp),
            probe_id(),
            probe_id(),
        ];
        for (at, id) in ids.iter().enumerate() {
            assert!(is_version_id(id));
            assert!(!ids.iter().skip(at + 1).any(|other| other == id));
        }
        assert!(!is_version_id(&SlotId::new("short")));
        assert!(!is_version_id(&SlotId::new("../../../../../../../../../../../../token")));
    }

    #[test]
    fn the_first_records_id_never_changes() {
        // Secrets outlive versions of this program: a changed derivation would let two of them write one record.
        let arn = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:a-AbCdEf";
        assert_eq!(record_id(arn, 1).as_str(), "e437480f-a9a0-5cba-b4dd-0249f55676ea");
    }
}
