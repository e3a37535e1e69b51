//! Durable commands through the front door: `Entities::ask`, shard, entity, journal, group commit, reply.
//!
//! Many askers each wait for their answer and ask again, as connections do. All of it runs in one process with the writer:
//! askers, shards and entities have to share the cores with it. The entities are woken before the clock starts, with one
//! command each; waking is another bench's matter.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ractor::Actor;
use runtime::{
    Entities, EntitiesConfig, Gate, Journal, Roster,
    journal::sqlite::{SqliteJournal, SqliteOptions},
    supervision::{Supervisor, SupervisorSpec},
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

/// How long `load` takes from its first ask to its last answer, on a new database.
///
/// # Panics
/// When a command is not accepted, or the journal cannot be opened: then there is nothing to measure.
#[must_use]
pub fn asks(load: Load) -> Duration {
    let directory = BenchDirectory::new();
    let tokio = Runtime::new().expect("tokio starts");
    tokio.block_on(async {
        let options = SqliteOptions { directory: directory.path().to_owned(), views: "" };
        let journal = SqliteJournal::open(&options).expect("the journal opens");
        let as_journal: Arc<dyn Journal> = journal.clone();
        let (entities, supervisor) = start(as_journal).await;

        ask_all(&entities, load.askers, load.keys, 0..load.keys as u64).await;
        let first = load.keys as u64;
        let started = Instant::now();
        ask_all(&entities, load.askers, load.keys, first..first + load.commands).await;
        let took = started.elapsed();

        supervisor.stop_and_wait(None, None).await.expect("the tree stops");
        journal.close().await;
        took
    })
}

/// Starts the entities on `journal` under a supervisor.
pub(crate) async fn start(
    journal: Arc<dyn Journal>,
) -> (Entities<Stock>, ractor::ActorRef<runtime::supervision::SupervisorMessage>) {
    let roster = Roster::new();
    let config = EntitiesConfig { idle_after: Duration::from_secs(3_600), ..EntitiesConfig::default() };
    let entities = Entities::<Stock>::new(journal, &Gate::new(1 << 20), config, roster.clone());
    let spec = SupervisorSpec::new("bench", entities.shards());
    let (supervisor, _) = Supervisor::spawn(None, Supervisor, (spec, roster)).await.expect("the tree starts");
    (entities, supervisor)
}

async fn ask_all(entities: &Entities<Stock>, askers: usize, key_count: usize, numbers: std::ops::Range<u64>) {
    let keys: Arc<[_]> = keys(key_count).into();
    let next = Arc::new(AtomicU64::new(numbers.start));
    let mut tasks = JoinSet::new();
    for _ in 0..askers {
        let (entities, keys, next, end) = (entities.clone(), Arc::clone(&keys), Arc::clone(&next), numbers.end);
        tasks.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= end {
                    return;
                }
                let key = Arc::clone(&keys[(number % keys.len() as u64) as usize]);
                entities.ask(key, command(number), meta(number)).await.expect("every command is accepted");
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no asker panics");
    }
}
