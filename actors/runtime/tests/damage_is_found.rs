//! A damaged page is found and said, whoever reads it and whether anybody does.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::{
    fs,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use microcommerce_runtime::{
    CommandId, Journal, JournalError,
    journal::{
        integrity::IntegrityChecks,
        sqlite::{OpenError, SqliteJournal, SqliteOptions},
    },
};
use rusqlite::Connection;
use support::append;

const STREAMS: u64 = 50;
const EVENTS_EACH: u64 = 40;
const FOUND_WITHIN: Duration = Duration::from_secs(20);
/// No check beside the sale while a test looks.
const NEVER: IntegrityChecks =
    IntegrityChecks { first_after: Duration::from_secs(3_600), every: Duration::from_secs(3_600) };
const AT_ONCE: IntegrityChecks = IntegrityChecks { first_after: Duration::ZERO, every: Duration::from_millis(20) };
/// A page of the events that no start reads, and the one that each reads.
const MIDDLE: &str =
    "SELECT pageno FROM dbstat WHERE name = 'events' AND pagetype = 'leaf' ORDER BY path LIMIT 1 OFFSET 9";
const LAST: &str = "SELECT pageno FROM dbstat WHERE name = 'events' AND pagetype = 'leaf' ORDER BY path DESC LIMIT 1";

fn open(directory: &Path, checks: IntegrityChecks) -> Result<Arc<SqliteJournal>, OpenError> {
    SqliteJournal::open(&SqliteOptions { checks, ..SqliteOptions::new(directory, "") })
}

/// A journal that has been written and closed.
async fn written(directory: &Path) {
    let journal = open(directory, NEVER).unwrap();
    for stream in 0..STREAMS {
        let id = CommandId::from_u128(u128::from(stream));
        append(&*journal, &format!("counter/{stream}"), 1, EVENTS_EACH, id).await.unwrap();
    }
    journal.close().await;
    // Its lock is released a moment later: who opens it waits for that.
    open(directory, NEVER).unwrap().close().await;
}

/// The number of the page that `which` chooses.
fn page(directory: &Path, which: &str) -> i64 {
    Connection::open(directory.join("journal.db")).unwrap().query_row(which, [], |row| row.get(0)).unwrap()
}

/// Overwrites the head of a page. In a process of its own: one that has the database open must not open it by itself.
fn damage(directory: &Path, page: i64) {
    let begin = (page - 1) * 4_096;
    let script = r#"head -c 64 /dev/zero | tr '\0' '\377' | dd of="$0" bs=1 seek="$1" conv=notrunc status=none"#;
    let file = directory.join("journal.db");
    let status = Command::new("sh").args(["-c", script]).arg(file).arg(begin.to_string()).status().unwrap();
    assert!(status.success());
}

/// What is found within the deadline.
async fn found(journal: &SqliteJournal) -> String {
    let mut damage = journal.damage();
    let found = tokio::time::timeout(FOUND_WITHIN, damage.wait_for(Option::is_some)).await;
    found.expect("the damage is found").unwrap().clone().unwrap()
}

#[tokio::test]
async fn a_page_that_was_damaged_while_nobody_looked_is_found_beside_the_sale() {
    let directory = tempfile::tempdir().unwrap();
    written(directory.path()).await;
    let page = page(directory.path(), MIDDLE);
    damage(directory.path(), page);
    let journal = open(directory.path(), AT_ONCE).unwrap();
    let what = found(&journal).await;
    assert!(what.contains("events"), "{what}");
    // It is served from as far as that goes.
    assert!(journal.is_open());
    append(&*journal, "counter/new", 1, 1, CommandId::from_u128(1_000)).await.unwrap();
    assert_eq!(journal.events("counter/new".into()).await.unwrap().len(), 1);
    journal.close().await;
}

#[tokio::test]
async fn a_page_that_is_damaged_under_an_open_journal_is_found() {
    let directory = tempfile::tempdir().unwrap();
    written(directory.path()).await;
    let page = page(directory.path(), MIDDLE);
    let journal = open(directory.path(), AT_ONCE).unwrap();
    append(&*journal, "counter/new", 1, 1, CommandId::from_u128(1_000)).await.unwrap();
    assert_eq!(*journal.damage().borrow(), None);
    damage(directory.path(), page);
    let what = found(&journal).await;
    assert!(what.contains("events"), "{what}");
    journal.close().await;
}

#[tokio::test]
async fn a_whole_file_has_nothing_to_find_and_its_check_does_not_hold_up_its_end() {
    let directory = tempfile::tempdir().unwrap();
    written(directory.path()).await;
    let journal = open(directory.path(), AT_ONCE).unwrap();
    for command in 0..50 {
        append(&*journal, "counter/new", command + 1, 1, CommandId::from_u128(1_000 + u128::from(command)))
            .await
            .unwrap();
    }
    let began = Instant::now();
    journal.close().await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(*journal.damage().borrow(), None);
    assert!(!directory.path().join("opened").exists(), "a journal that is closed has no note");
}

#[tokio::test]
async fn whoever_reads_a_damaged_page_says_so() {
    let directory = tempfile::tempdir().unwrap();
    written(directory.path()).await;
    let page = page(directory.path(), MIDDLE);
    damage(directory.path(), page);
    let journal = open(directory.path(), NEVER).unwrap();
    assert_eq!(*journal.damage().borrow(), None);
    let mut refused = 0;
    for stream in 0..STREAMS {
        match journal.events(format!("counter/{stream}").into()).await {
            Ok(events) => assert_eq!(events.len() as u64, EVENTS_EACH, "all of a stream or none"),
            Err(JournalError::Damaged(_)) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!((1..STREAMS).contains(&refused), "{refused}");
    assert!(journal.damage().borrow().is_some());
    journal.close().await;
}

#[tokio::test]
async fn what_a_start_reads_is_found_by_the_start() {
    for which in ["SELECT 1", LAST] {
        let directory = tempfile::tempdir().unwrap();
        written(directory.path()).await;
        let page = page(directory.path(), which);
        damage(directory.path(), page);
        for _ in 0..2 {
            let error = open(directory.path(), NEVER).err().expect("it does not start");
            let sentence = error.to_string();
            assert!(matches!(error, OpenError::Damaged { .. }), "{sentence}");
            assert!(sentence.contains("is damaged") && sentence.lines().count() == 1, "{sentence}");
        }
    }
}

#[tokio::test]
async fn after_the_machine_went_down_the_whole_file_is_checked_before_anybody_is_served() {
    let directory = tempfile::tempdir().unwrap();
    written(directory.path()).await;
    let note = directory.path().join("opened");
    // It is whole: it opens, and says under which boot.
    fs::write(&note, "another boot\n").unwrap();
    let journal = open(directory.path(), NEVER).unwrap();
    let this_boot = fs::read_to_string(&note).unwrap();
    assert_ne!(this_boot, "another boot\n");
    journal.close().await;
    open(directory.path(), NEVER).unwrap().close().await;

    let page = page(directory.path(), MIDDLE);
    damage(directory.path(), page);
    // A process that died under this boot is no reason.
    fs::write(&note, &this_boot).unwrap();
    open(directory.path(), NEVER).unwrap().close().await;
    open(directory.path(), NEVER).unwrap().close().await;
    fs::write(&note, "another boot\n").unwrap();
    for _ in 0..2 {
        let error = open(directory.path(), NEVER).err().expect("it does not start");
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
        assert_eq!(fs::read_to_string(&note).unwrap(), "another boot\n", "the next start checks it as well");
    }
}
