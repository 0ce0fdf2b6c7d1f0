//! The TOML as written: text, lines and positions. [`Table`](super::cursor::Table) walks over what it parses to.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::DeTable;

use super::mistake::{Position, Report, looks_secret};

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

    /// The line with a caret below the position. Only the header of a known table, or a line that begins with a key that is known and
    /// no part of a secret, is ever repeated: whatever else stands there could be a secret under a misspelt key.
    fn excerpt(&self, position: &Position, known: &BTreeSet<String>) -> String {
        let line = self.text.lines().nth(position.line - 1).unwrap_or_default();
        let start = line.trim_start();
        let fine = if let Some(header) = start.strip_prefix('[') {
            let table = header.trim_start_matches('[').split(['.', ']', ' ']).next().unwrap_or_default();
            known.contains(table)
        } else {
            let key = start.split('=').next().unwrap_or_default().trim();
            let plain = |pattern: &String| !pattern.split('.').any(is_secret_key) && pattern.rsplit('.').next() == Some(key);
            known.iter().any(plain)
        };
        if !fine || line.contains("secret") || looks_secret(line) {
            return String::new();
        }
        let number = position.line.to_string();
        format!("{number} | {line}\n{:width$} | {:before$}^", "", "", width = number.len(), before = position.column - 1)
    }

    /// Parses the text, reports what is no TOML, and gives what could be made of the rest.
    pub(super) fn parse<'a>(&'a self, report: &Report, known: &BTreeSet<String>) -> (Spanned<DeTable<'a>>, Syntax) {
        let (table, errors) = DeTable::parse_recoverable(&self.text);
        let syntax = if errors.is_empty() { Syntax::Fine } else { Syntax::Broken };
        for error in errors {
            let position = self.position(error.span().map_or(0, |span| span.start));
            let excerpt = self.excerpt(&position, known);
            report.syntax(&position, error.message(), excerpt);
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
    key.starts_with("secret")
}
