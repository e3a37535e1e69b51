//! A control of [`crate::messages`], [`crate::waking`] and [`crate::falls`]: the same as [`crate::raw_ractor`] on kameo, with the unbounded
//! mailboxes that ractor has.

use std::time::{Duration, Instant};

use kameo::{
    actor::{Actor, ActorRef, Spawn},
    error::Infallible,
    mailbox,
    message::{Context, Message},
    supervision::RestartPolicy,
};
use tokio::runtime::Runtime;

use crate::falls::{RESTARTS_WINDOW, quietly};

#[derive(Clone)]
struct Adder(u64);

struct Add(u64);

struct Panic;

impl Actor for Adder {
    type Args = u64;
    type Error = Infallible;

    async fn on_start(total: u64, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(Self(total))
    }
}

impl Message<Add> for Adder {
    type Reply = u64;

    async fn handle(&mut self, Add(amount): Add, _: &mut Context<Self, u64>) -> u64 {
        self.0 += amount;
        self.0
    }
}

impl Message<Panic> for Adder {
    type Reply = ();

    #[expect(clippy::panic, reason = "this is what is measured")]
    async fn handle(&mut self, Panic: Panic, _: &mut Context<Self, ()>) {
        panic!("asked to panic");
    }
}

/// The parent of the actor that falls.
struct Parent;

impl Actor for Parent {
    type Args = ();
    type Error = Infallible;

    async fn on_start((): (), _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(Self)
    }
}

/// How long `messages` tells over `actors` actors take until all have been handled.
///
/// # Panics
/// When an actor falls.
#[must_use]
pub fn tells(actors: usize, messages: u64) -> Duration {
    measure(actors, move |adders| async move {
        let started = Instant::now();
        for number in 0..messages {
            adders[(number % adders.len() as u64) as usize].tell(Add(1)).send().await.expect("the actor lives");
        }
        // A mailbox is a queue: this answer comes after everything before it.
        let mut total = 0;
        for adder in &adders {
            total += adder.ask(Add(0)).await.expect("the actor answers");
        }
        let took = started.elapsed();
        assert_eq!(total, messages, "every message has been handled");
        took
    })
}

/// How long `messages` asks over `actors` actors take, one after the other.
///
/// # Panics
/// When an actor falls.
#[must_use]
pub fn asks(actors: usize, messages: u64) -> Duration {
    measure(actors, move |adders| async move {
        let started = Instant::now();
        for number in 0..messages {
            let adder = &adders[(number % adders.len() as u64) as usize];
            let total = adder.ask(Add(1)).await.expect("the actor answers");
            assert_eq!(total, number / adders.len() as u64 + 1, "it has handled one message a round");
        }
        started.elapsed()
    })
}

/// How long it takes to start `count` actors, each asked once before the next is started.
///
/// # Panics
/// When an actor does not answer.
#[must_use]
pub fn spawns(count: usize) -> Duration {
    measure(0, move |_| async move {
        let mut adders = Vec::with_capacity(count);
        let started = Instant::now();
        for _ in 0..count {
            let adder = Adder::spawn_with_mailbox(0, mailbox::unbounded());
            assert_eq!(adder.ask(Add(1)).await.expect("the actor answers"), 1);
            adders.push(adder);
        }
        started.elapsed()
    })
}

/// How long `count` falls take, each from the order to panic to the first answer of the next incarnation, under a
/// supervisor that restarts at once.
///
/// # Panics
/// When an actor does not start.
#[must_use]
pub fn restarts(count: u32) -> Duration {
    quietly(|| {
        measure(0, move |_| async move {
            let parent = Parent::spawn(());
            let adder = Adder::supervise(&parent, 0)
                .restart_policy(RestartPolicy::Permanent)
                .restart_limit(u32::MAX, RESTARTS_WINDOW)
                .spawn_with_mailbox(mailbox::unbounded())
                .await;
            let started = Instant::now();
            for _ in 0..count {
                adder.tell(Panic).send().await.expect("the actor lives");
                let total = loop {
                    match adder.ask(Add(1)).await {
                        Ok(total) => break total,
                        Err(_) => tokio::task::yield_now().await,
                    }
                };
                assert_eq!(total, 1, "the incarnation is a new one");
            }
            started.elapsed()
        })
    })
}

/// How much `size` grows while `count` actors start, after the first `warm_up`.
pub(crate) fn growth(warm_up: usize, count: usize, size: fn() -> u64) -> u64 {
    Runtime::new().expect("tokio starts").block_on(async {
        let mut adders = Vec::with_capacity(warm_up + count);
        let mut before = 0;
        for number in 0..warm_up + count {
            if number == warm_up {
                before = size();
            }
            let adder = Adder::spawn_with_mailbox(0, mailbox::unbounded());
            adder.ask(Add(1)).await.expect("the actor answers");
            adders.push(adder);
        }
        size().saturating_sub(before)
    })
}

fn measure<F>(actors: usize, run: impl FnOnce(Vec<ActorRef<Adder>>) -> F) -> Duration
where
    F: Future<Output = Duration> + Send + 'static,
{
    let tokio = Runtime::new().expect("tokio starts");
    tokio.block_on(async {
        let adders = (0..actors).map(|_| Adder::spawn_with_mailbox(0, mailbox::unbounded())).collect();
        tokio::spawn(run(adders)).await.expect("the asker does not panic")
    })
}
