//! A journal's directory, while it is open: one process has it, and in it one incarnation.
//!
//! Two guards. The lock file keeps other processes out. Within the process a registry says which directories are open: a tree that
//! starts again meets the former incarnation, and must not open what that one has not closed. A claim is given back last, after
//! every connection is closed; where they cannot be closed it never is.

use std::{
    collections::HashSet,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::open_error::OpenError;
use crate::private_files;

/// How long an open waits for another process that may be ending.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(2);
/// Between two tries for the lock.
const LOCK_RETRY: Duration = Duration::from_millis(20);
/// How long a journal may take to close once it has been told to, before that is fatal: for who closes it and for who waits for that.
pub(super) const CLOSE_WAIT_MAX: Duration = Duration::from_secs(10);

/// The directories that are open in this process.
static OPEN: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);
/// One of them was given back.
static GIVEN_BACK: Condvar = Condvar::new();

/// A directory that is ours.
#[derive(Debug)]
pub(super) struct Directory {
    /// Given back before the place in the registry: who finds that free finds the lock free too.
    _lock: File,
    place: Place,
}

impl Directory {
    /// Makes the directory if it is missing, and claims it.
    pub(super) fn claim(directory: &Path) -> Result<Self, OpenError> {
        let unwritable = |cause| OpenError::Unwritable { directory: directory.to_owned(), cause };
        private_files::create_folder(directory).map_err(unwritable)?;
        let path = fs::canonicalize(directory).map_err(unwritable)?;
        let not_closed = || OpenError::NotClosed { directory: directory.to_owned(), waited: CLOSE_WAIT_MAX };
        let place = Place::claim(path, CLOSE_WAIT_MAX).ok_or_else(not_closed)?;
        Ok(Self { _lock: take_lock(directory)?, place })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.place.0
    }

    /// Never gives it back: connections are open, and nobody in this process may open others.
    pub(super) fn keep_for_ever(self) {
        std::mem::forget(self);
    }
}

/// A directory's place in the registry; given back on drop.
#[derive(Debug)]
struct Place(PathBuf);

impl Place {
    /// Waits for at most `patience` until nobody else has it.
    fn claim(path: PathBuf, patience: Duration) -> Option<Self> {
        let open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let is_open = |open: &mut Option<HashSet<PathBuf>>| open.as_ref().is_some_and(|open| open.contains(&path));
        let waited = GIVEN_BACK.wait_timeout_while(open, patience, is_open);
        let (mut open, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            return None;
        }
        open.get_or_insert_default().insert(path.clone());
        Some(Self(path))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = &mut *open {
            open.remove(&self.0);
        }
        GIVEN_BACK.notify_all();
    }
}

fn take_lock(directory: &Path) -> Result<File, OpenError> {
    let unwritable = |cause| OpenError::Unwritable { directory: directory.to_owned(), cause };
    let path = directory.join("lock");
    private_files::close_to_others(&path);
    let file = private_files::options().create(true).truncate(false).write(true).open(&path).map_err(unwritable)?;
    let give_up_at = Instant::now() + LOCK_WAIT_MAX;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < give_up_at => thread::sleep(LOCK_RETRY),
            Err(TryLockError::WouldBlock) => return Err(OpenError::Locked(directory.to_owned())),
            Err(TryLockError::Error(cause)) => return Err(unwritable(cause)),
        }
    }
}

/// The files of a database, by the inodes that SQLite opened.
///
/// A stranger who moves, deletes or replaces one of them leaves us writing where nobody will ever read. `stat` tells, and opens
/// nothing.
#[derive(Debug)]
pub(super) struct DatabaseFiles {
    files: [(PathBuf, FileId); 3],
}

/// What of a file stays when its name does not.
type FileId = (u64, u64);

/// How many bytes the log has on disk.
pub(super) type LogBytes = u64;

