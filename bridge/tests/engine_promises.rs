//! What the engine promises of a batch, of late answers, of mailboxes and of its bounds. Each assertion has a name, and each loop an end:
//! a mistake shows as a sentence, not as a run that never ends.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use microcommerce_bridge::{
    embedded::{
        dead_letters::JournalDeadLetters,
        source::{JournalSource, JournalSourceArguments, offset_of},
    },
    engine::{
        Bridge, CommitEvery, Delivery, Exhausted, ExponentialBackoff, OnDeadKey, Outcome, RetryPolicy, Subscription,
        Topics,
        delivery::Ticket,
        handler::{self, Mailboxes},
        lanes::KeyLanes,
        partition_core::{CoreSettings, Orders, PartitionCore, QUARANTINED_KEYS_MAX},
    },
    memory::MemoryLog,
    ports::{
        Assignment, Commit, Credit, LogSink, LogSource, OutboxEntry, PartitionOwner, SinkError, SourceEvent,
        SourceFatal, Written,
    },
    record::{Headers, OutgoingRecord, Record, TopicPartition},
    relay::{RelayLimits, ledger::RelayLedger},
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use runtime::{
    CommandId, Current, Journal,
    journal::{Append, Fence, NewEvent},
    testkit::{Faults, MemoryDisk, MemoryJournal},
};
use support::{PATIENCE, eventually};
use tokio::{runtime::Runtime, time::timeout};

const SETTINGS: CoreSettings = CoreSettings {
    retry: RetryPolicy {
        attempts_max: 3,
        backoff: ExponentialBackoff { first: Duration::from_millis(10), max: Duration::from_millis(10) },
        jitter: 0.0,
        exhausted: Exhausted::DeadLetter,
    },
    on_dead_key: OnDeadKey::Continue,
    lane_batch_max: 4,
    in_flight_max: 100_000,
    seed: 0,
};

fn record(offset: i64, key: &str) -> Record {
    let (topic, key) = ("t".into(), Some(Bytes::copy_from_slice(key.as_bytes())));
    Record { topic, partition: 0, offset, timestamp_ms: None, key, value: None, headers: Headers::default() }
}

/// What a turn orders: (offset, attempt, ticket) of each delivery.
fn given(core: &mut PartitionCore, now_ms: i64) -> Vec<(i64, u32, Ticket)> {
    let mut orders = Orders::default();
    core.turn(now_ms, &mut orders);
    assert!(orders.dead_letters.is_empty(), "no dead letter is due");
    let of = |order: &microcommerce_bridge::engine::partition_core::DeliveryOrder| {
        (order.records[order.index as usize].offset, order.attempt, order.ticket)
    };
    orders.deliveries.iter().map(of).collect()
}

fn offsets_and_attempts(given: &[(i64, u32, Ticket)]) -> Vec<(i64, u32)> {
    given.iter().map(|(offset, attempt, _)| (*offset, *attempt)).collect()
}

