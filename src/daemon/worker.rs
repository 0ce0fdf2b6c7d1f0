//! One token's worker: looks, asks the plan, does one thing, looks again.
//!
//! A worker exists for each configured token and runs only when it is due; between passes it is a row in the planner. It carries
//! evidence from pass to pass, but nothing depends on that: a fresh worker comes to the same decisions after a few looks.

use std::collections::HashMap;
use std::sync::Arc;

use super::announce::Announcer;
use super::fleet::{App, Fleet, lock};
use crate::rotation::command::{self, Answer, Command};
use crate::rotation::evidence::Evidence;
use crate::rotation::fault::FaultClass;
use crate::rotation::health::{Phase, TokenStatus, phase, status};
use crate::rotation::payload::Payload;
use crate::rotation::plan::{CommitKind, Effect, Look, Reason, Step, plan};
use crate::rotation::policy::Policy;
use crate::rotation::record::RetireeKind;
use crate::rotation::time::Boot;
use crate::rotation::token::{Fingerprint, Token};
use crate::store::SecretStore;

/// Steps of one pass. A clean rotation takes about forty; more than this is a loop, which is told and spaced instead of run.
const STEPS_MAX: usize = 400;

/// A token's place: a store and the entry in it.
#[derive(Clone)]
pub struct Place {
    /// The store's configured name.
    pub name: String,
    /// The store.
    pub store: Arc<dyn SecretStore>,
    /// The entry.
    pub entry: String,
}

/// One token's worker.
pub struct Worker {
    pub(super) policy: Policy,
    pub(super) app: Arc<App>,
    pub(super) place: Place,
    pub(super) sinks: Vec<Place>,
    pub(super) evidence: Evidence,
    /// The texts of tokens, for as long as a rotation needs them.
    pub(super) wallet: HashMap<Fingerprint, Token>,
    /// What consumers read now, for sinks and for payloads that keep parts of it.
    pub(super) payload: Option<Payload>,
    pub(super) announcer: Announcer,
    pub(super) spool_read: bool,
    /// The slot for a captured token is there.
    pub(super) room: bool,
    /// This is a pass, and not a look that changes nothing.
    pub(super) mends: bool,
}

/// How a pass ended.
#[derive(Debug, Clone)]
pub struct PassEnd {
    /// When to run the next one.
    pub next: Boot,
    /// Why not earlier.
    pub why: Reason,
    /// The status to show.
    pub status: TokenStatus,
}

impl Worker {
    /// A worker that knows nothing yet.
    #[must_use]
    pub fn new(policy: Policy, app: Arc<App>, place: Place, sinks: Vec<Place>, fleet: &Fleet) -> Self {
        let evidence = Evidence::new(app.clock(), fleet.sign(), &policy.sinks, Vec::new());
        let announcer = Announcer::new(policy.token.clone());
        Self {
            policy,
            app,
            place,
            sinks,
            evidence,
            wallet: HashMap::new(),
            payload: None,
            announcer,
            spool_read: false,
            room: false,
            mends: false,
        }
    }

