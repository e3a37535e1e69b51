//! What may be asked of an order's payments.

use contracts::{PaymentId, RefundId, Timestamp};

use super::state::Payment;
use crate::provider::ChargeOutcome;

/// Commands of an order's payments.
#[derive(Clone, Debug)]
pub enum PaymentCommand {
    /// A buyer wants to pay. Its status, attempt and the like are decided here.
    Request(Box<Payment>),
    /// The order agrees.
    Approve {
        /// To which payment.
        payment_id: PaymentId,
        /// Until when: its stock is held no longer. An approval of an earlier build does not say.
        expires_at: Option<Timestamp>,
        /// When this is heard.
        now: Timestamp,
    },
    /// The order does not.
    Reject {
        /// To which payment.
        payment_id: PaymentId,
        /// Why.
        reason: String,
    },
    /// The provider has answered.
    RecordCharge {
        /// About which payment.
        payment_id: PaymentId,
        /// What.
        outcome: ChargeOutcome,
    },
    /// The buyer has proved who they are.
    Confirm {
        /// For which payment.
        payment_id: PaymentId,
        /// When.
        now: Timestamp,
    },
    /// It is not waited for any more, if its buyer has still to act, or the order to agree.
    Void {
        /// Which payment.
        payment_id: PaymentId,
        /// Why.
        reason: String,
    },
    /// Its time is over, and the provider says that nothing was charged and nothing will be.
    RecordTooLate {
        /// Which payment.
        payment_id: PaymentId,
    },
    /// Money is to go back.
    RequestRefund {
        /// Of which payment.
        payment_id: PaymentId,
        /// Under which id.
        refund_id: RefundId,
        /// How much, in minor units.
        amount_minor: i64,
        /// Why.
        reason: String,
    },
    /// Asked again for want of an answer: the same as `RequestRefund`, but a refund that is known is gone on with, or said to
    /// be done.
    SettleRefund {
        /// Of which payment.
        payment_id: PaymentId,
        /// Under which id.
        refund_id: RefundId,
        /// How much, in minor units.
        amount_minor: i64,
        /// Why.
        reason: String,
    },
    /// The provider has given it back.
    RecordRefund {
        /// Of which payment.
        payment_id: PaymentId,
        /// Under which id.
        refund_id: RefundId,
    },
}
