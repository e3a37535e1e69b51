//! Between message topics and actors.
//!
//! It knows neither what the messages mean nor who sends them: it is for anyone who has [`ractor`] actors and topics.
//!
//! # Layout
//!
//! - [`record`]: what is read and written; [`ports`]: what the engine needs of a log
//! - [`engine`]: from a log's partitions to handlers
//! - [`kafka`]: the ports on a real Kafka, topics, dead letters; [`relay`]: from an outbox to a log
//! - [`embedded`]: durable messages between journals, without a broker
//! - [`memory`]: a log in memory, for tests and for trying things out
//! - [`health`]: pings, pongs and who is healthy, in one process or over Kafka.
#![deny(clippy::print_stdout, clippy::print_stderr, reason = "a line may be lost and must not matter: use tracing")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod continuity;
pub mod embedded;
pub mod engine;
pub mod health;
pub mod kafka;
pub mod memory;
pub mod ports;
pub mod record;
pub mod relay;
