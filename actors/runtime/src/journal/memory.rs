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
    collections::HashMap,
    ops::RangeInclusive,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use rusqlite::Connection;
use tokio::sync::{OwnedMutexGuard, mpsc, oneshot, watch};

use super::{
    Append, Journal, JournalError, Loaded, Position, Recorded, RecordedOutcome, Row, Settle, SqlValue,
    progress::ProgressSender,
    reads, schema, settled,
    stream_index::StreamIndex,
    transaction::{self, BATCH_REQUESTS_MAX, Request},
    until_closed,
    views::{self, Views},
};
use crate::{
    command::CommandId,
    testkit::{Random, TimeSlot},
};

/// Versions that wait for their turn in the stream index: few, so that a test of a few commands goes through all of it.
const WAITING_VERSIONS_MAX: usize = 8;

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

/// How a commit goes wrong. Either way the journal closes and acknowledges nothing of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitFault {
    /// It is not made: the batch is lost.
    Lost,
    /// It is made, but nobody hears of it: the power went between the commit and the acknowledgements.
    Unacknowledged,
}

#[derive(Default)]
struct Plan {
    seed: u64,
    random: Option<Random>,
    slot: Option<TimeSlot>,
    refuse_next: u32,
    refuse_probability: f64,
    fail_next_commit: Option<CommitFault>,
    fail_probability: f64,
    commit_delay: Option<RangeInclusive<Duration>>,
    read_delay: Option<RangeInclusive<Duration>>,
    appends: HashMap<Arc<str>, u64>,
    reads: HashMap<Arc<str>, u64>,
}

/// What goes wrong in a journal: scripted (`…_next`), or drawn from a seed. Clones steer the same journal, also after it is
/// opened again.
#[derive(Clone, Default)]
pub struct Faults(Arc<Mutex<Plan>>);

