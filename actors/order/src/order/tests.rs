//! Given these events, when this is asked, then these events or that refusal.

use std::collections::BTreeMap;

use OrderEvent as E;
use contracts::{
    OrderId, OrderedLine, PAYMENT_ATTEMPTS_MAX, PaymentId, Quantity, RefundId, ReservationId, Sku, Timestamp, UserId,
};
use runtime::SqlValue;

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
    OrderCommand::Submit { draft: Box::new(draft()), now: at(0), payable_for_ms: Terms::default().payable_for_ms }
}
fn reserved(name: &str) -> OrderCommand {
    OrderCommand::RecordReserved { sku: sku(name), now: at(1) }
}
fn pay_at(now: Timestamp) -> OrderCommand {
    pay_with("pay_1", now)
}
fn pay_with(name: &str, now: Timestamp) -> OrderCommand {
    OrderCommand::StartPayment {
        payment_id: id(PaymentId::parse, name),
        amount_minor: 60_498,
        currency: draft().currency,
        now,
        window_ms: Terms::default().payment_window_ms,
    }
}
fn succeeded() -> OrderCommand {
    succeeded_at(at(4))
}
fn succeeded_at(now: Timestamp) -> OrderCommand {
    OrderCommand::RecordPaymentSucceeded { payment_id: payment(), amount_minor: 60_498, refund_id: refund_id(), now }
}
fn rejected(name: &str) -> OrderCommand {
    OrderCommand::RecordRejected { shortfall: shortfall(name), refund_id: refund_id() }
}
fn committed(name: &str) -> OrderCommand {
    OrderCommand::RecordStockSettled { sku: sku(name), standing: contracts::messages::ReservationStanding::Committed }
}
fn declined() -> OrderCommand {
    declined_of("pay_1")
}
fn declined_of(name: &str) -> OrderCommand {
    OrderCommand::RecordPaymentFailed { payment_id: id(PaymentId::parse, name), decline_code: "card_declined".into() }
}
fn voided() -> OrderCommand {
    OrderCommand::RecordPaymentVoided { payment_id: payment(), reason: "superseded".into() }
}
fn action_required() -> OrderCommand {
    OrderCommand::RecordActionRequired { payment_id: payment() }
}
fn confirmed() -> OrderCommand {
    OrderCommand::RecordConfirmed { payment_id: payment() }
}
fn refunded() -> OrderCommand {
    OrderCommand::RecordRefunded { refund_id: refund_id(), amount_minor: 60_498 }
}
fn expire(seconds: i64) -> OrderCommand {
    OrderCommand::Expire { now: at(seconds) }
}
fn with(commands: Vec<OrderCommand>) -> Option<Order> {
    run([pending(), commands].concat())
}
fn hold_overdue(name: &str) -> OrderCommand {
    OrderCommand::AnswerForHold { reservation_id: draft().reservation_id, sku: sku(name) }
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
    let state = run(vec![submit(), rejected("sku_a")]);
    let events = when(&state, reserved("sku_b"));
    let [E::LineReserved { .. }, E::Rejected { hold }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(hold.skus, [sku("sku_b")]);
    let other_order = run(vec![submit(), reserved("sku_b")]);
    let events = when(&other_order, rejected("sku_a"));
    let [E::LineRejected { .. }, E::Rejected { hold }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(hold.skus, [sku("sku_b")]);
}

#[test]
fn a_draft_that_does_not_add_up_is_refused() {
    let mut wrong = draft();
    wrong.total_minor -= 1;
    let refused =
        OrderEntity::decide(&None, OrderCommand::Submit { draft: Box::new(wrong), now: at(0), payable_for_ms: 1 });
    assert_eq!(refused, Err(OrderRefusal::DoesNotAddUp));
}

#[test]
fn a_draft_adds_up_when_every_line_does_and_so_do_all_the_parts_of_its_total() {
    let right = Draft {
        discount_minor: 998,
        tax_minor: 500,
        shipping_minor: 300,
        total_minor: 60_498 - 998 + 500 + 300,
        ..draft()
    };
    assert!(right.adds_up() && draft().adds_up());
    type Change = fn(&mut Draft);
    let changes: [(&str, Change); 8] = [
        ("the subtotal", |draft| draft.subtotal_minor += 1),
        ("the subtotal, and with it the total", |draft| {
            draft.subtotal_minor += 1;
            draft.total_minor += 1;
        }),
        ("the discount", |draft| draft.discount_minor += 1),
        ("the tax", |draft| draft.tax_minor += 1),
        ("the shipping", |draft| draft.shipping_minor += 1),
        ("the total", |draft| draft.total_minor += 1),
        ("the price of one line", |draft| draft.lines[1].unit_price_minor += 1),
        ("one line, and with it all the sums", |draft| {
            draft.lines[0].line_total_minor += 1;
            draft.subtotal_minor += 1;
            draft.total_minor += 1;
        }),
    ];
    for (what, change) in changes {
        let mut wrong = right.clone();
        change(&mut wrong);
        assert!(!wrong.adds_up(), "{what}");
    }
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
fn an_order_is_unpaid_until_money_is_captured_for_it() {
    for unpaid in [vec![], vec![pay_at(at(2))], vec![pay_at(at(2)), declined()], vec![cancel()]] {
        assert_eq!(with(unpaid).unwrap().payment_status(), "unpaid");
    }
    assert_eq!(with(vec![pay_at(at(2)), succeeded()]).unwrap().payment_status(), "paid");
    // Money of an order that was never captured, back all the same: nothing is paid by that.
    let mut order = run(pending()).unwrap();
    state::evolve(&mut order, &E::Refunded { refund_id: refund_id(), amount_minor: 60_498 });
    assert_eq!(order.payment_status(), "unpaid");
}

#[test]
fn a_declined_card_leaves_the_order_payable() {
    let state = with(vec![pay_at(at(2)), declined()]);
    assert_eq!(state.as_ref().unwrap().status, OrderStatus::Pending);
    assert!(matches!(when(&state, pay_at(at(3)))[..], [E::PaymentStarted { attempt: 2, .. }]));
}

#[test]
fn an_order_expires_when_its_time_is_over_and_a_payment_holds_it_for_its_window() {
    let state = run(pending());
    assert_eq!(when(&state, expire(15 * 60 - 1)), vec![]);
    assert!(matches!(when(&state, expire(15 * 60))[..], [E::Cancelled { .. }]));
    let late = 15 * 60 - 1;
    let processing = run([pending(), vec![pay_at(at(late))]].concat());
    assert_eq!(when(&processing, expire(late + 10 * 60 - 1)), vec![]);
    let events = when(&processing, expire(late + 10 * 60));
    assert!(matches!(events[..], [E::PaymentVoidRequested { .. }, E::Cancelled { .. }]), "and the payment is voided");
}

#[test]
fn money_for_an_order_that_is_off_is_given_back_once() {
    let cancelled = run([pending(), vec![cancel()]].concat());
    let events = when(&cancelled, succeeded());
    assert!(matches!(&events[..], [E::RefundRequired { reason, .. }] if reason == "late_payment"));
    let owing = run([pending(), vec![cancel(), succeeded()]].concat());
    assert_eq!(when(&owing, succeeded()), vec![]);
    let settled = with(vec![cancel(), succeeded(), refunded()]);
    assert_eq!(when(&settled, succeeded()), vec![], "also when it has gone back");
    assert_eq!(when(&settled, refunded()), vec![], "and it goes back once");
    let settled = settled.unwrap();
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
    assert!(matches!(when(&asked, declined())[..], [E::PaymentFailed { .. }, E::Cancelled { .. }]));
}

#[test]
fn a_second_capture_of_the_same_payment_changes_nothing() {
    let paid = run([pending(), vec![pay_at(at(2)), succeeded()]].concat());
    assert_eq!(when(&paid, succeeded()), vec![]);
    assert_eq!(paid.unwrap().payment_status(), "paid");
}

#[test]
fn a_paid_order_that_is_cancelled_gives_all_of_its_money_back() {
    let paid = with(vec![pay_at(at(2)), succeeded()]);
    let events = when(&paid, cancel());
    let [E::Cancelled { from, is_refund_required, hold, .. }, E::RefundRequired { amount_minor, payment_id, .. }] =
        &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!((*from, *is_refund_required, *amount_minor), (OrderStatus::Paid, true, 60_498));
    assert_eq!((payment_id, hold.skus.len()), (&payment(), 2));
    let off = with(vec![pay_at(at(2)), succeeded(), cancel()]);
    assert_eq!(off.as_ref().unwrap().payment_status(), "paid", "until it is back");
    let settled = with(vec![pay_at(at(2)), succeeded(), cancel(), refunded()]).unwrap();
    assert_eq!(
        (settled.captured_minor, settled.refunded_minor, settled.payment_status()),
        (60_498, 60_498, "refunded")
    );
    let refused = OrderEntity::decide(&off, cancel());
    assert_eq!(refused, Err(OrderRefusal::InvalidTransition { from: "cancelled".into() }));
}

/// Money of another payment of a paid order goes back by itself; a cancellation gives back what is left, and not that once more.
#[test]
fn what_is_back_or_on_its_way_back_is_not_given_back_again() {
    let refund_of_another = || id(RefundId::parse, "rfnd_2");
    let another = OrderCommand::RecordPaymentSucceeded {
        payment_id: id(PaymentId::parse, "pay_2"),
        amount_minor: 60_498,
        refund_id: refund_of_another(),
        now: at(5),
    };
    let on_its_way = vec![pay_at(at(2)), succeeded(), another];
    let back = OrderCommand::RecordRefunded { refund_id: refund_of_another(), amount_minor: 60_498 };
    for commands in [on_its_way.clone(), [on_its_way, vec![back]].concat()] {
        let order = with(commands);
        assert_eq!(order.as_ref().unwrap().captured_minor, 2 * 60_498);
        assert_eq!(order.as_ref().unwrap().returned_minor(), 60_498);
        let events = when(&order, cancel());
        let [E::Cancelled { is_refund_required: true, .. }, E::RefundRequired { amount_minor, .. }] = &events[..]
        else {
            panic!("{events:?}")
        };
        assert_eq!(*amount_minor, 60_498);
    }
}

#[test]
fn an_order_can_be_cancelled_exactly_while_its_cancellation_is_not_refused() {
    let stages = [
        vec![submit()],
        vec![submit(), rejected("sku_a"), rejected("sku_b")],
        pending(),
        [pending(), vec![pay_at(at(2))]].concat(),
        [pending(), vec![pay_at(at(2)), action_required()]].concat(),
        [pending(), vec![pay_at(at(2)), succeeded()]].concat(),
        [pending(), vec![cancel()]].concat(),
    ];
    let can_be: Vec<bool> = stages
        .into_iter()
        .map(|stage| {
            let order = run(stage);
            let can_be = order.as_ref().unwrap().can_be_cancelled();
            assert_eq!(OrderEntity::decide(&order, cancel()).is_ok(), can_be, "{:?}", order.unwrap().status);
            can_be
        })
        .collect();
    assert_eq!(can_be, [false, false, true, true, true, true, false]);
}

#[test]
fn part_of_the_money_back_is_partially_refunded() {
    let mut order = with(vec![pay_at(at(2)), succeeded(), cancel()]).unwrap();
    state::evolve(&mut order, &E::Refunded { refund_id: refund_id(), amount_minor: 60_497 });
    assert_eq!(order.payment_status(), "partially_refunded");
    state::evolve(&mut order, &E::Refunded { refund_id: id(RefundId::parse, "rfnd_2"), amount_minor: 1 });
    assert_eq!(order.payment_status(), "refunded");
}

#[test]
fn an_order_that_is_off_agrees_to_no_payment() {
    let refusal = |state: &Option<Order>| match &when(state, pay_with("pay_2", at(3)))[..] {
        [E::PaymentRefused { reason, .. }] => reason.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(refusal(&with(vec![cancel()])), "order_cancelled");
    assert_eq!(refusal(&with(vec![expire(15 * 60)])), "reservation_expired");
    assert_eq!(refusal(&run(vec![submit()])), "order_not_found");
    assert_eq!(refusal(&run(vec![submit(), rejected("sku_a"), reserved("sku_b")])), "order_not_found");
}

#[test]
fn a_late_failure_of_another_payment_changes_nothing() {
    for late in [
        declined_of("pay_2"),
        OrderCommand::RecordPaymentVoided { payment_id: id(PaymentId::parse, "pay_2"), reason: "expired".into() },
    ] {
        for state in [with(vec![pay_at(at(2))]), with(vec![pay_at(at(2)), succeeded()]), with(vec![cancel()])] {
            assert_eq!(when(&state, late.clone()), vec![]);
        }
    }
    let paid = with(vec![pay_at(at(2)), succeeded()]);
    assert_eq!(when(&paid, declined()), vec![], "nor one of its own, once it is paid");
    assert_eq!(when(&paid, voided()), vec![]);
}

#[test]
fn five_payments_may_be_tried_and_no_sixth() {
    let mut state = run(pending());
    for attempt in 1..=PAYMENT_ATTEMPTS_MAX {
        assert_eq!(state.as_ref().unwrap().refusal_of_payment(at(3)), None);
        let events = when(&state, pay_with(&format!("pay_{attempt}"), at(3)));
        assert!(matches!(events[..], [E::PaymentStarted { attempt: said, .. }] if said == attempt), "{events:?}");
        for event in events.iter().chain(&when(&state, declined_of("pay_0"))) {
            OrderEntity::evolve(&mut state, event);
        }
        for event in when(&state, declined_of(&format!("pay_{attempt}"))) {
            OrderEntity::evolve(&mut state, &event);
        }
    }
    assert_eq!(state.as_ref().unwrap().refusal_of_payment(at(3)), Some("too_many_attempts"));
    let events = when(&state, pay_with("pay_6", at(3)));
    assert!(matches!(&events[..], [E::PaymentRefused { reason, .. }] if reason == "too_many_attempts"), "{events:?}");
}

#[test]
fn a_payment_that_waits_for_its_buyer_gives_way_to_a_cancellation_and_to_another_card() {
    let waits = with(vec![pay_at(at(2)), action_required()]);
    assert_eq!(waits.as_ref().unwrap().refusal_of_payment(at(3)), None);
    let events = when(&waits, cancel());
    let [E::PaymentVoidRequested { payment_id, .. }, E::Cancelled { reason, is_refund_required: false, .. }] =
        &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!((payment_id, reason.as_str()), (&payment(), "customer"));

    let other_card = with(vec![pay_at(at(2)), action_required(), voided()]);
    assert_eq!(other_card.as_ref().unwrap().status, OrderStatus::Pending);
    assert!(matches!(when(&other_card, pay_with("pay_2", at(3)))[..], [E::PaymentStarted { attempt: 2, .. }]));

    let acted = with(vec![pay_at(at(2)), action_required(), confirmed()]);
    assert_eq!(acted.as_ref().unwrap().refusal_of_payment(at(3)), Some("payment_in_progress"), "it is live again");
    assert!(matches!(when(&acted, cancel())[..], [E::CancelRequested { .. }]));
}

#[test]
fn a_cancellation_that_waits_is_done_once_the_payment_turns_out_to_be_open_or_voided() {
    let asked = with(vec![pay_at(at(2)), cancel()]);
    assert_eq!(asked.as_ref().unwrap().refusal_of_payment(at(3)), Some("payment_in_progress"));
    let events = when(&asked, action_required());
    assert!(matches!(events[..], [E::PaymentVoidRequested { .. }, E::Cancelled { .. }]), "{events:?}");
    let events = when(&asked, voided());
    assert!(matches!(events[..], [E::PaymentVoided { .. }, E::Cancelled { .. }]), "{events:?}");
    let over = when(&asked, expire(15 * 60));
    let [E::PaymentVoidRequested { .. }, E::Cancelled { reason, .. }] = &over[..] else { panic!("{over:?}") };
    assert_eq!(reason, "customer", "who asked before the time was over keeps the reason");
}

fn expired_during_its_payment() -> Vec<OrderCommand> {
    vec![pay_at(at(2)), action_required(), expire(15 * 60)]
}

#[test]
fn late_money_pays_when_all_of_the_stock_is_there_once_more() {
    let expired = with(expired_during_its_payment());
    let events = when(&expired, succeeded_at(at(1_000)));
    let [E::LatePaymentReceived { hold, until, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!((hold.skus.len(), *until), (2, at(1_060)));
    let late = [expired_during_its_payment(), vec![succeeded_at(at(1_000))]].concat();
    let waits = with(late.clone());
    assert_eq!(waits.as_ref().unwrap().payment_status(), "paid", "its money is here");
    assert_eq!(when(&waits, succeeded_at(at(1_001))), vec![]);
    let half = with([late.clone(), vec![committed("sku_a"), committed("sku_a")]].concat());
    assert_eq!(half.as_ref().unwrap().status, OrderStatus::Cancelled, "one line's answer given twice is one line");
    let events = when(&half, committed("sku_b"));
    assert!(matches!(events[..], [E::StockReacquired { .. }, E::Paid { from: OrderStatus::Cancelled, .. }]));
    let paid = with([late, vec![committed("sku_a"), committed("sku_b")]].concat()).unwrap();
    assert_eq!((paid.status, paid.captured_minor, paid.payment_status()), (OrderStatus::Paid, 60_498, "paid"));
    assert_eq!((paid.cancel_reason.as_ref(), paid.late_payment.as_ref()), (None, None));
    assert!(matches!(
        when(&Some(paid), cancel())[..],
        [E::Cancelled { .. }, E::RefundRequired { amount_minor: 60_498, .. }]
    ));
}

#[test]
fn late_money_goes_back_when_some_of_the_stock_is_gone_or_does_not_answer() {
    let late = [expired_during_its_payment(), vec![succeeded_at(at(1_000))]].concat();
    for (first, second) in [(rejected("sku_a"), committed("sku_b")), (committed("sku_a"), rejected("sku_b"))] {
        let half = with([late.clone(), vec![first.clone()]].concat());
        let events = when(&half, second.clone());
        let [_, E::HoldReturned { hold, .. }, E::RefundRequired { amount_minor, refund_id: owed, .. }] = &events[..]
        else {
            panic!("{events:?}")
        };
        assert_eq!((hold.skus.len(), *amount_minor, owed), (2, 60_498, &refund_id()));
        let over = with([late.clone(), vec![first, second, refunded()]].concat()).unwrap();
        assert_eq!((over.status, over.payment_status()), (OrderStatus::Cancelled, "refunded"));
        assert_eq!((over.captured_minor, over.late_payment), (60_498, None));
    }
    let silent = with([late, vec![committed("sku_a")]].concat());
    assert_eq!(when(&silent, expire(1_059)), vec![]);
    let events = when(&silent, expire(1_060));
    assert!(matches!(events[..], [E::HoldReturned { .. }, E::RefundRequired { .. }]), "{events:?}");
}

#[test]
fn money_for_an_order_that_somebody_called_off_goes_back_however_much_stock_there_is() {
    let called_off = with(vec![pay_at(at(2)), action_required(), cancel()]);
    let events = when(&called_off, succeeded());
    assert!(matches!(&events[..], [E::RefundRequired { reason, .. }] if reason == "late_payment"), "{events:?}");
    let owing = with(vec![pay_at(at(2)), action_required(), cancel(), succeeded()]).unwrap();
    assert_eq!((owing.captured_minor, owing.payment_status()), (60_498, "paid"), "it is not unpaid");
}

#[test]
fn an_order_whose_stock_does_not_answer_is_given_up_and_nothing_stays_held() {
    let waits = run(vec![submit(), reserved("sku_a")]);
    assert_eq!(when(&waits, expire(299)), vec![]);
    let events = when(&waits, expire(300));
    let [E::PlacingTimedOut { hold }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(hold.skus, [sku("sku_a"), sku("sku_b")], "also what has not answered: it may be held");
    let given_up = run(vec![submit(), reserved("sku_a"), expire(300)]);
    assert_eq!(given_up.as_ref().unwrap().status, OrderStatus::Rejected);
    let events = when(&given_up, reserved("sku_b"));
    assert!(matches!(&events[..], [E::HoldReturned { hold, .. }] if hold.skus == [sku("sku_b")]), "{events:?}");
    assert_eq!(when(&given_up, expire(9_999)), vec![]);
}

#[test]
fn a_rejection_given_twice_counts_once() {
    let state = run(vec![submit(), rejected("sku_a")]);
    assert_eq!(when(&state, rejected("sku_a")), vec![]);
    assert_eq!(when(&state, reserved("sku_a")), vec![], "nor is it answered again in other words");
    assert_eq!(when(&run(vec![submit(), reserved("sku_a")]), rejected("sku_a")), vec![]);
    let over = run(vec![submit(), rejected("sku_a"), rejected("sku_b")]);
    assert_eq!(over.as_ref().unwrap().shortfalls.len(), 2);
    assert_eq!(when(&over, rejected("sku_b")), vec![]);
}

#[test]
fn the_owner_of_a_hold_says_what_is_to_become_of_it() {
    let returned =
        |state: &Option<Order>, name: &str| matches!(&when(state, hold_overdue(name))[..], [E::HoldReturned { .. }]);
    assert!(returned(&None, "sku_a"), "an order that does not exist needs nothing");
    assert!(returned(&with(vec![cancel()]), "sku_a"));
    assert!(returned(&run(vec![submit(), rejected("sku_a"), rejected("sku_b")]), "sku_a"));
    assert!(returned(&run(pending()), "sku_c"), "what it never ordered");
    for needs_it in [run(vec![submit()]), run(pending()), with(vec![pay_at(at(2))])] {
        assert_eq!(when(&needs_it, hold_overdue("sku_a")), vec![]);
    }
    let waits_once_more = with([expired_during_its_payment(), vec![succeeded_at(at(1_000))]].concat());
    assert_eq!(when(&waits_once_more, hold_overdue("sku_a")), vec![]);
    let paid = with(vec![pay_at(at(2)), succeeded()]);
    assert!(
        matches!(&when(&paid, hold_overdue("sku_a"))[..], [E::HoldCommitted { hold }] if hold.skus == [sku("sku_a")])
    );
}

#[test]
fn a_paid_order_whose_stock_was_lost_is_cancelled_and_refunded() {
    let paid = with(vec![pay_at(at(2)), succeeded()]);
    let events = when(&paid, rejected("sku_a"));
    let [E::Cancelled { reason, .. }, E::RefundRequired { amount_minor: 60_498, .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(reason, "out_of_stock");
    assert_eq!(when(&paid, rejected("sku_c")), vec![]);
}

#[test]
fn every_change_that_its_buyer_sees_is_a_new_revision() {
    let stages = [
        vec![],
        vec![pay_at(at(2))],
        vec![pay_at(at(2)), succeeded()],
        vec![pay_at(at(2)), succeeded(), cancel()],
        vec![pay_at(at(2)), succeeded(), cancel(), refunded()],
    ];
    let revisions: Vec<u64> = stages.into_iter().map(|stage| with(stage).unwrap().revision).collect();
    assert_eq!(revisions[0], 1, "its creation is the first");
    assert!(revisions.is_sorted_by(|before, after| before < after), "{revisions:?}");
    assert_eq!(with(vec![cancel()]).unwrap().revision, 2);
    assert_eq!(with(vec![pay_at(at(2)), declined()]).unwrap().revision, 3);
    assert_eq!(with(vec![pay_at(at(2)), cancel()]).unwrap().revision, 3, "it says that a cancellation is asked for");
}

#[test]
fn an_order_waits_for_nothing_without_a_deadline() {
    assert_eq!(run(vec![submit()]).unwrap().deadline(), Some(at(300)));
    assert_eq!(run(pending()).unwrap().deadline(), Some(at(15 * 60)));
    assert_eq!(with(vec![pay_at(at(14 * 60))]).unwrap().deadline(), Some(at(24 * 60)));
    let late = with([expired_during_its_payment(), vec![succeeded_at(at(1_000))]].concat());
    assert_eq!(late.unwrap().deadline(), Some(at(1_060)));
    assert_eq!(with(vec![cancel()]).unwrap().deadline(), None);
    assert_eq!(with(vec![pay_at(at(2)), succeeded()]).unwrap().deadline(), None);
}

#[test]
fn an_order_has_its_row_from_its_creation_on_and_not_before() {
    let mut state = None;
    let mut tables_after = |command| {
        let mut tables: Vec<&str> = Vec::new();
        for event in when(&state, command) {
            OrderEntity::evolve(&mut state, &event);
            let writes = OrderEntity::views(&"ord_1".into(), &state, &event, 1);
            let inserts = writes.iter().filter(|write| write.sql.starts_with("INSERT"));
            tables.extend(inserts.filter_map(|write| write.sql.split(' ').nth(2)));
        }
        tables
    };
    assert_eq!(tables_after(submit()), ["orders_waiting"]);
    assert_eq!(tables_after(reserved("sku_a")), [] as [&str; 0]);
    assert_eq!(tables_after(reserved("sku_b")), ["orders"]);
}

#[test]
fn an_order_counts_under_its_status_from_its_creation_on() {
    let counts = |state: Option<Order>| OrderEntity::counts(&state);
    let under =
        |status: &str, [captured, refunded]: [i64; 2]| Some(Counts::new(status, [1, 60_498, captured, refunded]));
    assert_eq!(counts(None), None);
    assert_eq!(counts(run(vec![submit()])), None, "nobody has been told of it");
    assert_eq!(counts(run(pending())), under("pending", [0, 0]));
    let paid = vec![pay_at(at(2)), succeeded()];
    assert_eq!(counts(with(paid.clone())), under("paid", [60_498, 0]));
    assert_eq!(counts(with([paid.clone(), vec![cancel()]].concat())), under("cancelled", [60_498, 0]));
    let refunded = OrderCommand::RecordRefunded { refund_id: refund_id(), amount_minor: 60_498 };
    assert_eq!(counts(with([paid, vec![cancel(), refunded]].concat())), under("cancelled", [60_498, 60_498]));
}

/// The rows that the read model has of an order after these commands, of which each comes a second after the one before.
fn rows_after(commands: Vec<OrderCommand>) -> BTreeMap<String, Vec<SqlValue>> {
    let (mut state, mut rows) = (None, BTreeMap::new());
    for (at_ms, command) in (0..).step_by(1_000).zip(commands) {
        for event in when(&state, command) {
            OrderEntity::evolve(&mut state, &event);
            write_rows(&mut rows, OrderEntity::views(&"ord_1".into(), &state, &event, at_ms));
        }
    }
    rows
}

fn write_rows(rows: &mut BTreeMap<String, Vec<SqlValue>>, writes: Vec<ViewWrite>) {
    for ViewWrite { sql, params } in writes {
        match sql.split(' ').collect::<Vec<_>>()[..] {
            ["INSERT", "INTO", table, ..] => drop(rows.insert(table.to_owned(), params)),
            ["DELETE", "FROM", table, ..] => drop(rows.remove(table)),
            _ => panic!("{sql}"),
        }
    }
}

fn values<const N: usize>(id: &str, numbers: [i64; N]) -> Vec<SqlValue> {
    std::iter::once(id.into()).chain(numbers.map(SqlValue::Integer)).collect()
}

#[test]
fn an_order_that_waits_for_its_stock_is_due_until_that_is_decided() {
    let due = |commands| rows_after(commands).remove("orders_waiting");
    assert_eq!(due(vec![submit()]), Some(values("ord_1", [300_000])));
    assert_eq!(due(vec![submit(), reserved("sku_a")]), Some(values("ord_1", [300_000])), "half of it");
    assert_eq!(due(pending()), None);
    assert_eq!(due(vec![submit(), rejected("sku_a"), rejected("sku_b")]), None);
    assert_eq!(due(vec![submit(), expire(300)]), None);

    let late = [pending(), expired_during_its_payment(), vec![succeeded_at(at(1_000))]].concat();
    assert_eq!(due(late.clone()), Some(values("ord_1", [1_060_000])), "it waits once more");
    let half = [late.clone(), vec![committed("sku_a")]].concat();
    assert_eq!(due(half.clone()), Some(values("ord_1", [1_060_000])));
    assert_eq!(due([half.clone(), vec![committed("sku_b")]].concat()), None);
    assert_eq!(due([half, vec![rejected("sku_b")]].concat()), None);
    assert_eq!(due([late, vec![expire(1_060)]].concat()), None);
}

#[test]
fn the_row_of_an_order_says_where_it_stands_and_when_that_changed() {
    let shown = |commands| {
        let mut row = rows_after([pending(), commands].concat()).remove("orders").unwrap();
        let doc = row.pop().unwrap();
        let SqlValue::Text(doc) = &doc else { panic!("{doc:?}") };
        (row, serde_json::from_str::<Order>(doc).unwrap())
    };
    let row = |status: &str, [updated, expires]: [i64; 2], [captured, refunded]: [i64; 2]| -> Vec<SqlValue> {
        let texts: [SqlValue; 3] = ["ord_1".into(), "usr_1".into(), status.into()];
        let numbers = [0, updated, expires, 60_498, captured, refunded].map(SqlValue::Integer);
        texts.into_iter().chain(numbers).chain(["USD".into()]).collect()
    };
    let paid = vec![pay_at(at(14 * 60)), succeeded()];
    for (commands, expected) in [
        (vec![], row("pending", [2_000, 900_000], [0, 0])),
        (vec![pay_at(at(14 * 60))], row("payment_processing", [3_000, 1_440_000], [0, 0])),
        (paid.clone(), row("paid", [4_000, 1_440_000], [60_498, 0])),
        ([paid, vec![cancel(), refunded()]].concat(), row("cancelled", [6_000, 1_440_000], [60_498, 60_498])),
    ] {
        let (found, order) = shown(commands.clone());
        assert_eq!(found, expected);
        assert_eq!(order, with(commands).unwrap(), "and is the order itself");
    }
}

/// The row of its debts: when they are due, how often they were asked for again, lines, refunds, money.
fn debts_after(commands: Vec<OrderCommand>) -> Option<[i64; 5]> {
    let row = rows_after(commands).remove("open_debts")?;
    let [id, _since, numbers @ ..] = &row[..] else { panic!("{row:?}") };
    assert_eq!(*id, SqlValue::from("ord_1"));
    let numbers = numbers.iter().map(|value| match value {
        SqlValue::Integer(number) => *number,
        other => panic!("{other:?}"),
    });
    Some(numbers.collect::<Vec<_>>().try_into().unwrap())
}

#[test]
fn an_order_has_a_row_of_its_debts_for_as_long_as_it_has_any() {
    let released = |name: &str| OrderCommand::RecordStockSettled {
        sku: sku(name),
        standing: contracts::messages::ReservationStanding::Released,
    };
    assert_eq!(debts_after(pending()), None);
    let paid = [pending(), vec![pay_at(at(2)), succeeded()]].concat();
    assert_eq!(
        debts_after(paid.clone()),
        Some([34_000, 0, 2, 0, 0]),
        "both lines are to be sold, from the fifth second on"
    );
    let half = [paid.clone(), vec![committed("sku_a")]].concat();
    assert_eq!(debts_after(half.clone()), Some([35_000, 0, 1, 0, 0]));
    let again = [half.clone(), vec![OrderCommand::AskAgain { round: 1 }]].concat();
    assert_eq!(debts_after(again.clone()), Some([66_000, 1, 1, 0, 0]), "twice as long a pause");
    assert_eq!(debts_after([again, vec![committed("sku_b")]].concat()), None);

    let off = [half, vec![cancel()]].concat();
    assert_eq!(debts_after(off.clone()), Some([36_000, 0, 2, 1, 60_498]));
    let free = [off, vec![released("sku_a"), released("sku_b")]].concat();
    assert_eq!(debts_after(free.clone()), Some([38_000, 0, 0, 1, 60_498]), "the money is still owed");
    assert_eq!(debts_after([free, vec![refunded()]].concat()), None);
}

#[test]
fn an_event_that_changes_no_debt_does_not_put_one_off() {
    let paid = [pending(), vec![pay_at(at(2)), succeeded()]].concat();
    let refused_meanwhile = [paid.clone(), vec![pay_with("pay_2", at(5))]].concat();
    assert_eq!(debts_after(refused_meanwhile), debts_after(paid));
    // A hold of nothing is no debt, and no row is written for it.
    let nothing = Hold { reservation_id: draft().reservation_id, skus: vec![] };
    let order = run(vec![submit()]);
    assert!(views::debts_row(&"ord_1".into(), order.as_ref(), &E::Rejected { hold: nothing }, 1).is_none());
}

#[test]
fn money_of_an_order_that_never_was_is_shown_until_it_is_back_and_asked_for_by_nobody() {
    let rows = rows_after(vec![succeeded()]);
    assert_eq!(rows["open_debts"], values("ord_1", [0, i64::MAX, 0, 0, 1, 60_498]));
    assert_eq!(rows.len(), 1, "there is no order to show");
    assert_eq!(
        rows_after(vec![succeeded(), pay_at(at(2))]),
        rows,
        "a payment that is refused has nothing to do with it"
    );
    assert!(rows_after(vec![succeeded(), refunded()]).is_empty());
}

#[test]
fn an_order_without_a_line_is_refused() {
    let empty = Draft { lines: vec![], subtotal_minor: 0, total_minor: 0, ..draft() };
    assert!(empty.adds_up());
    let command = OrderCommand::Submit { draft: Box::new(empty), now: at(0), payable_for_ms: 1 };
    assert_eq!(OrderEntity::decide(&None, command), Err(OrderRefusal::DoesNotAddUp));
    assert_eq!(
        OrderEntity::decide(&run(vec![submit()]), submit()),
        Err(OrderRefusal::Exists),
        "nor is it placed twice"
    );
}

#[test]
fn a_payment_in_another_currency_is_refused_whatever_its_amount() {
    let mut foreign = pay_at(at(2));
    if let OrderCommand::StartPayment { currency, .. } = &mut foreign {
        *currency = "EUR".parse().unwrap();
    }
    let events = when(&run(pending()), foreign);
    assert!(matches!(&events[..], [E::PaymentRefused { reason, .. }] if reason == "amount_mismatch"), "{events:?}");
}

#[test]
fn only_the_payment_that_an_order_waits_for_can_wait_for_its_buyer() {
    let action_required_of = |name: &str| OrderCommand::RecordActionRequired { payment_id: id(PaymentId::parse, name) };
    let confirmed_of = |name: &str| OrderCommand::RecordConfirmed { payment_id: id(PaymentId::parse, name) };
    let processing = with(vec![pay_at(at(2))]);
    assert_eq!(when(&processing, action_required()), vec![E::PaymentActionRequired { payment_id: payment() }]);
    assert_eq!(when(&processing, confirmed()), vec![], "it did not wait");
    assert_eq!(when(&processing, action_required_of("pay_2")), vec![]);
    let waits = with(vec![pay_at(at(2)), action_required()]);
    assert_eq!(when(&waits, action_required()), vec![], "that is known");
    assert_eq!(when(&waits, confirmed()), vec![E::PaymentConfirmed { payment_id: payment() }]);
    assert_eq!(when(&waits, confirmed_of("pay_2")), vec![]);
    let paid = with(vec![pay_at(at(2)), succeeded()]);
    assert_eq!((when(&paid, action_required()), when(&paid, confirmed())), (vec![], vec![]), "it is over");
}

#[test]
fn a_cancellation_that_is_asked_for_twice_is_noted_once() {
    let processing = with(vec![pay_at(at(2))]);
    assert_eq!(when(&processing, cancel()), vec![E::CancelRequested { reason: "customer".into() }]);
    assert_eq!(when(&with(vec![pay_at(at(2)), cancel()]), cancel()), vec![]);
}

#[test]
fn an_order_that_cost_nothing_is_called_off_without_a_refund() {
    let free = Draft { discount_minor: 60_498, total_minor: 0, ..draft() };
    let submit = OrderCommand::Submit { draft: Box::new(free), now: at(0), payable_for_ms: 900_000 };
    let mut pay = pay_at(at(2));
    if let OrderCommand::StartPayment { amount_minor, .. } = &mut pay {
        *amount_minor = 0;
    }
    let succeeded = OrderCommand::RecordPaymentSucceeded {
        payment_id: payment(),
        amount_minor: 0,
        refund_id: refund_id(),
        now: at(4),
    };
    let paid = run(vec![submit, reserved("sku_a"), reserved("sku_b"), pay, succeeded]);
    let events = when(&paid, cancel());
    assert!(matches!(events[..], [E::Cancelled { is_refund_required: false, .. }]), "{events:?}");
}

#[test]
fn an_answer_of_the_stock_to_an_order_that_stands_changes_nothing() {
    for state in [run(pending()), with(vec![pay_at(at(2))])] {
        assert_eq!(when(&state, reserved("sku_a")), vec![]);
        assert_eq!(when(&state, rejected("sku_a")), vec![]);
    }
    let late = with([expired_during_its_payment(), vec![succeeded_at(at(1_000))]].concat());
    assert_eq!(
        when(&late, reserved("sku_a")),
        vec![],
        "it has asked for the stock once more, and does not give it back"
    );
    assert_eq!(when(&late, committed("sku_c")), vec![], "what it never ordered");
    let off = with(vec![cancel()]);
    let events = when(&off, reserved("sku_a"));
    assert!(matches!(&events[..], [E::HoldReturned { reason, .. }] if reason == "cancelled"), "{events:?}");
}

#[test]
fn a_hold_under_another_reservation_is_none_of_an_orders() {
    let other = OrderCommand::AnswerForHold { reservation_id: id(ReservationId::parse, "res_2"), sku: sku("sku_a") };
    for state in [run(pending()), with(vec![pay_at(at(2)), succeeded()])] {
        let events = when(&state, other.clone());
        let [E::HoldReturned { hold, reason }] = &events[..] else { panic!("{events:?}") };
        assert_eq!((hold.reservation_id.as_str(), reason.as_str()), ("res_2", "not_of_this_order"));
    }
}

#[test]
fn only_the_whole_money_of_the_payment_that_ran_out_of_time_buys_the_stock_once_more() {
    let money = |name: &str, amount_minor| OrderCommand::RecordPaymentSucceeded {
        payment_id: id(PaymentId::parse, name),
        amount_minor,
        refund_id: refund_id(),
        now: at(1_000),
    };
    let expired = with(expired_during_its_payment());
    assert!(matches!(when(&expired, money("pay_1", 60_498))[..], [E::LatePaymentReceived { .. }]));
    for (name, amount_minor) in [("pay_1", 60_497), ("pay_2", 60_498)] {
        let events = when(&expired, money(name, amount_minor));
        assert!(matches!(events[..], [E::RefundRequired { .. }]), "{events:?}");
    }
    let standing = run(pending());
    let events = when(&standing, money("pay_1", 60_498));
    assert!(matches!(events[..], [E::RefundRequired { .. }]), "{events:?}");
}

#[test]
fn an_order_that_asks_for_its_stock_once_more_does_not_owe_its_release_any_more() {
    let expired = with(expired_during_its_payment()).unwrap();
    assert_eq!(expired.debts.stock.len(), 2);
    let late = with([expired_during_its_payment(), vec![succeeded_at(at(1_000))]].concat()).unwrap();
    assert!(late.debts.are_settled());
}

#[test]
fn an_order_says_beforehand_what_it_would_say_to_a_payment() {
    let order = run(vec![
        submit(),
        OrderCommand::RecordReserved { sku: sku("sku_a"), now: at(1) },
        OrderCommand::RecordReserved { sku: sku("sku_b"), now: at(1) },
    ])
    .unwrap();
    let amount = |minor, currency: &str| contracts::Money::from_minor(minor, currency.parse().unwrap()).unwrap();
    assert_eq!(order.refusal_of_amount(amount(60_498, "USD"), at(2)), None);
    for (minor, currency) in [(60_497, "USD"), (60_499, "USD"), (60_498, "EUR")] {
        assert_eq!(order.refusal_of_amount(amount(minor, currency), at(2)), Some("amount_mismatch"));
    }
    // That its time is over is said first.
    let late = Timestamp::from_millis(order.expires_at.as_millis());
    assert_eq!(order.refusal_of_amount(amount(1, "USD"), late), Some("reservation_expired"));
}
