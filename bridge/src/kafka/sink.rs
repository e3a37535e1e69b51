//! An idempotent producer, as a [`LogSink`].
//!
//! **Owns** one producer with a thread of its own, on which acknowledgements are called. **Talks to** nobody else. What it has
//! taken is counted here, in records and in bytes, and both have a bound: past it nothing is taken, until half is free again.
//!
//! - Written means: every replica that must have it has it (`acks=all`), once, and in the order of a partition, as far as one
//!   life of the producer goes (`enable.idempotence`). A new producer knows nothing of the old one's records.
//! - **When the producer fails for good** a new one is made in the background, and what was on its way fails as
//!   [`SinkError::Fatal`]: it may have been written. So it is when a record was not acknowledged in time: a topic that was made again
//!   may be why, whose leaders a producer that has seen an election of the former one never finds (see `identities`).
//! - **When it is dropped** what was taken is still sent, in the background, for [`DROP_FLUSH_MAX`] at most; then the rest fails.
//!
//! It does **not** try a record again that failed, or keep order across a failure: the relay does.

use std::{
    sync::{
        Arc, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use rdkafka::{
    client::ClientContext,
    config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel},
    error::{KafkaError, RDKafkaErrorCode},
    message::{DeliveryResult, Message},
    producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer},
};
use tokio::sync::Notify;

use super::{
    native,
    settings::{Compression, KafkaClientSettings, SettingsError, whisper},
};
use crate::{
    ports::{Acknowledge, LogSink, NotTaken, SinkError, Written},
    record::OutgoingRecord,
};

/// How long a dropped sink goes on sending what it has taken.
pub const DROP_FLUSH_MAX: Duration = Duration::from_secs(5);
/// librdkafka's own bound lies above ours, so that ours is the one that is met.
const CLIENT_QUEUE_FACTOR: usize = 2;

/// How the sink writes.
#[derive(Clone, Debug)]
pub struct KafkaSinkConfig {
    /// Where Kafka is.
    pub client: KafkaClientSettings,
    /// How long a record waits for others that go with it. Less is quicker for one record, and slower for many.
    pub linger: Duration,
    /// How batches of records are compressed.
    pub compression: Compression,
    /// A record that was not acknowledged after this long has failed, and may have been written.
    pub delivery_timeout: Duration,
    /// The most records on their way.
    pub records_max: usize,
    /// The most bytes on their way: keys and values.
    pub bytes_max: usize,
    /// A larger record is refused. Brokers take a little over 1,000,000 bytes unless they are told otherwise.
    pub record_bytes_max: usize,
}

impl KafkaSinkConfig {
    /// The usual: 5 ms of waiting for company, 30 s for an acknowledgement, 100,000 records and 64 MB on their way.
    #[must_use]
    pub fn new(client: KafkaClientSettings) -> Self {
        Self {
            client,
            linger: Duration::from_millis(5),
            compression: Compression::default(),
            delivery_timeout: Duration::from_secs(30),
            records_max: 100_000,
            bytes_max: 64 << 20,
            record_bytes_max: 1_000_000,
        }
    }

    fn client_config(&self) -> Result<ClientConfig, SettingsError> {
        let mut config = self.client.client_config()?;
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            // As Java's clients choose: whoever else writes to the topic puts a key into the same partition.
            .set("partitioner", "murmur2_random")
            .set("compression.type", self.compression.name())
            .set("linger.ms", self.linger.as_millis().to_string())
            .set("delivery.timeout.ms", self.delivery_timeout.as_millis().to_string())
            .set("message.max.bytes", self.record_bytes_max.to_string())
            .set("queue.buffering.max.messages", (self.records_max * CLIENT_QUEUE_FACTOR).to_string())
            .set("queue.buffering.max.kbytes", (self.bytes_max * CLIENT_QUEUE_FACTOR / 1_024).max(1).to_string())
            // Topics are made on purpose, with partitions and replicas: see `topics`.
            .set("allow.auto.create.topics", "false")
            // A topic that was made a moment ago is waited for, and no longer: its absence is news.
            .set("topic.metadata.propagation.max.ms", "5000");
        Ok(config)
    }
}

