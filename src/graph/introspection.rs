//! The answer of `debug_token`, read into [`Introspection`].
//!
//! Every field but `is_valid` may be missing in a real answer, ids come as strings or numbers, and a dead token may show
//! `expires_at: 0`, which on a live one means "never". Reading is therefore lenient field by field but strict about the verdict:
//! an answer without a readable `is_valid` says nothing, neither alive nor dead.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::lenient::{boolean, integer, text};
use crate::rotation::token::{Expiry, GranularScopes, Introspection};

/// Reads `{"data":{…}}`; `None` when there is no `data` object or no verdict in it.
pub(super) fn decode(body: &Value) -> Option<Introspection> {
    let data = body.get("data")?.as_object()?;
    let valid = boolean(data.get("is_valid")?)?;
    let error = data.get("error");
    Some(Introspection {
        valid,
        app_id: field(data, "app_id", text),
        user_id: field(data, "user_id", text),
        kind: field(data, "type", text),
        scopes: data.get("scopes").map(scopes).unwrap_or_default(),
        granular: data.get("granular_scopes").map(granular).unwrap_or_default(),
        issued_at: field(data, "issued_at", instant),
        expires: data.get("expires_at").and_then(|written| expiry(written, valid)),
        data_access_expires_at: field(data, "data_access_expires_at", instant),
        error_code: error.and_then(|error| error.get("code")).and_then(integer),
        error_subcode: error.and_then(|error| error.get("subcode").or_else(|| error.get("error_subcode"))).and_then(integer),
    })
}

fn field<T>(data: &Map<String, Value>, name: &str, read: impl Fn(&Value) -> Option<T>) -> Option<T> {
    data.get(name).and_then(read)
}

/// Seconds since 1970 on jiff's time line; 0 and less mean that there is no such instant.
fn instant(written: &Value) -> Option<Timestamp> {
    integer(written).filter(|second| *second > 0).and_then(|second| Timestamp::from_second(second).ok())
}

/// 0 on a live token is "never" (Meta's sample of a permanent token); on a dead one it says nothing.
fn expiry(written: &Value, valid: bool) -> Option<Expiry> {
    match integer(written)? {
        0 => valid.then_some(Expiry::Never),
        _ => instant(written).map(Expiry::At),
    }
}

/// A list of names; tolerates one comma-separated text.
fn scopes(written: &Value) -> BTreeSet<String> {
    match written {
        Value::Array(names) => names.iter().filter_map(text).collect(),
        Value::String(names) => names.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => BTreeSet::new(),
    }
}

