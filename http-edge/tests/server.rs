//! The accept loop over real sockets: what each kind of client gets.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_edge::server::{self, Drained, Limits, bind, serve};
use http_edge::{ApiError, Request, Response, body, fields, reply, route, routing};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use warp::Filter;

/// No test waits longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes of the answer that nobody reads: more than the socket buffers of both sides hold.
const HUGE: usize = 64 * 1024 * 1024;

/// Lets a test see that the slow handler runs, and end it.
#[derive(Clone, Default)]
struct Gate {
    is_entered: Arc<Notify>,
    may_leave: Arc<Notify>,
}

async fn things(gate: Gate, mut request: Request) -> Result<Response, ApiError> {
    route!(request, {
        GET ["api", "v1", "things"] => reply::ok(&["one", "two"]),
        POST ["api", "v1", "things"] => {
            let body = request.json_bytes(body::JSON_BYTES_MAX).await?;
            let name = fields::read(&body, |thing| thing.text("name", 1..=20))?;
            reply::created("/api/v1/things/1", &name)
        },
        GET ["api", "v1", "things", "slow"] => {
            gate.is_entered.notify_one();
            gate.may_leave.notified().await;
            reply::ok(&"done")
        },
        GET ["api", "v1", "things", "broken"] => broken(),
        GET ["api", "v1", "things", "huge"] => {
            Ok(Response::new(bytes::Bytes::from(vec![b'x'; HUGE]).into()))
        },
        GET ["api", "v1", "things", id] => reply::ok(&id),
        DELETE ["api", "v1", "things", _] => Ok(reply::no_content()),
    })
}

fn broken() -> Result<Response, ApiError> {
    panic!("secret inner state")
}

/// A port of its own for one test.
struct Port {
    address: SocketAddr,
    gate: Gate,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Drained>,
}

impl Port {
    async fn open(limits: Limits) -> Self {
        let listener = bind("127.0.0.1:0".parse().unwrap(), "PORT").await.unwrap();
        let address = listener.local_addr().unwrap();
        let gate = Gate::default();
        let inner = gate.clone();
        let routes = routing::api("things", move |request| things(inner.clone(), request))
            .or(routing::root(|_| async { reply::ok(&"root") }))
            .unify()
            .or(routing::fallback())
            .unify()
            .boxed();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            let _ = stopped.await;
        };
        let served = tokio::spawn(serve(listener, routes, limits, shutdown));
        Self { address, gate, stop, served }
    }

    async fn connect(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    /// One request on one connection.
    async fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let mut client = self.connect().await;
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        client
            .send(&format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}{length}\r\n{body}"))
            .await;
        client.answer().await
    }

    async fn close(self) -> Drained {
        self.stop.send(()).unwrap();
        within(self.served).await.unwrap()
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("out of patience")
}

struct Client(TcpStream);

impl Client {
    async fn send(&mut self, text: &str) {
        within(self.0.write_all(text.as_bytes())).await.unwrap();
    }

    /// Everything until the server closes; a reset counts as closed.
    async fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        let _ = within(self.0.read_to_end(&mut bytes)).await;
        String::from_utf8(bytes).unwrap()
    }

    async fn answer(&mut self) -> Answer {
        Answer(self.rest().await)
    }

    /// One answer on a connection that stays open.
    async fn next_answer(&mut self) -> Answer {
        let mut bytes = Vec::new();
        loop {
            let mut chunk = [0; 4096];
            let count = within(self.0.read(&mut chunk)).await.unwrap();
            assert!(count > 0, "closed early");
            bytes.extend_from_slice(&chunk[..count]);
            let answer = Answer(String::from_utf8(bytes.clone()).unwrap());
            let length = answer.header("content-length").and_then(|text| text.parse::<usize>().ok());
            if answer.0.contains("\r\n\r\n") && length.is_some_and(|n| answer.body().len() >= n) {
                return answer;
            }
        }
    }
}

struct Answer(String);

