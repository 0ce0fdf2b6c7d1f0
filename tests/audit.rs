//! The ledger's chain of hashes: what `audit verify` proves of a ledger, and what it finds in one that was tampered with.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use evertoken::ledger::{Audit, ChainHash, Demand, Entry, Ledger, Repair, verify};
use serde_json::{Map, Value};

fn entry(at: &str) -> Entry {
    Entry {
        at: at.parse().unwrap(),
        provider_at: None,
        token: "bot".into(),
        rotation_id: None,
        attempt: None,
        event: "promote.succeeded".into(),
        fingerprint: None,
        fields: Map::new(),
    }
}

const OCTOBER: &str = "2026-10-31T23:00:00Z";
const NOVEMBER: &str = "2026-11-25T01:00:00Z";

/// A ledger whose rows, after the one that begins the chain, have these times.
fn ledger(times: &[&str]) -> tempfile::TempDir {
    let state = tempfile::tempdir().unwrap();
    append(state.path(), times);
    state
}

fn append(state: &Path, times: &[&str]) -> Vec<Repair> {
    let (ledger, repairs) = Ledger::open(state).unwrap();
    for at in times {
        ledger.append(&entry(at)).unwrap();
    }
    repairs
}

fn november(state: &Path) -> PathBuf {
    state.join("ledger/2026-11.jsonl")
}

fn lines(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect()
}

fn put(file: &Path, lines: &[String]) {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::OpenOptions::new().write(true).truncate(true).create(true).open(file).unwrap().write_all(text.as_bytes()).unwrap();
}

fn audit(state: &Path) -> Audit {
    verify(state, &Demand::default(), &mut |_| ()).unwrap()
}

fn head_of(line: &str) -> ChainHash {
    let row: Value = serde_json::from_str(line).unwrap();
    row["chain"].as_str().unwrap().parse().unwrap()
}

/// Rows that are named by the findings, with the words.
fn found(audit: &Audit) -> Vec<(Option<u64>, &str)> {
    audit.findings.iter().map(|finding| (finding.row, finding.what.as_str())).collect()
}

#[test]
fn a_ledger_that_nobody_touched_is_whole_across_months_restarts_and_a_clock_that_was_set_back() {
    let state = ledger(&[OCTOBER, NOVEMBER]);
    append(state.path(), &[NOVEMBER, OCTOBER, OCTOBER, NOVEMBER]);
    assert_eq!(append(state.path(), &[OCTOBER]), []);
    assert_eq!(append(state.path(), &[NOVEMBER]), []);
    let audit = audit(state.path());
    assert_eq!((audit.rows, audit.unchained, audit.seq, audit.proves()), (9, 0, Some(9), true), "{audit:?}");
    assert_eq!(audit.first, Some(OCTOBER.parse().unwrap()));
    assert_eq!(audit.head, Some(head_of(lines(&november(state.path())).last().unwrap()).to_string()));
    assert_eq!(Ledger::open(state.path()).unwrap().0.head().unwrap().hash.to_string(), audit.head.unwrap());
}

#[test]
fn the_first_row_names_the_ledger_by_an_id_of_no_host() {
    let state = ledger(&[NOVEMBER]);
    let first: Value = serde_json::from_str(&lines(&november(state.path()))[0]).unwrap();
    assert_eq!((first["event"].as_str().unwrap(), first["seq"].as_u64().unwrap()), ("ledger.chain", 1));
    assert_eq!(first["fields"]["ledger"].as_str().unwrap().len(), 36);
}

type Tampering = fn(&mut Vec<String>);

