//! Durable commands per second: ours, the bare group commit of the same rows, and one commit per command.
//!
//! Each iteration is a whole run on a new database; see `microcommerce_benches::durable` for what is timed. For ratios
//! of interleaved runs take `--bin ratios`.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use microcommerce_benches::{
    bare_sqlite::{self, BATCH_COMMANDS_MAX},
    durable::{self, Load},
};

/// What one iteration does, or next to nothing where criterion only tries whether a bench runs.
fn load(keys: usize) -> Load {
    match is_test() {
        false => Load { keys, commands: 100_000, askers: 8_192 },
        true => Load { keys, commands: 2_000, askers: 512 },
    }
}

fn is_test() -> bool {
    std::env::args().any(|argument| argument == "--test")
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("durable_commands");
    // One run of a second or so is a sample.
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_millis(1));

    for keys in [1, 10_000] {
        let load = load(keys);
        group.throughput(Throughput::Elements(load.commands));
        group.bench_function(BenchmarkId::new("ask", keys), |bencher| {
            bencher.iter_custom(|runs| (0..runs).map(|_| durable::asks(load)).sum());
        });
        group.bench_function(BenchmarkId::new("bare_group_commit", keys), |bencher| {
            bencher.iter_custom(|runs| (0..runs).map(|_| bare_sqlite::inserts(load, BATCH_COMMANDS_MAX)).sum());
        });
        let single = Load { commands: load.commands / 25, ..load };
        group.throughput(Throughput::Elements(single.commands));
        group.bench_function(BenchmarkId::new("one_commit_per_command", keys), |bencher| {
            bencher.iter_custom(|runs| (0..runs).map(|_| bare_sqlite::inserts(single, 1)).sum());
        });
    }
    // One asker who waits for each answer: nothing to group.
    let alone = Load { keys: 1, commands: load(1).commands / 25, askers: 1 };
    group.throughput(Throughput::Elements(alone.commands));
    group.bench_function("ask_one_at_a_time", |bencher| {
        bencher.iter_custom(|runs| (0..runs).map(|_| durable::asks(alone)).sum());
    });
    group.bench_function("insert_one_at_a_time", |bencher| {
        bencher.iter_custom(|runs| (0..runs).map(|_| bare_sqlite::inserts(alone, 1)).sum());
    });
    group.finish();
    criterion.final_summary();
}
