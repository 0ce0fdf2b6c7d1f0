//! What only AWS has: answers that are lost, refusals, a label rule that may not hold, quotas.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evertoken::rotation::fault::{Certainty, Fault as StoreFault, FaultClass};
use evertoken::rotation::payload::Payload;
use evertoken::simulator::fault::{Fault, Rule, Stage};
use evertoken::simulator::secrets_manager::{Action, CURRENT, Denial, Kms, Quota, SecretDump};
use evertoken::store::aws::{AwsHttp, AwsSettings, AwsStore, AwsStoreError};
use evertoken::store::{Mark, RecordBytes, SecretStore, Severity, Written};

use crate::aws::{Moto, Simulated, settings, simulated};
use crate::bed::{Bed, now, seeded, slot};
use crate::env_var;

/// Nobody listens there.
const DEAD_PROXY: &str = "http://127.0.0.1:1";

impl Simulated {
    fn dump(&self, entry: &str) -> SecretDump {
        self.sm.dump(entry, true, self.running.simulator().clock().now()).unwrap()
    }

    fn rule(&self, rule: Rule) {
        self.running.simulator().add_rule(rule);
    }
}

fn payload(text: &str) -> Payload {
    Payload::new(text)
}

fn record(number: u64, text: &str) -> RecordBytes {
    RecordBytes { number, bytes: text.as_bytes().to_vec() }
}

#[track_caller]
fn assert_fault<T: std::fmt::Debug>(result: Result<T, StoreFault>, certainty: Certainty, class: FaultClass) -> StoreFault {
    let fault = result.expect_err("a fault");
    assert_eq!((fault.certainty, fault.class), (certainty, class), "{fault}");
    assert!(!fault.what.contains("EAA") && !fault.what.contains('\n'), "{fault}");
    fault
}

#[tokio::test]
async fn a_put_that_moves_current_is_caught_by_the_proof_and_undone() {
    let world = simulated(|knobs| knobs.custom_label_moves_current = true).await;
    let (entry, held) = seeded(&*world.bed, "EAAold").await;
    for _try in 0..2 {
        assert_eq!(world.bed.store().prove_beside(&entry).await.unwrap(), Written::Conflict);
        assert_eq!(world.bed.other().current(&entry).await.unwrap().as_ref(), Some(&held), "moved back to where it was");
    }
    assert!(world.dump(&entry).labelled("evertoken-probe").is_none());
    assert_eq!(now(&*world.bed, &entry).await, "EAAold");
}

#[tokio::test]
async fn a_proof_that_cannot_be_undone_is_unknown_and_harmless() {
    let world = simulated(|knobs| knobs.custom_label_moves_current = true).await;
    let (entry, _held) = seeded(&*world.bed, "EAAold").await;
    world.sm.turn(|knobs| knobs.deny = vec![Denial { action: Action::UpdateSecretVersionStage, secret: None }]);
    let fault = assert_fault(world.bed.store().prove_beside(&entry).await, Certainty::Unknown, FaultClass::Denied);
    assert!(fault.what.contains("AWSCURRENT"));
    assert_eq!(now(&*world.bed, &entry).await, "EAAold");
}

#[tokio::test]
async fn a_proof_by_a_description_that_lags_is_none() {
    let world = simulated(|knobs| knobs.custom_label_moves_current = true).await;
    let (entry, held) = seeded(&*world.bed, "EAAold").await;
    world.running.simulator().clock().advance(jiff::SignedDuration::from_mins(5));
    world.sm.turn(|knobs| knobs.staleness.describe_ms = 60_000);
    let store = world.bed.store();
    // It shows AWSCURRENT where it was, for all that the put has moved it.
    assert_fault(store.prove_beside(&entry).await, Certainty::Unknown, FaultClass::Transient);
    // Now what is read and what is described differ.
    assert_fault(store.prove_beside(&entry).await, Certainty::NotDone, FaultClass::Transient);
    world.sm.turn(|knobs| knobs.staleness.describe_ms = 0);
    assert_eq!(store.prove_beside(&entry).await.unwrap(), Written::Conflict);
    let current = store.current(&entry).await.unwrap().unwrap();
    assert_eq!(current.payload, held.payload, "byte-equal, whichever version it is");
}

