//! A cursor over tables that keeps positions, so that every mistake comes out with its line, and all of them in one run.
//!
//! Whoever reads a table asks for its keys by name and says in the end that this was all ([`Table::finish`]); what was not asked
//! for is unknown. serde stops at the first mistake and knows no position of a key that is missing, hence not serde.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::duration;
use super::file::{Source, is_secret_key};
use super::mistake::{Position, Report, Wrong, nearest, shown};

mod unknown;

pub(super) use unknown::key_shown;

/// Longest number that is repeated, in characters: an id of Meta's that lacks its quotes.
const NUMBER_SHOWN_MAX: usize = 20;

/// A table while it is read.
pub(super) struct Table<'a> {
    pub(super) source: &'a Source,
    pub(super) report: &'a Report,
    toml: &'a DeTable<'a>,
    /// As people write it: `tokens.bot.schedule`.
    pub(super) path: String,
    /// The same with every free name as `NAME`: `tokens.NAME.schedule`.
    pattern: String,
    at: usize,
    asked: BTreeSet<&'static str>,
}

/// A value while it is read.
pub(super) struct Value<'a> {
    source: &'a Source,
    pub(super) report: &'a Report,
    pub(super) toml: &'a DeValue<'a>,
    at: usize,
    table: String,
    key: String,
    pattern: String,
}

impl<'a> Table<'a> {
    pub(super) fn root(source: &'a Source, report: &'a Report, toml: &'a Spanned<DeTable<'a>>) -> Self {
        Self { source, report, toml: toml.get_ref(), path: String::new(), pattern: String::new(), at: 0, asked: BTreeSet::new() }
    }

    /// The value under a key, if it is there.
    pub(super) fn value(&mut self, key: &'static str) -> Option<Value<'a>> {
        self.asked.insert(key);
        self.report.asked(join(&self.pattern, key));
        let (at, value) = self.toml.get_key_value(key)?;
        self.report.stands(join(&self.path, key), self.source.position(at.span().start), named(&self.path, key));
        Some(self.child(key, value, join(&self.pattern, key)))
    }

    fn child(&self, key: &str, value: &'a Spanned<DeValue<'a>>, pattern: String) -> Value<'a> {
        let (source, report) = (self.source, self.report);
        Value { source, report, toml: value.get_ref(), at: value.span().start, table: self.path.clone(), key: key.to_owned(), pattern }
    }

    /// A text, made into what its key wants.
    pub(super) fn text<T>(&mut self, key: &'static str, read: impl FnOnce(&str) -> Result<T, Wrong>) -> Option<T> {
        self.value(key)?.text(read)
    }

