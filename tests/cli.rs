//! The command line as people and scripts use it, wrongly above all: every failure is told in one line that says what happened and
//! what to do, with the right exit code, and nothing is lost by it.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail, writes files as it likes and waits for a child")]

mod program;

use std::os::unix::fs::MetadataExt as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use evertoken::simulator::fault::{Fault, Rule};
use evertoken::simulator::graph::Graph;
use evertoken::simulator::secrets_manager::SecretsManager;
use evertoken::state_dir::{Holder, StateDir};
use program::{ENTRY, Ran, SECRET, World, bare, finish};
use serde_json::Value;

/// One line on standard error that holds all of these, and nothing on standard output.
fn one_line(ran: &Ran, parts: &[&str]) {
    assert_eq!((ran.err.trim_end().lines().count(), ran.out.as_str()), (1, ""), "{ran:#?}");
    holds(ran, parts);
}

fn holds(ran: &Ran, parts: &[&str]) {
    for part in parts {
        assert!(ran.err.contains(part) || ran.out.contains(part), "{part:?} is not in {ran:#?}");
    }
    assert!(!ran.err.contains("panicked"), "{ran:#?}");
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:#?}"))
}

/// Everything at AWS.
fn secrets(world: &World) -> String {
    serde_json::to_string(&world.manager.dump_all(true, world.clock.now())).unwrap()
}

/// What consumers read.
fn current(manager: &SecretsManager, world: &World) -> String {
    let dump = manager.dump(ENTRY, true, world.clock.now()).unwrap();
    dump.labelled("AWSCURRENT").unwrap().fingerprint.clone()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what} does not happen");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_line_that_makes_no_sense_is_usage() {
    for (arguments, part) in [
        (&[][..], "Usage:"),
        (&["statsu"], "'status'"),
        (&["rotate", "--al"], "'--all'"),
        (&["status", "-o", "xml"], "[possible values: table, json]"),
        (&["breaker"], "Usage:"),
        (&["adopt", "bot", "--create"], "--token-file"),
        (&["check", "--offline", "--write"], "cannot be used with"),
        (&["ledger", "close", "bot", "--revoked-all-at", "yesterday"], "yesterday"),
        (&["rotate", "bot", "--token", "EAA"], "unexpected argument"),
    ] {
        let ran = finish(bare(arguments), "");
        assert_eq!(ran.code, Some(2), "{arguments:?}: {ran:#?}");
        holds(&ran, &[part]);
    }
    for arguments in [&["--help"][..], &["--version"], &["rotate", "--help"]] {
        assert_eq!(finish(bare(arguments), "").code, Some(0), "{arguments:?}");
    }
    for verb in ["run", "check", "status", "history"] {
        let ran = finish(bare(&[verb, "--config", "/no/such.toml"]), "");
        assert_eq!(ran.code, Some(2), "{ran:#?}");
        one_line(&ran, &["/no/such.toml", "--config"]);
    }
}

#[test]
fn every_mistake_of_a_configuration_is_told_at_once() {
    let world = World::new();
    world.rewrite("system_user_id = \"10001\"", "system_user = 3\nwindw = 1");
    world.rewrite("id = \"1234567890\"", "id = \"0123456789abcdef0123456789abcdef\"");
    for verb in [&["run"][..], &["check"], &["status"], &["rotate", "bot"], &["history"]] {
        let ran = world.ran(2, verb);
        holds(&ran, &["system_user", "windw", "[apps.acme] id"]);
        assert!(!ran.err.contains("0123456789abcdef0123456789abcdef"), "{ran:#?}");
    }
}

#[test]
fn names_that_mean_nothing_are_told_with_what_was_meant() {
    let world = World::new();
    let wrong = [
        (&["rotate", "bto", "--yes"][..], "did you mean \"bot\"?"),
        (&["status", "bto"], "did you mean \"bot\"?"),
        (&["hold", "bot", "whatsapp", "--yes"], "there are: bot"),
        (&["explain", "x*"], "no token matches \"x*\""),
        (&["status", "--phase", "rset"], "did you mean \"rest\"?"),
        (&["release", "--app", "acne", "--yes"], "did you mean \"acme\"?"),
        (&["rotate", "--yes"], "say which tokens"),
    ];
    let before = secrets(&world);
    let all = |world: &World| {
        for (arguments, part) in &wrong {
            let ran = world.ran(2, arguments);
            one_line(&ran, &[part]);
        }
    };
    all(&world);
    let _daemon = world.daemon();
    all(&world);
    assert_eq!(secrets(&world), before);
    for arguments in [&["history", "bto"][..], &["history", "bot", "x*"]] {
        let ran = world.ran(2, arguments);
        one_line(&ran, &["no token", "bot"]);
        assert!(ran.out.is_empty(), "{ran:#?}");
    }
    for arguments in [&["history", "b*"][..], &["history", "--all"], &["history", "bot", "b?t"]] {
        holds(&world.ran(0, arguments), &[]);
    }
}

