//! One partition of a [`KafkaSource`](super::KafkaSource): the queue of what was fetched of it, and where reading stands.
//!
//! **Owns** the queue's handle and the messages that were taken from it and not given. It notices what does not go on as it should and
//! keeps it as a [`Suspicion`] until the source asks the examiner; meanwhile it gives nothing. It **belongs to** the source.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rdkafka::{
    consumer::{BaseConsumer, Consumer, base_consumer::PartitionQueue},
    error::{KafkaError, RDKafkaErrorCode},
    topic_partition_list::Offset,
};

use super::{
    batch::{Size, records},
    examiner::{Finding, Suspicion, is_of_records},
    group::GroupContext,
    native::{self, TakenMessages},
    standstill::{Sign, Standstill},
    statistics::Progress,
    wakeup::Wakeup,
};
use crate::{
    ports::{PartitionOwner, SourceEvent},
    record::TopicPartition,
};

/// How long a step over what cannot be read may take.
const SEEK_WAIT_MAX: Duration = Duration::from_secs(2);

/// Records given at once. It bounds how long the main queue waits; a larger batch gains nothing more.
const BATCH_RECORDS_MAX: usize = 1_024;

pub(super) struct AssignedPartition {
    pub(super) id: TopicPartition,
    /// Which assignment this is.
    pub(super) generation: u64,
    log_id: Option<Arc<str>>,
    /// Taken from the queue and not given yet: what the credit had no room for.
    taken: TakenMessages<GroupContext>,
    /// Held for its callback, and because dropping it ends that.
    _queue: PartitionQueue<GroupContext>,
    /// The queue may hold something.
    pub(super) may_hold: Arc<AtomicBool>,
    /// The offset after the last record that was given, or where reading begins, once that is known.
    pub(super) next: Option<i64>,
    /// Somebody finds out what is wrong: nothing is given until then.
    pub(super) is_examined: bool,
    suspicion: Option<Suspicion>,
    pub(super) standstill: Standstill,
}

/// Why the records that were fetched are not given on.
enum Stop {
    /// An error stands in their place.
    Failure(RDKafkaErrorCode, String),
    /// Those from `from` to before `to` are gone.
    Gone { from: i64, to: i64 },
    /// They begin again.
    Back { expected: i64, offset: i64 },
}

impl AssignedPartition {
    /// Splits the partition's queue off; before its assignment is carried out.
    pub(super) fn split(
        consumer: &Arc<BaseConsumer<GroupContext>>,
        wakeup: &Arc<Wakeup>,
        id: TopicPartition,
        (generation, log_id): (u64, Option<Arc<str>>),
        next: Option<i64>,
    ) -> Result<Self, String> {
        let mut queue =
            consumer.split_partition_queue(&id.topic, id.partition).ok_or_else(|| format!("{id} has no queue"))?;
        let may_hold = Arc::new(AtomicBool::new(true));
        let (holds, wakeup) = (Arc::clone(&may_hold), Arc::clone(wakeup));
        queue.set_nonempty_callback(move || {
            holds.store(true, Ordering::Release);
            wakeup.raise();
        });
        let taken = TakenMessages::new(Arc::clone(consumer), &id.topic, id.partition)
            .ok_or_else(|| format!("{id} has no name"))?;
        Ok(Self {
            id,
            generation,
            log_id,
            taken,
            _queue: queue,
            may_hold,
            next,
            is_examined: false,
            suspicion: None,
            standstill: Standstill::new(),
        })
    }

    /// Gives the next records, within the credit; true when that were any.
    pub(super) fn give_batch(&mut self, consumer: &BaseConsumer<GroupContext>, owner: &mut dyn PartitionOwner) -> bool {
        if self.is_examined {
            self.may_hold.store(false, Ordering::Release);
            return false;
        }
        let credit = owner.credit(&self.id);
        if credit.records == 0 || credit.bytes == 0 {
            return false;
        }
        // Lowered before the queue is looked into: what comes from now on raises it again.
        self.may_hold.store(false, Ordering::Release);
        let records_max = credit.records.min(BATCH_RECORDS_MAX);
        self.taken.take_until(records_max);
        // Records are given up to the first that is not simply the next: what comes after it is not trusted before somebody has had a
        // look.
        let (mut count, mut size, mut expected, mut stop) = (0, Size::default(), self.next, None);
        for message in self.taken.iter().take(records_max) {
            if size.bytes >= credit.bytes {
                break;
            }
            if let Some(code) = message.error() {
                stop = Some(Stop::Failure(code, message.error_text()));
                break;
            }
            let offset = message.offset();
            if expected.is_some_and(|expected| expected != offset) {
                stop = expected.and_then(|expected| self.stop_at(expected, offset, consumer));
                if stop.is_some() {
                    break;
                }
            }
            expected = Some(offset + 1);
            count += 1;
            size.add(message);
        }
        if count < self.taken.len() || count == records_max {
            self.may_hold.store(true, Ordering::Release);
        }
        let records = records(&self.id, self.taken.iter().take(count), size);
        self.taken.give_back(count);
        let gave_any = !records.is_empty();
        if let Some(last) = records.last() {
            self.next = Some(last.offset + 1);
            self.standstill.moved();
            owner.records(&self.id, records);
        }
        match stop {
            None => {}
            Some(Stop::Failure(code, _)) if is_of_records(code) => self.suspect(None),
            Some(Stop::Failure(code, words)) => {
                self.taken.give_back(1);
                let error = KafkaError::MessageConsumption(code);
                owner.event(SourceEvent::PartitionFailed(self.id.clone(), format!("{error}: {words}")));
            }
            Some(Stop::Gone { from, to }) => self.skip(from, to, owner),
            Some(Stop::Back { expected, offset }) => {
                self.suspect(Some(format!("it was read to offset {expected}, and offset {offset} comes again")));
            }
        }
        gave_any
    }

