//! A shard: the router for its part of the ids and the parent of the entities that are awake.
//!
//! It owns the slot table: who is awake, who is going to sleep and what waits for whom. An entity wakes on its first
//! command and reads its stream by itself while further commands queue in its mailbox. Going to sleep loses nothing: what
//! arrives meanwhile is kept here and given to the next incarnation. When an entity falls, its slot is emptied and the
//! next command wakes it again; nobody else notices. When the shard falls its entities fall with it, and its supervisor
//! starts a new one. It never waits for the disk, and it does not interpret commands.

use std::{
    collections::HashMap,
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, ActorStatus, SupervisionEvent};
use tokio::{
    sync::{Semaphore, oneshot},
    time::Instant,
};

use crate::{
    ask::{AskError, EntityMessage, Waiters},
    awake::{AwakeEntity, EntityState, keep_most_urgent},
    changes::What,
    config::EntitiesConfig,
    entity::{Entity, EntityId},
    instance::{Instance, InstanceArguments},
    journal::{Fence, Journal, settled},
    parking::Parking,
    roster::{Counters, Roster, milliseconds},
    supervision::{Activity, exit_of},
};

/// How often a shard looks for the idle and the stuck.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// One in this many of the awake is put to sleep when there is no room for another.
const EVICTED_PART: usize = 16;

/// What a shard is sent.
pub enum ShardMessage<E: Entity> {
    /// Pass this to the entity `id`, waking it if it sleeps.
    Deliver {
        /// To whom.
        id: EntityId,
        /// What.
        message: EntityMessage<E>,
    },
    /// Look for the idle and the stuck.
    Sweep,
    /// Tell which entities are awake, those that need attention most first.
    ShowAwake {
        /// At most so many.
        limit: usize,
        /// To whom.
        reply: oneshot::Sender<Vec<AwakeEntity>>,
    },
    /// Send everybody to sleep, for a drill.
    PutAllToSleep,
}

/// What a shard needs to start.
pub struct ShardArguments {
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) config: Arc<EntitiesConfig>,
    pub(crate) name: String,
    pub(crate) roster: Roster,
    pub(crate) waiters: Waiters,
    pub(crate) parking: Arc<Parking>,
}

/// An incarnation of an entity, from its spawning to the event of its end.
struct Awake<E: Entity> {
    instance: ActorRef<EntityMessage<E>>,
    fence: Arc<Fence>,
    activity: Activity,
    /// It was killed because of a message that does not end. Until it has ended it gets nothing more, and nobody takes its
    /// place: two incarnations must never write.
    is_stuck: bool,
    /// It was told to panic, for a drill: that is not held against it.
    is_drilled: bool,
}

enum Slot<E: Entity> {
    Active {
        awake: Awake<E>,
        last_used: Instant,
    },
    Passivating {
        awake: Awake<E>,
        waiting: Vec<EntityMessage<E>>,
    },
    /// It fell while writes were on their way: the next incarnation must read after them.
    Fallen {
        fence: Arc<Fence>,
    },
}

/// A shard's state.
pub struct ShardState<E: Entity> {
    journal: Arc<dyn Journal>,
    config: Arc<EntitiesConfig>,
    name: String,
    roster: Roster,
    slots: HashMap<EntityId, Slot<E>>,
    /// Whose actor is whose: supervision speaks of actors, callers of ids.
    ids: HashMap<ActorId, EntityId>,
    recoveries: Arc<Semaphore>,
    counters: Arc<Counters>,
    handled: Arc<AtomicU64>,
    waiters: Waiters,
    parking: Arc<Parking>,
}

/// The shard's actor; see the module's text.
pub struct Shard<E>(PhantomData<fn() -> E>);

