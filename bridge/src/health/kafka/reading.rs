//! Reads a whole topic from its end on: all partitions, outside any group, no offset committed.
//!
//! The consumer lives and dies on its [`super::listening`] thread, since closing one blocks.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::clients::{Clients, QuietContext, is_missing_topic};
use super::listening::{POLL, Stop};
use super::topics::TopicsWish;

/// How often it looks whether the topic has got more partitions, once it knows some.
const PARTITIONS_CHECK_MS: u64 = 10_000;

/// How soon it looks again after it could not.
const PARTITIONS_RETRY_MS: u64 = 250;

/// How long it waits for the answer; meanwhile nothing is read.
const PARTITIONS_ANSWER_MS_MAX: u64 = 500;

/// Pause before a consumer that failed for good is made anew.
const REMAKE_MS: u64 = 1_000;

/// What is read, and what it needs.
pub(super) struct TopicReading {
    pub(super) clients: Clients,
    pub(super) topics: TopicsWish,
    pub(super) topic: &'static str,
}

impl TopicReading {
    /// Gives every record that is written from about now on to `take`, until it is asked to stop. Returns earlier only when the client
    /// refuses its settings.
    pub(super) fn run(&self, stop: &Stop, take: impl Fn(&BorrowedMessage<'_>)) {
        while !stop.is_asked() {
            if !self.topics.wait(POLL) {
                continue;
            }
            let consumer = match self.clients.consumer() {
                Ok(consumer) => consumer,
                Err(error) => {
                    tracing::error!(topic = self.topic, %error, "kafka client refuses its settings");
                    return;
                }
            };
            if let Err(error) = self.poll(&consumer, stop, &take) {
                tracing::warn!(topic = self.topic, %error, "kafka consumer failed for good, making a new one");
                drop(consumer);
                std::thread::park_timeout(Duration::from_millis(REMAKE_MS));
            }
        }
    }

    /// Ends well when asked to stop, with an error when the consumer can do no more.
    fn poll(
        &self,
        consumer: &BaseConsumer<QuietContext>,
        stop: &Stop,
        take: impl Fn(&BorrowedMessage<'_>),
    ) -> Result<(), KafkaError> {
        let mut assigned = Assigned { partitions: 0, check_at: Instant::now() };
        while !stop.is_asked() {
            if Instant::now() >= assigned.check_at {
                assigned.follow(self.topic, consumer)?;
            }
            match consumer.poll(POLL) {
                Some(Ok(record)) => take(&record),
                None => {}
                Some(Err(fatal @ KafkaError::MessageConsumptionFatal(_))) => return Err(fatal),
                Some(Err(error)) if is_missing_topic(&error) => {
                    self.topics.check_again();
                    assigned = Assigned { partitions: 0, check_at: in_ms(PARTITIONS_RETRY_MS) };
                }
                Some(Err(error)) => tracing::debug!(topic = self.topic, %error, "kafka consumer hindered"),
            }
        }
        Ok(())
    }
}

/// How many partitions are read, and when to look whether there are more.
struct Assigned {
    partitions: i32,
    check_at: Instant,
}

impl Assigned {
    fn follow(&mut self, topic: &str, consumer: &BaseConsumer<QuietContext>) -> Result<(), KafkaError> {
        let known = consumer.fetch_metadata(Some(topic), Duration::from_millis(PARTITIONS_ANSWER_MS_MAX));
        let partitions = known.ok().and_then(|known| known.topics().first().map(|topic| topic.partitions().len()));
        let partitions = i32::try_from(partitions.unwrap_or(0)).unwrap_or(0);
        if partitions == 0 {
            self.check_at = in_ms(PARTITIONS_RETRY_MS);
            return Ok(());
        }
        if partitions != self.partitions {
            let mut all = TopicPartitionList::new();
            all.add_partition_range(topic, 0, partitions - 1);
            all.set_all_offsets(Offset::End)?;
            consumer.assign(&all)?;
            tracing::debug!(topic, partitions, "reading from the end");
            self.partitions = partitions;
        }
        self.check_at = in_ms(PARTITIONS_CHECK_MS);
        Ok(())
    }
}

fn in_ms(ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(ms)
}
