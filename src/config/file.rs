//! The TOML as written: text, lines and positions. [`Table`](super::cursor::Table) walks over what it parses to.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::DeTable;

use super::mistake::{Position, Report, Wrong, may_show, name_character};

/// One file: its name, its text, and where its lines begin.
pub(super) struct Source {
    path: Arc<Path>,
    text: String,
    lines: Vec<usize>,
}

impl Source {
    pub(super) fn new(path: &Path, text: String) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { path: Arc::from(path), text, lines }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where what concerns the whole file stands.
    pub(super) fn start(&self) -> Position {
        self.position(0)
    }

    /// The folder that relative paths in this file start from.
    pub(super) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or_else(|| Path::new(""))
    }

    pub(super) fn position(&self, offset: usize) -> Position {
        let line = self.lines.partition_point(|start| *start <= offset);
        let start = self.lines.get(line.saturating_sub(1)).copied().unwrap_or_default();
        let column = self.text.get(start..offset).map_or(1, |before| before.chars().count() + 1);
        Position { file: Arc::clone(&self.path), line, column }
    }

    /// What stands at a place that is no TOML: the header of a table, or a key. Only what is known is named: whatever else stands there
    /// could be a secret, and no line is ever repeated.
    fn told(&self, position: &Position, known: &BTreeSet<String>) -> String {
        let line = self.text.lines().nth(position.line - 1).unwrap_or_default().trim_start();
        if let Some(header) = line.strip_prefix('[') {
            let path = header.trim_start_matches('[').split(']').next().unwrap_or_default().trim();
            let table = path.split('.').next().unwrap_or_default();
            let plain = known.contains(table) && path.split('.').all(|part| may_show(part, name_character));
            return if plain { format!("[{path}]") } else { String::new() };
        }
        let key = line.split('=').next().unwrap_or_default().trim();
        let is_known = known.iter().any(|pattern| pattern.rsplit('.').next() == Some(key));
        if is_known { key.to_owned() } else { String::new() }
    }

    /// The line above that says the same up to its `=`: a header anywhere, a key in the same table.
    fn before(&self, position: &Position) -> Option<usize> {
        let begin = |line: &str| line.split('=').next().unwrap_or_default().trim().to_owned();
        let above: Vec<&str> = self.text.lines().take(position.line).collect();
        let (own, above) = above.split_last()?;
        let (own, header) = (begin(own), own.trim_start().starts_with('['));
        let lines = above.iter().enumerate().rev().take_while(|(_, line)| header || !line.trim_start().starts_with('['));
        lines.into_iter().find(|(_, line)| begin(line) == own).map(|(at, _)| at + 1)
    }

    /// Parses the text, reports what is no TOML, and gives what could be made of the rest.
    pub(super) fn parse<'a>(&'a self, report: &Report, known: &BTreeSet<String>) -> (Spanned<DeTable<'a>>, Syntax) {
        let (table, errors) = DeTable::parse_recoverable(&self.text);
        let syntax = if errors.is_empty() { Syntax::Fine } else { Syntax::Broken };
        for error in errors {
            let position = self.position(error.span().map_or(0, |span| span.start));
            let told = self.told(&position, known);
            let wrong = if error.message() == "duplicate key" {
                let what = if told.starts_with('[') { "this table stands" } else { "this key of the table stands" };
                let place = self.before(&position).map_or_else(|| "above".to_owned(), |line| format!("in line {line}"));
                Wrong::new(format!("{what} {place} already"), "delete one of the two")
            } else {
                let fix = if error.message().contains("leading zero") { "write it in quotes" } else { "" };
                Wrong::new(format!("this is no TOML: {}", error.message()), fix)
            };
            report.mistake(&position, told, wrong);
        }
        (table, syntax)
    }
}

/// Whether a file is TOML at all. What a broken one lacks may only be unreadable, so nothing is reported as missing then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Syntax {
    Fine,
    Broken,
}

/// Whether a key speaks of a secret: nothing below it is ever shown.
pub(super) fn is_secret_key(key: &str) -> bool {
    key.starts_with("secret") || key == "external_id"
}
