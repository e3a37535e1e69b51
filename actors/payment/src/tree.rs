//! The actors of the payment service: what its supervisor starts.

use runtime::{deadlines, supervision::ChildSpec};

use crate::{overdue::Overdue, service::PaymentService};

impl PaymentService {
    /// What its supervisor starts: the shards of payments and of idempotency records, and the clock of what waits for too long.
    #[must_use]
    pub fn children(&self) -> Vec<ChildSpec> {
        let mut children = self.entities().shards();
        children.extend(self.operations().shards());
        children.push(deadlines::clock("overdue", Overdue(self.clone())));
        children
    }
}
