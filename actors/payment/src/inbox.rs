//! What the payment service does about messages: decide, or ask the provider and record the answer.
//!
//! What was done before is done; what contradicts our books is a dead letter, where an operator sees it.

use std::{sync::Arc, time::Duration};

use contracts::{Envelope, InboxError, Message, OrderId, PaymentId, RefundId, Timestamp};
use runtime::{AskError, CommandId, CommandMeta};
use tokio::time::Instant;

use crate::{
    payment::{Payment, PaymentCommand, PaymentStatus},
    provider::{Charge, ChargeOutcome, Refunding, VoidOutcome},
    service::PaymentService,
};

/// How long a command that a message asks for may take.
const INBOX_PATIENCE: Duration = Duration::from_secs(5);

impl PaymentService {
    /// Takes in a message. Taking it in again has no effect: commands carry the message's id, and the provider is asked
    /// under the payment's.
    ///
    /// # Errors
    /// [`InboxError::NotNow`] when it should be given again.
    pub async fn inbox(&self, envelope: &Envelope) -> Result<(), InboxError> {
        let (order_id, command) = match envelope.message.clone() {
            Message::ApprovePayment { payment_id, order_id, expires_at } => {
                (order_id, Some(PaymentCommand::Approve { payment_id, expires_at, now: Timestamp::now() }))
            }
            Message::VoidPayment { payment_id, order_id, reason } => {
                (order_id, Some(PaymentCommand::Void { payment_id, reason }))
            }
            Message::ExecuteVoid { payment_id, order_id } => (order_id, self.call_off(payment_id).await?),
            Message::RejectPayment { payment_id, order_id, reason } => {
                (order_id, Some(PaymentCommand::Reject { payment_id, reason }))
            }
            Message::RefundPayment { payment_id, order_id, refund_id, amount_minor, reason } => {
                (order_id, Some(PaymentCommand::RequestRefund { payment_id, refund_id, amount_minor, reason }))
            }
            Message::SettleRefund { payment_id, order_id, refund_id, amount_minor, reason } => {
                (order_id, Some(PaymentCommand::SettleRefund { payment_id, refund_id, amount_minor, reason }))
            }
            Message::ExecuteCharge { payment_id, order_id } => {
                let command = self.charge(&order_id, payment_id, Timestamp::now()).await?;
                (order_id, command)
            }
            Message::ExecuteRefund { payment_id, order_id, refund_id } => {
                let command = self.give_back(&order_id, payment_id, refund_id).await?;
                (order_id, command)
            }
            _ => return Ok(()),
        };
        let Some(command) = command else { return Ok(()) };
        let mut meta = CommandMeta::new(CommandId::of(&["inbox", envelope.id.as_str()]), INBOX_PATIENCE)
            .caused_by(envelope.id.as_str())
            .traced(envelope.traceparent.as_deref());
        meta.correlation_id = envelope.correlation_id.as_deref().map(Arc::from);
        meta.actor = envelope.actor.as_deref().map(Arc::from);
        match self.entities().ask(order_id.as_str(), command, meta).await {
            Ok(_) => Ok(()),
            // Each of these speaks of a payment that we told of, and of money: a refusal is a contradiction between two sets of
            // books, and somebody must look at it.
            Err(AskError::Refused(refusal)) => Err(InboxError::Poison(format!("{order_id}: {refusal:?}"))),
            Err(error) => Err(InboxError::NotNow(error.to_string())),
        }
    }

    /// Asks the provider for a charge that the order has agreed to. Nothing where it has been answered already. When the
    /// order's time is over it is called off instead: an earlier try may have charged it, and only the provider knows.
    pub(crate) async fn charge(
        &self,
        order_id: &OrderId,
        payment_id: PaymentId,
        now: Timestamp,
    ) -> Result<Option<PaymentCommand>, InboxError> {
        let found = self.payment_of(order_id, &payment_id, now).await?;
        let (payment, is_too_late) = found.ok_or_else(|| unknown(&payment_id))?;
        if payment.status != PaymentStatus::Processing {
            return Ok(None);
        }
        if is_too_late {
            let captured = self.call_off(payment_id.clone()).await?;
            return Ok(Some(captured.unwrap_or(PaymentCommand::RecordTooLate { payment_id })));
        }
        let charge = Charge {
            idempotency_key: payment_id.to_string(),
            token: payment.method.token,
            amount_minor: payment.amount_minor,
            currency: payment.currency,
            is_authenticated: payment.is_authenticated,
        };
        let outcome = self.provider().charge(charge).await.map_err(not_now)?;
        Ok(Some(PaymentCommand::RecordCharge { payment_id, outcome }))
    }

