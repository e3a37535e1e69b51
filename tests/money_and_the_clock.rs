//! Cancelling, expiring, proving who one is, paying with another card, and getting one's money back: over HTTP.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod shop;

use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use shop::{
    Answer, Buyer, CARD_DECLINED, CARD_GOOD, Client, Form, Opening, Product, Shop, order_body, payment_body, until,
};

/// The card whose buyer must prove who they are.
const CARD_3DS: &str = "4000002500003155";
const SOON: Duration = Duration::from_secs(20);
/// A journal that has written nothing for so long has nothing left to write: its index follows two seconds after the last work.
const QUIET: Duration = Duration::from_secs(5);
const STOCK: u32 = 100;

struct Scene {
    shop: Shop,
    admin: Client,
    product: Product,
    buyer: Buyer,
}

fn scene() -> Scene {
    scene_of(Opening::new())
}

fn scene_of(opening: Opening) -> Scene {
    let shop = opening.open();
    let admin = shop.admin();
    let product = Product::create(&admin, "Cable", "12.34", STOCK);
    let buyer = shop.register("buyer@example.com");
    Scene { shop, admin, product, buyer }
}

impl Scene {
    fn order(&self) -> Answer {
        self.buyer.order(&self.product, 2, "one")
    }

    fn cancel(&self, order: &Answer, key: &str) -> Answer {
        cancel(&self.buyer, order, key)
    }

    /// Pays with the card whose buyer must act first; the payment's id.
    fn begin_3ds(&self, order: &Answer) -> String {
        let asked = self.buyer.pay(order, CARD_3DS).expect(201);
        assert_eq!(asked.string("status"), "requires_action", "{}", asked.text);
        asked.string("payment_id")
    }

    fn confirm(&self, payment_id: &str, key: &str) -> Answer {
        self.buyer.client.post(&format!("/api/v1/payments/{payment_id}/confirm"), "{}").key(key).send_patiently()
    }

    fn payment(&self, payment_id: &str) -> Value {
        self.buyer.client.get(&format!("/api/v1/payments/{payment_id}")).send().expect(200).json()
    }

    fn payments(&self, order: &Answer) -> Vec<Value> {
        let path = format!("/api/v1/payments?order_id={}", order.string("order_id"));
        self.buyer.client.get(&path).send().expect(200).json()["payments"].as_array().unwrap().clone()
    }

    /// Waits until the order reads like that.
    fn until_order(&self, order: &Answer, status: &str, payment_status: &str) -> Value {
        let order_id = order.string("order_id");
        until(SOON, &format!("the order is {status} and {payment_status}"), || {
            let seen = self.buyer.see_order(&order_id).expect(200).json();
            (seen["status"] == status && seen["payment_status"] == payment_status).then_some(seen)
        })
    }

    /// Waits until nothing is held or sold of the product.
    fn until_all_stock_is_free(&self) {
        until(SOON, "all of the stock is free again", || {
            let inventory = self.product.inventory(&self.admin);
            (inventory["reserved"] == 0 && inventory["committed"] == 0 && inventory["available"] == STOCK).then_some(())
        });
    }

    /// Waits until the provider's books say so: captured and given back, in minor units.
    fn until_books(&self, captured_minor: i64, refunded_minor: i64) {
        until(SOON, "the provider's books agree", || {
            let stats = self.admin.get("/api/v1/admin/stats").send().expect(200).json();
            let books = &stats["provider"];
            (books["captured_minor"] == captured_minor && books["refunded_minor"] == refunded_minor).then_some(())
        });
    }
}

fn cancel(buyer: &Buyer, order: &Answer, key: &str) -> Answer {
    let path = format!("/api/v1/orders/{}/cancel", order.string("order_id"));
    buyer.client.post(&path, json!({"reason": "changed my mind"})).key(key).send_patiently()
}

/// A shop in which time passes quickly: an order is paid within four seconds or never.
fn hasty() -> Opening {
    Opening::new().set("ORDER_PAYABLE_SECONDS", 4).set("PAYMENT_WINDOW_SECONDS", 4)
}

