//! The actor of one partition in one epoch. Thin: [`PartitionCore`] decides.
//!
//! It owns the core and the buffer of answers. The pump sends it records, asks for reports, and tells it to drain; handlers
//! and the dead letters' sink answer through the buffer. When it dies, the pump sees that, gives the whole source up and begins anew at what
//! is committed. It never waits: whatever takes long is somebody else's, and its answer comes as a message.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use bytes::Bytes;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::task::JoinHandle;

use super::{
    clock::Clock,
    dead_letter::{dead_letter, without_content},
    delivery::{BatchReturns, Delivery, Returned, Returns},
    handler::Handler,
    partition_core::{CoreCounters, CoreSettings, DeadLetterOrder, DeliveryOrder, Front, Orders, PartitionCore},
};
use crate::{
    ports::{Commit, LogSink},
    record::{Record, TopicPartition},
};

/// What a partition's actor is sent.
pub(crate) enum PartitionMessage {
    /// The next records.
    Records(Vec<Record>),
    /// There are answers in the buffer.
    Returned,
    /// Something waited until now.
    Due,
    /// Publish what there is to see, and what to commit if that is asked.
    Report { with_commit: bool },
    /// Begin nothing new; when nothing is on its way, or the time is over, say so and end.
    Drain { within: Duration, reply: mpsc::Sender<Drained> },
    /// The time for draining is over.
    DrainOver,
    /// The key's quarantine ends.
    ReleaseKey(Bytes),
}

/// The last word of a partition that was given up in order.
pub(crate) struct Drained {
    pub(crate) epoch: u64,
    pub(crate) commit: Option<Commit>,
}

/// What the pump reads of a partition without asking.
#[derive(Default)]
pub(crate) struct PartitionBoard {
    /// Credits that are free again; these only grow. Written by the actor alone.
    pub(crate) finished: AtomicU64,
    pub(crate) finished_bytes: AtomicU64,
    /// Records from the frontier to the newest.
    pub(crate) span: AtomicUsize,
    /// Records behind the frontier.
    pub(crate) frontier_sequence: AtomicU64,
    /// Set by the pump when the partition is lost: nothing more is to begin.
    pub(crate) is_lost: AtomicBool,
    report: Mutex<PartitionReport>,
}

/// What a partition's actor publishes when it is asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct PartitionReport {
    /// When; 0 before the first.
    pub(crate) at_ms: i64,
    /// What to commit; taken by the pump.
    pub(crate) commit: Option<(i64, String)>,
    pub(crate) frontier: Option<i64>,
    pub(crate) front: Option<Front>,
    pub(crate) front_since_ms: i64,
    pub(crate) counters: CoreCounters,
    pub(crate) delivered: usize,
    pub(crate) dead_lettering: usize,
    pub(crate) oldest_delivery_ms: Option<i64>,
    pub(crate) lanes: usize,
    pub(crate) waiting: usize,
    pub(crate) unfinished: usize,
    pub(crate) halted: Option<String>,
    pub(crate) dead_letter_error: Option<String>,
}

