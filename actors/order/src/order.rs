//! An order: one writer decides what it becomes.

use std::collections::BTreeMap;

use contracts::{
    Currency, OrderId, OrderedLine, PaymentId, Quantity, RefundId, ReservationId, Sku, Timestamp, UserId,
    messages::ReservationStanding,
};
use runtime::{Entity, EntityId, ViewWrite, entity::EventPayload};
use serde::{Deserialize, Serialize};

use crate::{
    debts::{AskedAgain, Debts},
    views,
};

/// How long an unpaid order holds its stock, in milliseconds: 15 minutes.
pub const PAYABLE_FOR_MS: i64 = 15 * 60 * 1_000;
/// How long a payment may take, in milliseconds: the reservation is held at least that long once one has begun.
pub const PAYMENT_WINDOW_MS: i64 = 10 * 60 * 1_000;
/// Payments that may be tried for one order.
pub const PAYMENT_ATTEMPTS_MAX: u32 = 5;

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

/// Commands of an order.
#[derive(Clone, Debug)]
pub enum OrderCommand {
    /// A buyer orders.
    Submit {
        /// What.
        draft: Box<Draft>,
        /// When.
        now: Timestamp,
    },
    /// The stock of one line is held.
    RecordReserved {
        /// Which.
        sku: Sku,
        /// When.
        now: Timestamp,
    },
    /// The stock of one line is not there.
    RecordRejected(Shortfall),
    /// A payment asks whether it may go ahead.
    StartPayment {
        /// Which.
        payment_id: PaymentId,
        /// How much, in minor units.
        amount_minor: i64,
        /// Of what.
        currency: Currency,
        /// When.
        now: Timestamp,
    },
    /// Money has been captured.
    RecordPaymentSucceeded {
        /// By which payment.
        payment_id: PaymentId,
        /// How much, in minor units.
        amount_minor: i64,
        /// The id of the refund, should the order not want the money any more.
        refund_id: RefundId,
    },
    /// A payment came to nothing.
    RecordPaymentFailed {
        /// Which.
        payment_id: PaymentId,
        /// Why.
        decline_code: String,
    },
    /// Money has been given back.
    RecordRefunded {
        /// By which refund.
        refund_id: RefundId,
        /// How much, in minor units.
        amount_minor: i64,
    },
    /// The stock says where the units of one line stand.
    RecordStockSettled {
        /// Which.
        sku: Sku,
        /// Where.
        standing: ReservationStanding,
    },
    /// What it is owed an answer for has waited too long.
    AskAgain {
        /// From 1; each round is asked once.
        round: u32,
    },
    /// Somebody does not want it any more.
    Cancel {
        /// Who or why: `customer`, `admin`.
        reason: String,
        /// The id of the refund, should it be paid.
        refund_id: RefundId,
    },
    /// Its time to be paid may be over.
    Expire {
        /// Now.
        now: Timestamp,
    },
}

/// What happened to an order. Each says all that the outside must hear, so that messages are made from it alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are those of the commands")]
pub enum OrderEvent {
    /// A buyer ordered; the stock is asked for.
    Submitted { draft: Box<Draft>, at: Timestamp, expires_at: Timestamp },
    /// The stock of one line is held.
    LineReserved { sku: Sku },
    /// The stock of one line is not there.
    LineRejected { shortfall: Shortfall },
    /// Every line is held: the order stands, and can be paid.
    Created { draft: Box<Draft>, at: Timestamp, expires_at: Timestamp },
    /// Some line is not there: what is held goes back.
    Rejected { hold: Hold },
    /// A payment goes ahead.
    PaymentStarted { payment_id: PaymentId, attempt: u32, expires_at: Timestamp },
    /// A payment may not go ahead.
    PaymentRefused { payment_id: PaymentId, reason: String },
    /// A payment came to nothing; another may be tried.
    PaymentFailed { payment_id: PaymentId, decline_code: String },
    /// It is paid.
    Paid { payment_id: PaymentId, amount_minor: i64, currency: Currency, hold: Hold },
    /// It is to be cancelled as soon as its payment is decided.
    CancelRequested { reason: String },
    /// It is off.
    Cancelled { from: OrderStatus, reason: String, is_refund_required: bool, hold: Hold },
    /// Money is to be given back.
    RefundRequired { payment_id: PaymentId, refund_id: RefundId, amount_minor: i64, reason: String },
    /// Money has been given back.
    Refunded { refund_id: RefundId, amount_minor: i64 },
    /// The units of one line are sold, or free, as was asked.
    StockSettled { sku: Sku },
    /// What has not been answered is asked for again.
    DebtsAskedAgain(Box<AskedAgain>),
}

