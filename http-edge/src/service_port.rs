//! A service's own port: who it is, whether it lives, whether it can be asked, and its numbers.
//!
//! Nothing of the shop is sold here to anybody; that is the gateway's. Where the house is several processes, the gateway
//! passes the service's part of the API on to this port, and the other services ask their questions here: both show the
//! house's key. Limits and counts are the gateway's.

use std::sync::Arc;

use contracts::Service;

use crate::error::ApiError;
use crate::gateway;
use crate::health_pages::{bus, healthy, ready};
use crate::internal;
use crate::metrics;
use crate::peers::VISITOR_HEADER;
use crate::reply::Response;
use crate::request::Request;
use crate::route;
use crate::routing::{self, Routes};
use crate::shop::Shop;

/// The routes of the port of `service`.
pub fn service_port(service: Service, shop: Arc<Shop>) -> Routes {
    routing::everything(move |mut request: Request| {
        let shop = Arc::clone(&shop);
        async move {
            let is_inside = shop.house_key.as_ref().is_some_and(|key| key.is_in(request.headers()));
            if is_inside && let Some(way) = Inside::of(&request) {
                // Who asks is who asked the gateway.
                request.arrival.peer = request.header(VISITOR_HEADER).and_then(|address| address.parse().ok());
                return match way {
                    Inside::Api(resource) => gateway::owned(service, &resource, shop, request).await,
                    Inside::Question(question) => internal::answer(service, &shop, &question, request).await,
                };
            }
            answer(service, &shop, &request)
        }
    })
}

/// What only the house's own processes may ask.
enum Inside {
    /// A route of the API, passed on by a gateway.
    Api(String),
    /// A question of another service.
    Question(String),
}

impl Inside {
    fn of(request: &Request) -> Option<Self> {
        match request.path().segments().as_slice() {
            ["api", "v1", resource, ..] => Some(Self::Api((*resource).to_owned())),
            ["internal", "v1", question] => Some(Self::Question((*question).to_owned())),
            _ => None,
        }
    }
}

fn answer(service: Service, shop: &Shop, request: &Request) -> Result<Response, ApiError> {
    route!(request, {
        GET [] => healthy(service.name()),
        GET ["healthz"] => healthy(service.name()),
        GET ["readyz"] => ready(service.name(), shop, &[service]),
        GET ["metrics"] => Ok(metrics::page(shop, Some(service))),
        GET ["bus"] => bus(shop),
    })
}
