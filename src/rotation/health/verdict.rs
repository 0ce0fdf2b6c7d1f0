//! What a status comes to: how bad a token is, which one to look at first, and the document of all of them.
//!
//! The verdict is computed when it is asked for and not when the status was made: a token that ends between two passes is expired
//! for whoever looks, whatever its last pass said.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Condition, TokenStatus};
use crate::rotation::evidence::Evidence;
use crate::rotation::plan::Severity;
use crate::rotation::token::{Expiry, Fingerprint};

/// The format of [`StatusDocument`]; a reader refuses a higher one.
pub const STATUS_SCHEMA: u32 = 1;

/// What `status -o json` and `/v1/status` show. A field may be added without a new `schema_version`; none changes its meaning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusDocument {
    /// Format, [`STATUS_SCHEMA`].
    pub schema_version: u32,
    /// When it was made, by the host's clock.
    pub generated_at: Timestamp,
    /// Whether there is nothing that a person must look at.
    pub healthy: bool,
    /// The fleet's breaker.
    pub breaker: BreakerStatus,
    /// What a person must know of the daemon itself: the state directory, the ledger, the control socket.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// The tokens, the worst first.
    pub tokens: Vec<TokenStatus>,
}

/// Whether anything may be revoked at all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakerStatus {
    /// Whether every revoke is forbidden until `evertoken breaker close`.
    pub open: bool,
    /// What opened it.
    pub why: Option<String>,
}

impl StatusDocument {
    /// The document of these tokens at this time.
    #[must_use]
    pub fn new(mut tokens: Vec<TokenStatus>, breaker: BreakerStatus, now: Timestamp) -> Self {
        worst_first(&mut tokens, now);
        let mut document =
            Self { schema_version: STATUS_SCHEMA, generated_at: now, healthy: false, breaker, conditions: Vec::new(), tokens };
        document.healthy = document.severity(now) == Severity::Calm;
        document
    }

    /// The same with what is the case with the daemon itself.
    #[must_use]
    pub fn with_conditions(mut self, conditions: Vec<Condition>) -> Self {
        self.conditions = conditions;
        self.healthy = self.severity(self.generated_at) == Severity::Calm;
        self
    }

    /// How bad it is: the worst severity of a token or of the daemon itself; an open breaker alone calls for attention.
    #[must_use]
    pub fn severity(&self, now: Timestamp) -> Severity {
        let breaker = if self.breaker.open { Severity::Attention } else { Severity::Calm };
        let fleet = self.conditions.iter().map(Condition::severity).fold(breaker, Severity::max);
        self.tokens.iter().map(|token| token.severity(now)).fold(fleet, Severity::max)
    }
}

impl TokenStatus {
    /// How bad it is now: critical when the current token is dead, has ended, or a person must act at once; attention when one
    /// should look; calm otherwise.
    #[must_use]
    pub fn severity(&self, now: Timestamp) -> Severity {
        if self.ended(now) {
            return Severity::Critical;
        }
        self.conditions.iter().map(Condition::severity).max().unwrap_or(Severity::Calm)
    }

    /// Whether there is nothing that a person must look at.
    #[must_use]
    pub fn healthy(&self, now: Timestamp) -> bool {
        self.severity(now) == Severity::Calm
    }

    /// What is left of the current token's life, zero when it has ended; `None` when it never ends, or that is not known.
    #[must_use]
    pub fn time_left(&self, now: Timestamp) -> Option<SignedDuration> {
        let end = self.current.as_ref()?.expires_at?;
        Some(end.duration_since(now).max(SignedDuration::ZERO))
    }

    /// Whether the current token's end is past.
    #[must_use]
    pub fn ended(&self, now: Timestamp) -> bool {
        self.time_left(now) == Some(SignedDuration::ZERO)
    }
}

impl Condition {
    /// A condition that is the case: what is so, and what a person may do about it.
    #[must_use]
    pub fn of(kind: &str, reason: &str, text: &str, remedy: Option<&str>, severity: Severity) -> Self {
        let message = remedy.map_or_else(|| text.to_owned(), |remedy| format!("{text}. To do: {remedy}"));
        let severity = match severity {
            Severity::Calm => "calm",
            Severity::Attention => "attention",
            Severity::Critical => "critical",
        };
        Self { kind: kind.to_owned(), status: "True".to_owned(), reason: reason.to_owned(), message, severity: severity.to_owned() }
    }

    /// How bad it is. A word that this binary does not know comes from a newer one, and is worth a look.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self.severity.as_str() {
            "calm" => Severity::Calm,
            "critical" => Severity::Critical,
            _ => Severity::Attention,
        }
    }
}

impl Severity {
    /// The exit code of `status` and of whatever probes with it: 0 fine, 3 attention, 4 critical.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Calm => 0,
            Self::Attention => 3,
            Self::Critical => 4,
        }
    }
}

/// Orders tokens for people: critical ones, then those that call for attention, then by what is left of their lives; a token without
/// an end comes last, and names decide between equals, so that a table does not jump.
pub fn worst_first(tokens: &mut [TokenStatus], now: Timestamp) {
    tokens.sort_by_cached_key(|token| {
        (Reverse(token.severity(now)), token.time_left(now).unwrap_or(SignedDuration::MAX), token.name.clone())
    });
}