#[test]
fn an_unpaid_order_is_cancelled_once_and_its_stock_is_free() {
    let scene = scene();
    let order = scene.order();
    let stranger = scene.shop.register("stranger@example.com");
    cancel(&stranger, &order, "x").expect_error(404, "RESOURCE_NOT_FOUND");

    let etag = order.header("ETag").unwrap().to_owned();
    let path = format!("/api/v1/orders/{}", order.string("order_id"));
    let conditional = || scene.buyer.client.get(&path).header("If-None-Match", &etag).send();
    conditional().expect(304);

    let first = scene.cancel(&order, "c1").expect(200);
    assert_eq!((first.string("status"), first.string("cancel_reason")), ("cancelled".into(), "customer".into()));
    let seen = conditional().expect(200);
    assert_eq!(seen.string("status"), "cancelled");
    assert_ne!(seen.header("ETag"), Some(etag.as_str()), "what has changed has another tag");
    let again = scene.cancel(&order, "c1").expect(200);
    assert_eq!((&again.text, again.is_replayed()), (&first.text, true));
    scene.cancel(&order, "c2").expect_error(409, "INVALID_STATE_TRANSITION");
    scene.buyer.pay(&order, CARD_GOOD).expect_error(409, "INVALID_STATE_TRANSITION");
    assert_eq!(scene.payments(&order), Vec::<Value>::new(), "nothing is written down for it");
    scene.until_all_stock_is_free();
    scene.shop.close();
}

#[test]
fn a_paid_order_that_is_cancelled_gives_its_money_and_its_stock_back() {
    let scene = scene();
    let order = scene.order();
    let paid = scene.buyer.pay(&order, CARD_GOOD).expect(201);
    scene.until_order(&order, "paid", "paid");
    assert_eq!(scene.cancel(&order, "c1").expect(200).string("status"), "cancelled");
    scene.until_order(&order, "cancelled", "refunded");
    scene.until_books(2468, 2468);
    scene.until_all_stock_is_free();
    let payment = scene.payment(&paid.string("payment_id"));
    assert_eq!((&payment["status"], &payment["refunded_minor"]), (&json!("refunded"), &json!(2468)));
    scene.shop.close();
}

#[test]
fn an_unpaid_order_expires_and_its_stock_is_free() {
    let scene = scene_of(hasty());
    let order = scene.order();
    let expired = scene.until_order(&order, "cancelled", "unpaid");
    assert_eq!(expired["cancel_reason"], "expired");
    scene.until_all_stock_is_free();
    scene.buyer.pay(&order, CARD_GOOD).expect_error(409, "RESERVATION_EXPIRED");
    let keyed = || scene.buyer.client.post("/api/v1/payments", payment_body(&order, CARD_GOOD)).key("late").send();
    keyed().expect_error(409, "RESERVATION_EXPIRED");
    keyed().expect_error(409, "RESERVATION_EXPIRED");
    assert_eq!(scene.payments(&order), Vec::<Value>::new());
    scene.until_books(0, 0);
    scene.shop.close();
}

#[test]
fn a_buyer_who_proves_who_they_are_in_time_has_paid() {
    let scene = scene();
    let order = scene.order();
    let payment_id = scene.begin_3ds(&order);
    let confirmed = scene.confirm(&payment_id, "k1").expect(200);
    assert_eq!(confirmed.string("status"), "succeeded");
    scene.until_order(&order, "paid", "paid");
    let again = scene.confirm(&payment_id, "k1").expect(200);
    assert_eq!((&again.text, again.is_replayed()), (&confirmed.text, true));
    scene.confirm(&payment_id, "k2").expect_error(409, "INVALID_STATE_TRANSITION");
    scene.until_books(2468, 0);
    scene.shop.close();
}

#[test]
fn another_card_takes_the_place_of_one_whose_buyer_has_not_acted() {
    let scene = scene();
    let order = scene.order();
    let first = scene.begin_3ds(&order);
    let second = scene.buyer.pay(&order, CARD_GOOD).expect(201);
    assert_eq!(second.string("status"), "succeeded");
    scene.until_order(&order, "paid", "paid");
    let voided = scene.payment(&first);
    assert_eq!((&voided["status"], &voided["void_reason"]), (&json!("voided"), &json!("superseded")));
    scene.confirm(&first, "k1").expect_error(409, "INVALID_STATE_TRANSITION");
    scene.until_books(2468, 0);
    assert_eq!(scene.payments(&order).len(), 2);
    scene.shop.close();
}