impl<E> Default for Shard<E> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<E: Entity> Actor for Shard<E> {
    type Msg = ShardMessage<E>;
    type State = ShardState<E>;
    type Arguments = ShardArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: ShardArguments,
    ) -> Result<ShardState<E>, ActorProcessingErr> {
        let counters = arguments.roster.counters(&arguments.name);
        myself.send_interval(SWEEP_EVERY, || ShardMessage::Sweep);
        Ok(ShardState {
            journal: arguments.journal,
            slots: HashMap::new(),
            ids: HashMap::new(),
            recoveries: Arc::new(Semaphore::new(arguments.config.recoveries_per_shard_max)),
            handled: Arc::clone(&counters.handled),
            counters,
            name: arguments.name,
            roster: arguments.roster,
            config: arguments.config,
            waiters: arguments.waiters,
            parking: arguments.parking,
        })
    }

    async fn post_start(&self, _: ActorRef<Self::Msg>, state: &mut ShardState<E>) -> Result<(), ActorProcessingErr> {
        // A former incarnation's entities may have writes on their way: read nothing before they are settled.
        settled(|settle| state.journal.after_queued(settle)).await?;
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut ShardState<E>,
    ) -> Result<(), ActorProcessingErr> {
        // The sweep is no message that anybody enqueued.
        let _busy = (!matches!(message, ShardMessage::Sweep)).then(|| state.counters.activity.enter());
        match message {
            ShardMessage::Deliver { id, message } => state.deliver(&myself, id, message).await,
            ShardMessage::Sweep => {
                state.kill_the_stuck();
                state.put_idle_to_sleep();
                state.parking.forget_old(Instant::now());
                Ok(())
            }
            ShardMessage::PutAllToSleep => {
                state.put_to_sleep_where(|_| true);
                Ok(())
            }
            ShardMessage::ShowAwake { limit, reply } => {
                // That nobody waits any more is no error.
                let _ = reply.send(state.awake(limit));
                Ok(())
            }
        }
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut ShardState<E>,
    ) -> Result<(), ActorProcessingErr> {
        let Some((who, exit)) = exit_of(&event) else { return Ok(()) };
        let Some(id) = state.ids.remove(&who) else { return Ok(()) };
        let slot = state.slots.remove(&id);
        if exit.is_failure() {
            let was_stuck = slot.as_ref().and_then(Slot::awake).is_some_and(|awake| awake.is_stuck);
            let reason = if was_stuck { state.stuck_text() } else { exit.reason };
            state.note_fall(&id, &reason, slot.as_ref());
        }
        state.counters.active.store(state.ids.len() as u64, Ordering::Relaxed);
        match slot {
            Some(Slot::Passivating { awake: Awake { fence, .. }, waiting }) => {
                if fence.unsettled() > 0 {
                    state.slots.insert(Arc::clone(&id), Slot::Fallen { fence });
                }
                for message in waiting {
                    state.deliver(&myself, Arc::clone(&id), message).await?;
                }
            }
            Some(Slot::Active { awake: Awake { fence, .. }, .. }) if fence.unsettled() > 0 => {
                state.slots.insert(id, Slot::Fallen { fence });
            }
            _ => {}
        }
        Ok(())
    }
}

