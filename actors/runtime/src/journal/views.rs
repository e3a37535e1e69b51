//! The shape of the read model, and how it changes.
//!
//! Each kind of entity has tables of its own, with a version. Which versions a file holds stands in its table `view_versions`. A
//! version other than this build's, newer or older, means that the tables are dropped and projected anew from the kind's
//! events, before anybody can read them: the events are the truth, and the rows are made from nothing else. So a build may
//! change its tables as it likes, and the one before it may be started again. Tables of builds that had no versions are of
//! an unknown one.
//!
//! A rebuild goes through the kind's streams in the order of their names, in bounded transactions. Each of them notes where the
//! next one begins, so that a rebuild that is killed goes on from there. Streams do not share rows, so their order does not
//! matter; sums over streams are right in any order.
//!
//! It works on the writer's connection before the journal serves. What it cannot project stops the start with one sentence.

use rusqlite::{Connection, OptionalExtension, params, params_from_iter};
use sha2::{Digest, Sha256};

use super::{
    JournalError,
    checkpointer::{Mode, checkpoint},
    ends,
    progress::ProgressSender,
    projection::{Projector, projector},
    reads,
    stream_index::StreamIndex,
    transaction::write_index,
};
use crate::entity::Entity;

/// Events in one transaction of a rebuild. Each notes the state of the stream that it ends in, which may take megabytes: not too few.
const BATCH_EVENTS: usize = 5_000;
/// Transactions of a rebuild between two checkpoints: the log holds their pages until then.
const CHECKPOINT_BATCHES: usize = 32;

/// The read model of one kind of entity: its tables, their version, and how they are made from events.
#[derive(Clone, Copy)]
pub struct ViewSchema {
    kind: &'static str,
    version: u32,
    tables: &'static [&'static str],
    projector: fn() -> Box<dyn Projector>,
}

impl ViewSchema {
    /// The read model of `E`: its [`Entity::TABLES`] in its [`Entity::VIEW_VERSION`].
    #[must_use]
    pub const fn of<E: Entity>() -> Self {
        Self { kind: E::KIND, version: E::VIEW_VERSION, tables: E::TABLES, projector: projector::<E> }
    }

    /// The kind's name.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        self.kind
    }

    /// The version of its tables.
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// A fingerprint of the tables as they are created: a change of them counts as another version, bumped or not.
    fn shape(&self) -> String {
        let mut hash = Sha256::new();
        for table in self.tables {
            hash.update((table.len() as u64).to_be_bytes());
            hash.update(table.as_bytes());
        }
        hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The names of its tables, as SQLite understands the statements that create them.
    fn names(&self) -> rusqlite::Result<Vec<String>> {
        let scratch = Connection::open_in_memory()?;
        self.create(&scratch)?;
        table_names(&scratch)
    }

    fn create(&self, connection: &Connection) -> rusqlite::Result<()> {
        self.tables.iter().try_for_each(|table| connection.execute_batch(table))
    }
}

impl std::fmt::Debug for ViewSchema {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ViewSchema").field("kind", &self.kind).field("version", &self.version).finish()
    }
}

/// The read model of a journal.
#[derive(Clone, Copy, Debug, Default)]
pub struct Views {
    kinds: &'static [ViewSchema],
    plain: &'static str,
}

impl From<&'static [ViewSchema]> for Views {
    fn from(kinds: &'static [ViewSchema]) -> Self {
        Self { kinds, plain: "" }
    }
}

impl<const N: usize> From<&'static [ViewSchema; N]> for Views {
    fn from(kinds: &'static [ViewSchema; N]) -> Self {
        Self { kinds, plain: "" }
    }
}

/// Tables that are no kind's: they are created where they are missing and otherwise left as they are.
impl From<&'static str> for Views {
    fn from(plain: &'static str) -> Self {
        Self { kinds: &[], plain }
    }
}

/// Why the read model cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ViewsError {
    /// The database failed, or does not take the tables.
    #[error("{0}")]
    Database(#[from] rusqlite::Error),
    /// An event, or a row that is made from it.
    #[error("the read model of {stream} cannot be made from version {version}: {cause}")]
    Projection {
        /// Whose event.
        stream: String,
        /// Which one.
        version: u64,
        /// What is wrong with it.
        cause: JournalError,
    },
}

const VERSIONS: &str = "
CREATE TABLE IF NOT EXISTS view_versions (
    kind         TEXT    NOT NULL PRIMARY KEY,
    version      INTEGER NOT NULL,
    shape        TEXT    NOT NULL,
    -- The names of the kind's tables, as JSON: another build drops them by these.
    tables       TEXT    NOT NULL,
    -- 0 while the rows are being made: up to this version of this stream they are there, and so many events have been read.
    is_whole     INTEGER NOT NULL,
    done_events  INTEGER NOT NULL,
    done_stream  TEXT    NOT NULL,
    done_version INTEGER NOT NULL,
    done_state   BLOB,
    -- Where the log ended when a build first did not have this kind: NULL while each has.
    left_at      INTEGER
) STRICT, WITHOUT ROWID;
";

