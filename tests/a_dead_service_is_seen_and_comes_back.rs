//! A service that dies is seen to be dead, disturbs nobody else and comes back by itself; so does a single entity.
//!
//! The deaths are real: with `DEV_CHAOS=1` the gateway lets an admin kill a service's tree or make an entity panic.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod shop;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use shop::{CARD_GOOD, Client, Opening, Product, Shop, order_body, until};

/// A death is on the health page by then.
const SEEN_WITHIN: Duration = Duration::from_secs(1);
/// A service is back by then, without anybody's doing.
const BACK_WITHIN: Duration = Duration::from_secs(10);
/// No request waits longer for a service that is not there.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

fn shop_with_chaos() -> Shop {
    Opening::new().set("DEV_CHAOS", "1").open()
}

fn is_healthy(client: &Client, service: &str) -> bool {
    let health = client.get("/api/v1/services/health").send();
    assert!(matches!(health.status, 200 | 503), "{} {}", health.status, health.text);
    let health = health.json();
    let services = health["services"].as_array().expect("services are listed even when one is down");
    services.iter().any(|shown| shown["service"] == service && shown["status"] == "healthy")
}

#[test]
fn a_killed_service_is_seen_within_a_second_and_comes_back_by_itself() {
    let shop = shop_with_chaos();
    let admin = shop.admin();
    let product = Product::create(&admin, "Cable", "12.34", 100);
    let buyer = shop.register("buyer@example.com");
    let client = shop.client();
    let services = ["payment-service", "product-service", "order-service", "user-service"];
    for service in services {
        until(BACK_WITHIN, &format!("{service} is healthy at first"), || is_healthy(&client, service).then_some(()));
    }

    for service in services {
        let killed = Instant::now();
        admin.post("/api/v1/admin/chaos/kill", json!({"service": service})).send().expect(204);
        until(SEEN_WITHIN, &format!("{service} is seen to be dead"), || (!is_healthy(&client, service)).then_some(()));
        println!("{service} seen dead after {:?}", killed.elapsed());

        // Down or not, the gateway answers, and no answer hangs on the dead.
        client.get("/").send().expect(200);
        let asked = Instant::now();
        let during =
            buyer.client.post("/api/v1/orders", order_body(&product.id, 1)).key(&format!("during-{service}")).send();
        assert!(matches!(during.status, 201 | 503), "{} {}", during.status, during.text);
        assert!(asked.elapsed() < ANSWERED_WITHIN, "answered after {:?}", asked.elapsed());
        if during.status == 503 {
            assert!(during.header("Retry-After").is_some());
            during.expect_error(503, "SERVICE_UNAVAILABLE");
        }

        until(BACK_WITHIN, &format!("{service} is back"), || is_healthy(&client, service).then_some(()));
        println!("{service} back after {:?}", killed.elapsed());
        let order = buyer.order(&product, 1, &format!("after-{service}"));
        assert_eq!(buyer.pay(&order, CARD_GOOD).expect(201).json()["status"], "succeeded");
    }
}

#[test]
fn a_panic_in_one_order_disturbs_no_other_and_the_order_answers_again() {
    let shop = shop_with_chaos();
    let admin = shop.admin();
    let product = Product::create(&admin, "Cable", "12.34", 10_000);
    let buyer = shop.register("buyer@example.com");
    let struck = buyer.order(&product, 1, "struck");
    let struck_id = struck.string("order_id");
    let other_id = buyer.order(&product, 1, "other").string("order_id");
    let before = buyer.see_order(&struck_id).expect(200).text;

    let over = AtomicBool::new(false);
    let undisturbed = AtomicU64::new(0);
    thread::scope(|scope| {
        // Others go on reading, ordering and paying, and not one of their requests may fail.
        let others: Vec<_> = (0..3)
            .map(|worker| {
                let (buyer, product, other_id, over, undisturbed) = (&buyer, &product, &other_id, &over, &undisturbed);
                scope.spawn(move || {
                    for number in 0.. {
                        if over.load(Ordering::Relaxed) {
                            break;
                        }
                        buyer.see_order(other_id).expect(200);
                        let key = format!("worker-{worker}-{number}");
                        let order = buyer
                            .client
                            .post("/api/v1/orders", order_body(&product.id, 1))
                            .key(&key)
                            .send()
                            .expect(201);
                        assert_eq!(
                            buyer.client.post("/api/v1/payments", shop::payment_body(&order, CARD_GOOD)).send().status,
                            201
                        );
                        undisturbed.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let progress = |more: u64| {
            let now = undisturbed.load(Ordering::Relaxed);
            let stopped = || others.iter().any(thread::ScopedJoinHandle::is_finished);
            until(BACK_WITHIN, "the others go on", || {
                (stopped() || undisturbed.load(Ordering::Relaxed) >= now + more).then_some(())
            });
        };
        progress(3);
        for _ in 0..5 {
            admin.post("/api/v1/admin/chaos/panic", json!({"entity": "order", "id": struck_id})).send().expect(204);
            progress(3);
            let again = until(BACK_WITHIN, "the order answers again", || {
                let answer = buyer.see_order(&struck_id);
                (answer.status == 200).then_some(answer.text)
            });
            assert_eq!(again, before, "what it had acknowledged is what it wakes up with");
        }
        over.store(true, Ordering::Relaxed);
    });
    println!("{} orders placed and paid beside five panics", undisturbed.load(Ordering::Relaxed));
    let paid = buyer.client.post("/api/v1/payments", shop::payment_body(&struck, CARD_GOOD)).send_patiently();
    assert_eq!(paid.expect(201).json()["status"], "succeeded");
}

#[test]
fn nobody_but_an_admin_of_a_shop_in_chaos_mode_can_kill_anything() {
    let shop = shop_with_chaos();
    let body = json!({"service": "payment-service"});
    shop.client().post("/api/v1/admin/chaos/kill", &body).send().expect_error(401, "AUTHENTICATION_REQUIRED");
    let buyer = shop.register("buyer@example.com");
    buyer.client.post("/api/v1/admin/chaos/kill", &body).send().expect_error(403, "AUTHORIZATION_FAILED");
    let unknown = shop.admin().post("/api/v1/admin/chaos/kill", json!({"service": "nobody"})).send();
    assert!(matches!(unknown.status, 404 | 422), "{}", unknown.text);

    let calm = Shop::start();
    calm.admin().post("/api/v1/admin/chaos/kill", &body).send().expect_error(404, "RESOURCE_NOT_FOUND");
}
