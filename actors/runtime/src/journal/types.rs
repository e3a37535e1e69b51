//! What goes into a journal and what comes out of it: plain values.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use crate::{command::CommandId, seen::SeenCommand};

/// The most rows that one question to the read model can bring back.
pub const QUERY_ROWS_MAX: usize = 10_000;

/// The place of an event in the order of commits, from 1 up without reuse. 0 is before the first.
pub type Position = u64;

/// Why the journal did not do it.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum JournalError {
    /// The disk or the database failed. Nothing of the request is durable; the journal is closing.
    #[error("the journal cannot write: {0}")]
    Storage(String),
    /// What is on disk is unknown, or not ours any more: nothing in this process may open it again. The tree ends, and the process
    /// with it; the next one reads what is really there.
    #[error("the journal has to be opened by a new process: {0}")]
    Fatal(String),
    /// There is no room on the disk: nothing of the request was written. The journal goes on, and writes again when there is room.
    #[error("there is no room on the journal's disk; nothing was written")]
    Full,
    /// Another program has held the lock of the database for too long: nothing of the request was written. The journal goes on.
    #[error("another program holds the lock of the journal's database; nothing was written")]
    Busy,
    /// Another writer has been at this stream, or an earlier write of this incarnation failed: nothing of this was
    /// written, and the entity has to be read again.
    #[error("the stream was changed by another writer, or an earlier write failed: {0}")]
    Conflict(String),
    /// The journal is closed, or closing.
    #[error("the journal is closed")]
    Closed,
    /// What is on disk cannot be understood.
    #[error("the journal holds what this build cannot read: {0}")]
    Corrupt(String),
    /// What was read from the database is not what was written there: a page of it is damaged.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// Somebody who has read this log says that it is another one, or has lost its tail. Nothing was written, and nothing will
    /// be until it is reconciled; reads go on.
    #[error("the data does not fit together: {0}")]
    Contradicted(String),
    /// A reader's statement was wrong, or the reader failed.
    #[error("the query failed: {0}")]
    Query(String),
}

/// A value in a statement of the read model.
#[derive(Clone, Debug, PartialEq)]
pub enum SqlValue {
    /// SQL NULL.
    Null,
    /// An integer: counts, minor units, milliseconds, booleans as 0 and 1.
    Integer(i64),
    /// Text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

impl From<i64> for SqlValue {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}
impl From<String> for SqlValue {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}
impl From<&str> for SqlValue {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}
impl<T: Into<SqlValue>> From<Option<T>> for SqlValue {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// One write to the read model: a statement with parameters `?1, ?2, …`. The statement's text is prepared once and kept.
#[derive(Clone, Debug)]
pub struct ViewWrite {
    /// The statement. Keep to the SQL that SQLite and PostgreSQL share.
    pub sql: &'static str,
    /// Its parameters, in order.
    pub params: Vec<SqlValue>,
}

impl ViewWrite {
    /// A write of `sql` with `params`.
    #[must_use]
    pub fn new(sql: &'static str, params: Vec<SqlValue>) -> Self {
        Self { sql, params }
    }
}

/// One row of an answer from the read model.
#[derive(Clone, Debug)]
pub struct Row(pub Vec<SqlValue>);

impl Row {
    /// The integer in column `index`.
    ///
    /// # Errors
    /// [`JournalError::Query`] when there is no integer in that place.
    pub fn integer(&self, index: usize) -> Result<i64, JournalError> {
        match self.0.get(index) {
            Some(SqlValue::Integer(value)) => Ok(*value),
            other => Err(JournalError::Query(format!("column {index} holds {other:?}, not an integer"))),
        }
    }

    /// The text in column `index`.
    ///
    /// # Errors
    /// [`JournalError::Query`] when there is no text in that place.
    pub fn text(&self, index: usize) -> Result<&str, JournalError> {
        match self.0.get(index) {
            Some(SqlValue::Text(value)) => Ok(value),
            other => Err(JournalError::Query(format!("column {index} holds {other:?}, not text"))),
        }
    }

    /// The text in column `index`, or nothing where it is NULL.
    ///
    /// # Errors
    /// [`JournalError::Query`] when there is something else in that place.
    pub fn optional_text(&self, index: usize) -> Result<Option<&str>, JournalError> {
        match self.0.get(index) {
            Some(SqlValue::Null) => Ok(None),
            _ => self.text(index).map(Some),
        }
    }

