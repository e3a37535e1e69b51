use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn quoted(name: &str, minor: i64, currency: Currency, units: u32) -> QuotedLine {
    QuotedLine {
        sku: Sku::parse(&format!("sku_{name}")).unwrap(),
        product_id: ProductId::parse(&format!("prod_{name}")).unwrap(),
        name: name.to_owned(),
        unit_price: Money::from_minor(minor, currency).unwrap(),
        quantity: Quantity::new(units).unwrap(),
    }
}

/// Asks for each quoted line by its product.
fn requested(quotes: &[QuotedLine]) -> OrderRequest {
    let line = |quote: &QuotedLine| RequestedLine {
        product_id: Some(quote.product_id.clone()),
        sku: None,
        quantity: quote.quantity,
        shown_price: None,
    };
    OrderRequest {
        lines: quotes.iter().map(line).collect(),
        currency: None,
        expected_total: None,
        shipping_address: None,
    }
}

fn showing(quotes: &[QuotedLine], amount: &str) -> OrderRequest {
    let mut request = requested(quotes);
    request.lines[0].shown_price = Some(ShownPrice { field: "unit_price", amount: amount.to_owned() });
    request
}

fn expecting(quotes: &[QuotedLine], amount: &str) -> OrderRequest {
    OrderRequest { expected_total: Some(amount.to_owned()), ..requested(quotes) }
}

fn ids() -> NewOrderIds {
    NewOrderIds {
        order_id: OrderId::generate(),
        reservation_id: ReservationId::generate(),
        user_id: UserId::generate(),
    }
}

#[test]
fn the_same_sku_is_one_line_where_it_was_named_first_and_ids_and_address_are_the_buyers() {
    let usd = Currency::USD;
    let quotes = [quoted("a", 9_999, usd, 2), quoted("b", 10, usd, 3), quoted("a", 9_999, usd, 1)];
    let address = Address { city: "Springfield".into(), ..Address::default() };
    let request = OrderRequest { shipping_address: Some(address.clone()), ..requested(&quotes) };
    let ids = ids();
    let draft = price(&request, &quotes, ids.clone()).unwrap();
    assert!(draft.adds_up());
    assert_eq!((draft.subtotal_minor, draft.total_minor, draft.lines.len()), (30_027, 30_027, 2));
    let [a, b] = &draft.lines[..] else { panic!("two lines") };
    assert_eq!((a.name.as_str(), a.quantity.get(), a.unit_price_minor, a.line_total_minor), ("a", 3, 9_999, 29_997));
    assert_eq!((b.sku.as_str(), b.product_id.as_str(), b.line_total_minor), ("sku_b", "prod_b", 30));
    assert_eq!((draft.order_id, draft.reservation_id, draft.user_id), (ids.order_id, ids.reservation_id, ids.user_id));
    assert_eq!((draft.currency, draft.shipping_address), (usd, Some(address)));
    assert_eq!(request.units(), 6);
}

#[test]
fn the_catalogue_is_asked_by_product_where_one_is_named_and_by_sku_where_none_is() {
    let quotes = [quoted("a", 1, Currency::USD, 2), quoted("b", 1, Currency::USD, 3)];
    let mut request = requested(&quotes);
    request.lines[0].sku = Some(quotes[0].sku.clone());
    request.lines[1].product_id = None;
    request.lines[1].sku = Some(quotes[1].sku.clone());
    let expected = [
        QuoteLine { item: ItemRef::Product(quotes[0].product_id.clone()), quantity: quotes[0].quantity },
        QuoteLine { item: ItemRef::Sku(quotes[1].sku.clone()), quantity: quotes[1].quantity },
    ];
    assert_eq!(request.to_quote(), expected);
}

#[test]
fn another_price_total_sku_or_currency_than_the_shops_is_refused() {
    let quotes = [quoted("a", 29_999, Currency::USD, 2)];
    let refused = |request: &OrderRequest| price(request, &quotes, ids()).unwrap_err();
    for right in [showing(&quotes, "299.99"), expecting(&quotes, "599.98"), expecting(&quotes, "\"599.980\"")] {
        assert!(price(&right, &quotes, ids()).is_ok(), "{right:?}");
    }
    let unit = quotes[0].unit_price;
    let another = PricingError::AnotherPrice { line: 0, field: "unit_price", price: unit };
    assert_eq!(another.to_string(), "the price is 299.99");
    assert_eq!(refused(&showing(&quotes, "0.01")), another);
    assert!(matches!(refused(&showing(&quotes, "1e1")), PricingError::BadPrice { line: 0, field: "unit_price", .. }));
    let total = unit.times(quotes[0].quantity).unwrap();
    assert_eq!(refused(&expecting(&quotes, "1.00")), PricingError::AnotherTotal { total });
    assert!(matches!(refused(&expecting(&quotes, "1.001")), PricingError::BadTotal(_)));
    let mut of_another = requested(&quotes);
    of_another.lines[0].sku = Some(Sku::parse("sku_b").unwrap());
    assert_eq!(refused(&of_another), PricingError::NotASkuOf { line: 0, product_id: quotes[0].product_id.clone() });
    let (sold_in, wanted) = (Currency::USD, "EUR".parse().unwrap());
    let in_euro = OrderRequest { currency: Some(wanted), ..requested(&quotes) };
    assert_eq!(refused(&in_euro), PricingError::AnotherCurrency { line: 0, sold_in, wanted });
}

