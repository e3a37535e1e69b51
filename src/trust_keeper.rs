//! Keeps asking the user service of another process whose tokens count.
//!
//! It owns a timer. The edge talks to nobody here; it reads the verifier that this fills. When it dies it is started again
//! and asks at once. It does not judge tokens.

use std::{sync::Arc, time::Duration};

use http_edge::{
    Shop,
    trust::{self, RENEW_EVERY},
};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};
use runtime::supervision::StartError;

/// The pause between questions until the first answer: nothing can be sold before it.
const ASK_AGAIN: Duration = Duration::from_millis(100);

struct TrustKeeper;

/// Starts it below `supervisor`.
///
/// # Errors
/// [`StartError`] when the supervisor is gone.
pub async fn start(shop: Arc<Shop>, supervisor: ActorCell) -> Result<ActorCell, StartError> {
    Ok(TrustKeeper::spawn_linked(None, TrustKeeper, shop, supervisor).await?.0.get_cell())
}

struct Renew;

impl Actor for TrustKeeper {
    type Msg = Renew;
    type State = (Arc<Shop>, bool);
    type Arguments = Arc<Shop>;

    async fn pre_start(&self, myself: ActorRef<Renew>, shop: Arc<Shop>) -> Result<Self::State, ActorProcessingErr> {
        myself.send_message(Renew)?;
        Ok((shop, true))
    }

    async fn handle(
        &self,
        myself: ActorRef<Renew>,
        Renew: Renew,
        (shop, was_known): &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let is_known = trust::renew(shop).await.is_ok();
        if is_known != *was_known {
            match is_known {
                true => tracing::info!("the user service says whose tokens count"),
                false => tracing::warn!("the user service does not say whose tokens count; what it said last holds"),
            }
            *was_known = is_known;
        }
        myself.send_after(if shop.verifier.knows_key() { RENEW_EVERY } else { ASK_AGAIN }, || Renew);
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Renew>,
        _: SupervisionEvent,
        _: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        // It has no children.
        Ok(())
    }
}
