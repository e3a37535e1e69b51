//! What people do in the shop, as one call each.

use serde_json::{Value, json};

use super::http::{Answer, Client};
use super::process::Shop;

pub const ADMIN_EMAIL: &str = "admin@shop.example";
pub const ADMIN_PASSWORD: &str = "correct horse battery staple";
/// Every customer of the suite has this one.
pub const PASSWORD: &str = "testPassword123";

/// The card of the original's examples: good whatever its expiry.
pub const CARD_ORIGINAL: &str = "4111111111111111";
/// A good card whose expiry is looked at.
pub const CARD_GOOD: &str = "4242424242424242";
pub const CARD_DECLINED: &str = "4000000000000002";

/// A product as the admin created it.
#[derive(Clone, Debug)]
pub struct Product {
    pub id: String,
    pub sku: String,
    /// The answer to its creation.
    pub created: String,
}

/// A customer who can sign in again.
#[derive(Clone)]
pub struct Buyer {
    pub email: String,
    pub user_id: String,
    pub client: Client,
}

impl Shop {
    /// The admin, signed in.
    pub fn admin(&self) -> Client {
        self.sign_in(ADMIN_EMAIL, ADMIN_PASSWORD)
    }

    pub fn sign_in(&self, email: &str, password: &str) -> Client {
        let client = self.client();
        let answer = client
            .post("/api/v1/users/login", json!({"email": email, "password": password}))
            .send_patiently()
            .expect(200);
        client.with_token(&answer.string("access_token"))
    }

    /// A new customer, signed in.
    pub fn register(&self, email: &str) -> Buyer {
        let client = self.client();
        let person = json!({
            "email": email, "password": PASSWORD, "first_name": "Test", "last_name": "Buyer", "phone": "+1234567890",
        });
        let answer = client.post("/api/v1/users/register", person).send_patiently().expect(201);
        Buyer {
            email: email.to_owned(),
            user_id: answer.string("user_id"),
            client: client.with_token(&answer.string("access_token")),
        }
    }

    /// The same customer, signed in afresh.
    pub fn sign_in_again(&self, buyer: &Buyer) -> Buyer {
        Buyer { client: self.sign_in(&buyer.email, PASSWORD), ..buyer.clone() }
    }
}

impl Product {
    /// A product of that price with so many on hand.
    pub fn create(admin: &Client, name: &str, price: &str, stock: u32) -> Self {
        let body = format!(
            r#"{{"name":"{name}","description":"For a test.","price":{price},"currency":"USD","category":"Test","stock_quantity":{stock}}}"#
        );
        Self::of_answer(&admin.post("/api/v1/products", body).send().expect(201))
    }

    /// The product that an answer to `POST /api/v1/products` speaks of.
    pub fn of_answer(answer: &Answer) -> Self {
        let id = answer.string("id");
        // One implicit SKU, of the same suffix, unless the product names it.
        let implicit = id.replacen("prod_", "sku_", 1);
        let sku = answer.json()["sku"].as_str().map_or(implicit, str::to_owned);
        Self { id, sku, created: answer.text.clone() }
    }

    /// What the shop shows as available.
    pub fn stock_shown(&self, client: &Client) -> i64 {
        let product = client.get(&format!("/api/v1/products/{}", self.id)).send().expect(200).json();
        product["stock_quantity"].as_i64().expect("a whole number")
    }

    /// The ledger's counters: `on_hand`, `reserved`, `committed`, `available`.
    pub fn inventory(&self, admin: &Client) -> Value {
        admin.get(&format!("/api/v1/inventory/{}", self.sku)).send().expect(200).json()
    }
}

impl Buyer {
    /// Places an order for one product; must succeed.
    pub fn order(&self, product: &Product, quantity: u32, key: &str) -> Answer {
        self.client.post("/api/v1/orders", order_body(&product.id, quantity)).key(key).send_patiently().expect(201)
    }

    /// Pays for an order with a card, without a key.
    pub fn pay(&self, order: &Answer, card: &str) -> Answer {
        self.client.post("/api/v1/payments", payment_body(order, card)).send_patiently()
    }

    /// The order as it stands.
    pub fn see_order(&self, order_id: &str) -> Answer {
        self.client.get(&format!("/api/v1/orders/{order_id}")).send()
    }

    /// Every order of this buyer, over all pages.
    pub fn all_orders(&self) -> Vec<Value> {
        let mut orders = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.client.get(&format!("/api/v1/orders?limit=100{cursor}")).send().expect(200).json();
            orders.extend(page["orders"].as_array().expect("orders").iter().cloned());
            match page["pagination"]["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return orders,
            }
        }
    }
}

pub fn order_body(product_id: &str, quantity: u32) -> String {
    json!({"items": [{"product_id": product_id, "quantity": quantity}]}).to_string()
}

/// The original's payment body for the whole of an order, the amount exactly as the order states it.
pub fn payment_body(order: &Answer, card: &str) -> String {
    format!(
        r#"{{"amount":{},"currency":"USD","payment_method":{{"type":"card","card_number":"{card}","expiry_month":12,"expiry_year":{},"cvc":"123"}},"order_id":"{}"}}"#,
        order.raw("total"),
        if card == CARD_ORIGINAL { 2025 } else { 2040 },
        order.string("order_id"),
    )
}
