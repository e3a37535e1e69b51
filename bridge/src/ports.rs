//! The ports: what the engine needs of a log. Kafka, the embedded bus and the simulator implement them, and pass one suite.
//!
//! ```text
//!  LogSource ──records, assignments──► PartitionOwner (the engine) ──commits──► LogSource or OffsetStore
//!  Outbox ──entries in commit order──► relay ──records──► LogSink ──acknowledgements──► relay ──position──► Outbox
//! ```
//!
//! It owns nothing but the words.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::record::{OutgoingRecord, Record, TopicPartition};

// ── in ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// The most bytes of a commit's metadata: what brokers allow by default.
pub const METADATA_BYTES_MAX: usize = 4_096;
/// What the identity of a log may take of them.
pub const LOG_ID_BYTES_MAX: usize = 64;

/// How far a group has come in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Which partition.
    pub partition: TopicPartition,
    /// The offset of the first record that is not finished: where the next owner begins.
    pub offset: i64,
    /// What lies finished above it, in the engine's own words; at most [`METADATA_BYTES_MAX`] bytes of ASCII.
    pub metadata: String,
    /// Of which log the offset is, where the source can tell logs apart: see [`LogState::id`].
    pub log_id: Option<Arc<str>>,
}

/// A partition's log as it is: what a position is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogState {
    /// What tells this log from another one of the same name, a topic that was deleted and made again for example; nothing where
    /// the source cannot tell.
    pub id: Option<Arc<str>>,
    /// The offset of the first record that it still has, or would have.
    pub first: i64,
    /// The offset after the newest record.
    pub end: i64,
}

/// A partition that has become ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Which.
    pub partition: TopicPartition,
    /// What was committed last, if anything was: the source begins there, else at the log's first record.
    pub committed: Option<Commit>,
    /// The log as it is now, where the source knows it.
    pub log: Option<LogState>,
}

impl Assignment {
    /// The identity of the log that is read: as the brokers say, else as what was committed says, so that it is compared once they do.
    #[must_use]
    pub fn log_id(&self) -> Option<Arc<str>> {
        let now = self.log.as_ref().and_then(|log| log.id.clone());
        now.or_else(|| self.committed.as_ref()?.log_id.clone())
    }
}

/// How much of a partition the engine takes now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit {
    /// Records.
    pub records: usize,
    /// Bytes, counted by [`Record::size_bytes`]; one record more than fits is allowed, so that the largest gets through.
    pub bytes: usize,
}

impl Credit {
    /// Nothing now: the source leaves the partition's records where they are.
    pub const NONE: Self = Self { records: 0, bytes: 0 };
}

/// What a source has to say about its health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceEvent {
    /// The log answers again, or for the first time.
    Reachable,
    /// The log does not answer. The source goes on trying.
    Unreachable(String),
    /// One partition cannot be read now. The source goes on trying.
    PartitionFailed(TopicPartition, String),
    /// The offset after the newest record that may be read.
    HighWatermark(TopicPartition, i64),
    /// The source cannot make records of what lies from `first` to `last`, and has stepped over it: the next record comes from behind.
    Unreadable {
        /// Where.
        partition: TopicPartition,
        /// The first offset of what cannot be read.
        first: i64,
        /// The last one.
        last: i64,
        /// Why, in words.
        reason: String,
    },
    /// What lay from `from` to before `to` was removed before it was given: the next record comes from `to` on. Holes that compaction
    /// and transactions leave are none of these.
    Skipped {
        /// Where.
        partition: TopicPartition,
        /// The offset of the first record that was still to be given.
        from: i64,
        /// The first offset that the log still has.
        to: i64,
    },
    /// The partition's log is not the one that was read, or has been cut: the next record is the first of `log`.
    WentBack {
        /// Where.
        partition: TopicPartition,
        /// The log as it is now.
        log: LogState,
        /// How that shows, in words.
        reason: String,
    },
}

/// The source is beyond help and must be built anew.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log's consumer cannot go on: {0}")]
pub struct SourceFatal(pub String);

/// One member of a consumer group: a log in partitions, read in order within each.
///
/// It belongs to one thread, which calls [`poll`](Self::poll) without long pauses: rebalances, errors and commit results come
/// only there. A source never reads a partition beyond its credit, and throws away nothing that it has fetched.
pub trait LogSource: Send + 'static {
    /// Does what is due, waiting at most `wait` for something to do: rebalances, records of partitions with credit, results
    /// of commits, health. Everything is told to `owner`, in the order in which it happened.
    ///
    /// # Errors
    /// [`SourceFatal`]: every partition is lost, and the source is to be dropped.
    fn poll(&mut self, wait: Duration, owner: &mut dyn PartitionOwner) -> Result<(), SourceFatal>;

    /// Sends commits without waiting. Each one's result is told by [`PartitionOwner::committed`] in a later poll.
    fn commit(&mut self, commits: Vec<Commit>);

    /// Leaves the group in order: every partition is revoked from `owner`, its last commit is made, then the source is gone.
    fn close(self: Box<Self>, owner: &mut dyn PartitionOwner);
}

