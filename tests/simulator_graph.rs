//! The simulated Graph: order of checks, each knob seen in an answer, the rules of conduct, the control plane.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod raw_http;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use evertoken::graph::Provider as _;
use evertoken::graph::client::{AppTokenMode, GraphBase, GraphClient, GraphSettings, Transport, TransportSettings};
use evertoken::rotation::token::Token;
use evertoken::simulator::fault::{Fault, Rule, Stage, fingerprint};
use evertoken::simulator::graph::knobs::Knobs;
use evertoken::simulator::graph::state::{App, AppStatus, TokenKind, TokenSpec, TokenState};
use evertoken::simulator::graph::violations::ViolationKind;
use evertoken::simulator::graph::{Graph, Issued, serve_on};
use evertoken::simulator::server::Running;
use evertoken::simulator::service::{Request, Service as _};
use evertoken::simulator::virtual_clock::VirtualClock;
use hmac::{Hmac, KeyInit, Mac};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use raw_http::{Answer, call, get, post};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use sha2::Sha256;

const APP: &str = "1234567890";
const SECRET: &str = "app-secret-0123456789abcdef";
const LIMIT: Duration = Duration::from_secs(10);

struct Bench {
    running: Running,
    graph: Arc<Graph>,
    clock: Arc<VirtualClock>,
    addr: SocketAddr,
    old: Issued,
}

