//! What the simulated Graph does differently when told to: every way in which Meta's answers vary or may go wrong.
//!
//! Faults of the transport (lost answers, cut bodies, HTML from a proxy, redirects) are rules of the shared server
//! ([`crate::simulator::fault`]); here is what changes the *service's* answer. The default of each knob is the documented behaviour,
//! or the guess that docs/simulator.md names.

mod traffic;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use traffic::{DateKnobs, Refusal, Usage, VersionKnobs};

/// All knobs. Over HTTP, `POST /_control/knobs` takes any part of this and merges it in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Knobs {
    /// Seconds that an expiring token lives from its mint.
    pub token_life_s: i64,
    /// A text inside every token that is minted, so that a test can look for leaks.
    pub marker: String,
    /// Whether errors come as 400 or with a status of their own.
    pub status_family: StatusFamily,
    /// Refresh.
    pub refresh: RefreshKnobs,
    /// Revoke.
    pub revoke: RevokeKnobs,
    /// Introspection.
    pub debug_token: DebugTokenKnobs,
    /// How errors look.
    pub errors: ErrorKnobs,
    /// Calls that are refused before anything is checked (throttles, policy blocks, outages), in order.
    pub refuse: Vec<Refusal>,
    /// Usage headers on every answer.
    pub usage: Usage,
    /// Versions.
    pub version: VersionKnobs,
    /// The `Date` header.
    pub date: DateKnobs,
    /// Seconds by which the clock that judges `appsecret_time` is ahead (F24).
    pub proof_clock_shift_s: i64,
    /// The locally composed `id|secret` is refused as an app token; only one from `client_credentials` works.
    pub composed_app_token_refused: bool,
    /// `me` calls `client_business_id` of a classic token a nonexisting field.
    pub client_business_id_unknown: bool,
    /// `oauth/*` take POST too.
    pub allow_post_oauth: bool,
    /// `DELETE {user}/access_tokens` is wanted, hence no violation.
    pub allow_bulk_revoke: bool,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            token_life_s: 5_184_000,
            marker: String::new(),
            status_family: StatusFamily::Classic,
            refresh: RefreshKnobs::default(),
            revoke: RevokeKnobs::default(),
            debug_token: DebugTokenKnobs::default(),
            errors: ErrorKnobs::default(),
            refuse: Vec::new(),
            usage: Usage::default(),
            version: VersionKnobs::default(),
            date: DateKnobs::default(),
            proof_clock_shift_s: 0,
            composed_app_token_refused: false,
            client_business_id_unknown: false,
            allow_post_oauth: false,
            allow_bulk_revoke: false,
        }
    }
}

/// The statuses of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatusFamily {
    /// 400 for nearly everything, as seen on classic nodes.
    Classic,
    /// 401, 403, 404, 429 as in Meta's OpenAPI file.
    Oas,
}

/// What refresh does differently.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RefreshKnobs {
    /// The old token comes back, its life as it was (F1).
    pub same_token: bool,
    /// With `same_token`: its life starts anew.
    pub same_token_extended: bool,
    /// How `expires_in` is said (F2).
    pub expires_in: ExpiresIn,
    /// Scopes that the new token lacks (F11).
    pub lose_scopes: Vec<String>,
    /// Scopes that it has beyond the old one's.
    pub add_scopes: Vec<String>,
    /// Targets that it lacks in its granular scopes (F11).
    pub lose_targets: Vec<String>,
    /// The user that it is of, instead (F12).
    pub user_id: Option<String>,
    /// The app that introspection says it is of, instead (F12).
    pub app_id: Option<String>,
    /// The type that introspection says, instead.
    pub kind: Option<String>,
    /// It never expires: `expires_at` 0.
    pub never_expires: bool,
    /// Its life in seconds, instead.
    pub life_s: Option<i64>,
    /// For so many seconds it is refused (F10).
    pub invalid_for_s: i64,
    /// Its very text: blanks, line ends, NUL, anything.
    pub token_text: Option<String>,
    /// Its length.
    pub token_bytes: Option<usize>,
    /// The code for a wrong client secret: 1, 100 and 101 were all seen.
    pub wrong_secret_code: i64,
}

