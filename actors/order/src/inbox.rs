//! Which commands other services' messages give rise to: a pure policy.

use contracts::{Envelope, Message, OrderId, RefundId, Timestamp};
use runtime::CommandId;

use crate::order::{OrderCommand, Shortfall};

/// The command that a message asks of an order, or nothing where orders do not care. `now` is the time of taking it in.
#[must_use]
pub fn policy(envelope: &Envelope, now: Timestamp) -> Option<(OrderId, OrderCommand)> {
    let (order_id, command) = match &envelope.message {
        Message::StockReserved { order_id, sku, .. } => {
            (order_id, OrderCommand::RecordReserved { sku: sku.clone(), now })
        }
        Message::StockRejected { order_id, sku, requested, available, .. } => {
            let shortfall = Shortfall { sku: sku.clone(), requested: *requested, available: *available };
            (order_id, OrderCommand::RecordRejected(shortfall))
        }
        Message::PaymentRequested { payment_id, order_id, amount_minor, currency } => {
            let (payment_id, amount_minor, currency) = (payment_id.clone(), *amount_minor, *currency);
            (order_id, OrderCommand::StartPayment { payment_id, amount_minor, currency, now })
        }
        Message::PaymentSucceeded { payment_id, order_id, amount_minor, .. } => {
            let (payment_id, amount_minor) = (payment_id.clone(), *amount_minor);
            let refund_id = refund_of(payment_id.as_str(), envelope.time);
            (order_id, OrderCommand::RecordPaymentSucceeded { payment_id, amount_minor, refund_id })
        }
        Message::PaymentFailed { payment_id, order_id, decline_code, .. } => {
            let (payment_id, decline_code) = (payment_id.clone(), decline_code.clone());
            (order_id, OrderCommand::RecordPaymentFailed { payment_id, decline_code })
        }
        Message::PaymentRefunded { order_id, refund_id, amount_minor, .. } => {
            (order_id, OrderCommand::RecordRefunded { refund_id: refund_id.clone(), amount_minor: *amount_minor })
        }
        _ => return None,
    };
    Some((order_id.clone(), command))
}

/// The id of the refund of a payment that the order does not want: the same however often it is asked for.
#[must_use]
pub fn refund_of(payment_id: &str, time: Timestamp) -> RefundId {
    let digest = CommandId::of(&["refund", payment_id]);
    let low = u128::from_be_bytes(*digest.as_bytes()) & ((1 << 80) - 1);
    RefundId::from_ulid((u128::from(time.as_millis().unsigned_abs()) << 80) | low)
}
