//! What a buyer wants: read from the request, priced by the shop, added up. Pure.

use contracts::{Currency, Money, MoneyError, OrderId, OrderedLine, ProductId, Quantity, ReservationId, Sku, UserId};
use order_service::{Address, Draft, Shortfall};
use product_service::{ItemRef, QuoteLine, QuotedLine};

use crate::error::ApiError;
use crate::fields::{self, Fields};
use crate::json::Object;

/// Most lines of one order: a long shopping list. Each is a message to its SKU.
pub(super) const LINES_MAX: usize = 100;
/// Longest part of an address, in characters.
const ADDRESS_PART_MAX: usize = 200;

/// What a buyer wants, as they say it.
#[derive(Debug)]
pub(super) struct Wanted {
    lines: Vec<WantedLine>,
    currency: Option<Currency>,
    /// The JSON of an amount: it has no meaning before the currency is known.
    expected_total: Option<String>,
    shipping_address: Option<Address>,
}

#[derive(Debug)]
struct WantedLine {
    product_id: Option<ProductId>,
    sku: Option<Sku>,
    quantity: Quantity,
    /// A price that the client shows: its field, and the JSON of the amount.
    shown_price: Option<(&'static str, String)>,
}

/// Under which ids, and whose.
#[derive(Debug, Clone)]
pub(super) struct Placing {
    pub(super) order_id: OrderId,
    pub(super) reservation_id: ReservationId,
    pub(super) user_id: UserId,
}

/// Reads the body of `POST /api/v1/orders`.
///
/// # Errors
/// 400, and 422 with every broken rule.
pub(super) fn read(body: &[u8]) -> Result<Wanted, ApiError> {
    fields::read(body, |order| Wanted {
        lines: order.list("items", 1..=LINES_MAX, line),
        currency: order.optional_parsed("currency"),
        expected_total: order.raw("expected_total").map(|raw| raw.get().to_owned()),
        shipping_address: order.optional_object("shipping_address", address),
    })
}

fn line(line: &mut Fields<'_>) -> WantedLine {
    if !line.has("product_id") && !line.has("sku") {
        line.refuse("product_id", "is required, unless there is a sku");
    }
    let units = line.integer("quantity", 1..=i64::from(Quantity::MAX));
    let shown = |name: &'static str| line.raw(name).map(|raw| (name, raw.get().to_owned()));
    WantedLine {
        shown_price: shown("unit_price").or_else(|| shown("price")),
        product_id: line.optional_parsed("product_id"),
        sku: line.optional_parsed("sku"),
        quantity: u32::try_from(units).ok().and_then(|units| Quantity::new(units).ok()).unwrap_or(Quantity::ONE),
    }
}

fn address(address: &mut Fields<'_>) -> Address {
    let mut part = |name: &str| address.optional_text(name, 0..=ADDRESS_PART_MAX).unwrap_or_default();
    Address {
        street: part("street"),
        city: part("city"),
        state: part("state"),
        zip: part("zip"),
        country: part("country"),
    }
}

impl Wanted {
    /// Units over all lines.
    pub(super) fn units(&self) -> u64 {
        self.lines.iter().map(|line| u64::from(line.quantity.get())).sum()
    }

    /// The question to the catalogue: one line a wanted line, in their order.
    pub(super) fn to_quote(&self) -> Vec<QuoteLine> {
        let item = |line: &WantedLine| match (&line.product_id, &line.sku) {
            (Some(product_id), _) => Some(ItemRef::Product(product_id.clone())),
            (None, sku) => sku.clone().map(ItemRef::Sku),
        };
        // A line without either was refused when it was read.
        self.lines.iter().filter_map(|line| Some(QuoteLine { item: item(line)?, quantity: line.quantity })).collect()
    }

    /// The order at the shop's prices: lines of the same SKU summed up, totals checked.
    ///
    /// # Errors
    /// 409 `PRICE_CHANGED` when the client shows another price or total; 422 for amounts that are none, lines that do not
    /// go together, or sums beyond every bound.
    pub(super) fn priced(&self, quoted: &[QuotedLine], placing: Placing) -> Result<Draft, ApiError> {
        let currency = self.currency_of(quoted)?;
        self.check_shown_prices(quoted)?;
        let lines = add_up(quoted)?;
        let line_totals = lines.iter().map(|line| Money::from_minor(line.line_total_minor, currency));
        let line_totals: Vec<Money> = line_totals.collect::<Result<_, _>>().map_err(too_large)?;
        let subtotal = Money::sum(currency, line_totals).map_err(too_large)?;
        let (discount, tax, shipping) = (Money::zero(currency), Money::zero(currency), Money::zero(currency));
        let total = subtotal.checked_sub(discount).and_then(|sum| sum.checked_add(tax)).map_err(too_large)?;
        let total = total.checked_add(shipping).map_err(too_large)?;
        if let Some(token) = &self.expected_total {
            let expected = Money::parse_json(token, currency);
            let expected = expected.map_err(|error| ApiError::invalid_field("expected_total", error))?;
            if expected != total {
                return Err(ApiError::price_changed(total.to_decimal()));
            }
        }
        let Placing { order_id, reservation_id, user_id } = placing;
        Ok(Draft {
            order_id,
            reservation_id,
            user_id,
            lines,
            currency,
            subtotal_minor: subtotal.minor(),
            discount_minor: discount.minor(),
            tax_minor: tax.minor(),
            shipping_minor: shipping.minor(),
            total_minor: total.minor(),
            shipping_address: self.shipping_address.clone(),
        })
    }

