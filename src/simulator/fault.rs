//! Scripted faults of the transport, and the rules that say which calls they hit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What goes wrong with a call. All faults whose rules match a call apply, in the order of the rules.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// The call stops there until it is released through the control plane.
    Hold {
        /// Where.
        at: Stage,
    },
    /// The call goes on after a while of the host's time.
    Delay {
        /// Where.
        at: Stage,
        /// Milliseconds.
        ms: u64,
    },
    /// The connection is closed without an answer. At `received` nothing happened; at `answered` the effect stands and the answer is
    /// lost; at `body` the headers and half of the body arrive.
    Drop {
        /// Where.
        at: Stage,
    },
    /// A scripted answer: at `received` instead of the effect, at `answered` in the place of the true answer, after the effect.
    Reply {
        /// Where; `received` unless said.
        #[serde(default)]
        at: ReplyAt,
        /// The status.
        status: u16,
        /// The headers.
        #[serde(default)]
        headers: BTreeMap<String, String>,
        /// The body, as text.
        #[serde(default)]
        body: String,
        /// The body, as bytes; wins over `body`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        body_bytes: Option<Vec<u8>>,
    },
    /// A redirect instead of the effect. A client must not follow it: the URL carries secrets.
    Redirect {
        /// Where to.
        location: String,
        /// 302 unless said.
        #[serde(default = "found")]
        status: u16,
    },
    /// Headers of the true answer are replaced, or removed where the value is null.
    Headers {
        /// By name.
        set: BTreeMap<String, Option<String>>,
    },
    /// The call is performed even if its client goes away while it is held or delayed: a service that got the request late, or whose
    /// front end gave up first. Together with `hold` at `received` the effect comes when the call is released.
    Outlive,
    /// The connection ends in a reset. With `drop` or `truncate` the client sees that instead of an orderly close.
    Reset,
    /// The headers promise the whole body, that many bytes of it come, then the connection ends.
    Truncate {
        /// How many.
        bytes: usize,
    },
    /// The body comes in small pieces.
    Slow {
        /// Bytes in a piece.
        bytes: usize,
        /// Milliseconds of the host's time before each piece.
        every_ms: u64,
    },
    /// The true body is followed by blanks, chunked, for ever or up to a number of bytes.
    Endless {
        /// How many; for ever unless said.
        #[serde(default)]
        bytes: Option<u64>,
    },
}

impl Fault {
    /// A scripted JSON answer instead of the effect.
    #[must_use]
    pub fn reply(status: u16, body: &serde_json::Value) -> Self {
        Self::page(status, "application/json; charset=UTF-8", &body.to_string())
    }

    /// Any scripted answer instead of the effect: a proxy's page, "Service Unavailable" with status 200, nothing at all.
    #[must_use]
    pub fn page(status: u16, content_type: &str, body: &str) -> Self {
        let headers = BTreeMap::from([("content-type".to_owned(), content_type.to_owned())]);
        Self::Reply { at: ReplyAt::Received, status, headers, body: body.to_owned(), body_bytes: None }
    }

    /// Its name in rules and journal.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Hold { .. } => "hold",
            Self::Delay { .. } => "delay",
            Self::Drop { .. } => "drop",
            Self::Reply { .. } => "reply",
            Self::Redirect { .. } => "redirect",
            Self::Headers { .. } => "headers",
            Self::Outlive => "outlive",
            Self::Reset => "reset",
            Self::Truncate { .. } => "truncate",
            Self::Slow { .. } => "slow",
            Self::Endless { .. } => "endless",
        }
    }
}

fn found() -> u16 {
    302
}

/// A point in the life of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The request is read, nothing has happened.
    Received,
    /// The effect is done, nothing of the answer is sent.
    Answered,
    /// The headers and half of the body are sent.
    Body,
}

/// Where a scripted answer takes the place of the true one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplyAt {
    /// Instead of the effect.
    #[default]
    Received,
    /// After the effect.
    Answered,
}

/// Which calls a fault hits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The name of the call, or `*`.
    pub call: String,
    /// Only calls with such a parameter.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
    /// How many matching calls go free first.
    #[serde(default)]
    pub skip: u32,
    /// How many calls are hit after that: once unless said, null for ever.
    #[serde(default = "once")]
    pub times: Option<u32>,
    /// What happens to them.
    pub fault: Fault,
}

#[expect(clippy::unnecessary_wraps, reason = "the default of a field that may be null")]
fn once() -> Option<u32> {
    Some(1)
}

impl Rule {
    /// The next call of that name is hit.
    #[must_use]
    pub fn once(call: &str, fault: Fault) -> Self {
        Self { call: call.to_owned(), condition: None, skip: 0, times: Some(1), fault }
    }

    /// Every call of that name is hit.
    #[must_use]
    pub fn always(call: &str, fault: Fault) -> Self {
        Self { times: None, ..Self::once(call, fault) }
    }

