//! Programs in other languages read every topic of the running shop, each with its language's usual client and nothing else:
//! kafka-python, kafkajs and Java's own. What they read is what kcat reads: key, value and headers of each record.
//!
//! Needs `KAFKA_BROKER=host:port`, kcat, and the clients, which `tests/others_read_our_topics/install.sh` fetches into
//! `KAFKA_CLIENTS_DIR` (a folder in the temporary directory if unset) where they are not there yet. Without a broker it says that it
//! skips, and fails instead if `REQUIRE_KAFKA=1`, as in CI.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod shop;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use shop::kafka::{broker, read};
use shop::{CARD_GOOD, Form, Opening, Product, until};

const SOON: Duration = Duration::from_secs(20);
/// How long one client may take to read all topics, in seconds.
const CLIENT_SECONDS_MAX: &str = "60";
/// The topics that an order and its payment leave records on.
const FULL: [&str; 7] = [
    "user-events",
    "product-events",
    "order-events",
    "payment-events",
    "inventory-events",
    "inventory-commands",
    "payment-commands",
];

type Place = (String, i64, i64);

/// A record as every client shows it: key, value, headers.
type Shown = (Option<String>, Option<String>, Vec<(String, String)>);

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/others_read_our_topics")
}

/// Where the clients are; fetched if need be.
fn clients() -> PathBuf {
    let directory = std::env::var_os("KAFKA_CLIENTS_DIR")
        .map_or_else(|| std::env::temp_dir().join("microcommerce-kafka-clients"), PathBuf::from);
    let installed = Command::new("bash").arg(sources().join("install.sh")).arg(&directory).output().unwrap();
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    directory
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn shown(record: &Value, headers: Vec<(String, String)>) -> Shown {
    (text(&record["key"]), text(&record["payload"]), headers)
}

/// What kcat reads of the topics now.
fn by_kcat(broker: &str, topics: &[String]) -> BTreeMap<Place, Shown> {
    let mut records = BTreeMap::new();
    for topic in topics {
        for record in read(broker, topic) {
            // kcat lists headers as name, value, name, value.
            let headers: Vec<String> =
                record["headers"].as_array().into_iter().flatten().map(|word| text(word).unwrap()).collect();
            let headers = headers.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
            let place = (topic.clone(), record["partition"].as_i64().unwrap(), record["offset"].as_i64().unwrap());
            records.insert(place, shown(&record, headers));
        }
    }
    records
}

fn by_client(name: &str, client: Command, broker: &str, topics: &[String]) -> BTreeMap<Place, Shown> {
    // A client that stands still is a failure with a name, not a test that hangs.
    let mut limited = Command::new("timeout");
    limited.arg(CLIENT_SECONDS_MAX).arg(client.get_program()).args(client.get_args()).arg(broker).args(topics);
    limited.envs(client.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = limited.output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {words}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let record = |line: &str| {
        let record: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{name}: {error}: {line}"));
        let headers = record["headers"].as_array().unwrap().iter();
        let headers = headers.map(|pair| (text(&pair[0]).unwrap(), text(&pair[1]).unwrap_or_default())).collect();
        let place = (
            text(&record["topic"]).unwrap(),
            record["partition"].as_i64().unwrap(),
            record["offset"].as_i64().unwrap(),
        );
        (place, shown(&record, headers))
    };
    lines.lines().map(record).collect()
}

/// Every topic of the shop with this prefix, those of dead letters and of heartbeats among them.
fn topics_of(broker: &str, prefix: &str) -> Vec<String> {
    let listed = Command::new("kcat").args(["-b", broker, "-L", "-J"]).output().unwrap();
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let names = listed["topics"].as_array().unwrap().iter().map(|topic| text(&topic["topic"]).unwrap());
    names.filter(|name| name.starts_with(prefix)).collect()
}

fn every_client_reads_every_topic(compression: Option<&str>) {
    let Some(broker) = broker() else { return };
    let clients = clients();
    let opening = Opening::new().formed(Form::Kafka);
    let shop = match compression {
        Some(codec) => opening.set("KAFKA_COMPRESSION", codec).open(),
        None => opening.open(),
    };
    let prefix = shop.setting("KAFKA_TOPIC_PREFIX").unwrap_or_default().to_owned();
    assert!(!prefix.is_empty(), "a shop of a test has topics of its own");
    let product = Product::create(&shop.admin(), "Kabel, größer", "12.34", 10);
    let buyer = shop.register("reader@example.com");
    let order = buyer.order(&product, 2, "one");
    assert_eq!(buyer.pay(&order, CARD_GOOD).expect(201).json()["status"], "succeeded");

    let topics = topics_of(&broker, &prefix);
    let full: Vec<String> = FULL.iter().map(|topic| format!("{prefix}{topic}")).collect();
    // kcat ends at the end of a topic, which those of the heartbeats never reach.
    let (beating, at_rest): (Vec<_>, Vec<_>) = topics.iter().cloned().partition(|topic| {
        let name = topic.trim_start_matches(&prefix);
        name.starts_with("service-") && !name.ends_with(".dlq")
    });
    assert!(!beating.is_empty(), "{topics:?}");
    let expected = until(SOON, "an order has left its records everywhere", || {
        let records = by_kcat(&broker, &at_rest);
        full.iter().all(|topic| records.keys().any(|(of, ..)| of == topic)).then_some(records)
    });
    for ((topic, ..), (key, value, headers)) in &expected {
        if full.contains(topic) {
            let body: Value = serde_json::from_str(value.as_deref().unwrap()).unwrap();
            assert_eq!((body["subject"].as_str(), body["data"].is_object()), (key.as_deref(), true), "{topic}: {body}");
            assert!(
                headers.iter().any(|(name, id)| name == "ce_id" && body["id"] == id.as_str()),
                "{topic}: {headers:?}"
            );
        }
    }

    let mut python = Command::new(clients.join("python/bin/python"));
    python.arg(sources().join("reader.py")).env("PYTHONPATH", clients.join("python/packages"));
    let mut node = Command::new("node");
    node.arg(sources().join("reader.js")).env("NODE_PATH", clients.join("node/node_modules"));
    let mut java = Command::new("java");
    let classes = clients.join("java");
    java.arg("-cp").arg(format!("{}:{}/*", classes.display(), classes.join("libs").display())).arg("Reader");
    for (name, client) in [("kafka-python", python), ("kafkajs", node), ("kafka-clients", java)] {
        let read = by_client(name, client, &broker, &topics);
        for (place, record) in &expected {
            assert_eq!(read.get(place), Some(record), "{name} at {place:?}");
        }
        for topic in &beating {
            assert!(read.keys().any(|(of, ..)| of == topic), "{name} has read nothing of {topic}");
        }
    }
    shop.close();
}

#[test]
fn a_python_a_node_and_a_java_client_read_every_topic() {
    every_client_reads_every_topic(None);
}

#[test]
fn they_read_gzip_too_without_further_packages() {
    every_client_reads_every_topic(Some("gzip"));
}
