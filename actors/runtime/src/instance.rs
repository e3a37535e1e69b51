//! One entity awake: an actor around its decider.
//!
//! It owns the entity's state in memory and is its only writer. For each command: decide, evolve, hand the events *and
//! the reply* to the journal, take the next command, which already sees the new state. It waits for the disk only once,
//! when it wakes. Its shard is its parent; a panic ends it alone. When the journal refuses one of its writes, its state is
//! not true: it falls, and the next command reads the truth. It holds nothing durable.

use std::{
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    ask::{Accepted, Answer, AskError, Delivery, EntityMessage, Read, Waiters},
    entity::{Entity, EntityId, EventPayload},
    journal::{Append, Fence, Journal, JournalError, NewEvent, Outcome, Recorded, ViewWrite, settled},
    parking::Parking,
    seen::{SEEN_COMMANDS_MAX, Seen, SeenCommand, SeenCommands},
    snapshot,
    supervision::{Activity, Busy},
    totals,
};

/// Why an incarnation ends of which a write was not made.
const REFUSED: &str = "the journal refused a write of this incarnation";

/// What an instance needs to start.
pub struct InstanceArguments {
    pub(crate) stream: Arc<str>,
    pub(crate) id: EntityId,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) fence: Arc<Fence>,
    /// A former incarnation has writes on their way: read after them.
    pub(crate) read_after_queued: bool,
    pub(crate) recoveries: Arc<Semaphore>,
    pub(crate) snapshot_every: u64,
    pub(crate) handled: Arc<AtomicU64>,
    pub(crate) activity: Activity,
    pub(crate) waiters: Waiters,
    /// Who wants to know that it works: it fell before.
    pub(crate) watched_by: Option<Arc<Parking>>,
}

/// An instance's state: the entity's, and where it stands in its stream.
pub struct InstanceState<E: Entity> {
    arguments: InstanceArguments,
    state: E::State,
    version: u64,
    snapshot_version: u64,
    seen: SeenCommands,
}

/// The entity's actor; see the module's text.
pub struct Instance<E>(PhantomData<fn() -> E>);

impl<E> Default for Instance<E> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<E: Entity> Actor for Instance<E> {
    type Msg = EntityMessage<E>;
    type State = InstanceState<E>;
    type Arguments = InstanceArguments;

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        arguments: InstanceArguments,
    ) -> Result<InstanceState<E>, ActorProcessingErr> {
        Ok(InstanceState {
            arguments,
            state: E::State::default(),
            version: 0,
            snapshot_version: 0,
            seen: SeenCommands::default(),
        })
    }

    async fn post_start(&self, _: ActorRef<Self::Msg>, state: &mut InstanceState<E>) -> Result<(), ActorProcessingErr> {
        state.recover().await
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut InstanceState<E>,
    ) -> Result<(), ActorProcessingErr> {
        let busy = state.arguments.activity.enter();
        match message {
            EntityMessage::Command(delivery) => state.serve(&myself, *delivery, &busy).await,
            EntityMessage::Read(read) => state.show(read),
            EntityMessage::Passivate => {
                state.sleep_when_settled(&myself);
                Ok(())
            }
            EntityMessage::JournalRefused => Err(REFUSED.into()),
            #[expect(clippy::panic, reason = "this is the drill")]
            EntityMessage::Panic => panic!("a drill asked this entity to panic"),
        }
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Self::Msg>,
        _: SupervisionEvent,
        _: &mut InstanceState<E>,
    ) -> Result<(), ActorProcessingErr> {
        // It has no children.
        Ok(())
    }
}

impl<E: Entity> InstanceState<E> {
    async fn recover(&mut self) -> Result<(), ActorProcessingErr> {
        let recoveries = Arc::clone(&self.arguments.recoveries);
        let _turn = recoveries.acquire().await?;
        let journal = &self.arguments.journal;
        if self.arguments.read_after_queued {
            settled(|settle| journal.after_queued(settle)).await.map_err(|error| self.blame(error))?;
        }
        let loaded = journal.load(Arc::clone(&self.arguments.stream), SEEN_COMMANDS_MAX).await;
        let loaded = loaded.map_err(|error| self.blame(error))?;
        if let Some((version, bytes)) = loaded.snapshot {
            match snapshot::decode::<E>(&bytes) {
                Some(state) => (self.state, self.version, self.snapshot_version) = (state, version, version),
                // A snapshot is a cache: what this build cannot read is read from the events instead.
                None => return self.replay_from_the_start(loaded.seen, loaded.seen_is_complete).await,
            }
        }
        self.replay(&loaded.tail)?;
        self.seen = SeenCommands::recovered(loaded.seen, loaded.seen_is_complete);
        Ok(())
    }

