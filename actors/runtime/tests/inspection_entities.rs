//! What is seen of entities, and what becomes of one that is in a message for too long.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use microcommerce_runtime::{
    AskError, CommandId, Entities, EntitiesConfig, Gate, Journal, JournalError, Position, Recorded, Roster, Row,
    SqlValue,
    inspection::{Changes, EntityEvent, EntityState, What},
    journal::{
        Append, Loaded, RecordedOutcome, Settle,
        contradictions::Contradictions,
        identity::{LogIdentity, LogMark},
        sqlite::{SqliteJournal, SqliteOptions},
    },
    supervision::{Supervisor, SupervisorSpec},
};
use ractor::Actor;
use support::{Count, Counter, PATIENCE, System, VIEWS, command};
use tokio::{
    sync::{Semaphore, oneshot, watch},
    time::{Instant, timeout},
};

fn one_shard() -> EntitiesConfig {
    EntitiesConfig { shards: 1, stuck_after: Duration::from_millis(50), ..EntitiesConfig::default() }
}

/// Makes the entity `id` block its thread until the sender is gone, and waits until it does.
async fn block(counters: &Entities<Counter>, id: &'static str) -> mpsc::Sender<()> {
    let (release, blocked) = mpsc::channel::<()>();
    let (begin, begun) = oneshot::channel();
    let counters = counters.clone();
    tokio::spawn(async move {
        let _ = counters
            .read(id, Instant::now() + PATIENCE, move |_, _| {
                let _ = begin.send(());
                let _ = blocked.recv();
            })
            .await;
    });
    timeout(PATIENCE, begun).await.unwrap().unwrap();
    release
}

