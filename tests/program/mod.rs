//! The program itself as a child, with both simulators in the test's own process for its world.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail, writes files as it likes and waits for a child")]

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use evertoken::simulator::control::Simulator;
use evertoken::simulator::graph::knobs::Knobs;
use evertoken::simulator::graph::{Graph, serve_on};
use evertoken::simulator::secrets_manager::SecretsManager;
use evertoken::simulator::server::start;
use evertoken::simulator::virtual_clock::VirtualClock;
use tempfile::TempDir;
use tokio::sync::oneshot;

/// The app secret of [`Graph::sample`].
pub(crate) const SECRET: &str = "app-secret-0123456789abcdef";
/// The secret at AWS that holds the token.
pub(crate) const ENTRY: &str = "meta/bot";
/// Longer than any command may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// Both simulators, a folder with a configuration, and one token that stands in the store.
pub(crate) struct World {
    pub(crate) graph: Arc<Graph>,
    pub(crate) manager: Arc<SecretsManager>,
    pub(crate) clock: Arc<VirtualClock>,
    /// The transport of the simulated Graph.
    pub(crate) meta: Simulator,
    /// The transport of the simulated Secrets Manager.
    pub(crate) aws: Simulator,
    pub(crate) folder: TempDir,
    /// The text of the token.
    pub(crate) token: String,
    /// Its fingerprint.
    pub(crate) fingerprint: String,
    _end: oneshot::Sender<()>,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl World {
    pub(crate) fn new() -> Self {
        let clock = Arc::new(VirtualClock::new());
        let graph = Arc::new(Graph::sample(Knobs { marker: "LEAKMARKER".into(), ..Knobs::default() }));
        let manager = Arc::new(SecretsManager::new("eu-west-1"));
        manager.turn(|knobs| knobs.writes_per_second = None);
        let issued = graph.issue(Graph::sample_token(), clock.now());
        manager.create(ENTRY, Some(&issued.text), clock.now()).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ended) = oneshot::channel::<()>();
        let (service, secrets, time) = (graph.clone(), manager.clone(), clock.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
                let graph = serve_on(service, time.clone(), anywhere).await.unwrap();
                let manager = start(secrets, time, anywhere).await.unwrap();
                tell.send((graph.simulator().clone(), graph.url(), manager.simulator().clone(), manager.url())).unwrap();
                drop(ended.await);
            });
        });
        let (meta, graph_url, aws, manager_url) = told.recv().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let world = Self { graph, manager, clock, meta, aws, folder, token: issued.text, fingerprint: issued.fingerprint, _end: end };
        std::fs::create_dir(world.path("tokens")).unwrap();
        world.put("app.secret", SECRET);
        world.put("evertoken.toml", configuration(world.folder.path(), &graph_url, &manager_url));
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file of mode 0600.
    pub(crate) fn put(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).unwrap();
        self.mode(name, 0o600);
    }

    pub(crate) fn mode(&self, name: &str, mode: u32) {
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Changes the configuration.
    pub(crate) fn rewrite(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.path("evertoken.toml")).unwrap();
        assert!(text.contains(from), "{from:?} is not in\n{text}");
        self.put("evertoken.toml", text.replace(from, to));
    }

    /// The program with this world's configuration.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = bare(arguments);
        command.arg("--config").arg(self.path("evertoken.toml")).current_dir(self.folder.path());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        finish(self.command(arguments), "")
    }

    /// Runs it and expects an exit code.
    pub(crate) fn ran(&self, code: i32, arguments: &[&str]) -> Ran {
        let ran = self.run(arguments);
        assert_eq!(ran.code, Some(code), "{arguments:?}: {ran:#?}");
        ran
    }

    /// Starts the daemon and waits until it takes orders.
    pub(crate) fn daemon(&self) -> Daemon {
        let mut child = self.command(&["run"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        while std::os::unix::net::UnixStream::connect(self.path("state/control.sock")).is_err() {
            assert!(begun.elapsed() < PATIENCE && child.try_wait().unwrap().is_none(), "the daemon does not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
        Daemon(child)
    }

    /// Nothing that was printed may hold a token or the app's secret.
    pub(crate) fn keeps_secrets(&self, ran: &Ran) {
        for text in [&ran.out, &ran.err] {
            assert!(!text.contains("LEAKMARKER") && !text.contains(SECRET) && !text.contains(&self.token), "{text}");
        }
    }
}

fn configuration(folder: &Path, graph: &str, manager: &str) -> String {
    format!(
        "[daemon]
state_dir = \"{folder}/state\"
tick = \"* * * * * *\"
control_socket = \"{folder}/state/control.sock\"
[http]
listen = \"off\"
[apps.acme]
id = \"1234567890\"
secret = {{ file = \"{folder}/app.secret\" }}
graph_url = \"{graph}\"
[stores.prod]
kind = \"aws-secrets-manager\"
region = \"eu-west-1\"
endpoint_url = \"{manager}\"
[stores.disk]
kind = \"file\"
dir = \"{folder}/tokens\"
mode = \"0600\"
[tokens.bot]
app = \"acme\"
system_user_id = \"10001\"
store = {{ name = \"prod\", entry = \"{ENTRY}\" }}
sinks = [{{ name = \"disk\", entry = \"bot\" }}]
",
        folder = folder.display()
    )
}

/// The program without a configuration, in an environment of its own.
pub(crate) fn bare(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evertoken"));
    command
        .args(arguments)
        .env_clear()
        .env("AWS_ACCESS_KEY_ID", "AKIAEMULATOR")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("COLUMNS", "200")
        .stdin(Stdio::null());
    command
}

/// Runs a command to its end, with what it reads.
pub(crate) fn finish(mut command: Command, input: &str) -> Ran {
    let stdin = if input.is_empty() { Stdio::null() } else { Stdio::piped() };
    let mut child = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    if let Some(mut stdin) = child.stdin.take() {
        // It may end without reading all of it.
        drop(stdin.write_all(input.as_bytes()));
    }
    let pid = child.id();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || drop(tell.send(child.wait_with_output().unwrap())));
    let Ok(output) = told.recv_timeout(PATIENCE) else {
        end(pid, nix::sys::signal::Signal::SIGKILL);
        panic!("{command:?} does not end");
    };
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn end(pid: u32, signal: nix::sys::signal::Signal) {
    // It may have ended by itself.
    let _ended = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.try_into().unwrap()), signal);
}

/// A running daemon; ended when dropped.
pub(crate) struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        end(self.0.id(), nix::sys::signal::Signal::SIGTERM);
        drop(self.0.wait());
    }
}
