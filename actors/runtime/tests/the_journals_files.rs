//! A database's files: who opens them, who may read them, and what happens when they are not what their names say any more.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use microcommerce_runtime::{
    CommandId, Journal, JournalError, SqlValue,
    journal::{
        Append, Fence, NewEvent, Trouble,
        sqlite::{SqliteJournal, SqliteOptions},
    },
};
use rusqlite::Connection;
use support::{PATIENCE, VIEWS, append};
use tokio::{sync::oneshot, time::timeout};

fn open(directory: &Path) -> Arc<SqliteJournal> {
    SqliteJournal::open(&SqliteOptions::new(directory, VIEWS)).unwrap()
}

fn id(number: u64) -> CommandId {
    CommandId::from_u128(u128::from(number))
}

/// Four readers, the checkpointer, the checker while it looks, the witness, and the writer.
#[cfg(target_os = "linux")]
const CONNECTIONS: usize = 8;

/// This process's descriptors of the file at `path`, or of what was there: Linux says so behind the name.
#[cfg(target_os = "linux")]
fn descriptors_of(path: &Path) -> usize {
    let name = path.to_str().unwrap();
    let links = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    links.filter(|link| link.to_str().is_some_and(|link| link.trim_end_matches(" (deleted)") == name)).count()
}

/// A question that takes so many steps that nobody waits for its end.
const LONG: &str =
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000000000) SELECT max(i) FROM n";

#[cfg(target_os = "linux")]
#[tokio::test]
async fn nobody_but_sqlite_opens_a_databases_file() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().canonicalize().unwrap().join("journal.db");
    let log = database.with_extension("db-wal");
    for turn in 0..3 {
        let journal = open(directory.path());
        // Far enough that the checkpointer has been at work.
        for number in 0..10 {
            append(&*journal, &format!("counter/{turn}-{number}"), 1, 500, id(number)).await.unwrap();
        }
        let _ = journal.query("SELECT count(*) FROM events", vec![]).await.unwrap();
        assert!(descriptors_of(&database) <= CONNECTIONS, "one for each connection: {}", descriptors_of(&database));
        assert!(descriptors_of(&log) <= CONNECTIONS);
        journal.close().await;
        assert_eq!(
            (descriptors_of(&database), descriptors_of(&log)),
            (0, 0),
            "closed is closed, though it is still held"
        );
    }
}

/// A tree that is killed does not wait for its journal's end, and its services may hold the old one for as long as they like.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_in_the_process_never_opens_what_is_not_closed() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().canonicalize().unwrap().join("journal.db");
    let mut former: Vec<Arc<SqliteJournal>> = Vec::new();
    for number in 0..5 {
        let path = directory.path().to_owned();
        let (journal, descriptors) = tokio::task::spawn_blocking(move || {
            let journal = open(&path);
            (journal, descriptors_of(&database_of(&path)))
        })
        .await
        .unwrap();
        assert!(descriptors <= CONNECTIONS, "the former one's are closed: {descriptors} of {}", database.display());
        append(&*journal, "counter/a", number + 1, 1, id(number)).await.unwrap();
        let long = tokio::spawn(journal.query(LONG, vec![]));
        // Nobody waits for this.
        drop(journal.close());
        assert!(timeout(PATIENCE, long).await.unwrap().unwrap().is_err(), "a long question is cut short");
        former.push(journal);
    }
    for journal in &former {
        assert!(!journal.is_open());
        assert_eq!(timeout(PATIENCE, journal.closed()).await.unwrap(), JournalError::Closed);
        assert!(matches!(journal.query("SELECT 1", vec![]).await, Err(JournalError::Closed)));
    }
    let journal = open(directory.path());
    assert_eq!(journal.events("counter/a".into()).await.unwrap().len(), 5);
    journal.close().await;
}

#[cfg(target_os = "linux")]
fn database_of(directory: &Path) -> PathBuf {
    directory.canonicalize().unwrap().join("journal.db")
}

#[tokio::test]
async fn a_file_that_is_not_the_one_we_write_is_fatal_and_acknowledges_nothing() {
    for name in ["journal.db", "journal.db-wal", "journal.db-shm"] {
        for is_replaced in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let journal = open(directory.path());
            append(&*journal, "counter/a", 1, 1, id(1)).await.unwrap();
            let file = directory.path().join(name);
            fs::rename(&file, directory.path().join("elsewhere")).unwrap();
            if is_replaced {
                fs::write(&file, "another").unwrap();
            }
            let lost = append(&*journal, "counter/a", 2, 1, id(2)).await;
            assert!(matches!(&lost, Err(JournalError::Fatal(reason)) if reason.contains(name)), "{name}: {lost:?}");
            assert!(!journal.is_open());
            let closed = timeout(PATIENCE, journal.closed()).await.unwrap();
            assert!(matches!(closed, JournalError::Fatal(_)), "{name}: {closed:?}");
            if is_replaced {
                // What is there now is nobody's to touch: not even the end of the journal did.
                assert_eq!(fs::read(&file).unwrap(), b"another");
            }
        }
    }
}

#[tokio::test]
async fn after_a_fatal_end_nobody_in_this_process_opens_it_again() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    fs::remove_file(directory.path().join("journal.db-wal")).unwrap();
    assert!(matches!(append(&*journal, "counter/a", 1, 1, id(1)).await, Err(JournalError::Fatal(_))));
    let again = SqliteJournal::open(&SqliteOptions::new(directory.path(), VIEWS));
    assert!(again.err().unwrap().is_fatal());
}

