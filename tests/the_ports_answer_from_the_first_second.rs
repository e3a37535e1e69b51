//! A port that is bound answers: that the process lives, how far its start has come, and that the rest has to wait. The end is
//! heard during the start, too, and a start that was killed is made again.
//!
//! A start is held up where it reads a key: a pipe without a writer stands in for the file, so that the thread which reads it
//! waits for as long as the test likes, and nothing but the end of the process ends it.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod shop;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use shop::{Chance, Client, Form, Opening, PASSWORD, Product, Role, Shop, free_port, until};

/// The promise is a second from the start of the process; a machine that is busy with other tests is forgiven more.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);
/// A process that was told to end has nobody to wait for.
const ENDS_WITHIN: Duration = Duration::from_secs(4);
const SOON: Duration = Duration::from_secs(20);

/// Read before anything else.
const SECRET: &str = "secret.key";
/// Read by the user service, when its journal is open.
const SIGNING_KEY: &str = "user-service/signing-key.pk8";

/// The key's file, and what was in it.
struct HeldStart {
    file: PathBuf,
    key: Vec<u8>,
}

impl HeldStart {
    /// From now on a start of this shop goes no further than this key. The shop is not open.
    fn at(shop: &Shop, name: &str) -> Self {
        let file = shop.data_dir().join(name);
        let key = fs::read(&file).unwrap();
        fs::remove_file(&file).unwrap();
        let made = Command::new("mkfifo").arg("-m600").arg(&file).status().unwrap();
        assert!(made.success(), "mkfifo failed");
        Self { file, key }
    }

    /// Lets the start that waits go on.
    fn let_go(self) {
        fs::write(&self.file, &self.key).unwrap();
        self.put_back();
    }

    /// The next start finds the key again.
    fn put_back(self) {
        fs::remove_file(&self.file).unwrap();
        let beside = self.file.with_extension("beside");
        let mut writing = private_file(&beside);
        writing.write_all(&self.key).unwrap();
        fs::rename(beside, self.file).unwrap();
    }
}

fn private_file(path: &Path) -> fs::File {
    use std::os::unix::fs::OpenOptionsExt as _;
    fs::File::options().create(true).write(true).truncate(true).mode(0o600).open(path).unwrap()
}

/// A shop with a buyer and a product, closed.
fn closed_shop() -> Shop {
    let mut shop = Opening::new().formed(Form::One).open();
    Product::create(&shop.admin(), "Cable", "12.34", 100);
    shop.register("buyer@example.com");
    shop.kill_9();
    shop
}

/// What was there before is there.
fn assert_all_there(shop: &Shop) {
    shop.sign_in("buyer@example.com", PASSWORD);
    let products = shop.client().get("/api/v1/products").send().expect(200).json();
    assert_eq!(products["products"].as_array().unwrap().len(), 1, "{products}");
}

/// One connection that is kept: a second request on it is answered by whoever serves it then.
struct Connection(TcpStream);

impl Connection {
    fn to(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(SOON))?;
        Ok(Self(stream))
    }

    /// The status and the body of the answer.
    fn get(&mut self, path: &str) -> std::io::Result<(u16, String)> {
        write!(self.0, "GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n")?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1).expect("every answer has a length");
        let mut body = vec![0; length.split("\r\n").next().unwrap().parse().unwrap()];
        self.0.read_exact(&mut body)?;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Ok((status, String::from_utf8(body).unwrap()))
    }
}

/// The JSON of a refusal as the API writes it, of a port that has to be asked again.
fn refusal(client: &Client, path: &str) -> Value {
    let answer = client.get(path).send().expect(503);
    let seconds: u32 = answer.headers.get("retry-after").expect("Retry-After").to_str().unwrap().parse().unwrap();
    assert!(seconds > 0);
    let error = answer.json()["error"].clone();
    assert_eq!(error["code"], "SERVICE_UNAVAILABLE", "{path}: {error}");
    assert!(error["request_id"].is_string(), "{path}: {error}");
    error
}

