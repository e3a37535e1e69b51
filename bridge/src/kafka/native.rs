//! The few calls of librdkafka that rdkafka does not offer, or not without a panic. The only unsafe code of this crate.
//!
//! - Headers whose names are no UTF-8: rdkafka's getter panics on them, and its setter cannot write them.
//! - Commits whose results come back: rdkafka's asynchronous commit drops them, and its synchronous one hides that single
//!   partitions failed.
//! - What a list of partitions holds when its metadata, which another program may have written, is no UTF-8.
//! - A partition's messages many at a time: rdkafka makes an event and a counted reference for each; and the offset and the words of an
//!   error among them, which rdkafka drops.
//! - What a topic's identity is, and where a partition's log begins by the newest answer to a fetch.
//!
//! It owns the messages that were taken from a queue and not given back ([`TakenMessages`]), and keeps no other pointer.

#![allow(unsafe_code)]

use std::{
    collections::{HashMap, VecDeque},
    ffi::{CStr, CString, c_char, c_void},
    ptr::{self, NonNull},
    slice,
    sync::Arc,
    time::Duration,
};

use rdkafka::{
    bindings as c,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::RDKafkaErrorCode,
    message::{BorrowedMessage, Header as NativeHeader, OwnedHeaders},
    topic_partition_list::TopicPartitionList,
    types::RDKafkaRespErr,
};

use crate::record::Headers;

/// A message, for as long as it is borrowed from whoever holds it.
#[derive(Clone, Copy)]
pub(super) struct Message<'a>(&'a c::rd_kafka_message_t);

impl<'a> From<&'a BorrowedMessage<'_>> for Message<'a> {
    fn from(message: &'a BorrowedMessage<'_>) -> Self {
        // SAFETY: rdkafka's message holds a valid pointer, and lives at least as long as the borrow.
        Self(unsafe { &*message.ptr() })
    }
}

impl<'a> Message<'a> {
    pub(super) fn offset(self) -> i64 {
        self.0.offset
    }

    pub(super) fn key(self) -> Option<&'a [u8]> {
        // SAFETY: a message's key has `key_len` bytes, and lives as long as the message.
        unsafe { bytes(self.0.key, self.0.key_len) }
    }

    pub(super) fn value(self) -> Option<&'a [u8]> {
        // SAFETY: a message's value has `len` bytes, and lives as long as the message.
        unsafe { bytes(self.0.payload, self.0.len) }
    }

    /// Milliseconds since the Unix epoch, where the log knows them.
    pub(super) fn timestamp_ms(self) -> Option<i64> {
        let mut kind = c::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive; the place is ours to be written to.
        let timestamp_ms = unsafe { c::rd_kafka_message_timestamp(self.0, &mut kind) };
        (kind != c::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE && timestamp_ms != -1)
            .then_some(timestamp_ms)
    }

    /// Set where this is no record but the news that the partition cannot be read.
    pub(super) fn error(self) -> Option<RDKafkaErrorCode> {
        (self.0.err != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| self.0.err.into())
    }

    /// What an error says in words: its message holds them where a record holds its value.
    pub(super) fn error_text(self) -> String {
        String::from_utf8_lossy(self.value().unwrap_or_default()).into_owned()
    }

    /// Calls `take` with the name and the value of each header, in order.
    pub(super) fn for_each_header(self, mut take: impl FnMut(&[u8], Option<&[u8]>)) {
        let mut headers = ptr::null_mut();
        // SAFETY: the message is alive while it is borrowed; the headers stay the message's.
        let found = unsafe { c::rd_kafka_message_headers(self.0, &mut headers) };
        if found != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return;
        }
        for index in 0.. {
            let (mut name, mut value, mut size) = (ptr::null::<c_char>(), ptr::null::<c_void>(), 0_usize);
            // SAFETY: `headers` came from the message above; the three places are ours to be written to.
            let found = unsafe { c::rd_kafka_header_get_all(headers, index, &mut name, &mut value, &mut size) };
            if found != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                return;
            }
            // SAFETY: librdkafka ends each name with a zero, and keeps it as long as the message.
            let name = unsafe { CStr::from_ptr(name) }.to_bytes();
            // SAFETY: a header's value has `size` bytes, and lives as long as the message.
            take(name, unsafe { bytes(value, size) });
        }
    }
}

