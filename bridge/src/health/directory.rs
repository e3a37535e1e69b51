//! Who is healthy, decided from the pongs alone.
//!
//! **Owns** the last pong of every service. Values in, values out: no clock, no thread, no topic; `now` is an argument.
//! [`super::HealthBoard`] keeps one behind a lock; transports feed it, readers ask it.
//!
//! # What is fresh
//!
//! A service is responding while its last pong is fresh. The gateway pings every 250 ms ([`super::PING_INTERVAL_MS`]).
//!
//! - A pong of ours is answered within milliseconds and is fresh for [`OUR_PONG_FRESH_MS`] = 800 ms: three pings may get lost,
//!   and a death still shows within one second.
//! - A pong of an original service (none of our fields) is written about a second late, in batches, and is fresh for
//!   [`ORIGINAL_PONG_FRESH_MS`] = 2,500 ms: two and a half of its batches.
//!
//! Names come from the pong's `service` field, never from a record's key: an original answers under any key.
//!
//! A service may have several instances, each with pongs of its own. The service is shown as its best one: healthy before
//! responding before silent, and the latest of these. It is unhealthy only when all of them are.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;

use super::wire::{self, BadPong, Pong, PongDetails};

/// How long a pong with our extra fields counts: three lost pings and 50 ms, and under one second.
pub const OUR_PONG_FRESH_MS: u64 = 800;
const _: () = assert!(OUR_PONG_FRESH_MS < 1_000, "a death that follows a pong at once must show within a second");

/// How long a pong of an original service counts: its writer sends batches about one second apart.
pub const ORIGINAL_PONG_FRESH_MS: u64 = 2_500;

/// A service that nobody expects is forgotten after this silence, so that a wrong name does not stay for ever; and so is an
/// instance of an expected one, save the last that was heard.
pub const FORGOTTEN_MS: u64 = 60_000;

/// How many services beyond the expected ones are remembered. More of them are counted as bad pongs: the topic is open to
/// anyone, this process's memory is not.
pub const STRANGERS_MAX: usize = 64;

/// How many instances of one service are remembered; of more, those heard last.
pub const INSTANCES_MAX: usize = 32;

/// The last pong of every service, and which services there should be.
#[derive(Debug)]
pub struct HealthDirectory {
    expected: Vec<String>,
    /// By service; its instances in no order, never an empty list.
    heard: BTreeMap<String, Vec<Heard>>,
    bad_pongs: u64,
}

#[derive(Debug)]
struct Heard {
    pong: Pong,
    at: Instant,
}

/// Why a pong was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// It is no pong.
    #[error(transparent)]
    Bad(#[from] BadPong),
    /// It is a pong of one more unexpected service than [`STRANGERS_MAX`].
    #[error("too many unexpected services answer")]
    TooManyStrangers,
}

/// The health of all services at one moment. Its JSON is the frozen answer of `GET /api/v1/services/health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HealthReport {
    /// The expected services in the order in which they were named, then the others by name.
    pub services: Vec<ServiceHealth>,
    /// How many services are listed.
    pub total_services: usize,
    /// How many of them answered lately, whatever they said.
    pub responding_services: usize,
}

/// One service in a [`HealthReport`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceHealth {
    /// What its fresh pong says; `unhealthy` when it has no fresh pong.
    pub status: String,
    /// Its name.
    pub service: String,
    /// The time in its last pong, fresh or not; none if it never answered.
    #[serde(serialize_with = "timestamp_or_null")]
    pub timestamp: Option<Timestamp>,
    /// The other fields of its last pong, fresh or not.
    #[serde(flatten)]
    pub details: PongDetails,
    /// Whether its last pong is fresh.
    #[serde(skip)]
    pub responding: bool,
}

impl ServiceHealth {
    /// True when it answered lately and said that it is healthy.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.responding && self.status == wire::HEALTHY
    }
}

impl HealthReport {
    /// The entry of one service, if it is listed.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&ServiceHealth> {
        self.services.iter().find(|health| health.service == name)
    }
}

impl HealthDirectory {
    /// A directory that has heard nobody yet. `expected` are listed whether they answer or not; repeated names count once.
    #[must_use]
    pub fn new(expected: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let mut names: Vec<String> = Vec::new();
        for name in expected.into_iter().map(Into::into) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Self { expected: names, heard: BTreeMap::new(), bad_pongs: 0 }
    }

