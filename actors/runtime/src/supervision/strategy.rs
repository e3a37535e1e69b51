//! Whom a fall concerns: who is stopped, and who is started again, in which order.
//!
//! As in OTP's `supervisor`: what is concerned is stopped in the reverse of the start order and started in the start
//! order; a temporary child that a sibling's fall stops is not started again; a transient child that had ended by
//! itself is, because the group begins anew and may need what that child did at its beginning.

use super::restart::Restart;

/// Whose fall concerns whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// A fall concerns the fallen alone. For children that do not know each other.
    #[default]
    OneForOne,
    /// A fall concerns all. For children that hold what the others told them.
    OneForAll,
    /// A fall concerns the fallen and those that were started after it. For children that lean on earlier ones.
    RestForOne,
}

/// What is known of a child when a sibling falls.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// When it is started again.
    pub restart: Restart,
    /// True while it runs. The fallen one does not.
    pub is_running: bool,
}

/// What a fall brings about. The numbers are places in the start order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Who is stopped, first to last: those concerned that still run, in the reverse of the start order.
    pub stop: Vec<usize>,
    /// Who is started again after one pause, first to last: in the start order.
    pub start: Vec<usize>,
}

/// What the fall of `fallen` brings about, once it is decided that it is started again. `children` in the start order.
#[must_use]
pub fn plan(strategy: Strategy, fallen: usize, children: &[Standing]) -> Plan {
    let concerned = match strategy {
        Strategy::OneForOne => fallen..fallen + 1,
        Strategy::OneForAll => 0..children.len(),
        Strategy::RestForOne => fallen..children.len(),
    };
    let stop = concerned.clone().rev().filter(|&index| index != fallen && children[index].is_running).collect();
    let start = concerned.filter(|&index| index == fallen || children[index].restart != Restart::Temporary).collect();
    Plan { stop, start }
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, strategy::Strategy as Generator};

    use super::{Standing, Strategy, plan};
    use crate::supervision::Restart;

    fn strategy() -> impl Generator<Value = Strategy> {
        prop_oneof![Just(Strategy::OneForOne), Just(Strategy::OneForAll), Just(Strategy::RestForOne)]
    }

    fn standing() -> impl Generator<Value = Standing> {
        let restart = prop_oneof![
            Just(Restart::Permanent),
            Just(Restart::Transient),
            Just(Restart::Temporary),
            Just(Restart::Significant)
        ];
        (restart, any::<bool>()).prop_map(|(restart, is_running)| Standing { restart, is_running })
    }

    /// Children of which one, never a temporary one, has fallen.
    fn a_fall() -> impl Generator<Value = (Vec<Standing>, usize)> {
        (prop::collection::vec(standing(), 1..12), any::<prop::sample::Index>()).prop_map(|(mut children, index)| {
            let fallen = index.index(children.len());
            children[fallen] = Standing { restart: Restart::Permanent, is_running: false };
            (children, fallen)
        })
    }

    proptest! {
        #[test]
        fn the_fallen_is_always_started_again_and_never_stopped(strategy in strategy(), (children, fallen) in a_fall()) {
            let plan = plan(strategy, fallen, &children);
            prop_assert!(plan.start.contains(&fallen));
            prop_assert!(!plan.stop.contains(&fallen));
        }

        #[test]
        fn stopping_is_in_reverse_and_starting_in_start_order(strategy in strategy(), (children, fallen) in a_fall()) {
            let plan = plan(strategy, fallen, &children);
            prop_assert!(plan.stop.windows(2).all(|pair| pair[0] > pair[1]));
            prop_assert!(plan.start.windows(2).all(|pair| pair[0] < pair[1]));
        }

        #[test]
        fn a_fall_concerns_exactly_those_whom_its_strategy_names(strategy in strategy(), (children, fallen) in a_fall()) {
            let plan = plan(strategy, fallen, &children);
            for (index, child) in children.iter().enumerate() {
                let is_concerned = match strategy {
                    Strategy::OneForOne => index == fallen,
                    Strategy::OneForAll => true,
                    Strategy::RestForOne => index >= fallen,
                };
                prop_assert_eq!(plan.stop.contains(&index), is_concerned && child.is_running, "stop {}", index);
                let comes_back = is_concerned && child.restart != Restart::Temporary;
                prop_assert_eq!(plan.start.contains(&index), comes_back, "start {}", index);
            }
        }

        #[test]
        fn whoever_is_stopped_and_not_temporary_is_started_again(strategy in strategy(), (children, fallen) in a_fall()) {
            let plan = plan(strategy, fallen, &children);
            for &index in &plan.stop {
                prop_assert_eq!(plan.start.contains(&index), children[index].restart != Restart::Temporary);
            }
        }
    }
}
