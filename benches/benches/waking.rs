//! Reading streams back, churn where there is room for a tenth, and falls; each beside its control.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use microcommerce_benches::{
    durable::Load,
    falls,
    history::{History, Past},
    kameo_actors, raw_ractor, waking,
};

/// How long so many falls take.
type Falls = fn(u32) -> Duration;
const RESTARTS: [(&str, Falls); 4] = [
    ("in_memory", falls::restarts_in_memory),
    ("on_disk", falls::restarts_on_disk),
    ("ractor", raw_ractor::restarts),
    ("kameo", kameo_actors::restarts),
];

fn main() {
    let is_test = std::env::args().any(|argument| argument == "--test");
    let mut criterion = Criterion::default().configure_from_args();

    let mut group = criterion.benchmark_group("waking");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_millis(1));
    for (events, entities) in [(0, 1_000), (100, 500), (1_000, 100)] {
        let entities = if is_test { 2 } else { entities };
        let history = History::write(Past { entities, before_snapshot: 10, after_snapshot: events });
        group.throughput(Throughput::Elements(entities as u64));
        group.bench_function(BenchmarkId::new("snapshot_and_events", events), |bencher| {
            bencher.iter_custom(|runs| (0..runs).map(|_| waking::wakings(&history, 1)).sum());
        });
        group.bench_function(BenchmarkId::new("bare_select", events), |bencher| {
            bencher.iter_custom(|runs| (0..runs).map(|_| waking::bare_reads(&history)).sum());
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("replay");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_millis(1));
    let past = Past { entities: 1, before_snapshot: 0, after_snapshot: if is_test { 1_000 } else { 200_000 } };
    let history = History::write(past);
    group.throughput(Throughput::Elements(past.events()));
    group.bench_function("events", |bencher| {
        bencher.iter_custom(|runs| (0..runs).map(|_| waking::wakings(&history, 1)).sum());
    });
    group.bench_function("bare_select", |bencher| {
        bencher.iter_custom(|runs| (0..runs).map(|_| waking::bare_reads(&history)).sum());
    });
    group.finish();

    let mut group = criterion.benchmark_group("churn");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_millis(1));
    let load = match is_test {
        false => Load { keys: 10_000, commands: 50_000, askers: 100 },
        true => Load { keys: 200, commands: 500, askers: 10 },
    };
    group.throughput(Throughput::Elements(load.commands));
    group.bench_function("room_for_a_tenth", |bencher| {
        bencher.iter_custom(|runs| (0..runs).map(|_| waking::churn(load)).sum());
    });
    group.bench_function("room_for_all", |bencher| {
        bencher.iter_custom(|runs| (0..runs).map(|_| waking::no_churn(load)).sum());
    });
    group.finish();

    let mut group = criterion.benchmark_group("restart");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_millis(1));
    let count = if is_test { 10 } else { 200 };
    group.throughput(Throughput::Elements(u64::from(count)));
    for (name, run) in RESTARTS {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|runs| (0..runs).map(|_| run(count)).sum());
        });
    }
    group.finish();
    criterion.final_summary();
}
