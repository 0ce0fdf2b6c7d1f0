//! The chain of rules, one situation at a time. Whole token-years under faults are in tests/simulation.rs.

use jiff::SignedDuration;

use super::super::evidence::{Attempt, AttemptState, Captured, Trouble};
use super::super::fault::{Certainty, Fault, FaultClass};
use super::super::record::{RetireeKind, Rotation, Said, Stage};
use super::super::testing::{NOW, boot, content, evidence, known, looked, policy, record, revoking, rotation, seen, young};
use super::super::time::later;
use super::super::token::Expiry;
use super::*;

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// A record with an intent to replace the token "old".
fn intent() -> Record {
    Record { rotation: Some(rotation(Stage::Intent)), ..record() }
}

fn store(evidence: &mut Evidence) -> &mut StoreEvidence {
    &mut evidence.store.seen.as_mut().expect("it was looked at").value
}

/// What a commit says, with the record that it would write.
fn committed(step: Step) -> (CommitKind, Record) {
    let Step::Do(Effect::Commit { record, kind, .. }) = step else { panic!("expected a commit, got {step:?}") };
    (kind, *record)
}

fn waits_for(step: &Step) -> &'static str {
    match step {
        Step::Wait { why, .. } | Step::Hold { why, .. } => why.code,
        other @ (Step::Look(_) | Step::Do(_)) => panic!("expected a wait, got {other:?}"),
    }
}

/// This process's attempt, with what came of it.
fn tried(evidence: &mut Evidence, state: AttemptState) {
    evidence.attempt = Some(Attempt { rotation: "r1".into(), number: 1, state });
}

fn fault(certainty: Certainty) -> Fault {
    Fault::new(certainty, FaultClass::Unreachable, "reset")
}

/// The slot of the first attempt of rotation r1, holding the token "new", marked as staged.
fn staged(evidence: &mut Evidence) -> SlotId {
    let slot = rotation(Stage::Intent).slot("arn", 1, 0);
    store(evidence).staged.push(slot.clone());
    evidence.slots.insert(slot.clone(), seen(Some(content(Fingerprint::of("new")))));
    slot
}

#[test]
fn who_knows_nothing_looks_at_the_store_first() {
    let blank = Evidence::new(evidence(&record()).clock, "writer".into(), &[], Vec::new());
    assert_eq!(plan(&blank, &policy()), Step::Look(Look::Store));
}

#[test]
fn an_entry_that_nobody_adopted_is_left_alone_until_a_person_says_so() {
    let mut evidence = evidence(&record());
    store(&mut evidence).record = None;
    assert_eq!(waits_for(&plan(&evidence, &policy())), "not_adopted");
    evidence.adopt = true;
    let (kind, record) = committed(plan(&evidence, &policy()));
    assert_eq!((kind, record.current.fingerprint), (CommitKind::Adopted, Fingerprint::of("old")));
}

#[test]
fn an_unadopted_token_of_a_short_life_is_looked_at_again_in_time() {
    let mut evidence = evidence(&record());
    store(&mut evidence).record = None;
    let minute = Known { issued_at: NOW, expires: Expiry::At(later(NOW, SignedDuration::from_mins(32))), ..known("old") };
    evidence.looks.insert(minute.fingerprint, seen(looked(&minute)));
    let Step::Hold { again, why } = plan(&evidence, &policy()) else { panic!("it waits for a person") };
    assert_eq!((why.code, again.since(boot())), ("not_adopted", SignedDuration::from_mins(1)));
}

#[test]
fn native_rotation_and_newer_records_are_never_written_over() {
    let mut rotated = evidence(&record());
    store(&mut rotated).foreign_rotation = Some("AWSPENDING".into());
    assert_eq!(waits_for(&plan(&rotated, &policy())), "foreign_rotation");
    let mut newer = evidence(&record());
    store(&mut newer).record = Some(Err(super::super::record::RecordError::Newer { number: 9, schema: 99 }));
    assert_eq!(waits_for(&plan(&newer, &policy())), "newer_record");
}

