//! What happens to an order's payments, as their journal has it.

use contracts::{Currency, PaymentId, RefundId, Timestamp};
use runtime::entity::EventPayload;
use serde::{Deserialize, Serialize};

use super::state::{Failure, Payment, Refund};

/// What happened to an order's payments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are those of the commands")]
pub enum PaymentEvent {
    /// A buyer wants to pay.
    Requested { payment: Box<Payment> },
    /// The order agrees: the provider is to be asked, before `expires_at`.
    Approved {
        payment_id: PaymentId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_at: Option<Timestamp>,
    },
    /// The buyer must prove who they are.
    ActionRequired {
        payment_id: PaymentId,
        provider: String,
        redirect_url: String,
        amount_minor: i64,
        currency: Currency,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_at: Option<Timestamp>,
    },
    /// They have: the provider is to be asked again.
    Confirmed { payment_id: PaymentId },
    /// The money is captured.
    Succeeded {
        payment_id: PaymentId,
        amount_minor: i64,
        currency: Currency,
        provider: String,
        provider_ref: String,
        captured_at: Timestamp,
    },
    /// It came to nothing.
    Failed { payment_id: PaymentId, failure: Failure, attempt: u32 },
    /// It was called off before anything was charged.
    Voided { payment_id: PaymentId, reason: String },
    /// Money is to go back.
    RefundRequested { payment_id: PaymentId, refund: Refund },
    /// It has gone back.
    Refunded {
        payment_id: PaymentId,
        refund_id: RefundId,
        amount_minor: i64,
        refunded_total_minor: i64,
        reason: String,
    },
    /// Somebody asked again for money that is on its way back: the provider is to be asked once more.
    RefundAskedAgain { payment_id: PaymentId, refund_id: RefundId },
    /// Somebody asked again for money that is back.
    RefundSettled { payment_id: PaymentId, refund_id: RefundId, amount_minor: i64 },
}

impl EventPayload for PaymentEvent {
    fn event_type(&self) -> &'static str {
        match self {
            Self::Requested { .. } => "payment.requested",
            Self::Approved { .. } => "payment.approved",
            Self::ActionRequired { .. } => "payment.requires_action",
            Self::Confirmed { .. } => "payment.confirmed",
            Self::Succeeded { .. } => "payment.succeeded",
            Self::Failed { .. } => "payment.failed",
            Self::Voided { .. } => "payment.voided",
            Self::RefundRequested { .. } => "payment.refund_requested",
            Self::Refunded { .. } => "payment.refunded",
            Self::RefundAskedAgain { .. } => "payment.refund_asked_again",
            Self::RefundSettled { .. } => "payment.refund_settled",
        }
    }
}

impl PaymentEvent {
    /// How many numbered messages it gives rise to. Never another number for an event of a journal: the numbers of the
    /// messages after it stand on it. A test holds it against [`crate::outbox`].
    #[must_use]
    pub const fn publishes(&self) -> u64 {
        match self {
            Self::Requested { .. }
            | Self::ActionRequired { .. }
            | Self::Confirmed { .. }
            | Self::Succeeded { .. }
            | Self::Failed { .. }
            | Self::Voided { .. }
            | Self::RefundSettled { .. }
            | Self::Refunded { .. } => 1,
            Self::Approved { .. } | Self::RefundRequested { .. } | Self::RefundAskedAgain { .. } => 0,
        }
    }
}

/// Which payment an event is about.
#[must_use]
pub fn payment_of(event: &PaymentEvent) -> &PaymentId {
    match event {
        PaymentEvent::Requested { payment } => &payment.payment_id,
        PaymentEvent::Approved { payment_id, .. }
        | PaymentEvent::ActionRequired { payment_id, .. }
        | PaymentEvent::Confirmed { payment_id }
        | PaymentEvent::Succeeded { payment_id, .. }
        | PaymentEvent::Failed { payment_id, .. }
        | PaymentEvent::Voided { payment_id, .. }
        | PaymentEvent::RefundRequested { payment_id, .. }
        | PaymentEvent::RefundAskedAgain { payment_id, .. }
        | PaymentEvent::RefundSettled { payment_id, .. }
        | PaymentEvent::Refunded { payment_id, .. } => payment_id,
    }
}
