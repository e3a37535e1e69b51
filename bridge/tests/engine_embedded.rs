//! A journal behind the ports: the same suite as every log, and what is its own.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod conformance;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use conformance::{LogUnderTest, run_until};
use microcommerce_bridge::{
    embedded::{
        dead_letters::JournalDeadLetters,
        source::{JournalSource, JournalSourceArguments, RecordOutbox},
    },
    engine::{CommitEvery, OpenSource, Outcome, Subscription, Topics, dead_letter, handler},
    ports::{LogSink, LogSource},
    record::{Headers, OutgoingRecord, Record},
};
use runtime::{
    CommandId, Current, Journal, JournalError, Recorded,
    journal::{
        Append, Fence, NewEvent,
        sqlite::{SqliteJournal, SqliteOptions},
    },
};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::runtime::Runtime;

#[derive(Serialize, Deserialize)]
struct Said {
    key: String,
    values: Vec<String>,
}

/// One journal for each topic, one home for the groups and the dead letters.
struct Embedded {
    runtime: Runtime,
    directory: TempDir,
    home: Arc<dyn Journal>,
    dead_letters: Arc<JournalDeadLetters>,
    topics: Mutex<HashMap<String, Topic>>,
}

struct Topic {
    journal: Arc<dyn Journal>,
    versions: HashMap<String, u64>,
}

fn outbox() -> RecordOutbox {
    Arc::new(|recorded: &Recorded| {
        let corrupt = |error: serde_json::Error| JournalError::Corrupt(error.to_string());
        let Said { key, values } = serde_json::from_str(&recorded.payload).map_err(corrupt)?;
        let record = |value| OutgoingRecord {
            topic: "any".into(),
            partition: None,
            key: Some(key.clone().into()),
            value: Some(value),
            timestamp_ms: None,
            headers: Headers::default(),
        };
        Ok(values.into_iter().map(|value| record(value.into())).collect())
    })
}

impl Embedded {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let _inside = runtime.enter();
        let home = Self::journal(&directory, "home");
        let dead_letters = Arc::new(JournalDeadLetters::new(Arc::clone(&home), runtime.handle()));
        drop(_inside);
        Self { runtime, directory, home, dead_letters, topics: Mutex::default() }
    }

    fn journal(directory: &TempDir, name: &str) -> Arc<dyn Journal> {
        let directory = directory.path().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        SqliteJournal::open(&SqliteOptions::new(directory, "")).unwrap()
    }

    fn say(&self, topic: &str, said: &[(String, Vec<String>)]) {
        self.append(
            topic,
            said.iter().map(|(key, values)| {
                let said = Said { key: key.clone(), values: values.clone() };
                (key.clone(), serde_json::to_string(&said).unwrap())
            }),
        );
    }

    fn append(&self, topic: &str, events: impl Iterator<Item = (String, String)>) {
        let mut topics = self.topics.lock().unwrap();
        let topic = topics.get_mut(topic).unwrap();
        let (settled, settlements) = mpsc::channel();
        let mut count = 0;
        for (key, payload) in events {
            let version = topic.versions.entry(key.clone()).and_modify(|version| *version += 1).or_insert(1);
            let settled = settled.clone();
            topic.journal.append(Append {
                stream: format!("said/{key}").into(),
                first_version: *version,
                events: vec![NewEvent { event_type: "said", payload, published_before: None }],
                schema: 1,
                refusal: None,
                command_id: CommandId::of(&["say", &key, &version.to_string()]),
                at_ms: 1,
                correlation_id: None,
                causation_id: None,
                traceparent: None,
                actor: None,
                views: Vec::new(),
                snapshot: None,
                fence: Arc::new(Fence::default()),
                settle: Box::new(move |outcome| settled.send(outcome).unwrap()),
            });
            count += 1;
        }
        (0..count).for_each(|_| settlements.recv().unwrap().unwrap());
    }

    fn arguments(&self, topic: &str, group: &str) -> JournalSourceArguments {
        let source = Current::empty();
        source.set(Arc::clone(&self.topics.lock().unwrap()[topic].journal));
        JournalSourceArguments {
            topic: topic.into(),
            name: format!("{group}<{topic}").into(),
            source,
            home: Arc::clone(&self.home),
            outbox: outbox(),
        }
    }

    /// From a thread of its own: the caller may be within a runtime.
    fn letters(&self, topic: &str) -> Vec<microcommerce_bridge::embedded::dead_letters::KeptDeadLetter> {
        let handle = self.runtime.handle();
        thread::scope(|scope| scope.spawn(|| handle.block_on(self.dead_letters.list(topic)).unwrap()).join().unwrap())
    }
}

