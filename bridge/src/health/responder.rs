//! The actor that answers for one service.
//!
//! **Place**: a child of its service's tree, so that it dies with it: whoever kills the service silences its pongs. **Owns** the
//! service's end of the transport. Every pong is made by this actor at the moment it is sent, and says what the service's own check
//! says then; it is never an echo. **When it dies** the service looks dead within a second, until the supervisor restarts it.
//! **Does not** judge other services.
//!
//! Pings are coalesced: while an answer is due, more pings add nothing. At most one message is ever in its mailbox from pings,
//! and a burst of them (a reader that fell behind) gets one answer or two, not a storm.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use jiff::Timestamp;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};

use super::process_memory;
use super::transport::{HealthTransport, Listener, ServiceEnd};
use super::wire::{self, Pong, PongDetails};

/// What a service says of itself when it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceCondition {
    /// It can do its work.
    Healthy,
    /// It is there, but cannot do its work.
    Unhealthy,
}

/// Asks a service for its condition. Called for every pong, on an async thread: it must answer at once, from what is known.
pub type ConditionCheck = Arc<dyn Fn() -> ServiceCondition + Send + Sync>;

/// What a responder is started with.
#[derive(Clone)]
pub struct ResponderArgs {
    /// Over what it answers.
    pub transport: Arc<dyn HealthTransport>,
    /// The name it answers to, such as `payment-service`; at most [`wire::WORD_BYTES_MAX`] bytes.
    pub service: String,
    /// Version of the program, shown in the report.
    pub version: String,
    /// Which process this is, shown in the report.
    pub instance: String,
    /// Where the service answers over HTTP, if others are to find it by its pongs; at most [`wire::WORD_BYTES_MAX`] bytes.
    pub address: Option<String>,
    /// The service's own word on its condition.
    pub condition: ConditionCheck,
}

/// What the responder is told.
#[derive(Clone, Copy, Debug)]
pub enum ResponderMessage {
    /// At least one ping has come since the last answer.
    Answer,
    /// The transport's end has broken.
    EndLost,
}

/// The responder's private state.
pub struct ResponderState {
    args: ResponderArgs,
    started_at: Instant,
    answer_due: Arc<AtomicBool>,
    end: Option<Box<dyn ServiceEnd>>,
}

/// The actor; start it with [`start_responder`].
pub struct Responder;

/// Starts a responder as a child of `supervisor`.
///
/// # Errors
/// [`SpawnErr`] when the supervisor is gone. A broker that is away is no error.
pub async fn start_responder(
    args: ResponderArgs,
    supervisor: ActorCell,
) -> Result<ActorRef<ResponderMessage>, SpawnErr> {
    Ok(Actor::spawn_linked(None, Responder, args, supervisor).await?.0)
}

impl Actor for Responder {
    type Msg = ResponderMessage;
    type State = ResponderState;
    type Arguments = ResponderArgs;

    async fn pre_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        args: ResponderArgs,
    ) -> Result<ResponderState, ActorProcessingErr> {
        Ok(ResponderState { args, started_at: Instant::now(), answer_due: Arc::default(), end: None })
    }

    async fn post_start(
        &self,
        myself: ActorRef<Self::Msg>,
        state: &mut ResponderState,
    ) -> Result<(), ActorProcessingErr> {
        let listener = PingListener { responder: myself, answer_due: Arc::clone(&state.answer_due) };
        state.end = Some(state.args.transport.open_service(&state.args.service, Arc::new(listener))?);
        Ok(())
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: ResponderMessage,
        state: &mut ResponderState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ResponderMessage::Answer => {
                // first, so that a ping that comes while we answer gets an answer of its own
                state.answer_due.store(false, Ordering::Release);
                let pong = state.pong_now();
                if let Some(end) = &state.end {
                    end.pong(&pong);
                }
                Ok(())
            }
            ResponderMessage::EndLost => Err("the service's end of the health topics has broken".into()),
        }
    }
}

impl ResponderState {
    fn pong_now(&self) -> Pong {
        let status = match (self.args.condition)() {
            ServiceCondition::Healthy => wire::HEALTHY,
            ServiceCondition::Unhealthy => wire::UNHEALTHY,
        };
        Pong {
            status: status.to_owned(),
            service: self.args.service.clone(),
            timestamp: Timestamp::now(),
            details: PongDetails {
                version: Some(self.args.version.clone()),
                uptime_s: Some(self.started_at.elapsed().as_secs()),
                rss_bytes: process_memory::resident_bytes(),
                instance: Some(self.args.instance.clone()),
                address: self.args.address.clone(),
            },
        }
    }
}

struct PingListener {
    responder: ActorRef<ResponderMessage>,
    answer_due: Arc<AtomicBool>,
}

impl Listener for PingListener {
    fn heard(&self, value: &[u8]) {
        if wire::is_ping(value) && !self.answer_due.swap(true, Ordering::AcqRel) {
            // a responder that is gone does not answer, which is the truth
            let _ = self.responder.cast(ResponderMessage::Answer);
        }
    }

    fn lost(&self) {
        let _ = self.responder.cast(ResponderMessage::EndLost);
    }
}
