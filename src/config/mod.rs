//! The configuration: TOML in one file and `conf.d/*.toml` beside it.
//!
//! It is read in two steps. `file` and `cursor` keep the TOML as written, with positions; `read` makes it into [`settings`], whose types
//! cannot be wrong, and `rules` holds what concerns several keys at once. All mistakes of all files come out in one run, each
//! with its line and what to write instead, because whoever deploys a configuration should not have to do so five times. No mistake
//! ever repeats a value that could be a secret; secrets themselves stand here by reference only ([`secret_ref`]) and are not read
//! when the configuration is.
//!
//! A daemon that is told to load again keeps what it has when the new text is refused.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use self::cursor::Table;
use self::file::Source;
use self::mistake::{Position, Report, Wrong};

mod cron;
mod cursor;
mod draft;
mod duration;
mod file;
mod mistake;
mod names;
mod read;
mod rules;
pub mod secret_ref;
pub mod settings;

pub use cron::Tick;
pub use duration::display as display_duration;
pub(crate) use mistake::nearest;
pub use mistake::{ConfigError, Mistake};
pub use rules::{LifeConflict, life_conflicts};
pub use secret_ref::Environment;
pub use settings::Settings;

/// Largest file that is read: tens of thousands of tokens.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A configuration that may be used.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What it says.
    pub settings: Settings,
    /// What is allowed but dubious.
    pub warnings: Vec<Mistake>,
    /// The files that were read, the main one first.
    pub files: Vec<PathBuf>,
}

/// Reads the file and `conf.d/*.toml` beside it, in the order of their names.
///
/// # Errors
/// When a file cannot be read or anything in any of them is wrong: with all mistakes at once.
pub fn load(path: &Path, environment: &Environment) -> Result<Loaded, ConfigError> {
    let report = Report::default();
    let main = read_source(path, &report);
    let others: Vec<Source> = conf_d(path, &report).iter().filter_map(|path| read_source(path, &report)).collect();
    let settings = main.as_ref().and_then(|main| settings_of(main, &others, environment, &report));
    let files = main.iter().chain(&others).map(|source| source.path().to_owned()).collect();
    let (mistakes, warnings) = report.into_findings();
    match settings {
        Some(settings) if mistakes.is_empty() => Ok(Loaded { settings, warnings, files }),
        Some(_) | None => Err(ConfigError { mistakes }),
    }
}

/// Every key that the reader knows, as `tokens.NAME.schedule.refresh_at`, in order.
pub fn known_keys() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(String::as_str)
}

/// A text in which every table occurs: whoever reads it asks for every key there is.
const EVERY_TABLE: &str = "
daemon = {}\nhttp = {}\nlog = {}\nnetwork = {}\npace = {}
defaults = { schedule = {}, propagation = {} }
apps.a = { secret = { store = {} }, secret_previous = { store = {} } }
stores.a = { kind = \"aws-secrets-manager\" }
stores.b = { kind = \"file\" }
tokens.a = { store = {}, sinks = [{}], payload = {}, schedule = {}, propagation = {} }
";

static KNOWN: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let (report, nothing) = (Report::default(), BTreeSet::new());
    let source = Source::new(Path::new(""), EVERY_TABLE.to_owned());
    let (table, syntax) = source.parse(&report, &nothing);
    read::main_file(Table::root(&source, &report, &table), &Environment::default(), &nothing, syntax);
    report.into_asked()
});

fn settings_of(main: &Source, others: &[Source], environment: &Environment, report: &Report) -> Option<Settings> {
    let (table, syntax) = main.parse(report, &KNOWN);
    let mut draft = read::main_file(Table::root(main, report, &table), environment, &KNOWN, syntax);
    for other in others {
        let (table, syntax) = other.parse(report, &KNOWN);
        read::tokens_file(Table::root(other, report, &table), main.path(), &mut draft, &KNOWN, syntax);
    }
    rules::check(&draft, &main.start(), report);
    Some(draft.settings)
}

/// The files beside the main one. Hidden ones are left out: editors and Kubernetes' mounts make such.
fn conf_d(main: &Path, report: &Report) -> Vec<PathBuf> {
    let folder = main.parent().unwrap_or_else(|| Path::new("")).join("conf.d");
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries.collect::<Result<Vec<_>, _>>(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => Err(error),
    };
    match entries {
        Ok(entries) => {
            let hidden = |path: &PathBuf| path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
            let mut paths: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
            paths.retain(|path| !hidden(path) && path.extension().is_some_and(|extension| extension == "toml"));
            paths.sort();
            paths
        }
        Err(error) => {
            unreadable(&folder, &error.to_string(), report);
            Vec::new()
        }
    }
}

fn read_source(path: &Path, report: &Report) -> Option<Source> {
    match read_text(path) {
        Ok((text, mode)) => {
            let source = Source::new(path, text);
            if mode & 0o022 != 0 {
                let what = format!("the mode {:04o} lets others than the owner change it, so they decide where tokens go", mode & 0o7777);
                report.warning(&source.start(), "", Wrong::new(what, format!("chmod go-w {}", path.display())));
            }
            Some(source)
        }
        Err(why) => {
            unreadable(path, &why, report);
            None
        }
    }
}

/// The text of a file, and its mode.
fn read_text(path: &Path) -> Result<(String, u32), String> {
    // Looked at before it is opened, because opening a pipe that nobody writes to would wait for ever.
    let found = path.metadata().map_err(|error| error.to_string())?;
    if found.is_dir() {
        return Err("it is a folder".to_owned());
    }
    if !found.is_file() {
        return Err("it is no regular file".to_owned());
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it is larger than {FILE_BYTES_MAX} bytes"));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok((text, found.permissions().mode())),
        Err(error) => Err(format!("it is not UTF-8 from byte {} on", error.utf8_error().valid_up_to())),
    }
}

fn unreadable(path: &Path, why: &str, report: &Report) {
    let position = Position { file: Arc::from(path), line: 1, column: 1 };
    let fix = if path.is_dir() {
        format!("name the file in it, as in --config {}", path.join("evertoken.toml").display())
    } else {
        "name another with --config, or mend this one".to_owned()
    };
    let wrong = Wrong::new(format!("the configuration cannot be read: {why}"), fix);
    report.mistake(&position, "", wrong);
}
