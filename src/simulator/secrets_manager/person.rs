//! What people do around a rotation, in-process, and the service's part of `/_control/`.
//!
//! People's calls go past signatures, policies, quotas and the tally, so that a test's own hands never show in what it measures.
//! They keep to the rules of the labels.

use hyper::Method;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::control::parsed;
use super::knobs::Knobs;
use super::refusal::Refusal;
use super::secret::{CURRENT, NewVersion, PENDING, Secret, SecretValue};
use super::{ControlError, SecretsManager};

const PERSON: &str = "person";

impl SecretsManager {
    /// A secret, empty unless it gets a value. Returns its ARN.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn create(&self, name: &str, value: Option<&str>, now: Timestamp) -> Result<String, ControlError> {
        let mut account = self.lock();
        if account.find(name, now).is_ok() {
            return Err(ControlError::Invalid(format!("the secret {name} is there already")));
        }
        let mut secret = Secret::new(name, account.new_arn(name), now);
        if let Some(value) = value {
            secret.put(NewVersion::by_person(value), &account.knobs, now).map_err(invalid)?;
        }
        let arn = secret.arn.clone();
        account.commit(secret, PERSON, now);
        Ok(arn)
    }

    /// Puts a value as people do, without labels: it becomes current. Returns the version's id.
    ///
    /// # Errors
    /// When there is no such secret, or a quota of it is used up.
    pub fn put_as_person(&self, secret: &str, value: &str, now: Timestamp) -> Result<String, ControlError> {
        let new = NewVersion::by_person(value);
        let id = new.id.clone();
        self.change(secret, now, |secret, knobs| secret.put(new, knobs, now))?;
        Ok(id)
    }

    /// Moves AWSCURRENT to a version, as a person who rolls back.
    ///
    /// # Errors
    /// When there is no such secret or version.
    pub fn roll_back(&self, secret: &str, version: &str, now: Timestamp) -> Result<(), ControlError> {
        self.set_label(secret, CURRENT, version, now)
    }

    /// Puts AWSPENDING on a version, as native rotation does.
    ///
    /// # Errors
    /// When there is no such secret or version.
    pub fn set_pending(&self, secret: &str, version: &str, now: Timestamp) -> Result<(), ControlError> {
        self.set_label(secret, PENDING, version, now)
    }

    fn set_label(&self, secret: &str, label: &str, version: &str, now: Timestamp) -> Result<(), ControlError> {
        self.change(secret, now, |secret, knobs| {
            let holder = secret.holder(label).map(|holder| holder.id.clone());
            secret.move_label(label, Some(version), holder.as_deref(), knobs, now)
        })
    }

    /// Turns native rotation on or off.
    ///
    /// # Errors
    /// When there is no such secret.
    pub fn set_rotation(&self, secret: &str, enabled: bool, now: Timestamp) -> Result<(), ControlError> {
        self.change(secret, now, |secret, _knobs| {
            secret.rotation_enabled = enabled;
            Ok(())
        })
    }

    /// Schedules a secret for deletion in that many days, or removes it at once where none are given.
    ///
    /// # Errors
    /// When there is no such secret.
    pub fn delete(&self, secret: &str, days: Option<u32>, now: Timestamp) -> Result<(), ControlError> {
        let mut account = self.lock();
        let mut secret = Secret::clone(&*account.find(secret, now).map_err(invalid)?);
        let Some(days) = days else {
            account.remove(&secret.name, PERSON, now);
            return Ok(());
        };
        secret.deletion = now.checked_add(SignedDuration::from_hours(24 * i64::from(days))).ok();
        account.commit(secret, PERSON, now);
        Ok(())
    }

    /// Takes a scheduled deletion back.
    ///
    /// # Errors
    /// When there is no such secret.
    pub fn restore(&self, secret: &str, now: Timestamp) -> Result<(), ControlError> {
        self.change(secret, now, |secret, _knobs| {
            secret.deletion = None;
            Ok(())
        })
    }

    fn change(
        &self,
        id: &str,
        now: Timestamp,
        change: impl FnOnce(&mut Secret, &Knobs) -> Result<(), Refusal>,
    ) -> Result<(), ControlError> {
        let mut account = self.lock();
        let mut secret = Secret::clone(&*account.find(id, now).map_err(invalid)?);
        change(&mut secret, &account.knobs).map_err(invalid)?;
        account.commit(secret, PERSON, now);
        Ok(())
    }

    pub(super) fn control_person(&self, method: &Method, path: &str, body: &Value, now: Timestamp) -> Result<Value, ControlError> {
        let (verb, name) = path.split_once('/').map_or((path, None), |(verb, name)| (verb, Some(name)));
        match (method.as_str(), verb, name) {
            ("GET", "secrets" | "values", None) => Ok(json!({ "secrets": self.dump_all(verb == "values", now) })),
            ("GET", "secrets" | "values", Some(name)) => {
                self.dump(name, verb == "values", now).map(|dump| json!(dump)).ok_or(ControlError::NotFound)
            }
            ("GET", "history", Some(name)) => Ok(json!({ "current": self.current_history(name, false) })),
            ("GET", "tally", None) => Ok(json!(self.tally())),
            ("DELETE", "tally", None) => {
                self.reset_tally();
                Ok(json!({}))
            }
            ("GET", "knobs", None) => Ok(json!(self.knobs())),
            ("POST", "knobs", None) => {
                let mut account = self.lock();
                account.knobs = account.knobs.with(body).map_err(|error| ControlError::Invalid(error.to_string()))?;
                Ok(json!(account.knobs))
            }
            ("POST", deed, None) => self.deed(deed, parsed(body.clone())?, now),
            (_, _, _) => Err(ControlError::NotFound),
        }
    }

    fn deed(&self, deed: &str, asked: Deed, now: Timestamp) -> Result<Value, ControlError> {
        let missing = |what: &str| ControlError::Invalid(format!("say `{what}`"));
        let value = || asked.value.as_deref().ok_or_else(|| missing("value"));
        let version = || asked.version.as_deref().ok_or_else(|| missing("version"));
        let secret = asked.secret.as_str();
        match deed {
            "create" => return Ok(json!({ "arn": self.create(secret, asked.value.as_deref(), now)? })),
            "put" => return Ok(json!({ "version": self.put_as_person(secret, value()?, now)? })),
            "roll_back" => self.roll_back(secret, version()?, now)?,
            "pending" => self.set_pending(secret, version()?, now)?,
            "rotation" => self.set_rotation(secret, asked.enabled.ok_or_else(|| missing("enabled"))?, now)?,
            "delete" => self.delete(secret, asked.days, now)?,
            "restore" => self.restore(secret, now)?,
            _ => return Err(ControlError::NotFound),
        }
        Ok(json!({}))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Deed {
    secret: String,
    value: Option<String>,
    version: Option<String>,
    enabled: Option<bool>,
    days: Option<u32>,
}

impl NewVersion {
    fn by_person(value: &str) -> Self {
        Self { id: Uuid::new_v4().to_string(), value: SecretValue::Text(value.into()), labels: None }
    }
}

fn invalid(refusal: Refusal) -> ControlError {
    ControlError::Invalid(refusal.message)
}
