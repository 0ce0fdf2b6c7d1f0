//! `evertoken demo`: a whole rotation on this machine, offline, with the real daemon as its own process.
//!
//! Both simulators run here; the daemon is this same program started as a child on a configuration in a temporary folder. A consumer
//! reads the token file and calls the provider ten times a second all the while. What the daemon says in its log is told in plain
//! words as it happens.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use jiff::SignedDuration;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::sync::mpsc;

use super::session::runtime;
use super::simulate::{APP_ID, APP_SECRET, SYSTEM_USER, World};
use super::{Exit, Failure, terminal};
use crate::clock;
use crate::rotation::time::Boot;

/// How often the consumer calls.
const EVERY: Duration = Duration::from_millis(100);
/// How long the consumer goes on after the old token has ended.
const AFTERWARDS: Duration = Duration::from_secs(3);
/// How long the whole may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// How to show it.
#[derive(Debug, Clone, Args)]
pub(super) struct Arguments {
    /// How long a token lives in the demo, in seconds
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(i64).range(20..=3600), value_name = "SECONDS")]
    life: i64,
}

/// `evertoken demo`.
pub(super) fn demo(arguments: &Arguments) -> Result<Exit, Failure> {
    let folder = Folder::new()?;
    runtime()?.block_on(show(arguments, &folder.0))
}

async fn show(arguments: &Arguments, folder: &Path) -> Result<Exit, Failure> {
    let life = SignedDuration::from_secs(arguments.life);
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    // A token at a quarter of its life: the refresh, at half of it, comes soon.
    let world = World::start(anywhere, anywhere, "eu-west-1", life, life / 4).await?;
    let begun = clock::boot();
    let story = Story { begun };
    story.tell(&format!(
        "Meta's Graph API is simulated at {}, in real time. Its tokens live {} seconds instead of 60 days; every wait shrinks with them.",
        world.graph_server.url(),
        arguments.life
    ));
    let config = prepare(folder, &world, life)?;
    story.tell(&format!(
        "A bot reads its token from {}. It holds token {}, made with a quarter of its life already over, so that the demo is short.",
        folder.join("tokens/whatsapp-bot/token").display(),
        world.issued.fingerprint
    ));

    let consumer = Arc::new(Consumer::default());
    let reads = consumer.clone();
    let (file, graph) = (folder.join("tokens/whatsapp-bot/token"), world.graph_server.addr());
    let calling = tokio::spawn(async move { reads.call_for_ever(&file, graph).await });
    story.tell("The bot calls Meta ten times a second with what it reads, from now to the end.");

    let mut daemon = Daemon::start(&config)?;
    story.tell("evertoken runs beside it, with a configuration of a dozen lines. What it does:");
    let outcome = tokio::time::timeout(PATIENCE, daemon.follow(&story)).await;
    tokio::time::sleep(AFTERWARDS).await;
    calling.abort();
    daemon.stop();
    let ended = match outcome {
        Ok(ended) => ended,
        Err(_elapsed) => Err("the rotation did not end in time".to_owned()),
    };
    summarize(&story, &world, &consumer, ended)
}

fn summarize(story: &Story, world: &World, consumer: &Consumer, ended: Result<(), String>) -> Result<Exit, Failure> {
    let (calls, failures, tokens) =
        (consumer.calls.load(Ordering::Relaxed), consumer.failures.load(Ordering::Relaxed), consumer.tokens.load(Ordering::Relaxed));
    let state = world.graph.state(world.clock.now());
    let alive = state.working(SYSTEM_USER).len();
    let old_works = state.tokens.iter().any(|token| token.fingerprint == world.issued.fingerprint && token.valid);
    ended.map_err(Failure::error)?;
    let violations = world.graph.violations();
    story.tell(&format!("The bot made {calls} calls with {tokens} different tokens; {failures} failed."));
    story.tell(&format!(
        "At Meta {alive} token works; the old one {}.",
        if old_works { "still works, which it should not" } else { "is dead" }
    ));
    if failures > 0 || calls == 0 || tokens < 2 || old_works || alive != 1 || !violations.is_empty() {
        return Err(Failure::error(format!(
            "the demo failed: {failures} failed calls of {calls}, {alive} living tokens, {} rules broken",
            violations.len()
        )));
    }
    story.tell("A whole rotation, and nobody noticed. Next: README.md, Install and Configure.");
    Ok(Exit::Fine)
}

/// Says what happens, with the seconds since the start.
struct Story {
    begun: Boot,
}

impl Story {
    fn tell(&self, text: &str) {
        terminal::say(&format!("{:>5.1} s  {text}", clock::boot().since(self.begun).as_secs_f64()));
    }
}

