//! The daemon.
mod act;
mod announce;
pub mod control;
pub mod cron;
mod disk;
pub mod fleet;
mod observe;
pub mod pace;
pub mod planner;
pub mod run;
pub mod signals;
pub mod snapshot;
pub mod veto;
pub mod wake;
pub mod worker;
