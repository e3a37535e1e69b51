//! The actor that stands for a subscription in a tree.
//!
//! It owns the pump's thread and is the parent of the partitions' actors. Stopped, it lets the pump leave in order
//! (drained, committed, left). Killed, it takes the partitions' actors with it and the pump ends by itself; the next incarnation
//! begins at what is committed. When the pump's thread ends unasked, the actor falls, so that its supervisor sees it.

use std::{sync::Arc, thread, time::Duration};

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use runtime::Current;
use tokio::{runtime::Handle, sync::oneshot, time::timeout};

use super::{
    clock::Clock,
    health::SubscriptionBoard,
    loss::Losses,
    pump::{Pump, PumpArguments},
    subscription::Subscription,
};
use crate::ports::LogSink;

/// What the pump may take to leave beyond its drain: a commit, and leaving the group.
const LEAVE_GRACE: Duration = Duration::from_secs(2);
/// After this, beyond the drain, whoever stops a subscription may kill it.
pub(crate) const LEAVE_WITHIN: Duration = Duration::from_secs(3);

/// What a subscription's actor is sent.
#[derive(Debug)]
pub(crate) enum SubscriptionMessage {
    /// The pump's thread has ended.
    PumpEnded,
}

pub(crate) struct SubscriptionArguments {
    pub(crate) subscription: Arc<Subscription>,
    pub(crate) dead_letters: Arc<dyn LogSink>,
    pub(crate) clock: Clock,
    /// Where the present incarnation's board is found.
    pub(crate) place: Current<Arc<SubscriptionBoard>>,
    /// What was lost, which every incarnation remembers.
    pub(crate) losses: Arc<Losses>,
}

pub(crate) struct SubscriptionState {
    board: Arc<SubscriptionBoard>,
    drain_within: Duration,
    ended: Option<oneshot::Receiver<()>>,
}

impl Drop for SubscriptionState {
    /// However the actor ends, its pump does.
    fn drop(&mut self) {
        self.board.stop();
    }
}

pub(crate) struct SubscriptionActor;

impl Actor for SubscriptionActor {
    type Msg = SubscriptionMessage;
    type State = SubscriptionState;
    type Arguments = SubscriptionArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let SubscriptionArguments { subscription, dead_letters, clock, place, losses } = arguments;
        let board = Arc::new(SubscriptionBoard::new(
            Arc::clone(&subscription.name),
            Arc::clone(&subscription.group),
            subscription.stall_after,
            losses,
            clock.now_ms(),
        ));
        place.set(Arc::clone(&board));
        let drain_within = subscription.drain_within;
        let name = format!("pump-{}", subscription.name);
        let pump = PumpArguments {
            subscription,
            dead_letters,
            board: Arc::clone(&board),
            clock,
            parent: myself.get_cell(),
            runtime: Handle::current(),
        };
        let (says_ended, ended) = oneshot::channel();
        thread::Builder::new().name(name).spawn(move || {
            // Told also when the pump panics.
            let _on_end = OnDrop(Some(move || {
                let _ = says_ended.send(());
                drop(myself.send_message(SubscriptionMessage::PumpEnded));
            }));
            Pump::new(pump).run();
        })?;
        Ok(SubscriptionState { board, drain_within, ended: Some(ended) })
    }

    async fn post_stop(&self, myself: ActorRef<Self::Msg>, state: &mut Self::State) -> Result<(), ActorProcessingErr> {
        state.board.stop();
        if let Some(ended) = state.ended.take()
            && timeout(state.drain_within + LEAVE_GRACE, ended).await.is_err()
        {
            tracing::warn!("the pump did not leave in time; its partitions are dropped");
        }
        myself.stop_children(None);
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        SubscriptionMessage::PumpEnded: Self::Msg,
        _: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        Err("the pump's thread ended".into())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        _: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        // The pump sees that an actor of its is gone, and begins anew.
        if let SupervisionEvent::ActorFailed(_, error) = event {
            tracing::error!(%error, "a partition's actor fell");
        }
        Ok(())
    }
}

/// Calls what it holds when it is dropped.
struct OnDrop<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        if let Some(call) = self.0.take() {
            call();
        }
    }
}
