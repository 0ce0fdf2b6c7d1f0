//! Verbs that change something: adopt, rotate, hold, release, breaker, ledger. Each shows what it is about to do and asks.

use std::path::Path;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use super::follow::{follow, tell_once, verdict};
use super::obstacle::{Obstacle, obstacle};
use super::session::{Alone, Purpose, Session, load, quiet_log, runtime};
use super::{Ask, Exit, Failure, Select, choice, terminal, token_file};
use crate::clock;
use crate::config::Environment;
use crate::daemon::control::OrderRequest;
use crate::daemon::control::client::ControlClient;
use crate::daemon::run::Blueprint as _;
use crate::daemon::wake::{Reply, Selector};
use crate::daemon::worker::{PassEnd, Worker};
use crate::rotation::command::Command;
use crate::rotation::health::{Phase, TokenStatus};
use crate::rotation::plan::Severity;
use crate::rotation::token::Token;

/// One order, in both of its forms.
#[derive(Clone)]
enum Order {
    Command(Command),
    Adopt { token: Option<SecretString>, create: bool },
}

/// `evertoken adopt`.
pub(super) fn adopt(config: &Path, select: &Select, file: Option<&Path>, create: bool, ask: Ask) -> Result<Exit, Failure> {
    if file.is_some() && (select.tokens.len() != 1 || select.tokens.iter().any(|name| name.contains(['*', '?']))) {
        return Err(Failure::usage("--token-file gives one token: name exactly one"));
    }
    let token = file.map(token_file::read).transpose()?;
    let question = match &token {
        None => "take over what the entry holds now".to_owned(),
        Some(token) => format!("put token {} into the entry, which must be empty, and take it over", token.fingerprint()),
    };
    let token = token.map(|token| SecretString::from(token.expose()));
    order(config, select, &Order::Adopt { token, create }, &question, false, ask)
}

/// `evertoken rotate`.
pub(super) fn rotate(config: &Path, select: &Select, wait: bool, ask: Ask) -> Result<Exit, Failure> {
    order(
        config,
        select,
        &Order::Command(Command::Rotate),
        "mint a new token, publish it, and revoke the old one after the window",
        wait,
        ask,
    )
}

/// `evertoken hold`.
pub(super) fn hold(config: &Path, select: &Select, why: String, ask: Ask) -> Result<Exit, Failure> {
    order(
        config,
        select,
        &Order::Command(Command::Hold { why }),
        "no refresh and no revoke until `evertoken release`; the token ends if that never comes",
        false,
        ask,
    )
}

/// `evertoken release`.
pub(super) fn release(config: &Path, select: &Select, ask: Ask) -> Result<Exit, Failure> {
    order(config, select, &Order::Command(Command::Release), "end hold and freeze, after a fresh look", false, ask)
}

/// `evertoken ledger close`.
pub(super) fn close_ledger(config: &Path, select: &Select, at: jiff::Timestamp, ask: Ask) -> Result<Exit, Failure> {
    let question =
        format!("close what is on the books about tokens lost before {at}: you say that all tokens of the user were revoked then");
    order(config, select, &Order::Command(Command::RevokedAll { at }), &question, false, ask)
}

/// `evertoken breaker close`.
pub(super) fn close_breaker(config: &Path, ask: Ask) -> Result<Exit, Failure> {
    let environment = Environment::of_process();
    let settings = load(config, &environment)?.settings;
    let log = quiet_log()?;
    if !agreed("allow revokes again, for the whole fleet, beginning with one", ask)? {
        return Ok(Exit::Fine);
    }
    runtime()?.block_on(async {
        match Session::open(Purpose::Act, settings, environment, &log.counts()).await? {
            Session::Daemon(client) => {
                let replies = client.order(OrderRequest::breaker_close()).await.map_err(|error| Failure::error(super::chain(&error)))?;
                Ok(report(&replies))
            }
            Session::Alone(alone) => {
                let was = alone.fleet.breaker(|breaker| {
                    let was = breaker.veto().cloned();
                    if was.is_some() {
                        breaker.close();
                    }
                    was
                });
                terminal::say(&was.map_or_else(
                    || "the breaker was closed already".to_owned(),
                    |veto| format!("closed; it was open since {}: {}", veto.at, veto.why),
                ));
                Ok(Exit::Fine)
            }
        }
    })
}

/// An order and the tokens that it is for.
struct Wanted<'a> {
    select: Selector,
    /// The id of the selected app, by which a status names it.
    app_id: Option<String>,
    /// The names in the configuration here.
    configured: Vec<String>,
    order: &'a Order,
    /// The order in words.
    what: &'a str,
    wait: bool,
    ask: Ask,
}

