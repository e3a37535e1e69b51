//! Responses of handlers.

use bytes::Bytes;
use serde::Serialize;
use warp::http::header::{ETAG, LOCATION};
use warp::http::{HeaderName, HeaderValue, StatusCode};

use crate::error::ApiError;

pub use crate::response::{Response, json_bytes};

/// A JSON body with a status.
///
/// # Errors
/// 500 when `body` has no JSON, which our own types never do.
pub fn json(status: StatusCode, body: &impl Serialize) -> Result<Response, ApiError> {
    serde_json::to_vec(body).map(|json| json_bytes(status, json)).map_err(ApiError::internal)
}

/// 200 with a JSON body.
///
/// # Errors
/// As [`json`].
pub fn ok(body: &impl Serialize) -> Result<Response, ApiError> {
    json(StatusCode::OK, body)
}

/// 201 with a JSON body and `Location`.
///
/// # Errors
/// As [`json`].
pub fn created(location: &str, body: &impl Serialize) -> Result<Response, ApiError> {
    Ok(with_header(json(StatusCode::CREATED, body)?, LOCATION, location))
}

/// 204.
#[must_use]
pub fn no_content() -> Response {
    empty(StatusCode::NO_CONTENT)
}

/// 304.
#[must_use]
pub fn not_modified() -> Response {
    empty(StatusCode::NOT_MODIFIED)
}

/// The strong `ETag` of a version: `"7"`.
#[must_use]
pub fn with_etag(response: Response, version: u64) -> Response {
    with_header(response, ETAG, &format!("\"{version}\""))
}

/// Sets a header. A value with control characters is left out: it can only be a bug or an attack.
#[must_use]
pub fn with_header(mut response: Response, name: HeaderName, value: &str) -> Response {
    match HeaderValue::from_str(value) {
        Ok(value) => {
            response.headers_mut().insert(name, value);
        }
        Err(_) => tracing::warn!(%name, "header value left out: it has control characters"),
    }
    response
}

fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Bytes::new().into());
    *response.status_mut() = status;
    response
}