    /// The services that should be there.
    #[must_use]
    pub fn expected(&self) -> &[String] {
        &self.expected
    }

    /// How many records on the pong topic were none, since the start.
    #[must_use]
    pub fn bad_pongs(&self) -> u64 {
        self.bad_pongs
    }

    /// Takes one record of the pong topic that arrived at `now`.
    ///
    /// # Errors
    /// [`Rejected`] when it tells nothing; it is counted and changes nothing else.
    pub fn record(&mut self, bytes: &[u8], now: Instant) -> Result<(), Rejected> {
        let taken = self.take(bytes, now);
        if taken.is_err() {
            self.bad_pongs += 1;
        }
        taken
    }

    fn take(&mut self, bytes: &[u8], now: Instant) -> Result<(), Rejected> {
        let pong = Pong::from_bytes(bytes)?;
        self.forget_long_silent(now);
        let is_new_stranger = !self.heard.contains_key(&pong.service) && !self.expected.contains(&pong.service);
        if is_new_stranger && self.strangers() >= STRANGERS_MAX {
            return Err(Rejected::TooManyStrangers);
        }
        let instances = self.heard.entry(pong.service.clone()).or_default();
        instances.retain(|heard| heard.pong.details.instance != pong.details.instance);
        if instances.len() >= INSTANCES_MAX {
            instances.sort_by_key(|heard| heard.at);
            instances.remove(0);
        }
        instances.push(Heard { pong, at: now });
        Ok(())
    }

    /// The health of all services at `now`.
    #[must_use]
    pub fn report(&self, now: Instant) -> HealthReport {
        let expected = self
            .expected
            .iter()
            .map(|name| describe(name, self.heard.get(name).and_then(|heard| best(heard, now)), now));
        let strangers = self.heard.iter().filter(|(name, _)| !self.expected.contains(name));
        let strangers = strangers
            .filter_map(|(name, instances)| Some((name, best(instances, now)?)))
            .filter(|(_, heard)| !heard.is_long_silent(now))
            .map(|(name, heard)| describe(name, Some(heard), now));
        let services: Vec<_> = expected.chain(strangers).collect();
        HealthReport {
            total_services: services.len(),
            responding_services: services.iter().filter(|health| health.responding).count(),
            services,
        }
    }

    /// What one service said last, fresh or not; nothing where it was never heard.
    #[must_use]
    pub fn last_heard(&self, service: &str, now: Instant) -> Option<ServiceHealth> {
        let heard = best(self.heard.get(service)?, now)?;
        Some(describe(service, Some(heard), now))
    }

    fn strangers(&self) -> usize {
        self.heard.keys().filter(|name| !self.expected.contains(name)).count()
    }

    fn forget_long_silent(&mut self, now: Instant) {
        let expected = &self.expected;
        self.heard.retain(|name, instances| {
            let last = instances.iter().map(|heard| heard.at).max();
            let is_expected = expected.contains(name);
            instances.retain(|heard| !heard.is_long_silent(now) || (is_expected && Some(heard.at) == last));
            !instances.is_empty()
        });
    }
}

impl Heard {
    fn is_fresh(&self, now: Instant) -> bool {
        let fresh_ms = if self.pong.details.is_empty() { ORIGINAL_PONG_FRESH_MS } else { OUR_PONG_FRESH_MS };
        now.saturating_duration_since(self.at) <= Duration::from_millis(fresh_ms)
    }

    /// Which instance speaks for its service: the greatest.
    fn rank(&self, now: Instant) -> (bool, bool, Instant) {
        let is_fresh = self.is_fresh(now);
        (is_fresh && self.pong.status == wire::HEALTHY, is_fresh, self.at)
    }

    fn is_long_silent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) > Duration::from_millis(FORGOTTEN_MS)
    }
}

fn best(instances: &[Heard], now: Instant) -> Option<&Heard> {
    instances.iter().max_by_key(|heard| heard.rank(now))
}

fn describe(name: &str, heard: Option<&Heard>, now: Instant) -> ServiceHealth {
    let responding = heard.is_some_and(|heard| heard.is_fresh(now));
    ServiceHealth {
        status: match heard {
            Some(heard) if responding => heard.pong.status.clone(),
            _ => wire::UNHEALTHY.to_owned(),
        },
        service: name.to_owned(),
        timestamp: heard.map(|heard| heard.pong.timestamp),
        details: heard.map(|heard| heard.pong.details.clone()).unwrap_or_default(),
        responding,
    }
}

