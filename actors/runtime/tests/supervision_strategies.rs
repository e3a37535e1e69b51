//! Whom a fall concerns, in which order, how often and after which pause. Time is paused: pauses pass at once and are
//! measured exactly.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod stage;

use std::{sync::Arc, time::Duration};

use microcommerce_runtime::{
    Roster,
    roster::ChildState,
    supervision::{Backoff, ChildSpec, Intensity, Restart, Strategy, Supervisor, SupervisorMessage, SupervisorSpec},
};
use ractor::Actor;
use stage::{BRIEF, Do, PATIENCE, Stage, TIRELESS, broken_start, runs_again, stands, start, start_in};
use tokio::time::{Instant, timeout};

fn spec(strategy: Strategy, children: Vec<ChildSpec>) -> SupervisorSpec {
    SupervisorSpec::new("t", children).strategy(strategy).backoff(BRIEF)
}

fn abc(stage: &Arc<Stage>) -> Vec<ChildSpec> {
    ["a", "b", "c"].map(|name| stage.child(name, Restart::Permanent)).into()
}

#[tokio::test(start_paused = true)]
async fn one_for_one_starts_the_fallen_alone_again() {
    let stage = Stage::new();
    let tree = start(spec(Strategy::OneForOne, abc(&stage))).await;
    assert_eq!(stage.take_log(), ["+a", "+b", "+c"]);
    stage.tell("b", Do::Panic);
    tree.until(runs_again("t/b", 1)).await;
    assert_eq!(stage.take_log(), ["+b"]);
    tree.stop().await;
    assert_eq!(stage.take_log(), ["-c", "-b", "-a"]);
}

#[tokio::test(start_paused = true)]
async fn one_for_all_stops_all_in_reverse_and_starts_all_in_order() {
    let stage = Stage::new();
    let tree = start(spec(Strategy::OneForAll, abc(&stage))).await;
    stage.take_log();
    stage.tell("b", Do::Panic);
    tree.until(runs_again("t/c", 1)).await;
    assert_eq!(stage.take_log(), ["-c", "-a", "+a", "+b", "+c"]);
    assert_eq!(stage.running(), ["a", "b", "c"]);
    assert_eq!(tree.entry("t/a").last_failure, None, "a did not fall");
    assert!(tree.entry("t/b").last_failure.unwrap().contains("told to panic"));
    tree.stop().await;
}

