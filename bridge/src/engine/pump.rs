//! The pump: the thread that belongs to one source.
//!
//! It owns the source, calls [`LogSource::poll`] without pause and is the owner of its partitions: it starts an actor for
//! each, sends it records in batches, holds the credits, collects commits, and drains what is revoked. When the source is
//! beyond help, or a partition's actor has died, it gives everything up and opens a new source, which begins at what is
//! committed. A log that is not the one that was read begins again at its first record; what is missing or cannot be read becomes a
//! dead letter in its place. It ends when its subscription is told to, in order: drained, committed, left. It decides nothing about records.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use ractor::{Actor, ActorCell, ActorRef, ActorStatus};
use runtime::supervision::Backoff;
use tokio::runtime::Handle;

use super::{
    clock::Clock,
    credits::{CreditWindow, least},
    dead_letter::{ErrorKind, notice},
    delivery::Returns,
    gap_map::{self, GapMap},
    health::{PartitionPlace, SubscriptionBoard},
    partition::{Drained, PartitionActor, PartitionArguments, PartitionBoard, PartitionMessage},
    partition_core::CoreSettings,
    subscription::Subscription,
};
use crate::{
    continuity::{Continuity, continuity},
    ports::{Assignment, Commit, Credit, LogSink, LogSource, LogState, PartitionOwner, SourceEvent},
    record::{Record, TopicPartition},
};

/// Records in one message to a partition's actor.
pub const RECORDS_PER_MESSAGE_MAX: usize = 1_024;
/// The longest wait within a poll: how late the pump may notice that it is to stop.
const WAIT_MAX: Duration = Duration::from_millis(20);
/// The wait while some partition has no credit: it must be read on as soon as it has again.
const WAIT_WITHOUT_CREDIT: Duration = Duration::from_millis(1);
/// How often partitions publish what there is to see.
const REPORT_EVERY: Duration = Duration::from_millis(250);
/// How long the next commit of a partition waits for the answer to the one before: while a broker is away its client keeps each for later,
/// and there is to be one, not one for each period.
const COMMIT_ANSWER_WAIT_MAX: Duration = Duration::from_secs(10);
/// What a partition's actor may take to answer beyond the time that it has for draining.
const DRAIN_GRACE: Duration = Duration::from_millis(250);
/// The pauses before a source is opened again.
const REOPEN: Backoff =
    Backoff { first: Duration::from_millis(100), max: Duration::from_secs(10), reset_after: Duration::from_secs(60) };

/// What a pump needs.
pub(crate) struct PumpArguments {
    pub(crate) subscription: Arc<Subscription>,
    pub(crate) dead_letters: Arc<dyn LogSink>,
    pub(crate) board: Arc<SubscriptionBoard>,
    pub(crate) clock: Clock,
    /// Whose children the partitions' actors are.
    pub(crate) parent: ActorCell,
    pub(crate) runtime: Handle,
}

/// Where this process last stood in a partition.
struct Known {
    log_id: Option<Arc<str>>,
    /// The first record that was not finished.
    frontier: Option<i64>,
    /// The end of the log, as far as it was known.
    end: Option<i64>,
}

struct OwnedPartition {
    epoch: u64,
    log_id: Option<Arc<str>>,
    actor: ActorRef<PartitionMessage>,
    returns: Arc<Returns>,
    board: Arc<PartitionBoard>,
    place: Arc<PartitionPlace>,
    window: CreditWindow,
    /// Given to the actor so far.
    sent: u64,
    sent_bytes: u64,
    /// What the log has acknowledged last.
    acknowledged: Option<(i64, String)>,
    committed_sequence: u64,
}

impl OwnedPartition {
    fn held(&self) -> Credit {
        // `finished` first: it is written last.
        let finished = self.board.finished.load(Ordering::Acquire);
        let finished_bytes = self.board.finished_bytes.load(Ordering::Relaxed);
        Credit {
            records: self.sent.saturating_sub(finished) as usize,
            bytes: self.sent_bytes.saturating_sub(finished_bytes) as usize,
        }
    }

    fn is_alive(&self) -> bool {
        self.actor.get_status() < ActorStatus::Stopping
    }
}

