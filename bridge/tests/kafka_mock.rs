//! The real client against librdkafka's mock cluster, which answers with the errors that it is told: no broker is needed.
//!
//! Each topic of the mock keeps 100,000 records at most, and a group there forms after three seconds.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use microcommerce_bridge::{
    kafka::{KafkaSink, KafkaSinkConfig},
    ports::{Commit, LogSink, SinkError, SourceEvent},
    record::TopicPartition,
};
use rdkafka::{
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey as Request, RDKafkaRespErr as Answer},
};
use support::{
    eventually,
    kafka::{Notebook, outgoing, poll_until, settings, source, write_all},
};

type Mock = MockCluster<'static, DefaultProducerContext>;

fn mock(partitions: i32) -> (Mock, String) {
    let mock = MockCluster::new(3).unwrap();
    mock.create_topic("t", partitions, 3).unwrap();
    let brokers = mock.bootstrap_servers();
    (mock, brokers)
}

fn sink(brokers: &str) -> KafkaSink {
    let config =
        KafkaSinkConfig { delivery_timeout: Duration::from_secs(10), ..KafkaSinkConfig::new(settings(brokers)) };
    KafkaSink::start(config).unwrap()
}

fn numbered(count: usize) -> impl Iterator<Item = microcommerce_bridge::record::OutgoingRecord> {
    (0..count).map(|index| outgoing("t", Some("k"), Some(&index.to_string())))
}

