//! Whether the bus can be reached, decided from what happened to our own records. Pure; the rules are told in [`super`].

use std::time::{Duration, Instant};

use crate::health::transport::BusUnreachable;

/// Without an acknowledgement for this long the bus counts as unreachable. Six pings: long enough for a broker's pause of a second,
/// short enough to be about a second.
pub const SILENCE_MS_MAX: u64 = 1_500;

/// What is known of the way to the broker.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkEvidence {
    last_acknowledged: Option<Instant>,
    last_all_down: Option<Instant>,
}

impl LinkEvidence {
    /// The broker acknowledged a record.
    pub fn acknowledged(&mut self, now: Instant) {
        self.last_acknowledged = Some(now);
    }

    /// The client has lost every broker it knows.
    pub fn all_brokers_down(&mut self, now: Instant) {
        self.last_all_down = Some(now);
    }

    /// Whether the bus can be reached at `now`.
    ///
    /// # Errors
    /// [`BusUnreachable`] with the reason.
    pub fn judge(&self, now: Instant) -> Result<(), BusUnreachable> {
        match (self.last_acknowledged, self.last_all_down) {
            (None, None) => Err(BusUnreachable::NotYet),
            (None, Some(_)) => Err(BusUnreachable::NoBroker),
            (Some(acknowledged), Some(down)) if down > acknowledged => Err(BusUnreachable::NoBroker),
            (Some(acknowledged), _)
                if now.saturating_duration_since(acknowledged) > Duration::from_millis(SILENCE_MS_MAX) =>
            {
                Err(BusUnreachable::Silent)
            }
            (Some(_), _) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Acknowledged,
        AllDown,
    }
    use Event::{Acknowledged, AllDown};

    fn judge(events: &[(u64, Event)], at_ms: u64) -> Result<(), BusUnreachable> {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut evidence = LinkEvidence::default();
        for (ms, event) in events {
            match event {
                Acknowledged => evidence.acknowledged(at(*ms)),
                AllDown => evidence.all_brokers_down(at(*ms)),
            }
        }
        evidence.judge(at(at_ms))
    }

    #[test]
    fn the_verdict_by_table() {
        use BusUnreachable::{NoBroker, NotYet, Silent};
        type Case = (&'static str, &'static [(u64, Event)], u64, Result<(), BusUnreachable>);
        let table: [Case; 8] = [
            ("nothing known", &[], 0, Err(NotYet)),
            ("never reached", &[(10, AllDown)], 5_000, Err(NoBroker)),
            ("just reached", &[(10, Acknowledged)], 10, Ok(())),
            ("at the edge of silence", &[(0, Acknowledged)], SILENCE_MS_MAX, Ok(())),
            ("silent", &[(0, Acknowledged)], SILENCE_MS_MAX + 1, Err(Silent)),
            ("killed: known at once", &[(0, Acknowledged), (1, AllDown)], 2, Err(NoBroker)),
            ("back", &[(0, Acknowledged), (1, AllDown), (900, Acknowledged)], 901, Ok(())),
            ("a false alarm is overruled by the next ping", &[(1, AllDown), (251, Acknowledged)], 300, Ok(())),
        ];
        for (case, events, at_ms, verdict) in table {
            assert_eq!(judge(events, at_ms), verdict, "{case}");
        }
    }

    proptest! {
        #[test]
        fn reachable_always_means_a_recent_acknowledgement(
            steps in proptest::collection::vec((0_u64..2_000, any::<bool>()), 0..20), wait_ms in 0_u64..3_000,
        ) {
            let mut now_ms = 0;
            let events: Vec<_> = steps.iter().map(|(wait_ms, acknowledged)| {
                now_ms += wait_ms;
                (now_ms, if *acknowledged { Acknowledged } else { AllDown })
            }).collect();
            let at_ms = now_ms + wait_ms;
            let recent = events.iter().any(|(ms, event)| matches!(event, Acknowledged) && at_ms - ms <= SILENCE_MS_MAX);
            prop_assert!(judge(&events, at_ms).is_err() || recent);
        }
    }
}