impl EventPayload for OrderEvent {
    fn event_type(&self) -> &'static str {
        match self {
            Self::Submitted { .. } => "order.submitted",
            Self::LineReserved { .. } => "order.line_reserved",
            Self::LineRejected { .. } => "order.line_rejected",
            Self::Created { .. } => "order.created",
            Self::Rejected { .. } => "order.rejected",
            Self::PaymentStarted { .. } => "order.payment_started",
            Self::PaymentRefused { .. } => "order.payment_refused",
            Self::PaymentFailed { .. } => "order.payment_failed",
            Self::Paid { .. } => "order.paid",
            Self::CancelRequested { .. } => "order.cancel_requested",
            Self::Cancelled { .. } => "order.cancelled",
            Self::RefundRequired { .. } => "order.refund_required",
            Self::Refunded { .. } => "order.refunded",
            Self::StockSettled { .. } => "order.stock_settled",
            Self::DebtsAskedAgain(_) => "order.debts_asked_again",
        }
    }
}

impl OrderEvent {
    /// How many numbered messages it gives rise to. Never another number for an event of a journal: the numbers of the
    /// messages after it stand on it. A test holds it against [`crate::outbox`].
    #[must_use]
    pub const fn publishes(&self) -> u64 {
        match self {
            Self::Created { .. } | Self::PaymentStarted { .. } | Self::PaymentFailed { .. } => 1,
            Self::Paid { .. } | Self::Cancelled { .. } => 2,
            Self::Submitted { .. }
            | Self::LineReserved { .. }
            | Self::LineRejected { .. }
            | Self::Rejected { .. }
            | Self::PaymentRefused { .. }
            | Self::CancelRequested { .. }
            | Self::RefundRequired { .. }
            | Self::Refunded { .. }
            | Self::StockSettled { .. }
            | Self::DebtsAskedAgain(_) => 0,
        }
    }
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

    fn cancelled(&self, reason: &str, is_refund_required: bool) -> OrderEvent {
        OrderEvent::Cancelled { from: self.status, reason: reason.to_owned(), is_refund_required, hold: self.hold() }
    }

    fn is_answered(&self, sku: &Sku) -> bool {
        self.reserved.contains(sku) || self.shortfalls.iter().any(|shortfall| shortfall.sku == *sku)
    }

