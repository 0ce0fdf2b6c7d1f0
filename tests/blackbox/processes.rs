//! What a process meets: signals, another daemon, a state directory that is not fit, a token that ended while it was down.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use evertoken::rotation::record::Stage as Phase;
use evertoken::simulator::fault::{Fault, Rule, Stage};
use evertoken::simulator::graph::state::App;
use nix::sys::signal::Signal;

use super::bed::{APP, Bed, SECRET, Service, TOKEN, put};
use super::row::{Case, Row};

/// Two daemons on one secret, each with a state directory of its own: every write has one winner, a lost race costs at most a token
/// that is revoked again.
pub(crate) fn rivals() -> Vec<Case> {
    (0..20_u64)
        .map(|seed| {
            Row::new(format!("two daemons, timing {seed}")).mints(1..=3).tolerate("token.unaccounted").play(async move |bed: &mut Bed| {
                // A fixed spread of offsets over the second or so that a rotation takes to its promotion.
                tokio::time::sleep(Duration::from_millis(seed * 83 % 1300)).await;
                bed.start_nth(2);
                if seed % 3 == 0 {
                    // One of them sleeps in the middle of it, as a process does whose host is short of memory.
                    tokio::time::sleep(Duration::from_millis(200 + seed * 137 % 900)).await;
                    bed.daemons[0].signal(Signal::SIGSTOP);
                    tokio::time::sleep(Duration::from_millis(3500)).await;
                    bed.daemons[0].signal(Signal::SIGCONT);
                }
            })
        })
        .collect()
}

pub(crate) fn signals() -> Vec<Case> {
    let mut rows: Vec<Case> = [
        (Service::Meta, "introspect"),
        (Service::Meta, "refresh"),
        (Service::Meta, "me"),
        (Service::Meta, "revoke"),
        (Service::Aws, "DescribeSecret"),
        (Service::Aws, "GetSecretValue"),
        (Service::Aws, "PutSecretValue"),
        (Service::Aws, "UpdateSecretVersionStage"),
    ]
    .into_iter()
    .map(|(service, call)| terminated(service, call))
    .collect();
    rows.push(Row::new("SIGTERM at rest").play(async |bed: &mut Bed| {
        super::oracles::until_rest(bed, Duration::from_secs(20)).await;
        bed.stop().await;
        bed.start();
    }));
    rows.push(Row::new("SIGTERM while the window runs").play(async |bed: &mut Bed| {
        window_runs(bed).await;
        bed.stop().await;
        bed.start();
    }));
    rows.push(
        Row::new("a second SIGTERM ends it at once")
            .meta(Rule::once("refresh", Fault::Hold { at: Stage::Received }))
            .mints(1..=2)
            .tolerate("token.unaccounted")
            .play(async |bed: &mut Bed| {
                bed.held(Service::Meta, "refresh").await;
                let mut daemon = bed.daemons.pop().unwrap();
                daemon.signal(Signal::SIGTERM);
                tokio::time::sleep(Duration::from_millis(500)).await;
                assert!(daemon.ended().is_none(), "a refresh that was sent is waited for");
                daemon.signal(Signal::SIGTERM);
                let status = daemon.until_ended(Duration::from_secs(2)).await.expect("the second SIGTERM ends it");
                assert_eq!(status.code(), Some(1));
                bed.release();
                bed.start();
            }),
    );
    rows.extend(reloads());
    rows
}

/// SIGTERM while a call is under way: exit 0 in time, and no token more than without it.
fn terminated(service: Service, call: &'static str) -> Case {
    let rule = Rule::once(call, Fault::Delay { at: Stage::Answered, ms: 1500 });
    Row::new(format!("SIGTERM while {call} is under way")).at(service, rule).play(async move |bed: &mut Bed| {
        let struck = |bed: &Bed| bed.calls(service).iter().any(|entry| !entry.faults.is_empty());
        bed.until("the call is under way", Duration::from_secs(15), struck).await;
        bed.stop().await;
        bed.start();
    })
}

async fn window_runs(bed: &Bed) {
    bed.until_record("the window runs", |record| record.rotation.as_ref().is_some_and(|rotation| rotation.stage == Phase::Published)).await;
}

