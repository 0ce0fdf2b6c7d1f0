//! Rules switched off one at a time.

use evertoken::rotation::plan::{Step, plan};
use evertoken::rotation::policy::Policy;

use crate::rotator::Rotator;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// The store sets without comparing.
    NoCompare,
}

impl Mutant {
    pub(crate) fn compares(self) -> bool {
        self != Self::NoCompare
    }

    pub(crate) fn decide(self, rotator: &Rotator, policy: &Policy) -> Step {
        plan(&rotator.evidence, policy)
    }
}
