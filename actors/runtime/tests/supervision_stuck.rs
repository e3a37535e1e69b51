//! An actor that is in one message for too long.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod stage;

use std::{sync::mpsc, time::Duration};

use microcommerce_runtime::{
    roster::ChildState,
    supervision::{Activity, Restart, Strategy, SupervisorMessage, SupervisorSpec},
};
use stage::{BRIEF, Do, Stage, runs_again, stands, start};
use tokio::time::Instant;

const BOUND: Duration = Duration::from_secs(8);

#[tokio::test(start_paused = true)]
async fn a_child_stuck_at_an_await_is_killed_and_started_again() {
    let (stage, activity) = (Stage::new(), Activity::new());
    let child = stage.watched_child("a", Restart::Transient, activity.clone()).watched(BOUND, activity);
    let tree = start(SupervisorSpec::new("t", vec![child, stage.child("b", Restart::Permanent)]).backoff(BRIEF)).await;
    let began = Instant::now();
    stage.tell("a", Do::Hang);
    tree.until(runs_again("t/a", 1)).await;
    // A look every second, and two that find it.
    let took = began.elapsed();
    assert!((BOUND..BOUND + Duration::from_secs(4)).contains(&took), "{took:?}");
    assert_eq!(tree.entry("t/a").last_failure.unwrap(), "stuck in one message for more than 8s");
    assert_eq!(tree.entry("t/b").restarts, 0);
    assert_eq!(stage.running(), ["a", "b"]);
    tree.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_child_without_a_bound_may_take_its_time() {
    let (stage, activity) = (Stage::new(), Activity::new());
    let watched = Activity::new();
    let children = vec![
        stage.watched_child("slow", Restart::Permanent, activity.clone()).activity(activity),
        stage.watched_child("watched", Restart::Permanent, watched.clone()).watched(BOUND, watched),
    ];
    let tree = start(SupervisorSpec::new("t", children).backoff(BRIEF)).await;
    stage.tell("slow", Do::Hang);
    tokio::time::sleep(BOUND * 100).await;
    let snapshot = tree.roster.snapshot();
    let slow = snapshot.actors.iter().find(|line| line.entry.path == "t/slow").unwrap();
    assert_eq!((slow.entry.state, slow.entry.restarts), (ChildState::Running, 0));
    assert!(slow.message_age_ms.unwrap() >= 99 * BOUND.as_millis() as u64, "but it is seen");
    tree.root.kill();
    tree.ended.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_child_that_blocks_its_thread_is_seen_as_stuck_and_not_replaced_before_it_has_ended() {
    let bound = Duration::from_millis(40);
    let (stage, activity) = (Stage::new(), Activity::new());
    let child = stage.watched_child("a", Restart::Permanent, activity.clone()).watched(bound, activity);
    let tree = start(SupervisorSpec::new("t", vec![child, stage.child("b", Restart::Permanent)]).backoff(BRIEF)).await;
    let (release, blocked) = mpsc::channel();
    stage.tell("a", Do::Block(blocked));
    tree.until(stands("t/a", ChildState::Stuck)).await;
    // Its sibling falls and comes back meanwhile: the supervisor is not held up, and a is still not replaced.
    stage.tell("b", Do::Fail);
    tree.until(runs_again("t/b", 1)).await;
    assert_eq!(tree.entry("t/a").state, ChildState::Stuck);
    assert_eq!(stage.take_log(), ["+a", "+b", "+b"]);
    drop(release);
    tree.until(runs_again("t/a", 1)).await;
    stage.until_running(&["a", "b"]).await;
    assert!(tree.entry("t/a").last_failure.unwrap().starts_with("stuck in one message"));
    tree.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_group_comes_back_once_the_last_of_it_has_ended() {
    let stage = Stage::new();
    let children = vec![
        stage.child("before", Restart::Temporary),
        stage.child("a", Restart::Permanent),
        stage.child("b", Restart::Permanent).stop_deadline(Duration::from_millis(20)),
        stage.child("c", Restart::Temporary).stop_deadline(Duration::from_millis(20)),
    ];
    let tree = start(SupervisorSpec::new("t", children).strategy(Strategy::RestForOne).backoff(BRIEF)).await;
    stage.take_log();
    let (release_b, b_blocked) = mpsc::channel();
    let (release_c, c_blocked) = mpsc::channel();
    stage.tell("b", Do::Block(b_blocked));
    stage.tell("c", Do::Block(c_blocked));
    stage.tell("a", Do::Fail);
    tree.until(stands("t/b", ChildState::Stuck)).await;
    assert_eq!(tree.entry("t/c").state, ChildState::Stuck);
    // Its first pause is over. Once the supervisor has done what comes after that, it has looked whether the group may start.
    tree.root.send_message(SupervisorMessage::StartAgain { pause: 1 }).unwrap();
    tree.root.send_message(SupervisorMessage::KillChild { name: "before".into() }).unwrap();
    tree.until(stands("t/before", ChildState::Stopped)).await;
    // Neither the fallen, nor a second b or c.
    assert!(stage.take_log().is_empty());
    stage.until_running(&["b", "c"]).await;
    drop(release_b);
    tree.until(runs_again("t/b", 1)).await;
    stage.until_running(&["a", "b", "c"]).await;
    assert_eq!(stage.take_log(), ["+a", "+b"]);
    drop(release_c);
    tree.until(stands("t/c", ChildState::Stopped)).await;
    // A temporary child does not come back.
    stage.until_running(&["a", "b"]).await;
    tree.stop().await;
}