/// Rows 1 to 6 are on lines 1 to 6. Each tampering, the rows that are named, and a word of what is said of the first.
const TAMPERINGS: [(&str, Tampering, &[u64], &str); 9] = [
    ("a byte changed", |lines| lines[2] = lines[2].replacen("bot", "bat", 1), &[3], "changed"),
    ("a hash changed", |lines| lines[2] = lines[2].replace(&head_of(&lines[2].clone()).to_string(), &"0".repeat(64)), &[3, 4], "changed"),
    ("a row deleted", |lines| drop(lines.remove(2)), &[4], "row 3 is missing"),
    ("two rows deleted", |lines| drop(lines.drain(2..4)), &[5], "rows 3 to 4 are missing"),
    ("two rows swapped", |lines| lines.swap(2, 3), &[4, 3, 5], "row 3 is missing"),
    ("a row inserted", |lines| lines.insert(3, lines[2].replacen("\"seq\":3", "\"seq\":4", 1)), &[4, 4], "changed"),
    ("a row duplicated", |lines| lines.insert(3, lines[2].clone()), &[3], "copied"),
    ("a hash taken away", |lines| lines[2] = format!("{}}}", lines[2].split(",\"chain\"").next().unwrap()), &[3, 4], "has no hash"),
    ("the beginning deleted", |lines| drop(lines.drain(..2)), &[3], "does not begin"),
];

#[test]
fn every_tampering_is_found_and_named() {
    for (name, tamper, rows, word) in TAMPERINGS {
        let state = ledger(&[NOVEMBER; 5]);
        let file = november(state.path());
        let mut rows_of_file = lines(&file);
        tamper(&mut rows_of_file);
        put(&file, &rows_of_file);
        let audit = audit(state.path());
        let named: Vec<u64> = audit.findings.iter().filter_map(|finding| finding.row).collect();
        assert_eq!(named, rows, "{name}: {audit:?}");
        assert!(audit.findings[0].what.contains(word), "{name}: {audit:?}");
        assert!(!audit.proves() && audit.faults == rows.len() as u64);
        assert_eq!(audit.findings[0].file.as_deref(), Some("2026-11.jsonl"));
    }
}

/// A chain that somebody computed anew from a changed row on fits itself; only a head from elsewhere tells.
#[test]
fn an_end_that_was_cut_off_or_written_anew_is_found_by_a_known_head() {
    let state = ledger(&[NOVEMBER; 5]);
    let file = november(state.path());
    let whole = lines(&file);
    let demand = |line: &str| Demand { heads: BTreeSet::from([head_of(line)]), after: None };
    for line in &whole {
        assert!(verify(state.path(), &demand(line), &mut |_| ()).unwrap().proves());
    }
    put(&file, &whole[..4]);
    assert!(audit(state.path()).proves(), "the file alone does not show it");
    assert!(verify(state.path(), &demand(&whole[3]), &mut |_| ()).unwrap().proves(), "the head before the cut is there");
    let cut = verify(state.path(), &demand(&whole[5]), &mut |_| ()).unwrap();
    assert!(!cut.proves() && cut.findings[0].what.contains("cut off"), "{cut:?}");
    append(state.path(), &["2026-11-26T01:00:00Z"; 2]);
    assert!(!verify(state.path(), &demand(&whole[5]), &mut |_| ()).unwrap().proves(), "writing on does not hide it");
}

#[test]
fn rows_from_before_the_chain_are_told_as_unchained_and_what_follows_is_proved() {
    let state = tempfile::tempdir().unwrap();
    fs::create_dir(state.path().join("ledger")).unwrap();
    let old = |seq| format!("{{\"schema\":1,\"seq\":{seq},\"at\":\"{OCTOBER}\",\"token\":\"bot\",\"event\":\"revoke.succeeded\"}}");
    put(&state.path().join("ledger/2026-10.jsonl"), &[old(1), old(2)]);
    assert!(!audit(state.path()).proves(), "nothing is proved yet");
    assert_eq!(append(state.path(), &[NOVEMBER, NOVEMBER]), []);
    let whole = audit(state.path());
    assert_eq!((whole.unchained, whole.rows, whole.proves()), (2, 3, true), "{whole:?}");
    put(&november(state.path()), &[lines(&november(state.path())), vec![old(6)]].concat());
    let audit = audit(state.path());
    assert!(found(&audit)[0].1.contains("has no hash"), "{audit:?}");
}

