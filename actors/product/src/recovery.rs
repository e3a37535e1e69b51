//! What an operator's reconciliation needs of the stock: which units are held or sold, for which order, and a way to free them.
//!
//! It reads the view of a journal, of a service that runs or of one that does not, and releases through the SKU's own entity.

use contracts::{OrderId, ReservationId, Sku};
use runtime::{CommandId, Journal, JournalError, RequestContext, Row};

use crate::{
    error::{ProductError, of_stock},
    service::ProductService,
    stock_item::StockCommand,
};

/// Units of a SKU that an order holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldStock {
    /// Under which reservation.
    pub reservation_id: ReservationId,
    /// Of which SKU.
    pub sku: Sku,
    /// For which order.
    pub order_id: OrderId,
    /// How many.
    pub units: i64,
    /// True where they are sold, false where they are held.
    pub is_committed: bool,
}

/// What is held or sold, in the order of reservations and SKUs, after `after`, at most `limit`.
///
/// # Errors
/// [`JournalError`] when the view cannot be read.
pub async fn held_stock(
    journal: &dyn Journal,
    after: Option<&HeldStock>,
    limit: u32,
) -> Result<Vec<HeldStock>, JournalError> {
    let (reservation_id, sku) = after.map_or(("", ""), |held| (held.reservation_id.as_str(), held.sku.as_str()));
    let sql = "SELECT reservation_id, sku, order_id, quantity, status FROM reservations \
               WHERE (reservation_id, sku) > (?1, ?2) AND status IN ('reserved', 'committed') \
               ORDER BY reservation_id, sku LIMIT ?3";
    let rows = journal.query(sql, vec![reservation_id.into(), sku.into(), i64::from(limit).into()]).await?;
    rows.iter().map(held).collect()
}

fn held(row: &Row) -> Result<HeldStock, JournalError> {
    let corrupt = |error: &dyn std::fmt::Display| JournalError::Corrupt(error.to_string());
    Ok(HeldStock {
        reservation_id: ReservationId::parse(row.text(0)?).map_err(|error| corrupt(&error))?,
        sku: Sku::parse(row.text(1)?).map_err(|error| corrupt(&error))?,
        order_id: OrderId::parse(row.text(2)?).map_err(|error| corrupt(&error))?,
        units: row.integer(3)?,
        is_committed: row.text(4)? == "committed",
    })
}

impl ProductService {
    /// Frees what is held. Again, it has no effect.
    ///
    /// # Errors
    /// [`ProductError::Busy`], [`ProductError::Unavailable`].
    pub async fn release_held(&self, held: &HeldStock, reason: &str, ctx: &RequestContext) -> Result<(), ProductError> {
        let HeldStock { reservation_id, sku, .. } = held;
        let release = StockCommand::Release { reservation_id: reservation_id.clone(), reason: reason.to_owned() };
        let command_id = CommandId::of(&["recover", "release", reservation_id.as_str(), sku.as_str()]);
        let released = self.stock_items().ask(sku.as_str(), release, ctx.command(command_id)).await;
        released.map(drop).map_err(|error| of_stock(sku, error))
    }
}
