//! The configuration, from files: what is accepted, what is refused, and in which words.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use evertoken::config::settings::{Adopt, AppToken, LogFormat, Schedule, Store};
use evertoken::config::{ConfigError, Environment, Loaded, known_keys, load};
use evertoken::rotation::payload::PayloadRule;
use jiff::SignedDuration;
use proptest::prelude::*;

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn load_file(path: &Path) -> Result<Loaded, ConfigError> {
    load(path, &Environment::default())
}

/// Loads `text` from a folder of its own.
fn load_text(text: &str) -> Result<Loaded, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("evertoken.toml");
    write(&path, text);
    load_file(&path)
}

#[expect(clippy::disallowed_methods, reason = "a test's own scratch files")]
fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
}

/// A configuration with one token, and more text behind it.
fn with(more: &str) -> String {
    let minimal = fs::read_to_string(repository().join("config/minimal.toml")).unwrap();
    format!("{minimal}{more}\n")
}

#[test]
fn the_full_example_says_the_defaults() {
    let full = load_file(&repository().join("config/evertoken.toml")).unwrap();
    assert_eq!(full.warnings, []);
    let least = load_file(&repository().join("config/minimal.toml")).unwrap();
    assert_eq!(least.warnings, []);
    let (full, least) = (full.settings, least.settings);
    assert_eq!(full.daemon.tick, least.daemon.tick);
    assert_eq!(full.http, least.http);
    assert_eq!(full.log, least.log);
    assert_eq!(full.network, least.network);
    assert_eq!(full.pace, least.pace);
    assert_eq!(full.apps, least.apps);
    let (token, other) = (&full.tokens["whatsapp-bot"], &least.tokens["whatsapp-bot"]);
    assert_eq!((token.schedule, token.propagation), (other.schedule, other.propagation));
    assert_eq!((token.adopt, &token.payload), (other.adopt, &other.payload));
    assert_eq!(token.schedule, Schedule::default());
}

#[test]
fn the_least_has_the_contracts_defaults() {
    let settings = load_file(&repository().join("config/minimal.toml")).unwrap().settings;
    assert!(settings.daemon.state_dir.ends_with("evertoken-state") && settings.daemon.state_dir.is_absolute());
    assert_eq!(settings.daemon.control_socket, settings.daemon.state_dir.join("control.sock"));
    assert_eq!(settings.daemon.tick.pattern(), "*/30 * * * * *");
    assert_eq!(settings.http.listen.unwrap().to_string(), "127.0.0.1:9469");
    assert_eq!((settings.log.format, settings.log.level), (LogFormat::Auto, tracing::Level::INFO));
    assert_eq!((settings.network.proxy, settings.network.ca_file), (None, None));
    assert_eq!((settings.pace.refreshes_per_second, settings.pace.store_writes_per_second), (Some(1.0), Some(10.0)));
    let app = &settings.apps["acme"];
    assert_eq!((app.graph_url.as_str(), app.graph_version.as_str()), ("https://graph.facebook.com/", "v26.0"));
    assert_eq!((app.app_token, &app.secret_previous), (AppToken::Composed, &None));
    let token = &settings.tokens["whatsapp-bot"];
    assert_eq!((token.adopt, &token.payload, &token.required_scopes), (Adopt::Ask, &PayloadRule::Raw, &None));
    assert_eq!((token.schedule.refresh_at, token.schedule.jitter, token.schedule.audit_interval), (0.5, 0.1, None));
    assert_eq!(token.schedule.min_life, SignedDuration::from_hours(7 * 24));
    assert_eq!(token.propagation.window, SignedDuration::from_hours(24));
    assert_eq!(token.propagation.consumer_ttl, SignedDuration::from_mins(5));
}

#[test]
fn readmes_sample_is_a_configuration() {
    let Ok(readme) = fs::read_to_string(repository().join("README.md")) else { return };
    let Some((_, sample)) = readme.split_once("```toml\n") else { return };
    let (sample, _) = sample.split_once("```").unwrap();
    assert_eq!(load_text(sample).unwrap().warnings, []);
}

/// A key as the pages group it: inline tables of one shape under one name, a token's own wishes with the shared ones.
fn grouped(table: &str, key: &str) -> String {
    let table = match table.rsplit('.').next().unwrap() {
        "secret" | "secret_previous" => "secret",
        "store" | "sinks" => "entry",
        "payload" => "payload",
        "schedule" => "defaults.schedule",
        "propagation" => "defaults.propagation",
        _ => table,
    };
    format!("{table}.{key}")
}