#[test]
fn nothing_changes_without_a_yes() {
    let world = World::new();
    world.ran(0, &["adopt", "bot", "--yes"]);
    let writes = |world: &World| world.aws.journal(0).iter().filter(|entry| entry.call.starts_with("Put")).count();
    let adopted = writes(&world);
    for verb in [&["rotate", "bot"][..], &["hold", "bot"], &["release", "--all"], &["breaker", "close"]] {
        let ran = world.ran(2, verb);
        holds(&ran, &["--yes", "--dry-run"]);
        let mut dry = verb.to_vec();
        dry.push("--dry-run");
        holds(&world.ran(0, &dry), &["nothing was changed"]);
    }
    assert_eq!(writes(&world), adopted);
    let _daemon = world.daemon();
    until("the first look", || json(&world.run(&["status", "-o", "json"]))["tokens"][0]["phase"] == "rest");
    let settled = secrets(&world);
    holds(&world.ran(2, &["rotate", "bot"]), &["--yes"]);
    holds(&world.ran(0, &["rotate", "bot", "--dry-run"]), &["nothing was changed"]);
    assert_eq!(secrets(&world), settled);
    assert!(world.meta.journal(0).iter().all(|entry| entry.call != "refresh"));
}

#[test]
fn a_token_file_that_holds_no_token_is_refused() {
    let world = World::new();
    world.manager.create("meta/empty", None, world.clock.now()).unwrap();
    world.rewrite(ENTRY, "meta/empty");
    let before = secrets(&world);
    world.put("empty", "\n");
    world.put("blank", "EAAone EAAtwo");
    world.put("long", "E".repeat(20_000));
    world.put("padded", format!("EAA{}EAA", " ".repeat(17_000)));
    world.put("binary", [0xff, 0xfe, 0x00]);
    for (file, part) in [
        ("none", "No such file"),
        ("empty", "empty"),
        ("blank", "blank"),
        ("long", "longer than"),
        ("padded", "longer than"),
        ("binary", "not text"),
        (".", "directory"),
    ] {
        let ran = world.ran(1, &["adopt", "bot", "--token-file", file, "--yes"]);
        one_line(&ran, &[part, "Nothing was changed", "To do"]);
        assert!(!ran.err.contains("EAA"), "{ran:#?}");
    }
    let ran = world.ran(2, &["adopt", "--all", "--token-file", "blank", "--yes"]);
    assert!(!ran.err.contains("EAAone"), "{ran:#?}");
    world.put("good", &world.token);
    one_line(&world.ran(2, &["adopt", "--all", "--token-file", "good", "--yes"]), &["name exactly one"]);
    world.put("strange", "EAAnobodyKnowsThisOne");
    let ran = world.ran(1, &["adopt", "bot", "--token-file", "strange", "--yes"]);
    holds(&ran, &["not done", "Nothing was changed"]);
    world.keeps_secrets(&ran);
    assert_eq!(secrets(&world), before);
    // A line end behind it, as editors leave it, is no harm; and standard input will do.
    let ran = finish(world.command(&["adopt", "bot", "--token-file", "-", "--yes"]), &format!("{}\n", world.token));
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    world.keeps_secrets(&ran);
    let dump = world.manager.dump("meta/empty", true, world.clock.now()).unwrap();
    assert_eq!(dump.labelled("AWSCURRENT").unwrap().fingerprint, world.fingerprint);
}

#[test]
fn a_full_entry_is_never_overwritten_by_an_adoption() {
    let world = World::new();
    let other = world.graph.issue(Graph::sample_token(), world.clock.now());
    world.put("other", &other.text);
    let ran = world.ran(1, &["adopt", "bot", "--token-file", "other", "--yes"]);
    holds(&ran, &["holds something already", "To do: leave out --token-file"]);
    world.keeps_secrets(&ran);
    assert_eq!(current(&world.manager, &world), world.fingerprint);
    let _daemon = world.daemon();
    holds(&world.ran(1, &["adopt", "bot", "--token-file", "other", "--yes"]), &["holds something already"]);
    assert_eq!(current(&world.manager, &world), world.fingerprint);
    world.ran(0, &["adopt", "bot", "--yes"]);
    // Adopted, its sink is filled by the daemon.
    until("the sink is filled", || std::fs::read_to_string(world.path("tokens/bot/token")).is_ok_and(|text| text == world.token));
}

