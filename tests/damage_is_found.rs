//! A damaged page of a service's database takes that service out of readiness, with its reason, and nothing else with it.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod shop;

use std::{
    fs::File,
    io::{Seek as _, SeekFrom, Write as _},
    path::Path,
    time::Duration,
};

use rusqlite::Connection;
use shop::{Opening, Product, Role, until};

const FOUND_WITHIN: Duration = Duration::from_secs(30);

/// Overwrites the head of a page in the middle of the orders' events: one that no start reads. The shop is closed.
fn damage_a_page(database: &Path) {
    let sql = "SELECT pageno FROM dbstat WHERE name = 'events' AND pagetype = 'leaf' ORDER BY path LIMIT 1 OFFSET 3";
    let page: i64 = Connection::open(database).unwrap().query_row(sql, [], |row| row.get(0)).unwrap();
    let mut file = File::options().write(true).open(database).unwrap();
    file.seek(SeekFrom::Start((page.unsigned_abs() - 1) * 4_096)).unwrap();
    file.write_all(&[0xff; 64]).unwrap();
}

#[test]
fn a_damaged_page_is_told_by_readyz_and_the_rest_is_sold_from() {
    let mut shop = Opening::new().open();
    let product = Product::create(&shop.admin(), "Cable", "12.34", 1_000);
    let buyer = shop.register("buyer@example.com");
    for number in 0..60 {
        buyer.order(&product, 1, &format!("order-{number}"));
    }
    shop.send_sigterm();
    assert!(shop.wait_for_end().success());
    damage_a_page(&shop.data_dir().join("order-service").join("journal.db"));
    shop.reopen_without_waiting();

    let client = shop.client();
    let reasons = until(FOUND_WITHIN, "the damage is found", || {
        let answer = client.get("/readyz").try_send().ok().filter(|answer| answer.status == 503)?;
        answer.text.contains("damaged").then_some(answer.text)
    });
    assert!(reasons.contains("order-service: its database is damaged"), "{reasons}");
    assert_eq!(client.get("/healthz").send().status, 200);
    let port = |role| shop::Client::of_port(shop.port(role)).get("/readyz").send().status;
    assert_eq!((port(Role::Order), port(Role::Product)), (503, 200), "each service answers for itself");
    client.get(&format!("/api/v1/products/{}", product.id)).send().expect(200);
    buyer.order(&product, 1, "one-more");
    shop.wait_for_line(&["ERROR", "the database is damaged"]);
}
