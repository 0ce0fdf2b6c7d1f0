//! The gate before the one call that cannot be taken back (I3).
//!
//! A revoke happens only when every conjunct below holds on evidence that was asked for at most [`EVIDENCE_AGE`] ago. Each conjunct
//! has a name and a value; both go into the log and the ledger, so that a person can check afterwards why a token died, and from
//! `explain` why one still lives. Acknowledgement gates speak through [`super::evidence::GateEvidence`] into the conjunct `gates`.

use jiff::{SignedDuration, Timestamp};

use super::evidence::Evidence;
use super::policy::Policy;
use super::record::{Record, RetireeKind, Stage};
use super::schedule::{fitted, scaled};
use super::slot::SlotId;
use super::time::{Boot, later};
use super::token::{Expiry, Fingerprint};
use super::verify::identity;

/// How old evidence for a revoke may be (scaled to short lives).
pub const EVIDENCE_AGE: SignedDuration = SignedDuration::from_secs(60);

/// A token that is to be revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Victim {
    /// The slot that holds it.
    pub slot: SlotId,
    /// Which token.
    pub fingerprint: Fingerprint,
    /// It must have been out of use at least since then.
    pub since: Option<Timestamp>,
    /// When it ends by itself.
    pub expires: Option<Expiry>,
    /// While this slot is current, somebody could still promote the victim.
    pub staged_against: Option<SlotId>,
    /// Whether consumers have ever used it: then its successor must live at least as long.
    pub was_current: bool,
    /// The record says that it may be revoked from now on.
    pub revoking: bool,
}

/// Whom to revoke next, if anyone: the old token of a published rotation first, then the retirees, of these the ready ones first.
#[must_use]
pub fn victim(record: &Record, current: &SlotId) -> Option<Victim> {
    let old =
        record.rotation.as_ref().filter(|rotation| matches!(rotation.stage, Stage::Published | Stage::Revoking)).map(|rotation| Victim {
            slot: rotation.base.slot.clone(),
            fingerprint: rotation.base.fingerprint,
            since: None,
            expires: Some(rotation.base.expires),
            staged_against: None,
            was_current: true,
            revoking: rotation.stage == Stage::Revoking,
        });
    let retiree = || {
        let waits = |retiree: &&super::record::Retiree| retiree.staged_against.as_ref() == Some(current);
        let ours = || record.retirees.iter().filter(|retiree| retiree.why != RetireeKind::Left);
        let chosen = ours().find(|retiree| !waits(retiree)).or_else(|| ours().next())?;
        Some(Victim {
            slot: chosen.slot.clone(),
            fingerprint: chosen.fingerprint,
            since: Some(chosen.since),
            expires: chosen.expires,
            staged_against: chosen.staged_against.clone(),
            was_current: chosen.why == RetireeKind::Replaced,
            revoking: chosen.revoking,
        })
    };
    old.or_else(retiree)
}

/// One condition of the gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conjunct {
    /// Its name, stable.
    pub name: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// What was found, for people and for the ledger.
    pub value: String,
}

/// All conditions, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    /// The conditions.
    pub conjuncts: Vec<Conjunct>,
}

impl Gate {
    /// Whether the token may be revoked.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.conjuncts.is_empty() && self.conjuncts.iter().all(|conjunct| conjunct.holds)
    }

    /// The first condition that does not hold.
    #[must_use]
    pub fn closed_by(&self) -> Option<&Conjunct> {
        self.conjuncts.iter().find(|conjunct| !conjunct.holds)
    }
}

/// When the window of a victim is over, by the provider's clock; `None` while a place is still being written.
#[must_use]
pub fn window_ends(policy: &Policy, record: &Record, victim: &Victim) -> Option<Timestamp> {
    let published = record.published.as_ref().filter(|published| published.fingerprint == record.current.fingerprint)?;
    let from = victim.since.map_or(published.at, |since| since.max(published.at));
    // `Date` has whole seconds: one more makes sure that the window has passed in full.
    Some(later(from, fitted(policy.window, record.current.life()).saturating_add(SignedDuration::from_secs(1))))
}