impl PartitionBoard {
    pub(crate) fn report<T>(&self, look: impl FnOnce(&mut PartitionReport) -> T) -> T {
        look(&mut self.report.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a partition's actor needs.
pub(crate) struct PartitionArguments {
    pub(crate) partition: TopicPartition,
    pub(crate) epoch: u64,
    pub(crate) committed: Option<Commit>,
    /// Of which log the offsets are, where that is known.
    pub(crate) log_id: Option<Arc<str>>,
    pub(crate) settings: CoreSettings,
    pub(crate) group: Arc<str>,
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) dead_letters: Arc<dyn LogSink>,
    pub(crate) clock: Clock,
    pub(crate) returns: Arc<Returns>,
    pub(crate) board: Arc<PartitionBoard>,
}

pub(crate) struct PartitionState {
    partition: TopicPartition,
    log_id: Option<Arc<str>>,
    epoch: u64,
    core: PartitionCore,
    group: Arc<str>,
    handler: Arc<dyn Handler>,
    dead_letters: Arc<dyn LogSink>,
    clock: Clock,
    board: Arc<PartitionBoard>,
    returns: Arc<Returns>,
    /// Reused from turn to turn.
    orders: Orders,
    returned: Vec<Returned>,
    timer: Option<Timer>,
    draining: Option<mpsc::Sender<Drained>>,
}

struct Timer {
    at_ms: i64,
    task: JoinHandle<Result<(), ractor::MessagingErr<PartitionMessage>>>,
}

impl Drop for PartitionState {
    /// Whatever ends the actor ends the epoch: what is answered afterwards is stale.
    fn drop(&mut self) {
        self.returns.close();
        if let Some(timer) = self.timer.take() {
            timer.task.abort();
        }
    }
}

pub(crate) struct PartitionActor;

impl Actor for PartitionActor {
    type Msg = PartitionMessage;
    type State = PartitionState;
    type Arguments = PartitionArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        arguments.returns.on_answers(move || drop(myself.send_message(PartitionMessage::Returned)));
        Ok(PartitionState {
            core: PartitionCore::new(arguments.settings, arguments.committed.as_ref()),
            returns: arguments.returns,
            partition: arguments.partition,
            log_id: arguments.log_id,
            epoch: arguments.epoch,
            group: arguments.group,
            handler: arguments.handler,
            dead_letters: arguments.dead_letters,
            clock: arguments.clock,
            board: arguments.board,
            orders: Orders::default(),
            returned: Vec::new(),
            timer: None,
            draining: None,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if state.board.is_lost.load(Ordering::Acquire) {
            myself.stop(None);
            return Ok(());
        }
        let now_ms = state.clock.now_ms();
        match message {
            PartitionMessage::Records(records) => state.core.receive(records, now_ms),
            // Looked at below, as after every message.
            PartitionMessage::Returned => {}
            PartitionMessage::Due => state.timer = None,
            PartitionMessage::Report { with_commit } => state.publish_report(with_commit, now_ms),
            PartitionMessage::Drain { within, reply } => {
                state.returns.revoke();
                state.core.drain();
                state.draining = Some(reply);
                myself.send_after(within, || PartitionMessage::DrainOver);
            }
            PartitionMessage::DrainOver => {
                state.take_answers(now_ms);
                state.say_drained(&myself);
                return Ok(());
            }
            PartitionMessage::ReleaseKey(key) => drop(state.core.release_key(&key)),
        }
        state.take_answers(now_ms);
        state.carry_out(now_ms);
        state.publish_progress();
        state.set_timer(&myself, now_ms);
        if state.draining.is_some() && state.core.is_drained() {
            state.say_drained(&myself);
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Self::Msg>,
        _: SupervisionEvent,
        _: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        // It has no children.
        Ok(())
    }
}

impl PartitionState {
    fn take_answers(&mut self, now_ms: i64) {
        self.returns.take(&mut self.returned);
        for answer in self.returned.drain(..) {
            match answer {
                Returned::Settled(ticket, outcome) => self.core.settle(ticket, outcome, now_ms),
                Returned::Dropped { ticket, in_panic } => self.core.dropped(ticket, in_panic, now_ms),
                Returned::DeadLetter(ticket, written) => self.core.dead_letter_written(ticket, written, now_ms),
            }
        }
    }

    fn carry_out(&mut self, now_ms: i64) {
        self.core.turn(now_ms, &mut self.orders);
        if !self.orders.deliveries.is_empty() {
            let batch = Arc::new(BatchReturns(Arc::clone(&self.returns)));
            let delivery = |order: DeliveryOrder| Delivery::new(order, Arc::clone(&batch));
            let deliveries: Vec<Delivery> = self.orders.deliveries.drain(..).map(delivery).collect();
            let handler = &self.handler;
            // A panic drops the deliveries, and they come back as retries.
            if catch_unwind(AssertUnwindSafe(|| handler.handle(deliveries))).is_err() {
                tracing::error!(partition = %self.partition, "the handler panicked; what it was given is tried again");
            }
        }
        for order in self.orders.dead_letters.drain(..) {
            send_dead_letter(&self.returns, &*self.dead_letters, &self.group, order);
        }
    }

    fn publish_progress(&self) {
        let counters = self.core.counters();
        self.board.span.store(self.core.span(), Ordering::Relaxed);
        self.board.frontier_sequence.store(self.core.frontier_sequence(), Ordering::Relaxed);
        self.board.finished_bytes.store(counters.finished_bytes, Ordering::Relaxed);
        self.board.finished.store(counters.finished, Ordering::Release);
    }

    fn publish_report(&mut self, with_commit: bool, now_ms: i64) {
        self.take_answers(now_ms);
        let core = &self.core;
        let commit = with_commit.then(|| core.commit()).flatten();
        let report = PartitionReport {
            at_ms: now_ms,
            commit: None,
            frontier: core.frontier(),
            front: core.front(),
            front_since_ms: core.front_since_ms(),
            counters: *core.counters(),
            delivered: core.delivered(),
            dead_lettering: core.dead_lettering(),
            oldest_delivery_ms: core.oldest_delivery_ms(),
            lanes: core.lanes(),
            waiting: core.waiting(),
            unfinished: core.unfinished(),
            halted: core.halted().map(str::to_owned),
            dead_letter_error: core.dead_letter_error().map(str::to_owned),
        };
        self.board.report(|place| {
            let commit = commit.or(place.commit.take());
            *place = PartitionReport { commit, ..report };
        });
    }

    /// One timer at a time, for the first of what is due.
    fn set_timer(&mut self, myself: &ActorRef<PartitionMessage>, now_ms: i64) {
        let Some(at_ms) = self.core.next_timer_ms() else { return };
        if self.timer.as_ref().is_some_and(|timer| timer.at_ms <= at_ms) {
            return;
        }
        if let Some(timer) = self.timer.take() {
            timer.task.abort();
        }
        let pause = Duration::from_millis(u64::try_from(at_ms - now_ms).unwrap_or(0));
        self.timer = Some(Timer { at_ms, task: myself.send_after(pause, || PartitionMessage::Due) });
    }

    fn say_drained(&mut self, myself: &ActorRef<PartitionMessage>) {
        let Some(reply) = self.draining.take() else { return };
        // From here on an answer is too late: it would say "done" of what the commit does not hold.
        self.returns.close();
        let commit = self.core.commit().map(|(offset, metadata)| Commit {
            partition: self.partition.clone(),
            offset,
            metadata,
            log_id: self.log_id.clone(),
        });
        // A pump that no longer waits does not mind.
        drop(reply.send(Drained { epoch: self.epoch, commit }));
        myself.stop(None);
    }
}

fn send_dead_letter(returns: &Arc<Returns>, sink: &dyn LogSink, group: &str, order: DeadLetterOrder) {
    let record = &order.records[order.index as usize];
    tracing::warn!(
        topic = %record.topic,
        partition = record.partition,
        offset = record.offset,
        kind = order.failure.kind.as_str(),
        error = order.failure.error,
        "a record goes to the dead letters"
    );
    let ticket = order.ticket;
    let acknowledged = Arc::clone(returns);
    let acknowledge =
        Box::new(move |written: Result<_, _>| acknowledged.give(Returned::DeadLetter(ticket, written.map(|_| ()))));
    let mut letter = dead_letter(record, group, &order.failure);
    if order.is_without_content {
        letter = without_content(letter);
    }
    if let Err(not_taken) = sink.send(&letter, acknowledge) {
        returns.give(Returned::DeadLetter(ticket, Err(not_taken.error)));
    }
}
