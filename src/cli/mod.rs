//! The command line: one file for each family of verbs. Verbs print and ask; they never decide.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

mod audit;
mod bar;
mod change;
mod check;
mod choice;
mod conventional;
mod demo;
pub mod explain;
mod follow;
pub mod history;
mod layout;
mod meaning;
mod obstacle;
mod run;
mod session;
mod show;
mod simulate;
pub mod status;
mod table;
mod terminal;
mod token_file;

pub use layout::TableOptions;

use crate::ledger::{ChainHash, Demand};

/// Where the configuration is unless said otherwise.
pub const DEFAULT_CONFIG: &str = "/etc/evertoken/evertoken.toml";

/// How a command ended; the process's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// Fine.
    Fine = 0,
    /// It could not be done.
    Error = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// A token needs attention: overdue, held, waiting for a person.
    Attention = 3,
    /// A token is dead or has expired.
    Critical = 4,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Keeps Meta system user access tokens alive for ever.
#[derive(Debug, Parser)]
#[command(name = "evertoken", version, about, arg_required_else_help = true, disable_help_subcommand = true)]
struct Line {
    /// The configuration.
    #[arg(long, global = true, default_value = DEFAULT_CONFIG, value_name = "PATH")]
    config: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Look after all tokens, for ever
    Run {
        /// Do what can be done now, then end
        #[arg(long)]
        once: bool,
    },
    /// Check the configuration, then prove access to Meta and to every store; changes nothing
    Check {
        /// Only the configuration: no call is made
        #[arg(long)]
        offline: bool,
        /// Prove writing too, by committing one record to each adopted entry
        #[arg(long, conflicts_with = "offline")]
        write: bool,
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Show what would be done next, and why; changes nothing
    Plan(Show),
    /// Show every token: phase, time left, what happens next and when
    Status(Show),
    /// Show everything about some tokens, in words
    Explain(Show),
    /// Show what was done, from the audit ledger
    History {
        /// Tokens by name, with * and ?; all of them unless given
        #[arg(value_name = "TOKEN")]
        tokens: Vec<String>,
        /// All tokens, also those that are configured no more
        #[arg(long, conflicts_with = "tokens")]
        all: bool,
        /// How many rows, the newest
        #[arg(short = 'n', long, default_value_t = 50)]
        rows: usize,
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// The audit ledger
    Audit {
        #[command(subcommand)]
        verb: AuditVerb,
    },
    /// Take over what the entries hold now, or give an empty entry its token; never rotates
    Adopt {
        #[command(flatten)]
        select: Select,
        /// Read the token from a file, or from standard input with -, and put it into the empty entry
        #[arg(long, value_name = "PATH")]
        token_file: Option<PathBuf>,
        /// Create the entry where it is missing
        #[arg(long, requires = "token_file")]
        create: bool,
        #[command(flatten)]
        ask: Ask,
    },
    /// Rotate now
    Rotate {
        #[command(flatten)]
        select: Select,
        /// Follow the rotation until the old token has ended
        #[arg(long)]
        wait: bool,
        #[command(flatten)]
        ask: Ask,
    },
    /// No refresh and no revoke until released; alarms as the end comes near
    Hold {
        #[command(flatten)]
        select: Select,
        /// Why, for whoever reads it later
        #[arg(long, default_value = "held by a person")]
        why: String,
        #[command(flatten)]
        ask: Ask,
    },
    /// End a hold or a freeze, after a fresh look
    Release {
        #[command(flatten)]
        select: Select,
        #[command(flatten)]
        ask: Ask,
    },
    /// The fleet's revocation breaker
    Breaker {
        #[command(subcommand)]
        verb: BreakerVerb,
    },
    /// The books about lost tokens
    Ledger {
        #[command(subcommand)]
        verb: LedgerVerb,
    },
    /// Serve a strict Meta Graph and a strict Secrets Manager on loopback, to rehearse against
    Simulate(simulate::Arguments),
    /// Show a whole rotation on this machine, offline, in about a minute
    Demo(demo::Arguments),
}

#[derive(Debug, Subcommand)]
enum BreakerVerb {
    /// Allow revokes again, beginning with one
    Close {
        #[command(flatten)]
        ask: Ask,
    },
}

#[derive(Debug, Subcommand)]
enum AuditVerb {
    /// Prove that no row of the ledger was changed, deleted, moved or put in; changes nothing
    Verify {
        /// A head known from the log (`ledger.head`) that must be in the ledger; may be given again
        #[arg(long, value_name = "HASH")]
        head: Vec<ChainHash>,
        /// Check only what comes after this head: the rows up to it are archived, or known to be broken
        #[arg(long, value_name = "HASH")]
        after: Option<ChainHash>,
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
}

#[derive(Debug, Subcommand)]
enum LedgerVerb {
    /// Close the rows about lost tokens: all tokens of the user were revoked at this time
    Close {
        #[command(flatten)]
        select: Select,
        /// When all tokens of the system user were revoked, such as 2026-11-25T10:00:00Z
        #[arg(long, value_name = "TIME")]
        revoked_all_at: jiff::Timestamp,
        #[command(flatten)]
        ask: Ask,
    },
}

/// Which tokens.
#[derive(Debug, Clone, Args)]
struct Select {
    /// Tokens by name, with * and ?
    #[arg(value_name = "TOKEN")]
    tokens: Vec<String>,
    /// All tokens
    #[arg(long, conflicts_with = "tokens")]
    all: bool,
    /// Tokens of this app
    #[arg(long, value_name = "APP")]
    app: Option<String>,
    /// Tokens in this phase
    #[arg(long, value_name = "PHASE")]
    phase: Option<String>,
}

impl Select {
    fn selector(&self) -> crate::daemon::wake::Selector {
        crate::daemon::wake::Selector { names: self.tokens.clone(), all: self.all, app: self.app.clone(), phase: self.phase.clone() }
    }
}

/// How to ask before something is changed.
#[derive(Debug, Clone, Copy, Args)]
struct Ask {
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Stop after showing the plan
    #[arg(long)]
    dry_run: bool,
}

/// What to show, and from where.
#[derive(Debug, Clone, Args)]
struct Show {
    #[command(flatten)]
    select: Select,
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Ask a daemon elsewhere, such as http://10.0.0.7:9469
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Table,
    /// For programs
    Json,
}

/// Reads the command line and does what it says.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    // One TLS provider for every client of the process; a second call would only find the first one there.
    drop(rustls::crypto::ring::default_provider().install_default());
    let line = match Line::try_parse_from(arguments) {
        Ok(line) => line,
        Err(error) => {
            let help = !error.use_stderr();
            drop(error.print());
            return if help { Exit::Fine } else { Exit::Usage };
        }
    };
    match dispatch(line) {
        Ok(exit) => exit,
        Err(failure) => {
            terminal::complain(&failure.text);
            failure.exit
        }
    }
}

/// Why a command ended early: what to say, and with which code.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    text: String,
}

impl Failure {
    fn error(text: impl Into<String>) -> Self {
        Self { exit: Exit::Error, text: text.into() }
    }

