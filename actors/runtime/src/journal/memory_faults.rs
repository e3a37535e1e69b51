//! What goes wrong in the in-memory journal: what a test scripts, and what is drawn from a seed.
//!
//! The journal asks here at each of its steps. Nothing here is used outside tests.

use std::{
    collections::HashMap,
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{Append, Trouble};
use crate::testkit::{Random, TimeSlot};

/// How a commit goes wrong. In each way the journal closes and acknowledges nothing of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitFault {
    /// It is not made: the batch is lost.
    Lost,
    /// It is made, but nobody hears of it: the power went between the commit and the acknowledgements.
    Unacknowledged,
    /// A sync failed: only a new process could tell what is on disk.
    Fatal,
}

#[derive(Default)]
struct Plan {
    seed: u64,
    random: Option<Random>,
    slot: Option<TimeSlot>,
    refuse_next: u32,
    refuse_probability: f64,
    fail_next_commit: Option<CommitFault>,
    trouble: Option<Trouble>,
    fail_probability: f64,
    commit_delay: Option<RangeInclusive<Duration>>,
    read_delay: Option<RangeInclusive<Duration>>,
    appends: HashMap<Arc<str>, u64>,
    reads: HashMap<Arc<str>, u64>,
}

/// What goes wrong in a journal: scripted (`…_next`), or drawn from a seed. Clones steer the same journal, also after it is
/// opened again.
#[derive(Clone, Default)]
pub struct Faults(Arc<Mutex<Plan>>);

impl Faults {
    /// None, until some are asked for.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// None as yet; what is asked for as a probability or a range is drawn from `seed`.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        let plan = Plan { seed, random: Some(Random::labelled(seed, "journal", 0)), ..Plan::default() };
        Self(Arc::new(Mutex::new(plan)))
    }

    /// Lets the journal's commits happen at one participant's turns only; see [`TimeSlot`].
    #[must_use]
    pub fn at(self, slot: TimeSlot) -> Self {
        self.plan().slot = Some(slot);
        self
    }

    /// Refuses the next `appends` writes with [`JournalError::Conflict`], as if another writer had been there first.
    pub fn refuse_next(&self, appends: u32) {
        self.plan().refuse_next = appends;
    }

    /// Refuses each write with this probability, with [`JournalError::Conflict`].
    pub fn refuse_each_with(&self, probability: f64) {
        self.plan().refuse_probability = probability;
    }

    /// Lets the next commit fail, and with it the journal.
    pub fn fail_next_commit(&self, fault: CommitFault) {
        self.plan().fail_next_commit = Some(fault);
    }

    /// Lets each commit fail with this probability, and with it the journal; half of them after they were made.
    pub fn fail_each_commit_with(&self, probability: f64) {
        self.plan().fail_probability = probability;
    }

    /// Takes the room away, or lets another program hold the lock, until [`Faults::heal`].
    pub fn trouble(&self, trouble: Trouble) {
        self.plan().trouble = Some(trouble);
    }

    /// Lets each commit take this long, in whole milliseconds of tokio's clock.
    pub fn delay_commits(&self, range: RangeInclusive<Duration>) {
        self.plan().commit_delay = Some(range);
    }

    /// Lets each read take this long.
    pub fn delay_reads(&self, range: RangeInclusive<Duration>) {
        self.plan().read_delay = Some(range);
    }

    /// No more faults and no more delays.
    pub fn heal(&self) {
        let mut plan = self.plan();
        let Plan { seed, random, slot, .. } = std::mem::take(&mut *plan);
        *plan = Plan { seed, random, slot, ..Plan::default() };
    }

    pub(super) fn present_trouble(&self) -> Option<Trouble> {
        self.plan().trouble
    }

    pub(super) async fn commit_pause(&self) {
        let (slot, pause) = {
            let plan = &mut *self.plan();
            let random = plan.random.get_or_insert(Random::new(plan.seed));
            (plan.slot, plan.commit_delay.as_ref().map(|range| random.duration(range)))
        };
        match (slot, pause) {
            (Some(slot), pause) => slot.wait(pause.unwrap_or_default()).await,
            (None, Some(pause)) => tokio::time::sleep(pause).await,
            (None, None) => {}
        }
    }

    pub(super) async fn read_pause(&self, of: &Arc<str>) {
        let pause = {
            let plan = &mut *self.plan();
            plan.read_delay.clone().map(|range| {
                let number = count(&mut plan.reads, of);
                Random::labelled(plan.seed, of, number).duration(&range)
            })
        };
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
        }
    }

    pub(super) fn next_commit(&self) -> Option<CommitFault> {
        let plan = &mut *self.plan();
        if let Some(fault) = plan.fail_next_commit.take() {
            return Some(fault);
        }
        if plan.fail_probability == 0.0 {
            return None;
        }
        let random = plan.random.get_or_insert(Random::new(plan.seed));
        let fault = if random.chance(0.5) { CommitFault::Lost } else { CommitFault::Unacknowledged };
        random.chance(plan.fail_probability).then_some(fault)
    }

    pub(super) fn refuses(&self, append: &Append) -> bool {
        let plan = &mut *self.plan();
        if plan.refuse_next > 0 {
            plan.refuse_next -= 1;
            return true;
        }
        if plan.refuse_probability == 0.0 {
            return false;
        }
        // Drawn by stream and number, so that it does not depend on which stream was first in the batch.
        let number = count(&mut plan.appends, &append.stream);
        Random::labelled(plan.seed, &append.stream, number).chance(plan.refuse_probability)
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(counts: &mut HashMap<Arc<str>, u64>, of: &Arc<str>) -> u64 {
    let count = counts.entry(Arc::clone(of)).or_default();
    *count += 1;
    *count
}
