//! What people read on a terminal, held by files: `UPDATE_GOLDEN=1` writes them anew, and the difference is then reviewed like code.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::fmt::Write as _;
use std::path::Path;

use evertoken::cli::{TableOptions, explain, history, status};
use evertoken::ledger::{History, Row, SCHEMA};
use evertoken::rotation::health::{
    BreakerStatus, Condition, ConjunctStatus, LastError, Lifetime, NextAction, Phase, Previous, SinkStatus, StatusDocument, TokenStatus,
    UnaccountedStatus, Window,
};
use evertoken::rotation::token::Fingerprint;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use unicode_width::UnicodeWidthStr;

/// 2027-01-15 08:00:00 UTC.
const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);
const HOUR: SignedDuration = SignedDuration::from_hours(1);
const DAY: SignedDuration = SignedDuration::from_hours(24);

fn after(by: SignedDuration) -> Timestamp {
    NOW.checked_add(by).unwrap()
}

fn fingerprint(text: &str) -> String {
    Fingerprint::of(text).to_string()
}

fn condition(kind: &str, status: &str, reason: &str, message: &str, severity: &str) -> Condition {
    Condition { kind: kind.into(), status: status.into(), reason: reason.into(), message: message.into(), severity: severity.into() }
}

/// A token of 60 days with this much left, at rest.
fn resting(name: &str, left: SignedDuration) -> TokenStatus {
    TokenStatus {
        name: name.into(),
        app_id: "1234567890".into(),
        system_user_id: "10001".into(),
        phase: Phase::Rest,
        rotation_id: None,
        attempt: None,
        current: Some(Lifetime {
            fingerprint: fingerprint(name),
            issued_at: Some(after(left - DAY * 60)),
            expires_at: Some(after(left)),
            refresh_due: Some(after(left - DAY * 30)),
            data_access_expires_at: None,
        }),
        previous: None,
        window: Some(Window { configured_seconds: 86_400, effective_seconds: 86_400, consumer_ttl_seconds: 300 }),
        next_action: NextAction {
            what: format!("the next rotation begins {}", after(left - DAY * 30)),
            at: after(left - DAY * 30),
            next_look_at: Some(after(HOUR * 5 / 6)),
            waiting_for: vec!["rest".into()],
        },
        conditions: vec![condition("Ready", "True", "valid", "the current token works", "calm")],
        sinks: vec![SinkStatus { name: "disk".into(), in_sync: Some(true), last_error: None, holds: None, holds_until: None }],
        unaccounted: Vec::new(),
        gate: Vec::new(),
        last_error: None,
    }
}

/// Held by something that a person must know of.
fn troubled(mut token: TokenStatus, phase: Phase, code: &str, what: &str, remedy: &str, severity: &str) -> TokenStatus {
    token.phase = phase;
    token.next_action =
        NextAction { what: what.into(), at: after(HOUR * 5 / 6), next_look_at: Some(after(HOUR * 5 / 6)), waiting_for: vec![code.into()] };
    token.conditions.push(condition("Attention", "True", code, &format!("{what}. To do: {remedy}"), severity));
    token
}

fn propagating(name: &str) -> TokenStatus {
    let ends = after(HOUR * 3);
    TokenStatus {
        phase: Phase::Propagating,
        rotation_id: Some("0f2b64de-5a34-5c0e-9d0a-2f6d6c2b7a11".into()),
        attempt: Some(1),
        previous: Some(Previous { fingerprint: fingerprint("old"), expires_at: Some(after(DAY * 29)), revoke_not_before: Some(ends) }),
        next_action: NextAction {
            what: format!("consumers move to token {}; the window ends {ends}", fingerprint(name)),
            at: after(HOUR),
            next_look_at: Some(after(HOUR * 5 / 6)),
            waiting_for: vec!["propagating".into()],
        },
        gate: vec![
            ConjunctStatus { name: "recorded".into(), holds: false, value: "record 12 does not say revoking, store looked at yes".into() },
            ConjunctStatus { name: "sinks_equal".into(), holds: true, value: "1 of 1 read back equal".into() },
            ConjunctStatus { name: "window_over".into(), holds: false, value: format!("provider says {NOW}, window ends {ends}") },
        ],
        ..resting(name, DAY * 59)
    }
}

