//! Where a record comes from: the log, its incarnation, the event's position and its digest, as headers.
//!
//! By them a reader sees that a record is of a former life of its log, or that the log went back; and a relay that starts sees whether
//! the topics have more of its log than the log itself: then the log was cut, replaced or restored, and what it would write now
//! is another history ([`written_by`], [`compare_with_written`]).

use std::collections::BTreeMap;

use runtime::{
    Journal, JournalError, LogMark, Recorded,
    journal::{
        identity::{Contradiction, EventDigest, Incarnation, LogId, LogIdentity, MarkedEvent},
        recovery::RECONCILED,
    },
};

use crate::record::{Headers, Record};

/// The log that a record's event is in: 32 hexadecimal digits.
pub const LOG: &str = "mc_log";
/// The life of the log in which it was written: 32 hexadecimal digits; the later ones are greater.
pub const INCARNATION: &str = "mc_incarnation";
/// The event's position in the log.
pub const POSITION: &str = "mc_position";
/// The event's digest: 32 hexadecimal digits.
pub const DIGEST: &str = "mc_digest";

/// The headers of one event's records.
#[derive(Clone, Debug)]
pub struct Provenance([(&'static str, String); 4]);

impl Provenance {
    /// Those of `event` in the log `identity`.
    #[must_use]
    pub fn of(identity: LogIdentity, event: &Recorded) -> Self {
        Self([
            (LOG, identity.log.to_string()),
            (INCARNATION, identity.incarnation.to_string()),
            (POSITION, event.position.to_string()),
            (DIGEST, EventDigest::of(event).to_string()),
        ])
    }

    /// Puts them behind a record's own.
    #[must_use]
    pub fn put_on(&self, headers: Headers) -> Headers {
        self.0.iter().fold(headers, |headers, (name, value)| headers.with(*name, value.clone()))
    }
}

/// Where a record says that it comes from; nothing where it does not say.
#[must_use]
pub fn mark_of(headers: &Headers) -> Option<LogMark> {
    let text = |name| headers.text(name).ok().flatten();
    let event = MarkedEvent {
        log: LogId::parse(text(LOG)?)?,
        incarnation: Incarnation::parse(text(INCARNATION)?)?,
        digest: EventDigest::parse(text(DIGEST)?)?,
    };
    Some(LogMark { position: text(POSITION)?.parse().ok()?, event: Some(event) })
}

/// The last places among `records` of those that `source` (their `ce_source`) has written: one for each log and life.
#[must_use]
pub fn written_by(source: &str, records: &[Record]) -> Vec<LogMark> {
    let mut last: BTreeMap<(String, Incarnation), LogMark> = BTreeMap::new();
    let of_source = records.iter().filter(|record| record.headers.text("ce_source") == Ok(Some(source)));
    for mark in of_source.filter_map(|record| mark_of(&record.headers)) {
        let Some(event) = mark.event else { continue };
        let newest = last.entry((event.log.to_string(), event.incarnation)).or_insert(mark);
        if mark.position > newest.position {
            *newest = mark;
        }
    }
    last.into_values().collect()
}

/// Compares what was written to topics with the log that it is said to be from. What was written in a former life, before the operator
/// has reconciled the log, is known to be of another history, and is left out.
///
/// # Errors
/// [`JournalError`] when the log cannot be read.
pub async fn compare_with_written(
    written: &[LogMark],
    log: &dyn Journal,
) -> Result<Result<(), Contradiction>, JournalError> {
    let (identity, end) = (log.identity(), *log.committed().borrow());
    let is_reconciled = log.position_of(RECONCILED.into()).await?.event.is_some();
    for mark in written {
        let Some(event) = mark.event else { continue };
        if is_reconciled && event.incarnation < identity.incarnation {
            continue;
        }
        let found = if mark.position > end { None } else { log.digest_at(mark.position).await? };
        if let Err(contradiction) = mark.check(identity, end, found) {
            return Ok(Err(contradiction));
        }
        if event.incarnation > identity.incarnation {
            return Ok(Err(Contradiction::LaterLife { position: mark.position }));
        }
    }
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use runtime::journal::{
        compare::compare,
        sqlite::{SqliteJournal, SqliteOptions},
    };

    use super::*;

    fn record(source: &str, mark: LogMark) -> Record {
        let event = mark.event.unwrap();
        let headers = Headers::default()
            .with("ce_source", source.to_owned())
            .with(LOG, event.log.to_string())
            .with(INCARNATION, event.incarnation.to_string())
            .with(POSITION, mark.position.to_string())
            .with(DIGEST, event.digest.to_string());
        let (topic, partition) = ("order-events".into(), 0);
        Record { topic, partition, offset: 0, timestamp_ms: None, key: None, value: None, headers }
    }

    #[test]
    fn a_record_says_where_it_comes_from_and_the_last_of_a_source_counts() {
        let identity = LogIdentity::generate().unwrap();
        let event = Recorded {
            position: 7,
            stream: "order/ord_1".into(),
            version: 1,
            event_type: "order.paid".into(),
            schema: 1,
            payload: "{}".into(),
            at_ms: 1,
            correlation_id: None,
            causation_id: None,
            actor: None,
            traceparent: None,
            published_before: None,
        };
        let seventh = LogMark::new(identity, 7, EventDigest::of(&event));
        let headers = Provenance::of(identity, &event).put_on(Headers::default().with("ce_id", "evt_1"));
        assert_eq!(mark_of(&headers), Some(seventh));
        assert_eq!(mark_of(&Headers::default().with(LOG, "not a log")), None);
        let eighth = LogMark { position: 8, ..seventh };
        let records = [record("order-service", seventh), record("order-service", eighth), record("other", seventh)];
        assert_eq!(written_by("order-service", &records), [eighth]);
    }

    #[tokio::test]
    async fn a_topic_that_has_more_than_its_log_or_is_of_another_contradicts() {
        let directory = tempfile::tempdir().unwrap();
        let options = SqliteOptions::new(directory.path(), "");
        let journal = SqliteJournal::open(&options).unwrap();
        let start = LogMark::start_of(journal.identity());
        assert_eq!(compare(start, &*journal).await.unwrap(), Ok(()));
        assert_eq!(compare_with_written(&[start], &*journal).await.unwrap(), Ok(()));
        let ahead = LogMark { position: 3, ..start };
        let contradiction = Contradiction::BeyondTheEnd { position: 3, end: 0 };
        assert_eq!(compare_with_written(&[start, ahead], &*journal).await.unwrap(), Err(contradiction));
        let elsewhere = LogMark::start_of(LogIdentity::generate().unwrap());
        let other = compare_with_written(&[elsewhere], &*journal).await.unwrap();
        assert!(matches!(other, Err(Contradiction::OtherLog { .. })), "{other:?}");
    }
}
