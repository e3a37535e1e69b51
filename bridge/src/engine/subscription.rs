//! A subscription as data: which topics a group reads, who does the work, and the rules.

use std::{sync::Arc, time::Duration};

use super::{handler::Handler, partition_core::OnDeadKey, retry::RetryPolicy};
use crate::ports::{Credit, LogSource};

/// What one partition may hold: some batches ahead of the handler, and no more, so that a record is still in the processor's
/// cache when its turn comes.
pub const PARTITION_CREDIT: Credit = Credit { records: 4_096, bytes: 16 * 1_024 * 1_024 };
/// What all partitions of a subscription may hold together.
pub const ALL_CREDIT: Credit = Credit { records: 131_072, bytes: 128 * 1_024 * 1_024 };
/// Records between the frontier and the newest one, finished ones among them: what a crash may repeat where the gap map was
/// cut, and what stays in memory behind one slow record.
pub const SPAN_MAX: usize = 65_536;
/// Records of one partition with the handler.
pub const IN_FLIGHT_MAX: usize = 4_096;
/// How long commits wait.
pub const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// How many finished records commits wait for.
pub const COMMIT_RECORDS: u64 = 100_000;
/// How long what is on its way may take when a partition is revoked: the whole group waits meanwhile.
pub const DRAIN_WITHIN: Duration = Duration::from_secs(2);
/// How long a record may stand at the frontier before health says so.
pub const STALL_AFTER: Duration = Duration::from_secs(60);
/// Which topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topics {
    /// These.
    Named(Vec<Arc<str>>),
    /// All whose name matches the regular expression, in the log's own dialect; new ones as they come.
    Matching(String),
}

/// What may be held, at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// By one partition.
    pub partition: Credit,
    /// By all together.
    pub all: Credit,
    /// Records from the frontier to the newest.
    pub span_max: usize,
    /// Records of one partition with the handler.
    pub in_flight_max: usize,
    /// Records of one key given at once, in order. More than one only for handlers that work them off in order and leave
    /// those behind a failure alone.
    pub lane_batch_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            partition: PARTITION_CREDIT,
            all: ALL_CREDIT,
            span_max: SPAN_MAX,
            in_flight_max: IN_FLIGHT_MAX,
            lane_batch_max: 1,
        }
    }
}

/// When to commit: whichever comes first.
#[derive(Clone, Copy, Debug)]
pub struct CommitEvery {
    /// After this time.
    pub every: Duration,
    /// After this many records of one partition.
    pub records: u64,
}

impl Default for CommitEvery {
    fn default() -> Self {
        Self { every: COMMIT_EVERY, records: COMMIT_RECORDS }
    }
}

/// Opens the source of a subscription: a member of its group on its topics. It may take a while, but not wait for ever.
pub type OpenSource = Arc<dyn Fn(&Subscription) -> Result<Box<dyn LogSource>, String> + Send + Sync>;

/// A subscription, as data.
#[derive(Clone)]
pub struct Subscription {
    /// Its name among those of its bridge: what logs and health call it.
    pub name: Arc<str>,
    /// Which topics.
    pub topics: Topics,
    /// The consumer group: who shares the work and the progress.
    pub group: Arc<str>,
    /// Who does the work.
    pub handler: Arc<dyn Handler>,
    /// Opens its source.
    pub open: OpenSource,
    /// The rules of retry.
    pub retry: RetryPolicy,
    /// What becomes of later records of a dead letter's key.
    pub on_dead_key: OnDeadKey,
    /// When to commit.
    pub commit: CommitEvery,
    /// What may be held.
    pub limits: Limits,
    /// How long a revoked partition may take.
    pub drain_within: Duration,
    /// When standing still becomes a complaint.
    pub stall_after: Duration,
}

impl Subscription {
    /// A subscription with the default rules.
    pub fn new(
        name: impl Into<Arc<str>>,
        group: impl Into<Arc<str>>,
        topics: Topics,
        open: OpenSource,
        handler: impl Handler,
    ) -> Self {
        Self {
            name: name.into(),
            topics,
            group: group.into(),
            handler: Arc::new(handler),
            open,
            retry: RetryPolicy::default(),
            on_dead_key: OnDeadKey::default(),
            commit: CommitEvery::default(),
            limits: Limits::default(),
            drain_within: DRAIN_WITHIN,
            stall_after: STALL_AFTER,
        }
    }

    /// Sets the rules of retry.
    #[must_use]
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Sets what becomes of later records of a dead letter's key.
    #[must_use]
    pub fn on_dead_key(mut self, on_dead_key: OnDeadKey) -> Self {
        self.on_dead_key = on_dead_key;
        self
    }

    /// Sets when to commit.
    #[must_use]
    pub fn commit(mut self, commit: CommitEvery) -> Self {
        self.commit = commit;
        self
    }

    /// Sets what may be held.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets how long a revoked partition may take.
    #[must_use]
    pub fn drain_within(mut self, drain_within: Duration) -> Self {
        self.drain_within = drain_within;
        self
    }

    /// Sets when standing still becomes a complaint.
    #[must_use]
    pub fn stall_after(mut self, stall_after: Duration) -> Self {
        self.stall_after = stall_after;
        self
    }
}
