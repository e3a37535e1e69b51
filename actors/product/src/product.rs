//! A product: what is sold, for how much. How many there are is its stock item's business.

use contracts::{Money, Sku, Timestamp};
use runtime::{Entity, EntityId, ViewWrite, entity::EventPayload, totals::Counts};
use serde::{Deserialize, Serialize};

use crate::{
    specifications::Specifications,
    views::{ADD_TO_COUNTS, PRODUCT_TABLES, UPSERT_PRODUCT},
};

#[cfg(test)]
mod tests;

/// The entity; its id is the product's.
pub struct Product;

/// What a buyer reads of a product; checked before it comes here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    pub name: String,
    pub description: String,
    pub price: Money,
    pub category: String,
    pub images: Vec<String>,
    pub specifications: Specifications,
}

/// What may be asked.
#[derive(Clone, Debug)]
pub enum ProductCommand {
    /// Put it into the catalogue.
    Create { content: Content, sku: Sku, initial_stock: u32, at: Timestamp },
    /// Replace what buyers read, if it is still the version that the editor saw.
    Update { content: Content, expected_version: u64, at: Timestamp },
    /// Take it out of the catalogue; orders keep what they were told.
    Archive { expected_version: u64, at: Timestamp },
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProductEvent {
    /// It is in the catalogue; its first units are yet to be received.
    Created { content: Content, sku: Sku, initial_stock: u32, at: Timestamp },
    /// It reads differently.
    Updated { content: Content, at: Timestamp },
    /// It is out of the catalogue.
    Archived { at: Timestamp },
}

impl EventPayload for ProductEvent {
    fn event_type(&self) -> &'static str {
        match self {
            Self::Created { .. } => "product.created",
            Self::Updated { .. } => "product.updated",
            Self::Archived { .. } => "product.archived",
        }
    }
}

impl ProductEvent {
    /// How many numbered messages it gives rise to. Never another number for an event of a journal: the numbers of the
    /// messages after it stand on it. A test holds it against [`crate::outbox`].
    pub const fn publishes(&self) -> u64 {
        match self {
            Self::Created { .. } => 1,
            Self::Updated { .. } | Self::Archived { .. } => 0,
        }
    }
}

/// A product as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub content: Content,
    pub sku: Sku,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub archived: bool,
}

/// The state; no record before its creation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductState {
    pub record: Option<Record>,
    /// The number of events so far: what editors quote.
    pub version: u64,
    /// The numbered messages it has published.
    pub published: u64,
}

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProductRefusal {
    /// There is one already.
    Exists,
    /// There is none, or it is out of the catalogue.
    NotFound,
    /// It has changed since.
    VersionDiffers { current_version: u64 },
}

impl Entity for Product {
    const KIND: &'static str = "product";
    const TABLES: &'static [&'static str] = &[PRODUCT_TABLES];
    const ADD_TO_TOTALS: &'static str = ADD_TO_COUNTS;
    type State = ProductState;
    type Command = ProductCommand;
    type Event = ProductEvent;
    type Refusal = ProductRefusal;

    fn decide(state: &ProductState, command: ProductCommand) -> Result<Vec<ProductEvent>, ProductRefusal> {
        match command {
            ProductCommand::Create { content, sku, initial_stock, at } => match state.record {
                Some(_) => Err(ProductRefusal::Exists),
                None => Ok(vec![ProductEvent::Created { content, sku, initial_stock, at }]),
            },
            ProductCommand::Update { content, expected_version, at } => {
                let record = present(state, expected_version)?;
                let is_same = record.content == content;
                Ok(if is_same { vec![] } else { vec![ProductEvent::Updated { content, at }] })
            }
            ProductCommand::Archive { expected_version, at } => {
                present(state, expected_version)?;
                Ok(vec![ProductEvent::Archived { at }])
            }
        }
    }

    fn published(state: &ProductState) -> Option<u64> {
        Some(state.published)
    }

    fn evolve(state: &mut ProductState, event: &ProductEvent) {
        state.version += 1;
        state.published += event.publishes();
        match (event, &mut state.record) {
            (ProductEvent::Created { content, sku, at, .. }, record) => {
                *record = Some(Record {
                    content: content.clone(),
                    sku: sku.clone(),
                    created_at: *at,
                    updated_at: *at,
                    archived: false,
                });
            }
            (ProductEvent::Updated { content, at }, Some(record)) => {
                record.content = content.clone();
                record.updated_at = *at;
            }
            (ProductEvent::Archived { at }, Some(record)) => {
                record.archived = true;
                record.updated_at = *at;
            }
            (ProductEvent::Updated { .. } | ProductEvent::Archived { .. }, None) => {}
        }
    }

    fn views(id: &EntityId, state: &ProductState, _: &ProductEvent, _: i64) -> Vec<ViewWrite> {
        state.record.as_ref().map(|record| row(id, record, state.version)).into_iter().collect()
    }

    fn counts(state: &ProductState) -> Option<Counts> {
        let present = state.record.as_ref().filter(|record| !record.archived)?;
        Some(Counts::new(&*present.content.category, [1]))
    }
}

/// The product in the catalogue, if it is the version that the editor saw.
fn present(state: &ProductState, expected_version: u64) -> Result<&Record, ProductRefusal> {
    match &state.record {
        Some(record) if !record.archived && state.version == expected_version => Ok(record),
        Some(record) if !record.archived => Err(ProductRefusal::VersionDiffers { current_version: state.version }),
        _ => Err(ProductRefusal::NotFound),
    }
}

/// What of a product is neither searched nor sorted by.
#[derive(Debug, Serialize, Deserialize)]
pub struct Doc {
    pub images: Vec<String>,
    pub specifications: Specifications,
}

fn row(id: &EntityId, record: &Record, version: u64) -> ViewWrite {
    let Content { name, description, price, category, images, specifications } = &record.content;
    let doc = Doc { images: images.clone(), specifications: specifications.clone() };
    let params = vec![
        (&**id).into(),
        name.clone().into(),
        description.clone().into(),
        price.minor().into(),
        price.currency().code().into(),
        category.clone().into(),
        record.sku.as_str().into(),
        record.created_at.as_millis().into(),
        record.updated_at.as_millis().into(),
        version.cast_signed().into(),
        i64::from(record.archived).into(),
        format!("{name}\n{description}").to_lowercase().into(),
        serde_json::to_string(&doc).expect("strings are always JSON").into(),
    ];
    ViewWrite::new(UPSERT_PRODUCT, params)
}
