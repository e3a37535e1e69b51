//! Dead letters on Kafka, for operators: what lies in `<topic>.dlq`, and bringing it back to where it came from.
//!
//! Each call reads with a consumer of its own that is in no group and commits nothing; nothing is removed, retention does
//! that. What a replay has brought back is marked by another record of the same topic, and is not listed any more; asked for by its
//! place it is found still.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use bytes::Bytes;
use rdkafka::{
    config::FromClientConfigAndContext,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::Message,
    topic_partition_list::{Offset, TopicPartitionList},
};

use super::{
    batch::record_of,
    settings::{KafkaClientSettings, QuietContext, SettingsError},
    topics::{KafkaTopics, TopicError},
};
use crate::{
    engine::dead_letter::{ERROR, ERROR_KIND, ORIGIN_TOPIC, dead_letter_topic, mark_of, marked_by, replay},
    ports::{LogSink, NotTaken, SinkError},
    record::{OutgoingRecord, Record},
};

/// The longest silence of the broker in the middle of reading.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How long one poll may wait.
const STEP: Duration = Duration::from_millis(100);
/// How long the acknowledgements of a replay may take beyond what the sink itself allows.
const ACKNOWLEDGE_WAIT_MAX: Duration = Duration::from_secs(60);

/// Which dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All of them.
    All,
    /// The one at this place.
    One {
        /// Its partition in the topic of dead letters.
        partition: i32,
        /// Its offset there.
        offset: i64,
    },
    /// Those of one key: all of them are in one partition, so they come in order.
    Key(Bytes),
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// The topics cannot be asked.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The settings cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Reading failed.
    #[error("the dead letters cannot be read: {0}")]
    Read(String),
    /// A dead letter cannot be brought back. What came before it was.
    #[error("{partition}/{offset} cannot be brought back, {replayed} before it were: {reason}")]
    Replay {
        /// Where it lies.
        partition: i32,
        /// Where it lies.
        offset: i64,
        /// How many were brought back.
        replayed: usize,
        /// Why.
        reason: String,
    },
    /// They were brought back, but that could not be written down.
    #[error("{replayed} were brought back, and are listed still: {reason}")]
    Mark {
        /// How many.
        replayed: usize,
        /// Why.
        reason: String,
    },
}

/// The dead letters of a cluster.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    settings: KafkaClientSettings,
}

impl DeadLetters {
    /// Connects with each call.
    #[must_use]
    pub fn new(settings: KafkaClientSettings) -> Self {
        Self { settings }
    }

    /// The dead letters of `topic` (its name without `.dlq`) that were not brought back, partition by partition, each in order, at most `limit`. Their
    /// headers say what happened: see [`crate::engine::dead_letter`].
    ///
    /// # Errors
    /// [`DeadLetterError`]; [`TopicError::Unknown`] where nothing was ever set aside and no topic was made for it.
    pub async fn list(&self, topic: &str, selection: &Selection, limit: usize) -> Result<Vec<Record>, DeadLetterError> {
        let dead_letters = dead_letter_topic(topic);
        let described = KafkaTopics::new(self.settings.clone())?.describe(&dead_letters).await?;
        let mut ranges: BTreeMap<i32, (i64, i64)> = described
            .partitions
            .iter()
            .map(|partition| (partition.partition, (partition.first, partition.end)))
            .collect();
        if let Selection::One { partition: wanted, offset } = selection {
            ranges.retain(|partition, _| partition == wanted);
            ranges.values_mut().for_each(|(first, end)| {
                *first = (*first).max(*offset);
                *end = (*end).min(offset.saturating_add(1));
            });
        }
        ranges.retain(|_, (first, end)| first < end);
        let (settings, selection) = (self.settings.clone(), selection.clone());
        let reading = tokio::task::spawn_blocking(move || read(&settings, &dead_letters, ranges, &selection, limit));
        reading.await.map_err(|error| DeadLetterError::Read(error.to_string()))?
    }

    /// Brings dead letters back to the topics that they came from, in order per partition; says how many, `limit` at most. As
    /// long as none fails, keys stay in order.
    ///
    /// # Errors
    /// [`DeadLetterError::Replay`] names the first that was not brought back. Some behind it may have been.
    pub async fn replay(
        &self,
        topic: &str,
        selection: &Selection,
        limit: usize,
        sink: Arc<dyn LogSink>,
    ) -> Result<usize, DeadLetterError> {
        let letters = self.list(topic, selection, limit).await?;
        let mut records = Vec::with_capacity(letters.len());
        let mut fault = None;
        for (index, letter) in letters.iter().enumerate() {
            match replay(letter) {
                Ok(record) => records.push(record),
                Err(error) => {
                    fault = Some(failure(letter, index, error.to_string()));
                    break;
                }
            }
        }
        let written = write(&sink, records).await?;
        let failed = written.iter().position(Result::is_err);
        let back = letters.iter().zip(&written).filter(|(_, written)| written.is_ok()).map(|(letter, _)| letter);
        let marks: Vec<OutgoingRecord> = back.map(mark_of).collect();
        let replayed = marks.len();
        for marked in write(&sink, marks).await? {
            marked.map_err(|reason| DeadLetterError::Mark { replayed, reason })?;
        }
        match (failed.and_then(|index| Some((index, letters.get(index)?))), fault) {
            (Some((index, letter)), _) => {
                let reason = written.into_iter().nth(index).and_then(Result::err).unwrap_or_default();
                Err(failure(letter, index, reason))
            }
            (None, Some(fault)) => Err(fault),
            (None, None) => Ok(replayed),
        }
    }
}