impl<E: Entity> ShardState<E> {
    async fn deliver(
        &mut self,
        myself: &ActorRef<ShardMessage<E>>,
        id: EntityId,
        message: EntityMessage<E>,
    ) -> Result<(), ActorProcessingErr> {
        let is_drilled = matches!(message, EntityMessage::Panic);
        let fallen = match self.slots.get_mut(&id) {
            // Dropped with its reply port: the caller asks again.
            Some(Slot::Active { awake, .. } | Slot::Passivating { awake, .. }) if awake.is_stuck => return Ok(()),
            Some(Slot::Active { awake, last_used }) => {
                *last_used = Instant::now();
                awake.is_drilled |= is_drilled;
                awake.send(message);
                return Ok(());
            }
            Some(Slot::Passivating { waiting, .. }) => {
                waiting.push(message);
                return Ok(());
            }
            Some(Slot::Fallen { fence }) => Some(Arc::clone(fence)),
            None => None,
        };
        if let Err(retry_after) = self.parking.may_wake(&id, Instant::now()) {
            if let EntityMessage::Command(delivery) = message {
                delivery.reply.send(Err(AskError::Parked { retry_after }));
            }
            return Ok(());
        }
        if self.ids.len() >= self.config.active_per_shard_max {
            self.put_longest_idle_to_sleep();
        }
        let (fence, activity) = (Arc::new(Fence::default()), Activity::new());
        let arguments = InstanceArguments {
            stream: format!("{}/{id}", E::KIND).into(),
            id: Arc::clone(&id),
            journal: Arc::clone(&self.journal),
            fence: Arc::clone(&fence),
            read_after_queued: fallen.is_some_and(|fence| fence.unsettled() > 0),
            recoveries: Arc::clone(&self.recoveries),
            snapshot_every: self.config.snapshot_every,
            handled: Arc::clone(&self.handled),
            activity: activity.clone(),
            waiters: Arc::clone(&self.waiters),
            watched_by: self.parking.is_watched(&id).then(|| Arc::clone(&self.parking)),
        };
        let (instance, _) =
            Instance::<E>::spawn_linked(None, Instance::default(), arguments, myself.get_cell()).await?;
        self.ids.insert(instance.get_id(), Arc::clone(&id));
        self.counters.active.store(self.ids.len() as u64, Ordering::Relaxed);
        let awake = Awake { instance, fence, activity, is_stuck: false, is_drilled };
        awake.send(message);
        self.slots.insert(id, Slot::Active { awake, last_used: Instant::now() });
        Ok(())
    }

    /// Notes the fall of `id`. What its journal caused is not held against it: a raised fence says so.
    fn note_fall(&self, id: &EntityId, reason: &str, slot: Option<&Slot<E>>) {
        self.counters.failed(reason);
        let is_by_its_journal = slot.is_some_and(|slot| slot.fence().is_raised());
        let is_drilled = slot.and_then(Slot::awake).is_some_and(|awake| awake.is_drilled);
        let is_parked = !is_by_its_journal && !is_drilled && self.parking.fell(id, reason, Instant::now());
        self.roster.entity(if is_parked { What::EntityParked } else { What::EntityFell }, &self.name, id, reason);
        if is_parked {
            tracing::error!(kind = E::KIND, %id, reason, "entity fell again and again; it is left alone for a while");
        } else {
            tracing::warn!(kind = E::KIND, %id, reason, "entity fell; its next command wakes it again");
        }
    }

    fn put_idle_to_sleep(&mut self) {
        let now = Instant::now();
        let idle_after = self.config.idle_after;
        self.put_to_sleep_where(|last_used| now.duration_since(last_used) >= idle_after);
        self.slots.retain(|_, slot| !matches!(slot, Slot::Fallen { fence } if fence.unsettled() == 0));
    }

    /// Makes room: the longest idle part of the awake goes to sleep. Finding them costs one pass over the table, paid
    /// once for that many wakings.
    fn put_longest_idle_to_sleep(&mut self) {
        let mut last_uses: Vec<Instant> = self
            .slots
            .values()
            .filter_map(|slot| match slot {
                Slot::Active { last_used, .. } => Some(*last_used),
                _ => None,
            })
            .collect();
        if last_uses.is_empty() {
            return;
        }
        let index = (last_uses.len() / EVICTED_PART).min(last_uses.len() - 1);
        let (_, threshold, _) = last_uses.select_nth_unstable(index);
        let threshold = *threshold;
        self.put_to_sleep_where(|last_used| last_used <= threshold);
    }

    fn put_to_sleep_where(&mut self, is_chosen: impl Fn(Instant) -> bool) {
        let mut chosen: Vec<_> = self
            .slots
            .iter_mut()
            .filter(|(_, slot)| {
                matches!(slot, Slot::Active { awake, last_used } if !awake.is_stuck && is_chosen(*last_used))
            })
            .collect();
        // In the order of their ids: the table's order is chance, and a simulation must follow from its seed.
        chosen.sort_unstable_by(|(a, _), (b, _)| (*a).cmp(*b));
        for (_, slot) in chosen {
            if let Slot::Active { awake, .. } = slot
                && awake.send(EntityMessage::Passivate)
            {
                *slot = Slot::Passivating { awake: awake.clone(), waiting: Vec::new() };
            }
        }
    }

