//! Topics: creating those that are missing, and saying what is in them and how far a group has come.
//!
//! For programs at their start and for operators. It owns one admin client; it **does not** change a topic that exists, and
//! deletes nothing, but for the one call that says so.

use std::{
    collections::HashMap,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    config::FromClientConfigAndContext,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    topic_partition_list::{Offset, TopicPartitionList},
};

use super::{
    native,
    settings::{KafkaClientSettings, QuietContext, SettingsError},
};
use crate::record::TopicPartition;

/// Copies of a partition on a cluster that has as many brokers; one for each broker on a smaller one.
pub const REPLICAS_MAX: i32 = 3;
/// How long one request may take.
const REQUEST_WAIT_MAX: Duration = Duration::from_secs(10);
/// How often a new topic is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A topic as it should be.
#[derive(Clone, Debug)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// How many partitions: the most members of a group that can read it side by side.
    pub partitions: i32,
    /// Settings such as `cleanup.policy` or `retention.ms`; the broker's own where nothing is said.
    pub settings: Vec<(String, String)>,
}

impl TopicSpec {
    /// A topic with the broker's own settings.
    #[must_use]
    pub fn new(name: impl Into<String>, partitions: i32) -> Self {
        Self { name: name.into(), partitions, settings: Vec::new() }
    }

    /// The same with one setting more.
    #[must_use]
    pub fn with(mut self, setting: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((setting.into(), value.into()));
        self
    }
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    /// No broker answered in time. Trying again may help.
    #[error("Kafka at {brokers} does not answer: {error}")]
    NoAnswer {
        /// Who was asked.
        brokers: String,
        /// The client's words.
        error: KafkaError,
    },
    /// A topic is missing, and may not be made by us. An operator has to.
    #[error(
        "the topic {name} is missing and cannot be created from here ({code}): \
         create it with {partitions} partitions and {replicas} replicas"
    )]
    NotCreated {
        /// Which.
        name: String,
        /// What the broker said.
        code: RDKafkaErrorCode,
        /// With how many partitions.
        partitions: i32,
        /// With how many replicas.
        replicas: i32,
    },
    /// There is no such topic.
    #[error("there is no topic {0}")]
    Unknown(String),
    /// The settings cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The task that asked was ended.
    #[error("the question was given up: {0}")]
    GivenUp(String),
}

/// One topic, as the brokers describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// Its partitions, in order.
    pub partitions: Vec<PartitionDescription>,
}

/// One partition, as the brokers describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionDescription {
    /// Its number.
    pub partition: i32,
    /// The broker that leads it; none while there is no leader.
    pub leader: Option<i32>,
    /// How many copies there should be.
    pub replicas: usize,
    /// How many of them are up to date.
    pub in_sync: usize,
    /// The offset of the oldest record that is kept.
    pub first: i64,
    /// The offset after the newest.
    pub end: i64,
}

/// How far a group has come in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionLag {
    /// Which.
    pub partition: TopicPartition,
    /// Where the group goes on; nothing where it has never committed.
    pub committed: Option<i64>,
    /// The offset after the newest record.
    pub end: i64,
    /// Records that are not finished; all that are kept where nothing was committed.
    pub lag: i64,
    /// How much of the commit's metadata is used by finished records above the commit, in bytes.
    pub gaps_bytes: usize,
}

/// Asks and creates. Dropping it does not block.
pub struct KafkaTopics {
    settings: KafkaClientSettings,
    admin: Option<Arc<AdminClient<QuietContext>>>,
}

impl KafkaTopics {
    /// Makes the client; it connects with the first question.
    ///
    /// # Errors
    /// [`SettingsError`] where the settings make no sense.
    pub fn new(settings: KafkaClientSettings) -> Result<Self, SettingsError> {
        let admin = AdminClient::from_config_and_context(&settings.client_config()?, QuietContext)?;
        Ok(Self { settings, admin: Some(Arc::new(admin)) })
    }

