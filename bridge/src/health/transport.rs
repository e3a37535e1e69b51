//! How pings and pongs travel: the port that the two transports implement.
//!
//! **Owns** nothing but the words. [`super::InProcessHealth`] and [`super::KafkaHealth`] implement it and pass the same suite
//! (`tests/health_conformance.rs`). Actors hold *ends*; dropping an end closes it, and what arrives afterwards is not delivered.
//!
//! Nothing here waits: sending returns at once and may lose the message. A lost ping or pong is made good by the next one.

use std::sync::Arc;
use std::time::Instant;

use super::wire::Pong;

/// A way for pings and pongs.
pub trait HealthTransport: Send + Sync + 'static {
    /// The gateway's end: sends pings, hears every pong that is written from about now on.
    ///
    /// # Errors
    /// [`TransportError`]; an absent broker is none: the end catches up when it is there.
    fn open_gateway(&self, pongs: Arc<dyn Listener>) -> Result<Box<dyn GatewayEnd>, TransportError>;

    /// One service's end: hears the pings of `service` and of no other, sends its pongs.
    ///
    /// # Errors
    /// [`TransportError`]; an absent broker is none: the end catches up when it is there.
    fn open_service(&self, service: &str, pings: Arc<dyn Listener>) -> Result<Box<dyn ServiceEnd>, TransportError>;

    /// Whether the bus took what was sent lately. Answers at once from what is known.
    ///
    /// # Errors
    /// [`BusUnreachable`] says how it is known that the bus cannot be reached.
    fn reach(&self, now: Instant) -> Result<(), BusUnreachable>;
}

/// Where an end delivers what arrives. It is called from any thread, perhaps from several at once, and must return at once.
pub trait Listener: Send + Sync + 'static {
    /// A record's value has arrived.
    fn heard(&self, value: &[u8]);

    /// The end has broken for good and must be opened anew. Called at most once, and never because the end was dropped.
    fn lost(&self);
}

/// What the gateway sends with.
pub trait GatewayEnd: Send + Sync {
    /// Asks one service to answer.
    fn ping(&self, service: &str);
}

/// What a service sends with.
pub trait ServiceEnd: Send + Sync {
    /// Answers.
    fn pong(&self, pong: &Pong);
}

/// Why an end could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The broker's address or another setting makes no sense.
    #[error("the kafka client refuses its settings: {0}")]
    Settings(String),
    /// The operating system gave no thread.
    #[error("no thread for the health topics: {0}")]
    Thread(#[from] std::io::Error),
}

/// How it is known that the bus cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BusUnreachable {
    /// Nothing has been acknowledged since the start, and nothing is known to be wrong.
    #[error("the message bus has not answered yet")]
    NotYet,
    /// No broker accepts a connection.
    #[error("no broker of the message bus can be connected to")]
    NoBroker,
    /// Connected or not, no ping was acknowledged for [`super::kafka::SILENCE_MS_MAX`].
    #[error("the message bus has stopped acknowledging")]
    Silent,
}
