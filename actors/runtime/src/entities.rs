//! The handle through which everybody reaches the entities of one kind.
//!
//! Callers hold `(kind, id)`, never an entity's address: the id hashes to a shard, the shard knows who is awake. Every ask
//! has a deadline that travels with it, holds a permit until its reply leaves, and ends in exactly one of: accepted,
//! refused, busy, parked, no room, too late, unavailable. The last two mean "unknown": ask again with the same command id and you get the
//! first outcome.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    pin::pin,
    sync::Arc,
};

use ractor::{Actor, ActorRef};
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, timeout_at},
};

use crate::{
    admission::Gate,
    ask::{Delivery, EntityMessage, ReplyPort, Waiters},
    awake::{AwakeEntity, AwakeSource, keep_most_urgent},
    command::CommandMeta,
    current::Current,
    entity::{Entity, EntityId},
    journal::{Journal, JournalError, contradictions::Contradictions},
    parking::{ParkedEntity, Parking},
    roster::Roster,
    shard::{Shard, ShardArguments, ShardMessage},
    supervision::{Activity, ChildSpec, Restart},
};

pub use crate::{
    ask::{Accepted, Answer, AskError},
    config::EntitiesConfig,
};

struct ShardDoor<E: Entity> {
    address: Current<ActorRef<ShardMessage<E>>>,
    gate: Arc<Gate>,
    activity: Activity,
    parking: Arc<Parking>,
}

/// The entities of one kind; see the module's text. Clones are the same entities.
pub struct Entities<E: Entity> {
    doors: Arc<[ShardDoor<E>]>,
    journal: Arc<dyn Journal>,
    contradictions: Contradictions,
    config: Arc<EntitiesConfig>,
    roster: Roster,
    waiters: Waiters,
}

impl<E: Entity> Clone for Entities<E> {
    fn clone(&self) -> Self {
        Self {
            doors: Arc::clone(&self.doors),
            journal: Arc::clone(&self.journal),
            contradictions: self.contradictions.clone(),
            config: Arc::clone(&self.config),
            roster: self.roster.clone(),
            waiters: Arc::clone(&self.waiters),
        }
    }
}

impl<E: Entity> Entities<E> {
    /// Entities on `journal`, within `service_gate`. Nothing runs until a supervisor starts [`Entities::shards`].
    #[must_use]
    pub fn new(journal: Arc<dyn Journal>, service_gate: &Arc<Gate>, config: EntitiesConfig, roster: Roster) -> Self {
        let door = |index| ShardDoor {
            address: Current::empty(),
            gate: Gate::within(service_gate, config.in_flight_per_shard_max),
            activity: roster.counters(&shard_name::<E>(index)).activity.clone(),
            parking: Parking::new(config.parking, roster.counters(&shard_name::<E>(index))),
        };
        let doors: Arc<[ShardDoor<E>]> = (0..config.shards.max(1)).map(door).collect();
        roster.set_awake_source(E::KIND, awake_source(&doors));
        let contradictions = journal.contradictions();
        Self { doors, journal, contradictions, config: Arc::new(config), roster, waiters: Waiters::default() }
    }

    /// The shards as children for a supervisor.
    #[must_use]
    pub fn shards(&self) -> Vec<ChildSpec> {
        (0..self.doors.len()).map(|index| self.shard(index)).collect()
    }

    fn shard(&self, index: usize) -> ChildSpec {
        let entities = self.clone();
        let (bound, activity) = (self.config.stuck_after, self.doors[index].activity.clone());
        let shard = ChildSpec::new(shard_name::<E>(index), Restart::Permanent, move |supervisor| {
            let entities = entities.clone();
            async move {
                let arguments = ShardArguments {
                    journal: Arc::clone(&entities.journal),
                    config: Arc::clone(&entities.config),
                    name: shard_name::<E>(index),
                    roster: entities.roster.clone(),
                    waiters: Arc::clone(&entities.waiters),
                    parking: Arc::clone(&entities.doors[index].parking),
                };
                let (shard, _) = Shard::<E>::spawn_linked(None, Shard::default(), arguments, supervisor).await?;
                entities.doors[index].address.set(shard.clone());
                Ok(shard.get_cell())
            }
        });
        shard.kind("shard").watched(bound, activity)
    }

