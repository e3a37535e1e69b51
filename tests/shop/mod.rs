//! The harness of the black-box suite: the release binary as a child process, and people who use it over HTTP.
//!
//! # Layout
//! - [`process`]: opens a shop on free ports and a directory of its own, waits until it is ready, kills, reopens and ends it.
//! - [`http`]: one request and its answer, with the exact text of numbers.
//! - [`people`]: what an admin and a buyer do: register, sign in, create a product, order, pay.
//! - [`catalogue`]: the 101 products, and money as text.
//! - [`kafka`]: a real broker, and `kcat`.
//! - [`books`]: the services' books, held against one another.
//! - [`ports`]: ports that no other suite has, and whose they are.
//! - [`chance`]: seeded random numbers, so that a failing run can be run again.
//!
//! Nothing here sleeps to be in step with the shop: [`until`] asks again and again, up to a deadline.

#![allow(dead_code, unused_imports, reason = "each test file uses its own part of the harness")]

mod books;
mod catalogue;
mod chance;
mod http;
pub mod kafka;
mod people;
mod ports;
mod process;

pub use books::wait_until_books_agree;
pub use catalogue::{CatalogueItem, catalogue, minor_units, two_decimals};
pub use chance::Chance;
pub use http::{Answer, Client, raw_fields};
pub use people::{
    ADMIN_EMAIL, ADMIN_PASSWORD, Buyer, CARD_DECLINED, CARD_GOOD, CARD_ORIGINAL, PASSWORD, Product, order_body,
    payment_body,
};
pub use ports::free_port;
pub use process::{Ended, Form, Opening, Role, Shop, wait_for_end};

use std::thread;
use std::time::{Duration, Instant};

/// Long enough to not be felt, short enough to not be waited for.
const PROBE_INTERVAL: Duration = Duration::from_millis(5);

/// Asks until there is a value; fails the test at the deadline.
pub fn until<T>(deadline: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(started.elapsed() < deadline, "not within {deadline:?}: {what}");
        thread::sleep(PROBE_INTERVAL);
    }
}
