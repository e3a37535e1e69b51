//! A log that was replaced by an older copy, deleted or cut is seen at once: the shop says so, takes no orders, and an operator
//! reconciles it; then it sells again and its books agree.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod shop;

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::Value;
use shop::{Answer, Buyer, CARD_GOOD, Client, Form, Opening, Product, Role, Shop, kafka, order_body, until};

const SETTLED_WITHIN: Duration = Duration::from_secs(30);
/// A contradiction is answered at once, not when a buyer's patience ends.
const REFUSED_WITHIN: Duration = Duration::from_secs(2);
const STOCK: u32 = 1_000;
/// Orders that the copy knows of, and those that it does not.
const KNOWN: usize = 6;
const LOST: usize = 15;

struct Scene {
    shop: Shop,
    product: Product,
    buyer: Buyer,
}

impl Scene {
    fn open() -> Self {
        Self::open_as(Form::One)
    }

    fn open_as(form: Form) -> Self {
        let shop = Opening::new().formed(form).open();
        let admin = shop.admin();
        let product = Product::create(&admin, "Cable", "45.00", STOCK);
        let buyer = shop.register("buyer@example.com");
        Self { shop, product, buyer }
    }

    /// Places orders of one unit; each third stays unpaid.
    fn sell(&self, name: &str, count: usize) -> Vec<Answer> {
        let sell_one = |number: usize| {
            let order = self.buyer.order(&self.product, 1, &format!("{name}-{number}"));
            if number % 3 != 2 {
                self.buyer.pay(&order, CARD_GOOD).expect(201);
            }
            order
        };
        (0..count).map(sell_one).collect()
    }

    /// Ends the shop as an operator does.
    fn stop(&mut self) {
        self.shop.send_sigterm();
        assert!(self.shop.wait_for_end().success());
    }

    /// Opens it again without waiting until it is ready: it will not be.
    fn open_again(&mut self) {
        self.shop.reopen_without_waiting();
        until(SETTLED_WITHIN, "the gateway answers", || {
            self.shop.client().get("/readyz").try_send().ok().filter(|answer| answer.status == 503)
        });
    }

    /// The shop is red with this reason from the first answer on, takes no order, and goes on answering questions.
    fn assert_red(&self, reason: &str) {
        let client = self.shop.client();
        // A gateway of its own says which service is not well; that service says why.
        let says_why = match self.shop.form() {
            Form::Roles => Client::of_port(self.shop.port(Role::Order)),
            Form::One | Form::Kafka => self.shop.client(),
        };
        until(SETTLED_WITHIN, &format!("/readyz says {reason:?}"), || {
            let whole = client.get("/readyz").send();
            assert_eq!(whole.status, 503, "never green: {}", whole.text);
            let answer = says_why.get("/readyz").try_send().ok()?;
            (answer.status == 503 && answer.text.contains(reason)).then_some(())
        });
        until(SETTLED_WITHIN, "the ERROR is logged", || {
            self.shop.log().lines().any(|line| line.contains("ERROR") && line.contains("does not fit")).then_some(())
        });
        let buyer = self.shop.sign_in_again(&self.buyer);
        for number in 0..5 {
            let asked = Instant::now();
            let order = buyer.client.post("/api/v1/orders", order_body(&self.product.id, 1));
            order.key(&format!("red-{number}")).send().expect(503);
            assert!(asked.elapsed() < REFUSED_WITHIN, "refused after {:?}", asked.elapsed());
        }
        client.get(&format!("/api/v1/products/{}", self.product.id)).send().expect(200);
    }

