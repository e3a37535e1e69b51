//! How the outside holds on to something that may be restarted.
//!
//! A restarted actor is a new actor with a new address. Whoever lives longer than it holds a [`Current`] and asks it each
//! time; while nothing is there it gets [`Down`] and says so to its own caller.

use std::sync::{Arc, PoisonError, RwLock};

/// Nothing is there now: it has not started, or it fell and is being started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the service is starting or restarting; try again shortly")]
pub struct Down;

/// The present incarnation of something, if there is one. Clones see the same place.
pub struct Current<T>(Arc<RwLock<Option<T>>>);

impl<T: Clone> Current<T> {
    /// An empty place.
    #[must_use]
    pub fn empty() -> Self {
        Self(Arc::new(RwLock::new(None)))
    }

    /// The present incarnation.
    ///
    /// # Errors
    /// [`Down`] while there is none.
    pub fn get(&self) -> Result<T, Down> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or(Down)
    }

    /// Puts a new incarnation there.
    pub fn set(&self, value: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(value);
    }

    /// Empties the place.
    pub fn clear(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl<T> Clone for Current<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Clone> Default for Current<T> {
    fn default() -> Self {
        Self::empty()
    }
}
