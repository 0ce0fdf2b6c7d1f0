//! Who is next: the due times of all tokens, and of those that are due the one whose life ends first.
//!
//! A waiting token is one entry here and nothing else: no task, no timer, no cron job.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::rotation::time::Boot;

/// Due times and the queue of what is due.
#[derive(Debug, Default)]
pub struct Planner {
    waiting: BTreeSet<(Boot, usize)>,
    due_at: Vec<Option<Boot>>,
    ready: BTreeSet<(Timestamp, usize)>,
    ready_as: Vec<Option<Timestamp>>,
}

impl Planner {
    /// Schedules a token; an earlier schedule of it is replaced, a place in the queue is kept.
    pub fn schedule(&mut self, token: usize, at: Boot) {
        if token >= self.due_at.len() {
            self.due_at.resize(token + 1, None);
            self.ready_as.resize(token + 1, None);
        }
        if let Some(slot) = self.due_at.get_mut(token)
            && let Some(old) = slot.replace(at)
        {
            self.waiting.remove(&(old, token));
        }
        self.waiting.insert((at, token));
    }

    /// Takes a token out of everything.
    pub fn remove(&mut self, token: usize) {
        if let Some(old) = self.due_at.get_mut(token).and_then(Option::take) {
            self.waiting.remove(&(old, token));
        }
        if let Some(old) = self.ready_as.get_mut(token).and_then(Option::take) {
            self.ready.remove(&(old, token));
        }
    }

    /// Moves what is due into the queue, by urgency.
    pub fn advance(&mut self, now: Boot, urgency: impl Fn(usize) -> Timestamp) {
        while let Some((at, token)) = self.waiting.first().copied().filter(|(at, _)| *at <= now) {
            self.waiting.remove(&(at, token));
            if let Some(slot) = self.due_at.get_mut(token) {
                *slot = None;
            }
            let urgency = urgency(token);
            if let Some(slot) = self.ready_as.get_mut(token)
                && slot.is_none()
            {
                *slot = Some(urgency);
                self.ready.insert((urgency, token));
            }
        }
    }

    /// The most urgent token that is due.
    pub fn take(&mut self) -> Option<usize> {
        let (_, token) = self.ready.pop_first()?;
        if let Some(slot) = self.ready_as.get_mut(token) {
            *slot = None;
        }
        Some(token)
    }

    /// When the next token becomes due.
    #[must_use]
    pub fn next_due(&self) -> Option<Boot> {
        self.waiting.first().map(|(at, _)| *at)
    }

    /// Whether something is due and not taken yet.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(second: i64) -> Boot {
        Boot::from_nanos(i128::from(second) * 1_000_000_000)
    }

    #[test]
    fn of_what_is_due_the_first_to_end_goes_first() {
        let mut planner = Planner::default();
        planner.schedule(0, boot(10));
        planner.schedule(1, boot(5));
        planner.schedule(2, boot(50));
        let ends = |token: usize| Timestamp::from_second(100 - i64::try_from(token).unwrap()).unwrap();
        planner.advance(boot(20), ends);
        assert_eq!((planner.take(), planner.take(), planner.take()), (Some(1), Some(0), None));
        assert_eq!(planner.next_due(), Some(boot(50)));
    }

    #[test]
    fn a_token_is_scheduled_once() {
        let mut planner = Planner::default();
        planner.schedule(3, boot(10));
        planner.schedule(3, boot(2));
        planner.advance(boot(2), |_| Timestamp::MAX);
        planner.schedule(3, boot(2));
        planner.advance(boot(2), |_| Timestamp::MIN);
        assert_eq!((planner.take(), planner.take()), (Some(3), None), "one place in the queue, whatever is said meanwhile");
        planner.schedule(3, boot(4));
        planner.remove(3);
        assert_eq!(planner.next_due(), None);
        assert!(!planner.has_ready());
    }
}
