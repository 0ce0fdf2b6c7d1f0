//! The control socket over real sockets: who gets in, what an order becomes, and what a client is told when it cannot be.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]

mod shown;

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use evertoken::daemon::control::client::{ControlClient, status_at};
use evertoken::daemon::control::server::{BindError, bind, serve};
use evertoken::daemon::control::{ControlError, OrderRequest};
use evertoken::daemon::wake::{Reply, Selector, Verb, Wake};
use evertoken::rotation::command::Command;
use secrecy::ExposeSecret as _;
use serde_json::json;
use shown::{MadeUp, token};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

struct Served {
    folder: TempDir,
    wakes: mpsc::Receiver<Wake>,
    task: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Served {
    fn start() -> Self {
        let folder = folder();
        let (waker, wakes) = mpsc::channel(8);
        let listener = bind(&folder.path().join("control.sock")).unwrap();
        let shown = MadeUp::new(vec![token("bot", &json!({}))]);
        Self { folder, wakes, task: tokio::spawn(serve(listener, waker, shown)) }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("control.sock")
    }

    async fn client(&self) -> ControlClient {
        ControlClient::connect(&self.path()).await.unwrap()
    }

    /// Sends bytes as they are and reads to the end.
    async fn send(&self, text: String) -> String {
        let path = self.path();
        let sent = tokio::task::spawn_blocking(move || {
            let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
            let (mut bytes, mut answer) = (text.as_bytes(), Vec::new());
            // What is refused half-way may be closed while the rest is still being sent.
            while !bytes.is_empty() {
                let Ok(written) = stream.write(bytes) else { break };
                bytes = &bytes[written..];
            }
            let _ended = stream.read_to_end(&mut answer);
            String::from_utf8_lossy(&answer).into_owned()
        });
        tokio::time::timeout(Duration::from_secs(20), sent).await.expect("an answer in time").unwrap()
    }

    async fn post(&self, body: &str) -> String {
        self.send(format!("POST /v1/orders HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}", body.len())).await
    }
}

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn bot() -> Selector {
    Selector { names: vec!["bot".into()], ..Selector::default() }
}

fn done(text: &str) -> Vec<Reply> {
    vec![Reply { token: "bot".into(), done: true, text: text.into() }]
}

#[tokio::test]
async fn an_order_wakes_the_loop_and_is_answered_when_it_is_done() {
    let mut served = Served::start();
    let client = served.client().await;
    let request = OrderRequest::command(Command::Hold { why: "audit".into() }, bot());
    let ordered = tokio::spawn(async move { client.order(request).await });
    let Some(Wake::Order(order, answer)) = served.wakes.recv().await else { panic!("an order") };
    assert_eq!(order.select, bot());
    assert!(matches!(&order.verb, Verb::Command(Command::Hold { why }) if why == "audit"));
    answer.send(done("held")).unwrap();
    assert_eq!(ordered.await.unwrap().unwrap(), done("held"));
}

#[tokio::test]
async fn a_token_arrives_whole() {
    let mut served = Served::start();
    let client = served.client().await;
    let text = "EAAB".repeat(4_000);
    let request = OrderRequest::adopt(Some(text.clone().into()), true, bot());
    let ordered = tokio::spawn(async move { client.order(request).await });
    let Some(Wake::Order(order, answer)) = served.wakes.recv().await else { panic!("an order") };
    let Verb::Adopt { token: Some(token), create: true } = order.verb else { panic!("an adoption") };
    assert_eq!(token.expose_secret(), text);
    answer.send(done("managed")).unwrap();
    ordered.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_goes_away_does_not_call_its_order_back() {
    let mut served = Served::start();
    let client = served.client().await;
    let ordered = tokio::spawn(async move { client.order(OrderRequest::breaker_close()).await });
    let Some(Wake::Order(order, answer)) = served.wakes.recv().await else { panic!("an order") };
    ordered.abort();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(matches!(order.verb, Verb::CloseBreaker));
    assert!(!answer.is_closed(), "the loop's answer is still wanted, so whoever carries out the order is still there");
}

#[tokio::test]
async fn what_is_no_order_is_refused_without_quoting_it() {
    let mut served = Served::start();
    for body in [
        "EAAB-secret",
        r#"{"verb":"EAAB-secret"}"#,
        r#"{"verb":"rotate","EAAB-secret":1}"#,
        r#"{"verb":"adopt","token":["EAAB-secret"]}"#,
        r#"{"verb":"rotate","token":"EAAB-secret","select":{"all":true}}"#,
        r#"{"verb":"rotate"}"#,
        "",
    ] {
        let answer = served.post(body).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{body}: {answer}");
        assert!(answer.contains("\"error\"") && !answer.contains("EAAB"), "{body}: {answer}");
    }
    let long = format!(r#"{{"verb":"adopt","token":"{}"}}"#, "x".repeat(70_000));
    let answer = served.post(&long).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(served.send("GET /v1/orders HTTP/1.1\r\nhost: x\r\n\r\n".into()).await.starts_with("HTTP/1.1 405 "));
    assert!(served.wakes.try_recv().is_err(), "none of them woke the loop");
}

#[tokio::test]
async fn it_shows_what_the_http_listener_shows() {
    let served = Served::start();
    let document = served.client().await.status().await.unwrap();
    assert_eq!((document.healthy, document.tokens[0].name.as_str()), (true, "bot"));
    for path in ["/livez", "/readyz", "/metrics", "/"] {
        let answer = served.send(format!("GET {path} HTTP/1.1\r\nhost: anything\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_daemon_that_stops_says_so() {
    let mut served = Served::start();
    served.wakes.close();
    let error = served.client().await.order(OrderRequest::reload()).await.unwrap_err();
    assert!(matches!(&error, ControlError::Refused(why) if why.contains("stopping")), "{error}");
}

#[tokio::test]
async fn the_status_of_a_daemon_elsewhere_is_read_by_its_url() {
    let listener = evertoken::admin::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let url = format!("http://{}", listener.address());
    let task = tokio::spawn(evertoken::admin::serve(listener, MadeUp::new(vec![token("ads", &json!({}))])));
    assert_eq!(status_at(&url).await.unwrap().tokens[0].name, "ads");
    task.abort();
    let _ended = task.await;
    assert!(matches!(status_at(&url).await.unwrap_err(), ControlError::Unreachable(..)));
    assert!(matches!(status_at("https://localhost").await.unwrap_err(), ControlError::Url(_)));
}

#[tokio::test]
async fn only_its_owner_and_root_are_let_in() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let served = Served::start();
    let mode = std::fs::metadata(served.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // Even where the mode would let others in, the kernel's word on who they are counts.
    std::fs::set_permissions(served.path(), std::fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(as_other_user(&served.path()).await, "HTTP/1.1 403 Forbidden");
    std::fs::set_permissions(served.path(), std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(as_other_user(&served.path()).await, "PermissionError");
    served.client().await.status().await.unwrap();
}

/// What another user gets: the first line of the answer, or the error.
async fn as_other_user(path: &Path) -> String {
    let script = "import socket,sys\n\
                  s=socket.socket(socket.AF_UNIX)\n\
                  try:\n s.connect(sys.argv[1])\n print(s.recv(999).decode().splitlines()[0])\n\
                  except OSError as e: print(type(e).__name__)";
    let mut python = std::process::Command::new("python3");
    python.args(["-c", script]).arg(path).uid(65534).gid(65534);
    let output = tokio::task::spawn_blocking(move || python.output()).await.unwrap().expect("python3 runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[tokio::test]
async fn a_client_without_a_daemon_is_told_what_to_do() {
    let folder = folder();
    let path = folder.path().join("control.sock");
    let error = ControlClient::connect(&path).await.unwrap_err();
    assert!(matches!(error, ControlError::NoDaemon(_)) && error.to_string().contains("evertoken run"));
    // A daemon that was killed leaves its socket.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(matches!(ControlClient::connect(&path).await.unwrap_err(), ControlError::NoDaemon(_)));
    let long = folder.path().join("x".repeat(120));
    assert!(matches!(ControlClient::connect(&long).await.unwrap_err(), ControlError::TooLong(_)));
}

#[tokio::test]
async fn binding_takes_a_stale_socket_and_nothing_else() {
    let folder = folder();
    let path = folder.path().join("control.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let listener = bind(&path).expect("a stale socket is replaced");
    assert!(matches!(bind(&path).unwrap_err(), BindError::Served(_)), "a served one is not");
    drop(listener);
    assert!(!path.exists(), "and it goes with its daemon");

    std::fs::OpenOptions::new().write(true).create_new(true).open(&path).unwrap().write_all(b"precious").unwrap();
    assert!(matches!(bind(&path).unwrap_err(), BindError::NotASocket(_)));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    std::fs::remove_file(&path).unwrap();

    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o1777)).unwrap();
    assert!(matches!(bind(&path).unwrap_err(), BindError::LooseFolder(_, 0o1777)));
    assert!(matches!(bind(&folder.path().join("no/control.sock")).unwrap_err(), BindError::Folder(..)));
    assert!(matches!(bind(&folder.path().join("x".repeat(120))).unwrap_err(), BindError::TooLong(_)));
}

#[tokio::test]
async fn a_successor_keeps_its_socket_when_its_predecessor_ends_late() {
    let folder = folder();
    let path = folder.path().join("control.sock");
    let predecessor = bind(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let _successor = bind(&path).unwrap();
    drop(predecessor);
    assert!(path.exists());
}
