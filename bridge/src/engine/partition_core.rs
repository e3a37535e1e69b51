//! Order and progress of one partition in one epoch: every decision, and nothing else.
//!
//! Values go in (records, answers, the time, the order to drain), values come out ([`Orders`], a commit, the next timer).
//! There is no clock, no I/O and no randomness inside: the same inputs give the same outputs, which is what the simulator
//! lives from. The partition's actor carries the orders out.
//!
//! A record is always in exactly one of these states:
//!
//! ```text
//! queued in its lane ─► delivered ─┬─ done, skipped ──────────────────────────────────► finished
//!       ▲                          ├─ failed ─► waits in the lane ─► queued again
//!       └──────────────────────────┘            (tries used up) ─► being written to the dead letters ─ acknowledged ─► finished
//!                                                                  └─ not written ─► waits in the lane ─► written again
//! ```

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;

use super::{
    dead_letter::{ErrorKind, Failure, UNDECODABLE, cut, notice_kind},
    gap_map::{self, GapMap},
    lanes::{Hold, KeyLanes, LaneId, LaneState},
    ledger::{OffsetLedger, Sequence},
    outcome::{Outcome, Reason, Ticket},
    retry::{RetryPolicy, RetryWheel},
};
use crate::{
    ports::{Commit, SinkError},
    record::Record,
};

/// Keys in quarantine in one partition. Beyond it, records that should become dead letters wait instead.
pub const QUARANTINED_KEYS_MAX: usize = 10_000;

/// After this many refusals a dead letter is written without its content: a log that refuses the same bytes thrice refuses the bytes.
pub const DEAD_LETTER_REFUSALS_MAX: u32 = 3;

/// What becomes of the later records of a key of which one record is a dead letter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDeadKey {
    /// They are delivered as if nothing had happened.
    #[default]
    Continue,
    /// They follow it to the dead letters, so that a replay of all of them keeps their order. It ends when the key is
    /// [released](PartitionCore::release_key), or when this owner gives the partition up: it is not kept elsewhere. So after a
    /// restart or a rebalance the key's later records are delivered, while its earlier ones still lie among the dead letters.
    Quarantine,
}

/// What a core needs to know.
#[derive(Clone, Copy, Debug)]
pub struct CoreSettings {
    /// The rules of retry.
    pub retry: RetryPolicy,
    /// What becomes of later records of a dead letter's key.
    pub on_dead_key: OnDeadKey,
    /// Records of one key given at once, in order.
    pub lane_batch_max: usize,
    /// Records delivered and not settled, and dead letters not acknowledged.
    pub in_flight_max: usize,
    /// What the jitter is drawn from.
    pub seed: u64,
}

/// What is to be carried out.
#[derive(Debug, Default)]
pub struct Orders {
    /// To be given to the handler, a lane's records side by side and in order.
    pub deliveries: Vec<DeliveryOrder>,
    /// To be written to the dead letters.
    pub dead_letters: Vec<DeadLetterOrder>,
}

/// A record to be given to the handler.
#[derive(Debug)]
pub struct DeliveryOrder {
    /// What its answer will be known by.
    pub ticket: Ticket,
    /// The batch that the record is in.
    pub records: Arc<Vec<Record>>,
    /// Its place there.
    pub index: u32,
    /// Which try this is, from 1.
    pub attempt: u32,
    /// The same for one key everywhere in this process; anything for a record without a key.
    pub key_hash: u64,
}

/// A record to be written to the dead letters.
#[derive(Debug)]
pub struct DeadLetterOrder {
    /// What its acknowledgement will be known by.
    pub ticket: Ticket,
    /// The batch that the record is in.
    pub records: Arc<Vec<Record>>,
    /// Its place there.
    pub index: u32,
    /// Why.
    pub failure: Failure,
    /// The log has refused it with its content [too often](DEAD_LETTER_REFUSALS_MAX).
    pub is_without_content: bool,
}

/// What has happened; the numbers only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CoreCounters {
    /// Records that came, those that were finished before among them.
    pub received: u64,
    /// Records that need no more work: their credits are free again.
    pub finished: u64,
    /// Their bytes.
    pub finished_bytes: u64,
    /// Finished by `Done`.
    pub done: u64,
    /// Finished by `Skip`.
    pub skipped: u64,
    /// Finished already when they came: a former owner's gap map said so.
    pub finished_before: u64,
    /// Came although they had come before.
    pub repeated: u64,
    /// Failed tries.
    pub failures: u64,
    /// Times a record could not be tried.
    pub not_now: u64,
    /// Dead letters that were acknowledged.
    pub dead_letters: u64,
    /// Dead letters that could not be written, each time counted.
    pub dead_letter_failures: u64,
    /// Answers to something that was not asked.
    pub stale: u64,
}

/// What stands at the frontier: the record in everybody's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Front {
    /// Its sequence number.
    pub sequence: Sequence,
    /// Its offset.
    pub offset: i64,
    /// Its key.
    pub key: Option<Bytes>,
    /// What it is doing.
    pub state: &'static str,
    /// Its last failure, if it has failed.
    pub error: Option<String>,
    /// How often it was tried.
    pub attempts: u32,
}

#[derive(Debug)]
struct Entry {
    records: Arc<Vec<Record>>,
    index: u32,
    sequence: Sequence,
    delivered_at_ms: i64,
    settled: Settled,
    /// Known when it came, so that the record itself need not be looked at again.
    size_bytes: usize,
    is_unreadable: bool,
}

/// Whether an entry on its way came back, perhaps before others of its lane's batch.
#[derive(Debug, Default, PartialEq, Eq)]
enum Settled {
    #[default]
    NotYet,
    Done,
    Skipped,
    /// Rare, and so kept apart: entries stay small.
    Otherwise(Box<(Outcome, ErrorKind)>),
}

