//! What every log behind the ports must keep, and what the engine promises on each of them.
//!
//! `run_all(factory)` runs all of it; each implementation of the ports has a test file that calls it. A check makes topics of
//! its own, so a log may be shared. What a log cannot do it says ([`LogUnderTest::has_groups`] and the like), and only that
//! is left out.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, dead_code)]

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use microcommerce_bridge::{
    engine::{
        Bridge, CommitEvery, ExponentialBackoff, OpenSource, Outcome, RetryPolicy, Subscription, Topics, dead_letter,
        handler,
    },
    ports::{Assignment, Commit, Credit, LogSink, LogSource, PartitionOwner, SourceEvent},
    record::{Headers, OutgoingRecord, Record, TopicPartition},
};

/// A log that is to be tested.
pub trait LogUnderTest: Send + Sync + 'static {
    /// Makes a topic; it can be written and read when this returns.
    fn create_topic(&self, topic: &str, partitions: i32);
    /// Writes, in this order, and returns when all is acknowledged.
    fn write(&self, records: Vec<OutgoingRecord>);
    /// Everything in a topic now, in order within each partition.
    fn read_all(&self, topic: &str) -> Vec<Record>;
    /// Opens a member of a group. Called from any thread.
    fn open(&self, topics: &[Arc<str>], group: &str) -> Result<Box<dyn LogSource>, String>;
    /// Where the engine's dead letters go: to a topic of this log, readable by [`read_all`](Self::read_all).
    fn dead_letters(&self) -> Arc<dyn LogSink>;
    /// The longest wait for what takes milliseconds on an idle machine.
    fn patience(&self) -> Duration {
        Duration::from_secs(30)
    }
    /// How many partitions a topic can have; [`create_topic`](Self::create_topic) makes as many as it can.
    fn partitions_max(&self) -> usize {
        usize::MAX
    }
    /// Whether members share partitions.
    fn has_groups(&self) -> bool {
        true
    }
    /// Whether a commit's metadata is kept.
    fn keeps_metadata(&self) -> bool {
        true
    }
    /// Removes the records of a partition before `offset`, as retention does; false where this log cannot.
    fn remove_before(&self, _: &TopicPartition, _offset: i64) -> bool {
        false
    }
    /// Deletes a topic with all that is in it and makes it again with `partitions`; false where this log cannot.
    fn make_again(&self, _topic: &str, _partitions: i32) -> bool {
        false
    }
    /// Makes what lies from `first` to `last` unreadable; false where this log cannot.
    fn damage(&self, _: &TopicPartition, _first: i64, _last: i64) -> bool {
        false
    }
    /// Whether keys and values may be anything, nothing among it, and headers are kept.
    fn keeps_any_bytes(&self) -> bool {
        true
    }
}

type Log = Arc<dyn LogUnderTest>;

type Check = fn(&Log);

/// Every check, each on a log of `factory`.
pub fn run_all(factory: impl Fn() -> Log) {
    let checks: [(&str, Check); 13] = [
        ("records_come_whole_and_in_order", records_come_whole_and_in_order),
        ("any_bytes_come_as_they_were_written", any_bytes_come_as_they_were_written),
        ("without_credit_nothing_comes_and_nothing_is_lost", without_credit_nothing_comes_and_nothing_is_lost),
        ("a_member_begins_where_the_last_one_committed", a_member_begins_where_the_last_one_committed),
        ("close_revokes_everything_and_makes_its_commits", close_revokes_everything_and_makes_its_commits),
        ("a_partition_has_one_owner_at_a_time", a_partition_has_one_owner_at_a_time),
        ("the_engine_does_everything_in_order_per_key", the_engine_does_everything_in_order_per_key),
        ("the_engine_goes_on_where_it_left", the_engine_goes_on_where_it_left),
        ("what_fails_too_often_is_a_dead_letter", what_fails_too_often_is_a_dead_letter),
        ("records_that_are_gone_are_told_and_the_rest_is_done", records_that_are_gone_are_told_and_the_rest_is_done),
        ("a_log_that_is_made_again_is_read_from_its_start", a_log_that_is_made_again_is_read_from_its_start),
        (
            "a_log_made_again_that_has_outgrown_the_position_is_read_from_its_start",
            a_log_made_again_that_has_outgrown_the_position_is_read_from_its_start,
        ),
        (
            "what_cannot_be_read_is_a_dead_letter_and_is_stepped_over",
            what_cannot_be_read_is_a_dead_letter_and_is_stepped_over,
        ),
    ];
    for (name, check) in checks {
        eprintln!("conformance: {name}");
        check(&factory());
    }
}

