//! Finds out what is wrong with a partition: whether its log is still the one that was read, and what of it cannot be read.
//!
//! **Owns** a thread, since its questions wait for brokers, and for each trial read a client of its own. The source asks it when a
//! partition brings an error instead of records, nothing though there is something, or signs of another log; the answer wakes the
//! source, which acts on it. **When it dies** the source asks nobody and goes on reading. It gives no records and commits nothing.
//!
//! librdkafka 2.12 with a batch of records that it cannot read, as its sources say (`rdkafka_msgset_reader.c`):
//!
//! | fault | what the application is told | then |
//! |---|---|---|
//! | unknown codec, or damaged compression | an error with the batch's first offset | the same batch is fetched again, for ever |
//! | wrong checksum (with `check.crcs`) | the same; what follows it in the answer is read from a wrong place | the same |
//! | unknown magic byte | the same, once | nothing at all, for ever |
//! | records within the batch that make no sense, or are cut off | nothing | nothing at all, for ever |
//!
//! None of them says where the batch ends. So it is tried out: a read that begins within the batch meets the same fault, one behind
//! it does not.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    config::{ClientConfig, FromClientConfigAndContext},
    consumer::{BaseConsumer, Consumer},
    error::RDKafkaErrorCode,
    topic_partition_list::{Offset, TopicPartitionList},
};

use super::{
    group::{GroupContext, Told},
    native::{self, TakenMessages},
    statistics,
    wakeup::Wakeup,
};
use crate::{
    continuity::{Continuity, continuity},
    ports::LogState,
    record::TopicPartition,
};

/// How long one question to a broker may take.
const ASK_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long a trial read may take until it has shown something.
const TRIAL_WAIT_MAX: Duration = Duration::from_secs(10);
/// How often a trial read reports on itself.
const TRIAL_STATISTICS_MS: &str = "200";
/// After this many reports in a row that there are records, and that they are asked for from the same place, while none came, none can
/// be read there. Each report follows at least one whole answer of the broker.
const SILENT_REPORTS: u32 = 5;
/// Longest wait inside the client while a trial read goes on.
const STEP: Duration = Duration::from_millis(20);
/// Trials of one examination at places that show nothing: each takes seconds. What is beyond is the next examination's.
const SILENT_TRIALS_MAX: usize = 16;

/// What is asked.
pub(super) enum Question {
    /// The identities of these topics.
    Ids(Vec<Arc<str>>),
    /// What is wrong with a partition.
    Partition(Suspicion),
}

/// A partition that does not go on as it should.
#[derive(Clone, Debug)]
pub(super) struct Suspicion {
    pub(super) partition: TopicPartition,
    /// Which assignment of it this is.
    pub(super) generation: u64,
    /// The next offset, where it is known.
    pub(super) position: Option<i64>,
    /// The identity of the log that was read.
    pub(super) log_id: Option<Arc<str>>,
    /// What shows that the log is another one, though nothing else may.
    pub(super) evidence: Option<String>,
}

/// What was found.
pub(super) enum Answer {
    Ids(Vec<(Arc<str>, Arc<str>)>),
    Partition(TopicPartition, u64, Finding),
}

/// What is wrong with a partition.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Nothing: records come from the position.
    Readable,
    /// It was not found out.
    Unknown(String),
    /// Records are gone.
    Skipped { from: i64, to: i64 },
    /// It is another log.
    WentBack { log: LogState, reason: String },
    /// These cannot be read.
    Unreadable { first: i64, last: i64, reason: String },
}

/// The source's end of it.
pub(super) struct Examiner {
    questions: mpsc::Sender<(Arc<BaseConsumer<GroupContext>>, Question)>,
    answers: mpsc::Receiver<Answer>,
}

