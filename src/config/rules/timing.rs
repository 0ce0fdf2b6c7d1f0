//! Durations: the window covers the caches, the refresh comes early enough, and all of it fits a token's life.

use std::fmt;

use jiff::SignedDuration;

use super::token_path;
use crate::config::draft::{Draft, Timing};
use crate::config::duration::display;
use crate::config::mistake::{Report, Wrong};
use crate::config::settings::{Propagation, Schedule};
use crate::rotation::schedule::{USUAL_LIFE, fitted};
use crate::rotation::time::times;

/// The latest refresh point: a tenth of the life is left for everything that can go wrong.
const LATEST_REFRESH: f64 = 0.9;

/// What must be left beside the window after the latest refresh, for back-offs: this share of the life (3 days of 60), which holds
/// two waits at the longest back-off of 32 h.
const BACK_OFF_SHARE: i32 = 20;

/// A token's wishes, or the shared ones, and where they stand.
struct Wishes {
    /// Paths of tables, the one that counts most first.
    tables: Vec<String>,
    timing: Timing,
}

/// The rules for each token and for the shared defaults. What several tokens inherit is told once. A rule is silent where a value that it
/// needs is wrong by itself.
pub(super) fn check(draft: &Draft, report: &Report) {
    let shared = Wishes { tables: vec!["defaults".to_owned()], timing: draft.timing };
    let own =
        draft.tokens.iter().map(|(name, token)| Wishes { tables: vec![token_path(name), "defaults".to_owned()], timing: token.timing });
    for wishes in std::iter::once(shared).chain(own) {
        window_covers_caches(&wishes, report);
        refresh_leaves_room(&wishes, report);
        fits_the_life(&wishes, report);
    }
}

impl Wishes {
    /// Reports against the first of these keys that somebody wrote, in the table that counts most.
    fn mistake(&self, keys: &[&str], wrong: Wrong, report: &Report) {
        report.mistake_at(&self.paths(keys), wrong);
    }

    fn paths(&self, keys: &[&str]) -> Vec<String> {
        let keyed = self.tables.iter().flat_map(|table| keys.iter().map(move |key| format!("{table}.{key}")));
        keyed.chain(self.tables.iter().cloned()).collect()
    }
}

/// A consumer may have read the old token the moment before the new one was published, and once more from a cache of a cache.
fn window_covers_caches(wishes: &Wishes, report: &Report) {
    let Timing { window: Some(window), consumer_ttl: Some(consumer_ttl), .. } = wishes.timing else { return };
    let least = times(consumer_ttl, 2.0);
    if window < least {
        let what = format!("the window of {} is shorter than twice the consumer_ttl of {}", display(window), display(consumer_ttl));
        let fix = format!("write window = \"{}\" or more, or a shorter consumer_ttl", display(least));
        wishes.mistake(&["propagation.window", "propagation.consumer_ttl"], Wrong::new(what, fix), report);
    }
}

fn refresh_leaves_room(wishes: &Wishes, report: &Report) {
    let Timing { refresh_at: Some(refresh_at), jitter: Some(jitter), .. } = wishes.timing else { return };
    let latest = wishes.timing.schedule().latest_refresh();
    if is_late(latest) {
        let what = format!("refresh_at {refresh_at} with jitter {jitter} refreshes at {} of the life at the latest", percent(latest));
        let fix = format!("let it be {} at most, so that back-offs have room before the token ends", percent(LATEST_REFRESH));
        wishes.mistake(&["schedule.refresh_at", "schedule.jitter"], Wrong::new(what, fix), report);
    }
}

fn is_late(latest: f64) -> bool {
    latest > LATEST_REFRESH + 1e-9
}

/// Nothing has been seen of any life when the configuration is read, so the longest that Meta gives is taken: what does not fit that fits
/// none. The life that is seen is [`life_conflicts`]' to judge.
fn fits_the_life(wishes: &Wishes, report: &Report) {
    let timing = &wishes.timing;
    let known = timing.refresh_at.is_some() && timing.jitter.is_some();
    // What is left after a refresh point that must change says nothing.
    let latest = Some(timing.schedule().latest_refresh()).filter(|latest| known && !is_late(*latest));
    for conflict in conflicts(timing.window, timing.min_life, latest, USUAL_LIFE) {
        let keys: &[&str] = match conflict {
            LifeConflict::WindowShortened { .. } => &["propagation.window"],
            LifeConflict::WindowWithoutRoom { .. } => &["propagation.window", "schedule.refresh_at", "schedule.jitter"],
            LifeConflict::MinLifeShortened { .. } => &["schedule.min_life"],
            LifeConflict::MinLifeOverRest { .. } => &["schedule.min_life", "schedule.refresh_at"],
        };
        wishes.mistake(keys, Wrong::new(conflict.to_string(), conflict.fix()), report);
    }
}

/// A wish that a token's life is too short for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LifeConflict {
    /// The window is longer than a quarter of the life, so it would be cut short.
    WindowShortened {
        /// The window.
        window: SignedDuration,
        /// The life.
        life: SignedDuration,
    },
    /// After the latest refresh the old token lives too short for window and back-offs.
    WindowWithoutRoom {
        /// The window.
        window: SignedDuration,
        /// What back-offs may take.
        room: SignedDuration,
        /// What is left of the life.
        rest: SignedDuration,
        /// The life.
        life: SignedDuration,
    },
    /// The least life of a new token is longer than a quarter of the life, so it would be cut short.
    MinLifeShortened {
        /// The least life.
        min_life: SignedDuration,
        /// The life.
        life: SignedDuration,
    },
    /// More is asked of a new token than the old one has left at its latest refresh, so a token that outlives the old one could be refused.
    MinLifeOverRest {
        /// The least life.
        min_life: SignedDuration,
        /// What is left of the life.
        rest: SignedDuration,
        /// The life.
        life: SignedDuration,
    },
}

