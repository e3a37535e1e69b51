//! What an order decides: one function a command, each pure.

use contracts::{Currency, PaymentId, RefundId, ReservationId, Sku, Timestamp, messages::ReservationStanding};

use super::{
    command::{OrderCommand, OrderRefusal},
    draft::Draft,
    event::{OrderEvent, refund, returned},
    late_payment,
    state::{AMOUNT_MISMATCH, EXPIRED, Order},
    status::OrderStatus,
    stock::{Hold, Shortfall},
};

type Decision = Result<Vec<OrderEvent>, OrderRefusal>;

/// Where there is no such order. Who waits for an answer gets one, and so it is an event.
pub(crate) fn without_order(command: OrderCommand) -> Decision {
    match command {
        OrderCommand::Submit { draft, now, payable_for_ms } => submit(draft, now, payable_for_ms),
        OrderCommand::StartPayment { payment_id, .. } => {
            Ok(vec![OrderEvent::PaymentRefused { payment_id, reason: "order_not_found".to_owned() }])
        }
        // It cannot be: a payment goes ahead only with an order's consent. Should it be all the same, the money goes back.
        OrderCommand::RecordPaymentSucceeded { payment_id, amount_minor, refund_id, .. } => {
            Ok(vec![refund(payment_id, refund_id, amount_minor, "late_payment")])
        }
        OrderCommand::AnswerForHold { reservation_id, sku } => {
            Ok(vec![returned(Hold { reservation_id, skus: vec![sku] }, "order_not_found")])
        }
        // Money of an order that never was is back: it was owed all the same, and is not any more.
        OrderCommand::RecordRefunded { refund_id, amount_minor } => {
            Ok(vec![OrderEvent::Refunded { refund_id, amount_minor }])
        }
        // Others may use the stock for orders of their own.
        OrderCommand::RecordStockSettled { .. } => Ok(vec![]),
        OrderCommand::RecordReserved { .. }
        | OrderCommand::RecordRejected { .. }
        | OrderCommand::AskAgain { .. }
        | OrderCommand::RecordActionRequired { .. }
        | OrderCommand::RecordConfirmed { .. }
        | OrderCommand::RecordPaymentFailed { .. }
        | OrderCommand::RecordPaymentVoided { .. }
        | OrderCommand::Cancel { .. }
        | OrderCommand::Expire { .. } => Err(OrderRefusal::Unknown),
    }
}

/// What an order makes of a command.
pub(crate) fn of_order(order: &Order, command: OrderCommand) -> Decision {
    Ok(match command {
        OrderCommand::Submit { .. } => return Err(OrderRefusal::Exists),
        OrderCommand::Cancel { reason, refund_id } => return cancel(order, reason, refund_id),
        OrderCommand::RecordReserved { sku, now } => record_reserved(order, sku, now),
        OrderCommand::RecordRejected { shortfall, refund_id } => record_rejected(order, shortfall, refund_id),
        OrderCommand::RecordStockSettled { sku, standing } => match (&order.late_payment, standing) {
            (Some(late), ReservationStanding::Committed) => late_payment::answered(order, late, sku, true),
            _ => order.debts.record_stock(sku, standing),
        },
        OrderCommand::AskAgain { round } => order.debts.ask_again(&order.draft.reservation_id, round),
        OrderCommand::AnswerForHold { reservation_id, sku } => answer_for_hold(order, reservation_id, sku),
        OrderCommand::StartPayment { payment_id, amount_minor, currency, now, window_ms } => {
            start_payment(order, payment_id, amount_minor, currency, now, window_ms)
        }
        OrderCommand::RecordActionRequired { payment_id } => record_action_required(order, payment_id),
        OrderCommand::RecordConfirmed { payment_id } => {
            let event = OrderEvent::PaymentConfirmed { payment_id: payment_id.clone() };
            if is_awaited(order, &payment_id) && order.is_action_required { vec![event] } else { vec![] }
        }
        OrderCommand::RecordPaymentSucceeded { payment_id, amount_minor, refund_id, now } => {
            record_payment_succeeded(order, payment_id, amount_minor, refund_id, now)
        }
        OrderCommand::RecordPaymentFailed { payment_id, decline_code } => {
            let is_awaited = is_awaited(order, &payment_id);
            came_to_nothing(order, is_awaited, OrderEvent::PaymentFailed { payment_id, decline_code })
        }
        OrderCommand::RecordPaymentVoided { payment_id, reason } => {
            let is_awaited = is_awaited(order, &payment_id);
            came_to_nothing(order, is_awaited, OrderEvent::PaymentVoided { payment_id, reason })
        }
        OrderCommand::RecordRefunded { refund_id, amount_minor } => {
            let is_owed = order.owed.contains_key(&refund_id);
            is_owed.then_some(OrderEvent::Refunded { refund_id, amount_minor }).into_iter().collect()
        }
        OrderCommand::Expire { now } => expire(order, now),
    })
}

