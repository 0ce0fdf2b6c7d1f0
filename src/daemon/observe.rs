//! Answers a look: one call, its answer put into the evidence. Nothing is decided here.

use secrecy::ExposeSecret as _;

use super::disk::on_disk;
use super::fleet::Fleet;
use super::worker::{Place, Worker};
use crate::clock;
use crate::graph::Answer;
use crate::graph::proof::appsecret_proof;
use crate::rotation::evidence::{Called, Captured, Content, Looked, Presence, StoreEvidence};
use crate::rotation::fault::{Certainty, Fault, FaultClass};
use crate::rotation::payload::{Ingredients, Payload};
use crate::rotation::plan::Look;
use crate::rotation::record::Record;
use crate::rotation::slot::SlotId;
use crate::rotation::time::Boot;
use crate::rotation::token::{Fingerprint, Token};
use crate::spool::SlotContent;
use crate::store::{Held, RecordBytes};

/// How long after a record was seen a look that does not show it counts as late; after that, somebody removed it.
const STALE_READ: jiff::SignedDuration = jiff::SignedDuration::from_secs(60);
/// From this usage on the app's calls are spaced.
const USAGE_PRESSED_PERCENT: f64 = 75.0;

impl Worker {
    pub(super) async fn observe(&mut self, fleet: &Fleet, look: &Look) {
        let asked = clock::boot();
        match look {
            Look::Store => self.look_at_store(asked).await,
            Look::Current => self.look_at_current(asked).await,
            Look::Slot(slot) => self.look_at_slot(slot, asked).await,
            Look::Introspect(token) => self.introspect(fleet, *token, asked).await,
            Look::Call(token) => self.call(fleet, *token, asked).await,
            Look::Sink(name) => self.look_at_sink(name, asked).await,
        }
        self.evidence.clock = self.app.clock();
    }

    async fn look_at_store(&mut self, asked: Boot) {
        let looked = match self.place.store.look(&self.place.entry).await {
            Ok(looked) => looked,
            Err(fault) => return self.evidence.store.failed(fault, clock::boot()),
        };
        let known = self.evidence.store.value().map(|store| (store.record_number, store.record_seen));
        let record_number = looked.record.as_ref().map_or(0, |record| record.number);
        if let Some((number, seen)) = known
            && record_number < number
            && clock::boot().since(seen) < STALE_READ
        {
            // A store that reads late shows yesterday's labels beside today's: nothing of such a look is believed.
            let what = format!("the store still shows record {record_number}, record {number} is known to stand");
            return self.evidence.store.failed(Fault::new(Certainty::NotDone, FaultClass::Transient, what), clock::boot());
        }
        let record_seen = known.filter(|(number, _)| *number == record_number).map_or_else(clock::boot, |(_, seen)| seen);
        let current = looked.current.map(|held| self.take_current(held, asked));
        let store = StoreEvidence {
            identity: looked.identity,
            presence: match looked.presence {
                crate::store::Presence::Present => Presence::Present,
                crate::store::Presence::Absent => Presence::Absent,
                crate::store::Presence::Deleting => Presence::Deleting,
            },
            current,
            current_asked: asked,
            staged: looked.staged,
            retiring: looked.retiring,
            record: looked.record.map(|RecordBytes { number, bytes }| Record::decode(number, &bytes)),
            record_number,
            record_seen,
            foreign_rotation: looked.foreign_rotation,
        };
        self.evidence.store.answered(store, asked);
    }

    fn take_current(&mut self, held: Held, asked: Boot) -> (SlotId, Content) {
        let payload = self.policy.payload.published(held.payload);
        let content = self.take_payload(&payload);
        self.evidence.slots.entry(held.slot.clone()).or_default().answered(Some(content.clone()), asked);
        self.payload = Some(payload);
        (held.slot, content)
    }

    fn take_payload(&mut self, payload: &Payload) -> Content {
        let (content, token) = self.policy.payload.content(payload);
        if let Some(token) = token {
            self.hold_text(token);
        }
        content
    }

    pub(super) async fn look_at_current(&mut self, asked: Boot) {
        match self.place.store.current(&self.place.entry).await {
            Ok(held) => {
                let current = held.map(|held| self.take_current(held, asked));
                if let Some(seen) = self.evidence.store.seen.as_mut() {
                    seen.value.current = current;
                    seen.value.current_asked = asked;
                }
                self.evidence.store.trouble = None;
            }
            Err(fault) => {
                // Without it, what is current is not known any more: everything is looked at again.
                self.evidence.store.failed(fault, clock::boot());
                self.forget_store();
            }
        }
    }

    /// The next decision starts from a full look.
    pub(super) fn forget_store(&mut self) {
        if let Some(seen) = self.evidence.store.seen.as_mut() {
            seen.asked = Boot::ZERO;
        }
    }

