//! What there is to see of a subscription, and whether it is well.
//!
//! The pump and the partitions' actors write to a board; whoever asks reads a snapshot from it and waits for nobody, so an
//! answer comes though everything else stands still. *Live*: the pump ticks and the actors answer. *Ready*: it knows its place in
//! the group, and the log answers. *Stalled*: there are records to be done and, for too long, none of them got done; the
//! snapshot names the record in the way. A halted partition counts as stalled at once.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use serde::Serialize;

use super::{
    clock::whole_ms,
    loss::{LossCounters, Losses, LostRange},
    partition::{PartitionBoard, PartitionReport},
    partition_core::Front,
};
use crate::{ports::SourceEvent, record::TopicPartition};

/// A pump that has not ticked for this long is dead. A drain takes two seconds, a synchronous commit some more.
pub const TICK_LATE: Duration = Duration::from_secs(10);
/// Bytes of a key that are shown.
const KEY_BYTES_MAX: usize = 128;
/// Keys to be released from quarantine that wait for the pump.
const RELEASED_KEYS_MAX: usize = 10_000;

/// A subscription's health.
#[derive(Clone, Debug, Serialize)]
pub struct SubscriptionHealth {
    /// Its name.
    pub name: Arc<str>,
    /// Its consumer group.
    pub group: Arc<str>,
    /// The pump ticks and the partitions' actors answer.
    pub is_live: bool,
    /// It knows its place in the group and the log answers.
    pub is_ready: bool,
    /// Live, ready, nothing stalled, and dead letters can be written.
    pub is_healthy: bool,
    /// What is wrong, a sentence each; empty when it is healthy.
    pub complaints: Vec<String>,
    /// Milliseconds since the pump ticked.
    pub ticked_ms_ago: i64,
    /// Times that the source had to be opened again.
    pub source_failures: u64,
    /// Answers that came after their epoch.
    pub stale_completions: u64,
    /// Drains so far.
    pub drains: u64,
    /// How long the last one took.
    pub last_drain_ms: i64,
    /// What was lost, and not acknowledged.
    pub lost_ranges: Vec<LostRange>,
    /// What became of its logs.
    pub losses: LossCounters,
    /// Its partitions.
    pub partitions: Vec<PartitionHealth>,
}

/// A partition's health. The actors publish it some times a second.
#[derive(Clone, Debug, Serialize)]
pub struct PartitionHealth {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// Which assignment this is, counted by this process.
    pub epoch: u64,
    /// Offsets between the frontier and the log's end, where the end is known.
    pub lag: Option<i64>,
    /// The offset of the first unfinished record.
    pub frontier: Option<i64>,
    /// The offset after the newest record in the log, where it is known.
    pub high_watermark: Option<i64>,
    /// Records that came so far.
    pub received: u64,
    /// Records finished so far.
    pub finished: u64,
    /// Records here and not finished.
    pub unfinished: usize,
    /// Records with the handler.
    pub in_flight: usize,
    /// How long the oldest of them has been there.
    pub oldest_in_flight_ms: Option<i64>,
    /// Keys that have records here.
    pub lanes: usize,
    /// Keys that wait to be tried again.
    pub waiting_for_retry: usize,
    /// Failed tries so far.
    pub failures: u64,
    /// Times so far that a record could not be tried.
    pub not_now: u64,
    /// Dead letters written so far.
    pub dead_letters: u64,
    /// Dead letters being written.
    pub dead_letters_in_flight: usize,
    /// Dead letters that could not be written so far.
    pub dead_letter_failures: u64,
    /// Why the last dead letter could not be written.
    pub dead_letter_error: Option<String>,
    /// Records that a former owner had finished.
    pub finished_before: u64,
    /// Commits acknowledged so far.
    pub commits: u64,
    /// Commits failed so far.
    pub commit_failures: u64,
    /// Why the last commit failed; nothing once one went well.
    pub commit_error: Option<String>,
    /// How long the last commit took.
    pub commit_latency_ms: Option<i64>,
    /// How long it has been without credit.
    pub without_credit_ms: i64,
    /// Why it cannot be read now.
    pub source_error: Option<String>,
    /// Why a handler stopped it.
    pub halted: Option<String>,
    /// The record in the way, if it has been there for too long.
    pub stall: Option<Stall>,
}

/// Why a partition does not get on.
#[derive(Clone, Debug, Serialize)]
pub struct Stall {
    /// For how long.
    pub for_ms: i64,
    /// The sequence number of the record in the way; nothing where no record comes at all.
    pub sequence: Option<u64>,
    /// Its offset, or the one at which nothing comes.
    pub offset: i64,
    /// Its key, as far as it is text.
    pub key: Option<String>,
    /// What it is doing.
    pub state: &'static str,
    /// How often it was tried.
    pub attempts: u32,
    /// Its last failure.
    pub error: Option<String>,
}

