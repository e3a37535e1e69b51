//! Ping and pong over a real Kafka, on the wire format that the original's services speak.
//!
//! Needs `KAFKA_BROKER=host:port` and `kcat`; without the setting each test says that it skips, and fails instead if
//! `REQUIRE_KAFKA=1`, as in CI. The last test starts and stops a broker of its own with `deploy/local/kafka.sh`.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod shop;

use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use shop::{CARD_GOOD, Client, Opening, Product, free_port, until};

const SERVICES: [&str; 4] = ["payment-service", "product-service", "user-service", "order-service"];
/// More than the gateway's own pings make in the time that a test takes.
const PINGS: usize = 50;
/// A consumer group may have to wait for the session of its dead member (tens of seconds) before it reads again.
const HEALTHY_WITHIN: Duration = Duration::from_secs(90);
/// As for [`HEALTHY_WITHIN`].
const PONGS_WITHIN: Duration = Duration::from_secs(90);
const SEEN_AWAY_WITHIN: Duration = Duration::from_secs(30);

/// The broker to test against, if there is one.
fn broker() -> Option<String> {
    match std::env::var("KAFKA_BROKER") {
        Ok(broker) if !broker.is_empty() => Some(broker),
        _ => {
            assert!(
                std::env::var("REQUIRE_KAFKA").as_deref() != Ok("1"),
                "REQUIRE_KAFKA=1, but KAFKA_BROKER is not set"
            );
            println!("skipped: KAFKA_BROKER is not set");
            None
        }
    }
}

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
    let shop = Opening::new().set("KAFKA_BROKER", &broker).open();
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
fn the_shop_sells_over_kafka_as_it_does_without() {
    let Some(broker) = broker() else { return };
    let shop = Opening::new().set("KAFKA_BROKER", &broker).open();
    let product = Product::create(&shop.admin(), "Cable", "12.34", 10);
    let buyer = shop.register("buyer@example.com");
    let order = buyer.order(&product, 1, "one");
    assert_eq!(buyer.pay(&order, CARD_GOOD).expect(201).json()["status"], "succeeded");
    let order_id = order.string("order_id");
    until(Duration::from_secs(10), "the order is paid", || {
        (buyer.see_order(&order_id).expect(200).json()["status"] == "paid").then_some(())
    });
    shop.close();
}

/// A broker that this test alone starts and stops.
struct OwnBroker {
    port: u16,
    directory: tempfile::TempDir,
}

impl OwnBroker {
    fn new() -> Self {
        // The controller listens a thousand above the broker.
        let port =
            std::iter::repeat_with(free_port).find(|port| TcpListener::bind(("127.0.0.1", port + 1_000)).is_ok());
        Self { port: port.unwrap(), directory: tempfile::tempdir().unwrap() }
    }

    fn run(&self, arguments: &[&str]) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/local/kafka.sh");
        let mut command = Command::new("bash");
        command.arg(script).args(arguments).stdin(Stdio::null());
        command.env("KAFKA_PORT", self.port.to_string()).env("KAFKA_DIR", self.directory.path());
        let status = command.status().unwrap();
        assert!(status.success(), "kafka.sh {arguments:?}: {status}");
    }

    fn start(&self) {
        let version = std::env::var("KAFKA_VERSION").unwrap_or_else(|_| "3.7.0".to_owned());
        self.run(&["start", &version]);
    }

    fn stop(&self) {
        self.run(&["stop"]);
    }
}

impl Drop for OwnBroker {
    fn drop(&mut self) {
        self.stop();
    }
}

#[test]
fn services_health_is_right_with_the_broker_up_away_and_back() {
    if broker().is_none() {
        return;
    }
    let broker = OwnBroker::new();
    broker.start();
    let shop = Opening::new().set("KAFKA_BROKER", format!("127.0.0.1:{}", broker.port)).open();
    let client = shop.client();
    wait_until_all_healthy(&client);

    broker.stop();
    until(SEEN_AWAY_WITHIN, "the health page says that the bus is away", || (healthy(&client).0 == 503).then_some(()));
    let error = client.get("/api/v1/services/health").send();
    assert_eq!(error.status, 503, "{}", error.text);
    // A broker that is away only delays what is told to others: the shop goes on selling.
    client.get("/").send().expect(200);
    let product = Product::create(&shop.admin(), "Cable", "12.34", 10);
    let buyer = shop.register("buyer@example.com");
    let order = buyer.order(&product, 1, "while-the-broker-is-away");
    assert_eq!(buyer.pay(&order, CARD_GOOD).expect(201).json()["status"], "succeeded");
    assert_eq!(healthy(&client).0, 503);

    broker.start();
    wait_until_all_healthy(&client);
}
