//! The real Graph client against the simulated Graph, which reads Meta's pages on its own and judges the client's conduct.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use evertoken::graph::Provider as _;
use evertoken::graph::client::{AppTokenMode, Deadlines, GraphBase, GraphClient, GraphSettings, Transport, TransportSettings};
use evertoken::rotation::fault::{Certainty, Fault as ClientFault, FaultClass};
use evertoken::rotation::token::{Expiry, Token};
use evertoken::simulator::fault::{Fault, Rule, Stage};
use evertoken::simulator::graph::knobs::{
    ErrorData, ExpiresIn, Knobs, Refusal, RevokeBody, RevokeEffect, StatusFamily, Usage, WwwAuthenticate,
};
use evertoken::simulator::graph::state::{AppStatus, TokenKind, TokenSpec, TokenState};
use evertoken::simulator::graph::violations::ViolationKind;
use evertoken::simulator::graph::{Graph, serve_on};
use evertoken::simulator::server::Running;
use evertoken::simulator::virtual_clock::VirtualClock;
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret as _;

const SECRET: &str = "app-secret-0123456789abcdef";
const DAY: i64 = 86_400;

struct Bench {
    running: Running,
    graph: Arc<Graph>,
    clock: Arc<VirtualClock>,
    client: GraphClient,
    old: Token,
}

impl Bench {
    async fn new() -> Self {
        Self::with(SECRET, AppTokenMode::Composed).await
    }

