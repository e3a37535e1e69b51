//! What one account may hold without having paid: a cap on orders and on units, decided before any stock is asked for.
//!
//! In every form: where the order service is another process, the gateway says which limits hold.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod shop;

use serde_json::json;
use shop::{Answer, Buyer, CARD_GOOD, Client, Opening, Product, Shop, order_body, until};
use std::time::Duration;

/// The caps of the profile `default`.
const ORDERS_MAX: usize = 10;
const UNITS_MAX: u32 = 1_000;
const SOON: Duration = Duration::from_secs(10);

fn limited() -> Opening {
    Opening::new().set("RATE_LIMIT_PROFILE", "default")
}

fn order(client: &Client, product: &Product, quantity: u32, key: &str) -> Answer {
    client.post("/api/v1/orders", order_body(&product.id, quantity)).key(key).send_patiently()
}

#[track_caller]
fn assert_capped(answer: Answer) {
    let wait: u32 = answer.header("Retry-After").expect("it says when to come back").parse().unwrap();
    assert!((1..=900).contains(&wait), "{wait}");
    assert!(!answer.is_replayed());
    let error = answer.expect_error(409, "RESOURCE_CONFLICT");
    assert!(error["details"]["reason"].as_str().unwrap().contains("unpaid"), "{error}");
}

fn reserved(admin: &Client, product: &Product) -> i64 {
    product.inventory(admin)["reserved"].as_i64().unwrap()
}

fn cancel(buyer: &Buyer, order: &Answer) {
    let order_id = order.string("order_id");
    let path = format!("/api/v1/orders/{order_id}/cancel");
    buyer.client.post(&path, json!({})).key(&order_id).send_patiently().expect(200);
}

#[test]
fn unpaid_orders_are_capped_and_paying_or_cancelling_makes_room_also_under_the_same_key() {
    let mut shop: Shop = limited().open();
    let admin = shop.admin();
    let product = Product::create(&admin, "Cable", "12.34", 2_000);
    let buyer = shop.register("buyer@example.com");
    let orders: Vec<Answer> =
        (0..ORDERS_MAX).map(|number| order(&buyer.client, &product, 1, &format!("o{number}")).expect(201)).collect();
    for _ in 0..2 {
        assert_capped(order(&buyer.client, &product, 1, "late"));
    }
    assert_eq!(reserved(&admin, &product), ORDERS_MAX as i64, "no stock was asked for");
    // What was placed is given again, whatever is unpaid.
    let again = order(&buyer.client, &product, 1, "o3").expect(201);
    assert!(again.is_replayed());
    // Nobody else is in the way.
    let other = shop.register("other@example.com");
    order(&other.client, &product, 1, "one").expect(201);

    cancel(&buyer, &orders[0]);
    order(&buyer.client, &product, 1, "late").expect(201);
    assert_capped(order(&buyer.client, &product, 1, "later"));
    assert_eq!(buyer.pay(&orders[1], CARD_GOOD).expect(201).json()["status"], "succeeded");
    until(SOON, "the order is paid", || {
        (buyer.see_order(&orders[1].string("order_id")).expect(200).json()["status"] == "paid").then_some(())
    });
    order(&buyer.client, &product, 1, "later").expect(201);
    assert_capped(order(&buyer.client, &product, 1, "latest"));

    // The count is made again from what is on disk.
    shop.kill_9();
    shop.reopen();
    let buyer = shop.sign_in_again(&buyer);
    assert_capped(order(&buyer.client, &product, 1, "latest"));
    cancel(&buyer, &orders[2]);
    order(&buyer.client, &product, 1, "latest").expect(201);
}

#[test]
fn unpaid_units_are_capped_and_staff_are_exempt() {
    let shop = limited().open();
    let admin = shop.admin();
    let product = Product::create(&admin, "Cable", "12.34", 10_000);
    let buyer = shop.register("buyer@example.com");
    assert_capped(order(&buyer.client, &product, UNITS_MAX + 1, "all"));
    order(&buyer.client, &product, UNITS_MAX - 1, "most").expect(201);
    assert_capped(order(&buyer.client, &product, 2, "two"));
    order(&buyer.client, &product, 1, "one").expect(201);
    assert_capped(order(&buyer.client, &product, 1, "another"));
    assert_eq!(reserved(&admin, &product), i64::from(UNITS_MAX));
    order(&admin, &product, UNITS_MAX + 1, "staff").expect(201);
    // What was refused for want of stock is held by nobody.
    let rare = Product::create(&admin, "Rare cable", "12.34", 1);
    let other = shop.register("other@example.com");
    for number in 0..=ORDERS_MAX {
        order(&other.client, &rare, 2, &format!("r{number}")).expect_error(409, "INSUFFICIENT_STOCK");
    }
    order(&other.client, &product, 1, "one").expect(201);
}

#[test]
fn the_profile_off_lifts_the_caps() {
    let shop = Shop::start();
    let product = Product::create(&shop.admin(), "Cable", "12.34", 10_000);
    let buyer = shop.register("buyer@example.com");
    for number in 0..=ORDERS_MAX {
        order(&buyer.client, &product, 1, &number.to_string()).expect(201);
    }
    order(&buyer.client, &product, UNITS_MAX + 1, "many").expect(201);
}
