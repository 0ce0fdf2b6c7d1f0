//! Who uses the tokens, and who watches.
//!
//! The consumer is what the product promises something to: it reads its token from the store or from the sink, keeps it for as long
//! as the configuration's `consumer_ttl` says, and calls the provider with it all the time. The watch looks ten times a second at both
//! simulators and at the sink at once, and judges what must hold at every instant. Simulators, consumer and watch share one thread,
//! so what the watch sees of both simulators is one state and no mixture.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use evertoken::clock;
use evertoken::graph::proof::appsecret_proof;
use evertoken::rotation::record::{Record, Stage};
use evertoken::rotation::time::Boot;
use evertoken::rotation::token::Token;
use evertoken::simulator::fault::fingerprint;
use evertoken::simulator::graph::Graph;
use evertoken::simulator::secrets_manager::{CURRENT, SecretDump, SecretsManager};
use evertoken::simulator::virtual_clock::VirtualClock;
use evertoken::spool::{SlotContent, Spool, SpoolKey};
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::bed::{ENTRY, SECRET, TOKEN};

/// How often the consumer calls and the watch looks.
const EVERY: Duration = Duration::from_millis(100);
/// How long a consumer keeps a token that it read: the `consumer_ttl` of the configuration.
const CONSUMER_TTL: SignedDuration = SignedDuration::from_millis(1000);

/// What consumers read, and from where.
#[derive(Clone)]
pub(crate) struct Places {
    pub(crate) manager: Arc<SecretsManager>,
    pub(crate) graph: Arc<Graph>,
    pub(crate) graph_addr: SocketAddr,
    pub(crate) clock: Arc<VirtualClock>,
    pub(crate) sink: Option<PathBuf>,
    pub(crate) state_dirs: Vec<PathBuf>,
}

impl Places {
    pub(crate) fn dump(&self) -> Option<SecretDump> {
        self.manager.dump(ENTRY, true, self.clock.now())
    }

    /// The token that each place gives its consumers: place and text.
    pub(crate) fn read(&self) -> Vec<(&'static str, Option<String>)> {
        let current = self.dump().and_then(|dump| dump.labelled(CURRENT).and_then(|version| version.value.clone()));
        let sink = self.sink.as_ref().map(|path| ("sink", std::fs::read_to_string(path).ok()));
        std::iter::once(("store", current)).chain(sink).collect()
    }

    /// The record with the highest number.
    pub(crate) fn record(&self) -> Option<Record> {
        records(&self.dump()?).into_values().next_back()
    }

    /// What lies in the spools of the daemons: fingerprints.
    pub(crate) fn spooled(&self) -> Vec<String> {
        let key = SpoolKey::derive(&SecretString::from(SECRET)).unwrap();
        let held = |dir: &PathBuf| match Spool::open(dir).ok()?.read(TOKEN, std::slice::from_ref(&key)).ok()? {
            SlotContent::Holds { text, .. } => Some(fingerprint(text.expose_secret())),
            SlotContent::Empty | SlotContent::Locked { .. } | SlotContent::Damaged { .. } => None,
        };
        self.state_dirs.iter().filter(|dir| dir.join("spool").exists()).filter_map(held).collect()
    }
}

/// Every record that the secret still holds, by number.
pub(crate) fn records(dump: &SecretDump) -> BTreeMap<u64, Record> {
    let parsed = dump.versions.iter().filter_map(|version| serde_json::from_str::<Record>(version.value.as_deref()?).ok());
    parsed.map(|record| (record.number, record)).collect()
}

/// What the watch found.
#[derive(Default)]
pub(crate) struct Found {
    /// O1: calls or places that failed, with the instant.
    pub(crate) outages: Vec<String>,
    /// O2 and O5.
    pub(crate) breaches: Vec<String>,
    /// When each token was last seen where consumers read.
    pub(crate) last_read: BTreeMap<String, Timestamp>,
    pub(crate) calls: u64,
}

pub(crate) type Watch = Rc<RefCell<Found>>;

/// Consumer and watch, for as long as the bed stands.
pub(crate) struct Watching(Vec<tokio::task::JoinHandle<()>>);