#[test]
fn a_young_token_rests_and_one_past_its_point_gets_an_intent_that_is_read_back() {
    let resting = Record { current: young("old"), ..record() };
    assert_eq!(waits_for(&plan(&evidence(&resting), &policy())), "rest");

    let due = Known { issued_at: later(NOW, -DAY * 40), expires: Expiry::At(later(NOW, DAY * 20)), ..known("old") };
    let due = Record { current: due, ..record() };
    let step = plan(&evidence(&due), &policy());
    assert!(matches!(&step, Step::Do(Effect::Commit { read_back: true, .. })), "{step:?}");
    let (kind, next) = committed(step);
    assert_eq!((kind, next.number, next.rotation.map(|rotation| rotation.attempt)), (CommitKind::Intent, due.number + 1, Some(1)));

    let held = Record { hold: Some(Said { at: NOW, why: "audit".into() }), ..due };
    assert_eq!(waits_for(&plan(&evidence(&held), &policy())), "held");
}

#[test]
fn nothing_is_minted_without_the_old_tokens_text_or_against_the_pace() {
    let record = intent();
    let refresh = Effect::Refresh { rotation: "r1".into(), attempt: 1, base: Fingerprint::of("old") };
    assert_eq!(plan(&evidence(&record), &policy()), Step::Do(refresh));
    let mut blind = evidence(&record);
    blind.held.clear();
    assert_eq!(plan(&blind, &policy()), Step::Look(Look::Current));
    let mut paced = evidence(&record);
    paced.mint_not_before = boot().plus(SignedDuration::from_secs(1));
    assert_eq!(waits_for(&plan(&paced, &policy())), "paced");
}

#[test]
fn one_intent_covers_all_tries_that_were_not_sent() {
    let mut evidence = evidence(&intent());
    let at = boot().plus(-SignedDuration::from_mins(10));
    tried(&mut evidence, AttemptState::NotSent(Some(Trouble { count: 1, at, fault: fault(Certainty::NotDone) })));
    assert!(matches!(plan(&evidence, &policy()), Step::Do(Effect::Refresh { attempt: 1, .. })));
}

#[test]
fn a_lost_answer_is_a_row_with_an_end() {
    let mut evidence = evidence(&intent());
    tried(&mut evidence, AttemptState::Unknown(fault(Certainty::Unknown)));
    let (kind, next) = committed(plan(&evidence, &policy()));
    assert_eq!(kind, CommitKind::AttemptUnknown);
    let row = next.unaccounted.first().expect("it is counted");
    assert!(row.bound >= later(NOW, DAY * 60), "{row:?}");
    assert_eq!(row.why, "reset", "what came instead of a token stays on record");
    assert!(next.backoff.expect("the next one waits").not_before > NOW);
}

#[test]
fn a_refusal_mints_nothing_and_counts_nothing() {
    let mut evidence = evidence(&intent());
    tried(&mut evidence, AttemptState::Refused(fault(Certainty::NotDone)));
    let (kind, next) = committed(plan(&evidence, &policy()));
    assert_eq!((kind, next.unaccounted.len()), (CommitKind::AttemptRefused, 0));
}

/// An attempt that another process began; the last commit was this process's own, of something else (a hold that was released).
fn anothers_intent() -> Record {
    let mut record = intent();
    record.rotation.as_mut().expect("an intent").by = "other".into();
    record
}

#[test]
fn a_persons_edit_counts_what_a_dead_process_may_have_minted() {
    let theirs = Fingerprint::of("theirs");
    let edited = |record: Record| {
        let mut evidence = evidence(&record);
        store(&mut evidence).current = Some((SlotId::new("theirs"), content(theirs)));
        evidence.looks.insert(theirs, seen(looked(&young("theirs"))));
        let (kind, next) = committed(plan(&evidence, &policy()));
        assert_eq!((kind, next.rotation), (CommitKind::ForeignAdopted, None));
        next.unaccounted.len()
    };
    assert_eq!(edited(anothers_intent()), 1);
    assert_eq!(edited(intent()), 0, "this process knows that it has sent nothing");
}

#[test]
fn anothers_attempt_is_waited_for_before_it_counts_as_lost() {
    let mut evidence = evidence(&anothers_intent());
    assert_eq!(waits_for(&plan(&evidence, &policy())), "attempt_elsewhere");
    evidence.clock.boot = boot().plus(SignedDuration::from_mins(1));
    assert_eq!(plan(&evidence, &policy()), Step::Look(Look::Store));
}

