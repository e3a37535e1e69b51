//! The order service: its use cases.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use contracts::{Envelope, InboxError, OrderId, PaymentId, RefundId, Timestamp, UserId};
use runtime::{
    AskError, CommandId, CommandMeta, Entities, EntitiesConfig, Gate, Journal, JournalError, RequestContext, Roster,
    Row, ViewSchema,
    deadlines::Due,
    operation::{self, Operation},
};
use serde::{Deserialize, Serialize};

use crate::{
    inbox,
    open_debts::{DebtBoard, DebtTotals},
    order::{Draft, Order, OrderCommand, OrderEntity, OrderRefusal, OrderStatus, Shortfall, Terms, views},
    unpaid::{TooMuchUnpaid, Unpaid},
};

/// The read model: what the journal must be opened with.
pub const VIEWS: &[ViewSchema] = &[ViewSchema::of::<OrderEntity>()];

/// How long a command that a message asks for may take.
const INBOX_PATIENCE: Duration = Duration::from_secs(5);

/// Why an order was not placed, found or changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum OrderError {
    /// There is not enough of these.
    #[error("not enough stock")]
    OutOfStock(Vec<Shortfall>),
    /// The answers about its stock did not come in time: nothing is held, and it has to be ordered anew.
    #[error("the stock could not be held in time")]
    NotPlaced,
    /// There is no such order.
    #[error("no such order")]
    NotFound,
    /// Not from where it stands.
    #[error("an order that is {from} cannot do that")]
    InvalidTransition {
        /// Where it stands.
        from: String,
    },
    /// Its buyer holds too much that is not paid for.
    #[error("too much is unpaid")]
    TooMuchUnpaid(TooMuchUnpaid),
    /// The sums of the draft are wrong.
    #[error("the sums of the order are wrong")]
    DoesNotAddUp,
    /// Too much is in flight.
    #[error("too much is in flight")]
    Busy,
    /// There is no room on the disk. Nothing was done.
    #[error("there is no room on the disk; nothing was done")]
    Full,
    /// Whether it was done is unknown: ask again in the same words.
    #[error("the order service does not answer")]
    Unavailable,
}

/// One page of orders, newest first.
#[derive(Clone, Debug)]
pub struct OrderPage {
    /// The orders.
    pub orders: Vec<Order>,
    /// Where the next page begins, if there is one: (created, id) of the last order here.
    pub next: Option<(Timestamp, OrderId)>,
}

/// The sums that must agree with the payments'.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrderTotals {
    /// Orders that stand, by status.
    pub by_status: Vec<(String, i64)>,
    /// The totals of the paid orders, in minor units.
    pub paid_minor: i64,
    /// Captured for orders, paid or not, in minor units.
    pub captured_minor: i64,
    /// Given back, in minor units.
    pub refunded_minor: i64,
}

/// The order service. Clones are the same service.
#[derive(Clone)]
pub struct OrderService {
    orders: Entities<OrderEntity>,
    operations: Entities<Operation>,
    journal: Arc<dyn Journal>,
    debts: DebtBoard,
    pub(crate) unpaid: Unpaid,
    terms: Terms,
}

impl OrderService {
    /// The service on `journal`, which must have been opened with [`VIEWS`]. Nothing runs until a supervisor starts
    /// [`OrderService::children`].
    #[must_use]
    pub fn new(journal: Arc<dyn Journal>, gate: &Arc<Gate>, roster: &Roster) -> Self {
        Self {
            orders: Entities::new(
                Arc::clone(&journal),
                gate,
                EntitiesConfig::default(),
                roster.scoped("order-service"),
            ),
            operations: Entities::new(Arc::clone(&journal), gate, operation::config(), roster.scoped("order-service")),
            journal,
            debts: DebtBoard::default(),
            unpaid: Unpaid::default(),
            terms: Terms::default(),
        }
    }

    /// On these terms.
    #[must_use]
    pub fn on_terms(self, terms: Terms) -> Self {
        Self { terms, ..self }
    }

