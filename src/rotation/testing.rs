//! Values that tests of the core start from.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::payload::PayloadRule;
use super::policy::Policy;
use super::record::{Known, Record};
use super::slot::SlotId;
use super::time::later;
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
