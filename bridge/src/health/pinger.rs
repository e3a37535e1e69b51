//! The actor that asks every service whether it is well.
//!
//! **Place**: a child of the gateway's tree. **Owns** the gateway's end of the transport and the rhythm of the pings. Pongs do not
//! pass through its mailbox: the transport's thread writes them straight to the [`HealthBoard`], so a flood of them queues nowhere.
//! **When it dies** no pings go out: all services look silent (over Kafka: the bus looks silent) until its supervisor has started it
//! again. **Does not** decide who is healthy ([`super::directory`]) nor restart anyone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};

use super::board::HealthBoard;
use super::directory::HealthReport;
use super::transport::{BusUnreachable, GatewayEnd, Listener};

/// Time between two pings of one service. With [`super::directory::OUR_PONG_FRESH_MS`] it makes a death show within a second.
pub const PING_INTERVAL_MS: u64 = 250;

/// What a pinger is started with.
#[derive(Clone)]
pub struct PingerArgs {
    /// Whom to ping, over what, and where the pongs are kept.
    pub board: HealthBoard,
}

/// What the pinger is told.
#[derive(Clone, Copy, Debug)]
pub enum PingerMessage {
    /// Time for the next round of pings.
    Tick,
    /// The transport's end has broken.
    EndLost,
}

/// The pinger's private state.
pub struct PingerState {
    board: HealthBoard,
    end: Option<Box<dyn GatewayEnd>>,
    said: Said,
}

/// The actor; start it with [`start_pinger`].
pub struct Pinger;

/// Starts a pinger as a child of `supervisor`. It pings at once and then every [`PING_INTERVAL_MS`].
///
/// # Errors
/// [`SpawnErr`] when the supervisor is gone. A broker that is away is no error.
pub async fn start_pinger(args: PingerArgs, supervisor: ActorCell) -> Result<ActorRef<PingerMessage>, SpawnErr> {
    Ok(Actor::spawn_linked(None, Pinger, args, supervisor).await?.0)
}

impl Actor for Pinger {
    type Msg = PingerMessage;
    type State = PingerState;
    type Arguments = PingerArgs;

    async fn pre_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        args: PingerArgs,
    ) -> Result<PingerState, ActorProcessingErr> {
        Ok(PingerState { board: args.board, end: None, said: Said::default() })
    }

    async fn post_start(&self, myself: ActorRef<Self::Msg>, state: &mut PingerState) -> Result<(), ActorProcessingErr> {
        let listener = PongListener { board: state.board.clone(), pinger: myself.clone() };
        state.end = Some(state.board.transport().open_gateway(Arc::new(listener))?);
        state.ping_all();
        myself.send_interval(Duration::from_millis(PING_INTERVAL_MS), || PingerMessage::Tick);
        Ok(())
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: PingerMessage,
        state: &mut PingerState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            PingerMessage::Tick => {
                state.ping_all();
                state.said.say_changes(state.board.reader().report());
                Ok(())
            }
            PingerMessage::EndLost => Err("the gateway's end of the health topics has broken".into()),
        }
    }
}

impl PingerState {
    fn ping_all(&self) {
        if let Some(end) = &self.end {
            self.board.services().iter().for_each(|service| end.ping(service));
        }
    }
}

struct PongListener {
    board: HealthBoard,
    pinger: ActorRef<PingerMessage>,
}

impl Listener for PongListener {
    fn heard(&self, value: &[u8]) {
        self.board.record(value);
    }

    fn lost(&self) {
        // a pinger that is gone already has nothing left to lose
        let _ = self.pinger.cast(PingerMessage::EndLost);
    }
}

/// What the log says already, so that it says only what is new.
#[derive(Default)]
struct Said {
    unreachable: Option<BusUnreachable>,
    status: BTreeMap<String, String>,
}

impl Said {
    fn say_changes(&mut self, report: Result<HealthReport, BusUnreachable>) {
        match report {
            // at every start for a moment; if it lasts, the transport says why
            Err(BusUnreachable::NotYet) => {}
            Err(reason) => {
                if self.unreachable.is_none() {
                    tracing::warn!(%reason, "message bus unreachable, service health unknown");
                }
                self.unreachable = Some(reason);
            }
            Ok(report) => {
                if self.unreachable.take().is_some() {
                    tracing::info!("message bus reachable again");
                }
                self.say_changed_services(&report);
            }
        }
    }

    fn say_changed_services(&mut self, report: &HealthReport) {
        self.status.retain(|service, _| report.service(service).is_some());
        for health in &report.services {
            let before = self.status.get(&health.service);
            if before.is_some_and(|status| *status == health.status) {
                continue;
            }
            match (before, health.is_healthy()) {
                (_, true) => tracing::info!(service = health.service, "service healthy"),
                // never heard yet: a service that is being started, not one that fell
                (None, false) if health.timestamp.is_none() => continue,
                (_, false) => tracing::warn!(
                    service = health.service,
                    status = health.status,
                    responding = health.responding,
                    "service not healthy"
                ),
            }
            self.status.insert(health.service.clone(), health.status.clone());
        }
    }
}
