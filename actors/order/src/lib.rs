//! The order service: orders and the checkout saga.
//!
//! # Layout
//!
//! - [`order`]: the entity: what an order is and becomes; [`command`] and [`event`] are its language, `decisions` its rules
//! - [`late_payment`]: money that comes after the order's time
//! - [`outbox`]: which messages an order's events give rise to
//! - [`inbox`]: which commands other services' messages give rise to
//! - [`expiry`]: the clock of what waits: for stock, for payment, for stock once more
//! - [`debts`]: what an order has asked for and was not answered; [`reconciler`]: who has it ask again
//! - [`unpaid`]: how much a buyer holds without having paid
//! - [`service`]: the use cases, and the tree
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

pub mod command;
pub mod debts;
mod decisions;
pub mod event;
pub mod expiry;
#[cfg(test)]
mod golden_corpus;
pub mod inbox;
pub mod late_payment;
pub mod order;
pub mod outbox;
#[cfg(test)]
mod query_plans;
pub mod reconciler;
pub mod recovery;
pub mod service;
pub mod unpaid;
mod views;

pub use order::{Address, Draft, Order, OrderEntity, OrderStatus, Shortfall, Terms};
pub use reconciler::{DebtTotals, OpenDebt};
pub use service::{OrderError, OrderPage, OrderService, OrderTotals, VIEWS};
pub use unpaid::{Cap, TooMuchUnpaid};