#[tokio::test]
async fn a_lost_answer_is_unknown_and_doing_it_again_is_done() {
    let world = simulated(|_knobs| {}).await;
    let store = world.bed.store();
    let (entry, held) = seeded(&*world.bed, "EAAold").await;
    let lost = |call: &str| world.rule(Rule::once(call, Fault::Drop { at: Stage::Answered }));

    lost("PutSecretValue");
    assert_fault(store.stage(&entry, &slot(1), &payload("EAAnew")).await, Certainty::Unknown, FaultClass::Unreachable);
    assert_eq!(world.bed.other().read(&entry, &slot(1)).await.unwrap().unwrap().expose(), "EAAnew", "a look tells that it was done");
    assert_eq!(store.stage(&entry, &slot(1), &payload("EAAnew")).await.unwrap(), Written::Done);

    lost("PutSecretValue");
    assert_fault(store.write_record(&entry, &record(1, "mine"), true).await, Certainty::Unknown, FaultClass::Unreachable);
    assert_eq!(store.write_record(&entry, &record(1, "mine"), true).await.unwrap(), Written::Done);
    assert_eq!(world.bed.other().write_record(&entry, &record(1, "theirs"), true).await.unwrap(), Written::Conflict);

    for (call, mark) in [("UpdateSecretVersionStage", true), ("UpdateSecretVersionStage", false)] {
        lost(call);
        let first = if mark { store.mark_retiring(&entry, &held.slot).await } else { store.promote(&entry, &held.slot, &slot(1)).await };
        assert_fault(first, Certainty::Unknown, FaultClass::Unreachable);
        if mark {
            assert_eq!(store.mark_retiring(&entry, &held.slot).await.unwrap(), Written::Done);
        }
    }
    assert_eq!(store.look(&entry).await.unwrap().current.unwrap().slot, slot(1), "the promotion stands, as the look tells");

    lost("PutSecretValue");
    assert_fault(store.publish(&entry, Some(&slot(1)), &payload("EAAsink")).await, Certainty::Unknown, FaultClass::Unreachable);
    assert_eq!(now(&*world.bed, &entry).await, "EAAnew");
    assert_eq!(store.publish(&entry, Some(&slot(1)), &payload("EAAsink")).await.unwrap(), Written::Done);
    assert_eq!(store.publish(&entry, Some(&slot(1)), &payload("EAAsink")).await.unwrap(), Written::Done, "current already");
    assert_eq!(now(&*world.bed, &entry).await, "EAAsink");
}

#[tokio::test]
async fn nothing_is_tried_twice_by_itself() {
    let world = simulated(|_knobs| {}).await;
    let (entry, _held) = seeded(&*world.bed, "EAAold").await;
    world.sm.reset_tally();
    world.rule(Rule::always("PutSecretValue", Fault::Drop { at: Stage::Answered }));
    assert_fault(world.bed.store().stage(&entry, &slot(1), &payload("EAAnew")).await, Certainty::Unknown, FaultClass::Unreachable);
    assert_eq!(world.sm.tally().calls(Action::PutSecretValue), 1);
}

#[tokio::test]
async fn a_connection_that_fails_proves_that_nothing_was_sent() {
    let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let store = AwsStore::new(settings(&format!("http://{free}")), &AwsHttp::new(None, None).unwrap());
    assert_fault(store.look("meta/bot").await, Certainty::NotDone, FaultClass::Unreachable);
    assert_fault(store.current("meta/bot").await, Certainty::NotDone, FaultClass::Unreachable);
}

