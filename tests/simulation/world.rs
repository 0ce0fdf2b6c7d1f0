//! The world outside of the daemon: a provider, an entry with slots and labels as in Secrets Manager, sinks, people. All of it in
//! memory, with a fault at any call when the seed says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use evertoken::clock;
use evertoken::rotation::fault::{Certainty, Fault, FaultClass};
use evertoken::rotation::time::later;
use evertoken::rotation::token::{Expiry, Fingerprint, Introspection};
use jiff::{SignedDuration, Timestamp};

pub(crate) const DAY: SignedDuration = SignedDuration::from_hours(24);
pub(crate) const LIFE: SignedDuration = SignedDuration::from_hours(60 * 24);
pub(crate) const WINDOW: SignedDuration = SignedDuration::from_hours(24);

/// A fixed stream of numbers.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03)
    }
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % sides
    }
    pub(crate) fn chance(&mut self, one_in: u64) -> bool {
        one_in > 0 && self.roll(one_in) == 0
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Minted {
    pub(crate) text: String,
    pub(crate) issued_at: Timestamp,
    pub(crate) ends_at: Timestamp,
    pub(crate) revoked: bool,
    pub(crate) scopes: BTreeSet<String>,
    /// Whether the daemon asked for it (else a person did).
    pub(crate) by_daemon: bool,
    pub(crate) user: String,
}

impl Minted {
    pub(crate) fn works(&self, now: Timestamp) -> bool {
        !self.revoked && now < self.ends_at
    }
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.text)
    }
}

/// A secret as Secrets Manager keeps it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entry {
    pub(crate) slots: BTreeMap<String, String>,
    pub(crate) current: Option<String>,
    pub(crate) staged: BTreeSet<String>,
    pub(crate) retiring: BTreeSet<String>,
    pub(crate) records: BTreeMap<u64, Vec<u8>>,
    pub(crate) versions: u64,
}

/// What may go wrong from now on, each once in so many calls; zero is never.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Odds {
    pub(crate) refused: u64,
    pub(crate) lost_before: u64,
    pub(crate) lost_after: u64,
    pub(crate) crash: u64,
    pub(crate) person: u64,
    pub(crate) same_token: u64,
    pub(crate) fewer_scopes: u64,
    pub(crate) revoke_lies: u64,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) dice: Dice,
    pub(crate) odds: Odds,
    pub(crate) tokens: Vec<Minted>,
    pub(crate) entry: Entry,
    pub(crate) sink: Entry,
    /// When a token could last be read from the entry or the sink.
    pub(crate) readable: BTreeMap<Fingerprint, Timestamp>,
    pub(crate) mints: usize,
    pub(crate) people: u64,
    pub(crate) last_edit: Option<Timestamp>,
    pub(crate) broken: Vec<String>,
    pub(crate) story: Vec<String>,
    pub(crate) crash_now: bool,
}

#[derive(Clone)]
pub(crate) struct Shared(pub(crate) Arc<Mutex<World>>);

