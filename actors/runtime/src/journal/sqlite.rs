//! The embedded journal: one SQLite database, one writer thread, a few readers.
//!
//! The writer thread owns the only connection that writes. It takes whatever has queued, commits it in one transaction
//! and hands the replies back to the async runtime: while it waits for the disk, the next batch queues by itself. That is
//! group commit; the load sets the size of the batch and nothing needs tuning.
//!
//! WAL with `synchronous=FULL`, asserted at the start: a commit survives power loss. A thread of its own checkpoints. An
//! exclusive lock on the directory keeps a second process out. What a failure of the disk means stands in `super::faults`. SQLite
//! alone opens the database's files, and what one incarnation has open no other opens (see `super::directory`).

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering, fence},
    },
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, TrySendError, unbounded};
use futures::{FutureExt, future::BoxFuture};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    Append, Journal, JournalError, JournalHealth, Loaded, Position, Recorded, RecordedOutcome, Row, Settle, SqlValue,
    boot::BootNote,
    checkpointer::{Checkpointer, Mode, checkpoint},
    connections::{open_checkpointer, open_reader, open_writer},
    contradictions::Contradictions,
    damage::Damage,
    directory::{DatabaseFiles, Directory},
    ends,
    faults::Fault,
    health::HealthBoard,
    identity::{LogIdentity, LogMark},
    integrity::{self, IntegrityChecker, IntegrityChecks},
    open_error::unusable,
    progress::ProgressSender,
    readers::{Questions, ReadJob, Readers},
    reads, recovery, schema, settled,
    stream_index::StreamIndex,
    transaction::{Request, Settled, refuse_all},
    until_closed,
    views::{self, Views, ViewsError},
    witness::WitnessKeeper,
    writer::{Log, Writer},
};
use crate::command::CommandId;

pub use super::open_error::OpenError;

/// How long an open waits for readers of other programs, so that the log can be emptied.
const OPEN_CHECKPOINT_WAIT_MAX: Duration = Duration::from_secs(1);
/// Versions in memory that wait for their turn in the stream index. The more wait, the more of them share a page when they are
/// written; and the more is read again after a crash: 0.1 s for so many, as measured.
const WAITING_VERSIONS_MAX: usize = 1 << 16;

/// Where a journal lives and what its read model looks like.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// The directory of this journal alone. It is created if it is missing.
    pub directory: PathBuf,
    /// The read model.
    pub views: Views,
    /// Where the progress of a long start is written.
    pub progress: ProgressSender,
    /// When the whole file is checked beside the sale.
    pub checks: IntegrityChecks,
}

impl SqliteOptions {
    /// A journal in `directory` with this read model.
    pub fn new(directory: impl Into<PathBuf>, views: impl Into<Views>) -> Self {
        Self {
            directory: directory.into(),
            views: views.into(),
            progress: ProgressSender::default(),
            checks: IntegrityChecks::default(),
        }
    }
}

/// The journal in one SQLite database; see the module's text.
pub struct SqliteJournal {
    requests: Sender<Request>,
    /// The writer's inbox: whoever sends to a writer that has ended refuses what nobody will read.
    inbox: Receiver<Request>,
    index: Arc<StreamIndex>,
    questions: Questions,
    damage: Damage,
    committed: watch::Receiver<Position>,
    closed: watch::Receiver<Option<JournalError>>,
    is_open: Arc<AtomicBool>,
    is_closing: Arc<AtomicBool>,
    health: Arc<HealthBoard>,
    identity: LogIdentity,
    contradictions: Contradictions,
}

