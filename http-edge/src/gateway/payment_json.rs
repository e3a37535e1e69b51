//! How the API shows a payment.

use contracts::{Money, Timestamp};
use payment_service::{Payment, PaymentStatus};

use crate::error::ApiError;
use crate::json::Object;

/// A payment as it stands.
pub(super) fn payment(payment: &Payment) -> Result<Object, ApiError> {
    let money = |minor| Money::from_minor(minor, payment.currency).map_err(ApiError::internal);
    let method = Object::new()
        .field("type", "card")
        .field("brand", &payment.method.brand)
        .field("last4", &payment.method.last4)
        .field("expiry_month", &payment.method.expiry_month)
        .field("expiry_year", &payment.method.expiry_year);
    let object = head(payment, payment.status.name(), money(payment.amount_minor)?)
        .field("payment_method", &method)
        .optional("captured_at", payment.captured_at.map(Timestamp::to_rfc3339).as_ref());
    let object = match &payment.redirect_url {
        Some(url) => {
            object.field("next_action", &Object::new().field("type", "redirect_to_url").field("redirect_url", url))
        }
        None => object,
    };
    let object = match &payment.failure {
        Some(failure) if payment.status == PaymentStatus::Voided => object.field("void_reason", &failure.code),
        Some(failure) => object.field("decline_code", &failure.code).field("retryable", &failure.is_retryable),
        None => object,
    };
    Ok(match payment.refunded_minor() {
        0 => object,
        refunded => object.amount("refunded", money(refunded)?),
    })
}

fn head(payment: &Payment, status: &str, amount: Money) -> Object {
    Object::new()
        .field("payment_id", &payment.payment_id)
        .field("status", status)
        .amount("amount", amount)
        .currency(amount)
        .field("order_id", &payment.order_id)
        .field("created_at", &payment.created_at.to_rfc3339())
}

/// A payment that goes on, as it is told to a buyer who must ask again.
pub(super) fn processing(payment: &Payment) -> Result<Object, ApiError> {
    let amount = Money::from_minor(payment.amount_minor, payment.currency).map_err(ApiError::internal)?;
    Ok(head(payment, "processing", amount))
}
