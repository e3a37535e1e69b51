//! A bounded table of things that end by themselves.

use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;

/// A full table is searched for expired entries at most this often, in seconds.
const SWEEP_INTERVAL_SECONDS: u64 = 5;

/// A bounded table whose entries have an end. When it is full, the expired are removed; when it is still
/// full, the new entry is not kept.
pub(super) struct Expiring<K, V> {
    entries: DashMap<K, (V, u64)>,
    entries_max: usize,
    /// When the table was last searched for the expired, in Unix seconds.
    swept_at: AtomicU64,
}

impl<K: Eq + std::hash::Hash, V: Clone> Expiring<K, V> {
    pub(super) fn new(entries_max: usize) -> Self {
        Self { entries: DashMap::new(), entries_max, swept_at: AtomicU64::new(0) }
    }

    /// A copy, so that no guard of the map leaves this function.
    pub(super) fn get(&self, key: &K) -> Option<V> {
        self.entries.get(key).map(|entry| entry.0.clone())
    }

    pub(super) fn remove(&self, key: &K) {
        self.entries.remove(key);
    }

    pub(super) fn clear(&self) {
        self.entries.clear();
    }

    /// Whether the entry was kept.
    pub(super) fn insert(&self, key: K, value: V, until: u64, now: u64) -> bool {
        if self.entries.len() >= self.entries_max {
            self.sweep(now);
        }
        // Racing inserts may overshoot by as many threads: the bound is on memory, not an invariant.
        let has_room = self.entries.len() < self.entries_max;
        if has_room {
            self.entries.insert(key, (value, until));
        }
        has_room
    }

    /// Whether nothing is kept.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn sweep(&self, now: u64) {
        let swept_at = self.swept_at.load(Ordering::Relaxed);
        let is_due = now >= swept_at.saturating_add(SWEEP_INTERVAL_SECONDS);
        // One thread wins the exchange and sweeps; the others go on with a full table.
        if is_due && self.swept_at.compare_exchange(swept_at, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.entries.retain(|_, (_, until)| *until >= now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_bounded_and_make_room_from_the_expired() {
        let table = Expiring::new(2);
        assert!(table.insert(1, (), 10, 5));
        assert!(table.insert(2, (), 100, 5));
        assert!(!table.insert(3, (), 100, 6), "full of live entries");
        assert!(!table.insert(3, (), 100, 7), "swept a second ago");
        assert!(table.insert(3, (), 100, 11), "the first has expired");
        assert_eq!((table.entries.len(), table.get(&1)), (2, None));
    }
}
