//! Values that tests of the core start from.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::evidence::{Called, Channel, Content, Evidence, Looked, StoreEvidence};
use super::payload::PayloadRule;
use super::policy::Policy;
use super::record::{Known, Published, Record, Rotation, Stage};
use super::slot::SlotId;
use super::time::{Boot, Clock, ProviderTime, later};
use super::token::{Expiry, Fingerprint, Introspection};

/// The provider's time in tests: 2027-01-15.
pub(crate) const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

const DAY: SignedDuration = SignedDuration::from_hours(24);

pub(crate) fn scopes() -> BTreeSet<String> {
    ["business_management".to_owned(), "whatsapp_business_messaging".to_owned()].into()
}

pub(crate) fn policy() -> Policy {
    Policy {
        token: "bot".into(),
        app_id: "1234567890".into(),
        system_user_id: "10001".into(),
        required_scopes: None,
        adopt_at_sight: false,
        payload: PayloadRule::Raw,
        refresh_at: 0.5,
        jitter: 0.1,
        audit_interval: SignedDuration::from_hours(1),
        min_life: DAY * 7,
        window: DAY,
        consumer_ttl: SignedDuration::from_mins(5),
        tick: SignedDuration::from_secs(30),
        sinks: vec!["disk".into()],
    }
}

/// A token of 60 days at the middle of its life.
pub(crate) fn known(text: &str) -> Known {
    Known {
        slot: SlotId::new(format!("slot-{text}")),
        fingerprint: Fingerprint::of(text),
        since: later(NOW, -DAY * 30),
        issued_at: later(NOW, -DAY * 30),
        expires: Expiry::At(later(NOW, DAY * 30)),
        scopes: scopes(),
        granular: std::collections::BTreeMap::new(),
    }
}

pub(crate) fn record() -> Record {
    Record::first(7, "writer", known("old"))
}

/// A fresh token of 60 days.
pub(crate) fn look() -> Introspection {
    Introspection {
        valid: true,
        app_id: Some("1234567890".into()),
        user_id: Some("10001".into()),
        kind: Some("SYSTEM_USER".into()),
        scopes: scopes(),
        issued_at: Some(NOW),
        expires: Some(Expiry::At(later(NOW, DAY * 60))),
        ..Introspection::default()
    }
}

/// The steady clock in tests, at [`NOW`].
pub(crate) fn boot() -> Boot {
    Boot::ZERO.plus(DAY)
}

/// Something that was seen just now.
pub(crate) fn seen<T>(value: T) -> Channel<T> {
    let mut channel = Channel::default();
    channel.answered(value, boot());
    channel
}

/// A raw payload: the token alone.
pub(crate) fn content(token: Fingerprint) -> Content {
    Content::Token { token, payload: token }
}

/// What the provider says of a token that is as known.
pub(crate) fn looked(known: &Known) -> Looked {
    let introspection = Introspection { issued_at: Some(known.issued_at), expires: Some(known.expires), ..look() };
    Looked { introspection, date: Some(NOW) }
}

/// A token of 60 days that is a day old.
pub(crate) fn young(text: &str) -> Known {
    Known { since: later(NOW, -DAY), issued_at: later(NOW, -DAY), expires: Expiry::At(later(NOW, DAY * 59)), ..known(text) }
}

/// Everything seen just now: the recorded token lives, is current and in every sink, and this process holds its text.
pub(crate) fn evidence(record: &Record) -> Evidence {
    let clock = Clock { wall: NOW, boot: boot(), provider: Some(ProviderTime { date: NOW, at: boot() }) };
    let mut evidence = Evidence::new(clock, "writer".into(), &policy().sinks, Vec::new());
    let current = &record.current;
    evidence.store = seen(StoreEvidence {
        identity: "arn".into(),
        presence: super::evidence::Presence::Present,
        current: Some((current.slot.clone(), content(current.fingerprint))),
        current_asked: boot(),
        record: Some(Ok(record.clone())),
        record_number: record.number,
        record_seen: boot(),
        ..StoreEvidence::default()
    });
    for sink in &mut evidence.sinks {
        sink.read = seen(Some((SlotId::new("sink"), content(current.fingerprint))));
    }
    evidence.looks.insert(current.fingerprint, seen(looked(current)));
    evidence.calls.insert(current.fingerprint, seen(Called { outcome: Ok(None), business_integration: false }));
    evidence.held.insert(current.fingerprint);
    evidence.proven_beside = true;
    evidence
}

/// A record whose token "new" has been everywhere for a whole window and whose token "old" may go.
pub(crate) fn revoking() -> Record {
    let mut record = Record { current: young("new"), ..record() };
    let at = later(NOW, -(DAY + SignedDuration::from_secs(1)));
    record.published = Some(Published { fingerprint: record.current.fingerprint, at });
    record.rotation = Some(rotation(Stage::Revoking));
    record
}

/// A rotation away from the token "old", at its first attempt.
pub(crate) fn rotation(stage: Stage) -> Rotation {
    Rotation {
        id: "r1".into(),
        started_at: later(NOW, -DAY),
        base: known("old"),
        attempt: 1,
        by: "writer".into(),
        stage,
        why: "due".into(),
        renderings: 0,
    }
}
