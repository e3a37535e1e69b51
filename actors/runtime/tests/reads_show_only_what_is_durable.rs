//! A read that reaches its entity between the refusal of a write and the entity's own end: nothing is on its way any more, and what is
//! in memory never was.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures::future::BoxFuture;
use microcommerce_runtime::{
    AskError, CommandId, Entities, EntitiesConfig, Gate, Journal, JournalError, Position, Recorded, Roster, Row,
    SqlValue,
    journal::{
        Append, Loaded, RecordedOutcome, Settle,
        contradictions::Contradictions,
        identity::{LogIdentity, LogMark},
    },
    supervision::{Supervisor, SupervisorSpec},
    testkit::{Faults, MemoryDisk, MemoryJournal},
};
use ractor::Actor;
use support::{Count, Counter, PATIENCE, VIEWS, command};
use tokio::{sync::watch, time::Instant};

/// Refuses a write in the moment in which it is asked for it.
struct RefusesAtOnce {
    journal: Arc<MemoryJournal>,
    refuses: AtomicBool,
}

impl Journal for RefusesAtOnce {
    fn append(&self, append: Append) {
        if !self.refuses.swap(false, Ordering::Relaxed) {
            return self.journal.append(append);
        }
        append.fence.raise();
        (append.settle)(Err(JournalError::Conflict("by order of the test".to_owned())));
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
        self.journal.load(stream, seen_max)
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

    fn store_position(&self, subscription: Arc<str>, mark: LogMark) -> BoxFuture<'static, Result<(), JournalError>> {
        self.journal.store_position(subscription, mark)
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

#[tokio::test(start_paused = true)]
async fn a_read_that_comes_after_a_refusal_and_before_its_entitys_end_shows_nothing_that_never_was() {
    let disk = MemoryDisk::new(VIEWS).unwrap();
    let journal = MemoryJournal::open(&disk, Faults::none()).await.unwrap();
    let journal = Arc::new(RefusesAtOnce { journal, refuses: AtomicBool::new(false) });
    let counters = Entities::<Counter>::new(journal.clone(), &Gate::new(100), EntitiesConfig::default(), Roster::new());
    let spec = SupervisorSpec::new("test", counters.shards());
    let (tree, _) = Supervisor::spawn(None, Supervisor, (spec, Roster::new())).await.unwrap();
    let read = || counters.read("a", Instant::now() + PATIENCE, |state, version| (state.0, version));

    counters.ask("a", Count::Add(1), command(1)).await.unwrap();
    journal.refuses.store(true, Ordering::Relaxed);
    // On one thread both are in the entity's queue before it takes up the first.
    let (refused, seen) = tokio::join!(counters.ask("a", Count::Add(10), command(2)), read());
    assert_eq!((refused, seen), (Err(AskError::Unavailable), Err(AskError::Unavailable)));
    // Until its shard has heard of its end it cannot be reached.
    let truth = loop {
        match read().await {
            Ok(truth) => break truth,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    assert_eq!(truth, (1, 1));
    assert_eq!(counters.ask("a", Count::Add(10), command(2)).await.unwrap().version, 2);
    tree.stop_and_wait(None, None).await.unwrap();
}
