//! What is asked of the read model: lists, products, quotes, stock levels, totals. It sees what is committed, so whoever
//! has been told that something is done finds it here. It changes nothing and keeps nothing.

use contracts::{Currency, Money, ProductId, Quantity, Sku, Timestamp};
use runtime::{JournalError, Row, SqlValue};
use serde::{Deserialize, Serialize};

use crate::{
    error::{FieldError, ProductError, QuoteError},
    product::Doc,
    service::ProductService,
    specifications::Specifications,
};

pub(crate) mod sql;

use sql::{Choice, IDS_MAX};

/// Products on one page, unless the question says otherwise.
pub const LIMIT_DEFAULT: u32 = 20;
/// The most products on one page.
pub const LIMIT_MAX: u32 = 100;
/// The longest text to search for, in characters.
const SEARCH_CHARS_MAX: usize = 200;

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

/// What a line names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ItemRef {
    /// A product.
    Product(ProductId),
    /// A SKU.
    Sku(Sku),
}

/// A line that wants a price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuoteLine {
    /// Of what.
    pub item: ItemRef,
    /// How many.
    pub quantity: Quantity,
}

/// A line with its price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotedLine {
    /// Under which it is reserved.
    pub sku: Sku,
    /// The product.
    pub product_id: ProductId,
    /// Its name.
    pub name: String,
    /// The price of one.
    pub unit_price: Money,
    /// How many were asked for.
    pub quantity: Quantity,
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

impl ProductService {
    /// One page of the catalogue.
    ///
    /// # Errors
    /// [`ProductError::Invalid`] for a page, limit, search or number of ids out of bounds; [`ProductError::Unavailable`].
    pub async fn list(&self, query: &ListQuery) -> Result<Page, ProductError> {
        check_list(query)?;
        let choice = choice(query);
        let offset = i64::from(query.page - 1) * i64::from(query.limit);
        let mut page = conditions(query, choice);
        page.extend([i64::from(query.limit).into(), offset.into()]);
        let rows = self.journal.query(sql::list(choice, query.sort, query.order), page).await?;
        let items = rows.iter().map(|row| detail(row).map(|detail| detail.summary)).collect::<Result<_, _>>()?;
        let total = first_row(self.journal.query(sql::count(choice), conditions(query, choice)).await?)?.integer(0)?;
        Ok(Page { items, total: total.unsigned_abs() })
    }

    /// One product.
    ///
    /// # Errors
    /// [`ProductError::NotFound`] also for one that is out of the catalogue; [`ProductError::Unavailable`].
    pub async fn product(&self, id: &ProductId) -> Result<ProductDetail, ProductError> {
        let rows = self.journal.query(sql::PRODUCT_BY_ID, vec![id.as_str().into()]).await?;
        Ok(detail(rows.first().ok_or(ProductError::NotFound)?)?)
    }

    /// The present prices of lines, in their order. It reserves nothing.
    ///
    /// # Errors
    /// [`QuoteError::UnknownItems`] with every line that names nothing in the catalogue; [`QuoteError::Unavailable`].
    pub async fn quote(&self, lines: &[QuoteLine]) -> Result<Vec<QuotedLine>, QuoteError> {
        let (mut quoted, mut unknown) = (Vec::with_capacity(lines.len()), Vec::new());
        for (place, line) in lines.iter().enumerate() {
            let (statement, name) = match &line.item {
                ItemRef::Product(id) => (sql::PRODUCT_BY_ID, id.as_str()),
                ItemRef::Sku(sku) => (sql::PRODUCT_BY_SKU, sku.as_str()),
            };
            match self.journal.query(statement, vec![name.into()]).await?.first() {
                Some(row) => quoted.push(quoted_line(row, line.quantity)?),
                None => unknown.push(place),
            }
        }
        if unknown.is_empty() { Ok(quoted) } else { Err(QuoteError::UnknownItems { lines: unknown }) }
    }

    /// One SKU's levels.
    ///
    /// # Errors
    /// [`ProductError::NotFound`], [`ProductError::Unavailable`].
    pub async fn stock(&self, sku: &Sku) -> Result<StockLevel, ProductError> {
        let rows = self.journal.query(sql::STOCK, vec![sku.as_str().into()]).await?;
        let row = rows.first().ok_or(ProductError::NotFound)?;
        Ok(StockLevel {
            sku: sku.clone(),
            product_id: parsed(row.text(0)?, ProductId::parse)?,
            on_hand: row.integer(1)?,
            reserved: row.integer(2)?,
            committed: row.integer(3)?,
            available: row.integer(4)?,
            version: row.integer(5)?.unsigned_abs(),
        })
    }

    /// The sums over all SKUs, for those who watch that nothing is oversold. It reads every SKU's row.
    ///
    /// # Errors
    /// [`ProductError::Unavailable`].
    pub async fn totals(&self) -> Result<Totals, ProductError> {
        let row = first_row(self.journal.query(sql::TOTALS, vec![]).await?)?;
        Ok(Totals {
            skus: row.integer(0)?,
            received: row.integer(1)?,
            adjusted: row.integer(2)?,
            on_hand: row.integer(3)?,
            reserved: row.integer(4)?,
            committed: row.integer(5)?,
            available: row.integer(6)?,
            negative_availables: row.integer(7)?,
        })
    }
}

