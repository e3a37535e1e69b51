//! A control of [`crate::messages`]: tasks that add a number, each behind a tokio channel. No actor at all: the least that a
//! message costs between two tasks.

use std::time::{Duration, Instant};

use tokio::{
    runtime::Runtime,
    sync::{mpsc, oneshot},
    task::JoinSet,
};

struct Add(u64, Option<oneshot::Sender<u64>>);

/// How long `messages` sends over `adders` tasks take until all have been handled.
///
/// # Panics
/// When a task has ended.
#[must_use]
pub fn sends(adders: usize, messages: u64) -> Duration {
    measure(adders, move |adders| async move {
        let started = Instant::now();
        for number in 0..messages {
            adders[(number % adders.len() as u64) as usize].send(Add(1, None)).expect("the task lives");
        }
        // A channel is a queue: this answer comes after everything before it.
        let mut total = 0;
        for adder in &adders {
            total += ask(adder, 0).await;
        }
        let took = started.elapsed();
        assert_eq!(total, messages, "every message has been handled");
        took
    })
}

/// How long `messages` sends with an answer over `adders` tasks take, one after the other.
///
/// # Panics
/// When a task has ended.
#[must_use]
pub fn round_trips(adders: usize, messages: u64) -> Duration {
    measure(adders, move |adders| async move {
        let started = Instant::now();
        for number in 0..messages {
            let total = ask(&adders[(number % adders.len() as u64) as usize], 1).await;
            assert_eq!(total, number / adders.len() as u64 + 1, "it has handled one message a round");
        }
        started.elapsed()
    })
}

async fn ask(adder: &mpsc::UnboundedSender<Add>, amount: u64) -> u64 {
    let (reply, answer) = oneshot::channel();
    adder.send(Add(amount, Some(reply))).expect("the task lives");
    answer.await.expect("the task answers")
}

async fn add(mut inbox: mpsc::UnboundedReceiver<Add>) {
    let mut total = 0;
    while let Some(Add(amount, reply)) = inbox.recv().await {
        total += amount;
        if let Some(reply) = reply {
            reply.send(total).expect("somebody waits");
        }
    }
}

fn measure<F>(adders: usize, run: impl FnOnce(Vec<mpsc::UnboundedSender<Add>>) -> F) -> Duration
where
    F: Future<Output = Duration> + Send + 'static,
{
    let tokio = Runtime::new().expect("tokio starts");
    tokio.block_on(async {
        let mut tasks = JoinSet::new();
        let senders = (0..adders)
            .map(|_| {
                // Unbounded, as the mailboxes of ractor are.
                let (sender, inbox) = mpsc::unbounded_channel();
                tasks.spawn(add(inbox));
                sender
            })
            .collect();
        let took = tokio::spawn(run(senders)).await.expect("the asker does not panic");
        tasks.join_all().await;
        took
    })
}
