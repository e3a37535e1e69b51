//! What was lost, seen and not dealt with: the memory behind a subscription's complaints about its logs.
//!
//! **Owns** the ranges of records that were removed before they were taken in, until somebody acknowledges them,
//! and the logs that went back, until they have been read again. The pump writes to it; health reads it. It outlives a fall of its
//! subscription, and ends with its bridge: what stays beyond that is the dead letter of each range.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::Serialize;

use super::clock::whole_ms;
use crate::record::TopicPartition;

/// Ranges that are remembered one by one; more of them are counted and belong to the last one of their partition.
pub const LOST_RANGES_MAX: usize = 1_000;
/// A log that went back is a complaint for at least this long, so that whoever looks now and then sees it.
pub const WENT_BACK_SHOWN: Duration = Duration::from_secs(5);

/// Records that were removed from a log before they were taken in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LostRange {
    /// The topic.
    pub topic: std::sync::Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The first offset that is gone.
    pub first: i64,
    /// The last offset that is gone.
    pub last: i64,
    /// Why, in words.
    pub reason: String,
}

/// What became of logs so far; the numbers only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LossCounters {
    /// Offsets that were gone before they were taken in.
    pub lost: u64,
    /// Offsets that could not be read and were stepped over.
    pub unreadable: u64,
    /// Times that a log went back.
    pub went_back: u64,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Losses(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    ranges: Vec<LostRange>,
    went_back: BTreeMap<TopicPartition, WentBack>,
    counters: LossCounters,
}

/// A log that is read again.
#[derive(Clone, Debug)]
struct WentBack {
    reason: String,
    at_ms: i64,
    /// Up to here it is read before all is said to be well.
    end: i64,
}

impl Losses {
    pub(crate) fn lost(&self, partition: &TopicPartition, first: i64, last: i64, reason: &str) {
        let mut state = self.state();
        state.counters.lost += count(first, last);
        let place = (&partition.topic, partition.partition);
        let is_full = state.ranges.len() >= LOST_RANGES_MAX;
        if is_full
            && let Some(known) = state.ranges.iter_mut().rev().find(|known| (&known.topic, known.partition) == place)
        {
            (known.first, known.last) = (known.first.min(first), known.last.max(last));
        } else if !is_full {
            let (topic, partition) = (place.0.clone(), place.1);
            state.ranges.push(LostRange { topic, partition, first, last, reason: reason.to_owned() });
        }
    }

    pub(crate) fn unreadable(&self, first: i64, last: i64) {
        self.state().counters.unreadable += count(first, last);
    }

    pub(crate) fn went_back(&self, partition: &TopicPartition, reason: &str, end: i64, now_ms: i64) {
        let mut state = self.state();
        state.counters.went_back += 1;
        state.went_back.insert(partition.clone(), WentBack { reason: reason.to_owned(), at_ms: now_ms, end });
    }

    /// What is not acknowledged.
    pub(crate) fn ranges(&self) -> Vec<LostRange> {
        self.state().ranges.clone()
    }

    /// Somebody has seen to all that is known: how many ranges that were.
    pub(crate) fn acknowledge(&self) -> usize {
        std::mem::take(&mut self.state().ranges).len()
    }

    pub(crate) fn counters(&self) -> LossCounters {
        self.state().counters
    }

