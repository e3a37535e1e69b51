//! From a durable journal to a Kafka topic: every committed event is written, in order per key, whatever falls in between.
//!
//! ```sh
//! deploy/local/kafka.sh start
//! KAFKA_BROKER=127.0.0.1:9092 cargo run --release -p microcommerce-bridge --example outbox_relay -- /tmp/counters
//! kcat -b 127.0.0.1:9092 -t counter-events -C -o beginning -e -f '%k %s  %h\n'
//! ```
//!
//! Run it again with the same directory: it goes on after the last event that Kafka has acknowledged.

use std::{error::Error, sync::Arc, time::Duration};

use microcommerce_bridge::{
    kafka::{KafkaClientSettings, KafkaSink, KafkaSinkConfig, KafkaTopics, TopicSpec},
    record::OutgoingRecord,
    relay::{CloudEvent, JournalOutbox, RelayArguments, RelayBoard, RelayLimits, start_relay},
};
use ractor::Actor;
use runtime::{
    CommandId, CommandMeta, Entities, EntitiesConfig, Entity, Gate, Journal, Recorded, Roster,
    entity::EventPayload,
    journal::sqlite::{SqliteJournal, SqliteOptions},
    supervision::{Supervisor, SupervisorSpec},
};
use serde::{Deserialize, Serialize};

const TOPIC: &str = "counter-events";
/// Longest wait for an answer here.
const PATIENCE: Duration = Duration::from_secs(30);

/// A counter: the smallest entity there is.
struct Counter;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Counted {
    total: u64,
}

impl EventPayload for Counted {
    fn event_type(&self) -> &'static str {
        "counter.counted"
    }
}

impl Entity for Counter {
    const KIND: &'static str = "counter";
    type State = u64;
    type Command = ();
    type Event = Counted;
    type Refusal = ();

    fn decide(total: &u64, (): ()) -> Result<Vec<Counted>, ()> {
        Ok(vec![Counted { total: total + 1 }])
    }
    fn evolve(total: &mut u64, event: &Counted) {
        *total = event.total;
    }
}

/// The outbox: a pure function of an event. Its id is the same each time, so that readers recognise what comes twice.
fn to_records(event: Recorded) -> Vec<OutgoingRecord> {
    let (_, subject) = event.kind_and_id();
    let id = format!("evt_{subject}_{}", event.version);
    let time = jiff::Timestamp::from_millisecond(event.at_ms).unwrap_or_default().to_string();
    let cloud_event = CloudEvent {
        id: &id,
        event_type: &event.event_type,
        source: "outbox-relay-example",
        subject,
        time: &time,
        traceparent: None,
    };
    vec![cloud_event.to_record(TOPIC.into(), event.payload.clone())]
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args().nth(1).ok_or("give a directory for the journal")?;
    let settings =
        KafkaClientSettings::from_env("outbox-relay")?.ok_or("KAFKA_BROKER=host:port says where Kafka is")?;
    KafkaTopics::new(settings.clone())?.create_missing(&[TopicSpec::new(TOPIC, 4)]).await?;

    let journal: Arc<dyn Journal> = SqliteJournal::open(&SqliteOptions::new(directory, ""))?;
    let roster = Roster::new();
    let gate = Gate::new(10_000);
    let counters = Entities::<Counter>::new(Arc::clone(&journal), &gate, EntitiesConfig::default(), roster.clone());
    let spec = SupervisorSpec::new("example", counters.shards());
    let (supervisor, _) = Supervisor::spawn(None, Supervisor, (spec, roster)).await?;

    let board = RelayBoard::default();
    let arguments = RelayArguments {
        name: "example-relay".into(),
        outbox: Arc::new(JournalOutbox::new(Arc::clone(&journal), to_records)),
        sink: Arc::new(KafkaSink::start(KafkaSinkConfig::new(settings))?),
        limits: RelayLimits::default(),
        board: board.clone(),
    };
    let relay = start_relay(arguments, supervisor.get_cell()).await?;

    let before = *journal.committed().borrow();
    for number in 0..1_000_u64 {
        let meta = CommandMeta::new(CommandId::from_u128(u128::from(before + number + 1)), PATIENCE);
        let accepted = counters.ask(format!("counter-{}", number % 10), (), meta).await;
        accepted.map_err(|error| format!("not counted: {error:?}"))?;
    }
    let newest = *journal.committed().borrow();
    let mut health = board.watch();
    let done = health.wait_for(|health| health.position >= newest);
    let health = tokio::time::timeout(PATIENCE, done).await??.clone();
    println!("{} events committed, all of them in {TOPIC}; written now: {}", newest, health.written);
    relay.stop_and_wait(None, None).await?;
    supervisor.stop_and_wait(None, None).await?;
    journal.close().await;
    Ok(())
}
