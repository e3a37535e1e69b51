//! The services that run as other processes, reached over HTTP on their own ports.
//!
//! The gateway passes requests on as they came (`Peers::forward`); a service asks another a question of the house
//! (`Peers::ask`). Both carry the house's key, without which a service's port answers nothing but how it is. Whoever does
//! not answer is 503 here, and nothing was changed or the same key repeats it safely. It owns the connections and nothing
//! that must survive.

use std::error::Error;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use contracts::Service;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout_at};
use warp::http::header::{
    CONNECTION, CONTENT_TYPE, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};
use warp::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use crate::correlation::REQUEST_ID_HEADER;
use crate::error::{ApiError, RETRY_AFTER_SECONDS_DEFAULT};
use crate::reply::Response;
use crate::request::Request;
use crate::trace::TRACEPARENT_HEADER;

/// The header that carries the house's key. It never leaves the house: clients' ones are dropped.
pub(crate) const HOUSE_KEY_HEADER: &str = "x-house-key";

/// The header that carries the network address that a request came to the gateway from. As the house's key it is dropped
/// where a client sends it, and read only beside that key.
pub(crate) const VISITOR_HEADER: &str = "x-house-visitor";

/// The header that carries the gateway's profile of limits, for those that a service counts itself; dropped and read as the
/// other two.
pub(crate) const PROFILE_HEADER: &str = "x-house-profile";

/// How long a service may take to answer a request that was passed on: longer than any patience inside, shorter than the
/// gateway's own end of it.
pub const FORWARD_PATIENCE: Duration = Duration::from_secs(20);
/// How long a connection may take to be made: a service in the same house is near, or away.
const CONNECT_PATIENCE: Duration = Duration::from_secs(1);
/// Longest answer that is passed on, or read, in bytes: the longest page of a list is a fraction.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long an idle connection is kept: shorter than its other end keeps it, so that none is used as it is cut.
const IDLE_CONNECTION: Duration = Duration::from_secs(8);
/// Idle connections kept to one service.
const IDLE_CONNECTIONS_MAX: usize = 256;

/// Headers that belong to one connection, not to the request (RFC 9110 §7.6.1).
const HOP_BY_HOP: [HeaderName; 10] = [
    CONNECTION,
    EXPECT,
    HOST,
    HeaderName::from_static("keep-alive"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Who knows where a service answers: the root puts the pongs behind this.
pub trait AddressBook: Send + Sync + 'static {
    /// Such as `http://127.0.0.1:8081`; nothing while it has not been heard.
    fn address(&self, service: Service) -> Option<String>;

    /// Whether it answered lately and said that it is well.
    fn is_well(&self, service: Service) -> bool;
}

type Body = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

/// The other processes of the house. Clones share the connections.
#[derive(Clone)]
pub struct Peers {
    addresses: Arc<dyn AddressBook>,
    client: Client<HttpConnector, Body>,
    key: HouseKey,
}

/// What every process of a house knows, and nobody else.
#[derive(Clone)]
pub struct HouseKey {
    header: HeaderValue,
    digest: [u8; 32],
}

impl HouseKey {
    /// From the bytes of the house's secret for this use.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut header = HeaderValue::from_str(&hex).expect("hexadecimal digits are visible ASCII");
        header.set_sensitive(true);
        Self { digest: Sha256::digest(hex.as_bytes()).into(), header }
    }

    /// Whether the headers carry it. Digests are compared: how long that takes tells nothing of the key.
    #[must_use]
    pub fn is_in(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(HOUSE_KEY_HEADER).map(|value| <[u8; 32]>::from(Sha256::digest(value.as_bytes())));
        given == Some(self.digest)
    }
}

