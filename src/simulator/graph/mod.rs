//! A strict Meta Graph API, as far as the life of a system user token goes.
//!
//! It is the second reading of Meta's pages beside the client's own: exact checks in Graph's order, exact texts, state that one can
//! ask for ("which tokens work now, who used them last?"), and a list of [`violations`] of good conduct that tests expect to be
//! empty. Where Meta says nothing, a default is guessed; each such place is marked `GUESS(Gn)` and listed in docs/simulator.md.

mod auth;
mod calls;
mod control;
mod dress;
mod errors;
pub mod knobs;
pub mod state;
pub mod violations;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::Method;
use jiff::Timestamp;
use serde_json::Value;

use self::calls::{Call, serve, served_version};
use self::knobs::Knobs;
use self::state::{App, Business, SystemUser, TokenSpec, TokenState, World};
use self::violations::{Violation, app_of, judge_call, note_throttle};
use super::journal::{Entry, Outcome};
use super::server::{Running, StartError, start};
use super::service::{ControlError, Request, Response, Service};
use super::virtual_clock::VirtualClock;
pub use control::{State, TokenView};

/// The simulated Graph. Its methods are the in-process half of what `/_control/` offers.
#[derive(Debug, Default)]
pub struct Graph {
    world: Mutex<World>,
}

/// A token that was issued by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The token itself.
    pub text: String,
    /// The first 16 hex digits of its SHA-256.
    pub fingerprint: String,
}

/// Serves `graph` on `listen` (port 0 for a free one), on the current tokio runtime, until the result is dropped.
///
/// # Errors
/// When the address is not on loopback, or cannot be bound.
pub async fn serve_on(graph: Arc<Graph>, clock: Arc<VirtualClock>, listen: SocketAddr) -> Result<Running, StartError> {
    start(graph, clock, listen).await
}

impl Graph {
    /// An empty world.
    #[must_use]
    pub fn new(knobs: Knobs) -> Self {
        let graph = Self::default();
        graph.set_knobs(|old| *old = knobs);
        graph
    }

    /// A world for rehearsals and tests: business `7001`, app `1234567890` with secret `app-secret-0123456789abcdef`, admin system
    /// user `10000`, system user `10001` with the app installed and WhatsApp account `8001` (phone `9001`). No token yet.
    #[must_use]
    pub fn sample(knobs: Knobs) -> Self {
        let graph = Self::new(knobs);
        let accounts = [("8001".to_owned(), vec!["9001".to_owned()])].into();
        graph.add_business(Business { id: "7001".into(), requires_expiring: false, full_tier: true, whatsapp_accounts: accounts });
        graph.add_app(App {
            id: "1234567890".into(),
            secret: "app-secret-0123456789abcdef".into(),
            name: "Acme".into(),
            business: "7001".into(),
            require_proof: true,
            status: state::AppStatus::Ok,
            address_refused: false,
        });
        for (id, name, admin) in [("10000", "Keeper", true), ("10001", "Bot", false)] {
            graph.add_system_user(SystemUser {
                id: id.into(),
                name: name.into(),
                business: "7001".into(),
                admin,
                installed: ["1234567890".to_owned()].into(),
                assets: ["8001".to_owned()].into(),
            });
        }
        graph
    }

    /// What [`Graph::sample`]'s user `10001` may be issued: WhatsApp scopes, one of them for one account only.
    #[must_use]
    pub fn sample_token() -> TokenSpec {
        TokenSpec {
            app: "1234567890".into(),
            user: Some("10001".into()),
            scopes: ["business_management", "whatsapp_business_management", "whatsapp_business_messaging"].map(str::to_owned).to_vec(),
            granular: [("whatsapp_business_management".to_owned(), vec!["8001".to_owned()])].into(),
            ..TokenSpec::default()
        }
    }

    /// Adds a business, or replaces the one with its id.
    pub fn add_business(&self, business: Business) {
        self.change(|world| drop(world.businesses.insert(business.id.clone(), business)));
    }

    /// Adds an app, or replaces the one with its id. GUESS(G18): tokens outlive a change of their app's secret; proofs, app tokens
    /// and client secrets do not.
    pub fn add_app(&self, app: App) {
        self.change(|world| {
            // App tokens that were fetched with an older secret die with it.
            let changed = world.apps.get(&app.id).is_some_and(|old| old.secret != app.secret);
            for token in world.tokens.iter_mut().filter(|token| changed && token.app == app.id && token.kind == state::TokenKind::App) {
                token.state = TokenState::Revoked;
            }
            world.apps.insert(app.id.clone(), app);
        });
    }

    /// Adds a system user, or replaces the one with its id.
    pub fn add_system_user(&self, user: SystemUser) {
        self.change(|world| drop(world.users.insert(user.id.clone(), user)));
    }