#[test]
fn an_entry_is_created_only_when_that_is_said() {
    let world = World::new();
    world.rewrite(&format!("name = \"prod\", entry = \"{ENTRY}\""), "name = \"disk\", entry = \"own/bot\"");
    world.rewrite("sinks = [{ name = \"disk\", entry = \"bot\" }]\n", "");
    world.put("token", &world.token);
    let ran = world.ran(1, &["adopt", "bot", "--token-file", "token", "--yes"]);
    holds(&ran, &["add --create"]);
    let ran = world.ran(0, &["adopt", "bot", "--token-file", "token", "--create", "--yes"]);
    holds(&ran, &["manages token", &world.fingerprint]);
    world.keeps_secrets(&ran);
    assert_eq!(std::fs::read_to_string(world.path("tokens/own/bot/token")).unwrap(), world.token);
    // At AWS, what does not exist is created likewise.
    let world = World::new();
    world.rewrite(ENTRY, "meta/new");
    world.put("token", &world.token);
    holds(&world.ran(1, &["adopt", "bot", "--token-file", "token", "--yes"]), &["add --create"]);
    assert!(world.manager.dump("meta/new", false, world.clock.now()).is_none());
    world.ran(0, &["adopt", "bot", "--token-file", "token", "--create", "--yes"]);
    assert!(world.manager.dump("meta/new", false, world.clock.now()).is_some());
}

#[test]
fn orders_are_carried_out_alone_and_by_a_daemon() {
    let world = World::new();
    world.rewrite("[apps.acme]", "[defaults.propagation]\nwindow = \"2s\"\nconsumer_ttl = \"1s\"\n[apps.acme]");
    holds(&world.ran(3, &["rotate", "bot", "--yes"]), &["not rotated", "`evertoken adopt bot`"]);
    world.ran(0, &["adopt", "bot", "--yes"]);
    let held = |world: &World| {
        holds(&world.ran(0, &["hold", "bot", "--why", "audit", "--yes"]), &["held: audit"]);
        holds(&world.ran(0, &["hold", "bot", "--yes"]), &["held already"]);
        let ran = world.ran(3, &["rotate", "bot", "--yes"]);
        holds(&ran, &["not rotated", "held since", "`evertoken release bot`"]);
        assert!(!ran.err.contains("mint a new token"), "a plan that cannot come true is not shown: {ran:#?}");
        holds(&world.ran(3, &["status", "bot"]), &["bot"]);
        holds(&world.ran(0, &["release", "bot", "--yes"]), &["released"]);
    };
    held(&world);
    let first = current(&world.manager, &world);
    let ran = world.ran(0, &["rotate", "bot", "--yes"]);
    holds(&ran, &["the old one is revoked by the daemon"]);
    world.keeps_secrets(&ran);
    let second = current(&world.manager, &world);
    assert_ne!(first, second);
    let works = |world: &World| world.graph.state(world.clock.now()).working("10001").len();
    assert_eq!(works(&world), 2);
    holds(&world.ran(3, &["rotate", "bot", "--yes"]), &["under way already", "--wait"]);

    let _daemon = world.daemon();
    until("the revoke", || works(&world) == 1);
    until("rest", || json(&world.run(&["status", "-o", "json"]))["tokens"][0]["phase"] == "rest");
    held(&world);
    let ran = world.ran(0, &["rotate", "bot", "--wait", "--yes"]);
    world.keeps_secrets(&ran);
    assert_ne!(current(&world.manager, &world), second);
    assert_eq!(works(&world), 1);
    assert!(world.graph.violations().is_empty(), "{:?}", world.graph.violations());
}

#[test]
fn what_is_shown_is_shown_with_and_without_a_daemon() {
    let world = World::new();
    let shown = |world: &World, phase: &str, code: i32| {
        for verb in ["status", "plan", "explain"] {
            let code = if verb == "plan" { 0 } else { code };
            let ran = world.ran(code, &[verb, "-o", "json"]);
            assert_eq!(json(&ran)["tokens"][0]["phase"], phase, "{ran:#?}");
            let ran = world.ran(code, &[verb]);
            assert!(ran.out.contains("bot") && ran.err.is_empty(), "{ran:#?}");
            world.keeps_secrets(&ran);
        }
        let ran = world.ran(0, &["history", "-o", "json"]);
        assert!(json(&ran)["rows"].is_array() || json(&ran).is_array(), "{ran:#?}");
        world.ran(0, &["history", "bot"]);
    };
    shown(&world, "unadopted", 3);
    world.ran(0, &["adopt", "bot", "--yes"]);
    let _daemon = world.daemon();
    until("rest", || json(&world.run(&["status", "-o", "json"]))["tokens"][0]["phase"] == "rest");
    shown(&world, "rest", 0);
}

