//! The bus over Kafka: topics, one producer for the process, and for each service a relay and a consumer group.
//!
//! **Owns** the producer, and the knowledge whether the topics are there. A [`TopicKeeper`] in the process's tree sees to
//! them as long as the process runs; subscriptions wait for it, since a consumer that begins before its topic exists finds it late. When the broker is
//! away everything here goes on trying; what is written meanwhile stays in the journals.

use std::{sync::Arc, time::Duration};

use bridge::{
    engine::{
        Bridge, OpenSource, Subscription, Topics,
        dead_letter::{ERROR, ERROR_KIND, ErrorKind, GROUP},
        dead_letter_topic,
    },
    kafka::{
        Compression, KafkaClientSettings, KafkaSink, KafkaSinkConfig, KafkaSourceConfig, KafkaTopics, TopicSpec,
        dead_letters::DeadLetterError, tail::last_records, topics::TopicError,
    },
    ports::LogSource,
    record::{Headers, OutgoingRecord},
    relay::{
        JournalOutbox, RelayArguments, RelayBoard, RelayLimits,
        provenance::{self, Provenance},
        start_relay,
    },
};
use contracts::{Envelope, Service, Topic};
use futures::FutureExt;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use runtime::{
    Journal, JournalError, LogMark, Recorded,
    journal::identity::LogIdentity,
    supervision::{ChildSpec, Restart, StartError},
};
use tokio::{runtime::Handle, sync::watch, time::timeout};

use super::{
    Inbox, cloud_event_of, compared_outbox::ComparedOutbox, heard_by, messages_of, numbering::Numbering, subscription,
    written_by,
};
use crate::ending::Ending;

/// Partitions of a topic: the most processes of one service that could read it side by side. Within a process the keys, not
/// the partitions, are what is worked on side by side.
const PARTITIONS: i32 = 8;
/// Dead letters are few.
const DEAD_LETTER_PARTITIONS: i32 = 1;
/// How long a record waits for others: a buyer waits for it too.
const LINGER: Duration = Duration::from_millis(1);
/// The pause between two attempts to make the topics.
const TOPICS_AGAIN: Duration = Duration::from_millis(500);
/// How often the topics are looked after once they are there: somebody may delete them, and an empty broker take the place of one that was
/// lost. A question to a broker that costs it little; until it is answered records wait in the journals.
const TOPICS_LOOKED_AFTER: Duration = Duration::from_secs(3);
/// How long a subscription waits for the topics before it is opened anew.
const TOPICS_PATIENCE: Duration = Duration::from_secs(2);
/// Records of a partition that are looked at to learn what the relay has written last. Others write to some topics too.
const COMPARED_RECORDS: usize = 64;
/// A consumer of this process that has died is given up after this long.
const SESSION: Duration = Duration::from_secs(6);

/// The bus; see the module's text.
pub struct KafkaBus {
    settings: KafkaClientSettings,
    prefix: String,
    sink: KafkaSink,
    topics_are_there: watch::Sender<bool>,
    relays: [RelayBoard; 4],
    /// Whoever waits for a broker stops waiting when the process is told to end.
    ending: Ending,
}

impl KafkaBus {
    /// The bus of this process. It begins to connect, and needs no broker to be there.
    ///
    /// # Errors
    /// When the settings make no sense to the client.
    pub fn new(
        settings: KafkaClientSettings,
        prefix: &str,
        compression: Compression,
        ending: Ending,
    ) -> anyhow::Result<Arc<Self>> {
        let config = KafkaSinkConfig { linger: LINGER, compression, ..KafkaSinkConfig::new(settings.clone()) };
        let sink = KafkaSink::start(config)?;
        Ok(Arc::new(Self {
            settings,
            prefix: prefix.to_owned(),
            sink,
            topics_are_there: watch::Sender::new(false),
            relays: Default::default(),
            ending,
        }))
    }

