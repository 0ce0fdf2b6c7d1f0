//! The world outside of the rotators: the provider's tokens, the entry with slots and labels as in Secrets Manager, the sinks, what
//! is still on its way to the store; and, for the properties only, what has been read by whom and which mints were announced.
//!
//! Consumers are not single states. Whatever stood in a place at some instant may be held by a consumer for half a window after
//! it, by any number of them: so a token may die only half a window after it could last be read ([`Minted::read`]).

use std::collections::{BTreeMap, BTreeSet};

use evertoken::rotation::plan::{CommitKind, Effect};
use evertoken::rotation::record::{Known, Record, Stage};
use evertoken::rotation::slot::SlotId;
use evertoken::rotation::time::later;
use evertoken::rotation::token::{Expiry, Fingerprint, Introspection};
use jiff::{SignedDuration, Timestamp};

/// Provider time zero: the birth of the first token.
const BIRTH: Timestamp = Timestamp::constant(1_800_000_000, 0);
pub(crate) const HOUR: i64 = 3_600;
pub(crate) const DAY: i64 = 24 * HOUR;
pub(crate) const LIFE: i64 = 60 * DAY;
pub(crate) const WINDOW: i64 = DAY;
/// How long a consumer may hold what it read.
pub(crate) const CACHE: i64 = WINDOW / 2;
pub(crate) const IDENTITY: &str = "entry";
pub(crate) const USER: &str = "10001";
pub(crate) const APP: &str = "1234567890";

pub(crate) fn at(second: i64) -> Timestamp {
    later(BIRTH, SignedDuration::from_secs(second))
}

pub(crate) fn second(at: Timestamp) -> i64 {
    at.duration_since(BIRTH).as_secs()
}

/// A token's number: its place in [`World::tokens`].
pub(crate) type Number = u8;

pub(crate) fn fingerprint(token: Number) -> Fingerprint {
    Fingerprint::of(&format!("token {token}"))
}

/// Everything outside of the rotators.
#[derive(Debug, Clone)]
pub(crate) struct World {
    /// The provider's clock, seconds since the first token's birth.
    pub(crate) now: i64,
    pub(crate) tokens: Vec<Minted>,
    pub(crate) entry: Held,
    pub(crate) sinks: Vec<Place>,
    /// Requests to store and provider that are still on their way.
    pub(crate) late: Vec<Effect>,
    /// What may still go wrong.
    pub(crate) left: Budget,
    /// Edits by people so far.
    pub(crate) edits: u8,
    /// A person's last edit was within the age that evidence for a revoke may have.
    pub(crate) edited_just_now: bool,
    /// The token that the acknowledgement gate has confirmed, where there is one.
    pub(crate) gate: Option<Option<Number>>,
    /// A person's last edit that no rotator has seen yet.
    pub(crate) unseen_edit: bool,
    /// Committed intents: rotation, attempt, and whether a mint was sent for it.
    pub(crate) intents: Vec<(String, u32, bool)>,
}

/// A token at the provider.
#[derive(Debug, Clone)]
pub(crate) struct Minted {
    pub(crate) issued: i64,
    pub(crate) ends: i64,
    pub(crate) dead: bool,
    /// It is dead by a rotator's revoke.
    pub(crate) revoked: bool,
    pub(crate) fit: bool,
    /// The intent that it was minted for; a person's token has none.
    pub(crate) from: Option<(String, u32)>,
    /// It came to a rotator that has not lost it since with its host.
    pub(crate) received: bool,
    pub(crate) was_current: bool,
    /// When it could last be read by a consumer.
    pub(crate) read: Option<i64>,
}

/// The entry.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) slots: BTreeMap<SlotId, Number>,
    pub(crate) current: SlotId,
    pub(crate) previous: Option<SlotId>,
    pub(crate) staged: BTreeSet<SlotId>,
    pub(crate) retiring: BTreeSet<SlotId>,
    pub(crate) record: Record,
}

/// A sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) version: u8,
    pub(crate) token: Number,
}

impl Place {
    pub(crate) fn slot(self) -> SlotId {
        SlotId::new(format!("sink {}", self.version))
    }
}

