//! The bridge on a real Kafka beside plain client loops, in turns, as a table. `KAFKA_BROKER=host:port kafka [ROUNDS]`.
//!
//! Who goes first changes with the round, and the median of the rounds' ratios is what counts.

use std::time::{SystemTime, UNIX_EPOCH};

use microcommerce_benches::{kafka, kafka_bare, per_second};

const PARTITIONS: i32 = 8;
const KEYS: u64 = 10_000;
const SMALL: (usize, u64) = (200, 2_000_000);
const LARGE: (usize, u64) = (1_000, 600_000);
const EVENTS: u64 = 200_000;
/// What an event of the journal's bench weighs as JSON.
const EVENT_BYTES: usize = 130;

fn main() {
    let broker = std::env::var("KAFKA_BROKER").expect("KAFKA_BROKER=host:port says where Kafka is");
    let rounds: usize = std::env::args().nth(1).and_then(|rounds| rounds.parse().ok()).unwrap_or(3);
    println!("| ours / control, median of {rounds} | ours /s | control /s | ratio | least to most | bar |");
    println!("|---|---:|---:|---:|---:|---:|");
    for (bytes, count) in [SMALL, LARGE] {
        let topic = unique("bench-read");
        kafka::create_topic(&broker, &topic, PARTITIONS);
        let _ = kafka_bare::produces(&broker, &topic, count, KEYS, bytes);
        let bare = || per_second(count, kafka_bare::consumes(&broker, &topic, &unique("bare"), count));
        // The first reading warms the broker's page cache for whoever is next.
        let _ = bare();
        let source = || per_second(count, kafka::source_reads(&broker, &topic, &unique("source"), count));
        row(&format!("source alone / bare loop, {bytes} B"), "none", rounds, source, bare);
        let engine = || per_second(count, kafka::engine_reads(&broker, &topic, &unique("engine"), count));
        row(&format!("engine / bare loop, {bytes} B"), "≥ 0.80", rounds, engine, bare);
    }
    let topic = |what| {
        let topic = unique(what);
        kafka::create_topic(&broker, &topic, PARTITIONS);
        topic
    };
    let relay = || per_second(EVENTS, kafka::relays(&broker, &topic("bench-relay"), EVENTS, KEYS as usize));
    let bare = || per_second(EVENTS, kafka_bare::produces(&broker, &topic("bench-bare"), EVENTS, KEYS, EVENT_BYTES));
    row("journal, relay, topic / bare idempotent producer", "≥ 0.50, ≥ 100,000 /s", rounds, relay, bare);
}

fn row(name: &str, bar: &str, rounds: usize, ours: impl Fn() -> f64, control: impl Fn() -> f64) {
    let (mut our_rates, mut control_rates, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let (our_rate, control_rate) = if round % 2 == 0 {
            let our_rate = ours();
            (our_rate, control())
        } else {
            let control_rate = control();
            (ours(), control_rate)
        };
        our_rates.push(our_rate);
        control_rates.push(control_rate);
        ratios.push(our_rate / control_rate);
    }
    let (ours, control, ratio) = (median(&mut our_rates), median(&mut control_rates), median(&mut ratios));
    let (least, most) = (ratios[0], ratios[ratios.len() - 1]);
    println!("| {name} | {ours:.0} | {control:.0} | {ratio:.2} | {least:.2} to {most:.2} | {bar} |");
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn unique(name: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    format!("{name}-{}", now.as_micros())
}
