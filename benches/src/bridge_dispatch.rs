//! What the bridge's engine costs beside a bare loop over the same source: no broker, no work, then a millisecond of it.
//!
//! The source makes its records from memory as fast as it is asked. Ours sends each through pump, partition actor and lanes
//! to one of the handler's actors and back, and commits. The control takes the same records from the same source and looks
//! at each key once.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bridge::{
    engine::{
        Bridge, Delivery, Handler, Limits, OpenSource, Outcome, Subscription, Topics,
        handler::{self, Mailboxes},
    },
    memory::MemoryLog,
    ports::{Assignment, Commit, Credit, LogSource, PartitionOwner, SourceEvent, SourceFatal},
    record::{Headers, Record, TopicPartition},
};
use bytes::Bytes;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use runtime::Current;
use tokio::{runtime::Runtime, sync::Notify};

/// As many as a small topic has.
const PARTITIONS: i32 = 8;
/// Actors that the keys are spread over.
const HANDLER_ACTORS: usize = 16;
/// Records of one poll and partition: what a real source takes from its queue at once.
const BATCH_RECORDS: usize = 1_024;
const VALUE_BYTES: usize = 200;
/// Records of one key that a call works off one after another: enough that the way back and forth does not count.
const LANE_BATCH: usize = 32;

/// Records from memory. It is one member that owns all partitions from the first poll on.
struct Synthetic {
    topic: Arc<str>,
    keys: Arc<[Bytes]>,
    value: Bytes,
    /// What each partition still has to give.
    left: Vec<u64>,
    is_assigned: bool,
    /// Sent and not told yet.
    commits: Vec<Commit>,
    turn: usize,
}

impl Synthetic {
    fn new(keys: usize, records: u64) -> Self {
        Self {
            topic: "synthetic".into(),
            keys: (0..keys).map(|key| Bytes::from(format!("key-{key:08}"))).collect(),
            value: vec![b'v'; VALUE_BYTES].into(),
            left: (0..PARTITIONS as u64).map(|index| share(records, index)).collect(),
            is_assigned: false,
            commits: Vec::new(),
            turn: 0,
        }
    }

    /// A key is of one partition, as a hash would have it.
    fn batch(&self, partition: usize, count: usize) -> Vec<Record> {
        let left = self.left[partition];
        let record = |index: u64| {
            let offset = left - index;
            let key = (offset * PARTITIONS as u64 + partition as u64) as usize % self.keys.len();
            Record {
                topic: Arc::clone(&self.topic),
                partition: partition as i32,
                // From 0 up: what is left goes down.
                offset: i64::MAX / 2 - offset as i64,
                timestamp_ms: None,
                key: Some(self.keys[key].clone()),
                value: Some(self.value.clone()),
                headers: Headers::default(),
            }
        };
        (0..count as u64).map(record).collect()
    }
}

fn share(records: u64, index: u64) -> u64 {
    let partitions = PARTITIONS as u64;
    records / partitions + u64::from(index < records % partitions)
}

impl LogSource for Synthetic {
    fn poll(&mut self, wait: Duration, owner: &mut dyn PartitionOwner) -> Result<(), SourceFatal> {
        if !std::mem::replace(&mut self.is_assigned, true) {
            let assignment = |partition| Assignment {
                partition: TopicPartition::new(Arc::clone(&self.topic), partition),
                committed: None,
                log: None,
            };
            let _ = owner.assigned((0..PARTITIONS).map(assignment).collect());
        }
        for commit in self.commits.drain(..) {
            owner.committed(commit, Ok(()));
        }
        let mut gave_any = false;
        for _ in 0..PARTITIONS {
            self.turn = (self.turn + 1) % PARTITIONS as usize;
            let partition = TopicPartition::new(Arc::clone(&self.topic), self.turn as i32);
            let credit = owner.credit(&partition);
            let count = credit.records.min(BATCH_RECORDS).min(self.left[self.turn] as usize);
            if count > 0 && credit.bytes > 0 {
                let records = self.batch(self.turn, count);
                self.left[self.turn] -= count as u64;
                owner.records(&partition, records);
                gave_any = true;
            }
        }
        if !gave_any {
            std::thread::sleep(wait);
        }
        Ok(())
    }

    fn commit(&mut self, commits: Vec<Commit>) {
        self.commits.extend(commits);
    }

    fn close(self: Box<Self>, owner: &mut dyn PartitionOwner) {
        let all: Vec<TopicPartition> =
            (0..PARTITIONS).map(|partition| TopicPartition::new(Arc::clone(&self.topic), partition)).collect();
        drop(owner.revoked(&all));
    }
}

/// The control: takes everything, looks at each key, keeps nothing.
struct BareLoop {
    taken: u64,
    key_bytes: u64,
}

impl PartitionOwner for BareLoop {
    fn assigned(&mut self, _: Vec<Assignment>) -> Vec<(TopicPartition, i64)> {
        Vec::new()
    }
    fn credit(&self, _: &TopicPartition) -> Credit {
        Credit { records: BATCH_RECORDS, bytes: usize::MAX }
    }
    fn records(&mut self, _: &TopicPartition, records: Vec<Record>) {
        self.taken += records.len() as u64;
        for record in records {
            self.key_bytes += record.key.map_or(0, |key| u64::from(key[key.len() - 1]));
        }
    }
    fn revoked(&mut self, _: &[TopicPartition]) -> Vec<Commit> {
        Vec::new()
    }
    fn lost(&mut self, _: &[TopicPartition]) {}
    fn committed(&mut self, _: Commit, _: Result<(), String>) {}
    fn event(&mut self, _: SourceEvent) {}
}

