//! A flash sale: five hundred people press the button at the same moment, and there are one hundred units.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod shop;

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use shop::{Answer, Buyer, CARD_GOOD, Product, Shop, order_body, until, wait_until_books_agree};

const BUYERS: usize = 500;
const UNITS: usize = 100;
/// A password hash costs tens of milliseconds, so ten buyers share an account; each has an idempotency key of his own.
const ACCOUNTS: usize = 50;
const SOON: Duration = Duration::from_secs(10);

fn all_at_once(accounts: &[Buyer], product: &Product) -> Vec<Answer> {
    let start = Barrier::new(BUYERS);
    thread::scope(|scope| {
        let buyers: Vec<_> = (0..BUYERS)
            .map(|number| {
                let start = &start;
                scope.spawn(move || {
                    let buyer = &accounts[number % ACCOUNTS];
                    let call =
                        buyer.client.post("/api/v1/orders", order_body(&product.id, 1)).key(&format!("buyer-{number}"));
                    start.wait();
                    call.send_patiently()
                })
            })
            .collect();
        buyers.into_iter().map(|buyer| buyer.join().unwrap()).collect()
    })
}

#[test]
fn five_hundred_buyers_at_once_get_exactly_the_hundred_units_there_are() {
    let shop = Shop::start();
    let admin = shop.admin();
    let product = Product::create(&admin, "The last hundred", "49.90", u32::try_from(UNITS).unwrap());
    let accounts: Vec<Buyer> =
        (0..ACCOUNTS).map(|number| shop.register(&format!("buyer{number}@example.com"))).collect();

    let started = Instant::now();
    let answers = all_at_once(&accounts, &product);
    println!("{BUYERS} buyers were answered within {:?}", started.elapsed());

    let won: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 201).collect();
    let orders: BTreeSet<String> = won.iter().map(|answer| answer.string("order_id")).collect();
    assert_eq!((won.len(), orders.len()), (UNITS, UNITS), "each unit is sold once");
    for refused in answers.iter().filter(|answer| answer.status != 201) {
        let error = refused.clone().expect_error(409, "INSUFFICIENT_STOCK");
        assert_eq!(error["details"]["items"][0]["requested"], 1);
        assert_eq!(error["details"]["items"][0]["available"], 0);
    }

    let visitor = shop.client();
    until(SOON, "the product is shown as sold out", || (product.stock_shown(&visitor) == 0).then_some(()));
    let inventory = product.inventory(&admin);
    let counters =
        ["on_hand", "reserved", "committed", "available"].map(|counter| inventory[counter].as_i64().unwrap());
    assert_eq!(counters, [100, 100, 0, 0], "{inventory}");

    // Everybody presses the button again: the same answers, and not a unit more.
    let again = all_at_once(&accounts, &product);
    for (first, second) in answers.iter().zip(&again) {
        assert_eq!((second.status, &second.text), (first.status, &first.text));
        assert!(second.is_replayed());
    }
    assert_eq!(product.inventory(&admin), inventory);

    // Half of them pay: so many units are sold, the others held, and every set of books says so.
    let winners = answers.iter().enumerate().filter(|(_, answer)| answer.status == 201);
    for (number, order) in winners.take(UNITS / 2) {
        let paid = accounts[number % ACCOUNTS].pay(order, CARD_GOOD);
        assert_eq!(paid.expect(201).json()["status"], "succeeded");
    }
    wait_until_books_agree(SOON, &admin, std::slice::from_ref(&product), &accounts);
    let inventory = product.inventory(&admin);
    assert_eq!((&inventory["committed"], &inventory["reserved"]), (&50.into(), &50.into()), "{inventory}");
}
