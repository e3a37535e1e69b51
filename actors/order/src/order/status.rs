//! Where an order stands.

use serde::{Deserialize, Serialize};

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