    /// Whether it was done, and what is printed; of a refusal also its sentence.
    fn recover(&self, arguments: &[&str]) -> (bool, String) {
        let output = self.shop.command().arg("recover").args(arguments).output().unwrap();
        let (printed, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let is_done = output.status.success();
        (is_done, if is_done { printed.into_owned() } else { format!("{printed}{error}") })
    }

    /// Reports, reconciles, opens the shop, and sells as if nothing had been.
    fn reconcile_and_sell(&mut self, reason: &str) {
        self.reconcile(reason);
        self.assert_books_agree();
    }

    fn reconcile(&mut self, reason: &str) {
        let (done, running) = self.recover(&[]);
        assert!(done && running.contains(reason), "the running shop says so too: {running}");
        let (done, refused) = self.recover(&["--apply"]);
        assert!(!done && refused.contains("stop it"), "{refused}");
        self.stop();
        let (done, stopped) = self.recover(&[]);
        assert!(done && stopped.contains(reason), "{stopped}");
        let (done, again) = self.recover(&[]);
        assert!(done && again == stopped, "looking changes nothing:\n{stopped}\n{again}");
        let (done, applied) = self.recover(&["--apply"]);
        assert!(done, "{applied}");
        let (done, after) = self.recover(&["--apply"]);
        assert!(done && after.contains("there is nothing to reconcile"), "{after}");
        self.shop.reopen();
        self.buyer = self.shop.sign_in_again(&self.buyer);
        self.sell("after", 6);
    }

    /// Money: captured less given back is the same at the orders', the payments' and the provider's, and what the paid orders cost. Stock:
    /// committed are the paid units, reserved the unpaid ones.
    fn assert_books_agree(&self) {
        self.until_books(|committed, reserved, paid, open| (committed, reserved) == (paid, open));
    }

    /// The same, where units of open orders may count as sold.
    fn assert_books_agree_but_for_open_orders(&self) {
        self.until_books(|committed, reserved, paid, open| committed >= paid && committed + reserved == paid + open);
    }

    fn until_books(&self, stock_agrees: impl Fn(i64, i64, i64, i64) -> bool) {
        let admin = self.shop.admin();
        let started = Instant::now();
        loop {
            let orders = self.buyer.all_orders();
            let of = |statuses: &[&str]| {
                let statuses: Vec<String> = statuses.iter().map(|status| (*status).to_owned()).collect();
                let of_status = |order: &&Value| statuses.iter().any(|status| order["status"] == status.as_str());
                orders.iter().filter(of_status).cloned().collect::<Vec<Value>>()
            };
            let units = |orders: &[Value]| -> i64 {
                let items = orders.iter().flat_map(|order| order["items"].as_array().unwrap());
                items.map(|item| item["quantity"].as_i64().unwrap()).sum()
            };
            let (paid, open) = (of(&["paid"]), of(&["pending", "payment_processing"]));
            let cost: i64 = paid.iter().map(|order| order["total_minor"].as_i64().unwrap()).sum();
            let stats = admin.get("/api/v1/admin/stats").send().expect(200).json();
            let held =
                |books: &Value| books["captured_minor"].as_i64().unwrap() - books["refunded_minor"].as_i64().unwrap();
            let money = [held(&stats["orders"]), held(&stats["payments"]), held(&stats["provider"])];
            let inventory = self.product.inventory(&admin);
            let [committed, reserved] = ["committed", "reserved"].map(|counter| inventory[counter].as_i64().unwrap());
            if money == [cost; 3] && stock_agrees(committed, reserved, units(&paid), units(&open)) {
                return;
            }
            assert!(
                started.elapsed() < SETTLED_WITHIN,
                "the books do not agree: money {money:?} of {cost}, stock {committed} sold and {reserved} held of {} and {}",
                units(&paid),
                units(&open)
            );
        }
    }

    fn directory(&self, service: &str) -> std::path::PathBuf {
        self.shop.data_dir().join(service)
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn events_of(directory: &Path) -> Vec<(String, Option<String>)> {
    let journal = Connection::open(directory.join("journal.db")).unwrap();
    let mut events = journal.prepare("SELECT event_type, actor FROM events").unwrap();
    events.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
}

#[test]
fn the_orders_replaced_by_an_older_copy_are_seen_at_once_and_reconciled() {
    older_copy_of_the_orders(Form::One, "product-service<order-service", "product-service in the log of order-service");
}

#[test]
fn on_kafka_an_older_copy_of_the_orders_contradicts_its_topics_and_is_reconciled() {
    for form in [Form::Kafka, Form::Roles] {
        if kafka::broker().is_some() {
            older_copy_of_the_orders(
                form,
                "what its topics have of order-service",
                "what its topics have of order-service",
            );
        }
    }
}

/// `red` is said of the running shop, `reason` by `recover`.
fn older_copy_of_the_orders(form: Form, red: &str, reason: &str) {
    let mut scene = Scene::open_as(form);
    scene.sell("known", KNOWN);
    scene.assert_books_agree();
    scene.stop();
    let (orders, kept) = (scene.directory("order-service"), scene.shop.data_dir().join("kept"));
    copy(&orders, &kept);
    scene.shop.reopen();
    scene.buyer = scene.shop.sign_in_again(&scene.buyer);
    scene.sell("lost", LOST);
    scene.assert_books_agree();
    scene.stop();
    fs::remove_dir_all(&orders).unwrap();
    copy(&kept, &orders);

    scene.open_again();
    scene.assert_red("order-service's data does not fit together");
    // What a while of red leaves behind is nothing.
    scene.stop();
    scene.open_again();
    scene.assert_red(red);
    scene.reconcile_and_sell(reason);

    scene.stop();
    let audited = |service: &str, event_type: &str| {
        let by_operator =
            |(of, actor): &(String, Option<String>)| of == event_type && actor.as_deref() == Some("operator");
        events_of(&scene.directory(service)).iter().filter(|event| by_operator(event)).count()
    };
    assert_eq!(audited("order-service", "log.recovered"), 1);
    assert_eq!(audited("product-service", "log.recovered"), 1);
    assert_eq!(audited("product-service", "stock.released"), LOST);
    assert_eq!(audited("payment-service", "payment.refund_requested"), LOST - LOST / 3);
}

#[test]
fn a_copy_made_while_the_shop_ran_and_put_back_later_is_an_older_copy() {
    let mut scene = Scene::open();
    scene.sell("known", KNOWN);
    let orders = scene.directory("order-service");
    let kept = scene.shop.data_dir().join("kept.db");
    Connection::open(orders.join("journal.db")).unwrap().execute("VACUUM INTO ?1", [kept.to_str().unwrap()]).unwrap();
    scene.sell("lost", LOST);
    scene.assert_books_agree();
    // The witness goes as well: only the others' positions are left to speak, which are stored some moments behind their effects.
    let newest_kept: i64 =
        Connection::open(&kept).unwrap().query_row("SELECT max(position) FROM events", [], |row| row.get(0)).unwrap();
    until(SETTLED_WITHIN, "a neighbour has stored a position beyond the copy's end", || {
        let neighbour = Connection::open(scene.directory("payment-service").join("journal.db")).unwrap();
        let newest = "SELECT max(position) FROM positions WHERE subscription LIKE '%order-service%'";
        let stored: Option<i64> = neighbour.query_row(newest, [], |row| row.get(0)).unwrap();
        stored.filter(|stored| *stored > newest_kept)
    });
    scene.shop.kill_9();
    fs::remove_dir_all(&orders).unwrap();
    fs::create_dir(&orders).unwrap();
    fs::copy(&kept, orders.join("journal.db")).unwrap();

    scene.open_again();
    scene.assert_red("order-service's data does not fit together");
    scene.reconcile_and_sell("payment-service in the log of order-service");
}

#[test]
fn a_services_deleted_data_is_seen_at_once_and_reconciled() {
    let mut scene = Scene::open();
    scene.sell("lost", KNOWN);
    scene.assert_books_agree();
    scene.stop();
    fs::remove_dir_all(scene.directory("order-service")).unwrap();

    scene.open_again();
    scene.assert_red("and this is the log");
    scene.reconcile_and_sell("stock without an order");
}

#[test]
fn a_log_that_was_cut_in_half_contradicts_its_witness() {
    let mut scene = Scene::open();
    scene.sell("lost", LOST);
    scene.assert_books_agree();
    let witness = scene.directory("order-service").join("journal.witness");
    assert!(witness.exists());
    // The end is noted some moments behind the commits.
    let noted = || fs::read(&witness).unwrap();
    let settled = until(SETTLED_WITHIN, "the witness has the end", || {
        let end = Connection::open(scene.directory("order-service").join("journal.db")).unwrap();
        let end: i64 = end.query_row("SELECT max(position) FROM events", [], |row| row.get(0)).unwrap();
        noted().windows(8).any(|bytes| bytes == end.to_be_bytes()).then_some(end)
    });
    scene.shop.kill_9();
    let wal = OpenOptions::new().write(true).open(scene.directory("order-service").join("journal.db-wal")).unwrap();
    let length = wal.metadata().unwrap().len();
    assert!(length > 0, "there is a log to cut");
    wal.set_len(length / 2).unwrap();

    scene.open_again();
    scene.assert_red(&format!("position {settled} was noted, and the log ends at"));
    assert!(scene.shop.client().get("/readyz").send().text.contains("the witness beside the log"));
    // The cut goes through the middle of some order's steps. Such an order may have its money back and still be open: its units then
    // count as sold until it is paid again or expires. No unit is held for an order that is not there.
    scene.reconcile("the witness beside the log");
    scene.assert_books_agree_but_for_open_orders();
}

#[test]
fn money_at_the_provider_that_no_payment_knows_of_is_given_back() {
    let mut scene = Scene::open();
    scene.sell("known", KNOWN);
    scene.stop();
    let kept = scene.shop.data_dir().join("kept");
    for service in ["order-service", "payment-service"] {
        copy(&scene.directory(service), &kept.join(service));
    }
    scene.shop.reopen();
    scene.buyer = scene.shop.sign_in_again(&scene.buyer);
    scene.sell("lost", LOST);
    scene.assert_books_agree();
    scene.stop();
    for service in ["order-service", "payment-service"] {
        fs::remove_dir_all(scene.directory(service)).unwrap();
        copy(&kept.join(service), &scene.directory(service));
    }
    scene.open_again();
    scene.assert_red("order-service's data does not fit together");
    scene.reconcile_and_sell("money at the sandbox provider without a payment");
}

#[test]
fn deleted_users_and_deleted_books_are_seen_by_their_neighbours() {
    for (log, keeper) in [("user-service", "order-service"), ("sandbox-provider", "payment-service")] {
        let mut scene = Scene::open();
        scene.sell("sold", KNOWN);
        let note = format!("{keeper} watches {log}");
        until(SETTLED_WITHIN, "the neighbour has noted the log", || {
            let home = Connection::open(scene.directory(keeper).join("journal.db")).unwrap();
            let count = "SELECT count(*) FROM positions WHERE subscription = ?1";
            (home.query_row(count, [&note], |row| row.get::<_, i64>(0)).unwrap() == 1).then_some(())
        });
        scene.stop();
        fs::remove_dir_all(scene.directory(log)).unwrap();
        scene.open_again();
        until(SETTLED_WITHIN, "/readyz names the neighbour", || {
            scene.shop.client().get("/readyz").send().text.contains(&note).then_some(())
        });
        let (done, said) = scene.recover(&[]);
        assert!(done && said.contains(&format!("position of {keeper} in the log of {log}")), "{said}");
        scene.stop();
        let (done, applied) = scene.recover(&["--apply"]);
        assert!(done, "{applied}");
        scene.shop.reopen();
    }
}
