//! Twenty times `kill -9` at a random moment of a busy shop, each time on the same directory.
//!
//! The buyers keep a ledger of what they sent and what they were told. A request that got no answer is in doubt: it may have
//! happened or not, and the buyer asks again with the same key, as a client of Stripe would. What must hold:
//! - what was acknowledged is there, with the same content, and the same key gives the same bytes again;
//! - what was in doubt exists exactly once after the retry;
//! - money taken = orders paid, at the shop, at the order service and at the provider;
//! - per product: on hand as at the start, committed = paid, reserved = ordered and unpaid, and nothing is negative;
//! - the saga of each acknowledged order ends: who paid has a paid order of one charge, who did not pay has an order that stands,
//!   and that can be called off, which gives its units back; no order waits for an answer.
//!
//! `SEED=…` repeats the moments of a run (not the threads' interleaving).

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod shop;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use shop::{Answer, Buyer, CARD_GOOD, Chance, Product, Shop, order_body, payment_body, until, wait_until_books_agree};

/// Of one run; `KILL_9_ROUNDS` asks for more.
const ROUNDS: usize = 20;
/// More than the cores, so that several requests are under way at any moment.
const WORKERS: usize = 8;
const STOCK: u32 = 100_000;
/// One order in four is left unpaid, so that holds are recovered too.
const PAY_ALL_BUT_EACH: usize = 4;
/// A round's kill comes after so many acknowledgements, drawn at random, …
const ACKNOWLEDGED_MIN: u64 = 3;
const ACKNOWLEDGED_MAX: u64 = 600;
/// … and so many microseconds, drawn too, because an acknowledgement is itself not a random moment.
const LATER_MICROS_MAX: u64 = 3_000;
const ROUND_WITHIN: Duration = Duration::from_secs(60);
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

/// One order that a buyer sent, and what the shop has said to it so far.
struct Sent {
    key: String,
    product: usize,
    quantity: u32,
    /// The acknowledgement of the order; none while it is in doubt.
    order: Option<Answer>,
    /// Whether this buyer means to pay for it.
    pays: bool,
    /// The acknowledgement of the payment; none while it was not sent or is in doubt.
    payment: Option<Answer>,
}

impl Sent {
    fn body(&self, products: &[Product]) -> String {
        order_body(&products[self.product].id, self.quantity)
    }

    fn payment_key(&self) -> String {
        format!("pay-{}", self.key)
    }
}

/// Orders and pays until the shop no longer answers. Everything that was sent is in what it returns.
fn work(buyer: &Buyer, products: &[Product], round: usize, acknowledged: &AtomicU64) -> Vec<Sent> {
    let mut sent = Vec::new();
    for number in 0.. {
        let mut entry = Sent {
            key: format!("round-{round}-order-{number}"),
            product: number % products.len(),
            quantity: 1 + u32::try_from(number % 3).unwrap(),
            order: None,
            pays: number % PAY_ALL_BUT_EACH != 0,
            payment: None,
        };
        entry.order = answer_to(buyer.client.post("/api/v1/orders", entry.body(products)).key(&entry.key).try_send());
        if let Some(order) = &entry.order {
            acknowledged.fetch_add(1, Ordering::Relaxed);
            if entry.pays {
                let body = payment_body(order, CARD_GOOD);
                let payment = buyer.client.post("/api/v1/payments", body).key(&entry.payment_key()).try_send();
                entry.payment = answer_to(payment);
                acknowledged.fetch_add(u64::from(entry.payment.is_some()), Ordering::Relaxed);
            }
        }
        let in_doubt = entry.order.is_none() || (entry.pays && entry.payment.is_none());
        sent.push(entry);
        if in_doubt {
            break;
        }
    }
    sent
}

/// An acknowledgement, or doubt: no answer, or a shop that says it cannot tell.
fn answer_to(outcome: Result<Answer, ureq::Error>) -> Option<Answer> {
    match outcome {
        Ok(answer) if answer.status == 201 => Some(answer),
        Ok(answer) if answer.status == 503 => None,
        Ok(answer) => panic!("nothing here is refused: {} {}", answer.status, answer.text),
        Err(_) => None,
    }
}

/// Asks again for everything that was sent, and holds the shop to what it had said.
fn ask_again(buyer: &Buyer, products: &[Product], sent: &mut [Sent]) {
    for entry in sent {
        let again =
            buyer.client.post("/api/v1/orders", entry.body(products)).key(&entry.key).send_patiently().expect(201);
        hold_to(&mut entry.order, again, &entry.key);
        let acknowledged = entry.order.as_ref().unwrap();
        let seen = buyer.see_order(&acknowledged.string("order_id")).expect(200);
        assert_same_content(&acknowledged.json(), &seen.json());
        if entry.pays {
            let body = payment_body(acknowledged, CARD_GOOD);
            let again =
                buyer.client.post("/api/v1/payments", body).key(&entry.payment_key()).send_patiently().expect(201);
            assert_eq!(again.json()["status"], "succeeded", "{}", again.text);
            let key = entry.payment_key();
            hold_to(&mut entry.payment, again, &key);
        }
    }
}

