//! The operations that change something, and the way in for all of them.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::account::Account;
use super::input::Input;
use super::knobs::Kms;
use super::reads::seconds;
use super::refusal::{ErrorType, Refusal};
use super::secret::{NewVersion, Secret, SecretValue};

/// The operations served, by AWS's names (what follows `secretsmanager.` in `X-Amz-Target`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are AWS's own, and its API reference documents them")]
pub enum Action {
    CreateSecret,
    DeleteSecret,
    DescribeSecret,
    GetSecretValue,
    ListSecretVersionIds,
    PutSecretValue,
    RestoreSecret,
    UpdateSecret,
    UpdateSecretVersionStage,
}

impl Action {
    /// The operation of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        serde_json::from_value(Value::from(name)).ok()
    }
}

/// An answer, with what the journal may keep of it.
pub(super) struct Done {
    pub(super) body: Value,
    pub(super) notes: Map<String, Value>,
}

impl Done {
    pub(super) fn of(secret: &Secret, mut body: Value) -> Self {
        if let Some(body) = body.as_object_mut() {
            body.insert("ARN".to_owned(), secret.arn.as_str().into());
            body.insert("Name".to_owned(), secret.name.as_str().into());
        }
        let notes = Map::from_iter([("secret".to_owned(), secret.name.as_str().into())]);
        Self { body, notes }
    }

    pub(super) fn noting(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.notes.insert(name.to_owned(), value.into());
        self
    }
}

impl Account {
    pub(super) fn call(&mut self, action: Action, body: &[u8], now: Timestamp) -> Result<Done, Refusal> {
        let done = self.perform(action, body, now);
        self.tally.note(action, done.as_ref().err().map(|refusal| refusal.error));
        done
    }

    fn perform(&mut self, action: Action, body: &[u8], now: Timestamp) -> Result<Done, Refusal> {
        self.buckets.take(action.quota(), &self.knobs, now)?;
        let input = Input::parse(body)?;
        self.authorize(action, &input, now)?;
        match action {
            Action::CreateSecret => self.create(&input, now),
            Action::DeleteSecret => self.delete(&input, now),
            Action::DescribeSecret => self.describe(&input, now),
            Action::GetSecretValue => self.get(&input, now),
            Action::ListSecretVersionIds => self.list(&input, now),
            Action::PutSecretValue => self.put(&input, now),
            Action::RestoreSecret => self.restore(&input, now),
            Action::UpdateSecret => self.update(&input, now),
            Action::UpdateSecretVersionStage => self.move_stage(&input, now),
        }
    }

    fn authorize(&self, action: Action, input: &Input, now: Timestamp) -> Result<(), Refusal> {
        let id = input.secret_id.as_deref().or(input.name.as_deref()).unwrap_or_default();
        let secret = self.find(id, now).ok();
        if !self.knobs.denies(action, secret.as_ref().map_or(id, |secret| &secret.name)) {
            return Ok(());
        }
        let resource = secret.as_ref().map_or(id, |secret| &secret.arn);
        Err(Refusal::new(
            ErrorType::AccessDeniedException,
            format!(
                "User: arn:aws:iam::111122223333:user/evertoken is not authorized to perform: secretsmanager:{action:?} on resource: \
                 {resource} because no identity-based policy allows the secretsmanager:{action:?} action"
            ),
        ))
    }

    fn create(&mut self, input: &Input, now: Timestamp) -> Result<Done, Refusal> {
        let name = input.new_name()?;
        let value = input.value()?;
        if let Ok(existing) = self.find(name, now) {
            return repeated_creation(&existing, input, value.as_ref());
        }
        let mut secret = Secret {
            description: input.description.clone(),
            kms_key_id: input.kms_key_id.clone(),
            ..Secret::new(name, self.new_arn(name), now)
        };
        let mut body = json!({});
        let token = input.token()?;
        if let Some(value) = value {
            self.may_encrypt()?;
            secret.put(NewVersion { id: token.to_owned(), value, labels: None }, &self.knobs, now)?;
            body = json!({ "VersionId": token });
        }
        let done = Done::of(&secret, body);
        self.commit(secret, "CreateSecret", now);
        Ok(done)
    }

    fn put(&mut self, input: &Input, now: Timestamp) -> Result<Done, Refusal> {
        let id = input.secret_id()?;
        let token = input.token()?.to_owned();
        let value = input.required_value()?;
        let labels = input.labels()?.map(<[String]>::to_vec);
        let mut secret = self.writable(id, now)?;
        self.may_encrypt()?;
        if secret.version(&token).is_some() {
            self.may_decrypt()?;
        }
        let fingerprint = value.fingerprint();
        secret.put(NewVersion { id: token.clone(), value, labels }, &self.knobs, now)?;
        let labels = secret.version(&token).map(|version| version.labels.clone());
        let done = Done::of(&secret, json!({ "VersionId": token, "VersionStages": labels }));
        let done = done.noting("version", token).noting("fingerprint", fingerprint);
        self.commit(secret, "PutSecretValue", now);
        Ok(done)
    }

