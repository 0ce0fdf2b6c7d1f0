//! The heart (documented below as it grows).
pub mod breaker;
pub mod command;
pub mod evidence;
pub mod fault;
pub mod health;
pub mod payload;
pub mod plan;
pub mod policy;
pub mod record;
pub mod revoke_gate;
pub mod schedule;
pub mod slot;
#[cfg(test)]
pub(crate) mod testing;
pub mod time;
pub mod token;
pub mod verify;
