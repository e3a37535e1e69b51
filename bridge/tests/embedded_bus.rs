//! The embedded bus: nothing lost, order per key, effects once, whatever falls.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use microcommerce_bridge::{
    embedded::{
        dead_letters::JournalDeadLetters,
        source::{JournalSource, JournalSourceArguments, RecordOutbox},
    },
    engine::{
        Bridge, CommitEvery, Handler, Json, OpenSource, Outcome, Subscription, Topics, dead_letter_topic,
        handler::{self, Concurrent},
        health::PartitionHealth,
    },
    ports::LogSource,
    record::{Headers, OutgoingRecord, Record},
};
use ractor::{Actor, ActorRef};
use runtime::{
    CommandId, CommandMeta, Current, Entities, EntitiesConfig, Entity, Gate, Journal, Roster,
    entity::EventPayload,
    journal::sqlite::{SqliteJournal, SqliteOptions},
    supervision::{ChildSpec, Supervisor, SupervisorMessage, SupervisorSpec},
};
use serde::{Deserialize, Serialize};
use tokio::{runtime::Handle, time::Instant};

const PATIENCE: Duration = Duration::from_secs(20);
const TOPIC: &str = "accounts";
const LANES: usize = 256;
/// Between two commits, so that a fall comes between any of them.
const OFTEN: CommitEvery = CommitEvery { every: Duration::from_millis(20), records: 50 };

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
    type State = Vec<u64>;
    type Command = u64;
    type Event = Moved;
    type Refusal = ();

    fn decide(_: &Vec<u64>, number: u64) -> Result<Vec<Moved>, ()> {
        Ok(vec![Moved { number }])
    }
    fn evolve(state: &mut Vec<u64>, event: &Moved) {
        state.push(event.number);
    }
}

struct Side {
    journal: Arc<dyn Journal>,
    accounts: Entities<Account>,
    supervisor: ActorRef<SupervisorMessage>,
}

async fn side(directory: &Path, more: impl FnOnce(&Arc<dyn Journal>, &Entities<Account>) -> Vec<ChildSpec>) -> Side {
    let options = SqliteOptions::new(directory, "");
    let journal: Arc<dyn Journal> = SqliteJournal::open(&options).unwrap();
    let roster = Roster::new();
    let accounts =
        Entities::<Account>::new(Arc::clone(&journal), &Gate::new(50_000), EntitiesConfig::default(), roster.clone());
    let mut children = accounts.shards();
    children.extend(more(&journal, &accounts));
    let spec = SupervisorSpec::new("side", children);
    let (supervisor, _) = Supervisor::spawn(None, Supervisor, (spec, roster)).await.unwrap();
    Side { journal, accounts, supervisor }
}

impl Side {
    async fn stop(self) {
        self.supervisor.stop_and_wait(None, None).await.unwrap();
        self.journal.close().await;
    }
}

/// What a message says: the event's number, and its position, which makes its id.
type Message = (u64, u64);

fn outbox() -> RecordOutbox {
    Arc::new(|recorded| {
        let event: Moved = serde_json::from_str(&recorded.payload).unwrap();
        Ok(vec![OutgoingRecord {
            topic: TOPIC.into(),
            partition: None,
            key: Some(recorded.kind_and_id().1.to_owned().into()),
            value: Some(serde_json::to_vec(&(event.number, recorded.position)).unwrap().into()),
            timestamp_ms: None,
            headers: Headers::default(),
        }])
    })
}

fn key_of(record: &Record) -> String {
    String::from_utf8(record.key.as_deref().unwrap().to_vec()).unwrap()
}

/// Mirrors every message into the subscriber's account of the same key. Its id makes a repeat harmless.
fn mirror(accounts: &Entities<Account>, is_refusing: &Arc<AtomicBool>) -> Concurrent {
    let (accounts, is_refusing) = (accounts.clone(), Arc::clone(is_refusing));
    handler::decoded(Json, LANES, move |(number, position): Message, record| {
        let (accounts, is_refusing) = (accounts.clone(), Arc::clone(&is_refusing));
        async move {
            if is_refusing.load(Ordering::SeqCst) {
                return Outcome::not_now("told to refuse");
            }
            let meta = CommandMeta::new(CommandId::of(&["mirror", &position.to_string()]), PATIENCE);
            match accounts.ask(key_of(&record), number, meta).await {
                Ok(_) => Outcome::Done,
                Err(error) => Outcome::not_now(error.to_string()),
            }
        }
    })
}

/// The bridge of a subscriber, and where it keeps its dead letters.
fn bridge(
    source: &Current<Arc<dyn Journal>>,
    home: &Arc<dyn Journal>,
    handler: impl Handler,
) -> (Bridge, Arc<JournalDeadLetters>) {
    let arguments = JournalSourceArguments {
        topic: TOPIC.into(),
        name: "mirror<source".into(),
        source: source.clone(),
        home: Arc::clone(home),
        outbox: outbox(),
    };
    let runtime = Handle::current();
    let open: OpenSource = Arc::new(move |_: &Subscription| -> Result<Box<dyn LogSource>, String> {
        Ok(Box::new(JournalSource::new(arguments.clone(), runtime.clone())))
    });
    let letters = Arc::new(JournalDeadLetters::new(Arc::clone(home), &Handle::current()));
    let topics = Topics::Named(vec![TOPIC.into()]);
    let subscription = Subscription::new("mirror", "mirror", topics, open, handler).commit(OFTEN);
    let bridge = Bridge::builder().dead_letters(Arc::clone(&letters) as _).subscribe(subscription).build().unwrap();
    (bridge, letters)
}