/// The owner of a source's partitions; it lives as long as the pump.
pub(crate) struct Pump {
    arguments: PumpArguments,
    partitions: HashMap<TopicPartition, OwnedPartition>,
    /// All of one owner's epochs are different.
    epoch: u64,
    window: CreditWindow,
    /// What all hold, as of the beginning of the turn and counted up since.
    held: Credit,
    report_at: Instant,
    commit_at: Instant,
    commits_sent: HashMap<TopicPartition, Instant>,
    /// Of partitions that were ours: a log that was made again has no commits, and only this tells it from one that is new to us.
    known: HashMap<TopicPartition, Known>,
}

impl Pump {
    pub(crate) fn new(arguments: PumpArguments) -> Self {
        let now = Instant::now();
        Self {
            window: CreditWindow::new(arguments.subscription.limits.all),
            arguments,
            partitions: HashMap::new(),
            epoch: 0,
            held: Credit::NONE,
            report_at: now,
            commit_at: now,
            commits_sent: HashMap::new(),
            known: HashMap::new(),
        }
    }

    /// Runs until the subscription's board says stop. It blocks: it is the body of a thread.
    pub(crate) fn run(mut self) {
        let mut failures = 0;
        while !self.arguments.board.is_stopping() {
            let opened = Instant::now();
            let reason = match (self.arguments.subscription.open)(&self.arguments.subscription) {
                Ok(source) => self.pump(source),
                Err(reason) => Some(reason),
            };
            let Some(reason) = reason else { return };
            failures = if opened.elapsed() >= REOPEN.reset_after { 1 } else { failures + 1 };
            let chance = (RandomState::new().hash_one(0) % 1_000) as f64 / 1_000.0;
            let pause = REOPEN.pause(failures, chance);
            let name = &self.arguments.subscription.name;
            tracing::warn!(subscription = %name, reason, pause_ms = pause.as_millis() as u64, "the source is opened again");
            self.arguments.board.source_failed(reason);
            self.pause(pause);
        }
    }

    /// Polls one source to its end; nothing when that was asked for, else why.
    fn pump(&mut self, mut source: Box<dyn LogSource>) -> Option<String> {
        loop {
            self.begin_turn();
            let wait = if self.lacks_credit() { WAIT_WITHOUT_CREDIT } else { WAIT_MAX };
            if let Err(fatal) = source.poll(wait, self) {
                self.give_all_up();
                return Some(fatal.to_string());
            }
            let commits = self.due_commits();
            if !commits.is_empty() {
                source.commit(commits);
            }
            if self.arguments.board.is_stopping() {
                source.close(self);
                self.give_all_up();
                return None;
            }
            if let Some(fallen) = self.partitions.iter().find(|(_, owned)| !owned.is_alive()) {
                let reason = format!("the actor of {} fell", fallen.0);
                source.close(self);
                self.give_all_up();
                return Some(reason);
            }
        }
    }

    fn begin_turn(&mut self) {
        self.arguments.board.ticked(self.arguments.clock.now_ms());
        self.held = self.partitions.values().map(OwnedPartition::held).fold(Credit::NONE, |sum, held| Credit {
            records: sum.records + held.records,
            bytes: sum.bytes + held.bytes,
        });
        let now = Instant::now();
        let commit = self.arguments.subscription.commit;
        let commit_is_due = now >= self.commit_at;
        let report_is_due = now >= self.report_at;
        for owned in self.partitions.values_mut() {
            let sequence = owned.board.frontier_sequence.load(Ordering::Relaxed);
            let many_are_finished = sequence.saturating_sub(owned.committed_sequence) >= commit.records;
            let with_commit = commit_is_due || many_are_finished;
            if with_commit {
                owned.committed_sequence = sequence;
            }
            if with_commit || report_is_due {
                drop(owned.actor.send_message(PartitionMessage::Report { with_commit }));
            }
        }
        if commit_is_due {
            self.commit_at = now + commit.every;
        }
        if report_is_due {
            self.report_at = now + REPORT_EVERY;
            let all_is_open = self.window.is_open();
            for owned in self.partitions.values() {
                owned.place.note_credit(all_is_open && owned.window.is_open(), self.arguments.clock.now_ms());
            }
        }
        for (partition, key) in self.arguments.board.take_released_keys() {
            if let Some(owned) = self.partitions.get(&partition) {
                drop(owned.actor.send_message(PartitionMessage::ReleaseKey(key)));
            }
        }
    }

