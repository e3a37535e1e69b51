//! Every event that the catalogue's and the stock's journals may hold can still be read; see [`runtime::testkit::golden`].

use std::path::{Path, PathBuf};

use contracts::{
    Money, OrderId, ProductId, Quantity, ReservationId, Sku, Timestamp, messages::ReservationStanding,
    testkit::assert_numbered,
};
use runtime::{event_samples, testkit::golden};

use crate::{
    product::{Content, Product, ProductEvent},
    specifications::Specifications,
    stock_item::{StockEvent, StockItem},
};

fn corpus(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(kind)
}

fn at() -> Timestamp {
    Timestamp::from_seconds(1_700_000_000)
}

fn content() -> Content {
    Content {
        name: "Lamp".into(),
        description: "It gives light.".into(),
        price: Money::from_minor(29_999, "USD".parse().unwrap()).unwrap(),
        category: "lighting".into(),
        images: vec!["https://example.com/lamp.png".into()],
        specifications: Specifications::parse(r#"{"watts":4.50,"dimmable":true}"#).unwrap(),
    }
}

#[test]
fn every_event_of_a_product_can_be_read() {
    let samples = event_samples!(ProductEvent {
        ProductEvent::Created { .. } => ProductEvent::Created {
            content: content(),
            sku: Sku::parse("sku_lamp").unwrap(),
            initial_stock: 12,
            at: at(),
        },
        ProductEvent::Updated { .. } => ProductEvent::Updated { content: content(), at: at() },
        ProductEvent::Archived { .. } => ProductEvent::Archived { at: at() },
    });
    let told = golden::history::<Product>("prod_1", &samples);
    let told = told.iter().map(|recorded| crate::outbox::messages_of(recorded).unwrap());
    assert_numbered(told.zip(samples.iter().map(ProductEvent::publishes)));
    golden::check::<Product>(&corpus("product"), samples);
}

#[test]
fn every_event_of_a_stock_item_can_be_read() {
    let product_id = || ProductId::parse("prod_1").unwrap();
    let reservation_id = || ReservationId::parse("res_1").unwrap();
    let order_id = || OrderId::parse("ord_1").unwrap();
    let quantity = Quantity::new(3).unwrap();
    let adjusted = |reference: Option<&str>| StockEvent::Adjusted {
        delta: -2,
        reason: "counted".into(),
        reference: reference.map(Into::into),
        on_hand_after: 10,
    };
    let mut samples = event_samples!(StockEvent {
        StockEvent::Claimed { .. } => StockEvent::Claimed { product_id: product_id() },
        StockEvent::Received { .. } => StockEvent::Received {
            product_id: product_id(),
            quantity: 12,
            reason: "initial_stock".into(),
            on_hand_after: 12,
        },
        StockEvent::Adjusted { .. } => adjusted(Some("count-7")),
        StockEvent::Reserved { .. } => StockEvent::Reserved {
            reservation_id: reservation_id(),
            order_id: order_id(),
            quantity,
            expires_at: at(),
            available_after: 7,
        },
        StockEvent::ReservationRejected { .. } => StockEvent::ReservationRejected {
            reservation_id: reservation_id(),
            order_id: order_id(),
            requested: quantity,
            available: 1,
        },
        StockEvent::Committed { .. } => StockEvent::Committed {
            reservation_id: reservation_id(),
            order_id: order_id(),
            quantity,
        },
        StockEvent::Reacquired { .. } => StockEvent::Reacquired {
            reservation_id: reservation_id(),
            order_id: order_id(),
            quantity,
        },
        StockEvent::CommitRejected { .. } => StockEvent::CommitRejected {
            reservation_id: reservation_id(),
            order_id: order_id(),
            requested: quantity,
            available: 0,
        },
        StockEvent::Released { .. } => StockEvent::Released {
            reservation_id: reservation_id(),
            order_id: order_id(),
            quantity,
            reason: "expired".into(),
        },
        StockEvent::Settled { .. } => StockEvent::Settled {
            reservation_id: reservation_id(),
            order_id: order_id(),
            standing: ReservationStanding::Committed,
        },
        StockEvent::HoldOverdue { .. } => StockEvent::HoldOverdue {
            reservation_id: reservation_id(),
            order_id: order_id(),
            quantity,
            expires_at: at(),
            ask_again_at: at(),
        },
    });
    samples.push(adjusted(None));
    let told = golden::history::<StockItem>("sku_1", &samples);
    let told = told.iter().map(|recorded| crate::outbox::messages_of(recorded).unwrap());
    assert_numbered(told.zip(samples.iter().map(StockEvent::publishes)));
    golden::check::<StockItem>(&corpus("stock"), samples);
}
