//! Durable commands through the front door: `Entities::ask`, shard, entity, journal, group commit, reply.
//!
//! Many askers each wait for their answer and ask again, as connections do. All of it runs in one process with the writer:
//! askers, shards and entities have to share the cores with it. The entities are woken before the clock starts, with one
//! command each; waking is another bench's matter.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ractor::{Actor, ActorRef};
use runtime::{
    Entities, EntitiesConfig, Gate, Journal, Roster,
    journal::sqlite::{SqliteJournal, SqliteOptions},
    supervision::{Supervisor, SupervisorMessage, SupervisorSpec},
};
use tokio::{runtime::Runtime, task::JoinSet};

use crate::{
    bench_directory::BenchDirectory,
    stock::{Stock, command, keys, meta},
};

/// How much work one measurement is.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Over how many entities the commands go round.
    pub keys: usize,
    /// How many commands are timed.
    pub commands: u64,
    /// How many askers wait at once.
    pub askers: usize,
}

/// Room for all entities of a bench, awake for as long as it runs: going to sleep is measured in [`crate::waking`].
pub(crate) fn all_awake() -> EntitiesConfig {
    EntitiesConfig {
        idle_after: Duration::from_secs(3_600),
        active_per_shard_max: 1 << 20,
        ..EntitiesConfig::default()
    }
}

/// How long `load` takes from its first ask to its last answer, on a new database.
///
/// # Panics
/// When a command is not accepted, or the journal cannot be opened: then there is nothing to measure.
#[must_use]
pub fn asks(load: Load) -> Duration {
    asks_of(load, all_awake(), move |number| (number % load.keys as u64) as usize)
}

/// As [`asks`], with entities that keep to `config`; `pick` gives the index of the key that a command goes to.
pub(crate) fn asks_of(
    load: Load,
    config: EntitiesConfig,
    pick: impl Fn(u64) -> usize + Clone + Send + 'static,
) -> Duration {
    let directory = BenchDirectory::new();
    let tokio = Runtime::new().expect("tokio starts");
    tokio.block_on(async {
        let house = House::open(&directory, config).await;
        let keys: Arc<[_]> = keys(load.keys).into();
        let first = load.keys as u64;
        ask_all(&house.entities, load.askers, &keys, 0..first, move |number| number as usize).await;
        let started = Instant::now();
        ask_all(&house.entities, load.askers, &keys, first..first + load.commands, pick).await;
        let took = started.elapsed();
        house.close().await;
        took
    })
}

/// Entities on a journal on disk, with all that they need.
pub(crate) struct House {
    pub(crate) entities: Entities<Stock>,
    journal: Arc<SqliteJournal>,
    supervisor: ActorRef<SupervisorMessage>,
}

impl House {
    /// Opens the journal in `directory` and starts the entities on it.
    pub(crate) async fn open(directory: &BenchDirectory, config: EntitiesConfig) -> Self {
        let options = SqliteOptions::new(directory.path(), "");
        let journal = SqliteJournal::open(&options).expect("the journal opens");
        let as_journal: Arc<dyn Journal> = journal.clone();
        let (entities, supervisor) = start(as_journal, config).await;
        Self { entities, journal, supervisor }
    }

    /// Stops the entities, then the journal.
    pub(crate) async fn close(self) {
        self.supervisor.stop_and_wait(None, None).await.expect("the tree stops");
        self.journal.close().await;
    }
}

/// Starts the entities on `journal` under a supervisor.
pub(crate) async fn start(
    journal: Arc<dyn Journal>,
    config: EntitiesConfig,
) -> (Entities<Stock>, ActorRef<SupervisorMessage>) {
    let roster = Roster::new();
    let entities = Entities::<Stock>::new(journal, &Gate::new(1 << 20), config, roster.clone());
    let spec = SupervisorSpec::new("bench", entities.shards());
    let (supervisor, _) = Supervisor::spawn(None, Supervisor, (spec, roster)).await.expect("the tree starts");
    (entities, supervisor)
}

/// Asks the commands of these `numbers`; each asker waits for its answer and takes the next.
pub(crate) async fn ask_all(
    entities: &Entities<Stock>,
    askers: usize,
    keys: &Arc<[Arc<str>]>,
    numbers: Range<u64>,
    pick: impl Fn(u64) -> usize + Clone + Send + 'static,
) {
    let next = Arc::new(AtomicU64::new(numbers.start));
    let mut tasks = JoinSet::new();
    for _ in 0..askers {
        let (entities, keys, next, end) = (entities.clone(), Arc::clone(keys), Arc::clone(&next), numbers.end);
        let pick = pick.clone();
        tasks.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= end {
                    return;
                }
                let key = Arc::clone(&keys[pick(number)]);
                entities.ask(key, command(number), meta(number)).await.expect("every command is accepted");
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no asker panics");
    }
}
