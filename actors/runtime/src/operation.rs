//! One key, one execution, one stored result: the entity behind idempotency keys.
//!
//! Whoever must do something at most once under a key, and give the same answer to every repeat, first *begins* an
//! operation: in one durable write it stores what is asked (a fingerprint) and the ids that the work will use. Then the
//! work is done under those ids, and the operation is *finished* with its answer. An attempt that dies in between leaves
//! its ids: the next attempt takes them over, so that the work is resumed and never done twice.
//!
//! An attempt holds the operation by a lease. A lease ends by time, when its holder gives it up, or with the holder's
//! process: there is one writer per stream, so a lease of another incarnation is nobody's.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    entities::EntitiesConfig,
    entity::{Entity, EventPayload},
};

/// How long an attempt holds its operation, in milliseconds.
pub const LEASE_MS: i64 = 30_000;
/// How long a finished operation answers for its key, in milliseconds: one day. Later the key is new again.
pub const KEPT_MS: i64 = 24 * 60 * 60 * 1_000;

/// The bounds of operations: most are asked a few times within a second and then never again, so few stay awake.
#[must_use]
pub fn config() -> EntitiesConfig {
    EntitiesConfig { active_per_shard_max: 2_000, idle_after: Duration::from_secs(5), ..EntitiesConfig::default() }
}

/// The entity; its id is the key within its scope.
pub struct Operation;

/// Commands of an operation.
#[derive(Clone, Debug)]
pub enum OperationCommand {
    /// Start, or take over what an attempt left.
    Begin {
        /// What is asked, as a digest: another one under the same key is another request.
        fingerprint: String,
        /// The ids that the work is to use, if this is the first attempt.
        ids: Vec<String>,
        /// The incarnation of the process that asks.
        holder: String,
        /// Now, in milliseconds since the Unix epoch.
        now_ms: i64,
    },
    /// Store the answer.
    Finish {
        /// The attempt.
        holder: String,
        /// The answer, to be given to every repeat.
        result: String,
        /// Now, in milliseconds since the Unix epoch.
        now_ms: i64,
    },
    /// Give the lease up without an answer: the next attempt may start at once.
    Release {
        /// The attempt.
        holder: String,
    },
}

/// What happened to an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperationEvent {
    /// An attempt began under these ids.
    Begun {
        /// What is asked.
        fingerprint: String,
        /// Under which ids.
        ids: Vec<String>,
        /// By whom.
        holder: String,
        /// Until when it is theirs.
        lease_until_ms: i64,
    },
    /// The answer.
    Finished {
        /// For every repeat.
        result: String,
        /// Since when.
        at_ms: i64,
    },
    /// The attempt gave up.
    Released {},
}

impl EventPayload for OperationEvent {
    fn event_type(&self) -> &'static str {
        match self {
            Self::Begun { .. } => "operation.begun",
            Self::Finished { .. } => "operation.finished",
            Self::Released {} => "operation.released",
        }
    }
}

/// Why an operation was not begun or finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperationRefusal {
    /// The key stands for another request.
    OtherRequest,
    /// Another attempt is at it.
    InProgress,
    /// It is done: this is the answer.
    Finished {
        /// The stored answer.
        result: String,
    },
    /// The lease is somebody else's, or gone.
    NotHolder,
}

/// Where an operation stands.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct OperationState {
    /// What is asked; `None` before the first attempt.
    pub fingerprint: Option<String>,
    /// Under which ids.
    pub ids: Vec<String>,
    /// Who holds it, until when.
    pub lease: Option<(String, i64)>,
    /// The answer, and since when.
    pub result: Option<(String, i64)>,
}

impl OperationState {
    /// The stored answer while it is kept.
    #[must_use]
    pub fn answer(&self, now_ms: i64) -> Option<&str> {
        self.result.as_ref().filter(|(_, at_ms)| now_ms - at_ms < KEPT_MS).map(|(result, _)| result.as_str())
    }

    /// True where `fingerprint` is another request than the one under this key.
    #[must_use]
    pub fn is_other_request(&self, fingerprint: &str) -> bool {
        self.fingerprint.as_deref().is_some_and(|known| known != fingerprint)
    }

