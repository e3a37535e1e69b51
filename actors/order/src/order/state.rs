//! An order as it stands, and how events change it.

use std::collections::{BTreeMap, BTreeSet};

use contracts::{Currency, Money, PAYMENT_ATTEMPTS_MAX, PaymentId, Quantity, RefundId, Sku, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    debts::Debts,
    draft::Draft,
    event::OrderEvent,
    status::OrderStatus,
    stock::{Hold, Shortfall},
    terms::PLACING_FOR_MS,
};

/// The reason of a cancellation that nobody asked for: its time was over.
pub const EXPIRED: &str = "expired";
/// What an order says to a payment of another amount than its total.
pub(super) const AMOUNT_MISMATCH: &str = "amount_mismatch";

/// Money that came after its time, while the stock is asked for once more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatePayment {
    /// By which payment.
    pub payment_id: PaymentId,
    /// How much, in minor units.
    pub amount_minor: i64,
    /// The id of the refund, should the stock not be there.
    pub refund_id: RefundId,
    /// Until when it is waited for.
    pub until: Timestamp,
    /// The lines that are there once more.
    pub acquired: Vec<Sku>,
    /// The lines that are not.
    pub missing: Vec<Sku>,
}

impl LatePayment {
    fn new(payment_id: &PaymentId, amount_minor: i64, refund_id: &RefundId, until: Timestamp) -> Self {
        let (payment_id, refund_id) = (payment_id.clone(), refund_id.clone());
        Self { payment_id, amount_minor, refund_id, until, acquired: Vec::new(), missing: Vec::new() }
    }

    pub(super) fn is_answered(&self, sku: &Sku) -> bool {
        self.acquired.contains(sku) || self.missing.contains(sku)
    }
}

/// An order as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// What was ordered.
    pub draft: Draft,
    /// Where it stands.
    pub status: OrderStatus,
    /// When it was ordered.
    pub created_at: Timestamp,
    /// Until when it could be paid when it was created: what its buyer was told.
    pub first_expires_at: Timestamp,
    /// Until when it can be paid.
    pub expires_at: Timestamp,
    /// The changes its buyer can see, from 1: its creation.
    pub revision: u64,
    /// The lines that are held.
    pub reserved: Vec<Sku>,
    /// The lines that are not there.
    pub shortfalls: Vec<Shortfall>,
    /// The payment on its way, or the one that paid.
    pub payment_id: Option<PaymentId>,
    /// Payments tried.
    pub attempts: u32,
    /// Why it is to be cancelled once its payment is decided.
    pub cancel_requested: Option<String>,
    /// Why it is off.
    pub cancel_reason: Option<String>,
    /// Captured for it, in minor units.
    pub captured_minor: i64,
    /// Refunds that are owed, by refund: in minor units.
    pub owed: BTreeMap<RefundId, i64>,
    /// Given back, in minor units.
    pub refunded_minor: i64,
    /// The numbered messages it has published.
    #[serde(default)]
    pub published: u64,
    /// What it has asked for and was not answered.
    #[serde(default)]
    pub debts: Debts,
    /// The payments whose money is counted in what is captured. These last fields are younger than orders in the field.
    #[serde(default)]
    pub captured_by: BTreeSet<PaymentId>,
    /// True while the payment on its way waits for its buyer to act.
    #[serde(default)]
    pub is_action_required: bool,
    /// Money that came after its time, while the stock is asked for once more.
    #[serde(default)]
    pub late_payment: Option<LatePayment>,
}

