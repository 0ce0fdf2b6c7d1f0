//! How the Graph client's calls leave the host: over TLS with roots of one's own, through a proxy only when one is set, and
//! without a trace in any log.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use evertoken::graph::Provider as _;
use evertoken::graph::client::{AppTokenMode, GraphBase, GraphClient, GraphSettings, Transport, TransportSettings};
use evertoken::rotation::fault::{Certainty, FaultClass};
use evertoken::rotation::token::Token;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tracing_subscriber::fmt::MakeWriter;

const SECRET: &str = "app-secret-0123456789abcdef";
const OLD: &str = "EAAoldoldoldoldoldoldold";
const NEW: &str = "EAAnewnewnewnewnewnewnew";
const CA: &[u8] = include_bytes!("graph_tls/ca.pem");
const ME: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\nfacebook-api-version: v20.0\r\ncontent-length: 10\r\n\r\n{\"id\":\"1\"}";

fn client(url: &str, settings: TransportSettings) -> GraphClient {
    let transport = Transport::new(TransportSettings { user_agent: "evertoken/test".to_owned(), ..settings }).unwrap();
    let settings = GraphSettings {
        base: GraphBase::new(url, "v26.0").unwrap(),
        app_id: "1234567890".to_owned(),
        app_secret: SECRET.to_owned().into(),
        app_token: AppTokenMode::Composed,
    };
    GraphClient::new(settings, transport)
}

fn token(text: &str) -> Token {
    Token::new(text).unwrap()
}

/// Answers one connection with `answer` after it has read until a blank line; returns what it read.
fn serve_once(answer: &'static str) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let served = std::thread::spawn(move || {
        let (mut stream, _peer) = listener.accept().unwrap();
        let head = read_head(&mut stream);
        stream.write_all(answer.as_bytes()).unwrap();
        head
    });
    (address, served)
}

/// The same behind TLS, with the certificate that `CA` signed for `localhost` and `127.0.0.1`.
fn serve_tls_once(answer: &'static str) -> (SocketAddr, JoinHandle<String>) {
    let certificate = CertificateDer::from_pem_slice(include_bytes!("graph_tls/server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("graph_tls/server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()));
    let served = std::thread::spawn(move || {
        let (stream, _peer) = listener.accept().unwrap();
        let mut stream = StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), stream);
        let head = read_head(&mut stream);
        let _sent = stream.write_all(answer.as_bytes());
        let _flushed = stream.flush();
        head
    });
    (address, served)
}

fn read_head(stream: &mut impl std::io::Read) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

#[tokio::test]
async fn a_root_of_ones_own_is_trusted_beside_those_of_the_system_and_no_other() {
    let trusting = || TransportSettings { ca_pem: Some(CA.to_vec()), ..TransportSettings::default() };
    let (address, served) = serve_tls_once(ME);
    let me = client(&format!("https://{address}"), trusting()).me(&token(NEW)).await.result.unwrap();
    assert_eq!(me.id.as_deref(), Some("1"));
    assert!(served.join().unwrap().starts_with("GET /v26.0/me?"));

    let (address, served) = serve_tls_once(ME);
    let answer = client(&format!("https://{address}"), TransportSettings::default()).refresh(&token(OLD)).await;
    let fault = answer.result.err().unwrap();
    assert_eq!((fault.certainty, fault.class), (Certainty::NotDone, FaultClass::Unreachable), "{fault}");
    assert_eq!(served.join().unwrap(), "", "nothing may be sent to a server that nobody vouches for");

    // Trusted, but for another name.
    let (address, served) = serve_tls_once(ME);
    let answer = client(&format!("https://127.0.0.2:{}", address.port()), trusting()).refresh(&token(OLD)).await;
    assert_eq!(answer.result.err().unwrap().certainty, Certainty::NotDone);
    assert_eq!(served.join().unwrap(), "");
}

#[tokio::test]
async fn a_proxy_sees_the_host_and_nothing_else_and_its_refusal_is_certain() {
    let (proxy, served) = serve_once("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
    let settings = TransportSettings { proxy: Some(format!("http://user:hunter2hunter2@{proxy}")), ..TransportSettings::default() };
    let fault = client("https://graph.invalid", settings).refresh(&token(OLD)).await.result.err().unwrap();
    assert_eq!(fault.certainty, Certainty::NotDone);
    assert!(!format!("{fault:?}").contains("hunter2"), "{fault:?}");
    let head = served.join().unwrap();
    assert!(head.starts_with("CONNECT graph.invalid:443 HTTP/1.1\r\n"), "{head}");
    assert!(!head.contains(SECRET) && !head.contains(OLD), "{head}");
}

#[tokio::test]
async fn a_call_on_loopback_passes_by_the_proxy() {
    let (address, served) = serve_once(ME);
    let settings = TransportSettings { proxy: Some("http://127.0.0.1:1".to_owned()), ..TransportSettings::default() };
    assert!(client(&format!("http://{address}"), settings).me(&token(NEW)).await.result.is_ok());
    assert!(served.join().unwrap().starts_with("GET /v26.0/me?"));
}

/// Runs in a process of its own, see below.
#[tokio::test]
#[ignore = "run by a_proxy_in_the_environment_is_ignored with the environment that it needs"]
async fn within_an_environment_with_proxies() {
    let fault = client("https://graph.invalid", TransportSettings::default()).refresh(&token(OLD)).await.result.err().unwrap();
    assert_eq!(fault.certainty, Certainty::NotDone);
}

#[test]
fn a_proxy_in_the_environment_is_ignored() {
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    proxy.set_nonblocking(true).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "within_an_environment_with_proxies", "--ignored"]);
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env(name, format!("http://{}", proxy.local_addr().unwrap()));
    }
    let output = command.env_remove("NO_PROXY").env_remove("no_proxy").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
    assert_eq!(proxy.accept().map(drop).map_err(|error| error.kind()), Err(std::io::ErrorKind::WouldBlock));
}

/// Collects what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn no_log_line_of_any_level_shows_a_secret_and_another_version_is_told_once() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false).with_writer(log.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let echo = "HTTP/1.1 400 X\r\nconnection: close\r\ncontent-length: 75\r\n\r\n\
                {\"error\":{\"code\":190,\"message\":\"Malformed token EAAoldoldoldoldoldoldold\"}}";
    for _twice in 0..2 {
        let (address, served) = serve_once(ME);
        let client = client(&format!("http://{address}"), TransportSettings::default());
        assert!(client.me(&token(NEW)).await.result.is_ok());
        served.join().unwrap();
        assert!(client.revoke(&token(OLD), &token(NEW)).await.result.is_err());
    }
    let (address, served) = serve_once(echo);
    let answer = client(&format!("http://{address}"), TransportSettings::default()).refresh(&token(OLD)).await;
    assert_eq!(answer.result.err().unwrap().code, Some(190));
    served.join().unwrap();
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("event=\"graph.called\"") && log.contains("endpoint=\"refresh\"") && log.contains("code=190"), "{log}");
    for secret in [SECRET, OLD, NEW, "appsecret_proof", "oauth/revoke", "client_secret", "access_token="] {
        assert!(!log.contains(secret), "{log}");
    }
    // One client each, one line each.
    assert_eq!(log.matches("graph.version_mismatch").count(), 2, "{log}");
    assert!(log.contains("asked=\"v26.0\"") && log.contains("served=\"v20.0\""), "{log}");
}
