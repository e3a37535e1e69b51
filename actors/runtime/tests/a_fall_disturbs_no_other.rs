//! What falls, falls alone, and comes back.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use microcommerce_runtime::{
    AskError, EntitiesConfig, Roster,
    supervision::{Backoff, ChildSpec, Intensity, Restart, StartError, Supervisor, SupervisorMessage, SupervisorSpec},
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use support::{Count, PATIENCE, System, command};
use tokio::time::Instant;

#[tokio::test]
async fn a_panic_in_one_entity_disturbs_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    // 1 % of them fall.
    let (entities, panicking) = (10_000, 100);
    let answers = futures::future::join_all((0..entities).map(|number| {
        let counters = system.counters.clone();
        let explodes = number % (entities / panicking) == 0;
        let what = if explodes { Count::Explode } else { Count::Add(1) };
        async move { (explodes, number, counters.ask(format!("e{number}"), what, command(number)).await) }
    }))
    .await;
    for (explodes, number, answer) in answers {
        match explodes {
            true => assert_eq!(answer.unwrap_err(), AskError::Unavailable, "entity {number}"),
            false => drop(answer.unwrap()),
        }
    }
    // Those that fell are awake again with the next command.
    for number in (0..entities).step_by((entities / panicking) as usize) {
        system.counters.ask(format!("e{number}"), Count::Add(2), command(entities + number)).await.unwrap();
        assert_eq!(system.total(&format!("e{number}")).await, 2);
    }
    let failures: u64 = system.roster.readings().iter().map(|reading| reading.failures).sum();
    assert_eq!(failures, panicking);
    system.stop().await;
}

#[tokio::test]
async fn a_killed_shard_comes_back_with_everything_that_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let config = EntitiesConfig { shards: 1, ..EntitiesConfig::default() };
    let system = System::start_with(directory.path(), config).await;
    let (mut acknowledged, mut number) = (0, 0);
    for _ in 0..5 {
        for _ in 0..50 {
            number += 1;
            if system.counters.ask("a", Count::Add(1), command(number)).await.is_ok() {
                acknowledged += 1;
            }
        }
        let kill = SupervisorMessage::KillChild { name: "counter-shard-0".into() };
        system.supervisor.send_message(kill).unwrap();
        let give_up_at = Instant::now() + PATIENCE;
        number += 1;
        while system.counters.ask("a", Count::Add(1), command(number)).await.is_err() {
            assert!(Instant::now() < give_up_at, "the shard did not come back");
            tokio::task::yield_now().await;
        }
        acknowledged += 1;
    }
    assert_eq!(system.total("a").await, acknowledged);
    system.stop().await;
}

#[tokio::test]
async fn sleeping_and_waking_under_load_lose_no_command() {
    let directory = tempfile::tempdir().unwrap();
    // Room for 8 of 64: every command puts somebody to sleep.
    let config =
        EntitiesConfig { shards: 2, active_per_shard_max: 8, idle_after: Duration::ZERO, ..EntitiesConfig::default() };
    let system = System::start_with(directory.path(), config).await;
    let asks = (0..6_400_u64).map(|number| {
        let counters = system.counters.clone();
        tokio::spawn(async move { counters.ask(format!("e{}", number % 64), Count::Add(1), command(number)).await })
    });
    for answer in futures::future::join_all(asks.collect::<Vec<_>>()).await {
        answer.unwrap().unwrap();
    }
    for number in 0..64 {
        assert_eq!(system.total(&format!("e{number}")).await, 100);
    }
    system.stop().await;
}

#[tokio::test]
async fn overload_is_refused_at_once_and_what_is_accepted_is_right() {
    let directory = tempfile::tempdir().unwrap();
    let config = EntitiesConfig { shards: 1, in_flight_per_shard_max: 100, ..EntitiesConfig::default() };
    let system = System::start_with(directory.path(), config).await;
    let asks = (0..5_000).map(|number| system.counters.ask("a", Count::Add(1), command(number)));
    let answers = futures::future::join_all(asks).await;
    let accepted = answers.iter().filter(|answer| answer.is_ok()).count();
    assert!(answers.iter().all(|answer| matches!(answer, Ok(_) | Err(AskError::Busy))));
    assert!((100..5_000).contains(&accepted), "{accepted} accepted");
    assert_eq!(system.total("a").await, accepted as i64);
    assert_eq!(system.counters.in_flight(), 0, "every permit was given back");
    system.stop().await;
}

#[tokio::test]
async fn an_expired_command_is_not_executed() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    let mut late = command(1);
    late.deadline = Instant::now() - Duration::from_millis(1);
    assert_eq!(system.counters.ask("a", Count::Add(1), late).await, Err(AskError::DeadlineExceeded));
    assert_eq!(system.total("a").await, 0);
    system.stop().await;
}

/// Fails as soon as it has started.
struct Hopeless;

impl Actor for Hopeless {
    type Msg = ();
    type State = ();
    type Arguments = ();
    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
    async fn post_start(&self, _: ActorRef<()>, (): &mut ()) -> Result<(), ActorProcessingErr> {
        Err("hopeless".into())
    }
}

#[tokio::test]
async fn a_child_that_falls_too_often_takes_its_supervisor_down() {
    let starts = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&starts);
    let child = ChildSpec::new("hopeless", Restart::Permanent, move |supervisor| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move { Ok(Hopeless::spawn_linked(None, Hopeless, (), supervisor).await?.0.get_cell()) }
    });
    let fast = Duration::from_millis(1);
    let spec = SupervisorSpec::new("test", vec![child])
        .intensity(Intensity { restarts_max: 3, window: Duration::from_secs(60) })
        .backoff(Backoff { first: fast, max: fast, reset_after: Duration::from_secs(60) });
    let (_, ended) = Supervisor::spawn(None, Supervisor, (spec, Roster::new())).await.unwrap();
    tokio::time::timeout(PATIENCE, ended).await.unwrap().unwrap();
    assert_eq!(starts.load(Ordering::SeqCst), 4, "the first start and three restarts");
}

#[tokio::test]
async fn a_supervisor_of_which_a_child_cannot_start_does_not_start() {
    let child = ChildSpec::new("broken", Restart::Permanent, |_| async { Err(StartError::new("the reason")) });
    let spec = SupervisorSpec::new("test", vec![child]);
    let error = Supervisor::spawn(None, Supervisor, (spec, Roster::new())).await.err().unwrap();
    assert!(error.to_string().contains("the reason"));
}
