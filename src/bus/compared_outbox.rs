//! A journal as a relay's outbox that says where the relay stands only once the journal fits what its topics have.
//!
//! A relay asks for its position before it writes anything, and again while it gets none. Where the topics have more of this log than
//! the log itself, or of another, the log is told so, which keeps it from taking appends, and the relay gets no position: it
//! would write another history behind the first.

use std::sync::Arc;

use bridge::{
    ports::{Outbox, OutboxEntry},
    relay::{JournalOutbox, provenance::compare_with_written},
};
use contracts::Service;
use futures::future::BoxFuture;
use runtime::{Journal, journal::identity::Contradiction};
use tokio::sync::watch;

use super::kafka::{KafkaBus, RELAY};

/// What is said of a log of which its topics have another history.
pub fn says_otherwise(service: Service, contradiction: &Contradiction) -> String {
    format!("what its topics have of {service} does not fit {service}'s log: {contradiction}")
}

/// See the module's text.
pub struct ComparedOutbox {
    inner: Arc<JournalOutbox>,
    service: Service,
    home: Arc<dyn Journal>,
    bus: Arc<KafkaBus>,
}

impl ComparedOutbox {
    pub fn new(inner: JournalOutbox, service: Service, home: Arc<dyn Journal>, bus: Arc<KafkaBus>) -> Self {
        Self { inner: Arc::new(inner), service, home, bus }
    }
}

impl Outbox for ComparedOutbox {
    fn read_after(&self, position: u64, limit: usize) -> BoxFuture<'static, Result<Vec<OutboxEntry>, String>> {
        self.inner.read_after(position, limit)
    }

    fn newest(&self) -> watch::Receiver<u64> {
        self.inner.newest()
    }

    fn position(&self, relay: Arc<str>) -> BoxFuture<'static, Result<u64, String>> {
        let (inner, service) = (Arc::clone(&self.inner), self.service);
        let (home, bus) = (Arc::clone(&self.home), Arc::clone(&self.bus));
        Box::pin(async move {
            let written = bus.last_written(service).await?;
            let compared = compare_with_written(&written, &*home).await.map_err(|error| error.to_string())?;
            if let Err(contradiction) = compared {
                let reason = says_otherwise(service, &contradiction);
                home.contradictions().raise(RELAY, &reason);
                return Err(reason);
            }
            home.contradictions().withdraw(RELAY);
            inner.position(relay).await
        })
    }

    fn store_position(&self, relay: Arc<str>, position: u64) -> BoxFuture<'static, Result<(), String>> {
        self.inner.store_position(relay, position)
    }
}