impl LogUnderTest for Embedded {
    fn create_topic(&self, topic: &str, _partitions: i32) {
        let _inside = self.runtime.enter();
        let topic_state = Topic { journal: Self::journal(&self.directory, topic), versions: HashMap::new() };
        self.topics.lock().unwrap().insert(topic.to_owned(), topic_state);
    }
    fn write(&self, records: Vec<OutgoingRecord>) {
        let text = |bytes: Option<bytes::Bytes>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
        let Some(topic) = records.first().map(|record| record.topic.to_string()) else { return };
        let said: Vec<_> = records.into_iter().map(|record| (text(record.key), vec![text(record.value)])).collect();
        self.say(&topic, &said);
    }
    fn read_all(&self, topic: &str) -> Vec<Record> {
        self.letters(topic).into_iter().map(|letter| letter.record).collect()
    }
    fn open(&self, topics: &[Arc<str>], group: &str) -> Result<Box<dyn LogSource>, String> {
        let arguments = self.arguments(&topics[0], group);
        Ok(Box::new(JournalSource::new(arguments, self.runtime.handle().clone())))
    }
    fn dead_letters(&self) -> Arc<dyn LogSink> {
        Arc::clone(&self.dead_letters) as Arc<dyn LogSink>
    }
    fn partitions_max(&self) -> usize {
        1
    }
    fn has_groups(&self) -> bool {
        false
    }
    fn keeps_metadata(&self) -> bool {
        false
    }
    fn keeps_any_bytes(&self) -> bool {
        false
    }
}

#[test]
fn a_journal_conforms() {
    conformance::run_all(|| Arc::new(Embedded::new()));
}

fn subscription(log: &Arc<dyn LogUnderTest>, topic: &str, handler: impl handler::Handler) -> Subscription {
    Subscription::new("hears", "hearer", Topics::Named(vec![topic.into()]), conformance::source_of(log), handler)
        .commit(CommitEvery { every: Duration::from_millis(20), records: 1_000 })
}

/// Events with none, one or many messages; one that cannot be read; a handler that refuses one: everything else is heard in order,
/// what was not is kept, and comes back once it is replayed.
#[test]
fn every_message_of_every_event_is_heard_in_order_and_what_cannot_be_is_kept_and_replayed() {
    let log = Arc::new(Embedded::new());
    log.create_topic("source", 1);
    let said =
        |count: usize, from: usize| ("k".to_owned(), (from..from + count).map(|n| n.to_string()).collect::<Vec<_>>());
    log.say("source", &[said(1, 0), said(0, 0), said(3, 1), said(0, 0)]);
    log.append("source", [("k".to_owned(), "no JSON".to_owned())].into_iter());
    log.say("source", &[said(2, 4), said(0, 0)]);
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let hearing = Arc::clone(&heard);
    let handler = move || {
        let hearing = Arc::clone(&hearing);
        handler::each(4, move |record| {
            let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            let is_two = value == "2";
            if !is_two {
                hearing.lock().unwrap().push(value);
            }
            async move { if is_two { Outcome::dead_letter("two is refused") } else { Outcome::Done } }
        })
    };
    let dynamic: Arc<dyn LogUnderTest> = Arc::clone(&log) as Arc<dyn LogUnderTest>;
    let position = || {
        let asked = log.home.position_of("hearer<source".into());
        let handle = log.runtime.handle();
        thread::scope(|scope| scope.spawn(|| handle.block_on(asked).unwrap().position).join().unwrap())
    };
    run_until(&dynamic, || subscription(&dynamic, "source", handler()), "all is stored", |_| position() == 7);
    assert_eq!(*heard.lock().unwrap(), ["0", "1", "3", "4", "5"]);
    let letters = log.letters("source.dlq");
    let text = |letter: usize, name: &str| letters[letter].record.headers.text(name).unwrap().unwrap().to_owned();
    let kinds: Vec<String> = (0..letters.len()).map(|letter| text(letter, dead_letter::ERROR_KIND)).collect();
    assert_eq!(letters.len(), 2, "{kinds:?}");
    assert!(kinds.contains(&"rejected".to_owned()) && kinds.contains(&"undecodable".to_owned()));

    // A restart hears nothing again, and what is new.
    log.say("source", &[said(1, 6)]);
    run_until(&dynamic, || subscription(&dynamic, "source", handler()), "the new one", |_| position() == 8);
    assert_eq!(heard.lock().unwrap().len(), 6);

    let refused = letters.iter().find(|letter| letter.record.value.as_deref() == Some(b"2")).unwrap();
    let replayed = log.runtime.block_on(log.dead_letters.replay("source.dlq", refused.number, |record| {
        let value = record.value.clone();
        async move { if value.as_deref() == Some(b"2") { Ok(()) } else { Err("another record".to_owned()) } }
    }));
    replayed.unwrap();
    let marked: Vec<bool> = log.letters("source.dlq").iter().map(|letter| letter.is_replayed).collect();
    assert_eq!(marked.iter().filter(|is_replayed| **is_replayed).count(), 1);
}

