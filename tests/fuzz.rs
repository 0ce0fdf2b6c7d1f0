//! Whatever bytes stand in a file or a header: no panic, no secret in what is said of them, and what was read can be written and read
//! again. A committed corpus (the configurations and state that other tests read) is mutated with a fixed seed, so a run can be repeated.
//! `EVERTOKEN_FUZZ=N` multiplies the executions and changes the seed; `scripts/fuzz.sh` runs an optimized build for a time.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use evertoken::config::{self, Environment};
use evertoken::graph::usage::http_date;
use evertoken::ledger::{Demand, Ledger, read, verify};
use evertoken::rotation::payload::{Payload, PayloadRule};
use evertoken::rotation::record::Record;
use evertoken::spool::{Spool, SpoolKey};
use secrecy::SecretString;

/// A secret that no text about an input may repeat.
const CANARY: &str = "EAACANARYcanary0123456789canary0123456789canaryZD";

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) >> 1).unwrap() % below.max(1)
    }

    /// One to eight changes of a text: bits, bytes, runs that go, come twice or change places, parts of others, numbers at their limits.
    fn mutate(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        const PIECES: [&str; 14] =
            ["{", "}", "[", "\"", "\\u0000", "\n", "null", "-1", "18446744073709551616", "1e999", "\u{202e}", ",", "=", "'''"];
        let mut bytes = corpus[self.roll(corpus.len())].clone();
        for _ in 0..=self.roll(8) {
            let at = self.roll(bytes.len() + 1);
            let to = (at + self.roll(24)).min(bytes.len());
            match self.roll(7) {
                0 if at < bytes.len() => bytes[at] ^= 1 << self.roll(8),
                1 if at < bytes.len() => bytes[at] = u8::try_from(self.roll(256)).unwrap(),
                2 => drop(bytes.drain(at..to)),
                3 => drop(bytes.splice(at..at, bytes[at..to].to_vec())),
                4 => drop(bytes.splice(at..to, PIECES[self.roll(PIECES.len())].bytes())),
                5 => bytes.truncate(at),
                _ => {
                    let other = &corpus[self.roll(corpus.len())];
                    let from = self.roll(other.len());
                    let part = other[from..(from + self.roll(64)).min(other.len())].to_vec();
                    drop(bytes.splice(at..to, part));
                }
            }
        }
        bytes
    }
}

#[expect(clippy::disallowed_methods, reason = "how long to look is the caller's to say")]
fn effort() -> u64 {
    std::env::var("EVERTOKEN_FUZZ").ok().and_then(|times| times.parse().ok()).unwrap_or(1)
}

/// Gives a target every text of the corpus, then mutations of them.
#[cfg(test)]
fn fuzz(name: &str, executions: u64, corpus: &[Vec<u8>], mut target: impl FnMut(&[u8])) {
    let mut dice = Dice(effort() ^ name.bytes().fold(0, |seed, byte| seed * 31 + u64::from(byte)));
    assert!(on_the_page(name, executions), "docs/proof.md does not say that {name} has {executions} executions");
    let executions = executions * effort();
    let mut tried = |bytes: &[u8]| {
        if let Err(fault) = catch_unwind(AssertUnwindSafe(|| target(bytes))) {
            println!("fuzz {name}: this input fails; it belongs into the corpus: b\"{}\"", bytes.escape_ascii());
            resume_unwind(fault);
        }
    };
    corpus.iter().for_each(|text| tried(text));
    for _ in 0..executions {
        tried(&dice.mutate(corpus));
    }
    println!("fuzz {name}: {} executions", executions + corpus.len() as u64);
}

/// Whether docs/proof.md states this number for this target.
fn on_the_page(name: &str, executions: u64) -> bool {
    let page = include_str!("../docs/proof.md");
    let row = page.lines().find(|line| line.starts_with(&format!("| `{name}` |"))).unwrap_or_default();
    row.rsplit('|').nth(1).is_some_and(|count| count.trim().replace(',', "") == executions.to_string())
}

fn silent(said: &str) {
    assert!(!said.contains(CANARY.trim_start_matches("EAA").trim_end_matches("ZD")), "a secret is repeated: {said}");
}