impl Faults {
    /// None, until some are asked for.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// None as yet; what is asked for as a probability or a range is drawn from `seed`.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        let plan = Plan { seed, random: Some(Random::labelled(seed, "journal", 0)), ..Plan::default() };
        Self(Arc::new(Mutex::new(plan)))
    }

    /// Lets the journal's commits happen at one participant's turns only; see [`TimeSlot`].
    #[must_use]
    pub fn at(self, slot: TimeSlot) -> Self {
        self.plan().slot = Some(slot);
        self
    }

    /// Refuses the next `appends` writes with [`JournalError::Conflict`], as if another writer had been there first.
    pub fn refuse_next(&self, appends: u32) {
        self.plan().refuse_next = appends;
    }

    /// Refuses each write with this probability, with [`JournalError::Conflict`].
    pub fn refuse_each_with(&self, probability: f64) {
        self.plan().refuse_probability = probability;
    }

    /// Lets the next commit fail, and with it the journal.
    pub fn fail_next_commit(&self, fault: CommitFault) {
        self.plan().fail_next_commit = Some(fault);
    }

    /// Lets each commit fail with this probability, and with it the journal; half of them after they were made.
    pub fn fail_each_commit_with(&self, probability: f64) {
        self.plan().fail_probability = probability;
    }

    /// Lets each commit take this long, in whole milliseconds of tokio's clock.
    pub fn delay_commits(&self, range: RangeInclusive<Duration>) {
        self.plan().commit_delay = Some(range);
    }

    /// Lets each read take this long.
    pub fn delay_reads(&self, range: RangeInclusive<Duration>) {
        self.plan().read_delay = Some(range);
    }

    /// No more faults and no more delays.
    pub fn heal(&self) {
        let mut plan = self.plan();
        let Plan { seed, random, slot, .. } = std::mem::take(&mut *plan);
        *plan = Plan { seed, random, slot, ..Plan::default() };
    }

    async fn commit_pause(&self) {
        let (slot, pause) = {
            let plan = &mut *self.plan();
            let random = plan.random.get_or_insert(Random::new(plan.seed));
            (plan.slot, plan.commit_delay.as_ref().map(|range| random.duration(range)))
        };
        match (slot, pause) {
            (Some(slot), pause) => slot.wait(pause.unwrap_or_default()).await,
            (None, Some(pause)) => tokio::time::sleep(pause).await,
            (None, None) => {}
        }
    }

    async fn read_pause(&self, of: &Arc<str>) {
        let pause = {
            let plan = &mut *self.plan();
            plan.read_delay.clone().map(|range| {
                let number = count(&mut plan.reads, of);
                Random::labelled(plan.seed, of, number).duration(&range)
            })
        };
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
        }
    }

    fn next_commit(&self) -> Option<CommitFault> {
        let plan = &mut *self.plan();
        if let Some(fault) = plan.fail_next_commit.take() {
            return Some(fault);
        }
        if plan.fail_probability == 0.0 {
            return None;
        }
        let random = plan.random.get_or_insert(Random::new(plan.seed));
        let fault = if random.chance(0.5) { CommitFault::Lost } else { CommitFault::Unacknowledged };
        random.chance(plan.fail_probability).then_some(fault)
    }

    fn refuses(&self, append: &Append) -> bool {
        let plan = &mut *self.plan();
        if plan.refuse_next > 0 {
            plan.refuse_next -= 1;
            return true;
        }
        if plan.refuse_probability == 0.0 {
            return false;
        }
        // Drawn by stream and number, so that it does not depend on which stream was first in the batch.
        let number = count(&mut plan.appends, &append.stream);
        Random::labelled(plan.seed, &append.stream, number).chance(plan.refuse_probability)
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(counts: &mut HashMap<Arc<str>, u64>, of: &Arc<str>) -> u64 {
    let count = counts.entry(Arc::clone(of)).or_default();
    *count += 1;
    *count
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
}

impl MemoryJournal {
    /// Opens the disk, once the journal that was open on it has closed.
    ///
    /// # Errors
    /// [`JournalError::Query`] when its tables have been tampered with.
    pub async fn open(disk: &MemoryDisk, faults: Faults) -> Result<Arc<Self>, JournalError> {
        let in_use = Arc::clone(&disk.in_use).lock_owned().await;
        let newest = reads::newest_position(&disk.lock()).map_err(reads::query_error)?;
        let index = StreamIndex::recover(&disk.lock(), WAITING_VERSIONS_MAX).map_err(reads::query_error)?;
        let index = Arc::new(index);
        let (requests, inbox) = mpsc::unbounded_channel();
        let (committed_sender, committed) = watch::channel(newest);
        let (closed_sender, closed) = watch::channel(None);
        let is_open = Arc::new(AtomicBool::new(true));
        let committer = Committer {
            disk: disk.clone(),
            index: Arc::clone(&index),
            faults: faults.clone(),
            inbox,
            committed: committed_sender,
            closed: closed_sender,
            is_open: Arc::clone(&is_open),
            in_use,
        };
        tokio::spawn(committer.run());
        Ok(Arc::new(Self { requests, disk: disk.clone(), index, faults, committed, closed, is_open }))
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

    fn position_of(&self, subscription: Arc<str>) -> BoxFuture<'static, Result<Position, JournalError>> {
        self.read(Arc::clone(&subscription), move |connection| reads::position_of(connection, &subscription))
    }

    fn store_position(
        &self,
        subscription: Arc<str>,
        position: Position,
    ) -> BoxFuture<'static, Result<(), JournalError>> {
        settled(|settle| self.send(Request::StorePosition { subscription, position, settle }))
    }

    fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    fn closed(&self) -> BoxFuture<'static, JournalError> {
        until_closed(self.closed.clone())
    }

    fn close(&self) -> BoxFuture<'static, ()> {
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
    in_use: OwnedMutexGuard<()>,
}

impl Committer {
    async fn run(mut self) {
        let mut batch = Vec::new();
        let end = loop {
            match self.inbox.recv().await {
                Some(request) => batch.push(request),
                None => break JournalError::Closed,
            }
            self.faults.commit_pause().await;
            while batch.len() < BATCH_REQUESTS_MAX
                && let Ok(request) = self.inbox.try_recv()
            {
                batch.push(request);
            }
            let is_last = batch.iter().any(|request| matches!(request, Request::Close));
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

    fn serve(&self, batch: &mut Vec<Request>) -> Result<(), JournalError> {
        let writes = batch.iter().any(|request| matches!(request, Request::Append(_) | Request::StorePosition { .. }));
        let fault = if writes { self.faults.next_commit() } else { None };
        if fault == Some(CommitFault::Lost) {
            return Err(self.fail(batch, "the commit was not made".to_owned()));
        }
        let mut refused: Vec<_> = batch.iter().map(|request| self.refusal_of(request)).collect();
        let committed = {
            let connection = self.disk.lock();
            transaction::commit(&connection, &self.index, batch, &mut refused)
        };
        let committed = match committed {
            Ok(committed) => committed,
            Err(failed) => return Err(self.fail(batch, failed.error.to_string())),
        };
        if fault == Some(CommitFault::Unacknowledged) {
            return Err(self.fail(batch, "the commit was made and nobody heard of it".to_owned()));
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

    fn fail(&self, batch: &mut Vec<Request>, reason: String) -> JournalError {
        let failure = JournalError::Storage(reason);
        self.is_open.store(false, Ordering::Release);
        for request in batch.drain(..) {
            request.refuse(&failure);
        }
        failure
    }
}
