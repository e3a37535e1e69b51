//! A probe: an actor that writes down what it is told.
//!
//! It stands in for the receiver of messages; the test waits for what it expects, with a deadline, and never by sleeping.

use std::{fmt::Debug, time::Duration};

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::{sync::mpsc, time::timeout};

/// The test's end of a probe: what the actor was told, in order. The actor ends when this is dropped.
pub struct Probe<M: Send + 'static> {
    address: ActorRef<M>,
    told: mpsc::UnboundedReceiver<M>,
}

/// The probe's actor.
struct ProbeActor<M>(std::marker::PhantomData<fn(M)>);

impl<M: Debug + Send + 'static> Probe<M> {
    /// Starts a probe.
    ///
    /// # Panics
    /// When the actor cannot be started, which has no cause within a test.
    pub async fn start() -> Self {
        let (record, told) = mpsc::unbounded_channel();
        let actor = ProbeActor(std::marker::PhantomData);
        let (address, _) = Actor::spawn(None, actor, record).await.expect("a probe needs nothing to start");
        Self { address, told }
    }

    /// Where to send what it is to write down.
    #[must_use]
    pub fn address(&self) -> ActorRef<M> {
        self.address.clone()
    }

    /// The next message.
    ///
    /// # Panics
    /// When none comes within `patience`.
    #[track_caller]
    pub fn next(&mut self, patience: Duration) -> impl Future<Output = M> + '_ {
        self.expect("a message", patience, |_| true)
    }

    /// The next message, which must be `what`, as `is_expected` says.
    ///
    /// # Panics
    /// When another comes, or none within `patience`.
    #[track_caller]
    pub fn expect(
        &mut self,
        what: &str,
        patience: Duration,
        is_expected: impl Fn(&M) -> bool,
    ) -> impl Future<Output = M> {
        let asked_at = std::panic::Location::caller();
        async move {
            let next = timeout(patience, self.told.recv()).await;
            match next {
                Ok(Some(message)) if is_expected(&message) => message,
                Ok(Some(other)) => fail(&format!("{asked_at}: expected {what}, got {other:?}")),
                Ok(None) => fail(&format!("{asked_at}: expected {what}, but the probe has ended")),
                Err(_) => fail(&format!("{asked_at}: expected {what}, got nothing within {patience:?}")),
            }
        }
    }

    /// Looks on until a message is `what`, and passes over the others.
    ///
    /// # Panics
    /// When none is within `patience`.
    pub async fn eventually(&mut self, what: &str, patience: Duration, is_expected: impl Fn(&M) -> bool) -> M {
        let mut passed_over = Vec::new();
        let found = timeout(patience, async {
            while let Some(message) = self.told.recv().await {
                if is_expected(&message) {
                    return Some(message);
                }
                passed_over.push(message);
            }
            None
        })
        .await;
        match found {
            Ok(Some(message)) => message,
            _ => fail(&format!("expected {what} within {patience:?}; came instead: {passed_over:?}")),
        }
    }

    /// Nothing comes for as long as `quiet`. In paused time this costs no time.
    ///
    /// # Panics
    /// When something comes.
    pub async fn expect_nothing_for(&mut self, quiet: Duration) {
        if let Ok(Some(message)) = timeout(quiet, self.told.recv()).await {
            fail(&format!("expected nothing for {quiet:?}, got {message:?}"));
        }
    }
}

impl<M: Send + 'static> Drop for Probe<M> {
    fn drop(&mut self) {
        self.address.get_cell().stop(None);
    }
}

impl<M: Debug + Send + 'static> Actor for ProbeActor<M> {
    type Msg = M;
    type State = mpsc::UnboundedSender<M>;
    type Arguments = mpsc::UnboundedSender<M>;

    async fn pre_start(&self, _: ActorRef<M>, record: Self::Arguments) -> Result<Self::State, ActorProcessingErr> {
        Ok(record)
    }

    async fn handle(&self, _: ActorRef<M>, message: M, record: &mut Self::State) -> Result<(), ActorProcessingErr> {
        // A test that has ended reads no more.
        let _ = record.send(message);
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<M>,
        _: SupervisionEvent,
        _: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        // It has no children.
        Ok(())
    }
}

#[expect(clippy::panic, reason = "this is how a test fails")]
fn fail(text: &str) -> ! {
    panic!("{text}");
}
