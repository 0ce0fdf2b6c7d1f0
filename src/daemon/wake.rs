//! What wakes the loop. Ticks, signals and commands all come through one bounded channel; none of them carries state that a
//! decision would rest on (a command becomes a record before anything follows from it).

use std::fmt;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::rotation::command::Command;

/// Wakes that may queue up; a full queue makes a sender wait, except the bell, whose ring is dropped then.
pub const QUEUE: usize = 256;

/// One wake.
#[derive(Debug)]
pub enum Wake {
    /// The bell.
    Tick,
    /// SIGTERM or SIGINT: the second one ends the process at once.
    Stop,
    /// SIGHUP.
    Reload,
    /// A person's order, with where its answers go.
    Order(Order, oneshot::Sender<Vec<Reply>>),
}

/// The sending side.
pub type Waker = mpsc::Sender<Wake>;

/// What a person orders.
#[derive(Debug)]
pub struct Order {
    /// What.
    pub verb: Verb,
    /// To which tokens.
    pub select: Selector,
}

/// A verb that changes something.
#[derive(Debug, Clone)]
pub enum Verb {
    /// A command that becomes a record.
    Command(Command),
    /// Take the entry over, with the token to put into it where it is empty.
    Adopt {
        /// The token.
        token: Option<SecretString>,
        /// Whether a missing entry may be created.
        create: bool,
    },
    /// Close the fleet's breaker.
    CloseBreaker,
    /// Read the configuration again.
    Reload,
}

impl Verb {
    /// The stable name, for the log.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Command(Command::Rotate) => "rotate",
            Self::Command(Command::Hold { .. }) => "hold",
            Self::Command(Command::Release) => "release",
            Self::Command(Command::RevokedAll { .. }) => "ledger_close",
            Self::Adopt { .. } => "adopt",
            Self::CloseBreaker => "breaker_close",
            Self::Reload => "reload",
        }
    }
}

/// Which tokens are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selector {
    /// Names, with `*` and `?`.
    #[serde(default)]
    pub names: Vec<String>,
    /// All of them.
    #[serde(default)]
    pub all: bool,
    /// Those of an app, by its configured name.
    #[serde(default)]
    pub app: Option<String>,
    /// Those in a phase.
    #[serde(default)]
    pub phase: Option<String>,
}

/// As it is typed.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = self.names.clone();
        words.extend(self.all.then(|| "--all".to_owned()));
        words.extend(self.app.as_ref().map(|app| format!("--app {app}")));
        words.extend(self.phase.as_ref().map(|phase| format!("--phase {phase}")));
        f.write_str(&words.join(" "))
    }
}

/// The answer for one token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The token's name; empty for what concerns the daemon.
    pub token: String,
    /// Whether it was done.
    pub done: bool,
    /// What came of it.
    pub text: String,
}

impl Selector {
    /// Whether a token is meant: every given condition must hold, and at least one must be given.
    #[must_use]
    pub fn selects(&self, name: &str, app: &str, phase: &str) -> bool {
        let some = self.all || !self.names.is_empty() || self.app.is_some() || self.phase.is_some();
        some && (self.names.is_empty() || self.names.iter().any(|pattern| matches(pattern, name)))
            && self.app.as_deref().is_none_or(|wanted| wanted == app)
            && self.phase.as_deref().is_none_or(|wanted| wanted == phase)
    }
}

/// Shell-like matching with `*` and `?`.
#[must_use]
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // For each prefix of the pattern, which prefixes of the name it matches: small, and never exponential.
    let mut reach = vec![false; name.len() + 1];
    if let Some(first) = reach.first_mut() {
        *first = true;
    }
    for symbol in pattern {
        let before = reach.clone();
        let mut any_before = false;
        for (place, slot) in reach.iter_mut().enumerate() {
            let stepped = place > 0 && before.get(place - 1).copied().unwrap_or(false);
            any_before |= before.get(place).copied().unwrap_or(false);
            *slot = match symbol {
                '*' => any_before,
                '?' => stepped,
                letter => stepped && name.get(place - 1) == Some(&letter),
            };
        }
    }
    reach.last().copied().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_like_a_shells() {
        for (pattern, name, fits) in [
            ("bot", "bot", true),
            ("b*", "bot", true),
            ("*", "", true),
            ("b?t", "bot", true),
            ("b?", "bot", false),
            ("*o*t", "foo-bot", true),
            ("bot*x", "bot", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn a_selector_is_told_as_it_is_typed() {
        let narrow = Selector { names: vec!["b*".into(), "ads".into()], app: Some("acme".into()), ..Selector::default() };
        assert_eq!(narrow.to_string(), "b* ads --app acme");
        let all = Selector { all: true, phase: Some("rest".into()), ..Selector::default() };
        assert_eq!(all.to_string(), "--all --phase rest");
    }

    #[test]
    fn conditions_add_up_and_none_selects_nothing() {
        let all = Selector { all: true, ..Selector::default() };
        assert!(all.selects("bot", "acme", "rest"));
        assert!(!Selector::default().selects("bot", "acme", "rest"));
        let narrow = Selector { names: vec!["b*".into()], app: Some("acme".into()), ..Selector::default() };
        assert!(narrow.selects("bot", "acme", "rest") && !narrow.selects("bot", "other", "rest") && !narrow.selects("ads", "acme", "rest"));
    }
}
