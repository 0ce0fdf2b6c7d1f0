//! Paths and their answers. The same ones are served on the control socket.

use std::sync::Arc;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{HeaderMap, Method, Response, StatusCode};
use tokio::sync::Semaphore;

use super::{Check, Snapshot, is_live, page, readiness};
use crate::telemetry::metrics::Exposition;

/// Nothing is loaded, nothing runs, nothing is sent anywhere; the page's own style is in the page.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Large answers that are made at the same time: with ten thousand tokens each takes tens of megabytes.
const RENDERING_MAX: usize = 2;
const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";

/// A snapshot, and how many large answers may be made of it at one time.
#[derive(Clone)]
pub struct Shown {
    snapshot: Arc<dyn Snapshot>,
    rendering: Arc<Semaphore>,
}

impl Shown {
    /// Shows a snapshot.
    #[must_use]
    pub fn new(snapshot: Arc<dyn Snapshot>) -> Self {
        Self { snapshot, rendering: Arc::new(Semaphore::new(RENDERING_MAX)) }
    }
}

/// Which answer a path has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Live,
    Ready { verbose: bool },
    Metrics(Exposition),
    Status,
    Page,
}

impl Route {
    fn of(path: &str, query: Option<&str>, headers: &HeaderMap) -> Option<Self> {
        Some(match path {
            "/livez" | "/healthz" => Self::Live,
            "/readyz" => {
                let verbose = |pair: &str| pair == "verbose" || pair.starts_with("verbose=");
                Self::Ready { verbose: query.is_some_and(|query| query.split('&').any(verbose)) }
            }
            "/metrics" => Self::Metrics(Exposition::accepted(headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()))),
            "/v1/status" => Self::Status,
            "/" => Self::Page,
            _ => return None,
        })
    }
}

/// Answers a request. Its body, if it has one, is never read.
pub async fn respond(shown: &Shown, method: &Method, path: &str, query: Option<&str>, headers: &HeaderMap) -> Response<Full<Bytes>> {
    let Some(route) = Route::of(path, query, headers) else {
        return plain(StatusCode::NOT_FOUND, "not found. There are /livez /readyz /metrics /v1/status and /\n");
    };
    if method != Method::GET && method != Method::HEAD {
        return method_not_allowed("GET, HEAD");
    }
    if route == Route::Live {
        return live(shown.snapshot.as_ref());
    }
    // The rest grows with the number of tokens, so it is made beside the loop and not on it.
    let Ok(permit) = shown.rendering.clone().acquire_owned().await else { return busy() };
    let snapshot = shown.snapshot.clone();
    let made = tokio::task::spawn_blocking(move || {
        let _held = permit;
        answer(route, snapshot.as_ref())
    });
    made.await.unwrap_or_else(|_panicked| busy())
}

fn answer(route: Route, snapshot: &dyn Snapshot) -> Response<Full<Bytes>> {
    match route {
        Route::Live => live(snapshot),
        Route::Ready { verbose } => {
            let checks = readiness(&snapshot.daemon(), &snapshot.statuses());
            let ready = checks.iter().all(|check| check.holds);
            let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            plain(status, if verbose { verbosely(&checks, ready) } else { verdict(ready).to_owned() })
        }
        Route::Metrics(format) => match snapshot.metrics(format) {
            Ok(text) => reply(StatusCode::OK, format.content_type(), text),
            Err(_never) => busy(),
        },
        Route::Status => json(StatusCode::OK, &snapshot.document()),
        Route::Page => reply(StatusCode::OK, HTML, page::render(&snapshot.document(), &snapshot.daemon())),
    }
}

fn live(snapshot: &dyn Snapshot) -> Response<Full<Bytes>> {
    let facts = snapshot.daemon();
    if is_live(&facts) {
        return plain(StatusCode::OK, "ok\n");
    }
    plain(StatusCode::SERVICE_UNAVAILABLE, format!("the loop has not turned for {} s\n", facts.loop_age.as_secs()))
}

/// In the shape that Kubernetes' own components use.
fn verbosely(checks: &[Check], ready: bool) -> String {
    let line = |check: &Check| format!("[{}]{} {}: {}\n", sign(check.holds), check.name, word(check.holds), one_line(&check.detail));
    let mut text: String = checks.iter().map(line).collect();
    text.push_str(verdict(ready));
    text
}

const fn sign(holds: bool) -> char {
    if holds { '+' } else { '-' }
}

const fn word(holds: bool) -> &'static str {
    if holds { "ok" } else { "not ok" }
}

const fn verdict(ready: bool) -> &'static str {
    if ready { "ready\n" } else { "not ready; /readyz?verbose says why\n" }
}

/// Details may quote what others wrote; one check stays one line.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

fn busy() -> Response<Full<Bytes>> {
    plain(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be made; the log says why\n")
}

/// An answer of JSON.
pub(crate) fn json(status: StatusCode, value: &impl serde::Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec(value) {
        Ok(bytes) => reply(status, JSON, bytes),
        Err(_never) => busy(),
    }
}

/// An answer of text.
pub(crate) fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    reply(status, TEXT, text)
}

/// The answer to a method that a path does not have.
pub(crate) fn method_not_allowed(allowed: &'static str) -> Response<Full<Bytes>> {
    let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, format!("only {allowed} here\n"));
    refused.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    refused
}

fn reply(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}