impl Examiner {
    /// Starts the thread. `config` is the source's: trials read as the source does.
    pub(super) fn start(config: ClientConfig, wakeup: Arc<Wakeup>) -> std::io::Result<Self> {
        let (questions, asked) = mpsc::channel::<(Arc<BaseConsumer<GroupContext>>, Question)>();
        let (says, answers) = mpsc::channel();
        thread::Builder::new().name("kafka-examiner".to_owned()).spawn(move || {
            for (consumer, question) in asked {
                let answer = match question {
                    Question::Ids(topics) => Answer::Ids(ids(&consumer, &topics)),
                    Question::Partition(suspicion) => {
                        let finding = examine(&consumer, &config, &suspicion);
                        Answer::Partition(suspicion.partition, suspicion.generation, finding)
                    }
                };
                // Given back before the answer: a source that ends on it may be the last to hold the client.
                drop(consumer);
                if says.send(answer).is_err() {
                    return;
                }
                wakeup.raise();
            }
        })?;
        Ok(Self { questions, answers })
    }

    /// Asks; false when nobody is there to answer.
    pub(super) fn ask(&self, consumer: &Arc<BaseConsumer<GroupContext>>, question: Question) -> bool {
        self.questions.send((Arc::clone(consumer), question)).is_ok()
    }

    pub(super) fn answers(&self) -> impl Iterator<Item = Answer> {
        self.answers.try_iter()
    }
}

/// The identities that the brokers know; none where they do not answer, which is no news.
fn ids(consumer: &BaseConsumer<GroupContext>, topics: &[Arc<str>]) -> Vec<(Arc<str>, Arc<str>)> {
    let known = native::topic_ids(consumer, topics, ASK_WAIT_MAX).unwrap_or_else(|error| {
        tracing::debug!(%error, "the topics' identities are not known");
        Default::default()
    });
    topics.iter().filter_map(|topic| Some((Arc::clone(topic), Arc::clone(known.get(&**topic)?)))).collect()
}

/// The log as it is now.
///
/// # Errors
/// Why the brokers do not say.
pub(super) fn state_of(
    consumer: &BaseConsumer<GroupContext>,
    id: &TopicPartition,
    log_id: Option<Arc<str>>,
    wait: Duration,
) -> Result<LogState, String> {
    let watermarks = consumer.fetch_watermarks(&id.topic, id.partition, wait);
    let (first, end) = watermarks.map_err(|error| error.to_string())?;
    Ok(LogState { id: log_id, first, end })
}

fn examine(consumer: &BaseConsumer<GroupContext>, config: &ClientConfig, suspicion: &Suspicion) -> Finding {
    let Suspicion { partition, position, log_id, evidence, .. } = suspicion;
    let topic = std::slice::from_ref(&partition.topic);
    let now_id = ids(consumer, topic).pop().map(|(_, id)| id);
    let log = match state_of(consumer, partition, now_id, ASK_WAIT_MAX) {
        Ok(log) => log,
        Err(reason) => return Finding::Unknown(reason),
    };
    let position = position.unwrap_or(log.first);
    match (continuity(position, log_id.as_deref(), &log), evidence) {
        (Continuity::WentBack(reason), _) => return Finding::WentBack { log, reason },
        (_, Some(evidence)) => return Finding::WentBack { log, reason: evidence.clone() },
        (Continuity::Skipped { from, to }, None) => return Finding::Skipped { from, to },
        (Continuity::GoesOn, None) => {}
    }
    let trial = |offset| trial(config, partition, offset);
    let first = match trial(position) {
        Ok(first) => first,
        Err(reason) => return Finding::Unknown(reason),
    };
    let (base, reason) = match first {
        Trial::Readable => return Finding::Readable,
        Trial::Faulty { base, reason } => (Some(base), reason),
        Trial::Silent => (None, "no record can be made of what is there".to_owned()),
    };
    let first_bad = base.map_or(position, |base| base.max(position));
    match last_of_batch(first_bad, base, log.end, trial) {
        Ok(last) => Finding::Unreadable { first: first_bad, last, reason },
        Err(reason) => Finding::Unknown(reason),
    }
}

/// What a read that began at some offset has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Trial {
    /// A record, or the end.
    Readable,
    /// A fault of the batch that begins at `base`.
    Faulty { base: i64, reason: String },
    /// There are records and none came, nor any word.
    Silent,
}