/// How long a bare loop takes over `records` of the source.
///
/// # Panics
/// When the source fails, which it never does.
#[must_use]
pub fn bare_loop(keys: usize, records: u64) -> Duration {
    let mut source = Synthetic::new(keys, records);
    let mut owner = BareLoop { taken: 0, key_bytes: 0 };
    let started = Instant::now();
    while owner.taken < records {
        source.poll(Duration::ZERO, &mut owner).expect("it does not fail");
    }
    let took = started.elapsed();
    std::hint::black_box(owner.key_bytes);
    took
}

/// Counts what is done and says when that is all.
pub(crate) struct Progress {
    began: OnceLock<Instant>,
    done: AtomicU64,
    all: u64,
    is_over: Notify,
}

impl Progress {
    pub(crate) fn to(all: u64) -> Arc<Self> {
        Arc::new(Self { began: OnceLock::new(), done: AtomicU64::new(0), all, is_over: Notify::new() })
    }

    pub(crate) fn add(&self, count: u64) {
        self.began.get_or_init(Instant::now);
        if self.done.fetch_add(count, Ordering::Relaxed) + count >= self.all {
            self.is_over.notify_one();
        }
    }

    /// Waits until all is done; the time since the first was.
    pub(crate) async fn took(&self) -> Duration {
        self.is_over.notified().await;
        self.began.get().map_or(Duration::ZERO, Instant::elapsed)
    }

    /// Says of all "done", and counts them.
    pub(crate) fn settle(&self, deliveries: Vec<Delivery>) {
        let count = deliveries.len() as u64;
        Delivery::settle_all(deliveries, |_| Outcome::Done);
        self.add(count);
    }
}

/// Actors that say of all "done"; a key always goes to the same one.
pub(crate) async fn workers(progress: &Arc<Progress>) -> Arc<dyn Handler> {
    let mut places = Vec::new();
    for _ in 0..HANDLER_ACTORS {
        let (actor, _) = Actor::spawn(None, Worker, Arc::clone(progress)).await.expect("an actor starts");
        let place = Current::empty();
        place.set(actor);
        places.push(place);
    }
    Arc::new(Mailboxes::<Work>::shared(places))
}

struct Worker;

struct Work(Vec<Delivery>);

impl From<Vec<Delivery>> for Work {
    fn from(deliveries: Vec<Delivery>) -> Self {
        Self(deliveries)
    }
}

impl Actor for Worker {
    type Msg = Work;
    type State = Arc<Progress>;
    type Arguments = Arc<Progress>;

    async fn pre_start(&self, _: ActorRef<Work>, progress: Arc<Progress>) -> Result<Arc<Progress>, ActorProcessingErr> {
        Ok(progress)
    }

    async fn handle(
        &self,
        _: ActorRef<Work>,
        Work(deliveries): Work,
        progress: &mut Arc<Progress>,
    ) -> Result<(), ActorProcessingErr> {
        progress.settle(deliveries);
        Ok(())
    }
}

/// How long the engine takes over `records` when actors do nothing with each.
///
/// # Panics
/// When the engine does not start.
#[must_use]
pub fn dispatch(keys: usize, records: u64) -> Duration {
    measure(keys, records, Limits::default(), |progress| async move { workers(&progress).await })
}

/// How long the engine takes over `records` when each is a millisecond of async work.
///
/// # Panics
/// When the engine does not start.
#[must_use]
pub fn a_millisecond_each(keys: usize, records: u64) -> Duration {
    let limits = Limits { lane_batch_max: LANE_BATCH, ..Limits::default() };
    measure(keys, records, limits, move |progress| async move {
        let work = move |_: Record| {
            let progress = Arc::clone(&progress);
            async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                progress.add(1);
                Outcome::Done
            }
        };
        Arc::new(handler::each(keys, work)) as Arc<dyn Handler>
    })
}

/// The control of [`a_millisecond_each`]: how long it takes one after another.
#[must_use]
pub fn a_millisecond_each_in_turn(records: u64) -> Duration {
    let tokio = Runtime::new().expect("tokio starts");
    tokio.block_on(async {
        let started = Instant::now();
        for _ in 0..records {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        started.elapsed()
    })
}

fn measure<F>(keys: usize, records: u64, limits: Limits, handler: impl FnOnce(Arc<Progress>) -> F) -> Duration
where
    F: Future<Output = Arc<dyn Handler>>,
{
    let tokio = Runtime::new().expect("tokio starts");
    tokio.block_on(async {
        let progress = Progress::to(records);
        let handler = handler(Arc::clone(&progress)).await;
        let open: OpenSource = Arc::new(move |_| Ok(Box::new(Synthetic::new(keys, records))));
        let topics = Topics::Named(vec!["synthetic".into()]);
        let mut subscription = Subscription::new("bench", "bench", topics, open, |_: Vec<Delivery>| {}).limits(limits);
        subscription.handler = handler;
        let bridge = Bridge::builder().dead_letters(MemoryLog::new().sink()).subscribe(subscription).build();
        let bridge = bridge.expect("it is complete");
        let started = Instant::now();
        let supervisor = bridge.start().await.expect("it starts");
        progress.is_over.notified().await;
        let took = started.elapsed();
        supervisor.stop_and_wait(None, None).await.expect("it stops");
        took
    })
}
