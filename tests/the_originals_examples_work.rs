//! Every example of the original MicroCommerce's API document, unchanged, against the release binary.
//!
//! What its users wrote against it must go on working, so the field names here are frozen: a field may be added, none may be
//! renamed, and none may change its type.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod shop;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use shop::{
    Buyer, CARD_DECLINED, CARD_GOOD, CARD_ORIGINAL, Client, Opening, Product, Role, Shop, order_body, payment_body,
    raw_fields, until,
};

/// What follows another service's fact (an order becoming paid) is there soon.
const SOON: Duration = Duration::from_secs(10);

#[track_caller]
fn assert_fields(object: &Value, fields: &[&str]) {
    for field in fields {
        assert!(object.get(field).is_some(), "no {field:?} in {object}");
    }
}

/// RFC 3339 in UTC, written with a Z.
#[track_caller]
fn assert_time(value: &Value) {
    let text = value.as_str().unwrap_or_else(|| panic!("{value} is no time"));
    assert!(text.ends_with('Z') && text.parse::<Timestamp>().is_ok(), "{text} is not RFC 3339 in UTC");
}

#[track_caller]
fn assert_id(value: &Value, prefix: &str) {
    assert!(
        value.as_str().is_some_and(|id| id.starts_with(prefix) && id.len() > prefix.len()),
        "{value} is no {prefix}…"
    );
}

#[test]
fn every_service_says_healthy_with_its_own_name_on_its_own_port() {
    let shop = Shop::start();
    for role in Role::ALL {
        let client = Client::of_port(shop.port(role));
        let health = client.get("/").send().expect(200);
        assert_eq!(health.json(), json!({"status": "healthy", "service": role.service()}));
        assert_eq!(health.header("Content-Type").map(|kind| kind.starts_with("application/json")), Some(true));
        client.get("/healthz").send().expect(200);
        client.get("/readyz").send().expect(200);
    }
}

#[test]
fn services_health_lists_every_service_with_status_and_time() {
    let shop = Shop::start();
    let client = shop.client();
    let health = until(SOON, "all services healthy", || {
        let answer = client.get("/api/v1/services/health").send();
        (answer.status == 200).then(|| answer.json()).filter(|health| {
            let services = health["services"].as_array().unwrap();
            services.len() >= 4 && services.iter().all(|service| service["status"] == "healthy")
        })
    });
    let services = health["services"].as_array().unwrap();
    for role in [Role::Payment, Role::Product, Role::User, Role::Order] {
        assert!(services.iter().any(|service| service["service"] == role.service()), "no {role:?} in {health}");
    }
    services.iter().for_each(|service| assert_time(&service["timestamp"]));
    assert_eq!(health["total_services"], services.len());
    assert_eq!(health["responding_services"], services.len());
}

#[test]
fn register_login_and_profile_have_the_frozen_fields() {
    let shop = Shop::start();
    let client = shop.client();
    let person = json!({
        "email": "test@example.com", "password": "testPassword123", "first_name": "John", "last_name": "Doe", "phone": "+1234567890",
    });
    let registered = client.post("/api/v1/users/register", &person).send().expect(201).json();
    assert_fields(
        &registered,
        &["user_id", "email", "first_name", "last_name", "created_at", "access_token", "refresh_token"],
    );
    assert_id(&registered["user_id"], "usr_");
    assert_time(&registered["created_at"]);
    assert_eq!(
        (&registered["email"], &registered["first_name"], &registered["last_name"]),
        (&json!("test@example.com"), &json!("John"), &json!("Doe"))
    );

    let credentials = json!({"email": "test@example.com", "password": "testPassword123"});
    let signed_in = client.post("/api/v1/users/login", &credentials).send().expect(200).json();
    assert_fields(&signed_in, &["user_id", "email", "first_name", "last_name", "access_token", "refresh_token"]);
    assert_eq!(signed_in["user_id"], registered["user_id"]);

    for token in [&registered["access_token"], &signed_in["access_token"]] {
        let profile = client.with_token(token.as_str().unwrap()).get("/api/v1/users/profile").send().expect(200).json();
        assert_fields(
            &profile,
            &["user_id", "email", "first_name", "last_name", "phone", "address", "created_at", "updated_at"],
        );
        assert_eq!(profile["user_id"], registered["user_id"]);
        assert_eq!(profile["phone"], "+1234567890");
        assert_time(&profile["updated_at"]);
        if profile["address"].is_object() {
            assert_fields(&profile["address"], &["street", "city", "state", "zip", "country"]);
        }
    }
}

