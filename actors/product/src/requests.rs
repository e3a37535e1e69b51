//! What is asked of the product service to change, and what came of it: plain values.

use contracts::{Money, ProductId, Sku};

/// A product to be put into the catalogue.
#[derive(Clone, Debug)]
pub struct NewProduct {
    /// Its id, where the caller has promised one already: the same id again is the same creation. `None`: a new one.
    pub id: Option<ProductId>,
    /// Its SKU; `None`: `sku_` and what follows the `prod_` of its id.
    pub sku: Option<Sku>,
    /// One line of 1 to 200 characters.
    pub name: String,
    /// At most 10,000 characters.
    pub description: String,
    /// The price of one, at least 0.
    pub price: Money,
    /// One line of 1 to 100 characters.
    pub category: String,
    /// At most 20 addresses of pictures (`http:`, `https:` or a path) of at most 2,048 characters each.
    pub images: Vec<String>,
    /// The text of a JSON object of at most 100 entries and 64,000 bytes; `None`: no specifications.
    pub specifications: Option<String>,
    /// The units that it starts with, 0 to 1,000,000.
    pub stock_quantity: i64,
}

/// What is to read differently; `None` stays. Limits as in [`NewProduct`].
#[derive(Clone, Debug, Default)]
pub struct ProductChange {
    /// The name.
    pub name: Option<String>,
    /// The description.
    pub description: Option<String>,
    /// The price of one.
    pub price: Option<Money>,
    /// The category.
    pub category: Option<String>,
    /// All pictures.
    pub images: Option<Vec<String>>,
    /// All specifications, as the text of a JSON object.
    pub specifications: Option<String>,
}

/// A correction of the units on hand.
#[derive(Clone, Debug)]
pub struct Adjustment {
    /// Of which SKU.
    pub sku: Sku,
    /// By how many, −1,000,000 to 1,000,000 and not 0.
    pub delta: i64,
    /// Why: one line of 1 to 200 characters.
    pub reason: String,
    /// Whose paper says so: one line of 1 to 200 characters.
    pub reference: Option<String>,
    /// Only if there are this many on hand.
    pub expected_on_hand: Option<i64>,
}

/// A correction that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StockMovement {
    /// Of which SKU.
    pub sku: Sku,
    /// By how many.
    pub delta: i64,
    /// How many were on hand then.
    pub on_hand_after: i64,
    /// Why.
    pub reason: String,
    /// Whose paper says so.
    pub reference: Option<String>,
    /// Its place in the SKU's history, from 1 up.
    pub sequence: u64,
    /// True when this is the first outcome of a request that came again.
    pub is_repeat: bool,
}
