//! The writer thread: group commit.
//!
//! It owns the connection that writes. One turn: wait for a request, take what else has queued, write all of it in one
//! transaction with a slice of the stream index, commit, hand the outcomes to the runtime. The checkpointer keeps the log short
//! beside it. What fails on its own rules (a version taken, a fence raised) fails alone; where the database is the judge, the
//! transaction is rolled back and done again without it. What fails on the disk fails everything, for good.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering, fence},
    },
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use rusqlite::{Connection, ErrorCode, Statement, params, params_from_iter};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    Append, JournalError, Position, RecordedOutcome, Settle,
    checkpointer::{Checkpointer, LogFrames, Mode, checkpoint},
    reads::outcome_of,
    stream_index::{StreamIndex, Version},
};
use crate::{command::CommandId, seen::SEEN_COMMANDS_MAX};

/// The most requests in one transaction. Larger batches gain nothing measurable and hold back their first caller.
pub(super) const BATCH_REQUESTS_MAX: usize = 4_096;
/// From such a batch on the next one is waited for, until it is half as large…
const GATHER_FROM: usize = 128;
/// …in naps, of which the system makes some 0.1 ms each.
const GATHER_NAP: Duration = Duration::from_micros(50);
/// The most naps before a commit.
const GATHER_NAPS_MAX: usize = 3;
/// Rows written before a checkpoint begins. Each takes the disk for as long as its pages last, and commits wait behind them:
/// small ones for a millisecond…
const CHECKPOINT_ROWS: usize = 2_000;
/// …and so soon after the last one the next does not begin: the busiest writer would do little else.
const CHECKPOINT_PAUSE: Duration = Duration::from_millis(10);
/// 32 MiB of log: so much longer than at the last try, the writer tries to have it start over. That takes a commit's time,
/// twice.
const LOG_STEP_FRAMES: LogFrames = 1 << 13;
/// How long the writer idles before it tidies the log.
const IDLE_CHECKPOINT_AFTER: Duration = Duration::from_secs(2);

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
        position: Position,
        settle: Settle,
    },
    Close,
}

impl Request {
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
    Other(Settle),
}

impl Settled {
    pub(super) fn run(self) {
        match self {
            Self::Append(append, outcome) => {
                append.fence.leave();
                (append.settle)(outcome);
            }
            Self::Other(settle) => settle(Ok(())),
        }
    }
}

pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) index: Arc<StreamIndex>,
    pub(super) checkpointer: Checkpointer,
    pub(super) inbox: Receiver<Request>,
    pub(super) settled: mpsc::UnboundedSender<Vec<Settled>>,
    pub(super) committed: watch::Sender<Position>,
    pub(super) closed: watch::Sender<Option<JournalError>>,
    pub(super) is_open: Arc<AtomicBool>,
    pub(super) rows_since_checkpoint: usize,
    pub(super) checkpointed_at: Instant,
    /// How long the log was when it was last to start over; 0 since it did.
    pub(super) log_tried: LogFrames,
    pub(super) last_batch: usize,
}

