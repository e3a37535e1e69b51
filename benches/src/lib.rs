//! What the benches measure, and what they measure it against.
//!
//! Each measurement is a plain function that sets its own stage, runs once and gives the time of the part that counts; its
//! control stands beside it and does the same work without us. The criterion benches and the `ratios` program call the
//! same functions, so both speak of the same thing.
//!
//! # Layout
//!
//! - [`stock`]: the entity that is asked, and the commands that it is asked to do.
//! - [`durable`]: durable commands through `Entities::ask`; [`bare_sqlite`]: the same rows without actors.
//! - [`messages`]: tell, ask and first ask through shard and entity without a disk; [`raw_ractor`], [`kameo_actors`],
//!   [`plain_channel`]: the same without us.
//! - [`history`]: a journal with a past; [`waking`]: its entities wake, and go to sleep where there is no room; [`zipf`]: who
//!   is asked then.
//! - [`falls`]: how long an entity is gone when it panics.
//! - [`open_loop`]: latencies at a set rate; [`idle_memory`]: what an entity weighs that is awake and has nothing to do.
//! - [`forgetful_journal`]: a journal that stores nothing: it takes the disk out of a measurement.
//! - [`bridge_dispatch`]: the bridge's engine on a source in memory; its bare loop beside it.
//! - [`kafka`]: source, engine and relay on a real Kafka; [`kafka_bare`]: plain client loops beside them.
//! - [`kafka_ping`]: a service's pong to a ping, and the bare round trip beside it.
//! - [`bench_directory`]: where the databases go.

pub mod bare_sqlite;
pub mod bench_directory;
pub mod bridge_dispatch;
pub mod durable;
pub mod falls;
pub mod forgetful_journal;
pub mod history;
pub mod idle_memory;
pub mod kafka;
pub mod kafka_bare;
pub mod kafka_ping;
pub mod kameo_actors;
pub mod messages;
pub mod open_loop;
pub mod plain_channel;
pub mod raw_ractor;
pub mod stock;
pub mod waking;
pub mod zipf;

/// How many were done a second, when `count` took so long.
#[must_use]
pub fn per_second(count: u64, took: std::time::Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}
