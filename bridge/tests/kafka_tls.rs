//! Encrypted connections with names and passwords, on a real broker of this suite's own.
//!
//! ```sh
//! REQUIRE_KAFKA=1 KAFKA_BROKER=own cargo test --release -p microcommerce-bridge --features kafka-tls --test kafka_tls
//! ```
//!
//! Building needs OpenSSL's development files. Like its neighbours the suite is skipped where `KAFKA_BROKER` is absent; it starts its
//! broker with `deploy/local/kafka.sh`, which needs Java.
#![cfg(feature = "kafka-tls")]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::{sync::Arc, time::Duration};

use microcommerce_bridge::{
    engine::dead_letter::{ErrorKind, Failure, dead_letter},
    health::{HealthTransport, KafkaHealth, KafkaHealthConfig},
    kafka::{
        DeadLetters, KafkaClientSettings, KafkaSink, KafkaSinkConfig, KafkaSource, KafkaSourceConfig, KafkaTopics,
        Sasl, Security, Selection, Tls, TopicSpec,
    },
    ports::{LogSource, SinkError},
};
use support::{
    House, PATIENCE, eventually,
    kafka::{Notebook, OwnBrokers, outgoing, poll_until, write_all},
    kafka_broker, unique,
};

fn settings(address: &str, ca_file: Option<&str>, mechanism: &str, password: &str) -> KafkaClientSettings {
    let tls = Tls { ca_file: ca_file.map(str::to_owned), certificate_and_key_files: None };
    let sasl = Sasl { mechanism: mechanism.to_owned(), username: "shop".to_owned(), password: password.to_owned() };
    KafkaClientSettings {
        security: Security { tls: Some(tls), sasl: Some(sasl) },
        ..KafkaClientSettings::plain(address, "bridge-test")
    }
}

fn source(settings: &KafkaClientSettings, topic: &str) -> Box<dyn LogSource> {
    let config = KafkaSourceConfig::new(settings.clone(), unique("group"), vec![topic.to_owned()]);
    Box::new(KafkaSource::start(&config).unwrap())
}

/// One broker for all of it: it takes seconds to start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_client_speaks_encrypted_and_by_name_and_to_nobody_else() {
    let Some(_) = kafka_broker("every_client_speaks_encrypted_and_by_name_and_to_nobody_else") else { return };
    let broker = OwnBrokers::new(1);
    let (address, ca_file) = (broker.tls_address(), broker.start_with_tls().await);
    for mechanism in ["SCRAM-SHA-512", "PLAIN"] {
        records_topics_and_dead_letters_go_through(&settings(&address, Some(&ca_file), mechanism, "shop-secret")).await;
    }
    pings_and_pongs_go_through(settings(&address, Some(&ca_file), "SCRAM-SHA-512", "shop-secret")).await;
    let strangers = [
        ("a wrong password", settings(&address, Some(&ca_file), "SCRAM-SHA-512", "guessed")),
        ("a broker that nobody vouches for", settings(&address, None, "SCRAM-SHA-512", "shop-secret")),
        ("no encryption", KafkaClientSettings::plain(&address, "bridge-test")),
    ];
    for (case, settings) in strangers {
        nothing_goes_through(case, &settings).await;
    }
}

async fn records_topics_and_dead_letters_go_through(settings: &KafkaClientSettings) {
    let topic = unique("tls");
    let wanted = [TopicSpec::new(&topic, 2), TopicSpec::new(format!("{topic}.dlq"), 1)];
    KafkaTopics::new(settings.clone()).unwrap().create_missing(&wanted).await.unwrap();
    let sink = KafkaSink::start(KafkaSinkConfig::new(settings.clone())).unwrap();
    let records = (0..100).map(|number| outgoing(&topic, Some("k"), Some(&number.to_string()))).collect::<Vec<_>>();
    assert!(write_all(&sink, records).await.iter().all(Result::is_ok));
    let (mut source, mut notebook) = (source(settings, &topic), Notebook::default());
    poll_until("all are read", &mut source, &mut notebook, |notebook| notebook.records.len() == 100);
    source.commit(notebook.all_commits());
    poll_until("it is committed", &mut source, &mut notebook, |notebook| !notebook.committed.is_empty());
    assert!(notebook.committed.iter().all(|(_, result)| result.is_ok()), "{:?}", notebook.committed);
    source.close(&mut notebook);
    let failure = Failure { attempts: 1, kind: ErrorKind::Failed, error: "no".to_owned(), first_ms: 1, last_ms: 1 };
    write_all(&sink, [dead_letter(&notebook.records[0], "group", &failure)]).await;
    assert_eq!(DeadLetters::new(settings.clone()).list(&topic, &Selection::All, 10).await.unwrap().len(), 1);
}

async fn pings_and_pongs_go_through(client: KafkaClientSettings) {
    let transport: Arc<dyn HealthTransport> =
        KafkaHealth::start(KafkaHealthConfig { client, topic_prefix: String::new() }).unwrap();
    let name = unique("service");
    let house = House::start(transport, &[&name]).await;
    let _service = house.start_service(&name).await;
    eventually("healthy", PATIENCE, || house.is_healthy(&name)).await;
}

async fn nothing_goes_through(case: &str, settings: &KafkaClientSettings) {
    let config = KafkaSinkConfig { delivery_timeout: Duration::from_secs(2), ..KafkaSinkConfig::new(settings.clone()) };
    let written = write_all(&KafkaSink::start(config).unwrap(), [outgoing("t", None, Some("x"))]).await;
    assert!(matches!(written[0], Err(SinkError::Unavailable(_))), "{case}: {written:?}");
    let (mut source, mut notebook) = (source(settings, "t"), Notebook::default());
    poll_until(case, &mut source, &mut notebook, |notebook| notebook.is_reachable() == Some(false));
    assert!(notebook.assignments.is_empty(), "{case}");
    source.close(&mut notebook);
}
