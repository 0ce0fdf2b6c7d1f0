//! The file store killed, and failed, at each system call that changes a file.
//!
//! A child process (this test binary again) makes a whole rotation under strace, which kills it at the n-th call, or makes that call
//! fail. Whatever was cut: a reader finds the whole old or the whole new token, and the next process brings the rotation to its end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use evertoken::rotation::fault::Fault;
use evertoken::rotation::payload::Payload;
use evertoken::rotation::slot::SlotId;
use evertoken::store::file::FileStore;
use evertoken::store::{Mark, RecordBytes, SecretStore, Written};
use tempfile::TempDir;

use crate::bed::slot;
use crate::env_var;

const ENTRY: &str = "meta/bot";
const SINK: &str = "sink";
const DIR: &str = "EVERTOKEN_CRASH_DIR";

fn store(dir: &Path) -> FileStore {
    FileStore::new(dir, 0o640, None).unwrap()
}

/// A rotation as the daemon makes it: it looks, does what is left to do, and takes a repeated step for a step.
async fn rotate(store: &dyn SecretStore, old: &SlotId) -> Result<(), Fault> {
    let (to, new) = (slot(1), Payload::new("EAAnew"));
    let looked = store.look(ENTRY).await?;
    if looked.record.is_none() {
        store.write_record(ENTRY, &RecordBytes { number: 1, bytes: b"intent".to_vec() }, true).await?;
    }
    if looked.current.is_none_or(|current| current.slot != to) {
        assert_eq!(store.stage(ENTRY, &to, &new).await?, Written::Done);
        assert_eq!(store.mark_retiring(ENTRY, old).await?, Written::Done);
        assert_eq!(store.promote(ENTRY, old, &to).await?, Written::Done);
    }
    let sink = store.current(SINK).await?;
    assert_eq!(store.publish(SINK, sink.map(|sink| sink.slot).as_ref(), &new).await?, Written::Done);
    store.unmark(ENTRY, old, Mark::Retiring).await?;
    store.unmark(ENTRY, &to, Mark::Staged).await?;
    assert_eq!(store.write_record(ENTRY, &RecordBytes { number: 2, bytes: b"rest".to_vec() }, true).await?, Written::Done);
    Ok(())
}

/// Not a test by itself: what runs under strace. All file work is on one thread, because strace counts calls by thread.
#[test]
fn child() {
    let Some(dir) = env_var(DIR) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let store = store(&PathBuf::from(dir));
        let old = fingerprint_name("EAAold");
        if let Err(fault) = rotate(&store, &old).await {
            println!("FAULT {:?} {} {}", fault.certainty, fault.class, fault.what);
        }
    });
}

fn fingerprint_name(text: &str) -> SlotId {
    SlotId::new(format!("fp-{}", evertoken::rotation::token::Fingerprint::of(text).whole()))
}

/// One child under one injection: whether it ran to its end undisturbed, and the fault that it met.
struct Ended {
    undisturbed: bool,
    fault: Option<String>,
}

fn run_child(dir: &Path, call: &str, effect: &str, at: u32) -> Ended {
    let output = Command::new("strace")
        .args(["-f", "-qq", "-o"])
        .arg(dir.with_extension("trace"))
        .args(["-e", &format!("trace={call}"), "-e", &format!("inject={call}:{effect}:when={at}")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "file_crash::child", "--nocapture"])
        .env(DIR, dir)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    // After the harness's own words on the same line, at times.
    let fault = said.split_once("FAULT ").map(|(_before, fault)| fault.lines().next().unwrap_or_default().to_owned());
    assert!(!said.contains("panicked") && !said.contains("EAA"), "{said}");
    let traced = fs::read_to_string(dir.with_extension("trace")).unwrap();
    Ended { undisturbed: !traced.contains("INJECTED") && !traced.contains("killed by SIGKILL"), fault }
}

/// Runs the child at every n until one is not disturbed any more; returns how often it was, and the faults.
async fn at_every(call: &str, effect: &str) -> (u32, Vec<String>) {
    let mut faults = Vec::new();
    for at in 1..200 {
        let temp = TempDir::new().unwrap();
        let dir = temp.path().join("tokens");
        let before = store(&dir);
        before.install(ENTRY, &Payload::new("EAAold"), true).await.unwrap();
        before.install(SINK, &Payload::new("EAAold"), true).await.unwrap();
        let ended = run_child(&dir, call, effect, at);
        let disturbed = format!("{call} number {at}, {effect}");
        for entry in [ENTRY, SINK] {
            let read = fs::read_to_string(dir.join(entry).join("token")).unwrap();
            assert!(read == "EAAold" || read == "EAAnew", "{disturbed}: a reader of {entry} finds {read:?}");
        }
        let (after, old) = (store(&dir), fingerprint_name("EAAold"));
        if after.current(ENTRY).await.unwrap().unwrap().payload.expose() == "EAAold" {
            assert!(after.read(ENTRY, &old).await.unwrap().is_some());
        }
        rotate(&after, &old).await.unwrap();
        let looked = after.look(ENTRY).await.unwrap();
        assert_eq!(looked.current.unwrap().slot, slot(1), "{disturbed}");
        assert!(looked.staged.is_empty() && looked.retiring.is_empty(), "{disturbed}");
        assert_eq!(looked.record.unwrap().number, 2, "{disturbed}");
        assert!(!dir.join(ENTRY).join(".evertoken/scratch").exists(), "{disturbed}");
        if ended.undisturbed {
            assert_eq!(ended.fault, None);
            return (at - 1, faults);
        }
        faults.extend(ended.fault);
    }
    panic!("{call} was made more than 200 times");
}

fn strace_is_missing() -> bool {
    let works = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success());
    if !works {
        assert!(env_var("CI").is_none(), "strace is missing or may not trace: install it");
        println!("SKIPPED: strace is missing or may not trace");
    }
    !works
}

#[tokio::test]
async fn killed_at_any_call_leaves_the_old_token_or_the_new_one() {
    if strace_is_missing() {
        return;
    }
    for (call, at_least) in [("fsync", 20), ("renameat", 7), ("unlinkat", 9), ("mkdirat", 5), ("fchmod", 10)] {
        let (kills, _faults) = at_every(call, "signal=KILL").await;
        assert!(kills >= at_least, "{call}: only {kills} kills");
    }
}

#[tokio::test]
async fn failed_at_any_call_says_so_and_leaves_the_old_token_or_the_new_one() {
    if strace_is_missing() {
        return;
    }
    for (call, error, class) in [("fsync", "ENOSPC", "limit"), ("fsync", "EIO", "transient"), ("renameat", "EROFS", "denied")] {
        let (failures, faults) = at_every(call, &format!("error={error}")).await;
        assert_eq!(failures, u32::try_from(faults.len()).unwrap(), "{call} {error}: each failure is told, never retried");
        for fault in faults {
            assert!(fault.contains(&format!(" {class} ")) && fault.contains("tokens/"), "{fault}");
            let certainty = if fault.contains("sync the folder") { "Unknown" } else { "NotDone" };
            assert!(fault.starts_with(certainty), "{fault}");
        }
    }
}
