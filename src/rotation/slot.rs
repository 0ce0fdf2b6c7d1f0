//! Names of payloads inside an entry.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Namespace of every UUIDv5 that evertoken derives. Its value is arbitrary and must never change.
pub const NAMESPACE: Uuid = Uuid::from_u128(0x6576_6572_746f_4b65_8e00_0000_0000_0001);

/// The name of one payload inside an entry: an AWS VersionId, or a file store's slot name. Staged slots are named by us before
/// they are written, so a lost answer is resolved by reading that very name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SlotId(String);

impl SlotId {
    /// Takes a name that a store gave.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The slot of one attempt of one rotation of one entry. `identity` names the entry for good (an ARN, a path).
    #[must_use]
    pub fn staged(identity: &str, rotation: &str, attempt: u32) -> Self {
        Self(Uuid::new_v5(&NAMESPACE, format!("staged\n{identity}\n{rotation}\n{attempt}").as_bytes()).to_string())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last eight characters, for labels.
    #[must_use]
    pub fn last8(&self) -> &str {
        self.0.char_indices().rev().nth(7).map_or(self.0.as_str(), |(at, _)| self.0.get(at..).unwrap_or(&self.0))
    }
}

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_staged_slot_is_a_function_of_entry_rotation_and_attempt() {
        let one = SlotId::staged("arn", "r1", 1);
        assert_eq!(one, SlotId::staged("arn", "r1", 1));
        assert_ne!(one, SlotId::staged("arn", "r1", 2));
        assert_ne!(one, SlotId::staged("arn", "r2", 1));
        assert_ne!(one, SlotId::staged("other", "r1", 1));
        assert_eq!(one.as_str().len(), 36);
        assert_eq!(one.last8().len(), 8);
        assert_eq!(SlotId::new("ab").last8(), "ab");
    }
}