impl LifeConflict {
    /// What to do about it.
    #[must_use]
    pub fn fix(self) -> String {
        match self {
            Self::WindowShortened { life, .. } => format!("write {} at most", display(life / 4)),
            Self::WindowWithoutRoom { room, rest, .. } => {
                format!("write a window of {} at most, or an earlier refresh_at", display((rest - room).max(SignedDuration::ZERO)))
            }
            Self::MinLifeShortened { life, .. } => format!("write {} at most", display(life / 4)),
            Self::MinLifeOverRest { rest, .. } => format!("write less than {}, or an earlier refresh_at", display(rest)),
        }
    }
}

impl fmt::Display for LifeConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::WindowShortened { window, life } => {
                let (window, life, quarter) = (display(window), display(life), display(life / 4));
                write!(
                    f,
                    "the window of {window} is longer than a quarter ({quarter}) of a life of {life}, so it would not be obeyed in full"
                )
            }
            Self::WindowWithoutRoom { window, room, rest, life } => {
                let (window, room, rest, life) = (display(window), display(room), display(rest), display(life));
                write!(
                    f,
                    "the window of {window} and {room} for back-offs do not fit the {rest} that are left of a life of {life} after the latest refresh"
                )
            }
            Self::MinLifeShortened { min_life, life } => {
                let (min_life, life, quarter) = (display(min_life), display(life), display(life / 4));
                write!(
                    f,
                    "the min_life of {min_life} is longer than a quarter ({quarter}) of a life of {life}, so it would not be obeyed in full"
                )
            }
            Self::MinLifeOverRest { min_life, rest, life } => {
                let (min_life, rest, life) = (display(min_life), display(rest), display(life));
                write!(
                    f,
                    "the min_life of {min_life} is not less than the {rest} that are left of a life of {life} after the latest refresh"
                )
            }
        }
    }
}

/// What does not fit a life, by the life that was seen: for `check`, and for a daemon that sees a shorter one than Meta's 60 days.
#[must_use]
pub fn life_conflicts(schedule: &Schedule, propagation: &Propagation, life: SignedDuration) -> Vec<LifeConflict> {
    conflicts(Some(propagation.window), Some(schedule.min_life), Some(schedule.latest_refresh()), life)
}

/// The same, of what is known.
fn conflicts(
    window: Option<SignedDuration>,
    min_life: Option<SignedDuration>,
    latest: Option<f64>,
    life: SignedDuration,
) -> Vec<LifeConflict> {
    let mut conflicts = Vec::new();
    // To whole seconds: a fraction of a life is no exact number.
    let rest = latest.map(|latest| SignedDuration::from_secs(times(life, 1.0 - latest).as_secs()).max(SignedDuration::ZERO));
    let room = life / BACK_OFF_SHARE;
    if let Some(window) = window {
        if fitted(window, life) < window {
            conflicts.push(LifeConflict::WindowShortened { window, life });
        } else if let Some(rest) = rest
            && window.checked_add(room).is_none_or(|needed| needed > rest)
        {
            conflicts.push(LifeConflict::WindowWithoutRoom { window, room, rest, life });
        }
    }
    if let Some(min_life) = min_life {
        if fitted(min_life, life) < min_life {
            conflicts.push(LifeConflict::MinLifeShortened { min_life, life });
        } else if let Some(rest) = rest.filter(|rest| min_life >= *rest) {
            conflicts.push(LifeConflict::MinLifeOverRest { min_life, rest, life });
        }
    }
    conflicts
}

fn percent(fraction: f64) -> String {
    format!("{:.0} %", fraction * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn says(refresh_at: f64, min_life: SignedDuration, window: SignedDuration, life: SignedDuration) -> Vec<String> {
        let schedule = Schedule { refresh_at, min_life, ..Schedule::default() };
        let propagation = Propagation { window, ..Propagation::default() };
        life_conflicts(&schedule, &propagation, life).into_iter().map(|conflict| format!("{conflict}; {}", conflict.fix())).collect()
    }

    #[test]
    fn the_defaults_fit_metas_life() {
        assert!(life_conflicts(&Schedule::default(), &Propagation::default(), USUAL_LIFE).is_empty());
    }

    #[test]
    fn what_does_not_fit_says_its_numbers() {
        assert_eq!(
            says(0.5, DAY, DAY * 20, USUAL_LIFE),
            ["the window of 20d is longer than a quarter (15d) of a life of 60d, so it would not be obeyed in full; write 15d at most"]
        );
        assert_eq!(
            says(0.75, DAY, DAY * 9, USUAL_LIFE),
            [
                "the window of 9d and 3d for back-offs do not fit the 10d12h that are left of a life of 60d after the latest refresh; write a window of 7d12h at most, or an earlier refresh_at"
            ]
        );
        assert_eq!(
            says(0.5, DAY * 16, DAY, USUAL_LIFE),
            ["the min_life of 16d is longer than a quarter (15d) of a life of 60d, so it would not be obeyed in full; write 15d at most"]
        );
        assert_eq!(
            says(0.75, DAY * 12, DAY, USUAL_LIFE),
            [
                "the min_life of 12d is not less than the 10d12h that are left of a life of 60d after the latest refresh; write less than 10d12h, or an earlier refresh_at"
            ]
        );
        assert_eq!(says(0.5, DAY * 7, DAY, DAY).len(), 2, "the life that is seen counts");
    }
}
