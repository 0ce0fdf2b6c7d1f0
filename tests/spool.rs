//! The sealed spool on a real file system.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use evertoken::spool::{Binding, SlotContent, Spool, SpoolError, SpoolKey, TEXT_BYTES_MAX};
use secrecy::{ExposeSecret, SecretString};

fn key(secret: &str) -> SpoolKey {
    SpoolKey::derive(&SecretString::from(secret)).unwrap()
}

fn binding() -> Binding {
    Binding { identity: "arn:aws:secretsmanager:eu-west-1:1:secret:bot".into(), rotation: "rotation".into(), attempt: 3 }
}

fn text() -> SecretString {
    SecretString::from("EAATEST".repeat(30))
}

fn assert_holds(spool: &Spool, token: &str, expected: &SecretString) {
    match spool.read(token, &[key("s")]).unwrap() {
        SlotContent::Holds { binding: found, text } => {
            assert_eq!(found, binding());
            assert_eq!(text.expose_secret(), expected.expose_secret());
        }
        other @ (SlotContent::Empty | SlotContent::Locked { .. } | SlotContent::Damaged { .. }) => panic!("{other:?}"),
    }
}

#[test]
fn a_captured_text_survives_a_restart_and_is_gone_after_clear() {
    let state = tempfile::tempdir().unwrap();
    let spool = Spool::open(state.path()).unwrap();
    assert!(matches!(spool.read("bot", &[]).unwrap(), SlotContent::Empty), "a slot that was never made is empty");
    spool.allocate("bot").unwrap();
    spool.capture("bot", &binding(), &text(), &key("s")).unwrap();

    let spool = Spool::open(state.path()).unwrap();
    assert_holds(&spool, "bot", &text());
    let again = spool.capture("bot", &binding(), &SecretString::from("other"), &key("s"));
    assert!(matches!(again, Err(SpoolError::Occupied(_))));
    spool.allocate("bot").unwrap();
    assert_holds(&spool, "bot", &text());

    spool.clear("bot").unwrap();
    spool.clear("bot").unwrap();
    assert!(matches!(spool.read("bot", &[key("s")]).unwrap(), SlotContent::Empty));
    let bytes = fs::read(state.path().join("spool/bot")).unwrap();
    assert!(bytes.iter().skip(16).all(|byte| *byte == 0), "nothing of the sealed text stays");
    spool.capture("bot", &binding(), &text(), &key("s")).unwrap();
    assert_holds(&spool, "bot", &text());
}

#[test]
fn slots_are_private_and_free_of_plain_text() {
    let state = tempfile::tempdir().unwrap();
    let spool = Spool::open(state.path()).unwrap();
    spool.capture("bot", &binding(), &text(), &key("s")).unwrap();
    let dir = state.path().join("spool");
    assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o7777, 0o700);
    assert_eq!(fs::metadata(dir.join("bot")).unwrap().mode() & 0o7777, 0o600);
    let bytes = fs::read(dir.join("bot")).unwrap();
    assert!(!bytes.windows(7).any(|window| window == b"EAATEST"));

    fs::set_permissions(&dir, fs::Permissions::from_mode(0o750)).unwrap();
    assert!(matches!(Spool::open(state.path()), Err(SpoolError::Loose { mode: 0o750, .. })));
}

#[test]
fn a_symlink_in_the_place_of_a_slot_is_not_followed() {
    let state = tempfile::tempdir().unwrap();
    let spool = Spool::open(state.path()).unwrap();
    let target = state.path().join("target");
    fs::OpenOptions::new().create_new(true).write(true).open(&target).unwrap();
    std::os::unix::fs::symlink(&target, state.path().join("spool/bot")).unwrap();
    assert!(spool.capture("bot", &binding(), &text(), &key("s")).is_err());
    assert_eq!(fs::metadata(&target).unwrap().len(), 0);
}

