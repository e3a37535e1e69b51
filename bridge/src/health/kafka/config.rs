//! What the transport over Kafka is told.

use crate::kafka::KafkaClientSettings;

/// Where Kafka is, and who we say we are.
#[derive(Clone, Debug)]
pub struct KafkaHealthConfig {
    /// The brokers, our `client.id`, and how the connection is protected: the same as every other client's.
    pub client: KafkaClientSettings,
    /// Before the names of both topics, for several shops on one cluster; empty for the original's names.
    pub topic_prefix: String,
}
