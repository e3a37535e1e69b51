//! What others find on the topics: every event is numbered, in its source, topic and subject, without a gap or a repetition. And
//! what becomes of an order whose words were forgotten there before anybody read them.
//!
//! Needs `KAFKA_BROKER=host:port` and `kcat`; without the setting the tests say that they skip, and fail instead if
//! `REQUIRE_KAFKA=1`, as in CI.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod shop;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use shop::kafka::{broker, read};
use shop::{Buyer, CARD_DECLINED, CARD_GOOD, Form, Opening, Product, Role, Shop, until, wait_until_books_agree};

/// A message takes milliseconds; a machine that compiles beside it takes longer.
const SOON: Duration = Duration::from_secs(30);
/// What was not answered is asked for again after half a minute.
const ASKED_AGAIN_WITHIN: Duration = Duration::from_secs(120);
const EVENTS: [&str; 5] = ["order-events", "payment-events", "inventory-events", "product-events", "user-events"];
const COMMANDS: [&str; 2] = ["inventory-commands", "payment-commands"];

fn on_topic(shop: &Shop, broker: &str, name: &str) -> Vec<Value> {
    let topic = format!("{}{name}", shop.setting("KAFKA_TOPIC_PREFIX").unwrap());
    let records = read(broker, &topic);
    records.iter().map(|record| serde_json::from_str(record["payload"].as_str().unwrap()).unwrap()).collect()
}

fn cancel(buyer: &Buyer, order_id: &str) {
    let cancel = buyer.client.post(&format!("/api/v1/orders/{order_id}/cancel"), json!({"reason": "no more"}));
    cancel.key(&format!("cancel-{order_id}")).send_patiently().expect(200);
}

/// Every sequence that each event topic should have, and the messages seen on it.
fn assert_dense(shop: &Shop, broker: &str) -> BTreeSet<String> {
    let mut types = BTreeSet::new();
    for topic in EVENTS {
        let mut seen = BTreeSet::new();
        let mut numbers: BTreeMap<(String, String), BTreeSet<u64>> = BTreeMap::new();
        let mut last: BTreeMap<(String, String), u64> = BTreeMap::new();
        for event in on_topic(shop, broker, topic) {
            types.insert(event["type"].as_str().unwrap().to_owned());
            // What was written twice around a crash is the same message.
            if !seen.insert(event["id"].as_str().unwrap().to_owned()) {
                continue;
            }
            let of = |field: &str| event[field].as_str().unwrap().to_owned();
            let (key, seq) =
                ((of("source"), of("subject")), event["seq"].as_u64().unwrap_or_else(|| panic!("{event}")));
            assert!(numbers.entry(key.clone()).or_default().insert(seq), "{topic}: {seq} twice: {event}");
            let before = last.insert(key, seq).unwrap_or(0);
            assert_eq!(seq, before + 1, "{topic}: {event}");
        }
        for (key, numbers) in numbers {
            assert_eq!(numbers, (1..=numbers.len() as u64).collect(), "{topic} {key:?}");
        }
    }
    for topic in COMMANDS {
        for command in on_topic(shop, broker, topic) {
            assert!(command.get("seq").is_none(), "{topic}: {command}");
        }
    }
    types
}