/// A name nobody else uses.
pub fn unique(name: &str) -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    format!("{name}-{}-{}", since_epoch.as_micros(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

pub fn outgoing(topic: &str, key: impl Into<Bytes>, value: impl Into<Bytes>) -> OutgoingRecord {
    OutgoingRecord {
        topic: topic.into(),
        partition: None,
        key: Some(key.into()),
        value: Some(value.into()),
        timestamp_ms: None,
        headers: Headers::default(),
    }
}

/// `count` records over `keys` keys; the value is the number.
pub fn numbered(topic: &str, keys: u64, numbers: std::ops::Range<u64>) -> Vec<OutgoingRecord> {
    numbers.map(|number| outgoing(topic, format!("key-{}", number % keys), number.to_string())).collect()
}

pub fn number_of(record: &Record) -> u64 {
    std::str::from_utf8(record.value.as_ref().unwrap()).unwrap().parse().unwrap()
}

/// An owner that writes down what it is told.
#[derive(Default)]
pub struct Notes {
    pub credit: Option<Credit>,
    pub owned: BTreeMap<TopicPartition, Option<Commit>>,
    pub records: HashMap<TopicPartition, Vec<Record>>,
    pub results: Vec<(Commit, Result<(), String>)>,
    /// What is committed when a partition is revoked.
    pub last_commits: Vec<Commit>,
    pub revoked: Vec<TopicPartition>,
    pub lost: Vec<TopicPartition>,
}

const PLENTY: Credit = Credit { records: 10_000, bytes: 64 * 1_024 * 1_024 };

impl Notes {
    fn count(&self) -> usize {
        self.records.values().map(Vec::len).sum()
    }
}

impl PartitionOwner for Notes {
    fn assigned(&mut self, assignments: Vec<Assignment>) -> Vec<(TopicPartition, i64)> {
        for Assignment { partition, committed, .. } in assignments {
            assert!(self.owned.insert(partition.clone(), committed).is_none(), "{partition} was ours already");
        }
        Vec::new()
    }

    fn credit(&self, partition: &TopicPartition) -> Credit {
        assert!(self.owned.contains_key(partition), "{partition} is not ours");
        self.credit.unwrap_or(PLENTY)
    }

    fn records(&mut self, partition: &TopicPartition, records: Vec<Record>) {
        assert!(self.owned.contains_key(partition), "records of {partition}, which is not ours");
        let credit = self.credit(partition);
        assert!(records.len() <= credit.records, "{} records for a credit of {}", records.len(), credit.records);
        let all_but_last: usize = records.iter().rev().skip(1).map(Record::size_bytes).sum();
        assert!(all_but_last <= credit.bytes, "more than one record beyond the credit in bytes");
        let so_far = self.records.entry(partition.clone()).or_default();
        for record in records {
            assert_eq!((&record.topic, record.partition), (&partition.topic, partition.partition));
            assert!(so_far.last().is_none_or(|last| last.offset < record.offset), "offsets grow");
            so_far.push(record);
        }
    }

    fn revoked(&mut self, partitions: &[TopicPartition]) -> Vec<Commit> {
        for partition in partitions {
            assert!(self.owned.remove(partition).is_some(), "{partition} was not ours");
        }
        self.revoked.extend(partitions.iter().cloned());
        let (now, later) = std::mem::take(&mut self.last_commits)
            .into_iter()
            .partition(|commit| partitions.contains(&commit.partition));
        self.last_commits = later;
        now
    }

    fn lost(&mut self, partitions: &[TopicPartition]) {
        self.owned.retain(|owned, _| !partitions.contains(owned));
        self.lost.extend(partitions.iter().cloned());
    }

    fn committed(&mut self, commit: Commit, result: Result<(), String>) {
        self.results.push((commit, result));
    }

    fn event(&mut self, _: SourceEvent) {}
}

fn open(log: &Log, topic: &str, group: &str) -> Box<dyn LogSource> {
    log.open(&[topic.into()], group).unwrap()
}

fn poll_until(log: &Log, source: &mut dyn LogSource, notes: &mut Notes, what: &str, is_there: impl Fn(&Notes) -> bool) {
    let until = Instant::now() + log.patience();
    while !is_there(notes) {
        assert!(Instant::now() < until, "not in time: {what}; {} records came", notes.count());
        source.poll(Duration::from_millis(20), notes).unwrap();
    }
}

/// A few polls in which nothing more may happen.
fn poll_idly(source: &mut dyn LogSource, notes: &mut Notes) {
    let until = Instant::now() + Duration::from_millis(200);
    while Instant::now() < until {
        source.poll(Duration::from_millis(20), notes).unwrap();
    }
}

fn assert_all_came(notes: &Notes, keys: u64, numbers: std::ops::Range<u64>) {
    let mut by_key: HashMap<Bytes, Vec<u64>> = HashMap::new();
    for record in notes.records.values().flatten() {
        by_key.entry(record.key.clone().unwrap()).or_default().push(number_of(record));
    }
    for key in 0..keys {
        let expected: Vec<u64> = numbers.clone().filter(|number| number % keys == key).collect();
        let came = by_key.remove(format!("key-{key}").as_bytes()).unwrap_or_default();
        assert_eq!(came, expected, "key {key}");
    }
    assert!(by_key.is_empty(), "keys that were never written: {by_key:?}");
}

fn records_come_whole_and_in_order(log: &Log) {
    let (topic, group) = (unique("whole"), unique("group"));
    log.create_topic(&topic, 4);
    log.write(numbered(&topic, 20, 0..500));
    let (mut source, mut notes) = (open(log, &topic, &group), Notes::default());
    poll_until(log, &mut *source, &mut notes, "all records", |notes| notes.count() >= 500);
    log.write(numbered(&topic, 20, 500..1_000));
    poll_until(log, &mut *source, &mut notes, "what was written meanwhile", |notes| notes.count() >= 1_000);
    poll_idly(&mut *source, &mut notes);
    assert_all_came(&notes, 20, 0..1_000);
    source.close(&mut notes);
}

fn any_bytes_come_as_they_were_written(log: &Log) {
    if !log.keeps_any_bytes() {
        return;
    }
    let (topic, group) = (unique("bytes"), unique("group"));
    log.create_topic(&topic, 1);
    let of = |key: Option<&'static [u8]>, value: Option<&'static [u8]>, headers: Headers| OutgoingRecord {
        topic: topic.as_str().into(),
        partition: Some(0),
        key: key.map(Bytes::from_static),
        value: value.map(Bytes::from_static),
        timestamp_ms: Some(1_700_000_000_123),
        headers,
    };
    let headers = Headers::default().with("one", "1").with("one", "2").with("empty", "");
    let written = vec![
        of(Some(b"k"), Some(b"v"), headers),
        of(None, Some(b"\x00\xff"), Headers::default()),
        of(Some(b""), None, Headers::default()),
        of(Some(b"\xfe"), Some(b""), Headers::default()),
    ];
    log.write(written.clone());
    let (mut source, mut notes) = (open(log, &topic, &group), Notes::default());
    poll_until(log, &mut *source, &mut notes, "all records", |notes| notes.count() >= written.len());
    for (read, written) in notes.records.values().flatten().zip(&written) {
        let was = (&written.key, &written.value, &written.headers, written.timestamp_ms);
        assert_eq!((&read.key, &read.value, &read.headers, read.timestamp_ms), was);
    }
    source.close(&mut notes);
}

fn without_credit_nothing_comes_and_nothing_is_lost(log: &Log) {
    let (topic, group) = (unique("credit"), unique("group"));
    log.create_topic(&topic, 2);
    log.write(numbered(&topic, 10, 0..300));
    let mut notes = Notes { credit: Some(Credit::NONE), ..Notes::default() };
    let mut source = open(log, &topic, &group);
    poll_until(log, &mut *source, &mut notes, "the assignment", |notes| {
        notes.owned.len() == log.partitions_max().min(2)
    });
    poll_idly(&mut *source, &mut notes);
    assert_eq!(notes.count(), 0);
    notes.credit = Some(Credit { records: 7, bytes: 1_000_000 });
    poll_until(log, &mut *source, &mut notes, "some records", |notes| notes.count() >= 20);
    notes.credit = Some(Credit::NONE);
    let so_far = notes.count();
    poll_idly(&mut *source, &mut notes);
    assert_eq!(notes.count(), so_far);
    // One byte lets one record through at a time.
    notes.credit = Some(Credit { records: 100, bytes: 1 });
    poll_until(log, &mut *source, &mut notes, "all records", |notes| notes.count() >= 300);
    assert_all_came(&notes, 10, 0..300);
    source.close(&mut notes);
}

fn a_member_begins_where_the_last_one_committed(log: &Log) {
    let (topic, group) = (unique("commit"), unique("group"));
    log.create_topic(&topic, 1);
    log.write(numbered(&topic, 1, 0..10));
    let (mut source, mut notes) = (open(log, &topic, &group), Notes::default());
    poll_until(log, &mut *source, &mut notes, "all records", |notes| notes.count() >= 10);
    let partition = notes.owned.keys().next().unwrap().clone();
    assert_eq!(notes.owned[&partition], None, "nothing was committed before");
    let (third, fourth) = (notes.records[&partition][3].offset, notes.records[&partition][4].offset);
    let commit = Commit { partition: partition.clone(), offset: fourth, metadata: "g1:BA".to_owned(), log_id: None };
    source.commit(vec![commit.clone()]);
    poll_until(log, &mut *source, &mut notes, "the commit's result", |notes| !notes.results.is_empty());
    assert_eq!(notes.results, [(commit.clone(), Ok(()))]);
    source.close(&mut notes);

    let (mut source, mut notes) = (open(log, &topic, &group), Notes::default());
    poll_until(log, &mut *source, &mut notes, "the rest", |notes| notes.count() >= 6);
    poll_idly(&mut *source, &mut notes);
    let rest: Vec<u64> = notes.records[&partition].iter().map(number_of).collect();
    assert_eq!(rest, [4, 5, 6, 7, 8, 9]);
    let seen = notes.owned[&partition].clone().unwrap();
    // Any offset from behind the record before is the same place.
    assert!(seen.offset > third && seen.offset <= fourth, "{} is not between {third} and {fourth}", seen.offset);
    if log.keeps_metadata() {
        assert_eq!(seen.metadata, commit.metadata);
    }
    source.close(&mut notes);
}

fn close_revokes_everything_and_makes_its_commits(log: &Log) {
    let (topic, group) = (unique("close"), unique("group"));
    log.create_topic(&topic, 3);
    log.write(numbered(&topic, 30, 0..90));
    let (mut source, mut notes) = (open(log, &topic, &group), Notes::default());
    poll_until(log, &mut *source, &mut notes, "all records", |notes| notes.count() >= 90);
    let end = |(partition, records): (&TopicPartition, &Vec<Record>)| Commit {
        partition: partition.clone(),
        offset: records.last().unwrap().offset + 1,
        metadata: String::new(),
        log_id: None,
    };
    notes.last_commits = notes.records.iter().map(end).collect();
    source.close(&mut notes);
    assert!(
        notes.owned.is_empty() && notes.last_commits.is_empty() && notes.revoked.len() == log.partitions_max().min(3)
    );

    log.write(numbered(&topic, 30, 90..120));
    let (mut source, mut notes) = (open(log, &topic, &group), Notes::default());
    poll_until(log, &mut *source, &mut notes, "what is new", |notes| notes.count() >= 30);
    poll_idly(&mut *source, &mut notes);
    assert_all_came(&notes, 30, 90..120);
    source.close(&mut notes);
}

fn a_partition_has_one_owner_at_a_time(log: &Log) {
    if !log.has_groups() {
        return;
    }
    let (topic, group) = (unique("owner"), unique("group"));
    log.create_topic(&topic, 4);
    let (mut first, mut firsts) = (open(log, &topic, &group), Notes::default());
    poll_until(log, &mut *first, &mut firsts, "the assignment", |notes| notes.owned.len() == 4);
    let (mut second, mut seconds) = (open(log, &topic, &group), Notes::default());
    let until = Instant::now() + log.patience();
    while firsts.owned.len() != 2 || seconds.owned.len() != 2 {
        assert!(Instant::now() < until, "not shared in time: {} and {}", firsts.owned.len(), seconds.owned.len());
        first.poll(Duration::from_millis(20), &mut firsts).unwrap();
        second.poll(Duration::from_millis(20), &mut seconds).unwrap();
        assert!(firsts.owned.keys().all(|partition| !seconds.owned.contains_key(partition)), "two owners");
    }
    assert_eq!((firsts.revoked.len(), firsts.lost.len()), (2, 0));
    first.close(&mut firsts);
    poll_until(log, &mut *second, &mut seconds, "the other's share", |notes| notes.owned.len() == 4);
    second.close(&mut seconds);
}

// ── the engine on this log ────────────────────────────────────────────────────────────────────────────────────────

pub fn source_of(log: &Log) -> OpenSource {
    let log = Arc::clone(log);
    Arc::new(move |subscription| match &subscription.topics {
        Topics::Named(topics) => log.open(topics, &subscription.group),
        Topics::Matching(_) => Err("these tests name their topics".to_owned()),
    })
}

/// What the handlers did, in order.
pub type Done = Arc<Mutex<HashMap<Bytes, Vec<u64>>>>;

pub fn count(done: &Done) -> usize {
    done.lock().unwrap().values().map(Vec::len).sum()
}

/// Runs a bridge with one subscription until `is_done`, and stops it in order.
pub fn run_until(
    log: &Log,
    subscription: impl FnOnce() -> Subscription,
    what: &str,
    mut is_done: impl FnMut(&Bridge) -> bool,
) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let bridge = Bridge::builder().dead_letters(log.dead_letters()).subscribe(subscription()).build().unwrap();
        let supervisor = bridge.start().await.unwrap();
        let until = Instant::now() + log.patience();
        while !is_done(&bridge) {
            assert!(Instant::now() < until, "not in time: {what}; {:#?}", bridge.health());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        supervisor.stop_and_wait(None, Some(log.patience())).await.unwrap();
    });
}

