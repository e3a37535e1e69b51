//! The read model of payments: one row a payment.

use runtime::ViewWrite;

use crate::payment::Payment;

/// The tables.
pub const VIEWS: &str = "
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
CREATE INDEX IF NOT EXISTS payments_by_order ON payments (order_id, created_ms);
";

const UPSERT: &str = "INSERT INTO payments (payment_id, order_id, user_id, status, created_ms, amount_minor, \
                      captured_minor, refunded_minor, currency, doc) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) \
                      ON CONFLICT (payment_id) DO UPDATE SET status = excluded.status, \
                      captured_minor = excluded.captured_minor, refunded_minor = excluded.refunded_minor, \
                      doc = excluded.doc";

/// A payment's row.
pub fn row(payment: &Payment) -> ViewWrite {
    ViewWrite::new(
        UPSERT,
        vec![
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
        ],
    )
}
