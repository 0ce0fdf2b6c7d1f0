//! Everything together: what can happen in a state, and what comes of it. The decisions are those of the production `plan`.

use std::cell::{OnceCell, RefCell};
use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::hash::{Hash as _, Hasher as _};
use std::rc::Rc;

use evertoken::rotation::evidence::AttemptState;
use evertoken::rotation::fault::{Certainty, Fault, FaultClass};
use evertoken::rotation::payload::PayloadRule;
use evertoken::rotation::plan::{Effect, Look, Step, plan};
use evertoken::rotation::policy::Policy;
use evertoken::rotation::record::{Said, Stage};
use evertoken::rotation::slot::SlotId;
use jiff::SignedDuration;

use crate::explore::Model;
use crate::mutants::Mutant;
use crate::properties::{self, Deed};
use crate::rotator::{Life, Pass, Rotator, boot, conflict, lost, not_sent, unsign};
use crate::world::{APP, Budget, HOUR, Number, Place, USER, WINDOW, World, Written, at, second};

/// The rotators' names: one letter each, which stands nowhere else, so that a state's twin is got by exchanging letters.
const NAMES: [&str; 2] = ["α", "β"];

/// What is explored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) rotators: usize,
    pub(crate) sinks: usize,
    /// An acknowledgement gate must confirm before a revoke.
    pub(crate) gate: bool,
    pub(crate) left: Budget,
}

/// Something that can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Step(usize, Outcome),
    /// A process ends; whether its host's disk is lost too.
    Crash(usize, bool),
    Start(usize),
    Stall(usize),
    GoOn(usize),
    Time(Pass),
    /// A person puts a token of their own.
    Put,
    /// A person makes another slot current: its place in the entry.
    RollBack(usize),
    /// A person puts an older token into a sink.
    Overwrite(usize, Number),
    CloseBreaker(usize),
    /// Another token's failed revoke opens the breaker of a process.
    Trip(usize),
    /// A person puts a hold on the token, or ends it.
    Hold(bool),
    /// The provider ends the current token by itself.
    Dies,
    /// The gate confirms the current token.
    Confirms,
    /// A late request arrives.
    Arrives(usize),
}

/// What becomes of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// Certainly not done.
    NotDone,
    /// Done, and the answer is lost.
    LostDone,
    /// Not done, and nobody knows.
    LostNot,
    /// Not done yet, and nobody knows: it arrives later.
    Late,
    /// Done, and it arrives once more later.
    Twice,
    /// A refresh: the same string again, with a later end or not.
    Same(bool),
    /// A refresh: a token with less than the old one could do.
    Unfit,
    /// A refresh: the token came and the spool would not take it.
    Unsealed,
    /// A refresh: the token came and the process ended before it was sealed.
    Died,
    /// A revoke: it says success, and the token lives.
    Lie,
}

/// A rotator with what is computed from it once.
pub(crate) struct Mind {
    rotator: Rotator,
    hashes: [u64; 2],
    step: OnceCell<Step>,
}

/// The world with its hashes.
struct Outside {
    world: World,
    hashes: [u64; 2],
}

#[derive(Clone)]
pub(crate) struct State {
    outside: Rc<Outside>,
    minds: Vec<Rc<Mind>>,
}

impl State {
    pub(crate) fn world(&self) -> &World {
        &self.outside.world
    }
    pub(crate) fn rotators(&self) -> impl Iterator<Item = &Rotator> {
        self.minds.iter().map(|mind| &mind.rotator)
    }
}

pub(crate) struct Machine {
    pub(crate) setting: Setting,
    pub(crate) mutant: Option<Mutant>,
    policy: Policy,
    minds: RefCell<HashMap<u64, Rc<Mind>>>,
    worlds: RefCell<HashMap<u64, Rc<Outside>>>,
}

/// Hashes text as it is and with the rotators' names exchanged.
struct Twins([DefaultHasher; 2]);

impl std::fmt::Write for Twins {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let [as_is, exchanged] = &mut self.0;
        as_is.write(text.as_bytes());
        let (alpha, beta) = ('α', 'β');
        if text.contains([alpha, beta]) {
            let other = |letter| {
                if letter == alpha {
                    beta
                } else if letter == beta {
                    alpha
                } else {
                    letter
                }
            };
            exchanged.write(text.chars().map(other).collect::<String>().as_bytes());
        } else {
            exchanged.write(text.as_bytes());
        }
        Ok(())
    }
}