#[test]
fn a_daemon_elsewhere_is_asked_by_its_url() {
    let world = World::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let url = format!("http://{address}");
    one_line(&world.ran(1, &["status", "--url", &url]), &[&address.to_string(), "To do"]);
    one_line(&world.ran(2, &["status", "--url", "https://x"]), &["http://HOST:PORT"]);
    one_line(&world.ran(2, &["status", "--url", &url, "--app", "acme"]), &["--url"]);
    world.rewrite("listen = \"off\"", &format!("listen = \"{address}\""));
    let _daemon = world.daemon();
    until("the first look", || json(&world.run(&["status", "--url", &url, "-o", "json"]))["tokens"][0]["phase"] == "unadopted");
    one_line(&world.ran(2, &["status", "bto", "--url", &url]), &["did you mean \"bot\"?"]);
    // Something else that listens there is told apart from a daemon.
    let graph = std::fs::read_to_string(world.path("evertoken.toml")).unwrap();
    let graph = graph.lines().find_map(|line| line.strip_prefix("graph_url = \"")).unwrap().trim_end_matches('"').to_owned();
    let ran = world.ran(1, &["status", "--url", &graph]);
    one_line(&ran, &[]);
}

#[test]
fn one_daemon_at_a_time_and_the_second_says_which() {
    let world = World::new();
    let _daemon = world.daemon();
    one_line(&world.ran(1, &["run"]), &["is in use by run (process ", "stop it first"]);
    one_line(&world.ran(1, &["run", "--once"]), &["is in use by run (process "]);
}

#[test]
fn a_port_or_a_socket_that_cannot_be_had_is_named() {
    let world = World::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    world.rewrite("listen = \"off\"", &format!("listen = \"{address}\""));
    let last = |ran: &Ran| ran.err.trim_end().lines().last().unwrap_or_default().to_owned();
    let ran = world.ran(1, &["run"]);
    assert!(last(&ran).contains(&address) && last(&ran).contains("[http] listen"), "{ran:#?}");
    world.rewrite(&address, "off");
    world.rewrite("state/control.sock", "no/such/control.sock");
    let ran = world.ran(1, &["run"]);
    assert!(last(&ran).contains("no/such") && last(&ran).contains("control_socket"), "{ran:#?}");
    assert!(world.meta.journal(0).is_empty(), "nothing is asked before the doors are open");
}

#[test]
fn a_stale_socket_is_taken_over() {
    let world = World::new();
    std::fs::create_dir(world.path("state")).unwrap();
    world.mode("state", 0o700);
    drop(std::os::unix::net::UnixListener::bind(world.path("state/control.sock")).unwrap());
    world.ran(0, &["adopt", "bot", "--yes"]);
    let _daemon = world.daemon();
    world.ran(0, &["plan"]);
}