/// Every key that holds a value: known ones that are no table of others.
fn value_keys() -> BTreeSet<String> {
    let named = ["apps", "stores", "tokens"];
    let tables = ["daemon", "http", "log", "network", "pace", "defaults", "schedule", "propagation"];
    let split = known_keys().filter_map(|pattern| pattern.rsplit_once('.'));
    split.filter(|(_, key)| !tables.contains(key) && !named.contains(key)).map(|(table, key)| grouped(table, key)).collect()
}

#[test]
fn the_reference_lists_the_keys_that_are_read() {
    let reference = fs::read_to_string(repository().join("docs/configuration.md")).unwrap();
    let mut documented = BTreeSet::new();
    let mut table = String::new();
    for line in reference.lines() {
        if let Some(heading) = line.strip_prefix("### `") {
            table = heading.trim_end_matches('`').trim_matches(['[', ']']).to_owned();
        } else if let Some(row) = line.strip_prefix("| `") {
            documented.insert(grouped(&table, row.split('`').next().unwrap()));
        }
    }
    assert_eq!(documented, value_keys());
}

#[test]
fn the_full_example_shows_the_keys_that_are_read() {
    let example = fs::read_to_string(repository().join("config/evertoken.toml")).unwrap();
    let mut shown = BTreeSet::new();
    let mut table = String::new();
    for line in example.lines().map(|line| line.trim_start_matches(['#', ' '])) {
        if let Some(header) = line.strip_prefix('[') {
            let header = header.split(']').next().unwrap();
            let mut parts: Vec<&str> = header.split('.').collect();
            if ["apps", "stores", "tokens"].contains(&parts[0]) {
                parts[1] = "NAME";
            }
            table = parts.join(".");
        } else if let Some((key, _)) = line.split_once(" = ") {
            shown.insert(grouped(&table, key));
        }
    }
    for inline in
        ["secret.file", "secret.env", "secret.credential", "secret.store", "entry.name", "entry.entry", "payload.key", "payload.template"]
    {
        assert!(
            example.contains(&format!("{{ {} = ", inline.split('.').nth(1).unwrap()))
                || inline == "entry.entry" && example.contains(", entry = ")
        );
        shown.insert(inline.to_owned());
    }
    let missing: Vec<_> = value_keys().difference(&shown).cloned().collect();
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn a_tokens_own_wishes_win_over_the_shared_ones() {
    let text = with(
        "[defaults.schedule]\nrefresh_at = 0.4\naudit_interval = \"2h\"\n[defaults.propagation]\nwindow = \"48h\"\n[tokens.whatsapp-bot.schedule]\nrefresh_at = 0.3\n[tokens.whatsapp-bot.propagation]\nconsumer_ttl = \"1h\"",
    );
    let settings = load_text(&text).unwrap().settings;
    let token = &settings.tokens["whatsapp-bot"];
    assert_eq!((token.schedule.refresh_at, token.schedule.jitter), (0.3, 0.1));
    assert_eq!(token.schedule.audit_interval, Some(SignedDuration::from_hours(2)));
    assert_eq!(token.propagation.window, SignedDuration::from_hours(48));
    assert_eq!(token.propagation.consumer_ttl, SignedDuration::from_hours(1));
}

#[test]
fn systemd_names_the_folders() {
    let environment = Environment::from_lookup(|name| {
        Some(match name {
            "STATE_DIRECTORY" => "/var/lib/evertoken:/var/lib/other".into(),
            "RUNTIME_DIRECTORY" => "/run/evertoken".into(),
            _ => return None,
        })
    });
    let settings = load(&repository().join("config/minimal.toml"), &environment).unwrap().settings;
    assert_eq!(settings.daemon.state_dir, Path::new("/var/lib/evertoken"));
    assert_eq!(settings.daemon.control_socket, Path::new("/run/evertoken/control.sock"));
}

#[test]
fn conf_d_adds_tokens_in_the_order_of_names() {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("evertoken.toml");
    write(&main, &with(""));
    fs::create_dir(folder.path().join("conf.d")).unwrap();
    let token = |name: &str, entry: &str| {
        format!(
            "[tokens.{name}]\napp = \"acme\"\nsystem_user_id = \"{}\"\nstore = {{ name = \"prod\", entry = \"{entry}\" }}\n",
            name.len()
        )
    };
    write(&folder.path().join("conf.d/20-b.toml"), &token("b", "meta/b"));
    write(&folder.path().join("conf.d/10-a.toml"), &token("aa", "meta/a"));
    write(&folder.path().join("conf.d/.hidden.toml"), "not = toml = at all");
    write(&folder.path().join("conf.d/notes.txt"), "neither is this");
    let loaded = load_file(&main).unwrap();
    assert_eq!(loaded.settings.tokens.keys().map(ToString::to_string).collect::<Vec<_>>(), ["aa", "b", "whatsapp-bot"]);
    let names: Vec<_> = loaded.files.iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["evertoken.toml", "10-a.toml", "20-b.toml"]);

    write(&folder.path().join("conf.d/30-c.toml"), &format!("[log]\nlevel = \"debug\"\n{}", token("b", "meta/c")));
    let error = load_file(&main).unwrap_err().to_string();
    assert!(error.contains("30-c.toml:1:2: [log]: a file in conf.d holds [tokens.NAME] only"), "{error}");
    assert!(error.contains("30-c.toml:3:9: [tokens.b]: this token stands in") && error.contains("20-b.toml:1 already"), "{error}");
    assert_eq!(error.lines().count(), 2, "{error}");
}

