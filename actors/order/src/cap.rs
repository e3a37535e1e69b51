//! Whether a buyer may order more: the count of what is unpaid ([`crate::unpaid`]) is asked, and those in it before anybody is refused.

use contracts::{OrderId, Timestamp, UserId};
use runtime::{JournalError, RequestContext};

use crate::{
    order::{Order, OrderStatus},
    service::{OrderError, OrderService, read_order},
    unpaid::Cap,
};

/// Orders read at once when the count is made.
const PAGE: i64 = 1_000;
/// Orders of one buyer that are asked themselves before the buyer is refused: more are only held where no cap was.
const ASKED_MAX: usize = 100;
impl OrderService {
    /// Whether a buyer may order `wanted` units more, by what they hold unpaid. Asked before any stock is.
    ///
    /// # Errors
    /// [`OrderError::TooMuchUnpaid`]; never for want of an answer: then the count decides as it is.
    pub async fn admit(
        &self,
        user_id: &UserId,
        wanted: u64,
        cap: Cap,
        context: &RequestContext,
    ) -> Result<(), OrderError> {
        let now = Timestamp::from_millis(context.at_ms);
        if self.unpaid.admit(user_id, wanted, cap, now).is_ok() {
            return Ok(());
        }
        let held: Vec<OrderId> = self.unpaid.of(user_id).into_keys().take(ASKED_MAX).collect();
        for order_id in held {
            let order = self
                .entities()
                .read(order_id.as_str(), context.deadline, |order, _| order.as_ref().is_some_and(is_unpaid));
            match order.await {
                Ok(true) => {}
                // Ended, or never submitted: the process lost its asker. Should it be submitting at this moment, it is held
                // again by its event.
                Ok(false) => self.unpaid.let_go(&order_id),
                Err(error) => {
                    tracing::debug!(%order_id, %error, "an unpaid order does not answer");
                    break;
                }
            }
        }
        self.unpaid.admit(user_id, wanted, cap, now).map_err(OrderError::TooMuchUnpaid)
    }

    /// Makes the count again from the view: before the service is found by anybody.
    ///
    /// # Errors
    /// [`JournalError`] when the view cannot be read.
    pub async fn count_unpaid(&self) -> Result<(), JournalError> {
        let (mut after_ms, mut after_id) = (i64::MIN, String::new());
        loop {
            // Through the index of those that expire, which has the unpaid ones alone.
            let sql = "SELECT doc, expires_ms, order_id FROM orders WHERE status IN ('pending', 'payment_processing') \
                       AND (expires_ms, order_id) > (?1, ?2) ORDER BY expires_ms, order_id LIMIT ?3";
            let rows = self.journal().query(sql, vec![after_ms.into(), after_id.into(), PAGE.into()]).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            (after_ms, after_id) = (last.integer(1)?, last.text(2)?.to_owned());
            for row in &rows {
                let order = read_order(row)?;
                self.unpaid.hold(&order.draft, order.expires_at);
            }
        }
    }
}

fn is_unpaid(order: &Order) -> bool {
    matches!(order.status, OrderStatus::Placing | OrderStatus::Pending | OrderStatus::PaymentProcessing)
}
