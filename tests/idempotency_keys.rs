//! One key, one effect: a retry gets the first answer again and changes nothing.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod shop;

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use shop::{Answer, Buyer, CARD_DECLINED, CARD_GOOD, Product, Shop, order_body, payment_body, until};

const SOON: Duration = Duration::from_secs(10);
const AT_ONCE: usize = 10;

fn shop_with_one_product() -> (Shop, Product, Buyer) {
    let shop = Shop::start();
    let product = Product::create(&shop.admin(), "Cable", "12.34", 100);
    let buyer = shop.register("buyer@example.com");
    (shop, product, buyer)
}

/// The same call from several threads at the same moment.
fn at_once(call: impl Fn() -> Answer + Sync) -> Vec<Answer> {
    let start = Barrier::new(AT_ONCE);
    thread::scope(|scope| {
        let calls: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                let (start, call) = (&start, &call);
                scope.spawn(move || {
                    start.wait();
                    call()
                })
            })
            .collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    })
}

/// All payments of an order, as its owner sees them.
fn payments_of(buyer: &Buyer, order: &Answer) -> Vec<Value> {
    let path = format!("/api/v1/payments?order_id={}", order.string("order_id"));
    buyer.client.get(&path).send().expect(200).json()["payments"].as_array().expect("payments").clone()
}

fn succeeded(payments: &[Value]) -> usize {
    payments.iter().filter(|payment| payment["status"] == "succeeded").count()
}

