//! The journal's tables, and how an older file becomes one of today's.
//!
//! It owns the layout; the writer, the readers and the stream index own their statements. What a command writes is appended to
//! the events; the versions, with the command's id beside them, follow in the order of the streams (see
//! [`super::stream_index`]). An index by random command ids would change a page for every command and write ten times the
//! log; so only those commands are indexed by id that no entity's memory is bound to hold: those without events, and those of
//! streams longer than [`SEEN_COMMANDS_MAX`](crate::seen::SEEN_COMMANDS_MAX).
//!
//! A position is the next integer after the newest event's, since no event is ever deleted. Files of earlier builds say
//! `AUTOINCREMENT`, which gives the same positions and writes a page more with each commit.

use rusqlite::{Connection, params};

use super::identity::{EventDigest, Incarnation, LogId, LogIdentity};

/// Under which name a log notes that the operator has reconciled it: the place where its present life began.
pub const RECONCILED: &str = "log reconciled";
/// The layout that this build reads and writes, kept in the file's `user_version`.
pub(super) const LAYOUT: i64 = 4;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS events (
    position       INTEGER PRIMARY KEY,
    stream         TEXT    NOT NULL,
    version        INTEGER NOT NULL,
    event_type     TEXT    NOT NULL,
    schema         INTEGER NOT NULL,
    payload        TEXT    NOT NULL,
    at_ms          INTEGER NOT NULL,
    correlation_id TEXT,
    causation_id   TEXT,
    actor          TEXT,
    -- NULL where an older build wrote it: then it is beside the version, or in `commands`.
    command_id     BLOB,
    traceparent    TEXT,
    -- NULL where its entity does not count, or an older build wrote it.
    published_before INTEGER
) STRICT;
-- Where each version of a stream is, and which command made it: NULL where an older build wrote it.
CREATE TABLE IF NOT EXISTS versions (
    stream     TEXT    NOT NULL,
    version    INTEGER NOT NULL,
    position   INTEGER NOT NULL,
    command_id BLOB,
    PRIMARY KEY (stream, version)
) STRICT, WITHOUT ROWID;
-- The events up to here have their rows in `versions`; of those after it, some.
CREATE TABLE IF NOT EXISTS indexed (
    through INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS commands (
    stream        TEXT    NOT NULL,
    command_id    BLOB    NOT NULL,
    first_version INTEGER NOT NULL,
    event_count   INTEGER NOT NULL,
    refusal       TEXT,
    PRIMARY KEY (stream, command_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS snapshots (
    stream  TEXT    NOT NULL PRIMARY KEY,
    version INTEGER NOT NULL,
    state   BLOB    NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS positions (
    subscription TEXT    NOT NULL PRIMARY KEY,
    position     INTEGER NOT NULL,
    -- In which log, in which of its lives, and what the event there was: NULL where an older build noted the position.
    log          BLOB,
    incarnation  BLOB,
    digest       BLOB
) STRICT, WITHOUT ROWID;
-- Which log this is: one row.
CREATE TABLE IF NOT EXISTS identity (
    log         BLOB NOT NULL,
    incarnation BLOB NOT NULL
) STRICT;
";

/// Layout 1 held `UNIQUE (stream, version)` on the events and every command's id in `commands`. The events move to a table
/// without that index; the ids stay where they are, and are found there.
const SET_LAYOUT_1_ASIDE: &str = "ALTER TABLE events RENAME TO events_of_layout_1;";
const TAKE_OVER_LAYOUT_1: &str = "
INSERT INTO events (position, stream, version, event_type, schema, payload, at_ms, correlation_id, causation_id, actor)
    SELECT position, stream, version, event_type, schema, payload, at_ms, correlation_id, causation_id, actor
    FROM events_of_layout_1 ORDER BY position;
INSERT INTO versions (stream, version, position)
    SELECT stream, version, position FROM events_of_layout_1 ORDER BY stream, version;
DROP TABLE events_of_layout_1;
";
/// Layout 2 wrote each version with its event.
const TAKE_OVER_LAYOUT_2: &str = "
ALTER TABLE events ADD COLUMN command_id BLOB;
ALTER TABLE events ADD COLUMN traceparent TEXT;
";
/// Up to layout 3 a position was noted alone, and a log had no name.
const TAKE_OVER_LAYOUT_3: &str = "
ALTER TABLE positions ADD COLUMN log BLOB;
ALTER TABLE positions ADD COLUMN incarnation BLOB;
ALTER TABLE positions ADD COLUMN digest BLOB;
";
const ALL_IS_INDEXED: &str = "INSERT INTO indexed SELECT coalesce(max(position), 0) FROM events;";

/// Brings the file to [`LAYOUT`], in one transaction, and creates what is missing.
///
/// Gives the file's own layout instead when it is newer than this build.
pub(super) fn bring_up_to_date(connection: &mut Connection) -> rusqlite::Result<Result<(), i64>> {
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found > LAYOUT {
        return Ok(Err(found));
    }
    if found == LAYOUT {
        add_published_before(connection)?;
        return Ok(Ok(()));
    }
    let transaction = connection.transaction()?;
    // Layout 1 did not name itself.
    let is_layout_1 =
        found == 0 && transaction.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'events'")?.exists([])?;
    if is_layout_1 {
        tracing::info!("the journal is of an older layout: it is rewritten once");
        transaction.execute_batch(SET_LAYOUT_1_ASIDE)?;
    }
    if found == 2 {
        transaction.execute_batch(TAKE_OVER_LAYOUT_2)?;
    }
    if is_layout_1 || found > 0 {
        transaction.execute_batch(TAKE_OVER_LAYOUT_3)?;
    }
    transaction.execute_batch(TABLES)?;
    if is_layout_1 {
        transaction.execute_batch(TAKE_OVER_LAYOUT_1)?;
    }
    add_published_before(&transaction)?;
    // Layout 3 knows itself how far it is indexed.
    if found < 3 {
        transaction.execute_batch(ALL_IS_INDEXED)?;
    }
    let identity = LogIdentity::generate().map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let row = params![identity.log.0, identity.incarnation.0];
    transaction.execute("INSERT INTO identity (log, incarnation) VALUES (?1, ?2)", row)?;
    transaction.pragma_update(None, "user_version", LAYOUT)?;
    transaction.commit()?;
    Ok(Ok(()))
}

/// A column that older builds of the same layout do not have, and do not mind: they name the columns that they write and read.
fn add_published_before(connection: &Connection) -> rusqlite::Result<()> {
    let sql = "SELECT 1 FROM pragma_table_info('events') WHERE name = 'published_before'";
    if !connection.prepare(sql)?.exists([])? {
        connection.execute_batch("ALTER TABLE events ADD COLUMN published_before INTEGER;")?;
    }
    Ok(())
}

/// Which log this is.
pub(super) fn identity_of(connection: &Connection) -> rusqlite::Result<LogIdentity> {
    connection.query_row("SELECT log, incarnation FROM identity", [], |row| {
        Ok(LogIdentity { log: LogId(row.get(0)?), incarnation: Incarnation(row.get(1)?) })
    })
}

/// Begins another life of the log.
pub(super) fn begin_incarnation(connection: &Connection) -> rusqlite::Result<LogIdentity> {
    let incarnation = Incarnation::generate().map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let transaction = connection.unchecked_transaction()?;
    transaction.execute("UPDATE identity SET incarnation = ?1", params![incarnation.0])?;
    let identity = identity_of(&transaction)?;
    transaction.execute(
        "INSERT OR REPLACE INTO positions (subscription, position, log, incarnation, digest) \
         SELECT ?1, coalesce(max(position), 0), ?2, ?3, ?4 FROM events",
        params![RECONCILED, identity.log.0, identity.incarnation.0, EventDigest::NONE.0],
    )?;
    transaction.commit()?;
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_the_count_gets_it_once_and_keeps_its_events() {
        let mut connection = Connection::open_in_memory().unwrap();
        bring_up_to_date(&mut connection).unwrap().unwrap();
        let older = "ALTER TABLE events DROP COLUMN published_before; \
                     INSERT INTO events (stream, version, event_type, schema, payload, at_ms) VALUES ('a/b', 1, 't', 1, '{}', 5);";
        connection.execute_batch(older).unwrap();
        for _ in 0..2 {
            bring_up_to_date(&mut connection).unwrap().unwrap();
            let sql = "SELECT count(*), count(published_before) FROM events WHERE stream = 'a/b'";
            let counts = connection.query_row(sql, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)));
            assert_eq!(counts.unwrap(), (1, 0));
        }
    }
}
