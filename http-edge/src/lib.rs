//! The HTTP edge: every byte that comes from or goes to a browser, a shop or a script.
//!
//! # Layout
//!
//! From the socket inwards:
//!
//! - [`server`]: the accept loop: connection cap, header timeout, request timeout, panics, graceful stop
//! - [`routing`]: warp path groups and the [`route!`] table
//! - [`request`], [`query`], [`body`], [`fields`]: what came in, limited and checked; [`trace`]: of which trace
//! - [`auth`]: who is asking, and may they
//! - [`rate_limit`], [`idempotency`]: too often, and again
//! - [`reply`], [`json`], [`response`]: what goes out; [`correlation`]: under which name
//! - [`error`]: every refusal, its status and its shape; `failures`: which one a service's error is
//! - `idempotent`, `conditional`: work that is done once, answers and writes that depend on a version
//! - [`gateway()`]: the API; [`service_port()`]: each service's own port; [`metrics`]: their numbers
//! - [`starting`]: what the ports answer while the process starts, and how far that has come
//! - [`peers`], `neighbours`, [`internal`], [`trust`]: services that run as other processes of the same house
//! - [`shop`]: what all of these are given
//!
//! It owns no business rule and no state that must survive a restart. Handlers turn a [`Request`] into a
//! command of a service and its reply into a [`Response`].
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]
#![deny(clippy::print_stdout, clippy::print_stderr, reason = "a line may be lost and must not matter: use tracing")]

pub mod auth;
pub mod body;
mod conditional;
pub mod correlation;
pub mod error;
mod failures;
pub mod fields;
pub mod gateway;
mod health_pages;
pub mod idempotency;
mod idempotent;
pub mod internal;
pub mod json;
pub mod metrics;
mod neighbours;
pub mod peers;
mod progress;
pub mod query;
mod questions;
pub mod rate_limit;
pub mod reply;
pub mod request;
pub mod response;
pub mod routing;
pub mod server;
pub mod service_port;
pub mod shop;
pub mod starting;
pub mod trace;
pub mod trust;

pub use error::ApiError;
pub use gateway::gateway;
pub use reply::Response;
pub use request::Request;
pub use service_port::service_port;
pub use shop::{BusUnreachable, Chaos, HealthReport, HealthSource, ServiceHealth, Shop};
