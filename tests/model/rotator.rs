//! One rotator: the memory of a process (the production [`Evidence`]), its host's spool, and the step it is in the middle of. Looks
//! and outcomes change the evidence as `src/daemon/observe.rs` and `src/daemon/act.rs` do.
//!
//! The steady clock stands still at [`boot`]; what passes is the age of what was seen. Ages are of four kinds, told apart by every
//! duration of the rules: this instant, seconds (35 s), minutes (11), and old; within a kind only the order counts.

use std::collections::BTreeMap;

use evertoken::rotation::evidence::{
    Attempt, AttemptState, Called, Captured, Channel, Content, Evidence, GateEvidence, Looked, Presence, RevokeTry, StoreEvidence, Trouble,
};
use evertoken::rotation::fault::{Certainty, Fault, FaultClass};
use evertoken::rotation::plan::{CommitKind, Effect, Look};
use evertoken::rotation::record::{Record, RetireeKind};
use evertoken::rotation::slot::SlotId;
use evertoken::rotation::time::{Boot, Clock, ProviderTime};
use evertoken::rotation::token::Fingerprint;
use jiff::SignedDuration;

use crate::world::{IDENTITY, Number, USER, World, at, fingerprint};

/// The steady clock's one reading.
pub(crate) fn boot() -> Boot {
    Boot::ZERO.plus(SignedDuration::from_hours(1_000))
}

/// The host's wall clock is this far ahead of the provider's.
pub(crate) const WALL_AHEAD: i64 = 3 * crate::world::DAY;

/// How much time passes for what was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// 35 seconds.
    Seconds,
    /// Eleven minutes.
    Minutes,
    /// An hour: nothing to a window.
    Hour,
    /// Hours and days: the provider's clock moves too.
    Long,
}

/// Where a process is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Life {
    /// It ended; its host may start another.
    Ended,
    /// It runs.
    Runs,
    /// It stands still, before an effect that it has decided on, or between two steps.
    Stands(Option<Box<Effect>>),
    /// It goes on, with the effect that it had decided on.
    GoesOn(Box<Effect>),
}

/// One rotator.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rotator {
    pub(crate) life: Life,
    pub(crate) evidence: Evidence,
    /// What the host's disk keeps.
    pub(crate) spool: Option<(String, u32, Fingerprint)>,
    pub(crate) veto: bool,
    /// How many edits by people there were when the entry, and each sink, was last looked at.
    pub(crate) edits_seen: Vec<u8>,
}

fn fault(certainty: Certainty, class: FaultClass) -> Fault {
    Fault::new(certainty, class, "fault")
}

pub(crate) fn conflict() -> Fault {
    fault(Certainty::NotDone, FaultClass::Transient)
}

pub(crate) fn lost() -> Fault {
    fault(Certainty::Unknown, FaultClass::Unreachable)
}

pub(crate) fn not_sent() -> Fault {
    fault(Certainty::NotDone, FaultClass::Unreachable)
}

fn content(token: Number) -> Content {
    Content::Token { token: fingerprint(token), payload: fingerprint(token) }
}

impl Rotator {
    /// A process that has just started on its host.
    pub(crate) fn start(name: &str, world: &World, spool: Option<(String, u32, Fingerprint)>, veto: bool) -> Self {
        let sinks: Vec<String> = (0..world.sinks.len()).map(|sink| sink.to_string()).collect();
        let clock = Clock { wall: at(world.now + WALL_AHEAD), boot: boot(), provider: None };
        let mut evidence = Evidence::new(clock, name.to_owned(), &sinks, Vec::new());
        evidence.since = Boot::ZERO;
        evidence.proven_beside = true;
        evidence.breaker.open = veto.then(|| "veto".to_owned());
        if let Some((rotation, attempt, token)) = &spool {
            evidence.captured = Some(Captured { rotation: rotation.clone(), attempt: *attempt, token: Ok(*token), sealed: true });
            evidence.held.insert(*token);
        }
        let mut rotator = Self { life: Life::Runs, evidence, spool, veto, edits_seen: vec![0; sinks.len() + 1] };
        rotator.confirmed(world);
        rotator
    }

