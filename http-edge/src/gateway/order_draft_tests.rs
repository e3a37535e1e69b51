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

fn wanted(items: &str, more: &str) -> Wanted {
    read(format!(r#"{{"items":[{items}]{more}}}"#).as_bytes()).unwrap()
}

fn placing() -> Placing {
    Placing { order_id: OrderId::generate(), reservation_id: ReservationId::generate(), user_id: UserId::generate() }
}

fn json(error: &ApiError) -> serde_json::Value {
    serde_json::from_str(&error.to_json(&CorrelationId::generate())).unwrap()
}

const A2: &str = r#"{"product_id":"prod_a","quantity":2}"#;

#[test]
fn an_order_is_added_up_exactly_and_the_same_sku_is_one_line() {
    let wanted = wanted(&format!(r#"{A2},{{"sku":"sku_b","quantity":3}},{{"sku":"sku_a","quantity":1}}"#), "");
    let quotes =
        [quoted("a", 9_999, Currency::USD, 2), quoted("b", 10, Currency::USD, 3), quoted("a", 9_999, Currency::USD, 1)];
    let draft = wanted.priced(&quotes, placing()).unwrap();
    assert!(draft.adds_up());
    assert_eq!((draft.subtotal_minor, draft.total_minor, draft.lines.len()), (30_027, 30_027, 2));
    assert_eq!((draft.lines[0].quantity.get(), draft.lines[0].line_total_minor), (3, 29_997));
    assert_eq!(wanted.to_quote().len(), 3);
}

#[test]
fn an_order_counts_its_units_and_goes_where_its_buyer_says() {
    let address =
        r#","shipping_address":{"street":"1 Main St","city":"Springfield","state":"IL","zip":"62701","country":"US"}"#;
    let wanted = wanted(&format!(r#"{A2},{{"sku":"sku_b","quantity":3}}"#), address);
    assert_eq!(wanted.units(), 5);
    let quotes = [quoted("a", 100, Currency::USD, 2), quoted("b", 100, Currency::USD, 3)];
    let draft = wanted.priced(&quotes, placing()).unwrap();
    let [street, city, state, zip, country] = ["1 Main St", "Springfield", "IL", "62701", "US"].map(str::to_owned);
    assert_eq!(draft.shipping_address, Some(Address { street, city, state, zip, country }));
}

#[test]
fn another_total_or_price_than_the_shops_is_refused_and_never_used() {
    let quotes = [quoted("a", 29_999, Currency::USD, 2)];
    assert!(wanted(A2, r#","expected_total":599.98"#).priced(&quotes, placing()).is_ok());
    assert!(wanted(A2, r#","expected_total":"599.980""#).priced(&quotes, placing()).is_ok());
    let refused = wanted(A2, r#","expected_total":1.00"#).priced(&quotes, placing()).unwrap_err();
    let error = json(&refused);
    assert_eq!((&error["error"]["code"], refused.status().as_u16()), (&"PRICE_CHANGED".into(), 409));
    assert_eq!(error["error"]["details"]["total_minor"], 59_998);
    let priced_at = |price: &str| {
        let item = format!(r#"{{"product_id":"prod_a","quantity":2,"unit_price":{price}}}"#);
        wanted(&item, "").priced(&quotes, placing())
    };
    assert!(priced_at("299.99").is_ok());
    let error = json(&priced_at("0.01").unwrap_err());
    assert_eq!(error["error"]["details"]["field"], "items[0].unit_price");
    assert_eq!(priced_at("1e1").unwrap_err().status(), 422);
}

#[test]
fn sums_beyond_every_bound_are_422() {
    let item = r#"{"product_id":"prod_a","quantity":10000}"#;
    let one = wanted(item, "").priced(&[quoted("a", 10_000_000_000, Currency::USD, 10_000)], placing());
    assert_eq!(one.unwrap_err().status(), 422);
    let two = wanted(&format!("{item},{item}"), "");
    let quotes = [quoted("a", 1, Currency::USD, 10_000), quoted("a", 1, Currency::USD, 10_000)];
    let error = json(&two.priced(&quotes, placing()).unwrap_err());
    assert_eq!(error["error"]["details"]["field"], "items[1].quantity");
}

#[test]
fn an_order_has_one_currency() {
    let quotes = [quoted("a", 100, Currency::USD, 2)];
    assert!(wanted(A2, r#","currency":"USD""#).priced(&quotes, placing()).is_ok());
    assert_eq!(wanted(A2, r#","currency":"EUR""#).priced(&quotes, placing()).unwrap_err().status(), 422);
    let mixed = [quoted("a", 100, Currency::USD, 2), quoted("b", 100, Currency::JPY, 2)];
    let error = wanted(&format!("{A2},{A2}"), "").priced(&mixed, placing()).unwrap_err();
    assert_eq!(json(&error)["error"]["details"]["field"], "items[1]");
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
    let draft = wanted.priced(&quotes, placing()).unwrap();
    let short = |line: usize, available| Shortfall {
        sku: draft.lines[line].sku.clone(),
        requested: draft.lines[line].quantity,
        available,
    };
    let error = json(&wanted.out_of_stock(&draft.lines, &[short(1, 1)]));
    assert_eq!(error["error"]["code"], "INSUFFICIENT_STOCK");
    assert_eq!(error["error"]["details"]["field"], "items[1].quantity");
    assert_eq!(error["error"]["details"]["reason"], "requested 3, available 1");
    let item = serde_json::json!({"product_id": "prod_b", "sku": "sku_b", "requested": 3, "available": 1});
    assert_eq!(error["error"]["details"]["items"][0], item);
    let both = json(&wanted.out_of_stock(&draft.lines, &[short(1, 1), short(0, 0)]));
    assert_eq!(both["error"]["details"]["field"], "items[0].quantity");
    assert_eq!(both["error"]["details"]["items"][1]["sku"], "sku_b");
}
