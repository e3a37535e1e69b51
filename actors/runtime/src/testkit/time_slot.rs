//! Whose turn it is in virtual time.
//!
//! In a simulation no two participants act in the same millisecond: each acts only at moments `t` with `t mod 64` equal to
//! its own number. What one of them sets off has come to rest before the next acts, so no order between tasks that the
//! runtime leaves open can change a run.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// How many milliseconds there are between two turns of one participant, and the most participants of one simulation.
pub const SLOTS: u64 = 64;

/// One participant's turns.
#[derive(Clone, Copy, Debug)]
pub struct TimeSlot {
    epoch: Instant,
    number: u64,
}

impl TimeSlot {
    /// The turns of participant `number` (below [`SLOTS`]), counted from `epoch`.
    #[must_use]
    pub fn new(epoch: Instant, number: u64) -> Self {
        assert!(number < SLOTS, "a simulation has at most {SLOTS} participants");
        Self { epoch, number }
    }

    /// Waits for its first turn that is at least `pause` away, and later than now in any case.
    pub async fn wait(&self, pause: Duration) {
        let now_ms = self.epoch.elapsed().as_millis() as u64;
        let earliest = now_ms + (pause.as_millis() as u64).max(1);
        let turn = earliest + (self.number + SLOTS - earliest % SLOTS) % SLOTS;
        sleep_until(self.epoch + Duration::from_millis(turn)).await;
    }
}
