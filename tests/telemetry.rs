//! Log lines as they leave the process.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, Read, pipe};
use std::os::fd::OwnedFd;
use std::panic;
use std::path::Path;
use std::process::Command;

use evertoken::clock;
use evertoken::telemetry::{Guard, LogFormat, LogSettings, TelemetryError, init, install_panic_hook, to_file};
use jiff::SignedDuration;
use serde_json::{Value, json};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::with_default;
use tracing::{Subscriber, debug, error, info, info_span, trace, warn};

fn settings(format: LogFormat, rust_log: Option<&str>) -> LogSettings {
    LogSettings { format, level: LevelFilter::INFO, rust_log: rust_log.map(str::to_owned), is_terminal: false }
}

fn piped(settings: &LogSettings) -> (impl Subscriber + Send + Sync + use<>, Guard, PipeReader) {
    let (reader, writer) = pipe().unwrap();
    let (subscriber, guard) = to_file(settings, File::from(OwnedFd::from(writer))).unwrap();
    (subscriber, guard, reader)
}

/// What the closure logs, as text.
fn logged(settings: &LogSettings, log: impl FnOnce()) -> String {
    let (subscriber, guard, mut reader) = piped(settings);
    with_default(subscriber, log);
    drop(guard);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    text
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[test]
fn a_json_line_is_flat_typed_and_carries_the_fields_of_its_spans() {
    let text = logged(&settings(LogFormat::Auto, None), || {
        let outer = info_span!(target: "evertoken::daemon", "pass", token = "bot", step = "outer", late = tracing::field::Empty);
        let _outer = outer.enter();
        outer.record("late", 7_u64);
        info!(target: "evertoken::daemon", attempt = 2_u32, ok = true, share = 0.5, event = "refresh.failed", step = "refresh", "it \"failed\"\n");
        info!(target: "evertoken::daemon", "no event");
    });
    let mut lines = json_lines(&text);
    let stamp = lines[0].as_object_mut().unwrap().remove("timestamp").unwrap();
    assert!(stamp.as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    assert_eq!(
        lines[0],
        json!({"level": "INFO", "event": "refresh.failed", "token": "bot", "step": "refresh", "attempt": 2, "ok": true, "share": 0.5,
            "late": 7, "message": "it \"failed\"\n"})
    );
    assert_eq!(lines[1]["target"], "evertoken::daemon");
    assert!(text.starts_with("{\"timestamp\":\""), "{text}");
    assert!(text.contains("\"level\":\"INFO\",\"event\":\"refresh.failed\",\"token\":\"bot\",\"step\":\"refresh\","), "{text}");
}

#[test]
fn a_text_line_cannot_be_forged() {
    let text = logged(&settings(LogFormat::Text, None), || {
        warn!(target: "evertoken", event = "store.conflict", who = "a b\"\u{1b}[31m", path = "/x\u{7}", "two\nlines");
    });
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.ends_with("Z WARN  store.conflict: two\\nlines who=\"a b\\\"\\u{1b}[31m\" path=/x\\u{7}\n"), "{text}");
}

#[test]
fn third_parties_stay_at_warn_whatever_rust_log_says() {
    for wish in ["trace", "trace,hyper=trace,hyper_util::client=trace,reqwest=debug,aws_smithy_runtime=trace,evertokenish=trace"] {
        let text = logged(&settings(LogFormat::Json, Some(wish)), || {
            for_third_parties();
            let url_in_a_span = tracing::debug_span!(target: "hyper_util::client", "connect", url = "https://h/?access_token=x");
            let _inside = url_in_a_span.enter();
            trace!(target: "evertoken::graph", "ours");
        });
        let lines = json_lines(&text);
        let heard: Vec<_> = lines.iter().map(|line| line["message"].as_str().unwrap()).collect();
        assert_eq!(heard, ["warned", "warned", "warned", "warned", "warned", "warned", "ours"], "{wish}");
        assert!(!text.contains("url"), "{text}");
    }
}

fn for_third_parties() {
    macro_rules! speak {
        ($($target:literal)*) => { $(
            trace!(target: $target, "traced");
            debug!(target: $target, "debugged");
            info!(target: $target, "informed");
            warn!(target: $target, "warned");
        )* };
    }
    speak!("hyper" "hyper_util::client::legacy" "reqwest::connect" "rustls::client" "aws_smithy_runtime" "evertokenish");
}

#[test]
fn levels_come_from_the_settings_and_rust_log_refines_them() {
    let speak = || {
        debug!(target: "evertoken::graph", "graph");
        debug!(target: "evertoken::store", "store");
        info!(target: "evertoken::store", "info");
    };
    assert_eq!(json_lines(&logged(&settings(LogFormat::Json, None), speak)).len(), 1);
    assert_eq!(json_lines(&logged(&settings(LogFormat::Json, Some(" ")), speak)).len(), 1);
    assert_eq!(json_lines(&logged(&settings(LogFormat::Json, Some("evertoken::graph=debug")), speak)).len(), 2);
    assert_eq!(json_lines(&logged(&settings(LogFormat::Json, Some("debug")), speak)).len(), 3);
    assert_eq!(logged(&settings(LogFormat::Json, Some("off")), speak), "");
    let (_reader, writer) = pipe().unwrap();
    let refused = to_file(&settings(LogFormat::Json, Some("evertoken=loudest")), File::from(OwnedFd::from(writer))).map(drop);
    assert!(matches!(refused, Err(TelemetryError::Filter(_))));
}

/// Nobody reads: the caller is never stopped, the end comes within its bound, and what was lost is counted and told.
#[test]
fn a_full_pipe_stops_nothing_and_the_loss_is_told_when_it_goes_on() {
    let (subscriber, guard, reader) = piped(&settings(LogFormat::Json, None));
    let counts = guard.counts();
    let filler = "x".repeat(1000);
    let begun = clock::boot();
    with_default(subscriber, || {
        (0..4000).for_each(|number| info!(target: "evertoken", event = "test.filler", number, filler));
        assert!(clock::boot().since(begun) < SignedDuration::from_secs(5), "a full pipe held the caller up");
        let lost = counts.dropped.get();
        assert!(lost > 1000, "{lost} of 4 MB were lost, with room for 1 MB and a pipe");

        let mut lines = BufReader::new(reader).lines().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
        let notice = lines.find(|line| line["event"] == "log.dropped").unwrap();
        assert_eq!(notice["lines"], lost);
        info!(target: "evertoken", event = "test.after");
        assert_eq!(lines.next().unwrap()["event"], "test.after");
    });
}

#[test]
fn ending_does_not_wait_for_a_pipe_that_nobody_reads() {
    let (subscriber, guard, _reader) = piped(&settings(LogFormat::Json, None));
    let filler = "x".repeat(1000);
    with_default(subscriber, || (0..200).for_each(|_| info!(target: "evertoken", filler)));
    let begun = clock::boot();
    drop(guard);
    let took = clock::boot().since(begun);
    assert!(took < SignedDuration::from_secs(3), "{took}");
}

#[test]
fn a_reader_that_is_gone_costs_lines_and_nothing_else() {
    let (subscriber, guard, reader) = piped(&settings(LogFormat::Json, None));
    drop(reader);
    let counts = guard.counts();
    with_default(subscriber, || (0..10).for_each(|_| info!(target: "evertoken", "x")));
    drop(guard);
    assert_eq!(counts.dropped.get(), 10);
}

#[test]
fn what_looks_like_a_secret_is_masked_in_every_field_and_counted() {
    let token = format!("EAA{}", "a1B2".repeat(20));
    for format in [LogFormat::Json, LogFormat::Text] {
        let (subscriber, guard, mut reader) = piped(&settings(format, None));
        let counts = guard.counts();
        with_default(subscriber, || {
            let span = info_span!(target: "evertoken", "s", seen = token);
            let _inside = span.enter();
            let cause: Box<dyn std::error::Error> = format!("GET https://h/?access_token={token}&x=1").into();
            error!(target: "evertoken", error = &*cause, debugged = ?Some(&token), client_secret = "abc", "failed with {token}");
        });
        drop(guard);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert!(!text.contains("a1B2a1B2") && !text.contains("abc"), "{text}");
        assert_eq!(counts.redacted.get(), 5);
    }
}

#[test]
fn a_panic_is_an_event_without_its_text() {
    let text = logged(&settings(LogFormat::Json, None), || {
        install_panic_hook();
        panic::catch_unwind(|| panic!("secret-text")).unwrap_err();
        drop(panic::take_hook());
    });
    let line = &json_lines(&text)[0];
    assert_eq!((&line["event"], &line["level"], &line["alert"]), (&json!("panic"), &json!("ERROR"), &json!(true)));
    assert!(line["location"].as_str().unwrap().starts_with("tests/telemetry.rs:"), "{text}");
    assert!(!text.contains("secret-text"));
}

#[test]
fn a_line_is_bounded_and_still_whole() {
    let long = "\u{20ac}".repeat(20_000);
    let text = logged(&settings(LogFormat::Json, None), || {
        info!(target: "evertoken", event = "test.long", a = long, b = long, c = long, d = long, e = long, last = 1);
    });
    assert!(text.len() < 40_000, "{}", text.len());
    assert_eq!(json_lines(&text)[0]["last"], 1);
}

/// The whole of `init` needs a process of its own: this very binary again, with the ignored test below.
#[test]
fn init_logs_to_standard_error_and_takes_over_panics() {
    let itself = std::env::current_exe().unwrap();
    let child = Command::new(itself).args(["--exact", "in_a_process_of_its_own", "--ignored", "--nocapture"]).output().unwrap();
    let text = String::from_utf8(child.stderr).unwrap();
    let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let events: Vec<_> = lines.iter().filter_map(|line| line["event"].as_str()).collect();
    let expected: &[&str] = if Path::new("/run/systemd/journal/socket").exists() { &[] } else { &["log.fallback", "test.line", "panic"] };
    assert_eq!(events, expected, "{text}");
    assert!(!text.contains("secret-text"), "{text}");
}

#[test]
#[ignore = "run by the test above, in a process of its own"]
fn in_a_process_of_its_own() {
    let settings = settings(LogFormat::Journald, None);
    let guard = init(&settings).unwrap();
    assert!(matches!(init(&settings), Err(TelemetryError::Twice)));
    info!(target: "evertoken", event = "test.line");
    std::thread::spawn(|| panic!("secret-text")).join().unwrap_err();
    drop(guard);
}