/// `size` bytes at `start`; nothing where that is null.
///
/// # Safety
/// What is not null must be valid for `size` bytes during `'a`.
unsafe fn bytes<'a>(start: *const c_void, size: usize) -> Option<&'a [u8]> {
    // SAFETY: the caller's promise.
    (!start.is_null()).then(|| unsafe { slice::from_raw_parts(start.cast::<u8>(), size) })
}

/// Messages that were taken from a partition's queue, in order, and are given back to the client one by one.
pub(super) struct TakenMessages<C: ConsumerContext + 'static> {
    messages: VecDeque<NonNull<c::rd_kafka_message_t>>,
    /// Room for the next ones to be written to; kept for its memory.
    room: Vec<*mut c::rd_kafka_message_t>,
    /// Messages must not outlive their client.
    consumer: Arc<BaseConsumer<C>>,
    topic: CString,
    partition: i32,
}

// SAFETY: librdkafka binds no message to a thread, and the pointers are nobody else's.
unsafe impl<C: ConsumerContext + 'static> Send for TakenMessages<C> {}

impl<C: ConsumerContext + 'static> TakenMessages<C> {
    /// None yet. Nothing when the topic's name is none.
    pub(super) fn new(consumer: Arc<BaseConsumer<C>>, topic: &str, partition: i32) -> Option<Self> {
        let topic = CString::new(topic).ok()?;
        Some(Self { messages: VecDeque::new(), room: Vec::new(), consumer, topic, partition })
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Takes what the partition's queue holds now, until there are `count`. The queue must have been split off.
    pub(super) fn take_until(&mut self, count: usize) {
        let wanted = count.saturating_sub(self.messages.len());
        if wanted == 0 {
            return;
        }
        self.room.resize(wanted, ptr::null_mut());
        // SAFETY: the client lives as long as `consumer`; the queue is a counted reference that is given back below; the room
        // has `wanted` places. What is written there is ours until we give it back.
        let taken = unsafe {
            let queue = c::rd_kafka_queue_get_partition(
                self.consumer.client().native_ptr(),
                self.topic.as_ptr(),
                self.partition,
            );
            if queue.is_null() {
                return;
            }
            let taken = c::rd_kafka_consume_batch_queue(queue, 0, self.room.as_mut_ptr(), wanted);
            c::rd_kafka_queue_destroy(queue);
            taken
        };
        // Below 0 where the client is gone: then nothing was written.
        let taken = usize::try_from(taken).unwrap_or(0);
        self.messages.extend(self.room.drain(..).take(taken).filter_map(NonNull::new));
    }

    /// The messages, first to last.
    pub(super) fn iter(&self) -> impl Iterator<Item = Message<'_>> + Clone {
        // SAFETY: each is alive until it is given back, for which these would have to be dropped.
        self.messages.iter().map(|message| Message(unsafe { message.as_ref() }))
    }

    /// Gives the first `count` back.
    pub(super) fn give_back(&mut self, count: usize) {
        for message in self.messages.drain(..count) {
            // SAFETY: it came from the client, which is alive, and is given back this once.
            unsafe { c::rd_kafka_message_destroy(message.as_ptr()) };
        }
    }
}

impl<C: ConsumerContext + 'static> Drop for TakenMessages<C> {
    fn drop(&mut self) {
        self.give_back(self.messages.len());
    }
}

/// The headers in the client's own form. A name ends at its first zero byte: that is how librdkafka reads it back.
pub(super) fn to_native(headers: &Headers) -> Option<OwnedHeaders> {
    let headers = headers.as_slice();
    if headers.is_empty() {
        return None;
    }
    let mut native = OwnedHeaders::new_with_capacity(headers.len());
    for header in headers {
        match std::str::from_utf8(&header.name) {
            Ok(key) => native = native.insert(NativeHeader { key, value: header.value.as_deref() }),
            Err(_) => add_raw(&native, &header.name, header.value.as_deref()),
        }
    }
    Some(native)
}

