//! The payments of one order as they stand.

use std::collections::BTreeMap;

use contracts::{Currency, OrderId, PAYMENT_ATTEMPTS_MAX, PaymentId, RefundId, Timestamp, UserId};
use serde::{Deserialize, Serialize};

use crate::provider::Method;

/// Where a payment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentStatus {
    /// Written down; the order is being asked.
    Created,
    /// The provider is being asked.
    Processing,
    /// The buyer must prove who they are.
    RequiresAction,
    /// The money is captured.
    Succeeded,
    /// It came to nothing.
    Failed,
    /// Part of the money is back.
    PartiallyRefunded,
    /// All of the money is back.
    Refunded,
    /// It was called off before anything was charged.
    Voided,
}

impl PaymentStatus {
    /// The name in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Processing => "processing",
            Self::RequiresAction => "requires_action",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::PartiallyRefunded => "partially_refunded",
            Self::Refunded => "refunded",
            Self::Voided => "voided",
        }
    }

    /// True while it may still capture money.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Created | Self::Processing | Self::RequiresAction)
    }
}

/// Who said no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailedBy {
    /// The order did not take the payment: nothing was charged.
    Order,
    /// The provider declined.
    Provider,
    /// It was called off, or its buyer did not act in time.
    Buyer,
}

/// Why a payment came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Such as `card_declined`.
    pub code: String,
    /// True when the same card may work later.
    pub is_retryable: bool,
    /// Who said no.
    pub by: FailedBy,
}

/// Money on its way back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refund {
    /// Which.
    pub refund_id: RefundId,
    /// How much, in minor units.
    pub amount_minor: i64,
    /// Such as `late_payment`.
    pub reason: String,
    /// True once the provider has done it.
    pub is_done: bool,
}

/// A payment as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// Which.
    pub payment_id: PaymentId,
    /// For which order.
    pub order_id: OrderId,
    /// By whom.
    pub user_id: UserId,
    /// How much, in minor units.
    pub amount_minor: i64,
    /// Of what.
    pub currency: Currency,
    /// With which card.
    pub method: Method,
    /// Where it stands.
    pub status: PaymentStatus,
    /// From 1.
    pub attempt: u32,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// True once the buyer has proved who they are.
    pub is_authenticated: bool,
    /// Where the buyer proves it.
    pub redirect_url: Option<String>,
    /// Why it came to nothing.
    pub failure: Option<Failure>,
    /// The provider's name for the charge.
    pub provider_ref: Option<String>,
    /// When the money was captured.
    pub captured_at: Option<Timestamp>,
    /// What goes back.
    pub refunds: Vec<Refund>,
}

impl Payment {
    /// Captured, in minor units.
    #[must_use]
    pub fn captured_minor(&self) -> i64 {
        if self.captured_at.is_some() { self.amount_minor } else { 0 }
    }

    /// Given back, in minor units.
    #[must_use]
    pub fn refunded_minor(&self) -> i64 {
        self.refunds.iter().filter(|refund| refund.is_done).map(|refund| refund.amount_minor).sum()
    }

    /// True unless the order never let it begin.
    fn was_tried(&self) -> bool {
        self.failure.as_ref().is_none_or(|failure| failure.by != FailedBy::Order)
    }

    /// Given back, or promised to be, in minor units.
    pub(super) fn promised_minor(&self) -> i64 {
        self.refunds.iter().map(|refund| refund.amount_minor).sum()
    }
}

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PaymentRefusal {
    /// There is no such payment.
    Unknown,
    /// Another payment of the order is on its way.
    InProgress {
        /// Which.
        payment_id: PaymentId,
    },
    /// The order has been paid.
    AlreadyPaid {
        /// By which.
        payment_id: PaymentId,
    },
    /// As many payments of the order have been tried as may be.
    TooManyAttempts,
    /// More is to go back than is left.
    ExceedsRemaining {
        /// What is left, in minor units.
        remaining_minor: i64,
    },
    /// Not from where it stands.
    InvalidTransition {
        /// Where it stands.
        from: String,
    },
}

/// All payments of one order, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderPayments {
    /// The payments.
    pub payments: Vec<Payment>,
    /// The numbered messages they have published.
    pub published: u64,
    /// Until when the order holds its stock for which of them.
    pub held_until: BTreeMap<PaymentId, Timestamp>,
}

impl OrderPayments {
    /// The payment of this id.
    #[must_use]
    pub fn get(&self, payment_id: &PaymentId) -> Option<&Payment> {
        self.payments.iter().find(|payment| payment.payment_id == *payment_id)
    }

    /// True when the order holds its stock for this payment no longer. Where it never said until when, it is not asked.
    #[must_use]
    pub fn is_too_late(&self, payment_id: &PaymentId, now: Timestamp) -> bool {
        self.held_until.get(payment_id).is_some_and(|until| now >= *until)
    }

    /// Why no further payment can be made.
    ///
    /// # Errors
    /// The refusal, if there is one.
    pub fn may_be_paid(&self) -> Result<(), PaymentRefusal> {
        for other in &self.payments {
            let payment_id = other.payment_id.clone();
            // One that waits for its buyer gives way to another.
            if other.status.is_open() && other.status != PaymentStatus::RequiresAction {
                return Err(PaymentRefusal::InProgress { payment_id });
            }
            // Money that has gone back, or is on its way, pays for nothing.
            if other.captured_minor() > other.promised_minor() {
                return Err(PaymentRefusal::AlreadyPaid { payment_id });
            }
        }
        if self.payments.iter().filter(|payment| payment.was_tried()).count() >= PAYMENT_ATTEMPTS_MAX as usize {
            return Err(PaymentRefusal::TooManyAttempts);
        }
        Ok(())
    }
}