fn hashes(what: &impl std::fmt::Debug) -> [u64; 2] {
    let mut twins = Twins([DefaultHasher::new(), DefaultHasher::new()]);
    write!(twins, "{what:?}").unwrap();
    twins.0.map(|hasher| hasher.finish())
}

fn together(parts: impl Iterator<Item = u64>) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.for_each(|part| part.hash(&mut hasher));
    hasher.finish()
}

impl Machine {
    pub(crate) fn new(setting: Setting, mutant: Option<Mutant>) -> Self {
        let window = if mutant == Some(Mutant::NoWindow) { HOUR } else { WINDOW };
        let policy = Policy {
            token: "bot".into(),
            app_id: APP.into(),
            system_user_id: USER.into(),
            required_scopes: None,
            adopt_at_sight: true,
            payload: PayloadRule::Raw,
            refresh_at: 0.5,
            jitter: 0.0,
            audit_interval: SignedDuration::from_hours(1),
            min_life: SignedDuration::from_hours(7 * 24),
            window: SignedDuration::from_secs(window),
            consumer_ttl: SignedDuration::from_mins(5),
            tick: SignedDuration::from_secs(30),
            sinks: (0..setting.sinks).map(|sink| sink.to_string()).collect(),
        };
        Self { setting, mutant, policy, minds: RefCell::default(), worlds: RefCell::default() }
    }

    fn mind(&self, mut rotator: Rotator) -> Rc<Mind> {
        let hashes_of = hashes(&rotator);
        if let Some(known) = self.minds.borrow().get(&hashes_of[0]) {
            return known.clone();
        }
        let step = OnceCell::new();
        let mut hash = hashes_of;
        if rotator.life == Life::Runs {
            let planned = self.decide(&rotator);
            if matches!(planned, Step::Wait { .. } | Step::Hold { .. }) {
                rotator.forget();
                hash = hashes(&rotator);
                let _again = step.set(self.decide(&rotator));
            } else {
                let _first = step.set(planned);
            }
        }
        let mind = Rc::new(Mind { rotator, hashes: hash, step });
        self.minds.borrow_mut().insert(hashes_of[0], mind.clone());
        mind
    }

    fn decide(&self, rotator: &Rotator) -> Step {
        self.mutant.map_or_else(|| plan(&rotator.evidence, &self.policy), |mutant| mutant.decide(rotator, &self.policy))
    }

    fn outside(&self, world: World) -> Rc<Outside> {
        let hashes = hashes(&world);
        self.worlds.borrow_mut().entry(hashes[0]).or_insert_with(|| Rc::new(Outside { world, hashes })).clone()
    }

    /// The step that a rotator takes next, if it takes one.
    fn step<'a>(&self, mind: &'a Mind) -> Option<&'a Step> {
        match mind.rotator.life {
            Life::Ended | Life::Stands(_) => None,
            Life::Runs => mind.step.get(),
            Life::GoesOn(ref effect) => Some(mind.step.get_or_init(|| Step::Do((**effect).clone()))),
        }
    }

    /// How long the rotators that run are content to wait; `None`: one is not.
    fn all_wait(&self, state: &State) -> Option<SignedDuration> {
        let mut least = SignedDuration::MAX;
        for mind in &state.minds {
            match self.step(mind) {
                None => {}
                Some(Step::Wait { until, .. } | Step::Hold { again: until, .. }) => least = least.min(until.since(boot())),
                Some(Step::Look(_) | Step::Do(_)) => return None,
            }
        }
        Some(least)
    }

    /// The next instant of the provider's clock at which something changes by itself.
    fn next_instant(&self, world: &World) -> Option<i64> {
        let record = &world.entry.record;
        let window = self.policy.window.as_secs();
        let waits = record.retirees.iter().any(|_| true) || record.rotation.is_some();
        let published = record.published.as_ref().filter(|_| waits).map(|published| second(published.at));
        let since = record.retirees.iter().map(|retiree| second(retiree.since) + window + 1);
        let windows = published.into_iter().flat_map(|from| [from + window / 2, from + window + 1]);
        let pauses = record.backoff.iter().map(|pause| second(pause.not_before) + 1);
        let due = world.token(record.current.fingerprint);
        let due = due.issued.max(second(record.current.issued_at)) + (due.ends - due.issued) / 2;
        let bounds = record.unaccounted.iter().map(|row| second(row.bound) + 1);
        let over = world.tokens.iter().filter(|token| !token.dead).map(|token| token.ends + 301);
        let next = windows.chain(since).chain(pauses).chain(bounds).chain(over).chain([due]).filter(|at| *at > world.now).min()?;
        let open = record.rotation.as_ref().is_some_and(|rotation| matches!(rotation.stage, Stage::Intent | Stage::Between));
        (next != due || world.left.rotations > 0 || open).then_some(next)
    }
}

