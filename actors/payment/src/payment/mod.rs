//! The payments of one order: one writer, so at most one of them is alive and at most one succeeds.

use contracts::{PaymentId, RefundId, Timestamp};
use runtime::{Entity, EntityId, ViewWrite, totals::Counts};

use crate::provider::ChargeOutcome;

mod command;
mod event;
#[cfg(test)]
mod golden_corpus;
mod state;
#[cfg(test)]
mod tests;
pub(crate) mod views;

pub use self::{
    command::PaymentCommand,
    event::{PaymentEvent, payment_of},
    state::{FailedBy, Failure, OrderPayments, Payment, PaymentRefusal, PaymentStatus, Refund},
};

/// The code of a payment that came when the stock was held no longer: the order's own word for it.
pub const TOO_LATE: &str = "reservation_expired";
/// The reason of a void because another payment of the order was begun.
pub const SUPERSEDED: &str = "superseded";
/// The reason of a void because the buyer did not act in time.
pub const EXPIRED: &str = "expired";
/// The reason of a void because the order did not answer in time.
pub const NOT_APPROVED: &str = "not_approved";

/// The entity; its id is the order's id.
pub struct PaymentEntity;

impl Entity for PaymentEntity {
    const KIND: &'static str = "payment";
    const TABLES: &'static [&'static str] = &[views::TABLES];
    const STATE_VERSION: u32 = 2;
    const VIEW_VERSION: u32 = 2;
    const ADD_TO_TOTALS: &'static str = views::ADD_TO_SUMS;
    type State = OrderPayments;
    type Command = PaymentCommand;
    type Event = PaymentEvent;
    type Refusal = PaymentRefusal;

    fn decide(state: &OrderPayments, command: PaymentCommand) -> Result<Vec<PaymentEvent>, PaymentRefusal> {
        let find = |payment_id: &PaymentId| state.get(payment_id).ok_or(PaymentRefusal::Unknown);
        match command {
            PaymentCommand::Request(payment) => request(state, *payment),
            PaymentCommand::Approve { payment_id, expires_at, now } => {
                let payment = find(&payment_id)?;
                Ok(match (payment.status, expires_at) {
                    // The stock is held no longer: nothing is charged for it.
                    (PaymentStatus::Created, Some(until)) if now >= until => {
                        vec![refused_by_the_order(payment, TOO_LATE)]
                    }
                    (PaymentStatus::Created, expires_at) => vec![PaymentEvent::Approved { payment_id, expires_at }],
                    _ => vec![],
                })
            }
            PaymentCommand::Reject { payment_id, reason } => {
                let payment = find(&payment_id)?;
                Ok(match payment.status {
                    PaymentStatus::Created => vec![refused_by_the_order(payment, &reason)],
                    _ => vec![],
                })
            }
            PaymentCommand::RecordCharge { payment_id, outcome } => {
                let held_until = state.held_until.get(&payment_id).copied();
                Ok(record_charge(find(&payment_id)?, outcome, held_until))
            }
            PaymentCommand::RecordTooLate { payment_id } => {
                let payment = find(&payment_id)?;
                Ok(match payment.status {
                    PaymentStatus::Processing => vec![refused_by_the_order(payment, TOO_LATE)],
                    _ => vec![],
                })
            }
            PaymentCommand::Confirm { payment_id, now } => match find(&payment_id)?.status {
                PaymentStatus::RequiresAction if state.is_too_late(&payment_id, now) => {
                    Ok(vec![PaymentEvent::Voided { payment_id, reason: EXPIRED.to_owned() }])
                }
                PaymentStatus::RequiresAction => Ok(vec![PaymentEvent::Confirmed { payment_id }]),
                status => Err(PaymentRefusal::InvalidTransition { from: status.name().to_owned() }),
            },
            PaymentCommand::Void { payment_id, reason } => Ok(match find(&payment_id)?.status {
                PaymentStatus::Created | PaymentStatus::RequiresAction => {
                    vec![PaymentEvent::Voided { payment_id, reason }]
                }
                // While the provider is asked nobody knows whether anything is charged: its answer decides.
                _ => vec![],
            }),
            PaymentCommand::RequestRefund { payment_id, refund_id, amount_minor, reason } => {
                request_refund(find(&payment_id)?, refund_id, amount_minor, reason)
            }
            PaymentCommand::SettleRefund { payment_id, refund_id, amount_minor, reason } => {
                settle_refund(find(&payment_id)?, refund_id, amount_minor, reason)
            }
            PaymentCommand::RecordRefund { payment_id, refund_id } => Ok(record_refund(find(&payment_id)?, &refund_id)),
        }
    }

    fn published(state: &OrderPayments) -> Option<u64> {
        Some(state.published)
    }

    fn evolve(state: &mut OrderPayments, event: &PaymentEvent) {
        state.published += event.publishes();
        if let PaymentEvent::Approved { payment_id, expires_at: Some(until) } = event {
            state.held_until.insert(payment_id.clone(), *until);
        }
        if let PaymentEvent::Requested { payment } = event {
            state.payments.push(Payment::clone(payment));
        } else if let Some(payment) = state.payments.iter_mut().find(|payment| payment.payment_id == *payment_of(event))
        {
            evolve_payment(payment, event);
        }
    }

    fn counts(state: &OrderPayments) -> Option<Counts> {
        Some(views::counts(state))
    }

    fn views(_: &EntityId, state: &OrderPayments, event: &PaymentEvent, _: i64) -> Vec<ViewWrite> {
        state.get(payment_of(event)).map(views::row).into_iter().collect()
    }
}