#[test]
fn the_same_key_gives_the_same_order_and_the_same_bytes() {
    let (shop, product, buyer) = shop_with_one_product();
    let call = buyer.client.post("/api/v1/orders", order_body(&product.id, 1)).key("one");
    let first = call.send().expect(201);
    assert!(!first.is_replayed(), "the first answer is no replay");
    for _ in 0..3 {
        let again = call.send().expect(201);
        assert_eq!(again.text, first.text);
        assert!(again.is_replayed());
        for header in ["Location", "ETag", "Content-Type"] {
            assert_eq!(again.header(header), first.header(header), "{header}");
        }
    }
    // Key order and white space are not part of what was asked.
    let reworded = format!(r#" {{"items" : [ {{"quantity":1, "product_id":"{}"}} ] }} "#, product.id);
    let again = buyer.client.post("/api/v1/orders", reworded).key("one").send().expect(201);
    assert_eq!((again.text.as_str(), again.is_replayed()), (first.text.as_str(), true));
    assert_eq!(buyer.all_orders().len(), 1);
    assert_eq!(product.stock_shown(&shop.client()), 99);
}

#[test]
fn another_request_with_a_used_key_is_refused() {
    let (shop, product, buyer) = shop_with_one_product();
    buyer.order(&product, 1, "one");
    let other = buyer.client.post("/api/v1/orders", order_body(&product.id, 2)).key("one").send();
    other.expect_error(422, "IDEMPOTENCY_KEY_REUSED");
    assert_eq!(product.stock_shown(&shop.client()), 99);
}

#[test]
fn an_order_without_a_key_is_refused_and_so_is_a_key_that_is_too_long() {
    let (shop, product, buyer) = shop_with_one_product();
    let body = order_body(&product.id, 1);
    buyer.client.post("/api/v1/orders", &body).send().expect_error(400, "VALIDATION_ERROR");
    buyer.client.post("/api/v1/orders", &body).key("").send().expect_error(400, "VALIDATION_ERROR");
    buyer.client.post("/api/v1/orders", &body).key(&"k".repeat(256)).send().expect_error(400, "VALIDATION_ERROR");
    buyer.client.post("/api/v1/orders", &body).key(&"k".repeat(255)).send().expect(201);
    assert_eq!(product.stock_shown(&shop.client()), 99);
}

#[test]
fn a_key_belongs_to_the_one_who_sent_it() {
    let (shop, product, buyer) = shop_with_one_product();
    let other = shop.register("other@example.com");
    let first = buyer.order(&product, 1, "the-same");
    let second = other.order(&product, 1, "the-same");
    assert!(!second.is_replayed());
    assert_ne!(first.string("order_id"), second.string("order_id"));
}

#[test]
fn the_same_key_from_many_connections_at_once_makes_one_order() {
    let (shop, product, buyer) = shop_with_one_product();
    let answers = at_once(|| {
        buyer.client.post("/api/v1/orders", order_body(&product.id, 1)).key("one").send_patiently().expect(201)
    });
    let texts: BTreeSet<&str> = answers.iter().map(|answer| answer.text.as_str()).collect();
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert_eq!(answers.iter().filter(|answer| !answer.is_replayed()).count(), 1, "one of them did it");
    assert_eq!(buyer.all_orders().len(), 1);
    assert_eq!(product.stock_shown(&shop.client()), 99);
}

#[test]
fn a_refusal_is_remembered_like_a_success() {
    let (shop, product, buyer) = shop_with_one_product();
    let call = buyer.client.post("/api/v1/orders", order_body(&product.id, 101)).key("too-many");
    let first = call.send();
    first.clone().expect_error(409, "INSUFFICIENT_STOCK");
    let again = call.send();
    assert_eq!((again.status, &again.text, again.is_replayed()), (409, &first.text, true));
    assert_eq!(product.stock_shown(&shop.client()), 100);
}

#[test]
fn a_double_click_on_pay_without_a_key_charges_once() {
    let (shop, product, buyer) = shop_with_one_product();
    let order = buyer.order(&product, 1, "one");
    let answers = at_once(|| buyer.client.post("/api/v1/payments", payment_body(&order, CARD_GOOD)).send());

    let mut charges = BTreeSet::new();
    for answer in &answers {
        match answer.status {
            201 => drop(charges.insert(answer.string("payment_id"))),
            409 => {}
            status => panic!("{status} {}", answer.text),
        }
    }
    assert_eq!(charges.len(), 1, "{answers:?}");
    assert_eq!(succeeded(&payments_of(&buyer, &order)), 1);
    let admin = shop.admin();
    until(SOON, "the provider holds the price of one order", || {
        let stats = admin.get("/api/v1/admin/stats").send().expect(200).json();
        let captured = (&stats["provider"]["captured_minor"], &stats["orders"]["paid_minor"]);
        (captured == (&json!(1234), &json!(1234))).then_some(())
    });
}

#[test]
fn the_same_payment_key_charges_once_and_answers_the_same() {
    let (_shop, product, buyer) = shop_with_one_product();
    let order = buyer.order(&product, 1, "one");
    let call = || {
        buyer.client.post("/api/v1/payments", payment_body(&order, CARD_GOOD)).key("pay").send_patiently().expect(201)
    };
    let answers = at_once(call);
    let texts: BTreeSet<&str> = answers.iter().map(|answer| answer.text.as_str()).collect();
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert_eq!(succeeded(&payments_of(&buyer, &order)), 1);

    let other = buyer.order(&product, 2, "two");
    let reused = buyer.client.post("/api/v1/payments", payment_body(&other, CARD_GOOD)).key("pay").send();
    reused.expect_error(422, "IDEMPOTENCY_KEY_REUSED");
}

#[test]
fn a_declined_card_leaves_the_order_pending_and_payable() {
    let (_shop, product, buyer) = shop_with_one_product();
    let order = buyer.order(&product, 1, "one");
    let order_id = order.string("order_id");

    let declined = buyer.client.post("/api/v1/payments", payment_body(&order, CARD_DECLINED)).key("bad-card");
    let first = declined.send();
    first.clone().expect_error(402, "PAYMENT_DECLINED");
    let again = declined.send();
    assert_eq!((again.status, &again.text), (402, &first.text), "a decline is remembered under its key");
    let pending = until(SOON, "the order is pending again", || {
        Some(buyer.see_order(&order_id).expect(200).json()).filter(|order| order["status"] == "pending")
    });
    assert_eq!(pending["payment_status"], "unpaid");

    let paid = buyer.client.post("/api/v1/payments", payment_body(&order, CARD_GOOD)).key("good-card").send_patiently();
    assert_eq!(paid.expect(201).json()["status"], "succeeded");
    until(SOON, "the order is paid", || {
        (buyer.see_order(&order_id).expect(200).json()["status"] == "paid").then_some(())
    });
    assert_eq!(succeeded(&payments_of(&buyer, &order)), 1);
}
