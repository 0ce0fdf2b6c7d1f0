//! What must hold of every row, whatever it does (O1 to O9 of the fault matrix).

use std::time::Duration;

use evertoken::graph::proof::appsecret_proof;
use evertoken::rotation::token::Token;
use evertoken::simulator::graph::violations::ViolationKind;
use jiff::SignedDuration;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::bed::{Bed, SECRET, Service, USER, WINDOW};

/// How exact the watch is: it looks every 100 ms, and the test's one thread may be late.
const SLACK: SignedDuration = SignedDuration::from_millis(300);

/// What a row expects beyond a quiet rotation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expect {
    /// Events of level ERROR that must be logged.
    pub(crate) alarms: Vec<&'static str>,
    /// Events of level ERROR that may be.
    pub(crate) tolerated: Vec<&'static str>,
    /// The row itself breaks consumers.
    pub(crate) outage: bool,
    /// The row itself makes a revoke wrong after it was sent.
    pub(crate) revoke_unjudged: bool,
    pub(crate) violations: Vec<ViolationKind>,
    /// How many mints; exactly one unless said.
    pub(crate) mints: Option<std::ops::RangeInclusive<usize>>,
}

/// Why the bed is not at rest; `None` when it is: one token works, everybody holds it, nothing is left lying about.
pub(crate) fn restless(bed: &Bed) -> Option<String> {
    let Some(record) = bed.places.record() else { return Some("there is no record".into()) };
    if let Some(rotation) = &record.rotation {
        return Some(format!("a rotation is {:?}, attempt {}", rotation.stage, rotation.attempt));
    }
    // What a person replaced, and what a refresh gave of somebody else's, is not ours to revoke: it is on record and ends by itself.
    let (left, waiting): (Vec<_>, Vec<_>) =
        record.retirees.iter().partition(|retiree| retiree.why == evertoken::rotation::record::RetireeKind::Left);
    if !waiting.is_empty() {
        return Some(format!("{} tokens wait to be revoked", waiting.len()));
    }
    let current = record.current.fingerprint.to_string();
    for (place, text) in bed.places.read() {
        if text.as_deref().map(|text| evertoken::simulator::fault::fingerprint(text.trim())).as_ref() != Some(&current) {
            return Some(format!("the {place} does not hold {current}"));
        }
    }
    let findable = left.iter().map(|retiree| retiree.slot.as_str()).collect::<Vec<_>>();
    let versions = bed.places.dump()?.versions.into_iter().filter(|version| !findable.contains(&version.id.as_str()));
    let labels: Vec<String> = versions.flat_map(|version| version.labels).collect();
    let marks: Vec<&String> = labels.iter().filter(|label| label.contains("staged") || label.contains("retiring")).collect();
    if !marks.is_empty() {
        return Some(format!("labels are left: {marks:?}"));
    }
    let state = bed.graph.state(bed.clock.now());
    let working = state.working(USER);
    if !working.iter().any(|token| token.fingerprint == current) {
        return Some("the current token does not work".into());
    }
    if working.len() > 1 + record.unaccounted.len() + left.len() {
        return Some(format!("{} tokens work, {} are left, {} unaccounted for", working.len(), left.len(), record.unaccounted.len()));
    }
    let spooled = bed.places.spooled();
    (!spooled.is_empty()).then(|| format!("the spool holds {spooled:?}"))
}

