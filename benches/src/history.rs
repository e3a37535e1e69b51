//! A journal with a past, written through the front door, for all that reads: waking, replay, starting.

use std::sync::Arc;

use runtime::EntitiesConfig;
use tokio::runtime::Runtime;

use crate::{
    bench_directory::BenchDirectory,
    durable::{House, all_awake, ask_all},
    stock::keys,
};

/// Askers that write the past.
const ASKERS: usize = 4_096;

/// How much has happened.
#[derive(Clone, Copy, Debug)]
pub struct Past {
    /// To how many entities.
    pub entities: usize,
    /// How many events each had before its snapshot; 0: it has no snapshot.
    pub before_snapshot: u64,
    /// How many each has had since.
    pub after_snapshot: u64,
}

impl Past {
    /// How many events of how many entities there are.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.entities as u64 * self.version()
    }

    /// The version at which each entity stands.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.before_snapshot + self.after_snapshot
    }
}

/// A closed journal that holds a past; it is removed on drop.
pub struct History {
    pub(crate) past: Past,
    pub(crate) keys: Arc<[Arc<str>]>,
    pub(crate) directory: BenchDirectory,
}

impl History {
    /// Writes `past` to a new journal and closes it.
    ///
    /// # Panics
    /// When a command is not accepted.
    #[must_use]
    pub fn write(past: Past) -> Self {
        let directory = BenchDirectory::new();
        let keys: Arc<[_]> = keys(past.entities).into();
        Runtime::new().expect("tokio starts").block_on(async {
            let count = past.entities;
            let with_snapshot = count as u64 * past.before_snapshot;
            let parts = [(0..with_snapshot, past.before_snapshot), (with_snapshot..past.events(), u64::MAX)];
            for (numbers, snapshot_every) in parts.into_iter().filter(|(numbers, _)| !numbers.is_empty()) {
                let config = EntitiesConfig { snapshot_every, ..all_awake() };
                let house = House::open(&directory, config).await;
                ask_all(&house.entities, ASKERS, &keys, numbers, move |number| (number % count as u64) as usize).await;
                house.close().await;
            }
        });
        Self { past, keys, directory }
    }
}
