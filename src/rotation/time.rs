//! Time as an argument.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// An instant on the host's boot clock: steady, goes on during suspend, means nothing on another host or after a reboot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Boot(i64);

impl Boot {
    /// The boot itself.
    pub const ZERO: Self = Self(0);
    /// Later than everything.
    pub const FAR: Self = Self(i64::MAX);

    /// From nanoseconds since boot; clamped to what 63 bits hold (292 years).
    #[must_use]
    pub fn from_nanos(nanos: i128) -> Self {
        Self(i64::try_from(nanos).unwrap_or(i64::MAX))
    }

    /// Later by a duration (earlier by a negative one), clamped.
    #[must_use]
    pub fn plus(self, by: SignedDuration) -> Self {
        let nanos = i64::try_from(by.as_nanos()).unwrap_or_else(|_beyond| if by.is_negative() { i64::MIN } else { i64::MAX });
        Self(self.0.saturating_add(nanos))
    }

    /// How long after `earlier` this is; negative when it is before.
    #[must_use]
    pub const fn since(self, earlier: Self) -> SignedDuration {
        SignedDuration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// All clocks at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// What the host believes.
    pub wall: Timestamp,
    /// The steady clock that ages are measured on.
    pub boot: Boot,
    /// The provider's last `Date` and when it was received.
    pub provider: Option<ProviderTime>,
}

/// One reading of the provider's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProviderTime {
    /// The `Date` header.
    pub date: Timestamp,
    /// When the answer came.
    pub at: Boot,
}

impl Clock {
    /// The best estimate of the provider's time: its last `Date` plus what has passed since, else the wall clock. Good enough to
    /// schedule by; what cannot be undone is timed by real `Date`s only.
    #[must_use]
    pub fn provider_now(&self) -> Timestamp {
        self.provider.map_or(self.wall, |seen| later(seen.date, self.boot.since(seen.at)))
    }

    /// How far the wall clock is ahead of the provider's.
    #[must_use]
    pub fn offset(&self) -> Option<SignedDuration> {
        self.provider.map(|_| self.wall.duration_since(self.provider_now()))
    }

    /// When, on the steady clock, the provider's clock will show `at`.
    #[must_use]
    pub fn boot_at(&self, at: Timestamp) -> Boot {
        self.boot.plus(at.duration_since(self.provider_now()))
    }
}

/// A value with the instant of its observation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dated<T> {
    /// What.
    pub value: T,
    /// When, by the provider's clock.
    pub at: Timestamp,
}

/// `at + by`, clamped to the ends of time.
#[must_use]
pub fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or_else(|_beyond| if by.is_negative() { Timestamp::MIN } else { Timestamp::MAX })
}

/// Cut to whole seconds, for texts: nobody wants to read the nanoseconds of an estimate.
#[must_use]
pub fn whole(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// `duration * factor`, clamped.
#[must_use]
pub fn times(duration: SignedDuration, factor: f64) -> SignedDuration {
    SignedDuration::try_from_secs_f64(duration.as_secs_f64() * factor).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_providers_clock_runs_on_with_the_steady_clock() {
        let boot = Boot::from_nanos(5_000_000_000);
        let clock =
            Clock { wall: at(0), boot: boot.plus(SignedDuration::from_secs(7)), provider: Some(ProviderTime { date: at(100), at: boot }) };
        assert_eq!(clock.provider_now(), at(107));
        assert_eq!(clock.offset(), Some(SignedDuration::from_secs(-107)));
        assert_eq!(clock.boot_at(at(110)).since(clock.boot), SignedDuration::from_secs(3));
    }

    #[test]
    fn arithmetic_stops_at_the_ends_of_time() {
        assert_eq!(later(Timestamp::MAX, SignedDuration::from_secs(1)), Timestamp::MAX);
        assert_eq!(later(Timestamp::MIN, SignedDuration::from_secs(-1)), Timestamp::MIN);
        assert_eq!(Boot::FAR.plus(SignedDuration::MAX), Boot::FAR);
        assert_eq!(times(SignedDuration::MAX, 2.0), SignedDuration::MAX);
    }
}
