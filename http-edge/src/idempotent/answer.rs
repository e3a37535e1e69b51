//! An answer that can be stored and given again to the byte.

use serde::{Deserialize, Serialize};
use warp::http::header::{ETAG, LOCATION};
use warp::http::{HeaderName, StatusCode};

use crate::error::ApiError;
use crate::reply::{self, Response};

/// Says that an answer is the stored one.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// An answer as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The JSON of the body.
    pub(crate) body: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) location: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) etag: Option<String>,
}

impl Answer {
    /// An answer with this body.
    ///
    /// # Errors
    /// 500 when `body` has no JSON, which our own types never do.
    pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Result<Self, ApiError> {
        let body = serde_json::to_string(body).map_err(ApiError::internal)?;
        Ok(Self { status: status.as_u16(), body, location: None, etag: None })
    }

    /// With `Location` and the `ETag` of a version.
    pub(crate) fn at(self, location: String, version: u64) -> Self {
        Self { location: Some(location), ..self }.tagged(version)
    }

    /// With the `ETag` of a version.
    pub(crate) fn tagged(self, version: u64) -> Self {
        Self { etag: Some(format!("\"{version}\"")), ..self }
    }

    pub(crate) fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = reply::json_bytes(status, self.body);
        for (name, value) in [(LOCATION, self.location), (ETAG, self.etag)] {
            if let Some(value) = value {
                response = reply::with_header(response, name, &value);
            }
        }
        response
    }
}

/// The stored answer again.
///
/// # Errors
/// 500 when what is stored is no answer.
pub(super) fn replay(result: &str) -> Result<Response, ApiError> {
    let answer: Answer = serde_json::from_str(result).map_err(ApiError::internal)?;
    Ok(reply::with_header(answer.into_response(), REPLAYED, "true"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_stored_and_given_again_to_the_byte() {
        let answer = Answer::json(StatusCode::CREATED, &["ord_1"]).unwrap().at("/api/v1/orders/ord_1".into(), 1);
        let stored = serde_json::to_string(&answer).unwrap();
        assert_eq!(serde_json::from_str::<Answer>(&stored).unwrap(), answer);
        let replayed = replay(&stored).unwrap();
        assert_eq!(replayed.status(), 201);
        assert_eq!(replayed.headers()[&REPLAYED], "true");
        assert_eq!(replayed.headers()[ETAG], "\"1\"");
        assert_eq!(replayed.headers()[LOCATION], "/api/v1/orders/ord_1");
        assert!(!answer.into_response().headers().contains_key(&REPLAYED));
    }
}