/// How many tokens are alive at the provider as far as is known: the current one, one on its way in, those on their way out, and those
/// that may have been minted unseen. One at rest, two in a rotation; more only with surplus, quarantined or unaccounted tokens.
#[must_use]
pub fn versions_live(evidence: &Evidence) -> u64 {
    let now = evidence.clock.provider_now();
    let lives = |end: Option<Expiry>| end.and_then(Expiry::at).is_none_or(|end| end > now);
    let mut alive: BTreeSet<Fingerprint> = BTreeSet::new();
    let store = evidence.store.value();
    alive.extend(store.and_then(|store| store.current.as_ref()).and_then(|(_, content)| content.token()));
    alive.extend(evidence.captured.as_ref().and_then(|captured| captured.token.as_ref().ok().copied()));
    let staged = store.into_iter().flat_map(|store| &store.staged).filter_map(|slot| evidence.slots.get(slot)?.value()?.as_ref()?.token());
    alive.extend(staged);
    let record = evidence.record();
    if let Some(rotation) = record.and_then(|record| record.rotation.as_ref()).filter(|rotation| lives(Some(rotation.base.expires))) {
        alive.insert(rotation.base.fingerprint);
    }
    let retirees = record.into_iter().flat_map(|record| &record.retirees);
    alive.extend(retirees.filter(|retiree| lives(retiree.expires)).map(|retiree| retiree.fingerprint));
    alive.retain(|token| {
        let look = evidence.look(*token).map(|seen| &seen.value.introspection);
        look.is_none_or(|look| look.valid && lives(look.expires))
    });
    let lost = record.map_or(0, |record| record.unaccounted.iter().filter(|row| row.bound > now).count());
    u64::try_from(alive.len() + lost).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rotation::evidence::{Channel, Content, Looked, StoreEvidence};
    use crate::rotation::plan::{Reason, Step};
    use crate::rotation::record::Unaccounted;
    use crate::rotation::testing::{NOW, known, look, policy, record};
    use crate::rotation::time::{Boot, Clock, later};

    fn evidence() -> Evidence {
        let mut evidence = Evidence::new(Clock { wall: NOW, boot: Boot::ZERO, provider: None }, "me".into(), &[], Vec::new());
        let current = known("old");
        let content = Content::Token { token: current.fingerprint, payload: current.fingerprint };
        let store = StoreEvidence { current: Some((current.slot, content)), record: Some(Ok(record())), ..StoreEvidence::default() };
        evidence.store.answered(store, Boot::ZERO);
        evidence
    }

    fn status(name: &str, severity: &str, left: Option<SignedDuration>) -> TokenStatus {
        let wait = Step::Wait { until: Boot::ZERO, why: Reason::calm("resting", "rests") };
        let mut status = super::super::status(&evidence(), &policy(), &wait);
        status.name = name.to_owned();
        status.conditions.first_mut().unwrap().severity = severity.to_owned();
        status.current.as_mut().unwrap().expires_at = left.map(|left| later(NOW, left));
        status
    }

    const HOUR: SignedDuration = SignedDuration::from_hours(1);

    #[test]
    fn the_worst_comes_first_then_the_shortest_life() {
        let mut tokens = [
            status("never", "calm", None),
            status("long", "calm", Some(HOUR * 9)),
            status("short-b", "calm", Some(HOUR)),
            status("short-a", "calm", Some(HOUR)),
            status("held", "attention", Some(HOUR * 90)),
            status("dead", "critical", Some(HOUR * 900)),
            status("over", "calm", Some(-HOUR)),
        ];
        worst_first(&mut tokens, NOW);
        let names: Vec<&str> = tokens.iter().map(|token| token.name.as_str()).collect();
        assert_eq!(names, ["over", "dead", "held", "short-a", "short-b", "long", "never"]);
    }

    #[test]
    fn a_verdict_is_made_when_it_is_asked_for() {
        let token = status("bot", "calm", Some(HOUR));
        assert!(token.healthy(NOW));
        assert_eq!(token.severity(later(NOW, HOUR)).exit_code(), 4);
        assert_eq!(token.time_left(later(NOW, HOUR * 2)), Some(SignedDuration::ZERO));
    }

    #[test]
    fn a_document_is_as_healthy_as_its_worst_part() {
        let breaker = |open| BreakerStatus { open, why: None };
        let fine = StatusDocument::new(vec![status("bot", "calm", Some(HOUR))], breaker(false), NOW);
        assert!(fine.healthy && fine.severity(NOW).exit_code() == 0);
        let open = StatusDocument::new(fine.tokens.clone(), breaker(true), NOW);
        assert!(!open.healthy && open.severity(NOW).exit_code() == 3);
        let newer = StatusDocument::new(vec![status("bot", "word of a newer one", None)], breaker(false), NOW);
        assert_eq!(newer.severity(NOW), Severity::Attention);
        let text = serde_json::to_string(&open).unwrap();
        assert_eq!(serde_json::from_str::<StatusDocument>(&text).unwrap(), open);
    }

    #[test]
    fn living_versions_are_counted_once_each_and_dead_ones_not() {
        let mut seen = evidence();
        assert_eq!(versions_live(&seen), 1);
        let Some(Ok(record)) = seen.store.seen.as_mut().and_then(|store| store.value.record.as_mut()) else { panic!() };
        let row = |bound| Unaccounted { rotation: "r".into(), attempt: 1, since: NOW, bound, why: String::new() };
        record.unaccounted = vec![row(later(NOW, HOUR)), row(NOW)];
        assert_eq!(versions_live(&seen), 2, "a lost token whose bound is past has ended");
        let mut dead = Channel::default();
        let introspection = crate::rotation::token::Introspection { valid: false, ..look() };
        dead.answered(Looked { introspection, date: None }, Boot::ZERO);
        seen.looks.insert(known("old").fingerprint, dead);
        assert_eq!(versions_live(&seen), 1);
    }
}