    /// Asks the entity `id` to do `command`. The answer comes after it is durable.
    ///
    /// # Errors
    /// [`AskError`]; of these only `Refused`, `Busy`, `Parked` and `Full` say for sure that nothing was done.
    pub async fn ask(&self, id: impl Into<EntityId>, command: E::Command, meta: CommandMeta) -> Answer<E> {
        // The writer would refuse it, and the entity would fall with each command.
        if self.contradictions.is_any() {
            return Err(AskError::Unavailable);
        }
        let deadline = meta.deadline;
        let answer =
            self.send(id.into(), |reply| EntityMessage::Command(Box::new(Delivery { command, meta, reply })))?;
        wait(answer, deadline).await.unwrap_or_else(Err)
    }

    /// Reads the entity `id`: `read` sees the state and its version, and its result is given only once all that it saw is
    /// durable. `read` runs inside the entity: keep it short.
    ///
    /// # Errors
    /// [`AskError`], never `Refused`.
    pub async fn read<T: Send + 'static>(
        &self,
        id: impl Into<EntityId>,
        deadline: Instant,
        read: impl FnOnce(&E::State, u64) -> T + Send + 'static,
    ) -> Result<T, AskError<E::Refusal>> {
        let answer = self.send(id.into(), |reply: ReplyPort<Result<T, JournalError>>| {
            EntityMessage::Read(Box::new(move |state, version| {
                let seen = read(state, version);
                Box::new(move |settled: Result<(), JournalError>| reply.send(settled.map(|()| seen)))
            }))
        })?;
        wait(answer, deadline).await?.map_err(|_| AskError::Unavailable)
    }

    /// Waits until `read` finds what it looks for in the entity `id`. It looks at once and after each of the entity's
    /// commits, so nothing is polled and nothing missed.
    ///
    /// # Errors
    /// [`AskError::DeadlineExceeded`] when it was not there in time; otherwise as [`Entities::read`].
    pub async fn wait_until<T: Send + 'static>(
        &self,
        id: impl Into<EntityId>,
        deadline: Instant,
        read: impl Fn(&E::State) -> Option<T> + Clone + Send + 'static,
    ) -> Result<T, AskError<E::Refusal>> {
        let id = id.into();
        let waiting = Waiting::new(&self.waiters, &id);
        loop {
            let mut changed = pin!(waiting.notify.notified());
            // From here on a commit is noticed: looking afterwards leaves no gap.
            changed.as_mut().enable();
            let look = read.clone();
            if let Some(found) = self.read(Arc::clone(&id), deadline, move |state, _| look(state)).await? {
                return Ok(found);
            }
            timeout_at(deadline, changed).await.map_err(|_| AskError::DeadlineExceeded)?;
        }
    }

    /// Makes the entity `id` panic: for drills and tests of supervision.
    pub fn inject_panic(&self, id: impl Into<EntityId>) {
        let id = id.into();
        let door = self.door(&id);
        if let Ok(shard) = door.address.get()
            && shard.send_message(ShardMessage::Deliver { id, message: EntityMessage::Panic }).is_ok()
        {
            door.activity.enqueued();
        }
    }

    /// Sends every entity that is awake to sleep at once, as a lack of room would: for drills and tests.
    pub fn inject_sleep(&self) {
        for door in self.doors.iter() {
            if let Ok(shard) = door.address.get() {
                let _ = shard.send_message(ShardMessage::PutAllToSleep);
            }
        }
    }

    /// The entities that fell again and again and are left alone for now, by id.
    #[must_use]
    pub fn parked(&self) -> Vec<ParkedEntity> {
        let now = Instant::now();
        let mut parked: Vec<_> = self.doors.iter().flat_map(|door| door.parking.parked(now)).collect();
        parked.sort_by(|a, b| a.id.cmp(&b.id));
        parked
    }

    /// Ends the parking of the entity `id`: its next command wakes it. False where it is not parked.
    pub fn unpark(&self, id: impl Into<EntityId>) -> bool {
        let id = id.into();
        self.door(&id).parking.unpark(&id)
    }

    /// How many commands are in flight, over all shards.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.doors.iter().map(|door| door.gate.in_flight()).sum()
    }

    fn door(&self, id: &EntityId) -> &ShardDoor<E> {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        // The remainder is below the number of doors.
        &self.doors[(hasher.finish() % self.doors.len() as u64) as usize]
    }

    fn send<T>(
        &self,
        id: EntityId,
        message: impl FnOnce(ReplyPort<T>) -> EntityMessage<E>,
    ) -> Result<oneshot::Receiver<T>, AskError<E::Refusal>> {
        let door = self.door(&id);
        let permit = door.gate.try_enter().ok_or(AskError::Busy)?;
        let shard = door.address.get().map_err(|_| AskError::Unavailable)?;
        door.parking.admit(&id, Instant::now()).map_err(|retry_after| AskError::Parked { retry_after })?;
        let (sender, answer) = oneshot::channel();
        let message = message(ReplyPort::new(permit, sender));
        shard.send_message(ShardMessage::Deliver { id, message }).map_err(|_| AskError::Unavailable)?;
        door.activity.enqueued();
        Ok(answer)
    }
}

