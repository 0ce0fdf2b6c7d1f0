//! What AWS's refusals and the SDK's failures mean: whether the change may have happened, and who can end the trouble.

use std::error::Error;

use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_secretsmanager::operation::RequestId;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use jiff::SignedDuration;

use crate::rotation::fault::{Certainty, Fault, FaultClass};

/// Longest text of theirs that a message repeats, in characters.
const MESSAGE_CHARS_MAX: usize = 400;

/// A call that did not succeed.
#[derive(Debug)]
pub(super) struct Failed {
    /// AWS's answer, where an operation reads a meaning of its own into it.
    pub(super) refusal: Refusal,
    pub(super) fault: Fault,
}

/// Refusals that some operation understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// `ResourceExistsException`: the version id (or the secret) is taken by other content.
    Exists,
    /// `ResourceNotFoundException`: no such secret, version or label.
    NotFound,
    /// `InvalidParameterException`: among others, the label is not where it was said to be.
    InvalidParameter,
    /// Anything else.
    Other,
}

impl From<Failed> for Fault {
    fn from(failed: Failed) -> Self {
        failed.fault
    }
}

/// Reads a failure of `action` on `entry`.
pub(super) fn failed<E>(action: &str, entry: &str, error: &SdkError<E, HttpResponse>) -> Failed
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let other = |certainty, class, what: String| Failed { refusal: Refusal::Other, fault: Fault::new(certainty, class, what) };
    match error {
        SdkError::ServiceError(refused) => refused_by_aws(action, entry, error, refused.raw()),
        SdkError::ConstructionFailure(_) => {
            other(Certainty::NotDone, FaultClass::BadRequest, format!("{action} on {entry:?} could not be built: {}", causes(error)))
        }
        SdkError::DispatchFailure(_) => dispatch(action, entry, error),
        SdkError::TimeoutError(_) => {
            other(Certainty::Unknown, FaultClass::Unreachable, format!("{action} on {entry:?} was not answered in time"))
        }
        SdkError::ResponseError(_) | _ => other(
            Certainty::Unknown,
            FaultClass::Unreachable,
            format!("the answer to {action} on {entry:?} cannot be read: {}", causes(error)),
        ),
    }
}

/// A failure before an answer came. Only one to connect, or to get ready for it, proves that nothing was sent.
fn dispatch<E: Error + 'static>(action: &str, entry: &str, error: &SdkError<E, HttpResponse>) -> Failed {
    let legacy = chain(error).find_map(|cause| cause.downcast_ref::<hyper_util::client::legacy::Error>());
    let network = legacy.is_some() || chain(error).any(<dyn Error>::is::<hyper::Error>);
    let (certainty, class, how) = match legacy {
        Some(legacy) if legacy.is_connect() => (Certainty::NotDone, FaultClass::Unreachable, "could not connect"),
        _ if network => (Certainty::Unknown, FaultClass::Unreachable, "lost the connection"),
        _ => (Certainty::NotDone, FaultClass::Denied, "was not sent, most likely for want of AWS credentials"),
    };
    Failed { refusal: Refusal::Other, fault: Fault::new(certainty, class, format!("{action} on {entry:?} {how}: {}", causes(error))) }
}

fn refused_by_aws<E>(action: &str, entry: &str, error: &SdkError<E, HttpResponse>, response: &HttpResponse) -> Failed
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let (code, message) = (error.code().unwrap_or("without a code"), error.message().unwrap_or("no message"));
    let status = response.status().as_u16();
    let (certainty, class) = meaning(code, message, status);
    let what = format!("{action} on {entry:?} was refused: {code} (HTTP {status}): {}", one_line(message));
    let wait = response.headers().get("retry-after").and_then(|text| text.parse().ok()).map(SignedDuration::from_secs);
    let refusal = match code {
        "ResourceExistsException" => Refusal::Exists,
        "ResourceNotFoundException" => Refusal::NotFound,
        "InvalidParameterException" => Refusal::InvalidParameter,
        _ => Refusal::Other,
    };
    let fault = Fault { wait, trace_id: error.request_id().map(str::to_owned), ..Fault::new(certainty, class, what) };
    Failed { refusal, fault }
}

fn meaning(code: &str, message: &str, status: u16) -> (Certainty, FaultClass) {
    let class = match code {
        "ResourceNotFoundException" => FaultClass::Missing,
        "InvalidRequestException" if message.contains("delet") => FaultClass::Missing,
        "AccessDeniedException"
        | "AccessDenied"
        | "DecryptionFailure"
        | "EncryptionFailure"
        | "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "NotAuthorized"
        | "OptInRequired" => FaultClass::Denied,
        "ThrottlingException" | "Throttling" | "TooManyRequestsException" | "RequestLimitExceeded" | "RequestThrottled" | "SlowDown" => {
            FaultClass::Throttled
        }
        "LimitExceededException" => FaultClass::Limit,
        // These come with status 500, and may come after the change was made.
        "InternalServiceError"
        | "InternalServiceErrorException"
        | "InternalFailure"
        | "ServiceUnavailable"
        | "ServiceUnavailableException" => {
            return (Certainty::Unknown, FaultClass::Transient);
        }
        _ if status >= 500 => return (Certainty::Unknown, FaultClass::Transient),
        _ if status == 429 => FaultClass::Throttled,
        _ => FaultClass::BadRequest,
    };
    (Certainty::NotDone, class)
}

/// The causes below an error, in one line. The SDK's own line says no more than the kind of failure.
fn causes<E: Error + 'static>(error: &SdkError<E, HttpResponse>) -> String {
    let mut texts: Vec<String> = Vec::new();
    for cause in chain(error).skip(1) {
        let text = cause.to_string();
        // Some layers print their source as well.
        if !text.is_empty() && !texts.iter().any(|said| said.contains(&text)) {
            texts.push(text);
        }
    }
    one_line(&texts.join(": "))
}

fn chain<'e, E: Error + 'static>(error: &'e SdkError<E, HttpResponse>) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error as &(dyn Error + 'static)), |cause: &&'e (dyn Error + 'static)| (*cause).source())
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MESSAGE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_tell_certainty_and_who_can_help() {
        use Certainty::{NotDone, Unknown};
        let cases = [
            ("AccessDeniedException", "", 400, (NotDone, FaultClass::Denied)),
            ("ExpiredTokenException", "", 400, (NotDone, FaultClass::Denied)),
            ("EncryptionFailure", "", 400, (NotDone, FaultClass::Denied)),
            ("ResourceNotFoundException", "", 400, (NotDone, FaultClass::Missing)),
            ("InvalidRequestException", "the secret was marked for deletion", 400, (NotDone, FaultClass::Missing)),
            ("InvalidRequestException", "managed by another service", 400, (NotDone, FaultClass::BadRequest)),
            ("ThrottlingException", "", 400, (NotDone, FaultClass::Throttled)),
            ("LimitExceededException", "", 400, (NotDone, FaultClass::Limit)),
            ("InternalServiceError", "", 500, (Unknown, FaultClass::Transient)),
            ("without a code", "", 503, (Unknown, FaultClass::Transient)),
            ("SomethingNew", "", 400, (NotDone, FaultClass::BadRequest)),
        ];
        for (code, message, status, expected) in cases {
            assert_eq!(meaning(code, message, status), expected, "{code} {status}");
        }
    }

    #[test]
    fn texts_of_theirs_stay_one_bounded_line() {
        assert_eq!(one_line("a\nb\u{1b}c"), "a b c");
        assert_eq!(one_line(&"x".repeat(10_000)).len(), MESSAGE_CHARS_MAX);
    }
}