// ── a batch of one key ────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn what_is_behind_a_failed_record_of_its_batch_is_given_again_behind_it_and_spends_no_attempt() {
    let mut core = PartitionCore::new(SETTINGS, None);
    core.receive((0..5).map(|offset| record(offset, "a")).collect(), 0);
    for failures in 1..=2 {
        let batch = given(&mut core, failures * 1_000);
        let attempt = failures as u32;
        // Only the first has failed, and only its attempts are counted.
        assert_eq!(offsets_and_attempts(&batch), [(0, attempt), (1, 1), (2, 1), (3, 1)], "round {failures}");
        core.settle(batch[0].2, Outcome::retry("no"), failures * 1_000);
        for (_, _, ticket) in &batch[1..] {
            assert_eq!(core.delivered(), 3 - (batch.iter().position(|(_, _, other)| other == ticket).unwrap() - 1));
            core.dropped(*ticket, false, failures * 1_000);
        }
        assert_eq!((core.delivered(), core.unfinished()), (0, 5), "all are kept");
        assert!(given(&mut core, failures * 1_000 + 9).is_empty(), "the lane waits as a whole");
    }
    // The third failure of the first uses its tries up: it alone is a dead letter, and the rest goes on in order.
    let batch = given(&mut core, 3_000);
    core.settle(batch[0].2, Outcome::retry("no"), 3_000);
    batch[1..].iter().for_each(|(_, _, ticket)| core.dropped(*ticket, false, 3_000));
    let mut orders = Orders::default();
    core.turn(3_000, &mut orders);
    assert_eq!((orders.deliveries.len(), orders.dead_letters.len()), (0, 1), "the dead letter holds its lane");
    assert_eq!(orders.dead_letters[0].failure.attempts, 3);
    core.dead_letter_written(orders.dead_letters[0].ticket, Ok(()), 3_000);
    assert_eq!(offsets_and_attempts(&given(&mut core, 3_000)), [(1, 1), (2, 1), (3, 1), (4, 1)]);
}

#[test]
fn what_is_done_behind_a_failed_record_of_its_batch_stays_done() {
    let mut core = PartitionCore::new(SETTINGS, None);
    core.receive((0..4).map(|offset| record(offset, "a")).collect(), 0);
    let batch = given(&mut core, 0);
    core.settle(batch[0].2, Outcome::retry("no"), 0);
    core.settle(batch[1].2, Outcome::Done, 0);
    core.settle(batch[2].2, Outcome::Skip, 0);
    core.settle(batch[3].2, Outcome::not_now("busy"), 0);
    assert_eq!((core.counters().done, core.counters().skipped, core.unfinished()), (1, 1, 2));
    assert_eq!(core.frontier(), Some(0), "the frontier waits for the first");
    assert_eq!(offsets_and_attempts(&given(&mut core, 1_000)), [(0, 2), (3, 1)]);
}

#[test]
fn a_dead_letter_in_the_middle_of_a_batch_is_given_up_in_its_turn() {
    let mut core = PartitionCore::new(SETTINGS, None);
    core.receive((0..3).map(|offset| record(offset, "a")).collect(), 0);
    let batch = given(&mut core, 0);
    core.settle(batch[0].2, Outcome::retry("no"), 0);
    core.settle(batch[1].2, Outcome::dead_letter("never"), 0);
    core.settle(batch[2].2, Outcome::Done, 0);
    // The first of the lane has its say first: the second is not passed.
    let again = given(&mut core, 1_000);
    assert_eq!(offsets_and_attempts(&again), [(0, 2)]);
    core.settle(again[0].2, Outcome::Done, 1_000);
    let mut orders = Orders::default();
    core.turn(1_000, &mut orders);
    assert_eq!((orders.deliveries.len(), orders.dead_letters.len()), (0, 1), "now it is the second's turn");
    core.dead_letter_written(orders.dead_letters[0].ticket, Ok(()), 1_000);
    assert_eq!((core.frontier(), core.unfinished()), (Some(3), 0));
}

// ── answers that nobody waits for ─────────────────────────────────────────────────────────────────────────────────

