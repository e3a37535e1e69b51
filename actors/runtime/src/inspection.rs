//! Inspection: the whole tree as a snapshot, and what happens to it from there on.
//!
//! The lines come from the [`Roster`], which the supervisors write as they act; queue depths and message ages from the
//! [`Activity`](crate::supervision::Activity) of those who tell. An entity has no line of its own: there may be millions.
//! The shards are asked which of theirs are awake, the busiest first; an entity's fall appears among the changes.
//!
//! A follower starts with [`Roster::follow`]: a snapshot with a number, and every change after that number. It applies
//! each with [`Snapshot::apply`]. One that reads too slowly is told so and starts again; it never holds anybody up.
//! Nothing here changes anything, and nothing is kept once the process ends.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use serde::Serialize;
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::Instant,
};

use crate::{
    command::now_ms,
    roster::{CounterReading, Entry, Line, Roster, milliseconds},
};

/// The most entities that one look shows.
pub const AWAKE_SHOWN_MAX: usize = 1_000;

/// One supervised actor.
#[derive(Clone, Debug, Serialize)]
pub struct ActorLine {
    /// Its line in the roster.
    #[serde(flatten)]
    pub entry: Entry,
    /// Messages that wait in its mailbox; nothing where nobody counts, or nobody runs.
    pub queue_depth: Option<u64>,
    /// Messages taken up, by all incarnations; nothing where nobody counts.
    pub handled: Option<u64>,
    /// How long it has been in its present message, in milliseconds; nothing between messages.
    pub message_age_ms: Option<u64>,
}

impl ActorLine {
    fn read(line: &Line) -> Self {
        let reading = line.activity.as_ref().map(|activity| activity.reading());
        // Where nobody runs there is no mailbox and no message.
        let present = reading.filter(|_| line.entry.id.is_some());
        Self {
            entry: line.entry.clone(),
            queue_depth: present.and_then(|reading| reading.queue_depth),
            handled: reading.map(|reading| reading.handled),
            message_age_ms: present.and_then(|reading| reading.message_age).map(milliseconds),
        }
    }
}

/// The tree at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    /// The number of the last change that is in it.
    pub seq: u64,
    /// When it was taken, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Every supervised actor, by path.
    pub actors: Vec<ActorLine>,
    /// What the shards count, by name.
    pub shards: Vec<CounterReading>,
}

impl Snapshot {
    /// Brings the lines up to `change`. Queue depths, counts and ages stay those of the snapshot: they are no part of the
    /// changes. A change that is already in the snapshot is left out.
    pub fn apply(&mut self, change: &Change) {
        if change.seq <= self.seq {
            return;
        }
        self.seq = change.seq;
        self.at_ms = change.at_ms;
        let What::Actor(entry) = &change.what else { return };
        match self.actors.binary_search_by(|line| line.entry.path.cmp(&entry.path)) {
            Ok(index) => self.actors[index].entry = entry.clone(),
            Err(index) => {
                let line = ActorLine { entry: entry.clone(), queue_depth: None, handled: None, message_age_ms: None };
                self.actors.insert(index, line);
            }
        }
    }

    /// The lines without the numbers that move all the time.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.actors.iter().map(|line| line.entry.clone()).collect()
    }
}

/// Something that happened. As JSON: `seq`, `at_ms`, `change` (which of [`What`]) and that one's own fields.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// Its number: each is one above the last.
    pub seq: u64,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum What {
    /// A supervised actor's line is new or stands otherwise now: this is the whole of it.
    Actor(Entry),
    /// An entity fell; its next command wakes it again.
    EntityFell(EntityEvent),
    /// An entity is in one message for too long; it is refused everything until it ends.
    EntityStuck(EntityEvent),
    /// An entity was set aside, because what it is asked or what it reads makes it fall again and again.
    EntityParked(EntityEvent),
}

/// What befell an entity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EntityEvent {
    /// Its shard.
    pub shard: String,
    /// The entity.
    pub id: String,
    /// Why, in words.
    pub reason: String,
}