#[test]
fn lines_of_two_currencies_do_not_go_together_and_a_missing_answer_is_noticed() {
    let mixed = [quoted("a", 100, Currency::USD, 2), quoted("b", 100, Currency::JPY, 2)];
    let refused = price(&requested(&mixed), &mixed, ids());
    let (sold_in, wanted) = (Currency::JPY, Currency::USD);
    assert_eq!(refused, Err(PricingError::AnotherCurrency { line: 1, sold_in, wanted }));
    let refused = price(&requested(&mixed), &mixed[..1], ids());
    assert_eq!(refused, Err(PricingError::NotQuoted { lines: 2, quoted: 1 }));
}

#[test]
fn sums_beyond_every_bound_are_refused() {
    let dear = [quoted("a", 10_000_000_000, Currency::USD, 10_000)];
    assert_eq!(price(&requested(&dear), &dear, ids()), Err(PricingError::TooLarge(MoneyError::Overflow)));
    let many = [quoted("a", 1, Currency::USD, 10_000), quoted("a", 1, Currency::USD, 1)];
    assert_eq!(price(&requested(&many), &many, ids()), Err(PricingError::TooMany { line: 1, error: QuantityError }));
}

fn currency() -> impl Strategy<Value = Currency> {
    prop_oneof![Just(Currency::USD), Just(Currency::JPY), Just("KWD".parse().unwrap())]
}

/// Lines of a few SKUs, each at one price.
fn quotes() -> impl Strategy<Value = Vec<QuotedLine>> {
    let line = (0_usize..6, 1_u32..=100);
    (currency(), prop::collection::vec(0_i64..=5_000_000, 6), prop::collection::vec(line, 1..=20)).prop_map(
        |(currency, prices, lines)| {
            let quote = |(item, units): (usize, u32)| quoted(&format!("{item}"), prices[item], currency, units);
            lines.into_iter().map(quote).collect()
        },
    )
}

proptest! {
    /// Σlines − discount + tax + shipping = total, every unit is paid for once, and nothing is sold that was not asked for.
    #[test]
    fn a_priced_order_adds_up(quotes in quotes()) {
        let draft = price(&requested(&quotes), &quotes, ids()).unwrap();
        prop_assert!(draft.adds_up());
        let sum: i128 = quotes.iter().map(|quote| i128::from(quote.unit_price.minor()) * i128::from(quote.quantity.get())).sum();
        prop_assert_eq!(i128::from(draft.subtotal_minor), sum);
        let parts = draft.subtotal_minor - draft.discount_minor + draft.tax_minor + draft.shipping_minor;
        prop_assert_eq!(draft.total_minor, parts);
        let mut asked: BTreeMap<&str, u32> = BTreeMap::new();
        for quote in &quotes {
            *asked.entry(quote.sku.as_str()).or_default() += quote.quantity.get();
        }
        let sold: BTreeMap<&str, u32> =
            draft.lines.iter().map(|line| (line.sku.as_str(), line.quantity.get())).collect();
        prop_assert_eq!(sold.len(), draft.lines.len(), "a SKU is one line");
        prop_assert_eq!(sold, asked);
    }

    /// In whichever order the lines are named, the order costs the same.
    #[test]
    fn the_total_does_not_depend_on_the_order_of_the_lines(
        (quotes, shuffled) in quotes().prop_flat_map(|quotes| (Just(quotes.clone()), Just(quotes).prop_shuffle()))
    ) {
        let total = |quotes: &[QuotedLine]| price(&requested(quotes), quotes, ids()).unwrap().total_minor;
        prop_assert_eq!(total(&quotes), total(&shuffled));
    }

    /// A buyer who expects the shop's total gets the order; one who expects any other does not.
    #[test]
    fn a_total_is_agreed_upon_or_there_is_no_order(
        quotes in quotes(),
        off_by in prop_oneof![Just(0_i64), -1_000_i64..0, 1_i64..=1_000],
    ) {
        let total = price(&requested(&quotes), &quotes, ids()).unwrap().total_minor;
        let currency = quotes[0].unit_price.currency();
        let expected = Money::from_minor(total + off_by, currency).unwrap();
        let priced = price(&expecting(&quotes, &expected.to_decimal().to_string()), &quotes, ids());
        let total = Money::from_minor(total, currency).unwrap();
        let agreed = priced.map(|draft| draft.total_minor);
        let is_right = if off_by == 0 { agreed == Ok(total.minor()) } else { agreed == Err(PricingError::AnotherTotal { total }) };
        prop_assert!(is_right, "{:?} for {} off by {}", agreed, total.to_decimal(), off_by);
    }
}
