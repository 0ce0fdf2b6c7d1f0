//! `evertoken simulate`: both simulators on loopback, to rehearse against.

use std::net::SocketAddr;
use std::sync::Arc;

use clap::Args;
use jiff::SignedDuration;

use super::session::runtime;
use super::{Exit, Failure, chain, terminal};
use crate::simulator::graph::knobs::Knobs;
use crate::simulator::graph::{Graph, Issued, serve_on};
use crate::simulator::secrets_manager::SecretsManager;
use crate::simulator::server::{Running, start};
use crate::simulator::virtual_clock::VirtualClock;

/// The app of the simulated world.
pub(super) const APP_ID: &str = "1234567890";
/// Its secret.
pub(super) const APP_SECRET: &str = "app-secret-0123456789abcdef";
/// The system user of the simulated world.
pub(super) const SYSTEM_USER: &str = "10001";
/// The secret that holds the first token.
const SECRET: &str = "meta/whatsapp-bot";

/// What to simulate.
#[derive(Debug, Clone, Args)]
pub(super) struct Arguments {
    /// Where Meta's Graph API is served; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:9480", value_name = "ADDRESS")]
    graph: SocketAddr,
    /// Where AWS Secrets Manager is served; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:9481", value_name = "ADDRESS")]
    secrets_manager: SocketAddr,
    /// How long tokens live, such as 60d, 1h or 90s
    #[arg(long, default_value = "60d", value_parser = life, value_name = "DURATION")]
    token_life: SignedDuration,
    /// How fast the simulators' clock runs
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR")]
    rate: f64,
    /// The AWS region
    #[arg(long, default_value = "eu-west-1")]
    region: String,
}

fn life(text: &str) -> Result<SignedDuration, String> {
    let span: SignedDuration =
        text.parse().map_err(|_span: jiff::Error| "a duration such as 60d, 1h or 90s".to_owned()).or_else(|why| days(text).ok_or(why))?;
    if span < SignedDuration::from_secs(2) { Err("at least 2s".to_owned()) } else { Ok(span) }
}

/// Days are not of fixed length everywhere, so the library leaves them out; here a day has 24 hours.
fn days(text: &str) -> Option<SignedDuration> {
    let days: i64 = text.trim().strip_suffix('d')?.trim().parse().ok()?;
    days.checked_mul(24).map(SignedDuration::from_hours)
}

/// Both simulators, running.
pub(super) struct World {
    pub(super) graph: Arc<Graph>,
    pub(super) graph_server: Running,
    pub(super) manager_server: Running,
    pub(super) clock: Arc<VirtualClock>,
    pub(super) issued: Issued,
}

impl World {
    /// Starts both, with one app, one system user and one token, which also stands in a secret.
    pub(super) async fn start(
        graph: SocketAddr,
        manager: SocketAddr,
        region: &str,
        life: SignedDuration,
        age: SignedDuration,
    ) -> Result<Self, Failure> {
        let clock = Arc::new(VirtualClock::new());
        let service = Arc::new(Graph::sample(Knobs { token_life_s: life.as_secs(), ..Knobs::default() }));
        let graph_server = serve_on(service.clone(), clock.clone(), graph).await.map_err(|error| Failure::error(chain(&error)))?;
        let secrets = Arc::new(SecretsManager::new(region));
        let manager_server = start(secrets.clone(), clock.clone(), manager).await.map_err(|error| Failure::error(chain(&error)))?;
        let mut spec = Graph::sample_token();
        spec.age_s = age.as_secs();
        let issued = service.issue(spec, clock.now());
        secrets.create(SECRET, Some(&issued.text), clock.now()).map_err(|error| Failure::error(format!("{error:?}")))?;
        Ok(Self { graph: service, graph_server, manager_server, clock, issued })
    }
}

/// `evertoken simulate`.
pub(super) fn simulate(arguments: &Arguments) -> Result<Exit, Failure> {
    runtime()?.block_on(async {
        let world = World::start(arguments.graph, arguments.secrets_manager, &arguments.region, arguments.token_life, SignedDuration::ZERO);
        let world = world.await.map_err(|failure| {
            Failure::error(format!("{}. To do: give another address with --graph or --secrets-manager", failure.text))
        })?;
        world.clock.set_rate(arguments.rate);
        terminal::say(&introduction(&world, arguments));
        until_signal().await
    })
}

fn introduction(world: &World, arguments: &Arguments) -> String {
    let (graph, manager) = (world.graph_server.url(), world.manager_server.url());
    format!(
        "Meta Graph API      {graph}   (control: {graph}/_control/, see docs/simulator.md)
AWS Secrets Manager {manager}   (any credentials are taken)
tokens live {:#}, the clock runs at {} times the real one

A configuration for this world (the app's secret is {APP_SECRET}):

[apps.acme]
id = \"{APP_ID}\"
secret = {{ env = \"APP_SECRET\" }}
graph_url = \"{graph}\"

[stores.prod]
kind = \"aws-secrets-manager\"
region = \"{}\"
endpoint_url = \"{manager}\"

[tokens.whatsapp-bot]
app = \"acme\"
system_user_id = \"{SYSTEM_USER}\"
store = {{ name = \"prod\", entry = \"{SECRET}\" }}

And its environment:

export APP_SECRET={APP_SECRET}
export AWS_ACCESS_KEY_ID=rehearsal
export AWS_SECRET_ACCESS_KEY=rehearsal

The secret {SECRET} holds token {}. Ctrl-C ends.",
        arguments.token_life, arguments.rate, arguments.region, world.issued.fingerprint
    )
}

/// Until somebody ends it.
async fn until_signal() -> Result<Exit, Failure> {
    let failed = |error: std::io::Error| Failure::error(format!("signals cannot be handled: {error}"));
    let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM]).map_err(failed)?;
    let (ended, end) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _signal = signals.forever().next();
        ended.send(()).ok();
    });
    drop(end.await);
    Ok(Exit::Fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_written_as_in_the_configuration() {
        assert_eq!(life("60d"), Ok(SignedDuration::from_hours(1440)));
        assert_eq!(life("90s"), Ok(SignedDuration::from_secs(90)));
        assert_eq!(life("1h"), Ok(SignedDuration::from_hours(1)));
        assert!(life("1s").is_err() && life("soon").is_err());
    }
}