fn subscribe(log: &Log, topic: &str, group: &str, handler: impl handler::Handler) -> Subscription {
    Subscription::new("conformance", group, Topics::Named(vec![topic.into()]), source_of(log), handler)
        .commit(CommitEvery { every: Duration::from_millis(50), records: 1_000 })
}

fn noting(done: &Done) -> impl handler::Handler + use<> {
    let done = Arc::clone(done);
    handler::each(64, move |record| {
        let done = Arc::clone(&done);
        async move {
            tokio::task::yield_now().await;
            done.lock().unwrap().entry(record.key.clone().unwrap()).or_default().push(number_of(&record));
            Outcome::Done
        }
    })
}

pub fn assert_done_in_order(done: &Done, keys: u64, numbers: std::ops::Range<u64>) {
    let done = done.lock().unwrap();
    for key in 0..keys {
        let expected: Vec<u64> = numbers.clone().filter(|number| number % keys == key).collect();
        assert_eq!(done[format!("key-{key}").as_bytes()], expected, "key {key}");
    }
}

fn the_engine_does_everything_in_order_per_key(log: &Log) {
    let (topic, group) = (unique("engine"), unique("group"));
    log.create_topic(&topic, 4);
    log.write(numbered(&topic, 100, 0..5_000));
    let done = Done::default();
    run_until(log, || subscribe(log, &topic, &group, noting(&done)), "all is done", |_| count(&done) >= 5_000);
    assert_done_in_order(&done, 100, 0..5_000);
}