/// Where the pump and the actors of one subscription write.
pub(crate) struct SubscriptionBoard {
    name: Arc<str>,
    group: Arc<str>,
    stall_after: Duration,
    is_stopping: AtomicBool,
    ticked_at_ms: AtomicI64,
    stale: Arc<AtomicU64>,
    losses: Arc<Losses>,
    state: Mutex<BoardState>,
}

#[derive(Default)]
struct BoardState {
    has_joined: bool,
    unreachable: Option<String>,
    source_failures: u64,
    drains: u64,
    last_drain_ms: i64,
    partitions: BTreeMap<TopicPartition, Arc<PartitionPlace>>,
    released_keys: Vec<(TopicPartition, Bytes)>,
}

/// What the pump knows of a partition.
pub(crate) struct PartitionPlace {
    epoch: u64,
    assigned_at_ms: i64,
    board: Arc<PartitionBoard>,
    state: Mutex<PlaceState>,
}

#[derive(Default)]
struct PlaceState {
    high_watermark: Option<i64>,
    /// When a record came last, or could have come again.
    records_at_ms: i64,
    without_credit_since_ms: Option<i64>,
    commits: u64,
    commit_failures: u64,
    commit_error: Option<String>,
    commit_latency_ms: Option<i64>,
    source_error: Option<String>,
}

impl PartitionPlace {
    /// The offset after the newest record, where it is known.
    pub(crate) fn high_watermark(&self) -> Option<i64> {
        self.state().high_watermark
    }

    pub(crate) fn note_records(&self, now_ms: i64) {
        let mut state = self.state();
        state.records_at_ms = now_ms;
        state.source_error = None;
    }

    pub(crate) fn note_credit(&self, has_credit: bool, now_ms: i64) {
        let mut state = self.state();
        match (has_credit, state.without_credit_since_ms) {
            (true, Some(_)) => {
                state.without_credit_since_ms = None;
                state.records_at_ms = now_ms;
            }
            (false, None) => state.without_credit_since_ms = Some(now_ms),
            (true, None) | (false, Some(_)) => {}
        }
    }

    pub(crate) fn note_commit(&self, took: Option<Duration>, error: Option<&str>) {
        let mut state = self.state();
        state.commit_latency_ms = took.map(whole_ms).or(state.commit_latency_ms);
        state.commit_error = error.map(str::to_owned);
        match error {
            None => state.commits += 1,
            Some(_) => state.commit_failures += 1,
        }
    }

    fn state(&self) -> MutexGuard<'_, PlaceState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn health(&self, partition: &TopicPartition, stall_after: Duration, now_ms: i64) -> PartitionHealth {
        let report = self.board.report(|report| report.clone());
        let state = self.state();
        let lag = state.high_watermark.zip(report.frontier).map(|(high, frontier)| (high - frontier).max(0));
        let has_credit = state.without_credit_since_ms.is_none();
        PartitionHealth {
            topic: Arc::clone(&partition.topic),
            partition: partition.partition,
            epoch: self.epoch,
            lag,
            frontier: report.frontier,
            high_watermark: state.high_watermark,
            received: report.counters.received,
            finished: report.counters.finished,
            unfinished: report.unfinished,
            in_flight: report.delivered,
            oldest_in_flight_ms: report.oldest_delivery_ms.map(|at_ms| (now_ms - at_ms).max(0)),
            lanes: report.lanes,
            waiting_for_retry: report.waiting,
            failures: report.counters.failures,
            not_now: report.counters.not_now,
            dead_letters: report.counters.dead_letters,
            dead_letters_in_flight: report.dead_lettering,
            dead_letter_failures: report.counters.dead_letter_failures,
            dead_letter_error: report.dead_letter_error.clone(),
            finished_before: report.counters.finished_before,
            commits: state.commits,
            commit_failures: state.commit_failures,
            commit_error: state.commit_error.clone(),
            commit_latency_ms: state.commit_latency_ms,
            without_credit_ms: state.without_credit_since_ms.map_or(0, |since_ms| now_ms - since_ms),
            source_error: state.source_error.clone(),
            stall: stall(&report, lag, has_credit, state.records_at_ms.max(self.assigned_at_ms), stall_after, now_ms),
            halted: report.halted,
        }
    }
}

