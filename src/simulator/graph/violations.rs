//! What a client must not do. The simulated Graph notes each case and goes on as Meta would; tests read the list and expect none.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::calls::Call;
use super::state::{World, later};
use crate::simulator::service::Response;

/// A thing that a client did and must not do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Which.
    pub kind: ViolationKind,
    /// When.
    pub at: Timestamp,
    /// Who or what, without secrets.
    pub detail: String,
}

/// The rules of good conduct.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ViolationKind {
    /// A token or an app secret in `User-Agent`, in `Referer`, or in the path.
    SecretExposed,
    /// No version in the path.
    MissingVersion,
    /// A user's or system user's token as caller, without `appsecret_proof`.
    MissingProof,
    /// A call before the wait that a throttle stated was over; calls such as consumers make are not counted.
    CallDuringThrottle,
    /// The same token refreshed twice within a sixtieth of its life, though the first answer arrived and was good, or brought the same token.
    RefreshTooOften,
    /// A refresh again, soon after a 190 and with nothing changed.
    RefreshAfterDeath,
    /// A revoke called with its own victim; also what revoking after "the same token came back" looks like.
    RevokeOfCaller,
    /// A revoke of the only token of its user and app that still worked.
    RevokeOfOnlyToken,
    /// A revoke before the caller's token had been seen in a successful call such as a consumer makes.
    RevokeBeforeUse,
    /// `DELETE {user}/access_tokens`, which kills the fresh token too.
    BulkRevoke,
    /// `POST {phone}/register`, which counts against a limit of ten in 72 hours.
    Register,
}

/// How many violations are kept: the first ones tell what is wrong.
pub(super) const VIOLATIONS_MAX: usize = 10_000;

/// Codes that throttle.
fn throttles(code: i64) -> bool {
    matches!(code, 4 | 17 | 32 | 341 | 613 | 80_000..=80_014)
}

/// Judges what every call must keep to.
pub(super) fn judge_call(world: &mut World, call: &Call<'_>) {
    if call.version.is_none() {
        world.violate(ViolationKind::MissingVersion, call.now, format!("{} without a version", call.name));
    }
    let exposed = ["user-agent", "referer"].into_iter().filter_map(|name| call.request.header(name)).chain([call.request.path.as_str()]);
    let exposed: Vec<&str> = exposed.collect();
    let secrets = world.tokens.iter().map(|token| token.text.as_str()).chain(world.apps.values().map(|app| app.secret.as_str()));
    if secrets.into_iter().any(|secret| secret.len() >= 8 && exposed.iter().any(|place| place.contains(secret))) {
        world.violate(ViolationKind::SecretExposed, call.now, format!("{} with a secret in a header or the path", call.name));
    }
    if let Some(app) = app_of(world, call)
        && let Some(until) = world.throttled_until.get(&app).copied()
    {
        // Consumers share the app, and nobody told them.
        if call.now < until && !call.is_consumers() {
            world.violate(ViolationKind::CallDuringThrottle, call.now, format!("{} of app {app}, told to wait until {until}", call.name));
        } else if call.now >= until {
            world.throttled_until.remove(&app);
        }
    }
}

/// The app that a call is counted against.
pub(super) fn app_of(world: &World, call: &Call<'_>) -> Option<String> {
    if let Some(id) = call.param("client_id") {
        return Some(id.to_owned());
    }
    let text = call.token()?;
    match text.split_once('|') {
        Some((app, _)) => Some(app.to_owned()),
        None => world.find(text).map(|at| world.tokens[at].app.clone()),
    }
}

/// Remembers how long an answer tells its app to wait: the longest of `Retry-After`, the business header's minutes and the ad
/// account header's seconds, when its body has a throttling code.
pub(super) fn note_throttle(world: &mut World, app: Option<String>, response: &Response, now: Timestamp) {
    let Some(app) = app else { return };
    let body: serde_json::Value = serde_json::from_slice(&response.body).unwrap_or_default();
    let code = body["error"]["code"].as_i64().or_else(|| body["code"].as_i64());
    if !code.is_some_and(throttles) {
        return;
    }
    if let Some(wait) = response.headers.iter().filter_map(|(name, value)| stated_wait(name, value)).max() {
        world.throttled_until.insert(app, now.saturating_add(wait).unwrap_or(Timestamp::MAX));
    }
}

fn stated_wait(name: &str, value: &str) -> Option<SignedDuration> {
    let number_after = |key: &str| {
        let (_, rest) = value.split_once(key)?;
        let digits: String = rest.chars().skip_while(|c| matches!(c, '"' | ':' | ' ')).take_while(char::is_ascii_digit).collect();
        digits.parse::<i64>().ok()
    };
    let seconds = match name.to_ascii_lowercase().as_str() {
        "retry-after" => value.parse().ok()?,
        "x-business-use-case-usage" => number_after("estimated_time_to_regain_access")?.saturating_mul(60),
        "x-ad-account-usage" => number_after("reset_time_duration")?,
        _ => return None,
    };
    Some(SignedDuration::from_secs(seconds))
}

/// Judges a refresh of token `at`, before its effect.
pub(super) fn judge_refresh(world: &mut World, at: usize, now: Timestamp) {
    let token = &world.tokens[at];
    let life = token.expires_at.map_or(world.knobs.token_life_s, |end| end.as_second() - token.issued_at.as_second());
    let fingerprint = token.fingerprint.clone();
    let too_soon = token.refused.is_some_and(|(when, revision)| {
        let pause_ms = (life.saturating_mul(1000) / 32).min(3_600_000) * 9 / 10;
        revision == world.revision && now.duration_since(when) < SignedDuration::from_millis(pause_ms)
    });
    if too_soon {
        world.violate(ViolationKind::RefreshAfterDeath, now, format!("{fingerprint} was refused with 190 and nothing has changed"));
    }
    let again = world.tokens[at].end(now).is_none()
        && world.tokens[at].refreshed.is_some_and(|(when, minted)| {
            world.tokens.get(minted).is_some_and(|minted| minted.delivered && minted.end(now).is_none())
                && (world.knobs.refresh.same_token || world.knobs.refresh == super::knobs::RefreshKnobs::default())
                && now < later(when, life / 60)
        });
    if again {
        world.violate(ViolationKind::RefreshTooOften, now, format!("{fingerprint} was refreshed within a sixtieth of its life"));
    }
}

/// Judges a revoke, before its effect.
pub(super) fn judge_revoke(world: &mut World, victim: usize, caller: Option<usize>, now: Timestamp) {
    let target = &world.tokens[victim];
    let fingerprint = target.fingerprint.clone();
    let works = |token: &super::state::Token| token.end(now).is_none();
    let others = world.tokens.iter().enumerate().filter(|(at, other)| {
        *at != victim && other.app == target.app && other.user == target.user && other.text != target.text && works(other)
    });
    let only = works(target) && others.count() == 0;
    if caller == Some(victim) {
        world.violate(ViolationKind::RevokeOfCaller, now, format!("{fingerprint} revoked by itself"));
    } else if caller.is_some_and(|caller| world.tokens[caller].consumer_uses == 0) {
        world.violate(ViolationKind::RevokeBeforeUse, now, format!("{fingerprint} revoked by a token that no consumer has used"));
    }
    if only {
        world.violate(ViolationKind::RevokeOfOnlyToken, now, format!("{fingerprint} was the only one that worked"));
    }
}