#[test]
fn names_that_leave_the_folder_are_refused() {
    let state = tempfile::tempdir().unwrap();
    let spool = Spool::open(state.path()).unwrap();
    for name in ["", ".", "..", "a/b", "../x", ".hidden", "a\0b", "a\nb", "bot.damaged-1", &"n".repeat(300)] {
        assert!(matches!(spool.allocate(name), Err(SpoolError::Name(_))), "{name:?}");
        assert!(matches!(spool.read(name, &[]), Err(SpoolError::Name(_))), "{name:?}");
    }
}

#[test]
fn damaged_and_locked_slots_are_kept_until_a_person_sets_them_aside() {
    let state = tempfile::tempdir().unwrap();
    let spool = Spool::open(state.path()).unwrap();
    spool.capture("bot", &binding(), &text(), &key("s")).unwrap();
    spool.capture("locked", &binding(), &text(), &key("gone")).unwrap();
    damage(&state.path().join("spool/bot"), 9000);
    let kept = fs::read(state.path().join("spool/bot")).unwrap();

    assert!(matches!(spool.read("bot", &[key("s")]).unwrap(), SlotContent::Damaged { .. }));
    assert!(matches!(spool.clear("bot"), Err(SpoolError::Occupied(_))));
    for token in ["bot", "locked"] {
        assert!(matches!(spool.capture(token, &binding(), &text(), &key("s")), Err(SpoolError::Occupied(_))));
    }
    let SlotContent::Locked { key_id, binding: shown } = spool.read("locked", &[key("s")]).unwrap() else { panic!("not locked") };
    assert_eq!((key_id.as_str(), shown), (key("gone").id(), Some(binding())));

    assert_eq!(spool.set_aside("bot").unwrap(), "bot.damaged-1");
    assert_eq!(fs::read(state.path().join("spool/bot.damaged-1")).unwrap(), kept);
    spool.capture("bot", &binding(), &text(), &key("s")).unwrap();
    damage(&state.path().join("spool/bot"), 1);
    assert_eq!(spool.set_aside("bot").unwrap(), "bot.damaged-2");
    assert_eq!(fs::read(state.path().join("spool/bot.damaged-1")).unwrap(), kept, "what was kept is not replaced");

    let listed = spool.list().unwrap();
    let names: Vec<_> = listed.iter().map(|slot| (slot.token.as_str(), slot.set_aside.len())).collect();
    assert_eq!(names, [("bot", 2), ("locked", 0)]);
    assert!(matches!(listed[1].content, SlotContent::Locked { .. }));
}

/// A capture must not need space. All blocks are there beforehand; where the test may mount, a full tmpfs shows it in earnest.
#[test]
fn a_capture_works_on_a_full_disk() {
    let state = tempfile::tempdir().unwrap();
    let spool = Spool::open(state.path()).unwrap();
    spool.allocate("bot").unwrap();
    let slot = fs::metadata(state.path().join("spool/bot")).unwrap();
    assert!(slot.blocks() * 512 >= slot.len(), "{} blocks for {} bytes", slot.blocks(), slot.len());

    let mount = state.path().join("small");
    fs::create_dir(&mount).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=128k,mode=0700", "none"]).arg(&mount).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        return;
    }
    let outcome = std::panic::catch_unwind(|| capture_on_full(&mount));
    assert!(Command::new("umount").arg("-l").arg(&mount).status().unwrap().success());
    outcome.unwrap();
}

fn capture_on_full(mount: &Path) {
    let spool = Spool::open(mount).unwrap();
    spool.allocate("bot").unwrap();
    let filler = vec![1_u8; 256 * 1024];
    let mut file = fs::OpenOptions::new().create_new(true).write(true).open(mount.join("filler")).unwrap();
    assert!(std::io::Write::write_all(&mut file, &filler).is_err(), "the disk is full now");
    assert!(matches!(spool.allocate("other"), Err(SpoolError::Io { .. })));
    let longest = SecretString::from("x".repeat(TEXT_BYTES_MAX));
    spool.capture("bot", &binding(), &longest, &key("s")).unwrap();
    assert_holds(&spool, "bot", &longest);
}

fn damage(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
}