#[test]
fn an_answer_of_the_dead_letters_that_nobody_waits_for_changes_nothing() {
    let mut core = PartitionCore::new(CoreSettings { lane_batch_max: 1, ..SETTINGS }, None);
    core.receive(vec![record(0, "a"), record(1, "a"), record(2, "b")], 0);
    let first = given(&mut core, 0);
    core.settle(first[0].2, Outcome::dead_letter("never"), 0);
    let mut orders = Orders::default();
    core.turn(0, &mut orders);
    let ticket = orders.dead_letters[0].ticket;
    // Of another lane, which is with the handler; of another record of the same lane; of a lane that there is not.
    let wrong = [
        first[1].2,
        Ticket { sequence: ticket.sequence + 1, lane: ticket.lane },
        Ticket { sequence: ticket.sequence, lane: ticket.lane + 100 },
    ];
    for (stale, ticket) in (1..).zip(wrong) {
        core.dead_letter_written(ticket, Ok(()), 0);
        let counters = core.counters();
        assert_eq!((counters.stale, counters.dead_letters, core.dead_lettering()), (stale, 0, 1), "{ticket:?}");
        assert_eq!((core.frontier(), core.unfinished()), (Some(0), 3), "nothing is finished by {ticket:?}");
    }
    core.dead_letter_written(ticket, Ok(()), 0);
    assert_eq!((core.counters().dead_letters, core.frontier()), (1, Some(1)));
    // The same again, now that the lane holds its next record.
    core.dead_letter_written(ticket, Ok(()), 0);
    assert_eq!((core.counters().stale, core.frontier(), core.unfinished()), (4, Some(1), 2));
}

// ── bounds ────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn keys_in_quarantine_are_bounded_and_beyond_the_bound_a_dead_letter_waits_and_nothing_is_lost() {
    let settings = CoreSettings { on_dead_key: OnDeadKey::Quarantine, lane_batch_max: 1, ..SETTINGS };
    let mut core = PartitionCore::new(settings, None);
    let count = QUARANTINED_KEYS_MAX as i64;
    assert_eq!(QUARANTINED_KEYS_MAX, 10_000, "the promised bound");
    core.receive((0..=count).map(|offset| record(offset, &format!("key-{offset}"))).collect(), 0);
    let mut orders = Orders::default();
    core.turn(0, &mut orders);
    assert_eq!(orders.deliveries.len(), QUARANTINED_KEYS_MAX + 1);
    for order in orders.deliveries.drain(..) {
        core.settle(order.ticket, Outcome::dead_letter("never"), 0);
    }
    // One after another: the bound counts keys, not what is on its way.
    let mut written = 0;
    for _ in 0..=QUARANTINED_KEYS_MAX {
        core.turn(0, &mut orders);
        for order in orders.dead_letters.drain(..) {
            core.dead_letter_written(order.ticket, Ok(()), 0);
            written += 1;
        }
    }
    // All were ordered in one turn, while there was room: the next key finds none.
    core.receive(vec![record(count + 1, "one more")], 1);
    core.turn(1, &mut orders);
    let last = orders.deliveries.drain(..).next().expect("a new key is delivered");
    core.settle(last.ticket, Outcome::dead_letter("never"), 1);
    core.turn(1, &mut orders);
    assert!(orders.dead_letters.is_empty(), "{written} keys are in quarantine: there is no room for one more");
    assert!(
        core.dead_letter_error().is_some_and(|error| error.contains("10000 keys")),
        "{:?}",
        core.dead_letter_error()
    );
    assert_eq!((core.unfinished(), core.frontier()), (1, Some(count + 1)), "it waits");
    // Later records of a quarantined key follow it all the same: they need no room.
    core.receive(vec![record(count + 2, "key-3")], 2);
    core.turn(2, &mut orders);
    assert_eq!((orders.deliveries.len(), orders.dead_letters.len()), (0, 1), "a quarantined key's record follows it");
    let follower = orders.dead_letters.pop().unwrap();
    core.dead_letter_written(follower.ticket, Ok(()), 2);
    // Room comes with a key that is released.
    assert!(core.release_key(b"key-0") && core.release_key(b"key-1"));
    core.turn(1_000_000, &mut orders);
    assert_eq!(orders.dead_letters.len(), 1, "now it is written");
}

