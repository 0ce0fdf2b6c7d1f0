//! Does one effect and puts its outcome into the evidence. Whether it is wise is not asked here: the plan has decided.
//!
//! Each effect ends in one of three ways. *Done*: the evidence is changed as the effect changed the world. *Not done* and *unknown*:
//! the trouble is counted, so that the plan spaces the next try, and the store is looked at again before anything else.

use jiff::SignedDuration;
use secrecy::ExposeSecret as _;

use super::announce::Told;
use super::disk::on_disk;
use super::fleet::{Fleet, lock};
use super::worker::Worker;
use crate::clock;
use crate::rotation::evidence::{Attempt, AttemptState, Captured, RevokeTry, Trouble};
use crate::rotation::fault::{Certainty, Fault, FaultClass};
use crate::rotation::plan::{CommitKind, Effect};
use crate::rotation::record::Record;
use crate::rotation::revoke_gate::{Gate, Victim};
use crate::rotation::slot::SlotId;
use crate::rotation::token::{Fingerprint, Token};
use crate::spool::Binding;
use crate::store::{Mark, RecordBytes, Written};

impl Worker {
    pub(super) async fn act(&mut self, fleet: &Fleet, effect: &Effect) {
        let began = clock::boot();
        let outcome = self.perform(fleet, effect).await;
        self.evidence.clock = self.app.clock();
        let took = clock::boot().since(began);
        fleet.metrics.step_took(effect.name(), took.unsigned_abs());
        match outcome {
            Ok(()) => {
                self.evidence.effects.remove(&effect.key());
                fleet.metrics.step(&self.policy.token, effect.name(), "done");
                fleet.vitals.succeeded(&self.policy.token, effect.name());
            }
            Err(fault) => {
                let result = if fault.certainty == Certainty::Unknown { "unknown" } else { "not_done" };
                fleet.metrics.step(&self.policy.token, effect.name(), result);
                fleet.metrics.failure(&self.policy.token, effect.name(), fault.class);
                let count = self.evidence.effects.get(&effect.key()).map_or(0, |trouble| trouble.count).saturating_add(1);
                self.announcer.failed(&self.evidence, effect, &fault, count);
                self.evidence.effects.insert(effect.key(), Trouble { count, at: clock::boot(), fault });
                self.forget_store();
            }
        }
    }

    async fn perform(&mut self, fleet: &Fleet, effect: &Effect) -> Result<(), Fault> {
        match effect {
            Effect::ProveBeside => self.prove_beside(fleet).await,
            Effect::Commit { record, kind, detail, read_back } => self.commit(fleet, record, *kind, detail, *read_back).await,
            Effect::Refresh { rotation, attempt, base } => self.refresh(fleet, rotation, *attempt, *base).await,
            Effect::Stage { slot, token } => self.stage(fleet, slot, *token).await,
            Effect::DropCaptured => self.drop_captured(fleet).await,
            Effect::MarkRetiring { slot } => self.mark_retiring(fleet, slot).await,
            Effect::Promote { from, to, token } => self.promote(fleet, from, to, *token).await,
            Effect::PublishSink { sink, expected, token } => self.publish(fleet, sink, expected.as_ref(), *token).await,
            Effect::Unmark { slot, retiring } => self.unmark(fleet, slot, *retiring).await,
            Effect::Revoke { victim, caller, gate } => self.revoke(fleet, victim, *caller, gate).await,
            Effect::OpenBreaker { why } => {
                fleet.breaker(|breaker| breaker.open(clock::wall(), why));
                self.announcer.tell(fleet, &self.evidence, Told::BreakerOpened { why }).await;
                Ok(())
            }
        }
    }

    /// Writes to stores are paced, because an account's quota is everybody's.
    async fn place_to_write(&self, fleet: &Fleet) {
        let wait = lock(&fleet.pace).write(clock::boot());
        if wait > SignedDuration::ZERO {
            tokio::time::sleep(wait.unsigned_abs()).await;
        }
    }

    async fn prove_beside(&mut self, fleet: &Fleet) -> Result<(), Fault> {
        self.place_to_write(fleet).await;
        match self.place.store.prove_beside(&self.place.entry).await? {
            Written::Done => {
                self.evidence.proven_beside = true;
                Ok(())
            }
            Written::Conflict => {
                let what = "a version put beside the current one became current; it was moved back, and this entry is not managed";
                Err(Fault::new(Certainty::NotDone, FaultClass::Denied, what))
            }
        }
    }

