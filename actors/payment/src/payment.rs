//! The payments of one order: one writer, so at most one of them is alive and at most one succeeds.

use contracts::{Currency, OrderId, PaymentId, RefundId, Timestamp, UserId};
use runtime::{Entity, EntityId, ViewWrite, entity::EventPayload};
use serde::{Deserialize, Serialize};

use crate::{provider::ChargeOutcome, views};

/// What is kept of a card: enough to show and to recognise it, not enough to charge it elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Method {
    /// The provider's name for the card.
    pub token: String,
    /// Such as `visa`.
    pub brand: String,
    /// The last four digits.
    pub last4: String,
    /// 1 to 12.
    pub expiry_month: u8,
    /// Four digits.
    pub expiry_year: u16,
    /// A keyed hash of the number: the same card has the same.
    pub fingerprint: String,
}

/// Where a payment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentStatus {
    /// Written down; the order is being asked.
    Created,
    /// The provider is being asked.
    Processing,
    /// The buyer must prove who they are.
    RequiresAction,
    /// The money is captured.
    Succeeded,
    /// It came to nothing.
    Failed,
    /// Part of the money is back.
    PartiallyRefunded,
    /// All of the money is back.
    Refunded,
}

impl PaymentStatus {
    /// The name in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Processing => "processing",
            Self::RequiresAction => "requires_action",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::PartiallyRefunded => "partially_refunded",
            Self::Refunded => "refunded",
        }
    }

    /// True while it may still capture money.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Created | Self::Processing | Self::RequiresAction)
    }
}

/// Who said no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailedBy {
    /// The order did not take the payment: nothing was charged.
    Order,
    /// The provider declined.
    Provider,
}

/// Why a payment came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Such as `card_declined`.
    pub code: String,
    /// True when the same card may work later.
    pub is_retryable: bool,
    /// Who said no.
    pub by: FailedBy,
}

/// Money on its way back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refund {
    /// Which.
    pub refund_id: RefundId,
    /// How much, in minor units.
    pub amount_minor: i64,
    /// Such as `late_payment`.
    pub reason: String,
    /// True once the provider has done it.
    pub is_done: bool,
}

/// A payment as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// Which.
    pub payment_id: PaymentId,
    /// For which order.
    pub order_id: OrderId,
    /// By whom.
    pub user_id: UserId,
    /// How much, in minor units.
    pub amount_minor: i64,
    /// Of what.
    pub currency: Currency,
    /// With which card.
    pub method: Method,
    /// Where it stands.
    pub status: PaymentStatus,
    /// From 1.
    pub attempt: u32,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// True once the buyer has proved who they are.
    pub is_authenticated: bool,
    /// Where the buyer proves it.
    pub redirect_url: Option<String>,
    /// Why it came to nothing.
    pub failure: Option<Failure>,
    /// The provider's name for the charge.
    pub provider_ref: Option<String>,
    /// When the money was captured.
    pub captured_at: Option<Timestamp>,
    /// What goes back.
    pub refunds: Vec<Refund>,
}

impl Payment {
    /// Captured, in minor units.
    #[must_use]
    pub fn captured_minor(&self) -> i64 {
        if self.captured_at.is_some() { self.amount_minor } else { 0 }
    }

    /// Given back, in minor units.
    #[must_use]
    pub fn refunded_minor(&self) -> i64 {
        self.refunds.iter().filter(|refund| refund.is_done).map(|refund| refund.amount_minor).sum()
    }

    fn promised_minor(&self) -> i64 {
        self.refunds.iter().map(|refund| refund.amount_minor).sum()
    }
}

/// Commands of an order's payments.
#[derive(Clone, Debug)]
pub enum PaymentCommand {
    /// A buyer wants to pay. Its status, attempt and the like are decided here.
    Request(Box<Payment>),
    /// The order agrees.
    Approve {
        /// To which payment.
        payment_id: PaymentId,
    },
    /// The order does not.
    Reject {
        /// To which payment.
        payment_id: PaymentId,
        /// Why.
        reason: String,
    },
    /// The provider has answered.
    RecordCharge {
        /// About which payment.
        payment_id: PaymentId,
        /// What.
        outcome: ChargeOutcome,
    },
    /// The buyer has proved who they are.
    Confirm {
        /// For which payment.
        payment_id: PaymentId,
    },
    /// Money is to go back.
    RequestRefund {
        /// Of which payment.
        payment_id: PaymentId,
        /// Under which id.
        refund_id: RefundId,
        /// How much, in minor units.
        amount_minor: i64,
        /// Why.
        reason: String,
    },
    /// Asked again for want of an answer: the same as `RequestRefund`, but a refund that is known is gone on with, or said to
    /// be done.
    SettleRefund {
        /// Of which payment.
        payment_id: PaymentId,
        /// Under which id.
        refund_id: RefundId,
        /// How much, in minor units.
        amount_minor: i64,
        /// Why.
        reason: String,
    },
    /// The provider has given it back.
    RecordRefund {
        /// Of which payment.
        payment_id: PaymentId,
        /// Under which id.
        refund_id: RefundId,
    },
}