fn request(state: &OrderPayments, payment: Payment) -> Result<Vec<PaymentEvent>, PaymentRefusal> {
    state.may_be_paid()?;
    let waits = |other: &&Payment| other.status == PaymentStatus::RequiresAction;
    let void = |other: &Payment| {
        let payment_id = other.payment_id.clone();
        PaymentEvent::Voided { payment_id, reason: SUPERSEDED.to_owned() }
    };
    let mut events: Vec<PaymentEvent> = state.payments.iter().filter(waits).map(void).collect();
    let attempt = u32::try_from(state.payments.len()).unwrap_or(u32::MAX).saturating_add(1);
    let payment = Payment { status: PaymentStatus::Created, attempt, refunds: Vec::new(), ..payment };
    events.push(PaymentEvent::Requested { payment: Box::new(payment) });
    Ok(events)
}

/// The order does not take it: nothing was charged.
fn refused_by_the_order(payment: &Payment, code: &str) -> PaymentEvent {
    let failure = Failure { code: code.to_owned(), is_retryable: false, by: FailedBy::Order };
    PaymentEvent::Failed { payment_id: payment.payment_id.clone(), failure, attempt: payment.attempt }
}

fn record_charge(payment: &Payment, outcome: ChargeOutcome, expires_at: Option<Timestamp>) -> Vec<PaymentEvent> {
    let (payment_id, amount_minor, currency) = (payment.payment_id.clone(), payment.amount_minor, payment.currency);
    match (payment.status, outcome) {
        // Captured is captured, also where it was called off meanwhile: the order decides about the money.
        (
            PaymentStatus::Processing | PaymentStatus::Voided,
            ChargeOutcome::Captured { provider, provider_ref, captured_at },
        ) => {
            vec![PaymentEvent::Succeeded { payment_id, amount_minor, currency, provider, provider_ref, captured_at }]
        }
        (PaymentStatus::Processing, ChargeOutcome::RequiresAction { provider, redirect_url }) => {
            vec![PaymentEvent::ActionRequired {
                payment_id,
                provider,
                redirect_url,
                amount_minor,
                currency,
                expires_at,
            }]
        }
        (PaymentStatus::Processing, ChargeOutcome::Declined { code, is_retryable }) => {
            let failure = Failure { code, is_retryable, by: FailedBy::Provider };
            vec![PaymentEvent::Failed { payment_id, failure, attempt: payment.attempt }]
        }
        // An answer that comes twice, or to a payment that is decided, changes nothing.
        _ => vec![],
    }
}

