//! Entities that wake and go to sleep: reading streams back, and churn when there is room for a tenth of the entities.
//!
//! The control of a waking reads the same rows with the same statements on a connection of its own, decodes them with the same
//! codecs and folds them: no actor, no queue, no answer. The files are in the system's cache for both: what is measured is
//! the work, not the disk's reading.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use runtime::{CommandId, Entities, EntitiesConfig, Entity};
use rusqlite::{Connection, OpenFlags, OptionalExtension, config::DbConfig};
use tokio::runtime::Runtime;

use crate::{
    durable::{self, House, Load, all_awake},
    history::{History, Past},
    stock::{Reserved, Stock},
    zipf::Zipf,
};

/// Long enough that no read of a bench is ever too late.
const PATIENCE: Duration = Duration::from_secs(60);
/// The part of the keys for which there is room: a tenth.
const KEYS_PER_AWAKE: usize = 10;
/// Churn has this many shards; with a small limit in each.
const SHARDS: usize = 4;

/// How long the entities of `history` take to wake, `at_once` at a time; each has answered a read.
///
/// # Panics
/// When an entity is not at the version at which it went to sleep.
#[must_use]
pub fn wakings(history: &History, at_once: usize) -> Duration {
    Runtime::new().expect("tokio starts").block_on(async {
        let house = House::open(&history.directory, all_awake()).await;
        let started = Instant::now();
        wake_all(house.entities.clone(), history, at_once).await;
        let took = started.elapsed();
        house.close().await;
        took
    })
}

/// How long a service takes from opening the journal of `history` to the first entity's answer, and to the last's.
///
/// # Panics
/// When an entity is not at the version at which it went to sleep.
#[must_use]
pub fn ready(history: &History, at_once: usize) -> (Duration, Duration) {
    Runtime::new().expect("tokio starts").block_on(async {
        let started = Instant::now();
        let house = House::open(&history.directory, all_awake()).await;
        wake(house.entities.clone(), Arc::clone(&history.keys[history.keys.len() / 2]), history.past).await;
        let first = started.elapsed();
        wake_all(house.entities.clone(), history, at_once).await;
        let all = started.elapsed();
        house.close().await;
        (first, all)
    })
}

async fn wake_all(entities: Entities<Stock>, history: &History, at_once: usize) {
    let (keys, past) = (Arc::clone(&history.keys), history.past);
    let waker = async move {
        let asks = (0..keys.len()).map(|index| wake(entities.clone(), Arc::clone(&keys[index]), past));
        stream::iter(asks).buffer_unordered(at_once).for_each(|()| async {}).await;
    };
    tokio::spawn(waker).await.expect("the asker does not panic");
}

async fn wake(entities: Entities<Stock>, key: Arc<str>, past: Past) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let version = entities.read(key, deadline, |_, version| version).await.expect("the entity answers");
    assert_eq!(version, past.version(), "nothing is lost");
}

/// The control of [`wakings`]: how long the same rows take on one thread that does nothing else.
///
/// # Panics
/// When SQLite refuses, or rows are missing.
#[must_use]
pub fn bare_reads(history: &History) -> Duration {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection =
        Connection::open_with_flags(history.directory.path().join("journal.db"), flags).expect("the database opens");
    connection
        .execute_batch("PRAGMA query_only = ON; PRAGMA mmap_size = 268435456;")
        .expect("SQLite takes the pragmas");
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).expect("SQLite keeps its plans");
    let streams: Vec<_> = history.keys.iter().map(|key| format!("{}/{key}", Stock::KIND)).collect();
    let started = Instant::now();
    for stream in &streams {
        let (version, state, seen) = bare_read(&connection, stream).expect("the rows are read");
        assert_eq!(version, history.past.version(), "nothing is lost");
        assert_eq!(seen.len() as u64, version, "each event had its command");
        std::hint::black_box(state);
    }
    started.elapsed()
}

fn bare_read(
    connection: &Connection,
    stream: &str,
) -> rusqlite::Result<(u64, <Stock as Entity>::State, HashSet<CommandId>)> {
    let transaction = connection.unchecked_transaction()?;
    let snapshot: Option<(u64, Vec<u8>)> = connection
        .prepare_cached("SELECT version, state FROM snapshots WHERE stream = ?1")?
        .query_row([stream], |row| Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get(1)?)))
        .optional()?;
    let (mut version, mut state) = match snapshot {
        Some((version, bytes)) => (version, decode_snapshot(&bytes)),
        None => Default::default(),
    };
    let mut statement = connection.prepare_cached(
        "SELECT v.version, payload FROM versions v JOIN events e ON e.position = v.position \
             WHERE v.stream = ?1 AND v.version > ?2 ORDER BY v.version",
    )?;
    let mut rows = statement.query((stream, version.cast_signed()))?;
    while let Some(row) = rows.next()? {
        version = row.get::<_, i64>(0)?.unsigned_abs();
        let event: Reserved = serde_json::from_str(row.get_ref(1)?.as_str()?).expect("events are JSON");
        Stock::evolve(&mut state, &event);
    }
    let seen = connection
        .prepare_cached("SELECT command_id FROM versions WHERE stream = ?1")?
        .query_map([stream], |row| Ok(CommandId::from_bytes(row.get(0)?)))?
        .collect::<rusqlite::Result<_>>()?;
    drop(transaction);
    Ok((version, state, seen))
}

/// A snapshot's bytes are a format byte, four of the schema, and bincode.
fn decode_snapshot(bytes: &[u8]) -> <Stock as Entity>::State {
    let (state, _) =
        bincode::serde::decode_from_slice(&bytes[5..], bincode::config::standard()).expect("it is bincode");
    state
}

/// How long `load` takes when there is room for a tenth of its keys, asked for by Zipf's law: most commands find their
/// entity awake, the others wake one and put others to sleep.
///
/// # Panics
/// When a command is not accepted.
#[must_use]
pub fn churn(load: Load) -> Duration {
    let active_per_shard_max = (load.keys / KEYS_PER_AWAKE / SHARDS).max(1);
    zipf_asks(load, EntitiesConfig { shards: SHARDS, active_per_shard_max, ..all_awake() })
}

/// The control of [`churn`]: the same commands with room for all.
///
/// # Panics
/// When a command is not accepted.
#[must_use]
pub fn no_churn(load: Load) -> Duration {
    zipf_asks(load, EntitiesConfig { shards: SHARDS, ..all_awake() })
}

fn zipf_asks(load: Load, config: EntitiesConfig) -> Duration {
    let picks: Arc<[usize]> = Zipf::new(load.keys).take(load.commands as usize).collect();
    durable::asks_of(load, config, move |number| picks[(number - load.keys as u64) as usize])
}
