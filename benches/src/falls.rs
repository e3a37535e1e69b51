//! How long an entity is gone when it panics: from the order to panic to the first answer of its next incarnation.
//!
//! Its asker does not know of the fall: told "unavailable", it asks again at once. The panic's message is not printed, here
//! and in the controls: printing would be most of what is measured.

use std::{
    panic,
    time::{Duration, Instant},
};

use runtime::{AskError, Entities};
use tokio::runtime::Runtime;

use crate::{
    bench_directory::BenchDirectory,
    durable::{House, all_awake, start},
    forgetful_journal::ForgetfulJournal,
    stock::{Stock, command, keys, meta},
};

/// Within this time the controls' supervisors count restarts, up to a limit that nothing reaches.
pub(crate) const RESTARTS_WINDOW: Duration = Duration::from_secs(1);

/// How long `count` falls take, one after the other, of an entity without a disk.
///
/// # Panics
/// When the entity does not come back.
#[must_use]
pub fn restarts_in_memory(count: u32) -> Duration {
    quietly(|| {
        Runtime::new().expect("tokio starts").block_on(async {
            let (entities, supervisor) = start(ForgetfulJournal::new(), all_awake()).await;
            let took = restarts(entities, count).await;
            supervisor.stop_and_wait(None, None).await.expect("the tree stops");
            took
        })
    })
}

/// As [`restarts_in_memory`], of an entity that reads its stream from the disk and whose answers are durable.
///
/// # Panics
/// When the entity does not come back.
#[must_use]
pub fn restarts_on_disk(count: u32) -> Duration {
    quietly(|| {
        let directory = BenchDirectory::new();
        Runtime::new().expect("tokio starts").block_on(async {
            let house = House::open(&directory, all_awake()).await;
            let took = restarts(house.entities.clone(), count).await;
            house.close().await;
            took
        })
    })
}

async fn restarts(entities: Entities<Stock>, count: u32) -> Duration {
    let asker = async move {
        let key = keys(1).remove(0);
        let mut numbers = 0..;
        let mut next = || numbers.next().expect("the numbers do not end");
        let first = next();
        entities.ask(key.clone(), command(first), meta(first)).await.expect("the first command is accepted");
        let started = Instant::now();
        for _ in 0..count {
            entities.inject_panic(key.clone());
            loop {
                let number = next();
                match entities.ask(key.clone(), command(number), meta(number)).await {
                    Ok(_) => break,
                    Err(AskError::Unavailable) => tokio::task::yield_now().await,
                    Err(other) => unreachable!("an entity that fell is unavailable, not {other}"),
                }
            }
        }
        started.elapsed()
    };
    tokio::spawn(asker).await.expect("the asker does not panic")
}

/// Runs `run` without a word about panics.
pub(crate) fn quietly<T>(run: impl FnOnce() -> T) -> T {
    let loud = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let result = run();
    panic::set_hook(loud);
    result
}
