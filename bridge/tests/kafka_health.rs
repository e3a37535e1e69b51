//! The health topics on a real Kafka, seen from outside: by other clients, by an original's rules, and with the broker gone and back.
//!
//! They need `KAFKA_BROKER`; with `REQUIRE_KAFKA=1` they fail without it instead of being skipped. Those that stop the broker start one of
//! their own with `deploy/local/kafka.sh` on ports of their own; `KAFKA_VERSION` chooses its version.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use microcommerce_bridge::health::{BusUnreachable, PING_INTERVAL_MS};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{Message, OwnedMessage};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use support::{
    House, PATIENCE, always, eventually, kafka::OwnBrokers, kafka_at, kafka_broker, kafka_with_prefix, unique,
};

const PING_TOPIC: &str = "service-ping";
const PONG_TOPIC: &str = "service-pong";

/// A client with no setting of ours, as `kcat` or another language's client would be.
fn plain_producer(broker: &str) -> BaseProducer {
    ClientConfig::new().set("bootstrap.servers", broker).create().unwrap()
}

fn produce(producer: &BaseProducer, topic: &str, key: &str, value: &str) {
    producer.send(BaseRecord::to(topic).key(key).payload(value)).map_err(|(error, _)| error).unwrap();
}

fn plain_consumer(broker: &str, group: &str) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", broker)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .create()
        .unwrap()
}

/// Reads partition 0 of the pongs from the end, as of now.
fn from_the_end_of_pongs(broker: &str) -> BaseConsumer {
    let consumer = plain_consumer(broker, "any");
    let (_, end) = consumer.fetch_watermarks(PONG_TOPIC, 0, PATIENCE).unwrap();
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition_offset(PONG_TOPIC, 0, Offset::Offset(end)).unwrap();
    consumer.assign(&partitions).unwrap();
    consumer
}

