//! A snapshot and the changes after it are the tree.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod stage;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use microcommerce_runtime::{
    Roster,
    inspection::{Missed, Snapshot, What},
    roster::{ChildState, Entry},
    supervision::{Activity, ChildSpec, Restart, Strategy, SupervisorMessage, SupervisorSpec},
};
use proptest::{prelude::*, sample::Index};
use stage::{BRIEF, Do, Stage, TIRELESS, runs_again, start, start_in};

fn three_of_each(stage: &Arc<Stage>, roster: &Roster) -> SupervisorSpec {
    let inner_stage = Arc::clone(stage);
    let inner = ChildSpec::supervisor("inner", Restart::Permanent, roster.clone(), move || {
        let children = ["d", "e", "f"].map(|name| inner_stage.child(name, Restart::Permanent)).into();
        async move { Ok(SupervisorSpec::new("t/inner", children).strategy(Strategy::OneForAll).backoff(BRIEF)) }
    });
    let mut children: Vec<ChildSpec> = ["a", "b", "c"].map(|name| stage.child(name, Restart::Permanent)).into();
    children.push(inner);
    SupervisorSpec::new("t", children).strategy(Strategy::RestForOne).backoff(BRIEF).intensity(TIRELESS)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_snapshot_and_the_changes_after_it_are_a_later_snapshot(
        falls in prop::collection::vec((any::<Index>(), 0_u64..40), 0..25),
        joins_after in any::<Index>(),
    ) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (stage, roster) = (Stage::new(), Roster::new());
            let tree = start_in(three_of_each(&stage, &roster), roster.clone()).await;
            let joins_after = joins_after.index(falls.len() + 1);
            let mut follower = None;
            for number in 0..=falls.len() {
                if number == joins_after {
                    follower = Some(roster.follow());
                }
                let Some((who, ms_later)) = falls.get(number) else { break };
                let names = ["a", "b", "c", "d", "e", "f", "inner"];
                match names[who.index(names.len())] {
                    "inner" => {
                        tree.root.send_message(SupervisorMessage::KillChild { name: "inner".into() }).unwrap();
                    }
                    name => drop(stage.address(name).send_message(Do::Fail)),
                }
                if *ms_later < 30 {
                    tokio::time::sleep(Duration::from_millis(*ms_later)).await;
                }
            }
            let (mut snapshot, mut changes) = follower.unwrap();
            let later = roster.snapshot();
            while snapshot.seq < later.seq {
                let change = changes.next().await.unwrap();
                assert_eq!(change.seq, snapshot.seq + 1, "the numbers have no gap");
                snapshot.apply(&change);
            }
            assert_eq!(snapshot.entries(), later.entries());
            tree.root.kill();
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_joins_in_the_middle_of_falls_sees_the_same_tree() {
    let (stage, roster) = (Stage::new(), Roster::new());
    let tree = start_in(three_of_each(&stage, &roster), roster.clone()).await;
    let falls_are_over = Arc::new(AtomicBool::new(false));
    let followers: Vec<_> = (0..4)
        .map(|_| {
            let (roster, falls_are_over) = (roster.clone(), Arc::clone(&falls_are_over));
            tokio::spawn(async move {
                let mut joined = Vec::new();
                while !falls_are_over.load(Ordering::Acquire) {
                    joined.push(roster.follow());
                    tokio::task::yield_now().await;
                    if joined.len() > 500 {
                        break;
                    }
                }
                joined
            })
        })
        .collect();
    for _ in 0..50 {
        for name in ["a", "c", "e"] {
            drop(stage.address(name).send_message(Do::Fail));
            tokio::task::yield_now().await;
        }
    }
    falls_are_over.store(true, Ordering::Release);
    let is_whole = |entries: &[Entry]| entries.iter().all(|entry| entry.state == ChildState::Running);
    for follower in followers {
        for (mut snapshot, mut changes) in follower.await.unwrap() {
            let later = roster.snapshot();
            while snapshot.seq < later.seq {
                match changes.next().await {
                    Ok(change) => snapshot.apply(&change),
                    Err(Missed::Lagged(_)) => (snapshot, changes) = roster.follow(),
                    Err(Missed::Closed) => panic!("the roster is still there"),
                }
            }
            if snapshot.seq == later.seq {
                assert_eq!(snapshot.entries(), later.entries());
            }
        }
    }
    tree.until(is_whole).await;
    tree.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_is_too_slow_is_told_and_holds_nobody_up() {
    let (stage, roster) = (Stage::new(), Roster::new());
    let tree = start_in(three_of_each(&stage, &roster), roster.clone()).await;
    let (before, mut slow) = roster.follow();
    while roster.snapshot().seq < before.seq + 2_000 {
        stage.tell("a", Do::Fail);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(matches!(slow.next().await, Err(Missed::Lagged(missed)) if missed > 0));
    let (anew, _) = roster.follow();
    assert_eq!(anew.entries(), roster.entries());
    tree.root.kill();
}

#[tokio::test(start_paused = true)]
async fn every_line_names_its_actor_its_parent_and_what_it_does() {
    let (stage, roster, activity) = (Stage::new(), Roster::new(), Activity::new());
    let child = stage.watched_child("a", Restart::Permanent, activity.clone()).activity(activity.clone());
    let tree = start_in(SupervisorSpec::new("t", vec![child]).backoff(BRIEF), roster.clone()).await;
    stage.tell("a", Do::Fail);
    activity.enqueued();
    tree.until(runs_again("t/a", 1)).await;
    for _ in 0..3 {
        stage.tell("a", Do::Hang);
        activity.enqueued();
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let json = serde_json::to_value(roster.snapshot()).unwrap();
    let line = json["actors"].as_array().unwrap().iter().find(|line| line["path"] == "t/a").unwrap();
    assert_eq!(line["kind"], "Player");
    assert_eq!(line["id"], stage.address("a").get_id().pid());
    assert_eq!(line["parent"], tree.root.get_id().pid());
    assert_eq!(line["state"], "running");
    assert_eq!(line["restarts"], 1);
    assert!(line["last_failure"].as_str().unwrap().contains("told to fail"));
    assert!(line["last_failure_ms"].as_i64().unwrap() > 0);
    assert_eq!(line["queue_depth"], 2);
    assert_eq!(line["handled"], 2, "the message it fell over, and the one it is in");
    assert!((1_490..=1_510).contains(&line["message_age_ms"].as_u64().unwrap()), "{line}");
    let root = json["actors"].as_array().unwrap().iter().find(|line| line["path"] == "t").unwrap();
    assert_eq!((&root["kind"], root["parent"].is_null()), (&"supervisor".into(), true));
    assert!(root["queue_depth"].is_null(), "nobody counts for it");
    tree.root.kill();
}

#[tokio::test(start_paused = true)]
async fn a_change_is_one_flat_object() {
    let (stage, roster) = (Stage::new(), Roster::new());
    let (_, mut changes) = roster.follow();
    let tree = start_in(SupervisorSpec::new("t", vec![stage.child("a", Restart::Permanent)]), roster).await;
    let json = serde_json::to_value(changes.next().await.unwrap()).unwrap();
    assert_eq!((&json["seq"], &json["change"]), (&1.into(), &"actor".into()));
    assert_eq!((&json["path"], &json["state"]), (&"t/a".into(), &"starting".into()));
    tree.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_change_that_is_in_the_snapshot_already_is_left_out() {
    let stage = Stage::new();
    let tree = start(SupervisorSpec::new("t", vec![stage.child("a", Restart::Permanent)]).backoff(BRIEF)).await;
    let (_, mut early) = tree.roster.follow();
    stage.tell("a", Do::Fail);
    tree.until(runs_again("t/a", 1)).await;
    let mut snapshot: Snapshot = tree.roster.snapshot();
    let (entries, old) = (snapshot.entries(), early.next().await.unwrap());
    assert!(matches!(old.what, What::Actor(_)));
    snapshot.apply(&old);
    assert_eq!(snapshot.entries(), entries);
    tree.stop().await;
}
