//! The bridge on a real Kafka: the source alone, the whole engine, and the relay from a journal.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bridge::{
    engine::{
        Bridge, Delivery, Handler, Outcome, Subscription, Topics,
        handler::{self, CONCURRENCY_MAX},
    },
    kafka::{
        Compression, KafkaClientSettings, KafkaSink, KafkaSinkConfig, KafkaSource, KafkaSourceConfig, KafkaTopics,
        TopicSpec,
    },
    ports::{Assignment, Commit, Credit, LogSource, Outbox, PartitionOwner, SourceEvent},
    record::{Headers, OutgoingRecord, Record, TopicPartition},
    relay::{JournalOutbox, RelayArguments, RelayBoard, RelayLimits, start_relay},
};
use ractor::Actor;
use runtime::{
    Journal, Recorded, Roster,
    journal::sqlite::{SqliteJournal, SqliteOptions},
    supervision::{Supervisor, SupervisorSpec},
};
use tokio::runtime::Runtime;

use crate::{
    bench_directory::BenchDirectory,
    bridge_dispatch::{Progress, workers},
    durable::{self, House},
    kafka_bare, stock,
};

/// No measurement takes this long unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(120);

fn settings(broker: &str) -> KafkaClientSettings {
    KafkaClientSettings::plain(broker, "microcommerce-bench")
}

/// Makes a topic of `partitions` partitions and waits until each has a leader; false when it is there already.
///
/// # Panics
/// When it cannot be made.
pub fn create_topic(broker: &str, topic: &str, partitions: i32) -> bool {
    let topics = KafkaTopics::new(settings(broker)).expect("the settings are right");
    let made = Runtime::new()
        .expect("tokio starts")
        .block_on(async { topics.create_missing(&[TopicSpec::new(topic, partitions)]).await });
    kafka_bare::await_leaders(broker, topic, partitions as usize);
    !made.expect("the broker answers").is_empty()
}

/// A sink that compresses as the bare producer does that it is measured against.
fn sink(broker: &str) -> KafkaSink {
    let config = KafkaSinkConfig { compression: Compression::Lz4, ..KafkaSinkConfig::new(settings(broker)) };
    KafkaSink::start(config).expect("the sink starts")
}

/// Counts, and commits once at the end.
#[derive(Default)]
struct Counting {
    seen: u64,
    began: Option<Instant>,
}

impl PartitionOwner for Counting {
    fn assigned(&mut self, _: Vec<Assignment>) -> Vec<(TopicPartition, i64)> {
        Vec::new()
    }
    fn credit(&self, _: &TopicPartition) -> Credit {
        Credit { records: 1_024, bytes: 16 << 20 }
    }
    fn records(&mut self, _: &TopicPartition, records: Vec<Record>) {
        self.began.get_or_insert_with(Instant::now);
        self.seen += records.len() as u64;
    }
    fn revoked(&mut self, _: &[TopicPartition]) -> Vec<Commit> {
        Vec::new()
    }
    fn lost(&mut self, _: &[TopicPartition]) {}
    fn committed(&mut self, _: Commit, _: Result<(), String>) {}
    fn event(&mut self, _: SourceEvent) {}
}

/// Reads `count` records with the source alone; the time from the first to the last.
///
/// # Panics
/// When they do not come.
#[must_use]
pub fn source_reads(broker: &str, topic: &str, group: &str, count: u64) -> Duration {
    let config = KafkaSourceConfig::new(settings(broker), group, vec![topic.to_owned()]);
    let mut source = KafkaSource::start(&config).expect("the source starts");
    let (mut owner, limit) = (Counting::default(), Instant::now() + PATIENCE);
    while owner.seen < count {
        assert!(Instant::now() < limit, "{} of {count} came", owner.seen);
        source.poll(Duration::from_millis(20), &mut owner).expect("the source goes on");
    }
    owner.began.expect("some came").elapsed()
}

/// Who is given the records.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    /// Actors that settle what they are given.
    Actors,
    /// A function that does so at once.
    Function,
    /// An async function that does so, a lane at a time.
    AsyncFunction,
    /// An async function that takes a millisecond for each record.
    Millisecond,
}

/// Records of a key that one call of an async function may be given.
const LANE_BATCH: usize = 32;

/// Reads `count` records with the whole engine, commits on; the time from the first record handled to the last.
///
/// # Panics
/// When they do not come.
#[must_use]
pub fn engine_reads(broker: &str, topic: &str, group: &str, count: u64, work: Work) -> Duration {
    Runtime::new().expect("tokio starts").block_on(async {
        let progress = Progress::to(count);
        let open = KafkaSourceConfig::new(settings(broker), group, Vec::new()).opener();
        let topics = Topics::Named(vec![topic.into()]);
        let handler = handler_of(work, &progress).await;
        let mut subscription = Subscription::new("bench", group, topics, open, |_: Vec<Delivery>| {});
        subscription.handler = handler;
        if matches!(work, Work::AsyncFunction | Work::Millisecond) {
            subscription.limits.lane_batch_max = LANE_BATCH;
        }
        let sink = sink(broker);
        let bridge =
            Bridge::builder().dead_letters(Arc::new(sink)).subscribe(subscription).build().expect("it is whole");
        let supervisor = bridge.start().await.expect("the bridge starts");
        let took = tokio::time::timeout(PATIENCE, progress.took()).await.expect("all come in time");
        supervisor.stop_and_wait(None, None).await.expect("the bridge stops");
        took
    })
}

