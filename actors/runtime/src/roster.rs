//! The roster: what stands in the tree, in which state, since when, how often it fell.
//!
//! Supervisors write it as they act, so it cannot drift from what they know; shards add counters. Whoever wants to look
//! takes a snapshot or follows the changes, see [`inspection`](crate::inspection). It decides nothing.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use dashmap::DashMap;
use ractor::ActorId;
use serde::Serialize;
use tokio::sync::broadcast;

use crate::{
    awake::AwakeSource,
    changes::{Change, EntityEvent, What},
    command::now_ms,
    supervision::Activity,
};

pub use crate::changes::{ChildState, Entry};

/// The most characters of a failure's text that are kept.
const FAILURE_TEXT_MAX: usize = 300;
/// Changes kept for a slow reader; one that is further behind is told so. A tree of a hundred actors that falls and comes
/// back makes about four changes each.
const CHANGES_MAX: usize = 1_024;

/// What a shard counts; the numbers only grow, but for `active`, `stuck` and `parked`.
#[derive(Debug, Default)]
pub struct Counters {
    /// Commands taken up.
    pub handled: Arc<AtomicU64>,
    /// Entities awake now.
    pub active: AtomicU64,
    /// Entities that were found stuck in a message and have not ended.
    pub stuck: AtomicU64,
    /// Entities that fell.
    pub failures: AtomicU64,
    /// Entities that are parked now: they fall again and again.
    pub parked: AtomicU64,
    last_failure: Mutex<Option<String>>,
    /// The shard's own queue and message.
    pub(crate) activity: Activity,
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
    /// Messages that wait in the shard's own mailbox.
    pub queue_depth: Option<u64>,
    /// How long the shard has been in its present message, in milliseconds.
    pub message_age_ms: Option<u64>,
    /// Commands taken up by its entities.
    pub handled: u64,
    /// Entities awake now.
    pub active: u64,
    /// Entities that are stuck in a message now.
    pub stuck: u64,
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
    shared: Arc<Shared>,
    scope: Arc<str>,
}

#[derive(Debug)]
struct Shared {
    /// Supervised actors come and go rarely: one lock keeps lines, numbers and changes in one order.
    tree: Mutex<Tree>,
    changes: broadcast::Sender<Change>,
    counters: DashMap<String, Arc<Counters>>,
    awake: DashMap<String, AwakeSource>,
    /// The first reason why only a new process helps.
    fatal: OnceLock<String>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            tree: Mutex::default(),
            changes: broadcast::Sender::new(CHANGES_MAX),
            counters: DashMap::new(),
            awake: DashMap::new(),
            fatal: OnceLock::new(),
        }
    }
}

/// The lines, and the number of the last change to them.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    pub(crate) seq: u64,
    pub(crate) lines: BTreeMap<String, Line>,
}

#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) entry: Entry,
    pub(crate) activity: Option<Activity>,
    has_run: bool,
}

/// What is known of a child before it runs.
pub(crate) struct NewLine<'a> {
    pub(crate) path: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) parent: Option<ActorId>,
    pub(crate) activity: Option<Activity>,
}

impl Roster {
    /// An empty roster.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes what only a new process can mend. The first reason is kept.
    pub(crate) fn note_fatal(&self, reason: &str) {
        let _ = self.shared.fatal.set(reason.to_owned());
    }

    /// Why the tree has ended for good, where that is so: only a new process mends it.
    #[must_use]
    pub fn fatal(&self) -> Option<&str> {
        self.shared.fatal.get().map(String::as_str)
    }

    /// Notes that a child is being started, for the first time or again.
    pub(crate) fn starting(&self, new: NewLine<'_>) {
        let mut tree = self.tree();
        let line = tree.lines.entry(new.path.to_owned()).or_insert_with(|| Line {
            entry: Entry {
                path: new.path.to_owned(),
                id: None,
                kind: new.kind.into(),
                parent: None,
                state: ChildState::Starting,
                since_ms: 0,
                restarts: 0,
                last_failure: None,
                last_failure_ms: None,
            },
            activity: None,
            has_run: false,
        });
        line.activity = new.activity;
        line.entry.kind = new.kind.into();
        line.entry.parent = new.parent.map(|parent| parent.pid());
        line.entry.stands(ChildState::Starting, None);
        let entry = line.entry.clone();
        self.publish(&mut tree, What::Actor(entry));
    }

    /// Notes that a child runs as `id`; one that has run before has been started again.
    pub(crate) fn running(&self, path: &str, id: ActorId) {
        self.change(path, |line| {
            line.entry.stands(ChildState::Running, Some(id.pid()));
            line.entry.restarts += u64::from(line.has_run);
            line.has_run = true;
        });
    }

    /// Notes that a child was asked to stop.
    pub(crate) fn stopping(&self, path: &str) {
        self.change(path, |line| {
            let id = line.entry.id;
            line.entry.stands(ChildState::Stopping, id);
        });
    }

    /// Notes that a child was killed because it is stuck.
    pub(crate) fn stuck(&self, path: &str, reason: &str) {
        self.change(path, |line| {
            let id = line.entry.id;
            line.entry.stands(ChildState::Stuck, id);
            line.entry.fell(reason);
        });
    }

