//! The house as ARCHITECTURE.md draws it: who imports whom, what the core may not know, what has one home, and how long a
//! file may be.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Lines of a file before its tests. What is longer is two subjects.
const LINES_MAX: usize = 350;

/// Names, of crates mostly, that only one part may use, so that what they do can be changed in one place.
const HOMES: [(&str, &[&str]); 14] = [
    // Whoever writes files: each whole and synced, or into a place that was made for it before.
    ("OpenOptions", &["spool", "ledger", "state_dir.rs", "daemon/veto.rs", "cli/demo.rs"]),
    ("aws_config", &["store/aws"]),
    ("aws_sdk_secretsmanager", &["store/aws"]),
    ("clap", &["cli"]),
    ("croner", &["config/cron.rs"]),
    ("prometheus_client", &["telemetry"]),
    // The adapter; elsewhere only its `Url`.
    ("reqwest", &["graph", "config", "app.rs", "app/stores.rs"]),
    ("sd_notify", &["cli/run.rs"]),
    ("signal_hook", &["daemon/signals.rs", "cli/run.rs", "cli/simulate.rs"]),
    ("strsim", &["config"]),
    ("tokio_cron_scheduler", &["daemon/cron.rs"]),
    ("sync_all", &["spool", "ledger", "state_dir.rs", "daemon/veto.rs", "store/file"]),
    ("toml", &["config"]),
    ("tracing_subscriber", &["telemetry"]),
];

/// What reaches outside, and so has no place in `rotation`.
const IMPURE: [&str; 18] = [
    "Instant",
    "OpenOptions",
    "SystemTime",
    "async",
    "await",
    "env",
    "fs",
    "getrandom",
    "net",
    "new_v4",
    "nix",
    "now_v7",
    "process",
    "rand",
    "reqwest",
    "thread",
    "tokio",
    "tracing",
];

/// A file of the product, without comments, text and tests.
struct Source {
    /// Below src/, such as `daemon/run.rs`.
    name: String,
    words: Vec<String>,
    /// Lines before the tests, comments included.
    lines: usize,
}

impl Source {
    /// The part of the house that the file belongs to, and how deep its module lies below the crate.
    fn part(&self) -> (&str, usize) {
        let path = self.name.trim_end_matches(".rs");
        let path = path.trim_end_matches("/mod");
        (path.split('/').next().unwrap(), path.split('/').count())
    }

