//! How Secrets Manager says no.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::fault::{Fault, ReplyAt};

/// The errors that this simulator can answer, by AWS's own names (`__type`).
///
/// Source: the error lists of each operation in the Secrets Manager API reference, and its page of common errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ErrorType {
    /// The identity, or KMS, does not allow the call.
    AccessDeniedException,
    /// KMS does not give the key for reading.
    DecryptionFailure,
    /// KMS does not give the key for writing.
    EncryptionFailure,
    /// The Authorization header is malformed.
    IncompleteSignatureException,
    /// AWS is in trouble; the effect may or may not have happened. The one with status 500.
    InternalServiceError,
    /// A parameter is wrong in itself or does not fit the secret.
    InvalidParameterException,
    /// The secret's state does not allow the call.
    InvalidRequestException,
    /// `NextToken` was not given by an earlier call.
    InvalidNextTokenException,
    /// The signature is of another region, service or time, or wrong.
    InvalidSignatureException,
    /// A quota of the secret is used up.
    LimitExceededException,
    /// There is no Authorization header.
    MissingAuthenticationTokenException,
    /// The name, or the version id with another content, exists.
    ResourceExistsException,
    /// There is no such secret or version.
    ResourceNotFoundException,
    /// The body is no JSON of the right shape.
    SerializationException,
    /// Too many calls.
    ThrottlingException,
    /// There is no such operation.
    UnknownOperationException,
    /// There is no such access key.
    UnrecognizedClientException,
    /// A parameter breaks a constraint of the model (length, characters, presence).
    ValidationException,
}

impl ErrorType {
    /// The status of an answer of that type. All but one are 400, `ResourceNotFoundException` too.
    #[must_use]
    pub const fn status(self) -> u16 {
        if matches!(self, Self::InternalServiceError) { 500 } else { 400 }
    }

    /// A fault for the server's rules that answers with this error, instead of the effect or after it.
    #[must_use]
    pub fn scripted(self, at: ReplyAt) -> Fault {
        let body = Refusal::new(self, "Scripted by the simulator.").body().to_string();
        let headers = [("content-type".to_owned(), super::CONTENT_TYPE.to_owned())].into();
        Fault::Reply { at, status: self.status(), headers, body, body_bytes: None }
    }
}

/// One refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) error: ErrorType,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(error: ErrorType, message: impl Into<String>) -> Self {
        Self { error, message: message.into() }
    }

    pub(super) fn parameter(message: impl Into<String>) -> Self {
        Self::new(ErrorType::InvalidParameterException, message)
    }

    pub(super) fn request(message: impl Into<String>) -> Self {
        Self::new(ErrorType::InvalidRequestException, message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorType::ResourceNotFoundException, message)
    }

    pub(super) fn no_secret() -> Self {
        Self::not_found("Secrets Manager can't find the specified secret.")
    }

    pub(super) fn marked_for_deletion() -> Self {
        Self::request("You can't perform this operation on the secret because it was marked for deletion.")
    }

    /// A broken constraint of the model, in the words of AWS's own validation. The value is never repeated.
    pub(super) fn constraint(member: &str, constraint: &str) -> Self {
        let message = format!("1 validation error detected: Value at '{member}' failed to satisfy constraint: Member must {constraint}");
        Self::new(ErrorType::ValidationException, message)
    }

    /// AWS writes `Message` with a capital here.
    pub(super) fn body(&self) -> Value {
        json!({ "__type": self.error, "Message": self.message })
    }
}

impl std::fmt::Display for ErrorType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}