#[tokio::test]
async fn refusals_say_who_can_help() {
    let world = simulated(|_knobs| {}).await;
    let (entry, _held) = seeded(&*world.bed, "EAAold").await;
    let (store, new) = (world.bed.other(), payload("EAAnew"));
    world.sm.turn(|knobs| knobs.deny = vec![Denial { action: Action::PutSecretValue, secret: None }]);
    let fault = assert_fault(store.stage(&entry, &slot(1), &new).await, Certainty::NotDone, FaultClass::Denied);
    assert!(fault.what.contains("PutSecretValue") && fault.what.contains("AccessDeniedException"), "{fault}");
    assert!(fault.trace_id.is_some());
    world.sm.turn(|knobs| knobs.deny = Vec::new());
    for (kms, class) in [(Kms::CannotEncrypt, FaultClass::Denied), (Kms::DeniesAccess, FaultClass::Denied)] {
        world.sm.turn(|knobs| knobs.kms = kms);
        assert_fault(store.stage(&entry, &slot(1), &new).await, Certainty::NotDone, class);
    }
    world.sm.turn(|knobs| knobs.kms = Kms::CannotDecrypt);
    assert_fault(store.look(&entry).await, Certainty::NotDone, FaultClass::Denied);
    assert!(store.examine(&entry).await.unwrap().iter().any(|finding| finding.severity == Severity::Error));
    world.sm.turn(|knobs| {
        knobs.kms = Kms::Allows;
        knobs.unknown_access_keys = std::iter::once("AKIAEMULATOR".to_owned()).collect();
    });
    assert_fault(store.look(&entry).await, Certainty::NotDone, FaultClass::Denied);
    world.sm.turn(|knobs| {
        knobs.unknown_access_keys.clear();
        knobs.reads_per_second = Some(0);
    });
    assert_fault(store.look(&entry).await, Certainty::NotDone, FaultClass::Throttled);
    world.sm.turn(|knobs| knobs.reads_per_second = None);
    world.rule(Rule::once("DescribeSecret", Fault::reply(503, &serde_json::json!({}))));
    assert_fault(store.look(&entry).await, Certainty::Unknown, FaultClass::Transient);
    world.rule(Rule::once("GetSecretValue", Fault::Truncate { bytes: 10 }));
    assert_fault(store.current(&entry).await, Certainty::Unknown, FaultClass::Unreachable);
    let echo = serde_json::json!({ "__type": "ValidationException", "Message": "Value 'EAAnew' at 'secretString' failed" });
    world.rule(Rule::once("PutSecretValue", Fault::reply(400, &echo)));
    assert_fault(store.stage(&entry, &slot(1), &new).await, Certainty::NotDone, FaultClass::BadRequest);
    assert_eq!(store.stage(&entry, &slot(1), &new).await.unwrap(), Written::Done);
}

#[tokio::test]
async fn a_secret_made_anew_under_the_old_name_gets_nothing_of_the_old_one() {
    let world = simulated(|_knobs| {}).await;
    let (entry, _held) = seeded(&*world.bed, "EAAold").await;
    let store = world.bed.store();
    store.write_record(&entry, &record(1, "one"), false).await.unwrap();
    let time = || world.running.simulator().clock().now();
    world.sm.delete(&entry, None, time()).unwrap();
    world.sm.create(&entry, Some("EAAforeign"), time()).unwrap();
    assert_fault(store.write_record(&entry, &record(2, "two"), false).await, Certainty::NotDone, FaultClass::Missing);
    let looked = store.look(&entry).await.unwrap();
    assert_eq!((looked.current.unwrap().payload.expose(), looked.record), ("EAAforeign", None));
}

#[tokio::test]
async fn a_look_is_three_calls_and_two_once_the_record_is_known() {
    let world = simulated(|_knobs| {}).await;
    let (entry, _held) = seeded(&*world.bed, "EAAold").await;
    world.bed.store().write_record(&entry, &record(1, "one"), false).await.unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&seen);
    let observed = AwsStore::new(settings(&world.running.url()), &world.bed.http)
        .observed(Arc::new(move |action, outcome| told.lock().unwrap().push((action, outcome))));
    for calls in [3, 2] {
        seen.lock().unwrap().clear();
        assert_eq!(observed.look(&entry).await.unwrap().record, Some(record(1, "one")));
        assert_eq!(seen.lock().unwrap().len(), calls);
    }
    world.bed.store().write_record(&entry, &record(2, "two"), false).await.unwrap();
    assert_eq!(observed.look(&entry).await.unwrap().record, Some(record(2, "two")), "the cache knows versions, not secrets");
    seen.lock().unwrap().clear();
    assert!(observed.look("nowhere").await.unwrap().current.is_none());
    assert_eq!(*seen.lock().unwrap(), [("DescribeSecret", "missing")]);
}

