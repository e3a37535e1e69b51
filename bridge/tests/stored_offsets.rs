//! Progress in a store of one's own: the engine begins there, stores there, and the log only gets hints.
//!
//! The last test needs `KAFKA_BROKER`; with `REQUIRE_KAFKA=1` it fails without it instead of being skipped.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod conformance;
mod support;

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use conformance::LogUnderTest;
use futures::future::BoxFuture;
use microcommerce_bridge::{
    engine::{
        Bridge, CommitEvery, OpenSource, Outcome, StoredOffsets, Subscription, Topics,
        handler::{self, Handler},
    },
    memory::MemoryLog,
    ports::{Assignment, Commit, LogSink, LogSource, OffsetStore, PartitionOwner, SourceFatal},
    record::{OutgoingRecord, Record, TopicPartition},
};
use support::{PATIENCE, eventually, kafka::Notebook, unique};
use tokio::runtime::{Handle, Runtime};

const GROUP: &str = "billing";

/// A table of commits, as a database would hold it; it outlives whoever uses it, and can be away.
#[derive(Clone, Default)]
struct Table {
    rows: Arc<Mutex<HashMap<(String, TopicPartition), Commit>>>,
    is_away: Arc<AtomicBool>,
}

impl Table {
    fn row(&self, group: &str, partition: &TopicPartition) -> Option<Commit> {
        self.rows.lock().unwrap().get(&(group.to_owned(), partition.clone())).cloned()
    }

    fn offset(&self, partition: &TopicPartition) -> i64 {
        self.row(GROUP, partition).map_or(0, |commit| commit.offset)
    }

    /// As a restored backup would.
    fn set(&self, commit: Commit) {
        self.rows.lock().unwrap().insert((GROUP.to_owned(), commit.partition.clone()), commit);
    }

    fn be_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::SeqCst);
    }

    fn answer<T: Send + 'static>(&self, value: impl FnOnce() -> T) -> BoxFuture<'static, Result<T, String>> {
        let answer = match self.is_away.load(Ordering::SeqCst) {
            true => Err("the database is away".to_owned()),
            false => Ok(value()),
        };
        Box::pin(async { answer })
    }
}

impl OffsetStore for Table {
    fn load(&self, group: &str, partition: &TopicPartition) -> BoxFuture<'static, Result<Option<Commit>, String>> {
        self.answer(|| self.row(group, partition))
    }

    fn store(&self, group: &str, commits: Vec<Commit>) -> BoxFuture<'static, Result<(), String>> {
        self.answer(|| {
            let mut rows = self.rows.lock().unwrap();
            for commit in commits {
                let row = rows.entry((group.to_owned(), commit.partition.clone())).or_insert_with(|| commit.clone());
                if commit.offset >= row.offset || commit.log_id != row.log_id {
                    *row = commit;
                }
            }
        })
    }
}

fn opener(log: &MemoryLog, table: &Table) -> OpenSource {
    let log = log.clone();
    let open: OpenSource = Arc::new(move |subscription| match &subscription.topics {
        Topics::Named(topics) => Ok(log.source(topics, &subscription.group)),
        Topics::Matching(_) => Err("named topics only".to_owned()),
    });
    StoredOffsets::opener(open, Arc::new(table.clone()), Handle::current())
}

type Done = Arc<Mutex<Vec<u64>>>;

fn noting(done: &Done) -> impl Handler + use<> {
    let done = Arc::clone(done);
    handler::each(16, move |record: Record| {
        done.lock().unwrap().push(std::str::from_utf8(&record.value.unwrap()).unwrap().parse().unwrap());
        async { Outcome::Done }
    })
}

fn subscription(topic: &str, open: OpenSource, handler: impl Handler) -> Subscription {
    Subscription::new("orders", GROUP, Topics::Named(vec![topic.into()]), open, handler)
        .commit(CommitEvery { every: Duration::from_millis(20), records: 1_000 })
}

/// Runs a subscription until `condition` holds, and stops it in order.
async fn run_until(
    what: &str,
    sink: Arc<dyn LogSink>,
    subscription: Subscription,
    mut condition: impl FnMut(&Bridge) -> bool,
) {
    let bridge = Bridge::builder().dead_letters(sink).subscribe(subscription).build().unwrap();
    let supervisor = bridge.start().await.unwrap();
    eventually(what, PATIENCE, || condition(&bridge)).await;
    supervisor.stop_and_wait(None, Some(PATIENCE)).await.unwrap();
}

fn log_with(numbers: std::ops::Range<u64>) -> (MemoryLog, TopicPartition) {
    let log = MemoryLog::new();
    log.create_topic("orders", 1);
    write(&log, numbers);
    (log, TopicPartition::new("orders", 0))
}

fn write(log: &MemoryLog, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let (key, value) = (Some("k".into()), Some(number.to_string().into()));
        let (topic, headers) = ("orders".into(), Default::default());
        log.write(OutgoingRecord { topic, partition: None, key, value, timestamp_ms: None, headers }).unwrap();
    }
}