impl Wanted<'_> {
    /// The tokens that the order can have an effect on. Of the others it says why not, and how many they are.
    fn possible(&self, chosen: Vec<TokenStatus>) -> (Vec<TokenStatus>, usize) {
        let count = chosen.len();
        let rotate = matches!(self.order, Order::Command(Command::Rotate));
        let free = |token: &TokenStatus| match obstacle(token, clock::wall()).filter(|_| rotate) {
            None => true,
            // What is waited for is the end of a rotation, whoever asked for it.
            Some(Obstacle::UnderWay) if self.wait => true,
            Some(obstacle) => {
                terminal::complain(&format!("{}: not rotated: {}", token.name, obstacle.text(token)));
                false
            }
        };
        let free: Vec<TokenStatus> = chosen.into_iter().filter(free).collect();
        let kept = count - free.len();
        (free, kept)
    }
}

fn order(config: &Path, select: &Select, order: &Order, what: &str, wait: bool, ask: Ask) -> Result<Exit, Failure> {
    let environment = Environment::of_process();
    let settings = load(config, &environment)?.settings;
    let select = select.selector();
    if select == Selector::default() {
        return Err(Failure::usage("say which tokens: names (with * and ?), --all, --app or --phase"));
    }
    choice::known_app(&select, &settings)?;
    let app_id = select.app.as_deref().and_then(|app| settings.apps.get(app)).map(|app| app.id.clone());
    let configured = settings.tokens.keys().map(ToString::to_string).collect();
    let wanted = Wanted { select, app_id, configured, order, what, wait, ask };
    let log = quiet_log()?;
    runtime()?.block_on(async {
        match Session::open(Purpose::Act, settings, environment, &log.counts()).await? {
            Session::Daemon(client) => through_daemon(&client, &wanted).await,
            Session::Alone(alone) => by_ourselves(&alone, &wanted).await,
        }
    })
}

async fn through_daemon(client: &ControlClient, wanted: &Wanted<'_>) -> Result<Exit, Failure> {
    let failed = |error: crate::daemon::control::ControlError| Failure::error(super::chain(&error));
    let (chosen, kept) = wanted.possible(chosen(client, wanted).await?);
    if chosen.is_empty() && kept > 0 {
        return Ok(Exit::Attention);
    }
    show_plan(&chosen, wanted.what)?;
    if !agreed(&question(chosen.len()), wanted.ask)? {
        return Ok(Exit::Fine);
    }
    // By name, so that what was shown is what is ordered, whatever phase it is in by then.
    let names: Vec<String> = chosen.iter().map(|token| token.name.clone()).collect();
    let select = Selector { names: names.clone(), ..Selector::default() };
    let request = match wanted.order {
        Order::Command(command) => OrderRequest::command(command.clone(), select),
        Order::Adopt { token, create } => OrderRequest::adopt(token.clone(), *create, select),
    };
    let replies = client.order(request).await.map_err(failed)?;
    let exit = report(&replies);
    let exit = if kept > 0 && exit == Exit::Fine { Exit::Attention } else { exit };
    if !wanted.wait || exit == Exit::Error {
        return Ok(exit);
    }
    Ok(follow(client, &names).await?.max(exit))
}

/// The tokens that are meant, as the daemon sees them. A status names apps by their id.
async fn chosen(client: &ControlClient, wanted: &Wanted<'_>) -> Result<Vec<TokenStatus>, Failure> {
    let Wanted { select, app_id, configured, .. } = wanted;
    let document = client.status().await.map_err(|error| Failure::error(super::chain(&error)))?;
    choice::known(select, document.tokens.iter().map(|token| token.name.as_str()), configured.iter().map(String::as_str))?;
    let app = |token: &TokenStatus| select.app.clone().filter(|_| app_id.as_ref() == Some(&token.app_id)).unwrap_or_default();
    Ok(document.tokens.into_iter().filter(|token| select.selects(&token.name, &app(token), token.phase.name())).collect())
}

