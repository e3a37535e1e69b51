//! What every journal does, whatever it is made of: one suite, run against SQLite on disk and against the test kit's journal
//! in memory, so that the two cannot drift.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::{path::Path, sync::Arc, time::Duration};

use futures::future::join_all;
use microcommerce_runtime::{
    CommandId, Journal, JournalError, SqlValue, ViewWrite,
    journal::{
        Append, Fence, NewEvent, Outcome, Trouble,
        compare::compare,
        identity::{Contradiction, EventDigest, LogIdentity, LogMark},
        sqlite::{SqliteJournal, SqliteOptions},
    },
    testkit::{Faults, MemoryDisk, MemoryJournal},
};
use support::{PATIENCE, VIEWS};
use tokio::{sync::oneshot, time::timeout};

/// Where a journal lives, so that it can be opened again.
enum Place {
    Sqlite(tempfile::TempDir),
    Memory(MemoryDisk, Faults),
}

/// Another program's lock; given back on drop.
enum Stranger {
    Sqlite(#[expect(dead_code, reason = "held, and dropped")] rusqlite::Connection),
    Memory(Faults),
}

impl Drop for Stranger {
    fn drop(&mut self) {
        if let Self::Memory(faults) = self {
            faults.heal();
        }
    }
}

impl Place {
    async fn open(&self) -> Arc<dyn Journal> {
        match self {
            Self::Sqlite(directory) => open_sqlite(directory.path()),
            Self::Memory(disk, faults) => MemoryJournal::open(disk, faults.clone()).await.unwrap(),
        }
    }

    fn lock(&self) -> Stranger {
        match self {
            Self::Sqlite(directory) => {
                let stranger = rusqlite::Connection::open(directory.path().join("journal.db")).unwrap();
                stranger.execute_batch("BEGIN IMMEDIATE").unwrap();
                Stranger::Sqlite(stranger)
            }
            Self::Memory(_, faults) => {
                faults.trouble(Trouble::Busy);
                Stranger::Memory(faults.clone())
            }
        }
    }
}

fn open_sqlite(directory: &Path) -> Arc<dyn Journal> {
    SqliteJournal::open(&SqliteOptions::new(directory, VIEWS)).unwrap()
}

/// One guarantee = one async function from a place; here it becomes two tests.
macro_rules! guarantees {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::Place::Sqlite(tempfile::tempdir().unwrap())).await;
            })+
        }
        mod memory {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::Place::Memory(super::MemoryDisk::new(super::VIEWS).unwrap(), super::Faults::none())).await;
            })+
        }
    };
}

guarantees!(
    what_is_acknowledged_is_there_after_it_is_opened_again,
    a_taken_version_is_a_conflict_and_leaves_nothing_of_its_command,
    a_taken_id_of_a_command_without_events_is_a_conflict,
    a_conflict_fails_every_later_write_of_its_incarnation_and_no_neighbour,
    an_outcome_is_seen_after_everything_queued_before,
    what_is_queued_is_settled_in_order,
    commits_are_read_in_order_with_positions_that_only_grow,
    views_are_committed_with_their_events,
    a_snapshot_hides_the_events_before_it_and_they_are_kept,
    the_ids_of_commands_without_events_are_counted_out,
    a_subscription_keeps_its_position,
    a_log_keeps_its_name_and_knows_what_was_at_a_position,
    a_log_that_is_contradicted_takes_no_appends_and_is_read,
    a_question_with_a_wrong_statement_is_an_error_and_harms_nothing,
    a_question_with_too_many_rows_is_refused,
    close_settles_what_is_queued_and_refuses_the_rest,
    every_write_is_settled_though_the_journal_closes_meanwhile,
    a_view_that_cannot_be_written_closes_the_journal,
    a_foreign_lock_is_waited_for_and_told_and_reads_go_on,
    beside_a_foreign_lock_it_closes_and_what_waits_is_refused,
);

struct Write {
    append: Append,
    settled: oneshot::Receiver<Result<(), JournalError>>,
}