fn dead(name: &str) -> TokenStatus {
    let mut token = resting(name, DAY * 41);
    token.conditions = vec![condition("Ready", "False", "dead", "the provider says that the current token is dead", "critical")];
    token.last_error = Some(LastError {
        class: "meta.token_dead".into(),
        code: Some(190),
        subcode: Some(460),
        trace_id: Some("AbCdEf123".into()),
        step: "call".into(),
        message: "Error validating access token: the session has been invalidated".into(),
    });
    let remedy =
        "make a new token in Meta's business settings (System users, Generate token) and give it: `evertoken adopt --token-file PATH`";
    troubled(token, Phase::NeedsHuman, "token_dead", "the current token is dead (Graph 190/460): consumers fail", remedy, "critical")
}

fn held(name: &str) -> TokenStatus {
    let what = "held since 2027-01-02T10:00:00Z: audit of the client; the token ends in 480h";
    troubled(resting(name, DAY * 20), Phase::Rest, "held", what, "`evertoken release`", "attention")
}

fn unaccounted(name: &str) -> TokenStatus {
    let mut token = resting(name, DAY * 38);
    let ends_by = after(DAY * 58);
    token.unaccounted = vec![UnaccountedStatus {
        rotation_id: "7c9e6679-7425-40de-944b-e07fc1f90ae7".into(),
        attempt: 2,
        since: after(-DAY * 2),
        ends_by,
        why: Some("HTTP 200: no access_token in the answer".into()),
    }];
    let text = format!(
        "a token may exist that nobody holds (HTTP 200: no access_token in the answer); it has ended by {ends_by}. To do: nothing has to be done. Revoking all tokens of the \
         user in Meta's business settings ends them now, and the current one with them"
    );
    token.conditions.push(condition("Unaccounted", "True", "unaccounted", &text, "attention"));
    token
}

/// A sink refuses the new token, so its readers have the old one.
fn sink_down(name: &str) -> TokenStatus {
    let mut token = propagating(name);
    let until = after(DAY * 29);
    token.previous.as_mut().unwrap().revoke_not_before = None;
    let denied = "AccessDeniedException: not authorized to perform secretsmanager:PutSecretValue";
    token.sinks.push(SinkStatus {
        name: "eu-copy".into(),
        in_sync: Some(false),
        last_error: Some(denied.into()),
        holds: Some(fingerprint("old")),
        holds_until: Some(until),
    });
    let what = format!(
        "sink eu-copy cannot be written: {denied} (try 3 failed); its readers have token {}, which works until {until}; the old \
         token is not revoked until this sink holds the current one",
        fingerprint("old")
    );
    let remedy = "give evertoken the right that the failure names (a file's mode or owner, an IAM or KMS permission; `evertoken check` lists \
                  them); it is tried again by itself";
    troubled(token, Phase::Promoted, "sink_failing", &what, remedy, "attention")
}

fn short_lived(name: &str) -> TokenStatus {
    let mut token = resting(name, HOUR * 3 / 2);
    let current = token.current.as_mut().unwrap();
    current.issued_at = Some(after(-HOUR / 2));
    current.refresh_due = Some(after(HOUR / 2));
    token.next_action.what = format!("the next rotation begins {}", after(HOUR / 2));
    token
}

fn never(name: &str) -> TokenStatus {
    let mut token = resting(name, DAY);
    let current = token.current.as_mut().unwrap();
    current.expires_at = None;
    current.refresh_due = None;
    let what = "the token never expires: it is watched, not rotated";
    troubled(token, Phase::Rest, "never_expires", what, "`evertoken migrate` moves it to tokens that expire", "attention")
}

/// Ended between its last pass and the moment of looking.
fn ended(name: &str) -> TokenStatus {
    let mut token = resting(name, DAY);
    token.current.as_mut().unwrap().expires_at = Some(after(-HOUR));
    token
}

