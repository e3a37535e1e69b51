//! A log in memory: topics, partitions, consumer groups, commits. For tests, benches, and for trying the engine without a broker.
//!
//! It keeps the ports' promises within one process and forgets everything with it: nothing here is durable. Groups rebalance
//! cooperatively: a partition that is to move is revoked from its owner first, and given to the next one when that has let
//! go. Faults can be asked for: commits that fail, members that are expelled, holes as compaction leaves them, records that are removed
//! or cannot be read, topics that are made again.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};

use crate::{
    continuity::{Continuity, continuity},
    ports::{
        Acknowledge, Assignment, Commit, LogSink, LogSource, LogState, METADATA_BYTES_MAX, NotTaken, PartitionOwner,
        SinkError, SourceEvent, SourceFatal, Written,
    },
    record::{OutgoingRecord, Record, TopicPartition},
};

/// Records given at once from one partition.
const BATCH_RECORDS_MAX: usize = 1_024;

/// The log. Clones are the same log.
#[derive(Clone, Default)]
pub struct MemoryLog(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    topics: BTreeMap<Arc<str>, Vec<Partition>>,
    groups: HashMap<Arc<str>, Group>,
    next_member: u64,
    next_log: u64,
    commits_to_fail: usize,
}

#[derive(Default)]
struct Partition {
    id: Option<Arc<str>>,
    records: Vec<Record>,
    first_offset: i64,
    next_offset: i64,
    /// Runs of offsets whose records no source can give.
    unreadable: Vec<(i64, i64)>,
}

impl Partition {
    fn state(&self) -> LogState {
        LogState { id: self.id.clone(), first: self.first_offset, end: self.next_offset }
    }
}

#[derive(Default)]
struct Group {
    /// Which topics each member reads.
    members: BTreeMap<u64, Vec<Arc<str>>>,
    expelled: BTreeSet<u64>,
    owners: HashMap<TopicPartition, u64>,
    committed: HashMap<TopicPartition, Commit>,
}

impl MemoryLog {
    /// An empty log.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a topic, or does nothing when it is there.
    pub fn create_topic(&self, topic: &str, partitions: usize) {
        let mut state = self.state();
        state.next_log += 1;
        let id: Option<Arc<str>> = Some(format!("log-{}", state.next_log).into());
        let make = || (0..partitions).map(|_| Partition { id: id.clone(), ..Partition::default() }).collect();
        state.topics.entry(topic.into()).or_insert_with(make);
        drop(state);
        self.0.changed.notify_all();
    }

    /// Removes a topic, what is in it and what groups have committed for it: writes to it fail from now on.
    pub fn delete_topic(&self, topic: &str) {
        let mut state = self.state();
        state.topics.remove(topic);
        for group in state.groups.values_mut() {
            group.committed.retain(|partition, _| &*partition.topic != topic);
        }
    }

    /// Removes the records before `offset`, as retention does.
    pub fn remove_before(&self, partition: &TopicPartition, offset: i64) {
        self.change(partition, |place| {
            place.records.retain(|record| record.offset >= offset);
            place.first_offset = place.first_offset.max(offset);
        });
    }

    /// Takes the newest records away, those from `offset` on: what a log does whose end was lost.
    pub fn cut_at(&self, partition: &TopicPartition, offset: i64) {
        self.change(partition, |place| {
            place.records.retain(|record| record.offset < offset);
            place.next_offset = place.next_offset.min(offset);
        });
    }

    /// Makes what lies from `first` to `last` unreadable, as damage on a disk does.
    pub fn damage(&self, partition: &TopicPartition, first: i64, last: i64) {
        self.change(partition, |place| place.unreadable.push((first, last)));
    }

    fn change(&self, partition: &TopicPartition, change: impl FnOnce(&mut Partition)) {
        let index = usize::try_from(partition.partition).unwrap_or(usize::MAX);
        let mut state = self.state();
        if let Some(place) = state.topics.get_mut(&partition.topic).and_then(|partitions| partitions.get_mut(index)) {
            change(place);
        }
        drop(state);
        self.0.changed.notify_all();
    }