fn write(stream: &str, first_version: u64, events: u64, command: u128) -> Write {
    let (done, settled) = oneshot::channel();
    let events = (0..events)
        .map(|number| {
            let payload = format!("{{\"amount\":{number}}}");
            NewEvent { event_type: "counter.added", payload, published_before: Some(10 + number) }
        })
        .collect();
    let append = Append {
        stream: stream.into(),
        first_version,
        events,
        schema: 3,
        refusal: None,
        command_id: CommandId::from_u128(command),
        at_ms: 1_000 + command as i64,
        correlation_id: Some("request".into()),
        causation_id: None,
        traceparent: None,
        actor: Some("somebody".into()),
        views: Vec::new(),
        snapshot: None,
        fence: Arc::new(Fence::default()),
        settle: Box::new(move |outcome| drop(done.send(outcome))),
    };
    Write { append, settled }
}

impl Write {
    fn with(mut self, change: impl FnOnce(&mut Append)) -> Self {
        change(&mut self.append);
        self
    }

    fn queue(self, journal: &Arc<dyn Journal>) -> impl Future<Output = Result<(), JournalError>> + use<> {
        journal.append(self.append);
        async move { timeout(PATIENCE, self.settled).await.unwrap().unwrap() }
    }
}

fn total(id: &str, total: impl Into<SqlValue>) -> ViewWrite {
    let sql = "INSERT INTO totals (id, total) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET total = excluded.total";
    ViewWrite::new(sql, vec![id.into(), total.into()])
}

async fn versions(journal: &Arc<dyn Journal>, stream: &str) -> Vec<u64> {
    journal.events(stream.into()).await.unwrap().iter().map(|event| event.version).collect()
}

async fn rows(journal: &Arc<dyn Journal>, sql: &'static str) -> Vec<Vec<SqlValue>> {
    journal.query(sql, vec![]).await.unwrap().into_iter().map(|row| row.0).collect()
}

