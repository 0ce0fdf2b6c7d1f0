//! The heart (documented below as it grows).
pub mod fault;
pub mod payload;
pub mod slot;
pub mod time;
pub mod token;
