//! A subscription: which topics a group reads, who does the work, and the rules; and the actor that stands for it in a tree.
//!
//! The actor owns the pump's thread and is the parent of the partitions' actors. Stopped, it lets the pump leave in order
//! (drained, committed, left). Killed, it takes the partitions' actors with it and the pump ends by itself; the next incarnation
//! begins at what is committed. When the pump's thread ends unasked, the actor falls, so that its supervisor sees it.

use std::{sync::Arc, thread, time::Duration};

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use runtime::Current;
use tokio::{runtime::Handle, sync::oneshot, time::timeout};

use super::{
    clock::Clock,
    handler::Handler,
    health::SubscriptionBoard,
    loss::Losses,
    partition_core::OnDeadKey,
    pump::{Pump, PumpArguments},
    retry::RetryPolicy,
};
use crate::ports::{Credit, LogSink, LogSource};

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
/// What the pump may take to leave beyond its drain: a commit, and leaving the group.
const LEAVE_GRACE: Duration = Duration::from_secs(2);
/// After this, beyond the drain, whoever stops a subscription may kill it.
pub(crate) const LEAVE_WITHIN: Duration = Duration::from_secs(3);

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

/// What a subscription's actor is sent.
#[derive(Debug)]
pub(crate) enum SubscriptionMessage {
    /// The pump's thread has ended.
    PumpEnded,
}

pub(crate) struct SubscriptionArguments {
    pub(crate) subscription: Arc<Subscription>,
    pub(crate) dead_letters: Arc<dyn LogSink>,
    pub(crate) clock: Clock,
    /// Where the present incarnation's board is found.
    pub(crate) place: Current<Arc<SubscriptionBoard>>,
    /// What was lost, which every incarnation remembers.
    pub(crate) losses: Arc<Losses>,
}

pub(crate) struct SubscriptionState {
    board: Arc<SubscriptionBoard>,
    drain_within: Duration,
    ended: Option<oneshot::Receiver<()>>,
}

impl Drop for SubscriptionState {
    /// However the actor ends, its pump does.
    fn drop(&mut self) {
        self.board.stop();
    }
}

pub(crate) struct SubscriptionActor;

impl Actor for SubscriptionActor {
    type Msg = SubscriptionMessage;
    type State = SubscriptionState;
    type Arguments = SubscriptionArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let SubscriptionArguments { subscription, dead_letters, clock, place, losses } = arguments;
        let board = Arc::new(SubscriptionBoard::new(
            Arc::clone(&subscription.name),
            Arc::clone(&subscription.group),
            subscription.stall_after,
            losses,
            clock.now_ms(),
        ));
        place.set(Arc::clone(&board));
        let drain_within = subscription.drain_within;
        let name = format!("pump-{}", subscription.name);
        let pump = PumpArguments {
            subscription,
            dead_letters,
            board: Arc::clone(&board),
            clock,
            parent: myself.get_cell(),
            runtime: Handle::current(),
        };
        let (says_ended, ended) = oneshot::channel();
        thread::Builder::new().name(name).spawn(move || {
            // Told also when the pump panics.
            let _on_end = OnDrop(Some(move || {
                let _ = says_ended.send(());
                drop(myself.send_message(SubscriptionMessage::PumpEnded));
            }));
            Pump::new(pump).run();
        })?;
        Ok(SubscriptionState { board, drain_within, ended: Some(ended) })
    }

    async fn post_stop(&self, myself: ActorRef<Self::Msg>, state: &mut Self::State) -> Result<(), ActorProcessingErr> {
        state.board.stop();
        if let Some(ended) = state.ended.take()
            && timeout(state.drain_within + LEAVE_GRACE, ended).await.is_err()
        {
            tracing::warn!("the pump did not leave in time; its partitions are dropped");
        }
        myself.stop_children(None);
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        SubscriptionMessage::PumpEnded: Self::Msg,
        _: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        Err("the pump's thread ended".into())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        _: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        // The pump sees that an actor of its is gone, and begins anew.
        if let SupervisionEvent::ActorFailed(_, error) = event {
            tracing::error!(%error, "a partition's actor fell");
        }
        Ok(())
    }
}

/// Calls what it holds when it is dropped.
struct OnDrop<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        if let Some(call) = self.0.take() {
            call();
        }
    }
}
