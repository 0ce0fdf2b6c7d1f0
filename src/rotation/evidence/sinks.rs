//! What is known of the places beside the store.

use super::{Channel, Content, Evidence, Trouble};
use crate::rotation::slot::SlotId;
use crate::rotation::time::Boot;

/// A place of the token beside its store.
#[derive(Debug, Clone, PartialEq)]
pub struct SinkEvidence {
    /// Its configured name.
    pub name: String,
    /// What it holds: the slot and the content; `None` when it is empty.
    pub read: Channel<Option<(SlotId, Content)>>,
}

impl Evidence {
    /// When the sink that was read last was asked.
    #[must_use]
    pub fn sinks_read(&self) -> Option<Boot> {
        self.sinks.iter().filter_map(|sink| sink.read.seen.as_ref()).map(|seen| seen.asked).max()
    }

    /// What keeps a sink from being read, or else from being written.
    #[must_use]
    pub fn sink_trouble<'a>(&'a self, sink: &'a SinkEvidence) -> Option<&'a Trouble> {
        sink.read.trouble.as_deref().or_else(|| self.effects.get(&format!("publish {}", sink.name)))
    }
}
