//! Another build's read model is projected anew before anybody reads it: newer or older, and however often that is killed.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::{
    env,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use microcommerce_runtime::{
    CommandId, Entity, EntityId, Journal, SqlValue, ViewSchema, ViewWrite,
    journal::{
        sqlite::{SqliteJournal, SqliteOptions},
        views::Views,
    },
};
use support::{Count, Counted, Counter, System, TooLarge, VIEWS, append, command};

/// A later build of the counter: its rows have one column more, and its tables are two.
struct Second;

impl Entity for Second {
    const KIND: &'static str = "counter";
    const STATE_VERSION: u32 = 2;
    const TABLES: &'static [&'static str] = &[
        "CREATE TABLE IF NOT EXISTS totals (id TEXT PRIMARY KEY, total INTEGER NOT NULL, additions INTEGER NOT NULL) STRICT;",
        "CREATE TABLE IF NOT EXISTS additions (id TEXT, number INTEGER, amount INTEGER, at_ms INTEGER, PRIMARY KEY (id, number)) STRICT;",
    ];
    const VIEW_VERSION: u32 = 2;
    /// (the total, how many additions).
    type State = (i64, i64);
    type Command = ();
    type Event = Counted;
    type Refusal = TooLarge;

    fn decide(_: &(i64, i64), (): ()) -> Result<Vec<Counted>, TooLarge> {
        Ok(vec![])
    }

    fn evolve((total, additions): &mut (i64, i64), event: &Counted) {
        let Counted::Added { amount } = event else { return };
        *total += amount;
        *additions += 1;
    }

    fn views(id: &EntityId, (total, additions): &(i64, i64), event: &Counted, at_ms: i64) -> Vec<ViewWrite> {
        let Counted::Added { amount } = event else { return vec![] };
        vec![
            ViewWrite::new(
                "INSERT INTO totals (id, total, additions) VALUES (?1, ?2, ?3) \
                 ON CONFLICT (id) DO UPDATE SET total = excluded.total, additions = excluded.additions",
                vec![(&**id).into(), (*total).into(), (*additions).into()],
            ),
            // No "or do nothing": a row that was written before a kill must not be written again after it.
            ViewWrite::new(
                "INSERT INTO additions (id, number, amount, at_ms) VALUES (?1, ?2, ?3, ?4)",
                vec![(&**id).into(), (*additions).into(), (*amount).into(), at_ms.into()],
            ),
        ]
    }
}

const FIRST: &[ViewSchema] = &[ViewSchema::of::<Counter>()];
const SECOND: &[ViewSchema] = &[ViewSchema::of::<Second>()];

fn open(directory: &Path, views: impl Into<Views>) -> Arc<SqliteJournal> {
    SqliteJournal::open(&SqliteOptions::new(directory, views)).unwrap()
}

async fn rows(journal: &SqliteJournal, sql: &'static str) -> Vec<Vec<SqlValue>> {
    journal.query(sql, vec![]).await.unwrap().into_iter().map(|row| row.0).collect()
}

const TOTALS: &str = "SELECT id, total FROM totals ORDER BY id";

#[tokio::test]
async fn another_version_is_projected_anew_and_back_again() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    for number in 0..300_u64 {
        let id = format!("c{}", number % 7);
        system.counters.ask(id, Count::Add(number as i64), command(number)).await.unwrap();
    }
    let as_written = rows(&system.journal, TOTALS).await;
    assert_eq!(as_written.len(), 7);
    system.stop().await;

    let journal = open(directory.path(), SECOND);
    assert_eq!(rows(&journal, TOTALS).await, as_written);
    let additions = rows(&journal, "SELECT sum(additions), (SELECT sum(amount) FROM additions) FROM totals").await;
    assert_eq!(additions, [[SqlValue::Integer(300), SqlValue::Integer((0..300).sum())]]);
    let times = rows(&journal, "SELECT count(*) FROM additions a WHERE at_ms NOT IN (SELECT at_ms FROM events)").await;
    assert_eq!(times, [[SqlValue::Integer(0)]], "a row's time is its event's, not the rebuild's");
    journal.close().await;

    // The build before it is started again: its own tables, and nothing of the other's.
    let system = System::start(directory.path()).await;
    assert_eq!(rows(&system.journal, TOTALS).await, as_written);
    let left = rows(&system.journal, "SELECT count(*) FROM sqlite_schema WHERE name = 'additions'").await;
    assert_eq!(left, [[SqlValue::Integer(0)]]);
    system.counters.ask("c0", Count::Add(1), command(1_000)).await.unwrap();
    system.stop().await;
}

#[tokio::test]
async fn the_same_version_is_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path(), FIRST);
    append(&*journal, "counter/a", 1, 3, CommandId::from_u128(1)).await.unwrap();
    journal.close().await;
    // No entity wrote a row for it: only a rebuild would.
    let journal = open(directory.path(), FIRST);
    assert_eq!(rows(&journal, TOTALS).await, Vec::<Vec<SqlValue>>::new());
    journal.close().await;
}

