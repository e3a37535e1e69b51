//! A stage on which supervised actors do what they are told, and which remembers who came and went. What runs is known
//! from the actors' own states, not from any supervisor.
#![allow(dead_code, reason = "each test uses its part")]

use std::{
    collections::{HashMap, HashSet},
    future::pending,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use microcommerce_runtime::{
    Roster,
    roster::{ChildState, Entry},
    supervision::{
        Activity, Backoff, ChildSpec, Fatal, Intensity, Restart, StartError, Supervisor, SupervisorMessage,
        SupervisorSpec,
    },
};
use ractor::{Actor, ActorProcessingErr, ActorRef, concurrency::JoinHandle};

/// With paused time this passes in no time; with real time it is more than any test needs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What an actor is told.
pub enum Do {
    /// End by itself.
    Stop,
    /// Return an error.
    Fail,
    /// Return an error that only a new process can mend.
    FailForGood,
    Panic,
    /// Wait for ever, at an `.await`.
    Hang,
    /// Block the thread until the sender is gone, and fail to notice any kill meanwhile.
    Block(mpsc::Receiver<()>),
}

#[derive(Default)]
pub struct Stage(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    /// `+a` and `-a`: a started, a stopped in order.
    log: Vec<String>,
    running: Vec<String>,
    addresses: HashMap<String, ActorRef<Do>>,
    /// How many of the next starts fail.
    refused_starts: HashMap<String, u32>,
    /// Who cannot start again in this process.
    ended_for_good: HashSet<String>,
}

impl Stage {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn child(self: &Arc<Self>, name: &str, restart: Restart) -> ChildSpec {
        self.watched_child(name, restart, Activity::new())
    }

    /// A child that tells what it does through `activity`.
    pub fn watched_child(self: &Arc<Self>, name: &str, restart: Restart, activity: Activity) -> ChildSpec {
        let (stage, name_kept) = (Arc::clone(self), name.to_owned());
        ChildSpec::actor(name, restart, move || {
            (Player, Part { stage: Arc::clone(&stage), name: name_kept.clone(), activity: activity.clone() })
        })
    }

    pub fn refuse_starts(&self, name: &str, times: u32) {
        self.0.lock().unwrap().refused_starts.insert(name.to_owned(), times);
    }

    /// From now on no start of `name` can succeed in this process.
    pub fn end_for_good(&self, name: &str) {
        self.0.lock().unwrap().ended_for_good.insert(name.to_owned());
    }

    pub fn tell(&self, name: &str, what: Do) {
        let address = self.0.lock().unwrap().addresses[name].clone();
        address.send_message(what).unwrap();
    }

    pub fn address(&self, name: &str) -> ActorRef<Do> {
        self.0.lock().unwrap().addresses[name].clone()
    }

    /// What was logged since the last call.
    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().log)
    }

    /// Waits until exactly these run: with several threads an actor's state may outlive the event of its end by a moment.
    pub async fn until_running(&self, expected: &[&str]) {
        let give_up_at = tokio::time::Instant::now() + PATIENCE;
        while self.running() != expected {
            assert!(tokio::time::Instant::now() < give_up_at, "{:?} run, expected {expected:?}", self.running());
            tokio::task::yield_now().await;
        }
    }

    /// Who really runs, each as often as it does.
    pub fn running(&self) -> Vec<String> {
        let mut running = self.0.lock().unwrap().running.clone();
        running.sort();
        running
    }
}

pub struct Player;

pub struct Part {
    stage: Arc<Stage>,
    name: String,
    activity: Activity,
}

/// An actor's state; it leaves the stage with it, however it ends.
pub struct OnStage(Part);

impl Drop for OnStage {
    fn drop(&mut self) {
        let mut seen = self.0.stage.0.lock().unwrap();
        let place = seen.running.iter().position(|name| *name == self.0.name).unwrap();
        seen.running.swap_remove(place);
    }
}

impl Actor for Player {
    type Msg = Do;
    type State = OnStage;
    type Arguments = Part;