    fn lacks_credit(&self) -> bool {
        !self.window.is_open() || self.partitions.values().any(|owned| !owned.window.is_open())
    }

    /// What the partitions have published since, unless it is acknowledged already.
    fn due_commits(&mut self) -> Vec<Commit> {
        let now = Instant::now();
        let mut commits = Vec::new();
        for (partition, owned) in &self.partitions {
            let sent = self.commits_sent.get(partition);
            if sent.is_some_and(|sent| now.duration_since(*sent) < COMMIT_ANSWER_WAIT_MAX) {
                continue;
            }
            let Some(commit) = owned.board.report(|report| report.commit.take()) else { continue };
            if owned.acknowledged.as_ref() == Some(&commit) {
                continue;
            }
            self.commits_sent.insert(partition.clone(), now);
            let (offset, metadata) = commit;
            commits.push(Commit { partition: partition.clone(), offset, metadata, log_id: owned.log_id.clone() });
        }
        commits
    }

    /// Begins a partition; where it is to be read from, where that is not at what is committed.
    fn begin(&mut self, mut assignment: Assignment) -> Option<i64> {
        let partition = assignment.partition.clone();
        let relation = match (&assignment.log, &assignment.committed, self.known.get(&partition)) {
            (Some(log), Some(commit), _) => continuity(commit.offset, commit.log_id.as_deref(), log),
            // Without a commit only another identity tells: the commits of a group may be removed for other reasons too.
            (Some(log), None, Some(Known { log_id: Some(id), frontier, .. }))
                if log.id.as_ref().is_some_and(|now| now != id) =>
            {
                continuity(frontier.unwrap_or(0), Some(id), log)
            }
            _ => Continuity::GoesOn,
        };
        let log = assignment.log.clone();
        match (relation, log) {
            (Continuity::WentBack(reason), Some(log)) => {
                self.note_went_back(&partition, &log, &reason);
                assignment.committed = None;
                self.start(assignment);
                Some(log.first)
            }
            (Continuity::Skipped { from, to }, _) => {
                if let Some(commit) = &mut assignment.committed {
                    // What a former owner finished of the records that are gone would hide that the others are.
                    let finished = GapMap::decode(commit.offset, &commit.metadata);
                    commit.metadata = gap_map::encode(commit.offset, finished.runs_from(to));
                }
                self.start(assignment);
                self.skipped(&partition, from, to);
                Some(to)
            }
            _ => {
                self.start(assignment);
                None
            }
        }
    }

    fn note_went_back(&mut self, partition: &TopicPartition, log: &LogState, reason: &str) {
        let name = &self.arguments.subscription.name;
        tracing::error!(subscription = %name, %partition, first = log.first, end = log.end, reason,
            "the log went back: it is read again from its first record");
        let losses = self.arguments.board.losses();
        losses.went_back(partition, reason, log.end, self.arguments.clock.now_ms());
        // What the former log still held for us is gone with it.
        if let Some(Known { frontier: Some(frontier), end: Some(end), .. }) = self.known.remove(partition)
            && frontier < end
        {
            tracing::error!(subscription = %name, %partition, first = frontier, last = end - 1,
                "records of the former log were not taken in");
            losses.lost(partition, frontier, end - 1, "the log went away before they were taken in");
        }
    }

    /// Records are gone: what stands for them goes the way of records, so that no commit passes it before its dead letter is durable.
    fn skipped(&mut self, partition: &TopicPartition, from: i64, to: i64) {
        let name = &self.arguments.subscription.name;
        let reason = "removed from the log before they were taken in";
        tracing::error!(subscription = %name, %partition, first = from, last = to - 1, "records were {reason}");
        self.arguments.board.losses().lost(partition, from, to - 1, reason);
        self.records(partition, vec![notice(partition, ErrorKind::Lost, from, to - 1, reason)]);
    }