async fn next_of_an_entity(changes: &mut Changes) -> (&'static str, EntityEvent) {
    loop {
        match timeout(PATIENCE, changes.next()).await.unwrap().unwrap().what {
            What::Actor(_) => {}
            What::EntityFell(event) => return ("fell", event),
            What::EntityStuck(event) => return ("stuck", event),
            What::EntityParked(event) => return ("parked", event),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stuck_entity_is_refused_at_once_disturbs_no_other_and_wakes_with_the_truth() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start_with(directory.path(), one_shard()).await;
    system.counters.ask("a", Count::Add(1), command(1)).await.unwrap();
    let (_, mut changes) = system.roster.follow();
    let release = block(&system.counters, "a").await;
    let (what, event) = next_of_an_entity(&mut changes).await;
    assert_eq!((what, &*event.id, &*event.shard), ("stuck", "a", "counter-shard-0"));

    let awake = system.roster.awake(10, Instant::now() + PATIENCE).await;
    assert_eq!((&*awake[0].id, awake[0].state), ("a", EntityState::Stuck));
    assert!(awake[0].message_age_ms.unwrap() >= 50);
    let asked_at = Instant::now();
    assert_eq!(system.counters.ask("a", Count::Add(1), command(2)).await.unwrap_err(), AskError::Unavailable);
    assert!(asked_at.elapsed() < PATIENCE / 2, "it was not made to wait for its deadline");
    system.counters.ask("b", Count::Add(5), command(3)).await.unwrap();
    assert_eq!(system.roster.readings()[0].stuck, 1);

    drop(release);
    let (what, event) = next_of_an_entity(&mut changes).await;
    assert_eq!((what, &*event.id), ("fell", "a"));
    assert!(event.reason.starts_with("stuck in one message"), "{}", event.reason);
    system.counters.ask("a", Count::Add(1), command(2)).await.unwrap();
    assert_eq!(system.total("a").await, 2);
    system.stop().await;
}

#[tokio::test]
async fn an_entitys_fall_is_among_the_changes() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start_with(directory.path(), one_shard()).await;
    let (_, mut changes) = system.roster.follow();
    assert!(system.counters.ask("a", Count::Explode, command(1)).await.is_err());
    let (what, event) = next_of_an_entity(&mut changes).await;
    assert_eq!((what, &*event.id), ("fell", "a"));
    assert!(event.reason.contains("asked to explode"), "{}", event.reason);
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_awake_are_shown_within_the_limit_the_longest_in_a_message_first_then_the_deepest_queue() {
    let directory = tempfile::tempdir().unwrap();
    let config = EntitiesConfig { shards: 3, ..EntitiesConfig::default() };
    let system = System::start_with(directory.path(), config).await;
    for number in 0..200 {
        system.counters.ask(format!("e{number}"), Count::Add(1), command(number)).await.unwrap();
    }
    let release = block(&system.counters, "e7").await;
    let queued: Vec<_> = (0..5)
        .map(|number| {
            let counters = system.counters.clone();
            tokio::spawn(async move { counters.ask("e7", Count::Add(1), command(1_000 + number)).await })
        })
        .collect();
    let deadline = Instant::now() + PATIENCE;
    let seen = loop {
        let seen = system.roster.awake(20, deadline).await;
        if seen[0].queue_depth == 5 {
            break seen;
        }
        assert!(Instant::now() < deadline, "{:?}", seen[0]);
        tokio::task::yield_now().await;
    };
    assert_eq!((seen.len(), &*seen[0].id, seen[0].state), (20, "e7", EntityState::Running));
    assert!(seen.windows(2).all(|pair| pair[0].message_age_ms >= pair[1].message_age_ms));
    assert_eq!(seen[0].handled, 2, "the first command, and the read it is in");
    assert_eq!(system.roster.awake(usize::MAX, deadline).await.len(), 200);
    drop(release);
    for answer in queued {
        answer.await.unwrap().unwrap();
    }
    system.stop().await;
}

#[tokio::test]
async fn queues_are_empty_and_counts_right_when_all_is_answered() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start_with(directory.path(), one_shard()).await;
    let asks =
        (0..1_000).map(|number| system.counters.ask(format!("e{}", number % 10), Count::Add(1), command(number)));
    for answer in futures::future::join_all(asks).await {
        answer.unwrap();
    }
    let shard = &system.roster.readings()[0];
    assert_eq!((shard.queue_depth, shard.handled, shard.active), (Some(0), 1_000, 10));
    let awake = system.roster.awake(100, Instant::now() + PATIENCE).await;
    assert_eq!(awake.iter().map(|entity| entity.handled).sum::<u64>(), 1_000);
    assert!(awake.iter().all(|entity| entity.queue_depth == 0 && entity.unsettled == 0));
    let snapshot = system.roster.snapshot();
    let line = snapshot.actors.iter().find(|line| line.entry.path == "test/counter-shard-0").unwrap();
    assert_eq!((&*line.entry.kind, line.queue_depth), ("shard", Some(0)));
    assert!(line.handled.unwrap() >= 1_000);
    system.stop().await;
}

/// A journal whose reading of `counter/slow…` waits for a permit.
struct SlowToLoad {
    journal: Arc<SqliteJournal>,
    permits: Arc<Semaphore>,
}

impl Journal for SlowToLoad {
    fn append(&self, append: Append) {
        self.journal.append(append);
    }
    fn after_queued(&self, settle: Settle) {
        self.journal.after_queued(settle);
    }
    fn outcome(
        &self,
        stream: Arc<str>,
        command_id: CommandId,
        first_version: Option<u64>,
    ) -> BoxFuture<'static, RecordedOutcome> {
        self.journal.outcome(stream, command_id, first_version)
    }
    fn load(&self, stream: Arc<str>, seen_max: usize) -> BoxFuture<'static, Result<Loaded, JournalError>> {
        let (permits, is_slow) = (Arc::clone(&self.permits), stream.starts_with("counter/slow"));
        let loaded = self.journal.load(stream, seen_max);
        async move {
            if is_slow {
                permits.acquire().await.unwrap().forget();
            }
            loaded.await
        }
        .boxed()
    }
    fn events(&self, stream: Arc<str>) -> BoxFuture<'static, Result<Vec<Recorded>, JournalError>> {
        self.journal.events(stream)
    }
    fn read_after(&self, position: Position, limit: usize) -> BoxFuture<'static, Result<Vec<Recorded>, JournalError>> {
        self.journal.read_after(position, limit)
    }
    fn committed(&self) -> watch::Receiver<Position> {
        self.journal.committed()
    }
    fn query(&self, sql: &'static str, params: Vec<SqlValue>) -> BoxFuture<'static, Result<Vec<Row>, JournalError>> {
        self.journal.query(sql, params)
    }
    fn identity(&self) -> LogIdentity {
        self.journal.identity()
    }
    fn contradictions(&self) -> Contradictions {
        self.journal.contradictions()
    }
    fn position_of(&self, subscription: Arc<str>) -> BoxFuture<'static, Result<LogMark, JournalError>> {
        self.journal.position_of(subscription)
    }
    fn store_position(&self, name: Arc<str>, mark: LogMark) -> BoxFuture<'static, Result<(), JournalError>> {
        self.journal.store_position(name, mark)
    }
    fn is_open(&self) -> bool {
        self.journal.is_open()
    }
    fn closed(&self) -> BoxFuture<'static, JournalError> {
        self.journal.closed()
    }
    fn close(&self) -> BoxFuture<'static, ()> {
        self.journal.close()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_entity_that_waits_for_its_stream_or_for_its_turn_to_read_it_is_not_stuck() {
    let directory = tempfile::tempdir().unwrap();
    let journal = SqliteJournal::open(&SqliteOptions::new(directory.path(), VIEWS)).unwrap();
    let permits = Arc::new(Semaphore::new(0));
    let slow: Arc<dyn Journal> = Arc::new(SlowToLoad { journal: Arc::clone(&journal), permits: Arc::clone(&permits) });
    let roster = Roster::new();
    let config = EntitiesConfig { recoveries_per_shard_max: 1, ..one_shard() };
    let counters = Entities::<Counter>::new(slow, &Gate::new(100), config, roster.clone());
    let spec = SupervisorSpec::new("test", counters.shards());
    let (supervisor, _) = Supervisor::spawn(None, Supervisor, (spec, roster.clone())).await.unwrap();
    let (_, mut changes) = roster.follow();

    counters.ask("blocked", Count::Add(1), command(1)).await.unwrap();
    let waiting: Vec<_> = ["slow", "slower"]
        .into_iter()
        .enumerate()
        .map(|(number, id)| {
            let counters = counters.clone();
            tokio::spawn(async move { counters.ask(id, Count::Add(1), command(10 + number as u64)).await })
        })
        .collect();
    let deadline = Instant::now() + PATIENCE;
    while roster.awake(10, deadline).await.len() < 3 {
        assert!(Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    // Once this one is found, the shard has looked at the others for longer than the bound as well.
    let release = block(&counters, "blocked").await;
    let (what, event) = next_of_an_entity(&mut changes).await;
    assert_eq!((what, &*event.id), ("stuck", "blocked"));
    let awake = roster.awake(10, deadline).await;
    let recovering = awake.iter().filter(|entity| entity.state == EntityState::Recovering).count();
    assert_eq!(recovering, 2, "{awake:?}");
    permits.add_permits(2);
    for answer in waiting {
        answer.await.unwrap().unwrap();
    }
    drop(release);
    supervisor.stop_and_wait(None, None).await.unwrap();
    journal.close().await;
}
