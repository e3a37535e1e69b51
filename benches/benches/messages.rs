//! Tell, ask and first ask through shard and entity without a disk, beside ractor, kameo and tokio's channels.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use microcommerce_benches::{kameo_actors, messages, plain_channel, raw_ractor};

/// How long so many messages over so many actors take.
type Run = fn(usize, u64) -> Duration;
const TELLS: [(&str, Run); 4] = [
    ("tell", messages::tells),
    ("ractor_cast", raw_ractor::casts),
    ("kameo_tell", kameo_actors::tells),
    ("channel_send", plain_channel::sends),
];
const ASKS: [(&str, Run); 4] = [
    ("ask", messages::asks),
    ("ractor_call", raw_ractor::calls),
    ("kameo_ask", kameo_actors::asks),
    ("channel_round_trip", plain_channel::round_trips),
];
/// How long it takes to start so many actors.
type Start = fn(usize) -> Duration;
const FIRST_ASKS: [(&str, Start); 3] =
    [("first_ask", messages::first_asks), ("ractor_spawn", raw_ractor::spawns), ("kameo_spawn", kameo_actors::spawns)];

fn main() {
    let is_test = std::env::args().any(|argument| argument == "--test");
    let (told, asked, started) = if is_test { (2_000, 500, 200) } else { (400_000, 200_000, 10_000) };
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("messages");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_millis(1));

    for (count, runs) in [(told, TELLS), (asked, ASKS)] {
        group.throughput(Throughput::Elements(count));
        for actors in [1, 1_000] {
            for (name, run) in runs {
                group.bench_function(BenchmarkId::new(name, actors), |bencher| {
                    bencher.iter_custom(|runs| (0..runs).map(|_| run(actors, count)).sum());
                });
            }
        }
    }
    group.throughput(Throughput::Elements(started));
    for (name, run) in FIRST_ASKS {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|runs| (0..runs).map(|_| run(started as usize)).sum());
        });
    }
    group.finish();
    criterion.final_summary();
}
