//! The payment service: its use cases.

use std::{sync::Arc, time::Duration};

use contracts::{Money, OrderId, PaymentId, Timestamp, UserId};
use runtime::{
    AskError, CommandId, Entities, EntitiesConfig, Gate, Journal, JournalError, RequestContext, Roster, Row,
    ViewSchema,
    deadlines::Due,
    operation::{self, Operation},
};

use crate::{
    card::Card,
    payment::{EXPIRED, Payment, PaymentCommand, PaymentEntity, PaymentRefusal, PaymentStatus, views},
    provider::Provider,
};

/// The read model: what the journal must be opened with.
pub const VIEWS: &[ViewSchema] = &[ViewSchema::of::<PaymentEntity>()];

/// How long a command that nobody waits for may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// How long a payment may wait for its order, in milliseconds, unless the shop says otherwise: as long as an order waits for it.
const WINDOW_MS: i64 = 10 * 60 * 1_000;

/// Why a payment was not made, found or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PaymentError {
    /// There is no such payment.
    #[error("no such payment")]
    NotFound,
    /// Another payment of the order is on its way.
    #[error("a payment of this order is in progress")]
    InProgress {
        /// Which.
        payment_id: PaymentId,
    },
    /// The order has been paid.
    #[error("the order has been paid")]
    AlreadyPaid {
        /// By which payment.
        payment_id: PaymentId,
    },
    /// As many payments of the order have been tried as may be.
    #[error("too many payments of this order have been tried")]
    TooManyAttempts,
    /// The order holds its stock for it no longer.
    #[error("the order's time to be paid is over")]
    ReservationExpired,
    /// Not from where it stands.
    #[error("a payment that is {from} cannot do that")]
    InvalidTransition {
        /// Where it stands.
        from: String,
    },
    /// It is written down and goes on, but was not decided within the deadline.
    #[error("the payment is still being processed")]
    StillProcessing {
        /// Which.
        payment_id: PaymentId,
    },
    /// Too much is in flight.
    #[error("too much is in flight")]
    Busy,
    /// There is no room on the disk. Nothing was done.
    #[error("there is no room on the disk; nothing was done")]
    Full,
    /// Whether it was done is unknown: ask again in the same words.
    #[error("the payment service does not answer")]
    Unavailable,
}

/// A payment that a buyer wants to make.
#[derive(Clone, Debug)]
pub struct NewPayment {
    /// Under which id.
    pub payment_id: PaymentId,
    /// For which order.
    pub order_id: OrderId,
    /// By whom.
    pub user_id: UserId,
    /// How much.
    pub amount: Money,
    /// With which card.
    pub card: Card,
}

/// What the books say, in minor units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PaymentTotals {
    /// Captured by payments.
    pub captured_minor: i64,
    /// Given back.
    pub refunded_minor: i64,
    /// Captured in the provider's own books.
    pub provider_captured_minor: i64,
    /// Given back in the provider's own books.
    pub provider_refunded_minor: i64,
}

/// The payment service. Clones are the same service.
#[derive(Clone)]
pub struct PaymentService {
    payments: Entities<PaymentEntity>,
    operations: Entities<Operation>,
    journal: Arc<dyn Journal>,
    provider: Arc<dyn Provider>,
    window_ms: i64,
}

impl PaymentService {
    /// The service on `journal`, which must have been opened with [`VIEWS`], with `provider` moving the money. Nothing runs
    /// until a supervisor starts [`PaymentService::children`].
    #[must_use]
    pub fn new(journal: Arc<dyn Journal>, gate: &Arc<Gate>, roster: &Roster, provider: Arc<dyn Provider>) -> Self {
        let roster = roster.scoped("payment-service");
        Self {
            payments: Entities::new(Arc::clone(&journal), gate, EntitiesConfig::default(), roster.clone()),
            operations: Entities::new(Arc::clone(&journal), gate, operation::config(), roster),
            journal,
            provider,
            window_ms: WINDOW_MS,
        }
    }

