//! What a failure of the disk or of the database means: one table.
//!
//! | what | SQLite says | fault | what the journal does |
//! |---|---|---|---|
//! | a sync failed | `IOERR_FSYNC`, `IOERR_DIR_FSYNC` | [`Fault::Fatal`] | ends; the process ends with it |
//! | a file cannot be closed | `IOERR_CLOSE`, `IOERR_DIR_CLOSE` | [`Fault::Fatal`] | the same |
//! | a file was replaced | `READONLY_DBMOVED`, and what `stat` says after each commit | [`Fault::Fatal`] | the same |
//! | no room | `FULL`; `IOERR_WRITE` with `ENOSPC`, `EDQUOT` or `EFBIG` | [`Fault::Full`] | refuses writes, reads on, tries again |
//! | another program's lock | `BUSY…`, `LOCKED…`, `PROTOCOL` | [`Fault::Busy`] | waits, and tries again |
//! | a value against a rule of a table | `CONSTRAINT…` | [`Fault::Refused`] | refuses that command alone |
//! | everything else | | [`Fault::Restart`] | closes; its tree is started again on what is on disk |
//!
//! Why a failed sync is fatal: the system may have dropped the pages that it could not write, and a second sync would say that all
//! is well (Rebello et al., USENIX ATC 2020). A new process reads what is really there. Why a foreign lock is no reason to open
//! anew: it helps nothing, and between the two the stranger may be the last who closes the file, and unlink its log.
//!
//! A write that failed for want of room has not happened and will not: SQLite writes the mark of a commit last. A failed *index* of
//! the log (`IOERR_SHM…`) comes after that mark: there the outcome is unknown, and the tree starts again on what is on disk.

use rusqlite::{Connection, ffi};

use super::native;

/// What a failure means; see the module's table.
///
/// In the order of how much they end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// One command's values are against a rule.
    Refused,
    /// Another program has the lock.
    Busy,
    /// There is no room.
    Full,
    /// The journal closes, and its tree is started again.
    Restart,
    /// Only a new process can tell what is on disk.
    Fatal,
}

/// A failure and what it means.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) fault: Fault,
    pub(super) error: rusqlite::Error,
}

impl Failed {
    /// What `error` of the last call on `connection` means.
    pub(super) fn of(connection: &Connection, error: rusqlite::Error) -> Self {
        Self { fault: fault_of_error(&error, native::system_errno(connection)), error }
    }

    /// Only a new process can tell what is on disk, for `reason`.
    pub(super) fn fatal(reason: String) -> Self {
        Self { fault: Fault::Fatal, error: rusqlite::Error::ToSqlConversionFailure(reason.into()) }
    }
}

/// What `error` means where no connection can be asked what the system said.
pub(super) fn fault_of_error(error: &rusqlite::Error, errno: i32) -> Fault {
    error.sqlite_error().map_or(Fault::Restart, |error| fault_of(error.extended_code, errno))
}

/// Linux's and the BSDs' names; what the system says where there is no room is not one error.
mod errno {
    pub(super) const EFBIG: i32 = 27;
    pub(super) const ENOSPC: i32 = 28;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(super) const EDQUOT: i32 = 122;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(super) const EDQUOT: i32 = 69;
}

