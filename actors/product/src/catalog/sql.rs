//! The questions' statements. All of a list's have the same six conditions, each skipped where its parameter is NULL:
//! category, search pattern, lowest price, highest price, in stock (1) or not (0), a JSON array of ids.
//!
//! `json_each` is SQLite's; everything else is shared with PostgreSQL.

use super::{SortKey, SortOrder};

macro_rules! columns {
    () => {
        "SELECT p.product_id, p.sku, p.name, p.description, p.price_minor, p.currency, p.category, p.doc, p.created_at, \
         p.updated_at, p.version, \
         coalesce((SELECT s.available FROM stock s WHERE s.sku = p.sku), 0), \
         coalesce((SELECT s.version FROM stock s WHERE s.sku = p.sku), 0) FROM products p "
    };
}

macro_rules! conditions {
    ($category:literal) => {
        concat!(
            "WHERE p.archived = 0 AND ",
            $category,
            " AND (?2 IS NULL OR p.search_text LIKE ?2 ESCAPE '\\') \
             AND (?3 IS NULL OR p.price_minor >= ?3) AND (?4 IS NULL OR p.price_minor <= ?4) \
             AND (?5 IS NULL \
              OR (?5 = 1 AND coalesce((SELECT s.available FROM stock s WHERE s.sku = p.sku), 0) > 0) \
              OR (?5 = 0 AND coalesce((SELECT s.available FROM stock s WHERE s.sku = p.sku), 0) <= 0)) \
             AND (?6 IS NULL OR p.product_id IN (SELECT value FROM json_each(?6))) "
        )
    };
}

/// Without a category the condition is written so that the parameter still exists.
macro_rules! any_category {
    () => {
        conditions!("?1 IS NULL")
    };
}

macro_rules! one_category {
    () => {
        conditions!("p.category = ?1")
    };
}

macro_rules! page {
    ($conditions:ident, $order:literal) => {
        concat!(columns!(), $conditions!(), "ORDER BY ", $order, " LIMIT ?7 OFFSET ?8")
    };
}

/// One page of a list: parameters 7 and 8 are how many and after how many.
pub const fn list(sort: SortKey, order: SortOrder, has_category: bool) -> &'static str {
    use SortKey::{CreatedAt, Name, Price};
    use SortOrder::{Ascending, Descending};
    match (sort, order, has_category) {
        (Name, Ascending, false) => page!(any_category, "p.name, p.product_id"),
        (Name, Ascending, true) => page!(one_category, "p.name, p.product_id"),
        (Name, Descending, false) => page!(any_category, "p.name DESC, p.product_id DESC"),
        (Name, Descending, true) => page!(one_category, "p.name DESC, p.product_id DESC"),
        (Price, Ascending, false) => page!(any_category, "p.price_minor, p.product_id"),
        (Price, Ascending, true) => page!(one_category, "p.price_minor, p.product_id"),
        (Price, Descending, false) => page!(any_category, "p.price_minor DESC, p.product_id DESC"),
        (Price, Descending, true) => page!(one_category, "p.price_minor DESC, p.product_id DESC"),
        (CreatedAt, Ascending, false) => page!(any_category, "p.created_at, p.product_id"),
        (CreatedAt, Ascending, true) => page!(one_category, "p.created_at, p.product_id"),
        (CreatedAt, Descending, false) => page!(any_category, "p.created_at DESC, p.product_id DESC"),
        (CreatedAt, Descending, true) => page!(one_category, "p.created_at DESC, p.product_id DESC"),
    }
}

/// How many a list has in all.
pub const fn count(has_category: bool) -> &'static str {
    match has_category {
        false => concat!("SELECT count(*) FROM products p ", any_category!()),
        true => concat!("SELECT count(*) FROM products p ", one_category!()),
    }
}

/// One product by its id.
pub const PRODUCT_BY_ID: &str = concat!(columns!(), "WHERE p.archived = 0 AND p.product_id = ?1");

/// One product by its SKU.
pub const PRODUCT_BY_SKU: &str = concat!(columns!(), "WHERE p.archived = 0 AND p.sku = ?1");

/// One SKU's levels.
pub const STOCK: &str = "SELECT product_id, on_hand, reserved, committed, available, version FROM stock WHERE sku = ?1";

/// The sums over all SKUs.
pub const TOTALS: &str = "SELECT count(*), coalesce(sum(received), 0), coalesce(sum(adjusted), 0), \
    coalesce(sum(on_hand), 0), coalesce(sum(reserved), 0), coalesce(sum(committed), 0), coalesce(sum(available), 0), \
    coalesce(sum(CASE WHEN available < 0 THEN 1 ELSE 0 END), 0) FROM stock";
