//! A record of a log, as it was read and as it is written.
//!
//! It owns the words only. Keys, values and header names are bytes, because a log promises no more; nothing here decodes.

use std::{
    fmt,
    str::{self, Utf8Error},
    sync::Arc,
};

use bytes::Bytes;

/// One partition of one topic: the unit of order, of progress and of assignment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// The partition `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// One header. A name should be UTF-8; what came otherwise is kept as it came, so that it can be set aside unharmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The name's bytes.
    pub name: Bytes,
    /// The value, or nothing where the log holds a null.
    pub value: Option<Bytes>,
}

/// A record's headers in order. A name may occur more than once. Clones share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Option<Arc<Vec<Header>>>);

impl Headers {
    /// These headers. None at all costs nothing.
    #[must_use]
    pub fn new(headers: Vec<Header>) -> Self {
        Self((!headers.is_empty()).then(|| Arc::new(headers)))
    }

    /// The headers with one more at the end.
    #[must_use]
    pub fn with(self, name: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        let mut headers = self.0.map(Arc::unwrap_or_clone).unwrap_or_default();
        headers.push(Header { name: name.into(), value: Some(value.into()) });
        Self(Some(Arc::new(headers)))
    }

    /// All headers, in order.
    #[must_use]
    pub fn as_slice(&self) -> &[Header] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }

    /// The value of the last header of this name: the one that counts where a name occurs twice.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Bytes> {
        self.as_slice().iter().rev().find(|header| header.name == name).and_then(|header| header.value.as_ref())
    }

    /// The same as text.
    ///
    /// # Errors
    /// When the value is no UTF-8.
    pub fn text(&self, name: &str) -> Result<Option<&str>, Utf8Error> {
        self.get(name).map(|value| str::from_utf8(value)).transpose()
    }

    /// The first header whose name is no UTF-8, by its index.
    #[must_use]
    pub fn unreadable(&self) -> Option<usize> {
        self.as_slice().iter().position(|header| str::from_utf8(&header.name).is_err())
    }
}

/// A record that was read. Clones share the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its topic.
    pub topic: Arc<str>,
    /// Its partition.
    pub partition: i32,
    /// Its place in the partition. Offsets grow; they may have gaps.
    pub offset: i64,
    /// Milliseconds since the Unix epoch, by its writer or by the broker, as the topic is set up.
    pub timestamp_ms: Option<i64>,
    /// Records of one key are handled one after another. No key: no order.
    pub key: Option<Bytes>,
    /// The value; nothing is a tombstone.
    pub value: Option<Bytes>,
    /// The headers.
    pub headers: Headers,
}

impl Record {
    /// What it holds of credits: key, value and header bytes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let of = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers = self.headers.as_slice().iter().map(|header| header.name.len() + of(&header.value));
        of(&self.key) + of(&self.value) + headers.sum::<usize>()
    }
}

/// A record to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingRecord {
    /// To which topic.
    pub topic: Arc<str>,
    /// To this partition, or to the one that the key chooses (murmur2, as Java's clients choose).
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; nothing is a tombstone.
    pub value: Option<Bytes>,
    /// Milliseconds since the Unix epoch; now, where nothing is said.
    pub timestamp_ms: Option<i64>,
    /// The headers.
    pub headers: Headers,
}
