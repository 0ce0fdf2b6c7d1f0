//! `GET me`, `GET me/permissions`, `GET {system user}`: who a token speaks for.

use serde_json::{Value, json};

use super::Call;
use crate::simulator::graph::auth::{Caller, caller};
use crate::simulator::graph::errors::GraphError;
use crate::simulator::graph::state::{SystemUser, TokenKind, World};
use crate::simulator::service::Response;

/// The caller as the holder of a user's token, which counts as a use such as a consumer makes.
pub(super) fn user_caller(world: &mut World, call: &Call<'_>) -> Result<usize, GraphError> {
    match caller(world, call)? {
        Some(Caller::Token(at)) if world.tokens[at].user.is_some() => Ok(at),
        // GUESS(G22): an app token has no "me".
        Some(Caller::Token(_) | Caller::App(_)) | None => Err(GraphError::no_active_token()),
    }
}

pub(super) fn me(world: &mut World, call: &Call<'_>) -> Result<Response, GraphError> {
    let at = user_caller(world, call)?;
    let token = &world.tokens[at];
    let user = token.user.clone().unwrap_or_default();
    let name = world.users.get(&user).map_or("", |user| user.name.as_str());
    let integration = (token.kind == TokenKind::BusinessIntegration).then(|| world.business_of(at)).flatten();
    let body = node_body(call, &user, |field| match field {
        "name" => Some(Some(json!(name))),
        // GUESS(G23): for a classic token it is silently absent.
        "client_business_id" if integration.is_none() && world.knobs.client_business_id_unknown => None,
        "client_business_id" => Some(integration.map(|business| json!(business))),
        _ => None,
    })?;
    world.touch(at, call.now, true);
    Ok(Response::json(200, &body).with_note("token", world.tokens[at].fingerprint.as_str()))
}

/// `id` and the fields asked for. `field` says none for a field that does not exist, `Some(None)` for one without a value.
fn node_body(call: &Call<'_>, id: &str, field: impl Fn(&str) -> Option<Option<Value>>) -> Result<Value, GraphError> {
    let mut body = json!({ "id": id });
    for name in call.param("fields").unwrap_or("id,name").split(',').map(str::trim).filter(|name| !name.is_empty() && *name != "id") {
        let unknown = || GraphError::invalid_parameter(&format!("(#100) Tried accessing nonexisting field ({name})"));
        if let Some(value) = field(name).ok_or_else(unknown)? {
            body[name] = value;
        }
    }
    Ok(body)
}

pub(super) fn permissions(world: &mut World, call: &Call<'_>) -> Result<Response, GraphError> {
    let at = user_caller(world, call)?;
    let granted = call.param("status").is_none_or(|status| status == "granted");
    let scopes = world.tokens[at].scopes.iter().filter(|_| granted);
    let data: Vec<Value> = scopes.map(|scope| json!({ "permission": scope, "status": "granted" })).collect();
    world.touch(at, call.now, true);
    Ok(Response::json(200, &json!({ "data": data })).with_note("token", world.tokens[at].fingerprint.as_str()))
}

pub(super) fn node(world: &mut World, call: &Call<'_>, id: &str) -> Result<Response, GraphError> {
    let at = user_caller(world, call)?;
    let visible = |user: &&SystemUser| world.business_of(at) == Some(user.business.as_str());
    let user = world.users.get(id).filter(visible).ok_or_else(|| GraphError::unsupported("get", id))?;
    let body = node_body(call, id, |field| (field == "name").then(|| Some(json!(user.name))))?;
    world.touch(at, call.now, true);
    Ok(Response::json(200, &body))
}