/// Why there is no next change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missed {
    /// The reader was too slow, and this many changes are gone. Follow anew.
    #[error("{0} changes were missed; take a new snapshot")]
    Lagged(u64),
    /// The roster is no more.
    #[error("there is nothing left to follow")]
    Closed,
}

/// The changes after a snapshot.
pub struct Changes(broadcast::Receiver<Change>);

impl Changes {
    /// The next change, once there is one.
    ///
    /// # Errors
    /// [`Missed::Lagged`] when this reader was too slow: what it has put together is not true any more.
    pub async fn next(&mut self) -> Result<Change, Missed> {
        self.0.recv().await.map_err(|error| match error {
            RecvError::Lagged(missed) => Missed::Lagged(missed),
            RecvError::Closed => Missed::Closed,
        })
    }
}

/// Where an awake entity stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EntityState {
    /// It reads its stream, or waits for its turn to.
    Recovering,
    /// It takes commands.
    Running,
    /// It goes to sleep.
    GoingToSleep,
    /// It is in one message for too long and is refused everything until it ends.
    Stuck,
}

/// An entity that is awake.
#[derive(Clone, Debug, Serialize)]
pub struct AwakeEntity {
    /// Its shard, within its service's scope.
    pub shard: Arc<str>,
    /// The entity.
    pub id: Arc<str>,
    /// The present incarnation's number in this process.
    pub actor: u64,
    /// Where it stands.
    pub state: EntityState,
    /// Messages in its mailbox.
    pub queue_depth: u64,
    /// Messages that this incarnation took up.
    pub handled: u64,
    /// How long it has been in its present message, in milliseconds; nothing between messages.
    pub message_age_ms: Option<u64>,
    /// Writes that are not committed yet.
    pub unsettled: u64,
}

impl AwakeEntity {
    /// The order in which entities are shown: the longest in one message first, then the deepest queue.
    pub(crate) fn attention(&self) -> (u64, u64) {
        (self.message_age_ms.unwrap_or(0), self.queue_depth)
    }
}

type Awake = Pin<Box<dyn Future<Output = Vec<AwakeEntity>> + Send>>;

/// Whom to ask for the awake entities of one kind: at most so many, until then.
#[derive(Clone)]
pub(crate) struct AwakeSource(pub(crate) Arc<dyn Fn(usize, Instant) -> Awake + Send + Sync>);

impl fmt::Debug for AwakeSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("AwakeSource")
    }
}

impl Roster {
    /// The tree now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let (seq, actors) = {
            let tree = self.tree();
            (tree.seq, tree.lines.values().map(ActorLine::read).collect())
        };
        Snapshot { seq, at_ms: now_ms(), actors, shards: self.readings() }
    }

    /// The tree now, and every change after it.
    #[must_use]
    pub fn follow(&self) -> (Snapshot, Changes) {
        // Subscribed first: what comes twice is left out when it is applied, and nothing is missed.
        let changes = Changes(self.subscribe());
        (self.snapshot(), changes)
    }

    /// The awake entities that need attention most: the longest in one message first, then the deepest queues. At most
    /// `limit` of them and never more than [`AWAKE_SHOWN_MAX`]. A shard that does not answer before `deadline` is left out.
    pub async fn awake(&self, limit: usize, deadline: Instant) -> Vec<AwakeEntity> {
        let limit = limit.min(AWAKE_SHOWN_MAX);
        let asked = self.awake_sources().into_iter().map(|(_, AwakeSource(ask))| ask(limit, deadline));
        let mut entities: Vec<AwakeEntity> = futures::future::join_all(asked).await.into_iter().flatten().collect();
        keep_most_urgent(&mut entities, limit);
        entities
    }
}

/// Sorts by [`AwakeEntity::attention`] and keeps the first `limit`.
pub(crate) fn keep_most_urgent(entities: &mut Vec<AwakeEntity>, limit: usize) {
    entities.sort_by(|a, b| b.attention().cmp(&a.attention()).then_with(|| (&a.shard, &a.id).cmp(&(&b.shard, &b.id))));
    entities.truncate(limit);
}
