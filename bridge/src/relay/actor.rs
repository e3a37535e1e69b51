//! The actor that carries the relay out.
//!
//! **Owns** the ledger. **Talks to** its outbox, whose answers come back as messages, and to its sink, whose
//! acknowledgements come from the sink's thread: they gather in an inbox, and one message announces as many as there are.
//! **When it dies**, or the outbox closes, its supervisor starts it again: it reads its position and sends what lies behind
//! it once more. Acknowledgements for the former one reach an inbox that nobody reads. It **does not** wait for anything
//! inside a handler: each is as long as its sending.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr, SupervisionEvent};
use runtime::supervision::Backoff;
use tokio::sync::watch;

use super::{
    health::{ParkedKey, RelayBoard, RelayHealth},
    ledger::{RelayLedger, RelayLimits, Ticket},
};
use crate::ports::{LogSink, NotTaken, Outbox, OutboxEntry, SinkError, Written};

/// Entries read at once: how far a reading may go past the bounds of [`RelayLimits`].
pub const READ_ENTRIES_MAX: usize = 8_192;
/// Records sent before the mailbox is looked into again: sending must keep neither acknowledgements nor the next reading waiting.
const SEND_RECORDS_MAX: usize = 1_024;
/// How long the outbox may take for one answer.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(15);
/// How often it looks for keys whose pause is over, for a position that is due, and writes its health.
const TICK: Duration = Duration::from_millis(50);
/// A position is stored at the latest after this…
const STORE_EVERY: Duration = Duration::from_millis(500);
/// …or when it has come this far: a crash sends that much again.
const STORE_POSITIONS_MAX: u64 = 10_000;
/// The pauses before the outbox is asked again.
const RETRY: Backoff =
    Backoff { first: Duration::from_millis(50), max: Duration::from_secs(5), reset_after: Duration::from_secs(30) };
/// Adding it again and again spreads fractions evenly.
const GOLDEN_RATIO: f64 = 0.618_033_988_749_895;

/// What a relay needs.
#[derive(Clone)]
pub struct RelayArguments {
    /// Its name in the outbox, under which its position is kept. Never change it.
    pub name: Arc<str>,
    /// What is to be written.
    pub outbox: Arc<dyn Outbox>,
    /// Where to.
    pub sink: Arc<dyn LogSink>,
    /// Its bounds and its policy.
    pub limits: RelayLimits,
    /// Where its health is read.
    pub board: RelayBoard,
}

/// What a relay is sent.
pub enum RelayMessage {
    /// The outbox has said where the relay stands.
    Positioned(Result<u64, String>),
    /// The outbox may have more.
    Pull,
    /// The outbox has answered with entries.
    Read(Result<Vec<OutboxEntry>, String>),
    /// There are acknowledgements in the inbox.
    Settled,
    /// There is room in the sink again, or more to be sent than one turn may send.
    Send,
    /// The outbox has stored a position, or has not.
    Stored(u64, Result<(), String>),
    /// Time has passed.
    Tick,
    /// Read and send no more; answer and end once what is on its way is settled and the position is stored.
    Drain(RpcReplyPort<()>),
}

/// Acknowledgements on their way from the sink's thread to the relay.
struct Inbox {
    settled: Mutex<Vec<(Ticket, Result<Written, SinkError>)>>,
    relay: ActorRef<RelayMessage>,
}

/// A relay's state.
pub struct RelayState {
    arguments: RelayArguments,
    inbox: Arc<Inbox>,
    /// Nothing until the position is known.
    ledger: Option<RelayLedger>,
    newest: watch::Receiver<u64>,
    is_reading: bool,
    /// The sink is full, and calls when it is not.
    is_full: bool,
    /// A message of ours to go on sending is on its way.
    is_sending: bool,
    stored: u64,
    /// A position is being stored.
    is_storing: bool,
    stored_at: Instant,
    /// How often in a row the outbox has not answered.
    failures: u32,
    last_error: Option<String>,
    draining: Vec<RpcReplyPort<()>>,
}

/// See the module's text.
pub struct Relay;

/// Starts a relay under `supervisor`.
///
/// # Errors
/// When the actor cannot be spawned.
pub async fn start_relay(arguments: RelayArguments, supervisor: ActorCell) -> Result<ActorRef<RelayMessage>, SpawnErr> {
    Ok(Actor::spawn_linked(None, Relay, arguments, supervisor).await?.0)
}