impl Peers {
    /// The processes that `addresses` knows, asked with `key`.
    #[must_use]
    pub fn new(addresses: Arc<dyn AddressBook>, key: HouseKey) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_PATIENCE));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_CONNECTION)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build(connector);
        Self { addresses, client, key }
    }

    /// Whether a service answered lately and said that it is well.
    #[must_use]
    pub fn is_well(&self, service: Service) -> bool {
        self.addresses.is_well(service)
    }

    /// Passes a request on to the service, and its answer back.
    ///
    /// # Errors
    /// 503 when it does not answer.
    pub(crate) async fn forward(&self, service: Service, request: Request) -> Result<Response, ApiError> {
        let path = match request.raw_query() {
            "" => request.path().as_str().to_owned(),
            query => format!("{}?{query}", request.path().as_str()),
        };
        let Request { method, mut headers, body, arrival, .. } = request;
        strip_hop_by_hop(&mut headers);
        headers.insert(REQUEST_ID_HEADER, arrival.request_id.header_value());
        headers.insert(TRACEPARENT_HEADER, arrival.traceparent.header_value());
        headers.remove(VISITOR_HEADER);
        if let Some(value) = arrival.peer.and_then(|peer| HeaderValue::from_str(&peer.to_string()).ok()) {
            headers.insert(VISITOR_HEADER, value);
        }
        let body = body.map_err(Into::into).boxed_unsync();
        let deadline = Instant::now() + FORWARD_PATIENCE;
        let answer = self.exchange(service, method, &path, headers, body, deadline).await?;
        let (mut head, body) = answer.into_parts();
        strip_hop_by_hop(&mut head.headers);
        // The accept loop writes the request's name itself.
        head.headers.remove(REQUEST_ID_HEADER);
        Ok(Response::from_parts(head, read(service, body, deadline).await?.into()))
    }

    /// Asks a question of the house.
    ///
    /// # Errors
    /// 503 when it is not answered within the deadline.
    pub(crate) async fn ask<A: DeserializeOwned>(
        &self,
        service: Service,
        question: &str,
        about: &impl Serialize,
        deadline: Instant,
    ) -> Result<A, ApiError> {
        let body = serde_json::to_vec(about).map_err(ApiError::internal)?;
        let body = Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let path = format!("/internal/v1/{question}");
        let answer = self.exchange(service, Method::POST, &path, headers, body, deadline).await?;
        let status = answer.status();
        if !status.is_success() {
            return Err(away(service, format_args!("it answers {status}")));
        }
        let bytes = read(service, answer.into_body(), deadline).await?;
        serde_json::from_slice(&bytes).map_err(|error| away(service, error))
    }

    async fn exchange(
        &self,
        service: Service,
        method: Method,
        path: &str,
        mut headers: HeaderMap,
        body: Body,
        deadline: Instant,
    ) -> Result<hyper::Response<Incoming>, ApiError> {
        let address = self.addresses.address(service).ok_or_else(|| away(service, "it has not been heard yet"))?;
        let uri: Uri = format!("{address}{path}").parse().map_err(|error| away(service, error))?;
        headers.insert(HOUSE_KEY_HEADER, self.key.header.clone());
        let mut request = hyper::Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        match timeout_at(deadline, self.client.request(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(away(service, root_of(&error))),
            Err(_) => Err(away(service, "no answer within the deadline")),
        }
    }
}

/// An operator's question to a process: `GET` of a path, or `POST` of a JSON with the house's key.
///
/// # Errors
/// Why there is no answer, in a sentence.
pub async fn ask_once(url: &str, question: Option<(&HouseKey, Vec<u8>)>, patience: Duration) -> Result<Bytes, String> {
    let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
    let mut request = hyper::Request::new(Full::default());
    *request.uri_mut() = url.parse().map_err(|error| format!("{url}: {error}"))?;
    if let Some((key, body)) = question {
        *request.method_mut() = Method::POST;
        request.headers_mut().insert(HOUSE_KEY_HEADER, key.header.clone());
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        *request.body_mut() = Full::new(body.into());
    }
    let deadline = Instant::now() + patience;
    let answer = match timeout_at(deadline, client.request(request)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(format!("{url}: {}", root_of(&error))),
        Err(_) => return Err(format!("{url}: no answer within {patience:?}")),
    };
    let status = answer.status();
    let body = timeout_at(deadline, Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect()).await;
    let body = body.map_err(|_| format!("{url}: no whole answer within {patience:?}"))?;
    let bytes = body.map_err(|error| format!("{url}: {error}"))?.to_bytes();
    if status.is_success() { Ok(bytes) } else { Err(format!("{url} answers {status}")) }
}

/// Takes off what belongs to the connection, and what the connection's own header names.
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|names| names.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

async fn read(service: Service, body: Incoming, deadline: Instant) -> Result<Bytes, ApiError> {
    match timeout_at(deadline, Limited::new(body, ANSWER_BYTES_MAX).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(ApiError::internal(format_args!("{service} answers more than {ANSWER_BYTES_MAX} bytes")))
        }
        Ok(Err(error)) => Err(away(service, error)),
        Err(_) => Err(away(service, "no whole answer within the deadline")),
    }
}

/// The innermost cause: "connection refused" says more than "client error".
fn root_of(error: &dyn Error) -> String {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root.to_string()
}

fn away(service: Service, cause: impl Display) -> ApiError {
    ApiError::unavailable(RETRY_AFTER_SECONDS_DEFAULT).because(format_args!("{service}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_one_connection_goes_no_further() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("connection", "close, x-once"), ("x-once", "1"), ("keep-alive", "1"), ("accept", "a")] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["accept"]);
    }

    #[test]
    fn only_the_houses_own_key_opens() {
        let key = HouseKey::new(&[7; 32]);
        let mut headers = HeaderMap::new();
        assert!(!key.is_in(&headers));
        headers.insert(HOUSE_KEY_HEADER, HouseKey::new(&[8; 32]).header);
        assert!(!key.is_in(&headers));
        headers.insert(HOUSE_KEY_HEADER, key.header.clone());
        assert!(key.is_in(&headers));
    }
}