fn check_list(query: &ListQuery) -> Result<(), ProductError> {
    let rules = [
        ("page", query.page >= 1, "must be at least 1".to_owned()),
        ("limit", (1..=LIMIT_MAX).contains(&query.limit), format!("must be between 1 and {LIMIT_MAX}")),
        (
            "search",
            query.search.as_ref().is_none_or(|text| text.chars().count() <= SEARCH_CHARS_MAX),
            format!("must have at most {SEARCH_CHARS_MAX} characters"),
        ),
        (
            "ids",
            query.ids.as_ref().is_none_or(|ids| ids.len() <= IDS_MAX),
            format!("must have at most {IDS_MAX} entries"),
        ),
    ];
    let broken: Vec<FieldError> = rules
        .into_iter()
        .filter(|(_, is_kept, _)| !is_kept)
        .map(|(field, _, reason)| FieldError::new(field, reason))
        .collect();
    if broken.is_empty() { Ok(()) } else { Err(ProductError::Invalid(broken)) }
}

fn choice(query: &ListQuery) -> Choice {
    let is_filtered = query.search.is_some()
        || query.min_price_minor.is_some()
        || query.max_price_minor.is_some()
        || query.in_stock.is_some();
    match (&query.ids, is_filtered, &query.category) {
        (Some(_), _, _) => Choice::Ids,
        (None, false, None) => Choice::All,
        (None, false, Some(_)) => Choice::Category,
        (None, true, None) => Choice::AllFiltered,
        (None, true, Some(_)) => Choice::CategoryFiltered,
    }
}

/// The parameters of a choice's conditions; see [`sql`].
fn conditions(query: &ListQuery, choice: Choice) -> Vec<SqlValue> {
    let category = || SqlValue::from(query.category.clone());
    let mut values = match choice {
        Choice::All => return Vec::new(),
        Choice::Category => return vec![category()],
        Choice::AllFiltered | Choice::CategoryFiltered | Choice::Ids => vec![
            query.search.as_deref().map(contains_pattern).into(),
            query.min_price_minor.into(),
            query.max_price_minor.into(),
            query.in_stock.map(i64::from).into(),
        ],
    };
    if choice != Choice::AllFiltered {
        values.push(category());
    }
    if let Some(ids) = &query.ids {
        let ids = ids.iter().map(|id| SqlValue::from(id.as_str()));
        values.extend(ids.chain(std::iter::repeat(SqlValue::Null)).take(IDS_MAX));
    }
    values
}

/// The LIKE pattern for "contains this", lower-cased as the searched text is.
fn contains_pattern(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 2);
    pattern.push('%');
    for character in text.to_lowercase().chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

fn detail(row: &Row) -> Result<ProductDetail, JournalError> {
    let doc: Doc = serde_json::from_str(row.text(7)?).map_err(|error| JournalError::Corrupt(error.to_string()))?;
    let summary = ProductSummary {
        id: parsed(row.text(0)?, ProductId::parse)?,
        sku: parsed(row.text(1)?, Sku::parse)?,
        name: row.text(2)?.to_owned(),
        description: row.text(3)?.to_owned(),
        price: price(row)?,
        category: row.text(6)?.to_owned(),
        stock_quantity: row.integer(11)?,
        images: doc.images,
        created_at: Timestamp::from_millis(row.integer(8)?),
        updated_at: Timestamp::from_millis(row.integer(9)?),
        version: row.integer(10)?.unsigned_abs(),
        stock_version: row.integer(12)?.unsigned_abs(),
    };
    Ok(ProductDetail { summary, specifications: doc.specifications })
}

fn quoted_line(row: &Row, quantity: Quantity) -> Result<QuotedLine, JournalError> {
    Ok(QuotedLine {
        sku: parsed(row.text(1)?, Sku::parse)?,
        product_id: parsed(row.text(0)?, ProductId::parse)?,
        name: row.text(2)?.to_owned(),
        unit_price: price(row)?,
        quantity,
    })
}

fn price(row: &Row) -> Result<Money, JournalError> {
    let currency = parsed(row.text(5)?, Currency::parse)?;
    parsed(row.integer(4)?, |minor| Money::from_minor(minor, currency))
}

fn parsed<F, T, E: std::fmt::Display>(from: F, parse: impl FnOnce(F) -> Result<T, E>) -> Result<T, JournalError> {
    parse(from).map_err(|error| JournalError::Corrupt(error.to_string()))
}

fn first_row(rows: Vec<Row>) -> Result<Row, JournalError> {
    rows.into_iter().next().ok_or_else(|| JournalError::Query("a sum has no row".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_searched_for_is_taken_to_the_letter() {
        assert_eq!(contains_pattern("Größe 50%_\\"), "%größe 50\\%\\_\\\\%");
        assert_eq!(contains_pattern(""), "%%");
    }
}
