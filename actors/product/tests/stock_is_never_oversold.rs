//! However many want it at once, what is promised is there, and it is promised once.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::time::Instant;

use contracts::{InboxError, Message, Sku};
use product_service::{Adjustment, ProductError};
use support::{System, commit, context, envelope, release, reserve};

fn is_reserved(message: &Message) -> bool {
    matches!(message, Message::StockReserved { .. })
}

fn is_rejected(message: &Message) -> bool {
    matches!(message, Message::StockRejected { .. })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_500_at_once_exactly_100_get_one_of_100() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    let sku = system.create("Hot", 999, 100).await.summary.sku;

    let wanted: Vec<_> = (0..500).map(|number| reserve(&sku, number, 1)).collect();
    futures::future::join_all(wanted.iter().map(|envelope| system.give(envelope))).await;

    assert_eq!((system.is_told(is_reserved).await, system.is_told(is_rejected).await), (100, 400));
    let level = system.service.stock(&sku).await.unwrap();
    assert_eq!((level.on_hand, level.reserved, level.committed, level.available), (100, 100, 0, 0));
    assert!(system.service.totals().await.unwrap().hold());
    let rows = "SELECT count(*), sum(quantity) FROM reservations WHERE status = 'reserved'";
    let row = system.journal_row(rows).await;
    assert_eq!(row, (100, 100), "the ledger's rows add up to the counter");
    system.stop().await;
}

#[tokio::test]
async fn a_repeated_message_has_no_second_effect_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut system = System::start(directory.path()).await;
    let sku = system.create("Once", 999, 10).await.summary.sku;
    let messages = [
        reserve(&sku, 1, 3),
        reserve(&sku, 2, 4),
        commit(&sku, 1),
        release(&sku, 2),
        reserve(&sku, 3, 8),
        reserve(&sku, 4, 2),
    ];
    for message in &messages {
        system.give(message).await;
    }
    let told = system.told().await;
    for _ in 0..2 {
        for message in messages.iter().chain(messages.iter().rev()) {
            system.give(message).await;
        }
        // The bus has begun again from the first event, so the first units have been given again too.
        assert_eq!(system.told().await, told);
        let level = system.service.stock(&sku).await.unwrap();
        assert_eq!((level.on_hand, level.reserved, level.committed, level.available), (10, 2, 3, 5));
        system.stop().await;
        system = System::start(directory.path()).await;
    }
    // The same reservations under other messages: known by their own ids.
    for message in [reserve(&sku, 1, 3), reserve(&sku, 3, 1), reserve(&sku, 4, 2), commit(&sku, 1), release(&sku, 2)] {
        system.give(&message).await;
    }
    assert_eq!(system.told().await, told);
    system.stop().await;
}

#[tokio::test]
async fn releasing_what_nobody_holds_does_nothing_and_two_skus_are_independent() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    let (left, right) = (system.create("Left", 1, 5).await.summary.sku, system.create("Right", 1, 5).await.summary.sku);
    let before = system.recorded().await.len();
    system.give(&release(&left, 1)).await;
    assert_eq!(system.recorded().await.len(), before);

    // One order holds both under one reservation id; what happens to one says nothing about the other.
    system.give(&reserve(&left, 7, 5)).await;
    system.give(&reserve(&right, 7, 2)).await;
    system.give(&release(&right, 7)).await;
    let levels = (system.service.stock(&left).await.unwrap(), system.service.stock(&right).await.unwrap());
    assert_eq!((levels.0.available, levels.1.available), (0, 5));
    system.stop().await;
}

#[tokio::test]
async fn what_was_released_is_sold_only_if_it_is_still_there() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    let sku = system.create("Late", 1, 5).await.summary.sku;
    for message in [reserve(&sku, 1, 3), release(&sku, 1), commit(&sku, 1)] {
        system.give(&message).await;
    }
    assert_eq!(system.service.stock(&sku).await.unwrap().committed, 3, "paid late, and still there");
    for message in [reserve(&sku, 2, 2), release(&sku, 2), reserve(&sku, 3, 1), commit(&sku, 2), commit(&sku, 99)] {
        system.give(&message).await;
    }
    assert_eq!(system.is_told(is_rejected).await, 2, "gone, or never known: the one who paid hears of it");
    let level = system.service.stock(&sku).await.unwrap();
    assert_eq!((level.reserved, level.committed, level.available), (1, 3, 1));
    system.stop().await;
}

