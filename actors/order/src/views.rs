//! The read model of orders: one row an order, from its creation on; and one for the open debts of an order that has any.

use runtime::{EntityId, ViewWrite};

use crate::{
    debts,
    order::{Order, OrderEvent, OrderStatus},
};

/// The tables.
pub const VIEWS: &str = "
CREATE TABLE IF NOT EXISTS orders (
    order_id       TEXT    NOT NULL PRIMARY KEY,
    user_id        TEXT    NOT NULL,
    status         TEXT    NOT NULL,
    created_ms     INTEGER NOT NULL,
    updated_ms     INTEGER NOT NULL,
    expires_ms     INTEGER NOT NULL,
    total_minor    INTEGER NOT NULL,
    captured_minor INTEGER NOT NULL,
    refunded_minor INTEGER NOT NULL,
    currency       TEXT    NOT NULL,
    doc            TEXT    NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS orders_by_user ON orders (user_id, created_ms, order_id);
CREATE INDEX IF NOT EXISTS orders_to_expire ON orders (expires_ms) WHERE status IN ('pending', 'payment_processing');
CREATE TABLE IF NOT EXISTS open_debts (
    order_id    TEXT    NOT NULL PRIMARY KEY,
    since_ms    INTEGER NOT NULL,
    due_ms      INTEGER NOT NULL,
    asked_again INTEGER NOT NULL,
    stock_lines INTEGER NOT NULL,
    refunds     INTEGER NOT NULL,
    owed_minor  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS open_debts_due ON open_debts (due_ms, order_id);
CREATE INDEX IF NOT EXISTS open_debts_worth_a_look ON open_debts (since_ms, order_id)
    WHERE refunds > 0 OR asked_again >= 3;
";

const UPSERT: &str = "INSERT INTO orders (order_id, user_id, status, created_ms, updated_ms, expires_ms, total_minor, \
                      captured_minor, refunded_minor, currency, doc) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) \
                      ON CONFLICT (order_id) DO UPDATE SET status = excluded.status, updated_ms = excluded.updated_ms, \
                      expires_ms = excluded.expires_ms, captured_minor = excluded.captured_minor, \
                      refunded_minor = excluded.refunded_minor, doc = excluded.doc";

/// The row after an event. An order that nobody has been told of has none.
pub fn of(id: &EntityId, order: Option<&Order>, event: &OrderEvent, at_ms: i64) -> Vec<ViewWrite> {
    let mut writes = Vec::from_iter(debts::row(id, order, event, at_ms));
    writes.extend(order.and_then(|order| row(id, order, event, at_ms)));
    writes
}

fn row(id: &EntityId, order: &Order, event: &OrderEvent, at_ms: i64) -> Option<ViewWrite> {
    let is_hidden = matches!(order.status, OrderStatus::Placing | OrderStatus::Rejected);
    let changes_nothing_shown = matches!(
        event,
        OrderEvent::LineReserved { .. }
            | OrderEvent::PaymentRefused { .. }
            | OrderEvent::StockSettled { .. }
            | OrderEvent::DebtsAskedAgain(_)
    );
    if is_hidden || changes_nothing_shown {
        return None;
    }
    // An order is plain data: its encoding cannot fail.
    let doc = serde_json::to_string(order).unwrap_or_default();
    Some(ViewWrite::new(
        UPSERT,
        vec![
            (&**id).into(),
            order.draft.user_id.as_str().into(),
            order.status.name().into(),
            order.created_at.as_millis().into(),
            at_ms.into(),
            order.expires_at.as_millis().into(),
            order.draft.total_minor.into(),
            order.captured_minor.into(),
            order.refunded_minor.into(),
            order.draft.currency.code().into(),
            doc.into(),
        ],
    ))
}
