//! An order says again what it was not answered, and money that is owed is seen until it is back.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::{path::Path, sync::Arc, time::Duration};

use contracts::{
    Currency, Envelope, EventId, Message, OrderId, OrderedLine, PaymentId, ProductId, Quantity, RefundId,
    ReservationId, Service, Sku, Timestamp, UserId,
    messages::{ReservationStanding, Settlement},
};
use order_service::{Draft, OrderService, VIEWS, outbox::outbox};
use ractor::{Actor, ActorRef};
use runtime::{
    CommandId, Gate, Journal, RequestContext, Roster,
    journal::sqlite::{SqliteJournal, SqliteOptions},
    supervision::{Supervisor, SupervisorMessage, SupervisorSpec},
};

const PATIENCE: Duration = Duration::from_secs(20);
const SECOND_MS: i64 = 1_000;

struct System {
    orders: OrderService,
    journal: Arc<SqliteJournal>,
    supervisor: ActorRef<SupervisorMessage>,
}

fn context() -> RequestContext {
    RequestContext::new("req_test", PATIENCE)
}

fn id<T>(parse: impl Fn(&str) -> Result<T, contracts::IdError>, text: &str) -> T {
    parse(text).unwrap()
}

fn order_id() -> OrderId {
    id(OrderId::parse, "ord_1")
}

fn payment_id() -> PaymentId {
    id(PaymentId::parse, "pay_1")
}

fn sku(name: &str) -> Sku {
    id(Sku::parse, name)
}

fn draft() -> Draft {
    let line = |name: &str| OrderedLine {
        sku: sku(name),
        product_id: id(ProductId::parse, "prod_1"),
        name: name.to_owned(),
        quantity: Quantity::ONE,
        unit_price_minor: 500,
        line_total_minor: 500,
    };
    Draft {
        order_id: order_id(),
        reservation_id: id(ReservationId::parse, "res_1"),
        user_id: id(UserId::parse, "usr_1"),
        lines: vec![line("sku_a"), line("sku_b")],
        currency: Currency::USD,
        subtotal_minor: 1_000,
        discount_minor: 0,
        tax_minor: 0,
        shipping_minor: 0,
        total_minor: 1_000,
        shipping_address: None,
    }
}

impl System {
    async fn start(directory: &Path) -> Self {
        let options = SqliteOptions::new(directory, VIEWS);
        let journal = SqliteJournal::open(&options).unwrap();
        let roster = Roster::new();
        let orders = OrderService::new(journal.clone(), &Gate::new(1_000), &roster);
        let spec = SupervisorSpec::new("order", orders.children());
        let (supervisor, _) = Supervisor::spawn(None, Supervisor, (spec, roster)).await.unwrap();
        Self { orders, journal, supervisor }
    }

    async fn stop(self) {
        self.supervisor.stop_and_wait(None, None).await.unwrap();
        self.journal.close().await;
    }

    /// Another service says something.
    async fn hear(&self, message: Message) {
        let envelope = Envelope::new(EventId::generate(), Service::Product, Timestamp::now(), message);
        self.orders.inbox(&envelope).await.unwrap();
    }

    async fn hear_of_stock(&self, name: &str, standing: ReservationStanding) {
        let reservation_id = id(ReservationId::parse, "res_1");
        self.hear(Message::StockSettled { reservation_id, order_id: order_id(), sku: sku(name), standing }).await;
    }

    /// A paid order of two lines.
    async fn sell(&self) {
        let (orders, request) = (self.orders.clone(), context());
        let placed = tokio::spawn(async move { orders.place(draft(), &request).await });
        // It is submitted before anybody answers: an answer to an order that is not there yet would be nobody's.
        let mut committed = self.journal.committed();
        committed.wait_for(|newest| *newest >= 1).await.unwrap();
        for name in ["sku_a", "sku_b"] {
            let (reservation_id, quantity) = (id(ReservationId::parse, "res_1"), Quantity::ONE);
            let (available_after, expires_at) = (1, Timestamp::now());
            let order_id = order_id();
            self.hear(Message::StockReserved {
                reservation_id,
                order_id,
                sku: sku(name),
                quantity,
                available_after,
                expires_at,
            })
            .await;
        }
        placed.await.unwrap().unwrap();
        let (amount_minor, currency) = (1_000, Currency::USD);
        let requested =
            Message::PaymentRequested { payment_id: payment_id(), order_id: order_id(), amount_minor, currency };
        self.hear(requested).await;
        self.hear(succeeded(order_id(), payment_id())).await;
    }

    /// What the order said that `is_it`.
    async fn said(&self, is_it: impl Fn(&Message) -> bool) -> usize {
        let recorded = self.journal.read_after(0, 10_000).await.unwrap();
        recorded.iter().flat_map(|event| outbox(event).unwrap()).filter(|said| is_it(&said.message)).count()
    }

    async fn settles(&self, wanted: Settlement) -> usize {
        self.said(|message| matches!(message, Message::SettleStock { wanted: said, .. } if *said == wanted)).await
    }

