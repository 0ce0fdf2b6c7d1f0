//! The world through the daemon's own traits.

use async_trait::async_trait;
use evertoken::clock;
use evertoken::graph::{Answer, Me, Provider, Refreshed, Usage};
use evertoken::rotation::fault::{Certainty, Fault, FaultClass};
use evertoken::rotation::payload::Payload;
use evertoken::rotation::slot::SlotId;
use evertoken::rotation::token::{Introspection, Token};
use evertoken::store::{Finding, Held, Looked, Mark, Presence, RecordBytes, SecretStore, Written};
use secrecy::SecretString;

use crate::world::{Entry, Shared, World};

pub(crate) struct Graph(pub(crate) Shared);

/// `Date` has whole seconds.
fn answer<T>(result: Result<T, Fault>) -> Answer<T> {
    let now = clock::wall();
    let date = jiff::Timestamp::from_second(now.as_second()).ok().filter(|_| result.is_ok());
    Answer { result, date, usage: Usage::default() }
}

#[async_trait]
impl Provider for Graph {
    async fn refresh(&self, old: &Token) -> Answer<Refreshed> {
        let old = old.expose().to_owned();
        let minted = self.0.call("refresh", |world| {
            if !world.introspection(&old).valid {
                return Err(Fault::new(Certainty::NotDone, FaultClass::TokenDead, "dead"));
            }
            world.mints += 1;
            let same = world.odds.same_token;
            if world.dice.chance(same) {
                return Ok(old.clone());
            }
            let text = world.mint(true);
            let fewer = world.odds.fewer_scopes;
            if world.dice.chance(fewer)
                && let Some(token) = world.tokens.last_mut()
            {
                token.scopes.remove("ads_read");
            }
            Ok(text)
        });
        let minted = minted.await.and_then(|minted| minted);
        // A call whose effect is certain not to have happened without a word of the provider was never sent.
        let minted = minted.map_err(|fault| {
            if fault.class == FaultClass::Transient && fault.certainty == Certainty::NotDone {
                Fault { class: FaultClass::Unreachable, ..fault }
            } else {
                fault
            }
        });
        answer(minted.map(|text| Refreshed { text: SecretString::from(text), expires_in: None }))
    }

    async fn introspect(&self, token: &Token) -> Answer<Introspection> {
        let text = token.expose().to_owned();
        answer(self.0.call("introspect", |world| world.introspection(&text)).await)
    }

    async fn introspect_app(&self) -> Answer<Introspection> {
        answer(Ok(Introspection { valid: true, ..Introspection::default() }))
    }

    async fn me(&self, token: &Token) -> Answer<Me> {
        let text = token.expose().to_owned();
        let me = self.0.call("me", |world| world.introspection(&text)).await;
        answer(me.and_then(|look| {
            if look.valid {
                Ok(Me { id: look.user_id, ..Me::default() })
            } else {
                Err(Fault::new(Certainty::NotDone, FaultClass::TokenDead, "dead"))
            }
        }))
    }

    async fn revoke(&self, victim: &Token, caller: &Token) -> Answer<bool> {
        let (victim, caller) = (victim.expose().to_owned(), caller.expose().to_owned());
        let revoked = self.0.call("revoke", |world| {
            if !world.introspection(&caller).valid {
                return Err(Fault::new(Certainty::NotDone, FaultClass::TokenDead, "the caller is dead"));
            }
            let lies = world.odds.revoke_lies;
            if !world.dice.chance(lies) {
                world.revoke(&victim);
            }
            Ok(true)
        });
        answer(revoked.await.and_then(|revoked| revoked))
    }
}

/// The entry, or the sink, as a store.
pub(crate) struct Memory {
    pub(crate) shared: Shared,
    pub(crate) sink: bool,
}

impl Memory {
    async fn on<T>(&self, name: &str, effect: impl FnOnce(&mut Entry) -> T) -> Result<T, Fault> {
        let sink = self.sink;
        let name = if sink { format!("sink {name}") } else { name.to_owned() };
        self.shared.call(&name, |world: &mut World| effect(if sink { &mut world.sink } else { &mut world.entry })).await
    }
}

