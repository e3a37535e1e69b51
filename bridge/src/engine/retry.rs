//! How often and when a record is tried again, and what becomes of it when that is enough.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use super::lanes::LaneId;

/// Tries before a record is given up, unless a policy says otherwise: with the default pauses about half a minute.
pub const ATTEMPTS_MAX: u32 = 10;
/// The pause after the first failure.
pub const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// No pause is longer.
pub const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How much of a pause is left to chance: what failed together does not come back together.
pub const JITTER: f64 = 0.5;

/// The rules of retry of one subscription.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Tries in all, the first one included. At least one is made.
    pub attempts_max: u32,
    /// The pauses between them.
    pub backoff: ExponentialBackoff,
    /// Which part of each pause is left to chance, in `0..=1`.
    pub jitter: f64,
    /// What becomes of a record whose tries are used up.
    pub exhausted: Exhausted,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts_max: ATTEMPTS_MAX,
            backoff: ExponentialBackoff::default(),
            jitter: JITTER,
            exhausted: Exhausted::DeadLetter,
        }
    }
}

/// Pauses that double from the first to the longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExponentialBackoff {
    /// The first pause.
    pub first: Duration,
    /// The longest.
    pub max: Duration,
}

impl Default for ExponentialBackoff {
    fn default() -> Self {
        Self { first: PAUSE_FIRST, max: PAUSE_MAX }
    }
}

/// What becomes of a record whose tries are used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exhausted {
    /// It goes to the dead letters, and its key goes on.
    DeadLetter,
    /// It is tried for ever, at the longest pause. Its key waits, and so does the commit.
    KeepTrying,
}

impl RetryPolicy {
    /// The pause after the `failures`-th failure in a row (from 1), where `chance` in `0..=1` decides about the jitter.
    #[must_use]
    pub fn pause(&self, failures: u32, chance: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(30);
        let full = self.backoff.first.saturating_mul(1 << doublings).min(self.backoff.max);
        full.mul_f64(1.0 - self.jitter.clamp(0.0, 1.0) * chance.clamp(0.0, 1.0))
    }

    /// True when a record that has failed `attempts` times is to be given up.
    #[must_use]
    pub fn is_exhausted(&self, attempts: u32) -> bool {
        attempts >= self.attempts_max && self.exhausted == Exhausted::DeadLetter
    }
}

/// The lanes that wait to be tried again, by the time when they are due. A lane waits here at most once.
#[derive(Debug, Default)]
pub struct RetryWheel {
    due: BinaryHeap<Reverse<(i64, LaneId)>>,
}

impl RetryWheel {
    /// The lane is due at `at_ms`.
    pub fn wait(&mut self, lane: LaneId, at_ms: i64) {
        self.due.push(Reverse((at_ms, lane)));
    }

    /// Takes out one lane that is due.
    pub fn next_due(&mut self, now_ms: i64) -> Option<LaneId> {
        let Reverse((at_ms, _)) = self.due.peek()?;
        if *at_ms > now_ms {
            return None;
        }
        self.due.pop().map(|Reverse((_, lane))| lane)
    }

    /// When the next one is due.
    #[must_use]
    pub fn next_at_ms(&self) -> Option<i64> {
        self.due.peek().map(|Reverse((at_ms, _))| *at_ms)
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.due.len()
    }

    /// True when none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.due.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_pause_grows_and_never_passes_its_bound(failures in 1_u32..100, chance in 0.0_f64..=1.0) {
            let policy = RetryPolicy::default();
            let pause = policy.pause(failures, chance);
            prop_assert!(pause <= policy.backoff.max);
            prop_assert!(pause >= policy.backoff.first.mul_f64(1.0 - policy.jitter));
            prop_assert!(policy.pause(failures + 1, chance) >= pause);
        }

        #[test]
        fn lanes_come_back_in_the_order_in_which_they_are_due(times in prop::collection::vec(0_i64..1_000, 0..200)) {
            let mut wheel = RetryWheel::default();
            for (lane, at_ms) in (0..).zip(&times) {
                wheel.wait(lane, *at_ms);
            }
            for now_ms in 0..1_000 {
                while let Some(lane) = wheel.next_due(now_ms) {
                    prop_assert_eq!(times[lane as usize], now_ms);
                }
                prop_assert!(wheel.next_at_ms().is_none_or(|at_ms| at_ms > now_ms));
            }
            prop_assert!(wheel.is_empty());
        }
    }

    #[test]
    fn who_waits_is_counted_until_it_is_due_or_all_are_forgotten() {
        let mut wheel = RetryWheel::default();
        assert_eq!((wheel.len(), wheel.is_empty(), wheel.next_at_ms(), wheel.next_due(9)), (0, true, None, None));
        wheel.wait(7, 5);
        wheel.wait(8, 3);
        assert_eq!((wheel.len(), wheel.is_empty(), wheel.next_at_ms(), wheel.next_due(2)), (2, false, Some(3), None));
        assert_eq!((wheel.next_due(3), wheel.next_due(4), wheel.len()), (Some(8), None, 1));
        wheel.clear();
        assert_eq!((wheel.len(), wheel.is_empty(), wheel.next_at_ms(), wheel.next_due(9)), (0, true, None, None));
    }

    #[test]
    fn a_policy_that_keeps_trying_gives_nothing_up() {
        let policy = RetryPolicy { exhausted: Exhausted::KeepTrying, ..RetryPolicy::default() };
        assert!(!policy.is_exhausted(u32::MAX));
        assert!(RetryPolicy::default().is_exhausted(ATTEMPTS_MAX));
        assert!(!RetryPolicy::default().is_exhausted(ATTEMPTS_MAX - 1));
    }
}
