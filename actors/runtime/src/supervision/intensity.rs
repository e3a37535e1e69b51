//! How often is too often: restarts counted over a sliding window.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// At most `restarts_max` restarts within `window`.
#[derive(Clone, Copy, Debug)]
pub struct Intensity {
    /// Restarts allowed in the window.
    pub restarts_max: usize,
    /// The window's length.
    pub window: Duration,
}

impl Default for Intensity {
    fn default() -> Self {
        Self { restarts_max: 10, window: Duration::from_secs(10) }
    }
}

/// The restarts of late.
#[derive(Debug, Default)]
pub struct RestartLog(VecDeque<Instant>);

impl RestartLog {
    /// Notes a restart at `now`; false when that is one too many.
    pub fn note(&mut self, intensity: &Intensity, now: Instant) -> bool {
        while self.0.front().is_some_and(|&at| now.duration_since(at) >= intensity.window) {
            self.0.pop_front();
        }
        self.0.push_back(now);
        self.0.len() <= intensity.restarts_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_beyond_the_intensity_are_too_many_until_the_window_has_passed() {
        let intensity = Intensity { restarts_max: 2, window: Duration::from_secs(10) };
        let (mut log, start) = (RestartLog::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(log.note(&intensity, at(0)));
        assert!(log.note(&intensity, at(1)));
        assert!(!log.note(&intensity, at(2)));
        assert!(log.note(&intensity, at(11)), "the restarts of seconds 0 and 1 have left the window");
        assert!(!log.note(&intensity, at(11)));
    }
}