impl SqliteJournal {
    /// Opens or creates the journal. It blocks for as long as SQLite needs, so call it where blocking is allowed, within
    /// a tokio runtime: replies are delivered there.
    ///
    /// # Errors
    /// [`OpenError`], each a plain sentence.
    pub fn open(options: &SqliteOptions) -> Result<Arc<Self>, OpenError> {
        // First, so that it is given back last: what is declared later is dropped earlier.
        let directory = Directory::claim(&options.directory)?;
        let unwritable = |cause| OpenError::Unwritable { directory: options.directory.clone(), cause };
        let file = options.directory.join("journal.db");
        let database = |cause| unusable(&file, cause);

        let mut connection = open_writer(&file)?;
        let boot = BootNote::new(&options.directory);
        if boot.machine_went_down()
            && let Some(cause) = integrity::check_before_serving(&connection, &options.progress).map_err(database)?
        {
            return Err(OpenError::Damaged { file, cause });
        }
        boot.opened().map_err(unwritable)?;
        let newer = |found| OpenError::Newer { file: file.clone(), found };
        schema::bring_up_to_date(&mut connection).map_err(database)?.map_err(newer)?;
        connection.set_prepared_statement_cache_capacity(reads::STATEMENTS_MAX);
        let newest = ends::newest_position(&connection).map_err(database)?;
        let identity = schema::identity_of(&connection).map_err(database)?;
        let contradictions = Contradictions::default();
        let witness = recovery::open_witness(&options.directory, &connection, identity, newest, &contradictions);
        let witness = witness.map_err(unwritable)?;
        let index = Arc::new(StreamIndex::recover(&connection, WAITING_VERSIONS_MAX).map_err(database)?);
        let views_failed = |cause| match cause {
            ViewsError::Database(cause) => unusable(&file, cause),
            cause => OpenError::Views { file: file.clone(), cause },
        };
        views::bring_up_to_date(&mut connection, &index, options.views, &options.progress).map_err(views_failed)?;
        bring_over_what_is_left(&connection).map_err(database)?;
        let files = DatabaseFiles::of(&file).map_err(unwritable)?;
        // From here on the writer itself waits for a lock that another program has.
        connection.busy_timeout(Duration::ZERO).map_err(database)?;

        let (requests, inbox) = unbounded();
        let (committed_sender, committed) = watch::channel(newest);
        let (closed_sender, closed) = watch::channel(None);
        let (settled, to_settle) = mpsc::unbounded_channel();
        let (is_open, is_closing) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
        let health = Arc::new(HealthBoard::default());

        let checkpointer = open_checkpointer(&file).map_err(database)?;
        let checkpointer = Checkpointer::start(checkpointer).map_err(unwritable)?;
        let (readers, questions) = Readers::start(&file)?;
        let damage = Damage::none();
        let checker = IntegrityChecker::start(&file, options.checks, damage.clone()).map_err(unwritable)?;
        tokio::spawn(settle_in_order(to_settle));
        let witness = match witness {
            Some(witness) => {
                let reader = open_reader(&file).map_err(database)?;
                Some(WitnessKeeper::start(witness, identity, reader, committed.clone()).map_err(unwritable)?)
            }
            None => None,
        };
        let writer = Writer {
            connection,
            index: Arc::clone(&index),
            checkpointer,
            readers,
            checker,
            boot,
            contradictions: contradictions.clone(),
            witness,
            files,
            inbox: inbox.clone(),
            settled,
            committed: committed_sender,
            closed: closed_sender,
            is_open: Arc::clone(&is_open),
            is_closing: Arc::clone(&is_closing),
            health: Arc::clone(&health),
            log: Log::new(),
            last_batch: 0,
            trouble: None,
            tried_at: Instant::now(),
            directory,
        };
        thread::Builder::new().name("journal-writer".to_owned()).spawn(move || writer.run()).map_err(unwritable)?;
        Ok(Arc::new(Self {
            requests,
            inbox,
            index,
            questions,
            damage,
            committed,
            closed,
            is_open,
            is_closing,
            health,
            identity,
            contradictions,
        }))
    }

    fn send(&self, request: Request) {
        // It cannot fail: the other end is held here as well.
        let _ = self.requests.send(request);
        // Together with the writer's end: either it has seen this request, or this has seen that it ended.
        fence(Ordering::SeqCst);
        if !self.is_open() {
            refuse_all(&self.inbox, &JournalError::Closed);
        }
    }

    fn read<T: Send + 'static>(
        &self,
        readers: &Sender<ReadJob>,
        job: impl FnOnce(&Connection) -> Result<T, JournalError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, JournalError>> {
        if !self.is_open() {
            return async { Err(JournalError::Closed) }.boxed();
        }
        let (reply, answer) = oneshot::channel();
        let damage = self.damage.clone();
        let job: ReadJob = Box::new(move |connection| {
            let outcome = job(connection);
            if let Err(JournalError::Damaged(what)) = &outcome {
                damage.found(what);
            }
            let _ = reply.send(outcome);
        });
        let queued = readers.try_send(job);
        async move {
            match queued {
                Ok(()) => answer.await.unwrap_or(Err(JournalError::Closed)),
                Err(TrySendError::Full(_)) => Err(JournalError::Query("too many questions are waiting".to_owned())),
                Err(TrySendError::Disconnected(_)) => Err(JournalError::Closed),
            }
        }
        .boxed()
    }
}

impl Journal for SqliteJournal {
    fn append(&self, append: Append) {
        append.fence.enter();
        self.send(Request::Append(Box::new(append)));
    }

