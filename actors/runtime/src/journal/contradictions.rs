//! Who says that this is not the log that they have read.
//!
//! One set a journal, shared by the journal, whose writer refuses every append while it is not empty, and by those who read the log:
//! subscribers, the relay, the witness. Each speaks for itself under a name of its own. It lives as long as the journal; when
//! the journal is opened again, everybody compares again.

use std::{
    collections::BTreeMap,
    fmt::Display,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::types::JournalError;

/// See the module's text. Clones are the same set.
#[derive(Clone, Debug, Default)]
pub struct Contradictions(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// So that nobody pays for a lock while there are none.
    is_any: AtomicBool,
    said: Mutex<BTreeMap<Arc<str>, String>>,
}

impl Contradictions {
    /// `who` contradicts, for this reason. It is logged when it is new.
    pub fn raise(&self, who: &str, reason: impl Display) {
        let reason = reason.to_string();
        let mut said = self.said();
        if said.get(who) != Some(&reason) {
            tracing::error!(
                who,
                reason,
                "the data does not fit together: this log takes no appends until it is reconciled"
            );
            said.insert(who.into(), reason);
            self.0.is_any.store(true, Ordering::Release);
        }
    }

    /// `who` has not compared yet. Until it has, the log takes no appends, as if it contradicted.
    pub fn expect(&self, who: &str) {
        let mut said = self.said();
        said.entry(who.into()).or_insert_with(|| "it has not compared its position with the log yet".to_owned());
        self.0.is_any.store(true, Ordering::Release);
    }

    /// `who` finds nothing wrong, or no longer.
    pub fn withdraw(&self, who: &str) {
        if !self.is_any() {
            return;
        }
        let mut said = self.said();
        said.remove(who);
        self.0.is_any.store(!said.is_empty(), Ordering::Release);
    }

    /// True while somebody contradicts, or has not compared yet.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.0.is_any.load(Ordering::Acquire)
    }

    /// What is said, a sentence for each.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        self.said().iter().map(|(who, reason)| format!("{who}: {reason}")).collect()
    }

    /// What an append is refused with, if it is.
    #[must_use]
    pub fn refusal(&self) -> Option<JournalError> {
        self.is_any().then(|| JournalError::Contradicted(self.sentences().join("; ")))
    }

    fn said(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, String>> {
        self.0.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_speaks_for_itself_and_who_has_not_compared_counts_as_one_who_contradicts() {
        let all = Contradictions::default();
        assert!(all.refusal().is_none());
        all.expect("reader");
        all.raise("relay", "too far");
        assert_eq!(all.sentences().len(), 2);
        all.withdraw("reader");
        assert!(all.is_any());
        assert!(matches!(all.refusal(), Some(JournalError::Contradicted(reason)) if reason == "relay: too far"));
        all.withdraw("relay");
        assert!(!all.is_any());
    }

    #[test]
    fn waiting_for_a_comparison_does_not_cover_what_was_found() {
        let all = Contradictions::default();
        all.raise("reader", "too far");
        all.expect("reader");
        assert_eq!(all.sentences(), ["reader: too far"]);
    }
}
