//! SIGKILL at every external call of a rotation.
//!
//! A clean rotation is recorded first; then, for each of its calls, a fresh bed is killed there and started again. At each call there
//! are three instants: the request is held and never performed, the request is performed and its answer never comes, and the
//! request is performed long after its sender has died, when its successor has moved on.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use evertoken::simulator::fault::{Fault, Rule, Stage};

use super::bed::{Bed, Service};
use super::row::{Case, Row, play};

/// One call of a clean rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) service: Service,
    pub(crate) name: String,
    /// From 1, among calls of this name.
    pub(crate) nth: u32,
}

/// Where a call is when its sender dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Instant {
    /// Nothing has happened and nothing will.
    Received,
    /// The effect stands.
    Answered,
    /// The effect comes after the restart.
    Late,
}

/// The calls of a clean rotation, from the daemon's start to rest.
pub(crate) async fn record() -> Vec<Call> {
    let calls = Rc::new(RefCell::new(Vec::new()));
    let kept = calls.clone();
    let clean = Row::new("a clean rotation, recorded").play(async move |bed: &mut Bed| {
        super::oracles::until_rest(bed, Duration::from_secs(20)).await;
        let mut all: Vec<_> = [Service::Meta, Service::Aws]
            .into_iter()
            .flat_map(|service| bed.calls(service).into_iter().map(move |call| (call.received_at, service, call.call)))
            .collect();
        all.sort();
        let mut counts = BTreeMap::new();
        *kept.borrow_mut() = all
            .into_iter()
            .map(|(_, service, name)| {
                let nth = counts.entry((service, name.clone())).or_insert(0);
                *nth += 1;
                Call { service, name, nth: *nth }
            })
            .collect();
    });
    play(vec![clean]).await;
    calls.take()
}

/// Kills at each call, at each instant.
pub(crate) async fn at_every_call() {
    let calls = record().await;
    println!("{} calls in a clean rotation", calls.len());
    assert!(calls.iter().any(|call| call.name == "refresh") && calls.iter().any(|call| call.name == "revoke"), "{calls:?}");
    let reached = Rc::new(RefCell::new(0_usize));
    let cases: Vec<Case> = calls
        .iter()
        .flat_map(|call| [Instant::Received, Instant::Answered, Instant::Late].map(|instant| (call.clone(), instant)))
        .filter(|(call, instant)| *instant != Instant::Late || changes(call))
        .map(|(call, instant)| kill(call, instant, reached.clone()))
        .collect();
    let count = cases.len();
    play(cases).await;
    println!("{} of {count} kills hit their call", reached.borrow());
}

/// Whether performing it late makes a difference.
fn changes(call: &Call) -> bool {
    matches!(call.name.as_str(), "refresh" | "revoke" | "PutSecretValue" | "UpdateSecretVersionStage")
}

fn kill(call: Call, instant: Instant, reached: Rc<RefCell<usize>>) -> Case {
    let at = if instant == Instant::Answered { Stage::Answered } else { Stage::Received };
    let rule = |fault| Rule::once(&call.name, fault).after(call.nth - 1);
    let mut row = Row::new(format!("killed at {:?} {} {}, {instant:?}", call.service, call.name, call.nth))
        .at(call.service, rule(Fault::Hold { at }));
    if instant == Instant::Late {
        row = row.at(call.service, rule(Fault::Outlive));
    }
    if call.name == "refresh" {
        // The one call that has no way of being asked for twice.
        row = row.mints(1..=2).tolerate("token.unaccounted");
    }
    row.play(async move |bed: &mut Bed| {
        if bed.simulator(call.service).wait_held(&call.name, Duration::from_secs(12)).await.is_none() {
            // The number of looks varies a little from run to run.
            return;
        }
        *reached.borrow_mut() += 1;
        bed.kill().await;
        bed.start();
        if instant == Instant::Late {
            tokio::time::sleep(Duration::from_millis(1500)).await;
        }
        bed.release();
    })
}