/// `[{scope, target_ids?}]`; without `target_ids` the permission applies to all targets. A scope named twice has the targets of
/// both.
fn granular(written: &Value) -> GranularScopes {
    let mut all = GranularScopes::new();
    for entry in written.as_array().into_iter().flatten() {
        let Some(scope) = entry.get("scope").and_then(text) else { continue };
        let targets = entry.get("target_ids").and_then(Value::as_array).map(|ids| ids.iter().filter_map(text).collect::<BTreeSet<_>>());
        let merged = match (all.remove(&scope), targets) {
            (Some(Some(mut known)), Some(more)) => {
                known.extend(more);
                Some(known)
            }
            (None, targets) => targets,
            (Some(None), _) | (Some(Some(_)), None) => None,
        };
        all.insert(scope, merged);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(data: &Value) -> Option<Introspection> {
        decode(&json!({ "data": data }))
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn metas_sample_of_a_permanent_token_is_read_whole() {
        let seen = of(&json!({
            "app_id": "634974688087057", "type": "SYSTEM_USER", "application": "Lucky Shrub", "data_access_expires_at": 0,
            "expires_at": 0, "is_valid": true, "issued_at": 1_712_099_387,
            "scopes": ["whatsapp_business_management", "whatsapp_business_messaging"],
            "granular_scopes": [{"scope": "whatsapp_business_management"},
                                {"scope": "whatsapp_business_messaging", "target_ids": ["7", 8]}],
            "user_id": "122100255906153"
        }))
        .unwrap();
        assert!(seen.valid);
        assert_eq!(seen.kind.as_deref(), Some("SYSTEM_USER"));
        assert_eq!(seen.expires, Some(Expiry::Never));
        assert_eq!(seen.data_access_expires_at, None);
        assert_eq!(seen.issued_at, Some(at(1_712_099_387)));
        assert_eq!(seen.scopes.len(), 2);
        assert_eq!(seen.granular["whatsapp_business_management"], None);
        assert_eq!(seen.granular["whatsapp_business_messaging"], Some(BTreeSet::from(["7".to_owned(), "8".to_owned()])));
        assert_eq!((seen.error_code, seen.error_subcode), (None, None));
    }

    #[test]
    fn ids_and_dates_come_as_numbers_or_as_texts() {
        let seen = of(&json!({"is_valid": "true", "app_id": 12, "user_id": 13, "expires_at": "1800000000"})).unwrap();
        assert_eq!(seen.app_id.as_deref(), Some("12"));
        assert_eq!(seen.user_id.as_deref(), Some("13"));
        assert_eq!(seen.expires, Some(Expiry::At(at(1_800_000_000))));
    }

    #[test]
    fn zero_on_a_dead_token_is_not_never() {
        let seen = of(&json!({"is_valid": false, "expires_at": 0, "error": {"code": 190, "subcode": 460, "message": "…"}})).unwrap();
        assert_eq!(seen.expires, None);
        assert_eq!((seen.error_code, seen.error_subcode), (Some(190), Some(460)));
    }

    #[test]
    fn an_absurd_or_absent_expiry_is_unknown() {
        for absurd in [json!(-1), json!(1e18), json!("NaN"), json!(1e300), json!([]), json!(null), json!(true), json!(i64::MAX)] {
            assert_eq!(of(&json!({"is_valid": true, "expires_at": absurd})).unwrap().expires, None, "{absurd}");
        }
        assert_eq!(of(&json!({"is_valid": true})).unwrap().expires, None);
    }

    #[test]
    fn no_verdict_is_no_introspection() {
        assert_eq!(decode(&json!({})), None);
        assert_eq!(decode(&json!([])), None);
        assert_eq!(decode(&json!({"data": []})), None);
        assert_eq!(of(&json!({})), None);
        assert_eq!(of(&json!({"is_valid": "perhaps"})), None);
        assert_eq!(of(&json!({"is_valid": null, "app_id": "1"})), None);
    }

    #[test]
    fn a_garbage_token_shows_little_and_odd_shapes_do_not_hurt() {
        let seen = of(&json!({"is_valid": false, "scopes": {}, "granular_scopes": "x", "error": "gone", "type": null})).unwrap();
        assert_eq!(seen, Introspection::default());
        let seen = of(&json!({"is_valid": true, "scopes": "a, b,,", "granular_scopes": [1, {"scope": 2}, {"target_ids": []}]})).unwrap();
        assert_eq!(seen.scopes, BTreeSet::from(["a".to_owned(), "b".to_owned()]));
        assert_eq!(seen.granular, GranularScopes::from([("2".to_owned(), None)]));
    }

    #[test]
    fn a_scope_named_twice_has_the_targets_of_both() {
        let seen = of(&json!({"is_valid": true, "granular_scopes": [
            {"scope": "a", "target_ids": ["1"]}, {"scope": "a", "target_ids": ["2"]},
            {"scope": "b", "target_ids": ["1"]}, {"scope": "b"}, {"scope": "c", "target_ids": []}]}))
        .unwrap();
        assert_eq!(seen.granular["a"], Some(BTreeSet::from(["1".to_owned(), "2".to_owned()])));
        assert_eq!(seen.granular["b"], None);
        assert_eq!(seen.granular["c"], Some(BTreeSet::new()));
    }
}