    async fn look_at_slot(&mut self, slot: &SlotId, asked: Boot) {
        let read = self.place.store.read(&self.place.entry, slot).await;
        match read {
            Ok(payload) => {
                let content = payload.map(|payload| self.take_payload(&payload));
                self.evidence.slots.entry(slot.clone()).or_default().answered(content, asked);
            }
            Err(fault) => self.evidence.slots.entry(slot.clone()).or_default().failed(fault, clock::boot()),
        }
    }

    async fn look_at_sink(&mut self, name: &str, asked: Boot) {
        let Some(place) = self.sinks.iter().find(|place| place.name == name).cloned() else { return };
        let read = place.store.current(&place.entry).await;
        self.mend_access(&place).await;
        let rule = self.policy.payload.clone();
        let Some(sink) = self.evidence.sinks.iter_mut().find(|sink| sink.name == name) else { return };
        match read {
            Ok(held) => sink.read.answered(held.map(|held| (held.slot, rule.content(&held.payload).0)), asked),
            Err(fault) => sink.read.failed(fault, clock::boot()),
        }
    }

    async fn introspect(&mut self, fleet: &Fleet, token: Fingerprint, asked: Boot) {
        let answer = match self.text(token).await {
            Ok(text) => self.app.provider.introspect(&text).await,
            Err(fault) => Answer { result: Err(fault), date: None, usage: crate::graph::Usage::default() },
        };
        let answer = self.heard(fleet, answer);
        let channel = self.evidence.looks.entry(token).or_default();
        match answer.result {
            Ok(introspection) => channel.answered(Looked { introspection, date: answer.date }, asked),
            Err(fault) => channel.failed(fault, clock::boot()),
        }
    }

    async fn call(&mut self, fleet: &Fleet, token: Fingerprint, asked: Boot) {
        let answer = match self.text(token).await {
            Ok(text) => self.app.provider.me(&text).await,
            Err(fault) => Answer { result: Err(fault), date: None, usage: crate::graph::Usage::default() },
        };
        let answer = self.heard(fleet, answer);
        let channel = self.evidence.calls.entry(token).or_default();
        match answer.result {
            Ok(me) => channel.answered(Called { outcome: Ok(me.id), business_integration: me.client_business_id.is_some() }, asked),
            // Only this says something about the token; everything else is trouble of the question.
            Err(fault) if fault.class == FaultClass::TokenDead => {
                channel.answered(Called { outcome: Err(fault), business_integration: false }, asked)
            }
            Err(fault) => channel.failed(fault, clock::boot()),
        }
    }

    /// What every answer of the provider tells beside its content: the provider's time, and how hard the app is pressed.
    pub(super) fn heard<T>(&self, fleet: &Fleet, answer: Answer<T>) -> Answer<T> {
        self.app.saw_date(answer.date);
        if let Some(percent) = answer.usage.percent {
            super::fleet::lock(&fleet.usage).insert(self.app.name.clone(), percent / 100.0);
            if percent >= USAGE_PRESSED_PERCENT {
                // Above three quarters the rate halves: each mint waits for one more place. At 100 and more the provider has said stop.
                let usual = jiff::SignedDuration::from_secs(if percent >= 100.0 { 900 } else { 2 });
                self.app.press(answer.usage.regain_after.unwrap_or_else(|| self.fit(usual)));
            }
        }
        if let Err(fault) = &answer.result
            && fault.class == FaultClass::Throttled
        {
            self.app.press(fault.wait.unwrap_or_else(|| self.fit(jiff::SignedDuration::from_mins(15))));
        }
        answer
    }

    /// A pause that the provider did not state, fitted to the life of the token that met it: a quarter of an hour may be more than
    /// all that a short-lived one has left.
    fn fit(&self, pause: jiff::SignedDuration) -> jiff::SignedDuration {
        let life = self.evidence.record().map_or(crate::rotation::schedule::USUAL_LIFE, |record| record.current.life());
        crate::rotation::schedule::scaled(pause, life)
    }

    /// The text of a token, from memory or from the slot that is known to hold it.
    async fn text(&mut self, token: Fingerprint) -> Result<Token, Fault> {
        if let Some(text) = self.wallet.get(&token) {
            return Ok(text.clone());
        }
        let asked = clock::boot();
        let current = self.evidence.store.value().and_then(|store| store.current.as_ref()).and_then(|(_, content)| content.token());
        if current == Some(token) {
            self.look_at_current(asked).await;
        } else if let Some(slot) = self.slot_of(token) {
            self.look_at_slot(&slot, asked).await;
        }
        let lost = || Fault::new(Certainty::NotDone, FaultClass::Missing, format!("token {token} is in no slot that can be read"));
        self.wallet.get(&token).cloned().ok_or_else(lost)
    }

