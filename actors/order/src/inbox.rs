//! Which commands other services' messages give rise to: a pure policy.

use contracts::{Envelope, InboxError, Message, OrderId, RefundId, Timestamp, messages::ReservationStanding};
use runtime::CommandId;

use crate::order::{OrderCommand, OrderRefusal, Shortfall, Terms};

/// The command that a message asks of an order, or nothing where orders do not care. `now` is the time of taking it in.
#[must_use]
pub fn policy(envelope: &Envelope, now: Timestamp, terms: &Terms) -> Option<(OrderId, OrderCommand)> {
    let (order_id, command) = match &envelope.message {
        Message::StockReserved { order_id, sku, .. } => {
            (order_id, OrderCommand::RecordReserved { sku: sku.clone(), now })
        }
        Message::StockRejected { order_id, sku, requested, available, .. } => {
            let shortfall = Shortfall { sku: sku.clone(), requested: *requested, available: *available };
            let refund_id = refund_of(&format!("{order_id} {sku}"), envelope.time);
            (order_id, OrderCommand::RecordRejected { shortfall, refund_id })
        }
        Message::StockHoldOverdue { order_id, sku, reservation_id, .. } => {
            let (reservation_id, sku) = (reservation_id.clone(), sku.clone());
            (order_id, OrderCommand::AnswerForHold { reservation_id, sku })
        }
        Message::StockCommitted { order_id, sku, .. } => {
            let standing = ReservationStanding::Committed;
            (order_id, OrderCommand::RecordStockSettled { sku: sku.clone(), standing })
        }
        Message::StockReleased { order_id, sku, .. } => {
            let standing = ReservationStanding::Released;
            (order_id, OrderCommand::RecordStockSettled { sku: sku.clone(), standing })
        }
        Message::StockSettled { order_id, sku, standing, .. } => {
            (order_id, OrderCommand::RecordStockSettled { sku: sku.clone(), standing: *standing })
        }
        Message::PaymentRequested { payment_id, order_id, amount_minor, currency } => {
            let (payment_id, amount_minor, currency) = (payment_id.clone(), *amount_minor, *currency);
            let window_ms = terms.payment_window_ms;
            (order_id, OrderCommand::StartPayment { payment_id, amount_minor, currency, now, window_ms })
        }
        Message::PaymentRequiresAction { payment_id, order_id, .. } => {
            (order_id, OrderCommand::RecordActionRequired { payment_id: payment_id.clone() })
        }
        Message::PaymentConfirmed { payment_id, order_id } => {
            (order_id, OrderCommand::RecordConfirmed { payment_id: payment_id.clone() })
        }
        Message::PaymentSucceeded { payment_id, order_id, amount_minor, .. } => {
            let (payment_id, amount_minor) = (payment_id.clone(), *amount_minor);
            let refund_id = refund_of(payment_id.as_str(), envelope.time);
            (order_id, OrderCommand::RecordPaymentSucceeded { payment_id, amount_minor, refund_id, now })
        }
        Message::PaymentFailed { payment_id, order_id, decline_code, .. } => {
            let (payment_id, decline_code) = (payment_id.clone(), decline_code.clone());
            (order_id, OrderCommand::RecordPaymentFailed { payment_id, decline_code })
        }
        Message::PaymentVoided { payment_id, order_id, reason } => {
            let (payment_id, reason) = (payment_id.clone(), reason.clone());
            (order_id, OrderCommand::RecordPaymentVoided { payment_id, reason })
        }
        Message::PaymentRefunded { order_id, refund_id, amount_minor, .. }
        | Message::RefundSettled { order_id, refund_id, amount_minor, .. } => {
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

/// What becomes of a message that its order refused.
///
/// Of an order that never was others speak rightly: somebody else may use the stock, and a payment of an unknown order fails for
/// that reason; nothing is to do. Everything else contradicts what we know, and somebody must look at it.
///
/// # Errors
/// [`InboxError::Poison`]: it goes to the dead letters.
pub fn refused(order_id: &OrderId, refusal: &OrderRefusal) -> Result<(), InboxError> {
    match refusal {
        OrderRefusal::Unknown => Ok(()),
        OrderRefusal::Exists | OrderRefusal::DoesNotAddUp | OrderRefusal::InvalidTransition { .. } => {
            Err(InboxError::Poison(format!("{order_id}: {refusal:?}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_said_of_other_peoples_orders_is_no_contradiction() {
        let order_id = OrderId::parse("ord_1").unwrap();
        assert_eq!(refused(&order_id, &OrderRefusal::Unknown), Ok(()));
        let from = "paid".to_owned();
        for refusal in [OrderRefusal::Exists, OrderRefusal::DoesNotAddUp, OrderRefusal::InvalidTransition { from }] {
            assert!(matches!(refused(&order_id, &refusal), Err(InboxError::Poison(_))), "{refusal:?}");
        }
    }
}
