//! stdout and stderr are side channels: whatever becomes of them, the shop sells. What could not be said is counted.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod shop;

use std::fs::File;
use std::io::{PipeReader, pipe};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use shop::{CARD_GOOD, Form, Opening, Product, Shop, until, wait_for_end};

const SOON: Duration = Duration::from_secs(20);
/// The end waits a second for a reader that does not read, and no longer.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// What is at the other end.
#[derive(Clone, Copy, Debug)]
enum End {
    /// A disk without space.
    Full,
    /// A pipe whose reader has died.
    Dead,
    /// A pipe whose reader lives and does not read.
    Stalled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Stdout,
    Stderr,
    Both,
}

/// Readers that do not read, kept so that they do not die either.
type Readers = Arc<Mutex<Vec<PipeReader>>>;

fn output(end: End, readers: &Readers) -> Stdio {
    match end {
        End::Full => File::options().write(true).open("/dev/full").unwrap().into(),
        End::Dead => pipe().unwrap().1.into(),
        End::Stalled => {
            let (reader, writer) = pipe().unwrap();
            readers.lock().unwrap().push(reader);
            writer.into()
        }
    }
}

/// A shop that says a lot. It has no log then where stderr is the channel that fails.
fn shop_that_speaks_to(end: End, which: Which, readers: &Readers) -> Shop {
    let readers = Arc::clone(readers);
    let opening = Opening::new().set("RUST_LOG", "trace").outputs(move || {
        (
            (which != Which::Stderr).then(|| output(end, &readers)),
            (which != Which::Stdout).then(|| output(end, &readers)),
        )
    });
    opening.open()
}

fn lines_lost(shop: &Shop) -> u64 {
    let page = shop.client().get("/metrics").send().expect(200).text;
    let lines = page.lines().filter(|line| line.starts_with("microcommerce_log_lines_lost_total{"));
    let lost: Vec<u64> = lines.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    assert_eq!(lost.len(), 2, "one number a stream:\n{page}");
    lost.iter().sum()
}

fn a_purchase_goes_through(end: End) {
    for which in [Which::Stderr, Which::Stdout, Which::Both] {
        let readers = Readers::default();
        let mut shop = shop_that_speaks_to(end, which, &readers);
        let product = Product::create(&shop.admin(), "Cable", "12.34", 100);
        let buyer = shop.register("buyer@example.com");
        let order = buyer.order(&product, 2, "one");
        buyer.pay(&order, CARD_GOOD).expect(201);
        let order_id = order.string("order_id");
        until(SOON, "the order is paid", || {
            (buyer.see_order(&order_id).expect(200).json()["status"] == "paid").then_some(())
        });
        if which != Which::Stdout {
            // A pipe and a queue are filled first where nobody reads.
            until(SOON, "what could not be said is counted", || (lines_lost(&shop) > 0).then_some(()));
        }
        shop.sign_in_again(&buyer);
        shop.send_sigterm();
        let told = Instant::now();
        let status = shop.wait_for_end();
        assert_eq!(status.code(), Some(0), "{end:?} {which:?}: {status}");
        assert!(told.elapsed() < ENDS_WITHIN, "{end:?} {which:?}: {:?}", told.elapsed());
    }
}

#[test]
fn a_purchase_goes_through_while_the_disk_of_the_log_is_full() {
    a_purchase_goes_through(End::Full);
}

#[test]
fn a_purchase_goes_through_when_the_collector_of_the_log_has_died() {
    a_purchase_goes_through(End::Dead);
}

#[test]
fn a_purchase_goes_through_while_the_collector_of_the_log_stands_still() {
    a_purchase_goes_through(End::Stalled);
}

#[test]
fn a_shop_that_cannot_start_ends_with_its_code_though_nobody_hears_why() {
    for end in [End::Full, End::Dead, End::Stalled] {
        let readers = Readers::default();
        let directory = tempfile::tempdir().unwrap();
        let mut command = Opening::new().set("PORT", "abc").command(directory.path());
        let mut process = command.stdout(output(end, &readers)).stderr(output(end, &readers)).spawn().unwrap();
        assert_eq!(wait_for_end(&mut process).code(), Some(1), "{end:?}");
    }
}

#[test]
fn a_command_whose_reader_has_left_ends_quietly_and_one_that_cannot_be_heard_says_so() {
    let shop = Opening::new().formed(Form::One).open();
    let commands: [&[&str]; 3] = [&["topics", "--once"], &["dlq", "list", "order-service"], &["--help"]];
    for arguments in commands {
        let run = |end| {
            let stdout = output(end, &Readers::default());
            let mut command: Command = shop.command();
            command.args(arguments).stdout(stdout).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap()
        };
        let left = run(End::Dead);
        let said = String::from_utf8_lossy(&left.stderr);
        assert!(left.status.success(), "{arguments:?}: {} {said}", left.status);
        assert_eq!(said, "", "{arguments:?}");
        if arguments != ["--help"] {
            let full = run(End::Full);
            let said = String::from_utf8_lossy(&full.stderr);
            assert_eq!(full.status.code(), Some(1), "{arguments:?}: {said}");
            assert!(said.lines().count() == 1 && said.contains("space"), "{arguments:?}: {said}");
        }
    }
    shop.client().get("/readyz").send().expect(200);
}