/// What the file says of one kind.
#[derive(Debug)]
struct Stored {
    version: u32,
    shape: String,
    tables: Vec<String>,
    is_whole: bool,
    left_at: Option<i64>,
}

/// Where a rebuild stands.
struct Place {
    events: u64,
    stream: String,
    version: u64,
    state: Option<Vec<u8>>,
}

/// Brings the tables of the read model to this build's form, with the rows that belong in them.
pub(super) fn bring_up_to_date(
    connection: &mut Connection,
    index: &StreamIndex,
    views: Views,
    progress: &ProgressSender,
) -> Result<(), ViewsError> {
    connection.execute_batch(views.plain)?;
    connection.execute_batch(VERSIONS)?;
    note_those_who_left(connection, views.kinds)?;
    let mut changed = Vec::new();
    let mut unfinished = Vec::new();
    for schema in views.kinds {
        match stored(connection, schema.kind)? {
            Some(stored) if is_right(connection, schema, &stored)? => {
                if !stored.is_whole {
                    unfinished.push(schema);
                }
            }
            stored => changed.push((schema, stored)),
        }
    }
    begin_anew(connection, &changed)?;
    unfinished.extend(changed.iter().map(|(schema, _)| *schema));
    if unfinished.is_empty() {
        return Ok(());
    }
    // From here on all versions are in the table.
    write_index(connection, index, || true).map_err(|failed| failed.error)?;
    for schema in unfinished {
        rebuild(connection, schema, progress)?;
    }
    Ok(())
}

/// Kinds that this build does not have keep their rows, which are right for as long as the log does not grow without them.
fn note_those_who_left(connection: &Connection, kinds: &[ViewSchema]) -> rusqlite::Result<()> {
    let newest = ends::newest_position(connection)?.cast_signed();
    let mut known = connection.prepare("SELECT kind FROM view_versions WHERE left_at IS NULL ORDER BY kind")?;
    let known = known.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    for kind in known.iter().filter(|kind| kinds.iter().all(|schema| schema.kind != kind.as_str())) {
        connection.execute("UPDATE view_versions SET left_at = ?2 WHERE kind = ?1", params![kind, newest])?;
    }
    Ok(())
}

fn stored(connection: &Connection, kind: &str) -> rusqlite::Result<Option<Stored>> {
    let sql = "SELECT version, shape, tables, is_whole, left_at FROM view_versions WHERE kind = ?1";
    connection
        .query_row(sql, [kind], |row| {
            Ok(Stored {
                version: row.get(0)?,
                shape: row.get(1)?,
                // What cannot be read names no tables: then this build's names alone are dropped.
                tables: serde_json::from_str(&row.get::<_, String>(2)?).unwrap_or_default(),
                is_whole: row.get(3)?,
                left_at: row.get(4)?,
            })
        })
        .optional()
}

/// True where the tables, whole or not, are this build's.
fn is_right(connection: &Connection, schema: &ViewSchema, stored: &Stored) -> rusqlite::Result<bool> {
    if stored.version != schema.version || stored.shape != schema.shape() {
        return Ok(false);
    }
    let present = table_names(connection)?;
    if !stored.tables.iter().all(|table| present.contains(table)) {
        return Ok(false);
    }
    let Some(left_at) = stored.left_at else { return Ok(true) };
    if left_at != ends::newest_position(connection)?.cast_signed() {
        return Ok(false);
    }
    connection.execute("UPDATE view_versions SET left_at = NULL WHERE kind = ?1", [schema.kind])?;
    Ok(true)
}

