//! What an actor is doing right now, as the actor itself tells it: a few counters that cost nanoseconds a message.
//!
//! The actor enters for every message that it handles; whoever sends may count what it enqueued. Its supervisor looks:
//! an actor that has been in one message for longer than its bound is stuck. Inspection reads the same counters. They
//! outlive incarnations, as the sender's handle does. They decide nothing.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// The bits of a stamp that tell the time; those above tell the incarnation. 2^48 ms are 8,900 years.
const TIME_BITS: u32 = 48;

/// One actor's activity. Clones are the same activity.
#[derive(Clone, Debug)]
pub struct Activity(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    origin: Instant,
    /// 0 between messages; in one, the incarnation and the millisecond after `origin` since when.
    busy: AtomicU64,
    incarnation: AtomicU64,
    taken: AtomicU64,
    enqueued: Enqueued,
    /// How far `enqueued` was ahead of `taken` when the present incarnation started: what the last one's mailbox took with
    /// it. Behind, where not every message was counted.
    lost: AtomicU64,
    /// The message that was over its bound when last looked at.
    suspect: AtomicU64,
}

/// Written by the senders' threads, the rest by the actor's: on one cache line they would take it from each other.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Enqueued(AtomicU64);

/// What an activity stands at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ActivityReading {
    /// Messages in the mailbox, but for those in motion this instant. Nothing is known where no sender counts.
    pub queue_depth: Option<u64>,
    /// Messages taken up, by all incarnations.
    pub handled: u64,
    /// For how long it has been in its present message; nothing between messages.
    pub message_age: Option<Duration>,
}

impl Default for Activity {
    fn default() -> Self {
        Self::new()
    }
}