fn add_raw(native: &OwnedHeaders, name: &[u8], value: Option<&[u8]>) {
    // A reference to borrowed headers *is* librdkafka's pointer: rdkafka makes it by this very cast, the other way round.
    let headers = ptr::from_ref(native.as_borrowed()).cast::<c::rd_kafka_headers_t>().cast_mut();
    let (value, value_len) = value.map_or((ptr::null(), 0), |value| (value.as_ptr(), value.len()));
    // SAFETY: `headers` is alive and nobody else's; name and value are copied by the call. Lengths of real slices fit `isize`.
    unsafe {
        c::rd_kafka_header_add(headers, name.as_ptr().cast(), name.len() as isize, value.cast(), value_len as isize);
    }
}

/// Sends a commit and returns at once; its result reaches [`ConsumerContext::commit_callback`] in a later poll of the main
/// queue, with an error for each partition.
pub(super) fn commit_with_result<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    offsets: &TopicPartitionList,
) -> Result<(), RDKafkaErrorCode> {
    let client = consumer.client().native_ptr();
    // SAFETY: the client lives as long as `consumer`; the queue is a counted reference that is given back below; the list is
    // copied by the call; without a callback the opaque pointer is never used.
    let result = unsafe {
        let queue = c::rd_kafka_queue_get_consumer(client);
        if queue.is_null() {
            return Err(RDKafkaErrorCode::UnknownGroup);
        }
        let result = c::rd_kafka_commit_queue(client, offsets.ptr(), queue, None, ptr::null_mut());
        c::rd_kafka_queue_destroy(queue);
        result
    };
    match result {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        code => Err(code.into()),
    }
}

/// The first offset and the end of a partition's log, as the newest answer to a fetch said; nothing before the first.
pub(super) fn cached_watermarks<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partition: i32,
) -> Option<(i64, i64)> {
    let topic = CString::new(topic).ok()?;
    let (mut low, mut high) = (-1, -1);
    // SAFETY: the client lives as long as `consumer`; the name ends with a zero; both places are ours to be written to.
    let result = unsafe {
        let client = consumer.client().native_ptr();
        c::rd_kafka_get_watermark_offsets(client, topic.as_ptr(), partition, &mut low, &mut high)
    };
    (result == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && low >= 0 && high >= 0).then_some((low, high))
}

/// The identities of topics, each made with its topic: nothing for one that is not there, or on brokers that know of none. It waits for
/// the answer, `wait` at most.
pub(super) fn topic_ids<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topics: &[Arc<str>],
    wait: Duration,
) -> Result<HashMap<String, Arc<str>>, RDKafkaErrorCode> {
    let names: Vec<CString> = topics.iter().filter_map(|topic| CString::new(&**topic).ok()).collect();
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
    let client = consumer.client().native_ptr();
    // SAFETY: the client lives as long as `consumer`; the names are copied by the first call and alive until it returns. What is made
    // here is destroyed here, each once; the answer's parts are read while the event that holds them is alive.
    unsafe {
        let collection = c::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        let options = c::rd_kafka_AdminOptions_new(client, c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
        let queue = c::rd_kafka_queue_new(client);
        let mut words: [c_char; 256] = [0; 256];
        c::rd_kafka_AdminOptions_set_request_timeout(options, wait_ms, words.as_mut_ptr(), words.len());
        c::rd_kafka_DescribeTopics(client, collection, options, queue);
        c::rd_kafka_TopicCollection_destroy(collection);
        c::rd_kafka_AdminOptions_destroy(options);
        let event = c::rd_kafka_queue_poll(queue, wait_ms);
        let ids = if event.is_null() { Err(RDKafkaErrorCode::OperationTimedOut) } else { described_ids(event) };
        if !event.is_null() {
            c::rd_kafka_event_destroy(event);
        }
        c::rd_kafka_queue_destroy(queue);
        ids
    }
}

/// # Safety
/// The event must be alive, and an answer to a question about topics.
unsafe fn described_ids(event: *mut c::rd_kafka_event_t) -> Result<HashMap<String, Arc<str>>, RDKafkaErrorCode> {
    // SAFETY: the caller's promise; what is read of the event lives as long as it.
    unsafe {
        let code = c::rd_kafka_event_error(event);
        if code != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(code.into());
        }
        let result = c::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return Err(RDKafkaErrorCode::Fail);
        }
        let mut count = 0;
        let topics = c::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        if topics.is_null() || count == 0 {
            return Ok(HashMap::new());
        }
        let mut ids = HashMap::with_capacity(count);
        for topic in slice::from_raw_parts(topics, count) {
            let id = c::rd_kafka_TopicDescription_topic_id(*topic);
            let error = c::rd_kafka_TopicDescription_error(*topic);
            if !error.is_null() && c::rd_kafka_error_code(error) != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
                || id.is_null()
                || (c::rd_kafka_Uuid_most_significant_bits(id), c::rd_kafka_Uuid_least_significant_bits(id)) == (0, 0)
            {
                continue;
            }
            let name = CStr::from_ptr(c::rd_kafka_TopicDescription_name(*topic)).to_string_lossy().into_owned();
            let id = c::rd_kafka_Uuid_base64str(id);
            if !id.is_null() {
                ids.insert(name, CStr::from_ptr(id).to_string_lossy().into());
            }
        }
        Ok(ids)
    }
}

