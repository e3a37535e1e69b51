//! Why a use case brought no result. The texts suit a client; the causes are in the log.

use contracts::Sku;
use runtime::{AskError, JournalError};
use serde::{Deserialize, Serialize};

use crate::{product::ProductRefusal, stock_item::StockRefusal};

/// What is wrong with one field of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Which, as the HTTP API calls it: `images[2]`.
    pub field: String,
    /// What it must be.
    pub reason: String,
}

impl FieldError {
    /// `field` must be as `reason` says.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }
}

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProductError {
    /// There is no such product or SKU, or it is out of the catalogue.
    #[error("there is no such product")]
    NotFound,
    /// Fields break the rules: all of them, in the order of the request.
    #[error("the request breaks {} rule(s)", .0.len())]
    Invalid(Vec<FieldError>),
    /// The SKU is another product's.
    #[error("{sku} belongs to another product")]
    SkuTaken {
        /// Which.
        sku: Sku,
    },
    /// The correction would take away what is promised to orders.
    #[error("only {available} are available")]
    InsufficientStock {
        /// How many may be taken away.
        available: i64,
    },
    /// There are not as many on hand as the request expects.
    #[error("{on_hand} are on hand")]
    OnHandDiffers {
        /// How many there are.
        on_hand: i64,
    },
    /// The product has changed since the version that the request names.
    #[error("the product is at version {current_version}")]
    Precondition {
        /// Its version now.
        current_version: u64,
    },
    /// Too much is in flight. Nothing was done.
    #[error("too many requests are in flight; try again shortly")]
    Busy,
    /// There is no room on the disk. Nothing was done.
    #[error("there is no room on the disk; nothing was done")]
    Full,
    /// Something did not answer in time, or is down. Whether it was done is unknown: ask again with the same ids.
    #[error("the product service is not available; try again shortly")]
    Unavailable,
}

/// Why lines have no price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum QuoteError {
    /// These lines, by their places from 0 up, name nothing that is in the catalogue.
    #[error("{} line(s) name no product", .lines.len())]
    UnknownItems {
        /// Their places, ascending.
        lines: Vec<usize>,
    },
    /// The read model did not answer; nothing was changed.
    #[error("the product service is not available; try again shortly")]
    Unavailable,
}

impl From<JournalError> for ProductError {
    fn from(error: JournalError) -> Self {
        tracing::error!(%error, "the product service's read model did not answer");
        Self::Unavailable
    }
}

impl From<JournalError> for QuoteError {
    fn from(error: JournalError) -> Self {
        tracing::error!(%error, "the product service's read model did not answer");
        Self::Unavailable
    }
}

impl From<AskError<ProductRefusal>> for ProductError {
    fn from(error: AskError<ProductRefusal>) -> Self {
        match error {
            AskError::Refused(ProductRefusal::VersionDiffers { current_version }) => {
                Self::Precondition { current_version }
            }
            AskError::Refused(ProductRefusal::NotFound) => Self::NotFound,
            // A creation that is repeated is the first one; this is another use of the id.
            AskError::Refused(ProductRefusal::Exists) => {
                Self::Invalid(vec![FieldError::new("id", "there is a product with this id")])
            }
            AskError::Busy => Self::Busy,
            AskError::Full => Self::Full,
            AskError::Parked { .. } | AskError::DeadlineExceeded | AskError::Unavailable => Self::Unavailable,
        }
    }
}

/// What a stock item's answer means for a request about `sku`.
pub fn of_stock(sku: &Sku, error: AskError<StockRefusal>) -> ProductError {
    match error {
        AskError::Refused(StockRefusal::SkuTaken { .. }) => ProductError::SkuTaken { sku: sku.clone() },
        AskError::Refused(StockRefusal::UnknownSku) => ProductError::NotFound,
        AskError::Refused(StockRefusal::InsufficientStock { available }) => {
            ProductError::InsufficientStock { available }
        }
        AskError::Refused(StockRefusal::OnHandDiffers { on_hand }) => ProductError::OnHandDiffers { on_hand },
        AskError::Refused(StockRefusal::TooMany { on_hand }) => {
            let reason = format!("must leave at most {} on hand; there are {on_hand}", crate::levels::ON_HAND_MAX);
            ProductError::Invalid(vec![FieldError::new("delta", reason)])
        }
        AskError::Busy => ProductError::Busy,
        AskError::Full => ProductError::Full,
        AskError::Parked { .. } | AskError::DeadlineExceeded | AskError::Unavailable => ProductError::Unavailable,
    }
}
