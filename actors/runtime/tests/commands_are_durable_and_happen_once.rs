//! What an acknowledged command is worth.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use microcommerce_runtime::{
    AskError, EntitiesConfig, Journal, SqlValue,
    journal::sqlite::{SqliteJournal, SqliteOptions},
};
use support::{Count, Counted, System, TooLarge, command};

#[tokio::test]
async fn an_acknowledged_command_is_there_after_a_restart_with_its_view() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    for number in 0..10 {
        let accepted = system.counters.ask("a", Count::Add(1), command(number)).await.unwrap();
        assert_eq!(accepted.version, number + 1);
    }
    system.stop().await;

    let system = System::start(directory.path()).await;
    assert_eq!(system.total("a").await, 10);
    let rows = system.journal.query("SELECT total FROM totals WHERE id = ?1", vec!["a".into()]).await.unwrap();
    assert_eq!(rows[0].0, [SqlValue::Integer(10)]);
    system.stop().await;
}

#[tokio::test]
async fn a_repeated_command_appends_nothing_and_gets_the_first_outcome_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    let first = system.counters.ask("a", Count::Add(5), command(1)).await.unwrap();
    let refusal = system.counters.ask("a", Count::Add(2_000_000_000), command(2)).await.unwrap_err();
    let nothing = system.counters.ask("a", Count::Nothing, command(3)).await.unwrap();
    assert_eq!(refusal, AskError::Refused(TooLarge { total: 5 }));
    assert_eq!((nothing.version, nothing.events.len()), (1, 0));
    system.counters.ask("a", Count::Add(1), command(4)).await.unwrap();

    let mut system = system;
    for _ in 0..2 {
        let again = system.counters.ask("a", Count::Add(77), command(1)).await.unwrap();
        assert_eq!((again.version, &again.events), (first.version, &vec![Counted::Added { amount: 5 }]));
        assert!(again.is_repeat);
        let refused_again = system.counters.ask("a", Count::Add(1), command(2)).await.unwrap_err();
        assert_eq!(refused_again, refusal, "the first refusal, though the amount would fit now");
        assert_eq!(system.counters.ask("a", Count::Add(1), command(3)).await.unwrap().events, vec![]);
        assert_eq!(system.total("a").await, 6);
        system.stop().await;
        system = System::start(directory.path()).await;
    }
    system.stop().await;
}

#[tokio::test]
async fn a_repeat_that_overtakes_the_commit_waits_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    let asks = (0..200).map(|number| system.counters.ask("a", Count::Add(1), command(number % 20)));
    let answers = futures::future::join_all(asks).await;
    assert_eq!(answers.iter().filter(|answer| !answer.as_ref().unwrap().is_repeat).count(), 20);
    assert_eq!(system.total("a").await, 20);
    system.stop().await;
}

#[tokio::test]
async fn a_refused_write_acknowledges_nothing_and_the_entity_reads_the_truth_again() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    system.counters.ask("a", Count::Add(1), command(0)).await.unwrap();
    // The one that breaks, what was decided on top of it, and a neighbour in the same batch.
    let (broken, on_top, neighbour) = tokio::join!(
        system.counters.ask("a", Count::BreakTheView, command(1)),
        system.counters.ask("a", Count::Add(10), command(2)),
        system.counters.ask("b", Count::Add(7), command(3)),
    );
    assert_eq!(broken, Err(AskError::Unavailable));
    neighbour.unwrap();
    let after = if on_top.is_ok() { "a first attempt that landed" } else { "a first attempt that did not" };
    // The retry with the same id lands exactly once, whatever the first attempt came to.
    let give_up_at = tokio::time::Instant::now() + support::PATIENCE;
    while system.counters.ask("a", Count::Add(10), command(2)).await.is_err() {
        assert!(tokio::time::Instant::now() < give_up_at, "the entity did not come back");
    }
    assert_eq!(system.total("a").await, 11, "after {after}");
    assert_eq!(system.total("b").await, 7);
    let rows = system.journal.query("SELECT count(*), max(version) FROM events WHERE stream = 'counter/a'", vec![]);
    assert_eq!(rows.await.unwrap()[0].0, [SqlValue::Integer(2), SqlValue::Integer(2)]);
    system.stop().await;
}

#[tokio::test]
async fn a_second_journal_on_the_same_directory_is_refused_with_one_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    let options = SqliteOptions::new(directory.path(), support::VIEWS);
    // In this process the one that is open should have been closed; of another process see the journal's own tests.
    let error = SqliteJournal::open(&options).err().unwrap();
    assert!(error.is_fatal(), "only a new process helps");
    let text = error.to_string();
    assert!(text.contains("was not closed within 10s"), "{text}");
    assert_eq!(text.lines().count(), 1);
    assert_eq!(system.counters.ask("a", Count::Add(1), command(1)).await.unwrap().version, 1, "the first goes on");
    system.stop().await;
}

#[tokio::test]
async fn commits_are_read_in_their_order_and_wake_their_readers() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    let mut committed = system.journal.committed();
    let asks = (0..100).map(|number| system.counters.ask(format!("c{}", number % 7), Count::Add(1), command(number)));
    futures::future::join_all(asks).await.into_iter().for_each(|answer| drop(answer.unwrap()));
    committed.wait_for(|&position| position == 100).await.unwrap();
    let (first, rest) =
        (system.journal.read_after(0, 40).await.unwrap(), system.journal.read_after(40, 1_000).await.unwrap());
    assert_eq!((first.len(), rest.len()), (40, 60));
    let positions: Vec<_> = first.iter().chain(&rest).map(|event| event.position).collect();
    assert_eq!(positions, (1..=100).collect::<Vec<_>>());
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_an_answer_may_ask_again_at_once_though_there_is_room_for_one() {
    let directory = tempfile::tempdir().unwrap();
    let config = EntitiesConfig { shards: 1, in_flight_per_shard_max: 1, ..EntitiesConfig::default() };
    let system = System::start_with(directory.path(), config).await;
    for number in 0..2_000 {
        system.counters.ask("a", Count::Add(1), command(number)).await.unwrap();
        assert_eq!(system.total("a").await, number.cast_signed() + 1);
    }
    system.stop().await;
}

/// A list that takes some seconds, and reads no table: SQLite counts.
const SLOW_LIST: &str =
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000000) SELECT max(i) FROM n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_lists_do_not_keep_an_entity_from_waking() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    system.counters.ask("a", Count::Add(5), command(1)).await.unwrap();
    system.stop().await;
    let system = System::start(directory.path()).await;
    // More than there are readers, and all of them are at it before anybody wakes.
    let lists: Vec<_> = (0..8).map(|_| tokio::spawn(system.journal.query(SLOW_LIST, vec![]))).collect();
    let done = lists.iter().filter(|list| list.is_finished()).count();
    assert_eq!(system.counters.ask("a", Count::Add(1), command(2)).await.unwrap().version, 2);
    assert_eq!(system.total("a").await, 6);
    assert_eq!(lists.iter().filter(|list| list.is_finished()).count(), done, "no list had to end for it");
    // The journal interrupts them when it is closed.
    system.stop().await;
}
