//! The bridge on a real Kafka beside plain client loops, in turns, as a table.
//! `KAFKA_BROKER=host:port kafka [ROUNDS] [NAME]`: only the rows with `NAME` in their name.
//!
//! Who goes first changes with the round, and the median of the rounds' ratios is what counts.

use std::time::{SystemTime, UNIX_EPOCH};

use microcommerce_benches::{
    kafka::{self, FilledJournal, Work},
    kafka_bare, kafka_ping, per_second,
};

/// The shop's own, for us and for the controls; `--no-default-features` measures with the system's.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PARTITIONS: i32 = 8;
const KEYS: u64 = 10_000;
/// Bytes of a value, and how many records: so many that what is fetched ahead does not count.
const SMALL: (usize, u64) = (200, 4_000_000);
const LARGE: (usize, u64) = (1_000, 1_500_000);
const EVENTS: u64 = 1_000_000;
const PINGS: usize = 2_000;
const WORKED: u64 = 1_000_000;
const WORKED_KEYS: u64 = 1_000;
/// One after another at a millisecond and more each: a second or so.
const WORKED_IN_TURN: u64 = 500;

fn main() {
    let broker = std::env::var("KAFKA_BROKER").expect("KAFKA_BROKER=host:port says where Kafka is");
    let mut arguments = std::env::args().skip(1);
    let rounds = arguments.next().and_then(|rounds| rounds.parse().ok()).unwrap_or(3_usize).max(1);
    let table = Table { broker, rounds, wanted: arguments.next().unwrap_or_default() };
    println!(
        "| ours / control, median of {rounds} | ours /s | control /s | ratio | least to most | bar | our CPU | its CPU |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|");
    for (bytes, count) in [SMALL, LARGE] {
        table.readings(bytes, count);
    }
    table.worked();
    table.relayed();
    table.pinged();
}

struct Table {
    broker: String,
    rounds: usize,
    /// Part of the names of the rows that are wanted.
    wanted: String,
}

impl Table {
    fn readings(&self, bytes: usize, count: u64) {
        let (broker, topic) = (&self.broker, format!("bench-read-{bytes}x{count}"));
        let bare = || per_second(count, kafka_bare::consumes(broker, &topic, &unique("bare"), count));
        let source = || per_second(count, kafka::source_reads(broker, &topic, &unique("source"), count));
        let engine = |work| per_second(count, kafka::engine_reads(broker, &topic, &unique("engine"), count, work));
        let fill = || self.fill(&topic, count, KEYS, bytes);
        self.row(&format!("source alone / bare loop, {bytes} B"), "none", &fill, source, bare);
        let rows = [
            ("function", Work::Function, "≥ 0.80"),
            ("actors", Work::Actors, "≥ 0.80"),
            ("async function", Work::AsyncFunction, "none"),
        ];
        for (name, work, bar) in rows {
            self.row(&format!("engine, {name} / bare loop, {bytes} B"), bar, &fill, || engine(work), bare);
        }
    }

    fn worked(&self) {
        let (broker, topic) = (&self.broker, format!("bench-work-{WORKED}"));
        let engine = || {
            let took = kafka::engine_reads(broker, &topic, &unique("worked"), WORKED, Work::Millisecond);
            per_second(WORKED, took)
        };
        let in_turn = || {
            let took = kafka_bare::works_in_turn(broker, &topic, &unique("in-turn"), WORKED_IN_TURN);
            per_second(WORKED_IN_TURN, took)
        };
        let fill = || self.fill(&topic, WORKED, WORKED_KEYS, SMALL.0);
        self.row("engine, 1 ms of async work, 1,000 keys / one after another", "≥ 200,000 /s", &fill, engine, in_turn);
    }

    fn relayed(&self) {
        let (broker, name) = (&self.broker, "journal, relay, topic / bare idempotent producer");
        if !name.contains(&self.wanted) {
            return;
        }
        let topic = |what| {
            let topic = unique(what);
            kafka::create_topic(broker, &topic, PARTITIONS);
            topic
        };
        let journal = FilledJournal::new(EVENTS, KEYS as usize);
        let relay = || per_second(EVENTS, journal.relays(broker, &topic("bench-relay")));
        let records = journal.records("");
        let bare = || per_second(EVENTS, kafka_bare::produces_these(broker, &topic("bench-bare"), &records));
        self.row(name, "≥ 0.50, ≥ 100,000 /s", &|| (), relay, bare);
    }

    fn pinged(&self) {
        if !"ping".contains(&self.wanted) {
            return;
        }
        let (mut ours, mut control) = (kafka_ping::new_times(), kafka_ping::new_times());
        for _ in 0..self.rounds {
            ours += kafka_ping::pings(&self.broker, &unique("bench-ping-"), PINGS);
            control += kafka_ping::bare_round_trips(&self.broker, &unique("bench-bare-"), PINGS);
        }
        println!("\n| ms, of {} | p50 | p99 | p99.9 |\n|---|---:|---:|---:|", ours.len());
        for (name, times) in [("ping to pong", ours), ("bare round trip", control)] {
            let ms = |quantile| times.value_at_quantile(quantile) as f64 / 1_000.0;
            println!("| {name} | {:.2} | {:.2} | {:.2} |", ms(0.5), ms(0.99), ms(0.999));
        }
    }

    /// Fills a topic, unless a run before did: the name says with how much.
    fn fill(&self, topic: &str, count: u64, keys: u64, bytes: usize) {
        if kafka::create_topic(&self.broker, topic, PARTITIONS) {
            let _ = kafka_bare::produces(&self.broker, topic, count, keys, bytes);
        }
    }

    fn row(&self, name: &str, bar: &str, prepare: &dyn Fn(), ours: impl Fn() -> f64, control: impl Fn() -> f64) {
        if !name.contains(&self.wanted) {
            return;
        }
        prepare();
        let (mut our_rates, mut control_rates, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        let (mut our_cpu, mut control_cpu) = (Vec::new(), Vec::new());
        let mut ours = || with_cpu(&ours, &mut our_cpu);
        let mut control = || with_cpu(&control, &mut control_cpu);
        for round in 0..self.rounds {
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
        let (our_cpu, control_cpu) = (median(&mut our_cpu), median(&mut control_cpu));
        println!(
            "| {name} | {ours:.0} | {control:.0} | {ratio:.2} | {least:.2} to {most:.2} | {bar} | {our_cpu:.2} s | {control_cpu:.2} s |"
        );
    }
}

/// Runs it and notes the processor time, in seconds, that this process spent meanwhile.
fn with_cpu(run: &impl Fn() -> f64, spent: &mut Vec<f64>) -> f64 {
    let before = cpu_seconds();
    let rate = run();
    spent.push(cpu_seconds() - before);
    rate
}

/// The processor time of this process's threads, by the kernel's count in steps of 10 ms.
fn cpu_seconds() -> f64 {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").expect("a Linux");
    // User and system time are the 14th and the 15th word; the second, the program's name, ends with the last parenthesis.
    let words = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    words.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn unique(name: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    format!("{name}-{}", now.as_micros())
}