/// See the module's text. Clones share the producer.
#[derive(Clone)]
pub struct KafkaSink {
    shared: Arc<Shared>,
}

struct Shared {
    config: KafkaSinkConfig,
    /// The producer of the present life; none once the sink is going.
    producer: RwLock<Option<Arc<Life>>>,
    taken: Arc<Taken>,
}

/// One producer, from its making to its failing for good.
struct Life {
    producer: ThreadedProducer<SinkContext>,
    began: Instant,
    has_failed: AtomicBool,
}

/// What is on its way, and who waits for it to become less.
#[derive(Default)]
struct Taken {
    records: AtomicUsize,
    bytes: AtomicUsize,
    /// Records whose acknowledgement has not returned: their room is free a moment earlier.
    unsettled: AtomicUsize,
    /// Somebody was sent away: the next to find half of the room free calls those who wait.
    is_full: AtomicBool,
    room: Notify,
    settled: Notify,
}

struct SinkContext {
    taken: Arc<Taken>,
    shared: Weak<Shared>,
    records_max: usize,
    bytes_max: usize,
}

/// What a record on its way carries.
struct OnItsWay {
    bytes: usize,
    acknowledge: Acknowledge,
}

impl KafkaSink {
    /// Makes the producer; it connects in the background, whether Kafka is there or not.
    ///
    /// # Errors
    /// [`SettingsError`] where the settings make no sense, or ask for encryption that this build has not.
    pub fn start(config: KafkaSinkConfig) -> Result<Self, SettingsError> {
        let shared = Arc::new(Shared { config, producer: RwLock::new(None), taken: Arc::default() });
        let life = shared.new_life()?;
        *shared.producer.write().unwrap_or_else(PoisonError::into_inner) = Some(life);
        Ok(Self { shared })
    }

    /// Records on their way: taken and not settled.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.shared.taken.records.load(Ordering::Acquire)
    }
}

impl Shared {
    fn new_life(self: &Arc<Self>) -> Result<Arc<Life>, SettingsError> {
        let context = SinkContext {
            taken: Arc::clone(&self.taken),
            shared: Arc::downgrade(self),
            records_max: self.config.records_max,
            bytes_max: self.config.bytes_max,
        };
        let producer = ThreadedProducer::from_config_and_context(&self.config.client_config()?, context)?;
        Ok(Arc::new(Life { producer, began: Instant::now(), has_failed: AtomicBool::new(false) }))
    }

    fn life(&self) -> Option<Arc<Life>> {
        self.producer.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Begins a new life if this one has failed for good.
    fn renew(self: &Arc<Self>) {
        let Some(life) = self.life() else { return };
        if let Some((_, reason)) = life.producer.client().fatal_error() {
            self.end(life, &reason);
        }
    }

    /// Begins a new life where a record of this one was not acknowledged in time, and all of that time was this life's.
    fn renew_after_timeout(self: &Arc<Self>) {
        let Some(life) = self.life() else { return };
        if life.began.elapsed() >= self.config.delivery_timeout {
            self.end(life, "records were not acknowledged in time");
        }
    }

    /// Begins a new life, on a thread of its own, since ending the old one takes a while. Once for each life.
    fn end(self: &Arc<Self>, life: Arc<Life>, reason: &str) {
        if life.has_failed.swap(true, Ordering::AcqRel) {
            return;
        }
        tracing::warn!(reason, "the Kafka producer is of no more use: making a new one");
        let shared = Arc::clone(self);
        let renewing = thread::Builder::new().name("kafka-sink-renew".to_owned()).spawn(move || {
            match shared.new_life() {
                Ok(new) => {
                    *shared.producer.write().unwrap_or_else(PoisonError::into_inner) = Some(new);
                }
                // The next to send finds the failed one and tries again.
                Err(error) => {
                    life.has_failed.store(false, Ordering::Release);
                    return tracing::error!(%error, "no new Kafka producer");
                }
            }
            // Ends what is on its way: each record's acknowledgement is called with an error.
            drop(life);
        });
        if let Err(error) = renewing {
            tracing::error!(%error, "no thread to make a new Kafka producer");
        }
    }
}

impl Taken {
    fn has_room_for(&self, bytes: usize, config: &KafkaSinkConfig) -> bool {
        let records = self.records.load(Ordering::Acquire);
        // A record larger than the whole room goes alone.
        records < config.records_max
            && (records == 0 || self.bytes.load(Ordering::Acquire).saturating_add(bytes) <= config.bytes_max)
    }