/// A journal takes the place of the one that was read, while the subscription runs: an older one, and then the first again.
#[test]
fn a_log_that_is_not_the_one_that_was_read_is_told_so_and_not_read_until_it_agrees() {
    let log = Arc::new(Embedded::new());
    log.create_topic("source", 1);
    log.create_topic("other", 1);
    let said = |number: usize| ("k".to_owned(), vec![number.to_string()]);
    log.say("source", &[said(0), said(1), said(2)]);
    log.say("other", &[said(10), said(11), said(12), said(13)]);
    let journal_of = |topic: &str| Arc::clone(&log.topics.lock().unwrap()[topic].journal);
    let (first, other) = (journal_of("source"), journal_of("other"));
    let arguments = log.arguments("source", "hearer");
    let source = arguments.source.clone();
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let runtime = log.runtime.handle().clone();
    let hears = || {
        let (arguments, runtime, heard) = (arguments.clone(), runtime.clone(), Arc::clone(&heard));
        let open: OpenSource = Arc::new(move |_| {
            let opened: Box<dyn LogSource> = Box::new(JournalSource::new(arguments.clone(), runtime.clone()));
            Ok(opened)
        });
        let handler = handler::each(4, move |record| {
            heard.lock().unwrap().push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
            async { Outcome::Done }
        });
        Subscription::new("hears", "hearer", Topics::Named(vec!["source".into()]), open, handler)
            .commit(CommitEvery { every: Duration::from_millis(20), records: 1_000 })
    };
    let dynamic: Arc<dyn LogUnderTest> = Arc::clone(&log) as Arc<dyn LogUnderTest>;
    let mut step = 0;
    let refused = std::cell::Cell::new(false);
    run_until(&dynamic, hears, "the first log is read again", |_| {
        let count = heard.lock().unwrap().len();
        match step {
            0 if count == 3 => {
                source.set(Arc::clone(&other));
                // It is looked at with the next event, or the next question.
                log.say("source", &[said(3)]);
                step = 1;
            }
            1 if other.contradictions().is_any() => {
                let sentences = other.contradictions().sentences();
                assert!(
                    sentences[0].starts_with("hearer<source") && sentences[0].contains("and this is the log"),
                    "{sentences:?}"
                );
                refused.set(true);
                source.set(Arc::clone(&first));
                step = 2;
            }
            _ => {}
        }
        step == 2 && count == 4
    });
    assert!(refused.get());
    assert_eq!(*heard.lock().unwrap(), ["0", "1", "2", "3"], "nothing of the other log was heard");
    assert!(!first.contradictions().is_any());

    // Begun again on a log that is not the one that its stored position is of.
    source.set(Arc::clone(&other));
    run_until(&dynamic, hears, "the other log is told so", |_| {
        other.contradictions().sentences().iter().any(|said| said.starts_with("hearer<source"))
    });
    assert_eq!(heard.lock().unwrap().len(), 4);
}