impl Writer {
    /// Serves until it is told to close, everybody is gone, or the disk fails.
    pub(super) fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH_REQUESTS_MAX);
        let end = loop {
            match self.next_batch(&mut batch) {
                Turn::Work => {}
                Turn::Idle => match self.tidy() {
                    Ok(()) => continue,
                    Err(error) => break self.fail(&mut batch, error),
                },
                Turn::End => break JournalError::Closed,
            }
            let is_last = batch.iter().any(|request| matches!(request, Request::Close));
            if let Err(error) = self.serve(&mut batch) {
                break self.fail(&mut batch, error);
            }
            if is_last {
                break JournalError::Closed;
            }
        };
        self.is_open.store(false, Ordering::Release);
        let Self { connection, index, checkpointer, inbox, closed, .. } = self;
        checkpointer.stop();
        if end == JournalError::Closed {
            // Not needed, only faster for whoever opens it next.
            let tidied =
                write_index(&connection, &index, || true).and_then(|_| checkpoint(&connection, Mode::Truncate));
            if let Err(error) = tidied {
                tracing::warn!(%error, "the journal is closed, and what was left to tidy is done when it is opened again");
            }
        }
        fence(Ordering::SeqCst);
        refuse_all(&inbox, &end);
        drop(connection);
        closed.send_replace(Some(end));
    }

    fn next_batch(&mut self, batch: &mut Vec<Request>) -> Turn {
        let first = if self.rows_since_checkpoint == 0 && !self.index.is_behind() {
            self.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            self.inbox.recv_timeout(IDLE_CHECKPOINT_AFTER)
        };
        match first {
            Ok(request) => batch.push(request),
            Err(RecvTimeoutError::Timeout) => return Turn::Idle,
            Err(RecvTimeoutError::Disconnected) => return Turn::End,
        }
        self.gather();
        batch.extend(self.inbox.try_iter().take(BATCH_REQUESTS_MAX - 1));
        self.last_batch = batch.len();
        Turn::Work
    }

    /// Under load, gives those a moment who were answered by the last commit and are about to ask again. Without it they would
    /// share the next commit with nobody, and batches would stay small.
    fn gather(&self) {
        if self.last_batch < GATHER_FROM {
            return;
        }
        for _ in 0..GATHER_NAPS_MAX {
            if self.inbox.len() >= self.last_batch / 2 {
                return;
            }
            thread::sleep(GATHER_NAP);
        }
    }

    /// Commits one batch and passes the outcomes on. An error is the disk's and final.
    fn serve(&mut self, batch: &mut Vec<Request>) -> rusqlite::Result<()> {
        let mut refused = vec![None; batch.len()];
        let committed = commit(&self.connection, &self.index, batch, &mut refused)?;
        self.rows_since_checkpoint += committed.rows;
        let settled = outcomes(&self.connection, &self.index, batch, refused);
        if let Some(newest) = committed.newest {
            self.committed.send_replace(newest);
        }
        // Nobody to settle for means that the runtime is gone, and with it everybody who waited.
        let _ = self.settled.send(settled);
        let is_due =
            self.rows_since_checkpoint >= CHECKPOINT_ROWS && self.checkpointed_at.elapsed() >= CHECKPOINT_PAUSE;
        if is_due { self.checkpoint() } else { Ok(()) }
    }

    /// Has the log checkpointed. Where it has grown long, does the rest that was appended meanwhile: with nothing left over, the
    /// log starts over. A long read may prevent that; then it is tried again when the log has grown by as much.
    fn checkpoint(&mut self) -> rusqlite::Result<()> {
        let Some(frames) = self.checkpointer.finished()? else {
            self.checkpointer.begin();
            return Ok(());
        };
        if frames < self.log_tried {
            self.log_tried = 0;
        }
        if frames >= self.log_tried + LOG_STEP_FRAMES {
            self.log_tried = checkpoint(&self.connection, Mode::Passive)?;
        }
        self.rows_since_checkpoint = 0;
        self.checkpointed_at = Instant::now();
        Ok(())
    }

    /// While there is nothing else to do: brings the index up to date, and the log into the database.
    fn tidy(&mut self) -> rusqlite::Result<()> {
        self.rows_since_checkpoint += write_index(&self.connection, &self.index, || self.inbox.is_empty())?;
        self.checkpoint()
    }

    /// Stops acknowledging: everything that waits is told.
    fn fail(&self, batch: &mut Vec<Request>, error: rusqlite::Error) -> JournalError {
        let failure = JournalError::Storage(error.to_string());
        tracing::error!(%failure, "the journal cannot write: nothing more is acknowledged");
        self.is_open.store(false, Ordering::Release);
        for request in batch.drain(..) {
            request.refuse(&failure);
        }
        failure
    }
}

enum Turn {
    Work,
    Idle,
    End,
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
/// left out and the rest done again, so each round leaves out at least one: it ends. An error is the disk's.
pub(super) fn commit(
    connection: &Connection,
    index: &StreamIndex,
    batch: &[Request],
    refused: &mut [Option<JournalError>],
) -> rusqlite::Result<Committed> {
    if !batch.iter().any(|request| matches!(request, Request::Append(_) | Request::StorePosition { .. })) {
        return Ok(Committed::default());
    }
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

/// Writes what waits for the stream index, slice by slice, while `may_go_on`. Gives the number of rows.
fn write_index(connection: &Connection, index: &StreamIndex, may_go_on: impl Fn() -> bool) -> rusqlite::Result<usize> {
    let mut rows = 0;
    while index.is_behind() && may_go_on() {
        let slice = index.next(BATCH_REQUESTS_MAX);
        connection.execute_batch("BEGIN IMMEDIATE")?;
        slice.write(connection)?;
        connection.execute_batch("COMMIT")?;
        rows += slice.len();
        index.committed(slice);
    }
    Ok(rows)
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
                settled.push(Settled::Other(settle));
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
                            causation_id, actor, command_id, traceparent) \
                            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
const INSERT_COMMAND: &str =
    "INSERT INTO commands (stream, command_id, first_version, event_count, refusal) VALUES (?1, ?2, ?3, ?4, ?5)";
/// From here on the commands of a stream are found by their ids, those before as well.
const INDEX_COMMANDS: &str = "INSERT OR IGNORE INTO commands (stream, command_id, first_version, event_count) \
                              SELECT stream, command_id, min(version), count(*) FROM versions \
                              WHERE stream = ?1 AND command_id IS NOT NULL GROUP BY command_id";
const UPSERT_SNAPSHOT: &str = "INSERT INTO snapshots (stream, version, state) VALUES (?1, ?2, ?3) \
                               ON CONFLICT (stream) DO UPDATE SET version = excluded.version, state = excluded.state";
const UPSERT_POSITION: &str = "INSERT INTO positions (subscription, position) VALUES (?1, ?2) \
                               ON CONFLICT (subscription) DO UPDATE SET position = excluded.position";

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
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                    append.fence.raise();
                    *refusal = Some(JournalError::Conflict(error.to_string()));
                    return Ok(Written::Stopped);
                }
                Err(error) => return Err(error),
            },
            Request::StorePosition { subscription, position, .. } => {
                connection
                    .prepare_cached(UPSERT_POSITION)?
                    .execute(params![&**subscription, position.cast_signed()])?;
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
