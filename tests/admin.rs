//! The admin listener over real sockets: what it shows, what it refuses, and that no client can hold it up.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]

#[expect(dead_code, reason = "only its reading of answers is wanted here")]
mod raw_http;
mod shown;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use evertoken::admin::{self, AdminError};
use evertoken::rotation::health::{BreakerStatus, StatusDocument};
use jiff::SignedDuration;
use raw_http::{Answer, parse};
use serde_json::json;
use shown::{MadeUp, token};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// A listener that ends with the test.
struct Served {
    address: SocketAddr,
    shown: Arc<MadeUp>,
    task: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(tokens: Vec<evertoken::rotation::health::TokenStatus>) -> Served {
    let listener = admin::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let (address, shown) = (listener.address(), MadeUp::new(tokens));
    let task = tokio::spawn(admin::serve(listener, shown.clone()));
    Served { address, shown, task }
}

impl Served {
    async fn send(&self, head: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        parse(&bytes).expect("an answer")
    }

    async fn get(&self, target: &str) -> Answer {
        self.send(&format!("GET {target} HTTP/1.1\r\nhost: localhost:9469\r\n\r\n")).await
    }
}

fn condition(reason: &str, severity: &str) -> serde_json::Value {
    json!({ "conditions": [{ "type": "Attention", "status": "True", "reason": reason, "message": "m", "severity": severity }] })
}

#[tokio::test]
async fn liveness_is_the_loop_and_nothing_else() {
    let served = serve(vec![token("bot", &condition("dead", "critical"))]).await;
    served.shown.facts.lock().unwrap().ledger_trouble = Some("disk full".into());
    for path in ["/livez", "/healthz"] {
        assert_eq!(served.get(path).await.status, 200, "{path}");
    }
    served.shown.facts.lock().unwrap().loop_age = SignedDuration::from_secs(91);
    assert_eq!(served.get("/livez").await.status, 503);
}

#[tokio::test]
async fn readiness_says_what_is_missing() {
    let served = serve(vec![token("bot", &json!({})), token("ads", &condition("hold", "attention"))]).await;
    let ready = served.get("/readyz?verbose").await;
    assert_eq!(ready.status, 200, "a held token suffers nothing: {}", ready.text());
    assert!(ready.text().contains("[+]stores ok"), "{}", ready.text());

    type Change = (&'static str, fn(&MadeUp));
    let changes: [Change; 5] = [
        ("[-]loop not ok", |shown| shown.facts.lock().unwrap().loop_age = SignedDuration::from_secs(200)),
        ("[-]ledger not ok: disk full", |shown| shown.facts.lock().unwrap().ledger_trouble = Some("disk full".into())),
        ("[-]looked_at not ok: 2 of 3", |shown| shown.facts.lock().unwrap().configured = 3),
        ("[-]stores not ok: bot: refused  [+]x", |shown| {
            shown.facts.lock().unwrap().unreadable = vec![("bot".into(), "refused\r\n[+]x".into())];
        }),
        ("[-]tokens not ok: ads: overdue", |shown| {
            shown.tokens.lock().unwrap()[1] = token("ads", &condition("overdue", "attention"));
        }),
    ];
    for (line, change) in changes {
        let served = serve(vec![token("bot", &json!({})), token("ads", &json!({}))]).await;
        change(&served.shown);
        let answer = served.get("/readyz?verbose").await;
        assert_eq!(answer.status, 503, "{line}");
        assert!(answer.text().lines().any(|there| there.starts_with(line)), "{line}: {}", answer.text());
        assert_eq!(answer.text().matches("[-]").count(), 1, "{line}: {}", answer.text());
        assert_eq!(served.get("/readyz").await.status, 503);
    }
}

#[tokio::test]
async fn a_token_that_ends_between_two_passes_is_expired_for_whoever_looks() {
    let served = serve(vec![token("bot", &json!({}))]).await;
    assert_eq!(served.get("/readyz").await.status, 200);
    served.shown.facts.lock().unwrap().now = "2027-01-15T09:00:00Z".parse().unwrap();
    assert_eq!(served.get("/readyz").await.status, 503);
    assert_eq!(served.get("/v1/status").await.json()["healthy"], json!(false));
}

#[tokio::test]
async fn a_refused_reload_leaves_it_ready() {
    let served = serve(vec![token("bot", &json!({}))]).await;
    served.shown.facts.lock().unwrap().config_taken = false;
    let answer = served.get("/readyz?verbose").await;
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("the last reload was refused"));
}

#[tokio::test]
async fn the_status_is_one_document_with_the_worst_first() {
    let served = serve(vec![token("fine", &json!({})), token("held", &condition("hold", "attention"))]).await;
    served.shown.facts.lock().unwrap().breaker = BreakerStatus { open: true, why: Some("why".into()) };
    let answer = served.get("/v1/status").await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let json = answer.json();
    assert_eq!((&json["schema_version"], &json["generated_at"]), (&json!(1), &json!("2027-01-15T08:00:00Z")));
    assert_eq!(json["breaker"], json!({ "open": true, "why": "why" }));
    assert_eq!(json["tokens"][0]["name"], json!("held"));
    let document: StatusDocument = serde_json::from_value(json).unwrap();
    assert_eq!(document.severity(shown::NOW).exit_code(), 3);
}

#[tokio::test]
async fn metrics_come_in_the_format_that_is_asked_for() {
    let served = serve(Vec::new()).await;
    let plain = served.get("/metrics").await;
    assert_eq!((plain.text().trim(), plain.header("content-type")), ("Prometheus", Some("text/plain; version=0.0.4; charset=utf-8")));
    let open = served.send("GET /metrics HTTP/1.1\r\nhost: [::1]\r\naccept: application/openmetrics-text;q=0.5\r\n\r\n").await;
    assert_eq!(open.text().trim(), "OpenMetrics");
}

#[tokio::test]
async fn the_page_shows_hostile_text_as_text() {
    let hostile = "<script>alert('x')</script>&\"";
    let changes = json!({
        "next_action": { "what": hostile, "at": "2027-01-15T08:30:00Z", "waiting_for": [] },
        "conditions": [{ "type": "Attention", "status": "True", "reason": hostile, "message": hostile, "severity": "attention" }],
        "last_error": { "class": hostile, "code": null, "subcode": null, "trace_id": null, "step": hostile, "message": hostile }
    });
    let served = serve(vec![token(hostile, &changes)]).await;
    served.shown.facts.lock().unwrap().breaker = BreakerStatus { open: true, why: Some(hostile.into()) };
    let page = served.get("/").await;
    let text = page.text();
    assert!(!text.contains("<script") && text.matches("&lt;script&gt;alert(&#39;x&#39;)").count() == 8, "{text}");
    assert!(text.contains("1 h 0 min") && text.contains("in 30 min 0 s") && text.contains("http-equiv=\"refresh\" content=\"10\""));
    assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
    assert_eq!(page.header("cache-control"), Some("no-store"));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
}

#[tokio::test]
async fn nothing_but_reading_is_served() {
    let served = serve(Vec::new()).await;
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let answer = served.send(&format!("{method} /v1/status HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{{}}")).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method}");
    }
    for path in ["/v1/orders", "/metrics/", "/../livez", "/v1/status/x"] {
        assert_eq!(served.get(path).await.status, 404, "{path}");
    }
    let head = served.send("HEAD /v1/status HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[tokio::test]
async fn what_was_meant_for_another_host_or_came_from_one_is_refused() {
    let served = serve(Vec::new()).await;
    for (host, extra) in [
        ("evil.example", ""),
        ("localhost.evil.example:9469", ""),
        ("localhost", "x-forwarded-for: 127.0.0.1\r\n"),
        ("localhost", "forwarded: for=127.0.0.1\r\n"),
        ("localhost\r\nhost: evil.example", ""),
    ] {
        let answer = served.send(&format!("GET /livez HTTP/1.1\r\nhost: {host}\r\n{extra}\r\n")).await;
        assert_eq!(answer.status, 403, "{host} {extra}");
    }
    assert_eq!(served.send("GET /livez HTTP/1.0\r\n\r\n").await.status, 200);
}

#[tokio::test]
async fn an_address_for_everybody_takes_every_name() {
    let listener = admin::bind("0.0.0.0:0".parse().unwrap()).await.unwrap();
    let port = listener.address().port();
    let task = tokio::spawn(admin::serve(listener, MadeUp::new(Vec::new())));
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost: pod.example\r\nx-forwarded-for: 10.0.0.1\r\n\r\n").await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(parse(&bytes).unwrap().status, 200);
    task.abort();
}

#[tokio::test]
async fn further_connections_than_the_limit_cost_those_that_only_hold_theirs() {
    let served = serve(Vec::new()).await;
    let mut held = Vec::new();
    for _ in 0..200 {
        held.push(TcpStream::connect(served.address).await.unwrap());
    }
    let mut open = 0;
    let mut byte = [0];
    for stream in &mut held {
        // What is closed says so at once; what is held says nothing until its head is late.
        match tokio::time::timeout(Duration::from_millis(20), stream.read(&mut byte)).await {
            Ok(Ok(read)) => assert_eq!(read, 0),
            Ok(Err(_reset)) => {}
            Err(_elapsed) => open += 1,
        }
    }
    assert_eq!(open, admin::door::CONNECTIONS_MAX);
    let probe = tokio::time::timeout(Duration::from_secs(1), served.get("/livez")).await.expect("a probe does not wait for them");
    assert_eq!(probe.status, 200);
    drop(held);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(served.get("/livez").await.status, 200, "the daemon is as before");
}

#[tokio::test]
async fn a_slow_head_ends_its_connection() {
    let served = serve(Vec::new()).await;
    let mut slow = TcpStream::connect(served.address).await.unwrap();
    slow.write_all(b"GET /livez HTTP/1.1\r\nhost: loc").await.unwrap();
    let mut bytes = Vec::new();
    let limit = admin::door::HEAD_WITHIN + Duration::from_secs(3);
    let ended = tokio::time::timeout(limit, slow.read_to_end(&mut bytes)).await;
    assert!(ended.is_ok(), "closed within the time for a head");
    assert!(!String::from_utf8_lossy(&bytes).contains("200 OK"));
}

#[tokio::test]
async fn a_taken_port_is_told_with_what_to_do() {
    let served = serve(Vec::new()).await;
    let error = admin::bind(served.address).await.unwrap_err();
    assert!(matches!(error, AdminError::InUse(_)));
    let text = error.to_string();
    assert!(text.contains(&served.address.to_string()) && text.contains("[http] listen") && !text.contains('\n'), "{text}");
    let error = admin::bind("192.0.2.1:9469".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, AdminError::NotOurs(_)), "{error}");
}
