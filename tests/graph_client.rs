//! The real Graph client against real sockets that misbehave in every way that was thought of.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evertoken::graph::client::{
    AppTokenMode, CallObserver, Deadlines, GraphBase, GraphClient, GraphSettings, Transport, TransportSettings, TransportSettingsError,
};
use evertoken::graph::{Answer, Provider as _, Refreshed};
use evertoken::rotation::fault::{Certainty, Fault, FaultClass};
use evertoken::rotation::token::{Expiry, Token};
use secrecy::ExposeSecret as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const SECRET: &str = "app-secret-0123456789abcdef";
const OLD: &str = "EAAoldoldoldoldoldoldold";
const NEW: &str = "EAAnewnewnewnewnewnewnew";
const PROOF_OF_NEW: &str = "78baad1311b7ad0a34e3e6e8a19a5b73f99370bcdde774d0e3c21eaf6364e649";

/// What the server does with one connection.
enum Act {
    /// Reads the request, writes these bytes, closes.
    Say(Vec<u8>),
    /// Closes before reading.
    Close,
    /// Writes these bytes with the request unread and closes, which resets the connection.
    Reset(Vec<u8>),
    /// Writes the first bytes, then the second again and again with a pause in between.
    Repeat(Vec<u8>, Vec<u8>, Duration),
}

