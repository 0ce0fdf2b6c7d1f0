//! The Graph half of the control plane, and the view of the world that it and tests share.

use hyper::Method;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Graph;
use super::knobs::Knobs;
use super::state::{TokenKind, TokenSpec, TokenState, World};
use super::violations::Violation;
use crate::simulator::control::parsed;
use crate::simulator::service::ControlError;

/// The world at an instant, without a secret in it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct State {
    /// The instant.
    pub now: Timestamp,
    /// Every token that was ever issued, oldest first.
    pub tokens: Vec<TokenView>,
    /// What clients did and must not do.
    pub violations: Vec<Violation>,
    /// The apps' ids.
    pub apps: Vec<String>,
    /// The system users' ids.
    pub users: Vec<String>,
}

/// A token, by its fingerprint.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TokenView {
    /// The first 16 hex digits of its SHA-256.
    pub fingerprint: String,
    /// Its app.
    pub app: String,
    /// Its user; none for an app token.
    pub user: Option<String>,
    /// What it is.
    pub kind: TokenKind,
    /// Whether and how it was ended.
    pub state: TokenState,
    /// Whether it works now.
    pub valid: bool,
    /// Since when it exists.
    pub issued_at: Timestamp,
    /// Until when; none for ever.
    pub expires_at: Option<Timestamp>,
    /// The token that it was refreshed from.
    pub minted_from: Option<String>,
    /// Whether the answer that carried it left whole.
    pub delivered: bool,
    /// Successful calls that it made.
    pub uses: u64,
    /// Those of them that a consumer makes.
    pub consumer_uses: u64,
    /// The last one.
    pub last_use: Option<Timestamp>,
}

impl State {
    pub(super) fn of(world: &World, now: Timestamp) -> Self {
        let view = |token: &super::state::Token| {
            let revoked = token.state == TokenState::Live && token.revoked_from.is_some_and(|from| from <= now);
            TokenView {
                fingerprint: token.fingerprint.clone(),
                app: token.app.clone(),
                user: token.user.clone(),
                kind: token.kind,
                state: if revoked { TokenState::Revoked } else { token.state },
                valid: token.end(now).is_none(),
                issued_at: token.issued_at,
                expires_at: token.expires_at,
                minted_from: token.minted_from.clone(),
                delivered: token.delivered,
                uses: token.uses,
                consumer_uses: token.consumer_uses,
                last_use: token.last_use,
            }
        };
        Self {
            now,
            tokens: world.tokens.iter().map(view).collect(),
            violations: world.violations.clone(),
            apps: world.apps.keys().cloned().collect(),
            users: world.users.keys().cloned().collect(),
        }
    }

    /// The tokens of a user that work.
    #[must_use]
    pub fn working(&self, user: &str) -> Vec<&TokenView> {
        self.tokens.iter().filter(|token| token.valid && token.user.as_deref() == Some(user)).collect()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EndRequest {
    fingerprint: Option<String>,
    /// Instead of a fingerprint: all tokens of that user.
    user: Option<String>,
    state: TokenState,
}

pub(super) fn serve(graph: &Graph, method: &Method, path: &str, body: &Value, now: Timestamp) -> Result<Value, ControlError> {
    match (method.as_str(), path) {
        ("GET", "state") => Ok(json!(graph.state(now))),
        ("GET", "violations") => Ok(json!({ "violations": graph.violations() })),
        ("DELETE", "violations") => {
            graph.change(|world| world.violations.clear());
            Ok(json!({}))
        }
        ("GET", "knobs") => Ok(json!(graph.knobs())),
        ("POST", "knobs") => {
            let knobs: Knobs = merged(&json!(graph.knobs()), body)?;
            graph.set_knobs(|old| *old = knobs);
            Ok(json!(graph.knobs()))
        }
        ("DELETE", "knobs") => {
            graph.set_knobs(|knobs| *knobs = Knobs::default());
            Ok(json!(graph.knobs()))
        }
        ("POST", "businesses") => {
            graph.add_business(merged(&there(body, |id| graph.lock().businesses.get(id).map(|business| json!(business))), body)?);
            Ok(json!({}))
        }
        ("POST", "apps") => {
            graph.add_app(merged(&there(body, |id| graph.lock().apps.get(id).map(|app| json!(app))), body)?);
            Ok(json!({}))
        }
        ("POST", "users") => {
            graph.add_system_user(merged(&there(body, |id| graph.lock().users.get(id).map(|user| json!(user))), body)?);
            Ok(json!({}))
        }
        ("POST", "tokens") => {
            let spec: TokenSpec = parsed(body.clone())?;
            check_owner(graph, &spec)?;
            let issued = graph.issue(spec, now);
            Ok(json!({ "access_token": issued.text, "fingerprint": issued.fingerprint }))
        }
        ("POST", "tokens/state") => {
            let asked: EndRequest = parsed(body.clone())?;
            let now_in_it = match (&asked.fingerprint, &asked.user) {
                (Some(fingerprint), None) => usize::from(graph.set_token_state(fingerprint, asked.state)),
                (None, Some(user)) => graph.set_token_states(user, asked.state),
                _ => return Err(ControlError::Invalid("say `fingerprint` or `user`".into())),
            };
            if now_in_it == 0 { Err(ControlError::Invalid("there is no such token".into())) } else { Ok(json!({ "tokens": now_in_it })) }
        }
        _ => Err(ControlError::NotFound),
    }
}

fn check_owner(graph: &Graph, spec: &TokenSpec) -> Result<(), ControlError> {
    let world = graph.lock();
    if !world.apps.contains_key(&spec.app) {
        return Err(ControlError::Invalid(format!("there is no app `{}`", spec.app)));
    }
    match &spec.user {
        Some(user) if !world.users.contains_key(user) => Err(ControlError::Invalid(format!("there is no system user `{user}`"))),
        Some(_) | None => Ok(()),
    }
}

/// What exists under the id that a body names.
fn there(body: &Value, find: impl Fn(&str) -> Option<Value>) -> Value {
    body["id"].as_str().and_then(find).unwrap_or_else(|| json!({}))
}

/// `base` with `patch` merged in: objects field by field, everything else replaced.
fn merged<T: DeserializeOwned>(base: &Value, patch: &Value) -> Result<T, ControlError> {
    let mut whole = base.clone();
    merge(&mut whole, patch);
    parsed(whole)
}

fn merge(base: &mut Value, patch: &Value) {
    match (base, patch) {
        (Value::Object(base), Value::Object(patch)) => {
            for (name, value) in patch {
                merge(base.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (base, patch) => *base = patch.clone(),
    }
}
