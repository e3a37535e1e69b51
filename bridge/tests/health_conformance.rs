//! One suite for both transports: what the actors and the reader promise, in one process and over a real Kafka.
//!
//! Method: every case is a function of a transport; the macro at the end makes one test of it for each. Over Kafka they need
//! `KAFKA_BROKER`; with `REQUIRE_KAFKA=1` they fail without it instead of being skipped.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use microcommerce_bridge::health::transport::Listener;
use microcommerce_bridge::health::{HealthTransport, PING_INTERVAL_MS, PingerArgs, Pong, PongDetails, start_pinger};
use support::{Heard, House, PATIENCE, always, eventually, unique};

type Transport = Arc<dyn HealthTransport>;

/// The promise: health is right within a second of a death.
const DEATH_SHOWS: Duration = Duration::from_secs(1);

async fn a_running_service_is_shown_with_what_it_says_of_itself(transport: Transport) {
    let (running, absent) = (unique("running"), unique("absent"));
    let house = House::start(transport, &[&running, &absent]).await;
    let _service = house.start_service(&running).await;
    eventually("healthy", PATIENCE, || house.is_healthy(&running)).await;
    let report = house.reader.report().unwrap();
    let health = report.service(&running).unwrap();
    assert_eq!(health.details.version.as_deref(), Some("1.2.3"));
    assert_eq!(health.details.instance.as_deref(), Some("test-1"));
    assert!(health.details.uptime_s.is_some_and(|uptime_s| uptime_s < 60));
    let age = jiff::Timestamp::now().duration_since(health.timestamp.unwrap());
    assert!(age.as_secs().abs() < 5, "the pong's time is the present: {age:?}");
    let silent = report.service(&absent).unwrap();
    assert_eq!((silent.status.as_str(), silent.timestamp, silent.responding), ("unhealthy", None, false));
}

async fn a_killed_service_shows_within_a_second_and_disturbs_no_other(transport: Transport) {
    let (victim, other) = (unique("victim"), unique("other"));
    let house = House::start(transport, &[&victim, &other]).await;
    let (service, _other) = (house.start_service(&victim).await, house.start_service(&other).await);
    eventually("both healthy", PATIENCE, || house.is_healthy(&victim) && house.is_healthy(&other)).await;
    service.kill();
    let took = eventually("the death shows", DEATH_SHOWS, || !house.is_healthy(&victim)).await;
    eprintln!("a death showed after {took:?}");
    always("the other is healthy", Duration::from_millis(500), || {
        house.is_healthy(&other) && !house.is_healthy(&victim)
    })
    .await;
    let report = house.reader.report().unwrap();
    assert!(report.service(&victim).unwrap().timestamp.is_some(), "its last time stays");
}

async fn a_service_that_is_started_again_is_healthy_again(transport: Transport) {
    let name = unique("phoenix");
    let house = House::start(transport, &[&name]).await;
    for life in 0..3 {
        let service = house.start_service(&name).await;
        let took = eventually("healthy", PATIENCE, || house.is_healthy(&name)).await;
        eprintln!("life {life}: healthy after {took:?}");
        service.kill();
        eventually("dead", PATIENCE, || !house.is_healthy(&name)).await;
    }
}

async fn a_service_tells_the_truth_about_its_condition(transport: Transport) {
    let name = unique("moody");
    let house = House::start(transport, &[&name]).await;
    let is_healthy = Arc::new(AtomicBool::new(true));
    let _service = house.start_service_that(&name, Arc::clone(&is_healthy)).await;
    eventually("healthy", PATIENCE, || house.is_healthy(&name)).await;
    is_healthy.store(false, Ordering::Relaxed);
    eventually("unhealthy by its own word", DEATH_SHOWS, || !house.is_healthy(&name)).await;
    let report = house.reader.report().unwrap();
    let health = report.service(&name).unwrap();
    assert_eq!((health.status.as_str(), health.responding), ("unhealthy", true));
    is_healthy.store(true, Ordering::Relaxed);
    eventually("healthy again", DEATH_SHOWS, || house.is_healthy(&name)).await;
}

async fn a_service_hears_its_own_pings_only(transport: Transport) {
    let (mine, others) = (unique("mine"), unique("others"));
    let (heard_mine, heard_others) = (Arc::new(Heard::default()), Arc::new(Heard::default()));
    let _my_end = transport.open_service(&mine, Arc::clone(&heard_mine) as Arc<dyn Listener>).unwrap();
    let _other_end = transport.open_service(&others, Arc::clone(&heard_others) as Arc<dyn Listener>).unwrap();
    let gateway = transport.open_gateway(Arc::new(Heard::default())).unwrap();
    eventually("my end listens", PATIENCE, || {
        gateway.ping(&mine);
        heard_mine.count() > 0
    })
    .await;
    let before = heard_mine.count();
    eventually("the other end listens", PATIENCE, || {
        gateway.ping(&others);
        heard_others.count() > 100
    })
    .await;
    // pings sent before the loop may still have been under way, but none of the other's
    assert!(heard_mine.count() <= before + 100, "{} after {before}", heard_mine.count());
    assert_eq!(heard_mine.count_containing("ping"), heard_mine.count());
    assert!(!heard_mine.is_lost() && !heard_others.is_lost());
}

