//! Lost answers, refusals and outages of either side, at each kind of call.

use std::time::Duration;

use evertoken::simulator::fault::{Condition, Fault, Rule, Stage, Test};
use serde_json::json;

use super::bed::{Bed, Service, TOKEN};
use super::row::{Case, Row};

/// The effect is done and its answer never comes.
const LOST: Fault = Fault::Drop { at: Stage::Answered };

/// The n-th call of that name whose parameter holds a text.
fn nth(call: &str, param: &str, text: &str, n: u32, fault: Fault) -> Rule {
    let condition = Some(Condition { param: param.to_owned(), test: Test::Contains(text.to_owned()) });
    Rule { condition, ..Rule::once(call, fault).after(n - 1) }
}

/// The first call that stages, marks, promotes or takes a mark off, by what its request says.
pub(super) fn step(what: &str, fault: Fault) -> Rule {
    match what {
        "stage" => nth("PutSecretValue", "VersionStages", "evertoken-staged", 1, fault),
        "mark" => nth("UpdateSecretVersionStage", "VersionStage", "evertoken-retiring", 1, fault),
        "promote" => nth("UpdateSecretVersionStage", "VersionStage", "AWSCURRENT", 1, fault),
        "unmark" => nth("UpdateSecretVersionStage", "VersionStage", "evertoken-retiring", 2, fault),
        other => panic!("no step {other}"),
    }
}

/// The n-th record that is written.
fn record(n: u32, fault: Fault) -> Rule {
    nth("PutSecretValue", "VersionStages", "evertoken-state", n, fault)
}

pub(super) fn http(status: u16) -> Fault {
    Fault::page(status, "text/html", "<html>Sorry, something went wrong.</html>")
}

pub(crate) fn rows() -> Vec<Case> {
    let mut rows = refreshes();
    for what in ["stage", "mark", "promote", "unmark"] {
        rows.push(Row::new(format!("{what}: the answer is lost")).aws(step(what, LOST)).run());
        rows.push(Row::new(format!("{what}: refused with 500 three times")).aws(step(what, http(500)).times(3)).run());
    }
    for n in 1..=5 {
        rows.push(Row::new(format!("record {n}: the answer is lost")).aws(record(n, LOST)).run());
    }
    rows.push(Row::new("revoke: the answer is lost").meta(Rule::once("revoke", LOST)).run());
    rows.push(Row::new("revoke: refused with 500 once").meta(Rule::once("revoke", http(500))).run());
    for call in ["introspect", "me"] {
        rows.push(Row::new(format!("{call}: 503 four times")).meta(Rule::once(call, http(503)).after(1).times(4)).run());
        rows.push(Row::new(format!("{call}: the answer is lost twice")).meta(Rule::once(call, LOST).times(2)).run());
    }
    for call in ["DescribeSecret", "GetSecretValue"] {
        rows.push(Row::new(format!("{call}: 500 four times")).aws(Rule::once(call, http(500)).after(3).times(4)).run());
    }
    rows.extend(outages());
    rows
}

/// Only a refresh may leave a token behind that nobody knows; it is counted and told.
fn refreshes() -> Vec<Case> {
    let unknown = |name: &str, fault: Fault| {
        Row::new(format!("refresh: {name}")).meta(Rule::once("refresh", fault)).mints(2..=2).alarm("token.unaccounted")
    };
    let endless = Fault::Endless { bytes: Some(8 << 20) };
    vec![
        unknown("the answer is lost", LOST).run(),
        unknown("executed, then a reset", LOST).meta(Rule::once("refresh", Fault::Reset)).run(),
        unknown("half of the answer comes", Fault::Drop { at: Stage::Body }).run(),
        unknown("eight megabytes come", endless).run(),
        Row::new("refresh: 500 instead").meta(Rule::once("refresh", http(500))).tolerate("token.unaccounted").run(),
        Row::new("refresh: lost before it was performed")
            .meta(Rule::once("refresh", Fault::Drop { at: Stage::Received }))
            .tolerate("token.unaccounted")
            .run(),
        Row::new("refresh: a redirect is not followed")
            .meta(Rule::once("refresh", Fault::Redirect { location: "http://127.0.0.1:9/".into(), status: 302 }))
            .tolerate("token.unaccounted")
            .run(),
        Row::new("refresh: throttled once")
            .meta(Rule::once(
                "refresh",
                Fault::reply(
                    400,
                    &json!({"error": {"message": "(#4) Application request limit reached", "type": "OAuthException", "code": 4}}),
                ),
            ))
            .run(),
    ]
}

fn outages() -> Vec<Case> {
    let refuses = |call: &str| Rule::always(call, http(500));
    vec![
        // Nothing is minted while the intent cannot be written.
        Row::new("the store takes no intent, so nothing is minted").aws(refuses("PutSecretValue")).play(async |bed: &mut Bed| {
            tokio::time::sleep(Duration::from_secs(6)).await;
            assert_eq!(bed.mints(), 0);
            bed.calm();
        }),
        Row::new("the store dies after the refresh; the spool holds").aws(Rule::always("PutSecretValue", http(500)).after(2)).play(spooled),
        Row::new("the store dies after the refresh, and the daemon too").aws(step("stage", http(500)).times(1000)).play(
            async |bed: &mut Bed| {
                bed.until("a token is spooled", Duration::from_secs(15), |bed| !bed.places.spooled().is_empty()).await;
                bed.kill().await;
                bed.start();
                tokio::time::sleep(Duration::from_secs(3)).await;
                assert_eq!(bed.mints(), 1, "a second mint though the first is in the spool");
                bed.calm();
            },
        ),
        Row::new("Meta is away at the start").meta(Rule::always("introspect", http(503))).play(async |bed: &mut Bed| {
            tokio::time::sleep(Duration::from_secs(5)).await;
            assert!(bed.daemons[0].ended().is_none(), "an outage ended the daemon");
            assert_eq!(bed.mints(), 0);
            bed.calm();
        }),
        Row::new("the sink never takes the token")
            .shape(|shape| (shape.life_s, shape.age_s) = (40, 12))
            .by_hand()
            .mints(2..=2)
            .play(blocked_sink),
        Row::new("a person says hold while the window runs").play(held),
    ]
}

async fn spooled(bed: &mut Bed) {
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(bed.mints() <= 1);
    bed.calm();
}

/// A place that never takes the new token: nothing is revoked, and the next refresh comes when it is due all the same.
async fn blocked_sink(bed: &mut Bed) {
    bed.loosen_sink(true);
    bed.start();
    bed.until_event("token.adopted").await;
    bed.order(&["rotate", TOKEN, "--yes"]).await;
    bed.until("the next refresh", Duration::from_secs(26), |bed| bed.mints() == 2).await;
    assert!(!bed.calls(Service::Meta).iter().any(|call| call.call == "revoke"), "revoked though the sink holds the old token");
    bed.loosen_sink(false);
}

/// A hold: no refresh though one is due, no revoke though the window is over; both come after the release.
async fn held(bed: &mut Bed) {
    bed.until_record("the window runs", |record| record.published.is_some() && record.rotation.is_some()).await;
    bed.order(&["hold", TOKEN, "--yes"]).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(bed.works(&bed.old.fingerprint), "revoked though a person said hold");
    bed.order(&["release", TOKEN, "--yes"]).await;
}