impl Settled {
    fn by(outcome: Outcome, kind: ErrorKind) -> Self {
        match outcome {
            Outcome::Done => Self::Done,
            Outcome::Skip => Self::Skipped,
            other => Self::Otherwise(Box::new((other, kind))),
        }
    }
}

impl Entry {
    fn record(&self) -> &Record {
        &self.records[self.index as usize]
    }
}

#[derive(Debug)]
struct Trouble {
    failure: Failure,
    /// Times in a row that it could not be tried, or its dead letter not be written.
    not_now: u32,
    /// True once it is to become a dead letter.
    is_given_up: bool,
    /// How often its dead letter was refused.
    refusals: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Mode {
    Running,
    Draining,
    Halted(String),
}

/// What the first unfinished record of a lane does next.
enum Fate {
    Wait(Duration),
    GiveUp,
    Halt(Reason),
}

/// The core of one partition; see the module's text.
#[derive(Debug)]
pub struct PartitionCore {
    settings: CoreSettings,
    ledger: OffsetLedger,
    finished_before: GapMap,
    lanes: KeyLanes<Entry>,
    wheel: RetryWheel,
    /// Only of records that have failed.
    troubles: HashMap<Sequence, Trouble>,
    quarantined: HashSet<Bytes>,
    delivered: usize,
    dead_lettering: usize,
    mode: Mode,
    counters: CoreCounters,
    /// When the frontier moved last, or when a record came to stand there.
    front_since_ms: i64,
    dead_letter_error: Option<String>,
}

impl PartitionCore {
    /// The core of a partition that has become ours.
    #[must_use]
    pub fn new(settings: CoreSettings, committed: Option<&Commit>) -> Self {
        Self {
            settings,
            ledger: OffsetLedger::new(committed.map(|commit| commit.offset)),
            finished_before: committed
                .map(|commit| GapMap::decode(commit.offset, &commit.metadata))
                .unwrap_or_default(),
            lanes: KeyLanes::default(),
            wheel: RetryWheel::default(),
            troubles: HashMap::new(),
            quarantined: HashSet::new(),
            delivered: 0,
            dead_lettering: 0,
            mode: Mode::Running,
            counters: CoreCounters::default(),
            front_since_ms: 0,
            dead_letter_error: None,
        }
    }

    /// Takes records in, in the order of their offsets. What was finished before, or came before, is finished at once.
    pub fn receive(&mut self, records: Vec<Record>, now_ms: i64) {
        if self.ledger.span() == 0 {
            self.front_since_ms = now_ms;
        }
        self.counters.received += records.len() as u64;
        let records = Arc::new(records);
        for (index, record) in (0..).zip(records.iter()) {
            if !self.ledger.is_new(record.offset) {
                self.counters.repeated += 1;
                self.free(record.size_bytes());
                continue;
            }
            let sequence = self.ledger.push(record.offset);
            let size_bytes = record.size_bytes();
            if self.finished_before.takes(record.offset) {
                self.counters.finished_before += 1;
                self.free(size_bytes);
                self.ledger.finish(sequence);
                continue;
            }
            let entry = Entry {
                records: Arc::clone(&records),
                index,
                sequence,
                delivered_at_ms: 0,
                settled: Settled::NotYet,
                size_bytes,
                is_unreadable: unreadable(record).is_some(),
            };
            self.lanes.push(record.key.as_ref(), entry);
        }
    }

    /// What is to be done now: deliveries and dead letters, as far as the limit of what is in flight allows.
    pub fn turn(&mut self, now_ms: i64, orders: &mut Orders) {
        if self.mode != Mode::Running {
            return;
        }
        for _ in 0..self.wheel.len() {
            let Some(lane) = self.wheel.next_due(now_ms) else { break };
            self.lanes.make_ready(lane);
        }
        while self.delivered + self.dead_lettering < self.settings.in_flight_max {
            let Some(lane) = self.lanes.next_ready() else { return };
            match self.reason_to_give_up(lane) {
                Some((kind, error)) => self.give_up(lane, kind, error, now_ms, orders),
                None => self.deliver(lane, now_ms, orders),
            }
        }
    }

    /// The handler's answer to a delivery. An answer to something that was not asked is counted and ignored.
    pub fn settle(&mut self, ticket: Ticket, outcome: Outcome, now_ms: i64) {
        self.settled(ticket, outcome, ErrorKind::Failed, now_ms);
    }

    /// A delivery was dropped without an answer: a retry of its lane.
    pub fn dropped(&mut self, ticket: Ticket, in_panic: bool, now_ms: i64) {
        let reason = if in_panic { "the handler panicked" } else { "the handler dropped the delivery" };
        self.settled(ticket, Outcome::retry(reason), ErrorKind::Dropped, now_ms);
    }

    /// The dead letters' answer.
    pub fn dead_letter_written(&mut self, ticket: Ticket, written: Result<(), SinkError>, now_ms: i64) {
        let is_asked = self.lanes.state(ticket.lane) == Some(LaneState::Held(Hold::DeadLetter))
            && self.lanes.head(ticket.lane).is_some_and(|entry| entry.sequence == ticket.sequence);
        if !is_asked {
            self.counters.stale += 1;
            return;
        }
        self.dead_lettering -= 1;
        match written {
            Ok(()) => {
                self.dead_letter_error = None;
                let Some(entry) = self.lanes.pop(ticket.lane) else { return };
                self.counters.dead_letters += 1;
                if let (OnDeadKey::Quarantine, Some(key)) = (self.settings.on_dead_key, &entry.record().key) {
                    // A copy: the record's own slice would keep its whole batch in memory.
                    self.quarantined.insert(Bytes::copy_from_slice(key));
                }
                self.finish(&entry, now_ms);
                self.lanes.release(ticket.lane);
            }
            Err(error) => {
                self.counters.dead_letter_failures += 1;
                self.dead_letter_error = Some(error.to_string());
                let again = self.troubles.get_mut(&ticket.sequence).map_or(1, |trouble| {
                    trouble.not_now += 1;
                    trouble.refusals += u32::from(matches!(error, SinkError::Refused(_)));
                    trouble.not_now
                });
                let pause = self.pause(ticket.sequence, again);
                self.wait(ticket.lane, pause, now_ms);
            }
        }
    }

