//! Pings and pongs over a real Kafka.
//!
//! **Owns** one producer for everything this process sends, one thread that sees to the topics, and one thread with a consumer per
//! open end. **Talks to** actors only through [`Listener`]s; actors talk to it through ends. **When the broker is away** nothing here
//! fails: the clients reconnect by themselves, at most [`RECONNECT_MS_MAX`] after it is back, and the ends go on. **When a thread
//! dies** its listener is told ([`Listener::lost`]), its actor fails and the supervisor opens a new end. It **does not** carry domain
//! events, commit offsets, or join the group of any gateway.
//!
//! # How it is known that the bus cannot be reached
//!
//! From what happened to our own pings, judged by [`link`], not from what the client believes of its connections:
//!
//! - **Reachable** = a record of ours was acknowledged by the broker (`acks=all`) within the last [`SILENCE_MS_MAX`]. Pings go every
//!   250 ms whether anyone answers or not, so acknowledgements never pause for another reason. This is true end to end: it holds for
//!   a broker that is killed, that hangs with its connections open, that is behind a cut cable, or that has no leader or too few
//!   replicas for the topic. Connection states (the statistics' `brokers[].state`) would call a hung broker `UP` for a minute.
//! - **At once unreachable**, without waiting for the silence, when librdkafka reports `ALL_BROKERS_DOWN`: every known broker refused
//!   or lost its connection. The next acknowledgement overrules it, so a false alarm lasts one ping at most.
//! - **Reachable again** with the first acknowledgement. Records live for [`RECORD_MS_MAX`] and are never retried: what comes after
//!   an outage is the present's pings, not the past's.
//!
//! # Choices that differ from the usual
//!
//! - The producer is **not idempotent** and does not retry: a ping is worth nothing later, a second pong does no harm, and an idempotent
//!   producer would first have to win its producer id back after every outage.
//! - Consumers read **all partitions, outside any group**. In `api-gateway-group` our gateway would take partitions from an original
//!   one, in `payment-service-group` our service from an original service, and each would silence the other. Within one service a
//!   group lets only one of several instances answer: when that one dies, a service that is alive looks dead until the broker gives
//!   the member up (6 s), and so does every service whose member outlived its session in a broker's restart (6.4 s, measured here).
//!   Without a group every instance answers, the directory hears of all of them, and a restart of anything shows at once.
//! - They begin **at the end** and commit nothing: what was asked while nobody listened has been forgotten by who asked. So no backlog
//!   can cause a storm of answers; and no clock is compared with another machine's, as judging pings by their age would need.

mod clients;
mod config;
pub mod link;
mod listening;
mod reading;
mod topics;
mod wish;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, ThreadedProducer};

use self::clients::{Clients, HeartbeatContext};
use self::link::LinkEvidence;
use self::listening::{Ear, ListeningThread, Stop};
use self::reading::TopicReading;
use self::topics::TopicKeeper;
use super::transport::{BusUnreachable, GatewayEnd, HealthTransport, Listener, ServiceEnd, TransportError};
use super::wire::{PING_TOPIC, PING_VALUE, PONG_TOPIC, Pong};

pub use self::clients::{RECONNECT_MS_MAX, RECORD_MS_MAX};
pub use self::config::KafkaHealthConfig;
pub use self::link::SILENCE_MS_MAX;

/// The transport over Kafka: one per process. Dropping the last reference stops its threads without waiting for them.
pub struct KafkaHealth {
    clients: Clients,
    topics: Arc<TopicKeeper>,
    evidence: Arc<Mutex<LinkEvidence>>,
    producer: Arc<Producer>,
}

/// The producer, dropped on a thread of its own: its drop waits for its polling thread.
struct Producer(Option<ThreadedProducer<HeartbeatContext>>);

struct KafkaEnd {
    clients: Clients,
    producer: Arc<Producer>,
    topics: Arc<TopicKeeper>,
    /// Stops the consumer's thread when the end is dropped.
    _listening: ListeningThread,
}

impl KafkaHealth {
    /// Begins to connect and to see to the topics, in the background; returns at once, whether the broker is there or not.
    ///
    /// # Errors
    /// [`TransportError`] when the settings make no sense, ask for encryption that this build has not, or there is no thread.
    pub fn start(config: KafkaHealthConfig) -> Result<Arc<Self>, TransportError> {
        if config.client.brokers.trim().is_empty() {
            return Err(TransportError::Settings("the broker's address is empty".to_owned()));
        }
        let clients = Clients::new(&config)?;
        let topics = Arc::new(TopicKeeper::start(clients.clone())?);
        let evidence = Arc::new(Mutex::new(LinkEvidence::default()));
        let producer = clients.producer(HeartbeatContext::new(Arc::clone(&evidence), topics.wish()))?;
        Ok(Arc::new(Self { clients, topics, evidence, producer: Arc::new(Producer(Some(producer))) }))
    }

    fn reading(&self, topic: &str) -> TopicReading {
        TopicReading { clients: self.clients.clone(), topics: self.topics.wish(), topic: self.clients.topic(topic) }
    }

    fn end(&self, listening: ListeningThread) -> KafkaEnd {
        KafkaEnd {
            clients: self.clients.clone(),
            producer: Arc::clone(&self.producer),
            topics: Arc::clone(&self.topics),
            _listening: listening,
        }
    }
}

impl HealthTransport for KafkaHealth {
    fn open_gateway(&self, pongs: Arc<dyn Listener>) -> Result<Box<dyn GatewayEnd>, TransportError> {
        let reading = self.reading(PONG_TOPIC);
        let listen = move |stop: &Stop, ear: &Ear| {
            reading.run(stop, |record| ear.heard(record.payload().unwrap_or_default()));
        };
        Ok(Box::new(self.end(ListeningThread::start("health-pongs", pongs, listen)?)))
    }

    fn open_service(&self, service: &str, pings: Arc<dyn Listener>) -> Result<Box<dyn ServiceEnd>, TransportError> {
        let (reading, service) = (self.reading(PING_TOPIC), service.to_owned());
        let listen = move |stop: &Stop, ear: &Ear| {
            reading.run(stop, |record| {
                if record.key() == Some(service.as_bytes()) {
                    ear.heard(record.payload().unwrap_or_default());
                }
            });
        };
        Ok(Box::new(self.end(ListeningThread::start("health-pings", pings, listen)?)))
    }

    fn reach(&self, now: Instant) -> Result<(), BusUnreachable> {
        self.evidence.lock().unwrap_or_else(PoisonError::into_inner).judge(now)
    }
}

impl KafkaEnd {
    fn send(&self, topic: &str, key: &str, value: &[u8]) {
        let Some(producer) = self.producer.0.as_ref() else { return };
        // for a topic that is not there yet they only fill the queue
        if !self.topics.were_there() {
            return;
        }
        let topic = self.clients.topic(topic);
        if let Err((error, _record)) = producer.send(BaseRecord::to(&topic).key(key).payload(value)) {
            tracing::debug!(topic, key, %error, "heartbeat not sent");
        }
    }
}

impl GatewayEnd for KafkaEnd {
    fn ping(&self, service: &str) {
        self.send(PING_TOPIC, service, PING_VALUE);
    }
}

impl ServiceEnd for KafkaEnd {
    fn pong(&self, pong: &Pong) {
        self.send(PONG_TOPIC, &pong.service, &pong.to_bytes());
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        let producer = self.0.take();
        // without a thread it is dropped here, which waits 0.6 s at most
        let _ = std::thread::Builder::new().name("health-producer-drop".to_owned()).spawn(move || drop(producer));
    }
}
