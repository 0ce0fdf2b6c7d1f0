//! The control socket: how a person at this host orders something of the running daemon.
//!
//! HTTP/1.1 over a Unix socket. `POST /v1/orders` takes an [`OrderRequest`] and answers `{"replies": [...]}` once all is done; every other
//! path is what [`crate::admin`] serves. An order only wakes the loop, which turns it into a record before anything follows from it;
//! a client that goes away does not call it back. Only the daemon's own user and root get in: the socket has mode 0600, and the
//! kernel says who the other side is, whatever a mode or a folder allowed.
//!
//! [`server`] is the daemon's side, [`client`] that of the commands.

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::wake::{Order, Reply, Selector, Verb};
use crate::rotation::command::Command;

pub mod client;
pub mod server;

pub use client::ControlError;

/// Where orders go.
const ORDERS: &str = "/v1/orders";
/// Longest request body; a token has 16 KiB at most.
const BODY_MAX: usize = 64 * 1024;

/// What is ordered, on the wire.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderRequest {
    verb: OrderVerb,
    /// Of `hold`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// Of `adopt`.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "exposed", deserialize_with = "kept")]
    token: Option<SecretString>,
    /// Of `adopt`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    create: bool,
    /// Of `ledger_close`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<Timestamp>,
    #[serde(default)]
    select: Selector,
}

/// What can be ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OrderVerb {
    Rotate,
    Hold,
    Release,
    Adopt,
    BreakerClose,
    LedgerClose,
    Reload,
}

/// The answer to an order.
#[derive(Debug, Serialize, Deserialize)]
struct Replies {
    replies: Vec<Reply>,
}

/// The answer to an order that was not understood or not taken.
#[derive(Debug, Serialize, Deserialize)]
struct Refusal {
    error: String,
}

impl OrderRequest {
    /// A command to the selected tokens.
    #[must_use]
    pub fn command(command: Command, select: Selector) -> Self {
        let bare = |verb| Self { select: select.clone(), ..Self::bare(verb) };
        match command {
            Command::Rotate => bare(OrderVerb::Rotate),
            Command::Hold { why } => Self { why: Some(why), ..bare(OrderVerb::Hold) },
            Command::Release => bare(OrderVerb::Release),
            Command::RevokedAll { at } => Self { at: Some(at), ..bare(OrderVerb::LedgerClose) },
        }
    }

    /// Take the selected entries over; with a token, put it into the one selected entry first.
    #[must_use]
    pub fn adopt(token: Option<SecretString>, create: bool, select: Selector) -> Self {
        Self { token, create, select, ..Self::bare(OrderVerb::Adopt) }
    }

    /// Close the fleet's breaker.
    #[must_use]
    pub fn breaker_close() -> Self {
        Self::bare(OrderVerb::BreakerClose)
    }

    /// Read the configuration again.
    #[must_use]
    pub fn reload() -> Self {
        Self::bare(OrderVerb::Reload)
    }

    fn bare(verb: OrderVerb) -> Self {
        Self { verb, why: None, token: None, create: false, at: None, select: Selector::default() }
    }

    /// The order that it stands for, or what is wrong with it.
    fn order(self) -> Result<Order, &'static str> {
        let Self { verb, why, token, create, at, select } = self;
        let adopts = verb == OrderVerb::Adopt;
        if why.is_some() != (verb == OrderVerb::Hold) {
            return Err("`why` goes with hold, and hold needs it");
        }
        if at.is_some() != (verb == OrderVerb::LedgerClose) {
            return Err("`at` goes with ledger_close, which needs it");
        }
        if !adopts && (token.is_some() || create) {
            return Err("`token` and `create` go with adopt only");
        }
        if token.is_some() && !names_one(&select) {
            return Err("one token goes into one entry: select exactly one, by its full name");
        }
        let concerns_tokens = !matches!(verb, OrderVerb::BreakerClose | OrderVerb::Reload);
        if concerns_tokens && select == Selector::default() {
            return Err("no token is selected: give names, all, app or phase");
        }
        let verb = match (verb, why, at) {
            (OrderVerb::Hold, why, _) => Verb::Command(Command::Hold { why: why.unwrap_or_default() }),
            (OrderVerb::LedgerClose, _, Some(at)) => Verb::Command(Command::RevokedAll { at }),
            (OrderVerb::LedgerClose, _, None) => return Err("`at` goes with ledger_close, which needs it"),
            (OrderVerb::Rotate, ..) => Verb::Command(Command::Rotate),
            (OrderVerb::Release, ..) => Verb::Command(Command::Release),
            (OrderVerb::Adopt, ..) => Verb::Adopt { token, create },
            (OrderVerb::BreakerClose, ..) => Verb::CloseBreaker,
            (OrderVerb::Reload, ..) => Verb::Reload,
        };
        Ok(Order { verb, select })
    }
}

fn names_one(select: &Selector) -> bool {
    let [name] = select.names.as_slice() else { return false };
    !select.all && !name.contains(['*', '?'])
}

/// The one place where a token is written out: from the command that read it, to the daemon that installs it, over the socket.
fn exposed<S: Serializer>(token: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    token.as_ref().map(|token| token.expose_secret()).serialize(serializer)
}

fn kept<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(SecretString::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one() -> Selector {
        Selector { names: vec!["bot".into()], ..Selector::default() }
    }

    fn over_the_wire(request: &OrderRequest) -> OrderRequest {
        serde_json::from_slice(&serde_json::to_vec(request).unwrap()).unwrap()
    }

    #[test]
    fn every_order_arrives_as_it_was_given() {
        let at = Timestamp::UNIX_EPOCH;
        for command in [Command::Rotate, Command::Hold { why: "audit".into() }, Command::Release, Command::RevokedAll { at }] {
            let order = over_the_wire(&OrderRequest::command(command.clone(), one())).order().unwrap();
            assert!(matches!(&order.verb, Verb::Command(there) if *there == command) && order.select == one(), "{order:?}");
        }
        let adopt = over_the_wire(&OrderRequest::adopt(Some("EAAB-token".into()), true, one()));
        assert!(!format!("{adopt:?}").contains("EAAB"), "{adopt:?}");
        let Verb::Adopt { token: Some(token), create: true } = adopt.order().unwrap().verb else { panic!() };
        assert_eq!(token.expose_secret(), "EAAB-token");
        assert!(matches!(over_the_wire(&OrderRequest::breaker_close()).order().unwrap().verb, Verb::CloseBreaker));
        assert!(matches!(over_the_wire(&OrderRequest::reload()).order().unwrap().verb, Verb::Reload));
    }

    #[test]
    fn an_order_that_makes_no_sense_is_refused_whole() {
        for text in [
            r#"{"verb":"rotate"}"#,
            r#"{"verb":"rotate","why":"x","select":{"all":true}}"#,
            r#"{"verb":"hold","select":{"all":true}}"#,
            r#"{"verb":"release","token":"t","select":{"names":["bot"]}}"#,
            r#"{"verb":"reload","create":true}"#,
            r#"{"verb":"ledger_close","select":{"all":true}}"#,
            r#"{"verb":"adopt","token":"t","select":{"all":true}}"#,
            r#"{"verb":"adopt","token":"t","select":{"names":["a","b"]}}"#,
            r#"{"verb":"adopt","token":"t","select":{"names":["b*"]}}"#,
        ] {
            let request: OrderRequest = serde_json::from_str(text).unwrap();
            assert!(request.order().is_err(), "{text}");
        }
        assert!(serde_json::from_str::<OrderRequest>(r#"{"verb":"rotate","selekt":{}}"#).is_err());
    }
}