    /// The last records of every topic that `service` writes to, as Kafka has them.
    ///
    /// # Errors
    /// In a sentence, when Kafka does not answer.
    pub async fn last_written(&self, service: Service) -> Result<Vec<LogMark>, String> {
        if !self.has_topics() {
            return Err("the topics are not there yet".to_owned());
        }
        last_written(&self.settings, &self.prefix, service).await
    }

    /// Where Kafka is.
    pub fn settings(&self) -> &KafkaClientSettings {
        &self.settings
    }

    /// How the relay of a service is.
    pub fn relay(&self, service: Service) -> &RelayBoard {
        &self.relays[service.index()]
    }

    /// Whether the topics have been seen to.
    pub fn has_topics(&self) -> bool {
        *self.topics_are_there.borrow()
    }

    /// The name of a topic on this cluster.
    fn topic(&self, topic: Topic) -> Arc<str> {
        topic_name(&self.prefix, topic)
    }

    /// Every topic of the shop, as it should be.
    fn topics(&self) -> Vec<TopicSpec> {
        let each = |topic: Topic| {
            let name = self.topic(topic);
            let dead_letters = TopicSpec::new(dead_letter_topic(&name).to_string(), DEAD_LETTER_PARTITIONS);
            let topic_itself = TopicSpec::new(name.to_string(), PARTITIONS);
            // Who comes later wants every product's last word.
            let is_compacted = topic == Topic::ProductEvents;
            [if is_compacted { topic_itself.with("cleanup.policy", "compact") } else { topic_itself }, dead_letters]
        };
        Topic::ALL.into_iter().flat_map(each).collect()
    }

    /// The subscription of a service, under a name of this member that outlives restarts: the group then gives it its
    /// partitions back at once, without waiting for the former process's session to end. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the bridge cannot be built.
    pub fn bridge(self: &Arc<Self>, service: Service, member: &str, inbox: &Inbox) -> Result<Bridge, StartError> {
        let (_, topics) = heard_by(service);
        let mut builder = Bridge::builder().dead_letters(Arc::new(self.sink.clone()));
        if !topics.is_empty() {
            let named = Topics::Named(topics.iter().map(|topic| self.topic(*topic)).collect());
            let group = format!("{}microcommerce.{service}", self.prefix);
            builder = builder.subscribe(subscription("hears-kafka", group, named, self.opener(member), inbox));
        }
        builder.build().map_err(StartError::new)
    }

    fn opener(self: &Arc<Self>, member: &str) -> OpenSource {
        let source = KafkaSourceConfig {
            session_timeout: SESSION,
            // A topic that was made again is found within the time in which it is made.
            refresh: TOPICS_LOOKED_AFTER,
            instance_id: Some(member.to_owned()),
            ..KafkaSourceConfig::new(self.settings.clone(), "", Vec::new())
        };
        let (open, bus, runtime) = (source.opener(), Arc::clone(self), Handle::current());
        Arc::new(move |subscription: &Subscription| -> Result<Box<dyn LogSource>, String> {
            let mut topics_are_there = bus.topics_are_there.subscribe();
            let waiting = async {
                tokio::select! {
                    waited = timeout(TOPICS_PATIENCE, topics_are_there.wait_for(|there| *there)) => waited.is_ok(),
                    () = bus.ending.asked() => false,
                }
            };
            if !runtime.block_on(waiting) {
                return Err("the topics are not there yet".to_owned());
            }
            open(subscription)
        })
    }

