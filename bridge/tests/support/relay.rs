//! What the relay's tests share: an outbox in memory, a sink with faults, and waiting.

#![allow(dead_code)]

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use microcommerce_bridge::{
    ports::{Acknowledge, LogSink, NotTaken, Outbox, OutboxEntry, SinkError, Written},
    record::OutgoingRecord,
    relay::{Relay, RelayArguments, RelayBoard, RelayLimits, RelayMessage},
};
use ractor::{Actor, ActorRef};
use runtime::supervision::Backoff;
use tokio::sync::{Notify, watch};

/// Pauses short enough for a test.
pub fn limits() -> RelayLimits {
    let (first, max) = (Duration::from_millis(5), Duration::from_millis(100));
    RelayLimits { backoff: Backoff { first, max, reset_after: max }, ..RelayLimits::default() }
}

/// An outbox that survives its relays.
pub struct MemoryOutbox {
    entries: Mutex<Vec<OutboxEntry>>,
    newest: watch::Sender<u64>,
    positions: Mutex<HashMap<Arc<str>, u64>>,
    /// How many answers are failures from now on.
    pub fails: AtomicUsize,
    pub stores: AtomicUsize,
}

impl MemoryOutbox {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            entries: Mutex::default(),
            newest: watch::Sender::new(0),
            positions: Mutex::default(),
            fails: AtomicUsize::new(0),
            stores: AtomicUsize::new(0),
        })
    }

    pub fn commit(&self, records: Vec<OutgoingRecord>) -> u64 {
        let mut entries = self.entries.lock().unwrap();
        let position = entries.last().map_or(1, |last| last.position + 1);
        entries.push(OutboxEntry { position, records });
        self.newest.send_replace(position);
        position
    }

    pub fn stored(&self) -> u64 {
        self.positions.lock().unwrap().values().copied().max().unwrap_or(0)
    }

    fn fails(&self) -> bool {
        self.fails.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1)).is_ok()
    }

    fn answer<T: Send + 'static>(&self, answer: impl FnOnce() -> T) -> BoxFuture<'static, Result<T, String>> {
        let answer = if self.fails() { Err("the outbox is asked not to answer".to_owned()) } else { Ok(answer()) };
        Box::pin(async move { answer })
    }
}

impl Outbox for MemoryOutbox {
    fn read_after(&self, position: u64, limit: usize) -> BoxFuture<'static, Result<Vec<OutboxEntry>, String>> {
        self.answer(|| {
            let entries = self.entries.lock().unwrap();
            entries.iter().filter(|entry| entry.position > position).take(limit).cloned().collect()
        })
    }

    fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    fn position(&self, relay: Arc<str>) -> BoxFuture<'static, Result<u64, String>> {
        self.answer(|| self.positions.lock().unwrap().get(&relay).copied().unwrap_or(0))
    }

    fn store_position(&self, relay: Arc<str>, position: u64) -> BoxFuture<'static, Result<(), String>> {
        self.stores.fetch_add(1, Ordering::AcqRel);
        self.answer(|| {
            let before = self.positions.lock().unwrap().insert(relay, position);
            assert!(before.is_none_or(|before| before <= position), "a position went back");
        })
    }
}

/// A record's key and value as text.
pub fn key_and_value(record: &OutgoingRecord) -> (String, String) {
    let text = |bytes: &Option<bytes::Bytes>| String::from_utf8(bytes.as_deref().unwrap_or_default().to_vec()).unwrap();
    (text(&record.key), text(&record.value))
}

type Fault = Box<dyn Fn(&OutgoingRecord, usize) -> Option<SinkError> + Send + Sync>;

/// A log in memory whose writing goes on on a thread of its own, in an order of its own across keys, and that fails as it is told.
pub struct FaultySink {
    shared: Arc<Shared>,
}

struct Shared {
    waiting: Mutex<VecDeque<(OutgoingRecord, Acknowledge)>>,
    room: Notify,
    room_max: usize,
    is_held: AtomicBool,
    stopped: AtomicBool,
    /// Says what a sending of a record comes to; it gets how often the record was sent before.
    fault: Mutex<Fault>,
    sent: Mutex<HashMap<(String, String), usize>>,
    pub written: Mutex<Vec<OutgoingRecord>>,
}

