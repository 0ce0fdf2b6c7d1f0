//! When: the refresh point, back-offs, and how every duration fits a token's life.
//!
//! Nothing here throws dice. Spread is a hash of the token's name and of what is being spread, so asking twice, restarting, or
//! asking on another replica gives the same answer, and a poll cannot drift to the early edge.

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::policy::Policy;
use super::time::{later, times};

/// Fixed durations shrink to this share of a life that is too short for them: a token that lives 20 seconds rotates by the same
/// rules as one of 60 days.
pub const LIFE_SHARE: i32 = 32;

/// The life that Meta gives an expiring system user token; used where a token's own life cannot be told.
pub const USUAL_LIFE: SignedDuration = SignedDuration::from_hours(60 * 24);

/// A fixed duration, fitted to a life: `min(value, life / 32)`.
#[must_use]
pub fn scaled(value: SignedDuration, life: SignedDuration) -> SignedDuration {
    value.min(life / LIFE_SHARE).max(SignedDuration::ZERO)
}

/// A duration whose length is safety (the propagation window, the least life of a new token): obeyed in full, up to a quarter of the
/// life. A longer one never comes out shorter than a shorter one would.
#[must_use]
pub fn fitted(value: SignedDuration, life: SignedDuration) -> SignedDuration {
    value.min(life / 4)
}

/// When a token of this life should be refreshed: `refresh_at` of the life, moved by at most `jitter` of itself either way.
/// `cycle` names what is being scheduled (the token's fingerprint), so each cycle falls elsewhere.
#[must_use]
pub fn refresh_due(policy: &Policy, issued: Timestamp, life: SignedDuration, cycle: &str) -> Timestamp {
    let spread = 1.0 + policy.jitter * 2.0f64.mul_add(fraction(&[&policy.token, cycle]), -1.0);
    let due = later(issued, times(life, (policy.refresh_at * spread).clamp(0.0, 1.0)));
    // Whole seconds, like everything that the provider says of time.
    Timestamp::from_second(due.as_second()).unwrap_or(due)
}

/// The wait after the `count`-th failure in a row: doubling from `base`, capped, spread by a quarter either way. Never gives up:
/// the count may grow without bound, the wait stays at the cap.
#[must_use]
pub fn backoff(base: SignedDuration, cap: SignedDuration, count: u32, key: &[&str]) -> SignedDuration {
    let doubled = times(base, 2.0_f64.powi(i32::try_from(count.saturating_sub(1).min(40)).unwrap_or(40)));
    let text = count.to_string();
    let mut parts = key.to_vec();
    parts.push(&text);
    times(doubled.min(cap), 0.5f64.mul_add(fraction(&parts), 0.75))
}

/// A fixed number in `0..1` for these parts.
#[must_use]
pub fn fraction(parts: &[&str]) -> f64 {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    let digest = hasher.finalize();
    let bits = digest.iter().take(4).fold(0_u32, |sum, byte| (sum << 8) | u32::from(*byte));
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rotation::testing::policy;

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    #[test]
    fn durations_fit_the_life() {
        assert_eq!(scaled(SignedDuration::from_hours(1), DAY * 60), SignedDuration::from_hours(1));
        assert_eq!(scaled(SignedDuration::from_hours(1), SignedDuration::from_secs(32)), SignedDuration::from_secs(1));
        assert_eq!(fitted(DAY * 7, DAY * 60), DAY * 7, "a long window is obeyed while it fits");
        assert_eq!(fitted(DAY, SignedDuration::from_secs(64)), SignedDuration::from_secs(16));
    }

    #[test]
    fn the_refresh_point_is_spread_but_fixed() {
        let mut policy = policy();
        let issued = Timestamp::from_second(1_800_000_000).unwrap();
        let due: Vec<_> = (0..200).map(|cycle| refresh_due(&policy, issued, DAY * 60, &cycle.to_string())).collect();
        let (first, last) = (due.iter().min().unwrap(), due.iter().max().unwrap());
        assert!(*first >= later(issued, DAY * 27) && *last <= later(issued, DAY * 33));
        assert!(last.duration_since(*first) > DAY * 4, "200 cycles use most of the six days");
        assert_eq!(refresh_due(&policy, issued, DAY * 60, "7"), due[7]);
        policy.jitter = 0.0;
        assert_eq!(refresh_due(&policy, issued, DAY * 60, "7"), later(issued, DAY * 30));
    }

    #[test]
    fn backoff_doubles_to_its_cap_and_never_ends() {
        let (base, cap) = (SignedDuration::from_secs(10), SignedDuration::from_hours(1));
        let third = backoff(base, cap, 3, &["t"]);
        assert!(third >= SignedDuration::from_secs(30) && third <= SignedDuration::from_secs(50));
        let late = backoff(base, cap, u32::MAX, &["t"]);
        assert!(late >= times(cap, 0.75) && late <= times(cap, 1.25));
    }
}
