//! The clock of what waits: whoever waits for something until a certain time is woken when that time is over.
//!
//! It owns nothing: what is due stands in a read model, which says so again after a restart. An actor asks for it regularly,
//! at most `PER_LOOK_MAX` at a time and for at most `LOOK_BUDGET`, and goes round: the next look begins behind the last
//! that was tried, so those that cannot be woken keep nobody else waiting; one that failed, or waits still, is tried again
//! after a pause that doubles. It decides nothing: whoever is woken does.

use std::{collections::HashMap, time::Duration};

use futures::{future::BoxFuture, future::join_all};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::time::Instant;

use crate::{
    command::now_ms,
    entity::EntityId,
    journal::JournalError,
    supervision::{ChildSpec, Restart},
};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The most that one look reads.
const PER_LOOK_MAX: u32 = 500;
/// How many are woken at once.
const AT_ONCE: usize = 16;
/// How long a look goes on beginning anything new.
const LOOK_BUDGET: Duration = Duration::from_secs(2);
/// The first pause of one that could not be woken, in milliseconds; it doubles …
const PAUSE_MIN_MS: i64 = 1_000;
/// … up to this.
const PAUSE_MAX_MS: i64 = 5 * 60 * 1_000;
/// Of how many it is remembered that they pause, at some 100 bytes each; those beyond are tried in every round.
const PAUSING_MAX: usize = 50_000;

/// One that is due. They are ordered by when, then by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    /// Since when, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Who.
    pub id: EntityId,
}

impl Default for Due {
    /// Before everybody.
    fn default() -> Self {
        Self { at_ms: i64::MIN, id: EntityId::from("") }
    }
}

/// What waking one came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// It waits no more.
    Done,
    /// Something was done for it, and it waits still.
    Waits,
    /// It waits still, until then at least, in milliseconds since the Unix epoch.
    WaitsUntil(i64),
}

/// What waits until a time.
pub trait Deadlines: Clone + Send + Sync + 'static {
    /// At most `limit` of those that are due at `now_ms`: the first behind `after`, in their order.
    fn due(&self, now_ms: i64, after: Option<Due>, limit: u32) -> BoxFuture<'static, Result<Vec<Due>, JournalError>>;

    /// One is due: it does what it does then. An error means that it must be tried again.
    fn wake(&self, due: Due, now_ms: i64) -> BoxFuture<'static, Result<Woken, String>>;
}

/// The clock's actor, to be started by a supervisor.
pub fn clock<D: Deadlines>(name: &str, deadlines: D) -> ChildSpec {
    ChildSpec::new(name, Restart::Permanent, move |supervisor| {
        let deadlines = deadlines.clone();
        async move {
            let (child, _) = Clock::<D>::spawn_linked(None, Clock::default(), deadlines, supervisor).await?;
            Ok(child.get_cell())
        }
    })
    .kind("clock")
}

/// What the clock is sent.
enum ClockMessage {
    /// Look now.
    Look,
}

struct Clock<D>(std::marker::PhantomData<fn() -> D>);

