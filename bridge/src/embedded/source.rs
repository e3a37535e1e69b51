//! A journal as a [`LogSource`]: the embedded bus on the same engine that reads brokers.
//!
//! One journal is one topic with one partition. The records are what the outbox makes of each event, in commit order; an
//! offset holds the event's position and the message's place in it ([`offset_of`]), the last message of an event being the last
//! possible place, so that the offset after it is the next event's. (A lag in offsets therefore counts 65,536 for each event.) The group's progress is a position in the subscriber's own
//! journal ([`Journal::store_position`]), written behind the effects that it stands for; a gap map is not kept, so a crash repeats what was
//! finished above the frontier.
//!
//! The journal answers in futures and the source is polled by a thread: every question is asked on the runtime, and its answer
//! comes back over a channel that the thread waits on. At most one read, one commit and one wait for news are on their
//! way. When the journal is away the source says so and asks again after a growing pause. When the subscriber's own journal is
//! closed, the source is beyond help.
//!
//! Before anything is read of a journal, and again of each that takes its place, the group's position is compared with it: see
//! [`runtime::journal::identity`]. A journal that is not the one that was read is told so ([`Contradictions`]), which keeps it
//! from taking appends, and is not read until it agrees.
//!
//! [`Contradictions`]: runtime::journal::contradictions::Contradictions