    /// Ends: memory goes, the host's disk stays.
    pub(crate) fn end(&mut self, world: &World) {
        let sinks = world.sinks.len();
        *self = Self { life: Life::Ended, ..Self::start("", world, self.spool.take(), self.veto) };
        self.evidence = Evidence::new(Clock { wall: at(0), boot: boot(), provider: None }, String::new(), &[], Vec::new());
        self.edits_seen = vec![0; sinks + 1];
    }

    /// An answer, or nothing, of a look.
    pub(crate) fn look(&mut self, world: &mut World, look: &Look) {
        let now = boot();
        match look {
            Look::Store => {
                self.look_at_current(world);
                let entry = &world.entry;
                let known = self.evidence.store.value().map(|store| (store.record_number, store.record_seen));
                let record_seen = known.filter(|(number, _)| *number == entry.record.number).map_or(now, |(_, seen)| seen);
                let store = StoreEvidence {
                    identity: IDENTITY.into(),
                    presence: Presence::Present,
                    current: Some((entry.current.clone(), content(world.current()))),
                    current_asked: now,
                    staged: entry.staged.iter().cloned().collect(),
                    retiring: entry.retiring.iter().cloned().collect(),
                    record: Some(Ok(entry.record.clone())),
                    record_number: entry.record.number,
                    record_seen,
                    foreign_rotation: None,
                };
                self.evidence.store.answered(store, now);
            }
            Look::Current => self.look_at_current(world),
            Look::Slot(slot) => self.look_at_slot(world, slot),
            Look::Introspect(token) => {
                let text = self.has_text(world, *token);
                let channel = self.evidence.looks.entry(*token).or_default();
                if text {
                    channel.answered(Looked { introspection: world.introspection(*token), date: Some(at(world.now)) }, now);
                    self.heard(world);
                } else {
                    channel.failed(fault(Certainty::NotDone, FaultClass::Missing), now);
                }
            }
            Look::Call(token) => {
                let text = self.has_text(world, *token);
                let channel = self.evidence.calls.entry(*token).or_default();
                if text {
                    let dead = || fault(Certainty::NotDone, FaultClass::TokenDead);
                    let outcome = if world.lives(world.number(*token)) { Ok(Some(USER.to_owned())) } else { Err(dead()) };
                    channel.answered(Called { outcome, business_integration: false }, now);
                    self.heard(world);
                } else {
                    channel.failed(fault(Certainty::NotDone, FaultClass::Missing), now);
                }
            }
            Look::Sink(name) => {
                let place = *world.sink_mut(name);
                let sink = self.evidence.sinks.iter_mut().find(|sink| sink.name == *name).unwrap();
                sink.read.answered(Some((place.slot(), content(place.token))), now);
                self.edits_seen[1 + name.parse::<usize>().unwrap()] = world.edits;
            }
        }
        normalise(&mut self.evidence);
    }

    /// A look that gets no answer.
    pub(crate) fn look_fails(&mut self, look: &Look) {
        let now = boot();
        match look {
            Look::Store => self.evidence.store.failed(lost(), now),
            Look::Current => {
                self.evidence.store.failed(lost(), now);
                self.forget_store();
            }
            Look::Slot(slot) => self.evidence.slots.entry(slot.clone()).or_default().failed(lost(), now),
            Look::Introspect(token) => self.evidence.looks.entry(*token).or_default().failed(lost(), now),
            Look::Call(token) => self.evidence.calls.entry(*token).or_default().failed(lost(), now),
            Look::Sink(name) => self.evidence.sinks.iter_mut().find(|sink| sink.name == *name).unwrap().read.failed(lost(), now),
        }
        normalise(&mut self.evidence);
    }

    fn look_at_current(&mut self, world: &mut World) {
        let now = boot();
        let (slot, token) = (world.entry.current.clone(), world.current());
        self.evidence.slots.entry(slot.clone()).or_default().answered(Some(content(token)), now);
        self.evidence.held.insert(fingerprint(token));
        if let Some(seen) = self.evidence.store.seen.as_mut() {
            seen.value.current = Some((slot, content(token)));
            seen.value.current_asked = now;
        }
        self.evidence.store.trouble = None;
        self.edits_seen[0] = world.edits;
        world.unseen_edit = false;
    }

