//! Rows about the ledger itself.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{Entry, Head, Repair};
use crate::clock;

/// Where a chain begins.
pub(super) const BEGUN: &str = "ledger.chain";
/// What was mended.
pub(super) const REPAIRED: &str = "ledger.repaired";
/// What a start found to be broken.
pub(super) const BROKEN: &str = "ledger.broken";

/// The first row of a chain. It names the ledger by an id that belongs to no host, so that two ledgers cannot be taken for each
/// other.
pub(super) fn begun(at: Timestamp, seq: u64) -> Entry {
    let message = match seq {
        1 => "the ledger begins, and with it the chain of its hashes".to_owned(),
        _ => format!("the chain of hashes begins; the rows before {seq} have none"),
    };
    let fields = json!({
        "ledger": uuid::Uuid::new_v4().to_string(),
        "version": env!("CARGO_PKG_VERSION"),
        "hash": "sha-256",
        "message": message,
    });
    entry(at, BEGUN, fields)
}

/// What was done or found when the ledger was opened. `head` is the last good row then.
pub(super) fn repaired(repair: &Repair, head: Option<Head>) -> Entry {
    let message = repair.to_string();
    let (after, hash) = (head.map(|head| head.seq), head.map(|head| head.hash.to_string()));
    match repair {
        Repair::Torn { file, kept_as, bytes, sha256 } => entry(
            clock::wall(),
            REPAIRED,
            json!({"file": file, "kept_as": kept_as, "cut_bytes": bytes, "cut_sha256": sha256, "after_row": after,
                "after_head": hash, "message": message}),
        ),
        Repair::Quarantined { file, kept_as } => entry(
            clock::wall(),
            REPAIRED,
            json!({"file": file, "kept_as": kept_as, "after_row": after, "after_head": hash, "message": message}),
        ),
        Repair::Broken { file, row, .. } => {
            entry(clock::wall(), BROKEN, json!({"file": file, "row": row, "after_row": after, "after_head": hash, "message": message}))
        }
    }
}

fn entry(at: Timestamp, event: &str, fields: Value) -> Entry {
    let fields = match fields {
        Value::Object(fields) => fields,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    };
    Entry {
        at,
        provider_at: None,
        token: String::new(),
        rotation_id: None,
        attempt: None,
        event: event.to_owned(),
        fingerprint: None,
        fields,
    }
}
