//! What a business does to get a first token: system users, installs, mints.

use serde_json::{Value, json};

use super::Call;
use super::me::user_caller;
use crate::simulator::graph::errors::{GraphError, OAUTH};
use crate::simulator::graph::state::{SystemUser, TokenSpec, World};
use crate::simulator::service::Response;

/// The holder of a token of the same business as the user that it acts on.
fn peer(world: &mut World, call: &Call<'_>, user: &str) -> Result<usize, GraphError> {
    let at = user_caller(world, call)?;
    let owner = world.users.get(user).map(|user| user.business.as_str());
    if owner.is_none() || owner != world.business_of(at) {
        return Err(GraphError::unsupported(call.request.method.as_str(), user));
    }
    Ok(at)
}

pub(super) fn install(world: &mut World, call: &Call<'_>, user: &str) -> Result<Response, GraphError> {
    let at = peer(world, call, user)?;
    let app = call.required("business_app")?.to_owned();
    let business = world.business_of(at).unwrap_or_default().to_owned();
    if world.apps.get(&app).is_none_or(|app| app.business != business) {
        return Err(GraphError::invalid_parameter("(#100) The app does not belong to the business of the system user"));
    }
    if let Some(user) = world.users.get_mut(user) {
        user.installed.insert(app);
    }
    world.touch(at, call.now, false);
    // GUESS(G1): the "boolean result" of an install, which may be repeated.
    Ok(Response::json(200, &json!({ "success": true })))
}

pub(super) fn mint(world: &mut World, call: &Call<'_>, user: &str) -> Result<Response, GraphError> {
    let at = peer(world, call, user)?;
    if call.param("appsecret_proof").is_none() {
        return Err(GraphError::missing_parameter("appsecret_proof"));
    }
    let app = call.required("business_app")?.to_owned();
    if !world.users.get(user).is_some_and(|user| user.installed.contains(&app)) {
        // GUESS(G3): the error of a mint for an app that is not installed.
        return Err(GraphError::unsupported("post", user));
    }
    let expiring = call.flag("set_token_expires_in_60_days");
    if !expiring && world.business_of(at).and_then(|id| world.businesses.get(id)).is_some_and(|business| business.requires_expiring) {
        // GUESS(G2): the error of a business that must use expiring tokens; its code is not published.
        return Err(GraphError::invalid_parameter("(#100) This business must use tokens that expire"));
    }
    let scopes = call.param("scope").unwrap_or_default();
    let scopes = scopes.split([',', ' ']).filter(|scope| !scope.is_empty()).map(str::to_owned).collect();
    let spec = TokenSpec { app, user: Some(user.to_owned()), scopes, life_s: (!expiring).then_some(0), ..TokenSpec::default() };
    let minted = world.issue(spec, call.now);
    world.touch(at, call.now, false);
    let token = &world.tokens[minted];
    Ok(Response::json(200, &json!({ "access_token": token.text })).with_note("minted", token.fingerprint.as_str()))
}

pub(super) fn create_system_user(world: &mut World, call: &Call<'_>, business: &str) -> Result<Response, GraphError> {
    let at = admin(world, call, business)?;
    let token_app = &world.tokens[at].app;
    if world.apps.get(token_app).is_none_or(|app| app.business != business) {
        return Err(GraphError::new(104_001, OAUTH, "(#104001) The app must belong to the business first"));
    }
    let name = call.required("name")?.to_owned();
    let admin = match call.required("role")? {
        "ADMIN" => true,
        "EMPLOYEE" => false,
        _ => return Err(GraphError::invalid_parameter("(#100) Param role must be one of {ADMIN, EMPLOYEE}")),
    };
    let full = world.businesses.get(business).is_some_and(|business| business.full_tier);
    let there = world.users.values().filter(|user| user.business == business && user.admin == admin).count();
    if there >= if admin || !full { 1 } else { 10 } {
        let code = if admin { 3965 } else { 3949 };
        return Err(GraphError::new(code, OAUTH, format!("(#{code}) The limit of system users of this business is reached")));
    }
    let id = format!("6155{:011}", world.users.len() + 1);
    let user = SystemUser { id: id.clone(), name, business: business.to_owned(), admin, installed: [].into(), assets: [].into() };
    world.users.insert(id.clone(), user);
    world.touch(at, call.now, false);
    Ok(Response::json(200, &json!({ "id": id })))
}

pub(super) fn list_system_users(world: &mut World, call: &Call<'_>, business: &str) -> Result<Response, GraphError> {
    let at = admin(world, call, business)?;
    let shown = |user: &SystemUser| json!({ "id": user.id, "name": user.name, "role": if user.admin { "ADMIN" } else { "EMPLOYEE" } });
    let data: Vec<Value> = world.users.values().filter(|user| user.business == business).map(shown).collect();
    world.touch(at, call.now, false);
    Ok(Response::json(200, &json!({ "data": data, "paging": {} })))
}

fn admin(world: &mut World, call: &Call<'_>, business: &str) -> Result<usize, GraphError> {
    let at = user_caller(world, call)?;
    if world.business_of(at) != Some(business) {
        return Err(GraphError::unsupported(call.request.method.as_str(), business));
    }
    let admin = world.tokens[at].user.as_ref().and_then(|user| world.users.get(user)).is_some_and(|user| user.admin);
    if admin { Ok(at) } else { Err(GraphError::known(200, None)) }
}
