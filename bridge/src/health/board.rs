//! The latest pongs of all services, shared between the pinger that fills it and everybody who reads it.
//!
//! **Owns** one [`HealthDirectory`] behind a lock that is held for microseconds. It outlives pingers: the composition root makes
//! it once, a restarted pinger goes on with it, and readers never notice.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::directory::{HealthDirectory, HealthReport, ServiceHealth};
use super::transport::{BusUnreachable, HealthTransport};

/// Where pongs are kept, and the bus over which they come. Clones are the same board.
#[derive(Clone)]
pub struct HealthBoard {
    transport: Arc<dyn HealthTransport>,
    directory: Arc<Mutex<HealthDirectory>>,
    services: Arc<[String]>,
}

/// The read side of a [`HealthBoard`]. Cheap to clone; never waits.
#[derive(Clone)]
pub struct HealthReader {
    board: HealthBoard,
}

impl HealthBoard {
    /// A board for these services. `services` are pinged and listed, in this order, whether they answer or not.
    #[must_use]
    pub fn new(transport: Arc<dyn HealthTransport>, services: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let directory = HealthDirectory::new(services);
        let services = directory.expected().into();
        Self { transport, directory: Arc::new(Mutex::new(directory)), services }
    }

    /// The read side.
    #[must_use]
    pub fn reader(&self) -> HealthReader {
        HealthReader { board: self.clone() }
    }

    pub(super) fn transport(&self) -> &dyn HealthTransport {
        &*self.transport
    }

    pub(super) fn services(&self) -> &[String] {
        &self.services
    }

    pub(super) fn record(&self, value: &[u8]) {
        if let Err(rejected) = self.lock().record(value, Instant::now()) {
            tracing::debug!(%rejected, bytes = value.len(), "bad pong ignored");
        }
    }

    fn lock(&self) -> MutexGuard<'_, HealthDirectory> {
        self.directory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HealthReader {
    /// The health of all services now, from the latest pongs. Answers at once; never asks the bus.
    ///
    /// # Errors
    /// [`BusUnreachable`] when pings do not get through: then nothing is known of the services.
    pub fn report(&self) -> Result<HealthReport, BusUnreachable> {
        let now = Instant::now();
        self.board.transport.reach(now)?;
        Ok(self.board.lock().report(now))
    }

    /// What one service said last, fresh or not; also while the bus is away.
    #[must_use]
    pub fn last_heard(&self, service: &str) -> Option<ServiceHealth> {
        self.board.lock().last_heard(service, Instant::now())
    }

    /// How many records on the pong topic were none, since the start.
    #[must_use]
    pub fn bad_pongs(&self) -> u64 {
        self.board.lock().bad_pongs()
    }
}
