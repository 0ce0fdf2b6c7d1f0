//! A bed: both simulators, a configuration, the daemon as a process, consumers, and everything a row may do to them.

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use evertoken::clock;
use evertoken::rotation::record::Record;
use evertoken::simulator::control::{HeldCall, Simulator};
use evertoken::simulator::fault::Rule;
use evertoken::simulator::graph::knobs::Knobs;
use evertoken::simulator::graph::{Graph, Issued, serve_on};
use evertoken::simulator::secrets_manager::{CURRENT, SecretsManager};
use evertoken::simulator::server::{Running, start};
use evertoken::simulator::virtual_clock::VirtualClock;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::consumer::{Found, Places, Watch, Watching};
use super::daemon::{Daemon, Transcript};

pub(crate) const SECRET: &str = "app-secret-0123456789abcdef";
pub(crate) const ENTRY: &str = "meta/bot";
/// The token's configured name.
pub(crate) const TOKEN: &str = "bot";
pub(crate) const APP: &str = "1234567890";
pub(crate) const USER: &str = "10001";
/// The propagation window.
pub(crate) const WINDOW: Duration = Duration::from_secs(2);
/// What the daemon gets as its environment.
pub(crate) const ENVIRONMENT: [(&str, &str); 3] =
    [("AWS_ACCESS_KEY_ID", "AKIAEMULATOR"), ("AWS_SECRET_ACCESS_KEY", "emulated-secret-key"), ("AWS_EC2_METADATA_DISABLED", "true")];

/// Which simulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Service {
    Meta,
    Aws,
}

/// How a bed is made.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    /// Seconds that a token lives.
    pub(crate) life_s: i64,
    /// Seconds that the first token has lived.
    pub(crate) age_s: i64,
    /// Lines under `[tokens.bot]`.
    pub(crate) token_lines: String,
}

impl Default for Shape {
    /// A token at its refresh point, so that a rotation begins with the first look. Pauses and evidence scale with the life: 80 s make
    /// them 2.5 s, and leave 40 s until the next rotation.
    fn default() -> Self {
        Self { life_s: 80, age_s: 40, token_lines: String::new() }
    }
}

/// What stays of a bed when its row has failed.
#[derive(Default)]
pub(crate) struct Story {
    logs: std::cell::RefCell<Vec<(String, Transcript)>>,
    simulators: std::cell::RefCell<Vec<(Service, Simulator)>>,
}

impl Story {
    pub(crate) fn add_log(&self, who: &str) -> Transcript {
        let log = Transcript::default();
        self.logs.borrow_mut().push((who.to_owned(), log.clone()));
        log
    }

    pub(crate) fn logs(&self) -> Vec<Transcript> {
        self.logs.borrow().iter().map(|(_, log)| log.clone()).collect()
    }

    pub(crate) fn tell(&self) -> String {
        let mut lines = Vec::new();
        for (who, log) in &*self.logs.borrow() {
            for line in log.lines() {
                let event: Value = serde_json::from_str(&line).unwrap_or(Value::Null);
                let part = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
                let said = if event.is_null() {
                    line.clone()
                } else {
                    format!("{} {} {} {}", part("level"), part("event"), part("reason"), part("message"))
                };
                lines.push((part("timestamp"), format!("{who}: {said}")));
            }
        }
        for (service, simulator) in &*self.simulators.borrow() {
            for call in simulator.journal(0).into_iter().filter(|call| call.call != "phone_numbers") {
                let faults: Vec<_> = call.faults.iter().map(|fault| fault.kind).collect();
                let status = call.status.unwrap_or_default();
                lines.push((
                    call.received_at.to_string(),
                    format!("    {service:?} {} {status} {:?} {faults:?} {:?}", call.call, call.outcome, call.notes),
                ));
            }
        }
        lines.sort();
        lines.into_iter().map(|(at, text)| format!("  {at} {text}\n")).collect()
    }
}

/// The bed of one row.
pub(crate) struct Bed {
    pub(crate) graph: Arc<Graph>,
    pub(crate) graph_server: Running,
    pub(crate) manager: Arc<SecretsManager>,
    pub(crate) manager_server: Running,
    pub(crate) clock: Arc<VirtualClock>,
    pub(crate) folder: tempfile::TempDir,
    /// The token that is current at the beginning.
    pub(crate) old: Issued,
    pub(crate) places: Places,
    pub(crate) found: Watch,
    pub(crate) story: Rc<Story>,
    pub(crate) daemons: Vec<Daemon>,
    pub(crate) marker: String,
    _watching: Watching,
}