impl Actor for Relay {
    type Msg = RelayMessage;
    type State = RelayState;
    type Arguments = RelayArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let mut newest = arguments.outbox.newest();
        newest.mark_unchanged();
        let state = RelayState {
            inbox: Arc::new(Inbox { settled: Mutex::default(), relay: myself.clone() }),
            ledger: None,
            newest,
            is_reading: false,
            is_full: false,
            is_sending: false,
            stored: 0,
            is_storing: false,
            stored_at: Instant::now(),
            failures: 0,
            last_error: None,
            draining: Vec::new(),
            arguments,
        };
        state.ask_position(&myself, Duration::ZERO);
        myself.send_interval(TICK, || RelayMessage::Tick);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RelayMessage::Positioned(Ok(position)) => state.begin(position),
            RelayMessage::Positioned(Err(error)) => {
                let pause = state.failed(error);
                state.ask_position(&myself, pause);
            }
            RelayMessage::Pull => {}
            RelayMessage::Read(Ok(entries)) => state.take_in(entries),
            RelayMessage::Read(Err(error)) => {
                // Still "reading" during the pause, so that nothing else asks meanwhile.
                let pause = state.failed(error);
                myself.send_after(pause, || RelayMessage::Read(Ok(Vec::new())));
            }
            RelayMessage::Settled => state.settle(),
            RelayMessage::Send => (state.is_full, state.is_sending) = (false, false),
            RelayMessage::Stored(position, result) => state.stored(position, result),
            RelayMessage::Tick => {
                if state.newest.has_changed().is_err() {
                    return Err("the outbox has closed".into());
                }
                state.write_health();
            }
            RelayMessage::Drain(reply) => state.draining.push(reply),
        }
        state.go_on(&myself).await;
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Self::Msg>, state: &mut Self::State) -> Result<(), ActorProcessingErr> {
        state.arguments.board.write(RelayHealth { is_running: false, ..state.health() });
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Self::Msg>,
        _: SupervisionEvent,
        _: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        // It has no children.
        Ok(())
    }
}

impl RelayState {
    fn begin(&mut self, position: u64) {
        self.failures = 0;
        self.stored = position;
        self.ledger = Some(RelayLedger::new(position, self.arguments.limits));
    }

    fn take_in(&mut self, entries: Vec<OutboxEntry>) {
        self.is_reading = false;
        if let Some(ledger) = &mut self.ledger
            && !entries.is_empty()
        {
            self.failures = 0;
            entries.into_iter().for_each(|entry| ledger.push(entry));
        }
    }

    fn settle(&mut self) {
        let settled = std::mem::take(&mut *self.inbox.lock());
        let Some(ledger) = &mut self.ledger else { return };
        let (now, mut jitter) = (Instant::now(), jitter());
        for (ticket, result) in settled {
            if let Err(error) = &result {
                self.last_error = Some(error.to_string());
            }
            ledger.settle(ticket, result, now, jitter);
            // What fails together is not to come again together.
            jitter = (jitter + GOLDEN_RATIO).fract();
        }
    }

    fn stored(&mut self, position: u64, result: Result<(), String>) {
        self.is_storing = false;
        match result {
            Ok(()) => self.stored = position,
            // The next try is due after the usual time; until then a crash repeats a little more.
            Err(error) => drop(self.failed(error)),
        }
    }

    /// Whatever may be done now: send, read, store, end.
    async fn go_on(&mut self, myself: &ActorRef<RelayMessage>) {
        // What is read next is on its way while what was read last is sent. The reading's task stands behind us on this very
        // thread, where no other can take it, until we step aside.
        if self.read(myself) {
            tokio::task::yield_now().await;
        }
        self.send(myself);
        self.store(myself);
        self.end(myself);
    }

    fn send(&mut self, myself: &ActorRef<RelayMessage>) {
        let Some(ledger) = &mut self.ledger else { return };
        if self.is_full || self.is_sending || !self.draining.is_empty() {
            return;
        }
        let now = Instant::now();
        for _ in 0..SEND_RECORDS_MAX {
            let Some((ticket, record)) = ledger.next(now) else { return };
            let inbox = Arc::clone(&self.inbox);
            let acknowledge = Box::new(move |result| inbox.put(ticket, result));
            let Err(NotTaken { error, .. }) = self.arguments.sink.send(record, acknowledge) else { continue };
            if error == SinkError::Full {
                ledger.not_taken(ticket);
                self.is_full = true;
                let (room, relay) = (self.arguments.sink.room(), myself.clone());
                tokio::spawn(async move {
                    room.await;
                    let _ = relay.send_message(RelayMessage::Send);
                });
                return;
            }
            self.last_error = Some(error.to_string());
            ledger.settle(ticket, Err(error), now, jitter());
        }
        self.is_sending = true;
        let _ = myself.send_message(RelayMessage::Send);
    }