    fn unreadable(&mut self, partition: &TopicPartition, first: i64, last: i64, reason: &str) {
        let name = &self.arguments.subscription.name;
        tracing::error!(subscription = %name, %partition, first, last, reason,
            "records that cannot be read are stepped over and go to the dead letters");
        self.arguments.board.losses().unreadable(first, last);
        self.records(partition, vec![notice(partition, ErrorKind::Unreadable, first, last, reason)]);
    }

    fn start(&mut self, assignment: Assignment) {
        let log_id = assignment.log_id();
        let Assignment { partition, committed, log: _ } = assignment;
        self.epoch += 1;
        let (arguments, epoch) = (&self.arguments, self.epoch);
        let subscription = &arguments.subscription;
        let limits = subscription.limits;
        let board = Arc::new(PartitionBoard::default());
        let returns = Returns::new(arguments.board.stale());
        let acknowledged = committed.as_ref().map(|commit| (commit.offset, commit.metadata.clone()));
        let place = arguments.board.assigned(&partition, epoch, Arc::clone(&board), arguments.clock.now_ms());
        let partition_arguments = PartitionArguments {
            partition: partition.clone(),
            epoch,
            committed,
            log_id: log_id.clone(),
            settings: CoreSettings {
                retry: subscription.retry,
                on_dead_key: subscription.on_dead_key,
                lane_batch_max: limits.lane_batch_max,
                in_flight_max: limits.in_flight_max,
                seed: RandomState::new().hash_one(epoch),
            },
            group: Arc::clone(&subscription.group),
            handler: Arc::clone(&subscription.handler),
            dead_letters: Arc::clone(&arguments.dead_letters),
            clock: arguments.clock,
            returns: Arc::clone(&returns),
            board: Arc::clone(&board),
        };
        let parent = arguments.parent.clone();
        let spawned =
            arguments.runtime.block_on(PartitionActor::spawn_linked(None, PartitionActor, partition_arguments, parent));
        let actor = match spawned {
            Ok((actor, _)) => actor,
            Err(error) => {
                // Its parent is ending, and with it this pump: no record will be taken.
                tracing::debug!(%partition, %error, "no actor for a partition");
                arguments.board.unassigned(&partition);
                arguments.board.stop();
                return;
            }
        };
        let window = CreditWindow::new(limits.partition);
        let owned = OwnedPartition {
            epoch,
            log_id,
            actor,
            returns,
            board,
            place,
            window,
            sent: 0,
            sent_bytes: 0,
            acknowledged,
            committed_sequence: 0,
        };
        self.partitions.insert(partition, owned);
    }

    /// Nothing is ours any more and nothing is committed.
    fn give_all_up(&mut self) {
        let partitions: Vec<TopicPartition> = self.partitions.keys().cloned().collect();
        self.lost(&partitions);
    }

    fn forget(&mut self, partition: &TopicPartition) -> Option<OwnedPartition> {
        self.arguments.board.unassigned(partition);
        self.commits_sent.remove(partition);
        let owned = self.partitions.remove(partition)?;
        let frontier = owned.board.report(|report| report.frontier);
        let known = Known { log_id: owned.log_id.clone(), frontier, end: owned.place.high_watermark() };
        self.known.insert(partition.clone(), known);
        Some(owned)
    }

    fn pause(&self, pause: Duration) {
        let until = Instant::now() + pause;
        while Instant::now() < until && !self.arguments.board.is_stopping() {
            self.arguments.board.ticked(self.arguments.clock.now_ms());
            thread::sleep(WAIT_MAX.min(pause));
        }
    }
}

impl PartitionOwner for Pump {
    fn assigned(&mut self, assignments: Vec<Assignment>) -> Vec<(TopicPartition, i64)> {
        self.arguments.board.has_joined();
        let mut elsewhere = Vec::new();
        for assignment in assignments {
            tracing::info!(
                subscription = %self.arguments.subscription.name,
                partition = %assignment.partition,
                offset = assignment.committed.as_ref().map(|commit| commit.offset),
                "assigned"
            );
            if self.partitions.contains_key(&assignment.partition) {
                // A source that gives what it has given already has lost it in between.
                self.lost(std::slice::from_ref(&assignment.partition));
            }
            let partition = assignment.partition.clone();
            elsewhere.extend(self.begin(assignment).map(|offset| (partition, offset)));
        }
        elsewhere
    }