impl Order {
    /// The payment in one word, as the API has it.
    #[must_use]
    pub fn payment_status(&self) -> &'static str {
        match (self.captured_minor, self.refunded_minor) {
            (0, _) => "unpaid",
            (_, 0) => "paid",
            (captured, refunded) if refunded < captured => "partially_refunded",
            _ => "refunded",
        }
    }

    /// Given back, or promised to be, in minor units.
    #[must_use]
    pub fn returned_minor(&self) -> i64 {
        self.refunded_minor + self.owed.values().sum::<i64>()
    }

    /// How many of a SKU are ordered.
    #[must_use]
    pub fn quantity_of(&self, sku: &Sku) -> Option<Quantity> {
        self.draft.lines.iter().find(|line| line.sku == *sku).map(|line| line.quantity)
    }

    /// The stock that is held for it.
    #[must_use]
    pub fn hold(&self) -> Hold {
        Hold { reservation_id: self.draft.reservation_id.clone(), skus: self.reserved.clone() }
    }

    /// The stock of all of its lines, whoever has answered.
    #[must_use]
    pub fn whole_hold(&self) -> Hold {
        let skus = self.draft.lines.iter().map(|line| line.sku.clone()).collect();
        Hold { reservation_id: self.draft.reservation_id.clone(), skus }
    }

    /// Until when it waits for what it waits for; nothing where it waits for nobody.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        match self.status {
            OrderStatus::Placing => Some(self.placing_deadline()),
            OrderStatus::Pending | OrderStatus::PaymentProcessing => Some(self.expires_at),
            OrderStatus::Rejected | OrderStatus::Paid | OrderStatus::Cancelled => {
                self.late_payment.as_ref().map(|late| late.until)
            }
        }
    }

    fn placing_deadline(&self) -> Timestamp {
        Timestamp::from_millis(self.created_at.as_millis() + PLACING_FOR_MS).min(self.expires_at)
    }

    /// Why no payment of it can be started at `now`, whatever its amount, in the word that it would say to one.
    pub(super) fn refusal_of_payment(&self, now: Timestamp) -> Option<&'static str> {
        match self.status {
            OrderStatus::Placing | OrderStatus::Rejected => Some("order_not_found"),
            OrderStatus::Paid => Some("already_paid"),
            OrderStatus::Cancelled if self.cancel_reason.as_deref() == Some(EXPIRED) => Some("reservation_expired"),
            OrderStatus::Cancelled => Some("order_cancelled"),
            OrderStatus::PaymentProcessing if !self.is_action_required || self.cancel_requested.is_some() => {
                Some("payment_in_progress")
            }
            OrderStatus::Pending | OrderStatus::PaymentProcessing if now >= self.expires_at => {
                Some("reservation_expired")
            }
            OrderStatus::Pending | OrderStatus::PaymentProcessing if self.attempts >= PAYMENT_ATTEMPTS_MAX => {
                Some("too_many_attempts")
            }
            OrderStatus::Pending | OrderStatus::PaymentProcessing => None,
        }
    }

    /// Whether this is the order's total, to the minor unit and in its currency.
    pub(super) fn is_total(&self, amount_minor: i64, currency: Currency) -> bool {
        amount_minor == self.draft.total_minor && currency == self.draft.currency
    }

    /// Why no payment of `amount` can be started at `now`, in the word that the order would say to one; `None` where one can.
    #[must_use]
    pub fn refusal_of_amount(&self, amount: Money, now: Timestamp) -> Option<&'static str> {
        let is_total = self.is_total(amount.minor(), amount.currency());
        self.refusal_of_payment(now).or_else(|| (!is_total).then_some(AMOUNT_MISMATCH))
    }

    /// True while it stands: it can be called off, at once or when its payment is decided.
    #[must_use]
    pub const fn can_be_cancelled(&self) -> bool {
        matches!(self.status, OrderStatus::Pending | OrderStatus::PaymentProcessing | OrderStatus::Paid)
    }

    pub(super) fn cancelled(&self, reason: &str, is_refund_required: bool) -> OrderEvent {
        OrderEvent::Cancelled { from: self.status, reason: reason.to_owned(), is_refund_required, hold: self.hold() }
    }

    pub(super) fn is_answered(&self, sku: &Sku) -> bool {
        self.reserved.contains(sku) || self.shortfalls.iter().any(|shortfall| shortfall.sku == *sku)
    }

    pub(super) fn answered(&self) -> usize {
        self.reserved.len() + self.shortfalls.len()
    }
}

