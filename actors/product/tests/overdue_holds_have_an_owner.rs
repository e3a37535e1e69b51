//! Stock that is held beyond its time: its order is asked, again and again, until it is decided.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::time::Duration;

use contracts::{Message, Timestamp};
use support::{PATIENCE, System, release, reserve_until};

async fn until_asked(system: &System, times: usize) {
    let asked = async {
        while system.is_told(|message| matches!(message, Message::StockHoldOverdue { .. })).await < times {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.expect("the order was not asked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_beyond_its_time_is_asked_about_and_one_within_it_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    let sku = system.create("Lamp", 100, 10).await.summary.sku;
    let long_ago = Timestamp::from_millis(Timestamp::now().as_millis() - 3_600_000);
    let later = Timestamp::from_millis(Timestamp::now().as_millis() + 3_600_000);
    system.give(&reserve_until(&sku, 1, 1, long_ago)).await;
    system.give(&reserve_until(&sku, 2, 1, later)).await;
    until_asked(&system, 1).await;
    let rows = "SELECT reservation_id FROM reservations WHERE status = 'reserved' AND expires_at > ?1";
    let pauses = runtime::Journal::query(&*system.journal, rows, vec![Timestamp::now().as_millis().into()]);
    assert_eq!(pauses.await.unwrap().len(), 2, "it is asked again later, and not at once");
    system.give(&release(&sku, 1)).await;
    assert_eq!(system.is_told(|message| matches!(message, Message::StockReleased { .. })).await, 1);
    assert_eq!(system.is_told(|message| matches!(message, Message::StockHoldOverdue { .. })).await, 1);
    system.stop().await;
}