    /// Asks for more where there is room; true when it has.
    fn read(&mut self, myself: &ActorRef<RelayMessage>) -> bool {
        let Some(ledger) = &self.ledger else { return false };
        if self.is_reading || !ledger.has_room() || !self.draining.is_empty() {
            return false;
        }
        self.is_reading = true;
        let (position, outbox, relay) = (ledger.read_to(), Arc::clone(&self.arguments.outbox), myself.clone());
        let mut newest = self.newest.clone();
        tokio::spawn(async move {
            // Nothing new: the wait is the outbox's to end. When it has closed, the tick sees it.
            if newest.wait_for(|newest| *newest > position).await.is_ok() {
                let read = in_time(outbox.read_after(position, READ_ENTRIES_MAX)).await;
                let _ = relay.send_message(RelayMessage::Read(read));
            }
        });
        true
    }

    fn store(&mut self, myself: &ActorRef<RelayMessage>) {
        let Some(done) = self.ledger.as_ref().map(RelayLedger::done_to).filter(|done| *done > self.stored) else {
            return;
        };
        let is_due = done - self.stored >= STORE_POSITIONS_MAX
            || self.stored_at.elapsed() >= STORE_EVERY
            || !self.draining.is_empty();
        if self.is_storing || !is_due {
            return;
        }
        (self.is_storing, self.stored_at) = (true, Instant::now());
        let storing = self.arguments.outbox.store_position(Arc::clone(&self.arguments.name), done);
        let relay = myself.clone();
        tokio::spawn(async move {
            let _ = relay.send_message(RelayMessage::Stored(done, in_time(storing).await));
        });
    }

    fn end(&mut self, myself: &ActorRef<RelayMessage>) {
        let is_settled =
            self.ledger.as_ref().is_none_or(|ledger| ledger.counts().in_flight == 0 && ledger.done_to() == self.stored);
        if !self.draining.is_empty() && is_settled {
            for reply in self.draining.drain(..) {
                // Who asked may have given up.
                let _ = reply.send(());
            }
            myself.stop(Some("drained".to_owned()));
        }
    }

    fn ask_position(&self, myself: &ActorRef<RelayMessage>, pause: Duration) {
        let RelayArguments { name, outbox, .. } = self.arguments.clone();
        let relay = myself.clone();
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            let _ = relay.send_message(RelayMessage::Positioned(in_time(outbox.position(name)).await));
        });
    }

    /// Notes a failure of the outbox and gives the pause after it.
    fn failed(&mut self, error: String) -> Duration {
        tracing::warn!(relay = %self.arguments.name, error, "the outbox does not answer now");
        self.last_error = Some(error);
        self.failures = self.failures.saturating_add(1);
        RETRY.pause(self.failures, jitter())
    }

    fn health(&self) -> RelayHealth {
        let newest = *self.newest.borrow();
        let Some(ledger) = &self.ledger else {
            return RelayHealth { newest, last_error: self.last_error.clone(), ..RelayHealth::default() };
        };
        let counts = ledger.counts();
        let longest_parked = ledger.longest_parked().map(|parked| ParkedKey {
            topic: Arc::clone(&parked.record.topic),
            key: String::from_utf8_lossy(parked.record.key.as_deref().unwrap_or_default()).into_owned(),
            position: parked.position,
            waiting_ms: u64::try_from(parked.since.elapsed().as_millis()).unwrap_or(u64::MAX),
            failures: parked.failures,
            reason: parked.reason.to_owned(),
        });
        RelayHealth {
            is_running: true,
            position: self.stored,
            newest,
            lag: newest.saturating_sub(ledger.done_to()),
            span: counts.records,
            in_flight: counts.in_flight,
            parked_keys: counts.parked,
            longest_parked,
            written: counts.written,
            retries: counts.retries,
            set_aside: counts.set_aside,
            last_error: self.last_error.clone(),
        }
    }

    fn write_health(&self) {
        self.arguments.board.write(self.health());
    }
}

impl Inbox {
    fn put(&self, ticket: Ticket, result: Result<Written, SinkError>) {
        let mut settled = self.lock();
        settled.push((ticket, result));
        let is_first = settled.len() == 1;
        drop(settled);
        if is_first {
            // A relay that is gone does not mind.
            let _ = self.relay.send_message(RelayMessage::Settled);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Ticket, Result<Written, SinkError>)>> {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A number in `0..=1` that spreads pauses: the clock's fine digits, which nobody can foresee and nobody needs to.
fn jitter() -> f64 {
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.subsec_nanos());
    f64::from(nanos % 1_000) / 999.0
}

async fn in_time<T>(answer: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    match tokio::time::timeout(ANSWER_WAIT_MAX, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("the outbox did not answer within {} s", ANSWER_WAIT_MAX.as_secs())),
    }
}
