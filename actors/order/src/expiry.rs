//! The clock of unpaid orders.
//!
//! An actor in the order service's tree that looks, every second, which unpaid orders are over their time, and asks each
//! to expire: the order decides. It owns nothing; when it dies its supervisor starts it again and nothing is lost, for
//! what is due is read from the view each time.

use std::time::Duration;

use contracts::Timestamp;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use runtime::{CommandId, RequestContext};

use crate::{order::OrderCommand, service::OrderService};

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The most orders that it expires in one look; the rest are due in the next.
const EXPIRED_PER_LOOK_MAX: i64 = 500;
/// How long one order may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the clock is sent.
pub enum ExpiryMessage {
    /// Look now.
    Look,
}

/// The clock's actor.
pub struct ExpiryClock;

impl Actor for ExpiryClock {
    type Msg = ExpiryMessage;
    type State = OrderService;
    type Arguments = OrderService;

    async fn pre_start(
        &self,
        myself: ActorRef<ExpiryMessage>,
        orders: OrderService,
    ) -> Result<OrderService, ActorProcessingErr> {
        myself.send_interval(LOOK_EVERY, || ExpiryMessage::Look);
        Ok(orders)
    }

    async fn handle(
        &self,
        _: ActorRef<ExpiryMessage>,
        ExpiryMessage::Look: ExpiryMessage,
        orders: &mut OrderService,
    ) -> Result<(), ActorProcessingErr> {
        let now = Timestamp::now();
        let due = orders.due_to_expire(now, EXPIRED_PER_LOOK_MAX).await?;
        for order_id in due {
            let context = RequestContext::new("expiry", PATIENCE);
            let command_id = CommandId::of(&["expire", order_id.as_str(), &now.as_millis().to_string()]);
            // Unanswered or refused, it is due again in the next look.
            let answer = orders.ask(&order_id, OrderCommand::Expire { now }, context.command(command_id)).await;
            if let Err(error) = answer {
                tracing::warn!(%order_id, %error, "an order could not be expired now");
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<ExpiryMessage>,
        _: SupervisionEvent,
        _: &mut OrderService,
    ) -> Result<(), ActorProcessingErr> {
        // It has no children.
        Ok(())
    }
}