/// With a handler that is quick enough for the drain, a stop in order repeats nothing; but what was finished above the frontier
/// is known to the next owner only from the commit's metadata: a log that keeps none gives it again, in order.
fn the_engine_goes_on_where_it_left(log: &Log) {
    let (topic, group) = (unique("again"), unique("group"));
    log.create_topic(&topic, 2);
    log.write(numbered(&topic, 50, 0..2_000));
    let done = Done::default();
    for part in 1..=4 {
        let enough = part * 500;
        run_until(log, || subscribe(log, &topic, &group, noting(&done)), "a part is done", |_| count(&done) >= enough);
    }
    if !log.keeps_metadata() {
        run_until(
            log,
            || subscribe(log, &topic, &group, noting(&done)),
            "the rest is done",
            |_| {
                without_repetitions(&done);
                count(&done) >= 2_000
            },
        );
    }
    assert_done_in_order(&done, 50, 0..2_000);
}

/// Leaves what was done for the first time.
fn without_repetitions(done: &Done) {
    for numbers in done.lock().unwrap().values_mut() {
        let mut greatest = None;
        numbers.retain(|number| {
            let is_new = greatest.is_none_or(|greatest| *number > greatest);
            greatest = greatest.max(Some(*number));
            is_new
        });
    }
}

