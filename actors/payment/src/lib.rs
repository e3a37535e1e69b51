//! The payment service: payments, refunds and the providers that move the money.
//!
//! # Layout
//!
//! - [`payment`]: the entity: all payments of one order; at most one of them is alive. Its folder has its state,
//!   commands, events and views
//! - [`card`]: what a buyer types; it is turned into a token at once and forgotten
//! - [`provider`]: the port to whoever moves money; [`provider::sandbox`] is the one in the house
//! - `payable`: whether a card can be paid with at all
//! - [`outbox`] and [`inbox`]: messages out, messages in
//! - `overdue`: the payments that wait for too long, and what the clock does about them
//! - [`service`]: the use cases; `tree`: the actors
//!
//! # When money moves
//!
//! A request is written down, then the order is asked, and only an order that stands and agrees lets the charge begin. The
//! charge is asked of the provider under the payment's id as often as it takes to get an answer: the provider does it once.
//! A crash in between asks again.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]
#![deny(clippy::print_stdout, clippy::print_stderr, reason = "a line may be lost and must not matter: use tracing")]

pub mod card;
pub mod inbox;
pub mod outbox;
mod overdue;
mod payable;
pub mod payment;
pub mod provider;
#[cfg(test)]
mod query_plans;
pub mod recovery;
pub mod service;
mod tree;

pub use card::{Card, CardError, CardFault};
pub use payment::{FailedBy, Payment, PaymentStatus};
pub use provider::{ChargeOutcome, Method, Provider, sandbox::SandboxProvider};
pub use service::{NewPayment, PaymentError, PaymentService, PaymentTotals, VIEWS};