    /// Writes a record. Its partition is the one it names, or its key's.
    ///
    /// # Errors
    /// [`SinkError::Unavailable`] when there is no such topic or partition.
    pub fn write(&self, record: OutgoingRecord) -> Result<Written, SinkError> {
        let mut state = self.state();
        let missing = || SinkError::Unavailable(format!("there is no partition for topic {}", record.topic));
        let partitions = state.topics.get_mut(&record.topic).ok_or_else(missing)?;
        let index = match (record.partition, &record.key) {
            (Some(partition), _) => usize::try_from(partition).map_err(|_| missing())?,
            (None, Some(key)) => {
                let mut hasher = DefaultHasher::new();
                key.hash(&mut hasher);
                (hasher.finish() % partitions.len().max(1) as u64) as usize
            }
            // To the shortest: records without a key are spread.
            (None, None) => {
                let by_length = |index: &usize| partitions[*index].next_offset;
                (0..partitions.len()).min_by_key(by_length).ok_or_else(missing)?
            }
        };
        let partition = partitions.get_mut(index).ok_or_else(missing)?;
        let offset = partition.next_offset;
        partition.next_offset += 1;
        let OutgoingRecord { topic, key, value, timestamp_ms, headers, .. } = record;
        let index = i32::try_from(index).unwrap_or(i32::MAX);
        partition.records.push(Record { topic, partition: index, offset, timestamp_ms, key, value, headers });
        drop(state);
        self.0.changed.notify_all();
        Ok(Written { partition: index, offset })
    }

    /// What a partition holds now, in order.
    #[must_use]
    pub fn records(&self, partition: &TopicPartition) -> Vec<Record> {
        let state = self.state();
        state.partition(partition).map(|partition| partition.records.clone()).unwrap_or_default()
    }

    /// Leaves holes, as compaction does: only the records that `keeps` names stay.
    pub fn compact(&self, partition: &TopicPartition, keeps: impl Fn(&Record) -> bool) {
        self.change(partition, |place| place.records.retain(keeps));
    }

    /// What a group has committed for a partition.
    #[must_use]
    pub fn committed(&self, group: &str, partition: &TopicPartition) -> Option<Commit> {
        self.state().groups.get(group)?.committed.get(partition).cloned()
    }

    /// The next `count` commits fail.
    pub fn fail_commits(&self, count: usize) {
        self.state().commits_to_fail = count;
    }

    /// Expels every member of a group, as a coordinator does that has not heard from them: what they own is lost to them.
    pub fn expel_all(&self, group: &str) {
        let mut state = self.state();
        let Some(group) = state.groups.get_mut(group) else { return };
        group.expelled.extend(std::mem::take(&mut group.members).into_keys());
        group.owners.clear();
        drop(state);
        self.0.changed.notify_all();
    }

    /// A member of `group` that reads `topics`. It joins with its first poll.
    #[must_use]
    pub fn source(&self, topics: &[Arc<str>], group: &str) -> Box<dyn LogSource> {
        let mut state = self.state();
        state.next_member += 1;
        Box::new(MemorySource {
            log: self.clone(),
            group: group.into(),
            topics: topics.to_vec(),
            member: state.next_member,
            owned: BTreeMap::new(),
            results: VecDeque::new(),
            has_said_reachable: false,
        })
    }

    /// The log as a sink.
    #[must_use]
    pub fn sink(&self) -> Arc<dyn LogSink> {
        Arc::new(self.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn partition(&self, partition: &TopicPartition) -> Option<&Partition> {
        self.topics.get(&partition.topic)?.get(usize::try_from(partition.partition).ok()?)
    }

    /// Which partitions a member should own: every partition goes to the members that read its topic, in turn.
    fn share_of(&self, group: &Group, member: u64) -> BTreeSet<TopicPartition> {
        let mut share = BTreeSet::new();
        for (topic, partitions) in &self.topics {
            let readers: Vec<u64> =
                group.members.iter().filter(|(_, topics)| topics.contains(topic)).map(|(member, _)| *member).collect();
            let mine = (0..).zip(partitions).map(|(index, _)| index);
            let mine = mine.filter(|index| {
                readers.get(*index as usize % readers.len().max(1)).is_some_and(|reader| *reader == member)
            });
            share.extend(mine.map(|index| TopicPartition::new(Arc::clone(topic), index)));
        }
        share
    }
}

impl LogSink for MemoryLog {
    fn send(&self, record: &OutgoingRecord, acknowledge: Acknowledge) -> Result<(), NotTaken> {
        acknowledge(self.write(record.clone()));
        Ok(())
    }

    fn room(&self) -> BoxFuture<'static, ()> {
        futures::future::ready(()).boxed()
    }

    fn flush(&self, _deadline: Duration) -> BoxFuture<'static, bool> {
        futures::future::ready(true).boxed()
    }
}