impl Model for Machine {
    type State = State;
    type Action = Action;

    fn initial(&self) -> State {
        let world = World::new(self.setting.sinks, self.setting.gate, self.setting.left);
        let minds = NAMES.iter().take(self.setting.rotators).map(|name| self.mind(Rotator::start(name, &world, None, false))).collect();
        State { outside: self.outside(world), minds }
    }

    fn hash(&self, state: &State) -> u64 {
        let mut hashes = [0, 1].map(|twin| {
            let mut minds: Vec<u64> = state.minds.iter().map(|mind| mind.hashes[twin]).collect();
            if twin == 1 {
                minds.reverse();
            }
            together(std::iter::once(state.outside.hashes[twin]).chain(minds))
        });
        if state.minds.len() == 2 {
            hashes.sort_unstable();
        }
        hashes[0]
    }

    fn is_goal(&self, state: &State) -> bool {
        state.minds.iter().any(|mind| {
            mind.rotator.life == Life::Runs
                && match mind.step.get() {
                    Some(Step::Hold { why, .. }) => why.remedy.is_some(),
                    Some(Step::Wait { why, .. }) => why.remedy.is_some() || properties::at_rest(state.world(), &mind.rotator),
                    Some(Step::Look(_) | Step::Do(_)) | None => false,
                }
        })
    }

    fn actions(&self, state: &State) -> Vec<Action> {
        let mut actions = Vec::new();
        let world = state.world();
        for (who, mind) in state.minds.iter().enumerate() {
            self.actions_of(who, mind, world, &mut actions);
        }
        if let Some(least) = self.all_wait(state) {
            if self.next_instant(world).is_some_and(|at| at - world.now <= 1_200) {
                actions.push(Action::Time(Pass::Long));
            } else if least <= SignedDuration::from_secs(35) {
                actions.push(Action::Time(Pass::Seconds));
            } else if least <= SignedDuration::from_mins(12) {
                actions.push(Action::Time(Pass::Minutes));
            } else {
                actions.push(Action::Time(Pass::Long));
            }
            if state.minds.iter().any(|mind| matches!(mind.rotator.life, Life::Stands(_))) {
                actions.push(Action::Time(Pass::Hour));
            }
        }
        if world.left.edits > 0 {
            actions.push(Action::Put);
            let others = world.entry.slots.iter().enumerate();
            let others = others.filter(|(_, (slot, token))| **slot != world.entry.current && world.lives(**token));
            actions.extend(others.map(|(place, _)| Action::RollBack(place)));
        }
        if world.left.sink_edits > 0 {
            let tokens: HashSet<Number> = world.entry.slots.values().copied().filter(|token| world.lives(*token)).collect();
            let mut tokens: Vec<Number> = tokens.into_iter().collect();
            tokens.sort_unstable();
            for (sink, place) in world.sinks.iter().enumerate() {
                actions.extend(tokens.iter().filter(|token| **token != place.token).map(|token| Action::Overwrite(sink, *token)));
            }
        }
        let held = world.entry.record.hold.is_some();
        if held || world.left.holds > 0 {
            actions.push(Action::Hold(!held));
        }
        if world.left.deaths > 0 && world.lives(world.current()) {
            actions.push(Action::Dies);
        }
        if world.gate.is_some_and(|confirmed| confirmed != Some(world.current())) {
            actions.push(Action::Confirms);
        }
        actions.extend((0..world.late.len()).map(Action::Arrives));
        actions
    }

