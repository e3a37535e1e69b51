//! The control of [`crate::messages`]: `cast` and `call` to bare ractor actors that add a number.

use std::time::{Duration, Instant};

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::runtime::Runtime;

struct Adder;

enum Add {
    Tell(u64),
    Ask(u64, RpcReplyPort<u64>),
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
        }
        Ok(())
    }
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