struct MemorySource {
    log: MemoryLog,
    group: Arc<str>,
    topics: Vec<Arc<str>>,
    member: u64,
    owned: BTreeMap<TopicPartition, Reading>,
    results: VecDeque<(Commit, Result<(), String>)>,
    has_said_reachable: bool,
}

struct Reading {
    log_id: Option<Arc<str>>,
    next_offset: i64,
    high_watermark: i64,
}

impl MemorySource {
    /// Joins where needed, gives up what is another's by now, takes what is free.
    fn rebalance(&mut self, owner: &mut dyn PartitionOwner) -> bool {
        let mut state = self.log.state();
        let group = state.groups.entry(Arc::clone(&self.group)).or_default();
        if group.expelled.remove(&self.member) {
            drop(state);
            let lost: Vec<TopicPartition> = std::mem::take(&mut self.owned).into_keys().collect();
            owner.lost(&lost);
            return true;
        }
        let has_joined = group.members.insert(self.member, self.topics.clone()).is_none();
        let share = match state.groups.get(&self.group) {
            Some(group) => state.share_of(group, self.member),
            None => BTreeSet::new(),
        };
        drop(state);
        let revoked: Vec<TopicPartition> = self.owned.keys().filter(|owned| !share.contains(owned)).cloned().collect();
        if !revoked.is_empty() {
            self.give_up(&revoked, owner);
        }
        let assignments = self.take_free(&share);
        let has_news = has_joined || !revoked.is_empty() || !assignments.is_empty();
        if has_joined || !assignments.is_empty() {
            for (partition, offset) in owner.assigned(assignments) {
                if let Some(reading) = self.owned.get_mut(&partition) {
                    reading.next_offset = offset;
                }
            }
        }
        has_news
    }

    fn take_free(&mut self, share: &BTreeSet<TopicPartition>) -> Vec<Assignment> {
        let mut state = self.log.state();
        let mut assignments = Vec::new();
        for partition in share {
            if self.owned.contains_key(partition) {
                continue;
            }
            let log = state.partition(partition).map(Partition::state);
            let first_offset = log.as_ref().map_or(0, |log| log.first);
            let Some(group) = state.groups.get_mut(&self.group) else { continue };
            if group.owners.contains_key(partition) {
                continue;
            }
            group.owners.insert(partition.clone(), self.member);
            let committed = group.committed.get(partition).cloned();
            let next_offset = committed.as_ref().map_or(first_offset, |commit| commit.offset);
            let log_id = log.as_ref().and_then(|log| log.id.clone());
            self.owned.insert(partition.clone(), Reading { log_id, next_offset, high_watermark: -1 });
            assignments.push(Assignment { partition: partition.clone(), committed, log });
        }
        assignments
    }

    fn give_up(&mut self, partitions: &[TopicPartition], owner: &mut dyn PartitionOwner) {
        let commits = owner.revoked(partitions);
        let mut state = self.log.state();
        for commit in commits {
            drop(store(&mut state, &self.group, self.member, &commit));
        }
        for partition in partitions {
            self.owned.remove(partition);
            let Some(group) = state.groups.get_mut(&self.group) else { continue };
            if group.owners.get(partition) == Some(&self.member) {
                group.owners.remove(partition);
            }
        }
        drop(state);
        self.log.0.changed.notify_all();
    }