/// The same key gives the same bytes; what was in doubt is from now on acknowledged.
fn hold_to(acknowledged: &mut Option<Answer>, again: Answer, key: &str) {
    match acknowledged {
        Some(first) => {
            assert_eq!(again.text, first.text, "the same key {key} gives the same answer");
            assert!(again.is_replayed(), "{key} was answered before");
        }
        None => *acknowledged = Some(again),
    }
}

/// What of an order never changes, whatever its status has become.
fn assert_same_content(acknowledged: &Value, seen: &Value) {
    for field in [
        "order_id",
        "items",
        "subtotal",
        "discount",
        "tax",
        "shipping",
        "total",
        "total_minor",
        "currency",
        "created_at",
    ] {
        assert_eq!(acknowledged[field], seen[field], "{field} of {}", acknowledged["order_id"]);
    }
}

/// Load until a random moment, then `kill -9`; the ledger of the round, by worker.
fn round_of_load(
    shop: &mut Shop,
    buyers: &[Buyer],
    products: &[Product],
    round: usize,
    chance: &mut Chance,
) -> Vec<Vec<Sent>> {
    let acknowledged = AtomicU64::new(0);
    let kill_after = chance.between(ACKNOWLEDGED_MIN, ACKNOWLEDGED_MAX);
    let and_later = Duration::from_micros(chance.between(0, LATER_MICROS_MAX));
    thread::scope(|scope| {
        let workers: Vec<_> = buyers
            .iter()
            .map(|buyer| {
                let acknowledged = &acknowledged;
                scope.spawn(move || work(buyer, products, round, acknowledged))
            })
            .collect();
        until(ROUND_WITHIN, "the load is acknowledged", || {
            let enough = acknowledged.load(Ordering::Relaxed) >= kill_after;
            (enough || workers.iter().any(thread::ScopedJoinHandle::is_finished)).then_some(())
        });
        // Not to wait for anything: this is the random moment.
        thread::sleep(and_later);
        shop.kill_9();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    })
}

fn for_each_buyer(buyers: &[Buyer], ledger: &mut [Vec<Sent>], act: impl Fn(&Buyer, &mut Vec<Sent>) + Sync) {
    thread::scope(|scope| {
        let act = &act;
        let asking: Vec<_> =
            buyers.iter().zip(ledger).map(|(buyer, sent)| scope.spawn(move || act(buyer, sent))).collect();
        asking.into_iter().for_each(|worker| worker.join().unwrap());
    });
}

#[test]
fn twenty_times_kill_9_under_load_loses_nothing_and_charges_nobody_twice() {
    let started = Instant::now();
    let mut chance = Chance::seeded("kill_9");
    let mut shop = Shop::start();
    let admin = shop.admin();
    let products: Vec<Product> = ["19.99", "0.01", "333.33", "5.00"]
        .iter()
        .map(|price| Product::create(&admin, &format!("At {price}"), price, STOCK))
        .collect();
    let mut buyers: Vec<Buyer> =
        (0..WORKERS).map(|number| shop.register(&format!("buyer{number}@example.com"))).collect();
    let mut ledger: Vec<Vec<Sent>> = buyers.iter().map(|_| Vec::new()).collect();

    let rounds = std::env::var("KILL_9_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    for round in 0..rounds {
        let mut sent = round_of_load(&mut shop, &buyers, &products, round, &mut chance);
        let in_doubt =
            sent.iter().flatten().filter(|entry| entry.order.is_none() || (entry.pays && entry.payment.is_none()));
        let (all, in_doubt) = (sent.iter().flatten().count(), in_doubt.count());
        shop.reopen();
        println!("round {round}: {all} orders sent, {in_doubt} in doubt, ready {:?} after kill -9", shop.ready_after);
        buyers = buyers.iter().map(|buyer| shop.sign_in_again(buyer)).collect();
        for_each_buyer(&buyers, &mut sent, |buyer, sent| ask_again(buyer, &products, sent));
        ledger.iter_mut().zip(sent).for_each(|(ledger, sent)| ledger.extend(sent));
    }

    // After all of it: every order of every round once more, and no order that nobody knows of.
    for_each_buyer(&buyers, &mut ledger, |buyer, sent| {
        ask_again(buyer, &products, sent);
        let known: BTreeSet<String> =
            sent.iter().map(|entry| entry.order.as_ref().unwrap().string("order_id")).collect();
        let listed: Vec<String> =
            buyer.all_orders().iter().map(|order| order["order_id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(known.len(), sent.len(), "one order per key");
        assert_eq!(listed.len(), sent.len(), "one key, one order");
        assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), known);
    });
    let payments: BTreeSet<String> =
        ledger.iter().flatten().filter_map(|entry| Some(entry.payment.as_ref()?.string("payment_id"))).collect();
    assert_eq!(payments.len(), ledger.iter().flatten().filter(|entry| entry.pays).count(), "one charge per key");

    let admin = shop.admin();
    assert_money_adds_up(&admin, &ledger);
    assert_stock_adds_up(&admin, &products, &ledger);
    wait_until_books_agree(SETTLED_WITHIN, &admin, &products, &buyers);
    for_each_buyer(&buyers, &mut ledger, |buyer, sent| {
        sent.iter().for_each(|entry| assert_its_saga_ends(buyer, entry))
    });
    // The units of those that were called off are free again, and nothing else has moved.
    wait_until_books_agree(SETTLED_WITHIN, &admin, &products, &buyers);
    for product in &products {
        assert_eq!(product.inventory(&admin)["reserved"], 0, "no order holds anything: {}", product.inventory(&admin));
    }
    println!("{} orders, {} payments in {:?}", ledger.iter().flatten().count(), payments.len(), started.elapsed());
}

