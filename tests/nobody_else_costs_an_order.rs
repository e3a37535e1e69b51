//! Other programs at the shop's databases, files that are taken away, a disk without room: what was acknowledged is there, and the shop
//! says what is wrong.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod shop;

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rusqlite::Connection;
use serde_json::json;
use shop::{Buyer, Form, Opening, Product, Shop, order_body, until};

const WORKERS: usize = 4;
const SOON: Duration = Duration::from_secs(20);
/// Longer than anybody waits for an answer of a service that fell.
const CALLERS_GIVE_UP_WITHIN: Duration = Duration::from_secs(7);
/// Longer than SQLite's own patience with a lock.
const LOCK_HELD: Duration = Duration::from_secs(7);

/// The acknowledged orders of a time of load.
struct Ledger {
    orders: Mutex<Vec<String>>,
    over: AtomicBool,
}

impl Ledger {
    fn acknowledged(&self) -> usize {
        self.orders.lock().unwrap().len()
    }

    /// Waits for so many more acknowledgements.
    fn grow(&self, more: usize) {
        let enough = self.acknowledged() + more;
        until(SOON, "more orders are acknowledged", || (self.acknowledged() >= enough).then_some(()));
    }
}

/// The end of the load.
struct Over<'a>(&'a Ledger);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

/// Buyers order for as long as `scene` lasts and the shop answers; gives the ids of all orders that it acknowledged.
fn under_load(buyer: &Buyer, product: &Product, scene: impl FnOnce(&Ledger)) -> Vec<String> {
    let ledger = Ledger { orders: Mutex::default(), over: AtomicBool::new(false) };
    thread::scope(|scope| {
        // Also when the scene ends in a panic: the workers would go on for ever.
        let _over = Over(&ledger);
        for worker in 0..WORKERS {
            let ledger = &ledger;
            scope.spawn(move || {
                for number in 0.. {
                    if ledger.over.load(Ordering::Relaxed) {
                        return;
                    }
                    let key = format!("worker-{worker}-{number}");
                    let order = buyer.client.post("/api/v1/orders", order_body(&product.id, 1)).key(&key).try_send();
                    if let Ok(order) = order
                        && order.status == 201
                    {
                        ledger.orders.lock().unwrap().push(order.string("order_id"));
                    }
                }
            });
        }
        scene(&ledger);
    });
    ledger.orders.into_inner().unwrap()
}

/// What is expected of a shop that was killed and opened again.
fn assert_all_there(shop: &Shop, buyer: &Buyer, orders: &[String]) {
    let buyer = shop.sign_in_again(buyer);
    let lost: Vec<_> = orders.iter().filter(|order| buyer.see_order(order).status != 200).collect();
    assert!(lost.is_empty(), "of {} acknowledged orders {} are lost: {lost:?}", orders.len(), lost.len());
}

/// The database of each service, and of the sandbox's books.
fn databases(data_dir: &Path) -> Vec<PathBuf> {
    let folders = fs::read_dir(data_dir).unwrap().map(|entry| entry.unwrap().path());
    folders.map(|folder| folder.join("journal.db")).filter(|file| file.exists()).collect()
}

/// What `sqlite3 journal.db 'SELECT …'` does: with our own SQLite, and with the machine's, where Python has one. Since 3.51 SQLite asks
/// twice before it takes a log away under somebody who has lost his locks; what people have at hand is older.
fn look(database: &Path) {
    let stranger = Connection::open(database).unwrap();
    stranger.query_row("SELECT count(*) FROM events", [], |row| row.get::<_, i64>(0)).unwrap();
    stranger.close().unwrap();
    let script = "import sqlite3, sys\nstranger = sqlite3.connect(sys.argv[1])\n\
                  stranger.execute('SELECT count(*) FROM events').fetchone()\nstranger.close()";
    match Command::new("python3").args(["-c", script]).arg(database).output() {
        Ok(looked) => assert!(looked.status.success(), "{}", String::from_utf8_lossy(&looked.stderr)),
        Err(error) => eprintln!("without an older SQLite: python3: {error}"),
    }
}

fn stage(opening: Opening) -> (Shop, Product, Buyer) {
    let shop = opening.open();
    let product = Product::create(&shop.admin(), "Cable", "12.34", 1_000_000);
    let buyer = shop.register("buyer@example.com");
    (shop, product, buyer)
}

#[test]
fn a_look_at_a_database_after_a_restart_in_the_process_costs_no_order() {
    let (mut shop, product, buyer) = stage(Opening::new().set("DEV_CHAOS", "1"));
    let admin = shop.admin();
    let orders = under_load(&buyer, &product, |ledger| {
        ledger.grow(50);
        for service in ["order-service", "product-service"] {
            admin.post("/api/v1/admin/chaos/kill", json!({"service": service})).send().expect(204);
            ledger.grow(100);
        }
        // What the former incarnations had open is closed when the last of their callers has given up: whenever that is, a look
        // after it must cost nothing.
        let killed = Instant::now();
        while killed.elapsed() < CALLERS_GIVE_UP_WITHIN {
            databases(&shop.data_dir()).iter().for_each(|database| look(database));
            ledger.grow(20);
        }
        ledger.grow(300);
        shop.kill_9();
    });
    shop.reopen();
    assert_all_there(&shop, &buyer, &orders);
}

