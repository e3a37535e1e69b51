//! The product service: the catalogue, and the stock that is counted and reserved by SKU.
//!
//! It owns products, stock items and their read model. It knows neither HTTP nor a message broker: the root gives it a
//! journal, puts its [children](ProductService::children) under a supervisor and wires its
//! [outbox](ProductService::outbox) and [inbox](ProductService::inbox) to the bus. When it falls, its tree is started again
//! from the journal. It reserves for orders but does not know what an order is, and it never asks another service.
//!
//! # Layout
//!
//! - `product`: the entity [`ProductId`](contracts::ProductId): what is sold, for how much.
//! - `stock_item`: the entity [`Sku`](contracts::Sku): the single writer of one SKU's stock; `levels`: its numbers and the
//!   law that they obey.
//! - `holds`: the stock that is held beyond its time, and who is asked about it.
//! - `views`: the tables of the read model; `catalog`: the questions asked of it.
//! - `outbox`, `inbox`: events to messages, messages to commands.
//! - `service`: the use cases; `requests`: what they are asked; `validation`: what a product must look like; `tree`: the actors.
//!
//! # How the first stock arrives
//!
//! ```text
//! create_product ─► stock item: Claim ─► product: Create ─► journal ─► outbox: receive ─► bus ─► inbox ─► stock item: Receive
//!        └──────────────────────── waits until the stock item has it ◄─────────────────────────────────────────┘
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]
#![deny(clippy::print_stdout, clippy::print_stderr, reason = "a line may be lost and must not matter: use tracing")]

mod catalog;
mod error;
#[cfg(test)]
mod golden_corpus;
mod holds;
mod inbox;
mod levels;
mod outbox;
mod product;
#[cfg(test)]
mod query_plans;
pub mod recovery;
mod requests;
mod service;
mod specifications;
mod stock_item;
mod tree;
mod validation;
mod views;

pub use catalog::{
    LIMIT_DEFAULT, LIMIT_MAX, ListQuery, Page, ProductDetail, ProductSummary, SortKey, SortOrder, StockLevel, Totals,
};
pub use error::{FieldError, ProductError, QuoteError};
pub use requests::{Adjustment, NewProduct, ProductChange, StockMovement};
pub use runtime::RequestContext;
pub use service::ProductService;
pub use specifications::{Specifications, SpecificationsError};
