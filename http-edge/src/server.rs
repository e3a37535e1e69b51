//! The accept loop: what stands between the network and the routes.
//!
//! It owns the listener and one task per connection, and is owned by whoever awaits [`serve`]. When it is
//! dropped, so are the connections. warp's own server has no header timeout, no cap on connections and no
//! deadline on shutdown, so it serves `warp::service(routes)` with hyper itself.
//!
//! | a client that | gets |
//! |---|---|
//! | sends its headers slowly, or keeps an idle connection | cut off after [`Limits::header_read_timeout`] |
//! | sends its body slowly, or asks for something slow | 503 after [`Limits::request_timeout`] |
//! | does not read its answer | cut off after [`Limits::write_stall_timeout`] |
//! | is one too many | waits in the kernel's queue for a free place |
//! | makes a handler panic | 500; nobody else notices |
//! | is served when the end comes | its answer, within [`Limits::drain_timeout`] |

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tower::Service;

use crate::correlation::{CorrelationId, REQUEST_ID_HEADER};
use crate::error::{ApiError, RETRY_AFTER_SECONDS_DEFAULT};
use crate::reply::Response;
use crate::request::Arrival;
use crate::routing::Routes;
use crate::starting::Served;
use crate::trace::Traceparent;

mod stall;

use stall::StallGuard;

/// Most connections at once: a few times what one process can keep busy, and below the usual limit of
/// 20,000 open files with room for the journals.
pub const CONNECTIONS_MAX: usize = 10_000;

/// From the first wait for a request's head to its end; also the life of an idle kept-alive connection.
pub const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(15);

/// From the head of a request to the head of its answer: longer than any deadline inside.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a client may leave an answer unread in a full buffer.
pub const WRITE_STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// How long requests in flight may take to finish once the end was asked for.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// The methods that some resource has.
const METHODS: [&str; 5] = ["GET", "HEAD", "POST", "PATCH", "DELETE"];
/// Longest head of a request in bytes; hyper answers a longer one with 431. A token has half a kilobyte.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;

/// Pause after a failed accept: out of file descriptors passes only when connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a port allows. The defaults are the constants of this module.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Most connections at once.
    pub connections_max: usize,
    /// Time for a request's head, and for the pause between requests.
    pub header_read_timeout: Duration,
    /// Time from a request's head to its answer's.
    pub request_timeout: Duration,
    /// Time without progress while writing an answer.
    pub write_stall_timeout: Duration,
    /// Time for requests in flight after the end was asked for.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: CONNECTIONS_MAX,
            header_read_timeout: HEADER_READ_TIMEOUT,
            request_timeout: REQUEST_TIMEOUT,
            write_stall_timeout: WRITE_STALL_TIMEOUT,
            drain_timeout: DRAIN_TIMEOUT,
        }
    }
}

/// How a port ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections still busy at the deadline, and cut.
    pub cut_connections: usize,
}

/// A port that cannot be had, in one sentence for the operator.
#[derive(Debug)]
pub struct BindError(String);

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BindError {}

/// Opens a port. `setting` is the name of the setting that changes it.
///
/// # Errors
/// [`BindError`]: taken, not allowed, or no such address.
pub async fn bind(address: SocketAddr, setting: &str) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|error| {
        let port = address.port();
        BindError(match error.kind() {
            io::ErrorKind::AddrInUse => {
                format!("port {port} is already taken: stop the other program or set {setting} to a free one")
            }
            io::ErrorKind::PermissionDenied => {
                format!("port {port} needs more rights than this process has: set {setting} to one above 1023")
            }
            io::ErrorKind::AddrNotAvailable => {
                format!("{} is not an address of this machine", address.ip())
            }
            _ => format!("port {port} cannot be opened ({error}): set {setting} to another one"),
        })
    })
}

