//! The connections to a journal's database, each opened for its part: to write, to bring the log over, to read.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, config::DbConfig};

use super::{
    directory::{DatabaseFiles, LogBytes},
    open_error::{OpenError, unusable},
    reads,
};
use crate::private_files;

/// How long the log may stay on disk once all of it is in the database. Twice what it grows to when nobody holds it up.
pub(super) const LOG_BYTES_MAX: LogBytes = 64 << 20;

/// SQLite would prepare a statement again whenever a limit is bound to it, since another value might ask for another plan: it took
/// most of a reader's time.
pub(super) fn keep_plans(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop)
}

/// The connection that writes, on files that nobody else reads.
pub(super) fn open_writer(file: &Path) -> Result<Connection, OpenError> {
    let database = |cause| unusable(file, cause);
    for name in DatabaseFiles::names(file) {
        private_files::close_to_others(&name);
    }
    let connection = Connection::open(file).map_err(database)?;
    // SQLite makes the log and its index with the modes of the database.
    private_files::close_new_file(file).map_err(|cause| OpenError::Unwritable { directory: file.to_owned(), cause })?;
    make_durable(&connection, file)?;
    Ok(connection)
}

fn make_durable(connection: &Connection, file: &Path) -> Result<(), OpenError> {
    let database = |cause| unusable(file, cause);
    keep_plans(connection).map_err(database)?;
    let not_durable = |setting| OpenError::NotDurable { setting, file: file.to_owned() };
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(database)?;
    if mode != "wal" {
        return Err(not_durable("journal_mode=WAL"));
    }
    // A cache of 16 MiB. After a page has been split, SQLite goes through its cache's table with the commit: at 64 MiB that took
    // a seventh of the writer's time.
    connection
        .execute_batch(
            "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0; PRAGMA foreign_keys = ON; \
             PRAGMA cache_size = -16384; PRAGMA temp_store = MEMORY;",
        )
        .map_err(database)?;
    // When the log starts over it is cut to this.
    let limit = LOG_BYTES_MAX.cast_signed();
    connection.pragma_update_and_check(None, "journal_size_limit", limit, |_| Ok(())).map_err(database)?;
    let synchronous: i64 = connection.query_row("PRAGMA synchronous", [], |row| row.get(0)).map_err(database)?;
    if synchronous < 2 {
        return Err(not_durable("synchronous=FULL"));
    }
    Ok(())
}

pub(super) fn open_checkpointer(file: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(file)?;
    connection.execute_batch("PRAGMA synchronous = FULL;")?;
    leave_the_log_alone(&connection)?;
    Ok(connection)
}

/// Closing `connection` neither checkpoints nor unlinks the log, even where it is the last.
pub(super) fn leave_the_log_alone(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map(drop)
}

/// A connection that only reads. It maps no file: each commit would have the mapping made anew.
pub(super) fn open_reader(file: &Path) -> rusqlite::Result<Connection> {
    let reader = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    keep_plans(&reader)?;
    leave_the_log_alone(&reader)?;
    reader.execute_batch("PRAGMA query_only = ON;")?;
    reader.busy_timeout(Duration::from_secs(1))?;
    reader.set_prepared_statement_cache_capacity(reads::STATEMENTS_MAX);
    Ok(reader)
}
