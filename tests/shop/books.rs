//! The books of the services, held against one another: what was paid, what was sold, what is held, where the money is.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::http::Client;
use super::people::{Buyer, Product};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Units by SKU.
type Units = BTreeMap<String, i64>;

/// Waits until the services' books agree, over everything that `buyers` have ordered of `products`:
/// - per SKU, units of paid orders = units sold; units of orders that stand unpaid = units held; on hand = sold + held + available;
/// - money captured less money given back = the paid orders' totals + the refunds that are owed, at the payment service and at
///   the provider;
/// - no order waits for an answer that it asked for again and again.
#[track_caller]
pub fn wait_until_books_agree(within: Duration, admin: &Client, products: &[Product], buyers: &[Buyer]) {
    let started = Instant::now();
    loop {
        let Err(difference) = agree(admin, products, buyers) else { return };
        assert!(started.elapsed() < within, "the books do not agree within {within:?}: {difference}");
        thread::sleep(LOOK_EVERY);
    }
}

fn agree(admin: &Client, products: &[Product], buyers: &[Buyer]) -> Result<(), String> {
    let orders: Vec<Value> = buyers.iter().flat_map(Buyer::all_orders).collect();
    let is = |order: &&Value, statuses: &[&str]| statuses.contains(&order["status"].as_str().unwrap_or_default());
    let paid = units(orders.iter().filter(|order| is(order, &["paid"])));
    let unpaid = units(orders.iter().filter(|order| is(order, &["pending", "payment_processing"])));
    for product in products {
        let inventory = product.inventory(admin);
        let of = |units: &Units| units.get(&product.sku).copied().unwrap_or_default();
        let count = |counter: &str| inventory[counter].as_i64().unwrap_or(i64::MIN);
        let expected = [("committed", of(&paid)), ("reserved", of(&unpaid))];
        for (counter, expected) in expected {
            if count(counter) != expected {
                return Err(format!("{counter} of {} should be {expected}: {inventory}", product.sku));
            }
        }
        if count("available") != count("on_hand") - count("reserved") - count("committed") || count("available") < 0 {
            return Err(format!("{} does not add up: {inventory}", product.sku));
        }
    }
    let stats = admin.get("/api/v1/admin/stats").send_patiently().expect(200).json();
    let minor = |of: &str, field: &str| stats[of][field].as_i64().unwrap_or(i64::MIN);
    let kept = |of: &str| minor(of, "captured_minor") - minor(of, "refunded_minor");
    let owed = stats["orders"]["debts"]["owed_minor"].as_i64().unwrap_or(i64::MIN);
    let paid_minor: i64 = orders
        .iter()
        .filter(|order| is(order, &["paid"]))
        .map(|order| order["total_minor"].as_i64().unwrap_or_default())
        .sum();
    let right = paid_minor + owed;
    let is_right =
        kept("payments") == right && kept("provider") == right && minor("orders", "paid_minor") == paid_minor;
    if !is_right || stats["orders"]["debts"]["in_vain"] != 0 {
        let shown = ["orders", "payments", "provider"].map(|of| format!("{of}: {}", stats[of]));
        return Err(format!("paid {paid_minor} + owed {owed}: {}", shown.join("; ")));
    }
    Ok(())
}

fn units<'a>(orders: impl Iterator<Item = &'a Value>) -> Units {
    let mut units = Units::new();
    for order in orders {
        for item in order["items"].as_array().into_iter().flatten() {
            let sku = item["sku"].as_str().unwrap_or_default().to_owned();
            *units.entry(sku).or_default() += item["quantity"].as_i64().unwrap_or_default();
        }
    }
    units
}
