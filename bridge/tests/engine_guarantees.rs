//! What the engine promises when handlers fail, dead letters have nowhere to go, members are expelled and commits fail.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use microcommerce_bridge::{
    engine::{
        Bridge, CommitEvery, Delivery, ExponentialBackoff, Json, Limits, OnDeadKey, OpenSource, Outcome, RetryPolicy,
        Subscription, Topics, dead_letter,
        gap_map::GapMap,
        handler::{self, Addressed, Handler, Mailboxes},
        health::SubscriptionHealth,
    },
    memory::MemoryLog,
    ports::{Acknowledge, Credit, LogSink, NotTaken, SinkError},
    record::{Headers, OutgoingRecord, TopicPartition},
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use runtime::{
    CommandId, CommandMeta, Current, Entities, EntitiesConfig, Entity, Gate, Journal, Roster,
    entity::EventPayload,
    journal::sqlite::{SqliteJournal, SqliteOptions},
    supervision::{Supervisor, SupervisorMessage, SupervisorSpec},
};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

const PATIENCE: Duration = Duration::from_secs(30);
const TOPIC: &str = "orders";
const GROUP: &str = "billing";

fn partition(number: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, number)
}

fn log(partitions: usize) -> MemoryLog {
    let log = MemoryLog::new();
    log.create_topic(TOPIC, partitions);
    log
}

fn write(log: &MemoryLog, key: &str, value: impl Into<Bytes>) {
    write_with(log, key, value, Headers::default());
}

fn write_with(log: &MemoryLog, key: &str, value: impl Into<Bytes>, headers: Headers) {
    let key = Some(Bytes::copy_from_slice(key.as_bytes()));
    let record = OutgoingRecord {
        topic: TOPIC.into(),
        partition: None,
        key,
        value: Some(value.into()),
        timestamp_ms: None,
        headers,
    };
    log.write(record).unwrap();
}

/// `numbers` over ten keys.
fn write_numbers(log: &MemoryLog, numbers: std::ops::Range<u64>) {
    numbers.for_each(|number| write(log, &format!("k{}", number % 10), number.to_string()));
}

fn source(log: &MemoryLog) -> OpenSource {
    let log = log.clone();
    Arc::new(move |subscription| match &subscription.topics {
        Topics::Named(topics) => Ok(log.source(topics, &subscription.group)),
        Topics::Matching(_) => Err("named topics only".to_owned()),
    })
}

fn subscription(log: &MemoryLog, handler: impl Handler) -> Subscription {
    let backoff = ExponentialBackoff { first: Duration::from_millis(1), max: Duration::from_millis(20) };
    Subscription::new("orders", GROUP, Topics::Named(vec![TOPIC.into()]), source(log), handler)
        .retry(RetryPolicy { attempts_max: 3, backoff, ..RetryPolicy::default() })
        .commit(CommitEvery { every: Duration::from_millis(20), records: 1_000 })
}

struct Running {
    bridge: Bridge,
    supervisor: ActorRef<SupervisorMessage>,
}

async fn start(log: &MemoryLog, subscription: Subscription) -> Running {
    let bridge = Bridge::builder().dead_letters(log.sink()).subscribe(subscription).build().unwrap();
    let supervisor = bridge.start().await.unwrap();
    Running { bridge, supervisor }
}

impl Running {
    fn health(&self) -> SubscriptionHealth {
        self.bridge.health().remove(0)
    }

    async fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(Instant::now() < until, "not in time: {what}; {:#?}", self.bridge.health());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn stop(self) {
        self.supervisor.stop_and_wait(None, Some(PATIENCE)).await.unwrap();
    }
}

/// What was done, by key, in order.
#[derive(Clone, Default)]
struct Done(Arc<Mutex<BTreeMap<String, Vec<String>>>>);

impl Done {
    fn note(&self, record: &microcommerce_bridge::record::Record) {
        let text = |bytes: &Option<Bytes>| String::from_utf8_lossy(bytes.as_deref().unwrap_or_default()).into_owned();
        self.0.lock().unwrap().entry(text(&record.key)).or_default().push(text(&record.value));
    }
    fn count(&self) -> usize {
        self.0.lock().unwrap().values().map(Vec::len).sum()
    }
    fn of(&self, key: &str) -> Vec<String> {
        self.0.lock().unwrap().get(key).cloned().unwrap_or_default()
    }
    fn assert_numbers_in_order(&self, numbers: std::ops::Range<u64>, except: &[u64]) {
        for key in 0..10 {
            let expected = numbers.clone().filter(|number| number % 10 == key && !except.contains(number));
            let expected: Vec<String> = expected.map(|number| number.to_string()).collect();
            assert_eq!(self.of(&format!("k{key}")), expected, "key {key}");
        }
    }
}

