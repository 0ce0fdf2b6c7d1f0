//! What others do to the daemon's own things on its machine while it runs: its state directory, its socket, its ledger, its configuration.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use evertoken::clock;
use nix::sys::signal::Signal;

use super::bed::Bed;
use super::lost::{http, step};
use super::oracles::until_rest;
use super::row::{Case, Row};

/// Longer than a condition may go unnoticed.
const NOTICED: Duration = Duration::from_secs(15);

pub(crate) fn rows() -> Vec<Case> {
    vec![
        Row::new("the state directory is deleted under the daemon").alarm("state.lost").play(deleted),
        Row::new("the lock is replaced under the daemon").alarm("state.lost").play(async |bed: &mut Bed| {
            until_rest(bed, Duration::from_secs(20)).await;
            let lock = bed.folder.path().join("state-1/lock");
            std::fs::remove_file(&lock).unwrap();
            super::bed::put(&lock, "");
            bed.until_event("state.restored").await;
            refused(bed, "state-1").await;
        }),
        Row::new("another daemon takes the deleted state directory").mints(1..=3).alarm("state.taken").play(taken),
        Row::new("the control socket is deleted under the daemon").alarm("control.lost").play(async |bed: &mut Bed| {
            until_rest(bed, Duration::from_secs(20)).await;
            std::fs::remove_file(bed.folder.path().join("control-1.sock")).unwrap();
            bed.until_event("control.restored").await;
            bed.order(&["status"]).await;
            bed.stop().await;
            assert!(!bed.folder.path().join("control-1.sock").exists(), "the new socket is removed at the end like the first");
            bed.start();
        }),
        Row::new("the ledger cannot be written").alarm("ledger.failed").play(unwritable_ledger),
        Row::new("the spool slot is damaged while the daemon is down")
            .aws(step("stage", http(500)).times(1000))
            .mints(2..=2)
            .tolerate("token.unaccounted")
            .play(damaged_slot),
        Row::new("an adopted token has its slot from the start").without_rest().play(async |bed: &mut Bed| {
            until_rest(bed, Duration::from_secs(20)).await;
            bed.stop().await;
            std::fs::remove_dir_all(bed.folder.path().join("state-1/spool")).unwrap();
            bed.start();
            let slot = bed.folder.path().join("state-1/spool/bot");
            bed.until("the slot is made at rest", NOTICED, |_bed| slot.exists()).await;
        }),
        Row::new("the sink's file is opened to others").play(async |bed: &mut Bed| {
            until_rest(bed, Duration::from_secs(20)).await;
            let token = bed.folder.path().join("sink/bot/token");
            std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o666)).unwrap();
            bed.stop().await;
            bed.start();
            bed.until_event("publish.access").await;
            assert_eq!(std::fs::metadata(&token).unwrap().permissions().mode() & 0o7777, 0o600);
        }),
        Row::new("a storm of SIGHUP").alarm("config.rejected").play(storm),
    ]
}

async fn deleted(bed: &mut Bed) {
    until_rest(bed, Duration::from_secs(20)).await;
    let state = bed.folder.path().join("state-1");
    std::fs::remove_dir_all(&state).unwrap();
    bed.until_event("state.restored").await;
    refused(bed, "state-1").await;
    bed.order(&["hold", "bot", "--why", "audit", "--yes"]).await;
    bed.order(&["release", "bot", "--yes"]).await;
    let (_, history) = bed.command(&["history"]).await;
    assert!(history.contains("token.command"), "the ledger goes on in the new directory: {history}");
    assert_eq!(bed.events().iter().filter(|event| event["event"] == "state.lost").count(), 1, "told once");
}

/// A second daemon with the same state directory, and a socket of its own, does not get it.
async fn refused(bed: &mut Bed, state: &str) {
    let text = bed.config_text(2, "").replace("state-2", state);
    super::bed::put(&bed.config(2), &text);
    bed.start_nth(2);
    let mut second = bed.daemons.pop().unwrap();
    let ended = second.until_ended(NOTICED).await.expect("the second daemon does not get the lock");
    assert_eq!(ended.code(), Some(1));
    bed.until("it says why", Duration::from_secs(2), |_bed| second.log.lines().iter().any(|line| line.contains("in use by run"))).await;
}

