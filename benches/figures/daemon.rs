//! The daemon under measurement: its configuration, its process, its log.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use evertoken::clock;
use evertoken::rotation::time::Boot;
use serde_json::Value;

use crate::world::{APP, APP_SECRET, World};

/// Longest time that a start may take before it counts as failed.
const START_WITHIN: Duration = Duration::from_secs(20);

/// What differs between measurements.
pub(crate) struct Plan<'a> {
    pub(crate) window: &'a str,
    pub(crate) audit_interval: Option<&'a str>,
    pub(crate) tick: &'a str,
    /// Refreshes and store writes a second; 0 is no limit.
    pub(crate) pace: (u32, u32),
}

impl Default for Plan<'_> {
    fn default() -> Self {
        Self { window: "24h", audit_interval: None, tick: "*/30 * * * * *", pace: (0, 0) }
    }
}

/// A folder with the configuration for a world: AWS as the store, one file sink for each token.
pub(crate) struct Host {
    folder: tempfile::TempDir,
}

impl Host {
    pub(crate) fn new(world: &World, plan: &Plan<'_>) -> Result<Self> {
        let host = Self { folder: tempfile::tempdir()? };
        let path = host.folder.path();
        std::fs::DirBuilder::new().mode(0o700).create(path.join("sink"))?;
        put(&path.join("app.secret"), APP_SECRET)?;
        put(&host.config(), &configuration(path, world, plan)?)?;
        Ok(host)
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("evertoken.toml")
    }

    /// Starts the daemon and waits until it says that it is ready.
    pub(crate) fn start(&self, program: &Path) -> Result<Daemon> {
        let path = self.folder.path().join("notify.sock");
        drop(std::fs::remove_file(&path));
        let notify = UnixDatagram::bind(&path)?;
        notify.set_read_timeout(Some(START_WITHIN))?;
        let mut command = Command::new(program);
        command
            .arg("--config")
            .arg(self.config())
            .arg("run")
            .env_clear()
            .env("NOTIFY_SOCKET", &path)
            .env("AWS_ACCESS_KEY_ID", "AKIAEMULATOR")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let begun = clock::boot();
        let mut child = command.spawn()?;
        let lines = follow(&mut child)?;
        let mut bytes = [0; 512];
        loop {
            let length = notify.recv(&mut bytes).context("the daemon does not become ready")?;
            if bytes.get(..length).is_some_and(|said| said.split(|byte| *byte == b'\n').any(|line| line == b"READY=1")) {
                break;
            }
        }
        let ready_after = clock::boot().since(begun).unsigned_abs();
        Ok(Daemon { child, lines, seen: RefCell::default(), ready_after })
    }
}

/// A running daemon.
pub(crate) struct Daemon {
    child: Child,
    lines: Receiver<(Boot, String)>,
    seen: RefCell<BTreeMap<String, usize>>,
    /// From before the fork to the notification.
    pub(crate) ready_after: Duration,
}

impl Daemon {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until an event was told that many times; when the first and the last of them came.
    pub(crate) fn events(&self, event: &str, count: usize, within: Duration) -> Result<(Boot, Boot)> {
        let until = clock::boot().plus(within.try_into()?);
        let mut first = None;
        let mut last = Boot::ZERO;
        for number in 0..count {
            loop {
                let left = until.since(clock::boot());
                let left = Duration::try_from(left).unwrap_or(Duration::ZERO);
                let (at, told) = self.lines.recv_timeout(left).with_context(|| format!("{event} came {number} of {count} times"))?;
                self.count(&told);
                if told == event {
                    first.get_or_insert(at);
                    last = at;
                    break;
                }
            }
        }
        Ok((first.unwrap_or(last), last))
    }

    /// How often an event was told so far. What was told by now does not count for [`Self::events`] any more.
    pub(crate) fn told(&self, event: &str) -> usize {
        self.lines.try_iter().for_each(|(_, told)| self.count(&told));
        self.seen.borrow().get(event).copied().unwrap_or(0)
    }

    fn count(&self, told: &str) {
        *self.seen.borrow_mut().entry(told.to_owned()).or_default() += 1;
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Events of the log as they come. Lines that say that something went wrong are shown.
fn follow(child: &mut Child) -> Result<Receiver<(Boot, String)>> {
    let log = child.stderr.take().context("no log")?;
    let (told, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            let parsed: Value = serde_json::from_str(&line).unwrap_or_default();
            if parsed["level"] != "INFO" {
                eprintln!("daemon: {line}");
            }
            let event = parsed["event"].as_str().unwrap_or_default().to_owned();
            if told.send((clock::boot(), event)).is_err() {
                return;
            }
        }
    });
    Ok(lines)
}

fn configuration(folder: &Path, world: &World, plan: &Plan<'_>) -> Result<String> {
    let audit = plan.audit_interval.map(|every| format!("audit_interval = \"{every}\"\n")).unwrap_or_default();
    let mut text = format!(
        "[daemon]
state_dir = \"{folder}/state\"
tick = \"{tick}\"
control_socket = \"{folder}/control.sock\"
[http]
listen = \"127.0.0.1:{port}\"
[log]
format = \"json\"
[pace]
refreshes_per_second = {refreshes}
store_writes_per_second = {writes}
[defaults.schedule]
jitter = 0
{audit}[defaults.propagation]
window = \"{window}\"
consumer_ttl = \"1s\"
[apps.acme]
id = \"{APP}\"
secret = {{ file = \"{folder}/app.secret\" }}
graph_url = \"{graph}\"
[stores.prod]
kind = \"aws-secrets-manager\"
region = \"eu-west-1\"
endpoint_url = \"{manager}\"
[stores.disk]
kind = \"file\"
dir = \"{folder}/sink\"
mode = \"0600\"
",
        folder = folder.display(),
        tick = plan.tick,
        refreshes = plan.pace.0,
        writes = plan.pace.1,
        port = free_port()?,
        window = plan.window,
        graph = world.graph.url(),
        manager = world.manager.url(),
    );
    for token in &world.tokens {
        write!(
            text,
            "[tokens.{name}]
app = \"acme\"
system_user_id = \"{user}\"
store = {{ name = \"prod\", entry = \"{secret}\" }}
sinks = [{{ name = \"disk\", entry = \"{name}\" }}]
adopt = \"auto\"
",
            name = token.name,
            user = token.user,
            secret = token.secret,
        )?;
    }
    Ok(text)
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn put(path: &Path, text: &str) -> Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    if file.write(text.as_bytes())? < text.len() {
        bail!("{} could not be written whole", path.display());
    }
    Ok(())
}
