//! The engine's one clock: milliseconds since the Unix epoch that never go back.
//!
//! Anchored once to the wall, then driven by the monotonic clock: pauses are right though the wall clock is set, and the
//! times in dead letters are right to what the clock said at the start.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// See the module's text.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    started_ms: i64,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub fn start() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), started_ms: whole_ms(since_epoch) }
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        self.started_ms + whole_ms(self.started.elapsed())
    }
}

/// A duration in whole milliseconds.
pub(crate) fn whole_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