impl Watching {
    pub(crate) fn begin(places: &Places, found: &Watch) -> Self {
        let watch = tokio::task::spawn_local(look_for_ever(places.clone(), found.clone()));
        let consumer = tokio::task::spawn_local(call_for_ever(places.clone(), found.clone()));
        Self(vec![watch, consumer])
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

async fn look_for_ever(places: Places, found: Watch) {
    loop {
        look(&places, &mut found.borrow_mut());
        tokio::time::sleep(EVERY).await;
    }
}

/// One look at everything, at one instant.
fn look(places: &Places, found: &mut Found) {
    let read = places.read();
    let now = places.clock.now();
    let state = places.graph.state(now);
    for (place, text) in read {
        let Some(text) = text else {
            found.outages.push(format!("{now} {place} cannot be read"));
            continue;
        };
        let read = fingerprint(text.trim());
        if !state.tokens.iter().any(|token| token.fingerprint == read && token.valid) {
            found.outages.push(format!("{now} {place} holds {read}, which does not work"));
        }
        found.last_read.insert(read, now);
    }
    let Some(dump) = places.dump() else { return };
    let records = records(&dump);
    let mints = state.tokens.iter().filter(|token| token.minted_from.is_some()).count();
    let intents: BTreeSet<(&str, u32)> = records
        .values()
        .filter_map(|record| record.rotation.as_ref())
        .filter(|rotation| rotation.stage == Stage::Intent)
        .map(|rotation| (rotation.id.as_str(), rotation.attempt))
        .collect();
    if mints > intents.len() {
        found.breaches.push(format!("O5 {now}: {mints} mints, {} intents", intents.len()));
    }
    let known: BTreeSet<String> = dump.versions.iter().map(|version| version.fingerprint.clone()).chain(places.spooled()).collect();
    let loose: Vec<&str> = state
        .tokens
        .iter()
        .filter(|token| token.valid && !known.contains(&token.fingerprint))
        .map(|token| token.fingerprint.as_str())
        .collect();
    let rows = records.values().next_back().map_or(0, |record| {
        let open = record.rotation.as_ref().is_some_and(|rotation| rotation.stage == Stage::Intent);
        record.unaccounted.len() + usize::from(open)
    });
    if loose.len() > rows {
        found.breaches.push(format!("O2 {now}: {loose:?} live and nobody holds them; the record counts {rows}"));
    }
}

/// Calls with what the store gave and with what the sink gave, in turn; each is read again when its time is over.
async fn call_for_ever(places: Places, found: Watch) {
    let mut kept: Vec<(&'static str, Option<String>)> = Vec::new();
    let mut read: Option<Boot> = None;
    let mut turn = 0_usize;
    loop {
        if read.is_none_or(|read| clock::boot().since(read) >= CONSUMER_TTL) {
            (kept, read) = (places.read(), Some(clock::boot()));
        }
        if let Some((place, Some(text))) = kept.get(turn % kept.len().max(1)) {
            let answer = ask(places.graph_addr, text.trim()).await;
            let mut found = found.borrow_mut();
            found.calls += 1;
            if !answer.as_ref().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
                let said = answer.map_or_else(|error| error.to_string(), |answer| answer.lines().next().unwrap_or_default().to_owned());
                found.outages.push(format!("{} a call with {} from {place} failed: {said}", places.clock.now(), fingerprint(text.trim())));
            }
        }
        turn += 1;
        tokio::time::sleep(EVERY).await;
    }
}

/// A call as a WhatsApp bot makes it.
async fn ask(graph: SocketAddr, token: &str) -> std::io::Result<String> {
    let proof = Token::new(token).map(|token| appsecret_proof(&SecretString::from(SECRET), &token)).map_err(std::io::Error::other)?;
    let proof = proof.expose_secret();
    let mut stream = tokio::net::TcpStream::connect(graph).await?;
    let request = format!(
        "GET /v26.0/8001/phone_numbers?appsecret_proof={proof} HTTP/1.1\r\nHost: {graph}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