/// From when on evidence counts for a revoke.
#[must_use]
pub fn fresh_since(evidence: &Evidence, record: &Record) -> Boot {
    evidence.clock.boot.plus(-scaled(EVIDENCE_AGE, record.current.life()))
}

/// Evaluates every condition for one victim.
#[must_use]
pub fn evaluate(evidence: &Evidence, policy: &Policy, record: &Record, victim: &Victim) -> Gate {
    let fresh = fresh_since(evidence, record);
    let conjuncts = vec![
        recorded(evidence, record, victim, fresh),
        not_used_anywhere(evidence, victim, fresh),
        current_valid(evidence, policy, record, victim, fresh),
        sinks_equal(evidence, fresh),
        window_over(evidence, policy, record, victim, fresh),
        gates_confirmed(evidence, record),
        cannot_return(evidence, record, victim),
        not_business_integration(evidence, record),
        breaker_closed(evidence),
        not_held(record),
        caller_held(evidence, record, victim),
    ];
    Gate { conjuncts }
}

fn recorded(evidence: &Evidence, record: &Record, victim: &Victim, fresh: Boot) -> Conjunct {
    // A sink may have been repaired just before it was read; the record says so.
    let seen = evidence.store.value_since(evidence.sinks_read().map_or(fresh, |read| read.max(fresh))).is_some();
    Conjunct {
        name: "recorded",
        holds: seen && victim.revoking,
        value: format!(
            "record {} {}, store looked at after the sinks {}",
            record.number,
            if victim.revoking { "says revoking" } else { "does not say revoking" },
            yes(seen)
        ),
    }
}

fn not_used_anywhere(evidence: &Evidence, victim: &Victim, fresh: Boot) -> Conjunct {
    let current = evidence.store.value_since(fresh).and_then(|store| store.current.as_ref()).and_then(|(_, content)| content.token());
    let mut used: Vec<&str> = Vec::new();
    if current == Some(victim.fingerprint) {
        used.push("store");
    }
    let holds_victim = |content: &super::evidence::Content| content.token() == Some(victim.fingerprint);
    used.extend(
        evidence
            .sinks
            .iter()
            .filter(|sink| sink.read.value().and_then(Option::as_ref).is_some_and(|(_, content)| holds_victim(content)))
            .map(|sink| sink.name.as_str()),
    );
    Conjunct {
        name: "not_used_anywhere",
        holds: current.is_some() && used.is_empty(),
        value: format!(
            "current {}, old {}, old found in [{}]",
            current.map_or_else(|| "unknown".to_owned(), |token| token.to_string()),
            victim.fingerprint,
            used.join(", ")
        ),
    }
}

fn current_valid(evidence: &Evidence, policy: &Policy, record: &Record, victim: &Victim, fresh: Boot) -> Conjunct {
    let name = "current_valid";
    let Some(seen) = evidence.look(record.current.fingerprint).filter(|seen| seen.asked >= fresh) else {
        return Conjunct { name, holds: false, value: "not looked at".to_owned() };
    };
    let look = &seen.value.introspection;
    let now = evidence.clock.provider_now();
    let mut against = identity(policy, look).err().unwrap_or_default();
    if !look.valid {
        against.push("dead".to_owned());
    }
    let old_scopes = record.rotation.as_ref().map(|rotation| &rotation.base.scopes);
    let missing: Vec<_> = record
        .current
        .scopes
        .iter()
        .chain(old_scopes.into_iter().flatten())
        .chain(policy.required_scopes.iter().flatten())
        .filter(|scope| !look.scopes.contains(*scope))
        .collect();
    if !missing.is_empty() {
        against.push(format!("scopes missing: {missing:?}"));
    }
    let least = fitted(policy.min_life, record.current.life()).min(record.current.life() / 4);
    match look.expires {
        None => against.push("no expiry stated".to_owned()),
        Some(Expiry::Never) => {}
        Some(Expiry::At(at)) => {
            if at < later(now, least) {
                against.push(format!("ends at {at}"));
            }
            if victim.was_current && victim.expires.is_some_and(|old| Expiry::At(at) < old) {
                against.push(format!("ends at {at}, before the old one"));
            }
        }
    }
    let value = if against.is_empty() { format!("valid, ends {}", ends(look.expires)) } else { against.join("; ") };
    Conjunct { name, holds: against.is_empty(), value }
}

