//! A runtime's journal as an outbox: its events, made into records by a pure function.
//!
//! It owns nothing: the journal is the list, and keeps the relay's position too. When the journal closes, so does what wakes
//! the relay, which then ends and is started again by its supervisor with whatever journal there is by then.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use runtime::{Journal, JournalError, LogMark, Recorded};
use tokio::sync::watch;

use crate::{
    ports::{Outbox, OutboxEntry},
    record::OutgoingRecord,
};

/// How long the journal may take for one answer.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(10);

/// Which records an event gives rise to, those of no interest left out: the same ones each time, with the same ids.
pub type ToRecords = Arc<dyn Fn(Recorded) -> Vec<OutgoingRecord> + Send + Sync>;

/// Adds to events, before records are made of them, what those of older builds lack: the same each time.
pub type Prepare = Arc<dyn Fn(Vec<Recorded>) -> BoxFuture<'static, Result<Vec<Recorded>, JournalError>> + Send + Sync>;

/// See the module's text.
pub struct JournalOutbox {
    journal: Arc<dyn Journal>,
    prepare: Option<Prepare>,
    to_records: ToRecords,
}

impl JournalOutbox {
    /// The journal's events as `to_records` makes them.
    pub fn new(
        journal: Arc<dyn Journal>,
        to_records: impl Fn(Recorded) -> Vec<OutgoingRecord> + Send + Sync + 'static,
    ) -> Self {
        Self { journal, prepare: None, to_records: Arc::new(to_records) }
    }

    /// The same, with every batch of events going through `prepare` first.
    #[must_use]
    pub fn prepared_by(mut self, prepare: Prepare) -> Self {
        self.prepare = Some(prepare);
        self
    }
}

impl Outbox for JournalOutbox {
    fn read_after(&self, position: u64, limit: usize) -> BoxFuture<'static, Result<Vec<OutboxEntry>, String>> {
        let (events, to_records) = (self.journal.read_after(position, limit), Arc::clone(&self.to_records));
        let prepare = self.prepare.clone();
        Box::pin(async move {
            let entry = |event: Recorded| OutboxEntry { position: event.position, records: to_records(event) };
            let mut events = in_time(events).await?;
            if let Some(prepare) = prepare {
                events = in_time(prepare(events)).await?;
            }
            Ok(events.into_iter().map(entry).collect())
        })
    }

    fn newest(&self) -> watch::Receiver<u64> {
        self.journal.committed()
    }

    fn position(&self, relay: Arc<str>) -> BoxFuture<'static, Result<u64, String>> {
        let mark = in_time(self.journal.position_of(relay));
        Box::pin(async move { Ok(mark.await?.position) })
    }

    fn store_position(&self, relay: Arc<str>, position: u64) -> BoxFuture<'static, Result<(), String>> {
        let (journal, digest) = (Arc::clone(&self.journal), in_time(self.journal.digest_at(position)));
        Box::pin(async move {
            let digest = digest.await?.ok_or_else(|| format!("the log has no event at position {position}"))?;
            in_time(journal.store_position(relay, LogMark::new(journal.identity(), position, digest))).await
        })
    }
}

async fn in_time<T>(answer: BoxFuture<'static, Result<T, JournalError>>) -> Result<T, String> {
    match tokio::time::timeout(ANSWER_WAIT_MAX, answer).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("the journal did not answer within {} s", ANSWER_WAIT_MAX.as_secs())),
    }
}
