//! The stock that is held beyond its time.
//!
//! Every hold has an owner, its order, which releases it when it has run out. A hold whose order has not done so a while later
//! (its word was lost, or there is no such order) is found by the clock of [`runtime::deadlines`], and the order is asked, by
//! a message: what it does not need is released, what it has paid for is sold, and for what it still needs it is asked
//! again later. Nothing is decided here.

use std::sync::Arc;

use contracts::{EventId, ReservationId, Sku, Timestamp};
use futures::{FutureExt, future::BoxFuture};
use runtime::{
    CommandId, Entities, EntityId, Journal, JournalError, RequestContext,
    deadlines::{Deadlines, Due, Woken},
};

use crate::{
    stock_item::{StockCommand, StockItem},
    views::HELD_SINCE,
};

/// How long an order may take to release what it held, in milliseconds: a payment that has begun holds it for longer than the
/// hold says.
const GRACE_MS: i64 = 60_000;
/// After how long an order that still needs it is asked again, in milliseconds.
const ASKED_EVERY_MS: i64 = 5 * 60_000;
/// How long a SKU may take to answer.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// See the module's text.
#[derive(Clone)]
pub struct OverdueHolds {
    pub(crate) stock: Entities<StockItem>,
    pub(crate) journal: Arc<dyn Journal>,
}

impl Deadlines for OverdueHolds {
    fn due(&self, now_ms: i64, after: Option<Due>, limit: u32) -> BoxFuture<'static, Result<Vec<Due>, JournalError>> {
        let after = after.unwrap_or_default();
        let (reservation_id, sku) = parts(&after.id);
        let params = vec![
            (now_ms - GRACE_MS).into(),
            after.at_ms.into(),
            reservation_id.into(),
            sku.into(),
            i64::from(limit).into(),
        ];
        let rows = self.journal.query(HELD_SINCE, params);
        async move {
            let held = |row: &runtime::Row| {
                let id = EntityId::from(format!("{} {}", row.text(1)?, row.text(2)?));
                Ok(Due { at_ms: row.integer(0)?, id })
            };
            rows.await?.iter().map(held).collect()
        }
        .boxed()
    }

    fn wake(&self, due: Due, now_ms: i64) -> BoxFuture<'static, Result<Woken, String>> {
        let stock = self.stock.clone();
        async move {
            let (reservation_id, sku) = parts(&due.id);
            let reservation_id = ReservationId::parse(reservation_id).map_err(|error| error.to_string())?;
            let sku = Sku::parse(sku).map_err(|error| error.to_string())?;
            let ask = StockCommand::AskOwner {
                reservation_id,
                expires_at: Timestamp::from_millis(due.at_ms),
                ask_again_at: Timestamp::from_millis(now_ms + ASKED_EVERY_MS),
            };
            let context = RequestContext::new("overdue-hold", PATIENCE);
            let command_id = CommandId::of(&["ask-owner", EventId::generate().as_str()]);
            let asked = stock.ask(sku.as_str(), ask, context.command(command_id)).await;
            asked.map(|_| Woken::Done).map_err(|error| format!("{error:?}"))
        }
        .boxed()
    }
}

/// The reservation and the SKU in a hold's name.
fn parts(id: &str) -> (&str, &str) {
    id.split_once(' ').unwrap_or((id, ""))
}
