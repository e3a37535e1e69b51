//! The order service: orders and the checkout saga.
//!
//! # Layout
//!
//! - [`order`]: the entity: what an order is and becomes
//! - [`pricing`]: what an order costs, from the catalogue's prices
//! - [`outbox`]: which messages an order's events give rise to
//! - [`inbox`]: which commands other services' messages give rise to
//! - [`expiry`]: the clock of what waits: for stock, for payment, for stock once more
//! - [`open_debts`]: what orders have asked for and were not answered; [`reconciler`]: who has them ask again
//! - [`unpaid`]: how much a buyer holds without having paid; `cap`: whether it may be more
//! - [`service`]: the use cases; `tree`: the actors
//!
//! # The saga
//!
//! ```text
//! Submitted ─► reserve (each SKU) ─► all held: Created (pending) ─► PaymentStarted ─► approve ─► Paid ─► commit stock
//!                                └─► one is not: Rejected, the others are released        └─► PaymentFailed (pending)
//! ```
//!
//! Every arrow is an event in a journal and a message made from it; every answer comes back as a message and is decided
//! by the order. There is no coordinator to lose: a crash at any instruction is resumed by the journals' readers. The
//! order and its reservation exist before any money moves; money that comes for an order that does not want it any more is
//! given back.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]
#![deny(clippy::print_stdout, clippy::print_stderr, reason = "a line may be lost and must not matter: use tracing")]

mod cap;
pub mod expiry;
pub mod inbox;
pub mod open_debts;
pub mod order;
pub mod outbox;
pub mod pricing;
#[cfg(test)]
mod query_plans;
pub mod reconciler;
pub mod recovery;
pub mod service;
mod tree;
pub mod unpaid;

pub use open_debts::{DebtTotals, OpenDebt};
pub use order::{Address, Debts, Draft, Order, OrderEntity, OrderStatus, Shortfall, Terms};
pub use service::{OrderError, OrderPage, OrderService, OrderTotals, VIEWS};
pub use unpaid::{Cap, TooMuchUnpaid};
