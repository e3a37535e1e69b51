//! A supervised worker pool: four workers that sometimes panic and sometimes hang, a dispatcher, and bounded work.
//!
//! ```text
//! cargo run --release -p microcommerce-runtime --example worker_pool
//! ```
//!
//! The tree, printed as it runs:
//!
//! ```text
//! pool             rest for one: when the workers' supervisor gives up, the dispatcher is started again after it
//! ├─ workers       one for one: a worker's fall concerns nobody else
//! │  └─ worker-0 … worker-3
//! └─ dispatcher    gives each job to the worker with the shortest queue
//! ```
//!
//! What to look for: a panic costs the worker its queue, not its place; a hanging worker is killed within a second; the
//! jobs that were lost on the way are handed in again, and in the end every one has its answer. It ends by itself.

use std::{
    error::Error,
    fmt::Write,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use microcommerce_runtime::{
    Current, Gate, Roster,
    admission::Permit,
    inspection::ActorLine,
    supervision::{Activity, Backoff, ChildSpec, Intensity, Restart, StartError, Strategy, Supervisor, SupervisorSpec},
};
use ractor::{Actor, ActorProcessingErr, ActorRef, MessagingErr};
use tokio::{sync::oneshot, task::JoinSet, time::interval};

const WORKERS: usize = 4;
const JOBS: u64 = 1_200;
/// Jobs between the gate and their answers. ractor's mailboxes have no bound; this is it.
const IN_FLIGHT_MAX: usize = 64;
/// How often a job may be handed in: each time it may be lost with a worker that falls.
const ATTEMPTS_MAX: u32 = 50;
/// How long a caller waits for an answer before it hands the job in again.
const ANSWER_DEADLINE: Duration = Duration::from_secs(3);
/// How long a caller waits before that.
const HAND_IN_AGAIN_AFTER: Duration = Duration::from_millis(20);
/// A worker that is in one job for longer is stuck.
const STUCK_AFTER: Duration = Duration::from_millis(400);
const PRINT_EVERY: Duration = Duration::from_millis(500);

/// A job and where its answer goes. If it is dropped unanswered, the caller notices; the permit comes back either way.
struct Job {
    number: u64,
    answer: oneshot::Sender<u64>,
    _permit: Permit,
}

/// What the dispatcher knows of a worker. It outlives the worker's incarnations.
#[derive(Clone)]
struct Seat {
    address: Current<ActorRef<Job>>,
    activity: Activity,
    jobs_seen: Arc<AtomicU64>,
}

impl Seat {
    /// Nobody sits there yet. Some are nearer to their bad luck than others.
    fn empty(number: usize) -> Self {
        let jobs_seen = Arc::new(AtomicU64::new(25 * number as u64));
        Self { address: Current::empty(), activity: Activity::new(), jobs_seen }
    }
}

/// Squares numbers; its luck runs out now and then.
struct Worker;

impl Actor for Worker {
    type Msg = Job;
    type State = Seat;
    type Arguments = Seat;

    async fn pre_start(&self, myself: ActorRef<Job>, seat: Seat) -> Result<Seat, ActorProcessingErr> {
        // From here on the dispatcher finds this incarnation.
        seat.address.set(myself);
        Ok(seat)
    }

    async fn handle(&self, _: ActorRef<Job>, job: Job, seat: &mut Seat) -> Result<(), ActorProcessingErr> {
        // While this guard lives the worker is in a message: its supervisor looks at that.
        let _busy = seat.activity.enter();
        match seat.jobs_seen.fetch_add(1, Ordering::Relaxed) {
            seen if seen % 300 == 299 => pending().await,
            seen if seen % 90 == 89 => fall(job.number),
            _ => tokio::time::sleep(Duration::from_millis(4)).await,
        }
        // That the caller does not wait any more is no error.
        let _ = job.answer.send(job.number * job.number);
        Ok(())
    }
}

#[expect(clippy::panic, reason = "this is what the example shows")]
fn fall(job: u64) {
    panic!("bad luck with job {job}");
}

/// Gives each job to the worker with the shortest queue. It holds no job itself: what it cannot give away is dropped, and
/// its caller hands it in again.
struct Dispatcher;

impl Actor for Dispatcher {
    type Msg = Job;
    type State = Vec<Seat>;
    type Arguments = (Vec<Seat>, Current<ActorRef<Job>>);

    async fn pre_start(
        &self,
        myself: ActorRef<Job>,
        (seats, door): Self::Arguments,
    ) -> Result<Vec<Seat>, ActorProcessingErr> {
        door.set(myself);
        Ok(seats)
    }

    async fn handle(&self, _: ActorRef<Job>, job: Job, seats: &mut Vec<Seat>) -> Result<(), ActorProcessingErr> {
        let mut by_queue: Vec<&Seat> = seats.iter().collect();
        by_queue.sort_by_key(|seat| {
            let reading = seat.activity.reading();
            // A worker in the middle of a job has one more to do than its queue says.
            reading.queue_depth.unwrap_or(0) + u64::from(reading.message_age.is_some())
        });
        let mut job = job;
        for seat in by_queue {
            let Ok(worker) = seat.address.get() else { continue };
            match worker.send_message(job) {
                Ok(()) => {
                    seat.activity.enqueued();
                    break;
                }
                // This worker has fallen and is not back yet. Its queue is the shortest of all: ask the next one.
                Err(MessagingErr::SendErr(unsent)) => job = unsent,
                Err(_) => break,
            }
        }
        Ok(())
    }
}

/// The pool, as data: nothing runs until a supervisor starts it.
fn pool(roster: &Roster, door: &Current<ActorRef<Job>>) -> SupervisorSpec {
    let seats: Vec<Seat> = (0..WORKERS).map(Seat::empty).collect();
    let workers = {
        let seats = seats.clone();
        ChildSpec::supervisor("workers", Restart::Permanent, roster.clone(), move || {
            let worker = |(number, seat): (usize, &Seat)| {
                let (arguments, activity) = (seat.clone(), seat.activity.clone());
                ChildSpec::actor(format!("worker-{number}"), Restart::Permanent, move || (Worker, arguments.clone()))
                    .watched(STUCK_AFTER, activity)
            };
            let children = seats.iter().enumerate().map(worker).collect();
            // More than twenty falls within two seconds, and something is wrong that restarts do not mend.
            let intensity = Intensity { restarts_max: 20, window: Duration::from_secs(2) };
            let backoff = Backoff { first: Duration::from_millis(100), ..Backoff::default() };
            async move {
                Ok::<_, StartError>(SupervisorSpec::new("pool/workers", children).intensity(intensity).backoff(backoff))
            }
        })
    };
    let door = door.clone();
    let dispatcher =
        ChildSpec::actor("dispatcher", Restart::Permanent, move || (Dispatcher, (seats.clone(), door.clone())));
    SupervisorSpec::new("pool", vec![workers, dispatcher]).strategy(Strategy::RestForOne)
}

/// Hands a job in until it has its answer; how often that took.
async fn hand_in(number: u64, gate: Arc<Gate>, door: Current<ActorRef<Job>>) -> Result<u32, String> {
    for attempt in 1..=ATTEMPTS_MAX {
        if let (Some(permit), Ok(dispatcher)) = (gate.try_enter(), door.get()) {
            let (answer, answered) = oneshot::channel();
            // Unsent or lost on the way, it is dropped, and its answer's sender with it.
            let _ = dispatcher.send_message(Job { number, answer, _permit: permit });
            if let Ok(Ok(square)) = tokio::time::timeout(ANSWER_DEADLINE, answered).await {
                return if square == number * number {
                    Ok(attempt)
                } else {
                    Err(format!("{number}² is not {square}"))
                };
            }
        }
        // Full, lost, or nobody there: a little later things look different.
        tokio::time::sleep(HAND_IN_AGAIN_AFTER).await;
    }
    Err(format!("job {number} was handed in {ATTEMPTS_MAX} times and has no answer"))
}

/// One line an actor, indented by its depth in the tree.
fn as_tree(actors: &[ActorLine]) -> String {
    let mut text = String::new();
    for line in actors {
        let depth = line.entry.path.matches('/').count();
        let name = line.entry.path.rsplit('/').next().unwrap_or_default();
        let number = |value: Option<u64>| value.map_or("-".to_owned(), |value| value.to_string());
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "  {:<18} {:<10} restarts {:<3} queue {:<3} handled {:<5} {}",
            format!("{}{name}", "  ".repeat(depth)),
            format!("{:?}", line.entry.state).to_lowercase(),
            line.entry.restarts,
            number(line.queue_depth),
            number(line.handled),
            line.entry.last_failure.as_deref().unwrap_or_default(),
        );
    }
    text
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // The roster tells why a worker fell; the default hook would say it a second time in the middle of the tree.
    std::panic::set_hook(Box::new(|_| {}));
    let (roster, gate, door) = (Roster::new(), Gate::new(IN_FLIGHT_MAX), Current::empty());
    let (root, _) = Supervisor::spawn(None, Supervisor, (pool(&roster, &door), roster.clone())).await?;

    let mut callers = JoinSet::new();
    let (mut handed_in, mut done, mut repeated) = (0, 0, 0);
    let mut print = interval(PRINT_EVERY);
    while done < JOBS {
        while handed_in < JOBS && callers.len() < IN_FLIGHT_MAX {
            callers.spawn(hand_in(handed_in, Arc::clone(&gate), door.clone()));
            handed_in += 1;
        }
        tokio::select! {
            Some(answered) = callers.join_next() => {
                done += 1;
                repeated += u64::from(answered?? > 1);
            }
            _ = print.tick() => {
                println!("{done} of {JOBS} jobs done, {} in flight", gate.in_flight());
                println!("{}", as_tree(&roster.snapshot().actors));
            }
        }
    }
    println!("all {JOBS} jobs have their answers; {repeated} were handed in more than once");
    root.stop_and_wait(None, None).await?;
    println!("{}", as_tree(&roster.snapshot().actors));
    Ok(())
}
