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

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    };

    use futures::future::BoxFuture;

    use super::*;
    use crate::{ports::LogState, record::Headers};

    /// What the source inside tells its owner in one poll.
    type Turn = Box<dyn FnOnce(&mut dyn PartitionOwner) + Send>;

    /// A source that tells what it is told to tell.
    #[derive(Clone, Default)]
    struct Script {
        turns: Arc<Mutex<Vec<Turn>>>,
        commits: Arc<Mutex<Vec<Commit>>>,
        is_broken: Arc<AtomicBool>,
    }

    impl LogSource for Script {
        fn poll(&mut self, _: Duration, owner: &mut dyn PartitionOwner) -> Result<(), SourceFatal> {
            let turns = std::mem::take(&mut *self.turns.lock().unwrap());
            turns.into_iter().for_each(|turn| turn(owner));
            if self.is_broken.load(Ordering::Relaxed) { Err(SourceFatal("broken".into())) } else { Ok(()) }
        }

        fn commit(&mut self, commits: Vec<Commit>) {
            self.commits.lock().unwrap().extend(commits);
        }

        fn close(self: Box<Self>, owner: &mut dyn PartitionOwner) {
            owner.revoked(&[partition()]);
        }
    }

    /// A table of one commit, which can be away.
    #[derive(Default)]
    struct Table {
        row: Mutex<Option<Commit>>,
        is_away: AtomicBool,
    }

    impl Table {
        fn answer<T: Send + 'static>(&self, answer: T) -> BoxFuture<'static, Result<T, String>> {
            let is_away = self.is_away.load(Ordering::Relaxed);
            Box::pin(async move { if is_away { Err("away".to_owned()) } else { Ok(answer) } })
        }
    }

    impl OffsetStore for Table {
        fn load(&self, group: &str, _: &TopicPartition) -> BoxFuture<'static, Result<Option<Commit>, String>> {
            assert_eq!(group, "billing");
            self.answer(self.row.lock().unwrap().clone())
        }

        fn store(&self, group: &str, commits: Vec<Commit>) -> BoxFuture<'static, Result<(), String>> {
            assert_eq!(group, "billing");
            if !self.is_away.load(Ordering::Relaxed) {
                *self.row.lock().unwrap() = commits.last().cloned();
            }
            self.answer(())
        }
    }

    /// Whoever owns the partitions, and what they are told.
    #[derive(Default)]
    struct Owner {
        begins: Vec<Option<i64>>,
        elsewhere: Vec<(TopicPartition, i64)>,
        offsets: Vec<i64>,
        is_given_nothing: bool,
        to_commit: Vec<Commit>,
        revoked: usize,
        lost: usize,
        committed: Vec<(i64, Result<(), String>)>,
        events: Vec<SourceEvent>,
    }

    const CREDIT: Credit = Credit { records: 7, bytes: 77 };

    impl PartitionOwner for Owner {
        fn assigned(&mut self, assignments: Vec<Assignment>) -> Vec<(TopicPartition, i64)> {
            let begin = |assignment: Assignment| assignment.committed.map(|commit| commit.offset);
            self.begins.extend(assignments.into_iter().map(begin));
            self.elsewhere.clone()
        }

        fn credit(&self, _: &TopicPartition) -> Credit {
            CREDIT
        }

        fn records(&mut self, _: &TopicPartition, records: Vec<Record>) {
            self.is_given_nothing |= records.is_empty();
            self.offsets.extend(records.iter().map(|record| record.offset));
        }

        fn revoked(&mut self, partitions: &[TopicPartition]) -> Vec<Commit> {
            self.revoked += partitions.len();
            self.to_commit.clone()
        }

        fn lost(&mut self, partitions: &[TopicPartition]) {
            self.lost += partitions.len();
        }

        fn committed(&mut self, commit: Commit, result: Result<(), String>) {
            self.committed.push((commit.offset, result));
        }

        fn event(&mut self, event: SourceEvent) {
            self.events.push(event);
        }
    }

    struct Stage {
        source: StoredOffsets,
        script: Script,
        table: Arc<Table>,
        owner: Owner,
        runtime: tokio::runtime::Runtime,
    }

    impl Stage {
        /// A source around a source; `stored` is what the store knows of the partition.
        fn new(stored: Option<i64>) -> Self {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let (script, table) = (Script::default(), Arc::new(Table::default()));
            *table.row.lock().unwrap() = stored.map(commit);
            let store = Arc::clone(&table) as Arc<dyn OffsetStore>;
            let source =
                StoredOffsets::new(Box::new(script.clone()), store, "billing".into(), runtime.handle().clone());
            Self { source, script, table, owner: Owner::default(), runtime }
        }

        /// The source inside tells this.
        fn tell(&mut self, turn: impl FnOnce(&mut dyn PartitionOwner) + Send + 'static) -> Result<(), SourceFatal> {
            self.script.turns.lock().unwrap().push(Box::new(turn));
            self.source.poll(Duration::ZERO, &mut self.owner)
        }

        /// The partition becomes ours; `log` is what is committed in the log itself.
        fn assign(&mut self, log: Option<i64>) -> Result<(), SourceFatal> {
            let committed = log.map(commit);
            self.tell(move |owner| {
                owner.assigned(vec![Assignment { partition: partition(), committed, log: None }]);
            })
        }

        fn give(&mut self, offsets: std::ops::Range<i64>) -> Result<(), SourceFatal> {
            self.tell(move |owner| owner.records(&partition(), offsets.map(record).collect()))
        }

        /// What is asked for by a source that reads on.
        fn credit(&mut self) -> Credit {
            let (says, said) = mpsc::channel();
            self.tell(move |owner| says.send(owner.credit(&partition())).unwrap()).unwrap();
            said.try_recv().expect("the source inside was polled")
        }

        /// The owner commits, and hears what came of it.
        fn commit(&mut self, offset: i64) {
            self.source.commit(vec![commit(offset)]);
            // The store's answer is there once nothing is left to do.
            self.runtime.block_on(async {
                while self.tasks() > 0 {
                    tokio::task::yield_now().await
                }
            });
            self.source.poll(Duration::ZERO, &mut self.owner).unwrap();
        }

        fn tasks(&self) -> usize {
            self.runtime.handle().metrics().num_alive_tasks()
        }

        /// What was committed in the log since the last time.
        fn committed_in_the_log(&self) -> Vec<i64> {
            std::mem::take(&mut *self.script.commits.lock().unwrap()).into_iter().map(|commit| commit.offset).collect()
        }
    }

    fn partition() -> TopicPartition {
        TopicPartition::new("orders", 0)
    }

    fn commit(offset: i64) -> Commit {
        Commit { partition: partition(), offset, metadata: String::new(), log_id: None }
    }

    fn record(offset: i64) -> Record {
        let TopicPartition { topic, partition } = partition();
        let headers = Headers::default();
        Record { topic, partition, offset, timestamp_ms: None, key: None, value: None, headers }
    }

    #[test]
    fn a_partition_begins_at_what_is_stored_else_at_the_logs_own_commit() {
        for (stored, log, begin) in [
            (Some(40), None, Some(40)),
            (Some(40), Some(30), Some(40)),
            (Some(40), Some(40), Some(40)),
            (None, Some(30), Some(30)),
            (None, None, None),
        ] {
            let mut stage = Stage::new(stored);
            assert_eq!(stage.assign(log), Ok(()));
            assert_eq!(stage.owner.begins, [begin], "stored {stored:?}, in the log {log:?}");
            assert_eq!((stage.committed_in_the_log(), stage.credit()), (vec![], CREDIT));
        }
    }

    #[test]
    fn of_what_the_source_gives_the_owner_has_what_is_not_done_and_never_an_empty_list() {
        let mut stage = Stage::new(Some(40));
        stage.assign(Some(30)).unwrap();
        stage.give(30..35).unwrap();
        assert_eq!(stage.owner.offsets, [] as [i64; 0]);
        stage.give(35..40).unwrap();
        stage.give(40..42).unwrap();
        assert_eq!(stage.owner.offsets, [40, 41]);
        // Once the stored place is passed, whatever comes is to be done: such as what is read again from elsewhere.
        stage.give(10..12).unwrap();
        assert_eq!((&stage.owner.offsets[2..], stage.owner.is_given_nothing), (&[10, 11][..], false));

        let mut stage = Stage::new(Some(40));
        stage.assign(Some(30)).unwrap();
        stage.give(38..42).unwrap();
        stage.give(10..12).unwrap();
        assert_eq!(stage.owner.offsets, [40, 41, 10, 11], "in one list too");
    }

    #[test]
    fn where_the_log_is_ahead_it_is_set_back_first_and_the_source_is_given_up_once_it_was() {
        for (answer, said) in [(Ok(()), "was set back"), (Err("no".to_owned()), "could not be set back: no")] {
            let mut stage = Stage::new(Some(40));
            assert_eq!(stage.assign(Some(41)), Ok(()));
            assert!(stage.owner.begins.is_empty(), "it is not begun");
            assert_eq!((stage.committed_in_the_log(), stage.credit()), (vec![40], Credit::NONE));
            stage.give(41..43).unwrap();
            assert!(stage.owner.offsets.is_empty());
            let fatal = stage.tell(move |owner| owner.committed(commit(40), answer)).unwrap_err().0;
            assert!(fatal.contains(said), "{fatal}");
            assert!(stage.owner.committed.is_empty(), "the owner has not asked for it");
            assert_eq!(stage.committed_in_the_log(), [] as [i64; 0], "once");
        }
    }

    #[test]
    fn a_source_that_does_not_know_where_it_begins_is_believed_once_it_begins_before_what_is_stored() {
        // At the stored place itself nothing is missing.
        for first in [39, 40] {
            let mut stage = Stage::new(Some(40));
            stage.assign(None).unwrap();
            stage.give(first..41).unwrap();
            assert_eq!((&stage.owner.offsets[..], stage.committed_in_the_log()), (&[40][..], vec![]), "{first}");
        }
        let mut stage = Stage::new(Some(40));
        stage.assign(None).unwrap();
        stage.give(30..32).unwrap();
        // A log may have gaps.
        stage.give(45..46).unwrap();
        assert_eq!((&stage.owner.offsets[..], stage.committed_in_the_log()), (&[45][..], vec![]));

        let mut stage = Stage::new(Some(40));
        stage.assign(None).unwrap();
        stage.give(41..43).unwrap();
        assert_eq!((&stage.owner.offsets[..], stage.committed_in_the_log()), (&[][..], vec![40]), "40 would be lost");
        assert_eq!(stage.credit(), Credit::NONE);
    }

    #[test]
    fn a_source_that_knows_where_it_begins_may_find_a_gap_there() {
        let mut stage = Stage::new(Some(40));
        stage.assign(Some(40)).unwrap();
        stage.give(41..43).unwrap();
        assert_eq!((&stage.owner.offsets[..], stage.committed_in_the_log()), (&[41, 42][..], vec![]));
    }

    #[test]
    fn a_commit_goes_to_the_store_and_to_the_log_only_what_the_store_has_taken() {
        let mut stage = Stage::new(None);
        stage.assign(None).unwrap();
        stage.commit(5);
        assert_eq!(stage.table.row.lock().unwrap().as_ref().map(|commit| commit.offset), Some(5));
        assert_eq!((&stage.owner.committed[..], stage.committed_in_the_log()), (&[(5, Ok(()))][..], vec![5]));
        stage.table.is_away.store(true, Ordering::Relaxed);
        stage.commit(6);
        assert_eq!(stage.owner.committed[1..], [(6, Err("away".to_owned()))]);
        assert_eq!(stage.committed_in_the_log(), [] as [i64; 0]);
        // What the log says of its hint is nobody's business, whatever it says.
        stage.tell(|owner| owner.committed(commit(5), Err("no".into()))).unwrap();
        assert_eq!(stage.owner.committed.len(), 2);
    }

    #[test]
    fn what_the_store_takes_after_a_partition_has_gone_is_not_committed_in_the_log_any_more() {
        let revoke: fn(&mut dyn PartitionOwner) = |owner| drop(owner.revoked(&[partition()]));
        let lose: fn(&mut dyn PartitionOwner) = |owner| owner.lost(&[partition()]);
        for leave in [revoke, lose] {
            let mut stage = Stage::new(None);
            stage.assign(None).unwrap();
            stage.tell(leave).unwrap();
            assert_eq!((stage.owner.revoked + stage.owner.lost, stage.credit()), (1, Credit::NONE));
            stage.commit(5);
            assert_eq!((stage.owner.committed.len(), stage.committed_in_the_log()), (1, vec![]));
        }
    }

    #[test]
    fn the_last_commits_are_stored_before_the_log_hears_of_them() {
        let revoked = |stage: &mut Stage| {
            let (says, said) = mpsc::channel();
            stage.tell(move |owner| says.send(owner.revoked(&[partition()])).unwrap()).unwrap();
            said.try_recv().expect("the source inside was polled")
        };
        let mut stage = Stage::new(Some(3));
        stage.assign(None).unwrap();
        assert_eq!(revoked(&mut stage), [], "nothing is to be committed");
        assert_eq!(stage.table.row.lock().unwrap().as_ref().map(|commit| commit.offset), Some(3));
        stage.owner.to_commit = vec![commit(9)];
        assert_eq!(revoked(&mut stage), [commit(9)]);
        assert_eq!(stage.table.row.lock().unwrap().as_ref().map(|commit| commit.offset), Some(9));
        stage.table.is_away.store(true, Ordering::Relaxed);
        assert_eq!(revoked(&mut stage), [], "not stored, it is not committed: its records come again");

        let mut stage = Stage::new(None);
        stage.assign(None).unwrap();
        stage.owner.to_commit = vec![commit(9)];
        let Stage { source, mut owner, table, .. } = stage;
        Box::new(source).close(&mut owner);
        assert_eq!(owner.revoked, 1);
        assert_eq!(table.row.lock().unwrap().as_ref().map(|commit| commit.offset), Some(9));
    }

    #[test]
    fn a_partition_whose_store_cannot_be_read_is_not_begun() {
        let mut stage = Stage::new(Some(40));
        stage.table.is_away.store(true, Ordering::Relaxed);
        let fatal = stage.assign(Some(30)).unwrap_err().0;
        assert!(fatal.contains("cannot be read from the store: away"), "{fatal}");
        assert_eq!((stage.owner.begins.len(), stage.credit()), (0, Credit::NONE));
    }

    #[test]
    fn what_is_stored_says_nothing_of_a_log_that_is_read_from_elsewhere() {
        // The owner knows that the stored commit is of another log.
        let mut stage = Stage::new(Some(40));
        stage.owner.elsewhere = vec![(partition(), 0)];
        let (says, said) = mpsc::channel();
        let assignment = Assignment { partition: partition(), committed: None, log: None };
        stage.tell(move |owner| says.send(owner.assigned(vec![assignment])).unwrap()).unwrap();
        assert_eq!(said.try_recv().expect("the source inside was polled"), [(partition(), 0)]);
        stage.give(0..2).unwrap();
        assert_eq!(stage.owner.offsets, [0, 1]);

        // The log turns out to be another, or to have lost what was there.
        let log = LogState { id: None, first: 0, end: 2 };
        let went_back = SourceEvent::WentBack { partition: partition(), log, reason: "it ends at 2".into() };
        let skipped = SourceEvent::Skipped { partition: partition(), from: 0, to: 1 };
        for event in [went_back, skipped] {
            let mut stage = Stage::new(Some(40));
            stage.assign(Some(30)).unwrap();
            let told = event.clone();
            stage.tell(move |owner| owner.event(told)).unwrap();
            stage.give(0..2).unwrap();
            assert_eq!((&stage.owner.offsets[..], &stage.owner.events[..]), (&[0, 1][..], &[event][..]));
        }
        let mut stage = Stage::new(Some(40));
        stage.assign(Some(30)).unwrap();
        stage.tell(|owner| owner.event(SourceEvent::Reachable)).unwrap();
        stage.give(38..42).unwrap();
        assert_eq!(
            (&stage.owner.offsets[..], stage.owner.events.len()),
            (&[40, 41][..], 1),
            "any other event changes nothing"
        );
    }

    #[test]
    fn a_source_inside_that_is_beyond_help_is_so_outside_too() {
        let mut stage = Stage::new(None);
        stage.script.is_broken.store(true, Ordering::Relaxed);
        assert_eq!(stage.assign(None), Err(SourceFatal("broken".into())));
    }

    /// A store that never answers.
    struct Silence;

    impl OffsetStore for Silence {
        fn load(&self, _: &str, _: &TopicPartition) -> BoxFuture<'static, Result<Option<Commit>, String>> {
            Box::pin(std::future::pending())
        }

        fn store(&self, _: &str, _: Vec<Commit>) -> BoxFuture<'static, Result<(), String>> {
            Box::pin(std::future::pending())
        }
    }

    #[test]
    fn a_store_that_never_answers_is_waited_for_within_bounds_and_named() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (script, mut owner) = (Script::default(), Owner { to_commit: vec![commit(9)], ..Owner::default() });
        let handle = runtime.handle().clone();
        let mut source = StoredOffsets::new(Box::new(script.clone()), Arc::new(Silence), "billing".into(), handle);
        let assignment = Assignment { partition: partition(), committed: None, log: None };
        script.turns.lock().unwrap().push(Box::new(move |owner| drop(owner.assigned(vec![assignment]))));
        // Whoever polls it has a thread of their own; the runtime's time goes on meanwhile.
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(|| runtime.block_on(async { drop(stopped.await) }));
            let fatal = source.poll(Duration::ZERO, &mut owner).unwrap_err().0;
            assert!(fatal.contains("no answer from the store within 5 s"), "{fatal}");
            drop(stop);
        });
    }
}