    /// Parts that the file names, by `crate::` or by going up to the crate with `super::`.
    fn imports(&self) -> BTreeSet<String> {
        let (own, depth) = self.part();
        let mut found = BTreeSet::new();
        let mut at = 0;
        while at < self.words.len() {
            let ups = self.words[at..].iter().take_while(|word| *word == "super").count();
            let crate_named = self.words[at] == "crate" || (ups > 0 && ups >= depth);
            at += ups.max(1);
            if crate_named {
                found.extend(self.words.get(at..).unwrap_or_default().iter().take(1).cloned());
            }
        }
        found.remove(own);
        found
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn paths(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(paths(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn sources() -> Vec<Source> {
    let src = root().join("src");
    let rust = paths(&src).into_iter().filter(|path| path.extension().is_some_and(|is| is == "rs"));
    rust.filter_map(|path| {
        let name = path.strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
        let only_tests = name.ends_with("/tests.rs") || name.contains("/tests/") || name.ends_with("/testing.rs");
        let text = std::fs::read_to_string(&path).unwrap();
        let product = without_tests(&text);
        (!only_tests).then(|| Source { name, words: words(&product), lines: product.lines().count() })
    })
    .collect()
}

/// What stands before `#[cfg(test)]` on a module with a body; a test-only item or `mod tests;` before that is left in.
fn without_tests(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    let tests = lines.windows(2).position(|pair| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{'));
    lines[..tests.unwrap_or(lines.len())].join("\n")
}

/// The words of Rust code: no comments, no text, and a path's `::` is not one.
fn words(code: &str) -> Vec<String> {
    let mut words = Vec::new();
    for line in code.lines() {
        let line = line.split("//").next().unwrap();
        // Text goes; what is left are the pieces outside of quotes. A quoted quote is not met in this house's imports.
        for outside in line.replace("'\"'", "").replace("\\\"", "").split('"').step_by(2) {
            let split = outside.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
            words.extend(split.filter(|word| !word.is_empty()).map(str::to_owned));
        }
    }
    words
}

/// The table of ARCHITECTURE.md: for each part, what it may import.
fn allowed() -> BTreeMap<String, BTreeSet<String>> {
    let page = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let map: Vec<Vec<&str>> = page
        .lines()
        .skip_while(|line| *line != "## The map")
        .skip(1)
        .take_while(|line| !line.starts_with("## "))
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    let parts: BTreeSet<String> = map.iter().flat_map(|row| names(row[1])).collect();
    map.iter()
        .flat_map(|row| {
            let allowed: BTreeSet<String> = match row[3].strip_prefix("all") {
                Some(but) => parts.difference(&list(but.trim_start().trim_start_matches("but"))).cloned().collect(),
                None => list(row[3]),
            };
            assert!(allowed.is_subset(&parts), "the row of {} names what is no part", row[1]);
            names(row[1]).into_iter().map(move |part| (part, allowed.clone())).collect::<Vec<_>>()
        })
        .collect()
}

fn names(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(|name| name.trim_end_matches('/').trim_end_matches(".rs").to_owned()).collect()
}

fn list(cell: &str) -> BTreeSet<String> {
    cell.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[test]
fn parts_import_what_the_architecture_allows() {
    let allowed = allowed();
    let mut broken = Vec::new();
    let mut seen = BTreeSet::new();
    for source in sources() {
        let (part, _) = source.part();
        let may = allowed.get(part).unwrap_or_else(|| panic!("ARCHITECTURE.md has no row for src/{}", source.name));
        seen.insert(part.to_owned());
        for import in source.imports() {
            if allowed.contains_key(&import) && !may.contains(&import) {
                broken.push(format!("src/{} imports {import}", source.name));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    let gone: Vec<_> = allowed.keys().filter(|part| !seen.contains(*part)).collect();
    assert!(gone.is_empty(), "ARCHITECTURE.md has rows for what is not there: {gone:?}");
}

#[test]
fn the_core_is_pure() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| source.part().0 == "rotation") {
        let impure = source.words.iter().filter(|word| IMPURE.contains(&word.as_str()));
        broken.extend(impure.map(|word| format!("src/{}: {word}", source.name)));
        if source.words.windows(2).any(|pair| pair[0] == "Timestamp" && pair[1] == "now") {
            broken.push(format!("src/{}: Timestamp::now", source.name));
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn one_function_can_revoke() {
    let makes = |source: &Source| source.words.windows(2).any(|pair| pair[0] == "Effect" && pair[1] == "Revoke");
    let calls = |source: &Source| source.words.windows(2).any(|pair| pair[0] == "provider" && pair[1] == "revoke");
    let sources = sources();
    let makers: Vec<_> =
        sources.iter().filter(|source| source.part().0 == "rotation" && makes(source)).map(|is| is.name.as_str()).collect();
    assert_eq!(makers, ["rotation/plan/retire.rs"]);
    let callers: Vec<_> = sources.iter().filter(|source| calls(source)).map(|is| is.name.as_str()).collect();
    assert_eq!(callers, ["daemon/act.rs"]);
}

#[test]
fn what_has_a_home_stays_there() {
    let mut broken = Vec::new();
    for source in sources() {
        for (name, homes) in HOMES {
            let at_home = homes.iter().any(|home| source.name.starts_with(home));
            if !at_home && source.words.iter().any(|word| word == name) {
                broken.push(format!("src/{} names {name}, whose home is {homes:?}", source.name));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn files_are_short() {
    let mut broken = Vec::new();
    for Source { name, lines, .. } in sources() {
        if lines > LINES_MAX {
            broken.push(format!("src/{name} has {lines} lines before its tests"));
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn imports_are_found_however_they_are_written() {
    let source = |name: &str, code: &str| Source { name: name.to_owned(), words: words(code), lines: 0 };
    let found = |name: &str, code: &str| source(name, code).imports().into_iter().collect::<Vec<_>>();
    assert_eq!(found("a/b.rs", "use crate::store::X; // crate::graph\nlet x = \"crate::spool\";"), ["store"]);
    assert_eq!(found("a/b.rs", "use super::c; use super::super::graph::Y;"), ["graph"]);
    assert_eq!(found("a/mod.rs", "use super::graph::Y; use crate::a::Z;"), ["graph"]);
    assert_eq!(found("a/b/mod.rs", "pub(super) fn f() { crate::spool::f() }"), ["spool"]);
}