#[test]
fn bad_registrations_and_logins_are_refused_in_the_original_error_shape() {
    let shop = Shop::start();
    let client = shop.client();
    let person = |email: &str| json!({"email": email, "password": "testPassword123", "first_name": "J", "last_name": "D", "phone": "+1"});

    let error =
        client.post("/api/v1/users/register", person("not an address")).send().expect_error(422, "VALIDATION_ERROR");
    assert_eq!(error["details"]["field"], "email");
    assert!(error["details"]["reason"].is_string());
    assert_eq!(error["details"]["errors"][0]["field"], "email");

    client.post("/api/v1/users/register", "{\"email\":").send().expect_error(400, "VALIDATION_ERROR");
    client.post("/api/v1/users/register", person("twice@example.com")).send().expect(201);
    client.post("/api/v1/users/register", person("twice@example.com")).send().expect_error(409, "RESOURCE_CONFLICT");
    client.post("/api/v1/users/register", person("TWICE@example.com")).send().expect_error(409, "RESOURCE_CONFLICT");

    let wrong =
        client.post("/api/v1/users/login", json!({"email": "twice@example.com", "password": "wrongPassword1"})).send();
    assert!(wrong.header("WWW-Authenticate").is_some_and(|scheme| scheme.starts_with("Bearer")));
    let wrong = wrong.expect_error(401, "INVALID_CREDENTIALS");
    let unknown = client
        .post("/api/v1/users/login", json!({"email": "nobody@example.com", "password": "wrongPassword1"}))
        .send()
        .expect_error(401, "INVALID_CREDENTIALS");
    assert_eq!(wrong["message"], unknown["message"], "a login must not reveal whether the address is known");

    let anonymous = client.get("/api/v1/users/profile").send();
    assert!(anonymous.header("WWW-Authenticate").is_some_and(|scheme| scheme.starts_with("Bearer")));
    anonymous.expect_error(401, "AUTHENTICATION_REQUIRED");
    let forged = client.with_token("eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1c3JfMSJ9.").get("/api/v1/users/profile").send();
    assert_eq!(forged.status, 401);
}

#[test]
fn only_an_admin_creates_products_and_the_detail_has_the_specifications() {
    let shop = Shop::start();
    let admin = shop.admin();
    let body = r#"{"name":"Wireless Headphones","description":"High-quality wireless headphones","price":299.99,"currency":"USD",
        "category":"electronics","stock_quantity":50,"images":["https://example.com/image1.jpg"],
        "specifications":{"brand":"TechBrand","color":"Black"}}"#;

    shop.client().post("/api/v1/products", body).send().expect_error(401, "AUTHENTICATION_REQUIRED");
    let customer = shop.register("customer@example.com");
    customer.client.post("/api/v1/products", body).send().expect_error(403, "AUTHORIZATION_FAILED");

    let created = admin.post("/api/v1/products", body).send().expect(201);
    let product = Product::of_answer(&created);
    assert!(product.id.starts_with("prod_"));
    assert!(
        created
            .header("Location")
            .is_some_and(|location| location.ends_with(&format!("/api/v1/products/{}", product.id)))
    );
    assert!(created.header("ETag").is_some());

    let detail = shop.client().get(&format!("/api/v1/products/{}", product.id)).send().expect(200);
    let shown = detail.json();
    let fields = [
        "id",
        "name",
        "description",
        "price",
        "currency",
        "category",
        "stock_quantity",
        "images",
        "created_at",
        "updated_at",
    ];
    assert_fields(&shown, &fields);
    assert_eq!(detail.raw("price"), "299.99");
    assert_eq!(shown["price_minor"], 29999);
    assert_eq!(shown["stock_quantity"], 50);
    assert_eq!(shown["images"], json!(["https://example.com/image1.jpg"]));
    assert_eq!(shown["specifications"], json!({"brand": "TechBrand", "color": "Black"}));
    assert_time(&shown["created_at"]);

    let listed = shop.client().get("/api/v1/products").send().expect(200).json();
    assert_fields(&listed["products"][0], &fields);
    assert!(listed["products"][0].get("specifications").is_none(), "specifications are in the detail only");

    shop.client().get("/api/v1/products/prod_123").send().expect_error(404, "RESOURCE_NOT_FOUND");
}

