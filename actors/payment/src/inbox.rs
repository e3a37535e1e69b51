//! What the payment service does about messages: decide, or ask the provider and record the answer.
//!
//! What was done before is done; what contradicts our books is a dead letter, where an operator sees it.

use std::{sync::Arc, time::Duration};

use contracts::{Envelope, InboxError, Message, OrderId, PaymentId, RefundId, Timestamp};
use runtime::{AskError, CommandId, CommandMeta};
use tokio::time::Instant;

use crate::{
    payment::{Payment, PaymentCommand, PaymentStatus},
    provider::{Charge, ChargeOutcome, Refunding, VoidOutcome},
    service::PaymentService,
};

/// How long a command that a message asks for may take.
const INBOX_PATIENCE: Duration = Duration::from_secs(5);

impl PaymentService {
    /// Takes in a message. Taking it in again has no effect: commands carry the message's id, and the provider is asked
    /// under the payment's.
    ///
    /// # Errors
    /// [`InboxError::NotNow`] when it should be given again.
    pub async fn inbox(&self, envelope: &Envelope) -> Result<(), InboxError> {
        let (order_id, command) = match envelope.message.clone() {
            Message::ApprovePayment { payment_id, order_id, expires_at } => {
                (order_id, Some(PaymentCommand::Approve { payment_id, expires_at, now: Timestamp::now() }))
            }
            Message::VoidPayment { payment_id, order_id, reason } => {
                (order_id, Some(PaymentCommand::Void { payment_id, reason }))
            }
            Message::ExecuteVoid { payment_id, order_id } => (order_id, self.call_off(payment_id).await?),
            Message::RejectPayment { payment_id, order_id, reason } => {
                (order_id, Some(PaymentCommand::Reject { payment_id, reason }))
            }
            Message::RefundPayment { payment_id, order_id, refund_id, amount_minor, reason } => {
                (order_id, Some(PaymentCommand::RequestRefund { payment_id, refund_id, amount_minor, reason }))
            }
            Message::SettleRefund { payment_id, order_id, refund_id, amount_minor, reason } => {
                (order_id, Some(PaymentCommand::SettleRefund { payment_id, refund_id, amount_minor, reason }))
            }
            Message::ExecuteCharge { payment_id, order_id } => {
                let command = self.charge(&order_id, payment_id, Timestamp::now()).await?;
                (order_id, command)
            }
            Message::ExecuteRefund { payment_id, order_id, refund_id } => {
                let command = self.give_back(&order_id, payment_id, refund_id).await?;
                (order_id, command)
            }
            _ => return Ok(()),
        };
        let Some(command) = command else { return Ok(()) };
        let mut meta = CommandMeta::new(CommandId::of(&["inbox", envelope.id.as_str()]), INBOX_PATIENCE)
            .caused_by(envelope.id.as_str())
            .traced(envelope.traceparent.as_deref());
        meta.correlation_id = envelope.correlation_id.as_deref().map(Arc::from);
        meta.actor = envelope.actor.as_deref().map(Arc::from);
        match self.entities().ask(order_id.as_str(), command, meta).await {
            Ok(_) => Ok(()),
            // Each of these speaks of a payment that we told of, and of money: a refusal is a contradiction between two sets of
            // books, and somebody must look at it.
            Err(AskError::Refused(refusal)) => Err(InboxError::Poison(format!("{order_id}: {refusal:?}"))),
            Err(error) => Err(InboxError::NotNow(error.to_string())),
        }
    }

    /// Asks the provider for a charge that the order has agreed to. Nothing where it has been answered already. When the
    /// order's time is over it is called off instead: an earlier try may have charged it, and only the provider knows.
    pub(crate) async fn charge(
        &self,
        order_id: &OrderId,
        payment_id: PaymentId,
        now: Timestamp,
    ) -> Result<Option<PaymentCommand>, InboxError> {
        let found = self.payment_of(order_id, &payment_id, now).await?;
        let (payment, is_too_late) = found.ok_or_else(|| unknown(&payment_id))?;
        if payment.status != PaymentStatus::Processing {
            return Ok(None);
        }
        if is_too_late {
            let captured = self.call_off(payment_id.clone()).await?;
            return Ok(Some(captured.unwrap_or(PaymentCommand::RecordTooLate { payment_id })));
        }
        let charge = Charge {
            idempotency_key: payment_id.to_string(),
            token: payment.method.token,
            amount_minor: payment.amount_minor,
            currency: payment.currency,
            is_authenticated: payment.is_authenticated,
        };
        let outcome = self.provider().charge(charge).await.map_err(not_now)?;
        Ok(Some(PaymentCommand::RecordCharge { payment_id, outcome }))
    }

    /// Calls a charge off at the provider. Should it have been captured all the same, that is recorded.
    async fn call_off(&self, payment_id: PaymentId) -> Result<Option<PaymentCommand>, InboxError> {
        Ok(match self.provider().void(payment_id.to_string()).await.map_err(not_now)? {
            VoidOutcome::Voided => None,
            VoidOutcome::Captured { provider, provider_ref, captured_at } => {
                let outcome = ChargeOutcome::Captured { provider, provider_ref, captured_at };
                Some(PaymentCommand::RecordCharge { payment_id, outcome })
            }
        })
    }

    async fn give_back(
        &self,
        order_id: &OrderId,
        payment_id: PaymentId,
        refund_id: RefundId,
    ) -> Result<Option<PaymentCommand>, InboxError> {
        let found = self.payment_of(order_id, &payment_id, Timestamp::now()).await?;
        let (payment, _) = found.ok_or_else(|| unknown(&payment_id))?;
        let owed = payment.refunds.iter().find(|refund| refund.refund_id == refund_id);
        let owed = owed.ok_or_else(|| InboxError::Poison(format!("{payment_id} has no refund {refund_id}")))?;
        if owed.is_done {
            return Ok(None);
        }
        let refund = Refunding {
            charge_key: payment_id.to_string(),
            idempotency_key: refund_id.to_string(),
            amount_minor: owed.amount_minor,
        };
        self.provider().refund(refund).await.map_err(not_now)?;
        Ok(Some(PaymentCommand::RecordRefund { payment_id, refund_id }))
    }

    /// A payment, and whether its order holds its stock no longer.
    async fn payment_of(
        &self,
        order_id: &OrderId,
        payment_id: &PaymentId,
        now: Timestamp,
    ) -> Result<Option<(Payment, bool)>, InboxError> {
        let (deadline, payment_id) = (Instant::now() + INBOX_PATIENCE, payment_id.clone());
        let payment = self.entities().read(order_id.as_str(), deadline, move |payments, _| {
            let payment = payments.get(&payment_id).cloned()?;
            Some((payment, payments.is_too_late(&payment_id, now)))
        });
        payment.await.map_err(|error| InboxError::NotNow(error.to_string()))
    }
}

fn not_now(error: crate::provider::ProviderDown) -> InboxError {
    InboxError::NotNow(error.to_string())
}

fn unknown(payment_id: &PaymentId) -> InboxError {
    InboxError::Poison(format!("there is no payment {payment_id}"))
}
