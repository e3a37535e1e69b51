//! Ports of this suite's own: drawn so that no other suite on the machine has one, and looked at to see whose they are.
//!
//! A port that nobody listens on now may be another suite's in a moment. So a port is drawn together with a lock on a file of its
//! number, which lasts as long as this process: two suites at once never draw the same. And whoever waits for a shop on a port
//! looks whether it is that shop's process that listens there, or a stranger's.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::Path;
use std::process::Child;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};

/// Ports below the range from which the kernel gives outgoing connections theirs, so that no client takes one first.
const PORT_FIRST: u16 = 12_000;
const PORT_LAST: u16 = 31_999;
static PORTS_TRIED: AtomicU16 = AtomicU16::new(0);
/// The locks of the ports that this process has drawn.
static DRAWN: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A port that nobody listens on, and that no other suite draws while this process lives.
pub fn free_port() -> u16 {
    let ports = PORT_LAST - PORT_FIRST;
    let offset = u16::try_from(std::process::id() % u32::from(ports)).unwrap();
    for _ in 0..ports {
        let tried = PORTS_TRIED.fetch_add(1, Ordering::Relaxed);
        let port = PORT_FIRST + (offset.wrapping_mul(7) % ports + tried) % ports;
        let Some(lock) = lock_of(&std::env::temp_dir().join("microcommerce-test-ports"), port) else { continue };
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            DRAWN.lock().unwrap().push(lock);
            return port;
        }
    }
    panic!("no free port between {PORT_FIRST} and {PORT_LAST}");
}

/// The lock on a port, unless somebody has it.
fn lock_of(directory: &Path, port: u16) -> Option<File> {
    fs::create_dir_all(directory).unwrap();
    let file = File::options().create(true).truncate(false).write(true).open(directory.join(port.to_string())).ok()?;
    file.try_lock().ok()?;
    Some(file)
}

/// Whether `process` listens on `port`, as Linux tells it; nothing elsewhere.
pub fn listens(process: &Child, port: u16) -> Option<bool> {
    let mut sockets = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = fs::read_to_string(table).ok()?;
        sockets.extend(text.lines().skip(1).filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
            // 0A: it listens.
            let is_it = u16::from_str_radix(local_port, 16).ok()? == port && fields.get(3) == Some(&"0A");
            is_it.then(|| format!("socket:[{}]", fields.get(9).copied().unwrap_or_default()))
        }));
    }
    let descriptors = fs::read_dir(format!("/proc/{}/fd", process.id())).ok()?;
    let targets = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let targets: Vec<String> = targets.map(|target| target.to_string_lossy().into_owned()).collect();
    Some(sockets.iter().any(|socket| targets.contains(socket)))
}

#[test]
fn a_port_that_was_drawn_is_drawn_by_nobody_else() {
    let directory = tempfile::tempdir().unwrap();
    let lock = lock_of(directory.path(), 12_345).expect("nobody has it");
    assert!(lock_of(directory.path(), 12_345).is_none(), "it was drawn");
    assert!(lock_of(directory.path(), 12_346).is_some());
    drop(lock);
    assert!(lock_of(directory.path(), 12_345).is_some(), "given back with its process");
}
