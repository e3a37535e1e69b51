//! Admission: work is bounded before it reaches a mailbox.
//!
//! ractor's mailboxes are unbounded, so a [`Gate`] stands in front of them. A [`Permit`] is taken before a command is
//! sent and given back as its reply leaves, or when the command is dropped. No permit left means `Busy`, at once: the caller
//! is refused in microseconds instead of waiting in a queue that only grows.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A bound on the commands in flight, possibly within a wider one (a shard's within its service's).
#[derive(Debug)]
pub struct Gate {
    in_flight_max: usize,
    in_flight: AtomicUsize,
    wider: Option<Arc<Gate>>,
}

impl Gate {
    /// A bound of its own.
    #[must_use]
    pub fn new(in_flight_max: usize) -> Arc<Self> {
        Arc::new(Self { in_flight_max, in_flight: AtomicUsize::new(0), wider: None })
    }

    /// A bound within a wider one: a permit of this gate holds one of the wider gate too.
    #[must_use]
    pub fn within(wider: &Arc<Self>, in_flight_max: usize) -> Arc<Self> {
        Arc::new(Self { in_flight_max, in_flight: AtomicUsize::new(0), wider: Some(Arc::clone(wider)) })
    }

    /// A permit, or nothing when the gate or the wider one is full.
    #[must_use]
    pub fn try_enter(self: &Arc<Self>) -> Option<Permit> {
        if !self.take() {
            return None;
        }
        if let Some(wider) = &self.wider
            && !wider.take()
        {
            self.give();
            return None;
        }
        Some(Permit(Arc::clone(self)))
    }

    /// How many permits are out.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// How many permits there are.
    #[must_use]
    pub const fn in_flight_max(&self) -> usize {
        self.in_flight_max
    }

    fn take(&self) -> bool {
        if self.in_flight.fetch_add(1, Ordering::AcqRel) < self.in_flight_max {
            return true;
        }
        self.give();
        false
    }

    fn give(&self) {
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The right to have one command in flight; given back on drop.
#[derive(Debug)]
pub struct Permit(Arc<Gate>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.give();
        if let Some(wider) = &self.0.wider {
            wider.give();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_gate_refuses_and_a_returned_permit_admits_again() {
        let gate = Gate::new(1);
        let permit = gate.try_enter();
        assert!(permit.is_some());
        assert!(gate.try_enter().is_none());
        drop(permit);
        assert!(gate.try_enter().is_some());
    }

    #[test]
    fn a_refusal_by_the_wider_gate_takes_nothing_from_the_narrower() {
        let service = Gate::new(1);
        let (left, right) = (Gate::within(&service, 5), Gate::within(&service, 5));
        let permit = left.try_enter();
        assert!(right.try_enter().is_none());
        assert_eq!(right.in_flight(), 0);
        drop(permit);
        assert_eq!((service.in_flight(), left.in_flight()), (0, 0));
    }
}
