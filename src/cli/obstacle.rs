//! What an order meets before it is given: a plan that cannot come true is not shown as one.

use jiff::Timestamp;

use super::status::{grievances, why};
use crate::rotation::health::{Phase, TokenStatus};

/// Why a rotation that is asked for now would not begin.
pub(super) enum Obstacle {
    /// One runs already, whoever asked for it.
    UnderWay,
    /// Why none begins, and what ends that.
    Stopped(String),
}

impl Obstacle {
    /// For whoever asked.
    pub(super) fn text(&self, token: &TokenStatus) -> String {
        match self {
            Self::Stopped(why) => why.clone(),
            Self::UnderWay => format!(
                "a rotation is under way already ({}: {}). To do: `evertoken rotate {} --wait` follows it to its end",
                token.phase.name(),
                why(token),
                token.name
            ),
        }
    }
}

/// What keeps a rotation that is asked for now from beginning.
pub(super) fn obstacle(token: &TokenStatus, now: Timestamp) -> Option<Obstacle> {
    let found = grievances(token, now);
    let stops = ["held", "frozen", "never_expires"];
    if let Some(condition) = found.iter().find(|condition| stops.contains(&condition.reason.as_str())) {
        return Some(Obstacle::Stopped(condition.message.clone()));
    }
    if matches!(token.phase, Phase::Frozen | Phase::NeedsHuman | Phase::Unadopted) {
        let worst = found.into_iter().next().map(|condition| condition.message);
        return Some(Obstacle::Stopped(worst.unwrap_or_else(|| token.next_action.what.clone())));
    }
    (token.rotation_id.is_some() || token.phase == Phase::Intent).then_some(Obstacle::UnderWay)
}