#[test]
fn whatever_an_editor_leaves_in_a_file_is_read() {
    let plain = with("");
    for text in [format!("\u{feff}{plain}"), plain.replace('\n', "\r\n"), plain.replace(" = ", "\t=\t"), plain.trim_end().to_owned()] {
        assert_eq!(load_text(&text).map(|loaded| loaded.settings.tokens.len()), Ok(1), "{text:?}");
    }
    for empty in ["", "\n", "\u{feff}", "# nothing\n"] {
        assert!(load_text(empty).unwrap().warnings[0].what.contains("no token is configured"), "{empty:?}");
    }
    let error = load_text("[app.acme]\nid = \"1\"\n[store.prod]\nkind = \"file\"\n[tokens.a]\napp = \"acme\"\nsystem_user_id = \"1\"\nstore = { name = \"prod\", entry = \"a\" }").unwrap_err();
    assert_eq!(error.mistakes.len(), 2, "what lies in a misspelt table is not missed as well: {error}");
}

#[test]
fn what_cannot_be_read_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let says = |path: &Path| load_file(path).unwrap_err().to_string();
    assert!(says(&folder.path().join("none.toml")).contains("none.toml:1:1: the configuration cannot be read: No such file"));
    assert!(says(folder.path()).contains("it is a folder; name the file in it, as in --config"));
    let path = folder.path().join("latin1.toml");
    #[expect(clippy::disallowed_methods, reason = "a test's own scratch files")]
    fs::write(&path, b"# caf\xe9\n").unwrap();
    assert!(says(&path).contains("not UTF-8 from byte 5 on"));
}

#[test]
fn file_stores_and_stored_secrets_are_read() {
    let settings = load_text(&with(
        "[stores.disk]\nkind = \"file\"\ndir = \"tokens\"\nmode = \"0600\"\ngroup = \"100\"\n[apps.b]\nid = \"2\"\napp_token = \"fetched\"\ngraph_url = \"http://127.0.0.1:8080\"\nsecret = { store = { name = \"disk\", entry = \"b\" } }\nsecret_previous = { env = \"B_OLD\" }",
    ))
    .unwrap()
    .settings;
    let Store::File(disk) = &settings.stores["disk"] else { panic!("a file store") };
    assert!(disk.dir.is_absolute() && disk.dir.ends_with("tokens"));
    assert_eq!((disk.mode, disk.group.as_deref()), (0o600, Some("100")));
    assert_eq!(settings.stores["prod"].kind(), "aws-secrets-manager");
}

/// What comes of a file under `tests/config`, as `evertoken check` would print it.
fn told(path: &Path) -> String {
    let lines = match load_file(path) {
        Ok(loaded) => loaded.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect(),
        Err(error) => format!("{error}\n"),
    };
    // Tests run in the package's folder, and names are shown as they were given.
    assert!(lines.lines().all(|line| !line.contains(env!("CARGO_MANIFEST_DIR"))), "{lines}");
    lines
}

/// With `UPDATE_GOLDEN` set the texts are written anew.
#[test]
fn each_file_is_told_as_expected() {
    #[expect(clippy::disallowed_methods, reason = "the switch by which a person accepts a change of these files")]
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut seen = 0;
    let mut different = Vec::new();
    for entry in fs::read_dir("tests/config").unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let (told, expected) = (told(&path), fs::read_to_string(path.with_extension("txt")).unwrap_or_default());
            if told != expected && update {
                write(&path.with_extension("txt"), &told);
            } else if told != expected {
                different.push(format!("{}:\n{told}", path.display()));
            }
            seen += 1;
        }
    }
    assert!(seen >= 6, "the files are there");
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn no_pasted_secret_comes_out_again() {
    for name in ["literal-secrets", "literal-secrets-broken"] {
        let told = told(Path::new("tests/config").join(name).with_extension("toml").as_path());
        assert!(!told.is_empty() && !told.contains("hunter2"), "{told}");
    }
}

