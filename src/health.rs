//! The gateway's view of the services' health: the bridge's directory, and what this process knows of itself.

use std::sync::Arc;

use bridge::health::{HealthReader, HealthReport};
use contracts::Service;
use http_edge::{
    peers::AddressBook,
    shop::{self, HealthSource},
};

use crate::house::House;

/// The source behind `GET /api/v1/services/health`.
pub struct Directory {
    house: Arc<House>,
    reader: HealthReader,
}

impl Directory {
    pub fn new(house: Arc<House>) -> Self {
        Self { reader: house.board.reader(), house }
    }
}

impl HealthSource for Directory {
    fn report(&self) -> Result<shop::HealthReport, shop::BusUnreachable> {
        let HealthReport { services, total_services, .. } =
            self.reader.report().map_err(|error| shop::BusUnreachable(error.to_string()))?;
        let (mut entries, mut responding_services) = (Vec::with_capacity(services.len()), 0);
        for service in services {
            // A tree of this process that has fallen is known at once; its last pong may still be fresh.
            let is_here = |service: &Service| self.house.settings.role.services().contains(service);
            let here = Service::named(&service.service).filter(is_here);
            let has_fallen = here.is_some_and(|here| !self.house.stands(here));
            let responds = service.responding && !has_fallen;
            responding_services += usize::from(responds);
            entries.push(shop::ServiceHealth {
                status: if has_fallen { "unhealthy".to_owned() } else { service.status },
                service: service.service,
                timestamp: service.timestamp.map(|at| format!("{at:.0}")),
                version: service.details.version,
                uptime_s: service.details.uptime_s,
                rss_bytes: service.details.rss_bytes,
            });
        }
        Ok(shop::HealthReport { services: entries, total_services, responding_services })
    }
}

/// The pongs as an address book: where a service of another process answered last.
pub struct Pongs(pub HealthReader);

impl AddressBook for Pongs {
    fn address(&self, service: Service) -> Option<String> {
        self.0.last_heard(service.name())?.details.address
    }

    fn is_well(&self, service: Service) -> bool {
        self.0.last_heard(service.name()).is_some_and(|heard| heard.is_healthy())
    }
}
