//! What the services say to each other: ids, money, time and claims. Pure data, no I/O.
//!
//! # Layout
//!
//! - [`ids`]: typed ids (`ord_…`, `usr_…`) and [`Quantity`]
//! - [`money`]: [`Currency`] and [`Money`] in integer minor units; the decimal text of the HTTP API
//! - [`time`]: [`Timestamp`] in milliseconds since the Unix epoch, shown as RFC 3339
//! - [`claims`]: what an access token says
//! - [`services`]: the services by name
//! - [`quotes`]: what an item costs, asked and answered
//! - [`messages`]: events and commands between services, with their topics and keys
//! - `testkit` (with the feature of that name): what every service's tests hold it to
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]
#![deny(clippy::print_stdout, clippy::print_stderr, reason = "a line may be lost and must not matter: use tracing")]

pub mod claims;
pub mod ids;
pub mod messages;
pub mod money;
pub mod quotes;
pub mod services;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod time;

/// Payments that may be tried for one order: the order says so, and the payment service holds to it before it writes one down.
pub const PAYMENT_ATTEMPTS_MAX: u32 = 5;

pub use claims::Claims;
pub use ids::{
    EventId, IdError, OrderId, PaymentId, ProductId, Quantity, QuantityError, RefundId, RequestId, ReservationId,
    SessionId, Sku, UserId,
};
pub use messages::{Envelope, Message, OrderedLine, Topic};
pub use money::{AmountError, Currency, DecimalNumber, Money, MoneyError};
pub use quotes::{ItemRef, QuoteLine, QuotedLine};
pub use services::{InboxError, Service};
pub use time::Timestamp;
