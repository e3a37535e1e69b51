//! The writer's transactions: what a group of requests writes, and what each comes to.
//!
//! Functions on a connection, for the embedded journal's writer and the in-memory journal. What fails on its own rules (a version
//! taken, a fence raised) fails alone; where the database is the judge, the transaction is rolled back and done again without it.
//! What fails on the disk fails the transaction, and is for the caller to judge. Nothing here waits for anybody.

use std::sync::Arc;

use crossbeam_channel::Receiver;
use rusqlite::{Connection, Statement, params, params_from_iter};
use tokio::sync::oneshot;

use super::{
    contradictions::Contradictions,
    faults::{Failed, Fault, fault_of_error},
    identity::LogMark,
    reads::outcome_of,
    stream_index::{StreamIndex, Version},
    types::{Append, JournalError, Position, RecordedOutcome, Settle},
};
use crate::{command::CommandId, seen::SEEN_COMMANDS_MAX};

/// The most requests in one transaction. Larger batches gain nothing measurable and hold back their first caller.
pub(super) const BATCH_REQUESTS_MAX: usize = 4_096;

pub(super) enum Request {
    Append(Box<Append>),
    AfterQueued(Settle),
    Outcome {
        stream: Arc<str>,
        command_id: CommandId,
        first_version: Option<u64>,
        reply: oneshot::Sender<RecordedOutcome>,
    },
    StorePosition {
        subscription: Arc<str>,
        mark: LogMark,
        settle: Settle,
    },
    Close,
}

impl Request {
    /// Whether it writes anything.
    fn writes(&self) -> bool {
        matches!(self, Self::Append(_) | Self::StorePosition { .. })
    }

