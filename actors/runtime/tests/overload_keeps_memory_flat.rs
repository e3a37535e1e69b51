//! Many times more than it can do, for seconds: what is too much is refused at once, and memory stays where it was.
//! The load aims at ten times the capacity, from the same two cores; the test prints what it came to.
//!
//! Measured on Linux, where a process can read its own size.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use microcommerce_runtime::{AskError, Entities, EntitiesConfig};
use support::{Count, Counter, PATIENCE, System, command};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// What may be in flight. The rest is refused.
const IN_FLIGHT_MAX: usize = 1_000;
const ENTITIES: u64 = 1_000;
/// How long the load lasts, after a first part of it that fills every buffer and cache there is.
const WARM_UP: Duration = Duration::from_millis(1_500);
const OVERLOAD: Duration = Duration::from_millis(4_000);
/// An open loop: so many more per tick, whatever has become of those before.
const TICK: Duration = Duration::from_millis(2);
/// What may be added to the process meanwhile: SQLite's page cache of 64 MiB fills, and an entity keeps 24 bytes for each
/// command that it has seen. Unbounded queues would add ten times that: a waiting command takes more than half a KiB.
const GROWTH_MAX_BYTES: u64 = 128 << 20;

fn resident_bytes() -> u64 {
    // The second field is the resident set in pages of 4 KiB.
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

/// How many commands a second it does when no more are asked than may be in flight.
async fn capacity(system: &System) -> f64 {
    let (began, last) = (Instant::now(), Duration::from_millis(700));
    let clients = (0..IN_FLIGHT_MAX as u64 / 2).map(|client| {
        let counters = system.counters.clone();
        tokio::spawn(async move {
            let mut done = 0_u64;
            while began.elapsed() < last {
                let meta = command(u64::MAX / 2 + client * 10_000_000 + done);
                counters.ask(format!("e{}", (client + done) % ENTITIES), Count::Add(1), meta).await.unwrap();
                done += 1;
            }
            done
        })
    });
    let done = futures::future::join_all(clients.collect::<Vec<_>>()).await;
    done.into_iter().map(Result::unwrap).sum::<u64>() as f64 / began.elapsed().as_secs_f64()
}

/// Latencies counted in steps, so that measuring adds nothing to the memory that is measured.
struct Latencies(Vec<AtomicU64>);

impl Latencies {
    const STEP: Duration = Duration::from_micros(20);
    /// The last step is for everything that took longer.
    const STEPS: usize = 100_000;

    fn new() -> Arc<Self> {
        Arc::new(Self((0..Self::STEPS).map(|_| AtomicU64::new(0)).collect()))
    }

    fn note(&self, latency: Duration) {
        let step = (latency.as_micros() / Self::STEP.as_micros()) as usize;
        self.0[step.min(Self::STEPS - 1)].fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|step| step.load(Ordering::Relaxed)).sum()
    }

    /// What this part of them stayed below.
    fn at(&self, part: f64) -> Duration {
        let wanted = (self.count() as f64 * part) as u64;
        let mut seen = 0;
        let is_there = |step: &AtomicU64| {
            seen += step.load(Ordering::Relaxed);
            seen > wanted
        };
        Self::STEP * (self.0.iter().position(is_there).unwrap_or(Self::STEPS) as u32 + 1)
    }
}

/// Asks `count` commands at once. The refused are answered within this call; the others on tasks of their own.
async fn ask_all(
    counters: Entities<Counter>,
    first: u64,
    count: u64,
    refused: Arc<Latencies>,
    accepted: Arc<Latencies>,
) {
    let asked_at = Instant::now();
    for number in first..first + count {
        let counters = counters.clone();
        let mut ask =
            Box::pin(
                async move { counters.ask(format!("e{}", number % ENTITIES), Count::Add(1), command(number)).await },
            );
        match futures::poll!(&mut ask) {
            Poll::Ready(Err(AskError::Busy)) => refused.note(asked_at.elapsed()),
            // The commit was quicker than this thread.
            Poll::Ready(Ok(_)) => accepted.note(asked_at.elapsed()),
            Poll::Ready(Err(other)) => panic!("refused for another reason: {other:?}"),
            Poll::Pending => {
                let accepted = Arc::clone(&accepted);
                tokio::spawn(async move {
                    ask.await.unwrap();
                    accepted.note(asked_at.elapsed());
                });
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overload_is_refused_in_milliseconds_and_memory_stays_flat() {
    let directory = tempfile::tempdir().unwrap();
    let config = EntitiesConfig { shards: 2, in_flight_per_shard_max: IN_FLIGHT_MAX / 2, ..EntitiesConfig::default() };
    let system = System::start_with(directory.path(), config).await;
    let capacity = capacity(&system).await;
    let per_tick = (10.0 * capacity * TICK.as_secs_f64()).ceil() as u64;
    let (refused, accepted) = (Latencies::new(), Latencies::new());

    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let began = Instant::now();
    let (mut asked, mut after_warm_up) = (0, None);
    while began.elapsed() < WARM_UP + OVERLOAD {
        ticks.tick().await;
        if began.elapsed() >= WARM_UP && after_warm_up.is_none() {
            after_warm_up = Some((resident_bytes(), asked));
        }
        let (refused, accepted) = (Arc::clone(&refused), Arc::clone(&accepted));
        ask_all(system.counters.clone(), asked, per_tick, refused, accepted).await;
        asked += per_tick;
    }
    let (size_before, asked_before) = after_warm_up.unwrap();
    let growth = resident_bytes().saturating_sub(size_before);
    let give_up_at = Instant::now() + PATIENCE;
    while refused.count() + accepted.count() < asked {
        assert!(Instant::now() < give_up_at, "some were never answered");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let asked_per_second = (asked - asked_before) as f64 / OVERLOAD.as_secs_f64();
    println!(
        "can do {capacity:.0}/s, asked {:.0}/s; {} refused: p50 {:?}, p99 {:?}; {} accepted: p50 {:?}, p99 {:?}; \
         grew by {} KiB",
        asked_per_second,
        refused.count(),
        refused.at(0.5),
        refused.at(0.99),
        accepted.count(),
        accepted.at(0.5),
        accepted.at(0.99),
        growth / 1024,
    );
    assert!(asked_per_second > 3.0 * capacity && refused.count() > asked / 2, "it was an overload");
    assert!(refused.at(0.5) < Duration::from_millis(5));
    assert!(growth < GROWTH_MAX_BYTES, "grew by {growth} bytes");
    assert_eq!(system.counters.in_flight(), 0, "every permit was given back");
    let mut total = 0;
    for number in 0..ENTITIES {
        total += system.total(&format!("e{number}")).await as u64;
    }
    assert!(total >= accepted.count(), "what was accepted is there");
    system.stop().await;
}
