//! The shop on a real Kafka: what others read there and write there, what becomes of what cannot be taken in, and a broker
//! that is away.
//!
//! Needs `KAFKA_BROKER=host:port` and `kcat`; without the setting each test says that it skips, and fails instead if
//! `REQUIRE_KAFKA=1`, as in CI. The tests of an absent broker start and stop one of their own.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod shop;

use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shop::kafka::{OwnBroker, broker, publish, read};
use shop::{Answer, Buyer, CARD_GOOD, Client, Form, Opening, Product, Shop, order_body, payment_body, until};

/// A message takes milliseconds; a machine that compiles beside it takes longer.
const SOON: Duration = Duration::from_secs(20);
/// A broker that comes back is found within its client's pauses, and its groups' sessions.
const BACK_WITHIN: Duration = Duration::from_secs(60);
/// The broker is away for so many seconds; `BROKER_AWAY_S` sets another time.
const AWAY_S: u64 = 8;

/// For how long the broker is away under load.
fn away() -> Duration {
    let seconds = std::env::var("BROKER_AWAY_S").map_or(AWAY_S, |seconds| seconds.parse().unwrap());
    Duration::from_secs(seconds)
}

fn on_kafka() -> Shop {
    Opening::new().formed(Form::Kafka).open()
}

fn topic(shop: &Shop, name: &str) -> String {
    format!("{}{name}", shop.setting("KAFKA_TOPIC_PREFIX").unwrap_or_default())
}

/// A command of the binary, asked about this shop.
fn ask(shop: &Shop, arguments: &[&str]) -> Output {
    shop.command().args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn payload(record: &Value) -> Value {
    serde_json::from_str(record["payload"].as_str().unwrap()).unwrap()
}

fn header<'a>(record: &'a Value, name: &str) -> Option<&'a str> {
    // kcat lists headers as name, value, name, value.
    let headers = record["headers"].as_array()?;
    let place = headers.iter().step_by(2).position(|known| known == name)?;
    headers[place * 2 + 1].as_str()
}

