//! The administrators: one writer through which everybody passes who becomes one or stops being one.
//!
//! The roles themselves are the users' ([`crate::user`]); this entity guards what no single user can: that one
//! administrator is left. Its `members` are at any time *some* of those who are administrators, never more. So whoever
//! leaves is struck off here first and changed afterwards; whoever joins is changed first and entered afterwards. Between
//! its beginning and its end a change of one user is theirs alone for [`LEASE_MS`]; what a crash leaves unfinished is
//! settled by what the user's own stream says.
//!
//! It holds ids, at most [`ADMINISTRATORS_MAX`]. The service talks to it ([`crate::access`]). When it dies it is read again.

use std::collections::{BTreeMap, BTreeSet};

use contracts::{Timestamp, UserId};
use runtime::{Entity, entity::EventPayload};
use serde::{Deserialize, Serialize};

/// The one entity's id.
pub const ID: &str = "all";
/// The most administrators: people who run one shop. It bounds the state and what is listed.
pub const ADMINISTRATORS_MAX: usize = 100;
/// How long a change that has begun keeps others away from its user, in milliseconds: longer than any of its steps may
/// take, so that no step of an abandoned change can come after another change's.
pub const LEASE_MS: i64 = 30_000;

/// The entity.
pub struct Administrators;

/// Commands of the administrators.
#[derive(Clone, Debug)]
pub enum AdministratorsCommand {
    /// A change begins: this user leaves, or joins.
    Begin {
        /// Who.
        user_id: UserId,
        /// The change's own name.
        change: String,
        /// Whether they are an administrator no longer; otherwise they become one.
        is_leaving: bool,
        /// Now.
        now: Timestamp,
    },
    /// A change has ended, or none is under way: what the user is by their own stream.
    Settle {
        /// Who.
        user_id: UserId,
        /// The change that ended; `None` to set right what nobody is changing.
        change: Option<String>,
        /// Whether they are an administrator.
        is_member: bool,
        /// Now.
        now: Timestamp,
    },
}

/// What happened to the administrators.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AdministratorsEvent {
    /// A change began. Who leaves has left from here on.
    ChangeBegun {
        /// Of whom.
        user_id: UserId,
        /// Which.
        change: String,
        /// Whether they leave.
        is_leaving: bool,
        /// Until when nobody else changes them.
        until: Timestamp,
    },
    /// Whether this user is an administrator is known for sure.
    Settled {
        /// Who.
        user_id: UserId,
        /// Whether they are.
        is_member: bool,
        /// When.
        at: Timestamp,
    },
}

impl EventPayload for AdministratorsEvent {
    fn event_type(&self) -> &'static str {
        match self {
            Self::ChangeBegun { .. } => "administrators.change_begun",
            Self::Settled { .. } => "administrators.settled",
        }
    }
}

/// Who is one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdministratorsState {
    /// Those who certainly are.
    pub members: BTreeSet<UserId>,
    /// Those who are being changed.
    pub changing: BTreeMap<UserId, Changing>,
}

/// A change under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changing {
    change: String,
    until: Timestamp,
}

/// Why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AdministratorsRefusal {
    /// Another change of this user is under way.
    InProgress,
    /// Nobody else certainly is one.
    Last,
    /// There are [`ADMINISTRATORS_MAX`].
    TooMany,
}

impl AdministratorsState {
    fn is_taken(&self, user_id: &UserId, now: Timestamp) -> bool {
        self.changing.get(user_id).is_some_and(|changing| now < changing.until)
    }

    fn begin(&self, user_id: &UserId, is_leaving: bool, now: Timestamp) -> Result<(), AdministratorsRefusal> {
        let has_others = self.members.iter().any(|member| member != user_id);
        if self.is_taken(user_id, now) {
            Err(AdministratorsRefusal::InProgress)
        } else if is_leaving && !has_others {
            Err(AdministratorsRefusal::Last)
        } else if !is_leaving && self.members.len() + self.changing.len() >= ADMINISTRATORS_MAX {
            Err(AdministratorsRefusal::TooMany)
        } else {
            Ok(())
        }
    }
}

impl Entity for Administrators {
    const KIND: &'static str = "administrators";
    type State = AdministratorsState;
    type Command = AdministratorsCommand;
    type Event = AdministratorsEvent;
    type Refusal = AdministratorsRefusal;

    fn decide(
        state: &AdministratorsState,
        command: AdministratorsCommand,
    ) -> Result<Vec<AdministratorsEvent>, AdministratorsRefusal> {
        match command {
            AdministratorsCommand::Begin { user_id, change, is_leaving, now } => {
                state.begin(&user_id, is_leaving, now)?;
                let until = Timestamp::from_millis(now.as_millis().saturating_add(LEASE_MS));
                Ok(vec![AdministratorsEvent::ChangeBegun { user_id, change, is_leaving, until }])
            }
            AdministratorsCommand::Settle { user_id, change, is_member, now } => {
                let is_own = match &change {
                    Some(change) => state.changing.get(&user_id).is_some_and(|other| other.change == *change),
                    None => !state.is_taken(&user_id, now),
                };
                let is_known = state.members.contains(&user_id) == is_member && !state.changing.contains_key(&user_id);
                Ok(if is_own && !is_known {
                    vec![AdministratorsEvent::Settled { user_id, is_member, at: now }]
                } else {
                    vec![]
                })
            }
        }
    }

