//! Which messages a payment's events give rise to: a pure function of the journal.

use contracts::{
    Envelope, Message, OrderId, Service, Timestamp,
    messages::{event_id, numbers},
};
use runtime::{Entity, JournalError, Recorded, decode_event};

use crate::payment::{PaymentEntity, PaymentEvent};

/// The messages of one recorded event, in order.
///
/// # Errors
/// [`JournalError::Corrupt`] when the event cannot be read.
pub fn outbox(recorded: &Recorded) -> Result<Vec<Envelope>, JournalError> {
    let (kind, id) = recorded.kind_and_id();
    if kind != PaymentEntity::KIND {
        return Ok(Vec::new());
    }
    let order_id =
        OrderId::parse(id).map_err(|error| JournalError::Corrupt(format!("{}: {error}", recorded.stream)))?;
    let messages = messages(order_id, decode_event::<PaymentEntity>(recorded)?);
    let time = Timestamp::from_millis(recorded.at_ms);
    let numbers = numbers(&messages, recorded.published_before);
    let envelope = |(index, (message, seq)): (usize, (Message, Option<u64>))| Envelope {
        id: event_id(Service::Payment, &recorded.stream, recorded.version, index, time),
        source: Service::Payment,
        subject: message.subject().to_owned(),
        time,
        seq,
        schema: recorded.schema,
        correlation_id: recorded.correlation_id.clone(),
        causation_id: recorded.causation_id.clone(),
        actor: recorded.actor.clone(),
        traceparent: recorded.traceparent.clone(),
        message,
    };
    Ok(messages.into_iter().zip(numbers).enumerate().map(envelope).collect())
}

fn messages(order_id: OrderId, event: PaymentEvent) -> Vec<Message> {
    vec![match event {
        PaymentEvent::Requested { payment } => Message::PaymentRequested {
            payment_id: payment.payment_id,
            order_id,
            amount_minor: payment.amount_minor,
            currency: payment.currency,
        },
        PaymentEvent::Approved { payment_id, .. } => Message::ExecuteCharge { payment_id, order_id },
        PaymentEvent::Confirmed { payment_id } => {
            return vec![
                Message::ExecuteCharge { payment_id: payment_id.clone(), order_id: order_id.clone() },
                Message::PaymentConfirmed { payment_id, order_id },
            ];
        }
        PaymentEvent::Voided { payment_id, reason } => {
            return vec![
                Message::PaymentVoided { payment_id: payment_id.clone(), order_id: order_id.clone(), reason },
                Message::ExecuteVoid { payment_id, order_id },
            ];
        }
        PaymentEvent::ActionRequired { payment_id, provider, amount_minor, currency, expires_at, .. } => {
            Message::PaymentRequiresAction { payment_id, order_id, amount_minor, currency, provider, expires_at }
        }
        PaymentEvent::Succeeded { payment_id, amount_minor, currency, provider, provider_ref, captured_at } => {
            Message::PaymentSucceeded {
                payment_id,
                order_id,
                amount_minor,
                currency,
                provider,
                provider_ref,
                captured_at,
            }
        }
        PaymentEvent::Failed { payment_id, failure, attempt } => Message::PaymentFailed {
            payment_id,
            order_id,
            decline_code: failure.code,
            retryable: failure.is_retryable,
            attempt,
        },
        PaymentEvent::RefundAskedAgain { payment_id, refund_id } => {
            Message::ExecuteRefund { payment_id, order_id, refund_id }
        }
        PaymentEvent::RefundSettled { payment_id, refund_id, amount_minor } => {
            Message::RefundSettled { payment_id, order_id, refund_id, amount_minor }
        }
        PaymentEvent::RefundRequested { payment_id, refund } => {
            Message::ExecuteRefund { payment_id, order_id, refund_id: refund.refund_id }
        }
        PaymentEvent::Refunded { payment_id, refund_id, amount_minor, refunded_total_minor, reason } => {
            Message::PaymentRefunded { payment_id, order_id, refund_id, amount_minor, refunded_total_minor, reason }
        }
    }]
}
