//! The roster: what stands in the tree, in which state, since when, how often it fell.
//!
//! Supervisors write it as they act, so it cannot drift from what they know; shards add counters. Whoever wants to look
//! takes a snapshot. It decides nothing.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use dashmap::DashMap;
use serde::Serialize;

use crate::command::now_ms;

/// The most characters of a failure's text that are kept.
const FAILURE_TEXT_MAX: usize = 300;

/// Where a child stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChildState {
    /// It runs.
    Running,
    /// It fell and is started again after its backoff.
    Restarting,
    /// It ended, and will not be started again.
    Stopped,
}

/// One line of the roster.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Its path in the tree, such as `shop/order/order-shard-0`.
    pub path: String,
    /// Where it stands.
    pub state: ChildState,
    /// Since when, in milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// How often it was started again.
    pub restarts: u64,
    /// Why it fell last.
    pub last_failure: Option<String>,
}

/// What a shard counts; the numbers only grow, but for `active` and `parked`.
#[derive(Debug, Default)]
pub struct Counters {
    /// Commands taken up.
    pub handled: Arc<AtomicU64>,
    /// Entities awake now.
    pub active: AtomicU64,
    /// Entities that fell.
    pub failures: AtomicU64,
    /// Entities that are parked now: they fall again and again.
    pub parked: AtomicU64,
    last_failure: Mutex<Option<String>>,
}

impl Counters {
    /// Notes that an entity fell.
    pub fn failed(&self, reason: &str) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(shorten(reason));
    }
}

/// What a shard's counters stand at.
#[derive(Clone, Debug, Serialize)]
pub struct CounterReading {
    /// The shard.
    pub name: String,
    /// Commands taken up.
    pub handled: u64,
    /// Entities awake now.
    pub active: u64,
    /// Entities that fell.
    pub failures: u64,
    /// Entities that are parked now.
    pub parked: u64,
    /// Why the last one fell.
    pub last_failure: Option<String>,
}

/// The roster of one system. Clones are the same roster.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    entries: Arc<DashMap<String, Entry>>,
    counters: Arc<DashMap<String, Arc<Counters>>>,
    scope: Arc<str>,
}

impl Roster {
    /// An empty roster.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that `path` runs; a path that was there before has been started again.
    pub fn started(&self, path: &str) {
        let now = now_ms();
        self.entries
            .entry(path.to_owned())
            .and_modify(|entry| {
                entry.state = ChildState::Running;
                entry.since_ms = now;
                entry.restarts += 1;
            })
            .or_insert_with(|| Entry {
                path: path.to_owned(),
                state: ChildState::Running,
                since_ms: now,
                restarts: 0,
                last_failure: None,
            });
    }

    /// Notes that `path` fell or ended.
    pub fn ended(&self, path: &str, state: ChildState, failure: Option<&str>) {
        if let Some(mut entry) = self.entries.get_mut(path) {
            entry.state = state;
            entry.since_ms = now_ms();
            if let Some(failure) = failure {
                entry.last_failure = Some(shorten(failure));
            }
        }
    }

    /// The same roster, its counters named below `scope`: two services may have shards of the same name.
    #[must_use]
    pub fn scoped(&self, scope: &str) -> Self {
        Self { scope: format!("{}{scope}/", self.scope).into(), ..self.clone() }
    }

    /// The counters of the shard `name`; they outlive its incarnations.
    #[must_use]
    pub fn counters(&self, name: &str) -> Arc<Counters> {
        Arc::clone(&self.counters.entry(format!("{}{name}", self.scope)).or_default())
    }

    /// All lines, by path.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = self.entries.iter().map(|entry| entry.value().clone()).collect();
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        entries
    }

    /// All counters, by name.
    #[must_use]
    pub fn readings(&self) -> Vec<CounterReading> {
        let mut readings: Vec<CounterReading> = self
            .counters
            .iter()
            .map(|counters| CounterReading {
                name: counters.key().clone(),
                handled: counters.handled.load(Ordering::Relaxed),
                active: counters.active.load(Ordering::Relaxed),
                failures: counters.failures.load(Ordering::Relaxed),
                parked: counters.parked.load(Ordering::Relaxed),
                last_failure: counters.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            })
            .collect();
        readings.sort_by(|a, b| a.name.cmp(&b.name));
        readings
    }
}

pub(crate) fn shorten(text: &str) -> String {
    text.chars().take(FAILURE_TEXT_MAX).collect()
}
