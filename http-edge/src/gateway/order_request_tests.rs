use contracts::{AmountError, Currency, Money, MoneyError, ProductId, QuantityError, Sku};

use super::*;
use crate::correlation::CorrelationId;

fn wanted(items: &str, more: &str) -> OrderRequest {
    read(format!(r#"{{"items":[{items}]{more}}}"#).as_bytes()).unwrap()
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

fn usd(minor: i64) -> Money {
    Money::from_minor(minor, Currency::USD).unwrap()
}

#[test]
fn why_an_order_has_no_price_is_said_with_the_place_that_is_meant() {
    let (sold_in, wanted) = (Currency::JPY, Currency::USD);
    let product_id = ProductId::parse("prod_a").unwrap();
    let cases = [
        (PricingError::AnotherCurrency { line: 1, sold_in, wanted }, 422, "items[1]", "is sold in JPY, not in USD"),
        (PricingError::NotASkuOf { line: 0, product_id }, 422, "items[0].sku", "is not a SKU of prod_a"),
        (
            PricingError::BadPrice { line: 2, field: "price", error: AmountError::TooLarge },
            422,
            "items[2].price",
            "the amount is too large",
        ),
        (PricingError::BadTotal(AmountError::TooLarge), 422, "expected_total", "the amount is too large"),
        (
            PricingError::AnotherPrice { line: 0, field: "unit_price", price: usd(29_999) },
            409,
            "items[0].unit_price",
            "the price is 299.99",
        ),
        (
            PricingError::TooMany { line: 1, error: QuantityError },
            422,
            "items[1].quantity",
            "must be between 1 and 10000, over all lines of this item",
        ),
        (PricingError::TooLarge(MoneyError::Overflow), 422, "items", "the amount is too large"),
    ];
    for (error, status, field, reason) in cases {
        let answer = ApiError::from(error);
        let details = &json(&answer)["error"]["details"];
        assert_eq!(
            (answer.status().as_u16(), &details["field"], &details["reason"]),
            (status, &field.into(), &reason.into())
        );
    }
}

#[test]
fn another_total_than_the_shops_is_a_409_that_says_it_and_a_fault_of_ours_says_nothing() {
    let refused = ApiError::from(PricingError::AnotherTotal { total: usd(59_998) });
    let error = json(&refused);
    assert_eq!((&error["error"]["code"], refused.status().as_u16()), (&"PRICE_CHANGED".into(), 409));
    assert_eq!(error["error"]["details"]["total_minor"], 59_998);
    let fault = ApiError::from(PricingError::NotQuoted { lines: 2, quoted: 1 });
    assert_eq!((fault.status().as_u16(), &json(&fault)["error"]["details"]), (500, &serde_json::json!({})));
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
    let line = |name: &str, units| OrderedLine {
        sku: Sku::parse(&format!("sku_{name}")).unwrap(),
        product_id: ProductId::parse(&format!("prod_{name}")).unwrap(),
        name: name.to_owned(),
        quantity: Quantity::new(units).unwrap(),
        unit_price_minor: 100,
        line_total_minor: 100 * i64::from(units),
    };
    let lines = [line("a", 2), line("b", 3)];
    let short = |place: usize, available| {
        let OrderedLine { sku, quantity, .. } = lines[place].clone();
        Shortfall { sku, requested: quantity, available }
    };
    let error = json(&out_of_stock(&wanted, &lines, &[short(1, 1)]));
    assert_eq!(error["error"]["code"], "INSUFFICIENT_STOCK");
    assert_eq!(error["error"]["details"]["field"], "items[1].quantity");
    assert_eq!(error["error"]["details"]["reason"], "requested 3, available 1");
    let item = serde_json::json!({"product_id": "prod_b", "sku": "sku_b", "requested": 3, "available": 1});
    assert_eq!(error["error"]["details"]["items"][0], item);
    let both = json(&out_of_stock(&wanted, &lines, &[short(1, 1), short(0, 0)]));
    assert_eq!(both["error"]["details"]["field"], "items[0].quantity");
    assert_eq!(both["error"]["details"]["items"][1]["sku"], "sku_b");
}
