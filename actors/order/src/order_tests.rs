//! Given these events, when this is asked, then these events or that refusal.

use OrderEvent as E;

use super::*;

fn id<T>(parse: impl Fn(&str) -> Result<T, contracts::IdError>, text: &str) -> T {
    parse(text).unwrap()
}
fn sku(text: &str) -> Sku {
    id(Sku::parse, text)
}
fn payment() -> PaymentId {
    id(PaymentId::parse, "pay_1")
}
fn refund_id() -> RefundId {
    id(RefundId::parse, "rfnd_1")
}
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn line(name: &str, quantity: u32, unit_price_minor: i64) -> OrderedLine {
    OrderedLine {
        sku: sku(&format!("sku_{name}")),
        product_id: id(contracts::ProductId::parse, &format!("prod_{name}")),
        name: name.to_owned(),
        quantity: Quantity::new(quantity).unwrap(),
        unit_price_minor,
        line_total_minor: unit_price_minor * i64::from(quantity),
    }
}

fn draft() -> Draft {
    Draft {
        order_id: id(OrderId::parse, "ord_1"),
        reservation_id: id(ReservationId::parse, "res_1"),
        user_id: id(UserId::parse, "usr_1"),
        lines: vec![line("a", 2, 29_999), line("b", 1, 500)],
        currency: "USD".parse().unwrap(),
        subtotal_minor: 60_498,
        discount_minor: 0,
        tax_minor: 0,
        shipping_minor: 0,
        total_minor: 60_498,
        shipping_address: None,
    }
}

fn shortfall(name: &str) -> Shortfall {
    Shortfall { sku: sku(name), requested: Quantity::ONE, available: 0 }
}

fn run(commands: Vec<OrderCommand>) -> Option<Order> {
    let mut state = None;
    for command in commands {
        for event in OrderEntity::decide(&state, command).unwrap() {
            OrderEntity::evolve(&mut state, &event);
        }
    }
    state
}

fn when(state: &Option<Order>, command: OrderCommand) -> Vec<OrderEvent> {
    OrderEntity::decide(state, command).unwrap()
}

fn submit() -> OrderCommand {
    OrderCommand::Submit { draft: Box::new(draft()), now: at(0) }
}
fn reserved(name: &str) -> OrderCommand {
    OrderCommand::RecordReserved { sku: sku(name), now: at(1) }
}
fn pay_at(now: Timestamp) -> OrderCommand {
    OrderCommand::StartPayment { payment_id: payment(), amount_minor: 60_498, currency: draft().currency, now }
}
fn succeeded() -> OrderCommand {
    OrderCommand::RecordPaymentSucceeded { payment_id: payment(), amount_minor: 60_498, refund_id: refund_id() }
}
fn pending() -> Vec<OrderCommand> {
    vec![submit(), reserved("sku_a"), reserved("sku_b")]
}
fn cancel() -> OrderCommand {
    OrderCommand::Cancel { reason: "customer".into(), refund_id: refund_id() }
}

#[test]
fn an_order_stands_once_every_line_is_held_and_not_before() {
    let half = run(vec![submit(), reserved("sku_a")]);
    assert_eq!(half.as_ref().unwrap().status, OrderStatus::Placing);
    assert!(matches!(when(&half, reserved("sku_b"))[..], [E::LineReserved { .. }, E::Created { .. }]));
    assert_eq!(when(&half, reserved("sku_a")), vec![], "an answer given twice counts once");
}