/// How often something may go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Budget {
    /// Processes that end at any instant.
    pub(crate) crashes: u8,
    /// Answers that never come, whether the effect happened or not.
    pub(crate) lost: u8,
    /// Clean failures.
    pub(crate) failures: u8,
    /// Requests that arrive later, or once more later.
    pub(crate) late: u8,
    /// Processes that stand still with a step in their hands while time passes.
    pub(crate) stalls: u8,
    /// Edits of the entry by people.
    pub(crate) edits: u8,
    /// Edits of a sink by people.
    pub(crate) sink_edits: u8,
    /// Refreshes that return the same string.
    pub(crate) same: u8,
    /// Refreshes that return a token which is not fit.
    pub(crate) unfit: u8,
    /// Revokes that say success and do nothing.
    pub(crate) lies: u8,
    /// Current tokens that the provider ends by itself.
    pub(crate) deaths: u8,
    /// Breakers that another token opens.
    pub(crate) trips: u8,
    /// Holds that a person puts on the token.
    pub(crate) holds: u8,
    /// Rotations that fall due.
    pub(crate) rotations: u8,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    Done,
    Conflict,
}

impl World {
    /// A token at the middle of its life, current and in every sink, adopted, and due.
    pub(crate) fn new(sinks: usize, gate: bool, left: Budget) -> Self {
        let now = LIFE / 2;
        let first = Minted {
            issued: 0,
            ends: LIFE,
            dead: false,
            revoked: false,
            fit: true,
            from: None,
            received: false,
            was_current: true,
            read: Some(now),
        };
        let slot = SlotId::new("first");
        let known = Known {
            slot: slot.clone(),
            fingerprint: fingerprint(0),
            since: at(0),
            issued_at: at(0),
            expires: Expiry::At(at(LIFE)),
            scopes: BTreeSet::from(["s".to_owned()]),
            granular: BTreeMap::new(),
        };
        let entry = Held {
            slots: BTreeMap::from([(slot.clone(), 0)]),
            current: slot,
            previous: None,
            staged: BTreeSet::new(),
            retiring: BTreeSet::new(),
            record: Record::first(1, "ended", known),
        };
        Self {
            now,
            tokens: vec![first],
            entry,
            sinks: vec![Place { version: 0, token: 0 }; sinks],
            late: Vec::new(),
            left: Budget { rotations: left.rotations.saturating_sub(1), ..left },
            edits: 0,
            edited_just_now: false,
            gate: gate.then_some(None),
            unseen_edit: false,
            intents: Vec::new(),
        }
    }

    pub(crate) fn number(&self, token: Fingerprint) -> Number {
        (0..Number::try_from(self.tokens.len()).unwrap()).find(|number| fingerprint(*number) == token).unwrap()
    }

    pub(crate) fn token(&self, token: Fingerprint) -> &Minted {
        &self.tokens[usize::from(self.number(token))]
    }

    pub(crate) fn token_mut(&mut self, token: Fingerprint) -> &mut Minted {
        let number = self.number(token);
        &mut self.tokens[usize::from(number)]
    }

    pub(crate) fn lives(&self, number: Number) -> bool {
        let token = &self.tokens[usize::from(number)];
        !token.dead && self.now < token.ends
    }

    pub(crate) fn current(&self) -> Number {
        self.entry.slots[&self.entry.current]
    }

    /// Every place that consumers read holds it now.
    pub(crate) fn is_in_use(&self, number: Number) -> bool {
        self.current() == number || self.sinks.iter().any(|sink| sink.token == number)
    }

    pub(crate) fn mint(&mut self, from: Option<(String, u32)>, fit: bool) -> Number {
        let (issued, ends) = (self.now, self.now + LIFE);
        self.tokens.push(Minted { issued, ends, dead: false, revoked: false, fit, received: false, from, was_current: false, read: None });
        Number::try_from(self.tokens.len() - 1).unwrap()
    }

