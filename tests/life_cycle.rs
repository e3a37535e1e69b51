//! How the process starts, refuses to start, and ends.
//!
//! Whoever runs it sees one plain sentence when something about its surroundings is wrong: what, where and which setting.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod shop;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use shop::{CARD_GOOD, Ended, Opening, PASSWORD, Product, Role, Shop, free_port, until};

/// The promise is one second; a machine that is busy with other tests is forgiven more.
const READY_WITHIN: Duration = Duration::from_secs(5);
const SOON: Duration = Duration::from_secs(10);

/// It ended with an error and said why in one line.
#[track_caller]
fn assert_one_sentence(ended: &Ended, mentioned: &[&str]) {
    assert!(!ended.status.success(), "it must not say that all is well: {ended:?}");
    assert!(ended.status.code().is_some(), "it ends by itself, not by a signal: {ended:?}");
    let lines: Vec<&str> = ended.stderr.lines().filter(|line| !line.trim().is_empty()).collect();
    assert_eq!(lines.len(), 1, "one sentence on stderr: {}", ended.stderr);
    assert!(!lines[0].contains("panicked"), "{}", lines[0]);
    for word in mentioned {
        assert!(lines[0].contains(word), "{word:?} is not mentioned: {}", lines[0]);
    }
    println!("{}", lines[0]);
}

/// As an operator would see it: without a log beside the sentence.
fn quiet() -> Opening {
    Opening::new().set("RUST_LOG", "off")
}

#[test]
fn the_shop_is_ready_soon_on_an_empty_directory_and_on_a_used_one() {
    let mut shop = Shop::start();
    println!("ready after {:?} on an empty directory", shop.ready_after);
    assert!(shop.ready_after < READY_WITHIN);
    let product = Product::create(&shop.admin(), "Cable", "12.34", 100);
    shop.register("buyer@example.com").order(&product, 1, "one");
    shop.kill_9();
    shop.reopen();
    println!("ready after {:?} on a used one", shop.ready_after);
    assert!(shop.ready_after < READY_WITHIN);
}

#[test]
fn sigterm_finishes_what_was_accepted_refuses_what_comes_later_and_exits_0() {
    let mut shop = Shop::start();
    let address = ("127.0.0.1", shop.port(Role::Gateway));
    let body = format!(
        r#"{{"email":"late@example.com","password":"{PASSWORD}","first_name":"A","last_name":"B","phone":"+1234567890"}}"#
    );
    let mut accepted = TcpStream::connect(address).unwrap();
    accepted.set_read_timeout(Some(SOON)).unwrap();
    write!(
        accepted,
        "POST /api/v1/users/register HTTP/1.1\r\nHost: shop\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Expect: 100-continue\r\nConnection: close\r\n\r\n",
        body.len()
    )
    .unwrap();
    // "100 Continue" is the proof that the request is being handled, and is waiting for its body.
    let mut interim = [0; 25];
    accepted.read_exact(&mut interim).unwrap();
    assert!(interim.starts_with(b"HTTP/1.1 100 Continue"), "{}", String::from_utf8_lossy(&interim));

    shop.send_sigterm();
    until(SOON, "new connections are refused", || TcpStream::connect(address).is_err().then_some(()));
    accepted.write_all(body.as_bytes()).unwrap();
    let mut answer = String::new();
    accepted.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "the accepted request is answered: {answer:?}");
    assert!(answer.trim_end().ends_with('}'), "the answer is whole: {answer:?}");

    let status = shop.wait_for_end();
    assert_eq!(status.code(), Some(0), "{status}");
    shop.reopen();
    shop.sign_in("late@example.com", PASSWORD);
}

