//! What the daemon's own snapshot shows while a real worker rotates a token.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

#[cfg(test)]
#[expect(dead_code, reason = "not all of the rig is needed here")]
mod rig;

use std::sync::Arc;
use std::time::Duration;

use evertoken::admin::{Snapshot as _, readiness};
use evertoken::daemon::snapshot::FleetSnapshot;
use evertoken::rotation::command::Command;
use evertoken::rotation::health::Phase;
use evertoken::telemetry::metrics::Exposition;
use rig::{Kind, Rig};

/// The value of a series in a scrape.
fn value(snapshot: &FleetSnapshot, series: &str) -> Option<f64> {
    let text = snapshot.metrics(Exposition::Prometheus).unwrap();
    text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

fn failing(snapshot: &FleetSnapshot) -> Vec<&'static str> {
    readiness(&snapshot.daemon(), &snapshot.statuses()).iter().filter(|check| !check.holds).map(|check| check.name).collect()
}

#[tokio::test]
async fn a_rotation_can_be_followed_from_outside() {
    let rig = Rig::new(Kind::File, 3600).await;
    let fleet = Arc::new(rig.fleet());
    let snapshot = FleetSnapshot::new(fleet.clone());
    assert_eq!(failing(&snapshot), ["looked_at"], "nothing was looked at yet");
    let mut worker = rig.worker(&fleet);
    worker.pass(&fleet).await;
    assert_eq!(failing(&snapshot), [""; 0]);
    assert_eq!(value(&snapshot, "evertoken_token_versions_live{token=\"bot\"}"), Some(1.0));
    assert_eq!(value(&snapshot, "evertoken_token_healthy{token=\"bot\"}"), Some(1.0));
    let end = value(&snapshot, "evertoken_token_expiration_timestamp_seconds{token=\"bot\"}").unwrap();
    assert!(snapshot.document().healthy && value(&snapshot, "evertoken_token_refresh_due_timestamp_seconds{token=\"bot\"}").unwrap() < end);
    assert!(value(&snapshot, "evertoken_provider_clock_offset_seconds").is_some());

    worker.command(&fleet, &Command::Rotate).await.unwrap();
    rig.run(&mut worker, &fleet, Duration::from_secs(15), |end| end.status.phase == Phase::Propagating).await;
    assert_eq!(value(&snapshot, "evertoken_token_versions_live{token=\"bot\"}"), Some(2.0));
    assert_eq!(value(&snapshot, "evertoken_token_phase{token=\"bot\",phase=\"propagating\"}"), Some(1.0));
    assert_eq!(value(&snapshot, "evertoken_sink_lag_seconds{token=\"bot\",sink=\"disk\"}"), Some(0.0));
    assert!(value(&snapshot, "evertoken_token_last_success_timestamp_seconds{token=\"bot\",step=\"promote\"}").is_some());
    rig.run(&mut worker, &fleet, Duration::from_secs(15), |end| end.status.phase == Phase::Rest).await;
    assert_eq!(value(&snapshot, "evertoken_token_versions_live{token=\"bot\"}"), Some(1.0));
}

#[tokio::test]
async fn what_keeps_the_daemon_from_its_work_is_shown() {
    let rig = Rig::new(Kind::File, 3600).await;
    let fleet = Arc::new(rig.fleet());
    let snapshot = FleetSnapshot::new(fleet.clone());
    let mut worker = rig.worker(&fleet);
    worker.pass(&fleet).await;
    assert_eq!(value(&snapshot, "evertoken_ledger_writable"), Some(1.0));
    fleet.vitals.ledger_lost_row("no space left".into());
    assert_eq!(failing(&snapshot), ["ledger"]);
    assert_eq!(value(&snapshot, "evertoken_ledger_writable"), Some(0.0));
    let document = snapshot.document();
    assert!(!document.healthy && document.conditions[0].message.contains("no space left"), "{document:?}");
    assert_eq!(fleet.vitals.ledger_takes_rows().unwrap().rows, 1);
    fleet.vitals.state_dir(Some("in use by another".into()));
    assert_eq!(failing(&snapshot), ["state_dir"]);
    assert_eq!(value(&snapshot, "evertoken_state_directory_held"), Some(0.0));
    fleet.vitals.state_dir(None);
    assert!(snapshot.document().healthy);
    fleet.vitals.reloaded(false);
    assert_eq!(value(&snapshot, "evertoken_config_last_reload_successful"), Some(0.0));
    assert_eq!(failing(&snapshot), [""; 0], "the configuration before it is in force");
    fleet.breaker(|breaker| breaker.open(evertoken::clock::wall(), "two rejections"));
    assert_eq!(value(&snapshot, "evertoken_breaker_open"), Some(1.0));
    let document = snapshot.document();
    assert_eq!((document.healthy, document.breaker.why.as_deref()), (false, Some("two rejections")));
}
