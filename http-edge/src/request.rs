//! A request as handlers see it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use runtime::RequestContext;
use warp::http::{HeaderMap, Method};
use warp::path::FullPath;

use crate::correlation::CorrelationId;
use crate::error::ApiError;
use crate::query::Query;
use crate::trace::Traceparent;

/// What the accept loop knows about a request before any route does; travels as a request extension.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The request's name.
    pub request_id: CorrelationId,
    /// Its place in its trace.
    pub traceparent: Traceparent,
    /// Who is at the other end of the connection; `None` only for requests that came over no socket.
    pub peer: Option<IpAddr>,
}

/// The path of a request; cloning copies a pointer.
#[derive(Debug, Clone)]
pub struct Path(Arc<str>);

impl Path {
    /// The whole path, as it came.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The segments, as they came (`/api/v1/orders/ord_1` → `api v1 orders ord_1`). One slash at the end is
    /// forgiven. Percent escapes are kept: no route and no id of ours needs one.
    #[must_use]
    pub fn segments(&self) -> Vec<&str> {
        let inner = self.0.strip_prefix('/').unwrap_or(&self.0);
        let inner = inner.strip_suffix('/').unwrap_or(inner);
        if inner.is_empty() { Vec::new() } else { inner.split('/').collect() }
    }
}

impl From<&FullPath> for Path {
    fn from(path: &FullPath) -> Self {
        Self(path.as_str().into())
    }
}

/// A request: the head is read, the body is a stream that [`crate::body`] reads with a limit.
#[derive(Debug)]
pub struct Request {
    pub(crate) method: Method,
    pub(crate) path: Path,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: UnsyncBoxBody<Bytes, warp::Error>,
    pub(crate) arrival: Arrival,
}

impl Request {
    /// The method.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The method as routes are written: `HEAD` is served by the route of `GET`, the connection drops the
    /// body.
    #[must_use]
    pub fn routed_method(&self) -> Method {
        if self.method == Method::HEAD { Method::GET } else { self.method.clone() }
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The query parameters.
    ///
    /// # Errors
    /// 400 when they cannot be decoded, repeat or are too many.
    pub fn query(&self) -> Result<Query, ApiError> {
        Query::parse(&self.query)
    }

    /// The query as it came, without `?`; empty when there is none.
    #[must_use]
    pub fn raw_query(&self) -> &str {
        &self.query
    }

    /// The headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The one value of a header, when it is there once and is visible ASCII or blanks.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().ok(),
            _ => None,
        }
    }

    /// The request's name.
    #[must_use]
    pub fn request_id(&self) -> &CorrelationId {
        &self.arrival.request_id
    }

    /// What the commands of this request carry, with `patience` until its deadline.
    #[must_use]
    pub fn context(&self, patience: Duration) -> RequestContext {
        let context = RequestContext::new(self.request_id().as_str(), patience);
        RequestContext { traceparent: Some(self.arrival.traceparent.shared()), remote: self.peer(), ..context }
    }

    /// The address at the other end of the connection. No `X-Forwarded-For`: anyone can write one.
    #[must_use]
    pub fn peer(&self) -> Option<IpAddr> {
        self.arrival.peer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_whole_and_one_final_slash_is_forgiven() {
        let segments = |path: &str| Path(path.into()).segments().into_iter().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(segments("/"), [""; 0]);
        assert_eq!(segments("/api/v1/orders"), ["api", "v1", "orders"]);
        assert_eq!(segments("/api/v1/orders/"), ["api", "v1", "orders"]);
        assert_eq!(segments("/api//orders//"), ["api", "", "orders", ""]);
        assert_eq!(segments("//"), [""; 0]);
    }
}
