//! An entity that falls again and again is left alone, and is seen.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::time::Duration;

use microcommerce_runtime::{
    AskError, CommandId, Entities, EntitiesConfig, Gate,
    testkit::{Service, Simulation, simulate},
};
use support::{Count, Counter, VIEWS};
use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_secs(5);
const VIRTUAL_TIME_MAX: Duration = Duration::from_secs(3_600);

struct Scene {
    simulation: Simulation,
    service: Service<Entities<Counter>>,
    next: std::cell::Cell<u128>,
}

impl Scene {
    async fn set(simulation: Simulation) -> Self {
        let service = simulation
            .service("counting", VIEWS, |journal, roster| {
                let config = EntitiesConfig { shards: 1, ..EntitiesConfig::default() };
                let counters = Entities::<Counter>::new(journal, &Gate::new(1_000), config, roster);
                let shards = counters.shards();
                (counters, shards)
            })
            .await;
        Self { simulation, service, next: std::cell::Cell::new(0) }
    }

    fn counters(&self) -> Entities<Counter> {
        self.service.handle().unwrap()
    }

    async fn ask(&self, id: &str, command: Count) -> microcommerce_runtime::entities::Answer<Counter> {
        self.next.set(self.next.get() + 1);
        let meta = self.simulation.command(CommandId::from_u128(self.next.get()), PATIENCE);
        self.counters().ask(id, command, meta).await
    }

    fn failures(&self) -> u64 {
        self.service.roster.readings().iter().map(|reading| reading.failures).sum()
    }

    fn parked(&self) -> u64 {
        self.service.roster.readings().iter().map(|reading| reading.parked).sum()
    }

    /// Nobody sleeps on a stream that is tampered with: what is in memory would hide it.
    async fn tamper(&self, sql: &str) {
        self.counters().inject_sleep();
        sleep(Duration::from_millis(100)).await;
        self.service.disk.tamper(sql).unwrap();
    }
}

fn scene<Fut: Future<Output = ()>>(play: impl FnOnce(Scene) -> Fut) {
    simulate(1, VIRTUAL_TIME_MAX, |simulation| async { play(Scene::set(simulation).await).await });
}

const CORRUPT: &str = "UPDATE events SET payload = '{\"Unheard\":{}}' WHERE stream = 'counter/a' AND version = 1";
const REPAIR: &str =
    "UPDATE events SET payload = '{\"Added\":{\"amount\":1}}' WHERE stream = 'counter/a' AND version = 1";

#[test]
fn an_entity_whose_stream_cannot_be_read_is_parked_and_seen_and_no_other_is_disturbed() {
    scene(|scene| async move {
        scene.ask("a", Count::Add(1)).await.unwrap();
        scene.tamper(CORRUPT).await;
        for _ in 0..5 {
            assert_eq!(scene.ask("a", Count::Add(1)).await, Err(AskError::Unavailable));
        }
        // From here on nothing is woken: the answer is there at once.
        let asked_at = Instant::now();
        for _ in 0..100 {
            let answer = scene.ask("a", Count::Add(1)).await;
            assert!(matches!(answer, Err(AskError::Parked { retry_after }) if retry_after <= Duration::from_secs(30)));
        }
        assert_eq!(asked_at.elapsed(), Duration::ZERO);
        assert_eq!((scene.failures(), scene.parked()), (5, 1));
        let parked = scene.counters().parked();
        assert_eq!((parked.len(), &*parked[0].id, parked[0].falls), (1, "a", 5));
        assert!(parked[0].last_failure.contains("counter/a version 1"), "{}", parked[0].last_failure);
        let read = scene.counters().read("a", Instant::now() + PATIENCE, |_, _| ()).await;
        assert!(matches!(read, Err(AskError::Parked { .. })));
        scene.ask("b", Count::Add(1)).await.unwrap();
        assert_eq!(scene.service.disk.events().unwrap().len(), 2, "nothing was appended to what cannot be read");
        scene.service.stop().await;
    });
}

#[test]
fn a_parked_entity_gets_one_trial_after_its_time_and_works_again_once_it_is_repaired() {
    scene(|scene| async move {
        scene.ask("a", Count::Add(1)).await.unwrap();
        scene.tamper(CORRUPT).await;
        for _ in 0..5 {
            assert_eq!(scene.ask("a", Count::Add(1)).await, Err(AskError::Unavailable));
        }
        sleep(Duration::from_secs(30)).await;
        assert_eq!(scene.ask("a", Count::Add(1)).await, Err(AskError::Unavailable), "the trial, which failed");
        assert!(matches!(scene.ask("a", Count::Add(1)).await, Err(AskError::Parked { .. })));
        assert_eq!((scene.failures(), scene.counters().parked()[0].falls), (6, 6));
        scene.service.disk.tamper(REPAIR).unwrap();
        sleep(Duration::from_secs(30)).await;
        assert_eq!(scene.ask("a", Count::Add(1)).await.unwrap().version, 2, "the trial, which did not");
        assert_eq!(scene.ask("a", Count::Add(1)).await.unwrap().version, 3);
        assert!(scene.counters().parked().is_empty());
        assert_eq!(scene.parked(), 0);
        scene.service.stop().await;
    });
}

#[test]
fn an_operator_unparks_what_has_been_repaired() {
    scene(|scene| async move {
        scene.ask("a", Count::Add(1)).await.unwrap();
        scene.tamper(CORRUPT).await;
        for _ in 0..5 {
            assert!(scene.ask("a", Count::Add(1)).await.is_err());
        }
        scene.service.disk.tamper(REPAIR).unwrap();
        assert!(matches!(scene.ask("a", Count::Add(1)).await, Err(AskError::Parked { .. })));
        assert!(scene.counters().unpark("a") && !scene.counters().unpark("a"));
        assert_eq!(scene.ask("a", Count::Add(1)).await.unwrap().version, 2);
        scene.service.stop().await;
    });
}

#[test]
fn what_panics_now_and_then_is_not_poison() {
    scene(|scene| async move {
        for _ in 0..20 {
            for _ in 0..4 {
                assert_eq!(scene.ask("a", Count::Explode).await, Err(AskError::Unavailable));
            }
            scene.ask("a", Count::Add(1)).await.unwrap();
        }
        for _ in 0..5 {
            assert_eq!(scene.ask("a", Count::Explode).await, Err(AskError::Unavailable));
        }
        assert!(matches!(scene.ask("a", Count::Add(1)).await, Err(AskError::Parked { .. })));
        scene.service.stop().await;
    });
}

#[test]
fn what_its_journal_refuses_is_not_held_against_an_entity() {
    scene(|scene| async move {
        scene.ask("a", Count::Add(1)).await.unwrap();
        scene.service.faults.refuse_each_with(1.0);
        for _ in 0..20 {
            assert_eq!(scene.ask("a", Count::Add(1)).await, Err(AskError::Unavailable));
        }
        scene.service.faults.heal();
        assert_eq!(scene.ask("a", Count::Add(1)).await.unwrap().version, 2);
        assert_eq!(scene.parked(), 0);
        scene.service.stop().await;
    });
}

#[test]
fn the_record_outlives_the_shard() {
    scene(|scene| async move {
        for _ in 0..5 {
            assert_eq!(scene.ask("a", Count::Explode).await, Err(AskError::Unavailable));
        }
        scene.service.kill("counter-shard-0");
        sleep(Duration::from_millis(100)).await;
        assert!(matches!(scene.ask("a", Count::Add(1)).await, Err(AskError::Parked { .. })));
        scene.ask("b", Count::Add(1)).await.unwrap();
        scene.service.stop().await;
    });
}
