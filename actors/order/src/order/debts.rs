//! What an order still owes: its last word to the stock, and money to its buyer.
//!
//! A settled order has asked others for something: units are to be sold or set free, money is to go back. Each of these stands
//! here from the event that asked until the answer has come, and so does how often it was asked for again. The order owns it; the
//! read model has a row for each order with open debts, for operators and for the [`crate::reconciler`], which has the order
//! ask again. Nothing here asks by itself.

use std::collections::BTreeMap;

use contracts::{
    RefundId, ReservationId, Sku,
    messages::{ReservationStanding, Settlement},
};
use serde::{Deserialize, Serialize};

use super::{
    event::{AskedAgain, OrderEvent, OwedRefund, OwedStock},
    status::OrderStatus,
    stock::Hold,
};

/// How long an answer may take before it is asked for again, in milliseconds.
pub const ASKED_AGAIN_AFTER_MS: i64 = 30 * 1_000;
/// The longest pause between two times of asking, in milliseconds: 1 h. The pauses double up to it.
pub const ASKED_AGAIN_AFTER_MAX_MS: i64 = 60 * 60 * 1_000;
/// Asked so often in vain, it is worth an operator's look.
pub const IN_VAIN: u32 = 3;

/// The open debts of an order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Debts {
    /// By SKU: what is to become of its units.
    pub stock: BTreeMap<Sku, Settlement>,
    /// By refund: what is to go back.
    pub refunds: BTreeMap<RefundId, OwedRefund>,
    /// How often all of it was asked for again.
    pub asked_again: u32,
}

impl Debts {
    /// True where everything was answered.
    #[must_use]
    pub fn are_settled(&self) -> bool {
        self.stock.is_empty() && self.refunds.is_empty()
    }

    /// Takes an event into account.
    pub fn note(&mut self, event: &OrderEvent) {
        match event {
            // Its stock has answered before: it was taken once more.
            OrderEvent::Paid { from: OrderStatus::Cancelled, .. } => {}
            OrderEvent::Paid { hold, .. } | OrderEvent::HoldCommitted { hold } => {
                self.expect(hold, Settlement::Committed);
            }
            OrderEvent::Cancelled { hold, .. }
            | OrderEvent::Rejected { hold }
            | OrderEvent::PlacingTimedOut { hold }
            | OrderEvent::HoldReturned { hold, .. } => self.expect(hold, Settlement::Released),
            // It wants the stock once more, and has a deadline of its own for that.
            OrderEvent::LatePaymentReceived { hold, .. } => {
                self.stock.retain(|sku, _| !hold.skus.contains(sku));
            }
            OrderEvent::StockSettled { sku } => {
                self.stock.remove(sku);
            }
            OrderEvent::RefundRequired { payment_id, refund_id, amount_minor, reason } => {
                let owed = OwedRefund {
                    refund_id: refund_id.clone(),
                    payment_id: payment_id.clone(),
                    amount_minor: *amount_minor,
                    reason: reason.clone(),
                };
                self.refunds.insert(refund_id.clone(), owed);
                self.asked_again = 0;
            }
            OrderEvent::Refunded { refund_id, .. } => {
                self.refunds.remove(refund_id);
            }
            OrderEvent::DebtsAskedAgain(again) => self.asked_again = again.round,
            OrderEvent::Submitted { .. }
            | OrderEvent::LineReserved { .. }
            | OrderEvent::LineRejected { .. }
            | OrderEvent::Created { .. }
            | OrderEvent::PaymentStarted { .. }
            | OrderEvent::PaymentRefused { .. }
            | OrderEvent::PaymentActionRequired { .. }
            | OrderEvent::PaymentConfirmed { .. }
            | OrderEvent::PaymentFailed { .. }
            | OrderEvent::PaymentVoidRequested { .. }
            | OrderEvent::PaymentVoided { .. }
            | OrderEvent::StockReacquired { .. }
            | OrderEvent::StockNotReacquired { .. }
            | OrderEvent::CancelRequested { .. } => {}
        }
    }