    /// Notes that no incarnation of a child runs any more, and what comes next.
    pub(crate) fn ended(&self, path: &str, state: ChildState, failure: Option<&str>) {
        self.change(path, |line| {
            line.entry.stands(state, None);
            if let Some(failure) = failure {
                line.entry.fell(failure);
            }
        });
    }

    /// Notes that the supervisor `id` is no more, and with it those below. What is stuck stays so.
    pub(crate) fn supervisor_ended(&self, id: ActorId) {
        let mut tree = self.tree();
        let id = Some(id.pid());
        let mut ended = Vec::new();
        for line in tree.lines.values_mut() {
            let is_concerned = line.entry.parent == id || (line.entry.parent.is_none() && line.entry.id == id);
            if is_concerned && !matches!(line.entry.state, ChildState::Stopped | ChildState::Stuck) {
                line.entry.stands(ChildState::Stopped, None);
                ended.push(line.entry.clone());
            }
        }
        for entry in ended {
            self.publish(&mut tree, What::Actor(entry));
        }
    }

    /// Tells those who follow the changes that something befell an entity. Entities have no lines of their own.
    pub(crate) fn entity(&self, what: impl FnOnce(EntityEvent) -> What, shard: &str, id: &str, reason: &str) {
        let event = EntityEvent { shard: format!("{}{shard}", self.scope), id: id.to_owned(), reason: shorten(reason) };
        self.publish(&mut self.tree(), what(event));
    }

    fn change(&self, path: &str, change: impl FnOnce(&mut Line)) {
        let mut tree = self.tree();
        let Some(line) = tree.lines.get_mut(path) else { return };
        let before = line.entry.clone();
        change(line);
        let entry = line.entry.clone();
        if entry != before {
            self.publish(&mut tree, What::Actor(entry));
        }
    }

    /// Gives a change its number while the tree is locked, so that numbers, lines and receivers agree.
    fn publish(&self, tree: &mut Tree, what: What) {
        tree.seq += 1;
        // That nobody follows is no error.
        let _ = self.shared.changes.send(Change { seq: tree.seq, at_ms: now_ms(), what });
    }

    pub(crate) fn tree(&self) -> MutexGuard<'_, Tree> {
        self.shared.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.shared.changes.subscribe()
    }

    /// The same roster, its counters named below `scope`: two services may have shards of the same name.
    #[must_use]
    pub fn scoped(&self, scope: &str) -> Self {
        Self { scope: format!("{}{scope}/", self.scope).into(), shared: Arc::clone(&self.shared) }
    }

    /// The counters of the shard `name`; they outlive its incarnations.
    #[must_use]
    pub fn counters(&self, name: &str) -> Arc<Counters> {
        Arc::clone(&self.shared.counters.entry(format!("{}{name}", self.scope)).or_default())
    }

    /// Names whom to ask for the entities of `kind` that are awake; a later incarnation of the kind takes the place.
    pub(crate) fn set_awake_source(&self, kind: &str, source: AwakeSource) {
        self.shared.awake.insert(format!("{}{kind}", self.scope), source);
    }

    pub(crate) fn awake_sources(&self) -> Vec<(String, AwakeSource)> {
        self.shared.awake.iter().map(|source| (source.key().clone(), source.value().clone())).collect()
    }

    pub(crate) fn scope(&self) -> &str {
        &self.scope
    }

    /// All lines, by path.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.tree().lines.values().map(|line| line.entry.clone()).collect()
    }

    /// All counters, by name.
    #[must_use]
    pub fn readings(&self) -> Vec<CounterReading> {
        let mut readings: Vec<CounterReading> = self
            .shared
            .counters
            .iter()
            .map(|counters| {
                let own = counters.activity.reading();
                CounterReading {
                    name: counters.key().clone(),
                    queue_depth: own.queue_depth,
                    message_age_ms: own.message_age.map(milliseconds),
                    handled: counters.handled.load(Ordering::Relaxed),
                    active: counters.active.load(Ordering::Relaxed),
                    stuck: counters.stuck.load(Ordering::Relaxed),
                    failures: counters.failures.load(Ordering::Relaxed),
                    parked: counters.parked.load(Ordering::Relaxed),
                    last_failure: counters.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone(),
                }
            })
            .collect();
        readings.sort_by(|a, b| a.name.cmp(&b.name));
        readings
    }
}

impl Entry {
    fn stands(&mut self, state: ChildState, id: Option<u64>) {
        // A state that is noted twice has lasted since the first time.
        if self.state != state || self.since_ms == 0 {
            self.since_ms = now_ms();
        }
        (self.state, self.id) = (state, id);
    }

    fn fell(&mut self, reason: &str) {
        self.last_failure = Some(shorten(reason));
        self.last_failure_ms = Some(now_ms());
    }
}

pub(crate) fn shorten(text: &str) -> String {
    text.chars().take(FAILURE_TEXT_MAX).collect()
}

pub(crate) fn milliseconds(duration: Duration) -> u64 {
    duration.as_millis() as u64
}
