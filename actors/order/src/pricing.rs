//! What an order costs: the lines that a buyer asks for at the prices of the catalogue, added up.
//!
//! Pure: the prices are given, nothing is reserved and nothing is written. A price that the buyer shows is compared with the
//! shop's and never used. `total = Σ lines − discount + tax + shipping`, in integer minor units; the order decides by the same
//! equation ([`Draft::adds_up`]) and refuses what does not hold it.

use contracts::{
    AmountError, Currency, ItemRef, Money, MoneyError, OrderId, OrderedLine, ProductId, Quantity, QuantityError,
    QuoteLine, QuotedLine, ReservationId, Sku, UserId,
};

use crate::order::{Address, Draft};

/// The order that a buyer asks for.
#[derive(Debug)]
pub struct OrderRequest {
    /// The lines, as the buyer numbers them. Two may name the same SKU.
    pub lines: Vec<RequestedLine>,
    /// The currency that the buyer expects; that of the first line where it is not said.
    pub currency: Option<Currency>,
    /// The total that the buyer expects, as the JSON of an amount: it has no meaning before the currency is known.
    pub expected_total: Option<String>,
    /// Where it is to be sent.
    pub shipping_address: Option<Address>,
}

/// A line that a buyer asks for: a product, a SKU, or both where they belong together.
#[derive(Debug)]
pub struct RequestedLine {
    /// The product.
    pub product_id: Option<ProductId>,
    /// The SKU.
    pub sku: Option<Sku>,
    /// In units.
    pub quantity: Quantity,
    /// The price of one unit that the buyer shows.
    pub shown_price: Option<ShownPrice>,
}

/// A price that a buyer shows.
#[derive(Debug)]
pub struct ShownPrice {
    /// The field of the line in which it was shown.
    pub field: &'static str,
    /// The JSON of the amount.
    pub amount: String,
}

/// The ids of an order that is about to be placed, and its buyer.
#[derive(Clone, Debug)]
pub struct NewOrderIds {
    /// The order's own.
    pub order_id: OrderId,
    /// Of the stock that is held for it.
    pub reservation_id: ReservationId,
    /// Its buyer.
    pub user_id: UserId,
}

/// Why an order has no price. Lines are counted from 0, as the buyer numbers them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PricingError {
    /// A line is sold in another currency than the order.
    #[error("is sold in {sold_in}, not in {wanted}")]
    AnotherCurrency {
        /// Which line.
        line: usize,
        /// The line's currency.
        sold_in: Currency,
        /// The order's currency.
        wanted: Currency,
    },
    /// The SKU of a line is not one of its product's.
    #[error("is not a SKU of {product_id}")]
    NotASkuOf {
        /// Which line.
        line: usize,
        /// Its product.
        product_id: ProductId,
    },
    /// The price that a buyer shows is no amount of the currency.
    #[error("{error}")]
    BadPrice {
        /// Which line.
        line: usize,
        /// The field of the line.
        field: &'static str,
        /// What is wrong with it.
        error: AmountError,
    },
    /// The total that the buyer expects is no amount of the currency.
    #[error("{0}")]
    BadTotal(AmountError),
    /// The price that a buyer shows is not the shop's.
    #[error("the price is {}", price.to_decimal())]
    AnotherPrice {
        /// Which line.
        line: usize,
        /// The field of the line.
        field: &'static str,
        /// The shop's price of one unit.
        price: Money,
    },
    /// The total that the buyer expects is not the shop's.
    #[error("the total is {}", total.to_decimal())]
    AnotherTotal {
        /// The shop's total.
        total: Money,
    },
    /// More units of one SKU, over all lines up to this one, than an order takes.
    #[error("{error}, over all lines of this item")]
    TooMany {
        /// Which line.
        line: usize,
        /// The bound.
        error: QuantityError,
    },
    /// A sum is beyond every bound.
    #[error("{0}")]
    TooLarge(#[from] MoneyError),
    /// The catalogue did not answer line by line: a fault of ours.
    #[error("{quoted} of {lines} lines have a price")]
    NotQuoted {
        /// Lines that the buyer asks for.
        lines: usize,
        /// Lines that were answered.
        quoted: usize,
    },
}

impl OrderRequest {
    /// Units over all lines.
    #[must_use]
    pub fn units(&self) -> u64 {
        self.lines.iter().map(|line| u64::from(line.quantity.get())).sum()
    }

