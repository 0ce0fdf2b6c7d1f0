//! The classifier: what a refusal of Graph means for a rotation.
//!
//! Meta says to build on `code`, then on the subcode, and not on the HTTP status. The precedence is therefore: a text that says
//! whose credential was refused → code and subcode → `is_transient` → HTTP status. The text comes first because on `oauth/*` the
//! same wrong secret has been answered with code 1, 100, 101 and 190: there the role of the call decides, not the code.
//!
//! [`TABLE`] holds the codes as data, in the order of Meta's tables, so that it can be compared with them row by row.

use jiff::SignedDuration;
use serde_json::Value;

use super::lenient::{boolean, integer};
use super::redaction::Sent;
use super::url::Endpoint;
use super::usage::Pace;
use crate::rotation::fault::FaultClass::{self, AppCredential, BadRequest, Permission, Policy, Throttled, TokenDead, Transient};
use crate::rotation::fault::{Certainty, Fault};

/// One row of the table of codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The first code.
    pub from: i64,
    /// The last code, the same where the row is about one.
    pub to: i64,
    /// The subcode, where the row is about one; rows with a subcode stand before those without.
    pub subcode: Option<i64>,
    /// What it means for a rotation.
    pub class: FaultClass,
    /// Our words for it, used where the answer has none that can be shown.
    pub meaning: &'static str,
}

const fn code(code: i64, class: FaultClass, meaning: &'static str) -> Row {
    Row { from: code, to: code, subcode: None, class, meaning }
}

const fn sub(code: i64, subcode: i64, class: FaultClass, meaning: &'static str) -> Row {
    Row { from: code, to: code, subcode: Some(subcode), class, meaning }
}

const fn range(from: i64, to: i64, class: FaultClass, meaning: &'static str) -> Row {
    Row { from, to, subcode: None, class, meaning }
}

/// Meta's codes (Graph error handling, rate limits, WhatsApp Cloud API error codes, the references of the edges). The first row
/// that fits counts.
pub const TABLE: &[Row] = &[
    code(0, TokenDead, "the token expired or was invalidated"),
    code(1, Transient, "unknown error, possibly a downtime"),
    code(2, Transient, "the service is temporarily down"),
    code(3, Permission, "a capability or permission is missing"),
    code(4, Throttled, "the app's call limit is reached"),
    code(10, Permission, "a permission is missing or was removed"),
    code(17, Throttled, "the user's call limit is reached"),
    code(32, Throttled, "the page's call limit is reached"),
    code(33, BadRequest, "the phone number was deleted"),
    sub(100, 33, BadRequest, "the object is unknown, may not be seen, or does not take this method"),
    code(100, BadRequest, "a parameter is invalid"),
    code(101, AppCredential, "the app id or its key is invalid"),
    sub(102, 459, Policy, "the user must pass a checkpoint; the token itself is not dead"),
    sub(102, 492, Permission, "a role on the page is missing"),
    code(102, TokenDead, "the session is invalid"),
    code(104, AppCredential, "the signature is incorrect or no token came with the call"),
    sub(190, 458, TokenDead, "the app is not installed any more"),
    sub(190, 459, Policy, "the user must pass a checkpoint; the token itself is not dead"),
    sub(190, 460, TokenDead, "invalidated by a change of password or for security reasons"),
    sub(190, 463, TokenDead, "the token has expired"),
    sub(190, 464, TokenDead, "the user is unconfirmed or the integration was removed"),
    sub(190, 466, TokenDead, "invalidated explicitly by an API call"),
    sub(190, 467, TokenDead, "the token is invalid"),
    sub(190, 492, Permission, "a role on the page is missing"),
    code(190, TokenDead, "the token is invalid"),
    range(200, 299, Permission, "a permission is missing"),
    code(341, Throttled, "the application's limit is reached"),
    code(368, Policy, "blocked for a violation of a policy; the token itself is not dead"),
    code(452, TokenDead, "the session key is bad"),
    code(506, BadRequest, "a duplicate post"),
    code(613, Throttled, "a custom call limit is reached"),
    code(803, BadRequest, "the id does not exist"),
    code(2500, BadRequest, "the path or the version is unknown"),
    code(2635, BadRequest, "this version of the API is no longer supported"),
    code(2642, BadRequest, "the paging cursor is invalid"),
    code(3949, Permission, "the business has no room for another system user"),
    code(3962, BadRequest, "the scope is invalid"),
    code(3965, Permission, "the business has no room for another admin system user"),
    range(80_000, 80_009, Throttled, "a business use case limit is reached"),
    code(80_014, Throttled, "the catalog batch limit is reached"),
    code(104_001, AppCredential, "the app does not belong to the business"),
    code(130_429, Throttled, "the message throughput is reached"),
    code(131_000, Transient, "something went wrong at the provider"),
    code(131_005, Permission, "a permission is missing"),
    code(131_016, Transient, "the service is unavailable"),
    code(131_031, Policy, "the account is locked"),
    code(131_048, Throttled, "the spam rate limit is reached"),
    code(131_056, Throttled, "too many messages to one recipient"),
    code(131_057, Transient, "the account is in maintenance"),
    code(133_005, Permission, "the two-step PIN does not match"),
    code(133_016, Throttled, "too many registrations of the number within 72 hours"),
    code(1_609_005, BadRequest, "the link could not be read"),
    code(2_494_100, Transient, "the account is in maintenance"),
];

