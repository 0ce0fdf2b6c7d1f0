//! What the daemon tells about itself: log lines and metrics.
//!
//! A line goes from the `tracing` event through a filter (third-party targets never above WARN, whatever RUST_LOG says), a net for
//! secrets that should never be there, and a format, into a bounded queue that one thread empties. A pipe or journal that blocks
//! stops that thread and nothing else; what the queue cannot take is dropped, counted, and told once it goes on.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::str::FromStr;

use tracing::level_filters::LevelFilter;
use tracing::{Subscriber, subscriber, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{FilterExt, ParseError, Targets, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;

mod journald;
mod logging;
pub mod metrics;
pub mod redaction;
mod writer;

pub use logging::install_panic_hook;
pub use writer::{Guard, LogCounts};

use logging::{EventLayer, Format};
use writer::{Destination, LossyWriter};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
    /// journald's native protocol; JSON where its socket is missing.
    Journald,
}

/// A word that names no format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a log format is one of auto, json, text, journald")]
pub struct LogFormatError;

impl FromStr for LogFormat {
    type Err = LogFormatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            "journald" => Ok(Self::Journald),
            _ => Err(LogFormatError),
        }
    }
}

/// What is logged, and how.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// The format.
    pub format: LogFormat,
    /// The level of everything that `rust_log` does not speak of.
    pub level: LevelFilter,
    /// The value of RUST_LOG: `LEVEL` or `TARGET=LEVEL`, with commas between.
    pub rust_log: Option<String>,
    /// Whether standard error is a terminal.
    pub is_terminal: bool,
}

/// Why logging could not begin.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// RUST_LOG is not a list of levels.
    #[error("RUST_LOG is not a list of LEVEL or TARGET=LEVEL")]
    Filter(#[source] ParseError),
    /// Standard error or the journal cannot be opened.
    #[error("cannot open what log lines go to")]
    Output(#[source] io::Error),
    /// The writer's thread could not be started.
    #[error("cannot start the thread that writes log lines")]
    Thread(#[source] io::Error),
    /// Something in this process logs already.
    #[error("logging was begun twice")]
    Twice,
}

/// Begins logging for the whole process, on standard error or to the journal, and takes over panics. Dropping the guard flushes,
/// for at most a second.
///
/// # Errors
/// As [`TelemetryError`] says.
pub fn init(settings: &LogSettings) -> Result<Guard, TelemetryError> {
    // A duplicate of the descriptor and not `std::io::stderr()`: a writer that blocks must not hold the lock of the latter.
    let stderr = || io::stderr().as_fd().try_clone_to_owned().map(File::from).map_err(TelemetryError::Output);
    let journal = match settings.format {
        LogFormat::Journald => journald::Journal::connect(),
        LogFormat::Auto | LogFormat::Json | LogFormat::Text => None,
    };
    let fell_back = settings.format == LogFormat::Journald && journal.is_none();
    let (format, destination): (Format, Box<dyn Destination>) = match journal {
        Some(journal) => (Format::Journald, Box::new(journal)),
        None => (line_format(settings), Box::new(stderr()?)),
    };
    let (subscriber, guard) = assemble(settings, format, destination)?;
    subscriber::set_global_default(subscriber).map_err(|_already_set| TelemetryError::Twice)?;
    install_panic_hook();
    if fell_back {
        warn!(event = "log.fallback", "there is no journal socket; log lines go to standard error as JSON");
    }
    Ok(guard)
}

/// A subscriber that writes to a file or pipe, for whoever does not want it for the whole process.
///
/// # Errors
/// As [`TelemetryError`] says.
pub fn to_file(settings: &LogSettings, file: File) -> Result<(impl Subscriber + Send + Sync + use<>, Guard), TelemetryError> {
    assemble(settings, line_format(settings), Box::new(file))
}

fn line_format(settings: &LogSettings) -> Format {
    match settings.format {
        LogFormat::Text => Format::Text,
        LogFormat::Auto if settings.is_terminal => Format::Text,
        LogFormat::Auto | LogFormat::Json | LogFormat::Journald => Format::Json,
    }
}

fn assemble(
    settings: &LogSettings,
    format: Format,
    destination: Box<dyn Destination>,
) -> Result<(impl Subscriber + Send + Sync + use<>, Guard), TelemetryError> {
    let wanted = wanted(settings)?;
    let cap = filter_fn(|metadata| ours(metadata.target()) || *metadata.level() <= LevelFilter::WARN);
    let (writer, guard) =
        LossyWriter::start(destination, move |lost| logging::lost_notice(format, lost)).map_err(TelemetryError::Thread)?;
    let layer = EventLayer::new(format, writer).with_filter(wanted.and(cap));
    Ok((Registry::default().with(layer), guard))
}

fn wanted(settings: &LogSettings) -> Result<Targets, TelemetryError> {
    let Some(rust_log) = settings.rust_log.as_deref().filter(|text| !text.trim().is_empty()) else {
        return Ok(Targets::new().with_default(settings.level));
    };
    let targets: Targets = rust_log.parse().map_err(TelemetryError::Filter)?;
    Ok(if targets.default_level().is_none() { targets.with_default(settings.level) } else { targets })
}

/// Whether a target is this program's own. Everything else may hold URLs (reqwest's debug lines do) and is capped by not being
/// on this list, rather than by being on another.
fn ours(target: &str) -> bool {
    target == "evertoken" || target.starts_with("evertoken::")
}
