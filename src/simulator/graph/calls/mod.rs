//! The calls that are served: what a request is, in which order it is judged, and who answers it.
//!
//! The order is strict: version, path and method, ordered refusals, address, token, app, state, expiry, proof, permission,
//! parameters, effect.

mod debug_token;
mod me;
mod mint;
mod refresh;
mod revoke;
mod whatsapp;

use jiff::Timestamp;
use serde_json::Value;

use super::errors::GraphError;
use super::knobs::{Knobs, Refusal};
use super::state::World;
use crate::simulator::service::{Request, Response, form_pairs};

/// A request as Graph reads it.
pub(super) struct Call<'a> {
    pub(super) request: &'a Request,
    pub(super) now: Timestamp,
    /// The version in the path, if one is there.
    pub(super) version: Option<String>,
    /// What follows it.
    path: Vec<String>,
    /// Query parameters, then those of the body.
    params: Vec<(String, String)>,
    route: Route,
    /// The call's name for rules, refusals and journal.
    pub(super) name: &'static str,
}

/// What a path and a method ask for; ids as they stand in the path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Route {
    Refresh,
    AppToken,
    OtherGrant,
    Revoke,
    Introspect,
    Me,
    Permissions,
    Mint(String),
    BulkRevoke(String),
    Install(String),
    CreateSystemUser(String),
    ListSystemUsers(String),
    PhoneNumbers(String),
    Register(String),
    Node(String),
    /// A known path with a method that it does not take.
    Unsupported(String),
    Unknown,
}

impl<'a> Call<'a> {
    pub(super) fn read(request: &'a Request, knobs: &Knobs, now: Timestamp) -> Self {
        let mut path: Vec<String> = request.path.split('/').filter(|segment| !segment.is_empty()).map(str::to_owned).collect();
        let version = path.first().filter(|first| version_number(first).is_some()).cloned();
        if version.is_some() {
            path.remove(0);
        }
        let mut params = request.pairs.clone();
        params.extend(body_params(request));
        let mut call = Self { request, now, version, path, params, route: Route::Unknown, name: "unknown" };
        (call.route, call.name) = call.routed(knobs);
        call
    }

    /// The first parameter of that name, in the query or in the body.
    pub(super) fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn required(&self, name: &str) -> Result<&str, GraphError> {
        self.param(name).filter(|value| !value.is_empty()).ok_or_else(|| GraphError::missing_parameter(name))
    }

    fn flag(&self, name: &str) -> bool {
        self.param(name).is_some_and(|value| value == "true" || value == "1")
    }

    /// The access token that came with the call: as a parameter, else as `Authorization: Bearer` or, of old, `OAuth`.
    pub(super) fn token(&self) -> Option<&str> {
        let header = || {
            let value = self.request.header("authorization")?;
            value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("OAuth ")).map(str::trim)
        };
        self.param("access_token").or_else(header).filter(|text| !text.is_empty())
    }

    /// Whether a consumer of tokens makes such calls, rather than who rotates them.
    pub(super) fn is_consumers(&self) -> bool {
        matches!(self.route, Route::Me | Route::Permissions | Route::PhoneNumbers(_) | Route::Node(_))
    }

    fn routed(&self, knobs: &Knobs) -> (Route, &'static str) {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        let method = self.request.method.as_str();
        let get = method == "GET";
        // GUESS(G4): these take GET only; POST is documented nowhere.
        let oauth = get || (method == "POST" && knobs.allow_post_oauth);
        match (path.as_slice(), method) {
            (["oauth", "access_token"], _) if oauth => match self.param("grant_type") {
                Some("client_credentials") => (Route::AppToken, "app_token"),
                Some("fb_exchange_token") => (Route::Refresh, "refresh"),
                Some(_) | None => (Route::OtherGrant, "refresh"),
            },
            (["oauth", "access_token"], _) => (Route::Unsupported("oauth".into()), "refresh"),
            (["oauth", "revoke"], _) if oauth => (Route::Revoke, "revoke"),
            (["oauth", "revoke"], _) => (Route::Unsupported("oauth".into()), "revoke"),
            (["debug_token"], _) => {
                let name = if self.param("input_token").is_some_and(|text| text.contains('|')) { "introspect_app" } else { "introspect" };
                (if get { Route::Introspect } else { Route::Unsupported("debug_token".into()) }, name)
            }
            (["me"], "GET") => (Route::Me, "me"),
            (["me", "permissions"], "GET") => (Route::Permissions, "permissions"),
            ([id, "access_tokens"], "POST") if is_id(id) => (Route::Mint((*id).into()), "mint"),
            ([id, "access_tokens"], "DELETE") if is_id(id) => (Route::BulkRevoke((*id).into()), "bulk_revoke"),
            ([id, "applications"], "POST") if is_id(id) => (Route::Install((*id).into()), "install"),
            ([id, "system_users"], "POST") if is_id(id) => (Route::CreateSystemUser((*id).into()), "create_system_user"),
            ([id, "system_users"], "GET") if is_id(id) => (Route::ListSystemUsers((*id).into()), "list_system_users"),
            ([id, "phone_numbers"], "GET") if is_id(id) => (Route::PhoneNumbers((*id).into()), "phone_numbers"),
            ([id, "register"], "POST") if is_id(id) => (Route::Register((*id).into()), "register"),
            ([id], "GET") if is_id(id) => (Route::Node((*id).into()), "node"),
            ([id, ..], _) if is_id(id) || *id == "me" => (Route::Unsupported((*id).into()), "unknown"),
            _ => (Route::Unknown, "unknown"),
        }
    }
}