async fn by_ourselves(alone: &Alone, wanted: &Wanted<'_>) -> Result<Exit, Failure> {
    let Wanted { select, order, wait, .. } = wanted;
    let ready = alone.setup.tokens();
    choice::known(select, ready.iter().map(|(name, _)| name.as_str()), wanted.configured.iter().map(String::as_str))?;
    let mut workers = alone.workers(select);
    if select.phase.is_some() {
        for worker in &mut workers {
            worker.look(&alone.fleet).await;
        }
        workers.retain(|worker| select.selects(worker.name(), worker.app_name(), worker.phase().name()));
    }
    let mut statuses = Vec::new();
    for worker in &mut workers {
        statuses.push(worker.look(&alone.fleet).await);
    }
    let (statuses, kept) = wanted.possible(statuses);
    if statuses.is_empty() && kept > 0 {
        return Ok(Exit::Attention);
    }
    workers.retain(|worker| statuses.iter().any(|token| token.name == worker.name()));
    show_plan(&statuses, wanted.what)?;
    if !agreed(&question(workers.len()), wanted.ask)? {
        return Ok(Exit::Fine);
    }
    let mut replies = Vec::new();
    for worker in &mut workers {
        replies.push(obey(alone, worker, order, *wait).await);
    }
    let exit = report(&replies);
    Ok(if kept > 0 && exit == Exit::Fine { Exit::Attention } else { exit })
}

async fn obey(alone: &Alone, worker: &mut Worker, order: &Order, wait: bool) -> Reply {
    let outcome = match order {
        Order::Command(command @ Command::Rotate) => match worker.command(&alone.fleet, command).await {
            Ok(text) => {
                terminal::say(&format!("{}: {text}", worker.name()));
                Ok(carry(alone, worker, wait).await)
            }
            Err(text) => Err(text),
        },
        Order::Command(command) => worker.command(&alone.fleet, command).await,
        Order::Adopt { token, create } => match token.as_ref().map(|text| Token::new(text.expose_secret())).transpose() {
            Ok(token) => worker.adopt(&alone.fleet, token, *create).await,
            Err(error) => Err(error.to_string()),
        },
    };
    let (done, text) = match outcome {
        Ok(text) => (true, text),
        Err(text) => (false, text),
    };
    Reply { token: worker.name().to_owned(), done, text }
}

/// Alone, a rotation is carried until the new token is published everywhere; the rest is the daemon's, unless it is waited for.
async fn carry(alone: &Alone, worker: &mut Worker, wait: bool) -> String {
    let mut told = std::collections::BTreeMap::new();
    loop {
        let end: PassEnd = worker.pass(&alone.fleet).await;
        tell_once(&mut told, &end.status);
        let (ended, _) = verdict(&end.status);
        let published = end.status.phase == Phase::Propagating;
        if ended || end.why.severity > Severity::Calm {
            return end.why.text;
        }
        if published && !wait {
            return format!("the new token is in every place; the old one is revoked by the daemon ({})", end.why.text);
        }
        let pause = Duration::try_from(end.next.since(clock::boot())).unwrap_or(Duration::ZERO);
        tokio::time::sleep(pause.min(Duration::from_secs(5))).await;
    }
}

fn show_plan(chosen: &[TokenStatus], what: &str) -> Result<(), Failure> {
    if chosen.is_empty() {
        return Err(Failure::error("no token is in that state now, so nothing was changed: see `evertoken status`"));
    }
    let mut text = format!("{what}:\n");
    for token in chosen.iter().take(20) {
        let current =
            token.current.as_ref().map_or_else(|| "no token seen".to_owned(), |current| format!("current {}", current.fingerprint));
        text += &format!("  {}  {}, {current}\n", token.name, token.phase.name());
    }
    if chosen.len() > 20 {
        text += &format!("  ... and {} more\n", chosen.len() - 20);
    }
    terminal::complain(&text);
    Ok(())
}

fn question(count: usize) -> String {
    if count == 1 { "for this token".to_owned() } else { format!("for these {count} tokens") }
}

fn agreed(question: &str, ask: Ask) -> Result<bool, Failure> {
    if ask.dry_run {
        terminal::complain("dry run: nothing was changed");
        return Ok(false);
    }
    if ask.yes {
        return Ok(true);
    }
    match terminal::confirm(&format!("Go on, {question}?")) {
        Some(true) => Ok(true),
        Some(false) => {
            terminal::complain("nothing was changed");
            Ok(false)
        }
        None => Err(Failure::usage(
            "nobody can be asked here (standard input is no terminal): add --yes to go on, or --dry-run to only see the plan",
        )),
    }
}

fn report(replies: &[Reply]) -> Exit {
    let mut exit = Exit::Fine;
    for reply in replies {
        let name = if reply.token.is_empty() { String::new() } else { format!("{}: ", reply.token) };
        if reply.done {
            terminal::say(&format!("{name}{}", reply.text));
        } else {
            terminal::complain(&format!("{name}not done: {}", reply.text));
            exit = Exit::Error;
        }
    }
    exit
}
