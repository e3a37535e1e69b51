//! The supervisor's actor; see the module above.
//!
//! It owns its children's lives and their lines in the roster. Its parent starts it; when it falls, ractor ends its
//! descendants with it. Told to stop, it stops its children in reverse order, each within its deadline, then kills. It
//! carries no messages between its children.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::time::Instant;

use super::{
    backoff::Backoff,
    intensity::{Intensity, RestartLog},
    restart::{Decision, Exit, ExitKind, Fatal, Restart, decide, exit_of},
    spec::{ChildSpec, StartError, SupervisorSpec},
    strategy::{Plan, Standing, Strategy, plan},
};
use crate::roster::{ChildState, NewLine, Roster};

/// How long a killed child may take to end before it is left behind as stuck. A kill takes effect at the next `.await`.
const KILL_DEADLINE: Duration = Duration::from_secs(1);
/// How long each child may take to stop when its supervisor gives up: something is broken, and the parent waits.
const GIVE_UP_STOP_DEADLINE: Duration = Duration::from_secs(1);
/// A watched child is looked at this often within its bound.
const LOOKS_PER_BOUND: u32 = 4;
/// The looks are never closer than this, nor further apart than a second.
const LOOK_EVERY_MIN: Duration = Duration::from_millis(10);
const LOOK_EVERY_MAX: Duration = Duration::from_secs(1);

/// What a supervisor is sent.
pub enum SupervisorMessage {
    /// A pause is over: start those that waited for its end.
    StartAgain {
        /// Which pause.
        pause: u64,
    },
    /// Look at the watched children.
    Look,
    /// Kill the child of this name, for a drill; it comes back as if it had fallen.
    KillChild {
        /// Which child.
        name: String,
    },
}

/// Where a child is.
enum Place {
    /// It runs, as far as is known: its end makes an event.
    Running(ActorCell),
    /// It was told to end, was killed, and has not ended. Nobody waits for it to come back.
    Lingering(ActorCell),
    /// It is started again after this pause, and not before the incarnation that lingers has ended.
    Waiting { pause: u64, lingering: Option<ActorCell> },
    /// It ended, or has never started.
    Ended,
}

struct Child {
    spec: ChildSpec,
    path: String,
    place: Place,
    /// Since when it has not fallen by itself; a sibling's fall does not count.
    quiet_since: Instant,
    falls_in_a_row: u32,
    /// Why it was killed, when it was found stuck.
    stuck: Option<String>,
    /// The last incarnation that was told to stop.
    stopped: Option<ActorId>,
}

impl Child {
    fn runs_as(&self, id: ActorId) -> bool {
        matches!(&self.place, Place::Running(cell) if cell.get_id() == id)
    }

    fn lingers_as(&self, id: ActorId) -> bool {
        matches!(
            &self.place,
            Place::Lingering(cell) | Place::Waiting { lingering: Some(cell), .. } if cell.get_id() == id
        )
    }

    fn waits_for(&self, pause: u64) -> bool {
        matches!(self.place, Place::Waiting { pause: own, .. } if own == pause)
    }

    fn is_clear(&self) -> bool {
        !matches!(self.place, Place::Waiting { lingering: Some(_), .. })
    }

    fn start_after(&mut self, pause: u64) {
        let lingering = match std::mem::replace(&mut self.place, Place::Ended) {
            Place::Waiting { lingering, .. } => lingering,
            Place::Lingering(cell) => Some(cell),
            Place::Running(_) | Place::Ended => None,
        };
        self.place = Place::Waiting { pause, lingering };
    }
}

/// A supervisor's state.
pub struct SupervisorState {
    id: ActorId,
    path: String,
    strategy: Strategy,
    intensity: Intensity,
    backoff: Backoff,
    restarts: RestartLog,
    pauses: u64,
    children: Vec<Child>,
    roster: Roster,
}

impl Drop for SupervisorState {
    /// However it ends, its descendants end with it: the roster must not go on saying that they run.
    fn drop(&mut self) {
        self.roster.supervisor_ended(self.id);
    }
}

/// The supervisor's actor.
pub struct Supervisor;

