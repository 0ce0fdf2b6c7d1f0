//! One token, its store, a sink and both simulators in one process: the worker's own code over real sockets.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use evertoken::clock;
use evertoken::daemon::fleet::{App, AppKeys, Fleet};
use evertoken::daemon::pace::Pace;
use evertoken::daemon::veto::VetoFile;
use evertoken::daemon::worker::{PassEnd, Place, Worker};
use evertoken::graph::client::{AppTokenMode, GraphBase, GraphClient, GraphSettings, Transport, TransportSettings};
use evertoken::ledger::Ledger;
use evertoken::rotation::payload::PayloadRule;
use evertoken::rotation::policy::Policy;
use evertoken::simulator::graph::knobs::Knobs;
use evertoken::simulator::graph::{Graph, serve_on};
use evertoken::simulator::secrets_manager::SecretsManager;
use evertoken::simulator::server::{Running, start};
use evertoken::simulator::virtual_clock::VirtualClock;
use evertoken::spool::{Spool, SpoolKey};
use evertoken::store::SecretStore;
use evertoken::store::aws::{AwsHttp, AwsSettings, AwsStore, FixedKey};
use evertoken::store::file::FileStore;
use evertoken::telemetry::LogCounts;
use evertoken::telemetry::metrics::{Build, Metrics};
use jiff::SignedDuration;
use secrecy::SecretString;

pub(crate) const SECRET: &str = "app-secret-0123456789abcdef";

pub(crate) struct Rig {
    pub(crate) graph: Arc<Graph>,
    pub(crate) graph_server: Running,
    pub(crate) manager: Arc<SecretsManager>,
    pub(crate) manager_server: Running,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) store: Arc<dyn SecretStore>,
    pub(crate) sink: Arc<dyn SecretStore>,
    pub(crate) policy: Policy,
    pub(crate) old: String,
    app: Arc<App>,
}

/// Where the token is managed.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Aws,
    File,
}

pub(crate) const ENTRY: &str = "meta/bot";

impl Rig {
    pub(crate) async fn new(kind: Kind, life_s: i64) -> Self {
        let clock = Arc::new(VirtualClock::new());
        let graph = Arc::new(Graph::sample(Knobs { token_life_s: life_s, ..Knobs::default() }));
        let graph_server = serve_on(graph.clone(), clock.clone(), SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let manager = Arc::new(SecretsManager::new("eu-west-1"));
        manager.turn(|knobs| knobs.writes_per_second = None);
        let manager_server = start(manager.clone(), clock.clone(), SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let old = graph.issue(Graph::sample_token(), clock.now());
        let file = |name: &str| Arc::new(FileStore::new(&folder.path().join(name), 0o600, None).unwrap());
        std::fs::create_dir(folder.path().join("store")).unwrap();
        std::fs::create_dir(folder.path().join("sink")).unwrap();
        let key = FixedKey { id: "AKIAEMULATOR".to_owned(), secret: SecretString::from("secret") };
        let settings = AwsSettings {
            region: Some("eu-west-1".to_owned()),
            endpoint_url: Some(manager_server.url()),
            fixed_key: Some(key),
            ..AwsSettings::default()
        };
        let aws = Arc::new(AwsStore::new(settings, &AwsHttp::new(None, None).unwrap()));
        // As people paste it: with a line end, which is not the token's.
        manager.create(ENTRY, Some(&format!("{}\n", old.text)), clock.now()).unwrap();
        let store: Arc<dyn SecretStore> = if kind == Kind::Aws { aws } else { file("store") };
        if kind == Kind::File {
            let payload = evertoken::rotation::payload::Payload::new(old.text.clone());
            store.install(ENTRY, &payload, true).await.unwrap();
        }
        let transport = Transport::new(TransportSettings { user_agent: "test".into(), ..TransportSettings::default() }).unwrap();
        let client = GraphClient::new(
            GraphSettings {
                base: GraphBase::new(&graph_server.url(), "v26.0").unwrap(),
                app_id: "1234567890".into(),
                app_secret: SecretString::from(SECRET),
                app_token: AppTokenMode::Composed,
            },
            transport,
        );
        let secret = SecretString::from(SECRET);
        let keys = AppKeys { seal: SpoolKey::derive(&secret).unwrap(), open: Vec::new(), secret };
        let app = Arc::new(App::new("acme".into(), "1234567890".into(), Arc::new(client), keys));
        let policy = Policy {
            token: "bot".into(),
            app_id: "1234567890".into(),
            system_user_id: "10001".into(),
            required_scopes: Some(BTreeSet::from(["business_management".to_owned()])),
            adopt_at_sight: true,
            payload: PayloadRule::Raw,
            refresh_at: 0.5,
            jitter: 0.1,
            audit_interval: SignedDuration::from_hours(1),
            min_life: SignedDuration::from_hours(7 * 24),
            window: SignedDuration::from_secs(2),
            consumer_ttl: SignedDuration::from_secs(1),
            tick: SignedDuration::from_secs(1),
            sinks: vec!["disk".into()],
        };
        let sink = file("sink");
        Self { graph, graph_server, manager, manager_server, folder, store, sink, policy, old: old.fingerprint, app }
    }

    pub(crate) fn fleet(&self) -> Fleet {
        let state = self.folder.path().join("state");
        std::fs::create_dir_all(&state).unwrap();
        let metrics = Arc::new(Metrics::new(Build { version: "0", revision: "0" }, &LogCounts::default()));
        let fleet = Fleet::new(
            uuid::Uuid::new_v4().to_string(),
            Spool::open(&state).unwrap(),
            Ledger::open(&state).unwrap().0,
            metrics,
            Pace::new(0.0, 0.0),
            VetoFile::new(&state),
        );
        fleet.size.store(1, std::sync::atomic::Ordering::Relaxed);
        fleet
    }

    pub(crate) fn worker(&self, fleet: &Fleet) -> Worker {
        let place = |name: &str, store: &Arc<dyn SecretStore>| Place { name: name.into(), store: store.clone(), entry: ENTRY.into() };
        Worker::new(self.policy.clone(), self.app.clone(), place("prod", &self.store), vec![place("disk", &self.sink)], fleet)
    }

    /// Runs passes at the times that they ask for until `done`, at most `within`.
    pub(crate) async fn run(
        &self,
        worker: &mut Worker,
        fleet: &Fleet,
        within: Duration,
        mut done: impl FnMut(&PassEnd) -> bool,
    ) -> PassEnd {
        let begun = clock::boot();
        loop {
            let end = worker.pass(fleet).await;
            if done(&end) {
                return end;
            }
            let passed = clock::boot().since(begun);
            assert!(passed.unsigned_abs() < within, "not done after {passed:?}: {:#?}\n{:#?}", end.status, worker.evidence());
            let wait = end.next.since(clock::boot()).max(SignedDuration::ZERO).min(SignedDuration::from_secs(1));
            tokio::time::sleep(wait.unsigned_abs()).await;
        }
    }

    /// Tokens that work now, by fingerprint.
    pub(crate) fn alive(&self) -> Vec<String> {
        let state = serde_json::to_value(self.graph.state(self.graph_server.simulator().clock().now())).unwrap();
        state["tokens"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|token| token["valid"].as_bool().unwrap_or(false) && token["user"] == "10001")
            .map(|token| token["fingerprint"].as_str().unwrap().to_owned())
            .collect()
    }

    pub(crate) fn sink_text(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("sink").join(ENTRY).join("token")).unwrap()
    }
}