    /// The configured name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.policy.token
    }

    /// When the token's life ends, as far as known; what is due is run in this order.
    #[must_use]
    pub fn urgency(&self) -> jiff::Timestamp {
        self.evidence.record().and_then(|record| record.current.expires.at()).unwrap_or(jiff::Timestamp::MAX)
    }

    /// The record's rotation, and whether anything is left to do for it.
    #[must_use]
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// The app's configured name.
    #[must_use]
    pub fn app_name(&self) -> &str {
        &self.app.name
    }

    /// How far the token is, as far as is known.
    #[must_use]
    pub fn phase(&self) -> Phase {
        phase(&self.evidence, &plan(&self.evidence, &self.policy))
    }

    /// What is known of the token now, without a look.
    #[must_use]
    pub fn status(&self) -> TokenStatus {
        status(&self.evidence, &self.policy, &plan(&self.evidence, &self.policy))
    }

    /// Looks, as often as the plan asks for it, and changes nothing.
    pub async fn look(&mut self, fleet: &Fleet) -> TokenStatus {
        self.read_spool(fleet, false).await;
        for _ in 0..STEPS_MAX {
            self.refresh_shared(fleet);
            match plan(&self.evidence, &self.policy) {
                Step::Look(look) => self.observe(fleet, &look).await,
                step @ (Step::Do(_) | Step::Wait { .. } | Step::Hold { .. }) => return status(&self.evidence, &self.policy, &step),
            }
        }
        self.status()
    }

    /// Runs until there is nothing to do now.
    pub async fn pass(&mut self, fleet: &Fleet) -> PassEnd {
        self.read_spool(fleet, true).await;
        for _ in 0..STEPS_MAX {
            self.refresh_shared(fleet);
            let step = plan(&self.evidence, &self.policy);
            if fleet.is_stopping() && !self.finishes(&step) {
                return self.end(fleet, self.evidence.clock.boot, Reason::calm("stopping", "the daemon is stopping"), &step);
            }
            match &step {
                // A look may be left at any time, and so may every effect that can be decided by looking: a stop is for it what a
                // crash is. Only a mint is waited for, because what it returns is in no other place yet.
                Step::Look(look) => tokio::select! {
                    () = self.observe(fleet, look) => {}
                    () = fleet.until_stopped(), if !self.exposed() => {}
                },
                Step::Do(effect @ (Effect::Refresh { .. } | Effect::DropCaptured)) => self.act(fleet, effect).await,
                Step::Do(effect) => {
                    tokio::select! {
                        () = self.act(fleet, effect) => {}
                        () = fleet.until_stopped(), if !self.exposed() => {}
                    }
                    self.show(fleet);
                }
                Step::Wait { until: next, why } | Step::Hold { again: next, why } => {
                    self.keep_room(fleet).await;
                    return self.end(fleet, *next, why.clone(), &step);
                }
            }
        }
        let text = format!("{STEPS_MAX} steps without coming to rest");
        let why = Reason::attention("step_limit", text, "report this: the log shows the steps; it goes on at the next tick");
        let next = self.evidence.clock.boot.plus(self.policy.tick);
        let step = Step::Wait { until: next, why: why.clone() };
        self.end(fleet, next, why, &step)
    }

    /// While stopping, only a token that is in nobody's keeping but this process's memory is still brought to safety.
    fn finishes(&self, step: &Step) -> bool {
        self.exposed() && matches!(step, Step::Do(Effect::Stage { .. }) | Step::Look(Look::Store | Look::Slot(_)))
    }

    fn exposed(&self) -> bool {
        self.evidence.captured.as_ref().is_some_and(|captured| !captured.sealed)
    }

    fn end(&mut self, fleet: &Fleet, next: Boot, why: Reason, step: &Step) -> PassEnd {
        let status = status(&self.evidence, &self.policy, step);
        self.announcer.conditions(fleet, &status);
        fleet.vitals.passed(&self.evidence, &status);
        lock(&fleet.status).insert(self.policy.token.clone(), status.clone());
        self.forget();
        PassEnd { next, why, status }
    }

    /// Keeps token texts out of memory while there is no use for them.
    fn forget(&mut self) {
        let quiet = self.evidence.captured.is_none()
            && self
                .evidence
                .record()
                .is_none_or(|record| record.rotation.is_none() && record.retirees.iter().all(|retiree| retiree.why == RetireeKind::Left));
        if quiet {
            self.wallet.clear();
            self.payload = None;
            self.evidence.held.clear();
            self.evidence.slots.clear();
            let current = self.evidence.store.value().and_then(|store| store.current.as_ref()).and_then(|(_, content)| content.token());
            self.evidence.looks.retain(|token, _| Some(*token) == current);
            self.evidence.calls.retain(|token, _| Some(*token) == current);
            self.evidence.attempt = None;
            self.evidence.revoke = None;
            // At rest every step has been done by somebody; only a sink may still be in trouble.
            self.evidence.effects.retain(|effect, _| effect.starts_with("publish "));
        }
    }

    /// Takes over what all tokens share, as it stands now.
    fn refresh_shared(&mut self, fleet: &Fleet) {
        self.evidence.clock = self.app.clock();
        let life = self.evidence.record().map_or(crate::rotation::schedule::USUAL_LIFE, |record| record.current.life());
        self.evidence.breaker = fleet.breaker(|breaker| breaker.evidence(fleet.size(), life));
        self.evidence.mint_not_before = lock(&fleet.pace).mint_not_before().max(self.app.pressed_until());
    }

    /// Shows how the token stands between two steps, for whoever follows it.
    fn show(&self, fleet: &Fleet) {
        let status = status(&self.evidence, &self.policy, &plan(&self.evidence, &self.policy));
        lock(&fleet.status).insert(self.policy.token.clone(), status);
    }

    /// A person's command: decided by the core, committed like everything else.
    ///
    /// # Errors
    /// Why it is refused, or could not be done.
    pub async fn command(&mut self, fleet: &Fleet, command: &Command) -> Result<String, String> {
        if matches!(command, Command::RevokedAll { .. }) {
            // It is held against what the provider says of the current token.
            self.observe(fleet, &Look::Store).await;
            if let Some(token) = self.evidence.record().map(|record| record.current.fingerprint) {
                self.observe(fleet, &Look::Introspect(token)).await;
            }
        }
        self.commit_decided(fleet, false, |evidence, policy| command::decide(evidence, policy, command)).await
    }

    /// Commits the record once more, unchanged but for its number and writer, and reads it back: proof that this process may write
    /// there. The new number; `None` where the token is not adopted, so that there is no record.
    ///
    /// # Errors
    /// Why it could not be written.
    pub async fn prove_write(&mut self, fleet: &Fleet) -> Result<Option<u64>, String> {
        let mut number = None;
        let again = |evidence: &Evidence, _: &Policy| {
            let Some(record) = evidence.record() else { return Answer::Already("not adopted".to_owned()) };
            let next = record.next(&evidence.writer);
            number = Some(next.number);
            Answer::Commit(Box::new(next), "check --write".to_owned())
        };
        self.commit_decided(fleet, true, again).await?;
        Ok(number)
    }

    async fn commit_decided(
        &mut self,
        fleet: &Fleet,
        read_back: bool,
        mut decide: impl FnMut(&Evidence, &Policy) -> Answer,
    ) -> Result<String, String> {
        for _ in 0..4 {
            self.refresh_shared(fleet);
            self.observe(fleet, &Look::Store).await;
            if let Some(trouble) = &self.evidence.store.trouble {
                return Err(format!(
                    "the store cannot be looked at: {}. Nothing was changed. To do: see what `evertoken check` says of it",
                    trouble.fault.what
                ));
            }
            match decide(&self.evidence, &self.policy) {
                Answer::Already(text) => return Ok(text),
                Answer::Refused(text) => return Err(text),
                Answer::Commit(record, detail) => {
                    let number = record.number;
                    let effect = Effect::Commit { record, kind: CommitKind::Command, detail: detail.clone(), read_back };
                    self.act(fleet, &effect).await;
                    if self.evidence.record().is_some_and(|record| record.number == number && record.writer == self.evidence.writer) {
                        self.show(fleet);
                        return Ok(detail);
                    }
                }
            }
        }
        let trouble = self.evidence.effects.get("record").map_or("others keep writing", |trouble| trouble.fault.what.as_str());
        Err(format!(
            "the record could not be written: {trouble}. What consumers read is untouched. To do: see what `evertoken check` says of the entry"
        ))
    }

    /// Takes over what the entry holds, at a person's wish. With a token it is put into the entry first, which must be empty.
    ///
    /// # Errors
    /// Why it is not taken over.
    pub async fn adopt(&mut self, fleet: &Fleet, install: Option<Token>, create: bool) -> Result<String, String> {
        self.refresh_shared(fleet);
        if let Some(token) = install {
            self.install(token, create).await?;
        }
        let before = self.evidence.record().map(|record| record.number);
        self.evidence.adopt = true;
        self.evidence.store = crate::rotation::evidence::Channel::default();
        let end = self.pass(fleet).await;
        self.evidence.adopt = false;
        match self.evidence.record() {
            Some(record)
                if before.is_none() || before != Some(record.number) || end.why.severity == crate::rotation::plan::Severity::Calm =>
            {
                Ok(format!("manages token {} from now on; {}", record.current.fingerprint, end.why.text))
            }
            _ => Err(format!("{}{}", end.why.text, end.why.remedy.map(|remedy| format!(". To do: {remedy}")).unwrap_or_default())),
        }
    }

    async fn install(&mut self, token: Token, create: bool) -> Result<(), String> {
        let look = self.app.provider.introspect(&token).await;
        self.app.saw_date(look.date);
        let look = look.result.map_err(|fault| {
            format!("the token could not be looked at: {fault}. Nothing was changed. To do: see what `evertoken check` says of the app")
        })?;
        crate::rotation::verify::adoptable(&self.policy, &look).map_err(|reasons| {
            let reasons = reasons.join("; ");
            format!("the token is refused: {reasons}. Nothing was changed. To do: give a token that is right, or mend the configuration")
        })?;
        let payload = self.policy.payload.render(&token, &self.ingredients(&token), None).map_err(|error| error.to_string())?;
        match self.place.store.install(&self.place.entry, &payload, create).await {
            Ok(crate::store::Written::Done) => Ok(()),
            Ok(crate::store::Written::Conflict) => {
                Err("the entry holds something already; it is not overwritten. To do: leave out --token-file to adopt what is there"
                    .to_owned())
            }
            Err(fault) if fault.class == FaultClass::Missing => {
                Err(format!("the entry could not be written: {fault}. Nothing was changed. To do: create it, or add --create"))
            }
            Err(fault) => {
                Err(format!("the entry could not be written: {fault}. To do: see what `evertoken check` says of it, then try again"))
            }
        }
    }
}
