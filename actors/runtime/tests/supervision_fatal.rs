//! What only a new process can mend ends every supervisor up to the root, and nothing is started again on it.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod stage;

use std::sync::Arc;

use microcommerce_runtime::{
    Roster,
    supervision::{ChildSpec, Restart, SupervisorSpec},
};
use stage::{BRIEF, Do, PATIENCE, Stage, TIRELESS, Tree, runs_again, start_in};
use tokio::time::timeout;

/// Two services under a root that never gives up on one.
async fn two_services(stage: &Arc<Stage>, of_first: Vec<ChildSpec>) -> Tree {
    let roster = Roster::new();
    let service = |name: &'static str, children: Vec<ChildSpec>| {
        ChildSpec::supervisor(name, Restart::Permanent, roster.clone(), move || {
            let children = children.clone();
            async move { Ok(SupervisorSpec::new(format!("shop/{name}"), children).backoff(BRIEF)) }
        })
    };
    let other = vec![stage.child("other", Restart::Permanent)];
    let spec = SupervisorSpec::new("shop", vec![service("first", of_first), service("second", other)]);
    start_in(spec.intensity(TIRELESS).backoff(BRIEF), roster.clone()).await
}

#[tokio::test(start_paused = true)]
async fn a_fatal_end_ends_every_tree_in_order_and_the_reason_is_kept() {
    for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary, Restart::Significant] {
        let stage = Stage::new();
        let journal = stage.child("journal", restart);
        let tree = two_services(&stage, vec![journal, stage.child("shard", Restart::Permanent)]).await;
        assert_eq!(stage.take_log(), ["+journal", "+shard", "+other"]);
        stage.tell("journal", Do::FailForGood);
        timeout(PATIENCE, tree.ended).await.expect("the root ends").unwrap();
        assert_eq!(stage.take_log(), ["-shard", "-other"], "{restart:?}: the others stop in order, none comes back");
        assert_eq!(tree.roster.fatal(), Some("told to fail for good"));
    }
}

#[tokio::test(start_paused = true)]
async fn every_other_end_is_answered_by_a_restart() {
    let stage = Stage::new();
    let journal = stage.child("journal", Restart::Significant);
    let tree = two_services(&stage, vec![journal]).await;
    for (restarts, what) in [(1, Do::Fail), (2, Do::Panic)] {
        stage.take_log();
        stage.tell("journal", what);
        tree.until(runs_again("shop/first", restarts)).await;
        assert_eq!(stage.take_log(), ["+journal"]);
    }
    assert_eq!(tree.roster.fatal(), None);
    tree.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_start_that_no_restart_mends_ends_the_tree_and_is_not_tried_again() {
    let stage = Stage::new();
    let tree = two_services(&stage, vec![stage.child("journal", Restart::Permanent)]).await;
    stage.take_log();
    stage.end_for_good("journal");
    stage.tell("journal", Do::Fail);
    timeout(PATIENCE, tree.ended).await.expect("the root ends").unwrap();
    assert_eq!(stage.take_log(), ["!journal", "-other"], "it is tried once");
    assert_eq!(tree.roster.fatal(), Some("not closed"));
}
