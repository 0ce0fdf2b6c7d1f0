//! `evertoken check` as a person runs it: what it proves, what it finds, and that it changes nothing.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail, and writes files as it likes")]

mod program;

use evertoken::simulator::fault::{Fault, Rule};
use evertoken::simulator::graph::Graph;
use evertoken::simulator::graph::state::{TokenSpec, TokenState};
use program::{ENTRY, Ran, World};
use serde_json::Value;

/// The findings of a check, and that it ended with this code.
fn check(world: &World, code: i32) -> Vec<Value> {
    checked(world, &world.ran(code, &["check", "-o", "json"]))
}

fn checked(world: &World, ran: &Ran) -> Vec<Value> {
    world.keeps_secrets(ran);
    assert_eq!(ran.err, "", "a check speaks on standard output only");
    let document: Value = serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:#?}"));
    let findings = document["findings"].as_array().unwrap().clone();
    let count = |severity: &str| findings.iter().filter(|finding| finding["severity"] == severity).count();
    assert_eq!((document["errors"].as_u64(), document["warnings"].as_u64()), (Some(count("error") as u64), Some(count("warning") as u64)));
    for finding in &findings {
        let text = |key: &str| finding[key].as_str().unwrap().to_owned();
        assert!(!text("what").is_empty() && !text("what").contains('\n'), "{finding}");
        assert_eq!(text("remedy").is_empty(), text("severity") == "fine", "each trouble has its remedy: {finding}");
    }
    findings
}

/// The one finding of that subject whose text holds this.
fn found<'a>(findings: &'a [Value], severity: &str, subject: &str, part: &str) -> &'a Value {
    let fits = |finding: &&Value| {
        finding["severity"] == severity && finding["subject"] == subject && finding["what"].as_str().unwrap().contains(part)
    };
    findings.iter().find(fits).unwrap_or_else(|| panic!("no {severity} about {subject} with {part:?} in {findings:#?}"))
}

/// Everything that a check must leave as it is.
fn state(world: &World) -> String {
    let files = walk(world.folder.path());
    let secrets = world.manager.dump_all(true, world.clock.now());
    format!("{files:?} {}", serde_json::to_string(&secrets).unwrap())
}

fn walk(folder: &std::path::Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.push((path.clone(), Vec::new()));
            files.extend(walk(&path));
        } else if path.is_file() {
            files.push((path.clone(), std::fs::read(&path).unwrap()));
        }
    }
    files.sort();
    files
}

#[test]
fn a_sound_world_is_proven_and_left_as_it_is() {
    let world = World::new();
    let before = state(&world);
    let findings = check(&world, 0);
    found(&findings, "fine", "configuration", "1 token with 1 app and 2 stores");
    found(&findings, "fine", "app acme", "its secret can be read");
    found(&findings, "fine", "app acme", "Meta accepts its id and secret");
    found(&findings, "fine", "app acme", "v26.0, as asked");
    found(&findings, "fine", "app acme", "clock of this host agrees");
    found(&findings, "fine", "token bot", "nothing else rotates it");
    found(&findings, "fine", "token bot", &format!("token {} is valid", world.fingerprint));
    found(&findings, "fine", "token bot", "a call with it and its proof works");
    found(&findings, "fine", "token bot", "it lives until");
    found(&findings, "warning", "token bot", "not managed yet");
    let outlook = found(&findings, "fine", "token bot", "it is refreshed at")["what"].as_str().unwrap();
    for part in ["revoked 1d after publication (consumer_ttl is 5m)", "no consumers are configured", "next is adoption"] {
        assert!(outlook.contains(part), "{outlook}");
    }
    found(&findings, "warning", "token bot", "disk:bot: the sink is empty");
    assert_eq!(state(&world), before);
    assert!(world.graph.violations().is_empty(), "{:?}", world.graph.violations());
    let calls: Vec<String> = world.aws.journal(0).into_iter().map(|entry| entry.call).collect();
    assert!(calls.iter().all(|call| call.starts_with("Describe") || call.starts_with("Get") || call.starts_with("List")), "{calls:?}");
    let table = world.ran(0, &["check"]);
    assert!(
        table.out.contains("\napp acme\n  fine    its secret can be read\n") && table.out.trim_end().ends_with("warnings"),
        "{}",
        table.out
    );
}

