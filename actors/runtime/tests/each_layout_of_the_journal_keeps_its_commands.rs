//! Where a command's id is kept: beside its versions, in the index by id beyond an entity's memory, and in the files of an
//! older build.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::{path::Path, sync::Arc};

use microcommerce_runtime::{
    AskError, CommandId, Journal, JournalError,
    journal::{
        Outcome,
        compare::compare,
        identity::LogMark,
        sqlite::{SqliteJournal, SqliteOptions},
    },
    seen::SEEN_COMMANDS_MAX,
};
use rusqlite::{Connection, params};
use support::{Count, Counted, System, TooLarge, VIEWS, append, command};

const STREAM: &str = "counter/a";

fn id(number: u64) -> CommandId {
    command(number).command_id
}

fn open(directory: &Path) -> Arc<SqliteJournal> {
    SqliteJournal::open(&SqliteOptions::new(directory, VIEWS)).unwrap()
}

#[tokio::test]
async fn a_command_of_several_events_is_found_at_its_first_version_with_all_of_them() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    append(&*journal, STREAM, 1, 3, id(1)).await.unwrap();
    append(&*journal, STREAM, 4, 1, id(2)).await.unwrap();

    let (outcome, events) = journal.outcome(STREAM.into(), id(1), Some(1)).await.unwrap().unwrap();
    assert_eq!(outcome, Outcome::Accepted { first_version: 1, count: 3 });
    assert_eq!(events.iter().map(|event| event.version).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(journal.outcome(STREAM.into(), id(1), Some(4)).await.unwrap().is_none(), "version 4 is another's");
    let loaded = journal.load(STREAM.into(), SEEN_COMMANDS_MAX).await.unwrap();
    assert_eq!((loaded.seen, loaded.seen_is_complete), (vec![(id(1), Some(1)), (id(2), Some(4))], true));

    let conflict = append(&*journal, STREAM, 4, 1, id(3)).await;
    assert!(matches!(conflict, Err(JournalError::Conflict(_))), "version 4 has been written: {conflict:?}");
    journal.close().await;
}

#[tokio::test]
async fn a_stream_longer_than_its_entitys_memory_does_each_command_once() {
    let directory = tempfile::tempdir().unwrap();
    let memory = SEEN_COMMANDS_MAX as u64;
    let journal = open(directory.path());
    append(&*journal, STREAM, 1, memory - 1, id(1)).await.unwrap();
    journal.close().await;

    // Command 2 makes the last version that is in memory, command 3 the first beyond, command 4 one more.
    let mut system = System::start(directory.path()).await;
    for number in 2..=4 {
        let accepted = system.counters.ask("a", Count::Add(1), command(number)).await.unwrap();
        assert_eq!((accepted.version, accepted.is_repeat), (memory - 2 + number, false));
    }
    for _ in 0..2 {
        for number in 2..=4 {
            let again = system.counters.ask("a", Count::Add(77), command(number)).await.unwrap();
            assert_eq!((again.version, again.is_repeat), (memory - 2 + number, true));
            assert_eq!(again.events, [Counted::Added { amount: 1 }]);
        }
        assert_eq!(system.total("a").await, 2 + memory.cast_signed());
        system.stop().await;
        system = System::start(directory.path()).await;
    }
    let (outcome, _) = system.journal.outcome(STREAM.into(), id(1), None).await.unwrap().unwrap();
    assert_eq!(outcome, Outcome::Accepted { first_version: 1, count: memory - 1 });
    assert!(!system.counters.ask("a", Count::Add(1), command(5)).await.unwrap().is_repeat);
    system.stop().await;
}

/// A database of an older build: what all layouts have, and `tables` of its own.
fn old_database(directory: &Path, tables: &str) -> Connection {
    let database = Connection::open(directory.join("journal.db")).unwrap();
    database
        .execute_batch(
            "PRAGMA journal_mode = WAL;
             CREATE TABLE commands (stream TEXT NOT NULL, command_id BLOB NOT NULL, first_version INTEGER NOT NULL, \
                event_count INTEGER NOT NULL, refusal TEXT, PRIMARY KEY (stream, command_id)) STRICT, WITHOUT ROWID;
             CREATE TABLE snapshots (stream TEXT NOT NULL PRIMARY KEY, version INTEGER NOT NULL, state BLOB NOT NULL) \
                STRICT, WITHOUT ROWID;
             CREATE TABLE positions (subscription TEXT NOT NULL PRIMARY KEY, position INTEGER NOT NULL) STRICT, WITHOUT ROWID;",
        )
        .unwrap();
    database.execute_batch(tables).unwrap();
    database
}