/// O8: waits for rest with a new token, `limit` from now or from the last call that a fault hit.
pub(crate) async fn until_rest(bed: &Bed, limit: Duration) {
    let begun = bed.clock.now();
    loop {
        let why = restless(bed).or_else(|| (bed.current() == bed.old.fingerprint).then(|| "the old token is still current".to_owned()));
        let Some(why) = why else { return };
        let calls = [Service::Meta, Service::Aws].into_iter().flat_map(|service| bed.calls(service));
        let hit = calls.filter(|call| !call.faults.is_empty()).map(|call| call.settled_at.unwrap_or_else(|| bed.clock.now())).max();
        let calm = bed.clock.now().duration_since(hit.map_or(begun, |hit| hit.max(begun))).unsigned_abs();
        let whole = bed.clock.now().duration_since(begun).unsigned_abs();
        assert!(calm < limit && whole < Duration::from_secs(60), "not at rest {calm:?} after the faults have ended: {why}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Judges a row at its end; the daemons have ended.
pub(crate) fn judge(bed: &Bed, expect: &Expect, shown: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let found = bed.found.borrow();
    if !expect.outage && !found.outages.is_empty() {
        wrong.push(format!(
            "O1: consumers failed {} times of {}: {:#?}",
            found.outages.len(),
            found.calls,
            found.outages.iter().take(5).collect::<Vec<_>>()
        ));
    }
    if found.calls == 0 {
        wrong.push("the consumer made no call".into());
    }
    wrong.extend(found.breaches.iter().take(3).cloned());
    if !expect.revoke_unjudged {
        wrong.extend(premature_revokes(bed));
    }
    let mints = expect.mints.clone().unwrap_or(1..=1);
    if !mints.contains(&bed.mints()) {
        wrong.push(format!("{} mints, expected {mints:?}", bed.mints()));
    }
    wrong.extend(leaks(bed, shown));
    let violations = bed.graph.violations();
    wrong.extend(
        violations
            .iter()
            .filter(|violation| !expect.violations.contains(&violation.kind))
            .map(|violation| format!("Meta's rules: {violation:?}")),
    );
    wrong.extend(alarms(bed, expect));
    wrong
}

/// O3: no token is revoked that a consumer's place held within the window before.
fn premature_revokes(bed: &Bed) -> Vec<String> {
    let found = bed.found.borrow();
    let window = SignedDuration::try_from(WINDOW).unwrap();
    let revokes = bed.calls(Service::Meta).into_iter().filter(|call| call.call == "revoke" && call.performed);
    revokes
        .filter_map(|call| {
            let victim = call.notes.get("token")?.as_str()?.to_owned();
            let last = found.last_read.get(&victim)?;
            let since = call.received_at.duration_since(*last);
            (since + SLACK < window).then(|| format!("O3: {victim} was revoked {since:#} after consumers last read it"))
        })
        .collect()
}

/// O7 and O9: errors that nobody expected, alarms that did not come, panics.
fn alarms(bed: &Bed, expect: &Expect) -> Vec<String> {
    let events = bed.events();
    let errors: Vec<_> = events.iter().filter(|event| event["level"] == "ERROR").collect();
    let known = |event: &serde_json::Value| expect.alarms.iter().chain(&expect.tolerated).any(|known| event["event"] == *known);
    let mut wrong: Vec<String> = errors.iter().filter(|event| !known(event)).map(|event| format!("O7: unexpected {event}")).collect();
    let missing = expect.alarms.iter().filter(|alarm| !events.iter().any(|event| event["event"] == **alarm));
    wrong.extend(missing.map(|alarm| format!("O7: {alarm} was not logged")));
    let said = bed
        .story
        .logs()
        .iter()
        .flat_map(super::daemon::Transcript::lines)
        .find(|line| line.contains("panicked") || line.contains("\"panic\""));
    wrong.extend(said.map(|line| format!("O9: {line}")));
    // A line of the log is flat, and nothing in it is a document of its own.
    let nested =
        |value: &serde_json::Value| value.is_object() || value.is_array() || value.as_str().is_some_and(|text| text.starts_with('{'));
    let deep =
        |event: &&serde_json::Value| event.as_object().is_some_and(|fields| fields.contains_key("event") && fields.values().any(nested));
    wrong.extend(events.iter().filter(deep).map(|event| format!("O7: not flat: {event}")));
    wrong
}

/// O4: nothing secret in anything that the daemons said, showed or kept, in any usual form.
fn leaks(bed: &Bed, shown: &str) -> Vec<String> {
    let mut needles = vec![("the marker of all tokens", bed.marker.clone()), ("the app secret", SECRET.to_owned())];
    let state = bed.graph.state(bed.clock.now());
    let texts = state.tokens.iter().filter_map(|token| bed.graph.token_text(&token.fingerprint));
    let proofs =
        texts.filter_map(|text| Some(appsecret_proof(&SecretString::from(SECRET), &Token::new(&text).ok()?).expose_secret().to_owned()));
    needles.extend(proofs.map(|proof| ("a proof", proof)));
    let mut hay: Vec<(String, Vec<u8>)> = vec![("status and metrics".into(), shown.as_bytes().to_vec())];
    hay.extend(bed.story.logs().iter().map(|log| ("the log".to_owned(), log.lines().join("\n").into_bytes())));
    for dir in &bed.places.state_dirs {
        gather(dir, &mut hay);
    }
    let mut wrong = Vec::new();
    for (what, needle) in &needles {
        for form in forms(needle) {
            wrong.extend(hay.iter().filter(|(_, bytes)| holds(bytes, form.as_bytes())).map(|(place, _)| format!("O4: {what} in {place}")));
        }
    }
    wrong
}

fn holds(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len()).any(|window| window == needle)
}

fn gather(dir: &std::path::Path, hay: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            gather(&path, hay);
        } else if let Ok(bytes) = std::fs::read(&path) {
            hay.push((path.display().to_string(), bytes));
        }
    }
}

/// A text as it is, in hex, and in base64 at each of the three alignments it may have inside something longer.
fn forms(text: &str) -> Vec<String> {
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    let base64 = (0..3).map(|shift| {
        let encoded = base64(&[vec![0; shift], text.as_bytes().to_vec()].concat());
        // The first and last digits depend on the neighbours.
        encoded.chars().skip(if shift == 0 { 0 } else { 4 }).take(text.len() * 4 / 3 - 8).collect()
    });
    [text.to_owned(), hex.to_uppercase(), hex].into_iter().chain(base64).collect()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |chunk: &[u8]| {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        (0..=chunk.len()).map(move |digit| char::from(DIGITS[(bits >> (18 - 6 * digit) & 63) as usize])).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

/// What a running daemon shows over its control socket.
pub(crate) async fn shown(bed: &Bed) -> String {
    let mut all = String::new();
    for path in ["/v1/status", "/metrics"] {
        let socket = bed.folder.path().join("control-1.sock");
        let Ok(mut stream) = tokio::net::UnixStream::connect(socket).await else { return all };
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        if stream.write_all(request.as_bytes()).await.is_ok() {
            stream.read_to_string(&mut all).await.ok();
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_in_every_form() {
        assert_eq!(base64(b"hello"), "aGVsbG8");
        for form in forms("CANARY0123456789abcdefgh") {
            assert!(form.len() >= 20, "{form}");
        }
        for shift in 0..3 {
            let hidden = base64(&[vec![b'x'; shift], b"CANARY0123456789abcdefgh".to_vec(), b"tail".to_vec()].concat());
            assert!(forms("CANARY0123456789abcdefgh").iter().any(|form| hidden.contains(form)), "{shift}");
        }
    }
}
