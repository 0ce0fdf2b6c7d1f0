//! A person edits the secret while the daemon works, at each phase of a rotation.
//!
//! What a person puts there and works is what consumers use: it is taken over, never revoked. What they replace is left alone or
//! becomes surplus. What does not work is left where it is and shown.

use std::time::Duration;

use evertoken::rotation::record::Stage as Phase;
use evertoken::simulator::fault::{Condition, Fault, Rule, Stage, Test};
use evertoken::simulator::secrets_manager::CURRENT;

use super::bed::{Bed, ENTRY, Service, TOKEN};
use super::oracles::restless;
use super::row::{Case, Row};

/// When a person comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Rest,
    /// The refresh is asked for and not answered.
    Intent,
    /// The new token is staged and not promoted.
    Staged,
    /// The promotion is done and its answer held.
    Promoted,
    /// The window runs.
    Propagating,
    /// The revoke is sent and held.
    Revoking,
}

/// What they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    /// Put another good token.
    Put,
    /// Move AWSCURRENT back to the version with the old token.
    RollBack,
    /// Put something that is no token.
    Garbage,
}

pub(crate) fn rows() -> Vec<Case> {
    let mut rows = Vec::new();
    for when in [When::Rest, When::Intent, When::Staged, When::Promoted, When::Propagating, When::Revoking] {
        rows.push(put(when, false));
        rows.push(garbage(when));
    }
    rows.push(put(When::Intent, true));
    rows.push(put(When::Staged, true));
    rows.push(roll_back(When::Propagating));
    rows.push(roll_back_before_the_answer());
    rows.push(roll_back_under_revoke());
    rows.push(held_by_a_person_after_a_crash());
    rows.push(duel());
    rows
}

fn row(deed: Deed, when: When, killed: bool) -> Row {
    let killed = if killed { ", and the daemon is killed" } else { "" };
    let row = Row::new(format!("{deed:?} at {when:?}{killed}"));
    let label = |text: &str| Some(Condition { param: "VersionStage".into(), test: Test::Contains(text.into()) });
    match when {
        // Half of a fresh token's life is rest.
        When::Rest => row.shape(|shape| shape.age_s = 10),
        When::Intent => row.meta(Rule::once("refresh", Fault::Hold { at: Stage::Answered })),
        When::Staged => {
            let held = Fault::Hold { at: Stage::Received };
            row.aws(Rule { condition: label("evertoken-retiring"), ..Rule::once("UpdateSecretVersionStage", held) })
        }
        When::Promoted => {
            let held = Fault::Hold { at: Stage::Answered };
            row.aws(Rule { condition: label(CURRENT), ..Rule::once("UpdateSecretVersionStage", held) })
        }
        When::Propagating => row,
        When::Revoking => row.meta(Rule::once("revoke", Fault::Hold { at: Stage::Received })),
    }
}

/// Waits for the moment.
async fn moment(bed: &Bed, when: When) {
    match when {
        When::Rest => bed.until("adopted and at rest", Duration::from_secs(15), |bed| restless(bed).is_none()).await,
        When::Intent => drop(bed.held(Service::Meta, "refresh").await),
        When::Staged | When::Promoted => drop(bed.held(Service::Aws, "UpdateSecretVersionStage").await),
        When::Propagating => {
            bed.until_record("the window runs", |record| {
                record.rotation.as_ref().is_some_and(|rotation| rotation.stage == Phase::Published)
            })
            .await;
        }
        When::Revoking => drop(bed.held(Service::Meta, "revoke").await),
    }
}

/// A good token by hand: it stays, and whatever the rotation had made ends.
fn put(when: When, killed: bool) -> Case {
    let mints = if when == When::Rest { 0 } else { 1 };
    let mut row = row(Deed::Put, when, killed).mints(mints..=mints).without_rest();
    if killed {
        row = row.tolerate("token.unaccounted").mints(0..=2);
    }
    row.play(async move |bed: &mut Bed| {
        moment(bed, when).await;
        let theirs = bed.put_by_person();
        if killed {
            bed.kill().await;
            bed.start();
        }
        bed.release();
        bed.until("their token is taken over", Duration::from_secs(10), |bed| {
            bed.places.record().is_some_and(|record| record.current.fingerprint.to_string() == theirs.fingerprint)
        })
        .await;
        // What a person replaced may be a backup somewhere: it ends by itself. What only we made is revoked.
        bed.until("nothing is under way", Duration::from_secs(14), |bed| {
            bed.places.record().is_some_and(|record| {
                record.rotation.is_none()
                    && record.retirees.iter().all(|retiree| retiree.why == evertoken::rotation::record::RetireeKind::Left)
            })
        })
        .await;
        assert!(bed.works(&theirs.fingerprint), "what a person put was revoked");
        assert_eq!(bed.current(), theirs.fingerprint);
        bed.until("the sink follows", Duration::from_secs(10), |bed| bed.places.read()[1].1.as_deref() == Some(theirs.text.as_str())).await;
    })
}