#[test]
fn a_cancellation_while_the_buyer_has_to_act_is_done_at_once_and_keeps_its_reason() {
    let scene = scene();
    let order = scene.order();
    let payment_id = scene.begin_3ds(&order);
    let cancelled = scene.cancel(&order, "c1").expect(200);
    assert_eq!(
        (cancelled.string("status"), cancelled.string("cancel_reason")),
        ("cancelled".into(), "customer".into())
    );
    until(SOON, "the payment is voided", || (scene.payment(&payment_id)["status"] == "voided").then_some(()));
    scene.confirm(&payment_id, "k1").expect_error(409, "INVALID_STATE_TRANSITION");
    scene.until_all_stock_is_free();
    scene.until_order(&order, "cancelled", "unpaid");
    scene.until_books(0, 0);
    scene.shop.close();
}

#[test]
fn a_confirmation_after_the_orders_time_charges_nothing() {
    let scene = scene_of(hasty());
    let order = scene.order();
    let payment_id = scene.begin_3ds(&order);
    let expired = scene.until_order(&order, "cancelled", "unpaid");
    assert_eq!(expired["cancel_reason"], "expired");
    let late = scene.confirm(&payment_id, "k1");
    assert_eq!(late.status, 409, "{}", late.text);
    until(SOON, "the payment is voided", || (scene.payment(&payment_id)["status"] == "voided").then_some(()));
    scene.until_all_stock_is_free();
    scene.until_order(&order, "cancelled", "unpaid");
    scene.until_books(0, 0);
    scene.shop.close();
}

#[test]
fn five_cards_may_be_declined_and_every_further_try_is_refused_without_a_write() {
    let scene = scene();
    let order = scene.order();
    for _ in 0..5 {
        scene.buyer.pay(&order, CARD_DECLINED).expect_error(402, "PAYMENT_DECLINED");
    }
    scene.until_order(&order, "pending", "unpaid");
    let data_dir = scene.shop.data_dir();
    let written = || {
        ["payment-service", "order-service", "sandbox-provider"].map(|service| last_written(&data_dir.join(service)))
    };
    let before = until(SOON * 2, "the journals have written what they write when they have nothing to do", || {
        let written = written();
        written.iter().all(|time| time.elapsed().is_ok_and(|age| age > QUIET)).then_some(written)
    });
    for number in 0..50 {
        scene.buyer.pay(&order, CARD_GOOD).expect_error(409, "RESOURCE_CONFLICT");
        let keyed = scene.buyer.client.post("/api/v1/payments", payment_body(&order, CARD_GOOD));
        keyed.key(&format!("try-{number}")).send().expect_error(409, "RESOURCE_CONFLICT");
    }
    assert_eq!(scene.payments(&order).len(), 5);
    if scene.shop.form() == Form::One {
        assert_eq!(written(), before, "a hundred tries have written nothing");
    }
    assert_eq!(scene.cancel(&order, "c1").expect(200).string("status"), "cancelled");
    scene.until_all_stock_is_free();
    scene.shop.close();
}

/// When a journal's write-ahead log was written last.
fn last_written(directory: &Path) -> SystemTime {
    directory.join("journal.db-wal").metadata().unwrap().modified().unwrap()
}