fn timestamp_or_null<S: serde::Serializer>(timestamp: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match timestamp {
        Some(timestamp) => wire::seconds_utc::serialize(timestamp, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: &str = "a-service";
    const B: &str = "b-service";

    fn pong(service: &str, status: &str, details: &str) -> Vec<u8> {
        format!(r#"{{"status":"{status}","service":"{service}","timestamp":"2024-01-15T10:30:00Z"{details}}}"#)
            .into_bytes()
    }

    fn ours(service: &str) -> Vec<u8> {
        pong(service, wire::HEALTHY, r#","instance":"i-1","uptime_s":3"#)
    }

    fn originals(service: &str) -> Vec<u8> {
        pong(service, wire::HEALTHY, "")
    }

    fn after(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn a_pong_counts_for_exactly_its_kinds_time() {
        let table = [(ours(A), OUR_PONG_FRESH_MS), (originals(A), ORIGINAL_PONG_FRESH_MS)];
        for (bytes, fresh_ms) in table {
            for (age_ms, healthy) in [(0, true), (fresh_ms, true), (fresh_ms + 1, false), (fresh_ms * 10, false)] {
                let start = Instant::now();
                let mut directory = HealthDirectory::new([A]);
                directory.record(&bytes, start).unwrap();
                let report = directory.report(after(start, age_ms));
                assert_eq!(report.services[0].is_healthy(), healthy, "after {age_ms} ms of {fresh_ms}");
                assert_eq!(report.responding_services, usize::from(healthy));
            }
        }
    }

    #[test]
    fn the_json_is_the_frozen_one() {
        let start = Instant::now();
        let mut directory = HealthDirectory::new([A, B]);
        directory.record(&originals(A), start).unwrap();
        let json = serde_json::to_string(&directory.report(start)).unwrap();
        assert_eq!(
            json,
            r#"{"services":[{"status":"healthy","service":"a-service","timestamp":"2024-01-15T10:30:00Z"},"#.to_owned()
                + r#"{"status":"unhealthy","service":"b-service","timestamp":null}],"total_services":2,"responding_services":1}"#
        );
    }

    #[test]
    fn a_silent_service_keeps_its_last_time_and_details() {
        let start = Instant::now();
        let mut directory = HealthDirectory::new([A]);
        directory.record(&ours(A), start).unwrap();
        let report = directory.report(after(start, OUR_PONG_FRESH_MS + 1));
        let health = report.service(A).unwrap();
        assert_eq!((health.status.as_str(), health.responding), (wire::UNHEALTHY, false));
        assert_eq!(health.timestamp, Some("2024-01-15T10:30:00Z".parse().unwrap()));
        assert_eq!(health.details.instance.as_deref(), Some("i-1"));
    }

    #[test]
    fn a_service_that_says_it_is_unwell_is_shown_with_its_own_word_and_counts_as_responding() {
        for status in ["unhealthy", "degraded", "draining"] {
            let start = Instant::now();
            let mut directory = HealthDirectory::new([A]);
            directory.record(&pong(A, status, ""), start).unwrap();
            let report = directory.report(start);
            assert_eq!(report.services[0].status, status);
            assert!(!report.services[0].is_healthy());
            assert_eq!(report.responding_services, 1);
        }
    }

    #[test]
    fn an_unexpected_service_is_listed_after_the_expected_ones_until_it_is_long_silent() {
        let start = Instant::now();
        let mut directory = HealthDirectory::new([B]);
        directory.record(&ours(A), start).unwrap();
        let names =
            |at: Instant| directory.report(at).services.into_iter().map(|health| health.service).collect::<Vec<_>>();
        assert_eq!(names(start), [B, A]);
        assert_eq!(names(after(start, FORGOTTEN_MS)), [B, A]);
        assert_eq!(names(after(start, FORGOTTEN_MS + 1)), [B]);
    }

    #[test]
    fn bad_pongs_are_counted_and_change_nothing() {
        let start = Instant::now();
        let mut directory = HealthDirectory::new([A]);
        directory.record(&ours(A), start).unwrap();
        let before = directory.report(start);
        for bad in [&b""[..], b"{}", b"ping", b"\xff\xfe"] {
            assert!(directory.record(bad, after(start, 1)).is_err());
        }
        assert_eq!(directory.report(start), before);
        assert_eq!(directory.bad_pongs(), 4);
    }

    #[test]
    fn strangers_cannot_fill_the_memory_nor_push_out_the_expected() {
        let start = Instant::now();
        let mut directory = HealthDirectory::new([A]);
        for number in 0..STRANGERS_MAX * 2 {
            let _ = directory.record(&ours(&format!("stranger-{number}")), start);
        }
        assert_eq!(directory.bad_pongs(), STRANGERS_MAX as u64);
        directory.record(&ours(A), start).unwrap();
        assert_eq!(directory.report(start).total_services, STRANGERS_MAX + 1);
        // room again once they are long silent
        let later = after(start, FORGOTTEN_MS + 1);
        directory.record(&ours("newcomer"), later).unwrap();
        assert_eq!(directory.report(later).total_services, 2);
    }

    #[test]
    fn a_service_is_as_well_as_its_best_instance() {
        let start = Instant::now();
        let mut directory = HealthDirectory::new([A]);
        let says = |instance: &str, status: &str| pong(A, status, &format!(r#","instance":"{instance}""#));
        directory.record(&says("one", "healthy"), start).unwrap();
        directory.record(&says("two", "draining"), after(start, 100)).unwrap();
        let shown = |directory: &HealthDirectory, ms| {
            let health = directory.report(after(start, ms)).services.remove(0);
            (health.status, health.details.instance.unwrap())
        };
        assert_eq!(shown(&directory, 200), ("healthy".into(), "one".into()));
        assert_eq!(shown(&directory, OUR_PONG_FRESH_MS + 50), ("draining".into(), "two".into()), "one is silent");
        assert_eq!(shown(&directory, OUR_PONG_FRESH_MS + 101), ("unhealthy".into(), "two".into()), "all are silent");
        // much later only the last that was heard is remembered, and only until another is
        directory.record(&says("three", "healthy"), after(start, FORGOTTEN_MS * 2)).unwrap();
        assert_eq!(directory.heard[A].len(), 2);
        directory.record(&says("three", "healthy"), after(start, FORGOTTEN_MS * 2 + 1)).unwrap();
        assert_eq!(directory.heard[A].len(), 1);
    }

    #[test]
    fn of_too_many_instances_the_longest_silent_are_dropped() {
        let start = Instant::now();
        let mut directory = HealthDirectory::new([A]);
        for number in 0..INSTANCES_MAX as u64 + 5 {
            let bytes = pong(A, wire::HEALTHY, &format!(r#","instance":"{number}""#));
            directory.record(&bytes, after(start, number)).unwrap();
        }
        assert_eq!(directory.heard[A].len(), INSTANCES_MAX);
        assert!(directory.heard[A].iter().all(|heard| heard.at >= after(start, 5)));
    }

    #[test]
    fn a_name_given_twice_is_one_service() {
        assert_eq!(HealthDirectory::new([A, B, A]).expected(), [A, B]);
    }

    proptest! {
        /// Model: a service responds exactly while the last pong of one of its instances is not older than its kind allows.
        #[test]
        fn the_report_agrees_with_a_simple_model(events in proptest::collection::vec((0_usize..3, any::<bool>(), 0_u64..1_200), 0..60)) {
            let names = [A, B, "stranger"];
            let start = Instant::now();
            let mut now_ms = 0;
            let mut directory = HealthDirectory::new([A, B]);
            // the original's instance and ours
            let mut model: [[Option<u64>; 2]; 3] = Default::default();
            let fresh_ms = [ORIGINAL_PONG_FRESH_MS, OUR_PONG_FRESH_MS];
            for (who, is_ours, wait_ms) in events {
                let bytes = if is_ours { ours(names[who]) } else { originals(names[who]) };
                directory.record(&bytes, after(start, now_ms)).unwrap();
                model[who][usize::from(is_ours)] = Some(now_ms);
                now_ms += wait_ms;
                let report = directory.report(after(start, now_ms));
                let mut responding = 0;
                for (name, heard) in names.iter().zip(&model) {
                    let expected = heard.iter().zip(fresh_ms).any(|(at, fresh_ms)| at.is_some_and(|at_ms| now_ms - at_ms <= fresh_ms));
                    prop_assert_eq!(report.service(name).is_some_and(ServiceHealth::is_healthy), expected);
                    responding += usize::from(expected);
                }
                prop_assert_eq!(report.responding_services, responding);
                prop_assert_eq!(report.total_services, report.services.len());
            }
        }
    }
}