/// What the builds before layouts had numbers wrote: three accepted commands, one refused, one with nothing to do.
fn write_layout_1(directory: &Path) {
    let database = old_database(
        directory,
        "CREATE TABLE events (position INTEGER PRIMARY KEY AUTOINCREMENT, stream TEXT NOT NULL, version INTEGER NOT NULL, \
            event_type TEXT NOT NULL, schema INTEGER NOT NULL, payload TEXT NOT NULL, at_ms INTEGER NOT NULL, \
            correlation_id TEXT, causation_id TEXT, actor TEXT, UNIQUE (stream, version)) STRICT;
         INSERT INTO positions VALUES ('reader', 2);",
    );
    for version in 1..=3_i64 {
        let payload = serde_json::to_string(&Counted::Added { amount: version }).unwrap();
        database
            .execute(
                "INSERT INTO events (position, stream, version, event_type, schema, payload, at_ms, actor) \
                 VALUES (?1, ?2, ?3, 'counter.added', 1, ?4, 7, 'ann')",
                params![10 * version, STREAM, version, payload],
            )
            .unwrap();
    }
    let refusal = serde_json::to_string(&TooLarge { total: 3 }).unwrap();
    for (number, first_version, event_count, refusal) in
        [(1, 1, 1, None), (2, 2, 1, None), (3, 3, 0, Some(refusal)), (4, 3, 0, None), (5, 3, 1, None)]
    {
        database
            .execute(
                "INSERT INTO commands VALUES (?1, ?2, ?3, ?4, ?5)",
                params![STREAM, id(number).as_bytes(), first_version, event_count, refusal],
            )
            .unwrap();
    }
}

#[tokio::test]
async fn a_journal_of_the_first_layout_opens_with_everything_in_it_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    write_layout_1(directory.path());
    let mut system = System::start(directory.path()).await;
    assert_eq!(system.total("a").await, 6);
    assert_eq!(system.counters.ask("a", Count::Add(10), command(6)).await.unwrap().version, 4);
    for _ in 0..2 {
        for (number, amount) in [(1, 1), (2, 2), (5, 3), (6, 10)] {
            let again = system.counters.ask("a", Count::Add(77), command(number)).await.unwrap();
            assert_eq!((again.events, again.is_repeat), (vec![Counted::Added { amount }], true));
        }
        let refused = system.counters.ask("a", Count::Add(1), command(3)).await.unwrap_err();
        assert_eq!(refused, AskError::Refused(TooLarge { total: 3 }));
        let nothing = system.counters.ask("a", Count::Add(1), command(4)).await.unwrap();
        assert_eq!((nothing.events, nothing.is_repeat), (vec![], true));
        assert_eq!(system.total("a").await, 16);

        let events = system.journal.read_after(0, 100).await.unwrap();
        let places: Vec<_> = events.iter().map(|event| (event.position, event.version)).collect();
        assert_eq!(places, [(10, 1), (20, 2), (30, 3), (31, 4)], "positions stay, and are not used again");
        assert_eq!((events[0].at_ms, events[0].actor.as_deref()), (7, Some("ann")));
        assert_eq!(system.journal.position_of("reader".into()).await.unwrap().position, 2);
        let conflict = append(&*system.journal, STREAM, 3, 1, id(7)).await;
        assert!(matches!(conflict, Err(JournalError::Conflict(_))), "version 3 has been written: {conflict:?}");
        system.stop().await;
        system = System::start(directory.path()).await;
    }
    system.stop().await;
}

