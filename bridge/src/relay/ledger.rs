//! What the relay knows of each record: waiting, sent, failed, written; and so which one is next, and how far all is done.
//!
//! It owns the entries that were read and are not all written. Only the relay talks to it. It does no input or output, and
//! takes the time as an argument.
//!
//! A lane is one key of one topic: the records of it that are not written, in order. At most [`RelayLimits::burst`] of them
//! are on their way. When one of these fails, it is sent again after a pause and everything of the key behind it as well,
//! even what was written meanwhile: so the log's last word on a key is always the newest. With the usual burst of one,
//! nothing is ever behind it.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    hash::BuildHasher,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use runtime::supervision::Backoff;

use crate::{
    engine::dead_letter::{self, REASON_BYTES_MAX, dead_letter_topic, without_content},
    ports::{OutboxEntry, SinkError, Written},
    record::OutgoingRecord,
};

/// Where a dead letter that the relay wrote has its entry: a position in the outbox.
pub const OUTBOX_POSITION: &str = "dlq-outbox-position";
/// The [`dead_letter::ERROR_KIND`] of a record that the log refused.
pub const REFUSED: &str = "refused";

/// The relay's bounds.
#[derive(Clone, Copy, Debug)]
pub struct RelayLimits {
    /// Records that were read and are not all written: past it nothing more is read. It bounds memory, what a crash
    /// repeats, and how far keys that work may run ahead of one that does not. One reading more than fits is allowed.
    /// More is slower, too: what was read is no longer in the processor's cache when its turn comes.
    pub records_max: usize,
    /// The same in bytes of keys, values and headers.
    pub bytes_max: usize,
    /// Records of one key on their way at once. With 1, a key's records are never written out of order, whatever fails;
    /// a busy key then writes one record per round trip. With more it is that much faster, and where the log fails between
    /// two of them its reader may see a later one before an earlier, and then both again, in order.
    pub burst: usize,
    /// The pauses before a record that was not written is sent again.
    pub backoff: Backoff,
    /// What becomes of a record that the log refuses for ever.
    pub on_refused: OnRefused,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self {
            records_max: 16_384,
            bytes_max: 64 << 20,
            burst: 1,
            backoff: Backoff {
                first: Duration::from_millis(100),
                max: Duration::from_secs(10),
                reset_after: Duration::from_secs(30),
            },
            on_refused: OnRefused::SetAside,
        }
    }
}

/// What becomes of a record that the log refuses for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRefused {
    /// It is written to `<topic>.dlq`, without its value where that is refused too, and its key goes on.
    SetAside,
    /// It is tried again and again, and its key waits for it.
    Wait,
}

/// One sending of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(u64);

/// How much of what is where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelayCounts {
    /// Records read and not all done: the span.
    pub records: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Records on their way.
    pub in_flight: usize,
    /// Keys that wait after a failure.
    pub parked: usize,
    /// Records written, dead letters not counted.
    pub written: u64,
    /// Failures after which a record is sent again.
    pub retries: u64,
    /// Records set aside.
    pub set_aside: u64,
}

/// See the module's text.
pub struct RelayLedger {
    limits: RelayLimits,
    entries: VecDeque<Entry>,
    /// The number of the first entry, counted from the first that was ever pushed.
    first_entry: u64,
    records: VecDeque<Slot>,
    /// The number of the first record, likewise.
    first_record: u64,
    lanes: Vec<Lane>,
    free_lanes: Vec<usize>,
    /// The keyed lanes, by their keys' hashes. The keys are in the lanes, so a lane closes without a look at its key.
    by_key: HashTable<usize>,
    hasher: RandomState,
    ready: VecDeque<usize>,
    parked: BinaryHeap<Reverse<(Instant, usize)>>,
    read_to: u64,
    done_to: u64,
    counts: RelayCounts,
}

/// One key of one topic, and the key's hash.
struct LaneKey {
    topic: Arc<str>,
    key: Bytes,
    hash: u64,
}

struct Entry {
    position: u64,
    records: usize,
    open: usize,
}