/// The table: an extended result code of SQLite's, and what the system said with it.
fn fault_of(code: i32, errno: i32) -> Fault {
    match code {
        ffi::SQLITE_IOERR_FSYNC
        | ffi::SQLITE_IOERR_DIR_FSYNC
        | ffi::SQLITE_IOERR_CLOSE
        | ffi::SQLITE_IOERR_DIR_CLOSE
        | ffi::SQLITE_READONLY_DBMOVED => return Fault::Fatal,
        ffi::SQLITE_IOERR_WRITE if matches!(errno, errno::ENOSPC | errno::EDQUOT | errno::EFBIG) => return Fault::Full,
        _ => {}
    }
    // An extended code has its primary one in the lowest byte.
    match code & 0xff {
        ffi::SQLITE_FULL => Fault::Full,
        ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED | ffi::SQLITE_PROTOCOL => Fault::Busy,
        ffi::SQLITE_CONSTRAINT => Fault::Refused,
        _ => Fault::Restart,
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi::*;

    use super::*;

    /// Every result code of SQLite's that is an error.
    const ALL: [i32; 97] = [
        SQLITE_ERROR,
        SQLITE_INTERNAL,
        SQLITE_PERM,
        SQLITE_ABORT,
        SQLITE_BUSY,
        SQLITE_LOCKED,
        SQLITE_NOMEM,
        SQLITE_READONLY,
        SQLITE_INTERRUPT,
        SQLITE_IOERR,
        SQLITE_CORRUPT,
        SQLITE_NOTFOUND,
        SQLITE_FULL,
        SQLITE_CANTOPEN,
        SQLITE_PROTOCOL,
        SQLITE_EMPTY,
        SQLITE_SCHEMA,
        SQLITE_TOOBIG,
        SQLITE_CONSTRAINT,
        SQLITE_MISMATCH,
        SQLITE_MISUSE,
        SQLITE_NOLFS,
        SQLITE_AUTH,
        SQLITE_FORMAT,
        SQLITE_RANGE,
        SQLITE_NOTADB,
        SQLITE_ERROR_MISSING_COLLSEQ,
        SQLITE_ERROR_RETRY,
        SQLITE_ERROR_SNAPSHOT,
        SQLITE_ERROR_RESERVESIZE,
        SQLITE_ERROR_KEY,
        SQLITE_ERROR_UNABLE,
        SQLITE_IOERR_READ,
        SQLITE_IOERR_SHORT_READ,
        SQLITE_IOERR_WRITE,
        SQLITE_IOERR_FSYNC,
        SQLITE_IOERR_DIR_FSYNC,
        SQLITE_IOERR_TRUNCATE,
        SQLITE_IOERR_FSTAT,
        SQLITE_IOERR_UNLOCK,
        SQLITE_IOERR_RDLOCK,
        SQLITE_IOERR_DELETE,
        SQLITE_IOERR_BLOCKED,
        SQLITE_IOERR_NOMEM,
        SQLITE_IOERR_ACCESS,
        SQLITE_IOERR_CHECKRESERVEDLOCK,
        SQLITE_IOERR_LOCK,
        SQLITE_IOERR_CLOSE,
        SQLITE_IOERR_DIR_CLOSE,
        SQLITE_IOERR_SHMOPEN,
        SQLITE_IOERR_SHMSIZE,
        SQLITE_IOERR_SHMLOCK,
        SQLITE_IOERR_SHMMAP,
        SQLITE_IOERR_SEEK,
        SQLITE_IOERR_DELETE_NOENT,
        SQLITE_IOERR_MMAP,
        SQLITE_IOERR_GETTEMPPATH,
        SQLITE_IOERR_CONVPATH,
        SQLITE_IOERR_VNODE,
        SQLITE_IOERR_AUTH,
        SQLITE_IOERR_BEGIN_ATOMIC,
        SQLITE_IOERR_COMMIT_ATOMIC,
        SQLITE_IOERR_ROLLBACK_ATOMIC,
        SQLITE_IOERR_DATA,
        SQLITE_IOERR_CORRUPTFS,
        SQLITE_IOERR_IN_PAGE,
        SQLITE_LOCKED_SHAREDCACHE,
        SQLITE_LOCKED_VTAB,
        SQLITE_BUSY_RECOVERY,
        SQLITE_BUSY_SNAPSHOT,
        SQLITE_BUSY_TIMEOUT,
        SQLITE_CANTOPEN_NOTEMPDIR,
        SQLITE_CANTOPEN_ISDIR,
        SQLITE_CANTOPEN_FULLPATH,
        SQLITE_CANTOPEN_CONVPATH,
        SQLITE_CANTOPEN_DIRTYWAL,
        SQLITE_CANTOPEN_SYMLINK,
        SQLITE_CORRUPT_VTAB,
        SQLITE_CORRUPT_SEQUENCE,
        SQLITE_CORRUPT_INDEX,
        SQLITE_READONLY_RECOVERY,
        SQLITE_READONLY_CANTLOCK,
        SQLITE_READONLY_ROLLBACK,
        SQLITE_READONLY_DBMOVED,
        SQLITE_READONLY_CANTINIT,
        SQLITE_READONLY_DIRECTORY,
        SQLITE_ABORT_ROLLBACK,
        SQLITE_CONSTRAINT_CHECK,
        SQLITE_CONSTRAINT_COMMITHOOK,
        SQLITE_CONSTRAINT_FOREIGNKEY,
        SQLITE_CONSTRAINT_FUNCTION,
        SQLITE_CONSTRAINT_NOTNULL,
        SQLITE_CONSTRAINT_PRIMARYKEY,
        SQLITE_CONSTRAINT_TRIGGER,
        SQLITE_CONSTRAINT_UNIQUE,
        SQLITE_CONSTRAINT_ROWID,
        SQLITE_CONSTRAINT_DATATYPE,
    ];

    fn those_that_are(fault: Fault, errno: i32) -> Vec<i32> {
        ALL.into_iter().filter(|code| fault_of(*code, errno) == fault).collect()
    }

    #[test]
    fn the_table_over_every_code() {
        let fatal = [
            SQLITE_IOERR_FSYNC,
            SQLITE_IOERR_DIR_FSYNC,
            SQLITE_IOERR_CLOSE,
            SQLITE_IOERR_DIR_CLOSE,
            SQLITE_READONLY_DBMOVED,
        ];
        let busy = [
            SQLITE_BUSY,
            SQLITE_LOCKED,
            SQLITE_PROTOCOL,
            SQLITE_LOCKED_SHAREDCACHE,
            SQLITE_LOCKED_VTAB,
            SQLITE_BUSY_RECOVERY,
            SQLITE_BUSY_SNAPSHOT,
            SQLITE_BUSY_TIMEOUT,
        ];
        for errno in [0, 5, errno::ENOSPC] {
            assert_eq!(those_that_are(Fault::Fatal, errno), fatal);
            assert_eq!(those_that_are(Fault::Busy, errno), busy);
            assert!(those_that_are(Fault::Refused, errno).iter().all(|code| code & 0xff == SQLITE_CONSTRAINT));
            assert_eq!(those_that_are(Fault::Refused, errno).len(), 11);
        }
        assert_eq!(those_that_are(Fault::Full, 0), [SQLITE_FULL]);
        assert_eq!(those_that_are(Fault::Restart, 0).len(), ALL.len() - 5 - 8 - 11 - 1);
    }

    #[test]
    fn a_write_without_room_is_full_whatever_the_system_calls_it() {
        for errno in [errno::ENOSPC, errno::EDQUOT, errno::EFBIG] {
            assert_eq!(those_that_are(Fault::Full, errno), [SQLITE_FULL, SQLITE_IOERR_WRITE], "{errno}");
        }
        // A disk that cannot write is another thing: EIO.
        assert_eq!(fault_of(SQLITE_IOERR_WRITE, 5), Fault::Restart);
    }

    #[test]
    fn what_is_no_error_of_sqlites_starts_the_tree_again() {
        assert_eq!(fault_of_error(&rusqlite::Error::QueryReturnedNoRows, errno::ENOSPC), Fault::Restart);
        assert_eq!(Failed::fatal("why".to_owned()).error.to_string(), "why");
    }
}
