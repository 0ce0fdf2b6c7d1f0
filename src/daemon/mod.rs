//! The daemon: the loop that never ends, around decisions that are made elsewhere.
//!
//! ```text
//!   cron  signals  socket  timers          planner              worker, one for each token
//!     │      │        │       │          heap of due times        observe ──> plan ──> act ──┐
//!     └──────┴────────┴───────┘                │                     ^                       │
//!               wake (no data)                 v                     └───────────────────────┘
//!                     └──────────────────> run: what is due ──────>  until Wait or Hold: back into the heap
//! ```
//!
//! - [`run`] turns: it starts what is due on a bounded pool, one pass a token at a time, and sleeps until the next due time, a wake,
//!   or half a minute. A token that waits is a row and an entry of the heap, never a task or a timer.
//! - [`worker`] is one token's pass: look, ask [`crate::rotation::plan`], do one thing, look again. `observe` asks, `act` does,
//!   `announce` tells log and ledger. A pass that panics takes its own token's worker with it and no other.
//! - [`wake`] is all that can make the loop turn early: the bell ([`cron`]), [`signals`], orders ([`control`]). None of them carries
//!   state that a decision would rest on; an order becomes a record before anything follows from it.
//! - [`fleet`] is what tokens share: spool, ledger, metrics, the pace of mints and writes ([`pace`]), and the revocation breaker, whose
//!   [`veto`] outlives the process. [`snapshot`] is what the outside may see of it.
//! - [`presence`] watches what the process has on its machine: lock, control socket, ledger.
//!
//! Stopping begins no new step. Only a token that is in nobody's keeping but this process's memory is still brought to safety; every
//! other effect may be left as a crash would leave it.

mod act;
mod announce;
pub mod control;
pub mod cron;
mod disk;
pub mod fleet;
mod observe;
pub mod pace;
pub mod planner;
pub mod presence;
pub mod run;
pub mod scribe;
pub mod signals;
pub mod snapshot;
pub mod veto;
pub mod wake;
pub mod worker;
