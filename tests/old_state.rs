//! State that was written once and must be read for ever: a record, a spool slot, and ledgers from before and after the chain of hashes,
//! under `tests/fixtures/state-v1/`. They are committed and never written anew. State of a *newer* version is kept as it is.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use evertoken::ledger::{Demand, Entry, Ledger, Row, read, verify};
use evertoken::rotation::record::{
    Backoff, Known, Past, Published, Record, RecordError, Retiree, RetireeKind, Rotation, Said, Stage, Unaccounted,
};
use evertoken::rotation::slot::SlotId;
use evertoken::rotation::token::{Expiry, Fingerprint};
use evertoken::spool::{Binding, SlotContent, Spool, SpoolError, SpoolKey};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, json};

const TEXT: &str = "EAATESTofastatefixture";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/state-v1").join(name)
}

fn key() -> SpoolKey {
    SpoolKey::derive(&SecretString::from("the app's secret")).unwrap()
}

fn binding() -> Binding {
    Binding { identity: "arn:aws:secretsmanager:eu-west-1:1:secret:bot".into(), rotation: "r2".into(), attempt: 3 }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn known(name: &str) -> Known {
    Known {
        slot: SlotId::new(format!("slot-{name}")),
        fingerprint: Fingerprint::of(name),
        since: at("2026-10-01T00:00:00Z"),
        issued_at: at("2026-10-01T00:00:00Z"),
        expires: Expiry::At(at("2026-11-30T00:00:00Z")),
        scopes: ["business_management".to_owned()].into(),
        granular: std::iter::once(("business_management".to_owned(), Some(["77".to_owned()].into()))).collect(),
    }
}

/// A record in which every part has something.
fn record() -> Record {
    let said = |why: &str| Some(Said { at: at("2026-11-01T00:00:00Z"), why: why.into() });
    Record {
        published: Some(Published { fingerprint: Fingerprint::of("new"), at: at("2026-11-01T00:00:00Z") }),
        rotation: Some(Rotation {
            id: "r2".into(),
            started_at: at("2026-11-01T00:00:00Z"),
            base: known("old"),
            attempt: 3,
            by: "writer.0".into(),
            stage: Stage::Published,
            why: "due".into(),
            renderings: 1,
        }),
        retirees: vec![Retiree {
            slot: SlotId::new("slot-surplus".to_owned()),
            fingerprint: Fingerprint::of("surplus"),
            why: RetireeKind::Surplus,
            since: at("2026-11-01T00:00:00Z"),
            expires: Some(Expiry::Never),
            staged_against: Some(SlotId::new("slot-old".to_owned())),
            revoking: true,
            rejected: None,
        }],
        unaccounted: vec![Unaccounted {
            rotation: "r2".into(),
            attempt: 1,
            since: at("2026-11-01T00:00:00Z"),
            bound: at("2026-12-31T00:00:00Z"),
            why: String::new(),
        }],
        backoff: Some(Backoff { count: 2, not_before: at("2026-11-01T01:00:00Z"), why: "throttled".into() }),
        hold: said("audit"),
        frozen: said("others write"),
        request: said("requested"),
        retired: vec![Fingerprint::of("older")],
        past: vec![Past { id: "r1".into(), renderings: 0, attempts: 1, base: SlotId::new("slot-older".to_owned()) }],
        foreign_edits: vec![at("2026-10-20T00:00:00Z")],
        ..Record::first(7, "writer.0", known("new"))
    }
}

fn entry() -> Entry {
    Entry {
        at: at("2026-11-25T01:00:00Z"),
        provider_at: Some(at("2026-11-25T01:00:01Z")),
        token: "bot".into(),
        rotation_id: Some("r2".into()),
        attempt: Some(3),
        event: "revoke.started".into(),
        fingerprint: Some(Fingerprint::of("old")),
        fields: json!({"gate": {"window_elapsed": true}}).as_object().cloned().unwrap(),
    }
}

fn row(seq: u64) -> Row {
    let Entry { at, provider_at, token, rotation_id, attempt, event, fingerprint, fields } = entry();
    Row { schema: 1, seq, at, provider_at, token, rotation_id, attempt, event, fingerprint, fields }
}

fn make(name: &str, bytes: &[u8]) {
    fs::OpenOptions::new().write(true).create_new(true).open(fixture(name)).unwrap().write_all(bytes).unwrap();
}

/// How the files were made, once: what is there is refused.
#[test]
#[ignore = "makes the fixtures, which are there"]
fn make_the_fixtures() {
    make("record.json", &record().encode().unwrap());
    let state = tempfile::tempdir().unwrap();
    Spool::open(state.path()).unwrap().capture("bot", &binding(), &SecretString::from(TEXT), &key()).unwrap();
    make("spool-bot", &fs::read(state.path().join("spool/bot")).unwrap());
    let old: String = (1..=3).map(|seq| serde_json::to_string(&row(seq)).unwrap() + "\n").collect();
    make("ledger-unchained.jsonl", old.as_bytes());
    let (ledger, _) = Ledger::open(state.path()).unwrap();
    (2..=4).for_each(|seq| assert_eq!(ledger.append(&entry()).unwrap(), seq));
    make("ledger-chained.jsonl", &fs::read(state.path().join("ledger/2026-11.jsonl")).unwrap());
}

/// A state directory with one fixture in it.
fn state_with(fixture_name: &str, place: &str) -> tempfile::TempDir {
    let state = tempfile::tempdir().unwrap();
    put(state.path(), place, &fs::read(fixture(fixture_name)).unwrap());
    state
}

fn put(state: &Path, place: &str, bytes: &[u8]) {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    let path = state.join(place);
    fs::DirBuilder::new().mode(0o700).recursive(true).create(path.parent().unwrap()).unwrap();
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap().write_all(bytes).unwrap();
}

#[test]
fn the_record_is_read() {
    assert_eq!(Record::decode(7, &fs::read(fixture("record.json")).unwrap()), Ok(record()));
}

#[test]
fn the_spool_slot_is_opened() {
    let state = state_with("spool-bot", "spool/bot");
    match Spool::open(state.path()).unwrap().read("bot", &[key()]).unwrap() {
        SlotContent::Holds { binding: found, text } => assert_eq!((found, text.expose_secret()), (binding(), TEXT)),
        other @ (SlotContent::Empty | SlotContent::Locked { .. } | SlotContent::Damaged { .. }) => panic!("{other:?}"),
    }
}

#[test]
fn the_ledger_from_before_the_chain_is_read_and_written_on() {
    let state = state_with("ledger-unchained.jsonl", "ledger/2026-11.jsonl");
    assert_eq!(read(state.path(), None, 10).unwrap().rows, [row(1), row(2), row(3)]);
    let (ledger, repairs) = Ledger::open(state.path()).unwrap();
    assert_eq!((repairs.len(), ledger.append(&entry()).unwrap()), (0, 5));
    let audit = verify(state.path(), &Demand::default(), &mut |_| ()).unwrap();
    assert_eq!((audit.unchained, audit.rows, audit.faults), (3, 2, 0), "{audit:?}");
}

#[test]
fn the_chained_ledger_is_read_proved_and_written_on() {
    let state = state_with("ledger-chained.jsonl", "ledger/2026-11.jsonl");
    assert_eq!(read(state.path(), Some("bot"), 10).unwrap().rows, [row(2), row(3), row(4)]);
    let (ledger, repairs) = Ledger::open(state.path()).unwrap();
    assert_eq!((repairs.len(), ledger.append(&entry()).unwrap()), (0, 5));
    let audit = verify(state.path(), &Demand::default(), &mut |_| ()).unwrap();
    assert_eq!((audit.unchained, audit.rows, audit.faults), (0, 5, 0), "{audit:?}");
}

/// Held under `newer_record`, which the plan's own tests show; here, that the format is told apart from damage.
#[test]
fn a_record_of_a_newer_version_is_told_as_such_whatever_it_holds() {
    let newer = br#"{"schema":2,"number":8,"unheard_of":[1,2,3]}"#;
    assert_eq!(Record::decode(8, newer), Err(RecordError::Newer { number: 8, schema: 2 }));
}

#[test]
fn a_spool_slot_of_a_newer_version_is_kept_to_the_byte() {
    let mut newer = fs::read(fixture("spool-bot")).unwrap();
    newer[14] = 2;
    let state = tempfile::tempdir().unwrap();
    put(state.path(), "spool/bot", &newer);
    let spool = Spool::open(state.path()).unwrap();
    let content = spool.read("bot", &[key()]).unwrap();
    assert!(matches!(content, SlotContent::Damaged { other_version: true, .. }), "{content:?}");
    let refused = spool.capture("bot", &binding(), &SecretString::from("another"), &key());
    assert!(matches!(refused, Err(SpoolError::Occupied(_))), "{refused:?}");
    assert_eq!(fs::read(state.path().join("spool/bot")).unwrap(), newer);
}

/// A row of a newer schema keeps the chain's rule, so it is proved and written on from, though `history` cannot show it.
#[test]
fn a_ledger_with_rows_of_a_newer_version_is_written_on_and_none_of_them_is_touched() {
    let state = state_with("ledger-chained.jsonl", "ledger/2026-11.jsonl");
    let path = state.path().join("ledger/2026-11.jsonl");
    let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"{\"schema\":2,\"seq\":5,\"when\":{}}\n").unwrap();
    let before = fs::read(&path).unwrap();
    let (ledger, _) = Ledger::open(state.path()).unwrap();
    let seq = ledger.append(&Entry { fields: Map::new(), ..entry() }).unwrap();
    assert!(seq > 5 && fs::read(&path).unwrap().starts_with(&before));
    let history = read(state.path(), Some("bot"), 10).unwrap();
    assert_eq!((history.rows.len(), history.notes.len()), (4, 1), "{:?}", history.notes);
}