impl<D> Default for Clock<D> {
    fn default() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<D: Deadlines> Actor for Clock<D> {
    type Msg = ClockMessage;
    type State = (D, Round);
    type Arguments = D;

    async fn pre_start(&self, myself: ActorRef<ClockMessage>, deadlines: D) -> Result<Self::State, ActorProcessingErr> {
        myself.send_after(LOOK_EVERY, || ClockMessage::Look);
        Ok((deadlines, Round::default()))
    }

    async fn handle(
        &self,
        myself: ActorRef<ClockMessage>,
        ClockMessage::Look: ClockMessage,
        (deadlines, round): &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if let Err(error) = round.look(deadlines, now_ms()).await {
            tracing::warn!(%error, "what is due could not be read; it is read again");
        }
        myself.send_after(LOOK_EVERY, || ClockMessage::Look);
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<ClockMessage>,
        _: SupervisionEvent,
        _: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        // It has no children.
        Ok(())
    }
}

/// How far the clock has come, and who pauses.
#[derive(Default)]
struct Round {
    after: Option<Due>,
    pausing: HashMap<EntityId, Pause>,
}

struct Pause {
    until_ms: i64,
    tries: u32,
}

impl Round {
    async fn look<D: Deadlines>(&mut self, deadlines: &D, now_ms: i64) -> Result<(), JournalError> {
        let began = Instant::now();
        let page = deadlines.due(now_ms, self.after.clone(), PER_LOOK_MAX).await?;
        for chunk in page.chunks(AT_ONCE) {
            if began.elapsed() >= LOOK_BUDGET {
                return Ok(());
            }
            let tried: Vec<&Due> = chunk.iter().filter(|due| !self.pauses(&due.id, now_ms)).collect();
            let outcomes = join_all(tried.iter().map(|due| deadlines.wake((*due).clone(), now_ms))).await;
            for (due, outcome) in tried.into_iter().zip(outcomes) {
                self.note(due, outcome, now_ms);
            }
            self.after = chunk.last().cloned();
        }
        if page.len() < PER_LOOK_MAX as usize {
            self.begin_again(now_ms);
        }
        Ok(())
    }

    fn pauses(&self, id: &EntityId, now_ms: i64) -> bool {
        self.pausing.get(id).is_some_and(|pause| now_ms < pause.until_ms)
    }

    fn note(&mut self, due: &Due, outcome: Result<Woken, String>, now_ms: i64) {
        let mut until_ms = None;
        match outcome {
            Ok(Woken::Done) => {
                self.pausing.remove(&due.id);
                return;
            }
            Ok(Woken::Waits) => {}
            Ok(Woken::WaitsUntil(time_ms)) => until_ms = Some(time_ms.min(now_ms + PAUSE_MAX_MS)),
            Err(reason) => tracing::warn!(id = %due.id, reason, "one that is due could not be woken now"),
        }
        if self.pausing.len() >= PAUSING_MAX && !self.pausing.contains_key(&due.id) {
            return;
        }
        let pause = self.pausing.entry(due.id.clone()).or_insert(Pause { until_ms: 0, tries: 0 });
        if let Some(until_ms) = until_ms {
            *pause = Pause { until_ms, tries: 0 };
            return;
        }
        let length_ms = PAUSE_MIN_MS.saturating_mul(1_i64.checked_shl(pause.tries).unwrap_or(i64::MAX));
        pause.until_ms = now_ms + length_ms.clamp(PAUSE_MIN_MS, PAUSE_MAX_MS);
        pause.tries = pause.tries.saturating_add(1).min(16);
    }

    /// From the first again. Who has not been due for a long time is forgotten.
    fn begin_again(&mut self, now_ms: i64) {
        self.after = None;
        self.pausing.retain(|_, pause| now_ms < pause.until_ms + PAUSE_MAX_MS);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        sync::{Arc, Mutex},
    };

    use futures::FutureExt;

    use super::*;

    /// Who waits until when, who cannot be woken, and who was tried when.
    #[derive(Clone, Default)]
    struct Waiting(Arc<Mutex<State>>);

    #[derive(Default)]
    struct State {
        due: BTreeSet<Due>,
        broken: BTreeSet<EntityId>,
        patient: BTreeSet<EntityId>,
        /// They wait still, until then at least.
        until: BTreeMap<EntityId, i64>,
        tried: BTreeMap<EntityId, Vec<i64>>,
        takes: Duration,
        is_unreadable: bool,
        woken: Arc<tokio::sync::Notify>,
    }

    impl Waiting {
        fn add(&self, at_ms: i64, id: &str) {
            self.0.lock().unwrap().due.insert(Due { at_ms, id: id.into() });
        }
        fn tried(&self, id: &str) -> Vec<i64> {
            self.0.lock().unwrap().tried.get(id).cloned().unwrap_or_default()
        }
    }

