//! What is wrong with a configuration, told so that a person can mend all of it at once.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One mistake (or warning): where, what, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// The file, as it was named.
    pub file: PathBuf,
    /// Its line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    /// The table and key, as in `[tokens.bot] adopt`; empty where a whole file is meant.
    pub key: String,
    /// What is wrong. Shows a value only where it cannot be a secret.
    pub what: String,
    /// What to do about it; may be empty.
    pub fix: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file.display(), self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)?;
        if !self.fix.is_empty() {
            write!(f, "; {}", self.fix)?;
        }
        Ok(())
    }
}

/// A configuration that cannot be used, with everything that is wrong with it. The operator's fault: exit code 2.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", Lines(.mistakes))]
pub struct ConfigError {
    /// In the order of the files and their lines; never empty.
    pub mistakes: Vec<Mistake>,
}

struct Lines<'a>(&'a [Mistake]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, mistake) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{mistake}")?;
        }
        Ok(())
    }
}

/// A place in a file.
#[derive(Debug, Clone)]
pub(super) struct Position {
    pub(super) file: Arc<Path>,
    pub(super) line: usize,
    pub(super) column: usize,
}

/// A value that is not what its key wants: what is wrong, and what to write instead.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) what: String,
    pub(super) fix: String,
}

impl Wrong {
    pub(super) fn new(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { what: what.into(), fix: fix.into() }
    }
}

/// Collects mistakes while a configuration is read, remembers where each key stands (for the rules that come after), and which
/// keys were asked for (so that the list of known keys is the code that reads them).
#[derive(Default)]
pub(super) struct Report {
    mistakes: RefCell<Vec<Mistake>>,
    warnings: RefCell<Vec<Mistake>>,
    positions: RefCell<BTreeMap<String, (Position, String)>>,
    asked: RefCell<BTreeSet<String>>,
}

impl Report {
    pub(super) fn mistake(&self, position: &Position, key: impl Into<String>, wrong: Wrong) {
        self.mistakes.borrow_mut().push(at(position, key.into(), wrong));
    }

    pub(super) fn warning(&self, position: &Position, key: impl Into<String>, wrong: Wrong) {
        self.warnings.borrow_mut().push(at(position, key.into(), wrong));
    }

    /// How many mistakes there are by now: whoever reads a table can tell whether all of it was right.
    pub(super) fn count(&self) -> usize {
        self.mistakes.borrow().len()
    }

    /// Remembers where `path` stands and how people are told of it; the first place stays.
    pub(super) fn stands(&self, path: String, position: Position, key: String) {
        self.positions.borrow_mut().entry(path).or_insert((position, key));
    }

    /// Where the first of these paths stands that stands anywhere.
    pub(super) fn position(&self, paths: &[impl AsRef<str>]) -> Option<(Position, String)> {
        let positions = self.positions.borrow();
        paths.iter().find_map(|path| positions.get(path.as_ref()).cloned())
    }

    /// Reports against the first of these paths that stands anywhere.
    pub(super) fn mistake_at(&self, paths: &[impl AsRef<str>], wrong: Wrong) {
        if let Some((position, key)) = self.position(paths) {
            self.mistake(&position, key, wrong);
        }
    }

    /// Warns of the first of these paths that stands anywhere.
    pub(super) fn warning_at(&self, paths: &[impl AsRef<str>], wrong: Wrong) {
        if let Some((position, key)) = self.position(paths) {
            self.warning(&position, key, wrong);
        }
    }

    pub(super) fn asked(&self, pattern: String) {
        self.asked.borrow_mut().insert(pattern);
    }

    /// Every key that was asked for.
    pub(super) fn into_asked(self) -> BTreeSet<String> {
        self.asked.into_inner()
    }

    /// The mistakes, then the warnings, each in the order of files and lines and without repetition.
    pub(super) fn into_findings(self) -> (Vec<Mistake>, Vec<Mistake>) {
        (sorted(self.mistakes.into_inner()), sorted(self.warnings.into_inner()))
    }
}

fn at(position: &Position, key: String, wrong: Wrong) -> Mistake {
    let Wrong { what, fix } = wrong;
    Mistake { file: position.file.to_path_buf(), line: position.line, column: position.column, key, what, fix }
}

/// Several tokens may break one rule by one shared default: said once.
fn sorted(mut mistakes: Vec<Mistake>) -> Vec<Mistake> {
    mistakes.sort();
    mistakes.dedup();
    mistakes
}

/// Longest value that is repeated, in characters.
const SHOWN_MAX: usize = 32;

/// A value as it may be repeated: only where it is short and made of what its key's values are made of. Elsewhere its place must
/// do, because people paste secrets under wrong keys, and not all secrets look like it.
pub(super) fn shown(text: &str, form: impl Fn(char) -> bool) -> String {
    if may_show(text, form) { format!("{text:?}") } else { "the value".to_owned() }
}

/// Whether a value may be repeated.
pub(super) fn may_show(text: &str, form: impl Fn(char) -> bool) -> bool {
    text.chars().count() <= SHOWN_MAX && text.chars().all(form) && !looks_secret(text)
}

/// What names are made of.
pub(super) const fn name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// Whether a text could be a secret, so that it is not repeated.
pub(super) fn looks_secret(text: &str) -> bool {
    holds_drawn_word(text, 16)
}

/// Whether a text is refused where a name is wanted. Less than [`looks_secret`], since a name that is refused cannot be used at all, and
/// AWS ends the names of its single sign-on roles in 16 hex digits.
pub(super) fn passes_for_secret(text: &str) -> bool {
    holds_drawn_word(text, 24)
}

/// Meta's tokens begin with `EAA` and are long; its app secrets are 32 hex digits; and what mixes letters and digits for so long was drawn,
/// not named.
fn holds_drawn_word(text: &str, mixed_for: usize) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| {
        let hex = word.len() >= 32 && word.chars().all(|c| c.is_ascii_hexdigit());
        let mixed = word.chars().any(|c| c.is_ascii_lowercase()) && word.chars().any(|c| c.is_ascii_digit());
        hex || (word.starts_with("EAA") && word.len() >= 12) || word.len() >= 48 || (mixed && word.len() >= mixed_for)
    })
}

/// The name that was probably meant.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = 1 + name.chars().count() / 4;
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&name.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_near() {
        assert_eq!(nearest("windw", ["window", "consumer_ttl"]), Some("window"));
        assert_eq!(nearest("Window", ["window"]), Some("window"));
        assert_eq!(nearest("colour", ["window", "consumer_ttl"]), None);
    }

    #[test]
    fn what_looks_like_a_secret_is_not_shown() {
        assert_eq!(shown("abc", name_character), "\"abc\"");
        for text in ["EAATESTTESTTEST", "123|0123456789abcdef0123456789abcdef", "a b", "s3cr3tcanary0123", &"word.".repeat(40)] {
            assert_eq!(shown(text, name_character), "the value", "{text}");
        }
        let role = "AWSReservedSSO_AdministratorAccess_0123456789abcdef";
        assert!(looks_secret(role) && !passes_for_secret(role), "it may be a profile's name");
        assert!(passes_for_secret("s3cr3tcanary0123456789ab"));
    }
}
