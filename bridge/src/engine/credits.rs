//! How much a partition, and all of them together, may hold: taken up to a high mark, and then not again before half of it
//! is free. Stopping and starting in large steps keeps the batches large.

use std::cell::Cell;

use crate::ports::Credit;

/// One budget of records and bytes. It belongs to the pump's thread.
#[derive(Debug)]
pub struct CreditWindow {
    high: Credit,
    is_open: Cell<bool>,
}

impl CreditWindow {
    /// A window that holds `high` at most, give or take the last record.
    #[must_use]
    pub fn new(high: Credit) -> Self {
        Self { high, is_open: Cell::new(true) }
    }

    /// How much more there is room for while `held` is held.
    #[must_use]
    pub fn free(&self, held: Credit) -> Credit {
        let free = Credit {
            records: self.high.records.saturating_sub(held.records),
            bytes: self.high.bytes.saturating_sub(held.bytes),
        };
        let is_open = match self.is_open.get() {
            true => free.records > 0 && free.bytes > 0,
            false => held.records <= self.high.records / 2 && held.bytes <= self.high.bytes / 2,
        };
        self.is_open.set(is_open);
        if is_open { free } else { Credit::NONE }
    }

    /// False between reaching the high mark and being half empty.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_open.get()
    }
}

/// What both allow.
#[must_use]
pub fn least(one: Credit, other: Credit) -> Credit {
    Credit { records: one.records.min(other.records), bytes: one.bytes.min(other.bytes) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_window_closes_at_either_mark_and_opens_when_half_of_both_is_free() {
        let window = CreditWindow::new(Credit { records: 10, bytes: 100 });
        let is_open = |records, bytes| {
            let free = window.free(Credit { records, bytes });
            assert_eq!(free == Credit::NONE, !window.is_open(), "what is closed gives nothing: {free:?}");
            assert!(!window.is_open() || (free.records, free.bytes) == (10 - records, 100 - bytes), "{free:?}");
            window.is_open()
        };
        assert!(is_open(0, 0) && is_open(9, 99), "up to both marks");
        assert!(!is_open(3, 100) && !is_open(3, 51), "full of bytes, and not half empty of them");
        assert!(is_open(3, 50) && is_open(5, 99));
        assert!(!is_open(10, 3) && !is_open(6, 3), "full of records, and not half empty of them");
        assert!(is_open(5, 50));
        assert!(!is_open(10, 101) && !is_open(5, 51) && !is_open(6, 50), "half of both");
    }

    proptest! {
        #[test]
        fn a_window_is_never_overfilled_and_opens_again_at_half(
            high in 1_usize..100,
            steps in prop::collection::vec((any::<bool>(), 1_usize..40), 1..200),
        ) {
            let window = CreditWindow::new(Credit { records: high, bytes: usize::MAX });
            let (mut held, mut must_wait) = (0, false);
            for (is_arrival, count) in steps {
                let free = window.free(Credit { records: held, bytes: 0 }).records;
                must_wait = held >= high || must_wait && held > high / 2;
                prop_assert_eq!(free, if must_wait { 0 } else { high - held });
                held = if is_arrival { held + count.min(free) } else { held.saturating_sub(count) };
                prop_assert!(held <= high);
            }
        }
    }
}
