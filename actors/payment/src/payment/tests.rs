//! Given these events, when this is asked, then these events or that refusal.

use PaymentCommand as C;
use contracts::{OrderId, PAYMENT_ATTEMPTS_MAX, PaymentId, UserId};
use runtime::entity::EventPayload;

use super::*;
use crate::provider::Method;

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
    C::Approve { payment_id: id(name), expires_at: Some(at(600)), now: at(1) }
}
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}
fn confirm_at(name: &str, now: Timestamp) -> C {
    C::Confirm { payment_id: id(name), now }
}
fn action_required(name: &str) -> C {
    let outcome =
        ChargeOutcome::RequiresAction { provider: "sandbox".into(), redirect_url: "https://bank.example".into() };
    C::RecordCharge { payment_id: id(name), outcome }
}
fn void(name: &str) -> C {
    C::Void { payment_id: id(name), reason: "customer".into() }
}
fn waits() -> Vec<C> {
    vec![request("pay_1"), approve("pay_1"), action_required("pay_1")]
}
fn status(state: &OrderPayments, name: &str) -> PaymentStatus {
    state.get(&id(name)).unwrap().status
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
    let confirm = confirm_at("pay_1", at(2));
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

#[test]
fn an_approval_that_comes_too_late_charges_nothing_and_says_so() {
    let late = |now| C::Approve { payment_id: id("pay_1"), expires_at: Some(at(600)), now };
    let asked = run(vec![request("pay_1")]);
    assert!(matches!(PaymentEntity::decide(&asked, late(at(599))).unwrap()[..], [PaymentEvent::Approved { .. }]));
    let events = PaymentEntity::decide(&asked, late(at(600))).unwrap();
    let [PaymentEvent::Failed { failure, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!((failure.code.as_str(), failure.by), ("reservation_expired", FailedBy::Order));
    let old = C::Approve { payment_id: id("pay_1"), expires_at: None, now: at(9_999) };
    assert!(
        matches!(PaymentEntity::decide(&asked, old).unwrap()[..], [PaymentEvent::Approved { .. }]),
        "of an earlier build"
    );
}

#[test]
fn a_charge_is_too_late_once_the_order_holds_its_stock_no_longer() {
    let state = run(vec![request("pay_1"), approve("pay_1")]);
    assert!(!state.is_too_late(&id("pay_1"), at(599)));
    assert!(state.is_too_late(&id("pay_1"), at(600)));
    let too_late = C::RecordTooLate { payment_id: id("pay_1") };
    let failed = run(vec![request("pay_1"), approve("pay_1"), too_late.clone()]);
    assert_eq!(status(&failed, "pay_1"), PaymentStatus::Failed);
    let paid = run(vec![request("pay_1"), approve("pay_1"), captured("pay_1")]);
    assert_eq!(PaymentEntity::decide(&paid, too_late), Ok(vec![]), "what is captured is captured");
}

#[test]
fn a_confirmation_that_comes_too_late_voids_the_payment() {
    let state = run(waits());
    assert!(matches!(
        PaymentEntity::decide(&state, confirm_at("pay_1", at(599))).unwrap()[..],
        [PaymentEvent::Confirmed { .. }]
    ));
    let events = PaymentEntity::decide(&state, confirm_at("pay_1", at(600))).unwrap();
    assert!(matches!(&events[..], [PaymentEvent::Voided { reason, .. }] if reason == "expired"), "{events:?}");
    let voided = run([waits(), vec![confirm_at("pay_1", at(600))]].concat());
    assert_eq!(
        PaymentEntity::decide(&voided, confirm_at("pay_1", at(601))),
        Err(PaymentRefusal::InvalidTransition { from: "voided".into() })
    );
}

#[test]
fn an_open_payment_is_voided_and_one_that_is_on_its_way_is_not() {
    for open in [vec![request("pay_1")], waits()] {
        let state = run([open, vec![void("pay_1")]].concat());
        assert_eq!(status(&state, "pay_1"), PaymentStatus::Voided);
        assert_eq!(PaymentEntity::decide(&state, approve("pay_1")), Ok(vec![]), "nor is it charged later");
        assert_eq!(PaymentEntity::decide(&state, void("pay_1")), Ok(vec![]));
        assert_eq!(PaymentEntity::decide(&state, declined("pay_1")), Ok(vec![]));
    }
    let live = run(vec![request("pay_1"), approve("pay_1")]);
    assert_eq!(PaymentEntity::decide(&live, void("pay_1")), Ok(vec![]));
    let paid = run(vec![request("pay_1"), approve("pay_1"), captured("pay_1")]);
    assert_eq!(PaymentEntity::decide(&paid, void("pay_1")), Ok(vec![]));
}

#[test]
fn money_that_was_captured_all_the_same_is_told_of() {
    let state = run([waits(), vec![void("pay_1"), captured("pay_1")]].concat());
    assert_eq!(status(&state, "pay_1"), PaymentStatus::Succeeded);
    assert_eq!(state.payments[0].captured_minor(), 9_999);
}

#[test]
fn another_card_voids_the_payment_that_waits_for_its_buyer() {
    let state = run(waits());
    let events = PaymentEntity::decide(&state, request("pay_2")).unwrap();
    let [PaymentEvent::Voided { payment_id, reason }, PaymentEvent::Requested { .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!((payment_id, reason.as_str()), (&id("pay_1"), "superseded"));
    let acted = run([waits(), vec![confirm_at("pay_1", at(2))]].concat());
    let in_progress = PaymentRefusal::InProgress { payment_id: id("pay_1") };
    assert_eq!(PaymentEntity::decide(&acted, request("pay_2")), Err(in_progress), "it is live again");
}

#[test]
fn five_payments_may_be_tried_and_no_sixth() {
    let mut commands = Vec::new();
    for number in 1..=PAYMENT_ATTEMPTS_MAX {
        let name = format!("pay_{number}");
        // What the order never let begin does not count.
        let refused = format!("pay_1{number}");
        commands.extend([request(&refused), C::Reject { payment_id: id(&refused), reason: "amount_mismatch".into() }]);
        commands.extend([request(&name), approve(&name), declined(&name)]);
    }
    let four = run(commands[..commands.len() - 3].to_vec());
    assert_eq!(four.may_be_paid(), Ok(()));
    let five = run(commands);
    assert_eq!(five.may_be_paid(), Err(PaymentRefusal::TooManyAttempts));
    assert_eq!(PaymentEntity::decide(&five, request("pay_6")), Err(PaymentRefusal::TooManyAttempts));
}

#[test]
fn a_refund_of_nothing_or_less_is_refused_and_an_unknown_one_changes_nothing() {
    let paid = vec![request("pay_1"), approve("pay_1"), captured("pay_1")];
    let state = run(paid.clone());
    for amount_minor in [0, -1, i64::MIN, 10_000] {
        let refused = PaymentEntity::decide(&state, refund(amount_minor, "rfnd_1"));
        assert_eq!(refused, Err(PaymentRefusal::ExceedsRemaining { remaining_minor: 9_999 }), "{amount_minor}");
    }
    let record = |name: &str| C::RecordRefund { payment_id: id("pay_1"), refund_id: RefundId::parse(name).unwrap() };
    assert_eq!(PaymentEntity::decide(&state, record("rfnd_9")), Ok(vec![]));
    let done = run([paid, vec![refund(1, "rfnd_1"), record("rfnd_1")]].concat());
    assert_eq!(PaymentEntity::decide(&done, record("rfnd_1")), Ok(vec![]), "it goes back once");
    assert_eq!(PaymentEntity::decide(&done, refund(1, "rfnd_1")), Ok(vec![]), "and is asked for once");
    assert_eq!((done.payments[0].captured_minor(), done.payments[0].refunded_minor()), (9_999, 1));
    assert_eq!(status(&done, "pay_1"), PaymentStatus::PartiallyRefunded);
}

#[test]
fn a_rejection_given_twice_or_after_the_charge_began_changes_nothing() {
    let reject = C::Reject { payment_id: id("pay_1"), reason: "order_cancelled".into() };
    let rejected = run(vec![request("pay_1"), reject.clone()]);
    assert_eq!(PaymentEntity::decide(&rejected, reject.clone()), Ok(vec![]));
    for state in [
        run(vec![request("pay_1"), approve("pay_1")]),
        run(vec![request("pay_1"), approve("pay_1"), captured("pay_1")]),
    ] {
        assert_eq!(PaymentEntity::decide(&state, reject.clone()), Ok(vec![]));
    }
}

#[test]
fn money_that_went_back_pays_for_nothing() {
    let late = run([waits(), vec![void("pay_1"), captured("pay_1"), refund(9_999, "rfnd_1")]].concat());
    assert_eq!(late.may_be_paid(), Ok(()));
    let part = run([waits(), vec![void("pay_1"), captured("pay_1"), refund(9_998, "rfnd_1")]].concat());
    assert_eq!(part.may_be_paid(), Err(PaymentRefusal::AlreadyPaid { payment_id: id("pay_1") }));
}

/// Whoever asks for a payment says who pays how much with what; how far it has come they cannot say.
#[test]
fn a_payment_begins_at_its_beginning_whatever_is_asked_for() {
    let refund = Refund {
        refund_id: RefundId::parse("rfnd_1").unwrap(),
        amount_minor: 9_999,
        reason: "customer".into(),
        is_done: true,
    };
    let asked = Payment { status: PaymentStatus::Succeeded, attempt: 9, refunds: vec![refund], ..payment("pay_1") };
    let state = run(vec![C::Request(Box::new(asked))]);
    let begun = Payment { attempt: 1, ..payment("pay_1") };
    assert_eq!(state.payments, [begun]);
}

#[test]
fn an_orders_payments_count_with_what_was_captured_and_given_back() {
    let counts = |commands: Vec<C>| {
        let mut state = OrderPayments::default();
        for command in commands {
            for event in PaymentEntity::decide(&state, command).unwrap() {
                PaymentEntity::evolve(&mut state, &event);
            }
        }
        PaymentEntity::counts(&state)
    };
    let sums = |captured, refunded| Some(Counts::new(1, [captured, refunded]));
    let paid = vec![request("pay_1"), approve("pay_1"), captured("pay_1")];
    let owed = C::RequestRefund {
        payment_id: id("pay_1"),
        refund_id: RefundId::parse("rfnd_1").unwrap(),
        amount_minor: 500,
        reason: "customer".into(),
    };
    let back = C::RecordRefund { payment_id: id("pay_1"), refund_id: RefundId::parse("rfnd_1").unwrap() };
    assert_eq!(counts(vec![]), sums(0, 0));
    assert_eq!(counts(waits()), sums(0, 0));
    assert_eq!(counts(paid.clone()), sums(9_999, 0));
    assert_eq!(counts([paid.clone(), vec![owed.clone()]].concat()), sums(9_999, 0), "promised is not given back");
    assert_eq!(counts([paid, vec![owed, back]].concat()), sums(9_999, 500));
}

#[test]
fn every_event_of_a_payment_writes_the_row_of_that_payment() {
    let mut state = OrderPayments::default();
    let commands = [waits(), vec![request("pay_2"), approve("pay_2"), captured("pay_2")]].concat();
    let mut rows = Vec::new();
    for command in commands {
        for event in PaymentEntity::decide(&state, command).unwrap() {
            PaymentEntity::evolve(&mut state, &event);
            let writes = PaymentEntity::views(&"ord_1".into(), &state, &event, 0);
            assert!(!writes.is_empty(), "{event:?}");
            rows.push(writes[0].params[0].clone());
        }
    }
    let expected = ["pay_1", "pay_1", "pay_1", "pay_1", "pay_2", "pay_2", "pay_2"].map(runtime::SqlValue::from);
    assert_eq!(rows, expected, "the first is asked for, approved, waits and is voided");
}
