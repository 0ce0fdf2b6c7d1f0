//! Why a record cannot be used. Neither kind is ever written over.

use super::SCHEMA;

/// A record that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Written by a newer evertoken.
    #[error("record {number} has format {schema}, this binary writes {SCHEMA}")]
    Newer {
        /// Its number.
        number: u64,
        /// Its format.
        schema: u32,
    },
    /// Not a record.
    #[error("record {number} cannot be read: {why}")]
    Damaged {
        /// The number under which it stands.
        number: u64,
        /// What is wrong, without its content.
        why: String,
    },
}
