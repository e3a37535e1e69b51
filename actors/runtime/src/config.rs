//! How much of one kind of entity may be in memory and on its way.

use std::time::Duration;

use crate::parking::ParkingRules;

/// The bounds of one kind of entity.
#[derive(Clone, Debug)]
pub struct EntitiesConfig {
    /// Shards: each routes for its part of the ids. More than the cores gains little.
    pub shards: usize,
    /// Commands in flight in one shard; the service's gate bounds all kinds together.
    pub in_flight_per_shard_max: usize,
    /// Entities awake in one shard (about 12 KiB each with a small state). Beyond it the longest idle go to sleep.
    pub active_per_shard_max: usize,
    /// An entity that has had no command for this long goes to sleep.
    pub idle_after: Duration,
    /// Streams that one shard reads at once.
    pub recoveries_per_shard_max: usize,
    /// Events between two snapshots of one entity.
    pub snapshot_every: u64,
    /// A shard, or an entity, that is in one message for longer is stuck: it is killed, and refused everything until it
    /// ends. Reading its stream and waiting for the disk do not count.
    pub stuck_after: Duration,
    /// When an entity that falls again and again is left alone.
    pub parking: ParkingRules,
}

impl Default for EntitiesConfig {
    fn default() -> Self {
        Self {
            shards: 4,
            in_flight_per_shard_max: 16_384,
            // With four shards: 10,000 awake, some 120 MB a kind.
            active_per_shard_max: 2_500,
            idle_after: Duration::from_secs(60),
            recoveries_per_shard_max: 64,
            snapshot_every: 1_000,
            // A decision takes microseconds; this is far beyond any pause of the machine.
            stuck_after: Duration::from_secs(30),
            parking: ParkingRules::default(),
        }
    }
}
