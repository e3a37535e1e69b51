//! Tell and ask through shard and entity without a disk, beside cast and call to bare ractor actors.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use microcommerce_benches::{messages, raw_ractor};

fn main() {
    let is_test = std::env::args().any(|argument| argument == "--test");
    let (told, asked) = if is_test { (2_000, 500) } else { (400_000, 200_000) };
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("messages");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_millis(1));

    for keys in [1, 1_000] {
        group.throughput(Throughput::Elements(told));
        group.bench_function(BenchmarkId::new("tell", keys), |bencher| {
            bencher.iter_custom(|runs| (0..runs).map(|_| messages::tells(keys, told)).sum());
        });
        group.bench_function(BenchmarkId::new("ractor_cast", keys), |bencher| {
            bencher.iter_custom(|runs| (0..runs).map(|_| raw_ractor::casts(keys, told)).sum());
        });
        group.throughput(Throughput::Elements(asked));
        group.bench_function(BenchmarkId::new("ask", keys), |bencher| {
            bencher.iter_custom(|runs| (0..runs).map(|_| messages::asks(keys, asked)).sum());
        });
        group.bench_function(BenchmarkId::new("ractor_call", keys), |bencher| {
            bencher.iter_custom(|runs| (0..runs).map(|_| raw_ractor::calls(keys, asked)).sum());
        });
    }
    group.finish();
    criterion.final_summary();
}