async fn what_is_acknowledged_is_there_after_it_is_opened_again(place: Place) {
    let journal = place.open().await;
    write("counter/a", 1, 2, 1).queue(&journal).await.unwrap();
    write("counter/a", 3, 0, 2).with(|append| append.refusal = Some("\"no\"".into())).queue(&journal).await.unwrap();
    journal.close().await;

    let journal = place.open().await;
    assert_eq!(*journal.committed().borrow(), 2);
    let events = journal.events("counter/a".into()).await.unwrap();
    assert_eq!(events.len(), 2);
    let second = &events[1];
    assert_eq!((second.position, second.version, second.schema, second.at_ms), (2, 2, 3, 1_001));
    assert_eq!((&*second.stream, second.event_type.as_str()), ("counter/a", "counter.added"));
    assert_eq!(second.payload, r#"{"amount":1}"#);
    assert_eq!((second.correlation_id.as_deref(), second.actor.as_deref()), (Some("request"), Some("somebody")));
    assert_eq!(second.causation_id, None);
    assert_eq!(events.iter().map(|event| event.published_before).collect::<Vec<_>>(), [Some(10), Some(11)]);
    let (refusal, none) = journal.outcome("counter/a".into(), CommandId::from_u128(2), None).await.unwrap().unwrap();
    assert_eq!((refusal, none.len()), (Outcome::Refused("\"no\"".into()), 0));
    journal.close().await;
}

async fn a_taken_version_is_a_conflict_and_leaves_nothing_of_its_command(place: Place) {
    let journal = place.open().await;
    write("counter/a", 1, 2, 1).queue(&journal).await.unwrap();
    let late = write("counter/a", 2, 3, 2).with(|append| append.views.push(total("a", 9)));
    let fence = Arc::clone(&late.append.fence);
    assert!(matches!(late.queue(&journal).await, Err(JournalError::Conflict(_))));
    assert!(fence.is_raised());
    assert_eq!(fence.unsettled(), 0);
    assert_eq!(versions(&journal, "counter/a").await, [1, 2]);
    assert!(rows(&journal, "SELECT id FROM totals").await.is_empty());
    for first_version in [Some(2), None] {
        let outcome = journal.outcome("counter/a".into(), CommandId::from_u128(2), first_version);
        assert!(outcome.await.unwrap().is_none());
    }
    assert!(journal.is_open());
    journal.close().await;
}

/// Of a command with events this is said by the version that it writes.
async fn a_taken_id_of_a_command_without_events_is_a_conflict(place: Place) {
    let journal = place.open().await;
    write("counter/a", 1, 0, 1).queue(&journal).await.unwrap();
    assert!(matches!(write("counter/a", 1, 0, 1).queue(&journal).await, Err(JournalError::Conflict(_))));
    // The same id on another stream is another command.
    write("counter/b", 1, 0, 1).queue(&journal).await.unwrap();
    journal.close().await;
}

async fn a_conflict_fails_every_later_write_of_its_incarnation_and_no_neighbour(place: Place) {
    let journal = place.open().await;
    write("counter/a", 1, 1, 1).queue(&journal).await.unwrap();
    let fence = Arc::new(Fence::default());
    let of_one_incarnation = |version, command| {
        let fence = Arc::clone(&fence);
        write("counter/a", version, 1, command).with(|append| append.fence = fence).queue(&journal)
    };
    let (conflict, on_top) = (of_one_incarnation(1, 2), of_one_incarnation(2, 3));
    let neighbour = write("counter/b", 1, 1, 4).queue(&journal);
    assert!(matches!(conflict.await, Err(JournalError::Conflict(_))));
    assert!(matches!(on_top.await, Err(JournalError::Conflict(_))));
    neighbour.await.unwrap();
    assert_eq!(fence.unsettled(), 0);
    assert_eq!(versions(&journal, "counter/a").await, [1]);
    assert_eq!(versions(&journal, "counter/b").await, [1]);
    journal.close().await;
}

async fn an_outcome_is_seen_after_everything_queued_before(place: Place) {
    let journal = place.open().await;
    let queued = write("counter/a", 1, 2, 1).queue(&journal);
    let outcome = journal.outcome("counter/a".into(), CommandId::from_u128(1), Some(1));
    let (outcome, events) = outcome.await.unwrap().unwrap();
    assert_eq!(outcome, Outcome::Accepted { first_version: 1, count: 2 });
    assert_eq!(events.iter().map(|event| event.version).collect::<Vec<_>>(), [1, 2]);
    queued.await.unwrap();
    let nothing_to_do = write("counter/a", 3, 0, 2).queue(&journal);
    let (outcome, events) = journal.outcome("counter/a".into(), CommandId::from_u128(2), None).await.unwrap().unwrap();
    assert_eq!((outcome, events.len()), (Outcome::Accepted { first_version: 3, count: 0 }, 0));
    nothing_to_do.await.unwrap();
    assert!(journal.outcome("counter/a".into(), CommandId::from_u128(3), None).await.unwrap().is_none());
    journal.close().await;
}

async fn what_is_queued_is_settled_in_order(place: Place) {
    let journal = place.open().await;
    let (record, mut order) = tokio::sync::mpsc::unbounded_channel();
    for number in 0..200_u64 {
        let record = record.clone();
        let note = move |outcome: Result<(), JournalError>| drop(record.send((number, outcome)));
        if number % 5 == 4 {
            journal.after_queued(Box::new(note));
        } else {
            let version = number - number / 5 + 1;
            let write = write("counter/a", version, 1, u128::from(number)).append;
            journal.append(Append { settle: Box::new(note), ..write });
        }
    }
    for expected in 0..200 {
        let (number, outcome) = timeout(PATIENCE, order.recv()).await.unwrap().unwrap();
        assert_eq!((number, outcome), (expected, Ok(())));
    }
    assert_eq!(versions(&journal, "counter/a").await.len(), 160);
    journal.close().await;
}

async fn commits_are_read_in_order_with_positions_that_only_grow(place: Place) {
    let journal = place.open().await;
    let mut committed = journal.committed();
    let writes = (0..50_u64)
        .map(|number| write(&format!("counter/{}", number % 5), number / 5 + 1, 1, u128::from(number)).queue(&journal));
    join_all(writes.collect::<Vec<_>>()).await.into_iter().for_each(Result::unwrap);
    timeout(PATIENCE, committed.wait_for(|&position| position == 50)).await.unwrap().unwrap();
    let first = journal.read_after(0, 20).await.unwrap();
    let rest = journal.read_after(first[19].position, 100).await.unwrap();
    let positions: Vec<_> = first.iter().chain(&rest).map(|event| event.position).collect();
    assert_eq!(positions, (1..=50).collect::<Vec<_>>());
    assert!(journal.read_after(50, 10).await.unwrap().is_empty());
    journal.close().await;
}

async fn views_are_committed_with_their_events(place: Place) {
    let journal = place.open().await;
    write("counter/a", 1, 1, 1)
        .with(|append| append.views = vec![total("a", 1), total("b", 2)])
        .queue(&journal)
        .await
        .unwrap();
    write("counter/a", 2, 1, 2).with(|append| append.views = vec![total("a", 5)]).queue(&journal).await.unwrap();
    let all = rows(&journal, "SELECT id, total FROM totals ORDER BY id").await;
    assert_eq!(all, [vec!["a".into(), SqlValue::Integer(5)], vec!["b".into(), SqlValue::Integer(2)]]);
    // A row that its table refuses takes its command's events with it, and no other command's.
    let bad = write("counter/a", 3, 1, 3).with(|append| append.views = vec![total("a", 6), total("c", SqlValue::Null)]);
    assert!(matches!(bad.queue(&journal).await, Err(JournalError::Conflict(_))));
    assert_eq!(rows(&journal, "SELECT total FROM totals ORDER BY id").await[0], [SqlValue::Integer(5)]);
    assert_eq!(versions(&journal, "counter/a").await, [1, 2]);
    journal.close().await;
}

async fn a_snapshot_hides_the_events_before_it_and_they_are_kept(place: Place) {
    let journal = place.open().await;
    write("counter/a", 1, 2, 1).with(|append| append.snapshot = Some((2, vec![7, 7]))).queue(&journal).await.unwrap();
    write("counter/a", 3, 1, 2).queue(&journal).await.unwrap();
    let loaded = journal.load("counter/a".into(), 10).await.unwrap();
    assert_eq!(loaded.snapshot, Some((2, vec![7, 7])));
    assert_eq!(loaded.tail.iter().map(|event| event.version).collect::<Vec<_>>(), [3]);
    assert_eq!(versions(&journal, "counter/a").await, [1, 2, 3]);
    write("counter/a", 4, 1, 3).with(|append| append.snapshot = Some((4, vec![8]))).queue(&journal).await.unwrap();
    let loaded = journal.load("counter/a".into(), 10).await.unwrap();
    assert_eq!((loaded.snapshot, loaded.tail.len()), (Some((4, vec![8])), 0));
    journal.close().await;
}

async fn the_ids_of_commands_without_events_are_counted_out(place: Place) {
    let journal = place.open().await;
    for number in 0..5 {
        write("counter/a", 1, 0, number).queue(&journal).await.unwrap();
    }
    write("counter/a", 1, 2, 5).queue(&journal).await.unwrap();
    let all = journal.load("counter/a".into(), 5).await.unwrap();
    assert_eq!((all.seen.len(), all.seen_is_complete), (6, true));
    let some = journal.load("counter/a".into(), 4).await.unwrap();
    assert_eq!((some.seen.len(), some.seen_is_complete), (5, false));
    assert!(some.seen.contains(&(CommandId::from_u128(5), Some(1))), "those with events are always there");
    let none = journal.load("counter/unknown".into(), 4).await.unwrap();
    assert_eq!((none.seen.len(), none.seen_is_complete, none.tail.len(), none.snapshot), (0, true, 0, None));
    journal.close().await;
}

async fn a_subscription_keeps_its_position(place: Place) {
    let journal = place.open().await;
    assert_eq!(journal.position_of("reader".into()).await.unwrap().position, 0);
    journal.store_position("reader".into(), 7.into()).await.unwrap();
    journal.store_position("other".into(), 1.into()).await.unwrap();
    journal.store_position("reader".into(), 9.into()).await.unwrap();
    journal.close().await;
    let journal = place.open().await;
    assert_eq!(journal.position_of("reader".into()).await.unwrap().position, 9);
    assert_eq!(journal.position_of("other".into()).await.unwrap().position, 1);
    journal.close().await;
}

async fn a_log_keeps_its_name_and_knows_what_was_at_a_position(place: Place) {
    let journal = place.open().await;
    let identity = journal.identity();
    write("counter/a", 1, 2, 1).queue(&journal).await.unwrap();
    let digest = journal.digest_at(2).await.unwrap().unwrap();
    assert_eq!(journal.digest_at(0).await.unwrap(), Some(EventDigest::NONE));
    assert_eq!(journal.digest_at(3).await.unwrap(), None);
    assert_ne!(journal.digest_at(1).await.unwrap(), Some(digest));
    let mark = LogMark::new(identity, 2, digest);
    journal.store_position("reader".into(), mark).await.unwrap();
    journal.close().await;

    let journal = place.open().await;
    assert_eq!(journal.identity(), identity);
    assert_eq!(journal.position_of("reader".into()).await.unwrap(), mark);
    assert_eq!(compare(mark, &*journal).await.unwrap(), Ok(()));
    assert_eq!(compare(2.into(), &*journal).await.unwrap(), Ok(()), "an older build noted no event");
    for beyond in [LogMark::new(identity, 3, digest), 3.into()] {
        let contradiction = Contradiction::BeyondTheEnd { position: 3, end: 2 };
        assert_eq!(compare(beyond, &*journal).await.unwrap(), Err(contradiction));
    }
    let other = LogMark::new(identity, 1, digest);
    assert_eq!(compare(other, &*journal).await.unwrap(), Err(Contradiction::OtherEvent { position: 1 }));
    let elsewhere = LogIdentity::generate().unwrap();
    let contradiction = Contradiction::OtherLog { position: 0, noted: elsewhere.log, found: identity.log };
    assert_eq!(compare(LogMark::start_of(elsewhere), &*journal).await.unwrap(), Err(contradiction));
    journal.close().await;
}

async fn a_log_that_is_contradicted_takes_no_appends_and_is_read(place: Place) {
    let journal = place.open().await;
    write("counter/a", 1, 1, 1).queue(&journal).await.unwrap();
    journal.contradictions().raise("reader", "position 9 was noted, and the log ends at 1");
    let refused = write("counter/a", 2, 1, 2);
    let fence = Arc::clone(&refused.append.fence);
    let outcome = refused.queue(&journal).await;
    assert!(
        matches!(&outcome, Err(JournalError::Contradicted(reason)) if reason.contains("position 9")),
        "{outcome:?}"
    );
    assert!(fence.is_raised() && fence.unsettled() == 0);
    assert_eq!((versions(&journal, "counter/a").await, *journal.committed().borrow()), (vec![1], 1));
    // What its own readings came to is no append: who reads another log goes on.
    journal.store_position("other".into(), 1.into()).await.unwrap();
    journal.contradictions().withdraw("reader");
    write("counter/a", 2, 1, 2).queue(&journal).await.unwrap();
    journal.close().await;
}

async fn a_question_with_a_wrong_statement_is_an_error_and_harms_nothing(place: Place) {
    let journal = place.open().await;
    let wrong = journal.query("SELECT nothing FROM nowhere", vec![]).await;
    assert!(matches!(wrong, Err(JournalError::Query(_))));
    write("counter/a", 1, 1, 1).queue(&journal).await.unwrap();
    let rows = journal.query("SELECT ?1, ?2, ?3", vec![7.into(), "seven".into(), SqlValue::Null]).await.unwrap();
    assert_eq!((rows[0].integer(0).unwrap(), rows[0].text(1).unwrap()), (7, "seven"));
    assert_eq!(rows[0].optional_text(2).unwrap(), None);
    assert!(rows[0].integer(1).is_err());
    journal.close().await;
}

async fn a_question_with_too_many_rows_is_refused(place: Place) {
    let journal = place.open().await;
    let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1) SELECT i FROM n";
    assert_eq!(journal.query(sql, vec![10_000.into()]).await.unwrap().len(), 10_000);
    assert!(matches!(journal.query(sql, vec![10_001.into()]).await, Err(JournalError::Query(_))));
    journal.close().await;
}

