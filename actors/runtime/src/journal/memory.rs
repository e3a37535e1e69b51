//! The journal of tests: the same tables and statements in memory, with faults on demand.
//!
//! It is SQLite's `:memory:` behind the [`Journal`] trait, since the read model speaks SQL: what a domain writes to its
//! views is executed for real, and both journals share the code that reads and writes the tables. What differs is around
//! it: no thread, so that a test in paused time is in charge of every step; no file: the [`MemoryDisk`] is what survives a
//! crash; and [`Faults`], which lose commits and acknowledgements as a real disk and a real power cut do.
//!
//! A task on the async runtime commits what has queued. When the journal crashes, everything that was not committed is
//! gone; opening the same disk again shows it as of the last commit.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use rusqlite::Connection;
use tokio::{
    sync::{OwnedMutexGuard, mpsc, oneshot, watch},
    time::{error::Elapsed, timeout},
};

pub use super::memory_faults::{CommitFault, Faults};
use super::{
    Append, Journal, JournalError, JournalHealth, Loaded, Position, Recorded, RecordedOutcome, Row, Settle, SqlValue,
    Trouble,
    contradictions::Contradictions,
    ends,
    health::HealthBoard,
    identity::{LogIdentity, LogMark},
    progress::ProgressSender,
    reads, schema, settled,
    stream_index::StreamIndex,
    transaction::{self, BATCH_REQUESTS_MAX, Request},
    until_closed,
    views::{self, Views},
};
use crate::command::CommandId;

/// Versions that wait for their turn in the stream index: few, so that a test of a few commands goes through all of it.
const WAITING_VERSIONS_MAX: usize = 8;

/// How often the lock that another program has is tried.
const BUSY_RETRY: Duration = Duration::from_millis(5);
/// How often it is looked, where nobody asks for anything, whether there is room again.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// What survives a crash. Clones are the same disk.
#[derive(Clone)]
pub struct MemoryDisk {
    connection: Arc<Mutex<Connection>>,
    /// Held by the journal that is open on it: one writer per disk.
    in_use: Arc<tokio::sync::Mutex<()>>,
}

impl MemoryDisk {
    /// An empty disk with the tables of the journal and of the read model `views`.
    ///
    /// # Errors
    /// [`JournalError::Storage`] when `views` is not the SQL it should be.
    pub fn new(views: impl Into<Views>) -> Result<Self, JournalError> {
        let storage = |error: rusqlite::Error| JournalError::Storage(error.to_string());
        let newer = |found| JournalError::Storage(format!("a new disk has layout {found}"));
        let mut connection = Connection::open_in_memory().map_err(storage)?;
        connection.execute_batch("PRAGMA foreign_keys = ON;").map_err(storage)?;
        schema::bring_up_to_date(&mut connection).map_err(storage)?.map_err(newer)?;
        connection.set_prepared_statement_cache_capacity(reads::STATEMENTS_MAX);
        let disk = Self { connection: Arc::new(Mutex::new(connection)), in_use: Arc::default() };
        disk.bring_views_up_to_date(views)?;
        Ok(disk)
    }

    /// Brings the read model to another form, as a build does that is started on this disk. No journal may be open on it.
    ///
    /// # Errors
    /// [`JournalError::Storage`] when that cannot be done.
    pub fn bring_views_up_to_date(&self, views: impl Into<Views>) -> Result<(), JournalError> {
        let mut connection = self.lock();
        let index = StreamIndex::recover(&connection, WAITING_VERSIONS_MAX).map_err(reads::query_error)?;
        views::bring_up_to_date(&mut connection, &index, views.into(), &ProgressSender::default())
            .map_err(|error| JournalError::Storage(error.to_string()))
    }

    /// All events, in the order of commits: what is durable, whatever the journal on it is doing.
    ///
    /// # Errors
    /// [`JournalError::Query`] when they cannot be read.
    pub fn events(&self) -> Result<Vec<Recorded>, JournalError> {
        reads::read_after(&self.lock(), 0, i64::MAX as usize)
    }

    /// Asks the read model, or the journal's own tables, as they are on the disk.
    ///
    /// # Errors
    /// As [`Journal::query`].
    pub fn query(&self, sql: &str, params: &[SqlValue]) -> Result<Vec<Row>, JournalError> {
        reads::query(&self.lock(), sql, params)
    }

    /// How SQLite would do `sql`: the steps of its plan.
    ///
    /// # Errors
    /// [`JournalError::Query`] when it is wrong.
    pub fn plan(&self, sql: &str) -> Result<Vec<String>, JournalError> {
        let steps = |connection: &Connection| {
            let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
            let mut rows = statement.raw_query();
            let mut steps = Vec::new();
            while let Some(row) = rows.next()? {
                steps.push(row.get(3)?);
            }
            Ok(steps)
        };
        steps(&self.lock()).map_err(reads::query_error)
    }

