//! What is told of the tree: the line of one actor, and the changes.
//!
//! Plain values: the [`roster`](crate::roster) writes them, [`inspection`](crate::inspection) shows them.

use std::sync::Arc;

use serde::Serialize;

/// Where a child stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChildState {
    /// It is being started.
    Starting,
    /// It runs.
    Running,
    /// It fell, or a sibling did, and is started again after a pause.
    Restarting,
    /// It was asked to stop and has not yet.
    Stopping,
    /// It ended, and will not be started again by its supervisor; a new incarnation of that may.
    Stopped,
    /// It was in one message for too long, or did not stop, and was killed. It stays so for as long as it blocks its thread.
    Stuck,
}

/// One line of the roster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its path in the tree, such as `shop/order/order-shard-0`.
    pub path: String,
    /// The present incarnation's number in this process; nothing while there is none.
    pub id: Option<u64>,
    /// What it is.
    pub kind: Arc<str>,
    /// The number of the supervisor that started it; nothing for the root.
    pub parent: Option<u64>,
    /// Where it stands.
    pub state: ChildState,
    /// Since when, in milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// How often it was started again.
    pub restarts: u64,
    /// Why it fell last.
    pub last_failure: Option<String>,
    /// When it fell last, in milliseconds since the Unix epoch.
    pub last_failure_ms: Option<i64>,
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