async fn handler_of(work: Work, progress: &Arc<Progress>) -> Arc<dyn Handler> {
    let progress = Arc::clone(progress);
    match work {
        Work::Actors => workers(&progress).await,
        Work::Function => Arc::new(move |deliveries| progress.settle(deliveries)),
        Work::AsyncFunction => Arc::new(handler::lanes(CONCURRENCY_MAX, move |lane| {
            progress.settle(lane);
            std::future::ready(())
        })),
        Work::Millisecond => Arc::new(handler::each(CONCURRENCY_MAX, move |_: Record| {
            let progress = Arc::clone(&progress);
            async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                progress.add(1);
                Outcome::Done
            }
        })),
    }
}

/// A journal on disk with events in it. It may be relayed as often as one likes: each relay has a name, and so a place, of its own.
pub struct FilledJournal {
    tokio: Runtime,
    directory: BenchDirectory,
    count: u64,
}

impl FilledJournal {
    /// Fills a journal with `count` events of `keys` entities and closes it, so that nothing of that goes on in a measurement.
    ///
    /// # Panics
    /// When an event is not accepted.
    #[must_use]
    pub fn new(count: u64, keys: usize) -> Self {
        let (tokio, directory) = (Runtime::new().expect("tokio starts"), BenchDirectory::new());
        tokio.block_on(async {
            let house = House::open(&directory, durable::all_awake()).await;
            // Many at once, so that group commit makes it quick.
            durable::ask_all(&house.entities, 8_192, &stock::keys(keys).into(), 0..count, move |number| {
                (number % keys as u64) as usize
            })
            .await;
            house.close().await;
        });
        Self { tokio, directory, count }
    }

    /// What a relay writes to `topic`, in order.
    ///
    /// # Panics
    /// When the journal cannot be read.
    #[must_use]
    pub fn records(&self, topic: &str) -> Vec<OutgoingRecord> {
        self.tokio.block_on(async {
            let journal = self.open();
            let outbox = outbox(&journal, topic);
            let (mut records, mut position) = (Vec::new(), 0);
            while records.len() < self.count as usize {
                let entries = outbox.read_after(position, 4_096).await.expect("the journal answers");
                position = entries.last().expect("there are more").position;
                records.extend(entries.into_iter().flat_map(|entry| entry.records));
            }
            journal.close().await;
            records
        })
    }

    /// Relays all of it to `topic`: the time from the relay's start, its reading of the journal and its connection to Kafka among
    /// it, until every event is acknowledged, as its health shows it every 50 ms.
    ///
    /// # Panics
    /// When it does not come to its end.
    #[must_use]
    pub fn relays(&self, broker: &str, topic: &str) -> Duration {
        self.tokio.block_on(async {
            let journal = self.open();
            let spec = SupervisorSpec::new("bench", Vec::new());
            let (supervisor, _) =
                Supervisor::spawn(None, Supervisor, (spec, Roster::new())).await.expect("a supervisor starts");
            let arguments = RelayArguments {
                name: topic.into(),
                outbox: Arc::new(outbox(&journal, topic)),
                sink: Arc::new(sink(broker)),
                limits: RelayLimits::default(),
                board: RelayBoard::default(),
            };
            let mut health = arguments.board.watch();
            let began = Instant::now();
            let relay = start_relay(arguments, supervisor.get_cell()).await.expect("the relay starts");
            let done = health.wait_for(|health| health.written == self.count && health.lag == 0);
            tokio::time::timeout(PATIENCE, done).await.expect("all is relayed in time").expect("the board is there");
            let took = began.elapsed();
            relay.stop_and_wait(None, None).await.expect("the relay stops");
            supervisor.stop_and_wait(None, None).await.expect("the tree stops");
            journal.close().await;
            took
        })
    }

    fn open(&self) -> Arc<dyn Journal> {
        let options = SqliteOptions::new(self.directory.path(), "");
        SqliteJournal::open(&options).expect("the journal opens")
    }
}

/// Each event is a record, keyed by its entity.
fn outbox(journal: &Arc<dyn Journal>, topic: &str) -> JournalOutbox {
    let topic: Arc<str> = topic.into();
    JournalOutbox::new(Arc::clone(journal), move |event: Recorded| {
        let (_, id) = event.kind_and_id();
        vec![OutgoingRecord {
            topic: Arc::clone(&topic),
            partition: None,
            key: Some(id.to_owned().into()),
            value: Some(event.payload.into()),
            timestamp_ms: None,
            headers: Headers::default(),
        }]
    })
}
