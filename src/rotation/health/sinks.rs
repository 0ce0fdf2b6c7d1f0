//! The places besides the store: whether each holds the current token, and what its readers have where it does not.

use super::SinkStatus;
use crate::rotation::evidence::{Evidence, SinkEvidence};

/// The status of every sink, in configured order.
pub(super) fn status(evidence: &Evidence) -> Vec<SinkStatus> {
    let wanted = evidence.store.value().and_then(|store| store.current.as_ref()).map(|(_, content)| content);
    let status = |sink: &SinkEvidence| {
        let held = sink.read.value().map(|held| held.as_ref().map(|(_, content)| content));
        let in_sync = held.map(|held| held.map(|content| content.payload()) == wanted.map(|content| content.payload()));
        let other = held.flatten().and_then(|content| content.token()).filter(|_| in_sync == Some(false));
        let other = other.filter(|token| wanted.and_then(|content| content.token()) != Some(*token));
        SinkStatus {
            name: sink.name.clone(),
            in_sync,
            last_error: evidence.sink_trouble(sink).map(|trouble| trouble.fault.what.clone()),
            holds: other.map(|token| token.to_string()),
            holds_until: other.and_then(|token| evidence.ends(token)?.at()),
        }
    };
    evidence.sinks.iter().map(status).collect()
}
