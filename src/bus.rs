//! Which service hears which, over which bus.
//!
//! | subscriber | hears | of |
//! |---|---|---|
//! | product | `inventory-commands` | order, product |
//! | order | `inventory-events`, `payment-events` | product, payment |
//! | payment | `payment-commands` | order, payment |
//!
//! One engine gives messages to the services, in order per key, whichever bus brings them. [`embedded`]: the services read
//! each other's journals. [`kafka`]: each service's relay writes what its journal says to the topics, and each service
//! reads its topics as a consumer group. What can never be taken in goes to the dead letters of its topic.
//!
//! # Layout
//!
//! - [`embedded`], [`kafka`]: the two buses; [`watch`]: how they are, for operators
//! - [`compared_outbox`]: what keeps a relay from writing another history to its topics
//! - [`numbering`]: the numbers of messages in journals of older builds

pub mod compared_outbox;
pub mod embedded;
pub mod kafka;
mod numbering;
pub mod watch;

use std::{
    fs,
    io::{self, Write},
    path::Path,
    sync::Arc,
    time::Duration,
};

use bridge::{
    engine::{
        CodecError, ExponentialBackoff, Json, Outcome, RetryPolicy, Subscription,
        codec::Codec,
        handler::{self, Concurrent},
    },
    record::{Headers, OutgoingRecord},
    relay::CloudEvent,
};
use bytes::Bytes;
use contracts::{Envelope, InboxError, Message, Service, Topic};
use futures::future::BoxFuture;
use runtime::{
    Journal, JournalError, Recorded, private_files,
    supervision::{ChildSpec, StartError},
};
use serde::Deserialize;

use crate::{house::House, log_watch};

/// Messages of one service that are taken in at once; each is a command and waits for its commit.
const TAKEN_IN_AT_ONCE: usize = 512;
/// What a service cannot do now is given again soon: somebody waits for the answer.
const RETRY: RetryPolicy = RetryPolicy {
    attempts_max: 10,
    backoff: ExponentialBackoff { first: Duration::from_millis(20), max: Duration::from_secs(2) },
    jitter: 0.5,
    exhausted: bridge::engine::Exhausted::DeadLetter,
};
/// A record at the frontier for longer is worth an operator's look.
const STALL_AFTER: Duration = Duration::from_secs(15);

/// Takes a message into a service.
pub type Inbox = Arc<dyn Fn(Arc<Envelope>) -> BoxFuture<'static, Result<(), InboxError>> + Send + Sync>;

/// Whose journals a service reads, and which topics it takes.
pub fn heard_by(subscriber: Service) -> (&'static [Service], &'static [Topic]) {
    match subscriber {
        Service::Product => (&[Service::Order, Service::Product], &[Topic::InventoryCommands]),
        Service::Order => (&[Service::Product, Service::Payment], &[Topic::InventoryEvents, Topic::PaymentEvents]),
        Service::Payment => (&[Service::Order, Service::Payment], &[Topic::PaymentCommands]),
        Service::User => (&[], &[]),
    }
}

/// The topics that a service writes to.
pub fn written_by(service: Service) -> &'static [Topic] {
    match service {
        Service::Product => &[Topic::ProductEvents, Topic::InventoryEvents, Topic::InventoryCommands],
        Service::Order => &[Topic::OrderEvents, Topic::InventoryCommands, Topic::PaymentCommands],
        Service::Payment => &[Topic::PaymentEvents, Topic::PaymentCommands],
        Service::User => &[Topic::UserEvents],
    }
}

/// The children of a service's tree that carry its messages.
///
/// # Errors
/// When the bridge cannot be built, which its settings here do not allow for.
pub fn children(
    house: &Arc<House>,
    service: Service,
    home: &Arc<dyn Journal>,
    inbox: Inbox,
) -> Result<Vec<ChildSpec>, StartError> {
    let (bridge, mut children) = match &house.kafka {
        None => (embedded::bridge(house, service, home, &inbox)?, Vec::new()),
        Some(bus) => {
            let member = member_of(&house.settings.data_dir.join(service.name())).map_err(StartError::new)?;
            (bus.bridge(service, &member, &inbox)?, bus.children(service, home))
        }
    };
    children.extend(bridge.children());
    house.bridge(service).set(bridge);
    Ok(children)
}

/// Compares the positions in a service's log, and the service's own in other logs, with what the logs are now. Until that is done
/// the log must take no appends.
///
/// # Errors
/// When a log cannot be read.
pub async fn compare(house: &House, service: Service, home: &Arc<dyn Journal>) -> Result<(), StartError> {
    let all = async {
        log_watch::compare_noted(house, service.name(), home).await?;
        log_watch::compare_notes(house, service, home).await?;
        // On Kafka each relay compares with its topics, and the engine reads from those.
        if house.kafka.is_none() { embedded::compare_all(house, service, home).await } else { Ok(()) }
    };
    all.await.map_err(StartError::new)
}

