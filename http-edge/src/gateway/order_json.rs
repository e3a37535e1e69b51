//! How the API shows an order.

use contracts::{Money, OrderedLine};
use order_service::{Order, OrderStatus};

use crate::error::ApiError;
use crate::json::Object;

/// An order as it was told to its buyer when it was created, whatever has become of it since: the answer to its creation
/// is the same however late it is given.
pub(super) fn as_created(order: &Order) -> Result<Object, ApiError> {
    let reservation = reservation(order, Some(order.first_expires_at));
    let object = head(order, OrderStatus::Pending.name(), "unpaid")?;
    Ok(tail(object, order, &reservation, 1))
}

/// An order as it stands.
pub(super) fn as_it_stands(order: &Order) -> Result<Object, ApiError> {
    let is_held = matches!(order.status, OrderStatus::Pending | OrderStatus::PaymentProcessing);
    let reservation = reservation(order, is_held.then_some(order.expires_at));
    let object = head(order, order.status.name(), order.payment_status())?;
    let object = tail(object, order, &reservation, order.revision)
        .optional("payment_id", order.payment_id.as_ref())
        .optional("cancel_reason", order.cancel_reason.as_ref())
        .optional("shipping_address", order.draft.shipping_address.as_ref());
    Ok(match order.cancel_requested {
        Some(_) => object.field("cancel_requested", &true),
        None => object,
    })
}

fn head(order: &Order, status: &str, payment_status: &str) -> Result<Object, ApiError> {
    let draft = &order.draft;
    let money = |minor| Money::from_minor(minor, draft.currency).map_err(ApiError::internal);
    let items: Vec<Object> = draft.lines.iter().map(|line| item(line, money)).collect::<Result<_, _>>()?;
    Ok(Object::new()
        .field("order_id", &draft.order_id)
        .field("status", status)
        .field("payment_status", payment_status)
        .field("currency", &draft.currency)
        .field("items", &items)
        .amount("subtotal", money(draft.subtotal_minor)?)
        .amount("discount", money(draft.discount_minor)?)
        .amount("tax", money(draft.tax_minor)?)
        .amount("shipping", money(draft.shipping_minor)?)
        .amount("total", money(draft.total_minor)?))
}

fn tail(object: Object, order: &Order, reservation: &Object, version: u64) -> Object {
    object
        .field("reservation", reservation)
        .field("version", &version)
        .field("created_at", &order.created_at.to_rfc3339())
}

fn reservation(order: &Order, expires_at: Option<contracts::Timestamp>) -> Object {
    Object::new()
        .field("id", &order.draft.reservation_id)
        .field("expires_at", &expires_at.map(contracts::Timestamp::to_rfc3339))
}

fn item(line: &OrderedLine, money: impl Fn(i64) -> Result<Money, ApiError>) -> Result<Object, ApiError> {
    Ok(Object::new()
        .field("product_id", &line.product_id)
        .field("sku", &line.sku)
        .field("name", &line.name)
        .field("quantity", &line.quantity)
        .amount("unit_price", money(line.unit_price_minor)?)
        .amount("line_total", money(line.line_total_minor)?))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use contracts::{Currency, OrderId, PaymentId, ProductId, Quantity, ReservationId, Sku, Timestamp, UserId};
    use order_service::Draft;

    use super::*;

    fn order() -> Order {
        let at = Timestamp::parse("2026-11-22T11:00:00Z").unwrap();
        let expires_at = Timestamp::parse("2026-11-22T11:15:00Z").unwrap();
        let line = OrderedLine {
            sku: Sku::parse("sku_123").unwrap(),
            product_id: ProductId::parse("prod_123").unwrap(),
            name: "Wireless Headphones".into(),
            quantity: Quantity::new(2).unwrap(),
            unit_price_minor: 29_999,
            line_total_minor: 59_998,
        };
        Order {
            draft: Draft {
                order_id: OrderId::parse("ord_1").unwrap(),
                reservation_id: ReservationId::parse("res_1").unwrap(),
                user_id: UserId::parse("usr_1").unwrap(),
                lines: vec![line],
                currency: Currency::USD,
                subtotal_minor: 59_998,
                discount_minor: 0,
                tax_minor: 0,
                shipping_minor: 0,
                total_minor: 59_998,
                shipping_address: None,
            },
            status: OrderStatus::Pending,
            created_at: at,
            first_expires_at: expires_at,
            expires_at,
            revision: 1,
            reserved: vec![],
            shortfalls: vec![],
            payment_id: None,
            attempts: 0,
            cancel_requested: None,
            cancel_reason: None,
            captured_minor: 0,
            owed: BTreeMap::new(),
            refunded_minor: 0,
            published: 0,
            debts: order_service::Debts::default(),
            captured_by: BTreeSet::new(),
            is_action_required: false,
            late_payment: None,
        }
    }

    const CREATED: &str = concat!(
        r#"{"order_id":"ord_1","status":"pending","payment_status":"unpaid","currency":"USD","items":[{"#,
        r#""product_id":"prod_123","sku":"sku_123","name":"Wireless Headphones","quantity":2,"#,
        r#""unit_price":299.99,"unit_price_minor":29999,"line_total":599.98,"line_total_minor":59998}],"#,
        r#""subtotal":599.98,"subtotal_minor":59998,"discount":0.00,"discount_minor":0,"tax":0.00,"tax_minor":0,"#,
        r#""shipping":0.00,"shipping_minor":0,"total":599.98,"total_minor":59998,"#,
        r#""reservation":{"id":"res_1","expires_at":"2026-11-22T11:15:00Z"},"version":1,"#,
        r#""created_at":"2026-11-22T11:00:00Z"}"#
    );

    #[test]
    fn the_answer_to_its_creation_is_the_examples_and_never_changes() {
        assert_eq!(as_created(&order()).unwrap().to_json().unwrap(), CREATED);
        assert_eq!(as_it_stands(&order()).unwrap().to_json().unwrap(), CREATED);
        let mut later = order();
        later.status = OrderStatus::Paid;
        later.revision = 3;
        later.expires_at = Timestamp::from_millis(later.expires_at.as_millis() + 1);
        later.payment_id = Some(PaymentId::parse("pay_1").unwrap());
        later.captured_minor = 59_998;
        assert_eq!(as_created(&later).unwrap().to_json().unwrap(), CREATED);
        let shown = as_it_stands(&later).unwrap().to_json().unwrap();
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!((&shown["status"], &shown["payment_status"]), (&"paid".into(), &"paid".into()));
        assert_eq!((&shown["payment_id"], &shown["version"]), (&"pay_1".into(), &3.into()));
        assert!(shown["reservation"]["expires_at"].is_null());
    }
}
