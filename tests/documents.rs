//! The documents say what is: commands, links, events and the test command cannot drift from the code.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use evertoken::rotation::health::Phase;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// The files below a folder with one of these extensions.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|is| is == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The pages for people: those at the top and those in docs/.
fn pages() -> Vec<PathBuf> {
    let top = std::fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<_> = top.filter(|path| path.extension().is_some_and(|is| is == "md")).collect();
    pages.extend(files(&root().join("docs"), "md"));
    pages.sort();
    pages
}

/// The lines between a heading and the next one of its rank.
fn section(page: &str, heading: &str) -> String {
    let lines = page.lines().skip_while(|line| *line != heading).skip(1);
    lines.take_while(|line| !line.starts_with("## ")).map(|line| format!("{line}\n")).collect()
}

/// The first block of shell in a section.
fn shell(section: &str) -> String {
    let lines = section.lines().skip_while(|line| *line != "```sh").skip(1);
    lines.take_while(|line| *line != "```").collect::<Vec<_>>().join("\n")
}

/// What stands between backquotes.
fn code(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

#[test]
fn continuous_integration_runs_the_readmes_test_command_and_no_other() {
    let command = shell(&section(&text("README.md"), "## Test"));
    let script = root().join(&command);
    let mode = std::fs::metadata(&script).unwrap_or_else(|error| panic!("{command:?} is no file of the repository: {error}"));
    assert!(mode.permissions().mode() & 0o111 != 0, "{command} is executable");

    let run = text(".ci/run");
    let line = run.lines().find(|line| line.starts_with("test_command=")).unwrap();
    let bash = Command::new("bash").current_dir(root()).args(["-euc", &format!("{line}\nprintf %s \"$test_command\"")]).output().unwrap();
    assert_eq!(String::from_utf8(bash.stdout).unwrap(), command, "what .ci/run finds in the README");
    assert!(!run.contains("nextest") && !run.contains("cargo test"), ".ci/run tests by the README's command alone");
    assert!(run.trim_end().ends_with("bash -euo pipefail -c \"$test_command\""), "the tests' summary closes the output");
}

#[test]
fn the_readmes_configuration_is_the_minimal_one() {
    let minimal = text("config/minimal.toml");
    let minimal = minimal.split_once("\n\n").unwrap().1.trim_end();
    assert!(text("README.md").contains(&format!("```toml\n{minimal}\n```")));
}

#[test]
fn the_readmes_table_lists_every_command() {
    let help = Command::new(env!("CARGO_BIN_EXE_evertoken")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let verbs: BTreeSet<_> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|verb| *verb != "help")
        .map(str::to_owned)
        .collect();
    assert!(verbs.contains("run") && verbs.len() > 10, "{help}");

    let commands = section(&text("README.md"), "## Commands");
    let rows = commands.lines().filter(|line| line.starts_with("| `"));
    let listed: BTreeSet<_> = rows.flat_map(|row| code(row.split('|').nth(1).unwrap())).map(str::to_owned).collect();
    assert_eq!(listed, verbs, "left: README.md, right: evertoken --help");
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut broken = Vec::new();
    for page in pages() {
        let words = std::fs::read_to_string(&page).unwrap();
        for target in words.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap();
            if !path.is_empty() && !path.contains("://") && !page.parent().unwrap().join(path).exists() {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// Pages and the comments of modules name files of the repository between backquotes.
#[test]
fn files_that_are_named_are_there() {
    const FOLDERS: [&str; 9] = [".ci/", "benches/", "config/", "deploy/", "docs/", "scripts/", "src/", "systemd/", "tests/"];
    let mut gone = Vec::new();
    let sources = files(&root().join("src"), "rs").into_iter().chain(files(&root().join("tests"), "rs"));
    for page in pages().into_iter().chain(sources) {
        let words = std::fs::read_to_string(&page).unwrap();
        let comments = page.extension().is_some_and(|is| is == "rs");
        let lines = words.lines().filter(|line| !comments || line.trim_start().starts_with("//"));
        for name in lines.flat_map(code).filter(|name| FOLDERS.iter().any(|folder| name.starts_with(folder))) {
            // Of a command the program; of a pattern the folder.
            let path = name.split([' ', '*', '<', ':']).next().unwrap();
            let path = if name.contains(['*', '<']) { path.rsplit_once('/').unwrap().0 } else { path };
            if !root().join(path).exists() {
                gone.push(format!("{}: {name}", page.display()));
            }
        }
    }
    assert!(gone.is_empty(), "{gone:#?}");
}

#[test]
fn every_page_in_docs_is_in_its_index() {
    let index = text("docs/README.md");
    for page in files(&root().join("docs"), "md") {
        let name = page.file_name().unwrap().to_str().unwrap();
        assert!(name == "README.md" || index.contains(&format!("]({name})")), "docs/README.md does not lead to {name}");
    }
}

#[test]
fn the_page_on_rotation_draws_every_phase() {
    let page = text("docs/rotation.md");
    let drawn: BTreeSet<_> = page.split(|letter: char| !letter.is_ascii_lowercase() && letter != '_').collect();
    for phase in Phase::ALL {
        assert!(drawn.contains(phase.name()), "docs/rotation.md does not tell of {}", phase.name());
    }
}

#[test]
fn the_page_on_rotation_lists_the_gates_conditions() {
    let gate = text("src/rotation/revoke_gate.rs");
    let names = gate.split("name: \"").skip(1).filter_map(|rest| rest.split('"').next());
    let lets = gate.split("let name = \"").skip(1).filter_map(|rest| rest.split('"').next());
    let told: BTreeSet<_> = names.chain(lets).filter(|name| *name != "bot").map(str::to_owned).collect();
    let table = section(&text("docs/rotation.md"), "## The gate before the revoke");
    let listed: BTreeSet<_> =
        table.lines().filter(|line| line.starts_with("| `")).filter_map(|row| code(row).next()).map(str::to_owned).collect();
    assert_eq!(listed, told, "left: docs/rotation.md, right: the gate");
    assert_eq!(listed.len(), 11, "README.md and others say eleven");
}

/// Whether a text has the form of an event's name and one of the first parts that events have.
fn is_event(text: &str) -> bool {
    const ALONE: [&str; 1] = ["panic"];
    const FAMILIES: [&str; 25] = [
        "admin",
        "app",
        "breaker",
        "clock",
        "config",
        "control",
        "daemon",
        "gate",
        "graph",
        "leader",
        "ledger",
        "log",
        "promote",
        "propagation",
        "publish",
        "refresh",
        "revoke",
        "rotation",
        "stage",
        "state",
        "step",
        "store",
        "token",
        "verify",
        "spool",
    ];
    let Some((family, rest)) = text.split_once('.') else { return ALONE.contains(&text) };
    FAMILIES.contains(&family) && !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// The events of the code: what is said as `event = "..."`, and every literal of the files that name events otherwise.
fn events_of_the_code() -> BTreeSet<String> {
    let mut events = BTreeSet::new();
    for path in files(&root().join("src"), "rs") {
        let source = std::fs::read_to_string(&path).unwrap();
        let product = source.split("#[cfg(test)]").next().unwrap();
        let lines = product.lines().filter(|line| !line.trim_start().starts_with("//"));
        let whole =
            path.ends_with("daemon/announce.rs") || path.ends_with("daemon/announce/line.rs") || path.ends_with("telemetry/logging.rs");
        for line in lines {
            for (at, literal) in line.split('"').enumerate().skip(1).step_by(2) {
                let said = line.split('"').nth(at - 1).is_some_and(|before| before.trim_end().ends_with("event ="));
                if said {
                    assert!(is_event(literal), "{}: the event {literal:?} is of no known family", path.display());
                }
                if said || (whole && is_event(literal)) {
                    events.insert(literal.to_owned());
                }
            }
        }
    }
    events
}

#[test]
fn every_event_is_documented_and_every_documented_event_exists() {
    let page = text("docs/events.md");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let documented: BTreeSet<_> =
        rows.flat_map(|row| code(row.split('|').nth(1).unwrap())).filter(|name| is_event(name)).map(str::to_owned).collect();
    let said = events_of_the_code();
    let missing: Vec<_> = said.difference(&documented).collect();
    let gone: Vec<_> = documented.difference(&said).collect();
    assert!(missing.is_empty() && gone.is_empty(), "not in docs/events.md: {missing:#?}\nnot in the code: {gone:#?}");
}