    /// Whether an event adds to them, takes from them, or puts off when they are asked for again.
    pub(super) fn are_touched_by(event: &OrderEvent) -> bool {
        match event {
            OrderEvent::Paid { hold, .. }
            | OrderEvent::Cancelled { hold, .. }
            | OrderEvent::Rejected { hold }
            | OrderEvent::PlacingTimedOut { hold }
            | OrderEvent::LatePaymentReceived { hold, .. }
            | OrderEvent::HoldCommitted { hold }
            | OrderEvent::HoldReturned { hold, .. } => !hold.skus.is_empty(),
            OrderEvent::StockSettled { .. }
            | OrderEvent::RefundRequired { .. }
            | OrderEvent::Refunded { .. }
            | OrderEvent::DebtsAskedAgain(_) => true,
            OrderEvent::Submitted { .. }
            | OrderEvent::LineReserved { .. }
            | OrderEvent::LineRejected { .. }
            | OrderEvent::Created { .. }
            | OrderEvent::PaymentStarted { .. }
            | OrderEvent::PaymentRefused { .. }
            | OrderEvent::PaymentActionRequired { .. }
            | OrderEvent::PaymentConfirmed { .. }
            | OrderEvent::PaymentFailed { .. }
            | OrderEvent::PaymentVoidRequested { .. }
            | OrderEvent::PaymentVoided { .. }
            | OrderEvent::StockReacquired { .. }
            | OrderEvent::StockNotReacquired { .. }
            | OrderEvent::CancelRequested { .. } => false,
        }
    }

    fn expect(&mut self, hold: &Hold, wanted: Settlement) {
        self.stock.extend(hold.skus.iter().map(|sku| (sku.clone(), wanted)));
        self.asked_again = 0;
    }

    /// What an answer of the stock comes to: nothing where it is not the one that is waited for. (Units that were sold before
    /// the order was called off are told of as sold, and are yet to be set free.)
    #[must_use]
    pub fn record_stock(&self, sku: Sku, standing: ReservationStanding) -> Vec<OrderEvent> {
        let is_settled = self.stock.get(&sku).is_some_and(|wanted| standing.satisfies(*wanted));
        if is_settled { vec![OrderEvent::StockSettled { sku }] } else { vec![] }
    }

    /// Asks for all of it again. Each round is asked once.
    #[must_use]
    pub fn ask_again(&self, reservation_id: &ReservationId, round: u32) -> Vec<OrderEvent> {
        if self.are_settled() || round != self.asked_again + 1 {
            return vec![];
        }
        let owed = |(sku, wanted): (&Sku, &Settlement)| OwedStock { sku: sku.clone(), wanted: *wanted };
        vec![OrderEvent::DebtsAskedAgain(Box::new(AskedAgain {
            round,
            reservation_id: reservation_id.clone(),
            stock: self.stock.iter().map(owed).collect(),
            refunds: self.refunds.values().cloned().collect(),
        }))]
    }

    /// All that is owed in refunds, in minor units.
    pub(super) fn owed_minor(&self) -> i64 {
        self.refunds.values().map(|refund| refund.amount_minor).sum()
    }
}

/// When debts that were asked for again so often are due, in milliseconds after the last time.
#[must_use]
pub fn pause_ms(asked_again: u32) -> i64 {
    ASKED_AGAIN_AFTER_MS.saturating_mul(1 << asked_again.min(16)).min(ASKED_AGAIN_AFTER_MAX_MS)
}

#[cfg(test)]
mod tests {
    use contracts::PaymentId;

    use super::*;

    fn sku(name: &str) -> Sku {
        Sku::parse(name).unwrap()
    }

    fn reservation() -> ReservationId {
        ReservationId::parse("res_1").unwrap()
    }

    fn hold() -> Hold {
        Hold { reservation_id: reservation(), skus: vec![sku("sku_a"), sku("sku_b")] }
    }

    fn paid() -> OrderEvent {
        let payment_id = PaymentId::parse("pay_1").unwrap();
        OrderEvent::Paid {
            payment_id,
            amount_minor: 1,
            currency: "USD".parse().unwrap(),
            hold: hold(),
            from: OrderStatus::PaymentProcessing,
        }
    }