fn committed(log: &MemoryLog) -> i64 {
    log.committed(GROUP, &partition(0)).map_or(0, |commit| commit.offset)
}

fn dead_letters(log: &MemoryLog) -> Vec<microcommerce_bridge::record::Record> {
    log.records(&TopicPartition::new(&*dead_letter::dead_letter_topic(TOPIC), 0))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_retries_its_own_lane_and_touches_no_other() {
    let log = log(1);
    log.create_topic(&dead_letter::dead_letter_topic(TOPIC), 1);
    write_numbers(&log, 0..200);
    let (done, panics) = (Done::default(), Arc::new(AtomicUsize::new(0)));
    let (noting, panicking) = (done.clone(), Arc::clone(&panics));
    let handler = handler::each(8, move |record| {
        let (noting, panicking) = (noting.clone(), Arc::clone(&panicking));
        async move {
            let is_first_of_57 =
                record.value.as_deref() == Some(b"57") && panicking.fetch_add(1, Ordering::SeqCst) == 0;
            assert!(!is_first_of_57, "57 panics once: a panic that the test wants");
            noting.note(&record);
            Outcome::Done
        }
    });
    let running = start(&log, subscription(&log, handler)).await;
    running.until("all is done and committed", || committed(&log) == 200).await;
    running.stop().await;
    done.assert_numbers_in_order(0..200, &[]);
    assert!(dead_letters(&log).is_empty());
}

struct Clerk;

struct Work(Vec<Delivery>);

impl From<Vec<Delivery>> for Work {
    fn from(deliveries: Vec<Delivery>) -> Self {
        Self(deliveries)
    }
}

impl Actor for Clerk {
    type Msg = Work;
    type State = Done;
    type Arguments = Done;

    async fn pre_start(&self, _: ActorRef<Work>, done: Done) -> Result<Done, ActorProcessingErr> {
        Ok(done)
    }

    async fn handle(&self, _: ActorRef<Work>, Work(work): Work, done: &mut Done) -> Result<(), ActorProcessingErr> {
        for delivery in work {
            done.note(delivery.record());
            delivery.settle(Outcome::Done);
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_actor_held_is_given_again_and_while_it_is_gone_no_attempt_is_spent() {
    let log = log(2);
    log.create_topic(&dead_letter::dead_letter_topic(TOPIC), 1);
    write_numbers(&log, 0..5_000);
    let (done, place) = (Done::default(), Current::empty());
    let (first, _) = Actor::spawn(None, Clerk, done.clone()).await.unwrap();
    place.set(first.clone());
    let running = start(&log, subscription(&log, Mailboxes::<Work>::one(place.clone()))).await;
    running.until("some is done", || done.count() >= 500).await;
    first.kill();
    // Ten keys that wait: far more than three attempts each.
    let waits = || running.health().partitions.iter().map(|partition| partition.not_now).sum::<u64>();
    running.until("everything waits for the actor", || waits() >= 200).await;
    let (second, _) = Actor::spawn(None, Clerk, done.clone()).await.unwrap();
    place.set(second);
    let ends = || {
        let end = |number| log.committed(GROUP, &partition(number)).map_or(0, |commit| commit.offset);
        end(0) + end(1)
    };
    running.until("all is done and committed", || ends() == 5_000).await;
    running.stop().await;
    assert!(dead_letters(&log).is_empty());
    for key in 0..10 {
        // The one that it was at when it was killed may have been done twice.
        let mut numbers: Vec<u64> = done.of(&format!("k{key}")).iter().map(|number| number.parse().unwrap()).collect();
        numbers.dedup();
        assert_eq!(numbers, (0..5_000).filter(|number| number % 10 == key).collect::<Vec<_>>(), "key {key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_is_a_dead_letter_at_once_and_the_rest_goes_on() {
    let log = log(1);
    log.create_topic(&dead_letter::dead_letter_topic(TOPIC), 1);
    write(&log, "k", "1");
    write(&log, "k", "this is no number");
    write_with(&log, "k", "2", Headers::default().with(&b"\xff"[..], "x").with("traceparent", "00-7"));
    write(&log, "k", "3");
    let done = Done::default();
    let noting = done.clone();
    let handler = handler::decoded(Json, 8, move |_: u64, record| {
        noting.note(&record);
        async { Outcome::Done }
    });
    let running = start(&log, subscription(&log, handler)).await;
    running.until("all is finished", || committed(&log) == 4).await;
    running.stop().await;
    assert_eq!(done.of("k"), ["1", "3"]);
    let letters = dead_letters(&log);
    let kinds: Vec<&str> =
        letters.iter().map(|letter| letter.headers.text(dead_letter::ERROR_KIND).unwrap().unwrap()).collect();
    assert_eq!(kinds, ["undecodable", "header-name"]);
    assert_eq!(letters[1].headers.text("traceparent"), Ok(Some("00-7")));
    assert_eq!(letters[1].headers.get(dead_letter::ATTEMPTS).unwrap(), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_dead_letters_cannot_be_written_the_key_waits_health_says_so_and_nothing_is_lost() {
    let log = log(1);
    write(&log, "bad", "poison");
    write(&log, "bad", "after it");
    write(&log, "good", "1");
    let done = Done::default();
    let noting = done.clone();
    let handler = handler::each(8, move |record| {
        let is_poison = record.value.as_deref() == Some(b"poison");
        if !is_poison {
            noting.note(&record);
        }
        async move { if is_poison { Outcome::dead_letter("poison") } else { Outcome::Done } }
    });
    let running = start(&log, subscription(&log, handler)).await;
    let says_so = || running.health().complaints.iter().any(|complaint| complaint.contains("dead letters cannot"));
    running.until("the other key is done and health complains", || done.count() == 1 && says_so()).await;
    assert!(!running.health().is_healthy);
    assert_eq!((committed(&log), done.of("bad").len()), (0, 0), "the frontier holds");
    log.create_topic(&dead_letter::dead_letter_topic(TOPIC), 1);
    running.until("all is finished", || committed(&log) == 3).await;
    running.until("health is well again", || running.health().is_healthy).await;
    running.stop().await;
    assert_eq!((dead_letters(&log).len(), done.of("bad")), (1, vec!["after it".to_owned()]));
}

/// The gap map: after a crash only what was not finished is done again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_key_holds_back_itself_alone_and_a_crash_repeats_nothing_that_was_committed_as_finished() {
    let log = log(1);
    write(&log, "slow", "the slow one");
    write_numbers(&log, 0..1_000);
    let (done, is_open, opened) = (Done::default(), Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
    let handler = || {
        let (noting, is_open, opened) = (done.clone(), Arc::clone(&is_open), Arc::clone(&opened));
        handler::each(8, move |record| {
            let (noting, is_open, opened) = (noting.clone(), Arc::clone(&is_open), Arc::clone(&opened));
            async move {
                let mut woken = std::pin::pin!(opened.notified());
                woken.as_mut().enable();
                if record.key.as_deref() == Some(b"slow") && !is_open.load(Ordering::SeqCst) {
                    woken.await;
                }
                noting.note(&record);
                Outcome::Done
            }
        })
    };
    let stalling = subscription(&log, handler()).stall_after(Duration::from_millis(100));
    let running = start(&log, stalling).await;
    let gap_map_is_committed = || {
        let Some(commit) = log.committed(GROUP, &partition(0)) else { return false };
        let mut gap_map = GapMap::decode(commit.offset, &commit.metadata);
        commit.offset == 0 && (1..=1_000).all(|offset| gap_map.takes(offset))
    };
    running.until("the others are done", || done.count() == 1_000 && gap_map_is_committed()).await;
    let names_it = || {
        let stall = running.health().partitions.first().and_then(|partition| partition.stall.clone());
        stall.is_some_and(|stall| {
            (stall.offset, stall.sequence, stall.state) == (0, Some(0), "with the handler")
                && stall.key.as_deref() == Some("slow")
        })
    };
    running.until("the stall detector names the record in the way", names_it).await;
    assert!(running.health().is_live && !running.health().is_healthy);
    running.supervisor.kill();

    is_open.store(true, Ordering::SeqCst);
    let running = start(&log, subscription(&log, handler())).await;
    running.until("all is committed", || committed(&log) == 1_001).await;
    running.stop().await;
    opened.notify_waiters();
    done.assert_numbers_in_order(0..1_000, &[]);
    assert!(!done.of("slow").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_expelled_commits_nothing_and_its_late_answers_are_counted() {
    let log = log(1);
    write_numbers(&log, 0..10);
    let held: Arc<Mutex<Vec<Delivery>>> = Arc::default();
    let holding = Arc::clone(&held);
    let handler = move |deliveries: Vec<Delivery>| holding.lock().unwrap().extend(deliveries);
    let running = start(&log, subscription(&log, handler)).await;
    running.until("all is with the handler", || held.lock().unwrap().len() == 10).await;
    let late: Vec<Delivery> = held.lock().unwrap().drain(..).collect();
    log.expel_all(GROUP);
    running.until("all is given again", || held.lock().unwrap().len() == 10).await;
    assert!(late.iter().all(Delivery::is_revoked));
    Delivery::settle_all(late, |_| Outcome::Done);
    running.until("they are counted", || running.health().stale_completions == 10).await;
    assert_eq!(committed(&log), 0);
    let again: Vec<Delivery> = held.lock().unwrap().drain(..).collect();
    Delivery::settle_all(again, |_| Outcome::Done);
    running.until("the new epoch's answers count", || committed(&log) == 10).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_commit_is_counted_and_made_again() {
    let log = log(1);
    log.fail_commits(5);
    write_numbers(&log, 0..100);
    let running =
        start(&log, subscription(&log, |all: Vec<Delivery>| Delivery::settle_all(all, |_| Outcome::Done))).await;
    running.until("it is committed after all", || committed(&log) == 100).await;
    running.until("the failures are counted", || running.health().partitions[0].commit_failures == 5).await;
    running.until("health is well again", || running.health().is_healthy).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_halts_stops_its_partition_and_health_says_why() {
    let log = log(1);
    write_numbers(&log, 0..100);
    let done = Done::default();
    let noting = done.clone();
    let handler = handler::each(1, move |record| {
        let is_seven = record.value.as_deref() == Some(b"7");
        if !is_seven {
            noting.note(&record);
        }
        async move { if is_seven { Outcome::halt("the books do not balance") } else { Outcome::Done } }
    });
    let limits = Limits { in_flight_max: 1, ..Limits::default() };
    let running = start(&log, subscription(&log, handler).limits(limits)).await;
    let says_why =
        || running.health().complaints.iter().any(|complaint| complaint.contains("the books do not balance"));
    running.until("health says why", says_why).await;
    assert_eq!(done.count(), 7);
    running.until("what was done is committed", || committed(&log) == 7).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_dead_letter_a_quarantined_key_follows_it_until_it_is_released() {
    let log = log(1);
    log.create_topic(&dead_letter::dead_letter_topic(TOPIC), 1);
    for value in ["1", "poison", "2", "3"] {
        write(&log, "bad", value);
        write(&log, "good", value.replace("poison", "0"));
    }
    let done = Done::default();
    let noting = done.clone();
    let handler = handler::each(8, move |record| {
        let is_poison = record.value.as_deref() == Some(b"poison");
        if !is_poison {
            noting.note(&record);
        }
        async move { if is_poison { Outcome::dead_letter("poison") } else { Outcome::Done } }
    });
    let running = start(&log, subscription(&log, handler).on_dead_key(OnDeadKey::Quarantine)).await;
    running.until("all is finished", || committed(&log) == 8).await;
    let values: Vec<Bytes> = dead_letters(&log).into_iter().map(|letter| letter.value.unwrap()).collect();
    assert_eq!(values, ["poison", "2", "3"], "in their order");
    assert_eq!((done.of("bad"), done.of("good").len()), (vec!["1".to_owned()], 4));
    assert!(running.bridge.release_key("orders", partition(0), "bad".into()));
    // The release takes effect within a turn or two: whatever comes too early follows the others.
    let mut number = 4;
    while done.of("bad").len() < 2 {
        write(&log, "bad", number.to_string());
        number += 1;
        running.until("it is finished", || committed(&log) == 4 + number).await;
        assert!(number < 1_000, "the key is never released");
    }
    running.stop().await;
}

/// Refuses what is larger than a limit, for ever, as a broker does.
struct Narrow {
    log: MemoryLog,
    bytes_max: usize,
}

impl LogSink for Narrow {
    fn send(&self, record: &OutgoingRecord, acknowledge: Acknowledge) -> Result<(), NotTaken> {
        let of = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers = record.headers.as_slice().iter().map(|header| header.name.len() + of(&header.value));
        let bytes = of(&record.value) + headers.sum::<usize>();
        acknowledge(match bytes > self.bytes_max {
            true => Err(SinkError::Refused(format!("{bytes} bytes"))),
            false => self.log.write(record.clone()),
        });
        Ok(())
    }
    fn room(&self) -> BoxFuture<'static, ()> {
        self.log.room()
    }
    fn flush(&self, deadline: Duration) -> BoxFuture<'static, bool> {
        self.log.flush(deadline)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_that_is_refused_is_written_without_its_content_and_its_key_goes_on() {
    let log = log(1);
    log.create_topic(&dead_letter::dead_letter_topic(TOPIC), 1);
    write(&log, "k", "small poison");
    write(&log, "k", format!("poison{}", " ".repeat(2_000)));
    write(&log, "k", "well");
    let done = Done::default();
    let noting = done.clone();
    let handler = handler::each(8, move |record| {
        let is_poison = String::from_utf8_lossy(record.value.as_deref().unwrap()).contains("poison");
        if !is_poison {
            noting.note(&record);
        }
        async move { if is_poison { Outcome::dead_letter("poison") } else { Outcome::Done } }
    });
    let narrow = Arc::new(Narrow { log: log.clone(), bytes_max: 1_000 });
    let bridge = Bridge::builder().dead_letters(narrow).subscribe(subscription(&log, handler)).build().unwrap();
    let supervisor = bridge.start().await.unwrap();
    let running = Running { bridge, supervisor };
    running.until("all is finished", || committed(&log) == 3).await;
    running.stop().await;
    assert_eq!(done.of("k"), ["well"]);
    let letters = dead_letters(&log);
    assert_eq!(letters[0].value.as_deref(), Some(&b"small poison"[..]));
    let text = |name: &str| letters[1].headers.text(name).unwrap().unwrap().to_owned();
    assert_eq!((letters.len(), &letters[1].value, letters[1].key.as_deref()), (2, &None, Some(&b"k"[..])));
    assert_eq!((text(dead_letter::ORIGIN_OFFSET), text(dead_letter::VALUE_BYTES)), ("1".to_owned(), "2006".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_stands_still_holds_no_more_than_its_credits() {
    let log = log(2);
    write_numbers(&log, 0..20_000);
    let held: Arc<Mutex<Vec<Delivery>>> = Arc::default();
    let holding = Arc::clone(&held);
    let handler = move |deliveries: Vec<Delivery>| holding.lock().unwrap().extend(deliveries);
    let credit = Credit { records: 500, bytes: 1_000_000 };
    let all = Credit { records: 700, bytes: 1_000_000 };
    let limits = Limits { partition: credit, all, ..Limits::default() };
    let running = start(&log, subscription(&log, handler).limits(limits)).await;
    let received = || running.health().partitions.iter().map(|partition| partition.received).sum::<u64>();
    running.until("the credits are used up", || received() >= 700).await;
    let is_without = || running.health().partitions.iter().any(|partition| partition.without_credit_ms > 300);
    running.until("health says so", is_without).await;
    assert_eq!(received(), 700);
    let ended = Arc::new(AtomicBool::new(false));
    let (emptying, ending) = (Arc::clone(&held), Arc::clone(&ended));
    let emptier = tokio::spawn(async move {
        while !ending.load(Ordering::SeqCst) {
            let taken: Vec<Delivery> = emptying.lock().unwrap().drain(..).collect();
            Delivery::settle_all(taken, |_| Outcome::Done);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    running.until("all is done", || received() == 20_000).await;
    ended.store(true, Ordering::SeqCst);
    emptier.await.unwrap();
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_come_and_go_repeat_nothing_and_lose_nothing_when_the_handler_is_quick() {
    let log = log(6);
    let done = Done::default();
    let handler = || {
        let noting = done.clone();
        handler::each(64, move |record| {
            let noting = noting.clone();
            async move {
                tokio::task::yield_now().await;
                noting.note(&record);
                Outcome::Done
            }
        })
    };
    let first = start(&log, subscription(&log, handler())).await;
    let mut written = 0;
    for _ in 0..5 {
        write_numbers(&log, written..written + 2_000);
        written += 2_000;
        let second = start(&log, subscription(&log, handler())).await;
        second.until("the second has its share", || second.health().partitions.len() == 3).await;
        write_numbers(&log, written..written + 2_000);
        written += 2_000;
        second.stop().await;
    }
    first.until("all is done", || done.count() as u64 >= written).await;
    first.stop().await;
    done.assert_numbers_in_order(0..written, &[]);
}

// ── entities ──────────────────────────────────────────────────────────────────────────────────────────────────────

struct Ledger;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Booked {
    number: u64,
}

impl EventPayload for Booked {
    fn event_type(&self) -> &'static str {
        "ledger.booked"
    }
}

impl Entity for Ledger {
    const KIND: &'static str = "ledger";
    type State = Vec<u64>;
    type Command = u64;
    type Event = Booked;
    type Refusal = String;

    fn decide(_: &Vec<u64>, number: u64) -> Result<Vec<Booked>, String> {
        if number == 13 { Err("unlucky".to_owned()) } else { Ok(vec![Booked { number }]) }
    }
    fn evolve(state: &mut Vec<u64>, event: &Booked) {
        state.push(event.number);
    }
}

/// The gate lets two commands in at a time: most asks are refused as busy, and none of that counts as an attempt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entities_get_every_record_in_order_though_they_are_busy_and_a_refusal_is_what_the_policy_says() {
    let directory = tempfile::tempdir().unwrap();
    let options = SqliteOptions::new(directory.path(), "");
    let journal: Arc<dyn Journal> = SqliteJournal::open(&options).unwrap();
    let roster = Roster::new();
    let ledgers =
        Entities::<Ledger>::new(Arc::clone(&journal), &Gate::new(2), EntitiesConfig::default(), roster.clone());
    let spec = SupervisorSpec::new("ledgers", ledgers.shards());
    let (supervisor, _) = Supervisor::spawn(None, Supervisor, (spec, roster)).await.unwrap();
    let log = log(2);
    log.create_topic(&dead_letter::dead_letter_topic(TOPIC), 1);
    write_numbers(&log, 0..500);
    let route = |record: &microcommerce_bridge::record::Record| {
        let text = |bytes: &Option<Bytes>| String::from_utf8(bytes.clone().unwrap_or_default().to_vec()).unwrap();
        let (id, number) = (text(&record.key), text(&record.value));
        let meta = CommandMeta::new(CommandId::of(&["booking", &number]), PATIENCE);
        Ok(Addressed { id: id.into(), command: number.parse().unwrap(), meta })
    };
    let handler = handler::entities(ledgers.clone(), 64, route, Outcome::dead_letter);
    let running = start(&log, subscription(&log, handler)).await;
    let ends =
        || (0..2).map(|number| log.committed(GROUP, &partition(number)).map_or(0, |commit| commit.offset)).sum::<i64>();
    running.until("all is finished", || ends() == 500).await;
    running.stop().await;
    for key in 0..10 {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let booked = ledgers.read(format!("k{key}"), deadline, |state, _| state.clone()).await.unwrap();
        let expected: Vec<u64> = (0..500).filter(|number| number % 10 == key && *number != 13).collect();
        assert_eq!(booked, expected, "key {key}");
    }
    let errors: HashSet<String> = dead_letters(&log)
        .iter()
        .map(|letter| letter.headers.text(dead_letter::ERROR).unwrap().unwrap().to_owned())
        .collect();
    assert_eq!(errors, HashSet::from(["unlucky".to_owned()]));
    supervisor.stop_and_wait(None, None).await.unwrap();
    journal.close().await;
}

/// Lane batches: several records of a key in one call, in order, and what is behind a failure is left alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_batch_keeps_the_order_through_failures() {
    let log = log(1);
    log.create_topic(&dead_letter::dead_letter_topic(TOPIC), 1);
    write_numbers(&log, 0..2_000);
    let (done, tried) = (Done::default(), Arc::new(Mutex::new(HashMap::<Bytes, u32>::new())));
    let (noting, trying) = (done.clone(), Arc::clone(&tried));
    let handler = handler::each(8, move |record| {
        let value = record.value.clone().unwrap();
        let tries = *trying.lock().unwrap().entry(value.clone()).and_modify(|tries| *tries += 1).or_insert(1);
        // Every seventh fails at first, and 700 for ever.
        let number: u64 = std::str::from_utf8(&value).unwrap().parse().unwrap();
        let fails = number == 700 || number.is_multiple_of(7) && tries == 1;
        if !fails {
            noting.note(&record);
        }
        async move { if fails { Outcome::retry("not yet") } else { Outcome::Done } }
    });
    let limits = Limits { lane_batch_max: 16, ..Limits::default() };
    let running = start(&log, subscription(&log, handler).limits(limits)).await;
    running.until("all is finished", || committed(&log) == 2_000).await;
    running.stop().await;
    done.assert_numbers_in_order(0..2_000, &[700]);
    let tries = tried.lock().unwrap();
    assert!(tries.iter().all(|(value, tries)| *tries <= 2 || value == "700"), "nothing else was tried in vain");
    assert_eq!((tries[&Bytes::from("700")], dead_letters(&log).len()), (3, 1));
}
