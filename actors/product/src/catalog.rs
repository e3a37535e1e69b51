//! What is asked of the read model: lists, products, quotes, stock levels, totals. It sees what is committed, so whoever
//! has been told that something is done finds it here. It changes nothing and keeps nothing.

use contracts::{Currency, ItemRef, Money, ProductId, Quantity, QuoteLine, QuotedLine, Sku, Timestamp};
use runtime::{JournalError, Row, SqlValue};

use crate::{
    error::{FieldError, ProductError, QuoteError},
    product::Doc,
    service::ProductService,
};

pub(crate) mod page;
pub(crate) mod sql;

pub use page::{
    LIMIT_DEFAULT, LIMIT_MAX, ListQuery, Page, ProductDetail, ProductSummary, SortKey, SortOrder, StockLevel, Totals,
};
use sql::{Choice, IDS_MAX};

/// The longest text to search for, in characters.
const SEARCH_CHARS_MAX: usize = 200;

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
