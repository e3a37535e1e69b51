//! The orders whose deadline is over: unpaid ones, those whose stock has not answered, and those that ask for it once more.
//!
//! What the clock of [`runtime::deadlines`] asks: which are due, and that one do what it does then. The order decides.

use futures::{FutureExt, future::BoxFuture};
use runtime::{
    JournalError,
    deadlines::{Deadlines, Due, Woken},
};

use crate::service::OrderService;

/// See the module's text.
#[derive(Clone)]
pub struct Overdue(pub OrderService);

impl Deadlines for Overdue {
    fn due(&self, now_ms: i64, after: Option<Due>, limit: u32) -> BoxFuture<'static, Result<Vec<Due>, JournalError>> {
        let orders = self.0.clone();
        async move { orders.overdue(now_ms, after, limit).await }.boxed()
    }

    fn wake(&self, due: Due, now_ms: i64) -> BoxFuture<'static, Result<Woken, String>> {
        let orders = self.0.clone();
        async move { orders.expire(&due.id, now_ms).await.map(|()| Woken::Done) }.boxed()
    }
}