    fn look_at_slot(&mut self, world: &World, slot: &SlotId) {
        let held = world.entry.slots.get(slot).copied();
        self.evidence.slots.entry(slot.clone()).or_default().answered(held.map(content), boot());
        self.evidence.held.extend(held.map(fingerprint));
    }

    /// The token's text, from memory or from the slot that is known to hold it.
    fn has_text(&mut self, world: &mut World, token: Fingerprint) -> bool {
        if !self.evidence.held.contains(&token) {
            let current = self.evidence.store.value().and_then(|store| store.current.as_ref()).and_then(|(_, content)| content.token());
            if current == Some(token) {
                self.look_at_current(world);
            } else if let Some(slot) = self.slot_of(token) {
                self.look_at_slot(world, &slot);
            }
        }
        self.evidence.held.contains(&token)
    }

    fn slot_of(&self, token: Fingerprint) -> Option<SlotId> {
        let holds = |channel: &Channel<Option<Content>>| channel.value().and_then(Option::as_ref).and_then(Content::token) == Some(token);
        let read = self.evidence.slots.iter().find(|(_, channel)| holds(channel)).map(|(slot, _)| slot);
        let record = self.evidence.record();
        let base = record.and_then(|record| record.rotation.as_ref()).map(|rotation| &rotation.base);
        let known = base.into_iter().map(|known| (&known.slot, known.fingerprint));
        let known = known.chain(record.iter().flat_map(|record| &record.retirees).map(|retiree| (&retiree.slot, retiree.fingerprint)));
        let mut known = known.chain(record.map(|record| (&record.current.slot, record.current.fingerprint)));
        read.or_else(|| known.find(|(_, known)| *known == token).map(|(slot, _)| slot)).cloned()
    }

    /// Every answer of the provider carries its time.
    pub(crate) fn heard(&mut self, world: &World) {
        self.evidence.clock.provider = Some(ProviderTime { date: at(world.now), at: boot() });
    }

    fn forget_store(&mut self) {
        if let Some(seen) = self.evidence.store.seen.as_mut() {
            seen.asked = Boot::ZERO;
        }
    }

    /// An effect that was not done, or of which nothing is known.
    pub(crate) fn failed(&mut self, effect: &Effect, fault: Fault) {
        if let Effect::PublishSink { sink, .. } = effect {
            self.evidence.sinks.iter_mut().find(|evidence| evidence.name == *sink).unwrap().read.seen = None;
        }
        let count = self.evidence.effects.get(&effect.key()).map_or(0, |trouble| trouble.count) + 1;
        self.evidence.effects.insert(effect.key(), Trouble { count, at: boot(), fault });
        self.forget_store();
        normalise(&mut self.evidence);
    }

    /// An effect on the store that was done.
    pub(crate) fn done(&mut self, world: &mut World, effect: &Effect) {
        self.evidence.effects.remove(&effect.key());
        match effect {
            Effect::Commit { record, kind, .. } => self.committed(record, *kind),
            Effect::Stage { slot, token } => {
                let read = Content::Token { token: *token, payload: *token };
                self.evidence.slots.entry(slot.clone()).or_default().answered(Some(read), boot());
                self.with_store(|store| {
                    store.staged.push(slot.clone());
                    store.staged.sort();
                    store.staged.dedup();
                });
            }
            Effect::MarkRetiring { slot } => self.with_store(|store| {
                store.retiring.push(slot.clone());
                store.retiring.sort();
                store.retiring.dedup();
            }),
            Effect::Promote { .. } => self.look_at_current(world),
            Effect::PublishSink { sink, .. } => {
                self.evidence.sinks.iter_mut().find(|evidence| evidence.name == *sink).unwrap().read.seen = None;
            }
            Effect::Unmark { slot, retiring } => {
                self.with_store(|store| if *retiring { &mut store.retiring } else { &mut store.staged }.retain(|marked| marked != slot));
            }
            Effect::DropCaptured => {
                self.spool = None;
                self.evidence.captured = None;
                self.evidence.spool_trouble = None;
            }
            Effect::OpenBreaker { .. } => {
                self.veto = true;
                self.evidence.breaker.open = Some("veto".into());
            }
            Effect::ProveBeside | Effect::Refresh { .. } | Effect::Revoke { .. } => {}
        }
        normalise(&mut self.evidence);
    }

