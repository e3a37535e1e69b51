//! How much each buyer holds without having paid for it: orders, and units in them.
//!
//! One account may not hold the shop's stock: who has as many unpaid orders or units as a [`Cap`] allows is refused before
//! any stock is asked for. The count is in memory. An order is in it from the moment it is submitted until an event says that
//! it is paid, cancelled or rejected; at the service's start it is made again from the orders' view. It may count too much,
//! never too little, save for requests that are in flight together: an outcome that its asker did not live to hear leaves an
//! order in it. So before anybody is refused, the orders that are held against them are asked themselves, and what has ended
//! is struck off.
//!
//! The service owns it and feeds it; the edge asks. It dies with the service and is made again with it. It does not decide
//! whom a cap is for: the edge knows who is staff, and which limits hold.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use contracts::{OrderId, OrderedLine, Timestamp, UserId};
use dashmap::DashMap;

use crate::order::{Draft, OrderEvent, PAYABLE_FOR_MS};

/// Orders counted at once: about 250 bytes each. Beyond it an order is not counted, which harms nobody but the cap.
const COUNTED_MAX: usize = 500_000;
/// A full count is searched for orders that must have ended long ago at most this often, in milliseconds …
const SWEEP_INTERVAL_MS: i64 = 10_000;
/// … and those are them whose time was over by so much, in milliseconds: no payment takes an hour.
const FORGOTTEN_AFTER_MS: i64 = 60 * 60 * 1_000;
/// The least that a refused buyer is told to wait, in seconds.
const RETRY_AFTER_SECONDS_MIN: i64 = 1;
/// The most: by then an order without a payment has expired.
const RETRY_AFTER_SECONDS_MAX: i64 = PAYABLE_FOR_MS / 1_000;

/// What one buyer may hold unpaid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cap {
    /// Orders.
    pub orders_max: u64,
    /// Units, over all of them.
    pub units_max: u64,
}

/// Why an order would be too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TooMuchUnpaid {
    /// Unpaid orders that the buyer has.
    pub orders: u64,
    /// Units in them.
    pub units: u64,
    /// Units of the order that was refused.
    pub wanted: u64,
    /// The cap's orders.
    pub orders_max: u64,
    /// The cap's units.
    pub units_max: u64,
    /// When the first of the orders that are held expires, in seconds from now.
    pub retry_after_seconds: u32,
}

/// One unpaid order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    units: u64,
    expires_at: Timestamp,
}

/// The count. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Unpaid(Arc<Tables>);

#[derive(Default)]
struct Tables {
    held: DashMap<UserId, BTreeMap<OrderId, Held>>,
    /// Whose an order is: the events of its end do not say. No guard of one table is held while the other is touched.
    owners: DashMap<OrderId, UserId>,
    swept_at_ms: AtomicI64,
}

/// Units of some lines.
#[must_use]
pub fn units_of(lines: &[OrderedLine]) -> u64 {
    lines.iter().map(|line| u64::from(line.quantity.get())).sum()
}

impl Unpaid {
    /// An order that is submitted, or was found.
    pub(crate) fn hold(&self, draft: &Draft, expires_at: Timestamp) {
        if self.0.owners.len() >= COUNTED_MAX {
            self.sweep(Timestamp::now());
            if self.0.owners.len() >= COUNTED_MAX {
                return;
            }
        }
        let held = Held { units: units_of(&draft.lines), expires_at };
        self.0.owners.insert(draft.order_id.clone(), draft.user_id.clone());
        self.0.held.entry(draft.user_id.clone()).or_default().insert(draft.order_id.clone(), held);
    }

    /// An order that is paid, or off, or never was.
    pub(crate) fn let_go(&self, order_id: &OrderId) {
        let Some((_, user_id)) = self.0.owners.remove(order_id) else { return };
        if let Some(mut held) = self.0.held.get_mut(&user_id) {
            held.remove(order_id);
        }
        // Whoever holds nothing is not remembered.
        self.0.held.remove_if(&user_id, |_, held| held.is_empty());
    }