/// The row for a code. A subcode that the table does not know falls back to the code's own row.
#[must_use]
pub fn row(code: i64, subcode: Option<i64>) -> Option<&'static Row> {
    TABLE.iter().find(|row| (row.from..=row.to).contains(&code) && (row.subcode.is_none() || row.subcode == subcode))
}

/// Whose credential a message speaks of, whatever its code. Texts as reported from real answers, lower case.
const APP_TEXTS: [&str; 3] = ["error validating application", "invalid application", "appsecret_proof"];
const OAUTH_APP_TEXTS: [&str; 3] = ["client secret", "validating application", "client_secret"];
const CALLER_APP_TEXTS: [&str; 1] = ["must provide an app access token"];

/// An error object of Graph, as far as it can be read. Unshown: its message may hold secrets.
#[derive(Default)]
pub(super) struct GraphError {
    code: Option<i64>,
    subcode: Option<i64>,
    kind: Option<String>,
    message: Option<String>,
    transient: Option<bool>,
    trace: Option<String>,
}

impl GraphError {
    /// Finds the error in a body: under `error` as an object or a text, or (older) its fields at the top level.
    pub(super) fn find(body: &Value) -> Option<Self> {
        match body.get("error") {
            Some(Value::Object(_)) => body.get("error").map(Self::read),
            Some(Value::String(kind)) => {
                let message = body.get("error_description").and_then(Value::as_str).unwrap_or(kind);
                Some(Self { kind: Some(kind.clone()), message: Some(message.to_owned()), ..Self::default() })
            }
            Some(Value::Bool(_) | Value::Number(_) | Value::Array(_)) => Some(Self::default()),
            Some(Value::Null) | None => (body.get("code").is_some() || body.get("error_code").is_some()).then(|| Self::read(body)),
        }
    }

    fn read(fields: &Value) -> Self {
        let number = |names: [&str; 2]| names.iter().find_map(|name| fields.get(name).and_then(integer));
        let words = |names: [&str; 2]| names.iter().find_map(|name| fields.get(name).and_then(Value::as_str)).map(str::to_owned);
        Self {
            code: number(["code", "error_code"]),
            subcode: number(["error_subcode", "subcode"]),
            kind: words(["type", "error_type"]),
            message: words(["message", "error_msg"]),
            transient: fields.get("is_transient").and_then(boolean),
            trace: words(["fbtrace_id", "fbtrace"]),
        }
    }

    /// What the error means, and our words for it.
    fn class(&self, endpoint: Endpoint, status: u16) -> (FaultClass, &'static str) {
        if let Some(verdict) = self.app_credential(endpoint) {
            return verdict;
        }
        if let Some(row) = self.code.and_then(|code| row(code, self.subcode)) {
            return (row.class, row.meaning);
        }
        match (self.transient, status) {
            (Some(true), _) => (Transient, "an error that passes"),
            (_, status) => by_status(status),
        }
    }

    /// Whether the app's credential was refused and not the token.
    fn app_credential(&self, endpoint: Endpoint) -> Option<(FaultClass, &'static str)> {
        let message = self.message.as_deref().unwrap_or_default().to_ascii_lowercase();
        let says = |texts: &[&str]| texts.iter().any(|text| message.contains(text));
        if says(&APP_TEXTS) || (endpoint.is_oauth() && says(&OAUTH_APP_TEXTS)) {
            return Some((AppCredential, "the app's id, secret or proof was refused"));
        }
        if endpoint != Endpoint::DebugToken {
            return None;
        }
        // On debug_token the caller is the app's token. What is wrong with the inspected one comes with status 200 inside `data`.
        let caller =
            says(&CALLER_APP_TEXTS) || self.code.and_then(|code| row(code, self.subcode)).is_some_and(|row| row.class == TokenDead);
        caller.then_some((AppCredential, "the app's own token was refused"))
    }
}

