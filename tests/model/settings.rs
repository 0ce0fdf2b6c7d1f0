//! What is explored: who takes part, and how often each thing may go wrong.

use crate::machine::Setting;
use crate::world::Budget;

/// A setting with what people call it.
pub(crate) struct Named {
    pub(crate) name: &'static str,
    pub(crate) setting: Setting,
}

pub(crate) const NONE: Budget = Budget {
    crashes: 0,
    lost: 0,
    failures: 0,
    late: 0,
    stalls: 0,
    edits: 0,
    sink_edits: 0,
    same: 0,
    unfit: 0,
    lies: 0,
    deaths: 0,
    trips: 0,
    holds: 0,
    rotations: 1,
};

const fn one(name: &'static str, sinks: usize, left: Budget) -> Named {
    Named { name, setting: Setting { rotators: 1, sinks, gate: false, left } }
}

const fn two(name: &'static str, sinks: usize, left: Budget) -> Named {
    Named { name, setting: Setting { rotators: 2, sinks, gate: false, left } }
}

/// Explored with every run of the tests.
pub(crate) const SMALL: &[Named] = &[
    one("calls", 1, Budget { lost: 1, failures: 1, lies: 1, ..NONE }),
    one("kills", 1, Budget { crashes: 1, rotations: 2, ..NONE }),
    one("late", 1, Budget { late: 1, stalls: 1, ..NONE }),
    one("people", 1, Budget { edits: 2, ..NONE }),
    one("sinks", 2, Budget { sink_edits: 1, ..NONE }),
    one("whims", 1, Budget { same: 1, unfit: 1, lies: 1, rotations: 2, ..NONE }),
    two("two", 1, NONE),
    one("vetoes", 1, Budget { deaths: 1, trips: 1, holds: 1, ..NONE }),
    Named { name: "gate", setting: Setting { rotators: 1, sinks: 1, gate: true, left: NONE } },
];

/// Explored on demand.
pub(crate) const LARGE: &[Named] = &[
    one("many calls", 1, Budget { crashes: 1, lost: 1, failures: 1, ..NONE }),
    two("two, failures", 1, Budget { failures: 1, ..NONE }),
    two("two, lost", 1, Budget { lost: 1, ..NONE }),
    two("two, late", 1, Budget { late: 1, ..NONE }),
    two("two, kills", 1, Budget { crashes: 1, ..NONE }),
    two("two, pauses", 1, Budget { stalls: 1, ..NONE }),
    two("two, whims", 1, Budget { same: 1, unfit: 1, lies: 1, ..NONE }),
    two("two, sinks", 2, Budget { sink_edits: 1, ..NONE }),
    two("two, people", 1, Budget { edits: 1, ..NONE }),
];
