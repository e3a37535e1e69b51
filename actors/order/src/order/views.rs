//! The read model of orders: one row an order, from its creation on, one while it waits for its stock, and one for the open
//! debts of an order that has any.

use runtime::{EntityId, ViewWrite, totals::Counts};

use super::{
    debts::{Debts, pause_ms},
    event::OrderEvent,
    state::Order,
    status::OrderStatus,
};

/// The tables.
pub const TABLES: &str = "
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
CREATE INDEX IF NOT EXISTS orders_by_age ON orders (created_ms, order_id);
CREATE INDEX IF NOT EXISTS orders_by_user ON orders (user_id, created_ms, order_id);
-- For the lists with a status. By a bare column it would be taken for the orders to expire as well, which would then be sorted.
CREATE INDEX IF NOT EXISTS orders_by_status ON orders ((status || ''), created_ms, order_id);
CREATE INDEX IF NOT EXISTS orders_unpaid ON orders (expires_ms, order_id)
    WHERE status IN ('pending', 'payment_processing');
CREATE TABLE IF NOT EXISTS orders_waiting (
    order_id TEXT    NOT NULL PRIMARY KEY,
    due_ms   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS orders_waiting_due ON orders_waiting (due_ms, order_id);
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
-- The sums over all orders, by status, kept with each change of one: to add them up would read every order ever placed.
CREATE TABLE IF NOT EXISTS order_sums (
    status         TEXT    NOT NULL PRIMARY KEY,
    orders         INTEGER NOT NULL,
    total_minor    INTEGER NOT NULL,
    captured_minor INTEGER NOT NULL,
    refunded_minor INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

/// One page of all orders, newest first, after (created, id).
pub const PAGE: &str = "SELECT doc FROM orders WHERE (created_ms, order_id) < (?1, ?2) \
                        ORDER BY created_ms DESC, order_id DESC LIMIT ?3";
/// One page of a user's orders.
pub const PAGE_OF_USER: &str = "SELECT doc FROM orders WHERE user_id = ?4 AND (created_ms, order_id) < (?1, ?2) \
                                ORDER BY created_ms DESC, order_id DESC LIMIT ?3";
/// One page of the orders with a status.
pub const PAGE_OF_STATUS: &str = "SELECT doc FROM orders WHERE status || '' = ?4 AND (created_ms, order_id) < (?1, ?2) \
                                  ORDER BY created_ms DESC, order_id DESC LIMIT ?3";
/// One page of a user's orders with a status. It goes through the user's orders, which one person has made: no index has the bare
/// status.
pub const PAGE_OF_USER_AND_STATUS: &str = "SELECT doc FROM orders WHERE user_id = ?4 AND status = ?5 \
                                           AND (created_ms, order_id) < (?1, ?2) \
                                           ORDER BY created_ms DESC, order_id DESC LIMIT ?3";

/// The sums of all orders.
pub const SUMS: &str = "SELECT status, orders, total_minor, captured_minor, refunded_minor FROM order_sums \
                        WHERE orders > 0 ORDER BY status";
/// What is added to the sums of a status.
pub const ADD_TO_SUMS: &str = "INSERT INTO order_sums (status, orders, total_minor, captured_minor, refunded_minor) \
                               VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (status) DO UPDATE SET \
                               orders = order_sums.orders + excluded.orders, \
                               total_minor = order_sums.total_minor + excluded.total_minor, \
                               captured_minor = order_sums.captured_minor + excluded.captured_minor, \
                               refunded_minor = order_sums.refunded_minor + excluded.refunded_minor";
/// The unpaid orders whose time is over, after one of them.
pub const DUE_UNPAID: &str = "SELECT expires_ms, order_id FROM orders \
                              WHERE status IN ('pending', 'payment_processing') AND expires_ms <= ?1 \
                              AND (expires_ms, order_id) > (?2, ?3) ORDER BY expires_ms, order_id LIMIT ?4";
/// The orders that wait for their stock, for the first time or once more, beyond their time.
pub const DUE_WAITING: &str = "SELECT due_ms, order_id FROM orders_waiting WHERE due_ms <= ?1 \
                               AND (due_ms, order_id) > (?2, ?3) ORDER BY due_ms, order_id LIMIT ?4";

const WAITS: &str = "INSERT INTO orders_waiting (order_id, due_ms) VALUES (?1, ?2) \
                     ON CONFLICT (order_id) DO UPDATE SET due_ms = excluded.due_ms";
const WAITS_NO_MORE: &str = "DELETE FROM orders_waiting WHERE order_id = ?1";

const UPSERT: &str = "INSERT INTO orders (order_id, user_id, status, created_ms, updated_ms, expires_ms, total_minor, \
                      captured_minor, refunded_minor, currency, doc) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) \
                      ON CONFLICT (order_id) DO UPDATE SET status = excluded.status, updated_ms = excluded.updated_ms, \
                      expires_ms = excluded.expires_ms, captured_minor = excluded.captured_minor, \
                      refunded_minor = excluded.refunded_minor, doc = excluded.doc";

const UPSERT_DEBTS: &str = "INSERT INTO open_debts (order_id, since_ms, due_ms, asked_again, stock_lines, refunds, owed_minor) \
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (order_id) DO UPDATE SET due_ms = excluded.due_ms, \
                      asked_again = excluded.asked_again, stock_lines = excluded.stock_lines, \
                      refunds = excluded.refunds, owed_minor = excluded.owed_minor";
const DELETE_DEBTS: &str = "DELETE FROM open_debts WHERE order_id = ?1";

/// Those due at a time, behind one of them.
pub const DUE_DEBTS: &str = "SELECT due_ms, order_id, asked_again FROM open_debts WHERE due_ms <= ?1 \
                       AND (due_ms, order_id) > (?2, ?3) ORDER BY due_ms, order_id LIMIT ?4";
/// Those that an operator should see, the oldest first: money that is owed, and what was asked for again and again.
pub const WORTH_A_LOOK: &str = "SELECT order_id, since_ms, asked_again, stock_lines, refunds, owed_minor FROM open_debts \
                                WHERE refunds > 0 OR asked_again >= 3 ORDER BY since_ms, order_id LIMIT ?1";

/// The rows after an event: the order's own, and until when it waits for its stock.
pub fn of(id: &EntityId, order: Option<&Order>, event: &OrderEvent, at_ms: i64) -> Vec<ViewWrite> {
    let mut writes = Vec::from_iter(debts_row(id, order, event, at_ms));
    if let Some(order) = order {
        writes.extend(row(id, order, event, at_ms));
        writes.extend(waiting(id, order, event));
    }
    writes
}

/// An order waits for its stock from its submission, or from late money, until that is decided.
fn waiting(id: &EntityId, order: &Order, event: &OrderEvent) -> Option<ViewWrite> {
    match event {
        OrderEvent::Submitted { .. } | OrderEvent::LatePaymentReceived { .. } => {
            let due = order.deadline()?.as_millis();
            Some(ViewWrite::new(WAITS, vec![(&**id).into(), due.into()]))
        }
        OrderEvent::Created { .. } | OrderEvent::Rejected { .. } | OrderEvent::PlacingTimedOut { .. } => {
            Some(ViewWrite::new(WAITS_NO_MORE, vec![(&**id).into()]))
        }
        OrderEvent::Paid { from: OrderStatus::Cancelled, .. } | OrderEvent::RefundRequired { .. } => {
            Some(ViewWrite::new(WAITS_NO_MORE, vec![(&**id).into()]))
        }
        _ => None,
    }
}

/// True of an order that nobody has been told of: it has no row and is in no sum.
fn is_hidden(order: &Order) -> bool {
    matches!(order.status, OrderStatus::Placing | OrderStatus::Rejected)
}

/// What an order adds to the sums, under its status.
pub fn counts(order: &Order) -> Option<Counts> {
    let numbers = [1, order.draft.total_minor, order.captured_minor, order.refunded_minor];
    (!is_hidden(order)).then(|| Counts::new(order.status.name(), numbers))
}

/// The order's row.
fn row(id: &EntityId, order: &Order, event: &OrderEvent, at_ms: i64) -> Option<ViewWrite> {
    let changes_nothing_shown = matches!(
        event,
        OrderEvent::LineReserved { .. }
            | OrderEvent::PaymentRefused { .. }
            | OrderEvent::StockSettled { .. }
            | OrderEvent::DebtsAskedAgain(_)
    );
    if is_hidden(order) || changes_nothing_shown {
        return None;
    }
    // An order is plain data: its encoding cannot fail.
    let doc = serde_json::to_string(order).unwrap_or_default();
    let params = vec![
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
    ];
    Some(ViewWrite::new(UPSERT, params))
}

/// The row of an order's open debts after an event.
pub(super) fn debts_row(id: &EntityId, order: Option<&Order>, event: &OrderEvent, at_ms: i64) -> Option<ViewWrite> {
    let Some(order) = order else { return debts_row_without_order(id, event, at_ms) };
    let debts = &order.debts;
    match (Debts::are_touched_by(event), debts.are_settled()) {
        (false, _) => None,
        (true, true) => Some(ViewWrite::new(DELETE_DEBTS, vec![(&**id).into()])),
        (true, false) => {
            let due_ms = at_ms.saturating_add(pause_ms(debts.asked_again));
            let lines = i64::try_from(debts.stock.len()).unwrap_or(i64::MAX);
            let refunds = i64::try_from(debts.refunds.len()).unwrap_or(i64::MAX);
            Some(upsert_debts(id, at_ms, due_ms, debts.asked_again, [lines, refunds, debts.owed_minor()]))
        }
    }
}

/// Money that was captured for an order that never was: it is shown, and not asked for again, for there is no order to ask.
fn debts_row_without_order(id: &EntityId, event: &OrderEvent, at_ms: i64) -> Option<ViewWrite> {
    match event {
        OrderEvent::RefundRequired { amount_minor, .. } => {
            Some(upsert_debts(id, at_ms, i64::MAX, 0, [0, 1, *amount_minor]))
        }
        OrderEvent::Refunded { .. } => Some(ViewWrite::new(DELETE_DEBTS, vec![(&**id).into()])),
        _ => None,
    }
}

fn upsert_debts(id: &EntityId, since_ms: i64, due_ms: i64, asked_again: u32, debts: [i64; 3]) -> ViewWrite {
    let [lines, refunds, owed_minor] = debts;
    let params = vec![
        (&**id).into(),
        since_ms.into(),
        due_ms.into(),
        i64::from(asked_again).into(),
        lines.into(),
        refunds.into(),
        owed_minor.into(),
    ];
    ViewWrite::new(UPSERT_DEBTS, params)
}
