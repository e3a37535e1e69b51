//! A commit that fails, before or after it was made, in paused time on the journal with faults.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::time::Duration;

use microcommerce_runtime::{
    AskError, CommandId, Entities, EntitiesConfig, Gate,
    journal::Trouble,
    testkit::{CommitFault, Service, Simulation, simulate},
};
use support::{Count, Counted, Counter, TooLarge, VIEWS};
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(5);
const VIRTUAL_TIME_MAX: Duration = Duration::from_secs(600);

struct Scene {
    simulation: Simulation,
    service: Service<Entities<Counter>>,
}

impl Scene {
    async fn set(simulation: Simulation) -> Self {
        let service = simulation
            .service("counting", VIEWS, |journal, roster| {
                let counters = Entities::<Counter>::new(journal, &Gate::new(1_000), EntitiesConfig::default(), roster);
                let shards = counters.shards();
                (counters, shards)
            })
            .await;
        Self { simulation, service }
    }

    async fn ask(&self, command: Count, number: u64) -> microcommerce_runtime::entities::Answer<Counter> {
        let meta = self.simulation.command(CommandId::from_u128(u128::from(number)), PATIENCE);
        self.service.handle().unwrap().ask("a", command, meta).await
    }

    /// Asks until the tree is back. In virtual time this costs no time.
    async fn ask_until_answered(
        &self,
        command: Count,
        number: u64,
    ) -> microcommerce_runtime::entities::Answer<Counter> {
        loop {
            match self.ask(command.clone(), number).await {
                Err(AskError::Unavailable) => tokio::time::sleep(Duration::from_millis(10)).await,
                answer => return answer,
            }
        }
    }

    /// What a reader is told who asks right behind what is on its way.
    async fn read(&self) -> Result<(i64, u64), AskError<TooLarge>> {
        let counters = self.service.handle().unwrap();
        counters.read("a", Instant::now() + PATIENCE, |state, version| (state.0, version)).await
    }

    async fn total(&self) -> (i64, u64) {
        let counters = self.service.handle().unwrap();
        counters.read("a", Instant::now() + PATIENCE, |state, version| (state.0, version)).await.unwrap()
    }

    fn commands_on_disk(&self) -> i64 {
        let commands = "SELECT count(*) FROM (SELECT command_id FROM events UNION SELECT command_id FROM commands)";
        self.service.disk.query(commands, &[]).unwrap()[0].integer(0).unwrap()
    }
}

fn scene<Fut: Future<Output = ()>>(play: impl FnOnce(Scene) -> Fut) {
    simulate(1, VIRTUAL_TIME_MAX, |simulation| async { play(Scene::set(simulation).await).await });
}

#[test]
fn a_lost_commit_acknowledges_nothing_and_the_state_after_is_the_journals() {
    scene(|scene| async move {
        scene.ask(Count::Add(1), 1).await.unwrap();
        scene.service.faults.fail_next_commit(CommitFault::Lost);
        // The first fails; what was decided on top of it fails with it.
        let (failed, on_top) = tokio::join!(scene.ask(Count::Add(10), 2), scene.ask(Count::Add(100), 3));
        assert_eq!((failed, on_top), (Err(AskError::Unavailable), Err(AskError::Unavailable)));
        assert_eq!(scene.commands_on_disk(), 1);
        let retried = scene.ask_until_answered(Count::Add(10), 2).await.unwrap();
        assert_eq!((retried.version, retried.is_repeat), (2, false), "it had not happened");
        assert_eq!(scene.total().await, (11, 2));
        scene.service.stop().await;
    });
}

#[test]
fn a_commit_nobody_heard_of_is_found_by_the_repeat_and_not_made_twice() {
    scene(|scene| async move {
        scene.ask(Count::Add(1), 1).await.unwrap();
        scene.service.faults.fail_next_commit(CommitFault::Unacknowledged);
        assert_eq!(scene.ask(Count::Add(10), 2).await, Err(AskError::Unavailable));
        assert_eq!(scene.commands_on_disk(), 2, "it was made");
        // Another amount under the same id: the first outcome is given all the same.
        let repeated = scene.ask_until_answered(Count::Add(99), 2).await.unwrap();
        assert_eq!((repeated.version, repeated.is_repeat), (2, true));
        assert_eq!(repeated.events, [Counted::Added { amount: 10 }]);
        assert_eq!(scene.total().await, (11, 2));
        scene.service.stop().await;
    });
}