fn held(entry: &Entry) -> Option<Held> {
    let slot = entry.current.as_ref()?;
    Some(Held { slot: SlotId::new(slot.clone()), payload: Payload::new(entry.slots.get(slot)?.clone()) })
}

#[async_trait]
impl SecretStore for Memory {
    fn kind(&self) -> &'static str {
        "memory"
    }

    async fn look(&self, _entry: &str) -> Result<Looked, Fault> {
        self.on("look", |entry| Looked {
            identity: "entry".into(),
            presence: Presence::Present,
            current: held(entry),
            staged: entry.staged.iter().map(SlotId::new).collect(),
            retiring: entry.retiring.iter().map(SlotId::new).collect(),
            record: entry.records.last_key_value().map(|(number, bytes)| RecordBytes { number: *number, bytes: bytes.clone() }),
            foreign_rotation: None,
        })
        .await
    }

    async fn current(&self, _entry: &str) -> Result<Option<Held>, Fault> {
        self.on("current", |entry| held(entry)).await
    }

    async fn read(&self, _entry: &str, slot: &SlotId) -> Result<Option<Payload>, Fault> {
        self.on("read", |entry| entry.slots.get(slot.as_str()).map(|text| Payload::new(text.clone()))).await
    }

    async fn write_record(&self, _entry: &str, record: &RecordBytes, _read_back: bool) -> Result<Written, Fault> {
        self.on("record", |entry| {
            if entry.records.last_key_value().is_some_and(|(number, _)| *number > record.number) {
                return Written::Conflict;
            }
            let known = entry.records.entry(record.number).or_insert_with(|| record.bytes.clone());
            if *known == record.bytes { Written::Done } else { Written::Conflict }
        })
        .await
    }

    async fn stage(&self, _entry: &str, slot: &SlotId, payload: &Payload) -> Result<Written, Fault> {
        self.on("stage", |entry| {
            let known = entry.slots.entry(slot.as_str().to_owned()).or_insert_with(|| payload.expose().to_owned());
            if known != payload.expose() {
                return Written::Conflict;
            }
            entry.staged.insert(slot.as_str().to_owned());
            Written::Done
        })
        .await
    }

    async fn mark_retiring(&self, _entry: &str, slot: &SlotId) -> Result<Written, Fault> {
        self.on("mark", |entry| {
            if !entry.slots.contains_key(slot.as_str()) {
                return Written::Conflict;
            }
            entry.retiring.insert(slot.as_str().to_owned());
            Written::Done
        })
        .await
    }

    async fn promote(&self, _entry: &str, from: &SlotId, to: &SlotId) -> Result<Written, Fault> {
        self.on("promote", |entry| {
            if entry.current.as_deref() != Some(from.as_str()) || !entry.slots.contains_key(to.as_str()) {
                return Written::Conflict;
            }
            entry.current = Some(to.as_str().to_owned());
            Written::Done
        })
        .await
    }

    async fn unmark(&self, _entry: &str, slot: &SlotId, mark: Mark) -> Result<Written, Fault> {
        self.on("unmark", |entry| {
            let marks = if mark == Mark::Staged { &mut entry.staged } else { &mut entry.retiring };
            marks.remove(slot.as_str());
            Written::Done
        })
        .await
    }

    async fn install(&self, _entry: &str, _payload: &Payload, _create: bool) -> Result<Written, Fault> {
        Ok(Written::Conflict)
    }

    async fn publish(&self, _entry: &str, expected: Option<&SlotId>, payload: &Payload) -> Result<Written, Fault> {
        self.on("publish", |entry| {
            if entry.current.as_deref() != expected.map(SlotId::as_str) {
                return Written::Conflict;
            }
            entry.versions += 1;
            let slot = format!("p{}", entry.versions);
            entry.slots.insert(slot.clone(), payload.expose().to_owned());
            entry.current = Some(slot);
            Written::Done
        })
        .await
    }

    async fn examine(&self, _entry: &str) -> Result<Vec<Finding>, Fault> {
        Ok(Vec::new())
    }

    async fn prove_beside(&self, _entry: &str) -> Result<Written, Fault> {
        Ok(Written::Done)
    }
}
