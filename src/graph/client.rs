//! [`GraphClient`]: the calls of one app, as Meta documents them.
//!
//! Each call goes the same way: its URL is built, the [`Transport`] sends it, headers and body are read, and what is not the
//! expected success is classified. A log line names the endpoint, the status, codes and the trace id, never a URL, a token or a
//! message of the other side that was not redacted.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

use super::app_token::{AppCredential, AppToken};
use super::error::{GraphError, Refusal};
use super::lenient::{boolean, integer, text};
use super::proof::appsecret_proof;
use super::redaction::Sent;
use super::transport::{Carrier, Delivery, Received};
use super::url::{GraphUrl, is_version};
use super::usage::Pace;
use super::{Answer, Me, Provider, Refreshed, Usage, introspection};
use crate::clock;
use crate::rotation::fault::{Certainty, Fault, FaultClass};
use crate::rotation::token::{Introspection, Token};

pub use super::app_token::AppTokenMode;
pub use super::transport::{Deadlines, Transport, TransportSettings, TransportSettingsError};
pub use super::url::{Endpoint, GraphBase, GraphBaseError};

/// The longest `expires_in` that is believed, in seconds: a hundred years.
const EXPIRES_IN_MAX: i64 = 100 * 366 * 86_400;

/// What Meta answers when a field does not exist on the kind of node asked.
const NO_SUCH_FIELD: &str = "nonexisting field";

/// One app.
pub struct GraphSettings {
    /// Where calls go, and with which version.
    pub base: GraphBase,
    /// The app's id.
    pub app_id: String,
    /// The app's secret.
    pub app_secret: SecretString,
    /// Where the app token comes from.
    pub app_token: AppTokenMode,
}

/// Is told of every call, for metrics.
pub trait CallObserver: Send + Sync {
    /// A call to `endpoint` ended after `took`, with a fault of this class or well.
    fn called(&self, endpoint: &'static str, class: Option<FaultClass>, took: Duration);
}

/// The calls of one app at Meta.
pub struct GraphClient {
    base: GraphBase,
    app: AppCredential,
    transport: Arc<Transport>,
    observer: Option<Arc<dyn CallObserver>>,
    /// The version that answered last.
    served: Mutex<Option<String>>,
}

/// A call that is ready to go.
struct Call<'a> {
    endpoint: Endpoint,
    url: GraphUrl,
    carrier: Carrier,
    deadline: Duration,
    sent: Sent<'a>,
}

impl GraphClient {
    /// A client for one app. Nothing is sent yet.
    #[must_use]
    pub fn new(settings: GraphSettings, transport: Arc<Transport>) -> Self {
        let app = AppCredential::new(settings.app_id, settings.app_secret, settings.app_token);
        Self { base: settings.base, app, transport, observer: None, served: Mutex::new(None) }
    }

