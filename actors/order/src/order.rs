//! An order: one writer decides what it becomes.

use std::collections::{BTreeMap, BTreeSet};

use contracts::{
    Currency, OrderId, OrderedLine, PAYMENT_ATTEMPTS_MAX, PaymentId, Quantity, RefundId, ReservationId, Sku, Timestamp,
    UserId,
};
use runtime::{Entity, EntityId, ViewWrite, totals::Counts};
use serde::{Deserialize, Serialize};

use crate::{debts::Debts, decisions, late_payment::LatePayment, views};

pub use crate::{command::OrderCommand, event::OrderEvent};

/// How long an order may wait for the answers about its stock, in milliseconds; then it is given up and nothing is held. A bus
/// that is away for a few minutes loses no order.
pub const PLACING_FOR_MS: i64 = 5 * 60 * 1_000;

/// How long an unpaid order holds its stock, in milliseconds, unless the shop says otherwise: 15 minutes.
pub const PAYABLE_FOR_MS: i64 = 15 * 60 * 1_000;
/// How long a payment may take, in milliseconds, unless the shop says otherwise: 10 minutes.
pub const PAYMENT_WINDOW_MS: i64 = 10 * 60 * 1_000;

/// The shop's terms: how long stock is held for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long an unpaid order holds its stock, in milliseconds.
    pub payable_for_ms: i64,
    /// How long a payment may take, in milliseconds: the reservation is held at least that long once one has begun.
    pub payment_window_ms: i64,
}

impl Default for Terms {
    fn default() -> Self {
        Self { payable_for_ms: PAYABLE_FOR_MS, payment_window_ms: PAYMENT_WINDOW_MS }
    }
}

/// The reason of a cancellation that nobody asked for: its time was over.
pub const EXPIRED: &str = "expired";

/// Where to send it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are those of every address")]
pub struct Address {
    pub street: String,
    pub city: String,
    pub state: String,
    pub zip: String,
    pub country: String,
}

/// What a buyer wants, priced by the shop. Lines of the same SKU have been summed up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are named by the API, one to one")]
pub struct Draft {
    pub order_id: OrderId,
    pub reservation_id: ReservationId,
    pub user_id: UserId,
    pub lines: Vec<OrderedLine>,
    pub currency: Currency,
    pub subtotal_minor: i64,
    pub discount_minor: i64,
    pub tax_minor: i64,
    pub shipping_minor: i64,
    pub total_minor: i64,
    pub shipping_address: Option<Address>,
}

impl Draft {
    /// True when `total = Σ lines − discount + tax + shipping` and every line is its unit price times its quantity.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        let line_is_right = |line: &OrderedLine| {
            i128::from(line.unit_price_minor) * i128::from(line.quantity.get()) == i128::from(line.line_total_minor)
        };
        let subtotal: i128 = self.lines.iter().map(|line| i128::from(line.line_total_minor)).sum();
        let total =
            subtotal - i128::from(self.discount_minor) + i128::from(self.tax_minor) + i128::from(self.shipping_minor);
        self.lines.iter().all(line_is_right)
            && subtotal == i128::from(self.subtotal_minor)
            && total == i128::from(self.total_minor)
    }
}

/// A line for which there is not enough.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shortfall {
    /// Which.
    pub sku: Sku,
    /// How many were wanted.
    pub requested: Quantity,
    /// How many there were.
    pub available: i64,
}

/// Stock that is held for an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Under which reservation.
    pub reservation_id: ReservationId,
    /// Of which SKUs.
    pub skus: Vec<Sku>,
}

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderStatus {
    /// The stock is being asked for. Nobody has been told of this order.
    Placing,
    /// There was not enough. Nobody has been told of this order but that.
    Rejected,
    /// It stands and waits for its payment.
    Pending,
    /// A payment is on its way.
    PaymentProcessing,
    /// It is paid.
    Paid,
    /// It is off.
    Cancelled,
}

impl OrderStatus {
    /// The name in the API and on topics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Placing => "placing",
            Self::Rejected => "rejected",
            Self::Pending => "pending",
            Self::PaymentProcessing => "payment_processing",
            Self::Paid => "paid",
            Self::Cancelled => "cancelled",
        }
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

    /// Why no payment of it can be started at `now`, in the word that it would say to one; `None` where one can.
    #[must_use]
    pub fn refusal_of_payment(&self, now: Timestamp) -> Option<&'static str> {
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

    /// True while it stands: it can be called off, at once or when its payment is decided.
    #[must_use]
    pub const fn can_be_cancelled(&self) -> bool {
        matches!(self.status, OrderStatus::Pending | OrderStatus::PaymentProcessing | OrderStatus::Paid)
    }

    pub(crate) fn cancelled(&self, reason: &str, is_refund_required: bool) -> OrderEvent {
        OrderEvent::Cancelled { from: self.status, reason: reason.to_owned(), is_refund_required, hold: self.hold() }
    }

    pub(crate) fn is_answered(&self, sku: &Sku) -> bool {
        self.reserved.contains(sku) || self.shortfalls.iter().any(|shortfall| shortfall.sku == *sku)
    }

    pub(crate) fn answered(&self) -> usize {
        self.reserved.len() + self.shortfalls.len()
    }
}

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrderRefusal {
    /// There is no such order.
    Unknown,
    /// There is one of this id already.
    Exists,
    /// The sums are wrong, or there is no line: a fault of the caller's program.
    DoesNotAddUp,
    /// Not from where it stands.
    InvalidTransition {
        /// Where it stands.
        from: String,
    },
}

/// The entity; its id is the order's id.
pub struct OrderEntity;

impl Entity for OrderEntity {
    const KIND: &'static str = "order";
    type State = Option<Order>;
    type Command = OrderCommand;
    type Event = OrderEvent;
    type Refusal = OrderRefusal;

    fn decide(state: &Option<Order>, command: OrderCommand) -> Result<Vec<OrderEvent>, OrderRefusal> {
        match state {
            None => decisions::without_order(command),
            Some(order) => decisions::of_order(order, command),
        }
    }

    fn evolve(state: &mut Option<Order>, event: &OrderEvent) {
        if let OrderEvent::Submitted { draft, at, expires_at } = event {
            *state = Some(submitted(draft, *at, *expires_at));
        } else if let Some(order) = state {
            evolve_order(order, event);
            order.published += event.publishes();
            order.debts.note(event);
        }
    }

    fn published(state: &Option<Order>) -> Option<u64> {
        Some(state.as_ref().map_or(0, |order| order.published))
    }

    const TABLES: &'static [&'static str] = &[views::TABLES];
    const STATE_VERSION: u32 = 2;
    const VIEW_VERSION: u32 = 2;
    const ADD_TO_TOTALS: &'static str = views::ADD_TO_SUMS;

    fn counts(state: &Option<Order>) -> Option<Counts> {
        state.as_ref().and_then(views::counts)
    }

    fn views(id: &EntityId, state: &Option<Order>, event: &OrderEvent, at_ms: i64) -> Vec<ViewWrite> {
        views::of(id, state.as_ref(), event, at_ms)
    }
}

fn submitted(draft: &Draft, at: Timestamp, expires_at: Timestamp) -> Order {
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

fn evolve_order(order: &mut Order, event: &OrderEvent) {
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

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