use std::{
    collections::VecDeque,
    future::Future,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use runtime::{
    Current, Journal, JournalError, LogMark, Position, Recorded,
    journal::{
        compare::compare,
        identity::{Contradiction, EventDigest, LogIdentity},
    },
    supervision::Backoff,
};
use tokio::{runtime::Handle, time::timeout};

use crate::{
    engine::dead_letter::UNDECODABLE,
    ports::{Assignment, Commit, LogSource, PartitionOwner, SourceEvent, SourceFatal},
    record::{Headers, OutgoingRecord, Record, TopicPartition},
};

/// Events read at once.
const BATCH_EVENTS_MAX: usize = 512;
/// The bits of an offset that say which of its event's messages a record is.
const INDEX_BITS: u32 = 16;
/// The place of an event's last message.
const LAST_INDEX: i64 = (1 << INDEX_BITS) - 1;
/// Positions that fit into an offset beside the index.
const POSITION_MAX: u64 = i64::MAX as u64 >> INDEX_BITS;
/// How long the subscriber's own journal may take to say or store a position.
const HOME_DEADLINE: Duration = Duration::from_secs(5);
/// The pauses before the journal is asked again.
const AGAIN: Backoff =
    Backoff { first: Duration::from_millis(20), max: Duration::from_secs(2), reset_after: Duration::from_secs(30) };

/// Makes records from an event: the same ones each time, none where it is of no interest. Their topic and partition are those of
/// the source whatever they say.
pub type RecordOutbox = Arc<dyn Fn(&Recorded) -> Result<Vec<OutgoingRecord>, JournalError> + Send + Sync>;

/// What a source of this kind needs.
#[derive(Clone)]
pub struct JournalSourceArguments {
    /// The topic that its records belong to: what the journal is called here.
    pub topic: Arc<str>,
    /// The name of the progress in the subscriber's journal. Never change it.
    pub name: Arc<str>,
    /// The journal it reads; it may be restarted.
    pub source: Current<Arc<dyn Journal>>,
    /// The subscriber's own journal, which keeps the position.
    pub home: Arc<dyn Journal>,
    /// Which records an event gives rise to.
    pub outbox: RecordOutbox,
}

/// The offset of the `index`-th of an event's `count` messages.
#[must_use]
pub fn offset_of(position: Position, index: usize, count: usize) -> i64 {
    let index = if index + 1 >= count { LAST_INDEX } else { index as i64 };
    (position.min(POSITION_MAX) as i64) << INDEX_BITS | index
}

/// The position up to which everything is finished when `offset` is the first that is not.
#[must_use]
pub fn position_before(offset: i64) -> Position {
    ((offset >> INDEX_BITS) - 1).try_into().unwrap_or(0)
}

/// The offset from which a group reads whose position is `position`.
fn offset_after(position: Position) -> i64 {
    (position.min(POSITION_MAX) as i64 + 1) << INDEX_BITS
}

/// What is said of a journal that is not the one that was read.
#[must_use]
pub fn contradicts(source: &str, contradiction: &Contradiction) -> String {
    format!("what it has taken in of {source} does not fit {source}'s log: {contradiction}")
}

enum Answer {
    /// What came of comparing the position with this journal.
    Compared(Arc<dyn Journal>, Result<Result<(), Contradiction>, JournalError>),
    Read(Result<Vec<Recorded>, JournalError>),
    /// There may be something new.
    News,
    Stored(Vec<Commit>, Result<(), JournalError>),
}

/// An event that has been read.
struct ReadEvent {
    /// Of which log.
    identity: LogIdentity,
    event: Recorded,
    /// The end of the records up to it: all before are finished when it is.
    end: i64,
}

impl ReadEvent {
    fn mark(&self) -> LogMark {
        LogMark::new(self.identity, self.event.position, EventDigest::of(&self.event))
    }
}

/// See the module's text.
pub struct JournalSource {
    arguments: JournalSourceArguments,
    runtime: Handle,
    partition: TopicPartition,
    answers: mpsc::Receiver<Answer>,
    answer: mpsc::Sender<Answer>,
    is_assigned: bool,
    /// Up to where events have been read.
    position: Position,
    /// The journal that the position was compared with last.
    compared: Option<Arc<dyn Journal>>,
    /// What has been read and is not stored: the digest of an event is computed when it is. The first may be stored already. As
    /// many as records are in flight, since an event without records takes the place of the one before.
    read: VecDeque<ReadEvent>,
    /// What the home journal knows.
    stored: LogMark,
    /// Records read and not given.
    records: VecDeque<Record>,
    /// The offset after the newest record that was read.
    end: i64,
    high_watermark: Option<i64>,
    /// A read, or a wait for news, is on its way.
    is_asking: bool,
    /// A commit is on its way; the ones after it wait here.
    is_storing: bool,
    commits: Vec<Commit>,
    failures_in_a_row: u32,
}

impl JournalSource {
    /// A source that asks its questions on `runtime`.
    #[must_use]
    pub fn new(arguments: JournalSourceArguments, runtime: Handle) -> Self {
        let (answer, answers) = mpsc::channel();
        Self {
            partition: TopicPartition::new(Arc::clone(&arguments.topic), 0),
            arguments,
            runtime,
            answers,
            answer,
            is_assigned: false,
            position: 0,
            compared: None,
            read: VecDeque::new(),
            stored: LogMark::default(),
            records: VecDeque::new(),
            end: 0,
            high_watermark: None,
            is_asking: false,
            is_storing: false,
            commits: Vec::new(),
            failures_in_a_row: 0,
        }
    }

    /// Finds out where the group stands, and takes the partition.
    fn assign(&mut self, owner: &mut dyn PartitionOwner) -> Result<(), SourceFatal> {
        let asked = self.arguments.home.position_of(Arc::clone(&self.arguments.name));
        let answered = self.runtime.block_on(async { timeout(HOME_DEADLINE, asked).await });
        self.stored = answered
            .map_err(|_| SourceFatal("the subscriber's journal does not answer".to_owned()))?
            .map_err(|error| SourceFatal(error.to_string()))?;
        let position = self.stored.position;
        (self.position, self.end) = (position, offset_after(position));
        let commit =
            Commit { partition: self.partition.clone(), offset: self.end, metadata: String::new(), log_id: None };
        let committed = (position > 0).then_some(commit);
        self.is_assigned = true;
        // Which journal it is the home journal knows: it says so by what it gives as the position.
        owner.assigned(vec![Assignment { partition: self.partition.clone(), committed, log: None }]);
        Ok(())
    }

    /// Runs `question` on the runtime; its answer comes over the channel.
    fn ask(&self, question: impl Future<Output = Answer> + Send + 'static) {
        let answer = self.answer.clone();
        self.runtime.spawn(async move {
            // A source that is gone does not mind.
            drop(answer.send(question.await));
        });
    }

    fn read(&mut self, owner: &mut dyn PartitionOwner) {
        self.is_asking = true;
        match self.arguments.source.get() {
            Ok(journal) if !self.is_compared(&journal) => self.compare_with(journal),
            Ok(journal) => {
                let read = journal.read_after(self.position, BATCH_EVENTS_MAX);
                self.ask(async move { Answer::Read(read.await) });
            }
            Err(down) => self.ask_again_later(&down.to_string(), owner),
        }
    }

    fn is_compared(&self, journal: &Arc<dyn Journal>) -> bool {
        self.compared.as_ref().is_some_and(|compared| Arc::ptr_eq(compared, journal))
    }

    /// Asks whether the journal is the one that was read up to here.
    fn compare_with(&self, journal: Arc<dyn Journal>) {
        let mark = self.read.back().map_or(self.stored, ReadEvent::mark);
        self.ask(async move {
            let compared = compare(mark, &*journal).await;
            Answer::Compared(journal, compared)
        });
    }

    fn take_comparison(
        &mut self,
        journal: Arc<dyn Journal>,
        compared: Result<Result<(), Contradiction>, JournalError>,
        owner: &mut dyn PartitionOwner,
    ) {
        match compared {
            Ok(Ok(())) => {
                journal.contradictions().withdraw(&self.arguments.name);
                // A position that an older build stored is complete from the next one on.
                self.compared = Some(journal);
                self.is_asking = false;
            }
            Ok(Err(contradiction)) => {
                let reason = contradicts(&self.arguments.topic, &contradiction);
                journal.contradictions().raise(&self.arguments.name, &reason);
                self.ask_again_later(&reason, owner);
            }
            Err(error) => self.ask_again_later(&error.to_string(), owner),
        }
    }

    fn ask_again_later(&mut self, reason: &str, owner: &mut dyn PartitionOwner) {
        self.failures_in_a_row += 1;
        if self.failures_in_a_row == 1 {
            owner.event(SourceEvent::Unreachable(reason.to_owned()));
        }
        let pause = AGAIN.pause(self.failures_in_a_row, 1.0);
        self.ask(async move {
            tokio::time::sleep(pause).await;
            Answer::News
        });
    }

    /// Up to date: the next commit, or the journal's end, is a reason to look again.
    fn wait_for_news(&mut self) {
        self.is_asking = true;
        // One that has taken the place of another is compared first, whether or not it has news.
        let compared = self.arguments.source.get().ok().filter(|journal| self.is_compared(journal));
        let Some(journal) = compared else {
            return self.ask(async { Answer::News });
        };
        let (mut committed, closed, position) = (journal.committed(), journal.closed(), self.position);
        self.ask(async move {
            let has_news = async { committed.wait_for(|newest| *newest > position).await.is_ok() };
            tokio::select! {
                true = has_news => {}
                _ = closed => tokio::time::sleep(AGAIN.first).await,
            }
            Answer::News
        });
    }

    fn take(&mut self, answer: Answer, owner: &mut dyn PartitionOwner) -> Result<(), SourceFatal> {
        match answer {
            Answer::News => self.is_asking = false,
            Answer::Compared(journal, compared) => self.take_comparison(journal, compared, owner),
            Answer::Read(Err(error)) => self.ask_again_later(&error.to_string(), owner),
            Answer::Read(Ok(events)) => {
                if std::mem::take(&mut self.failures_in_a_row) > 0 || self.high_watermark.is_none() {
                    owner.event(SourceEvent::Reachable);
                }
                self.is_asking = false;
                // Fewer than could be had are all that there were. What came since is news.
                let is_up_to_date = events.len() < BATCH_EVENTS_MAX;
                for event in events {
                    self.take_event(&event)?;
                    self.note(event);
                }
                self.tell_end(is_up_to_date, owner);
                if is_up_to_date {
                    self.wait_for_news();
                }
            }
            Answer::Stored(commits, stored) => {
                self.is_storing = false;
                let result = stored.map_err(|error| error.to_string());
                for commit in commits {
                    owner.committed(commit, result.clone());
                }
                self.store_next();
            }
        }
        Ok(())
    }

    fn take_event(&mut self, event: &Recorded) -> Result<(), SourceFatal> {
        if event.position >= POSITION_MAX {
            return Err(SourceFatal(format!("position {} does not fit into an offset", event.position)));
        }
        self.position = event.position;
        let records = match (self.arguments.outbox)(event) {
            Ok(records) if records.len() <= LAST_INDEX as usize => records,
            Ok(records) => vec![self.undecodable(event, &format!("it makes {} messages", records.len()))],
            Err(error) => vec![self.undecodable(event, &error.to_string())],
        };
        let count = records.len();
        for (index, OutgoingRecord { key, value, timestamp_ms, headers, .. }) in records.into_iter().enumerate() {
            let offset = offset_of(event.position, index, count);
            self.end = offset + 1;
            self.records.push_back(Record {
                topic: Arc::clone(&self.partition.topic),
                partition: self.partition.partition,
                offset,
                timestamp_ms: timestamp_ms.or(Some(event.at_ms)),
                key,
                value,
                headers,
            });
        }
        Ok(())
    }

    /// Notes the event as one whose position can be stored.
    fn note(&mut self, event: Recorded) {
        let Some(identity) = self.compared.as_ref().map(|journal| journal.identity()) else { return };
        if self.read.back().is_some_and(|last| last.end == self.end) {
            self.read.pop_back();
        }
        self.read.push_back(ReadEvent { identity, event, end: self.end });
    }

    /// An event that the outbox cannot read: the engine sets it aside, with the reason.
    fn undecodable(&self, event: &Recorded, reason: &str) -> OutgoingRecord {
        OutgoingRecord {
            topic: Arc::clone(&self.partition.topic),
            partition: None,
            key: Some(event.stream.as_bytes().to_vec().into()),
            value: Some(event.payload.clone().into()),
            timestamp_ms: Some(event.at_ms),
            headers: Headers::default().with(UNDECODABLE, reason.to_owned()),
        }
    }

    /// The journal's end while there is more to read; then the end of the last record: events of no interest are no lag.
    fn tell_end(&mut self, is_up_to_date: bool, owner: &mut dyn PartitionOwner) {
        let newest = self.arguments.source.get().ok().filter(|_| !is_up_to_date);
        let newest = newest.map_or(0, |journal| offset_after(*journal.committed().borrow()));
        let high_watermark = newest.max(self.end);
        if self.high_watermark != Some(high_watermark) {
            self.high_watermark = Some(high_watermark);
            owner.event(SourceEvent::HighWatermark(self.partition.clone(), high_watermark));
        }
    }

    fn give(&mut self, owner: &mut dyn PartitionOwner) -> bool {
        if self.records.is_empty() {
            return false;
        }
        let credit = owner.credit(&self.partition);
        let mut bytes = 0;
        let fits = |record: &&Record| {
            let fits = bytes < credit.bytes;
            bytes += record.size_bytes();
            fits
        };
        let count = self.records.iter().take(credit.records).take_while(fits).count();
        if count == 0 {
            return false;
        }
        owner.records(&self.partition, self.records.drain(..count).collect());
        true
    }

    /// What the commits come to, if that is not stored already.
    fn mark_of(&mut self, commits: &[Commit]) -> Option<LogMark> {
        let offset = commits.iter().map(|commit| commit.offset).max()?;
        let finished = self.read.iter().take_while(|read| read.end <= offset).count();
        // The last of them stays, for the comparison with the next journal.
        self.read.drain(..finished.saturating_sub(1));
        let read = self.read.front()?;
        (read.end <= offset && read.event.position > self.stored.position).then(|| read.mark())
    }

    fn store_next(&mut self) {
        if self.is_storing || self.commits.is_empty() {
            return;
        }
        self.is_storing = true;
        let commits = std::mem::take(&mut self.commits);
        let Some(mark) = self.mark_of(&commits) else {
            return self.ask(async { Answer::Stored(commits, Ok(())) });
        };
        self.stored = mark;
        let stored = self.arguments.home.store_position(Arc::clone(&self.arguments.name), mark);
        self.ask(async move { Answer::Stored(commits, stored.await) });
    }
}

impl LogSource for JournalSource {
    fn poll(&mut self, wait: Duration, owner: &mut dyn PartitionOwner) -> Result<(), SourceFatal> {
        if !self.arguments.home.is_open() {
            return Err(SourceFatal("the subscriber's journal is closed".to_owned()));
        }
        if !self.is_assigned {
            self.assign(owner)?;
        }
        let until = Instant::now() + wait;
        loop {
            let gave_any = self.give(owner);
            if self.records.is_empty() && !self.is_asking {
                self.read(owner);
            }
            let wait = if gave_any { Duration::ZERO } else { until.saturating_duration_since(Instant::now()) };
            match self.answers.recv_timeout(wait) {
                Ok(answer) => self.take(answer, owner)?,
                Err(_) => return Ok(()),
            }
        }
    }

    fn commit(&mut self, commits: Vec<Commit>) {
        self.commits.extend(commits);
        self.store_next();
    }

    fn close(mut self: Box<Self>, owner: &mut dyn PartitionOwner) {
        if !self.is_assigned {
            return;
        }
        let commits = owner.revoked(std::slice::from_ref(&self.partition));
        let Some(mark) = self.mark_of(&commits) else { return };
        let stored = self.arguments.home.store_position(Arc::clone(&self.arguments.name), mark);
        let stored = self.runtime.block_on(async { timeout(HOME_DEADLINE, stored).await });
        if !matches!(stored, Ok(Ok(()))) {
            tracing::warn!(name = %self.arguments.name, "the last position was not stored; what it stood for is repeated");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn offsets_grow_and_the_last_messages_end_is_the_next_events_beginning(
            position in 1_u64..POSITION_MAX / 2,
            count in 1_usize..1_000,
        ) {
            let offsets: Vec<i64> = (0..count).map(|index| offset_of(position, index, count)).collect();
            prop_assert!(offsets.is_sorted_by(|one, next| one < next));
            prop_assert_eq!(offsets[count - 1] + 1, offset_after(position));
            prop_assert!(offset_after(position) <= offset_of(position + 1, 0, count));
            prop_assert_eq!(position_before(offset_after(position)), position);
            // While any of its messages is unfinished, an event is.
            prop_assert!(offsets.iter().all(|offset| position_before(*offset) == position - 1));
        }
    }
}