    fn apply(&self, state: &State, action: Action) -> Option<(State, Option<String>)> {
        let mut deed = Deed::default();
        let mut next = state.clone();
        let mut world = state.world().clone();
        match action {
            Action::Step(who, outcome) => {
                let mut rotator = state.minds[who].rotator.clone();
                let step = self.step(&state.minds[who])?.clone();
                deed.late = matches!(rotator.life, Life::GoesOn(_));
                if deed.late {
                    rotator.life = Life::Runs;
                }
                self.take(&mut world, &mut rotator, &step, outcome, &mut deed);
                if outcome == Outcome::Died {
                    self.end(&mut world, &mut next, who, &mut rotator);
                }
                next.minds[who] = self.mind(rotator);
            }
            Action::Crash(who, disk_lost) => {
                let mut rotator = state.minds[who].rotator.clone();
                world.left.crashes -= 1;
                let held = rotator.evidence.captured.as_ref().filter(|captured| disk_lost || !captured.sealed);
                for token in held
                    .and_then(|captured| captured.token.clone().ok())
                    .into_iter()
                    .chain(rotator.spool.take_if(|_| disk_lost).map(|(_, _, token)| token))
                {
                    world.token_mut(token).received = false;
                }
                self.end(&mut world, &mut next, who, &mut rotator);
                next.minds[who] = self.mind(rotator);
            }
            Action::Start(who) => {
                let ended = &state.minds[who].rotator;
                next.minds[who] = self.mind(Rotator::start(NAMES[who], &world, ended.spool.clone(), ended.veto));
            }
            Action::Stall(who) => {
                let mut rotator = state.minds[who].rotator.clone();
                world.left.stalls -= 1;
                rotator.life = Life::Stands(match self.step(&state.minds[who])? {
                    Step::Do(effect) => Some(Box::new(effect.clone())),
                    Step::Look(_) | Step::Wait { .. } | Step::Hold { .. } => None,
                });
                next.minds[who] = self.mind(rotator);
            }
            Action::GoOn(who) => {
                let mut rotator = state.minds[who].rotator.clone();
                let Life::Stands(effect) = rotator.life else { return None };
                rotator.life = effect.map_or(Life::Runs, Life::GoesOn);
                next.minds[who] = self.mind(rotator);
            }
            Action::Time(pass) => {
                if pass == Pass::Long {
                    // At the end of all budgets only audits are left: an hour, which is nothing to a window.
                    let instant = self.next_instant(&world).unwrap_or(world.now);
                    let record = &world.entry.record;
                    let due = world.token(record.current.fingerprint);
                    if instant == due.issued + (due.ends - due.issued) / 2 {
                        world.left.rotations = world.left.rotations.saturating_sub(1);
                    }
                    world.now = instant;
                }
                world.edited_just_now &= pass == Pass::Seconds;
                for mind in &mut next.minds {
                    let mut rotator = mind.rotator.clone();
                    rotator.ages(&world, pass);
                    *mind = self.mind(rotator);
                }
            }
            Action::Put => {
                let number = world.mint(None, true);
                let slot = SlotId::new(format!("person {}", world.edits));
                world.entry.slots.insert(slot.clone(), number);
                self.edit(&mut world, slot);
            }
            Action::RollBack(place) => {
                let slot = world.entry.slots.keys().nth(place)?.clone();
                self.edit(&mut world, slot);
            }
            Action::Overwrite(sink, token) => {
                world.left.sink_edits -= 1;
                world.edits += 1;
                world.edited_just_now = true;
                let version = world.sinks[sink].version + 1;
                world.sinks[sink] = Place { version, token };
            }
            Action::CloseBreaker(who) => {
                let mut rotator = state.minds[who].rotator.clone();
                rotator.veto = false;
                rotator.evidence.breaker.open = None;
                next.minds[who] = self.mind(rotator);
            }
            Action::Trip(who) => {
                let mut rotator = state.minds[who].rotator.clone();
                world.left.trips -= 1;
                rotator.veto = true;
                rotator.evidence.breaker.open = Some("veto".into());
                next.minds[who] = self.mind(rotator);
            }
            Action::Hold(on) => {
                let mut record = world.entry.record.next("person");
                record.hold = on.then(|| Said { at: at(world.now), why: "hold".into() });
                world.entry.record = record;
                world.left.holds -= u8::from(on);
                world.edits += 1;
                world.edited_just_now = true;
            }
            Action::Dies => {
                world.left.deaths -= 1;
                let number = world.current();
                world.tokens[usize::from(number)].dead = true;
            }
            Action::Confirms => {
                world.gate = Some(Some(world.current()));
                for mind in &mut next.minds {
                    let mut rotator = mind.rotator.clone();
                    rotator.confirmed(&world);
                    *mind = self.mind(rotator);
                }
            }
            Action::Arrives(place) => {
                let effect = world.late.remove(place);
                deed.write(&mut world, &effect, None, self.compares(&effect));
            }
        }
        world.note_reads();
        next.outside = self.outside(world);
        let broke = deed.broke.or_else(|| properties::of_state(&next, next.minds.iter().filter_map(|mind| self.step(mind))));
        Some((next, broke))
    }

