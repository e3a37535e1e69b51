//! Ping and pong over a real Kafka, on the wire format that the original's services speak.
//!
//! Needs `KAFKA_BROKER=host:port` and `kcat`; without the setting each test says that it skips, and fails instead if
//! `REQUIRE_KAFKA=1`, as in CI. The last test starts and stops a broker of its own with `deploy/local/kafka.sh`.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod shop;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use shop::kafka::{OwnBroker, broker};
use shop::{Client, Form, Opening, until};

const SERVICES: [&str; 4] = ["payment-service", "product-service", "user-service", "order-service"];
/// More than the gateway's own pings make in the time that a test takes.
const PINGS: usize = 50;
/// A consumer group may have to wait for the session of its dead member (tens of seconds) before it reads again.
const HEALTHY_WITHIN: Duration = Duration::from_secs(90);
/// As for [`HEALTHY_WITHIN`].
const PONGS_WITHIN: Duration = Duration::from_secs(90);
const SEEN_AWAY_WITHIN: Duration = Duration::from_secs(30);

/// Publishes records of that key and value, one a line.
fn publish(broker: &str, topic: &str, key: &str, value: &str, records: usize) {
    let mut kcat = Command::new("kcat")
        .args(["-b", broker, "-P", "-t", topic, "-K", "|"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("kcat is installed");
    kcat.stdin.take().unwrap().write_all(format!("{key}|{value}\n").repeat(records).as_bytes()).unwrap();
    assert!(kcat.wait().unwrap().success(), "kcat could not publish");
}

/// The offset that stands for `when` (-2: the beginning, -1: the end) in the only partition of a topic.
fn offset(broker: &str, topic: &str, when: i64) -> u64 {
    let asked = Command::new("kcat")
        .args(["-b", broker, "-Q", "-t", &format!("{topic}:0:{when}")])
        .stdin(Stdio::null())
        .output()
        .expect("kcat is installed");
    let text = String::from_utf8(asked.stdout).unwrap();
    text.split_whitespace().last().unwrap().parse().unwrap_or_else(|error| panic!("{text} has no offset: {error}"))
}

/// Every record that a topic holds now as (key, value). Not "until the end": pongs come faster than a reader can find one.
fn read_all(broker: &str, topic: &str) -> Vec<(String, Value)> {
    let records = offset(broker, topic, -1) - offset(broker, topic, -2);
    if records == 0 {
        return Vec::new();
    }
    let read = Command::new("kcat")
        .args(["-b", broker, "-C", "-t", topic, "-o", "beginning", "-c", &records.to_string(), "-q", "-f", "%k|%s\n"])
        .stdin(Stdio::null())
        .output()
        .expect("kcat is installed");
    let text = String::from_utf8(read.stdout).unwrap();
    let record = |line: &str| {
        let (key, value) = line.split_once('|').unwrap();
        (key.to_owned(), serde_json::from_str(value).unwrap_or_else(|error| panic!("{value} is no pong: {error}")))
    };
    text.lines().map(record).collect()
}

/// The status of `services/health`, and the names that it shows as healthy.
fn healthy(client: &Client) -> (u16, Vec<String>) {
    let answer = client.get("/api/v1/services/health").send();
    let body = answer.json();
    let services = body["services"].as_array().into_iter().flatten();
    let names = services
        .filter(|service| service["status"] == "healthy")
        .map(|service| service["service"].as_str().unwrap().to_owned());
    (answer.status, names.collect())
}

fn wait_until_all_healthy(client: &Client) {
    until(HEALTHY_WITHIN, "every service is healthy over Kafka", || {
        let (status, names) = healthy(client);
        (status == 200 && SERVICES.iter().all(|service| names.iter().any(|name| name == service))).then_some(())
    });
}

#[test]
fn a_ping_from_kcat_is_answered_by_a_pong_of_the_originals_shape() {
    let Some(broker) = broker() else { return };
    let shop = Opening::new().formed(Form::One).set("KAFKA_BROKER", &broker).open();
    wait_until_all_healthy(&shop.client());

    for service in SERVICES {
        let since = Timestamp::now();
        publish(&broker, "service-ping", service, "ping", PINGS);
        // The original's timestamps have whole seconds.
        let since = Timestamp::from_second(since.as_second()).unwrap();
        let is_fresh = |pong: &Value| pong["timestamp"].as_str().unwrap().parse::<Timestamp>().unwrap() >= since;
        until(PONGS_WITHIN, &format!("{PINGS} pongs of {service}"), || {
            let pongs = read_all(&broker, "service-pong");
            let of_it =
                pongs.iter().filter(|(key, pong)| key == service && pong["service"] == service && is_fresh(pong));
            (of_it.count() >= PINGS).then_some(())
        });
    }
    for (key, pong) in read_all(&broker, "service-pong") {
        assert_eq!(pong["service"], key.as_str());
        assert!(pong["status"].is_string(), "{pong}");
    }
    shop.close();
}

#[test]
fn services_health_is_right_with_the_broker_up_away_and_back() {
    if broker().is_none() {
        return;
    }
    let broker = OwnBroker::new();
    broker.start();
    let shop = Opening::new().formed(Form::One).set("KAFKA_BROKER", broker.address()).open();
    let client = shop.client();
    wait_until_all_healthy(&client);

    broker.stop();
    until(SEEN_AWAY_WITHIN, "the health page says that the bus is away", || (healthy(&client).0 == 503).then_some(()));
    let error = client.get("/api/v1/services/health").send();
    assert_eq!(error.status, 503, "{}", error.text);
    // What no message is needed for goes on.
    client.get("/").send().expect(200);
    shop.register("buyer@example.com");
    assert_eq!(healthy(&client).0, 503);

    broker.start();
    wait_until_all_healthy(&client);
}