struct Slot {
    /// Nothing once it is done.
    record: Option<OutgoingRecord>,
    entry: u64,
    lane: usize,
    bytes: usize,
    form: Form,
    outcome: Outcome,
}

/// What came of a sending, while others of its burst are on their way.
#[derive(Debug, Default)]
enum Outcome {
    #[default]
    Open,
    Written,
    /// Rare, and so kept apart: slots stay small.
    Failed(Box<SinkError>),
}

/// As what a record is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Itself,
    /// To the topic of dead letters.
    DeadLetter,
    /// The same without value and headers of its own: they were refused there too. The outbox still has them.
    Stub,
}

#[derive(Default)]
struct Lane {
    key: Option<LaneKey>,
    /// Numbers of the records that are not done, in order.
    queue: VecDeque<u64>,
    /// How many of them, from the front, are in the present burst.
    sent: usize,
    /// How many of these are not settled.
    unsettled: usize,
    is_ready: bool,
    is_parked: bool,
    failures: u32,
    failing_since: Option<Instant>,
    failure: String,
}

/// A key that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked<'a> {
    /// The record in the way.
    pub record: &'a OutgoingRecord,
    /// The position of its entry.
    pub position: u64,
    /// Since when it fails.
    pub since: Instant,
    /// How often it has failed in a row.
    pub failures: u32,
    /// The last failure.
    pub reason: &'a str,
}

impl RelayLedger {
    /// Begins after `position`: everything up to there is written.
    #[must_use]
    pub fn new(position: u64, limits: RelayLimits) -> Self {
        Self {
            limits,
            entries: VecDeque::new(),
            first_entry: 0,
            records: VecDeque::new(),
            first_record: 0,
            lanes: Vec::new(),
            free_lanes: Vec::new(),
            by_key: HashTable::new(),
            hasher: RandomState::default(),
            ready: VecDeque::new(),
            parked: BinaryHeap::new(),
            read_to: position,
            done_to: position,
            counts: RelayCounts::default(),
        }
    }

    /// The position up to which entries were taken in.
    #[must_use]
    pub fn read_to(&self) -> u64 {
        self.read_to
    }

    /// The position up to which everything is done: written, or set aside.
    #[must_use]
    pub fn done_to(&self) -> u64 {
        self.done_to
    }

