//! A strict AWS Secrets Manager: AWS JSON 1.1 over HTTP, nine operations, one account in one region.
//!
//! It exists because the usual stand-ins are lenient exactly where a rotation must be careful: they overwrite a version under a used
//! ClientRequestToken, let one label sit on two versions, never throttle, never go stale and never fill up. Here each of those rules
//! holds as documented, and each kind of trouble that AWS may give is a knob ([`Knobs`]). Lost and late answers are the shared
//! server's business.
//!
//! What decided, in this order: the API reference and the user guide; answers recorded at AWS by other projects' tests; then guesses,
//! marked `GUESS(S1)` and on, and listed under the same numbers in docs/simulator.md.
//!
//! The state is a plain machine ([`account`], [`secret`]): a call and the time go in, an answer or a [`refusal`] comes out. A change
//! is made on a copy of the secret and committed whole; former states are kept, so that reads can be late and tests can ask where
//! `AWSCURRENT` was at any time. Values leave it only as answers to `GetSecretValue` and where a dump asks for them.

mod account;
mod calls;
mod input;
mod knobs;
mod observe;
mod person;
mod quota;
mod reads;
mod refusal;
mod secret;
mod sigv4;

use std::sync::{Mutex, MutexGuard, PoisonError};

use hyper::Method;
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use self::account::Account;
pub use self::calls::Action;
use self::calls::Done;
pub use self::knobs::{Denial, Kms, Knobs, Pruning, Staleness};
pub use self::observe::{CurrentSince, SecretDump, VersionDump};
pub use self::quota::{Counts, Quota, Tally};
pub use self::refusal::ErrorType;
use self::refusal::Refusal;
pub use self::secret::{CURRENT, LABELS_MAX, PENDING, PREVIOUS, VERSIONS_MAX};
use super::service::{ControlError, Request, Response, Service};

/// The media type of requests and answers.
pub(super) const CONTENT_TYPE: &str = "application/x-amz-json-1.1";
/// What stands before the operation in `X-Amz-Target`.
const TARGET_PREFIX: &str = "secretsmanager.";

/// The simulator. Give it to [`server::start`](super::server::start) and keep a clone of the `Arc` for the methods that do in-process
/// what the control plane does over HTTP.
pub struct SecretsManager {
    account: Mutex<Account>,
}

impl SecretsManager {
    /// An empty account in that region. Requests signed for another region are refused.
    #[must_use]
    pub fn new(region: &str) -> Self {
        Self { account: Mutex::new(Account::new(region)) }
    }

    fn lock(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn perform(&self, request: &Request, now: Timestamp) -> Result<Done, Refusal> {
        let mut account = self.lock();
        sigv4::check(request, &account.region, &account.knobs, now)?;
        let action = target(request).and_then(Action::named).ok_or_else(|| Refusal::new(ErrorType::UnknownOperationException, ""))?;
        // GUESS(S1): that another media type is a SerializationException.
        if request.header("content-type") != Some(CONTENT_TYPE) {
            return Err(Refusal::new(ErrorType::SerializationException, format!("The content type must be {CONTENT_TYPE}.")));
        }
        account.call(action, &request.body, now)
    }
}

fn target(request: &Request) -> Option<&str> {
    if request.method != Method::POST || request.path != "/" {
        return None;
    }
    request.header("x-amz-target")?.strip_prefix(TARGET_PREFIX)
}

impl Service for SecretsManager {
    fn call_name(&self, request: &Request) -> String {
        target(request).unwrap_or("unknown").to_owned()
    }

    /// A member of the request's body by AWS's name for it; a list's elements are joined by commas.
    fn parameter(&self, request: &Request, name: &str) -> Option<String> {
        let body: Value = serde_json::from_slice(&request.body).ok()?;
        match body.get(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Array(elements) => Some(elements.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")),
            other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) => Some(other.to_string()),
        }
    }

    fn answer(&self, request: &Request, now: Timestamp) -> Response {
        match self.perform(request, now) {
            Ok(Done { body, notes }) => Response { notes, ..Response::raw(200, CONTENT_TYPE, body.to_string()) },
            Err(refusal) => Response::raw(refusal.error.status(), CONTENT_TYPE, refusal.body().to_string())
                .with_note("error", refusal.error.to_string()),
        }
    }

    fn dress(&self, _request: &Request, response: &mut Response, now: Timestamp) {
        response.default_header("x-amzn-RequestId", Uuid::new_v4().to_string());
        response.default_header("Date", now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string());
    }

    fn control(&self, method: &Method, path: &str, body: &Value, now: Timestamp) -> Result<Value, ControlError> {
        self.control_person(method, path, body, now)
    }
}
