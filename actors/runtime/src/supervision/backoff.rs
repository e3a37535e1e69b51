//! How long to wait before a restart: exponential, with full jitter over the upper half, forgotten after a quiet time.

use std::time::Duration;

/// The pauses between restarts of one child.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// The first pause.
    pub first: Duration,
    /// No pause is longer.
    pub max: Duration,
    /// A child that has run for this long starts again from the first pause.
    pub reset_after: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(50), max: Duration::from_secs(10), reset_after: Duration::from_secs(30) }
    }
}

impl Backoff {
    /// The pause before the restart that follows the `failures`-th fall in a row (from 1). `jitter` in `0..=1` spreads it
    /// between half of the full pause and all of it, so that what fell together does not come back together.
    #[must_use]
    pub fn pause(&self, failures: u32, jitter: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        let full = self.first.saturating_mul(1 << doublings).min(self.max);
        full.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_jitter_takes_up_to_half() {
        let backoff = Backoff { first: Duration::from_millis(50), max: Duration::from_secs(10), ..Backoff::default() };
        let full_ms = [(0, 50), (1, 50), (2, 100), (3, 200), (4, 400), (8, 6_400), (9, 10_000), (u32::MAX, 10_000)];
        for (failures, full_ms) in full_ms {
            let full = Duration::from_millis(full_ms);
            assert_eq!(backoff.pause(failures, 1.0), full, "{failures}");
            assert_eq!(backoff.pause(failures, 0.5), full.mul_f64(0.75), "{failures}");
            assert_eq!(backoff.pause(failures, 0.0), full / 2, "{failures}");
        }
        let jitter_out_of_range = [backoff.pause(1, -1.0), backoff.pause(1, 2.0)];
        assert_eq!(jitter_out_of_range, [Duration::from_millis(25), Duration::from_millis(50)]);
        let patient = Backoff { first: Duration::from_millis(1), max: Duration::from_secs(u64::MAX), ..backoff };
        assert_eq!(patient.pause(21, 1.0), Duration::from_millis(1 << 20));
        assert_eq!(patient.pause(22, 1.0), Duration::from_millis(1 << 20), "doubled twenty times at most");
    }

    proptest! {
        #[test]
        fn a_pause_grows_and_never_passes_its_bound(failures in 1_u32..100, jitter in 0.0_f64..=1.0) {
            let backoff = Backoff::default();
            let pause = backoff.pause(failures, jitter);
            prop_assert!(pause <= backoff.max);
            prop_assert!(pause >= backoff.first / 2);
            prop_assert!(backoff.pause(failures + 1, jitter) >= pause);
        }
    }
}
