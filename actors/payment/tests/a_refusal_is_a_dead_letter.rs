//! What contradicts the books of the payments is a dead letter: money is never "a warning, and done". What was done before is done.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::{path::Path, sync::Arc, time::Duration};

use contracts::{
    Currency, Envelope, EventId, InboxError, Message, Money, OrderId, PaymentId, RefundId, Service, Timestamp, UserId,
};
use payment_service::{
    Card, NewPayment, PaymentService, PaymentStatus, SandboxProvider, VIEWS, outbox::outbox, provider::sandbox,
};
use ractor::{Actor, ActorRef};
use runtime::{
    Gate, Journal, RequestContext, Roster,
    journal::sqlite::{SqliteJournal, SqliteOptions},
    supervision::{Supervisor, SupervisorMessage, SupervisorSpec},
};

const PATIENCE: Duration = Duration::from_secs(20);

struct System {
    payments: PaymentService,
    journals: [Arc<SqliteJournal>; 2],
    supervisor: ActorRef<SupervisorMessage>,
}

fn order_id() -> OrderId {
    OrderId::parse("ord_1").unwrap()
}

fn payment_id(name: &str) -> PaymentId {
    PaymentId::parse(name).unwrap()
}

fn refund_id(name: &str) -> RefundId {
    RefundId::parse(name).unwrap()
}

impl System {
    async fn start(directory: &Path) -> Self {
        let open = |name: &str, views| SqliteJournal::open(&SqliteOptions::new(directory.join(name), views));
        let (journal, books) = (open("payments", VIEWS).unwrap(), open("books", sandbox::VIEWS).unwrap());
        let roster = Roster::new();
        let provider = Arc::new(SandboxProvider::new(books.clone(), [7; 32], &roster));
        let mut children = provider.children();
        let payments = PaymentService::new(journal.clone(), &Gate::new(1_000), &roster, provider);
        children.extend(payments.children());
        let spec = SupervisorSpec::new("payment", children);
        let (supervisor, _) = Supervisor::spawn(None, Supervisor, (spec, roster)).await.unwrap();
        Self { payments, journals: [journal, books], supervisor }
    }

    async fn stop(self) {
        self.supervisor.stop_and_wait(None, None).await.unwrap();
        for journal in self.journals {
            journal.close().await;
        }
    }

    async fn hear(&self, message: Message) -> Result<(), InboxError> {
        let envelope = Envelope::new(EventId::generate(), Service::Order, Timestamp::now(), message);
        self.payments.inbox(&envelope).await
    }

    /// A payment that is written down, and waits for its order's word.
    async fn request(&self) {
        let new = NewPayment {
            payment_id: payment_id("pay_1"),
            order_id: order_id(),
            user_id: UserId::parse("usr_1").unwrap(),
            amount: Money::from_minor(1_000, Currency::USD).unwrap(),
            card: Card::new("4242424242424242", 12, 2040, "123").unwrap(),
        };
        let payments = self.payments.clone();
        let asked = tokio::spawn(async move { payments.pay(new, &RequestContext::new("req_test", PATIENCE)).await });
        let mut committed = self.journals[0].committed();
        committed.wait_for(|newest| *newest >= 1).await.unwrap();
        // It waits for nobody's answer here.
        asked.abort();
    }

    /// The bus: what the payments tell themselves.
    async fn carry_own(&self) {
        let recorded = self.journals[0].read_after(0, 1_000).await.unwrap();
        for said in recorded.iter().flat_map(|event| outbox(event).unwrap()) {
            if matches!(said.message, Message::ExecuteCharge { .. } | Message::ExecuteRefund { .. }) {
                self.payments.inbox(&said).await.unwrap();
            }
        }
    }

    async fn refunded_at_the_provider(&self) -> i64 {
        self.payments.totals().await.unwrap().provider_refunded_minor
    }