#[test]
fn while_the_process_starts_its_ports_say_how_far_it_has_come_and_no_connection_is_lost() {
    let mut shop = closed_shop();
    let held = HeldStart::at(&shop, SIGNING_KEY);
    let began = Instant::now();
    shop.reopen_without_waiting();
    for role in Role::ALL {
        let client = Client::of_port(shop.port(role));
        let lives = until(ANSWERS_WITHIN, "the port answers", || client.get("/healthz").try_send().ok());
        assert!(began.elapsed() < ANSWERS_WITHIN, "{:?}", began.elapsed());
        assert_eq!(lives.status, 200);
        assert_eq!(lives.json()["status"], "healthy");
        assert_eq!(lives.json()["service"], role.service());
    }
    let gateway = shop.client();
    until(SOON, "the user service is at work", || {
        let unready = refusal(&gateway, "/readyz");
        let is_named = unready["details"]["reason"].as_str().unwrap().contains("user-service");
        let steps = unready["details"]["progress"].as_array().unwrap();
        assert_eq!(steps.len(), 4, "{unready}");
        assert!(steps.iter().all(|step| step["service"].is_string() && step["phase"].is_string()), "{unready}");
        is_named.then_some(())
    });
    let of_orders = refusal(&Client::of_port(shop.port(Role::Order)), "/readyz");
    let steps = of_orders["details"]["progress"].as_array().unwrap();
    assert_eq!(steps.len(), 1, "a service's own port speaks of that service: {of_orders}");
    assert_eq!(steps[0]["service"], "order-service");
    for path in ["/", "/api/v1/products", "/api/v1/services/health", "/metrics", "/nowhere"] {
        refusal(&gateway, path);
    }
    let login = gateway.post("/api/v1/users/login", "{}").send().expect(503);
    assert!(login.headers.contains_key("retry-after"));

    // Through the change: a connection that is kept, and new ones all the time.
    let port = shop.port(Role::Gateway);
    let mut kept = Connection::to(port).unwrap();
    assert_eq!(kept.get("/readyz").unwrap().0, 503);
    let is_over = AtomicBool::new(false);
    let asked = thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut statuses = Vec::new();
            while !is_over.load(Ordering::Acquire) {
                let (status, body) = Connection::to(port).and_then(|mut new| new.get("/readyz")).unwrap();
                assert!(serde_json::from_str::<Value>(&body).is_ok(), "a whole answer: {body}");
                statuses.push(status);
            }
            statuses
        });
        held.let_go();
        shop.wait_until_ready();
        is_over.store(true, Ordering::Release);
        asking.join().unwrap()
    });
    assert!(asked.contains(&503), "asked before: {asked:?}");
    assert!(asked.iter().all(|status| [200, 503].contains(status)), "{asked:?}");
    assert_eq!(kept.get("/").unwrap().0, 200, "the connection from before the change is the shop's now");
    shop.wait_for_line(&["The shop is open"]);
    assert_all_there(&shop);
}

#[test]
fn a_process_that_is_told_to_end_while_it_starts_ends_in_order_whatever_it_waits_for() {
    let mut shop = closed_shop();
    for (name, signal) in [(SIGNING_KEY, "TERM"), (SIGNING_KEY, "INT"), (SECRET, "TERM")] {
        let held = HeldStart::at(&shop, name);
        shop.reopen_without_waiting();
        let gateway = shop.client();
        until(SOON, "the start is held up", || {
            let unready = gateway.get("/readyz").try_send().ok()?.json();
            let reason = unready["error"]["details"]["reason"].as_str()?;
            (name == SECRET || reason.contains("user-service")).then_some(())
        });
        shop.send_signal(signal);
        let told = Instant::now();
        let status = shop.wait_for_end();
        assert_eq!(status.code(), Some(0), "{name} SIG{signal}: {status}");
        assert!(told.elapsed() < ENDS_WITHIN, "{name} SIG{signal}: {:?}", told.elapsed());
        held.put_back();
    }
    assert!(!shop.log().contains("panicked"), "{}", shop.log());
    shop.reopen();
    assert_all_there(&shop);
}

#[test]
fn a_shop_that_has_never_reached_its_broker_ends_as_quickly() {
    // Nobody listens there, and nobody will.
    let broker = format!("127.0.0.1:{}", free_port());
    for role in [None, Some("order"), Some("gateway")] {
        let port = free_port();
        let mut opening = Opening::new().formed(Form::One).set("KAFKA_BROKER", &broker).set("PORT", port);
        if let Some(role) = role {
            opening = opening.argument("--role").argument(role);
        }
        // At once, and when everything waits for the broker.
        let mut shop = opening.open_without_waiting();
        for is_open in [false, true] {
            if is_open {
                let before = shop.log().matches("Ctrl-C").count();
                shop.reopen_without_waiting();
                until(SOON, "the greeting", || (shop.log().matches("Ctrl-C").count() > before).then_some(()));
            } else {
                until(SOON, "the port is bound", || TcpStream::connect(("127.0.0.1", port)).ok());
            }
            shop.send_sigterm();
            let told = Instant::now();
            let status = shop.wait_for_end();
            assert_eq!(status.code(), Some(0), "{role:?}, open: {is_open}: {status}");
            assert!(told.elapsed() < ENDS_WITHIN, "{role:?}, open: {is_open}: {:?}", told.elapsed());
        }
        assert!(!shop.log().contains("panicked"), "{}", shop.log());
    }
}

#[test]
fn a_start_that_was_killed_is_made_again() {
    let mut chance = Chance::seeded("a_start_that_was_killed_is_made_again");
    let mut shop = closed_shop();
    let start_ms = u64::try_from(shop.ready_after.as_millis()).unwrap();
    for _ in 0..8 {
        shop.reopen_without_waiting();
        thread::sleep(Duration::from_millis(chance.between(0, start_ms)));
        shop.kill_9();
    }
    shop.reopen();
    assert_all_there(&shop);
}