    fn committed(&mut self, record: &Record, kind: CommitKind) {
        self.with_store(|store| {
            store.record = Some(Ok(record.clone()));
            store.record_number = record.number;
            store.record_seen = boot();
        });
        if kind == CommitKind::Intent
            && let Some(rotation) = &record.rotation
        {
            let (rotation, number) = (rotation.id.clone(), rotation.attempt);
            self.evidence.attempt = Some(Attempt { rotation, number, state: AttemptState::NotSent(None) });
            self.evidence.revoke = None;
        }
        if kind == CommitKind::Revoked {
            self.evidence.revoke = None;
        }
    }

    fn with_store(&mut self, change: impl FnOnce(&mut StoreEvidence)) {
        if let Some(seen) = self.evidence.store.seen.as_mut() {
            change(&mut seen.value);
        }
    }

    /// What came of a mint.
    pub(crate) fn refreshed(
        &mut self,
        world: &World,
        rotation: &str,
        attempt: u32,
        base: Fingerprint,
        outcome: Result<(Fingerprint, bool), Box<AttemptState>>,
    ) {
        self.evidence.effects.remove("refresh");
        let state = match outcome {
            Ok((token, sealed)) => {
                self.heard(world);
                self.evidence.held.insert(token);
                self.evidence.looks.remove(&base);
                self.evidence.captured = Some(Captured { rotation: rotation.to_owned(), attempt, token: Ok(token), sealed });
                if sealed {
                    self.spool = Some((rotation.to_owned(), attempt, token));
                } else {
                    self.evidence.spool_trouble = Some("full".into());
                }
                AttemptState::Answered
            }
            Err(state) if matches!(*state, AttemptState::NotSent(_)) => {
                let before = match &self.evidence.attempt {
                    Some(Attempt { state: AttemptState::NotSent(Some(trouble)), .. }) => trouble.count,
                    _ => 0,
                };
                AttemptState::NotSent(Some(Trouble { count: before + 1, at: boot(), fault: not_sent() }))
            }
            Err(state) => *state,
        };
        self.evidence.attempt = Some(Attempt { rotation: rotation.to_owned(), number: attempt, state });
        normalise(&mut self.evidence);
    }

    /// A revoke was called; what it said is not believed.
    pub(crate) fn revoked(&mut self, world: &World, victim: Fingerprint) {
        self.heard(world);
        self.evidence.effects.remove("revoke");
        let count = self.evidence.revoke.as_ref().filter(|tried| tried.victim == victim).map_or(0, |tried| tried.count) + 1;
        self.evidence.revoke = Some(RevokeTry { victim, at: boot(), count, said: String::new() });
        normalise(&mut self.evidence);
    }

    /// At the end of a pass: what is of no use any more leaves the memory.
    pub(crate) fn forget(&mut self) {
        let evidence = &mut self.evidence;
        let at_rest = |record: &Record| record.rotation.is_none() && record.retirees.iter().all(|retiree| retiree.why == RetireeKind::Left);
        if evidence.captured.is_none() && evidence.record().is_none_or(at_rest) {
            evidence.held.clear();
            evidence.slots.clear();
            let current = evidence.store.value().and_then(|store| store.current.as_ref()).and_then(|(_, content)| content.token());
            evidence.looks.retain(|token, _| Some(*token) == current);
            evidence.calls.retain(|token, _| Some(*token) == current);
            evidence.attempt = None;
            evidence.revoke = None;
            evidence.effects.retain(|effect, _| effect.starts_with("publish "));
        }
        normalise(evidence);
    }

    /// What the gate says.
    pub(crate) fn confirmed(&mut self, world: &World) {
        if self.life == Life::Ended {
            return;
        }
        let gate =
            world.gate.map(|confirmed| GateEvidence { name: "gate".into(), confirmed: confirmed.map(fingerprint), detail: String::new() });
        self.evidence.gates = gate.into_iter().collect();
    }

