//! The index of the streams lags behind the events; nobody who reads may notice, also not after a crash.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::{
    fs::File,
    io::Read,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use microcommerce_runtime::{
    CommandId, Journal, JournalError,
    journal::{
        Outcome,
        sqlite::{SqliteJournal, SqliteOptions},
    },
    seen::SEEN_COMMANDS_MAX,
};
use rusqlite::Connection;
use support::{PATIENCE, TRACEPARENT, append};

const STREAMS: u64 = 1_000;
/// Together some more than wait in memory.
const COMMANDS_OF_EACH: u64 = 40;
const EVENTS_OF_EACH: u64 = 2;
const NEWEST: u64 = COMMANDS_OF_EACH * EVENTS_OF_EACH;

fn open(directory: &Path) -> Arc<SqliteJournal> {
    SqliteJournal::open(&SqliteOptions::new(directory, "")).unwrap()
}

/// What is committed at one moment: as a crash would leave it.
fn copy_as_a_crash_leaves_it(of: &Path, to: &Path) {
    let reader = Connection::open(of.join("journal.db")).unwrap();
    reader.execute("VACUUM INTO ?1", [to.join("journal.db").to_str().unwrap()]).unwrap();
}

fn versions_in_the_table(directory: &Path) -> u64 {
    let reader = Connection::open(directory.join("journal.db")).unwrap();
    reader.query_row("SELECT count(*) FROM versions", [], |row| row.get::<_, i64>(0)).unwrap().unsigned_abs()
}

fn stream(number: u64) -> Arc<str> {
    format!("pile/{number}").into()
}

fn id(number: u64, command: u64) -> CommandId {
    CommandId::from_u128(u128::from(number) << 64 | u128::from(command))
}

/// Each command of each stream is found with its events, and a version cannot be written twice nor left out.
async fn check(journal: &SqliteJournal) {
    for number in 0..STREAMS {
        let events = journal.events(stream(number)).await.unwrap();
        assert!(events.iter().map(|event| event.version).eq(1..=NEWEST), "{number}: {events:?}");
        assert!(events.iter().all(|event| event.traceparent.as_deref() == Some(TRACEPARENT)));
        let loaded = journal.load(stream(number), SEEN_COMMANDS_MAX).await.unwrap();
        let seen: Vec<_> = (0..COMMANDS_OF_EACH).map(|nth| (id(number, nth), Some(1 + nth * EVENTS_OF_EACH))).collect();
        assert_eq!((loaded.tail.len() as u64, loaded.seen, loaded.seen_is_complete), (NEWEST, seen, true));
    }
    for (number, command) in [(0, 0), (7, COMMANDS_OF_EACH / 2), (STREAMS - 1, COMMANDS_OF_EACH - 1)] {
        let first = 1 + command * EVENTS_OF_EACH;
        let (outcome, events) =
            journal.outcome(stream(number), id(number, command), Some(first)).await.unwrap().unwrap();
        assert_eq!(outcome, Outcome::Accepted { first_version: first, count: EVENTS_OF_EACH });
        assert!(events.iter().map(|event| event.version).eq(first..first + EVENTS_OF_EACH));
    }
    for wrong in [1, NEWEST, NEWEST + 2] {
        let conflict = append(journal, &stream(3), wrong, EVENTS_OF_EACH, CommandId::from_u128(9)).await;
        assert!(matches!(conflict, Err(JournalError::Conflict(_))), "version {wrong}: {conflict:?}");
    }
}

