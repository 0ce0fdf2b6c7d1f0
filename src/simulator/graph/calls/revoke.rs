//! `GET oauth/revoke` ends one token; `DELETE {user}/access_tokens` ends them all.

use serde_json::json;

use super::Call;
use crate::simulator::graph::auth::{Caller, caller, check_proof, client, unknown_token, working_token};
use crate::simulator::graph::errors::GraphError;
use crate::simulator::graph::knobs::{RevokeBody, RevokeEffect};
use crate::simulator::graph::state::{TokenKind, TokenState, World, later};
use crate::simulator::graph::violations::{ViolationKind, judge_revoke};
use crate::simulator::service::Response;

pub(super) fn revoke(world: &mut World, call: &Call<'_>) -> Result<Response, GraphError> {
    let app = client(world, call)?;
    let caller_text = call.token().ok_or_else(GraphError::no_active_token)?;
    if caller_text.contains('|') {
        // GUESS(G6): an app token may not revoke.
        return Err(GraphError::unparsable());
    }
    let victim_text = call.required("revoke_token")?;
    let victim = world.find(victim_text).ok_or_else(|| unknown_token(victim_text))?;
    if let Ok(caller) = working_token(world, call, caller_text) {
        judge_revoke(world, victim, Some(caller), call.now);
    }
    // GUESS(G5): a token may revoke itself, once.
    let caller = working_token(world, call, caller_text)?;
    if world.tokens[victim].app != app || world.tokens[caller].app != app {
        // GUESS(G14): the error of a revoke across apps.
        return Err(GraphError::invalid_parameter("(#100) The tokens and the client_id must belong to the same app"));
    }
    if let Some(end) = world.tokens[victim].end(call.now) {
        // GUESS(G7): revoking a dead token is an error about the victim.
        return Err(GraphError::dead(&world.tokens[victim], end, &world.knobs, call.now).subcode(467));
    }
    check_proof(world, call, &app, caller_text)?;
    end(world, victim, call);
    world.touch(caller, call.now, false);
    let response = if world.knobs.revoke.answer_error { GraphError::known(1, None).response(&world.knobs, None) } else { success(world) };
    let fingerprint = |at: usize| world.tokens[at].fingerprint.as_str();
    Ok(response.with_note("token", fingerprint(victim)).with_note("caller", fingerprint(caller)))
}

fn end(world: &mut World, victim: usize, call: &Call<'_>) {
    let knobs = world.knobs.revoke.clone();
    let (session, app) = (world.tokens[victim].session, world.tokens[victim].app.clone());
    // GUESS(G20): a Business Integration token survives, though success is said. Reported once, never explained.
    let survives = world.tokens[victim].kind == TokenKind::BusinessIntegration;
    for (at, token) in world.tokens.iter_mut().enumerate() {
        let dies = match knobs.effect {
            RevokeEffect::Victim => at == victim && !survives,
            RevokeEffect::Nobody => false,
            RevokeEffect::WholeSession => token.session == session && token.app == app,
        };
        if dies {
            token.revoked_from = Some(later(call.now, knobs.delay_s));
        }
    }
}

fn success(world: &World) -> Response {
    let body = match world.knobs.revoke.body {
        RevokeBody::Bool => r#"{"success":true}"#,
        RevokeBody::Text => r#"{"success":"true"}"#,
        RevokeBody::Bare => "true",
        RevokeBody::TrailingComma => r#"{"success":"true",}"#,
        RevokeBody::Empty => "",
        RevokeBody::FalseText => r#"{"success":"false"}"#,
        RevokeBody::False => r#"{"success":false}"#,
    };
    Response::raw(200, "application/json; charset=UTF-8", body)
}

pub(super) fn bulk(world: &mut World, call: &Call<'_>, user: &str) -> Result<Response, GraphError> {
    if !world.knobs.allow_bulk_revoke {
        world.violate(ViolationKind::BulkRevoke, call.now, format!("all tokens of user {user}"));
    }
    let caller = caller(world, call)?.ok_or_else(GraphError::no_active_token)?;
    let owner = world.users.get(user).ok_or_else(|| GraphError::unsupported("delete", user))?.business.clone();
    let business = match &caller {
        Caller::App(app) => world.apps.get(app).map(|app| app.business.clone()),
        Caller::Token(at) => world.business_of(*at).map(str::to_owned),
    };
    // GUESS(G21): any token of the same business may.
    if business.as_ref() != Some(&owner) {
        return Err(GraphError::known(200, None));
    }
    // GUESS(G8): the tokens of all apps die.
    for token in world.tokens.iter_mut().filter(|token| token.user.as_deref() == Some(user) && token.state == TokenState::Live) {
        token.state = TokenState::BulkRevoked;
    }
    Ok(Response::json(200, &json!(true)))
}
