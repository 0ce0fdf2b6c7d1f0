//! The only reader of wall, monotonic and boot time.
//!
//! Decisions take time as an argument ([`Clock`]). Ages are measured on `CLOCK_BOOTTIME`, which goes on while the host sleeps and
//! does not step; `tokio` timers use `CLOCK_MONOTONIC`, which stops in suspend, so the daemon re-reads this at least every 30 s.

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};

use crate::rotation::time::Boot;

/// The wall clock, as the host believes it.
#[must_use]
pub fn wall() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "the one home of the wall clock")]
    Timestamp::now()
}

/// Time since boot, suspend included.
#[must_use]
pub fn boot() -> Boot {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).or_else(|_missing| clock_gettime(ClockId::CLOCK_MONOTONIC));
    // Both clocks exist on every Linux that can run tokio; a zero would only make evidence look old, never fresh.
    now.map_or(Boot::ZERO, |now| Boot::from_nanos(i128::from(now.tv_sec()) * 1_000_000_000 + i128::from(now.tv_nsec())))
}