#[tokio::test]
async fn what_was_not_yet_indexed_when_the_process_died_is_there() {
    let (directory, crashed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let journal = open(directory.path());
    for command in 0..COMMANDS_OF_EACH {
        let first = 1 + command * EVENTS_OF_EACH;
        let own = &*journal;
        let appends = (0..STREAMS).map(|number| async move {
            append(own, &stream(number), first, EVENTS_OF_EACH, id(number, command)).await
        });
        assert!(join_all(appends).await.into_iter().all(|outcome| outcome.is_ok()));
    }
    copy_as_a_crash_leaves_it(directory.path(), crashed.path());
    let indexed = versions_in_the_table(crashed.path());
    assert!((1..STREAMS * NEWEST).contains(&indexed), "some of it, and not all: {indexed}");

    check(&journal).await;
    journal.close().await;
    let after_the_crash = open(crashed.path());
    check(&after_the_crash).await;
    append(&*after_the_crash, &stream(3), NEWEST + 1, EVENTS_OF_EACH, CommandId::from_u128(10)).await.unwrap();
    after_the_crash.close().await;
}

/// When nobody has asked for anything for a while, what waits in memory is written to the table; the next command of each stream goes
/// on from there.
#[tokio::test]
async fn what_the_idle_writer_has_indexed_goes_on_where_it_stood() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    for number in 0..3 {
        append(&*journal, &stream(number), 1, 2, id(number, 0)).await.unwrap();
    }
    assert_eq!(versions_in_the_table(directory.path()), 0, "so few wait in memory");
    // The writer begins after two idle seconds; whatever it has done by then, no stream may have lost its place.
    let give_up_at = Instant::now() + PATIENCE;
    while versions_in_the_table(directory.path()) < 6 && Instant::now() < give_up_at {
        tokio::time::sleep(Duration::from_millis(20)).await;
        for number in 0..3 {
            assert_eq!(journal.events(stream(number)).await.unwrap().len(), 2, "a stream is read whole all the while");
        }
    }
    assert_eq!(versions_in_the_table(directory.path()), 6, "the idle writer brings the index up to date");
    for number in 0..3 {
        let next = append(&*journal, &stream(number), 3, 1, id(number, 1)).await;
        assert_eq!(next, Ok(()), "the next command of stream {number} goes on");
        let wrong = append(&*journal, &stream(number), 3, 1, id(number, 2)).await;
        assert!(matches!(wrong, Err(JournalError::Conflict(_))), "{wrong:?}");
        assert!(journal.events(stream(number)).await.unwrap().iter().map(|event| event.version).eq(1..=3));
    }
    journal.close().await;
}

/// What waits since before a restart stays when a command beside it is refused by the database and its transaction rolled back.
#[tokio::test]
async fn after_a_restart_a_rollback_takes_nothing_from_what_waits() {
    let (directory, crashed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let journal = open(directory.path());
    for number in 0..3 {
        append(&*journal, &stream(number), 1, 2, id(number, 0)).await.unwrap();
    }
    let without_events = id(9, 0);
    append(&*journal, &stream(9), 1, 0, without_events).await.unwrap();
    copy_as_a_crash_leaves_it(directory.path(), crashed.path());
    journal.close().await;
    assert_eq!(versions_in_the_table(crashed.path()), 0, "all of it waits");

    let journal = open(crashed.path());
    // A command without events whose id is taken is for the database to refuse: the first transaction is rolled back.
    let refused = append(&*journal, &stream(9), 1, 0, without_events).await;
    assert!(matches!(refused, Err(JournalError::Conflict(_))), "{refused:?}");
    for (number, newest) in [(0, 2), (1, 2), (2, 2)] {
        let events = journal.events(stream(number)).await.unwrap();
        assert!(events.iter().map(|event| event.version).eq(1..=newest), "stream {number}: {events:?}");
        let next = append(&*journal, &stream(number), newest + 1, 1, id(number, 7)).await;
        assert_eq!(next, Ok(()), "the next command of stream {number} goes on");
    }
    journal.close().await;
}

/// How often the log on disk has started over since its file was made: the number in its header (SQLite's file format, §4.1).
fn times_started_over(log: &Path) -> u32 {
    let mut header = [0; 16];
    let read = File::open(log).and_then(|mut file| file.read_exact(&mut header));
    if read.is_ok() { u32::from_be_bytes(header[12..].try_into().unwrap()) } else { 0 }
}

/// The writer never rests, and yet the log starts over, again and again, and so stays short.
#[tokio::test]
async fn the_log_starts_over_under_load() {
    const WRITERS: u64 = 8;
    /// Beyond a gigabyte.
    const APPENDS_OF_EACH_MAX: u64 = 400;
    const EVENTS: u64 = 2_000;
    const TIMES: u32 = 2;
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("journal.db-wal");
    let journal = open(directory.path());
    let (own, log) = (&*journal, &log);
    let first = times_started_over(log);
    let appended = join_all((0..WRITERS).map(|number| async move {
        for command in 0..APPENDS_OF_EACH_MAX {
            if times_started_over(log) >= first + TIMES {
                return command;
            }
            append(own, &stream(number), 1 + command * EVENTS, EVENTS, id(number, command)).await.unwrap();
        }
        APPENDS_OF_EACH_MAX
    }))
    .await;
    let length = log.metadata().unwrap().len();
    assert!(length < 100 << 20, "{length} bytes of log");
    let times = times_started_over(log) - first;
    assert!(times >= TIMES, "it started over {times} times in {} commands", appended.iter().sum::<u64>());
    journal.close().await;
}
