//! The supervisor's actor; see the module above.
//!
//! It owns its children's lives and their lines in the roster. Its parent starts it; when it falls, ractor ends its
//! descendants with it. Told to stop, it stops its children in reverse order, each within its deadline, then kills. It
//! carries no messages between its children.

use std::{
    fmt::Display,
    future::Future,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use tokio::time::Instant;

use super::{
    backoff::Backoff,
    intensity::{Intensity, RestartLog},
    restart::{Decision, Exit, Restart, decide, exit_of},
};
use crate::roster::{ChildState, Roster};

/// How long a child may take to stop before it is killed, unless its spec says otherwise.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// Why a child did not start.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(String);

impl StartError {
    /// In words.
    pub fn new(reason: impl Display) -> Self {
        Self(reason.to_string())
    }
}

impl From<SpawnErr> for StartError {
    fn from(error: SpawnErr) -> Self {
        match error {
            // The reason alone: a tree of "failed to start" around it helps nobody.
            SpawnErr::StartupFailed(reason) => Self(reason.to_string()),
            other => Self(other.to_string()),
        }
    }
}

type Start = Arc<dyn Fn(ActorCell) -> BoxFuture<'static, Result<ActorCell, StartError>> + Send + Sync>;

/// A child, as data.
#[derive(Clone)]
pub struct ChildSpec {
    name: String,
    restart: Restart,
    stop_deadline: Duration,
    start: Start,
}

impl ChildSpec {
    /// A child called `name` (unique among its siblings). `start` spawns it linked to the supervisor it is given.
    pub fn new<F, Fut>(name: impl Into<String>, restart: Restart, start: F) -> Self
    where
        F: Fn(ActorCell) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<ActorCell, StartError>> + Send + 'static,
    {
        Self {
            name: name.into(),
            restart,
            stop_deadline: STOP_DEADLINE,
            start: Arc::new(move |supervisor| Box::pin(start(supervisor))),
        }
    }

    /// How long it may take to stop before it is killed.
    #[must_use]
    pub fn stop_deadline(mut self, deadline: Duration) -> Self {
        self.stop_deadline = deadline;
        self
    }

    /// A supervisor as a child: its own children are read from `spec` at every start.
    pub fn supervisor<F, Fut>(name: impl Into<String>, restart: Restart, roster: Roster, spec: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<SupervisorSpec, StartError>> + Send + 'static,
    {
        let spec = Arc::new(spec);
        Self::new(name, restart, move |supervisor| {
            let (spec, roster) = (Arc::clone(&spec), roster.clone());
            async move {
                let spec = spec().await?;
                let (child, _) = Supervisor::spawn_linked(None, Supervisor, (spec, roster), supervisor).await?;
                Ok(child.get_cell())
            }
        })
    }
}

/// A supervisor, as data.
#[derive(Clone)]
pub struct SupervisorSpec {
    /// Its path in the tree; the children's are below it.
    pub path: String,
    /// When to give up.
    pub intensity: Intensity,
    /// How long to wait before a restart.
    pub backoff: Backoff,
    /// The children, in the order in which they start.
    pub children: Vec<ChildSpec>,
}

impl SupervisorSpec {
    /// A supervisor of `children` with the default intensity and backoff.
    pub fn new(path: impl Into<String>, children: Vec<ChildSpec>) -> Self {
        Self { path: path.into(), intensity: Intensity::default(), backoff: Backoff::default(), children }
    }
}

/// What a supervisor is sent.
pub enum SupervisorMessage {
    /// The pause before a restart is over.
    StartAgain {
        /// Which child.
        index: usize,
    },
    /// Kill the child of this name, for a drill; it comes back as if it had fallen.
    KillChild {
        /// Which child.
        name: String,
    },
}

struct Child {
    spec: ChildSpec,
    path: String,
    cell: Option<ActorCell>,
    started_at: Instant,
    failures_in_a_row: u32,
}

/// A supervisor's state.
pub struct SupervisorState {
    path: String,
    intensity: Intensity,
    backoff: Backoff,
    restarts: RestartLog,
    children: Vec<Child>,
    roster: Roster,
}

/// The supervisor's actor.
pub struct Supervisor;

impl Actor for Supervisor {
    type Msg = SupervisorMessage;
    type State = SupervisorState;
    type Arguments = (SupervisorSpec, Roster);

    /// Starts the children in order: a supervisor of which one child cannot start does not start.
    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        (spec, roster): Self::Arguments,
    ) -> Result<SupervisorState, ActorProcessingErr> {
        let mut state = SupervisorState {
            intensity: spec.intensity,
            backoff: spec.backoff,
            restarts: RestartLog::default(),
            children: Vec::with_capacity(spec.children.len()),
            roster,
            path: spec.path,
        };
        for spec in spec.children {
            let path = format!("{}/{}", state.path, spec.name);
            match (spec.start)(myself.get_cell()).await {
                Ok(cell) => {
                    state.roster.started(&path);
                    state.children.push(Child {
                        spec,
                        path,
                        cell: Some(cell),
                        started_at: Instant::now(),
                        failures_in_a_row: 0,
                    });
                }
                Err(error) => {
                    state.stop_children().await;
                    return Err(error.to_string().into());
                }
            }
        }
        Ok(state)
    }

    async fn post_stop(&self, _: ActorRef<Self::Msg>, state: &mut SupervisorState) -> Result<(), ActorProcessingErr> {
        state.stop_children().await;
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMessage::StartAgain { index } => state.start_again(&myself, index).await,
            SupervisorMessage::KillChild { name } => {
                let child = state.children.iter().find(|child| child.spec.name == name);
                if let Some(cell) = child.and_then(|child| child.cell.as_ref()) {
                    cell.kill();
                }
                Ok(())
            }
        }
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match exit_of(&event) {
            Some((who, exit)) => state.child_ended(&myself, who, &exit),
            None => Ok(()),
        }
    }
}

