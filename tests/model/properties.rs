//! What must hold, by name: the invariants of `src/rotation/mod.rs`, said of the model's world and not of the plan's evidence.

use evertoken::rotation::evidence::AttemptState;
use evertoken::rotation::plan::{CommitKind, Effect, Step};
use evertoken::rotation::record::{Record, RetireeKind, Stage};
use evertoken::rotation::slot::SlotId;
use evertoken::rotation::token::Fingerprint;

use crate::machine::{Outcome, State, refused, unknown, unsent};
use crate::rotator::{Life, Rotator};
use crate::world::{CACHE, Number, World, Written};

/// What one step did, and what it broke.
#[derive(Debug, Default)]
pub(crate) struct Deed {
    pub(crate) broke: Option<String>,
    /// It had been decided on before the process stood still.
    pub(crate) late: bool,
}

impl Deed {
    fn demand(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds && self.broke.is_none() {
            self.broke = Some(what());
        }
    }

    /// An effect arrives, sent by `by` just now or by somebody earlier.
    pub(crate) fn write(&mut self, world: &mut World, effect: &Effect, by: Option<&Rotator>, compare: bool) -> Written {
        let before = world.entry.record.clone();
        let old = world.current();
        // Whoever acts on what was true when it looked cannot know of a person's edit since.
        let knew = by.is_none_or(|by| by.edits_seen.iter().all(|seen| *seen == world.edits));
        if let Effect::Revoke { victim, caller, gate } = effect {
            self.demand(gate.is_open() && victim.fingerprint != *caller, || "I3: a revoke past a closed gate".into());
            // For a revoke only an edit that is younger than its evidence may be is an excuse.
            let knew = by.is_some() && (knew || !(self.late || world.edited_just_now));
            self.demand(!knew || by.is_none_or(|by| !by.veto) || self.late, || "I3: a revoke while the breaker is open".into());
            self.demand(!knew || world.gate.is_none_or(|confirmed| confirmed == Some(world.current())), || {
                "I3: a revoke before the gate has confirmed".into()
            });
            self.demand(!knew || world.entry.record.hold.is_none(), || "I3: a revoke while a person holds the token".into());
            // What the provider ends by itself after it was looked at cannot be known.
            let lived = by.and_then(|by| by.evidence.look(*caller)).is_some_and(|seen| seen.value.introspection.valid);
            self.revoke(world, victim.fingerprint, *caller, knew, lived);
        }
        if let Effect::Promote { token, .. } | Effect::PublishSink { token, .. } = effect {
            let number = world.number(*token);
            let revoked = world.tokens[usize::from(number)].revoked;
            let again = matches!(effect, Effect::Promote { to, .. } if on_its_way_out(world, to, *token)) && world.lives(old);
            // A request that was on its way before that is nobody's decision any more.
            let again = again && by.is_some() && !self.late;
            let written = world.write(effect, compare);
            let done = written == Written::Done;
            self.demand(!(done && revoked), || format!("I1: revoked token {number} was put before consumers"));
            self.demand(!(done && again && old != number), || format!("I7: token {number} is on its way out and is promoted"));
            return written;
        }
        let written = world.write(effect, compare);
        if let Effect::Commit { record, kind, .. } = effect
            && written == Written::Done
            && before != **record
        {
            self.committed(world, &before, record, *kind);
        }
        written
    }

    fn revoke(&mut self, world: &mut World, victim: Fingerprint, caller: Fingerprint, knew: bool, lived: bool) {
        let (number, calling) = (world.number(victim), world.number(caller));
        if !world.lives(number) {
            return;
        }
        let used = world.is_in_use(number);
        let read = world.token(victim).read.map(|read| world.now - read);
        self.demand(!(used && knew), || format!("I1: token {number} is revoked while consumers read it"));
        self.demand(!(read.is_some_and(|ago| ago < CACHE) && knew), || {
            format!("I3: token {number} is revoked {} hours after consumers could read it", read.unwrap_or(0) / 3600)
        });
        self.demand(!knew || lived || world.lives(calling), || format!("I3: a dead token calls for the revoke of token {number}"));
        self.demand(!knew || (world.current() != number && (lived || world.lives(world.current()))), || {
            format!("I4: token {number} is the last one that lives")
        });
        self.demand(!knew || says_revoking(&world.entry.record, victim), || {
            format!("I8: token {number} is revoked, and the record does not say that it may be")
        });
    }

    fn committed(&mut self, world: &World, before: &Record, record: &Record, kind: CommitKind) {
        self.demand(record.number == before.number + 1, || {
            format!("I5: record {} is written over record {}", record.number, before.number)
        });
        self.demand(record.epoch >= before.epoch, || "I7: the epoch went back".into());
        let ended = record.retired.iter().filter(|retired| !before.retired.contains(retired));
        for token in ended {
            let number = world.number(*token);
            self.demand(!world.lives(number), || format!("I9: {kind:?} says that token {number} has ended, and it lives"));
        }
    }