fn document(tokens: Vec<TokenStatus>) -> StatusDocument {
    StatusDocument::new(tokens, BreakerStatus::default(), NOW)
}

fn mixed() -> StatusDocument {
    let acting = TokenStatus {
        phase: Phase::Marked,
        next_action: NextAction {
            what: "promote".into(),
            at: NOW,
            next_look_at: Some(after(HOUR * 5 / 6)),
            waiting_for: vec!["acting".into()],
        },
        ..propagating("acting")
    };
    let all = vec![
        resting("whatsapp-bot", DAY * 42),
        propagating("ads-reporting"),
        dead("catalog-sync"),
        held("client-audit"),
        unaccounted("lead-import"),
        short_lived("rehearsal"),
        never("legacy"),
        ended("left-behind"),
        acting,
    ];
    document(all)
}

fn wide(width: usize) -> TableOptions {
    TableOptions { width, ..TableOptions::default() }
}

fn width_of(text: &str) -> usize {
    text.lines().map(UnicodeWidthStr::width).max().unwrap_or(0)
}

/// Compares with a file of tests/golden, or writes it.
fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.txt"));
    #[expect(clippy::disallowed_methods, reason = "the switch by which a person accepts a change of these files")]
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(kept == text, "{name} differs; UPDATE_GOLDEN=1 accepts this:\n{text}");
}

#[test]
fn all_calm() {
    let document = document(vec![resting("whatsapp-bot", DAY * 42), resting("ads", DAY * 234 / 10 + DAY * 20), propagating("leads")]);
    let text = status::table(&document, &wide(100));
    assert_eq!(document.severity(NOW).exit_code(), 0);
    golden("status-calm", &text);
}

/// A token of each phase, with what is usual in it.
fn of_phase(phase: Phase) -> TokenStatus {
    let name = format!("bot-{}", phase.name());
    let going = |what: &str, code: &str| TokenStatus {
        phase,
        next_action: NextAction { what: what.into(), at: NOW, next_look_at: Some(after(HOUR * 5 / 6)), waiting_for: vec![code.into()] },
        ..propagating(&name)
    };
    match phase {
        Phase::Unknown => TokenStatus { current: None, conditions: Vec::new(), ..going("looks at the store and the provider", "looking") },
        Phase::Unadopted => {
            let token = TokenStatus { current: None, ..resting(&name, DAY * 42) };
            let what = "the entry's token is good and waits to be adopted";
            troubled(token, phase, "not_adopted", what, "run `evertoken adopt bot-unadopted`", "attention")
        }
        Phase::Rest => resting(&name, DAY * 42),
        Phase::Intent => going("refresh", "acting"),
        Phase::Captured => going("stage", "acting"),
        Phase::Staged => going("looks at the store and the provider", "looking"),
        Phase::Verified => going("mark_retiring", "acting"),
        Phase::Marked => going("promote", "acting"),
        Phase::Promoted => going("publish", "acting"),
        Phase::Propagating => propagating(&name),
        Phase::Revoking => TokenStatus {
            next_action: NextAction {
                what: "everything is looked at once more before the revoke".into(),
                at: after(SignedDuration::from_secs(30)),
                next_look_at: Some(after(HOUR * 5 / 6)),
                waiting_for: vec!["revoking".into()],
            },
            ..going("", "")
        },
        Phase::Checked => going("the old token still lives after 1 revoke", "revoke_unproven"),
        Phase::Surplus => going("the old token is not revoked: cannot_return: still promotable yes", "surplus_waiting"),
        Phase::Quarantined => {
            let what = format!(
                "token {}, which no consumer was given, waits to be revoked, not before {}",
                fingerprint("rejected"),
                after(HOUR * 3)
            );
            let mut token = TokenStatus { rotation_id: None, attempt: None, ..going(&what, "propagating") };
            let text = format!(
                "the new token {} was rejected {NOW} and is not put to use: it lacks whatsapp_business_messaging. To do: mend what is named, \
                 at Meta or in the configuration, then `evertoken rotate {name}`; else another is minted when the refresh is due",
                fingerprint("rejected")
            );
            token.conditions.push(condition("Rejected", "True", "quarantined", &text, "attention"));
            token
        }
        Phase::Frozen => {
            let what = "something else rotates this entry: AWSPENDING is present";
            troubled(resting(&name, DAY * 42), phase, "foreign_rotation", what, "turn the other rotation off", "attention")
        }
        Phase::NeedsHuman => {
            let what = "somebody emptied the entry: consumers read nothing";
            let remedy = "put the token back; `evertoken adopt --token-file PATH` does it";
            troubled(resting(&name, DAY * 42), phase, "entry_emptied", what, remedy, "critical")
        }
    }
}