    /// A look of the reconciler, so many seconds from now.
    async fn look_in(&self, seconds: i64) {
        let now = Timestamp::from_millis(Timestamp::now().as_millis() + seconds * SECOND_MS);
        assert_eq!(self.orders.ask_again(now, None).await.unwrap(), None, "one page holds all of it");
    }
}

fn succeeded(order_id: OrderId, payment_id: PaymentId) -> Message {
    Message::PaymentSucceeded {
        payment_id,
        order_id,
        amount_minor: 1_000,
        currency: Currency::USD,
        provider: "sandbox".into(),
        provider_ref: "ch_1".into(),
        captured_at: Timestamp::now(),
    }
}

#[tokio::test]
async fn what_the_stock_did_not_answer_is_said_again_after_growing_pauses_until_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    system.sell().await;
    assert_eq!(system.said(|message| matches!(message, Message::CommitStock { .. })).await, 2);
    let quantity = Quantity::ONE;
    let reservation_id = id(ReservationId::parse, "res_1");
    system.hear(Message::StockCommitted { reservation_id, order_id: order_id(), sku: sku("sku_a"), quantity }).await;

    system.look_in(20).await;
    assert_eq!(system.settles(Settlement::Committed).await, 0, "its time is not over");
    system.look_in(40).await;
    assert_eq!(system.settles(Settlement::Committed).await, 1, "of the line that was not answered");
    system.look_in(45).await;
    assert_eq!(system.settles(Settlement::Committed).await, 1, "once a round");
    system.look_in(120).await;
    assert_eq!(system.settles(Settlement::Committed).await, 2, "and again");
    // That they are held is no answer to whether they were sold.
    system.hear_of_stock("sku_b", ReservationStanding::Reserved).await;
    system.look_in(1_000).await;
    assert_eq!(system.settles(Settlement::Committed).await, 3);
    assert_eq!(system.orders.open_debts(10).await.unwrap()[0].asked_again, 3, "an operator sees it by now");

    system.hear_of_stock("sku_b", ReservationStanding::Committed).await;
    system.look_in(100_000).await;
    assert_eq!(system.settles(Settlement::Committed).await, 3, "answered is answered");
    assert_eq!(system.orders.open_debts(10).await.unwrap(), []);
    system.stop().await;
}

#[tokio::test]
async fn money_that_is_owed_is_seen_and_asked_for_again_until_it_is_back_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    system.sell().await;
    for name in ["sku_a", "sku_b"] {
        system.hear_of_stock(name, ReservationStanding::Committed).await;
    }
    let refund_id = id(RefundId::parse, "rfnd_1");
    let command_id = CommandId::of(&["cancel"]);
    system.orders.cancel(&order_id(), "customer", refund_id.clone(), command_id, &context()).await.unwrap();
    let owed = system.orders.open_debts(10).await.unwrap();
    assert_eq!((owed.len(), owed[0].refunds, owed[0].owed_minor, owed[0].stock_lines), (1, 1, 1_000, 2));
    system.stop().await;

    let system = System::start(directory.path()).await;
    system.look_in(40).await;
    assert_eq!(system.settles(Settlement::Released).await, 2);
    let asks = |message: &Message| matches!(message, Message::SettleRefund { refund_id, amount_minor: 1_000, .. } if *refund_id == id(RefundId::parse, "rfnd_1"));
    assert_eq!(system.said(asks).await, 1);
    // It was back all the time, and nobody had heard of it.
    let settled =
        Message::RefundSettled { payment_id: payment_id(), order_id: order_id(), refund_id, amount_minor: 1_000 };
    system.hear(settled).await;
    assert_eq!(system.orders.open_debts(10).await.unwrap(), [], "the money is no debt any more");
    for (name, standing) in [("sku_a", ReservationStanding::Released), ("sku_b", ReservationStanding::Unknown)] {
        system.hear_of_stock(name, standing).await;
    }
    system.look_in(100_000).await;
    assert_eq!((system.said(asks).await, system.settles(Settlement::Released).await), (1, 2), "all is answered");
    assert_eq!(system.orders.order(&order_id(), &context()).await.unwrap().payment_status(), "refunded");
    system.stop().await;
}

#[tokio::test]
async fn money_of_an_order_that_never_was_is_owed_too() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    let never = id(OrderId::parse, "ord_never");
    system.hear(succeeded(never.clone(), payment_id())).await;
    let owed = system.orders.open_debts(10).await.unwrap();
    assert_eq!((owed.len(), owed[0].order_id.as_str(), owed[0].owed_minor), (1, "ord_never", 1_000));
    let (refund_id, reason) = (id(RefundId::parse, "rfnd_1"), "late_payment".to_owned());
    system
        .hear(Message::PaymentRefunded {
            payment_id: payment_id(),
            order_id: never,
            refund_id,
            amount_minor: 1_000,
            refunded_total_minor: 1_000,
            reason,
        })
        .await;
    assert_eq!(system.orders.open_debts(10).await.unwrap(), []);
    system.stop().await;
}
