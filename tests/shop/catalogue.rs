//! The catalogue that the tests load, and money as text.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// How many products the catalogue has.
pub const CATALOGUE_SIZE: usize = 101;
/// What every product starts with.
pub const STOCK: u32 = 100;

/// One product as the file states it. The price stays text: a float would not be exact.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CatalogueItem {
    pub name: String,
    pub description: String,
    pub price: Box<RawValue>,
    #[serde(rename = "Type")]
    pub category: String,
}

/// The body of `POST /api/v1/products`.
#[derive(Serialize)]
struct NewProduct<'a> {
    name: &'a str,
    description: &'a str,
    price: &'a RawValue,
    currency: &'a str,
    category: &'a str,
    stock_quantity: u32,
}

impl CatalogueItem {
    pub fn to_body(&self) -> String {
        let Self { name, description, price, category } = self;
        let body = NewProduct { name, description, price, currency: "USD", category, stock_quantity: STOCK };
        serde_json::to_string(&body).unwrap()
    }
}

/// The catalogue in `CATALOGUE`, else the one beside the repository, else one made here of the same size.
pub fn catalogue() -> Vec<CatalogueItem> {
    let path = std::env::var_os("CATALOGUE")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/eshop-catalog.json"), PathBuf::from);
    let items: Vec<CatalogueItem> = match std::fs::read_to_string(&path) {
        Ok(text) => {
            println!("catalogue: {}", path.display());
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        }
        Err(error) => {
            println!("catalogue: {CATALOGUE_SIZE} products made here ({}: {error})", path.display());
            synthetic()
        }
    };
    assert_eq!(items.len(), CATALOGUE_SIZE);
    items
}

/// Products whose names, categories and prices can be searched, filtered and sorted like real ones.
fn synthetic() -> Vec<CatalogueItem> {
    let categories = ["Footwear", "Climbing", "Ski/boarding", "Bags", "Navigation"];
    let nouns = ["Boots", "Harness", "Goggles", "Backpack", "Compass"];
    (0..CATALOGUE_SIZE)
        .map(|number| CatalogueItem {
            name: format!("Trail {} {number:03}", nouns[number % nouns.len()]),
            description: format!("Made for test number {number}: “good” & <light>."),
            price: RawValue::from_string(format!("{}.{:02}", 9 + number * 7 % 400, number * 37 % 100)).unwrap(),
            category: categories[number % categories.len()].to_owned(),
        })
        .collect()
}

/// `50` and `50.0` are `50.00`: how a price in dollars is written on the way out.
pub fn two_decimals(price: &str) -> String {
    let (whole, fraction) = price.split_once('.').unwrap_or((price, ""));
    assert!(fraction.len() <= 2, "{price} has no cents");
    format!("{whole}.{fraction:0<2}")
}

/// `19.99` is 1999.
pub fn minor_units(price: &str) -> i64 {
    two_decimals(price).replace('.', "").parse().unwrap()
}