#[test]
fn a_captured_token_is_staged_before_anything_else() {
    let mut evidence = evidence(&intent());
    let token = Fingerprint::of("new");
    evidence.captured = Some(Captured { rotation: "r1".into(), attempt: 1, token: Ok(token), sealed: true });
    let slot = rotation(Stage::Intent).slot("arn", 1, 0);
    assert_eq!(plan(&evidence, &policy()), Step::Do(Effect::Stage { slot, token }));
    staged(&mut evidence);
    assert_eq!(plan(&evidence, &policy()), Step::Do(Effect::DropCaptured), "it is safe in the store");
}

#[test]
fn the_same_string_back_means_extended() {
    let mut evidence = evidence(&intent());
    let token = Fingerprint::of("old");
    evidence.captured = Some(Captured { rotation: "r1".into(), attempt: 1, token: Ok(token), sealed: true });
    let extended = Known { expires: Expiry::At(later(NOW, DAY * 60)), ..known("old") };
    evidence.looks.insert(token, seen(looked(&extended)));
    let (kind, next) = committed(plan(&evidence, &policy()));
    assert_eq!((kind, next.rotation, next.retirees.len()), (CommitKind::Extended, None, 0));
    assert_eq!(next.current.expires, Expiry::At(later(NOW, DAY * 60)));
}

#[test]
fn a_staged_token_is_looked_at_used_marked_for_and_promoted_in_this_order() {
    let mut evidence = evidence(&intent());
    let slot = staged(&mut evidence);
    let token = Fingerprint::of("new");
    assert_eq!(plan(&evidence, &policy()), Step::Look(Look::Introspect(token)));
    evidence.looks.insert(token, seen(looked(&young("new"))));
    assert_eq!(plan(&evidence, &policy()), Step::Look(Look::Call(token)));
    evidence.calls.insert(token, seen(super::super::evidence::Called { outcome: Ok(None), business_integration: false }));
    let from = known("old").slot;
    assert_eq!(plan(&evidence, &policy()), Step::Do(Effect::MarkRetiring { slot: from.clone() }));
    store(&mut evidence).retiring.push(from.clone());
    assert_eq!(plan(&evidence, &policy()), Step::Do(Effect::Promote { from, to: slot, token }));
}

#[test]
fn an_unfit_token_is_set_aside_and_the_next_mint_waits() {
    let mut evidence = evidence(&intent());
    staged(&mut evidence);
    let token = Fingerprint::of("new");
    let mut poorer = looked(&young("new"));
    poorer.introspection.scopes.clear();
    evidence.looks.insert(token, seen(poorer));
    let (kind, next) = committed(plan(&evidence, &policy()));
    let aside = |next: &Record| next.retirees.iter().map(|retiree| (retiree.fingerprint, retiree.why)).collect::<Vec<_>>();
    assert_eq!((kind, aside(&next)), (CommitKind::Quarantined, vec![(token, RetireeKind::Quarantined)]));
    assert!(next.backoff.expect("it waits").not_before > NOW);
    assert_eq!(next.current.fingerprint, Fingerprint::of("old"));

    let mut of_another = looked(&young("new"));
    of_another.introspection.user_id = Some("20002".into());
    evidence.looks.insert(token, seen(of_another));
    let (kind, next) = committed(plan(&evidence, &policy()));
    assert_eq!((kind, aside(&next)), (CommitKind::Quarantined, vec![(token, RetireeKind::Left)]), "it may be somebody's only token");
    assert_eq!(crate::rotation::revoke_gate::victim(&next, &next.current.slot), None);
}

#[test]
fn who_keeps_writing_an_entry_is_noticed_though_it_is_looked_at_once_an_hour() {
    let mut record = record();
    record.foreign_edits = vec![later(NOW, -SignedDuration::from_mins(125)), later(NOW, -SignedDuration::from_mins(62))];
    let mut evidence = evidence(&record);
    store(&mut evidence).current = Some((SlotId::new("slot-theirs"), content(Fingerprint::of("theirs"))));
    evidence.looks.insert(Fingerprint::of("theirs"), seen(looked(&young("theirs"))));
    let (kind, next) = committed(plan(&evidence, &policy()));
    assert_eq!((kind, next.foreign_edits.len()), (CommitKind::ForeignAdopted, 3));
    assert!(next.frozen.expect("it is frozen").why.contains("within 4h"), "the period is told");
}