fn values(notebook: &Notebook) -> Vec<String> {
    notebook.records.iter().map(|record| String::from_utf8(record.value.as_ref().unwrap().to_vec()).unwrap()).collect()
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|index| index.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_that_pass_cost_neither_a_record_nor_the_order() {
    let (mock, brokers) = mock(1);
    let sink = sink(&brokers);
    write_all(&sink, numbered(10)).await;
    mock.request_errors(
        Request::Produce,
        &[
            Answer::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
            Answer::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
            Answer::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        ],
    );
    let written = write_all(&sink, numbered(500).skip(10)).await;
    assert!(written.iter().all(Result::is_ok), "{written:?}");
    mock.request_errors(
        Request::Fetch,
        &[
            Answer::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
            Answer::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
            Answer::RD_KAFKA_RESP_ERR_UNKNOWN,
        ],
    );
    let (mut source, mut notebook) = (source(&brokers, "g", "t"), Notebook::default());
    poll_until("all are read", &mut source, &mut notebook, |notebook| notebook.records.len() >= 500);
    assert_eq!(values(&notebook), numbers(500));
    source.close(&mut notebook);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_by_the_broker_is_told_apart_from_a_failure_and_the_next_record_is_written() {
    let (mock, brokers) = mock(1);
    let sink = sink(&brokers);
    write_all(&sink, numbered(1)).await;
    mock.request_errors(Request::Produce, &[Answer::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    let refused = write_all(&sink, numbered(1)).await;
    assert!(matches!(refused[0], Err(SinkError::Refused(_))), "{refused:?}");
    mock.request_errors(Request::Produce, &[Answer::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED]);
    let failed = write_all(&sink, numbered(1)).await;
    assert!(matches!(failed[0], Err(SinkError::Unavailable(_))), "{failed:?}");
    // The client believes the refusal until it has asked for the topic again.
    let began = std::time::Instant::now();
    while !write_all(&sink, numbered(5)).await.iter().all(Result::is_ok) {
        assert!(began.elapsed() < Duration::from_secs(20));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushed_means_that_every_acknowledgement_has_returned() {
    let (_mock, brokers) = mock(1);
    let sink = sink(&brokers);
    let ((begins, begun), (lets_go, let_go)) = (mpsc::channel(), mpsc::channel::<()>());
    let has_returned = Arc::new(AtomicBool::new(false));
    let returning = Arc::clone(&has_returned);
    let let_go = Mutex::new(let_go);
    let acknowledge = Box::new(move |_: Result<_, _>| {
        begins.send(()).unwrap();
        let _ = let_go.lock().unwrap().recv_timeout(Duration::from_secs(20));
        returning.store(true, Ordering::SeqCst);
    });
    assert!(sink.send(&outgoing("t", Some("k"), Some("v")), acknowledge).is_ok());
    begun.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(!sink.flush(Duration::from_millis(50)).await);
    lets_go.send(()).unwrap();
    assert!(sink.flush(Duration::from_secs(20)).await);
    assert!(has_returned.load(Ordering::SeqCst));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_that_failed_for_good_is_followed_by_a_new_one() {
    let (mock, brokers) = mock(1);
    mock.request_errors(Request::InitProducerId, &[Answer::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED]);
    let sink = sink(&brokers);
    let failed = write_all(&sink, numbered(3)).await;
    assert!(failed.iter().all(|result| matches!(result, Err(SinkError::Fatal(_)))), "{failed:?}");
    eventually("nothing is left on its way", Duration::from_secs(20), || sink.in_flight() == 0).await;
    let began = std::time::Instant::now();
    // The new one is made in the background.
    while write_all(&sink, numbered(1)).await[0].is_err() {
        assert!(began.elapsed() < Duration::from_secs(20));
    }
    let written = write_all(&sink, numbered(100)).await;
    assert!(written.iter().all(Result::is_ok), "{written:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_whose_sequence_is_broken_is_followed_by_a_new_one_and_what_was_acknowledged_is_there() {
    let (mock, brokers) = mock(1);
    let sink = sink(&brokers);
    assert!(write_all(&sink, numbered(10)).await.iter().all(Result::is_ok));
    mock.request_errors(Request::Produce, &[Answer::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER]);
    let failed = write_all(&sink, numbered(1)).await;
    // Either way: it may have been written, and sending it again may help.
    assert!(matches!(failed[0], Err(SinkError::Fatal(_) | SinkError::Unavailable(_))), "{failed:?}");
    let began = std::time::Instant::now();
    while write_all(&sink, [outgoing("t", Some("k"), Some("new"))]).await[0].is_err() {
        assert!(began.elapsed() < Duration::from_secs(20));
    }
    let (mut source, mut notebook) = (source(&brokers, "g", "t"), Notebook::default());
    let is_there = |notebook: &Notebook| values(notebook).contains(&"new".to_owned());
    poll_until("the new one's record is read", &mut source, &mut notebook, is_there);
    assert_eq!(values(&notebook)[..10], numbers(10));
    source.close(&mut notebook);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_may_not_be_read_is_told_and_read_once_it_may() {
    let (mock, brokers) = mock(1);
    let sink = sink(&brokers);
    write_all(&sink, numbered(10)).await;
    mock.request_errors(Request::Fetch, &[Answer::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED]);
    let (mut source, mut notebook) = (source(&brokers, "g", "t"), Notebook::default());
    let told = |notebook: &Notebook| {
        notebook
            .events
            .iter()
            .any(|event| matches!(event, SourceEvent::PartitionFailed(_, reason) if reason.contains("authorization")))
    };
    poll_until("it is told", &mut source, &mut notebook, told);
    poll_until("all are read", &mut source, &mut notebook, |notebook| notebook.records.len() == 10);
    assert_eq!(values(&notebook), numbers(10));
    source.close(&mut notebook);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_fails_is_told_and_the_next_one_counts() {
    let (mock, brokers) = mock(1);
    let sink = sink(&brokers);
    write_all(&sink, numbered(10)).await;
    let (mut source, mut notebook) = (source(&brokers, "g", "t"), Notebook::default());
    poll_until("all are read", &mut source, &mut notebook, |notebook| notebook.records.len() == 10);
    let commit =
        |offset| Commit { partition: TopicPartition::new("t", 0), offset, metadata: "m".to_owned(), log_id: None };
    mock.request_errors(Request::OffsetCommit, &[Answer::RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE]);
    source.commit(vec![commit(3)]);
    poll_until("the failure is told", &mut source, &mut notebook, |notebook| notebook.committed.len() == 1);
    assert_eq!(notebook.committed[0].0, commit(3));
    assert!(notebook.committed[0].1.is_err(), "{:?}", notebook.committed);
    source.commit(vec![commit(5)]);
    poll_until("the next is told", &mut source, &mut notebook, |notebook| notebook.committed.len() == 2);
    assert_eq!(notebook.committed[1], (commit(5), Ok(())));
    // A coordinator that has moved is looked for; the member may have to join anew meanwhile, and commits once it has.
    mock.request_errors(Request::OffsetCommit, &[Answer::RD_KAFKA_RESP_ERR_NOT_COORDINATOR]);
    source.commit(vec![commit(7)]);
    poll_until("told in the end", &mut source, &mut notebook, |notebook| notebook.committed.len() == 3);
    let began = std::time::Instant::now();
    while notebook.committed.last().unwrap() != &(commit(7), Ok(())) {
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", notebook.committed);
        poll_until("it is ours", &mut source, &mut notebook, |notebook| !notebook.owned.is_empty());
        let told = notebook.committed.len() + 1;
        source.commit(vec![commit(7)]);
        poll_until("told again", &mut source, &mut notebook, |notebook| notebook.committed.len() == told);
    }
    source.close(&mut notebook);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_assignment_goes_on_where_the_committed_offsets_come_late() {
    let (mock, brokers) = mock(1);
    let sink = sink(&brokers);
    write_all(&sink, numbered(10)).await;
    mock.request_errors(Request::OffsetFetch, &[Answer::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS; 3]);
    let (mut source, mut notebook) = (source(&brokers, "g", "t"), Notebook::default());
    poll_until("all are read", &mut source, &mut notebook, |notebook| notebook.records.len() == 10);
    assert_eq!(values(&notebook), numbers(10));
    source.close(&mut notebook);
}
