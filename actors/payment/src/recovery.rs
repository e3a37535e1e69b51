//! What an operator's reconciliation needs of the payments: which hold money, by our books and by the sandbox provider's, and ways to
//! give it back.
//!
//! It reads the views of journals, of a service that runs or of one that does not, and gives back through the entities.

use contracts::{PaymentId, Timestamp};
use runtime::{AskError, CommandId, Entity, Journal, JournalError, Position, RequestContext, Row, decode_event};

use crate::{
    payment::{Payment, PaymentCommand, PaymentEntity, PaymentEvent},
    service::{PaymentError, PaymentService},
};

/// A payment that holds money.
#[derive(Clone, Debug)]
pub struct HeldMoney {
    /// The payment.
    pub payment: Payment,
    /// What is neither given back nor promised to be, in minor units.
    pub held_minor: i64,
}

/// The event by which a payment's money was captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capture {
    /// Its place in the payments' log.
    pub position: Position,
    /// Its time.
    pub at: Timestamp,
}

/// A charge in the sandbox provider's books that holds money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChargeHeld {
    /// Its key: the payment's id.
    pub charge_key: String,
    /// What is not given back, in minor units.
    pub held_minor: i64,
}

/// The payments after `after` that hold money, in the order of their ids, at most `limit`. Fewer than `limit` does not mean that
/// these are the last; none does.
///
/// # Errors
/// [`JournalError`] when the view cannot be read.
pub async fn held_money(
    journal: &dyn Journal,
    after: Option<&PaymentId>,
    limit: u32,
) -> Result<Vec<HeldMoney>, JournalError> {
    let sql = "SELECT doc FROM payments WHERE payment_id > ?1 AND captured_minor > 0 ORDER BY payment_id LIMIT ?2";
    let after = after.map_or("", PaymentId::as_str);
    let rows = journal.query(sql, vec![after.into(), i64::from(limit).into()]).await?;
    rows.iter().map(held).collect()
}

fn held(row: &Row) -> Result<HeldMoney, JournalError> {
    let payment: Payment =
        serde_json::from_str(row.text(0)?).map_err(|error| JournalError::Corrupt(error.to_string()))?;
    let promised: i64 = payment.refunds.iter().map(|refund| refund.amount_minor).sum();
    Ok(HeldMoney { held_minor: payment.captured_minor() - promised, payment })
}

/// Whether there is such a payment.
///
/// # Errors
/// [`JournalError`] when the view cannot be read.
pub async fn is_known(journal: &dyn Journal, payment_id: &str) -> Result<bool, JournalError> {
    let rows = journal.query("SELECT 1 FROM payments WHERE payment_id = ?1", vec![payment_id.into()]).await?;
    Ok(!rows.is_empty())
}

/// When and where a payment's money was captured.
///
/// # Errors
/// [`JournalError`] when its stream cannot be read.
pub async fn capture_of(journal: &dyn Journal, payment: &Payment) -> Result<Option<Capture>, JournalError> {
    let stream = format!("{}/{}", PaymentEntity::KIND, payment.order_id);
    for event in journal.events(stream.into()).await? {
        if let PaymentEvent::Succeeded { payment_id, .. } = decode_event::<PaymentEntity>(&event)?
            && payment_id == payment.payment_id
        {
            return Ok(Some(Capture { position: event.position, at: Timestamp::from_millis(event.at_ms) }));
        }
    }
    Ok(None)
}

/// The charges after `after` in the sandbox provider's books that hold money, in the order of their keys, at most `limit`.
///
/// # Errors
/// [`JournalError`] when the books cannot be read.
pub async fn held_charges(books: &dyn Journal, after: &str, limit: u32) -> Result<Vec<ChargeHeld>, JournalError> {
    let sql = "SELECT charge_key, captured_minor - refunded_minor FROM charges \
               WHERE charge_key > ?1 AND captured_minor > refunded_minor ORDER BY charge_key LIMIT ?2";
    let rows = books.query(sql, vec![after.into(), i64::from(limit).into()]).await?;
    let charge = |row: &Row| Ok(ChargeHeld { charge_key: row.text(0)?.to_owned(), held_minor: row.integer(1)? });
    rows.iter().map(charge).collect()
}

impl PaymentService {
    /// Promises to give money back: the service does it when it runs. Again under the same id, it has no effect.
    ///
    /// # Errors
    /// [`PaymentError`] when it was not written down.
    pub async fn promise_refund(
        &self,
        payment: &Payment,
        refund: contracts::RefundId,
        amount_minor: i64,
        reason: &str,
        context: &RequestContext,
    ) -> Result<(), PaymentError> {
        let command_id = CommandId::of(&["recover", "refund", refund.as_str()]);
        let command = PaymentCommand::RequestRefund {
            payment_id: payment.payment_id.clone(),
            refund_id: refund,
            amount_minor,
            reason: reason.to_owned(),
        };
        match self.entities().ask(payment.order_id.as_str(), command, context.command(command_id)).await {
            Ok(_) => Ok(()),
            Err(AskError::Refused(refusal)) => {
                tracing::error!(payment_id = %payment.payment_id, ?refusal, "the payment refused to give money back");
                Err(AskError::Refused(refusal).into())
            }
            Err(error) => Err(error.into()),
        }
    }
}