    fn is_half_free(&self, records_max: usize, bytes_max: usize) -> bool {
        self.records.load(Ordering::Acquire) <= records_max / 2 && self.bytes.load(Ordering::Acquire) <= bytes_max / 2
    }

    fn add(&self, bytes: usize) {
        self.unsettled.fetch_add(1, Ordering::AcqRel);
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        self.records.fetch_add(1, Ordering::AcqRel);
    }

    fn free(&self, bytes: usize, records_max: usize, bytes_max: usize) {
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        self.records.fetch_sub(1, Ordering::AcqRel);
        if self.is_full.load(Ordering::Acquire) && self.is_half_free(records_max, bytes_max) {
            self.is_full.store(false, Ordering::Release);
            self.room.notify_waiters();
        }
    }

    fn settle(&self) {
        if self.unsettled.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.settled.notify_waiters();
        }
    }
}

impl LogSink for KafkaSink {
    fn send(&self, record: &OutgoingRecord, acknowledge: Acknowledge) -> Result<(), NotTaken> {
        let Shared { config, taken, .. } = &*self.shared;
        let not_taken = |acknowledge, error| Err(NotTaken { acknowledge, error });
        let bytes =
            record.key.as_ref().map_or(0, bytes::Bytes::len) + record.value.as_ref().map_or(0, bytes::Bytes::len);
        if !taken.has_room_for(bytes, config) {
            taken.is_full.store(true, Ordering::Release);
            // The last acknowledgement may have come just before that: then nobody else would ever call.
            if taken.is_half_free(config.records_max, config.bytes_max) {
                taken.is_full.store(false, Ordering::Release);
            }
            return not_taken(acknowledge, SinkError::Full);
        }
        let Some(life) = self.shared.life() else {
            return not_taken(acknowledge, SinkError::Fatal("the sink is closing".to_owned()));
        };
        taken.add(bytes);
        let on_its_way = Box::new(OnItsWay { bytes, acknowledge });
        let mut native = BaseRecord::<[u8], [u8], Box<OnItsWay>>::with_opaque_to(&record.topic, on_its_way);
        native.partition = record.partition;
        native.key = record.key.as_deref();
        native.payload = record.value.as_deref();
        native.timestamp = record.timestamp_ms;
        native.headers = native::to_native(&record.headers);
        let Err((error, native)) = life.producer.send(native) else { return Ok(()) };
        let on_its_way = native.delivery_opaque;
        taken.free(bytes, config.records_max, config.bytes_max);
        taken.settle();
        let error = sink_error(&error);
        if matches!(error, SinkError::Fatal(_)) {
            self.shared.renew();
        }
        not_taken(on_its_way.acknowledge, error)
    }

    fn room(&self) -> BoxFuture<'static, ()> {
        let taken = Arc::clone(&self.shared.taken);
        Box::pin(async move {
            loop {
                let mut called = std::pin::pin!(taken.room.notified());
                // Listening begins before the look: a call between the two is not missed.
                called.as_mut().enable();
                if !taken.is_full.load(Ordering::Acquire) {
                    return;
                }
                called.await;
            }
        })
    }

    fn flush(&self, deadline: Duration) -> BoxFuture<'static, bool> {
        let taken = Arc::clone(&self.shared.taken);
        let settled = async move {
            loop {
                let mut called = std::pin::pin!(taken.settled.notified());
                called.as_mut().enable();
                if taken.unsettled.load(Ordering::Acquire) == 0 {
                    return;
                }
                called.await;
            }
        };
        Box::pin(async move { tokio::time::timeout(deadline, settled).await.is_ok() })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let life = self.producer.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let Some(life) = life else { return };
        // Sending and ending block: not on the thread that drops us, which may be an async one.
        let ending = thread::Builder::new().name("kafka-sink-end".to_owned()).spawn(move || {
            if let Err(error) = life.producer.flush(DROP_FLUSH_MAX) {
                tracing::warn!(%error, "the Kafka sink ended before all of its records were acknowledged");
            }
            drop(life);
        });
        if let Err(error) = ending {
            tracing::error!(%error, "no thread to end the Kafka producer in order");
        }
    }
}