async fn every_gateway_hears_every_pong_and_a_closed_one_none(transport: Transport) {
    let name = unique("speaker");
    let (first, second) = (Arc::new(Heard::default()), Arc::new(Heard::default()));
    let first_end = transport.open_gateway(Arc::clone(&first) as Arc<dyn Listener>).unwrap();
    let _second_end = transport.open_gateway(Arc::clone(&second) as Arc<dyn Listener>).unwrap();
    let service = transport.open_service(&name, Arc::new(Heard::default())).unwrap();
    let pong = Pong {
        status: "healthy".into(),
        service: name.clone(),
        timestamp: jiff::Timestamp::now(),
        details: PongDetails::default(),
    };
    eventually("both hear", PATIENCE, || {
        service.pong(&pong);
        first.count_containing(&name) > 0 && second.count_containing(&name) > 0
    })
    .await;
    drop(first_end);
    let (first_before, second_before) = (first.count(), second.count_containing(&name));
    service.pong(&pong);
    eventually("the open one hears", PATIENCE, || second.count_containing(&name) > second_before).await;
    assert_eq!(first.count(), first_before);
    assert!(!first.is_lost(), "closing is no loss");
}

async fn a_pinger_that_is_started_again_goes_on_with_the_same_board(transport: Transport) {
    let name = unique("steady");
    let house = House::start(transport, &[&name]).await;
    let _service = house.start_service(&name).await;
    eventually("healthy", PATIENCE, || house.is_healthy(&name)).await;
    house.pinger.kill();
    eventually("nothing is known without pings", PATIENCE, || !house.is_healthy(&name)).await;
    start_pinger(PingerArgs { board: house.board.clone() }, house.parent.get_cell()).await.unwrap();
    eventually("healthy again", PATIENCE, || house.is_healthy(&name)).await;
}

async fn a_burst_of_pings_is_no_storm_of_answers(transport: Transport) {
    let name = unique("patient");
    let house = House::start(Arc::clone(&transport), &[]).await;
    let _service = house.start_service(&name).await;
    let heard = Arc::new(Heard::default());
    let gateway = transport.open_gateway(Arc::clone(&heard) as Arc<dyn Listener>).unwrap();
    eventually("it answers", PATIENCE, || {
        gateway.ping(&name);
        heard.count_containing(&name) > 0
    })
    .await;
    let quiet = Duration::from_millis(PING_INTERVAL_MS);
    settled(&heard, &name, quiet).await;
    let before = heard.count_containing(&name);
    (0..500).for_each(|_| gateway.ping(&name));
    eventually("it answers", PATIENCE, || heard.count_containing(&name) > before).await;
    settled(&heard, &name, quiet).await;
    let answers = heard.count_containing(&name) - before;
    eprintln!("500 pings at once: {answers} pongs");
    assert!(answers <= 250, "{answers} answers to 500 pings at once");
}

/// Waits until nothing of `name` has been heard for `quiet`.
async fn settled(heard: &Heard, name: &str, quiet: Duration) {
    let mut last = (heard.count_containing(name), std::time::Instant::now());
    eventually("quiet", PATIENCE, || {
        let count = heard.count_containing(name);
        if count != last.0 {
            last = (count, std::time::Instant::now());
        }
        last.1.elapsed() >= quiet
    })
    .await;
}

/// One test per case and transport.
macro_rules! conformance {
    ($($case:ident),* $(,)?) => {
        mod in_process {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(super::support::in_process()).await;
            })*
        }
        mod kafka {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                if let Some(broker) = super::support::kafka_broker(stringify!($case)) {
                    super::$case(super::support::kafka_at(&broker)).await;
                }
            })*
        }
    };
}

conformance!(
    a_running_service_is_shown_with_what_it_says_of_itself,
    a_killed_service_shows_within_a_second_and_disturbs_no_other,
    a_service_that_is_started_again_is_healthy_again,
    a_service_tells_the_truth_about_its_condition,
    a_service_hears_its_own_pings_only,
    every_gateway_hears_every_pong_and_a_closed_one_none,
    a_pinger_that_is_started_again_goes_on_with_the_same_board,
    a_burst_of_pings_is_no_storm_of_answers,
);