    fn after_queued(&self, settle: Settle) {
        self.send(Request::AfterQueued(settle));
    }

    fn outcome(
        &self,
        stream: Arc<str>,
        command_id: CommandId,
        first_version: Option<u64>,
    ) -> BoxFuture<'static, RecordedOutcome> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Outcome { stream, command_id, first_version, reply });
        async move { answer.await.unwrap_or(Err(JournalError::Closed)) }.boxed()
    }

    fn load(&self, stream: Arc<str>, seen_max: usize) -> BoxFuture<'static, Result<Loaded, JournalError>> {
        let index = Arc::clone(&self.index);
        self.read(&self.questions.of_the_log, move |connection| {
            reads::load_stream(connection, &index, &stream, seen_max)
        })
    }

    fn events(&self, stream: Arc<str>) -> BoxFuture<'static, Result<Vec<Recorded>, JournalError>> {
        let index = Arc::clone(&self.index);
        self.read(&self.questions.of_the_log, move |connection| reads::all_events_of(connection, &index, &stream))
    }

    fn read_after(&self, position: Position, limit: usize) -> BoxFuture<'static, Result<Vec<Recorded>, JournalError>> {
        self.read(&self.questions.of_the_log, move |connection| reads::read_after(connection, position, limit))
    }

    fn committed(&self) -> watch::Receiver<Position> {
        self.committed.clone()
    }

    fn query(&self, sql: &'static str, values: Vec<SqlValue>) -> BoxFuture<'static, Result<Vec<Row>, JournalError>> {
        self.read(&self.questions.of_the_views, move |connection| reads::query(connection, sql, &values))
    }

    fn identity(&self) -> LogIdentity {
        self.identity
    }

    fn contradictions(&self) -> Contradictions {
        self.contradictions.clone()
    }

    fn position_of(&self, subscription: Arc<str>) -> BoxFuture<'static, Result<LogMark, JournalError>> {
        self.read(&self.questions.of_the_log, move |connection| reads::position_of(connection, &subscription))
    }

    fn store_position(&self, subscription: Arc<str>, mark: LogMark) -> BoxFuture<'static, Result<(), JournalError>> {
        settled(|settle| self.send(Request::StorePosition { subscription, mark, settle }))
    }

    fn damage(&self) -> watch::Receiver<Option<String>> {
        self.damage.subscribe()
    }

    fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    fn closed(&self) -> BoxFuture<'static, JournalError> {
        until_closed(self.closed.clone())
    }

    fn health(&self) -> JournalHealth {
        self.health.reading()
    }

    fn is_full(&self) -> bool {
        self.health.is_full()
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        self.is_closing.store(true, Ordering::Release);
        self.send(Request::Close);
        let closed = self.closed();
        async move {
            closed.await;
        }
        .boxed()
    }
}

/// Runs what is to be done after commits, in the order of the commits, on the async runtime: the writer never pays for
/// waking a caller.
async fn settle_in_order(mut batches: mpsc::UnboundedReceiver<Vec<Settled>>) {
    while let Some(batch) = batches.recv().await {
        for settled in batch {
            settled.run();
        }
    }
}

/// What a crash has left in the log is in the database, and synced, before anybody is served. Where others hold that up, or there is
/// no room, it stays in the log and is as durable as before.
fn bring_over_what_is_left(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(OPEN_CHECKPOINT_WAIT_MAX)?;
    match checkpoint(connection, Mode::Truncate) {
        Ok(_) => Ok(()),
        Err(failed) if matches!(failed.fault, Fault::Busy | Fault::Full) => {
            tracing::warn!(error = %failed.error, "what was left in the log cannot be brought into the database now");
            Ok(())
        }
        Err(failed) => Err(failed.error),
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::{StatementStatus, params};

    use super::*;

    #[tokio::test]
    async fn a_reader_prepares_a_statement_once() -> Result<(), Box<dyn std::error::Error>> {
        let directory = tempfile::tempdir()?;
        let journal = SqliteJournal::open(&SqliteOptions::new(directory.path(), ""))?;
        let reader = open_reader(&directory.path().join("journal.db"))?;
        let mut statement = reader.prepare("SELECT position FROM versions WHERE stream = ?1 LIMIT ?2")?;
        for limit in 1..9 {
            assert!(statement.query(params!["stock/1", limit])?.next()?.is_none());
        }
        assert_eq!(statement.get_status(StatementStatus::RePrepare), 0);
        journal.close().await;
        Ok(())
    }
}
