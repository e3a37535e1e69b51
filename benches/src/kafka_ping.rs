//! A ping to a service and its pong back over a real Kafka, one after the other; beside it the same two hops of plain clients.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use bridge::{
    health::{
        HealthTransport, KafkaHealth, KafkaHealthConfig, ResponderArgs, ServiceCondition, start_responder,
        transport::Listener,
    },
    kafka::{KafkaClientSettings, KafkaTopics, TopicSpec},
};
use hdrhistogram::Histogram;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use rdkafka::{
    config::ClientConfig,
    consumer::{BaseConsumer, Consumer},
    message::Message,
    producer::{BaseRecord, DefaultProducerContext, ThreadedProducer},
    topic_partition_list::{Offset, TopicPartitionList},
};
use tokio::runtime::Runtime;

/// A pong that takes longer is lost; before the first, nothing may be connected yet.
const PATIENCE: Duration = Duration::from_secs(5);
/// Until the first answer comes, asking goes on for this long.
const START_MAX: Duration = Duration::from_secs(60);
/// Answers that are not counted: connections, caches.
const WARM_UP: usize = 100;

/// Tells of whatever it hears.
struct Heard(mpsc::Sender<()>);

impl Listener for Heard {
    fn heard(&self, _: &[u8]) {
        // The bench may be over.
        let _ = self.0.send(());
    }
    fn lost(&self) {}
}

/// Parent of the responder.
struct Tree;

impl Actor for Tree {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

/// The times, in microseconds, of `count` pings to a service of ours until its pong is heard.
///
/// # Panics
/// When no pong comes.
#[must_use]
pub fn pings(broker: &str, prefix: &str, count: usize) -> Histogram<u64> {
    let transport = |client_id: &str| {
        let (client_id, topic_prefix) = (client_id.to_owned(), prefix.to_owned());
        KafkaHealth::start(KafkaHealthConfig { client: KafkaClientSettings::plain(broker, client_id), topic_prefix })
            .expect("the transport starts")
    };
    Runtime::new().expect("tokio starts").block_on(async {
        let (tree, _) = Actor::spawn(None, Tree, ()).await.expect("an actor starts");
        let arguments = ResponderArgs {
            transport: transport("bench-service"),
            service: "bench-service".to_owned(),
            version: "1".to_owned(),
            instance: "bench".to_owned(),
            address: None,
            condition: Arc::new(|| ServiceCondition::Healthy),
        };
        start_responder(arguments, tree.get_cell()).await.expect("the responder starts");
        let (heard, pongs) = mpsc::channel();
        let times = tokio::task::spawn_blocking({
            let gateway = transport("bench-gateway");
            move || {
                let end = gateway.open_gateway(Arc::new(Heard(heard))).expect("the end opens");
                round_trips(count, || end.ping("bench-service"), &pongs)
            }
        });
        let times = times.await.expect("no panic");
        // It takes the responder with it.
        tree.stop_and_wait(None, None).await.expect("the tree stops");
        times
    })
}

/// The control: a plain client that writes, one that answers, and the time until the answer is read.
///
/// # Panics
/// When no answer comes.
#[must_use]
pub fn bare_round_trips(broker: &str, prefix: &str, count: usize) -> Histogram<u64> {
    let (there, back) = (format!("{prefix}there"), format!("{prefix}back"));
    let topics = KafkaTopics::new(KafkaClientSettings::plain(broker, "bench")).expect("the settings are right");
    let specs = [TopicSpec::new(&there, 1), TopicSpec::new(&back, 1)];
    let made = Runtime::new().expect("tokio starts").block_on(async { topics.create_missing(&specs).await });
    assert_eq!(made.expect("the broker answers").len(), 2);
    let is_over = Arc::new(AtomicBool::new(false));
    let reads = |topic: &str, heard: Box<dyn Fn() + Send>| {
        let (consumer, is_over) = (reader(broker, topic), Arc::clone(&is_over));
        thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                if let Some(message) = consumer.poll(Duration::from_millis(100)) {
                    assert!(message.expect("without an error").payload().is_some());
                    heard();
                }
            }
        })
    };
    let (answers, asks) = (writer(broker), writer(broker));
    let (told, tells) = mpsc::channel();
    let answering = {
        let back = back.clone();
        reads(&there, Box::new(move || write(&answers, &back)))
    };
    let heard = move || {
        // The bench may be over.
        let _ = told.send(());
    };
    let hearing = reads(&back, Box::new(heard));
    let times = round_trips(count, || write(&asks, &there), &tells);
    is_over.store(true, Ordering::Relaxed);
    answering.join().expect("no panic");
    hearing.join().expect("no panic");
    times
}

/// No times yet.
///
/// # Panics
/// Never: three digits are allowed.
#[must_use]
pub fn new_times() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are allowed")
}

fn round_trips(count: usize, ask: impl Fn(), answers: &mpsc::Receiver<()>) -> Histogram<u64> {
    let started = Instant::now();
    loop {
        ask();
        if answers.recv_timeout(Duration::from_millis(500)).is_ok() {
            break;
        }
        assert!(started.elapsed() < START_MAX, "no answer");
    }
    // Answers to what was asked before anybody listened: silence means that none is left.
    while answers.recv_timeout(Duration::from_millis(500)).is_ok() {}
    let mut times = new_times();
    for number in 0..count + WARM_UP {
        let asked = Instant::now();
        ask();
        answers.recv_timeout(PATIENCE).expect("an answer comes in time");
        if number >= WARM_UP {
            times.saturating_record(asked.elapsed().as_micros() as u64);
        }
    }
    times
}

fn writer(broker: &str) -> ThreadedProducer<DefaultProducerContext> {
    ClientConfig::new()
        .set("bootstrap.servers", broker)
        .set("acks", "all")
        .set("linger.ms", "0")
        .set("socket.nagle.disable", "true")
        .create()
        .expect("the producer starts")
}

fn write(producer: &ThreadedProducer<DefaultProducerContext>, topic: &str) {
    let record = BaseRecord::to(topic).key("bench-service").payload("ping");
    producer.send(record).map_err(|(error, _)| error).expect("there is room for one");
}

fn reader(broker: &str, topic: &str) -> BaseConsumer {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker)
        .set("group.id", "bench-ping-bare")
        .set("enable.auto.commit", "false")
        .set("socket.nagle.disable", "true")
        .create()
        .expect("the consumer starts");
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition_offset(topic, 0, Offset::Beginning).expect("an offset");
    consumer.assign(&partitions).expect("it is assigned");
    consumer
}
