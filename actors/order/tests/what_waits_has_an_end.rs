//! The order service on a real journal: what waits for too long is decided by the clock, wherever it waits.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::{sync::Arc, time::Duration};

use contracts::{
    Envelope, EventId, Message, OrderId, OrderedLine, PaymentId, ProductId, Quantity, ReservationId, Service, Sku,
    Timestamp, UserId,
};
use order_service::{Draft, Order, OrderError, OrderService, OrderStatus, Terms, VIEWS, outbox::outbox};
use ractor::{Actor, ActorRef};
use runtime::{
    Gate, Journal, RequestContext, Roster,
    journal::sqlite::{SqliteJournal, SqliteOptions},
    supervision::{Supervisor, SupervisorMessage, SupervisorSpec},
};

const PATIENCE: Duration = Duration::from_secs(20);

struct Stage {
    service: OrderService,
    journal: Arc<SqliteJournal>,
    tree: ActorRef<SupervisorMessage>,
    _directory: tempfile::TempDir,
}

impl Stage {
    async fn new(payable_for_ms: i64, payment_window_ms: i64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = SqliteOptions::new(directory.path(), VIEWS);
        let journal = SqliteJournal::open(&options).unwrap();
        let roster = Roster::new();
        let terms = Terms { payable_for_ms, payment_window_ms };
        let service = OrderService::new(journal.clone(), &Gate::new(1_000), &roster).on_terms(terms);
        let spec = SupervisorSpec::new("order", service.children());
        let (tree, _) = Supervisor::spawn(None, Supervisor, (spec, roster)).await.unwrap();
        Self { service, journal, tree, _directory: directory }
    }

    async fn stop(self) {
        self.tree.stop_and_wait(None, None).await.unwrap();
        self.journal.close().await;
    }

    async fn hear(&self, message: Message) {
        let envelope = Envelope::new(EventId::generate(), Service::Product, Timestamp::now(), message);
        self.service.inbox(&envelope).await.unwrap();
    }

    async fn reserved(&self, name: &str, sku_name: &str) {
        self.hear(Message::StockReserved {
            reservation_id: ReservationId::parse("res_1").unwrap(),
            order_id: order(name),
            sku: sku(sku_name),
            quantity: Quantity::ONE,
            available_after: 1,
            expires_at: Timestamp::now(),
        })
        .await;
    }

    /// Submits an order for two things.
    async fn submit(&self, name: &str) {
        let (service, draft) = (self.service.clone(), draft(name));
        tokio::spawn(async move { service.place(draft, &RequestContext::new("test", PATIENCE)).await });
        self.until(name, |_| true).await;
    }

    /// Submits an order for two things and has both held.
    async fn pending(&self, name: &str) {
        self.submit(name).await;
        self.reserved(name, "sku_a").await;
        self.reserved(name, "sku_b").await;
    }

    async fn until(&self, name: &str, is_so: impl Fn(&Order) -> bool) -> Order {
        let seen = async {
            loop {
                let deadline = tokio::time::Instant::now() + PATIENCE;
                let order = self.service.entities().read(name, deadline, |order, _| order.clone()).await.unwrap();
                if let Some(order) = order.filter(&is_so) {
                    return order;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {name}"))
    }

    async fn told(&self) -> Vec<Message> {
        let recorded = self.journal.read_after(0, 100_000).await.unwrap();
        recorded.iter().flat_map(|event| outbox(event).unwrap()).map(|envelope| envelope.message).collect()
    }

    async fn released(&self) -> Vec<String> {
        let released = |message: Message| match message {
            Message::ReleaseStock { sku, .. } => Some(sku.to_string()),
            _ => None,
        };
        self.told().await.into_iter().filter_map(released).collect()
    }
}

fn order(name: &str) -> OrderId {
    OrderId::parse(name).unwrap()
}

fn sku(name: &str) -> Sku {
    Sku::parse(name).unwrap()
}

fn draft(name: &str) -> Draft {
    let line = |name: &str| OrderedLine {
        sku: sku(name),
        product_id: ProductId::parse("prod_1").unwrap(),
        name: "Lamp".into(),
        quantity: Quantity::ONE,
        unit_price_minor: 100,
        line_total_minor: 100,
    };
    Draft {
        order_id: order(name),
        reservation_id: ReservationId::parse("res_1").unwrap(),
        user_id: UserId::parse("usr_1").unwrap(),
        lines: vec![line("sku_a"), line("sku_b")],
        currency: "USD".parse().unwrap(),
        subtotal_minor: 200,
        discount_minor: 0,
        tax_minor: 0,
        shipping_minor: 0,
        total_minor: 200,
        shipping_address: None,
    }
}

fn payment() -> PaymentId {
    PaymentId::parse("pay_1").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_whose_stock_does_not_answer_is_given_up_and_releases_all_of_it() {
    let stage = Stage::new(1_500, 1_500).await;
    stage.submit("ord_1").await;
    stage.reserved("ord_1", "sku_a").await;
    stage.until("ord_1", |order| order.status == OrderStatus::Rejected).await;
    let again = RequestContext::new("test", PATIENCE);
    assert_eq!(stage.service.place(draft("ord_1"), &again).await.map(|_| ()), Err(OrderError::NotPlaced));
    assert_eq!(stage.released().await, ["sku_a", "sku_b"]);
    stage.reserved("ord_1", "sku_b").await;
    assert_eq!(stage.released().await, ["sku_a", "sku_b", "sku_b"], "the answer that came after all");
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unpaid_orders_expire_and_so_does_one_whose_payment_takes_too_long() {
    let stage = Stage::new(2_000, 2_000).await;
    stage.pending("ord_1").await;
    stage.until("ord_1", |order| order.cancel_reason.as_deref() == Some("expired")).await;
    assert_eq!(stage.released().await, ["sku_a", "sku_b"]);

    stage.pending("ord_2").await;
    let (order_id, currency) = (order("ord_2"), "USD".parse().unwrap());
    stage.hear(Message::PaymentRequested { payment_id: payment(), order_id, amount_minor: 200, currency }).await;
    let approved = stage.told().await.into_iter().find_map(|message| match message {
        Message::ApprovePayment { expires_at, .. } => Some(expires_at),
        _ => None,
    });
    let until = approved.expect("an approval").expect("a time");
    assert!(until > Timestamp::now(), "it holds its stock for the payment's time");
    let expired = stage.until("ord_2", |order| order.status == OrderStatus::Cancelled).await;
    assert_eq!(expired.expires_at, until);
    assert!(stage.told().await.iter().any(|message| matches!(message, Message::VoidPayment { .. })));
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_of_an_order_that_does_not_exist_is_released() {
    let stage = Stage::new(60_000, 60_000).await;
    stage
        .hear(Message::StockHoldOverdue {
            reservation_id: ReservationId::parse("res_9").unwrap(),
            order_id: order("ord_9"),
            sku: sku("sku_a"),
            quantity: Quantity::ONE,
            expires_at: Timestamp::now(),
        })
        .await;
    assert_eq!(stage.released().await, ["sku_a"]);
    stage.stop().await;
}