/// The relay's ledger takes one reading more than fits, and then no more before enough is written: its bound in bytes is 64 MiB.
#[test]
fn a_relay_reads_no_further_than_its_bound_in_bytes_and_on_once_enough_is_written() {
    const MIB: usize = 1 << 20;
    let limits = RelayLimits::default();
    assert_eq!(limits.bytes_max, 64 * MIB, "the promised bound");
    let mut ledger = RelayLedger::new(0, limits);
    let mut position = 0;
    // Each a mebibyte with its key: 64 of them fill it.
    while ledger.has_room() {
        position += 1;
        assert!(position <= 64, "{position} MiB are read, and there is still room");
        let key = format!("k{position:03}");
        let record = OutgoingRecord { value: Some(vec![b'v'; MIB - key.len()].into()), ..outgoing(&key, 0) };
        ledger.push(OutboxEntry { position, records: vec![record] });
    }
    assert_eq!((position, ledger.counts().bytes), (64, 64 * MIB), "it is full at its bound and not before");
    let now = Instant::now();
    let (ticket, _) = ledger.next(now).expect("a record to be written");
    assert!(!ledger.has_room(), "what is only on its way is still held");
    ledger.settle(ticket, Ok(Written { partition: 0, offset: 0 }), now, 0.0);
    assert!(ledger.has_room() && ledger.counts().bytes == 63 * MIB, "what is written is not");
}

/// As many turns as there are lanes find each of them once, whatever is done with it.
#[test]
fn every_lane_is_found_once_and_then_there_is_none() {
    let mut lanes: KeyLanes<u32> = KeyLanes::default();
    let keys: Vec<Bytes> = (0..50).map(|key| Bytes::from(format!("key-{key}"))).collect();
    (0..200_u32).for_each(|entry| lanes.push(Some(&keys[entry as usize % keys.len()]), entry));
    let mut found = BTreeSet::new();
    for turn in 0..keys.len() {
        let lane = lanes.next_ready().unwrap_or_else(|| panic!("turn {turn} finds no lane"));
        assert!(found.insert(lane), "lane {lane} is found twice");
        lanes.deliver(lane, 1);
    }
    assert_eq!((lanes.next_ready(), lanes.none_is_ready()), (None, true), "every lane has its turn once");
    assert_eq!((lanes.lanes(), lanes.entries()), (50, 200));
    for round in 1..=4 {
        for lane in &found {
            assert_eq!(lanes.came_back(*lane), 0);
            assert!(lanes.pop_delivered(*lane).is_some(), "round {round}");
            lanes.release(*lane);
            if round < 4 {
                assert_eq!(lanes.next_ready(), Some(*lane), "a lane that still holds entries is ready again");
                lanes.deliver(*lane, 1);
            }
        }
    }
    assert_eq!((lanes.next_ready(), lanes.lanes(), lanes.entries()), (None, 0, 0), "a lane without entries is gone");
}

// ── a key and its mailbox ─────────────────────────────────────────────────────────────────────────────────────────

struct Noting(usize);

struct Given(Vec<Delivery>);

impl From<Vec<Delivery>> for Given {
    fn from(deliveries: Vec<Delivery>) -> Self {
        Self(deliveries)
    }
}

/// Which mailboxes a key was seen in.
type Seen = Arc<Mutex<BTreeMap<Bytes, BTreeSet<usize>>>>;

impl Actor for Noting {
    type Msg = Given;
    type State = Seen;
    type Arguments = Seen;

    async fn pre_start(&self, _: ActorRef<Given>, seen: Seen) -> Result<Seen, ActorProcessingErr> {
        Ok(seen)
    }

    async fn handle(
        &self,
        _: ActorRef<Given>,
        Given(deliveries): Given,
        seen: &mut Seen,
    ) -> Result<(), ActorProcessingErr> {
        for delivery in &deliveries {
            let key = delivery.record().key.clone().unwrap();
            seen.lock().unwrap().entry(key).or_default().insert(self.0);
        }
        Delivery::settle_all(deliveries, |_| Outcome::Done);
        Ok(())
    }
}