/// What becomes of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Well,
    Refused,
    LostBefore,
    LostAfter,
    CrashBefore,
    CrashAfter,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One call: other tasks may run before it, a person may act before it, and the seed says what becomes of it.
    pub(crate) async fn call<T>(&self, name: &str, effect: impl FnOnce(&mut World) -> T) -> Result<T, Fault> {
        let pauses = self.lock().dice.roll(3);
        for _ in 0..pauses {
            tokio::task::yield_now().await;
        }
        let fate = {
            let mut world = self.lock();
            world.maybe_person();
            world.fate()
        };
        let fault = |certainty, class| Err(Fault::new(certainty, class, format!("{name}: {fate:?}")));
        let outcome = match fate {
            Fate::Well => Ok(effect(&mut self.lock())),
            Fate::Refused => fault(Certainty::NotDone, FaultClass::Transient),
            Fate::LostBefore => fault(Certainty::Unknown, FaultClass::Unreachable),
            Fate::LostAfter => {
                drop(effect(&mut self.lock()));
                fault(Certainty::Unknown, FaultClass::Unreachable)
            }
            Fate::CrashBefore | Fate::CrashAfter => {
                if fate == Fate::CrashAfter {
                    drop(effect(&mut self.lock()));
                }
                self.lock().crash_now = true;
                self.lock().tell(format!("{name}: {fate:?}"));
                std::future::pending::<()>().await;
                fault(Certainty::Unknown, FaultClass::Unreachable)
            }
        };
        let mut world = self.lock();
        if fate != Fate::Well {
            world.tell(format!("{name}: {fate:?}"));
        }
        world.note_readable();
        outcome
    }
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut world = Self {
            dice: Dice::new(seed),
            odds: Odds::default(),
            tokens: Vec::new(),
            entry: Entry::default(),
            sink: Entry::default(),
            readable: BTreeMap::new(),
            mints: 0,
            people: 0,
            last_edit: None,
            broken: Vec::new(),
            story: Vec::new(),
            crash_now: false,
        };
        let first = world.mint(false);
        world.entry.slots.insert("v0".into(), first);
        world.entry.current = Some("v0".into());
        world.note_readable();
        world
    }

    pub(crate) fn tell(&mut self, what: impl Into<String>) {
        let line = format!("{} {}", clock::wall(), what.into());
        self.story.push(line);
    }

    fn fate(&mut self) -> Fate {
        let odds = self.odds;
        if self.dice.chance(odds.crash) {
            return if self.dice.chance(2) { Fate::CrashBefore } else { Fate::CrashAfter };
        }
        if self.dice.chance(odds.refused) {
            return Fate::Refused;
        }
        if self.dice.chance(odds.lost_before) {
            return Fate::LostBefore;
        }
        if self.dice.chance(odds.lost_after) { Fate::LostAfter } else { Fate::Well }
    }

    pub(crate) fn mint(&mut self, by_daemon: bool) -> String {
        let text = format!("EAA{:04}x{:016x}", self.tokens.len(), self.dice.roll(u64::MAX));
        let scopes = ["business_management".to_owned(), "ads_read".to_owned()].into();
        let now = clock::wall();
        self.tokens.push(Minted {
            text: text.clone(),
            issued_at: now,
            ends_at: later(now, LIFE),
            revoked: false,
            scopes,
            by_daemon,
            user: "10001".into(),
        });
        text
    }

    pub(crate) fn token(&self, text: &str) -> Option<&Minted> {
        self.tokens.iter().find(|token| token.text == text)
    }

    pub(crate) fn introspection(&self, text: &str) -> Introspection {
        let now = clock::wall();
        let Some(token) = self.token(text) else { return Introspection { error_code: Some(190), ..Introspection::default() } };
        Introspection {
            valid: token.works(now),
            app_id: Some("1234567890".into()),
            user_id: Some(token.user.clone()),
            kind: Some("SYSTEM_USER".into()),
            scopes: token.scopes.clone(),
            issued_at: Some(token.issued_at),
            expires: Some(Expiry::At(token.ends_at)),
            error_code: (!token.works(now)).then_some(190),
            ..Introspection::default()
        }
    }

    /// What consumers can read now, and since when a token cannot be read any more.
    pub(crate) fn note_readable(&mut self) {
        let now = clock::wall();
        for place in [&self.entry, &self.sink] {
            if let Some(text) = place.current.as_ref().and_then(|slot| place.slots.get(slot)) {
                self.readable.insert(Fingerprint::of(text), now);
            }
        }
    }

    pub(crate) fn current_text(&self) -> Option<String> {
        self.entry.current.as_ref().and_then(|slot| self.entry.slots.get(slot)).cloned()
    }

    /// The provider kills a token: allowed only when nobody can have it.
    pub(crate) fn revoke(&mut self, victim: &str) {
        let now = clock::wall();
        let fingerprint = Fingerprint::of(victim);
        let edited = self.last_edit.is_some_and(|at| now.duration_since(at) < SignedDuration::from_mins(3));
        let out_of_use = self.readable.get(&fingerprint).map(|at| now.duration_since(*at));
        if !edited && out_of_use.is_some_and(|for_| for_ < WINDOW) {
            self.broken.push(format!("{now} token {fingerprint} was revoked {out_of_use:?} after it could last be read"));
        }
        if let Some(token) = self.tokens.iter_mut().find(|token| token.text == victim) {
            token.revoked = true;
        }
        self.tell(format!("revoked {fingerprint}"));
    }

    /// People edit the secret: another good token, a rollback, nonsense.
    fn maybe_person(&mut self) {
        if self.people == 0 || !self.dice.chance(self.odds.person) {
            return;
        }
        self.people -= 1;
        self.last_edit = Some(clock::wall());
        match self.dice.roll(3) {
            0 => {
                let text = self.mint(false);
                self.put_as_person(text);
                self.tell("a person put another token");
            }
            1 => {
                let now = clock::wall();
                let works = |text: &String| self.token(text).is_some_and(|token| token.works(now));
                let other = self
                    .entry
                    .slots
                    .iter()
                    .filter(|(slot, text)| Some(*slot) != self.entry.current.as_ref() && works(text))
                    .map(|(slot, _)| slot.clone())
                    .next();
                if let Some(slot) = other {
                    self.entry.current = Some(slot.clone());
                    self.tell(format!("a person rolled back to {slot}"));
                }
            }
            _ => {
                let text = self.current_text().unwrap_or_default();
                self.put_as_person(text);
                self.tell("a person put the same token again");
            }
        }
        self.note_readable();
    }

    pub(crate) fn put_as_person(&mut self, text: String) {
        self.entry.versions += 1;
        let slot = format!("person{}", self.entry.versions);
        self.entry.slots.insert(slot.clone(), text);
        self.entry.current = Some(slot);
    }
}