impl Activity {
    /// An activity of which nothing has happened yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Counts {
            origin: Instant::now(),
            busy: AtomicU64::new(0),
            incarnation: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            enqueued: Enqueued::default(),
            lost: AtomicU64::new(0),
            suspect: AtomicU64::new(0),
        }))
    }

    /// Counts a message that was put into the mailbox. Call it after a send that succeeded, for every message or for none.
    pub fn enqueued(&self) {
        self.0.enqueued.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The actor takes up a message: it is busy until the guard is dropped, which a panic and a kill do too.
    #[must_use = "the actor is busy for as long as the guard lives"]
    pub fn enter(&self) -> Busy {
        // One incarnation takes up messages at a time: no read-modify-write is needed.
        self.0.taken.store(self.0.taken.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        let incarnation = self.0.incarnation.load(Ordering::Relaxed);
        self.0.busy.store(self.0.stamp(incarnation), Ordering::Relaxed);
        Busy { counts: Arc::clone(&self.0), incarnation }
    }

    /// Runs a message's handler as one stay in a message.
    pub async fn during<F: Future>(&self, handler: F) -> F::Output {
        let _busy = self.enter();
        handler.await
    }

    /// What it stands at.
    #[must_use]
    pub fn reading(&self) -> ActivityReading {
        let counts = &*self.0;
        let (taken, lost) = (counts.taken.load(Ordering::Relaxed), counts.lost.load(Ordering::Relaxed));
        let enqueued = counts.enqueued.0.load(Ordering::Relaxed);
        let busy = counts.busy.load(Ordering::Relaxed);
        ActivityReading {
            // Negative for a moment when a message is taken up before its sender has counted it.
            queue_depth: (enqueued > 0).then(|| (enqueued.wrapping_sub(taken).wrapping_sub(lost) as i64).max(0) as u64),
            handled: taken,
            message_age: (busy > 0).then(|| counts.age(busy)),
        }
    }

    /// For how long it has been in one message, when that is longer than `bound` and the last look found the same
    /// message over its bound as well: a machine that stood still for a while makes nobody stuck. For one looker.
    #[must_use]
    pub fn stuck_for(&self, bound: Duration) -> Option<Duration> {
        let busy = self.0.busy.load(Ordering::Relaxed);
        let age = (busy > 0).then(|| self.0.age(busy)).filter(|age| *age > bound);
        let before = self.0.suspect.swap(if age.is_some() { busy } else { 0 }, Ordering::Relaxed);
        age.filter(|_| before == busy)
    }

    /// A new incarnation is about to start: what the last one had not taken up is lost, and what it is still in does not
    /// count any more.
    pub(crate) fn restarted(&self) {
        let counts = &*self.0;
        counts.incarnation.fetch_add(1, Ordering::Relaxed);
        counts.busy.store(0, Ordering::Relaxed);
        let lost = counts.enqueued.0.load(Ordering::Relaxed).wrapping_sub(counts.taken.load(Ordering::Relaxed));
        counts.lost.store(lost, Ordering::Relaxed);
    }
}

impl Counts {
    fn stamp(&self, incarnation: u64) -> u64 {
        let since_ms = self.origin.elapsed().as_millis() as u64 + 1;
        (incarnation << TIME_BITS) | since_ms
    }

    fn age(&self, stamp: u64) -> Duration {
        let since_ms = (stamp & ((1 << TIME_BITS) - 1)) - 1;
        self.origin.elapsed().saturating_sub(Duration::from_millis(since_ms))
    }

    /// Ends a stay of `incarnation`, unless another incarnation has entered since.
    fn leave(&self, incarnation: u64) {
        let busy = self.busy.load(Ordering::Relaxed);
        if busy >> TIME_BITS == incarnation & (u64::MAX >> TIME_BITS) {
            let _ = self.busy.compare_exchange(busy, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

/// A stay in one message; ends on drop.
#[derive(Debug)]
pub struct Busy {
    counts: Arc<Counts>,
    incarnation: u64,
}

impl Busy {
    /// Waits for something that is bounded elsewhere, such as the disk: meanwhile the actor does not count as busy.
    pub async fn set_aside<F: Future>(&self, wait: F) -> F::Output {
        self.counts.leave(self.incarnation);
        let output = wait.await;
        if self.counts.incarnation.load(Ordering::Relaxed) == self.incarnation {
            self.counts.busy.store(self.counts.stamp(self.incarnation), Ordering::Relaxed);
        }
        output
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.counts.leave(self.incarnation);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const BOUND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn one_message_over_its_bound_at_two_looks_is_stuck() {
        let activity = Activity::new();
        let busy = activity.enter();
        assert_eq!(activity.stuck_for(BOUND), None);
        advance(Duration::from_secs(2)).await;
        assert_eq!(activity.stuck_for(BOUND), None, "the first look only suspects");
        assert_eq!(activity.stuck_for(BOUND), Some(Duration::from_secs(2)));
        drop(busy);
        assert_eq!(activity.stuck_for(BOUND), None);
    }

    #[tokio::test(start_paused = true)]
    async fn many_messages_that_end_in_time_are_never_stuck() {
        let activity = Activity::new();
        for _ in 0..10 {
            let _busy = activity.enter();
            advance(Duration::from_millis(900)).await;
            assert_eq!(activity.stuck_for(BOUND), None);
        }
        assert_eq!(activity.reading().handled, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_set_aside_does_not_count() {
        let activity = Activity::new();
        let busy = activity.enter();
        busy.set_aside(async {
            advance(Duration::from_secs(60)).await;
            assert_eq!(activity.reading().message_age, None);
        })
        .await;
        assert_eq!(activity.reading().message_age, Some(Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_end_of_a_former_incarnation_does_not_free_the_next() {
        let activity = Activity::new();
        let former = activity.enter();
        activity.restarted();
        let present = activity.enter();
        drop(former);
        assert!(activity.reading().message_age.is_some());
        drop(present);
        assert!(activity.reading().message_age.is_none());
    }

    #[test]
    fn what_a_restart_lost_is_not_queued_any_more() {
        let activity = Activity::new();
        assert_eq!(activity.reading().queue_depth, None, "nobody counts yet");
        for _ in 0..5 {
            activity.enqueued();
        }
        drop(activity.enter());
        assert_eq!(activity.reading().queue_depth, Some(4));
        activity.restarted();
        assert_eq!(activity.reading().queue_depth, Some(0));
        activity.enqueued();
        assert_eq!(activity.reading().queue_depth, Some(1));
    }
}