#[test]
fn prices_are_exact_and_what_is_not_money_is_refused() {
    let shop = Shop::start();
    let admin = shop.admin();
    let body = |price: &str| {
        format!(
            r#"{{"name":"N","description":"D","price":{price},"currency":"USD","category":"C","stock_quantity":1,"images":[]}}"#
        )
    };
    for (price, shown) in [
        ("0.10", "0.10"),
        ("19.9", "19.90"),
        ("10", "10.00"),
        ("\"19.99\"", "19.99"),
        ("99999999999.99", "99999999999.99"),
    ] {
        let created = admin.post("/api/v1/products", body(price)).send().expect(201);
        assert_eq!(created.raw("price"), shown, "created with {price}");
    }
    for price in ["1e2", "1.005", "-1.00", "9999999999999.99", "\"+1\"", "\"01.00\""] {
        let error = admin.post("/api/v1/products", body(price)).send().expect_error(422, "VALIDATION_ERROR");
        assert_eq!(error["details"]["field"], "price", "for {price}");
    }
    admin.post("/api/v1/products", body("01.00")).send().expect_error(400, "VALIDATION_ERROR");
}

#[test]
fn the_list_pages_filters_searches_and_sorts() {
    let shop = Shop::start();
    let admin = shop.admin();
    for number in 0..25 {
        let category = if number % 5 == 0 { "Bags" } else { "Shoes" };
        let body = json!({
            "name": format!("Item {number:02} {}", if number % 2 == 0 { "Granite" } else { "Basalt" }), "description": "Stone",
            "price": (number * 7) % 25 + 1, "currency": "USD", "category": category, "stock_quantity": 3, "images": [],
        });
        admin.post("/api/v1/products", body).send().expect(201);
    }
    let client = shop.client();
    let list = |query: &str| client.get(&format!("/api/v1/products{query}")).send().expect(200).json();
    let names = |page: &Value| -> Vec<String> {
        page["products"]
            .as_array()
            .unwrap()
            .iter()
            .map(|product| product["name"].as_str().unwrap().to_owned())
            .collect()
    };

    let first = list("");
    assert_eq!(first["pagination"], json!({"page": 1, "limit": 20, "total": 25, "total_pages": 2}));
    assert_eq!(names(&first).len(), 20);
    let second = list("?page=2");
    assert_eq!(names(&second).len(), 5);
    assert!(names(&second).iter().all(|name| !names(&first).contains(name)), "pages repeat nothing");
    assert_eq!(names(&list("?page=3")).len(), 0, "past the end is empty");
    assert_eq!(list("?page=3&limit=10")["pagination"], json!({"page": 3, "limit": 10, "total": 25, "total_pages": 3}));

    assert_eq!(list("?category=Bags")["pagination"]["total"], 5);
    assert_eq!(list("?category=Bags&search=granite")["pagination"]["total"], 3);
    assert_eq!(list("?search=basalt")["pagination"]["total"], 12);
    assert_eq!(list("?search=nothing-like-it")["pagination"]["total"], 0);

    let by_name = names(&list("?sort=name&order=asc&limit=100"));
    assert!(by_name.is_sorted() && by_name.len() == 25);
    let mut backwards = names(&list("?sort=name&order=desc&limit=100"));
    backwards.reverse();
    assert_eq!(by_name, backwards);
    let prices: Vec<i64> = list("?sort=price&order=asc&limit=100")["products"]
        .as_array()
        .unwrap()
        .iter()
        .map(|product| product["price_minor"].as_i64().unwrap())
        .collect();
    assert!(prices.is_sorted() && prices.len() == 25, "{prices:?}");
    assert_eq!(names(&list("?sort=created_at&order=asc&limit=1")), ["Item 00 Granite"]);

    for query in ["?page=0", "?page=x", "?limit=0", "?limit=101", "?sort=colour", "?order=up"] {
        client.get(&format!("/api/v1/products{query}")).send().expect_error(400, "VALIDATION_ERROR");
    }
}