/// Drops the tables of the kinds that changed and creates today's, without rows. All drops come first: a table may have moved
/// from one kind to another.
fn begin_anew(connection: &mut Connection, changed: &[(&ViewSchema, Option<Stored>)]) -> rusqlite::Result<()> {
    if changed.is_empty() {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    for (schema, stored) in changed {
        let former = stored.as_ref().map(|stored| stored.tables.clone()).unwrap_or_default();
        for table in schema.names()?.iter().chain(&former) {
            transaction.execute_batch(&format!("DROP TABLE IF EXISTS {}", quoted(table)))?;
        }
    }
    for (schema, stored) in changed {
        schema.create(&transaction)?;
        if let Some(stored) = stored {
            let (found, kind, version) = (stored.version, schema.kind, schema.version);
            tracing::info!(kind, found, version, "the read model has another version: it is projected anew");
        }
        let names = serde_json::to_string(&schema.names()?).unwrap_or_default();
        transaction.execute(
            "INSERT INTO view_versions (kind, version, shape, tables, is_whole, done_events, done_stream, done_version) \
             VALUES (?1, ?2, ?3, ?4, 0, 0, '', 0) ON CONFLICT (kind) DO UPDATE SET version = excluded.version, \
             shape = excluded.shape, tables = excluded.tables, is_whole = 0, done_events = 0, done_stream = '', \
             done_version = 0, done_state = NULL, left_at = NULL",
            params![schema.kind, schema.version, schema.shape(), names],
        )?;
    }
    transaction.commit()
}

/// Projects what is missing of one kind's rows.
fn rebuild(connection: &mut Connection, schema: &ViewSchema, progress: &ProgressSender) -> Result<(), ViewsError> {
    let mut projector = (schema.projector)();
    let mut place = stored_place(connection, schema.kind)?;
    if place.version > 0 {
        let is_readable =
            place.state.as_ref().is_some_and(|state| projector.resume(id_of(schema, &place.stream), state));
        if !is_readable {
            // Another build has begun it: from the start.
            let stored = stored(connection, schema.kind)?;
            begin_anew(connection, &[(schema, stored)])?;
            place = stored_place(connection, schema.kind)?;
        }
    }
    let (first, end) = (format!("{}/", schema.kind), format!("{}0", schema.kind));
    if place.stream.is_empty() {
        place.stream = first.clone();
    }
    let total = reads::events_between(connection, &first, &end)?;
    if total == 0 {
        return Ok(finish(connection, schema.kind)?);
    }
    let mut step = progress.step(format!("projects the read model of {} anew", schema.kind), total);
    step.done(place.events);
    for batch in 1_usize.. {
        let transaction = connection.transaction()?;
        let events = reads::events_after(&transaction, &place.stream, place.version, &end, BATCH_EVENTS)?;
        for event in &events {
            project(&transaction, schema, projector.as_mut(), &place, event)?;
            if *event.stream != *place.stream {
                place.stream = event.stream.to_string();
            }
            place.version = event.version;
        }
        place.events += events.len() as u64;
        if events.is_empty() {
            drop(transaction);
            break;
        }
        transaction.prepare_cached(STORE_PLACE)?.execute(params![
            schema.kind,
            place.events.cast_signed(),
            place.stream,
            place.version.cast_signed(),
            projector.state(),
        ])?;
        transaction.commit()?;
        step.done(place.events);
        if batch.is_multiple_of(CHECKPOINT_BATCHES) {
            bring_over(connection)?;
        }
    }
    finish(connection, schema.kind)?;
    bring_over(connection)?;
    tracing::info!(kind = schema.kind, version = schema.version, events = total, "the read model is projected");
    Ok(())
}

/// Lets the log start over, unless another program reads from it.
fn bring_over(connection: &Connection) -> rusqlite::Result<()> {
    checkpoint(connection, Mode::Passive).map(drop).map_err(|failed| failed.error)
}

const STORE_PLACE: &str = "UPDATE view_versions SET done_events = ?2, done_stream = ?3, done_version = ?4, \
                           done_state = ?5 WHERE kind = ?1";

fn project(
    connection: &Connection,
    schema: &ViewSchema,
    projector: &mut dyn Projector,
    place: &Place,
    event: &super::Recorded,
) -> Result<(), ViewsError> {
    let wrong = |cause| ViewsError::Projection { stream: event.stream.to_string(), version: event.version, cause };
    let is_next = *event.stream == *place.stream && place.version > 0;
    let expected = if is_next { place.version + 1 } else { 1 };
    if event.version != expected {
        return Err(wrong(JournalError::Corrupt(format!("version {expected} is missing"))));
    }
    if !is_next {
        projector.begin(id_of(schema, &event.stream));
    }
    for write in projector.apply(event).map_err(wrong)? {
        let written =
            connection.prepare_cached(write.sql).and_then(|mut sql| sql.execute(params_from_iter(&write.params)));
        written.map_err(|error| wrong(JournalError::Query(error.to_string())))?;
    }
    Ok(())
}

fn finish(connection: &Connection, kind: &str) -> rusqlite::Result<()> {
    let sql =
        "UPDATE view_versions SET is_whole = 1, done_stream = '', done_version = 0, done_state = NULL WHERE kind = ?1";
    connection.execute(sql, [kind]).map(drop)
}

fn stored_place(connection: &Connection, kind: &str) -> rusqlite::Result<Place> {
    let sql = "SELECT done_events, done_stream, done_version, done_state FROM view_versions WHERE kind = ?1";
    connection.query_row(sql, [kind], |row| {
        Ok(Place {
            events: row.get::<_, i64>(0)?.unsigned_abs(),
            stream: row.get(1)?,
            version: row.get::<_, i64>(2)?.unsigned_abs(),
            state: row.get(3)?,
        })
    })
}

fn id_of<'stream>(schema: &ViewSchema, stream: &'stream str) -> &'stream str {
    stream.strip_prefix(schema.kind).and_then(|rest| rest.strip_prefix('/')).unwrap_or(stream)
}

fn table_names(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid";
    connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
