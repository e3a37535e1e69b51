//! The numbers themselves: what the edge counts, and what others give to the page.

use std::sync::atomic::{AtomicU64, Ordering};

use warp::http::StatusCode;

/// Answers by the first digit of their status.
#[derive(Debug, Default)]
pub struct RequestCounts {
    by_class: [AtomicU64; 5],
}

impl RequestCounts {
    /// Counts an answer.
    pub fn count(&self, status: StatusCode) {
        if let Some(counter) = self.by_class.get(usize::from(status.as_u16() / 100).wrapping_sub(1)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Answers so far, 1xx first.
    pub(super) fn reading(&self) -> [u64; 5] {
        self.by_class.each_ref().map(|counter| counter.load(Ordering::Relaxed))
    }
}

/// What kind of number it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// One number of somebody else's, for the page.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Its name, without the prefix that all of ours have.
    pub name: &'static str,
    /// What kind it is.
    pub kind: Kind,
    /// What it means.
    pub help: &'static str,
    /// What it is of.
    pub labels: Vec<(&'static str, String)>,
    /// The number.
    pub value: u64,
}