    async fn replay_from_the_start(
        &mut self,
        seen: Vec<SeenCommand>,
        is_complete: bool,
    ) -> Result<(), ActorProcessingErr> {
        let events = self.arguments.journal.events(Arc::clone(&self.arguments.stream)).await;
        let events = events.map_err(|error| self.blame(error))?;
        self.replay(&events)?;
        self.seen = SeenCommands::recovered(seen, is_complete);
        Ok(())
    }

    /// Notes whose fault it is that the stream could not be read: what cannot be understood is the entity's, everything
    /// else the journal's, and then the fall does not count against the entity.
    fn blame(&self, error: JournalError) -> JournalError {
        if !matches!(error, JournalError::Corrupt(_)) {
            self.arguments.fence.raise();
        }
        error
    }

    /// Tells who watches that it is awake and answers.
    fn answered(&self) {
        if let Some(parking) = &self.arguments.watched_by {
            parking.answered(&self.arguments.id);
        }
    }

    fn replay(&mut self, tail: &[Recorded]) -> Result<(), ActorProcessingErr> {
        for recorded in tail {
            if recorded.version != self.version + 1 {
                return Err(format!("{} has no version {}", self.arguments.stream, self.version + 1).into());
            }
            E::evolve(&mut self.state, &decode_event::<E>(recorded)?);
            self.version = recorded.version;
        }
        Ok(())
    }

    async fn serve(
        &mut self,
        myself: &ActorRef<EntityMessage<E>>,
        delivery: Delivery<E>,
        busy: &Busy,
    ) -> Result<(), ActorProcessingErr> {
        if self.arguments.fence.is_raised() {
            return Err(REFUSED.into());
        }
        if delivery.reply.is_closed() || delivery.meta.deadline <= Instant::now() {
            delivery.reply.send(Err(AskError::DeadlineExceeded));
            return Ok(());
        }
        self.arguments.handled.fetch_add(1, Ordering::Relaxed);
        match self.seen.look_up(&delivery.meta.command_id) {
            // Decided, it would be refused by the journal, and the entity read again: for each command of a shop without room.
            Seen::Never if self.arguments.journal.is_full() => {
                self.answered();
                delivery.reply.send(Err(AskError::Full));
                Ok(())
            }
            Seen::Never => self.decide(myself, delivery),
            Seen::Before(first_version) => {
                self.answered();
                let stream = Arc::clone(&self.arguments.stream);
                let outcome = self.arguments.journal.outcome(stream, delivery.meta.command_id, first_version);
                tokio::spawn(async move {
                    let answer = match outcome.await {
                        Ok(Some((outcome, events))) => first_outcome::<E>(outcome, &events),
                        // Its first writing failed: it never happened.
                        Ok(None) | Err(_) => Err(AskError::Unavailable),
                    };
                    delivery.reply.send(answer);
                });
                Ok(())
            }
            Seen::Unsure => {
                let stream = Arc::clone(&self.arguments.stream);
                let outcome = self.arguments.journal.outcome(stream, delivery.meta.command_id, None);
                // A slow disk makes no entity stuck.
                match busy.set_aside(outcome).await.map_err(|error| self.blame(error))? {
                    Some((outcome, events)) => {
                        delivery.reply.send(first_outcome::<E>(outcome, &events));
                        Ok(())
                    }
                    None => self.decide(myself, delivery),
                }
            }
        }
    }

    /// Shows the state once all of it is durable. When one of the writes that it saw is refused, it never was: then nobody may be
    /// told of it, and who asked asks again.
    fn show(&self, read: Read<E::State>) -> Result<(), ActorProcessingErr> {
        let fence = &self.arguments.fence;
        // First the count: a write that is refused raises the fence before it leaves.
        let is_settled = fence.unsettled() == 0;
        if fence.is_raised() {
            return Err(REFUSED.into());
        }
        self.answered();
        let settle = read(&self.state, self.version);
        if is_settled {
            settle(Ok(()));
            return Ok(());
        }
        let fence = Arc::clone(fence);
        self.arguments.journal.after_queued(Box::new(move |settled| {
            let refused = || Err(JournalError::Conflict(REFUSED.to_owned()));
            settle(if fence.is_raised() { settled.and_then(|()| refused()) } else { settled });
        }));
        Ok(())
    }