fn files(folder: &str, extension: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|is| is == extension));
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn put(path: &Path, bytes: &[u8]) {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    file.write_all(bytes).unwrap();
}

#[test]
fn record() {
    let mut corpus = files("tests/fixtures/state-v1", "json");
    corpus.push(format!("{{\"schema\":1,\"number\":7,\"writer\":\"{CANARY}\",\"epoch\":\"{CANARY}\"}}").into_bytes());
    fuzz("record", 20_000, &corpus, |bytes| match Record::decode(7, bytes) {
        Ok(record) => assert_eq!(Record::decode(7, &record.encode().unwrap()), Ok(record)),
        Err(error) => silent(&format!("{error} {error:?}")),
    });
}

#[test]
fn payload() {
    let corpus: Vec<Vec<u8>> = [
        CANARY.to_owned(),
        format!("{{\"access_token\":\"{CANARY}\",\"app_id\":\"1\"}}"),
        format!("{{\"a\":[1,{{\"token\":0}}],\"token\":\"{CANARY}\"}}"),
        format!("TOKEN={CANARY}\n"),
    ]
    .map(String::into_bytes)
    .into();
    let rules = [PayloadRule::Raw, PayloadRule::Json, PayloadRule::Key("token".into()), PayloadRule::Template("TOKEN={{token}}\n".into())];
    fuzz("payload", 20_000, &corpus, |bytes| {
        let payload = Payload::new(String::from_utf8_lossy(bytes));
        for rule in &rules {
            silent(&format!("{:?} {:?} {payload:?}", rule.extract(&payload), rule.content(&payload)));
            if let Err(error) = rule.extract(&payload) {
                silent(&error.to_string());
            }
        }
    });
}

#[test]
fn date() {
    let corpus =
        [&b"Wed, 25 Nov 2026 05:12:03 GMT"[..], b"Sunday, 06-Nov-94 08:49:37 GMT", b"Thu, 31 Dec 9999 23:59:60 GMT"].map(<[u8]>::to_vec);
    fuzz("date", 100_000, &corpus, |bytes| {
        if let Some(at) = http_date(&String::from_utf8_lossy(bytes)) {
            assert_eq!(http_date(&at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()), Some(at));
        }
    });
}

#[test]
fn config() {
    let mut corpus = files("tests/config", "toml");
    corpus.extend(files("config", "toml"));
    corpus.push(
        include_str!("../config/minimal.toml").replace("{ file = \"/etc/evertoken/acme.secret\" }", &format!("\"{CANARY}\"")).into_bytes(),
    );
    let folder = tempfile::tempdir().unwrap();
    let (path, environment) = (folder.path().join("evertoken.toml"), Environment::from_lookup(|_| None));
    fuzz("config", 400, &corpus, |bytes| {
        put(&path, bytes);
        if let Err(error) = config::load(&path, &environment) {
            silent(&format!("{error} {error:?}"));
        }
    });
}

#[test]
fn spool() {
    let state = tempfile::tempdir().unwrap();
    let spool = Spool::open(state.path()).unwrap();
    let keys = [SpoolKey::derive(&SecretString::from("the app's secret")).unwrap()];
    let corpus = [fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/state-v1/spool-bot")).unwrap()];
    fuzz("spool", 2_000, &corpus, |bytes| {
        put(&spool.slot("bot"), bytes);
        let said = format!("{:?}", spool.read("bot", &keys));
        assert!(!said.contains("EAATESTofastatefixture"), "{said}");
    });
}

/// Whatever stands there: it is read, told of, never an error, and the next row is kept.
#[test]
fn ledger() {
    let corpus = files("tests/fixtures/state-v1", "jsonl");
    fuzz("ledger", 300, &corpus, |bytes| {
        let state = tempfile::tempdir().unwrap();
        fs::create_dir(state.path().join("ledger")).unwrap();
        put(&state.path().join("ledger/2026-11.jsonl"), bytes);
        verify(state.path(), &Demand::default(), &mut |_| ()).unwrap();
        read(state.path(), None, 10).unwrap();
        let (ledger, _) = Ledger::open(state.path()).unwrap();
        drop(ledger);
        let again = Ledger::open(state.path()).unwrap().1;
        assert!(again.is_empty(), "what a start found is told once: {again:?}");
    });
}
