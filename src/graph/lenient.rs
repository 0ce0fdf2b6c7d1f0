//! Reading JSON that another party wrote: a number may come as a string and a boolean as a word.
//!
//! Meta's own samples disagree on such things, so nothing here refuses a whole answer over one field. What cannot be read is
//! `None`, and the caller decides whether it can do without.

use serde_json::Value;

/// A whole number, also as a string or with a fraction of zero length or more (cut off). `None` for anything else, and for what
/// 64 bits do not hold.
pub(super) fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| number.as_f64().and_then(whole)),
        Value::String(text) => {
            let text = text.trim();
            text.parse().ok().or_else(|| text.parse().ok().and_then(whole))
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Cuts a fraction off; `None` where 64 bits do not hold the rest, and for what is no number.
fn whole(number: f64) -> Option<i64> {
    const LIMIT: f64 = 9.0e18;
    (number.is_finite() && number.abs() < LIMIT).then_some(number as i64)
}

/// A text, also when it was written as a whole number (ids are both in real answers).
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        Value::String(_) | Value::Number(_) | Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A truth value, also as a word or as 0 and 1.
pub(super) fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(truth) => Some(*truth),
        Value::String(word) if word.eq_ignore_ascii_case("true") => Some(true),
        Value::String(word) if word.eq_ignore_ascii_case("false") => Some(false),
        Value::Number(number) => match number.as_i64() {
            Some(0) => Some(false),
            Some(1) => Some(true),
            _ => None,
        },
        Value::String(_) | Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_are_read_from_every_spelling_and_absurd_ones_from_none() {
        for (written, read) in [
            (json!(190), Some(190)),
            (json!("190"), Some(190)),
            (json!(" 190 "), Some(190)),
            (json!(190.9), Some(190)),
            (json!(-5), Some(-5)),
            (json!(1e18), Some(1_000_000_000_000_000_000)),
            (json!(u64::MAX), None),
            (json!(1e300), None),
            (json!("NaN"), None),
            (json!("inf"), None),
            (json!(true), None),
            (json!([1]), None),
            (json!(null), None),
        ] {
            assert_eq!(integer(&written), read, "{written}");
        }
    }

    #[test]
    fn texts_and_truth_values_are_read_from_every_spelling() {
        assert_eq!(text(&json!("1")), Some("1".to_owned()));
        assert_eq!(text(&json!(10_001)), Some("10001".to_owned()));
        assert_eq!(text(&json!("")), None);
        assert_eq!(text(&json!(1.5)), None);
        assert_eq!(boolean(&json!(true)), Some(true));
        assert_eq!(boolean(&json!("False")), Some(false));
        assert_eq!(boolean(&json!(1)), Some(true));
        assert_eq!(boolean(&json!("yes")), None);
        assert_eq!(boolean(&json!(2)), None);
    }
}