/// What a status alone says. None of them proves that a token is dead.
fn by_status(status: u16) -> (FaultClass, &'static str) {
    match status {
        401 | 403 => (Permission, "refused"),
        429 => (Throttled, "too many calls"),
        400..=499 => (BadRequest, "the request was refused"),
        500..=599 => (Transient, "the provider is in trouble"),
        _ => (FaultClass::Unreachable, "an answer that cannot be understood"),
    }
}

/// A refusal with what is needed to judge it.
pub(super) struct Refusal<'a> {
    pub(super) endpoint: Endpoint,
    pub(super) status: u16,
    pub(super) pace: &'a Pace,
    /// The trace id of the response header, where the body has none.
    pub(super) trace: Option<&'a str>,
    pub(super) sent: &'a Sent<'a>,
}

impl Refusal<'_> {
    /// Turns an error of Graph into a fault.
    ///
    /// Certainly nothing happened only when Graph refused with a code that is not one of trouble on its own side: behind a
    /// code 1 or 2 or a status of 500 and more the effect may have happened.
    pub(super) fn of_graph(&self, error: &GraphError) -> Fault {
        let (class, meaning) = error.class(self.endpoint, self.status);
        let refused = error.code.is_some_and(|code| row(code, error.subcode).is_some() || (400..500).contains(&self.status));
        let certainty = if refused && class != Transient && self.status < 500 { Certainty::NotDone } else { Certainty::Unknown };
        let code = match (error.code, error.subcode) {
            (Some(code), Some(subcode)) => format!("Graph {code}/{subcode}"),
            (Some(code), None) => format!("Graph {code}"),
            (None, _) => format!("Graph, HTTP {}", self.status),
        };
        let kind = error.kind.as_deref().and_then(|kind| self.sent.name(kind)).map(|kind| format!(" ({kind})")).unwrap_or_default();
        let message = error.message.as_deref().and_then(|message| self.sent.message(message));
        let what = format!("{code}{kind}: {}", message.as_deref().unwrap_or(meaning));
        self.fault(certainty, class, what, error)
    }

    /// An answer that is no error of Graph and not what was asked for either.
    pub(super) fn of_nonsense(&self, what: &str) -> Fault {
        let class = if self.status == 200 { FaultClass::Unreachable } else { by_status(self.status).0 };
        self.fault(Certainty::Unknown, class, format!("HTTP {}: {what}", self.status), &GraphError::default())
    }

    fn fault(&self, certainty: Certainty, class: FaultClass, what: String, error: &GraphError) -> Fault {
        let trace = error.trace.as_deref().or(self.trace).and_then(|trace| self.sent.name(trace));
        Fault { wait: self.wait(class), code: error.code, subcode: error.subcode, trace_id: trace, ..Fault::new(certainty, class, what) }
    }

    fn wait(&self, class: FaultClass) -> Option<SignedDuration> {
        if class == Throttled { self.pace.throttle_wait() } else { self.pace.retry_after }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn judge(endpoint: Endpoint, status: u16, body: &Value) -> Fault {
        let (pace, sent) = (Pace::default(), Sent::new(&[SECRET, "EAAsenttokensenttoken"]));
        let refusal = Refusal { endpoint, status, pace: &pace, trace: Some("header-trace"), sent: &sent };
        refusal.of_graph(&GraphError::find(body).unwrap())
    }

    fn coded(code: i64, subcode: Option<i64>) -> Value {
        json!({"error": {"message": "in Meta's words", "type": "OAuthException", "code": code, "error_subcode": subcode}})
    }

    /// Meta's table as the facts have it, a line for a line, written apart from [`TABLE`].
    const EXPECTED: &[(i64, Option<i64>, FaultClass)] = &[
        (0, None, TokenDead),
        (1, None, Transient),
        (2, None, Transient),
        (3, None, Permission),
        (4, None, Throttled),
        (4, Some(2_446_079), Throttled),
        (10, None, Permission),
        (17, None, Throttled),
        (17, Some(2_446_079), Throttled),
        (32, None, Throttled),
        (33, None, BadRequest),
        (100, None, BadRequest),
        (100, Some(33), BadRequest),
        (101, None, AppCredential),
        (102, None, TokenDead),
        (102, Some(459), Policy),
        (102, Some(492), Permission),
        (104, None, AppCredential),
        (190, None, TokenDead),
        (190, Some(458), TokenDead),
        (190, Some(459), Policy),
        (190, Some(460), TokenDead),
        (190, Some(463), TokenDead),
        (190, Some(464), TokenDead),
        (190, Some(466), TokenDead),
        (190, Some(467), TokenDead),
        (190, Some(492), Permission),
        (190, Some(999_999), TokenDead),
        (200, None, Permission),
        (299, None, Permission),
        (341, None, Throttled),
        (368, None, Policy),
        (452, None, TokenDead),
        (506, None, BadRequest),
        (613, None, Throttled),
        (613, Some(1996), Throttled),
        (803, None, BadRequest),
        (2500, None, BadRequest),
        (2635, None, BadRequest),
        (2642, None, BadRequest),
        (3949, None, Permission),
        (3962, None, BadRequest),
        (3965, None, Permission),
        (80_000, None, Throttled),
        (80_001, None, Throttled),
        (80_002, None, Throttled),
        (80_003, None, Throttled),
        (80_004, None, Throttled),
        (80_005, None, Throttled),
        (80_006, None, Throttled),
        (80_007, None, Throttled),
        (80_008, None, Throttled),
        (80_009, None, Throttled),
        (80_014, None, Throttled),
        (104_001, None, AppCredential),
        (130_429, None, Throttled),
        (131_000, None, Transient),
        (131_005, None, Permission),
        (131_016, None, Transient),
        (131_031, None, Policy),
        (131_048, None, Throttled),
        (131_056, None, Throttled),
        (131_057, None, Transient),
        (133_005, None, Permission),
        (133_016, None, Throttled),
        (1_609_005, None, BadRequest),
        (2_494_100, None, Transient),
    ];

    #[test]
    fn every_row_of_metas_table_has_its_class_and_certainty_whatever_the_status() {
        for (code, subcode, class) in EXPECTED {
            for status in [400, 401, 403, 404, 429, 200] {
                let fault = judge(Endpoint::Refresh, status, &coded(*code, *subcode));
                let certainty = if *class == Transient { Certainty::Unknown } else { Certainty::NotDone };
                assert_eq!((fault.class, fault.certainty), (*class, certainty), "{code}/{subcode:?} with HTTP {status}");
                assert_eq!((fault.code, fault.subcode), (Some(*code), *subcode));
                assert_eq!(fault.wait, None, "{code} stated none");
            }
            // Behind trouble of its own, Graph may have minted all the same.
            assert_eq!(judge(Endpoint::Refresh, 500, &coded(*code, *subcode)).certainty, Certainty::Unknown);
        }
        for held in TABLE {
            let reached = EXPECTED.iter().any(|(code, subcode, _)| row(*code, *subcode) == Some(held));
            assert!(reached, "no line of the test reaches {held:?}");
        }
    }

    #[test]
    fn codes_beside_the_table_go_by_is_transient_then_by_status() {
        let unknown = |transient: Option<bool>| json!({"error": {"message": "m", "code": 424_242, "is_transient": transient}});
        for (status, transient, class, certainty) in [
            (400, Some(true), Transient, Certainty::Unknown),
            (400, Some(false), BadRequest, Certainty::NotDone),
            (400, None, BadRequest, Certainty::NotDone),
            (401, None, Permission, Certainty::NotDone),
            (403, None, Permission, Certainty::NotDone),
            (404, None, BadRequest, Certainty::NotDone),
            (429, None, Throttled, Certainty::NotDone),
            (500, None, Transient, Certainty::Unknown),
            (503, Some(false), Transient, Certainty::Unknown),
            (200, None, FaultClass::Unreachable, Certainty::Unknown),
            (302, None, FaultClass::Unreachable, Certainty::Unknown),
        ] {
            let fault = judge(Endpoint::Refresh, status, &unknown(transient));
            assert_eq!((fault.class, fault.certainty), (class, certainty), "HTTP {status}, is_transient {transient:?}");
        }
        for code in [-1, 5, 199, 300, 79_999, 80_010, 80_013, i64::MAX, i64::MIN] {
            assert_eq!(row(code, None), None, "{code}");
        }
    }

    #[test]
    fn a_text_about_the_app_outweighs_the_code() {
        use Endpoint::{AppToken, DebugToken, Me, Refresh, Revoke};
        let no_caller = "(#100) You must provide an app access token, or a user access token that is an owner or developer of the app";
        let foreign = "(#100) The App_id in the input_token did not match the Viewing App";
        for (endpoint, code, text, class) in [
            (Refresh, 1, "Error validating client secret.", AppCredential),
            (Refresh, 100, "Error validating client secret.", AppCredential),
            (Refresh, 101, "Error validating client secret.", AppCredential),
            (AppToken, 1, "Error validating client secret.", AppCredential),
            (Revoke, 1, "Error validating client secret.", AppCredential),
            (Refresh, 101, "Error validating application. Invalid application ID.", AppCredential),
            (Refresh, 190, "Error validating application. Cannot get application info due to a system error.", AppCredential),
            (Me, 190, "Error validating application. Cannot get application info due to a system error.", AppCredential),
            (Me, 100, "API calls from the server require an appsecret_proof argument", AppCredential),
            (Revoke, 100, "Invalid appsecret_proof provided in the API argument", AppCredential),
            (DebugToken, 100, no_caller, AppCredential),
            (DebugToken, 190, "Invalid OAuth access token signature.", AppCredential),
            // Not about the app: one token is foreign, and on other calls the word means nothing.
            (DebugToken, 100, foreign, BadRequest),
            (Me, 1, "unrelated: client secret", Transient),
            (Me, 190, "Invalid OAuth access token signature.", TokenDead),
            (Refresh, 1, "An unknown error occurred", Transient),
        ] {
            let fault = judge(endpoint, 400, &json!({"error": {"message": text, "type": "OAuthException", "code": code}}));
            assert_eq!(fault.class, class, "{endpoint:?} {code} {text}");
        }
    }

    #[test]
    fn odd_shapes_of_an_error_are_read_as_far_as_they_go() {
        let top = judge(Endpoint::Me, 400, &json!({"message": "m", "type": "T", "code": "190", "error_subcode": "463"}));
        assert_eq!((top.code, top.subcode, top.class), (Some(190), Some(463), TokenDead));
        let old = judge(Endpoint::Me, 400, &json!({"error_code": 190, "error_msg": "m"}));
        assert_eq!((old.code, old.class), (Some(190), TokenDead));
        let odd =
            json!({"error": {"message": 5, "type": [], "code": 4.0, "error_data": "{\"x\":1}", "is_transient": "no", "fbtrace_id": {}}});
        let odd = judge(Endpoint::Me, 400, &odd);
        assert_eq!((odd.class, odd.what.as_str()), (Throttled, "Graph 4: the app's call limit is reached"));
        assert_eq!(odd.trace_id.as_deref(), Some("header-trace"));
        for bare in [json!({"error": {}}), json!({"error": "invalid_request"}), json!({"error": 5}), json!({"error": {"code": 1e300}})] {
            let fault = judge(Endpoint::Refresh, 400, &bare);
            assert_eq!((fault.class, fault.certainty, fault.code), (BadRequest, Certainty::Unknown, None), "{bare}");
        }
        for none in [json!({}), json!({"error": null}), json!([]), json!("error"), json!({"data": {"error": {"code": 190}}})] {
            assert!(GraphError::find(&none).is_none(), "{none}");
        }
    }

    #[test]
    fn a_fault_shows_metas_words_but_nothing_that_was_sent() {
        let expired = "Error validating access token: Session has expired on Wednesday, 16-Nov-22 07:45:51 PST.";
        let body =
            json!({"error": {"message": expired, "type": "OAuthException", "code": 190, "error_subcode": 463, "fbtrace_id": "AbC1_x"}});
        let fault = judge(Endpoint::Refresh, 400, &body);
        assert_eq!(fault.what, format!("Graph 190/463 (OAuthException): {expired}"));
        assert_eq!(fault.trace_id.as_deref(), Some("AbC1_x"));
        for leak in ["Malformed access token EAAsenttokensenttoken", &format!("bad {SECRET}"), "enttokensentt"] {
            let body = json!({"error": {"message": leak, "type": SECRET, "code": 190, "fbtrace_id": "EAAsenttokensenttoken"}});
            let fault = judge(Endpoint::Refresh, 400, &body);
            assert_eq!(fault.what, "Graph 190: the token is invalid");
            assert_eq!(fault.trace_id, None);
        }
    }

    #[test]
    fn a_throttled_call_waits_as_long_as_the_longest_header_says() {
        let sent = Sent::new(&[]);
        for stated in [None, Some(SignedDuration::from_secs(60))] {
            let mut pace = Pace::default();
            pace.usage.regain_after = stated;
            let refusal = Refusal { endpoint: Endpoint::Refresh, status: 400, pace: &pace, trace: None, sent: &sent };
            let fault = refusal.of_graph(&GraphError::find(&coded(4, None)).unwrap());
            assert_eq!(fault.wait, stated);
        }
    }
}
