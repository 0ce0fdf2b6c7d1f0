//! The list against the file store, and what only files have: modes, links, full disks, crashes.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use evertoken::rotation::fault::FaultClass;
use evertoken::rotation::payload::Payload;
use evertoken::store::file::{FileGroup, FileStore, FileStoreError};
use evertoken::store::{SecretStore, Severity, Written};
use tempfile::TempDir;

use crate::bed::{Bed, assert_refused, run, slot};

struct FileBed {
    dir: TempDir,
    entries: AtomicU32,
}

impl FileBed {
    fn new() -> Self {
        // In memory where the host has that: thousands of fsyncs wait for each other on a busy disk. Crashes are tested on a disk.
        let dir = TempDir::new_in("/dev/shm").or_else(|_none| TempDir::new()).unwrap();
        Self { dir, entries: AtomicU32::new(0) }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("tokens")
    }

    fn token(&self, entry: &str) -> PathBuf {
        self.root().join(entry).join("token")
    }

    fn open(&self) -> FileStore {
        FileStore::new(&self.root(), 0o640, None).unwrap()
    }
}

#[async_trait]
impl Bed for FileBed {
    fn store(&self) -> Arc<dyn SecretStore> {
        Arc::new(self.open())
    }
    fn other(&self) -> Arc<dyn SecretStore> {
        Arc::new(self.open())
    }
    fn fresh_name(&self) -> String {
        format!("meta/bot-{}", self.entries.fetch_add(1, Ordering::Relaxed))
    }
    async fn empty(&self) -> String {
        let entry = self.fresh_name();
        fs::create_dir_all(self.root().join(&entry)).unwrap();
        entry
    }
    async fn overwrite(&self, entry: &str, text: &str) {
        OpenOptions::new().write(true).truncate(true).open(self.token(entry)).unwrap().write_all(text.as_bytes()).unwrap();
    }
    async fn deleting(&self) -> Option<String> {
        None
    }
    async fn rotated_by_others(&self, _text: &str) -> Option<String> {
        None
    }
    fn publish_makes_entries(&self) -> bool {
        true
    }
    fn swaps(&self) -> usize {
        500
    }
    async fn consume(&self, entry: &str) -> Option<String> {
        fs::read_to_string(self.token(entry)).ok()
    }
}

#[tokio::test]
async fn file_store_keeps_the_contract() {
    run(Arc::new(FileBed::new()), &[]).await;
}

fn payload(text: &str) -> Payload {
    Payload::new(text)
}

fn mode(path: PathBuf) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn modes_are_as_configured_and_ours_are_closed() {
    let bed = FileBed::new();
    let store = bed.store();
    store.publish("a/b", None, &payload("EAAone")).await.unwrap();
    store.stage("a/b", &slot(1), &payload("EAAtwo")).await.unwrap();
    assert_eq!(mode(bed.token("a/b")), 0o640);
    assert_eq!(mode(bed.root().join("a")), 0o750);
    assert_eq!(mode(bed.root().join("a/b/.evertoken")), 0o700);
    assert_eq!(mode(bed.root().join("a/b/.evertoken/staged").join(slot(1).as_str())), 0o600);
    let open = FileStore::new(&bed.root(), 0o644, None).unwrap();
    let findings = open.examine("a/b").await.unwrap();
    assert_eq!(findings.iter().filter(|finding| finding.severity == Severity::Warning).count(), 2, "{findings:?}");
}

#[tokio::test]
async fn a_sink_holds_the_token_and_a_lock_and_nothing_else() {
    let bed = FileBed::new();
    bed.store().publish("sink", None, &payload("EAAone")).await.unwrap();
    let seen = bed.store().current("sink").await.unwrap().unwrap();
    bed.store().publish("sink", Some(&seen.slot), &payload("EAAtwo")).await.unwrap();
    let names = |dir: PathBuf| {
        let mut names: Vec<String> = fs::read_dir(dir).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names(bed.root().join("sink")), [".evertoken", "token"]);
    assert_eq!(names(bed.root().join("sink/.evertoken")), ["lock"]);
}

#[tokio::test]
async fn loose_folders_links_and_foreign_shapes_are_refused() {
    let bed = FileBed::new();
    let store = bed.store();
    store.publish("loose", None, &payload("EAAone")).await.unwrap();
    fs::set_permissions(bed.root().join("loose"), PermissionsExt::from_mode(0o777)).unwrap();
    assert_refused(store.publish("loose", None, &payload("EAAtwo")).await, FaultClass::Denied);
    assert!(store.look("loose").await.unwrap_err().what.contains("chmod go-w"));
    fs::set_permissions(bed.root().join("loose"), PermissionsExt::from_mode(0o1777)).unwrap();
    assert!(store.current("loose").await.unwrap().is_some(), "a sticky folder is no danger: nobody can replace our file");

    symlink(bed.root().join("loose"), bed.root().join("linked")).unwrap();
    assert_refused(store.publish("linked", None, &payload("EAAtwo")).await, FaultClass::Denied);
    assert_refused(store.look("linked").await, FaultClass::Denied);

    let elsewhere = bed.dir.path().join("elsewhere");
    OpenOptions::new().write(true).create_new(true).open(&elsewhere).unwrap().write_all(b"EAAforeign").unwrap();
    fs::create_dir(bed.root().join("file-link")).unwrap();
    symlink(&elsewhere, bed.token("file-link")).unwrap();
    assert_refused(store.current("file-link").await, FaultClass::Denied);
    fs::create_dir_all(bed.token("folder")).unwrap();
    assert_refused(store.publish("folder", None, &payload("EAAtwo")).await, FaultClass::Denied);
    assert_eq!(fs::read_to_string(elsewhere).unwrap(), "EAAforeign");
}

