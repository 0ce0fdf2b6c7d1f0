//! What people are told first, and when things are due.

use jiff::SignedDuration;

use super::super::fault::{Certainty, Fault, FaultClass};
use super::super::plan::plan;
use super::super::record::{Backoff, Retiree, Stage, Unaccounted};
use super::super::slot::SlotId;
use super::super::testing::{NOW, boot, content, evidence, looked, policy, record, revoking, rotation, seen, young};
use super::super::token::Fingerprint;
use super::*;

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

fn shown(evidence: &Evidence, policy: &Policy) -> TokenStatus {
    status(evidence, policy, &plan(evidence, policy))
}

/// What a person is told first.
fn first(status: &TokenStatus) -> &Condition {
    status.conditions.iter().find(|condition| condition.severity() > Severity::Calm).expect("something to tell")
}

#[test]
fn the_action_has_its_own_time_and_the_next_look_another() {
    let rest = Record { current: young("old"), ..record() };
    let status = shown(&evidence(&rest), &policy());
    let refresh = status.current.as_ref().and_then(|current| current.refresh_due).expect("it ends");
    assert_eq!((status.next_action.at, status.next_action.waiting_for.as_slice()), (refresh, ["rest".to_owned()].as_slice()));
    let look = status.next_action.next_look_at.expect("it looks");
    assert!(look > NOW && look <= later(NOW, MINUTE * 60), "{look}");

    let text = serde_json::to_string(&status).expect("plain data").replace(&format!("\"next_look_at\":\"{look}\","), "");
    assert_eq!(serde_json::from_str::<TokenStatus>(&text).expect("an older daemon's").next_action.next_look_at, None);
}

#[test]
fn a_pause_after_failures_moves_the_refresh() {
    let not_before = later(NOW, MINUTE * 600);
    let mut paused = rotation(Stage::Between);
    paused.by = "writer".into();
    let backoff = Some(Backoff { count: 1, not_before, why: "HTTP 200".into() });
    let status = shown(&evidence(&Record { rotation: Some(paused), backoff, ..record() }), &policy());
    assert_eq!((status.next_action.waiting_for[0].as_str(), status.next_action.at), ("mint_retrying", not_before));
}

#[test]
fn a_rejected_token_is_told_first_until_another_takes_its_turn() {
    let retiree = Retiree {
        slot: SlotId::new("slot-new"),
        fingerprint: Fingerprint::of("new"),
        why: RetireeKind::Quarantined,
        since: NOW,
        expires: None,
        staged_against: None,
        revoking: false,
        rejected: Some("it lacks ads_read".into()),
    };
    let quarantined = Record { current: young("old"), retirees: vec![retiree], ..record() };
    let published = Some(super::super::record::Published { fingerprint: quarantined.current.fingerprint, at: NOW });
    let quarantined = Record { published, ..quarantined };
    let mut seen_now = evidence(&quarantined);
    if let Some(store) = seen_now.store.seen.as_mut() {
        store.value.retiring.push(SlotId::new("slot-new"));
    }
    let status = shown(&seen_now, &policy());
    assert_eq!(status.phase, Phase::Quarantined);
    let told = first(&status);
    assert_eq!(told.reason, "quarantined");
    assert!(told.message.contains("it lacks ads_read") && told.message.contains("evertoken rotate bot"), "{}", told.message);
    assert!(!status.next_action.what.contains("consumers move"), "{}", status.next_action.what);

    let mut replaced = quarantined;
    replaced.current.since = later(NOW, MINUTE);
    let status = shown(&evidence(&replaced), &policy());
    assert!(status.conditions.iter().all(|condition| condition.reason != "quarantined"), "another one took its turn");
}

#[test]
fn a_sink_that_fails_is_told_with_what_its_readers_have() {
    let record = Record { published: None, rotation: Some(rotation(Stage::Published)), ..revoking() };
    let mut seen_now = evidence(&record);
    seen_now.sinks[0].read = seen(Some((SlotId::new("sink-old"), content(Fingerprint::of("old")))));
    if let Some(store) = seen_now.store.seen.as_mut() {
        store.value.retiring.push(SlotId::new("slot-old"));
    }
    let fault = Fault::new(Certainty::NotDone, FaultClass::Denied, "Permission denied");
    seen_now.effects.insert("publish disk".into(), super::super::evidence::Trouble { count: 2, at: boot(), fault });
    let status = shown(&seen_now, &policy());
    let told = first(&status);
    assert_eq!(told.reason, "sink_failing");
    let old = Fingerprint::of("old").to_string();
    for part in ["sink disk", "Permission denied", &old, "which works until", "not revoked until this sink", "give evertoken the right"] {
        assert!(told.message.contains(part), "{part}: {}", told.message);
    }
    let sink = &status.sinks[0];
    assert_eq!((sink.in_sync, sink.holds.as_deref()), (Some(false), Some(old.as_str())));
    assert_eq!(sink.holds_until, rotation(Stage::Published).base.expires.at());

    seen_now.sinks[0].read = seen(None);
    assert!(first(&shown(&seen_now, &policy())).message.contains("find no token"));
}

#[test]
fn a_lost_token_is_told_with_its_reason() {
    let at = later(NOW, SignedDuration::new(90, 123_456_789));
    let row = |why: &str| Unaccounted { rotation: "r".into(), attempt: 1, since: NOW, bound: at, why: why.into() };
    let lost = Record { current: young("old"), unaccounted: vec![row("HTTP 200: no access_token in the answer")], ..record() };
    let status = shown(&evidence(&lost), &policy());
    let message = &first(&status).message;
    assert!(message.contains("HTTP 200: no access_token in the answer") && !message.contains(".123"), "{message}");
    assert_eq!(status.unaccounted[0].why.as_deref(), Some("HTTP 200: no access_token in the answer"));

    let older = Record { unaccounted: vec![row("")], ..lost };
    assert_eq!(shown(&evidence(&older), &policy()).unaccounted[0].why, None);
}

#[test]
fn the_window_is_told_as_it_is_for_this_life() {
    let mut short = Record { current: young("old"), ..record() };
    short.current.expires = Expiry::At(later(short.current.issued_at, MINUTE * 60 * 40));
    let mut seen_now = evidence(&short);
    seen_now.looks.insert(short.current.fingerprint, seen(looked(&short.current)));
    let window = shown(&seen_now, &policy()).window.expect("it is adopted");
    assert_eq!((window.configured_seconds, window.effective_seconds, window.consumer_ttl_seconds), (86_400, 36_000, 300));
}