#[test]
fn every_phase() {
    let document = document(Phase::ALL.map(of_phase).into());
    for token in &document.tokens {
        golden(&format!("explain-phase-{}", token.phase.name()), &explain::text(&document, token, &wide(100)));
    }
    golden("status-phases", &status::table(&document, &wide(100)));
}

#[test]
fn every_width_fits_and_narrow_ones_leave_columns_out() {
    for width in [60, 80, 100, 140] {
        let text = status::table(&mixed(), &wide(width));
        assert!(width_of(&text) <= width, "{width}: {}", width_of(&text));
        golden(&format!("status-mixed-{width}"), &text);
    }
}

#[test]
fn plain_terminals_get_ascii_and_painted_ones_colour() {
    let ascii = status::table(&mixed(), &TableOptions { unicode: false, ..wide(100) });
    assert!(ascii.is_ascii());
    golden("status-mixed-ascii", &ascii);
    golden("status-mixed-colour", &status::table(&mixed(), &TableOptions { color: true, ..wide(100) }).replace('\u{1b}', "ESC"));
}

#[test]
fn a_fleet_shows_its_worst_and_counts_the_rest() {
    let mut tokens: Vec<TokenStatus> = (0..2_900).map(|at| resting(&format!("bot-{at:04}"), DAY * 31 + HOUR * (at % 600))).collect();
    tokens.extend((0..95).map(|at| propagating(&format!("moving-{at:02}"))));
    tokens.extend([dead("bot-dead"), held("bot-held-a"), held("bot-held-b"), unaccounted("bot-lost"), never("bot-never")]);
    let document = document(tokens);
    let text = status::table(&document, &wide(100));
    assert_eq!(document.severity(NOW).exit_code(), 4);
    golden("status-fleet", &text);
}

#[test]
fn an_open_breaker_is_told_first() {
    let breaker = BreakerStatus { open: true, why: Some("bot: the current token was dead after the old one was revoked".into()) };
    let document = StatusDocument::new(vec![resting("bot", DAY * 42)], breaker, NOW);
    golden("status-breaker", &status::table(&document, &wide(100)));
    golden("explain-breaker", &explain::text(&document, document.tokens.first().unwrap(), &wide(100)));
}

#[test]
fn no_tokens() {
    golden("status-empty", &status::table(&document(Vec::new()), &wide(100)));
}

#[test]
fn long_names_are_cut_in_their_middle() {
    let long = |end: &str| format!("whatsapp-business-of-a-client-with-a-very-long-name-{}{end}", "x".repeat(60));
    let wide_letters = "日本のクライアントの非常に長い名前のトークン".to_owned();
    let mut hostile = held("\u{1b}[2Jname\nwith\u{202e}tricks");
    hostile.conditions.iter_mut().for_each(|condition| condition.message.push_str("\u{1b}]0;title\u{7}"));
    let document = document(vec![held(&long("-emea")), resting(&long("-apac"), DAY * 42), resting(&wide_letters, DAY * 50), hostile]);
    for width in [60, 100] {
        let text = status::table(&document, &wide(width));
        assert!(width_of(&text) <= width && !text.contains('\u{1b}'));
        golden(&format!("status-long-names-{width}"), &text);
    }
}

#[test]
fn what_would_be_done_next() {
    golden("plan", &status::plan(&mixed(), &wide(140)));
    golden("plan-60", &status::plan(&mixed(), &wide(60)));
}

