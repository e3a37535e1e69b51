//! An async function as a handler, with bounded concurrency.
//!
//! A few tasks, one for each core, each drive many calls at once: a call costs one small allocation, not a task. A key's records are
//! one call after another; with lane batches one call gets several of them in order. A panic in a call drops its deliveries,
//! so that lane is retried and no other is touched. The tasks end when the handler is dropped.

use std::{
    collections::VecDeque,
    future::Future,
    hash::{BuildHasher, RandomState},
    num::NonZeroUsize,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::{runtime::Handle, sync::mpsc};

use super::{Handler, by_lane};
use crate::{
    engine::{
        codec::Codec,
        delivery::{Delivery, Outcome},
    },
    record::Record,
};

/// Calls at once, where nobody says otherwise.
pub const CONCURRENCY_MAX: usize = 1_024;

/// A key's deliveries, in order.
type Lane = Vec<Delivery>;

/// An async function of a lane's deliveries, run with bounded concurrency.
pub struct Concurrent {
    /// Each takes lanes and is bounded by the deliveries that the engine has on their way.
    workers: Vec<mpsc::UnboundedSender<Vec<Lane>>>,
    next: AtomicUsize,
}

/// Calls `work` with each record; a key's records one after another. Must be called within a tokio runtime.
pub fn each<F, Fut>(concurrency_max: usize, work: F) -> Concurrent
where
    F: Fn(Record) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
{
    let work = Arc::new(work);
    lanes(concurrency_max, move |lane| {
        let work = Arc::clone(&work);
        async move {
            for delivery in lane {
                if delivery.is_revoked() {
                    return;
                }
                let outcome = work(delivery.record().clone()).await;
                let may_go_on = matches!(outcome, Outcome::Done | Outcome::Skip);
                delivery.settle(outcome);
                if !may_go_on {
                    // What is left is dropped, and so given again after the one that was not done.
                    return;
                }
            }
        }
    })
}

/// Calls `work` with each record's message and the record. What cannot be decoded goes to the dead letters at once.
pub fn decoded<T, C, F, Fut>(codec: C, concurrency_max: usize, work: F) -> Concurrent
where
    T: Send + 'static,
    C: Codec<T>,
    F: Fn(T, Record) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
{
    each(concurrency_max, move |record| {
        let working = codec.decode(record.value.as_ref()).map(|message| work(message, record));
        async move {
            match working {
                Ok(working) => working.await,
                Err(error) => Outcome::undecodable(error.to_string()),
            }
        }
    })
}

/// Calls `work` with a key's deliveries in order, as many as the subscription's lane batch allows; `work` settles them. Must
/// be called within a tokio runtime.
pub fn lanes<F, Fut>(concurrency_max: usize, work: F) -> Concurrent
where
    F: Fn(Vec<Delivery>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let worker_count = cores.min(concurrency_max.max(1));
    let work = Arc::new(work);
    let workers = (0..worker_count).map(|_| {
        let (lanes, inbox) = mpsc::unbounded_channel();
        Handle::current().spawn(run(inbox, concurrency_max.max(1).div_ceil(worker_count), Arc::clone(&work)));
        lanes
    });
    Concurrent { workers: workers.collect(), next: AtomicUsize::new(RandomState::new().hash_one(0) as usize) }
}

impl Handler for Concurrent {
    fn handle(&self, deliveries: Vec<Delivery>) {
        let mut shares: Vec<Vec<Lane>> = self.workers.iter().map(|_| Vec::new()).collect();
        // Another worker begins each time, so that few lanes are not always the same one's.
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        for (number, lane) in by_lane(deliveries).enumerate() {
            shares[first.wrapping_add(number) % self.workers.len()].push(lane);
        }
        for (worker, share) in self.workers.iter().zip(shares).filter(|(_, share)| !share.is_empty()) {
            // A worker is gone only with its runtime; what is dropped then is given again.
            drop(worker.send(share));
        }
    }
}

async fn run<F, Fut>(mut inbox: mpsc::UnboundedReceiver<Vec<Lane>>, calls_max: usize, work: Arc<F>)
where
    F: Fn(Vec<Delivery>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let call = |lane: Lane| {
        let work = Arc::clone(&work);
        // The call's first step is inside too: a panic before its first await counts the same.
        AssertUnwindSafe(async move { work(lane).await }).catch_unwind()
    };
    let (mut calls, mut waiting) = (FuturesUnordered::new(), VecDeque::<Lane>::new());
    loop {
        while calls.len() < calls_max
            && let Some(lane) = waiting.pop_front()
        {
            // What is being given up is left to the next owner.
            if lane[0].is_revoked() {
                continue;
            }
            let mut call = Box::pin(call(lane));
            // What is over at once need not be kept. What is not is looked at again among the others, which wake us for it.
            if call.as_mut().now_or_never().is_none() {
                calls.push(call);
            }
        }
        tokio::select! {
            Some(_) = calls.next(), if !calls.is_empty() => {}
            lanes = inbox.recv() => match lanes {
                Some(lanes) => waiting.extend(lanes),
                None => break,
            },
        }
    }
    while calls.next().await.is_some() {}
}
