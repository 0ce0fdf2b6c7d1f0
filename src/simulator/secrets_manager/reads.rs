//! The operations that only look. Each may be served from the past.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::account::Account;
use super::calls::Done;
use super::input::Input;
use super::refusal::{ErrorType, Refusal};
use super::secret::{CURRENT, Secret, SecretValue, VERSIONS_MAX, Version};

impl Account {
    pub(super) fn describe(&self, input: &Input, now: Timestamp) -> Result<Done, Refusal> {
        let secret = self.find_as_of(input.secret_id()?, now, self.knobs.staleness.describe_ms)?;
        let labelled: BTreeMap<_, _> =
            secret.versions.iter().filter(|version| !version.labels.is_empty()).map(|version| (&version.id, &version.labels)).collect();
        let body = present([
            ("CreatedDate", Some(seconds(secret.created))),
            ("LastChangedDate", Some(seconds(secret.changed))),
            ("LastAccessedDate", self.last_accessed(&secret.name).map(day)),
            ("Description", secret.description.as_deref().map(Value::from)),
            ("KmsKeyId", secret.kms_key_id.as_deref().map(Value::from)),
            // GUESS(S12): the end of the recovery window ("the date the secret is scheduled for deletion").
            ("DeletedDate", secret.deletion.map(seconds)),
            ("RotationEnabled", secret.rotation_enabled.then_some(Value::Bool(true))),
            ("RotationRules", secret.rotation_enabled.then(|| json!({ "AutomaticallyAfterDays": 30 }))),
            // Absent where there is no version yet.
            ("VersionIdsToStages", (!labelled.is_empty()).then(|| json!(labelled))),
        ]);
        Ok(Done::of(&secret, body))
    }

    pub(super) fn get(&mut self, input: &Input, now: Timestamp) -> Result<Done, Refusal> {
        let secret = self.find_as_of(input.secret_id()?, now, self.knobs.staleness.get_ms)?;
        let (id, label) = (input.version_id()?, input.label()?);
        if secret.deletion.is_some() {
            return Err(Refusal::marked_for_deletion());
        }
        let version = selected(&secret, id, label)?;
        self.may_decrypt()?;
        let (text, binary) = match &version.value {
            SecretValue::Text(_) => (Some(version.value.shown().into()), None),
            SecretValue::Binary(_) => (None, Some(version.value.shown().into())),
        };
        let body = present([
            ("VersionId", Some(version.id.as_str().into())),
            ("SecretString", text),
            ("SecretBinary", binary),
            ("VersionStages", labels(version)),
            ("CreatedDate", Some(seconds(version.created))),
        ]);
        self.note_access(&secret.name, &version.id, now);
        Ok(Done::of(&secret, body).noting("version", version.id.as_str()).noting("fingerprint", version.value.fingerprint()))
    }

    /// GUESS(S10): it lists a secret that is scheduled for deletion (`InvalidRequestException` is not among its errors).
    pub(super) fn list(&self, input: &Input, now: Timestamp) -> Result<Done, Refusal> {
        let secret = self.find_as_of(input.secret_id()?, now, self.knobs.staleness.list_ms)?;
        let page = input.max_results.unwrap_or(VERSIONS_MAX);
        if !(1..=VERSIONS_MAX).contains(&page) {
            return Err(Refusal::constraint("maxResults", "have value between 1 and 100"));
        }
        let bad_token = |_not_a_number| Refusal::new(ErrorType::InvalidNextTokenException, "The NextToken value is invalid.");
        let start: usize = input.next_token.as_deref().map_or(Ok(0), |token| token.parse().map_err(bad_token))?;
        let deprecated = input.include_deprecated.unwrap_or_default();
        let listed: Vec<_> = secret.versions.iter().filter(|version| deprecated || !version.labels.is_empty()).collect();
        let versions: Vec<_> = listed.iter().skip(start).take(page).map(|version| self.entry(&secret, version)).collect();
        let next = start.saturating_add(versions.len());
        let more = (next < listed.len()).then(|| Value::from(next.to_string()));
        Ok(Done::of(&secret, present([("Versions", Some(versions.into())), ("NextToken", more)])))
    }

    fn entry(&self, secret: &Secret, version: &Version) -> Value {
        present([
            ("VersionId", Some(version.id.as_str().into())),
            ("VersionStages", labels(version)),
            ("CreatedDate", Some(seconds(version.created))),
            ("LastAccessedDate", self.accessed(&secret.name, &version.id).map(day)),
            ("KmsKeyIds", Some(json!([secret.kms_key_id.as_deref().unwrap_or("DefaultEncryptionKey")]))),
        ])
    }
}

fn selected<'a>(secret: &'a Secret, id: Option<&str>, label: Option<&str>) -> Result<&'a Version, Refusal> {
    if let Some(id) = id {
        let missing = || Refusal::not_found(format!("Secrets Manager can't find the specified secret value for VersionId: {id}"));
        let version = secret.version(id).ok_or_else(missing)?;
        if label.is_some_and(|label| !version.labels.contains(label)) {
            return Err(Refusal::request("You provided a VersionStage that is not associated to the provided VersionId."));
        }
        return Ok(version);
    }
    let label = label.unwrap_or(CURRENT);
    let missing = || Refusal::not_found(format!("Secrets Manager can't find the specified secret value for staging label: {label}"));
    secret.holder(label).ok_or_else(missing)
}

fn labels(version: &Version) -> Option<Value> {
    (!version.labels.is_empty()).then(|| json!(version.labels))
}

/// AWS leaves out what it has nothing to say about.
fn present<const N: usize>(members: [(&str, Option<Value>); N]) -> Value {
    let members = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(Map::from_iter(members))
}

/// Seconds since 1970 with three decimals, as the AWS JSON protocol writes a time.
pub(super) fn seconds(time: Timestamp) -> Value {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 stay far below 2^53")]
    let seconds = time.as_millisecond() as f64 / 1000.0;
    json!(seconds)
}

/// The day alone: AWS keeps of accesses no more than that.
fn day(time: Timestamp) -> Value {
    json!(time.as_second().div_euclid(86_400) * 86_400)
}
