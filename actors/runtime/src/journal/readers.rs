//! The readers: a few threads, each with a connection of its own that only reads.
//!
//! The journal's handle gives them questions; the writer ends them when the journal closes, since the directory is given back only
//! when their connections are closed. A question that is long at that moment is interrupted: its caller is told that the journal is
//! closed, or asks again.

use std::{
    convert::Infallible,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Select, Sender, bounded};
use rusqlite::{Connection, InterruptHandle, OpenFlags};

use super::{
    reads,
    sqlite::{OpenError, keep_plans, leave_the_log_alone},
};

/// Threads that read the log: for entities that wake, relays and subscriptions. Nothing that they are asked takes long.
const LOG_READERS: usize = 2;
/// Threads that ask the read model. Apart from the others: a dozen long lists at a time keep these busy and wake no entity later.
const QUERY_READERS: usize = 2;
/// How long a question may go on after its journal was closed, and how often it is interrupted from then on.
const INTERRUPT_EVERY: Duration = Duration::from_millis(100);

/// A question to a reader.
pub(super) type ReadJob = Box<dyn FnOnce(&Connection) + Send>;

struct Reader {
    interrupt: InterruptHandle,
    /// Disconnected once its connection is closed.
    ended: Receiver<Infallible>,
}

pub(super) struct Readers {
    /// Dropped, it tells them to end.
    stop: Sender<Infallible>,
    threads: Vec<Reader>,
}

impl Readers {
    /// Starts them on the database in `file`: some for the log, and others for the read model.
    pub(super) fn start(
        file: &Path,
        of_the_log: &Receiver<ReadJob>,
        of_the_views: &Receiver<ReadJob>,
    ) -> Result<Self, OpenError> {
        let (stop, stopped) = bounded(0);
        let mut readers = Self { stop, threads: Vec::with_capacity(LOG_READERS + QUERY_READERS) };
        let log_readers = std::iter::repeat_n(("journal-reader", of_the_log), LOG_READERS);
        let query_readers = std::iter::repeat_n(("journal-query", of_the_views), QUERY_READERS);
        for (name, jobs) in log_readers.chain(query_readers) {
            let connection = open_reader(file).map_err(|cause| OpenError::Database { file: file.to_owned(), cause })?;
            let interrupt = connection.get_interrupt_handle();
            let (jobs, stopped) = (jobs.clone(), stopped.clone());
            let (ending, ended) = bounded(0);
            thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || {
                    serve(&connection, &jobs, &stopped);
                    drop(connection);
                    drop::<Sender<Infallible>>(ending);
                })
                .map_err(|cause| OpenError::Unwritable { directory: file.to_owned(), cause })?;
            readers.threads.push(Reader { interrupt, ended });
        }
        Ok(readers)
    }

    /// Ends them. False when one has not ended by `deadline`.
    pub(super) fn stop(self, deadline: Instant) -> bool {
        let Self { stop, threads } = self;
        drop(stop);
        threads.iter().all(|reader| reader.has_ended(deadline))
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

fn serve(connection: &Connection, jobs: &Receiver<ReadJob>, stopped: &Receiver<Infallible>) {
    let mut select = Select::new();
    let (job, _) = (select.recv(jobs), select.recv(stopped));
    loop {
        let ready = select.select();
        if ready.index() != job {
            let _ = ready.recv(stopped);
            return;
        }
        match ready.recv(jobs) {
            Ok(job) => job(connection),
            Err(_) => return,
        }
    }
}

pub(super) fn open_reader(file: &Path) -> rusqlite::Result<Connection> {
    let reader = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    keep_plans(&reader)?;
    leave_the_log_alone(&reader)?;
    reader.execute_batch("PRAGMA query_only = ON; PRAGMA mmap_size = 268435456;")?;
    reader.busy_timeout(Duration::from_secs(1))?;
    reader.set_prepared_statement_cache_capacity(reads::STATEMENTS_MAX);
    Ok(reader)
}