/// What people paste where it does not belong: drawn, 40 characters, of no form that is Meta's.
const CANARIES: [&str; 2] = ["s3cr3t-canary-k7Qz90vLw2Xy41Rb8TmN5cJd6e", "s3cr3tcanaryk7qz90vlw2xy41rb8tmn5cjd6egh"];

/// Every way to write a key of the schema with that value, each a file of its own: in quotes, bare, in an array, in a table, as the key.
fn pasted(pattern: &str, canary: &str) -> Vec<String> {
    let path = pattern.replacen("NAME", "x", 1);
    let (table, key) = path.rsplit_once('.').unwrap_or(("", &path));
    let table = if table.is_empty() { String::new() } else { format!("[{table}]\n") };
    let values =
        [format!("\"{canary}\""), canary.to_owned(), format!("\"{canary}"), format!("[\"{canary}\"]"), format!("{{ key = \"{canary}\" }}")];
    let mut texts: Vec<String> = values.iter().map(|value| format!("{table}{key} = {value}\n")).collect();
    texts.push(format!("{table}{canary} = \"{key}\"\n"));
    texts.push(format!("{table}{canary}\n"));
    texts.push(format!("{table}{key} = \"\"\n{key} = \"{canary}\"\n"));
    texts.push(format!("{table}{key} = 1 \"{canary}\"\n"));
    texts
}

#[test]
fn what_is_pasted_under_any_key_comes_out_nowhere() {
    let mut seen = 0;
    for pattern in known_keys() {
        let kinds: &[&str] =
            if pattern.starts_with("stores.") { &["", "kind = \"file\"\n", "kind = \"aws-secrets-manager\"\n"] } else { &[""] };
        for (canary, kind) in CANARIES.iter().flat_map(|canary| kinds.iter().map(move |kind| (canary, kind))) {
            for text in pasted(pattern, canary) {
                let (head, rest) = text.split_once(']').filter(|_| !kind.is_empty()).unwrap_or(("", &text));
                let text = if kind.is_empty() { text.clone() } else { format!("{head}]\n{kind}{rest}") };
                let told = match load_text(&text) {
                    Ok(loaded) => format!("{:?}", loaded.warnings),
                    Err(error) => format!("{error} {error:?}"),
                };
                let (head, tail) = (canary.get(..12).unwrap(), canary.get(20..).unwrap());
                assert!(!told.contains(head) && !told.contains(tail), "{pattern}: {text}\n{told}");
                seen += 1;
            }
        }
    }
    assert!(seen > 1_000, "{seen}");
}

#[test]
fn what_is_taken_and_told_of_later_is_no_secret() {
    let canary = CANARIES[0];
    let token = |line: &str| {
        with(&format!("[tokens.x]\napp = \"acme\"\nsystem_user_id = \"7\"\nstore = {{ name = \"prod\", entry = \"x\" }}\n{line}"))
    };
    for text in [
        format!("[daemon]\nstate_dir = \"{canary}\""),
        format!("[daemon]\ncontrol_socket = \"{canary}\""),
        format!("[network]\nca_file = \"{canary}\""),
        format!("[apps.x]\nid = \"1\"\nsecret = {{ file = \"{canary}\" }}"),
        format!("[apps.x]\nid = \"1\"\nsecret = {{ env = \"{}\" }}", CANARIES[1]),
        format!("[apps.x]\nid = \"1\"\nsecret = {{ credential = \"{canary}\" }}"),
        format!("[stores.x]\nkind = \"aws-secrets-manager\"\nprofile = \"{canary}\""),
        format!("[stores.x]\nkind = \"file\"\ndir = \"{canary}\""),
        format!("[stores.x]\nkind = \"file\"\ndir = \"/x\"\ngroup = \"{canary}\""),
        token(&format!("payload = {{ key = \"{canary}\" }}")),
        token(&format!("required_scopes = [\"{}\"]", CANARIES[1])),
        token("").replace("entry = \"x\"", "entry = \"EAAB0123456789abcdef\""),
        token("").replace("entry = \"x\"", "entry = \"0123456789abcdef0123456789abcdef\""),
    ] {
        let text = if text.starts_with("[tokens") || text.starts_with('#') || text.contains("[tokens.x]") { text } else { with(&text) };
        let error = load_text(&text).expect_err(&text).to_string();
        assert!(error.contains("looks like a secret") || error.contains("the value is no"), "{text}\n{error}");
    }
}