impl SupervisorState {
    fn child_ended(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        who: ActorId,
        exit: &Exit,
    ) -> Result<(), ActorProcessingErr> {
        let of_this_actor = |child: &Child| child.cell.as_ref().is_some_and(|cell| cell.get_id() == who);
        // An end of somebody who is no longer ours, such as a former incarnation, asks for nothing.
        let Some(index) = self.children.iter().position(of_this_actor) else { return Ok(()) };
        let child = &mut self.children[index];
        child.cell = None;
        match decide(child.spec.restart, exit.kind) {
            Decision::Leave => {
                self.roster.ended(&child.path, ChildState::Stopped, None);
                Ok(())
            }
            Decision::Restart => {
                if child.started_at.elapsed() >= self.backoff.reset_after {
                    child.failures_in_a_row = 0;
                }
                self.schedule(myself, index, &exit.reason)
            }
            Decision::Escalate => {
                self.roster.ended(&child.path, ChildState::Stopped, Some(&exit.reason));
                Err(format!("{} fell: {}", child.path, exit.reason).into())
            }
        }
    }

    fn schedule(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        index: usize,
        reason: &str,
    ) -> Result<(), ActorProcessingErr> {
        let child = &mut self.children[index];
        self.roster.ended(&child.path, ChildState::Restarting, Some(reason));
        if !self.restarts.note(&self.intensity, Instant::now()) {
            let Intensity { restarts_max, window } = self.intensity;
            return Err(format!("{} fell more than {restarts_max} times in {window:?}: {reason}", child.path).into());
        }
        child.failures_in_a_row += 1;
        let pause = self.backoff.pause(child.failures_in_a_row, jitter());
        tracing::warn!(path = %child.path, reason, pause_ms = pause.as_millis() as u64, "fell; it is started again");
        myself.send_after(pause, move || SupervisorMessage::StartAgain { index });
        Ok(())
    }

    async fn start_again(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        index: usize,
    ) -> Result<(), ActorProcessingErr> {
        let Some(child) = self.children.get_mut(index).filter(|child| child.cell.is_none()) else { return Ok(()) };
        match (child.spec.start)(myself.get_cell()).await {
            Ok(cell) => {
                tracing::info!(path = %child.path, "started again");
                self.roster.started(&child.path);
                child.cell = Some(cell);
                child.started_at = Instant::now();
                Ok(())
            }
            Err(error) => self.schedule(myself, index, &error.to_string()),
        }
    }

    async fn stop_children(&mut self) {
        for child in self.children.iter_mut().rev() {
            let Some(cell) = child.cell.take() else { continue };
            let is_stopped = cell.stop_and_wait(None, Some(child.spec.stop_deadline)).await.is_ok();
            if !is_stopped {
                tracing::warn!(path = %child.path, "did not stop within its deadline; killed");
                cell.kill();
            }
            self.roster.ended(&child.path, ChildState::Stopped, None);
        }
    }
}

/// A number in 0..1 from the hasher's random seed: spread is all that a pause needs.
fn jitter() -> f64 {
    (RandomState::new().hash_one(0) % 1_000) as f64 / 1_000.0
}