    fn cancelled() -> OrderEvent {
        let (from, reason) = (OrderStatus::Paid, "customer".to_owned());
        OrderEvent::Cancelled { from, reason, is_refund_required: true, hold: hold() }
    }

    fn refund_required() -> OrderEvent {
        OrderEvent::RefundRequired {
            payment_id: PaymentId::parse("pay_1").unwrap(),
            refund_id: RefundId::parse("rfnd_1").unwrap(),
            amount_minor: 700,
            reason: "customer".into(),
        }
    }

    fn after(events: &[OrderEvent]) -> Debts {
        let mut debts = Debts::default();
        events.iter().for_each(|event| debts.note(event));
        debts
    }

    fn settled(name: &str) -> OrderEvent {
        OrderEvent::StockSettled { sku: sku(name) }
    }

    #[test]
    fn what_was_asked_of_the_stock_is_owed_until_the_answer_that_is_waited_for() {
        use ReservationStanding as S;
        let sold = after(&[paid()]);
        assert_eq!(sold.record_stock(sku("sku_a"), S::Committed), [settled("sku_a")]);
        for other in [S::Reserved, S::Released, S::Rejected, S::Unknown] {
            assert_eq!(sold.record_stock(sku("sku_a"), other), [], "{other:?}");
        }
        assert_eq!(sold.record_stock(sku("sku_of_another"), S::Committed), []);
        assert!(!after(&[paid(), settled("sku_a")]).are_settled());
        assert!(after(&[paid(), settled("sku_a"), settled("sku_b")]).are_settled());

        // Called off after it was paid: that they were sold is old news by now.
        let returned = after(&[paid(), cancelled()]);
        assert_eq!(returned.record_stock(sku("sku_a"), S::Committed), []);
        assert_eq!(returned.record_stock(sku("sku_a"), S::Reserved), []);
        for free in [S::Released, S::Rejected, S::Unknown] {
            assert_eq!(returned.record_stock(sku("sku_a"), free), [settled("sku_a")], "{free:?}");
        }
    }

    #[test]
    fn all_that_is_open_is_asked_for_again_once_a_round() {
        let debts = after(&[paid(), settled("sku_a"), refund_required()]);
        let [OrderEvent::DebtsAskedAgain(again)] = &debts.ask_again(&reservation(), 1)[..] else { panic!("asked") };
        assert_eq!((again.round, &again.reservation_id), (1, &reservation()));
        assert_eq!(again.stock, [OwedStock { sku: sku("sku_b"), wanted: Settlement::Committed }]);
        assert_eq!(again.refunds.iter().map(|refund| refund.amount_minor).collect::<Vec<_>>(), [700]);
        assert_eq!(debts.ask_again(&reservation(), 2), [], "another round's turn");

        let asked = after(&[paid(), OrderEvent::DebtsAskedAgain(again.clone())]);
        assert_eq!(asked.ask_again(&reservation(), 1), [], "asked already");
        assert_eq!(asked.ask_again(&reservation(), 2).len(), 1);
        assert_eq!(after(&[paid(), settled("sku_a"), settled("sku_b")]).ask_again(&reservation(), 1), []);
        // A new debt begins anew.
        assert_eq!(after(&[paid(), OrderEvent::DebtsAskedAgain(again.clone()), cancelled()]).asked_again, 0);
    }

    #[test]
    fn money_is_owed_until_it_is_back() {
        assert_eq!(after(&[refund_required()]).owed_minor(), 700);
        let refunded = OrderEvent::Refunded { refund_id: RefundId::parse("rfnd_1").unwrap(), amount_minor: 700 };
        assert!(after(&[refund_required(), refunded]).are_settled());
    }

    #[test]
    fn the_pauses_double_up_to_an_hour() {
        assert_eq!([0, 1, 2].map(pause_ms), [30_000, 60_000, 120_000]);
        assert_eq!([7, 8, u32::MAX].map(pause_ms), [ASKED_AGAIN_AFTER_MAX_MS; 3]);
    }
}