/// Serves `routes` on `listener` until `shutdown` completes; then stops accepting, closes idle connections,
/// finishes the requests in flight and returns, at the latest after [`Limits::drain_timeout`]. Routes that are switched
/// meanwhile answer every request that comes after that, whenever its connection was made.
///
/// Every answer carries `X-Request-Id`.
pub async fn serve(
    listener: TcpListener,
    routes: impl Into<Served>,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) -> Drained {
    let mut shutdown = pin!(shutdown);
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let (ending, is_ending) = watch::channel(false);
    let drain_timeout = limits.drain_timeout;
    let port = Arc::new(Port { routes: routes.into(), limits });
    let mut connections = JoinSet::new();

    loop {
        // Reaped here, so finished tasks never outnumber the places.
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, peer, place)) => {
                let connection = Connection { port: Arc::clone(&port), peer, _place: place };
                connections.spawn(connection.run(stream, is_ending.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "connection not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }

    drop(listener);
    // Fails only when no connection is left to hear it.
    let _ = ending.send(true);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    // On time-out the count below says what was left.
    let _ = tokio::time::timeout(drain_timeout, all_ended).await;
    let cut_connections = connections.len();
    connections.shutdown().await;
    Drained { cut_connections }
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.expect("nobody closes the semaphore of a running port");
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, place))
}

/// What the connections of one port share.
struct Port {
    routes: Served,
    limits: Limits,
}

/// One client's connection: a task of its own, ended by the client, a timeout or the port.
struct Connection {
    port: Arc<Port>,
    peer: SocketAddr,
    /// Given back when the task ends.
    _place: OwnedSemaphorePermit,
}

impl Connection {
    async fn run(self, stream: TcpStream, mut is_ending: watch::Receiver<bool>) {
        // Answers are small and whole: waiting to fill a packet only delays them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
        let limits = &self.port.limits;
        let io = TokioIo::new(StallGuard::new(stream, limits.write_stall_timeout));
        let answer = service_fn(|request| {
            answer(self.port.routes.now(), request, self.peer, limits.request_timeout).map(Ok::<_, Infallible>)
        });
        let mut connection = pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits.header_read_timeout)
                .max_buf_size(HEAD_BYTES_MAX)
                .serve_connection(io, answer)
        );
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = told(&mut is_ending) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            // Clients leave, time out and talk nonsense all day: not worth a warning.
            tracing::debug!(peer = %self.peer, %error, "connection broken");
        }
    }
}

/// Completes when the port is ending.
async fn told(is_ending: &mut watch::Receiver<bool>) {
    // An error means that the port is gone altogether.
    let _ = is_ending.wait_for(|is_ending| *is_ending).await;
}

/// One request: named, run through the routes with a deadline and a net under it, logged.
async fn answer(
    routes: Routes,
    mut request: hyper::Request<Incoming>,
    peer: SocketAddr,
    deadline: Duration,
) -> Response {
    let started = Instant::now();
    let request_id = CorrelationId::of(request.headers());
    let traceparent = Traceparent::of(request.headers());
    let peer = Some(peer.ip().to_canonical());
    let arrival = Arrival { request_id: request_id.clone(), traceparent: traceparent.clone(), peer };
    request.extensions_mut().insert(arrival);
    let method = request.method().clone();
    // Without the query: it may hold what must not be logged.
    let path = request.uri().path().to_owned();

    let routed = AssertUnwindSafe(async {
        // `CONNECT host:443` and `OPTIONS *` name no resource of ours, and warp has no place for them.
        if request.uri().path().starts_with('/') {
            route(routes, request).await
        } else {
            ApiError::method_not_allowed(&METHODS).into_response(&request_id)
        }
    })
    .catch_unwind();
    let mut response = match tokio::time::timeout(deadline, routed).await {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => {
            let cause = format_args!("handler panicked: {}", panic_text(&*panic));
            ApiError::internal(cause).into_response(&request_id)
        }
        Err(_elapsed) => ApiError::unavailable(RETRY_AFTER_SECONDS_DEFAULT)
            .because(format_args!("{method} {path} took longer than {deadline:?}"))
            .into_response(&request_id),
    };
    response.headers_mut().insert(REQUEST_ID_HEADER, request_id.header_value());

    let elapsed_us = started.elapsed().as_micros();
    let (status, traceparent) = (response.status().as_u16(), traceparent.as_str());
    tracing::debug!(%request_id, traceparent, %method, path, status, elapsed_us, "request");
    response
}

/// Runs the filters. A warp service is always ready and never fails.
async fn route(routes: Routes, request: hyper::Request<Incoming>) -> Response {
    match warp::service(routes).call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// What a panic said, for the log.
fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}