fn what_fails_too_often_is_a_dead_letter(log: &Log) {
    let (topic, group) = (unique("dead"), unique("group"));
    log.create_topic(&topic, 2);
    log.create_topic(&dead_letter::dead_letter_topic(&topic), 1);
    log.write(numbered(&topic, 10, 0..100));
    let done = Done::default();
    let (noted, (tried, tries)) = (Arc::clone(&done), mpsc::channel());
    let handler = || {
        let (noted, tried) = (Arc::clone(&noted), tried.clone());
        handler::each(16, move |record| {
            let number = number_of(&record);
            let is_bad = number == 42;
            if is_bad {
                tried.send(()).unwrap();
            } else {
                noted.lock().unwrap().entry(record.key.clone().unwrap()).or_default().push(number);
            }
            async move { if is_bad { Outcome::retry("it is 42") } else { Outcome::Done } }
        })
    };
    let backoff = ExponentialBackoff { first: Duration::from_millis(1), max: Duration::from_millis(5) };
    let retry = RetryPolicy { attempts_max: 3, backoff, ..RetryPolicy::default() };
    let dead_letter_topic = dead_letter::dead_letter_topic(&topic);
    let is_written = |_: &Bridge| count(&done) >= 99 && log.read_all(&dead_letter_topic).len() == 1;
    run_until(log, || subscribe(log, &topic, &group, handler()).retry(retry), "the dead letter", is_written);
    assert_eq!(tries.try_iter().count(), 3);
    let letter = log.read_all(&dead_letter_topic).remove(0);
    let header = |name: &str| letter.headers.text(name).unwrap().unwrap().to_owned();
    assert_eq!([header(dead_letter::ORIGIN_TOPIC), header(dead_letter::GROUP)], [topic.clone(), group.clone()]);
    assert_eq!([header(dead_letter::ATTEMPTS), header(dead_letter::ERROR)], ["3", "it is 42"]);
    let replayed = dead_letter::replay(&letter).unwrap();
    assert_eq!((&*replayed.topic, replayed.value.as_deref()), (&*topic, Some(&b"42"[..])));
    // It is finished: the group does not try it again.
    log.write(numbered(&topic, 10, 100..110));
    run_until(log, || subscribe(log, &topic, &group, handler()).retry(retry), "the rest", |_| count(&done) >= 109);
    assert_eq!(tries.try_iter().count(), 0);
}