    /// The same, with somebody who counts the calls.
    #[must_use]
    pub fn observed_by(mut self, observer: Arc<dyn CallObserver>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Puts another app secret in place, for a reload. Calls under way finish with the old one; a fetched app token is dropped.
    pub fn replace_secret(&self, secret: SecretString) {
        self.app.replace(secret);
    }

    /// The version that the last answer named in `facebook-api-version`. Meta serves an expired version silently by the oldest one
    /// that it still has, so this may differ from what is asked for.
    #[must_use]
    pub fn served_version(&self) -> Option<String> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends a call and reads its answer. `decode` makes the success of a 2xx body, or says what is missing in it.
    async fn call<T>(&self, call: Call<'_>, decode: impl FnOnce(Value) -> Result<T, &'static str>) -> Answer<T> {
        let Call { endpoint, url, carrier, deadline, sent } = call;
        let begun = clock::boot();
        let delivery = self.transport.get(&self.base, url, carrier, deadline).await;
        let took = clock::boot().since(begun).unsigned_abs();
        let mut status = None;
        let answer = match delivery {
            Delivery::NotSent(what) => unanswered(Certainty::NotDone, what),
            Delivery::Lost(what) => unanswered(Certainty::Unknown, what),
            Delivery::Answered(received) => {
                status = Some(received.status);
                self.compare_version(&received);
                read(endpoint, &received, &sent, decode)
            }
        };
        self.note(endpoint, status, took, answer.result.as_ref().err());
        answer
    }

    fn note(&self, endpoint: Endpoint, status: Option<u16>, took: Duration, fault: Option<&Fault>) {
        let (endpoint, class) = (endpoint.name(), fault.map(|fault| fault.class));
        if let Some(observer) = &self.observer {
            observer.called(endpoint, class, took);
        }
        let class = class.map_or("ok", FaultClass::name);
        tracing::debug!(
            event = "graph.called",
            endpoint,
            status,
            class,
            code = fault.and_then(|fault| fault.code),
            subcode = fault.and_then(|fault| fault.subcode),
            trace_id = fault.and_then(|fault| fault.trace_id.as_deref()),
            took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        );
    }

    /// Compares the version that answered with the one asked for; a difference is told once for each version that answers.
    fn compare_version(&self, received: &Received) {
        let Some(version) = received.headers.get("facebook-api-version").and_then(|value| value.to_str().ok()) else { return };
        if !is_version(version) {
            return;
        }
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        if served.as_deref() == Some(version) {
            return;
        }
        *served = Some(version.to_owned());
        drop(served);
        if version != self.base.version() {
            tracing::warn!(
                event = "graph.version_mismatch",
                asked = self.base.version(),
                served = version,
                "Meta answers with another version of the API than the one asked for; set graph_version to one that Meta still serves"
            );
        }
    }

    /// The app token that needs no call, else a fetched one.
    async fn app_token(&self) -> Result<AppToken, Answer<Introspection>> {
        match self.app.at_hand() {
            Some(token) => Ok(token),
            None => self.fetch_app_token(None).await,
        }
    }

    /// Fetches an app token by `client_credentials` and keeps it; takes the one that another call fetched meanwhile.
    async fn fetch_app_token(&self, refused: Option<&AppToken>) -> Result<AppToken, Answer<Introspection>> {
        let _one_at_a_time = self.app.fetching.lock().await;
        if let Some(token) = self.app.fetched_instead_of(refused) {
            return Ok(token);
        }
        let credential = self.app.now();
        let secret = credential.secret.expose_secret();
        let query = [("grant_type", "client_credentials"), ("client_id", self.app.app_id()), ("client_secret", secret)];
        let call = self.get(Endpoint::AppToken, &query, &[secret]);
        let answer = self.call(call, |body| access_token(body).map(|(text, _expires_in)| text)).await;
        match answer.result {
            Ok(fetched) => Ok(self.app.keep(&credential, fetched)),
            Err(fault) => Err(Answer { result: Err(fault), date: answer.date, usage: answer.usage }),
        }
    }

    /// `debug_token` of `input` (of the app token itself for `None`). A 190 on the call itself means the app token, so another one
    /// is fetched, once.
    async fn debug_token(&self, input: Option<&Token>) -> Answer<Introspection> {
        let first = match self.app_token().await {
            Ok(token) => token,
            Err(answer) => return answer,
        };
        let answer = self.debug_token_as(&first, input).await;
        if !answer.result.as_ref().is_err_and(|fault| fault.code == Some(190)) {
            return answer;
        }
        self.app.forget(&first);
        let second = match self.fetch_app_token(Some(&first)).await {
            Ok(token) => token,
            Err(answer) => return answer,
        };
        let answer = self.debug_token_as(&second, input).await;
        if answer.result.as_ref().is_err_and(|fault| fault.code == Some(190)) {
            self.app.forget(&second);
        }
        answer
    }

    async fn debug_token_as(&self, caller: &AppToken, input: Option<&Token>) -> Answer<Introspection> {
        let app_token = caller.text.expose_secret();
        let input = input.map_or(app_token, Token::expose);
        let call = self.get(Endpoint::DebugToken, &[("input_token", input), ("access_token", app_token)], &[input, app_token]);
        self.call(call, |body| introspection::decode(&body).ok_or("no verdict on the token in the answer")).await
    }

    async fn me_with(&self, token: &Token, fields: &str) -> Answer<Me> {
        let proof = appsecret_proof(&self.app.now().secret, token);
        let proof = proof.expose_secret();
        let query = [("fields", fields), ("access_token", token.expose()), ("appsecret_proof", proof)];
        let call = self.get(Endpoint::Me, &query, &[token.expose(), proof]);
        self.call(call, |body| {
            let read = |name| body.get(name).and_then(text);
            let id = read("id").ok_or("no id in the answer")?;
            Ok(Me { id: Some(id), name: read("name"), client_business_id: read("client_business_id") })
        })
        .await
    }

    /// A call without an effect.
    fn get<'a>(&self, endpoint: Endpoint, query: &[(&str, &str)], secrets: &[&'a str]) -> Call<'a> {
        let deadline = self.transport.deadlines().other;
        Call { endpoint, url: self.base.url(endpoint, query), carrier: Carrier::Pooled, deadline, sent: Sent::new(secrets) }
    }
}