#[test]
fn every_event_is_numbered_without_a_gap_or_a_repetition_and_commands_are_not() {
    let Some(broker) = broker() else { return };
    let mut shop = Opening::new().formed(Form::Kafka).open();
    let product = Product::create(&shop.admin(), "Cable", "12.34", 10);
    let buyer = shop.register("buyer@example.com");
    // A purchase at the second try, a cancellation before and one after the payment, one order too many.
    let paid = buyer.order(&product, 2, "paid");
    assert_eq!(buyer.pay(&paid, CARD_DECLINED).status, 402);
    assert_eq!(buyer.pay(&paid, CARD_GOOD).expect(201).json()["status"], "succeeded");
    let unpaid = buyer.order(&product, 1, "unpaid").string("order_id");
    cancel(&buyer, &unpaid);
    let refunded = buyer.order(&product, 1, "refunded");
    assert_eq!(buyer.pay(&refunded, CARD_GOOD).expect(201).json()["status"], "succeeded");
    cancel(&buyer, &refunded.string("order_id"));
    let too_many = buyer.client.post("/api/v1/orders", shop::order_body(&product.id, 999)).key("too-many");
    too_many.send_patiently().expect_error(409, "INSUFFICIENT_STOCK");
    let wanted = ["payment.refunded", "inventory.released", "inventory.reservation_rejected", "user.logged_in"];
    until(SOON, "all of it is told", || {
        let told: Vec<Value> = EVENTS.iter().flat_map(|topic| on_topic(&shop, &broker, topic)).collect();
        wanted.iter().all(|wanted| told.iter().any(|event| event["type"] == *wanted)).then_some(())
    });
    let types = assert_dense(&shop, &broker);
    for expected in
        ["order.created", "order.updated", "order.paid", "order.cancelled", "payment.failed", "user.registered"]
    {
        assert!(types.contains(expected), "{expected}: {types:?}");
    }

    // After a crash the counts go on: they are in the journals, not in the processes.
    shop.kill_9();
    shop.reopen();
    let buyer = shop.sign_in_again(&buyer);
    let again = buyer.order(&product, 1, "after-the-crash").string("order_id");
    cancel(&buyer, &again);
    until(SOON, "that is told too", || {
        let told = on_topic(&shop, &broker, "order-events");
        told.iter().any(|event| event["type"] == "order.cancelled" && event["subject"] == again.as_str()).then_some(())
    });
    assert_dense(&shop, &broker);
    shop.close();
}

/// Deletes what a topic holds, as retention does.
fn forget(shop: &Shop, broker: &str, name: &str) {
    let topic = format!("{}{name}", shop.setting("KAFKA_TOPIC_PREFIX").unwrap());
    let settings = bridge::kafka::KafkaClientSettings::plain(broker, "test");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        bridge::kafka::KafkaTopics::new(settings).unwrap().delete_records(&topic).await.unwrap();
    });
}

#[test]
fn what_retention_took_from_the_stock_is_asked_for_again_until_the_books_agree() {
    let Some(broker) = broker() else { return };
    let mut shop = Opening::new().formed(Form::Roles).open();
    let admin = shop.admin();
    let product = Product::create(&admin, "Cable", "10.00", 100);
    let buyer = shop.register("buyer@example.com");
    let orders: Vec<_> = (0..4).map(|number| buyer.order(&product, 2, &format!("order-{number}"))).collect();
    until(SOON, "all of it is held", || (product.inventory(&admin)["reserved"] == 8).then_some(()));

    // Nobody is there to sell the units of three of them, and to set those of the fourth free.
    shop.kill_9_role(Role::Product);
    for order in &orders[..3] {
        let paid = buyer.pay(order, CARD_GOOD);
        assert!(matches!(paid.status, 201 | 202), "{} {}", paid.status, paid.text);
    }
    cancel(&buyer, &orders[3].string("order_id"));
    until(SOON, "the words are on the topic", || {
        let commands = on_topic(&shop, &broker, "inventory-commands");
        let told = |name: &str| commands.iter().filter(|command| command["type"] == name).count();
        (told("inventory.commit") == 3 && told("inventory.release") == 1).then_some(())
    });
    forget(&shop, &broker, "inventory-commands");
    assert!(on_topic(&shop, &broker, "inventory-commands").is_empty(), "they are forgotten");
    shop.reopen_role(Role::Product);
    until(SOON, "the stock can be asked", || {
        let path = format!("/api/v1/inventory/{}", product.sku);
        admin.get(&path).try_send().ok().filter(|answer| answer.status == 200)
    });
    wait_until_books_agree(ASKED_AGAIN_WITHIN, &admin, std::slice::from_ref(&product), &[buyer]);
    let inventory = product.inventory(&admin);
    assert_eq!((&inventory["committed"], &inventory["reserved"]), (&6.into(), &0.into()), "{inventory}");
    let asked = on_topic(&shop, &broker, "inventory-commands");
    // A relay that was killed may write its last words again: the product's own, never the order's that were forgotten.
    let by_the_order: Vec<_> = asked.iter().filter(|command| command["source"] == "order-service").collect();
    assert!(!by_the_order.is_empty(), "{asked:?}");
    assert!(by_the_order.iter().all(|command| command["type"] == "inventory.settle"), "{asked:?}");
    shop.close();
}
