//! Services on one thread in virtual time, with faults: a run is reproduced by its seed.
//!
//! [`simulate`] runs a scenario on a current-thread runtime whose clock stands still and jumps to the next timer when
//! nobody has anything to do: an hour of waiting costs nothing. [`Simulation::service`] starts a real tree (supervisor,
//! journal keeper, shards) on a [`MemoryDisk`]; when its journal crashes, the tree comes back on what is on the disk, as in
//! production. [`for_every_seed`] runs many seeds and says how to repeat the one that failed.
//!
//! # What makes a run repeatable
//!
//! One thread, no I/O, seeded choices ([`Random`]), and turns: every participant acts in its own milliseconds
//! ([`TimeSlot`]), so that tasks woken together cannot race. What is left open by hash maps within one instant is settled
//! by sorting the trace by time and text. Do not read the system's clock or randomness in a scenario: take
//! [`Simulation::command`], [`Simulation::now_ms`] and [`Participant::random`].

use std::{
    env,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ractor::{Actor, ActorRef};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{Random, TimeSlot};
use crate::{
    command::{CommandId, CommandMeta},
    current::{Current, Down},
    entities::Entities,
    entity::{Entity, EntityId},
    journal::{
        Journal,
        keeper::JournalKeeper,
        memory::{CommitFault, Faults, MemoryDisk, MemoryJournal},
        views::Views,
    },
    roster::Roster,
    supervision::{Backoff, ChildSpec, Intensity, Restart, StartError, Supervisor, SupervisorMessage, SupervisorSpec},
};

/// The environment variable that names the one seed to run.
pub const SEED_VARIABLE: &str = "SIMULATION_SEED";
/// The environment variable that says how many times as many seeds are run.
const TIMES_VARIABLE: &str = "SIMULATION_SEEDS_TIMES";
/// What every simulation's clock stands at when it begins: 2001-09-09T01:46:40Z.
const EPOCH_MS: i64 = 1_000_000_000_000;
/// The pause before a restart: with one value for the first and the longest, and rounded up to whole milliseconds, the
/// supervisor's jitter changes nothing.
const RESTART_PAUSE: Duration = Duration::from_millis(1);

/// What happened in a run: lines with their virtual time, in an order that does not depend on the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// (virtual milliseconds, what happened), sorted.
    pub lines: Vec<(u64, String)>,
}

impl Trace {
    /// A fingerprint of the whole run, as hexadecimal digits.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for (at_ms, line) in &self.lines {
            hash.update(at_ms.to_be_bytes());
            hash.update((line.len() as u64).to_be_bytes());
            hash.update(line.as_bytes());
        }
        hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

struct Inner {
    seed: u64,
    epoch: Instant,
    slots_given: AtomicU64,
    lines: Mutex<Vec<(u64, String)>>,
}

/// One run. Clones are the same run.
#[derive(Clone)]
pub struct Simulation(Arc<Inner>);

/// Somebody who acts in a run: a client, a fault injector.
pub struct Participant {
    /// Its own choices.
    pub random: Random,
    slot: TimeSlot,
}

impl Participant {
    /// Waits for its next turn, at most `max` (rounded up to its turn) away.
    pub async fn pause(&mut self, max: Duration) {
        let pause = self.random.duration(&(Duration::ZERO..=max));
        self.slot.wait(pause).await;
    }
}

/// Runs `scenario` with the choices of `seed`, on this thread, in virtual time.
///
/// # Panics
/// As the scenario does; and when it has not ended after `virtual_time_max`: somebody hangs.
#[expect(clippy::panic, reason = "this is how a test fails")]
pub fn simulate<F, Fut>(seed: u64, virtual_time_max: Duration, scenario: F) -> Trace
where
    F: FnOnce(Simulation) -> Fut,
    Fut: Future<Output = ()>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing from the system");
    runtime.block_on(async {
        let simulation = Simulation(Arc::new(Inner {
            seed,
            epoch: Instant::now(),
            // Slot 0 is for what belongs to nobody: the sweeps of shards started at the beginning.
            slots_given: AtomicU64::new(1),
            lines: Mutex::default(),
        }));
        if tokio::time::timeout(virtual_time_max, scenario(simulation.clone())).await.is_err() {
            panic!("seed {seed}: somebody hangs: not over after {virtual_time_max:?} of virtual time");
        }
        let mut lines = std::mem::take(&mut *simulation.lines());
        lines.sort();
        Trace { lines }
    })
}

