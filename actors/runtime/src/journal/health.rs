//! How a journal is, for operators: what keeps it from writing, and how long its log is.
//!
//! Its writer notes it, whoever wants to look reads it. It decides one thing: while there is no room, a command is refused before it
//! is decided.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::directory::LogBytes;

/// What keeps a journal from writing. It goes on by itself when that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Another program holds the lock of its database.
    Busy,
    /// There is no room on its disk.
    Full,
}

impl Trouble {
    /// As a sentence's end.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Busy => "another program holds the lock of its database",
            Self::Full => "there is no room on its disk",
        }
    }
}

/// How a journal is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalHealth {
    /// What keeps it from writing, and for how long it has.
    pub trouble: Option<(Trouble, Duration)>,
    /// How long its log is on disk. A reader of another program keeps it from shrinking.
    pub log_bytes: u64,
}

/// Where the writer notes how it is.
#[derive(Debug, Default)]
pub(super) struct HealthBoard {
    trouble: Mutex<Option<(Trouble, Instant)>>,
    is_full: AtomicBool,
    log_bytes: AtomicU64,
}

impl HealthBoard {
    /// Notes what keeps it from writing from now on. True when that is news.
    pub(super) fn set_trouble(&self, trouble: Option<Trouble>) -> bool {
        let mut noted = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.map(|(noted, _)| noted) == trouble {
            return false;
        }
        *noted = trouble.map(|trouble| (trouble, Instant::now()));
        self.is_full.store(trouble == Some(Trouble::Full), Ordering::Release);
        true
    }

    pub(super) fn set_log_bytes(&self, bytes: LogBytes) {
        self.log_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Acquire)
    }

    pub(super) fn reading(&self) -> JournalHealth {
        let trouble = *self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        JournalHealth {
            trouble: trouble.map(|(trouble, since)| (trouble, since.elapsed())),
            log_bytes: self.log_bytes.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_news_once_and_only_a_full_disk_refuses() {
        let board = HealthBoard::default();
        assert!(board.set_trouble(Some(Trouble::Busy)) && !board.set_trouble(Some(Trouble::Busy)));
        assert!(!board.is_full());
        assert!(board.set_trouble(Some(Trouble::Full)) && board.is_full());
        assert_eq!(board.reading().trouble.map(|(trouble, _)| trouble), Some(Trouble::Full));
        assert!(board.set_trouble(None) && !board.is_full());
        assert_eq!(board.reading(), JournalHealth::default());
    }
}
