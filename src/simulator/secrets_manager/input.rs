//! The requests as they come, and the constraints of the service's model.

use std::sync::Arc;

use aws_smithy_types::base64;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::refusal::{ErrorType, Refusal};
use super::secret::SecretValue;

/// Bytes of a value. Source: the quotas page of the user guide.
const VALUE_MAX: usize = 65_536;

/// Members that the model has and this simulator has no use for are ignored, as AWS ignores members that it does not know.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Input {
    pub(super) secret_id: Option<String>,
    pub(super) name: Option<String>,
    pub(super) client_request_token: Option<String>,
    secret_string: Option<String>,
    secret_binary: Option<String>,
    pub(super) description: Option<String>,
    pub(super) kms_key_id: Option<String>,
    version_stages: Option<Vec<String>>,
    version_stage: Option<String>,
    version_id: Option<String>,
    remove_from_version_id: Option<String>,
    move_to_version_id: Option<String>,
    pub(super) include_deprecated: Option<bool>,
    pub(super) max_results: Option<usize>,
    pub(super) next_token: Option<String>,
    pub(super) recovery_window_in_days: Option<i64>,
    pub(super) force_delete_without_recovery: Option<bool>,
}

impl Input {
    pub(super) fn parse(body: &[u8]) -> Result<Self, Refusal> {
        fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
            // The parser's own words could quote the body.
            serde_json::from_slice(body)
                .map_err(|_quotes| Refusal::new(ErrorType::SerializationException, "The request body is not valid."))
        }
        read(body)
    }

    pub(super) fn secret_id(&self) -> Result<&str, Refusal> {
        let id = self.secret_id.as_deref().ok_or_else(|| Refusal::constraint("secretId", "not be null"))?;
        length("secretId", id, 1, 2048)?;
        Ok(id)
    }

    /// Letters, digits and `/_+=.@-`, 1 to 512 of them (CreateSecret in the API reference).
    pub(super) fn new_name(&self) -> Result<&str, Refusal> {
        let name = self.name.as_deref().ok_or_else(|| Refusal::constraint("name", "not be null"))?;
        length("name", name, 1, 512)?;
        if !name.chars().all(|char| char.is_ascii_alphanumeric() || "/_+=.@-".contains(char)) {
            let message = "Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@!";
            return Err(Refusal::new(ErrorType::ValidationException, message));
        }
        Ok(name)
    }

    /// The idempotency token, which becomes the version's id. The SDKs fill it in where a program does not.
    pub(super) fn token(&self) -> Result<&str, Refusal> {
        let missing = || Refusal::request("You must provide a ClientRequestToken value. We recommend a UUID-type value.");
        let token = self.client_request_token.as_deref().ok_or_else(missing)?;
        if !(32..=64).contains(&token.chars().count()) {
            return Err(Refusal::parameter("ClientRequestToken must be 32-64 characters long."));
        }
        Ok(token)
    }

    pub(super) fn value(&self) -> Result<Option<SecretValue>, Refusal> {
        match (&self.secret_string, &self.secret_binary) {
            (None, None) => Ok(None),
            // GUESS(S8): the text.
            (Some(_), Some(_)) => Err(Refusal::parameter("You can't specify both SecretString and SecretBinary.")),
            (Some(text), None) => {
                fits("secretString", text.len())?;
                Ok(Some(SecretValue::Text(Arc::from(text.as_str()))))
            }
            (None, Some(encoded)) => {
                let not_base64 = |_quotes| Refusal::new(ErrorType::SerializationException, "SecretBinary is not valid base64.");
                let bytes = base64::decode(encoded).map_err(not_base64)?;
                fits("secretBinary", bytes.len())?;
                Ok(Some(SecretValue::Binary(bytes.into())))
            }
        }
    }

    pub(super) fn required_value(&self) -> Result<SecretValue, Refusal> {
        self.value()?.ok_or_else(|| Refusal::request("You must provide either SecretString or SecretBinary."))
    }

    pub(super) fn labels(&self) -> Result<Option<&[String]>, Refusal> {
        let Some(labels) = &self.version_stages else { return Ok(None) };
        if !(1..=20).contains(&labels.len()) {
            return Err(Refusal::constraint("versionStages", "have length between 1 and 20"));
        }
        for label in labels {
            length("versionStages", label, 1, 256)?;
        }
        Ok(Some(labels))
    }

    pub(super) fn label(&self) -> Result<Option<&str>, Refusal> {
        optional("versionStage", self.version_stage.as_deref(), 1, 256)
    }

    pub(super) fn version_id(&self) -> Result<Option<&str>, Refusal> {
        optional("versionId", self.version_id.as_deref(), 32, 64)
    }

    pub(super) fn move_to(&self) -> Result<Option<&str>, Refusal> {
        optional("moveToVersionId", self.move_to_version_id.as_deref(), 32, 64)
    }

    pub(super) fn remove_from(&self) -> Result<Option<&str>, Refusal> {
        optional("removeFromVersionId", self.remove_from_version_id.as_deref(), 32, 64)
    }
}

/// GUESS(S9): that a broken length of a value, label or version id is a `ValidationException`, in these words.
fn length(member: &str, text: &str, min: usize, max: usize) -> Result<(), Refusal> {
    let chars = text.chars().count();
    if chars < min {
        return Err(Refusal::constraint(member, &format!("have length greater than or equal to {min}")));
    }
    if chars > max {
        return Err(Refusal::constraint(member, &format!("have length less than or equal to {max}")));
    }
    Ok(())
}

fn optional<'a>(member: &str, text: Option<&'a str>, min: usize, max: usize) -> Result<Option<&'a str>, Refusal> {
    text.map(|text| length(member, text, min, max)).transpose()?;
    Ok(text)
}

fn fits(member: &str, bytes: usize) -> Result<(), Refusal> {
    if bytes == 0 {
        return Err(Refusal::constraint(member, "have length greater than or equal to 1"));
    }
    if bytes > VALUE_MAX {
        return Err(Refusal::constraint(member, &format!("have length less than or equal to {VALUE_MAX}")));
    }
    Ok(())
}