/// What happened to an order's payments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are those of the commands")]
pub enum PaymentEvent {
    /// A buyer wants to pay.
    Requested { payment: Box<Payment> },
    /// The order agrees: the provider is to be asked.
    Approved { payment_id: PaymentId },
    /// The buyer must prove who they are.
    ActionRequired {
        payment_id: PaymentId,
        provider: String,
        redirect_url: String,
        amount_minor: i64,
        currency: Currency,
    },
    /// They have: the provider is to be asked again.
    Confirmed { payment_id: PaymentId },
    /// The money is captured.
    Succeeded {
        payment_id: PaymentId,
        amount_minor: i64,
        currency: Currency,
        provider: String,
        provider_ref: String,
        captured_at: Timestamp,
    },
    /// It came to nothing.
    Failed { payment_id: PaymentId, failure: Failure, attempt: u32 },
    /// Money is to go back.
    RefundRequested { payment_id: PaymentId, refund: Refund },
    /// It has gone back.
    Refunded {
        payment_id: PaymentId,
        refund_id: RefundId,
        amount_minor: i64,
        refunded_total_minor: i64,
        reason: String,
    },
    /// Somebody asked again for money that is on its way back: the provider is to be asked once more.
    RefundAskedAgain { payment_id: PaymentId, refund_id: RefundId },
    /// Somebody asked again for money that is back.
    RefundSettled { payment_id: PaymentId, refund_id: RefundId, amount_minor: i64 },
}

impl EventPayload for PaymentEvent {
    fn event_type(&self) -> &'static str {
        match self {
            Self::Requested { .. } => "payment.requested",
            Self::Approved { .. } => "payment.approved",
            Self::ActionRequired { .. } => "payment.requires_action",
            Self::Confirmed { .. } => "payment.confirmed",
            Self::Succeeded { .. } => "payment.succeeded",
            Self::Failed { .. } => "payment.failed",
            Self::RefundRequested { .. } => "payment.refund_requested",
            Self::Refunded { .. } => "payment.refunded",
            Self::RefundAskedAgain { .. } => "payment.refund_asked_again",
            Self::RefundSettled { .. } => "payment.refund_settled",
        }
    }
}

impl PaymentEvent {
    /// How many numbered messages it gives rise to. Never another number for an event of a journal: the numbers of the
    /// messages after it stand on it. A test holds it against [`crate::outbox`].
    #[must_use]
    pub const fn publishes(&self) -> u64 {
        match self {
            Self::Requested { .. }
            | Self::ActionRequired { .. }
            | Self::Succeeded { .. }
            | Self::Failed { .. }
            | Self::RefundSettled { .. }
            | Self::Refunded { .. } => 1,
            Self::Approved { .. }
            | Self::Confirmed { .. }
            | Self::RefundRequested { .. }
            | Self::RefundAskedAgain { .. } => 0,
        }
    }
}

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PaymentRefusal {
    /// There is no such payment.
    Unknown,
    /// Another payment of the order is on its way.
    InProgress {
        /// Which.
        payment_id: PaymentId,
    },
    /// The order has been paid.
    AlreadyPaid {
        /// By which.
        payment_id: PaymentId,
    },
    /// More is to go back than is left.
    ExceedsRemaining {
        /// What is left, in minor units.
        remaining_minor: i64,
    },
    /// Not from where it stands.
    InvalidTransition {
        /// Where it stands.
        from: String,
    },
}

/// All payments of one order, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderPayments {
    /// The payments.
    pub payments: Vec<Payment>,
    /// The numbered messages they have published.
    pub published: u64,
}

impl OrderPayments {
    /// The payment of this id.
    #[must_use]
    pub fn get(&self, payment_id: &PaymentId) -> Option<&Payment> {
        self.payments.iter().find(|payment| payment.payment_id == *payment_id)
    }
}

/// The entity; its id is the order's id.
pub struct PaymentEntity;

impl Entity for PaymentEntity {
    const KIND: &'static str = "payment";
    type State = OrderPayments;
    type Command = PaymentCommand;
    type Event = PaymentEvent;
    type Refusal = PaymentRefusal;

