//! Keys that nobody knows, and what was probably meant by them.

use std::collections::BTreeSet;

use super::{Table, join, named, quoted};
use crate::config::mistake::{Wrong, looks_secret, may_show, name_character, nearest};

impl Table<'_> {
    /// Whether a key is not there, but an unknown one that it was probably meant by: that one is told of, so its absence is not.
    pub(in crate::config) fn misspelt(&self, key: &str, known: &BTreeSet<String>) -> bool {
        let unknown = |name: &str| !known.contains(&join(&self.pattern, name));
        !self.holds(key)
            && self
                .toml
                .keys()
                .any(|name| unknown(name.get_ref()) && (nearest(name.get_ref(), [key]).is_some() || has_word(name.get_ref(), key)))
    }

    /// Ends the reading: every key that nobody asked for is unknown. `known` are the keys of all tables: one may only be misplaced.
    pub(in crate::config) fn finish(self, known: &BTreeSet<String>) {
        for name in self.toml.keys() {
            let text: &str = name.get_ref();
            if self.asked.contains(text) {
                continue;
            }
            let fix = match nearest(text, self.asked.iter().copied()).or_else(|| self.within(text)) {
                Some(near) => format!("did you mean {near:?}?"),
                None => self
                    .elsewhere(text, known)
                    .unwrap_or_else(|| format!("known here: {}", self.asked.iter().copied().collect::<Vec<_>>().join(", "))),
            };
            let key = named(&self.path, &key_shown(text));
            self.report.mistake(&self.source.position(name.span().start), key, Wrong::new("unknown key", fix));
        }
    }

    /// A key of this table with a word more, as in `app_secret` or `secret_file`.
    fn within(&self, key: &str) -> Option<&'static str> {
        self.asked.iter().filter(|own| has_word(key, own)).max_by_key(|own| own.len()).copied()
    }

    /// Where a key belongs that is not known here: below this very table, if it is known there.
    fn elsewhere(&self, key: &str, known: &BTreeSet<String>) -> Option<String> {
        let below = format!("{}.", self.pattern);
        let own = || known.iter().filter(|pattern| pattern.starts_with(&below)).filter_map(|pattern| pattern.rsplit_once('.'));
        if let Some(near) = nearest(key, own().map(|(_, leaf)| leaf))
            && let Some((table, _)) = own().find(|(_, leaf)| *leaf == near)
        {
            let table = table.replacen(&self.pattern, &self.path, 1);
            return Some(if near == key {
                format!("it belongs under [{table}]")
            } else {
                format!("did you mean {near:?} under [{table}]?")
            });
        }
        if let Some((table, leaf)) =
            known.iter().filter_map(|pattern| pattern.split_once('.')).find(|(table, leaf)| key == format!("{table}_{leaf}"))
        {
            return Some(format!("write {leaf} under [{table}]"));
        }
        // The keys of inline tables are words of all days, and belong nowhere else.
        let inline = |table: &str| matches!(table.rsplit('.').next(), Some("store" | "sinks" | "payload" | "secret" | "secret_previous"));
        let mut others = known.iter().filter_map(|pattern| pattern.rsplit_once('.'));
        let (table, _) = others.find(|(table, leaf)| *leaf == key && !inline(table) && !inline(&self.pattern))?;
        Some(format!("it belongs under [{table}]"))
    }
}

/// Whether a key is another with a word before or after it.
fn has_word(key: &str, other: &str) -> bool {
    let (after, before) = (key.strip_prefix(other), key.strip_suffix(other));
    after.is_some_and(|rest| rest.starts_with('_')) || before.is_some_and(|rest| rest.ends_with('_'))
}

/// A key that nobody knows, as it may be shown: what was pasted at the start of a line is a key to TOML.
pub(in crate::config) fn key_shown(key: &str) -> String {
    if looks_secret(key) || !may_show(key, |c| name_character(c) || c == ' ') {
        return "(a key that is not shown)".to_owned();
    }
    quoted(key)
}