fn sinks_equal(evidence: &Evidence, fresh: Boot) -> Conjunct {
    let wanted = evidence.store.value().and_then(|store| store.current.as_ref()).map(|(_, content)| content.payload());
    let behind: Vec<&str> = evidence
        .sinks
        .iter()
        .filter(|sink| sink.read.value_since(fresh).and_then(Option::as_ref).map(|(_, content)| content.payload()) != wanted)
        .map(|sink| sink.name.as_str())
        .collect();
    Conjunct {
        name: "sinks_equal",
        holds: wanted.is_some() && behind.is_empty(),
        value: format!("{} of {} read back equal{}", evidence.sinks.len() - behind.len(), evidence.sinks.len(), list(" not: ", &behind)),
    }
}

fn window_over(evidence: &Evidence, policy: &Policy, record: &Record, victim: &Victim, fresh: Boot) -> Conjunct {
    let date = evidence.look(record.current.fingerprint).filter(|seen| seen.asked >= fresh).and_then(|seen| seen.value.date);
    let ends = window_ends(policy, record, victim);
    let value = match (date, ends) {
        (Some(date), Some(ends)) => format!("provider says {date}, window ends {}", super::time::whole(ends)),
        (None, _) => "no Date from the provider".to_owned(),
        (_, None) => "not published everywhere".to_owned(),
    };
    Conjunct { name: "window_over", holds: date.zip(ends).is_some_and(|(date, ends)| date >= ends), value }
}

fn gates_confirmed(evidence: &Evidence, record: &Record) -> Conjunct {
    let open: Vec<&str> =
        evidence.gates.iter().filter(|gate| gate.confirmed != Some(record.current.fingerprint)).map(|gate| gate.name.as_str()).collect();
    Conjunct {
        name: "gates",
        holds: open.is_empty(),
        value: format!("{} of {} confirmed{}", evidence.gates.len() - open.len(), evidence.gates.len(), list(" waiting for: ", &open)),
    }
}

fn cannot_return(evidence: &Evidence, record: &Record, victim: &Victim) -> Conjunct {
    let store = evidence.store.value();
    let slot = store.and_then(|store| store.current.as_ref()).map(|(slot, _)| slot);
    let marked = store.is_some_and(|store| store.retiring.contains(&victim.slot) || store.staged.contains(&victim.slot));
    let ours = slot == Some(&record.current.slot);
    let promotable = victim.staged_against.is_some() && victim.staged_against.as_ref() == slot;
    Conjunct {
        name: "cannot_return",
        holds: marked && ours && !promotable,
        value: format!("old marked {}, current slot is the recorded one {}, still promotable {}", yes(marked), yes(ours), yes(promotable)),
    }
}

fn not_business_integration(evidence: &Evidence, record: &Record) -> Conjunct {
    let called = evidence.calls.get(&record.current.fingerprint).and_then(super::evidence::Channel::value);
    let bound = called.map(|called| called.business_integration);
    Conjunct {
        name: "not_business_integration",
        holds: bound == Some(false),
        value: bound.map_or_else(
            || "unknown".to_owned(),
            |bound| {
                if bound { "bound to a client's business".to_owned() } else { "a classic system user token".to_owned() }
            },
        ),
    }
}

fn breaker_closed(evidence: &Evidence) -> Conjunct {
    let waits = evidence.breaker.not_before > evidence.clock.boot;
    let value = match (&evidence.breaker.open, waits) {
        (Some(why), _) => format!("open: {why}"),
        (None, true) => "closed, the fleet's allowance is used up for now".to_owned(),
        (None, false) => "closed".to_owned(),
    };
    Conjunct { name: "breaker", holds: evidence.breaker.open.is_none() && !waits, value }
}

fn not_held(record: &Record) -> Conjunct {
    let said = record.hold.as_ref().or(record.frozen.as_ref());
    Conjunct {
        name: "not_held",
        holds: said.is_none(),
        value: said.map_or_else(|| "no hold".to_owned(), |said| format!("held: {}", said.why)),
    }
}