    fn credit(&self, partition: &TopicPartition) -> Credit {
        let Some(owned) = self.partitions.get(partition) else { return Credit::NONE };
        let free = owned.window.free(owned.held());
        if owned.board.span.load(Ordering::Relaxed) >= self.arguments.subscription.limits.span_max {
            return Credit::NONE;
        }
        least(free, self.window.free(self.held))
    }

    fn records(&mut self, partition: &TopicPartition, mut records: Vec<Record>) {
        let Some(owned) = self.partitions.get_mut(partition) else { return };
        let bytes: usize = records.iter().map(Record::size_bytes).sum();
        owned.sent += records.len() as u64;
        owned.sent_bytes += bytes as u64;
        self.held = Credit { records: self.held.records + records.len(), bytes: self.held.bytes + bytes };
        owned.place.note_records(self.arguments.clock.now_ms());
        // An actor that is gone is noticed at the end of the turn.
        while records.len() > RECORDS_PER_MESSAGE_MAX {
            let rest = records.split_off(RECORDS_PER_MESSAGE_MAX);
            drop(owned.actor.send_message(PartitionMessage::Records(records)));
            records = rest;
        }
        if !records.is_empty() {
            drop(owned.actor.send_message(PartitionMessage::Records(records)));
        }
    }

    fn revoked(&mut self, partitions: &[TopicPartition]) -> Vec<Commit> {
        let within = self.arguments.subscription.drain_within;
        let began = Instant::now();
        let (reply, drained) = mpsc::channel();
        let mut expected: Vec<u64> = Vec::new();
        for partition in partitions {
            let Some(owned) = self.forget(partition) else { continue };
            let message = PartitionMessage::Drain { within, reply: reply.clone() };
            if owned.actor.send_message(message).is_ok() {
                expected.push(owned.epoch);
            }
        }
        drop(reply);
        let mut commits = Vec::new();
        let until = began + within + DRAIN_GRACE;
        while !expected.is_empty() {
            match drained.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Drained { epoch, commit }) => {
                    expected.retain(|other| *other != epoch);
                    commits.extend(commit);
                }
                // The others have died or hang: nothing of theirs is committed.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        self.arguments.board.drained(began.elapsed());
        tracing::info!(
            subscription = %self.arguments.subscription.name,
            partitions = partitions.len(),
            commits = commits.len(),
            drain_ms = began.elapsed().as_millis() as u64,
            "revoked"
        );
        commits
    }

    fn lost(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            if let Some(owned) = self.forget(partition) {
                tracing::warn!(subscription = %self.arguments.subscription.name, %partition, "given up without a commit");
                // The epoch ends here: from now on every answer is stale, and whatever the actor is doing, nothing follows.
                owned.returns.close();
                owned.board.is_lost.store(true, Ordering::Release);
                owned.actor.stop(None);
            }
        }
    }

    fn committed(&mut self, commit: Commit, result: Result<(), String>) {
        let took = self.commits_sent.remove(&commit.partition).map(|sent| sent.elapsed());
        let Some(owned) = self.partitions.get_mut(&commit.partition) else { return };
        owned.place.note_commit(took, result.as_ref().err().map(String::as_str));
        match result {
            Ok(()) => owned.acknowledged = Some((commit.offset, commit.metadata)),
            // The frontier stays; the next commit is sent whatever it says.
            Err(error) => tracing::warn!(partition = %commit.partition, error, "a commit failed"),
        }
    }

    fn event(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Unreadable { partition, first, last, reason } => {
                self.unreadable(&partition, first, last, &reason);
            }
            SourceEvent::Skipped { partition, from, to } => self.skipped(&partition, from, to),
            SourceEvent::WentBack { partition, log, reason } => {
                // What is on its way was of the former log: its answers are stale, and nothing of it is committed.
                self.lost(std::slice::from_ref(&partition));
                self.note_went_back(&partition, &log, &reason);
                self.start(Assignment { partition, committed: None, log: Some(log) });
            }
            other => self.arguments.board.event(other),
        }
    }
}