    /// With this time for a payment to wait for its order, in milliseconds.
    #[must_use]
    pub fn within(self, window_ms: i64) -> Self {
        Self { window_ms, ..self }
    }

    pub(crate) fn window_ms(&self) -> i64 {
        self.window_ms
    }

    /// The payments by order.
    #[must_use]
    pub fn entities(&self) -> &Entities<PaymentEntity> {
        &self.payments
    }

    /// The operations under idempotency keys.
    #[must_use]
    pub fn operations(&self) -> &Entities<Operation> {
        &self.operations
    }

    /// Who moves the money.
    #[must_use]
    pub fn provider(&self) -> &dyn Provider {
        &*self.provider
    }

    /// Makes a payment: it is written down, the order is asked, the provider is asked, and the answer comes when it is
    /// decided. Asked again with the same `payment_id` it is the same payment. One that cannot be is refused before anything
    /// is written down.
    ///
    /// # Errors
    /// [`PaymentError::StillProcessing`] when it was not decided in time: it goes on.
    pub async fn pay(&self, new: NewPayment, context: &RequestContext) -> Result<Payment, PaymentError> {
        let (order_id, payment_id) = (new.order_id.clone(), new.payment_id.clone());
        let wanted = payment_id.clone();
        let refused = self.payments.read(order_id.as_str(), context.deadline, move |payments, _| {
            if payments.get(&wanted).is_some() { Ok(()) } else { payments.may_be_paid() }
        });
        refused.await?.map_err(AskError::Refused)?;
        let command_id = CommandId::of(&["request", payment_id.as_str()]);
        let request = PaymentCommand::Request(Box::new(self.requested(new, context)));
        self.payments.ask(order_id.as_str(), request, context.command(command_id)).await?;
        self.decided(&order_id, &payment_id, context).await
    }

    /// Goes on with a payment whose buyer has proved who they are.
    ///
    /// # Errors
    /// [`PaymentError::InvalidTransition`] when it does not wait for that, as one that was voided;
    /// [`PaymentError::ReservationExpired`] when its order holds its stock no longer: then it is voided.
    pub async fn confirm(
        &self,
        payment_id: &PaymentId,
        command_id: CommandId,
        context: &RequestContext,
    ) -> Result<Payment, PaymentError> {
        let payment = not_voided(self.payment(payment_id).await?)?;
        let now = Timestamp::from_millis(context.at_ms);
        let confirm = PaymentCommand::Confirm { payment_id: payment_id.clone(), now };
        self.payments.ask(payment.order_id.as_str(), confirm, context.command(command_id)).await?;
        not_voided(self.decided(&payment.order_id, payment_id, context).await?)
    }

    /// The payments that are open since `before_ms` or longer: the first `limit` behind `after`.
    pub(crate) async fn open_since(
        &self,
        before_ms: i64,
        after: Option<Due>,
        limit: u32,
    ) -> Result<Vec<Due>, JournalError> {
        let after = after.unwrap_or_default();
        let params = vec![before_ms.into(), after.at_ms.into(), (&*after.id).into(), i64::from(limit).into()];
        let rows = self.journal.query(views::OPEN_SINCE, params).await?;
        rows.iter().map(|row| Ok(Due { at_ms: row.integer(0)?, id: row.text(1)?.into() })).collect()
    }

    /// A payment by its id.
    ///
    /// # Errors
    /// [`PaymentError::NotFound`], or [`PaymentError::Unavailable`] when the view cannot be read.
    pub async fn payment(&self, payment_id: &PaymentId) -> Result<Payment, PaymentError> {
        let rows = self.journal.query(views::BY_ID, vec![payment_id.as_str().into()]);
        let payments = rows.await?.iter().map(read_payment).collect::<Result<Vec<_>, _>>()?;
        payments.into_iter().next().ok_or(PaymentError::NotFound)
    }

    /// The payments of an order, oldest first.
    ///
    /// # Errors
    /// [`PaymentError::Unavailable`] when the view cannot be read.
    pub async fn payments_of(&self, order_id: &OrderId) -> Result<Vec<Payment>, PaymentError> {
        let rows = self.journal.query(views::OF_ORDER, vec![order_id.as_str().into()]).await?;
        Ok(rows.iter().map(read_payment).collect::<Result<_, _>>()?)
    }