/// Writes the configuration, the app's secret and the first token.
fn prepare(folder: &Path, world: &World, life: SignedDuration) -> Result<PathBuf, Failure> {
    let window = (life / 6).max(SignedDuration::from_secs(2)).as_secs();
    let config = format!(
        "[daemon]
state_dir = \"{folder}/state\"
tick = \"* * * * * *\"
control_socket = \"{folder}/state/control.sock\"
[http]
listen = \"off\"
[log]
format = \"json\"
[defaults.propagation]
window = \"{window}s\"
consumer_ttl = \"1s\"
[apps.acme]
id = \"{APP_ID}\"
secret = {{ file = \"{folder}/app.secret\" }}
graph_url = \"{graph}\"
[stores.disk]
kind = \"file\"
dir = \"{folder}/tokens\"
mode = \"0600\"
[tokens.whatsapp-bot]
app = \"acme\"
system_user_id = \"{SYSTEM_USER}\"
store = {{ name = \"disk\", entry = \"whatsapp-bot\" }}
adopt = \"auto\"
",
        folder = folder.display(),
        graph = world.graph_server.url(),
    );
    let entry = folder.join("tokens/whatsapp-bot");
    std::fs::DirBuilder::new().mode(0o700).recursive(true).create(&entry).map_err(|error| cannot(&entry, &error))?;
    put(&entry.join("token"), &world.issued.text)?;
    put(&folder.join("app.secret"), APP_SECRET)?;
    let path = folder.join("evertoken.toml");
    put(&path, &config)?;
    Ok(path)
}

fn put(path: &Path, text: &str) -> Result<(), Failure> {
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| cannot(path, &error))
}

fn cannot(path: &Path, error: &std::io::Error) -> Failure {
    Failure::error(format!("{} cannot be written: {error}", path.display()))
}

/// A temporary folder that goes when the demo ends.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("evertoken-demo-{}", uuid::Uuid::new_v4().simple()));
        std::fs::DirBuilder::new().mode(0o700).create(&path).map_err(|error| cannot(&path, &error))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// The bot: reads the file, calls the provider, counts.
#[derive(Default)]
struct Consumer {
    calls: AtomicU64,
    failures: AtomicU64,
    tokens: AtomicU64,
}

impl Consumer {
    async fn call_for_ever(&self, file: &Path, graph: SocketAddr) {
        let mut last = String::new();
        loop {
            let token = std::fs::read_to_string(file).unwrap_or_default();
            if token != last {
                self.tokens.fetch_add(1, Ordering::Relaxed);
                last.clone_from(&token);
            }
            let works = ask(graph, &token).await.unwrap_or(false);
            self.calls.fetch_add(1, Ordering::Relaxed);
            if !works {
                self.failures.fetch_add(1, Ordering::Relaxed);
            }
            tokio::time::sleep(EVERY).await;
        }
    }
}

/// One call as a bot makes it: who am I?
async fn ask(graph: SocketAddr, token: &str) -> std::io::Result<bool> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let proof = crate::rotation::token::Token::new(token)
        .map(|token| crate::graph::proof::appsecret_proof(&secrecy::SecretString::from(APP_SECRET), &token))
        .map_err(std::io::Error::other)?;
    let proof = secrecy::ExposeSecret::expose_secret(&proof);
    let mut stream = tokio::net::TcpStream::connect(graph).await?;
    let request = format!(
        "GET /v26.0/me?fields=id&appsecret_proof={proof} HTTP/1.1\r\nHost: {graph}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer.starts_with(b"HTTP/1.1 200"))
}

/// The daemon, as a process of its own.
struct Daemon {
    child: Child,
    lines: mpsc::UnboundedReceiver<Value>,
}

impl Daemon {
    fn start(config: &Path) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(|error| Failure::error(format!("this program's own path is not known: {error}")))?;
        let mut child = Command::new(program)
            .arg("--config")
            .arg(config)
            .arg("run")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .env_remove("RUST_LOG")
            .spawn()
            .map_err(|error| Failure::error(format!("the daemon cannot be started: {error}")))?;
        let (said, lines) = mpsc::unbounded_channel();
        if let Some(log) = child.stderr.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(log).lines().map_while(Result::ok) {
                    let event = serde_json::from_str(&line).unwrap_or(Value::String(line));
                    if said.send(event).is_err() {
                        return;
                    }
                }
            });
        }
        Ok(Self { child, lines })
    }

    /// Tells what the daemon says, until a rotation is complete or the daemon ends.
    async fn follow(&mut self, story: &Story) -> Result<(), String> {
        while let Some(line) = self.lines.recv().await {
            let Some(event) = line.get("event").and_then(Value::as_str) else {
                if let Value::String(text) = line {
                    story.tell(&format!("       {text}"));
                }
                continue;
            };
            let message = line.get("message").and_then(Value::as_str).unwrap_or_default();
            if let Some(meaning) = meaning(event) {
                story.tell(&format!("  {event:<22} {}", meaning.replace("{}", message)));
            }
            if event == "rotation.completed" {
                return Ok(());
            }
        }
        Err("the daemon ended before the rotation was complete".to_owned())
    }

    fn stop(&mut self) {
        if let Ok(id) = i32::try_from(self.child.id()) {
            // A child that is gone already needs no signal.
            kill(Pid::from_raw(id), Signal::SIGTERM).ok();
        }
        drop(self.child.wait());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill());
    }
}

/// What an event means to somebody who sees it for the first time; `None` for what is not worth a line here.
fn meaning(event: &str) -> Option<&'static str> {
    Some(match event {
        "daemon.ready" => "looks at the store and at Meta",
        "token.adopted" => "{}: from now on it is looked after; its refresh comes at half of its life",
        "rotation.started" => "half of the life is over; the intent to mint is written down first",
        "refresh.started" => "asks Meta for a new token; the old one stays alive",
        "refresh.succeeded" => "{}",
        "stage.succeeded" => "{}",
        "verify.succeeded" => "{}: right app, right user, all permissions, a full life",
        "promote.marked" => "{}",
        "promote.succeeded" => "{}",
        "propagation.waiting" => "{}; consumers get time to move",
        "propagation.complete" => "the window is over by Meta's clock; everything is looked at once more",
        "revoke.started" => "{}",
        "revoke.answered" => "{}",
        "rotation.completed" => "{}: seen dead at Meta, and the new one seen alive",
        _ if event.ends_with(".failed") || event.starts_with("token.") => "{}",
        _ => return None,
    })
}
