//! One rule, one case.

use super::*;
use contracts::OrderId;
use futures::FutureExt;
use http_body_util::BodyExt;
use proptest::prelude::*;
use serde_json::Value;

use crate::correlation::CorrelationId;

/// Status and `field: reason` of every broken rule.
fn broken<T: fmt::Debug>(result: Result<T, ApiError>) -> (u16, Vec<String>) {
    let response = result.unwrap_err().into_response(&CorrelationId::generate());
    let status = response.status().as_u16();
    // An error body is in memory: it is there at the first poll.
    let body = response.into_body().collect().now_or_never().unwrap().unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let details = &body["error"]["details"];
    let list = |errors: &Vec<Value>| errors.iter().map(line).collect();
    (status, details["errors"].as_array().map_or_else(|| vec![line(details)], list))
}

fn line(error: &Value) -> String {
    format!("{}: {}", error["field"].as_str().unwrap(), error["reason"].as_str().unwrap())
}

#[test]
fn good_values_come_out() {
    let body = br#"{"name":"Ada","age":36,"vip":true,"price":"10.00","order":"ord_1","tags":["a","b"],
        "address":{"city":"London"},"items":[{"n":1},{"n":2}],"gone":null,"currency":"USD"}"#;
    read(body, |fields| {
        assert_eq!(fields.text("name", 1..=10), "Ada");
        assert_eq!(fields.optional_text("gone", 1..=10), None);
        assert_eq!(fields.integer("age", 0..=150), 36);
        assert_eq!(fields.optional_flag("vip"), Some(true));
        let currency = fields.currency("currency", Currency::EUR);
        assert_eq!(fields.money("price", currency).minor(), 1000);
        assert_eq!(fields.parsed::<OrderId>("order").unwrap().as_str(), "ord_1");
        assert_eq!(fields.texts("tags", 0..=2, 1..=5), ["a", "b"]);
        assert_eq!(fields.texts("absent", 1..=2, 1..=5), [""; 0]);
        assert_eq!(fields.object("address", |a| a.text("city", 1..=50)).unwrap(), "London");
        assert_eq!(fields.list("items", 1..=2, |item| item.integer("n", 1..=9)), [1, 2]);
        assert!(fields.has("name") && !fields.has("gone"));
    })
    .unwrap();
}

#[test]
fn every_broken_rule_is_reported_with_its_path() {
    let body = br#"{"name":"","age":200,"vip":"yes","price":1.005,"order":"usr_1","tags":[1],
        "address":{"city":7},"items":[{"n":0},5],"note":"a\u0000b","whole":1.5}"#;
    let result = read(body, |fields| {
        fields.text("name", 1..=10);
        fields.integer("age", 0..=150);
        fields.optional_flag("vip");
        fields.money("price", Currency::USD);
        fields.parsed::<OrderId>("order");
        fields.texts("tags", 0..=2, 1..=5);
        fields.object("address", |address| address.text("city", 1..=50));
        fields.list("items", 1..=2, |item| item.integer("n", 1..=9));
        fields.optional_text("note", 0..=9);
        fields.integer("whole", 0..=9);
        fields.text("absent", 1..=9);
        fields.refuse("name", "is reserved");
    });
    let (status, rules) = broken(result);
    assert_eq!(status, 422);
    assert_eq!(
        rules,
        [
            "name: must not be empty",
            "age: must be from 0 to 150",
            "vip: must be true or false",
            "price: USD has 2 decimal places",
            "order: must start with ord_",
            "tags[0]: must be a string",
            "address.city: must be a string",
            "items[0].n: must be from 1 to 9",
            "items[1]: must be a JSON object",
            "note: must not have control characters",
            "whole: must be an integer",
            "absent: is required",
            "name: is reserved",
        ]
    );
}

#[test]
fn amounts_are_read_as_text_never_as_floats() {
    let price = |token: &str| {
        let body = format!("{{\"price\":{token}}}");
        read(body.as_bytes(), |fields| fields.money("price", Currency::USD)).map(Money::minor)
    };
    assert_eq!(price("0.1").unwrap(), 10);
    assert_eq!(price("100000000000.00").unwrap(), 10_000_000_000_000);
    assert_eq!(price("\"19.99\"").unwrap(), 1999);
    assert_eq!(broken(price("1e2")).0, 422);
    assert_eq!(broken(price("null")).1, ["price: is required"]);
}

#[test]
fn what_is_no_object_is_400() {
    for body in ["", "nope", "[1]", "7", "\"x\"", "null", "{\"a\":1,\"a\":2}", "{\"a\":1}}", "\u{feff}{}"] {
        let (status, rules) = broken(read(body.as_bytes(), |_| ()));
        assert_eq!((status, rules.len()), (400, 1), "{body}");
    }
    assert_eq!(broken(read(b"{\"a\":\"\xff\"}", |_| ())).0, 400);
}

#[test]
fn deep_nesting_is_harmless() {
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(50_000), "]".repeat(50_000));
    read(deep.as_bytes(), |_| ()).unwrap();
    let (status, _) = broken(read(deep.as_bytes(), |fields| fields.list("a", 1..=1, |_| ())));
    assert_eq!(status, 422);
}

#[test]
fn a_list_that_is_too_long_is_not_read() {
    let body = format!("{{\"items\":[{}]}}", vec!["{}"; 101].join(","));
    let mut built = 0;
    let result = read(body.as_bytes(), |fields| {
        fields.list("items", 1..=100, |_| built += 1);
    });
    assert_eq!(broken(result), (422, vec!["items: must have 1 to 100 elements".to_owned()]));
    assert_eq!(built, 0);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(body: Vec<u8>) {
        let _ = read(&body, |fields| fields.text("a", 0..=10));
    }
}
