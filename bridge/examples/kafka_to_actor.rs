//! From a Kafka topic to a plain ractor actor, in order per key, each record acknowledged by the actor that did the work.
//!
//! ```sh
//! deploy/local/kafka.sh start
//! KAFKA_BROKER=127.0.0.1:9092 cargo run --release -p microcommerce-bridge --example kafka_to_actor -- greetings
//! printf 'ann:hello\nbob:hi\nann:bye\n' | kcat -b 127.0.0.1:9092 -t greetings -P -K :
//! ```
//!
//! Stop it with Ctrl-C: it finishes what is on its way, commits and leaves the group. Kill it, and the next one goes on at the
//! last commit.

use std::{error::Error, sync::Arc};

use microcommerce_bridge::{
    engine::{Bridge, Delivery, Outcome, Subscription, Topics, handler::Mailboxes},
    kafka::{KafkaClientSettings, KafkaSink, KafkaSinkConfig, KafkaSourceConfig, KafkaTopics, TopicSpec},
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use runtime::Current;

struct Greeter;

/// What the actor is sent: records, and with each the duty to say what came of it.
struct Greetings(Vec<Delivery>);

impl From<Vec<Delivery>> for Greetings {
    fn from(deliveries: Vec<Delivery>) -> Self {
        Self(deliveries)
    }
}

impl Actor for Greeter {
    type Msg = Greetings;
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Greetings>, (): ()) -> Result<u64, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        _: ActorRef<Greetings>,
        Greetings(deliveries): Greetings,
        count: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        let text =
            |bytes: &Option<bytes::Bytes>| String::from_utf8_lossy(bytes.as_deref().unwrap_or_default()).into_owned();
        for delivery in deliveries {
            let record = delivery.record();
            *count += 1;
            println!(
                "{count}. {}/{}: {} says {}",
                record.partition,
                record.offset,
                text(&record.key),
                text(&record.value)
            );
            // Dropped instead of settled, it would be given again, with growing pauses, and at last become a dead letter.
            delivery.settle(Outcome::Done);
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let topic = std::env::args().nth(1).unwrap_or_else(|| "greetings".to_owned());
    let settings =
        KafkaClientSettings::from_env("kafka-to-actor")?.ok_or("KAFKA_BROKER=host:port says where Kafka is")?;
    let wanted = [TopicSpec::new(&topic, 4), TopicSpec::new(format!("{topic}.dlq"), 1)];
    KafkaTopics::new(settings.clone())?.create_missing(&wanted).await?;

    // The place is where the bridge finds the actor; a supervisor that restarts it puts the new one there.
    let (greeter, _) = Actor::spawn(None, Greeter, ()).await?;
    let place = Current::empty();
    place.set(greeter.clone());

    let open = KafkaSourceConfig::new(settings.clone(), "greeters", Vec::new()).opener();
    let topics = Topics::Named(vec![topic.as_str().into()]);
    let subscription = Subscription::new("greetings", "greeters", topics, open, Mailboxes::<Greetings>::one(place));
    let dead_letters = Arc::new(KafkaSink::start(KafkaSinkConfig::new(settings))?);
    let bridge = Bridge::builder().dead_letters(dead_letters).subscribe(subscription).build()?;
    let supervisor = bridge.start().await?;
    println!("reading {topic}; Ctrl-C ends it");
    tokio::signal::ctrl_c().await?;
    supervisor.stop_and_wait(None, None).await?;
    greeter.stop_and_wait(None, None).await?;
    Ok(())
}
