//! What a buyer wants, as it was priced.

use contracts::{Currency, OrderId, OrderedLine, ReservationId, UserId};
use serde::{Deserialize, Serialize};

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
