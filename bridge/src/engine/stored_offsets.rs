//! Progress in a store of your own, with your own effects, instead of in the log: a source around a source.
//!
//! **Owns** the source inside and, for each partition, the place where the stored progress begins. It **belongs to** the pump's
//! thread, like every source. **When it dies** nothing is lost: the next one begins at what is stored.
//!
//! - A partition begins at the stored commit. Where the store knows nothing of it, it begins at the log's own commit, and so a group
//!   moves over by itself.
//! - A commit goes to the store. Only what the store has taken is committed to the log too: there it is a hint (where to begin to
//!   read, and the lag that other tools see) which is never ahead of the truth.
//! - Where the log is ahead all the same, because the store was set back (a restored backup), the log's commit is set back too, and
//!   the source is given up, so that the next one reads from there.
//! - A partition whose stored commit cannot be read within [`LOAD_WAIT_MAX`] is not begun: the source is given up and tried again.
//!
//! It does **not** put an effect and its offset into one transaction: the store is written after the effects, so a crash in between
//! repeats records, as with the log's own commits.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, mpsc},
    time::Duration,
};

use futures::future::try_join_all;
use tokio::{runtime::Handle, time::timeout};

use super::subscription::OpenSource;
use crate::{
    ports::{Assignment, Commit, Credit, LogSource, OffsetStore, PartitionOwner, SourceEvent, SourceFatal},
    record::{Record, TopicPartition},
};

/// How long an assignment waits for the store.
pub const LOAD_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long a revocation waits for the store: the whole group waits meanwhile.
pub const LAST_STORE_WAIT_MAX: Duration = Duration::from_secs(2);
/// How long any other commit waits for the store before it has failed.
pub const STORE_WAIT_MAX: Duration = Duration::from_secs(10);

/// See the module's text.
pub struct StoredOffsets {
    inner: Box<dyn LogSource>,
    progress: Progress,
    /// What came of commits to the store.
    stored: mpsc::Receiver<(Vec<Commit>, Result<(), String>)>,
    says_stored: mpsc::Sender<(Vec<Commit>, Result<(), String>)>,
}

struct Progress {
    store: Arc<dyn OffsetStore>,
    group: Arc<str>,
    runtime: Handle,
    /// The partitions that the owner knows, and where each begins.
    begun: HashMap<TopicPartition, Begin>,
    /// Stored commits that the log is ahead of.
    behind: Vec<Commit>,
    /// Those whose commit in the log is being set back.
    set_back: HashSet<TopicPartition>,
    fatal: Option<String>,
}

/// Where a partition begins.
enum Begin {
    /// Wherever the log says, or behind the first record that was given.
    Anywhere,
    /// At the stored commit: what lies before it is done.
    At {
        stored: Commit,
        /// The source did not know its own commit, and so may have begun behind the stored one.
        is_uncertain: bool,
    },
}

impl StoredOffsets {
    /// Puts the store around what `open` opens. `runtime` is where the store's futures run.
    #[must_use]
    pub fn opener(open: OpenSource, store: Arc<dyn OffsetStore>, runtime: Handle) -> OpenSource {
        Arc::new(move |subscription| {
            let inner = open(subscription)?;
            let group = Arc::clone(&subscription.group);
            Ok(Box::new(Self::new(inner, Arc::clone(&store), group, runtime.clone())))
        })
    }

    /// Puts the store around a source. It is to be polled outside of any runtime's thread, as the pump does.
    #[must_use]
    pub fn new(inner: Box<dyn LogSource>, store: Arc<dyn OffsetStore>, group: Arc<str>, runtime: Handle) -> Self {
        let (says_stored, stored) = mpsc::channel();
        let progress = Progress {
            store,
            group,
            runtime,
            begun: HashMap::new(),
            behind: Vec::new(),
            set_back: HashSet::new(),
            fatal: None,
        };
        Self { inner, progress, stored, says_stored }
    }

    /// Tells what the store has answered, and passes on to the log what it has taken.
    fn tell_stored(&mut self, owner: &mut dyn PartitionOwner) {
        for (commits, result) in self.stored.try_iter().collect::<Vec<_>>() {
            if result.is_ok() {
                let ours = commits.iter().filter(|commit| self.progress.begun.contains_key(&commit.partition));
                self.inner.commit(ours.cloned().collect());
            }
            for commit in commits {
                owner.committed(commit, result.clone());
            }
        }
    }
}

impl LogSource for StoredOffsets {
    fn poll(&mut self, wait: Duration, owner: &mut dyn PartitionOwner) -> Result<(), SourceFatal> {
        self.inner.poll(wait, &mut Between { owner, progress: &mut self.progress })?;
        self.tell_stored(owner);
        if !self.progress.behind.is_empty() {
            let behind = std::mem::take(&mut self.progress.behind);
            self.progress.set_back.extend(behind.iter().map(|commit| commit.partition.clone()));
            self.inner.commit(behind);
        }
        self.progress.fatal.take().map_or(Ok(()), |reason| Err(SourceFatal(reason)))
    }

    fn commit(&mut self, commits: Vec<Commit>) {
        let storing = self.progress.store.store(&self.progress.group, commits.clone());
        let says_stored = self.says_stored.clone();
        self.progress.runtime.spawn(async move {
            let result = timeout(STORE_WAIT_MAX, storing).await.unwrap_or_else(|_| Err(too_late(STORE_WAIT_MAX)));
            // A source that is gone does not mind.
            drop(says_stored.send((commits, result)));
        });
    }

    fn close(self: Box<Self>, owner: &mut dyn PartitionOwner) {
        let Self { inner, mut progress, .. } = *self;
        inner.close(&mut Between { owner, progress: &mut progress });
    }
}

