//! The relay between an outbox in memory and a sink that fails as it is told: nothing lost, order per key, whatever fails.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::{collections::BTreeMap, sync::Arc, sync::atomic::Ordering};

use microcommerce_bridge::{
    ports::{LogSink, SinkError},
    record::OutgoingRecord,
    relay::{OnRefused, RelayLimits, RelayMessage, actor::READ_ENTRIES_MAX},
};
use ractor::ActorStatus;
use support::{
    PATIENCE, eventually,
    kafka::outgoing,
    relay::{FaultySink, MemoryOutbox, key_and_value, limits, relay},
};

fn record(key: usize, value: usize) -> OutgoingRecord {
    outgoing("events", Some(&format!("k{key}")), Some(&value.to_string()))
}

fn fill(outbox: &MemoryOutbox, count: usize, keys: usize) -> BTreeMap<String, Vec<String>> {
    let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for index in 0..count {
        let record = record(index % keys, index);
        let (key, value) = key_and_value(&record);
        expected.entry(key).or_default().push(value);
        outbox.commit(vec![record]);
    }
    expected
}

fn away() -> Option<SinkError> {
    Some(SinkError::Unavailable("told to fail".to_owned()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_written_once_and_in_order_where_nothing_fails() {
    let (outbox, sink) = (MemoryOutbox::new(), FaultySink::new(100, |_, _| None));
    let expected = fill(&outbox, 5_000, 50);
    let (_relay, board) = relay(&outbox, sink.clone(), limits()).await;
    eventually("all is stored", PATIENCE, || outbox.stored() == 5_000).await;
    assert_eq!(sink.by_key(), expected);
    // What comes later wakes it.
    outbox.commit(vec![]);
    outbox.commit(vec![record(1, 9_999), record(2, 9_998)]);
    eventually("the rest too", PATIENCE, || outbox.stored() == 5_002).await;
    eventually("health says so", PATIENCE, || {
        let health = board.health();
        (health.lag, health.written, health.span, health.parked_keys) == (0, 5_002, 0, 0) && health.is_running
    })
    .await;
    // The position is stored now and then, not for every record.
    assert!(outbox.stores.load(Ordering::Relaxed) < 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_stay_in_order_where_every_third_sending_fails() {
    let outbox = MemoryOutbox::new();
    let sink = FaultySink::new(64, |record, before| {
        let (_, value) = key_and_value(record);
        (value.parse::<usize>().unwrap().is_multiple_of(3) && before < 2).then(|| away().unwrap())
    });
    let expected = fill(&outbox, 1_000, 20);
    let (_relay, board) = relay(&outbox, sink.clone(), limits()).await;
    eventually("all is stored", PATIENCE, || outbox.stored() == 1_000).await;
    assert_eq!(sink.by_key(), expected);
    eventually("retries are counted", PATIENCE, || board.health().retries == 2 * 334).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_fails_waits_alone_until_the_span_is_full() {
    let outbox = MemoryOutbox::new();
    let sink = FaultySink::new(1_000, |record, _| (record.key.as_deref() == Some(b"k0")).then(|| away().unwrap()));
    let limits = RelayLimits { records_max: 500, ..limits() };
    let expected = fill(&outbox, 20_000, 10);
    let (_relay, board) = relay(&outbox, sink.clone(), limits).await;
    // The other nine keys of what was read are written; the rest is not even read.
    eventually("the others have run ahead", PATIENCE, || {
        let health = board.health();
        health.in_flight <= 1 && health.written > 400
    })
    .await;
    let health = board.health();
    assert!(health.span <= 500 + READ_ENTRIES_MAX, "{health:?}");
    assert_eq!((health.position, outbox.stored()), (0, 0));
    let parked = health.longest_parked.unwrap();
    assert_eq!((parked.key.as_str(), parked.position), ("k0", 1));
    assert!(parked.reason.contains("told to fail"), "{}", parked.reason);
    assert!(sink.by_key().keys().all(|key| key != "k0"));
    sink.set_fault(|_, _| None);
    eventually("all is stored", PATIENCE, || outbox.stored() == 20_000).await;
    assert_eq!(sink.by_key(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_record_is_set_aside_where_people_see_it_and_its_key_goes_on() {
    let outbox = MemoryOutbox::new();
    let refuse = |record: &OutgoingRecord, _: usize| {
        (&*record.topic == "events" && key_and_value(record).1 == "2")
            .then(|| SinkError::Refused("too large".to_owned()))
    };
    let sink = FaultySink::new(1_000, refuse);
    for value in 0..5 {
        outbox.commit(vec![record(0, value)]);
    }
    let (_relay, board) = relay(&outbox, sink.clone(), limits()).await;
    eventually("all is stored", PATIENCE, || outbox.stored() == 5).await;
    let written: Vec<_> =
        sink.written().iter().map(|record| (record.topic.to_string(), key_and_value(record).1)).collect();
    let at = |topic: &str, value: &str| (topic.to_owned(), value.to_owned());
    assert_eq!(
        written,
        [at("events", "0"), at("events", "1"), at("events.dlq", "2"), at("events", "3"), at("events", "4")]
    );
    eventually("health says so", PATIENCE, || board.health().set_aside == 1).await;

    let (outbox, sink) = (MemoryOutbox::new(), FaultySink::new(1_000, refuse));
    for value in 0..5 {
        outbox.commit(vec![record(0, value)]);
    }
    let (_relay, board) = relay(&outbox, sink.clone(), RelayLimits { on_refused: OnRefused::Wait, ..limits() }).await;
    eventually("it waits", PATIENCE, || board.health().longest_parked.is_some_and(|parked| parked.failures > 2)).await;
    assert_eq!((sink.written().len(), board.health().set_aside), (2, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_dies_is_followed_by_one_that_goes_on_where_all_was_written() {
    let (outbox, sink) = (MemoryOutbox::new(), FaultySink::new(200, |_, _| None));
    let expected = fill(&outbox, 30_000, 100);
    for _ in 0..5 {
        let before = outbox.stored();
        let (actor, _) = relay(&outbox, sink.clone(), limits()).await;
        eventually("it has come further", PATIENCE, || outbox.stored() > before || outbox.stored() == 30_000).await;
        actor.kill();
        eventually("it is dead", PATIENCE, || actor.get_status() == ActorStatus::Stopped).await;
        // What it had sent still arrives; the next one must not overtake it.
        eventually("the log is quiet", PATIENCE, || sink.waiting() == 0).await;
    }
    let (_relay, _) = relay(&outbox, sink.clone(), limits()).await;
    eventually("all is stored", PATIENCE, || outbox.stored() == 30_000).await;
    for (key, values) in sink.by_key() {
        let mut first_times = Vec::new();
        values.iter().for_each(|value| {
            if !first_times.contains(value) {
                first_times.push(value.clone());
            }
        });
        assert_eq!(first_times, expected[&key], "{key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outbox_that_does_not_answer_is_asked_again() {
    let (outbox, sink) = (MemoryOutbox::new(), FaultySink::new(200, |_, _| None));
    outbox.fails.store(3, Ordering::Release);
    let expected = fill(&outbox, 10, 2);
    let (_relay, board) = relay(&outbox, sink.clone(), limits()).await;
    eventually("all is stored", PATIENCE, || outbox.stored() == 10).await;
    outbox.fails.store(3, Ordering::Release);
    outbox.commit(vec![]);
    eventually("all is stored again", PATIENCE, || outbox.stored() == 11).await;
    assert_eq!(sink.by_key(), expected);
    assert_eq!(board.health().last_error.as_deref(), Some("the outbox is asked not to answer"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_sink_holds_the_relay_back_without_loss() {
    let (outbox, sink) = (MemoryOutbox::new(), FaultySink::new(3, |_, _| None));
    let expected = fill(&outbox, 2_000, 500);
    sink.hold(true);
    let (_relay, board) = relay(&outbox, sink.clone(), limits()).await;
    eventually("the sink is full", PATIENCE, || board.health().in_flight == 3).await;
    assert_eq!(sink.waiting(), 3);
    sink.hold(false);
    eventually("all is stored", PATIENCE, || outbox.stored() == 2_000).await;
    assert_eq!(sink.by_key(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_relay_has_stored_all_that_it_has_sent() {
    let (outbox, sink) = (MemoryOutbox::new(), FaultySink::new(50, |_, _| None));
    fill(&outbox, 100_000, 1_000);
    let (actor, board) = relay(&outbox, sink.clone() as Arc<dyn LogSink>, limits()).await;
    eventually("it is at work", PATIENCE, || sink.written().len() > 100).await;
    ractor::call_t!(actor, RelayMessage::Drain, u64::try_from(PATIENCE.as_millis()).unwrap()).unwrap();
    eventually("it has ended", PATIENCE, || actor.get_status() == ActorStatus::Stopped).await;
    let (written, stored) = (sink.written().len() as u64, outbox.stored());
    // Keys run ahead of each other by what was on its way; the position is what is whole.
    assert!(stored <= written && written - stored <= 1_000, "{stored} {written}");
    assert!(sink.waiting() == 0 && !board.health().is_running);
}