    async fn commit(&mut self, fleet: &Fleet, record: &Record, kind: CommitKind, detail: &str, read_back: bool) -> Result<(), Fault> {
        if kind == CommitKind::Intent && self.evidence.spool_trouble.is_none() {
            self.make_room(fleet).await;
            if let Some(trouble) = &self.evidence.spool_trouble {
                // The plan did not know of it. It decides anew: to wait, or to go on without a spool because the token is about to end.
                return Err(Fault::new(Certainty::NotDone, FaultClass::Limit, format!("no room for a token in the spool: {trouble}")));
            }
        }
        let bytes = record.encode().map_err(|error| Fault::new(Certainty::NotDone, FaultClass::Limit, error.to_string()))?;
        self.place_to_write(fleet).await;
        match self.place.store.write_record(&self.place.entry, &RecordBytes { number: record.number, bytes }, read_back).await? {
            Written::Done => {}
            Written::Conflict => return Err(conflict("another writer committed a record first")),
        }
        let before = self.evidence.record().cloned();
        if let Some(seen) = self.evidence.store.seen.as_mut() {
            seen.value.record = Some(Ok(record.clone()));
            seen.value.record_number = record.number;
            seen.value.record_seen = clock::boot();
        }
        self.after_commit(fleet, record, kind);
        self.announcer.tell(fleet, &self.evidence, Told::Committed { record, before: before.as_ref(), kind, detail }).await;
        Ok(())
    }

    fn after_commit(&mut self, fleet: &Fleet, record: &Record, kind: CommitKind) {
        if kind == CommitKind::Intent {
            let number = record.rotation.as_ref().map_or(1, |rotation| rotation.attempt);
            let rotation = record.rotation.as_ref().map(|rotation| rotation.id.clone()).unwrap_or_default();
            self.evidence.attempt = Some(Attempt { rotation, number, state: AttemptState::NotSent(None) });
            self.evidence.revoke = None;
        }
        // Only a revoke of this process proves the canary.
        if kind == CommitKind::Revoked && self.evidence.revoke.take().is_some() {
            fleet.breaker(crate::rotation::breaker::Breaker::prove);
        }
        if kind == CommitKind::Quarantined && fleet.breaker(|breaker| breaker.reject(clock::boot(), clock::wall(), fleet.size())) {
            let why = fleet.breaker(|breaker| breaker.veto().map(|veto| veto.why.clone())).unwrap_or_default();
            tracing::error!(
                event = "breaker.opened",
                alert = true,
                token = self.policy.token,
                why,
                "revokes are forbidden for the whole fleet until `evertoken breaker close`"
            );
        }
    }

    /// A disk that is full months later must not keep a token from its rotation: an adopted token has its slot from its first pass on.
    pub(super) async fn keep_room(&mut self, fleet: &Fleet) {
        if !self.room && self.evidence.record().is_some() && self.evidence.captured.is_none() && self.evidence.spool_trouble.is_none() {
            self.make_room(fleet).await;
        }
    }

    /// Before each mint too, while there is still time to say that it cannot be: the slot may have been deleted meanwhile.
    async fn make_room(&mut self, fleet: &Fleet) {
        let (spool, token) = (fleet.spool.clone(), self.policy.token.clone());
        self.evidence.spool_trouble = on_disk(move || spool.allocate(&token)).await.err();
        self.room = self.evidence.spool_trouble.is_none();
    }

    async fn refresh(&mut self, fleet: &Fleet, rotation: &str, attempt: u32, base: Fingerprint) -> Result<(), Fault> {
        let Some(token) = self.wallet.get(&base).cloned() else {
            return Err(Fault::new(Certainty::NotDone, FaultClass::Missing, "the current token's text is not at hand"));
        };
        lock(&fleet.pace).minted(clock::boot());
        self.announcer.tell(fleet, &self.evidence, Told::RefreshBegins { rotation, attempt }).await;
        let before = self.evidence.attempt.take();
        let answer = self.app.provider.refresh(&token).await;
        let answer = self.heard(fleet, answer);
        let mut state = match answer.result {
            Ok(refreshed) => {
                self.capture(fleet, rotation, attempt, refreshed.text).await;
                self.evidence.looks.remove(&base); // Its end may have moved: the same token may have come back.
                AttemptState::Answered
            }
            // Only a failure to connect has no answer of Graph's and is certain all the same.
            Err(fault) if fault.certainty == Certainty::NotDone && fault.class == FaultClass::Unreachable => {
                let failures = match before.map(|before| before.state) {
                    Some(AttemptState::NotSent(Some(trouble))) => trouble.count,
                    _ => 0,
                };
                AttemptState::NotSent(Some(Trouble { count: failures.saturating_add(1), at: clock::boot(), fault }))
            }
            Err(fault) if fault.certainty == Certainty::NotDone => AttemptState::Refused(fault),
            Err(fault) => AttemptState::Unknown(fault),
        };
        self.announcer.tell(fleet, &self.evidence, Told::RefreshEnded { rotation, attempt, state: &state }).await;
        if let AttemptState::NotSent(Some(trouble)) = &mut state {
            trouble.at = clock::boot();
        }
        self.evidence.attempt = Some(Attempt { rotation: rotation.to_owned(), number: attempt, state });
        Ok(())
    }