    /// Changes the disk behind the journal's back, as bit rot or a wrong hand does.
    ///
    /// # Errors
    /// [`JournalError::Query`] when `sql` is wrong.
    pub fn tamper(&self, sql: &str) -> Result<(), JournalError> {
        self.lock().execute_batch(sql).map_err(|error| JournalError::Query(error.to_string()))
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A journal on a [`MemoryDisk`]; see the module's text.
pub struct MemoryJournal {
    requests: mpsc::UnboundedSender<Request>,
    disk: MemoryDisk,
    index: Arc<StreamIndex>,
    faults: Faults,
    committed: watch::Receiver<Position>,
    closed: watch::Receiver<Option<JournalError>>,
    is_open: Arc<AtomicBool>,
    is_closing: Arc<AtomicBool>,
    health: Arc<HealthBoard>,
    identity: LogIdentity,
    contradictions: Contradictions,
}

impl MemoryJournal {
    /// Opens the disk, once the journal that was open on it has closed.
    ///
    /// # Errors
    /// [`JournalError::Query`] when its tables have been tampered with.
    pub async fn open(disk: &MemoryDisk, faults: Faults) -> Result<Arc<Self>, JournalError> {
        let in_use = Arc::clone(&disk.in_use).lock_owned().await;
        let newest = ends::newest_position(&disk.lock()).map_err(reads::query_error)?;
        let identity = schema::identity_of(&disk.lock()).map_err(reads::query_error)?;
        let contradictions = Contradictions::default();
        let index = StreamIndex::recover(&disk.lock(), WAITING_VERSIONS_MAX).map_err(reads::query_error)?;
        let index = Arc::new(index);
        let (requests, inbox) = mpsc::unbounded_channel();
        let (committed_sender, committed) = watch::channel(newest);
        let (closed_sender, closed) = watch::channel(None);
        let is_open = Arc::new(AtomicBool::new(true));
        let is_closing = Arc::new(AtomicBool::new(false));
        let health = Arc::new(HealthBoard::default());
        let committer = Committer {
            disk: disk.clone(),
            index: Arc::clone(&index),
            faults: faults.clone(),
            inbox,
            committed: committed_sender,
            closed: closed_sender,
            is_open: Arc::clone(&is_open),
            is_closing: Arc::clone(&is_closing),
            health: Arc::clone(&health),
            contradictions: contradictions.clone(),
            in_use,
        };
        tokio::spawn(committer.run());
        let disk = disk.clone();
        Ok(Arc::new(Self {
            requests,
            disk,
            index,
            faults,
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
        if let Err(unsent) = self.requests.send(request) {
            unsent.0.refuse(&JournalError::Closed);
        }
    }

    fn read<T: Send + 'static>(
        &self,
        of: Arc<str>,
        job: impl FnOnce(&Connection) -> Result<T, JournalError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, JournalError>> {
        let (disk, faults, is_open) = (self.disk.clone(), self.faults.clone(), Arc::clone(&self.is_open));
        async move {
            faults.read_pause(&of).await;
            if !is_open.load(Ordering::Acquire) {
                return Err(JournalError::Closed);
            }
            job(&disk.lock())
        }
        .boxed()
    }
}

impl Journal for MemoryJournal {
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
        self.read(Arc::clone(&stream), move |connection| reads::load_stream(connection, &index, &stream, seen_max))
    }

    fn events(&self, stream: Arc<str>) -> BoxFuture<'static, Result<Vec<Recorded>, JournalError>> {
        let index = Arc::clone(&self.index);
        self.read(Arc::clone(&stream), move |connection| reads::all_events_of(connection, &index, &stream))
    }

    fn read_after(&self, position: Position, limit: usize) -> BoxFuture<'static, Result<Vec<Recorded>, JournalError>> {
        self.read("commits".into(), move |connection| reads::read_after(connection, position, limit))
    }

    fn committed(&self) -> watch::Receiver<Position> {
        self.committed.clone()
    }

    fn query(&self, sql: &'static str, params: Vec<SqlValue>) -> BoxFuture<'static, Result<Vec<Row>, JournalError>> {
        self.read(sql.into(), move |connection| reads::query(connection, sql, &params))
    }

    fn identity(&self) -> LogIdentity {
        self.identity
    }

    fn contradictions(&self) -> Contradictions {
        self.contradictions.clone()
    }

    fn position_of(&self, subscription: Arc<str>) -> BoxFuture<'static, Result<LogMark, JournalError>> {
        self.read(Arc::clone(&subscription), move |connection| reads::position_of(connection, &subscription))
    }

    fn store_position(&self, subscription: Arc<str>, mark: LogMark) -> BoxFuture<'static, Result<(), JournalError>> {
        settled(|settle| self.send(Request::StorePosition { subscription, mark, settle }))
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
        let _ = self.requests.send(Request::Close);
        let closed = self.closed();
        async move {
            closed.await;
        }
        .boxed()
    }
}

/// The task that commits.
struct Committer {
    disk: MemoryDisk,
    index: Arc<StreamIndex>,
    faults: Faults,
    inbox: mpsc::UnboundedReceiver<Request>,
    committed: watch::Sender<Position>,
    closed: watch::Sender<Option<JournalError>>,
    is_open: Arc<AtomicBool>,
    is_closing: Arc<AtomicBool>,
    health: Arc<HealthBoard>,
    contradictions: Contradictions,
    in_use: OwnedMutexGuard<()>,
}

impl Committer {
    async fn run(mut self) {
        let mut batch = Vec::new();
        let end = loop {
            match self.next_request().await {
                Ok(Some(request)) => batch.push(request),
                Ok(None) => break JournalError::Closed,
                Err(_) => continue,
            }
            self.faults.commit_pause().await;
            while batch.len() < BATCH_REQUESTS_MAX
                && let Ok(request) = self.inbox.try_recv()
            {
                batch.push(request);
            }
            let is_last = batch.iter().any(|request| matches!(request, Request::Close));
            self.wait_for_the_lock().await;
            if let Err(failure) = self.serve(&mut batch) {
                break failure;
            }
            if is_last {
                break JournalError::Closed;
            }
        };
        self.is_open.store(false, Ordering::Release);
        self.inbox.close();
        while let Ok(request) = self.inbox.try_recv() {
            request.refuse(&end);
        }
        drop(self.in_use);
        self.closed.send_replace(Some(end));
    }

