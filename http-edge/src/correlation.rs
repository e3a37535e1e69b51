//! The name of a request, which goes with everything that it causes.

use std::fmt;
use std::sync::Arc;

use contracts::RequestId;
use warp::http::{HeaderMap, HeaderValue};

/// The header that names a request, in both directions.
pub const REQUEST_ID_HEADER: &str = "x-request-id";

/// Longest request id taken from a client, in characters; a longer one is replaced.
pub const REQUEST_ID_LEN_MAX: usize = 128;

/// The name of a request: the client's own `X-Request-Id` or a fresh `req_…`. It goes back in the header,
/// into error bodies, into the log and, as correlation id, into what the request causes.
#[derive(Clone, PartialEq, Eq)]
pub struct CorrelationId(Arc<str>);

impl CorrelationId {
    /// A fresh `req_…`.
    #[must_use]
    pub fn generate() -> Self {
        Self(RequestId::generate().as_str().into())
    }

    /// Takes 1..=[`REQUEST_ID_LEN_MAX`] visible ASCII characters, nothing else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_sane =
            (1..=REQUEST_ID_LEN_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_sane.then(|| Self(text.into()))
    }

    /// The client's id when it is sane, otherwise a fresh one.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        headers
            .get(REQUEST_ID_HEADER)
            .and_then(|value| value.to_str().ok())
            .and_then(Self::parse)
            .unwrap_or_else(Self::generate)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text as a header value.
    #[must_use]
    pub fn header_value(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).expect("the constructors admit visible ASCII only")
    }
}

impl fmt::Display for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sane_client_ids_are_kept_and_others_replaced() {
        let of = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID_HEADER, HeaderValue::from_bytes(value).unwrap());
            CorrelationId::of(&headers)
        };
        assert_eq!(of(b"my-request/7").as_str(), "my-request/7");
        assert_eq!(of("x".repeat(128).as_bytes()).as_str(), "x".repeat(128));
        for value in [&b""[..], b"two words", "é".as_bytes(), "x".repeat(129).as_bytes()] {
            assert!(of(value).as_str().starts_with("req_"), "{value:?}");
        }
        assert!(CorrelationId::of(&HeaderMap::new()).as_str().starts_with("req_"));
    }
}