    /// Before anything else the token is sealed on disk. Where that fails it stays in memory, and is staged at once.
    async fn capture(&mut self, fleet: &Fleet, rotation: &str, attempt: u32, text: secrecy::SecretString) {
        let identity = self.evidence.store.value().map(|store| store.identity.clone()).unwrap_or_default();
        let binding = Binding { identity, rotation: rotation.to_owned(), attempt };
        let (spool, name, key, sealed_text) = (fleet.spool.clone(), self.policy.token.clone(), self.app.keys().seal, text.clone());
        let trouble = on_disk(move || spool.capture(&name, &binding, &sealed_text, &key)).await.err();
        let token = Token::new(text.expose_secret()).map_err(|error| error.to_string());
        let shown = token.as_ref().map(Token::fingerprint).map_err(Clone::clone);
        if let Ok(token) = token {
            self.hold_text(token);
        }
        self.evidence.captured = Some(Captured { rotation: rotation.to_owned(), attempt, token: shown, sealed: trouble.is_none() });
        if let Some(trouble) = trouble {
            self.announcer
                .spool(&format!("the captured token could not be sealed on disk: {trouble}. It is in memory, and staged at once"));
            self.evidence.spool_trouble = Some(trouble);
        }
    }

    async fn stage(&mut self, fleet: &Fleet, slot: &SlotId, token: Fingerprint) -> Result<(), Fault> {
        let text = self.held_text(token)?;
        let payload = self
            .policy
            .payload
            .render(&text, &self.ingredients(&text), self.payload.as_ref())
            .map_err(|error| Fault::new(Certainty::NotDone, FaultClass::BadRequest, format!("the payload cannot be made: {error}")))?;
        self.place_to_write(fleet).await;
        let written = self.place.store.stage(&self.place.entry, slot, &payload).await?;
        // What counts is what can be read back: under our name, byte for byte.
        let read = self.place.store.read(&self.place.entry, slot).await?;
        let asked = clock::boot();
        let Some(read) = read else { return Err(conflict("what was staged cannot be read back yet")) };
        let content = self.policy.payload.content(&read).0;
        self.evidence.slots.entry(slot.clone()).or_default().answered(Some(content), asked);
        if let Some(seen) = self.evidence.store.seen.as_mut()
            && !seen.value.staged.contains(slot)
        {
            seen.value.staged.push(slot.clone());
        }
        self.announcer
            .tell(fleet, &self.evidence, Told::Staged { slot, token, as_ours: read == payload && written == Written::Done })
            .await;
        Ok(())
    }

    async fn drop_captured(&mut self, fleet: &Fleet) -> Result<(), Fault> {
        let (spool, token) = (fleet.spool.clone(), self.policy.token.clone());
        let trouble = on_disk(move || spool.clear(&token)).await.err();
        // It is safe in the store; a slot that cannot be wiped only keeps the next mint from using it.
        self.evidence.captured = None;
        self.evidence.spool_trouble = trouble;
        Ok(())
    }

    async fn mark_retiring(&mut self, fleet: &Fleet, slot: &SlotId) -> Result<(), Fault> {
        self.place_to_write(fleet).await;
        if self.place.store.mark_retiring(&self.place.entry, slot).await? == Written::Conflict {
            return Err(conflict("the slot of the old token is gone"));
        }
        if let Some(seen) = self.evidence.store.seen.as_mut()
            && !seen.value.retiring.contains(slot)
        {
            seen.value.retiring.push(slot.clone());
        }
        self.announcer.tell(fleet, &self.evidence, Told::Marked { slot }).await;
        Ok(())
    }

