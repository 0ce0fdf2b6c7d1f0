//! `GET oauth/access_token`: a new token for an old one, and an app's own token.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Call;
use crate::simulator::graph::auth::{check_proof, client, unknown_token};
use crate::simulator::graph::errors::GraphError;
use crate::simulator::graph::knobs::{ExpiresIn, RefreshKnobs};
use crate::simulator::graph::state::{TokenKind, TokenSpec, World, later, random_digits, random_token, whole_second};
use crate::simulator::graph::violations::judge_refresh;
use crate::simulator::service::Response;

/// The largest part of a life that `expires_in` falls short of it: Meta's sample says 5183944 for 60 days.
const EXPIRES_IN_SHORT_BY: f64 = 2e-5;

pub(super) fn app_token(world: &mut World, call: &Call<'_>) -> Result<Response, GraphError> {
    let app = client(world, call)?;
    let text = format!("{app}|{}", random_digits(27));
    let spec = TokenSpec { app, kind: TokenKind::App, life_s: Some(0), text: Some(text.clone()), ..TokenSpec::default() };
    world.issue(spec, call.now);
    Ok(Response::json(200, &json!({ "access_token": text, "token_type": "bearer" })))
}

pub(super) fn exchange(world: &mut World, call: &Call<'_>) -> Result<Response, GraphError> {
    let app = client(world, call)?;
    let text = call.required("fb_exchange_token")?;
    let old = world.find(text).ok_or_else(|| unknown_token(text))?;
    if world.tokens[old].app != app {
        // GUESS(G17): a token of another app does not verify with this app's secret.
        return Err(GraphError::bad_signature());
    }
    judge_refresh(world, old, call.now);
    if let Some(end) = world.tokens[old].end(call.now) {
        world.tokens[old].refused = Some((call.now, world.revision));
        return Err(GraphError::dead(&world.tokens[old], end, &world.knobs, call.now));
    }
    // GUESS(G12): a proof is not needed beside the client secret, but one that came is checked.
    check_proof(world, call, &app, call.token().filter(|token| !token.contains('|')).unwrap_or(text))?;

    let minted = if world.knobs.refresh.same_token { same(world, old, call.now) } else { successor(world, old, call.now) };
    world.tokens[old].refreshed = Some((call.now, minted));
    let token = &world.tokens[minted];
    let body = answer(&token.text, token.expires_at, &world.knobs.refresh.expires_in, call.now);
    let response = Response::raw(200, "application/json; charset=UTF-8", body);
    Ok(response.with_note("token", world.tokens[old].fingerprint.as_str()).with_note("minted", token.fingerprint.as_str()))
}

fn same(world: &mut World, old: usize, now: Timestamp) -> usize {
    if world.knobs.refresh.same_token_extended {
        world.tokens[old].expires_at = Some(later(whole_second(now), world.knobs.token_life_s));
    }
    old
}

/// Issues the successor of a token, different in whatever the knobs say. The old one is left alone.
fn successor(world: &mut World, old: usize, now: Timestamp) -> usize {
    let knobs: RefreshKnobs = world.knobs.refresh.clone();
    let origin = world.tokens[old].clone();
    let mut scopes = origin.scopes;
    scopes.retain(|scope| !knobs.lose_scopes.contains(scope));
    scopes.extend(knobs.add_scopes);
    let mut granular = origin.granular;
    granular.retain(|scope, _| scopes.contains(scope));
    for targets in granular.values_mut() {
        targets.retain(|target| !knobs.lose_targets.contains(target));
    }
    let text = match (knobs.token_text, knobs.token_bytes) {
        (Some(text), _) => text,
        (None, Some(length)) => random_digits(length),
        (None, None) => random_token(&world.knobs.marker),
    };
    let spec = TokenSpec {
        app: origin.app,
        user: knobs.user_id.or(origin.user),
        kind: origin.kind,
        scopes,
        granular,
        // GUESS(G10): a token that never expires is followed by one that does, and itself stays as it was.
        // GUESS(G11): without `set_token_expires_in_60_days` the new token expires all the same.
        life_s: if knobs.never_expires { Some(0) } else { knobs.life_s },
        age_s: 0,
        text: Some(text),
    };
    let at = world.issue(spec, now);
    let token = &mut world.tokens[at];
    token.valid_from = later(token.issued_at, knobs.invalid_for_s);
    token.app_shown = knobs.app_id;
    token.kind_shown = knobs.kind;
    token.session = origin.session;
    token.minted_from = Some(origin.fingerprint);
    token.delivered = false;
    at
}

fn answer(text: &str, expires_at: Option<Timestamp>, form: &ExpiresIn, now: Timestamp) -> String {
    let mut body = json!({ "access_token": text, "token_type": "bearer" });
    let seconds = expires_at.map(|end| {
        let left = end.as_second().saturating_sub(now.as_second());
        #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "some hundred seconds at most matter")]
        let slack = (left as f64 * EXPIRES_IN_SHORT_BY) as i64;
        left - text.bytes().map(i64::from).sum::<i64>() % (slack.max(0) + 1)
    });
    match (form, seconds) {
        (ExpiresIn::Missing, _) | (ExpiresIn::True | ExpiresIn::Alias | ExpiresIn::Text, None) => {}
        (ExpiresIn::True, Some(seconds)) => body["expires_in"] = json!(seconds),
        (ExpiresIn::Alias, Some(seconds)) => body["expires"] = json!(seconds),
        (ExpiresIn::Text, Some(seconds)) => body["expires_in"] = json!(seconds.to_string()),
        (ExpiresIn::Value(value), _) => body["expires_in"] = Value::clone(value),
        (ExpiresIn::Raw(raw), _) => {
            let whole = body.to_string();
            return format!("{},\"expires_in\":{raw}}}", whole.trim_end_matches('}'));
        }
    }
    body.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_the_life_a_little_short() {
        let now = Timestamp::from_second(1_000).unwrap();
        for (life, least) in [(20, 20), (5_184_000, 5_184_000 - 103)] {
            let body: Value = serde_json::from_str(&answer("EAA1", Some(later(now, life)), &ExpiresIn::True, now)).unwrap();
            let said = body["expires_in"].as_i64().unwrap();
            assert!((least..=life).contains(&said), "{said}");
        }
    }
}
