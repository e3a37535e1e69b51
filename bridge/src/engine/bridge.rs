//! Several subscriptions with one place for their dead letters.

use std::sync::Arc;

use bytes::Bytes;
use ractor::{Actor, ActorRef};
use runtime::{
    Current, Roster,
    supervision::{ChildSpec, Restart, StartError, Supervisor, SupervisorMessage, SupervisorSpec},
};

use super::{
    clock::Clock,
    health::{SubscriptionBoard, SubscriptionHealth},
    loss::{Losses, LostRange},
    subscription::Subscription,
    subscription_actor::{LEAVE_WITHIN, SubscriptionActor, SubscriptionArguments},
};
use crate::{ports::LogSink, record::TopicPartition};

/// The inbound side of the bridge: subscriptions, as data until a supervisor starts them.
#[derive(Clone)]
pub struct Bridge {
    subscriptions: Arc<[Registered]>,
    dead_letters: Arc<dyn LogSink>,
    clock: Clock,
}

struct Registered {
    subscription: Arc<Subscription>,
    place: Current<Arc<SubscriptionBoard>>,
    losses: Arc<Losses>,
}

/// Collects a bridge's parts.
#[derive(Default)]
pub struct BridgeBuilder {
    subscriptions: Vec<Subscription>,
    dead_letters: Option<Arc<dyn LogSink>>,
}

/// Why a bridge cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A record that cannot be done has nowhere to go.
    #[error("a bridge needs a sink for its dead letters")]
    NoDeadLetters,
    /// A limit that lets nothing through.
    #[error("subscription {0}: {1} must be at least 1")]
    Limit(Arc<str>, &'static str),
    /// Two subscriptions have this name.
    #[error("two subscriptions are called {0}")]
    NameTaken(Arc<str>),
}

impl BridgeBuilder {
    /// Where dead letters are written. Needed.
    #[must_use]
    pub fn dead_letters(mut self, sink: Arc<dyn LogSink>) -> Self {
        self.dead_letters = Some(sink);
        self
    }

    /// Adds a subscription.
    #[must_use]
    pub fn subscribe(mut self, subscription: Subscription) -> Self {
        self.subscriptions.push(subscription);
        self
    }

    /// The bridge. Nothing runs yet.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(self) -> Result<Bridge, BuildError> {
        let dead_letters = self.dead_letters.ok_or(BuildError::NoDeadLetters)?;
        for (index, subscription) in self.subscriptions.iter().enumerate() {
            check(subscription)?;
            if self.subscriptions[..index].iter().any(|other| other.name == subscription.name) {
                return Err(BuildError::NameTaken(Arc::clone(&subscription.name)));
            }
        }
        let register = |subscription| Registered {
            subscription: Arc::new(subscription),
            place: Current::empty(),
            losses: Arc::default(),
        };
        Ok(Bridge {
            subscriptions: self.subscriptions.into_iter().map(register).collect(),
            dead_letters,
            clock: Clock::start(),
        })
    }
}

fn check(subscription: &Subscription) -> Result<(), BuildError> {
    let limits = &subscription.limits;
    let at_least_one = [
        ("the credit of a partition in records", limits.partition.records),
        ("the credit of a partition in bytes", limits.partition.bytes),
        ("the credit of all partitions in records", limits.all.records),
        ("the credit of all partitions in bytes", limits.all.bytes),
        ("the span", limits.span_max),
        ("what is in flight", limits.in_flight_max),
        ("the lane batch", limits.lane_batch_max),
        ("the attempts", subscription.retry.attempts_max as usize),
    ];
    match at_least_one.into_iter().find(|(_, limit)| *limit == 0) {
        Some((what, _)) => Err(BuildError::Limit(Arc::clone(&subscription.name), what)),
        None => Ok(()),
    }
}

impl Bridge {
    /// An empty builder.
    #[must_use]
    pub fn builder() -> BridgeBuilder {
        BridgeBuilder::default()
    }

    /// The subscriptions as children for a supervisor.
    #[must_use]
    pub fn children(&self) -> Vec<ChildSpec> {
        self.subscriptions.iter().map(|registered| self.child(registered)).collect()
    }

    fn child(&self, registered: &Registered) -> ChildSpec {
        let (subscription, place) = (Arc::clone(&registered.subscription), registered.place.clone());
        let losses = Arc::clone(&registered.losses);
        let (dead_letters, clock) = (Arc::clone(&self.dead_letters), self.clock);
        let stop_deadline = subscription.drain_within + LEAVE_WITHIN;
        let child = ChildSpec::new(subscription.name.to_string(), Restart::Permanent, move |supervisor| {
            let arguments = SubscriptionArguments {
                subscription: Arc::clone(&subscription),
                dead_letters: Arc::clone(&dead_letters),
                clock,
                place: place.clone(),
                losses: Arc::clone(&losses),
            };
            async move {
                let (actor, _) =
                    SubscriptionActor::spawn_linked(None, SubscriptionActor, arguments, supervisor).await?;
                Ok(actor.get_cell())
            }
        });
        child.stop_deadline(stop_deadline)
    }

    /// Starts the subscriptions under a supervisor of their own, for those who have no tree. Stop it with
    /// `stop_and_wait`.
    ///
    /// # Errors
    /// When a subscription does not start.
    pub async fn start(&self) -> Result<ActorRef<SupervisorMessage>, StartError> {
        let spec = SupervisorSpec::new("bridge", self.children());
        let (supervisor, _) = Supervisor::spawn(None, Supervisor, (spec, Roster::new())).await?;
        Ok(supervisor)
    }

    /// How every subscription that has been started is. It waits for nobody.
    #[must_use]
    pub fn health(&self) -> Vec<SubscriptionHealth> {
        let now_ms = self.clock.now_ms();
        let boards = self.subscriptions.iter().filter_map(|registered| registered.place.get().ok());
        boards.map(|board| board.health(now_ms)).collect()
    }

    /// Records that were removed from their logs before they were taken in, and that nobody has acknowledged: each range is a complaint
    /// of its subscription until then, and a dead letter beyond that.
    #[must_use]
    pub fn lost_ranges(&self) -> Vec<LostRange> {
        self.subscriptions.iter().flat_map(|registered| registered.losses.ranges()).collect()
    }

    /// Somebody (an operator, a reconciler) has seen to all that is known to be lost: it is no complaint any more. Gives how many
    /// ranges that were.
    pub fn acknowledge_loss(&self) -> usize {
        self.subscriptions.iter().map(|registered| registered.losses.acknowledge()).sum()
    }

    /// Ends the quarantine of a key, after its dead letters were dealt with: its next records are delivered again. It takes
    /// effect within the pump's next turn, and only where the partition is this process's. False when no such subscription
    /// runs, or too many such requests wait. A quarantine is kept in memory alone: a restart or a rebalance ends it too.
    pub fn release_key(&self, subscription: &str, partition: TopicPartition, key: Bytes) -> bool {
        let registered = self.subscriptions.iter().find(|registered| &*registered.subscription.name == subscription);
        let board = registered.and_then(|registered| registered.place.get().ok());
        board.is_some_and(|board| board.release_key(partition, key))
    }
}