#[test]
fn kcat_reads_our_events_as_cloud_events_with_a_json_body() {
    let Some(broker) = broker() else { return };
    let shop = on_kafka();
    let product = Product::create(&shop.admin(), "Cable", "12.34", 10);
    let buyer = shop.register("buyer@example.com");
    let order = buyer.order(&product, 2, "one");
    assert_eq!(buyer.pay(&order, CARD_GOOD).expect(201).json()["status"], "succeeded");
    let order_id = order.string("order_id");

    let types = |topic_name: &str| -> Vec<String> {
        let of_order =
            read(&broker, &topic(&shop, topic_name)).into_iter().filter(|record| record["key"] == order_id.as_str());
        of_order.map(|record| payload(&record)["type"].as_str().unwrap().to_owned()).collect()
    };
    until(SOON, "the order's story is on its topic", || {
        types("order-events").contains(&"order.paid".to_owned()).then_some(())
    });
    assert_eq!(types("order-events")[0], "order.created");
    assert!(types("payment-events").contains(&"payment.succeeded".to_owned()));

    for record in read(&broker, &topic(&shop, "order-events")) {
        let event = payload(&record);
        for (name, field) in [
            ("ce_id", "id"),
            ("ce_type", "type"),
            ("ce_source", "source"),
            ("ce_subject", "subject"),
            ("ce_time", "time"),
        ] {
            assert_eq!(header(&record, name), event[field].as_str(), "{record}");
        }
        assert_eq!(header(&record, "content-type"), Some("application/json"));
        assert_eq!(record["key"], event["subject"], "keyed by what it is about");
        assert!(event["time"].as_str().unwrap().ends_with('Z') && event["data"].is_object(), "{event}");
        // No secret, card number, token or e-mail address on a topic.
        let text = record.to_string();
        for secret in ["4242424242424242", "buyer@example.com", "testPassword123"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
    shop.close();
}

#[test]
fn the_trace_of_a_request_is_on_everything_that_it_causes() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    let Some(broker) = broker() else { return };
    let shop = on_kafka();
    let product = Product::create(&shop.admin(), "Cable", "12.34", 10);
    let buyer = shop.register("traced@example.com");
    let order = buyer
        .client
        .post("/api/v1/orders", order_body(&product.id, 2))
        .key("traced")
        .header("traceparent", &format!("00-{TRACE}-b7ad6b7169203331-01"))
        .send_patiently()
        .expect(201);
    let untraced = buyer.order(&product, 1, "untraced");
    let of = |order: &Answer, topic_name: &str| -> Vec<Value> {
        let order_id = order.string("order_id");
        let records = read(&broker, &topic(&shop, topic_name)).into_iter();
        records.filter(|record| payload(record).to_string().contains(&order_id)).collect()
    };
    // The order service's own words, what it asked of the product service, and what that one answered.
    for (topic_name, event_type) in [
        ("order-events", "order.created"),
        ("inventory-commands", "inventory.reserve"),
        ("inventory-events", "inventory.reserved"),
    ] {
        let record = until(SOON, event_type, || {
            of(&order, topic_name).into_iter().find(|record| payload(record)["type"] == event_type)
        });
        let traceparent = header(&record, "traceparent").unwrap_or_default();
        assert!(traceparent.starts_with(&format!("00-{TRACE}-")) && traceparent.ends_with("-01"), "{record}");
        assert_eq!(payload(&record)["traceparent"], traceparent, "the body says what the header says");
        for record in of(&untraced, topic_name) {
            let begun = header(&record, "traceparent").unwrap_or_default();
            assert!(begun.len() == traceparent.len() && !begun.contains(TRACE), "a trace of its own: {record}");
        }
    }
    shop.close();
}

#[test]
fn kcat_feeds_a_command_and_a_repetition_of_it_changes_nothing() {
    let Some(broker) = broker() else { return };
    let shop = on_kafka();
    let admin = shop.admin();
    let product = Product::create(&admin, "Cable", "12.34", 10);
    until(SOON, "the first units are there", || (product.inventory(&admin)["available"] == 10).then_some(()));
    let reserve = json!({
        "id": "evt_00000000000000000000000001", "type": "inventory.reserve", "source": "order-service", "subject": product.sku,
        "time": "2026-11-22T11:00:00Z", "seq": 1, "schema": 1,
        "data": {
            "sku": product.sku, "reservation_id": "res_of_another_program", "order_id": "ord_of_another_program",
            "quantity": 3, "expires_at": "2099-01-01T00:00:00Z",
        },
    });
    let commands = topic(&shop, "inventory-commands");
    for _ in 0..3 {
        publish(&broker, &commands, &product.sku, &reserve.to_string());
    }
    until(SOON, "three are held", || (product.inventory(&admin)["reserved"] == 3).then_some(()));
    // What comes after the repetitions shows that they have been taken in.
    let release = json!({
        "id": "evt_00000000000000000000000002", "type": "inventory.release", "source": "order-service", "subject": product.sku,
        "time": "2026-11-22T11:00:01Z", "seq": 2, "schema": 1,
        "data": {
            "sku": product.sku, "reservation_id": "res_of_another_program", "order_id": "ord_of_another_program",
            "reason": "customer",
        },
    });
    publish(&broker, &commands, &product.sku, &release.to_string());
    until(SOON, "none is held", || (product.inventory(&admin)["available"] == 10).then_some(()));
    let events = read(&broker, &topic(&shop, "inventory-events"));
    let answers: Vec<Value> =
        events.iter().map(payload).filter(|event| event["type"] == "inventory.reserved").collect();
    assert_eq!(answers.len(), 1, "a repetition is answered by nothing: {answers:?}");
    shop.close();
}

#[test]
fn what_cannot_be_taken_in_is_set_aside_seen_and_brought_back_and_disturbs_nobody() {
    let Some(broker) = broker() else { return };
    let shop = on_kafka();
    let product = Product::create(&shop.admin(), "Cable", "12.34", 10);
    let commands = topic(&shop, "inventory-commands");
    publish(&broker, &commands, &product.sku, "this is no JSON");
    let of_the_future = json!({"id": "evt_1", "type": "inventory.teleport", "data": {}});
    publish(&broker, &commands, &product.sku, &of_the_future.to_string());
    publish(&broker, &commands, "a-key", r#"{"id":"evt_1","type":"inventory.reserve","data":{}}"#);
    let dead = topic(&shop, "inventory-commands.dlq");
    until(SOON, "two are set aside", || (read(&broker, &dead).len() == 2).then_some(()));

    // The key of the first one goes on, and so does everybody else.
    let buyer = shop.register("buyer@example.com");
    let order = buyer.order(&product, 1, "after-the-poison");
    assert_eq!(buyer.pay(&order, CARD_GOOD).expect(201).json()["status"], "succeeded");

    let listed = said(&ask(&shop, &["dlq", "list", "inventory-commands"]));
    assert!(
        listed.contains("2 dead letters") && listed.contains("undecodable") && listed.contains("product-service"),
        "{listed}"
    );
    let shown = said(&ask(&shop, &["dlq", "show", "inventory-commands", &product.sku]));
    assert!(shown.contains("this is no JSON") && shown.contains("dlq-origin-offset"), "{shown}");
    let replayed = said(&ask(&shop, &["dlq", "replay", "inventory-commands", "a-key"]));
    assert!(replayed.contains('1'), "{replayed}");
    // Two letters, the mark that one was brought back, and that one set aside again.
    until(SOON, "it is set aside again", || (read(&broker, &dead).len() == 4).then_some(()));
    let listed = said(&ask(&shop, &["dlq", "list", "inventory-commands"]));
    assert!(listed.contains("2 dead letters"), "what was brought back is not listed: {listed}");

    let table = said(&ask(&shop, &["topics", "--once"]));
    assert!(table.contains(&commands) && table.contains("relay"), "{table}");
    let metrics = shop.client().get("/metrics").send().expect(200).text;
    let counted = metrics.lines().filter(|line| line.starts_with("microcommerce_bus_dead_letters_total{"));
    let sum: u64 = counted.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!(sum, 3, "{metrics}");
    shop.close();
}

#[test]
fn without_its_broker_the_shop_starts_says_so_and_catches_up() {
    if broker().is_none() {
        return;
    }
    let broker = OwnBroker::new();
    let shop = Opening::new().formed(Form::One).set("KAFKA_BROKER", broker.address()).open_without_waiting();
    let client = shop.client();
    until(SOON, "the gateway answers", || client.get("/").try_send().ok().filter(|answer| answer.status == 200));
    let unready = client.get("/readyz").send();
    let reasons = unready.expect_error(503, "SERVICE_UNAVAILABLE").to_string();
    assert!(reasons.contains("message bus") || reasons.contains("topics"), "{reasons}");
    // What no message is needed for goes on.
    let buyer = shop.register("buyer@example.com");
    buyer.client.get("/api/v1/users/profile").send().expect(200);
    client.get("/api/v1/products").send().expect(200);

    broker.start();
    until(BACK_WITHIN, "the shop is ready", || {
        client.get("/readyz").try_send().ok().filter(|answer| answer.status == 200)
    });
    let product = Product::create(&shop.admin(), "Cable", "12.34", 10);
    let order = buyer.order(&product, 1, "after-the-broker-came");
    assert_eq!(buyer.pay(&order, CARD_GOOD).expect(201).json()["status"], "succeeded");
}

/// Asks with the same key until it is acknowledged, whatever the shop says meanwhile.
fn until_acknowledged(over: &AtomicBool, ask: impl Fn() -> Option<Answer>) -> Option<Answer> {
    let started = Instant::now();
    loop {
        match ask() {
            Some(answer) if matches!(answer.status, 201 | 202) => return Some(answer),
            Some(answer) if !matches!(answer.status, 409 | 503) => panic!("{} {}", answer.status, answer.text),
            _ if over.load(Ordering::Relaxed) && started.elapsed() > BACK_WITHIN => return None,
            // The pause of a client that was told to come back.
            _ => thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn buy(buyer: &Buyer, product: &Product, key: &str, over: &AtomicBool) -> Answer {
    let orders = buyer.client.clone();
    let order =
        until_acknowledged(over, || orders.post("/api/v1/orders", order_body(&product.id, 1)).key(key).try_send().ok());
    let order = order.unwrap_or_else(|| panic!("{key} is never acknowledged"));
    let payment_key = format!("pay-{key}");
    let payment = until_acknowledged(over, || {
        orders.post("/api/v1/payments", payment_body(&order, CARD_GOOD)).key(&payment_key).try_send().ok()
    });
    let payment = payment.unwrap_or_else(|| panic!("{key} is never paid"));
    if payment.status == 202 {
        // It is on its way, and nothing more is to be asked for.
        let order_id = order.string("order_id");
        let path = format!("/api/v1/orders/{order_id}");
        until(away() + BACK_WITHIN, &format!("{key} is paid"), || {
            let answer = orders.get(&path).try_send().ok().filter(|answer| answer.status == 200)?;
            (answer.json()["status"] == "paid").then_some(())
        });
    } else {
        assert_eq!(payment.json()["status"], "succeeded");
    }
    order
}

/// Buyers who buy and pay one after the other while `happen` does something to the shop. How many orders that were.
fn sell_while(buyers: &[Buyer], product: &Product, happen: impl FnOnce()) -> i64 {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let over = &over;
        let sell = |buyer| {
            scope.spawn(move || {
                let mut placed = 0;
                while !over.load(Ordering::Relaxed) {
                    buy(buyer, product, &format!("order-{placed}"), over);
                    placed += 1;
                }
                placed
            })
        };
        let workers: Vec<_> = buyers.iter().map(sell).collect();
        happen();
        over.store(true, Ordering::Relaxed);
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    })
}

/// Waits until every set of books says that so many orders at 10.00 were paid.
fn wait_until_books_agree(admin: &Client, placed: i64) {
    let expected = placed * 1_000;
    until(BACK_WITHIN, &format!("captured = paid = at the provider = {expected}"), || {
        let stats = stats(admin);
        [("payments", "captured_minor"), ("orders", "paid_minor"), ("provider", "captured_minor")]
            .iter()
            .all(|(of, field)| stats[of][field] == expected)
            .then_some(())
    });
}

fn stats(admin: &Client) -> Value {
    admin.get("/api/v1/admin/stats").send_patiently().expect(200).json()
}

#[test]
fn a_broker_lost_under_load_delays_and_loses_nothing() {
    if broker().is_none() {
        return;
    }
    let broker = OwnBroker::new();
    broker.start();
    let shop = Opening::new().formed(Form::One).set("KAFKA_BROKER", broker.address()).open();
    let admin = shop.admin();
    let product = Product::create(&admin, "Cable", "10.00", 100_000);
    let buyers: Vec<Buyer> = (0..4).map(|number| shop.register(&format!("buyer{number}@example.com"))).collect();
    let client = shop.client();
    let sold = sell_while(&buyers, &product, || {
        until(SOON, "some are sold", || {
            (stats(&admin)["orders"]["by_status"]["paid"].as_i64() >= Some(8)).then_some(())
        });
        broker.kill();
        until(SOON, "the shop says that the bus is away", || {
            let answer = client.get("/readyz").send();
            (answer.status == 503 && answer.text.contains("bus")).then_some(())
        });
        // It is away for so long: this is what is tested.
        thread::sleep(away());
        broker.start();
        until(BACK_WITHIN, "the shop is ready again", || (client.get("/readyz").send().status == 200).then_some(()));
    });
    wait_until_books_agree(&admin, sold);
    until(BACK_WITHIN, "every unit is accounted for", || {
        let inventory = product.inventory(&admin);
        (inventory["committed"] == sold && inventory["reserved"] == 0).then_some(())
    });
    println!("{sold} orders placed and paid around {:?} without a broker", away());
}

#[test]
fn any_role_may_be_killed_and_started_again_and_nothing_is_lost() {
    if broker().is_none() {
        return;
    }
    let mut shop = Opening::new().formed(Form::Roles).open();
    let admin = shop.admin();
    let product = Product::create(&admin, "Cable", "10.00", 100_000);
    let buyers: Vec<Buyer> = (0..4).map(|number| shop.register(&format!("buyer{number}@example.com"))).collect();
    let sold = sell_while(&buyers, &product, || {
        for role in shop::Role::ALL {
            let paid_before = stats(&admin)["orders"]["by_status"]["paid"].as_i64().unwrap_or(0);
            shop.kill_9_role(role);
            shop.reopen_role(role);
            shop.wait_until_ready();
            until(BACK_WITHIN, &format!("the shop sells again after the {role:?} was killed"), || {
                let answer = admin.get("/api/v1/admin/stats").try_send().ok().filter(|answer| answer.status == 200)?;
                (answer.json()["orders"]["by_status"]["paid"].as_i64() > Some(paid_before)).then_some(())
            });
        }
    });
    wait_until_books_agree(&admin, sold);
    println!("{sold} orders placed and paid while each role was killed");
    shop.close();
}

#[test]
fn a_services_own_port_sells_nothing_to_strangers() {
    if broker().is_none() {
        return;
    }
    let shop = Opening::new().formed(Form::Roles).open();
    for role in [shop::Role::Payment, shop::Role::Product, shop::Role::User, shop::Role::Order] {
        let stranger = Client::of_port(shop.port(role));
        stranger.get("/").send().expect(200);
        stranger.get("/bus").send().expect(200);
        for path in ["/api/v1/products", "/api/v1/orders", "/internal/v1/stats"] {
            stranger.get(path).send().expect_error(404, "RESOURCE_NOT_FOUND");
        }
        stranger.get("/api/v1/products").header("x-house-key", "00").send().expect_error(404, "RESOURCE_NOT_FOUND");
        stranger.post("/internal/v1/stats", json!(null)).send().expect_error(404, "RESOURCE_NOT_FOUND");
    }
    let signed_in = shop.register("buyer@example.com");
    signed_in.client.get("/api/v1/users/profile").send().expect(200);
    signed_in.client.post("/api/v1/users/logout", json!({})).send().expect(204);
    signed_in.client.get("/api/v1/users/profile").send().expect_error(401, "AUTHENTICATION_REQUIRED");
    signed_in.client.get("/api/v1/orders").send().expect_error(401, "AUTHENTICATION_REQUIRED");
    shop.close();
}

#[test]
fn a_role_without_kafka_is_refused_in_one_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let ended = Opening::new().formed(Form::One).argument("--role").argument("order").run_to_end(directory.path());
    assert!(!ended.status.success());
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("KAFKA_BROKER"), "{}", ended.stderr);
}

#[test]
fn the_embedded_bus_has_its_table_and_its_dead_letters_too() {
    let shop = Opening::new().formed(Form::One).open();
    let table = said(&ask(&shop, &["topics", "--once"]));
    assert!(table.contains("embedded") && table.contains("order-service"), "{table}");
    let listed = said(&ask(&shop, &["dlq", "list", "order-service"]));
    assert!(listed.contains("0 dead letters"), "{listed}");
    let none: Output = Command::new(env!("CARGO_BIN_EXE_microcommerce"))
        .args(["topics", "--once"])
        .env("PORT", "1")
        .env("PAYMENT_PORT", "2")
        .env("PRODUCT_PORT", "3")
        .env("USER_PORT", "4")
        .env("ORDER_PORT", "5")
        .output()
        .unwrap();
    assert!(!none.status.success() && String::from_utf8_lossy(&none.stderr).contains("no process of the shop answers"));
}
