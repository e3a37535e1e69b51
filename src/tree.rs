//! The supervision tree.
//!
//! ```text
//! shop ─┬─ user-service ─┬─ journal-keeper, shards, subscriptions, responder, presence
//!       ├─ product-service …
//!       ├─ payment-service …
//!       ├─ order-service …
//!       └─ gateway ── pinger
//! ```
//!
//! A service that falls is started again, as often as it takes, with a growing pause: the others and the gateway go on.

use std::{future::Future, sync::Arc, time::Duration};

use anyhow::anyhow;
use bridge::health::{PingerArgs, start_pinger};
use contracts::Service;
use ractor::{Actor, ActorRef, SpawnErr};
use runtime::supervision::{
    Backoff, ChildSpec, Intensity, Restart, StartError, Supervisor, SupervisorMessage, SupervisorSpec,
};

use crate::{config::Settings, house::House, service_tree};

/// The pauses before a service is started again. The first is long enough to be seen.
const SERVICE_BACKOFF: Backoff =
    Backoff { first: Duration::from_millis(600), max: Duration::from_secs(5), reset_after: Duration::from_secs(30) };
/// How long a service may take to stop: its journal settles what it has.
const SERVICE_STOP_DEADLINE: Duration = Duration::from_secs(15);
/// The root never gives up on a service: a shop with one service down still answers for the others.
const NEVER_TOO_OFTEN: Intensity = Intensity { restarts_max: usize::MAX, window: Duration::from_secs(60) };

/// Starts the tree. It stands when this returns.
///
/// # Errors
/// The first reason why a service does not start, in one sentence.
pub async fn start(settings: &Settings, house: &Arc<House>) -> anyhow::Result<ActorRef<SupervisorMessage>> {
    tracing::debug!(?settings.data_dir, "starting");
    let children = vec![
        service(house, Service::User, service_tree::user),
        service(house, Service::Product, service_tree::product),
        service(house, Service::Payment, service_tree::payment),
        service(house, Service::Order, service_tree::order),
        gateway(house),
    ];
    let spec = SupervisorSpec::new("shop", children).intensity(NEVER_TOO_OFTEN).backoff(SERVICE_BACKOFF);
    match Supervisor::spawn(None, Supervisor, (spec, house.roster.clone())).await {
        Ok((root, _)) => Ok(root),
        Err(SpawnErr::StartupFailed(reason)) => Err(anyhow!("{reason}")),
        Err(other) => Err(other.into()),
    }
}

fn service<F, Fut>(house: &Arc<House>, service: Service, branch: F) -> ChildSpec
where
    F: Fn(Arc<House>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<SupervisorSpec, StartError>> + Send + 'static,
{
    let (house, roster) = (Arc::clone(house), house.roster.clone());
    ChildSpec::supervisor(service.name(), Restart::Permanent, roster, move || branch(Arc::clone(&house)))
        .stop_deadline(SERVICE_STOP_DEADLINE)
}

fn gateway(house: &Arc<House>) -> ChildSpec {
    let (board, roster) = (house.board.clone(), house.roster.clone());
    ChildSpec::supervisor("gateway", Restart::Permanent, roster, move || {
        let board = board.clone();
        async move {
            let pinger = ChildSpec::new("pinger", Restart::Permanent, move |supervisor| {
                let args = PingerArgs { board: board.clone() };
                async move { Ok(start_pinger(args, supervisor).await?.get_cell()) }
            })
            .kind("pinger");
            Ok(SupervisorSpec::new("shop/gateway", vec![pinger]))
        }
    })
}
