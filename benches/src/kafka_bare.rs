//! Plain client loops on a real Kafka: the least that reading and writing cost here.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bridge::record::OutgoingRecord;
use rdkafka::{
    client::ClientContext,
    config::{ClientConfig, FromClientConfigAndContext},
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::{DeliveryResult, Message},
    producer::{BaseRecord, ProducerContext, ThreadedProducer},
};

/// A broker that says nothing for this long ends the bench.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Longest wait within one poll.
const STEP: Duration = Duration::from_millis(100);

struct Count(Arc<AtomicU64>);

impl ClientContext for Count {}

impl ProducerContext for Count {
    type DeliveryOpaque = ();
    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        assert!(result.is_ok(), "a record was not written");
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits until every partition of a topic has a leader: what a producer finds missing it looks for again only after a pause.
///
/// # Panics
/// When that takes too long.
pub fn await_leaders(broker: &str, topic: &str, partitions: usize) {
    let client: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", broker).create().expect("the client starts");
    let until = Instant::now() + SILENCE_MAX;
    loop {
        let metadata = client.fetch_metadata(Some(topic), SILENCE_MAX).expect("the broker answers");
        let topics = metadata.topics();
        let leaders = topics[0].partitions().iter().filter(|partition| partition.leader() >= 0).count();
        if leaders == partitions {
            return;
        }
        assert!(Instant::now() < until, "{leaders} of {partitions} partitions have a leader");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Writes `count` records over `keys` keys; the time until all are acknowledged.
///
/// # Panics
/// When a record is not written: then there is nothing to measure.
#[must_use]
pub fn produces(broker: &str, topic: &str, count: u64, keys: u64, value_bytes: usize) -> Duration {
    let bodies = Bodies::new(value_bytes);
    let keys: Vec<String> = (0..keys).map(|key| format!("key-{key:08}")).collect();
    produce(broker, count, |number| {
        let key = &keys[(number % keys.len() as u64) as usize];
        BaseRecord::to(topic).key(key.as_bytes()).payload(bodies.nth(number))
    })
}

/// Writes these very records, byte for byte, to `topic`; the time until all are acknowledged.
///
/// # Panics
/// When a record is not written, or has headers: then there is nothing to measure.
#[must_use]
pub fn produces_these(broker: &str, topic: &str, records: &[OutgoingRecord]) -> Duration {
    produce(broker, records.len() as u64, |number| {
        let OutgoingRecord { key, value, headers, .. } = &records[number as usize];
        assert!(headers.as_slice().is_empty());
        let record = BaseRecord::<[u8], [u8], ()>::to(topic);
        record.key(key.as_deref().unwrap_or_default()).payload(value.as_deref().unwrap_or_default())
    })
}

/// Writes with an idempotent producer, set up as ours is.
fn produce<'a>(broker: &str, count: u64, nth: impl Fn(u64) -> BaseRecord<'a, [u8], [u8], ()>) -> Duration {
    let written = Arc::new(AtomicU64::new(0));
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", broker)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.type", "lz4")
        .set("linger.ms", "5")
        .set("partitioner", "murmur2_random");
    let producer =
        ThreadedProducer::from_config_and_context(&config, Count(Arc::clone(&written))).expect("the producer starts");
    let began = Instant::now();
    for number in 0..count {
        let mut record = nth(number);
        while let Err((error, back)) = producer.send(record) {
            let is_full = matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
            assert!(is_full, "{error}");
            std::thread::sleep(Duration::from_millis(1));
            record = back;
        }
    }
    while written.load(Ordering::Relaxed) < count {
        assert!(began.elapsed() < Duration::from_secs(120), "the broker does not answer");
        std::thread::sleep(Duration::from_millis(1));
    }
    began.elapsed()
}

/// Reads `count` records with a consumer group's only member; the time from the first to the last. It may fetch as far ahead as
/// ours may, and commits as often.
///
/// # Panics
/// When they do not come.
#[must_use]
pub fn consumes(broker: &str, topic: &str, group: &str, count: u64) -> Duration {
    consumes_with(broker, topic, group, count, || ())
}

/// The same with a millisecond of waiting for each record.
///
/// # Panics
/// When they do not come.
#[must_use]
pub fn works_in_turn(broker: &str, topic: &str, group: &str, count: u64) -> Duration {
    consumes_with(broker, topic, group, count, || std::thread::sleep(Duration::from_millis(1)))
}

fn consumes_with(broker: &str, topic: &str, group: &str, count: u64, work: impl Fn()) -> Duration {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker)
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "true")
        .set("auto.commit.interval.ms", "1000")
        .set("fetch.queue.backoff.ms", "10")
        .set("fetch.wait.max.ms", "50")
        .set("queued.min.messages", "10000")
        // Ours holds 4 MB for each of eight partitions; here one queue holds all.
        .set("queued.max.messages.kbytes", "32768")
        .create()
        .expect("the consumer starts");
    consumer.subscribe(&[topic]).expect("it subscribes");
    let (mut began, mut heard_at, mut seen, mut bytes) = (Instant::now(), Instant::now(), 0, 0);
    while seen < count {
        // Nothing may also mean that the client has served something else, a rebalance for example.
        let Some(message) = consumer.poll(STEP) else {
            assert!(heard_at.elapsed() < SILENCE_MAX, "{seen} of {count} came");
            continue;
        };
        let message = message.expect("without an error");
        if seen % 1_024 == 0 {
            heard_at = Instant::now();
        }
        if seen == 0 {
            began = Instant::now();
        }
        seen += 1;
        work();
        bytes += message.key().map_or(0, <[u8]>::len) + message.payload().map_or(0, <[u8]>::len);
    }
    assert!(bytes > 0);
    began.elapsed()
}

/// Values that compress to about a half, as JSON does: the first half of each is the same, the other half is not.
struct Bodies {
    /// Random letters; values are cut from it.
    letters: Vec<u8>,
    value_bytes: usize,
}

/// Far more than lz4 looks back, so that no half is found again.
const LETTERS: usize = 4 << 20;

impl Bodies {
    fn new(value_bytes: usize) -> Self {
        let mut state = 0x9E37_79B9_u32;
        let letter = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            b'a' + (state >> 24) as u8 % 26
        };
        let mut letters: Vec<u8> = (0..LETTERS).map(letter).collect();
        let fixed = letters[..value_bytes / 2].to_vec();
        letters.chunks_exact_mut(value_bytes).for_each(|value| value[..fixed.len()].copy_from_slice(&fixed));
        Self { letters, value_bytes }
    }

    fn nth(&self, number: u64) -> &[u8] {
        let values = (self.letters.len() / self.value_bytes) as u64;
        let start = (number % values) as usize * self.value_bytes;
        &self.letters[start..start + self.value_bytes]
    }
}
