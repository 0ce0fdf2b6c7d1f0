//! The simulators' time: starts at the host's, may be moved, set, frozen, or run at a rate.

use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

/// A clock that follows the host's at a rate, from an anchor that can be moved. Two simulators may share one.
#[derive(Debug)]
pub struct VirtualClock {
    anchor: Mutex<Anchor>,
}

#[derive(Debug, Clone, Copy)]
struct Anchor {
    real: Timestamp,
    virt: Timestamp,
    rate: f64,
}

impl Default for VirtualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl VirtualClock {
    /// A clock that shows the host's time and runs as fast.
    #[must_use]
    pub fn new() -> Self {
        let now = host_now();
        Self { anchor: Mutex::new(Anchor { real: now, virt: now, rate: 1.0 }) }
    }

    /// What the clock shows.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.lock().now(host_now())
    }

    /// How many simulated seconds pass in one of the host's.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.lock().rate
    }

    /// Moves the clock, forth or back.
    pub fn advance(&self, by: SignedDuration) {
        self.move_to(|shown| shown.saturating_add(by).unwrap_or(shown), None);
    }

    /// Sets the clock.
    pub fn set(&self, to: Timestamp) {
        self.move_to(|_shown| to, None);
    }

    /// Lets the clock run at `rate` from what it shows now; 0 freezes it. A rate that is no finite number is ignored.
    pub fn set_rate(&self, rate: f64) {
        self.move_to(|shown| shown, rate.is_finite().then_some(rate));
    }

    fn move_to(&self, place: impl FnOnce(Timestamp) -> Timestamp, rate: Option<f64>) {
        let real = host_now();
        let mut anchor = self.lock();
        *anchor = Anchor { real, virt: place(anchor.now(real)), rate: rate.unwrap_or(anchor.rate) };
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Anchor> {
        self.anchor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Anchor {
    fn now(&self, real: Timestamp) -> Timestamp {
        let passed = real.duration_since(self.real).as_secs_f64() * self.rate;
        let passed = SignedDuration::try_from_secs_f64(passed).unwrap_or(SignedDuration::MAX);
        self.virt.saturating_add(passed).unwrap_or(self.virt)
    }
}

fn host_now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "the simulators import nothing of ours, and this is their only look at the host's clock")]
    Timestamp::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves_sets_freezes_and_races() {
        let clock = VirtualClock::new();
        clock.set_rate(0.0);
        let frozen = clock.now();
        assert_eq!(clock.now(), frozen);
        clock.advance(SignedDuration::from_hours(-24));
        assert_eq!(clock.now(), frozen - SignedDuration::from_hours(24));
        clock.set(Timestamp::UNIX_EPOCH);
        assert_eq!(clock.now(), Timestamp::UNIX_EPOCH);
        clock.set_rate(f64::NAN);
        assert_eq!(clock.rate(), 0.0);
        clock.set_rate(1e6);
        let before = clock.now();
        while clock.now() == before {}
        assert!(clock.now() > before);
    }
}
