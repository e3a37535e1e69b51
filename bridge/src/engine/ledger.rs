//! Progress in one partition: which records are finished, and up to where all of them are.
//!
//! Every delivered record gets the next dense *sequence number*, so holes in the offsets (compaction, transactions) do not
//! exist here. The *frontier* is the first record that is not finished; what is committed is its offset. Owned by one
//! [`PartitionCore`](super::partition_core::PartitionCore); it has no clock, does no I/O and is gone with its owner.

use std::collections::VecDeque;

/// A record's place among those delivered in one epoch, from 0, without holes.
pub type Sequence = u64;

/// The ring of records between the frontier and the newest delivered one.
#[derive(Debug, Default)]
pub struct OffsetLedger {
    slots: VecDeque<Slot>,
    /// The sequence number of the first slot: the frontier.
    first: Sequence,
    /// The offset after the newest record, or where the partition began.
    next_offset: Option<i64>,
}

#[derive(Debug)]
struct Slot {
    offset: i64,
    is_finished: bool,
}

impl OffsetLedger {
    /// An empty ledger of a partition that is read from `committed` on, where anything was committed.
    #[must_use]
    pub fn new(committed: Option<i64>) -> Self {
        Self { next_offset: committed, ..Self::default() }
    }

    /// True when a record of this offset comes after all that came. Offsets only grow.
    #[must_use]
    pub fn is_new(&self, offset: i64) -> bool {
        // Before the first record, `next_offset` is only where the reading began: a log that was cut back begins earlier.
        self.slots.is_empty() && self.first == 0 || self.next_offset.is_none_or(|next| offset >= next)
    }

    /// Takes the next record in; its offset must be [new](Self::is_new).
    pub fn push(&mut self, offset: i64) -> Sequence {
        debug_assert!(self.is_new(offset), "offset {offset} after {:?}", self.next_offset);
        self.slots.push_back(Slot { offset, is_finished: false });
        self.next_offset = Some(offset + 1);
        self.first + self.slots.len() as u64 - 1
    }

    /// Marks a record finished; false when it was so already, or never was here.
    pub fn finish(&mut self, sequence: Sequence) -> bool {
        let index = sequence.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        let Some(slot) = index.and_then(|index| self.slots.get_mut(index)) else { return false };
        if std::mem::replace(&mut slot.is_finished, true) {
            return false;
        }
        while self.slots.front().is_some_and(|slot| slot.is_finished) {
            self.slots.pop_front();
            self.first += 1;
        }
        true
    }

    /// What to commit: the first unfinished record's offset, or the one after the newest record when all are finished.
    #[must_use]
    pub fn frontier(&self) -> Option<i64> {
        self.slots.front().map(|slot| slot.offset).or(self.next_offset)
    }

    /// The record at the frontier, if one is there: the one in everybody's way.
    #[must_use]
    pub fn front(&self) -> Option<(Sequence, i64)> {
        self.slots.front().map(|slot| (self.first, slot.offset))
    }

    /// Records from the frontier to the newest, finished ones among them: what this ledger holds in memory.
    #[must_use]
    pub fn span(&self) -> usize {
        self.slots.len()
    }

    /// The sequence number at the frontier: how many records lie behind it.
    #[must_use]
    pub fn frontier_sequence(&self) -> Sequence {
        self.first
    }

    /// The offset after the newest record.
    #[must_use]
    pub fn next_offset(&self) -> Option<i64> {
        self.next_offset
    }

    /// The runs of finished records above the frontier: (first offset, last offset), in order.
    pub fn finished_runs(&self) -> impl Iterator<Item = (i64, i64)> {
        let mut slots = self.slots.iter().peekable();
        std::iter::from_fn(move || {
            let first = slots.find(|slot| slot.is_finished)?.offset;
            let mut last = first;
            while let Some(slot) = slots.next_if(|slot| slot.is_finished) {
                last = slot.offset;
            }
            Some((first, last))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against the plain truth: a map of all records, searched from the start each time.
        #[test]
        fn the_frontier_is_the_first_unfinished_record_whatever_the_order(
            steps in prop::collection::vec((1_i64..5, any::<prop::sample::Index>(), any::<bool>()), 1..300),
        ) {
            let mut ledger = OffsetLedger::new(Some(7));
            let mut truth: BTreeMap<Sequence, (i64, bool)> = BTreeMap::new();
            let mut offset = 7;
            for (hole, pick, is_arrival) in steps {
                if is_arrival || truth.is_empty() {
                    offset += hole;
                    let sequence = ledger.push(offset);
                    prop_assert_eq!(sequence, truth.len() as u64);
                    truth.insert(sequence, (offset, false));
                } else {
                    let sequence = pick.index(truth.len()) as u64;
                    let was_finished = std::mem::replace(&mut truth.get_mut(&sequence).unwrap().1, true);
                    prop_assert_eq!(ledger.finish(sequence), !was_finished);
                }
                let front = truth.iter().find(|(_, (_, is_finished))| !is_finished);
                let expected = front.map_or(if truth.is_empty() { 7 } else { offset + 1 }, |(_, (offset, _))| *offset);
                prop_assert_eq!(ledger.frontier(), Some(expected));
                prop_assert_eq!(ledger.front(), front.map(|(sequence, (offset, _))| (*sequence, *offset)));
                let behind = front.map_or(truth.len() as u64, |(sequence, _)| *sequence);
                prop_assert_eq!(ledger.frontier_sequence(), behind);
                prop_assert_eq!(ledger.span() as u64, truth.len() as u64 - behind);
                prop_assert_eq!(ledger.next_offset(), Some(if truth.is_empty() { 7 } else { offset + 1 }));
                let above = truth.values().filter(|(offset, is_finished)| *offset > expected && *is_finished);
                let in_runs: Vec<(i64, i64)> = ledger.finished_runs().collect();
                let covers = |offset: i64| in_runs.iter().any(|(first, last)| (*first..=*last).contains(&offset));
                prop_assert!(above.clone().all(|(offset, _)| covers(*offset)));
                prop_assert!(truth.values().all(|(offset, is_finished)| *is_finished || !covers(*offset)));
            }
        }
    }

    #[test]
    fn a_record_that_never_was_here_finishes_nothing() {
        let mut ledger = OffsetLedger::new(None);
        assert_eq!(ledger.frontier(), None);
        let sequence = ledger.push(3);
        assert!(!ledger.finish(sequence + 1));
        assert!(ledger.finish(sequence));
        assert!(!ledger.finish(sequence));
        assert_eq!((ledger.frontier(), ledger.span()), (Some(4), 0));
        assert!(!ledger.is_new(3) && ledger.is_new(4));
    }
}
