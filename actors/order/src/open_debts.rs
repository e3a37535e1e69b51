//! The open debts of all orders in numbers, for operators.

use std::sync::{Arc, Mutex};

use serde::Serialize;

use crate::order::IN_VAIN;

/// The most orders that are shown.
pub const SHOWN_MAX: i64 = 1_000;

/// An order that owes money, or has asked in vain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OpenDebt {
    /// Which.
    pub order_id: String,
    /// Since when, in milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// How often it has asked again.
    pub asked_again: i64,
    /// SKUs of which it is not known whether they were sold, or set free, as it asked.
    pub stock_lines: i64,
    /// Refunds that are owed.
    pub refunds: i64,
    /// Their sum, in minor units.
    pub owed_minor: i64,
}

/// The open debts in numbers, over the oldest [`SHOWN_MAX`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DebtTotals {
    /// Refunds that are owed.
    pub refunds: u64,
    /// Their sum, in minor units.
    pub owed_minor: u64,
    /// Orders that have asked in vain, again and again.
    pub in_vain: u64,
}

impl DebtTotals {
    /// The numbers of these.
    #[must_use]
    pub fn of(debts: &[OpenDebt]) -> Self {
        let sum = |number: fn(&OpenDebt) -> i64| debts.iter().map(|debt| number(debt).unsigned_abs()).sum();
        Self {
            refunds: sum(|debt| debt.refunds),
            owed_minor: sum(|debt| debt.owed_minor),
            in_vain: debts.iter().filter(|debt| debt.asked_again >= i64::from(IN_VAIN)).count() as u64,
        }
    }
}

/// The numbers of the last look.
pub type DebtBoard = Arc<Mutex<DebtTotals>>;
