//! How our Kafka clients are set up: every setting that differs from librdkafka's default, and why.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rdkafka::admin::AdminClient;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryResult, ProducerContext, ThreadedProducer};

use super::config::KafkaHealthConfig;
use super::link::LinkEvidence;
use super::wish::TopicsWish;
use crate::health::transport::TransportError;
use crate::kafka::settings::{QuietContext, whisper};

/// Longest pause between two attempts to connect; the default of 10 s would show a broker's return late.
pub const RECONNECT_MS_MAX: u64 = 500;

/// How long a ping or pong may wait for its delivery. Later it would tell of the past.
pub const RECORD_MS_MAX: u64 = 1_000;

/// How long a request to a broker may take before its connection is given up; more than the half second a fetch may wait there.
const REQUEST_MS_MAX: u64 = 3_000;

/// How often clients ask which topics and leaders there are: bounds how late a topic that was made anew is found.
const METADATA_INTERVAL_MS: u64 = 2_000;

/// Records that wait for delivery: 64 services, both topics, for as long as a record may wait, and double that.
const QUEUE_RECORDS_MAX: u64 = 1_024;

/// librdkafka wants a group's name even from a consumer that never joins it nor commits to it.
const NO_GROUP: &str = "health-reader-without-group";

/// Makes the clients of one process.
#[derive(Clone)]
pub(super) struct Clients {
    /// What all of them have in common.
    common: Arc<ClientConfig>,
    brokers: Arc<str>,
    topic_prefix: Arc<str>,
}

impl Clients {
    pub(super) fn new(config: &KafkaHealthConfig) -> Result<Self, TransportError> {
        let mut common = config.client.client_config().map_err(|error| TransportError::Settings(error.to_string()))?;
        common
            .set("socket.timeout.ms", REQUEST_MS_MAX.to_string())
            .set("reconnect.backoff.max.ms", RECONNECT_MS_MAX.to_string())
            .set("topic.metadata.refresh.interval.ms", METADATA_INTERVAL_MS.to_string())
            // the default waits 30 s for a topic that may be on its way; ours are there before anyone asks
            .set("topic.metadata.propagation.max.ms", METADATA_INTERVAL_MS.to_string());
        let (brokers, topic_prefix) = (config.client.brokers.as_str().into(), config.topic_prefix.as_str().into());
        Ok(Self { common: Arc::new(common), brokers, topic_prefix })
    }

    /// A topic's name on this cluster.
    pub(super) fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.topic_prefix)
    }

    pub(super) fn broker(&self) -> &str {
        &self.brokers
    }

    pub(super) fn producer(
        &self,
        context: HeartbeatContext,
    ) -> Result<ThreadedProducer<HeartbeatContext>, TransportError> {
        let mut settings = (*self.common).clone();
        settings
            .set("acks", "all")
            .set("message.send.max.retries", "0")
            .set("linger.ms", "0")
            .set("message.timeout.ms", RECORD_MS_MAX.to_string())
            .set("request.timeout.ms", RECORD_MS_MAX.to_string())
            .set("queue.buffering.max.messages", QUEUE_RECORDS_MAX.to_string())
            .set("partitioner", "murmur2_random")
            // the topics are ours to make, with their retention: a producer must not make them by the way
            .set("allow.auto.create.topics", "false");
        ThreadedProducer::from_config_and_context(&settings, context).map_err(|error| settings_error(&error))
    }

    pub(super) fn admin(&self) -> Result<AdminClient<QuietContext>, KafkaError> {
        AdminClient::from_config_and_context(&self.common, QuietContext)
    }

    /// A consumer outside every group, for partitions that it is given by hand.
    pub(super) fn consumer(&self) -> Result<BaseConsumer<QuietContext>, KafkaError> {
        let mut settings = (*self.common).clone();
        settings
            .set("group.id", NO_GROUP)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // an offset that is gone (a topic made anew) is answered like a new assignment: with the end
            .set("auto.offset.reset", "latest")
            .set("fetch.error.backoff.ms", "100");
        BaseConsumer::from_config_and_context(&settings, QuietContext)
    }
}

fn settings_error(error: &KafkaError) -> TransportError {
    TransportError::Settings(error.to_string())
}

/// Turns what the producer reports into evidence about the link.
pub(super) struct HeartbeatContext {
    evidence: Arc<Mutex<LinkEvidence>>,
    topics: TopicsWish,
}

impl HeartbeatContext {
    pub(super) fn new(evidence: Arc<Mutex<LinkEvidence>>, topics: TopicsWish) -> Self {
        Self { evidence, topics }
    }

    fn note(&self, note: impl FnOnce(&mut LinkEvidence, Instant)) {
        note(&mut self.evidence.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
    }
}

impl ClientContext for HeartbeatContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        whisper(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.note(LinkEvidence::all_brokers_down);
        }
        tracing::debug!(%error, reason, "kafka producer error");
    }
}

impl ProducerContext for HeartbeatContext {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => self.note(LinkEvidence::acknowledged),
            Err((error, _)) => {
                // to a topic that has vanished records are not refused: they time out while the client waits for it to come
                if is_missing_topic(error) || error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageTimedOut) {
                    self.topics.suspect();
                }
                tracing::debug!(%error, "heartbeat not delivered");
            }
        }
    }
}

/// True when the broker does not know the topic, or the client believes so.
pub(super) fn is_missing_topic(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{UnknownPartition, UnknownTopic, UnknownTopicOrPartition};
    matches!(error.rdkafka_error_code(), Some(UnknownPartition | UnknownTopic | UnknownTopicOrPartition))
}
