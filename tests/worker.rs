//! One token's worker over both stores and the simulators: whole rotations, with every decision made by the real plan.

#[cfg(test)]
mod rig;

use std::time::Duration;

use evertoken::rotation::command::Command;
use evertoken::rotation::health::Phase;
use rig::{Kind, Rig};

#[cfg(test)]
async fn clean_rotation(kind: Kind) {
    let rig = Rig::new(kind, 3600).await;
    let fleet = rig.fleet();
    let mut worker = rig.worker(&fleet);
    let end = worker.pass(&fleet).await;
    assert_eq!(end.status.phase, Phase::Rest, "{end:#?}");
    assert_eq!(worker.evidence().record().unwrap().current.fingerprint.to_string(), rig.old);
    assert_eq!(evertoken::rotation::token::Fingerprint::of(&rig.sink_text()).to_string(), rig.old, "the sink holds the exact token");
    worker.command(&fleet, &Command::Rotate).await.unwrap();
    rig.manager.reset_tally();
    let from_manager = rig.manager_server.simulator().journal(0).len();
    let from = rig.graph_server.simulator().journal(0).len();
    let end = rig.run(&mut worker, &fleet, Duration::from_secs(15), |end| end.status.phase == Phase::Rest).await;
    let record = worker.evidence().record().unwrap();
    assert_ne!(record.current.fingerprint.to_string(), rig.old, "{end:#?}");
    assert_eq!(rig.alive(), [record.current.fingerprint.to_string()]);
    assert_eq!(evertoken::rotation::token::Fingerprint::of(&rig.sink_text()).to_string(), record.current.fingerprint.to_string());
    assert!(rig.graph.violations().is_empty(), "{:#?}", rig.graph.violations());
    let mut calls: Vec<_> =
        rig.graph_server.simulator().journal(0).into_iter().skip(from).map(|call| (call.received_at, call.call)).collect();
    calls.extend(rig.manager_server.simulator().journal(0).into_iter().skip(from_manager).map(|call| (call.received_at, call.call)));
    calls.sort();
    println!("{} calls: {calls:#?}\nmanager: {:?}", calls.len(), rig.manager.tally());
}

#[tokio::test]
async fn a_clean_rotation_over_aws() {
    clean_rotation(Kind::Aws).await;
}

#[tokio::test]
async fn a_clean_rotation_over_files() {
    clean_rotation(Kind::File).await;
}
