//! How fast the fleet may mint tokens and write to stores: token buckets on the steady clock.

use jiff::SignedDuration;

use crate::rotation::time::Boot;

/// Mints that may follow each other at once after a quiet time.
const MINT_BURST: i32 = 5;

/// The fleet's limits.
#[derive(Debug, Clone)]
pub struct Pace {
    mints: Bucket,
    writes: Bucket,
}

impl Pace {
    /// Limits per second; zero is none.
    #[must_use]
    pub fn new(mints_per_second: f64, writes_per_second: f64) -> Self {
        Self { mints: Bucket::new(mints_per_second, MINT_BURST), writes: Bucket::new(writes_per_second, 1) }
    }

    /// When the next mint may be made.
    #[must_use]
    pub fn mint_not_before(&self) -> Boot {
        self.mints.not_before()
    }

    /// A mint is made.
    pub fn minted(&mut self, now: Boot) {
        self.mints.take(now);
    }

    /// Takes the next place for a write to a store; how long to wait for it.
    pub fn write(&mut self, now: Boot) -> SignedDuration {
        let at = self.writes.not_before().max(now);
        self.writes.take(now);
        at.since(now)
    }
}

/// A bucket as the virtual time up to which its capacity is spent.
#[derive(Debug, Clone)]
struct Bucket {
    interval: Option<SignedDuration>,
    burst: i32,
    spent_until: Boot,
}

impl Bucket {
    fn new(per_second: f64, burst: i32) -> Self {
        let interval = (per_second > 0.0).then(|| SignedDuration::try_from_secs_f64(1.0 / per_second).unwrap_or(SignedDuration::MAX));
        Self { interval, burst, spent_until: Boot::ZERO }
    }

    fn not_before(&self) -> Boot {
        self.interval.map_or(Boot::ZERO, |interval| self.spent_until.plus(-(interval * (self.burst - 1))))
    }

    fn take(&mut self, now: Boot) {
        if let Some(interval) = self.interval {
            self.spent_until = self.spent_until.max(now).plus(interval);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: i64) -> Boot {
        Boot::from_nanos(i128::from(second) * 1_000_000_000)
    }

    #[test]
    fn five_at_once_then_one_a_second() {
        let mut pace = Pace::new(1.0, 0.0);
        for _ in 0..5 {
            assert!(pace.mint_not_before() <= second(100));
            pace.minted(second(100));
        }
        assert_eq!(pace.mint_not_before(), second(101));
        assert!(pace.mint_not_before() <= second(200), "a quiet time fills it again");
    }

    #[test]
    fn writes_queue_up_and_zero_is_no_limit() {
        let mut pace = Pace::new(0.0, 2.0);
        assert_eq!(pace.write(second(1)), SignedDuration::ZERO);
        assert_eq!(pace.write(second(1)), SignedDuration::from_millis(500));
        assert_eq!(pace.write(second(1)), SignedDuration::from_secs(1));
        (0..100).for_each(|_| pace.minted(second(1)));
        assert_eq!(pace.mint_not_before(), Boot::ZERO);
        assert_eq!(Pace::new(0.0, 0.0).write(second(1)), SignedDuration::ZERO);
    }
}
