//! From a path to a handler.
//!
//! warp splits by the first segments, one boxed filter per group, so that a request visits few filters and
//! a matched group always answers. Within a group plain Rust matches method and whole path with
//! [`route!`](crate::route!):
//!
//! ```
//! use http_edge::{ApiError, Request, Response, reply, route, routing};
//! use warp::Filter;
//!
//! async fn orders(request: Request) -> Result<Response, ApiError> {
//!     route!(request, {
//!         GET  ["api", "v1", "orders"] => reply::ok(&["ord_1"]),
//!         POST ["api", "v1", "orders"] => reply::created("/api/v1/orders/ord_2", &"ord_2"),
//!         GET  ["api", "v1", "orders", id] => reply::ok(&id),
//!     })
//! }
//!
//! let routes: routing::Routes =
//!     routing::api("orders", orders).or(routing::fallback()).unify().boxed();
//! ```
//!
//! A known path with another method gets 405 and `Allow`, an unknown path 404, both from the same table.

use std::future::Future;

use bytes::{Buf, Bytes};
use futures::TryStreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use warp::filters::BoxedFilter;
use warp::http::{HeaderMap, Method};
use warp::path::FullPath;
use warp::{Filter, Rejection};

use crate::correlation::CorrelationId;
use crate::error::ApiError;
use crate::reply::Response;
use crate::request::{Arrival, Path, Request};
use crate::trace::Traceparent;

/// A set of routes: answers, or lets the next set try.
pub type Routes = BoxedFilter<(Response,)>;

/// `/api/v1/{resource}` and everything below it.
pub fn api<H, F>(resource: &'static str, handler: H) -> Routes
where
    H: Fn(Request) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Response, ApiError>> + Send + 'static,
{
    warp::path("api")
        .and(warp::path("v1"))
        .and(warp::path(resource))
        .and(request())
        .then(move |request| answer(handler.clone(), request))
        .boxed()
}

/// `/{segment}` and everything below it: `healthz`, `webhooks`.
pub fn top<H, F>(segment: &'static str, handler: H) -> Routes
where
    H: Fn(Request) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Response, ApiError>> + Send + 'static,
{
    warp::path(segment).and(request()).then(move |request| answer(handler.clone(), request)).boxed()
}

/// `/` alone.
pub fn root<H, F>(handler: H) -> Routes
where
    H: Fn(Request) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Response, ApiError>> + Send + 'static,
{
    warp::path::end().and(request()).then(move |request| answer(handler.clone(), request)).boxed()
}

/// Every path: for ports with few routes.
pub fn everything<H, F>(handler: H) -> Routes
where
    H: Fn(Request) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Response, ApiError>> + Send + 'static,
{
    request().then(move |request| answer(handler.clone(), request)).boxed()
}

/// 404 for every path: the last set of every port.
#[must_use]
pub fn fallback() -> Routes {
    everything(|_request| async { Err(ApiError::unknown_route()) })
}

/// Runs a handler; a refusal becomes its response, so no filter after a match ever rejects.
async fn answer<H, F>(handler: H, request: Request) -> Response
where
    H: Fn(Request) -> F,
    F: Future<Output = Result<Response, ApiError>>,
{
    let request_id = request.request_id().clone();
    handler(request).await.unwrap_or_else(|error| error.into_response(&request_id))
}

/// Takes the whole request. Never rejects, save for a body already taken by another filter.
fn request() -> impl Filter<Extract = (Request,), Error = Rejection> + Clone + Send + Sync + 'static {
    warp::method()
        .and(warp::path::full())
        .and(warp::query::raw().or(warp::any().map(String::new)).unify())
        .and(warp::header::headers_cloned())
        .and(warp::ext::optional::<Arrival>())
        .and(warp::body::stream())
        .map(assemble)
}

fn assemble<B: Buf + Send + 'static>(
    method: Method,
    path: FullPath,
    query: String,
    headers: HeaderMap,
    arrival: Option<Arrival>,
    body: impl futures::Stream<Item = Result<B, warp::Error>> + Send + 'static,
) -> Request {
    // Without an accept loop (a bare `warp::test`) there is no arrival.
    let arrival = arrival.unwrap_or_else(|| Arrival {
        request_id: CorrelationId::generate(),
        traceparent: Traceparent::of(&headers),
        peer: None,
    });
    let frames = body.map_ok(|mut data| Frame::data(copy_all(&mut data)));
    let body = StreamBody::new(frames).boxed_unsync();
    Request { method, path: Path::from(&path), query, headers, body, arrival }
}

/// Takes the bytes out of a buffer; for the buffers of warp this shares, it does not copy.
fn copy_all(data: &mut impl Buf) -> Bytes {
    data.copy_to_bytes(data.remaining())
}

/// The refusal of a request that no row of a [`route!`](crate::route!) table takes: `rows` are the methods
/// of the table and whether the row's path is the request's.
#[must_use]
pub fn no_route(rows: &[(&'static str, bool)]) -> ApiError {
    let mut allowed: Vec<&str> = Vec::new();
    for (method, _) in rows.iter().filter(|(_, is_path_known)| *is_path_known) {
        if !allowed.contains(method) {
            allowed.push(method);
        }
        if *method == "GET" && !allowed.contains(&"HEAD") {
            allowed.push("HEAD");
        }
    }
    if allowed.is_empty() { ApiError::unknown_route() } else { ApiError::method_not_allowed(&allowed) }
}

/// Matches a request's method and whole path: `METHOD [segments…] => expression,` rows, first match wins.
///
/// A pattern may bind segments. The expressions may move the request and may `.await`; they give a
/// `Result<Response, ApiError>`. No row: 405 with `Allow` when a row has the path, else 404.
#[macro_export]
macro_rules! route {
    ($request:expr, { $($method:ident $path:pat => $answer:expr),+ $(,)? }) => {{
        let method = $request.routed_method();
        let path = $request.path().clone();
        match (method.as_str(), path.segments().as_slice()) {
            $((stringify!($method), $path) => $answer,)+
            #[allow(unused_variables)]
            (_, segments) => Err($crate::routing::no_route(
                &[$((stringify!($method), matches!(segments, $path))),+],
            )),
        }
    }};
}