impl DatabaseFiles {
    /// The names of the database's files: itself, its log, and the log's index.
    pub(super) fn names(database: &Path) -> [PathBuf; 3] {
        ["", "-wal", "-shm"].map(|suffix| {
            let mut name = database.as_os_str().to_owned();
            name.push(suffix);
            name.into()
        })
    }

    /// The files as they are now: a connection must have read from the database, so that all of them are there and locked.
    pub(super) fn of(database: &Path) -> io::Result<Self> {
        let [database, log, index] = Self::names(database);
        let with_id = |path: PathBuf| fs::metadata(&path).map(|found| (path, file_id(&found)));
        Ok(Self { files: [with_id(database)?, with_id(log)?, with_id(index)?] })
    }

    /// The length of the log, while each name still is the file that it was.
    ///
    /// # Errors
    /// What has happened, as a sentence.
    pub(super) fn check(&self) -> Result<LogBytes, String> {
        let mut lengths = [0; 3];
        for ((path, id), length) in self.files.iter().zip(&mut lengths) {
            match fs::metadata(path) {
                Ok(found) if file_id(&found) == *id => *length = found.len(),
                Ok(_) => return Err(format!("{} was replaced while it was in use", path.display())),
                Err(error) => return Err(format!("{} is gone while it was in use: {error}", path.display())),
            }
        }
        Ok(lengths[1])
    }
}

#[cfg(unix)]
fn file_id(found: &fs::Metadata) -> FileId {
    use std::os::unix::fs::MetadataExt;
    (found.dev(), found.ino())
}

#[cfg(not(unix))]
fn file_id(_: &fs::Metadata) -> FileId {
    (0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_process_has_is_refused_with_one_sentence() {
        let directory = tempfile::tempdir().unwrap();
        // A lock on the file of another opening is what another process has.
        let other = File::create(directory.path().join("lock")).unwrap();
        other.try_lock().unwrap();
        let error = Directory::claim(directory.path()).unwrap_err().to_string();
        assert!(error.contains("is in use by another process") && error.lines().count() == 1, "{error}");
        drop(other);
        Directory::claim(directory.path()).unwrap();
    }

    #[test]
    fn who_waits_gets_a_place_as_soon_as_it_is_given_back() {
        let path = PathBuf::from("/some/place");
        let first = Place::claim(path.clone(), Duration::ZERO).unwrap();
        assert!(Place::claim(path.clone(), Duration::from_millis(1)).is_none());
        thread::scope(|scope| {
            let second = scope.spawn(|| Place::claim(path.clone(), CLOSE_WAIT_MAX));
            drop(first);
            assert!(second.join().unwrap().is_some());
        });
    }

    #[test]
    fn what_is_kept_for_ever_is_never_open_again_in_this_process() {
        let directory = tempfile::tempdir().unwrap();
        let path = fs::canonicalize(directory.path()).unwrap();
        Directory::claim(directory.path()).unwrap().keep_for_ever();
        assert!(Place::claim(path, Duration::from_millis(1)).is_none());
    }

    #[test]
    fn a_file_that_is_replaced_or_gone_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("journal.db");
        let [_, log, _] = DatabaseFiles::names(&database);
        let write_all = || DatabaseFiles::names(&database).iter().for_each(|path| fs::write(path, "12345").unwrap());
        write_all();
        let files = DatabaseFiles::of(&database).unwrap();
        assert_eq!(files.check(), Ok(5));
        fs::write(&log, "1234567").unwrap();
        assert_eq!(files.check(), Ok(7), "the same file, longer");
        fs::rename(&log, directory.path().join("elsewhere")).unwrap();
        assert!(files.check().unwrap_err().contains("journal.db-wal is gone"));
        fs::write(&log, "another").unwrap();
        assert!(files.check().unwrap_err().contains("journal.db-wal was replaced"));
        for path in DatabaseFiles::names(&database) {
            write_all();
            let files = DatabaseFiles::of(&database).unwrap();
            fs::rename(&path, directory.path().join("elsewhere")).unwrap();
            assert!(files.check().is_err(), "{}", path.display());
        }
    }
}