/// What a crash leaves is no tampering: the row that is left says how many bytes went and after which row.
#[test]
fn a_torn_end_is_told_apart_from_a_cut_one() {
    let state = ledger(&[NOVEMBER; 3]);
    let file = november(state.path());
    let whole = lines(&file);
    let heads: BTreeSet<_> = whole.iter().map(|line| head_of(line)).collect();
    let torn = &whole[3].as_bytes()[..80];
    fs::OpenOptions::new().append(true).open(&file).unwrap().write_all(torn).unwrap();
    let running = audit(state.path());
    assert!(running.proves() && running.notes[0].contains("line 5 has no end yet"), "{running:?}");

    append(state.path(), &[NOVEMBER]);
    // The repair is said in the month in which it happened, which is that of the clock.
    let audit = verify(state.path(), &Demand { heads, after: None }, &mut |_| ()).unwrap();
    assert!(audit.proves(), "no head that was told is gone: {audit:?}");
    assert!(audit.notes[0].contains("the last 80 bytes of 2026-11.jsonl were no whole row"), "{audit:?}");
    let all: Vec<Value> = fs::read_dir(state.path().join("ledger"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().unwrap() == "jsonl")
        .flat_map(|path| lines(&path))
        .map(|line| serde_json::from_str(&line).unwrap())
        .collect();
    let repair = all.iter().find(|row| row["event"] == "ledger.repaired").unwrap();
    assert_eq!((repair["fields"]["cut_bytes"].as_u64(), repair["fields"]["after_row"].as_u64()), (Some(80), Some(4)));
    assert_eq!(repair["fields"]["after_head"].as_str().unwrap(), head_of(&whole[3]).to_string());
}

#[test]
fn a_file_that_was_set_aside_for_damage_stays_part_of_the_chain() {
    let state = ledger(&[NOVEMBER; 4]);
    let file = november(state.path());
    let mut rows = lines(&file);
    rows[2].replace_range(..40, &"#".repeat(40));
    put(&file, &rows);
    append(state.path(), &[NOVEMBER; 2]);
    let audit = audit(state.path());
    let named: Vec<_> = audit.findings.iter().map(|finding| (finding.row, finding.line, finding.file.as_deref().unwrap())).collect();
    let damaged = "2026-11.jsonl.damaged-1";
    assert_eq!(named, [(None, Some(3), damaged), (Some(4), Some(4), damaged)], "{audit:?}");
    assert_eq!(audit.rows, 2 + 1 + 1 + 2, "all others fit, and the repair is a row: {audit:?}");
}

#[test]
fn a_start_finds_a_break_near_the_end_tells_it_once_and_goes_on() {
    let state = ledger(&[NOVEMBER; 5]);
    let file = november(state.path());
    let mut rows = lines(&file);
    rows.remove(3);
    rows[2] = rows[2].replacen("bot", "bat", 1);
    put(&file, &rows);
    let repairs = append(state.path(), &[NOVEMBER]);
    let named: Vec<u64> =
        repairs.iter().filter_map(|repair| if let Repair::Broken { row, .. } = repair { Some(*row) } else { None }).collect();
    assert_eq!(named, [3, 5], "{repairs:?}");
    if fs::read_dir(state.path().join("ledger")).unwrap().count() == 1 {
        assert_eq!(append(state.path(), &[NOVEMBER]), [], "told once");
    }
    let audit = audit(state.path());
    assert_eq!(audit.findings.iter().filter_map(|finding| finding.row).collect::<Vec<_>>(), [3, 5], "what was written since fits");
    assert!(audit.notes.iter().any(|note| note.contains("row 3 of 2026-11.jsonl does not fit row 2")), "{audit:?}");
}

#[test]
fn what_was_archived_or_is_known_to_be_broken_is_left_out_by_after() {
    let state = ledger(&[OCTOBER, OCTOBER, NOVEMBER, NOVEMBER]);
    let october = state.path().join("ledger/2026-10.jsonl");
    let last = head_of(lines(&october).last().unwrap());
    let after = Demand { heads: BTreeSet::new(), after: Some(last) };
    let check = || verify(state.path(), &after, &mut |_| ()).unwrap();
    let audit = check();
    assert_eq!((audit.rows, audit.passed_over, audit.proves()), (2, 3, true), "its successor stands first in its file: {audit:?}");
    let mut broken = lines(&october);
    broken.remove(1);
    put(&october, &broken);
    assert_eq!((check().rows, check().proves()), (2, true));
    fs::remove_file(&october).unwrap();
    assert_eq!((check().rows, check().proves()), (2, true));
    assert!(!verify(state.path(), &Demand::default(), &mut |_| ()).unwrap().proves());
    let nowhere = Demand { heads: BTreeSet::new(), after: Some("7".repeat(64).parse().unwrap()) };
    assert!(!verify(state.path(), &nowhere, &mut |_| ()).unwrap().proves());
}

/// A ledger that is taken away under the daemon is missed, not begun anew.
#[test]
fn rows_that_were_taken_away_under_the_writer_are_missed() {
    let state = tempfile::tempdir().unwrap();
    let (ledger, _) = Ledger::open(state.path()).unwrap();
    ledger.append(&entry(NOVEMBER)).unwrap();
    fs::remove_file(november(state.path())).unwrap();
    ledger.append(&entry(NOVEMBER)).unwrap();
    let audit = audit(state.path());
    assert!(found(&audit)[0].1.contains("does not begin it"), "{audit:?}");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]
    /// One changed byte anywhere, line ends too, is a fault (or, at the very end of a file, a row that is not whole).
    #[test]
    fn no_byte_can_be_changed(at in 0_usize..10_000, to in proptest::num::u8::ANY) {
        let state = ledger(&[NOVEMBER; 3]);
        let file = november(state.path());
        let mut bytes = fs::read(&file).unwrap();
        let at = at % (bytes.len() - 1);
        proptest::prop_assume!(bytes[at] != to);
        bytes[at] = to;
        fs::OpenOptions::new().write(true).open(&file).unwrap().write_all(&bytes).unwrap();
        let audit = audit(state.path());
        proptest::prop_assert!(!audit.proves(), "{:?}", audit);
    }
}