#[tokio::test]
async fn an_unknown_sku_is_rejected_over_the_bus_and_foreign_messages_are_not_ours() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    let nobodys = Sku::generate();
    system.give(&reserve(&nobodys, 1, 2)).await;
    let is_the_rejection = |message: &Message| matches!(message, Message::StockRejected { available: 0, .. });
    assert_eq!(system.is_told(is_the_rejection).await, 1);
    assert_eq!(system.service.stock(&nobodys).await, Err(ProductError::NotFound));

    let told = system.told().await;
    assert_eq!(told[0].correlation_id.as_deref(), Some("req_order"));
    assert_eq!(told[0].actor.as_deref(), Some("usr_1"));
    system.give(&envelope(told[0].message.clone())).await;
    assert_eq!(system.told().await, told);

    let product = system.create("Ours", 1, 1).await.summary;
    let (sku, quantity, reason) = (product.sku, 1, "theft".to_owned());
    let foreign = Message::ReceiveStock { sku, product_id: contracts::ProductId::generate(), quantity, reason };
    assert!(matches!(system.service.inbox(&envelope(foreign)).await, Err(InboxError::Poison(_))));
    system.stop().await;
}

#[tokio::test]
async fn a_correction_happens_once_per_key_and_takes_nothing_that_is_promised() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    let sku = system.create("Counted", 1, 5).await.summary.sku;
    let by = |delta, expected_on_hand| Adjustment {
        sku: sku.clone(),
        delta,
        reason: "count".into(),
        reference: Some("sheet 7".into()),
        expected_on_hand,
    };
    system.give(&reserve(&sku, 1, 4)).await;
    let adjust = |adjustment, key: &'static str| {
        let service = system.service.clone();
        async move { service.adjust_stock(adjustment, key, &context()).await }
    };
    let first = adjust(by(3, Some(5)), "a").await.unwrap();
    let again = adjust(by(3, Some(5)), "a").await.unwrap();
    assert_eq!((first.on_hand_after, first.is_repeat), (8, false));
    assert_eq!((again.on_hand_after, again.sequence, again.is_repeat), (8, first.sequence, true));
    assert_eq!(adjust(by(-5, None), "b").await, Err(ProductError::InsufficientStock { available: 4 }));
    assert_eq!(adjust(by(1, Some(5)), "c").await, Err(ProductError::OnHandDiffers { on_hand: 8 }));
    assert!(matches!(adjust(by(0, None), "d").await, Err(ProductError::Invalid(_))));
    let nobodys = Adjustment { sku: Sku::generate(), ..by(1, None) };
    assert_eq!(adjust(nobodys, "e").await, Err(ProductError::NotFound));
    let totals = system.service.totals().await.unwrap();
    assert!(totals.hold());
    assert_eq!((totals.received, totals.adjusted, totals.reserved, totals.available), (5, 3, 4, 4));
    system.stop().await;
}

/// More than one snapshot's worth of buyers, so that the item wakes from its snapshot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hot_item_wakes_from_its_snapshot_as_it_was() {
    const BUYERS: u32 = 12_000;
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    let sku = system.create("Hot", 999, 11_000).await.summary.sku;
    let wanted: Vec<_> = (0..BUYERS).map(|number| reserve(&sku, number, 1)).collect();
    let start = Instant::now();
    futures::future::join_all(wanted.iter().map(|envelope| system.give(envelope))).await;
    println!("{BUYERS} reservations of one SKU in {:?}, durable, through the inbox", start.elapsed());
    let snapshots = system.journal_row("SELECT count(*), max(version) FROM snapshots").await;
    assert_eq!(snapshots.0, 1);
    system.stop().await;

    let system = System::start_without_bus(directory.path()).await;
    let start = Instant::now();
    system.give(&commit(&sku, 0)).await;
    println!("awake and first answer after {:?}", start.elapsed());
    for message in [commit(&sku, 10_999), commit(&sku, 11_999), reserve(&sku, 5, 1), release(&sku, 9)] {
        system.give(&message).await;
    }
    let level = system.service.stock(&sku).await.unwrap();
    assert_eq!((level.reserved, level.committed, level.available), (10_997, 2, 1));
    system.stop().await;
}