/// Runs `scenario` for `count` seeds (`SIMULATION_SEEDS_TIMES` as many), or for the one in `SIMULATION_SEED`. When one fails,
/// says which.
///
/// # Panics
/// As the scenario does.
#[expect(clippy::print_stderr, reason = "a failing test says how to repeat it")]
pub fn for_every_seed<F, Fut>(count: u64, virtual_time_max: Duration, scenario: F)
where
    F: Fn(Simulation) -> Fut,
    Fut: Future<Output = ()>,
{
    let only = env::var(SEED_VARIABLE).ok().map(|seed| seed.parse::<u64>().expect("SIMULATION_SEED is a number"));
    let times = env::var(TIMES_VARIABLE).map_or(1, |times| times.parse().expect("SIMULATION_SEEDS_TIMES is a number"));
    let seeds = only.map_or(0..count.saturating_mul(times), |seed| seed..seed.saturating_add(1));
    for seed in seeds {
        let run = AssertUnwindSafe(|| simulate(seed, virtual_time_max, &scenario));
        if let Err(failure) = catch_unwind(run) {
            eprintln!("seed {seed} failed; run it alone with {SEED_VARIABLE}={seed}");
            resume_unwind(failure);
        }
    }
}

impl Simulation {
    /// The seed that fixes this run.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.0.seed
    }

    /// Virtual time since the run began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.epoch.elapsed()
    }

    /// The virtual wall clock, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        EPOCH_MS + self.elapsed().as_millis() as i64
    }

    /// What a command carries: this id, the virtual time, a deadline `patience` away.
    #[must_use]
    pub fn command(&self, id: CommandId, patience: Duration) -> CommandMeta {
        CommandMeta { at_ms: self.now_ms(), ..CommandMeta::new(id, patience) }
    }

    /// Writes a line into the trace.
    pub fn note(&self, line: impl Into<String>) {
        let at_ms = self.elapsed().as_millis() as u64;
        self.lines().push((at_ms, line.into()));
    }

    /// Somebody who acts: `label` and `number` fix its choices. At most 62 of them, journals included.
    #[must_use]
    pub fn participant(&self, label: &str, number: u64) -> Participant {
        Participant { random: Random::labelled(self.0.seed, label, number), slot: self.next_slot() }
    }

    /// Starts a service: a real tree on a disk of its own with the read model `views`. `build` makes what is on the journal
    /// and its children; it is called again each time the tree is started again.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn service<T, F>(&self, name: &str, views: impl Into<Views>, build: F) -> Service<T>
    where
        T: Clone + Send + Sync + 'static,
        F: Fn(Arc<dyn Journal>, Roster) -> (T, Vec<ChildSpec>) + Send + Sync + 'static,
    {
        let disk = MemoryDisk::new(views).expect("the read model's tables can be created");
        let faults = Faults::seeded(Random::labelled(self.0.seed, name, 0).next()).at(self.next_slot());
        let (running, roster) = (Current::empty(), Roster::new());
        let child = tree(name.to_owned(), disk.clone(), faults.clone(), roster.clone(), running.clone(), build);
        let spec = SupervisorSpec::new("simulation", vec![child])
            .intensity(Intensity { restarts_max: usize::MAX, window: Duration::ZERO })
            .backoff(Backoff { first: RESTART_PAUSE, max: RESTART_PAUSE, reset_after: Duration::ZERO });
        let (root, _) = Supervisor::spawn(None, Supervisor, (spec, roster.clone())).await.expect("the service starts");
        Service { disk, faults, roster, running, root }
    }

    fn next_slot(&self) -> TimeSlot {
        TimeSlot::new(self.0.epoch, self.0.slots_given.fetch_add(1, Ordering::Relaxed))
    }

    fn lines(&self) -> std::sync::MutexGuard<'_, Vec<(u64, String)>> {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone)]
struct Running<T> {
    handle: T,
    supervisor: ActorRef<SupervisorMessage>,
}

/// A service in a simulation: its handle while it runs, its disk, its faults.
pub struct Service<T> {
    /// What survives its crashes.
    pub disk: MemoryDisk,
    /// What goes wrong in its journal.
    pub faults: Faults,
    /// Its tree's roster.
    pub roster: Roster,
    running: Current<Running<T>>,
    root: ActorRef<SupervisorMessage>,
}

impl<T> Clone for Service<T> {
    fn clone(&self) -> Self {
        Self {
            disk: self.disk.clone(),
            faults: self.faults.clone(),
            roster: self.roster.clone(),
            running: self.running.clone(),
            root: self.root.clone(),
        }
    }
}