#[tokio::test(start_paused = true)]
async fn rest_for_one_leaves_alone_what_was_started_before_the_fallen() {
    let stage = Stage::new();
    let tree = start(spec(Strategy::RestForOne, abc(&stage))).await;
    stage.take_log();
    stage.tell("b", Do::Fail);
    tree.until(runs_again("t/c", 1)).await;
    assert_eq!(stage.take_log(), ["-c", "+b", "+c"]);
    assert_eq!(tree.entry("t/a").restarts, 0);
    tree.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_temporary_child_does_not_come_back_by_its_siblings_fall() {
    let stage = Stage::new();
    let children = vec![stage.child("a", Restart::Permanent), stage.child("b", Restart::Temporary)];
    let tree = start(spec(Strategy::OneForAll, children)).await;
    stage.take_log();
    stage.tell("a", Do::Fail);
    tree.until(runs_again("t/a", 1)).await;
    assert_eq!(stage.take_log(), ["-b", "+a"]);
    assert_eq!(tree.entry("t/b").state, ChildState::Stopped);
    tree.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_transient_child_that_ended_by_itself_stays_ended_until_its_group_begins_anew() {
    for (strategy, comes_back) in [(Strategy::OneForOne, false), (Strategy::OneForAll, true)] {
        let stage = Stage::new();
        let children = vec![stage.child("a", Restart::Permanent), stage.child("b", Restart::Transient)];
        let tree = start(spec(strategy, children)).await;
        stage.tell("b", Do::Stop);
        tree.until(stands("t/b", ChildState::Stopped)).await;
        assert_eq!(stage.running(), ["a"]);
        stage.tell("a", Do::Fail);
        tree.until(runs_again("t/a", 1)).await;
        // Whatever is still to come would have come within this.
        tokio::time::advance(Duration::from_secs(60)).await;
        tree.until(runs_again("t/a", 1)).await;
        let expected: &[&str] = if comes_back { &["a", "b"] } else { &["a"] };
        if comes_back {
            tree.until(runs_again("t/b", 1)).await;
        }
        assert_eq!(stage.running(), expected, "{strategy:?}");
        assert_eq!(tree.said_to_run(), expected, "{strategy:?}");
        tree.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_falls_during_a_pause_joins_the_group_and_nobody_is_started_twice() {
    let stage = Stage::new();
    let long = Backoff { first: Duration::from_secs(10), max: Duration::from_secs(10), ..BRIEF };
    let tree = start(spec(Strategy::RestForOne, abc(&stage)).backoff(long)).await;
    stage.take_log();
    stage.tell("b", Do::Fail);
    tree.until(stands("t/c", ChildState::Restarting)).await;
    stage.tell("a", Do::Fail);
    tree.until(runs_again("t/c", 1)).await;
    tokio::time::advance(Duration::from_secs(60)).await;
    tree.until(runs_again("t/c", 1)).await;
    assert_eq!(stage.take_log(), ["-c", "+a", "+b", "+c"]);
    tree.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_start_counts_as_a_fall_and_the_group_comes_back_whole() {
    let stage = Stage::new();
    let tree = start(spec(Strategy::OneForAll, abc(&stage))).await;
    stage.take_log();
    stage.refuse_starts("b", 2);
    stage.tell("c", Do::Fail);
    tree.until(runs_again("t/c", 1)).await;
    assert_eq!(stage.take_log(), ["-b", "-a", "+a", "!b", "-a", "+a", "!b", "-a", "+a", "+b", "+c"]);
    assert_eq!(stage.running(), ["a", "b", "c"]);
    assert!(tree.entry("t/b").last_failure.unwrap().contains("told not to start"));
    tree.stop().await;
}

#[tokio::test(start_paused = true)]
async fn failed_starts_exhaust_the_intensity_like_falls() {
    let stage = Stage::new();
    let intensity = Intensity { restarts_max: 3, window: PATIENCE };
    let tree = start(spec(Strategy::OneForAll, abc(&stage)).intensity(intensity)).await;
    stage.take_log();
    stage.refuse_starts("c", u32::MAX);
    stage.tell("c", Do::Fail);
    timeout(PATIENCE, tree.ended).await.unwrap().unwrap();
    let refused = stage.take_log().iter().filter(|line| *line == "!c").count();
    assert_eq!(refused, 3);
    assert!(stage.running().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_gives_up_stops_its_children_in_order_and_is_started_again_by_its_parent() {
    let stage = Stage::new();
    let (inner_stage, roster) = (Arc::clone(&stage), Roster::new());
    let inner = ChildSpec::supervisor("inner", Restart::Permanent, roster.clone(), move || {
        let children = abc(&inner_stage);
        async move {
            let intensity = Intensity { restarts_max: 1, window: PATIENCE };
            Ok(SupervisorSpec::new("t/inner", children).intensity(intensity).backoff(BRIEF))
        }
    });
    let tree = start_in(spec(Strategy::OneForOne, vec![inner]), roster).await;
    stage.tell("a", Do::Fail);
    tree.until(runs_again("t/inner/a", 1)).await;
    stage.take_log();
    stage.tell("a", Do::Fail);
    tree.until(runs_again("t/inner", 1)).await;
    assert_eq!(stage.take_log(), ["-c", "-b", "+a", "+b", "+c"]);
    assert!(tree.entry("t/inner").last_failure.unwrap().contains("t/inner/a fell more than 1 times"));
    assert_eq!(stage.running(), ["a", "b", "c"]);
    tree.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_root_that_gives_up_ends_and_whoever_holds_it_knows() {
    let stage = Stage::new();
    let intensity = Intensity { restarts_max: 0, window: PATIENCE };
    let tree = start(spec(Strategy::OneForOne, abc(&stage)).intensity(intensity)).await;
    stage.tell("b", Do::Fail);
    timeout(PATIENCE, tree.ended).await.unwrap().unwrap();
    assert!(stage.running().is_empty());
    let states: Vec<_> = tree.roster.entries().iter().map(|entry| (entry.path.clone(), entry.state)).collect();
    assert!(states.iter().all(|(_, state)| *state == ChildState::Stopped), "{states:?}");
}

#[tokio::test(start_paused = true)]
async fn a_significant_fall_takes_the_tree_with_it() {
    let stage = Stage::new();
    let children = vec![
        stage.child("keeper", Restart::Significant),
        stage.child("a", Restart::Permanent),
        stage.child("b", Restart::Temporary),
    ];
    let tree = start(spec(Strategy::OneForOne, children)).await;
    stage.take_log();
    stage.tell("keeper", Do::Fail);
    timeout(PATIENCE, tree.ended).await.unwrap().unwrap();
    assert_eq!(stage.take_log(), ["-b", "-a"]);
    assert!(stage.running().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_significant_fall_in_the_moment_of_its_siblings_fall_is_not_forgotten() {
    let stage = Stage::new();
    let children = vec![
        stage.child("keeper", Restart::Significant),
        stage.child("a", Restart::Permanent),
        stage.child("slow", Restart::Permanent),
    ];
    let tree = start(spec(Strategy::OneForAll, children)).await;
    stage.tell("slow", Do::Hang);
    stage.tell("a", Do::Fail);
    // The supervisor waits for the slow one, and is to stop the keeper next: it hears of the keeper's fall only after that.
    tree.until(stands("t/slow", ChildState::Stopping)).await;
    stage.tell("keeper", Do::Fail);
    stage.until_running(&["slow"]).await;
    assert_eq!(tree.entry("t/slow").state, ChildState::Stopping);
    timeout(PATIENCE, tree.ended).await.unwrap().unwrap();
    assert!(stage.running().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_pause_doubles_with_each_fall_in_a_row_and_begins_anew_after_a_quiet_time() {
    let backoff =
        Backoff { first: Duration::from_secs(1), max: Duration::from_secs(16), reset_after: Duration::from_secs(100) };
    let stage = Stage::new();
    let tree = start(
        spec(Strategy::OneForOne, vec![stage.child("a", Restart::Permanent)]).backoff(backoff).intensity(TIRELESS),
    )
    .await;
    let mut restarts = 0;
    let mut pause_of_next_fall = async || {
        let fallen_at = Instant::now();
        stage.tell("a", Do::Fail);
        restarts += 1;
        let expected = restarts;
        tree.until(|entries| {
            entries.iter().any(|e| e.path == "t/a" && e.restarts == expected && e.state == ChildState::Running)
        })
        .await;
        fallen_at.elapsed()
    };
    for full in [1, 2, 4, 8, 16, 16] {
        let (pause, full) = (pause_of_next_fall().await, Duration::from_secs(full));
        // The jitter takes up to half; timers are right to the millisecond.
        assert!(pause >= full / 2 && pause <= full + Duration::from_millis(5), "{pause:?} of {full:?}");
    }
    tokio::time::advance(backoff.reset_after).await;
    let pause = pause_of_next_fall().await;
    assert!(pause <= Duration::from_millis(1_005), "after a quiet time the pause was {pause:?}");
    tree.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_group_waits_for_one_pause_whatever_its_size() {
    let backoff = Backoff { first: Duration::from_secs(10), max: Duration::from_secs(10), ..BRIEF };
    let stage = Stage::new();
    let tree = start(spec(Strategy::OneForAll, abc(&stage)).backoff(backoff)).await;
    let fallen_at = Instant::now();
    stage.tell("a", Do::Fail);
    tree.until(runs_again("t/c", 1)).await;
    assert!(fallen_at.elapsed() <= backoff.first + Duration::from_millis(5));
    tree.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_child_that_does_not_stop_is_killed_after_its_deadline() {
    let stage = Stage::new();
    let deadline = Duration::from_secs(3);
    let children = vec![
        stage.child("a", Restart::Permanent),
        stage.child("b", Restart::Permanent).stop_deadline(deadline),
        stage.child("c", Restart::Permanent),
    ];
    let tree = start(spec(Strategy::OneForOne, children)).await;
    stage.take_log();
    stage.tell("b", Do::Hang);
    let (began, roster) = (Instant::now(), tree.roster.clone());
    tree.stop().await;
    assert!((deadline..deadline + Duration::from_secs(1)).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!(stage.take_log(), ["-c", "-a"], "b was killed");
    assert!(stage.running().is_empty());
    assert!(roster.entries().iter().all(|entry| entry.state == ChildState::Stopped));
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_told_to_stop_during_a_pause_starts_nobody_again() {
    let stage = Stage::new();
    let tree = start(spec(Strategy::RestForOne, abc(&stage))).await;
    stage.take_log();
    stage.tell("b", Do::Fail);
    tree.until(stands("t/c", ChildState::Restarting)).await;
    let roster = tree.roster.clone();
    tree.stop().await;
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(stage.take_log(), ["-c", "-a"]);
    assert!(roster.entries().iter().all(|entry| entry.state == ChildState::Stopped), "{:?}", roster.entries());
}

#[tokio::test(start_paused = true)]
async fn what_was_started_before_a_failed_first_start_is_stopped_in_reverse() {
    let stage = Stage::new();
    let mut children = abc(&stage);
    children.push(broken_start("d"));
    let roster = Roster::new();
    let error =
        Supervisor::spawn(None, Supervisor, (spec(Strategy::OneForOne, children), roster.clone())).await.err().unwrap();
    assert!(error.to_string().contains("broken"));
    assert_eq!(stage.take_log(), ["+a", "+b", "+c", "-c", "-b", "-a"]);
    assert!(roster.entries().iter().all(|entry| entry.state == ChildState::Stopped));
}

#[tokio::test(start_paused = true)]
async fn a_start_that_does_not_end_or_panics_is_a_failed_start() {
    let endless = ChildSpec::new("endless", Restart::Permanent, |_| std::future::pending())
        .start_deadline(Duration::from_secs(1));
    let panicking = ChildSpec::new("panicking", Restart::Permanent, |_| async { panic!("while starting") });
    for (child, words) in [(endless, "did not start within"), (panicking, "panicked while starting")] {
        let spec = spec(Strategy::OneForOne, vec![child]);
        let error = Supervisor::spawn(None, Supervisor, (spec, Roster::new())).await.err().unwrap();
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn two_children_of_one_name_are_refused() {
    let stage = Stage::new();
    let children = vec![stage.child("a", Restart::Permanent), stage.child("a", Restart::Permanent)];
    let spec = spec(Strategy::OneForOne, children);
    let error = Supervisor::spawn(None, Supervisor, (spec, Roster::new())).await.err().unwrap();
    assert!(error.to_string().contains("two children called a"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn the_roster_knows_that_those_below_a_killed_supervisor_ended_with_it() {
    let stage = Stage::new();
    let (inner_stage, roster) = (Arc::clone(&stage), Roster::new());
    let inner = ChildSpec::supervisor("inner", Restart::Temporary, roster.clone(), move || {
        let children = abc(&inner_stage);
        async move { Ok(SupervisorSpec::new("t/inner", children)) }
    });
    let tree = start_in(spec(Strategy::OneForOne, vec![inner]), roster).await;
    tree.root.send_message(SupervisorMessage::KillChild { name: "inner".into() }).unwrap();
    tree.until(|entries| entries.iter().all(|entry| entry.path == "t" || entry.state == ChildState::Stopped)).await;
    assert!(stage.running().is_empty());
    tree.stop().await;
}
