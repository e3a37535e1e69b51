//! What is said of an event, as a record's headers: for those who route or dedupe without reading the body.
//!
//! They are those of CloudEvents 1.0 in Kafka's binary mode (`ce_…`), with `content-type`, and `traceparent` as W3C Trace
//! Context writes it. The body is the caller's JSON, untouched; put the same fields into it, and a plain consumer such as
//! `kcat` shows everything:
//!
//! ```json
//! {"id":"evt_1","type":"order.created","source":"order-service","subject":"ord_1","time":"2026-11-22T11:00:00Z",
//!  "seq":3,"schema":1,"correlation_id":"req_1","data":{"order_id":"ord_1"}}
//! ```

use std::sync::Arc;

use bytes::Bytes;

use crate::record::{Header, Headers, OutgoingRecord};

/// The version of CloudEvents that the headers follow.
const SPEC_VERSION: &str = "1.0";
const CONTENT_TYPE: &str = "application/json";

/// What is said of every event, around its data.
#[derive(Clone, Copy, Debug)]
pub struct CloudEvent<'a> {
    /// Unique, and the same each time the event is sent: readers recognise repetitions by it.
    pub id: &'a str,
    /// What happened, such as `order.created`.
    pub event_type: &'a str,
    /// Who says so.
    pub source: &'a str,
    /// Whom it is about; the record's key.
    pub subject: &'a str,
    /// When, in RFC 3339.
    pub time: &'a str,
    /// The trace that it belongs to.
    pub traceparent: Option<&'a str>,
}

impl CloudEvent<'_> {
    /// The headers alone.
    #[must_use]
    pub fn headers(&self) -> Headers {
        let named = [
            ("ce_id", self.id),
            ("ce_type", self.event_type),
            ("ce_source", self.source),
            ("ce_subject", self.subject),
            ("ce_time", self.time),
        ];
        // One allocation for all of their values.
        let buffer = Bytes::from(named.map(|(_, text)| text).concat());
        let mut headers = Vec::with_capacity(named.len() + 3);
        headers.push(header("ce_specversion", Bytes::from_static(SPEC_VERSION.as_bytes())));
        let mut start = 0;
        for (name, text) in named {
            headers.push(header(name, buffer.slice(start..start + text.len())));
            start += text.len();
        }
        headers.push(header("content-type", Bytes::from_static(CONTENT_TYPE.as_bytes())));
        if let Some(traceparent) = self.traceparent {
            headers.push(header("traceparent", Bytes::copy_from_slice(traceparent.as_bytes())));
        }
        Headers::new(headers)
    }

    /// The record of this event for `topic`: the subject is its key, `body` its JSON.
    #[must_use]
    pub fn to_record(&self, topic: Arc<str>, body: impl Into<Bytes>) -> OutgoingRecord {
        OutgoingRecord {
            topic,
            partition: None,
            key: Some(Bytes::copy_from_slice(self.subject.as_bytes())),
            value: Some(body.into()),
            timestamp_ms: None,
            headers: self.headers(),
        }
    }
}

fn header(name: &'static str, value: Bytes) -> Header {
    Header { name: Bytes::from_static(name.as_bytes()), value: Some(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_finds_every_field_in_the_headers_and_the_body_as_it_was() {
        let event = CloudEvent {
            id: "evt_1",
            event_type: "order.created",
            source: "order-service",
            subject: "ord_1",
            time: "2026-11-22T11:00:00Z",
            traceparent: Some("00-aa-bb-01"),
        };
        let record = event.to_record("order-events".into(), r#"{"id":"evt_1","data":{"total":99.90}}"#);
        let text = |name: &str| record.headers.text(name).unwrap().unwrap();
        assert_eq!([text("ce_specversion"), text("ce_id"), text("ce_type")], ["1.0", "evt_1", "order.created"]);
        assert_eq!([text("ce_source"), text("ce_subject")], ["order-service", "ord_1"]);
        assert_eq!([text("ce_time"), text("content-type")], ["2026-11-22T11:00:00Z", "application/json"]);
        assert_eq!((text("traceparent"), record.key.as_deref()), ("00-aa-bb-01", Some(&b"ord_1"[..])));
        assert_eq!(record.value.as_deref(), Some(&br#"{"id":"evt_1","data":{"total":99.90}}"#[..]));
    }
}
