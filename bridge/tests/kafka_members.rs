//! The whole inbound side on real Kafka while members, brokers and the only broker die: every record handled, in order per key.
//!
//! Method: a member is this test's own program in a process of its own, so that `kill -9` is a real one. It appends what it has
//! done to a file that all members share, sixteen bytes at a time, which the kernel keeps whole and in order. A reader that
//! leaves out what it has seen has the effects once.
//!
//! They need `KAFKA_BROKER`; with `REQUIRE_KAFKA=1` they fail without it instead of being skipped.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use microcommerce_bridge::{
    engine::{Bridge, CommitEvery, Outcome, Subscription, Topics, handler},
    kafka::{KafkaSink, KafkaSinkConfig, KafkaTopics, TopicSpec},
    ports::LogSink,
    record::OutgoingRecord,
    relay::RelayLimits,
};
use support::{
    eventually,
    kafka::{OwnBrokers, new_topic, outgoing, settings, sink, source_config, write_all},
    kafka_broker,
    relay::{MemoryOutbox, limits, relay},
    unique,
};
use tempfile::TempDir;

const MEMBER: &str = "TEST_MEMBER_OF_TOPIC_GROUP_FILE";

fn numbered(topic: &str, keys: usize, numbers: std::ops::Range<usize>) -> Vec<OutgoingRecord> {
    numbers.map(|number| outgoing(topic, Some(&format!("{}", number % keys)), Some(&number.to_string()))).collect()
}

/// The engine on a topic; each record is appended to the file of effects.
fn bridge(broker: &str, topic: &str, group: &str, effects: &Path, dead_letters: Arc<dyn LogSink>) -> Bridge {
    let file = Arc::new(OpenOptions::new().create(true).append(true).open(effects).unwrap());
    let work = move |record: microcommerce_bridge::record::Record| {
        let number =
            |bytes: Option<bytes::Bytes>| -> u64 { std::str::from_utf8(&bytes.unwrap()).unwrap().parse().unwrap() };
        let (key, value) = (number(record.key), number(record.value));
        let mut line = [0; 16];
        line[..8].copy_from_slice(&key.to_le_bytes());
        line[8..].copy_from_slice(&value.to_le_bytes());
        let file = Arc::clone(&file);
        async move {
            (&*file).write_all(&line).unwrap();
            Outcome::Done
        }
    };
    let open = source_config(broker, group, topic).opener();
    let every = CommitEvery { every: Duration::from_millis(200), records: 10_000 };
    let subscription =
        Subscription::new("members", group, Topics::Named(vec![topic.into()]), open, handler::each(1_024, work));
    Bridge::builder().dead_letters(dead_letters).subscribe(subscription.commit(every)).build().unwrap()
}

/// Nothing in a usual run; a member in a process that was started as one. It ends when it is killed, or when its standard input does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_in_a_process_of_its_own() {
    let Ok(arguments) = std::env::var(MEMBER) else { return };
    let arguments: Vec<&str> = arguments.split('|').collect();
    let [broker, topic, group, effects] = arguments[..] else { panic!("{arguments:?}") };
    let bridge = bridge(broker, topic, group, Path::new(effects), Arc::new(sink(broker)));
    let supervisor = bridge.start().await.unwrap();
    tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0])).await.unwrap().unwrap();
    supervisor.stop_and_wait(None, None).await.unwrap();
}

struct Member(Child);

