//! A real Kafka: the one that `KAFKA_BROKER` names, or one of a test's own; and `kcat`, a client that is not ours.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::free_port;

/// The broker to test against, if there is one. `REQUIRE_KAFKA=1`, as in CI, makes its absence a failure.
pub fn broker() -> Option<String> {
    match std::env::var("KAFKA_BROKER") {
        Ok(broker) if !broker.is_empty() => Some(broker),
        _ => {
            assert!(
                std::env::var("REQUIRE_KAFKA").as_deref() != Ok("1"),
                "REQUIRE_KAFKA=1, but KAFKA_BROKER is not set"
            );
            println!("skipped: KAFKA_BROKER is not set");
            None
        }
    }
}

/// Writes one record with kcat.
pub fn publish(broker: &str, topic: &str, key: &str, value: &str) {
    let mut kcat = Command::new("kcat")
        .args(["-b", broker, "-P", "-t", topic, "-k", key])
        .stdin(Stdio::piped())
        .spawn()
        .expect("kcat is installed");
    kcat.stdin.take().unwrap().write_all(value.as_bytes()).unwrap();
    assert!(kcat.wait().unwrap().success(), "kcat could not publish");
}

/// What kcat reads of a topic from its beginning to its end now, one JSON a record: `key`, `headers`, `payload` and so on.
pub fn read(broker: &str, topic: &str) -> Vec<Value> {
    let read = Command::new("kcat")
        .args(["-b", broker, "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-J"])
        .stdin(Stdio::null())
        .output()
        .expect("kcat is installed");
    let text = String::from_utf8(read.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
}

/// A broker that one test alone starts and stops.
pub struct OwnBroker {
    port: u16,
    directory: tempfile::TempDir,
}

impl OwnBroker {
    /// Not yet started.
    pub fn new() -> Self {
        // The controller listens a thousand above the broker.
        let port =
            std::iter::repeat_with(free_port).find(|port| TcpListener::bind(("127.0.0.1", port + 1_000)).is_ok());
        Self { port: port.unwrap(), directory: tempfile::tempdir().unwrap() }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn run(&self, arguments: &[&str]) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/local/kafka.sh");
        let mut command = Command::new("bash");
        command.arg(script).args(arguments).stdin(Stdio::null());
        command.env("KAFKA_PORT", self.port.to_string()).env("KAFKA_DIR", self.directory.path());
        let status = command.status().unwrap();
        assert!(status.success(), "kafka.sh {arguments:?}: {status}");
    }

    pub fn start(&self) {
        let version = std::env::var("KAFKA_VERSION").unwrap_or_else(|_| "3.7.0".to_owned());
        self.run(&["start", &version]);
    }

    pub fn stop(&self) {
        self.run(&["stop"]);
    }

    /// As a power cut ends it.
    pub fn kill(&self) {
        self.run(&["kill"]);
    }
}

impl Drop for OwnBroker {
    fn drop(&mut self) {
        self.stop();
    }
}
