//! What the consumer tells its source: callbacks turned into a list that the source works off.
//!
//! librdkafka calls back in the middle of a poll, where the source's owner cannot be reached. Nothing forces an answer there:
//! a group waits until the assignment has been carried out, whenever that is. So callbacks only note what happened, and the
//! source does the rest between two polls, in the order in which it happened.
//!
//! Once the source is going away nobody works the list off any more: then rebalances are carried out at once, without
//! commits, so that the client can end.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use rdkafka::{
    client::ClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol},
    error::{KafkaError, KafkaResult},
    topic_partition_list::TopicPartitionList,
    types::RDKafkaRespErr,
};

use super::{
    native::{Listed, listed},
    settings::whisper,
};

/// One thing that happened.
pub(super) enum Told {
    /// These are to be assigned.
    Assign(TopicPartitionList),
    /// These are to be given up.
    Revoke(TopicPartitionList),
    /// What came of a commit: one error for all, or one for each partition.
    Committed(KafkaResult<()>, Vec<Listed>),
    /// A report of the statistics.
    Statistics(Vec<u8>),
}

/// Notes what the consumer calls back.
#[derive(Default)]
pub(super) struct GroupContext {
    told: Mutex<VecDeque<Told>>,
    /// How many events were served: tells a poll that served one from a poll that found nothing.
    served: AtomicU64,
    is_leaving: AtomicBool,
    /// librdkafka's words for its newest error: an error's code alone rarely says which broker or topic.
    reason: Mutex<String>,
}

impl GroupContext {
    pub(super) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    pub(super) fn take(&self) -> VecDeque<Told> {
        std::mem::take(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn reason(&self) -> String {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on rebalances are carried out at once.
    pub(super) fn leave(&self) {
        self.is_leaving.store(true, Ordering::Release);
    }

    fn note(&self, told: Told) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).push_back(told);
        self.serve();
    }

    fn serve(&self) {
        self.served.fetch_add(1, Ordering::Relaxed);
    }
}

impl ClientContext for GroupContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.serve();
        whisper(level, facility, message);
    }

    fn stats_raw(&self, report: &[u8]) {
        self.note(Told::Statistics(report.to_vec()));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.serve();
        tracing::debug!(%error, reason, "kafka consumer error");
        reason.clone_into(&mut self.reason.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl ConsumerContext for GroupContext {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, kind: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let is_assignment = kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if !self.is_leaving.load(Ordering::Acquire) {
            let partitions = partitions.clone();
            self.note(if is_assignment { Told::Assign(partitions) } else { Told::Revoke(partitions) });
            return;
        }
        let done = if is_assignment { assign(consumer, partitions) } else { unassign(consumer, partitions) };
        if let Err(error) = done {
            tracing::debug!(%error, "rebalance while leaving the group");
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        self.note(Told::Committed(result, listed(offsets)));
    }
}

/// Carries an assignment out, in the way of the group's protocol.
pub(super) fn assign<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    partitions: &TopicPartitionList,
) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_assign(partitions),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.assign(partitions),
    }
}

/// Carries a revocation out, in the way of the group's protocol.
pub(super) fn unassign<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    partitions: &TopicPartitionList,
) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(partitions),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.unassign(),
    }
}