    fn decide(&mut self, myself: &ActorRef<EntityMessage<E>>, delivery: Delivery<E>) -> Result<(), ActorProcessingErr> {
        let Delivery { command, meta, reply } = delivery;
        let first_version = self.version + 1;
        let (events, refusal) = match E::decide(&self.state, command) {
            Ok(events) => (events, None),
            Err(refusal) => (Vec::new(), Some(refusal)),
        };
        let (new_events, views) = self.evolve(&events, meta.at_ms)?;
        let snapshot = self.snapshot_if_due();
        self.seen.remember(meta.command_id, (!new_events.is_empty()).then_some(first_version));
        let refusal_json = refusal.as_ref().map(serde_json::to_string).transpose()?;
        let answer: Answer<E> = match refusal {
            Some(refusal) => Err(AskError::Refused(refusal)),
            None => Ok(Accepted { version: self.version, events, is_repeat: false }),
        };
        let myself = myself.clone();
        let (id, waiters) = (Arc::clone(&self.arguments.id), Arc::clone(&self.arguments.waiters));
        let watched_by = self.arguments.watched_by.clone();
        self.arguments.journal.append(Append {
            stream: Arc::clone(&self.arguments.stream),
            first_version,
            events: new_events,
            schema: E::SCHEMA,
            refusal: refusal_json,
            command_id: meta.command_id,
            at_ms: meta.at_ms,
            correlation_id: meta.correlation_id,
            causation_id: meta.causation_id,
            traceparent: meta.traceparent,
            actor: meta.actor,
            views,
            snapshot,
            fence: Arc::clone(&self.arguments.fence),
            settle: Box::new(move |outcome: Result<(), JournalError>| match outcome {
                Ok(()) => {
                    reply.send(answer);
                    if let Some(parking) = watched_by {
                        parking.committed(&id);
                    }
                    if let Some(notify) = waiters.get(&id) {
                        notify.notify_waiters();
                    }
                }
                Err(error) => {
                    tracing::warn!(kind = E::KIND, %error, "a write was not made; its entity is read again");
                    reply.send(Err(if error == JournalError::Full { AskError::Full } else { AskError::Unavailable }));
                    let _ = myself.send_message(EntityMessage::JournalRefused);
                }
            }),
        });
        Ok(())
    }

    fn evolve(
        &mut self,
        events: &[E::Event],
        at_ms: i64,
    ) -> Result<(Vec<NewEvent>, Vec<ViewWrite>), ActorProcessingErr> {
        if events.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        let mut new_events = Vec::with_capacity(events.len());
        let mut views = Vec::new();
        let counted_before = E::counts(&self.state);
        for event in events {
            let published_before = E::published(&self.state);
            E::evolve(&mut self.state, event);
            let (event_type, payload) = (event.event_type(), serde_json::to_string(event)?);
            new_events.push(NewEvent { event_type, payload, published_before });
            views.extend(E::views(&self.arguments.id, &self.state, event, at_ms));
        }
        views.extend(totals::difference(E::ADD_TO_TOTALS, counted_before, E::counts(&self.state)));
        self.version += events.len() as u64;
        Ok((new_events, views))
    }

    fn snapshot_if_due(&mut self) -> Option<(u64, Vec<u8>)> {
        if self.version - self.snapshot_version < self.arguments.snapshot_every {
            return None;
        }
        // A state that cannot be encoded has no snapshot; its events are enough.
        let bytes = snapshot::encode::<E>(&self.state)?;
        self.snapshot_version = self.version;
        Some((self.version, bytes))
    }

    fn sleep_when_settled(&self, myself: &ActorRef<EntityMessage<E>>) {
        if self.arguments.fence.unsettled() == 0 {
            myself.stop(Some("passivated".to_owned()));
            return;
        }
        let myself = myself.clone();
        self.arguments.journal.after_queued(Box::new(move |_| {
            let _ = myself.send_message(EntityMessage::Passivate);
        }));
    }
}

fn first_outcome<E: Entity>(outcome: Outcome, recorded: &[Recorded]) -> Answer<E> {
    match outcome {
        Outcome::Refused(json) => Err(match serde_json::from_str(&json) {
            Ok(refusal) => AskError::Refused(refusal),
            Err(error) => {
                tracing::error!(kind = E::KIND, %error, "a recorded refusal cannot be read");
                AskError::Unavailable
            }
        }),
        Outcome::Accepted { first_version, count } => {
            let events: Result<Vec<_>, _> = recorded.iter().map(decode_event::<E>).collect();
            match events {
                Ok(events) => {
                    Ok(Accepted { version: (first_version + count).saturating_sub(1), events, is_repeat: true })
                }
                Err(error) => {
                    tracing::error!(kind = E::KIND, %error, "a recorded event cannot be read");
                    Err(AskError::Unavailable)
                }
            }
        }
    }
}

/// Reads an event's payload, bringing older schema versions up to the present one.
///
/// # Errors
/// [`JournalError::Corrupt`] when the payload is not what its type says.
pub fn decode_event<E: Entity>(recorded: &Recorded) -> Result<E::Event, JournalError> {
    let corrupt = |error: serde_json::Error| {
        JournalError::Corrupt(format!("{} version {}: {error}", recorded.stream, recorded.version))
    };
    if recorded.schema == E::SCHEMA {
        return serde_json::from_str(&recorded.payload).map_err(corrupt);
    }
    let old = serde_json::from_str(&recorded.payload).map_err(corrupt)?;
    serde_json::from_value(E::upcast(&recorded.event_type, recorded.schema, old)).map_err(corrupt)
}
