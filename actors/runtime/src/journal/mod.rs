//! The log: what happened, in the order it was committed.
//!
//! A journal owns one database. In **one transaction** it writes a command's events, its outcome under the command's id,
//! and the rows of the read model that the events change. A version of a stream can be written once: that is the last guard
//! against two writers.
//! Entities, relays and read models talk to it; when it cannot write it stops acknowledging and dies, and its tree is
//! started again on what is on disk. It does not interpret payloads.

mod boot;
mod checkpointer;
pub mod compare;
mod connections;
pub mod contradictions;
mod damage;
mod directory;
mod ends;
mod faults;
mod health;
pub mod identity;
pub mod integrity;
pub mod keeper;
#[cfg(feature = "testkit")]
pub mod memory;
#[cfg(feature = "testkit")]
mod memory_faults;
mod native;
mod open_error;
pub mod progress;
mod projection;
mod readers;
mod reads;
pub mod recovery;
mod schema;
pub mod sqlite;
mod stream_index;
mod transaction;
mod types;
pub mod views;
mod witness;
mod writer;

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};
use tokio::sync::{oneshot, watch};

use self::{
    contradictions::Contradictions,
    identity::{EventDigest, LogIdentity, LogMark},
};
use crate::command::CommandId;

pub use self::{
    health::{JournalHealth, Trouble},
    types::{
        Append, Fence, JournalError, Loaded, NewEvent, Outcome, Position, QUERY_ROWS_MAX, Recorded, RecordedOutcome,
        Row, Settle, SqlValue, ViewWrite,
    },
};

/// A durable log with command ids, views and positions. Requests that write, and those that must see all writes queued
/// before them, are served in the order in which they were made.
pub trait Journal: Send + Sync + 'static {
    /// Queues one command's writes and returns at once. `settle` is called exactly once, after the commit or the failure.
    /// The queue is bounded by the admission of those who call, not here.
    fn append(&self, append: Append);

    /// Calls `settle` once everything queued before is settled. It writes nothing.
    fn after_queued(&self, settle: Settle);

    /// The outcome recorded for a command with the events it appended, seen after everything queued before. A command that
    /// made one of the first [`SEEN_COMMANDS_MAX`](crate::seen::SEEN_COMMANDS_MAX) versions is found at its `first_version`
    /// alone; any other is found by its id.
    fn outcome(
        &self,
        stream: Arc<str>,
        command_id: CommandId,
        first_version: Option<u64>,
    ) -> BoxFuture<'static, RecordedOutcome>;

    /// Reads a stream: snapshot, tail, and the commands seen; of those that are found by their ids at most `seen_max`.
    fn load(&self, stream: Arc<str>, seen_max: usize) -> BoxFuture<'static, Result<Loaded, JournalError>>;

    /// All events of a stream, in order.
    fn events(&self, stream: Arc<str>) -> BoxFuture<'static, Result<Vec<Recorded>, JournalError>>;

    /// The events after `position` in the order of commits, at most `limit`.
    fn read_after(&self, position: Position, limit: usize) -> BoxFuture<'static, Result<Vec<Recorded>, JournalError>>;

    /// The position of the newest commit; it wakes relays and projections.
    fn committed(&self) -> watch::Receiver<Position>;

    /// Asks the read model. It sees committed rows only. At most [`QUERY_ROWS_MAX`] rows are given.
    fn query(&self, sql: &'static str, params: Vec<SqlValue>) -> BoxFuture<'static, Result<Vec<Row>, JournalError>>;

    /// Which log this is.
    fn identity(&self) -> LogIdentity;

    /// Who says that this is not the log that they have read. While anybody does, appends are refused.
    fn contradictions(&self) -> Contradictions;

    /// What the event at `position` is; nothing where there is none. Before the first it is [`EventDigest::NONE`].
    fn digest_at(&self, position: Position) -> BoxFuture<'static, Result<Option<EventDigest>, JournalError>> {
        identity::digest_at(position, self.read_after(position.saturating_sub(1), 1))
    }

    /// Where a subscription stands in another journal: the last position whose effects are durable here.
    fn position_of(&self, subscription: Arc<str>) -> BoxFuture<'static, Result<LogMark, JournalError>>;

    /// Records, after everything queued before it, that a subscription's effects up to `mark` are durable here.
    fn store_position(&self, subscription: Arc<str>, mark: LogMark) -> BoxFuture<'static, Result<(), JournalError>>;

    /// How it is, for operators.
    fn health(&self) -> JournalHealth {
        JournalHealth::default()
    }

    /// True while there is no room on its disk: writes are refused until there is.
    fn is_full(&self) -> bool {
        false
    }

    /// What has been found damaged in the database: nothing, as a rule. It is served from all the same, as far as that goes.
    fn damage(&self) -> watch::Receiver<Option<String>> {
        damage::never()
    }

    /// False once the journal has failed or closed.
    fn is_open(&self) -> bool;

    /// Resolves when the journal has failed or closed.
    fn closed(&self) -> BoxFuture<'static, JournalError>;

    /// Settles what is queued, closes the database and, last, gives its directory back. Later requests get
    /// [`JournalError::Closed`].
    fn close(&self) -> BoxFuture<'static, ()>;
}

/// Asks for something that is settled later, and waits for that.
pub(crate) fn settled(ask: impl FnOnce(Settle)) -> BoxFuture<'static, Result<(), JournalError>> {
    let (reply, answer) = oneshot::channel();
    ask(Box::new(move |outcome| {
        // Nobody waits any more: that is their affair.
        let _ = reply.send(outcome);
    }));
    async move { answer.await.unwrap_or(Err(JournalError::Closed)) }.boxed()
}

/// Waits until a journal has said why it closed.
pub(crate) fn until_closed(mut closed: watch::Receiver<Option<JournalError>>) -> BoxFuture<'static, JournalError> {
    async move {
        match closed.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or(JournalError::Closed),
            Err(_) => JournalError::Closed,
        }
    }
    .boxed()
}