#[test]
fn a_file_that_others_may_change_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("evertoken.toml");
    write(&path, &with(""));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let warnings = load_file(&path).unwrap().warnings;
    assert!(warnings[0].to_string().contains("the mode 0666 lets others than the owner change it"), "{warnings:?}");
}

#[test]
fn a_broken_file_of_conf_d_does_not_blame_the_main_one() {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("evertoken.toml");
    write(&main, &with("[stores.spare]\nkind = \"aws-secrets-manager\""));
    fs::create_dir(folder.path().join("conf.d")).unwrap();
    write(&folder.path().join("conf.d/a.toml"), "[tokens.a\nstore = { name = \"spare\", entry = \"a\" }\n");
    let error = load_file(&main).unwrap_err();
    assert!(error.mistakes.iter().all(|mistake| mistake.file.ends_with("conf.d/a.toml")), "{error}");
}

#[test]
fn thousands_of_tokens_are_read_and_told_apart() {
    let token = |name: &str, id: usize, entry: &str| {
        format!("[tokens.{name}]\napp = \"acme\"\nsystem_user_id = \"{id}\"\nstore = {{ name = \"prod\", entry = \"{entry}\" }}\n")
    };
    let mut text = with(&(0..5_000).map(|at| token(&format!("t{at}"), at, &format!("e{at}"))).collect::<String>());
    assert_eq!(load_text(&text).unwrap().settings.tokens.len(), 5_001);
    text.push_str(&token("last", 77_777, "e4999"));
    let error = load_text(&text).unwrap_err();
    // In the order of names "last" comes before "t4999", so the latter is told that it is second.
    assert!(error.to_string().contains("[tokens.t4999.store] entry: the token last is written to this entry already"), "{error}");
    assert_eq!(error.mistakes.len(), 1);
}

/// The full example after one edit: a value replaced, the end lost, a line doubled, a line turned to rubbish.
fn edited() -> impl Strategy<Value = String> {
    let example = fs::read_to_string(repository().join("config/evertoken.toml")).unwrap();
    let lines: Vec<String> = example.lines().map(str::to_owned).collect();
    let values = [
        "",
        "=",
        "[",
        "\"",
        "true",
        "-1",
        "0",
        "1e999",
        "99999999999999999999",
        "\"\"",
        "\"\\u0000\"",
        "[[]]",
        "{}",
        "1979-05-27",
        "\"\u{e9}\"",
        "'''",
    ];
    (0..lines.len(), proptest::sample::select(values.to_vec()), 0..4).prop_map(move |(at, value, how)| {
        let mut lines = lines.clone();
        match how {
            0 => lines[at] = format!("{} = {value}", key_of(&lines[at])),
            1 => lines.truncate(at),
            2 => lines.insert(at, lines[at].clone()),
            _ => lines[at] = value.to_owned(),
        }
        lines.join("\n")
    })
}

/// The key that a line sets, also where it is commented out.
fn key_of(line: &str) -> &str {
    line.trim_start_matches(['#', ' ']).split('=').next().unwrap_or_default().trim_end()
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(?s).{0,200}") {
        if let Err(error) = load_text(&text) {
            prop_assert!(!error.mistakes.is_empty());
        }
    }

    #[test]
    fn no_edit_makes_it_panic_or_fail_in_silence(text in edited()) {
        if let Err(error) = load_text(&text) {
            prop_assert!(!error.mistakes.is_empty());
            let lines = text.lines().count() + 1;
            prop_assert!(error.mistakes.iter().all(|told| (1..=lines).contains(&told.line) && told.column > 0 && !told.what.is_empty()));
        }
    }

    #[test]
    fn a_pasted_token_never_comes_out(at in any::<proptest::sample::Index>(), quotes in any::<bool>(), alone in any::<bool>()) {
        const TOKEN: &str = "EAAxyzPASTEDtokenPASTED0123456789";
        let example = fs::read_to_string(repository().join("config/evertoken.toml")).unwrap();
        let mut lines: Vec<String> = example.lines().map(str::to_owned).collect();
        let at = at.index(lines.len());
        let quote = if quotes { "\"" } else { "" };
        let (key, next) = (key_of(&lines[at]).to_owned(), format!("{quote}{TOKEN}{quote} = 1"));
        lines[at] = if alone { next } else { format!("{key} = {quote}{TOKEN}{quote}") };
        if let Err(error) = load_text(&lines.join("\n")) {
            prop_assert!(!error.to_string().contains("PASTED"), "{error}");
        }
    }
}
