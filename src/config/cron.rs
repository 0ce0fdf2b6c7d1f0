//! The bell's pattern: cron with seconds, UTC.
//!
//! Parsed with the parser, and the options, of the scheduler that will ring it, so that what passes here cannot fail there.

use std::fmt;

use croner::parser::{CronParser, Seconds};
use jiff::SignedDuration;

use super::mistake::{Wrong, may_show, shown};

const DAY_SECONDS: u32 = 86_400;

/// When the bell rings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tick {
    pattern: String,
    longest_gap: SignedDuration,
}

/// Every 30 seconds.
impl Default for Tick {
    fn default() -> Self {
        Self { pattern: "*/30 * * * * *".to_owned(), longest_gap: SignedDuration::from_secs(30) }
    }
}

impl Tick {
    pub(super) fn parse(pattern: &str) -> Result<Self, Wrong> {
        let fix = "write six fields, second minute hour day month weekday, as in \"*/30 * * * * *\"";
        let form = |c: char| c.is_ascii_digit() || matches!(c, '*' | '/' | ',' | '-' | '?' | '#' | ' ');
        if pattern.split_whitespace().count() != 6 {
            return Err(Wrong::new(format!("{} is no cron pattern with seconds", shown(pattern, form)), fix));
        }
        let parsed = CronParser::builder().seconds(Seconds::Required).dom_and_dow(true).build().parse(pattern);
        // The parser's error may repeat the pattern.
        let cron = parsed.map_err(|error| {
            let why = if may_show(pattern, form) { format!(": {error}") } else { String::new() };
            Wrong::new(format!("{} is no cron pattern{why}", shown(pattern, form)), fix)
        })?;
        let rings = |second: u32| {
            let (hour, minute) = (second / 3600, second / 60 % 60);
            let hits = [cron.pattern.hour_match(hour), cron.pattern.minute_match(minute), cron.pattern.second_match(second % 60)];
            hits.into_iter().all(|hit| hit.unwrap_or(false))
        };
        let longest = longest_gap((0..DAY_SECONDS).filter(|second| rings(*second)));
        let longest = longest.ok_or_else(|| Wrong::new(format!("{} never rings", shown(pattern, form)), fix))?;
        Ok(Self { pattern: pattern.to_owned(), longest_gap: SignedDuration::from_secs(i64::from(longest)) })
    }

    /// The pattern, for the scheduler.
    #[must_use]
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// The longest silence on a day on which the bell rings.
    #[must_use]
    pub const fn longest_gap(&self) -> SignedDuration {
        self.longest_gap
    }
}

impl fmt::Display for Tick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.pattern)
    }
}

fn longest_gap(rings: impl Iterator<Item = u32>) -> Option<u32> {
    let mut first_and_last: Option<(u32, u32)> = None;
    let mut longest = 0;
    for ring in rings {
        let (first, last) = first_and_last.unwrap_or((ring, ring));
        longest = longest.max(ring - last);
        first_and_last = Some((first, ring));
    }
    let (first, last) = first_and_last?;
    Some(longest.max(DAY_SECONDS - last + first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_knows_its_longest_silence() {
        for (pattern, gap) in [
            ("* * * * * *", 1),
            ("0,10 * * * * *", 50),
            ("0 0 * * * *", 3_600),
            ("0 0 3 * * *", 86_400),
            ("0 0 9-17 * * MON-FRI", 16 * 3_600),
        ] {
            assert_eq!(Tick::parse(pattern).unwrap().longest_gap(), SignedDuration::from_secs(gap), "{pattern}");
        }
    }

    #[test]
    fn the_default_is_what_its_pattern_says() {
        assert_eq!(Tick::parse(Tick::default().pattern()).unwrap(), Tick::default());
    }

    #[test]
    fn a_pattern_that_the_scheduler_would_refuse_is_refused() {
        for pattern in ["", "* * * * *", "@daily", "61 * * * * *", "* * * * * * *", "a b c d e f"] {
            assert!(Tick::parse(pattern).is_err(), "{pattern}");
        }
    }

    #[tokio::test]
    async fn the_scheduler_takes_what_passes() {
        let tick = Tick::parse("*/30 * * * * MON-FRI").unwrap();
        assert!(tokio_cron_scheduler::Job::new(tick.pattern(), |_id, _scheduler| {}).is_ok());
    }
}
