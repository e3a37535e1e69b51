//! Every event that payments' journals may hold can still be read; see [`runtime::testkit::golden`].

use std::path::Path;

use contracts::{OrderId, PaymentId, RefundId, Timestamp, UserId, testkit::assert_numbered};
use runtime::{event_samples, testkit::golden};

use super::{FailedBy, Failure, Payment, PaymentEntity, PaymentEvent, PaymentStatus, Refund};
use crate::provider::Method;

fn at() -> Timestamp {
    Timestamp::from_seconds(1_700_000_000)
}

fn payment_id() -> PaymentId {
    PaymentId::parse("pay_1").unwrap()
}

fn refund() -> Refund {
    Refund {
        refund_id: RefundId::parse("rfnd_1").unwrap(),
        amount_minor: 500,
        reason: "customer".into(),
        is_done: false,
    }
}

fn requested() -> Payment {
    Payment {
        payment_id: payment_id(),
        order_id: OrderId::parse("ord_1").unwrap(),
        user_id: UserId::parse("usr_1").unwrap(),
        amount_minor: 9_999,
        currency: "USD".parse().unwrap(),
        method: Method {
            token: "tok_approved".into(),
            brand: "visa".into(),
            last4: "4242".into(),
            expiry_month: 12,
            expiry_year: 2030,
            fingerprint: "f1".into(),
        },
        status: PaymentStatus::Created,
        attempt: 1,
        created_at: at(),
        is_authenticated: false,
        redirect_url: None,
        failure: None,
        provider_ref: None,
        captured_at: None,
        refunds: vec![],
    }
}

fn failed(by: FailedBy, is_retryable: bool) -> PaymentEvent {
    let failure = Failure { code: "card_declined".into(), is_retryable, by };
    PaymentEvent::Failed { payment_id: payment_id(), failure, attempt: 1 }
}

#[test]
fn every_event_of_a_payment_can_be_read() {
    let everything = Payment {
        status: PaymentStatus::PartiallyRefunded,
        redirect_url: Some("https://example.com/prove".into()),
        failure: Some(Failure { code: "processing_error".into(), is_retryable: true, by: FailedBy::Provider }),
        provider_ref: Some("ch_1".into()),
        captured_at: Some(at()),
        refunds: vec![refund()],
        is_authenticated: true,
        ..requested()
    };
    let mut samples = event_samples!(PaymentEvent {
        PaymentEvent::Requested { .. } => PaymentEvent::Requested { payment: Box::new(requested()) },
        PaymentEvent::Approved { .. } => PaymentEvent::Approved { payment_id: payment_id(), expires_at: None },
        PaymentEvent::ActionRequired { .. } => PaymentEvent::ActionRequired {
            payment_id: payment_id(),
            provider: "sandbox".into(),
            redirect_url: "https://example.com/prove".into(),
            amount_minor: 9_999,
            currency: "USD".parse().unwrap(),
            expires_at: None,
        },
        PaymentEvent::Confirmed { .. } => PaymentEvent::Confirmed { payment_id: payment_id() },
        PaymentEvent::Succeeded { .. } => PaymentEvent::Succeeded {
            payment_id: payment_id(),
            amount_minor: 9_999,
            currency: "USD".parse().unwrap(),
            provider: "sandbox".into(),
            provider_ref: "ch_1".into(),
            captured_at: at(),
        },
        PaymentEvent::Failed { .. } => failed(FailedBy::Provider, false),
        PaymentEvent::Voided { .. } => PaymentEvent::Voided { payment_id: payment_id(), reason: "superseded".into() },
        PaymentEvent::RefundRequested { .. } => PaymentEvent::RefundRequested { payment_id: payment_id(), refund: refund() },
        PaymentEvent::Refunded { .. } => PaymentEvent::Refunded {
            payment_id: payment_id(),
            refund_id: refund().refund_id,
            amount_minor: 500,
            refunded_total_minor: 500,
            reason: "customer".into(),
        },
        PaymentEvent::RefundAskedAgain { .. } => PaymentEvent::RefundAskedAgain {
            payment_id: payment_id(),
            refund_id: refund().refund_id,
        },
        PaymentEvent::RefundSettled { .. } => PaymentEvent::RefundSettled {
            payment_id: payment_id(),
            refund_id: refund().refund_id,
            amount_minor: 500,
        },
    });
    samples.extend([
        PaymentEvent::Approved { payment_id: payment_id(), expires_at: Some(at()) },
        PaymentEvent::ActionRequired {
            payment_id: payment_id(),
            provider: "sandbox".into(),
            redirect_url: "https://example.com/prove".into(),
            amount_minor: 9_999,
            currency: "USD".parse().unwrap(),
            expires_at: Some(at()),
        },
    ]);
    samples.extend([PaymentEvent::Requested { payment: Box::new(everything) }, failed(FailedBy::Order, true)]);
    let told = golden::history::<PaymentEntity>("ord_1", &samples);
    let told = told.iter().map(|recorded| crate::outbox::outbox(recorded).unwrap());
    assert_numbered(told.zip(samples.iter().map(PaymentEvent::publishes)));
    golden::check::<PaymentEntity>(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/payment"), samples);
}
