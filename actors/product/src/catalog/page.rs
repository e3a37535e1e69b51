//! What is asked of the catalogue and of the stock, and what is answered: plain values.

use contracts::{Money, ProductId, Sku, Timestamp};

use crate::specifications::Specifications;

/// Products on one page, unless the question says otherwise.
pub const LIMIT_DEFAULT: u32 = 20;
/// The most products on one page.
pub const LIMIT_MAX: u32 = 100;
/// What a list is sorted by; ties are broken by the product's id, so that pages neither repeat nor skip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortKey {
    /// By the bytes of the name: capitals before small letters.
    Name,
    /// By the number of minor units, whatever the currency.
    Price,
    /// By the time of creation.
    #[default]
    CreatedAt,
}

/// Which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortOrder {
    /// The least first.
    Ascending,
    /// The greatest first.
    #[default]
    Descending,
}

/// Which products, in which order, which page of them. The default is the first page of all, the newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListQuery {
    /// From 1 up; a page past the end is empty.
    pub page: u32,
    /// Products on a page, 1 to [`LIMIT_MAX`].
    pub limit: u32,
    /// Only those of exactly this category.
    pub category: Option<String>,
    /// Only those with this text in the name or the description, whatever the case; at most 200 characters.
    pub search: Option<String>,
    /// Sorted by what.
    pub sort: SortKey,
    /// Which way.
    pub order: SortOrder,
    /// Only those of at least this price in minor units.
    pub min_price_minor: Option<i64>,
    /// Only those of at most this price in minor units.
    pub max_price_minor: Option<i64>,
    /// Only those that are available (true), or that are not (false).
    pub in_stock: Option<bool>,
    /// Only these; at most 100.
    pub ids: Option<Vec<ProductId>>,
}

impl Default for ListQuery {
    fn default() -> Self {
        Self {
            page: 1,
            limit: LIMIT_DEFAULT,
            category: None,
            search: None,
            sort: SortKey::default(),
            order: SortOrder::default(),
            min_price_minor: None,
            max_price_minor: None,
            in_stock: None,
            ids: None,
        }
    }
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The products on it.
    pub items: Vec<ProductSummary>,
    /// How many there are on all pages. Counted right after the page was read: exact unless somebody writes in between.
    pub total: u64,
}

/// A product as lists show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProductSummary {
    /// Its id.
    pub id: ProductId,
    /// Under which its stock is counted.
    pub sku: Sku,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// The price of one.
    pub price: Money,
    /// Its category.
    pub category: String,
    /// How many are available.
    pub stock_quantity: i64,
    /// Addresses of pictures.
    pub images: Vec<String>,
    /// Since when it is in the catalogue.
    pub created_at: Timestamp,
    /// Since when it reads as it does.
    pub updated_at: Timestamp,
    /// How often it was written: what an editor quotes. Stock does not count here.
    pub version: u64,
    /// How often its stock has changed. Both versions together change with everything that is shown.
    pub stock_version: u64,
}

/// A product with everything that is known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProductDetail {
    /// What lists show too.
    pub summary: ProductSummary,
    /// Its specifications.
    pub specifications: Specifications,
}

/// How many units of one SKU are where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StockLevel {
    /// Which SKU.
    pub sku: Sku,
    /// Of which product.
    pub product_id: ProductId,
    /// In the house, sold ones included.
    pub on_hand: i64,
    /// Held for orders that are not paid.
    pub reserved: i64,
    /// Sold.
    pub committed: i64,
    /// What can still be promised: `on_hand − reserved − committed`.
    pub available: i64,
    /// How often the levels have changed.
    pub version: u64,
}

/// Sums over all SKUs. `received + adjusted = on_hand = reserved + committed + available`, and nothing is negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// How many SKUs.
    pub skus: i64,
    /// Units that came in.
    pub received: i64,
    /// Corrections since.
    pub adjusted: i64,
    /// Units in the house.
    pub on_hand: i64,
    /// Held.
    pub reserved: i64,
    /// Sold.
    pub committed: i64,
    /// Free.
    pub available: i64,
    /// SKUs with less than nothing available: 0, always.
    pub negative_availables: i64,
}

impl Totals {
    /// True while every unit is in exactly one place and no SKU is oversold.
    #[must_use]
    pub const fn hold(&self) -> bool {
        self.received + self.adjusted == self.on_hand
            && self.reserved + self.committed + self.available == self.on_hand
            && self.negative_availables == 0
    }
}