    /// True once the answer is kept no longer: the key is new again.
    #[must_use]
    pub fn is_forgotten(&self, now_ms: i64) -> bool {
        self.result.as_ref().is_some_and(|(_, at_ms)| now_ms - at_ms >= KEPT_MS)
    }
}

impl Entity for Operation {
    const KIND: &'static str = "operation";
    type State = OperationState;
    type Command = OperationCommand;
    type Event = OperationEvent;
    type Refusal = OperationRefusal;

    fn decide(state: &OperationState, command: OperationCommand) -> Result<Vec<OperationEvent>, OperationRefusal> {
        match command {
            OperationCommand::Begin { fingerprint, ids, holder, now_ms } => {
                begin(state, fingerprint, ids, holder, now_ms).map(|event| vec![event])
            }
            OperationCommand::Finish { holder, result, now_ms } => match &state.lease {
                Some((current, _)) if *current == holder => {
                    Ok(vec![OperationEvent::Finished { result, at_ms: now_ms }])
                }
                _ => Err(OperationRefusal::NotHolder),
            },
            OperationCommand::Release { holder } => match &state.lease {
                Some((current, _)) if *current == holder => Ok(vec![OperationEvent::Released {}]),
                _ => Ok(vec![]),
            },
        }
    }

    fn evolve(state: &mut OperationState, event: &OperationEvent) {
        match event {
            OperationEvent::Begun { fingerprint, ids, holder, lease_until_ms } => {
                *state = OperationState {
                    fingerprint: Some(fingerprint.clone()),
                    ids: ids.clone(),
                    lease: Some((holder.clone(), *lease_until_ms)),
                    result: None,
                };
            }
            OperationEvent::Finished { result, at_ms } => {
                state.lease = None;
                state.result = Some((result.clone(), *at_ms));
            }
            OperationEvent::Released {} => state.lease = None,
        }
    }
}