/// Answers a call.
pub(super) fn serve(world: &mut World, call: &Call<'_>) -> Result<Response, GraphError> {
    served_version(&world.knobs, call.version.as_deref()).map_err(|Unserved| GraphError::unknown_path(&call.request.path))?;
    // A path or a method that is not served is told so even by an API that refuses everything else.
    if !matches!(call.route, Route::Unknown | Route::Unsupported(_)) {
        refuse(world, call)?;
    }
    match &call.route {
        Route::Refresh => refresh::exchange(world, call),
        Route::AppToken => refresh::app_token(world, call),
        // GUESS(G19): the error of a grant that does not exist.
        Route::OtherGrant => Err(GraphError::invalid_parameter("(#100) Invalid grant_type")),
        Route::Revoke => revoke::revoke(world, call),
        Route::Introspect => debug_token::introspect(world, call),
        Route::Me => me::me(world, call),
        Route::Permissions => me::permissions(world, call),
        Route::Mint(user) => mint::mint(world, call, user),
        Route::BulkRevoke(user) => revoke::bulk(world, call, user),
        Route::Install(user) => mint::install(world, call, user),
        Route::CreateSystemUser(business) => mint::create_system_user(world, call, business),
        Route::ListSystemUsers(business) => mint::list_system_users(world, call, business),
        Route::PhoneNumbers(account) => whatsapp::phone_numbers(world, call, account),
        Route::Register(phone) => whatsapp::register(world, call, phone),
        Route::Node(id) => me::node(world, call, id),
        Route::Unsupported(id) => Err(GraphError::unsupported(call.request.method.as_str(), id)),
        Route::Unknown => Err(GraphError::unknown_path(&format!("/{}", call.path.join("/")))),
    }
}

/// A version that does not exist.
pub(super) struct Unserved;

/// The version that serves a call: the one asked for, or the oldest that still works.
pub(super) fn served_version(knobs: &Knobs, asked: Option<&str>) -> Result<String, Unserved> {
    let floor = &knobs.version.floor;
    let Some((asked, number)) = asked.and_then(|asked| Some((asked, version_number(asked)?))) else { return Ok(floor.clone()) };
    if version_number(&knobs.version.latest).is_some_and(|latest| number > latest) {
        return Err(Unserved);
    }
    let expired = version_number(floor).is_some_and(|floor| number < floor);
    Ok(if expired { floor.clone() } else { asked.to_owned() })
}

/// Meta's pattern is `^v[0-9]+\.[0-9]+$`.
fn version_number(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.strip_prefix('v')?.split_once('.')?;
    let number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?;
    Some((number(major)?, number(minor)?))
}

fn is_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Refuses the call if a refusal is ordered, and counts it.
fn refuse(world: &mut World, call: &Call<'_>) -> Result<(), GraphError> {
    let hit = |refusal: &&mut Refusal| (refusal.call == "*" || refusal.call == call.name) && refusal.times != Some(0);
    let Some(refusal) = world.knobs.refuse.iter_mut().find(hit) else { return Ok(()) };
    if let Some(times) = &mut refusal.times {
        *times -= 1;
    }
    let mut error = GraphError::known(refusal.code, refusal.subcode);
    if let Some(message) = &refusal.message {
        error.message.clone_from(message);
    }
    error.usage = Box::new(refusal.usage.clone());
    Err(error)
}

fn body_params(request: &Request) -> Vec<(String, String)> {
    let kind = request.header("content-type").unwrap_or_default();
    let text = String::from_utf8_lossy(&request.body);
    if kind.starts_with("application/x-www-form-urlencoded") {
        form_pairs(&text)
    } else if kind.starts_with("application/json") {
        json_params(&text)
    } else if let Some((_, boundary)) = kind.strip_prefix("multipart/form-data").and_then(|rest| rest.split_once("boundary=")) {
        multipart_params(&text, boundary.trim_matches('"'))
    } else {
        Vec::new()
    }
}

fn json_params(text: &str) -> Vec<(String, String)> {
    let Ok(Value::Object(fields)) = serde_json::from_str(text) else { return Vec::new() };
    let plain = |value: Value| if let Value::String(text) = value { text } else { value.to_string() };
    fields.into_iter().map(|(name, value)| (name, plain(value))).collect()
}

/// The text parts of a multipart form, which is what Meta's own samples (`curl -F`) send.
fn multipart_params(text: &str, boundary: &str) -> Vec<(String, String)> {
    text.split(&format!("--{boundary}"))
        .filter_map(|part| {
            let (head, value) = part.split_once("\r\n\r\n")?;
            let (_, name) = head.split_once("name=\"")?;
            let (name, _) = name.split_once('"')?;
            Some((name.to_owned(), value.strip_suffix("\r\n").unwrap_or(value).to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_served_raised_or_unknown() {
        let knobs = Knobs::default();
        let served = |asked| served_version(&knobs, asked).ok();
        assert_eq!(served(Some("v23.0")).as_deref(), Some("v23.0"));
        assert_eq!(served(Some("v18.0")).as_deref(), Some("v21.0"));
        assert_eq!(served(None).as_deref(), Some("v21.0"));
        assert_eq!(served(Some("v99.0")), None);
        for odd in ["v", "v1", "v.0", "v1.x", "26.0", "v1.0.0", "v+1.0"] {
            assert_eq!(version_number(odd), None, "{odd}");
        }
    }

    #[test]
    fn reads_multipart_and_json_bodies() {
        let body = "--XX\r\nContent-Disposition: form-data; name=\"business_app\"\r\n\r\n42\r\n--XX--\r\n";
        assert_eq!(multipart_params(body, "XX"), [("business_app".to_owned(), "42".to_owned())]);
        assert_eq!(json_params(r#"{"a":1,"b":"x"}"#), [("a".into(), "1".into()), ("b".into(), "x".into())]);
        assert_eq!(json_params("[1]"), []);
    }
}