    /// The relay of a service, as a child of its tree.
    pub fn children(self: &Arc<Self>, service: Service, home: &Arc<dyn Journal>) -> Vec<ChildSpec> {
        let (bus, home) = (Arc::clone(self), Arc::clone(home));
        vec![ChildSpec::new("relay", Restart::Permanent, move |supervisor| {
            let journal = Arc::clone(&home);
            let numbering = Arc::new(Numbering::new(service, Box::new(move |stream| journal.events(stream))));
            let prepare = move |events| {
                let numbering = Arc::clone(&numbering);
                async move { numbering.fill(events).await }.boxed()
            };
            let to_records = {
                let (bus, identity) = (Arc::clone(&bus), home.identity());
                move |recorded: Recorded| records_of(service, identity, &recorded, |topic| bus.topic(topic))
            };
            let outbox = JournalOutbox::new(Arc::clone(&home), to_records).prepared_by(Arc::new(prepare));
            let outbox = ComparedOutbox::new(outbox, service, Arc::clone(&home), Arc::clone(&bus));
            let arguments = RelayArguments {
                name: RELAY.into(),
                outbox: Arc::new(outbox),
                sink: Arc::new(bus.sink.clone()),
                limits: RelayLimits::default(),
                board: bus.relay(service).clone(),
            };
            async move { Ok(start_relay(arguments, supervisor).await?.get_cell()) }
        })]
    }

    /// Who sees to the topics, as a child of the process's tree.
    pub fn topic_keeper(self: &Arc<Self>) -> ChildSpec {
        let bus = Arc::clone(self);
        ChildSpec::new("topic-keeper", Restart::Transient, move |supervisor| {
            let bus = Arc::clone(&bus);
            async move { Ok(TopicKeeper::spawn_linked(None, TopicKeeper, bus, supervisor).await?.0.get_cell()) }
        })
    }
}

/// The records of an event. One that cannot be read is a dead letter as it is, among those of its service's own events; the others
/// go on.
fn records_of(
    service: Service,
    identity: LogIdentity,
    recorded: &Recorded,
    topic: impl Fn(Topic) -> Arc<str>,
) -> Vec<OutgoingRecord> {
    let messages = messages_of(service, recorded);
    let records = messages.and_then(|messages| {
        let provenance = (!messages.is_empty()).then(|| Provenance::of(identity, recorded));
        let record = |message: &Envelope| -> Result<OutgoingRecord, JournalError> {
            let record = cloud_event_of(message, topic(message.message.topic()))?;
            let stamped = |provenance: &Provenance| provenance.put_on(record.headers.clone());
            Ok(OutgoingRecord { headers: provenance.as_ref().map(stamped).unwrap_or_default(), ..record })
        };
        messages.iter().map(record).collect()
    });
    records.unwrap_or_else(|error| {
        tracing::error!(stream = %recorded.stream, version = recorded.version, %error, "an event cannot be read");
        vec![OutgoingRecord {
            topic: dead_letter_topic(&topic(topic_of(service))),
            partition: None,
            key: Some(recorded.stream.as_bytes().to_vec().into()),
            value: Some(recorded.payload.clone().into()),
            timestamp_ms: Some(recorded.at_ms),
            headers: Headers::default()
                .with(GROUP, format!("relay.{service}"))
                .with(ERROR_KIND, ErrorKind::Undecodable.as_str())
                .with(ERROR, error.to_string()),
        }]
    })
}

impl Keeping {
    async fn make(&mut self) -> Result<Vec<String>, TopicError> {
        let topics = match self.topics.take() {
            Some(topics) => topics,
            None => KafkaTopics::new(self.bus.settings.clone())?,
        };
        self.topics.insert(topics).create_missing(&self.bus.topics()).await
    }
}

fn topic_name(prefix: &str, topic: Topic) -> Arc<str> {
    format!("{prefix}{}", topic.name()).into()
}

