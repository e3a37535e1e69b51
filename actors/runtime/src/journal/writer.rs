//! The writer thread: group commit.
//!
//! It owns the connection that writes, the readers, the checkpointer, the checker and the directory. One turn: wait for a request, take what else
//! has queued, write all of it in one transaction with a slice of the stream index, commit, see that the log is still the file that
//! its name says, hand the outcomes to the runtime. The checkpointer keeps the log short beside it. [`super::faults`] says what a
//! failure means: while another program has the lock it waits, without room it refuses writes and goes on, and everything else ends
//! it: nothing more is acknowledged. It ends the others first, then closes its connection, and gives the directory back last.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering, fence},
    },
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use rusqlite::Connection;
use tokio::sync::{mpsc, watch};

use super::{
    JournalError, Position,
    boot::BootNote,
    checkpointer::{Checkpointer, LogFrames, Mode, Progress, checkpoint},
    connections::{LOG_BYTES_MAX, leave_the_log_alone},
    contradictions::Contradictions,
    directory::{CLOSE_WAIT_MAX, DatabaseFiles, Directory, LogBytes},
    faults::{Failed, Fault},
    health::{HealthBoard, Trouble},
    integrity::IntegrityChecker,
    readers::Readers,
    stream_index::StreamIndex,
    transaction::{
        BATCH_REQUESTS_MAX, Committed, Request, Settled, commit, outcomes, refuse_all, refuse_contradicted,
        refuse_writes, try_to_write, write_index,
    },
    witness::WitnessKeeper,
};

/// From such a batch on the next one is waited for, until it is half as large…
const GATHER_FROM: usize = 128;
/// …in naps, of which the system makes some 0.1 ms each.
const GATHER_NAP: Duration = Duration::from_micros(50);
/// The most naps before a commit.
const GATHER_NAPS_MAX: usize = 3;
/// Rows written before a checkpoint begins. Each takes the disk for as long as its pages last, and commits wait behind them:
/// small ones for a millisecond…
const CHECKPOINT_ROWS: usize = 2_000;
/// …and so soon after the last one the next does not begin: the busiest writer would do little else.
const CHECKPOINT_PAUSE: Duration = Duration::from_millis(10);
/// 32 MiB of log: so much longer than at the last try, the writer tries to have it start over. That takes a commit's time,
/// twice.
const LOG_STEP_FRAMES: LogFrames = 1 << 13;
/// An operator is told of a log that is so long: somebody else's reader keeps it from starting over.
const LOG_BYTES_TOLD: LogBytes = 2 * LOG_BYTES_MAX;
/// How long the writer idles before it tidies the log.
const IDLE_CHECKPOINT_AFTER: Duration = Duration::from_secs(2);
/// Between two tries for a lock that another program has.
const BUSY_RETRY: Duration = Duration::from_millis(5);
/// A lock that is held for longer is worth an operator's look.
const BUSY_TOLD_AFTER: Duration = Duration::from_millis(250);
/// So long a group waits for the lock: longer than anybody waits for its outcome. Then it is refused.
const BUSY_WAIT_MAX: Duration = Duration::from_secs(30);
/// The same once the journal is to be closed.
const BUSY_WAIT_MAX_AT_CLOSE: Duration = Duration::from_secs(2);
/// How often it is tried whether there is room again, or the lock is free.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(500);

pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) index: Arc<StreamIndex>,
    pub(super) checkpointer: Checkpointer,
    pub(super) readers: Readers,
    pub(super) checker: IntegrityChecker,
    pub(super) boot: BootNote,
    pub(super) contradictions: Contradictions,
    /// None where the log contradicts its witness, which is then left as it is.
    pub(super) witness: Option<WitnessKeeper>,
    pub(super) files: DatabaseFiles,
    pub(super) inbox: Receiver<Request>,
    pub(super) settled: mpsc::UnboundedSender<Vec<Settled>>,
    pub(super) committed: watch::Sender<Position>,
    pub(super) closed: watch::Sender<Option<JournalError>>,
    pub(super) is_open: Arc<AtomicBool>,
    /// It has been told to close.
    pub(super) is_closing: Arc<AtomicBool>,
    pub(super) health: Arc<HealthBoard>,
    pub(super) log: Log,
    pub(super) last_batch: usize,
    pub(super) trouble: Option<Trouble>,
    pub(super) tried_at: Instant,
    pub(super) directory: Directory,
}