fn reloads() -> Vec<Case> {
    vec![
        Row::new("SIGHUP with a bad configuration").alarm("config.rejected").play(async |bed: &mut Bed| {
            window_runs(bed).await;
            bed.reconfigure(&bed.config_text(1, "unheard_of = 1"));
            bed.daemons[0].signal(Signal::SIGHUP);
            bed.until_event("config.rejected").await;
        }),
        Row::new("SIGHUP with a good one, many times").play(async |bed: &mut Bed| {
            bed.until_event("daemon.ready").await;
            bed.reconfigure(&bed.config_text(1, "required_scopes = [\"business_management\"]"));
            for _ in 0..30 {
                bed.daemons[0].signal(Signal::SIGHUP);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            bed.until_event("config.reloaded").await;
        }),
        Row::new("SIGHUP with the token removed").without_rest().play(async |bed: &mut Bed| {
            window_runs(bed).await;
            let text = bed.config_text(1, "");
            let (without, _) = text.split_once("[tokens.").unwrap();
            bed.reconfigure(without);
            bed.daemons[0].signal(Signal::SIGHUP);
            tokio::time::sleep(Duration::from_secs(5)).await;
            assert!(bed.works(&bed.old.fingerprint), "a token that is no longer looked after was revoked");
            // Back again: its rotation goes on where it was.
            bed.reconfigure(&text);
            bed.daemons[0].signal(Signal::SIGHUP);
            super::oracles::until_rest(bed, Duration::from_secs(15)).await;
        }),
        Row::new("the app's secret changes").shape(|shape| shape.age_s = 10).outage().play(changed_secret),
    ]
}

/// Its owner changes the app's secret: every call fails, those of consumers too, until they are told. Nothing is minted or revoked
/// meanwhile; a reload takes the secret that is right.
async fn changed_secret(bed: &mut Bed) {
    bed.until_event("token.adopted").await;
    let app = |secret: &str| App {
        id: APP.into(),
        secret: secret.into(),
        name: "Acme".into(),
        business: "7001".into(),
        require_proof: false,
        status: evertoken::simulator::graph::state::AppStatus::Ok,
        address_refused: false,
    };
    bed.graph.add_app(app("another-secret-fedcba9876543210"));
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(bed.mints(), 0);
    // The spool's keys and the proofs that consumers make are of the first secret in this bed: it comes back.
    bed.graph.add_app(app(SECRET));
    put(&bed.folder.path().join("app.secret"), SECRET);
    bed.daemons[0].signal(Signal::SIGHUP);
    bed.until_event("config.reloaded").await;
    bed.order(&["rotate", TOKEN, "--yes"]).await;
}

/// A start that is refused: the exit code and what is said.
fn refused(name: &str, code: i32, says: &'static str, prepare: impl Fn(&Bed) + 'static) -> Case {
    Row::new(name).by_hand().mints(0..=0).without_rest().play(async move |bed: &mut Bed| {
        prepare(bed);
        let (status, said) = bed.command(&["run"]).await;
        assert_eq!(status.code(), Some(code), "{said}");
        assert!(said.contains(says), "{said}");
        // The bed's consumer has to have made a call.
        tokio::time::sleep(Duration::from_millis(300)).await;
    })
}

fn folder(bed: &Bed, name: &str, mode: u32) -> std::path::PathBuf {
    let path = bed.folder.path().join(name);
    std::fs::create_dir_all(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

pub(crate) fn starts() -> Vec<Case> {
    vec![
        refused("a state directory open to others", 1, "chmod 0700", |bed| drop(folder(bed, "state-1", 0o777))),
        refused("a state directory of another user", 1, "belongs to uid", |bed| {
            nix::unistd::chown(&folder(bed, "state-1", 0o700), Some(12345.into()), None).unwrap();
        }),
        refused("a secret that cannot be read", 1, "app.secret", |bed| std::fs::remove_file(bed.folder.path().join("app.secret")).unwrap()),
        refused("a configuration with a mistake", 2, "unheard_of", |bed| bed.reconfigure(&bed.config_text(1, "unheard_of = 1"))),
        Row::new("a port that is in use").by_hand().mints(0..=0).without_rest().play(async |bed: &mut Bed| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap().to_string();
            bed.reconfigure(&bed.config_text(1, "").replace("listen = \"off\"", &format!("listen = \"{address}\"")));
            let (status, said) = bed.command(&["run"]).await;
            assert_eq!(status.code(), Some(1), "{said}");
            assert!(said.contains(&address), "{said}");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }),
        Row::new("a state directory that another daemon works in").play(async |bed: &mut Bed| {
            bed.until_event("daemon.ready").await;
            let (status, said) = bed.command(&["run"]).await;
            assert_eq!(status.code(), Some(1), "{said}");
            assert!(said.contains("in use"), "{said}");
        }),
        Row::new("the state directory is lost while it was down").play(async |bed: &mut Bed| {
            window_runs(bed).await;
            bed.kill().await;
            std::fs::remove_dir_all(bed.folder.path().join("state-1")).unwrap();
            bed.start();
        }),
        Row::new("a state directory from before is put back").play(async |bed: &mut Bed| {
            bed.until_event("token.adopted").await;
            bed.kill().await;
            let (state, kept) = (bed.folder.path().join("state-1"), bed.folder.path().join("kept"));
            std::fs::rename(&state, &kept).unwrap();
            bed.start();
            window_runs(bed).await;
            bed.kill().await;
            std::fs::remove_dir_all(&state).unwrap();
            std::fs::rename(&kept, &state).unwrap();
            bed.start();
        }),
        Row::new("the token ended while it was down")
            .shape(|shape| shape.age_s = 79)
            .by_hand()
            .outage()
            .mints(0..=0)
            .without_rest()
            .alarm("token.attention")
            .alarm("token.dead")
            .play(async |bed: &mut Bed| {
                tokio::time::sleep(Duration::from_millis(1500)).await;
                bed.start();
                bed.until_event("token.attention").await;
                assert!(bed.daemons[0].ended().is_none());
                assert_eq!(bed.current(), bed.old.fingerprint, "something was put in the place of what is there");
            }),
        Row::new("the managed token ended while it was down")
            .shape(|shape| shape.age_s = 30)
            .outage()
            .mints(0..=0)
            .without_rest()
            .alarm("token.dead")
            .play(async |bed: &mut Bed| {
                bed.until_event("token.adopted").await;
                bed.kill().await;
                bed.clock.advance(jiff::SignedDuration::from_secs(60));
                bed.start();
                bed.until_event("token.dead").await;
                assert!(bed.daemons[0].ended().is_none());
                assert_eq!(bed.current(), bed.old.fingerprint, "something was put in the place of what is there");
            }),
    ]
}
