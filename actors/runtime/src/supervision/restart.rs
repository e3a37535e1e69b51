//! Who is started again, and what kind of end ractor reports.

use ractor::{ActorId, SupervisionEvent};

/// When a child is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Always.
    Permanent,
    /// When it failed; not when it ended by itself.
    Transient,
    /// Never.
    Temporary,
    /// Never alone: when it fails, its supervisor falls with it, and the parent starts the whole tree again. For what the
    /// other children cannot do without, such as their journal.
    Significant,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitKind {
    /// By itself, or because it was told to stop.
    Normal,
    /// It was killed.
    Killed,
    /// It panicked or returned an error.
    Failed,
    /// It returned [`Fatal`]: no restart in this process mends it.
    Fatal,
}

/// The error of what only a new process can mend. A child that ends with it, or cannot start because of it, is not started again,
/// whatever its spec says: its supervisor falls with the same error, and so on up to the root. Whoever runs the root ends the process.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Fatal(pub String);

/// A child's end.
#[derive(Clone, Debug)]
pub struct Exit {
    /// How.
    pub kind: ExitKind,
    /// In words.
    pub reason: String,
}

impl Exit {
    /// True when it did not end as it should.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        self.kind != ExitKind::Normal
    }
}

/// What a supervisor does about an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Start it again.
    Restart,
    /// Leave it.
    Leave,
    /// Fall, and let the parent decide.
    Escalate,
}

/// The decision for a child that is started again `restart` and ended `kind`.
#[must_use]
pub fn decide(restart: Restart, kind: ExitKind) -> Decision {
    match (restart, kind) {
        (_, ExitKind::Fatal) => Decision::Escalate,
        (Restart::Permanent, _) | (Restart::Transient, ExitKind::Killed | ExitKind::Failed) => Decision::Restart,
        (Restart::Significant, ExitKind::Killed | ExitKind::Failed) => Decision::Escalate,
        (Restart::Transient | Restart::Significant, ExitKind::Normal) | (Restart::Temporary, _) => Decision::Leave,
    }
}

/// Reads ractor's event: who ended, and how. Nothing for the events that are no end. A kill arrives as a termination with
/// the reason "killed", which is why every supervisor must ask here.
#[must_use]
pub fn exit_of(event: &SupervisionEvent) -> Option<(ActorId, Exit)> {
    match event {
        SupervisionEvent::ActorTerminated(who, _, Some(reason)) if reason == "killed" => {
            Some((who.get_id(), Exit { kind: ExitKind::Killed, reason: "killed".to_owned() }))
        }
        SupervisionEvent::ActorTerminated(who, _, reason) => Some((
            who.get_id(),
            Exit { kind: ExitKind::Normal, reason: reason.clone().unwrap_or_else(|| "ended".to_owned()) },
        )),
        SupervisionEvent::ActorFailed(who, error) => {
            let kind = if error.is::<Fatal>() { ExitKind::Fatal } else { ExitKind::Failed };
            Some((who.get_id(), Exit { kind, reason: error.to_string() }))
        }
        SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use ractor::{Actor, ActorProcessingErr, ActorRef};

    use super::*;

    #[test]
    fn the_table_of_restarts() {
        use Decision::{Escalate, Leave, Restart as Again};
        use ExitKind::{Failed, Fatal, Killed, Normal};
        let table = [
            (Restart::Permanent, [Again, Again, Again, Escalate]),
            (Restart::Transient, [Leave, Again, Again, Escalate]),
            (Restart::Temporary, [Leave, Leave, Leave, Escalate]),
            (Restart::Significant, [Leave, Escalate, Escalate, Escalate]),
        ];
        for (restart, expected) in table {
            let decided = [Normal, Killed, Failed, Fatal].map(|kind| decide(restart, kind));
            assert_eq!(decided, expected, "{restart:?}");
        }
    }

    struct Idle;

    impl Actor for Idle {
        type Msg = ();
        type State = ();
        type Arguments = ();

        async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn every_end_that_is_reported_is_read_as_what_it_is() {
        let (actor, handle) = Actor::spawn(None, Idle, ()).await.unwrap();
        let cell = || actor.get_cell();
        let terminated =
            |reason: Option<&str>| SupervisionEvent::ActorTerminated(cell(), None, reason.map(str::to_owned));
        let failed = |error: ActorProcessingErr| SupervisionEvent::ActorFailed(cell(), error);
        for (event, kind, reason, is_failure) in [
            (terminated(None), ExitKind::Normal, "ended", false),
            (terminated(Some("done")), ExitKind::Normal, "done", false),
            (terminated(Some("killed")), ExitKind::Killed, "killed", true),
            (failed("broken".into()), ExitKind::Failed, "broken", true),
            (failed(Box::new(Fatal("no space".to_owned()))), ExitKind::Fatal, "no space", true),
        ] {
            let (who, exit) = exit_of(&event).unwrap();
            assert_eq!((who, exit.kind, exit.reason.as_str()), (actor.get_id(), kind, reason));
            assert_eq!(exit.is_failure(), is_failure, "{kind:?}");
        }
        assert!(exit_of(&SupervisionEvent::ActorStarted(cell())).is_none(), "no end");
        actor.stop(None);
        handle.await.unwrap();
    }
}
