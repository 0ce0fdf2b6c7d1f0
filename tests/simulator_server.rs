//! The server that the simulators share: each transport fault does to a real connection what it says, and the journal tells.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]

mod raw_http;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use evertoken::simulator::control::Simulator;
use evertoken::simulator::fault::{Fault, ReplyAt, Rule, Stage};
use evertoken::simulator::journal::Outcome;
use evertoken::simulator::server::{Running, StartError, start};
use evertoken::simulator::service::{ControlError, Request, Response, Service};
use evertoken::simulator::virtual_clock::VirtualClock;
use hyper::Method;
use jiff::Timestamp;
use raw_http::{call, get, parse, post, request};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const LIMIT: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Counter {
    effects: AtomicU64,
}

impl Service for Counter {
    fn call_name(&self, request: &Request) -> String {
        request.path.trim_start_matches('/').to_owned()
    }

    fn answer(&self, _request: &Request, now: Timestamp) -> Response {
        let count = self.effects.fetch_add(1, Ordering::SeqCst) + 1;
        Response::json(200, &json!({ "count": count, "at": now })).with_note("count", count)
    }

    fn dress(&self, _request: &Request, response: &mut Response, _now: Timestamp) {
        response.default_header("x-dressed", "yes");
    }

    fn control(&self, _method: &Method, path: &str, body: &Value, _now: Timestamp) -> Result<Value, ControlError> {
        if path == "echo" { Ok(body.clone()) } else { Err(ControlError::NotFound) }
    }
}

