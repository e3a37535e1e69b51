//! The numbers of messages whose events were written before their entities counted.
//!
//! An event says how many numbered messages its entity had published before it ([`Recorded::published_before`]). Builds before
//! that wrote none, and their journals may have to be told on, whole where a shop gets a broker later in its life. What is missing is
//! counted from the stream itself. It owns the last counts of the streams that it met; lost, they are counted again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use contracts::{Envelope, Service, messages::count_numbered};
use futures::future::BoxFuture;
use runtime::{JournalError, Recorded};

use super::messages_of;

/// The most streams whose counts are kept, at some 60 bytes each.
const STREAMS_KEPT_MAX: usize = 65_536;

/// Reads all events of a stream.
pub type ReadStream = Box<dyn Fn(Arc<str>) -> BoxFuture<'static, Result<Vec<Recorded>, JournalError>> + Send + Sync>;

/// Numbers the messages of one service's old events.
pub struct Numbering {
    service: Service,
    stream: ReadStream,
    /// By stream: the last version that was counted, and what had been published with it.
    counted: Mutex<HashMap<Arc<str>, (u64, u64)>>,
}

impl Numbering {
    pub fn new(service: Service, stream: ReadStream) -> Self {
        Self { service, stream, counted: Mutex::default() }
    }

    /// The same events, each with its count where its entity has one. Events of this build are not touched.
    ///
    /// # Errors
    /// [`JournalError`] when a stream cannot be read.
    pub async fn fill(&self, mut events: Vec<Recorded>) -> Result<Vec<Recorded>, JournalError> {
        for event in &mut events {
            if event.published_before.is_none() && is_numbered(self.service, event.kind_and_id().0) {
                let before = self.published_before(event).await?;
                self.remember(event, before + said_by(self.service, event));
                event.published_before = Some(before);
            }
        }
        Ok(events)
    }

    async fn published_before(&self, event: &Recorded) -> Result<u64, JournalError> {
        let known = self.lock().get(&event.stream).copied().unwrap_or_default();
        if known.0 + 1 == event.version {
            return Ok(known.1);
        }
        let stream = (self.stream)(event.stream.clone()).await?;
        let earlier = stream.iter().take_while(|earlier| earlier.version < event.version);
        Ok(earlier.map(|earlier| said_by(self.service, earlier)).sum())
    }

    fn remember(&self, event: &Recorded, published: u64) {
        let mut counted = self.lock();
        if counted.len() >= STREAMS_KEPT_MAX {
            counted.clear();
        }
        counted.insert(event.stream.clone(), (event.version, published));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, (u64, u64)>> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the entities of a kind count what they publish. (Sessions of older builds spoke, and nobody counted.)
fn is_numbered(service: Service, kind: &str) -> bool {
    match service {
        Service::User => kind == "user",
        Service::Product => matches!(kind, "product" | "stock"),
        Service::Order => kind == "order",
        Service::Payment => kind == "payment",
    }
}

/// How many numbered messages an event gives rise to. One that cannot be read says nothing: it is a dead letter.
fn said_by(service: Service, event: &Recorded) -> u64 {
    let told = messages_of(service, event).unwrap_or_default();
    count_numbered(&told.into_iter().map(|Envelope { message, .. }| message).collect::<Vec<_>>())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt;

    use super::*;

    /// A SKU's stream as a build before the counts wrote it: a claim says nothing, everything else one thing.
    fn old_stream(sku: &str) -> Vec<Recorded> {
        let payloads = [
            ("stock.received", r#"{"Received":{"product_id":"prod_1","quantity":9,"reason":"r","on_hand_after":9}}"#),
            ("stock.claimed", r#"{"Claimed":{"product_id":"prod_1"}}"#),
            ("stock.adjusted", r#"{"Adjusted":{"delta":-1,"reason":"r","reference":null,"on_hand_after":8}}"#),
            ("stock.adjusted", "not JSON"),
            ("stock.adjusted", r#"{"Adjusted":{"delta":-1,"reason":"r","reference":null,"on_hand_after":7}}"#),
        ];
        let recorded = |(version, (event_type, payload)): (u64, (&str, &str))| Recorded {
            position: version,
            stream: format!("stock/{sku}").into(),
            version,
            event_type: event_type.to_owned(),
            schema: 1,
            payload: payload.to_owned(),
            at_ms: 1,
            correlation_id: None,
            causation_id: None,
            actor: None,
            traceparent: None,
            published_before: None,
        };
        (1..).zip(payloads).map(recorded).collect()
    }

    fn numbering() -> (Numbering, Arc<AtomicUsize>) {
        let reads = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&reads);
        let stream = move |stream: Arc<str>| {
            counter.fetch_add(1, Ordering::Relaxed);
            let sku = stream.trim_start_matches("stock/").to_owned();
            async move { Ok(old_stream(&sku)) }.boxed()
        };
        (Numbering::new(Service::Product, Box::new(stream)), reads)
    }

    fn counts(events: &[Recorded]) -> Vec<Option<u64>> {
        events.iter().map(|event| event.published_before).collect()
    }

    #[tokio::test]
    async fn an_old_stream_is_counted_from_its_start_and_from_its_middle() {
        let expected = [0, 1, 1, 2, 2].map(Some);
        let (from_start, reads) = numbering();
        assert_eq!(counts(&from_start.fill(old_stream("sku_1")).await.unwrap()), expected);
        assert_eq!(reads.load(Ordering::Relaxed), 0, "what was met from its first event on needs no reading");

        let (from_middle, reads) = numbering();
        let tail = old_stream("sku_1").split_off(2);
        assert_eq!(counts(&from_middle.fill(tail).await.unwrap()), expected[2..]);
        assert_eq!(reads.load(Ordering::Relaxed), 1, "once, then it is known");
    }

    #[tokio::test]
    async fn what_has_its_count_keeps_it_and_what_nobody_counts_has_none() {
        let (numbering, _) = numbering();
        let mut events = old_stream("sku_1");
        events[0].published_before = Some(7);
        events[1].stream = "operation/x".into();
        let filled = numbering.fill(events).await.unwrap();
        assert_eq!(counts(&filled)[..2], [Some(7), None]);
    }
}