    fn usage(text: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, text: text.into() }
    }
}

/// An error with all its causes on one line: no `Display` repeats its source.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

fn dispatch(line: Line) -> Result<Exit, Failure> {
    let config = line.config;
    match line.verb {
        Verb::Run { once } => run::run(&config, once),
        Verb::Check { offline, write, output } => check::check(&config, check::Depth { offline, write }, output),
        Verb::Plan(show) => show::plan(&config, &show),
        Verb::Status(show) => show::status(&config, &show),
        Verb::Explain(show) => show::explain(&config, &show),
        Verb::History { tokens, all: _, rows, output } => show::history(&config, &tokens, rows, output),
        Verb::Audit { verb: AuditVerb::Verify { head, after, output } } => {
            audit::verify(&config, &Demand { heads: head.into_iter().collect(), after }, output)
        }
        Verb::Adopt { select, token_file, create, ask } => change::adopt(&config, &select, token_file.as_deref(), create, ask),
        Verb::Rotate { select, wait, ask } => change::rotate(&config, &select, wait, ask),
        Verb::Hold { select, why, ask } => change::hold(&config, &select, why, ask),
        Verb::Release { select, ask } => change::release(&config, &select, ask),
        Verb::Breaker { verb: BreakerVerb::Close { ask } } => change::close_breaker(&config, ask),
        Verb::Ledger { verb: LedgerVerb::Close { select, revoked_all_at, ask } } => {
            change::close_ledger(&config, &select, revoked_all_at, ask)
        }
        Verb::Simulate(arguments) => simulate::simulate(&arguments),
        Verb::Demo(arguments) => demo::demo(&arguments),
    }
}
