//! The ports on a real Kafka: a source and a sink, the topics they need, and what is set aside.
//!
//! # Layout
//!
//! - [`settings`]: where Kafka is, and how the connection is protected.
//! - [`source`]: one member of a consumer group, as a [`LogSource`](crate::ports::LogSource).
//!   `assigned`: one of its partitions; `batch`: messages made into records; `examiner`: what is wrong with a partition.
//! - [`sink`]: an idempotent producer, as a [`LogSink`](crate::ports::LogSink).
//! - [`topics`]: creating and describing them, and the lag of a group.
//! - [`tail`]: the last records of a topic.
//! - [`dead_letters`]: looking at what was set aside, and bringing it back.
//!
//! Nothing here knows what records mean, or decides when a commit is due: it carries out what the ports ask for.

mod assigned;
mod batch;
pub mod dead_letters;
mod examiner;
mod group;
mod identities;
mod native;
pub mod settings;
pub mod sink;
pub mod source;
mod standstill;
mod statistics;
pub mod tail;
pub mod topics;
mod wakeup;

pub use dead_letters::{DeadLetters, Selection};
pub use settings::{Compression, KafkaClientSettings, Sasl, Security, SettingsError, Tls};
pub use sink::{KafkaSink, KafkaSinkConfig};
pub use source::{KafkaSource, KafkaSourceConfig};
pub use topics::{KafkaTopics, TopicSpec};