    fn describe(&self, state: &State, action: Action) -> String {
        let name = |who: usize| ["A", "B"][who];
        match action {
            Action::Step(who, outcome) => {
                let step = self.step(&state.minds[who]);
                format!("{}: {}{}", name(who), step.map_or_else(String::new, |step| shown(state.world(), step)), outcome.shown())
            }
            Action::Crash(who, disk_lost) => format!("{} is killed{}", name(who), if disk_lost { ", and its disk is lost" } else { "" }),
            Action::Start(who) => format!("{} starts", name(who)),
            Action::Stall(who) => {
                let step = self.step(&state.minds[who]).map_or_else(String::new, |step| shown(state.world(), step));
                format!("{} stands still, about to: {step}", name(who))
            }
            Action::GoOn(who) => format!("{} goes on", name(who)),
            Action::Time(Pass::Seconds) => "35 seconds pass".into(),
            Action::Time(Pass::Minutes) => "11 minutes pass".into(),
            Action::Time(Pass::Hour) => "an hour passes".into(),
            Action::Time(Pass::Long) => {
                let hours = self.next_instant(state.world()).map_or(0, |at| (at - state.world().now) / 3600);
                format!("{hours} hours pass")
            }
            Action::Put => "a person puts a token of their own".into(),
            Action::RollBack(place) => {
                let token = state.world().entry.slots.values().nth(place).map_or(0, |token| *token);
                format!("a person makes token {token} current again")
            }
            Action::Overwrite(sink, token) => format!("a person puts token {token} into sink {sink}"),
            Action::CloseBreaker(who) => format!("a person closes the breaker of {}", name(who)),
            Action::Trip(who) => format!("another token opens the breaker of {}", name(who)),
            Action::Hold(true) => "a person puts a hold on the token".into(),
            Action::Hold(false) => "a person releases the token".into(),
            Action::Dies => format!("the provider ends token {}", state.world().current()),
            Action::Confirms => format!("the gate confirms token {}", state.world().current()),
            Action::Arrives(place) => format!("late, this arrives: {}", shown_effect(state.world(), &state.world().late[place])),
        }
    }

    fn level_done(&self) {
        self.minds.borrow_mut().retain(|_, mind| Rc::strong_count(mind) > 1);
        self.worlds.borrow_mut().retain(|_, world| Rc::strong_count(world) > 1);
    }
}

impl Machine {
    fn actions_of(&self, who: usize, mind: &Mind, world: &World, actions: &mut Vec<Action>) {
        let rotator = &mind.rotator;
        match &rotator.life {
            Life::Ended => return actions.push(Action::Start(who)),
            Life::Stands(_) => {
                actions.push(Action::GoOn(who));
                if world.left.crashes > 0 {
                    actions.push(Action::Crash(who, false));
                }
                return;
            }
            Life::Runs | Life::GoesOn(_) => {}
        }
        let step = self.step(mind);
        if let Some(step) = step {
            outcomes(step, world, |outcome| actions.push(Action::Step(who, outcome)));
        }
        if world.left.crashes > 0 {
            actions.push(Action::Crash(who, false));
            if rotator.spool.is_some() {
                actions.push(Action::Crash(who, true));
            }
        }
        if world.left.stalls > 0 && rotator.life == Life::Runs && matches!(step, Some(Step::Look(_) | Step::Do(_))) {
            actions.push(Action::Stall(who));
        }
        if rotator.veto {
            actions.push(Action::CloseBreaker(who));
        } else if world.left.trips > 0 {
            actions.push(Action::Trip(who));
        }
    }

    fn compares(&self, effect: &Effect) -> bool {
        self.mutant.is_none_or(|mutant| mutant.compares(effect))
    }

    fn edit(&self, world: &mut World, slot: SlotId) {
        world.left.edits -= 1;
        world.edits += 1;
        world.edited_just_now = true;
        // What a person displaces is the person's business from then on.
        let displaced = world.current();
        world.tokens[usize::from(displaced)].from = None;
        world.make_current(slot);
        world.unseen_edit = true;
    }