async fn close_settles_what_is_queued_and_refuses_the_rest(place: Place) {
    let journal = place.open().await;
    let queued: Vec<_> =
        (0..100_u64).map(|number| write("counter/a", number + 1, 1, u128::from(number)).queue(&journal)).collect();
    journal.close().await;
    join_all(queued).await.into_iter().for_each(Result::unwrap);
    assert!(!journal.is_open());
    assert_eq!(journal.closed().await, JournalError::Closed);
    assert_eq!(write("counter/a", 101, 1, 101).queue(&journal).await, Err(JournalError::Closed));
    let (done, settled) = oneshot::channel();
    journal.after_queued(Box::new(move |outcome| drop(done.send(outcome))));
    assert_eq!(settled.await.unwrap(), Err(JournalError::Closed));
    assert!(matches!(journal.load("counter/a".into(), 1).await, Err(JournalError::Closed)));
    assert!(matches!(journal.store_position("reader".into(), 1.into()).await, Err(JournalError::Closed)));
    let journal = place.open().await;
    assert_eq!(versions(&journal, "counter/a").await.len(), 100);
    journal.close().await;
}

async fn every_write_is_settled_though_the_journal_closes_meanwhile(place: Place) {
    for _ in 0..20 {
        let journal = place.open().await;
        let writing = Arc::clone(&journal);
        // A thread of its own, so that it sends at any moment of the close; `write` panics where nothing is settled.
        let writer = std::thread::spawn(move || {
            let of_one_command = |number: u64| {
                let is_closing = !writing.is_open();
                (is_closing, write(&format!("counter/{number}"), 1, 0, u128::from(number)).queue(&writing))
            };
            let mut settled = Vec::new();
            for number in 0.. {
                let (is_closing, write) = of_one_command(number);
                settled.push(write);
                if is_closing {
                    return settled;
                }
            }
            settled
        });
        journal.after_queued(Box::new(|_| ()));
        journal.close().await;
        let settled = tokio::task::spawn_blocking(move || writer.join().unwrap()).await.unwrap();
        let outcomes = join_all(settled).await;
        assert!(
            outcomes
                .iter()
                .all(|outcome| matches!(outcome, Ok(()) | Err(JournalError::Closed | JournalError::Conflict(_))))
        );
        assert_eq!(outcomes.last(), Some(&Err(JournalError::Closed)));
    }
}

