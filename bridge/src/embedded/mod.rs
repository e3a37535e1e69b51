//! The embedded bus: durable messages between journals without a second log, because the journals *are* the log.
//!
//! A [`Subscription`] reads one journal (the source) in commit order, makes messages from its events by a pure function
//! (the outbox), and gives them to a handler. It keeps its position in the subscriber's own database, where the handler's
//! effects are. It is an actor in the subscriber's tree.
//!
//! Guarantees, tested in `tests/embedded_bus.rs`:
//! - every committed event's messages reach the handler, at least once; a crash only delays them;
//! - messages of one key are given one after another, in commit order; keys do not wait for each other's handling;
//! - the position is stored after the effects of everything before it are durable, through the same writer: what a crash
//!   in between repeats, the handler must recognise (the message's id is the same each time).
//!
//! When the source is away or the handler says "not now", the messages wait and are given again after a growing pause. A
//! message that can never be taken in is set aside: counted, logged with its id, and passed over; it stays in the source.
//!
//! [`source::JournalSource`] is the same bus on the bridge's engine: the journal as a log, with bounded retry, dead letters
//! ([`dead_letters`]) and health as everywhere else.

pub mod dead_letters;
pub mod source;

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, future::BoxFuture, stream};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use runtime::{Current, Journal, JournalError, Position, Recorded, supervision::Backoff};

/// Events read at once. Larger batches gain little: one batch is one commit of the subscriber.
const BATCH_EVENTS_MAX: usize = 512;
/// Keys whose messages are handled at once.
const LANES_MAX: usize = 256;
/// The pauses before something is tried again.
const RETRY: Backoff =
    Backoff { first: Duration::from_millis(20), max: Duration::from_secs(2), reset_after: Duration::from_secs(30) };

/// Why a handler did not take a message in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandleError {
    /// Give it again.
    #[error("not now: {0}")]
    NotNow(String),
    /// It can never be taken in.
    #[error("cannot be taken in: {0}")]
    Poison(String),
}

/// Makes messages `(key, message)` from a recorded event: the same ones each time.
pub type Outbox<M> = Arc<dyn Fn(&Recorded) -> Result<Vec<(String, M)>, JournalError> + Send + Sync>;
/// Takes a message in. It returns once the effects are durable.
pub type Handler<M> = Arc<dyn Fn(M) -> BoxFuture<'static, Result<(), HandleError>> + Send + Sync>;

/// What a subscription has done; the numbers only grow.
#[derive(Debug, Default)]
pub struct SubscriptionCounters {
    /// Where it stands: everything up to here has had its effect.
    pub position: AtomicU64,
    /// Messages taken in.
    pub handled: AtomicU64,
    /// Times a message was given again.
    pub retries: AtomicU64,
    /// Messages set aside.
    pub set_aside: AtomicU64,
}

/// What a subscription needs.
pub struct SubscriptionArguments<M> {
    /// Its name in the subscriber's database, such as `order-service<product-service`. Never change it.
    pub name: Arc<str>,
    /// The journal it reads; it may be restarted.
    pub source: Current<Arc<dyn Journal>>,
    /// The subscriber's own journal, which keeps the position.
    pub home: Arc<dyn Journal>,
    /// Which messages an event gives rise to, those of no interest left out.
    pub outbox: Outbox<M>,
    /// Who takes them in.
    pub handler: Handler<M>,
    /// What an operator sees.
    pub counters: Arc<SubscriptionCounters>,
}

impl<M> Clone for SubscriptionArguments<M> {
    fn clone(&self) -> Self {
        Self {
            name: Arc::clone(&self.name),
            source: self.source.clone(),
            home: Arc::clone(&self.home),
            outbox: Arc::clone(&self.outbox),
            handler: Arc::clone(&self.handler),
            counters: Arc::clone(&self.counters),
        }
    }
}

/// What a subscription is sent.
#[derive(Debug)]
pub enum SubscriptionMessage {
    /// There may be something new.
    Pull,
}

/// A subscription's state.
pub struct SubscriptionState<M> {
    arguments: SubscriptionArguments<M>,
    /// Where it stands; `None` until it has been read.
    position: Option<Position>,
    failures_in_a_row: u32,
}

/// The subscription's actor; see the module's text.
pub struct Subscription<M>(std::marker::PhantomData<fn() -> M>);

