//! What an item costs: asked of the product service by whoever takes an order, answered in the order of the lines.

use serde::{Deserialize, Serialize};

use crate::{Money, ProductId, Quantity, Sku};

/// What a line names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ItemRef {
    /// A product, by its own id: its one SKU is meant.
    Product(ProductId),
    /// A SKU.
    Sku(Sku),
}

/// A line that wants a price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuoteLine {
    /// Of what.
    pub item: ItemRef,
    /// In units.
    pub quantity: Quantity,
}

/// A line with the price of the moment. It holds no stock and binds nobody: an order keeps a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotedLine {
    /// Under which it is reserved.
    pub sku: Sku,
    /// The product that the SKU belongs to.
    pub product_id: ProductId,
    /// The product's name at this moment.
    pub name: String,
    /// The price of one unit.
    pub unit_price: Money,
    /// The units that were asked for.
    pub quantity: Quantity,
}
