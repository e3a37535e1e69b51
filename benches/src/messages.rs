//! What shard and entity cost beside a bare actor: messages without a disk, on the [`ForgetfulJournal`].
//!
//! A command does much more than a message: it takes a permit, has a deadline, is routed, checked against the ids already
//! seen, decided, evolved, written as JSON and answered with its events. This says how much more.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{future::maybe_done, poll};
use tokio::runtime::Runtime;

use crate::{
    durable::{all_awake, start},
    forgetful_journal::ForgetfulJournal,
    stock::{Stock, command, key, keys, meta},
};

/// How many tells are on their way before their answers are looked at: below the permits of one shard.
const TOLD_AT_ONCE_MAX: u64 = 8_192;

/// How long `messages` take over `keys` entities when nobody waits for the single one.
///
/// # Panics
/// When a command is not accepted.
#[must_use]
pub fn tells(keys: usize, messages: u64) -> Duration {
    measure(keys, move |entities, keys| async move {
        let started = Instant::now();
        for first in (0..messages).step_by(TOLD_AT_ONCE_MAX as usize) {
            let mut told: Vec<_> = (first..messages.min(first + TOLD_AT_ONCE_MAX))
                .map(|number| Box::pin(maybe_done(entities.ask(pick(&keys, number), command(number), meta(number)))))
                .collect();
            for sending in &mut told {
                // The first look sends it.
                let _ = poll!(sending.as_mut());
            }
            for mut sent in told {
                sent.as_mut().await;
                sent.as_mut().take_output().expect("it is done").expect("every command is accepted");
            }
        }
        started.elapsed()
    })
}

/// How long `messages` take over `keys` entities when each waits for the answer to the one before.
///
/// # Panics
/// When a command is not accepted.
#[must_use]
pub fn asks(keys: usize, messages: u64) -> Duration {
    measure(keys, move |entities, keys| async move {
        let started = Instant::now();
        for number in 0..messages {
            entities.ask(pick(&keys, number), command(number), meta(number)).await.expect("every command is accepted");
        }
        started.elapsed()
    })
}

/// How long it takes to wake `count` entities that nobody has asked before, each answering before the next is asked.
///
/// # Panics
/// When a command is not accepted.
#[must_use]
pub fn first_asks(count: usize) -> Duration {
    measure(0, move |entities, _| async move {
        let keys = keys(count);
        let started = Instant::now();
        for (number, key) in (0..).zip(keys) {
            entities.ask(key, command(number), meta(number)).await.expect("every command is accepted");
        }
        started.elapsed()
    })
}

fn pick(keys: &[Arc<str>], number: u64) -> Arc<str> {
    Arc::clone(&keys[(number % keys.len() as u64) as usize])
}

/// How much `size` grows while `count` entities wake, after the first `warm_up`.
pub(crate) fn growth(warm_up: usize, count: usize, size: fn() -> u64) -> u64 {
    Runtime::new().expect("tokio starts").block_on(async {
        let (entities, _supervisor) = start(ForgetfulJournal::new(), all_awake()).await;
        let mut before = 0;
        for index in 0..warm_up + count {
            if index == warm_up {
                before = size();
            }
            let number = index as u64;
            entities.ask(key(index), command(number), meta(number)).await.expect("every command is accepted");
        }
        size().saturating_sub(before)
    })
}

/// The entities are awake before `run` starts. It runs on a worker thread, as whoever asks does.
fn measure<F>(
    key_count: usize,
    run: impl FnOnce(runtime::Entities<Stock>, Vec<Arc<str>>) -> F + Send + 'static,
) -> Duration
where
    F: Future<Output = Duration> + Send + 'static,
{
    let tokio = Runtime::new().expect("tokio starts");
    tokio.block_on(async {
        let (entities, supervisor) = start(ForgetfulJournal::new(), all_awake()).await;
        let keys = keys(key_count);
        for (number, key) in (u64::MAX / 2..).zip(&keys) {
            entities.ask(Arc::clone(key), command(number), meta(number)).await.expect("every command is accepted");
        }
        let took = tokio::spawn(run(entities, keys)).await.expect("the asker does not panic");
        supervisor.stop_and_wait(None, None).await.expect("the tree stops");
        took
    })
}
