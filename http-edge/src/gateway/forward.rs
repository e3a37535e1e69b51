//! Requests for a service that is another process.

use contracts::Service;
use warp::http::header::AUTHORIZATION;
use warp::http::{HeaderValue, Method};

use super::call::Call;
use crate::error::{ApiError, Code};
use crate::peers::{PROFILE_HEADER, Peers};
use crate::reply::Response;
use crate::shop::Shop;
use crate::trust;

/// Passes a request on to its service. A sign-out is believed here before its answer goes out.
pub(super) async fn passed_on(
    peers: &Peers,
    service: Service,
    shop: &Shop,
    mut call: Call,
) -> Result<Response, ApiError> {
    if call.asker.as_ref().is_err_and(|error| error.code() == Code::AuthenticationRequired) {
        // A session that was ended a moment ago: the service may not have heard of it yet.
        call.request.headers.remove(AUTHORIZATION);
    }
    let may_end_sessions = match call.request.path().segments().as_slice() {
        [_, _, "admin", "users", ..] => call.request.method() == Method::PATCH,
        [.., "logout" | "refresh" | "password"] => true,
        _ => false,
    };
    if let Ok(profile) = HeaderValue::from_str(&shop.rate_limiter.profile().to_string()) {
        call.request.headers.insert(PROFILE_HEADER, profile);
    }
    let answer = peers.forward(service, call.request).await?;
    if service == Service::User && may_end_sessions {
        // Not known now is known within a second: the trust is renewed in any case.
        let _ = trust::renew(shop).await;
    }
    Ok(answer)
}