#[test]
fn a_lock_held_by_a_command_is_waited_for() {
    let world = World::new();
    let held = StateDir::lock(&world.path("state"), Holder::Command).unwrap();
    let ran = world.ran(1, &["status"]);
    one_line(&ran, &["is in use by command (process ", "wait for it, or end it"]);
    let starting = world.command(&["run", "--once"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    drop(held);
    let ended = starting.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(3), "it waited, looked, and found a token that is not adopted");
}

#[test]
fn secrets_come_from_files_variables_credentials_and_stores() {
    let world = World::new();
    let file = format!("file = \"{}\"", world.path("app.secret").display());
    std::fs::rename(world.path("app.secret"), world.path("gone")).unwrap();
    for verb in [&["run"][..], &["status"], &["rotate", "bot", "--yes"]] {
        let ran = world.ran(1, verb);
        let last = ran.err.trim_end().lines().last().unwrap_or_default().to_owned();
        assert!(last.contains("[apps.acme] secret") && last.contains("app.secret") && last.contains("To do"), "{ran:#?}");
    }
    world.rewrite(&file, "env = \"APP_SECRET\"");
    let ran = world.ran(1, &["status"]);
    one_line(&ran, &["APP_SECRET is not set", "EnvironmentFile="]);
    let mut command = world.command(&["status"]);
    command.env("APP_SECRET", SECRET);
    assert_eq!(finish(command, "").code, Some(3));
    world.rewrite("env = \"APP_SECRET\"", "credential = \"app\"");
    one_line(&world.ran(1, &["status"]), &["CREDENTIALS_DIRECTORY", "LoadCredential=app"]);
    std::fs::create_dir(world.path("credentials")).unwrap();
    world.put("credentials/app", SECRET);
    let mut command = world.command(&["status"]);
    command.env("CREDENTIALS_DIRECTORY", world.path("credentials"));
    assert_eq!(finish(command, "").code, Some(3));
    world.rewrite("credential = \"app\"", "store = { name = \"prod\", entry = \"app/secret\" }");
    let ran = world.run(&["status"]);
    assert!(ran.err.contains("prod:app/secret") && !ran.err.contains("panicked"), "{ran:#?}");
    world.manager.create("app/secret", Some(SECRET), world.clock.now()).unwrap();
    world.ran(3, &["status"]);
}

#[test]
fn hostile_answers_store_nothing_and_lose_nothing() {
    let world = World::new();
    world.manager.create("meta/empty", None, world.clock.now()).unwrap();
    world.rewrite(ENTRY, "meta/empty");
    world.put("token", &world.token);
    let before = secrets(&world);
    for fault in [
        Fault::page(200, "text/plain", "Service Unavailable"),
        Fault::page(200, "application/json", "{\"data\":{\"is_valid\":\"maybe\",\"scopes\":7}}"),
        Fault::page(200, "application/json", "{\"data\":{\"is_valid\":true,\"app_id\":\"666\",\"user_id\":\"10001\"}}"),
        Fault::Redirect { status: 307, location: "http://127.0.0.1:1/steal".into() },
        Fault::Endless { bytes: Some(5_000_000) },
        Fault::Truncate { bytes: 20 },
    ] {
        world.meta.clear_rules();
        world.meta.add_rule(Rule::always("*", fault.clone()));
        let ran = world.ran(1, &["adopt", "bot", "--token-file", "token", "--yes"]);
        holds(&ran, &["not done", "Nothing was changed", "To do"]);
        world.keeps_secrets(&ran);
        assert_eq!(secrets(&world), before, "{fault:?}");
    }
    world.meta.clear_rules();
    world.ran(0, &["adopt", "bot", "--token-file", "token", "--yes"]);
    // The store's answers likewise: what is not understood permits nothing.
    for fault in [Fault::page(200, "text/html", "<html>login</html>"), Fault::page(200, "application/x-amz-json-1.1", "[1,2")] {
        world.aws.clear_rules();
        world.aws.add_rule(Rule::always("*", fault));
        let ran = world.ran(1, &["rotate", "bot", "--yes"]);
        holds(&ran, &["not done", "Nothing was changed", "To do"]);
    }
    assert!(world.meta.journal(0).iter().all(|entry| entry.call != "refresh"));
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let world = World::new();
    for verb in [&["status"][..], &["check"], &["status", "-o", "json"], &["--help"]] {
        let mut child = world.command(verb).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code().is_some() && !err.contains("panicked"), "{verb:?}: {output:?}");
    }
}

#[test]
fn root_acts_as_the_owner_of_the_state_directory() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    const NOBODY: u32 = 65_534;
    let world = World::new();
    std::fs::create_dir(world.path("state")).unwrap();
    world.mode("state", 0o700);
    std::fs::set_permissions(world.folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for path in ["state", "app.secret", "tokens"] {
        std::os::unix::fs::chown(world.path(path), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let ran = world.ran(0, &["adopt", "bot", "--yes"]);
    holds(&ran, &["acts as uid 65534"]);
    for entry in std::fs::read_dir(world.path("state")).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().uid(), NOBODY, "{entry:?}");
    }
    // The daemon does not: it would run as somebody whom nobody named.
    one_line(&world.ran(1, &["run"]), &["belongs to uid 65534", "this is uid 0"]);
    // What root could read and the owner cannot is found.
    std::os::unix::fs::chown(world.path("app.secret"), Some(0), Some(0)).unwrap();
    let ran = world.ran(1, &["check"]);
    holds(&ran, &["app.secret cannot be read", "let uid 65534 read it"]);
}

#[test]
fn what_only_shows_leaves_nothing_behind() {
    let world = World::new();
    for arguments in [&["plan"][..], &["status"], &["explain", "bot"], &["history"]] {
        let ran = world.run(arguments);
        assert!(ran.code.is_some_and(|code| code != 1), "{ran:#?}");
        assert!(!world.path("state").exists(), "{arguments:?} made the state directory");
    }
    world.rewrite("[http]", "nonsense = 1\n[http]");
    assert!(world.ran(2, &["status"]).err.contains("--url"));
}
