//! The cases of the HTTP contract's money section, and the laws of the arithmetic.

use super::*;
use proptest::prelude::*;

fn usd(minor: i64) -> Money {
    Money::from_minor(minor, Currency::USD).unwrap()
}

fn parse_usd(token: &str) -> Result<Money, AmountError> {
    Money::parse_json(token, Currency::USD)
}

#[test]
fn every_value_from_0_00_to_9999_99_round_trips() {
    for minor in 0..=999_999 {
        let text = format!("{}.{:02}", minor / 100, minor % 100);
        let money = parse_usd(&text).unwrap();
        assert_eq!(money.minor(), minor);
        assert_eq!(money.to_decimal().to_string(), text);
        assert_eq!(parse_usd(&format!("-{text}")).unwrap().minor(), -minor);
    }
}

#[test]
fn one_tenth_and_two_tenths_are_three_tenths() {
    let sum = parse_usd("0.1").unwrap().checked_add(parse_usd("0.2").unwrap()).unwrap();
    assert_eq!(sum, parse_usd("0.3").unwrap());
}

#[test]
fn three_times_99_99_is_299_97() {
    let price = parse_usd("99.99").unwrap();
    assert_eq!(price.times(Quantity::new(3).unwrap()).unwrap().to_decimal().to_string(), "299.97");
}

#[test]
fn a_string_of_the_same_grammar_is_an_amount() {
    assert_eq!(parse_usd("\"19.99\""), Ok(usd(1999)));
    assert_eq!(parse_usd(" 19.99\n"), Ok(usd(1999)));
    for token in ["\"19.99", "19.99\"", "\"\"", "\" 19.99\"", "\"19\\u002e99\"", "\"\\\"1\\\"\"", "\""] {
        assert_eq!(parse_usd(token), Err(AmountError::NotADecimal), "{token}");
    }
}

#[test]
fn other_number_forms_are_refused() {
    let tokens = [
        "1e2", "1E2", "1.5e1", "+1", "01.00", "00", "-01", "1.", ".5", "-", "-.5", "", "NaN", "Infinity", "null",
        "true", "[]", "{}", "1,000", "1 000", "0x10", "١", "--1", "1.2.3",
    ];
    for token in tokens {
        assert_eq!(parse_usd(token), Err(AmountError::NotADecimal), "{token}");
    }
}

#[test]
fn digits_beyond_the_currency_must_be_zeros() {
    let error = parse_usd("1.005").unwrap_err();
    assert_eq!(error, AmountError::TooManyDecimals(Currency::USD));
    assert_eq!(error.to_string(), "USD has 2 decimal places");
    assert_eq!(parse_usd("1.00500"), Err(AmountError::TooManyDecimals(Currency::USD)));
    assert_eq!(parse_usd("1.5000000"), Ok(usd(150)));
    assert_eq!(Money::parse_json("1200", Currency::JPY).unwrap().minor(), 1200);
    assert_eq!(Money::parse_json("1200.00", Currency::JPY).unwrap().minor(), 1200);
    let yen = Money::parse_json("1200.5", Currency::JPY).unwrap_err();
    assert_eq!(yen.to_string(), "JPY has 0 decimal places");
    assert_eq!(Money::parse_json("1.234", Currency::KWD).unwrap().minor(), 1234);
}

#[test]
fn amounts_beyond_the_bound_are_refused_however_long() {
    assert_eq!(parse_usd("9999999999999.99"), Err(AmountError::TooLarge));
    assert_eq!(parse_usd("100000000000.00"), Ok(usd(MINOR_MAX)));
    assert_eq!(parse_usd("-100000000000.00"), Ok(usd(-MINOR_MAX)));
    assert_eq!(parse_usd("100000000000.01"), Err(AmountError::TooLarge));
    assert_eq!(parse_usd(&"9".repeat(10_000)), Err(AmountError::TooLarge));
    assert_eq!(Money::from_minor(i64::MIN, Currency::USD), Err(MoneyError::Overflow));
}

#[test]
fn the_number_on_the_wire_has_the_fixed_scale_of_its_currency() {
    let json = |money: Money| serde_json::to_string(&money.to_decimal()).unwrap();
    assert_eq!(json(usd(29_999)), "299.99");
    assert_eq!(json(usd(1_000)), "10.00");
    assert_eq!(json(usd(0)), "0.00");
    assert_eq!(json(usd(-5)), "-0.05");
    assert_eq!(json(parse_usd("-0.00").unwrap()), "0.00");
    assert_eq!(json(Money::from_minor(1200, Currency::JPY).unwrap()), "1200");
    assert_eq!(json(Money::from_minor(1, Currency::KWD).unwrap()), "0.001");
}

#[test]
fn an_amount_is_zero_below_zero_or_neither() {
    for (minor, is_zero, is_negative) in [(-1, false, true), (0, true, false), (1, false, false)] {
        assert_eq!((usd(minor).is_zero(), usd(minor).is_negative()), (is_zero, is_negative), "{minor}");
    }
}

#[test]
fn logs_name_amount_and_currency() {
    assert_eq!(usd(29_999).to_string(), "299.99 USD");
    assert_eq!(format!("{:?}", Currency::KWD), "KWD");
}