/// Every acknowledged order comes to an end by itself, or, unpaid, when its buyer calls it off.
fn assert_its_saga_ends(buyer: &Buyer, entry: &Sent) {
    let order_id = entry.order.as_ref().unwrap().string("order_id");
    let see = || buyer.see_order(&order_id).expect(200).json();
    if !entry.pays {
        assert_eq!(see()["status"], "pending", "{order_id}");
        let cancel = buyer.client.post(&format!("/api/v1/orders/{order_id}/cancel"), r#"{"reason":"customer"}"#);
        let cancelled = cancel.key(&format!("cancel-{order_id}")).send_patiently().expect(200).json();
        assert_eq!(cancelled["status"], "cancelled", "{cancelled}");
        return;
    }
    let order = see();
    assert_eq!((&order["status"], &order["payment_status"]), (&"paid".into(), &"paid".into()), "{order}");
    let payments = buyer.client.get(&format!("/api/v1/payments?order_id={order_id}")).send().expect(200).json();
    let taken =
        payments["payments"].as_array().into_iter().flatten().filter(|payment| payment["status"] == "succeeded");
    assert_eq!(taken.count(), 1, "one charge for {order_id}: {payments}");
}

fn assert_money_adds_up(admin: &shop::Client, ledger: &[Vec<Sent>]) {
    let total = |entry: &Sent| entry.order.as_ref().unwrap().json()["total_minor"].as_i64().unwrap();
    let expected: i64 = ledger.iter().flatten().filter(|entry| entry.pays).map(total).sum();
    let settled = |stats: &Value| {
        [("payments", "captured_minor"), ("orders", "paid_minor"), ("provider", "captured_minor")]
            .iter()
            .all(|(of, field)| stats[of][field] == expected)
    };
    let what = format!("captured = paid = at the provider = {expected}, what the buyers paid");
    until(SETTLED_WITHIN, &what, || settled(&admin.get("/api/v1/admin/stats").send().expect(200).json()).then_some(()));
}

fn assert_stock_adds_up(admin: &shop::Client, products: &[Product], ledger: &[Vec<Sent>]) {
    for (number, product) in products.iter().enumerate() {
        let quantity = |pays: bool| -> i64 {
            let of_it = ledger.iter().flatten().filter(|entry| entry.product == number && entry.pays == pays);
            of_it.map(|entry| i64::from(entry.quantity)).sum()
        };
        let (committed, reserved, on_hand) = (quantity(true), quantity(false), i64::from(STOCK));
        let expected = [on_hand, reserved, committed, on_hand - reserved - committed];
        until(
            SETTLED_WITHIN,
            &format!("on_hand, reserved, committed, available of {} = {expected:?}", product.id),
            || {
                let inventory = product.inventory(admin);
                let counters = ["on_hand", "reserved", "committed", "available"]
                    .map(|counter| inventory[counter].as_i64().unwrap());
                assert!(counters.iter().all(|counter| *counter >= 0), "{inventory}");
                assert_eq!(counters[3], counters[0] - counters[1] - counters[2], "{inventory}");
                (counters == expected).then_some(())
            },
        );
    }
}