impl FaultySink {
    pub fn new(
        room_max: usize,
        fault: impl Fn(&OutgoingRecord, usize) -> Option<SinkError> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            room: Notify::new(),
            room_max,
            is_held: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            fault: Mutex::new(Box::new(fault)),
            sent: Mutex::default(),
            written: Mutex::default(),
        });
        let theirs = Arc::clone(&shared);
        std::thread::spawn(move || theirs.write());
        Arc::new(Self { shared })
    }

    pub fn set_fault(&self, fault: impl Fn(&OutgoingRecord, usize) -> Option<SinkError> + Send + Sync + 'static) {
        *self.shared.fault.lock().unwrap() = Box::new(fault);
    }

    /// Takes what it is given and settles nothing, until it is let go.
    pub fn hold(&self, is_held: bool) {
        self.shared.is_held.store(is_held, Ordering::Release);
    }

    pub fn waiting(&self) -> usize {
        self.shared.waiting.lock().unwrap().len()
    }

    pub fn written(&self) -> Vec<OutgoingRecord> {
        self.shared.written.lock().unwrap().clone()
    }

    /// The values written of each key, in order.
    pub fn by_key(&self) -> BTreeMap<String, Vec<String>> {
        let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for record in self.written() {
            let (key, value) = key_and_value(&record);
            values.entry(key).or_default().push(value);
        }
        values
    }
}

impl Drop for FaultySink {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
    }
}

impl Shared {
    fn write(&self) {
        let mut turn = 0_usize;
        while !self.stopped.load(Ordering::Acquire) {
            turn += 1;
            let next = match self.is_held.load(Ordering::Acquire) {
                true => None,
                // Now from the front and now from the back: acknowledgements do not come in the order of sending.
                false if turn.is_multiple_of(3) => self.waiting.lock().unwrap().pop_back(),
                false => self.waiting.lock().unwrap().pop_front(),
            };
            let Some((record, acknowledge)) = next else {
                std::thread::yield_now();
                continue;
            };
            let before = {
                let mut sent = self.sent.lock().unwrap();
                let count = sent.entry(key_and_value(&record)).or_default();
                *count += 1;
                *count - 1
            };
            let fault = (self.fault.lock().unwrap())(&record, before);
            if fault.is_none() {
                self.written.lock().unwrap().push(record);
            }
            self.room.notify_waiters();
            acknowledge(fault.map_or(Ok(Written { partition: 0, offset: 0 }), Err));
        }
    }
}

impl LogSink for FaultySink {
    fn send(&self, record: &OutgoingRecord, acknowledge: Acknowledge) -> Result<(), NotTaken> {
        let mut waiting = self.shared.waiting.lock().unwrap();
        if waiting.len() >= self.shared.room_max {
            return Err(NotTaken { acknowledge, error: SinkError::Full });
        }
        waiting.push_back((record.clone(), acknowledge));
        Ok(())
    }

    fn room(&self) -> BoxFuture<'static, ()> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            loop {
                let mut called = std::pin::pin!(shared.room.notified());
                called.as_mut().enable();
                if shared.waiting.lock().unwrap().len() < shared.room_max {
                    return;
                }
                called.await;
            }
        })
    }

    fn flush(&self, _: Duration) -> BoxFuture<'static, bool> {
        Box::pin(async { true })
    }
}

/// A relay on its own, as a supervisor would start it.
pub async fn relay(
    outbox: &Arc<MemoryOutbox>,
    sink: Arc<dyn LogSink>,
    limits: RelayLimits,
) -> (ActorRef<RelayMessage>, RelayBoard) {
    let board = RelayBoard::default();
    let arguments = RelayArguments {
        name: "test-relay".into(),
        outbox: Arc::clone(outbox) as Arc<dyn Outbox>,
        sink,
        limits,
        board: board.clone(),
    };
    (Actor::spawn(None, Relay, arguments).await.unwrap().0, board)
}
