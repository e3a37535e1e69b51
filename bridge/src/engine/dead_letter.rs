//! Dead letters: records that could not be done, kept for people, and brought back by them.
//!
//! A dead letter is written to `<topic>.dlq` with the same key and value. The original headers stay (`traceparent` among
//! them), and behind them stand these, all text:
//!
//! | header | value |
//! |---|---|
//! | `dlq-origin-topic` | the topic that it was read from; always the first of these |
//! | `dlq-origin-partition`, `dlq-origin-offset` | its place there |
//! | `dlq-origin-timestamp` | its timestamp, in milliseconds since the Unix epoch; absent where it had none |
//! | `dlq-group` | the consumer group that gave it up |
//! | `dlq-attempts` | how often it was tried |
//! | `dlq-error-kind` | see [`ErrorKind::as_str`] |
//! | `dlq-error` | the last failure in words, cut at [`REASON_BYTES_MAX`] |
//! | `dlq-first-failure`, `dlq-last-failure` | when, in milliseconds since the Unix epoch |
//!
//! What stands for records that nobody could be given ([`notice`]: the client could not read them, or they were removed before) has
//! neither key nor value: `dlq-origin-offset` is the first of them, and two more headers say what is missing.
//!
//! | header then | value |
//! |---|---|
//! | `dlq-content` | that there is none, and why |
//! | `dlq-origin-last-offset` | the last of them |
//!
//! A dead letter that is itself refused, being too large with these headers for example, is written [without its
//! content](without_content): key and our headers stay, and two more say what is missing.
//!
//! | header then | value |
//! |---|---|
//! | `dlq-content` | that value and original headers were left out |
//! | `dlq-value-bytes` | how large the value was; absent where there was none |
//!
//! On a log that removes nothing, a dead letter that was brought back is followed by a [mark](mark_of): a record of the same key
//! without a value, whose header `dlq-replayed` says which one. What is marked is not listed any more.
//!
//! [`replay`] makes the original record from a dead letter. A dead letter of a dead letter keeps the headers of both; each
//! replay takes one layer off.

use std::{str, sync::Arc};

use bytes::Bytes;

use crate::record::{Header, Headers, OutgoingRecord, Record, TopicPartition};

/// What the name of a topic of dead letters ends with.
pub const DEAD_LETTER_SUFFIX: &str = ".dlq";
/// The most bytes of a failure's words that are kept: a reason, not a log file.
pub const REASON_BYTES_MAX: usize = 1_024;

/// Topic it was read from.
pub const ORIGIN_TOPIC: &str = "dlq-origin-topic";
/// Partition it was read from.
pub const ORIGIN_PARTITION: &str = "dlq-origin-partition";
/// Offset it was read at.
pub const ORIGIN_OFFSET: &str = "dlq-origin-offset";
/// The last offset, where a dead letter stands for several records.
pub const ORIGIN_LAST_OFFSET: &str = "dlq-origin-last-offset";
/// Its timestamp in milliseconds since the Unix epoch.
pub const ORIGIN_TIMESTAMP: &str = "dlq-origin-timestamp";
/// The consumer group that gave it up.
pub const GROUP: &str = "dlq-group";
/// How often it was tried.
pub const ATTEMPTS: &str = "dlq-attempts";
/// The kind of its last failure.
pub const ERROR_KIND: &str = "dlq-error-kind";
/// Its last failure in words.
pub const ERROR: &str = "dlq-error";
/// When it first failed, in milliseconds since the Unix epoch.
pub const FIRST_FAILURE: &str = "dlq-first-failure";
/// When it last failed, in milliseconds since the Unix epoch.
pub const LAST_FAILURE: &str = "dlq-last-failure";
/// Says that value and original headers were left out, because the dead letter was refused with them.
pub const CONTENT: &str = "dlq-content";
/// How many bytes the value had that was left out.
pub const VALUE_BYTES: &str = "dlq-value-bytes";

/// Says of a record that it is no dead letter but a mark: the one at this place of the same topic, `partition/offset`, was brought
/// back.
pub const REPLAYED: &str = "dlq-replayed";

/// A replayed record's own timestamp, in milliseconds since the Unix epoch: the record itself has the time of its replay.
pub const REPLAYED_TIMESTAMP: &str = "replayed-timestamp";

/// What a source could not make a record of, it gives as it is under this header, whose value says why. Such a record goes to the
/// dead letters at once.
pub const UNDECODABLE: &str = "bridge-undecodable";

/// What stands in a log's order for records that cannot be given: see [`notice`]. Its value is the first of their offsets.
const NOTICE: &str = "bridge-notice-from";
/// What kind of notice it is.
const NOTICE_KIND: &str = "bridge-notice-kind";

