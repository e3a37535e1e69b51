//! Where the log ends, and where a stream ends, as the tables have it: without what still waits for the stream index.

use rusqlite::Connection;

use super::types::Position;

/// The position of the newest event, 0 where there is none.
pub(super) fn newest_position(connection: &Connection) -> rusqlite::Result<Position> {
    let mut statement = connection.prepare_cached("SELECT coalesce(max(position), 0) FROM events")?;
    statement.query_row([], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
}

/// The newest version of a stream in the table, 0 where there is none.
pub(super) fn newest_version(connection: &Connection, stream: &str) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT coalesce(max(version), 0) FROM versions WHERE stream = ?1")?
        .query_row([stream], |row| row.get::<_, i64>(0))
        .map(i64::unsigned_abs)
}
