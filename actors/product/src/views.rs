//! The tables of the read model, and the statements that write them. Each event touches only the rows that it changes.

/// Of products.
pub const PRODUCT_TABLES: &str = "
CREATE TABLE IF NOT EXISTS products (
    product_id  TEXT    NOT NULL PRIMARY KEY,
    name        TEXT    NOT NULL,
    description TEXT    NOT NULL,
    price_minor INTEGER NOT NULL,
    currency    TEXT    NOT NULL,
    category    TEXT    NOT NULL,
    sku         TEXT    NOT NULL UNIQUE,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    version     INTEGER NOT NULL,
    archived    INTEGER NOT NULL,
    search_text TEXT    NOT NULL,
    doc         TEXT    NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS products_by_name ON products (name, product_id) WHERE archived = 0;
CREATE INDEX IF NOT EXISTS products_by_price ON products (price_minor, product_id) WHERE archived = 0;
CREATE INDEX IF NOT EXISTS products_by_age ON products (created_at, product_id) WHERE archived = 0;
CREATE INDEX IF NOT EXISTS products_by_category_name ON products (category, name, product_id) WHERE archived = 0;
CREATE INDEX IF NOT EXISTS products_by_category_price ON products (category, price_minor, product_id) WHERE archived = 0;
CREATE INDEX IF NOT EXISTS products_by_category_age ON products (category, created_at, product_id) WHERE archived = 0;
-- How many products of a category are in the catalogue, kept with each change of one: a page's total costs nothing.
CREATE TABLE IF NOT EXISTS product_counts (
    category TEXT    NOT NULL PRIMARY KEY,
    products INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

/// Of stock. The checks are the last guard behind its single writer: a commit that breaks them is not made.
pub const STOCK_TABLES: &str = "
CREATE TABLE IF NOT EXISTS stock (
    sku        TEXT    NOT NULL PRIMARY KEY,
    product_id TEXT    NOT NULL,
    received   INTEGER NOT NULL,
    adjusted   INTEGER NOT NULL,
    on_hand    INTEGER NOT NULL,
    reserved   INTEGER NOT NULL CHECK (reserved >= 0),
    committed  INTEGER NOT NULL CHECK (committed >= 0),
    available  INTEGER NOT NULL CHECK (available >= 0 AND available = on_hand - reserved - committed),
    version    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reservations (
    reservation_id TEXT    NOT NULL,
    sku            TEXT    NOT NULL,
    order_id       TEXT    NOT NULL,
    quantity       INTEGER NOT NULL,
    status         TEXT    NOT NULL,
    expires_at     INTEGER,
    PRIMARY KEY (reservation_id, sku)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS reservations_by_order ON reservations (order_id);
CREATE INDEX IF NOT EXISTS reservations_held ON reservations (expires_at, reservation_id, sku)
    WHERE status = 'reserved';
";

/// What is added to the count of a category.
pub const ADD_TO_COUNTS: &str = "INSERT INTO product_counts (category, products) VALUES (?1, ?2) \
    ON CONFLICT (category) DO UPDATE SET products = product_counts.products + excluded.products";

/// One product; what was set at its creation stays.
pub const UPSERT_PRODUCT: &str = "INSERT INTO products \
    (product_id, name, description, price_minor, currency, category, sku, created_at, updated_at, version, archived, \
    search_text, doc) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) \
    ON CONFLICT (product_id) DO UPDATE SET name = excluded.name, description = excluded.description, \
    price_minor = excluded.price_minor, currency = excluded.currency, category = excluded.category, \
    updated_at = excluded.updated_at, version = excluded.version, archived = excluded.archived, \
    search_text = excluded.search_text, doc = excluded.doc";

/// One SKU.
pub const UPSERT_STOCK: &str = "INSERT INTO stock \
    (sku, product_id, received, adjusted, on_hand, reserved, committed, available, version) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) \
    ON CONFLICT (sku) DO UPDATE SET received = excluded.received, adjusted = excluded.adjusted, \
    on_hand = excluded.on_hand, reserved = excluded.reserved, committed = excluded.committed, \
    available = excluded.available, version = excluded.version";

/// One reservation of one SKU; only its status changes.
pub const UPSERT_RESERVATION: &str = "INSERT INTO reservations \
    (reservation_id, sku, order_id, quantity, status, expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
    ON CONFLICT (reservation_id, sku) DO UPDATE SET status = excluded.status";

/// When the order of a hold is asked once more.
pub const ASK_AGAIN_AT: &str = "UPDATE reservations SET expires_at = ?3 WHERE reservation_id = ?1 AND sku = ?2";

/// The holds beyond their time, after one of them.
pub const HELD_SINCE: &str = "SELECT expires_at, reservation_id, sku FROM reservations \
    WHERE status = 'reserved' AND expires_at <= ?1 AND (expires_at, reservation_id, sku) > (?2, ?3, ?4) \
    ORDER BY expires_at, reservation_id, sku LIMIT ?5";
