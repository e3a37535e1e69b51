//! The actors of the product service: what its supervisor starts.

use std::sync::Arc;

use runtime::{deadlines, supervision::ChildSpec};

use crate::{holds::OverdueHolds, service::ProductService};

impl ProductService {
    /// What its supervisor starts: the shards of products and of stock items, and the clock of stock that is held for too long.
    #[must_use]
    pub fn children(&self) -> Vec<ChildSpec> {
        let mut children = self.products().shards();
        children.extend(self.stock_items().shards());
        let holds = OverdueHolds { stock: self.stock_items().clone(), journal: Arc::clone(&self.journal) };
        children.push(deadlines::clock("overdue-holds", holds));
        children
    }
}
