//! The pages for whoever watches over a port: does it live, is it ready, how is the bus.

use contracts::Service;
use warp::http::StatusCode;

use crate::error::{ApiError, RETRY_AFTER_SECONDS_DEFAULT};
use crate::json::Object;
use crate::reply::{self, Response};
use crate::shop::Shop;

/// The original's answer of every port.
pub(crate) fn healthy(name: &str) -> Result<Response, ApiError> {
    reply::ok(&Object::new().field("status", "healthy").field("service", name))
}

/// How the bus of this process is.
pub(crate) fn bus(shop: &Shop) -> Result<Response, ApiError> {
    Ok(reply::json_bytes(StatusCode::OK, shop.bus.reading().map_err(ApiError::internal)?))
}

/// 200 when all of `needed` stand and tokens can be judged.
pub(crate) fn ready(name: &str, shop: &Shop, needed: &[Service]) -> Result<Response, ApiError> {
    let mut reasons: Vec<String> = needed
        .iter()
        .filter(|service| !shop.stands(**service))
        .map(|service| match shop.peer_for(*service) {
            None => format!("{service} is starting or restarting"),
            Some(_) => format!("{service} does not answer or is not well"),
        })
        .collect();
    if !shop.verifier.knows_key() {
        reasons.push("the user service has not said yet whose tokens count".to_owned());
    }
    reasons.extend(shop.bus.complaints(needed));
    if reasons.is_empty() {
        return reply::ok(&Object::new().field("status", "ready").field("service", name));
    }
    let here: Vec<Service> = needed.iter().copied().filter(|service| shop.peer_for(*service).is_none()).collect();
    Err(ApiError::unavailable(RETRY_AFTER_SECONDS_DEFAULT)
        .with("reason", &reasons.join("; "))
        .with("progress", &shop.progress.unfinished(&here))
        .with("reasons", &reasons))
}