/// The name of a service's member of its consumer group: kept in its directory, which no other process has at a time.
fn member_of(directory: &Path) -> io::Result<String> {
    let file = directory.join("member-id");
    private_files::close_to_others(&file);
    match fs::read_to_string(&file) {
        Ok(member) if !member.trim().is_empty() => Ok(member.trim().to_owned()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        // Lost with a power cut, it is another one: the group then waits for the former session, that is all.
        _ => {
            let member = contracts::RequestId::generate().as_str().trim_start_matches("req_").to_owned();
            private_files::options()
                .write(true)
                .create(true)
                .truncate(true)
                .open(&file)?
                .write_all(member.as_bytes())?;
            Ok(member)
        }
    }
}

/// The messages of an event in the journal of `source`.
fn messages_of(source: Service, recorded: &Recorded) -> Result<Vec<Envelope>, JournalError> {
    match source {
        Service::Product => product_service::ProductService::outbox(recorded),
        Service::Order => order_service::outbox::outbox(recorded),
        Service::Payment => payment_service::outbox::outbox(recorded),
        Service::User => user_service::UserService::outbox(recorded),
    }
}

/// A message as a record: keyed by what it is about, the whole of it as JSON.
fn record_of(envelope: &Envelope, topic: Arc<str>) -> Result<OutgoingRecord, JournalError> {
    let body = Json.encode(envelope);
    Ok(OutgoingRecord {
        topic,
        partition: None,
        key: Some(envelope.subject.clone().into()),
        value: Some(body.map_err(|error| JournalError::Corrupt(format!("{}: {error}", envelope.id)))?),
        timestamp_ms: Some(envelope.time.as_millis()),
        headers: Headers::default(),
    })
}

/// The same with the envelope's fields as CloudEvents headers, for programs that are not ours.
fn cloud_event_of(envelope: &Envelope, topic: Arc<str>) -> Result<OutgoingRecord, JournalError> {
    #[derive(Deserialize)]
    struct Typed<'a> {
        #[serde(rename = "type")]
        name: &'a str,
        time: &'a str,
    }
    let record = record_of(envelope, topic)?;
    // What the JSON says is what the headers say.
    let typed = serde_json::from_slice(record.value.as_deref().unwrap_or_default());
    let Typed { name, time } = typed.map_err(|error| JournalError::Corrupt(format!("{}: {error}", envelope.id)))?;
    let event = CloudEvent {
        id: envelope.id.as_str(),
        event_type: name,
        source: envelope.source.name(),
        subject: &envelope.subject,
        time,
        traceparent: envelope.traceparent.as_deref(),
    };
    Ok(OutgoingRecord { headers: event.headers(), ..record })
}

fn subscription(
    name: impl Into<Arc<str>>,
    group: impl Into<Arc<str>>,
    topics: bridge::engine::Topics,
    open: bridge::engine::OpenSource,
    inbox: &Inbox,
) -> Subscription {
    Subscription::new(name, group, topics, open, handler_of(Arc::clone(inbox))).retry(RETRY).stall_after(STALL_AFTER)
}

fn handler_of(inbox: Inbox) -> Concurrent {
    handler::each(TAKEN_IN_AT_ONCE, move |record| {
        let inbox = Arc::clone(&inbox);
        async move {
            let envelope = match read(record.value.as_ref()) {
                Ok(Some(envelope)) => traced(envelope, &record.headers),
                Ok(None) => return Outcome::Skip,
                Err(error) => return Outcome::undecodable(error.to_string()),
            };
            match inbox(Arc::new(envelope)).await {
                Ok(()) => Outcome::Done,
                Err(InboxError::NotNow(reason)) => Outcome::not_now(reason),
                Err(InboxError::Poison(reason)) => Outcome::dead_letter(reason),
            }
        }
    })
}

/// A message of a program that says only in the header of which trace it is.
fn traced(envelope: Envelope, headers: &Headers) -> Envelope {
    let from_header = || headers.text("traceparent").ok().flatten().map(str::to_owned);
    Envelope { traceparent: envelope.traceparent.or_else(from_header), ..envelope }
}

/// Takes in what was set aside.
async fn take_in_again(inbox: &Inbox, value: Option<Bytes>) -> Result<(), String> {
    match read(value.as_ref()) {
        Ok(Some(envelope)) => inbox(Arc::new(envelope)).await.map_err(|error| error.to_string()),
        Ok(None) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// The envelope of a record; nothing where its type is not of this build.
fn read(value: Option<&Bytes>) -> Result<Option<Envelope>, CodecError> {
    #[derive(Deserialize)]
    struct Typed {
        #[serde(rename = "type")]
        name: String,
    }
    let envelope: Result<Envelope, CodecError> = Json.decode(value);
    envelope.map(Some).or_else(|error| {
        let typed: Result<Typed, _> = serde_json::from_slice(value.map(AsRef::as_ref).unwrap_or_default());
        if typed.is_ok_and(|typed| !Message::TYPES.contains(&typed.name.as_str())) { Ok(None) } else { Err(error) }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    /// A stream of every kind that speaks, in the journal of its service.
    pub const DAMAGED: [(Service, &str); 6] = [
        (Service::Order, "order/ord_1"),
        (Service::Payment, "payment/ord_1"),
        (Service::Product, "product/prod_1"),
        (Service::Product, "stock/sku_1"),
        (Service::User, "user/usr_1"),
        (Service::User, "session/ses_1"),
    ];

    /// An event whose payload is none.
    pub fn damaged(stream: &str) -> Recorded {
        Recorded {
            position: 7,
            stream: stream.into(),
            version: 3,
            event_type: "something.happened".to_owned(),
            schema: 1,
            payload: r#"{"Unheard":{"of":1}}"#.to_owned(),
            at_ms: 1,
            correlation_id: None,
            causation_id: None,
            actor: None,
            traceparent: None,
            published_before: Some(2),
        }
    }

    #[test]
    fn no_service_is_silent_about_an_event_that_it_cannot_read() {
        for (service, stream) in DAMAGED {
            let said = messages_of(service, &damaged(stream));
            assert!(matches!(&said, Err(JournalError::Corrupt(reason)) if reason.contains(stream)), "{said:?}");
            // Nobody's stream is nobody's business.
            let foreign = messages_of(service, &damaged("operation/x"));
            assert_eq!(foreign.unwrap(), []);
        }
    }
}
