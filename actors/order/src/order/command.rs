//! What may be asked of an order, and why it may say no.

use contracts::{Currency, PaymentId, RefundId, ReservationId, Sku, Timestamp, messages::ReservationStanding};

use serde::{Deserialize, Serialize};

use super::{draft::Draft, stock::Shortfall};

/// Commands of an order.
#[derive(Clone, Debug)]
pub enum OrderCommand {
    /// A buyer orders.
    Submit {
        /// What.
        draft: Box<Draft>,
        /// When.
        now: Timestamp,
        /// How long it may be paid, in milliseconds.
        payable_for_ms: i64,
    },
    /// The stock of one line is held.
    RecordReserved {
        /// Which.
        sku: Sku,
        /// When.
        now: Timestamp,
    },
    /// The stock of one line is not there.
    RecordRejected {
        /// Which, and how much there is.
        shortfall: Shortfall,
        /// The id of the refund, should the order have been paid.
        refund_id: RefundId,
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
    /// Stock is held beyond its time: what is to become of it?
    AnswerForHold {
        /// Under which reservation.
        reservation_id: ReservationId,
        /// Which.
        sku: Sku,
    },
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
        /// How long it may take, in milliseconds.
        window_ms: i64,
    },
    /// A payment waits for its buyer to act: it is open, and can be voided at once.
    RecordActionRequired {
        /// Which.
        payment_id: PaymentId,
    },
    /// The buyer has acted: the payment is on its way again.
    RecordConfirmed {
        /// Which.
        payment_id: PaymentId,
    },
    /// Money has been captured.
    RecordPaymentSucceeded {
        /// By which payment.
        payment_id: PaymentId,
        /// How much, in minor units.
        amount_minor: i64,
        /// The id of the refund, should the order not want the money any more.
        refund_id: RefundId,
        /// When this is heard.
        now: Timestamp,
    },
    /// A payment came to nothing.
    RecordPaymentFailed {
        /// Which.
        payment_id: PaymentId,
        /// Why.
        decline_code: String,
    },
    /// A payment was voided: nothing was charged, and nothing will be.
    RecordPaymentVoided {
        /// Which.
        payment_id: PaymentId,
        /// Why.
        reason: String,
    },
    /// Money has been given back.
    RecordRefunded {
        /// By which refund.
        refund_id: RefundId,
        /// How much, in minor units.
        amount_minor: i64,
    },
    /// Somebody does not want it any more.
    Cancel {
        /// Who or why: `customer`, `admin`.
        reason: String,
        /// The id of the refund, should it be paid.
        refund_id: RefundId,
    },
    /// What it waits for may be overdue: its stock, its payment, or its stock once more.
    Expire {
        /// Now.
        now: Timestamp,
    },
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