#[test]
fn everything_of_one_token() {
    for (name, token) in [
        ("propagating", propagating("ads-reporting")),
        ("dead", dead("catalog-sync")),
        ("held", held("client-audit")),
        ("sink", sink_down("mirrored")),
        ("unaccounted", unaccounted("lead-import")),
        ("rest", resting("whatsapp-bot", DAY * 42)),
    ] {
        let document = document(vec![token]);
        let text = explain::text(&document, document.tokens.first().unwrap(), &wide(100));
        assert!(width_of(&text) <= 100);
        golden(&format!("explain-{name}"), &text);
    }
}

fn ledger_row(seq: u64, token: &str, event: &str, message: &str) -> Row {
    let mut fields = serde_json::Map::new();
    fields.insert("message".into(), message.into());
    Row {
        schema: SCHEMA,
        seq,
        at: after(SignedDuration::from_mins(i64::try_from(seq).unwrap())),
        provider_at: None,
        token: token.into(),
        rotation_id: Some("0f2b64de-5a34-5c0e-9d0a-2f6d6c2b7a11".into()),
        attempt: Some(1),
        event: event.into(),
        fingerprint: Some(Fingerprint::of("old")),
        fields,
    }
}

#[test]
fn what_was_done() {
    let mut bare = ledger_row(3, "bot", "refresh.unknown", "");
    bare.fields = serde_json::from_str(r#"{"bound":"2027-03-16T08:00:00Z","tries":2}"#).unwrap();
    bare.rotation_id = None;
    bare.fingerprint = None;
    let rows = vec![
        ledger_row(1, "bot", "rotation.started", "attempt 1"),
        ledger_row(
            2,
            "bot",
            "promote.succeeded",
            "consumers of the store read token 2c26b46b68ffc68f from now on, the old one still works",
        ),
        bare,
    ];
    let notes = vec!["2026-12.jsonl.torn-1: 1 line(s) cannot be read".to_owned()];
    let mut history = History { rows, notes };
    golden("history", &history::table(&history, &wide(100)));
    golden("history-60", &history::table(&history, &wide(60)));
    history.rows.push(ledger_row(4, "other", "revoke.succeeded", "the old token is dead"));
    golden("history-several", &history::table(&history, &wide(140)));
    let rows: Vec<Row> = serde_json::from_str(&history::json(&history).unwrap()).unwrap();
    assert_eq!(rows, history.rows);
    golden("history-none", &history::table(&History::default(), &wide(100)));
}

#[test]
fn instants_are_shown_in_utc_to_the_second() {
    let mut row = ledger_row(1, "bot", "rotation.started", "attempt 1");
    row.at = "2026-12-31T23:59:59.987654321Z".parse().unwrap();
    let text = history::table(&History { rows: vec![row], notes: Vec::new() }, &wide(100));
    assert!(text.contains("2026-12-31 23:59:59Z"), "{text}");
}

proptest! {
    /// Whatever others wrote into names and messages: lines fit, nothing commands the terminal, nothing panics.
    #[test]
    fn any_content_fits(name in "\\PC{0,80}|.{0,80}", what in ".{0,400}", code in "[a-z_]{0,40}", width in 40_usize..200, unicode: bool, left in -100_000_i64..9_000_000) {
        let mut token = troubled(resting(&name, SignedDuration::from_secs(left)), Phase::Frozen, &code, &what, "do \u{1b}[1mthis", "attention");
        token.sinks.push(SinkStatus { name: what.clone(), in_sync: None, last_error: Some(name.clone()), holds: None, holds_until: None });
        token.gate.push(ConjunctStatus { name: name.clone(), holds: false, value: what.clone() });
        let options = TableOptions { width, color: false, unicode };
        let document = document(vec![token, propagating(&what)]);
        let mut all = String::new();
        write!(all, "{}{}", status::table(&document, &options), status::plan(&document, &options)).unwrap();
        for token in &document.tokens {
            all.push_str(&explain::text(&document, token, &options));
        }
        for line in all.lines() {
            prop_assert!(line.width() <= width, "{} > {width}: {line:?}", line.width());
        }
        prop_assert!(!all.contains(|letter: char| letter.is_control() && letter != '\n'));
    }
}
