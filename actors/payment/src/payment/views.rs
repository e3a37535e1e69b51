//! The read model of payments: one row a payment.

use runtime::{ViewWrite, totals::Counts};

use super::state::{OrderPayments, Payment};

/// The tables.
pub const TABLES: &str = "
CREATE TABLE IF NOT EXISTS payments (
    payment_id     TEXT    NOT NULL PRIMARY KEY,
    order_id       TEXT    NOT NULL,
    user_id        TEXT    NOT NULL,
    status         TEXT    NOT NULL,
    created_ms     INTEGER NOT NULL,
    amount_minor   INTEGER NOT NULL,
    captured_minor INTEGER NOT NULL,
    refunded_minor INTEGER NOT NULL,
    currency       TEXT    NOT NULL,
    doc            TEXT    NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS payments_by_order ON payments (order_id, created_ms, payment_id);
CREATE INDEX IF NOT EXISTS payments_open ON payments (created_ms, payment_id)
    WHERE status IN ('created', 'processing', 'requires_action');
-- The sums over all payments: one row, kept with each change of one.
CREATE TABLE IF NOT EXISTS payment_sums (
    one            INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    captured_minor INTEGER NOT NULL,
    refunded_minor INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

/// The payments that are open since a time or longer, after one of them.
pub const OPEN_SINCE: &str = "SELECT created_ms, payment_id FROM payments \
                              WHERE status IN ('created', 'processing', 'requires_action') AND created_ms <= ?1 \
                              AND (created_ms, payment_id) > (?2, ?3) ORDER BY created_ms, payment_id LIMIT ?4";
/// A payment by its id.
pub const BY_ID: &str = "SELECT doc FROM payments WHERE payment_id = ?1";
/// The payments of an order, oldest first.
pub const OF_ORDER: &str = "SELECT doc FROM payments WHERE order_id = ?1 ORDER BY created_ms, payment_id";
/// The sums over all payments: no row before the first.
pub const SUMS: &str = "SELECT captured_minor, refunded_minor FROM payment_sums WHERE one = 1";
/// What is added to the sums.
pub const ADD_TO_SUMS: &str = "INSERT INTO payment_sums (one, captured_minor, refunded_minor) VALUES (?1, ?2, ?3) \
                               ON CONFLICT (one) DO UPDATE SET \
                               captured_minor = payment_sums.captured_minor + excluded.captured_minor, \
                               refunded_minor = payment_sums.refunded_minor + excluded.refunded_minor";

const UPSERT: &str = "INSERT INTO payments (payment_id, order_id, user_id, status, created_ms, amount_minor, \
                      captured_minor, refunded_minor, currency, doc) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) \
                      ON CONFLICT (payment_id) DO UPDATE SET status = excluded.status, \
                      captured_minor = excluded.captured_minor, refunded_minor = excluded.refunded_minor, \
                      doc = excluded.doc";

/// What an order's payments add to the sums: there is one row of them.
pub fn counts(payments: &OrderPayments) -> Counts {
    let sum = |minor: fn(&Payment) -> i64| payments.payments.iter().map(minor).sum();
    Counts::new(1, [sum(Payment::captured_minor), sum(Payment::refunded_minor)])
}

/// A payment's row.
pub fn row(payment: &Payment) -> ViewWrite {
    let params = vec![
        payment.payment_id.as_str().into(),
        payment.order_id.as_str().into(),
        payment.user_id.as_str().into(),
        payment.status.name().into(),
        payment.created_at.as_millis().into(),
        payment.amount_minor.into(),
        payment.captured_minor().into(),
        payment.refunded_minor().into(),
        payment.currency.code().into(),
        // A payment is plain data: its encoding cannot fail.
        serde_json::to_string(payment).unwrap_or_default().into(),
    ];
    ViewWrite::new(UPSERT, params)
}
