//! Which messages an order's events give rise to: a pure function of the journal.

use contracts::{
    Envelope, Message, OrderId, Service, Timestamp,
    messages::{event_id, numbers},
};
use runtime::{Entity, JournalError, Recorded, decode_event};

use crate::{
    debts::{AskedAgain, OwedRefund, OwedStock},
    order::{Draft, Hold, OrderEntity, OrderEvent, OrderStatus},
};

/// The messages of one recorded event, in order.
///
/// # Errors
/// [`JournalError::Corrupt`] when the event cannot be read.
pub fn outbox(recorded: &Recorded) -> Result<Vec<Envelope>, JournalError> {
    let (kind, id) = recorded.kind_and_id();
    if kind != OrderEntity::KIND {
        return Ok(Vec::new());
    }
    let corrupt = |error: &dyn std::fmt::Display| JournalError::Corrupt(format!("{}: {error}", recorded.stream));
    let order_id = OrderId::parse(id).map_err(|error| corrupt(&error))?;
    let event = decode_event::<OrderEntity>(recorded)?;
    let time = Timestamp::from_millis(recorded.at_ms);
    let messages = messages(&order_id, &event, recorded.version);
    let numbers = numbers(&messages, recorded.published_before);
    let envelope = |(index, (message, seq)): (usize, (Message, Option<u64>))| Envelope {
        id: event_id(Service::Order, &recorded.stream, recorded.version, index, time),
        source: Service::Order,
        subject: message.subject().to_owned(),
        time,
        seq,
        schema: recorded.schema,
        correlation_id: recorded.correlation_id.clone(),
        causation_id: recorded.causation_id.clone(),
        actor: recorded.actor.clone(),
        traceparent: recorded.traceparent.clone(),
        message,
    };
    Ok(messages.into_iter().zip(numbers).enumerate().map(envelope).collect())
}

fn messages(order_id: &OrderId, event: &OrderEvent, version: u64) -> Vec<Message> {
    let order_id = order_id.clone();
    match event {
        OrderEvent::Submitted { draft, expires_at, .. } => reserve(draft, *expires_at),
        OrderEvent::Created { draft, expires_at, .. } => vec![created(draft, *expires_at)],
        OrderEvent::Rejected { hold } => release(&order_id, hold, "out_of_stock"),
        OrderEvent::PlacingTimedOut { hold } => release(&order_id, hold, "not_answered"),
        OrderEvent::PaymentStarted { payment_id, expires_at, .. } => vec![
            Message::ApprovePayment {
                payment_id: payment_id.clone(),
                order_id: order_id.clone(),
                expires_at: Some(*expires_at),
            },
            updated(order_id, OrderStatus::Pending, OrderStatus::PaymentProcessing, None, version),
        ],
        OrderEvent::PaymentRefused { payment_id, reason } => {
            vec![Message::RejectPayment { payment_id: payment_id.clone(), order_id, reason: reason.clone() }]
        }
        OrderEvent::PaymentFailed { decline_code, .. } => {
            let reason = Some(decline_code.clone());
            vec![updated(order_id, OrderStatus::PaymentProcessing, OrderStatus::Pending, reason, version)]
        }
        OrderEvent::PaymentVoidRequested { payment_id, reason } => {
            vec![Message::VoidPayment { payment_id: payment_id.clone(), order_id, reason: reason.clone() }]
        }
        OrderEvent::PaymentVoided { reason, .. } => {
            let reason = Some(reason.clone());
            vec![updated(order_id, OrderStatus::PaymentProcessing, OrderStatus::Pending, reason, version)]
        }
        OrderEvent::LatePaymentReceived { hold, .. } | OrderEvent::HoldCommitted { hold } => commit(&order_id, hold),
        OrderEvent::HoldReturned { hold, reason } => release(&order_id, hold, reason),
        OrderEvent::Paid { payment_id, amount_minor, currency, hold, from } => {
            // Stock that was taken once more is sold already.
            let mut messages = if *from == OrderStatus::Cancelled { Vec::new() } else { commit(&order_id, hold) };
            messages.push(Message::OrderPaid {
                order_id: order_id.clone(),
                payment_id: payment_id.clone(),
                amount_minor: *amount_minor,
                currency: *currency,
            });
            messages.push(updated(order_id, *from, OrderStatus::Paid, None, version));
            messages
        }
        OrderEvent::Cancelled { from, reason, is_refund_required, hold } => {
            let mut messages = release(&order_id, hold, reason);
            messages.push(Message::OrderCancelled {
                order_id: order_id.clone(),
                reason: reason.clone(),
                refund_required: *is_refund_required,
            });
            messages.push(updated(order_id, *from, OrderStatus::Cancelled, Some(reason.clone()), version));
            messages
        }
        OrderEvent::RefundRequired { payment_id, refund_id, amount_minor, reason } => vec![Message::RefundPayment {
            payment_id: payment_id.clone(),
            order_id,
            refund_id: refund_id.clone(),
            amount_minor: *amount_minor,
            reason: reason.clone(),
        }],
        OrderEvent::DebtsAskedAgain(again) => asked_again(&order_id, again),
        OrderEvent::LineReserved { .. }
        | OrderEvent::StockSettled { .. }
        | OrderEvent::LineRejected { .. }
        | OrderEvent::PaymentActionRequired { .. }
        | OrderEvent::PaymentConfirmed { .. }
        | OrderEvent::StockReacquired { .. }
        | OrderEvent::StockNotReacquired { .. }
        | OrderEvent::CancelRequested { .. }
        | OrderEvent::Refunded { .. } => Vec::new(),
    }
}

