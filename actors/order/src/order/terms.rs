//! The shop's terms: how long an order may wait, and for what.

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
