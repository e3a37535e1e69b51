//! What an operator's reconciliation needs of the orders: whether there is one, and which payments have paid.
//!
//! It reads a journal, of a service that runs or of one that does not, and changes nothing.

use contracts::{OrderId, PaymentId};
use runtime::{Entity, Journal, JournalError, Position, decode_event};

use crate::order::{Order, OrderEntity, OrderStatus};

/// The order as its events in `journal` say, also one that nobody has been told of, with the position of its last event; nothing where
/// there is none.
///
/// # Errors
/// [`JournalError`] when its stream cannot be read.
pub async fn order_in(journal: &dyn Journal, order_id: &OrderId) -> Result<Option<(Order, Position)>, JournalError> {
    let (mut order, mut last) = (None, 0);
    for event in journal.events(format!("{}/{order_id}", OrderEntity::KIND).into()).await? {
        OrderEntity::evolve(&mut order, &decode_event::<OrderEntity>(&event)?);
        last = event.position;
    }
    Ok(order.map(|order| (order, last)))
}

/// One page of the orders in the order of their ids: each with the payment that it is paid by, if it is.
///
/// # Errors
/// [`JournalError`] when the view cannot be read.
pub async fn payers(
    journal: &dyn Journal,
    after: Option<&OrderId>,
    limit: u32,
) -> Result<Vec<(OrderId, Option<PaymentId>)>, JournalError> {
    let sql = "SELECT doc FROM orders WHERE order_id > ?1 ORDER BY order_id LIMIT ?2";
    let after = after.map_or("", OrderId::as_str);
    let rows = journal.query(sql, vec![after.into(), i64::from(limit).into()]).await?;
    let payer = |row: &runtime::Row| {
        let order: Order =
            serde_json::from_str(row.text(0)?).map_err(|error| JournalError::Corrupt(error.to_string()))?;
        let payment_id = order.payment_id.filter(|_| order.status == OrderStatus::Paid);
        Ok((order.draft.order_id, payment_id))
    };
    rows.iter().map(payer).collect()
}