#[test]
fn it_works_beside_a_daemon_and_says_so() {
    let world = World::new();
    world.rewrite("sinks =", "adopt = \"auto\"\nsinks =");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    world.rewrite("listen = \"off\"", &format!("listen = \"{address}\""));
    let findings = check(&world, 0);
    found(&findings, "fine", "doors", "is free to listen on");
    let _daemon = world.daemon();
    let sink = world.path("tokens/bot/token");
    for _ in 0..200 {
        if sink.exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let findings = check(&world, 0);
    found(&findings, "fine", "doors", "a daemon answers");
    found(&findings, "fine", "doors", "the daemon serves");
    found(&findings, "fine", "state directory", "the daemon works in it: run (process");
    found(&findings, "fine", "token bot", "managed: record");
    found(&findings, "fine", "token bot", "the sink holds the store's token");
    let refused = checked(&world, &world.ran(1, &["check", "--write", "-o", "json"]));
    found(&refused, "error", "writing", "a daemon runs");
    // The same address in a configuration with a state directory of its own.
    world.rewrite("/state", "/other");
    found(&check(&world, 1), "error", "doors", "another evertoken daemon serves");
}

#[test]
fn write_commits_one_record_and_reads_it_back() {
    let world = World::new();
    let first = checked(&world, &world.ran(0, &["check", "--write", "-o", "json"]));
    found(&first, "fine", "writing", "not managed yet");
    world.ran(0, &["adopt", "bot", "--yes"]);
    let record = |findings: &[Value]| found(findings, "fine", "token bot", "managed: record")["what"].as_str().unwrap().to_owned();
    let before = record(&check(&world, 0));
    let written = checked(&world, &world.ran(0, &["check", "--write", "-o", "json"]));
    found(&written, "fine", "writing", "is written and was read back");
    assert_eq!(record(&written), before, "what was found is from before the record");
    assert_ne!(record(&check(&world, 0)), before);
    let current = world.manager.dump(ENTRY, true, world.clock.now()).unwrap();
    assert_eq!(current.labelled("AWSCURRENT").unwrap().fingerprint, world.fingerprint);
    // What may not be written is found by this alone.
    world.manager.turn(|knobs| *knobs = knobs.with(&serde_json::json!({ "deny": [{ "action": "PutSecretValue" }] })).unwrap());
    check(&world, 0);
    let denied = checked(&world, &world.ran(1, &["check", "--write", "-o", "json"]));
    found(&denied, "error", "writing", "PutSecretValue");
    assert_eq!(world.run(&["check", "--write", "--offline"]).code, Some(2));
}

#[test]
fn offline_makes_no_call_and_only_the_configuration_can_fail() {
    let world = World::new();
    let findings = checked(&world, &world.ran(0, &["check", "--offline", "-o", "json"]));
    found(&findings, "fine", "app acme", "its secret can be read");
    found(&findings, "fine", "access", "nothing was asked");
    std::fs::remove_file(world.path("app.secret")).unwrap();
    let findings = checked(&world, &world.ran(0, &["check", "--offline", "-o", "json"]));
    found(&findings, "warning", "app acme", "app.secret cannot be read");
    assert!(world.meta.journal(0).is_empty() && world.aws.journal(0).is_empty());
    world.rewrite("system_user_id = \"10001\"", "system_user = 3\nwindw = 1");
    let ran = world.ran(2, &["check", "--offline"]);
    assert!(ran.err.contains("system_user") && ran.err.contains("windw") && ran.out.is_empty(), "{ran:#?}");
    let findings = checked(&world, &world.ran(2, &["check", "-o", "json"]));
    assert!(findings.len() >= 2, "{findings:#?}");
}

#[test]
fn offline_looks_at_the_files_that_are_named() {
    let world = World::new();
    let offline = |code| checked(&world, &world.ran(code, &["check", "--offline", "-o", "json"]));
    world.rewrite("[http]", &format!("[network]\nca_file = \"{}\"\n[http]", world.path("ca.pem").display()));
    found(&offline(0), "warning", "network", "ca.pem");
    for no_pem in ["", "no certificate"] {
        world.put("ca.pem", no_pem);
        found(&offline(1), "error", "network", "ca.pem");
    }
    std::fs::remove_file(world.path("ca.pem")).unwrap();
    std::fs::create_dir(world.path("ca.pem")).unwrap();
    found(&offline(0), "warning", "network", "no regular file");
    world.put("app.secret", "");
    found(&offline(1), "error", "app acme", "it is empty");
    world.put("app.secret", program::SECRET);
    world.mode("app.secret", 0o644);
    found(&offline(0), "warning", "app acme", "mode 0644");
}

#[test]
fn a_start_names_everything_that_keeps_it_from_starting() {
    let world = World::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    world.rewrite("listen = \"off\"", &format!("listen = \"{address}\""));
    world.rewrite("[http]", "[network]\nca_file = \"/no/such/ca.pem\"\n[http]");
    world.rewrite("[stores.prod]", "[apps.other]\nid = \"77\"\nsecret = { env = \"NO_SUCH\" }\n[stores.prod]");
    std::fs::remove_file(world.path("app.secret")).unwrap();
    let all = [format!("{address} is in use"), "/no/such/ca.pem".into(), "NO_SUCH is not set".into(), "app.secret cannot be read".into()];
    let said = world.ran(1, &["run"]).err;
    all.iter().for_each(|part| assert_eq!(said.matches(part.as_str()).count(), 1, "{part}: {said}"));
    std::fs::create_dir_all(world.path("state")).unwrap();
    world.mode("state", 0o777);
    let said = world.ran(1, &["run"]).err;
    all.iter().for_each(|part| assert_eq!(said.matches(part.as_str()).count(), 1, "{part}: {said}"));
    assert!(said.contains("mode 0777"), "{said}");
}

#[test]
fn a_secret_that_cannot_be_read_takes_out_its_app_alone() {
    let world = World::new();
    world.rewrite("[stores.prod]", "[apps.other]\nid = \"77\"\nsecret = { env = \"NO_SUCH\" }\n[stores.prod]");
    let findings = check(&world, 1);
    let finding = found(&findings, "error", "app other", "the variable NO_SUCH is not set");
    assert!(finding["remedy"].as_str().unwrap().contains("EnvironmentFile="), "{finding}");
    found(&findings, "fine", "app acme", "Meta accepts");
    world.mode("app.secret", 0o644);
    world.rewrite("env = \"NO_SUCH\"", "store = { name = \"prod\", entry = \"no/such\" }");
    let findings = check(&world, 1);
    found(&findings, "error", "app other", "its secret cannot be had");
    found(&findings, "warning", "app acme", "mode 0644");
}

#[test]
fn a_wrong_secret_is_told_once_and_its_tokens_are_not_asked_about() {
    let world = World::new();
    world.put("app.secret", "0123456789abcdef0123456789abcdef");
    let findings = check(&world, 1);
    found(&findings, "error", "app acme", "could not be asked");
    found(&findings, "warning", "token bot", "Meta was not asked about token");
    assert_eq!(findings.iter().filter(|finding| finding["severity"] == "error").count(), 1, "{findings:#?}");
    let calls: Vec<String> = world.meta.journal(0).into_iter().map(|entry| entry.call).collect();
    assert!(calls.iter().all(|call| call.starts_with("introspect_app") || call == "app_token"), "{calls:?}");
}

#[test]
fn versions_and_clocks_are_compared() {
    let world = World::new();
    world.rewrite("[stores.prod]", "graph_version = \"v19.0\"\n[stores.prod]");
    world.graph.set_knobs(|knobs| knobs.date.shift_s = 120);
    let findings = check(&world, 0);
    found(&findings, "warning", "app acme", "Meta answers with v21.0 where v19.0 was asked for");
    found(&findings, "warning", "app acme", "behind Meta's");
    world.graph.set_knobs(|knobs| knobs.date.shift_s = -400);
    found(&check(&world, 1), "error", "app acme", "ahead of Meta's");
    world.graph.set_knobs(|knobs| knobs.date.missing = true);
    found(&check(&world, 1), "error", "app acme", "no Date");
}

#[test]
fn what_is_wrong_with_a_token_is_named() {
    let world = World::new();
    let issue = |change: &dyn Fn(&mut TokenSpec)| {
        let mut spec = Graph::sample_token();
        change(&mut spec);
        let issued = world.graph.issue(spec, world.clock.now());
        world.manager.put_as_person(ENTRY, &issued.text, world.clock.now()).unwrap();
        issued.fingerprint
    };
    let dead = issue(&|_| {});
    world.graph.set_token_state(&dead, TokenState::Revoked);
    found(&check(&world, 1), "error", "token bot", "dead");
    issue(&|spec| spec.user = Some("10000".into()));
    found(&check(&world, 1), "error", "token bot", "user_id is 10000, expected 10001");
    issue(&|spec| spec.life_s = Some(0));
    found(&check(&world, 0), "warning", "token bot", "it never expires");
    issue(&|spec| spec.life_s = Some(86_400));
    found(&check(&world, 0), "warning", "token bot", "longer than a quarter");
    world.rewrite("sinks =", "required_scopes = [\"ads_read\"]\nsinks =");
    found(&check(&world, 1), "error", "token bot", "scope ads_read is missing");
    world.manager.put_as_person(ENTRY, "two words", world.clock.now()).unwrap();
    found(&check(&world, 1), "error", "token bot", "cannot be read as a token");
    world.rewrite(ENTRY, "meta/none");
    found(&check(&world, 1), "error", "token bot", "there is no secret");
}

#[test]
fn another_rotator_another_name_and_a_taken_port_are_found() {
    let world = World::new();
    world.manager.set_rotation(ENTRY, true, world.clock.now()).unwrap();
    found(&check(&world, 1), "error", "token bot", "otation");
    world.manager.set_rotation(ENTRY, false, world.clock.now()).unwrap();
    // What the configuration cannot know: two stores that lead to one account by different names.
    let text = std::fs::read_to_string(world.path("evertoken.toml")).unwrap();
    let endpoint = text.lines().find(|line| line.starts_with("endpoint_url")).unwrap().replace("127.0.0.1", "localhost");
    world.rewrite(
        "[tokens.bot]",
        &format!(
            "[stores.copy]\nkind = \"aws-secrets-manager\"\nregion = \"eu-west-1\"\n{endpoint}\n\
             [tokens.twin]\napp = \"acme\"\nsystem_user_id = \"10001\"\nstore = {{ name = \"copy\", entry = \"{ENTRY}\" }}\n[tokens.bot]"
        ),
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    world.rewrite("listen = \"off\"", &format!("listen = \"{}\"", taken.local_addr().unwrap()));
    let findings = check(&world, 1);
    let what = found(&findings, "error", "entries", "is meant by")["what"].as_str().unwrap().to_owned();
    assert!(what.contains("token bot (prod:meta/bot)") && what.contains("token twin (copy:meta/bot)"), "{what}");
    found(&findings, "error", "doors", "is in use by another program");
}

#[test]
fn hostile_and_broken_answers_are_findings() {
    for fault in [
        Fault::page(200, "text/plain", "Service Unavailable"),
        Fault::page(502, "text/html", "<html>Bad Gateway</html>"),
        Fault::page(200, "application/json", &"[".repeat(100_000)),
        Fault::page(200, "application/json", "{\"data\":{\"is_valid\":true,\"app_id\":{\"x\":[]},\"expires_at\":1e400}}"),
        Fault::page(200, "application/json", "{\"error\":{\"message\":\"\\u001b[2J\\nEAAhostile\",\"code\":190}}"),
        Fault::Redirect { status: 302, location: "http://127.0.0.1:1/steal".into() },
        Fault::Truncate { bytes: 10 },
        Fault::Endless { bytes: Some(5_000_000) },
    ] {
        let world = World::new();
        let before = state(&world);
        world.meta.add_rule(Rule::always("*", fault.clone()));
        let ran = world.run(&["check"]);
        assert_eq!(ran.code, Some(1), "{fault:?}: {ran:#?}");
        assert!(!ran.out.contains('\u{1b}') && !ran.err.contains("panicked"), "{fault:?}: {ran:#?}");
        world.keeps_secrets(&ran);
        assert_eq!(state(&world), before, "{fault:?}");
    }
    let world = World::new();
    world.aws.add_rule(Rule::always("*", Fault::page(200, "text/html", "<html>login</html>")));
    found(&check(&world, 1), "error", "token bot", "");
    let mut command = world.command(&["check", "-o", "json"]);
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    world.aws.clear_rules();
    let findings = checked(&world, &program::finish(command, ""));
    let finding = found(&findings, "error", "token bot", "credentials");
    assert!(finding["remedy"].as_str().unwrap().contains("credentials"), "{finding}");
}

#[test]
fn a_login_for_business_token_is_recognized() {
    let world = World::new();
    world.meta.add_rule(Rule::always("me", Fault::reply(200, &serde_json::json!({ "id": "10001", "client_business_id": "42" }))));
    found(&check(&world, 0), "warning", "token bot", "Facebook Login for Business");
    world.meta.clear_rules();
    world.meta.add_rule(Rule::always("me", Fault::reply(200, &serde_json::json!({ "id": "666" }))));
    found(&check(&world, 1), "error", "token bot", "speaks for 666");
}