    fn read(&mut self, owner: &mut dyn PartitionOwner) -> bool {
        let mut has_news = false;
        for (partition, reading) in &mut self.owned {
            let credit = owner.credit(partition);
            let mut records = Vec::new();
            let state = self.log.state();
            let Some(place) = state.partition(partition) else { continue };
            let log = place.state();
            match continuity(reading.next_offset, reading.log_id.as_deref(), &log) {
                Continuity::GoesOn => {}
                Continuity::Skipped { from, to } => {
                    drop(state);
                    reading.next_offset = to;
                    owner.event(SourceEvent::Skipped { partition: partition.clone(), from, to });
                    has_news = true;
                    continue;
                }
                Continuity::WentBack(reason) => {
                    drop(state);
                    *reading = Reading { log_id: log.id.clone(), next_offset: log.first, high_watermark: -1 };
                    owner.event(SourceEvent::WentBack { partition: partition.clone(), log, reason });
                    has_news = true;
                    continue;
                }
            }
            let unreadable = place.unreadable.iter().filter(|(_, last)| *last >= reading.next_offset).min().copied();
            if let Some((first, last)) = unreadable
                && credit.records > 0
                && !place.records.iter().any(|record| (reading.next_offset..first).contains(&record.offset))
            {
                drop(state);
                let first = first.max(reading.next_offset);
                reading.next_offset = last + 1;
                let (partition, reason) = (partition.clone(), "it was damaged".to_owned());
                owner.event(SourceEvent::Unreadable { partition, first, last, reason });
                has_news = true;
                continue;
            }
            let readable_until = unreadable.map_or(i64::MAX, |(first, _)| first);
            let high_watermark = place.next_offset;
            let first = place.records.partition_point(|record| record.offset < reading.next_offset);
            let mut bytes = 0;
            for record in place.records[first..].iter().take(credit.records.min(BATCH_RECORDS_MAX)) {
                if bytes >= credit.bytes || record.offset >= readable_until {
                    break;
                }
                bytes += record.size_bytes();
                records.push(record.clone());
            }
            drop(state);
            if high_watermark != reading.high_watermark {
                reading.high_watermark = high_watermark;
                owner.event(SourceEvent::HighWatermark(partition.clone(), high_watermark));
            }
            if let Some(last) = records.last() {
                reading.next_offset = last.offset + 1;
                owner.records(partition, records);
                has_news = true;
            }
        }
        has_news
    }
}

fn store(state: &mut State, group: &Arc<str>, member: u64, commit: &Commit) -> Result<(), String> {
    if state.commits_to_fail > 0 {
        state.commits_to_fail -= 1;
        return Err("the coordinator was told to refuse".to_owned());
    }
    let group = state.groups.get_mut(group).ok_or("no such group")?;
    if group.owners.get(&commit.partition) != Some(&member) {
        return Err(format!("{} is not this member's", commit.partition));
    }
    if commit.metadata.len() > METADATA_BYTES_MAX {
        return Err(format!("the metadata has {} bytes", commit.metadata.len()));
    }
    group.committed.insert(commit.partition.clone(), commit.clone());
    Ok(())
}

impl LogSource for MemorySource {
    fn poll(&mut self, wait: Duration, owner: &mut dyn PartitionOwner) -> Result<(), SourceFatal> {
        if !std::mem::replace(&mut self.has_said_reachable, true) {
            owner.event(SourceEvent::Reachable);
        }
        let mut has_news = self.rebalance(owner);
        for (commit, result) in std::mem::take(&mut self.results) {
            owner.committed(commit, result);
            has_news = true;
        }
        has_news |= self.read(owner);
        if !has_news {
            // What was written since is found by the next poll: a wait too long by `wait` at most.
            drop(self.log.0.changed.wait_timeout(self.log.state(), wait));
        }
        Ok(())
    }

    fn commit(&mut self, commits: Vec<Commit>) {
        let mut state = self.log.state();
        for commit in commits {
            let result = store(&mut state, &self.group, self.member, &commit);
            self.results.push_back((commit, result));
        }
    }

    fn close(mut self: Box<Self>, owner: &mut dyn PartitionOwner) {
        let owned: Vec<TopicPartition> = self.owned.keys().cloned().collect();
        self.give_up(&owned, owner);
    }
}

impl Drop for MemorySource {
    /// A member that is dropped without a word has left too; what it owned is free.
    fn drop(&mut self) {
        let mut state = self.log.state();
        if let Some(group) = state.groups.get_mut(&self.group) {
            group.members.remove(&self.member);
            group.expelled.remove(&self.member);
            group.owners.retain(|_, owner| *owner != self.member);
        }
        drop(state);
        self.log.0.changed.notify_all();
    }
}
