//! Children and supervisors as data.

use std::{fmt::Display, future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use ractor::{Actor, ActorCell, ActorProcessingErr, SpawnErr};

use super::{Activity, Backoff, Fatal, Intensity, Restart, Strategy};

/// How long a child may take to start, unless its spec says otherwise: a service reads its journal meanwhile.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// How long a child may take to stop before it is killed, unless its spec says otherwise.
const STOP_DEADLINE: Duration = Duration::from_secs(5);
/// Why a child did not start.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct StartError {
    reason: String,
    is_fatal: bool,
}

impl StartError {
    /// In words.
    pub fn new(reason: impl Display) -> Self {
        Self { reason: reason.to_string(), is_fatal: false }
    }

    /// The same where only a new process can mend it; see [`Fatal`].
    pub fn fatal(reason: impl Display) -> Self {
        Self { reason: reason.to_string(), is_fatal: true }
    }

    /// Whether only a new process can mend it.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        self.is_fatal
    }

    /// As an actor's error.
    pub(super) fn into_error(self) -> ActorProcessingErr {
        if self.is_fatal { Fatal(self.reason).into() } else { self.reason.into() }
    }
}

impl From<SpawnErr> for StartError {
    fn from(error: SpawnErr) -> Self {
        match error {
            // The reason alone: a tree of "failed to start" around it helps nobody.
            SpawnErr::StartupFailed(reason) => Self { is_fatal: reason.is::<Fatal>(), reason: reason.to_string() },
            other => Self::new(other),
        }
    }
}

type Start = Arc<dyn Fn(ActorCell) -> BoxFuture<'static, Result<ActorCell, StartError>> + Send + Sync>;

/// A child, as data.
#[derive(Clone)]
pub struct ChildSpec {
    pub(super) name: String,
    pub(super) kind: Arc<str>,
    pub(super) restart: Restart,
    pub(super) start_deadline: Duration,
    pub(super) stop_deadline: Duration,
    pub(super) activity: Option<Activity>,
    pub(super) stuck_after: Option<Duration>,
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
            kind: "actor".into(),
            restart,
            start_deadline: START_DEADLINE,
            stop_deadline: STOP_DEADLINE,
            activity: None,
            stuck_after: None,
            start: Arc::new(move |supervisor| Box::pin(start(supervisor))),
        }
    }

    /// The actor that `make` gives, with its arguments, as a child; its kind is the actor's type.
    pub fn actor<A, F>(name: impl Into<String>, restart: Restart, make: F) -> Self
    where
        A: Actor,
        F: Fn() -> (A, A::Arguments) + Send + Sync + 'static,
    {
        let child = Self::new(name, restart, move |supervisor| {
            let (actor, arguments) = make();
            async move { Ok(A::spawn_linked(None, actor, arguments, supervisor).await?.0.get_cell()) }
        });
        child.kind(short_type_name::<A>())
    }

    /// What it is, for the eyes of an operator; `actor` where nothing was said.
    #[must_use]
    pub fn kind(mut self, kind: impl Into<Arc<str>>) -> Self {
        self.kind = kind.into();
        self
    }

    /// How long it may take to start before that counts as a failed start. 60 s by default.
    #[must_use]
    pub fn start_deadline(mut self, deadline: Duration) -> Self {
        self.start_deadline = deadline;
        self
    }

    /// How long it may take to stop before it is killed. 5 s by default, 30 s for a supervisor.
    #[must_use]
    pub fn stop_deadline(mut self, deadline: Duration) -> Self {
        self.stop_deadline = deadline;
        self
    }

    /// Where it tells what it is doing: inspection shows it.
    #[must_use]
    pub fn activity(mut self, activity: Activity) -> Self {
        self.activity = Some(activity);
        self
    }

    /// It fails when it is in one message for longer than `bound`, as it tells through `activity`. It is killed, and
    /// started again as after any failure; see [the module](crate::supervision) for what cannot be killed.
    #[must_use]
    pub fn watched(mut self, bound: Duration, activity: Activity) -> Self {
        self.stuck_after = Some(bound);
        self.activity(activity)
    }

    /// Starts it within its deadline. A panic in the closure itself is a failed start like any other.
    pub(super) async fn start(&self, supervisor: ActorCell) -> Result<ActorCell, StartError> {
        let start = AssertUnwindSafe(async { (self.start)(supervisor).await }).catch_unwind();
        match tokio::time::timeout(self.start_deadline, start).await {
            Ok(Ok(started)) => started,
            Ok(Err(_)) => Err(StartError::new("it panicked while starting")),
            Err(_) => Err(StartError::new(format_args!("it did not start within {:?}", self.start_deadline))),
        }
    }
}

/// A supervisor, as data.
#[derive(Clone)]
pub struct SupervisorSpec {
    /// Its path in the tree; the children's are below it.
    pub path: String,
    /// Whom a fall concerns.
    pub strategy: Strategy,
    /// When to give up.
    pub intensity: Intensity,
    /// How long to wait before a restart.
    pub backoff: Backoff,
    /// The children, in the order in which they start.
    pub children: Vec<ChildSpec>,
}

impl SupervisorSpec {
    /// A supervisor of `children` with the default strategy (one for one), intensity and backoff.
    pub fn new(path: impl Into<String>, children: Vec<ChildSpec>) -> Self {
        Self {
            path: path.into(),
            strategy: Strategy::default(),
            intensity: Intensity::default(),
            backoff: Backoff::default(),
            children,
        }
    }

    /// Whom a fall concerns.
    #[must_use]
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// When to give up.
    #[must_use]
    pub fn intensity(mut self, intensity: Intensity) -> Self {
        self.intensity = intensity;
        self
    }

    /// How long to wait before a restart.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }
}

/// `Worker` for `some::path::Worker<other::Type>`.
fn short_type_name<T>() -> &'static str {
    let name = std::any::type_name::<T>();
    let name = name.split('<').next().unwrap_or(name);
    name.rsplit("::").next().unwrap_or(name)
}