#[test]
fn an_order_is_priced_by_the_shop_and_reserves_its_stock() {
    let shop = Shop::start();
    let product = Product::create(&shop.admin(), "Wireless Headphones", "299.99", 10);
    let buyer = shop.register("buyer@example.com");

    let body = format!(r#"{{"items":[{{"product_id":"{}","quantity":2}}],"expected_total":599.98}}"#, product.id);
    let placed = buyer.client.post("/api/v1/orders", body).key("first").send().expect(201);
    let order = placed.json();
    let order_id = placed.string("order_id");
    assert_id(&order["order_id"], "ord_");
    assert!(
        placed.header("Location").is_some_and(|location| location.ends_with(&format!("/api/v1/orders/{order_id}")))
    );
    assert!(placed.header("ETag").is_some());
    assert_eq!(
        (&order["status"], &order["payment_status"], &order["currency"]),
        (&json!("pending"), &json!("unpaid"), &json!("USD"))
    );
    let sums =
        [("subtotal", "599.98"), ("discount", "0.00"), ("tax", "0.00"), ("shipping", "0.00"), ("total", "599.98")];
    for (field, expected) in sums {
        assert_eq!(placed.raw(field), expected, "{field}");
    }
    assert_eq!(order["total_minor"], 59998);
    let line = &order["items"][0];
    assert_eq!(line["product_id"], product.id.as_str());
    assert_eq!(line["sku"], product.sku.as_str());
    assert_eq!((&line["name"], &line["quantity"]), (&json!("Wireless Headphones"), &json!(2)));
    assert_eq!((&line["unit_price_minor"], &line["line_total_minor"]), (&json!(29999), &json!(59998)));
    let line_text = raw_fields(&placed.text)["items"].get().trim_start_matches('[').trim_end_matches(']').to_owned();
    assert_eq!(raw_fields(&line_text)["unit_price"].get(), "299.99");
    assert_eq!(raw_fields(&line_text)["line_total"].get(), "599.98");
    assert_id(&order["reservation"]["id"], "res_");
    assert_time(&order["reservation"]["expires_at"]);
    assert_time(&order["created_at"]);
    assert_eq!(product.stock_shown(&shop.client()), 8, "what is reserved is not available");

    let other = shop.register("other@example.com");
    other.see_order(&order_id).expect_error(404, "RESOURCE_NOT_FOUND");
    shop.client().get(&format!("/api/v1/orders/{order_id}")).send().expect_error(401, "AUTHENTICATION_REQUIRED");
    assert_eq!(buyer.see_order(&order_id).expect(200).json()["order_id"], order_id.as_str());

    let wrong_total = format!(r#"{{"items":[{{"product_id":"{}","quantity":1}}],"expected_total":1.00}}"#, product.id);
    buyer.client.post("/api/v1/orders", wrong_total).key("second").send().expect_error(409, "PRICE_CHANGED");
    let error = buyer
        .client
        .post("/api/v1/orders", order_body(&product.id, 9))
        .key("third")
        .send()
        .expect_error(409, "INSUFFICIENT_STOCK");
    let short = &error["details"]["items"][0];
    assert_eq!((&short["sku"], &short["requested"], &short["available"]), (&json!(product.sku), &json!(9), &json!(8)));
    assert_eq!(error["details"]["field"], "items[0].quantity");
    for (number, quantity) in [json!(0), json!(-1), json!(1.5), json!("2")].into_iter().enumerate() {
        let body = json!({"items": [{"product_id": product.id, "quantity": quantity}]});
        let answer = buyer.client.post("/api/v1/orders", body).key(&format!("bad-{number}")).send();
        assert!(matches!(answer.status, 400 | 422), "{}", answer.text);
        assert_eq!(answer.error_code().as_deref(), Some("VALIDATION_ERROR"));
    }
    buyer.client.post("/api/v1/orders", json!({"items": []})).key("empty").send().expect_error(422, "VALIDATION_ERROR");
    assert_eq!(product.stock_shown(&shop.client()), 8, "a refused order holds nothing");
}

#[test]
fn an_order_of_several_products_reserves_all_of_them_or_none() {
    let shop = Shop::start();
    let admin = shop.admin();
    let [plenty, scarce] =
        [("Plenty", 10), ("Scarce", 1)].map(|(name, stock)| Product::create(&admin, name, "5.00", stock));
    let buyer = shop.register("buyer@example.com");
    let body = |first: &Product, second: &Product| json!({"items": [{"product_id": first.id, "quantity": 2}, {"product_id": second.id, "quantity": 2}]});
    buyer.client.post("/api/v1/orders", body(&plenty, &scarce)).key("a").send().expect_error(409, "INSUFFICIENT_STOCK");
    buyer.client.post("/api/v1/orders", body(&scarce, &plenty)).key("b").send().expect_error(409, "INSUFFICIENT_STOCK");
    let client = shop.client();
    until(SOON, "nothing is held by a refused order", || {
        ((plenty.stock_shown(&client), scarce.stock_shown(&client)) == (10, 1)).then_some(())
    });
}

fn new_order(buyer: &Buyer, product: &Product, key: &str) -> shop::Answer {
    buyer.order(product, 1, key)
}

#[test]
fn the_sandbox_cards_answer_as_documented_and_a_paid_order_becomes_paid() {
    let shop = Shop::start();
    let product = Product::create(&shop.admin(), "Cable", "99.99", 100);
    let buyer = shop.register("buyer@example.com");

    for card in [CARD_ORIGINAL, CARD_GOOD] {
        let order = new_order(&buyer, &product, card);
        let paid = buyer.client.post("/api/v1/payments", payment_body(&order, card)).key(card).send().expect(201);
        let payment = paid.json();
        assert_id(&payment["payment_id"], "pay_");
        assert_eq!((&payment["status"], &payment["currency"]), (&json!("succeeded"), &json!("USD")));
        assert_eq!(paid.raw("amount"), "99.99");
        assert_eq!(payment["order_id"], order.string("order_id"));
        assert_time(&payment["created_at"]);
        assert!(!paid.text.contains(card), "a card number never comes back");

        let order_id = order.string("order_id");
        let order = until(SOON, "the order is paid", || {
            Some(buyer.see_order(&order_id).expect(200).json()).filter(|order| order["status"] == "paid")
        });
        assert_eq!(order["payment_status"], "paid");
        let again =
            buyer.client.get(&format!("/api/v1/payments/{}", paid.string("payment_id"))).send().expect(200).json();
        assert_eq!((&again["status"], &again["order_id"]), (&json!("succeeded"), &json!(order_id)));
    }

    let refusals = BTreeMap::from([
        ("4000000000009995", Some("insufficient_funds")),
        ("4000000000000069", Some("expired_card")),
        ("4000000000000127", Some("incorrect_cvc")),
        ("4000000000000119", Some("processing_error")),
        (CARD_DECLINED, None),
    ]);
    for (card, decline_code) in refusals {
        let order = new_order(&buyer, &product, card);
        let error = buyer.pay(&order, card).expect_error(402, "PAYMENT_DECLINED");
        let stated = error["details"]["decline_code"].as_str().unwrap();
        assert!(decline_code.is_none_or(|decline_code| stated == decline_code), "{card}: {error}");
        assert_id(&error["details"]["payment_id"], "pay_");
        assert!(error["details"]["retryable"].is_boolean());
    }

    let order = new_order(&buyer, &product, "3ds");
    let needs_more = buyer.pay(&order, "4000002500003155").expect(201).json();
    assert_eq!(needs_more["status"], "requires_action");
    assert!(needs_more["next_action"]["redirect_url"].is_string());
}

#[test]
fn a_payment_that_does_not_fit_its_order_is_refused() {
    let shop = Shop::start();
    let product = Product::create(&shop.admin(), "Cable", "99.99", 100);
    let buyer = shop.register("buyer@example.com");
    let stranger = shop.register("stranger@example.com");
    let order = new_order(&buyer, &product, "one");
    let right = payment_body(&order, CARD_ORIGINAL);

    buyer.client.post("/api/v1/payments", right.replace("99.99", "99.98")).send().expect_error(422, "VALIDATION_ERROR");
    buyer
        .client
        .post("/api/v1/payments", right.replace("99.99", "9.99e1"))
        .send()
        .expect_error(422, "VALIDATION_ERROR");
    buyer
        .client
        .post("/api/v1/payments", right.replace(CARD_ORIGINAL, "4111111111111112"))
        .send()
        .expect_error(422, "VALIDATION_ERROR");
    let expired = payment_body(&order, CARD_GOOD).replace("2040", "2020");
    let refused = buyer.client.post("/api/v1/payments", expired).send().expect_error(422, "VALIDATION_ERROR");
    assert_eq!(refused["details"]["field"], "payment_method.expiry_year", "{refused}");
    stranger.client.post("/api/v1/payments", &right).send().expect_error(404, "RESOURCE_NOT_FOUND");
    shop.client().post("/api/v1/payments", &right).send().expect_error(401, "AUTHENTICATION_REQUIRED");
    let unknown = right.replace(&order.string("order_id"), "ord_123456");
    buyer.client.post("/api/v1/payments", unknown).send().expect_error(404, "RESOURCE_NOT_FOUND");

    let paid = buyer.client.post("/api/v1/payments", &right).send().expect(201);
    assert_eq!(paid.json()["status"], "succeeded");
    let second = buyer.client.post("/api/v1/payments", &right).send();
    assert_eq!(second.status, 409, "an order is paid once: {}", second.text);
    let seen = stranger.client.get(&format!("/api/v1/payments/{}", paid.string("payment_id"))).send();
    seen.expect_error(404, "RESOURCE_NOT_FOUND");
}

#[test]
fn errors_have_the_original_shape() {
    let shop = Shop::start();
    let client = shop.client();
    for path in ["/nowhere", "/api/v1/nowhere", "/api/v2/products", "/api/v1/products/prod_1/nowhere"] {
        let error = client.get(path).send().expect_error(404, "RESOURCE_NOT_FOUND");
        assert_eq!(error["message"], "The requested endpoint does not exist", "{path}");
    }
    let wrong_method = client.delete("/api/v1/products").send();
    assert_eq!(wrong_method.status, 405);
    let allow = wrong_method.header("Allow").unwrap().to_owned();
    assert!(allow.contains("GET") && allow.contains("POST"), "Allow: {allow}");
    client
        .post("/api/v1/users/login", "email=a")
        .header("Content-Type", "application/x-www-form-urlencoded")
        .send()
        .expect_error(415, "UNSUPPORTED_MEDIA_TYPE");
    let huge = format!(r#"{{"email":"{}"}}"#, "a".repeat(4 << 20));
    match client.post("/api/v1/users/login", huge).try_send() {
        Ok(answer) => drop(answer.expect_error(413, "PAYLOAD_TOO_LARGE")),
        // A server may close on a client that goes on sending; what matters is that it then still answers.
        Err(error) => println!("the oversized body was cut off: {error}"),
    }
    client.get("/").send().expect(200);
}

#[test]
fn the_original_rate_limit_profile_counts_and_refuses() {
    let shop = Opening::new().set("RATE_LIMIT_PROFILE", "original").open();
    let client = shop.client();
    let limit = |answer: &shop::Answer, name: &str| answer.header(name).unwrap().parse::<u64>().unwrap();

    let first = client.get("/api/v1/products").send().expect(200);
    assert_eq!((limit(&first, "X-RateLimit-Limit"), limit(&first, "X-RateLimit-Remaining")), (100, 99));
    assert!(limit(&first, "X-RateLimit-Reset") > 0);
    let buyer = shop.register("buyer@example.com");
    let signed_in = buyer.client.get("/api/v1/users/profile").send().expect(200);
    assert_eq!(limit(&signed_in, "X-RateLimit-Limit"), 1000);

    let refused = (0..100).map(|_| client.get("/api/v1/products").send()).find(|answer| answer.status == 429);
    let refused = refused.expect("the 101st request of an hour is refused");
    assert!(limit(&refused, "Retry-After") > 0);
    refused.expect_error(429, "RATE_LIMIT_EXCEEDED");
    buyer.client.get("/api/v1/users/profile").send().expect(200);
}

#[test]
fn the_demo_has_the_original_test_user_and_something_to_buy() {
    let shop = Opening::new().argument("--demo").open();
    let client = shop.sign_in("test@example.com", "testPassword123");
    let buyer = Buyer { email: "test@example.com".to_owned(), user_id: String::new(), client };
    let products = buyer.client.get("/api/v1/products").send().expect(200).json();
    let some =
        products["products"].as_array().unwrap().iter().find(|product| product["stock_quantity"].as_i64() > Some(0));
    let product_id = some.expect("a product in stock")["id"].as_str().unwrap().to_owned();
    let order = buyer.client.post("/api/v1/orders", order_body(&product_id, 1)).key("demo").send().expect(201);
    assert_eq!(buyer.pay(&order, CARD_ORIGINAL).expect(201).json()["status"], "succeeded");
}