    /// Calls a charge off at the provider. Should it have been captured all the same, that is recorded.
    async fn call_off(&self, payment_id: PaymentId) -> Result<Option<PaymentCommand>, InboxError> {
        Ok(match self.provider().void(payment_id.to_string()).await.map_err(not_now)? {
            VoidOutcome::Voided => None,
            VoidOutcome::Captured { provider, provider_ref, captured_at } => {
                let outcome = ChargeOutcome::Captured { provider, provider_ref, captured_at };
                Some(PaymentCommand::RecordCharge { payment_id, outcome })
            }
        })
    }

    async fn give_back(
        &self,
        order_id: &OrderId,
        payment_id: PaymentId,
        refund_id: RefundId,
    ) -> Result<Option<PaymentCommand>, InboxError> {
        let found = self.payment_of(order_id, &payment_id, Timestamp::now()).await?;
        let (payment, _) = found.ok_or_else(|| unknown(&payment_id))?;
        let owed = payment.refunds.iter().find(|refund| refund.refund_id == refund_id);
        let owed = owed.ok_or_else(|| InboxError::Poison(format!("{payment_id} has no refund {refund_id}")))?;
        if owed.is_done {
            return Ok(None);
        }
        let refund = Refunding {
            charge_key: payment_id.to_string(),
            idempotency_key: refund_id.to_string(),
            amount_minor: owed.amount_minor,
        };
        self.provider().refund(refund).await.map_err(not_now)?;
        Ok(Some(PaymentCommand::RecordRefund { payment_id, refund_id }))
    }

    /// A payment, and whether its order holds its stock no longer.
    async fn payment_of(
        &self,
        order_id: &OrderId,
        payment_id: &PaymentId,
        now: Timestamp,
    ) -> Result<Option<(Payment, bool)>, InboxError> {
        let (deadline, payment_id) = (Instant::now() + INBOX_PATIENCE, payment_id.clone());
        let payment = self.entities().read(order_id.as_str(), deadline, move |payments, _| {
            let payment = payments.get(&payment_id).cloned()?;
            Some((payment, payments.is_too_late(&payment_id, now)))
        });
        payment.await.map_err(|error| InboxError::NotNow(error.to_string()))
    }
}

fn not_now(error: crate::provider::ProviderDown) -> InboxError {
    InboxError::NotNow(error.to_string())
}

