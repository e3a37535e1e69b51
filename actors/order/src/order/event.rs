//! What happens to an order, as its journal has it.

use contracts::{Currency, PaymentId, RefundId, ReservationId, Sku, Timestamp, messages::Settlement};
use runtime::entity::EventPayload;
use serde::{Deserialize, Serialize};

use super::{
    draft::Draft,
    status::OrderStatus,
    stock::{Hold, Shortfall},
};

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
    /// The answers about its stock did not come in time: whatever is held goes back.
    PlacingTimedOut { hold: Hold },
    /// Its payment waits for the buyer to act.
    PaymentActionRequired { payment_id: PaymentId },
    /// The buyer has acted.
    PaymentConfirmed { payment_id: PaymentId },
    /// A payment came to nothing; another may be tried.
    PaymentFailed { payment_id: PaymentId, decline_code: String },
    /// Its payment is not waited for any more: it is to be voided.
    PaymentVoidRequested { payment_id: PaymentId, reason: String },
    /// Its payment was voided; another may be tried.
    PaymentVoided { payment_id: PaymentId, reason: String },
    /// Money came after its time: the stock is asked for once more.
    LatePaymentReceived { payment_id: PaymentId, amount_minor: i64, refund_id: RefundId, until: Timestamp, hold: Hold },
    /// The stock of one line is there once more.
    StockReacquired { sku: Sku },
    /// The stock of one line is not.
    StockNotReacquired { sku: Sku },
    /// Stock that is held for it is to be sold.
    HoldCommitted { hold: Hold },
    /// Stock that is held for it, or would be, goes back.
    HoldReturned { hold: Hold, reason: String },
    /// It is paid.
    Paid {
        payment_id: PaymentId,
        amount_minor: i64,
        currency: Currency,
        hold: Hold,
        #[serde(default = "processing", skip_serializing_if = "is_processing")]
        from: OrderStatus,
    },
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

/// A refund that the payment service has been asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwedRefund {
    /// Which.
    pub refund_id: RefundId,
    /// Of which payment.
    pub payment_id: PaymentId,
    /// How much, in minor units.
    pub amount_minor: i64,
    /// Such as `late_payment`.
    pub reason: String,
}

/// Units that the product service has been asked to sell or to set free.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwedStock {
    /// Of which SKU.
    pub sku: Sku,
    /// What is to become of them.
    pub wanted: Settlement,
}

/// All that an order waits for, to be asked for again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedAgain {
    /// From 1.
    pub round: u32,
    /// Whose units.
    pub reservation_id: ReservationId,
    /// The units.
    pub stock: Vec<OwedStock>,
    /// The money.
    pub refunds: Vec<OwedRefund>,
}

/// From where an order was paid before that was written down.
const fn processing() -> OrderStatus {
    OrderStatus::PaymentProcessing
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_processing(status: &OrderStatus) -> bool {
    matches!(status, OrderStatus::PaymentProcessing)
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
            Self::PlacingTimedOut { .. } => "order.placing_timed_out",
            Self::PaymentActionRequired { .. } => "order.payment_action_required",
            Self::PaymentConfirmed { .. } => "order.payment_confirmed",
            Self::PaymentFailed { .. } => "order.payment_failed",
            Self::PaymentVoidRequested { .. } => "order.payment_void_requested",
            Self::PaymentVoided { .. } => "order.payment_voided",
            Self::LatePaymentReceived { .. } => "order.late_payment_received",
            Self::StockReacquired { .. } => "order.stock_reacquired",
            Self::StockNotReacquired { .. } => "order.stock_not_reacquired",
            Self::HoldCommitted { .. } => "order.hold_committed",
            Self::HoldReturned { .. } => "order.hold_returned",
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
            Self::Created { .. }
            | Self::PaymentStarted { .. }
            | Self::PaymentFailed { .. }
            | Self::PaymentVoided { .. } => 1,
            Self::Paid { .. } | Self::Cancelled { .. } => 2,
            Self::Submitted { .. }
            | Self::LineReserved { .. }
            | Self::LineRejected { .. }
            | Self::Rejected { .. }
            | Self::PlacingTimedOut { .. }
            | Self::PaymentRefused { .. }
            | Self::PaymentActionRequired { .. }
            | Self::PaymentConfirmed { .. }
            | Self::PaymentVoidRequested { .. }
            | Self::LatePaymentReceived { .. }
            | Self::StockReacquired { .. }
            | Self::StockNotReacquired { .. }
            | Self::HoldCommitted { .. }
            | Self::HoldReturned { .. }
            | Self::CancelRequested { .. }
            | Self::RefundRequired { .. }
            | Self::Refunded { .. }
            | Self::StockSettled { .. }
            | Self::DebtsAskedAgain(_) => 0,
        }
    }
}

/// Money is to be given back.
pub(super) fn refund(payment_id: PaymentId, refund_id: RefundId, amount_minor: i64, reason: &str) -> OrderEvent {
    OrderEvent::RefundRequired { payment_id, refund_id, amount_minor, reason: reason.to_owned() }
}

/// Stock is to be set free.
pub(super) fn returned(hold: Hold, reason: &str) -> OrderEvent {
    OrderEvent::HoldReturned { hold, reason: reason.to_owned() }
}