/// Polls on a blocking thread until `wanted` accepts a record.
async fn next_record(consumer: BaseConsumer, wanted: impl Fn(&OwnedMessage) -> bool + Send + 'static) -> OwnedMessage {
    let read = move || {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(record)) if wanted(&record.detach()) => return record.detach(),
                _ => {}
            }
        }
        panic!("no such record within {PATIENCE:?}");
    };
    tokio::task::spawn_blocking(read).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_clients_ping_gets_a_pong_in_the_frozen_format() {
    let Some(broker) = kafka_broker("a_plain_clients_ping_gets_a_pong_in_the_frozen_format") else { return };
    // the real name: this is what a user does by hand
    let service = "payment-service";
    let house = House::start(kafka_at(&broker), &[service]).await;
    let responder = house.start_service(service).await;
    eventually("healthy", PATIENCE, || house.is_healthy(service)).await;
    // from here on only the plain client pings
    house.pinger.stop_and_wait(None, None).await.unwrap();
    let consumer = from_the_end_of_pongs(&broker);
    let producer = plain_producer(&broker);
    produce(&producer, PING_TOPIC, service, "ping");
    producer.flush(PATIENCE).unwrap();
    let pong = next_record(consumer, move |record| record.key() == Some(service.as_bytes())).await;
    let text = String::from_utf8(pong.payload().unwrap().to_vec()).unwrap();
    assert!(text.starts_with(r#"{"status":"healthy","service":"payment-service","timestamp":""#), "{text}");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let timestamp = json["timestamp"].as_str().unwrap();
    assert!(timestamp.len() == 20 && timestamp.ends_with('Z'), "whole seconds in UTC: {timestamp}");
    responder.stop_and_wait(None, None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_originals_pong_counts_by_its_service_field_whatever_its_key() {
    let Some(broker) = kafka_broker("an_originals_pong_counts_by_its_service_field_whatever_its_key") else { return };
    let name = unique("original");
    let house = House::start(kafka_at(&broker), &[&name]).await;
    eventually("the bus is reachable", PATIENCE, || house.is_reachable()).await;
    let producer = plain_producer(&broker);
    let pong = format!(r#"{{"status":"healthy","service":"{name}","timestamp":"2024-01-15T10:30:00Z"}}"#);
    eventually("healthy", PATIENCE, || {
        produce(&producer, PONG_TOPIC, "another-service", &pong);
        producer.poll(Duration::from_millis(10));
        house.is_healthy(&name)
    })
    .await;
    // it answers about once a second: between its answers it stays healthy
    producer.flush(PATIENCE).unwrap();
    always("healthy between two late answers", Duration::from_millis(1_500), || house.is_healthy(&name)).await;
    eventually("silent", PATIENCE, || !house.is_healthy(&name)).await;
}

/// What an original gateway or service reads with: a member of its group, from the topic's first record on.
fn original_member(broker: &str, group: &str, topic: &str) -> BaseConsumer {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker)
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .create()
        .unwrap();
    consumer.subscribe(&[topic]).unwrap();
    consumer
}

/// An original gateway asks one service after the other and takes the next record of the pongs as the answer, whatever its key. So
/// what stands there must be a true pong, each time, in the three fields that it knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_original_gateway_that_takes_the_next_record_as_its_answer_gets_a_true_pong_each_time() {
    const ASKED: usize = 60;
    let test = "an_original_gateway_that_takes_the_next_record_as_its_answer_gets_a_true_pong_each_time";
    let Some(broker) = kafka_broker(test) else { return };
    let prefix = format!("{}.", unique("shop"));
    let services = ["payment-service", "product-service", "order-service"];
    let house = House::start(kafka_with_prefix(&broker, &prefix), &services).await;
    for service in services {
        house.start_service(service).await;
    }
    eventually("all are healthy", PATIENCE, || services.iter().all(|service| house.is_healthy(service))).await;
    let asking = move || {
        let producer = plain_producer(&broker);
        let pongs = original_member(&broker, &format!("{prefix}api-gateway-group"), &format!("{prefix}{PONG_TOPIC}"));
        let (mut answered_by, deadline) = (BTreeSet::new(), Instant::now() + PATIENCE * 2);
        for service in services.iter().cycle().take(ASKED) {
            produce(&producer, &format!("{prefix}{PING_TOPIC}"), service, "ping");
            producer.flush(PATIENCE).unwrap();
            let pong = loop {
                assert!(Instant::now() < deadline, "no answer to {service}");
                if let Some(Ok(record)) = pongs.poll(Duration::from_millis(100)) {
                    break record.detach();
                }
            };
            let text = std::str::from_utf8(pong.payload().unwrap()).unwrap();
            let fields: serde_json::Value = serde_json::from_str(text).unwrap();
            let word = |name: &str| fields[name].as_str().unwrap_or_default().to_owned();
            assert_eq!(
                (word("status"), Some(word("service").as_bytes())),
                ("healthy".to_owned(), pong.key()),
                "{text}"
            );
            word("timestamp").parse::<jiff::Timestamp>().unwrap();
            answered_by.insert(word("service"));
        }
        answered_by
    };
    let answered_by = tokio::task::spawn_blocking(asking).await.unwrap();
    assert_eq!(answered_by, services.map(str::to_owned).into());
}

/// An original service: it answers every ping whatever its key, without our fields, when its writer's batch is a second old.
struct OriginalService {
    is_stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<usize>>,
}

impl OriginalService {
    const BATCH_EVERY: Duration = Duration::from_secs(1);

    fn start(broker: &str, prefix: &str, service: &str) -> Self {
        let (producer, service) = (plain_producer(broker), service.to_owned());
        let pings = original_member(broker, &format!("{prefix}{service}-group"), &format!("{prefix}{PING_TOPIC}"));
        let (topic, is_stopped) = (format!("{prefix}{PONG_TOPIC}"), Arc::new(AtomicBool::new(false)));
        let must_stop = Arc::clone(&is_stopped);
        let run = move || {
            let (mut sent, mut batch, mut began) = (0, Vec::new(), Instant::now());
            while !must_stop.load(Ordering::Relaxed) {
                if let Some(Ok(_)) = pings.poll(Duration::from_millis(50)) {
                    if batch.is_empty() {
                        began = Instant::now();
                    }
                    let now = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).unwrap();
                    batch.push(format!(r#"{{"status":"healthy","service":"{service}","timestamp":"{now}"}}"#));
                }
                if !batch.is_empty() && began.elapsed() >= Self::BATCH_EVERY {
                    sent += batch.len();
                    batch.drain(..).for_each(|pong| produce(&producer, &topic, &service, &pong));
                    producer.flush(PATIENCE).unwrap();
                }
            }
            sent
        };
        Self { is_stopped, thread: Some(std::thread::spawn(run)) }
    }

    /// How many pongs it has sent.
    fn stop(mut self) -> usize {
        self.is_stopped.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_original_service_that_answers_every_ping_a_second_late_is_healthy_and_speaks_for_itself_alone() {
    let test = "an_original_service_that_answers_every_ping_a_second_late_is_healthy_and_speaks_for_itself_alone";
    let Some(broker) = kafka_broker(test) else { return };
    let prefix = format!("{}.", unique("shop"));
    let (original, ours, absent) = ("payment-service", "product-service", "user-service");
    let house = House::start(kafka_with_prefix(&broker, &prefix), &[original, ours, absent]).await;
    house.start_service(ours).await;
    eventually("ours is healthy", PATIENCE, || house.is_healthy(ours)).await;
    let service = OriginalService::start(&broker, &prefix, original);
    let took = eventually("the original is healthy", PATIENCE, || house.is_healthy(original)).await;
    always("both are, and nobody else", Duration::from_secs(4), || {
        house.is_healthy(original) && house.is_healthy(ours) && !house.is_healthy(absent)
    })
    .await;
    let sent = tokio::task::spawn_blocking(move || service.stop()).await.unwrap();
    eprintln!("an original service was healthy after {took:?} and sent {sent} pongs");
    eventually("it is gone", PATIENCE, || !house.is_healthy(original)).await;
    assert!(house.is_healthy(ours));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_pong_is_counted_and_disturbs_nobody() {
    let Some(broker) = kafka_broker("what_is_no_pong_is_counted_and_disturbs_nobody") else { return };
    let name = unique("undisturbed");
    let house = House::start(kafka_at(&broker), &[&name]).await;
    let _service = house.start_service(&name).await;
    eventually("healthy", PATIENCE, || house.is_healthy(&name)).await;
    let producer = plain_producer(&broker);
    let before = house.reader.bad_pongs();
    for value in ["", "pong", "{}", "[1,2]", "\u{0}\u{1}"] {
        produce(&producer, PONG_TOPIC, &name, value);
    }
    producer
        .send(BaseRecord::<(), [u8]>::to(PONG_TOPIC).payload(&[0xff_u8, 0xfe][..]))
        .map_err(|(error, _)| error)
        .unwrap();
    producer.flush(PATIENCE).unwrap();
    eventually("all counted", PATIENCE, || house.reader.bad_pongs() >= before + 6).await;
    assert!(house.is_healthy(&name));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_pings_are_not_answered_after_a_downtime() {
    let Some(broker) = kafka_broker("old_pings_are_not_answered_after_a_downtime") else { return };
    let name = unique("sleeper");
    let house = House::start(kafka_at(&broker), &[]).await;
    eventually("topics are there", PATIENCE, || {
        plain_consumer(&broker, "any").fetch_watermarks(PING_TOPIC, 0, PATIENCE).is_ok()
    })
    .await;
    // what an original service leaves behind: a committed offset, and after it the pings of its downtime
    let group = format!("{name}-group");
    commit_end_of_pings(&broker, &group);
    let producer = plain_producer(&broker);
    (0..2_000).for_each(|_| produce(&producer, PING_TOPIC, &name, "ping"));
    producer.flush(PATIENCE).unwrap();
    let consumer = from_the_end_of_pongs(&broker);
    let _service = house.start_service(&name).await;
    // a live ping marks the end of the start; everything answered until then is counted
    let key = name.clone();
    let (asked, answers) = tokio::task::spawn_blocking(move || {
        let mut asked = 0;
        let mut answers = 0;
        let deadline = Instant::now() + PATIENCE;
        let mut quiet_since = Instant::now();
        while answers == 0 || quiet_since.elapsed() < Duration::from_secs(1) {
            assert!(Instant::now() < deadline, "no answer to {asked} live pings");
            if answers == 0 {
                produce(&producer, PING_TOPIC, &key, "ping");
                producer.flush(PATIENCE).unwrap();
                asked += 1;
            }
            match consumer.poll(Duration::from_millis(PING_INTERVAL_MS)) {
                Some(Ok(record)) if record.key() == Some(key.as_bytes()) => {
                    answers += 1;
                    quiet_since = Instant::now();
                }
                _ => {}
            }
        }
        (asked, answers)
    })
    .await
    .unwrap();
    eprintln!("2000 old pings and {asked} live ones: {answers} answers");
    assert!(answers <= asked, "{answers} answers to {asked} live pings");
}

fn commit_end_of_pings(broker: &str, group: &str) {
    let consumer = plain_consumer(broker, group);
    let (_, end) = consumer.fetch_watermarks(PING_TOPIC, 0, PATIENCE).unwrap();
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(PING_TOPIC, 0, Offset::Offset(end)).unwrap();
    consumer.commit(&offsets, CommitMode::Sync).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_gateway_nor_service_joins_a_group() {
    let Some(broker) = kafka_broker("neither_gateway_nor_service_joins_a_group") else { return };
    let name = unique("member");
    let house = House::start(kafka_at(&broker), &[&name]).await;
    let _service = house.start_service(&name).await;
    eventually("healthy", PATIENCE, || house.is_healthy(&name)).await;
    let groups = plain_consumer(&broker, "any").fetch_group_list(None, PATIENCE).unwrap();
    let members = |group: &str| {
        groups.groups().iter().find(|listed| listed.name() == group).map_or(0, |listed| listed.members().len())
    };
    for group in [&format!("{name}-group"), "api-gateway-group", "health-reader-without-group"] {
        assert_eq!(members(group), 0, "{group}");
    }
}

/// Unreachable shows within this: the silence, and a margin for a busy machine.
const AWAY_SHOWS: Duration = Duration::from_secs(3);

/// Reachable, and every service healthy, shows within this after the broker answers again.
const BACK_SHOWS: Duration = Duration::from_secs(6);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_right_with_the_broker_absent_up_stopped_killed_frozen_and_back() {
    let Some(_) = kafka_broker("health_is_right_with_the_broker_absent_up_stopped_killed_frozen_and_back") else {
        return;
    };
    let broker = OwnBrokers::new(1);
    let service = "a-service";
    let house = House::start(kafka_at(&broker.address()), &[service]).await;
    let _service = house.start_service(service).await;
    let took =
        eventually("absent at the start", AWAY_SHOWS, || house.reader.report() == Err(BusUnreachable::NoBroker)).await;
    eprintln!("absent at the start: known after {took:?}");

    broker.run("start").await;
    eprintln!("up: {}", back(&house, service).await);
    for (leave, come_back) in [("stop", "start"), ("kill", "start"), ("freeze", "thaw")] {
        let ran = broker.run(leave).await;
        let away = eventually("the bus is unreachable", AWAY_SHOWS, || !house.is_reachable()).await;
        let reason = house.reader.report().unwrap_err();
        // long enough for queued records to time out and for reconnecting to be in full swing
        always("unreachable all the while", Duration::from_secs(3), || !house.is_reachable()).await;
        broker.run(come_back).await;
        eprintln!(
            "{leave} (took {ran:?}): unreachable {away:?} later ({reason}); {come_back}: {}",
            back(&house, service).await
        );
    }
    always("all is well", Duration::from_secs(1), || house.is_healthy(service)).await;
}

/// Waits for the bus and then the service to be seen again; says when that was, counted from when the broker answered a probe.
async fn back(house: &House, service: &str) -> String {
    let began = Instant::now();
    eventually("the bus is reachable", BACK_SHOWS, || house.is_reachable()).await;
    let reachable = began.elapsed();
    eventually("the service is healthy", BACK_SHOWS, || house.is_healthy(service)).await;
    format!("reachable after {reachable:?}, service healthy after {:?}", began.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_that_vanish_are_created_again() {
    let Some(_) = kafka_broker("topics_that_vanish_are_created_again") else { return };
    let broker = OwnBrokers::new(1);
    broker.run("start").await;
    let service = "a-service";
    let house = House::start(kafka_at(&broker.address()), &[service]).await;
    let _service = house.start_service(service).await;
    eventually("healthy", PATIENCE, || house.is_healthy(service)).await;
    let admin: rdkafka::admin::AdminClient<_> =
        ClientConfig::new().set("bootstrap.servers", broker.address()).create().unwrap();
    let deleted = admin.delete_topics(&[PING_TOPIC, PONG_TOPIC], &rdkafka::admin::AdminOptions::new()).await.unwrap();
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    eventually("unhealthy or unreachable", PATIENCE, || !house.is_healthy(service)).await;
    let took = eventually("healthy again", PATIENCE, || house.is_healthy(service)).await;
    eprintln!("healthy {took:?} after the topics were gone");
    tokio::task::spawn_blocking(move || drop(admin)).await.unwrap();
}
