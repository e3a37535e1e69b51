//! How librdkafka's threads wake the source's thread: one flag for all that may have come.

use std::{
    sync::{
        Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// A flag that one thread waits for and any thread raises.
#[derive(Default)]
pub(super) struct Wakeup {
    raised: AtomicBool,
    // Held only around the wait, so that a raise between the look and the wait is not missed.
    sleeping: Mutex<()>,
    woken: Condvar,
}

impl Wakeup {
    /// Wakes the waiting thread, or lets its next wait return at once. It may be called often: a raised flag costs nothing.
    pub(super) fn raise(&self) {
        if !self.raised.swap(true, Ordering::AcqRel) {
            drop(self.sleeping.lock().unwrap_or_else(PoisonError::into_inner));
            self.woken.notify_one();
        }
    }

    /// Lowers the flag. What is raised afterwards is news.
    pub(super) fn lower(&self) {
        self.raised.store(false, Ordering::Release);
    }

    /// Waits until the flag is raised, `patience` at most; true when it is.
    pub(super) fn wait(&self, patience: Duration) -> bool {
        let asleep = self.sleeping.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.woken.wait_timeout_while(asleep, patience, |()| !self.raised.load(Ordering::Acquire));
        drop(waited);
        self.raised.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread, time::Instant};

    use super::*;

    #[test]
    fn a_raise_before_the_wait_or_during_it_ends_it() {
        let wakeup = Arc::new(Wakeup::default());
        wakeup.raise();
        assert!(wakeup.wait(Duration::ZERO));
        wakeup.lower();
        assert!(!wakeup.wait(Duration::ZERO));
        let (theirs, began) = (Arc::clone(&wakeup), Instant::now());
        let raising = thread::spawn(move || theirs.raise());
        assert!(wakeup.wait(Duration::from_secs(20)));
        assert!(began.elapsed() < Duration::from_secs(20));
        raising.join().unwrap();
    }
}