/// The caller of a revoke is the new token, so a dead new token cannot kill the old one.
fn caller_held(evidence: &Evidence, record: &Record, victim: &Victim) -> Conjunct {
    let both = evidence.held.contains(&record.current.fingerprint) && evidence.held.contains(&victim.fingerprint);
    let differ = record.current.fingerprint != victim.fingerprint;
    Conjunct { name: "caller_is_new", holds: both && differ, value: format!("called with {}", record.current.fingerprint) }
}

fn ends(expires: Option<Expiry>) -> String {
    match expires {
        Some(Expiry::At(at)) => at.to_string(),
        Some(Expiry::Never) => "never".to_owned(),
        None => "unknown".to_owned(),
    }
}

const fn yes(holds: bool) -> &'static str {
    if holds { "yes" } else { "no" }
}

fn list(lead: &str, names: &[&str]) -> String {
    if names.is_empty() { String::new() } else { format!("{lead}{}", names.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::super::evidence::{Called, Content, GateEvidence, Looked, StoreEvidence};
    use super::super::record::{Published, Retiree, Said};
    use super::super::testing::{self, NOW, boot, policy, seen};
    use super::*;

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn content(token: &str) -> Content {
        testing::content(Fingerprint::of(token))
    }

    fn published() -> Record {
        testing::revoking()
    }

    /// All that must be known for the old token of `record` to be revoked.
    fn evidence(record: &Record) -> Evidence {
        let mut evidence = testing::evidence(record);
        evidence.gates = vec![GateEvidence { name: "bot".into(), confirmed: Some(Fingerprint::of("new")), detail: String::new() }];
        store(&mut evidence).retiring = vec![SlotId::new("slot-old")];
        evidence.held.insert(Fingerprint::of("old"));
        evidence
    }

    fn gate(evidence: &Evidence, record: &Record) -> Gate {
        let victim = victim(record, &record.current.slot).expect("there is one to revoke");
        evaluate(evidence, &policy(), record, &victim)
    }

    fn against(evidence: &Evidence, record: &Record) -> Vec<&'static str> {
        gate(evidence, record).conjuncts.iter().filter(|conjunct| !conjunct.holds).map(|conjunct| conjunct.name).collect()
    }

    fn store(evidence: &mut Evidence) -> &mut StoreEvidence {
        &mut evidence.store.seen.as_mut().expect("it was looked at").value
    }

    fn looked(evidence: &mut Evidence) -> &mut Looked {
        let channel = evidence.looks.get_mut(&Fingerprint::of("new")).expect("it was looked at");
        &mut channel.seen.as_mut().expect("it was looked at").value
    }

    #[test]
    fn it_opens_when_all_holds() {
        let record = published();
        assert_eq!(against(&evidence(&record), &record), Vec::<&str>::new());
        assert!(gate(&evidence(&record), &record).is_open());
        assert!(!Gate { conjuncts: Vec::new() }.is_open(), "nothing that was asked for is not consent");
    }

    #[test]
    fn each_condition_of_the_evidence_closes_it_alone() {
        type Change = fn(&mut Evidence);
        let cases: [(&str, Change); 12] = [
            ("not_used_anywhere", |evidence| {
                // The sink that still holds the old one is not equal either, so the store stands for both here.
                store(evidence).current = Some((SlotId::new("slot-new"), content("old")));
                evidence.sinks.clear();
            }),
            ("current_valid", |evidence| looked(evidence).introspection.valid = false),
            ("current_valid", |evidence| looked(evidence).introspection.app_id = Some("other".into())),
            ("current_valid", |evidence| drop(looked(evidence).introspection.scopes.pop_first())),
            ("current_valid", |evidence| looked(evidence).introspection.expires = None),
            ("current_valid", |evidence| looked(evidence).introspection.expires = Some(Expiry::At(later(NOW, DAY * 29)))),
            ("sinks_equal", |evidence| evidence.sinks[0].read = seen(None)),
            ("window_over", |evidence| looked(evidence).date = None),
            ("gates", |evidence| evidence.gates[0].confirmed = Some(Fingerprint::of("old"))),
            ("not_business_integration", |evidence| drop(evidence.calls.remove(&Fingerprint::of("new")))),
            ("breaker", |evidence| evidence.breaker.open = Some("post-revoke failure".into())),
            ("caller_is_new", |evidence| evidence.held.retain(|token| *token != Fingerprint::of("new"))),
        ];
        for (name, change) in cases {
            let record = published();
            let mut evidence = evidence(&record);
            change(&mut evidence);
            assert_eq!(against(&evidence, &record), [name]);
        }
    }

    #[test]
    fn each_condition_of_the_record_closes_it_alone() {
        type Change = fn(&mut Record);
        let said = || Said { at: NOW, why: "audit".into() };
        let early = later(NOW, -DAY);
        let mut cases: Vec<(&str, Record)> = Vec::new();
        let changes: [(&str, Change); 2] = [
            ("recorded", |record| record.rotation.as_mut().expect("there is one").stage = Stage::Published),
            ("window_over", |record| record.published = None),
        ];
        for (name, change) in changes {
            let mut record = published();
            change(&mut record);
            cases.push((name, record));
        }
        cases.push(("not_held", Record { hold: Some(said()), ..published() }));
        cases.push(("not_held", Record { frozen: Some(said()), ..published() }));
        // A whole day to the second: `Date` has whole seconds, so it may be a second less than a day.
        let young = Published { fingerprint: Fingerprint::of("new"), at: early };
        cases.push(("window_over", Record { published: Some(young), ..published() }));
        let another = Published { fingerprint: Fingerprint::of("old"), at: later(early, -DAY) };
        cases.push(("window_over", Record { published: Some(another), ..published() }));
        for (name, record) in cases {
            assert_eq!(against(&evidence(&record), &record), [name]);
        }
    }

    #[test]
    fn evidence_that_is_a_minute_old_opens_nothing() {
        let record = published();
        let mut evidence = evidence(&record);
        evidence.clock.boot = boot().plus(EVIDENCE_AGE);
        assert!(gate(&evidence, &record).is_open());
        evidence.clock.boot = evidence.clock.boot.plus(SignedDuration::from_nanos(1));
        let closed = against(&evidence, &record);
        assert_eq!(closed, ["recorded", "not_used_anywhere", "current_valid", "sinks_equal", "window_over"]);
    }

    #[test]
    fn a_token_that_is_not_marked_or_could_come_back_stays() {
        let record = published();
        let mut unmarked = evidence(&record);
        store(&mut unmarked).retiring.clear();
        assert_eq!(against(&unmarked, &record), ["cannot_return"]);

        // A surplus token that a paused rotator could still promote over the current one.
        let retiree = |staged_against: &str| Retiree {
            slot: SlotId::new("slot-old"),
            fingerprint: Fingerprint::of("old"),
            why: RetireeKind::Surplus,
            since: later(NOW, -DAY * 2),
            expires: None,
            staged_against: Some(SlotId::new(staged_against)),
            revoking: true,
            rejected: None,
        };
        let mut record = Record { rotation: None, retirees: vec![retiree("slot-new")], ..published() };
        assert_eq!(against(&evidence(&record), &record), ["cannot_return"]);
        record.retirees = vec![retiree("slot-before")];
        assert_eq!(against(&evidence(&record), &record), Vec::<&str>::new());
    }

    #[test]
    fn a_sink_that_holds_the_old_one_closes_two() {
        let record = published();
        let mut evidence = evidence(&record);
        evidence.sinks[0].read = seen(Some((SlotId::new("sink-old"), content("old"))));
        assert_eq!(against(&evidence, &record), ["not_used_anywhere", "sinks_equal"]);
    }

    #[test]
    fn a_token_bound_to_a_clients_business_is_never_revoked() {
        let record = published();
        let mut evidence = evidence(&record);
        evidence.calls.insert(Fingerprint::of("new"), seen(Called { outcome: Ok(None), business_integration: true }));
        assert_eq!(against(&evidence, &record), ["not_business_integration"]);
    }

    #[test]
    fn the_same_token_never_revokes_itself() {
        let mut record = published();
        record.rotation.as_mut().expect("there is one").base.fingerprint = Fingerprint::of("new");
        let closed = against(&evidence(&record), &record);
        assert_eq!(closed, ["not_used_anywhere", "caller_is_new"]);
    }
}