#[test]
fn one_missing_line_rejects_the_order_and_releases_what_is_held() {
    let state = run(vec![submit(), OrderCommand::RecordRejected(shortfall("sku_a"))]);
    let events = when(&state, reserved("sku_b"));
    let [E::LineReserved { .. }, E::Rejected { hold }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(hold.skus, [sku("sku_b")]);
    let other_order = run(vec![submit(), reserved("sku_b")]);
    let events = when(&other_order, OrderCommand::RecordRejected(shortfall("sku_a")));
    let [E::LineRejected { .. }, E::Rejected { hold }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(hold.skus, [sku("sku_b")]);
}

#[test]
fn a_draft_that_does_not_add_up_is_refused() {
    let mut wrong = draft();
    wrong.total_minor -= 1;
    let refused = OrderEntity::decide(&None, OrderCommand::Submit { draft: Box::new(wrong), now: at(0) });
    assert_eq!(refused, Err(OrderRefusal::DoesNotAddUp));
}

#[test]
fn who_may_pay_when() {
    let refused = |state: &Option<Order>, command| match &when(state, command)[..] {
        [E::PaymentRefused { reason, .. }] => reason.clone(),
        other => panic!("{other:?}"),
    };
    let state = run(pending());
    assert_eq!(refused(&None, pay_at(at(2))), "order_not_found");
    assert_eq!(refused(&state, pay_at(at(15 * 60))), "reservation_expired");
    let mut cheap = pay_at(at(2));
    if let OrderCommand::StartPayment { amount_minor, .. } = &mut cheap {
        *amount_minor = 1;
    }
    assert_eq!(refused(&state, cheap), "amount_mismatch");

    let processing = run([pending(), vec![pay_at(at(2))]].concat());
    assert_eq!(when(&processing, pay_at(at(3))), vec![], "the same payment again");
    let mut other = pay_at(at(3));
    if let OrderCommand::StartPayment { payment_id, .. } = &mut other {
        *payment_id = id(PaymentId::parse, "pay_2");
    }
    assert_eq!(refused(&processing, other.clone()), "payment_in_progress");
    let paid = run([pending(), vec![pay_at(at(2)), succeeded()]].concat());
    assert_eq!(refused(&paid, other), "already_paid");
}

#[test]
fn a_declined_card_leaves_the_order_payable() {
    let declined = OrderCommand::RecordPaymentFailed { payment_id: payment(), decline_code: "card_declined".into() };
    let state = run([pending(), vec![pay_at(at(2)), declined]].concat());
    assert_eq!(state.as_ref().unwrap().status, OrderStatus::Pending);
    assert!(matches!(when(&state, pay_at(at(3)))[..], [E::PaymentStarted { attempt: 2, .. }]));
}

#[test]
fn an_order_expires_when_its_time_is_over_and_a_payment_holds_it_for_its_window() {
    let expire = |seconds| OrderCommand::Expire { now: at(seconds) };
    let state = run(pending());
    assert_eq!(when(&state, expire(15 * 60 - 1)), vec![]);
    assert!(matches!(when(&state, expire(15 * 60))[..], [E::Cancelled { .. }]));
    let late = 15 * 60 - 1;
    let processing = run([pending(), vec![pay_at(at(late))]].concat());
    assert_eq!(when(&processing, expire(late + 10 * 60 - 1)), vec![]);
    assert!(matches!(when(&processing, expire(late + 10 * 60))[..], [E::Cancelled { .. }]));
    let abandoned = run([pending(), vec![pay_at(at(late)), expire(late + 10 * 60)]].concat());
    assert!(
        matches!(when(&abandoned, succeeded())[..], [E::RefundRequired { .. }]),
        "money that comes later goes back"
    );
}

#[test]
fn money_for_an_order_that_is_off_is_given_back_once() {
    let cancelled = run([pending(), vec![cancel()]].concat());
    let events = when(&cancelled, succeeded());
    assert!(matches!(&events[..], [E::RefundRequired { reason, .. }] if reason == "late_payment"));
    let owing = run([pending(), vec![cancel(), succeeded()]].concat());
    assert_eq!(when(&owing, succeeded()), vec![]);
    let refunded = OrderCommand::RecordRefunded { refund_id: refund_id(), amount_minor: 60_498 };
    let settled = run([pending(), vec![cancel(), succeeded(), refunded]].concat()).unwrap();
    assert_eq!(
        (settled.captured_minor, settled.refunded_minor, settled.payment_status()),
        (60_498, 60_498, "refunded")
    );
    assert!(matches!(when(&None, succeeded())[..], [E::RefundRequired { .. }]), "even where there is no order at all");
}

#[test]
fn a_cancellation_during_a_payment_waits_for_it() {
    let asked = run([pending(), vec![pay_at(at(2)), cancel()]].concat());
    assert_eq!(asked.as_ref().unwrap().status, OrderStatus::PaymentProcessing);
    let events = when(&asked, succeeded());
    assert!(matches!(events[..], [E::Paid { .. }, E::Cancelled { .. }, E::RefundRequired { .. }]));
    let declined = OrderCommand::RecordPaymentFailed { payment_id: payment(), decline_code: "card_declined".into() };
    assert!(matches!(when(&asked, declined)[..], [E::PaymentFailed { .. }, E::Cancelled { .. }]));
}

#[test]
fn a_second_capture_of_the_same_payment_changes_nothing() {
    let paid = run([pending(), vec![pay_at(at(2)), succeeded()]].concat());
    assert_eq!(when(&paid, succeeded()), vec![]);
    assert_eq!(paid.unwrap().payment_status(), "paid");
}
