//! Messages to commands. The command's id comes from the envelope's: a message given twice has one effect.

use std::time::Duration;

use contracts::{Envelope, InboxError, Message, Sku, Topic};
use runtime::{AskError, CommandId, CommandMeta, Entities};

use crate::stock_item::{StockCommand, StockItem};

/// How long one message may take; afterwards the bus gives it again.
const PATIENCE: Duration = Duration::from_secs(5);

/// Takes one message in; see [`crate::ProductService::inbox`].
pub async fn take_in(stock: &Entities<StockItem>, envelope: &Envelope) -> Result<(), InboxError> {
    let Some((sku, command)) = command_of(&envelope.message) else { return Ok(()) };
    match stock.ask(sku.as_str(), command, meta(envelope)).await {
        Ok(_) => Ok(()),
        Err(AskError::Refused(refusal)) => Err(InboxError::Poison(format!("{sku}: {refusal:?}"))),
        Err(
            error @ (AskError::Busy
            | AskError::Parked { .. }
            | AskError::Full
            | AskError::DeadlineExceeded
            | AskError::Unavailable),
        ) => Err(InboxError::NotNow(error.to_string())),
    }
}

/// What a message asks of which SKU; nothing for the messages that are not for this service.
fn command_of(message: &Message) -> Option<(Sku, StockCommand)> {
    if message.topic() != Topic::InventoryCommands {
        return None;
    }
    match message.clone() {
        Message::ReserveStock { sku, reservation_id, order_id, quantity, expires_at } => {
            Some((sku, StockCommand::Reserve { reservation_id, order_id, quantity, expires_at }))
        }
        Message::CommitStock { sku, reservation_id, order_id } => {
            Some((sku, StockCommand::Commit { reservation_id, order_id }))
        }
        Message::ReleaseStock { sku, reservation_id, reason, .. } => {
            Some((sku, StockCommand::Release { reservation_id, reason }))
        }
        Message::SettleStock { sku, reservation_id, order_id, wanted } => {
            Some((sku, StockCommand::Settle { reservation_id, order_id, wanted }))
        }
        Message::ReceiveStock { sku, product_id, quantity, reason } => {
            Some((sku, StockCommand::Receive { product_id, quantity, reason }))
        }
        _ => None,
    }
}

fn meta(envelope: &Envelope) -> CommandMeta {
    let id = envelope.id.as_str();
    let mut meta = CommandMeta::new(CommandId::of(&["inbox", id]), PATIENCE).caused_by(id);
    meta.correlation_id = envelope.correlation_id.as_deref().map(Into::into);
    meta.actor = envelope.actor.as_deref().map(Into::into);
    meta.traced(envelope.traceparent.as_deref())
}