    /// True while more entries may be read.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.counts.records < self.limits.records_max && self.counts.bytes < self.limits.bytes_max
    }

    /// How much of what is where.
    #[must_use]
    pub fn counts(&self) -> RelayCounts {
        self.counts
    }

    /// Takes an entry in. They come in the order of their positions.
    ///
    /// # Panics
    /// When it comes out of order: then the outbox is broken, and going on would lose records.
    pub fn push(&mut self, entry: OutboxEntry) {
        assert!(entry.position > self.read_to, "entry {} after {}", entry.position, self.read_to);
        self.read_to = entry.position;
        let number = self.first_entry + self.entries.len() as u64;
        let count = entry.records.len();
        self.entries.push_back(Entry { position: entry.position, records: count, open: count });
        for record in entry.records {
            self.push_record(number, record);
        }
        self.advance();
    }

    fn push_record(&mut self, entry: u64, record: OutgoingRecord) {
        let seq = self.first_record + self.records.len() as u64;
        let lane = self.lane_for(&record);
        let bytes = size_bytes(&record);
        self.records.push_back(Slot {
            record: Some(record),
            entry,
            lane,
            bytes,
            form: Form::Itself,
            outcome: Outcome::Open,
        });
        self.counts.records += 1;
        self.counts.bytes += bytes;
        self.lanes[lane].queue.push_back(seq);
        self.make_ready(lane);
    }

    /// The lane of the record's key, or a new one of its own where it has none.
    fn lane_for(&mut self, record: &OutgoingRecord) -> usize {
        let Some(key) = &record.key else { return self.open(None) };
        let hash = self.hasher.hash_one(&key[..]);
        let is_of = |lane: &usize| {
            self.lanes[*lane].key.as_ref().is_some_and(|other| other.key == key && other.topic == record.topic)
        };
        if let Some(lane) = self.by_key.find(hash, is_of) {
            return *lane;
        }
        let lane = self.open(Some(LaneKey { topic: Arc::clone(&record.topic), key: key.clone(), hash }));
        let lanes = &self.lanes;
        self.by_key.insert_unique(hash, lane, |lane| lanes[*lane].key.as_ref().map_or(0, |key| key.hash));
        lane
    }

    fn open(&mut self, key: Option<LaneKey>) -> usize {
        let lane = self.free_lanes.pop().unwrap_or_else(|| {
            self.lanes.push(Lane::default());
            self.lanes.len() - 1
        });
        self.lanes[lane].key = key;
        lane
    }

    /// Puts a lane in line if it may send: unless a burst of it is on its way, or it waits after a failure.
    fn make_ready(&mut self, lane: usize) {
        let state = &mut self.lanes[lane];
        if !state.is_ready && !state.is_parked && state.sent == 0 && !state.queue.is_empty() {
            state.is_ready = true;
            self.ready.push_back(lane);
        }
    }

    /// The record to be sent next, if there is one; from then on it counts as on its way.
    pub fn next(&mut self, now: Instant) -> Option<(Ticket, &OutgoingRecord)> {
        self.unpark(now);
        let lane = *self.ready.front()?;
        let state = &mut self.lanes[lane];
        let seq = state.queue[state.sent];
        state.sent += 1;
        state.unsettled += 1;
        if state.sent == self.limits.burst.max(1).min(state.queue.len()) {
            state.is_ready = false;
            self.ready.pop_front();
        }
        self.counts.in_flight += 1;
        let slot = &self.records[(seq - self.first_record) as usize];
        slot.record.as_ref().map(|record| (Ticket(seq), record))
    }

    /// The sink did not take the record that [`next`](Self::next) gave last: it is next again.
    pub fn not_taken(&mut self, Ticket(seq): Ticket) {
        let lane = self.records[(seq - self.first_record) as usize].lane;
        let state = &mut self.lanes[lane];
        state.sent -= 1;
        state.unsettled -= 1;
        self.counts.in_flight -= 1;
        if !state.is_ready {
            state.is_ready = true;
            self.ready.push_front(lane);
        }
    }

    /// What came of a record on its way. `jitter` in `0..=1` spreads the pauses.
    pub fn settle(&mut self, Ticket(seq): Ticket, result: Result<Written, SinkError>, now: Instant, jitter: f64) {
        let slot = &mut self.records[(seq - self.first_record) as usize];
        slot.outcome = match result {
            Ok(_) => Outcome::Written,
            Err(error) => Outcome::Failed(Box::new(error)),
        };
        let lane = slot.lane;
        self.counts.in_flight -= 1;
        self.lanes[lane].unsettled -= 1;
        if self.lanes[lane].unsettled == 0 {
            self.end_burst(lane, now, jitter);
            self.advance();
        }
    }

    /// All of a burst is settled: what was written up to the first failure is done; the failure decides what is next.
    fn end_burst(&mut self, lane: usize, now: Instant, jitter: f64) {
        let sent = std::mem::take(&mut self.lanes[lane].sent);
        let mut failure = None;
        for _ in 0..sent {
            let Some(seq) = self.lanes[lane].queue.front().copied() else { break };
            match std::mem::take(&mut self.slot(seq).outcome) {
                Outcome::Written => {
                    self.lanes[lane].queue.pop_front();
                    self.finish(seq);
                    let state = &mut self.lanes[lane];
                    (state.failures, state.failing_since) = (0, None);
                    state.failure.clear();
                }
                Outcome::Failed(error) => {
                    failure = Some((seq, *error));
                    break;
                }
                Outcome::Open => break,
            }
        }
        // What lies behind a failure is sent again, whatever came of it.
        for index in 0..self.lanes[lane].queue.len().min(sent) {
            let seq = self.lanes[lane].queue[index];
            self.slot(seq).outcome = Outcome::Open;
        }
        match failure {
            None => {}
            Some((seq, SinkError::Refused(reason))) if self.set_aside(seq, &reason) => {}
            Some((_, error)) => self.park(lane, error.to_string(), now, jitter),
        }
        if self.lanes[lane].queue.is_empty() {
            self.release(lane);
        } else {
            self.make_ready(lane);
        }
    }

    /// Turns a refused record into the next form that may be taken; false when there is none.
    fn set_aside(&mut self, seq: u64, reason: &str) -> bool {
        if self.limits.on_refused == OnRefused::Wait {
            return false;
        }
        let entry = self.slot(seq).entry;
        let position = self.entries[(entry - self.first_entry) as usize].position;
        let slot = self.slot(seq);
        let Some(record) = slot.record.take() else { return false };
        let (form, record, changed) = match slot.form {
            Form::Itself => (Form::DeadLetter, letter_of(record, position, reason), true),
            Form::DeadLetter => (Form::Stub, without_content(record), true),
            Form::Stub => (Form::Stub, record, false),
        };
        (slot.form, slot.record) = (form, Some(record));
        changed
    }

    fn park(&mut self, lane: usize, failure: String, now: Instant, jitter: f64) {
        let state = &mut self.lanes[lane];
        state.failures = state.failures.saturating_add(1);
        state.failing_since.get_or_insert(now);
        state.failure = failure;
        state.is_parked = true;
        // Only a burst that was not sent to its end is still in line.
        if std::mem::take(&mut state.is_ready) {
            self.ready.retain(|ready| *ready != lane);
        }
        self.parked.push(Reverse((now + self.limits.backoff.pause(state.failures, jitter), lane)));
        self.counts.parked += 1;
        self.counts.retries += 1;
    }

    fn unpark(&mut self, now: Instant) {
        while let Some(Reverse((due, lane))) = self.parked.peek().copied() {
            if due > now {
                return;
            }
            self.parked.pop();
            self.counts.parked -= 1;
            self.lanes[lane].is_parked = false;
            self.make_ready(lane);
        }
    }

    /// When the next key that waits is due.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.parked.peek().map(|Reverse((due, _))| *due)
    }

    /// The key that has been waiting for the longest time.
    #[must_use]
    pub fn longest_parked(&self) -> Option<Parked<'_>> {
        let lanes = self.parked.iter().map(|Reverse((_, lane))| &self.lanes[*lane]);
        let lane = lanes.min_by_key(|lane| lane.failing_since)?;
        let slot = &self.records[(lane.queue.front()? - self.first_record) as usize];
        Some(Parked {
            record: slot.record.as_ref()?,
            position: self.entries[(slot.entry - self.first_entry) as usize].position,
            since: lane.failing_since?,
            failures: lane.failures,
            reason: &lane.failure,
        })
    }

    fn slot(&mut self, seq: u64) -> &mut Slot {
        &mut self.records[(seq - self.first_record) as usize]
    }

    fn finish(&mut self, seq: u64) {
        let slot = self.slot(seq);
        slot.record = None;
        let (bytes, entry, form) = (std::mem::take(&mut slot.bytes), slot.entry, slot.form);
        self.counts.bytes -= bytes;
        match form {
            Form::Itself => self.counts.written += 1,
            Form::DeadLetter | Form::Stub => self.counts.set_aside += 1,
        }
        self.entries[(entry - self.first_entry) as usize].open -= 1;
    }

    fn release(&mut self, lane: usize) {
        if let Some(key) = self.lanes[lane].key.take()
            && let Ok(found) = self.by_key.find_entry(key.hash, |other| *other == lane)
        {
            found.remove();
        }
        self.free_lanes.push(lane);
    }

    /// Forgets the entries at the front that are done.
    fn advance(&mut self) {
        while let Some(entry) = self.entries.front().filter(|entry| entry.open == 0) {
            self.done_to = entry.position;
            self.counts.records -= entry.records;
            self.records.drain(..entry.records);
            self.first_record += entry.records as u64;
            self.first_entry += 1;
            self.entries.pop_front();
        }
    }
}

