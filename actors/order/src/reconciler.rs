//! Who has an order ask again for what it was not answered.
//!
//! An actor in the order service's tree that looks, every few seconds, which orders wait too long for the stock or for the
//! payments (its debts), and has each ask again: the order decides. Messages can be lost where a log forgets them before
//! they were read, or lie with the dead letters; asking again is harmless, since whoever is asked knows what was done. It owns
//! nothing: what is due is read from the view each time, page after page, so those that cannot be woken hold nobody up. When it
//! dies its supervisor starts it again and nothing is lost. Whoever reads numbers for operators reads its last look.

use std::{sync::PoisonError, time::Duration};

use contracts::Timestamp;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use runtime::{CommandId, JournalError, RequestContext};

use crate::{
    open_debts::{DebtTotals, OpenDebt, SHOWN_MAX},
    order::{
        OrderCommand,
        views::{DUE_DEBTS, WORTH_A_LOOK},
    },
    service::OrderService,
};

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The most orders that ask again in one look: after an update, or a long outage, many are due at once and none is urgent.
const ASKED_PER_LOOK_MAX: i64 = 100;
/// How long one order may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Where a look begins: behind (due, order) of the one before.
pub type Cursor = Option<(i64, String)>;

impl OrderService {
    /// The orders that owe money, or have asked in vain again and again, the oldest first, at most `limit`.
    ///
    /// # Errors
    /// [`JournalError`] when the view cannot be read.
    pub async fn open_debts(&self, limit: i64) -> Result<Vec<OpenDebt>, JournalError> {
        let rows = self.journal().query(WORTH_A_LOOK, vec![limit.min(SHOWN_MAX).into()]).await?;
        let read = |row: &runtime::Row| {
            Ok(OpenDebt {
                order_id: row.text(0)?.to_owned(),
                since_ms: row.integer(1)?,
                asked_again: row.integer(2)?,
                stock_lines: row.integer(3)?,
                refunds: row.integer(4)?,
                owed_minor: row.integer(5)?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Has the orders ask again that are due at `now`, those behind `after`; says where the next look begins.
    ///
    /// # Errors
    /// [`JournalError`] when the view cannot be read.
    pub async fn ask_again(&self, now: Timestamp, after: Cursor) -> Result<Cursor, JournalError> {
        let (after_ms, after_id) = after.unwrap_or((i64::MIN, String::new()));
        let params = vec![now.as_millis().into(), after_ms.into(), after_id.as_str().into(), ASKED_PER_LOOK_MAX.into()];
        let due = self.journal().query(DUE_DEBTS, params).await?;
        let mut last = None;
        for row in &due {
            let (due_ms, order_id) = (row.integer(0)?, row.text(1)?.to_owned());
            let round = u32::try_from(row.integer(2)?).unwrap_or(u32::MAX).saturating_add(1);
            // One id for a round: asked twice, it is asked once.
            let command_id = CommandId::of(&["ask_again", &order_id, &round.to_string(), &due_ms.to_string()]);
            let mut meta = RequestContext::new("reconciler", PATIENCE).command(command_id);
            meta.at_ms = now.as_millis();
            let asked = self.entities().ask(order_id.as_str(), OrderCommand::AskAgain { round }, meta).await;
            if let Err(error) = asked {
                tracing::warn!(order_id, %error, "an order could not ask again for what it is owed an answer for");
            }
            last = Some((due_ms, order_id));
        }
        Ok(if due.len() as i64 == ASKED_PER_LOOK_MAX { last } else { None })
    }
}

/// What the reconciler is sent.
pub enum ReconcilerMessage {
    /// Look now.
    Look,
}

/// The reconciler's actor.
pub struct Reconciler;

/// Where it stands.
pub struct ReconcilerState {
    orders: OrderService,
    after: Cursor,
}

impl Actor for Reconciler {
    type Msg = ReconcilerMessage;
    type State = ReconcilerState;
    type Arguments = OrderService;

    async fn pre_start(
        &self,
        myself: ActorRef<ReconcilerMessage>,
        orders: OrderService,
    ) -> Result<ReconcilerState, ActorProcessingErr> {
        myself.send_message(ReconcilerMessage::Look)?;
        Ok(ReconcilerState { orders, after: None })
    }

    async fn handle(
        &self,
        myself: ActorRef<ReconcilerMessage>,
        ReconcilerMessage::Look: ReconcilerMessage,
        state: &mut ReconcilerState,
    ) -> Result<(), ActorProcessingErr> {
        state.after = state.orders.ask_again(Timestamp::now(), state.after.take()).await?;
        let totals = DebtTotals::of(&state.orders.open_debts(SHOWN_MAX).await?);
        *state.orders.debt_board().lock().unwrap_or_else(PoisonError::into_inner) = totals;
        myself.send_after(LOOK_EVERY, || ReconcilerMessage::Look);
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<ReconcilerMessage>,
        _: SupervisionEvent,
        _: &mut ReconcilerState,
    ) -> Result<(), ActorProcessingErr> {
        // It has no children.
        Ok(())
    }
}