    /// Forgets what must have ended without a word.
    fn sweep(&self, now: Timestamp) {
        let swept_at = self.0.swept_at_ms.load(Ordering::Relaxed);
        let is_due = now.as_millis() >= swept_at.saturating_add(SWEEP_INTERVAL_MS);
        let is_ours = is_due
            && self
                .0
                .swept_at_ms
                .compare_exchange(swept_at, now.as_millis(), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if !is_ours {
            return;
        }
        let is_over = |held: &Held| now.as_millis() >= held.expires_at.as_millis().saturating_add(FORGOTTEN_AFTER_MS);
        let mut over: Vec<OrderId> = Vec::new();
        for entry in &self.0.held {
            over.extend(entry.iter().filter(|(_, held)| is_over(held)).map(|(order_id, _)| order_id.clone()));
        }
        over.iter().for_each(|order_id| self.let_go(order_id));
    }

    /// Takes account of what has become of an order.
    pub(crate) fn follow(&self, order_id: &OrderId, events: &[OrderEvent]) {
        for event in events {
            match event {
                OrderEvent::Submitted { draft, expires_at, .. } | OrderEvent::Created { draft, expires_at, .. } => {
                    self.hold(draft, *expires_at);
                }
                OrderEvent::Rejected { .. }
                | OrderEvent::PlacingTimedOut { .. }
                | OrderEvent::Paid { .. }
                | OrderEvent::Cancelled { .. } => {
                    self.let_go(order_id);
                }
                // Whatever else happens to it, it is as unpaid as it was.
                _ => {}
            }
        }
    }

    pub(crate) fn of(&self, user_id: &UserId) -> BTreeMap<OrderId, Held> {
        self.0.held.get(user_id).map(|held| held.clone()).unwrap_or_default()
    }

    /// Whether `user_id` may order `wanted` units more.
    pub(crate) fn admit(&self, user_id: &UserId, wanted: u64, cap: Cap, now: Timestamp) -> Result<(), TooMuchUnpaid> {
        let held = self.of(user_id);
        let (orders, units) = (held.len() as u64, held.values().map(|held| held.units).sum::<u64>());
        if orders < cap.orders_max && units.saturating_add(wanted) <= cap.units_max {
            return Ok(());
        }
        let first = held.values().map(|held| held.expires_at).min().unwrap_or(now);
        let seconds = (first.as_millis() - now.as_millis()).div_euclid(1_000) + 1;
        let seconds = seconds.clamp(RETRY_AFTER_SECONDS_MIN, RETRY_AFTER_SECONDS_MAX);
        let retry_after_seconds = u32::try_from(seconds).unwrap_or(1);
        let Cap { orders_max, units_max } = cap;
        Err(TooMuchUnpaid { orders, units, wanted, orders_max, units_max, retry_after_seconds })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use contracts::{Currency, PaymentId, ProductId, Quantity, RefundId, ReservationId, Sku};
    use ractor::{Actor, ActorRef};
    use runtime::{
        CommandId, Gate, RequestContext, Roster,
        journal::memory::{Faults, MemoryDisk, MemoryJournal},
        supervision::{Supervisor, SupervisorMessage, SupervisorSpec},
    };

    use super::*;
    use crate::{
        order::{Hold, OrderCommand, OrderStatus},
        service::{OrderError, OrderService, VIEWS},
    };

    const CAP: Cap = Cap { orders_max: 3, units_max: 10 };

    fn user(number: u8) -> UserId {
        UserId::parse(&format!("usr_{number}")).unwrap()
    }

    fn order_id(number: u8) -> OrderId {
        OrderId::parse(&format!("ord_{number}")).unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn draft(number: u8, of: u8, units: &[u32]) -> Box<Draft> {
        let line = |(place, units): (usize, &u32)| OrderedLine {
            sku: Sku::parse(&format!("sku_{place}")).unwrap(),
            product_id: ProductId::parse("prod_1").unwrap(),
            name: "Cable".into(),
            quantity: Quantity::new(*units).unwrap(),
            unit_price_minor: 0,
            line_total_minor: 0,
        };
        Box::new(Draft {
            order_id: order_id(number),
            reservation_id: ReservationId::parse("res_1").unwrap(),
            user_id: user(of),
            lines: units.iter().enumerate().map(line).collect(),
            currency: Currency::USD,
            subtotal_minor: 0,
            discount_minor: 0,
            tax_minor: 0,
            shipping_minor: 0,
            total_minor: 0,
            shipping_address: None,
        })
    }

    fn submitted(number: u8, of: u8, units: &[u32]) -> OrderEvent {
        let expires_at = at(100 + i64::from(number));
        OrderEvent::Submitted { draft: draft(number, of, units), at: at(0), expires_at }
    }

    fn ended(how: &str) -> OrderEvent {
        let hold = Hold { reservation_id: ReservationId::parse("res_1").unwrap(), skus: vec![] };
        match how {
            "paid" => {
                let payment_id = PaymentId::parse("pay_1").unwrap();
                OrderEvent::Paid {
                    payment_id,
                    amount_minor: 0,
                    currency: Currency::USD,
                    hold,
                    from: OrderStatus::PaymentProcessing,
                }
            }
            "cancelled" => OrderEvent::Cancelled {
                from: OrderStatus::Pending,
                reason: "expired".into(),
                is_refund_required: false,
                hold,
            },
            _ => OrderEvent::Rejected { hold },
        }
    }

    #[test]
    fn orders_and_units_are_counted_for_each_buyer_until_they_end() {
        let unpaid = Unpaid::default();
        let follow = |number, event: OrderEvent| unpaid.follow(&order_id(number), &[event]);
        let admit = |of, wanted| unpaid.admit(&user(of), wanted, CAP, at(50)).is_ok();
        assert!(admit(1, 10) && !admit(1, 11), "the first order has the same limit");

        follow(1, submitted(1, 1, &[2, 3]));
        follow(1, submitted(1, 1, &[2, 3]));
        assert!(admit(1, 5) && !admit(1, 6), "told twice, counted once");
        assert!(admit(2, 10), "another buyer is not in the way");
        follow(2, submitted(2, 1, &[1]));
        follow(3, submitted(3, 1, &[1]));
        let refused = unpaid.admit(&user(1), 1, CAP, at(50)).unwrap_err();
        assert_eq!((refused.orders, refused.units, refused.wanted), (3, 7, 1));
        assert_eq!(refused.retry_after_seconds, 52, "the first expires at 101");

        for (number, how) in [(1, "paid"), (2, "cancelled"), (3, "rejected")] {
            follow(number, ended(how));
            assert!(admit(1, 1), "{how}");
        }
        assert!(unpaid.0.held.is_empty() && unpaid.0.owners.is_empty(), "who holds nothing is not remembered");
    }

    #[test]
    fn what_is_told_to_wait_is_within_bounds() {
        let unpaid = Unpaid::default();
        let wait = |now| unpaid.admit(&user(1), 11, CAP, at(now)).unwrap_err().retry_after_seconds;
        assert_eq!(wait(0), 1, "nothing is held");
        unpaid.follow(&order_id(1), &[submitted(1, 1, &[1])]);
        assert_eq!((wait(-1_000_000), wait(101), wait(1_000)), (900, 1, 1));
    }

    #[test]
    fn what_must_have_ended_long_ago_is_forgotten_where_room_is_needed() {
        let unpaid = Unpaid::default();
        unpaid.follow(&order_id(1), &[submitted(1, 1, &[1])]);
        unpaid.follow(&order_id(9), &[submitted(9, 1, &[1])]);
        unpaid.sweep(at(101 + 60 * 60 - 11));
        assert_eq!(unpaid.of(&user(1)).len(), 2);
        unpaid.sweep(at(101 + 60 * 60));
        assert_eq!(unpaid.of(&user(1)).into_keys().collect::<Vec<_>>(), [order_id(9)]);
        unpaid.sweep(at(109 + 60 * 60));
        assert_eq!(unpaid.0.owners.len(), 1, "it has just been searched");
    }

    #[test]
    fn beyond_its_room_an_order_is_not_counted_until_another_has_ended() {
        let unpaid = Unpaid::default();
        let (others, buyer, far_off) = (user(1), user(9), Timestamp::from_millis(i64::MAX));
        // As many orders of others as there is room for: none of them can have ended.
        for number in 0..COUNTED_MAX as u128 {
            unpaid.0.owners.insert(OrderId::from_ulid(number), others.clone());
        }
        unpaid.hold(&draft(9, 9, &[1]), far_off);
        assert!(unpaid.of(&buyer).is_empty());
        unpaid.let_go(&OrderId::from_ulid(0));
        unpaid.hold(&draft(9, 9, &[1]), far_off);
        assert_eq!(unpaid.of(&buyer).into_keys().collect::<Vec<_>>(), [order_id(9)]);
    }

    /// The service, and its tree.
    async fn started(disk: &MemoryDisk) -> (OrderService, ActorRef<SupervisorMessage>) {
        let journal = MemoryJournal::open(disk, Faults::none()).await.unwrap();
        let roster = Roster::new();
        let service = OrderService::new(journal, &Gate::new(100), &roster);
        let spec = SupervisorSpec::new("order", service.children());
        let (tree, _) = Supervisor::spawn(None, Supervisor, (spec, roster)).await.unwrap();
        (service, tree)
    }

    async fn stopped((service, tree): (OrderService, ActorRef<SupervisorMessage>)) {
        tree.stop_and_wait(None, None).await.unwrap();
        service.journal().close().await;
    }

    fn context() -> RequestContext {
        RequestContext::new("test", Duration::from_secs(20))
    }

    /// Something happens to an order, and the count does not hear of it.
    async fn unheard(service: &OrderService, number: u8, what: &str, command: OrderCommand) {
        let command_id = CommandId::of(&[&number.to_string(), what]);
        service.entities().ask(order_id(number).as_str(), command, context().command(command_id)).await.unwrap();
    }

    /// Orders `units` of one thing, and has them held.
    async fn ordered_unheard(service: &OrderService, number: u8, of: u8, units: u32) {
        let (draft, now) = (draft(number, of, &[units]), Timestamp::now());
        let sku = draft.lines[0].sku.clone();
        unheard(service, number, "submit", OrderCommand::Submit { draft, now, payable_for_ms: 900_000 }).await;
        unheard(service, number, "reserved", OrderCommand::RecordReserved { sku, now }).await;
    }

    async fn cancelled_unheard(service: &OrderService, number: u8) {
        let (reason, refund_id) = ("customer".to_owned(), RefundId::parse("rfnd_1").unwrap());
        unheard(service, number, "cancel", OrderCommand::Cancel { reason, refund_id }).await;
    }

    #[tokio::test]
    async fn the_orders_of_who_would_be_refused_are_asked_first_and_what_has_ended_is_struck_off() {
        let disk = MemoryDisk::new(VIEWS).unwrap();
        let running = started(&disk).await;
        let service = &running.0;
        let cap = Cap { orders_max: 2, units_max: 10 };
        let admit = async |wanted| service.admit(&user(1), wanted, cap, &context()).await;
        let far_off = Timestamp::from_millis(i64::MAX);
        // One that stands, one that was never submitted, and one that is off.
        ordered_unheard(service, 1, 1, 3).await;
        ordered_unheard(service, 3, 1, 1).await;
        cancelled_unheard(service, 3).await;
        for (number, units) in [(1, 3), (2, 1), (3, 1)] {
            service.unpaid.hold(&draft(number, 1, &[units]), far_off);
        }
        assert_eq!(admit(7).await, Ok(()));
        assert_eq!(service.unpaid.of(&user(1)).into_keys().collect::<Vec<_>>(), [order_id(1)]);
        let Err(OrderError::TooMuchUnpaid(refused)) = admit(8).await else { panic!("it stands") };
        assert_eq!((refused.orders, refused.units, refused.wanted), (1, 3, 8));
        cancelled_unheard(service, 1).await;
        assert_eq!(admit(8).await, Ok(()));
        stopped(running).await;
    }

    #[tokio::test]
    async fn after_a_restart_what_is_unpaid_counts_as_before_and_nothing_else_does() {
        let disk = MemoryDisk::new(VIEWS).unwrap();
        let before = started(&disk).await;
        ordered_unheard(&before.0, 1, 1, 3).await;
        ordered_unheard(&before.0, 2, 1, 4).await;
        ordered_unheard(&before.0, 3, 1, 5).await;
        cancelled_unheard(&before.0, 3).await;
        stopped(before).await;
        let after = started(&disk).await;
        after.0.count_unpaid().await.unwrap();
        let held = after.0.unpaid.of(&user(1));
        let units: Vec<(OrderId, u64)> = held.into_iter().map(|(order_id, held)| (order_id, held.units)).collect();
        assert_eq!(units, [(order_id(1), 3), (order_id(2), 4)]);
        stopped(after).await;
    }
}