    fn end(&self, world: &mut World, next: &mut State, who: usize, rotator: &mut Rotator) {
        rotator.end(world);
        unsign(&mut world.entry.record, NAMES[who]);
        for effect in &mut world.late {
            if let Effect::Commit { record, .. } = effect {
                unsign(record, NAMES[who]);
            }
        }
        for (other, mind) in next.minds.iter_mut().enumerate().filter(|(other, _)| *other != who) {
            let mut rotator = mind.rotator.clone();
            rotator.ended(NAMES[who]);
            debug_assert!(other != who);
            *mind = self.mind(rotator);
        }
    }

    /// One step of a rotator.
    fn take(&self, world: &mut World, rotator: &mut Rotator, step: &Step, outcome: Outcome, deed: &mut Deed) {
        spend(&mut world.left, outcome);
        let effect = match step {
            Step::Look(look) if outcome == Outcome::Done => return rotator.look(world, look),
            Step::Look(look) => return rotator.look_fails(look),
            Step::Wait { .. } | Step::Hold { .. } => return,
            Step::Do(effect) => effect,
        };
        match effect {
            Effect::Refresh { rotation, attempt, base } => {
                let came = deed.refresh(world, (rotation, *attempt), *base, outcome);
                let came = self.mutant.map_or_else(|| came.clone(), |mutant| mutant.came(&came));
                rotator.refreshed(world, rotation, *attempt, *base, came);
                if self.mutant == Some(Mutant::Unsealed) {
                    rotator.spool = None;
                }
            }
            Effect::Revoke { victim, .. } => {
                if outcome == Outcome::Done {
                    deed.write(world, effect, Some(rotator), true);
                } else if outcome == Outcome::Late {
                    world.late.push(effect.clone());
                }
                rotator.revoked(world, victim.fingerprint);
            }
            Effect::DropCaptured | Effect::OpenBreaker { .. } | Effect::ProveBeside => rotator.done(world, effect),
            Effect::Commit { .. }
            | Effect::Stage { .. }
            | Effect::MarkRetiring { .. }
            | Effect::Promote { .. }
            | Effect::PublishSink { .. }
            | Effect::Unmark { .. } => self.write(world, rotator, effect, outcome, deed),
        }
    }

    fn write(&self, world: &mut World, rotator: &mut Rotator, effect: &Effect, outcome: Outcome, deed: &mut Deed) {
        let arrives = matches!(outcome, Outcome::Done | Outcome::LostDone | Outcome::Twice);
        let written = if arrives { deed.write(world, effect, Some(rotator), self.compares(effect)) } else { Written::Done };
        if matches!(outcome, Outcome::Late | Outcome::Twice) {
            world.late.push(effect.clone());
            world.late.sort_by_key(|effect| format!("{effect:?}"));
        }
        match (outcome, written) {
            (Outcome::LostNot | Outcome::LostDone, _) if self.mutant.is_some_and(|mutant| mutant.trusts(effect)) => {
                rotator.done(world, effect)
            }
            (Outcome::Done | Outcome::Twice, Written::Done) => rotator.done(world, effect),
            (Outcome::Done | Outcome::Twice, Written::Conflict) => rotator.failed(effect, conflict()),
            (Outcome::NotDone, _) => rotator.failed(effect, conflict()),
            _ => rotator.failed(effect, lost()),
        }
    }
}

/// What may become of a step, as far as the budget goes.
fn outcomes(step: &Step, world: &World, mut add: impl FnMut(Outcome)) {
    let left = &world.left;
    let effect = match step {
        Step::Wait { .. } | Step::Hold { .. } => return,
        Step::Look(_) => None,
        Step::Do(effect) => Some(effect),
    };
    add(Outcome::Done);
    let mut when = |budget: u8, outcomes: &[Outcome]| {
        if budget > 0 {
            outcomes.iter().copied().for_each(&mut add);
        }
    };
    match effect {
        None => when(left.failures, &[Outcome::NotDone]),
        Some(Effect::Refresh { .. }) => {
            when(left.failures, &[Outcome::NotDone, Outcome::Unsealed]);
            when(left.lost, &[Outcome::LostDone, Outcome::LostNot]);
            when(left.same, &[Outcome::Same(true), Outcome::Same(false)]);
            when(left.unfit, &[Outcome::Unfit]);
            when(left.crashes, &[Outcome::Died]);
        }
        Some(Effect::Revoke { .. }) => {
            when(left.failures, &[Outcome::NotDone]);
            when(left.lies, &[Outcome::Lie]);
            when(left.late, &[Outcome::Late]);
        }
        Some(Effect::DropCaptured | Effect::OpenBreaker { .. } | Effect::ProveBeside) => {}
        Some(effect) => {
            when(left.failures, &[Outcome::NotDone]);
            when(left.lost, &[Outcome::LostDone, Outcome::LostNot]);
            when(left.late, &[Outcome::Late]);
            if !matches!(effect, Effect::Commit { .. }) {
                when(left.late, &[Outcome::Twice]);
            }
        }
    }
}

