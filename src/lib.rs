//! evertoken keeps Meta system user access tokens alive for ever.
pub mod admin;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod graph;
pub mod ledger;
pub mod rotation;
pub mod simulator;
pub mod spool;
pub mod state_dir;
pub mod store;
pub mod telemetry;