async fn counter() -> (Running, Simulator, Arc<Counter>, SocketAddr) {
    let service = Arc::new(Counter::default());
    let running = start(service.clone(), Arc::new(VirtualClock::new()), (Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let (simulator, addr) = (running.simulator().clone(), running.addr());
    (running, simulator, service, addr)
}

async fn settled(simulator: &Simulator, seq: u64) -> evertoken::simulator::journal::Entry {
    let over = |s: &Simulator| s.journal(seq - 1).into_iter().find(|entry| entry.seq == seq && entry.settled_at.is_some());
    simulator.wait(LIMIT, over).await.expect("the call settles")
}

#[tokio::test]
async fn answers_and_keeps_a_journal() {
    let (_running, simulator, _service, addr) = counter().await;
    let answer = get(addr, "/me?x=1").await;
    assert_eq!((answer.status, answer.header("x-dressed"), answer.header("date")), (200, Some("yes"), None));
    let entry = settled(&simulator, 1).await;
    assert_eq!((entry.call.as_str(), entry.path.as_str(), entry.outcome, entry.performed), ("me", "/me", Outcome::Answered, true));
    assert_eq!(entry.notes["count"], 1);
    assert_eq!(get(addr, "/_control/journal?since=0").await.json()["calls"][0]["status"], 200);
    assert_eq!(get(addr, "/_control/journal?since=1").await.json()["calls"], json!([]));
}

#[tokio::test]
async fn drops_before_and_after_the_effect() {
    let (_running, simulator, service, addr) = counter().await;
    for (seq, (at, effects)) in [(Stage::Received, 0), (Stage::Answered, 1)].into_iter().enumerate() {
        simulator.add_rule(Rule::once("me", Fault::Drop { at }));
        assert!(call(addr, "GET", "/me", &[], "").await.is_none());
        assert_eq!(service.effects.load(Ordering::SeqCst), effects);
        let entry = settled(&simulator, seq as u64 + 1).await;
        assert_eq!((entry.outcome, entry.performed), (Outcome::Dropped(at), effects == 1));
        assert_eq!(entry.faults[0].kind, "drop");
    }
    assert_eq!(get(addr, "/me").await.json()["count"], 2);
}

#[tokio::test]
async fn a_dropped_connection_ends_orderly_or_in_a_reset() {
    let (_running, simulator, service, addr) = counter().await;
    for (reset, at) in [(false, Stage::Received), (true, Stage::Received), (true, Stage::Answered), (true, Stage::Body)] {
        simulator.add_rule(Rule::once("me", Fault::Drop { at }));
        if reset {
            simulator.add_rule(Rule::once("me", Fault::Reset));
        }
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(request("GET", "/me", &[], "").as_bytes()).await.unwrap();
        let ended = stream.read_to_end(&mut Vec::new()).await;
        assert_eq!(ended.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset), reset, "{at:?}");
    }
    assert_eq!(service.effects.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn holds_at_each_stage_until_released() {
    let (_running, simulator, service, addr) = counter().await;
    for (nth, (at, effects)) in [(Stage::Received, 0), (Stage::Answered, 2), (Stage::Body, 3)].into_iter().enumerate() {
        simulator.add_rule(Rule::once("me", Fault::Hold { at }));
        let waiting = tokio::spawn(async move { get(addr, "/me").await });
        let held = simulator.wait_held("me", LIMIT).await.expect("held");
        assert_eq!((held.at, service.effects.load(Ordering::SeqCst)), (at, effects));
        assert!(!waiting.is_finished());
        let listed = get(addr, "/_control/held?wait_ms=1&call=me").await.json();
        assert_eq!(listed["held"][0]["id"], held.id);
        let which = if nth == 0 { json!({ "id": held.id }) } else { json!({ "all": true }) };
        let released = post(addr, "/_control/release", &which).await;
        assert_eq!(released.json(), json!({ "released": 1 }));
        assert_eq!(waiting.await.unwrap().json()["count"], nth as u64 + 1);
        assert_eq!(settled(&simulator, nth as u64 + 1).await.outcome, Outcome::Answered);
        if nth == 0 {
            // The effect came with the release.
            assert_eq!(service.effects.fetch_add(0, Ordering::SeqCst), 1);
        }
    }
}

#[tokio::test]
async fn a_client_that_goes_away_while_held_is_journalled_and_nothing_is_performed() {
    let (_running, simulator, service, addr) = counter().await;
    simulator.add_rule(Rule::once("me", Fault::Hold { at: Stage::Received }));
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request("GET", "/me", &[], "").as_bytes()).await.unwrap();
    simulator.wait_held("me", LIMIT).await.expect("held");
    drop(stream);
    assert_eq!(settled(&simulator, 1).await.outcome, Outcome::ClientGone);
    assert_eq!((simulator.held().len(), service.effects.load(Ordering::SeqCst)), (0, 0));
}

#[tokio::test]
async fn a_call_that_outlives_its_client_is_performed_when_released() {
    let (_running, simulator, service, addr) = counter().await;
    simulator.add_rule(Rule::once("me", Fault::Hold { at: Stage::Received }));
    simulator.add_rule(Rule::once("me", Fault::Outlive));
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request("GET", "/me", &[], "").as_bytes()).await.unwrap();
    let held = simulator.wait_held("me", LIMIT).await.expect("held");
    drop(stream);
    // The server notices on this connection's next turn; another whole call passes meanwhile.
    get(addr, "/other").await;
    assert_eq!((simulator.held().len(), service.effects.load(Ordering::SeqCst)), (1, 1));
    assert!(simulator.release(held.id));
    let entry = settled(&simulator, 1).await;
    assert_eq!((entry.outcome, entry.performed), (Outcome::ClientGone, true));
    assert_eq!(service.effects.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn replies_instead_of_the_effect_and_after_it() {
    let (_running, simulator, service, addr) = counter().await;
    simulator.add_rule(Rule::once("me", Fault::reply(503, &json!({ "error": 1 }))).when("who", "a b"));
    assert_eq!(get(addr, "/other").await.status, 200);
    service.effects.store(0, Ordering::SeqCst);
    let answer = get(addr, "/me?who=a+b").await;
    assert_eq!((answer.status, answer.header("x-dressed"), service.effects.load(Ordering::SeqCst)), (503, Some("yes"), 0));
    let rule = json!({ "call": "me", "fault": { "kind": "reply", "at": "answered", "status": 200, "body_bytes": [255, 0] } });
    assert_eq!(post(addr, "/_control/rules", &rule).await.json()["ids"], json!([2]));
    let answer = get(addr, "/me").await;
    assert_eq!((answer.body.as_slice(), service.effects.load(Ordering::SeqCst)), ([255, 0].as_slice(), 1));
    simulator.add_rule(Rule::once("me", Fault::page(200, "text/plain", "Service Unavailable")));
    simulator.add_rule(Rule::once("me", Fault::Headers { set: [("content-length".to_owned(), Some("9999".to_owned()))].into() }));
    assert_eq!(get(addr, "/me").await.text(), "Service Unavailable");
    let fault = Fault::Redirect { location: "http://elsewhere/".into(), status: 307 };
    simulator.add_rule(Rule::once("me", fault));
    let answer = get(addr, "/me").await;
    assert_eq!((answer.status, answer.header("location")), (307, Some("http://elsewhere/")));
    let set = [("x-dressed".to_owned(), None), ("retry-after".to_owned(), Some("7".to_owned()))].into();
    simulator.add_rule(Rule::once("me", Fault::Headers { set }));
    let answer = get(addr, "/me").await;
    assert_eq!((answer.header("x-dressed"), answer.header("retry-after")), (None, Some("7")));
    let fault = Fault::Reply { at: ReplyAt::Answered, status: 500, headers: [].into(), body: String::new(), body_bytes: None };
    simulator.add_rule(Rule::once("me", fault));
    assert_eq!(get(addr, "/me").await.status, 500);
}

#[tokio::test]
async fn bodies_are_cut_slow_or_endless() {
    let (_running, simulator, _service, addr) = counter().await;
    simulator.add_rule(Rule::once("me", Fault::Truncate { bytes: 3 }));
    let answer = get(addr, "/me").await;
    assert_eq!(answer.body.len(), 3);
    assert!(answer.header("content-length").unwrap().parse::<usize>().unwrap() > 3);
    assert_eq!(settled(&simulator, 1).await.outcome, Outcome::Dropped(Stage::Body));

    simulator.add_rule(Rule::once("me", Fault::Slow { bytes: 20, every_ms: 2 }));
    assert_eq!(get(addr, "/me").await.json()["count"], 2);

    simulator.add_rule(Rule::once("me", Fault::Endless { bytes: Some(300_000) }));
    let answer = get(addr, "/me").await;
    assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
    assert!(answer.body.len() > 300_000);

    simulator.add_rule(Rule::once("me", Fault::Endless { bytes: None }));
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request("GET", "/me", &[], "").as_bytes()).await.unwrap();
    let mut some = [0_u8; 100_000];
    stream.read_exact(&mut some).await.unwrap();
    assert_eq!(parse(&some).unwrap().status, 200);
    drop(stream);
    assert_eq!(settled(&simulator, 4).await.outcome, Outcome::ClientGone);
}

#[tokio::test]
async fn the_control_plane_reports_its_own_mistakes_and_steers_the_clock() {
    let (_running, simulator, _service, addr) = counter().await;
    let frozen = post(addr, "/_control/clock", &json!({ "set": "2027-01-01T00:00:00Z", "rate": 0.0 })).await.json();
    assert_eq!(frozen["now"], "2027-01-01T00:00:00Z");
    post(addr, "/_control/clock", &json!({ "advance_ms": 1500 })).await;
    assert_eq!(get(addr, "/me").await.json()["at"], "2027-01-01T00:00:01.5Z");
    assert_eq!(get(addr, "/_control/clock").await.json()["rate"], 0.0);
    for (method, path, body, status) in [
        ("POST", "rules", "{", 400),
        ("POST", "rules", r#"{"call":"me"}"#, 400),
        ("POST", "release", "{}", 400),
        ("POST", "release", r#"{"id":99}"#, 200),
        ("GET", "journal?since=x", "", 400),
        ("DELETE", "rules/9", "", 404),
        ("GET", "nothing", "", 404),
        ("POST", "echo", "[1]", 200),
        ("POST", "rules", r#"[{"call":"me","fault":{"kind":"drop","at":"received"}}]"#, 200),
        ("DELETE", "rules/1", "", 200),
        ("DELETE", "rules", "", 200),
    ] {
        let answer = call(addr, method, &format!("/_control/{path}"), &[], body).await.unwrap();
        assert_eq!(answer.status, status, "{method} {path} {body}: {}", answer.text());
    }
    assert!(simulator.rules().is_empty());
    assert_eq!(get(addr, "/_control/rules").await.json()["rules"], json!([]));
}

#[tokio::test]
async fn listens_on_loopback_only_and_again_after_a_stop() {
    let (running, simulator, service, addr) = counter().await;
    get(addr, "/me").await;
    running.stop().await;
    assert!(TcpStream::connect(addr).await.is_err());
    let _again = simulator.listen(addr).await.unwrap();
    get(addr, "/me").await;
    assert_eq!((simulator.journal(0).len(), service.effects.load(Ordering::SeqCst)), (2, 2));
    let everywhere = simulator.listen((Ipv4Addr::UNSPECIFIED, 0).into()).await;
    assert!(matches!(everywhere, Err(StartError::NotLoopback(_))));
}