#[test]
fn a_refusal_nobody_heard_of_is_the_refusal_of_the_repeat() {
    scene(|scene| async move {
        scene.ask(Count::Add(5), 1).await.unwrap();
        scene.service.faults.fail_next_commit(CommitFault::Unacknowledged);
        assert_eq!(scene.ask(Count::Add(2_000_000_000), 2).await, Err(AskError::Unavailable));
        let repeated = scene.ask_until_answered(Count::Add(1), 2).await;
        assert_eq!(repeated, Err(AskError::Refused(TooLarge { total: 5 })), "though the amount would fit now");
        assert_eq!(scene.total().await, (5, 1));
        scene.service.stop().await;
    });
}

#[test]
fn a_refused_write_fells_its_entity_alone_and_the_truth_is_read_again() {
    scene(|scene| async move {
        scene.ask(Count::Add(1), 1).await.unwrap();
        scene.service.faults.refuse_next(1);
        let (refused, on_top) = tokio::join!(scene.ask(Count::Add(10), 2), scene.ask(Count::Add(100), 3));
        assert_eq!((refused, on_top), (Err(AskError::Unavailable), Err(AskError::Unavailable)));
        assert_eq!(scene.total().await, (1, 1), "the journal and its tree go on");
        for number in [2, 3] {
            assert!(!scene.ask_until_answered(Count::Add(10), number).await.unwrap().is_repeat);
        }
        assert_eq!(scene.total().await, (21, 3));
        scene.service.stop().await;
    });
}