/// The last places in the log of `service` that the topics have, as Kafka says; none of a topic that is not there.
///
/// # Errors
/// In a sentence, when Kafka does not answer.
pub async fn last_written(
    settings: &KafkaClientSettings,
    prefix: &str,
    service: Service,
) -> Result<Vec<LogMark>, String> {
    let reading = written_by(service).iter().map(|topic| {
        let topic = topic_name(prefix, *topic);
        async move { last_records(settings, &topic, COMPARED_RECORDS).await }
    });
    let mut records = Vec::new();
    for last in futures::future::join_all(reading).await {
        match last {
            Ok(last) => records.extend(last),
            Err(DeadLetterError::Topic(TopicError::Unknown(_))) => {}
            // A record that no client reads, for example: what is not known contradicts nothing, and the relay must go on.
            Err(DeadLetterError::Read(reason)) => {
                tracing::warn!(%service, reason, "the end of a topic cannot be compared with the log");
            }
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(provenance::written_by(service.name(), &records))
}

/// The name of a relay and of its position in its journal. Never change it.
pub const RELAY: &str = "relay<kafka";

/// The topic of a service's own events.
fn topic_of(service: Service) -> Topic {
    match service {
        Service::Payment => Topic::PaymentEvents,
        Service::Product => Topic::ProductEvents,
        Service::User => Topic::UserEvents,
        Service::Order => Topic::OrderEvents,
    }
}

/// Makes the topics that are missing, at the start and as long as the process runs.
struct TopicKeeper;

struct Make;

struct Keeping {
    bus: Arc<KafkaBus>,
    /// Asked again and again: a client for each time would be dear.
    topics: Option<KafkaTopics>,
    /// The last reason why it did not work.
    said: String,
}

impl Actor for TopicKeeper {
    type Msg = Make;
    type State = Keeping;
    type Arguments = Arc<KafkaBus>;

    async fn pre_start(&self, myself: ActorRef<Make>, bus: Arc<KafkaBus>) -> Result<Self::State, ActorProcessingErr> {
        myself.send_message(Make)?;
        Ok(Keeping { bus, topics: None, said: String::new() })
    }

    async fn handle(&self, myself: ActorRef<Make>, Make: Make, state: &mut Keeping) -> Result<(), ActorProcessingErr> {
        let bus = Arc::clone(&state.bus);
        let made = tokio::select! {
            made = state.make() => made,
            () = bus.ending.asked() => {
                myself.stop(None);
                return Ok(());
            }
        };
        let pause = match made {
            Ok(made) => {
                let were_there = state.bus.topics_are_there.send_replace(true);
                match (made.is_empty(), were_there) {
                    (true, _) => {}
                    (false, false) => tracing::info!(topics = made.len(), "topics made on Kafka"),
                    (false, true) => tracing::error!(
                        topics = ?made,
                        "topics were gone and have been made again: what was in them and not taken in is lost"
                    ),
                }
                state.said.clear();
                TOPICS_LOOKED_AFTER
            }
            Err(error) => {
                let reason = error.to_string();
                if state.said != reason {
                    tracing::warn!(reason, "the topics cannot be seen to; trying again");
                    state.said = reason;
                }
                TOPICS_AGAIN
            }
        };
        myself.send_after(pause, || Make);
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Make>,
        _: SupervisionEvent,
        _: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        // It has no children.
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::super::tests::{DAMAGED, damaged};
    use super::*;

    /// The embedded bus has the same word for it: see [`super::super::embedded`].
    #[test]
    fn an_event_that_cannot_be_read_is_a_dead_letter_of_its_service() {
        for (service, stream) in DAMAGED {
            let event = damaged(stream);
            let identity = LogIdentity::generate().unwrap();
            let records = records_of(service, identity, &event, |topic| topic.name().into());
            let [letter] = &records[..] else { panic!("{service}: {records:?}") };
            assert_eq!(letter.topic, dead_letter_topic(topic_of(service).name()), "{service}");
            assert_eq!(letter.key.as_deref(), Some(stream.as_bytes()));
            assert_eq!(letter.value.as_deref(), Some(event.payload.as_bytes()));
            let text = |name| letter.headers.text(name).unwrap().unwrap().to_owned();
            assert_eq!(text(ERROR_KIND), "undecodable");
            assert!(text(ERROR).contains(stream) && text(GROUP).ends_with(service.name()), "{letter:?}");
        }
    }
}
