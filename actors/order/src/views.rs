//! The read model of orders: one row an order, from its creation on.

use runtime::{EntityId, ViewWrite};

use crate::order::{Order, OrderEvent, OrderStatus};

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
";

const UPSERT: &str = "INSERT INTO orders (order_id, user_id, status, created_ms, updated_ms, expires_ms, total_minor, \
                      captured_minor, refunded_minor, currency, doc) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) \
                      ON CONFLICT (order_id) DO UPDATE SET status = excluded.status, updated_ms = excluded.updated_ms, \
                      expires_ms = excluded.expires_ms, captured_minor = excluded.captured_minor, \
                      refunded_minor = excluded.refunded_minor, doc = excluded.doc";

/// The row after an event. An order that nobody has been told of has none.
pub fn of(id: &EntityId, order: Option<&Order>, event: &OrderEvent, at_ms: i64) -> Vec<ViewWrite> {
    let Some(order) = order else { return Vec::new() };
    let is_hidden = matches!(order.status, OrderStatus::Placing | OrderStatus::Rejected);
    if is_hidden || matches!(event, OrderEvent::LineReserved { .. } | OrderEvent::PaymentRefused { .. }) {
        return Vec::new();
    }
    // An order is plain data: its encoding cannot fail.
    let doc = serde_json::to_string(order).unwrap_or_default();
    vec![ViewWrite::new(
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
    )]
}