fn outgoing(key: &str, value: u64) -> OutgoingRecord {
    OutgoingRecord {
        topic: "orders".into(),
        partition: None,
        key: Some(Bytes::copy_from_slice(key.as_bytes())),
        value: Some(value.to_string().into()),
        timestamp_ms: None,
        headers: Headers::default(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_never_changes_its_mailbox_whatever_comes_with_it_and_whoever_owns_the_partition() {
    let (log, seen) = (MemoryLog::new(), Seen::default());
    log.create_topic("orders", 4);
    let mut places = Vec::new();
    for number in 0..7 {
        let place = Current::empty();
        place.set(Actor::spawn(None, Noting(number), Arc::clone(&seen)).await.unwrap().0);
        places.push(place);
    }
    for round in 0..3_u64 {
        // Another number of records in each turn, and another owner in each round.
        (0..500 + 37 * round)
            .for_each(|number| _ = log.write(outgoing(&format!("key-{}", number % 60), number)).unwrap());
        let from = log.clone();
        let open: microcommerce_bridge::engine::OpenSource = Arc::new(move |subscription| match &subscription.topics {
            Topics::Named(topics) => Ok(from.source(topics, &subscription.group)),
            Topics::Matching(_) => Err("named topics only".to_owned()),
        });
        let handler = Mailboxes::<Given>::shared(places.clone());
        let subscription = Subscription::new("orders", "group", Topics::Named(vec!["orders".into()]), open, handler);
        let bridge = Bridge::builder().dead_letters(log.sink()).subscribe(subscription).build().unwrap();
        let supervisor = bridge.start().await.unwrap();
        let all_done = || {
            let health = bridge.health().remove(0);
            health.partitions.len() == 4 && health.partitions.iter().all(|partition| partition.lag == Some(0))
        };
        eventually("the round is done", PATIENCE, all_done).await;
        supervisor.stop_and_wait(None, Some(PATIENCE)).await.unwrap();
    }
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 60);
    for (key, mailboxes) in seen.iter() {
        assert_eq!(mailboxes.len(), 1, "{key:?} was given to {mailboxes:?}");
    }
    let used: BTreeSet<usize> = seen.values().flatten().copied().collect();
    assert!(used.len() > 3, "sixty keys are spread over seven mailboxes: {used:?}");
}

// ── the embedded bus ──────────────────────────────────────────────────────────────────────────────────────────────

/// Owns what it is given, and lets a test say what is committed.
#[derive(Default)]
struct Owner {
    assigned: Option<Assignment>,
    records: Vec<Record>,
    committed: Vec<(Commit, Result<(), String>)>,
    last: Vec<Commit>,
}

impl PartitionOwner for Owner {
    fn assigned(&mut self, mut assignments: Vec<Assignment>) -> Vec<(TopicPartition, i64)> {
        self.assigned = assignments.pop();
        Vec::new()
    }
    fn credit(&self, _: &TopicPartition) -> Credit {
        Credit { records: 1_000, bytes: usize::MAX }
    }
    fn records(&mut self, _: &TopicPartition, records: Vec<Record>) {
        self.records.extend(records);
    }
    fn revoked(&mut self, _: &[TopicPartition]) -> Vec<Commit> {
        std::mem::take(&mut self.last)
    }
    fn lost(&mut self, _: &[TopicPartition]) {}
    fn committed(&mut self, commit: Commit, result: Result<(), String>) {
        self.committed.push((commit, result));
    }
    fn event(&mut self, _: SourceEvent) {}
}

/// Commits one event, and waits for it.
fn happen(runtime: &Runtime, journal: &Arc<dyn Journal>, number: u64) {
    let (says, said) = mpsc::channel();
    journal.append(Append {
        stream: format!("t/{number}").into(),
        first_version: 1,
        events: vec![NewEvent { event_type: "t.happened", payload: number.to_string(), published_before: None }],
        schema: 1,
        refusal: None,
        command_id: CommandId::of(&["happen", &number.to_string()]),
        at_ms: 0,
        correlation_id: None,
        causation_id: None,
        traceparent: None,
        actor: None,
        views: Vec::new(),
        snapshot: None,
        fence: Arc::new(Fence::default()),
        settle: Box::new(move |outcome| says.send(outcome.is_ok()).unwrap()),
    });
    let _entered = runtime.enter();
    assert!(said.recv_timeout(PATIENCE).expect("the commit's outcome"));
}

async fn journal(faults: Faults) -> Arc<dyn Journal> {
    MemoryJournal::open(&MemoryDisk::new("").unwrap(), faults).await.unwrap()
}

/// The stored position is exactly that of the last event of which every message is finished: one more loses messages at the next
/// start, one less repeats them.
#[test]
fn the_stored_position_of_the_embedded_bus_is_exactly_what_is_finished() {
    let runtime = Runtime::new().unwrap();
    let said = runtime.block_on(journal(Faults::none()));
    let home = runtime.block_on(journal(Faults::none()));
    (0..4).for_each(|number| happen(&runtime, &said, number));
    let place = Current::empty();
    place.set(Arc::clone(&said));
    let three_each: microcommerce_bridge::embedded::source::RecordOutbox = Arc::new(|recorded| {
        let message = |index: u64| outgoing("k", recorded.position * 10 + index);
        Ok((0..3).map(message).collect())
    });
    let arguments = JournalSourceArguments {
        topic: "said".into(),
        name: "heard".into(),
        source: place,
        home: Arc::clone(&home),
        outbox: three_each,
    };
    let stored = || runtime.block_on(home.position_of("heard".into())).unwrap().position;
    let start = || Box::new(JournalSource::new(arguments.clone(), runtime.handle().clone()));
    let poll = |source: &mut Box<JournalSource>, owner: &mut Owner, what: &str, is_so: &dyn Fn(&Owner) -> bool| {
        let until = Instant::now() + PATIENCE;
        while !is_so(owner) {
            assert!(Instant::now() < until, "not in time: {what}");
            source.poll(Duration::from_millis(5), owner).unwrap();
        }
    };
    let (mut source, mut owner) = (start(), Owner::default());
    poll(&mut source, &mut owner, "all messages", &|owner| owner.records.len() == 12);
    let partition = owner.assigned.clone().unwrap().partition;
    let first = runtime.block_on(said.read_after(0, 1)).unwrap()[0].position;
    // First unfinished: each message of the third event in turn, then the first of the fourth.
    for (index, finished) in [(0, first + 1), (1, first + 1), (2, first + 1)] {
        let offset = offset_of(first + 2, index, 3);
        let commit = Commit { partition: partition.clone(), offset, metadata: String::new(), log_id: None };
        let answers = owner.committed.len();
        source.commit(vec![commit]);
        poll(&mut source, &mut owner, "the commit's answer", &|owner| owner.committed.len() > answers);
        assert_eq!(stored(), finished, "message {index} of the third event is the first unfinished");
    }
    owner.last = vec![Commit {
        partition: partition.clone(),
        offset: offset_of(first + 2, 2, 3) + 1,
        metadata: String::new(),
        log_id: None,
    }];
    source.close(&mut owner);
    assert_eq!(stored(), first + 2, "the third event is finished, and no other");

    let (mut source, mut owner) = (start(), Owner::default());
    poll(&mut source, &mut owner, "the fourth event's messages", &|owner| owner.records.len() >= 3);
    let offsets: Vec<i64> = owner.records.iter().map(|record| record.offset).collect();
    assert_eq!(
        offsets,
        (0..3).map(|index| offset_of(first + 3, index, 3)).collect::<Vec<_>>(),
        "it goes on exactly there"
    );
    source.close(&mut owner);
}

/// An acknowledgement lets the engine go past the record: it must not come before the journal has the letter.
#[test]
fn a_dead_letter_of_the_embedded_bus_is_acknowledged_only_when_the_journal_has_it() {
    let runtime = Runtime::new().unwrap();
    let faults = Faults::none();
    let home = runtime.block_on(journal(faults.clone()));
    let letters = JournalDeadLetters::new(Arc::clone(&home), runtime.handle());
    let kept = || runtime.block_on(letters.list("orders.dlq")).unwrap().len();
    let letter = || OutgoingRecord { topic: "orders.dlq".into(), ..outgoing("k", 1) };
    let send = || {
        let (says, said) = mpsc::channel();
        let sent = letters.send(&letter(), Box::new(move |result| drop(says.send(result))));
        assert!(sent.is_ok(), "there is room");
        said
    };
    // Refused: the acknowledgement says so, and the journal has nothing.
    faults.refuse_next(10);
    let said = send().recv_timeout(PATIENCE).expect("an answer");
    assert!(matches!(said, Err(SinkError::Unavailable(_))), "{said:?}");
    faults.heal();
    assert_eq!(kept(), 0);
    // Slow: while the commit is on its way there is no acknowledgement; when there is one, the letter is there.
    faults.delay_commits(Duration::from_millis(300)..=Duration::from_millis(400));
    let said = send();
    assert!(said.recv_timeout(Duration::from_millis(100)).is_err(), "acknowledged before the commit can have ended");
    assert!(said.recv_timeout(PATIENCE).expect("an answer").is_ok());
    assert_eq!(kept(), 1);
    assert!(runtime.block_on(async { timeout(PATIENCE, letters.flush(PATIENCE)).await }).unwrap());
}

// ── commits that nobody answers ───────────────────────────────────────────────────────────────────────────────────

/// Gives one record a turn, and answers no commit, as the client of a broker that is away.
struct Unanswering {
    given: i64,
    commits: Arc<Mutex<Vec<i64>>>,
}

impl LogSource for Unanswering {
    fn poll(&mut self, _wait: Duration, owner: &mut dyn PartitionOwner) -> Result<(), SourceFatal> {
        let partition = TopicPartition::new("t", 0);
        if self.given == 0 {
            owner.assigned(vec![Assignment { partition: partition.clone(), committed: None, log: None }]);
        }
        if owner.credit(&partition).records > 0 {
            owner.records(&partition, vec![record(self.given, "a")]);
            self.given += 1;
        }
        Ok(())
    }

    fn commit(&mut self, commits: Vec<Commit>) {
        self.commits.lock().unwrap().extend(commits.iter().map(|commit| commit.offset));
    }

    fn close(self: Box<Self>, _owner: &mut dyn PartitionOwner) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_commit_of_a_partition_is_on_its_way_at_a_time() {
    let (commits, done) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    let (theirs, counted) = (Arc::clone(&commits), Arc::clone(&done));
    let open = Arc::new(move |_: &Subscription| {
        Ok(Box::new(Unanswering { given: 0, commits: Arc::clone(&theirs) }) as Box<dyn LogSource>)
    });
    let handler = handler::each(16, move |_: Record| {
        counted.fetch_add(1, Ordering::Relaxed);
        async { Outcome::Done }
    });
    let subscription = Subscription::new("unanswered", "g", Topics::Named(vec!["t".into()]), open, handler)
        .commit(CommitEvery { every: Duration::from_millis(1), records: 1 });
    let bridge = Bridge::builder().dead_letters(MemoryLog::new().sink()).subscribe(subscription).build().unwrap();
    let supervisor = bridge.start().await.unwrap();
    eventually("a commit is sent", PATIENCE, || !commits.lock().unwrap().is_empty()).await;
    // Many commits would be due by now: each record is one.
    let before = done.load(Ordering::Relaxed);
    eventually("a thousand records more are done", PATIENCE, || done.load(Ordering::Relaxed) >= before + 1_000).await;
    assert_eq!(commits.lock().unwrap().len(), 1, "{:?}", commits.lock().unwrap());
    supervisor.stop_and_wait(None, Some(PATIENCE)).await.unwrap();
}