impl Supervisor {
    /// What the roster calls a supervisor.
    pub(super) const KIND: &'static str = "supervisor";
}

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
        refuse_shared_names(&spec).map_err(StartError::into_error)?;
        let mut state = SupervisorState::new(myself.get_id(), spec, roster);
        for index in 0..state.children.len() {
            if let Err(error) = state.start_child(&myself, index).await {
                state.roster.ended(&state.children[index].path, ChildState::Stopped, Some(&error.to_string()));
                state.stop_children(None).await;
                return Err(error.into_error());
            }
        }
        if let Some(bound) = state.children.iter().filter_map(|child| child.spec.stuck_after).min() {
            let every = (bound / LOOKS_PER_BOUND).clamp(LOOK_EVERY_MIN, LOOK_EVERY_MAX);
            myself.send_interval(every, || SupervisorMessage::Look);
        }
        Ok(state)
    }

    async fn post_start(
        &self,
        myself: ActorRef<Self::Msg>,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        // A supervisor with a parent has its line from there.
        if myself.try_get_supervisor().is_none() {
            state.roster.starting(NewLine { path: &state.path, kind: Self::KIND, parent: None, activity: None });
            state.roster.running(&state.path, state.id);
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Self::Msg>, state: &mut SupervisorState) -> Result<(), ActorProcessingErr> {
        state.stop_children(None).await;
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMessage::StartAgain { pause } => state.start_again(&myself, pause).await,
            SupervisorMessage::Look => {
                state.kill_the_stuck();
                Ok(())
            }
            SupervisorMessage::KillChild { name } => {
                if let Some(Child { place: Place::Running(cell), .. }) =
                    state.children.iter().find(|child| child.spec.name == name)
                {
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
            Some((who, exit)) => state.ended(&myself, who, exit).await,
            None => Ok(()),
        }
    }
}

/// Two children of one name would share a line in the roster.
fn refuse_shared_names(spec: &SupervisorSpec) -> Result<(), StartError> {
    let mut names = HashSet::new();
    match spec.children.iter().find(|child| !names.insert(&child.name)) {
        Some(child) => Err(StartError::new(format!("{} has two children called {}", spec.path, child.name))),
        None => Ok(()),
    }
}

impl SupervisorState {
    fn new(id: ActorId, spec: SupervisorSpec, roster: Roster) -> Self {
        let child = |child: ChildSpec| Child {
            path: format!("{}/{}", spec.path, child.name),
            spec: child,
            place: Place::Ended,
            quiet_since: Instant::now(),
            falls_in_a_row: 0,
            stuck: None,
            stopped: None,
        };
        Self {
            id,
            strategy: spec.strategy,
            intensity: spec.intensity,
            backoff: spec.backoff,
            restarts: RestartLog::default(),
            pauses: 0,
            children: spec.children.into_iter().map(child).collect(),
            roster,
            path: spec.path,
        }
    }

    async fn start_child(&mut self, myself: &ActorRef<SupervisorMessage>, index: usize) -> Result<(), StartError> {
        let child = &mut self.children[index];
        let activity = child.spec.activity.clone();
        if let Some(activity) = &activity {
            activity.restarted();
        }
        child.stuck = None;
        self.roster.starting(NewLine { path: &child.path, kind: &child.spec.kind, parent: Some(self.id), activity });
        let cell = child.spec.start(myself.get_cell()).await?;
        self.roster.running(&child.path, cell.get_id());
        child.place = Place::Running(cell);
        Ok(())
    }

    /// Somebody who was linked here has ended.
    async fn ended(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        who: ActorId,
        exit: Exit,
    ) -> Result<(), ActorProcessingErr> {
        if let Some(index) = self.children.iter().position(|child| child.runs_as(who)) {
            return self.child_ended(myself, index, exit).await;
        }
        if let Some(index) = self.children.iter().position(|child| child.lingers_as(who)) {
            return self.lingerer_ended(myself, index).await;
        }
        // An end that this supervisor brought about asks for nothing, unless the child fell by itself at that moment and
        // nothing may go on without it.
        match self.children.iter().find(|child| child.stopped == Some(who)) {
            Some(child)
                if exit.kind == ExitKind::Fatal
                    || (child.spec.restart == Restart::Significant && exit.kind == ExitKind::Failed) =>
            {
                let path = child.path.clone();
                self.escalate(&path, exit.kind, &exit.reason).await
            }
            _ => Ok(()),
        }
    }

    /// What could not be killed has ended after all. Its group may have waited for that alone.
    async fn lingerer_ended(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        index: usize,
    ) -> Result<(), ActorProcessingErr> {
        let child = &mut self.children[index];
        match &mut child.place {
            Place::Waiting { pause, lingering } => {
                *lingering = None;
                let pause = *pause;
                self.roster.ended(&child.path, ChildState::Restarting, None);
                // Should the pause still be on, it ends now: the wait was longer than any pause is meant to be.
                self.start_again(myself, pause).await
            }
            _ => {
                child.place = Place::Ended;
                self.roster.ended(&child.path, ChildState::Stopped, None);
                Ok(())
            }
        }
    }

    async fn child_ended(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        index: usize,
        exit: Exit,
    ) -> Result<(), ActorProcessingErr> {
        let child = &mut self.children[index];
        child.place = Place::Ended;
        let is_failure = exit.is_failure();
        let reason = child.stuck.take().unwrap_or(exit.reason);
        let failure = is_failure.then_some(reason.as_str());
        match decide(child.spec.restart, exit.kind) {
            Decision::Leave => {
                self.roster.ended(&child.path, ChildState::Stopped, failure);
                Ok(())
            }
            Decision::Restart => {
                if child.quiet_since.elapsed() >= self.backoff.reset_after {
                    child.falls_in_a_row = 0;
                }
                self.restart_with_its_group(myself, index, &reason).await
            }
            Decision::Escalate => {
                self.roster.ended(&child.path, ChildState::Stopped, failure);
                let path = child.path.clone();
                self.escalate(&path, exit.kind, &reason).await
            }
        }
    }

    /// The child `index` has fallen, or could not be started again: whom that concerns is stopped now and started again
    /// after one pause.
    async fn restart_with_its_group(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        index: usize,
        reason: &str,
    ) -> Result<(), ActorProcessingErr> {
        let path = self.children[index].path.clone();
        if !self.restarts.note(&self.intensity, Instant::now()) {
            let Intensity { restarts_max, window } = self.intensity;
            self.roster.ended(&path, ChildState::Stopped, Some(reason));
            return self.give_up(format!("{path} fell more than {restarts_max} times in {window:?}: {reason}")).await;
        }
        self.roster.ended(&path, ChildState::Restarting, Some(reason));
        let Plan { stop, start } = plan(self.strategy, index, &self.standings());
        for &sibling in &stop {
            self.stop_child(sibling, None).await;
        }
        self.pauses += 1;
        let pause = self.pauses;
        for &concerned in &start {
            let child = &mut self.children[concerned];
            child.start_after(pause);
            if child.is_clear() {
                self.roster.ended(&child.path, ChildState::Restarting, None);
            }
        }
        let fallen = &mut self.children[index];
        fallen.falls_in_a_row += 1;
        let length = self.backoff.pause(fallen.falls_in_a_row, jitter());
        fallen.quiet_since = Instant::now() + length;
        tracing::warn!(%path, reason, group = start.len(), pause_ms = length.as_millis() as u64, "fell; it is started again");
        myself.send_after(length, move || SupervisorMessage::StartAgain { pause });
        Ok(())
    }

    fn standings(&self) -> Vec<Standing> {
        let standing = |child: &Child| Standing {
            restart: child.spec.restart,
            is_running: matches!(child.place, Place::Running(_)),
        };
        self.children.iter().map(standing).collect()
    }

    /// Starts those that wait for `pause`, in order. Those who were moved to a later pause are none of it any more.
    async fn start_again(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        pause: u64,
    ) -> Result<(), ActorProcessingErr> {
        if !self.children.iter().filter(|child| child.waits_for(pause)).all(Child::is_clear) {
            // The last end of those that linger asks again.
            return Ok(());
        }
        for index in 0..self.children.len() {
            if !self.children[index].waits_for(pause) {
                continue;
            }
            match self.start_child(myself, index).await {
                Ok(()) => tracing::info!(path = %self.children[index].path, "started again"),
                Err(error) if error.is_fatal() => {
                    let child = &mut self.children[index];
                    child.place = Place::Ended;
                    let path = child.path.clone();
                    self.roster.ended(&path, ChildState::Stopped, Some(&error.to_string()));
                    return self.escalate(&path, ExitKind::Fatal, &error.to_string()).await;
                }
                Err(error) => {
                    self.children[index].place = Place::Ended;
                    // The rest of the group started after it in the first place: it goes into the next pause with it.
                    return self.restart_with_its_group(myself, index, &error.to_string()).await;
                }
            }
        }
        Ok(())
    }

    fn kill_the_stuck(&mut self) {
        for child in &mut self.children {
            let (Place::Running(cell), None) = (&child.place, &child.stuck) else { continue };
            let (Some(bound), Some(activity)) = (child.spec.stuck_after, &child.spec.activity) else { continue };
            if activity.stuck_for(bound).is_none() {
                continue;
            }
            let reason = format!("stuck in one message for more than {bound:?}");
            tracing::error!(path = %child.path, reason, "killed; if it blocks its thread, only a new process helps");
            self.roster.stuck(&child.path, &reason);
            child.stuck = Some(reason);
            cell.kill();
        }
    }

    /// Falls because the child `path` did, in the way in which it did.
    async fn escalate(&mut self, path: &str, kind: ExitKind, reason: &str) -> Result<(), ActorProcessingErr> {
        if kind == ExitKind::Fatal {
            self.roster.note_fatal(reason);
            self.stop_children(Some(GIVE_UP_STOP_DEADLINE)).await;
            return Err(Fatal(reason.to_owned()).into());
        }
        self.give_up(format!("{path} fell: {reason}")).await
    }

    /// Falls, after its children have been stopped in order.
    async fn give_up(&mut self, why: String) -> Result<(), ActorProcessingErr> {
        self.stop_children(Some(GIVE_UP_STOP_DEADLINE)).await;
        Err(why.into())
    }

    /// Stops all children in the reverse of the start order. `patience` shortens their deadlines.
    async fn stop_children(&mut self, patience: Option<Duration>) {
        for index in (0..self.children.len()).rev() {
            self.stop_child(index, patience).await;
        }
    }

    async fn stop_child(&mut self, index: usize, patience: Option<Duration>) {
        let child = &mut self.children[index];
        let cell = match std::mem::replace(&mut child.place, Place::Ended) {
            Place::Running(cell) => cell,
            // It has been told, and killed. The roster says that it is stuck.
            Place::Lingering(cell) | Place::Waiting { lingering: Some(cell), .. } => {
                child.place = Place::Lingering(cell);
                return;
            }
            Place::Waiting { lingering: None, .. } => {
                self.roster.ended(&child.path, ChildState::Stopped, None);
                return;
            }
            Place::Ended => return,
        };
        child.stopped = Some(cell.get_id());
        let deadline = patience.map_or(child.spec.stop_deadline, |patience| patience.min(child.spec.stop_deadline));
        self.roster.stopping(&child.path);
        cell.stop(None);
        if cell.wait(Some(deadline)).await.is_ok() {
            self.roster.ended(&child.path, ChildState::Stopped, None);
            return;
        }
        tracing::warn!(path = %child.path, ?deadline, "did not stop within its deadline; killed");
        cell.kill();
        if cell.wait(Some(KILL_DEADLINE)).await.is_ok() {
            self.roster.ended(&child.path, ChildState::Stopped, Some("killed: it did not stop within its deadline"));
            return;
        }
        let reason = "it did not stop, and could not be killed: it blocks its thread";
        tracing::error!(path = %child.path, reason);
        self.roster.stuck(&child.path, reason);
        child.place = Place::Lingering(cell);
    }
}

/// A number in 0..1 from the hasher's random seed: spread is all that a pause needs.
fn jitter() -> f64 {
    (RandomState::new().hash_one(0) % 1_000) as f64 / 1_000.0
}