    fn decide(state: &OrderPayments, command: PaymentCommand) -> Result<Vec<PaymentEvent>, PaymentRefusal> {
        let find = |payment_id: &PaymentId| state.get(payment_id).ok_or(PaymentRefusal::Unknown);
        match command {
            PaymentCommand::Request(payment) => request(state, *payment),
            PaymentCommand::Approve { payment_id } => Ok(match find(&payment_id)?.status {
                PaymentStatus::Created => vec![PaymentEvent::Approved { payment_id }],
                _ => vec![],
            }),
            PaymentCommand::Reject { payment_id, reason } => {
                let payment = find(&payment_id)?;
                let failure = Failure { code: reason, is_retryable: false, by: FailedBy::Order };
                Ok(match payment.status {
                    PaymentStatus::Created => {
                        vec![PaymentEvent::Failed { payment_id, failure, attempt: payment.attempt }]
                    }
                    _ => vec![],
                })
            }
            PaymentCommand::RecordCharge { payment_id, outcome } => Ok(record_charge(find(&payment_id)?, outcome)),
            PaymentCommand::Confirm { payment_id } => match find(&payment_id)?.status {
                PaymentStatus::RequiresAction => Ok(vec![PaymentEvent::Confirmed { payment_id }]),
                status => Err(PaymentRefusal::InvalidTransition { from: status.name().to_owned() }),
            },
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
        if let PaymentEvent::Requested { payment } = event {
            state.payments.push(Payment::clone(payment));
        } else if let Some(payment) = state.payments.iter_mut().find(|payment| payment.payment_id == *payment_of(event))
        {
            evolve_payment(payment, event);
        }
    }

    const TABLES: &'static [&'static str] = &[views::TABLES];

    fn views(_: &EntityId, state: &OrderPayments, event: &PaymentEvent, _: i64) -> Vec<ViewWrite> {
        state.get(payment_of(event)).map(views::rows).unwrap_or_default()
    }
}

/// Which payment an event is about.
#[must_use]
pub fn payment_of(event: &PaymentEvent) -> &PaymentId {
    match event {
        PaymentEvent::Requested { payment } => &payment.payment_id,
        PaymentEvent::Approved { payment_id }
        | PaymentEvent::ActionRequired { payment_id, .. }
        | PaymentEvent::Confirmed { payment_id }
        | PaymentEvent::Succeeded { payment_id, .. }
        | PaymentEvent::Failed { payment_id, .. }
        | PaymentEvent::RefundRequested { payment_id, .. }
        | PaymentEvent::RefundAskedAgain { payment_id, .. }
        | PaymentEvent::RefundSettled { payment_id, .. }
        | PaymentEvent::Refunded { payment_id, .. } => payment_id,
    }
}

fn request(state: &OrderPayments, payment: Payment) -> Result<Vec<PaymentEvent>, PaymentRefusal> {
    for other in &state.payments {
        let payment_id = other.payment_id.clone();
        if other.status.is_open() {
            return Err(PaymentRefusal::InProgress { payment_id });
        }
        if other.captured_at.is_some() {
            return Err(PaymentRefusal::AlreadyPaid { payment_id });
        }
    }
    let attempt = u32::try_from(state.payments.len()).unwrap_or(u32::MAX).saturating_add(1);
    let payment = Payment { status: PaymentStatus::Created, attempt, refunds: Vec::new(), ..payment };
    Ok(vec![PaymentEvent::Requested { payment: Box::new(payment) }])
}

fn record_charge(payment: &Payment, outcome: ChargeOutcome) -> Vec<PaymentEvent> {
    // An answer that comes twice, or to a payment that is decided, changes nothing.
    if payment.status != PaymentStatus::Processing {
        return vec![];
    }
    let (payment_id, amount_minor, currency) = (payment.payment_id.clone(), payment.amount_minor, payment.currency);
    vec![match outcome {
        ChargeOutcome::Captured { provider, provider_ref, captured_at } => {
            PaymentEvent::Succeeded { payment_id, amount_minor, currency, provider, provider_ref, captured_at }
        }
        ChargeOutcome::RequiresAction { provider, redirect_url } => {
            PaymentEvent::ActionRequired { payment_id, provider, redirect_url, amount_minor, currency }
        }
        ChargeOutcome::Declined { code, is_retryable } => {
            let failure = Failure { code, is_retryable, by: FailedBy::Provider };
            PaymentEvent::Failed { payment_id, failure, attempt: payment.attempt }
        }
    }]
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
            payment.provider_ref = Some(provider_ref.clone());
            payment.captured_at = Some(*captured_at);
        }
        PaymentEvent::Failed { failure, .. } => {
            payment.status = PaymentStatus::Failed;
            payment.failure = Some(failure.clone());
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

#[cfg(test)]
#[path = "payment_tests.rs"]
mod tests;