/// The other side of a source: who owns the partitions while they are ours. Called from the source's thread only.
pub trait PartitionOwner {
    /// These are ours from now on; no record of them has come yet. Gives those that are to begin elsewhere than at what is
    /// committed, and where: a commit may be of another log, or of records that are gone.
    fn assigned(&mut self, assignments: Vec<Assignment>) -> Vec<(TopicPartition, i64)>;

    /// How much of the partition is taken now.
    fn credit(&self, partition: &TopicPartition) -> Credit;

    /// The next records of one partition, in order.
    fn records(&mut self, partition: &TopicPartition, records: Vec<Record>);

    /// These are to be given up in order. It returns within the engine's drain bound, with what must be committed before
    /// another member may have them; from then on they are not ours.
    fn revoked(&mut self, partitions: &[TopicPartition]) -> Vec<Commit>;

    /// These are another's already: nothing may be committed.
    fn lost(&mut self, partitions: &[TopicPartition]);

    /// What came of a commit.
    fn committed(&mut self, commit: Commit, result: Result<(), String>);

    /// What there is to know of the source's health.
    fn event(&mut self, event: SourceEvent);
}

/// Keeps progress in your own database, with your own effects, instead of in the log:
/// [`StoredOffsets`](crate::engine::StoredOffsets) puts it around a source.
pub trait OffsetStore: Send + Sync + 'static {
    /// What was stored last for `group`.
    fn load(&self, group: &str, partition: &TopicPartition) -> BoxFuture<'static, Result<Option<Commit>, String>>;

    /// Stores, durably before it resolves; called after every effect of the records before the commits' offsets.
    ///
    /// Of two commits of one partition and one log ([`Commit::log_id`]) the one with the greater offset stays, whichever comes first: a
    /// former owner's may come late, and what it says is still true. Of commits of two logs the later call's stays.
    fn store(&self, group: &str, commits: Vec<Commit>) -> BoxFuture<'static, Result<(), String>>;
}

// ── out ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Where a record was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

/// Why a record was not written, or is not known to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// The sink's queue is full: try again when [`LogSink::room`] says so. Nothing was taken.
    #[error("the queue of records to be written is full")]
    Full,
    /// Not now: the log is away, or the topic is not there. Sending it again may help; it may have been written.
    #[error("not written now: {0}")]
    Unavailable(String),
    /// Never: the log refuses this very record, because it is too large for example.
    #[error("the log refuses the record: {0}")]
    Refused(String),
    /// The sink itself is beyond help and builds itself anew; what was on its way may have been written.
    #[error("the log's producer had to be built anew: {0}")]
    Fatal(String),
}

/// Called exactly once for each record taken: after every replica that must have it has it, or when that failed. It runs on
/// the sink's thread and must return at once.
pub type Acknowledge = Box<dyn FnOnce(Result<Written, SinkError>) + Send + Sync>;

/// A record was not taken: its acknowledgement comes back uncalled.
pub struct NotTaken {
    /// The acknowledgement.
    pub acknowledge: Acknowledge,
    /// Why.
    pub error: SinkError,
}

/// A log that is written to. Records of one key are written in the order in which they were sent, as long as none of them
/// fails: who needs order past a failure sends the next one of a key after the acknowledgement of the last, or sends again
/// from the first that failed.
pub trait LogSink: Send + Sync + 'static {
    /// Queues a copy of a record and returns at once: who may have to send it again keeps it.
    ///
    /// # Errors
    /// [`NotTaken`]: the queue is full, or the record cannot be written at all.
    fn send(&self, record: &OutgoingRecord, acknowledge: Acknowledge) -> Result<(), NotTaken>;

    /// Resolves when there is room again; at once where there is.
    fn room(&self) -> BoxFuture<'static, ()>;

    /// Waits until all that was taken is settled, or `deadline` has passed; true when all is settled.
    fn flush(&self, deadline: Duration) -> BoxFuture<'static, bool>;
}

/// One committed entry of an outbox and the records that it gives rise to, perhaps none.
#[derive(Clone, Debug)]
pub struct OutboxEntry {
    /// Its place in the order of commits.
    pub position: u64,
    /// What is to be written, in order.
    pub records: Vec<OutgoingRecord>,
}

/// A durable list of what is to be written, in the order in which it was committed. A journal is one.
pub trait Outbox: Send + Sync + 'static {
    /// The entries after `position`, at most `limit`; the same ones each time.
    fn read_after(&self, position: u64, limit: usize) -> BoxFuture<'static, Result<Vec<OutboxEntry>, String>>;

    /// The newest position; it wakes the relay.
    fn newest(&self) -> watch::Receiver<u64>;

    /// Up to where everything has been acknowledged by the log.
    fn position(&self, relay: Arc<str>) -> BoxFuture<'static, Result<u64, String>>;

    /// Stores that, durably before it resolves.
    fn store_position(&self, relay: Arc<str>, position: u64) -> BoxFuture<'static, Result<(), String>>;
}