    fn slot_of(&self, token: Fingerprint) -> Option<SlotId> {
        let read = self
            .evidence
            .slots
            .iter()
            .find(|(_, channel)| channel.value().and_then(Option::as_ref).and_then(Content::token) == Some(token));
        let record = self.evidence.record();
        read.map(|(slot, _)| slot.clone())
            .or_else(|| {
                record?.rotation.as_ref().filter(|rotation| rotation.base.fingerprint == token).map(|rotation| rotation.base.slot.clone())
            })
            .or_else(|| record?.retirees.iter().find(|retiree| retiree.fingerprint == token).map(|retiree| retiree.slot.clone()))
            .or_else(|| record.filter(|record| record.current.fingerprint == token).map(|record| record.current.slot.clone()))
    }

    /// A file that others may read or write since somebody changed its mode is closed again, and that is told.
    async fn mend_access(&self, place: &Place) {
        if !self.mends {
            return;
        }
        let token = self.policy.token.as_str();
        match place.store.mend_access(&place.entry).await {
            Ok(None) => {}
            Ok(Some(was)) => tracing::warn!(
                event = "publish.access",
                alert = true,
                token,
                "{was}, which is not what the store {} gives; it was set right. To do: find out who changed it, and who read the token meanwhile",
                place.name
            ),
            Err(fault) => tracing::debug!(event = "publish.access", token, "mode and group in {} cannot be set: {fault}", place.name),
        }
    }

    /// At the start: a token that an earlier process captured. Later again for as long as the slot is in trouble, so that mending it
    /// is noticed. Where `mend` is false, nothing is changed.
    pub(super) async fn read_spool(&mut self, fleet: &Fleet, mend: bool) {
        self.mends = mend;
        let trouble = self.evidence.spool_trouble.is_some() && self.evidence.captured.is_none();
        if !std::mem::replace(&mut self.spool_read, true) || trouble {
            self.look_into_spool(fleet, mend).await;
        }
    }

    async fn look_into_spool(&mut self, fleet: &Fleet, mend: bool) {
        let (spool, token, keys) = (fleet.spool.clone(), self.policy.token.clone(), self.app.keys());
        let keys: Vec<_> = std::iter::once(keys.seal).chain(keys.open).collect();
        let read = on_disk(move || spool.read(&token, &keys)).await;
        let path = fleet.spool.slot(&self.policy.token);
        self.evidence.spool_trouble = None;
        match read {
            Ok(SlotContent::Empty) => {}
            Ok(SlotContent::Holds { binding, text }) => {
                let token = Token::new(text.expose_secret()).map_err(|error| error.to_string());
                let shown = token.as_ref().map(Token::fingerprint).map_err(Clone::clone);
                if let Ok(token) = token {
                    self.hold_text(token);
                }
                self.evidence.captured =
                    Some(Captured { rotation: binding.rotation, attempt: binding.attempt, token: shown, sealed: true });
            }
            Ok(SlotContent::Locked { key_id, .. }) => {
                self.evidence.spool_trouble = Some(format!(
                    "{} holds a token sealed with key {key_id}, which no configured app secret opens: give the older secret as secret_previous",
                    path.display()
                ));
            }
            Ok(SlotContent::Damaged { why, other_version: false }) if mend => self.set_slot_aside(fleet, why).await,
            Ok(SlotContent::Damaged { why, .. }) => {
                self.evidence.spool_trouble = Some(format!("{} cannot be read: {why}", path.display()));
            }
            Err(trouble) => self.evidence.spool_trouble = Some(trouble),
        }
    }

    /// Nobody can read it any more, so it must not stand in the way of the next mint. What it held is decided by the plan, which counts
    /// an attempt whose token is in no place.
    async fn set_slot_aside(&mut self, fleet: &Fleet, why: &str) {
        let (spool, token) = (fleet.spool.clone(), self.policy.token.clone());
        let path = fleet.spool.slot(&token);
        match on_disk(move || spool.set_aside(&token)).await {
            Ok(kept) => self.announcer.spool(&format!(
                "{} could not be read: {why}. It is kept as {kept} beside it and never used again. If the record has an attempt whose token \
                 was there and nowhere else, that token is counted as unaccounted, with the day by which it has ended",
                path.display()
            )),
            Err(trouble) => {
                self.evidence.spool_trouble = Some(format!("{} cannot be read ({why}), nor set aside: {trouble}", path.display()));
            }
        }
    }

    pub(super) fn ingredients(&self, token: &Token) -> Ingredients {
        Ingredients {
            app_id: self.policy.app_id.clone(),
            system_user_id: self.policy.system_user_id.clone(),
            proof: appsecret_proof(&self.app.keys().secret, token),
        }
    }

    pub(super) fn hold_text(&mut self, token: Token) {
        self.evidence.held.insert(token.fingerprint());
        self.wallet.insert(token.fingerprint(), token);
    }

    pub(super) fn sink(&self, name: &str) -> Option<Place> {
        self.sinks.iter().find(|place| place.name == name).cloned()
    }
}
