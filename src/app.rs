//! The composition root: settings become apps, stores and workers. The only place that knows every type.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use secrecy::SecretString;

use crate::config::settings::{self, AUDIT_INTERVAL, Adopt, AppToken, EntryRef, TokenSettings};
use crate::config::{Environment, Settings};
use crate::daemon::fleet::{App, AppKeys, Fleet};
use crate::daemon::pace::Pace;
use crate::daemon::run::Blueprint;
use crate::daemon::veto::VetoFile;
use crate::daemon::worker::{Place, Worker};
use crate::graph::client::{AppTokenMode, CallObserver, GraphBase, GraphClient, GraphSettings, Transport};
use crate::ledger::{Ledger, Repair};
use crate::rotation::fault::FaultClass;
use crate::rotation::policy::Policy;
use crate::rotation::token::Fingerprint;
use crate::spool::{Spool, SpoolKey};
use crate::store::SecretStore;
use crate::telemetry::LogCounts;
use crate::telemetry::metrics::{Build, Metrics};

mod network;
mod secrets;
mod stores;

pub use network::network;
use network::{authorities, transport};
use secrets::{secret, secret_or_nothing, take_keys};
use stores::stores;

/// Who calls: shown to Meta and to AWS.
pub const USER_AGENT: &str = concat!("evertoken/", env!("CARGO_PKG_VERSION"));

