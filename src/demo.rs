//! The demo's catalogue: a small shop of our own.

use std::{sync::Arc, time::Duration};

use anyhow::anyhow;
use contracts::{Currency, Money, ProductId};
use product_service::NewProduct;
use runtime::RequestContext;

use crate::house::House;

/// How long one product may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// (suffix of the id, name, description, category, price in cents, units).
const CATALOGUE: [(&str, &str, &str, &str, i64, i64); 12] = [
    (
        "123",
        "Wireless Headphones",
        "Over-ear headphones that play for forty hours and fold flat.",
        "electronics",
        29_999,
        100,
    ),
    ("demo_speaker", "Bookshelf Speaker", "One small speaker with a large, even sound.", "electronics", 14_900, 60),
    ("demo_lamp", "Desk Lamp", "A lamp that bends where you want it and remembers how bright.", "home", 4_550, 80),
    ("demo_kettle", "Gooseneck Kettle", "Pours a thin, steady stream; whistles when it boils.", "kitchen", 6_200, 45),
    ("demo_mug", "Stoneware Mug", "Thick walls, a wide handle, 350 ml.", "kitchen", 1_295, 400),
    ("demo_knife", "Paring Knife", "Nine centimetres of carbon steel.", "kitchen", 2_480, 120),
    ("demo_notebook", "Dotted Notebook", "192 numbered pages that lie flat.", "stationery", 1_650, 300),
    ("demo_pen", "Fountain Pen", "A steel nib and a piston filler.", "stationery", 5_900, 75),
    ("demo_backpack", "Day Pack", "Twenty litres, one pocket too many, no logo.", "outdoor", 8_995, 50),
    ("demo_bottle", "Steel Bottle", "Keeps tea hot until the summit.", "outdoor", 2_700, 200),
    ("demo_tent", "Two-Person Tent", "Stands by itself and packs to the size of a loaf.", "outdoor", 24_900, 15),
    ("demo_print", "Numbered Print", "A linocut of the harbour; there are five.", "art", 12_000, 5),
];

/// Puts the catalogue in, if it is not there: the ids are fixed, so a second start changes nothing.
///
/// # Errors
/// When the product service does not answer.
pub async fn stock(house: &Arc<House>) -> anyhow::Result<()> {
    let products = house.products.get()?;
    for (suffix, name, description, category, cents, units) in CATALOGUE {
        let new = NewProduct {
            id: Some(ProductId::parse(&format!("prod_{suffix}"))?),
            sku: None,
            name: name.to_owned(),
            description: description.to_owned(),
            price: Money::from_minor(cents, Currency::USD)?,
            category: category.to_owned(),
            images: Vec::new(),
            specifications: None,
            stock_quantity: units,
        };
        let context = RequestContext::new("demo", PATIENCE);
        products.create_product(new, &context).await.map_err(|error| anyhow!("the demo's catalogue: {error}"))?;
    }
    Ok(())
}