/// A server that treats the first connection by the first act, and so on; a connection too many is refused.
struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(acts: Vec<Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            for act in acts {
                let (mut stream, _peer) = listener.accept().await.unwrap();
                perform(&mut stream, act, &seen).await;
            }
        });
        Self { address, requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn perform(stream: &mut TcpStream, act: Act, seen: &Mutex<Vec<String>>) {
    match act {
        Act::Close => {}
        Act::Reset(bytes) => {
            stream.readable().await.unwrap();
            let _sent = stream.write_all(&bytes).await;
        }
        Act::Say(bytes) => {
            note_request(stream, seen).await;
            let _sent = stream.write_all(&bytes).await;
            let _closed = stream.shutdown().await;
        }
        Act::Repeat(first, again, pause) => {
            note_request(stream, seen).await;
            let _sent = stream.write_all(&first).await;
            while stream.write_all(&again).await.is_ok() {
                tokio::time::sleep(pause).await;
            }
        }
    }
}

async fn note_request(stream: &mut TcpStream, seen: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    seen.lock().unwrap().push(String::from_utf8(head).unwrap());
}

fn answer(status: u16, headers: &str, body: &str) -> Act {
    answer_bytes(status, headers, body.as_bytes())
}

fn answer_bytes(status: u16, headers: &str, body: &[u8]) -> Act {
    let mut bytes = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    Act::Say(bytes)
}

fn ok(body: &str) -> Act {
    answer(200, "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", body)
}

fn refused(code: i64, text: &str) -> Act {
    answer(400, "", &format!(r#"{{"error":{{"message":"{text}","type":"OAuthException","code":{code}}}}}"#))
}

fn transport(deadlines: Deadlines) -> Arc<Transport> {
    Transport::new(TransportSettings { user_agent: "evertoken/test".to_owned(), deadlines, ..TransportSettings::default() }).unwrap()
}

fn client_at(url: &str, mode: AppTokenMode, deadlines: Deadlines) -> GraphClient {
    let settings = GraphSettings {
        base: GraphBase::new(url, "v26.0").unwrap(),
        app_id: "1234567890".to_owned(),
        app_secret: SECRET.to_owned().into(),
        app_token: mode,
    };
    GraphClient::new(settings, transport(deadlines))
}

fn client(server: &Server) -> GraphClient {
    client_at(&format!("http://{}", server.address), AppTokenMode::Composed, Deadlines::default())
}

fn token(text: &str) -> Token {
    Token::new(text).unwrap()
}

async fn refresh(act: Act) -> Answer<Refreshed> {
    let server = Server::start(vec![act]).await;
    client(&server).refresh(&token(OLD)).await
}

/// The fault of an answer, after a look that it holds nothing secret.
fn fault<T>(answer: Answer<T>) -> Fault {
    let fault = answer.result.err().expect("a fault");
    for shown in [format!("{fault}"), format!("{fault:?}")] {
        for secret in [SECRET, OLD, NEW, "127.0.0.1", "http", "oauth/", "access_token="] {
            assert!(!shown.contains(secret), "{shown} shows {secret}");
        }
    }
    fault
}

#[tokio::test]
async fn a_refresh_is_sent_as_documented_and_read_with_its_date() {
    let server = Server::start(vec![ok(&format!(r#"{{"access_token":"{NEW}","token_type":"bearer","expires_in":5183944}}"#))]).await;
    let answer = client(&server).refresh(&token(OLD)).await;
    let refreshed = answer.result.unwrap();
    assert_eq!((refreshed.text.expose_secret(), refreshed.expires_in), (NEW, Some(5_183_944)));
    assert_eq!(answer.date.unwrap().as_second(), 784_111_777);
    let request = server.requests().remove(0);
    let (line, headers) = request.split_once("\r\n").unwrap();
    assert_eq!(
        line,
        format!(
            "GET /v26.0/oauth/access_token?grant_type=fb_exchange_token&client_id=1234567890&client_secret={SECRET}\
             &fb_exchange_token={OLD}&set_token_expires_in_60_days=true HTTP/1.1"
        )
    );
    for secret in [SECRET, OLD, "referer", "cookie", "gzip"] {
        assert!(!headers.to_lowercase().contains(&secret.to_lowercase()), "{headers}");
    }
    assert!(headers.contains("accept-encoding: identity") && headers.contains("user-agent: evertoken/test"), "{headers}");
}

#[tokio::test]
async fn the_time_of_a_refresh_is_a_hint_in_any_spelling() {
    for (written, read) in [
        (r#""expires_in":60"#, Some(60)),
        (r#""expires_in":"60""#, Some(60)),
        (r#""expires":60"#, Some(60)),
        (r#""expires_in":60.5"#, Some(60)),
        (r#""expires_in":0"#, None),
        (r#""expires_in":-60"#, None),
        (r#""expires_in":1e18"#, None),
        (r#""expires_in":"NaN""#, None),
        (r#""expires_in":null"#, None),
        (r#""expires_in":99999999999999999999999999"#, None),
        (r#""token_type":"bearer""#, None),
    ] {
        let refreshed = refresh(ok(&format!(r#"{{"access_token":"{NEW}",{written}}}"#))).await.result.unwrap();
        assert_eq!((refreshed.text.expose_secret(), refreshed.expires_in), (NEW, read), "{written}");
    }
    let twice = refresh(ok(&format!(r#"{{"access_token":"x","access_token":"{NEW}"}}"#))).await.result.unwrap();
    assert_eq!(twice.text.expose_secret(), NEW);
    let beside_an_error = refresh(ok(&format!(r#"{{"access_token":"{NEW}","error":{{"code":190}}}}"#))).await.result.unwrap();
    assert_eq!(beside_an_error.text.expose_secret(), NEW);
}

#[tokio::test]
async fn only_a_failure_to_connect_is_certain() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let refused = client_at(&format!("http://{closed}"), AppTokenMode::Composed, Deadlines::default()).refresh(&token(OLD)).await;
    let refused = fault(refused);
    assert_eq!((refused.certainty, refused.class), (Certainty::NotDone, FaultClass::Unreachable));
    assert!(refused.what.contains("refused"), "{refused}");

    // A TLS handshake with something that speaks no TLS.
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = plain.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _peer) = plain.accept().await.unwrap();
        let _sent = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let mut rest = Vec::new();
        let _read = stream.read_to_end(&mut rest).await;
    });
    let handshake = client_at(&format!("https://{address}"), AppTokenMode::Composed, Deadlines::default()).refresh(&token(OLD)).await;
    assert_eq!(fault(handshake).certainty, Certainty::NotDone);

    // A name that does not resolve (RFC 6761 keeps .invalid free).
    let nowhere = client_at("https://graph.invalid", AppTokenMode::Composed, Deadlines::default()).refresh(&token(OLD)).await;
    assert_eq!(fault(nowhere).certainty, Certainty::NotDone);
}

#[tokio::test]
async fn a_connection_that_does_not_come_about_in_time_is_certain() {
    let short = Deadlines { connect: Duration::from_millis(300), ..Deadlines::default() };
    // TCP: a listener whose queue is full drops what knocks.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(connected) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        waiting.push(connected.unwrap());
    }
    let no_tcp = fault(client_at(&format!("http://{address}"), AppTokenMode::Composed, short).refresh(&token(OLD)).await);
    assert_eq!(no_tcp.certainty, Certainty::NotDone, "{no_tcp}");
    // TLS: the connection stands and the other side is mute.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = mute.local_addr().unwrap();
    let no_tls = fault(client_at(&format!("https://{address}"), AppTokenMode::Composed, short).refresh(&token(OLD)).await);
    assert_eq!(no_tls.certainty, Certainty::NotDone, "{no_tls}");
    assert!(no_tls.what.contains("deadline"), "{no_tls}");
}

#[tokio::test]
async fn everything_after_the_connection_is_unknown() {
    let head = "HTTP/1.1 200 X\r\ncontent-length: 100\r\n\r\n";
    let deep = format!(r#"{{"access_token":{}1{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let chunked = |body: &str| format!("HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n{body}").into_bytes();
    let acts: Vec<(&str, Act)> = vec![
        ("closed before a byte", Act::Close),
        ("closed after the request", Act::Say(Vec::new())),
        ("closed within the headers", Act::Say(b"HTTP/1.1 200 X\r\ncontent-le".to_vec())),
        ("closed after the headers", Act::Say(head.as_bytes().to_vec())),
        ("closed within the body", Act::Say(format!(r#"{head}{{"access_token":"#).into_bytes())),
        ("reset before a byte", Act::Reset(Vec::new())),
        ("reset within the body", Act::Reset(format!(r#"{head}{{"access_token":"#).into_bytes())),
        ("not HTTP", Act::Say(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec())),
        ("a broken chunk", Act::Say(chunked("zz\r\n"))),
        ("an endless chunk", Act::Say(chunked("ffffffffffffffff\r\nabc"))),
        ("HTML", ok("<html>hello</html>")),
        ("Service Unavailable with 200", ok("Service Unavailable")),
        ("nothing", ok("")),
        ("half a JSON", ok(r#"{"access_token":"EAAx"#)),
        ("two JSON", ok(r#"{"access_token":"EAAx"} {}"#)),
        ("a nested bomb", ok(&deep)),
        ("no UTF-8", answer_bytes(200, "", b"{\"access_token\":\"\xff\xfe\"}")),
        ("NaN", ok(r#"{"access_token":"EAAx","expires_in":NaN}"#)),
        ("no token", ok("{}")),
        ("an empty token", ok(r#"{"access_token":""}"#)),
        ("a number for a token", ok(r#"{"access_token":5}"#)),
        ("null", ok("null")),
        ("an array", ok("[]")),
        ("compressed", answer(200, "content-encoding: gzip\r\n", r#"{"access_token":"EAAx"}"#)),
        ("an announced giant", Act::Say(b"HTTP/1.1 200 X\r\ncontent-length: 65537\r\n\r\n".to_vec())),
        ("an absurd length", Act::Say(b"HTTP/1.1 200 X\r\ncontent-length: 99999999999999999999999\r\n\r\n".to_vec())),
        ("HTML with 502", answer(502, "", "<html>")),
        ("code 1", refused(1, "An unknown error occurred")),
        ("code 2", refused(2, "Service temporarily unavailable")),
        ("500 with a dead token", answer(500, "", r#"{"error":{"code":190}}"#)),
        ("429 without a body", answer(429, "", "")),
        ("400 without an error", answer(400, "", "{}")),
        ("204", Act::Say(b"HTTP/1.1 204 X\r\n\r\n".to_vec())),
        ("an unknown status", answer(999, "", "{}")),
    ];
    for (name, act) in acts {
        let fault = fault(refresh(act).await);
        assert_eq!(fault.certainty, Certainty::Unknown, "{name}: {fault}");
        assert!(fault.class.passes_by_itself() || ["400 without an error", "500 with a dead token"].contains(&name), "{name}: {fault:?}");
    }
}

#[tokio::test]
async fn a_classified_refusal_is_certain_whatever_its_status() {
    let error =
        r#"{"error":{"message":"Session has expired on Wednesday, 16-Nov-22.","type":"OAuthException","code":190,"error_subcode":463}}"#;
    for status in [200, 400, 401] {
        let fault = fault(refresh(answer(status, "x-fb-trace-id: T1\r\n", error)).await);
        assert_eq!((fault.certainty, fault.class), (Certainty::NotDone, FaultClass::TokenDead));
        assert_eq!(fault.what, "Graph 190/463 (OAuthException): Session has expired on Wednesday, 16-Nov-22.");
        assert_eq!(fault.trace_id.as_deref(), Some("T1"));
    }
    let secret = fault(refresh(refused(1, "Error validating client secret.")).await);
    assert_eq!((secret.certainty, secret.class), (Certainty::NotDone, FaultClass::AppCredential));
    let echo = fault(refresh(refused(190, &format!("Malformed access token {OLD}"))).await);
    assert_eq!(echo.what, "Graph 190 (OAuthException): the token is invalid");
}

#[tokio::test]
async fn the_deadline_bounds_the_headers_and_the_body() {
    let short = Deadlines { refresh: Duration::from_millis(300), ..Deadlines::default() };
    let pause = Duration::from_millis(20);
    let acts = [
        Act::Repeat(Vec::new(), b"H".to_vec(), Duration::from_secs(60)),
        Act::Repeat(b"HTTP/1.1 200 X\r\n".to_vec(), b"a: b\r\n".to_vec(), pause),
        Act::Repeat(Vec::new(), b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(), pause),
        Act::Repeat(b"HTTP/1.1 200 X\r\ncontent-length: 60000\r\n\r\n".to_vec(), b" ".to_vec(), pause),
        Act::Repeat(b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n".to_vec(), b"1\r\n \r\n".to_vec(), pause),
    ];
    for (number, act) in acts.into_iter().enumerate() {
        let server = Server::start(vec![act]).await;
        let client = client_at(&format!("http://{}", server.address), AppTokenMode::Composed, short);
        let answer = tokio::time::timeout(Duration::from_secs(10), client.refresh(&token(OLD))).await.expect("within the deadline");
        let fault = fault(answer);
        assert_eq!(fault.certainty, Certainty::Unknown, "act {number}");
        assert!(fault.what.contains("deadline"), "act {number}: {fault}");
    }
}

#[tokio::test]
async fn endless_answers_are_cut_off_by_their_size() {
    let block = " ".repeat(16 * 1024);
    let chunk = format!("{:x}\r\n{block}\r\n", block.len()).into_bytes();
    let acts = [
        Act::Repeat(b"HTTP/1.1 200 X\r\n\r\n".to_vec(), block.clone().into_bytes(), Duration::ZERO),
        Act::Repeat(b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n".to_vec(), chunk, Duration::ZERO),
        Act::Repeat(b"HTTP/1.1 200 X\r\n".to_vec(), format!("a: {block}\r\n").into_bytes(), Duration::ZERO),
    ];
    for act in acts {
        let fault = fault(refresh(act).await);
        assert_eq!(fault.certainty, Certainty::Unknown);
        assert!(!fault.what.contains("deadline"), "{fault}");
    }
    // What just fits is read.
    let padded = format!("{}{{\"access_token\":\"{NEW}\"}}", " ".repeat(64 * 1024 - 43));
    assert!(refresh(ok(&padded)).await.result.is_ok());
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let trap = Server::start(vec![ok("{}")]).await;
    for status in [301, 302, 303, 307, 308] {
        let fault = fault(refresh(answer(status, &format!("location: http://{}/x\r\n", trap.address), "")).await);
        assert_eq!(fault.certainty, Certainty::Unknown);
    }
    assert!(trap.requests().is_empty());
}

#[tokio::test]
async fn a_refresh_and_a_revoke_are_sent_once_even_when_the_connection_dies() {
    for call in ["refresh", "revoke"] {
        let server = Server::start(vec![Act::Say(Vec::new()), ok(r#"{"success":true}"#)]).await;
        let client = client(&server);
        let certainty = match call {
            "refresh" => fault(client.refresh(&token(OLD)).await).certainty,
            _ => fault(client.revoke(&token(OLD), &token(NEW)).await).certainty,
        };
        assert_eq!((certainty, server.requests().len()), (Certainty::Unknown, 1), "{call}");
    }
}

#[tokio::test]
async fn a_refresh_and_a_revoke_never_use_a_connection_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut stream, _peer)) = listener.accept().await {
            let requests = Arc::new(Mutex::new(Vec::new()));
            seen.lock().unwrap().push(Arc::clone(&requests));
            tokio::spawn(async move {
                // Kept alive for as long as the client likes.
                while stream.readable().await.is_ok() && stream.peek(&mut [0]).await.is_ok_and(|read| read > 0) {
                    note_request(&mut stream, &requests).await;
                    let body = r#"{"access_token":"EAAx","success":true,"id":"1"}"#;
                    let answer = format!("HTTP/1.1 200 X\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    let client = client_at(&format!("http://{address}"), AppTokenMode::Composed, Deadlines::default());
    for _twice in 0..2 {
        assert!(client.me(&token(NEW)).await.result.is_ok());
        assert!(client.refresh(&token(OLD)).await.result.is_ok());
        assert!(client.revoke(&token(OLD), &token(NEW)).await.result.unwrap());
        // Time for a connection to go back into a pool.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let seen: Vec<Vec<String>> = connections.lock().unwrap().iter().map(|requests| requests.lock().unwrap().clone()).collect();
    assert_eq!(seen.len(), 5, "two refreshes, two revokes, and one for both calls to me: {seen:?}");
    assert!(seen.iter().all(|requests| requests.len() == 1 || requests.iter().all(|request| request.contains("/me?"))), "{seen:?}");
}

#[tokio::test]
async fn a_revoke_carries_the_callers_proof_and_its_body_is_read_in_any_spelling() {
    for (body, said) in [
        (r#"{"success":true}"#, true),
        (r#"{"success":"true"}"#, true),
        ("true", true),
        (r#"{"success":false}"#, false),
        (r#"{"success":"false"}"#, false),
        ("false", false),
        ("{}", false),
        (r#"{"success":{}}"#, false),
        ("[]", false),
    ] {
        let server = Server::start(vec![ok(body)]).await;
        let answer = client(&server).revoke(&token(OLD), &token(NEW)).await;
        assert_eq!(answer.result.unwrap(), said, "{body}");
        let request = server.requests().remove(0);
        let wanted = format!(
            "GET /v26.0/oauth/revoke?client_id=1234567890&client_secret={SECRET}&revoke_token={OLD}&access_token={NEW}\
             &appsecret_proof={PROOF_OF_NEW}"
        );
        assert!(request.starts_with(&wanted), "{request}");
    }
    // Meta's printed sample is no JSON; a look decides then.
    let server = Server::start(vec![ok(r#"{"success":"true",}"#)]).await;
    assert_eq!(fault(client(&server).revoke(&token(OLD), &token(NEW)).await).certainty, Certainty::Unknown);
}

#[tokio::test]
async fn me_carries_the_proof_and_does_without_a_field_that_is_unknown() {
    let server = Server::start(vec![
        ok(r#"{"id":"10001","name":"bot","client_business_id":5}"#),
        refused(100, "(#100) Tried accessing nonexisting field (client_business_id) on node type (SystemUser)"),
        ok(r#"{"id":10001}"#),
        ok(r#"{"name":"bot"}"#),
    ])
    .await;
    let client = client(&server);
    let me = client.me(&token(NEW)).await.result.unwrap();
    assert_eq!((me.id.as_deref(), me.name.as_deref(), me.client_business_id.as_deref()), (Some("10001"), Some("bot"), Some("5")));
    let me = client.me(&token(NEW)).await.result.unwrap();
    assert_eq!((me.id.as_deref(), me.client_business_id), (Some("10001"), None));
    assert_eq!(fault(client.me(&token(NEW)).await).class, FaultClass::Unreachable);
    let requests = server.requests();
    assert_eq!(requests.len(), 4);
    assert!(
        requests.iter().all(|request| request.contains(&format!("&access_token={NEW}&appsecret_proof={PROOF_OF_NEW}"))),
        "{requests:?}"
    );
}

const ALIVE: &str = r#"{"data":{"app_id":"1234567890","type":"SYSTEM_USER","is_valid":true,"expires_at":0,"user_id":"10001"}}"#;

#[tokio::test]
async fn an_introspection_is_asked_by_the_app_and_its_verdict_is_read() {
    let server = Server::start(vec![
        ok(ALIVE),
        ok(r#"{"data":{"is_valid":false,"error":{"code":190,"subcode":466,"message":"m"},"scopes":[],"expires_at":0}}"#),
        answer(400, "", r#"{"error":{"message":"gone","type":"GraphMethodException","code":100}}"#),
        ok(r#"{"data":{}}"#),
        ok(ALIVE),
    ])
    .await;
    let client = client(&server);
    let alive = client.introspect(&token(OLD)).await;
    assert!(alive.date.is_some());
    let alive = alive.result.unwrap();
    assert!(alive.valid);
    assert_eq!(alive.expires, Some(Expiry::Never));
    let dead = client.introspect(&token(OLD)).await.result.unwrap();
    assert_eq!((dead.valid, dead.error_code, dead.error_subcode, dead.expires), (false, Some(190), Some(466), None));
    assert_eq!(fault(client.introspect(&token(OLD)).await).class, FaultClass::BadRequest);
    assert_eq!(fault(client.introspect(&token(OLD)).await).class, FaultClass::Unreachable);
    assert!(client.introspect_app().await.result.unwrap().valid);
    let requests = server.requests();
    let app = format!("1234567890%7C{SECRET}");
    assert!(requests[0].starts_with(&format!("GET /v26.0/debug_token?input_token={OLD}&access_token={app} HTTP/1.1")), "{}", requests[0]);
    assert!(requests[4].starts_with(&format!("GET /v26.0/debug_token?input_token={app}&access_token={app} ")), "{}", requests[4]);
}

#[tokio::test]
async fn an_app_token_is_fetched_once_after_a_190_on_the_composed_one_and_kept() {
    let server = Server::start(vec![
        refused(190, "Invalid OAuth access token signature."),
        ok(r#"{"access_token":"1234567890|fetched-one","token_type":"bearer"}"#),
        ok(ALIVE),
        ok(ALIVE),
        // The fetched one dies: forgotten, another one is fetched, once.
        refused(190, "Invalid OAuth access token signature."),
        ok(r#"{"access_token":"1234567890|fetched-two"}"#),
        refused(190, "Invalid OAuth access token signature."),
        // Another secret: composed again.
        ok(ALIVE),
    ])
    .await;
    let client = client(&server);
    assert!(client.introspect(&token(OLD)).await.result.is_ok());
    assert!(client.introspect(&token(OLD)).await.result.is_ok());
    assert_eq!(fault(client.introspect(&token(OLD)).await).class, FaultClass::AppCredential);
    client.replace_secret("another-secret-of-the-app".to_owned().into());
    assert!(client.introspect(&token(OLD)).await.result.is_ok());
    let callers: Vec<String> = server
        .requests()
        .iter()
        .map(|request| {
            let line = request.split(' ').nth(1).unwrap();
            line.rsplit(['=', '/']).next().unwrap().to_owned()
        })
        .collect();
    let composed = format!("1234567890%7C{SECRET}");
    assert_eq!(
        callers,
        [
            composed.as_str(),
            SECRET,
            "1234567890%7Cfetched-one",
            "1234567890%7Cfetched-one",
            "1234567890%7Cfetched-one",
            SECRET,
            "1234567890%7Cfetched-two",
            "1234567890%7Canother-secret-of-the-app"
        ]
    );
}

#[tokio::test]
async fn the_mode_fetched_asks_for_an_app_token_first() {
    let server =
        Server::start(vec![refused(101, "Error validating application."), ok(r#"{"access_token":"1234567890|f"}"#), ok(ALIVE)]).await;
    let client = client_at(&format!("http://{}", server.address), AppTokenMode::Fetched, Deadlines::default());
    assert_eq!(fault(client.introspect(&token(OLD)).await).class, FaultClass::AppCredential);
    assert!(client.introspect(&token(OLD)).await.result.is_ok());
    let requests = server.requests();
    assert!(requests[1].contains("grant_type=client_credentials") && requests[2].contains("access_token=1234567890%7Cf "), "{requests:?}");
}

#[tokio::test]
async fn usage_and_waits_come_with_the_answer() {
    let headers = "x-app-usage: {\"call_count\":100}\r\n\
                   x-business-use-case-usage: {\"1\":[{\"estimated_time_to_regain_access\":19}]}\r\nretry-after: 30\r\n";
    let throttled = refresh(answer(400, headers, r#"{"error":{"message":"(#4) limit","code":4}}"#)).await;
    assert_eq!(throttled.usage.percent, Some(100.0));
    let throttled = fault(throttled);
    assert_eq!((throttled.class, throttled.wait.unwrap().as_secs()), (FaultClass::Throttled, 19 * 60));
    assert_eq!(fault(refresh(refused(4, "(#4) limit")).await).wait, None, "nothing was stated");
}

#[tokio::test]
async fn the_version_that_answered_is_known() {
    let server = Server::start(vec![
        answer(200, "facebook-api-version: v20.0\r\n", "{\"id\":\"1\"}"),
        answer(200, "facebook-api-version: evil\r\n", "{\"id\":\"1\"}"),
    ])
    .await;
    let client = client(&server);
    assert_eq!(client.served_version(), None);
    assert!(client.me(&token(OLD)).await.result.is_ok());
    assert!(client.me(&token(OLD)).await.result.is_ok());
    assert_eq!(client.served_version().as_deref(), Some("v20.0"));
}

#[derive(Default)]
struct Calls(Mutex<Vec<(&'static str, &'static str)>>);

impl CallObserver for Calls {
    fn called(&self, endpoint: &'static str, class: Option<FaultClass>, _took: Duration) {
        self.0.lock().unwrap().push((endpoint, class.map_or("ok", FaultClass::name)));
    }
}

#[tokio::test]
async fn every_call_is_observed_with_its_class() {
    let server = Server::start(vec![ok("{\"id\":\"1\"}"), refused(190, "m"), Act::Close]).await;
    let calls = Arc::new(Calls::default());
    let observer: Arc<dyn CallObserver> = Arc::clone(&calls) as _;
    let client = client(&server).observed_by(observer);
    let _answers = (client.me(&token(OLD)).await, client.refresh(&token(OLD)).await, client.revoke(&token(OLD), &token(NEW)).await);
    assert_eq!(*calls.0.lock().unwrap(), [("me", "ok"), ("refresh", "token_dead"), ("revoke", "unreachable")]);
}

#[test]
fn settings_that_cannot_work_are_refused_before_the_first_call() {
    let refused = |settings| Transport::new(settings).err().unwrap();
    let settings = |proxy: Option<&str>, ca_pem: Option<&[u8]>, user_agent: &str| TransportSettings {
        proxy: proxy.map(str::to_owned),
        ca_pem: ca_pem.map(<[u8]>::to_vec),
        user_agent: user_agent.to_owned(),
        deadlines: Deadlines::default(),
    };
    assert_eq!(refused(settings(Some("::"), None, "x")), TransportSettingsError::Proxy);
    let no_certificate = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for pem in [b"no pem".as_slice(), b"", no_certificate] {
        assert_eq!(refused(settings(None, Some(pem), "x")), TransportSettingsError::Authorities);
    }
    assert_eq!(refused(settings(None, None, "x\n")), TransportSettingsError::UserAgent);
}