    /// The sums over all payments, by our books and by the provider's.
    ///
    /// # Errors
    /// [`PaymentError::Unavailable`] when either cannot be read.
    pub async fn totals(&self) -> Result<PaymentTotals, PaymentError> {
        let rows = self.journal.query(views::SUMS, vec![]).await?;
        let sum = |column| rows.first().map_or(Ok(0), |row| row.integer(column));
        let (provider_captured_minor, provider_refunded_minor) =
            self.provider.totals().await.map_err(|_| PaymentError::Unavailable)?;
        Ok(PaymentTotals {
            captured_minor: sum(0)?,
            refunded_minor: sum(1)?,
            provider_captured_minor,
            provider_refunded_minor,
        })
    }

    async fn decided(
        &self,
        order_id: &OrderId,
        payment_id: &PaymentId,
        context: &RequestContext,
    ) -> Result<Payment, PaymentError> {
        let wanted = payment_id.clone();
        let decided = self.payments.wait_until(order_id.as_str(), context.deadline, move |payments| {
            let is_decided =
                |payment: &&Payment| !matches!(payment.status, PaymentStatus::Created | PaymentStatus::Processing);
            payments.get(&wanted).filter(is_decided).cloned()
        });
        match decided.await {
            Err(AskError::DeadlineExceeded) => Err(PaymentError::StillProcessing { payment_id: payment_id.clone() }),
            decided => Ok(decided?),
        }
    }

    fn requested(&self, new: NewPayment, context: &RequestContext) -> Payment {
        Payment {
            payment_id: new.payment_id,
            order_id: new.order_id,
            user_id: new.user_id,
            amount_minor: new.amount.minor(),
            currency: new.amount.currency(),
            method: self.provider.tokenize(&new.card),
            status: PaymentStatus::Created,
            attempt: 0,
            created_at: Timestamp::from_millis(context.at_ms),
            is_authenticated: false,
            redirect_url: None,
            failure: None,
            provider_ref: None,
            captured_at: None,
            refunds: Vec::new(),
        }
    }
}

/// A payment that may still be confirmed, or was.
fn not_voided(payment: Payment) -> Result<Payment, PaymentError> {
    match (payment.status, &payment.failure) {
        (PaymentStatus::Voided, Some(failure)) if failure.code == EXPIRED => Err(PaymentError::ReservationExpired),
        (PaymentStatus::Voided, _) => Err(PaymentError::InvalidTransition { from: payment.status.name().to_owned() }),
        _ => Ok(payment),
    }
}

fn read_payment(row: &Row) -> Result<Payment, JournalError> {
    serde_json::from_str(row.text(0)?).map_err(|error| JournalError::Corrupt(error.to_string()))
}

impl From<AskError<PaymentRefusal>> for PaymentError {
    fn from(error: AskError<PaymentRefusal>) -> Self {
        match error {
            AskError::Refused(PaymentRefusal::Unknown) => Self::NotFound,
            AskError::Refused(PaymentRefusal::InProgress { payment_id }) => Self::InProgress { payment_id },
            AskError::Refused(PaymentRefusal::AlreadyPaid { payment_id }) => Self::AlreadyPaid { payment_id },
            AskError::Refused(PaymentRefusal::TooManyAttempts) => Self::TooManyAttempts,
            AskError::Refused(PaymentRefusal::InvalidTransition { from }) => Self::InvalidTransition { from },
            AskError::Refused(PaymentRefusal::ExceedsRemaining { .. })
            | AskError::Parked { .. }
            | AskError::DeadlineExceeded
            | AskError::Unavailable => Self::Unavailable,
            AskError::Busy => Self::Busy,
            AskError::Full => Self::Full,
        }
    }
}

impl From<JournalError> for PaymentError {
    fn from(error: JournalError) -> Self {
        tracing::error!(%error, "the payments' view cannot be read");
        Self::Unavailable
    }
}