#[tokio::test]
async fn a_rotation_makes_at_most_fourteen_writes_and_keeps_few_labels() {
    let world = simulated(|_knobs| {}).await;
    let (entry, held) = seeded(&*world.bed, "EAAold").await;
    let store = world.bed.store();
    store.prove_beside(&entry).await.unwrap();
    store.write_record(&entry, &record(1, "rest"), true).await.unwrap();
    world.sm.reset_tally();
    // Intent, stage, published, revoking, rest: what a clean rotation writes.
    store.write_record(&entry, &record(2, "intent"), true).await.unwrap();
    store.stage(&entry, &slot(1), &payload("EAAnew")).await.unwrap();
    store.mark_retiring(&entry, &held.slot).await.unwrap();
    store.promote(&entry, &held.slot, &slot(1)).await.unwrap();
    for number in 3..=5 {
        store.write_record(&entry, &record(number, "on"), false).await.unwrap();
    }
    store.unmark(&entry, &held.slot, Mark::Retiring).await.unwrap();
    store.unmark(&entry, &slot(1), Mark::Staged).await.unwrap();
    let writes = world.sm.tally().counted(Quota::Write);
    assert!(writes <= 14, "{writes}");
    let labels: Vec<String> = world.dump(&entry).versions.iter().flat_map(|version| version.labels.iter().cloned()).collect();
    assert!(labels.iter().filter(|label| label.starts_with("evertoken-")).eq(["evertoken-state-5"]), "{labels:?}");
}

#[tokio::test]
async fn a_label_that_could_not_be_dropped_goes_with_the_next_record() {
    let world = simulated(|_knobs| {}).await;
    let (entry, _held) = seeded(&*world.bed, "EAAold").await;
    let store = world.bed.store();
    store.write_record(&entry, &record(1, "one"), false).await.unwrap();
    world.rule(Rule::once("UpdateSecretVersionStage", Fault::Drop { at: Stage::Received }));
    assert_eq!(store.write_record(&entry, &record(2, "two"), false).await.unwrap(), Written::Done);
    assert!(world.dump(&entry).labelled("evertoken-state-1").is_some());
    assert_eq!(store.write_record(&entry, &record(3, "three"), false).await.unwrap(), Written::Done);
    for gone in ["evertoken-state-1", "evertoken-state-2"] {
        assert!(world.dump(&entry).labelled(gone).is_none(), "{gone}");
    }
}

#[tokio::test]
async fn a_secret_that_is_being_filled_by_two_gets_one_token() {
    let world = simulated(|_knobs| {}).await;
    let entry = world.bed.empty().await;
    // Both see it empty before either puts: the first one's put is held until the second one's is done.
    world.rule(Rule::once("PutSecretValue", Fault::Delay { at: Stage::Received, ms: 300 }));
    let (here, there) = (world.bed.store(), world.bed.other());
    let (one, two) = (payload("EAAone"), payload("EAAtwo"));
    let (slow, quick) = tokio::join!(here.install(&entry, &one, false), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        there.install(&entry, &two, false).await
    });
    assert_eq!((slow.unwrap(), quick.unwrap()), (Written::Conflict, Written::Done));
    assert_eq!(now(&*world.bed, &entry).await, "EAAtwo");
    assert_eq!(world.dump(&entry).labelled(CURRENT).unwrap().labels.len(), 1, "no label of ours is left");
}

#[tokio::test]
async fn a_read_that_lags_is_unknown_and_never_a_conflict() {
    let world = simulated(|_knobs| {}).await;
    let (entry, _held) = seeded(&*world.bed, "EAAold").await;
    let store = world.bed.store();
    let lag = |ms: u64| world.sm.turn(|knobs| knobs.staleness.get_ms = ms);
    lag(60_000);
    assert_fault(store.write_record(&entry, &record(1, "one"), true).await, Certainty::Unknown, FaultClass::Transient);
    assert!(store.look(&entry).await.is_err(), "the record is labelled and cannot be read: that is no look");
    lag(0);
    assert_eq!(store.write_record(&entry, &record(1, "one"), true).await.unwrap(), Written::Done);
    assert_eq!(store.look(&entry).await.unwrap().record, Some(record(1, "one")));
}

