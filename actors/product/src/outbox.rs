//! What the world is told of each event. Pure: the same event always gives the same messages under the same ids.

use contracts::{Envelope, Message, ProductId, Service, Sku, Timestamp, messages::event_id};
use runtime::{Entity, Recorded, decode_event};

use crate::{
    product::{Product, ProductEvent},
    stock_item::{StockEvent, StockItem},
};

/// The version of the payloads of our messages.
const MESSAGE_SCHEMA: u32 = 1;
/// Why a new product's units came in.
const INITIAL_STOCK: &str = "initial_stock";

/// The messages that a committed event gives rise to, in order. An event that cannot be read gives none, and an error in
/// the log: it stops its own stream when that wakes, and nobody else's.
pub fn messages_of(recorded: &Recorded) -> Vec<Envelope> {
    let messages = messages(recorded).unwrap_or_else(|error| {
        tracing::error!(stream = %recorded.stream, version = recorded.version, error, "an event cannot be told on");
        Vec::new()
    });
    messages.into_iter().enumerate().map(|(index, message)| envelope(recorded, index, message)).collect()
}

fn messages(recorded: &Recorded) -> Result<Vec<Message>, String> {
    let (kind, id) = recorded.kind_and_id();
    match kind {
        Product::KIND => {
            let event = decode_event::<Product>(recorded).map_err(|error| error.to_string())?;
            let product_id = ProductId::parse(id).map_err(|error| error.to_string())?;
            Ok(of_product(product_id, recorded.version, event))
        }
        StockItem::KIND => {
            let event = decode_event::<StockItem>(recorded).map_err(|error| error.to_string())?;
            let sku = Sku::parse(id).map_err(|error| error.to_string())?;
            Ok(of_stock(sku, event).into_iter().collect())
        }
        _ => Ok(Vec::new()),
    }
}

fn of_product(product_id: ProductId, version: u64, event: ProductEvent) -> Vec<Message> {
    let ProductEvent::Created { content, sku, initial_stock, .. } = event else { return Vec::new() };
    let price = content.price;
    let mut messages = vec![Message::ProductCreated {
        product_id: product_id.clone(),
        version,
        price_minor: price.minor(),
        currency: price.currency(),
    }];
    if initial_stock > 0 {
        let (quantity, reason) = (initial_stock, INITIAL_STOCK.to_owned());
        messages.push(Message::ReceiveStock { sku, product_id, quantity, reason });
    }
    messages
}

fn of_stock(sku: Sku, event: StockEvent) -> Option<Message> {
    Some(match event {
        StockEvent::Claimed { .. } => return None,
        StockEvent::Received { quantity, reason, on_hand_after, .. } => {
            Message::StockAdjusted { sku, delta: i64::from(quantity), on_hand_after, reason, reference: None }
        }
        StockEvent::Adjusted { delta, reason, reference, on_hand_after } => {
            Message::StockAdjusted { sku, delta, on_hand_after, reason, reference }
        }
        StockEvent::Reserved { reservation_id, order_id, quantity, expires_at, available_after } => {
            Message::StockReserved { reservation_id, order_id, sku, quantity, available_after, expires_at }
        }
        StockEvent::ReservationRejected { reservation_id, order_id, requested, available }
        | StockEvent::CommitRejected { reservation_id, order_id, requested, available } => {
            Message::StockRejected { reservation_id, order_id, sku, requested, available }
        }
        StockEvent::Committed { reservation_id, order_id, quantity }
        | StockEvent::Reacquired { reservation_id, order_id, quantity } => {
            Message::StockCommitted { reservation_id, order_id, sku, quantity }
        }
        StockEvent::Released { reservation_id, order_id, quantity, reason } => {
            Message::StockReleased { reservation_id, order_id, sku, quantity, reason }
        }
    })
}

fn envelope(recorded: &Recorded, index: usize, message: Message) -> Envelope {
    let time = Timestamp::from_millis(recorded.at_ms);
    Envelope {
        id: event_id(Service::Product, &recorded.stream, recorded.version, index, time),
        source: Service::Product,
        subject: message.subject().to_owned(),
        time,
        seq: recorded.version,
        schema: MESSAGE_SCHEMA,
        correlation_id: recorded.correlation_id.clone(),
        causation_id: recorded.causation_id.clone(),
        actor: recorded.actor.clone(),
        traceparent: recorded.traceparent.clone(),
        message,
    }
}

#[cfg(test)]
mod tests {
    use contracts::{OrderId, Quantity, ReservationId};
    use runtime::entity::EventPayload;

    use super::*;

    fn recorded(event: &StockEvent) -> Recorded {
        Recorded {
            position: 9,
            stream: "stock/sku_1".into(),
            version: 4,
            event_type: event.event_type().to_owned(),
            schema: 1,
            payload: serde_json::to_string(event).unwrap(),
            at_ms: 1_000,
            correlation_id: Some("req_1".into()),
            causation_id: Some("evt_1".into()),
            actor: Some("usr_1".into()),
            traceparent: Some("00-aa-bb-00".into()),
        }
    }

    #[test]
    fn an_event_is_told_under_the_same_id_every_time_and_keyed_by_its_sku() {
        let event = StockEvent::ReservationRejected {
            reservation_id: ReservationId::parse("res_1").unwrap(),
            order_id: OrderId::parse("ord_1").unwrap(),
            requested: Quantity::ONE,
            available: 0,
        };
        let told = messages_of(&recorded(&event));
        assert_eq!(told, messages_of(&recorded(&event)));
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].subject.as_str(), told[0].seq, told[0].time.as_millis()), ("sku_1", 4, 1_000));
        assert!(matches!(told[0].message, Message::StockRejected { available: 0, .. }));
        assert_eq!(told[0].correlation_id.as_deref(), Some("req_1"));
        assert_eq!(told[0].causation_id.as_deref(), Some("evt_1"));
        assert_eq!(told[0].traceparent.as_deref(), Some("00-aa-bb-00"));
    }

    #[test]
    fn a_claim_a_foreign_stream_and_a_damaged_payload_are_told_to_nobody() {
        let claimed = recorded(&StockEvent::Claimed { product_id: ProductId::parse("prod_1").unwrap() });
        assert_eq!(messages_of(&claimed), []);
        assert_eq!(messages_of(&Recorded { stream: "operation/x".into(), ..claimed.clone() }), []);
        assert_eq!(messages_of(&Recorded { payload: "{".into(), ..claimed }), []);
    }
}