    /// The open debts as the reconciler saw them last.
    #[must_use]
    pub fn debt_totals(&self) -> DebtTotals {
        *self.debts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn debt_board(&self) -> &DebtBoard {
        &self.debts
    }

    pub(crate) fn journal(&self) -> &Arc<dyn Journal> {
        &self.journal
    }

    /// The orders by id.
    #[must_use]
    pub fn entities(&self) -> &Entities<OrderEntity> {
        &self.orders
    }

    /// The operations under idempotency keys.
    #[must_use]
    pub fn operations(&self) -> &Entities<Operation> {
        &self.operations
    }

    /// Asks an order, and takes account of what has become of it in the count of what is unpaid.
    pub(crate) async fn ask(
        &self,
        order_id: &OrderId,
        command: OrderCommand,
        meta: CommandMeta,
    ) -> Result<(), AskError<OrderRefusal>> {
        let accepted = self.orders.ask(order_id.as_str(), command, meta).await?;
        self.unpaid.follow(order_id, &accepted.events);
        Ok(())
    }

    /// Places an order: it is submitted, its stock is asked for, and the answer comes when every line is held. Asked again
    /// with the same `order_id` it is the same order.
    ///
    /// # Errors
    /// [`OrderError::OutOfStock`] when a line is not there: then nothing is held and there is no order.
    pub async fn place(&self, draft: Draft, context: &RequestContext) -> Result<Order, OrderError> {
        let order_id = draft.order_id.clone();
        let (now, payable_for_ms) = (Timestamp::from_millis(context.at_ms), self.terms.payable_for_ms);
        // Held before it is: no number of requests finds room that an earlier one has taken.
        self.unpaid.hold(&draft, Timestamp::from_millis(context.at_ms.saturating_add(payable_for_ms)));
        let command = OrderCommand::Submit { draft: Box::new(draft), now, payable_for_ms };
        let command_id = CommandId::of(&["submit", order_id.as_str()]);
        let submitted = self.ask(&order_id, command, context.command(command_id)).await;
        if let Err(AskError::Refused(OrderRefusal::DoesNotAddUp) | AskError::Busy | AskError::Parked { .. }) =
            &submitted
        {
            self.unpaid.let_go(&order_id);
        }
        submitted?;
        let placed = self.orders.wait_until(order_id.as_str(), context.deadline, |order| {
            order.clone().filter(|order| order.status != OrderStatus::Placing)
        });
        let order = placed.await?;
        match order.status {
            OrderStatus::Rejected if order.shortfalls.is_empty() => Err(OrderError::NotPlaced),
            OrderStatus::Rejected => Err(OrderError::OutOfStock(order.shortfalls)),
            _ => Ok(order),
        }
    }

    /// The order as it stands, without what is not durable yet.
    ///
    /// # Errors
    /// [`OrderError::NotFound`] also for an order that was refused for want of stock.
    pub async fn order(&self, order_id: &OrderId, context: &RequestContext) -> Result<Order, OrderError> {
        let order = self.orders.read(order_id.as_str(), context.deadline, |order, _| order.clone()).await?;
        let is_told_of = |order: &Order| !matches!(order.status, OrderStatus::Placing | OrderStatus::Rejected);
        order.filter(is_told_of).ok_or(OrderError::NotFound)
    }

    /// Waits until a payment of the order has been taken account of: paid by it, or no longer waiting for it; or, where
    /// `is_action_required`, known to wait for its buyer.
    ///
    /// # Errors
    /// [`OrderError::Unavailable`] when that was not so within the deadline; it will be.
    pub async fn settled(
        &self,
        order_id: &OrderId,
        payment_id: &PaymentId,
        is_action_required: bool,
        context: &RequestContext,
    ) -> Result<Order, OrderError> {
        let payment_id = payment_id.clone();
        let settled = self.orders.wait_until(order_id.as_str(), context.deadline, move |order| {
            let waits = |order: &Order| {
                order.status == OrderStatus::PaymentProcessing
                    && order.payment_id.as_ref() == Some(&payment_id)
                    && !(is_action_required && order.is_action_required)
            };
            order.clone().filter(|order| !waits(order))
        });
        Ok(settled.await?)
    }

    /// Cancels an order. While a payment is on its way the cancellation is noted, and done when the payment is decided.
    ///
    /// # Errors
    /// [`OrderError::InvalidTransition`] when it cannot be cancelled any more.
    pub async fn cancel(
        &self,
        order_id: &OrderId,
        reason: &str,
        refund_id: RefundId,
        command_id: CommandId,
        context: &RequestContext,
    ) -> Result<Order, OrderError> {
        let command = OrderCommand::Cancel { reason: reason.to_owned(), refund_id };
        self.ask(order_id, command, context.command(command_id)).await?;
        self.order(order_id, context).await
    }

    /// A user's orders (all users' where `user_id` is not given), newest first, after `after`.
    ///
    /// # Errors
    /// [`OrderError::Unavailable`] when the view cannot be read.
    pub async fn list(
        &self,
        user_id: Option<&UserId>,
        status: Option<OrderStatus>,
        after: Option<(Timestamp, OrderId)>,
        limit: u32,
    ) -> Result<OrderPage, OrderError> {
        let (after_ms, after_id) = after.map_or((i64::MAX, String::new()), |(at, id)| (at.as_millis(), id.to_string()));
        let mut params = vec![after_ms.into(), after_id.into(), (i64::from(limit) + 1).into()];
        let sql = match (user_id, status) {
            (None, None) => views::PAGE,
            (Some(_), None) => views::PAGE_OF_USER,
            (None, Some(_)) => views::PAGE_OF_STATUS,
            (Some(_), Some(_)) => views::PAGE_OF_USER_AND_STATUS,
        };
        params.extend(user_id.map(|user_id| user_id.as_str().into()));
        params.extend(status.map(|status| status.name().into()));
        let mut orders =
            self.journal.query(sql, params).await?.iter().map(read_order).collect::<Result<Vec<_>, _>>()?;
        let has_more = orders.len() > limit as usize;
        orders.truncate(limit as usize);
        let next = orders.last().filter(|_| has_more).map(|order| (order.created_at, order.draft.order_id.clone()));
        Ok(OrderPage { orders, next })
    }

    /// The sums over all orders.
    ///
    /// # Errors
    /// [`OrderError::Unavailable`] when the view cannot be read.
    pub async fn totals(&self) -> Result<OrderTotals, OrderError> {
        let mut totals = OrderTotals::default();
        for row in self.journal.query(views::SUMS, vec![]).await? {
            let status = row.text(0)?.to_owned();
            if status == OrderStatus::Paid.name() {
                totals.paid_minor += row.integer(2)?;
            }
            totals.captured_minor += row.integer(3)?;
            totals.refunded_minor += row.integer(4)?;
            totals.by_status.push((status, row.integer(1)?));
        }
        Ok(totals)
    }

    /// The orders whose deadline is over, those after `after` in the order of (deadline, id), at most `limit`.
    ///
    /// # Errors
    /// [`JournalError`] when the view cannot be read.
    pub async fn overdue(&self, now_ms: i64, after: Option<Due>, limit: u32) -> Result<Vec<Due>, JournalError> {
        let after = after.unwrap_or_default();
        let params = || vec![now_ms.into(), after.at_ms.into(), (&*after.id).into(), i64::from(limit).into()];
        let mut due = Vec::new();
        for sql in [views::DUE_UNPAID, views::DUE_WAITING] {
            for row in self.journal.query(sql, params()).await? {
                due.push(Due { at_ms: row.integer(0)?, id: row.text(1)?.into() });
            }
        }
        due.sort();
        due.truncate(limit as usize);
        Ok(due)
    }

    /// An order whose deadline is over does what it does then.
    pub(crate) async fn expire(&self, id: &str, now_ms: i64) -> Result<(), String> {
        let order_id = OrderId::parse(id).map_err(|error| error.to_string())?;
        let context = RequestContext::new("expiry", INBOX_PATIENCE);
        let command_id = CommandId::of(&["expire", id, &now_ms.to_string()]);
        let expire = OrderCommand::Expire { now: Timestamp::from_millis(now_ms) };
        self.ask(&order_id, expire, context.command(command_id)).await.map_err(|error| error.to_string())
    }

    /// Takes in a message of another service. Taking it in again has no effect.
    ///
    /// # Errors
    /// [`InboxError::NotNow`] when it should be given again.
    pub async fn inbox(&self, envelope: &Envelope) -> Result<(), InboxError> {
        let Some((order_id, command)) = inbox::policy(envelope, Timestamp::now(), &self.terms) else { return Ok(()) };
        let mut meta = CommandMeta::new(CommandId::of(&["inbox", envelope.id.as_str()]), INBOX_PATIENCE)
            .caused_by(envelope.id.as_str())
            .traced(envelope.traceparent.as_deref());
        meta.correlation_id = envelope.correlation_id.as_deref().map(Arc::from);
        meta.actor = envelope.actor.as_deref().map(Arc::from);
        match self.ask(&order_id, command, meta).await {
            Ok(()) => Ok(()),
            Err(AskError::Refused(refusal)) => {
                tracing::debug!(%order_id, event_id = %envelope.id, ?refusal, "an order refused a message");
                inbox::refused(&order_id, &refusal)
            }
            Err(error) => Err(InboxError::NotNow(error.to_string())),
        }
    }
}

pub(crate) fn read_order(row: &Row) -> Result<Order, JournalError> {
    serde_json::from_str(row.text(0)?).map_err(|error| JournalError::Corrupt(error.to_string()))
}

impl From<AskError<OrderRefusal>> for OrderError {
    fn from(error: AskError<OrderRefusal>) -> Self {
        match error {
            AskError::Refused(OrderRefusal::Unknown) => Self::NotFound,
            AskError::Refused(OrderRefusal::InvalidTransition { from }) => Self::InvalidTransition { from },
            AskError::Refused(OrderRefusal::DoesNotAddUp) => Self::DoesNotAddUp,
            AskError::Refused(OrderRefusal::Exists)
            | AskError::Parked { .. }
            | AskError::DeadlineExceeded
            | AskError::Unavailable => Self::Unavailable,
            AskError::Busy => Self::Busy,
            AskError::Full => Self::Full,
        }
    }
}

impl From<JournalError> for OrderError {
    fn from(error: JournalError) -> Self {
        tracing::error!(%error, "the orders' view cannot be read");
        Self::Unavailable
    }
}