fn unknown(payment_id: &PaymentId) -> InboxError {
    InboxError::Poison(format!("there is no payment {payment_id}"))
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, atomic::AtomicBool, atomic::Ordering};

    use contracts::{Currency, EventId, Service, UserId};
    use futures::{FutureExt, future::BoxFuture};
    use ractor::{Actor, ActorRef};
    use runtime::{
        Gate, Journal, RequestContext, Roster,
        journal::memory::{Faults, MemoryDisk, MemoryJournal},
        supervision::{Supervisor, SupervisorMessage, SupervisorSpec},
    };

    use super::*;
    use crate::{
        VIEWS,
        card::Card,
        provider::Method,
        provider::{Provider, ProviderDown},
    };

    /// A provider that writes down what it is asked, and does as it is told.
    #[derive(Default)]
    struct Bank {
        asked: Mutex<Vec<String>>,
        is_down: AtomicBool,
        /// What is called off was captured before.
        has_captured: AtomicBool,
    }

    impl Bank {
        fn answer<T: Send + 'static>(&self, asked: String, answer: T) -> BoxFuture<'static, Result<T, ProviderDown>> {
            self.asked.lock().unwrap().push(asked);
            let is_down = self.is_down.load(Ordering::Relaxed);
            async move { if is_down { Err(ProviderDown("the line is cut".into())) } else { Ok(answer) } }.boxed()
        }

        /// What it was asked since the last time.
        fn asked(&self) -> Vec<String> {
            std::mem::take(&mut *self.asked.lock().unwrap())
        }
    }

    fn at() -> Timestamp {
        Timestamp::from_seconds(7)
    }

    impl Provider for Bank {
        fn name(&self) -> &'static str {
            "bank"
        }

        fn tokenize(&self, _: &Card) -> Method {
            method()
        }

        fn charge(&self, charge: Charge) -> BoxFuture<'static, Result<ChargeOutcome, ProviderDown>> {
            let Charge { idempotency_key, token, amount_minor, currency, is_authenticated } = charge;
            assert_eq!((token.as_str(), currency, is_authenticated), ("tok_1", Currency::USD, false));
            let (provider, provider_ref) = ("bank".to_owned(), "ch_1".to_owned());
            let captured = ChargeOutcome::Captured { provider, provider_ref, captured_at: at() };
            self.answer(format!("charge {idempotency_key} {amount_minor}"), captured)
        }

        fn void(&self, idempotency_key: String) -> BoxFuture<'static, Result<VoidOutcome, ProviderDown>> {
            let (provider, provider_ref) = ("bank".to_owned(), "ch_1".to_owned());
            let outcome = match self.has_captured.load(Ordering::Relaxed) {
                true => VoidOutcome::Captured { provider, provider_ref, captured_at: at() },
                false => VoidOutcome::Voided,
            };
            self.answer(format!("void {idempotency_key}"), outcome)
        }

        fn refund(&self, refund: Refunding) -> BoxFuture<'static, Result<(), ProviderDown>> {
            let Refunding { charge_key, idempotency_key, amount_minor } = refund;
            self.answer(format!("refund {idempotency_key} {amount_minor} of {charge_key}"), ())
        }

        fn totals(&self) -> BoxFuture<'static, Result<(i64, i64), ProviderDown>> {
            self.answer("totals".into(), (0, 0))
        }
    }

    struct Stage {
        service: PaymentService,
        bank: Arc<Bank>,
        journal: Arc<MemoryJournal>,
        tree: ActorRef<SupervisorMessage>,
    }

    fn order_id() -> OrderId {
        OrderId::parse("ord_1").unwrap()
    }

    fn payment_id(name: &str) -> PaymentId {
        PaymentId::parse(name).unwrap()
    }

    fn refund_id() -> RefundId {
        RefundId::parse("rfnd_1").unwrap()
    }

    fn method() -> Method {
        Method {
            token: "tok_1".into(),
            brand: "visa".into(),
            last4: "1111".into(),
            expiry_month: 12,
            expiry_year: 2040,
            fingerprint: "f".into(),
        }
    }

    fn execute_charge() -> Message {
        Message::ExecuteCharge { payment_id: payment_id("pay_1"), order_id: order_id() }
    }

    fn execute_void() -> Message {
        Message::ExecuteVoid { payment_id: payment_id("pay_1"), order_id: order_id() }
    }

    fn void() -> Message {
        Message::VoidPayment { payment_id: payment_id("pay_1"), order_id: order_id(), reason: "customer".into() }
    }

    fn approve(expires_at: Option<Timestamp>) -> Message {
        Message::ApprovePayment { payment_id: payment_id("pay_1"), order_id: order_id(), expires_at }
    }

    fn refund() -> Message {
        let (payment_id, reason) = (payment_id("pay_1"), "customer".to_owned());
        Message::RefundPayment { payment_id, order_id: order_id(), refund_id: refund_id(), amount_minor: 400, reason }
    }

    fn execute_refund() -> Message {
        Message::ExecuteRefund { payment_id: payment_id("pay_1"), order_id: order_id(), refund_id: refund_id() }
    }

    impl Stage {
        /// A payment is asked for, and waits for its order's word.
        async fn new() -> Self {
            let journal = MemoryJournal::open(&MemoryDisk::new(VIEWS).unwrap(), Faults::none()).await.unwrap();
            let (roster, bank) = (Roster::new(), Arc::new(Bank::default()));
            let service = PaymentService::new(journal.clone(), &Gate::new(100), &roster, bank.clone());
            let spec = SupervisorSpec::new("payment", service.children());
            let (tree, _) = Supervisor::spawn(None, Supervisor, (spec, roster)).await.unwrap();
            let payment = Payment {
                payment_id: payment_id("pay_1"),
                order_id: order_id(),
                user_id: UserId::parse("usr_1").unwrap(),
                amount_minor: 1_000,
                currency: Currency::USD,
                method: method(),
                status: PaymentStatus::Created,
                attempt: 0,
                created_at: Timestamp::now(),
                is_authenticated: false,
                redirect_url: None,
                failure: None,
                provider_ref: None,
                captured_at: None,
                refunds: vec![],
            };
            let context = RequestContext::new("test", INBOX_PATIENCE);
            let request = PaymentCommand::Request(Box::new(payment));
            service.entities().ask("ord_1", request, context.command(CommandId::of(&["request"]))).await.unwrap();
            Self { service, bank, journal, tree }
        }

        async fn stop(self) {
            self.tree.stop_and_wait(None, None).await.unwrap();
            self.journal.close().await;
        }

        async fn hear(&self, message: Message) -> Result<(), InboxError> {
            let envelope = Envelope::new(EventId::generate(), Service::Order, Timestamp::now(), message);
            self.service.inbox(&envelope).await
        }

        /// Hears of several things, none of which is to be told again.
        async fn heard(&self, messages: impl IntoIterator<Item = Message>) {
            for message in messages {
                assert_eq!(self.hear(message.clone()).await, Ok(()), "{message:?}");
            }
        }

        async fn payment(&self) -> Payment {
            self.service.payment(&payment_id("pay_1")).await.unwrap()
        }

        async fn status(&self) -> PaymentStatus {
            self.payment().await.status
        }
    }

    #[tokio::test]
    async fn a_payment_is_charged_once_its_order_agrees_and_neither_before_nor_again() {
        let stage = Stage::new().await;
        stage.heard([execute_charge()]).await;
        assert_eq!(stage.bank.asked(), [] as [&str; 0]);
        stage.heard([approve(None)]).await;
        assert_eq!(stage.status().await, PaymentStatus::Processing);
        stage.heard([execute_charge()]).await;
        assert_eq!(
            (stage.bank.asked(), stage.status().await),
            (vec!["charge pay_1 1000".into()], PaymentStatus::Succeeded)
        );
        stage.heard([approve(None), execute_charge()]).await;
        assert_eq!(stage.bank.asked(), [] as [&str; 0]);
        stage.stop().await;
    }

    #[tokio::test]
    async fn a_payment_that_its_order_does_not_take_or_wait_for_comes_to_nothing() {
        let stage = Stage::new().await;
        let reason = "order_cancelled".to_owned();
        stage.heard([Message::RejectPayment { payment_id: payment_id("pay_1"), order_id: order_id(), reason }]).await;
        let failure = stage.payment().await.failure.unwrap();
        assert_eq!((stage.status().await, failure.code.as_str()), (PaymentStatus::Failed, "order_cancelled"));
        stage.stop().await;

        let stage = Stage::new().await;
        stage.heard([void()]).await;
        let failure = stage.payment().await.failure.unwrap();
        assert_eq!((stage.status().await, failure.code.as_str()), (PaymentStatus::Voided, "customer"));
        stage.heard([execute_void()]).await;
        assert_eq!((stage.bank.asked(), stage.status().await), (vec!["void pay_1".into()], PaymentStatus::Voided));
        stage.stop().await;
    }

    #[tokio::test]
    async fn money_that_was_captured_before_it_was_called_off_is_told_of() {
        let stage = Stage::new().await;
        stage.bank.has_captured.store(true, Ordering::Relaxed);
        stage.heard([void(), execute_void()]).await;
        let payment = stage.payment().await;
        assert_eq!((payment.status, payment.captured_at), (PaymentStatus::Succeeded, Some(at())));
        assert_eq!(payment.provider_ref.as_deref(), Some("ch_1"));
        stage.stop().await;
    }

    #[tokio::test]
    async fn a_charge_whose_order_holds_its_stock_no_longer_is_called_off_and_never_made() {
        let until = Timestamp::from_seconds(10_000_000_000);
        let stage = Stage::new().await;
        stage.heard([approve(Some(until))]).await;
        let charge_at = async |now| stage.service.charge(&order_id(), payment_id("pay_1"), now).await.unwrap();
        let Some(PaymentCommand::RecordTooLate { .. }) = charge_at(until).await else { panic!("it is too late") };
        assert_eq!(stage.bank.asked(), ["void pay_1"]);
        stage.bank.has_captured.store(true, Ordering::Relaxed);
        // An earlier try has charged it, and its answer was lost.
        let Some(PaymentCommand::RecordCharge { outcome: ChargeOutcome::Captured { .. }, .. }) = charge_at(until).await
        else {
            panic!("it was captured")
        };
        assert_eq!(stage.bank.asked(), ["void pay_1"]);
        stage.heard([execute_charge()]).await;
        assert_eq!(stage.bank.asked(), ["charge pay_1 1000"], "it is not too late yet");
        stage.stop().await;
    }

    #[tokio::test]
    async fn money_goes_back_once_and_is_asked_for_again_until_it_is() {
        let stage = Stage::new().await;
        stage.heard([approve(None), execute_charge(), refund(), refund()]).await;
        assert_eq!(stage.bank.asked(), ["charge pay_1 1000"], "that it is owed is written down first");
        stage.heard([execute_refund()]).await;
        assert_eq!(stage.bank.asked(), ["refund rfnd_1 400 of pay_1"]);
        assert_eq!(stage.payment().await.refunded_minor(), 400);
        stage.heard([execute_refund()]).await;
        assert_eq!(stage.bank.asked(), [] as [&str; 0]);
        let (payment_id, refund_id, reason) = (payment_id("pay_1"), RefundId::parse("rfnd_2").unwrap(), "x".to_owned());
        let settle = Message::SettleRefund { payment_id, order_id: order_id(), refund_id, amount_minor: 600, reason };
        stage.heard([settle]).await;
        assert_eq!(stage.payment().await.refunds.len(), 2, "whoever asks again may be the first that is heard");
        stage.stop().await;
    }

    #[tokio::test]
    async fn while_the_provider_does_not_answer_nothing_is_recorded_and_the_message_is_given_again() {
        let stage = Stage::new().await;
        let unanswered = async |message: Message| {
            stage.bank.is_down.store(true, Ordering::Relaxed);
            let heard = stage.hear(message).await;
            stage.bank.is_down.store(false, Ordering::Relaxed);
            matches!(heard, Err(InboxError::NotNow(reason)) if reason.contains("the line is cut"))
        };
        stage.heard([approve(None)]).await;
        assert!(unanswered(execute_charge()).await && unanswered(execute_void()).await);
        assert_eq!(stage.status().await, PaymentStatus::Processing);
        stage.heard([execute_charge(), refund()]).await;
        assert!(unanswered(execute_refund()).await);
        assert_eq!(stage.payment().await.refunded_minor(), 0);
        stage.heard([execute_refund()]).await;
        assert_eq!(stage.payment().await.refunded_minor(), 400);
        stage.stop().await;
    }

    #[tokio::test]
    async fn what_contradicts_the_books_is_a_dead_letter_and_nobody_is_asked_for_money() {
        let stage = Stage::new().await;
        let (unknown, order_id) = (payment_id("pay_unknown"), order_id());
        for message in [
            Message::ExecuteCharge { payment_id: unknown.clone(), order_id: order_id.clone() },
            Message::ExecuteRefund { payment_id: unknown, order_id, refund_id: refund_id() },
            // Nothing is captured yet, and so nothing is owed.
            refund(),
            execute_refund(),
        ] {
            let heard = stage.hear(message.clone()).await;
            assert!(matches!(heard, Err(InboxError::Poison(_))), "{message:?}: {heard:?}");
        }
        assert_eq!(stage.bank.asked(), [] as [&str; 0]);
        stage.stop().await;
    }
}
