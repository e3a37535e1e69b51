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

#[cfg(test)]
mod tests {
    use contracts::{OrderId, ProductId, Quantity};
    use ractor::{Actor, ActorRef};
    use runtime::{
        EntitiesConfig, Gate, Roster,
        journal::memory::{Faults, MemoryDisk, MemoryJournal},
        supervision::{Supervisor, SupervisorMessage, SupervisorSpec},
    };

    use super::*;
    use crate::{ProductService, stock_item::StockEvent};

    struct Stage {
        holds: OverdueHolds,
        journal: Arc<MemoryJournal>,
        tree: ActorRef<SupervisorMessage>,
    }

    impl Stage {
        /// Two SKUs with units of each. No clock runs.
        async fn new() -> Self {
            let disk = MemoryDisk::new(ProductService::VIEWS).unwrap();
            let journal = MemoryJournal::open(&disk, Faults::none()).await.unwrap();
            let roster = Roster::new();
            let stock: Entities<StockItem> =
                Entities::new(journal.clone(), &Gate::new(100), EntitiesConfig::default(), roster.clone());
            let spec = SupervisorSpec::new("stock", stock.shards());
            let (tree, _) = Supervisor::spawn(None, Supervisor, (spec, roster)).await.unwrap();
            let stage = Self { holds: OverdueHolds { stock, journal: journal.clone() }, journal, tree };
            for sku in ["sku_a", "sku_b"] {
                let product_id = ProductId::parse("prod_1").unwrap();
                stage.ask(sku, StockCommand::Receive { product_id, quantity: 10, reason: "bought".into() }).await;
            }
            stage
        }

        async fn stop(self) {
            self.tree.stop_and_wait(None, None).await.unwrap();
            self.journal.close().await;
        }

        async fn ask(&self, sku: &str, command: StockCommand) {
            let command_id = CommandId::of(&[EventId::generate().as_str()]);
            self.holds
                .stock
                .ask(sku, command, RequestContext::new("test", PATIENCE).command(command_id))
                .await
                .unwrap();
        }

        async fn hold(&self, reservation: &str, sku: &str, expires_ms: i64) {
            let reserve = StockCommand::Reserve {
                reservation_id: ReservationId::parse(reservation).unwrap(),
                order_id: OrderId::parse("ord_1").unwrap(),
                quantity: Quantity::ONE,
                expires_at: Timestamp::from_millis(expires_ms),
            };
            self.ask(sku, reserve).await;
        }

        async fn due(&self, now_ms: i64, after: Option<Due>, limit: u32) -> Vec<Due> {
            self.holds.due(now_ms, after, limit).await.unwrap()
        }

        /// What the orders were asked about one SKU: the hold's end, and when that is due once more.
        async fn asked(&self, sku: &str) -> Vec<(i64, i64)> {
            let events = self.journal.events(format!("stock/{sku}").into()).await.unwrap();
            let asked = |recorded| match runtime::decode_event::<StockItem>(recorded).unwrap() {
                StockEvent::HoldOverdue { expires_at, ask_again_at, .. } => {
                    Some((expires_at.as_millis(), ask_again_at.as_millis()))
                }
                _ => None,
            };
            events.iter().filter_map(asked).collect()
        }
    }

    fn due(at_ms: i64, id: &str) -> Due {
        Due { at_ms, id: id.into() }
    }

    #[tokio::test]
    async fn holds_are_due_a_minute_beyond_their_time_and_are_told_page_by_page() {
        let stage = Stage::new().await;
        stage.hold("res_1", "sku_b", 1_000).await;
        stage.hold("res_1", "sku_a", 1_000).await;
        stage.hold("res_2", "sku_a", 2_000).await;
        let [first, second, third] = [due(1_000, "res_1 sku_a"), due(1_000, "res_1 sku_b"), due(2_000, "res_2 sku_a")];
        assert_eq!(stage.due(60_999, None, 9).await, []);
        assert_eq!(stage.due(61_000, None, 9).await, [first.clone(), second.clone()]);
        assert_eq!(stage.due(62_000, None, 9).await, [first.clone(), second.clone(), third.clone()]);
        assert_eq!(stage.due(62_000, None, 1).await, std::slice::from_ref(&first));
        assert_eq!(stage.due(62_000, Some(first), 1).await, std::slice::from_ref(&second));
        assert_eq!(stage.due(62_000, Some(second), 9).await, std::slice::from_ref(&third));
        assert_eq!(stage.due(62_000, Some(third), 9).await, []);
        let release =
            StockCommand::Release { reservation_id: ReservationId::parse("res_1").unwrap(), reason: "expired".into() };
        stage.ask("sku_a", release).await;
        assert_eq!(stage.due(61_000, None, 9).await, [due(1_000, "res_1 sku_b")], "what is free is held by nobody");
        stage.stop().await;
    }

    #[tokio::test]
    async fn the_order_of_a_hold_beyond_its_time_is_asked_and_five_minutes_later_once_more() {
        let stage = Stage::new().await;
        stage.hold("res_1", "sku_a", 1_000).await;
        let overdue = due(1_000, "res_1 sku_a");
        assert_eq!(stage.holds.wake(overdue, 61_000).await, Ok(Woken::Done));
        assert_eq!(stage.asked("sku_a").await, [(1_000, 361_000)]);
        // A minute beyond that, as with every hold.
        assert_eq!(stage.due(420_999, None, 9).await, []);
        assert_eq!(stage.due(421_000, None, 9).await, [due(361_000, "res_1 sku_a")]);
        stage.stop().await;
    }

    #[tokio::test]
    async fn a_hold_without_a_proper_name_is_an_error_and_asks_nobody() {
        let stage = Stage::new().await;
        for id in ["res_1", "sku_a res_1", "res_1 ", ""] {
            let woken = stage.holds.wake(due(1_000, id), 61_000).await;
            assert!(woken.is_err(), "{id:?}: {woken:?}");
        }
        stage.stop().await;
    }
}