/// Writes records in order and waits for their acknowledgements: for each, whether it was written, or why not. Behind the first that
/// was not even sent there are none.
async fn write(
    sink: &Arc<dyn LogSink>,
    records: Vec<OutgoingRecord>,
) -> Result<Vec<Result<(), String>>, DeadLetterError> {
    let (told, tells) = mpsc::channel();
    let mut not_sent = None;
    let count = records.len();
    'records: for (index, record) in records.into_iter().enumerate() {
        let told = told.clone();
        // Who waits may have given up.
        let mut acknowledge: crate::ports::Acknowledge = Box::new(move |result| drop(told.send((index, result))));
        loop {
            let Err(NotTaken { acknowledge: uncalled, error }) = sink.send(&record, acknowledge) else { break };
            if error != SinkError::Full {
                not_sent = Some((index, error.to_string()));
                break 'records;
            }
            acknowledge = uncalled;
            sink.room().await;
        }
    }
    drop(told);
    let settled = tokio::task::spawn_blocking(move || {
        let deadline = Instant::now() + ACKNOWLEDGE_WAIT_MAX;
        let mut settled = BTreeMap::new();
        while let Ok((index, result)) = tells.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            settled.insert(index, result);
        }
        settled
    });
    let mut settled = settled.await.map_err(|error| DeadLetterError::Read(error.to_string()))?;
    let sent = not_sent.as_ref().map_or(count, |(index, _)| *index);
    let outcome = |index: usize| match settled.remove(&index) {
        Some(Ok(_)) => Ok(()),
        Some(Err(error)) => Err(error.to_string()),
        None => Err("no acknowledgement in time".to_owned()),
    };
    let mut written: Vec<Result<(), String>> = (0..sent).map(outcome).collect();
    written.extend(not_sent.map(|(_, reason)| Err(reason)));
    Ok(written)
}

fn failure(letter: &Record, replayed: usize, reason: String) -> DeadLetterError {
    DeadLetterError::Replay { partition: letter.partition, offset: letter.offset, replayed, reason }
}

pub(super) fn read(
    settings: &KafkaClientSettings,
    topic: &str,
    ranges: BTreeMap<i32, (i64, i64)>,
    selection: &Selection,
    limit: usize,
) -> Result<Vec<Record>, DeadLetterError> {
    let mut marked = BTreeSet::new();
    // One that is asked for by its place is wanted whatever became of it.
    if !matches!(selection, Selection::One { .. }) {
        each(settings, topic, ranges.clone(), |record| {
            marked.extend(marked_by(&record));
            true
        })?;
    }
    let mut found: BTreeMap<i32, Vec<Record>> = BTreeMap::new();
    each(settings, topic, ranges, |record| {
        let is_chosen = match selection {
            Selection::Key(key) => record.key.as_ref() == Some(key),
            Selection::All | Selection::One { .. } => true,
        };
        let is_open = !marked.contains(&(record.partition, record.offset)) && marked_by(&record).is_none();
        let so_far = found.entry(record.partition).or_default();
        if is_chosen && is_open && so_far.len() < limit {
            so_far.push(record);
        }
        so_far.len() < limit
    })?;
    Ok(found.into_values().flatten().take(limit).collect())
}

/// Gives every record of these ranges to `take`, each partition's in order, for as long as it wants more of the partition.
fn each(
    settings: &KafkaClientSettings,
    topic: &str,
    mut ranges: BTreeMap<i32, (i64, i64)>,
    mut take: impl FnMut(Record) -> bool,
) -> Result<(), DeadLetterError> {
    if ranges.is_empty() {
        return Ok(());
    }
    let failed = |error: KafkaError| DeadLetterError::Read(error.to_string());
    let mut config = settings.client_config()?;
    // The client wants a group's name even from a consumer that joins none. The end of a partition is told: its last offsets
    // may be marks of transactions, which never come.
    config
        .set("group.id", "microcommerce-asks-only")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true");
    let consumer = BaseConsumer::from_config_and_context(&config, QuietContext).map_err(SettingsError::from)?;
    let mut list = TopicPartitionList::new();
    for (partition, (first, _)) in &ranges {
        list.add_partition_offset(topic, *partition, Offset::Offset(*first)).map_err(failed)?;
    }
    consumer.assign(&list).map_err(failed)?;
    let mut heard_at = Instant::now();
    while !ranges.is_empty() {
        if heard_at.elapsed() > SILENCE_MAX {
            return Err(DeadLetterError::Read(format!("no answer within {} s", SILENCE_MAX.as_secs())));
        }
        match consumer.poll(STEP) {
            None => continue,
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(ranges.remove(&partition)),
            // The client goes on by itself; if it cannot, the silence ends it.
            Some(Err(error)) => {
                tracing::debug!(%error, "reading dead letters");
                continue;
            }
            Some(Ok(message)) => {
                let (partition, offset) = (message.partition(), message.offset());
                let Some((_, end)) = ranges.get(&partition).copied() else { continue };
                let wants_more = offset >= end || record_of(&message).into_iter().all(&mut take);
                if offset + 1 >= end || !wants_more {
                    ranges.remove(&partition);
                }
            }
        }
        heard_at = Instant::now();
    }
    Ok(())
}

/// One line about a dead letter, as operators like it: where it lies, where it came from, its key, and why.
#[must_use]
pub fn summary(letter: &Record) -> String {
    let text = |name| letter.headers.text(name).ok().flatten().unwrap_or("?");
    let key = letter.key.as_deref().map_or("-".into(), String::from_utf8_lossy);
    let place = format!("{}/{}", letter.partition, letter.offset);
    format!("{place}\t{}\tkey {key}\t{}: {}", text(ORIGIN_TOPIC), text(ERROR_KIND), text(ERROR))
}
