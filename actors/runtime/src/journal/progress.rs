//! How far a journal is with its start, for those who wait for it.
//!
//! Opening a journal takes milliseconds, unless it has to project a read model anew or to check a whole file. Whoever opens it
//! may hold the other end and show it; the log has a line every few seconds in any case. It owns no state beyond the last value.

use std::time::{Duration, Instant};

use tokio::sync::watch;

/// Between two lines in the log.
const LOG_EVERY: Duration = Duration::from_secs(5);

/// What a journal is at before it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenProgress {
    /// What it does, in words for an operator: "projects …", "checks …".
    pub step: String,
    /// How much of it is done…
    pub done: u64,
    /// …of how much. The unit is the step's own: events, tables.
    pub total: u64,
}

/// Where the progress is written: nothing while no long step is at work. Clones are the same place.
#[derive(Clone, Debug)]
pub struct ProgressSender(watch::Sender<Option<OpenProgress>>);

impl Default for ProgressSender {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl ProgressSender {
    /// The progress, as it is and as it changes.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Option<OpenProgress>> {
        self.0.subscribe()
    }

    /// Begins a step: nothing is shown once the value is dropped.
    pub(super) fn step(&self, step: impl Into<String>, total: u64) -> Step {
        let step = Step { sender: self.clone(), step: step.into(), total, logged_at: Instant::now() };
        tracing::info!(step = step.step, total, "the journal needs a while before it serves");
        step
    }
}

/// One long step of a start.
pub(super) struct Step {
    sender: ProgressSender,
    step: String,
    total: u64,
    logged_at: Instant,
}

impl Step {
    /// So much of it is done.
    pub(super) fn done(&mut self, done: u64) {
        let progress = OpenProgress { step: self.step.clone(), done, total: self.total };
        self.sender.0.send_replace(Some(progress));
        if self.logged_at.elapsed() >= LOG_EVERY {
            self.logged_at = Instant::now();
            tracing::info!(step = self.step, done, total = self.total, "the journal is at work before it serves");
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.sender.0.send_replace(None);
    }
}
