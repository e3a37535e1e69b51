//! The few calls of SQLite's C interface that rusqlite does not offer. The only unsafe code of this crate.
//!
//! A database's file may be opened by SQLite alone: POSIX locks belong to process and inode, and closing any other descriptor
//! would give up all of SQLite's locks on it. So what has to be done to the file goes through SQLite's own handle of it.

#![allow(
    unsafe_code,
    reason = "there is no safe way to SQLite's own handle of a file, and none of ours may be opened beside it"
)]

use std::{ffi::c_int, ptr};

use rusqlite::{Connection, ffi};

/// Syncs the database's file (not its log), by the handle that `connection` has of it.
pub(super) fn sync_database(connection: &Connection) -> rusqlite::Result<()> {
    let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
    // SAFETY: the connection is open for as long as it is borrowed, and it is not `Sync`: no other thread is in it. For this
    // operation SQLite writes one pointer to where the last argument points.
    let found = unsafe {
        let database = connection.handle();
        ffi::sqlite3_file_control(database, c"main".as_ptr(), ffi::SQLITE_FCNTL_FILE_POINTER, (&raw mut file).cast())
    };
    done(found)?;
    // SAFETY: SQLite gives null, or its own file object, which lives as long as the connection has the database open; its table
    // of methods is null while the file is not open, and otherwise a constant of SQLite's.
    let sync = unsafe { file.as_ref().and_then(|file| file.pMethods.as_ref()) }.and_then(|methods| methods.xSync);
    let Some(sync) = sync else { return done(ffi::SQLITE_MISUSE) };
    // SAFETY: the method belongs to this file object. It reads the object's descriptor; nobody else is in the connection.
    done(unsafe { sync(file, ffi::SQLITE_SYNC_NORMAL | ffi::SQLITE_SYNC_DATAONLY) })
}

/// What the system said to the last call that failed below `connection`; 0 where it was no call of the system's.
pub(super) fn system_errno(connection: &Connection) -> i32 {
    // SAFETY: the connection is open for as long as it is borrowed; SQLite reads a number from it.
    unsafe { ffi::sqlite3_system_errno(connection.handle()) }
}

fn done(code: c_int) -> rusqlite::Result<()> {
    match code {
        ffi::SQLITE_OK => Ok(()),
        failed => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(failed), None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_synced_through_its_own_handle() {
        let directory = tempfile::tempdir().unwrap();
        let connection = Connection::open(directory.path().join("some.db")).unwrap();
        connection.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x)").unwrap();
        sync_database(&connection).unwrap();
        assert_eq!(system_errno(&connection), 0);
    }

    #[test]
    fn a_database_without_a_file_has_nothing_to_sync_and_does_not_crash() {
        // SQLite opens a temporary database's file late.
        let _ = sync_database(&Connection::open("").unwrap());
        let _ = sync_database(&Connection::open_in_memory().unwrap());
    }
}