    /// A mint is asked for.
    pub(crate) fn refresh(
        &mut self,
        world: &mut World,
        (rotation, attempt): (&str, u32),
        base: Fingerprint,
        outcome: Outcome,
    ) -> Result<(Fingerprint, bool), Box<AttemptState>> {
        if outcome == Outcome::NotDone {
            return Err(Box::new(unsent()));
        }
        let intent = world.intents.iter_mut().find(|(id, number, _)| id == rotation && *number == attempt);
        let sent = intent.map(|intent| std::mem::replace(&mut intent.2, true));
        self.demand(sent.is_some(), || "I2: a mint without a committed intent".into());
        self.demand(sent != Some(true), || "I2: two mints for one intent".into());
        if outcome == Outcome::LostNot {
            return Err(Box::new(unknown()));
        }
        let number = world.number(base);
        if !world.lives(number) {
            return Err(Box::new(refused()));
        }
        if let Outcome::Same(later) = outcome {
            let now = world.now;
            let token = &mut world.tokens[usize::from(number)];
            token.ends = if later { now + crate::world::LIFE } else { token.ends };
            return Ok((base, true));
        }
        let minted = world.mint(Some((rotation.to_owned(), attempt)), outcome != Outcome::Unfit);
        if matches!(outcome, Outcome::LostDone | Outcome::Died) {
            return Err(Box::new(unknown()));
        }
        world.tokens[usize::from(minted)].received = true;
        Ok((crate::world::fingerprint(minted), outcome != Outcome::Unsealed))
    }
}

/// It was replaced, or was judged to be of no use.
fn on_its_way_out(world: &World, slot: &SlotId, token: Fingerprint) -> bool {
    let record = &world.entry.record;
    world.entry.retiring.contains(slot)
        || record.retired.contains(&token)
        || record.retirees.iter().any(|retiree| retiree.fingerprint == token && retiree.why != RetireeKind::Left)
}

/// The record allows it: of the rotation's old token, or of one that waits.
fn says_revoking(record: &Record, token: Fingerprint) -> bool {
    record.rotation.as_ref().is_some_and(|rotation| rotation.stage == Stage::Revoking && rotation.base.fingerprint == token)
        || record.retirees.iter().any(|retiree| retiree.revoking && retiree.fingerprint == token)
}

/// What must hold in every state.
pub(crate) fn of_state<'a>(state: &State, steps: impl Iterator<Item = &'a Step>) -> Option<String> {
    let world = state.world();
    let kept: Vec<Fingerprint> = state
        .rotators()
        .flat_map(|rotator| {
            let memory = rotator.evidence.captured.as_ref().filter(|_| rotator.life != Life::Ended);
            let memory = memory.and_then(|captured| captured.token.clone().ok());
            memory.into_iter().chain(rotator.spool.as_ref().map(|(_, _, token)| *token))
        })
        .collect();
    for number in 0..Number::try_from(world.tokens.len()).unwrap() {
        let token = &world.tokens[usize::from(number)];
        let Some(from) = &token.from else { continue };
        let stranger = world.lives(number)
            && !world.entry.slots.values().any(|held| *held == number)
            && !kept.contains(&crate::world::fingerprint(number));
        if stranger && token.received {
            return Some(format!("I2: token {number} came, lives, and is in no place of ours"));
        }
        if stranger && !accounted(&world.entry.record, from, token.ends) {
            return Some(format!("I2: token {number} lives, nobody holds it, and no record counts it"));
        }
    }
    // Without a person's act, no rotator ever finds what only a person can have done.
    let upset =
        ["slot_occupied", "foreign_token", "token_dead", "entry_garbled", "entry_emptied", "damaged_record", "frozen", "old_token_gone"];
    if world.edits == 0 && world.lives(world.current()) {
        for step in steps {
            if let Step::Wait { why, .. } | Step::Hold { why, .. } = step
                && upset.contains(&why.code)
            {
                return Some(format!("I5: nobody did anything, and a rotator stops with {}: {}", why.code, why.text));
            }
        }
    }
    None
}

/// The mint is counted, by a row that lasts as long as the token can, or by the attempt that is still open.
fn accounted(record: &Record, (rotation, attempt): &(String, u32), ends: i64) -> bool {
    let row = record
        .unaccounted
        .iter()
        .any(|row| row.rotation == *rotation && row.attempt == *attempt && crate::world::second(row.bound) >= ends);
    let open = record.rotation.as_ref().is_some_and(|open| open.id == *rotation && open.attempt == *attempt && open.stage == Stage::Intent);
    row || open
}

/// A rotator waits, everything is in order, and nothing is left over but what must wait for another rotation.
pub(crate) fn at_rest(world: &World, rotator: &Rotator) -> bool {
    let record = &world.entry.record;
    // What lost its last label, because people moved the labels twice in a row, can only end by itself.
    let gone = |slot: &SlotId| !world.entry.slots.contains_key(slot);
    let waiting = |retiree: &evertoken::rotation::record::Retiree| {
        retiree.why == RetireeKind::Left || retiree.staged_against.as_ref() == Some(&world.entry.current) || gone(&retiree.slot)
    };
    rotator.evidence.captured.is_none()
        && record.rotation.as_ref().is_none_or(|rotation| rotation.stage == Stage::Published && gone(&rotation.base.slot))
        && record.retirees.iter().all(waiting)
        && world.lives(world.current())
        && world.number(record.current.fingerprint) == world.current()
        && world.sinks.iter().all(|sink| sink.token == world.current())
        && world.late.is_empty()
}