/// Finds the last offset of the batch that holds `bad`; `base` is how its fault names it. A fault with another name is another batch's,
/// whose turn comes later.
fn last_of_batch(
    bad: i64,
    base: Option<i64>,
    end: i64,
    trial: impl Fn(i64) -> Result<Trial, String>,
) -> Result<i64, String> {
    let mut bad = bad;
    let Some(base) = base else {
        // What says nothing does not say of which batch it is either: one by one, so that nothing readable is stepped over.
        for _ in 0..SILENT_TRIALS_MAX {
            if bad + 1 >= end || trial(bad + 1)? != Trial::Silent {
                break;
            }
            bad += 1;
        }
        return Ok(bad);
    };
    let is_same =
        |offset| Ok::<_, String>(matches!(trial(offset)?, Trial::Faulty { base: found, .. } if found == base));
    let (mut good, mut step) = (end.max(bad + 1), 1);
    while bad + step < good {
        match is_same(bad + step)? {
            true => (bad, step) = (bad + step, step * 2),
            false => good = bad + step,
        }
    }
    while good - bad > 1 {
        let middle = bad + (good - bad) / 2;
        match is_same(middle)? {
            true => bad = middle,
            false => good = middle,
        }
    }
    Ok(bad)
}

/// Reads one partition from `offset` with a client of its own, in no group, until it shows what is there.
fn trial(config: &ClientConfig, id: &TopicPartition, offset: i64) -> Result<Trial, String> {
    let mut config = config.clone();
    config
        .set("statistics.interval.ms", TRIAL_STATISTICS_MS)
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "error")
        .set("fetch.error.backoff.ms", "20")
        .remove("group.instance.id");
    let text = |error: rdkafka::error::KafkaError| error.to_string();
    let consumer = Arc::new(BaseConsumer::from_config_and_context(&config, GroupContext::default()).map_err(text)?);
    let queue = consumer.split_partition_queue(&id.topic, id.partition).ok_or("the partition has no queue")?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&id.topic, id.partition, Offset::Offset(offset)).map_err(text)?;
    consumer.assign(&list).map_err(text)?;
    let mut taken =
        TakenMessages::new(Arc::clone(&consumer), &id.topic, id.partition).ok_or("the partition has no name")?;
    let (until, mut silence) = (Instant::now() + TRIAL_WAIT_MAX, Silence::default());
    let shown = loop {
        if Instant::now() >= until {
            break Err(format!("nothing was heard of offset {offset}"));
        }
        drop(consumer.poll(STEP));
        taken.take_until(1);
        let found = taken.iter().next().map(|message| (message.error(), message.offset(), message.error_text()));
        match found {
            Some((None | Some(RDKafkaErrorCode::PartitionEOF), ..)) => break Ok(Trial::Readable),
            Some((Some(code), base, reason)) if is_of_records(code) => break Ok(Trial::Faulty { base, reason }),
            Some((Some(code), ..)) => break Err(code.to_string()),
            None => {}
        }
        for told in consumer.context().take() {
            if let Told::Statistics(report) = told
                && silence.goes_on(&report, id, offset)
            {
                taken.take_until(1);
            }
        }
        if silence.reports >= SILENT_REPORTS && taken.len() == 0 {
            break Ok(Trial::Silent);
        }
    };
    drop((taken, queue));
    shown
}

/// Reports in a row that there is something and nothing comes.
#[derive(Default)]
struct Silence {
    fetched_to: i64,
    reports: u32,
}

impl Silence {
    fn goes_on(&mut self, report: &[u8], id: &TopicPartition, offset: i64) -> bool {
        // Up to where anybody may read: what a transaction holds back is no fault.
        let Ok(figures) = statistics::figures(report, true) else { return false };
        let of_ours = |place: &&statistics::Progress| place.partition == id.partition && *place.topic == *id.topic;
        let place = figures.partitions.iter().find(of_ours);
        let is_silent = figures.is_connected
            && place.is_some_and(|place| {
                place.end > offset.max(place.fetched_to) && place.is_queue_empty && place.fetched_to == self.fetched_to
            });
        self.fetched_to = place.map_or(self.fetched_to, |place| place.fetched_to);
        self.reports = if is_silent { self.reports + 1 } else { 0 };
        is_silent
    }
}