fn begin(
    state: &OperationState,
    fingerprint: String,
    ids: Vec<String>,
    holder: String,
    now_ms: i64,
) -> Result<OperationEvent, OperationRefusal> {
    let lease_until_ms = now_ms + LEASE_MS;
    if state.fingerprint.is_none() || state.is_forgotten(now_ms) {
        return Ok(OperationEvent::Begun { fingerprint, ids, holder, lease_until_ms });
    }
    if state.is_other_request(&fingerprint) {
        return Err(OperationRefusal::OtherRequest);
    }
    if let Some(result) = state.answer(now_ms) {
        return Err(OperationRefusal::Finished { result: result.to_owned() });
    }
    // The holder names its attempt after its process: `process:attempt`. An attempt of another process is over.
    let process = |holder: &str| holder.split(':').next().map(str::to_owned);
    match &state.lease {
        Some((current, until_ms)) if *until_ms > now_ms && process(current) == process(&holder) => {
            Err(OperationRefusal::InProgress)
        }
        _ => Ok(OperationEvent::Begun { fingerprint, ids: state.ids.clone(), holder, lease_until_ms }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin_at(now_ms: i64, fingerprint: &str, id: &str, holder: &str) -> OperationCommand {
        OperationCommand::Begin { fingerprint: fingerprint.into(), ids: vec![id.into()], holder: holder.into(), now_ms }
    }

    fn after(commands: &[OperationCommand]) -> OperationState {
        let mut state = OperationState::default();
        for command in commands {
            for event in Operation::decide(&state, command.clone()).unwrap() {
                Operation::evolve(&mut state, &event);
            }
        }
        state
    }

    fn ids_begun(outcome: Result<Vec<OperationEvent>, OperationRefusal>) -> Vec<String> {
        match outcome.unwrap().pop() {
            Some(OperationEvent::Begun { ids, .. }) => ids,
            other => panic!("expected Begun, got {other:?}"),
        }
    }

    #[test]
    fn a_second_attempt_waits_and_takes_over_with_the_first_ids() {
        let state = after(&[begin_at(0, "f", "first", "p1:a")]);
        assert_eq!(Operation::decide(&state, begin_at(1, "f", "second", "p1:b")), Err(OperationRefusal::InProgress));
        let after_the_lease = Operation::decide(&state, begin_at(LEASE_MS, "f", "second", "p1:b"));
        assert_eq!(ids_begun(after_the_lease), ["first"]);
        let after_a_restart = Operation::decide(&state, begin_at(1, "f", "second", "p2:a"));
        assert_eq!(ids_begun(after_a_restart), ["first"]);
    }

    #[test]
    fn a_finished_operation_gives_its_answer_and_refuses_another_request() {
        let finish = OperationCommand::Finish { holder: "p1:a".into(), result: "r".into(), now_ms: 5 };
        let state = after(&[begin_at(0, "f", "first", "p1:a"), finish]);
        let again = Operation::decide(&state, begin_at(10, "f", "x", "p1:b"));
        assert_eq!(again, Err(OperationRefusal::Finished { result: "r".into() }));
        assert_eq!(Operation::decide(&state, begin_at(10, "g", "x", "p1:b")), Err(OperationRefusal::OtherRequest));
        let a_day_later = Operation::decide(&state, begin_at(5 + KEPT_MS, "g", "new", "p1:b"));
        assert_eq!(ids_begun(a_day_later), ["new"]);
    }

    #[test]
    fn an_answer_is_kept_for_a_day_by_a_clock_as_large_as_real_ones() {
        let now_ms = 1_764_000_000_000;
        let finish = OperationCommand::Finish { holder: "p1:a".into(), result: "r".into(), now_ms };
        let state = after(&[begin_at(now_ms, "f", "first", "p1:a"), finish]);
        for age_ms in [0, 1, LEASE_MS, KEPT_MS - 1] {
            let now_ms = now_ms + age_ms;
            assert_eq!((state.answer(now_ms), state.is_forgotten(now_ms)), (Some("r"), false), "{age_ms}");
            let again = Operation::decide(&state, begin_at(now_ms, "f", "x", "p2:b"));
            assert_eq!(again, Err(OperationRefusal::Finished { result: "r".into() }), "{age_ms}");
        }
        for age_ms in [KEPT_MS, KEPT_MS + 1] {
            let now_ms = now_ms + age_ms;
            assert_eq!((state.answer(now_ms), state.is_forgotten(now_ms)), (None, true), "{age_ms}");
            assert_eq!(ids_begun(Operation::decide(&state, begin_at(now_ms, "f", "new", "p2:b"))), ["new"]);
        }
        let running = after(&[begin_at(now_ms, "f", "first", "p1:a")]);
        let in_progress = |age_ms| Operation::decide(&running, begin_at(now_ms + age_ms, "f", "x", "p1:b"));
        assert_eq!(in_progress(LEASE_MS - 1), Err(OperationRefusal::InProgress));
        assert_eq!(ids_begun(in_progress(LEASE_MS)), ["first"]);
    }

    #[test]
    fn only_its_holder_gives_a_lease_back() {
        let release = |holder: &str| OperationCommand::Release { holder: holder.into() };
        let held = after(&[begin_at(0, "f", "first", "p1:a"), release("p1:b")]);
        assert_eq!(Operation::decide(&held, begin_at(1, "f", "x", "p1:c")), Err(OperationRefusal::InProgress));
        let free = after(&[begin_at(0, "f", "first", "p1:a"), release("p1:a")]);
        assert_eq!(free.lease, None);
        assert_eq!(Operation::decide(&free, release("p1:a")), Ok(vec![]));
        let done = OperationCommand::Finish { holder: "p1:a".into(), result: "r".into(), now_ms: 1 };
        assert_eq!(Operation::decide(&free, done), Err(OperationRefusal::NotHolder));
    }

    #[test]
    fn an_attempt_that_lost_its_lease_cannot_finish() {
        let state = after(&[begin_at(0, "f", "first", "p1:a"), begin_at(LEASE_MS, "f", "x", "p1:b")]);
        let late = OperationCommand::Finish { holder: "p1:a".into(), result: "late".into(), now_ms: LEASE_MS + 1 };
        assert_eq!(Operation::decide(&state, late), Err(OperationRefusal::NotHolder));
        let released = after(&[begin_at(0, "f", "first", "p1:a"), OperationCommand::Release { holder: "p1:a".into() }]);
        assert_eq!(ids_begun(Operation::decide(&released, begin_at(1, "f", "x", "p1:b"))), ["first"]);
    }
}