#[test]
fn journals_hold_integers_and_keep_the_bound() {
    let json = serde_json::to_string(&usd(29_999)).unwrap();
    assert_eq!(json, r#"{"minor":29999,"currency":"USD"}"#);
    assert_eq!(serde_json::from_str::<Money>(&json).unwrap(), usd(29_999));
    assert!(serde_json::from_str::<Money>(r#"{"minor":10000000000001,"currency":"USD"}"#).is_err());
    assert!(serde_json::from_str::<Money>(r#"{"minor":1.5,"currency":"USD"}"#).is_err());
}

#[test]
fn arithmetic_refuses_overflow_and_mixed_currencies() {
    let most = usd(MINOR_MAX);
    assert_eq!(most.checked_add(usd(1)), Err(MoneyError::Overflow));
    assert_eq!(usd(-MINOR_MAX).checked_sub(usd(1)), Err(MoneyError::Overflow));
    assert_eq!(most.times(Quantity::new(Quantity::MAX).unwrap()), Err(MoneyError::Overflow));
    assert_eq!(most.basis_points(u32::MAX), Err(MoneyError::Overflow));
    let euro = Money::zero(Currency::EUR);
    let mismatch = MoneyError::CurrencyMismatch(Currency::USD, Currency::EUR);
    assert_eq!(most.checked_add(euro), Err(mismatch));
    assert_eq!(Money::sum(Currency::USD, [usd(1), euro]), Err(mismatch));
    assert_eq!(Money::sum(Currency::USD, []), Ok(usd(0)));
}

#[test]
fn basis_points_round_half_away_from_zero() {
    for (minor, basis_points, expected) in
        [(1000, 825, 83), (-1000, 825, -83), (10, 500, 1), (-10, 500, -1), (9, 500, 0), (200, 10_000, 200), (0, 1, 0)]
    {
        assert_eq!(usd(minor).basis_points(basis_points), Ok(usd(expected)), "{minor} {basis_points}");
    }
}

#[test]
fn a_split_gives_the_rest_to_the_largest_remainders() {
    let parts = |amount: i64, weights: &[u64]| -> Vec<i64> {
        usd(amount).split_by_weights(weights).unwrap().into_iter().map(Money::minor).collect()
    };
    assert_eq!(parts(100, &[1, 1, 1]), [34, 33, 33]);
    assert_eq!(parts(-100, &[1, 1, 1]), [-34, -33, -33]);
    assert_eq!(parts(10, &[1, 2, 6]), [1, 2, 7]);
    assert_eq!(parts(10, &[2, 5]), [3, 7], "the largest remainder is not that of the largest weight");
    assert_eq!(parts(5, &[0, 0]), [3, 2]);
    assert_eq!(parts(0, &[3, 4]), [0, 0]);
    assert_eq!(parts(7, &[0, 5]), [0, 7]);
    assert_eq!(usd(1).split_by_weights(&[]), Err(MoneyError::NoParts));
}

fn amount() -> impl Strategy<Value = i64> {
    -MINOR_MAX..=MINOR_MAX
}

fn currency() -> impl Strategy<Value = Currency> {
    prop_oneof![Just(Currency::USD), Just(Currency::JPY), Just(Currency::KWD)]
}

proptest! {
    #[test]
    fn text_out_reads_back_to_the_same_amount(minor in amount(), currency in currency()) {
        let money = Money::from_minor(minor, currency).unwrap();
        let json = serde_json::to_string(&money.to_decimal()).unwrap();
        prop_assert_eq!(Money::parse_json(&json, currency), Ok(money));
        prop_assert_eq!(Money::parse_json(&format!("\"{json}\""), currency), Ok(money));
    }

    #[test]
    fn a_javascript_double_carries_the_text(minor in amount()) {
        let json = usd(minor).to_decimal().to_string();
        let double: f64 = json.parse().unwrap();
        prop_assert_eq!(format!("{double:.2}").replace("-0.00", "0.00"), json);
    }

    #[test]
    fn parse_never_panics(token in ".*") {
        let _ = parse_usd(&token);
    }

    #[test]
    fn parse_accepts_exactly_the_grammar(token in "-?[0-9]{0,4}(\\.[0-9]{0,3})?e?") {
        let unsigned = token.strip_prefix('-').unwrap_or(&token);
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let grammar = digits(whole) && digits(fraction) && (whole == "0" || !whole.starts_with('0'));
        prop_assert_eq!(parse_usd(&token) != Err(AmountError::NotADecimal), grammar);
    }

    #[test]
    fn parts_of_a_split_add_up_and_stay_within_one_unit_of_their_share(
        minor in amount(),
        weights in prop::collection::vec(0_u64..=u64::MAX, 1..20),
    ) {
        let parts = usd(minor).split_by_weights(&weights).unwrap();
        prop_assert_eq!(parts.len(), weights.len());
        prop_assert_eq!(Money::sum(Currency::USD, parts.iter().copied()), Ok(usd(minor)));
        let total: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
        if total > 0 {
            for (part, weight) in parts.iter().zip(&weights) {
                let exact = u128::from(minor.unsigned_abs()) * u128::from(*weight);
                let got = u128::from(part.minor().unsigned_abs()) * total;
                prop_assert!(got.abs_diff(exact) < total);
            }
        }
    }

    #[test]
    fn a_discount_never_exceeds_the_line_it_falls_on(
        lines in prop::collection::vec(0_u64..1_000_000, 1..20),
        basis_points in 0_u32..=BASIS_POINTS_WHOLE,
    ) {
        let total: u64 = lines.iter().sum();
        let discount = usd(total as i64).basis_points(basis_points).unwrap();
        for (part, line) in discount.split_by_weights(&lines).unwrap().iter().zip(&lines) {
            prop_assert!(part.minor() as u64 <= *line);
        }
    }
}