#[test]
fn a_persons_living_token_is_taken_over_and_a_useless_one_is_left_alone() {
    let mut evidence = evidence(&record());
    let token = Fingerprint::of("theirs");
    store(&mut evidence).current = Some((SlotId::new("slot-theirs"), content(token)));
    evidence.looks.insert(token, seen(looked(&young("theirs"))));
    let (kind, next) = committed(plan(&evidence, &policy()));
    assert_eq!((kind, next.current.fingerprint), (CommitKind::ForeignAdopted, token));
    let left: Vec<_> = next.retirees.iter().map(|retiree| (retiree.fingerprint, retiree.why)).collect();
    assert_eq!(left, [(Fingerprint::of("old"), RetireeKind::Left)], "what the person replaced stays findable and is never revoked");
    assert_eq!(crate::rotation::revoke_gate::victim(&next, &next.current.slot), None);
    assert!(next.epoch > record().epoch && next.published.is_none(), "the window starts anew");

    let mut dead = looked(&young("theirs"));
    dead.introspection.valid = false;
    evidence.looks.insert(token, seen(dead));
    assert_eq!(waits_for(&plan(&evidence, &policy())), "foreign_token");
}

#[test]
fn the_window_is_waited_for_then_recorded_then_everything_is_looked_at_once_more() {
    let marked = |record: &Record| {
        let mut evidence = evidence(record);
        store(&mut evidence).retiring.push(known("old").slot);
        evidence.held.insert(Fingerprint::of("old"));
        evidence.looks.insert(Fingerprint::of("old"), seen(looked(&known("old"))));
        evidence
    };
    let stage = |stage| Record { rotation: Some(Rotation { stage, ..rotation(stage) }), ..revoking() };
    let mut early = stage(Stage::Published);
    early.published.as_mut().expect("it was published").at = later(NOW, -DAY);
    assert_eq!(waits_for(&plan(&marked(&early), &policy())), "propagating");

    let (kind, next) = committed(plan(&marked(&stage(Stage::Published)), &policy()));
    assert_eq!((kind, next.rotation.map(|rotation| rotation.stage)), (CommitKind::Revoking, Some(Stage::Revoking)));

    let record = stage(Stage::Revoking);
    let mut evidence = marked(&record);
    assert_eq!(waits_for(&plan(&evidence, &policy())), "revoking");
    store(&mut evidence).record_seen = boot().plus(-SignedDuration::from_mins(1));
    let step = plan(&evidence, &policy());
    let Step::Do(Effect::Revoke { victim, caller, gate }) = &step else { panic!("{step:?}") };
    assert_eq!((victim.fingerprint, *caller, gate.is_open()), (Fingerprint::of("old"), Fingerprint::of("new"), true));
    evidence.breaker.open = Some("post-revoke failure".into());
    assert!(!matches!(plan(&evidence, &policy()), Step::Do(_)), "a closed gate does nothing");
}

#[test]
fn a_sink_that_lags_starts_the_window_anew_before_it_is_written() {
    let mut evidence = evidence(&revoking());
    evidence.sinks[0].read = seen(Some((SlotId::new("sink"), content(Fingerprint::of("old")))));
    let (kind, next) = committed(plan(&evidence, &policy()));
    assert_eq!(
        (kind, next.published, next.rotation.map(|rotation| rotation.stage)),
        (CommitKind::Unpublished, None, Some(Stage::Published))
    );
}

#[test]
fn asking_twice_gives_one_answer() {
    for record in [record(), intent(), revoking()] {
        assert_eq!(plan(&evidence(&record), &policy()), plan(&evidence(&record), &policy()));
    }
}

#[test]
fn a_sink_is_written_only_after_the_entry_was_looked_at_once_more() {
    // Since the entry was looked at another rotator may have promoted: what the sink holds then is newer than what we would write.
    let written = super::super::record::Published { fingerprint: Fingerprint::of("old"), at: NOW };
    for published in [None, Some(written)] {
        let mut evidence = evidence(&Record { current: young("old"), published, ..record() });
        store(&mut evidence).current_asked = boot().plus(-SignedDuration::from_secs(2));
        evidence.sinks[0].read = seen(Some((SlotId::new("sink"), content(Fingerprint::of("new")))));
        evidence.sinks[0].read.seen.as_mut().unwrap().asked = boot().plus(-SignedDuration::from_secs(1));
        assert_eq!(plan(&evidence, &policy()), Step::Look(Look::Current));
        store(&mut evidence).current_asked = boot();
        let step = plan(&evidence, &policy());
        assert!(matches!(&step, Step::Do(Effect::PublishSink { expected: Some(_), .. })), "{step:?}");
    }
}

