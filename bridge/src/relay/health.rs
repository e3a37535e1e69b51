//! What operators see of a relay.

use std::sync::Arc;

use tokio::sync::watch;

/// A relay's state at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RelayHealth {
    /// It has read its position and is at work.
    pub is_running: bool,
    /// Up to where everything is written, and stored as such.
    pub position: u64,
    /// The newest position in the outbox.
    pub newest: u64,
    /// Positions that are not known to be written: an upper bound of the events that wait.
    pub lag: u64,
    /// Records read and not all written.
    pub span: usize,
    /// Records on their way to the log.
    pub in_flight: usize,
    /// Keys that wait after a failure.
    pub parked_keys: usize,
    /// The one of them that has waited for the longest time.
    pub longest_parked: Option<ParkedKey>,
    /// Records written since the start.
    pub written: u64,
    /// Failures after which a record was sent again, since the start.
    pub retries: u64,
    /// Records set aside since the start.
    pub set_aside: u64,
    /// The last failure, of the log or of the outbox; it stays until another one comes.
    pub last_error: Option<String>,
}

/// A key that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedKey {
    /// The topic.
    pub topic: Arc<str>,
    /// The key, as text as far as it is text.
    pub key: String,
    /// The outbox's position of the record in the way.
    pub position: u64,
    /// For how long it has been failing, in milliseconds.
    pub waiting_ms: u64,
    /// How often in a row.
    pub failures: u32,
    /// Why.
    pub reason: String,
}

/// Where a relay writes its health and others read it; it outlives restarts of the relay.
#[derive(Clone, Debug)]
pub struct RelayBoard(Arc<watch::Sender<RelayHealth>>);

impl Default for RelayBoard {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(RelayHealth::default())))
    }
}

impl RelayBoard {
    /// The newest state; some tens of milliseconds old at most while the relay lives.
    #[must_use]
    pub fn health(&self) -> RelayHealth {
        self.0.borrow().clone()
    }

    /// To wait for a change.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<RelayHealth> {
        self.0.subscribe()
    }

    pub(super) fn write(&self, health: RelayHealth) {
        self.0.send_if_modified(|old| {
            let is_new = *old != health;
            *old = health;
            is_new
        });
    }
}