fn count(bridge: &Bridge, what: impl Fn(&PartitionHealth) -> u64) -> u64 {
    bridge.health().iter().flat_map(|subscription| &subscription.partitions).map(what).sum()
}

async fn emit(accounts: &Entities<Account>, numbers: std::ops::Range<u64>) {
    let asks = numbers.map(|number| {
        let meta = CommandMeta::new(CommandId::of(&["emit", &number.to_string()]), PATIENCE);
        accounts.ask(format!("k{}", number % 10), number, meta)
    });
    futures::future::join_all(asks).await.into_iter().for_each(|answer| drop(answer.unwrap()));
}

async fn mirrored(accounts: &Entities<Account>, key: u64, count: usize) -> Vec<u64> {
    let is_there = move |state: &Vec<u64>| (state.len() >= count).then(|| state.clone());
    accounts.wait_until(format!("k{key}"), Instant::now() + PATIENCE, is_there).await.unwrap()
}

fn expected(key: u64, end: u64) -> Vec<u64> {
    (0..end).filter(|number| number % 10 == key).collect()
}

#[tokio::test]
async fn every_event_has_its_effect_once_and_in_order_per_key_though_subscriber_and_subscription_fall() {
    let (source_dir, home_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let source = side(source_dir.path(), |_, _| vec![]).await;
    let place = Current::empty();
    place.set(Arc::clone(&source.journal));
    let may_refuse = Arc::new(AtomicBool::new(false));
    for round in 0..4 {
        let home = side(home_dir.path(), |journal, accounts| {
            bridge(&place, journal, mirror(accounts, &may_refuse)).0.children()
        })
        .await;
        emit(&source.accounts, round * 500..round * 500 + 250).await;
        // The subscription is killed somewhere in the middle of its work.
        home.supervisor.send_message(SupervisorMessage::KillChild { name: "mirror".into() }).unwrap();
        emit(&source.accounts, round * 500 + 250..round * 500 + 500).await;
        if round < 3 {
            home.stop().await;
            continue;
        }
        for key in 0..10 {
            assert_eq!(mirrored(&home.accounts, key, 200).await, expected(key, 2_000), "key {key}");
        }
        home.stop().await;
    }
    source.stop().await;
}

#[tokio::test]
async fn what_is_refused_for_now_waits_and_a_source_that_is_away_only_delays() {
    let (source_dir, home_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let source = side(source_dir.path(), |_, _| vec![]).await;
    // The source is not there yet.
    let place = Current::empty();
    let is_refusing = Arc::new(AtomicBool::new(true));
    let mut mirroring = None;
    let home = side(home_dir.path(), |journal, accounts| {
        let (bridge, _) = bridge(&place, journal, mirror(accounts, &is_refusing));
        mirroring.insert(bridge).children()
    })
    .await;
    let mirroring = mirroring.unwrap();
    emit(&source.accounts, 0..100).await;
    place.set(Arc::clone(&source.journal));
    let give_up_at = Instant::now() + PATIENCE;
    while count(&mirroring, |partition| partition.not_now) < 30 {
        assert!(Instant::now() < give_up_at, "it is not given again and again");
        tokio::task::yield_now().await;
    }
    assert_eq!(count(&mirroring, |partition| partition.finished + partition.dead_letters), 0);
    is_refusing.store(false, Ordering::SeqCst);
    for key in 0..10 {
        assert_eq!(mirrored(&home.accounts, key, 10).await, expected(key, 100));
    }
    home.stop().await;
    source.stop().await;
}

#[tokio::test]
async fn poison_is_set_aside_and_the_rest_goes_on() {
    let (source_dir, home_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let source = side(source_dir.path(), |_, _| vec![]).await;
    let place = Current::empty();
    place.set(Arc::clone(&source.journal));
    let seen: Arc<Mutex<HashMap<String, Vec<u64>>>> = Arc::default();
    let noting = Arc::clone(&seen);
    let handler = handler::decoded(Json, LANES, move |(number, _): Message, record| {
        let is_poison = number == 42;
        if !is_poison {
            noting.lock().unwrap().entry(key_of(&record)).or_default().push(number);
        }
        async move { if is_poison { Outcome::dead_letter("the answer") } else { Outcome::Done } }
    });
    let mut mirroring = None;
    let home =
        side(home_dir.path(), |journal, _| mirroring.insert(bridge(&place, journal, handler)).0.children()).await;
    let (mirroring, letters) = mirroring.unwrap();
    emit(&source.accounts, 0..100).await;
    let give_up_at = Instant::now() + PATIENCE;
    while count(&mirroring, |partition| partition.finished) < 100 {
        assert!(Instant::now() < give_up_at, "the rest does not go on");
        tokio::task::yield_now().await;
    }
    let kept = letters.list(&dead_letter_topic(TOPIC)).await.unwrap();
    assert_eq!(kept.iter().map(|letter| key_of(&letter.record)).collect::<Vec<_>>(), ["k2"]);
    let mut rest = expected(2, 100);
    rest.retain(|number| *number != 42);
    assert_eq!(seen.lock().unwrap()["k2"], rest);
    home.stop().await;
    source.stop().await;
}