#[test]
fn a_read_right_behind_a_write_that_is_refused_shows_nothing_that_never_was() {
    scene(|scene| async move {
        scene.ask(Count::Add(1), 1).await.unwrap();
        for fault in [None, Some(CommitFault::Lost), Some(CommitFault::Unacknowledged)] {
            let before = scene.total().await;
            match fault {
                None => scene.service.faults.refuse_next(1),
                Some(fault) => scene.service.faults.fail_next_commit(fault),
            }
            let (refused, read) = tokio::join!(scene.ask(Count::Add(10), 2), scene.read());
            assert_eq!((refused, read), (Err(AskError::Unavailable), Err(AskError::Unavailable)), "{fault:?}");
            // The truth is what was there before, unless the commit was made and nobody heard of it.
            let made = (fault == Some(CommitFault::Unacknowledged)).then_some((before.0 + 10, before.1 + 1));
            let after = loop {
                match scene.read().await {
                    Ok(after) => break after,
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            };
            assert_eq!(after, made.unwrap_or(before), "{fault:?}");
        }
        scene.service.stop().await;
    });
}

#[test]
fn who_waits_for_a_change_is_not_shown_one_that_was_refused() {
    scene(|scene| async move {
        scene.ask(Count::Add(1), 1).await.unwrap();
        scene.service.faults.refuse_next(1);
        let counters = scene.service.handle().unwrap();
        let more_than_ten = |state: &support::Total| (state.0 > 10).then_some(state.0);
        let deadline = Instant::now() + PATIENCE;
        let (refused, seen) =
            tokio::join!(scene.ask(Count::Add(10), 2), counters.wait_until("a", deadline, more_than_ten));
        assert_eq!((refused, seen), (Err(AskError::Unavailable), Err(AskError::Unavailable)));
        scene.service.stop().await;
    });
}

#[test]
fn a_read_waits_for_the_commit_in_flight_and_no_longer() {
    scene(|scene| async move {
        scene.ask(Count::Add(1), 1).await.unwrap();
        let slow = Duration::from_secs(2);
        scene.service.faults.delay_commits(slow..=slow);
        let asked_at = Instant::now();
        let read = async {
            let read = scene.read().await;
            (read, asked_at.elapsed(), scene.commands_on_disk())
        };
        let (written, (read, after, on_disk)) = tokio::join!(scene.ask(Count::Add(10), 2), read);
        assert_eq!((written.unwrap().version, read), (2, Ok((11, 2))));
        assert_eq!(on_disk, 2, "what it showed was on the disk");
        assert!(after >= slow, "it answered {after:?} after it was asked");
        // With nothing on its way a read waits for nobody.
        let asked_at = Instant::now();
        assert_eq!(scene.read().await, Ok((11, 2)));
        assert!(asked_at.elapsed() < Duration::from_millis(100), "{:?}", asked_at.elapsed());
        scene.service.stop().await;
    });
}

#[test]
fn without_room_a_command_is_refused_reads_go_on_and_it_goes_on_by_itself() {
    scene(|scene| async move {
        scene.ask(Count::Add(1), 1).await.unwrap();
        scene.service.faults.trouble(Trouble::Full);
        for number in [2, 3, 4] {
            assert_eq!(scene.ask(Count::Add(10), number).await, Err(AskError::Full));
            assert_eq!(scene.total().await, (1, 1), "nothing was done, and reads go on");
        }
        assert!(scene.ask(Count::Add(1), 1).await.unwrap().is_repeat, "a repeat gets its outcome");
        assert_eq!(scene.commands_on_disk(), 1);
        scene.service.faults.heal();
        let give_up_at = Instant::now() + PATIENCE;
        let accepted = loop {
            match scene.ask(Count::Add(10), 2).await {
                Err(AskError::Full) => tokio::time::sleep(Duration::from_millis(10)).await,
                answer => break answer.unwrap(),
            }
            assert!(Instant::now() < give_up_at, "it goes on by itself");
        };
        assert_eq!((accepted.version, accepted.is_repeat), (2, false));
        assert_eq!(scene.service.roster.fatal(), None);
        scene.service.stop().await;
    });
}

#[test]
fn a_foreign_lock_is_waited_for_within_the_callers_deadline() {
    scene(|scene| async move {
        scene.ask(Count::Add(1), 1).await.unwrap();
        scene.service.faults.trouble(Trouble::Busy);
        let asked_at = Instant::now();
        assert_eq!(scene.ask(Count::Add(10), 2).await, Err(AskError::DeadlineExceeded));
        assert!(asked_at.elapsed() < PATIENCE + Duration::from_secs(1));
        scene.service.faults.heal();
        // What its caller has given up is one command all the same: it was never refused.
        let repeated = scene.ask(Count::Add(10), 2).await.unwrap();
        assert!(repeated.is_repeat);
        assert_eq!(scene.total().await, (11, 2));
        scene.service.stop().await;
    });
}

#[test]
fn a_failed_sync_ends_the_tree_for_good_and_acknowledges_nothing() {
    scene(|scene| async move {
        scene.ask(Count::Add(1), 1).await.unwrap();
        scene.service.faults.fail_next_commit(CommitFault::Fatal);
        assert_eq!(scene.ask(Count::Add(10), 2).await, Err(AskError::Unavailable));
        let give_up_at = Instant::now() + VIRTUAL_TIME_MAX / 2;
        while scene.service.roster.fatal().is_none() {
            assert!(Instant::now() < give_up_at, "the tree ends");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(scene.service.roster.fatal(), Some("the sync has failed"));
        // Long after every pause before a restart nobody has come back.
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(scene.ask(Count::Add(10), 2).await, Err(AskError::Unavailable));
        assert_eq!(scene.commands_on_disk(), 1);
    });
}

#[test]
fn nobody_is_answered_before_a_slow_commit_and_a_deadline_is_kept() {
    scene(|scene| async move {
        scene.ask(Count::Nothing, 0).await.unwrap();
        let slow = Duration::from_secs(60);
        scene.service.faults.delay_commits(slow..=slow);
        let asked_at = Instant::now();
        assert_eq!(scene.ask(Count::Add(1), 1).await, Err(AskError::DeadlineExceeded));
        assert!(asked_at.elapsed() < PATIENCE + Duration::from_secs(1), "its caller waited no longer than it said");
        // Its outcome is unknown to the caller, and it is one: the repeat waits for the first one's commit.
        tokio::time::sleep(Duration::from_secs(120)).await;
        scene.service.faults.heal();
        let repeated = scene.ask(Count::Add(1), 1).await.unwrap();
        assert!(repeated.is_repeat);
        assert_eq!(scene.total().await, (1, 1));
        scene.service.stop().await;
    });
}
