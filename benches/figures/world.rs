//! Both simulators as a process of their own, steered over their control planes.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::process::pause;

pub(crate) const APP: &str = "1234567890";
pub(crate) const APP_SECRET: &str = "app-secret-0123456789abcdef";
pub(crate) const DAYS_60: i64 = 60 * 24 * 3600;
/// Silence after which nothing more is expected.
const QUIET: Duration = Duration::from_millis(1500);

/// The simulated world.
pub(crate) struct World {
    child: Child,
    pub(crate) graph: Server,
    pub(crate) manager: Server,
    pub(crate) tokens: Vec<Token>,
}

/// A token in the world: its user, its text, the secret that holds it.
pub(crate) struct Token {
    pub(crate) name: String,
    pub(crate) user: String,
    pub(crate) text: String,
    pub(crate) secret: String,
}

impl World {
    /// Starts the simulators with that many tokens, each of a user of its own and in a secret of its own.
    pub(crate) fn start(program: &Path, tokens: usize, life_s: i64, age_s: i64) -> Result<Self> {
        let mut child = Command::new(program)
            .args(["simulate", "--graph", "127.0.0.1:0", "--secrets-manager", "127.0.0.1:0"])
            .arg(format!("--token-life={life_s}s"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("no output of the simulators")?).lines();
        let mut url = |name: &str| -> Result<Server> {
            let line = lines.find(|line| line.as_ref().map_or(true, |line| line.starts_with(name))).context("no address")??;
            let url = line.split_whitespace().find(|word| word.starts_with("http://")).context("no address")?;
            Ok(Server { address: url.trim_start_matches("http://").to_owned(), seen: 0 })
        };
        let (graph, manager) = (url("Meta Graph API")?, url("AWS Secrets Manager")?);
        let mut world = Self { child, graph, manager, tokens: Vec::new() };
        world.manager.post("knobs", &json!({ "writes_per_second": null, "reads_per_second": null }))?;
        for number in 0..tokens {
            let token = world.token(number, age_s)?;
            world.tokens.push(token);
        }
        Ok(world)
    }

    fn token(&self, number: usize, age_s: i64) -> Result<Token> {
        let (name, user) = (format!("bot-{number}"), format!("{}", 20_000 + number));
        self.graph.post("users", &json!({ "id": user, "business": "7001", "installed": [APP], "assets": ["8001"] }))?;
        let scopes = ["business_management", "whatsapp_business_management", "whatsapp_business_messaging"];
        let issued = self.graph.post("tokens", &json!({ "app": APP, "user": user, "scopes": scopes, "age_s": age_s }))?;
        let text = issued["access_token"].as_str().context("no token was issued")?.to_owned();
        let secret = format!("meta/{name}");
        self.manager.post("create", &json!({ "secret": secret, "value": text }))?;
        Ok(Token { name, user, text, secret })
    }

    /// Waits until neither simulator has been called for a while; the calls until then, by kind.
    pub(crate) fn quiet(&mut self, within: Duration) -> Result<Calls> {
        let mut calls = self.calls()?;
        for _ in 0..within.as_millis().div_ceil(QUIET.as_millis()) {
            pause(QUIET);
            let more = self.calls()?;
            if more.is_empty() {
                return Ok(calls);
            }
            more.into_iter().for_each(|(kind, count)| *calls.entry(kind).or_default() += count);
        }
        bail!("the calls did not come to rest in {within:?}")
    }

    /// The calls since the last time this was asked, by kind.
    pub(crate) fn calls(&mut self) -> Result<Calls> {
        let mut calls = Calls::new();
        for server in [&mut self.graph, &mut self.manager] {
            for call in server.new_calls()? {
                *calls.entry(call).or_default() += 1;
            }
        }
        Ok(calls)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Calls by kind.
pub(crate) type Calls = BTreeMap<String, usize>;

/// One simulator.
pub(crate) struct Server {
    pub(crate) address: String,
    seen: u64,
}

impl Server {
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn new_calls(&mut self) -> Result<Vec<String>> {
        let answer = self.control("GET", &format!("journal?since={}", self.seen), "")?;
        let calls = answer["calls"].as_array().context("no journal")?;
        let first = calls.first().and_then(|call| call["seq"].as_u64());
        if first.is_some_and(|first| first != self.seen + 1) {
            bail!("the journal forgot calls before they were counted");
        }
        self.seen = calls.last().and_then(|call| call["seq"].as_u64()).unwrap_or(self.seen);
        Ok(calls.iter().filter_map(|call| call["call"].as_str().map(str::to_owned)).collect())
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.control("POST", path, &body.to_string())
    }

    fn control(&self, method: &str, path: &str, body: &str) -> Result<Value> {
        let mut stream = TcpStream::connect(&self.address)?;
        let head = format!("{method} /_control/{path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", self.address);
        write!(stream, "{head}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("a cut answer of the control plane")?;
        if !head.starts_with("HTTP/1.1 200") {
            bail!("{method} {path}: {body}");
        }
        Ok(serde_json::from_str(body)?)
    }
}