async fn a_foreign_lock_is_waited_for_and_told_and_reads_go_on(place: Place) {
    let journal = place.open().await;
    write("counter/a", 1, 1, 1).queue(&journal).await.unwrap();
    let stranger = place.lock();
    let mut waiting = Box::pin(write("counter/a", 2, 1, 2).queue(&journal));
    let told = async {
        while journal.health().trouble.map(|(trouble, _)| trouble) != Some(Trouble::Busy) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        outcome = &mut waiting => panic!("it waits for the lock: {outcome:?}"),
        told = timeout(PATIENCE, told) => told.unwrap(),
    }
    assert!(journal.is_open() && !journal.is_full());
    assert_eq!(versions(&journal, "counter/a").await, [1]);
    drop(stranger);
    waiting.await.unwrap();
    assert_eq!(versions(&journal, "counter/a").await, [1, 2]);
    let over = async {
        while journal.health().trouble.is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, over).await.unwrap();
    journal.close().await;
}

async fn beside_a_foreign_lock_it_closes_and_what_waits_is_refused(place: Place) {
    let journal = place.open().await;
    let fence = Arc::new(Fence::default());
    write("counter/a", 1, 1, 1).queue(&journal).await.unwrap();
    let stranger = place.lock();
    let refused = write("counter/a", 2, 1, 2).with(|append| append.fence = Arc::clone(&fence)).queue(&journal);
    timeout(PATIENCE, journal.close()).await.unwrap();
    assert_eq!(refused.await, Err(JournalError::Busy));
    assert!(fence.is_raised() && fence.unsettled() == 0);
    drop(stranger);
    let journal = place.open().await;
    assert_eq!(versions(&journal, "counter/a").await, [1]);
    journal.close().await;
}

async fn a_view_that_cannot_be_written_closes_the_journal(place: Place) {
    let journal = place.open().await;
    write("counter/a", 1, 1, 1).queue(&journal).await.unwrap();
    // No such table: that is no fault of one command's values, so nothing may be acknowledged any more.
    let broken = ViewWrite::new("INSERT INTO nowhere (id) VALUES (?1)", vec!["a".into()]);
    let in_the_same_batch = write("counter/b", 1, 1, 2);
    let with_a_view = write("counter/a", 2, 1, 3).with(|append| append.views.push(broken));
    let (neighbour, failed) = (in_the_same_batch.queue(&journal), with_a_view.queue(&journal));
    assert!(matches!(failed.await, Err(JournalError::Storage(_))));
    // Whether it was in the same batch is chance: acknowledged it is there, refused it is not.
    let is_acknowledged = neighbour.await.is_ok();
    assert!(matches!(timeout(PATIENCE, journal.closed()).await.unwrap(), JournalError::Storage(_)));
    assert!(!journal.is_open());
    let journal = place.open().await;
    assert_eq!(versions(&journal, "counter/a").await, [1]);
    assert_eq!(!versions(&journal, "counter/b").await.is_empty(), is_acknowledged);
    journal.close().await;
}