    pub(crate) fn introspection(&self, token: Fingerprint) -> Introspection {
        let number = self.number(token);
        let (valid, token) = (self.lives(number), self.token(token));
        Introspection {
            valid,
            app_id: Some(APP.into()),
            user_id: Some(USER.into()),
            kind: Some("SYSTEM_USER".into()),
            scopes: if token.fit { BTreeSet::from(["s".to_owned()]) } else { BTreeSet::new() },
            issued_at: Some(at(token.issued)),
            expires: Some(Expiry::At(at(token.ends))),
            error_code: (!valid).then_some(190),
            ..Introspection::default()
        }
    }

    /// A request arrives at the store. `compare`: as a store does that compares before it sets.
    pub(crate) fn write(&mut self, effect: &Effect, compare: bool) -> Written {
        let entry = &mut self.entry;
        match effect {
            Effect::Commit { record, kind, .. } => {
                if compare && record.number != entry.record.number + 1 {
                    return if entry.record == **record { Written::Done } else { Written::Conflict };
                }
                entry.record = (**record).clone();
                if *kind == CommitKind::Intent
                    && let Some(rotation) = record.rotation.as_ref().filter(|rotation| rotation.stage == Stage::Intent)
                {
                    self.intents.push((rotation.id.clone(), rotation.attempt, false));
                }
            }
            Effect::Stage { slot, token } => {
                let number = self.number(*token);
                let entry = &mut self.entry;
                if *entry.slots.entry(slot.clone()).or_insert(number) != number {
                    return Written::Conflict;
                }
                entry.staged.insert(slot.clone());
            }
            Effect::MarkRetiring { slot } => {
                if !entry.slots.contains_key(slot) {
                    return Written::Conflict;
                }
                entry.retiring.insert(slot.clone());
            }
            Effect::Promote { from, to, .. } => {
                if (compare && entry.current != *from) || !entry.slots.contains_key(to) {
                    return Written::Conflict;
                }
                self.make_current(to.clone());
            }
            Effect::PublishSink { sink, expected, token } => {
                let number = self.number(*token);
                let place = self.sink_mut(sink);
                if compare && Some(place.slot()) != *expected {
                    return Written::Conflict;
                }
                *place = Place { version: place.version + 1, token: number };
            }
            Effect::Unmark { slot, retiring } => {
                if *retiring {
                    entry.retiring.remove(slot)
                } else {
                    entry.staged.remove(slot)
                };
                self.collect();
            }
            Effect::Revoke { victim, .. } => {
                let token = self.token_mut(victim.fingerprint);
                token.revoked |= !token.dead;
                token.dead = true;
            }
            Effect::ProveBeside | Effect::Refresh { .. } | Effect::DropCaptured | Effect::OpenBreaker { .. } => {}
        }
        Written::Done
    }

    pub(crate) fn sink_mut(&mut self, name: &str) -> &mut Place {
        let place: usize = name.parse().unwrap();
        &mut self.sinks[place]
    }

    /// What was current stays findable as the previous one; what no label holds is gone.
    pub(crate) fn make_current(&mut self, slot: SlotId) {
        if self.entry.current != slot {
            self.entry.previous = Some(std::mem::replace(&mut self.entry.current, slot));
        }
        let number = self.current();
        self.tokens[usize::from(number)].was_current = true;
        self.collect();
    }

    fn collect(&mut self) {
        let Held { slots, current, previous, staged, retiring, .. } = &mut self.entry;
        slots.retain(|slot, _| slot == current || Some(slot) == previous.as_ref() || staged.contains(slot) || retiring.contains(slot));
    }

    /// Consumers read everything that can be read, at every instant.
    pub(crate) fn note_reads(&mut self) {
        let now = self.now;
        for number in 0..Number::try_from(self.tokens.len()).unwrap() {
            // What a person put and took back before anyone looked cannot be known by looking.
            let seen = self.sinks.iter().any(|sink| sink.token == number) || (self.current() == number && !self.unseen_edit);
            let token = &mut self.tokens[usize::from(number)];
            if seen {
                token.read = Some(now);
            }
            // Longer ago is all the same.
            token.read = token.read.filter(|read| !token.dead && now - read < CACHE);
        }
    }
}