// ── logs that are not what they were ──────────────────────────────────────────────────────────────────────────────

/// The numbers that were done, once each, in order.
fn numbers(done: &Done) -> Vec<u64> {
    let mut numbers: Vec<u64> = done.lock().unwrap().values().flatten().copied().collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// The ranges that the dead letters of a kind name.
fn ranges_of(log: &Log, topic: &str, kind: &str) -> Vec<(String, String)> {
    let letters = log.read_all(&dead_letter::dead_letter_topic(topic));
    let of_kind = letters.iter().filter(|letter| letter.headers.text(dead_letter::ERROR_KIND) == Ok(Some(kind)));
    let header = |letter: &Record, name: &str| letter.headers.text(name).unwrap().unwrap().to_owned();
    of_kind
        .map(|letter| (header(letter, dead_letter::ORIGIN_OFFSET), header(letter, dead_letter::ORIGIN_LAST_OFFSET)))
        .collect()
}

/// Retention ran ahead while nobody was there: nothing of what is left is missing, and the gap is a dead letter and a complaint until
/// somebody has seen to it.
fn records_that_are_gone_are_told_and_the_rest_is_done(log: &Log) {
    let (topic, group) = (unique("gap"), unique("group"));
    log.create_topic(&topic, 1);
    log.create_topic(&dead_letter::dead_letter_topic(&topic), 1);
    log.write(numbered(&topic, 3, 0..10));
    let done = Done::default();
    run_until(log, || subscribe(log, &topic, &group, noting(&done)), "ten are done", |_| count(&done) >= 10);
    log.write(numbered(&topic, 3, 10..20));
    if !log.remove_before(&TopicPartition::new(topic.as_str(), 0), 14) {
        return;
    }
    run_until(
        log,
        || subscribe(log, &topic, &group, noting(&done)),
        "the gap is told and the rest is done",
        |bridge| {
            let health = bridge.health().remove(0);
            let is_told = health.complaints.iter().any(|words| words.contains("lost the records 10 to 13"));
            if !(is_told && count(&done) >= 16 && ranges_of(log, &topic, "lost").len() == 1) {
                return false;
            }
            assert_eq!((health.losses.lost, health.is_healthy), (4, false));
            let range = bridge.lost_ranges().remove(0);
            assert_eq!((&*range.topic, range.partition, range.first, range.last), (&*topic, 0, 10, 13));
            assert_eq!((bridge.acknowledge_loss(), bridge.acknowledge_loss()), (1, 0));
            assert!(!bridge.health()[0].complaints.iter().any(|words| words.contains("lost")));
            true
        },
    );
    assert_eq!(numbers(&done), (0..10).chain(14..20).collect::<Vec<u64>>());
    assert_eq!(ranges_of(log, &topic, "lost"), [("10".to_owned(), "13".to_owned())]);
    // It is told once: the commit is past it.
    log.write(numbered(&topic, 3, 20..22));
    run_until(log, || subscribe(log, &topic, &group, noting(&done)), "what is new", |_| count(&done) >= 18);
    assert_eq!(ranges_of(log, &topic, "lost").len(), 1);
}

/// While a subscription runs. Its positions are of the former log, and nothing of the new one may count as done because of them.
fn a_log_that_is_made_again_is_read_from_its_start(log: &Log) {
    made_again(log, "shorter", 20..25);
}

/// The new log has records at every offset that the position could be compared with: only its identity tells.
fn a_log_made_again_that_has_outgrown_the_position_is_read_from_its_start(log: &Log) {
    made_again(log, "longer", 20..60);
}

fn made_again(log: &Log, what: &str, later: std::ops::Range<u64>) {
    let (topic, group) = (unique(what), unique("group"));
    log.create_topic(&topic, 1);
    log.create_topic(&dead_letter::dead_letter_topic(&topic), 1);
    log.write(numbered(&topic, 3, 0..10));
    let (done, mut stage) = (Done::default(), 0);
    run_until(
        log,
        || subscribe(log, &topic, &group, noting(&done)),
        "the new log is read to its end, and said to have gone back",
        |bridge| {
            if stage == 0 && count(&done) >= 10 {
                stage = 1;
                // On a thread of its own: a log may have a runtime of its own, and this is the engine's.
                let is_made = thread::scope(|scope| {
                    let make = || {
                        let is_made = log.make_again(&topic, 1);
                        if is_made {
                            log.write(numbered(&topic, 3, later.clone()));
                        }
                        is_made
                    };
                    scope.spawn(make).join().unwrap()
                });
                if !is_made {
                    stage = 3;
                    return true;
                }
            }
            let health = bridge.health().remove(0);
            if stage == 1 && health.losses.went_back > 0 {
                assert!(health.complaints.iter().any(|words| words.contains("went back")), "{:?}", health.complaints);
                stage = 2;
            }
            stage == 2 && numbers(&done).ends_with(&later.clone().collect::<Vec<u64>>())
        },
    );
    if stage == 3 {
        return;
    }
    // And the group goes on from there.
    log.write(numbered(&topic, 3, 100..103));
    run_until(
        log,
        || subscribe(log, &topic, &group, noting(&done)),
        "what is new",
        |_| numbers(&done).ends_with(&[100, 101, 102]),
    );
    assert_eq!(numbers(&done), (0..10).chain(later).chain(100..103).collect::<Vec<u64>>());
}

fn what_cannot_be_read_is_a_dead_letter_and_is_stepped_over(log: &Log) {
    let (topic, group) = (unique("damaged"), unique("group"));
    log.create_topic(&topic, 1);
    log.create_topic(&dead_letter::dead_letter_topic(&topic), 1);
    log.write(numbered(&topic, 3, 0..10));
    let partition = TopicPartition::new(topic.as_str(), 0);
    if !(log.damage(&partition, 3, 5) && log.damage(&partition, 8, 9)) {
        return;
    }
    let done = Done::default();
    let is_over = |bridge: &Bridge| {
        let losses = bridge.health()[0].losses;
        count(&done) >= 5 && losses.unreadable == 5 && ranges_of(log, &topic, "unreadable").len() == 2
    };
    run_until(log, || subscribe(log, &topic, &group, noting(&done)), "the rest is done", is_over);
    assert_eq!(numbers(&done), [0, 1, 2, 6, 7]);
    let range = |first: i64, last: i64| (first.to_string(), last.to_string());
    assert_eq!(ranges_of(log, &topic, "unreadable"), [range(3, 5), range(8, 9)]);
    // Once: the commit is past it, though nothing came behind.
    log.write(numbered(&topic, 3, 10..12));
    run_until(log, || subscribe(log, &topic, &group, noting(&done)), "what is new", |_| count(&done) >= 7);
    assert_eq!(ranges_of(log, &topic, "unreadable").len(), 2);
}