/// The stall detector. A record that stands at the frontier for too long is in the way; so is a log that has records, is
/// asked for them, and gives none.
fn stall(
    report: &PartitionReport,
    lag: Option<i64>,
    has_credit: bool,
    records_at_ms: i64,
    stall_after: Duration,
    now_ms: i64,
) -> Option<Stall> {
    if let Some(Front { sequence, offset, key, state, error, attempts }) = &report.front {
        let for_ms = now_ms - report.front_since_ms;
        let is_stalled = for_ms >= whole_ms(stall_after) || report.halted.is_some();
        return is_stalled.then(|| Stall {
            for_ms,
            sequence: Some(*sequence),
            offset: *offset,
            key: key.as_ref().map(|key| String::from_utf8_lossy(&key[..key.len().min(KEY_BYTES_MAX)]).into_owned()),
            state,
            attempts: *attempts,
            error: error.clone(),
        });
    }
    let for_ms = now_ms - records_at_ms;
    let gives_none =
        report.at_ms > 0 && lag.is_some_and(|lag| lag > 0) && has_credit && for_ms >= whole_ms(stall_after);
    gives_none.then(|| Stall {
        for_ms,
        sequence: None,
        offset: report.frontier.unwrap_or(0),
        key: None,
        state: "the log has records and gives none",
        attempts: 0,
        error: None,
    })
}

impl SubscriptionBoard {
    pub(crate) fn new(
        name: Arc<str>,
        group: Arc<str>,
        stall_after: Duration,
        losses: Arc<Losses>,
        now_ms: i64,
    ) -> Self {
        Self {
            name,
            group,
            stall_after,
            is_stopping: AtomicBool::new(false),
            ticked_at_ms: AtomicI64::new(now_ms),
            stale: Arc::default(),
            losses,
            state: Mutex::default(),
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    pub(crate) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
    }

    pub(crate) fn ticked(&self, now_ms: i64) {
        self.ticked_at_ms.store(now_ms, Ordering::Relaxed);
    }

    pub(crate) fn losses(&self) -> &Losses {
        &self.losses
    }

    pub(crate) fn stale(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.stale)
    }

    pub(crate) fn has_joined(&self) {
        let mut state = self.state();
        state.has_joined = true;
        state.unreachable = None;
    }

    pub(crate) fn assigned(
        &self,
        partition: &TopicPartition,
        epoch: u64,
        board: Arc<PartitionBoard>,
        now_ms: i64,
    ) -> Arc<PartitionPlace> {
        let place = Arc::new(PartitionPlace { epoch, assigned_at_ms: now_ms, board, state: Mutex::default() });
        self.state().partitions.insert(partition.clone(), Arc::clone(&place));
        place
    }

    pub(crate) fn unassigned(&self, partition: &TopicPartition) {
        self.state().partitions.remove(partition);
    }

    pub(crate) fn drained(&self, took: Duration) {
        let mut state = self.state();
        state.drains += 1;
        state.last_drain_ms = whole_ms(took);
    }

    pub(crate) fn source_failed(&self, reason: String) {
        let mut state = self.state();
        state.source_failures += 1;
        state.has_joined = false;
        state.unreachable = Some(reason);
    }

    pub(crate) fn event(&self, event: SourceEvent) {
        let mut state = self.state();
        match event {
            SourceEvent::Reachable => state.unreachable = None,
            SourceEvent::Unreachable(reason) => state.unreachable = Some(reason),
            SourceEvent::PartitionFailed(partition, reason) => {
                if let Some(place) = state.partitions.get(&partition) {
                    place.state().source_error = Some(reason);
                }
            }
            SourceEvent::HighWatermark(partition, offset) => {
                if let Some(place) = state.partitions.get(&partition) {
                    place.state().high_watermark = Some(offset);
                }
            }
            // The pump's to deal with; what there is to see of it stands in the losses.
            SourceEvent::Unreadable { .. } | SourceEvent::Skipped { .. } | SourceEvent::WentBack { .. } => {}
        }
    }

    /// False when too many wait already.
    pub(crate) fn release_key(&self, partition: TopicPartition, key: Bytes) -> bool {
        let mut state = self.state();
        let has_room = state.released_keys.len() < RELEASED_KEYS_MAX;
        if has_room {
            state.released_keys.push((partition, key));
        }
        has_room
    }

    pub(crate) fn take_released_keys(&self) -> Vec<(TopicPartition, Bytes)> {
        std::mem::take(&mut self.state().released_keys)
    }

