//! Rules switched off one at a time, around the production `plan`: by evidence that says of one thing what would let the rule pass, by
//! another step in place of one, or by a store that does not compare. Each must break something.

use evertoken::rotation::evidence::{AttemptState, Evidence};
use evertoken::rotation::plan::{CommitKind, Effect, Look, Step, plan};
use evertoken::rotation::policy::Policy;
use evertoken::rotation::record::Record;
use evertoken::rotation::revoke_gate::{Gate, evaluate, victim};
use evertoken::rotation::token::Fingerprint;

use crate::machine::unsent;
use crate::rotator::{Rotator, boot};

/// A rule that is switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// The store takes any record, of whatever number.
    RecordUncompared,
    /// The store promotes whatever is current.
    PromoteUncompared,
    /// A sink is written whatever it holds.
    SinkUncompared,
    /// A mint without an intent.
    NoIntent,
    /// An intent whose answer was lost counts as committed.
    IntentNotReadBack,
    /// A mint whose answer was lost counts as not sent.
    LostMintRepeated,
    /// A mint whose answer was lost leaves no row.
    LostMintUncounted,
    /// A token that came is not sealed before it is staged.
    Unsealed,
    /// The spool is emptied before the token is in the store.
    DroppedEarly,
    /// The old version gets no mark before the promotion.
    Unmarked,
    /// The same string from a refresh counts as a new token.
    SameStringStaged,
    /// A sink is written on an older look at the entry.
    SinkOnOldLook,
    /// A sink that lags is written without starting the window anew.
    WindowGoesOn,
    /// No propagation window.
    NoWindow,
    /// The window runs on the host's clock.
    HostClock,
    /// Evidence of any age is good for a revoke.
    AnyAge,
    /// What a revoke says is believed.
    AnswerBelieved,
    /// One condition of the revoke gate does not count.
    Gate(&'static str),
}

impl Mutant {
    pub(crate) fn compares(self, effect: &Effect) -> bool {
        match effect {
            Effect::Commit { .. } => self != Self::RecordUncompared,
            Effect::Promote { .. } => self != Self::PromoteUncompared,
            Effect::PublishSink { .. } => self != Self::SinkUncompared,
            Effect::ProveBeside
            | Effect::Refresh { .. }
            | Effect::Stage { .. }
            | Effect::DropCaptured
            | Effect::MarkRetiring { .. }
            | Effect::Unmark { .. }
            | Effect::Revoke { .. }
            | Effect::OpenBreaker { .. } => true,
        }
    }

    /// Whether a lost answer to this write counts as success.
    pub(crate) fn trusts(self, effect: &Effect) -> bool {
        self == Self::IntentNotReadBack && matches!(effect, Effect::Commit { kind: CommitKind::Intent, .. })
    }

    /// What a mint's outcome is taken for.
    pub(crate) fn came(self, came: &Result<(Fingerprint, bool), Box<AttemptState>>) -> Result<(Fingerprint, bool), Box<AttemptState>> {
        match came {
            Err(state) if self == Self::LostMintRepeated && matches!(**state, AttemptState::Unknown(_)) => Err(Box::new(unsent())),
            came => came.clone(),
        }
    }