    /// As Terraform and people do. With a value it makes a version and moves AWSCURRENT; unlike a put it fails when the version is
    /// there already (UpdateSecret in the API reference).
    fn update(&mut self, input: &Input, now: Timestamp) -> Result<Done, Refusal> {
        let id = input.secret_id()?;
        let value = input.value()?;
        let mut secret = self.writable(id, now)?;
        secret.description = input.description.clone().or(secret.description);
        secret.kms_key_id = input.kms_key_id.clone().or(secret.kms_key_id);
        secret.changed = now;
        let mut body = json!({});
        if let Some(value) = value {
            let token = input.token()?;
            self.may_encrypt()?;
            if secret.version(token).is_some() {
                return Err(secret.version_exists(token));
            }
            secret.put(NewVersion { id: token.to_owned(), value, labels: None }, &self.knobs, now)?;
            body = json!({ "VersionId": token });
        }
        let done = Done::of(&secret, body);
        self.commit(secret, "UpdateSecret", now);
        Ok(done)
    }

    fn move_stage(&mut self, input: &Input, now: Timestamp) -> Result<Done, Refusal> {
        let id = input.secret_id()?;
        let label = input.label()?.ok_or_else(|| Refusal::constraint("versionStage", "not be null"))?;
        let (to, from) = (input.move_to()?, input.remove_from()?);
        let mut secret = self.writable(id, now)?;
        secret.move_label(label, to, from, &self.knobs, now)?;
        let done = Done::of(&secret, json!({})).noting("label", label).noting("to", to).noting("from", from);
        self.commit(secret, "UpdateSecretVersionStage", now);
        Ok(done)
    }

    fn delete(&mut self, input: &Input, now: Timestamp) -> Result<Done, Refusal> {
        let id = input.secret_id()?;
        let force = input.force_delete_without_recovery.unwrap_or_default();
        // GUESS(S11): the texts, here and for a secret that is scheduled already.
        if force && input.recovery_window_in_days.is_some() {
            return Err(Refusal::parameter("You can't use ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays."));
        }
        let days = input.recovery_window_in_days.unwrap_or(30);
        if !(7..=30).contains(&days) {
            return Err(Refusal::parameter("The RecoveryWindowInDays value must be between 7 and 30 days (inclusive)."));
        }
        let found = self.find(id, now);
        if force {
            // "If you forcibly delete an already deleted or nonexistent secret, the operation does not return
            // ResourceNotFoundException." GUESS(S13): what it returns then.
            let secret = found.map_or_else(|_missing| Secret::new(id, id.to_owned(), now), |secret| Secret::clone(&secret));
            self.remove(&secret.name, "DeleteSecret", now);
            return Ok(Done::of(&secret, json!({ "DeletionDate": seconds(now) })));
        }
        let mut secret = Secret::clone(&*found?);
        if secret.deletion.is_some() {
            return Err(Refusal::request("You can't perform this operation on the secret because it was already scheduled for deletion."));
        }
        let deletion = now.saturating_add(SignedDuration::from_hours(24 * days)).unwrap_or(Timestamp::MAX);
        secret.deletion = Some(deletion);
        let done = Done::of(&secret, json!({ "DeletionDate": seconds(deletion) }));
        self.commit(secret, "DeleteSecret", now);
        Ok(done)
    }

    fn restore(&mut self, input: &Input, now: Timestamp) -> Result<Done, Refusal> {
        let mut secret = Secret::clone(&*self.find(input.secret_id()?, now)?);
        secret.deletion = None;
        secret.changed = now;
        let done = Done::of(&secret, json!({}));
        self.commit(secret, "RestoreSecret", now);
        Ok(done)
    }

    /// A copy to change.
    pub(super) fn writable(&self, id: &str, now: Timestamp) -> Result<Secret, Refusal> {
        let secret = self.find(id, now)?;
        if secret.deletion.is_some() { Err(Refusal::marked_for_deletion()) } else { Ok(Secret::clone(&secret)) }
    }

    fn may_encrypt(&self) -> Result<(), Refusal> {
        match self.knobs.kms {
            Kms::Allows | Kms::CannotDecrypt => Ok(()),
            Kms::DeniesAccess => Err(Refusal::new(ErrorType::AccessDeniedException, "Access to KMS is not allowed")),
            Kms::CannotEncrypt => Err(Refusal::new(
                ErrorType::EncryptionFailure,
                "Secrets Manager can't encrypt the protected secret text using the provided KMS key.",
            )),
        }
    }

    pub(super) fn may_decrypt(&self) -> Result<(), Refusal> {
        match self.knobs.kms {
            Kms::Allows | Kms::CannotEncrypt => Ok(()),
            Kms::DeniesAccess => Err(Refusal::new(ErrorType::AccessDeniedException, "Access to KMS is not allowed")),
            Kms::CannotDecrypt => Err(Refusal::new(
                ErrorType::DecryptionFailure,
                "Secrets Manager can't decrypt the protected secret text using the provided KMS key.",
            )),
        }
    }
}

/// `CreateSecret` for a name that is there: the same request again is answered again, any other is refused.
fn repeated_creation(existing: &Secret, input: &Input, value: Option<&SecretValue>) -> Result<Done, Refusal> {
    if existing.deletion.is_some() {
        let message = "You can't create this secret because a secret with this name is already scheduled for deletion.";
        return Err(Refusal::request(message));
    }
    let token = input.token()?;
    if value.is_some() && existing.version(token).map(|version| &version.value) == value {
        return Ok(Done::of(existing, json!({ "VersionId": token })));
    }
    let message = format!("The operation failed because the secret {} already exists.", existing.name);
    Err(Refusal::new(ErrorType::ResourceExistsException, message))
}