impl ClientContext for SinkContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        whisper(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka producer error");
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal)
            && let Some(shared) = self.shared.upgrade()
        {
            shared.renew();
        }
    }
}

impl ProducerContext for SinkContext {
    type DeliveryOpaque = Box<OnItsWay>;

    fn delivery(&self, result: &DeliveryResult<'_>, on_its_way: Box<OnItsWay>) {
        let OnItsWay { bytes, acknowledge } = *on_its_way;
        let result = match result {
            Ok(message) => Ok(Written { partition: message.partition(), offset: message.offset() }),
            Err((error, _)) => {
                if error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageTimedOut)
                    && let Some(shared) = self.shared.upgrade()
                {
                    shared.renew_after_timeout();
                }
                Err(sink_error(error))
            }
        };
        // Counted before it is told, so that who is told and sends again finds the room.
        self.taken.free(bytes, self.records_max, self.bytes_max);
        acknowledge(result);
        // Told before it is settled, so that who waits for all of it has heard all of it.
        self.taken.settle();
    }
}

/// What an error of the client means for the record.
fn sink_error(error: &KafkaError) -> SinkError {
    use RDKafkaErrorCode::{
        Fatal, InvalidArgument, InvalidMessage, InvalidMessageSize, InvalidRecord, InvalidTimestamp,
        MessageBatchTooLarge, MessageSizeTooLarge, PolicyViolation, PurgeInflight, PurgeQueue, QueueFull,
    };
    let text = error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string());
    match error.rdkafka_error_code() {
        Some(QueueFull) => SinkError::Full,
        // `MessageBatchTooLarge` too: the client makes batches of what a topic allows, so it is one record that does not fit.
        Some(
            InvalidArgument | InvalidMessage | InvalidMessageSize | InvalidRecord | InvalidTimestamp
            | MessageBatchTooLarge | MessageSizeTooLarge | PolicyViolation,
        ) => SinkError::Refused(text),
        Some(Fatal | PurgeInflight | PurgeQueue) => SinkError::Fatal(text),
        Some(_) => SinkError::Unavailable(text),
        // A topic's name with a zero byte, for example: it never reached the client.
        None => SinkError::Refused(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_whether_sending_again_may_help() {
        let of = |code| sink_error(&KafkaError::MessageProduction(code));
        assert!(matches!(of(RDKafkaErrorCode::MessageTimedOut), SinkError::Unavailable(_)));
        assert!(matches!(of(RDKafkaErrorCode::UnknownTopicOrPartition), SinkError::Unavailable(_)));
        assert!(matches!(of(RDKafkaErrorCode::TopicAuthorizationFailed), SinkError::Unavailable(_)));
        assert!(matches!(of(RDKafkaErrorCode::MessageSizeTooLarge), SinkError::Refused(_)));
        assert!(matches!(of(RDKafkaErrorCode::Fatal), SinkError::Fatal(_)));
        assert_eq!(of(RDKafkaErrorCode::QueueFull), SinkError::Full);
    }

    #[test]
    fn the_default_build_takes_every_setting_of_the_sink() {
        for compression in Compression::ALL {
            let config = KafkaSinkConfig::new(KafkaClientSettings::plain("127.0.0.1:1", "test"));
            drop(KafkaSink::start(KafkaSinkConfig { compression, ..config }).unwrap());
        }
    }
}
