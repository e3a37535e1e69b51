//! A log that has lost its tail, was replaced or was deleted is not the log that its witness remembers.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::{fs, path::Path, sync::Arc};

use microcommerce_runtime::{
    CommandId, Journal, JournalError,
    journal::{
        recovery::{WITNESS, begin_incarnation},
        sqlite::{SqliteJournal, SqliteOptions},
    },
};
use support::{COUNTERS, append};

const STREAM: &str = "counter/a";

fn open(directory: &Path) -> Arc<SqliteJournal> {
    SqliteJournal::open(&SqliteOptions::new(directory, COUNTERS)).unwrap()
}

async fn write(journal: &SqliteJournal, versions: std::ops::RangeInclusive<u64>) {
    for version in versions {
        append(journal, STREAM, version, 1, CommandId::from_u128(version.into())).await.unwrap();
    }
}

/// A copy of the database of a journal that is closed.
fn keep(directory: &Path) -> Vec<u8> {
    fs::read(directory.join("journal.db")).unwrap()
}

fn put_back(directory: &Path, kept: &[u8]) {
    for file in ["journal.db-wal", "journal.db-shm"] {
        let _is_not_there = fs::remove_file(directory.join(file));
    }
    fs::write(directory.join("journal.db"), kept).unwrap();
}

async fn assert_contradicted(journal: &SqliteJournal, says: &str) {
    let said = journal.contradictions().sentences();
    assert!(said.len() == 1 && said[0].starts_with(WITNESS) && said[0].contains(says), "{said:?}");
    let refused = append(journal, "counter/new", 1, 1, CommandId::from_u128(99)).await;
    assert!(matches!(refused, Err(JournalError::Contradicted(_))), "{refused:?}");
}

#[tokio::test]
async fn an_older_copy_of_the_log_contradicts_until_a_new_incarnation_begins() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    write(&journal, 1..=3).await;
    journal.close().await;
    let kept = keep(directory.path());
    let journal = open(directory.path());
    assert!(journal.contradictions().sentences().is_empty(), "what was closed in order is whole");
    write(&journal, 4..=5).await;
    let identity = journal.identity();
    journal.close().await;
    put_back(directory.path(), &kept);

    // However often it is opened: the witness is left as it is.
    for _ in 0..2 {
        let journal = open(directory.path());
        assert_contradicted(&journal, "position 5 was noted, and the log ends at 3").await;
        assert_eq!(journal.events(STREAM.into()).await.unwrap().len(), 3, "it is read");
        journal.close().await;
    }
    let reconciled = begin_incarnation(directory.path()).unwrap();
    assert_eq!(reconciled.log, identity.log);
    assert!(reconciled.incarnation > identity.incarnation);
    let journal = open(directory.path());
    assert_eq!((journal.identity(), journal.contradictions().is_any()), (reconciled, false));
    write(&journal, 4..=4).await;
    journal.close().await;
}

#[tokio::test]
async fn a_copy_that_has_grown_past_the_noted_end_has_another_event_there() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    write(&journal, 1..=3).await;
    journal.close().await;
    let kept = keep(directory.path());
    let journal = open(directory.path());
    write(&journal, 4..=5).await;
    journal.close().await;
    put_back(directory.path(), &kept);
    // A build that knows no witness lets it grow.
    let witness = directory.path().join("journal.witness");
    let noted = fs::read(&witness).unwrap();
    fs::remove_file(&witness).unwrap();
    let journal = open(directory.path());
    append(&*journal, "counter/b", 1, 4, CommandId::from_u128(7)).await.unwrap();
    journal.close().await;
    fs::write(&witness, noted).unwrap();

    let journal = open(directory.path());
    assert_contradicted(&journal, "the event at position 5 is not the one that was noted there").await;
    journal.close().await;
}

#[tokio::test]
async fn a_new_log_in_the_place_of_a_deleted_one_contradicts() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    write(&journal, 1..=2).await;
    journal.close().await;
    fs::remove_file(directory.path().join("journal.db")).unwrap();
    let journal = open(directory.path());
    assert_contradicted(&journal, "position 2 was noted in the log").await;
    journal.close().await;
}
