//! The actors of the order service: what its supervisor starts.

use ractor::Actor;
use runtime::{
    deadlines,
    supervision::{ChildSpec, Restart},
};

use crate::{expiry::Overdue, reconciler::Reconciler, service::OrderService};

impl OrderService {
    /// What its supervisor starts: the shards of orders and of idempotency records, the clock of what waits, and the reconciler.
    #[must_use]
    pub fn children(&self) -> Vec<ChildSpec> {
        let mut children = self.entities().shards();
        children.extend(self.operations().shards());
        children.push(deadlines::clock("expiry", Overdue(self.clone())));
        let service = self.clone();
        children.push(ChildSpec::new("reconciler", Restart::Permanent, move |supervisor| {
            let service = service.clone();
            async move { Ok(Reconciler::spawn_linked(None, Reconciler, service, supervisor).await?.0.get_cell()) }
        }));
        children
    }
}