/// Kinds of failure, as they are counted and searched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The handler failed as often as the policy allows.
    Failed,
    /// The handler panicked, or dropped its delivery, as often as the policy allows.
    Dropped,
    /// The handler said that it can never be done.
    Rejected,
    /// Its bytes mean nothing.
    Undecodable,
    /// The name of a header is no UTF-8.
    HeaderName,
    /// An earlier record of its key is a dead letter, and the subscription asks that later ones follow it. That is known to the
    /// partition's present owner alone: after a restart or a rebalance later records are delivered.
    Quarantined,
    /// The client cannot make records of what is there: compressed in a way that it does not know, damaged, cut off.
    Unreadable,
    /// Records were removed from the log before they were taken in.
    Lost,
}

impl ErrorKind {
    /// The header's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Dropped => "dropped",
            Self::Rejected => "rejected",
            Self::Undecodable => "undecodable",
            Self::HeaderName => "header-name",
            Self::Quarantined => "quarantined",
            Self::Unreadable => "unreadable",
            Self::Lost => "lost",
        }
    }
}

/// What is known of a record's failures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// How often it was tried.
    pub attempts: u32,
    /// The kind of the last failure.
    pub kind: ErrorKind,
    /// The last failure in words.
    pub error: String,
    /// The first failure, in milliseconds since the Unix epoch.
    pub first_ms: i64,
    /// The last failure, in milliseconds since the Unix epoch.
    pub last_ms: i64,
}

/// The topic of the dead letters of `topic`.
#[must_use]
pub fn dead_letter_topic(topic: &str) -> Arc<str> {
    format!("{topic}{DEAD_LETTER_SUFFIX}").into()
}

/// What stands for the offsets `first` to `last`, of which no record can be given: it takes their place in the log's order, goes to the
/// dead letters at once, and so leaves a durable trace before any commit is past them.
#[must_use]
pub fn notice(partition: &TopicPartition, kind: ErrorKind, first: i64, last: i64, reason: &str) -> Record {
    let headers = Headers::default().with(NOTICE, first.to_string()).with(NOTICE_KIND, kind.as_str());
    Record {
        topic: Arc::clone(&partition.topic),
        partition: partition.partition,
        offset: last,
        timestamp_ms: None,
        key: None,
        value: None,
        headers: headers.with(UNDECODABLE, cut(reason).to_owned()),
    }
}

/// What a notice is about; nothing for a record.
pub(crate) fn notice_kind(record: &Record) -> Option<ErrorKind> {
    let first = record.headers.as_slice().first().filter(|header| header.name == NOTICE)?;
    let is_lost = record.headers.get(NOTICE_KIND).is_some_and(|kind| kind == ErrorKind::Lost.as_str());
    first.value.is_some().then_some(if is_lost { ErrorKind::Lost } else { ErrorKind::Unreadable })
}

/// The dead letter of a record that `group` gave up.
#[must_use]
pub fn dead_letter(record: &Record, group: &str, failure: &Failure) -> OutgoingRecord {
    let notice_from = notice_kind(record).and_then(|_| record.headers.text(NOTICE).ok().flatten());
    // A notice's headers are the engine's own words; they become these below.
    let mut headers = notice_from.map_or_else(|| record.headers.as_slice().to_vec(), |_| Vec::new());
    let mut push = |name: &'static str, value: String| {
        headers.push(Header { name: Bytes::from_static(name.as_bytes()), value: Some(value.into()) });
    };
    push(ORIGIN_TOPIC, record.topic.to_string());
    push(ORIGIN_PARTITION, record.partition.to_string());
    push(ORIGIN_OFFSET, notice_from.map_or_else(|| record.offset.to_string(), str::to_owned));
    if notice_from.is_some() {
        push(ORIGIN_LAST_OFFSET, record.offset.to_string());
        push(CONTENT, "there is none: no record could be read here".to_owned());
    }
    if let Some(timestamp_ms) = record.timestamp_ms {
        push(ORIGIN_TIMESTAMP, timestamp_ms.to_string());
    }
    push(GROUP, group.to_owned());
    push(ATTEMPTS, failure.attempts.to_string());
    push(ERROR_KIND, failure.kind.as_str().to_owned());
    push(ERROR, cut(&failure.error).to_owned());
    push(FIRST_FAILURE, failure.first_ms.to_string());
    push(LAST_FAILURE, failure.last_ms.to_string());
    OutgoingRecord {
        topic: dead_letter_topic(&record.topic),
        partition: None,
        key: record.key.clone(),
        value: record.value.clone(),
        timestamp_ms: None,
        headers: Headers::new(headers),
    }
}