/// What a list says about one partition.
pub(super) struct Listed {
    pub(super) topic: String,
    pub(super) partition: i32,
    /// Below 0 for places that are not offsets, such as "nothing is committed".
    pub(super) offset: i64,
    /// Empty also where it is no UTF-8: then another program wrote it, and it means nothing to us.
    pub(super) metadata: String,
    pub(super) error: Option<RDKafkaErrorCode>,
}

/// All that a list holds.
pub(super) fn listed(list: &TopicPartitionList) -> Vec<Listed> {
    let native = list.ptr();
    let count = list.count();
    if count == 0 {
        return Vec::new();
    }
    // SAFETY: the list is alive while it is borrowed, and has `count` elements.
    let elements = unsafe { slice::from_raw_parts((*native).elems, count) };
    elements
        .iter()
        .map(|element| {
            // SAFETY: each element's topic is a string that ends with a zero, alive as long as the list.
            let topic = unsafe { CStr::from_ptr(element.topic) }.to_string_lossy().into_owned();
            let metadata = if element.metadata.is_null() {
                &[]
            } else {
                // SAFETY: metadata that is not null has `metadata_size` bytes, alive as long as the list.
                unsafe { slice::from_raw_parts(element.metadata.cast::<u8>(), element.metadata_size) }
            };
            Listed {
                topic,
                partition: element.partition,
                offset: element.offset,
                metadata: std::str::from_utf8(metadata).unwrap_or_default().to_owned(),
                error: (element.err != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| element.err.into()),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use rdkafka::{message::Headers as _, topic_partition_list::Offset};

    use super::*;

    #[test]
    fn headers_of_any_bytes_become_the_clients_own() {
        let headers = Headers::default().with("utf-8", "value").with(&b"\xff\xfe"[..], &b"\x00\x01"[..]);
        let native = to_native(&headers).unwrap();
        assert_eq!(native.count(), 2);
        assert_eq!(native.get(0).key, "utf-8");
        assert!(to_native(&Headers::default()).is_none());
    }

    #[test]
    fn a_list_gives_back_what_was_put_in() {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("a", 3, Offset::Offset(42)).unwrap();
        list.add_partition("b", 0).set_metadata("gaps");
        let elements = listed(&list);
        assert_eq!((elements[0].topic.as_str(), elements[0].partition, elements[0].offset), ("a", 3, 42));
        assert_eq!((elements[1].metadata.as_str(), elements[1].error), ("gaps", None));
        assert!(elements[1].offset < 0 && elements[0].metadata.is_empty());
        assert!(listed(&TopicPartitionList::new()).is_empty());
    }
}
