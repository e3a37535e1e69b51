//! A shop with a real catalogue, real people and real orders is the same shop after `kill -9`.
//!
//! The 101 products go in through the API as an admin would do it; twenty people register, order and pay; the process is
//! killed without a word and started again on its directory. What anybody could see before is there, byte for byte.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod shop;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use shop::{
    Buyer, CARD_GOOD, CatalogueItem, Client, Product, Shop, catalogue, minor_units, order_body, raw_fields,
    two_decimals, until,
};

const BUYERS: usize = 20;
const SOON: Duration = Duration::from_secs(20);

/// What an anonymous visitor and the buyers see, as the bytes that they got.
#[derive(PartialEq, Debug)]
struct Seen {
    products: BTreeMap<String, String>,
    orders: BTreeMap<String, String>,
    payments: BTreeMap<String, String>,
}

fn look(
    visitor: &Client,
    products: &[Product],
    orders: &[(usize, String)],
    payments: &[(usize, String)],
    buyers: &[Buyer],
) -> Seen {
    let read = |client: &Client, path: String| client.get(&path).send().expect(200).text;
    Seen {
        products: products
            .iter()
            .map(|product| (product.id.clone(), read(visitor, format!("/api/v1/products/{}", product.id))))
            .collect(),
        orders: orders
            .iter()
            .map(|(buyer, id)| (id.clone(), read(&buyers[*buyer].client, format!("/api/v1/orders/{id}"))))
            .collect(),
        payments: payments
            .iter()
            .map(|(buyer, id)| (id.clone(), read(&buyers[*buyer].client, format!("/api/v1/payments/{id}"))))
            .collect(),
    }
}

/// The whole list over pages of 20, each product as its bytes.
fn listed(visitor: &Client, query: &str) -> Vec<String> {
    let mut all = Vec::new();
    for page in 1.. {
        let answer = visitor.get(&format!("/api/v1/products?limit=20&page={page}{query}")).send().expect(200);
        let products: Vec<Box<serde_json::value::RawValue>> =
            serde_json::from_str(raw_fields(&answer.text)["products"].get()).unwrap();
        if products.is_empty() {
            assert_eq!(answer.json()["pagination"]["total"], all.len());
            break;
        }
        all.extend(products.iter().map(|product| product.get().to_owned()));
    }
    all
}

fn assert_catalogue_is_shown(visitor: &Client, items: &[CatalogueItem]) {
    let all = listed(visitor, "");
    assert_eq!(all.len(), items.len());
    let ids: BTreeSet<String> = all.iter().map(|text| raw_fields(text)["id"].get().to_owned()).collect();
    assert_eq!(ids.len(), items.len(), "pages neither repeat nor skip");

    let mut shown: Vec<(String, String)> = all
        .iter()
        .map(|text| {
            (serde_json::from_str(raw_fields(text)["name"].get()).unwrap(), raw_fields(text)["price"].get().to_owned())
        })
        .collect();
    let mut expected: Vec<(String, String)> =
        items.iter().map(|item| (item.name.clone(), two_decimals(item.price.get()))).collect();
    shown.sort();
    expected.sort();
    assert_eq!(shown, expected, "every name with its exact price");

    let categories: BTreeSet<&str> = items.iter().map(|item| item.category.as_str()).collect();
    for category in categories {
        let expected = items.iter().filter(|item| item.category == category).count();
        assert_eq!(
            listed(visitor, &format!("&category={}", category.replace('/', "%2F"))).len(),
            expected,
            "{category}"
        );
    }
    for (order, wanted_first) in [("asc", true), ("desc", false)] {
        let sorted = listed(visitor, &format!("&sort=price&order={order}"));
        let mut prices: Vec<i64> = sorted.iter().map(|text| minor_units(raw_fields(text)["price"].get())).collect();
        if !wanted_first {
            prices.reverse();
        }
        assert!(prices.is_sorted(), "by price, {order}");
    }
    let sought = items[0].name.split(' ').next_back().unwrap();
    let found = listed(visitor, &format!("&search={sought}"));
    let named = |text: &String| text.to_lowercase().contains(&sought.to_lowercase());
    let expected = items.iter().filter(|item| named(&item.name)).count();
    assert!(
        found.len() >= expected && found.iter().all(named),
        "search for {sought} found {} of {expected}",
        found.len()
    );
}

#[test]
fn a_real_catalogue_its_people_orders_and_payments_survive_kill_9() {
    let mut shop = Shop::start();
    let admin = shop.admin();
    let items = catalogue();
    let products: Vec<Product> = items
        .iter()
        .map(|item| {
            let created = admin.post("/api/v1/products", item.to_body()).send().expect(201);
            assert_eq!(created.raw("price"), two_decimals(item.price.get()), "{}", item.name);
            Product::of_answer(&created)
        })
        .collect();
    assert_catalogue_is_shown(&shop.client(), &items);

    let buyers: Vec<Buyer> = (0..BUYERS).map(|number| shop.register(&format!("buyer{number}@example.com"))).collect();
    let mut orders = Vec::new();
    let mut payments = Vec::new();
    for (number, buyer) in buyers.iter().enumerate() {
        for place in 0..3 {
            let product = &products[(number * 3 + place) % products.len()];
            let order = buyer.order(product, 1 + u32::try_from(place).unwrap(), &format!("order-{place}"));
            orders.push((number, order.string("order_id")));
            if place > 0 {
                payments.push((number, buyer.pay(&order, CARD_GOOD).expect(201).string("payment_id")));
            }
        }
    }
    let paid = |buyers: &[Buyer]| {
        let status = |(buyer, id): &(usize, String)| buyers[*buyer].see_order(id).expect(200).json()["status"].clone();
        orders.iter().filter(|order| status(order) == "paid").count()
    };
    until(SOON, "every paid order is paid", || (paid(&buyers) == payments.len()).then_some(()));
    let before = look(&shop.client(), &products, &orders, &payments, &buyers);

    shop.kill_9();
    shop.reopen();
    println!("ready {:?} after kill -9", shop.ready_after);

    let after = look(&shop.client(), &products, &orders, &payments, &buyers);
    assert_eq!(before, after, "tokens from before the crash see the same bytes");
    assert_catalogue_is_shown(&shop.client(), &items);
    let again: Vec<Buyer> = buyers.iter().map(|buyer| shop.sign_in_again(buyer)).collect();
    for (buyer, again) in buyers.iter().zip(&again) {
        let profile: Value = again.client.get("/api/v1/users/profile").send().expect(200).json();
        assert_eq!(
            (profile["user_id"].as_str(), profile["email"].as_str()),
            (Some(&*buyer.user_id), Some(&*buyer.email))
        );
        assert_eq!(again.all_orders().len(), 3);
    }
    assert_eq!(before, look(&shop.client(), &products, &orders, &payments, &again));

    // The shop goes on: what was reserved before the crash can be paid, and there is more to buy.
    let (number, unpaid) = &orders[0];
    let order = again[*number].see_order(unpaid).expect(200);
    assert_eq!(again[*number].pay(&order, CARD_GOOD).expect(201).json()["status"], "succeeded");
    shop.admin().post("/api/v1/products", items[0].to_body()).send().expect(201);
    let more = again[0].client.post("/api/v1/orders", order_body(&products[50].id, 1)).key("after").send();
    more.expect(201);
}