#[tokio::test]
async fn tables_of_a_build_without_versions_are_projected_anew_once() {
    let directory = tempfile::tempdir().unwrap();
    // As the builds before did: the tables are made where they are missing, and nobody says which form they have.
    let journal = open(directory.path(), VIEWS);
    append(&*journal, "counter/a", 1, 3, CommandId::from_u128(1)).await.unwrap();
    journal.close().await;

    let journal = open(directory.path(), FIRST);
    assert_eq!(rows(&journal, TOTALS).await, [["a".into(), SqlValue::Integer(3)]]);
    append(&*journal, "counter/b", 1, 1, CommandId::from_u128(2)).await.unwrap();
    journal.close().await;
    let journal = open(directory.path(), FIRST);
    assert_eq!(rows(&journal, TOTALS).await.len(), 1, "once");
    journal.close().await;
}

#[tokio::test]
async fn a_kind_that_a_build_did_not_have_is_right_when_it_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path(), FIRST);
    append(&*journal, "counter/a", 1, 1, CommandId::from_u128(1)).await.unwrap();
    journal.close().await;
    // A build that has no such kind, and under which the log grows.
    let journal = open(directory.path(), "");
    append(&*journal, "counter/b", 1, 2, CommandId::from_u128(2)).await.unwrap();
    journal.close().await;
    let journal = open(directory.path(), FIRST);
    let expected = [["a".into(), SqlValue::Integer(1)], ["b".into(), SqlValue::Integer(2)]];
    assert_eq!(rows(&journal, TOTALS).await, expected);
    journal.close().await;
}

#[tokio::test]
async fn what_cannot_be_projected_stops_the_start_with_one_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path(), "");
    append(&*journal, "counter/good", 1, 2, CommandId::from_u128(1)).await.unwrap();
    journal.close().await;
    let database = rusqlite::Connection::open(directory.path().join("journal.db")).unwrap();
    database.execute("UPDATE events SET payload = '{\"Unknown\":{}}' WHERE version = 2", []).unwrap();
    drop(database);
    for _ in 0..2 {
        let error = SqliteJournal::open(&SqliteOptions::new(directory.path(), FIRST)).err().unwrap().to_string();
        assert!(error.contains("counter/good") && error.contains("version 2") && !error.contains('\n'), "{error}");
    }
}

/// [`Second`], which counts its rows, and in the child stops for ever at one of them.
struct Slow;

static PROJECTED: AtomicU64 = AtomicU64::new(0);
const CHILD_DIRECTORY: &str = "REBUILD_DIRECTORY";
const STREAMS: u64 = 12;
const EVENTS_EACH: u64 = 2_500;
/// In the middle of a stream and of a transaction.
const STOPS_AT: u64 = 21_234;
const STOPPED: &str = "stopped in the middle";

impl Entity for Slow {
    const KIND: &'static str = Second::KIND;
    const TABLES: &'static [&'static str] = Second::TABLES;
    const VIEW_VERSION: u32 = Second::VIEW_VERSION;
    type State = (i64, i64);
    type Command = ();
    type Event = Counted;
    type Refusal = TooLarge;

    fn decide(state: &(i64, i64), (): ()) -> Result<Vec<Counted>, TooLarge> {
        Second::decide(state, ())
    }

    fn evolve(state: &mut (i64, i64), event: &Counted) {
        Second::evolve(state, event);
    }

    fn views(id: &EntityId, state: &(i64, i64), event: &Counted, at_ms: i64) -> Vec<ViewWrite> {
        let number = PROJECTED.fetch_add(1, Ordering::Relaxed) + 1;
        if number == STOPS_AT && env::var(CHILD_DIRECTORY).is_ok() {
            println!("\n{STOPPED}");
            loop {
                thread::park();
            }
        }
        Second::views(id, state, event, at_ms)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_that_is_killed_goes_on_where_it_stood() {
    const SLOW: &[ViewSchema] = &[ViewSchema::of::<Slow>()];
    if let Ok(directory) = env::var(CHILD_DIRECTORY) {
        open(Path::new(&directory), SLOW);
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path(), FIRST);
    for stream in 0..STREAMS {
        let id = CommandId::from_u128(u128::from(stream));
        append(&*journal, &format!("counter/{stream}"), 1, EVENTS_EACH, id).await.unwrap();
    }
    journal.close().await;

    let mut child = Command::new(env::current_exe().unwrap())
        .args(["a_rebuild_that_is_killed_goes_on_where_it_stood", "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD_DIRECTORY, directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line == STOPPED), "the child began the rebuild");
    // SIGKILL.
    child.kill().unwrap();
    child.wait().unwrap();

    // What the rebuild has done so far is not for anybody's eyes: whoever opens it finishes it first.
    let options = SqliteOptions::new(directory.path(), SLOW);
    let progress = options.progress.subscribe();
    let journal = SqliteJournal::open(&options).unwrap();
    assert_eq!(*progress.borrow(), None, "nothing is shown once it is done");
    let projected = PROJECTED.load(Ordering::Relaxed);
    let total = STREAMS * EVENTS_EACH;
    assert!(projected >= total - STOPS_AT, "{projected} of {total}");
    assert!(projected <= total / 2, "it went on, and did not begin again: {projected} of {total}");
    let totals = rows(&journal, "SELECT count(*), min(total), max(total), sum(additions) FROM totals").await;
    let each = SqlValue::Integer(EVENTS_EACH as i64);
    let all = SqlValue::Integer(total as i64);
    assert_eq!(totals, [[SqlValue::Integer(STREAMS as i64), each.clone(), each, all.clone()]]);
    assert_eq!(rows(&journal, "SELECT count(*) FROM additions").await, [[all]]);
    journal.close().await;
}