async fn taken(bed: &mut Bed) {
    until_rest(bed, Duration::from_secs(20)).await;
    std::fs::remove_dir_all(bed.folder.path().join("state-1")).unwrap();
    let text = bed.config_text(2, "").replace("state-2", "state-1");
    super::bed::put(&bed.config(2), &text);
    bed.start_nth(2);
    let ended = bed.daemons[0].until_ended(NOTICED).await.expect("the first daemon gives way");
    assert_eq!(ended.code(), Some(1));
    assert!(bed.daemons[1].ended().is_none(), "the second one is in charge");
    bed.daemons.remove(0);
}

async fn unwritable_ledger(bed: &mut Bed) {
    until_rest(bed, Duration::from_secs(20)).await;
    let (ledger, aside) = (bed.folder.path().join("state-1/ledger"), bed.folder.path().join("state-1/aside"));
    std::fs::rename(&ledger, aside).unwrap();
    super::bed::put(&ledger, "");
    // Noticed at rest, long before a row would be lost.
    bed.until_event("ledger.failed").await;
    let (status, text) = bed.command(&["status"]).await;
    assert!(status.code() == Some(3) && text.contains("the audit ledger takes no rows"), "{status}: {text}");
    let (_, text) = bed.command(&["status", "-o", "json"]).await;
    assert!(text.contains("\"healthy\": false") && text.contains("ledger_unwritable"), "{text}");
    bed.order(&["hold", "bot", "--why", "audit", "--yes"]).await;
    bed.order(&["release", "bot", "--yes"]).await;
    std::fs::remove_file(&ledger).unwrap();
    bed.until_event("ledger.resumed").await;
    let (_, history) = bed.command(&["history"]).await;
    assert!(history.contains("ledger.resumed") && history.contains("2 row(s)"), "{history}");
    bed.order(&["status"]).await;
}

/// Three hundred signals within a second or two are a few reloads, and what was written before the last of them is in force after it.
async fn storm(bed: &mut Bed) {
    bed.until_event("daemon.ready").await;
    let begun = clock::boot();
    for _ in 0..300 {
        bed.daemons[0].signal(Signal::SIGHUP);
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
    let text = bed.config_text(1, "").replace("jitter = 0.0", "jitter = 0.01");
    bed.reconfigure(&format!("{text}\nnonsense = 1\n"));
    bed.daemons[0].signal(Signal::SIGHUP);
    bed.until("the last signal is obeyed", Duration::from_secs(10), |bed| {
        bed.events().iter().any(|seen| seen["event"] == "config.rejected")
    })
    .await;
    let took = clock::boot().since(begun).as_secs_f64();
    bed.reconfigure(&text);
    bed.daemons[0].signal(Signal::SIGHUP);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let reloads = bed.events().iter().filter(|seen| seen["event"] == "config.reloaded" || seen["event"] == "config.rejected").count();
    assert!(reloads as f64 <= took + 4.0, "{reloads} reloads within {took} s");
}

/// The only copy of a minted token is damaged: it is kept, told with its path, and counted until it must have ended.
async fn damaged_slot(bed: &mut Bed) {
    bed.until("a token is spooled", Duration::from_secs(15), |bed| !bed.places.spooled().is_empty()).await;
    bed.kill().await;
    let slot = bed.folder.path().join("state-1/spool/bot");
    let mut bytes = std::fs::read(&slot).unwrap();
    bytes[9000] ^= 1;
    std::fs::File::options().write(true).open(&slot).unwrap().write_all(&bytes).unwrap();
    bed.calm();
    bed.start();
    bed.until_event("token.unaccounted").await;
    let told: Vec<_> = bed.events().into_iter().filter(|event| event["event"] == "token.spool").collect();
    let [told] = told.as_slice() else { panic!("told once: {told:?}") };
    assert!(told["message"].as_str().unwrap().contains(slot.to_str().unwrap()), "{told}");
    assert_eq!(std::fs::read(slot.with_file_name("bot.damaged-1")).unwrap(), bytes, "kept as it was");
}
