//! A service's own port: who it is, whether it lives, whether it can be asked, and its numbers.
//!
//! Nothing of the shop is sold here; that is the gateway's.

use std::sync::Arc;

use contracts::Service;

use crate::error::{ApiError, RETRY_AFTER_SECONDS_DEFAULT};
use crate::json::Object;
use crate::metrics;
use crate::reply::{self, Response};
use crate::request::Request;
use crate::route;
use crate::routing::{self, Routes};
use crate::shop::Shop;

/// The routes of the port of `service`.
pub fn service_port(service: Service, shop: Arc<Shop>) -> Routes {
    routing::everything(move |request| {
        let shop = Arc::clone(&shop);
        async move { answer(service, &shop, &request) }
    })
}

fn answer(service: Service, shop: &Shop, request: &Request) -> Result<Response, ApiError> {
    route!(request, {
        GET [] => healthy(service.name()),
        GET ["healthz"] => healthy(service.name()),
        GET ["readyz"] => ready(service.name(), shop, &[service]),
        GET ["metrics"] => Ok(metrics::page(shop, Some(service))),
    })
}

/// The original's answer of every port.
pub(crate) fn healthy(name: &str) -> Result<Response, ApiError> {
    reply::ok(&Object::new().field("status", "healthy").field("service", name))
}

/// 200 when all of `needed` stand.
pub(crate) fn ready(name: &str, shop: &Shop, needed: &[Service]) -> Result<Response, ApiError> {
    let down: Vec<String> = needed
        .iter()
        .filter(|service| !shop.stands(**service))
        .map(|service| format!("{service} is starting or restarting"))
        .collect();
    if down.is_empty() {
        return reply::ok(&Object::new().field("status", "ready").field("service", name));
    }
    Err(ApiError::unavailable(RETRY_AFTER_SECONDS_DEFAULT).with("reasons", &down))
}
