//! The read model of payments: one row a payment.

use runtime::ViewWrite;

use crate::payment::Payment;

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
/// What a payment adds to the sums: what it has now, less what its row has, which is written after it.
const ADD_TO_SUMS: &str = "INSERT INTO payment_sums (one, captured_minor, refunded_minor) VALUES (1, \
                           ?2 - coalesce((SELECT p.captured_minor FROM payments p WHERE p.payment_id = ?1), 0), \
                           ?3 - coalesce((SELECT p.refunded_minor FROM payments p WHERE p.payment_id = ?1), 0)) \
                           ON CONFLICT (one) DO UPDATE SET \
                           captured_minor = payment_sums.captured_minor + excluded.captured_minor, \
                           refunded_minor = payment_sums.refunded_minor + excluded.refunded_minor";

const UPSERT: &str = "INSERT INTO payments (payment_id, order_id, user_id, status, created_ms, amount_minor, \
                      captured_minor, refunded_minor, currency, doc) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) \
                      ON CONFLICT (payment_id) DO UPDATE SET status = excluded.status, \
                      captured_minor = excluded.captured_minor, refunded_minor = excluded.refunded_minor, \
                      doc = excluded.doc";

/// A payment's row, and its part of the sums.
pub fn rows(payment: &Payment) -> Vec<ViewWrite> {
    let (captured, refunded) = (payment.captured_minor(), payment.refunded_minor());
    let sums = vec![payment.payment_id.as_str().into(), captured.into(), refunded.into()];
    vec![
        ViewWrite::new(ADD_TO_SUMS, sums),
        ViewWrite::new(
            UPSERT,
            vec![
                payment.payment_id.as_str().into(),
                payment.order_id.as_str().into(),
                payment.user_id.as_str().into(),
                payment.status.name().into(),
                payment.created_at.as_millis().into(),
                payment.amount_minor.into(),
                captured.into(),
                refunded.into(),
                payment.currency.code().into(),
                // A payment is plain data: its encoding cannot fail.
                serde_json::to_string(payment).unwrap_or_default().into(),
            ],
        ),
    ]
}
