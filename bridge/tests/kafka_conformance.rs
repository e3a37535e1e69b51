//! Kafka keeps what every log must keep, and the engine's promises hold on it.
//!
//! It needs `KAFKA_BROKER`; with `REQUIRE_KAFKA=1` it fails without it instead of being skipped.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod conformance;
mod support;

use std::{sync::Arc, time::Duration};

use conformance::LogUnderTest;
use microcommerce_bridge::{
    kafka::{KafkaSink, KafkaSinkConfig, KafkaSource, KafkaSourceConfig, KafkaTopics, TopicSpec},
    ports::{LogSink, LogSource},
    record::{OutgoingRecord, Record, TopicPartition},
};
use rdkafka::{
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    config::ClientConfig,
    consumer::{BaseConsumer, Consumer},
    message::{Headers as _, Message},
    topic_partition_list::{Offset, TopicPartitionList},
};
use support::{
    PATIENCE,
    kafka::{settings, write_all},
    kafka_broker,
};
use tokio::runtime::Runtime;

fn admin(broker: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", broker).create().unwrap()
}

/// It is gone when this returns, so that one of its name can be made.
fn delete_topic(runtime: &Runtime, broker: &str, topic: &str) {
    let admin = admin(broker);
    let deleted = runtime.block_on(admin.delete_topics(&[topic], &AdminOptions::new())).unwrap();
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    let until = std::time::Instant::now() + PATIENCE;
    let is_there = || {
        let metadata = admin.inner().fetch_metadata(None, PATIENCE).unwrap();
        metadata.topics().iter().any(|known| known.name() == topic)
    };
    while is_there() {
        assert!(std::time::Instant::now() < until, "{topic} is still there");
    }
}

struct OnKafka {
    broker: String,
    sink: KafkaSink,
    runtime: Runtime,
}

impl LogUnderTest for OnKafka {
    fn create_topic(&self, topic: &str, partitions: i32) {
        let topics = KafkaTopics::new(settings(&self.broker)).unwrap();
        let specs = [TopicSpec::new(topic, partitions), TopicSpec::new(format!("{topic}.dlq"), 1)];
        self.runtime.block_on(topics.create_missing(&specs)).unwrap();
    }

    fn write(&self, records: Vec<OutgoingRecord>) {
        let results = self.runtime.block_on(write_all(&self.sink, records));
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    }

    /// With a plain client, so that no code of ours is in its own way.
    fn read_all(&self, topic: &str) -> Vec<Record> {
        let consumer: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", &self.broker).set("group.id", "reads-all").create().unwrap();
        let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
        let mut all = Vec::new();
        for partition in metadata.topics()[0].partitions() {
            let (first, end) = consumer.fetch_watermarks(topic, partition.id(), PATIENCE).unwrap();
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(topic, partition.id(), Offset::Offset(first)).unwrap();
            consumer.assign(&list).unwrap();
            let mut next = first;
            while next < end {
                let message = consumer.poll(PATIENCE).unwrap().unwrap();
                next = message.offset() + 1;
                let mut headers = microcommerce_bridge::record::Headers::default();
                for header in message.headers().into_iter().flat_map(|headers| headers.iter()) {
                    headers = headers.with(header.key.to_owned(), header.value.unwrap_or_default().to_vec());
                }
                let bytes = |part: Option<&[u8]>| part.map(|part| part.to_vec().into());
                all.push(Record {
                    topic: topic.into(),
                    partition: message.partition(),
                    offset: message.offset(),
                    timestamp_ms: message.timestamp().to_millis(),
                    key: bytes(message.key()),
                    value: bytes(message.payload()),
                    headers,
                });
            }
        }
        all
    }

    fn open(&self, topics: &[Arc<str>], group: &str) -> Result<Box<dyn LogSource>, String> {
        let topics = topics.iter().map(|topic| topic.to_string()).collect();
        let config = KafkaSourceConfig {
            session_timeout: Duration::from_secs(6),
            ..KafkaSourceConfig::new(settings(&self.broker), group, topics)
        };
        KafkaSource::start(&config).map(|source| Box::new(source) as _).map_err(|error| error.to_string())
    }

    fn dead_letters(&self) -> Arc<dyn LogSink> {
        Arc::new(self.sink.clone())
    }

    fn remove_before(&self, partition: &TopicPartition, offset: i64) -> bool {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&partition.topic, partition.partition, Offset::Offset(offset)).unwrap();
        self.runtime.block_on(admin(&self.broker).delete_records(&list, &AdminOptions::new())).unwrap();
        true
    }

    fn make_again(&self, topic: &str, partitions: i32) -> bool {
        delete_topic(&self.runtime, &self.broker, topic);
        self.create_topic(topic, partitions);
        true
    }
}

#[test]
fn kafka_conforms() {
    let Some(broker) = kafka_broker("kafka_conforms") else { return };
    conformance::run_all(|| {
        let sink = KafkaSink::start(KafkaSinkConfig::new(settings(&broker))).unwrap();
        Arc::new(OnKafka { broker: broker.clone(), sink, runtime: Runtime::new().unwrap() })
    });
}
