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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use contracts::{EventId, OrderId, ProductId, Quantity, ReservationId, Service, Timestamp, messages::Settlement};
    use ractor::Actor;
    use runtime::{
        Gate, Journal, Roster,
        journal::memory::{Faults, MemoryDisk, MemoryJournal},
        supervision::{Supervisor, SupervisorSpec},
    };

    use super::*;
    use crate::ProductService;

    fn sku() -> Sku {
        Sku::parse("sku_1").unwrap()
    }

    fn product_id(name: &str) -> ProductId {
        ProductId::parse(name).unwrap()
    }

    fn order_id() -> OrderId {
        OrderId::parse("ord_1").unwrap()
    }

    fn reservation_id() -> ReservationId {
        ReservationId::parse("res_1").unwrap()
    }

    fn envelope(message: Message) -> Envelope {
        Envelope {
            correlation_id: Some("req_1".into()),
            actor: Some("usr_1".into()),
            ..Envelope::new(EventId::generate(), Service::Order, Timestamp::now(), message)
        }
    }

    fn receive(product: &str, quantity: u32) -> Message {
        Message::ReceiveStock { sku: sku(), product_id: product_id(product), quantity, reason: "bought".into() }
    }

    /// A command is no value to be compared: in words.
    #[track_caller]
    fn assert_asks(message: &Message, command: StockCommand) {
        let asked = command_of(message).map(|(sku, command)| (sku, format!("{command:?}")));
        assert_eq!(asked, Some((sku(), format!("{command:?}"))));
    }

    #[test]
    fn each_command_of_another_service_is_one_to_its_sku() {
        let (reservation_id, order_id, sku) = (reservation_id(), order_id(), sku());
        let (quantity, expires_at) = (Quantity::new(3).unwrap(), Timestamp::from_seconds(9));
        assert_asks(
            &Message::ReserveStock {
                sku: sku.clone(),
                reservation_id: reservation_id.clone(),
                order_id: order_id.clone(),
                quantity,
                expires_at,
            },
            StockCommand::Reserve {
                reservation_id: reservation_id.clone(),
                order_id: order_id.clone(),
                quantity,
                expires_at,
            },
        );
        assert_asks(
            &Message::CommitStock {
                sku: sku.clone(),
                reservation_id: reservation_id.clone(),
                order_id: order_id.clone(),
            },
            StockCommand::Commit { reservation_id: reservation_id.clone(), order_id: order_id.clone() },
        );
        assert_asks(
            &Message::ReleaseStock {
                sku: sku.clone(),
                reservation_id: reservation_id.clone(),
                order_id: order_id.clone(),
                reason: "customer".into(),
            },
            StockCommand::Release { reservation_id: reservation_id.clone(), reason: "customer".into() },
        );
        for wanted in [Settlement::Committed, Settlement::Released] {
            assert_asks(
                &Message::SettleStock {
                    sku: sku.clone(),
                    reservation_id: reservation_id.clone(),
                    order_id: order_id.clone(),
                    wanted,
                },
                StockCommand::Settle { reservation_id: reservation_id.clone(), order_id: order_id.clone(), wanted },
            );
        }
        assert_asks(
            &receive("prod_1", 7),
            StockCommand::Receive { product_id: product_id("prod_1"), quantity: 7, reason: "bought".into() },
        );
    }

    #[test]
    fn what_is_no_command_to_the_stock_is_none_of_its_business() {
        let (reservation_id, order_id) = (reservation_id(), order_id());
        let payment_id = contracts::PaymentId::parse("pay_1").unwrap();
        for message in [
            Message::ExecuteCharge { payment_id, order_id: order_id.clone() },
            // What it has said itself.
            Message::StockCommitted { reservation_id, order_id, sku: sku(), quantity: Quantity::ONE },
        ] {
            assert!(command_of(&message).is_none(), "{message:?}");
        }
    }

    #[tokio::test]
    async fn a_message_has_its_effect_once_and_one_that_contradicts_the_books_is_a_dead_letter() {
        let journal =
            MemoryJournal::open(&MemoryDisk::new(ProductService::VIEWS).unwrap(), Faults::none()).await.unwrap();
        let roster = Roster::new();
        let service = ProductService::new(journal.clone(), &Gate::new(100), roster.clone());
        let spec = SupervisorSpec::new("product", service.children());
        let (tree, _) = Supervisor::spawn(None, Supervisor, (spec, roster)).await.unwrap();

        let units = envelope(receive("prod_1", 7));
        for _ in 0..2 {
            assert_eq!(service.inbox(&units).await, Ok(()));
        }
        assert_eq!(service.inbox(&envelope(receive("prod_1", 5))).await, Ok(()), "other units");
        let foreign = service.inbox(&envelope(receive("prod_2", 1))).await;
        assert!(matches!(&foreign, Err(InboxError::Poison(why)) if why.contains("sku_1")), "{foreign:?}");

        let events = journal.events(Arc::from("stock/sku_1")).await.unwrap();
        assert_eq!(events.len(), 2, "{events:?}");
        assert_eq!(events[0].causation_id.as_deref(), Some(units.id.as_str()));
        assert_eq!((events[0].correlation_id.as_deref(), events[0].actor.as_deref()), (Some("req_1"), Some("usr_1")));
        tree.stop_and_wait(None, None).await.unwrap();
        // Nobody is there to take it: it is to be given again.
        let later = service.inbox(&envelope(receive("prod_1", 1))).await;
        assert!(matches!(later, Err(InboxError::NotNow(_))), "{later:?}");
        journal.close().await;
    }
}
