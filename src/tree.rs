//! The supervision tree.
//!
//! ```text
//! shop ─┬─ user-service ─┬─ journal-keeper, shards, subscriptions, presence
//!       ├─ product-service …
//!       ├─ payment-service …
//!       ├─ order-service …
//!       ├─ topic-keeper (on Kafka)
//!       └─ heartbeat ── pinger, a responder for each service
//! ```
//!
//! A service that falls is started again, as often as it takes, with a growing pause: the others and the gateway go on.

use std::{future::Future, sync::Arc, time::Duration};

use anyhow::anyhow;
use contracts::Service;
use http_edge::Shop;
use ractor::{Actor, ActorRef, SpawnErr};
use runtime::supervision::{
    Backoff, ChildSpec, Fatal, Intensity, Restart, StartError, Supervisor, SupervisorMessage, SupervisorSpec,
};

use crate::{heartbeat, house::House, service_tree, trust_keeper};

/// The pauses before a service is started again. The first is long enough to be seen.
const SERVICE_BACKOFF: Backoff =
    Backoff { first: Duration::from_millis(600), max: Duration::from_secs(5), reset_after: Duration::from_secs(30) };
/// How long a service may take to start: it may project its views from all of its events. Ports say how far it has come, and a
/// signal ends it.
const SERVICE_START_DEADLINE: Duration = Duration::from_secs(6 * 60 * 60);
/// How long a service may take to stop: its journal settles what it has.
const SERVICE_STOP_DEADLINE: Duration = Duration::from_secs(15);
/// The root never gives up on a service: a shop with one service down still answers for the others.
const NEVER_TOO_OFTEN: Intensity = Intensity { restarts_max: usize::MAX, window: Duration::from_secs(60) };

/// Starts the tree. It stands when this returns.
///
/// # Errors
/// The first reason why a service does not start, in one sentence.
pub async fn start(house: &Arc<House>) -> anyhow::Result<ActorRef<SupervisorMessage>> {
    let role = house.settings.role;
    let mut children = Vec::new();
    for here in [Service::User, Service::Product, Service::Payment, Service::Order] {
        if role.services().contains(&here) {
            children.push(match here {
                Service::User => service(house, here, service_tree::user),
                Service::Product => service(house, here, service_tree::product),
                Service::Payment => service(house, here, service_tree::payment),
                Service::Order => service(house, here, service_tree::order),
            });
        }
    }
    if let Some(bus) = &house.kafka {
        children.push(bus.topic_keeper());
    }
    children.push(heartbeat::branch(house));
    let spec = SupervisorSpec::new("shop", children).intensity(NEVER_TOO_OFTEN).backoff(SERVICE_BACKOFF);
    match Supervisor::spawn(None, Supervisor, (spec, house.roster.clone())).await {
        Ok((root, _)) => Ok(root),
        Err(SpawnErr::StartupFailed(reason)) => match reason.downcast::<Fatal>() {
            Ok(fatal) => Err((*fatal).into()),
            Err(reason) => Err(anyhow!("{reason}")),
        },
        Err(other) => Err(other.into()),
    }
}

/// Starts what needs the shop itself: who keeps asking the user service of another process whose tokens count.
///
/// # Errors
/// When the system gives no more.
pub async fn start_trust_keeper(house: &Arc<House>, shop: &Arc<Shop>) -> anyhow::Result<ActorRef<SupervisorMessage>> {
    let shop = Arc::clone(shop);
    let keeper = ChildSpec::new("trust-keeper", Restart::Permanent, move |supervisor| {
        let shop = Arc::clone(&shop);
        async move { trust_keeper::start(shop, supervisor).await }
    });
    let spec = SupervisorSpec::new("edge", vec![keeper]).intensity(NEVER_TOO_OFTEN);
    let (root, _) = Supervisor::spawn(None, Supervisor, (spec, house.roster.clone())).await?;
    Ok(root)
}

fn service<F, Fut>(house: &Arc<House>, service: Service, branch: F) -> ChildSpec
where
    F: Fn(Arc<House>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<SupervisorSpec, StartError>> + Send + 'static,
{
    let (house, roster) = (Arc::clone(house), house.roster.clone());
    let branch = move || unless_ending(Arc::clone(&house), service, branch(Arc::clone(&house)));
    ChildSpec::supervisor(service.name(), Restart::Permanent, roster, branch)
        .start_deadline(SERVICE_START_DEADLINE)
        .stop_deadline(SERVICE_STOP_DEADLINE)
}

/// A start that is given up at once when the process is told to end: what a thread still does for it ends with the process,
/// as in a crash.
async fn unless_ending(
    house: Arc<House>,
    service: Service,
    branch: impl Future<Output = Result<SupervisorSpec, StartError>>,
) -> Result<SupervisorSpec, StartError> {
    house.progress.began(service, "opens its journal");
    let spec = tokio::select! {
        biased;
        () = house.ending.asked() => return Err(StartError::new("the process was told to end")),
        spec = branch => spec?,
    };
    house.progress.began(service, "starts its actors");
    Ok(spec)
}
