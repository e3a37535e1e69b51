//! A journal that stores nothing and settles at once: it takes the disk out of a measurement, and promises nothing.

use std::{future, sync::Arc};

use futures::{FutureExt, future::BoxFuture};
use runtime::{
    CommandId, Journal, JournalError, Position, Recorded, Row, SqlValue,
    journal::{
        Append, Loaded, RecordedOutcome, Settle,
        contradictions::Contradictions,
        identity::{LogIdentity, LogMark},
    },
};
use tokio::sync::watch;

/// See the module's text. Every stream is empty and stays so.
pub struct ForgetfulJournal {
    committed: watch::Sender<Position>,
    identity: LogIdentity,
    contradictions: Contradictions,
}

impl ForgetfulJournal {
    /// One.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let identity = LogIdentity::generate().expect("the system has random bits");
        Arc::new(Self { committed: watch::Sender::new(0), identity, contradictions: Contradictions::default() })
    }
}

fn at_once<T: Send + 'static>(value: T) -> BoxFuture<'static, Result<T, JournalError>> {
    future::ready(Ok(value)).boxed()
}

impl Journal for ForgetfulJournal {
    fn append(&self, append: Append) {
        (append.settle)(Ok(()));
    }

    fn after_queued(&self, settle: Settle) {
        settle(Ok(()));
    }

    fn outcome(&self, _: Arc<str>, _: CommandId, _: Option<u64>) -> BoxFuture<'static, RecordedOutcome> {
        at_once(None)
    }

    fn load(&self, _: Arc<str>, _: usize) -> BoxFuture<'static, Result<Loaded, JournalError>> {
        at_once(Loaded { seen_is_complete: true, ..Loaded::default() })
    }

    fn events(&self, _: Arc<str>) -> BoxFuture<'static, Result<Vec<Recorded>, JournalError>> {
        at_once(Vec::new())
    }

    fn read_after(&self, _: Position, _: usize) -> BoxFuture<'static, Result<Vec<Recorded>, JournalError>> {
        at_once(Vec::new())
    }

    fn committed(&self) -> watch::Receiver<Position> {
        self.committed.subscribe()
    }

    fn query(&self, _: &'static str, _: Vec<SqlValue>) -> BoxFuture<'static, Result<Vec<Row>, JournalError>> {
        at_once(Vec::new())
    }

    fn identity(&self) -> LogIdentity {
        self.identity
    }

    fn contradictions(&self) -> Contradictions {
        self.contradictions.clone()
    }

    fn position_of(&self, _: Arc<str>) -> BoxFuture<'static, Result<LogMark, JournalError>> {
        at_once(LogMark::default())
    }

    fn store_position(&self, _: Arc<str>, _: LogMark) -> BoxFuture<'static, Result<(), JournalError>> {
        at_once(())
    }

    fn is_open(&self) -> bool {
        true
    }

    fn closed(&self) -> BoxFuture<'static, JournalError> {
        future::pending().boxed()
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        future::ready(()).boxed()
    }
}