impl Bed {
    pub(crate) async fn new(shape: &Shape, knobs: Knobs, story: Rc<Story>) -> Self {
        let marker = format!("CANARY{}", uuid::Uuid::new_v4().simple()).chars().take(24).collect::<String>();
        let clock = Arc::new(VirtualClock::new());
        let graph = Arc::new(Graph::sample(Knobs { token_life_s: shape.life_s, marker: marker.clone(), ..knobs }));
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let graph_server = serve_on(graph.clone(), clock.clone(), anywhere).await.unwrap();
        let manager = Arc::new(SecretsManager::new("eu-west-1"));
        let manager_server = start(manager.clone(), clock.clone(), anywhere).await.unwrap();
        let mut spec = Graph::sample_token();
        spec.age_s = shape.age_s;
        let old = graph.issue(spec, clock.now());
        manager.create(ENTRY, Some(&old.text), clock.now()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let sink = folder.path().join("sink/bot");
        std::fs::DirBuilder::new().mode(0o700).recursive(true).create(&sink).unwrap();
        put(&sink.join("token"), &old.text);
        put(&folder.path().join("app.secret"), SECRET);
        story
            .simulators
            .borrow_mut()
            .extend([(Service::Meta, graph_server.simulator().clone()), (Service::Aws, manager_server.simulator().clone())]);
        let places = Places {
            manager: manager.clone(),
            graph: graph.clone(),
            graph_addr: graph_server.addr(),
            clock: clock.clone(),
            sink: Some(sink.join("token")),
            state_dirs: ["state-1", "state-2"].map(|name| folder.path().join(name)).to_vec(),
        };
        let found = Rc::new(std::cell::RefCell::new(Found::default()));
        let watching = Watching::begin(&places, &found);
        let bed = Self {
            graph,
            graph_server,
            manager,
            manager_server,
            clock,
            folder,
            old,
            places,
            found,
            story,
            daemons: Vec::new(),
            marker,
            _watching: watching,
        };
        for number in [1, 2] {
            put(&bed.config(number), &bed.config_text(number, &shape.token_lines));
        }
        bed
    }

    /// The configuration file of the first or second daemon.
    pub(crate) fn config(&self, number: u8) -> PathBuf {
        self.folder.path().join(format!("evertoken-{number}.toml"))
    }

    /// The configuration's text; `token_lines` go under `[tokens.bot]`.
    pub(crate) fn config_text(&self, number: u8, token_lines: &str) -> String {
        format!(
            "[daemon]
state_dir = \"{folder}/state-{number}\"
tick = \"* * * * * *\"
control_socket = \"{folder}/control-{number}.sock\"
[http]
listen = \"off\"
[log]
format = \"json\"
[defaults.schedule]
jitter = 0.0
[defaults.propagation]
window = \"{window}s\"
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
[tokens.{TOKEN}]
app = \"acme\"
system_user_id = \"{USER}\"
store = {{ name = \"prod\", entry = \"{ENTRY}\" }}
sinks = [{{ name = \"disk\", entry = \"bot\" }}]
adopt = \"auto\"
{token_lines}
",
            folder = self.folder.path().display(),
            window = WINDOW.as_secs(),
            graph = self.graph_server.url(),
            manager = self.manager_server.url(),
        )
    }

    /// Replaces the configuration of the first daemon.
    pub(crate) fn reconfigure(&self, text: &str) {
        put(&self.config(1), text);
    }

    /// Starts the first daemon (again).
    pub(crate) fn start(&mut self) {
        self.start_nth(1);
    }

    /// Starts a daemon with the first or second configuration.
    pub(crate) fn start_nth(&mut self, number: u8) {
        let log = self.story.add_log(&format!("daemon {number}"));
        self.daemons.push(Daemon::start(&self.config(number), &["run"], &ENVIRONMENT, log));
    }

    /// SIGKILL to the daemon that was started last.
    pub(crate) async fn kill(&mut self) {
        self.daemons.pop().expect("a daemon runs").sigkill().await;
    }

    /// SIGTERM to the daemon that was started last: it ends with 0 in time.
    pub(crate) async fn stop(&mut self) {
        let mut daemon = self.daemons.pop().expect("a daemon runs");
        // A signal that comes before the handlers stand ends a process as it ends any.
        self.until("the daemon is ready", Duration::from_secs(15), |_bed| daemon.log.has("daemon.ready")).await;
        daemon.signal(Signal::SIGTERM);
        let status = daemon.until_ended(Duration::from_secs(20)).await.expect("SIGTERM was not obeyed within 20 s");
        assert!(status.success(), "after SIGTERM: {status}");
    }

    pub(crate) fn simulator(&self, service: Service) -> &Simulator {
        match service {
            Service::Meta => self.graph_server.simulator(),
            Service::Aws => self.manager_server.simulator(),
        }
    }

    pub(crate) fn rule(&self, service: Service, rule: Rule) {
        self.simulator(service).add_rule(rule);
    }

    /// Waits until such a call is held.
    pub(crate) async fn held(&self, service: Service, call: &str) -> HeldCall {
        let held = self.simulator(service).wait_held(call, Duration::from_secs(25)).await;
        held.unwrap_or_else(|| panic!("no {call} was held"))
    }

    /// Lets everything that is held go on.
    pub(crate) fn release(&self) {
        self.graph_server.simulator().release_all();
        self.manager_server.simulator().release_all();
    }

    /// Ends all faults and lets everything go on.
    pub(crate) fn calm(&self) {
        self.graph_server.simulator().clear_rules();
        self.manager_server.simulator().clear_rules();
        self.release();
    }

    /// Waits until `holds`.
    pub(crate) async fn until(&self, what: &str, limit: Duration, holds: impl Fn(&Self) -> bool) {
        let begun = clock::boot();
        while !holds(self) {
            assert!(clock::boot().since(begun).unsigned_abs() < limit, "not within {limit:?}: {what}");
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// Waits until the record says something.
    pub(crate) async fn until_record(&self, what: &str, says: impl Fn(&Record) -> bool) {
        self.until(what, Duration::from_secs(25), |bed| bed.places.record().as_ref().is_some_and(&says)).await;
    }

    /// Waits until some daemon has logged such an event.
    pub(crate) async fn until_event(&self, event: &str) {
        self.until(&format!("the event {event}"), Duration::from_secs(25), |bed| bed.events().iter().any(|seen| seen["event"] == event))
            .await;
    }

    /// Runs a command as an operator does, and waits for its end: how it ended and what it said.
    pub(crate) async fn command(&self, arguments: &[&str]) -> (std::process::ExitStatus, String) {
        let log = self.story.add_log(arguments[0]);
        let mut process = Daemon::start(&self.config(1), arguments, &ENVIRONMENT, log.clone());
        let status = process.until_ended(Duration::from_secs(30)).await.expect("the command ends");
        tokio::time::sleep(Duration::from_millis(50)).await;
        (status, log.lines().join("\n"))
    }

    /// Runs a command that succeeds.
    pub(crate) async fn order(&self, arguments: &[&str]) {
        let (status, said) = self.command(arguments).await;
        assert!(status.success(), "{arguments:?}: {status}: {said}");
    }

    /// The folder of the sink's entry: with a loose mode the daemon refuses to write there, while its readers go on.
    pub(crate) fn loosen_sink(&self, loose: bool) {
        let mode = if loose { 0o777 } else { 0o700 };
        std::fs::set_permissions(self.folder.path().join("sink/bot"), std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Everything logged, in order of the daemons' starts.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.story.logs().iter().flat_map(Transcript::events).collect()
    }

    /// How many tokens were minted from others.
    pub(crate) fn mints(&self) -> usize {
        self.graph.state(self.clock.now()).tokens.iter().filter(|token| token.minted_from.is_some()).count()
    }

    /// Whether a token works.
    pub(crate) fn works(&self, fingerprint: &str) -> bool {
        self.graph.state(self.clock.now()).tokens.iter().any(|token| token.fingerprint == fingerprint && token.valid)
    }

    /// The token that consumers of the store read.
    pub(crate) fn current(&self) -> String {
        self.places.dump().and_then(|dump| dump.labelled(CURRENT).map(|version| version.fingerprint.clone())).unwrap_or_default()
    }

    /// The calls that one service saw and no consumer made.
    pub(crate) fn calls(&self, service: Service) -> Vec<evertoken::simulator::journal::Entry> {
        self.simulator(service).journal(0).into_iter().filter(|call| call.call != "phone_numbers").collect()
    }

    /// A person makes a token in Meta's business settings and puts it into the secret.
    pub(crate) fn put_by_person(&self) -> Issued {
        let issued = self.graph.issue(Graph::sample_token(), self.clock.now());
        self.manager.put_as_person(ENTRY, &issued.text, self.clock.now()).unwrap();
        issued
    }
}

/// Writes a file that only this user reads.
pub(crate) fn put(path: &Path, text: &str) {
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}