impl<T: Clone> Service<T> {
    /// What `build` made for the present incarnation.
    ///
    /// # Errors
    /// [`Down`] before the first start is through; afterwards the last incarnation is given until the next is there.
    pub fn handle(&self) -> Result<T, Down> {
        Ok(self.running.get()?.handle)
    }

    /// Kills the child `name` of the service's tree, such as a shard.
    pub fn kill(&self, name: impl Into<String>) {
        if let Ok(running) = self.running.get() {
            let _ = running.supervisor.send_message(SupervisorMessage::KillChild { name: name.into() });
        }
    }

    /// An orderly end: everything queued is settled.
    ///
    /// # Panics
    /// When it has ended already.
    pub async fn stop(&self) {
        self.root.stop_and_wait(None, None).await.expect("the service was running");
    }
}

fn tree<T, F>(
    name: String,
    disk: MemoryDisk,
    faults: Faults,
    roster: Roster,
    running: Current<Running<T>>,
    build: F,
) -> ChildSpec
where
    T: Clone + Send + Sync + 'static,
    F: Fn(Arc<dyn Journal>, Roster) -> (T, Vec<ChildSpec>) + Send + Sync + 'static,
{
    let build = Arc::new(build);
    ChildSpec::new(name.clone(), Restart::Permanent, move |supervisor| {
        let (name, disk, faults, roster) = (name.clone(), disk.clone(), faults.clone(), roster.clone());
        let (running, build) = (running.clone(), Arc::clone(&build));
        async move {
            let journal: Arc<dyn Journal> = MemoryJournal::open(&disk, faults).await.map_err(StartError::new)?;
            let (handle, children) = build(Arc::clone(&journal), roster.clone());
            let keeper = JournalKeeper::child("journal-keeper", journal);
            let spec =
                SupervisorSpec::new(format!("simulation/{name}"), std::iter::once(keeper).chain(children).collect())
                    .intensity(Intensity { restarts_max: usize::MAX, window: Duration::ZERO })
                    .backoff(Backoff { first: RESTART_PAUSE, max: RESTART_PAUSE, reset_after: Duration::ZERO });
            let (tree, _) = Supervisor::spawn_linked(None, Supervisor, (spec, roster), supervisor).await?;
            running.set(Running { handle, supervisor: tree.clone() });
            Ok(tree.get_cell())
        }
    })
}

/// What can go wrong with the entities of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The journal refuses the next writes, as if another writer had been there.
    RefuseWrites(u32),
    /// The next commit fails, and with it the journal.
    FailCommit(CommitFault),
    /// Commits take up to this long from now on.
    SlowCommits(Duration),
    /// An entity panics.
    Panic(EntityId),
    /// A shard is killed.
    KillShard(usize),
    /// Everybody is sent to sleep at once.
    PutAllToSleep,
    /// What was slow is fast again.
    Heal,
}

impl Fault {
    /// One of them, concerning one of `ids` or of `shards`.
    #[must_use]
    pub fn draw(random: &mut Random, ids: &[EntityId], shards: usize) -> Self {
        match random.below(10) {
            0 => Self::RefuseWrites(1 + random.below(3) as u32),
            1 => Self::FailCommit(CommitFault::Lost),
            2 => Self::FailCommit(CommitFault::Unacknowledged),
            3 => Self::SlowCommits(Duration::from_millis(random.below(3_000))),
            4 => Self::KillShard(random.below(shards as u64) as usize),
            5 | 6 => random.pick(ids).map_or(Self::Heal, |id| Self::Panic(Arc::clone(id))),
            7 | 8 => Self::PutAllToSleep,
            _ => Self::Heal,
        }
    }

    /// Makes it go wrong in `service`, of which `entities` gives the entities.
    pub fn inject<T: Clone, E: Entity>(&self, service: &Service<T>, entities: impl Fn(&T) -> &Entities<E>) {
        match self {
            Self::RefuseWrites(appends) => service.faults.refuse_next(*appends),
            Self::FailCommit(fault) => service.faults.fail_next_commit(*fault),
            Self::SlowCommits(delay) => service.faults.delay_commits(Duration::ZERO..=*delay),
            Self::KillShard(index) => service.kill(format!("{}-shard-{index}", E::KIND)),
            Self::Heal => service.faults.heal(),
            Self::Panic(id) => {
                if let Ok(handle) = service.handle() {
                    entities(&handle).inject_panic(Arc::clone(id));
                }
            }
            Self::PutAllToSleep => {
                if let Ok(handle) = service.handle() {
                    entities(&handle).inject_sleep();
                }
            }
        }
    }
}