    /// A text of a closed set of words.
    pub(super) fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let value = self.value(key)?;
        if !value.is_text() && !value.is_unread() {
            value.wrong(Wrong::new(format!("{} stands where a word must", value.shown()), format!("write one of {}", listed(words))));
            return None;
        }
        value.text(|text| word(text, words))
    }

    pub(super) fn duration(&mut self, key: &'static str) -> Option<SignedDuration> {
        let value = self.value(key)?;
        if let DeValue::Integer(number) = value.toml
            && !value.is_unread()
        {
            let shown = if number.as_str().len() > NUMBER_SHOWN_MAX { "the number" } else { number.as_str() };
            value.wrong(Wrong::new(format!("{shown} has no unit"), "write a duration as text, as in \"24h\""));
            return None;
        }
        value.text(duration::parse)
    }

    /// A number, whole or not, that passes `fits`.
    pub(super) fn number(&mut self, key: &'static str, fits: impl FnOnce(f64) -> bool, wanted: &str) -> Option<f64> {
        let value = self.value(key)?;
        let number = match value.toml {
            DeValue::Integer(number) => i32::from_str_radix(number.as_str(), number.radix()).ok().map(f64::from),
            DeValue::Float(number) => number.as_str().parse().ok(),
            DeValue::String(_) | DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
        };
        match number {
            Some(number) if number.is_finite() && fits(number) => Some(number),
            None if value.is_unread() => None,
            Some(_) | None => {
                value.wrong(Wrong::new(format!("{} does not fit", value.shown()), format!("write {wanted}")));
                None
            }
        }
    }

    /// The table under a key, if it is there.
    pub(super) fn table(&mut self, key: &'static str) -> Option<Self> {
        self.value(key)?.table()
    }

    /// The tables under a key that people name, as in `[apps.NAME]`.
    pub(super) fn named_tables(&mut self, key: &'static str) -> Vec<(String, Self)> {
        let Some(parent) = self.table(key) else { return Vec::new() };
        let mut tables = Vec::new();
        for (name, value) in parent.toml {
            let text: &str = name.get_ref();
            let at = name.span().start;
            let child = parent.child(text, value, join(&parent.pattern, "NAME"));
            if !child.is_table() {
                let what = format!("{} stands where a table must", child.shown());
                let wrong = Wrong::new(what, format!("every key belongs to one of them: write [{key}.NAME] above it"));
                self.report.mistake(&self.source.position(at), named(&parent.path, &key_shown(text)), wrong);
            } else if let Some(mut table) = child.table() {
                table.at = at;
                self.report.stands(table.path.clone(), self.source.position(at), format!("[{}]", table.path));
                tables.push((text.to_owned(), table));
            }
        }
        tables
    }

    /// Whether a key is there, right or wrong.
    pub(super) fn holds(&self, key: &str) -> bool {
        self.toml.contains_key(key)
    }

    /// Whether this table stands at that place.
    pub(super) fn stands_at(&self, position: &Position) -> bool {
        let own = self.source.position(self.at);
        own.file == position.file && (own.line, own.column) == (position.line, position.column)
    }

    /// Says that something is wrong with the value of a key.
    pub(super) fn wrong_at(&self, key: &str, wrong: Wrong) {
        if let Some(value) = self.toml.get(key) {
            self.report.mistake(&self.source.position(value.span().start), named(&self.path, key), wrong);
        }
    }

    /// Refuses a key that is known but not in this kind of table.
    pub(super) fn foreign(&mut self, key: &'static str, wrong: Wrong) {
        if let Some((at, _)) = self.toml.get_key_value(key) {
            self.asked.insert(key);
            self.report.mistake(&self.source.position(at.span().start), named(&self.path, key), wrong);
        }
    }

    /// Says that a required key is not there.
    pub(super) fn missing(&self, key: &str, fix: impl Into<String>) {
        self.wrong(Wrong::new(format!("{key} is missing"), fix));
    }

    /// Says that something is wrong with the table as a whole.
    pub(super) fn wrong(&self, wrong: Wrong) {
        self.report.mistake(&self.source.position(self.at), format!("[{}]", self.path), wrong);
    }

    /// The keys of this table that are not among these, each with its position.
    pub(super) fn others(&self, known: &[&str]) -> Vec<(String, Position)> {
        let all = self.toml.keys().map(|name| (name.get_ref().to_string(), self.source.position(name.span().start)));
        all.filter(|(name, _)| !known.contains(&name.as_str())).collect()
    }
}

impl<'a> Value<'a> {
    pub(super) fn wrong(&self, wrong: Wrong) {
        self.report.mistake(&self.source.position(self.at), named(&self.table, &self.key), wrong);
    }

