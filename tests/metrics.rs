//! What a scraper gets.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use evertoken::rotation::fault::FaultClass;
use evertoken::rotation::health::Phase;
use evertoken::rotation::token::Expiry;
use evertoken::telemetry::LogCounts;
use evertoken::telemetry::metrics::{Build, DaemonGauges, Exposition, Metrics, TokenGauges};
use jiff::{SignedDuration, Timestamp};

fn at(second: i64) -> Option<Timestamp> {
    Some(Timestamp::from_second(second).unwrap())
}

fn metrics(log: &LogCounts) -> Metrics {
    let metrics = Metrics::new(Build { version: "0.1.0", revision: "abc" }, log);
    metrics.step("bot", "refresh", "done");
    metrics.step("bot", "refresh", "done");
    metrics.step_took("refresh", Duration::from_millis(300));
    metrics.failure("bot", "stage", FaultClass::Throttled);
    metrics.published("bot", "disk", "done");
    metrics.meta_request("debug_token", None, Duration::from_millis(80));
    metrics.meta_request("debug_token", Some(FaultClass::Unreachable), Duration::from_secs(40));
    metrics.aws_request("GetSecretValue", "ok");
    metrics
}

fn token(name: &str) -> TokenGauges {
    TokenGauges {
        token: name.into(),
        phase: Phase::Propagating,
        expires: Some(Expiry::At(at(2_000_000_000).unwrap())),
        data_access_expires_at: at(2_000_000_001),
        refresh_due: at(2_000_000_002),
        revoke_due: at(2_000_000_003),
        last_success: vec![("refresh", at(2_000_000_004).unwrap())],
        healthy: true,
        blocked: Some("gate".into()),
        versions_live: 2,
        orphans: 1,
        acks: Some((1, 3)),
        sinks: vec![("disk".into(), SignedDuration::from_millis(1500))],
    }
}

fn daemon() -> DaemonGauges {
    DaemonGauges {
        last_tick: at(2_000_000_005),
        leader: true,
        config_reload_successful: true,
        config_reloaded_at: at(2_000_000_006),
        app_usage: vec![("acme".into(), 0.25)],
        provider_clock_offset: Some(SignedDuration::from_millis(-250)),
        breaker_open: false,
        ledger_writable: false,
        state_dir_held: true,
        control_socket_bound: true,
    }
}

/// Every series by its name with its labels in order of the alphabet; the two formats order them differently.
fn series(body: &str) -> BTreeMap<String, &str> {
    let lines = body.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit_once(' ').unwrap());
    lines.map(|(name, value)| (sorted(name), value)).collect()
}

fn sorted(name: &str) -> String {
    let Some((name, labels)) = name.split_once('{') else { return name.to_owned() };
    let mut labels: Vec<_> = labels.trim_end_matches('}').split(',').collect();
    labels.sort_unstable();
    format!("{name}{{{}}}", labels.join(","))
}

#[test]
fn names_labels_and_values_are_those_of_the_contract() {
    let log = LogCounts::default();
    log.dropped.inc_by(7);
    for format in [Exposition::OpenMetrics, Exposition::Prometheus] {
        let body = metrics(&log).render(vec![token("bot")], daemon(), format).unwrap();
        let series = series(&body);
        for (name, value) in [
            ("evertoken_token_expiration_timestamp_seconds{token=\"bot\"}", 2e9),
            ("evertoken_token_data_access_expiration_timestamp_seconds{token=\"bot\"}", 2e9 + 1.0),
            ("evertoken_token_refresh_due_timestamp_seconds{token=\"bot\"}", 2e9 + 2.0),
            ("evertoken_token_revoke_due_timestamp_seconds{token=\"bot\"}", 2e9 + 3.0),
            ("evertoken_token_last_success_timestamp_seconds{token=\"bot\",step=\"refresh\"}", 2e9 + 4.0),
            ("evertoken_token_phase{token=\"bot\",phase=\"rest\"}", 0.0),
            ("evertoken_token_phase{token=\"bot\",phase=\"propagating\"}", 1.0),
            ("evertoken_token_healthy{token=\"bot\"}", 1.0),
            ("evertoken_token_blocked{token=\"bot\",reason=\"gate\"}", 1.0),
            ("evertoken_token_versions_live{token=\"bot\"}", 2.0),
            ("evertoken_token_orphans{token=\"bot\"}", 1.0),
            ("evertoken_rotation_steps_total{token=\"bot\",step=\"refresh\",result=\"done\"}", 2.0),
            ("evertoken_rotation_failures_total{token=\"bot\",step=\"stage\",class=\"throttled\"}", 1.0),
            ("evertoken_rotation_step_duration_seconds_bucket{le=\"0.5\",step=\"refresh\"}", 1.0),
            ("evertoken_rotation_step_duration_seconds_sum{step=\"refresh\"}", 0.3),
            ("evertoken_propagation_acks{token=\"bot\"}", 1.0),
            ("evertoken_propagation_acks_expected{token=\"bot\"}", 3.0),
            ("evertoken_sink_publish_total{token=\"bot\",sink=\"disk\",result=\"done\"}", 1.0),
            ("evertoken_sink_lag_seconds{token=\"bot\",sink=\"disk\"}", 1.5),
            ("evertoken_meta_requests_total{endpoint=\"debug_token\",class=\"ok\"}", 1.0),
            ("evertoken_meta_requests_total{endpoint=\"debug_token\",class=\"unreachable\"}", 1.0),
            ("evertoken_meta_request_duration_seconds_bucket{le=\"+Inf\",endpoint=\"debug_token\"}", 2.0),
            ("evertoken_meta_request_duration_seconds_count{endpoint=\"debug_token\"}", 2.0),
            ("evertoken_meta_app_usage_ratio{app=\"acme\"}", 0.25),
            ("evertoken_aws_requests_total{operation=\"GetSecretValue\",outcome=\"ok\"}", 1.0),
            ("evertoken_provider_clock_offset_seconds", -0.25),
            ("evertoken_scheduler_last_tick_timestamp_seconds", 2e9 + 5.0),
            ("evertoken_leader", 1.0),
            ("evertoken_breaker_open", 0.0),
            ("evertoken_config_last_reload_successful", 1.0),
            ("evertoken_config_last_reload_success_timestamp_seconds", 2e9 + 6.0),
            ("evertoken_build_info{version=\"0.1.0\",revision=\"abc\"}", 1.0),
            ("evertoken_log_lines_dropped_total", 7.0),
            ("evertoken_log_redactions_total", 0.0),
        ] {
            let found: f64 = series.get(&sorted(name)).unwrap_or_else(|| panic!("no {name} in\n{body}")).parse().unwrap();
            assert!((found - value).abs() < 1e-9, "{name} is {found}");
        }
        assert_eq!(body.ends_with("# EOF\n"), format == Exposition::OpenMetrics);
    }
}