    impl Deadlines for Waiting {
        fn due(
            &self,
            now_ms: i64,
            after: Option<Due>,
            limit: u32,
        ) -> BoxFuture<'static, Result<Vec<Due>, JournalError>> {
            let mut state = self.0.lock().unwrap();
            if std::mem::take(&mut state.is_unreadable) {
                return async { Err(JournalError::Closed) }.boxed();
            }
            let after = after.unwrap_or_default();
            let due = state.due.iter().filter(|due| due.at_ms <= now_ms && **due > after);
            let due = due.take(limit as usize).cloned().collect();
            async move { Ok(due) }.boxed()
        }

        fn wake(&self, due: Due, now_ms: i64) -> BoxFuture<'static, Result<Woken, String>> {
            let mut state = self.0.lock().unwrap();
            state.tried.entry(due.id.clone()).or_default().push(now_ms);
            state.woken.notify_one();
            let outcome = if let Some(until_ms) = state.until.get(&due.id) {
                Ok(Woken::WaitsUntil(*until_ms))
            } else if state.broken.contains(&due.id) {
                Err("broken".to_owned())
            } else if state.patient.contains(&due.id) {
                Ok(Woken::Waits)
            } else {
                state.due.remove(&due);
                Ok(Woken::Done)
            };
            let takes = state.takes;
            async move {
                tokio::time::sleep(takes).await;
                outcome
            }
            .boxed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_due_is_woken_once_and_who_is_not_is_left_alone() {
        let waiting = Waiting::default();
        waiting.add(10, "a");
        waiting.add(11, "b");
        let mut round = Round::default();
        round.look(&waiting, 10).await.unwrap();
        round.look(&waiting, 10).await.unwrap();
        assert_eq!((waiting.tried("a"), waiting.tried("b")), (vec![10], vec![]));
        round.look(&waiting, 11).await.unwrap();
        assert_eq!(waiting.tried("b"), vec![11]);
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_cannot_be_woken_keep_nobody_else_waiting() {
        let waiting = Waiting::default();
        for number in 0..2 * PER_LOOK_MAX {
            let id = format!("broken{number}");
            waiting.add(1, &id);
            waiting.0.lock().unwrap().broken.insert(id.into());
        }
        waiting.add(2, "whole");
        let mut round = Round::default();
        for _ in 0..3 {
            round.look(&waiting, 5).await.unwrap();
        }
        assert_eq!(waiting.tried("whole"), vec![5]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_slow_keep_nobody_else_waiting_either() {
        let waiting = Waiting::default();
        waiting.0.lock().unwrap().takes = LOOK_BUDGET;
        for number in 0..3 * AT_ONCE {
            let id = format!("slow{number:03}");
            waiting.add(1, &id);
            waiting.0.lock().unwrap().broken.insert(id.into());
        }
        waiting.add(2, "whole");
        let mut round = Round::default();
        for _ in 0..4 {
            round.look(&waiting, 5).await.unwrap();
        }
        assert_eq!(waiting.tried("whole"), vec![5]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_failed_and_who_waits_still_is_tried_again_after_a_pause_that_doubles() {
        let waiting = Waiting::default();
        waiting.add(0, "broken");
        waiting.add(0, "patient");
        waiting.0.lock().unwrap().broken.insert("broken".into());
        waiting.0.lock().unwrap().patient.insert("patient".into());
        let mut round = Round::default();
        for second in 0..=15 {
            round.look(&waiting, second * 1_000).await.unwrap();
        }
        assert_eq!(waiting.tried("broken"), vec![0, 1_000, 3_000, 7_000, 15_000]);
        assert_eq!(waiting.tried("patient"), waiting.tried("broken"));
        waiting.0.lock().unwrap().broken.clear();
        round.look(&waiting, 31_000).await.unwrap();
        waiting.add(32_000, "broken");
        round.look(&waiting, 32_000).await.unwrap();
        assert_eq!(waiting.tried("broken")[5..], [31_000, 32_000], "woken, it has no pause any more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_has_an_end_and_so_has_what_is_remembered() {
        let waiting = Waiting::default();
        waiting.add(0, "broken");
        waiting.0.lock().unwrap().broken.insert("broken".into());
        let mut round = Round::default();
        let mut now_ms = 0;
        for _ in 0..40 {
            round.look(&waiting, now_ms).await.unwrap();
            now_ms += PAUSE_MAX_MS;
        }
        assert_eq!(waiting.tried("broken").len(), 40, "it never pauses for longer than the longest pause");
        waiting.0.lock().unwrap().due.clear();
        round.look(&waiting, now_ms + 2 * PAUSE_MAX_MS).await.unwrap();
        assert!(round.pausing.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_pause_is_five_minutes() {
        let waiting = Waiting::default();
        waiting.add(0, "broken");
        waiting.0.lock().unwrap().broken.insert("broken".into());
        let mut round = Round::default();
        for second in 0..=1_111 {
            round.look(&waiting, second * 1_000).await.unwrap();
        }
        let seconds: Vec<i64> = waiting.tried("broken").into_iter().map(|tried_ms| tried_ms / 1_000).collect();
        assert_eq!(seconds, [0, 1, 3, 7, 15, 31, 63, 127, 255, 511, 811, 1_111]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_until_when_it_waits_is_tried_then_and_after_five_minutes_at_the_latest() {
        let waiting = Waiting::default();
        waiting.add(0, "soon");
        waiting.add(0, "late");
        waiting.0.lock().unwrap().until = [("soon".into(), 17_000), ("late".into(), i64::MAX)].into();
        let mut round = Round::default();
        for second in 10..=610 {
            round.look(&waiting, second * 1_000).await.unwrap();
        }
        assert_eq!(waiting.tried("soon")[..2], [10_000, 17_000]);
        assert_eq!(waiting.tried("late"), [10_000, 310_000, 610_000]);
    }

    #[test]
    fn those_beyond_what_is_remembered_are_tried_in_every_round_and_the_others_keep_their_pauses() {
        let mut round = Round::default();
        let due = |number: usize| Due { at_ms: 0, id: number.to_string().into() };
        (0..=PAUSING_MAX).for_each(|number| round.note(&due(number), Ok(Woken::Waits), 0));
        let pauses = |round: &Round, number, now_ms| round.pauses(&due(number).id, now_ms);
        assert!(pauses(&round, 0, 999) && pauses(&round, PAUSING_MAX - 1, 999));
        assert!(!pauses(&round, PAUSING_MAX, 0), "there is no room for one more");
        round.note(&due(0), Ok(Woken::Waits), 1_000);
        assert!(pauses(&round, 0, 2_999) && !pauses(&round, 0, 3_000), "its second pause is as long as ever");
        round.note(&due(1), Ok(Woken::Done), 1_000);
        round.note(&due(PAUSING_MAX), Ok(Woken::Waits), 1_000);
        assert!(pauses(&round, PAUSING_MAX, 1_999), "one has gone");
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_not_been_due_for_five_minutes_beyond_its_pause_is_forgotten() {
        let waiting = Waiting::default();
        waiting.add(0, "broken");
        waiting.0.lock().unwrap().broken.insert("broken".into());
        let mut round = Round::default();
        round.look(&waiting, 0).await.unwrap();
        waiting.0.lock().unwrap().due.clear();
        let pause_ends = 1_000;
        for (now_ms, is_known) in [(pause_ends + 299_999, true), (pause_ends + 300_000, false)] {
            round.look(&waiting, now_ms).await.unwrap();
            assert_eq!(round.pausing.contains_key("broken"), is_known, "{now_ms}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_goes_on_looking_also_after_what_is_due_could_not_be_read() {
        let waiting = Waiting::default();
        waiting.add(0, "first");
        waiting.0.lock().unwrap().is_unreadable = true;
        let woken = Arc::clone(&waiting.0.lock().unwrap().woken);
        let (clock, running) = Clock::<Waiting>::spawn(None, Clock::default(), waiting.clone()).await.unwrap();
        for id in ["first", "second", "third"] {
            waiting.add(0, id);
            let looked = tokio::time::timeout(10 * LOOK_EVERY, woken.notified()).await;
            assert!(looked.is_ok(), "{id} is due, and nobody looks");
            assert_eq!(waiting.tried(id).len(), 1, "{id}");
        }
        clock.stop(None);
        running.await.unwrap();
    }
}
