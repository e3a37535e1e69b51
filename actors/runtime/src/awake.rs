//! The entities that are awake, as a shard tells of them.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use serde::Serialize;
use tokio::time::Instant;

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

/// Sorts by [`AwakeEntity::attention`] and keeps the first `limit`.
pub(crate) fn keep_most_urgent(entities: &mut Vec<AwakeEntity>, limit: usize) {
    entities.sort_by(|a, b| b.attention().cmp(&a.attention()).then_with(|| (&a.shard, &a.id).cmp(&(&b.shard, &b.id))));
    entities.truncate(limit);
}
