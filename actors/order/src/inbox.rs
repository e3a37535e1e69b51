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
    use std::collections::BTreeSet;

    use contracts::{Currency, EventId, PaymentId, Quantity, ReservationId, Service, Sku};

    use super::*;

    const NOW: i64 = 1_700_000_500_000;
    const HAPPENED: i64 = 1_700_000_000_000;

    fn order_id() -> OrderId {
        OrderId::parse("ord_1").unwrap()
    }

    fn payment_id() -> PaymentId {
        PaymentId::parse("pay_1").unwrap()
    }

    fn now() -> Timestamp {
        Timestamp::from_millis(NOW)
    }

    fn happened() -> Timestamp {
        Timestamp::from_millis(HAPPENED)
    }

    /// What a message asks of which order, in words: a command is no value to be compared.
    fn asked(message: Message) -> Option<(OrderId, String)> {
        let envelope = Envelope::new(EventId::parse("evt_1").unwrap(), Service::Product, happened(), message);
        let terms = Terms { payable_for_ms: 1, payment_window_ms: 77 };
        policy(&envelope, now(), &terms).map(|(order_id, command)| (order_id, format!("{command:?}")))
    }

    #[track_caller]
    fn assert_asks(message: Message, command: OrderCommand) {
        assert_eq!(asked(message), Some((order_id(), format!("{command:?}"))));
    }

    #[test]
    fn what_the_stock_answers_is_noted_by_the_order_it_is_about() {
        let (order_id, sku, reservation_id) =
            (order_id(), Sku::parse("sku_a").unwrap(), ReservationId::parse("res_1").unwrap());
        let (quantity, expires_at) = (Quantity::new(3).unwrap(), Timestamp::from_seconds(9));
        assert_asks(
            Message::StockReserved {
                reservation_id: reservation_id.clone(),
                order_id: order_id.clone(),
                sku: sku.clone(),
                quantity,
                available_after: 5,
                expires_at,
            },
            OrderCommand::RecordReserved { sku: sku.clone(), now: now() },
        );
        assert_asks(
            Message::StockRejected {
                reservation_id: reservation_id.clone(),
                order_id: order_id.clone(),
                sku: sku.clone(),
                requested: quantity,
                available: 2,
            },
            OrderCommand::RecordRejected {
                shortfall: Shortfall { sku: sku.clone(), requested: quantity, available: 2 },
                refund_id: refund_of("ord_1 sku_a", happened()),
            },
        );
        assert_asks(
            Message::StockHoldOverdue {
                reservation_id: reservation_id.clone(),
                order_id: order_id.clone(),
                sku: sku.clone(),
                quantity,
                expires_at,
            },
            OrderCommand::AnswerForHold { reservation_id: reservation_id.clone(), sku: sku.clone() },
        );
        let settled = |standing| OrderCommand::RecordStockSettled { sku: sku.clone(), standing };
        let (committed, released, unsettled) = {
            let (reservation_id, order_id, sku) = (reservation_id.clone(), order_id.clone(), sku.clone());
            (
                Message::StockCommitted {
                    reservation_id: reservation_id.clone(),
                    order_id: order_id.clone(),
                    sku: sku.clone(),
                    quantity,
                },
                Message::StockReleased {
                    reservation_id: reservation_id.clone(),
                    order_id: order_id.clone(),
                    sku: sku.clone(),
                    quantity,
                    reason: "customer".into(),
                },
                Message::StockSettled { reservation_id, order_id, sku, standing: ReservationStanding::Rejected },
            )
        };
        assert_asks(committed, settled(ReservationStanding::Committed));
        assert_asks(released, settled(ReservationStanding::Released));
        assert_asks(unsettled, settled(ReservationStanding::Rejected));
    }

    #[test]
    fn what_becomes_of_a_payment_is_noted_by_the_order_it_is_for() {
        let (order_id, payment_id, currency) = (order_id(), payment_id(), Currency::USD);
        assert_asks(
            Message::PaymentRequested {
                payment_id: payment_id.clone(),
                order_id: order_id.clone(),
                amount_minor: 500,
                currency,
            },
            OrderCommand::StartPayment {
                payment_id: payment_id.clone(),
                amount_minor: 500,
                currency,
                now: now(),
                window_ms: 77,
            },
        );
        assert_asks(
            Message::PaymentRequiresAction {
                payment_id: payment_id.clone(),
                order_id: order_id.clone(),
                amount_minor: 500,
                currency,
                provider: "sandbox".into(),
                expires_at: None,
            },
            OrderCommand::RecordActionRequired { payment_id: payment_id.clone() },
        );
        assert_asks(
            Message::PaymentConfirmed { payment_id: payment_id.clone(), order_id: order_id.clone() },
            OrderCommand::RecordConfirmed { payment_id: payment_id.clone() },
        );
        assert_asks(
            Message::PaymentSucceeded {
                payment_id: payment_id.clone(),
                order_id: order_id.clone(),
                amount_minor: 500,
                currency,
                provider: "sandbox".into(),
                provider_ref: "ch_1".into(),
                captured_at: happened(),
            },
            OrderCommand::RecordPaymentSucceeded {
                payment_id: payment_id.clone(),
                amount_minor: 500,
                refund_id: refund_of("pay_1", happened()),
                now: now(),
            },
        );
        assert_asks(
            Message::PaymentFailed {
                payment_id: payment_id.clone(),
                order_id: order_id.clone(),
                decline_code: "card_declined".into(),
                retryable: false,
                attempt: 1,
            },
            OrderCommand::RecordPaymentFailed { payment_id: payment_id.clone(), decline_code: "card_declined".into() },
        );
        assert_asks(
            Message::PaymentVoided { payment_id: payment_id.clone(), order_id, reason: "superseded".into() },
            OrderCommand::RecordPaymentVoided { payment_id, reason: "superseded".into() },
        );
    }

    #[test]
    fn money_is_back_whether_it_goes_back_now_or_had_gone_back_before() {
        let (order_id, payment_id, refund_id) = (order_id(), payment_id(), RefundId::parse("rfnd_1").unwrap());
        let command = || OrderCommand::RecordRefunded { refund_id: refund_id.clone(), amount_minor: 500 };
        assert_asks(
            Message::PaymentRefunded {
                payment_id: payment_id.clone(),
                order_id: order_id.clone(),
                refund_id: refund_id.clone(),
                amount_minor: 500,
                refunded_total_minor: 700,
                reason: "customer".into(),
            },
            command(),
        );
        let refund_id = refund_id.clone();
        assert_asks(Message::RefundSettled { payment_id, order_id, refund_id, amount_minor: 500 }, command());
    }

    #[test]
    fn what_is_not_about_an_order_asks_for_nothing() {
        let (payment_id, order_id) = (payment_id(), order_id());
        assert_eq!(asked(Message::ExecuteCharge { payment_id, order_id }), None, "that is for the payment service");
        let sku = Sku::parse("sku_a").unwrap();
        let reason = "counted".to_owned();
        assert_eq!(asked(Message::StockAdjusted { sku, delta: 1, on_hand_after: 2, reason, reference: None }), None);
    }

    /// Should the same money be asked back twice, under whatever message, it goes back once.
    #[test]
    fn a_refund_has_one_name_of_its_own_and_is_sorted_by_the_time_of_its_cause() {
        let names: Vec<String> = (0..32).map(|number| format!("pay_{number}")).collect();
        let refunds: Vec<RefundId> = names.iter().map(|name| refund_of(name, happened())).collect();
        for (name, refund) in names.iter().zip(&refunds) {
            assert_eq!(refund_of(name, happened()), *refund);
            assert_eq!(refund.ulid_u128().unwrap() >> 80, u128::from(HAPPENED.unsigned_abs()), "{name}");
        }
        assert_eq!(refunds.iter().collect::<BTreeSet<_>>().len(), names.len(), "no two payments share one");
    }

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