#[async_trait]
impl Provider for GraphClient {
    /// As documented, the app secret and the old token are all that goes along; there is no caller and hence no proof.
    async fn refresh(&self, old: &Token) -> Answer<Refreshed> {
        let credential = self.app.now();
        let secret = credential.secret.expose_secret();
        let query = [
            ("grant_type", "fb_exchange_token"),
            ("client_id", self.app.app_id()),
            ("client_secret", secret),
            ("fb_exchange_token", old.expose()),
            ("set_token_expires_in_60_days", "true"),
        ];
        let call = self.get(Endpoint::Refresh, &query, &[secret, old.expose()]);
        let call = Call { carrier: Carrier::Once, deadline: self.transport.deadlines().refresh, ..call };
        self.call(call, |body| access_token(body).map(|(text, expires_in)| Refreshed { text, expires_in })).await
    }

    async fn introspect(&self, token: &Token) -> Answer<Introspection> {
        self.debug_token(Some(token)).await
    }

    async fn introspect_app(&self) -> Answer<Introspection> {
        self.debug_token(None).await
    }

    /// Asks for `client_business_id` too, which only tokens of Login for Business have; where the field is refused, without it.
    async fn me(&self, token: &Token) -> Answer<Me> {
        let answer = self.me_with(token, "id,name,client_business_id").await;
        let refused = answer.result.as_ref().is_err_and(|fault| fault.code == Some(100) && fault.what.contains(NO_SUCH_FIELD));
        if refused { self.me_with(token, "id,name").await } else { answer }
    }

    async fn revoke(&self, victim: &Token, caller: &Token) -> Answer<bool> {
        let credential = self.app.now();
        let secret = credential.secret.expose_secret();
        let proof = appsecret_proof(&credential.secret, caller);
        let proof = proof.expose_secret();
        let query = [
            ("client_id", self.app.app_id()),
            ("client_secret", secret),
            ("revoke_token", victim.expose()),
            ("access_token", caller.expose()),
            ("appsecret_proof", proof),
        ];
        let call = self.get(Endpoint::Revoke, &query, &[secret, victim.expose(), caller.expose(), proof]);
        let call = Call { carrier: Carrier::Once, ..call };
        self.call(call, |body| Ok(boolean(body.get("success").unwrap_or(&body)) == Some(true))).await
    }
}

/// The fault of a call that brought no answer.
fn unanswered<T>(certainty: Certainty, what: String) -> Answer<T> {
    Answer { result: Err(Fault::new(certainty, FaultClass::Unreachable, what)), date: None, usage: Usage::default() }
}

