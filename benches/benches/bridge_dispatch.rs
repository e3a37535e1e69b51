//! The bridge's engine without a broker, beside a bare loop over the same source.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use microcommerce_benches::bridge_dispatch::{a_millisecond_each, bare_loop, dispatch};

fn main() {
    let is_test = std::env::args().any(|argument| argument == "--test");
    let (records, worked) = if is_test { (20_000, 2_000) } else { (1_000_000, 100_000) };
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("bridge_dispatch");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_millis(1));

    group.throughput(Throughput::Elements(records));
    for keys in [10, 10_000] {
        group.bench_function(BenchmarkId::new("dispatch", keys), |bencher| {
            bencher.iter_custom(|runs| (0..runs).map(|_| dispatch(keys, records)).sum());
        });
        group.bench_function(BenchmarkId::new("bare_loop", keys), |bencher| {
            bencher.iter_custom(|runs| (0..runs).map(|_| bare_loop(keys, records)).sum());
        });
    }
    group.throughput(Throughput::Elements(worked));
    group.bench_function(BenchmarkId::new("a_millisecond_each", 1_000), |bencher| {
        bencher.iter_custom(|runs| (0..runs).map(|_| a_millisecond_each(1_000, worked)).sum());
    });
    group.finish();
    criterion.final_summary();
}
