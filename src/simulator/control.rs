//! The control plane: rules, held calls, the journal and the clock, in-process and under `/_control/`.
//!
//! What the shared server does not know goes to the service ([`Service::control`]). See docs/simulator.md for the endpoints.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::fault::{ActiveRule, Rule, Stage};
use super::journal::Entry;
use super::server::{Shared, json_body, lock};
use super::service::{ControlError, Request, Response, Service};
use super::virtual_clock::VirtualClock;

/// A simulator: a service with its clock, its faults and its journal. Clones are the same simulator.
#[derive(Clone)]
pub struct Simulator {
    pub(super) shared: Arc<Shared>,
}

/// A call that waits to be released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeldCall {
    /// The call's number in the journal.
    pub id: u64,
    /// Its name.
    pub call: String,
    /// Where it stands.
    pub at: Stage,
    /// Since when, by the virtual clock.
    pub since: Timestamp,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReleaseRequest {
    id: Option<u64>,
    #[serde(default)]
    all: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClockRequest {
    advance_ms: Option<i64>,
    set: Option<Timestamp>,
    rate: Option<f64>,
}

impl Simulator {
    /// A simulator that does not listen yet.
    #[must_use]
    pub fn new(service: Arc<dyn Service>, clock: Arc<VirtualClock>) -> Self {
        Self { shared: Arc::new(Shared::new(service, clock)) }
    }

    /// The virtual clock.
    #[must_use]
    pub fn clock(&self) -> &Arc<VirtualClock> {
        &self.shared.clock
    }

    /// Puts a rule in force; the id removes it.
    pub fn add_rule(&self, rule: Rule) -> u64 {
        lock(&self.shared.rules).add(rule)
    }

    /// Ends a rule; false when there is none of that id. Calls that it holds stay held.
    #[must_use]
    pub fn remove_rule(&self, id: u64) -> bool {
        lock(&self.shared.rules).remove(id)
    }

    /// Ends all rules. Calls that they hold stay held.
    pub fn clear_rules(&self) {
        lock(&self.shared.rules).clear();
    }

    /// The rules in force, with their counts.
    #[must_use]
    pub fn rules(&self) -> Vec<ActiveRule> {
        lock(&self.shared.rules).list()
    }

    /// The calls that wait to be released.
    #[must_use]
    pub fn held(&self) -> Vec<HeldCall> {
        lock(&self.shared.held).iter().map(|(held, _)| held.clone()).collect()
    }

    /// Lets a held call go on; false when none of that id is held.
    #[must_use]
    pub fn release(&self, id: u64) -> bool {
        let mut held = lock(&self.shared.held);
        let Some(at) = held.iter().position(|(call, _)| call.id == id) else { return false };
        held.swap_remove(at).1.send(()).is_ok()
    }

    /// Lets all held calls go on, and says how many.
    pub fn release_all(&self) -> usize {
        let held = std::mem::take(&mut *lock(&self.shared.held));
        held.into_iter().filter_map(|(_, release)| release.send(()).ok()).count()
    }

    /// The calls after number `since`, oldest first.
    #[must_use]
    pub fn journal(&self, since: u64) -> Vec<Entry> {
        lock(&self.shared.journal).after(since)
    }

    /// Waits until `find` finds something in the simulator, looking again at each change of journal and held calls; none when that
    /// took longer than `limit` of the host's time.
    pub async fn wait<T>(&self, limit: Duration, find: impl Fn(&Self) -> Option<T>) -> Option<T> {
        let mut changes = self.shared.changes.subscribe();
        let search = async {
            loop {
                changes.mark_unchanged();
                if let Some(found) = find(self) {
                    return Some(found);
                }
                changes.changed().await.ok()?;
            }
        };
        tokio::time::timeout(limit, search).await.ok().flatten()
    }

    /// Waits until a call of that name (`*`: any) is held.
    pub async fn wait_held(&self, call: &str, limit: Duration) -> Option<HeldCall> {
        self.wait(limit, |simulator| simulator.held().into_iter().find(|held| call == "*" || held.call == call)).await
    }

    /// Answers a request under `/_control/`.
    pub(super) async fn serve_control(&self, path: &str, request: &Request) -> Response {
        let answer = match json_body(request) {
            Ok(body) => self.control(path, request, body).await,
            Err(error) => Err(ControlError::Invalid(format!("the body is not JSON: {error}"))),
        };
        match answer {
            Ok(body) => Response::json(200, &body),
            Err(error @ ControlError::NotFound) => Response::json(404, &json!({ "error": error.to_string() })),
            Err(error @ ControlError::Invalid(_)) => Response::json(400, &json!({ "error": error.to_string() })),
        }
    }

    async fn control(&self, path: &str, request: &Request, body: Value) -> Result<Value, ControlError> {
        match (request.method.as_str(), path) {
            ("POST", "rules") => {
                let rules: Vec<Rule> = if body.is_array() { parsed(body)? } else { vec![parsed(body)?] };
                let ids: Vec<u64> = rules.into_iter().map(|rule| self.add_rule(rule)).collect();
                Ok(json!({ "ids": ids }))
            }
            ("GET", "rules") => Ok(json!({ "rules": self.rules() })),
            ("DELETE", "rules") => {
                self.clear_rules();
                Ok(json!({}))
            }
            ("DELETE", path) if path.starts_with("rules/") => {
                let id = path.trim_start_matches("rules/").parse().map_err(|_| ControlError::NotFound)?;
                if self.remove_rule(id) { Ok(json!({})) } else { Err(ControlError::NotFound) }
            }
            ("GET", "held") => {
                let wait = Duration::from_millis(number(request, "wait_ms")?);
                if !wait.is_zero() {
                    self.wait_held(request.query("call").unwrap_or("*"), wait).await;
                }
                Ok(json!({ "held": self.held() }))
            }
            ("POST", "release") => {
                let asked: ReleaseRequest = parsed(body)?;
                let released = match asked {
                    ReleaseRequest { all: true, .. } => self.release_all(),
                    ReleaseRequest { id: Some(id), .. } => usize::from(self.release(id)),
                    ReleaseRequest { id: None, all: false } => return Err(ControlError::Invalid("say `id` or `all`".into())),
                };
                Ok(json!({ "released": released }))
            }
            ("GET", "journal") => Ok(json!({ "calls": self.journal(number(request, "since")?) })),
            ("GET", "clock") => Ok(self.clock_shown()),
            ("POST", "clock") => {
                let asked: ClockRequest = parsed(body)?;
                // The rate first, so that a clock that is frozen and set shows exactly what it was set to.
                if let Some(rate) = asked.rate {
                    self.clock().set_rate(rate);
                }
                if let Some(to) = asked.set {
                    self.clock().set(to);
                }
                if let Some(ms) = asked.advance_ms {
                    self.clock().advance(SignedDuration::from_millis(ms));
                }
                Ok(self.clock_shown())
            }
            (_, path) => self.shared.service.control(&request.method, path, &body, self.clock().now()),
        }
    }

    fn clock_shown(&self) -> Value {
        json!({ "now": self.clock().now(), "rate": self.clock().rate() })
    }

    /// The service's own control endpoints, in-process.
    ///
    /// # Errors
    /// As [`Service::control`].
    pub fn service_control(&self, method: &Method, path: &str, body: &Value) -> Result<Value, ControlError> {
        self.shared.service.control(method, path, body, self.clock().now())
    }
}

/// Reads a control body into what it should be.
///
/// # Errors
/// [`ControlError::Invalid`] with what is wrong.
pub fn parsed<T: serde::de::DeserializeOwned>(body: Value) -> Result<T, ControlError> {
    serde_json::from_value(body).map_err(|error| ControlError::Invalid(error.to_string()))
}

fn number(request: &Request, name: &str) -> Result<u64, ControlError> {
    request.query(name).map_or(Ok(0), str::parse).map_err(|_| ControlError::Invalid(format!("`{name}` is a whole number")))
}
