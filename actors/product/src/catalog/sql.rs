//! The questions' statements.
//!
//! A list without filters, or of one category, goes along an index in the order of its pages, and its total is kept in
//! `product_counts`. Price, text and stock are in no index with the order: a list that is filtered by them goes along the same
//! index and looks at each product that is in the catalogue. So does its count, once a page. The catalogue is what its editors have
//! put there; it does not grow with what is sold. A list of ids finds each by its id.
//!
//! The parameters come in this order, as far as a choice has them: search pattern, lowest price, highest price, in stock (1) or not
//! (0), which do not count where they are NULL; the category; the ids; for a page how many, and after how many. All of it is
//! shared with PostgreSQL.

use super::page::{SortKey, SortOrder};

/// The most ids in one question.
pub const IDS_MAX: usize = 100;

macro_rules! columns {
    () => {
        "SELECT p.product_id, p.sku, p.name, p.description, p.price_minor, p.currency, p.category, p.doc, p.created_at, \
         p.updated_at, p.version, \
         coalesce((SELECT s.available FROM stock s WHERE s.sku = p.sku), 0), \
         coalesce((SELECT s.version FROM stock s WHERE s.sku = p.sku), 0) FROM products p "
    };
}

/// Everything that is in the catalogue.
macro_rules! all {
    () => {
        "WHERE p.archived = 0 "
    };
}

macro_rules! category {
    ($number:literal) => {
        concat!("WHERE p.archived = 0 AND p.category = ", $number, " ")
    };
}

/// What no index holds with the order.
macro_rules! filters {
    () => {
        "AND (?1 IS NULL OR p.search_text LIKE ?1 ESCAPE '\\') \
         AND (?2 IS NULL OR p.price_minor >= ?2) AND (?3 IS NULL OR p.price_minor <= ?3) \
         AND (?4 IS NULL \
          OR (?4 = 1 AND coalesce((SELECT s.available FROM stock s WHERE s.sku = p.sku), 0) > 0) \
          OR (?4 = 0 AND coalesce((SELECT s.available FROM stock s WHERE s.sku = p.sku), 0) <= 0)) "
    };
}

/// Room for [`IDS_MAX`] ids: NULL where there are fewer.
macro_rules! ids {
    () => {
        "AND (?5 IS NULL OR p.category = ?5) AND p.product_id IN (?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, \
         ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34, ?35, ?36, ?37, ?38, ?39, ?40, ?41, ?42, ?43, ?44, \
         ?45, ?46, ?47, ?48, ?49, ?50, ?51, ?52, ?53, ?54, ?55, ?56, ?57, ?58, ?59, ?60, ?61, ?62, ?63, \
         ?64, ?65, ?66, ?67, ?68, ?69, ?70, ?71, ?72, ?73, ?74, ?75, ?76, ?77, ?78, ?79, ?80, ?81, ?82, \
         ?83, ?84, ?85, ?86, ?87, ?88, ?89, ?90, ?91, ?92, ?93, ?94, ?95, ?96, ?97, ?98, ?99, ?100, ?101, \
         ?102, ?103, ?104, ?105) "
    };
}

/// Which products a list has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// All in the catalogue.
    All,
    /// One category.
    Category,
    /// Those of all that pass the filters.
    AllFiltered,
    /// Those of one category that pass the filters.
    CategoryFiltered,
    /// Those of these ids that pass the filters and are of the category, if there is one.
    Ids,
}

#[cfg(test)]
pub const CHOICES: [Choice; 5] =
    [Choice::All, Choice::Category, Choice::AllFiltered, Choice::CategoryFiltered, Choice::Ids];

/// The conditions of a choice, and where its page begins and ends.
macro_rules! of_choice {
    ($choice:expr, $statement:ident $(, $order:literal)?) => {
        match $choice {
            Choice::All => $statement!(concat!(all!()), "LIMIT ?1 OFFSET ?2" $(, $order)?),
            Choice::Category => $statement!(concat!(category!("?1")), "LIMIT ?2 OFFSET ?3" $(, $order)?),
            Choice::AllFiltered => $statement!(concat!(all!(), filters!()), "LIMIT ?5 OFFSET ?6" $(, $order)?),
            Choice::CategoryFiltered => {
                $statement!(concat!(category!("?5"), filters!()), "LIMIT ?6 OFFSET ?7" $(, $order)?)
            }
            Choice::Ids => $statement!(concat!(all!(), filters!(), ids!()), "LIMIT ?106 OFFSET ?107" $(, $order)?),
        }
    };
}

macro_rules! page {
    ($conditions:expr, $limit:literal, $order:literal) => {
        concat!(columns!(), $conditions, "ORDER BY ", $order, " ", $limit)
    };
}

macro_rules! counted {
    ($conditions:expr, $limit:literal) => {
        concat!("SELECT count(*) FROM products p ", $conditions)
    };
}

/// One page of a list.
pub const fn list(choice: Choice, sort: SortKey, order: SortOrder) -> &'static str {
    use SortKey::{CreatedAt, Name, Price};
    use SortOrder::{Ascending, Descending};
    match (sort, order) {
        (Name, Ascending) => of_choice!(choice, page, "p.name, p.product_id"),
        (Name, Descending) => of_choice!(choice, page, "p.name DESC, p.product_id DESC"),
        (Price, Ascending) => of_choice!(choice, page, "p.price_minor, p.product_id"),
        (Price, Descending) => of_choice!(choice, page, "p.price_minor DESC, p.product_id DESC"),
        (CreatedAt, Ascending) => of_choice!(choice, page, "p.created_at, p.product_id"),
        (CreatedAt, Descending) => of_choice!(choice, page, "p.created_at DESC, p.product_id DESC"),
    }
}

/// How many a list has in all.
pub const fn count(choice: Choice) -> &'static str {
    match choice {
        Choice::All => "SELECT coalesce(sum(products), 0) FROM product_counts",
        Choice::Category => "SELECT coalesce(sum(products), 0) FROM product_counts WHERE category = ?1",
        filtered => of_choice!(filtered, counted),
    }
}

/// One product by its id.
pub const PRODUCT_BY_ID: &str = concat!(columns!(), "WHERE p.archived = 0 AND p.product_id = ?1");

/// One product by its SKU.
pub const PRODUCT_BY_SKU: &str = concat!(columns!(), "WHERE p.archived = 0 AND p.sku = ?1");

/// One SKU's levels.
pub const STOCK: &str = "SELECT product_id, on_hand, reserved, committed, available, version FROM stock WHERE sku = ?1";

/// The sums over all SKUs. It reads the row of each: as many as the catalogue has, however much is sold.
pub const TOTALS: &str = "SELECT count(*), coalesce(sum(received), 0), coalesce(sum(adjusted), 0), \
    coalesce(sum(on_hand), 0), coalesce(sum(reserved), 0), coalesce(sum(committed), 0), coalesce(sum(available), 0), \
    coalesce(sum(CASE WHEN available < 0 THEN 1 ELSE 0 END), 0) FROM stock";

/// Every statement of this file.
#[cfg(test)]
pub fn every() -> Vec<&'static str> {
    let mut statements = vec![PRODUCT_BY_ID, PRODUCT_BY_SKU, STOCK, TOTALS];
    for choice in CHOICES {
        statements.push(count(choice));
        for sort in [SortKey::Name, SortKey::Price, SortKey::CreatedAt] {
            statements.extend([SortOrder::Ascending, SortOrder::Descending].map(|order| list(choice, sort, order)));
        }
    }
    statements
}