impl Member {
    fn start(broker: &str, topic: &str, group: &str, effects: &Path) -> Self {
        let arguments = format!("{broker}|{topic}|{group}|{}", effects.display());
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_member_in_a_process_of_its_own", "--nocapture"])
            .env(MEMBER, arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }

    /// As `kill -9` does.
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What all members have done, read on as it grows.
struct Effects {
    path: PathBuf,
    file: Option<File>,
    rest: Vec<u8>,
    seen: Vec<bool>,
    last_of_key: HashMap<u64, u64>,
    distinct: usize,
    all: usize,
}

impl Effects {
    fn new(directory: &TempDir, count: usize) -> Self {
        Self {
            path: directory.path().join("effects"),
            file: None,
            rest: Vec::new(),
            seen: vec![false; count],
            last_of_key: HashMap::new(),
            distinct: 0,
            all: 0,
        }
    }

    /// Reads what is new; a key's effects, each counted once, must come in order.
    fn distinct(&mut self) -> usize {
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        if let Some(file) = &mut self.file {
            file.read_to_end(&mut self.rest).unwrap();
        }
        let whole = self.rest.len() / 16 * 16;
        for line in self.rest[..whole].chunks_exact(16) {
            let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
            let (key, value) = (number(&line[..8]), number(&line[8..]));
            self.all += 1;
            if !std::mem::replace(&mut self.seen[value as usize], true) {
                self.distinct += 1;
                let last = self.last_of_key.insert(key, value);
                assert!(last.is_none_or(|last| last < value), "key {key}: {value} after {last:?}");
            }
        }
        self.rest.drain(..whole);
        self.distinct
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_records_are_handled_in_order_while_members_are_killed() {
    let Some(broker) = kafka_broker("a_million_records_are_handled_in_order_while_members_are_killed") else { return };
    const RECORDS: usize = 1_000_000;
    const KEYS: usize = 10_000;
    const KILLS: usize = 5;
    let (topic, group) = (new_topic(&broker, 8).await, unique("group"));
    let directory = TempDir::new().unwrap();
    let mut effects = Effects::new(&directory, RECORDS);
    let start = |effects: &Effects| Member::start(&broker, &topic, &group, &effects.path);
    let mut members: Vec<Member> = (0..3).map(|_| start(&effects)).collect();
    let (sink, began) = (sink(&broker), Instant::now());
    for round in 0..KILLS {
        let share = RECORDS / KILLS;
        let written = write_all(&sink, numbered(&topic, KEYS, round * share..(round + 1) * share)).await;
        assert!(written.iter().all(Result::is_ok));
        // Each falls while there is work: some of this round is done, not all of it.
        let so_far = round * share + 1;
        eventually("this round has begun", Duration::from_secs(60), || effects.distinct() >= so_far).await;
        let member = members.remove(0);
        member.kill();
        members.push(start(&effects));
    }
    eventually("every record is handled", Duration::from_secs(120), || effects.distinct() == RECORDS).await;
    let topics = KafkaTopics::new(settings(&broker)).unwrap();
    let caught_up = Instant::now();
    loop {
        let lag: i64 = topics.lag(&group, &topic).await.unwrap().iter().map(|partition| partition.lag).sum();
        if lag == 0 {
            break;
        }
        assert!(caught_up.elapsed() < Duration::from_secs(30), "{lag} not committed");
    }
    eprintln!("{RECORDS} records, {KILLS} kills, {} repeated, {:?}", effects.all - RECORDS, began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_broker_of_three_may_die() {
    if kafka_broker("one_broker_of_three_may_die").is_none() {
        return;
    }
    const RECORDS: usize = 60_000;
    let brokers = OwnBrokers::new(3);
    brokers.run("start").await;
    let (address, topic, group) = (brokers.address(), new_topic(&brokers.address(), 8).await, unique("group"));
    let (topics, began) = (KafkaTopics::new(settings(&address)).unwrap(), Instant::now());
    // Each question goes to any of the brokers, and one of them may not have heard of the topic yet.
    let described = loop {
        match topics.describe(&topic).await {
            Ok(described) => break described,
            Err(error) => assert!(began.elapsed() < Duration::from_secs(20), "{error}"),
        }
    };
    assert!(described.partitions.iter().all(|partition| partition.replicas == 3));
    let directory = TempDir::new().unwrap();
    let mut effects = Effects::new(&directory, RECORDS);
    let sink = sink(&address);
    let supervisor = bridge(&address, &topic, &group, &effects.path, Arc::new(sink.clone())).start().await.unwrap();
    for round in 0..3 {
        let share = RECORDS / 3;
        let results = tokio::spawn({
            let (sink, records) = (sink.clone(), numbered(&topic, 1_000, round * share..(round + 1) * share));
            async move { write_all(&sink, records).await }
        });
        if round == 1 {
            brokers.run("kill 2").await;
        }
        let results = results.await.unwrap();
        assert!(results.iter().all(Result::is_ok), "{:?}", results.iter().find(|result| result.is_err()));
    }
    eventually("every record is handled", Duration::from_secs(60), || effects.distinct() == RECORDS).await;
    supervisor.stop_and_wait(None, None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_broker_absent_killed_and_back_nothing_is_lost_in_either_direction() {
    if kafka_broker("with_the_broker_absent_killed_and_back_nothing_is_lost_in_either_direction").is_none() {
        return;
    }
    const RECORDS: usize = 40_000;
    let broker = OwnBrokers::new(1);
    let (address, topic, group) = (broker.address(), unique("kaf"), unique("group"));
    let directory = TempDir::new().unwrap();
    let mut effects = Effects::new(&directory, RECORDS);
    // Everything is started before there is a broker.
    let outbox = MemoryOutbox::new();
    let config =
        KafkaSinkConfig { delivery_timeout: Duration::from_secs(3), ..KafkaSinkConfig::new(settings(&address)) };
    let sink = KafkaSink::start(config).unwrap();
    let supervisor = bridge(&address, &topic, &group, &effects.path, Arc::new(sink.clone())).start().await.unwrap();
    let commit = |numbers: std::ops::Range<usize>| {
        numbered(&topic, 500, numbers).into_iter().for_each(|record| {
            outbox.commit(vec![record]);
        });
    };
    commit(0..RECORDS / 2);
    let (_relay, board) = relay(&outbox, Arc::new(sink), RelayLimits { records_max: 5_000, ..limits() }).await;
    eventually("the relay says what is wrong", Duration::from_secs(20), || {
        let health = board.health();
        health.parked_keys > 0 && health.last_error.is_some() && health.lag == RECORDS as u64 / 2
    })
    .await;
    assert!(board.health().span <= 5_000 + 4_096, "{:?}", board.health());
    broker.run("start").await;
    KafkaTopics::new(settings(&address)).unwrap().create_missing(&[TopicSpec::new(&topic, 4)]).await.unwrap();
    eventually("it is on its way", Duration::from_secs(60), || effects.distinct() > 1_000).await;
    broker.run("kill").await;
    commit(RECORDS / 2..RECORDS);
    eventually("the relay notices", Duration::from_secs(20), || board.health().lag > 0).await;
    broker.run("start").await;
    eventually("every record is written", Duration::from_secs(60), || board.health().lag == 0).await;
    eventually("every record is handled", Duration::from_secs(60), || effects.distinct() == RECORDS).await;
    eprintln!("{RECORDS} records, {} repeated", effects.all - RECORDS);
    supervisor.stop_and_wait(None, None).await.unwrap();
}