/// What the builds of layout 2 wrote: three accepted commands beside their versions, one refused.
fn write_layout_2(directory: &Path) {
    let database = old_database(
        directory,
        "PRAGMA user_version = 2;
         CREATE TABLE events (position INTEGER PRIMARY KEY AUTOINCREMENT, stream TEXT NOT NULL, version INTEGER NOT NULL, \
            event_type TEXT NOT NULL, schema INTEGER NOT NULL, payload TEXT NOT NULL, at_ms INTEGER NOT NULL, \
            correlation_id TEXT, causation_id TEXT, actor TEXT) STRICT;
         CREATE TABLE versions (stream TEXT NOT NULL, version INTEGER NOT NULL, position INTEGER NOT NULL, command_id BLOB, \
            PRIMARY KEY (stream, version)) STRICT, WITHOUT ROWID;",
    );
    for version in 1..=3_u64 {
        let payload = serde_json::to_string(&Counted::Added { amount: version.cast_signed() }).unwrap();
        let (number, position) = (version.cast_signed(), 10 * version.cast_signed());
        let event = "INSERT INTO events (position, stream, version, event_type, schema, payload, at_ms) \
                     VALUES (?1, ?2, ?3, 'counter.added', 1, ?4, 7)";
        database.execute(event, params![position, STREAM, number, payload]).unwrap();
        let insert = "INSERT INTO versions VALUES (?1, ?2, ?3, ?4)";
        database.execute(insert, params![STREAM, number, position, id(version).as_bytes()]).unwrap();
    }
    let refusal = serde_json::to_string(&TooLarge { total: 6 }).unwrap();
    let insert = "INSERT INTO commands VALUES (?1, ?2, 4, 0, ?3)";
    database.execute(insert, params![STREAM, id(4).as_bytes(), refusal]).unwrap();
}

#[tokio::test]
async fn a_journal_of_the_second_layout_opens_with_everything_in_it_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    write_layout_2(directory.path());
    let mut system = System::start(directory.path()).await;
    assert_eq!(system.total("a").await, 6);
    assert_eq!(system.counters.ask("a", Count::Add(10), command(5)).await.unwrap().version, 4);
    for _ in 0..2 {
        for (number, amount) in [(1, 1), (2, 2), (3, 3), (5, 10)] {
            let again = system.counters.ask("a", Count::Add(77), command(number)).await.unwrap();
            assert_eq!((again.events, again.is_repeat), (vec![Counted::Added { amount }], true));
        }
        let refused = system.counters.ask("a", Count::Add(1), command(4)).await.unwrap_err();
        assert_eq!(refused, AskError::Refused(TooLarge { total: 6 }));
        assert_eq!(system.total("a").await, 16);
        system.stop().await;
        system = System::start(directory.path()).await;
    }
    system.stop().await;
}

/// What the builds of layout 3 wrote: positions of which no more is known, and no name.
fn make_layout_3(directory: &Path) {
    let database = Connection::open(directory.join("journal.db")).unwrap();
    database
        .execute_batch(
            "DROP TABLE identity;
             ALTER TABLE positions DROP COLUMN log;
             ALTER TABLE positions DROP COLUMN incarnation;
             ALTER TABLE positions DROP COLUMN digest;
             PRAGMA user_version = 3;",
        )
        .unwrap();
}

#[tokio::test]
async fn a_journal_of_the_third_layout_gets_a_name_and_its_positions_are_completed() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path());
    append(&*journal, STREAM, 1, 3, id(1)).await.unwrap();
    journal.store_position("reader".into(), 2.into()).await.unwrap();
    journal.close().await;
    std::fs::remove_file(directory.path().join("journal.witness")).unwrap();
    make_layout_3(directory.path());

    let journal = open(directory.path());
    let (mark, identity) = (journal.position_of("reader".into()).await.unwrap(), journal.identity());
    assert_eq!((mark.position, mark.event), (2, None));
    assert_eq!(compare(mark, &*journal).await.unwrap(), Ok(()), "it is accepted as it is");
    let complete = LogMark::new(identity, 2, journal.digest_at(2).await.unwrap().unwrap());
    journal.store_position("reader".into(), complete).await.unwrap();
    append(&*journal, STREAM, 4, 1, id(2)).await.unwrap();
    journal.close().await;

    let journal = open(directory.path());
    assert_eq!(journal.identity(), identity);
    assert_eq!(journal.position_of("reader".into()).await.unwrap(), complete);
    let versions: Vec<u64> = journal.events(STREAM.into()).await.unwrap().iter().map(|event| event.version).collect();
    assert_eq!(versions, [1, 2, 3, 4]);
    journal.close().await;
}

#[tokio::test]
async fn a_journal_of_a_later_layout_is_refused_with_one_sentence() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path()).close().await;
    Connection::open(directory.path().join("journal.db")).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let options = SqliteOptions::new(directory.path(), VIEWS);
    let error = SqliteJournal::open(&options).err().unwrap().to_string();
    assert!(error.contains("has layout 99") && error.lines().count() == 1, "{error}");
}
