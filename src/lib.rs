//! evertoken keeps Meta system user access tokens alive for ever: it refreshes each one well before its end, publishes the new one,
//! waits until every consumer has moved, proves it, and only then revokes the old one.
//!
//! Begin with [`rotation`], where everything is decided; then [`daemon`], which looks and acts; then [`app`], which puts the parts
//! together. ARCHITECTURE.md maps the house and says what each part may import; `tests/layering.rs` holds that.
//!
//! A library only so that tests can reach its parts; no stable interface is promised but the program's.

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
