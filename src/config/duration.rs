//! Durations as people write them: `"30d"`, `"1h30m"`, `"500ms"`.
//!
//! A day is 24 hours of the provider's clock, never a calendar day: what is timed here are lives, windows and caches.

use jiff::SignedDuration;

use super::mistake::{Wrong, shown};

const UNITS: [(&str, u64); 6] = [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Longest duration that is taken (ten years): more is a slip of the finger.
const LONGEST_MILLIS: u64 = 3_653 * 86_400_000;

/// What begins with a number is shown: it may be one with a wrong unit.
fn shown_duration(text: &str) -> String {
    let begins = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'));
    shown(text, |c| begins && (c.is_ascii_alphanumeric() || matches!(c, ' ' | '.' | '-' | '+')))
}

/// Reads numbers with units, the larger unit first, each at most once.
pub(super) fn parse(text: &str) -> Result<SignedDuration, Wrong> {
    let wrong = || {
        Wrong::new(
            format!("{} is no duration", shown_duration(text)),
            "write numbers with units w, d, h, m, s, ms, as in \"24h\" or \"1h30m\"",
        )
    };
    let mut rest = text;
    let mut millis = 0_u64;
    let mut finest = None;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, after) = rest.split_at(digits);
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        let place = UNITS.iter().position(|(name, _)| *name == unit).ok_or_else(wrong)?;
        if finest.is_some_and(|finest| place <= finest) {
            return Err(wrong());
        }
        let number: u64 = number.parse().map_err(|_not_a_number| wrong())?;
        let (_, size) = UNITS.get(place).ok_or_else(wrong)?;
        millis = number.checked_mul(*size).and_then(|part| millis.checked_add(part)).ok_or_else(wrong)?;
        finest = Some(place);
        rest = next;
    }
    if finest.is_none() {
        return Err(wrong());
    }
    if millis > LONGEST_MILLIS {
        return Err(Wrong::new(format!("{} is longer than ten years", shown_duration(text)), "write a shorter duration"));
    }
    i64::try_from(millis).map(SignedDuration::from_millis).map_err(|_too_long| wrong())
}

/// A duration in the same words, without weeks: `1d12h`, `0s`. Rounded down to milliseconds.
#[must_use]
pub fn display(duration: SignedDuration) -> String {
    let mut millis = duration.as_millis().unsigned_abs();
    if millis == 0 {
        return "0s".to_owned();
    }
    let mut text = if duration.is_negative() { "-".to_owned() } else { String::new() };
    for (unit, size) in UNITS.into_iter().skip(1) {
        let count = millis / u128::from(size);
        millis %= u128::from(size);
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_with_units() {
        for (text, millis) in [
            ("30d", 2_592_000_000),
            ("24h", 86_400_000),
            ("5m", 300_000),
            ("90s", 90_000),
            ("500ms", 500),
            ("1h30m", 5_400_000),
            ("1w2d3h4m5s6ms", 788_645_006),
            ("0s", 0),
        ] {
            assert_eq!(parse(text).unwrap(), SignedDuration::from_millis(millis), "{text}");
        }
        for text in
            ["", "5", "m", "5 m", "-5m", "5M", "1m1h", "1m1m", "1.5h", "5min", "99999999999999999999d", "300000d", "\u{661}d", "5m5"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_the_same() {
        for text in ["1d12h", "1h30m", "500ms", "0s", "14d"] {
            assert_eq!(display(parse(text).unwrap()), text);
        }
        assert_eq!(display(parse("36h").unwrap()), "1d12h");
        assert_eq!(display(SignedDuration::from_secs(-90)), "-1m30s");
    }
}