impl Answer {
    fn status(&self) -> u16 {
        self.0.split(' ').nth(1).unwrap_or_else(|| panic!("no answer: {:?}", self.0)).parse().unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let head = self.0.split("\r\n\r\n").next().unwrap();
        head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    fn body(&self) -> &str {
        self.0.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }

    /// Code and details of an error in the frozen shape.
    fn error(&self) -> (String, Value) {
        let body: Value = serde_json::from_str(self.body()).unwrap();
        let error = &body["error"];
        assert!(error["message"].is_string() && error["details"].is_object(), "{body}");
        assert_eq!(error["request_id"].as_str(), self.header("x-request-id"));
        assert_eq!(self.header("content-type"), Some("application/json"));
        (error["code"].as_str().unwrap().to_owned(), error["details"].clone())
    }
}

const JSON: &str = "Content-Type: application/json\r\n";

fn short(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

#[tokio::test]
async fn routes_answer_and_unknown_ones_have_the_frozen_404() {
    let port = Port::open(Limits::default()).await;
    assert_eq!(port.ask("GET", "/", "", "").await.body(), "\"root\"");
    assert_eq!(port.ask("GET", "/api/v1/things?x=1", "", "").await.body(), r#"["one","two"]"#);
    assert_eq!(port.ask("GET", "/api/v1/things/", "", "").await.status(), 200);
    assert_eq!(port.ask("GET", "/api/v1/things/42", "", "").await.body(), "\"42\"");
    assert_eq!(port.ask("DELETE", "/api/v1/things/42", "", "").await.status(), 204);
    let created = port.ask("POST", "/api/v1/things", JSON, r#"{"name":"x"}"#).await;
    assert_eq!((created.status(), created.header("location")), (201, Some("/api/v1/things/1")));
    for path in ["/nope", "/api", "/api/v1", "/api/v1/thing", "/api/v1/things/1/2", "/api/v1//things", "//"] {
        let answer = port.ask("GET", path, "", "").await;
        assert_eq!((answer.status(), answer.error().0.as_str()), (404, "RESOURCE_NOT_FOUND"), "{path}");
        assert!(answer.body().contains("The requested endpoint does not exist"), "{path}");
    }
}

#[tokio::test]
async fn a_known_path_with_another_method_is_405_with_allow() {
    let port = Port::open(Limits::default()).await;
    let answer = port.ask("PUT", "/api/v1/things", JSON, "{}").await;
    assert_eq!((answer.status(), answer.error().0.as_str()), (405, "METHOD_NOT_ALLOWED"));
    assert_eq!(answer.header("allow"), Some("GET, HEAD, POST"));
    let answer = port.ask("PATCH", "/api/v1/things/1", "", "").await;
    assert_eq!(answer.header("allow"), Some("GET, HEAD, DELETE"));
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let port = Port::open(Limits::default()).await;
    let answer = port.ask("HEAD", "/api/v1/things", "", "").await;
    assert_eq!((answer.status(), answer.body()), (200, ""));
}

#[tokio::test]
async fn request_ids_are_echoed_when_sane_and_made_otherwise() {
    let port = Port::open(Limits::default()).await;
    let echoed = port.ask("GET", "/nope", "X-Request-Id: order-form/7\r\n", "").await;
    assert_eq!(echoed.header("x-request-id"), Some("order-form/7"));
    let long = format!("X-Request-Id: {}\r\n", "x".repeat(129));
    for header in ["", "X-Request-Id: two words\r\n", "X-Request-Id: \u{e9}\r\n", &long] {
        let made = port.ask("GET", "/", header, "").await;
        assert!(made.header("x-request-id").unwrap().starts_with("req_01"), "{header}");
    }
}

#[tokio::test]
async fn bodies_that_are_not_json_are_refused() {
    let port = Port::open(Limits::default()).await;
    for header in ["", "Content-Type: text/plain\r\n", "Content-Type: application/x-www-form-urlencoded\r\n"] {
        let answer = port.ask("POST", "/api/v1/things", header, "{}").await;
        assert_eq!((answer.status(), answer.error().0.as_str()), (415, "UNSUPPORTED_MEDIA_TYPE"), "{header}");
    }
    for body in ["{", "name=x", "[]", "\"x\""] {
        let answer = port.ask("POST", "/api/v1/things", JSON, body).await;
        assert_eq!((answer.status(), answer.error().0.as_str()), (400, "VALIDATION_ERROR"), "{body}");
    }
    let answer = port.ask("POST", "/api/v1/things", JSON, "{}").await;
    let (code, details) = answer.error();
    assert_eq!((answer.status(), code.as_str()), (422, "VALIDATION_ERROR"));
    assert_eq!(details["errors"][0]["field"], "name");
}

#[tokio::test]
async fn oversized_bodies_are_413_announced_or_not_and_the_client_gets_to_read_it() {
    let port = Port::open(Limits::default()).await;
    for size in [body::JSON_BYTES_MAX + 1, 3 * 1024 * 1024] {
        let big = format!("\"{}\"", "x".repeat(size));
        let answer = port.ask("POST", "/api/v1/things", JSON, &big).await;
        assert_eq!((answer.status(), answer.error().0.as_str()), (413, "PAYLOAD_TOO_LARGE"));

        let mut client = port.connect().await;
        client.send(&format!("POST /api/v1/things HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n")).await;
        client.send(&format!("{:x}\r\n{big}\r\n0\r\n\r\n", big.len())).await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.error().0.as_str()), (413, "PAYLOAD_TOO_LARGE"));
    }
}

#[tokio::test]
async fn an_oversized_body_is_refused_before_a_polite_client_sends_it() {
    let port = Port::open(Limits::default()).await;
    let mut client = port.connect().await;
    let length = 1_000_000_000;
    client
        .send(&format!(
            "POST /api/v1/things HTTP/1.1\r\nHost: x\r\n{JSON}Expect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        ))
        .await;
    assert_eq!(client.answer().await.status(), 413);
}

#[tokio::test]
async fn a_client_that_sends_its_headers_slowly_is_cut_off() {
    let port = Port::open(short(|l| l.header_read_timeout = Duration::from_millis(200))).await;
    let mut slow = port.connect().await;
    slow.send("GET / HTTP/1.1\r\nHost: x\r\nX-Never-").await;
    assert_eq!(slow.rest().await, "");
    let mut idle = port.connect().await;
    idle.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(idle.next_answer().await.status(), 200);
    assert_eq!(idle.rest().await, "", "an idle connection is closed too");
}

#[tokio::test]
async fn a_client_that_sends_its_body_slowly_gets_503() {
    let port = Port::open(short(|l| l.request_timeout = Duration::from_millis(200))).await;
    let mut slow = port.connect().await;
    slow.send(&format!("POST /api/v1/things HTTP/1.1\r\nHost: x\r\n{JSON}Content-Length: 10\r\n\r\n{{")).await;
    let answer = slow.answer().await;
    assert_eq!((answer.status(), answer.error().0.as_str()), (503, "SERVICE_UNAVAILABLE"));
    assert_eq!(answer.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answer_loses_its_place() {
    let port = Port::open(short(|l| {
        l.connections_max = 1;
        l.write_stall_timeout = Duration::from_millis(200);
    }))
    .await;
    let mut deaf = port.connect().await;
    deaf.send("GET /api/v1/things/huge HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(port.ask("GET", "/", "", "").await.status(), 200);
    drop(deaf);
}

#[tokio::test]
async fn one_client_too_many_waits_for_a_place() {
    let port = Port::open(short(|l| l.connections_max = 1)).await;
    let mut first = port.connect().await;
    first.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(first.next_answer().await.status(), 200);
    let mut second = port.connect().await;
    second.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    first.send("GET /api/v1/things HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert_eq!(first.answer().await.status(), 200);
    assert_eq!(second.answer().await.status(), 200);
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let port = Port::open(Limits::default()).await;
    let padding = format!("X-Padding: {}\r\n", "x".repeat(2 * server::HEAD_BYTES_MAX));
    assert_eq!(port.ask("GET", "/", &padding, "").await.status(), 431);
}

#[tokio::test]
async fn a_panic_in_a_handler_is_a_500_and_the_port_lives() {
    let port = Port::open(Limits::default()).await;
    let mut client = port.connect().await;
    for _ in 0..3 {
        client.send("GET /api/v1/things/broken HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let answer = client.next_answer().await;
        assert_eq!((answer.status(), answer.error().0.as_str()), (500, "INTERNAL_ERROR"));
        assert!(!answer.0.contains("secret"));
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert_eq!(client.next_answer().await.status(), 200, "even the same connection");
    }
}

#[tokio::test]
async fn a_handler_that_takes_too_long_is_503() {
    let port = Port::open(short(|l| l.request_timeout = Duration::from_millis(100))).await;
    let answer = port.ask("GET", "/api/v1/things/slow", "", "").await;
    assert_eq!((answer.status(), answer.error().0.as_str()), (503, "SERVICE_UNAVAILABLE"));
}

#[tokio::test]
async fn the_end_waits_for_requests_in_flight_and_for_no_idle_connection() {
    let port = Port::open(Limits::default()).await;
    let mut untouched = port.connect().await;
    let mut idle = port.connect().await;
    idle.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(idle.next_answer().await.status(), 200);
    let mut busy = port.connect().await;
    busy.send("GET /api/v1/things/slow HTTP/1.1\r\nHost: x\r\n\r\n").await;
    within(port.gate.is_entered.notified()).await;

    port.stop.send(()).unwrap();
    assert_eq!(idle.rest().await, "", "idle connections are closed at once");
    assert_eq!(untouched.rest().await, "", "and so are those that never asked");
    assert!(TcpStream::connect(port.address).await.is_err(), "nobody new is let in");
    assert!(!port.served.is_finished());

    port.gate.may_leave.notify_one();
    let answer = busy.answer().await;
    assert_eq!((answer.status(), answer.body()), (200, "\"done\""));
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(within(port.served).await.unwrap(), Drained { cut_connections: 0 });
}

#[tokio::test]
async fn the_end_has_a_deadline() {
    let port = Port::open(short(|l| l.drain_timeout = Duration::from_millis(100))).await;
    let mut busy = port.connect().await;
    busy.send("GET /api/v1/things/slow HTTP/1.1\r\nHost: x\r\n\r\n").await;
    within(port.gate.is_entered.notified()).await;
    assert_eq!(port.close().await, Drained { cut_connections: 1 });
    assert_eq!(busy.rest().await, "");
}

#[tokio::test]
async fn a_taken_port_is_one_plain_sentence() {
    let port = Port::open(Limits::default()).await;
    let error = bind(port.address, "ORDER_PORT").await.unwrap_err();
    let number = port.address.port();
    assert_eq!(
        error.to_string(),
        format!("port {number} is already taken: stop the other program or set ORDER_PORT to a free one")
    );
}

#[tokio::test]
async fn a_target_that_names_no_resource_is_refused_without_a_panic() {
    let port = Port::open(Limits::default()).await;
    for head in ["CONNECT example.com:443", "CONNECT example.com", "OPTIONS *"] {
        let mut client = port.connect().await;
        client.send(&format!("{head} HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n")).await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.error().0.as_str()), (405, "METHOD_NOT_ALLOWED"), "{head}");
        assert_eq!(answer.header("allow"), Some("GET, HEAD, POST, PATCH, DELETE"), "{head}");
    }
    assert_eq!(port.ask("GET", "/", "", "").await.status(), 200);
}

#[tokio::test]
async fn nonsense_on_the_wire_disturbs_nobody() {
    let port = Port::open(Limits::default()).await;
    for noise in [
        "\r\n\r\n\r\n\r\n",
        "GET\r\n\r\n",
        "\u{0}\u{1}\u{2}\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut client = port.connect().await;
        client.send(noise).await;
        client.0.shutdown().await.unwrap();
        let said = client.rest().await;
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{noise:?}: {said}");
    }
    assert_eq!(port.ask("GET", "/", "", "").await.status(), 200);
}
