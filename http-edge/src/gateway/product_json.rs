//! How the API shows a product and its stock.

use product_service::{ProductDetail, ProductSummary, StockLevel};
use serde_json::value::RawValue;

use crate::error::ApiError;
use crate::json::Object;

/// A product in a list.
pub(super) fn summary(product: &ProductSummary) -> Object {
    Object::new()
        .field("id", &product.id)
        .field("sku", &product.sku)
        .field("name", &product.name)
        .field("description", &product.description)
        .amount("price", product.price)
        .currency(product.price)
        .field("category", &product.category)
        .field("stock_quantity", &product.stock_quantity)
        .field("images", &product.images)
        .field("created_at", &product.created_at.to_rfc3339())
        .field("updated_at", &product.updated_at.to_rfc3339())
}

/// A product alone, with its specifications as they came in.
pub(super) fn detail(product: &ProductDetail) -> Result<Object, ApiError> {
    let text = product.specifications.as_json().to_owned();
    let specifications = RawValue::from_string(text).map_err(ApiError::internal)?;
    Ok(summary(&product.summary).field("specifications", &specifications))
}

/// The tag of a product: its version, which editors quote, and that of its stock, which shows too.
pub(super) fn etag(product: &ProductSummary) -> String {
    format!("\"{}-{}\"", product.version, product.stock_version)
}

/// One SKU's stock.
pub(super) fn stock(level: &StockLevel) -> Object {
    Object::new()
        .field("sku", &level.sku)
        .field("product_id", &level.product_id)
        .field("on_hand", &level.on_hand)
        .field("reserved", &level.reserved)
        .field("committed", &level.committed)
        .field("available", &level.available)
        .field("backorderable", &false)
        .field("version", &level.version)
        .field("locations", &[(); 0])
}
