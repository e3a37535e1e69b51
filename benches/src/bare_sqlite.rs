//! The control of [`crate::durable`]: the same rows into the same database by one thread that does nothing else.
//!
//! The schema is made by the runtime's own journal; pragmas, rows, payloads and ids are its writer's. It is the plain way of
//! writing them: each version goes to its table with its event, and checkpoints, larger ones, are made in line.
//! Everything is built before the clock starts: no queue, no actor, no reply, no JSON. It is the most that this disk and
//! this SQLite give, and nobody who answers callers reaches it.

use std::time::{Duration, Instant};

use runtime::{
    Entity, Journal,
    entity::EventPayload,
    journal::sqlite::{SqliteJournal, SqliteOptions},
};
use rusqlite::{Connection, Statement, params};
use tokio::runtime::Runtime;

use crate::{
    bench_directory::BenchDirectory,
    durable::Load,
    stock::{AT_MS, Stock, command, command_id, keys},
};

/// The most that the runtime's writer puts into one transaction: with less in a batch, the control would be weaker.
pub const BATCH_COMMANDS_MAX: usize = 4_096;
/// A checkpoint after so many rows, two to a command: large, since nobody waits for an answer.
const CHECKPOINT_ROWS: usize = 60_000;
const PRAGMAS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0; \
                       PRAGMA foreign_keys = ON; PRAGMA cache_size = -16384; PRAGMA temp_store = MEMORY;";
const INSERT_EVENT: &str = "INSERT INTO events (stream, version, event_type, schema, payload, at_ms, correlation_id, \
                            causation_id, actor, command_id, traceparent) \
                            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
const INSERT_VERSION: &str = "INSERT INTO versions (stream, version, position, command_id) VALUES (?1, ?2, ?3, ?4)";

/// The rows of one command.
pub(crate) struct Written {
    stream: String,
    version: i64,
    event_type: &'static str,
    payload: String,
    command_id: [u8; 16],
}

/// How long `load`'s rows take in transactions of `batch_commands` commands (1: a commit for each), on a new database.
///
/// # Panics
/// When SQLite refuses: then there is nothing to measure.
#[must_use]
pub fn inserts(load: Load, batch_commands: usize) -> Duration {
    let directory = BenchDirectory::new();
    let connection = new_database(&directory);
    let rows = rows(load);
    let (awake, timed) = rows.split_at(load.keys);
    let mut inserts = Inserts::prepare(&connection);
    inserts.write(awake, BATCH_COMMANDS_MAX);
    let started = Instant::now();
    inserts.write(timed, batch_commands);
    started.elapsed()
}

/// An empty database with the runtime's schema, opened as its writer opens it.
pub(crate) fn new_database(directory: &BenchDirectory) -> Connection {
    make_schema(directory);
    let connection = Connection::open(directory.path().join("journal.db")).expect("the database opens");
    connection.execute_batch(PRAGMAS).expect("SQLite takes the pragmas");
    connection
}

fn make_schema(directory: &BenchDirectory) {
    let tokio = Runtime::new().expect("tokio starts");
    tokio.block_on(async {
        let options = SqliteOptions::new(directory.path(), "");
        SqliteJournal::open(&options).expect("the journal opens").close().await;
    });
}

/// What the entities would write: the keys' first commands, then the timed ones.
pub(crate) fn rows(load: Load) -> Vec<Written> {
    let streams: Vec<_> = keys(load.keys).iter().map(|key| format!("{}/{key}", Stock::KIND)).collect();
    let mut states: Vec<_> = (0..load.keys).map(|_| (<Stock as Entity>::State::default(), 0)).collect();
    (0..load.keys as u64 + load.commands)
        .map(|number| {
            let index = (number % load.keys as u64) as usize;
            let (state, version) = &mut states[index];
            let events = Stock::decide(state, command(number)).expect("nothing is refused");
            Stock::evolve(state, &events[0]);
            *version += 1;
            Written {
                stream: streams[index].clone(),
                version: *version,
                event_type: events[0].event_type(),
                payload: serde_json::to_string(&events[0]).expect("events are JSON"),
                command_id: *command_id(number).as_bytes(),
            }
        })
        .collect()
}

/// The writer's statements on a connection.
pub(crate) struct Inserts<'connection> {
    insert_event: Statement<'connection>,
    insert_version: Statement<'connection>,
    begin: Statement<'connection>,
    commit: Statement<'connection>,
    checkpoint: Statement<'connection>,
    rows_since_checkpoint: usize,
}

impl<'connection> Inserts<'connection> {
    pub(crate) fn prepare(connection: &'connection Connection) -> Self {
        let prepare = |sql| connection.prepare(sql).expect("SQLite takes the statement");
        Self {
            insert_event: prepare(INSERT_EVENT),
            insert_version: prepare(INSERT_VERSION),
            begin: prepare("BEGIN IMMEDIATE"),
            commit: prepare("COMMIT"),
            checkpoint: prepare("PRAGMA wal_checkpoint(PASSIVE)"),
            rows_since_checkpoint: 0,
        }
    }

    /// Writes `rows` in transactions of `batch_commands` commands.
    pub(crate) fn write(&mut self, rows: &[Written], batch_commands: usize) {
        for batch in rows.chunks(batch_commands) {
            self.write_batch(batch).expect("the rows are written");
        }
    }

    fn write_batch(&mut self, batch: &[Written]) -> rusqlite::Result<()> {
        self.begin.execute([])?;
        for row in batch {
            let position = self.insert_event.insert(params![
                row.stream,
                row.version,
                row.event_type,
                Stock::SCHEMA,
                row.payload,
                AT_MS,
                None::<&str>,
                None::<&str>,
                None::<&str>,
                row.command_id,
                None::<&str>,
            ])?;
            self.insert_version.execute(params![row.stream, row.version, position, row.command_id])?;
        }
        self.commit.execute([])?;
        self.rows_since_checkpoint += 2 * batch.len();
        if self.rows_since_checkpoint >= CHECKPOINT_ROWS {
            self.rows_since_checkpoint = 0;
            self.checkpoint.query_row([], |_| Ok(()))?;
        }
        Ok(())
    }
}
