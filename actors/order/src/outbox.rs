//! Which messages an order's events give rise to: a pure function of the journal.

use contracts::{
    Envelope, Message, OrderId, Service, Timestamp,
    messages::{event_id, numbers},
};
use runtime::{Entity, JournalError, Recorded, decode_event};

use crate::order::{AskedAgain, Draft, Hold, OrderEntity, OrderEvent, OrderStatus, OwedRefund, OwedStock};

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

#[cfg(test)]
mod tests {
    use contracts::{
        Currency, OrderedLine, PaymentId, ProductId, Quantity, RefundId, ReservationId, Sku, UserId,
        messages::Settlement,
    };
    use runtime::testkit::golden;

    use super::*;

    fn order_id() -> OrderId {
        OrderId::parse("ord_1").unwrap()
    }

    fn payment_id() -> PaymentId {
        PaymentId::parse("pay_1").unwrap()
    }

    fn refund_id() -> RefundId {
        RefundId::parse("rfnd_1").unwrap()
    }

    fn reservation_id() -> ReservationId {
        ReservationId::parse("res_1").unwrap()
    }

    fn sku(name: &str) -> Sku {
        Sku::parse(name).unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn draft() -> Box<Draft> {
        let line = |name: &str, quantity| OrderedLine {
            sku: sku(name),
            product_id: ProductId::parse("prod_1").unwrap(),
            name: "Lamp".into(),
            quantity: Quantity::new(quantity).unwrap(),
            unit_price_minor: 500,
            line_total_minor: 500 * i64::from(quantity),
        };
        Box::new(Draft {
            order_id: order_id(),
            reservation_id: reservation_id(),
            user_id: UserId::parse("usr_1").unwrap(),
            lines: vec![line("sku_a", 2), line("sku_b", 1)],
            currency: Currency::USD,
            subtotal_minor: 1_500,
            discount_minor: 100,
            tax_minor: 30,
            shipping_minor: 4,
            total_minor: 1_434,
            shipping_address: None,
        })
    }

    fn hold() -> Hold {
        Hold { reservation_id: reservation_id(), skus: vec![sku("sku_a"), sku("sku_b")] }
    }

    /// What the first event of an order tells.
    fn told(event: OrderEvent) -> Vec<Message> {
        let recorded = golden::history::<OrderEntity>("ord_1", &[event]);
        outbox(&recorded[0]).unwrap().into_iter().map(|envelope| envelope.message).collect()
    }

    fn released(reason: &str) -> Vec<Message> {
        let release = |name| Message::ReleaseStock {
            sku: sku(name),
            reservation_id: reservation_id(),
            order_id: order_id(),
            reason: reason.to_owned(),
        };
        ["sku_a", "sku_b"].map(release).into()
    }

    fn committed() -> Vec<Message> {
        let commit =
            |name| Message::CommitStock { sku: sku(name), reservation_id: reservation_id(), order_id: order_id() };
        ["sku_a", "sku_b"].map(commit).into()
    }

    fn changed(from: &str, to: &str, reason: Option<&str>) -> Message {
        let (from, to, reason) = (from.to_owned(), to.to_owned(), reason.map(str::to_owned));
        Message::OrderUpdated { order_id: order_id(), from, to, reason, version: 1 }
    }

    #[test]
    fn an_order_asks_for_the_stock_of_each_line_and_gives_all_of_it_back_when_it_is_not_to_be() {
        let reserve = |name, quantity| Message::ReserveStock {
            sku: sku(name),
            reservation_id: reservation_id(),
            order_id: order_id(),
            quantity: Quantity::new(quantity).unwrap(),
            expires_at: at(900),
        };
        let submitted = OrderEvent::Submitted { draft: draft(), at: at(0), expires_at: at(900) };
        assert_eq!(told(submitted), [reserve("sku_a", 2), reserve("sku_b", 1)]);
        assert_eq!(told(OrderEvent::Rejected { hold: hold() }), released("out_of_stock"));
        assert_eq!(told(OrderEvent::PlacingTimedOut { hold: hold() }), released("not_answered"));
        let returned = OrderEvent::HoldReturned { hold: hold(), reason: "late_payment".into() };
        assert_eq!(told(returned), released("late_payment"));
    }

    #[test]
    fn an_order_that_stands_is_told_of_as_it_was_ordered() {
        let draft = draft();
        let created = OrderEvent::Created { draft: draft.clone(), at: at(1), expires_at: at(900) };
        assert_eq!(
            told(created),
            [Message::OrderCreated {
                order_id: order_id(),
                user_id: draft.user_id,
                items: draft.lines,
                subtotal_minor: 1_500,
                discount_minor: 100,
                tax_minor: 30,
                shipping_minor: 4,
                total_minor: 1_434,
                currency: Currency::USD,
                reservation_id: reservation_id(),
                expires_at: at(900),
            }]
        );
    }

    #[test]
    fn a_payment_hears_whether_it_may_go_ahead_and_the_world_what_became_of_it() {
        let (payment_id, order_id) = (payment_id(), order_id());
        let started = OrderEvent::PaymentStarted { payment_id: payment_id.clone(), attempt: 1, expires_at: at(600) };
        let approve = Message::ApprovePayment {
            payment_id: payment_id.clone(),
            order_id: order_id.clone(),
            expires_at: Some(at(600)),
        };
        assert_eq!(told(started), [approve, changed("pending", "payment_processing", None)]);
        let reason = || "already_paid".to_owned();
        assert_eq!(
            told(OrderEvent::PaymentRefused { payment_id: payment_id.clone(), reason: reason() }),
            [Message::RejectPayment { payment_id: payment_id.clone(), order_id: order_id.clone(), reason: reason() }]
        );
        assert_eq!(
            told(OrderEvent::PaymentVoidRequested { payment_id: payment_id.clone(), reason: reason() }),
            [Message::VoidPayment { payment_id: payment_id.clone(), order_id, reason: reason() }]
        );
        let failed = OrderEvent::PaymentFailed { payment_id: payment_id.clone(), decline_code: "card_declined".into() };
        assert_eq!(told(failed), [changed("payment_processing", "pending", Some("card_declined"))]);
        let voided = OrderEvent::PaymentVoided { payment_id, reason: "superseded".into() };
        assert_eq!(told(voided), [changed("payment_processing", "pending", Some("superseded"))]);
    }

    #[test]
    fn a_paid_order_has_its_stock_sold_once_and_the_world_hears_of_the_money() {
        let paid = |from| OrderEvent::Paid {
            payment_id: payment_id(),
            amount_minor: 1_434,
            currency: Currency::USD,
            hold: hold(),
            from,
        };
        let (payment_id, order_id) = (payment_id(), order_id());
        let money = [Message::OrderPaid { order_id, payment_id, amount_minor: 1_434, currency: Currency::USD }];
        let changed_from = |from| [changed(from, "paid", None)];
        assert_eq!(
            told(paid(OrderStatus::PaymentProcessing)),
            [&committed()[..], &money, &changed_from("payment_processing")].concat()
        );
        // Taken once more it was sold when it was taken.
        assert_eq!(told(paid(OrderStatus::Cancelled)), [&money[..], &changed_from("cancelled")].concat());
        assert_eq!(told(OrderEvent::HoldCommitted { hold: hold() }), committed());
        let late = OrderEvent::LatePaymentReceived {
            payment_id: self::payment_id(),
            amount_minor: 1_434,
            refund_id: refund_id(),
            until: at(60),
            hold: hold(),
        };
        assert_eq!(told(late), committed());
    }

    #[test]
    fn an_order_that_is_called_off_sets_its_stock_free_and_has_its_money_given_back() {
        let cancelled = OrderEvent::Cancelled {
            from: OrderStatus::Paid,
            reason: "customer".into(),
            is_refund_required: true,
            hold: hold(),
        };
        let (order_id, reason) = (order_id(), "customer".to_owned());
        let off = Message::OrderCancelled { order_id: order_id.clone(), reason: reason.clone(), refund_required: true };
        let expected = [released("customer"), vec![off, changed("paid", "cancelled", Some("customer"))]].concat();
        assert_eq!(told(cancelled), expected);
        let (payment_id, refund_id) = (payment_id(), refund_id());
        let required = OrderEvent::RefundRequired {
            payment_id: payment_id.clone(),
            refund_id: refund_id.clone(),
            amount_minor: 1_434,
            reason: reason.clone(),
        };
        assert_eq!(
            told(required),
            [Message::RefundPayment { payment_id, order_id, refund_id, amount_minor: 1_434, reason }]
        );
    }

    #[test]
    fn all_that_is_asked_for_again_is_asked_of_whoever_owes_it() {
        let owed = |name, wanted| OwedStock { sku: sku(name), wanted };
        let again = OrderEvent::DebtsAskedAgain(Box::new(AskedAgain {
            round: 1,
            reservation_id: reservation_id(),
            stock: vec![owed("sku_a", Settlement::Committed), owed("sku_b", Settlement::Released)],
            refunds: vec![OwedRefund {
                refund_id: refund_id(),
                payment_id: payment_id(),
                amount_minor: 700,
                reason: "customer".into(),
            }],
        }));
        let settle = |name, wanted| Message::SettleStock {
            sku: sku(name),
            reservation_id: reservation_id(),
            order_id: order_id(),
            wanted,
        };
        let refund = Message::SettleRefund {
            payment_id: payment_id(),
            order_id: order_id(),
            refund_id: refund_id(),
            amount_minor: 700,
            reason: "customer".into(),
        };
        let expected = [settle("sku_a", Settlement::Committed), settle("sku_b", Settlement::Released), refund];
        assert_eq!(told(again), expected);
    }

    #[test]
    fn a_foreign_stream_is_told_to_nobody_and_what_cannot_be_read_is_an_error() {
        let recorded = golden::history::<OrderEntity>("ord_1", &[OrderEvent::Rejected { hold: hold() }]).remove(0);
        assert_eq!(outbox(&Recorded { stream: "operation/x".into(), ..recorded.clone() }), Ok(vec![]));
        for damaged in
            [Recorded { stream: "order/".into(), ..recorded.clone() }, Recorded { payload: "{".into(), ..recorded }]
        {
            assert!(matches!(outbox(&damaged), Err(JournalError::Corrupt(_))), "{damaged:?}");
        }
    }
}
