//! Inspection: the whole tree as a snapshot, and what happens to it from there on.
//!
//! The lines come from the [`Roster`], which the supervisors write as they act; queue depths and message ages from the
//! [`Activity`](crate::supervision::Activity) of those who tell. An entity has no line of its own: there may be millions.
//! The shards are asked which of theirs are awake, the busiest first; an entity's fall appears among the changes.
//!
//! A follower starts with [`Roster::follow`]: a snapshot with a number, and every change after that number. It applies
//! each with [`Snapshot::apply`]. One that reads too slowly is told so and starts again; it never holds anybody up.
//! Nothing here changes anything, and nothing is kept once the process ends.

use serde::Serialize;
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::Instant,
};

use crate::{
    awake::{AwakeSource, keep_most_urgent},
    command::now_ms,
    roster::{CounterReading, Line, Roster, milliseconds},
};

pub use crate::{
    awake::{AwakeEntity, EntityState},
    changes::{Change, EntityEvent, Entry, What},
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