fn evertoken(state: &Path, arguments: &[&str]) -> Output {
    let config = state.join("evertoken.toml");
    let text = include_str!("../config/minimal.toml").to_owned() + &format!("\n[daemon]\nstate_dir = {:?}\n", state.display().to_string());
    put(&config, &[text]);
    Command::new(env!("CARGO_BIN_EXE_evertoken")).arg("--config").arg(&config).args(["audit", "verify"]).args(arguments).output().unwrap()
}

#[test]
fn the_command_says_what_it_found_and_what_to_do() {
    let state = tempfile::tempdir().unwrap();
    let none = evertoken(state.path(), &[]);
    assert_eq!(none.status.code(), Some(1), "{none:?}");
    assert!(String::from_utf8(none.stderr).unwrap().contains("there is no ledger in"));

    append(state.path(), &[NOVEMBER; 3]);
    let whole = evertoken(state.path(), &[]);
    let said = String::from_utf8(whole.stdout).unwrap();
    assert_eq!(whole.status.code(), Some(0), "{said}");
    assert!(said.contains("The ledger is whole") && said.contains("4 checked") && said.contains("(row 4)"), "{said}");
    let head = head_of(lines(&november(state.path())).last().unwrap()).to_string();
    assert_eq!(evertoken(state.path(), &["--head", &head]).status.code(), Some(0));
    assert_eq!(evertoken(state.path(), &["--head", &"1".repeat(64)]).status.code(), Some(1));
    assert_eq!(evertoken(state.path(), &["--head", "1"]).status.code(), Some(2));

    let mut rows = lines(&november(state.path()));
    rows.remove(2);
    put(&november(state.path()), &rows);
    let broken = evertoken(state.path(), &[]);
    let said = String::from_utf8(broken.stdout).unwrap();
    assert_eq!(broken.status.code(), Some(1), "{said}");
    assert!(said.contains("BROKEN: 1 fault") && said.contains("2026-11.jsonl, line 3: row 4 does not fit row 2"), "{said}");
    assert!(said.contains("to do: keep a copy"), "{said}");
    let json: Value = serde_json::from_slice(&evertoken(state.path(), &["-o", "json"]).stdout).unwrap();
    assert_eq!((json["faults"].as_u64(), json["findings"][0]["row"].as_u64()), (Some(1), Some(4)));
}
