//! Graph's errors: codes, texts and shapes, as documented or as recorded by others.

use jiff::Timestamp;
use jiff::tz::offset;
use serde_json::{Map, Value, json};

use super::knobs::{ErrorData, Knobs, StatusFamily, Usage, WwwAuthenticate};
use super::state::{End, Token, TokenState};
use crate::simulator::service::Response;

/// `type` of most errors.
pub(super) const OAUTH: &str = "OAuthException";
/// `type` of errors about the call itself.
pub(super) const METHOD: &str = "GraphMethodException";

/// An error before it has a shape.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct GraphError {
    pub(super) code: i64,
    pub(super) subcode: Option<i64>,
    pub(super) kind: &'static str,
    pub(super) message: String,
    pub(super) transient: bool,
    pub(super) usage: Box<Usage>,
}

impl GraphError {
    pub(super) fn new(code: i64, kind: &'static str, message: impl Into<String>) -> Self {
        Self { code, subcode: None, kind, message: message.into(), transient: false, usage: Box::default() }
    }

    pub(super) fn subcode(self, subcode: i64) -> Self {
        Self { subcode: Some(subcode), ..self }
    }

    pub(super) fn unparsable() -> Self {
        Self::new(190, OAUTH, "Invalid OAuth access token - Cannot parse access token")
    }

    pub(super) fn undecryptable() -> Self {
        Self::new(190, OAUTH, "The access token could not be decrypted")
    }

    pub(super) fn bad_signature() -> Self {
        Self::new(190, OAUTH, "Invalid OAuth access token signature.")
    }

    pub(super) fn no_active_token() -> Self {
        Self::new(2500, OAUTH, "An active access token must be used to query information about the current user.")
    }

    pub(super) fn unknown_path(path: &str) -> Self {
        Self::new(2500, OAUTH, format!("Unknown path components: {path}"))
    }

    /// Code 100 with subcode 33: unknown object, no permission, or a method that it does not take.
    pub(super) fn unsupported(method: &str, id: &str) -> Self {
        let text = format!(
            "Unsupported {} request. Object with ID '{id}' does not exist, cannot be loaded due to missing permissions, or does not \
             support this operation. Please read the Graph API documentation at https://developers.facebook.com/docs/graph-api",
            method.to_ascii_lowercase()
        );
        Self::new(100, METHOD, text).subcode(33)
    }

    pub(super) fn missing_parameter(name: &str) -> Self {
        Self::new(100, OAUTH, format!("(#100) The parameter {name} is required"))
    }

    pub(super) fn invalid_parameter(message: &str) -> Self {
        Self::new(100, OAUTH, message)
    }

    /// The error that a token which does not work is answered with.
    pub(super) fn dead(token: &Token, end: End, knobs: &Knobs, now: Timestamp) -> Self {
        let session = |text: &str| format!("Error validating access token: {text}");
        let (subcode, message) = match end {
            End::Expired => {
                let expired = token.expires_at.map_or_else(String::new, pacific);
                (463, session(&format!("Session has expired on {expired}. The current time is {}.", pacific(now))))
            }
            // GUESS(G16): a token that has not spread to all servers yet.
            End::NotYet => return Self::new(190, OAUTH, "Invalid OAuth access token."),
            End::State(TokenState::SecurityInvalidated) => (
                460,
                session(
                    "The session has been invalidated because the user changed their password or Facebook has changed the session for \
                     security reasons.",
                ),
            ),
            End::State(TokenState::LoggedOut) => (467, session("The session is invalid because the user logged out.")),
            End::State(TokenState::Removed) => {
                (464, session("Sessions for the user are not allowed because the user is not a confirmed user."))
            }
            End::State(TokenState::Deauthorized) => (458, session(&format!("The user has not authorized application {}.", token.app))),
            // GUESS(G9): what a token revoked by oauth/revoke is answered with; recorded for a user token ended through the API.
            End::State(TokenState::Revoked | TokenState::BulkRevoked | TokenState::Live) => {
                (knobs.debug_token.revoked_subcode, session("The session was invalidated explicitly using an API call."))
            }
        };
        Self::new(190, OAUTH, message).subcode(subcode)
    }

    /// The text known for a code, for refusals that do not bring their own.
    pub(super) fn known(code: i64, subcode: Option<i64>) -> Self {
        let (kind, message) = match (code, subcode) {
            (190, Some(459)) => (
                OAUTH,
                "Error validating access token: You cannot access the app till you log in to www.facebook.com and follow the \
                 instructions given.",
            ),
            (190, _) => (OAUTH, "Error validating access token: The session is invalid."),
            (1, _) => (OAUTH, "An unknown error occurred"),
            (2, _) => (OAUTH, "An unexpected error has occurred. Please retry your request later."),
            (4, _) => (OAUTH, "(#4) Application request limit reached"),
            (17, _) => (OAUTH, "(#17) User request limit reached"),
            (32, _) => (OAUTH, "(#32) Page request limit reached"),
            (613, _) => (OAUTH, "(#613) Calls to this api have exceeded the rate limit."),
            (80_007, _) => (OAUTH, "(#80007) There have been too many calls to this WhatsApp Business account."),
            (80_008, _) => (OAUTH, "(#80008) There have been too many calls to this WhatsApp Business Management API account."),
            (200, _) => (OAUTH, "API access blocked."),
            (368, _) => (OAUTH, "The action attempted has been deemed abusive or is otherwise disallowed"),
            (10, _) => (OAUTH, "(#10) Application does not have permission for this action"),
            _ => (OAUTH, "An error occurred."),
        };
        let message = if message == "An error occurred." { format!("(#{code}) {message}") } else { message.to_owned() };
        Self { subcode, transient: matches!(code, 1 | 2), ..Self::new(code, kind, message) }
    }

