//! The fleet's revocation breaker: one wrong assumption about the provider must cost one token, not all of them.
//!
//! After a start one revoke is let through and has to be proven before five more are, then a tenth of the fleet an hour. It opens
//! by itself when a current token is found dead after a revoke, or when verifications are rejected in a row across the fleet; only a
//! person closes it. It forbids, it never permits.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::evidence::BreakerEvidence;
use super::schedule::scaled;
use super::time::Boot;

/// Revokes that must be proven one after the other, and then together, before the hourly allowance.
const CANARY: usize = 1;
const SECOND_STEP: usize = 5;
/// Rejected verifications that open it, if they are also more than [`REJECTED_SHARE`] of the fleet.
const REJECTED_MIN: usize = 3;
const REJECTED_SHARE: usize = 50;
const HOUR: SignedDuration = SignedDuration::from_hours(1);
const REMEMBERED: SignedDuration = SignedDuration::from_hours(24);

/// The breaker of one process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Breaker {
    veto: Option<Veto>,
    /// Revokes made, the latest last.
    spent: Vec<Boot>,
    proven: usize,
    rejected: Vec<Boot>,
}

/// Why it is open. Kept in the state directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Veto {
    /// Since when.
    pub at: Timestamp,
    /// Why, one line.
    pub why: String,
}

impl Breaker {
    /// As after a start, with the veto that an earlier process left.
    #[must_use]
    pub fn new(veto: Option<Veto>) -> Self {
        Self { veto, ..Self::default() }
    }

    /// Why it is open.
    #[must_use]
    pub const fn veto(&self) -> Option<&Veto> {
        self.veto.as_ref()
    }

    /// Opens it. The first reason stands.
    pub fn open(&mut self, at: Timestamp, why: impl Into<String>) {
        self.veto.get_or_insert_with(|| Veto { at, why: why.into() });
    }

    /// A person closes it: it starts again with the canary.
    pub fn close(&mut self) {
        *self = Self::default();
    }

    /// A revoke is made now.
    pub fn spend(&mut self, now: Boot) {
        self.spent.push(now);
        let kept = self.spent.len().saturating_sub(10_000);
        self.spent.drain(..kept);
    }

    /// A revoke was proven, and the current token lives.
    pub const fn prove(&mut self) {
        self.proven += 1;
    }

    /// A new token failed verification. Returns whether that opened it.
    pub fn reject(&mut self, now: Boot, at: Timestamp, fleet: usize) -> bool {
        self.rejected.retain(|seen| now.since(*seen) < REMEMBERED);
        self.rejected.push(now);
        let many = self.rejected.len();
        if many < REJECTED_MIN || many * REJECTED_SHARE <= fleet || self.veto.is_some() {
            return false;
        }
        self.open(at, format!("{many} new tokens of {fleet} failed verification within a day"));
        true
    }

    /// What it says to a token of this life.
    #[must_use]
    pub fn evidence(&self, fleet: usize, life: SignedDuration) -> BreakerEvidence {
        let open = self.veto.as_ref().map(|veto| format!("{} (since {})", veto.why, veto.at));
        BreakerEvidence { open, not_before: self.not_before(fleet, life) }
    }

    fn not_before(&self, fleet: usize, life: SignedDuration) -> Boot {
        let hour = scaled(HOUR, life);
        let allowed = match self.proven {
            0 => CANARY,
            1..=SECOND_STEP => CANARY + SECOND_STEP,
            _ => return self.spent_before(SECOND_STEP.max(fleet / 10)).map_or(Boot::ZERO, |at| at.plus(hour)),
        };
        // A canary that is never proven must not hold the fleet for ever: after an hour the next one may try.
        if self.spent.len() < allowed { Boot::ZERO } else { self.spent.last().map_or(Boot::ZERO, |at| at.plus(hour)) }
    }

    /// The `count`-th latest revoke.
    fn spent_before(&self, count: usize) -> Option<Boot> {
        self.spent.len().checked_sub(count).and_then(|place| self.spent.get(place)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rotation::testing::NOW;

    const LIFE: SignedDuration = SignedDuration::from_hours(60 * 24);

    fn second(second: i64) -> Boot {
        Boot::from_nanos(i128::from(second) * 1_000_000_000)
    }

    #[test]
    fn one_then_five_then_a_tenth_an_hour() {
        let mut breaker = Breaker::default();
        let free = |breaker: &Breaker| breaker.evidence(100, LIFE).not_before;
        assert_eq!(free(&breaker), Boot::ZERO);
        breaker.spend(second(10));
        assert_eq!(free(&breaker), second(3_610), "the canary is not proven yet");
        breaker.prove();
        for round in 0..5 {
            assert_eq!(free(&breaker), Boot::ZERO, "{round}");
            breaker.spend(second(20 + round));
        }
        assert_eq!(free(&breaker), second(3_624));
        (0..5).for_each(|_| breaker.prove());
        for round in 0..4 {
            assert_eq!(free(&breaker), Boot::ZERO, "{round}");
            breaker.spend(second(30 + round));
        }
        assert_eq!(free(&breaker), second(3_610), "ten of a hundred within an hour of the first");
    }

    #[test]
    fn it_opens_on_many_rejections_and_only_a_person_closes_it() {
        let mut breaker = Breaker::default();
        assert!(!breaker.reject(second(1), NOW, 10));
        assert!(!breaker.reject(second(2), NOW, 10));
        assert!(breaker.reject(second(3), NOW, 10));
        assert!(!breaker.reject(second(4), NOW, 10), "opened once");
        assert!(breaker.evidence(10, LIFE).open.is_some());
        breaker.close();
        assert_eq!(breaker, Breaker::default());
        let mut large = Breaker::default();
        (0..20).for_each(|round| assert!(!large.reject(second(round), NOW, 1_000), "2 % of a thousand is twenty"));
        assert!(large.reject(second(21), NOW, 1_000));
    }
}
