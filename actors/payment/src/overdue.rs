//! The payments that wait for too long: for their order, for the provider, for their buyer.
//!
//! What the clock of [`runtime::deadlines`] asks. One whose order never answered is voided, and so is one whose buyer does not
//! act while the order holds its stock. One whose provider's answer was lost asks the provider again, under the payment's
//! id: that charges once however often it is asked; after the order's time it is called off there.

use contracts::{InboxError, PaymentId, Timestamp};
use futures::{FutureExt, future::BoxFuture};
use runtime::{
    CommandId, JournalError, RequestContext,
    deadlines::{Deadlines, Due, Woken},
};

use crate::{
    payment::{EXPIRED, NOT_APPROVED, PaymentCommand, PaymentStatus},
    service::{PATIENCE, PaymentService},
};

/// A payment younger than this is looked at by nobody, in milliseconds: all but a few are decided by then.
const LEFT_ALONE_MS: i64 = 30_000;

/// See the module's text.
#[derive(Clone)]
pub(crate) struct Overdue(pub(crate) PaymentService);

impl Deadlines for Overdue {
    fn due(&self, now_ms: i64, after: Option<Due>, limit: u32) -> BoxFuture<'static, Result<Vec<Due>, JournalError>> {
        let payments = self.0.clone();
        let before_ms = now_ms - LEFT_ALONE_MS.min(payments.window_ms());
        async move { payments.open_since(before_ms, after, limit).await }.boxed()
    }

    fn wake(&self, due: Due, now_ms: i64) -> BoxFuture<'static, Result<Woken, String>> {
        let payments = self.0.clone();
        async move { wake(&payments, &due, Timestamp::from_millis(now_ms)).await }.boxed()
    }
}

async fn wake(payments: &PaymentService, due: &Due, now: Timestamp) -> Result<Woken, String> {
    let payment_id = PaymentId::parse(&due.id).map_err(|error| error.to_string())?;
    let order_id = payments.payment(&payment_id).await.map_err(|error| error.to_string())?.order_id;
    let context = RequestContext::new("overdue", PATIENCE);
    let window_ms = payments.window_ms();
    let wanted = payment_id.clone();
    let read = payments.entities().read(order_id.as_str(), context.deadline, move |payments, _| {
        let payment = payments.get(&wanted)?;
        // What an earlier build wrote does not say until when.
        let window_ends = Timestamp::from_millis(payment.created_at.as_millis() + window_ms);
        let held_until = payments.held_until.get(&wanted).copied().unwrap_or(window_ends);
        Some((payment.status, if payment.status == PaymentStatus::Created { window_ends } else { held_until }))
    });
    let Some((status, until)) = read.await.map_err(|error| error.to_string())? else { return Ok(Woken::Done) };
    let void = |reason: &str| PaymentCommand::Void { payment_id: payment_id.clone(), reason: reason.to_owned() };
    let command = match status {
        PaymentStatus::Created | PaymentStatus::RequiresAction if now < until => {
            return Ok(Woken::WaitsUntil(until.as_millis()));
        }
        PaymentStatus::Created => void(NOT_APPROVED),
        PaymentStatus::RequiresAction => void(EXPIRED),
        PaymentStatus::Processing => match payments.charge(&order_id, payment_id.clone(), now).await {
            Ok(Some(command)) => command,
            Ok(None) => return Ok(Woken::Done),
            Err(InboxError::NotNow(reason) | InboxError::Poison(reason)) => return Err(reason),
        },
        PaymentStatus::Succeeded
        | PaymentStatus::Failed
        | PaymentStatus::Voided
        | PaymentStatus::PartiallyRefunded
        | PaymentStatus::Refunded => return Ok(Woken::Done),
    };
    let command_id = CommandId::of(&["overdue", payment_id.as_str(), &now.as_millis().to_string()]);
    let asked = payments.entities().ask(order_id.as_str(), command, context.command(command_id)).await;
    asked.map(|_| Woken::Done).map_err(|error| error.to_string())
}