    /// The one currency of all lines, and the wanted one where it is named.
    fn currency_of(&self, quoted: &[QuotedLine]) -> Result<Currency, ApiError> {
        let currencies = quoted.iter().map(|line| line.unit_price.currency());
        let wanted = self.currency.or_else(|| currencies.clone().next()).unwrap_or(Currency::USD);
        for (place, currency) in currencies.enumerate() {
            if currency != wanted {
                let reason = format_args!("is sold in {currency}, not in {wanted}");
                return Err(ApiError::invalid_field(&format!("items[{place}]"), reason));
            }
        }
        Ok(wanted)
    }

    /// Prices and SKUs that a client shows are never used, but they must not be others than the shop's.
    fn check_shown_prices(&self, quoted: &[QuotedLine]) -> Result<(), ApiError> {
        for (place, (line, quoted)) in self.lines.iter().zip(quoted).enumerate() {
            if line.sku.as_ref().is_some_and(|sku| *sku != quoted.sku) {
                let reason = format_args!("is not a SKU of {}", quoted.product_id);
                return Err(ApiError::invalid_field(&format!("items[{place}].sku"), reason));
            }
            let Some((name, token)) = &line.shown_price else { continue };
            let field = format!("items[{place}].{name}");
            let shown = Money::parse_json(token, quoted.unit_price.currency());
            if shown.map_err(|error| ApiError::invalid_field(&field, error))? != quoted.unit_price {
                let price = quoted.unit_price.to_decimal();
                return Err(ApiError::price_changed(price).about(&field, format_args!("the price is {price}")));
            }
        }
        Ok(())
    }

    /// 409 for what is not there: `short` of the lines of an order, each named by the place where the buyer named it first.
    pub(super) fn out_of_stock(&self, lines: &[OrderedLine], short: &[Shortfall]) -> ApiError {
        let mut found: Vec<(usize, &Shortfall, Option<&OrderedLine>)> = short
            .iter()
            .map(|shortfall| {
                let line = lines.iter().find(|line| line.sku == shortfall.sku);
                let is_named_by = |wanted: &WantedLine| {
                    wanted.sku.as_ref() == Some(&shortfall.sku)
                        || line.is_some_and(|line| wanted.product_id.as_ref() == Some(&line.product_id))
                };
                (self.lines.iter().position(is_named_by).unwrap_or(0), shortfall, line)
            })
            .collect();
        found.sort_by_key(|(place, ..)| *place);
        let item = |(_, shortfall, line): &(usize, &Shortfall, Option<&OrderedLine>)| {
            Object::new()
                .optional("product_id", line.map(|line| &line.product_id))
                .field("sku", &shortfall.sku)
                .field("requested", &shortfall.requested)
                .field("available", &shortfall.available)
        };
        let items: Vec<Object> = found.iter().map(item).collect();
        let (field, reason) = match found.first() {
            Some((place, Shortfall { requested, available, .. }, _)) => {
                (format!("items[{place}].quantity"), format!("requested {requested}, available {available}"))
            }
            None => ("items".to_owned(), "not enough is available".to_owned()),
        };
        ApiError::insufficient_stock(&field, reason, &items)
    }
}

/// One line a SKU, in the order in which they were named first.
fn add_up(quoted: &[QuotedLine]) -> Result<Vec<OrderedLine>, ApiError> {
    let mut lines: Vec<OrderedLine> = Vec::with_capacity(quoted.len());
    for (place, quote) in quoted.iter().enumerate() {
        let same = lines.iter_mut().find(|line| line.sku == quote.sku);
        let units = same.as_ref().map_or(0, |line| line.quantity.get()) + quote.quantity.get();
        let field = format!("items[{place}].quantity");
        let quantity = Quantity::new(units)
            .map_err(|error| ApiError::invalid_field(&field, format_args!("{error}, over all lines of this item")))?;
        let line_total_minor = quote.unit_price.times(quantity).map_err(too_large)?.minor();
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

fn too_large(error: MoneyError) -> ApiError {
    ApiError::invalid_field("items", error)
}

#[cfg(test)]
#[path = "order_draft_tests.rs"]
mod tests;