    async fn said(&self, is_it: impl Fn(&Message) -> bool) -> usize {
        let recorded = self.journals[0].read_after(0, 1_000).await.unwrap();
        recorded.iter().flat_map(|event| outbox(event).unwrap()).filter(|said| is_it(&said.message)).count()
    }
}

fn refund(name: &str, payment: &str, amount_minor: i64) -> Message {
    let (payment_id, refund_id, reason) = (payment_id(payment), refund_id(name), "customer".to_owned());
    Message::RefundPayment { payment_id, order_id: order_id(), refund_id, amount_minor, reason }
}

fn approve() -> Message {
    Message::ApprovePayment { payment_id: payment_id("pay_1"), order_id: order_id(), expires_at: None }
}

fn is_dead_letter(heard: &Result<(), InboxError>) -> bool {
    matches!(heard, Err(InboxError::Poison(_)))
}

#[tokio::test]
async fn a_refund_that_contradicts_the_books_is_a_dead_letter_and_a_repetition_is_done() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    system.request().await;
    // Nobody knows that payment; nothing was captured yet; there is no such refund.
    let (unknown, order) = (payment_id("pay_unknown"), order_id());
    let early = [
        refund("rfnd_1", "pay_unknown", 10),
        refund("rfnd_1", "pay_1", 10),
        Message::ExecuteCharge { payment_id: unknown.clone(), order_id: order.clone() },
        Message::ExecuteRefund { payment_id: unknown, order_id: order.clone(), refund_id: refund_id("rfnd_1") },
        Message::ExecuteRefund { payment_id: payment_id("pay_1"), order_id: order, refund_id: refund_id("rfnd_1") },
    ];
    for message in early {
        let heard = system.hear(message.clone()).await;
        assert!(is_dead_letter(&heard), "{message:?}: {heard:?}");
    }

    system.hear(approve()).await.unwrap();
    system.carry_own().await;
    assert_eq!(system.payments.payment(&payment_id("pay_1")).await.unwrap().status, PaymentStatus::Succeeded);
    // What was decided before is no contradiction.
    system.hear(approve()).await.unwrap();
    for _ in 0..2 {
        system.hear(refund("rfnd_1", "pay_1", 400)).await.unwrap();
        system.carry_own().await;
        assert_eq!(system.refunded_at_the_provider().await, 400);
    }
    // More than there is.
    let heard = system.hear(refund("rfnd_2", "pay_1", 601)).await;
    assert!(is_dead_letter(&heard), "{heard:?}");
    system.stop().await;
}

#[tokio::test]
async fn a_refund_that_is_asked_for_again_is_made_once_and_answered_each_time() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(directory.path()).await;
    system.request().await;
    system.hear(approve()).await.unwrap();
    system.carry_own().await;
    let settle = || Message::SettleRefund {
        payment_id: payment_id("pay_1"),
        order_id: order_id(),
        refund_id: refund_id("rfnd_1"),
        amount_minor: 1_000,
        reason: "customer".into(),
    };
    // The first word was lost: this is the first that is heard. Its own word to the provider is lost as well, and said again.
    system.hear(settle()).await.unwrap();
    system.hear(settle()).await.unwrap();
    assert_eq!(system.said(|message| matches!(message, Message::ExecuteRefund { .. })).await, 2);
    system.carry_own().await;
    assert_eq!(system.refunded_at_the_provider().await, 1_000);
    assert_eq!(system.said(|message| matches!(message, Message::PaymentRefunded { .. })).await, 1);
    for answers in 1..=2 {
        system.hear(settle()).await.unwrap();
        system.carry_own().await;
        assert_eq!(system.said(|message| matches!(message, Message::RefundSettled { .. })).await, answers);
    }
    assert_eq!(system.refunded_at_the_provider().await, 1_000, "made once");
    assert_eq!(system.said(|message| matches!(message, Message::PaymentRefunded { .. })).await, 1, "told once");
    system.stop().await;
}