/// The conventions that `promtool check metrics` looks after, held without it: a help for each family and no family twice,
/// counters and only counters end in `_total`, no name says its own type.
#[test]
fn families_follow_the_conventions() {
    let body = metrics(&LogCounts::default()).render(vec![token("a"), token("b")], daemon(), Exposition::Prometheus).unwrap();
    let meta = |word: &str| -> Vec<(String, String)> {
        body.lines()
            .filter_map(|line| line.strip_prefix(&format!("# {word} "))?.split_once(' '))
            .map(|(a, b)| (a.into(), b.into()))
            .collect()
    };
    let (helps, types) = (meta("HELP"), meta("TYPE"));
    assert_eq!(helps.iter().map(|(name, _)| name).collect::<Vec<_>>(), types.iter().map(|(name, _)| name).collect::<Vec<_>>());
    assert_eq!(types.iter().map(|(name, _)| name).collect::<BTreeSet<_>>().len(), types.len(), "a family appears twice");
    assert!(types.len() >= 30, "{} families", types.len());
    for ((name, kind), (_, help)) in types.iter().zip(&helps) {
        assert!(!help.trim().is_empty() && name.starts_with("evertoken_"), "{name}");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
        assert!(!["gauge", "counter", "histogram", "summary"].iter().any(|kind| name.contains(kind)), "{name}");
    }
}

#[test]
fn what_is_not_known_has_no_series() {
    let bare = TokenGauges { expires: Some(Expiry::Never), ..TokenGauges::new("bare".into(), Phase::Rest) };
    let metrics = metrics(&LogCounts::default());
    let body = metrics.render(vec![bare], DaemonGauges::default(), Exposition::OpenMetrics).unwrap();
    let of_bare: Vec<_> = series(&body).into_keys().filter(|name| name.contains("bare")).collect();
    assert_eq!(of_bare.len(), Phase::ALL.len() + 3, "{of_bare:?}");
    assert!(!body.contains("evertoken_scheduler_last_tick"));
    let later = metrics.render(vec![], DaemonGauges::default(), Exposition::OpenMetrics).unwrap();
    assert!(!later.contains("bare"), "nothing of an earlier scrape stays");
}

#[test]
fn label_values_are_escaped() {
    let metrics = metrics(&LogCounts::default());
    metrics.step("a\"b\\c\nd", "refresh", "done");
    for format in [Exposition::OpenMetrics, Exposition::Prometheus] {
        let body = metrics.render(vec![token("a\"b\\c\nd")], daemon(), format).unwrap();
        assert!(body.contains("evertoken_token_healthy{token=\"a\\\"b\\\\c\\nd\"} 1"), "{body}");
        assert!(body.contains("evertoken_rotation_steps_total{token=\"a\\\"b\\\\c\\nd\",step=\"refresh\",result=\"done\"} 1"), "{body}");
    }
}

#[test]
fn the_format_is_the_one_that_was_asked_for() {
    let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3";
    assert_eq!(Exposition::accepted(Some(prometheus)), Exposition::OpenMetrics);
    assert_eq!(Exposition::accepted(Some("*/*")), Exposition::Prometheus);
    assert_eq!(Exposition::accepted(None).content_type(), "text/plain; version=0.0.4; charset=utf-8");
}