    /// Issues a token as if a person had.
    pub fn issue(&self, spec: TokenSpec, now: Timestamp) -> Issued {
        self.change(|world| {
            let at = world.issue(spec, now);
            let token = &world.tokens[at];
            Issued { text: token.text.clone(), fingerprint: token.fingerprint.clone() }
        })
    }

    /// Sets the state of a token from outside; false when there is none of that fingerprint.
    pub fn set_token_state(&self, fingerprint: &str, state: TokenState) -> bool {
        self.change(|world| {
            let Some(at) = world.find_by_fingerprint(fingerprint) else { return false };
            world.tokens[at].state = state;
            world.tokens[at].revoked_from = None;
            true
        })
    }

    /// Sets the state of all tokens of a user from outside, and says of how many.
    pub fn set_token_states(&self, user: &str, state: TokenState) -> usize {
        let fingerprints: Vec<String> = {
            let world = self.lock();
            world.tokens.iter().filter(|token| token.user.as_deref() == Some(user)).map(|token| token.fingerprint.clone()).collect()
        };
        fingerprints.iter().filter(|fingerprint| self.set_token_state(fingerprint, state)).count()
    }

    /// Changes knobs.
    pub fn set_knobs(&self, change: impl FnOnce(&mut Knobs)) {
        self.change(|world| change(&mut world.knobs));
    }

    /// The knobs as they stand; counted refusals show what is left of them.
    #[must_use]
    pub fn knobs(&self) -> Knobs {
        self.lock().knobs.clone()
    }

    /// What clients did and must not do, oldest first.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        self.lock().violations.clone()
    }

    /// Every token and what became of it, as of `now`.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> State {
        State::of(&self.lock(), now)
    }

    /// The text of a token, for tests that look for leaks.
    #[must_use]
    pub fn token_text(&self, fingerprint: &str) -> Option<String> {
        let world = self.lock();
        world.find_by_fingerprint(fingerprint).map(|at| world.tokens[at].text.clone())
    }

    fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let mut world = self.lock();
        world.revision += 1;
        change(&mut world)
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl World {
    /// Notes a successful use of a token.
    fn touch(&mut self, at: usize, now: Timestamp, by_consumer: bool) {
        let token = &mut self.tokens[at];
        token.uses += 1;
        token.last_use = Some(now);
        token.consumer_uses += u64::from(by_consumer);
    }

    /// The business of a token's user.
    fn business_of(&self, at: usize) -> Option<&str> {
        let user = self.tokens.get(at)?.user.as_ref()?;
        self.users.get(user).map(|user| user.business.as_str())
    }
}

impl Service for Graph {
    fn call_name(&self, request: &Request) -> String {
        Call::read(request, &self.lock().knobs, Timestamp::UNIX_EPOCH).name.to_owned()
    }

    fn parameter(&self, request: &Request, name: &str) -> Option<String> {
        let call = Call::read(request, &self.lock().knobs, Timestamp::UNIX_EPOCH);
        if name == "access_token" { call.token() } else { call.param(name) }.map(str::to_owned)
    }

    fn received(&self, request: &Request, now: Timestamp) {
        let mut world = self.lock();
        let call = Call::read(request, &world.knobs, now);
        judge_call(&mut world, &call);
    }

    fn answer(&self, request: &Request, now: Timestamp) -> Response {
        let mut world = self.lock();
        let call = Call::read(request, &world.knobs, now);
        serve(&mut world, &call).unwrap_or_else(|error| error.response(&world.knobs, call.token()))
    }

    fn dress(&self, request: &Request, response: &mut Response, now: Timestamp) {
        let mut world = self.lock();
        let call = Call::read(request, &world.knobs, now);
        let version = served_version(&world.knobs, call.version.as_deref()).unwrap_or_else(|_| world.knobs.version.floor.clone());
        dress::dress(&world.knobs, &version, response, now);
        let app = app_of(&world, &call);
        note_throttle(&mut world, app, response, now);
    }

    fn settled(&self, entry: &Entry) {
        let whole = entry.outcome == Outcome::Answered && entry.faults.iter().all(|fault| !matches!(fault.kind, "reply" | "endless"));
        let minted = entry.notes.get("minted").and_then(Value::as_str).filter(|_| whole);
        let mut world = self.lock();
        if let Some(at) = minted.and_then(|minted| world.find_by_fingerprint(minted)) {
            world.tokens[at].delivered = true;
        }
    }

    fn control(&self, method: &Method, path: &str, body: &Value, now: Timestamp) -> Result<Value, ControlError> {
        control::serve(self, method, path, body, now)
    }
}
