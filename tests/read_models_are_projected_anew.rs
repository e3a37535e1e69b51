//! The read models of every service, projected anew from the events, are the ones that were written with them.
//!
//! A shop is sold in, with everything that a shop does to its rows: orders that are paid, cancelled and left, cards that are
//! declined, refunds, products that are changed and withdrawn, sessions that end. Then the files forget which versions their read
//! models have, as those of a build without versions do, and are opened again.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod shop;

use std::{collections::BTreeMap, fs, path::Path};

use rusqlite::{Connection, OpenFlags, types::Value};
use shop::{Buyer, CARD_DECLINED, CARD_GOOD, Opening, Product, Shop};

/// A row, by name of the table; the rows of a table in their own order.
type Tables = BTreeMap<String, Vec<String>>;

/// Tables of the journal's own, which are no read model.
const OWN: [&str; 7] = ["events", "versions", "indexed", "commands", "snapshots", "positions", "view_versions"];

/// Every row of every read model under a data directory, by `journal/table`.
fn read_models(data: &Path) -> Tables {
    let mut tables = Tables::new();
    for entry in fs::read_dir(data).unwrap().map(Result::unwrap) {
        let file = entry.path().join("journal.db");
        if !file.exists() {
            continue;
        }
        let database = Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
        let kinds = "SELECT value FROM view_versions, json_each(view_versions.tables) ORDER BY value";
        for table in texts(&database, kinds) {
            assert!(!OWN.contains(&table.as_str()), "{table} is not made from events");
            let mut statement = database.prepare(&format!("SELECT * FROM {table}")).unwrap();
            let columns = statement.column_count();
            let row = |row: &rusqlite::Row<'_>| {
                (0..columns).map(|column| row.get::<_, Value>(column).map(|value| format!("{value:?}"))).collect()
            };
            let rows = statement.query_map([], row).unwrap().map(|row| row.map(|row: Vec<String>| row.join(" | ")));
            let mut rows = rows.collect::<Result<Vec<_>, _>>().unwrap();
            rows.sort();
            tables.insert(format!("{}/{table}", entry.file_name().to_string_lossy()), rows);
        }
    }
    tables
}

fn texts(database: &Connection, sql: &str) -> Vec<String> {
    database.prepare(sql).unwrap().query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

/// What a build without versions leaves: tables, and nothing that says which.
fn forget_versions(data: &Path) {
    for entry in fs::read_dir(data).unwrap().map(Result::unwrap) {
        let file = entry.path().join("journal.db");
        if file.exists() {
            Connection::open(&file).unwrap().execute_batch("DROP TABLE view_versions").unwrap();
        }
    }
}

fn sum(tables: &Tables, table: &str) -> usize {
    tables.get(table).unwrap_or_else(|| panic!("no {table} in {:?}", tables.keys())).len()
}

fn live_through_everything(shop: &Shop) -> Buyer {
    let admin = shop.admin();
    let products: Vec<_> = (0..5).map(|n| Product::create(&admin, &format!("Cable {n}"), "12.34", 100)).collect();
    let buyers: Vec<_> = (0..4).map(|n| shop.register(&format!("buyer{n}@example.com"))).collect();
    for (number, buyer) in buyers.iter().enumerate() {
        for (place, product) in products.iter().enumerate() {
            let order = buyer.order(product, 1 + place as u32, &format!("order-{number}-{place}"));
            let order_id = order.string("order_id");
            match (number + place) % 4 {
                0 => {
                    buyer.pay(&order, CARD_GOOD).expect(201);
                    if place == 0 {
                        // A paid order that is cancelled gives its money back.
                        buyer
                            .client
                            .post(&format!("/api/v1/orders/{order_id}/cancel"), "{}")
                            .key(&order_id)
                            .send()
                            .expect(200);
                    }
                }
                1 => {
                    buyer.pay(&order, CARD_DECLINED).expect(402);
                }
                2 => {
                    buyer.client.post(&format!("/api/v1/orders/{order_id}/cancel"), "{}").key(&order_id).send();
                }
                _ => {}
            }
        }
    }
    admin.delete(&format!("/api/v1/products/{}", products[4].id)).send();
    let again = shop.sign_in_again(&buyers[0]);
    again.client.post("/api/v1/users/logout", "{}").send();
    buyers.into_iter().next().unwrap()
}

#[test]
fn the_read_models_projected_anew_are_those_that_were_written() {
    // That a read model is projected anew is no warning.
    let mut shop = Opening::new().set("RUST_LOG", "warn,microcommerce_runtime=info").open();
    let buyer = live_through_everything(&shop);
    let orders = buyer.all_orders();
    shop.send_sigterm();
    assert!(shop.wait_for_end().success());
    let written = read_models(&shop.data_dir());
    for table in ["order-service/orders", "order-service/order_sums", "payment-service/payments"] {
        assert!(sum(&written, table) > 1, "{table} is empty: {written:?}");
    }

    forget_versions(&shop.data_dir());
    shop.reopen();
    assert_eq!(buyer.all_orders(), orders);
    shop.wait_for_line(&["the read model is projected"]);
    shop.send_sigterm();
    assert!(shop.wait_for_end().success());
    let projected = read_models(&shop.data_dir());
    assert_eq!(projected.keys().collect::<Vec<_>>(), written.keys().collect::<Vec<_>>());
    for (table, rows) in &written {
        // What signing in and out again for this test's questions adds is not there before: compare what both have.
        let missing: Vec<_> = rows.iter().filter(|row| !projected[table].contains(row)).collect();
        assert!(missing.is_empty(), "{table} lacks {missing:#?}\nof {:#?}", projected[table]);
        assert_eq!(rows.len(), projected[table].len(), "{table} has rows that nobody wrote");
    }
}

#[test]
fn the_sums_are_those_of_the_rows() {
    let mut shop = Opening::new().open();
    live_through_everything(&shop);
    shop.send_sigterm();
    assert!(shop.wait_for_end().success());
    let wrong = |service: &str, sql: &str| {
        let file = shop.data_dir().join(service).join("journal.db");
        Connection::open(file).unwrap().query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    let orders = "SELECT count(*) FROM (SELECT status, count(*) AS n, sum(total_minor) AS t, sum(captured_minor) AS c, \
                  sum(refunded_minor) AS r FROM orders GROUP BY status) o FULL JOIN (SELECT * FROM order_sums WHERE orders > 0) s \
                  ON s.status = o.status AND s.orders = o.n AND s.total_minor = o.t AND s.captured_minor = o.c \
                  AND s.refunded_minor = o.r WHERE s.status IS NULL OR o.status IS NULL";
    assert_eq!(wrong("order-service", orders), 0);
    let payments = "SELECT (SELECT sum(captured_minor) FROM payments) - captured_minor + \
                    (SELECT sum(refunded_minor) FROM payments) - refunded_minor FROM payment_sums";
    assert_eq!(wrong("payment-service", payments), 0);
    let charges = "SELECT (SELECT sum(captured_minor) FROM charges) - captured_minor + \
                   (SELECT sum(refunded_minor) FROM charges) - refunded_minor FROM charge_sums";
    assert_eq!(wrong("sandbox-provider", charges), 0);
    let products = "SELECT count(*) FROM (SELECT category, count(*) AS n FROM products WHERE archived = 0 GROUP BY category) p \
                    FULL JOIN (SELECT * FROM product_counts WHERE products > 0) c ON c.category = p.category \
                    AND c.products = p.n WHERE c.category IS NULL OR p.category IS NULL";
    assert_eq!(wrong("product-service", products), 0);
}