fn submit(draft: Box<Draft>, now: Timestamp, payable_for_ms: i64) -> Decision {
    if draft.lines.is_empty() || !draft.adds_up() {
        return Err(OrderRefusal::DoesNotAddUp);
    }
    let expires_at = Timestamp::from_millis(now.as_millis() + payable_for_ms);
    Ok(vec![OrderEvent::Submitted { draft, at: now, expires_at }])
}

fn record_reserved(order: &Order, sku: Sku, now: Timestamp) -> Vec<OrderEvent> {
    match order.status {
        OrderStatus::Placing if !order.is_answered(&sku) => {}
        // It was given up before this answer came: nobody else would ever release what is held now.
        OrderStatus::Rejected | OrderStatus::Cancelled if order.late_payment.is_none() => {
            let hold = Hold { reservation_id: order.draft.reservation_id.clone(), skus: vec![sku] };
            return vec![returned(hold, order.status.name())];
        }
        _ => return vec![],
    }
    let is_last = order.answered() + 1 == order.draft.lines.len();
    let mut hold = order.hold();
    hold.skus.push(sku.clone());
    let mut events = vec![OrderEvent::LineReserved { sku }];
    match (is_last, order.shortfalls.is_empty()) {
        (true, true) => {
            let (draft, expires_at) = (Box::new(order.draft.clone()), order.expires_at);
            events.push(OrderEvent::Created { draft, at: now, expires_at });
        }
        (true, false) => events.push(OrderEvent::Rejected { hold }),
        (false, _) => {}
    }
    events
}

fn record_rejected(order: &Order, shortfall: Shortfall, refund_id: RefundId) -> Vec<OrderEvent> {
    match (order.status, &order.late_payment, &order.payment_id) {
        (_, Some(late), _) => late_payment::answered(order, late, shortfall.sku, false),
        (OrderStatus::Placing, ..) if !order.is_answered(&shortfall.sku) => {
            let is_last = order.answered() + 1 == order.draft.lines.len();
            let mut events = vec![OrderEvent::LineRejected { shortfall }];
            if is_last {
                events.push(OrderEvent::Rejected { hold: order.hold() });
            }
            events
        }
        // What it has paid for could not be sold to it: its hold was lost. It is never kept without its goods.
        (OrderStatus::Paid, None, Some(payment_id)) if order.quantity_of(&shortfall.sku).is_some() => {
            cancel_paid(order, payment_id, "out_of_stock", refund_id, "out_of_stock")
        }
        _ => vec![],
    }
}

/// The owner's word on stock that is held beyond its time.
fn answer_for_hold(order: &Order, reservation_id: ReservationId, sku: Sku) -> Vec<OrderEvent> {
    let is_ours = reservation_id == order.draft.reservation_id && order.quantity_of(&sku).is_some();
    let hold = Hold { reservation_id, skus: vec![sku] };
    match order.status {
        _ if !is_ours => vec![returned(hold, "not_of_this_order")],
        OrderStatus::Paid => vec![OrderEvent::HoldCommitted { hold }],
        OrderStatus::Rejected | OrderStatus::Cancelled if order.late_payment.is_none() => {
            vec![returned(hold, order.status.name())]
        }
        // It still needs it, and has a deadline of its own.
        OrderStatus::Rejected
        | OrderStatus::Cancelled
        | OrderStatus::Placing
        | OrderStatus::Pending
        | OrderStatus::PaymentProcessing => vec![],
    }
}

fn start_payment(
    order: &Order,
    payment_id: PaymentId,
    amount_minor: i64,
    currency: Currency,
    now: Timestamp,
    window_ms: i64,
) -> Vec<OrderEvent> {
    let is_ours = order.payment_id.as_ref() == Some(&payment_id);
    if is_ours && matches!(order.status, OrderStatus::PaymentProcessing | OrderStatus::Paid) {
        return vec![];
    }
    let reason = match (order.status, order.refusal_of_payment(now)) {
        // The payment service voids the open one first: this one is not it.
        (OrderStatus::PaymentProcessing, None) => Some("payment_in_progress"),
        (_, Some(reason)) => Some(reason),
        (_, None) => (!order.is_total(amount_minor, currency)).then_some(AMOUNT_MISMATCH),
    };
    vec![match reason {
        Some(reason) => OrderEvent::PaymentRefused { payment_id, reason: reason.to_owned() },
        None => {
            let held_until = (now.as_millis() + window_ms).max(order.expires_at.as_millis());
            let expires_at = Timestamp::from_millis(held_until);
            OrderEvent::PaymentStarted { payment_id, attempt: order.attempts + 1, expires_at }
        }
    }]
}

