//! The real binary against both simulators over loopback, with consumers that never stop calling.
//!
//! Each test is a table of rows; a row is a few lines: what goes wrong, and what is expected beside a quiet, complete rotation. What
//! must hold in every row is in `oracles`. `EVERTOKEN_ROW=text cargo nextest run --test blackbox` plays the rows with that text in
//! their name and shows, for one that fails, the daemon's log and every call in order.

#[cfg(test)]
#[path = "blackbox/bed.rs"]
mod bed;
#[cfg(test)]
#[path = "blackbox/consumer.rs"]
mod consumer;
#[cfg(test)]
#[path = "blackbox/daemon.rs"]
mod daemon;
#[cfg(test)]
#[path = "blackbox/kills.rs"]
mod kills;
#[cfg(test)]
#[path = "blackbox/lost.rs"]
mod lost;
#[cfg(test)]
#[path = "blackbox/oracles.rs"]
mod oracles;
#[cfg(test)]
#[path = "blackbox/row.rs"]
mod row;

#[cfg(test)]
#[path = "blackbox/edits.rs"]
mod edits;
#[cfg(test)]
#[path = "blackbox/presence.rs"]
mod presence;
#[cfg(test)]
#[path = "blackbox/processes.rs"]
mod processes;
#[cfg(test)]
#[path = "blackbox/provider.rs"]
mod provider;
#[cfg(test)]
use row::{Row, play};

#[tokio::test]
async fn a_clean_rotation() {
    play(vec![Row::new("clean").run()]).await;
}

#[tokio::test]
async fn killed_at_every_call() {
    kills::at_every_call().await;
}

#[tokio::test]
async fn answers_are_lost_and_either_side_fails() {
    play(lost::rows()).await;
}

#[tokio::test]
async fn the_provider_does_something_else() {
    play(provider::rows()).await;
}

#[tokio::test]
async fn a_person_edits_the_secret() {
    play(edits::rows()).await;
}

#[tokio::test]
async fn two_daemons_at_once() {
    play(processes::rivals()).await;
}

#[tokio::test]
async fn signals_and_reloads() {
    play(processes::signals()).await;
}

#[tokio::test]
async fn starts_under_bad_conditions() {
    play(processes::starts()).await;
}

#[tokio::test]
async fn others_touch_what_the_daemon_has_on_its_machine() {
    play(presence::rows()).await;
}
