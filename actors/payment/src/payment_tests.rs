//! Given these events, when this is asked, then these events or that refusal.

use PaymentCommand as C;

use super::*;

fn payment(name: &str) -> Payment {
    Payment {
        payment_id: PaymentId::parse(name).unwrap(),
        order_id: OrderId::parse("ord_1").unwrap(),
        user_id: UserId::parse("usr_1").unwrap(),
        amount_minor: 9_999,
        currency: "USD".parse().unwrap(),
        method: Method {
            token: "tok_approved".into(),
            brand: "visa".into(),
            last4: "1111".into(),
            expiry_month: 12,
            expiry_year: 2025,
            fingerprint: "f".into(),
        },
        status: PaymentStatus::Created,
        attempt: 0,
        created_at: Timestamp::from_seconds(0),
        is_authenticated: false,
        redirect_url: None,
        failure: None,
        provider_ref: None,
        captured_at: None,
        refunds: vec![],
    }
}

fn id(name: &str) -> PaymentId {
    PaymentId::parse(name).unwrap()
}
fn request(name: &str) -> C {
    C::Request(Box::new(payment(name)))
}
fn approve(name: &str) -> C {
    C::Approve { payment_id: id(name) }
}
fn captured(name: &str) -> C {
    let outcome = ChargeOutcome::Captured {
        provider: "sandbox".into(),
        provider_ref: "ch_1".into(),
        captured_at: Timestamp::from_seconds(1),
    };
    C::RecordCharge { payment_id: id(name), outcome }
}
fn declined(name: &str) -> C {
    let outcome = ChargeOutcome::Declined { code: "card_declined".into(), is_retryable: false };
    C::RecordCharge { payment_id: id(name), outcome }
}
fn refund(amount_minor: i64, refund_id: &str) -> C {
    C::RequestRefund {
        payment_id: id("pay_1"),
        refund_id: RefundId::parse(refund_id).unwrap(),
        amount_minor,
        reason: "customer".into(),
    }
}

fn run(commands: Vec<C>) -> OrderPayments {
    let mut state = OrderPayments::default();
    for command in commands {
        for event in PaymentEntity::decide(&state, command).unwrap() {
            PaymentEntity::evolve(&mut state, &event);
        }
    }
    state
}

#[test]
fn an_order_has_at_most_one_payment_alive_and_one_that_succeeded() {
    let alive = run(vec![request("pay_1")]);
    let in_progress = PaymentRefusal::InProgress { payment_id: id("pay_1") };
    assert_eq!(PaymentEntity::decide(&alive, request("pay_2")), Err(in_progress));
    let paid = run(vec![request("pay_1"), approve("pay_1"), captured("pay_1")]);
    let already = PaymentRefusal::AlreadyPaid { payment_id: id("pay_1") };
    assert_eq!(PaymentEntity::decide(&paid, request("pay_2")), Err(already));
    let failed = run(vec![request("pay_1"), approve("pay_1"), declined("pay_1"), request("pay_2")]);
    assert_eq!(failed.get(&id("pay_2")).unwrap().attempt, 2);
}

#[test]
fn nothing_is_charged_before_the_order_agrees() {
    let state = run(vec![request("pay_1"), captured("pay_1")]);
    assert_eq!(state.payments[0].status, PaymentStatus::Created);
    let rejected = run(vec![
        request("pay_1"),
        C::Reject { payment_id: id("pay_1"), reason: "order_cancelled".into() },
        approve("pay_1"),
        captured("pay_1"),
    ]);
    assert_eq!(rejected.payments[0].status, PaymentStatus::Failed);
    assert_eq!(rejected.payments[0].captured_minor(), 0);
}

#[test]
fn the_same_answer_twice_captures_once() {
    let state = run(vec![request("pay_1"), approve("pay_1"), captured("pay_1")]);
    assert_eq!(PaymentEntity::decide(&state, captured("pay_1")), Ok(vec![]));
    assert_eq!(PaymentEntity::decide(&state, declined("pay_1")), Ok(vec![]));
    assert_eq!(state.payments[0].captured_minor(), 9_999);
}