    /// Kills whoever is in one message for too long. A decision that blocks its thread cannot be killed: its entity stays
    /// in its slot, is refused everything, and wakes anew once it has ended.
    fn kill_the_stuck(&mut self) {
        let (text, mut stuck) = (self.stuck_text(), 0);
        for (id, slot) in &mut self.slots {
            let Some(awake) = slot.awake_mut() else { continue };
            if !awake.is_stuck && awake.activity.stuck_for(self.config.stuck_after).is_some() {
                awake.is_stuck = true;
                awake.instance.kill();
                tracing::error!(kind = E::KIND, %id, reason = text, "killed");
                self.roster.entity(What::EntityStuck, &self.name, id, &text);
                if let Slot::Passivating { waiting, .. } = slot {
                    waiting.clear();
                }
                stuck += 1;
            } else {
                stuck += u64::from(awake.is_stuck);
            }
        }
        self.counters.stuck.store(stuck, Ordering::Relaxed);
    }

    fn stuck_text(&self) -> String {
        format!("stuck in one message for more than {:?}", self.config.stuck_after)
    }

    fn awake(&self, limit: usize) -> Vec<AwakeEntity> {
        let shard: Arc<str> = format!("{}{}", self.roster.scope(), self.name).into();
        let mut entities: Vec<AwakeEntity> =
            self.slots.iter().filter_map(|(id, slot)| slot.shown(&shard, id)).collect();
        keep_most_urgent(&mut entities, limit);
        entities
    }
}

impl<E: Entity> Awake<E> {
    /// False when it ended a moment ago: the reply port is dropped, and its caller asks again.
    fn send(&self, message: EntityMessage<E>) -> bool {
        let is_sent = self.instance.send_message(message).is_ok();
        if is_sent {
            self.activity.enqueued();
        }
        is_sent
    }
}

impl<E: Entity> Clone for Awake<E> {
    fn clone(&self) -> Self {
        Self {
            instance: self.instance.clone(),
            fence: Arc::clone(&self.fence),
            activity: self.activity.clone(),
            is_stuck: self.is_stuck,
            is_drilled: self.is_drilled,
        }
    }
}

impl<E: Entity> Slot<E> {
    fn awake(&self) -> Option<&Awake<E>> {
        match self {
            Self::Active { awake, .. } | Self::Passivating { awake, .. } => Some(awake),
            Self::Fallen { .. } => None,
        }
    }

    fn fence(&self) -> &Fence {
        match self {
            Self::Active { awake, .. } | Self::Passivating { awake, .. } => &awake.fence,
            Self::Fallen { fence } => fence,
        }
    }

    fn awake_mut(&mut self) -> Option<&mut Awake<E>> {
        match self {
            Self::Active { awake, .. } | Self::Passivating { awake, .. } => Some(awake),
            Self::Fallen { .. } => None,
        }
    }

    fn shown(&self, shard: &Arc<str>, id: &EntityId) -> Option<AwakeEntity> {
        let awake = self.awake()?;
        let reading = awake.activity.reading();
        let state = match self {
            _ if awake.is_stuck => EntityState::Stuck,
            Self::Passivating { .. } => EntityState::GoingToSleep,
            // It is running once it has read its stream.
            _ if awake.instance.get_status() < ActorStatus::Running => EntityState::Recovering,
            _ => EntityState::Running,
        };
        Some(AwakeEntity {
            shard: Arc::clone(shard),
            id: Arc::clone(id),
            actor: awake.instance.get_id().pid(),
            state,
            queue_depth: reading.queue_depth.unwrap_or(0),
            handled: reading.handled,
            message_age_ms: reading.message_age.map(milliseconds),
            unsettled: awake.fence.unsettled(),
        })
    }
}