    /// The question to the catalogue: one line for each, in their order. A line that names neither a product nor a SKU is left
    /// out, and [`price`] then refuses the answer.
    #[must_use]
    pub fn to_quote(&self) -> Vec<QuoteLine> {
        let item = |line: &RequestedLine| match (&line.product_id, &line.sku) {
            (Some(product_id), _) => Some(ItemRef::Product(product_id.clone())),
            (None, sku) => sku.clone().map(ItemRef::Sku),
        };
        self.lines.iter().filter_map(|line| Some(QuoteLine { item: item(line)?, quantity: line.quantity })).collect()
    }
}

/// The order at the shop's prices: `quoted` answers the lines of `request` one by one. Lines of the same SKU become one, in the
/// order in which they were named first.
///
/// # Errors
/// [`PricingError`]: the buyer shows another price or total than the shop's, the lines do not go together, or a sum is beyond
/// every bound.
pub fn price(request: &OrderRequest, quoted: &[QuotedLine], ids: NewOrderIds) -> Result<Draft, PricingError> {
    if quoted.len() != request.lines.len() {
        return Err(PricingError::NotQuoted { lines: request.lines.len(), quoted: quoted.len() });
    }
    let currency = currency_of(request, quoted)?;
    check_shown_prices(request, quoted)?;
    let lines = add_up(quoted)?;
    let line_totals = lines.iter().map(|line| Money::from_minor(line.line_total_minor, currency));
    let subtotal = Money::sum(currency, line_totals.collect::<Result<Vec<_>, _>>()?)?;
    let (discount, tax, shipping) = (Money::zero(currency), Money::zero(currency), Money::zero(currency));
    let total = subtotal.checked_sub(discount)?.checked_add(tax)?.checked_add(shipping)?;
    if let Some(amount) = &request.expected_total
        && Money::parse_json(amount, currency).map_err(PricingError::BadTotal)? != total
    {
        return Err(PricingError::AnotherTotal { total });
    }
    Ok(Draft {
        order_id: ids.order_id,
        reservation_id: ids.reservation_id,
        user_id: ids.user_id,
        lines,
        currency,
        subtotal_minor: subtotal.minor(),
        discount_minor: discount.minor(),
        tax_minor: tax.minor(),
        shipping_minor: shipping.minor(),
        total_minor: total.minor(),
        shipping_address: request.shipping_address.clone(),
    })
}

/// The one currency of all lines, and the expected one where it is named.
fn currency_of(request: &OrderRequest, quoted: &[QuotedLine]) -> Result<Currency, PricingError> {
    let currencies = quoted.iter().map(|line| line.unit_price.currency());
    let wanted = request.currency.or_else(|| currencies.clone().next()).unwrap_or(Currency::USD);
    match currencies.enumerate().find(|(_, currency)| *currency != wanted) {
        Some((line, sold_in)) => Err(PricingError::AnotherCurrency { line, sold_in, wanted }),
        None => Ok(wanted),
    }
}

fn check_shown_prices(request: &OrderRequest, quoted: &[QuotedLine]) -> Result<(), PricingError> {
    for (line, (requested, quoted)) in request.lines.iter().zip(quoted).enumerate() {
        if requested.sku.as_ref().is_some_and(|sku| *sku != quoted.sku) {
            return Err(PricingError::NotASkuOf { line, product_id: quoted.product_id.clone() });
        }
        let Some(ShownPrice { field, amount }) = &requested.shown_price else { continue };
        let shown = Money::parse_json(amount, quoted.unit_price.currency());
        if shown.map_err(|error| PricingError::BadPrice { line, field, error })? != quoted.unit_price {
            return Err(PricingError::AnotherPrice { line, field, price: quoted.unit_price });
        }
    }
    Ok(())
}

fn add_up(quoted: &[QuotedLine]) -> Result<Vec<OrderedLine>, PricingError> {
    let mut lines: Vec<OrderedLine> = Vec::with_capacity(quoted.len());
    for (place, quote) in quoted.iter().enumerate() {
        let same = lines.iter_mut().find(|line| line.sku == quote.sku);
        let units = same.as_ref().map_or(0, |line| line.quantity.get()) + quote.quantity.get();
        let quantity = Quantity::new(units).map_err(|error| PricingError::TooMany { line: place, error })?;
        let line_total_minor = quote.unit_price.times(quantity)?.minor();
        match same {
            Some(line) => (line.quantity, line.line_total_minor) = (quantity, line_total_minor),
            None => lines.push(OrderedLine {
                sku: quote.sku.clone(),
                product_id: quote.product_id.clone(),
                name: quote.name.clone(),
                quantity,
                unit_price_minor: quote.unit_price.minor(),
                line_total_minor,
            }),
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests;