/// An order that was submitted.
pub(super) fn submitted(draft: &Draft, at: Timestamp, expires_at: Timestamp) -> Order {
    Order {
        draft: draft.clone(),
        status: OrderStatus::Placing,
        created_at: at,
        first_expires_at: expires_at,
        expires_at,
        revision: 0,
        reserved: Vec::new(),
        shortfalls: Vec::new(),
        payment_id: None,
        attempts: 0,
        cancel_requested: None,
        cancel_reason: None,
        captured_minor: 0,
        owed: BTreeMap::new(),
        refunded_minor: 0,
        published: 0,
        debts: Debts::default(),
        captured_by: BTreeSet::new(),
        is_action_required: false,
        late_payment: None,
    }
}

/// The money of one payment counts once, whichever event tells of it first.
fn count_captured(order: &mut Order, payment_id: &PaymentId, amount_minor: i64) {
    if order.captured_by.insert(payment_id.clone()) {
        order.captured_minor += amount_minor;
    }
}

/// Applies an event to an order.
pub(super) fn evolve(order: &mut Order, event: &OrderEvent) {
    match event {
        OrderEvent::Submitted { .. }
        | OrderEvent::PaymentRefused { .. }
        | OrderEvent::StockSettled { .. }
        | OrderEvent::DebtsAskedAgain(_)
        | OrderEvent::PaymentVoidRequested { .. }
        | OrderEvent::HoldCommitted { .. }
        | OrderEvent::HoldReturned { .. } => return,
        OrderEvent::PaymentActionRequired { .. } => {
            order.is_action_required = true;
            return;
        }
        OrderEvent::PaymentConfirmed { .. } => {
            order.is_action_required = false;
            return;
        }
        OrderEvent::StockReacquired { sku } => {
            order.late_payment.iter_mut().for_each(|late| late.acquired.push(sku.clone()));
            return;
        }
        OrderEvent::StockNotReacquired { sku } => {
            order.late_payment.iter_mut().for_each(|late| late.missing.push(sku.clone()));
            return;
        }
        OrderEvent::LineReserved { sku } => {
            order.reserved.push(sku.clone());
            return;
        }
        OrderEvent::LineRejected { shortfall } => {
            order.shortfalls.push(shortfall.clone());
            return;
        }
        OrderEvent::Created { .. } => order.status = OrderStatus::Pending,
        OrderEvent::Rejected { .. } | OrderEvent::PlacingTimedOut { .. } => order.status = OrderStatus::Rejected,
        OrderEvent::PaymentStarted { payment_id, attempt, expires_at } => {
            order.status = OrderStatus::PaymentProcessing;
            order.payment_id = Some(payment_id.clone());
            order.attempts = *attempt;
            order.expires_at = *expires_at;
            order.is_action_required = false;
        }
        OrderEvent::PaymentFailed { .. } | OrderEvent::PaymentVoided { .. } => {
            order.status = OrderStatus::Pending;
            order.payment_id = None;
            order.is_action_required = false;
        }
        OrderEvent::Paid { payment_id, amount_minor, .. } => {
            order.status = OrderStatus::Paid;
            order.payment_id = Some(payment_id.clone());
            order.is_action_required = false;
            order.late_payment = None;
            order.cancel_reason = None;
            count_captured(order, payment_id, *amount_minor);
        }
        OrderEvent::LatePaymentReceived { payment_id, amount_minor, refund_id, until, .. } => {
            order.late_payment = Some(LatePayment::new(payment_id, *amount_minor, refund_id, *until));
            count_captured(order, payment_id, *amount_minor);
        }
        OrderEvent::CancelRequested { reason } => order.cancel_requested = Some(reason.clone()),
        OrderEvent::Cancelled { reason, .. } => {
            order.status = OrderStatus::Cancelled;
            order.cancel_reason = Some(reason.clone());
            order.is_action_required = false;
        }
        OrderEvent::RefundRequired { refund_id, amount_minor, payment_id, .. } => {
            // Money that came late is captured all the same, until it is back.
            count_captured(order, payment_id, *amount_minor);
            if order.late_payment.as_ref().is_some_and(|late| late.payment_id == *payment_id) {
                order.late_payment = None;
            }
            order.owed.insert(refund_id.clone(), *amount_minor);
        }
        OrderEvent::Refunded { refund_id, amount_minor } => {
            order.owed.remove(refund_id);
            order.refunded_minor += amount_minor;
        }
    }
    order.revision += 1;
}