    /// Whether a record that is not the next one by its offset shows that something is wrong. A hole that compaction or a transaction
    /// left lies within the log; what retention removed lies before its first offset.
    fn stop_at(&self, expected: i64, offset: i64, consumer: &BaseConsumer<GroupContext>) -> Option<Stop> {
        if offset < expected {
            return Some(Stop::Back { expected, offset });
        }
        let (first, _) = native::cached_watermarks(consumer, &self.id.topic, self.id.partition)?;
        (expected + 1..=offset).contains(&first).then_some(Stop::Gone { from: expected, to: first })
    }

    fn skip(&mut self, from: i64, to: i64, owner: &mut dyn PartitionOwner) {
        self.next = Some(to);
        owner.event(SourceEvent::Skipped { partition: self.id.clone(), from, to });
    }

    fn suspect(&mut self, evidence: Option<String>) {
        self.suspicion = Some(Suspicion {
            partition: self.id.clone(),
            generation: self.generation,
            position: self.next,
            log_id: self.log_id.clone(),
            evidence,
        });
    }

    /// What somebody should look into; nothing while somebody does.
    pub(super) fn take_suspicion(&mut self) -> Option<Suspicion> {
        self.suspicion.take().filter(|_| !self.is_examined)
    }

    /// Compares the log's identity with what the brokers say now.
    pub(super) fn compare_id(&mut self, ids: &[(Arc<str>, Arc<str>)]) -> Option<Suspicion> {
        let (_, now) = ids.iter().find(|(topic, _)| *topic == self.id.topic)?;
        if self.log_id.as_ref().is_none_or(|known| known == now) {
            return None;
        }
        self.suspect(None);
        self.take_suspicion()
    }

    /// The end of the log for whoever counts lag: it may end with marks of transactions, which nobody is ever given.
    pub(super) fn end_of(&self, progress: &Progress) -> i64 {
        match self.next {
            Some(next) if progress.is_drained && self.taken.len() == 0 => next.min(progress.end),
            _ => progress.end,
        }
    }

    /// Looks at a report: whether the log begins behind what is next, ends before it, or gives nothing of what it has.
    pub(super) fn note_progress(&mut self, progress: &Progress, owner: &mut dyn PartitionOwner) {
        let next = self.next.filter(|_| self.taken.len() == 0 && !self.is_examined);
        let is_wanted = owner.credit(&self.id).records > 0;
        match (self.standstill.report(next, progress, is_wanted), next) {
            // No record is there that would show it.
            (Some(Sign::BeginsAt(first)), Some(next)) => self.skip(next, first, owner),
            (Some(Sign::EndsAt(end)), Some(next)) => {
                self.suspect(Some(format!("it was read to offset {next} and ends at {end}")));
            }
            (Some(_), _) => self.suspect(None),
            (None, _) => {}
        }
    }

    /// Acts on what was found out.
    ///
    /// # Errors
    /// Why the partition cannot be read now; it is tried again.
    pub(super) fn act_on(
        &mut self,
        finding: Finding,
        consumer: &BaseConsumer<GroupContext>,
        owner: &mut dyn PartitionOwner,
    ) -> Result<(), String> {
        let partition = self.id.clone();
        self.may_hold.store(true, Ordering::Release);
        match finding {
            Finding::Readable => self.read_from(self.next, consumer),
            Finding::Unknown(reason) => {
                // The fault comes again, and is asked about again.
                self.read_from(self.next, consumer)?;
                Err(reason)
            }
            Finding::Skipped { from, to } => {
                self.skip(from, to, owner);
                self.read_from(Some(to), consumer)
            }
            Finding::WentBack { log, reason } => {
                self.log_id = log.id.clone();
                let first = log.first;
                owner.event(SourceEvent::WentBack { partition, log, reason });
                self.read_from(Some(first), consumer)
            }
            Finding::Unreadable { first, last, reason } => {
                owner.event(SourceEvent::Unreadable { partition, first, last, reason });
                self.read_from(Some(last + 1), consumer)
            }
        }
    }

    /// Drops what was fetched, and reads on from `offset`.
    fn read_from(&mut self, offset: Option<i64>, consumer: &BaseConsumer<GroupContext>) -> Result<(), String> {
        self.taken.give_back(self.taken.len());
        self.next = offset;
        self.standstill.moved();
        let offset = offset.map_or(Offset::Beginning, Offset::Offset);
        consumer.seek(&self.id.topic, self.id.partition, offset, SEEK_WAIT_MAX).map_err(|error| error.to_string())
    }
}
