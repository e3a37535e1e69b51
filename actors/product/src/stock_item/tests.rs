//! Given these events, when this is asked, then this happens; and whatever is asked in whatever order, every unit is in
//! exactly one place.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn product(number: u32) -> ProductId {
    ProductId::parse(&format!("prod_{number}")).unwrap()
}

fn reservation(number: u32) -> ReservationId {
    ReservationId::parse(&format!("res_{number}")).unwrap()
}

fn order(number: u32) -> OrderId {
    OrderId::parse(&format!("ord_{number}")).unwrap()
}

fn reserve_of(number: u32, units: u32) -> StockCommand {
    StockCommand::Reserve {
        reservation_id: reservation(number),
        order_id: order(number),
        quantity: Quantity::new(units).unwrap(),
        expires_at: Timestamp::EPOCH,
    }
}

fn commit_of(number: u32) -> StockCommand {
    StockCommand::Commit { reservation_id: reservation(number), order_id: order(number) }
}

fn release_of(number: u32) -> StockCommand {
    StockCommand::Release { reservation_id: reservation(number), reason: "test".into() }
}

fn ask_owner_of(number: u32) -> StockCommand {
    let ask_again_at = Timestamp::from_seconds(300);
    StockCommand::AskOwner { reservation_id: reservation(number), expires_at: Timestamp::EPOCH, ask_again_at }
}

fn receive_of(quantity: u32) -> StockCommand {
    StockCommand::Receive { product_id: product(1), quantity, reason: "test".into() }
}

fn adjust_by(delta: i64, expected_on_hand: Option<i64>) -> StockCommand {
    StockCommand::Adjust { delta, reason: "count".into(), reference: None, expected_on_hand }
}

fn ask(stock: &mut Stock, command: StockCommand) -> Decision {
    let events = StockItem::decide(stock, command)?;
    for event in &events {
        StockItem::evolve(stock, event);
        assert!(stock.levels.are_sound(), "{:?} after {event:?}", stock.levels);
    }
    Ok(events)
}

fn given(commands: &[StockCommand]) -> Stock {
    let mut stock = Stock::default();
    for command in commands {
        ask(&mut stock, command.clone()).unwrap();
    }
    stock
}

/// (reserved, committed, available)
fn numbers(stock: &Stock) -> (i64, i64, i64) {
    (stock.levels.reserved, stock.levels.committed, stock.levels.available())
}

/// What the command came to, by the names of its events.
fn when(stock: &mut Stock, command: StockCommand) -> Vec<&'static str> {
    ask(stock, command).unwrap().iter().map(EventPayload::event_type).collect()
}

