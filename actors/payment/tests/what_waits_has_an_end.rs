//! The payment service on a real journal: what is refused writes nothing, what is too late charges nothing, and what waits for
//! too long is decided by the clock.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use contracts::{Envelope, EventId, Message, Money, OrderId, PaymentId, Service, Timestamp, UserId};
use payment_service::{
    Card, NewPayment, Payment, PaymentError, PaymentService, PaymentStatus, SandboxProvider, VIEWS, provider::sandbox,
};
use ractor::{Actor, ActorRef};
use runtime::{
    CommandId, Gate, Journal, RequestContext, Roster,
    journal::sqlite::{SqliteJournal, SqliteOptions},
    supervision::{Supervisor, SupervisorMessage, SupervisorSpec},
};

const PATIENCE: Duration = Duration::from_secs(20);
const WINDOW_MS: i64 = 600_000;

struct Stage {
    service: PaymentService,
    journal: Arc<SqliteJournal>,
    books: Arc<SqliteJournal>,
    tree: ActorRef<SupervisorMessage>,
    messages: AtomicI64,
    _directory: tempfile::TempDir,
}

impl Stage {
    async fn new(window_ms: i64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let open =
            |name: &str, views| SqliteJournal::open(&SqliteOptions::new(directory.path().join(name), views)).unwrap();
        let (journal, books) = (open("payment", VIEWS), open("books", sandbox::VIEWS));
        let roster = Roster::new();
        let provider = Arc::new(SandboxProvider::new(books.clone(), [7; 32], &roster));
        let mut children = provider.children();
        let service = PaymentService::new(journal.clone(), &Gate::new(1_000), &roster, provider).within(window_ms);
        children.extend(service.children());
        let spec = SupervisorSpec::new("payment", children);
        let (tree, _) = Supervisor::spawn(None, Supervisor, (spec, roster)).await.unwrap();
        Self { service, journal, books, tree, messages: AtomicI64::new(0), _directory: directory }
    }

    async fn stop(self) {
        self.tree.stop_and_wait(None, None).await.unwrap();
        self.journal.close().await;
        self.books.close().await;
    }

    /// A message that comes in, each with an id of its own.
    async fn hear(&self, message: Message) {
        let number = self.messages.fetch_add(1, Ordering::Relaxed);
        let envelope =
            Envelope::new(EventId::parse(&format!("evt_{number}")).unwrap(), Service::Order, Timestamp::now(), message);
        self.service.inbox(&envelope).await.unwrap();
    }

