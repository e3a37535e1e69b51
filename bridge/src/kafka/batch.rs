//! Messages of the client made into records. It owns nothing.

use std::sync::Arc;

use bytes::Bytes;
use rdkafka::message::{BorrowedMessage, Message};

use super::native;
use crate::record::{Header, Headers, Record, TopicPartition};

/// A message on its own, with a buffer of its own.
pub(super) fn record_of(message: &BorrowedMessage<'_>) -> Option<Record> {
    let (id, message) = (TopicPartition::new(message.topic(), message.partition()), native::Message::from(message));
    let mut size = Size::default();
    size.add(message);
    records(&id, std::iter::once(message), size).pop()
}

/// What the records of a batch hold together.
#[derive(Clone, Copy, Default)]
pub(super) struct Size {
    records: usize,
    headers: usize,
    /// Keys, values and headers.
    pub(super) bytes: usize,
}

impl Size {
    pub(super) fn add(&mut self, message: native::Message<'_>) {
        self.records += 1;
        self.bytes += message.key().map_or(0, <[u8]>::len) + message.value().map_or(0, <[u8]>::len);
        message.for_each_header(|name, value| {
            self.headers += 1;
            self.bytes += name.len() + value.map_or(0, <[u8]>::len);
        });
    }
}

/// Copies messages into records that share one buffer; errors among them are left out. A message holds all of its fetch in
/// memory: keeping it for as long as a record lives would keep the whole.
pub(super) fn records<'a>(
    id: &TopicPartition,
    messages: impl Iterator<Item = native::Message<'a>> + Clone,
    size: Size,
) -> Vec<Record> {
    let messages = messages.filter(|message| message.error().is_none());
    let mut buffer = Vec::with_capacity(size.bytes);
    for message in messages.clone() {
        buffer.extend_from_slice(message.key().unwrap_or_default());
        buffer.extend_from_slice(message.value().unwrap_or_default());
        // Looking for headers is dear, since the client reads them anew each time: not where there are none.
        if size.headers > 0 {
            message.for_each_header(|name, value| {
                buffer.extend_from_slice(name);
                buffer.extend_from_slice(value.unwrap_or_default());
            });
        }
    }
    let mut buffer = Bytes::from(buffer);
    let mut cut = |bytes: &[u8]| buffer.split_to(bytes.len());
    // A name of the batch's own: counting its holders disturbs no other batch on another core.
    let topic: Arc<str> = Arc::from(&*id.topic);
    let mut records = Vec::with_capacity(size.records);
    for message in messages {
        let (key, value) = (message.key().map(&mut cut), message.value().map(&mut cut));
        let mut headers = Vec::new();
        if size.headers > 0 {
            message.for_each_header(|name, value| {
                headers.push(Header { name: cut(name), value: value.map(&mut cut) });
            });
        }
        records.push(Record {
            topic: Arc::clone(&topic),
            partition: id.partition,
            offset: message.offset(),
            timestamp_ms: message.timestamp_ms(),
            key,
            value,
            headers: Headers::new(headers),
        });
    }
    records
}
