//! The last records of a topic, for a writer that wants to know what it has written.
//!
//! Each call reads with a consumer of its own that is in no group and commits nothing.

use std::collections::BTreeMap;

use super::{
    dead_letters::{DeadLetterError, Selection, read},
    settings::KafkaClientSettings,
    topics::KafkaTopics,
};
use crate::record::Record;

/// The last records of each of the topic's partitions, at most `each`.
///
/// # Errors
/// [`DeadLetterError`] when the topic cannot be asked or read.
pub async fn last_records(
    settings: &KafkaClientSettings,
    topic: &str,
    each: usize,
) -> Result<Vec<Record>, DeadLetterError> {
    let described = KafkaTopics::new(settings.clone())?.describe(topic).await?;
    let wanted = i64::try_from(each).unwrap_or(i64::MAX);
    let mut ranges: BTreeMap<i32, (i64, i64)> = described
        .partitions
        .iter()
        .map(|partition| (partition.partition, (partition.first.max(partition.end - wanted), partition.end)))
        .collect();
    ranges.retain(|_, (first, end)| first < end);
    let limit = each.saturating_mul(ranges.len());
    let (settings, topic) = (settings.clone(), topic.to_owned());
    let reading = tokio::task::spawn_blocking(move || read(&settings, &topic, ranges, &Selection::All, limit));
    reading.await.map_err(|error| DeadLetterError::Read(error.to_string()))?
}