    pub(crate) fn health(&self, now_ms: i64) -> SubscriptionHealth {
        let state = self.state();
        let ticked_ms_ago = now_ms - self.ticked_at_ms.load(Ordering::Relaxed);
        let partitions: Vec<PartitionHealth> = state
            .partitions
            .iter()
            .map(|(partition, place)| place.health(partition, self.stall_after, now_ms))
            .collect();
        let answer_late = |(partition, place): (&TopicPartition, &Arc<PartitionPlace>)| {
            let answered_at_ms = place.board.report(|report| report.at_ms).max(place.assigned_at_ms);
            (now_ms - answered_at_ms > whole_ms(TICK_LATE)).then(|| format!("the actor of {partition} does not answer"))
        };
        let mut complaints: Vec<String> = state.partitions.iter().filter_map(answer_late).collect();
        if ticked_ms_ago > whole_ms(TICK_LATE) {
            complaints.push(format!("the pump has not ticked for {ticked_ms_ago} ms"));
        }
        let is_live = complaints.is_empty();
        if let Some(reason) = &state.unreachable {
            complaints.push(format!("the log cannot be read: {reason}"));
        }
        if !state.has_joined {
            complaints.push("no place in the group yet".to_owned());
        }
        let is_ready = state.has_joined && state.unreachable.is_none();
        complaints.extend(self.losses.complaints(now_ms, |partition| {
            state.partitions.get(partition).map(|place| place.board.report(|report| report.frontier))
        }));
        complaints.extend(partitions.iter().filter_map(complaint));
        SubscriptionHealth {
            name: Arc::clone(&self.name),
            group: Arc::clone(&self.group),
            is_live,
            is_ready,
            is_healthy: complaints.is_empty(),
            complaints,
            ticked_ms_ago,
            source_failures: state.source_failures,
            stale_completions: self.stale.load(Ordering::Relaxed),
            drains: state.drains,
            last_drain_ms: state.last_drain_ms,
            lost_ranges: self.losses.ranges(),
            losses: self.losses.counters(),
            partitions,
        }
    }

    fn state(&self) -> MutexGuard<'_, BoardState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn complaint(health: &PartitionHealth) -> Option<String> {
    let place = format!("{}/{}", health.topic, health.partition);
    if let Some(reason) = &health.halted {
        return Some(format!("{place} was stopped by its handler: {reason}"));
    }
    if let Some(Stall { for_ms, offset, key, state, error, .. }) = &health.stall {
        let key = key.as_deref().unwrap_or("none");
        let error = error.as_deref().map(|error| format!(" ({error})")).unwrap_or_default();
        return Some(format!("{place} has not moved for {for_ms} ms: offset {offset}, key {key}, {state}{error}"));
    }
    if let Some(error) = &health.dead_letter_error {
        return Some(format!("{place}: dead letters cannot be written: {error}"));
    }
    if let Some(error) = &health.commit_error {
        return Some(format!("{place}: the last commit failed: {error}"));
    }
    health.source_error.as_ref().map(|error| format!("{place} cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_millis(1_000);

    fn report_with_front(since_ms: i64) -> PartitionReport {
        let front = Front {
            sequence: 7,
            offset: 70,
            key: Some("slow".into()),
            state: "with the handler",
            error: None,
            attempts: 1,
        };
        PartitionReport { at_ms: 1, front: Some(front), front_since_ms: since_ms, ..PartitionReport::default() }
    }

    #[test]
    fn a_record_that_stands_at_the_frontier_for_too_long_is_named() {
        let stalled = stall(&report_with_front(100), None, true, 0, AFTER, 1_100).unwrap();
        assert_eq!((stalled.sequence, stalled.offset, stalled.key.as_deref()), (Some(7), 70, Some("slow")));
        assert!(stall(&report_with_front(101), None, true, 0, AFTER, 1_100).is_none());
    }

    #[test]
    fn a_halted_partition_is_stalled_at_once() {
        let report = PartitionReport { halted: Some("no".into()), ..report_with_front(1_000) };
        assert!(stall(&report, None, true, 0, AFTER, 1_000).is_some());
    }

    #[test]
    fn a_log_that_has_records_and_gives_none_is_a_stall_only_with_credit_and_after_the_time() {
        let report = PartitionReport { at_ms: 1, frontier: Some(5), ..PartitionReport::default() };
        let is_stalled = |lag, has_credit, now_ms| stall(&report, lag, has_credit, 0, AFTER, now_ms).is_some();
        assert!(is_stalled(Some(3), true, 1_000));
        assert!(!is_stalled(Some(3), false, 1_000));
        assert!(!is_stalled(Some(0), true, 1_000));
        assert!(!is_stalled(None, true, 1_000));
        assert!(!is_stalled(Some(3), true, 999));
    }
}
