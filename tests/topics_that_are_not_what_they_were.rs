//! The shop on Kafka when its topics are deleted under it, and when records are removed before a service has taken them in.
//!
//! Needs `KAFKA_BROKER=host:port` and the Python client that `tests/others_read_our_topics/install.sh` fetches; without a broker each
//! test says that it skips, and fails instead if `REQUIRE_KAFKA=1`, as in CI.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod shop;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use shop::kafka::{broker, read};
use shop::{Answer, Buyer, CARD_GOOD, Client, Form, Opening, Product, Role, Shop, until};

/// A message takes milliseconds; a machine that compiles beside it takes longer.
const SOON: Duration = Duration::from_secs(30);
/// A topic that is gone is found within its keeper's and its client's pauses.
const BACK_WITHIN: Duration = Duration::from_secs(60);

/// Does what an operator does to topics, with another program's client.
fn administer(broker: &str, verb: &str, topics: &[String]) {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/others_read_our_topics");
    let clients = std::env::var_os("KAFKA_CLIENTS_DIR")
        .map_or_else(|| std::env::temp_dir().join("microcommerce-kafka-clients"), PathBuf::from);
    let installed = Command::new("bash").arg(sources.join("install.sh")).arg(&clients).output().unwrap();
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    let mut python = Command::new(clients.join("python/bin/python"));
    python.arg(sources.join("admin.py")).env("PYTHONPATH", clients.join("python/packages"));
    let done = python.args([broker, verb]).args(topics).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn topics(shop: &Shop, names: &[&str]) -> Vec<String> {
    let prefix = shop.setting("KAFKA_TOPIC_PREFIX").unwrap_or_default();
    assert!(!prefix.is_empty(), "a shop of a test has topics of its own");
    names.iter().map(|name| format!("{prefix}{name}")).collect()
}

/// Orders one and pays, with the same key until it is acknowledged.
fn buy(buyer: &Buyer, product: &Product, key: &str) {
    let order = until(BACK_WITHIN, "the order is placed", || {
        let call = buyer.client.post("/api/v1/orders", shop::order_body(&product.id, 1)).key(key);
        call.try_send().ok().filter(|answer| answer.status == 201)
    });
    until(BACK_WITHIN, "the order is paid", || {
        let call =
            buyer.client.post("/api/v1/payments", shop::payment_body(&order, CARD_GOOD)).key(&format!("pay-{key}"));
        call.try_send().ok().filter(|answer| answer.status == 201)
    });
}

fn readiness(client: &Client) -> Option<Answer> {
    client.get("/readyz").try_send().ok()
}

/// Whoever sees that its topics are new reads them from their start: positions in the old ones count for nothing.
#[test]
fn topics_deleted_under_the_running_shop_are_made_again_and_it_goes_on_by_itself() {
    let Some(broker) = broker() else { return };
    let shop = Opening::new().formed(Form::Kafka).open();
    let product = Product::create(&shop.admin(), "Cable", "12.34", 100);
    let buyer = shop.register("buyer@example.com");
    // Enough that the new topics' first offsets have been done in the old ones.
    (0..4).for_each(|index| buy(&buyer, &product, &format!("before-{index}")));
    let all = [
        "inventory-commands",
        "inventory-events",
        "order-events",
        "payment-commands",
        "payment-events",
        "product-events",
        "user-events",
    ];
    administer(&broker, "delete-topics", &topics(&shop, &all));
    (0..4).for_each(|index| buy(&buyer, &product, &format!("after-{index}")));
    let gateway = shop.client();
    until(BACK_WITHIN, "the shop says that all is well", || readiness(&gateway).filter(|answer| answer.status == 200));
    shop.wait_for_line(&["ERROR", "made again"]);
    shop.wait_for_line(&["ERROR", "the log went back: it is read again from its first record"]);
    assert!(!read(&broker, &topics(&shop, &["order-events"])[0]).is_empty(), "what is new is on the new topics");
    shop.close();
}

/// Retention runs ahead of a service that is away: its commands are gone, and that is not silent.
#[test]
fn records_removed_before_they_were_taken_in_are_said_until_somebody_has_seen_to_them() {
    let Some(broker) = broker() else { return };
    let mut shop = Opening::new().formed(Form::Roles).open();
    let product = Product::create(&shop.admin(), "Cable", "12.34", 100);
    let buyer = shop.register("buyer@example.com");
    buy(&buyer, &product, "before");
    let order = buyer.order(&product, 1, "reserved");
    let commands = topics(&shop, &["inventory-commands"]);
    // A group that has committed nothing has no place from which records could be missing.
    let product_port = Client::of_port(shop.port(Role::Product));
    until(SOON, "the group has committed its place", || {
        let metrics = product_port.get("/metrics").try_send().ok()?.text;
        let mut commits = metrics.lines().filter(|line| line.starts_with("microcommerce_bus_commits_total"));
        commits.any(|line| line.contains("inventory-commands") && !line.ends_with(" 0")).then_some(())
    });
    shop.kill_9_role(Role::Product);
    let before = read(&broker, &commands[0]).len();
    // The payment's own road does not lead through the product service; the commitment of the unit does.
    until(BACK_WITHIN, "the order is paid", || {
        let call = buyer.client.post("/api/v1/payments", shop::payment_body(&order, CARD_GOOD)).key("paid-meanwhile");
        call.try_send().ok().filter(|answer| answer.status == 201)
    });
    until(SOON, "the command is on its topic", || (read(&broker, &commands[0]).len() > before).then_some(()));
    administer(&broker, "delete-records", &commands);
    shop.reopen_role(Role::Product);

    let product_port = Client::of_port(shop.port(Role::Product));
    let reasons = until(BACK_WITHIN, "the gap is a reason", || {
        readiness(&product_port).filter(|answer| answer.status == 503 && answer.text.contains("lost the records"))
    });
    assert!(reasons.text.contains("inventory-commands"), "{}", reasons.text);
    shop.wait_for_line(&["ERROR", "removed from the log"]);
    let metrics = product_port.get("/metrics").send().text;
    let lost = metrics.lines().find(|line| line.starts_with("microcommerce_bus_lost_records_total"));
    assert!(lost.is_some_and(|line| !line.ends_with(" 0")), "{lost:?}");
    let letters = until(SOON, "the range is a dead letter", || {
        let letters = read(&broker, &format!("{}.dlq", commands[0]));
        (!letters.is_empty()).then_some(letters)
    });
    assert!(letters.iter().all(|letter| letter.to_string().contains("\"lost\"")), "{letters:?}");

    let acknowledged = shop.command().args(["topics", "--acknowledge-loss"]).output().unwrap();
    assert!(acknowledged.status.success(), "{}", String::from_utf8_lossy(&acknowledged.stderr));
    let said = String::from_utf8_lossy(&acknowledged.stdout).into_owned();
    assert!(said.lines().any(|line| line.starts_with("product-service: ") && !line.contains(": 0 ")), "{said}");
    until(SOON, "the service is ready again", || readiness(&product_port).filter(|answer| answer.status == 200));
    buy(&buyer, &product, "afterwards");
    shop.close();
}