/// Reads an answer: a success is a 2xx whose body decodes, everything else is classified.
fn read<T>(endpoint: Endpoint, received: &Received, sent: &Sent<'_>, decode: impl FnOnce(Value) -> Result<T, &'static str>) -> Answer<T> {
    let pace = Pace::read(&received.headers);
    let trace = received.headers.get("x-fb-trace-id").and_then(|value| value.to_str().ok());
    let status = received.status;
    let refusal = Refusal { endpoint, status, pace: &pace, trace, sent };
    let result = match &received.body {
        Err(broken) => Err(refusal.of_nonsense(broken)),
        Ok(body) => match serde_json::from_slice::<Value>(body) {
            Err(_syntax) => Err(refusal.of_nonsense("the body is not JSON")),
            Ok(body) => match (GraphError::find(&body), (200..300).contains(&status)) {
                // A token that came is kept, whatever stands beside it: it may be alive, and nobody else would know of it.
                (Some(_), true) if endpoint == Endpoint::Refresh && body.get("access_token").is_some() => {
                    decode(body).map_err(|missing| refusal.of_nonsense(missing))
                }
                (Some(error), _) => Err(refusal.of_graph(&error)),
                (None, true) => decode(body).map_err(|missing| refusal.of_nonsense(missing)),
                (None, false) => Err(refusal.of_nonsense("a body without an error of Graph")),
            },
        },
    };
    Answer { result, date: pace.date, usage: pace.usage }
}

/// `access_token` and `expires_in` (once named `expires`) of a body. An absurd or zero time is none.
fn access_token(mut body: Value) -> Result<(SecretString, Option<i64>), &'static str> {
    let expires_in = ["expires_in", "expires"].iter().find_map(|name| body.get(name).and_then(integer));
    let expires_in = expires_in.filter(|seconds| (1..=EXPIRES_IN_MAX).contains(seconds));
    match body.get_mut("access_token").map(Value::take) {
        Some(Value::String(text)) if !text.is_empty() => Ok((text.into(), expires_in)),
        _ => Err("no access_token in the answer"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

    const HEADERS: [&str; 7] =
        ["date", "retry-after", "x-app-usage", "x-business-use-case-usage", "x-ad-account-usage", "x-fb-trace-id", "www-authenticate"];

    /// Bytes, and JSON with the names that matter in every wrong place.
    fn body() -> impl Strategy<Value = Vec<u8>> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            ".{0,40}".prop_map(Value::from),
            Just(Value::Null),
        ];
        let names = prop::sample::select(vec![
            "error",
            "data",
            "code",
            "error_subcode",
            "message",
            "access_token",
            "expires_in",
            "is_valid",
            "expires_at",
            "scopes",
            "granular_scopes",
            "scope",
            "target_ids",
            "is_transient",
            "type",
            "id",
            "success",
            "fbtrace_id",
        ]);
        let json = leaf.prop_recursive(4, 40, 6, move |inner| {
            let fields = prop::collection::vec((names.clone(), inner.clone()), 0..6);
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(Value::from),
                fields.prop_map(|fields| Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())),
            ]
        });
        prop_oneof![prop::collection::vec(any::<u8>(), 0..200), json.prop_map(|json| json.to_string().into_bytes())]
    }

    proptest! {
        #[test]
        fn no_answer_panics_or_shows_what_was_sent(
            status in any::<u16>(),
            body in body(),
            headers in prop::collection::vec((prop::sample::select(HEADERS.to_vec()), "[ -~]{0,60}"), 0..6),
            secret in "[A-Za-z0-9]{12,40}",
            echo in any::<bool>(),
        ) {
            let body = if echo { format!(r#"{{"error":{{"code":190,"type":"{secret}","message":"a {secret} b","fbtrace_id":"{secret}"}}}}"#).into() } else { body };
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(HeaderName::from_static(name), HeaderValue::from_str(&value).unwrap());
            }
            let received = Received { status, headers: map, body: Ok(body.into()) };
            let sent = Sent::new(&[&secret]);
            let faults = [
                read(Endpoint::Refresh, &received, &sent, access_token).result.err(),
                read(Endpoint::DebugToken, &received, &sent, |body| introspection::decode(&body).ok_or("no")).result.err(),
                read(Endpoint::Revoke, &received, &sent, |body| Ok(boolean(body.get("success").unwrap_or(&body)))).result.err(),
            ];
            for fault in faults.into_iter().flatten() {
                prop_assert!(!format!("{fault:?}").contains(&secret), "{fault:?}");
                prop_assert!(fault.what.len() < 2000 && !fault.what.contains(char::is_control), "{fault:?}");
                prop_assert!(fault.wait.is_none_or(|wait| !wait.is_negative() && wait <= crate::graph::usage::WAIT_MAX));
            }
        }
    }
}