#[test]
fn after_sigterm_the_next_start_has_everything() {
    let mut shop = Shop::start();
    let product = Product::create(&shop.admin(), "Cable", "12.34", 100);
    let buyer = shop.register("buyer@example.com");
    let order = buyer.order(&product, 1, "one");
    buyer.pay(&order, CARD_GOOD).expect(201);
    let order_id = order.string("order_id");
    shop.send_sigterm();
    assert_eq!(shop.wait_for_end().code(), Some(0));
    shop.reopen();
    let buyer = shop.sign_in_again(&buyer);
    until(SOON, "the order is paid", || {
        (buyer.see_order(&order_id).expect(200).json()["status"] == "paid").then_some(())
    });
}

#[test]
fn a_second_process_on_the_same_directory_says_so_and_leaves_the_first_alone() {
    let shop = Shop::start();
    let directory = shop.data_dir();
    let second = quiet().run_to_end(&directory);
    assert_one_sentence(&second, &[directory.to_str().unwrap()]);
    shop.client().get("/readyz").send().expect(200);
    shop.register("still@example.com");
}

#[test]
fn a_taken_port_is_named_with_its_setting() {
    for role in Role::ALL {
        let port = free_port();
        let _taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let ended = quiet().set(role.setting(), port).run_to_end(directory.path());
        assert_one_sentence(&ended, &[&port.to_string(), role.setting()]);
    }
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let below = tempfile::NamedTempFile::new().unwrap();
    // Below a regular file nobody can make a directory, not even root.
    let directory = below.path().join("data");
    assert_one_sentence(&quiet().run_to_end(&directory), &[directory.to_str().unwrap()]);
}

#[test]
fn a_bad_setting_is_named_with_its_value() {
    let directory = tempfile::tempdir().unwrap();
    for (name, value) in [("PORT", "abc"), ("ORDER_PORT", "70000"), ("RATE_LIMIT_PROFILE", "sometimes")] {
        assert_one_sentence(&quiet().set(name, value).run_to_end(directory.path()), &[name, value]);
    }
    let same = quiet();
    let port = free_port();
    let ended = same.set("PORT", port).set("USER_PORT", port).run_to_end(directory.path());
    assert_one_sentence(&ended, &[&port.to_string()]);
}

#[test]
fn help_lists_every_setting() {
    let help = quiet().argument("--help").run_to_end(Path::new("unused"));
    assert!(help.status.success(), "{help:?}");
    let settings = [
        "PORT",
        "PAYMENT_PORT",
        "PRODUCT_PORT",
        "USER_PORT",
        "ORDER_PORT",
        "DATA_DIR",
        "KAFKA_BROKER",
        "ADMIN_EMAIL",
        "ADMIN_PASSWORD",
        "RATE_LIMIT_PROFILE",
        "RUST_LOG",
        "DEV_CHAOS",
    ];
    for setting in settings.into_iter().chain(["--demo"]) {
        assert!(help.stdout.contains(setting), "{setting} is not in --help:\n{}", help.stdout);
    }
    assert!(!Path::new("unused").exists(), "--help makes no directory");
}

#[test]
fn generated_admin_credentials_are_printed_once_and_work() {
    let mut shop = Opening::new().unset("ADMIN_EMAIL").unset("ADMIN_PASSWORD").open();
    // It is the last thing that a start says, after the ports have opened.
    let printed = until(SOON, "the credentials are printed", || {
        Some(shop.log()).filter(|log| log.contains("ADMIN_PASSWORD=") && log.ends_with('\n'))
    });
    let find = |name: &str| {
        let after = printed.split(name).nth(1).unwrap_or_else(|| panic!("{name} is not printed:\n{printed}"));
        after.trim_start_matches(['=', ':', ' ', '"']).split([' ', '\n', '"', ',']).next().unwrap().to_owned()
    };
    let (email, password) = (find("ADMIN_EMAIL"), find("ADMIN_PASSWORD"));
    let admin = shop.sign_in(&email, &password);
    Product::create(&admin, "Cable", "12.34", 1);
    shop.kill_9();
    shop.reopen();
    assert_eq!(shop.log().matches(&password).count(), 1, "printed once, not at every start");
    shop.sign_in(&email, &password);
}