fn reserve(draft: &Draft, expires_at: Timestamp) -> Vec<Message> {
    let reserve_line = |line: &contracts::OrderedLine| Message::ReserveStock {
        sku: line.sku.clone(),
        reservation_id: draft.reservation_id.clone(),
        order_id: draft.order_id.clone(),
        quantity: line.quantity,
        expires_at,
    };
    draft.lines.iter().map(reserve_line).collect()
}

fn created(draft: &Draft, expires_at: Timestamp) -> Message {
    Message::OrderCreated {
        order_id: draft.order_id.clone(),
        user_id: draft.user_id.clone(),
        items: draft.lines.clone(),
        subtotal_minor: draft.subtotal_minor,
        discount_minor: draft.discount_minor,
        tax_minor: draft.tax_minor,
        shipping_minor: draft.shipping_minor,
        total_minor: draft.total_minor,
        currency: draft.currency,
        reservation_id: draft.reservation_id.clone(),
        expires_at,
    }
}

fn commit(order_id: &OrderId, hold: &Hold) -> Vec<Message> {
    let commit_sku = |sku: &contracts::Sku| Message::CommitStock {
        sku: sku.clone(),
        reservation_id: hold.reservation_id.clone(),
        order_id: order_id.clone(),
    };
    hold.skus.iter().map(commit_sku).collect()
}

fn release(order_id: &OrderId, hold: &Hold, reason: &str) -> Vec<Message> {
    let release_sku = |sku: &contracts::Sku| Message::ReleaseStock {
        sku: sku.clone(),
        reservation_id: hold.reservation_id.clone(),
        order_id: order_id.clone(),
        reason: reason.to_owned(),
    };
    hold.skus.iter().map(release_sku).collect()
}

fn asked_again(order_id: &OrderId, again: &AskedAgain) -> Vec<Message> {
    let settle_sku = |owed: &OwedStock| Message::SettleStock {
        sku: owed.sku.clone(),
        reservation_id: again.reservation_id.clone(),
        order_id: order_id.clone(),
        wanted: owed.wanted,
    };
    let settle_refund = |owed: &OwedRefund| Message::SettleRefund {
        payment_id: owed.payment_id.clone(),
        order_id: order_id.clone(),
        refund_id: owed.refund_id.clone(),
        amount_minor: owed.amount_minor,
        reason: owed.reason.clone(),
    };
    again.stock.iter().map(settle_sku).chain(again.refunds.iter().map(settle_refund)).collect()
}

fn updated(order_id: OrderId, from: OrderStatus, to: OrderStatus, reason: Option<String>, version: u64) -> Message {
    Message::OrderUpdated { order_id, from: from.name().to_owned(), to: to.name().to_owned(), reason, version }
}
