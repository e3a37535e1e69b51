//! The readers: a few threads, each with a connection of its own that only reads.
//!
//! The journal's handle gives them questions; the writer ends them when the journal closes, since the directory is given back only
//! when their connections are closed. A question that is long at that moment is interrupted: its caller is told that the journal is
//! closed, or asks again.

use std::{
    convert::Infallible,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rusqlite::{Connection, InterruptHandle};

use super::{connections::open_reader, open_error::OpenError};

/// Threads that read the log: for entities that wake, relays and subscriptions. Nothing that they are asked takes long.
const LOG_READERS: usize = 2;
/// Threads that ask the read model. Apart from the others: a dozen long lists at a time keep these busy and wake no entity later.
const QUERY_READERS: usize = 2;
/// How long a question may go on after its journal was closed, and how often it is interrupted from then on.
const INTERRUPT_EVERY: Duration = Duration::from_millis(100);
/// Questions that may wait for a reader before the next is refused: of each of the two kinds.
const READ_QUEUE_MAX: usize = 4_096;

/// A question to a reader.
pub(super) type ReadJob = Box<dyn FnOnce(&Connection) + Send>;

struct Reader {
    interrupt: InterruptHandle,
    /// Where its questions come from: one that asks nothing wakes it.
    jobs: Sender<ReadJob>,
    /// Disconnected once its connection is closed.
    ended: Receiver<Infallible>,
}

/// Where questions to the readers go.
pub(super) struct Questions {
    /// To those of the log.
    pub(super) of_the_log: Sender<ReadJob>,
    /// To those of the read model.
    pub(super) of_the_views: Sender<ReadJob>,
}

pub(super) struct Readers {
    /// Looked at before each question. A second channel beside that of the questions would have all of them wait for its lock.
    is_stopping: Arc<AtomicBool>,
    threads: Vec<Reader>,
}

impl Readers {
    /// Starts them on the database in `file`: some for the log, and others for the read model.
    pub(super) fn start(file: &Path) -> Result<(Self, Questions), OpenError> {
        let mut readers =
            Self { is_stopping: Arc::default(), threads: Vec::with_capacity(LOG_READERS + QUERY_READERS) };
        let of_the_log = readers.start_some("journal-reader", LOG_READERS, file)?;
        let of_the_views = readers.start_some("journal-query", QUERY_READERS, file)?;
        Ok((readers, Questions { of_the_log, of_the_views }))
    }

    /// Starts `count` that share a queue.
    fn start_some(&mut self, name: &str, count: usize, file: &Path) -> Result<Sender<ReadJob>, OpenError> {
        let (jobs, queue) = bounded(READ_QUEUE_MAX);
        for _ in 0..count {
            let connection = open_reader(file).map_err(|cause| OpenError::Database { file: file.to_owned(), cause })?;
            let interrupt = connection.get_interrupt_handle();
            let (queue, is_stopping) = (queue.clone(), Arc::clone(&self.is_stopping));
            let (ending, ended) = bounded(0);
            thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || {
                    serve(&connection, &queue, &is_stopping);
                    drop(connection);
                    drop::<Sender<Infallible>>(ending);
                })
                .map_err(|cause| OpenError::Unwritable { directory: file.to_owned(), cause })?;
            self.threads.push(Reader { interrupt, jobs: jobs.clone(), ended });
        }
        Ok(jobs)
    }

    /// Ends them. False when one has not ended by `deadline`.
    pub(super) fn stop(self, deadline: Instant) -> bool {
        self.is_stopping.store(true, Ordering::SeqCst);
        for reader in &self.threads {
            // A full queue keeps them awake without it.
            let _ = reader.jobs.try_send(Box::new(|_| {}));
        }
        self.threads.iter().all(|reader| reader.has_ended(deadline))
    }
}

impl Reader {
    fn has_ended(&self, deadline: Instant) -> bool {
        loop {
            match self.ended.recv_timeout(INTERRUPT_EVERY) {
                Err(RecvTimeoutError::Disconnected) => return true,
                Ok(never) => match never {},
                Err(RecvTimeoutError::Timeout) if Instant::now() >= deadline => return false,
                Err(RecvTimeoutError::Timeout) => self.interrupt.interrupt(),
            }
        }
    }
}

fn serve(connection: &Connection, queue: &Receiver<ReadJob>, is_stopping: &AtomicBool) {
    for job in queue {
        if is_stopping.load(Ordering::SeqCst) {
            return;
        }
        job(connection);
    }
}
