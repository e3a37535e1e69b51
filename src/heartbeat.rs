//! The heartbeat of a process: who answers the pings for its services, and who hears how the others are.
//!
//! It is a branch of its own beside the services: a service that falls is said to be unwell by the next ping's answer, and
//! not only missed when its last one has grown old. A process that dies is missed. What a service says of itself is asked
//! anew for each answer.

use std::sync::Arc;

use bridge::health::{PingerArgs, ResponderArgs, ServiceCondition, start_pinger, start_responder};
use contracts::Service;
use runtime::supervision::{ChildSpec, Restart, SupervisorSpec};

use crate::{bus::watch::Watch, config::Role, house::House};

/// The branch. A process of one service pings too: so it hears where the others answer.
pub fn branch(house: &Arc<House>) -> ChildSpec {
    let (shared, roster) = (Arc::clone(house), house.roster.clone());
    ChildSpec::supervisor("heartbeat", Restart::Permanent, roster, move || {
        let house = Arc::clone(&shared);
        async move {
            let mut children = vec![pinger(&house)];
            children.extend(house.settings.role.services().into_iter().map(|service| responder(&house, service)));
            Ok(SupervisorSpec::new("shop/heartbeat", children))
        }
    })
}

fn pinger(house: &House) -> ChildSpec {
    let board = house.board.clone();
    ChildSpec::new("pinger", Restart::Permanent, move |supervisor| {
        let args = PingerArgs { board: board.clone() };
        async move { Ok(start_pinger(args, supervisor).await?.get_cell()) }
    })
    .kind("pinger")
}

fn responder(house: &Arc<House>, service: Service) -> ChildSpec {
    let args = ResponderArgs {
        transport: Arc::clone(&house.health),
        service: service.name().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        instance: house.process_id.clone(),
        address: house.settings.address_of(service),
        condition: condition(house, service),
    };
    ChildSpec::new(format!("{service}-responder"), Restart::Permanent, move |supervisor| {
        let args = args.clone();
        async move { Ok(start_responder(args, supervisor).await?.get_cell()) }
    })
    .kind("responder")
}

/// It stands, its port is open to the others, its journal takes writes, it knows whose tokens count, and its messages get
/// through.
fn condition(house: &Arc<House>, service: Service) -> Arc<dyn Fn() -> ServiceCondition + Send + Sync> {
    let (house, watch) = (Arc::clone(house), Watch::new(Arc::clone(house)));
    Arc::new(move || {
        // Where all is one process, nobody can ask how it is before its ports are open.
        let is_open = house.settings.role == Role::All || house.progress.is_over();
        let is_well = is_open
            && house.stands(service)
            && house.journal(service).get().is_ok_and(|journal| journal.is_open())
            && house.verifier.knows_key()
            && watch.complaints_of(service).is_empty();
        if is_well { ServiceCondition::Healthy } else { ServiceCondition::Unhealthy }
    })
}