impl Default for RefreshKnobs {
    fn default() -> Self {
        Self {
            same_token: false,
            same_token_extended: false,
            expires_in: ExpiresIn::True,
            lose_scopes: Vec::new(),
            add_scopes: Vec::new(),
            lose_targets: Vec::new(),
            user_id: None,
            app_id: None,
            kind: None,
            never_expires: false,
            life_s: None,
            invalid_for_s: 0,
            token_text: None,
            token_bytes: None,
            wrong_secret_code: 1,
        }
    }
}

/// How a refresh says the life of the new token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpiresIn {
    /// As it is, less up to 2e-5 of it.
    True,
    /// Not at all.
    Missing,
    /// Under its historic name, `expires`.
    Alias,
    /// As a string.
    Text,
    /// As that JSON value.
    Value(Value),
    /// As that text in the place of a JSON value, so that the body need not be JSON: `NaN`.
    Raw(String),
}

/// What revoke does differently.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RevokeKnobs {
    /// Who dies.
    pub effect: RevokeEffect,
    /// What is said.
    pub body: RevokeBody,
    /// Seconds until the effect (F9).
    pub delay_s: i64,
    /// An error is answered, whatever the effect.
    pub answer_error: bool,
}

/// Who dies by a revoke.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevokeEffect {
    /// The victim.
    #[default]
    Victim,
    /// Nobody (F8).
    Nobody,
    /// The victim and every token refreshed from the same origin: one shared session.
    WholeSession,
}

/// The body of a revoke that worked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevokeBody {
    /// `{"success":true}`
    #[default]
    Bool,
    /// `{"success":"true"}`
    Text,
    /// `true`
    Bare,
    /// `{"success":"true",}`, which is what Meta's page shows and is no JSON.
    TrailingComma,
    /// Nothing.
    Empty,
    /// `{"success":"false"}` (F7).
    FalseText,
    /// `{"success":false}`
    False,
}

/// What introspection does differently.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DebugTokenKnobs {
    /// Every dead token is answered with HTTP 400, code 100, and no `data` (F22), not only one whose app was removed.
    pub dead_without_data: bool,
    /// A dead token shows `expires_at` 0 (F13).
    pub dead_expires_at_zero: bool,
    /// A dead token shows no scopes.
    pub dead_without_scopes: bool,
    /// The subcode of a revoked token.
    pub revoked_subcode: i64,
}

impl Default for DebugTokenKnobs {
    fn default() -> Self {
        Self { dead_without_data: false, dead_expires_at_zero: false, dead_without_scopes: false, revoked_subcode: 466 }
    }
}

/// How errors look.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ErrorKnobs {
    /// 190 comes without its subcode (F15).
    pub omit_subcode: bool,
    /// `error_data` (F18).
    pub error_data: ErrorData,
    /// The fields come at top level, without `error` (F19).
    pub top_level: bool,
    /// The caller's token stands in the message (F20).
    pub echo_token: bool,
    /// The `WWW-Authenticate` header of authentication failures (F21).
    pub www_authenticate: WwwAuthenticate,
}

impl Default for ErrorKnobs {
    fn default() -> Self {
        Self {
            omit_subcode: false,
            error_data: ErrorData::Absent,
            top_level: false,
            echo_token: false,
            www_authenticate: WwwAuthenticate::Meta,
        }
    }
}

/// How `error_data` is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorData {
    /// Not at all.
    Absent,
    /// As an object.
    Object,
    /// As a string that holds JSON.
    Text,
}

/// How `WWW-Authenticate` is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WwwAuthenticate {
    /// As Meta does, which no RFC describes.
    Meta,
    /// With quotes that do not close.
    Malformed,
    /// Not at all.
    Absent,
}
