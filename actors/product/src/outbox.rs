//! What the world is told of each event. Pure: the same event always gives the same messages under the same ids.

use std::fmt::Display;

use contracts::{
    Envelope, Message, ProductId, Service, Sku, Timestamp,
    messages::{event_id, numbers},
};
use runtime::{Entity, JournalError, Recorded, decode_event};

use crate::{
    product::{Product, ProductEvent},
    stock_item::{StockEvent, StockItem},
};

/// The version of the payloads of our messages.
const MESSAGE_SCHEMA: u32 = 1;
/// Why a new product's units came in.
const INITIAL_STOCK: &str = "initial_stock";

/// The messages that a committed event gives rise to, in order.
///
/// # Errors
/// [`JournalError::Corrupt`] when the event cannot be read: whoever carries the messages sets it aside where people see it.
pub fn messages_of(recorded: &Recorded) -> Result<Vec<Envelope>, JournalError> {
    let messages = messages(recorded)?;
    let numbers = numbers(&messages, recorded.published_before);
    let told = messages.into_iter().zip(numbers).enumerate();
    Ok(told.map(|(index, (message, seq))| envelope(recorded, index, seq, message)).collect())
}

fn messages(recorded: &Recorded) -> Result<Vec<Message>, JournalError> {
    let (kind, id) = recorded.kind_and_id();
    let corrupt = |error: &dyn Display| JournalError::Corrupt(format!("{}: {error}", recorded.stream));
    match kind {
        Product::KIND => {
            let event = decode_event::<Product>(recorded)?;
            let product_id = ProductId::parse(id).map_err(|error| corrupt(&error))?;
            Ok(of_product(product_id, recorded.version, event))
        }
        StockItem::KIND => {
            let event = decode_event::<StockItem>(recorded)?;
            let sku = Sku::parse(id).map_err(|error| corrupt(&error))?;
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
        StockEvent::Settled { reservation_id, order_id, standing } => {
            Message::StockSettled { reservation_id, order_id, sku, standing }
        }
        StockEvent::HoldOverdue { reservation_id, order_id, quantity, expires_at, .. } => {
            Message::StockHoldOverdue { reservation_id, order_id, sku, quantity, expires_at }
        }
        StockEvent::Released { reservation_id, order_id, quantity, reason } => {
            Message::StockReleased { reservation_id, order_id, sku, quantity, reason }
        }
    })
}