impl<M> Default for Subscription<M> {
    fn default() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<M: Clone + Send + Sync + 'static> Actor for Subscription<M> {
    type Msg = SubscriptionMessage;
    type State = SubscriptionState<M>;
    type Arguments = SubscriptionArguments<M>;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        myself.send_message(SubscriptionMessage::Pull)?;
        Ok(SubscriptionState { arguments, position: None, failures_in_a_row: 0 })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        SubscriptionMessage::Pull: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if !state.arguments.home.is_open() {
            return Err("the subscriber's journal is closed".into());
        }
        match state.pull().await {
            Ok(Pulled::More) => {
                state.failures_in_a_row = 0;
                myself.send_message(SubscriptionMessage::Pull)?;
            }
            Ok(Pulled::UpToDate(source)) => {
                state.failures_in_a_row = 0;
                state.pull_after_next_commit(&myself, &source);
            }
            Err(error) => {
                state.failures_in_a_row += 1;
                let pause = RETRY.pause(state.failures_in_a_row, 1.0);
                tracing::debug!(subscription = %state.arguments.name, %error, "the source cannot be read now");
                myself.send_after(pause, || SubscriptionMessage::Pull);
            }
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

enum Pulled {
    More,
    UpToDate(Arc<dyn Journal>),
}

impl<M: Clone + Send + Sync + 'static> SubscriptionState<M> {
    /// Reads a batch, gives its messages, stores the position.
    async fn pull(&mut self) -> Result<Pulled, JournalError> {
        let source = self.arguments.source.get().map_err(|_| JournalError::Closed)?;
        let position = match self.position {
            Some(position) => position,
            None => self.arguments.home.position_of(Arc::clone(&self.arguments.name)).await?,
        };
        self.position = Some(position);
        self.arguments.counters.position.store(position, Ordering::Relaxed);
        let events = source.read_after(position, BATCH_EVENTS_MAX).await?;
        let Some(last) = events.last().map(|event| event.position) else { return Ok(Pulled::UpToDate(source)) };
        let gave_any = self.give(&events).await;
        // An event of no interest is worth no write: a crash reads it again, and that is all.
        if gave_any {
            self.arguments.home.store_position(Arc::clone(&self.arguments.name), last).await?;
        }
        self.position = Some(last);
        Ok(Pulled::More)
    }

    /// Gives the messages of a batch: one lane per key, lanes side by side. It returns when all have been taken in.
    async fn give(&self, events: &[Recorded]) -> bool {
        let lanes = lanes_of(events, &self.arguments);
        let gave_any = !lanes.is_empty();
        let given = stream::iter(lanes).map(|lane| give_lane(lane, &self.arguments));
        given.buffer_unordered(LANES_MAX).collect::<Vec<()>>().await;
        gave_any
    }

    fn pull_after_next_commit(&self, myself: &ActorRef<SubscriptionMessage>, source: &Arc<dyn Journal>) {
        let mut committed = source.committed();
        let closed = source.closed();
        let position = self.position.unwrap_or(0);
        let myself = myself.clone();
        tokio::spawn(async move {
            // Whichever comes first, there is a reason to look. An actor that is gone does not mind.
            let has_news = async { committed.wait_for(|&newest| newest > position).await.is_ok() };
            tokio::select! {
                true = has_news => {}
                _ = closed => tokio::time::sleep(RETRY.first).await,
            }
            let _ = myself.send_message(SubscriptionMessage::Pull);
        });
    }
}

fn lanes_of<M>(events: &[Recorded], arguments: &SubscriptionArguments<M>) -> Vec<Vec<M>> {
    let (mut lanes, mut lane_of_key) = (Vec::new(), HashMap::new());
    for event in events {
        let messages = match (arguments.outbox)(event) {
            Ok(messages) => messages,
            Err(error) => {
                set_aside(arguments, &error.to_string());
                continue;
            }
        };
        for (key, message) in messages {
            let lane = *lane_of_key.entry(key).or_insert_with(|| {
                lanes.push(Vec::new());
                lanes.len() - 1
            });
            lanes[lane].push(message);
        }
    }
    lanes
}

fn give_lane<M: Clone + Send + Sync + 'static>(
    lane: Vec<M>,
    arguments: &SubscriptionArguments<M>,
) -> impl Future<Output = ()> + Send + use<M> {
    let (name, handler) = (Arc::clone(&arguments.name), Arc::clone(&arguments.handler));
    let arguments = arguments.clone();
    async move {
        for message in lane {
            let mut failures = 0;
            loop {
                match handler(message.clone()).await {
                    Ok(()) => break,
                    Err(HandleError::Poison(reason)) => {
                        set_aside(&arguments, &reason);
                        break;
                    }
                    // It waits for as long as it takes: nothing is lost and nothing overtakes it. An end of the tree
                    // ends the wait, and the next incarnation begins at the stored position.
                    Err(HandleError::NotNow(reason)) => {
                        failures += 1;
                        arguments.counters.retries.fetch_add(1, Ordering::Relaxed);
                        tracing::debug!(subscription = %name, reason, failures, "a message is given again");
                        tokio::time::sleep(RETRY.pause(failures, 1.0)).await;
                    }
                }
            }
            arguments.counters.handled.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn set_aside<M>(arguments: &SubscriptionArguments<M>, reason: &str) {
    arguments.counters.set_aside.fetch_add(1, Ordering::Relaxed);
    tracing::error!(subscription = %arguments.name, reason, "a message is set aside: it can never be taken in");
}
