//! Damage in a journal's file: who finds it says so here, and whoever answers for the journal's readiness looks here.
//!
//! A damaged page breaks every read of what is on it, and nothing else: the journal goes on serving the rest, which an operator
//! may need for hours, but it is not well. What has been found stays found until the journal is opened again on a file that
//! is whole. It finds nothing itself: see [`super::integrity`], and the readers, which tell it what SQLite tells them.

use rusqlite::ErrorCode;
use tokio::sync::watch;

/// What has been found. Clones are of the same journal.
#[derive(Clone, Debug)]
pub(super) struct Damage(watch::Sender<Option<String>>);

impl Damage {
    pub(super) fn none() -> Self {
        Self(watch::Sender::new(None))
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Option<String>> {
        self.0.subscribe()
    }

    /// Something is damaged. The first finding is the one that people see: a damaged page is read again and again.
    pub(super) fn found(&self, what: &str) {
        let is_first = self.0.send_if_modified(|found| {
            let is_first = found.is_none();
            found.get_or_insert_with(|| what.to_owned());
            is_first
        });
        if is_first {
            tracing::error!(what, "the database is damaged: restore it from a backup");
        }
    }
}

/// True where SQLite says that what it read is not what it wrote.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// A receiver of a journal that is never damaged.
pub(super) fn never() -> watch::Receiver<Option<String>> {
    watch::Sender::new(None).subscribe()
}
