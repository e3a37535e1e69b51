//! What a handler is given, and how its answer comes back.
//!
//! A [`Delivery`] is a record and the duty to say what came of it. The duty is an [`AckToken`]: it can be moved, never
//! copied, and one that is dropped unsettled (a panic, a killed actor, a forgotten branch) counts as a retry. Answers are
//! collected in one buffer for each partition and epoch, which wakes the partition's actor when the first of them comes:
//! however many come until it looks, it is woken once. Answers to an epoch that is over are counted and ignored.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

pub use super::outcome::{Outcome, Reason, Ticket};
use super::partition_core::DeliveryOrder;
use crate::{ports::SinkError, record::Record};

/// An answer on its way back.
#[derive(Debug)]
pub(crate) enum Returned {
    /// From the handler.
    Settled(Ticket, Outcome),
    /// The token was dropped.
    Dropped { ticket: Ticket, in_panic: bool },
    /// From the dead letters' sink.
    DeadLetter(Ticket, Result<(), SinkError>),
}

/// The answers of one partition and epoch.
pub(crate) struct Returns {
    buffer: Mutex<Buffer>,
    is_revoked: AtomicBool,
    stale: Arc<AtomicU64>,
    /// Set by the actor when it starts, before it delivers anything.
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

#[derive(Default)]
struct Buffer {
    answers: Vec<Returned>,
    is_closed: bool,
}

impl Returns {
    /// `stale` counts what comes after the end.
    pub(crate) fn new(stale: Arc<AtomicU64>) -> Arc<Self> {
        Arc::new(Self { buffer: Mutex::default(), is_revoked: AtomicBool::new(false), stale, wake: OnceLock::new() })
    }

    /// `wake` is called when the buffer is no longer empty.
    pub(crate) fn on_answers(&self, wake: impl Fn() + Send + Sync + 'static) {
        // There is one actor, and it starts once.
        let _ = self.wake.set(Box::new(wake));
    }

    pub(crate) fn give(&self, answer: Returned) {
        self.give_all(std::iter::once(answer));
    }

    fn give_all(&self, answers: impl Iterator<Item = Returned>) {
        let mut buffer = self.lock();
        if buffer.is_closed {
            self.stale.fetch_add(answers.count() as u64, Ordering::Relaxed);
            return;
        }
        let was_empty = buffer.answers.is_empty();
        buffer.answers.extend(answers);
        let wakes = was_empty && !buffer.answers.is_empty();
        drop(buffer);
        if let (true, Some(wake)) = (wakes, self.wake.get()) {
            wake();
        }
    }

    /// Swaps the answers into `taken`, which must be empty.
    pub(crate) fn take(&self, taken: &mut Vec<Returned>) {
        std::mem::swap(&mut self.lock().answers, taken);
    }

    /// No delivery that has not begun should begin.
    pub(crate) fn revoke(&self) {
        self.is_revoked.store(true, Ordering::Relaxed);
    }

    /// The epoch is over. What has not been taken is stale too.
    pub(crate) fn close(&self) {
        self.revoke();
        let mut buffer = self.lock();
        buffer.is_closed = true;
        let left = std::mem::take(&mut buffer.answers).len();
        self.stale.fetch_add(left as u64, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way back, shared by the deliveries of one batch: counting its holders disturbs no other batch on another core.
pub(crate) struct BatchReturns(pub(crate) Arc<Returns>);

/// The duty to say what came of a delivery. Dropped unsettled, it says "retry".
#[must_use = "a token that is dropped gives the record again"]
pub struct AckToken {
    /// `None` once settled.
    returns: Option<Arc<BatchReturns>>,
    ticket: Ticket,
}

impl AckToken {
    /// Says what came of it. Effects must be durable before `Done`. It never waits.
    pub fn settle(mut self, outcome: Outcome) {
        if let Some(returns) = self.returns.take() {
            returns.0.give(Returned::Settled(self.ticket, outcome));
        }
    }

    /// True once the partition is being given up: work that has not begun is better left to the next owner. Drop the token.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.returns.as_ref().is_none_or(|returns| returns.0.is_revoked.load(Ordering::Relaxed))
    }
}

impl Drop for AckToken {
    fn drop(&mut self) {
        if let Some(returns) = self.returns.take() {
            returns.0.give(Returned::Dropped { ticket: self.ticket, in_panic: thread::panicking() });
        }
    }
}

impl fmt::Debug for AckToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AckToken").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}

/// A record and the duty to settle it.
#[derive(Debug)]
pub struct Delivery {
    records: Arc<Vec<Record>>,
    index: u32,
    attempt: u32,
    key_hash: u64,
    token: AckToken,
}

impl Delivery {
    pub(crate) fn new(order: DeliveryOrder, returns: Arc<BatchReturns>) -> Self {
        let DeliveryOrder { ticket, records, index, attempt, key_hash } = order;
        Self { records, index, attempt, key_hash, token: AckToken { returns: Some(returns), ticket } }
    }

    /// The same for one key everywhere in this process; anything for a record without a key. To know it, the record, which
    /// another core may have in its cache, need not be looked at.
    pub(crate) fn key_hash(&self) -> u64 {
        self.key_hash
    }

    /// The record. It shares the memory of the batch that it was read in.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.records[self.index as usize]
    }

    /// Which try this is, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// True when `other` belongs to the same key of the same partition and epoch.
    #[must_use]
    pub fn is_of_one_lane_with(&self, other: &Self) -> bool {
        let is_one = |(ours, theirs): (&Arc<BatchReturns>, &Arc<BatchReturns>)| Arc::ptr_eq(ours, theirs);
        self.token.ticket.lane == other.token.ticket.lane
            && self.token.returns.as_ref().zip(other.token.returns.as_ref()).is_some_and(is_one)
    }

    /// See [`AckToken::is_revoked`].
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.token.is_revoked()
    }

    /// See [`AckToken::settle`].
    pub fn settle(self, outcome: Outcome) {
        self.token.settle(outcome);
    }

    /// Settles many with what `outcome` says of each, which costs less than one by one.
    pub fn settle_all(mut deliveries: Vec<Self>, mut outcome: impl FnMut(&Record) -> Outcome) {
        let outcomes: Vec<Outcome> = deliveries.iter().map(|delivery| outcome(delivery.record())).collect();
        let mut answers = deliveries
            .iter_mut()
            .zip(outcomes)
            .filter_map(|(delivery, outcome)| {
                let returns = delivery.token.returns.take()?;
                Some((returns, Returned::Settled(delivery.token.ticket, outcome)))
            })
            .peekable();
        while let Some((returns, first)) = answers.next() {
            let same = std::iter::from_fn(|| {
                answers.next_if(|(other, _)| Arc::ptr_eq(other, &returns)).map(|(_, answer)| answer)
            });
            returns.0.give_all(std::iter::once(first).chain(same));
        }
    }

    /// The record, copied out of its batch, and the duty apart from it.
    pub fn into_parts(self) -> (Record, AckToken) {
        (self.record().clone(), self.token)
    }
}
