//! Money that comes after an order's time is over.
//!
//! The order has given its stock back by then, so it asks for all of it once more, under the same reservation: what is no
//! longer held can only be taken anew, never sold as if it were held. When every line is there again the order is paid; when
//! one is not, or does not answer in time, what was taken goes back and so does the money.

use contracts::{PaymentId, RefundId, Sku, Timestamp};

use super::{
    event::{OrderEvent, refund},
    state::{EXPIRED, LatePayment, Order},
    status::OrderStatus,
};

/// How long the stock may take to answer, in milliseconds.
pub const REACQUIRED_WITHIN_MS: i64 = 60 * 1_000;
/// Why money and stock go back.
const REASON: &str = "late_payment";

/// True where the order may still become what this payment was for: it ran out of time, and nobody called it off.
pub(crate) fn is_welcome(order: &Order, payment_id: &PaymentId, amount_minor: i64) -> bool {
    order.status == OrderStatus::Cancelled
        && order.cancel_reason.as_deref() == Some(EXPIRED)
        && order.payment_id.as_ref() == Some(payment_id)
        && amount_minor == order.draft.total_minor
}

pub(crate) fn received(
    order: &Order,
    payment_id: PaymentId,
    amount_minor: i64,
    refund_id: RefundId,
    now: Timestamp,
) -> OrderEvent {
    let until = Timestamp::from_millis(now.as_millis() + REACQUIRED_WITHIN_MS);
    OrderEvent::LatePaymentReceived { payment_id, amount_minor, refund_id, until, hold: order.whole_hold() }
}

/// One line has answered.
pub(crate) fn answered(order: &Order, late: &LatePayment, sku: Sku, is_there: bool) -> Vec<OrderEvent> {
    if order.quantity_of(&sku).is_none() || late.is_answered(&sku) {
        return vec![];
    }
    let is_last = late.acquired.len() + late.missing.len() + 1 == order.draft.lines.len();
    let is_whole = is_there && late.missing.is_empty();
    let mut events =
        vec![if is_there { OrderEvent::StockReacquired { sku } } else { OrderEvent::StockNotReacquired { sku } }];
    match (is_last, is_whole) {
        (false, _) => {}
        (true, true) => events.push(OrderEvent::Paid {
            payment_id: late.payment_id.clone(),
            amount_minor: late.amount_minor,
            currency: order.draft.currency,
            hold: order.whole_hold(),
            from: order.status,
        }),
        (true, false) => events.extend(given_up(order, late)),
    }
    events
}

/// Stock and money go back. All lines are released, also those that have not answered: releasing what is not held does
/// nothing.
pub(crate) fn given_up(order: &Order, late: &LatePayment) -> Vec<OrderEvent> {
    vec![
        OrderEvent::HoldReturned { hold: order.whole_hold(), reason: REASON.to_owned() },
        refund(late.payment_id.clone(), late.refund_id.clone(), late.amount_minor, REASON),
    ]
}
