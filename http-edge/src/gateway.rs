//! The gateway: the API on one port.

use std::sync::Arc;

use contracts::Service;
use warp::Filter;

use crate::metrics;
use crate::routing::{self, Routes};
use crate::service_port::{healthy, ready};
use crate::shop::Shop;

/// The gateway's name in health answers.
const NAME: &str = "api-gateway";

/// The routes of the gateway's port.
pub fn gateway(shop: Arc<Shop>) -> Routes {
    let readiness = Arc::clone(&shop);
    routing::root(|_| async { healthy(NAME) })
        .or(routing::top("healthz", |_| async { healthy(NAME) }))
        .unify()
        .or(routing::top("readyz", move |_| {
            let shop = Arc::clone(&readiness);
            async move { ready(NAME, &shop, &Service::ALL) }
        }))
        .unify()
        .or(routing::top("metrics", move |_| {
            let shop = Arc::clone(&shop);
            async move { Ok(metrics::page(&shop, None)) }
        }))
        .unify()
        .or(routing::fallback())
        .unify()
        .boxed()
}