    async fn promote(&mut self, fleet: &Fleet, from: &SlotId, to: &SlotId, token: Fingerprint) -> Result<(), Fault> {
        self.place_to_write(fleet).await;
        if self.place.store.promote(&self.place.entry, from, to).await? == Written::Conflict {
            return Err(conflict("what was to be replaced is not current any more"));
        }
        self.look_at_current(clock::boot()).await;
        self.announcer.tell(fleet, &self.evidence, Told::Promoted { from, to, token }).await;
        Ok(())
    }

    async fn publish(&mut self, fleet: &Fleet, sink: &str, expected: Option<&SlotId>, token: Fingerprint) -> Result<(), Fault> {
        let Some(place) = self.sink(sink) else { return Ok(()) };
        if self.payload.is_none() {
            self.look_at_current(clock::boot()).await;
        }
        let Some(payload) = self.payload.clone() else { return Err(conflict("what consumers read is not at hand")) };
        if self.policy.payload.content(&payload).0.token() != Some(token) {
            return Err(conflict("the current token changed meanwhile"));
        }
        self.place_to_write(fleet).await;
        let written = place.store.publish(&place.entry, expected, &payload).await;
        if let Some(evidence) = self.evidence.sinks.iter_mut().find(|evidence| evidence.name == sink) {
            // Whatever came of it, the sink is read back.
            evidence.read.seen = None;
        }
        fleet.metrics.published(&self.policy.token, sink, if matches!(written, Ok(Written::Done)) { "done" } else { "failed" });
        match written? {
            Written::Done => {
                self.announcer.tell(fleet, &self.evidence, Told::SinkWritten { sink, token }).await;
                Ok(())
            }
            Written::Conflict => Err(conflict("somebody else wrote the sink meanwhile")),
        }
    }

    async fn unmark(&mut self, fleet: &Fleet, slot: &SlotId, retiring: bool) -> Result<(), Fault> {
        self.place_to_write(fleet).await;
        let mark = if retiring { Mark::Retiring } else { Mark::Staged };
        if self.place.store.unmark(&self.place.entry, slot, mark).await? == Written::Conflict {
            return Err(conflict("the mark is held by another slot"));
        }
        if let Some(seen) = self.evidence.store.seen.as_mut() {
            let marked = if retiring { &mut seen.value.retiring } else { &mut seen.value.staged };
            marked.retain(|marked| marked != slot);
        }
        Ok(())
    }

    async fn revoke(&mut self, fleet: &Fleet, victim: &Victim, caller: Fingerprint, gate: &Gate) -> Result<(), Fault> {
        // The gate was open when this was planned; that it still is, on the same evidence, costs nothing to say again.
        if !gate.is_open() || victim.fingerprint == caller {
            return Err(Fault::new(Certainty::NotDone, FaultClass::BadRequest, "a revoke was planned with a closed gate"));
        }
        let (victim_text, caller_text) = (self.held_text(victim.fingerprint)?, self.held_text(caller)?);
        self.announcer.tell(fleet, &self.evidence, Told::RevokeBegins { victim: victim.fingerprint, caller, gate }).await;
        fleet.breaker(|breaker| breaker.spend(clock::boot()));
        let count = self.evidence.revoke.as_ref().filter(|tried| tried.victim == victim.fingerprint).map_or(0, |tried| tried.count) + 1;
        let at = clock::boot();
        let answer = self.app.provider.revoke(&victim_text, &caller_text).await;
        let answer = self.heard(fleet, answer);
        let said = match &answer.result {
            Ok(true) => "success".to_owned(),
            Ok(false) => "an answer without success".to_owned(),
            Err(fault) => fault.to_string(),
        };
        self.announcer.tell(fleet, &self.evidence, Told::RevokeAnswered { victim: victim.fingerprint, said: &said }).await;
        self.evidence.revoke = Some(RevokeTry { victim: victim.fingerprint, at, count, said });
        Ok(())
    }

    fn held_text(&self, token: Fingerprint) -> Result<Token, Fault> {
        self.wallet
            .get(&token)
            .cloned()
            .ok_or_else(|| Fault::new(Certainty::NotDone, FaultClass::Missing, format!("the text of token {token} is not at hand")))
    }
}

/// Somebody else was first: certain, harmless, and over after a look.
fn conflict(what: &str) -> Fault {
    Fault::new(Certainty::NotDone, FaultClass::Transient, what)
}
