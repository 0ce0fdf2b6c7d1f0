//! What is left of a life, as a bar and as a figure.

use jiff::{SignedDuration, Timestamp};

use super::layout::{TableOptions, thousands};
use crate::rotation::health::TokenStatus;

/// Cells of the bar.
const CELLS: usize = 10;
const DAY: i64 = 86_400;

/// A current token's life, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Life {
    /// This is left, of a whole that is known where its start is.
    Left { left: SignedDuration, fraction: Option<f64> },
    /// It has no end.
    Never,
    /// The provider says that it is dead, whatever its end was.
    Dead,
    /// Its end is past.
    Ended,
    /// No token has been seen, or not its end.
    Unknown,
}

impl Life {
    pub(super) fn of(token: &TokenStatus, now: Timestamp) -> Self {
        let ready = |reason: &str| token.conditions.iter().any(|condition| condition.kind == "Ready" && condition.reason == reason);
        if ready("dead") {
            return Self::Dead;
        }
        let Some(current) = &token.current else { return Self::Unknown };
        let Some(left) = token.time_left(now) else {
            // An end that nobody has stated is not the same as none: only what is recorded or seen valid is known to have none.
            return if ready("valid") || current.issued_at.is_some() { Self::Never } else { Self::Unknown };
        };
        if left.is_zero() {
            return Self::Ended;
        }
        let whole = current.issued_at.zip(current.expires_at).map(|(from, to)| to.duration_since(from).as_secs_f64());
        let fraction = whole.filter(|whole| *whole > 0.0).map(|whole| (left.as_secs_f64() / whole).clamp(0.0, 1.0));
        Self::Left { left, fraction }
    }

    /// Ten cells. Whatever is left shows at least one.
    pub(super) fn bar(&self, options: &TableOptions) -> String {
        let full = match self {
            Self::Left { fraction: Some(fraction), .. } => {
                (1..CELLS).filter(|cell| *fraction * 10.0 > f64::from(u8::try_from(*cell).unwrap_or(0))).count() + 1
            }
            Self::Dead | Self::Ended => 0,
            Self::Left { fraction: None, .. } | Self::Never | Self::Unknown => return String::new(),
        };
        let (on, off) = if options.unicode { ("█", "░") } else { ("#", "-") };
        format!("{}{}", on.repeat(full), off.repeat(CELLS - full))
    }

    /// Days, seconds under a day, or the word for what is the case.
    pub(super) fn figure(&self) -> String {
        match self {
            Self::Left { left, .. } if left.as_secs() < DAY => format!("{} s", thousands(left.as_secs())),
            Self::Left { left, .. } => days(*left),
            Self::Never => "never".to_owned(),
            Self::Dead => "dead".to_owned(),
            Self::Ended => "ended".to_owned(),
            Self::Unknown => "unknown".to_owned(),
        }
    }
}

/// Days with one decimal, cut and not rounded: nobody is told of more than there is.
fn days(duration: SignedDuration) -> String {
    let tenths = duration.as_secs() / (DAY / 10);
    format!("{}.{} d", thousands(tenths / 10), tenths % 10)
}

/// How long until something, in its largest unit.
pub(super) fn short(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        ..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..DAY => match seconds / 360 {
            tenths if tenths % 10 == 0 => format!("{} h", tenths / 10),
            tenths => format!("{}.{} h", tenths / 10, tenths % 10),
        },
        _ => days(duration),
    }
}

/// When something happens that is to come; what is due is due now.
pub(super) fn until(at: Timestamp, now: Timestamp) -> String {
    if at <= now { "now".to_owned() } else { format!("in {}", short(at.duration_since(now))) }
}

/// When, seen from now, before or after it.
pub(super) fn from(at: Timestamp, now: Timestamp) -> String {
    if at < now { format!("{} ago", short(now.duration_since(at))) } else { until(at, now) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_shows_the_fraction_and_never_nothing_for_something() {
        let bar = |fraction| Life::Left { left: SignedDuration::from_secs(1), fraction: Some(fraction) }.bar(&TableOptions::default());
        assert_eq!(bar(1.0), "██████████");
        assert_eq!(bar(0.55), "██████░░░░");
        assert_eq!(bar(0.5), "█████░░░░░");
        assert_eq!(bar(0.000_001), "█░░░░░░░░░");
        assert_eq!(Life::Dead.bar(&TableOptions { unicode: false, ..TableOptions::default() }), "----------");
        assert_eq!(Life::Never.bar(&TableOptions::default()), "");
    }

    #[test]
    fn figures_are_days_or_seconds_and_never_more_than_there_is() {
        let figure = |seconds| Life::Left { left: SignedDuration::from_secs(seconds), fraction: None }.figure();
        assert_eq!(figure(5_400), "5,400 s");
        assert_eq!(figure(DAY - 1), "86,399 s");
        assert_eq!(figure(DAY), "1.0 d");
        assert_eq!(figure(DAY * 24 - 1), "23.9 d");
        assert_eq!(figure(DAY * 20_000), "20,000.0 d");
    }

    #[test]
    fn waits_are_told_in_one_unit() {
        for (seconds, text) in
            [(0, "0 s"), (59, "59 s"), (3_000, "50 min"), (10_800, "3 h"), (12_600, "3.5 h"), (DAY * 12 + DAY * 3 / 10, "12.3 d")]
        {
            assert_eq!(short(SignedDuration::from_secs(seconds)), text);
        }
    }
}