    fn answered(&self) -> usize {
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
        match (state, command) {
            (None, OrderCommand::Submit { draft, now }) => submit(draft, now),
            (Some(_), OrderCommand::Submit { .. }) => Err(OrderRefusal::Exists),
            (Some(order), OrderCommand::RecordReserved { sku, now }) => Ok(record_reserved(order, sku, now)),
            (Some(order), OrderCommand::RecordRejected(shortfall)) => Ok(record_rejected(order, shortfall)),
            (Some(order), OrderCommand::StartPayment { payment_id, amount_minor, currency, now }) => {
                Ok(start_payment(order, payment_id, amount_minor, currency, now))
            }
            // The payment must hear of it, so it is an event.
            (None, OrderCommand::StartPayment { payment_id, .. }) => {
                Ok(vec![OrderEvent::PaymentRefused { payment_id, reason: "order_not_found".to_owned() }])
            }
            (Some(order), OrderCommand::RecordPaymentSucceeded { payment_id, amount_minor, refund_id }) => {
                Ok(record_payment_succeeded(order, payment_id, amount_minor, refund_id))
            }
            // It cannot be: a payment goes ahead only with an order's consent. Should it be all the same, the money goes back.
            (None, OrderCommand::RecordPaymentSucceeded { payment_id, amount_minor, refund_id }) => {
                Ok(vec![refund(payment_id, refund_id, amount_minor, "late_payment")])
            }
            (Some(order), OrderCommand::RecordPaymentFailed { payment_id, decline_code }) => {
                Ok(record_payment_failed(order, payment_id, decline_code))
            }
            (Some(order), OrderCommand::RecordRefunded { refund_id, amount_minor }) => {
                let is_owed = order.owed.contains_key(&refund_id);
                Ok(is_owed.then_some(OrderEvent::Refunded { refund_id, amount_minor }).into_iter().collect())
            }
            // Money of an order that never was is back: it was owed all the same, and is not any more.
            (None, OrderCommand::RecordRefunded { refund_id, amount_minor }) => {
                Ok(vec![OrderEvent::Refunded { refund_id, amount_minor }])
            }
            (Some(order), OrderCommand::RecordStockSettled { sku, standing }) => {
                Ok(order.debts.record_stock(sku, standing))
            }
            // Others may use the stock for orders of their own.
            (None, OrderCommand::RecordStockSettled { .. }) => Ok(vec![]),
            (Some(order), OrderCommand::AskAgain { round }) => {
                Ok(order.debts.ask_again(&order.draft.reservation_id, round))
            }
            (Some(order), OrderCommand::Cancel { reason, refund_id }) => cancel(order, reason, refund_id),
            (Some(order), OrderCommand::Expire { now }) => {
                // A payment holds the order for its window only: what is captured later is given back.
                let is_unpaid = matches!(order.status, OrderStatus::Pending | OrderStatus::PaymentProcessing);
                let is_over = is_unpaid && now >= order.expires_at;
                Ok(is_over.then(|| order.cancelled("expired", false)).into_iter().collect())
            }
            (None, _) => Err(OrderRefusal::Unknown),
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

    fn views(id: &EntityId, state: &Option<Order>, event: &OrderEvent, at_ms: i64) -> Vec<ViewWrite> {
        views::of(id, state.as_ref(), event, at_ms)
    }
}

fn submit(draft: Box<Draft>, now: Timestamp) -> Result<Vec<OrderEvent>, OrderRefusal> {
    if draft.lines.is_empty() || !draft.adds_up() {
        return Err(OrderRefusal::DoesNotAddUp);
    }
    let expires_at = Timestamp::from_millis(now.as_millis() + PAYABLE_FOR_MS);
    Ok(vec![OrderEvent::Submitted { draft, at: now, expires_at }])
}

fn record_reserved(order: &Order, sku: Sku, now: Timestamp) -> Vec<OrderEvent> {
    if order.status != OrderStatus::Placing || order.is_answered(&sku) {
        return vec![];
    }
    let is_last = order.answered() + 1 == order.draft.lines.len();
    let mut hold = order.hold();
    hold.skus.push(sku.clone());
    let mut events = vec![OrderEvent::LineReserved { sku }];
    match (is_last, order.shortfalls.is_empty()) {
        (true, true) => {
            let (draft, expires_at) = (Box::new(order.draft.clone()), order.expires_at);
            events.push(OrderEvent::Created { draft, at: now, expires_at });
        }
        (true, false) => events.push(OrderEvent::Rejected { hold }),
        (false, _) => {}
    }
    events
}

fn record_rejected(order: &Order, shortfall: Shortfall) -> Vec<OrderEvent> {
    if order.status != OrderStatus::Placing || order.is_answered(&shortfall.sku) {
        return vec![];
    }
    let is_last = order.answered() + 1 == order.draft.lines.len();
    let mut events = vec![OrderEvent::LineRejected { shortfall }];
    if is_last {
        events.push(OrderEvent::Rejected { hold: order.hold() });
    }
    events
}

fn start_payment(
    order: &Order,
    payment_id: PaymentId,
    amount_minor: i64,
    currency: Currency,
    now: Timestamp,
) -> Vec<OrderEvent> {
    let refused = |payment_id, reason: &str| vec![OrderEvent::PaymentRefused { payment_id, reason: reason.to_owned() }];
    match order.status {
        OrderStatus::PaymentProcessing | OrderStatus::Paid if order.payment_id.as_ref() == Some(&payment_id) => vec![],
        OrderStatus::PaymentProcessing => refused(payment_id, "payment_in_progress"),
        OrderStatus::Paid => refused(payment_id, "already_paid"),
        OrderStatus::Cancelled => refused(payment_id, "order_cancelled"),
        OrderStatus::Placing | OrderStatus::Rejected => refused(payment_id, "order_not_found"),
        OrderStatus::Pending if now >= order.expires_at => refused(payment_id, "reservation_expired"),
        OrderStatus::Pending if amount_minor != order.draft.total_minor || currency != order.draft.currency => {
            refused(payment_id, "amount_mismatch")
        }
        OrderStatus::Pending if order.attempts >= PAYMENT_ATTEMPTS_MAX => refused(payment_id, "too_many_attempts"),
        OrderStatus::Pending => {
            let held_until = (now.as_millis() + PAYMENT_WINDOW_MS).max(order.expires_at.as_millis());
            let expires_at = Timestamp::from_millis(held_until);
            vec![OrderEvent::PaymentStarted { payment_id, attempt: order.attempts + 1, expires_at }]
        }
    }
}

fn record_payment_succeeded(
    order: &Order,
    payment_id: PaymentId,
    amount_minor: i64,
    refund_id: RefundId,
) -> Vec<OrderEvent> {
    let is_ours = order.payment_id.as_ref() == Some(&payment_id);
    match order.status {
        OrderStatus::PaymentProcessing if is_ours => {
            let currency = order.draft.currency;
            let paid = OrderEvent::Paid { payment_id: payment_id.clone(), amount_minor, currency, hold: order.hold() };
            let mut events = vec![paid];
            if let Some(reason) = &order.cancel_requested {
                events.push(order.cancelled(reason, true));
                events.push(refund(payment_id, refund_id, amount_minor, "cancel_race"));
            }
            events
        }
        OrderStatus::Paid if is_ours => vec![],
        _ if order.owed.contains_key(&refund_id) => vec![],
        _ => vec![refund(payment_id, refund_id, amount_minor, "late_payment")],
    }
}

fn record_payment_failed(order: &Order, payment_id: PaymentId, decline_code: String) -> Vec<OrderEvent> {
    let is_ours = order.payment_id.as_ref() == Some(&payment_id);
    if order.status != OrderStatus::PaymentProcessing || !is_ours {
        return vec![];
    }
    let mut events = vec![OrderEvent::PaymentFailed { payment_id, decline_code }];
    if let Some(reason) = &order.cancel_requested {
        events.push(order.cancelled(reason, false));
    }
    events
}

fn cancel(order: &Order, reason: String, refund_id: RefundId) -> Result<Vec<OrderEvent>, OrderRefusal> {
    match (order.status, &order.payment_id) {
        (OrderStatus::Pending, _) => Ok(vec![order.cancelled(&reason, false)]),
        (OrderStatus::PaymentProcessing, _) if order.cancel_requested.is_some() => Ok(vec![]),
        (OrderStatus::PaymentProcessing, _) => Ok(vec![OrderEvent::CancelRequested { reason }]),
        (OrderStatus::Paid, Some(payment_id)) => Ok(vec![
            order.cancelled(&reason, true),
            refund(payment_id.clone(), refund_id, order.captured_minor, "customer"),
        ]),
        (status, _) => Err(OrderRefusal::InvalidTransition { from: status.name().to_owned() }),
    }
}

fn refund(payment_id: PaymentId, refund_id: RefundId, amount_minor: i64, reason: &str) -> OrderEvent {
    OrderEvent::RefundRequired { payment_id, refund_id, amount_minor, reason: reason.to_owned() }
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
    }
}

fn evolve_order(order: &mut Order, event: &OrderEvent) {
    match event {
        OrderEvent::Submitted { .. }
        | OrderEvent::PaymentRefused { .. }
        | OrderEvent::StockSettled { .. }
        | OrderEvent::DebtsAskedAgain(_) => return,
        OrderEvent::LineReserved { sku } => {
            order.reserved.push(sku.clone());
            return;
        }
        OrderEvent::LineRejected { shortfall } => {
            order.shortfalls.push(shortfall.clone());
            return;
        }
        OrderEvent::Created { .. } => order.status = OrderStatus::Pending,
        OrderEvent::Rejected { .. } => order.status = OrderStatus::Rejected,
        OrderEvent::PaymentStarted { payment_id, attempt, expires_at } => {
            order.status = OrderStatus::PaymentProcessing;
            order.payment_id = Some(payment_id.clone());
            order.attempts = *attempt;
            order.expires_at = *expires_at;
        }
        OrderEvent::PaymentFailed { .. } => {
            order.status = OrderStatus::Pending;
            order.payment_id = None;
        }
        OrderEvent::Paid { payment_id, amount_minor, .. } => {
            order.status = OrderStatus::Paid;
            order.payment_id = Some(payment_id.clone());
            order.captured_minor += amount_minor;
        }
        OrderEvent::CancelRequested { reason } => order.cancel_requested = Some(reason.clone()),
        OrderEvent::Cancelled { reason, .. } => {
            order.status = OrderStatus::Cancelled;
            order.cancel_reason = Some(reason.clone());
        }
        OrderEvent::RefundRequired { refund_id, amount_minor, payment_id, .. } => {
            // Money that came late is captured all the same, until it is back.
            if order.payment_id.as_ref() != Some(payment_id) {
                order.captured_minor += amount_minor;
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