    /// Begins nothing new from now on: what is queued stays unfinished, what is on its way may still come back.
    pub fn drain(&mut self) {
        self.mode = Mode::Draining;
        self.wheel.clear();
    }

    /// True when nothing is on its way.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.delivered + self.dead_lettering == 0
    }

    /// What to commit now: the frontier's offset, and the gap map. Nothing while nothing is known of the partition.
    #[must_use]
    pub fn commit(&self) -> Option<(i64, String)> {
        let mut offset = self.ledger.frontier()?;
        // A former owner's runs that have not come by again are still true.
        let not_come_yet = self.finished_before.runs_from(self.ledger.next_offset().unwrap_or(offset));
        let mut runs = self.ledger.finished_runs().chain(not_come_yet).peekable();
        // Where all that came is finished, such a run may begin at the frontier itself: then the frontier is behind it.
        while let Some((_, last)) = runs.next_if(|(first, _)| *first == offset) {
            offset = last + 1;
        }
        let metadata = gap_map::encode(offset, runs);
        Some((offset, metadata))
    }

    /// Ends a key's quarantine: its next records are delivered again. False when it was not there.
    pub fn release_key(&mut self, key: &[u8]) -> bool {
        self.quarantined.remove(key)
    }

    /// When [`turn`](Self::turn) has something to do though nothing else happens.
    #[must_use]
    pub fn next_timer_ms(&self) -> Option<i64> {
        self.wheel.next_at_ms()
    }

    /// What has happened.
    #[must_use]
    pub fn counters(&self) -> &CoreCounters {
        &self.counters
    }

    /// Delivered and not settled.
    #[must_use]
    pub fn delivered(&self) -> usize {
        self.delivered
    }

    /// Being written to the dead letters.
    #[must_use]
    pub fn dead_lettering(&self) -> usize {
        self.dead_lettering
    }

    /// Lanes that hold records.
    #[must_use]
    pub fn lanes(&self) -> usize {
        self.lanes.lanes()
    }