/// A dead letter of which only the key and our headers are left, for a log that refuses the whole of it. Where the value is
/// still to be found, `dlq-origin-…` says.
#[must_use]
pub fn without_content(letter: OutgoingRecord) -> OutgoingRecord {
    let headers = letter.headers.as_slice();
    let ours = headers.iter().rposition(|header| header.name == ORIGIN_TOPIC).unwrap_or(0);
    let mut headers =
        Headers::new(headers[ours..].to_vec()).with(CONTENT, "left out: the dead letter was refused with it");
    if let Some(value) = &letter.value {
        headers = headers.with(VALUE_BYTES, value.len().to_string());
    }
    OutgoingRecord { value: None, headers, ..letter }
}

/// Why there is no original to bring back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoOriginal {
    /// It is no dead letter.
    #[error("the record has no readable header {ORIGIN_TOPIC}: it is no dead letter")]
    NoDeadLetter,
    /// It is a dead letter without its content.
    #[error("it has no content, as its header dlq-content says: send it again from where it came from")]
    WithoutContent,
}

/// The original of a dead letter, for the topic that it was read from. Its key chooses the partition, as it did the first
/// time; the original headers are kept, ours are taken off. It is written with the time of its replay, since retention could
/// remove it at once if it had its own; its own is kept in the header [`REPLAYED_TIMESTAMP`].
///
/// # Errors
/// [`NoOriginal`].
pub fn replay(dead_letter: &Record) -> Result<OutgoingRecord, NoOriginal> {
    let headers = dead_letter.headers.as_slice();
    let ours = headers.iter().rposition(|header| header.name == ORIGIN_TOPIC).ok_or(NoOriginal::NoDeadLetter)?;
    let (original, ours) = headers.split_at(ours);
    let value_of = |name: &str| ours.iter().find(|header| header.name == name).and_then(|header| header.value.clone());
    let topic = value_of(ORIGIN_TOPIC).ok_or(NoOriginal::NoDeadLetter)?;
    let topic = str::from_utf8(&topic).map_err(|_| NoOriginal::NoDeadLetter)?;
    if ours.iter().any(|header| header.name == CONTENT) {
        return Err(NoOriginal::WithoutContent);
    }
    let mut headers = original.to_vec();
    // What was replayed before keeps its first time.
    if let Some(timestamp) = value_of(ORIGIN_TIMESTAMP)
        && !original.iter().any(|header| header.name == REPLAYED_TIMESTAMP)
    {
        headers.push(Header { name: Bytes::from_static(REPLAYED_TIMESTAMP.as_bytes()), value: Some(timestamp) });
    }
    Ok(OutgoingRecord {
        topic: topic.into(),
        partition: None,
        key: dead_letter.key.clone(),
        value: dead_letter.value.clone(),
        timestamp_ms: None,
        headers: Headers::new(headers),
    })
}

/// The mark of a dead letter that was brought back.
#[must_use]
pub fn mark_of(dead_letter: &Record) -> OutgoingRecord {
    OutgoingRecord {
        topic: Arc::clone(&dead_letter.topic),
        partition: None,
        key: dead_letter.key.clone(),
        value: None,
        timestamp_ms: None,
        headers: Headers::default().with(REPLAYED, format!("{}/{}", dead_letter.partition, dead_letter.offset)),
    }
}

/// Which dead letter a record marks as brought back: its partition and offset; nothing where it is no mark.
#[must_use]
pub fn marked_by(record: &Record) -> Option<(i32, i64)> {
    let (partition, offset) = record.headers.text(REPLAYED).ok().flatten()?.split_once('/')?;
    Some((partition.parse().ok()?, offset.parse().ok()?))
}