    /// Time passes.
    pub(crate) fn ages(&mut self, world: &World, pass: Pass) {
        if self.life == Life::Ended {
            return;
        }
        self.evidence.clock.wall = at(world.now + WALL_AHEAD);
        if let Some(provider) = self.evidence.clock.provider.as_mut() {
            provider.date = at(world.now);
        }
        arrange(&mut self.evidence, |age| match (pass, age) {
            (Pass::Seconds, 0) => 1,
            (Pass::Seconds, 1) | (Pass::Minutes, 0..=2) => 2,
            (Pass::Seconds, age) => age,
            (Pass::Minutes | Pass::Hour | Pass::Long, _) => 3,
        });
    }

    /// The process `name` ended: what it signed is signed by nobody who runs.
    pub(crate) fn ended(&mut self, name: &str) {
        self.with_store(|store| {
            if let Some(Ok(record)) = store.record.as_mut() {
                unsign(record, name);
            }
        });
    }
}

/// A record whose writer has ended.
pub(crate) fn unsign(record: &mut Record, name: &str) {
    let ended = |writer: &mut String| {
        if writer == name {
            "ended".clone_into(writer);
        }
    };
    ended(&mut record.writer);
    if let Some(rotation) = record.rotation.as_mut() {
        ended(&mut rotation.by);
    }
}

const MILLI: SignedDuration = SignedDuration::from_millis(1);

/// The steady clock at the beginning of each age.
fn beginning(age: usize) -> Boot {
    let ago = [SignedDuration::ZERO, SignedDuration::from_secs(35), SignedDuration::from_mins(11), SignedDuration::from_hours(100)][age];
    boot().plus(-ago).plus(-MILLI)
}

fn age_of(at: Boot) -> usize {
    (0..3).find(|age| at >= beginning(*age)).unwrap_or(3)
}

fn normalise(evidence: &mut Evidence) {
    arrange(evidence, |age| age);
}

/// Gives every instant its place: by its age and, within that, by its order.
fn arrange(evidence: &mut Evidence, becomes: impl Fn(usize) -> usize) {
    let mut instants = instants(evidence);
    let mut order: Vec<Boot> = instants.iter().map(|at| **at).filter(|at| *at != Boot::ZERO).collect();
    order.sort();
    order.dedup();
    let mut ranks = [0_i64; 4];
    let places: BTreeMap<Boot, Boot> = order
        .into_iter()
        .map(|at| {
            let age = becomes(age_of(at));
            ranks[age] += 1;
            (at, beginning(age).plus(SignedDuration::from_nanos(ranks[age])))
        })
        .collect();
    for at in &mut instants {
        if let Some(place) = places.get(at) {
            **at = *place;
        }
    }
}

/// Every reading of the steady clock in the evidence.
fn instants(evidence: &mut Evidence) -> Vec<&mut Boot> {
    fn channel<T>(channel: &mut Channel<T>) -> impl Iterator<Item = &mut Boot> {
        channel.seen.iter_mut().map(|seen| &mut seen.asked).chain(channel.trouble.iter_mut().map(|trouble| &mut trouble.at))
    }
    let mut all: Vec<&mut Boot> = Vec::new();
    let Channel { seen, trouble } = &mut evidence.store;
    if let Some(seen) = seen {
        all.extend([&mut seen.asked, &mut seen.value.current_asked, &mut seen.value.record_seen]);
    }
    all.extend(trouble.iter_mut().map(|trouble| &mut trouble.at));
    all.extend(evidence.slots.values_mut().flat_map(channel));
    all.extend(evidence.looks.values_mut().flat_map(channel));
    all.extend(evidence.calls.values_mut().flat_map(channel));
    all.extend(evidence.sinks.iter_mut().flat_map(|sink| channel(&mut sink.read)));
    if let Some(Attempt { state: AttemptState::NotSent(Some(trouble)), .. }) = evidence.attempt.as_mut() {
        all.push(&mut trouble.at);
    }
    all.extend(evidence.revoke.iter_mut().map(|tried| &mut tried.at));
    all.extend(evidence.effects.values_mut().map(|trouble| &mut trouble.at));
    all
}