    /// The integer in column `index`, or nothing where it is NULL.
    ///
    /// # Errors
    /// [`JournalError::Query`] when there is something else in that place.
    pub fn optional_integer(&self, index: usize) -> Result<Option<i64>, JournalError> {
        match self.0.get(index) {
            Some(SqlValue::Null) => Ok(None),
            _ => self.integer(index).map(Some),
        }
    }
}

/// An event to be written.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// See [`crate::entity::EventPayload::event_type`].
    pub event_type: &'static str,
    /// The payload as JSON.
    pub payload: String,
    /// See [`crate::Entity::published`].
    pub published_before: Option<u64>,
}

/// An event as it was committed.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Its place in the order of commits.
    pub position: Position,
    /// Its stream: `kind/id`.
    pub stream: Arc<str>,
    /// Its place in its stream, from 1 up without gaps.
    pub version: u64,
    /// Its stable name.
    pub event_type: String,
    /// The version of its payload.
    pub schema: u32,
    /// The payload as JSON.
    pub payload: String,
    /// When the command was asked, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The request that began it.
    pub correlation_id: Option<String>,
    /// The message that caused it.
    pub causation_id: Option<String>,
    /// On whose behalf.
    pub actor: Option<String>,
    /// The request's place in its trace, as W3C Trace Context writes it.
    pub traceparent: Option<String>,
    /// How many numbered messages its entity had published before it; see [`crate::Entity::published`]. `None` where the
    /// entity does not count, or an older build wrote the event.
    pub published_before: Option<u64>,
}

impl Recorded {
    /// The two halves of the stream's name.
    #[must_use]
    pub fn kind_and_id(&self) -> (&str, &str) {
        self.stream.split_once('/').unwrap_or((&self.stream, ""))
    }
}

/// What a command came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// These versions of the stream, possibly none (`count` 0).
    Accepted {
        /// The first event's version; with `count` 0, the version after which it was decided, plus one.
        first_version: u64,
        /// How many events.
        count: u64,
    },
    /// The refusal, as JSON.
    Refused(String),
}

/// What a command came to, with the events that it appended; nothing where no such command is recorded.
pub type RecordedOutcome = Result<Option<(Outcome, Vec<Recorded>)>, JournalError>;

/// The tie between an entity's incarnation and its writes. When one write fails, all later ones of the same incarnation
/// must fail too: they were decided on a state that never became true.
#[derive(Debug, Default)]
pub struct Fence {
    raised: AtomicBool,
    unsettled: AtomicU64,
}

impl Fence {
    /// True once a write of this incarnation has failed, or its journal could not serve it.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Acquire)
    }

    /// Refuses every later write of this incarnation.
    pub fn raise(&self) {
        self.raised.store(true, Ordering::Release);
    }

    /// How many writes are on their way.
    #[must_use]
    pub fn unsettled(&self) -> u64 {
        self.unsettled.load(Ordering::Acquire)
    }

    pub(crate) fn enter(&self) {
        self.unsettled.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn leave(&self) {
        self.unsettled.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What is done when a write has been committed, or has failed. It runs on the async runtime and must not block.
pub type Settle = Box<dyn FnOnce(Result<(), JournalError>) + Send>;

/// One command's writes. All of it is committed or none.
pub struct Append {
    /// The stream: `kind/id`.
    pub stream: Arc<str>,
    /// The version that the first event gets.
    pub first_version: u64,
    /// The events; none for a refusal, or where there was nothing to do.
    pub events: Vec<NewEvent>,
    /// The version of the payloads.
    pub schema: u32,
    /// The refusal as JSON, if that was the outcome.
    pub refusal: Option<String>,
    /// Under which id the outcome is recorded.
    pub command_id: CommandId,
    /// When the command was asked.
    pub at_ms: i64,
    /// The request that began it.
    pub correlation_id: Option<Arc<str>>,
    /// The message that caused it.
    pub causation_id: Option<Arc<str>>,
    /// On whose behalf.
    pub actor: Option<Arc<str>>,
    /// The request's place in its trace, as W3C Trace Context writes it.
    pub traceparent: Option<Arc<str>>,
    /// The read model's rows.
    pub views: Vec<ViewWrite>,
    /// A snapshot after these events: (version, bytes).
    pub snapshot: Option<(u64, Vec<u8>)>,
    /// The incarnation that decided it.
    pub fence: Arc<Fence>,
    /// What to do then.
    pub settle: Settle,
}

/// A stream as it is read when its entity wakes.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The newest snapshot: (version, bytes).
    pub snapshot: Option<(u64, Vec<u8>)>,
    /// The events after the snapshot, in order.
    pub tail: Vec<Recorded>,
    /// The commands that this stream has seen: with their versions all those that made one, unless the stream is longer than
    /// [`SEEN_COMMANDS_MAX`](crate::seen::SEEN_COMMANDS_MAX); and of the others as many as were asked for…
    pub seen: Vec<SeenCommand>,
    /// …and whether that is all of them.
    pub seen_is_complete: bool,
}
