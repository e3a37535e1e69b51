//! The source and the sink on a real Kafka, each against the other and against plain clients.
//!
//! They need `KAFKA_BROKER`; with `REQUIRE_KAFKA=1` they fail without it instead of being skipped.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::{
    collections::{BTreeSet, HashSet},
    time::{Duration, Instant},
};

use microcommerce_bridge::{
    kafka::{KafkaSink, KafkaSinkConfig, KafkaSource, KafkaSourceConfig, KafkaTopics, TopicSpec},
    ports::{Commit, Credit, LogSink, LogSource, SinkError, SourceEvent},
    record::{Header, Headers, TopicPartition},
};
use rdkafka::{
    config::ClientConfig,
    consumer::{BaseConsumer, Consumer},
    message::{Header as PlainHeader, Message, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer},
};
use support::{
    PATIENCE,
    kafka::{Notebook, by_key, new_topic, outgoing, poll_until, settings, sink, source, source_config, write_all},
    kafka_broker, unique,
};

fn values(notebook: &Notebook) -> Vec<String> {
    let text = |record: &microcommerce_bridge::record::Record| {
        String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap()
    };
    notebook.records.iter().map(text).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_sink_writes_the_source_reads_byte_for_byte() {
    let Some(broker) = kafka_broker("what_the_sink_writes_the_source_reads_byte_for_byte") else { return };
    let topic = new_topic(&broker, 1).await;
    let mut full = outgoing(&topic, Some("key"), Some("value"));
    full.timestamp_ms = Some(1_700_000_000_123);
    full.headers = Headers::new(vec![
        Header { name: "a".into(), value: Some("1".into()) },
        Header { name: "a".into(), value: None },
        Header { name: b"\xff\xfe not utf-8"[..].into(), value: Some(b"\x00\xff"[..].into()) },
        Header { name: "".into(), value: Some("".into()) },
    ]);
    let mut binary = outgoing(&topic, None, None);
    (binary.key, binary.value) = (Some(b"\x00\xff"[..].into()), Some(vec![7_u8; 300_000].into()));
    let records = vec![
        full,
        outgoing(&topic, None, Some("no key")),
        outgoing(&topic, Some("tombstone"), None),
        outgoing(&topic, None, None),
        outgoing(&topic, Some(""), Some("")),
        binary,
    ];
    let sink = sink(&broker);
    let written = write_all(&sink, records.clone()).await;
    assert_eq!(written.into_iter().map(|written| written.unwrap().offset).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);

    let (mut source, mut notebook) = (source(&broker, &unique("group"), &topic), Notebook::default());
    poll_until("all are read", &mut source, &mut notebook, |notebook| notebook.records.len() == records.len());
    for (read, written) in notebook.records.iter().zip(&records) {
        assert_eq!((&read.key, &read.value, &read.headers), (&written.key, &written.value, &written.headers));
        assert_eq!((&read.topic, read.partition), (&written.topic, 0));
        assert!(read.timestamp_ms.is_some());
    }
    assert_eq!(notebook.records[0].timestamp_ms, Some(1_700_000_000_123));
    assert_eq!(notebook.records[0].headers.unreadable(), Some(2));
    source.close(&mut notebook);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_clients_read_what_the_sink_writes_and_write_what_the_source_reads() {
    let Some(broker) = kafka_broker("plain_clients_read_what_the_sink_writes_and_write_what_the_source_reads") else {
        return;
    };
    let topic = new_topic(&broker, 8).await;
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &broker)
        .set("partitioner", "murmur2_random")
        .set("compression.type", "snappy")
        .create()
        .unwrap();
    for index in 0..100 {
        let (key, value) = (format!("key-{index}"), format!("plain {index}"));
        let headers = OwnedHeaders::new().insert(PlainHeader { key: "traceparent", value: Some("00-1") });
        producer.send(BaseRecord::to(&topic).key(&key).payload(&value).headers(headers)).map_err(|(e, _)| e).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
    let sink = sink(&broker);
    let ours = (0..100).map(|index| outgoing(&topic, Some(&format!("key-{index}")), Some(&format!("ours {index}"))));
    write_all(&sink, ours).await.into_iter().for_each(|written| assert!(written.is_ok()));

    let (mut source, mut notebook) = (source(&broker, &unique("group"), &topic), Notebook::default());
    poll_until("all are read", &mut source, &mut notebook, |notebook| notebook.records.len() == 200);
    assert_eq!(
        notebook.records.iter().filter(|record| record.headers.text("traceparent") == Ok(Some("00-1"))).count(),
        100
    );
    // The same key went to the same partition, whoever wrote it.
    for (key, values) in by_key(&notebook.records) {
        let index = key.strip_prefix("key-").unwrap();
        assert_eq!(values, [format!("plain {index}"), format!("ours {index}")]);
    }
    source.close(&mut notebook);

    let reader: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &broker)
        .set("group.id", unique("plain"))
        .set("auto.offset.reset", "earliest")
        .create()
        .unwrap();
    reader.subscribe(&[&topic]).unwrap();
    let (began, mut seen) = (Instant::now(), HashSet::new());
    while seen.len() < 200 {
        assert!(began.elapsed() < PATIENCE, "{} seen", seen.len());
        if let Some(Ok(message)) = reader.poll(Duration::from_millis(100)) {
            seen.insert((message.partition(), message.offset()));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_member_begins_at_the_commit_and_reads_its_metadata_back() {
    let Some(broker) = kafka_broker("the_next_member_begins_at_the_commit_and_reads_its_metadata_back") else { return };
    let (topic, group) = (new_topic(&broker, 1).await, unique("group"));
    let sink = sink(&broker);
    write_all(&sink, (0..10).map(|index| outgoing(&topic, None, Some(&index.to_string())))).await;
    let (mut first, mut notebook) = (source(&broker, &group, &topic), Notebook::default());
    poll_until("all are read", &mut first, &mut notebook, |notebook| notebook.records.len() == 10);
    assert_eq!(notebook.assignments[0].committed, None);
    let commit = Commit {
        partition: TopicPartition::new(topic.as_str(), 0),
        offset: 4,
        metadata: "g1:5,7-8".to_owned(),
        log_id: None,
    };
    first.commit(vec![commit.clone()]);
    poll_until("the commit is answered", &mut first, &mut notebook, |notebook| !notebook.committed.is_empty());
    assert_eq!(notebook.committed, [(commit.clone(), Ok(()))]);
    // As a crash would: without a last commit.
    drop(first);

    let (mut second, mut notebook) = (source(&broker, &group, &topic), Notebook::default());
    poll_until("the rest is read", &mut second, &mut notebook, |notebook| notebook.records.len() == 6);
    assert_eq!(notebook.assignments[0].committed.as_ref(), Some(&commit));
    assert_eq!(values(&notebook), ["4", "5", "6", "7", "8", "9"]);
    let lag = KafkaTopics::new(settings(&broker)).unwrap().lag(&group, &topic).await.unwrap();
    assert_eq!((lag[0].committed, lag[0].end, lag[0].lag, lag[0].gaps_bytes), (Some(4), 10, 6, 8));
    second.close(&mut notebook);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_a_broker_refuses_is_told_as_refused_and_its_neighbour_as_made() {
    let Some(broker) = kafka_broker("a_commit_that_a_broker_refuses_is_told_as_refused_and_its_neighbour_as_made")
    else {
        return;
    };
    let topic = new_topic(&broker, 2).await;
    let (mut source, mut notebook) = (source(&broker, &unique("group"), &topic), Notebook::default());
    poll_until("assigned", &mut source, &mut notebook, |notebook| notebook.owned.len() == 2);
    let commit = |partition, metadata: String| Commit {
        partition: TopicPartition::new(topic.as_str(), partition),
        offset: 0,
        metadata,
        log_id: None,
    };
    // The client itself would take it: a broker of this test's kind allows 4,096 bytes.
    source.commit(vec![commit(0, "x".repeat(4_097))]);
    source.commit(vec![commit(1, "x".repeat(4_096))]);
    source.commit(vec![commit(7, String::new())]);
    poll_until("answered", &mut source, &mut notebook, |notebook| notebook.committed.len() == 3);
    let result = |partition: i32| {
        &notebook.committed.iter().find(|(commit, _)| commit.partition.partition == partition).unwrap().1
    };
    assert!(result(0).as_ref().unwrap_err().contains("4097 bytes"), "{:?}", result(0));
    assert_eq!(result(1), &Ok(()));
    assert!(result(7).as_ref().unwrap_err().contains("not ours"));
    source.close(&mut notebook);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_without_credit_is_not_read_and_loses_nothing() {
    let Some(broker) = kafka_broker("a_partition_without_credit_is_not_read_and_loses_nothing") else { return };
    let topic = new_topic(&broker, 1).await;
    let sink = sink(&broker);
    write_all(&sink, (0..5_000).map(|index| outgoing(&topic, None, Some(&index.to_string())))).await;
    let mut notebook = Notebook { credit: Some(Credit { records: 3, bytes: 1 << 20 }), ..Notebook::default() };
    let mut source = source(&broker, &unique("group"), &topic);
    poll_until("some are read", &mut source, &mut notebook, |notebook| !notebook.records.is_empty());
    assert!(notebook.records.len() <= 3 && notebook.records.len() == values(&notebook).len());
    notebook.credit = Some(Credit::NONE);
    let had = notebook.records.len();
    let until = Instant::now() + Duration::from_secs(1);
    while Instant::now() < until {
        source.poll(Duration::from_millis(50), &mut notebook).unwrap();
        assert_eq!(notebook.records.len(), had);
    }
    // One record more than fits is allowed, and no second one.
    notebook.credit = Some(Credit { records: 100, bytes: 1 });
    source.poll(Duration::from_millis(50), &mut notebook).unwrap();
    assert!(notebook.records.len() <= had + 2, "two turns at most, each of one record");
    notebook.credit = None;
    poll_until("all are read", &mut source, &mut notebook, |notebook| notebook.records.len() == 5_000);
    assert_eq!(values(&notebook), (0..5_000).map(|index| index.to_string()).collect::<Vec<_>>());
    source.close(&mut notebook);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_members_share_the_partitions_and_no_record_is_lost_or_read_twice() {
    let Some(broker) = kafka_broker("two_members_share_the_partitions_and_no_record_is_lost_or_read_twice") else {
        return;
    };
    let (topic, group) = (new_topic(&broker, 4).await, unique("group"));
    let sink = sink(&broker);
    let batch = |from: usize| {
        (from..from + 400)
            .map(|index| outgoing(&topic, Some(&format!("k{}", index % 40)), Some(&index.to_string())))
            .collect::<Vec<_>>()
    };
    write_all(&sink, batch(0)).await;
    let (mut first, mut one) = (source(&broker, &group, &topic), Notebook::default());
    poll_until("all are read by one", &mut first, &mut one, |notebook| notebook.records.len() == 400);
    // The second member joins: the first gives partitions up, and commits what it has read of them.
    let (mut second, mut two) = (source(&broker, &group, &topic), Notebook::default());
    let began = Instant::now();
    while one.owned.len() != 2 || two.owned.len() != 2 {
        assert!(began.elapsed() < PATIENCE, "{:?} {:?}", one.owned, two.owned);
        first.poll(Duration::from_millis(10), &mut one).unwrap();
        second.poll(Duration::from_millis(10), &mut two).unwrap();
    }
    assert_eq!((one.revoked.len(), one.lost.len()), (2, 0));
    assert!(two.assignments.iter().all(|assignment| assignment.committed.is_some()));
    write_all(&sink, batch(400)).await;
    let began = Instant::now();
    while one.records.len() + two.records.len() < 800 {
        assert!(began.elapsed() < PATIENCE, "{} {}", one.records.len(), two.records.len());
        first.poll(Duration::from_millis(10), &mut one).unwrap();
        second.poll(Duration::from_millis(10), &mut two).unwrap();
    }
    // The first one leaves in order: the second goes on at its commits.
    first.close(&mut one);
    assert!(one.owned.is_empty() && one.committed.iter().all(|(_, result)| result.is_ok()), "{:?}", one.committed);
    write_all(&sink, batch(800)).await;
    poll_until("all partitions are the second's", &mut second, &mut two, |notebook| notebook.owned.len() == 4);
    poll_until("all are read", &mut second, &mut two, |notebook| one.records.len() + notebook.records.len() >= 1_200);
    let mut all = one.records;
    all.append(&mut two.records);
    let unique: BTreeSet<(i32, i64)> = all.iter().map(|record| (record.partition, record.offset)).collect();
    assert_eq!((unique.len(), all.len()), (1_200, 1_200));
    for (key, values) in by_key(&all) {
        let numbers: Vec<usize> = values.iter().map(|value| value.parse().unwrap()).collect();
        assert!(numbers.is_sorted() && numbers.len() == 30, "{key}: {numbers:?}");
    }
    second.close(&mut two);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_stays_silent_loses_its_partitions_and_commits_nothing_over_its_successor() {
    let Some(broker) =
        kafka_broker("a_member_that_stays_silent_loses_its_partitions_and_commits_nothing_over_its_successor")
    else {
        return;
    };
    let (topic, group) = (new_topic(&broker, 1).await, unique("group"));
    let sink = sink(&broker);
    write_all(&sink, (0..10).map(|index| outgoing(&topic, None, Some(&index.to_string())))).await;
    let silent = plain_member_that_stays_silent(&broker, &group, &topic);
    let (mut second, mut two) = (source(&broker, &group, &topic), Notebook::default());
    support::kafka::poll_within(
        "the silent one is given up",
        Duration::from_secs(40),
        &mut second,
        &mut two,
        |notebook| notebook.records.len() == 10,
    );
    second.commit(two.all_commits());
    poll_until("committed", &mut second, &mut two, |notebook| !notebook.committed.is_empty());
    // The silent one wakes up: what it holds is another's already.
    let (mut first, mut one) = silent;
    poll_until("it hears that they are lost", &mut first, &mut one, |notebook| !notebook.lost.is_empty());
    assert!(one.revoked.is_empty());
    first.commit(vec![Commit { partition: one.lost[0].clone(), offset: 3, metadata: String::new(), log_id: None }]);
    poll_until("the late commit is refused", &mut first, &mut one, |notebook| !notebook.committed.is_empty());
    assert!(one.committed[0].1.as_ref().is_err());
    let lag = KafkaTopics::new(settings(&broker)).unwrap().lag(&group, &topic).await.unwrap();
    assert_eq!((lag[0].committed, lag[0].lag), (Some(10), 0));
    drop(first);
    second.close(&mut two);
}

/// A member that has read three records and then polls no more: past `max.poll.interval.ms` its partitions go elsewhere.
fn plain_member_that_stays_silent(broker: &str, group: &str, topic: &str) -> (Box<dyn LogSource>, Notebook) {
    let config = KafkaSourceConfig { poll_interval_max: Duration::from_secs(7), ..source_config(broker, group, topic) };
    let mut notebook = Notebook { credit: Some(Credit { records: 3, bytes: 1 << 20 }), ..Notebook::default() };
    let mut source: Box<dyn LogSource> = Box::new(KafkaSource::start(&config).unwrap());
    poll_until("it reads", &mut source, &mut notebook, |notebook| !notebook.records.is_empty());
    (source, notebook)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_that_match_a_pattern_are_found_when_they_come() {
    let Some(broker) = kafka_broker("topics_that_match_a_pattern_are_found_when_they_come") else { return };
    let family = unique("family");
    let topics = KafkaTopics::new(settings(&broker)).unwrap();
    let spec = |name: &str| TopicSpec::new(format!("{family}.{name}"), 2);
    assert_eq!(topics.create_missing(&[spec("one")]).await.unwrap(), [format!("{family}.one")]);
    assert!(topics.create_missing(&[spec("one")]).await.unwrap().is_empty());
    let (mut source, mut notebook) =
        (source(&broker, &unique("group"), &format!("^{family}\\..*")), Notebook::default());
    poll_until("the first one", &mut source, &mut notebook, |notebook| notebook.owned.len() == 2);
    topics.create_missing(&[spec("one"), spec("two")]).await.unwrap();
    poll_until("the second one", &mut source, &mut notebook, |notebook| notebook.owned.len() == 4);
    source.close(&mut notebook);
    let described = topics.describe(&format!("{family}.one")).await.unwrap();
    assert_eq!(described.partitions.len(), 2);
    assert!(described.partitions.iter().all(|p| p.leader.is_some() && p.replicas == p.in_sync && p.end == 0));
    let error = topics.describe(&format!("{family}.none")).await.unwrap_err().to_string();
    assert_eq!(error, format!("there is no topic {family}.none"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_the_log_and_the_brokers_answer_are_told() {
    let Some(broker) = kafka_broker("the_end_of_the_log_and_the_brokers_answer_are_told") else { return };
    let topic = new_topic(&broker, 1).await;
    let id = TopicPartition::new(topic.as_str(), 0);
    let sink = sink(&broker);
    write_all(&sink, (0..30).map(|index| outgoing(&topic, None, Some(&index.to_string())))).await;
    let mut notebook = Notebook { credit: Some(Credit::NONE), ..Notebook::default() };
    let mut source = source(&broker, &unique("group"), &topic);
    poll_until("the end is known before anything was read", &mut source, &mut notebook, |notebook| {
        notebook.end_of(&id) == Some(30)
    });
    assert_eq!(notebook.is_reachable(), Some(true));
    assert!(notebook.records.is_empty());
    source.close(&mut notebook);
    let mut notebook = Notebook::default();
    let mut nobody: Box<dyn LogSource> =
        Box::new(KafkaSource::start(&source_config("127.0.0.1:1", "nobody", &topic)).unwrap());
    poll_until("nobody answers", &mut nobody, &mut notebook, |notebook| notebook.is_reachable() == Some(false));
    assert!(
        notebook
            .events
            .iter()
            .any(|event| matches!(event, SourceEvent::Unreachable(why) if why.contains("127.0.0.1:1"))),
        "{:?}",
        notebook.events
    );
    nobody.close(&mut notebook);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_sink_takes_nothing_and_calls_when_there_is_room() {
    let Some(broker) = kafka_broker("a_full_sink_takes_nothing_and_calls_when_there_is_room") else { return };
    let topic = new_topic(&broker, 1).await;
    let config = KafkaSinkConfig { records_max: 100, ..KafkaSinkConfig::new(settings(&broker)) };
    let sink = KafkaSink::start(config).unwrap();
    let (told, tells) = std::sync::mpsc::channel();
    let mut refusals = 0;
    for index in 0..10_000_usize {
        let told = told.clone();
        let record = outgoing(&topic, Some("k"), Some(&index.to_string()));
        let mut acknowledge: microcommerce_bridge::ports::Acknowledge =
            Box::new(move |result| told.send((index, result.unwrap().offset)).unwrap());
        while let Err(not_taken) = sink.send(&record, acknowledge) {
            assert_eq!(not_taken.error, SinkError::Full);
            assert!(sink.in_flight() <= 100);
            acknowledge = not_taken.acknowledge;
            refusals += 1;
            tokio::time::timeout(PATIENCE, sink.room()).await.unwrap();
        }
    }
    assert!(sink.flush(PATIENCE).await);
    let mut settled: Vec<(usize, i64)> = tells.try_iter().collect();
    settled.sort_unstable();
    assert!(refusals > 0 && refusals < 5_000, "{refusals}");
    assert_eq!(settled.len(), 10_000, "flushed means that every acknowledgement was called");
    assert!(settled.iter().enumerate().all(|(number, (index, offset))| number == *index && number as i64 == *offset));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_can_never_be_written_is_refused_and_an_absent_topic_is_not() {
    let Some(broker) = kafka_broker("a_record_that_can_never_be_written_is_refused_and_an_absent_topic_is_not") else {
        return;
    };
    let small = unique("small");
    let spec = TopicSpec::new(&small, 1).with("max.message.bytes", "2000");
    KafkaTopics::new(settings(&broker)).unwrap().create_missing(&[spec]).await.unwrap();
    let noise: String =
        (0..20_000_u64).map(|n| char::from(b'!' + (n.wrapping_mul(2_654_435_761) >> 7) as u8 % 90)).collect();
    let config =
        KafkaSinkConfig { delivery_timeout: Duration::from_secs(8), ..KafkaSinkConfig::new(settings(&broker)) };
    let sink = KafkaSink::start(config).unwrap();
    let results = write_all(
        &sink,
        [
            // Too large for the client, too large for the topic, and fitting.
            outgoing(&small, Some("a"), Some(&"x".repeat(1_100_000))),
            outgoing(&small, Some("b"), Some(&noise)),
        ],
    )
    .await;
    assert!(results.iter().all(|result| matches!(result, Err(SinkError::Refused(_)))), "{results:?}");
    let results =
        write_all(&sink, [outgoing(&small, Some("c"), Some("fits")), outgoing(&unique("absent"), None, Some("x"))])
            .await;
    assert!(results[0].is_ok(), "{results:?}");
    assert!(matches!(results[1], Err(SinkError::Unavailable(_))), "{results:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_sink_still_sends_what_it_has_taken() {
    let Some(broker) = kafka_broker("a_dropped_sink_still_sends_what_it_has_taken") else { return };
    let topic = new_topic(&broker, 1).await;
    let config = KafkaSinkConfig { linger: Duration::from_millis(500), ..KafkaSinkConfig::new(settings(&broker)) };
    let sink = KafkaSink::start(config).unwrap();
    let (told, tells) = std::sync::mpsc::channel();
    for index in 0..50 {
        let told = told.clone();
        let record = outgoing(&topic, None, Some(&index.to_string()));
        sink.send(&record, Box::new(move |result| told.send(result).unwrap()))
            .map_err(|not_taken| not_taken.error)
            .unwrap();
    }
    drop((sink, told));
    let settled = tokio::task::spawn_blocking(move || tells.iter().collect::<Vec<_>>()).await.unwrap();
    assert!(settled.len() == 50 && settled.iter().all(Result::is_ok), "{settled:?}");
}
