//! The calls that a WhatsApp consumer makes, as far as a smoke test needs them.

use serde_json::{Value, json};

use super::Call;
use super::me::user_caller;
use crate::simulator::graph::errors::{GraphError, OAUTH};
use crate::simulator::graph::state::World;
use crate::simulator::graph::violations::ViolationKind;
use crate::simulator::service::Response;

pub(super) fn phone_numbers(world: &mut World, call: &Call<'_>, account: &str) -> Result<Response, GraphError> {
    let at = user_caller(world, call)?;
    let Some(phones) = world.businesses.values().find_map(|business| business.whatsapp_accounts.get(account)) else {
        return Err(GraphError::unsupported("get", account));
    };
    let token = &world.tokens[at];
    let user = token.user.as_ref().and_then(|user| world.users.get(user));
    let reachable = user.is_some_and(|user| user.admin || user.assets.contains(account));
    let scope = "whatsapp_business_management";
    let targeted = token.granular.get(scope).is_none_or(|targets| targets.iter().any(|target| target == account));
    if !(reachable && targeted && token.scopes.iter().any(|there| there == scope)) {
        return Err(GraphError::new(200, OAUTH, "(#200) You do not have the necessary permissions required to make this call"));
    }
    let shown = |id: &String| json!({ "id": id, "display_phone_number": "+1 555-010-0000", "verified_name": "Simulated", "quality_rating": "GREEN" });
    let data: Vec<Value> = phones.iter().map(shown).collect();
    world.touch(at, call.now, true);
    Ok(Response::json(200, &json!({ "data": data, "paging": { "cursors": { "before": "QVFIU", "after": "QVFIU" } } })))
}

/// Never served: nobody may use it as a health check.
pub(super) fn register(world: &mut World, call: &Call<'_>, phone: &str) -> Result<Response, GraphError> {
    world.violate(ViolationKind::Register, call.now, format!("phone {phone}"));
    user_caller(world, call)?;
    Err(GraphError::new(133_016, OAUTH, "(#133016) Account register deregister rate limit exceeded"))
}
