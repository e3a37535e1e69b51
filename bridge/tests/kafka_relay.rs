//! From a journal through the relay to real Kafka, and dead letters back.
//!
//! They need `KAFKA_BROKER`; with `REQUIRE_KAFKA=1` they fail without it instead of being skipped.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::{collections::BTreeSet, sync::Arc};

use microcommerce_bridge::{
    engine::dead_letter::{ErrorKind, Failure, REPLAYED_TIMESTAMP, dead_letter},
    kafka::{DeadLetters, KafkaTopics, Selection, TopicSpec, dead_letters::summary},
    record::{Headers, Record},
    relay::{CloudEvent, JournalOutbox, Relay, RelayArguments, RelayBoard, RelayLimits},
};
use ractor::Actor;
use runtime::{
    CommandId, CommandMeta, Entities, EntitiesConfig, Entity, Gate, Journal, Recorded, Roster,
    entity::EventPayload,
    journal::sqlite::{SqliteJournal, SqliteOptions},
    supervision::{Supervisor, SupervisorSpec},
};
use serde::{Deserialize, Serialize};
use support::{
    PATIENCE, eventually,
    kafka::{Notebook, by_key, new_topic, outgoing, poll_until, settings, sink, source, write_all},
    kafka_broker, unique,
};

struct Account;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Moved {
    number: u64,
}

impl EventPayload for Moved {
    fn event_type(&self) -> &'static str {
        "account.moved"
    }
}

impl Entity for Account {
    const KIND: &'static str = "account";
    type State = u64;
    type Command = u64;
    type Event = Moved;
    type Refusal = ();

    fn decide(_: &u64, number: u64) -> Result<Vec<Moved>, ()> {
        Ok(vec![Moved { number }])
    }
    fn evolve(state: &mut u64, event: &Moved) {
        *state = event.number;
    }
}

