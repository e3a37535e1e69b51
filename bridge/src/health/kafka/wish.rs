//! What those who need the health topics and the thread that sees to them tell each other.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Pause between two attempts, and between two checks that somebody asked for.
pub(super) const RETRY_MS: u64 = 500;

/// Lets its holder wait for the topics and report them missing.
#[derive(Clone)]
pub(super) struct TopicsWish {
    shared: Arc<Shared>,
}

/// What the keeper and those who wait for its topics tell each other.
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
pub(super) struct State {
    /// They were there once. From then on everybody goes on, and a suspicion is looked into in the background.
    pub(super) were_there: bool,
    /// Somebody suspects that one is missing.
    pub(super) suspected: bool,
    pub(super) stopped: bool,
}

impl TopicsWish {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Waits until the topics were there once, `patience` at most; true when they were.
    pub(super) fn wait(&self, patience: Duration) -> bool {
        self.shared.wait(patience, |state| state.were_there)
    }

    /// Something looks as if a topic were missing: look, and create what is not there. Asking often costs nothing.
    pub(super) fn suspect(&self) {
        self.shared.change(|state| state.suspected = true);
    }
}

impl Shared {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), changed: Condvar::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Blocks until `condition` holds or the keeper has stopped, `patience` at most; says whether `condition` holds.
    fn wait(&self, patience: Duration, condition: impl Fn(&State) -> bool) -> bool {
        let go_on = |state: &mut State| !condition(state) && !state.stopped;
        let waited = self.changed.wait_timeout_while(self.lock(), patience, go_on);
        condition(&waited.unwrap_or_else(PoisonError::into_inner).0)
    }

    /// The pause between attempts; true when the thread shall end.
    pub(super) fn is_stopped_after_pause(&self) -> bool {
        self.wait(Duration::from_millis(RETRY_MS), |state| state.stopped)
    }

    /// Blocks until there is something to look into; false when the thread shall end.
    pub(super) fn is_suspected(&self) -> bool {
        let guard = self.lock();
        let state = self.changed.wait_while(guard, |state| !state.suspected && !state.stopped);
        !state.unwrap_or_else(PoisonError::into_inner).stopped
    }
}
