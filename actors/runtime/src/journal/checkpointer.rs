//! The checkpointer: a thread that brings the log's pages into the database while the writer goes on.
//!
//! A checkpoint writes pages and syncs the database, which takes a disk tens of milliseconds; done by the writer, every commit
//! would wait for it. Here it runs on a connection of its own. What the writer appends meanwhile is left over, and the log
//! starts over only when nothing is: so the writer itself does the small rest now and then, when the log is long. SQLite syncs
//! in that last pass alone, when it has all of the log; so each pass here is synced here, through SQLite's own handle of the file
//! (see [`super::native`]). It ends when its writer lets go of it.
//!
//! A failed sync is final for the journal, as a failed commit is: see [`super::faults`].

use std::{convert::Infallible, io, thread, time::Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rusqlite::Connection;

use super::{faults::Failed, native};

/// Passes over the log for one order: the first is long, and the second takes most of what was appended meanwhile.
const PASSES: usize = 2;

/// The length of the log, in pages.
pub(super) type LogFrames = usize;

/// How far a checkpoint came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// How long the log is, with what was brought over before.
    pub(super) log: LogFrames,
    /// How much of it is in the database.
    pub(super) done: LogFrames,
}

pub(super) struct Checkpointer {
    orders: Sender<()>,
    done: Receiver<Result<Progress, Failed>>,
    /// Disconnected once its connection is closed.
    ended: Receiver<Infallible>,
    is_at_work: bool,
}

impl Checkpointer {
    /// Starts the thread on a connection of its own to the writer's database.
    pub(super) fn start(connection: Connection) -> io::Result<Self> {
        let (orders, ordered) = bounded::<()>(1);
        let (finished, done) = bounded(1);
        let (ending, ended) = bounded(0);
        thread::Builder::new().name("journal-checkpointer".to_owned()).spawn(move || {
            for () in ordered {
                if finished.send(passes(&connection)).is_err() {
                    break;
                }
            }
            drop(connection);
            drop::<Sender<Infallible>>(ending);
        })?;
        Ok(Self { orders, done, ended, is_at_work: false })
    }

    /// Begins, unless it is at work. It takes nothing from the writer's time.
    pub(super) fn begin(&mut self) {
        self.is_at_work = self.is_at_work || self.orders.try_send(()).is_ok();
    }

    /// Once after each order, when it is done: how far it came.
    pub(super) fn finished(&mut self) -> Result<Option<Progress>, Failed> {
        let Some(outcome) = self.is_at_work.then(|| self.done.try_recv().ok()).flatten() else { return Ok(None) };
        self.is_at_work = false;
        outcome.map(Some)
    }

    /// Waits for the pass at hand and ends the thread. False when it has not ended by `deadline`.
    pub(super) fn stop(self, deadline: Instant) -> bool {
        let Self { orders, done, ended, .. } = self;
        drop((orders, done));
        matches!(ended.recv_deadline(deadline), Err(RecvTimeoutError::Disconnected))
    }
}

fn passes(connection: &Connection) -> Result<Progress, Failed> {
    (0..PASSES).try_fold(Progress::default(), |_, _| {
        let progress = checkpoint(connection, Mode::Passive)?;
        native::sync_database(connection).map_err(|error| Failed::of(connection, error))?;
        Ok(progress)
    })
}

/// How a checkpoint deals with others; SQLite's names.
#[derive(Clone, Copy)]
pub(super) enum Mode {
    /// Waits for nobody: what others hold up is left over.
    Passive,
    /// Brings everything over and empties the log, unless others hold that up.
    Truncate,
}

/// Brings the log's pages into the database. What others hold up is left for the next time and is no error.
pub(super) fn checkpoint(connection: &Connection, mode: Mode) -> Result<Progress, Failed> {
    let order = match mode {
        Mode::Passive => "PRAGMA wal_checkpoint(PASSIVE)",
        Mode::Truncate => "PRAGMA wal_checkpoint(TRUNCATE)",
    };
    // -1 where there is no log.
    let frames = |number: i64| usize::try_from(number).unwrap_or(0);
    connection
        .query_row(order, [], |row| Ok(Progress { log: frames(row.get(1)?), done: frames(row.get(2)?) }))
        .map_err(|error| Failed::of(connection, error))
}
