//! Who calls: the carriers of a token, app tokens, client secrets, and proofs.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::calls::Call;
use super::errors::{GraphError, METHOD, OAUTH};
use super::state::{App, AppStatus, TokenKind, World};
use super::violations::ViolationKind;

/// Seconds that a proof with a time in it is good for (Meta, "Login Security").
const PROOF_SECONDS: u64 = 300;

/// Who makes a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Caller {
    /// An app, by its own token.
    App(String),
    /// Whoever holds the token of that number.
    Token(usize),
}

/// The caller of a call by its access token, judged in Graph's order: address, text, app, state, expiry, proof.
pub(super) fn caller(world: &mut World, call: &Call<'_>) -> Result<Option<Caller>, GraphError> {
    let Some(text) = call.token() else { return Ok(None) };
    if text.contains('|') {
        let app = app_token(world, text)?;
        check_address(&world.apps[&app])?;
        return Ok(Some(Caller::App(app)));
    }
    let at = working_token(world, call, text)?;
    let app = world.tokens[at].app.clone();
    let proven = check_proof(world, call, &app, text)?;
    if !proven {
        world.violate(ViolationKind::MissingProof, call.now, format!("{} by {} without a proof", call.name, world.tokens[at].fingerprint));
        if world.apps.get(&app).is_some_and(|app| app.require_proof) {
            return Err(GraphError::new(100, METHOD, "API calls from the server require an appsecret_proof argument"));
        }
    }
    Ok(Some(Caller::Token(at)))
}

/// The number of a token that works now.
pub(super) fn working_token(world: &World, call: &Call<'_>, text: &str) -> Result<usize, GraphError> {
    let at = world.find(text).ok_or_else(|| unknown_token(text))?;
    let token = &world.tokens[at];
    if !world.apps.contains_key(&token.app) {
        return Err(GraphError::new(190, OAUTH, "Error validating application. Cannot get application info due to a system error."));
    }
    token.end(call.now).map_or(Ok(at), |end| Err(GraphError::dead(token, end, &world.knobs, call.now)))
}

/// What a text that is nobody's token is answered with: real tokens that were tampered with do not decrypt, others do not parse.
pub(super) fn unknown_token(text: &str) -> GraphError {
    if text.starts_with("EAA") && text.len() > 100 { GraphError::undecryptable() } else { GraphError::unparsable() }
}

/// The app whose token a text is: `id|secret` composed by the client, or one that `client_credentials` gave.
pub(super) fn app_token(world: &World, text: &str) -> Result<String, GraphError> {
    if let Some(at) = world.find(text) {
        let token = &world.tokens[at];
        if token.kind == TokenKind::App && token.state == super::state::TokenState::Live {
            return Ok(token.app.clone());
        }
    }
    let (id, secret) = text.split_once('|').ok_or_else(GraphError::unparsable)?;
    match world.apps.get(id) {
        Some(app) if app.secret == secret && !world.knobs.composed_app_token_refused => Ok(id.to_owned()),
        Some(_) | None => Err(GraphError::bad_signature()),
    }
}

/// The app of `client_id` and `client_secret`, in good standing.
pub(super) fn client(world: &World, call: &Call<'_>) -> Result<String, GraphError> {
    let id = call.param("client_id").ok_or_else(|| GraphError::new(101, OAUTH, "Missing client_id parameter."))?;
    let unknown = || GraphError::new(101, OAUTH, "Error validating application. Invalid application ID.");
    let app = world.apps.get(id).ok_or_else(unknown)?;
    check_address(app)?;
    if call.param("client_secret") != Some(app.secret.as_str()) {
        return Err(GraphError::new(world.knobs.refresh.wrong_secret_code, OAUTH, "Error validating client secret."));
    }
    // GUESS(G13): the codes of an app that is throttled, disabled or deleted.
    match app.status {
        AppStatus::Ok => Ok(id.to_owned()),
        AppStatus::Throttled => Err(GraphError::known(4, None)),
        AppStatus::Disabled => Err(GraphError::new(101, OAUTH, "Error validating application. The application is disabled.")),
        AppStatus::Deleted => Err(GraphError::new(101, OAUTH, "Error validating application. Application has been deleted.")),
    }
}

fn check_address(app: &App) -> Result<(), GraphError> {
    if app.address_refused {
        // GUESS(G15): the refusal of an address that is not listed. Nobody has published its body; this one is made up.
        return Err(GraphError::new(100, OAUTH, "(#100) This IP address is not allowed to make calls with the app secret (synthetic)"));
    }
    Ok(())
}

/// Checks the proof if one came, and says whether one did. The texts are Meta's, with code 100, not 104.
pub(super) fn check_proof(world: &World, call: &Call<'_>, app: &str, text: &str) -> Result<bool, GraphError> {
    let Some(proof) = call.param("appsecret_proof") else { return Ok(false) };
    let invalid = || GraphError::new(100, METHOD, "Invalid appsecret_proof provided in the API argument");
    let secret = &world.apps.get(app).ok_or_else(invalid)?.secret;
    let message = match call.param("appsecret_time") {
        None => text.to_owned(),
        Some(time) => {
            let clock = call.now.as_second().saturating_add(world.knobs.proof_clock_shift_s);
            let seconds: i64 = time.parse().map_err(|_not_whole| invalid())?;
            if clock.abs_diff(seconds) > PROOF_SECONDS {
                return Err(invalid());
            }
            format!("{text}|{time}")
        }
    };
    if proof == proof_of(secret, &message) { Ok(true) } else { Err(invalid()) }
}

/// `lowercase_hex(HMAC_SHA256(key, message))`.
fn proof_of(secret: &str, message: &str) -> String {
    // HMAC takes keys of any length; were that to change, no proof would match.
    Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map_or_else(
        |_length| String::new(),
        |mac| mac.chain_update(message).finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proofs_match_the_vectors() {
        let key = "app-secret-0123456789abcdef";
        assert_eq!(proof_of(key, "EAATESTTOKEN"), "a199ca5614ecbbd9fab10ad4ef4667b3c98264eb8c5885797b58dff1e301395e");
        assert_eq!(proof_of(key, "EAATESTTOKEN|1760000000"), "a493598c825e0fc920b23d52e56cd327eec8431d112c0fa0905a005a87f6b355");
    }
}
