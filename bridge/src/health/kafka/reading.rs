//! Reads a whole topic from its end on: all partitions, outside any group, no offset committed.
//!
//! The consumer lives and dies on its [`super::listening`] thread, since closing one blocks.
//!
//! It watches itself: every [`CHECK_MS`] it compares how far the log has come with what it has read. A consumer that reads nothing
//! of a log that grows is stuck, and a new one is made. So it was seen with topics that are deleted and created again: librdkafka
//! 2.12 goes on asking for the old ones, and reports no error.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::clients::{Clients, is_missing_topic};
use super::listening::{POLL, Stop};
use super::wish::TopicsWish;
use crate::kafka::settings::QuietContext;

/// How often it looks which partitions there are and whether it keeps up with them: two small requests.
const CHECK_MS: u64 = 1_000;

/// How soon it looks again after it could not.
const CHECK_RETRY_MS: u64 = 250;

/// How long it waits for each answer; meanwhile nothing is read.
const ANSWER_MS_MAX: u64 = 500;

/// Pause before a consumer that failed for good is made anew.
const REMAKE_MS: u64 = 1_000;

/// What is read, and what it needs.
pub(super) struct TopicReading {
    pub(super) clients: Clients,
    pub(super) topics: TopicsWish,
    pub(super) topic: String,
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
                tracing::warn!(topic = self.topic, %error, "kafka consumer of no more use, making a new one");
                drop(consumer);
                std::thread::park_timeout(Duration::from_millis(REMAKE_MS));
            }
        }
    }

    /// Ends well when asked to stop, with an error when this consumer is of no more use.
    fn poll(
        &self,
        consumer: &BaseConsumer<QuietContext>,
        stop: &Stop,
        take: impl Fn(&BorrowedMessage<'_>),
    ) -> Result<(), Useless> {
        let mut assigned = Assigned { partitions: 0, check_at: Instant::now() };
        let mut progress = Progress::default();
        while !stop.is_asked() {
            if Instant::now() >= assigned.check_at {
                assigned.follow(&self.topic, consumer)?;
                if progress.is_stuck(log_end(&self.topic, assigned.partitions, consumer)) {
                    return Err(Useless::Stuck);
                }
            }
            match consumer.poll(POLL) {
                Some(Ok(record)) => {
                    progress.read_since_check += 1;
                    take(&record);
                }
                None => {}
                Some(Err(fatal @ KafkaError::MessageConsumptionFatal(_))) => return Err(Useless::Client(fatal)),
                Some(Err(error)) if is_missing_topic(&error) => {
                    self.topics.suspect();
                    assigned = Assigned { partitions: 0, check_at: in_ms(CHECK_RETRY_MS) };
                }
                Some(Err(error)) => tracing::debug!(topic = self.topic, %error, "kafka consumer hindered"),
            }
        }
        Ok(())
    }
}

/// Why a consumer is given up.
#[derive(Debug, thiserror::Error)]
enum Useless {
    #[error(transparent)]
    Client(#[from] KafkaError),
    #[error("the topic grows but nothing of it arrives")]
    Stuck,
}

/// Whether what is read keeps up with what is written.
#[derive(Default)]
struct Progress {
    read_since_check: u64,
    log_end: Option<i64>,
    /// The log had moved by the last check though nothing had been read: it may have been under way.
    is_suspect: bool,
}

impl Progress {
    /// To be asked at every check; `log_end` is unknown while the broker is away. True when the log had moved by the last check, and
    /// until this one still nothing was read.
    fn is_stuck(&mut self, log_end: Option<i64>) -> bool {
        let has_read = std::mem::take(&mut self.read_since_check) > 0;
        let has_moved = log_end.is_some() && self.log_end.is_some() && log_end != self.log_end;
        let is_stuck = self.is_suspect && !has_read && log_end.is_some();
        self.is_suspect = !has_read && log_end.is_some() && (has_moved || self.is_suspect);
        self.log_end = log_end.or(self.log_end);
        is_stuck
    }
}

/// The sum of all partitions' ends; none when a broker does not tell it.
fn log_end(topic: &str, partitions: i32, consumer: &BaseConsumer<QuietContext>) -> Option<i64> {
    let answer = Duration::from_millis(ANSWER_MS_MAX);
    (0..partitions).map(|partition| consumer.fetch_watermarks(topic, partition, answer).ok().map(|(_, end)| end)).sum()
}

/// How many partitions are read, and when to look again.
struct Assigned {
    partitions: i32,
    check_at: Instant,
}

impl Assigned {
    fn follow(&mut self, topic: &str, consumer: &BaseConsumer<QuietContext>) -> Result<(), KafkaError> {
        let known = consumer.fetch_metadata(Some(topic), Duration::from_millis(ANSWER_MS_MAX));
        let partitions = known.ok().and_then(|known| known.topics().first().map(|topic| topic.partitions().len()));
        let partitions = i32::try_from(partitions.unwrap_or(0)).unwrap_or(0);
        if partitions == 0 {
            self.check_at = in_ms(CHECK_RETRY_MS);
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
        self.check_at = in_ms(CHECK_MS);
        Ok(())
    }
}

fn in_ms(ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each step: how many records were read since the last check, and the log's end at this one.
    fn verdicts(steps: &[(u64, Option<i64>)]) -> Vec<bool> {
        let mut progress = Progress::default();
        let check = |(read, log_end): &(u64, Option<i64>)| {
            progress.read_since_check += read;
            progress.is_stuck(*log_end)
        };
        steps.iter().map(check).collect()
    }

    #[test]
    fn only_a_reader_that_misses_what_was_written_for_a_whole_check_is_stuck() {
        type Case = (&'static str, &'static [(u64, Option<i64>)], &'static [bool]);
        let table: [Case; 7] = [
            ("an idle log", &[(0, Some(5)), (0, Some(5)), (0, Some(5))], &[false; 3]),
            ("a busy log that is read", &[(0, Some(5)), (4, Some(9)), (4, Some(13))], &[false; 3]),
            ("one late record", &[(0, Some(5)), (0, Some(6)), (1, Some(6)), (0, Some(6))], &[false; 4]),
            (
                "a growing log of which nothing comes",
                &[(9, Some(5)), (0, Some(9)), (0, Some(13))],
                &[false, false, true],
            ),
            (
                "a log that was cut and begins anew",
                &[(9, Some(500)), (0, Some(2)), (0, Some(6))],
                &[false, false, true],
            ),
            ("a broker that is away", &[(9, Some(5)), (0, None), (0, None), (0, None)], &[false; 4]),
            ("away in doubt, and back", &[(9, Some(5)), (0, Some(9)), (0, None), (0, Some(9))], &[false; 4]),
        ];
        for (case, steps, expected) in table {
            assert_eq!(verdicts(steps), expected, "{case}");
        }
    }
}