    fn evolve(state: &mut AdministratorsState, event: &AdministratorsEvent) {
        match event {
            AdministratorsEvent::ChangeBegun { user_id, change, is_leaving, until } => {
                if *is_leaving {
                    state.members.remove(user_id);
                }
                state.changing.insert(user_id.clone(), Changing { change: change.clone(), until: *until });
            }
            AdministratorsEvent::Settled { user_id, is_member, .. } => {
                state.changing.remove(user_id);
                if *is_member {
                    state.members.insert(user_id.clone());
                } else {
                    state.members.remove(user_id);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn user(number: u8) -> UserId {
        UserId::parse(&format!("usr_{number}")).unwrap()
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn begin(number: u8, is_leaving: bool, millis: i64) -> AdministratorsCommand {
        let change = format!("c{number}");
        AdministratorsCommand::Begin { user_id: user(number), change, is_leaving, now: at(millis) }
    }

    fn settle(number: u8, change: Option<&str>, is_member: bool, millis: i64) -> AdministratorsCommand {
        let change = change.map(str::to_owned);
        AdministratorsCommand::Settle { user_id: user(number), change, is_member, now: at(millis) }
    }

    fn after(commands: &[AdministratorsCommand]) -> AdministratorsState {
        let mut state = AdministratorsState::default();
        for command in commands {
            for event in Administrators::decide(&state, command.clone()).unwrap() {
                Administrators::evolve(&mut state, &event);
            }
        }
        state
    }

    #[test]
    fn given_when_then() {
        use AdministratorsRefusal::{InProgress, Last};
        let one = || vec![settle(1, None, true, 0)];
        let two = || vec![settle(1, None, true, 0), settle(2, None, true, 0)];
        let both_leave = || [two(), vec![begin(1, true, 1)]].concat();
        let table = [
            (vec![], begin(1, true, 1), Some(Last)),
            (one(), begin(1, true, 1), Some(Last)),
            (two(), begin(1, true, 1), None),
            // The other of two is already on their way out: who comes second stays, whichever it is.
            (both_leave(), begin(2, true, 2), Some(Last)),
            (both_leave(), begin(1, true, 2), Some(InProgress)),
            // It came to nothing: they are two again.
            ([both_leave(), vec![settle(1, Some("c1"), true, 3)]].concat(), begin(2, true, 4), None),
            // Another's word does not end it, nor is it set right while it is under way.
            ([both_leave(), vec![settle(1, Some("x"), true, 3)]].concat(), begin(2, true, 4), Some(Last)),
            ([both_leave(), vec![settle(1, None, true, 3)]].concat(), begin(2, true, 4), Some(Last)),
            // An abandoned one is, after its time.
            ([both_leave(), vec![settle(1, None, true, 1 + LEASE_MS)]].concat(), begin(2, true, 40_000), None),
            // Who joins counts when it is done, not before.
            ([one(), vec![begin(3, false, 1)]].concat(), begin(1, true, 2), Some(Last)),
            ([one(), vec![begin(3, false, 1), settle(3, Some("c3"), true, 2)]].concat(), begin(1, true, 3), None),
        ];
        for (given, when, refusal) in table {
            let what = format!("{given:?} {when:?}");
            assert_eq!(Administrators::decide(&after(&given), when).err(), refusal, "{what}");
        }
    }

    #[test]
    fn there_are_a_bounded_number() {
        let all: Vec<_> = (0..100).map(|number| settle(number, None, true, 0)).collect();
        let refused = Administrators::decide(&after(&all), begin(200, false, 1));
        assert_eq!(refused, Err(AdministratorsRefusal::TooMany));
    }

    proptest! {
        /// Changes of three users in any order, each step done or lost: once there is an administrator, there is one.
        #[test]
        fn one_is_always_left(steps in proptest::collection::vec((0_u8..3, 0_u8..4, proptest::bool::ANY), 0..60)) {
            let mut state = after(&[settle(0, None, true, 0)]);
            // The truth is the users' own streams.
            let mut truth = BTreeSet::from([user(0)]);
            let mut open: BTreeMap<u8, bool> = BTreeMap::new();
            let mut now = 0;
            for (number, step, is_leaving) in steps {
                now += 1;
                let id = user(number);
                let command = match step {
                    0 => begin(number, is_leaving, now),
                    1 | 2 => {
                        let Some(is_leaving) = open.get(&number).copied() else { continue };
                        if step == 1 {
                            if is_leaving { truth.remove(&id); } else { truth.insert(id.clone()); }
                            continue;
                        }
                        open.remove(&number);
                        settle(number, Some(&format!("c{number}")), truth.contains(&id), now)
                    }
                    // Nobody ends it: after its time it is set right.
                    _ => {
                        now += LEASE_MS;
                        open.remove(&number);
                        settle(number, None, truth.contains(&id), now)
                    }
                };
                if let Ok(events) = Administrators::decide(&state, command) {
                    if step == 0 {
                        open.insert(number, is_leaving);
                    }
                    events.iter().for_each(|event| Administrators::evolve(&mut state, event));
                }
                prop_assert!(!truth.is_empty());
                prop_assert!(state.members.is_subset(&truth), "{:?} {truth:?}", state.members);
            }
        }
    }
}