    /// In trouble it looks from time to time whether that is over, though nobody asks for anything.
    async fn next_request(&mut self) -> Result<Option<Request>, Elapsed> {
        if self.health.reading().trouble.is_none() {
            return Ok(self.inbox.recv().await);
        }
        let request = timeout(TRY_AGAIN_AFTER, self.inbox.recv()).await;
        self.health.set_trouble(self.faults.present_trouble());
        request
    }

    /// As the writer on disk does while another program has the lock.
    async fn wait_for_the_lock(&self) {
        while self.faults.present_trouble() == Some(Trouble::Busy) && !self.is_closing.load(Ordering::Acquire) {
            self.health.set_trouble(Some(Trouble::Busy));
            tokio::time::sleep(BUSY_RETRY).await;
        }
    }

    fn serve(&self, batch: &mut Vec<Request>) -> Result<(), JournalError> {
        let writes = batch.iter().any(|request| matches!(request, Request::Append(_) | Request::StorePosition { .. }));
        let fault = if writes { self.faults.next_commit() } else { None };
        match fault {
            Some(CommitFault::Lost) => {
                return Err(self.fail(batch, JournalError::Storage("the commit was not made".to_owned())));
            }
            Some(CommitFault::Fatal) => {
                return Err(self.fail(batch, JournalError::Fatal("the sync has failed".to_owned())));
            }
            Some(CommitFault::Unacknowledged) | None => {}
        }
        let mut refused: Vec<_> = batch.iter().map(|request| self.refusal_of(request)).collect();
        let trouble = self.faults.present_trouble();
        self.health.set_trouble(trouble);
        if let Some(trouble) = trouble {
            let refusal = match trouble {
                Trouble::Busy => JournalError::Busy,
                Trouble::Full => JournalError::Full,
            };
            transaction::refuse_writes(batch, &mut refused, &refusal);
        }
        transaction::refuse_contradicted(&self.contradictions, batch, &mut refused);
        let committed = {
            let connection = self.disk.lock();
            transaction::commit(&connection, &self.index, batch, &mut refused)
        };
        let committed = match committed {
            Ok(committed) => committed,
            Err(failed) => return Err(self.fail(batch, JournalError::Storage(failed.error.to_string()))),
        };
        if fault == Some(CommitFault::Unacknowledged) {
            let failure = JournalError::Storage("the commit was made and nobody heard of it".to_owned());
            return Err(self.fail(batch, failure));
        }
        let settled = transaction::outcomes(&self.disk.lock(), &self.index, batch, refused);
        if let Some(newest) = committed.newest {
            self.committed.send_replace(newest);
        }
        for settled in settled {
            settled.run();
        }
        Ok(())
    }

    fn refusal_of(&self, request: &Request) -> Option<JournalError> {
        let Request::Append(append) = request else { return None };
        if append.fence.is_raised() || !self.faults.refuses(append) {
            return None;
        }
        append.fence.raise();
        Some(JournalError::Conflict("another writer was here, by order of the test".to_owned()))
    }

    fn fail(&self, batch: &mut Vec<Request>, failure: JournalError) -> JournalError {
        self.is_open.store(false, Ordering::Release);
        for request in batch.drain(..) {
            request.refuse(&failure);
        }
        failure
    }
}