impl Progress {
    fn load(&self, assignments: &[Assignment]) -> Result<Vec<Option<Commit>>, String> {
        let loads = assignments.iter().map(|assignment| self.store.load(&self.group, &assignment.partition));
        let loading = try_join_all(loads);
        // The timer must be made within the runtime.
        self.runtime.block_on(async { timeout(LOAD_WAIT_MAX, loading).await }).map_err(|_| too_late(LOAD_WAIT_MAX))?
    }

    /// Where the partition is to begin; nothing where the log is ahead, and must be set back first.
    fn begin(&mut self, mut assignment: Assignment, stored: Option<Commit>) -> Option<Assignment> {
        let log = assignment.committed.as_ref().map(|commit| commit.offset);
        let begin = match stored {
            None => Begin::Anywhere,
            Some(stored) if log.is_some_and(|log| log > stored.offset) => {
                self.is_ahead(&stored, log);
                return None;
            }
            Some(stored) => {
                assignment.committed = Some(stored.clone());
                Begin::At { stored, is_uncertain: log.is_none() }
            }
        };
        self.begun.insert(assignment.partition.clone(), begin);
        Some(assignment)
    }

    fn is_ahead(&mut self, stored: &Commit, log: Option<i64>) {
        let (partition, stored_offset) = (&stored.partition, stored.offset);
        tracing::warn!(%partition, stored_offset, log_offset = log, "the log's commit is ahead of the stored one: it is set back");
        self.behind.push(stored.clone());
    }

    /// What of these records the owner is to have; nothing where the source has begun behind the stored commit.
    fn still_to_do(&mut self, partition: &TopicPartition, mut records: Vec<Record>) -> Option<Vec<Record>> {
        let begin = self.begun.get_mut(partition)?;
        let Begin::At { stored, is_uncertain } = begin else { return Some(records) };
        let (first, last) = (records.first()?.offset, records.last()?.offset);
        if *is_uncertain && first > stored.offset {
            let stored = stored.clone();
            self.begun.remove(partition);
            self.is_ahead(&stored, None);
            return None;
        }
        *is_uncertain = false;
        records.retain(|record| record.offset >= stored.offset);
        if last >= stored.offset {
            *begin = Begin::Anywhere;
        }
        Some(records)
    }
}

/// Between the source inside and the owner outside.
struct Between<'a> {
    owner: &'a mut dyn PartitionOwner,
    progress: &'a mut Progress,
}

impl PartitionOwner for Between<'_> {
    fn assigned(&mut self, assignments: Vec<Assignment>) -> Vec<(TopicPartition, i64)> {
        match self.progress.load(&assignments) {
            Err(reason) => {
                self.progress.fatal = Some(format!("what was committed cannot be read from the store: {reason}"));
                Vec::new()
            }
            Ok(stored) => {
                let begun = assignments.into_iter().zip(stored);
                let begun: Vec<_> =
                    begun.filter_map(|(assignment, stored)| self.progress.begin(assignment, stored)).collect();
                let elsewhere = self.owner.assigned(begun);
                // What is stored of these is of another log, or gone: it says nothing about the records that come.
                for (partition, _) in &elsewhere {
                    self.progress.begun.insert(partition.clone(), Begin::Anywhere);
                }
                elsewhere
            }
        }
    }

    fn credit(&self, partition: &TopicPartition) -> Credit {
        match self.progress.begun.contains_key(partition) {
            true => self.owner.credit(partition),
            false => Credit::NONE,
        }
    }

    fn records(&mut self, partition: &TopicPartition, records: Vec<Record>) {
        if let Some(records) = self.progress.still_to_do(partition, records)
            && !records.is_empty()
        {
            self.owner.records(partition, records);
        }
    }

    fn revoked(&mut self, partitions: &[TopicPartition]) -> Vec<Commit> {
        let commits = self.owner.revoked(partitions);
        partitions.iter().for_each(|partition| drop(self.progress.begun.remove(partition)));
        if commits.is_empty() {
            return commits;
        }
        let storing = self.progress.store.store(&self.progress.group, commits.clone());
        let stored = self.progress.runtime.block_on(async { timeout(LAST_STORE_WAIT_MAX, storing).await });
        match stored.unwrap_or_else(|_| Err(too_late(LAST_STORE_WAIT_MAX))) {
            Ok(()) => commits,
            Err(error) => {
                tracing::warn!(error, "the last commits were not stored; their records come again");
                Vec::new()
            }
        }
    }

    fn lost(&mut self, partitions: &[TopicPartition]) {
        partitions.iter().for_each(|partition| drop(self.progress.begun.remove(partition)));
        self.owner.lost(partitions);
    }

    fn committed(&mut self, commit: Commit, result: Result<(), String>) {
        if self.progress.set_back.remove(&commit.partition) {
            let set_back =
                result.map_or_else(|error| format!("could not be set back: {error}"), |()| "was set back".into());
            self.progress.fatal = Some(format!("the commit of {} in the log {set_back}", commit.partition));
        } else if let Err(error) = result {
            // Only a hint: the next one follows.
            tracing::debug!(partition = %commit.partition, error, "a stored commit did not reach the log");
        }
    }

    fn event(&mut self, event: SourceEvent) {
        if let SourceEvent::WentBack { partition, .. } | SourceEvent::Skipped { partition, .. } = &event
            && let Some(begin) = self.progress.begun.get_mut(partition)
        {
            *begin = Begin::Anywhere;
        }
        self.owner.event(event);
    }
}

fn too_late(wait: Duration) -> String {
    format!("no answer from the store within {} s", wait.as_secs())
}