fn spend(left: &mut Budget, outcome: Outcome) {
    let budget = match outcome {
        Outcome::Done => return,
        Outcome::NotDone | Outcome::Unsealed => &mut left.failures,
        Outcome::LostDone | Outcome::LostNot => &mut left.lost,
        Outcome::Late | Outcome::Twice => &mut left.late,
        Outcome::Same(_) => &mut left.same,
        Outcome::Unfit => &mut left.unfit,
        Outcome::Died => &mut left.crashes,
        Outcome::Lie => &mut left.lies,
    };
    *budget -= 1;
}

impl Outcome {
    fn shown(self) -> &'static str {
        match self {
            Self::Done => "",
            Self::NotDone => " -- fails",
            Self::LostDone => " -- happens, the answer is lost",
            Self::LostNot => " -- is lost",
            Self::Late => " -- is on its way, no answer",
            Self::Twice => " -- happens, and will arrive once more",
            Self::Same(true) => " -- the same string, with a later end",
            Self::Same(false) => " -- the same string, with the same end",
            Self::Unfit => " -- a token without the old one's scope",
            Self::Unsealed => " -- a token, which the spool does not take",
            Self::Died => " -- a token, and the process is killed before it is sealed",
            Self::Lie => " -- says success, the token lives",
        }
    }
}

/// What a refresh came to, for the evidence.
pub(crate) fn unknown() -> AttemptState {
    AttemptState::Unknown(lost())
}

pub(crate) fn unsent() -> AttemptState {
    AttemptState::NotSent(Some(evertoken::rotation::evidence::Trouble { count: 1, at: boot(), fault: not_sent() }))
}

pub(crate) fn refused() -> AttemptState {
    AttemptState::Refused(Fault::new(Certainty::NotDone, FaultClass::TokenDead, "fault"))
}

fn shown(world: &World, step: &Step) -> String {
    let token = |token| format!("token {}", world.number(token));
    match step {
        Step::Look(Look::Store) => "looks at the entry".into(),
        Step::Look(Look::Current) => "looks at what is current".into(),
        Step::Look(Look::Slot(slot)) => format!("reads slot {}", slot.last8()),
        Step::Look(Look::Introspect(looked)) => format!("introspects {}", token(*looked)),
        Step::Look(Look::Call(called)) => format!("calls with {}", token(*called)),
        Step::Look(Look::Sink(sink)) => format!("reads sink {sink}"),
        Step::Do(effect) => shown_effect(world, effect),
        Step::Wait { why, .. } | Step::Hold { why, .. } => format!("waits: {} {}", why.code, why.text),
    }
}

fn shown_effect(world: &World, effect: &Effect) -> String {
    let token = |token| format!("token {}", world.number(token));
    let held = |slot: &SlotId| world.entry.slots.get(slot).map_or_else(|| "nothing".to_owned(), |token| format!("token {token}"));
    match effect {
        Effect::Commit { record, kind, .. } => format!("commits record {}: {kind:?}", record.number),
        Effect::Refresh { base, .. } => format!("refreshes {}", token(*base)),
        Effect::Stage { token: staged, .. } => format!("stages {}", token(*staged)),
        Effect::MarkRetiring { slot } => format!("marks {} as on its way out", held(slot)),
        Effect::Promote { from, token: promoted, .. } => format!("promotes {} over {}", token(*promoted), held(from)),
        Effect::PublishSink { sink, token: published, .. } => format!("writes {} to sink {sink}", token(*published)),
        Effect::Unmark { slot, .. } => format!("takes the mark off {}", held(slot)),
        Effect::Revoke { victim, .. } => format!("revokes {}", token(victim.fingerprint)),
        Effect::DropCaptured | Effect::OpenBreaker { .. } | Effect::ProveBeside => effect.name().replace('_', " "),
    }
}