fn commit(partition: &TopicPartition, offset: i64) -> Commit {
    Commit { partition: partition.clone(), offset, metadata: String::new(), log_id: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_goes_on_at_what_is_stored_though_the_log_knows_nothing() {
    let (log, partition) = log_with(0..100);
    log.fail_commits(usize::MAX);
    let (table, done) = (Table::default(), Done::default());
    for end in [100, 150, 200] {
        let subscription = subscription("orders", opener(&log, &table), noting(&done));
        run_until("all is stored", log.sink(), subscription, |_| table.offset(&partition) == end).await;
        write(&log, end as u64..end as u64 + 50);
    }
    assert_eq!(*done.lock().unwrap(), (0..200).collect::<Vec<_>>(), "each once, in order");
    assert_eq!(log.committed(GROUP, &partition), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_moves_over_from_the_logs_own_commits() {
    let (log, partition) = log_with(0..100);
    let (table, done) = (Table::default(), Done::default());
    let plain: OpenSource = {
        let log = log.clone();
        Arc::new(move |subscription| Ok(log.source(&["orders".into()], &subscription.group)))
    };
    let committed = |_: &Bridge| log.committed(GROUP, &partition).is_some_and(|commit| commit.offset == 100);
    run_until("the log has it", log.sink(), subscription("orders", plain, noting(&done)), committed).await;
    write(&log, 100..130);
    let moved = subscription("orders", opener(&log, &table), noting(&done));
    run_until("the store has it", log.sink(), moved, |_| table.offset(&partition) == 130).await;
    assert_eq!(*done.lock().unwrap(), (0..130).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_was_set_back_is_followed_and_what_it_does_not_know_is_done_again() {
    let (log, partition) = log_with(0..100);
    let (table, done) = (Table::default(), Done::default());
    let start = || subscription("orders", opener(&log, &table), noting(&done));
    let both = |offset| log.committed(GROUP, &partition).is_some_and(|commit| commit.offset == offset);
    run_until("both have it", log.sink(), start(), |_| table.offset(&partition) == 100 && both(100)).await;
    table.set(commit(&partition, 40));
    run_until("both have it again", log.sink(), start(), |_| table.offset(&partition) == 100 && both(100)).await;
    assert_eq!(*done.lock().unwrap(), (0..100).chain(40..100).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_committed_to_the_log_that_is_not_stored() {
    let (log, partition) = log_with(0..100);
    let (table, done) = (Table::default(), Done::default());
    let open = opener(&log, &table);
    let away = table.clone();
    let leaving = handler::each(16, {
        let done = Arc::clone(&done);
        move |record: Record| {
            // It was there when the partition was assigned, and goes with the first record.
            away.be_away(true);
            done.lock().unwrap().push(record.offset.unsigned_abs());
            async { Outcome::Done }
        }
    });
    let mut failures_seen = false;
    run_until("the failures show, and pass", log.sink(), subscription("orders", open, leaving), |bridge| {
        let health = bridge.health().remove(0);
        let failed: u64 = health.partitions.iter().map(|partition| partition.commit_failures).sum();
        if !failures_seen && done.lock().unwrap().len() == 100 && failed >= 3 {
            failures_seen = true;
            assert_eq!(log.committed(GROUP, &partition), None);
            table.be_away(false);
        }
        failures_seen && log.committed(GROUP, &partition).is_some_and(|commit| commit.offset == 100)
    })
    .await;
    assert_eq!((table.offset(&partition), done.lock().unwrap().len()), (100, 100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_store_cannot_be_read_nothing_is_read_from_the_log() {
    let (log, partition) = log_with(0..100);
    let (table, done) = (Table::default(), Done::default());
    table.set(commit(&partition, 60));
    table.be_away(true);
    let (mut is_back, mut opened) = (false, None);
    let start = subscription("orders", opener(&log, &table), noting(&done));
    run_until("the rest is done", log.sink(), start, |bridge| {
        let health = bridge.health().remove(0);
        let complains = health.complaints.iter().any(|complaint| complaint.contains("the database is away"));
        if !is_back && complains {
            opened = Some(done.lock().unwrap().len());
            is_back = true;
            table.be_away(false);
        }
        table.offset(&partition) == 100
    })
    .await;
    assert_eq!((opened, done.lock().unwrap().clone()), (Some(0), (60..100).collect::<Vec<_>>()));
}

/// A source that could not learn its own commit, and begins at it all the same: behind what is stored.
struct Forgetful {
    assigned: bool,
    commits: Arc<Mutex<Vec<Commit>>>,
    answers: VecDeque<Commit>,
    partition: TopicPartition,
}

impl LogSource for Forgetful {
    fn poll(&mut self, _: Duration, owner: &mut dyn PartitionOwner) -> Result<(), SourceFatal> {
        if !std::mem::replace(&mut self.assigned, true) {
            owner.assigned(vec![Assignment { partition: self.partition.clone(), committed: None, log: None }]);
        } else if owner.credit(&self.partition).records > 0 {
            let TopicPartition { topic, partition } = self.partition.clone();
            let (key, value, headers) = (None, None, Default::default());
            owner.records(
                &self.partition,
                vec![Record { topic, partition, offset: 50, timestamp_ms: None, key, value, headers }],
            );
        }
        self.answers.drain(..).for_each(|commit| owner.committed(commit, Ok(())));
        Ok(())
    }

    fn commit(&mut self, commits: Vec<Commit>) {
        self.commits.lock().unwrap().extend(commits.iter().cloned());
        self.answers.extend(commits);
    }

    fn close(self: Box<Self>, _: &mut dyn PartitionOwner) {}
}

#[test]
fn a_source_that_begins_behind_what_is_stored_gives_nothing_and_is_set_back() {
    let (runtime, partition) = (Runtime::new().unwrap(), TopicPartition::new("orders", 0));
    let (table, commits) = (Table::default(), Arc::new(Mutex::new(Vec::new())));
    table.set(commit(&partition, 40));
    let inner = Forgetful {
        assigned: false,
        commits: Arc::clone(&commits),
        answers: VecDeque::new(),
        partition: partition.clone(),
    };
    let store = Arc::new(table);
    let mut source = StoredOffsets::new(Box::new(inner), store, GROUP.into(), runtime.handle().clone());
    let mut notebook = Notebook::default();
    let fatal = (0..10).find_map(|_| source.poll(Duration::ZERO, &mut notebook).err());
    assert!(fatal.unwrap().0.contains("was set back"));
    assert_eq!((notebook.records.len(), commits.lock().unwrap().clone()), (0, vec![commit(&partition, 40)]));
}

struct WithTable(MemoryLog, Table, Runtime);

impl LogUnderTest for WithTable {
    fn create_topic(&self, topic: &str, partitions: i32) {
        self.0.create_topic(topic, partitions as usize);
    }
    fn write(&self, records: Vec<OutgoingRecord>) {
        for record in records {
            self.0.write(record).unwrap();
        }
    }
    fn read_all(&self, topic: &str) -> Vec<Record> {
        (0..16).flat_map(|partition| self.0.records(&TopicPartition::new(topic, partition))).collect()
    }
    fn open(&self, topics: &[Arc<str>], group: &str) -> Result<Box<dyn LogSource>, String> {
        let (inner, table) = (self.0.source(topics, group), Arc::new(self.1.clone()));
        Ok(Box::new(StoredOffsets::new(inner, table, group.into(), self.2.handle().clone())))
    }
    fn dead_letters(&self) -> Arc<dyn LogSink> {
        self.0.sink()
    }
    fn remove_before(&self, partition: &TopicPartition, offset: i64) -> bool {
        self.0.remove_before(partition, offset);
        true
    }
    fn make_again(&self, topic: &str, partitions: i32) -> bool {
        self.0.delete_topic(topic);
        self.0.create_topic(topic, partitions as usize);
        true
    }
    fn damage(&self, partition: &TopicPartition, first: i64, last: i64) -> bool {
        self.0.damage(partition, first, last);
        true
    }
}

#[test]
fn a_log_with_a_store_conforms() {
    conformance::run_all(|| Arc::new(WithTable(MemoryLog::new(), Table::default(), Runtime::new().unwrap())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_kafka_too_the_store_decides_where_a_group_goes_on() {
    let test = "on_kafka_too_the_store_decides_where_a_group_goes_on";
    let Some(broker) = support::kafka_broker(test) else { return };
    let topic = support::kafka::new_topic(&broker, 1).await;
    let partition = TopicPartition::new(topic.as_str(), 0);
    let sink = Arc::new(support::kafka::sink(&broker));
    let numbers = (0..100).map(|number| support::kafka::outgoing(&topic, Some("k"), Some(&number.to_string())));
    support::kafka::write_all(&*sink, numbers.collect::<Vec<_>>()).await;
    let (table, done, group) = (Table::default(), Done::default(), unique("group"));
    let start = || {
        let open = support::kafka::source_config(&broker, &group, &topic).opener();
        let open = StoredOffsets::opener(open, Arc::new(table.clone()), Handle::current());
        Subscription { group: group.as_str().into(), ..subscription(&topic, open, noting(&done)) }
    };
    let offset = || table.row(&group, &partition).map_or(0, |commit| commit.offset);
    run_until("all is stored", Arc::clone(&sink) as Arc<dyn LogSink>, start(), |_| offset() == 100).await;
    table.rows.lock().unwrap().insert((group.clone(), partition.clone()), commit(&partition, 40));
    run_until("all is stored again", sink, start(), |_| offset() == 100).await;
    assert_eq!(*done.lock().unwrap(), (0..100).chain(40..100).collect::<Vec<_>>());
}