fn envelope(recorded: &Recorded, index: usize, seq: Option<u64>, message: Message) -> Envelope {
    let time = Timestamp::from_millis(recorded.at_ms);
    Envelope {
        id: event_id(Service::Product, &recorded.stream, recorded.version, index, time),
        source: Service::Product,
        subject: message.subject().to_owned(),
        time,
        seq,
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
    use contracts::{Currency, Money, OrderId, Quantity, ReservationId, messages::ReservationStanding};
    use runtime::{entity::EventPayload, testkit::golden};

    use super::*;
    use crate::{product::Content, specifications::Specifications};

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
            published_before: Some(2),
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
        let told = messages_of(&recorded(&event)).unwrap();
        assert_eq!(told, messages_of(&recorded(&event)).unwrap());
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].subject.as_str(), told[0].seq, told[0].time.as_millis()), ("sku_1", Some(3), 1_000));
        assert!(matches!(told[0].message, Message::StockRejected { available: 0, .. }));
        assert_eq!(told[0].correlation_id.as_deref(), Some("req_1"));
        assert_eq!(told[0].causation_id.as_deref(), Some("evt_1"));
        assert_eq!(told[0].traceparent.as_deref(), Some("00-aa-bb-00"));
    }

    #[test]
    fn a_claim_and_a_foreign_stream_are_told_to_nobody_and_what_cannot_be_read_is_an_error() {
        let claimed = recorded(&StockEvent::Claimed { product_id: ProductId::parse("prod_1").unwrap() });
        assert_eq!(messages_of(&claimed), Ok(vec![]));
        assert_eq!(messages_of(&Recorded { stream: "operation/x".into(), ..claimed.clone() }), Ok(vec![]));
        for damaged in [
            Recorded { payload: "{".into(), ..claimed.clone() },
            Recorded { stream: "stock/".into(), ..claimed.clone() },
            Recorded { stream: "product/prod_1".into(), ..claimed },
        ] {
            assert!(matches!(messages_of(&damaged), Err(JournalError::Corrupt(_))), "{damaged:?}");
        }
    }

    #[test]
    fn a_new_product_is_told_of_and_its_first_units_are_sent_to_its_sku() {
        let (product_id, sku) = (ProductId::parse("prod_1").unwrap(), Sku::parse("sku_1").unwrap());
        let created = |initial_stock| ProductEvent::Created {
            content: Content {
                name: "Lamp".into(),
                description: String::new(),
                price: Money::from_minor(500, Currency::USD).unwrap(),
                category: "lighting".into(),
                images: vec![],
                specifications: Specifications::parse("{}").unwrap(),
            },
            sku: sku.clone(),
            initial_stock,
            at: Timestamp::from_millis(1),
        };
        let told = |initial_stock| -> Vec<Message> {
            let history = golden::history::<Product>("prod_1", &[created(initial_stock)]);
            messages_of(&history[0]).unwrap().into_iter().map(|envelope| envelope.message).collect()
        };
        let new = Message::ProductCreated {
            product_id: product_id.clone(),
            version: 1,
            price_minor: 500,
            currency: Currency::USD,
        };
        let units = Message::ReceiveStock {
            sku: sku.clone(),
            product_id: product_id.clone(),
            quantity: 12,
            reason: INITIAL_STOCK.to_owned(),
        };
        assert_eq!(told(12), [new.clone(), units]);
        assert_eq!(told(0), [new], "no units, no word of them");
    }

    #[test]
    fn what_becomes_of_units_is_told_to_whoever_they_are_for() {
        let (sku, order_id) = (Sku::parse("sku_1").unwrap(), OrderId::parse("ord_1").unwrap());
        let (reservation_id, product_id) =
            (ReservationId::parse("res_1").unwrap(), ProductId::parse("prod_1").unwrap());
        let (quantity, expires_at) = (Quantity::new(3).unwrap(), Timestamp::from_millis(9));
        let told = |event: StockEvent| messages_of(&recorded(&event)).unwrap().remove(0).message;
        let adjusted = |delta, on_hand_after, reason: &str, reference| Message::StockAdjusted {
            sku: sku.clone(),
            delta,
            on_hand_after,
            reason: reason.to_owned(),
            reference,
        };
        let received = StockEvent::Received { product_id, quantity: 12, reason: "bought".into(), on_hand_after: 15 };
        assert_eq!(told(received), adjusted(12, 15, "bought", None));
        let reference = Some("count-7".to_owned());
        let counted = StockEvent::Adjusted {
            delta: -2,
            reason: "counted".into(),
            reference: reference.clone(),
            on_hand_after: 13,
        };
        assert_eq!(told(counted), adjusted(-2, 13, "counted", reference));
        let reserved = StockEvent::Reserved {
            reservation_id: reservation_id.clone(),
            order_id: order_id.clone(),
            quantity,
            expires_at,
            available_after: 10,
        };
        assert_eq!(
            told(reserved),
            Message::StockReserved {
                reservation_id: reservation_id.clone(),
                order_id: order_id.clone(),
                sku: sku.clone(),
                quantity,
                available_after: 10,
                expires_at,
            }
        );
        let (is_sold, is_free) = {
            let (reservation_id, order_id) = (reservation_id.clone(), order_id.clone());
            (
                Message::StockCommitted {
                    reservation_id: reservation_id.clone(),
                    order_id: order_id.clone(),
                    sku: sku.clone(),
                    quantity,
                },
                Message::StockReleased {
                    reservation_id,
                    order_id,
                    sku: sku.clone(),
                    quantity,
                    reason: "customer".into(),
                },
            )
        };
        let sold = [
            StockEvent::Committed { reservation_id: reservation_id.clone(), order_id: order_id.clone(), quantity },
            StockEvent::Reacquired { reservation_id: reservation_id.clone(), order_id: order_id.clone(), quantity },
        ];
        assert_eq!(sold.map(told), [is_sold.clone(), is_sold]);
        let reason = "customer".to_owned();
        let released = StockEvent::Released {
            reservation_id: reservation_id.clone(),
            order_id: order_id.clone(),
            quantity,
            reason,
        };
        assert_eq!(told(released), is_free);
        let standing = ReservationStanding::Released;
        let settled =
            StockEvent::Settled { reservation_id: reservation_id.clone(), order_id: order_id.clone(), standing };
        assert_eq!(told(settled), Message::StockSettled { reservation_id, order_id, sku, standing });
    }
}
