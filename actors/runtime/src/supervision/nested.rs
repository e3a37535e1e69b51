//! A supervisor as a child of another.

use std::{future::Future, sync::Arc, time::Duration};

use ractor::Actor;

use super::{
    restart::Restart,
    spec::{ChildSpec, StartError, SupervisorSpec},
    supervisor::Supervisor,
};
use crate::roster::Roster;

/// How long a supervisor may take to stop before it is killed, unless its spec says otherwise: it stops its own children one by one.
const SUPERVISOR_STOP_DEADLINE: Duration = Duration::from_secs(30);

impl ChildSpec {
    /// A supervisor as a child: its own children are read from `spec` at every start.
    pub fn supervisor<F, Fut>(name: impl Into<String>, restart: Restart, roster: Roster, spec: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<SupervisorSpec, StartError>> + Send + 'static,
    {
        let spec = Arc::new(spec);
        let child = Self::new(name, restart, move |supervisor| {
            let (spec, roster) = (Arc::clone(&spec), roster.clone());
            async move {
                let spec = spec().await?;
                let (child, _) = Supervisor::spawn_linked(None, Supervisor, (spec, roster), supervisor).await?;
                Ok(child.get_cell())
            }
        });
        child.kind(Supervisor::KIND).stop_deadline(SUPERVISOR_STOP_DEADLINE)
    }
}
