//! What a buyer asks for, read from the request, and what is wrong with it in the API's words. Prices are the order service's.

use contracts::{OrderedLine, Quantity};
use order_service::pricing::{OrderRequest, PricingError, RequestedLine, ShownPrice};
use order_service::{Address, Shortfall};

use crate::error::ApiError;
use crate::fields::{self, Fields};
use crate::json::Object;

/// Most lines of one order: a long shopping list. Each is a message to its SKU.
pub(super) const LINES_MAX: usize = 100;
/// Longest part of an address, in characters.
const ADDRESS_PART_MAX: usize = 200;

/// Reads the body of `POST /api/v1/orders`.
///
/// # Errors
/// 400, and 422 with every broken rule.
pub(super) fn read(body: &[u8]) -> Result<OrderRequest, ApiError> {
    fields::read(body, |order| OrderRequest {
        lines: order.list("items", 1..=LINES_MAX, line),
        currency: order.optional_parsed("currency"),
        expected_total: order.raw("expected_total").map(|raw| raw.get().to_owned()),
        shipping_address: order.optional_object("shipping_address", address),
    })
}

fn line(line: &mut Fields<'_>) -> RequestedLine {
    if !line.has("product_id") && !line.has("sku") {
        line.refuse("product_id", "is required, unless there is a sku");
    }
    let units = line.integer("quantity", 1..=i64::from(Quantity::MAX));
    let shown = |field: &'static str| line.raw(field).map(|raw| ShownPrice { field, amount: raw.get().to_owned() });
    RequestedLine {
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

/// 409 `PRICE_CHANGED` when the client shows another price or total; 422 for amounts that are none, lines that do not go
/// together, or sums beyond every bound.
impl From<PricingError> for ApiError {
    fn from(error: PricingError) -> Self {
        let item = |line: &usize| format!("items[{line}]");
        match &error {
            PricingError::AnotherCurrency { line, .. } => Self::invalid_field(&item(line), error),
            PricingError::NotASkuOf { line, .. } => Self::invalid_field(&format!("{}.sku", item(line)), error),
            PricingError::BadPrice { line, field, .. } => {
                Self::invalid_field(&format!("{}.{field}", item(line)), error)
            }
            PricingError::BadTotal(_) => Self::invalid_field("expected_total", error),
            PricingError::AnotherPrice { line, field, price } => {
                Self::price_changed(price.to_decimal()).about(&format!("{}.{field}", item(line)), error)
            }
            PricingError::AnotherTotal { total } => Self::price_changed(total.to_decimal()),
            PricingError::TooMany { line, .. } => Self::invalid_field(&format!("{}.quantity", item(line)), error),
            PricingError::TooLarge(_) => Self::invalid_field("items", error),
            PricingError::NotQuoted { .. } => Self::internal(error),
        }
    }
}

/// 409 for what is not there: `short` of the lines of an order, each named by the place where the buyer named it first.
pub(super) fn out_of_stock(request: &OrderRequest, lines: &[OrderedLine], short: &[Shortfall]) -> ApiError {
    let mut found: Vec<(usize, &Shortfall, Option<&OrderedLine>)> = short
        .iter()
        .map(|shortfall| {
            let line = lines.iter().find(|line| line.sku == shortfall.sku);
            let is_named_by = |wanted: &RequestedLine| {
                wanted.sku.as_ref() == Some(&shortfall.sku)
                    || line.is_some_and(|line| wanted.product_id.as_ref() == Some(&line.product_id))
            };
            (request.lines.iter().position(is_named_by).unwrap_or(0), shortfall, line)
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

#[cfg(test)]
#[path = "order_request_tests.rs"]
mod tests;