#[test]
fn a_buyer_who_must_act_is_charged_after_they_have() {
    let outcome =
        ChargeOutcome::RequiresAction { provider: "sandbox".into(), redirect_url: "https://bank.example".into() };
    let waiting = vec![request("pay_1"), approve("pay_1"), C::RecordCharge { payment_id: id("pay_1"), outcome }];
    let state = run(waiting.clone());
    assert_eq!(state.payments[0].status, PaymentStatus::RequiresAction);
    assert_eq!(PaymentEntity::decide(&state, captured("pay_1")), Ok(vec![]));
    let confirm = C::Confirm { payment_id: id("pay_1") };
    let done = run([waiting, vec![confirm, captured("pay_1")]].concat());
    assert_eq!(done.payments[0].status, PaymentStatus::Succeeded);
    assert!(done.payments[0].is_authenticated);
}

#[test]
fn refunds_never_exceed_what_was_captured() {
    let paid = vec![request("pay_1"), approve("pay_1"), captured("pay_1")];
    let partly = run([paid.clone(), vec![refund(9_000, "rfnd_1")]].concat());
    let too_much = PaymentEntity::decide(&partly, refund(1_000, "rfnd_2"));
    assert_eq!(too_much, Err(PaymentRefusal::ExceedsRemaining { remaining_minor: 999 }));
    assert_eq!(PaymentEntity::decide(&partly, refund(9_000, "rfnd_1")), Ok(vec![]), "the same refund again");
    let record = |name: &str| C::RecordRefund { payment_id: id("pay_1"), refund_id: RefundId::parse(name).unwrap() };
    let commands = vec![refund(9_000, "rfnd_1"), record("rfnd_1"), record("rfnd_1"), refund(999, "rfnd_2")];
    let state = run([paid.clone(), commands.clone()].concat());
    assert_eq!(state.payments[0].status, PaymentStatus::PartiallyRefunded);
    let state = run([paid, commands, vec![record("rfnd_2")]].concat());
    assert_eq!((state.payments[0].status, state.payments[0].refunded_minor()), (PaymentStatus::Refunded, 9_999));
    let unpaid = run(vec![request("pay_1")]);
    assert!(matches!(
        PaymentEntity::decide(&unpaid, refund(1, "rfnd_1")),
        Err(PaymentRefusal::InvalidTransition { .. })
    ));
    assert!(matches!(
        PaymentEntity::decide(
            &state,
            C::RecordRefund { payment_id: id("pay_9"), refund_id: RefundId::parse("rfnd_1").unwrap() }
        ),
        Err(PaymentRefusal::Unknown)
    ));
}

#[test]
fn a_refund_that_is_asked_for_again_is_gone_on_with_and_made_once() {
    let settle = || C::SettleRefund {
        payment_id: id("pay_1"),
        refund_id: RefundId::parse("rfnd_1").unwrap(),
        amount_minor: 9_999,
        reason: "customer".into(),
    };
    let mut state = OrderPayments::default();
    let mut ask = |command: C| -> Vec<&'static str> {
        let events = PaymentEntity::decide(&state, command).unwrap();
        events.iter().for_each(|event| PaymentEntity::evolve(&mut state, event));
        events.iter().map(EventPayload::event_type).collect()
    };
    for command in [request("pay_1"), approve("pay_1"), captured("pay_1")] {
        ask(command);
    }
    // The first word was lost; then the provider's answer; then ours.
    assert_eq!(ask(settle()), ["payment.refund_requested"]);
    assert_eq!(ask(settle()), ["payment.refund_asked_again"]);
    let done = C::RecordRefund { payment_id: id("pay_1"), refund_id: RefundId::parse("rfnd_1").unwrap() };
    assert_eq!(ask(done.clone()), ["payment.refunded"]);
    assert_eq!(ask(done), [] as [&str; 0]);
    assert_eq!(ask(settle()), ["payment.refund_settled"]);
    assert_eq!(state.get(&id("pay_1")).unwrap().refunded_minor(), 9_999);
    // What contradicts the books is refused, as ever.
    let unknown = C::SettleRefund {
        payment_id: id("pay_2"),
        refund_id: RefundId::parse("rfnd_1").unwrap(),
        amount_minor: 1,
        reason: "customer".into(),
    };
    assert_eq!(PaymentEntity::decide(&state, unknown), Err(PaymentRefusal::Unknown));
}