    /// The value as it may be shown: no text, and no number where a secret is spoken of or that is as long as one.
    pub(super) fn shown(&self) -> String {
        let secret = is_secret_key(&self.key) || self.table.split('.').any(is_secret_key);
        let number = |text: String| if secret || text.len() > NUMBER_SHOWN_MAX { "the number".to_owned() } else { text };
        match self.toml {
            DeValue::String(_) => "a text".to_owned(),
            DeValue::Integer(value) => number(value.to_string()),
            DeValue::Float(value) => number(value.to_string()),
            DeValue::Boolean(boolean) => boolean.to_string(),
            DeValue::Datetime(_) => "a date".to_owned(),
            DeValue::Array(_) => "an array".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        }
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    pub(super) const fn is_table(&self) -> bool {
        matches!(self.toml, DeValue::Table(_))
    }

    /// Whether it is no TOML, which is told by itself.
    pub(super) fn is_unread(&self) -> bool {
        match self.toml {
            DeValue::Integer(number) => number.as_str().is_empty(),
            DeValue::Float(number) => number.as_str().is_empty(),
            DeValue::String(_) | DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => false,
        }
    }

    pub(super) fn is_text(&self) -> bool {
        self.toml.is_str()
    }

    pub(super) fn text<T>(&self, read: impl FnOnce(&str) -> Result<T, Wrong>) -> Option<T> {
        if self.is_unread() {
            return None;
        }
        let Some(text) = self.toml.as_str() else {
            let (what, fix) = match self.toml {
                DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) => {
                    (format!("{} is no text", self.shown()), "write it in quotes")
                }
                DeValue::String(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                    (format!("{} stands where a text must", self.shown()), "write a text in quotes")
                }
            };
            self.wrong(Wrong::new(what, fix));
            return None;
        };
        read(text).map_err(|wrong| self.wrong(wrong)).ok()
    }

    pub(super) fn table(self) -> Option<Table<'a>> {
        let Some(toml) = self.toml.as_table() else {
            let path = join(&self.table, &quoted(&self.key));
            let place = if self.key.ends_with(']') {
                "write { name = \"STORE\", entry = \"ENTRY\" }".to_owned()
            } else {
                format!("write [{path}] with its keys below")
            };
            self.wrong(Wrong::new(format!("{} stands where a table must", self.shown()), place));
            return None;
        };
        let path = join(&self.table, &quoted(&self.key));
        Some(Table { source: self.source, report: self.report, toml, path, pattern: self.pattern, at: self.at, asked: BTreeSet::new() })
    }

    /// The values of an array.
    pub(super) fn items(&self, wanted: &str) -> Option<Vec<Self>> {
        let Some(array) = self.toml.as_array() else {
            self.wrong(Wrong::new(format!("{} stands where an array must", self.shown()), format!("write {wanted}")));
            return None;
        };
        let item = |(at, value): (usize, &'a Spanned<DeValue<'a>>)| {
            let key = format!("{}[{at}]", self.key);
            self.report.stands(join(&self.table, &key), self.source.position(value.span().start), named(&self.table, &key));
            let (table, pattern) = (self.table.clone(), self.pattern.clone());
            Value { source: self.source, report: self.report, toml: value.get_ref(), at: value.span().start, table, key, pattern }
        };
        Some(array.iter().enumerate().map(item).collect())
    }
}

/// One of a closed set of words.
pub(super) fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, Wrong> {
    words.iter().find(|(name, _)| *name == text).map(|(_, value)| *value).ok_or_else(|| {
        let names = || words.iter().map(|(name, _)| *name);
        let begins = |name: &&str| !text.is_empty() && (name.starts_with(text) || text.starts_with(name));
        let near = nearest(text, names()).or_else(|| names().find(begins));
        let near = near.map_or_else(String::new, |near| format!("did you mean {near:?}? "));
        let form = |c: char| c.is_ascii_alphabetic() || matches!(c, '-' | '_');
        Wrong::new(format!("{} is not known", shown(text, form)), format!("{near}write one of {}", listed(words)))
    })
}

fn listed<T>(words: &[(&str, T)]) -> String {
    words.iter().map(|(name, _)| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

/// A name as it stands in a path: quoted where TOML would want that.
pub(super) fn quoted(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '[' | ']');
    if !name.is_empty() && name.chars().all(bare) { name.to_owned() } else { shown(name, |c| !c.is_control()) }
}

/// A path and one more step.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn named(table: &str, key: &str) -> String {
    if table.is_empty() { key.to_owned() } else { format!("[{table}] {key}") }
}