    /// A payment is asked for, and written down; what comes of it is not waited for.
    async fn request(&self, name: &str, card: &str) {
        let (service, new) = (self.service.clone(), new_payment(name, card));
        tokio::spawn(async move { service.pay(new, &RequestContext::new("test", PATIENCE)).await });
        let written = async {
            while self.service.payment(&id(name)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, written).await.expect("the payment is written down");
    }

    async fn approve(&self, name: &str, for_ms: i64) {
        let expires_at = Some(Timestamp::from_millis(Timestamp::now().as_millis() + for_ms));
        self.hear(Message::ApprovePayment { payment_id: id(name), order_id: order(), expires_at }).await;
    }

    async fn execute(&self, name: &str) {
        self.hear(Message::ExecuteCharge { payment_id: id(name), order_id: order() }).await;
    }

    async fn payment(&self, name: &str) -> Payment {
        self.service.payment(&id(name)).await.unwrap()
    }

    async fn until(&self, name: &str, status: PaymentStatus) -> Payment {
        let seen = async {
            loop {
                let payment = self.payment(name).await;
                if payment.status == status {
                    return payment;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let name = format!("{name} is {}", status.name());
        tokio::time::timeout(PATIENCE, seen).await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {name}"))
    }

    async fn rows(&self) -> [i64; 2] {
        let events = self.journal.query("SELECT count(*) FROM events", vec![]).await.unwrap();
        let commands = self.journal.query("SELECT count(*) FROM commands", vec![]).await.unwrap();
        [events[0].integer(0).unwrap(), commands[0].integer(0).unwrap()]
    }
}

const GOOD: &str = "4242424242424242";
const DECLINED: &str = "4000000000000002";
const MUST_ACT: &str = "4000002500003155";

fn id(name: &str) -> PaymentId {
    PaymentId::parse(name).unwrap()
}

fn order() -> OrderId {
    OrderId::parse("ord_1").unwrap()
}

fn new_payment(name: &str, card: &str) -> NewPayment {
    NewPayment {
        payment_id: id(name),
        order_id: order(),
        user_id: UserId::parse("usr_1").unwrap(),
        amount: Money::from_minor(9_999, "USD".parse().unwrap()).unwrap(),
        card: Card::new(card, 12, 2040, "123").unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_paid_is_refused_without_a_write() {
    let stage = Stage::new(WINDOW_MS).await;
    let context = || RequestContext::new("test", PATIENCE);
    for number in 1..=5 {
        let name = format!("pay_{number}");
        stage.request(&name, DECLINED).await;
        let before = stage.rows().await;
        let other = stage.service.pay(new_payment("pay_other", GOOD), &context()).await;
        assert_eq!(other, Err(PaymentError::InProgress { payment_id: id(&name) }));
        assert_eq!(stage.rows().await, before, "another payment is in progress");
        stage.approve(&name, WINDOW_MS).await;
        stage.execute(&name).await;
        assert_eq!(stage.payment(&name).await.status, PaymentStatus::Failed);
    }
    let before = stage.rows().await;
    for number in 6..100 {
        let refused = stage.service.pay(new_payment(&format!("pay_{number}"), GOOD), &context()).await;
        assert_eq!(refused, Err(PaymentError::TooManyAttempts));
    }
    assert_eq!(stage.rows().await, before);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approval_or_a_charge_that_comes_too_late_charges_nothing() {
    let stage = Stage::new(WINDOW_MS).await;
    stage.request("pay_1", GOOD).await;
    stage.approve("pay_1", -1).await;
    stage.execute("pay_1").await;
    let failed = stage.payment("pay_1").await;
    assert_eq!((failed.status, failed.failure.unwrap().code.as_str()), (PaymentStatus::Failed, "reservation_expired"));

    stage.request("pay_2", GOOD).await;
    stage.approve("pay_2", 50).await;
    tokio::time::sleep(Duration::from_millis(60)).await;
    stage.execute("pay_2").await;
    let failed = stage.payment("pay_2").await;
    assert_eq!((failed.status, failed.failure.unwrap().code.as_str()), (PaymentStatus::Failed, "reservation_expired"));
    assert_eq!(stage.service.totals().await.unwrap().provider_captured_minor, 0);

    stage.request("pay_3", GOOD).await;
    stage.approve("pay_3", WINDOW_MS).await;
    stage.execute("pay_3").await;
    assert_eq!(stage.payment("pay_3").await.status, PaymentStatus::Succeeded);
    assert_eq!(stage.service.totals().await.unwrap().provider_captured_minor, 9_999);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_provider_is_not_asked_for_what_is_not_processing() {
    let stage = Stage::new(WINDOW_MS).await;
    stage.request("pay_1", GOOD).await;
    stage.execute("pay_1").await;
    assert_eq!(stage.payment("pay_1").await.status, PaymentStatus::Created, "the order has not agreed");
    let reason = "customer".to_owned();
    stage.hear(Message::VoidPayment { payment_id: id("pay_1"), order_id: order(), reason }).await;
    stage.execute("pay_1").await;
    assert_eq!(stage.payment("pay_1").await.status, PaymentStatus::Voided);
    assert_eq!(stage.service.totals().await.unwrap().provider_captured_minor, 0);
    let charges = stage.books.query("SELECT count(*) FROM charges", vec![]).await.unwrap();
    assert_eq!(charges[0].integer(0).unwrap(), 0, "its books know of nothing");
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_charge_that_was_called_off_at_the_provider_captures_nothing_later() {
    let stage = Stage::new(WINDOW_MS).await;
    stage.request("pay_1", MUST_ACT).await;
    stage.approve("pay_1", WINDOW_MS).await;
    stage.execute("pay_1").await;
    assert_eq!(stage.payment("pay_1").await.status, PaymentStatus::RequiresAction);
    stage.hear(Message::ExecuteVoid { payment_id: id("pay_1"), order_id: order() }).await;
    let service = stage.service.clone();
    tokio::spawn(async move {
        service.confirm(&id("pay_1"), CommandId::of(&["confirm"]), &RequestContext::new("test", PATIENCE)).await
    });
    stage.until("pay_1", PaymentStatus::Processing).await;
    stage.execute("pay_1").await;
    assert_eq!(stage.payment("pay_1").await.status, PaymentStatus::Failed);
    assert_eq!(stage.service.totals().await.unwrap().provider_captured_minor, 0);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clock_ends_what_waits_for_too_long() {
    let stage = Stage::new(2_000).await;
    stage.request("pay_1", GOOD).await;
    let voided = stage.until("pay_1", PaymentStatus::Voided).await;
    assert_eq!(voided.failure.unwrap().code, "not_approved", "its order never answered");

    stage.request("pay_2", MUST_ACT).await;
    stage.approve("pay_2", 3_000).await;
    stage.execute("pay_2").await;
    let voided = stage.until("pay_2", PaymentStatus::Voided).await;
    assert_eq!(voided.failure.unwrap().code, "expired", "its buyer never acted");
    let context = RequestContext::new("test", PATIENCE);
    let confirmed = stage.service.confirm(&id("pay_2"), CommandId::of(&["confirm"]), &context).await;
    assert_eq!(confirmed, Err(PaymentError::ReservationExpired));

    stage.request("pay_3", GOOD).await;
    stage.approve("pay_3", WINDOW_MS).await;
    stage.until("pay_3", PaymentStatus::Succeeded).await;
    assert_eq!(
        stage.service.totals().await.unwrap().provider_captured_minor,
        9_999,
        "its answer was lost: asked again"
    );
    stage.stop().await;
}