/// A sample world whose clock stands still.
async fn bench() -> Bench {
    let clock = Arc::new(VirtualClock::new());
    clock.set_rate(0.0);
    clock.set("2026-11-25T12:00:00.7Z".parse().unwrap());
    let graph = Arc::new(Graph::sample(Knobs { marker: "CANARY".into(), ..Knobs::default() }));
    let old = graph.issue(Graph::sample_token(), clock.now());
    let running = serve_on(graph.clone(), clock.clone(), (Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let addr = running.addr();
    Bench { running, graph, clock, addr, old }
}

/// Percent-encoded for a query.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn proof(token: &str) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap().chain_update(token);
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn app_token() -> String {
    encoded(&format!("{APP}|{SECRET}"))
}

fn refresh_target(token: &str) -> String {
    format!(
        "/v26.0/oauth/access_token?grant_type=fb_exchange_token&client_id={APP}&client_secret={SECRET}&set_token_expires_in_60_days=true\
         &fb_exchange_token={}",
        encoded(token)
    )
}

impl Bench {
    async fn refresh(&self, token: &str) -> Answer {
        get(self.addr, &refresh_target(token)).await
    }

    /// Refreshes the old token and returns the new one.
    async fn refreshed(&self) -> String {
        self.refresh(&self.old.text).await.json()["access_token"].as_str().unwrap().to_owned()
    }

    async fn revoke(&self, victim: &str, caller: &str) -> Answer {
        let (victim, caller) = (encoded(victim), encoded(caller));
        let client = format!("client_id={APP}&client_secret={SECRET}");
        get(self.addr, &format!("/v26.0/oauth/revoke?{client}&revoke_token={victim}&access_token={caller}")).await
    }

    async fn introspect(&self, token: &str) -> Answer {
        get(self.addr, &format!("/v26.0/debug_token?input_token={}&access_token={}", encoded(token), app_token())).await
    }

    async fn me(&self, token: &str) -> Answer {
        get(self.addr, &format!("/v26.0/me?fields=id,name&access_token={}&appsecret_proof={}", encoded(token), proof(token))).await
    }

    async fn knobs(&self, part: Value) {
        let answer = post(self.addr, "/_control/knobs", &part).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    fn violations(&self) -> Vec<ViolationKind> {
        self.graph.violations().iter().map(|violation| violation.kind).collect()
    }

    fn pass(&self, seconds: i64) {
        self.clock.advance(SignedDuration::from_secs(seconds));
    }
}

/// `code/subcode` of an error, with its status.
fn error(answer: &Answer) -> (u16, i64, Option<i64>) {
    let error = &answer.json()["error"];
    (answer.status, error["code"].as_i64().unwrap(), error["error_subcode"].as_i64())
}

#[tokio::test]
async fn a_whole_rotation_is_answered_as_meta_does_and_nobody_complains() {
    let bench = bench().await;
    let answer = bench.refresh(&bench.old.text).await;
    let body = answer.json();
    let new = body["access_token"].as_str().unwrap();
    assert_ne!(new, bench.old.text);
    assert!(new.starts_with("EAA") && new.contains("CANARY"));
    assert_eq!(body["token_type"], "bearer");
    let said = body["expires_in"].as_i64().unwrap();
    assert!((5_184_000 - 103..=5_184_000).contains(&said));
    assert_eq!(answer.header("date"), Some("Wed, 25 Nov 2026 12:00:00 GMT"));
    assert_eq!(answer.header("facebook-api-version"), Some("v26.0"));
    for name in ["x-fb-trace-id", "x-fb-request-id", "x-fb-rev"] {
        assert!(answer.header(name).is_some(), "{name}");
    }

    let data = bench.introspect(new).await.json()["data"].clone();
    assert_eq!((&data["app_id"], &data["user_id"], &data["type"]), (&json!(APP), &json!("10001"), &json!("SYSTEM_USER")));
    assert_eq!((&data["is_valid"], &data["data_access_expires_at"]), (&json!(true), &json!(0)));
    let issued: Timestamp = "2026-11-25T12:00:00Z".parse().unwrap();
    assert_eq!(data["issued_at"], issued.as_second());
    assert_eq!(data["expires_at"], issued.as_second() + 5_184_000);
    assert_eq!(data["granular_scopes"][0], json!({ "scope": "business_management" }));
    assert_eq!(data["granular_scopes"][1], json!({ "scope": "whatsapp_business_management", "target_ids": ["8001"] }));

    assert_eq!(bench.me(new).await.json(), json!({ "id": "10001", "name": "Bot" }));
    assert_eq!(bench.me(&bench.old.text).await.status, 200);
    assert_eq!(bench.revoke(&bench.old.text, new).await.json(), json!({ "success": true }));
    let dead = bench.introspect(&bench.old.text).await;
    assert_eq!(dead.status, 200);
    assert_eq!((&dead.json()["data"]["is_valid"], &dead.json()["data"]["error"]["subcode"]), (&json!(false), &json!(466)));
    let refused = bench.me(&bench.old.text).await;
    assert_eq!(error(&refused), (400, 190, Some(466)));
    assert!(refused.header("www-authenticate").unwrap().starts_with("OAuth \"Facebook Platform\" \"invalid_token\""));
    assert!(refused.json()["error"]["fbtrace_id"].is_string());
    assert_eq!(bench.me(new).await.status, 200);
    assert_eq!(bench.violations(), []);

    let state = bench.graph.state(bench.clock.now());
    let working = state.working("10001");
    assert_eq!((working.len(), working[0].fingerprint.as_str()), (1, fingerprint(new).as_str()));
    assert_eq!((working[0].minted_from.as_deref(), working[0].delivered), (Some(bench.old.fingerprint.as_str()), true));
    let calls: Vec<String> = bench.running.simulator().journal(0).into_iter().map(|entry| entry.call).collect();
    assert_eq!(calls, ["refresh", "introspect", "me", "me", "revoke", "introspect", "me", "me"]);
}

#[tokio::test]
async fn the_products_own_client_rotates_without_a_violation() {
    let bench = bench().await;
    let base = GraphBase::new(&bench.running.url(), "v26.0").unwrap();
    let settings = GraphSettings { base, app_id: APP.into(), app_secret: SECRET.to_owned().into(), app_token: AppTokenMode::Composed };
    let client = GraphClient::new(settings, Transport::new(TransportSettings::default()).unwrap());
    let old = Token::new(bench.old.text.clone()).unwrap();
    assert!(client.introspect_app().await.result.unwrap().valid);
    let refreshed = client.refresh(&old).await.result.unwrap();
    let new = Token::new(refreshed.text.expose_secret()).unwrap();
    let seen = client.introspect(&new).await;
    assert_eq!(seen.date, Some("2026-11-25T12:00:00Z".parse().unwrap()));
    assert!(seen.result.unwrap().valid);
    bench.knobs(json!({ "client_business_id_unknown": true })).await;
    assert_eq!(client.me(&new).await.result.unwrap().id.as_deref(), Some("10001"));
    assert!(client.revoke(&old, &new).await.result.unwrap());
    assert!(!client.introspect(&old).await.result.unwrap().valid);
    assert_eq!(client.me(&old).await.result.unwrap_err().subcode, Some(466));

    // The composed app token is refused from here on, so the client fetches one.
    bench.knobs(json!({ "composed_app_token_refused": true })).await;
    assert!(client.introspect(&new).await.result.unwrap().valid);
    let refusal = json!({ "call": "me", "times": 1, "code": 4, "usage": { "business_regain_min": 2, "duplicate_keys": true } });
    bench.knobs(json!({ "refuse": [refusal] })).await;
    let throttled = client.me(&new).await;
    assert_eq!((throttled.result.unwrap_err().code, throttled.usage.regain_after), (Some(4), Some(SignedDuration::from_mins(2))));
    assert_eq!(bench.violations(), []);
}

#[tokio::test]
async fn checks_come_in_order() {
    let bench = bench().await;
    let old = encoded(&bench.old.text);
    let good = proof(&bench.old.text);
    let client = format!("client_id={APP}&client_secret={SECRET}");
    let exchange = "grant_type=fb_exchange_token";
    let unmatched = "0".repeat(64);
    let tampered = format!("EAA{}", "x".repeat(150));
    for (method, target, expected) in [
        // The version before the path, the path before the token, the method too.
        ("GET", "/v99.0/nowhere".to_owned(), (400, 2500, None)),
        ("GET", "/v26.0/nowhere".to_owned(), (400, 2500, None)),
        ("POST", "/v26.0/debug_token".to_owned(), (400, 100, Some(33))),
        ("POST", format!("/v26.0/oauth/revoke?{client}"), (400, 100, Some(33))),
        ("POST", format!("/v26.0/oauth/access_token?{exchange}&{client}"), (400, 100, Some(33))),
        ("DELETE", "/v26.0/10001".to_owned(), (400, 100, Some(33))),
        // The client before the token, the token before its proof, the proof before the fields.
        ("GET", format!("/v26.0/oauth/access_token?{exchange}"), (400, 101, None)),
        ("GET", format!("/v26.0/oauth/access_token?{exchange}&client_id=1&client_secret={SECRET}"), (400, 101, None)),
        ("GET", format!("/v26.0/oauth/access_token?{exchange}&client_id={APP}&client_secret=no&fb_exchange_token=no"), (400, 1, None)),
        ("GET", format!("/v26.0/oauth/access_token?{exchange}&{client}"), (400, 100, None)),
        ("GET", format!("/v26.0/oauth/access_token?{exchange}&{client}&fb_exchange_token=no"), (400, 190, None)),
        ("GET", format!("/v26.0/oauth/access_token?{exchange}&{client}&fb_exchange_token={old}&appsecret_proof=no"), (400, 100, None)),
        ("GET", format!("/v26.0/oauth/access_token?grant_type=password&{client}"), (400, 100, None)),
        ("GET", "/v26.0/me".to_owned(), (400, 2500, None)),
        ("GET", "/v26.0/me?access_token=no&appsecret_proof=no".to_owned(), (400, 190, None)),
        ("GET", format!("/v26.0/me?access_token={tampered}"), (400, 190, None)),
        ("GET", format!("/v26.0/me?access_token={APP}%7Cno"), (400, 190, None)),
        ("GET", format!("/v26.0/me?access_token={}", app_token()), (400, 2500, None)),
        ("GET", format!("/v26.0/me?access_token={old}&fields=none"), (400, 100, None)),
        ("GET", format!("/v26.0/me?access_token={old}&appsecret_proof={unmatched}&fields=none"), (400, 100, None)),
        ("GET", format!("/v26.0/me?access_token={old}&appsecret_proof={good}&fields=none"), (400, 100, None)),
        ("GET", format!("/v26.0/debug_token?input_token={old}"), (400, 100, None)),
        ("GET", format!("/v26.0/debug_token?input_token={old}&access_token={old}&appsecret_proof={good}"), (400, 100, None)),
        ("GET", format!("/v26.0/debug_token?access_token={}", app_token()), (400, 100, None)),
        ("GET", format!("/v26.0/oauth/revoke?{client}"), (400, 2500, None)),
        ("GET", format!("/v26.0/oauth/revoke?{client}&access_token={old}"), (400, 100, None)),
        ("GET", format!("/v26.0/oauth/revoke?{client}&access_token={}&revoke_token={old}", app_token()), (400, 190, None)),
        ("GET", format!("/v26.0/oauth/revoke?{client}&access_token={old}&revoke_token=no"), (400, 190, None)),
    ] {
        let answer = call(bench.addr, method, &target, &[], "").await.unwrap();
        assert_eq!(error(&answer), expected, "{method} {target}: {}", answer.text());
    }
    for (target, text) in [
        (format!("/v26.0/me?access_token={old}"), "API calls from the server require an appsecret_proof argument"),
        (format!("/v26.0/me?access_token={old}&appsecret_proof={unmatched}"), "Invalid appsecret_proof provided in the API argument"),
    ] {
        let answer = get(bench.addr, &target).await.json();
        assert_eq!((&answer["error"]["message"], &answer["error"]["type"]), (&json!(text), &json!("GraphMethodException")));
    }
    assert_eq!(bench.graph.state(bench.clock.now()).working("10001").len(), 1);
}

#[tokio::test]
async fn tokens_come_by_query_header_and_form() {
    let bench = bench().await;
    let token = &bench.old.text;
    let proven = format!("/v26.0/me?appsecret_proof={}", proof(token));
    for carrier in ["Bearer", "OAuth"] {
        let headers = [("authorization", &*format!("{carrier} {token}"))];
        assert_eq!(call(bench.addr, "GET", &proven, &headers, "").await.unwrap().json()["id"], "10001");
    }
    let form = format!("business_app={APP}&access_token={token}&appsecret_proof={}", proof(token));
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let answer = call(bench.addr, "POST", "/v26.0/10001/applications", &headers, &form).await.unwrap();
    assert_eq!(answer.json(), json!({ "success": true }));
    let at = bench.clock.now().as_second();
    for (time, status) in [(at, 200), (at - 300, 200), (at - 301, 400), (at + 301, 400)] {
        let target = format!("/v26.0/me?access_token={token}&appsecret_time={time}&appsecret_proof={}", proof(&format!("{token}|{time}")));
        assert_eq!(get(bench.addr, &target).await.status, status, "{}", time - at);
    }
    bench.knobs(json!({ "proof_clock_shift_s": 600 })).await;
    let target = format!("/v26.0/me?access_token={token}&appsecret_time={at}&appsecret_proof={}", proof(&format!("{token}|{at}")));
    assert_eq!(error(&get(bench.addr, &target).await), (400, 100, None));
    assert_eq!(bench.violations(), []);
}

#[tokio::test]
async fn refresh_knobs_change_the_answer() {
    type Check = fn(&Bench, &Value, &Value);
    let table: Vec<(Value, Check)> = vec![
        (json!({ "same_token": true }), |bench, body, _| assert_eq!(body["access_token"], bench.old.text)),
        (json!({ "same_token": true, "same_token_extended": true }), |bench, body, data| {
            assert_eq!(body["access_token"], bench.old.text);
            assert_eq!(data["expires_at"], bench.clock.now().as_second() + 5_184_000);
        }),
        (json!({ "expires_in": "missing" }), |_, body, _| assert!(body.get("expires_in").is_none())),
        (json!({ "expires_in": "alias" }), |_, body, _| assert!(body.get("expires_in").is_none() && body["expires"].is_i64())),
        (json!({ "expires_in": "text" }), |_, body, _| assert!(body["expires_in"].is_string())),
        (json!({ "expires_in": { "value": 0 } }), |_, body, _| assert_eq!(body["expires_in"], 0)),
        (json!({ "expires_in": { "value": -1 } }), |_, body, _| assert_eq!(body["expires_in"], -1)),
        (json!({ "expires_in": { "value": 1e18 } }), |_, body, _| assert_eq!(body["expires_in"], 1e18)),
        (json!({ "expires_in": { "raw": "NaN" } }), |_, body, _| assert!(body.as_str().unwrap().ends_with(",\"expires_in\":NaN}"))),
        (json!({ "lose_scopes": ["business_management"] }), |_, _, data| {
            assert_eq!(data["scopes"], json!(["whatsapp_business_management", "whatsapp_business_messaging"]));
        }),
        (json!({ "add_scopes": ["ads_read"] }), |_, _, data| assert_eq!(data["scopes"][3], "ads_read")),
        (json!({ "lose_targets": ["8001"] }), |_, _, data| assert_eq!(data["granular_scopes"][1]["target_ids"], json!([]))),
        (json!({ "user_id": "10000" }), |_, _, data| assert_eq!(data["user_id"], "10000")),
        (json!({ "app_id": "99" }), |_, _, data| assert_eq!(data["app_id"], "99")),
        (json!({ "kind": "PAGE" }), |_, _, data| assert_eq!(data["type"], "PAGE")),
        (json!({ "never_expires": true }), |_, body, data| {
            assert!(body.get("expires_in").is_none());
            assert_eq!((&data["expires_at"], &data["is_valid"]), (&json!(0), &json!(true)));
        }),
        (json!({ "life_s": 60 }), |_, body, data| {
            assert_eq!(body["expires_in"], 60);
            assert_eq!(data["expires_at"].as_i64().unwrap() - data["issued_at"].as_i64().unwrap(), 60);
        }),
        (json!({ "invalid_for_s": 90 }), |_, _, data| assert_eq!(data["is_valid"], false)),
        (json!({ "token_text": "a b\n\u{0}é" }), |_, body, _| assert_eq!(body["access_token"], "a b\n\u{0}é")),
        (json!({ "token_bytes": 100_000 }), |_, body, _| assert_eq!(body["access_token"].as_str().unwrap().len(), 100_000)),
    ];
    for (knob, check) in table {
        let bench = bench().await;
        bench.pass(86_400);
        bench.knobs(json!({ "refresh": knob })).await;
        let answer = bench.refresh(&bench.old.text).await;
        assert_eq!(answer.status, 200, "{knob}");
        let body = serde_json::from_slice(&answer.body).unwrap_or_else(|_| Value::String(answer.text()));
        let text = body["access_token"].as_str().unwrap_or_default();
        let data = if text.len() < 10_000 { bench.introspect(text).await.json()["data"].clone() } else { Value::Null };
        check(&bench, &body, &data);
        // The old one is always left alone.
        assert_eq!(bench.me(&bench.old.text).await.status, 200, "{knob}");
    }
    let bench = bench().await;
    bench.knobs(json!({ "refresh": { "same_token": true } })).await;
    bench.refreshed().await;
    bench.refreshed().await;
    assert_eq!(bench.violations(), [ViolationKind::RefreshTooOften]);
    bench.knobs(json!({ "refresh": { "same_token": false, "wrong_secret_code": 101 } })).await;
    let wrong = refresh_target(&bench.old.text).replace(SECRET, "wrong");
    assert_eq!(error(&get(bench.addr, &wrong).await), (400, 101, None));
    bench.knobs(json!({ "refresh": { "invalid_for_s": 90 } })).await;
    let new = bench.refreshed().await;
    assert_eq!(error(&bench.me(&new).await), (400, 190, None));
    bench.pass(90);
    assert_eq!(bench.me(&new).await.status, 200);
}

#[tokio::test]
async fn revoke_knobs_change_body_and_effect() {
    for (body, expected) in [
        ("bool", r#"{"success":true}"#),
        ("text", r#"{"success":"true"}"#),
        ("bare", "true"),
        ("trailing_comma", r#"{"success":"true",}"#),
        ("empty", ""),
        ("false_text", r#"{"success":"false"}"#),
        ("false", r#"{"success":false}"#),
    ] {
        let bench = bench().await;
        let new = bench.refreshed().await;
        bench.knobs(json!({ "revoke": { "body": body } })).await;
        assert_eq!(bench.revoke(&bench.old.text, &new).await.text(), expected);
        assert_eq!(bench.me(&bench.old.text).await.status, 400);
    }
    for (knobs, status, old_dead, new_dead) in [
        (json!({ "effect": "nobody" }), 200, false, false),
        (json!({ "effect": "whole_session" }), 200, true, true),
        (json!({ "answer_error": true }), 500, true, false),
        (json!({ "answer_error": true, "effect": "nobody" }), 500, false, false),
        (json!({ "delay_s": 30 }), 200, false, false),
    ] {
        let bench = bench().await;
        let new = bench.refreshed().await;
        bench.knobs(json!({ "revoke": knobs })).await;
        assert_eq!(bench.revoke(&bench.old.text, &new).await.status, status, "{knobs}");
        let dead = |answer: Answer| answer.status == 400;
        assert_eq!((dead(bench.me(&bench.old.text).await), dead(bench.me(&new).await)), (old_dead, new_dead), "{knobs}");
        bench.pass(30);
        assert_eq!(dead(bench.me(&bench.old.text).await), old_dead || knobs["delay_s"] == 30, "{knobs}");
    }
}

#[tokio::test]
async fn dead_tokens_show_their_cause() {
    for (state, subcode, data_there, zero) in [
        (TokenState::Revoked, 466, true, false),
        (TokenState::BulkRevoked, 466, true, false),
        (TokenState::SecurityInvalidated, 460, true, true),
        (TokenState::LoggedOut, 467, true, false),
        (TokenState::Deauthorized, 458, true, false),
        (TokenState::Removed, 464, false, false),
    ] {
        let bench = bench().await;
        let asked = json!({ "fingerprint": bench.old.fingerprint, "state": state });
        assert_eq!(post(bench.addr, "/_control/tokens/state", &asked).await.status, 200);
        assert_eq!(error(&bench.me(&bench.old.text).await), (400, 190, Some(subcode)), "{state:?}");
        assert_eq!(error(&bench.refresh(&bench.old.text).await), (400, 190, Some(subcode)), "{state:?}");
        let answer = bench.introspect(&bench.old.text).await;
        if data_there {
            let data = answer.json()["data"].clone();
            assert_eq!((&data["error"]["subcode"], &data["is_valid"]), (&json!(subcode), &json!(false)));
            assert_eq!(data["expires_at"] == 0, zero, "{state:?}");
        } else {
            assert_eq!(error(&answer), (400, 100, None));
            assert!(answer.json().get("data").is_none());
        }
    }
    let bench = bench().await;
    bench.pass(5_184_000);
    let expired = bench.me(&bench.old.text).await.json();
    let text = "Error validating access token: Session has expired on Sunday, 24-Jan-27 04:00:00 PST. The current time is Sunday, \
                24-Jan-27 04:00:00 PST.";
    assert_eq!((&expired["error"]["error_subcode"], &expired["error"]["message"]), (&json!(463), &json!(text)));
    for (knob, check) in [
        ("dead_expires_at_zero", (|answer: &Answer| answer.json()["data"]["expires_at"] == 0) as fn(&Answer) -> bool),
        ("dead_without_scopes", |answer| answer.json()["data"]["scopes"] == json!([])),
        ("dead_without_data", |answer| answer.status == 400 && answer.json()["error"]["type"] == "GraphMethodException"),
    ] {
        assert!(!check(&bench.introspect(&bench.old.text).await), "{knob}");
        bench.knobs(json!({ "debug_token": { knob: true } })).await;
        assert!(check(&bench.introspect(&bench.old.text).await), "{knob}");
    }
    let garbage = bench.introspect("garbage").await.json()["data"].clone();
    assert_eq!((garbage.get("app_id"), &garbage["scopes"]), (None, &json!([])));
    assert_eq!(garbage["error"]["message"], "Invalid OAuth access token - Cannot parse access token");
}

#[tokio::test]
async fn error_knobs_change_the_shape() {
    for (knobs, check) in [
        (
            json!({ "errors": { "omit_subcode": true } }),
            (|a: &Answer| a.json()["error"].get("error_subcode").is_none()) as fn(&Answer) -> bool,
        ),
        (json!({ "errors": { "error_data": "object" } }), |a| a.json()["error"]["error_data"].is_object()),
        (json!({ "errors": { "error_data": "text" } }), |a| a.json()["error"]["error_data"].is_string()),
        (json!({ "errors": { "top_level": true } }), |a| a.json()["code"] == 190 && a.json().get("error").is_none()),
        (json!({ "errors": { "echo_token": true } }), |a| a.text().contains("CANARY")),
        (json!({ "errors": { "www_authenticate": "malformed" } }), |a| {
            a.header("www-authenticate").is_some_and(|value| value.contains(" \"\""))
        }),
        (json!({ "errors": { "www_authenticate": "absent" } }), |a| a.header("www-authenticate").is_none()),
        (json!({ "status_family": "oas" }), |a| a.status == 401),
        (json!({ "debug_token": { "revoked_subcode": 467 } }), |a| a.json()["error"]["error_subcode"] == 467),
        (json!({ "version": { "floor": "v27.0", "latest": "v28.0" } }), |a| a.header("facebook-api-version") == Some("v27.0")),
        (json!({ "version": { "latest": "v25.0" } }), |a| a.json()["error"]["code"] == 2500),
        (json!({ "date": { "missing": true } }), |a| a.header("date").is_none()),
        (json!({ "date": { "shift_s": -31_536_000 } }), |a| a.header("date") == Some("Tue, 25 Nov 2025 12:00:00 GMT")),
        (json!({ "date": { "frozen_at": "2026-01-01T00:00:00Z" } }), |a| a.header("date") == Some("Thu, 01 Jan 2026 00:00:00 GMT")),
        (json!({ "date": { "raw": "yesterday" } }), |a| a.header("date") == Some("yesterday")),
        (json!({ "usage": { "app_percent": 28 } }), |a| a.header("x-app-usage").is_some_and(|usage| usage.contains("\"call_count\":28"))),
    ] {
        let bench = bench().await;
        bench.graph.set_token_state(&bench.old.fingerprint, TokenState::Revoked);
        assert!(!check(&bench.me(&bench.old.text).await), "{knobs} without");
        bench.knobs(knobs.clone()).await;
        assert!(check(&bench.me(&bench.old.text).await), "{knobs} with");
    }
}

#[tokio::test]
async fn refusals_throttle_block_and_recover() {
    for (code, subcode, oas) in [
        (4, None, 429),
        (17, Some(2_446_079), 429),
        (32, None, 429),
        (613, None, 429),
        (80_007, None, 429),
        (80_008, None, 429),
        (368, None, 400),
        (190, Some(459), 401),
        (200, None, 403),
        (2, None, 500),
    ] {
        let bench = bench().await;
        let refusal = json!({ "call": "me", "times": 2, "code": code, "subcode": subcode });
        bench.knobs(json!({ "status_family": "oas", "refuse": [refusal] })).await;
        for _ in 0..2 {
            assert_eq!(error(&bench.me(&bench.old.text).await), (oas, code, subcode));
        }
        assert_eq!(bench.me(&bench.old.text).await.status, 200);
        assert_eq!(bench.graph.knobs().refuse[0].times, Some(0));
        assert_eq!(bench.violations(), []);
    }
}

#[tokio::test]
async fn usage_headers_come_in_every_combination_and_their_wait_is_watched() {
    for (usage, name, part, wait) in [
        (json!({ "retry_after": "60" }), "retry-after", "60", 60),
        (json!({ "business_regain_min": 19 }), "x-business-use-case-usage", "\"estimated_time_to_regain_access\":19", 19 * 60),
        (json!({ "business_regain_min": 1, "duplicate_keys": true }), "x-business-use-case-usage", "],\"2\":[", 60),
        (json!({ "ad_account_percent": 9.67, "ad_account_reset_s": 100 }), "x-ad-account-usage", "9.67", 100),
        (json!({ "app_percent": 100 }), "x-app-usage", "100", 0),
        (json!({ "other": { "x-page-usage": "{}" } }), "x-page-usage", "{}", 0),
    ] {
        let bench = bench().await;
        bench.knobs(json!({ "refuse": [{ "call": "me", "times": 1, "code": 4, "usage": usage }] })).await;
        let answer = bench.me(&bench.old.text).await;
        assert!(answer.header(name).unwrap().contains(part), "{usage}");
        bench.pass(wait - 1);
        bench.me(&bench.old.text).await;
        assert_eq!(bench.violations(), []);
        bench.introspect(&bench.old.text).await;
        let expected: &[ViolationKind] = if wait > 0 { &[ViolationKind::CallDuringThrottle] } else { &[] };
        assert_eq!(bench.violations(), expected, "{usage}");
        bench.pass(1);
        bench.introspect(&bench.old.text).await;
        assert_eq!(bench.violations(), expected, "{usage}");
    }
}

#[tokio::test]
async fn misconduct_is_noted() {
    use ViolationKind::*;
    let bench = bench().await;
    let old = bench.old.text.clone();
    let new = bench.refreshed().await;
    let mut expected = Vec::new();
    let mut noted = |bench: &Bench, kinds: &[ViolationKind]| {
        expected.extend_from_slice(kinds);
        assert_eq!(bench.violations(), expected);
    };
    bench.refresh(&old).await;
    noted(&bench, &[RefreshTooOften]);
    bench.pass(86_400);
    bench.refresh(&old).await;
    noted(&bench, &[]);
    get(bench.addr, &format!("/me?access_token={old}&appsecret_proof={}", proof(&old))).await;
    noted(&bench, &[MissingVersion]);
    assert_eq!(get(bench.addr, &format!("/v26.0/me?access_token={old}")).await.status, 400);
    noted(&bench, &[MissingProof]);
    call(bench.addr, "GET", "/v26.0/me", &[("user-agent", &format!("bot/{old}"))], "").await;
    call(bench.addr, "GET", "/v26.0/me", &[("referer", &format!("http://x/?s={SECRET}"))], "").await;
    get(bench.addr, &format!("/v26.0/{old}")).await;
    noted(&bench, &[SecretExposed, SecretExposed, SecretExposed]);
    bench.revoke(&old, &new).await;
    noted(&bench, &[RevokeBeforeUse]);
    for _ in 0..2 {
        bench.refresh(&old).await;
    }
    noted(&bench, &[RefreshAfterDeath]);
    // Something has changed, so that another try is fair.
    bench.knobs(json!({})).await;
    bench.refresh(&old).await;
    noted(&bench, &[]);
    bench.pass(3_600);
    bench.refresh(&old).await;
    noted(&bench, &[]);
    let admin = bench.graph.issue(TokenSpec { user: Some("10000".into()), ..Graph::sample_token() }, bench.clock.now());
    let peer = format!("?access_token={}&appsecret_proof={}", admin.text, proof(&admin.text));
    call(bench.addr, "POST", &format!("/v26.0/9001/register{peer}"), &[], "").await;
    noted(&bench, &[Register]);
    let answer = call(bench.addr, "DELETE", &format!("/v26.0/10001/access_tokens{peer}"), &[], "").await.unwrap();
    assert_eq!(answer.json(), true);
    noted(&bench, &[BulkRevoke]);
    assert_eq!(bench.graph.state(bench.clock.now()).working("10001").len(), 0);
    bench.revoke(&admin.text, &admin.text).await;
    noted(&bench, &[RevokeOfCaller, RevokeOfOnlyToken]);
    call(bench.addr, "DELETE", "/_control/violations", &[], "").await;
    assert_eq!(bench.violations(), []);
}

#[tokio::test]
async fn a_second_refresh_after_a_lost_answer_is_no_misconduct() {
    let bench = bench().await;
    let simulator = bench.running.simulator();
    simulator.add_rule(Rule::once("refresh", Fault::Drop { at: Stage::Answered }));
    assert!(call(bench.addr, "GET", &refresh_target(&bench.old.text), &[], "").await.is_none());
    let lost = bench.graph.state(bench.clock.now()).tokens[1].clone();
    assert_eq!((lost.valid, lost.delivered), (true, false));
    bench.refreshed().await;
    assert_eq!(bench.violations(), []);
}

#[tokio::test]
async fn holds_at_received_and_answered_around_the_effect() {
    let bench = bench().await;
    let target = refresh_target(&bench.old.text);
    for (at, before) in [("received", 1), ("answered", 3)] {
        let condition = json!({ "param": "fb_exchange_token", "fingerprint": bench.old.fingerprint });
        let rule = json!({ "call": "refresh", "where": condition, "fault": { "kind": "hold", "at": at } });
        assert_eq!(post(bench.addr, "/_control/rules", &rule).await.status, 200);
        let (addr, target) = (bench.addr, target.clone());
        let waiting = tokio::spawn(async move { get(addr, &target).await });
        let held = get(bench.addr, "/_control/held?wait_ms=10000&call=refresh").await.json()["held"][0].clone();
        assert_eq!(held["at"], at);
        assert_eq!(bench.graph.state(bench.clock.now()).tokens.len(), before);
        let released = post(bench.addr, "/_control/release", &json!({ "id": held["id"] })).await;
        assert_eq!(released.json(), json!({ "released": 1 }));
        let answer = tokio::time::timeout(LIMIT, waiting).await.unwrap().unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(bench.graph.state(bench.clock.now()).tokens.len(), if at == "received" { 2 } else { 3 });
    }
}

#[tokio::test]
async fn scripted_answers_stand_in_for_outages() {
    let bench = bench().await;
    for (fault, status, text) in [
        (json!({ "kind": "reply", "status": 200, "body": "Service Unavailable" }), 200, "Service Unavailable"),
        (json!({ "kind": "reply", "status": 502, "headers": { "content-type": "text/html" }, "body": "<html>502</html>" }), 502, "<html>"),
        (json!({ "kind": "redirect", "location": "http://127.0.0.1:1/" }), 302, ""),
        (json!({ "kind": "reply", "at": "answered", "status": 503 }), 503, ""),
    ] {
        post(bench.addr, "/_control/rules", &json!({ "call": "me", "fault": fault })).await;
        let answer = bench.me(&bench.old.text).await;
        assert_eq!(answer.status, status);
        assert!(answer.text().contains(text));
        assert!(answer.header("date").is_some() && answer.header("facebook-api-version").is_some());
    }
    post(bench.addr, "/_control/rules", &json!({ "call": "me", "fault": { "kind": "headers", "set": { "Date": null } } })).await;
    assert!(bench.me(&bench.old.text).await.header("date").is_none());
}

#[tokio::test]
async fn apps_have_a_standing_a_secret_and_tokens() {
    let bench = bench().await;
    let refused = |status: AppStatus| json!({ "id": APP, "status": status });
    for (status, code) in [(AppStatus::Throttled, 4), (AppStatus::Disabled, 101), (AppStatus::Deleted, 101)] {
        assert_eq!(post(bench.addr, "/_control/apps", &refused(status)).await.status, 200);
        assert_eq!(error(&bench.refresh(&bench.old.text).await).1, code);
        assert_eq!(error(&bench.revoke(&bench.old.text, &bench.old.text).await).1, code);
    }
    post(bench.addr, "/_control/apps", &json!({ "id": APP, "status": "ok", "address_refused": true })).await;
    assert_eq!(error(&bench.refresh(&bench.old.text).await), (400, 100, None));
    assert_eq!(error(&bench.introspect(&bench.old.text).await), (400, 100, None));
    assert_eq!(bench.me(&bench.old.text).await.status, 200);
    post(bench.addr, "/_control/apps", &json!({ "id": APP, "address_refused": false })).await;

    // An app token, composed or fetched, is healthy until the secret changes.
    let client = format!("client_id={APP}&client_secret={SECRET}&grant_type=client_credentials");
    let fetched = get(bench.addr, &format!("/v26.0/oauth/access_token?{client}")).await.json()["access_token"].as_str().unwrap().to_owned();
    let viewed_by =
        |viewer: String| async move { get(bench.addr, &format!("/v26.0/debug_token?input_token={viewer}&access_token={viewer}")).await };
    for viewer in [app_token(), encoded(&fetched)] {
        let data = viewed_by(viewer).await.json()["data"].clone();
        assert_eq!((&data["type"], &data["is_valid"], &data["app_id"]), (&json!("APP"), &json!(true), &json!(APP)));
    }
    bench.knobs(json!({ "composed_app_token_refused": true })).await;
    assert_eq!(error(&viewed_by(app_token()).await), (400, 190, None));
    assert_eq!(viewed_by(encoded(&fetched)).await.status, 200);
    bench.knobs(json!({ "composed_app_token_refused": false })).await;
    post(bench.addr, "/_control/apps", &json!({ "id": APP, "secret": "another-secret" })).await;
    for viewer in [app_token(), encoded(&fetched)] {
        assert_eq!(error(&viewed_by(viewer).await), (400, 190, None));
    }
    assert_eq!(error(&bench.me(&bench.old.text).await), (400, 100, None));
    assert_eq!(error(&bench.refresh(&bench.old.text).await), (400, 1, None));
    let healed = refresh_target(&bench.old.text).replace(SECRET, "another-secret");
    assert_eq!(get(bench.addr, &healed).await.status, 200);
}

#[tokio::test]
async fn apps_do_not_mix() {
    let bench = bench().await;
    bench.graph.add_app(App {
        id: "22".into(),
        secret: "second-secret".into(),
        name: "Other".into(),
        business: "7001".into(),
        require_proof: false,
        status: AppStatus::Ok,
        address_refused: false,
    });
    let foreign = bench.graph.issue(TokenSpec { app: "22".into(), ..Graph::sample_token() }, bench.clock.now());
    let answer = bench.introspect(&foreign.text).await;
    assert_eq!(answer.json()["error"]["message"], "(#100) The App_id in the input_token did not match the Viewing App");
    assert_eq!(error(&bench.refresh(&foreign.text).await), (400, 190, None));
    assert_eq!(error(&bench.revoke(&foreign.text, &bench.old.text).await), (400, 100, None));
    assert_eq!(error(&bench.revoke(&bench.old.text, &foreign.text).await), (400, 100, None));
    assert_eq!(bench.graph.state(bench.clock.now()).working("10001").len(), 2);
}

#[tokio::test]
async fn first_tokens_are_minted_for_installed_apps() {
    let bench = bench().await;
    let admin = bench.graph.issue(TokenSpec { user: Some("10000".into()), life_s: Some(0), ..Graph::sample_token() }, bench.clock.now());
    let peer = format!("access_token={}&appsecret_proof={}", admin.text, proof(&admin.text));
    let send = |path: String| async move { call(bench.addr, "POST", &path, &[], "").await.unwrap() };
    let created = send(format!("/v26.0/7001/system_users?{peer}&name=Two&role=EMPLOYEE")).await.json();
    let id = created["id"].as_str().unwrap().to_owned();
    let mint = format!("/v26.0/{id}/access_tokens?{peer}&business_app={APP}&scope=ads_read,read_insights");
    assert_eq!(error(&send(mint.clone()).await), (400, 100, Some(33)));
    assert_eq!(send(format!("/v26.0/{id}/applications?{peer}&business_app={APP}")).await.json(), json!({ "success": true }));
    let minted = send(mint.clone()).await.json();
    assert_eq!(minted.as_object().unwrap().len(), 1);
    let text = minted["access_token"].as_str().unwrap();
    let data = bench.introspect(text).await.json()["data"].clone();
    assert_eq!((&data["expires_at"], &data["scopes"], &data["user_id"]), (&json!(0), &json!(["ads_read", "read_insights"]), &json!(id)));
    post(bench.addr, "/_control/businesses", &json!({ "id": "7001", "requires_expiring": true, "full_tier": false })).await;
    assert_eq!(error(&send(mint.clone()).await), (400, 100, None));
    let expiring = send(format!("{mint}&set_token_expires_in_60_days=true")).await.json();
    let data = bench.introspect(expiring["access_token"].as_str().unwrap()).await.json()["data"].clone();
    assert_ne!(data["expires_at"], 0);
    for (role, code) in [("ADMIN", 3965), ("EMPLOYEE", 3949)] {
        assert_eq!(error(&send(format!("/v26.0/7001/system_users?{peer}&name=X&role={role}")).await).1, code);
    }
    let listed = get(bench.addr, &format!("/v26.0/7001/system_users?{peer}")).await.json();
    assert_eq!(listed["data"].as_array().unwrap().len(), 3);
    let node = get(bench.addr, &format!("/v26.0/{id}?{peer}&fields=name")).await.json();
    assert_eq!(node, json!({ "id": id, "name": "Two" }));
    assert_eq!(bench.violations(), []);
}

#[tokio::test]
async fn consumers_reach_what_their_token_may() {
    let bench = bench().await;
    let with = |path: &str, token: &str| format!("/v26.0/{path}?access_token={token}&appsecret_proof={}", proof(token));
    let phones = get(bench.addr, &with("8001/phone_numbers", &bench.old.text)).await.json();
    assert_eq!(phones["data"][0]["id"], "9001");
    let permissions = get(bench.addr, &with("me/permissions", &bench.old.text)).await.json();
    assert_eq!(permissions["data"][0], json!({ "permission": "business_management", "status": "granted" }));
    let narrow = bench.graph.issue(TokenSpec { scopes: vec!["ads_read".into()], ..Graph::sample_token() }, bench.clock.now());
    assert_eq!(error(&get(bench.addr, &with("8001/phone_numbers", &narrow.text)).await), (400, 200, None));
    assert_eq!(error(&get(bench.addr, &with("8002/phone_numbers", &narrow.text)).await), (400, 100, Some(33)));
    let integration = TokenSpec { kind: TokenKind::BusinessIntegration, ..Graph::sample_token() };
    let integration = bench.graph.issue(integration, bench.clock.now());
    let asked = format!("{}&fields=client_business_id", with("me", &integration.text));
    assert_eq!(get(bench.addr, &asked).await.json(), json!({ "id": "10001", "client_business_id": "7001" }));
    let classic = format!("{}&fields=client_business_id", with("me", &bench.old.text));
    assert_eq!(get(bench.addr, &classic).await.json(), json!({ "id": "10001" }));
    bench.knobs(json!({ "client_business_id_unknown": true })).await;
    assert_eq!(error(&get(bench.addr, &classic).await), (400, 100, None));
    assert_eq!(get(bench.addr, &asked).await.status, 200);
    bench.me(&bench.old.text).await;
    assert_eq!(bench.revoke(&integration.text, &bench.old.text).await.json(), json!({ "success": true }));
    assert_eq!(bench.me(&integration.text).await.status, 200);
}

#[tokio::test]
async fn posts_to_oauth_are_served_only_when_allowed() {
    let bench = bench().await;
    bench.knobs(json!({ "allow_post_oauth": true, "allow_bulk_revoke": true })).await;
    let form = refresh_target(&bench.old.text).split_once('?').unwrap().1.to_owned();
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let answer = call(bench.addr, "POST", "/v26.0/oauth/access_token", &headers, &form).await.unwrap();
    assert_eq!(answer.status, 200);
    let bulk = format!("/v26.0/10001/access_tokens?access_token={}", app_token());
    assert_eq!(call(bench.addr, "DELETE", &bulk, &[], "").await.unwrap().json(), true);
    assert_eq!(bench.violations(), []);
}

#[tokio::test]
async fn the_control_plane_builds_a_world() {
    let graph = Arc::new(Graph::new(Knobs::default()));
    let running = serve_on(graph.clone(), Arc::new(VirtualClock::new()), (Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let send = |path: &'static str, body: Value| {
        let addr = running.addr();
        async move { post(addr, &format!("/_control/{path}"), &body).await }
    };
    assert_eq!(send("businesses", json!({ "id": "1" })).await.status, 200);
    assert_eq!(send("apps", json!({ "id": "2", "secret": "long-enough", "business": "1" })).await.status, 200);
    assert_eq!(send("users", json!({ "id": "3", "business": "1", "name": "Three" })).await.status, 200);
    for (path, body) in [
        ("apps", json!({ "id": "9" })),
        ("tokens", json!({ "app": "9" })),
        ("tokens", json!({ "app": "2", "user": "9" })),
        ("tokens/state", json!({ "fingerprint": "0", "state": "revoked" })),
        ("tokens/state", json!({ "state": "revoked" })),
        ("tokens/state", json!({ "user": "9", "state": "revoked" })),
        ("knobs", json!({ "no_such_knob": 1 })),
        ("knobs", json!({ "refresh": { "life_s": "x" } })),
    ] {
        let answer = send(path, body.clone()).await;
        assert_eq!(answer.status, 400, "{path} {body}");
        assert!(answer.json()["error"].as_str().unwrap().len() > 5);
    }
    let issued = send("tokens", json!({ "app": "2", "user": "3", "life_s": 20, "age_s": 5 })).await.json();
    let text = issued["access_token"].as_str().unwrap();
    let answer = get(running.addr(), &format!("/v26.0/me?access_token={text}")).await.json();
    assert_eq!(answer, json!({ "id": "3", "name": "Three" }));
    let state = get(running.addr(), "/_control/state").await;
    assert!(!state.text().contains(text) && !state.text().contains("long-enough"));
    let state = state.json();
    assert_eq!((&state["tokens"][0]["fingerprint"], &state["tokens"][0]["consumer_uses"]), (&issued["fingerprint"], &json!(1)));
    assert_eq!(state["violations"][0]["kind"], "missing_proof");
    assert_eq!(get(running.addr(), "/_control/violations").await.json()["violations"].as_array().unwrap().len(), 1);
    assert_eq!(get(running.addr(), "/_control/knobs").await.json()["token_life_s"], 5_184_000);
    send("knobs", json!({ "token_life_s": 8 })).await;
    assert_eq!(graph.knobs().token_life_s, 8);
    call(running.addr(), "DELETE", "/_control/knobs", &[], "").await;
    assert_eq!(graph.knobs(), Knobs::default());
    assert_eq!(send("tokens/state", json!({ "user": "3", "state": "security_invalidated" })).await.json(), json!({ "tokens": 1 }));
    let answer = get(running.addr(), &format!("/v26.0/me?access_token={text}")).await;
    assert_eq!(error(&answer), (400, 190, Some(460)));
}

#[test]
fn every_guess_in_the_source_is_in_the_docs() {
    let root = env!("CARGO_MANIFEST_DIR");
    let docs = std::fs::read_to_string(format!("{root}/docs/simulator.md")).unwrap();
    let mut pending = vec![std::path::PathBuf::from(format!("{root}/src/simulator/graph"))];
    let mut guesses = std::collections::BTreeSet::new();
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            let source = std::fs::read_to_string(path).unwrap();
            guesses.extend(source.split("GUESS(").skip(1).map(|rest| rest.split(')').next().unwrap().to_owned()));
        }
    }
    guesses.remove("Gn");
    assert!(guesses.len() >= 20, "{guesses:?}");
    for guess in &guesses {
        assert!(docs.contains(&format!("| {guess} |")), "{guess} is not in docs/simulator.md");
    }
    for fault in 1..=28 {
        assert!(docs.contains(&format!("| F{fault} |")), "F{fault} is not in docs/simulator.md");
    }
    let listed = docs.lines().filter(|line| line.starts_with("| G")).count();
    assert_eq!(listed, guesses.len(), "docs/simulator.md lists guesses that the source does not make");
}

type RequestParts = (&'static str, Vec<&'static str>, Vec<(&'static str, &'static str)>, &'static str, Vec<u8>);

/// A request made of words that mean something to Graph, and of some that do not.
fn any_request() -> impl Strategy<Value = RequestParts> {
    let words = |words: &'static [&'static str]| proptest::sample::select(words);
    let method = words(&["GET", "POST", "DELETE", "PUT"]);
    let segment = words(&[
        "v26.0",
        "v1.0",
        "v99.0",
        "v.",
        "oauth",
        "access_token",
        "revoke",
        "debug_token",
        "me",
        "permissions",
        "10001",
        "7001",
        "8001",
        "access_tokens",
        "applications",
        "system_users",
        "phone_numbers",
        "register",
        "",
        "%00",
        "é",
    ]);
    let name = words(&[
        "access_token",
        "input_token",
        "fb_exchange_token",
        "revoke_token",
        "client_id",
        "client_secret",
        "grant_type",
        "appsecret_proof",
        "appsecret_time",
        "fields",
        "business_app",
        "scope",
        "name",
        "role",
        "status",
        "set_token_expires_in_60_days",
    ]);
    let value = words(&[
        "OLD",
        "ADMIN_TOKEN",
        "1234567890|app-secret-0123456789abcdef",
        "1234567890",
        "app-secret-0123456789abcdef",
        "fb_exchange_token",
        "client_credentials",
        "|",
        "",
        "id,,name",
        "9223372036854775808",
        "-1",
        "true",
        "ADMIN",
        "EMPLOYEE",
        "\u{0}",
    ]);
    let path = proptest::collection::vec(segment, 0..5);
    let pairs = proptest::collection::vec((name, value), 0..8);
    let kind = words(&["application/json", "multipart/form-data; boundary=", "application/x-www-form-urlencoded", ""]);
    (method, path, pairs, kind, proptest::collection::vec(any::<u8>(), 0..40))
}

fn built((method, path, pairs, kind, body): RequestParts) -> Request {
    Request {
        method: method.parse().unwrap(),
        path: format!("/{}", path.join("/")),
        raw_query: String::new(),
        pairs: pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        headers: [(hyper::header::CONTENT_TYPE, kind.parse().unwrap())].into_iter().collect(),
        body: body.into(),
    }
}

proptest! {
    /// Whatever comes, an answer goes out whose body is JSON, and no secret of an app is in it.
    #[test]
    fn any_requests_are_answered(requests in proptest::collection::vec(any_request(), 1..12), life in any::<i64>(), age in any::<i64>()) {
        let now: Timestamp = "2026-11-25T12:00:00Z".parse().unwrap();
        let graph = Graph::sample(Knobs { token_life_s: life, ..Knobs::default() });
        graph.issue(TokenSpec { text: Some("OLD".into()), age_s: age, ..Graph::sample_token() }, now);
        graph.issue(TokenSpec { text: Some("ADMIN_TOKEN".into()), user: Some("10000".into()), ..Graph::sample_token() }, now);
        for request in requests.into_iter().map(built) {
            graph.received(&request, now);
            let mut response = graph.answer(&request, now);
            graph.dress(&request, &mut response, now);
            let body = String::from_utf8(response.body).unwrap();
            prop_assert!(serde_json::from_str::<Value>(&body).is_ok(), "{body}");
            prop_assert!(!body.contains(SECRET), "{body}");
            prop_assert!((200..=500).contains(&response.status));
        }
        prop_assert!(!json!(graph.state(now)).to_string().contains(SECRET));
    }
}
