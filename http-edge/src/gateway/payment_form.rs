//! What a buyer pays with: read from the request, checked as far as the request alone can tell.

use contracts::{Currency, Money, OrderId};
use payment_service::{Card, CardError};

use crate::error::ApiError;
use crate::fields::{self, Fields};

/// Longest text of a card's field that is looked at, in characters: a number with a blank after every digit.
const CARD_TEXT_MAX: usize = 40;
/// The fields of a card.
const CARD_FIELDS: [&str; 4] = ["card_number", "expiry_month", "expiry_year", "cvc"];

/// A payment as its buyer wants it. Not `Debug`: it has a card in it.
#[derive(Clone)]
pub(super) struct PaymentForm {
    pub(super) order_id: OrderId,
    pub(super) amount: Money,
    pub(super) card: Card,
}

/// Reads the body of `POST /api/v1/payments`.
///
/// # Errors
/// 400, and 422 with every broken rule.
pub(super) fn read(body: &[u8]) -> Result<PaymentForm, ApiError> {
    let (order_id, amount, card) = fields::read(body, |payment| {
        let currency = payment.currency("currency", Currency::USD);
        let amount = payment.money("amount", currency);
        let card = payment.object("payment_method", card).flatten();
        let order_id = payment.parsed("order_id");
        if payment.optional_text("capture_method", 0..=CARD_TEXT_MAX).is_some_and(|method| method != "automatic") {
            payment.refuse("capture_method", "must be automatic");
        }
        (order_id, amount, card)
    })?;
    // Both are there, or a rule was broken.
    let missing = || ApiError::invalid_field("payment_method", "is required");
    Ok(PaymentForm { order_id: order_id.ok_or_else(missing)?, amount, card: card.ok_or_else(missing)? })
}

fn card(method: &mut Fields<'_>) -> Option<Card> {
    if method.optional_text("type", 0..=CARD_TEXT_MAX).is_some_and(|kind| kind != "card") {
        method.refuse("type", "must be card");
    }
    let number = method.text("card_number", 1..=CARD_TEXT_MAX);
    let month = method.integer("expiry_month", i64::MIN..=i64::MAX);
    let year = method.integer("expiry_year", i64::MIN..=i64::MAX);
    let cvc = method.text("cvc", 1..=CARD_TEXT_MAX);
    if !CARD_FIELDS.iter().all(|name| method.has(name)) {
        return None;
    }
    Card::new(&number, month, year, &cvc).map_err(|CardError(fault)| method.refuse(fault.field, fault.reason)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlation::CorrelationId;

    const ORIGINAL: &str = r#"{"amount":99.99,"currency":"USD","payment_method":{"type":"card","card_number":"4111111111111111",
        "expiry_month":12,"expiry_year":2025,"cvc":"123"},"order_id":"ord_123456"}"#;

    fn refused(from: &str, to: &str) -> String {
        let body = ORIGINAL.replace(from, to);
        let error = read(body.as_bytes()).err().unwrap();
        assert_eq!(error.status().as_u16(), 422, "{to}");
        let json = error.to_json(&CorrelationId::generate());
        assert!(!json.contains("411111"), "a card number never comes back: {json}");
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        json["error"]["details"]["field"].as_str().unwrap().to_owned()
    }

    #[test]
    fn the_originals_body_is_read() {
        let form = read(ORIGINAL.as_bytes()).ok().unwrap();
        assert_eq!((form.amount.minor(), form.order_id.as_str(), form.card.last4()), (9_999, "ord_123456", "1111"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(refused("99.99", "9.99e1"), "amount");
        assert_eq!(refused("99.99", "99.999"), "amount");
        assert_eq!(refused("\"USD\"", "\"usd\""), "currency");
        assert_eq!(refused("4111111111111111", "4111111111111112"), "payment_method.card_number");
        assert_eq!(refused("\"expiry_month\":12", "\"expiry_month\":13"), "payment_method.expiry_month");
        assert_eq!(refused("\"123\"", "\"12a\""), "payment_method.cvc");
        assert_eq!(refused("\"type\":\"card\"", "\"type\":\"cash\""), "payment_method.type");
        assert_eq!(refused("ord_123456", "pay_1"), "order_id");
        assert_eq!(refused("\"payment_method\"", "\"method\""), "payment_method");
        assert_eq!(refused("\"order_id\"", "\"capture_method\":\"manual\",\"order_id\""), "capture_method");
    }
}
