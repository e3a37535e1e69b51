use contracts::{Currency, Money, OrderId, ProductId, QuotedLine, ReservationId, Sku, UserId};
use order_service::Draft;
use order_service::pricing::{NewOrderIds, price};

use super::*;
use crate::correlation::CorrelationId;

fn quoted(sku: &str, minor: i64, currency: Currency, units: u32) -> QuotedLine {
    QuotedLine {
        sku: Sku::parse(&format!("sku_{sku}")).unwrap(),
        product_id: ProductId::parse(&format!("prod_{sku}")).unwrap(),
        name: sku.to_owned(),
        unit_price: Money::from_minor(minor, currency).unwrap(),
        quantity: Quantity::new(units).unwrap(),
    }
}

fn wanted(items: &str, more: &str) -> OrderRequest {
    read(format!(r#"{{"items":[{items}]{more}}}"#).as_bytes()).unwrap()
}

fn priced(request: &OrderRequest, quotes: &[QuotedLine]) -> Result<Draft, ApiError> {
    let order_id = OrderId::generate();
    let ids = NewOrderIds { order_id, reservation_id: ReservationId::generate(), user_id: UserId::generate() };
    Ok(price(request, quotes, ids)?)
}

fn json(error: &ApiError) -> serde_json::Value {
    serde_json::from_str(&error.to_json(&CorrelationId::generate())).unwrap()
}

const A2: &str = r#"{"product_id":"prod_a","quantity":2}"#;

#[test]
fn lines_and_the_address_are_read_as_they_are_said() {
    let address =
        r#","shipping_address":{"street":"1 Main St","city":"Springfield","state":"IL","zip":"62701","country":"US"}"#;
    let request = wanted(&format!(r#"{A2},{{"sku":"sku_b","quantity":3,"price":1.50}}"#), address);
    assert_eq!((request.units(), request.to_quote().len()), (5, 2));
    let shown = request.lines[1].shown_price.as_ref().unwrap();
    assert_eq!((shown.field, shown.amount.as_str()), ("price", "1.50"));
    let [street, city, state, zip, country] = ["1 Main St", "Springfield", "IL", "62701", "US"].map(str::to_owned);
    assert_eq!(request.shipping_address, Some(Address { street, city, state, zip, country }));
}

#[test]
fn another_total_or_price_than_the_shops_is_a_409_that_names_it() {
    let quotes = [quoted("a", 29_999, Currency::USD, 2)];
    let refused = priced(&wanted(A2, r#","expected_total":1.00"#), &quotes).unwrap_err();
    let error = json(&refused);
    assert_eq!((&error["error"]["code"], refused.status().as_u16()), (&"PRICE_CHANGED".into(), 409));
    assert_eq!(error["error"]["details"]["total_minor"], 59_998);
    let priced_at = |price: &str| {
        let item = format!(r#"{{"product_id":"prod_a","quantity":2,"unit_price":{price}}}"#);
        priced(&wanted(&item, ""), &quotes)
    };
    assert!(priced_at("299.99").is_ok());
    let error = json(&priced_at("0.01").unwrap_err());
    assert_eq!(error["error"]["details"]["field"], "items[0].unit_price");
    let error = priced_at("1e1").unwrap_err();
    assert_eq!(
        (error.status().as_u16(), &json(&error)["error"]["details"]["field"]),
        (422, &"items[0].unit_price".into())
    );
}

#[test]
fn sums_and_lines_that_cannot_be_are_422_and_name_their_place() {
    let field = |request: &OrderRequest, quotes: &[QuotedLine]| {
        let error = priced(request, quotes).unwrap_err();
        assert_eq!(error.status(), 422);
        json(&error)["error"]["details"]["field"].as_str().unwrap().to_owned()
    };
    let item = r#"{"product_id":"prod_a","quantity":10000}"#;
    assert_eq!(field(&wanted(item, ""), &[quoted("a", 10_000_000_000, Currency::USD, 10_000)]), "items");
    let quotes = [quoted("a", 1, Currency::USD, 10_000), quoted("a", 1, Currency::USD, 10_000)];
    assert_eq!(field(&wanted(&format!("{item},{item}"), ""), &quotes), "items[1].quantity");
    let quotes = [quoted("a", 100, Currency::USD, 2)];
    assert_eq!(field(&wanted(A2, r#","currency":"EUR""#), &quotes), "items[0]");
    assert_eq!(field(&wanted(A2, r#","expected_total":1.001"#), &quotes), "expected_total");
    assert_eq!(field(&wanted(r#"{"product_id":"prod_a","sku":"sku_b","quantity":2}"#, ""), &quotes), "items[0].sku");
}

#[test]
fn bad_lines_are_named_and_none_or_too_many_are_refused() {
    let body = br#"{"items":[{"quantity":0},{"product_id":"x","quantity":1.5},{"sku":"sku_1","quantity":"2"}]}"#;
    let error = json(&read(body).unwrap_err());
    let fields: Vec<&str> =
        error["error"]["details"]["errors"].as_array().unwrap().iter().map(|e| e["field"].as_str().unwrap()).collect();
    let expected =
        ["items[0].product_id", "items[0].quantity", "items[1].quantity", "items[1].product_id", "items[2].quantity"];
    assert_eq!(fields, expected);
    assert_eq!(read(br#"{"items":[]}"#).unwrap_err().status(), 422);
    assert_eq!(read(b"{}").unwrap_err().status(), 422);
    let many = vec![A2; LINES_MAX + 1].join(",");
    assert_eq!(read(format!(r#"{{"items":[{many}]}}"#).as_bytes()).unwrap_err().status(), 422);
}

#[test]
fn what_is_not_there_is_named_by_the_place_where_it_was_asked_for() {
    let wanted = wanted(&format!(r#"{A2},{{"sku":"sku_b","quantity":3}}"#), "");
    let quotes = [quoted("a", 100, Currency::USD, 2), quoted("b", 100, Currency::USD, 3)];
    let draft = priced(&wanted, &quotes).unwrap();
    let short = |line: usize, available| Shortfall {
        sku: draft.lines[line].sku.clone(),
        requested: draft.lines[line].quantity,
        available,
    };
    let error = json(&out_of_stock(&wanted, &draft.lines, &[short(1, 1)]));
    assert_eq!(error["error"]["code"], "INSUFFICIENT_STOCK");
    assert_eq!(error["error"]["details"]["field"], "items[1].quantity");
    assert_eq!(error["error"]["details"]["reason"], "requested 3, available 1");
    let item = serde_json::json!({"product_id": "prod_b", "sku": "sku_b", "requested": 3, "available": 1});
    assert_eq!(error["error"]["details"]["items"][0], item);
    let both = json(&out_of_stock(&wanted, &draft.lines, &[short(1, 1), short(0, 0)]));
    assert_eq!(both["error"]["details"]["field"], "items[0].quantity");
    assert_eq!(both["error"]["details"]["items"][1]["sku"], "sku_b");
}
