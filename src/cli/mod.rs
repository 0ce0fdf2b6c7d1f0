//! What people type and read.

mod bar;
pub mod explain;
pub mod history;
mod layout;
mod meaning;
pub mod status;
mod table;

pub use layout::TableOptions;
