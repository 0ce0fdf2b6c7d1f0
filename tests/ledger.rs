//! The ledger on a real file system, whole and damaged.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use evertoken::ledger::{Demand, Entry, Ledger, Repair, read, verify};
use evertoken::rotation::token::Fingerprint;
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn entry(token: &str, event: &str, at: &str) -> Entry {
    Entry {
        at: at.parse().unwrap(),
        provider_at: Some(Timestamp::UNIX_EPOCH),
        token: token.into(),
        rotation_id: Some("r1".into()),
        attempt: Some(2),
        event: event.into(),
        fingerprint: Some(Fingerprint::of("t")),
        fields: [("gate".to_owned(), json!({"window_elapsed": true}))].into_iter().collect(),
    }
}

fn november(token: &str) -> Entry {
    entry(token, "promote.succeeded", "2026-11-25T01:00:00Z")
}

fn file(state: &Path) -> PathBuf {
    state.join("ledger/2026-11.jsonl")
}

fn seqs(state: &Path) -> Vec<u64> {
    read(state, None, 1000).unwrap().rows.iter().map(|row| row.seq).collect()
}

fn append_raw(path: &Path, bytes: &[u8]) {
    fs::OpenOptions::new().append(true).open(path).unwrap().write_all(bytes).unwrap();
}