    /// Answers a request that will not be served.
    pub(super) fn refuse(self, error: &JournalError) {
        match self {
            Self::Append(append) => {
                append.fence.raise();
                append.fence.leave();
                (append.settle)(Err(error.clone()));
            }
            Self::AfterQueued(settle) | Self::StorePosition { settle, .. } => settle(Err(error.clone())),
            Self::Outcome { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::Close => {}
        }
    }
}

/// Answers everything in `inbox` with `error`.
pub(super) fn refuse_all(inbox: &Receiver<Request>, error: &JournalError) {
    while let Ok(request) = inbox.try_recv() {
        request.refuse(error);
    }
}

/// One thing to be done after a commit. A write goes there whole: freeing its memory is not the writer's work either.
pub(super) enum Settled {
    Append(Box<Append>, Result<(), JournalError>),
    Other(Settle, Result<(), JournalError>),
}

impl Settled {
    pub(super) fn run(self) {
        match self {
            Self::Append(append, outcome) => {
                append.fence.leave();
                (append.settle)(outcome);
            }
            Self::Other(settle, outcome) => settle(outcome),
        }
    }
}

/// What one transaction wrote.
#[derive(Default)]
pub(super) struct Committed {
    /// The position of its last event, if it wrote any.
    pub(super) newest: Option<Position>,
    /// How many rows.
    pub(super) rows: usize,
}

/// One transaction for the batch. `refused[i]` is filled where request `i` fails on its own account; such a request is
/// left out and the rest done again, so each round leaves out at least one: it ends. An error is the disk's: then nothing of the
/// batch was written, and the connection and the index are as before.
pub(super) fn commit(
    connection: &Connection,
    index: &StreamIndex,
    batch: &[Request],
    refused: &mut [Option<JournalError>],
) -> Result<Committed, Failed> {
    if !batch.iter().zip(&*refused).any(|(request, refusal)| refusal.is_none() && request.writes()) {
        return Ok(Committed::default());
    }
    in_rounds(connection, index, batch, refused).map_err(|error| undone(connection, index, error))
}

fn in_rounds(
    connection: &Connection,
    index: &StreamIndex,
    batch: &[Request],
    refused: &mut [Option<JournalError>],
) -> rusqlite::Result<Committed> {
    loop {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        match write_all(connection, index, batch, refused)? {
            Written::All(mut committed) => {
                let slice = index.due(committed.rows);
                slice.write(connection)?;
                committed.rows += slice.len();
                connection.execute_batch("COMMIT")?;
                index.committed(slice);
                return Ok(committed);
            }
            Written::Stopped => {
                connection.execute_batch("ROLLBACK")?;
                index.rolled_back();
            }
        }
    }
}

/// Leaves nothing of a transaction that failed.
fn undone(connection: &Connection, index: &StreamIndex, error: rusqlite::Error) -> Failed {
    // First: what the system said is forgotten with the next call.
    let failed = Failed::of(connection, error);
    index.rolled_back();
    // On some errors SQLite rolls back by itself.
    if !connection.is_autocommit()
        && let Err(error) = connection.execute_batch("ROLLBACK")
    {
        tracing::error!(%error, first = %failed.error, "a transaction that failed cannot be rolled back");
        return Failed { fault: Fault::Restart.max(failed.fault), ..failed };
    }
    failed
}

/// Refuses with `error` what of the batch writes and is not refused yet.
pub(super) fn refuse_writes(batch: &[Request], refused: &mut [Option<JournalError>], error: &JournalError) {
    for (request, refusal) in
        batch.iter().zip(refused).filter(|(request, refusal)| refusal.is_none() && request.writes())
    {
        if let Request::Append(append) = request {
            append.fence.raise();
        }
        *refusal = Some(error.clone());
    }
}

/// Refuses the appends of a batch while somebody says that this is not the log that they have read.
pub(super) fn refuse_contradicted(
    contradictions: &Contradictions,
    batch: &[Request],
    refused: &mut [Option<JournalError>],
) {
    let Some(error) = contradictions.refusal() else { return };
    for (request, refusal) in batch.iter().zip(refused) {
        if let Request::Append(append) = request {
            append.fence.raise();
            *refusal = Some(error.clone());
        }
    }
}

/// Writes what waits for the stream index, slice by slice, while `may_go_on`. Gives the number of rows.
pub(super) fn write_index(
    connection: &Connection,
    index: &StreamIndex,
    may_go_on: impl Fn() -> bool,
) -> Result<usize, Failed> {
    let mut rows = 0;
    while index.is_behind() && may_go_on() {
        let slice = index.next(BATCH_REQUESTS_MAX);
        let written = connection
            .execute_batch("BEGIN IMMEDIATE")
            .and_then(|()| slice.write(connection))
            .and_then(|()| connection.execute_batch("COMMIT"));
        written.map_err(|error| undone(connection, index, error))?;
        rows += slice.len();
        index.committed(slice);
    }
    Ok(rows)
}

/// A transaction that writes a page and changes nothing: whether the lock can be had and there is room.
pub(super) fn try_to_write(connection: &Connection, index: &StreamIndex) -> Result<(), Failed> {
    // No position is below 0, so no reader can take that row for one of its own.
    connection
        .execute_batch(
            "BEGIN IMMEDIATE; INSERT INTO indexed VALUES (-1); DELETE FROM indexed WHERE through = -1; COMMIT",
        )
        .map_err(|error| undone(connection, index, error))
}

/// What is to be done after the batch's commit, in its order.
pub(super) fn outcomes(
    connection: &Connection,
    index: &StreamIndex,
    batch: &mut Vec<Request>,
    refused: Vec<Option<JournalError>>,
) -> Vec<Settled> {
    let mut settled = Vec::with_capacity(batch.len());
    for (request, refusal) in batch.drain(..).zip(refused) {
        match request {
            Request::Append(append) => settled.push(Settled::Append(append, refusal.map_or(Ok(()), Err))),
            Request::AfterQueued(settle) | Request::StorePosition { settle, .. } => {
                settled.push(Settled::Other(settle, refusal.map_or(Ok(()), Err)));
            }
            Request::Outcome { stream, command_id, first_version, reply } => {
                let _ = reply.send(outcome_of(connection, index, &stream, command_id, first_version));
            }
            Request::Close => {}
        }
    }
    settled
}

enum Written {
    All(Committed),
    /// One more request was refused: roll back and do the others again.
    Stopped,
}

const INSERT_EVENT: &str = "INSERT INTO events (stream, version, event_type, schema, payload, at_ms, correlation_id, \
                            causation_id, actor, command_id, traceparent, published_before) \
                            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
const INSERT_COMMAND: &str =
    "INSERT INTO commands (stream, command_id, first_version, event_count, refusal) VALUES (?1, ?2, ?3, ?4, ?5)";
/// From here on the commands of a stream are found by their ids, those before as well.
const INDEX_COMMANDS: &str = "INSERT OR IGNORE INTO commands (stream, command_id, first_version, event_count) \
                              SELECT stream, command_id, min(version), count(*) FROM versions \
                              WHERE stream = ?1 AND command_id IS NOT NULL GROUP BY command_id";
const UPSERT_SNAPSHOT: &str = "INSERT INTO snapshots (stream, version, state) VALUES (?1, ?2, ?3) \
                               ON CONFLICT (stream) DO UPDATE SET version = excluded.version, state = excluded.state";
const UPSERT_POSITION: &str = "INSERT INTO positions (subscription, position, log, incarnation, digest) \
                               VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (subscription) DO UPDATE SET \
                               position = excluded.position, log = excluded.log, \
                               incarnation = excluded.incarnation, digest = excluded.digest";

fn write_all(
    connection: &Connection,
    index: &StreamIndex,
    batch: &[Request],
    refused: &mut [Option<JournalError>],
) -> rusqlite::Result<Written> {
    let (mut newest, mut rows) = (None, 0);
    // Looked up once for the batch: the cache costs a hash and two moves each time.
    let mut insert_event = connection.prepare_cached(INSERT_EVENT)?;
    for (request, refusal) in batch.iter().zip(refused) {
        if refusal.is_some() {
            continue;
        }
        match request {
            Request::Append(append) if append.fence.is_raised() => {
                *refusal = Some(JournalError::Conflict("an earlier write of this incarnation failed".to_owned()));
            }
            Request::Append(append) => match write_append(connection, index, &mut insert_event, append) {
                Ok(Appended::Until(position)) => {
                    newest = position.or(newest);
                    rows += append.events.len().max(1) + append.views.len();
                }
                Ok(Appended::NotAfter(version)) => {
                    append.fence.raise();
                    let (stream, first) = (&append.stream, append.first_version);
                    let taken = format!("version {first} of {stream} cannot follow version {version}");
                    *refusal = Some(JournalError::Conflict(taken));
                }
                Err(error) if fault_of_error(&error, 0) == Fault::Refused => {
                    append.fence.raise();
                    *refusal = Some(JournalError::Conflict(error.to_string()));
                    return Ok(Written::Stopped);
                }
                Err(error) => return Err(error),
            },
            Request::StorePosition { subscription, mark, .. } => {
                let event = mark.event.as_ref();
                connection.prepare_cached(UPSERT_POSITION)?.execute(params![
                    &**subscription,
                    mark.position.cast_signed(),
                    event.map(|event| event.log.0),
                    event.map(|event| event.incarnation.0),
                    event.map(|event| event.digest.0),
                ])?;
                rows += 1;
            }
            Request::AfterQueued(_) | Request::Outcome { .. } | Request::Close => {}
        }
    }
    Ok(Written::All(Committed { newest, rows }))
}

enum Appended {
    /// The position of its last event, if it has any.
    Until(Option<Position>),
    /// Nothing: the stream's newest version is this one.
    NotAfter(u64),
}

fn write_append(
    connection: &Connection,
    index: &StreamIndex,
    insert_event: &mut Statement<'_>,
    append: &Append,
) -> rusqlite::Result<Appended> {
    let stream = &*append.stream;
    if !append.events.is_empty() {
        let newest = index.newest_version(connection, stream)?;
        if append.first_version != newest + 1 {
            return Ok(Appended::NotAfter(newest));
        }
    }
    let mut newest = None;
    for (version, event) in (append.first_version..).zip(&append.events) {
        let row = params![
            stream,
            version.cast_signed(),
            event.event_type,
            append.schema,
            event.payload,
            append.at_ms,
            append.correlation_id.as_deref(),
            append.causation_id.as_deref(),
            append.actor.as_deref(),
            append.command_id.as_bytes(),
            append.traceparent.as_deref(),
            event.published_before.map(u64::cast_signed),
        ];
        let position = insert_event.insert(row)?.unsigned_abs();
        index.add(&append.stream, Version { number: version, position, command_id: append.command_id });
        newest = Some(position);
    }
    index_command(connection, index, append)?;
    for view in &append.views {
        connection.prepare_cached(view.sql)?.execute(params_from_iter(&view.params))?;
    }
    if let Some((version, state)) = &append.snapshot {
        connection.prepare_cached(UPSERT_SNAPSHOT)?.execute(params![stream, version.cast_signed(), state])?;
    }
    Ok(Appended::Until(newest))
}

/// Makes a command findable by its id, where no entity's memory is bound to hold it.
fn index_command(connection: &Connection, index: &StreamIndex, append: &Append) -> rusqlite::Result<()> {
    let stream = &*append.stream;
    let before = append.first_version.saturating_sub(1);
    let in_memory = SEEN_COMMANDS_MAX as u64;
    if !append.events.is_empty() {
        let newest = before + append.events.len() as u64;
        if newest <= in_memory {
            return Ok(());
        }
        if before <= in_memory {
            index.write_now(connection, stream)?;
            connection.prepare_cached(INDEX_COMMANDS)?.execute([stream])?;
            return Ok(());
        }
    }
    connection.prepare_cached(INSERT_COMMAND)?.execute(params![
        stream,
        append.command_id.as_bytes(),
        append.first_version.cast_signed(),
        append.events.len() as i64,
        append.refusal,
    ])?;
    Ok(())
}
