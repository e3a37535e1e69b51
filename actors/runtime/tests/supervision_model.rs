//! Random falls of real actors, compared with a model of a few lines. Time is paused, and one runtime thread does
//! everything: a sleep ends when nothing else is left to do, so that after it the tree has settled.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod stage;

use std::time::Duration;

use microcommerce_runtime::{
    roster::ChildState,
    supervision::{Restart, Strategy, SupervisorSpec},
};
use proptest::{prelude::*, sample::Index, strategy::Strategy as Generator};
use stage::{BRIEF, Do, Stage, TIRELESS, Tree, start};

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
/// Far beyond every pause.
const UNTIL_SETTLED: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
enum End {
    ByItself,
    Error,
    Panic,
    Kill,
}

impl End {
    fn happens_to(self, stage: &Stage, name: &str) {
        match self {
            Self::ByItself => drop(stage.address(name).send_message(Do::Stop)),
            Self::Error => drop(stage.address(name).send_message(Do::Fail)),
            Self::Panic => drop(stage.address(name).send_message(Do::Panic)),
            Self::Kill => stage.address(name).kill(),
        }
    }
}

fn end() -> impl Generator<Value = End> {
    prop_oneof![Just(End::ByItself), Just(End::Error), Just(End::Panic), Just(End::Kill)]
}

fn a_strategy() -> impl Generator<Value = Strategy> {
    prop_oneof![Just(Strategy::OneForOne), Just(Strategy::OneForAll), Just(Strategy::RestForOne)]
}

fn restarts() -> impl Generator<Value = Vec<Restart>> {
    let restart = prop_oneof![
        3 => Just(Restart::Permanent),
        3 => Just(Restart::Transient),
        3 => Just(Restart::Temporary),
        1 => Just(Restart::Significant)
    ];
    prop::collection::vec(restart, 1..=NAMES.len())
}

/// What must be: who runs, and how often each was started again. `None` once the tree has fallen.
#[derive(Clone, Debug, PartialEq)]
struct Model(Option<Vec<(bool, u64)>>);

impl Model {
    fn ends(&mut self, strategy: Strategy, restarts: &[Restart], who: usize, end: End) {
        let Some(children) = &mut self.0 else { return };
        if !children[who].0 {
            return;
        }
        children[who].0 = false;
        match (restarts[who], end) {
            (Restart::Temporary, _) | (Restart::Transient | Restart::Significant, End::ByItself) => return,
            (Restart::Significant, _) => {
                self.0 = None;
                return;
            }
            (Restart::Permanent, _) | (Restart::Transient, _) => {}
        }
        for (index, child) in children.iter_mut().enumerate() {
            let is_concerned = match strategy {
                Strategy::OneForOne => index == who,
                Strategy::OneForAll => true,
                Strategy::RestForOne => index >= who,
            };
            match restarts[index] {
                Restart::Temporary if is_concerned => child.0 = false,
                _ if is_concerned => *child = (true, child.1 + 1),
                _ => {}
            }
        }
    }
}

fn what_is(tree: &Tree, stage: &Stage, children: usize) -> Model {
    let lines: Vec<_> = NAMES[..children].iter().map(|name| tree.entry(&format!("t/{name}"))).collect();
    for line in &lines {
        assert!(matches!(line.state, ChildState::Running | ChildState::Stopped), "{line:?} after it has settled");
        assert_eq!(line.id.is_some(), line.state == ChildState::Running, "{line:?}");
    }
    assert_eq!(tree.said_to_run(), stage.running(), "what the roster says, and what runs");
    let root = tree.entry("t");
    match root.state {
        ChildState::Running => {
            Model(Some(lines.iter().map(|line| (line.state == ChildState::Running, line.restarts)).collect()))
        }
        _ => Model(None),
    }
}

fn paused(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(test);
}

async fn tree_of(stage: &std::sync::Arc<Stage>, strategy: Strategy, restarts: &[Restart]) -> Tree {
    let children = restarts.iter().zip(NAMES).map(|(restart, name)| stage.child(name, *restart)).collect();
    let spec = SupervisorSpec::new("t", children).strategy(strategy).intensity(TIRELESS).backoff(BRIEF);
    start(spec).await
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn after_any_sequence_of_falls_exactly_those_run_who_should_and_the_roster_says_so(
        strategy in a_strategy(),
        restarts in restarts(),
        ends in prop::collection::vec((any::<Index>(), end()), 0..12),
    ) {
        paused(async {
            let stage = Stage::new();
            let tree = tree_of(&stage, strategy, &restarts).await;
            let mut model = Model(Some(vec![(true, 0); restarts.len()]));
            for (who, end) in ends {
                let who = who.index(restarts.len());
                if model.0.as_ref().is_some_and(|children| children[who].0) {
                    end.happens_to(&stage, NAMES[who]);
                }
                model.ends(strategy, &restarts, who, end);
                tokio::time::sleep(UNTIL_SETTLED).await;
                assert_eq!(what_is(&tree, &stage, restarts.len()), model, "after {end:?} of {}", NAMES[who]);
            }
        });
    }

    #[test]
    fn falls_at_the_same_time_lose_nobody_and_start_nobody_twice(
        strategy in a_strategy(),
        restarts in restarts(),
        bursts in prop::collection::vec(prop::collection::vec((any::<Index>(), end(), 0_u64..30), 1..6), 1..6),
    ) {
        paused(async {
            let stage = Stage::new();
            let tree = tree_of(&stage, strategy, &restarts).await;
            let mut has_fallen = false;
            for burst in bursts {
                if has_fallen {
                    break;
                }
                // Falls at one instant, in the pause after it, and while others start again.
                for (who, end, ms_later) in burst {
                    end.happens_to(&stage, NAMES[who.index(restarts.len())]);
                    if ms_later < 20 {
                        tokio::time::sleep(Duration::from_millis(ms_later)).await;
                    }
                }
                tokio::time::sleep(UNTIL_SETTLED).await;
                match what_is(&tree, &stage, restarts.len()).0 {
                    Some(children) => {
                        for (child, restart) in children.iter().zip(&restarts) {
                            assert!(child.0 || *restart != Restart::Permanent, "a permanent child was forgotten");
                        }
                    }
                    None => {
                        assert!(restarts.contains(&Restart::Significant), "only a significant child takes all with it");
                        has_fallen = true;
                    }
                }
            }
            if !has_fallen {
                tree.stop().await;
            }
            assert!(stage.running().is_empty());
        });
    }
}