#[test]
fn before_a_revoke_the_record_is_looked_at_after_the_sinks() {
    // Another rotator that repairs a sink says so in the record first: who reads the sink after that must not trust an older record.
    let mut evidence = evidence(&revoking());
    let ago = |seconds| boot().plus(-SignedDuration::from_secs(seconds));
    store(&mut evidence).record_seen = ago(3_000);
    store(&mut evidence).retiring.push(rotation(Stage::Revoking).base.slot);
    evidence.held.insert(Fingerprint::of("old"));
    evidence.looks.insert(Fingerprint::of("old"), seen(looked(&known("old"))));
    let current = evidence.record().unwrap().current.fingerprint;
    evidence.looks.insert(current, seen(looked(&young("new"))));
    evidence.store.seen.as_mut().unwrap().asked = ago(2);
    evidence.sinks[0].read.seen.as_mut().unwrap().asked = ago(1);
    assert_eq!(plan(&evidence, &policy()), Step::Look(Look::Store));
    evidence.store.seen.as_mut().unwrap().asked = ago(1);
    store(&mut evidence).current_asked = ago(1);
    assert!(matches!(plan(&evidence, &policy()), Step::Do(Effect::Revoke { .. })), "{:?}", plan(&evidence, &policy()));
}

#[test]
fn an_old_token_whose_slot_is_gone_is_told_only_after_a_look_at_the_record() {
    let mut evidence = evidence(&revoking());
    store(&mut evidence).record_seen = boot().plus(-DAY);
    let slot = rotation(Stage::Revoking).base.slot;
    store(&mut evidence).retiring.push(slot.clone());
    evidence.slots.insert(slot.clone(), seen(None));
    evidence.store.seen.as_mut().unwrap().asked = boot().plus(-SignedDuration::from_secs(1));
    assert_eq!(plan(&evidence, &policy()), Step::Look(Look::Store), "another rotator may have ended it");
    evidence.store.seen.as_mut().unwrap().asked = boot();
    assert_eq!(waits_for(&plan(&evidence, &policy())), "old_token_gone");
}

#[test]
fn a_slot_that_refuses_its_mark_is_read_again_because_it_may_be_gone() {
    let mut left = Record { current: young("new"), ..record() };
    let slot = SlotId::new("slot-old");
    left.retirees.push(super::super::record::Retiree {
        slot: slot.clone(),
        fingerprint: Fingerprint::of("old"),
        why: RetireeKind::Left,
        since: NOW,
        expires: None,
        staged_against: None,
        revoking: false,
        rejected: None,
    });
    left.published = Some(super::super::record::Published { fingerprint: left.current.fingerprint, at: NOW });
    let mut evidence = evidence(&left);
    let before = boot().plus(-DAY);
    let mut held = Channel::default();
    held.answered(Some(content(Fingerprint::of("old"))), before);
    evidence.slots.insert(slot.clone(), held);
    assert_eq!(plan(&evidence, &policy()), Step::Do(Effect::MarkRetiring { slot: slot.clone() }));
    let refused = Fault::new(Certainty::NotDone, FaultClass::Transient, "the slot is gone");
    evidence.effects.insert("mark_retiring".into(), Trouble { count: 1, at: boot().plus(-SignedDuration::from_mins(1)), fault: refused });
    assert_eq!(plan(&evidence, &policy()), Step::Look(Look::Slot(slot.clone())));
    evidence.slots.insert(slot, seen(None));
    assert_eq!(committed(plan(&evidence, &policy())).0, CommitKind::Accounted);
}

#[test]
fn what_was_ready_for_its_revoke_is_not_when_the_window_starts_anew() {
    let mut moved = evidence(&revoking());
    store(&mut moved).current = Some((SlotId::new("elsewhere"), content(Fingerprint::of("new"))));
    let (kind, next) = committed(plan(&moved, &policy()));
    assert_eq!(
        (kind, next.published, next.rotation.map(|rotation| rotation.stage)),
        (CommitKind::Rebased, None, Some(Stage::Published)),
        "else the gate would be tried every minute of the window"
    );
}