fn to_record(topic: &str, event: &Recorded) -> microcommerce_bridge::record::OutgoingRecord {
    let (_, id) = event.kind_and_id();
    let event_id = format!("evt_{}_{}", event.stream, event.version);
    let cloud_event = CloudEvent {
        id: &event_id,
        event_type: &event.event_type,
        source: "accounts",
        subject: id,
        time: "2026-11-22T11:00:00Z",
        traceparent: None,
    };
    cloud_event.to_record(topic.into(), event.version.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_of_a_journal_reaches_the_topic_in_order_though_the_relay_is_killed() {
    let Some(broker) = kafka_broker("every_event_of_a_journal_reaches_the_topic_in_order_though_the_relay_is_killed")
    else {
        return;
    };
    const EVENTS: u64 = 3_000;
    const KEYS: u64 = 30;
    let (topic, directory) = (new_topic(&broker, 4).await, tempfile::tempdir().unwrap());
    let options = SqliteOptions::new(directory.path(), "");
    let journal: Arc<dyn Journal> = SqliteJournal::open(&options).unwrap();
    let roster = Roster::new();
    let accounts =
        Entities::<Account>::new(Arc::clone(&journal), &Gate::new(50_000), EntitiesConfig::default(), roster.clone());
    let spec = SupervisorSpec::new("accounts", accounts.shards());
    let (supervisor, _) = Supervisor::spawn(None, Supervisor, (spec, roster)).await.unwrap();
    let name = topic.clone();
    let arguments = RelayArguments {
        name: "kafka-relay".into(),
        outbox: Arc::new(JournalOutbox::new(Arc::clone(&journal), move |event| vec![to_record(&name, &event)])),
        sink: Arc::new(sink(&broker)),
        limits: RelayLimits::default(),
        board: RelayBoard::default(),
    };
    let board = arguments.board.clone();
    let (mut relay, _) = Actor::spawn(None, Relay, arguments.clone()).await.unwrap();
    let asking = tokio::spawn(async move {
        for number in 0..EVENTS {
            let meta = CommandMeta::new(CommandId::from_u128(u128::from(number) + 1), PATIENCE);
            let key: Arc<str> = format!("acc_{}", number % KEYS).into();
            accounts.ask(key, number, meta).await.unwrap();
        }
    });
    for share in 1..=3 {
        eventually("it has come further", PATIENCE, || board.health().position >= share * EVENTS / 5).await;
        relay.kill();
        relay = Actor::spawn(None, Relay, arguments.clone()).await.unwrap().0;
    }
    asking.await.unwrap();
    eventually("all is written and stored", PATIENCE, || board.health().position == EVENTS).await;
    assert_eq!(journal.position_of("kafka-relay".into()).await.unwrap().position, EVENTS);

    let (mut source, mut notebook) = (source(&broker, &unique("group"), &topic), Notebook::default());
    let distinct = |notebook: &Notebook| {
        let id = |record: &Record| record.headers.text("ce_id").unwrap().unwrap().to_owned();
        notebook.records.iter().map(id).collect::<BTreeSet<_>>().len() as u64
    };
    poll_until("every event is there", &mut source, &mut notebook, |notebook| distinct(notebook) == EVENTS);
    for (key, versions) in by_key(&notebook.records) {
        let mut seen = BTreeSet::new();
        let first: Vec<u64> =
            versions.iter().map(|version| version.parse().unwrap()).filter(|version| seen.insert(*version)).collect();
        assert_eq!(first, (1..=EVENTS / KEYS).collect::<Vec<_>>(), "{key}");
    }
    source.close(&mut notebook);
    relay.stop_and_wait(None, None).await.unwrap();
    supervisor.stop_and_wait(None, None).await.unwrap();
    journal.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_listed_shown_and_brought_back() {
    let Some(broker) = kafka_broker("dead_letters_are_listed_shown_and_brought_back") else { return };
    let topic = new_topic(&broker, 2).await;
    KafkaTopics::new(settings(&broker))
        .unwrap()
        .create_missing(&[TopicSpec::new(format!("{topic}.dlq"), 2)])
        .await
        .unwrap();
    let letters = DeadLetters::new(settings(&broker));
    assert!(letters.list(&topic, &Selection::All, 100).await.unwrap().is_empty());
    let unknown = letters.list(&unique("never"), &Selection::All, 100).await.unwrap_err().to_string();
    assert!(unknown.starts_with("there is no topic never"), "{unknown}");
    let sink = sink(&broker);
    let failure =
        Failure { attempts: 3, kind: ErrorKind::Failed, error: "no stock".to_owned(), first_ms: 1, last_ms: 2 };
    let original = |number: i64| Record {
        topic: topic.as_str().into(),
        partition: 0,
        offset: number,
        timestamp_ms: Some(1_000),
        key: Some(format!("k{}", number % 5).into()),
        value: Some(number.to_string().into()),
        headers: Headers::default().with("traceparent", "00-1"),
    };
    write_all(&sink, (0..50).map(|number| dead_letter(&original(number), "billing", &failure))).await;
    // Somebody else's record in the same topic is no dead letter.
    write_all(&sink, [outgoing(&format!("{topic}.dlq"), Some("stranger"), Some("x"))]).await;
    let all = letters.list(&topic, &Selection::All, 100).await.unwrap();
    assert_eq!((all.len(), letters.list(&topic, &Selection::All, 7).await.unwrap().len()), (51, 7));
    let chosen = all.iter().find(|letter| letter.value.as_deref() == Some(b"17")).unwrap();
    let place = Selection::One { partition: chosen.partition, offset: chosen.offset };
    let shown = letters.list(&topic, &place, 1).await.unwrap();
    assert_eq!(&shown[..], std::slice::from_ref(chosen));
    assert!(summary(chosen).ends_with(&format!("\t{topic}\tkey k2\tfailed: no stock")), "{}", summary(chosen));
    let stranger = Selection::Key("stranger".into());
    let error = letters.replay(&topic, &stranger, 10, Arc::new(sink.clone())).await.unwrap_err().to_string();
    assert!(error.contains("it is no dead letter"), "{error}");
    let k2 = || Selection::Key("k2".into());
    let replayed = letters.replay(&topic, &k2(), 100, Arc::new(sink.clone())).await.unwrap();
    assert_eq!(replayed, 10);
    // What was brought back is not listed any more, and not brought back again; by its place it is found still.
    assert_eq!(letters.list(&topic, &Selection::All, 100).await.unwrap().len(), 41);
    assert_eq!(letters.replay(&topic, &k2(), 100, Arc::new(sink)).await.unwrap(), 0);
    assert_eq!(&letters.list(&topic, &place, 1).await.unwrap()[..], std::slice::from_ref(chosen));
    let (mut source, mut notebook) = (source(&broker, &unique("group"), &topic), Notebook::default());
    poll_until("they are back", &mut source, &mut notebook, |notebook| notebook.records.len() == 10);
    let expected: Vec<String> = (0..50).filter(|number| number % 5 == 2).map(|number| number.to_string()).collect();
    assert_eq!(by_key(&notebook.records)["k2"], expected);
    // Old as they are, retention leaves them alone: they are of today, and say so.
    let headers = original(0).headers.with(REPLAYED_TIMESTAMP, "1000");
    assert!(notebook.records.iter().all(|record| record.headers == headers));
    assert!(notebook.records.iter().all(|record| record.timestamp_ms > Some(1_700_000_000_000)));
    source.close(&mut notebook);
}