#[tokio::test]
async fn entries_stay_below_the_root() {
    let bed = FileBed::new();
    for entry in ["", "..", "../x", "a/../b", "/abs", "a//b", ".evertoken", "a/.evertoken/staged", "a\nb", "a\0b"] {
        assert_refused(bed.store().publish(entry, None, &payload("EAA")).await, FaultClass::BadRequest);
        assert_refused(bed.store().look(entry).await, FaultClass::BadRequest);
    }
    assert!(!bed.root().exists());
}

#[tokio::test]
async fn a_read_only_or_full_disk_is_named_and_the_old_token_stays() {
    let bed = FileBed::new();
    let store = bed.store();
    store.install("bot", &payload("EAAone"), true).await.unwrap();
    // A folder in the place of the scratch file stops the write where a full disk would: before the rename.
    fs::create_dir(bed.root().join("bot/.evertoken/scratch")).unwrap();
    let fault = store.publish("bot", Some(&store.current("bot").await.unwrap().unwrap().slot), &payload("EAAtwo")).await.unwrap_err();
    assert!(fault.what.contains("bot/token"), "{fault}");
    assert_eq!(store.current("bot").await.unwrap().unwrap().payload.expose(), "EAAone");
    fs::remove_dir(bed.root().join("bot/.evertoken/scratch")).unwrap();
}

#[tokio::test]
async fn what_a_killed_writer_left_is_cleaned_and_never_read() {
    let bed = FileBed::new();
    let store = bed.store();
    store.install("bot", &payload("EAAone"), true).await.unwrap();
    let scratch = bed.root().join("bot/.evertoken/scratch");
    OpenOptions::new().write(true).create_new(true).open(&scratch).unwrap().write_all(b"EAAhal").unwrap();
    let looked = store.look("bot").await.unwrap();
    assert_eq!(looked.current.unwrap().payload.expose(), "EAAone");
    assert!(looked.staged.is_empty());
    assert_eq!(store.stage("bot", &slot(1), &payload("EAAtwo")).await.unwrap(), Written::Done);
    assert!(!scratch.exists());
}

#[tokio::test]
async fn a_lock_that_is_never_let_go_delays_its_entry_only() {
    let bed = FileBed::new();
    let store = bed.store();
    store.install("bot", &payload("EAAone"), true).await.unwrap();
    let lock = OpenOptions::new().read(true).open(bed.root().join("bot/.evertoken/lock")).unwrap();
    lock.lock().unwrap();
    let new = payload("EAAtwo");
    let (written, looked) = tokio::join!(store.publish("bot", None, &new), store.look("bot"));
    assert_refused(written, FaultClass::Unreachable);
    assert_refused(looked, FaultClass::Unreachable);
    assert!(store.current("bot").await.unwrap().is_some(), "one file is read without the lock");
    assert_eq!(store.publish("other", None, &payload("EAAtwo")).await.unwrap(), Written::Done);
    lock.unlock().unwrap();
    assert!(store.look("bot").await.is_ok());
}

#[tokio::test]
async fn files_that_are_no_tokens_are_refused_by_name() {
    let bed = FileBed::new();
    let store = bed.store();
    for (entry, bytes, class) in [("binary", vec![0xff, 0xfe], FaultClass::BadRequest), ("huge", vec![b'x'; 70_000], FaultClass::Limit)] {
        fs::create_dir_all(bed.root().join(entry)).unwrap();
        OpenOptions::new().write(true).create_new(true).open(bed.token(entry)).unwrap().write_all(&bytes).unwrap();
        assert_refused(store.current(entry).await, class);
    }
}

#[test]
fn a_store_that_cannot_be_sound_is_not_set_up() {
    let dir = PathBuf::from("/run/tokens");
    assert!(matches!(FileStore::new(&PathBuf::from("tokens"), 0o640, None), Err(FileStoreError::Relative(_))));
    for mode in [0o000, 0o240, 0o660, 0o750, 0o4640, 0o646] {
        assert!(matches!(FileStore::new(&dir, mode, None), Err(FileStoreError::Mode(_))), "{mode:o}");
    }
    assert!(FileStore::new(&dir, 0o640, Some(&FileGroup::from("0"))).is_ok());
    assert!(FileStore::new(&dir, 0o640, Some(&FileGroup::from("root"))).is_ok());
    assert!(matches!(FileStore::new(&dir, 0o640, Some(&FileGroup::from("no-such-group"))), Err(FileStoreError::NoSuchGroup(_))));
}