    fn status(&self, family: StatusFamily) -> u16 {
        match (self.code, family) {
            (1, _) if !self.transient => 400,
            (1 | 2, _) => 500,
            (_, StatusFamily::Classic) => 400,
            (0 | 102 | 104 | 190, StatusFamily::Oas) => 401,
            (10 | 200..=299, StatusFamily::Oas) => 403,
            (803, StatusFamily::Oas) => 404,
            (4 | 17 | 32 | 613 | 80_000..=80_014, StatusFamily::Oas) => 429,
            (_, StatusFamily::Oas) => 400,
        }
    }

    /// The answer; `caller` is the token that came with the call, for servers that repeat it.
    pub(super) fn response(&self, knobs: &Knobs, caller: Option<&str>) -> Response {
        let message = match caller {
            Some(token) if knobs.errors.echo_token => format!("Malformed access token {token}: {}", self.message),
            Some(_) | None => self.message.clone(),
        };
        let mut error = Map::new();
        error.insert("message".into(), json!(message));
        error.insert("type".into(), json!(self.kind));
        error.insert("code".into(), json!(self.code));
        if let Some(subcode) = self.subcode.filter(|_| !(knobs.errors.omit_subcode && self.code == 190)) {
            error.insert("error_subcode".into(), json!(subcode));
        }
        if self.transient {
            error.insert("is_transient".into(), json!(true));
        }
        match knobs.errors.error_data {
            ErrorData::Absent => {}
            ErrorData::Object => drop(error.insert("error_data".into(), json!({ "details": "more of the same" }))),
            ErrorData::Text => drop(error.insert("error_data".into(), json!(r#"{"details":"more of the same"}"#))),
        }
        error.insert("fbtrace_id".into(), json!(format!("A{}", super::state::random_digits(22))));
        let body = if knobs.errors.top_level { Value::Object(error) } else { json!({ "error": error }) };
        let code = self.subcode.map_or_else(|| self.code.to_string(), |subcode| format!("{}/{subcode}", self.code));
        let mut response = Response::json(self.status(knobs.status_family), &body).with_note("error", code);
        if let Some(value) = self.authenticate(knobs.errors.www_authenticate, &message) {
            response = response.with_header("www-authenticate", value);
        }
        super::dress::add_usage(&mut response, &self.usage);
        response
    }

    fn authenticate(&self, form: WwwAuthenticate, message: &str) -> Option<String> {
        if !matches!(self.code, 102 | 104 | 190 | 2500) {
            return None;
        }
        let reason = if self.code == 190 { "invalid_token" } else { "invalid_request" };
        match form {
            WwwAuthenticate::Meta => Some(format!("OAuth \"Facebook Platform\" \"{reason}\" \"{message}\"")),
            WwwAuthenticate::Malformed => Some(format!("OAuth \"Facebook Platform\" \"{reason} \"\"{message}")),
            WwwAuthenticate::Absent => None,
        }
    }

    /// The `error` inside the `data` of an introspection, which calls the subcode `subcode`.
    pub(super) fn introspected(&self, knobs: &Knobs) -> Value {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let Some(subcode) = self.subcode.filter(|_| !knobs.errors.omit_subcode) {
            error["subcode"] = json!(subcode);
        }
        error
    }
}

/// Graph's messages tell time like this: `Wednesday, 16-Nov-22 07:45:51 PST`.
fn pacific(at: Timestamp) -> String {
    offset(-8).to_datetime(at).strftime("%A, %d-%b-%y %H:%M:%S PST").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_time_as_meta_does() {
        let at: Timestamp = "2022-11-16T15:45:51Z".parse().unwrap();
        assert_eq!(pacific(at), "Wednesday, 16-Nov-22 07:45:51 PST");
    }

    #[test]
    fn statuses_by_family() {
        for (code, classic, oas) in
            [(190, 400, 401), (200, 400, 403), (803, 400, 404), (4, 400, 429), (80_008, 400, 429), (2, 500, 500), (100, 400, 400)]
        {
            let error = GraphError::known(code, None);
            assert_eq!((error.status(StatusFamily::Classic), error.status(StatusFamily::Oas)), (classic, oas), "{code}");
        }
    }
}