fn request_refund(
    payment: &Payment,
    refund_id: RefundId,
    amount_minor: i64,
    reason: String,
) -> Result<Vec<PaymentEvent>, PaymentRefusal> {
    if payment.refunds.iter().any(|refund| refund.refund_id == refund_id) {
        return Ok(vec![]);
    }
    if payment.captured_at.is_none() {
        return Err(PaymentRefusal::InvalidTransition { from: payment.status.name().to_owned() });
    }
    let remaining_minor = payment.captured_minor() - payment.promised_minor();
    if amount_minor <= 0 || amount_minor > remaining_minor {
        return Err(PaymentRefusal::ExceedsRemaining { remaining_minor });
    }
    let refund = Refund { refund_id, amount_minor, reason, is_done: false };
    Ok(vec![PaymentEvent::RefundRequested { payment_id: payment.payment_id.clone(), refund }])
}

fn settle_refund(
    payment: &Payment,
    refund_id: RefundId,
    amount_minor: i64,
    reason: String,
) -> Result<Vec<PaymentEvent>, PaymentRefusal> {
    let payment_id = payment.payment_id.clone();
    match payment.refunds.iter().find(|refund| refund.refund_id == refund_id) {
        None => request_refund(payment, refund_id, amount_minor, reason),
        Some(refund) if refund.is_done => {
            Ok(vec![PaymentEvent::RefundSettled { payment_id, refund_id, amount_minor: refund.amount_minor }])
        }
        Some(_) => Ok(vec![PaymentEvent::RefundAskedAgain { payment_id, refund_id }]),
    }
}

fn record_refund(payment: &Payment, refund_id: &RefundId) -> Vec<PaymentEvent> {
    let owed = payment.refunds.iter().find(|refund| refund.refund_id == *refund_id && !refund.is_done);
    let refunded = |refund: &Refund| PaymentEvent::Refunded {
        payment_id: payment.payment_id.clone(),
        refund_id: refund_id.clone(),
        amount_minor: refund.amount_minor,
        refunded_total_minor: payment.refunded_minor() + refund.amount_minor,
        reason: refund.reason.clone(),
    };
    owed.map(refunded).into_iter().collect()
}

fn evolve_payment(payment: &mut Payment, event: &PaymentEvent) {
    match event {
        PaymentEvent::Requested { .. } | PaymentEvent::RefundAskedAgain { .. } | PaymentEvent::RefundSettled { .. } => {
        }
        PaymentEvent::Approved { .. } => payment.status = PaymentStatus::Processing,
        PaymentEvent::ActionRequired { redirect_url, .. } => {
            payment.status = PaymentStatus::RequiresAction;
            payment.redirect_url = Some(redirect_url.clone());
        }
        PaymentEvent::Confirmed { .. } => {
            payment.status = PaymentStatus::Processing;
            payment.is_authenticated = true;
            payment.redirect_url = None;
        }
        PaymentEvent::Succeeded { provider_ref, captured_at, .. } => {
            payment.status = PaymentStatus::Succeeded;
            payment.failure = None;
            payment.provider_ref = Some(provider_ref.clone());
            payment.captured_at = Some(*captured_at);
        }
        PaymentEvent::Failed { failure, .. } => {
            payment.status = PaymentStatus::Failed;
            payment.failure = Some(failure.clone());
        }
        PaymentEvent::Voided { reason, .. } => {
            payment.status = PaymentStatus::Voided;
            payment.redirect_url = None;
            payment.failure = Some(Failure { code: reason.clone(), is_retryable: true, by: FailedBy::Buyer });
        }
        PaymentEvent::RefundRequested { refund, .. } => payment.refunds.push(refund.clone()),
        PaymentEvent::Refunded { refund_id, refunded_total_minor, .. } => {
            for refund in payment.refunds.iter_mut().filter(|refund| refund.refund_id == *refund_id) {
                refund.is_done = true;
            }
            let is_all = *refunded_total_minor == payment.amount_minor;
            payment.status = if is_all { PaymentStatus::Refunded } else { PaymentStatus::PartiallyRefunded };
        }
    }
}
