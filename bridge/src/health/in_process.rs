//! Pings and pongs within one process, for when there is no broker.
//!
//! **Owns** the list of open ends. A ping is delivered by calling the service's listener, a pong by calling every gateway's:
//! there is no queue, hence nothing to bound. **Nobody supervises** it: it has no thread and cannot die.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::transport::{BusUnreachable, GatewayEnd, HealthTransport, Listener, ServiceEnd, TransportError};
use super::wire::{PING_VALUE, Pong};

/// The transport of one process. Clones share their ends.
#[derive(Clone, Default)]
pub struct InProcessHealth {
    ends: Arc<Mutex<Ends>>,
}

#[derive(Default)]
struct Ends {
    last_id: u64,
    gateways: Vec<OpenEnd>,
    services: Vec<(String, OpenEnd)>,
}

struct OpenEnd {
    id: u64,
    listener: Arc<dyn Listener>,
}

struct InProcessEnd {
    id: u64,
    ends: Arc<Mutex<Ends>>,
}

impl InProcessHealth {
    /// A transport without ends.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn open(&self, add: impl FnOnce(&mut Ends, u64)) -> InProcessEnd {
        let mut ends = lock(&self.ends);
        ends.last_id += 1;
        let id = ends.last_id;
        add(&mut ends, id);
        InProcessEnd { id, ends: Arc::clone(&self.ends) }
    }
}

impl HealthTransport for InProcessHealth {
    fn open_gateway(&self, listener: Arc<dyn Listener>) -> Result<Box<dyn GatewayEnd>, TransportError> {
        Ok(Box::new(self.open(|ends, id| ends.gateways.push(OpenEnd { id, listener }))))
    }

    fn open_service(&self, service: &str, listener: Arc<dyn Listener>) -> Result<Box<dyn ServiceEnd>, TransportError> {
        Ok(Box::new(self.open(|ends, id| ends.services.push((service.to_owned(), OpenEnd { id, listener })))))
    }

    fn reach(&self, _now: Instant) -> Result<(), BusUnreachable> {
        Ok(())
    }
}

impl GatewayEnd for InProcessEnd {
    fn ping(&self, service: &str) {
        let listeners: Vec<_> = {
            let ends = lock(&self.ends);
            ends.services.iter().filter(|(name, _)| name == service).map(|(_, end)| Arc::clone(&end.listener)).collect()
        };
        // the lock is free again: a listener may open or drop ends
        listeners.iter().for_each(|listener| listener.heard(PING_VALUE));
    }
}

impl ServiceEnd for InProcessEnd {
    fn pong(&self, pong: &Pong) {
        let listeners: Vec<_> = lock(&self.ends).gateways.iter().map(|end| Arc::clone(&end.listener)).collect();
        let value = pong.to_bytes();
        listeners.iter().for_each(|listener| listener.heard(&value));
    }
}

impl Drop for InProcessEnd {
    fn drop(&mut self) {
        let mut ends = lock(&self.ends);
        let gateway = take_end(&mut ends.gateways, |end| end.id == self.id);
        let service = take_end(&mut ends.services, |(_, end)| end.id == self.id);
        drop(ends);
        // listeners are dropped outside the lock: what they own may hold an end of its own
        drop((gateway, service));
    }
}

fn take_end<T>(ends: &mut Vec<T>, is_it: impl FnMut(&T) -> bool) -> Option<T> {
    ends.iter().position(is_it).map(|index| ends.remove(index))
}

fn lock(ends: &Mutex<Ends>) -> MutexGuard<'_, Ends> {
    ends.lock().unwrap_or_else(PoisonError::into_inner)
}