/// Assumes a role at moto, which knows STS too, in a process whose environment says where that is.
#[tokio::test]
async fn a_role_is_assumed_for_secrets_of_another_account() {
    let role = "arn:aws:iam::444455556666:role/evertoken";
    if let Some(endpoint) = env_var("AWS_ENDPOINT_URL_STS") {
        let there = AwsSettings {
            role_arn: Some(role.to_owned()),
            external_id: Some("chosen".to_owned()),
            ..settings(&endpoint.into_string().unwrap())
        };
        let store = AwsStore::new(there, &AwsHttp::new(None, None).unwrap());
        assert_eq!(store.install("theirs", &payload("EAAtheirs"), true).await.unwrap(), Written::Done);
        assert!(store.look("theirs").await.unwrap().identity.contains(":444455556666:"), "in the role's account");
        return;
    }
    let Some((_moto, endpoint)) = Moto::started().await else { return };
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", "aws_faults::a_role_is_assumed_for_secrets_of_another_account"]).env("AWS_ENDPOINT_URL_STS", endpoint);
    let output = again.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// A host whose clock is a day behind is refused once, and then signs by AWS's clock.
#[tokio::test]
async fn a_wrong_clock_costs_one_refusal() {
    let world = simulated(|knobs| knobs.max_skew_s = Some(300)).await;
    let (entry, _held) = seeded(&*world.bed, "EAAold").await;
    world.running.simulator().clock().advance(jiff::SignedDuration::from_hours(24));
    let store = world.bed.other();
    assert_fault(store.current(&entry).await, Certainty::NotDone, FaultClass::Denied);
    assert_eq!(store.current(&entry).await.unwrap().unwrap().payload.expose(), "EAAold");
}

/// In processes whose environment gives no key, or no region.
#[tokio::test]
async fn what_the_environment_lacks_is_named() {
    let name = "aws_faults::what_the_environment_lacks_is_named";
    if let Some(lacking) = env_var("EVERTOKEN_LACKING") {
        let (settings, word) = if lacking == "key" {
            (AwsSettings { fixed_key: None, ..settings("http://127.0.0.1:1") }, "credentials")
        } else {
            (AwsSettings { region: None, ..settings("http://127.0.0.1:1") }, "region")
        };
        let store = AwsStore::new(settings, &AwsHttp::new(None, None).unwrap());
        let fault = store.look("meta/bot").await.unwrap_err();
        assert_eq!(fault.certainty, Certainty::NotDone);
        assert_ne!(fault.class, FaultClass::Unreachable);
        assert!(fault.what.contains(word), "{fault}");
        return;
    }
    for lacking in ["key", "region"] {
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", name]).env_clear().env("AWS_EC2_METADATA_DISABLED", "true").env("HOME", "/nonexistent");
        let output = again.env("EVERTOKEN_LACKING", lacking).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said} {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[tokio::test]
async fn the_environments_proxy_is_not_used() {
    let world = simulated(|_knobs| {}).await;
    let (entry, _held) = seeded(&*world.bed, "EAAold").await;
    assert_eq!(world.bed.other().current(&entry).await.unwrap().unwrap().payload.expose(), "EAAold");
    if env_var("ALL_PROXY").is_some_and(|proxy| proxy == DEAD_PROXY) {
        return;
    }
    // Again in a process whose environment names a proxy that nobody serves.
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", "aws_faults::the_environments_proxy_is_not_used"]);
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        again.env(name, DEAD_PROXY);
    }
    again.env_remove("NO_PROXY").env_remove("no_proxy");
    let output = again.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}

#[tokio::test]
async fn a_proxy_that_is_configured_is_used() {
    let world = simulated(|_knobs| {}).await;
    let (entry, _held) = seeded(&*world.bed, "EAAold").await;
    let dead = AwsHttp::new(None, Some(DEAD_PROXY)).unwrap();
    let store = AwsStore::new(settings(&world.running.url()), &dead);
    assert_fault(store.current(&entry).await, Certainty::NotDone, FaultClass::Unreachable);
}

#[test]
fn what_cannot_be_used_is_refused_before_the_first_call() {
    for pem in [&b""[..], b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert!(matches!(AwsHttp::new(Some(pem), None), Err(AwsStoreError::Certificate)));
    }
    let error = AwsHttp::new(None, Some("user:EAAsecret")).unwrap_err();
    assert!(matches!(error, AwsStoreError::Proxy) && !error.to_string().contains("EAAsecret"));
}