    async fn pre_start(&self, myself: ActorRef<Do>, part: Part) -> Result<OnStage, ActorProcessingErr> {
        {
            let mut seen = part.stage.0.lock().unwrap();
            if let Some(times) = seen.refused_starts.get_mut(&part.name).filter(|times| **times > 0) {
                *times -= 1;
                seen.log.push(format!("!{}", part.name));
                return Err("told not to start".into());
            }
            if seen.ended_for_good.contains(&part.name) {
                seen.log.push(format!("!{}", part.name));
                return Err(Fatal("not closed".to_owned()).into());
            }
            seen.log.push(format!("+{}", part.name));
            seen.running.push(part.name.clone());
            seen.addresses.insert(part.name.clone(), myself);
        }
        Ok(OnStage(part))
    }

    async fn post_stop(&self, _: ActorRef<Do>, on_stage: &mut OnStage) -> Result<(), ActorProcessingErr> {
        let part = &on_stage.0;
        part.stage.0.lock().unwrap().log.push(format!("-{}", part.name));
        Ok(())
    }

    async fn handle(&self, myself: ActorRef<Do>, what: Do, on_stage: &mut OnStage) -> Result<(), ActorProcessingErr> {
        let _busy = on_stage.0.activity.enter();
        match what {
            Do::Stop => {
                myself.stop(None);
                Ok(())
            }
            Do::Fail => Err("told to fail".into()),
            Do::FailForGood => Err(Fatal("told to fail for good".to_owned()).into()),
            Do::Panic => panic!("told to panic"),
            Do::Hang => pending().await,
            Do::Block(until) => {
                let _ = until.recv();
                Ok(())
            }
        }
    }
}

/// Never too often.
pub const TIRELESS: Intensity = Intensity { restarts_max: usize::MAX, window: Duration::from_secs(1) };
/// Short pauses of one length.
pub const BRIEF: Backoff = Backoff {
    first: Duration::from_millis(10),
    max: Duration::from_millis(10),
    reset_after: Duration::from_secs(3_600),
};

pub struct Tree {
    pub root: ActorRef<SupervisorMessage>,
    pub ended: JoinHandle<()>,
    pub roster: Roster,
}

pub async fn start(spec: SupervisorSpec) -> Tree {
    start_in(spec, Roster::new()).await
}

pub async fn start_in(spec: SupervisorSpec, roster: Roster) -> Tree {
    let (root, ended) = Supervisor::spawn(None, Supervisor, (spec, roster.clone())).await.unwrap();
    Tree { root, ended, roster }
}

impl Tree {
    /// Waits until the roster's lines are as `is_so` wants them.
    pub async fn until(&self, is_so: impl Fn(&[Entry]) -> bool) -> Vec<Entry> {
        until(&self.roster, is_so).await
    }

    pub fn entry(&self, path: &str) -> Entry {
        self.roster.entries().into_iter().find(|entry| entry.path == path).unwrap()
    }

    /// The names that the roster says run, but for supervisors.
    pub fn said_to_run(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .roster
            .entries()
            .iter()
            .filter(|entry| entry.state == ChildState::Running && &*entry.kind != "supervisor")
            .map(|entry| entry.path.rsplit('/').next().unwrap().to_owned())
            .collect();
        names.sort();
        names
    }

    pub async fn stop(self) {
        self.root.stop_and_wait(None, None).await.unwrap();
    }
}

pub async fn until(roster: &Roster, is_so: impl Fn(&[Entry]) -> bool) -> Vec<Entry> {
    let (mut snapshot, mut changes) = roster.follow();
    let give_up_at = tokio::time::Instant::now() + PATIENCE;
    while !is_so(&snapshot.entries()) {
        match tokio::time::timeout_at(give_up_at, changes.next()).await {
            Ok(change) => snapshot.apply(&change.unwrap()),
            Err(_) => panic!("the tree did not become what it should: {:#?}", snapshot.entries()),
        }
    }
    snapshot.entries()
}

/// True when the child at `path` has been started again exactly `restarts` times and runs.
pub fn runs_again(path: &'static str, restarts: u64) -> impl Fn(&[Entry]) -> bool {
    move |entries| {
        entries
            .iter()
            .any(|entry| entry.path == path && entry.state == ChildState::Running && entry.restarts == restarts)
    }
}

/// True when the child at `path` stands so.
pub fn stands(path: &'static str, state: ChildState) -> impl Fn(&[Entry]) -> bool {
    move |entries| entries.iter().any(|entry| entry.path == path && entry.state == state)
}

pub fn broken_start(name: &str) -> ChildSpec {
    ChildSpec::new(name, Restart::Permanent, |_| async { Err(StartError::new("broken")) })
}
