//! How far a token is, read from the same evidence as the next step. No phase is stored anywhere.

use serde::{Deserialize, Serialize};

use crate::rotation::evidence::{Content, Evidence};
use crate::rotation::plan::{Severity, Step};
use crate::rotation::record::{RetireeKind, Stage};

/// How far a rotation is, or which state beside it the token is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing looked at yet.
    Unknown,
    /// Not taken over yet.
    Unadopted,
    /// No rotation.
    Rest,
    /// A mint is about to be tried, or was tried in vain.
    Intent,
    /// A token was received and is not in the store yet.
    Captured,
    /// The new token is in the store beside the current one.
    Staged,
    /// The new token is fit.
    Verified,
    /// The old token is marked to outlive its replacement.
    Marked,
    /// The new token is current in the store.
    Promoted,
    /// Every place holds it; the window runs.
    Propagating,
    /// The old token may be revoked from now on.
    Revoking,
    /// The revoke was made and is being proven.
    Checked,
    /// A token that we hold and nobody uses waits to be revoked.
    Surplus,
    /// A token that failed verification waits to be revoked.
    Quarantined,
    /// The daemon stepped aside.
    Frozen,
    /// A person must act.
    NeedsHuman,
}

impl Phase {
    /// Every phase, for metrics.
    pub const ALL: [Self; 16] = [
        Self::Unknown,
        Self::Unadopted,
        Self::Rest,
        Self::Intent,
        Self::Captured,
        Self::Staged,
        Self::Verified,
        Self::Marked,
        Self::Promoted,
        Self::Propagating,
        Self::Revoking,
        Self::Checked,
        Self::Surplus,
        Self::Quarantined,
        Self::Frozen,
        Self::NeedsHuman,
    ];

    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Unadopted => "unadopted",
            Self::Rest => "rest",
            Self::Intent => "intent",
            Self::Captured => "captured",
            Self::Staged => "staged",
            Self::Verified => "verified",
            Self::Marked => "marked",
            Self::Promoted => "promoted",
            Self::Propagating => "propagating",
            Self::Revoking => "revoking",
            Self::Checked => "checked",
            Self::Surplus => "surplus",
            Self::Quarantined => "quarantined",
            Self::Frozen => "frozen",
            Self::NeedsHuman => "needs_human",
        }
    }
}

/// The phase that the evidence shows.
#[must_use]
pub fn phase(evidence: &Evidence, step: &Step) -> Phase {
    let Some(store) = evidence.store.value() else { return Phase::Unknown };
    if let Step::Hold { why, .. } = step {
        match why.code {
            "not_adopted" | "not_adoptable" | "entry_empty" => return Phase::Unadopted,
            "frozen" | "slot_occupied" | "foreign_rotation" | "newer_record" | "damaged_record" => return Phase::Frozen,
            _ if why.severity == Severity::Critical => return Phase::NeedsHuman,
            _ => {}
        }
    }
    let Some(record) = evidence.record() else { return Phase::Unadopted };
    let current = store.current.as_ref().and_then(|(_, content)| content.token());
    let Some(rotation) = &record.rotation else {
        if record.request.is_some() && record.hold.is_none() && record.frozen.is_none() {
            return Phase::Intent;
        }
        return match record.retirees.iter().map(|retiree| retiree.why).find(|why| *why != RetireeKind::Left) {
            None | Some(RetireeKind::Left) => Phase::Rest,
            Some(RetireeKind::Quarantined) => Phase::Quarantined,
            Some(RetireeKind::Surplus | RetireeKind::Replaced) => Phase::Surplus,
        };
    };
    match rotation.stage {
        Stage::Published => Phase::Propagating,
        Stage::Revoking if evidence.revoke.as_ref().is_some_and(|tried| tried.victim == rotation.base.fingerprint) => Phase::Checked,
        Stage::Revoking => Phase::Revoking,
        Stage::Intent | Stage::Between => {
            let staged = (1..=rotation.attempt)
                .map(|attempt| rotation.slot(&store.identity, attempt, rotation.renderings))
                .find(|slot| store.staged.contains(slot));
            let fit = staged
                .as_ref()
                .and_then(|slot| evidence.slots.get(slot))
                .and_then(|slot| slot.value())
                .and_then(Option::as_ref)
                .and_then(Content::token);
            let fit = fit.is_some_and(|token| {
                evidence.calls.get(&token).is_some_and(|called| called.value().is_some_and(|called| called.outcome.is_ok()))
            });
            if current.is_some() && current != Some(rotation.base.fingerprint) {
                Phase::Promoted
            } else if staged.is_some() && store.retiring.contains(&rotation.base.slot) {
                Phase::Marked
            } else if staged.is_some() {
                if fit { Phase::Verified } else { Phase::Staged }
            } else if evidence.captured.is_some() {
                Phase::Captured
            } else {
                Phase::Intent
            }
        }
    }
}