    /// What there is to complain about. `frontier` says how far a partition of ours has come; a partition of somebody else is
    /// their complaint.
    pub(crate) fn complaints(
        &self,
        now_ms: i64,
        frontier: impl Fn(&TopicPartition) -> Option<Option<i64>>,
    ) -> Vec<String> {
        let mut state = self.state();
        state.went_back.retain(|partition, log| {
            let is_read_again = match frontier(partition) {
                Some(frontier) => frontier.unwrap_or(0) >= log.end,
                None => true,
            };
            !is_read_again || now_ms - log.at_ms < whole_ms(WENT_BACK_SHOWN)
        });
        let went_back = state.went_back.iter();
        let mut complaints: Vec<String> = went_back
            .map(|(partition, log)| format!("{partition} went back and is read again: {}", log.reason))
            .collect();
        if let Some(LostRange { topic, partition, first, last, reason }) = state.ranges.first() {
            let others = match state.ranges.len() {
                1 => String::new(),
                all => format!(", and {} more ranges", all - 1),
            };
            complaints.push(format!("{topic}/{partition} lost the records {first} to {last}: {reason}{others}"));
        }
        complaints
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(first: i64, last: i64) -> u64 {
    u64::try_from(last.saturating_sub(first).saturating_add(1)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_range_is_a_complaint_until_it_is_acknowledged() {
        let (losses, partition) = (Losses::default(), TopicPartition::new("t", 3));
        losses.lost(&partition, 5, 7, "removed");
        losses.lost(&partition, 9, 9, "removed");
        let complaints = || losses.complaints(1_000_000, |_| Some(Some(100)));
        assert_eq!(complaints(), ["t/3 lost the records 5 to 7: removed, and 1 more ranges"]);
        assert_eq!((losses.acknowledge(), losses.acknowledge(), losses.counters().lost), (2, 0, 4));
        assert!(complaints().is_empty());
    }

    #[test]
    fn memory_is_bounded_and_every_offset_counts() {
        let (losses, partition) = (Losses::default(), TopicPartition::new("t", 0));
        let many = LOST_RANGES_MAX as i64 + 10;
        (0..many).for_each(|offset| losses.lost(&partition, 2 * offset, 2 * offset, "removed"));
        let ranges = losses.ranges();
        assert_eq!((ranges.len(), ranges.last().unwrap().last), (LOST_RANGES_MAX, 2 * many - 2));
        assert_eq!(losses.counters().lost, many as u64);
    }

    #[test]
    fn a_log_that_went_back_is_a_complaint_until_it_is_read_again_and_for_a_while_at_least() {
        let (losses, partition) = (Losses::default(), TopicPartition::new("t", 0));
        let shown = whole_ms(WENT_BACK_SHOWN);
        losses.went_back(&partition, "it ends at 4", 4, 0);
        let is_red = |now_ms, frontier| !losses.complaints(now_ms, |_| frontier).is_empty();
        assert!(is_red(shown - 1, Some(Some(4))) && is_red(shown * 9, Some(Some(3))) && is_red(shown * 9, Some(None)));
        assert!(!is_red(shown, Some(Some(4))) && !is_red(0, Some(Some(0))));
        losses.went_back(&partition, "it ends at 4", 4, 0);
        assert!(!is_red(shown, None), "somebody else's");
        assert_eq!(losses.counters().went_back, 2);
    }

    #[test]
    fn beyond_the_bound_a_loss_belongs_to_the_last_range_of_its_own_partition() {
        let losses = Losses::default();
        let [one, other, unheard_of] = [0, 1, 2].map(|partition| TopicPartition::new("t", partition));
        losses.lost(&one, 10, 19, "removed");
        (1..LOST_RANGES_MAX as i64).for_each(|offset| losses.lost(&other, offset, offset, "removed"));
        losses.lost(&one, 5, 7, "removed");
        losses.lost(&one, 30, 31, "removed");
        losses.lost(&unheard_of, 1, 1, "removed");
        let ranges = losses.ranges();
        assert_eq!(ranges.len(), LOST_RANGES_MAX);
        assert_eq!((ranges[0].partition, ranges[0].first, ranges[0].last), (0, 5, 31));
        let last_of_other = LOST_RANGES_MAX as i64 - 1;
        let last = ranges.last().unwrap();
        assert_eq!((last.partition, last.first, last.last), (1, last_of_other, last_of_other), "it lost nothing more");
        assert_eq!(losses.counters().lost, 10 + LOST_RANGES_MAX as u64 - 1 + 3 + 2 + 1, "all of it is counted");
    }

    #[test]
    fn what_cannot_be_read_is_counted_and_no_complaint() {
        let losses = Losses::default();
        losses.unreadable(5, 7);
        losses.unreadable(9, 9);
        assert_eq!(losses.counters(), LossCounters { lost: 0, unreadable: 4, went_back: 0 });
        assert!(losses.complaints(0, |_| Some(Some(0))).is_empty());
    }

    #[test]
    fn a_log_that_went_back_is_shown_for_its_while_from_then_on_and_says_why() {
        let (losses, partition) = (Losses::default(), TopicPartition::new("t", 3));
        let (went_back_at, shown) = (1_000_000, whole_ms(WENT_BACK_SHOWN));
        losses.went_back(&partition, "it ends at 4", 4, went_back_at);
        let complaints = |now_ms| losses.complaints(now_ms, |_| Some(Some(9)));
        assert_eq!(complaints(went_back_at + shown - 1), ["t/3 went back and is read again: it ends at 4"]);
        assert_eq!(complaints(went_back_at + shown), [] as [&str; 0]);
    }
}
