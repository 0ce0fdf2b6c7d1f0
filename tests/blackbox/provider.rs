//! What Meta may do that is not an outage: other tokens than expected, revokes that lie, tokens that end from outside.

use std::time::Duration;

use evertoken::simulator::graph::knobs::{ExpiresIn, Knobs, RefreshKnobs, RevokeBody, RevokeEffect};
use evertoken::simulator::graph::state::TokenState;
use evertoken::simulator::graph::violations::ViolationKind;

use super::bed::{Bed, Service};
use super::oracles::restless;
use super::row::{Case, Row};

pub(crate) fn rows() -> Vec<Case> {
    let mut rows = vec![
        Row::new("the same token comes back, extended")
            .knobs(|knobs| (knobs.refresh.same_token, knobs.refresh.same_token_extended) = (true, true))
            .mints(0..=0)
            .without_rest()
            .play(async |bed: &mut Bed| {
                bed.until_event("rotation.extended").await;
                tokio::time::sleep(Duration::from_secs(5)).await;
                assert_eq!(bed.current(), bed.old.fingerprint);
                assert_eq!(restless(bed), None);
                assert_eq!(count(bed, "refresh"), 1, "extended, and asked again at once");
                assert_eq!(count(bed, "revoke"), 0);
            }),
        Row::new("the same token comes back, its end as it was")
            .knobs(|knobs| knobs.refresh.same_token = true)
            .mints(0..=0)
            .without_rest()
            .violation(ViolationKind::RefreshTooOften)
            .play(async |bed: &mut Bed| {
                bed.until_event("rotation.extended").await;
                tokio::time::sleep(Duration::from_secs(4)).await;
                assert_eq!(bed.current(), bed.old.fingerprint);
                assert_eq!(count(bed, "revoke"), 0);
                assert!(count(bed, "refresh") <= 3, "asked {} times", count(bed, "refresh"));
            }),
        unfit("fewer scopes", |knobs| knobs.refresh.lose_scopes = vec!["whatsapp_business_messaging".into()]),
        unfit("fewer targets", |knobs| knobs.refresh.lose_targets = vec!["8001".into()]),
        // User 10000 has no other token: its end would be an outage of theirs.
        unfit("another user", |knobs| knobs.refresh.user_id = Some("10000".into())),
        unfit("another app", |knobs| knobs.refresh.app_id = Some("999".into())),
        unfit("another type", |knobs| knobs.refresh.kind = Some("PAGE".into())),
        unfit("an end before the old one's", |knobs| knobs.refresh.life_s = Some(20)),
        Row::new("the new token works only after a second").knobs(|knobs| knobs.refresh.invalid_for_s = 1).run(),
        Row::new("more scopes than before").knobs(|knobs| knobs.refresh.add_scopes = vec!["ads_read".into()]).run(),
        Row::new("a revoke says success and does nothing, at first").knobs(|knobs| knobs.revoke.effect = RevokeEffect::Nobody).play(
            async |bed: &mut Bed| {
                bed.until("two revokes", Duration::from_secs(25), |bed| count(bed, "revoke") >= 2).await;
                assert!(bed.places.record().unwrap().rotation.is_some(), "taken for done though the old token lives");
                bed.graph.set_knobs(|knobs| knobs.revoke.effect = RevokeEffect::Victim);
            },
        ),
        Row::new("a revoke says error and has worked").knobs(|knobs| knobs.revoke.answer_error = true).run(),
        Row::new("a revoke takes two seconds to show").knobs(|knobs| knobs.revoke.delay_s = 2).run(),
        // Nothing can undo it: consumers fail, and the daemon says so at once and stops the fleet.
        Row::new("a revoke kills the new token too")
            .knobs(|knobs| knobs.revoke.effect = RevokeEffect::WholeSession)
            .outage()
            .without_rest()
            .alarm("breaker.opened")
            .alarm("token.dead")
            .play(async |bed: &mut Bed| {
                bed.until_event("token.dead").await;
                assert!(bed.events().iter().any(|event| event["event"] == "breaker.opened"));
                assert_eq!(count(bed, "revoke"), 1);
                tokio::time::sleep(Duration::from_secs(3)).await;
                assert_eq!((bed.mints(), count(bed, "revoke")), (1, 1), "goes on though everything is dead");
            }),
        Row::new("the current token is killed from outside during the window")
            .outage()
            .revoke_unjudged()
            .tolerate("token.dead")
            .alarm("token.healed")
            .without_rest()
            .play(killed_new),
        Row::new("the old token is killed from outside during the window").play(async |bed: &mut Bed| {
            bed.until_record("the window runs", |record| record.published.is_some() && record.rotation.is_some()).await;
            // Consumers keep what they read for a second.
            tokio::time::sleep(Duration::from_millis(1300)).await;
            bed.graph.set_token_state(&bed.old.fingerprint, TokenState::LoggedOut);
        }),
    ];
    for body in [RevokeBody::Text, RevokeBody::TrailingComma, RevokeBody::Empty, RevokeBody::FalseText] {
        rows.push(Row::new(format!("a revoke is answered with {body:?}")).knobs(|knobs| knobs.revoke.body = body).run());
    }
    let forms = [
        ExpiresIn::Missing,
        ExpiresIn::Alias,
        ExpiresIn::Text,
        ExpiresIn::Value(0.into()),
        ExpiresIn::Value((-1).into()),
        ExpiresIn::Value(1e18.into()),
    ];
    for form in forms {
        rows.push(Row::new(format!("the life is said as {form:?}")).knobs(|knobs| knobs.refresh.expires_in = form).run());
    }
    rows
}

fn count(bed: &Bed, call: &str) -> usize {
    bed.calls(Service::Meta).iter().filter(|entry| entry.call == call).count()
}

/// A new token that is not fit: never promoted, told, kept until it can be revoked, and no second mint before the pause is over. Once
/// Meta behaves, the next attempt replaces the old one and nothing of the unfit one is left.
fn unfit(what: &str, turn: impl FnOnce(&mut Knobs)) -> Case {
    Row::new(format!("the new token has {what}")).knobs(turn).mints(2..=2).alarm("verify.rejected").play(replaced)
}

async fn replaced(bed: &mut Bed) {
    bed.until_event("verify.rejected").await;
    assert_eq!((bed.mints(), bed.current()), (1, bed.old.fingerprint.clone()));
    let pause = bed.places.record().and_then(|record| record.backoff).expect("a pause before the next mint");
    bed.graph.set_knobs(|knobs| knobs.refresh = RefreshKnobs::default());
    bed.until("the next mint", Duration::from_secs(20), |bed| bed.mints() == 2).await;
    assert!(bed.clock.now() >= pause.not_before, "minted before the pause was over");
}

/// The old token still lives and its slot still holds it: consumers get it back.
async fn killed_new(bed: &mut Bed) {
    bed.until_record("the window runs", |record| record.published.is_some() && record.rotation.is_some()).await;
    let dead = bed.current();
    bed.graph.set_token_state(&dead, TokenState::LoggedOut);
    bed.until("the living token is current again", Duration::from_secs(10), |bed| bed.current() == bed.old.fingerprint).await;
    assert!(bed.works(&bed.old.fingerprint));
}
