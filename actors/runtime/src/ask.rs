//! An ask on its way: what an entity is sent, where its answer goes, and what the answer may be.
//!
//! Plain types, shared by [`entities`](crate::entities), the shards and the entities' actors. They own nothing and decide nothing.

use std::{sync::Arc, time::Duration};

use dashmap::DashMap;
use tokio::sync::{Notify, oneshot};

use crate::{
    admission::Permit,
    command::CommandMeta,
    entity::{Entity, EntityId},
    journal::Settle,
};

/// Why an ask brought no acceptance.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum AskError<R> {
    /// The rules say no. It is recorded: the same command id gets the same answer.
    #[error("refused: {0:?}")]
    Refused(R),
    /// Too many commands are in flight. Nothing was done.
    #[error("too many commands are in flight; try again shortly")]
    Busy,
    /// The entity falls again and again and is left alone for a while. Nothing was done.
    #[error("the entity falls again and again and is left alone; its next trial is in {} s", .retry_after.as_secs_f64().ceil())]
    Parked {
        /// How long until its next trial.
        retry_after: Duration,
    },
    /// There is no room on the journal's disk. Nothing was done, and reads go on.
    #[error("there is no room on the disk; nothing was done")]
    Full,
    /// The deadline passed. Whether it was done is unknown: ask again with the same command id.
    #[error("no answer within the deadline; try again with the same command id")]
    DeadlineExceeded,
    /// The entity, its shard or its journal fell. Whether it was done is unknown: ask again with the same command id.
    #[error("unavailable; try again with the same command id")]
    Unavailable,
}

/// What an accepted command brought about. It is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted<Ev> {
    /// The stream's version after it.
    pub version: u64,
    /// What happened; empty where there was nothing to do.
    pub events: Vec<Ev>,
    /// True when this command had been here before and this is its first outcome again.
    pub is_repeat: bool,
}

/// What comes back for a command to an entity of kind `E`.
pub type Answer<E> = Result<Accepted<<E as Entity>::Event>, AskError<<E as Entity>::Refusal>>;

/// Where an answer goes. Dropped unanswered, its caller reads `Unavailable`; either way the permit is given back.
pub struct ReplyPort<T> {
    /// Above the sender, so that it is given back first where this is dropped.
    permit: Permit,
    sender: oneshot::Sender<T>,
}

impl<T> ReplyPort<T> {
    /// A port on `sender` that holds `permit` until the answer leaves.
    pub(crate) fn new(permit: Permit, sender: oneshot::Sender<T>) -> Self {
        Self { permit, sender }
    }

    /// Sends the answer. That nobody waits any more is no error.
    pub fn send(self, answer: T) {
        let Self { sender, permit } = self;
        // First: who has their answer and asks again at once is not to find their own place taken.
        drop(permit);
        let _ = sender.send(answer);
    }

    /// True when nobody waits any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

/// One command on its way.
pub struct Delivery<E: Entity> {
    pub(crate) command: E::Command,
    pub(crate) meta: CommandMeta,
    pub(crate) reply: ReplyPort<Answer<E>>,
}

/// Who waits for which entity to change.
pub(crate) type Waiters = Arc<DashMap<EntityId, Arc<Notify>>>;

/// A look at an entity's state that answers through the journal's queue.
pub type Read<S> = Box<dyn FnOnce(&S, u64) -> Settle + Send>;

/// What an entity is sent.
pub enum EntityMessage<E: Entity> {
    /// Decide this.
    Command(Box<Delivery<E>>),
    /// Show the state.
    Read(Read<E::State>),
    /// Go to sleep once everything is settled.
    Passivate,
    /// The journal refused a write of this incarnation: what is in memory is not true.
    JournalRefused,
    /// Panic, for a drill.
    Panic,
}
