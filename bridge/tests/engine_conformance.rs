//! The log in memory keeps what every log must keep.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod conformance;

use std::sync::Arc;

use conformance::LogUnderTest;
use microcommerce_bridge::{
    memory::MemoryLog,
    ports::{LogSink, LogSource},
    record::{OutgoingRecord, Record, TopicPartition},
};

struct InMemory(MemoryLog);

impl LogUnderTest for InMemory {
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
        Ok(self.0.source(topics, group))
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
fn the_log_in_memory_conforms() {
    conformance::run_all(|| Arc::new(InMemory(MemoryLog::new())));
}