    /// Creates the topics that are missing, with as many replicas as there are brokers, [`REPLICAS_MAX`] at most. Gives the
    /// names of those that it created. A topic that exists is left as it is, whatever it is like.
    ///
    /// # Errors
    /// [`TopicError::NotCreated`] names the first that could not be created; the others may have been.
    pub async fn create_missing(&self, wanted: &[TopicSpec]) -> Result<Vec<String>, TopicError> {
        let Some(admin) = &self.admin else { return Ok(Vec::new()) };
        let asks = Arc::clone(admin);
        let asked = tokio::task::spawn_blocking(move || {
            // All topics, since a question for one by name makes it on many brokers, with the wrong settings.
            let metadata = asks.inner().fetch_metadata(None, REQUEST_WAIT_MAX)?;
            let names: Vec<String> = metadata.topics().iter().map(|topic| topic.name().to_owned()).collect();
            Ok((metadata.brokers().len(), names))
        });
        let asked = asked.await.map_err(|error| TopicError::GivenUp(error.to_string()))?;
        let (brokers, existing) = asked.map_err(|error| self.no_answer(error))?;
        let missing: Vec<&TopicSpec> = wanted.iter().filter(|spec| !existing.contains(&spec.name)).collect();
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        let replicas = i32::try_from(brokers).unwrap_or(REPLICAS_MAX).clamp(1, REPLICAS_MAX);
        let new: Vec<NewTopic<'_>> = missing
            .iter()
            .map(|spec| {
                let new = NewTopic::new(&spec.name, spec.partitions, TopicReplication::Fixed(replicas));
                spec.settings.iter().fold(new, |new, (setting, value)| new.set(setting, value))
            })
            .collect();
        let options =
            AdminOptions::new().request_timeout(Some(REQUEST_WAIT_MAX)).operation_timeout(Some(REQUEST_WAIT_MAX));
        let results = admin.create_topics(&new, &options).await.map_err(|error| self.no_answer(error))?;
        let mut created = Vec::new();
        for result in results {
            match result {
                Ok(name) => created.push(name),
                // Another process was faster.
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((name, code)) => {
                    let partitions = missing.iter().find(|spec| spec.name == name).map_or(1, |spec| spec.partitions);
                    return Err(TopicError::NotCreated { name, code, partitions, replicas });
                }
            }
        }
        self.wait_for(&created).await;
        Ok(created)
    }