#[test]
fn a_lock_that_another_program_holds_delays_is_told_and_costs_no_order() {
    let (mut shop, product, buyer) = stage(Opening::new());
    let database = shop.data_dir().join("order-service").join("journal.db");
    let client = shop.client();
    let orders = under_load(&buyer, &product, |ledger| {
        ledger.grow(100);
        let stranger = Connection::open(&database).unwrap();
        let held = Instant::now();
        until(SOON, "the lock is had", || stranger.execute_batch("BEGIN IMMEDIATE").ok());
        let reasons = until(SOON, "the lock is told", || {
            let ready = client.get("/readyz").send();
            (ready.status == 503).then_some(ready.text)
        });
        assert!(reasons.contains("another program holds the lock"), "{reasons}");
        while held.elapsed() < LOCK_HELD {
            client.get("/healthz").send().expect(200);
            buyer.client.get(&format!("/api/v1/products/{}", product.id)).send().expect(200);
        }
        stranger.execute_batch("ROLLBACK").unwrap();
        stranger.close().unwrap();
        until(SOON, "the shop is ready again", || (client.get("/readyz").send().status == 200).then_some(()));
        ledger.grow(200);
        shop.kill_9();
    });
    assert!(!shop.log().contains("started again"), "nothing was opened anew");
    shop.reopen();
    assert_all_there(&shop, &buyer, &orders);
}

#[test]
fn a_log_that_is_taken_away_ends_the_process_with_70_and_one_sentence() {
    if Form::asked() == Form::Roles {
        // There one process ends and the others go on: the same words, another harness.
        return;
    }
    let (mut shop, product, buyer) = stage(Opening::new());
    let order = buyer.order(&product, 1, "before").string("order_id");
    let log = shop.data_dir().join("order-service").join("journal.db-wal");
    let elsewhere = shop.data_dir().join("order-service").join("elsewhere");
    fs::rename(&log, &elsewhere).unwrap();
    let during = buyer.client.post("/api/v1/orders", order_body(&product.id, 1)).key("during").try_send();
    assert!(!during.is_ok_and(|answer| answer.status == 201), "nothing is acknowledged that no name leads to");
    assert_eq!(shop.wait_for_end().code(), Some(70));
    let said = shop.log();
    let last = said.lines().rfind(|line| line.starts_with("microcommerce: ")).unwrap();
    assert!(last.contains("journal.db-wal is gone") && last.contains("start the shop again"), "{last}");
    fs::rename(&elsewhere, &log).unwrap();
    shop.reopen();
    assert_all_there(&shop, &buyer, &[order]);
    buyer_orders_again(&shop, &buyer, &product);
}

fn buyer_orders_again(shop: &Shop, buyer: &Buyer, product: &Product) {
    shop.sign_in_again(buyer).order(product, 1, "after");
}

#[test]
fn nobody_but_its_owner_reads_the_data_directory() {
    let (shop, product, buyer) = stage(Opening::new());
    buyer.order(&product, 1, "one");
    let mut folders = vec![shop.data_dir()];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).chain([folder.clone()]) {
            let found = fs::metadata(&path).unwrap();
            let expected = if found.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(found.permissions().mode() & 0o7777, expected, "{}", path.display());
            seen += 1;
            if found.is_dir() && path != folder {
                folders.push(path);
            }
        }
    }
    assert!(seen > 20, "five databases with their logs, keys and locks: {seen}");
}

/// A small file system, taken away when the test ends.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// Nothing where the system lets nobody mount one; the runtime's own tests then use another way to have no room.
    fn mount() -> Option<Self> {
        let place = tempfile::tempdir().unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=48m", "tmpfs"]).arg(place.path()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success()).then(|| Self(place))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_503_with_a_word_and_the_shop_reads_on_and_goes_on_by_itself() {
    let Some(disk) = SmallDisk::mount() else {
        println!("no right to mount");
        return;
    };
    let (mut shop, product, buyer) =
        stage(Opening::new().formed(Form::One).set("DATA_DIR", disk.0.path().join("data").display()));
    let before = buyer.order(&product, 1, "before").string("order_id");
    let ballast = disk.0.path().join("ballast");
    let mut file = fs::File::create(&ballast).unwrap();
    let page = [1; 4096];
    while file.write_all(&page).is_ok() {}
    drop(file);
    let mut number = 0;
    let refused = until(SOON, "an order is refused for want of room", || {
        number += 1;
        let key = format!("during-{number}");
        let answer = buyer.client.post("/api/v1/orders", order_body(&product.id, 1)).key(&key).send();
        // The one whose service did not hear from another in time says less.
        let is_full = answer.status == 503 && answer.json()["error"]["details"]["reason"] == "full";
        is_full.then_some(answer)
    });
    assert!(refused.header("Retry-After").is_some());
    assert_eq!(buyer.see_order(&before).status, 200, "reads go on");
    buyer.client.get(&format!("/api/v1/products/{}", product.id)).send().expect(200);
    let metrics = shop.client().get("/metrics").send().expect(200).text;
    assert!(
        metrics.lines().any(|line| line.starts_with("microcommerce_journal_full") && line.ends_with(" 1")),
        "{metrics}"
    );
    fs::remove_file(&ballast).unwrap();
    let after = until(SOON, "it goes on by itself", || {
        number += 1;
        let key = format!("after-{number}");
        let answer = buyer.client.post("/api/v1/orders", order_body(&product.id, 1)).key(&key).send();
        (answer.status == 201).then(|| answer.string("order_id"))
    });
    shop.kill_9();
    shop.reopen();
    assert_all_there(&shop, &buyer, &[before, after]);
    shop.kill_9();
}
