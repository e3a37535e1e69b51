//! Latencies at a set rate: commands start when they are due, whether or not the earlier ones are done.
//!
//! Each latency counts from the moment at which its command was due, not from when the generator got to it: a stall shows in
//! all that it held up (Tene's "coordinated omission"). The generator is a thread of its own beside the workers and the
//! writer, on the same cores.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use runtime::AskError;
use tokio::runtime::Runtime;

use crate::{
    bare_sqlite::{BATCH_COMMANDS_MAX, Inserts, new_database, rows},
    bench_directory::BenchDirectory,
    durable::{House, Load, all_awake, ask_all},
    stock::{command, keys, meta},
};

/// How long the generator sleeps when nothing is due; the system makes some 0.15 ms of it.
const NAP: Duration = Duration::from_micros(100);
/// Askers that wake the entities before the clock starts.
const WAKERS: usize = 1_024;
const REFUSED: u32 = u32::MAX;

/// What is due when.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// Over how many entities the commands go round.
    pub keys: usize,
    /// Commands a second.
    pub per_second: f64,
    /// For how many seconds.
    pub seconds: f64,
}

impl Schedule {
    fn commands(&self) -> usize {
        (self.per_second * self.seconds) as usize
    }

    /// Calls `start` with each command's number and the moment at which it was due, and returns when all have been started.
    fn run(&self, mut start: impl FnMut(usize, Instant)) {
        let started = Instant::now();
        let due_at = |number: usize| started + Duration::from_secs_f64(number as f64 / self.per_second);
        for number in 0..self.commands() {
            while Instant::now() < due_at(number) {
                thread::sleep(NAP);
            }
            start(number, due_at(number));
        }
    }
}

/// What came of a schedule.
pub struct Latencies {
    /// In microseconds, from the moment at which each was due to its durable answer.
    pub micros: Histogram<u64>,
    /// How many were refused because too many were in flight.
    pub refused: u64,
}

/// The latencies of `Entities::ask` on a new database.
///
/// # Panics
/// When a command gets another answer than "accepted" or "busy".
#[must_use]
pub fn asks(schedule: Schedule) -> Latencies {
    let directory = BenchDirectory::new();
    let tokio = Runtime::new().expect("tokio starts");
    let keys: Arc<[_]> = keys(schedule.keys).into();
    let woken = schedule.keys as u64;
    let house = tokio.block_on(async {
        let house = House::open(&directory, all_awake()).await;
        ask_all(&house.entities, WAKERS, &keys, 0..woken, |number| number as usize).await;
        house
    });
    let taken = slots(schedule.commands());
    let (working, done) = mpsc::channel::<()>();
    schedule.run(|number, due_at| {
        let (entities, taken, working) = (house.entities.clone(), Arc::clone(&taken), working.clone());
        let key = Arc::clone(&keys[number % keys.len()]);
        tokio.spawn(async move {
            let id = woken + number as u64;
            match entities.ask(key, command(id), meta(id)).await {
                Ok(_) => note(&taken[number], due_at),
                Err(AskError::Busy) => taken[number].store(REFUSED, Ordering::Relaxed),
                Err(other) => unreachable!("nothing falls here, but: {other}"),
            }
            drop(working);
        });
    });
    drop(working);
    // It hangs up when the last task has its answer.
    let _ = done.recv();
    tokio.block_on(house.close());
    latencies(&taken)
}

/// The control: the same rows, given at the same rate to one thread that commits what has queued and answers nobody.
///
/// # Panics
/// When SQLite refuses.
#[must_use]
pub fn bare_group_commit(schedule: Schedule) -> Latencies {
    let directory = BenchDirectory::new();
    let connection = new_database(&directory);
    let rows = rows(Load { keys: schedule.keys, commands: schedule.commands() as u64, askers: 0 });
    let (awake, timed) = rows.split_at(schedule.keys);
    let taken = slots(schedule.commands());
    let (sender, inbox) = mpsc::channel();
    thread::scope(|scope| {
        let mut inserts = Inserts::prepare(&connection);
        inserts.write(awake, BATCH_COMMANDS_MAX);
        scope.spawn(|| schedule.run(move |number, due_at| sender.send((number, due_at)).expect("the writer listens")));
        while let Ok(first) = inbox.recv() {
            let batch: Vec<_> = std::iter::once(first).chain(inbox.try_iter().take(BATCH_COMMANDS_MAX - 1)).collect();
            let (from, to) = (first.0, first.0 + batch.len());
            inserts.write(&timed[from..to], BATCH_COMMANDS_MAX);
            for (number, due_at) in batch {
                note(&taken[number], due_at);
            }
        }
    });
    latencies(&taken)
}

fn slots(count: usize) -> Arc<[AtomicU32]> {
    (0..count).map(|_| AtomicU32::new(0)).collect()
}

fn note(slot: &AtomicU32, due_at: Instant) {
    let micros = u32::try_from(due_at.elapsed().as_micros()).unwrap_or(REFUSED - 1);
    slot.store(micros, Ordering::Relaxed);
}

fn latencies(taken: &[AtomicU32]) -> Latencies {
    let mut latencies = Latencies { micros: Histogram::new(3).expect("three digits are possible"), refused: 0 };
    for slot in taken {
        match slot.load(Ordering::Relaxed) {
            REFUSED => latencies.refused += 1,
            micros => latencies.micros.record(u64::from(micros)).expect("the histogram grows"),
        }
    }
    latencies
}
