//! An order's stock: what is held for it, and what is not there.

use contracts::{Quantity, ReservationId, Sku};
use serde::{Deserialize, Serialize};

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