/// True where this is the payment that the order waits for.
fn is_awaited(order: &Order, payment_id: &PaymentId) -> bool {
    order.status == OrderStatus::PaymentProcessing && order.payment_id.as_ref() == Some(payment_id)
}

fn record_action_required(order: &Order, payment_id: PaymentId) -> Vec<OrderEvent> {
    if !is_awaited(order, &payment_id) || order.is_action_required {
        return vec![];
    }
    match &order.cancel_requested {
        // Nothing has been charged: what was asked for can be done at once.
        Some(reason) => off_without_its_payment(order, payment_id, reason),
        None => vec![OrderEvent::PaymentActionRequired { payment_id }],
    }
}

fn record_payment_succeeded(
    order: &Order,
    payment_id: PaymentId,
    amount_minor: i64,
    refund_id: RefundId,
    now: Timestamp,
) -> Vec<OrderEvent> {
    // What has been counted has been dealt with: kept, given back, or about to be decided.
    if order.captured_by.contains(&payment_id) {
        return vec![];
    }
    if is_awaited(order, &payment_id) {
        let (currency, from) = (order.draft.currency, order.status);
        let (kept, hold) = (payment_id.clone(), order.hold());
        let mut events = vec![OrderEvent::Paid { payment_id: kept, amount_minor, currency, hold, from }];
        if let Some(reason) = &order.cancel_requested {
            events.push(order.cancelled(reason, true));
            events.push(refund(payment_id, refund_id, amount_minor, "cancel_race"));
        }
        return events;
    }
    vec![if late_payment::is_welcome(order, &payment_id, amount_minor) {
        late_payment::received(order, payment_id, amount_minor, refund_id, now)
    } else {
        refund(payment_id, refund_id, amount_minor, "late_payment")
    }]
}

/// The payment that it waited for has ended without money.
fn came_to_nothing(order: &Order, is_awaited: bool, event: OrderEvent) -> Vec<OrderEvent> {
    if !is_awaited {
        return vec![];
    }
    let mut events = vec![event];
    if let Some(reason) = &order.cancel_requested {
        events.push(order.cancelled(reason, false));
    }
    events
}

fn cancel(order: &Order, reason: String, refund_id: RefundId) -> Decision {
    match (order.status, &order.payment_id) {
        (OrderStatus::Pending, _) => Ok(vec![order.cancelled(&reason, false)]),
        (OrderStatus::PaymentProcessing, Some(payment_id)) if order.is_action_required => {
            Ok(off_without_its_payment(order, payment_id.clone(), &reason))
        }
        (OrderStatus::PaymentProcessing, _) if order.cancel_requested.is_some() => Ok(vec![]),
        (OrderStatus::PaymentProcessing, _) => Ok(vec![OrderEvent::CancelRequested { reason }]),
        (OrderStatus::Paid, Some(payment_id)) => Ok(cancel_paid(order, payment_id, &reason, refund_id, "customer")),
        (status, _) => Err(OrderRefusal::InvalidTransition { from: status.name().to_owned() }),
    }
}

fn cancel_paid(
    order: &Order,
    payment_id: &PaymentId,
    reason: &str,
    refund_id: RefundId,
    refund_reason: &str,
) -> Vec<OrderEvent> {
    let left_minor = order.captured_minor - order.returned_minor();
    let mut events = vec![order.cancelled(reason, left_minor > 0)];
    if left_minor > 0 {
        events.push(refund(payment_id.clone(), refund_id, left_minor, refund_reason));
    }
    events
}

fn off_without_its_payment(order: &Order, payment_id: PaymentId, reason: &str) -> Vec<OrderEvent> {
    let reason = reason.to_owned();
    vec![OrderEvent::PaymentVoidRequested { payment_id, reason: reason.clone() }, order.cancelled(&reason, false)]
}

/// What it waits for has not come in time.
fn expire(order: &Order, now: Timestamp) -> Vec<OrderEvent> {
    if order.deadline().is_none_or(|deadline| now < deadline) {
        return vec![];
    }
    match (order.status, &order.payment_id, &order.late_payment) {
        (OrderStatus::Placing, ..) => vec![OrderEvent::PlacingTimedOut { hold: order.whole_hold() }],
        (OrderStatus::PaymentProcessing, Some(payment_id), _) => {
            // Who wanted it cancelled before keeps their reason. What is captured later is decided when it comes.
            let reason = order.cancel_requested.as_deref().unwrap_or(EXPIRED);
            off_without_its_payment(order, payment_id.clone(), reason)
        }
        (OrderStatus::Pending | OrderStatus::PaymentProcessing, ..) => vec![order.cancelled(EXPIRED, false)],
        (_, _, Some(late)) => late_payment::given_up(order, late),
        (OrderStatus::Rejected | OrderStatus::Paid | OrderStatus::Cancelled, _, None) => vec![],
    }
}
