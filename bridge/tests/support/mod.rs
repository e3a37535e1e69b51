//! What the health tests share: a supervisor, bounded waiting, a whole small house, and the way to a real Kafka.

#![allow(dead_code)]

pub mod kafka;
pub mod relay;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use microcommerce_bridge::health::transport::Listener;
use microcommerce_bridge::health::{
    HealthBoard, HealthReader, HealthTransport, InProcessHealth, KafkaHealth, KafkaHealthConfig, PingerArgs,
    PingerMessage, ResponderArgs, ResponderMessage, ServiceCondition, start_pinger, start_responder,
};
use microcommerce_bridge::kafka::KafkaClientSettings;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};

/// Longest wait for something that normally takes milliseconds; over Kafka, for a group to form on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The broker to test against. None means that the test is to say so and pass: unless the run requires Kafka, where it fails.
pub fn kafka_broker(test: &str) -> Option<String> {
    let broker = std::env::var("KAFKA_BROKER").ok().filter(|broker| !broker.trim().is_empty());
    let required = std::env::var("REQUIRE_KAFKA").is_ok_and(|value| value == "1");
    assert!(broker.is_some() || !required, "REQUIRE_KAFKA=1 but KAFKA_BROKER is not set");
    if broker.is_none() {
        eprintln!("skipped: {test} needs KAFKA_BROKER=host:port (deploy/local/kafka.sh start)");
    }
    broker
}

pub fn kafka_at(broker: &str) -> Arc<dyn HealthTransport> {
    kafka_with_prefix(broker, "")
}

/// With topics of a test's own, so that it knows of every record there.
pub fn kafka_with_prefix(broker: &str, prefix: &str) -> Arc<dyn HealthTransport> {
    KafkaHealth::start(KafkaHealthConfig {
        client: KafkaClientSettings::plain(broker, "bridge-test"),
        topic_prefix: prefix.to_owned(),
    })
    .unwrap()
}

pub fn in_process() -> Arc<dyn HealthTransport> {
    Arc::new(InProcessHealth::new())
}

/// A name nobody else uses: the tests share one broker and its topics.
pub fn unique(name: &str) -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    format!("{name}-{}-{}", since_epoch.as_nanos() % 1_000_000_000_000, COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// Waits until `condition` holds, `patience` at most, and says how long it took.
pub async fn eventually(what: &str, patience: Duration, mut condition: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < patience, "not within {patience:?}: {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    began.elapsed()
}

/// Watches that `condition` holds for the whole of `time`.
pub async fn always(what: &str, time: Duration, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while began.elapsed() < time {
        assert!(condition(), "not any more: {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A parent that outlives its children, whatever they die of.
pub struct Parent;

impl Actor for Parent {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _myself: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<()>,
        _event: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

/// A gateway and its services on one transport.
pub struct House {
    pub transport: Arc<dyn HealthTransport>,
    pub board: HealthBoard,
    pub reader: HealthReader,
    pub parent: ActorRef<()>,
    pub pinger: ActorRef<PingerMessage>,
}

impl House {
    pub async fn start(transport: Arc<dyn HealthTransport>, services: &[&str]) -> Self {
        let (parent, _) = Actor::spawn(None, Parent, ()).await.unwrap();
        let board = HealthBoard::new(Arc::clone(&transport), services.iter().copied());
        let pinger = start_pinger(PingerArgs { board: board.clone() }, parent.get_cell()).await.unwrap();
        Self { transport, reader: board.reader(), board, parent, pinger }
    }

    pub async fn start_service(&self, service: &str) -> ActorRef<ResponderMessage> {
        self.start_service_that(service, Arc::new(AtomicBool::new(true))).await
    }

    pub async fn start_service_that(&self, service: &str, is_healthy: Arc<AtomicBool>) -> ActorRef<ResponderMessage> {
        let condition = move || match is_healthy.load(Ordering::Relaxed) {
            true => ServiceCondition::Healthy,
            false => ServiceCondition::Unhealthy,
        };
        let args = ResponderArgs {
            transport: Arc::clone(&self.transport),
            service: service.to_owned(),
            version: "1.2.3".to_owned(),
            instance: "test-1".to_owned(),
            address: None,
            condition: Arc::new(condition),
        };
        start_responder(args, self.parent.get_cell()).await.unwrap()
    }

    pub fn is_healthy(&self, service: &str) -> bool {
        self.reader.report().is_ok_and(|report| report.service(service).is_some_and(|health| health.is_healthy()))
    }

    pub fn status(&self, service: &str) -> Option<String> {
        self.reader.report().ok()?.service(service).map(|health| health.status.clone())
    }

    pub fn is_reachable(&self) -> bool {
        self.reader.report().is_ok()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.parent.kill();
    }
}

/// Keeps what it hears.
#[derive(Default)]
pub struct Heard {
    values: Mutex<Vec<Vec<u8>>>,
    lost: AtomicBool,
}

impl Heard {
    pub fn count(&self) -> usize {
        self.values.lock().unwrap().len()
    }

    pub fn count_containing(&self, word: &str) -> usize {
        self.values.lock().unwrap().iter().filter(|value| String::from_utf8_lossy(value).contains(word)).count()
    }

    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Listener for Heard {
    fn heard(&self, value: &[u8]) {
        self.values.lock().unwrap().push(value.to_vec());
    }

    fn lost(&self) {
        self.lost.store(true, Ordering::Relaxed);
    }
}