    /// Lanes that wait to be tried again.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.wheel.len()
    }

    /// Records that are not finished.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.lanes.entries()
    }

    /// Records from the frontier to the newest.
    #[must_use]
    pub fn span(&self) -> usize {
        self.ledger.span()
    }

    /// The offset of the first unfinished record.
    #[must_use]
    pub fn frontier(&self) -> Option<i64> {
        self.ledger.frontier()
    }

    /// How many records lie behind the frontier.
    #[must_use]
    pub fn frontier_sequence(&self) -> Sequence {
        self.ledger.frontier_sequence()
    }

    /// Since when the same record stands at the frontier; meaningless when none does.
    #[must_use]
    pub fn front_since_ms(&self) -> i64 {
        self.front_since_ms
    }

    /// Why the partition stands still, if a handler said so.
    #[must_use]
    pub fn halted(&self) -> Option<&str> {
        match &self.mode {
            Mode::Halted(reason) => Some(reason),
            Mode::Running | Mode::Draining => None,
        }
    }

    /// Why the last dead letter could not be written; nothing once one could.
    #[must_use]
    pub fn dead_letter_error(&self) -> Option<&str> {
        self.dead_letter_error.as_deref()
    }

    /// When the oldest of the deliveries on their way began. It looks at every lane.
    #[must_use]
    pub fn oldest_delivery_ms(&self) -> Option<i64> {
        let is_delivered = |(state, _): &(LaneState, &Entry)| matches!(state, LaneState::Delivered { .. });
        self.lanes.heads().filter(is_delivered).map(|(_, entry)| entry.delivered_at_ms).min()
    }

    /// The record at the frontier. It looks at every lane.
    #[must_use]
    pub fn front(&self) -> Option<Front> {
        let (sequence, offset) = self.ledger.front()?;
        // The first unfinished record of all is the first of its lane.
        let (state, entry) = self.lanes.heads().find(|(_, entry)| entry.sequence == sequence)?;
        let trouble = self.troubles.get(&sequence);
        let state = match state {
            LaneState::Ready => "queued",
            LaneState::Delivered { .. } => "with the handler",
            LaneState::Held(Hold::Retry) if trouble.is_some_and(|trouble| trouble.is_given_up) => {
                "waiting for its dead letter to be writable"
            }
            LaneState::Held(Hold::Retry) => "waiting to be tried again",
            LaneState::Held(Hold::DeadLetter) => "being written to the dead letters",
            LaneState::Held(Hold::Halt) => "stopped the partition",
        };
        Some(Front {
            sequence,
            offset,
            key: entry.record().key.clone(),
            state,
            error: trouble.map(|trouble| trouble.failure.error.clone()),
            attempts: trouble.map_or(0, |trouble| trouble.failure.attempts),
        })
    }

    fn reason_to_give_up(&self, lane: LaneId) -> Option<(ErrorKind, Option<Reason>)> {
        let entry = self.lanes.head(lane)?;
        let trouble = if self.troubles.is_empty() { None } else { self.troubles.get(&entry.sequence) };
        if let Some(trouble) = trouble.filter(|trouble| trouble.is_given_up) {
            return Some((trouble.failure.kind, None));
        }
        if entry.is_unreadable {
            return unreadable(entry.record());
        }
        let is_quarantined = |key| self.quarantined.contains::<Bytes>(key);
        if !self.quarantined.is_empty() && entry.record().key.as_ref().is_some_and(is_quarantined) {
            return Some((ErrorKind::Quarantined, Some("an earlier record of this key is a dead letter".into())));
        }
        None
    }

    fn give_up(&mut self, lane: LaneId, kind: ErrorKind, error: Option<Reason>, now_ms: i64, orders: &mut Orders) {
        let Some(entry) = self.lanes.head(lane) else { return };
        let (sequence, records, index) = (entry.sequence, Arc::clone(&entry.records), entry.index);
        if let Some(error) = error {
            self.note_failure(sequence, 0, kind, &error, now_ms).is_given_up = true;
        }
        let is_full = self.settings.on_dead_key == OnDeadKey::Quarantine
            && self.quarantined.len() >= QUARANTINED_KEYS_MAX
            && kind != ErrorKind::Quarantined;
        let Some(trouble) = self.troubles.get(&sequence) else { return };
        if is_full {
            self.dead_letter_error = Some(format!("{QUARANTINED_KEYS_MAX} keys are in quarantine already"));
            self.wait(lane, self.settings.retry.backoff.max, now_ms);
            return;
        }
        let ticket = Ticket { sequence, lane };
        let is_without_content = trouble.refusals >= DEAD_LETTER_REFUSALS_MAX;
        let failure = trouble.failure.clone();
        orders.dead_letters.push(DeadLetterOrder { ticket, records, index, failure, is_without_content });
        self.lanes.hold(lane, Hold::DeadLetter);
        self.dead_lettering += 1;
    }

    fn deliver(&mut self, lane: LaneId, now_ms: i64, orders: &mut Orders) {
        let room = self.settings.in_flight_max - self.delivered - self.dead_lettering;
        let count_max = self.settings.lane_batch_max.clamp(1, room);
        let key_hash = self.lanes.key_hash(lane);
        let troubles = &self.troubles;
        let mut count = 0;
        self.lanes.entries_mut(lane, |entry| {
            let trouble = if troubles.is_empty() { None } else { troubles.get(&entry.sequence) };
            // The first was looked at; one behind it that is to be given up waits until it is the first.
            let waits = trouble.is_some_and(|trouble| trouble.is_given_up) || entry.is_unreadable;
            if count > 0 && waits {
                return false;
            }
            count += 1;
            entry.delivered_at_ms = now_ms;
            orders.deliveries.push(DeliveryOrder {
                ticket: Ticket { sequence: entry.sequence, lane },
                records: Arc::clone(&entry.records),
                index: entry.index,
                attempt: trouble.map_or(1, |trouble| trouble.failure.attempts + 1),
                key_hash: key_hash.unwrap_or(entry.sequence),
            });
            count < count_max
        });
        self.delivered += count;
        self.lanes.deliver(lane, count as u32);
    }

    fn settled(&mut self, ticket: Ticket, outcome: Outcome, kind: ErrorKind, now_ms: i64) {
        let Some(LaneState::Delivered { count, .. }) = self.lanes.state(ticket.lane) else {
            self.counters.stale += 1;
            return;
        };
        let (mut settled, mut seen) = (Some(Settled::by(outcome, kind)), 0);
        self.lanes.entries_mut(ticket.lane, |entry| {
            seen += 1;
            if entry.sequence == ticket.sequence && entry.settled == Settled::NotYet {
                entry.settled = settled.take().unwrap_or_default();
            }
            settled.is_some() && seen < count
        });
        if settled.is_some() {
            self.counters.stale += 1;
            return;
        }
        self.delivered -= 1;
        let unsettled = self.lanes.came_back(ticket.lane);
        let left = self.finish_first(ticket.lane, count, now_ms);
        if left == 0 {
            self.lanes.release(ticket.lane);
        } else if unsettled == 0 {
            self.resolve(ticket.lane, left, now_ms);
        }
    }

    /// What is done at the beginning of a lane's batch need not wait for the rest of it. How many are left.
    fn finish_first(&mut self, lane: LaneId, count: u32, now_ms: i64) -> u32 {
        let mut left = count;
        while left > 0 {
            match self.lanes.head(lane).map(|entry| &entry.settled) {
                Some(Settled::Done) => self.counters.done += 1,
                Some(Settled::Skipped) => self.counters.skipped += 1,
                Some(Settled::NotYet | Settled::Otherwise(_)) | None => break,
            }
            let Some(entry) = self.lanes.pop_delivered(lane) else { break };
            self.finish(&entry, now_ms);
            left -= 1;
        }
        left
    }

    /// A lane's batch is back as a whole. What is finished leaves; the first that is not decides what the lane does next.
    /// Those behind it are given again with it, and no attempt of theirs is spent.
    fn resolve(&mut self, lane: LaneId, count: u32, now_ms: i64) {
        let mut fate = None;
        let mut kept = Vec::new();
        for _ in 0..count {
            let Some(mut entry) = self.lanes.pop(lane) else { break };
            match std::mem::take(&mut entry.settled) {
                Settled::Done => {
                    self.counters.done += 1;
                    self.finish(&entry, now_ms);
                }
                Settled::Skipped => {
                    self.counters.skipped += 1;
                    self.finish(&entry, now_ms);
                }
                Settled::Otherwise(answer) => {
                    let (outcome, kind) = *answer;
                    if let Outcome::DeadLetter { kind, reason } = outcome {
                        self.counters.failures += 1;
                        self.note_failure(entry.sequence, 1, kind, &reason, now_ms).is_given_up = true;
                        fate.get_or_insert(Fate::GiveUp);
                    } else if fate.is_none() {
                        fate = Some(self.fate(entry.sequence, outcome, kind, now_ms));
                    }
                    kept.push(entry);
                }
                Settled::NotYet => kept.push(entry),
            }
        }
        for entry in kept.into_iter().rev() {
            self.lanes.push_front(lane, entry);
        }
        match fate {
            None => self.lanes.release(lane),
            // The next turn gives it up.
            Some(Fate::GiveUp) => self.lanes.make_ready(lane),
            Some(Fate::Wait(pause)) => self.wait(lane, pause, now_ms),
            Some(Fate::Halt(reason)) => {
                self.lanes.hold(lane, Hold::Halt);
                if self.mode == Mode::Running {
                    self.mode = Mode::Halted(cut(&reason).to_owned());
                }
            }
        }
    }

    fn fate(&mut self, sequence: Sequence, outcome: Outcome, kind: ErrorKind, now_ms: i64) -> Fate {
        match outcome {
            Outcome::Retry { after, reason } => {
                self.counters.failures += 1;
                let attempts = self.note_failure(sequence, 1, kind, &reason, now_ms).failure.attempts;
                if !self.settings.retry.is_exhausted(attempts) {
                    return Fate::Wait(after.unwrap_or_else(|| self.pause(sequence, attempts)));
                }
                if let Some(trouble) = self.troubles.get_mut(&sequence) {
                    trouble.is_given_up = true;
                }
                Fate::GiveUp
            }
            Outcome::NotNow { after, reason } => {
                self.counters.not_now += 1;
                let trouble = self.note_failure(sequence, 0, kind, &reason, now_ms);
                trouble.not_now += 1;
                let again = trouble.not_now;
                Fate::Wait(after.unwrap_or_else(|| self.pause(sequence, again)))
            }
            Outcome::Halt { reason } => {
                self.note_failure(sequence, 1, kind, &reason, now_ms);
                Fate::Halt(reason)
            }
            // Settled by whoever calls; named here so that a new outcome is not forgotten.
            Outcome::Done | Outcome::Skip | Outcome::DeadLetter { .. } => Fate::GiveUp,
        }
    }

    fn note_failure(
        &mut self,
        sequence: Sequence,
        spent: u32,
        kind: ErrorKind,
        error: &str,
        now_ms: i64,
    ) -> &mut Trouble {
        let trouble = self.troubles.entry(sequence).or_insert_with(|| Trouble {
            failure: Failure { attempts: 0, kind, error: String::new(), first_ms: now_ms, last_ms: now_ms },
            not_now: 0,
            is_given_up: false,
            refusals: 0,
        });
        let failure = &mut trouble.failure;
        failure.attempts = failure.attempts.saturating_add(spent);
        failure.kind = kind;
        failure.last_ms = now_ms;
        failure.error.clear();
        failure.error.push_str(cut(error));
        if spent > 0 {
            trouble.not_now = 0;
        }
        trouble
    }

    fn finish(&mut self, entry: &Entry, now_ms: i64) {
        let before = self.ledger.frontier_sequence();
        self.ledger.finish(entry.sequence);
        if self.ledger.frontier_sequence() != before {
            self.front_since_ms = now_ms;
        }
        if !self.troubles.is_empty() {
            self.troubles.remove(&entry.sequence);
        }
        self.free(entry.size_bytes);
    }

    fn free(&mut self, bytes: usize) {
        self.counters.finished += 1;
        self.counters.finished_bytes += bytes as u64;
    }

    fn wait(&mut self, lane: LaneId, pause: Duration, now_ms: i64) {
        self.lanes.hold(lane, Hold::Retry);
        if self.mode == Mode::Draining {
            return;
        }
        let pause_ms = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
        self.wheel.wait(lane, now_ms.saturating_add(pause_ms));
    }

    fn pause(&self, sequence: Sequence, failures: u32) -> Duration {
        let chance = mixed(self.settings.seed ^ sequence.rotate_left(32) ^ u64::from(failures));
        // 53 bits fill a double.
        self.settings.retry.pause(failures, (chance >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

/// Why a record cannot be given to any handler.
fn unreadable(record: &Record) -> Option<(ErrorKind, Option<Reason>)> {
    if record.headers.as_slice().is_empty() {
        return None;
    }
    if record.headers.unreadable().is_some() {
        return Some((ErrorKind::HeaderName, Some("the name of a header is no UTF-8".into())));
    }
    let reason = record.headers.get(UNDECODABLE)?;
    let kind = notice_kind(record).unwrap_or(ErrorKind::Undecodable);
    Some((kind, Some(String::from_utf8_lossy(reason).into_owned().into())))
}

/// SplitMix64: every bit of the input reaches every bit of the output.
fn mixed(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: CoreSettings = CoreSettings {
        retry: RetryPolicy {
            attempts_max: 2,
            backoff: super::super::retry::ExponentialBackoff {
                first: Duration::from_millis(10),
                max: Duration::from_millis(20),
            },
            jitter: 0.0,
            exhausted: super::super::retry::Exhausted::DeadLetter,
        },
        on_dead_key: OnDeadKey::Continue,
        lane_batch_max: 1,
        in_flight_max: 10,
        seed: 0,
    };

    fn record(offset: i64, key: &'static str) -> Record {
        let (topic, key) = ("t".into(), Some(Bytes::from_static(key.as_bytes())));
        Record { topic, partition: 0, offset, timestamp_ms: None, key, value: None, headers: Default::default() }
    }

    fn commit(offset: i64, runs: &[(i64, i64)]) -> Commit {
        let partition = crate::record::TopicPartition::new("t", 0);
        Commit { partition, offset, metadata: gap_map::encode(offset, runs.iter().copied()), log_id: None }
    }

    fn deliveries(core: &mut PartitionCore, now_ms: i64) -> Vec<DeliveryOrder> {
        let mut orders = Orders::default();
        core.turn(now_ms, &mut orders);
        orders.deliveries
    }

    #[test]
    fn where_a_former_owners_finished_run_begins_at_the_frontier_the_commit_is_behind_it() {
        let mut core = PartitionCore::new(SETTINGS, Some(&commit(10, &[(12, 13), (14, 15), (18, 18)])));
        assert_eq!(core.commit(), Some((10, commit(10, &[(12, 13), (14, 15), (18, 18)]).metadata)));
        core.receive(vec![record(10, "a"), record(11, "b")], 0);
        for order in deliveries(&mut core, 0) {
            core.settle(order.ticket, Outcome::Done, 0);
        }
        assert_eq!(core.commit(), Some((16, commit(16, &[(18, 18)]).metadata)));
        core.receive((12..20).map(|offset| record(offset, "c")).collect(), 0);
        let given: Vec<i64> =
            deliveries(&mut core, 0).iter().map(|order| order.records[order.index as usize].offset).collect();
        assert_eq!((given, core.counters().finished_before, core.unfinished()), (vec![16], 5, 3));
    }

    #[test]
    fn a_record_that_fails_is_given_again_after_its_pause_and_its_lane_waits_while_others_go_on() {
        let mut core = PartitionCore::new(SETTINGS, None);
        core.receive(vec![record(0, "a"), record(1, "a"), record(2, "b")], 0);
        let first = deliveries(&mut core, 0);
        assert_eq!(first.len(), 2, "one of each key");
        core.settle(first[0].ticket, Outcome::retry("no"), 0);
        core.settle(first[1].ticket, Outcome::Done, 0);
        assert_eq!((deliveries(&mut core, 9).len(), core.next_timer_ms()), (0, Some(10)));
        let again = deliveries(&mut core, 10);
        assert_eq!((again.len(), again[0].attempt, again[0].ticket), (1, 2, first[0].ticket));
        // The second failure uses its tries up: a dead letter, and only its acknowledgement finishes it.
        core.settle(again[0].ticket, Outcome::retry("no"), 10);
        let mut orders = Orders::default();
        core.turn(10, &mut orders);
        assert_eq!((orders.deliveries.len(), orders.dead_letters.len(), core.frontier()), (0, 1, Some(0)));
        core.dead_letter_written(again[0].ticket, Ok(()), 10);
        core.dead_letter_written(again[0].ticket, Ok(()), 10);
        assert_eq!((core.frontier(), core.counters().stale), (Some(1), 1));
        assert!(core.troubles.is_empty(), "nothing is kept of what is finished");
        assert_eq!(deliveries(&mut core, 10).len(), 1, "the next of its key");
    }

    #[test]
    fn a_dead_letter_that_is_refused_too_often_is_written_without_its_content_and_one_that_fails_is_not() {
        let mut core = PartitionCore::new(SETTINGS, None);
        core.receive(vec![record(0, "a")], 0);
        let ticket = deliveries(&mut core, 0)[0].ticket;
        core.settle(ticket, Outcome::dead_letter("no"), 0);
        let refused = || SinkError::Refused("too large".to_owned());
        let unavailable = || SinkError::Unavailable("no leader".to_owned());
        let answers = [unavailable(), refused(), unavailable(), refused(), unavailable(), refused(), refused()];
        let mut forms = Vec::new();
        for (turn, answer) in (0..).zip(answers) {
            let mut orders = Orders::default();
            core.turn(turn * 1_000, &mut orders);
            forms.extend(orders.dead_letters.iter().map(|order| order.is_without_content));
            core.dead_letter_written(ticket, Err(answer), turn * 1_000);
        }
        assert_eq!(forms, [false, false, false, false, false, false, true]);
        assert_eq!((core.counters().failures, core.counters().dead_letter_failures), (1, 7));
        assert_eq!(core.front().unwrap().state, "waiting for its dead letter to be writable");
    }

    #[test]
    fn what_comes_twice_is_done_once_and_its_credit_is_free_again() {
        let mut core = PartitionCore::new(SETTINGS, None);
        core.receive(vec![record(5, "a")], 0);
        core.receive(vec![record(4, "a"), record(5, "a"), record(6, "a")], 0);
        assert_eq!((core.unfinished(), core.counters().repeated, core.counters().finished), (2, 2, 2));
    }

    fn dead_letters(core: &mut PartitionCore, now_ms: i64) -> Vec<DeadLetterOrder> {
        let mut orders = Orders::default();
        core.turn(now_ms, &mut orders);
        assert!(orders.deliveries.is_empty(), "nothing is delivered");
        orders.dead_letters
    }

    /// What health says of a core: (delivered, being written to the dead letters, lanes, lanes that wait, unfinished, span).
    fn numbers(core: &PartitionCore) -> (usize, usize, usize, usize, usize, usize) {
        (core.delivered(), core.dead_lettering(), core.lanes(), core.waiting(), core.unfinished(), core.span())
    }

    #[test]
    fn what_stands_at_the_frontier_is_told_whatever_it_is_doing() {
        let mut core = PartitionCore::new(SETTINGS, None);
        assert_eq!((core.front(), core.frontier(), core.commit()), (None, None, None), "nothing is known yet");
        core.receive(vec![record(4, "b"), record(7, "a"), record(8, "c")], 3);
        let first = deliveries(&mut core, 3);
        core.settle(first[0].ticket, Outcome::Done, 5);
        let told = |core: &PartitionCore| {
            let front = core.front().unwrap();
            assert_eq!((front.sequence, front.offset, front.key.as_deref()), (1, 7, Some(&b"a"[..])));
            assert_eq!((core.frontier(), core.frontier_sequence()), (Some(7), 1));
            (front.state, front.attempts, front.error)
        };
        assert_eq!(told(&core), ("with the handler", 0, None));
        let no = || Some("no".to_owned());
        core.settle(first[1].ticket, Outcome::retry("no"), 5);
        assert_eq!(told(&core), ("waiting to be tried again", 1, no()));
        assert_eq!(numbers(&core), (1, 0, 2, 1, 2, 2));
        let again = deliveries(&mut core, 15);
        assert_eq!((told(&core), numbers(&core)), (("with the handler", 1, no()), (2, 0, 2, 0, 2, 2)));
        core.settle(again[0].ticket, Outcome::retry("no"), 15);
        assert_eq!(told(&core), ("queued", 2, no()), "its tries are used up, and its turn comes");
        let letter = dead_letters(&mut core, 15);
        assert_eq!(told(&core), ("being written to the dead letters", 2, no()));
        assert_eq!(numbers(&core), (1, 1, 2, 0, 2, 2));
        core.dead_letter_written(letter[0].ticket, Err(SinkError::Unavailable("away".to_owned())), 15);
        assert_eq!(told(&core), ("waiting for its dead letter to be writable", 2, no()));
        assert_eq!(
            (core.dead_letter_error(), core.counters().dead_letter_failures),
            (Some("not written now: away"), 1)
        );
        assert_eq!(numbers(&core), (1, 0, 2, 1, 2, 2));
        let letter = dead_letters(&mut core, 1_000);
        core.dead_letter_written(letter[0].ticket, Ok(()), 1_000);
        assert_eq!((core.dead_letter_error(), core.frontier(), core.front_since_ms()), (None, Some(8), 1_000));
        assert_eq!(core.halted(), None);
        core.settle(first[2].ticket, Outcome::halt("enough"), 1_000);
        assert_eq!((core.halted(), core.front().unwrap().state), (Some("enough"), "stopped the partition"));
        core.receive(vec![record(9, "d")], 1_001);
        assert!(deliveries(&mut core, 1_001).is_empty(), "nothing more is delivered");
        assert_eq!(numbers(&core), (0, 0, 2, 0, 2, 2));
    }

    #[test]
    fn how_long_a_record_stands_at_the_frontier_is_counted_from_when_it_came_to_stand_there() {
        let mut core = PartitionCore::new(SETTINGS, None);
        core.receive(vec![record(0, "a"), record(1, "b"), record(2, "c")], 5);
        assert_eq!((core.front_since_ms(), core.oldest_delivery_ms()), (5, None));
        let first = deliveries(&mut core, 6);
        core.receive(vec![record(3, "d")], 7);
        let second = deliveries(&mut core, 8);
        assert_eq!((core.front_since_ms(), core.oldest_delivery_ms()), (5, Some(6)), "others behind it change nothing");
        core.settle(first[1].ticket, Outcome::Done, 9);
        assert_eq!(core.front_since_ms(), 5, "nor that they are done");
        core.settle(first[0].ticket, Outcome::Done, 10);
        assert_eq!((core.front_since_ms(), core.frontier()), (10, Some(2)));
        core.settle(first[2].ticket, Outcome::Skip, 11);
        assert_eq!(core.oldest_delivery_ms(), Some(8));
        core.settle(second[0].ticket, Outcome::Done, 12);
        assert_eq!((core.frontier(), core.front(), core.oldest_delivery_ms()), (Some(4), None, None));
        core.receive(vec![record(9, "a")], 20);
        assert_eq!((core.frontier(), core.front_since_ms()), (Some(9), 20), "the first after a quiet time");
        let counters = core.counters();
        assert_eq!((counters.received, counters.done, counters.skipped, counters.finished), (5, 3, 1, 4));
        assert_eq!(counters.finished_bytes, 4, "a byte of key each");
    }

    #[test]
    fn a_partition_is_drained_when_nothing_is_with_the_handler_nor_with_the_dead_letters() {
        let mut core = PartitionCore::new(SETTINGS, None);
        core.receive(vec![record(0, "a"), record(1, "b"), record(2, "a"), record(3, "c")], 0);
        assert!(core.is_drained(), "what is queued is not on its way");
        let given = deliveries(&mut core, 0);
        core.settle(given[2].ticket, Outcome::retry("no"), 0);
        assert_eq!(
            (core.is_drained(), core.next_timer_ms()),
            (false, Some(10)),
            "two are with the handler, and one waits"
        );
        core.settle(given[0].ticket, Outcome::dead_letter("never"), 0);
        let letters = dead_letters(&mut core, 0);
        core.drain();
        assert!(!core.is_drained(), "one each");
        core.settle(given[1].ticket, Outcome::retry("no"), 0);
        assert!(!core.is_drained(), "one is with the dead letters");
        core.dead_letter_written(letters[0].ticket, Ok(()), 0);
        assert!(core.is_drained());
        assert_eq!((core.next_timer_ms(), core.waiting()), (None, 0), "and nothing wakes it again");
        assert!(deliveries(&mut core, 1_000).is_empty(), "nothing begins any more");
        assert_eq!((core.commit(), core.unfinished()), (Some((1, String::new())), 3));
    }

    #[test]
    fn pauses_grow_with_what_fails_in_a_row_and_begin_anew_after_a_failure_of_another_kind() {
        let backoff = super::super::retry::ExponentialBackoff {
            first: Duration::from_millis(10),
            max: Duration::from_millis(80),
        };
        let retry = RetryPolicy { backoff, attempts_max: 3, ..SETTINGS.retry };
        let mut core = PartitionCore::new(CoreSettings { retry, ..SETTINGS }, None);
        core.receive(vec![record(0, "a")], 0);
        let mut now_ms = 0;
        let mut pause_after = |core: &mut PartitionCore, outcome: Outcome| {
            let ticket = deliveries(core, now_ms)[0].ticket;
            core.settle(ticket, outcome, now_ms);
            let pause_ms = core.next_timer_ms().map(|at_ms| at_ms - now_ms);
            now_ms += 1_000;
            pause_ms
        };
        let busy = || Outcome::not_now("busy");
        assert_eq!(
            [busy(), busy(), busy(), busy(), busy()].map(|busy| pause_after(&mut core, busy)),
            [Some(10), Some(20), Some(40), Some(80), Some(80)]
        );
        assert_eq!(pause_after(&mut core, Outcome::retry("no")), Some(10), "the first failure");
        assert_eq!(pause_after(&mut core, busy()), Some(10), "busy for the first time since then");
        assert_eq!(pause_after(&mut core, Outcome::retry("no")), Some(20));
        let after = Some(Duration::from_millis(7));
        assert_eq!(pause_after(&mut core, Outcome::NotNow { after, reason: "busy".into() }), Some(7), "as it is told");
        let counters = core.counters();
        assert_eq!((counters.failures, counters.not_now), (2, 7));
        assert_eq!(pause_after(&mut core, Outcome::retry("no")), None, "its tries are used up");
        // Its dead letter waits likewise, and longer each time.
        let mut now_ms = 10_000;
        let pauses = [(); 5].map(|()| {
            let ticket = dead_letters(&mut core, now_ms)[0].ticket;
            core.dead_letter_written(ticket, Err(SinkError::Unavailable("away".to_owned())), now_ms);
            let pause_ms = core.next_timer_ms().map(|at_ms| at_ms - now_ms);
            now_ms += 1_000;
            pause_ms
        });
        assert_eq!(pauses, [10, 20, 40, 80, 80].map(Some));
        assert_eq!((core.counters().dead_letter_failures, core.counters().failures), (5, 3));
    }

    #[test]
    fn an_answer_is_for_its_own_record_once_and_for_no_other_of_its_batch_or_behind_it() {
        let mut core = PartitionCore::new(CoreSettings { lane_batch_max: 3, ..SETTINGS }, None);
        core.receive((0..5).map(|offset| record(offset, "a")).collect(), 0);
        let given = deliveries(&mut core, 0);
        let [first, second, third] = [0, 1, 2].map(|index: usize| given[index].ticket);
        let told = |core: &PartitionCore| (core.frontier(), core.delivered(), core.counters().stale);
        core.settle(second, Outcome::Done, 0);
        assert_eq!(told(&core), (Some(0), 2, 0), "the first is not done by that");
        core.settle(second, Outcome::Done, 0);
        assert_eq!(told(&core), (Some(0), 2, 1), "nor by the same again");
        core.settle(Ticket { sequence: 3, ..third }, Outcome::Done, 0);
        assert_eq!(told(&core), (Some(0), 2, 2), "what is behind the batch was not asked");
        core.settle(Ticket { lane: third.lane + 1, ..third }, Outcome::Done, 0);
        assert_eq!(told(&core), (Some(0), 2, 3), "there is no such lane");
        core.settle(first, Outcome::Done, 0);
        assert_eq!(told(&core), (Some(2), 1, 3), "the first, and the second with it");
        core.settle(third, Outcome::Skip, 0);
        core.settle(third, Outcome::Skip, 0);
        assert_eq!(told(&core), (Some(3), 0, 4), "the lane waits for its turn: nothing was asked");
        let rest: Vec<i64> =
            deliveries(&mut core, 0).iter().map(|order| order.records[order.index as usize].offset).collect();
        assert_eq!((rest, core.counters().done, core.counters().skipped), (vec![3, 4], 2, 1));
    }

    #[test]
    fn no_more_is_in_flight_than_may_be_and_a_key_fills_what_is_left() {
        let mut core = PartitionCore::new(CoreSettings { lane_batch_max: 3, in_flight_max: 5, ..SETTINGS }, None);
        core.receive((0..8).map(|offset| record(offset, if offset < 4 { "a" } else { "b" })).collect(), 0);
        let given = deliveries(&mut core, 0);
        let offsets: Vec<i64> = given.iter().map(|order| order.records[order.index as usize].offset).collect();
        assert_eq!((offsets, core.delivered()), (vec![0, 1, 2, 4, 5], 5), "a batch of three, and two that are left");
        core.settle(given[0].ticket, Outcome::Done, 0);
        assert!(deliveries(&mut core, 0).is_empty(), "a key waits for all of its batch");
        core.settle(given[3].ticket, Outcome::dead_letter("never"), 0);
        core.settle(given[4].ticket, Outcome::Done, 0);
        assert_eq!((dead_letters(&mut core, 0).len(), core.delivered()), (1, 2));
        core.receive(vec![record(8, "c"), record(9, "c"), record(10, "c")], 0);
        assert_eq!(
            (deliveries(&mut core, 0).len(), core.delivered()),
            (2, 4),
            "a dead letter on its way is in flight, too"
        );
    }

    #[test]
    fn what_fails_together_does_not_come_back_together_and_the_same_seed_gives_the_same_pauses() {
        let backoff = super::super::retry::ExponentialBackoff {
            first: Duration::from_millis(100),
            max: Duration::from_millis(100),
        };
        let retry = RetryPolicy { backoff, jitter: 1.0, ..SETTINGS.retry };
        for seed in [0, u64::MAX, 0x5555_5555_5555_5555] {
            let core = PartitionCore::new(CoreSettings { retry, seed, ..SETTINGS }, None);
            let of_records: Vec<Duration> = (0..1_000).map(|sequence| core.pause(sequence, 1)).collect();
            let of_tries: Vec<Duration> = (1..=1_000).map(|failures| core.pause(7, failures)).collect();
            for pauses in [&of_records, &of_tries] {
                // Evenly over all of the pause: no tenth of it has less than half or more than twice its share.
                let mut tenths = [0; 10];
                pauses.iter().for_each(|pause| tenths[(pause.as_micros() / 10_000).min(9) as usize] += 1);
                assert!(tenths.iter().all(|count| (50..200).contains(count)), "{seed}: {tenths:?}");
            }
            let same = PartitionCore::new(CoreSettings { retry, seed, ..SETTINGS }, None);
            assert_eq!(of_records, (0..1_000).map(|sequence| same.pause(sequence, 1)).collect::<Vec<_>>());
        }
    }

    /// The first numbers of the reference implementation (Vigna, `splitmix64.c`) from the seeds 0 and 1234567.
    #[test]
    fn the_bits_are_mixed_as_splitmix64_mixes_them() {
        let numbers = |seed: u64, count: u64| -> Vec<u64> {
            (0..count).map(|turn| mixed(seed.wrapping_add(turn.wrapping_mul(0x9e37_79b9_7f4a_7c15)))).collect()
        };
        assert_eq!(numbers(0, 3), [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]);
        assert_eq!(numbers(1_234_567, 2), [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }
}
