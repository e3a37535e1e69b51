//! Every event that orders' journals may hold can still be read; see [`runtime::testkit::golden`].

use std::path::Path;

use contracts::{
    OrderId, OrderedLine, PaymentId, ProductId, Quantity, RefundId, ReservationId, Sku, Timestamp, UserId,
    messages::Settlement, testkit::assert_numbered,
};
use runtime::{event_samples, testkit::golden};

use super::{Address, AskedAgain, Draft, Hold, OrderEntity, OrderEvent, OrderStatus, OwedRefund, OwedStock, Shortfall};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(1_700_000_000 + seconds)
}

fn sku() -> Sku {
    Sku::parse("sku_lamp").unwrap()
}

fn draft(shipping_address: Option<Address>) -> Box<Draft> {
    let line = OrderedLine {
        sku: sku(),
        product_id: ProductId::parse("prod_1").unwrap(),
        name: "Lamp".into(),
        quantity: Quantity::new(2).unwrap(),
        unit_price_minor: 29_999,
        line_total_minor: 59_998,
    };
    Box::new(Draft {
        order_id: OrderId::parse("ord_1").unwrap(),
        reservation_id: ReservationId::parse("res_1").unwrap(),
        user_id: UserId::parse("usr_1").unwrap(),
        lines: vec![line],
        currency: "USD".parse().unwrap(),
        subtotal_minor: 59_998,
        discount_minor: 998,
        tax_minor: 500,
        shipping_minor: 300,
        total_minor: 59_800,
        shipping_address,
    })
}

fn hold() -> Hold {
    Hold { reservation_id: ReservationId::parse("res_1").unwrap(), skus: vec![sku()] }
}

#[test]
fn every_event_of_an_order_can_be_read() {
    let address = Address {
        street: "1 Main St".into(),
        city: "Springfield".into(),
        state: "IL".into(),
        zip: "62701".into(),
        country: "US".into(),
    };
    let payment_id = || PaymentId::parse("pay_1").unwrap();
    let refund_id = || RefundId::parse("rfnd_1").unwrap();
    let cancelled = |from, is_refund_required| OrderEvent::Cancelled {
        from,
        reason: "customer".into(),
        is_refund_required,
        hold: hold(),
    };
    let mut samples = event_samples!(OrderEvent {
        OrderEvent::Submitted { .. } => OrderEvent::Submitted { draft: draft(Some(address)), at: at(0), expires_at: at(900) },
        OrderEvent::LineReserved { .. } => OrderEvent::LineReserved { sku: sku() },
        OrderEvent::LineRejected { .. } => OrderEvent::LineRejected {
            shortfall: Shortfall { sku: sku(), requested: Quantity::new(2).unwrap(), available: 1 },
        },
        OrderEvent::Created { .. } => OrderEvent::Created { draft: draft(None), at: at(1), expires_at: at(900) },
        OrderEvent::Rejected { .. } => OrderEvent::Rejected { hold: hold() },
        OrderEvent::PaymentStarted { .. } => OrderEvent::PaymentStarted {
            payment_id: payment_id(),
            attempt: 1,
            expires_at: at(1_500),
        },
        OrderEvent::PaymentRefused { .. } => OrderEvent::PaymentRefused {
            payment_id: payment_id(),
            reason: "already_paid".into(),
        },
        OrderEvent::PaymentFailed { .. } => OrderEvent::PaymentFailed {
            payment_id: payment_id(),
            decline_code: "card_declined".into(),
        },
        OrderEvent::Paid { .. } => OrderEvent::Paid {
            payment_id: payment_id(),
            amount_minor: 59_800,
            currency: "USD".parse().unwrap(),
            hold: hold(),
            from: OrderStatus::PaymentProcessing,
        },
        OrderEvent::PlacingTimedOut { .. } => OrderEvent::PlacingTimedOut { hold: hold() },
        OrderEvent::PaymentActionRequired { .. } => OrderEvent::PaymentActionRequired { payment_id: payment_id() },
        OrderEvent::PaymentConfirmed { .. } => OrderEvent::PaymentConfirmed { payment_id: payment_id() },
        OrderEvent::PaymentVoidRequested { .. } => OrderEvent::PaymentVoidRequested {
            payment_id: payment_id(),
            reason: "customer".into(),
        },
        OrderEvent::PaymentVoided { .. } => OrderEvent::PaymentVoided {
            payment_id: payment_id(),
            reason: "superseded".into(),
        },
        OrderEvent::LatePaymentReceived { .. } => OrderEvent::LatePaymentReceived {
            payment_id: payment_id(),
            amount_minor: 59_800,
            refund_id: refund_id(),
            until: at(1_600),
            hold: hold(),
        },
        OrderEvent::StockReacquired { .. } => OrderEvent::StockReacquired { sku: sku() },
        OrderEvent::StockNotReacquired { .. } => OrderEvent::StockNotReacquired { sku: sku() },
        OrderEvent::HoldCommitted { .. } => OrderEvent::HoldCommitted { hold: hold() },
        OrderEvent::HoldReturned { .. } => OrderEvent::HoldReturned { hold: hold(), reason: "cancelled".into() },
        OrderEvent::CancelRequested { .. } => OrderEvent::CancelRequested { reason: "customer".into() },
        OrderEvent::Cancelled { .. } => cancelled(OrderStatus::Pending, false),
        OrderEvent::RefundRequired { .. } => OrderEvent::RefundRequired {
            payment_id: payment_id(),
            refund_id: refund_id(),
            amount_minor: 59_800,
            reason: "late_payment".into(),
        },
        OrderEvent::Refunded { .. } => OrderEvent::Refunded { refund_id: refund_id(), amount_minor: 59_800 },
        OrderEvent::StockSettled { .. } => OrderEvent::StockSettled { sku: sku() },
        OrderEvent::DebtsAskedAgain(_) => OrderEvent::DebtsAskedAgain(Box::new(AskedAgain {
            round: 2,
            reservation_id: ReservationId::parse("res_1").unwrap(),
            stock: vec![OwedStock { sku: sku(), wanted: Settlement::Committed }],
            refunds: vec![OwedRefund {
                refund_id: refund_id(),
                payment_id: payment_id(),
                amount_minor: 59_800,
                reason: "customer".into(),
            }],
        })),
    });
    samples.push(OrderEvent::Paid {
        payment_id: payment_id(),
        amount_minor: 59_800,
        currency: "USD".parse().unwrap(),
        hold: hold(),
        from: OrderStatus::Cancelled,
    });
    samples.extend([cancelled(OrderStatus::Paid, true), cancelled(OrderStatus::PaymentProcessing, true)]);
    let told = golden::history::<OrderEntity>("ord_1", &samples);
    let told = told.iter().map(|recorded| crate::outbox::outbox(recorded).unwrap());
    assert_numbered(told.zip(samples.iter().map(OrderEvent::publishes)));
    golden::check::<OrderEntity>(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/order"), samples);
}