    /// Other brokers hear of a topic a little later than the one that made it. Whoever is too impatient is told that it is not
    /// there, so this waits for what it can see, and for no longer than one request may take.
    async fn wait_for(&self, created: &[String]) {
        let deadline = Instant::now() + REQUEST_WAIT_MAX;
        while Instant::now() < deadline {
            let wanted = created.to_vec();
            let are_led = self.ask(move |consumer| {
                let metadata = consumer.fetch_metadata(None, REQUEST_WAIT_MAX)?;
                let is_led = |name: &String| {
                    metadata.topics().iter().any(|topic| {
                        topic.name() == name && topic.partitions().iter().all(|partition| partition.leader() >= 0)
                    })
                };
                Ok(wanted.iter().all(is_led))
            });
            if are_led.await.unwrap_or(false) {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// What the brokers say of a topic.
    ///
    /// # Errors
    /// [`TopicError::Unknown`] where there is none of that name.
    pub async fn describe(&self, topic: &str) -> Result<TopicDescription, TopicError> {
        let name = topic.to_owned();
        let described = self.ask(move |consumer| describe(consumer, &name)).await?;
        described.ok_or_else(|| TopicError::Unknown(topic.to_owned()))
    }

    /// How far a group has come in a topic, in the order of its partitions. It asks only, and joins nothing.
    ///
    /// # Errors
    /// [`TopicError::Unknown`] where there is no such topic.
    pub async fn lag(&self, group: &str, topic: &str) -> Result<Vec<PartitionLag>, TopicError> {
        let name = topic.to_owned();
        let lag = self.ask_as(group, move |consumer| {
            let Some(described) = describe(consumer, &name)? else { return Ok(None) };
            let mut list = TopicPartitionList::new();
            described.partitions.iter().for_each(|partition| {
                list.add_partition(&name, partition.partition);
            });
            let committed = native::listed(&consumer.committed_offsets(list, REQUEST_WAIT_MAX)?);
            let committed: HashMap<i32, (i64, usize)> = committed
                .into_iter()
                .filter(|listed| listed.offset >= 0)
                .map(|listed| (listed.partition, (listed.offset, listed.metadata.len())))
                .collect();
            Ok(Some(described.partitions.iter().map(|partition| lag_of(&name, partition, &committed)).collect()))
        });
        lag.await?.ok_or_else(|| TopicError::Unknown(topic.to_owned()))
    }

    /// Deletes every record that a topic holds, as retention does with those that are too old. The topic and its offsets stay.
    ///
    /// # Errors
    /// [`TopicError`].
    pub async fn delete_records(&self, topic: &str) -> Result<(), TopicError> {
        let Some(admin) = &self.admin else { return Ok(()) };
        let mut list = TopicPartitionList::new();
        for partition in self.describe(topic).await?.partitions {
            list.add_partition_offset(topic, partition.partition, Offset::End)
                .map_err(|error| self.no_answer(error))?;
        }
        let options = AdminOptions::new().request_timeout(Some(REQUEST_WAIT_MAX));
        let deleted = admin.delete_records(&list, &options).await.map_err(|error| self.no_answer(error))?;
        // Each partition has an answer of its own.
        deleted.elements().iter().try_for_each(|partition| partition.error()).map_err(|error| self.no_answer(error))
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&BaseConsumer<QuietContext>) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, TopicError> {
        self.ask_as("microcommerce-asks-only", question).await
    }

    /// Asks on a thread that may block, with a consumer that reads nothing and is in no group; `group` is whose offsets it sees.
    async fn ask_as<T: Send + 'static>(
        &self,
        group: &str,
        question: impl FnOnce(&BaseConsumer<QuietContext>) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, TopicError> {
        let mut config = self.settings.client_config()?;
        config.set("group.id", group).set("allow.auto.create.topics", "false").set("enable.auto.commit", "false");
        let asked = tokio::task::spawn_blocking(move || {
            let consumer = BaseConsumer::from_config_and_context(&config, QuietContext)?;
            question(&consumer)
        });
        asked.await.map_err(|error| TopicError::GivenUp(error.to_string()))?.map_err(|error| self.no_answer(error))
    }

    fn no_answer(&self, error: KafkaError) -> TopicError {
        TopicError::NoAnswer { brokers: self.settings.brokers.clone(), error }
    }
}

impl Drop for KafkaTopics {
    fn drop(&mut self) {
        let admin = self.admin.take();
        // Ending the client waits for its thread: not on an async one. Without a thread it ends here.
        let _ = thread::Builder::new().name("kafka-topics-end".to_owned()).spawn(move || drop(admin));
    }
}

fn describe(consumer: &BaseConsumer<QuietContext>, topic: &str) -> Result<Option<TopicDescription>, KafkaError> {
    let metadata = consumer.fetch_metadata(None, REQUEST_WAIT_MAX)?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(None) };
    let mut partitions = Vec::with_capacity(found.partitions().len());
    for partition in found.partitions() {
        let (first, end) = consumer.fetch_watermarks(topic, partition.id(), REQUEST_WAIT_MAX)?;
        partitions.push(PartitionDescription {
            partition: partition.id(),
            leader: (partition.leader() >= 0).then_some(partition.leader()),
            replicas: partition.replicas().len(),
            in_sync: partition.isr().len(),
            first,
            end,
        });
    }
    partitions.sort_by_key(|partition| partition.partition);
    Ok(Some(TopicDescription { name: topic.to_owned(), partitions }))
}

fn lag_of(topic: &str, described: &PartitionDescription, committed: &HashMap<i32, (i64, usize)>) -> PartitionLag {
    let known = committed.get(&described.partition).copied();
    let offset = known.map(|(offset, _)| offset);
    PartitionLag {
        partition: TopicPartition::new(topic, described.partition),
        committed: offset,
        end: described.end,
        // What retention has removed is nobody's lag any more.
        lag: (described.end - offset.unwrap_or(described.first).max(described.first)).max(0),
        gaps_bytes: known.map_or(0, |(_, bytes)| bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_counts_what_is_there_and_not_finished() {
        let described =
            PartitionDescription { partition: 0, leader: Some(1), replicas: 1, in_sync: 1, first: 10, end: 30 };
        let lag = |committed: Option<i64>| {
            let committed = committed.map(|offset| (0, (offset, 3))).into_iter().collect();
            lag_of("t", &described, &committed).lag
        };
        assert_eq!([lag(None), lag(Some(25)), lag(Some(30)), lag(Some(4))], [20, 5, 0, 20]);
    }

    #[test]
    fn a_topic_that_may_not_be_created_is_one_clear_sentence() {
        let code = RDKafkaErrorCode::TopicAuthorizationFailed;
        let error = TopicError::NotCreated { name: "orders".to_owned(), code, partitions: 8, replicas: 3 }.to_string();
        assert!(
            error.starts_with("the topic orders is missing and cannot be created from here (TopicAuthorizationFailed"),
            "{error}"
        );
        assert!(error.ends_with("create it with 8 partitions and 3 replicas"), "{error}");
    }
}
