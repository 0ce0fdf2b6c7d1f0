//! The only reader of wall, monotonic and boot time.
//!
//! Decisions take time as an argument ([`Clock`]). Ages are measured on `CLOCK_BOOTTIME`, which goes on while the host sleeps and
//! does not step; `tokio` timers use `CLOCK_MONOTONIC`, which stops in suspend, so the daemon re-reads this at least every 30 s.
//!
//! A simulation puts a stand-in in place on its own thread: the daemon's code then lives in virtual time, a year in a moment, and
//! the same seed gives the same run.
//!
//! [`Clock`]: crate::rotation::time::Clock

use std::cell::Cell;

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};

use crate::rotation::time::Boot;

thread_local! {
    static STAND_IN: Cell<Option<(Timestamp, Boot)>> = const { Cell::new(None) };
}

/// The wall clock, as the host believes it.
#[must_use]
pub fn wall() -> Timestamp {
    if let Some((wall, _)) = STAND_IN.get() {
        return wall;
    }
    #[expect(clippy::disallowed_methods, reason = "the one home of the wall clock")]
    Timestamp::now()
}

/// Time since boot, suspend included.
#[must_use]
pub fn boot() -> Boot {
    if let Some((_, boot)) = STAND_IN.get() {
        return boot;
    }
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).or_else(|_missing| clock_gettime(ClockId::CLOCK_MONOTONIC));
    // Both clocks exist on every Linux that can run tokio; a zero would only make evidence look old, never fresh.
    now.map_or(Boot::ZERO, |now| Boot::from_nanos(i128::from(now.tv_sec()) * 1_000_000_000 + i128::from(now.tv_nsec())))
}

/// Sets both clocks of this thread, for a simulation.
pub fn stand_in(wall: Timestamp, boot: Boot) {
    STAND_IN.set(Some((wall, boot)));
}

/// Whether this thread lives in a simulation's time.
#[must_use]
pub fn is_simulated() -> bool {
    STAND_IN.get().is_some()
}