/// Back to the old token: it stays current and alive; the new one waits for its end.
fn roll_back(when: When) -> Case {
    // The old token is not due yet, so nothing but the rollback decides what is current.
    row(Deed::RollBack, when, false).shape(|shape| shape.age_s = 10).without_rest().play(async move |bed: &mut Bed| {
        bed.until_event("token.adopted").await;
        bed.order(&["rotate", TOKEN, "--yes"]).await;
        moment(bed, when).await;
        let fresh = bed.current();
        bed.manager.roll_back(ENTRY, &version_of(bed, &bed.old.fingerprint), bed.clock.now()).unwrap();
        bed.release();
        bed.until_record("the old token is taken over again", |record| record.rotation.is_none()).await;
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(bed.current(), bed.old.fingerprint, "promoted over a person's rollback");
        assert!(bed.works(&bed.old.fingerprint), "the token that a person rolled back to was revoked");
        // While the old token's version is current, a paused rotator could still promote the new one over it.
        assert!(bed.works(&fresh));
    })
}

/// In the instant between a promotion and its answer a rollback looks like a promotion that was not done: it is done again, and
/// nobody is harmed.
fn roll_back_before_the_answer() -> Case {
    row(Deed::RollBack, When::Promoted, false).play(async |bed: &mut Bed| {
        moment(bed, When::Promoted).await;
        bed.manager.roll_back(ENTRY, &version_of(bed, &bed.old.fingerprint), bed.clock.now()).unwrap();
        bed.release();
    })
}

/// Between the last look and the revoke: nobody can prevent it. The living token comes back and a person is told.
fn roll_back_under_revoke() -> Case {
    row(Deed::RollBack, When::Revoking, false).outage().revoke_unjudged().tolerate("token.dead").play(async move |bed: &mut Bed| {
        moment(bed, When::Revoking).await;
        let fresh = bed.current();
        bed.manager.roll_back(ENTRY, &version_of(bed, &bed.old.fingerprint), bed.clock.now()).unwrap();
        bed.release();
        bed.until("the living token is current again", Duration::from_secs(10), |bed| bed.current() == fresh).await;
        assert!(bed.works(&fresh));
    })
}

/// Something that holds no token: left as it is, told, nothing minted or revoked until a person puts a good one.
fn garbage(when: When) -> Case {
    let mints = if when == When::Rest { 0 } else { 1 };
    // Whoever keeps what they read is served for a while; whoever reads anew gets what the person put.
    row(Deed::Garbage, when, false).outage().mints(mints..=mints).alarm("token.attention").without_rest().play(
        async move |bed: &mut Bed| {
            moment(bed, when).await;
            bed.manager.put_as_person(ENTRY, "not a token\nat all", bed.clock.now()).unwrap();
            bed.release();
            bed.until_event("token.attention").await;
            let revokes = |bed: &Bed| bed.calls(Service::Meta).iter().filter(|call| call.call == "revoke").count();
            let (before, mints) = (revokes(bed), bed.mints());
            tokio::time::sleep(Duration::from_secs(4)).await;
            assert_eq!((revokes(bed), bed.mints()), (before, mints), "went on over a broken entry");
            let theirs = bed.put_by_person();
            bed.until("their token is taken over", Duration::from_secs(12), |bed| {
                bed.places.record().is_some_and(|record| record.current.fingerprint.to_string() == theirs.fingerprint)
            })
            .await;
        },
    )
}

/// Another tool writes all the time: the daemon steps aside and says so.
fn duel() -> Case {
    let often = |shape: &mut super::bed::Shape| {
        shape.age_s = 10;
        shape.token_lines = format!("[tokens.{TOKEN}.schedule]\naudit_interval = \"500ms\"");
    };
    Row::new("another tool keeps writing").shape(often).mints(0..=0).alarm("store.conflict").without_rest().play(async |bed: &mut Bed| {
        bed.until_event("token.adopted").await;
        for _ in 0..8 {
            bed.put_by_person();
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
        assert!(bed.places.record().unwrap().frozen.is_some(), "fights another tool for ever");
    })
}

/// Another commit of the process that took over must not make a dead process's attempt its own: one intent, one mint.
fn held_by_a_person_after_a_crash() -> Case {
    let held = Rule::once("refresh", Fault::Hold { at: Stage::Answered });
    let row = Row::new("a hold and a release while a dead process's mint is open").meta(held).mints(2..=2).alarm("token.unaccounted");
    row.play(async |bed: &mut Bed| {
        bed.held(Service::Meta, "refresh").await;
        bed.kill().await;
        bed.start();
        while !bed.command(&["hold", TOKEN, "--yes"]).await.0.success() {
            // Before its first look the daemon does not take orders for a token.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bed.order(&["release", TOKEN, "--yes"]).await;
    })
}

/// The version that holds a token.
fn version_of(bed: &Bed, fingerprint: &str) -> String {
    bed.places.dump().unwrap().versions.into_iter().find(|version| version.fingerprint == fingerprint).unwrap().id
}
