//! From a keyed Kafka topic to durable entities: the key says which entity, and each record has its effect exactly once.
//!
//! ```sh
//! deploy/local/kafka.sh start
//! KAFKA_BROKER=127.0.0.1:9092 cargo run --release -p microcommerce-bridge --example keyed_to_entities -- /tmp/accounts deposits
//! printf 'ann:5\nbob:7\nann:-9\nann:oops\nann:2\n' | kcat -b 127.0.0.1:9092 -t deposits -P -K :      # in another terminal
//! kcat -b 127.0.0.1:9092 -t deposits.dlq -C -o beginning -e -f '%k %s  %h\n'                        # what could not be done
//! ```
//!
//! Ctrl-C ends it and prints the balances. Kill it instead, and run it again with the same directory: the records since the last
//! commit come again, and change nothing, since their command ids are known.

use std::{error::Error, sync::Arc, time::Duration};

use microcommerce_bridge::{
    engine::{
        Bridge, Outcome, Subscription, Topics,
        handler::{Addressed, entities},
    },
    kafka::{KafkaClientSettings, KafkaSink, KafkaSinkConfig, KafkaSourceConfig, KafkaTopics, TopicSpec},
    record::Record,
};
use ractor::Actor;
use runtime::{
    CommandId, CommandMeta, Entities, EntitiesConfig, Entity, Gate, Journal, Roster,
    entity::EventPayload,
    journal::sqlite::{SqliteJournal, SqliteOptions},
    supervision::{Supervisor, SupervisorSpec},
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// Longest wait for an entity's answer. Past it the record is given again.
const PATIENCE: Duration = Duration::from_secs(5);
/// Commands in flight at once, over all entities.
const COMMANDS_MAX: usize = 1_000;

/// An account that is never overdrawn.
struct Account;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Booked {
    amount: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Overdrawn;

impl EventPayload for Booked {
    fn event_type(&self) -> &'static str {
        "account.booked"
    }
}

impl Entity for Account {
    const KIND: &'static str = "account";
    type State = i64;
    type Command = i64;
    type Event = Booked;
    type Refusal = Overdrawn;

    fn decide(balance: &i64, amount: i64) -> Result<Vec<Booked>, Overdrawn> {
        match balance.checked_add(amount) {
            Some(0..) => Ok(vec![Booked { amount }]),
            _ => Err(Overdrawn),
        }
    }
    fn evolve(balance: &mut i64, event: &Booked) {
        *balance += event.amount;
    }
}

/// A record's entity and command. What means nothing is a dead letter at once: trying again would not help.
fn route(record: &Record) -> Result<Addressed<i64>, Outcome> {
    let text =
        |bytes: &Option<bytes::Bytes>| bytes.as_deref().and_then(|bytes| str::from_utf8(bytes).ok()).map(str::to_owned);
    let id = text(&record.key).ok_or_else(|| Outcome::undecodable("no key, or one that is no text"))?;
    let amount = text(&record.value).and_then(|amount| amount.parse().ok());
    let amount = amount.ok_or_else(|| Outcome::undecodable("the value is no number"))?;
    // The record's place is its identity: however often it comes, it is one command.
    let (partition, offset) = (record.partition.to_string(), record.offset.to_string());
    let command_id = CommandId::of(&[&record.topic, &partition, &offset]);
    Ok(Addressed { id: id.into(), command: amount, meta: CommandMeta::new(command_id, PATIENCE) })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args().nth(1).ok_or("give a directory for the journal")?;
    let topic = std::env::args().nth(2).unwrap_or_else(|| "deposits".to_owned());
    let settings =
        KafkaClientSettings::from_env("keyed-to-entities")?.ok_or("KAFKA_BROKER=host:port says where Kafka is")?;
    let wanted = [TopicSpec::new(&topic, 4), TopicSpec::new(format!("{topic}.dlq"), 1)];
    KafkaTopics::new(settings.clone())?.create_missing(&wanted).await?;

    let journal: Arc<dyn Journal> = SqliteJournal::open(&SqliteOptions::new(directory, ""))?;
    let (roster, gate) = (Roster::new(), Gate::new(COMMANDS_MAX));
    let accounts = Entities::<Account>::new(Arc::clone(&journal), &gate, EntitiesConfig::default(), roster.clone());
    let spec = SupervisorSpec::new("example", accounts.shards());
    let (shards, _) = Supervisor::spawn(None, Supervisor, (spec, roster)).await?;

    // The answer to a command comes after its commit, and only then is the record finished. A refusal is an answer too.
    let refused = |Overdrawn| Outcome::dead_letter("the account would be overdrawn");
    let handler = entities(accounts.clone(), COMMANDS_MAX, route, refused);
    let open = KafkaSourceConfig::new(settings.clone(), "accounts", Vec::new()).opener();
    let topics = Topics::Named(vec![topic.as_str().into()]);
    let subscription = Subscription::new("deposits", "accounts", topics, open, handler);
    let dead_letters = Arc::new(KafkaSink::start(KafkaSinkConfig::new(settings))?);
    let bridge = Bridge::builder().dead_letters(dead_letters).subscribe(subscription).build()?;
    let supervisor = bridge.start().await?;
    println!("booking {topic}; Ctrl-C ends it");
    tokio::signal::ctrl_c().await?;
    supervisor.stop_and_wait(None, None).await?;

    for id in ["ann", "bob"] {
        println!(
            "{id} has {}",
            accounts
                .read(id, Instant::now() + PATIENCE, |balance, _| *balance)
                .await
                .map_err(|error| format!("{error:?}"))?
        );
    }
    shards.stop_and_wait(None, None).await?;
    journal.close().await;
    Ok(())
}
