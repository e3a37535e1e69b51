//! The control of [`crate::messages`], [`crate::waking`] and [`crate::falls`]: bare ractor actors that add a number.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio::runtime::Runtime;

use crate::falls::quietly;

struct Adder;

enum Add {
    Tell(u64),
    Ask(u64, RpcReplyPort<u64>),
    Panic,
}

impl Actor for Adder {
    type Msg = Add;
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Add>, (): ()) -> Result<u64, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(&self, _: ActorRef<Add>, message: Add, total: &mut u64) -> Result<(), ActorProcessingErr> {
        match message {
            Add::Tell(amount) => *total += amount,
            Add::Ask(amount, reply) => {
                *total += amount;
                reply.send(*total)?;
            }
            #[expect(clippy::panic, reason = "this is what is measured")]
            Add::Panic => panic!("asked to panic"),
        }
        Ok(())
    }
}

/// Where the present incarnation of the actor that falls is found.
type Place = Arc<Mutex<Option<ActorRef<Add>>>>;

/// The parent of the actor that falls: it starts another at once.
struct Parent;

impl Actor for Parent {
    type Msg = ();
    type State = Place;
    type Arguments = Place;

    async fn pre_start(&self, myself: ActorRef<()>, place: Place) -> Result<Place, ActorProcessingErr> {
        start_child(&myself, &place).await?;
        Ok(place)
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<()>,
        event: SupervisionEvent,
        place: &mut Place,
    ) -> Result<(), ActorProcessingErr> {
        if matches!(event, SupervisionEvent::ActorFailed(..)) {
            start_child(&myself, place).await?;
        }
        Ok(())
    }
}

async fn start_child(parent: &ActorRef<()>, place: &Place) -> Result<(), ActorProcessingErr> {
    let (child, _) = Adder::spawn_linked(None, Adder, (), parent.get_cell()).await?;
    *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
    Ok(())
}

/// How long `messages` casts over `actors` actors take until all have been handled.
///
/// # Panics
/// When an actor does not start or falls.
#[must_use]
pub fn casts(actors: usize, messages: u64) -> Duration {
    measure(actors, move |adders| async move {
        let started = Instant::now();
        for number in 0..messages {
            adders[(number % adders.len() as u64) as usize].cast(Add::Tell(1)).expect("the actor lives");
        }
        // A mailbox is a queue: this answer comes after everything before it.
        let mut total = 0;
        for adder in &adders {
            total += ractor::call!(adder, |reply| Add::Ask(0, reply)).expect("the actor answers");
        }
        let took = started.elapsed();
        assert_eq!(total, messages, "every message has been handled");
        took
    })
}

/// How long `messages` calls over `actors` actors take, one after the other.
///
/// # Panics
/// When an actor does not start or falls.
#[must_use]
pub fn calls(actors: usize, messages: u64) -> Duration {
    measure(actors, move |adders| async move {
        let started = Instant::now();
        for number in 0..messages {
            let round = number / adders.len() as u64;
            let adder = &adders[(number % adders.len() as u64) as usize];
            let total = ractor::call!(adder, |reply| Add::Ask(1, reply)).expect("the actor answers");
            assert_eq!(total, round + 1, "it has handled one message a round");
        }
        started.elapsed()
    })
}

/// How long it takes to start `count` actors, each asked once before the next is started.
///
/// # Panics
/// When an actor does not start.
#[must_use]
pub fn spawns(count: usize) -> Duration {
    measure(0, move |_| async move {
        let mut adders = Vec::with_capacity(count);
        let started = Instant::now();
        for _ in 0..count {
            let (adder, _) = Adder::spawn(None, Adder, ()).await.expect("the actor starts");
            let total = ractor::call!(adder, |reply| Add::Ask(1, reply)).expect("the actor answers");
            assert_eq!(total, 1);
            adders.push(adder);
        }
        let took = started.elapsed();
        for adder in adders {
            adder.stop(None);
        }
        took
    })
}

/// How long `count` falls take, each from the order to panic to the first answer of the next incarnation, under a parent
/// that starts it again at once.
///
/// # Panics
/// When an actor does not start.
#[must_use]
pub fn restarts(count: u32) -> Duration {
    quietly(|| {
        measure(0, move |_| async move {
            let place = Place::default();
            let (parent, _) = Parent::spawn(None, Parent, Arc::clone(&place)).await.expect("the parent starts");
            let present = || place.lock().unwrap_or_else(PoisonError::into_inner).clone().expect("a child has started");
            let started = Instant::now();
            for _ in 0..count {
                present().cast(Add::Panic).expect("the actor lives");
                let total = loop {
                    let adder = present();
                    match ractor::call!(adder, |reply| Add::Ask(1, reply)) {
                        Ok(total) => break total,
                        Err(_) => tokio::task::yield_now().await,
                    }
                };
                assert_eq!(total, 1, "the incarnation is a new one");
            }
            let took = started.elapsed();
            parent.stop(None);
            took
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
            let adder = Adder::spawn(None, Adder, ()).await.expect("the actor starts").0;
            ractor::call!(adder, |reply| Add::Ask(1, reply)).expect("the actor answers");
            adders.push(adder);
        }
        size().saturating_sub(before)
    })
}

fn measure<F>(actors: usize, run: impl FnOnce(Vec<ActorRef<Add>>) -> F) -> Duration
where
    F: Future<Output = Duration> + Send + 'static,
{
    let tokio = Runtime::new().expect("tokio starts");
    tokio.block_on(async {
        let mut adders = Vec::with_capacity(actors);
        for _ in 0..actors {
            adders.push(Adder::spawn(None, Adder, ()).await.expect("the actor starts").0);
        }
        let took = tokio::spawn(run(adders.clone())).await.expect("the asker does not panic");
        for adder in adders {
            adder.stop(None);
        }
        took
    })
}