/// What the writer knows of the log.
pub(super) struct Log {
    rows_since_checkpoint: usize,
    checkpointed_at: Instant,
    /// How long it was when it was last to start over; 0 since it did.
    tried: LogFrames,
    progress: Progress,
    bytes: LogBytes,
    is_told: bool,
}

impl Log {
    pub(super) fn new() -> Self {
        Self {
            rows_since_checkpoint: 0,
            checkpointed_at: Instant::now(),
            tried: 0,
            progress: Progress::default(),
            bytes: 0,
            is_told: false,
        }
    }

    /// Whether it waits for a moment in which nobody reads from it.
    fn is_too_long(&self) -> bool {
        self.bytes > LOG_BYTES_MAX
    }
}

impl Writer {
    /// Serves until it is told to close, everybody is gone, or the disk fails.
    pub(super) fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH_REQUESTS_MAX);
        let worked = catch_unwind(AssertUnwindSafe(|| self.work(&mut batch)));
        let end = match worked {
            Ok(Ok(())) => JournalError::Closed,
            Ok(Err(failed)) => failure(&failed),
            Err(_) => JournalError::Storage("its writer has panicked".to_owned()),
        };
        self.close(&mut batch, end);
    }

    fn work(&mut self, batch: &mut Vec<Request>) -> Result<(), Failed> {
        loop {
            match self.next_batch(batch) {
                Turn::Work => {}
                Turn::Idle => {
                    self.tidy()?;
                    continue;
                }
                Turn::End => return Ok(()),
            }
            let is_last = batch.iter().any(|request| matches!(request, Request::Close));
            self.serve(batch)?;
            if is_last {
                return Ok(());
            }
        }
    }

    /// Tells everybody who waits, and closes what is open: the directory last.
    fn close(self, batch: &mut Vec<Request>, mut end: JournalError) {
        self.is_open.store(false, Ordering::Release);
        for request in batch.drain(..) {
            request.refuse(&end);
        }
        // Together with the sender's end: either this sees a request, or its sender sees that nobody will.
        fence(Ordering::SeqCst);
        refuse_all(&self.inbox, &end);
        let Self { connection, index, checkpointer, readers, checker, witness, boot, closed, directory, .. } = self;
        let deadline = Instant::now() + CLOSE_WAIT_MAX;
        // All of them, whatever the first says.
        let others_have_ended = checker.stop(deadline)
            & checkpointer.stop(deadline)
            & readers.stop(deadline)
            & witness.is_none_or(|witness| witness.stop(deadline));
        let is_tidy = end == JournalError::Closed
            && others_have_ended
            && {
                // Not needed, only faster for whoever opens it next.
                let tidied =
                    write_index(&connection, &index, || true).and_then(|_| checkpoint(&connection, Mode::Truncate));
                if let Err(failed) = &tidied {
                    let error = &failed.error;
                    tracing::warn!(%error, "the journal is closed, and what was left to tidy is done when it is opened again");
                    if failed.fault == Fault::Fatal {
                        end = failure(failed);
                    }
                }
                tidied.is_ok()
            };
        // SQLite checkpoints when the last connection is closed. After a failure nobody knows what it would bring over.
        let is_closed = (is_tidy || leave_the_log_alone(&connection).is_ok())
            & connection.close().inspect_err(|(_, error)| tracing::error!(%error, "cannot be closed")).is_ok();
        if !(others_have_ended && is_closed) {
            end = JournalError::Fatal(format!("the journal could not be closed within {CLOSE_WAIT_MAX:?}"));
        }
        if is_tidy && is_closed && end == JournalError::Closed {
            boot.closed();
        }
        match end {
            JournalError::Fatal(_) => directory.keep_for_ever(),
            _ => drop(directory),
        }
        closed.send_replace(Some(end));
    }

    fn next_batch(&mut self, batch: &mut Vec<Request>) -> Turn {
        let first = match self.idles_for() {
            None => self.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(patience) => self.inbox.recv_timeout(patience),
        };
        match first {
            Ok(request) => batch.push(request),
            Err(RecvTimeoutError::Timeout) => return Turn::Idle,
            Err(RecvTimeoutError::Disconnected) => return Turn::End,
        }
        self.gather();
        batch.extend(self.inbox.try_iter().take(BATCH_REQUESTS_MAX - 1));
        self.last_batch = batch.len();
        Turn::Work
    }

    /// After how long without a request it has something to do; for ever, where there is nothing.
    fn idles_for(&self) -> Option<Duration> {
        if self.trouble.is_some() {
            return Some(TRY_AGAIN_AFTER);
        }
        let has_work = self.log.rows_since_checkpoint > 0 || self.index.is_behind() || self.log.is_too_long();
        has_work.then_some(IDLE_CHECKPOINT_AFTER)
    }

    /// Under load, gives those a moment who were answered by the last commit and are about to ask again. Without it they would
    /// share the next commit with nobody, and batches would stay small.
    fn gather(&self) {
        if self.last_batch < GATHER_FROM {
            return;
        }
        for _ in 0..GATHER_NAPS_MAX {
            if self.inbox.len() >= self.last_batch / 2 {
                return;
            }
            thread::sleep(GATHER_NAP);
        }
    }

    /// Commits one batch and passes the outcomes on. An error is the disk's and ends the journal.
    fn serve(&mut self, batch: &mut Vec<Request>) -> Result<(), Failed> {
        let mut refused = vec![None; batch.len()];
        refuse_contradicted(&self.contradictions, batch, &mut refused);
        let committed = self.commit(batch, &mut refused)?;
        if committed.rows > 0 {
            // Before anybody hears of it: what was written to a file without a name is lost.
            self.check_files()?;
        }
        self.log.rows_since_checkpoint += committed.rows;
        let settled = outcomes(&self.connection, &self.index, batch, refused);
        if let Some(newest) = committed.newest {
            self.committed.send_replace(newest);
        }
        // Nobody to settle for means that the runtime is gone, and with it everybody who waited.
        let _ = self.settled.send(settled);
        if self.trouble.is_some() {
            return self.try_again();
        }
        let is_due =
            self.log.rows_since_checkpoint >= CHECKPOINT_ROWS && self.log.checkpointed_at.elapsed() >= CHECKPOINT_PAUSE;
        if is_due { self.checkpoint() } else { Ok(()) }
    }

    /// Commits what of the batch can be committed. While another program has the lock it waits; without room, writes are refused.
    fn commit(&mut self, batch: &[Request], refused: &mut [Option<JournalError>]) -> Result<Committed, Failed> {
        let since = Instant::now();
        loop {
            let failed = match commit(&self.connection, &self.index, batch, refused) {
                Ok(committed) => {
                    if committed.rows > 0 {
                        self.set_trouble(None);
                    }
                    return Ok(committed);
                }
                Err(failed) => failed,
            };
            match failed.fault {
                Fault::Busy if since.elapsed() < self.busy_wait_max() => {
                    if since.elapsed() >= BUSY_TOLD_AFTER {
                        self.set_trouble(Some(Trouble::Busy));
                    }
                    thread::sleep(BUSY_RETRY);
                }
                Fault::Busy => refuse_writes(batch, refused, &JournalError::Busy),
                Fault::Full => {
                    self.set_trouble(Some(Trouble::Full));
                    refuse_writes(batch, refused, &JournalError::Full);
                }
                Fault::Refused | Fault::Restart | Fault::Fatal => return Err(failed),
            }
        }
    }

    fn busy_wait_max(&self) -> Duration {
        if self.is_closing.load(Ordering::Acquire) { BUSY_WAIT_MAX_AT_CLOSE } else { BUSY_WAIT_MAX }
    }

    fn set_trouble(&mut self, trouble: Option<Trouble>) {
        if self.trouble == trouble {
            return;
        }
        self.trouble = trouble;
        self.tried_at = Instant::now();
        self.health.set_trouble(trouble);
        let directory = self.directory.path().display();
        match trouble {
            Some(trouble) => tracing::error!(%directory, "the journal cannot write: {}", trouble.text()),
            None => tracing::info!(%directory, "the journal writes again"),
        }
    }

    /// What may pass is no failure: it is tried again.
    fn later(&mut self, failed: Failed) -> Result<(), Failed> {
        let trouble = match failed.fault {
            Fault::Busy => Trouble::Busy,
            Fault::Full => Trouble::Full,
            Fault::Refused | Fault::Restart | Fault::Fatal => return Err(failed),
        };
        self.set_trouble(Some(trouble));
        Ok(())
    }

    /// In trouble: sees whether it is over.
    fn try_again(&mut self) -> Result<(), Failed> {
        if self.tried_at.elapsed() < TRY_AGAIN_AFTER {
            return Ok(());
        }
        self.tried_at = Instant::now();
        match try_to_write(&self.connection, &self.index) {
            Ok(()) => {
                self.check_files()?;
                self.log.rows_since_checkpoint += 1;
                self.set_trouble(None);
                Ok(())
            }
            Err(failed) => self.later(failed),
        }
    }

    /// Sees that the database's files are those that their names say, and how long the log is.
    fn check_files(&mut self) -> Result<(), Failed> {
        self.log.bytes = self.files.check().map_err(Failed::fatal)?;
        self.health.set_log_bytes(self.log.bytes);
        if self.log.bytes <= LOG_BYTES_MAX {
            self.log.is_told = false;
        } else if self.log.bytes > LOG_BYTES_TOLD && !self.log.is_told {
            self.log.is_told = true;
            let (directory, bytes) = (self.directory.path().display(), self.log.bytes);
            tracing::warn!(%directory, bytes, "the log grows: a reader, most likely another program's, keeps it from starting over");
        }
        Ok(())
    }

    /// Has the log checkpointed. Where it has grown long, does the rest that was appended meanwhile: with nothing left over, the
    /// log starts over, and SQLite cuts it to its limit. A long read may prevent that; then it is tried again when the log has
    /// grown by as much.
    fn checkpoint(&mut self) -> Result<(), Failed> {
        match self.checkpointer.finished() {
            Ok(None) => {
                self.checkpointer.begin();
                return Ok(());
            }
            Ok(Some(progress)) => self.log.progress = progress,
            Err(failed) => return self.checkpoint_later(failed),
        }
        let frames = self.log.progress.log;
        if frames < self.log.tried {
            self.log.tried = 0;
        }
        if frames >= self.log.tried + LOG_STEP_FRAMES {
            match checkpoint(&self.connection, Mode::Passive) {
                Ok(progress) => (self.log.progress, self.log.tried) = (progress, progress.log),
                Err(failed) => return self.checkpoint_later(failed),
            }
        }
        self.log.rows_since_checkpoint = 0;
        self.log.checkpointed_at = Instant::now();
        Ok(())
    }

    /// Without room, what is in the log stays there and is as durable as before: the next commit may find room that this did not.
    fn checkpoint_later(&mut self, failed: Failed) -> Result<(), Failed> {
        if !matches!(failed.fault, Fault::Busy | Fault::Full) {
            return Err(failed);
        }
        tracing::warn!(error = %failed.error, "the log cannot be brought into the database now; it is tried again");
        // Not none: it is done when there is nothing else to do.
        self.log.rows_since_checkpoint = 1;
        self.log.checkpointed_at = Instant::now();
        Ok(())
    }

    /// While there is nothing else to do: brings the index up to date, and the log into the database.
    fn tidy(&mut self) -> Result<(), Failed> {
        if self.trouble.is_some() {
            return self.try_again();
        }
        match write_index(&self.connection, &self.index, || self.inbox.is_empty()) {
            Ok(0) => {}
            Ok(rows) => {
                self.log.rows_since_checkpoint += rows;
                self.check_files()?;
            }
            Err(failed) => return self.later(failed),
        }
        self.checkpoint()?;
        self.shorten_log()
    }

    /// Cuts a log that was kept from starting over, once all of it is in the database and nobody waits for the writer.
    fn shorten_log(&mut self) -> Result<(), Failed> {
        let Progress { log, done } = self.log.progress;
        if !self.log.is_too_long() || done < log || !self.inbox.is_empty() {
            return Ok(());
        }
        match checkpoint(&self.connection, Mode::Truncate) {
            Ok(progress) => self.log.progress = progress,
            Err(failed) => return self.checkpoint_later(failed),
        }
        self.check_files()
    }
}

/// What everybody is told who waits for a journal that has failed.
fn failure(failed: &Failed) -> JournalError {
    let reason = failed.error.to_string();
    tracing::error!(reason, fault = ?failed.fault, "the journal cannot write: nothing more is acknowledged");
    match failed.fault {
        Fault::Fatal => JournalError::Fatal(reason),
        _ => JournalError::Storage(reason),
    }
}

enum Turn {
    Work,
    Idle,
    End,
}