/// Why the parts cannot be put together. Each names what to change.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A secret on this host cannot be read.
    #[error("[apps.{app}] {key}")]
    Secret {
        /// The app.
        app: String,
        /// Which secret.
        key: &'static str,
        /// Why.
        #[source]
        source: crate::config::secret_ref::SecretError,
    },
    /// The app's address cannot be called.
    #[error("[apps.{0}] graph_url or graph_version")]
    Graph(String, #[source] crate::graph::client::GraphBaseError),
    /// Calls to the provider cannot leave this host as configured.
    #[error("[network]")]
    Transport(#[source] crate::graph::client::TransportSettingsError),
    /// The file of own certificate authorities cannot be read.
    #[error("[network] ca_file {path}")]
    Authorities {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file store cannot be set up.
    #[error("[stores.{0}]")]
    FileStore(String, #[source] crate::store::file::FileStoreError),
    /// AWS cannot be called as configured.
    #[error("[network], for AWS")]
    Aws(#[source] crate::store::aws::AwsStoreError),
    /// The spool cannot be used.
    #[error("the state directory's spool")]
    Spool(#[source] crate::spool::SpoolError),
    /// The ledger cannot be used.
    #[error("the state directory's ledger")]
    Ledger(#[source] crate::ledger::LedgerError),
}

/// Puts the fleet's shared parts together in a state directory that the caller has locked; or, for whoever only looks, in one that is not
/// there, which makes nothing.
///
/// # Errors
/// When spool or ledger cannot be used.
pub fn fleet(settings: &Settings, state: &Path, log: &LogCounts) -> Result<Fleet, SetupError> {
    let metrics = Arc::new(Metrics::new(
        Build { version: env!("CARGO_PKG_VERSION"), revision: option_env!("EVERTOKEN_REVISION").unwrap_or("unknown") },
        log,
    ));
    let (ledger, repairs) = Ledger::open(state).map_err(SetupError::Ledger)?;
    for repair in repairs {
        match repair {
            Repair::Torn { .. } | Repair::Quarantined { .. } => tracing::warn!(event = "ledger.repaired", alert = true, "{repair}"),
            Repair::Broken { .. } => tracing::error!(
                event = "ledger.broken",
                alert = true,
                "{repair}. The rotations go on, and new rows are chained to the last one. To do: keep a copy of the ledger, then `evertoken audit verify`"
            ),
        }
    }
    let spool = Spool::open(state).map_err(SetupError::Spool)?;
    let pace = Pace::new(settings.pace.refreshes_per_second.unwrap_or(0.0), settings.pace.store_writes_per_second.unwrap_or(0.0));
    let fleet = Fleet::new(uuid::Uuid::new_v4().to_string(), spool, ledger, metrics, pace, VetoFile::new(state));
    fleet.size.store(settings.tokens.len(), std::sync::atomic::Ordering::Relaxed);
    Ok(fleet)
}

/// The parts that a configuration names.
pub struct Setup {
    settings: Settings,
    apps: BTreeMap<String, (Arc<App>, Arc<GraphClient>)>,
    stores: BTreeMap<String, Arc<dyn SecretStore>>,
    /// Apps whose secret lies in a store that could not be read; why.
    waiting: BTreeMap<String, String>,
}

/// What every setup of one process shares: the metrics, and the HTTP client of AWS once it is needed.
pub struct Shared {
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What systemd or the shell said of folders.
    pub environment: Environment,
}

impl Setup {
    /// Puts the parts together. `before` is the setup in force: apps that stay the same keep their clock and their calls, with the
    /// secret as it is read now, and slots that were sealed with the former one can still be opened.
    ///
    /// # Errors
    /// When a part cannot be set up as configured; nothing has changed then.
    pub async fn build(settings: Settings, before: Option<&Self>, shared: &Shared) -> Result<Self, SetupError> {
        let stores = stores(&settings, shared)?;
        let transport = transport(&settings)?;
        let mut apps = BTreeMap::new();
        let mut waiting = BTreeMap::new();
        for (name, app) in &settings.apps {
            let name = name.as_str().to_owned();
            let secret = match secret(&name, "secret", &app.secret, &stores, shared).await? {
                Ok(secret) => secret,
                Err(why) => {
                    tracing::error!(
                        event = "app.waiting",
                        alert = true,
                        app = name,
                        "the app's secret cannot be read, so its tokens are not looked after: {why}. It is tried again every half minute"
                    );
                    waiting.insert(name, why);
                    continue;
                }
            };
            let previous = match &app.secret_previous {
                Some(reference) => secret_or_nothing(&name, reference, &stores, shared).await?,
                None => None,
            };
            let known = before.and_then(|before| before.same_app(&name, app, &settings));
            let (fleet_app, client) = match known {
                Some(known) => known.clone(),
                None => new_app(&name, app, &secret, &transport, shared)?,
            };
            take_keys(&fleet_app, &client, secret, previous)?;
            apps.insert(name, (fleet_app, client));
        }
        Ok(Self { settings, apps, stores, waiting })
    }

    /// The configuration that this was made from.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// A configured store.
    #[must_use]
    pub fn store(&self, name: &str) -> Option<&Arc<dyn SecretStore>> {
        self.stores.get(name)
    }

    /// A configured app's calls.
    #[must_use]
    pub fn client(&self, name: &str) -> Option<&Arc<GraphClient>> {
        self.apps.get(name).map(|(_, client)| client)
    }

    /// Apps whose secret lies in a store that could not be read, and why.
    #[must_use]
    pub const fn unread_secrets(&self) -> &BTreeMap<String, String> {
        &self.waiting
    }

    /// The first app's clock, for what concerns all.
    #[must_use]
    pub fn any_app(&self) -> Option<&Arc<App>> {
        self.apps.values().next().map(|(app, _)| app)
    }

    fn same_app(&self, name: &str, app: &settings::App, settings: &Settings) -> Option<&(Arc<App>, Arc<GraphClient>)> {
        let same = self.settings.apps.get(name).is_some_and(|before| {
            before.id == app.id
                && before.graph_url == app.graph_url
                && before.graph_version == app.graph_version
                && before.app_token == app.app_token
        });
        self.apps.get(name).filter(|_| same && self.settings.network == settings.network)
    }

    fn place(&self, name: &EntryRef) -> Option<Place> {
        let store = self.stores.get(name.store.as_str())?.clone();
        Some(Place { name: name.store.as_str().to_owned(), store, entry: name.entry.clone() })
    }
}

impl Blueprint for Setup {
    fn tokens(&self) -> Vec<(String, String)> {
        let ready = self.settings.tokens.iter().filter(|(_, token)| self.apps.contains_key(token.app.as_str()));
        ready.map(|(name, token)| (name.as_str().to_owned(), token.app.as_str().to_owned())).collect()
    }

    fn worker(&self, name: &str, fleet: &Fleet) -> Option<Worker> {
        let token = self.settings.tokens.get(name)?;
        let (app, _) = self.apps.get(token.app.as_str())?;
        let place = self.place(&token.store)?;
        let sinks = token.sinks.iter().map(|sink| self.place(sink)).collect::<Option<Vec<_>>>()?;
        Some(Worker::new(policy(&self.settings, name, token)?, app.clone(), place, sinks, fleet))
    }

    fn digest(&self, name: &str) -> Option<String> {
        let token = self.settings.tokens.get(name)?;
        let app = self.settings.apps.get(&token.app)?;
        let stores: Vec<_> =
            std::iter::once(&token.store).chain(&token.sinks).map(|place| self.settings.stores.get(&place.store)).collect();
        // An app's secret is swapped without touching its tokens' workers; where it lies does not concern them.
        let app = (&app.id, &app.graph_url, &app.graph_version, app.app_token);
        let text = format!("{token:?} {app:?} {stores:?} {:?} {:?}", self.settings.network, policy(&self.settings, name, token));
        Some(Fingerprint::of(&text).whole())
    }

    fn waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

/// The policy of a token.
#[must_use]
pub fn policy(settings: &Settings, name: &str, token: &TokenSettings) -> Option<Policy> {
    let app = settings.app_of(token)?;
    Some(Policy {
        token: name.to_owned(),
        app_id: app.id.clone(),
        system_user_id: token.system_user_id.clone(),
        required_scopes: token.required_scopes.clone(),
        adopt_at_sight: token.adopt == Adopt::Auto,
        payload: token.payload.clone(),
        refresh_at: token.schedule.refresh_at,
        jitter: token.schedule.jitter,
        audit_interval: token.schedule.audit_interval.unwrap_or_else(|| stretched(settings.tokens_of(&token.app))),
        min_life: token.schedule.min_life,
        window: token.propagation.window,
        consumer_ttl: token.propagation.consumer_ttl,
        tick: settings.daemon.tick.longest_gap(),
        sinks: sink_names(token),
    })
}

/// Names of sinks as people see them: the store's, and the entry where a store is used twice.
fn sink_names(token: &TokenSettings) -> Vec<String> {
    token.sinks.iter().map(|sink| sink.store.as_str().to_owned()).collect()
}

/// The default audit interval of an app with that many tokens: its audits stay under 60 an hour, or one a token and day.
fn stretched(tokens: usize) -> SignedDuration {
    let minutes = i64::try_from(tokens).unwrap_or(i64::MAX).clamp(0, 24 * 60);
    AUDIT_INTERVAL.max(SignedDuration::from_mins(minutes))
}

/// Everything on this host that keeps the parts from being put together; no call is made.
#[must_use]
pub fn obstacles(settings: &Settings, environment: &Environment) -> Vec<SetupError> {
    let apps = settings.apps.iter().flat_map(|(name, app)| {
        let both = [("secret", Some(&app.secret)), ("secret_previous", app.secret_previous.as_ref())];
        let unread = both.into_iter().filter_map(|(key, reference)| {
            let source = reference?.resolve_local(environment).err()?;
            Some(SetupError::Secret { app: name.to_string(), key, source })
        });
        unread.chain(graph_base(name.as_str(), app).err()).collect::<Vec<_>>()
    });
    network(settings).err().into_iter().chain(stores::obstacles(settings)).chain(apps).collect()
}

fn new_app(
    name: &str,
    app: &settings::App,
    secret: &SecretString,
    transport: &Arc<Transport>,
    shared: &Shared,
) -> Result<(Arc<App>, Arc<GraphClient>), SetupError> {
    let base = graph_base(name, app)?;
    let app_token = match app.app_token {
        AppToken::Composed => AppTokenMode::Composed,
        AppToken::Fetched => AppTokenMode::Fetched,
    };
    let graph = GraphSettings { base, app_id: app.id.clone(), app_secret: secret.clone(), app_token };
    let client = Arc::new(GraphClient::new(graph, transport.clone()).observed_by(Arc::new(Counted(shared.metrics.clone()))));
    let keys = AppKeys { secret: secret.clone(), seal: SpoolKey::derive(secret).map_err(SetupError::Spool)?, open: Vec::new() };
    Ok((Arc::new(App::new(name.to_owned(), app.id.clone(), client.clone(), keys)), client))
}

fn graph_base(name: &str, app: &settings::App) -> Result<GraphBase, SetupError> {
    GraphBase::new(app.graph_url.as_str().trim_end_matches('/'), &app.graph_version)
        .map_err(|error| SetupError::Graph(name.to_owned(), error))
}

struct Counted(Arc<Metrics>);

impl CallObserver for Counted {
    fn called(&self, endpoint: &'static str, class: Option<FaultClass>, took: Duration) {
        self.0.meta_request(endpoint, class, took);
    }
}

/// What the operator asked of the log beside the configuration.
#[must_use]
pub fn rust_log() -> Option<String> {
    variable("RUST_LOG")
}

/// A variable of the environment, for what only concerns how text is laid out.
#[must_use]
pub fn variable(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "the composition root reads the environment")]
    std::env::var(name).ok()
}
