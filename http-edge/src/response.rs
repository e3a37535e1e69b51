//! The one kind of response there is, and the one that a body of JSON makes.

use bytes::Bytes;
use warp::http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use warp::http::{HeaderValue, StatusCode};

/// What a handler answers with: warp's own response.
pub type Response = warp::reply::Response;

/// A body that is JSON already, for example a stored reply.
#[must_use]
pub fn json_bytes(status: StatusCode, json: impl Into<Bytes>) -> Response {
    let mut response = Response::new(json.into().into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