/// At most [`REASON_BYTES_MAX`] bytes of `text`, cut between letters.
pub(crate) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(REASON_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            topic: "orders".into(),
            partition: 3,
            offset: 77,
            timestamp_ms: Some(1_700_000_000_000),
            key: Some("k".into()),
            value: None,
            headers: Headers::default().with("traceparent", "00-abc").with(&b"\xff"[..], "kept"),
        }
    }

    fn failure(error: String) -> Failure {
        Failure { attempts: 4, kind: ErrorKind::Failed, error, first_ms: 5, last_ms: 9 }
    }

    fn read_back(written: OutgoingRecord) -> Record {
        let OutgoingRecord { topic, key, value, headers, .. } = written;
        Record { topic, partition: 0, offset: 0, timestamp_ms: Some(1), key, value, headers }
    }

    #[test]
    fn a_dead_letter_says_where_it_came_from_and_replays_to_the_original() {
        let original = record();
        let letter = read_back(dead_letter(&original, "billing", &failure("no".into())));
        assert_eq!(&*letter.topic, "orders.dlq");
        let text = |name: &str| letter.headers.text(name).unwrap().unwrap().to_owned();
        assert_eq!([text(ORIGIN_TOPIC), text(ORIGIN_PARTITION), text(ORIGIN_OFFSET)], ["orders", "3", "77"]);
        assert_eq!([text(GROUP), text(ATTEMPTS), text(ERROR_KIND), text(ERROR)], ["billing", "4", "failed", "no"]);
        assert_eq!([text(FIRST_FAILURE), text(LAST_FAILURE), text("traceparent")], ["5", "9", "00-abc"]);
        let replayed = replay(&letter).unwrap();
        let headers = original.headers.clone().with(REPLAYED_TIMESTAMP, "1700000000000");
        let expected = (original.topic, original.key, original.value, None, headers);
        assert_eq!((replayed.topic, replayed.key, replayed.value, replayed.timestamp_ms, replayed.headers), expected);
    }

    #[test]
    fn what_is_replayed_twice_keeps_its_first_time() {
        let mut again = read_back(replay(&read_back(dead_letter(&record(), "a", &failure("x".into())))).unwrap());
        again.timestamp_ms = Some(1_800_000_000_000);
        let twice = replay(&read_back(dead_letter(&again, "a", &failure("x".into())))).unwrap();
        assert_eq!(twice.headers, record().headers.with(REPLAYED_TIMESTAMP, "1700000000000"));
    }

    #[test]
    fn without_its_content_a_dead_letter_still_says_where_it_came_from_and_is_never_replayed() {
        let original = Record { value: Some("12345".into()), ..record() };
        let stub = read_back(without_content(dead_letter(&original, "billing", &failure("no".into()))));
        let text = |name: &str| stub.headers.text(name).unwrap().map(str::to_owned);
        assert_eq!((&stub.key, &stub.value, text("traceparent")), (&original.key, &None, None));
        assert_eq!((text(ORIGIN_OFFSET).as_deref(), text(VALUE_BYTES).as_deref()), (Some("77"), Some("5")));
        assert_eq!(replay(&stub), Err(NoOriginal::WithoutContent));
        let tombstone = read_back(without_content(dead_letter(&record(), "billing", &failure("no".into()))));
        assert!(tombstone.headers.get(VALUE_BYTES).is_none() && tombstone.headers.get(CONTENT).is_some());
    }

    #[test]
    fn a_mark_says_which_dead_letter_was_brought_back_and_is_none_itself() {
        let letter = read_back(dead_letter(&record(), "a", &failure("x".into())));
        let letter = Record { partition: 2, offset: 41, ..letter };
        let mark = mark_of(&letter);
        assert_eq!((&*mark.topic, &mark.key, &mark.value), ("orders.dlq", &letter.key, &None));
        let mark = read_back(mark);
        assert_eq!((marked_by(&mark), marked_by(&letter)), (Some((2, 41)), None));
        assert_eq!(replay(&mark), Err(NoOriginal::NoDeadLetter));
    }

    #[test]
    fn a_dead_letter_of_what_nobody_could_be_given_says_its_range_and_is_never_replayed() {
        let partition = TopicPartition::new("orders", 3);
        for (kind, name) in [(ErrorKind::Unreadable, "unreadable"), (ErrorKind::Lost, "lost")] {
            let notice = notice(&partition, kind, 5, 8, "codec 7");
            assert_eq!(notice_kind(&notice), Some(kind));
            let failure = Failure { kind, ..failure("codec 7".into()) };
            let letter = read_back(dead_letter(&notice, "billing", &failure));
            let text = |name: &str| letter.headers.text(name).unwrap().unwrap().to_owned();
            assert_eq!([text(ORIGIN_PARTITION), text(ORIGIN_OFFSET), text(ORIGIN_LAST_OFFSET)], ["3", "5", "8"]);
            assert_eq!([text(ERROR_KIND), text(ERROR)], [name, "codec 7"]);
            assert!(letter.headers.as_slice().iter().all(|header| header.name.starts_with(b"dlq-")));
            assert_eq!(replay(&letter), Err(NoOriginal::WithoutContent));
        }
        assert_eq!(notice_kind(&record()), None);
    }

    #[test]
    fn each_replay_takes_one_layer_off() {
        let once = read_back(dead_letter(&record(), "a", &failure("x".into())));
        let twice = read_back(dead_letter(&once, "b", &failure("y".into())));
        assert_eq!(&*twice.topic, "orders.dlq.dlq");
        let back = replay(&twice).unwrap();
        assert_eq!((&*back.topic, back.headers), ("orders.dlq", once.headers.with(REPLAYED_TIMESTAMP, "1")));
        assert_eq!(replay(&record()), Err(NoOriginal::NoDeadLetter));
    }

    #[test]
    fn a_long_reason_is_cut_between_letters() {
        let letter = dead_letter(&record(), "a", &failure("é".repeat(REASON_BYTES_MAX)));
        assert_eq!(letter.headers.get(ERROR).unwrap().len(), REASON_BYTES_MAX);
        assert!(cut(&format!("x{}", "é".repeat(REASON_BYTES_MAX))).len() < REASON_BYTES_MAX);
    }
}
