//! The checkpointer: a thread that brings the log's pages into the database while the writer goes on.
//!
//! A checkpoint syncs the database, which takes a disk tens of milliseconds; done by the writer, every commit would wait for
//! it. Here it runs on a connection of its own. What the writer appends meanwhile is left over, and the log starts over only
//! when nothing is: so the writer itself does the small rest afterwards. It ends when its writer lets go of it.

use std::{io, thread};

use crossbeam_channel::{Receiver, Sender, bounded};
use rusqlite::Connection;

/// Passes over the log for one order: the first is long, and the second takes most of what was appended meanwhile.
const PASSES: usize = 2;

pub(super) struct Checkpointer {
    orders: Sender<()>,
    done: Receiver<()>,
    thread: thread::JoinHandle<()>,
    is_at_work: bool,
}

impl Checkpointer {
    /// Starts the thread on a connection of its own to the writer's database.
    pub(super) fn start(connection: Connection) -> io::Result<Self> {
        let (orders, ordered) = bounded::<()>(1);
        let (finished, done) = bounded(1);
        let thread = thread::Builder::new().name("journal-checkpointer".to_owned()).spawn(move || {
            for () in ordered {
                for _ in 0..PASSES {
                    checkpoint(&connection, "PASSIVE");
                }
                if finished.send(()).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { orders, done, thread, is_at_work: false })
    }

    /// Begins, unless it is at work. It takes nothing from the writer's time.
    pub(super) fn begin(&mut self) {
        self.is_at_work = self.is_at_work || self.orders.try_send(()).is_ok();
    }

    /// True once after each order, when it is done: now the writer does the rest.
    pub(super) fn has_finished(&mut self) -> bool {
        let has_finished = self.is_at_work && self.done.try_recv().is_ok();
        self.is_at_work &= !has_finished;
        has_finished
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

/// Brings the log's pages into the database, in SQLite's `mode`.
pub(super) fn checkpoint(connection: &Connection, mode: &str) {
    let outcome = connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()));
    if let Err(error) = outcome {
        tracing::warn!(%error, "the journal's log could not be checkpointed now; it is tried again later");
    }
}