/// A claim; what was asked before, what is asked now, what it comes to, and the numbers afterwards.
type Case = (&'static str, Vec<StockCommand>, StockCommand, &'static [&'static str], (i64, i64, i64));

#[test]
fn the_table_of_reservations() {
    let none: &[&'static str] = &[];
    let table: &[Case] = &[
        ("what is there is held", vec![receive_of(5)], reserve_of(1, 5), &["stock.reserved"], (5, 0, 0)),
        ("what is not there is not", vec![receive_of(5)], reserve_of(1, 6), &["stock.reservation_rejected"], (0, 0, 5)),
        ("a second hold does nothing", vec![receive_of(5), reserve_of(1, 2)], reserve_of(1, 2), none, (2, 0, 3)),
        (
            "a rejected one stays rejected",
            vec![receive_of(1), reserve_of(1, 2), receive_of(9)],
            reserve_of(1, 2),
            none,
            (0, 0, 10),
        ),
        (
            "a released one is not held again",
            vec![receive_of(5), reserve_of(1, 2), release_of(1)],
            reserve_of(1, 2),
            none,
            (0, 0, 5),
        ),
        ("a hold is sold", vec![receive_of(5), reserve_of(1, 2)], commit_of(1), &["stock.committed"], (0, 2, 3)),
        ("it is sold once", vec![receive_of(5), reserve_of(1, 2), commit_of(1)], commit_of(1), none, (0, 2, 3)),
        (
            "what was released is taken again",
            vec![receive_of(5), reserve_of(1, 2), release_of(1)],
            commit_of(1),
            &["stock.reacquired"],
            (0, 2, 3),
        ),
        (
            "unless somebody else has it",
            vec![receive_of(5), reserve_of(1, 2), release_of(1), reserve_of(2, 4)],
            commit_of(1),
            &["stock.commit_rejected"],
            (4, 0, 1),
        ),
        ("selling the unknown is answered", vec![receive_of(5)], commit_of(1), &["stock.commit_rejected"], (0, 0, 5)),
        ("a hold is freed", vec![receive_of(5), reserve_of(1, 2)], release_of(1), &["stock.released"], (0, 0, 5)),
        (
            "a sale is taken back",
            vec![receive_of(5), reserve_of(1, 2), commit_of(1)],
            release_of(1),
            &["stock.released"],
            (0, 0, 5),
        ),
        ("it is freed once", vec![receive_of(5), reserve_of(1, 2), release_of(1)], release_of(1), none, (0, 0, 5)),
        ("the unknown is not freed", vec![receive_of(5)], release_of(1), none, (0, 0, 5)),
        ("the rejected is not freed", vec![receive_of(1), reserve_of(1, 2)], release_of(1), none, (0, 0, 1)),
        ("nothing received, nothing added", vec![receive_of(5)], receive_of(0), none, (0, 0, 5)),
    ];
    for (claim, before, command, expected, after) in table {
        let mut stock = given(before);
        assert_eq!(when(&mut stock, command.clone()), *expected, "{claim}");
        assert_eq!(numbers(&stock), *after, "{claim}");
    }
}

#[test]
fn a_reservation_of_an_unknown_sku_is_rejected_as_an_event_with_nothing_available() {
    let mut stock = Stock::default();
    let events = ask(&mut stock, reserve_of(1, 3)).unwrap();
    let requested = Quantity::new(3).unwrap();
    let rejected =
        StockEvent::ReservationRejected { reservation_id: reservation(1), order_id: order(1), requested, available: 0 };
    assert_eq!(events, [rejected]);
    assert!(StockItem::views(&"sku_1".into(), &stock, &events[0], 0).is_empty());
}

#[test]
fn a_sku_is_one_products() {
    let mut stock = given(&[StockCommand::Claim { product_id: product(1) }]);
    assert_eq!(when(&mut stock, StockCommand::Claim { product_id: product(1) }).len(), 0);
    let taken = Err(StockRefusal::SkuTaken { by: product(1) });
    assert_eq!(ask(&mut stock, StockCommand::Claim { product_id: product(2) }), taken);
    let foreign = StockCommand::Receive { product_id: product(2), quantity: 1, reason: "test".into() };
    assert_eq!(ask(&mut stock, foreign), taken);
}

#[test]
fn a_correction_takes_nothing_that_is_promised_and_expects_what_it_says() {
    let mut stock = given(&[receive_of(10), reserve_of(1, 3), reserve_of(2, 4), commit_of(2)]);
    for (delta, expected_on_hand, refusal) in [
        (-4, None, StockRefusal::InsufficientStock { available: 3 }),
        (i64::MIN, None, StockRefusal::InsufficientStock { available: 3 }),
        (1, Some(9), StockRefusal::OnHandDiffers { on_hand: 10 }),
        (ON_HAND_MAX, None, StockRefusal::TooMany { on_hand: 10 }),
        (i64::MAX, None, StockRefusal::TooMany { on_hand: 10 }),
    ] {
        assert_eq!(ask(&mut stock, adjust_by(delta, expected_on_hand)), Err(refusal));
    }
    let corrected = ask(&mut stock, adjust_by(-3, Some(10))).unwrap();
    assert!(matches!(corrected[..], [StockEvent::Adjusted { on_hand_after: 7, .. }]));
    assert_eq!(numbers(&stock), (3, 4, 0));
    assert_eq!(ask(&mut Stock::default(), adjust_by(1, None)), Err(StockRefusal::UnknownSku));
}

#[test]
fn a_sale_remembers_a_bounded_number_of_the_refused_and_all_that_hold() {
    let mut stock = given(&[receive_of(2), reserve_of(0, 1), reserve_of(1, 1), release_of(1)]);
    // Taken again: it is in the queue of the closed, and counts all the same.
    assert_eq!(when(&mut stock, commit_of(1)), ["stock.reacquired"]);
    let refused = u32::try_from(CLOSED_REMEMBERED_MAX).unwrap() + 10;
    for number in 2..2 + refused {
        assert_eq!(when(&mut stock, reserve_of(number, 1)), ["stock.reservation_rejected"]);
    }
    assert!(stock.reservations.len() <= CLOSED_REMEMBERED_MAX + 2, "{} remembered", stock.reservations.len());
    assert_eq!(numbers(&stock), (1, 1, 0));
    assert_eq!(when(&mut stock, release_of(1)), ["stock.released"]);
    assert_eq!(when(&mut stock, commit_of(0)), ["stock.committed"]);
}

/// The runtime falls back to the events without a word where it cannot read a snapshot: slow, and nobody would notice.
#[test]
fn the_state_survives_a_snapshot() {
    let stock =
        given(&[receive_of(5), reserve_of(1, 2), commit_of(1), reserve_of(2, 9), reserve_of(3, 1), release_of(3)]);
    let config = bincode::config::standard();
    let bytes = bincode::serde::encode_to_vec(&stock, config).unwrap();
    let (mut back, _): (Stock, usize) = bincode::serde::decode_from_slice(&bytes, config).unwrap();
    assert_eq!((back.levels, back.version, &back.product_id), (stock.levels, stock.version, &stock.product_id));
    assert_eq!(back.closed, stock.closed);
    for (command, expected) in [(commit_of(1), vec![]), (commit_of(2), vec!["stock.commit_rejected"])] {
        assert_eq!(when(&mut back, command), expected);
    }
}

#[test]
fn a_view_is_the_changed_rows_only() {
    let mut stock = given(&[receive_of(5)]);
    let events = ask(&mut stock, reserve_of(1, 2)).unwrap();
    let writes = StockItem::views(&"sku_1".into(), &stock, &events[0], 0);
    assert_eq!(writes.iter().map(|write| write.sql).collect::<Vec<_>>(), [UPSERT_STOCK, UPSERT_RESERVATION]);
    assert_eq!(stock.version, 2);
}

#[test]
fn the_row_of_a_reservation_says_where_it_stands() {
    let mut stock = given(&[receive_of(5)]);
    let mut standing = |command| {
        let events = ask(&mut stock, command).unwrap();
        let writes = StockItem::views(&"sku_1".into(), &stock, &events[0], 0);
        (writes[1].params[0].clone(), writes[1].params[4].clone())
    };
    for (command, status) in [
        (reserve_of(1, 2), "reserved"),
        (commit_of(1), "committed"),
        (release_of(1), "released"),
        (commit_of(1), "committed"),
    ] {
        assert_eq!(standing(command), ("res_1".into(), status.into()));
    }
}

#[test]
fn only_for_what_is_held_an_order_is_asked_and_nothing_changes_by_asking() {
    let mut stock =
        given(&[receive_of(9), reserve_of(1, 2), reserve_of(2, 1), commit_of(2), reserve_of(3, 1), release_of(3)]);
    let (levels, version) = (stock.levels, stock.version);
    let events = ask(&mut stock, ask_owner_of(1)).unwrap();
    let [StockEvent::HoldOverdue { order_id, quantity, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!((order_id, quantity.get()), (&order(1), 2));
    let writes = StockItem::views(&"sku_1".into(), &stock, &events[0], 0);
    assert_eq!(writes.iter().map(|write| write.sql).collect::<Vec<_>>(), [ASK_AGAIN_AT], "when it is asked again");
    for decided in [2, 3, 4] {
        assert_eq!(ask(&mut stock, ask_owner_of(decided)), Ok(vec![]), "{decided}");
    }
    assert_eq!((stock.levels, stock.version), (levels, version));
}

fn any_command() -> impl Strategy<Value = StockCommand> {
    prop_oneof![
        1 => (0..20_u32).prop_map(receive_of),
        1 => (-8..8_i64).prop_map(|delta| adjust_by(delta, None)),
        4 => (0..12_u32, 1..9_u32).prop_map(|(number, units)| reserve_of(number, units)),
        3 => (0..12_u32).prop_map(commit_of),
        3 => (0..12_u32).prop_map(release_of),
        1 => (0..12_u32).prop_map(|number| settle_of(number, Settlement::Committed)),
        1 => (0..12_u32).prop_map(|number| settle_of(number, Settlement::Released)),
        1 => (0..12_u32).prop_map(ask_owner_of),
    ]
}

proptest! {
    /// A second ledger, kept from the events alone, agrees after every command.
    #[test]
    fn sold_and_reserved_and_available_are_what_was_received(
        commands in prop::collection::vec(any_command(), 0..200)
    ) {
        let mut stock = Stock::default();
        let (mut came, mut held, mut sold) = (0_i64, HashMap::new(), HashMap::new());
        for command in commands {
            let Ok(events) = ask(&mut stock, command) else { continue };
            for event in events {
                match event {
                    StockEvent::Received { quantity, .. } => came += i64::from(quantity),
                    StockEvent::Adjusted { delta, .. } => came += delta,
                    StockEvent::Reserved { reservation_id, quantity, .. } => {
                        prop_assert!(held.insert(reservation_id, units(quantity)).is_none());
                    }
                    StockEvent::Committed { reservation_id, .. } => {
                        let quantity = held.remove(&reservation_id).unwrap();
                        prop_assert!(sold.insert(reservation_id, quantity).is_none());
                    }
                    StockEvent::Reacquired { reservation_id, quantity, .. } => {
                        prop_assert!(!held.contains_key(&reservation_id));
                        prop_assert!(sold.insert(reservation_id, units(quantity)).is_none());
                    }
                    StockEvent::Released { reservation_id, quantity, .. } => {
                        let freed = held.remove(&reservation_id).or_else(|| sold.remove(&reservation_id));
                        prop_assert_eq!(freed, Some(units(quantity)));
                    }
                    StockEvent::Claimed { .. }
                    | StockEvent::ReservationRejected { .. }
                    | StockEvent::Settled { .. }
                    | StockEvent::HoldOverdue { .. }
                    | StockEvent::CommitRejected { .. } => {}
                }
            }
            let (reserved, committed, available) = numbers(&stock);
            prop_assert_eq!(reserved, held.values().sum::<i64>());
            prop_assert_eq!(committed, sold.values().sum::<i64>());
            prop_assert_eq!(committed + reserved + available, came);
            prop_assert!(available >= 0);
        }
    }

    /// Asked twice, whatever it is but units that come in, the second time changes nothing.
    #[test]
    fn a_second_asking_about_a_reservation_changes_nothing(commands in prop::collection::vec(any_command(), 0..60)) {
        let mut stock = Stock::default();
        for command in commands {
            let is_about_a_reservation =
                !matches!(command, StockCommand::Receive { .. } | StockCommand::Adjust { .. });
            let _ = ask(&mut stock, command.clone());
            if is_about_a_reservation {
                let before = (stock.levels, stock.version);
                let _ = ask(&mut stock, command);
                prop_assert_eq!((stock.levels, stock.version), before);
            }
        }
    }

    #[test]
    fn an_event_reads_back_as_it_was_written(commands in prop::collection::vec(any_command(), 0..60)) {
        let mut stock = Stock::default();
        for command in commands {
            for event in ask(&mut stock, command).unwrap_or_default() {
                let json = serde_json::to_string(&event).unwrap();
                prop_assert_eq!(serde_json::from_str::<StockEvent>(&json).unwrap(), event);
            }
        }
    }
}

fn settle_of(number: u32, wanted: Settlement) -> StockCommand {
    StockCommand::Settle { reservation_id: reservation(number), order_id: order(number), wanted }
}

#[test]
fn whoever_asks_again_is_answered_in_any_case_and_no_unit_moves_twice() {
    use Settlement::{Committed, Released};
    let standing = |stock: &mut Stock, wanted| match &ask(stock, settle_of(1, wanted)).unwrap()[..] {
        [StockEvent::Settled { standing, .. }] => *standing,
        other => panic!("{other:?}"),
    };
    // What was lost on its way is done now; asked once more, it is said where it stands.
    let mut stock = given(&[receive_of(9), reserve_of(1, 4)]);
    assert_eq!(when(&mut stock, settle_of(1, Committed)), ["stock.committed"]);
    assert_eq!(standing(&mut stock, Committed), ReservationStanding::Committed);
    assert_eq!(numbers(&stock), (0, 4, 5));
    // Called off since then.
    assert_eq!(when(&mut stock, settle_of(1, Released)), ["stock.released"]);
    assert_eq!(standing(&mut stock, Released), ReservationStanding::Released);
    assert_eq!(numbers(&stock), (0, 0, 9));
    // Sold after all, while there is enough; and not when there is not.
    assert_eq!(when(&mut stock, settle_of(1, Committed)), ["stock.reacquired"]);
    let mut empty = given(&[receive_of(4), reserve_of(1, 4), release_of(1), reserve_of(2, 4)]);
    assert_eq!(when(&mut empty, settle_of(1, Committed)), ["stock.commit_rejected"]);
    // Of a reservation that nobody knows nothing is held.
    let mut stock = given(&[receive_of(9)]);
    assert_eq!(standing(&mut stock, Released), ReservationStanding::Unknown);
    assert_eq!(when(&mut stock, settle_of(1, Committed)), ["stock.commit_rejected"]);
    assert_eq!(numbers(&stock), (0, 0, 9));
}