    /// A sample world whose clock stands still, and a client that holds `secret`.
    async fn with(secret: &str, app_token: AppTokenMode) -> Self {
        let clock = Arc::new(VirtualClock::new());
        clock.set_rate(0.0);
        clock.set("2026-11-25T12:00:00Z".parse().unwrap());
        let graph = Arc::new(Graph::sample(Knobs { marker: "CANARY".into(), ..Knobs::default() }));
        let old = Token::new(graph.issue(Graph::sample_token(), clock.now()).text).unwrap();
        let running = serve_on(Arc::clone(&graph), Arc::clone(&clock), (Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let deadlines = Deadlines { refresh: Duration::from_secs(2), other: Duration::from_secs(2), ..Deadlines::default() };
        let transport = TransportSettings { user_agent: "evertoken/test".to_owned(), deadlines, ..TransportSettings::default() };
        let settings = GraphSettings {
            base: GraphBase::new(&running.url(), "v26.0").unwrap(),
            app_id: "1234567890".to_owned(),
            app_secret: secret.to_owned().into(),
            app_token,
        };
        let client = GraphClient::new(settings, Transport::new(transport).unwrap());
        Self { running, graph, clock, client, old }
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn refreshed(&self) -> Token {
        Token::new(self.client.refresh(&self.old).await.result.unwrap().text.expose_secret()).unwrap()
    }

    async fn refresh_fault(&self) -> ClientFault {
        clean(self.client.refresh(&self.old).await.result.err().unwrap())
    }

    fn violations(&self) -> Vec<ViolationKind> {
        self.graph.violations().iter().map(|violation| violation.kind).collect()
    }

    fn minted(&self) -> usize {
        self.graph.state(self.now()).working("10001").len() - 1
    }
}

/// The fault itself, after a look that nothing secret is in it: every simulated token holds the canary.
fn clean(fault: ClientFault) -> ClientFault {
    let shown = format!("{fault:?}");
    assert!(!shown.contains("CANARY") && !shown.contains(SECRET), "{shown}");
    fault
}

#[tokio::test]
async fn a_whole_rotation_meets_no_complaint() {
    let bench = Bench::new().await;
    let before = bench.client.introspect(&bench.old).await.result.unwrap();
    let answer = bench.client.refresh(&bench.old).await;
    assert_eq!(answer.date, Some(bench.now()));
    let refreshed = answer.result.unwrap();
    assert!(refreshed.expires_in.is_some_and(|seconds| (59 * DAY..=60 * DAY).contains(&seconds)));
    let new = Token::new(refreshed.text.expose_secret()).unwrap();
    assert_ne!(new.fingerprint(), bench.old.fingerprint());

    let after = bench.client.introspect(&new).await.result.unwrap();
    assert!(after.valid);
    assert_eq!((after.app_id.as_deref(), after.user_id.as_deref()), (Some("1234567890"), Some("10001")));
    assert_eq!((&after.scopes, &after.granular, &after.kind), (&before.scopes, &before.granular, &before.kind));
    assert_eq!(after.expires, Some(Expiry::At(bench.now() + SignedDuration::from_hours(60 * 24))));
    assert_eq!(after.data_access_expires_at, None);

    let app = bench.client.introspect_app().await.result.unwrap();
    assert_eq!((app.valid, app.kind.as_deref()), (true, Some("APP")));
    let me = bench.client.me(&new).await.result.unwrap();
    assert_eq!((me.id.as_deref(), me.name.as_deref(), me.client_business_id), (Some("10001"), Some("Bot"), None));
    assert!(bench.client.revoke(&bench.old, &new).await.result.unwrap());

    let dead = bench.client.introspect(&bench.old).await.result.unwrap();
    assert_eq!((dead.valid, dead.error_code, dead.error_subcode), (false, Some(190), Some(466)));
    assert_eq!(clean(bench.client.me(&bench.old).await.result.unwrap_err()).class, FaultClass::TokenDead);
    assert_eq!(bench.client.served_version().as_deref(), Some("v26.0"));
    assert_eq!(bench.violations(), []);
}

#[tokio::test]
async fn a_wrong_secret_is_the_apps_trouble_in_every_call_and_is_cured_by_another() {
    for code in [1, 100, 101] {
        let bench = Bench::with("wrong-secret-wrong-secret", AppTokenMode::Composed).await;
        bench.graph.set_knobs(|knobs| knobs.refresh.wrong_secret_code = code);
        let faults = [
            bench.refresh_fault().await,
            bench.client.introspect(&bench.old).await.result.unwrap_err(),
            bench.client.me(&bench.old).await.result.unwrap_err(),
            bench.client.revoke(&bench.old, &bench.old).await.result.unwrap_err(),
        ];
        for fault in faults {
            assert_eq!((fault.class, fault.certainty), (FaultClass::AppCredential, Certainty::NotDone), "{code}: {fault}");
        }
        bench.client.replace_secret(SECRET.to_owned().into());
        assert!(bench.client.me(&bench.old).await.result.is_ok());
        assert!(bench.client.introspect(&bench.old).await.result.is_ok());
        assert!(bench.client.refresh(&bench.old).await.result.is_ok());
    }
}

#[tokio::test]
async fn a_composed_app_token_that_is_refused_gives_way_to_a_fetched_one() {
    for mode in [AppTokenMode::Composed, AppTokenMode::Fetched] {
        let bench = Bench::with(SECRET, mode).await;
        bench.graph.set_knobs(|knobs| knobs.composed_app_token_refused = true);
        for _twice in 0..2 {
            assert!(bench.client.introspect(&bench.old).await.result.unwrap().valid);
        }
        assert_eq!(bench.client.introspect_app().await.result.unwrap().kind.as_deref(), Some("APP"));
    }
}

#[tokio::test]
async fn a_lost_answer_is_unknown_and_a_lost_request_looks_the_same() {
    for (stage, minted) in [(Stage::Received, 0), (Stage::Answered, 1), (Stage::Body, 1)] {
        let bench = Bench::new().await;
        bench.running.simulator().add_rule(Rule::once("refresh", Fault::Drop { at: stage }));
        let fault = bench.refresh_fault().await;
        assert_eq!((fault.certainty, fault.class), (Certainty::Unknown, FaultClass::Unreachable), "{stage:?}");
        assert_eq!(bench.minted(), minted, "{stage:?}");
    }
}

#[tokio::test]
async fn broken_slow_and_endless_answers_are_unknown() {
    let faults = [
        Fault::Truncate { bytes: 20 },
        Fault::Slow { bytes: 1, every_ms: 200 },
        Fault::Endless { bytes: None },
        Fault::Redirect { location: "http://127.0.0.1:1/".into(), status: 302 },
    ];
    for broken in faults {
        let bench = Bench::new().await;
        bench.running.simulator().add_rule(Rule::once("refresh", broken.clone()));
        assert_eq!(bench.refresh_fault().await.certainty, Certainty::Unknown, "{broken:?}");
        // The client is none the worse for it.
        assert!(bench.client.me(&bench.old).await.result.is_ok());
    }
}

#[tokio::test]
async fn each_end_of_a_token_is_its_death_and_a_checkpoint_is_not() {
    for family in [StatusFamily::Classic, StatusFamily::Oas] {
        let states = [
            (TokenState::Revoked, Some(466)),
            (TokenState::SecurityInvalidated, Some(460)),
            (TokenState::LoggedOut, Some(467)),
            (TokenState::Deauthorized, Some(458)),
        ];
        for (state, subcode) in states {
            let bench = Bench::new().await;
            bench.graph.set_knobs(|knobs| knobs.status_family = family);
            assert!(bench.graph.set_token_state(&bench.old.fingerprint().to_string(), state));
            let fault = bench.refresh_fault().await;
            assert_eq!((fault.class, fault.certainty, fault.code), (FaultClass::TokenDead, Certainty::NotDone, Some(190)), "{state:?}");
            let seen = bench.client.introspect(&bench.old).await.result.unwrap();
            assert_eq!((seen.valid, seen.error_subcode), (false, subcode), "{state:?}");
        }
    }
    let bench = Bench::new().await;
    bench.clock.advance(SignedDuration::from_hours(61 * 24));
    let expired = bench.refresh_fault().await;
    assert_eq!((expired.class, expired.subcode), (FaultClass::TokenDead, Some(463)));
    assert!(expired.what.contains("Session has expired"), "{expired}");

    let bench = Bench::new().await;
    let checkpoint = |code, subcode| Refusal { call: "*".into(), times: Some(1), code, subcode, message: None, usage: Usage::default() };
    bench.graph.set_knobs(|knobs| knobs.refuse = vec![checkpoint(190, Some(459)), checkpoint(368, None)]);
    for _twice in 0..2 {
        assert_eq!(bench.client.me(&bench.old).await.result.unwrap_err().class, FaultClass::Policy);
    }
    assert!(bench.client.me(&bench.old).await.result.is_ok());
}

#[tokio::test]
async fn errors_in_every_shape_are_understood_and_never_leak() {
    let shapes: [fn(&mut Knobs); 7] = [
        |knobs| knobs.errors.omit_subcode = true,
        |knobs| knobs.errors.error_data = ErrorData::Object,
        |knobs| knobs.errors.error_data = ErrorData::Text,
        |knobs| knobs.errors.top_level = true,
        |knobs| knobs.errors.echo_token = true,
        |knobs| knobs.errors.www_authenticate = WwwAuthenticate::Malformed,
        |knobs| knobs.errors.www_authenticate = WwwAuthenticate::Absent,
    ];
    for (number, shape) in shapes.into_iter().enumerate() {
        let bench = Bench::new().await;
        bench.graph.set_knobs(shape);
        assert!(bench.graph.set_token_state(&bench.old.fingerprint().to_string(), TokenState::Revoked));
        let faults = [bench.refresh_fault().await, clean(bench.client.me(&bench.old).await.result.unwrap_err())];
        for fault in faults {
            assert_eq!(
                (fault.class, fault.code, fault.certainty),
                (FaultClass::TokenDead, Some(190), Certainty::NotDone),
                "shape {number}"
            );
            assert!(fault.trace_id.is_some(), "shape {number}");
        }
    }
}

#[tokio::test]
async fn a_throttle_is_waited_out_as_long_as_any_header_says() {
    let usages = [
        (Usage { business_percent: Some(100), business_regain_min: Some(19), duplicate_keys: true, ..Usage::default() }, Some(19 * 60)),
        (Usage { ad_account_percent: Some(100.0), ad_account_reset_s: Some(100), ..Usage::default() }, Some(100)),
        (Usage { retry_after: Some("60".into()), ..Usage::default() }, Some(60)),
        (Usage { app_percent: Some(101), ..Usage::default() }, None),
        (Usage::default(), None),
    ];
    for code in [4, 17, 32, 613, 80_007, 80_008] {
        for (usage, wait) in &usages {
            let bench = Bench::new().await;
            let refusal = Refusal { call: "refresh".into(), times: Some(1), code, subcode: None, message: None, usage: usage.clone() };
            bench.graph.set_knobs(|knobs| knobs.refuse = vec![refusal]);
            let fault = bench.refresh_fault().await;
            assert_eq!((fault.class, fault.certainty), (FaultClass::Throttled, Certainty::NotDone), "{code}");
            assert_eq!(fault.wait, wait.map(SignedDuration::from_secs), "{code} {usage:?}");
            bench.clock.advance(SignedDuration::from_secs(wait.unwrap_or(15 * 60)));
            assert!(bench.client.refresh(&bench.old).await.result.is_ok());
            assert_eq!(bench.violations(), []);
        }
    }
}

#[tokio::test]
async fn a_proof_is_wanted_and_given() {
    let bench = Bench::new().await;
    let new = bench.refreshed().await;
    assert!(bench.client.me(&new).await.result.is_ok());
    assert!(bench.client.revoke(&bench.old, &new).await.result.is_ok());
    assert_eq!(bench.violations(), [], "the sample app demands proofs");
}

#[tokio::test]
async fn what_a_revoke_says_is_read_and_what_it_did_is_looked_at() {
    for (body, said) in [
        (RevokeBody::Text, Some(true)),
        (RevokeBody::Bare, Some(true)),
        (RevokeBody::TrailingComma, None),
        (RevokeBody::Empty, None),
        (RevokeBody::FalseText, Some(false)),
        (RevokeBody::False, Some(false)),
    ] {
        let bench = Bench::new().await;
        let new = bench.refreshed().await;
        bench.graph.set_knobs(|knobs| knobs.revoke.body = body);
        assert_eq!(bench.client.revoke(&bench.old, &new).await.result.ok(), said, "{body:?}");
        assert!(!bench.client.introspect(&bench.old).await.result.unwrap().valid);
    }
    let bench = Bench::new().await;
    let new = bench.refreshed().await;
    bench.graph.set_knobs(|knobs| knobs.revoke.effect = RevokeEffect::Nobody);
    assert!(bench.client.revoke(&bench.old, &new).await.result.unwrap());
    assert!(bench.client.introspect(&bench.old).await.result.unwrap().valid);
}

#[tokio::test]
async fn the_time_of_a_refresh_may_be_said_in_any_way() {
    for (said, read) in [
        (ExpiresIn::Missing, None),
        (ExpiresIn::Alias, Some(())),
        (ExpiresIn::Text, Some(())),
        (ExpiresIn::Value(serde_json::json!(0)), None),
        (ExpiresIn::Value(serde_json::json!(1e18)), None),
        (ExpiresIn::Value(serde_json::json!(-1)), None),
    ] {
        let bench = Bench::new().await;
        bench.graph.set_knobs(|knobs| knobs.refresh.expires_in = said.clone());
        let refreshed = bench.client.refresh(&bench.old).await.result.unwrap();
        assert_eq!(refreshed.expires_in.map(|_seconds| ()), read, "{said:?}");
    }
}

#[tokio::test]
async fn a_permanent_token_never_expires_and_one_of_login_for_business_names_its_client() {
    let bench = Bench::new().await;
    bench.graph.set_knobs(|knobs| knobs.refresh.never_expires = true);
    let new = bench.refreshed().await;
    assert_eq!(bench.client.introspect(&new).await.result.unwrap().expires, Some(Expiry::Never));

    let spec = TokenSpec { kind: TokenKind::BusinessIntegration, ..Graph::sample_token() };
    let integration = Token::new(bench.graph.issue(spec, bench.now()).text).unwrap();
    assert!(bench.client.me(&integration).await.result.unwrap().client_business_id.is_some());
}

#[tokio::test]
async fn a_removed_integration_has_no_verdict_and_an_old_version_is_noticed() {
    let bench = Bench::new().await;
    assert!(bench.graph.set_token_state(&bench.old.fingerprint().to_string(), TokenState::Removed));
    let fault = clean(bench.client.introspect(&bench.old).await.result.unwrap_err());
    assert_eq!((fault.class, fault.code), (FaultClass::BadRequest, Some(100)));
    let fault = clean(bench.client.me(&bench.old).await.result.unwrap_err());
    assert_eq!((fault.class, fault.subcode), (FaultClass::TokenDead, Some(464)));

    bench.graph.set_knobs(|knobs| {
        knobs.version.floor = "v27.0".into();
        knobs.version.latest = "v28.0".into();
    });
    assert!(bench.client.introspect_app().await.result.is_ok());
    assert_eq!(bench.client.served_version().as_deref(), Some("v27.0"));
}

#[tokio::test]
async fn an_app_that_is_throttled_or_disabled_refuses_without_an_effect() {
    for (status, class) in [(AppStatus::Throttled, FaultClass::Throttled), (AppStatus::Disabled, FaultClass::AppCredential)] {
        let bench = Bench::new().await;
        let app = evertoken::simulator::graph::state::App {
            id: "1234567890".into(),
            secret: SECRET.into(),
            name: "Acme".into(),
            business: "7001".into(),
            require_proof: true,
            status,
            address_refused: false,
        };
        bench.graph.add_app(app);
        let fault = bench.refresh_fault().await;
        assert_eq!((fault.class, fault.certainty, bench.minted()), (class, Certainty::NotDone, 0), "{status:?}: {fault}");
    }
}