#[test]
fn nobody_sees_the_orders_and_payments_of_others() {
    let scene = scene();
    let order = scene.order();
    let paid = scene.buyer.pay(&order, CARD_GOOD).expect(201);
    let stranger = scene.shop.register("stranger@example.com");
    let order_id = order.string("order_id");

    let of_buyer = format!("/api/v1/orders?user_id={}", scene.buyer.user_id);
    stranger.client.get(&of_buyer).send().expect_error(403, "AUTHORIZATION_FAILED");
    let own = stranger.client.get("/api/v1/orders").send().expect(200).json();
    assert_eq!(own["orders"], json!([]));
    let by_itself = format!("/api/v1/orders?user_id={}", stranger.user_id);
    assert_eq!(stranger.client.get(&by_itself).send().expect(200).json()["orders"], json!([]));

    let of_order = format!("/api/v1/payments?order_id={order_id}");
    stranger.client.get(&of_order).send().expect_error(404, "RESOURCE_NOT_FOUND");
    stranger.client.get("/api/v1/payments?order_id=ord_none").send().expect_error(404, "RESOURCE_NOT_FOUND");
    stranger.client.get("/api/v1/payments").send().expect_error(400, "VALIDATION_ERROR");
    let payment = format!("/api/v1/payments/{}", paid.string("payment_id"));
    stranger.client.get(&payment).send().expect_error(404, "RESOURCE_NOT_FOUND");
    stranger.client.get(&format!("/api/v1/orders/{order_id}")).send().expect_error(404, "RESOURCE_NOT_FOUND");
    let confirm = format!("{payment}/confirm");
    stranger.client.post(&confirm, "{}").key("k").send().expect_error(404, "RESOURCE_NOT_FOUND");
    stranger
        .client
        .post("/api/v1/payments", payment_body(&order, CARD_GOOD))
        .send()
        .expect_error(404, "RESOURCE_NOT_FOUND");
    for path in [&of_buyer, &of_order, &payment] {
        scene.shop.client().get(path).send().expect_error(401, "AUTHENTICATION_REQUIRED");
        scene.admin.get(path).send().expect(200);
    }
    let seen = scene.admin.get(&of_buyer).send().expect(200).json();
    assert_eq!(seen["orders"].as_array().unwrap().len(), 1);
    scene.shop.close();
}

#[test]
fn an_order_reads_anew_after_every_change() {
    let scene = scene();
    let order = scene.order();
    let path = format!("/api/v1/orders/{}", order.string("order_id"));
    let mut tags = vec![order.header("ETag").unwrap().to_owned()];
    let mut see_change = |status: &str| {
        let known = tags.last().unwrap().clone();
        let tag = until(SOON, &format!("the order is {status}"), || {
            let seen = scene.buyer.client.get(&path).header("If-None-Match", &known).send();
            (seen.status == 200 && seen.string("status") == status).then(|| seen.header("ETag").unwrap().to_owned())
        });
        assert!(!tags.contains(&tag), "{tag} was another state's: {tags:?}");
        tags.push(tag);
    };
    scene.buyer.pay(&order, CARD_DECLINED).expect(402);
    see_change("pending");
    scene.buyer.pay(&order, CARD_GOOD).expect(201);
    see_change("paid");
    scene.cancel(&order, "c1").expect(200);
    see_change("cancelled");
    scene.shop.close();
}

#[test]
fn a_session_is_refreshed_and_a_spent_token_ends_it() {
    let scene = scene();
    let client = scene.shop.client();
    let signed_in = client
        .post("/api/v1/users/login", json!({"email": scene.buyer.email, "password": shop::PASSWORD}))
        .send_patiently()
        .expect(200);
    let refresh = |token: &str| client.post("/api/v1/users/refresh", json!({"refresh_token": token})).send();
    let first = signed_in.string("refresh_token");
    let second = refresh(&first).expect(200);
    client.with_token(&second.string("access_token")).get("/api/v1/users/profile").send().expect(200);
    let third = refresh(&second.string("refresh_token")).expect(200);
    refresh(&first).expect_error(401, "REFRESH_TOKEN_REUSED");
    assert_eq!(refresh(&third.string("refresh_token")).status, 401, "the whole family has ended");
    scene.shop.close();
}

#[test]
fn a_key_that_was_refused_before_anything_began_may_be_used_again() {
    let scene = scene();
    let order = scene.order();
    let body = payment_body(&order, CARD_GOOD);
    let pay = || scene.buyer.client.post("/api/v1/payments", &body).key("pay");
    let paid = pay().send_patiently().expect(201);
    assert_eq!(pay().send().expect(201).text, paid.text, "a key that stands for something is looked up first");
    let other = scene.buyer.client.post("/api/v1/payments", &body).key("other").send();
    other.expect_error(409, "RESOURCE_CONFLICT");
    let second =
        scene.buyer.client.post("/api/v1/orders", order_body(&scene.product.id, 1)).key("two").send_patiently();
    let body = payment_body(&second.expect(201), CARD_GOOD);
    scene.buyer.client.post("/api/v1/payments", &body).key("other").send_patiently().expect(201);
    scene.shop.close();
}
