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
pub struct Current<T>(Arc<RwLock<Place<T>>>);

struct Place<T> {
    value: Option<T>,
    incarnation: u64,
}

/// Empties a place on drop, unless another incarnation has taken it.
pub struct Occupancy<T> {
    place: Current<T>,
    incarnation: u64,
}

impl<T> Drop for Occupancy<T> {
    fn drop(&mut self) {
        let mut place = self.place.0.write().unwrap_or_else(PoisonError::into_inner);
        if place.incarnation == self.incarnation {
            place.value = None;
        }
    }
}

impl<T: Clone> Current<T> {
    /// An empty place.
    #[must_use]
    pub fn empty() -> Self {
        Self(Arc::new(RwLock::new(Place { value: None, incarnation: 0 })))
    }

    /// The present incarnation.
    ///
    /// # Errors
    /// [`Down`] while there is none.
    pub fn get(&self) -> Result<T, Down> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).value.clone().ok_or(Down)
    }

    /// True once something has been there, whether it still is or not.
    #[must_use]
    pub fn was_ever_taken(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).incarnation > 0
    }

    /// Puts a new incarnation there.
    pub fn set(&self, value: T) {
        self.put(value);
    }

    /// Puts a new incarnation there for as long as the returned occupancy lives.
    #[must_use]
    pub fn occupy(&self, value: T) -> Occupancy<T> {
        Occupancy { incarnation: self.put(value), place: self.clone() }
    }

    fn put(&self, value: T) -> u64 {
        let mut place = self.0.write().unwrap_or_else(PoisonError::into_inner);
        place.value = Some(value);
        place.incarnation += 1;
        place.incarnation
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_former_incarnation_does_not_empty_the_place_of_the_next() {
        let place = Current::empty();
        let first = place.occupy(1);
        let second = place.occupy(2);
        drop(first);
        assert_eq!(place.get(), Ok(2));
        drop(second);
        assert_eq!(place.get(), Err(Down));
    }
}
