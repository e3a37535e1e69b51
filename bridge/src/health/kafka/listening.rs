//! A thread that reads a topic for one listener.
//!
//! **Owns** the thread's end: dropping [`ListeningThread`] asks it to stop and does not wait, since it is dropped on async threads; it
//! ends within [`POLL_MS`] and as long as its consumer needs to close. What it hears after the drop is not delivered.
//! **When the thread ends by itself**, by a panic or because it cannot go on, the listener is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::health::transport::{Listener, TransportError};

/// Longest wait inside the Kafka client before a thread looks whether it shall stop.
pub(super) const POLL_MS: u64 = 100;

/// [`POLL_MS`] as a duration.
pub(super) const POLL: Duration = Duration::from_millis(POLL_MS);

/// The owner's handle.
pub(super) struct ListeningThread {
    stop: Stop,
}

/// The thread's view of whether it shall stop.
#[derive(Clone, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

/// The listener, silent once the end is dropped.
pub(super) struct Ear {
    listener: Arc<dyn Listener>,
    stop: Stop,
}

impl Stop {
    pub(super) fn is_asked(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Ear {
    pub(super) fn heard(&self, value: &[u8]) {
        if !self.stop.is_asked() {
            self.listener.heard(value);
        }
    }
}

impl Drop for Ear {
    // the thread owns it, so this runs when the thread ends, in whatever way
    fn drop(&mut self) {
        if !self.stop.is_asked() {
            self.listener.lost();
        }
    }
}

impl ListeningThread {
    pub(super) fn start(
        name: &str,
        listener: Arc<dyn Listener>,
        listen: impl FnOnce(&Stop, &Ear) + Send + 'static,
    ) -> Result<Self, TransportError> {
        let stop = Stop::default();
        let theirs = stop.clone();
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let ear = Ear { listener, stop: theirs.clone() };
            listen(&theirs, &ear);
        })?;
        Ok(Self { stop })
    }
}

impl Drop for ListeningThread {
    fn drop(&mut self) {
        self.stop.0.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    struct Recorder(mpsc::Sender<&'static str>);

    impl Listener for Recorder {
        fn heard(&self, _value: &[u8]) {
            self.0.send("heard").unwrap();
        }

        fn lost(&self) {
            self.0.send("lost").unwrap();
        }
    }

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn a_thread_that_panics_or_gives_up_tells_its_listener() {
        for panics in [true, false] {
            let (told, tells) = mpsc::channel();
            let _thread = ListeningThread::start("test", Arc::new(Recorder(told)), move |_, ear| {
                ear.heard(b"one");
                assert!(!panics, "as intended");
            });
            assert_eq!(tells.recv_timeout(PATIENCE), Ok("heard"));
            assert_eq!(tells.recv_timeout(PATIENCE), Ok("lost"));
        }
    }

    #[test]
    fn a_dropped_end_delivers_nothing_more_and_is_not_lost() {
        let (told, tells) = mpsc::channel();
        let (go, going) = mpsc::channel::<()>();
        let thread = ListeningThread::start("test", Arc::new(Recorder(told)), move |stop, ear| {
            going.recv().unwrap();
            assert!(stop.is_asked());
            ear.heard(b"too late");
        });
        drop(thread);
        go.send(()).unwrap();
        // the channel closes when the thread and with it the listener has gone
        assert_eq!(tells.recv_timeout(PATIENCE), Err(mpsc::RecvTimeoutError::Disconnected));
    }
}
