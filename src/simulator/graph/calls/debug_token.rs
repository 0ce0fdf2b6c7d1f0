//! `GET debug_token`: what a token is, asked by its app.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Call;
use crate::simulator::graph::auth::{Caller, app_token, caller, unknown_token};
use crate::simulator::graph::errors::{GraphError, METHOD};
use crate::simulator::graph::state::{End, TokenState, World};
use crate::simulator::service::Response;

pub(super) fn introspect(world: &mut World, call: &Call<'_>) -> Result<Response, GraphError> {
    let Some(Caller::App(app)) = caller(world, call)? else {
        // No caller, or one that is no app: also a system user token that asks for itself.
        return Err(GraphError::invalid_parameter(
            "(#100) You must provide an app access token, or a user access token that is an owner or developer of the app",
        ));
    };
    let input = call.required("input_token")?;
    let data = if input.contains('|') {
        app_data(world, &app, input)?
    } else if let Some(at) = world.find(input) {
        if world.tokens[at].app != app {
            return Err(mismatch());
        }
        token_data(world, at, call.now)?
    } else {
        json!({ "error": unknown_token(input).introspected(&world.knobs), "is_valid": false, "scopes": [] })
    };
    let fingerprint = crate::simulator::fault::fingerprint(input);
    Ok(Response::json(200, &json!({ "data": data })).with_note("token", fingerprint))
}

fn mismatch() -> GraphError {
    GraphError::invalid_parameter("(#100) The App_id in the input_token did not match the Viewing App")
}

fn app_data(world: &World, viewer: &str, input: &str) -> Result<Value, GraphError> {
    match app_token(world, input) {
        Ok(app) if app == viewer => {
            let name = &world.apps[&app].name;
            Ok(json!({ "app_id": app, "type": "APP", "application": name, "is_valid": true, "scopes": [] }))
        }
        Ok(_foreign) => Err(mismatch()),
        Err(error) => Ok(json!({ "error": error.introspected(&world.knobs), "is_valid": false, "scopes": [] })),
    }
}

fn token_data(world: &World, at: usize, now: Timestamp) -> Result<Value, GraphError> {
    let (token, knobs) = (&world.tokens[at], &world.knobs);
    let end = token.end(now);
    if end == Some(End::State(TokenState::Removed)) || (end.is_some() && knobs.debug_token.dead_without_data) {
        return Err(GraphError::new(100, METHOD, "Unsupported get request."));
    }
    let zero = end.is_some_and(|end| knobs.debug_token.dead_expires_at_zero || end == End::State(TokenState::SecurityInvalidated));
    let expires_at = token.expires_at.filter(|_| !zero).map_or(0, Timestamp::as_second);
    let granular: Vec<Value> = token
        .scopes
        .iter()
        .map(|scope| match token.granular.get(scope) {
            Some(targets) => json!({ "scope": scope, "target_ids": targets }),
            None => json!({ "scope": scope }),
        })
        .collect();
    let app_id = token.app_shown.as_ref().unwrap_or(&token.app);
    let mut data = json!({
        "app_id": app_id,
        "type": token.kind_shown.as_deref().unwrap_or_else(|| token.kind.shown()),
        "application": world.apps.get(&token.app).map_or("", |app| app.name.as_str()),
        "data_access_expires_at": 0,
        "expires_at": expires_at,
        "is_valid": end.is_none(),
        "issued_at": token.issued_at.as_second(),
        "scopes": token.scopes,
        "granular_scopes": granular,
        "user_id": token.user,
    });
    if let Some(end) = end {
        data["error"] = GraphError::dead(token, end, knobs, now).introspected(knobs);
        if knobs.debug_token.dead_without_scopes {
            data["scopes"] = json!([]);
        }
    }
    Ok(data)
}