#[test]
fn a_row_is_one_line_with_stable_keys() {
    let state = tempfile::tempdir().unwrap();
    let (ledger, repairs) = Ledger::open(state.path()).unwrap();
    assert_eq!(repairs, []);
    ledger.append(&november("bot")).unwrap();
    let text = fs::read_to_string(file(state.path())).unwrap();
    assert_eq!(text.lines().count(), 2, "the first begins the chain of hashes");
    let mut row: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(row.as_object_mut().unwrap().remove("chain").unwrap().as_str().unwrap().len(), 64);
    assert_eq!(
        row,
        json!({"schema": 1, "seq": 2, "at": "2026-11-25T01:00:00Z", "provider_at": "1970-01-01T00:00:00Z", "token": "bot",
            "rotation_id": "r1", "attempt": 2, "event": "promote.succeeded", "fingerprint": Fingerprint::of("t").whole(),
            "fields": {"gate": {"window_elapsed": true}}})
    );
    assert_eq!(fs::metadata(file(state.path())).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(fs::metadata(state.path().join("ledger")).unwrap().mode() & 0o7777, 0o700);
}

#[test]
fn history_gives_the_newest_rows_of_a_token_across_months_and_restarts() {
    let state = tempfile::tempdir().unwrap();
    assert_eq!(read(state.path(), None, 5).unwrap().rows, [], "no ledger is an empty one");
    for (token, at) in
        [("a", "2026-10-01T00:00:00Z"), ("b", "2026-10-31T23:59:59Z"), ("a", "2026-11-01T00:00:00Z"), ("a", "2026-12-01T00:00:00Z")]
    {
        let (ledger, _) = Ledger::open(state.path()).unwrap();
        ledger.append(&entry(token, "revoke.succeeded", at)).unwrap();
    }
    assert_eq!(seqs(state.path()), [1, 2, 3, 4, 5], "the first begins the chain");
    let of_a = read(state.path(), Some("a"), 2).unwrap();
    assert_eq!(of_a.rows.iter().map(|row| row.seq).collect::<Vec<_>>(), [4, 5]);
    assert_eq!(read(state.path(), Some("a"), 0).unwrap().rows, []);
    assert_eq!(fs::read_dir(state.path().join("ledger")).unwrap().count(), 3);
}

/// A crash leaves any prefix of the last row. Whatever it is, the rows before stay and the next one stands alone.
#[test]
fn a_torn_tail_is_moved_aside_and_the_next_row_stands_alone() {
    let row_bytes = 300;
    for cut in (1..row_bytes).step_by(7).chain([usize::MAX]) {
        let state = tempfile::tempdir().unwrap();
        let (ledger, _) = Ledger::open(state.path()).unwrap();
        ledger.append(&november("bot")).unwrap();
        ledger.append(&november("bot")).unwrap();
        drop(ledger);
        let all = fs::read(file(state.path())).unwrap();
        let whole = all.split_inclusive(|byte| *byte == b'\n').next_back().unwrap();
        assert!(whole.len() > row_bytes + 1);
        let cut = cut.min(whole.len() - 1);
        let torn = fs::OpenOptions::new().write(true).open(file(state.path())).unwrap();
        torn.set_len((all.len() - whole.len() + cut) as u64).unwrap();
        let (ledger, repairs) = Ledger::open(state.path()).unwrap();
        if cut == whole.len() - 1 {
            assert_eq!(repairs, [], "a row that only lacks its line end is a row");
        } else {
            let kept_as = "2026-11.jsonl.torn-1".to_owned();
            let [Repair::Torn { file, kept_as: told, bytes, .. }] = &repairs[..] else { panic!("{repairs:?}") };
            assert_eq!((file.as_str(), told, *bytes), ("2026-11.jsonl", &kept_as, cut as u64));
            assert_eq!(fs::read(state.path().join("ledger").join(kept_as)).unwrap(), &whole[..cut]);
        }
        ledger.append(&november("bot")).unwrap();
        let text = fs::read_to_string(file(state.path())).unwrap();
        assert!(text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{text}");
    }
}

#[test]
fn damage_inside_is_quarantined_and_still_read() {
    let state = tempfile::tempdir().unwrap();
    let (ledger, _) = Ledger::open(state.path()).unwrap();
    (2..=4).for_each(|seq| assert_eq!(ledger.append(&november("bot")).unwrap(), seq));
    drop(ledger);
    let mut bytes = fs::read(file(state.path())).unwrap();
    let second = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    bytes[second..second + 40].fill(0);
    fs::OpenOptions::new().write(true).open(file(state.path())).unwrap().write_all(&bytes).unwrap();

    let (ledger, repairs) = Ledger::open(state.path()).unwrap();
    assert!(matches!(&repairs[..], [Repair::Quarantined { kept_as, .. }] if kept_as == "2026-11.jsonl.damaged-1"), "{repairs:?}");
    assert_eq!(fs::read(state.path().join("ledger/2026-11.jsonl.damaged-1")).unwrap(), bytes, "every byte is kept");
    assert_eq!(ledger.append(&november("bot")).unwrap(), 6, "numbers go on, and the repair has one");
    let history = read(state.path(), Some("bot"), 10).unwrap();
    assert_eq!(history.rows.iter().map(|row| row.seq).collect::<Vec<_>>(), [3, 4, 6]);
    assert_eq!(history.notes, ["2026-11.jsonl.damaged-1: 1 line(s) cannot be read"]);
}

#[test]
fn a_row_of_a_newer_version_is_no_damage() {
    let state = tempfile::tempdir().unwrap();
    let (ledger, _) = Ledger::open(state.path()).unwrap();
    ledger.append(&november("bot")).unwrap();
    drop(ledger);
    let last = fs::read_to_string(file(state.path())).unwrap().lines().last().unwrap().to_owned();
    let before: Value = serde_json::from_str(&last).unwrap();
    let body = "{\"schema\":9,\"seq\":70,\"renamed\":1";
    let digest = Sha256::digest(format!("{}{body}", before["chain"].as_str().unwrap()));
    let hash: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    append_raw(&file(state.path()), format!("{body},\"chain\":\"{hash}\"}}\n").as_bytes());
    let (ledger, repairs) = Ledger::open(state.path()).unwrap();
    assert_eq!((repairs.len(), ledger.append(&november("bot")).unwrap()), (0, 71));
    let audit = verify(state.path(), &Demand::default(), &mut |_| ()).unwrap();
    assert_eq!((audit.rows, audit.faults), (4, 0), "the rule of the chain is of no schema");
}

#[test]
fn a_file_that_somebody_moved_away_is_begun_again() {
    let state = tempfile::tempdir().unwrap();
    let (ledger, _) = Ledger::open(state.path()).unwrap();
    ledger.append(&november("bot")).unwrap();
    fs::rename(file(state.path()), state.path().join("moved")).unwrap();
    ledger.append(&november("bot")).unwrap();
    assert_eq!(seqs(state.path()), [3]);
}

#[test]
fn a_row_that_is_too_long_is_refused_and_nothing_is_written() {
    let state = tempfile::tempdir().unwrap();
    let (ledger, _) = Ledger::open(state.path()).unwrap();
    let mut long = november("bot");
    long.fields.insert("long".into(), Value::String("x".repeat(70_000)));
    assert!(ledger.append(&long).is_err());
    assert!(seqs(state.path()).is_empty());
    ledger.append(&november("bot")).unwrap();
    assert_eq!(seqs(state.path()), [1, 2]);
}

/// Where the test may mount, a tmpfs that fills up cuts rows in the middle; elsewhere the first part alone counts.
#[test]
fn rows_before_and_after_a_full_disk_are_whole() {
    let state = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=24k,mode=0700", "none"]).arg(state.path()).output();
    let mounted = mounted.is_ok_and(|output| output.status.success());
    let outcome = std::panic::catch_unwind(|| fill_up(state.path(), mounted));
    assert!(!mounted || Command::new("umount").arg("-l").arg(state.path()).status().unwrap().success());
    outcome.unwrap();
}

fn fill_up(state: &Path, small: bool) {
    let (ledger, _) = Ledger::open(state).unwrap();
    let written: Vec<u64> = (0..200).map_while(|_| ledger.append(&november("bot")).ok()).collect();
    assert_eq!(written.len() < 200, small, "{} rows fit", written.len());
    assert_eq!(seqs(state)[1..], written);
    assert_eq!(ledger.append(&november("bot")).is_err(), small);
    if small {
        fs::OpenOptions::new().write(true).open(file(state)).unwrap().set_len(0).unwrap();
        let seq = ledger.append(&november("bot")).unwrap();
        assert_eq!(seqs(state), [seq], "the chain goes on from a row that is gone, and is not begun anew");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn no_bytes_in_the_file_stop_the_ledger(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        let state = tempfile::tempdir().unwrap();
        fs::create_dir(state.path().join("ledger")).unwrap();
        fs::OpenOptions::new().create_new(true).write(true).open(file(state.path())).unwrap().write_all(&bytes).unwrap();
        let _history = read(state.path(), None, 10).unwrap();
        let (ledger, _) = Ledger::open(state.path()).unwrap();
        let seq = ledger.append(&november("bot")).unwrap();
        proptest::prop_assert!(seqs(state.path()).contains(&seq));
    }
}