fn shard_name<E: Entity>(index: usize) -> String {
    format!("{}-shard-{index}", E::KIND)
}

/// Asks the shards behind `doors` which of their entities are awake. It does not keep the entities alive.
fn awake_source<E: Entity>(doors: &Arc<[ShardDoor<E>]>) -> AwakeSource {
    let doors = Arc::downgrade(doors);
    AwakeSource(Arc::new(move |limit, deadline| {
        let doors = doors.upgrade();
        Box::pin(async move {
            let Some(doors) = doors else { return Vec::new() };
            let asked = doors.iter().map(|door| awake_in_shard(door, limit, deadline));
            let mut entities: Vec<AwakeEntity> = futures::future::join_all(asked).await.into_iter().flatten().collect();
            keep_most_urgent(&mut entities, limit);
            entities
        })
    }))
}

async fn awake_in_shard<E: Entity>(door: &ShardDoor<E>, limit: usize, deadline: Instant) -> Vec<AwakeEntity> {
    let Ok(shard) = door.address.get() else { return Vec::new() };
    let (reply, answer) = oneshot::channel();
    if shard.send_message(ShardMessage::ShowAwake { limit, reply }).is_err() {
        return Vec::new();
    }
    door.activity.enqueued();
    timeout_at(deadline, answer).await.ok().and_then(Result::ok).unwrap_or_default()
}

/// One caller's place among those who wait for an entity; given up on drop.
struct Waiting {
    waiters: Waiters,
    id: EntityId,
    notify: Arc<Notify>,
}

impl Waiting {
    fn new(waiters: &Waiters, id: &EntityId) -> Self {
        let notify = Arc::clone(&waiters.entry(Arc::clone(id)).or_default());
        Self { waiters: Arc::clone(waiters), id: Arc::clone(id), notify }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // The map's own and this one: nobody else waits.
        self.waiters.remove_if(&self.id, |_, notify| Arc::strong_count(notify) <= 2);
    }
}

async fn wait<T, R>(answer: oneshot::Receiver<T>, deadline: Instant) -> Result<T, AskError<R>> {
    match timeout_at(deadline, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(AskError::Unavailable),
        Err(_) => Err(AskError::DeadlineExceeded),
    }
}