fn size_bytes(record: &OutgoingRecord) -> usize {
    let of = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers = record.headers.as_slice().iter().map(|header| header.name.len() + of(&header.value));
    of(&record.key) + of(&record.value) + headers.sum::<usize>()
}

/// A refused record as a dead letter: its own headers first, then ours, as those of the inbound side are named.
fn letter_of(record: OutgoingRecord, position: u64, reason: &str) -> OutgoingRecord {
    let reason = &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)];
    let headers = record
        .headers
        .with(dead_letter::ORIGIN_TOPIC, record.topic.to_string())
        .with(OUTBOX_POSITION, position.to_string())
        .with(dead_letter::ERROR_KIND, REFUSED)
        .with(dead_letter::ERROR, reason.to_owned());
    OutgoingRecord { topic: dead_letter_topic(&record.topic), partition: None, headers, ..record }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::record::Headers;

    const WRITTEN: Result<Written, SinkError> = Ok(Written { partition: 0, offset: 0 });

    fn record(key: Option<u8>, number: u64) -> OutgoingRecord {
        OutgoingRecord {
            topic: "t".into(),
            partition: None,
            key: key.map(|key| vec![key].into()),
            value: Some(number.to_string().into()),
            timestamp_ms: None,
            headers: Headers::default(),
        }
    }

    fn entry(position: u64, keys: &[Option<u8>]) -> OutboxEntry {
        let records = keys.iter().enumerate().map(|(index, key)| record(*key, position * 100 + index as u64));
        OutboxEntry { position, records: records.collect() }
    }

    fn number(record: &OutgoingRecord) -> u64 {
        std::str::from_utf8(record.value.as_ref().unwrap()).unwrap().parse().unwrap()
    }

    fn next(ledger: &mut RelayLedger, now: Instant) -> Option<(Ticket, OutgoingRecord)> {
        ledger.next(now).map(|(ticket, record)| (ticket, record.clone()))
    }

    fn unavailable() -> Result<Written, SinkError> {
        Err(SinkError::Unavailable("away".to_owned()))
    }

    fn refused() -> Result<Written, SinkError> {
        Err(SinkError::Refused("too large".to_owned()))
    }

    #[test]
    fn the_position_never_passes_what_is_not_written() {
        let (now, mut ledger) = (Instant::now(), RelayLedger::new(7, RelayLimits::default()));
        ledger.push(entry(8, &[Some(1), Some(2)]));
        ledger.push(entry(9, &[]));
        ledger.push(entry(12, &[Some(3)]));
        let [first, second, third] = [(); 3].map(|()| ledger.next(now).unwrap().0);
        assert!(ledger.next(now).is_none());
        ledger.settle(third, WRITTEN, now, 0.0);
        ledger.settle(first, WRITTEN, now, 0.0);
        assert_eq!((ledger.done_to(), ledger.read_to()), (7, 12));
        ledger.settle(second, WRITTEN, now, 0.0);
        assert_eq!((ledger.done_to(), ledger.counts().records, ledger.counts().bytes), (12, 0, 0));
    }

    #[test]
    fn a_key_that_fails_waits_alone_and_longer_each_time() {
        let (now, mut ledger) = (Instant::now(), RelayLedger::new(0, RelayLimits::default()));
        ledger.push(entry(1, &[Some(1)]));
        ledger.push(entry(2, &[Some(1)]));
        ledger.push(entry(3, &[Some(2)]));
        let (failing, other) = (next(&mut ledger, now).unwrap(), next(&mut ledger, now).unwrap());
        assert_eq!((number(&failing.1), number(&other.1)), (100, 300));
        ledger.settle(failing.0, unavailable(), now, 1.0);
        ledger.settle(other.0, WRITTEN, now, 1.0);
        assert!(ledger.next(now).is_none());
        let parked = ledger.longest_parked().unwrap();
        assert_eq!((parked.position, parked.failures, parked.reason), (1, 1, "not written now: away"));
        let due = ledger.due().unwrap();
        assert_eq!(due, now + Duration::from_millis(100));
        let (again, same) = next(&mut ledger, due).unwrap();
        assert_eq!(number(&same), 100);
        ledger.settle(again, unavailable(), due, 1.0);
        assert_eq!(ledger.due(), Some(due + Duration::from_millis(200)));
        assert_eq!((ledger.done_to(), ledger.counts().parked, ledger.counts().retries), (0, 1, 2));
    }

    /// What is read is bounded in records and in bytes: keys, values, and the names and values of headers.
    #[test]
    fn there_is_room_until_either_bound_is_reached() {
        let with_header = || {
            let mut entry = entry(1, &[Some(1), None]);
            entry.records[0].headers = Headers::default().with("name", "value");
            entry
        };
        // `1`, `100`, `name`, `value`; and `101`.
        let bytes = 1 + 3 + 4 + 5 + 3;
        for (records_max, bytes_max, has_room) in
            [(3, bytes + 1, true), (2, bytes + 1, false), (3, bytes, false), (2, bytes, false), (1, 1, false)]
        {
            let limits = RelayLimits { records_max, bytes_max, ..RelayLimits::default() };
            let mut ledger = RelayLedger::new(0, limits);
            assert!(ledger.has_room());
            ledger.push(with_header());
            assert_eq!((ledger.counts().records, ledger.counts().bytes), (2, bytes));
            assert_eq!(ledger.has_room(), has_room, "{records_max} records, {bytes_max} bytes");
        }
    }

    #[test]
    fn a_key_is_one_of_its_topic_and_the_same_key_of_another_does_not_wait_for_it() {
        let (now, mut ledger) = (Instant::now(), RelayLedger::new(0, RelayLimits::default()));
        let mut both = entry(1, &[Some(1), Some(1), Some(1), Some(2)]);
        both.records[1].topic = "other".into();
        ledger.push(both);
        let sent: Vec<u64> = std::iter::from_fn(|| next(&mut ledger, now)).map(|(_, record)| number(&record)).collect();
        assert_eq!(sent, [100, 101, 103], "the third waits for the first, which is of its topic");
    }

    #[test]
    fn who_waits_longest_is_known_when_others_before_it_are_done() {
        let (now, mut ledger) = (Instant::now(), RelayLedger::new(0, RelayLimits::default()));
        for position in 1..=9 {
            ledger.push(entry(position, &[Some(position as u8), Some(10 + position as u8)]));
        }
        let sent: Vec<_> = std::iter::from_fn(|| next(&mut ledger, now)).collect();
        assert_eq!(sent.len(), 18);
        let later = now + Duration::from_millis(1);
        for (ticket, record) in sent {
            match number(&record) {
                900 => ledger.settle(ticket, unavailable(), now, 1.0),
                801 => ledger.settle(ticket, unavailable(), later, 1.0),
                _ => ledger.settle(ticket, WRITTEN, now, 1.0),
            }
        }
        assert_eq!((ledger.done_to(), ledger.counts().parked), (7, 2));
        let parked = ledger.longest_parked().unwrap();
        assert_eq!((parked.position, number(parked.record), parked.since), (9, 900, now));
    }

    #[test]
    fn a_dead_letter_is_for_any_partition_whatever_its_record_was_meant_for() {
        let (now, mut ledger) = (Instant::now(), RelayLedger::new(0, RelayLimits::default()));
        let mut refusable = entry(1, &[Some(1)]);
        refusable.records[0].partition = Some(7);
        ledger.push(refusable);
        let (ticket, record) = next(&mut ledger, now).unwrap();
        assert_eq!(record.partition, Some(7));
        ledger.settle(ticket, refused(), now, 0.0);
        let (_, letter) = next(&mut ledger, now).unwrap();
        assert_eq!((&*letter.topic, letter.partition), ("t.dlq", None));
    }

    #[test]
    fn a_refused_record_becomes_a_dead_letter_then_a_stub_and_only_then_does_its_key_go_on() {
        let (now, mut ledger) = (Instant::now(), RelayLedger::new(0, RelayLimits::default()));
        let mut first = entry(5, &[Some(1)]);
        first.records[0].headers = Headers::default().with("own", "x");
        ledger.push(first);
        ledger.push(entry(6, &[Some(1)]));
        let (ticket, _) = ledger.next(now).unwrap();
        ledger.settle(ticket, refused(), now, 0.0);
        let (ticket, letter) = next(&mut ledger, now).unwrap();
        assert_eq!((&*letter.topic, number(&letter)), ("t.dlq", 500));
        let text = |record: &OutgoingRecord, name: &str| record.headers.text(name).unwrap().map(str::to_owned);
        assert_eq!(text(&letter, "own").as_deref(), Some("x"));
        assert_eq!(text(&letter, "dlq-origin-topic").as_deref(), Some("t"));
        assert_eq!(text(&letter, "dlq-outbox-position").as_deref(), Some("5"));
        ledger.settle(ticket, refused(), now, 0.0);
        let (ticket, stub) = next(&mut ledger, now).unwrap();
        assert_eq!((&*stub.topic, &stub.value, text(&stub, "own")), ("t.dlq", &None, None));
        assert!(stub.key.is_some() && text(&stub, "dlq-content").is_some());
        // Even the stub is refused: the key waits, and nothing is forgotten.
        ledger.settle(ticket, refused(), now, 0.0);
        assert_eq!((ledger.counts().parked, ledger.done_to()), (1, 0));
        let due = ledger.due().unwrap();
        let (ticket, _) = ledger.next(due).unwrap();
        ledger.settle(ticket, WRITTEN, now, 0.0);
        assert_eq!((ledger.done_to(), ledger.counts().set_aside), (5, 1));
        assert_eq!(number(ledger.next(now).unwrap().1), 600);
    }

    #[test]
    fn a_refused_record_waits_where_the_policy_says_so() {
        let limits = RelayLimits { on_refused: OnRefused::Wait, ..RelayLimits::default() };
        let (now, mut ledger) = (Instant::now(), RelayLedger::new(0, limits));
        ledger.push(entry(1, &[Some(1)]));
        let (ticket, _) = ledger.next(now).unwrap();
        ledger.settle(ticket, refused(), now, 0.0);
        let (_, same) = next(&mut ledger, now + Duration::from_secs(1)).unwrap();
        assert_eq!((&*same.topic, number(&same)), ("t", 100));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(Vec<Option<u8>>),
        Send,
        NotTaken,
        /// Settles one of those on their way; 0..=5 written, 6..=8 failed, 9 refused.
        Settle(usize, u8),
        /// Time passes, in milliseconds.
        Pass(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let key = proptest::option::weighted(0.9, 0_u8..4);
        let step = prop_oneof![
            2 => proptest::collection::vec(key, 0..4).prop_map(Step::Push),
            4 => Just(Step::Send),
            1 => Just(Step::NotTaken),
            4 => (any::<usize>(), 0_u8..10).prop_map(|(which, how)| Step::Settle(which, how)),
            1 => (0_u64..5_000).prop_map(Step::Pass),
        ];
        proptest::collection::vec(step, 0..300)
    }

    /// The log of a test: what was written where, in order.
    #[derive(Default)]
    struct Log {
        by_key: BTreeMap<Vec<u8>, Vec<u64>>,
        all: BTreeSet<u64>,
    }

    impl Log {
        fn write(&mut self, record: &OutgoingRecord) {
            let Some(value) = &record.value else { return };
            let number = std::str::from_utf8(value).unwrap().parse().unwrap();
            self.all.insert(number);
            if let Some(key) = &record.key {
                self.by_key.entry(key.to_vec()).or_default().push(number);
            }
        }
    }

    fn run(steps: Vec<Step>, burst: usize) -> (Log, Vec<u64>) {
        let limits = RelayLimits { burst, records_max: 40, ..RelayLimits::default() };
        let mut ledger = RelayLedger::new(0, limits);
        let (mut now, mut position, mut log) = (Instant::now(), 0, Log::default());
        let mut pushed: Vec<(u64, Vec<u64>)> = Vec::new();
        let mut on_their_way: Vec<(Ticket, OutgoingRecord)> = Vec::new();
        // Of these it has been seen that they are written: what is written stays so.
        let mut seen_done = 0;
        // After the random part everything works, so that all has to come to its end.
        let random = steps.len();
        let end = [Step::Pass(60_000), Step::Send, Step::Settle(0, 0)].into_iter().cycle().take(3_000);
        for (turn, step) in steps.into_iter().chain(end).enumerate() {
            if turn >= random && ledger.counts().records == 0 {
                break;
            }
            match step {
                Step::Push(keys) if ledger.has_room() => {
                    position += 1;
                    let entry = entry(position, &keys);
                    pushed.push((position, entry.records.iter().map(number).collect()));
                    ledger.push(entry);
                }
                Step::Push(_) => assert!(ledger.counts().records >= 40 || ledger.counts().bytes > 0),
                Step::Send => on_their_way.extend(next(&mut ledger, now)),
                Step::NotTaken => {
                    if let Some((ticket, record)) = next(&mut ledger, now) {
                        ledger.not_taken(ticket);
                        let (again, same) = next(&mut ledger, now).unwrap();
                        assert_eq!((again, &same), (ticket, &record));
                        ledger.not_taken(again);
                    }
                }
                Step::Settle(which, how) if !on_their_way.is_empty() => {
                    // Across keys in any order; those of one key are in one partition, which takes them one after another.
                    let key = on_their_way[which % on_their_way.len()].1.key.clone();
                    let first = on_their_way.iter().position(|(_, record)| record.key == key).unwrap();
                    let (ticket, record) = on_their_way.remove(first);
                    let result = match how {
                        0..=5 => WRITTEN,
                        6..=8 => unavailable(),
                        _ => refused(),
                    };
                    // What failed may have been written all the same; what was refused was not.
                    if how < 8 {
                        log.write(&record);
                    }
                    ledger.settle(ticket, result, now, 0.5);
                }
                Step::Settle(..) => {}
                Step::Pass(ms) => now += Duration::from_millis(ms),
            }
            assert_eq!(ledger.counts().in_flight, on_their_way.len());
            let keys: Vec<_> = on_their_way.iter().filter_map(|(_, record)| record.key.clone()).collect();
            let busiest = keys.iter().map(|key| keys.iter().filter(|other| *other == key).count()).max();
            assert!(busiest.unwrap_or(0) <= burst);
            while let Some((_, numbers)) = pushed.get(seen_done).filter(|(position, _)| *position <= ledger.done_to()) {
                let counts = ledger.counts();
                assert!(numbers.iter().all(|number| log.all.contains(number)) || counts.set_aside > 0);
                seen_done += 1;
            }
        }
        assert_eq!((ledger.done_to(), ledger.counts().records, ledger.counts().bytes), (position, 0, 0));
        assert_eq!(
            ledger.counts().written + ledger.counts().set_aside,
            pushed.iter().map(|(_, numbers)| numbers.len() as u64).sum::<u64>()
        );
        assert!(ledger.by_key.is_empty() && ledger.free_lanes.len() == ledger.lanes.len());
        (log, pushed.into_iter().flat_map(|(_, numbers)| numbers).collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn whatever_fails_keys_stay_in_order_and_everything_ends(steps in steps()) {
            let (log, _) = run(steps, 1);
            for (key, numbers) in log.by_key {
                prop_assert!(numbers.is_sorted(), "{key:?}: {numbers:?}");
            }
        }

        #[test]
        fn with_bursts_the_last_word_on_a_key_is_the_newest(steps in steps(), burst in 2_usize..5) {
            // Without refusals: what was set aside has no place in its key's order.
            let kind = |step| if let Step::Settle(which, how) = step { Step::Settle(which, how.min(8)) } else { step };
            let (log, _) = run(steps.into_iter().map(kind).collect(), burst);
            for (key, numbers) in log.by_key {
                // Each record's last writing, in the order of the log, is in the order of commits.
                let mut seen = BTreeSet::new();
                let mut last: Vec<u64> = numbers.iter().rev().copied().filter(|number| seen.insert(*number)).collect();
                last.reverse();
                prop_assert!(last.is_sorted(), "{key:?}: {numbers:?}");
            }
        }
    }
}
