//! The checkpointer: a thread that brings the log's pages into the database while the writer goes on.
//!
//! A checkpoint writes pages and syncs the database, which takes a disk tens of milliseconds; done by the writer, every commit
//! would wait for it. Here it runs on a connection of its own. What the writer appends meanwhile is left over, and the log
//! starts over only when nothing is: so the writer itself does the small rest now and then, when the log is long. SQLite syncs
//! in that last pass alone, when it has all of the log; so each pass here is synced here. It ends when its writer lets go of it.
//!
//! A failed sync is final for the journal, as a failed commit is: the system may have dropped the pages that it could not
//! write, and a second sync would say that all is well.

use std::{fs::File, io, sync::Arc, thread};

use crossbeam_channel::{Receiver, Sender, bounded};
use rusqlite::{Connection, ffi};

/// Passes over the log for one order: the first is long, and the second takes most of what was appended meanwhile.
const PASSES: usize = 2;

/// The length of the log, in pages.
pub(super) type LogFrames = usize;

pub(super) struct Checkpointer {
    orders: Sender<()>,
    done: Receiver<rusqlite::Result<LogFrames>>,
    thread: thread::JoinHandle<()>,
    is_at_work: bool,
}

impl Checkpointer {
    /// Starts the thread on a connection of its own to the writer's database, and on the database's file.
    pub(super) fn start(connection: Connection, database: Arc<File>) -> io::Result<Self> {
        let (orders, ordered) = bounded::<()>(1);
        let (finished, done) = bounded(1);
        let thread = thread::Builder::new().name("journal-checkpointer".to_owned()).spawn(move || {
            for () in ordered {
                let outcome = (0..PASSES).try_fold(0, |_, _| {
                    let frames = checkpoint(&connection, Mode::Passive)?;
                    database.sync_data().map_err(sync_failed)?;
                    Ok(frames)
                });
                if finished.send(outcome).is_err() {
                    break;
                }
            }
            // In this order: closing any handle of a file gives up the process's locks on it.
            drop(connection);
            drop(database);
        })?;
        Ok(Self { orders, done, thread, is_at_work: false })
    }

    /// Begins, unless it is at work. It takes nothing from the writer's time.
    pub(super) fn begin(&mut self) {
        self.is_at_work = self.is_at_work || self.orders.try_send(()).is_ok();
    }

    /// Once after each order, when it is done: how long the log is. An error is the disk's and final.
    pub(super) fn finished(&mut self) -> rusqlite::Result<Option<LogFrames>> {
        let Some(outcome) = self.is_at_work.then(|| self.done.try_recv().ok()).flatten() else { return Ok(None) };
        self.is_at_work = false;
        outcome.map(Some)
    }

    /// Waits for the pass at hand and ends the thread.
    pub(super) fn stop(self) {
        let Self { orders, done, thread, .. } = self;
        drop((orders, done));
        if thread.join().is_err() {
            tracing::error!("the checkpointer has panicked");
        }
    }
}

/// How a checkpoint deals with others; SQLite's names.
#[derive(Clone, Copy)]
pub(super) enum Mode {
    /// Waits for nobody: what others hold up is left over.
    Passive,
    /// Brings everything over and empties the log.
    Truncate,
}

/// Brings the log's pages into the database, and gives the log's length, with what was brought over before. What others hold
/// up is left for the next time and is no error.
pub(super) fn checkpoint(connection: &Connection, mode: Mode) -> rusqlite::Result<LogFrames> {
    let order = match mode {
        Mode::Passive => "PRAGMA wal_checkpoint(PASSIVE)",
        Mode::Truncate => "PRAGMA wal_checkpoint(TRUNCATE)",
    };
    connection.query_row(order, [], |row| row.get::<_, i64>(1)).map(|frames| usize::try_from(frames).unwrap_or(0))
}

fn sync_failed(cause: io::Error) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_IOERR_FSYNC), Some(cause.to_string()))
}