    /// Hit that many.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self { times: Some(times), ..self }
    }

    /// Let that many go free first.
    #[must_use]
    pub fn after(self, skip: u32) -> Self {
        Self { skip, ..self }
    }

    /// Only calls whose parameter has that value.
    #[must_use]
    pub fn when(self, param: &str, equals: &str) -> Self {
        Self { condition: Some(Condition { param: param.to_owned(), test: Test::Equals(equals.to_owned()) }), ..self }
    }
}

/// A condition on a parameter of the call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// The parameter.
    pub param: String,
    /// What must hold of it.
    #[serde(flatten)]
    pub test: Test,
}

/// What must hold of a parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// It has that value.
    Equals(String),
    /// It holds that text.
    Contains(String),
    /// The first 16 hex digits of the value's SHA-256 are these, so that a rule need not name a token.
    Fingerprint(String),
}

impl Test {
    fn holds(&self, value: &str) -> bool {
        match self {
            Self::Equals(expected) => value == expected,
            Self::Contains(part) => value.contains(part),
            Self::Fingerprint(expected) => fingerprint(value) == *expected,
        }
    }
}

/// The first 16 hex digits of a text's SHA-256: how simulators name a token.
#[must_use]
pub fn fingerprint(text: &str) -> String {
    Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// A rule in force.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ActiveRule {
    /// Its number, by which it can be removed.
    pub id: u64,
    /// The rule.
    #[serde(flatten)]
    pub rule: Rule,
    /// How many calls matched.
    pub matched: u32,
    /// How many were hit.
    pub applied: u32,
}

/// The rules in force.
#[derive(Debug, Default)]
pub(super) struct Rules {
    last_id: u64,
    active: Vec<ActiveRule>,
}

impl Rules {
    pub(super) fn add(&mut self, rule: Rule) -> u64 {
        self.last_id += 1;
        self.active.push(ActiveRule { id: self.last_id, rule, matched: 0, applied: 0 });
        self.last_id
    }

    pub(super) fn remove(&mut self, id: u64) -> bool {
        let before = self.active.len();
        self.active.retain(|active| active.id != id);
        self.active.len() < before
    }

    pub(super) fn clear(&mut self) {
        self.active.clear();
    }

    pub(super) fn list(&self) -> Vec<ActiveRule> {
        self.active.clone()
    }

    /// The faults that hit this call, each with its rule's id; counts them.
    pub(super) fn strike(&mut self, call: &str, parameter: impl Fn(&str) -> Option<String>) -> Vec<(u64, Fault)> {
        let mut faults = Vec::new();
        for active in &mut self.active {
            let rule = &active.rule;
            let named = rule.call == "*" || rule.call == call;
            if !named || !rule.condition.as_ref().is_none_or(|c| parameter(&c.param).is_some_and(|value| c.test.holds(&value))) {
                continue;
            }
            active.matched += 1;
            if active.matched > rule.skip && rule.times.is_none_or(|times| active.applied < times) {
                active.applied += 1;
                faults.push((active.id, rule.fault.clone()));
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_count_and_match() {
        let mut rules = Rules::default();
        rules.add(Rule::once("refresh", Fault::Drop { at: Stage::Received }).after(1).times(2));
        let by_user = Rule::always("*", Fault::Hold { at: Stage::Body }).when("user", "7");
        let id = rules.add(by_user);
        let user = |wanted: &str| (wanted == "user").then(|| "7".to_owned());
        assert_eq!(rules.strike("refresh", |_| None).len(), 0);
        assert_eq!(rules.strike("me", |_| None).len(), 0);
        assert_eq!(rules.strike("refresh", |_| None).len(), 1);
        assert_eq!(rules.strike("refresh", user).len(), 2);
        assert_eq!(rules.strike("refresh", user).len(), 1);
        assert!(rules.remove(id));
        assert!(!rules.remove(id));
        assert_eq!(rules.strike("refresh", user).len(), 0);
        assert_eq!(rules.list()[0].matched, 5);
    }

    #[test]
    fn a_rule_reads_as_documented() {
        let text =
            r#"{"call":"refresh","where":{"param":"client_id","contains":"9"},"times":null,"fault":{"kind":"hold","at":"answered"}}"#;
        let rule: Rule = serde_json::from_str(text).unwrap();
        assert_eq!(rule.times, None);
        assert_eq!(rule.condition.unwrap().test, Test::Contains("9".into()));
        let rule: Rule = serde_json::from_str(r#"{"call":"me","fault":{"kind":"reply","status":503}}"#).unwrap();
        assert_eq!(rule.times, Some(1));
        assert!(serde_json::from_str::<Rule>(r#"{"call":"me","fault":{"kind":"reply","status":503,"boddy":""}}"#).is_err());
    }
}
