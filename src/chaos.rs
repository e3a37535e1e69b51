//! Drills: what is broken on purpose, to see it come back.

use std::sync::Arc;

use contracts::Service;
use http_edge::shop::Chaos;
use ractor::ActorRef;
use runtime::supervision::SupervisorMessage;

use crate::house::House;

/// Breaks things in this house.
pub struct Drills {
    house: Arc<House>,
    root: ActorRef<SupervisorMessage>,
}

impl Drills {
    pub fn new(house: Arc<House>, root: ActorRef<SupervisorMessage>) -> Self {
        Self { house, root }
    }
}

impl Chaos for Drills {
    fn kill(&self, service: Service) {
        let _ = self.root.send_message(SupervisorMessage::KillChild { name: service.name().to_owned() });
    }

    fn panic_entity(&self, kind: &str, id: &str) -> bool {
        match kind {
            "order" => self.house.orders.get().is_ok_and(|orders| {
                orders.entities().inject_panic(id);
                true
            }),
            "payment" => self.house.payments.get().is_ok_and(|payments| {
                payments.entities().inject_panic(id);
                true
            }),
            _ => false,
        }
    }
}