    pub(crate) fn decide(self, rotator: &Rotator, policy: &Policy) -> Step {
        let evidence = &rotator.evidence;
        let step = plan(evidence, policy);
        let falsified = |change: &dyn Fn(&mut Evidence)| {
            let mut evidence = evidence.clone();
            change(&mut evidence);
            plan(&evidence, policy)
        };
        match self {
            Self::NoIntent => without_intent(step),
            Self::LostMintUncounted => without_row(step),
            Self::DroppedEarly => match step {
                Step::Do(Effect::Stage { .. }) => Step::Do(Effect::DropCaptured),
                step @ (Step::Look(_) | Step::Do(_) | Step::Wait { .. } | Step::Hold { .. }) => step,
            },
            Self::Unmarked => match step {
                Step::Do(Effect::MarkRetiring { slot }) => falsified(&|evidence| {
                    if let Some(seen) = evidence.store.seen.as_mut() {
                        seen.value.retiring.push(slot.clone());
                    }
                }),
                step @ (Step::Look(_) | Step::Do(_) | Step::Wait { .. } | Step::Hold { .. }) => step,
            },
            Self::SameStringStaged => same_string(evidence, step),
            Self::SinkOnOldLook if step == Step::Look(Look::Current) => {
                let otherwise = falsified(&|evidence| {
                    if let Some(seen) = evidence.store.seen.as_mut() {
                        seen.value.current_asked = boot();
                    }
                });
                if matches!(otherwise, Step::Do(Effect::PublishSink { .. })) { otherwise } else { step }
            }
            Self::WindowGoesOn => without_new_window(evidence, step),
            Self::HostClock => falsified(&|evidence| {
                // The start of the window is the provider's, its end the host's, whose clock was set in between.
                if evidence.record().is_none_or(|record| record.published.is_none()) {
                    return;
                }
                let wall = evidence.clock.wall;
                evidence.clock.provider = None;
                for looked in evidence.looks.values_mut().filter_map(|channel| channel.seen.as_mut()) {
                    looked.value.date = Some(wall);
                }
            }),
            Self::AnswerBelieved => falsified(&|evidence| {
                let Some(tried) = evidence.revoke.clone() else { return };
                if let Some(seen) = evidence.looks.get_mut(&tried.victim).and_then(|channel| channel.seen.as_mut()) {
                    seen.value.introspection.valid = false;
                }
            }),
            Self::AnyAge => revoke_if(
                evidence,
                policy,
                &|evidence| {
                    let now = boot();
                    if let Some(seen) = evidence.store.seen.as_mut() {
                        seen.asked = now;
                    }
                    evidence.looks.values_mut().filter_map(|channel| channel.seen.as_mut()).for_each(|seen| seen.asked = now);
                    evidence.sinks.iter_mut().filter_map(|sink| sink.read.seen.as_mut()).for_each(|seen| seen.asked = now);
                },
                "",
            )
            .unwrap_or(step),
            // What the plan wants to look at first, it looks at.
            Self::Gate(name) if !matches!(step, Step::Look(_)) => revoke_if(evidence, policy, &|_| {}, name).unwrap_or(step),
            Self::RecordUncompared
            | Self::PromoteUncompared
            | Self::SinkUncompared
            | Self::IntentNotReadBack
            | Self::LostMintRepeated
            | Self::Unsealed
            | Self::SinkOnOldLook
            | Self::NoWindow
            | Self::Gate(_) => step,
        }
    }
}

/// A revoke, where the gate is open but for one condition, on evidence as changed.
fn revoke_if(evidence: &Evidence, policy: &Policy, change: &dyn Fn(&mut Evidence), but: &str) -> Option<Step> {
    let mut evidence = evidence.clone();
    change(&mut evidence);
    let record = evidence.record()?;
    let (slot, _) = evidence.store.value()?.current.as_ref()?;
    let victim = victim(record, slot)?;
    let tried = evidence.revoke.as_ref().is_some_and(|tried| tried.victim == victim.fingerprint);
    let mut conjuncts = evaluate(&evidence, policy, record, &victim).conjuncts;
    conjuncts.iter_mut().filter(|conjunct| conjunct.name == but).for_each(|conjunct| conjunct.holds = true);
    let gate = Gate { conjuncts };
    let open = !tried && gate.is_open();
    open.then_some(Step::Do(Effect::Revoke { victim, caller: record.current.fingerprint, gate }))
}

fn without_intent(step: Step) -> Step {
    let Step::Do(Effect::Commit { record, kind: CommitKind::Intent, .. }) = &step else { return step };
    let Some(rotation) = &record.rotation else { return step };
    Step::Do(Effect::Refresh { rotation: rotation.id.clone(), attempt: rotation.attempt, base: rotation.base.fingerprint })
}

fn without_row(step: Step) -> Step {
    match step {
        Step::Do(Effect::Commit { record, kind: kind @ CommitKind::AttemptUnknown, detail, read_back }) => {
            let record = Box::new(Record { unaccounted: Vec::new(), ..*record });
            Step::Do(Effect::Commit { record, kind, detail, read_back })
        }
        step @ (Step::Look(_) | Step::Do(_) | Step::Wait { .. } | Step::Hold { .. }) => step,
    }
}

fn same_string(evidence: &Evidence, step: Step) -> Step {
    let (Step::Do(Effect::Commit { kind: CommitKind::Extended, .. }), Some(store)) = (&step, evidence.store.value()) else { return step };
    let rotation = evidence.record().and_then(|record| record.rotation.as_ref());
    let Some(rotation) = rotation else { return step };
    let slot = rotation.slot(&store.identity, rotation.attempt, rotation.renderings);
    Step::Do(Effect::Stage { slot, token: rotation.base.fingerprint })
}

fn without_new_window(evidence: &Evidence, step: Step) -> Step {
    let (Step::Do(Effect::Commit { kind: CommitKind::Unpublished, .. }), Some(record)) = (&step, evidence.record()) else { return step };
    let token = record.current.fingerprint;
    let lagging = evidence.sinks.iter().find_map(|sink| {
        let (slot, content) = sink.read.value()?.as_ref()?;
        (content.token() != Some(token)).then(|| (sink.name.clone(), slot.clone()))
    });
    lagging.map_or(step, |(sink, slot)| Step::Do(Effect::PublishSink { sink, expected: Some(slot), token }))
}