/// A stranger who reads for as long as it likes keeps the log from starting over. Afterwards it has its limit again.
#[tokio::test]
async fn a_log_that_a_stranger_kept_long_is_short_again_when_it_lets_go() {
    const EVENT_BYTES: usize = 1 << 20;
    const LIMIT: u64 = 64 << 20;
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    append(&*journal, "counter/a", 1, 1, id(0)).await.unwrap();
    let stranger = Connection::open(directory.path().join("journal.db")).unwrap();
    stranger.execute_batch("BEGIN; SELECT count(*) FROM events").unwrap();
    let mut version = 1;
    let mut write = async |megabytes: u64| {
        for _ in 0..megabytes {
            version += 1;
            append_large(&journal, version, EVENT_BYTES).await;
        }
    };
    write(100).await;
    let long = journal.health().log_bytes;
    assert!(long > LIMIT, "the stranger keeps {long} bytes");
    drop(stranger);
    // The next time that nobody asks for anything for a while.
    let give_up_at = Instant::now() + PATIENCE;
    while journal.health().log_bytes > LIMIT {
        assert!(Instant::now() < give_up_at, "still {} bytes", journal.health().log_bytes);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(fs::metadata(directory.path().join("journal.db-wal")).unwrap().len() <= LIMIT);
    write(3).await;
    assert_eq!(journal.events("counter/a".into()).await.unwrap().len() as u64, version);
    journal.close().await;
}

async fn append_large(journal: &SqliteJournal, version: u64, bytes: usize) {
    let (done, settled) = oneshot::channel();
    journal.append(Append {
        stream: "counter/a".into(),
        first_version: version,
        events: vec![NewEvent {
            event_type: "counter.added",
            payload: format!("\"{}\"", "x".repeat(bytes)),
            published_before: None,
        }],
        schema: 1,
        refusal: None,
        command_id: id(version),
        at_ms: 0,
        correlation_id: None,
        causation_id: None,
        traceparent: None,
        actor: None,
        views: vec![],
        snapshot: None,
        fence: Arc::new(Fence::default()),
        settle: Box::new(move |outcome| drop(done.send(outcome))),
    });
    settled.await.unwrap().unwrap();
}

/// Another program's lock: what is asked waits for it, what is read does not, and nothing is opened anew.
#[tokio::test]
async fn a_foreign_lock_is_waited_for_and_told() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    append(&*journal, "counter/a", 1, 1, id(1)).await.unwrap();
    let stranger = Connection::open(directory.path().join("journal.db")).unwrap();
    stranger.execute_batch("BEGIN IMMEDIATE").unwrap();
    let writing = Arc::clone(&journal);
    let mut waiting = tokio::spawn(async move { append(&*writing, "counter/a", 2, 1, id(2)).await });
    let give_up_at = Instant::now() + PATIENCE;
    while journal.health().trouble.map(|(trouble, _)| trouble) != Some(Trouble::Busy) {
        assert!(Instant::now() < give_up_at, "nobody is told of the lock");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Longer than the five seconds after which SQLite's own patience ends.
    assert!(timeout(Duration::from_secs(6), &mut waiting).await.is_err(), "it waits");
    assert!(journal.is_open());
    let rows = journal.query("SELECT count(*) FROM events", vec![]).await.unwrap();
    assert_eq!(rows[0].0, [SqlValue::Integer(1)], "reads go on");
    stranger.execute_batch("ROLLBACK").unwrap();
    drop(stranger);
    assert_eq!(timeout(PATIENCE, waiting).await.unwrap().unwrap(), Ok(()));
    assert_eq!(journal.health().trouble, None);
    assert_eq!(journal.events("counter/a".into()).await.unwrap().len(), 2);
    journal.close().await;
}

/// Told to close while another program has the lock, it refuses what waits and closes.
#[tokio::test]
async fn a_journal_closes_beside_a_foreign_lock() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    append(&*journal, "counter/a", 1, 1, id(1)).await.unwrap();
    let stranger = Connection::open(directory.path().join("journal.db")).unwrap();
    stranger.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (refused, closed) =
        tokio::join!(append(&*journal, "counter/a", 2, 1, id(2)), timeout(PATIENCE, journal.close()));
    assert_eq!((refused, closed.is_ok()), (Err(JournalError::Busy), true));
    drop(stranger);
    let journal = open(directory.path());
    assert_eq!(journal.events("counter/a".into()).await.unwrap().len(), 1);
    journal.close().await;
}

/// Everything of a directory, with its mode.
#[cfg(unix)]
fn modes(directory: &Path) -> Vec<(PathBuf, u32)> {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: PathBuf| {
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        (path, mode)
    };
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| mode(entry.unwrap().path()))
        .chain([mode(directory.to_owned())])
        .collect()
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_but_its_owner_reads_a_journal() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("shop").join("order");
    let check = || {
        let found = modes(&directory);
        assert_eq!(found.len(), 7, "database, log, its index, lock, witness, note of the boot, directory: {found:?}");
        for (path, mode) in found {
            assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
        }
    };
    let journal = open(&directory);
    append(&*journal, "counter/a", 1, 1, id(1)).await.unwrap();
    check();
    journal.close().await;
    // As an older build made it, and a crash left it.
    fs::write(directory.join("journal.db-wal"), "").unwrap();
    for (path, _) in modes(&directory) {
        fs::set_permissions(&path, fs::Permissions::from_mode(if path.is_dir() { 0o755 } else { 0o644 })).unwrap();
    }
    let journal = open(&directory);
    append(&*journal, "counter/a", 2, 1, id(2)).await.unwrap();
    check();
    journal.close().await;
}