/// True for errors that say that what is in the log cannot be read, rather than that the log cannot.
pub(super) fn is_of_records(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{
        BadCompression, BadMessage, InvalidMessage, InvalidMessageSize, InvalidRecord, MessageSizeTooLarge,
        NotImplemented, UnsupportedCompressionType,
    };
    matches!(
        code,
        BadCompression
            | BadMessage
            | InvalidMessage
            | InvalidMessageSize
            | InvalidRecord
            | MessageSizeTooLarge
            | NotImplemented
            | UnsupportedCompressionType
    )
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A log of batches: (first, last, whether it names its fault or only keeps silent); the rest is readable.
    fn trial_of<'a>(
        faulty: &'a [(i64, i64, bool)],
        trials: &'a Cell<usize>,
    ) -> impl Fn(i64) -> Result<Trial, String> + 'a {
        move |offset| {
            trials.set(trials.get() + 1);
            let batch = faulty.iter().find(|(first, last, _)| (*first..=*last).contains(&offset));
            Ok(match batch {
                None => Trial::Readable,
                Some((base, _, true)) => Trial::Faulty { base: *base, reason: "no".to_owned() },
                Some((.., false)) => Trial::Silent,
            })
        }
    }

    #[test]
    fn a_batch_ends_where_its_fault_does_however_large_it_is_and_whatever_follows() {
        for size in [1, 2, 3, 7, 8, 9, 1_000, 65_536] {
            let last = 9 + size;
            let logs: [&[(i64, i64, bool)]; 4] = [
                &[(10, last, true)],
                &[(10, last, true), (last + 1, last + 3, true)],
                &[(10, last, true), (last + 2, last + 40, true)],
                &[(10, last, true), (last + 2, last + 4, false)],
            ];
            for faulty in logs {
                let trials = Cell::new(0);
                // From its beginning, and from within, as a position may be.
                for bad in [10, 10 + size / 2] {
                    assert_eq!(
                        last_of_batch(bad, Some(10), last + 50, trial_of(faulty, &trials)),
                        Ok(last),
                        "{faulty:?}"
                    );
                    assert_eq!(
                        last_of_batch(bad, Some(10), last + 1, trial_of(faulty, &trials)),
                        Ok(last),
                        "at the end"
                    );
                }
                assert!(trials.get() < 200, "{} trials for {size} records", trials.get());
            }
        }
    }

    #[test]
    fn a_batch_that_says_nothing_is_stepped_over_one_by_one_and_not_for_ever() {
        let trials = Cell::new(0);
        let faulty = [(10, 12, false), (13, 20, true)];
        assert_eq!(last_of_batch(10, None, 100, trial_of(&faulty, &trials)), Ok(12));
        let faulty = [(10, 1_000, false)];
        let last = 10 + SILENT_TRIALS_MAX as i64;
        assert_eq!(last_of_batch(10, None, 2_000, trial_of(&faulty, &trials)), Ok(last));
        // One that says its name once, and then nothing: the rest is the next examination's.
        let faulty = [(10, 10, true), (11, 14, false)];
        assert_eq!(last_of_batch(10, Some(10), 100, trial_of(&faulty, &trials)), Ok(10));
        assert_eq!(last_of_batch(11, None, 100, trial_of(&faulty, &trials)), Ok(14));
    }

    #[test]
    fn only_what_cannot_be_read_is_a_fault_of_records() {
        assert!(is_of_records(RDKafkaErrorCode::BadCompression) && is_of_records(RDKafkaErrorCode::BadMessage));
        assert!(is_of_records(RDKafkaErrorCode::NotImplemented) && is_of_records(RDKafkaErrorCode::InvalidMessage));
        for other in [
            RDKafkaErrorCode::TopicAuthorizationFailed,
            RDKafkaErrorCode::UnknownTopicOrPartition,
            RDKafkaErrorCode::BrokerTransportFailure,
            RDKafkaErrorCode::AutoOffsetReset,
        ] {
            assert!(!is_of_records(other), "{other}");
        }
    }
}
