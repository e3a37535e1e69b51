//! The embedded bus: nothing lost, order per key, effects once, whatever falls.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use microcommerce_bridge::embedded::{
    HandleError, Handler, Outbox, Subscription, SubscriptionArguments, SubscriptionCounters,
};
use ractor::{Actor, ActorRef};
use runtime::{
    CommandId, CommandMeta, Current, Entities, EntitiesConfig, Entity, Gate, Journal, Roster,
    entity::EventPayload,
    journal::sqlite::{SqliteJournal, SqliteOptions},
    supervision::{ChildSpec, Restart, Supervisor, SupervisorMessage, SupervisorSpec},
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(20);

struct Account;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Moved {
    number: u64,
}

impl EventPayload for Moved {
    fn event_type(&self) -> &'static str {
        "account.moved"
    }
}

impl Entity for Account {
    const KIND: &'static str = "account";
    type State = Vec<u64>;
    type Command = u64;
    type Event = Moved;
    type Refusal = ();

    fn decide(_: &Vec<u64>, number: u64) -> Result<Vec<Moved>, ()> {
        Ok(vec![Moved { number }])
    }
    fn evolve(state: &mut Vec<u64>, event: &Moved) {
        state.push(event.number);
    }
}

struct Side {
    journal: Arc<dyn Journal>,
    accounts: Entities<Account>,
    supervisor: ActorRef<SupervisorMessage>,
}

async fn side(directory: &Path, more: impl FnOnce(&Arc<dyn Journal>, &Entities<Account>) -> Vec<ChildSpec>) -> Side {
    let options = SqliteOptions { directory: directory.to_owned(), views: "" };
    let journal: Arc<dyn Journal> = SqliteJournal::open(&options).unwrap();
    let roster = Roster::new();
    let accounts =
        Entities::<Account>::new(Arc::clone(&journal), &Gate::new(50_000), EntitiesConfig::default(), roster.clone());
    let mut children = accounts.shards();
    children.extend(more(&journal, &accounts));
    let spec = SupervisorSpec::new("side", children);
    let (supervisor, _) = Supervisor::spawn(None, Supervisor, (spec, roster)).await.unwrap();
    Side { journal, accounts, supervisor }
}

impl Side {
    async fn stop(self) {
        self.supervisor.stop_and_wait(None, None).await.unwrap();
        self.journal.close().await;
    }
}

type Message = (String, u64, u64);

fn outbox() -> Outbox<Message> {
    Arc::new(|recorded| {
        let event: Moved = serde_json::from_str(&recorded.payload).unwrap();
        let key = recorded.kind_and_id().1.to_owned();
        Ok(vec![(key.clone(), (key, event.number, recorded.position))])
    })
}

/// Mirrors every message into the subscriber's account of the same key. Its id makes a repeat harmless.
fn mirror(accounts: &Entities<Account>, is_refusing: &Arc<AtomicBool>) -> Handler<Message> {
    let (accounts, is_refusing) = (accounts.clone(), Arc::clone(is_refusing));
    Arc::new(move |(key, number, position)| {
        let (accounts, is_refusing) = (accounts.clone(), Arc::clone(&is_refusing));
        async move {
            if is_refusing.load(Ordering::SeqCst) {
                return Err(HandleError::NotNow("told to refuse".into()));
            }
            let meta = CommandMeta::new(CommandId::of(&["mirror", &position.to_string()]), PATIENCE);
            let mirrored = accounts.ask(key, number, meta).await;
            mirrored.map(|_| ()).map_err(|error| HandleError::NotNow(error.to_string()))
        }
        .boxed()
    })
}

fn subscription(
    source: &Current<Arc<dyn Journal>>,
    home: &Arc<dyn Journal>,
    handler: Handler<Message>,
    counters: &Arc<SubscriptionCounters>,
) -> ChildSpec {
    let arguments = SubscriptionArguments {
        name: "mirror<source".into(),
        source: source.clone(),
        home: Arc::clone(home),
        outbox: outbox(),
        handler,
        counters: Arc::clone(counters),
    };
    ChildSpec::new("mirror", Restart::Permanent, move |supervisor| {
        let arguments = arguments.clone();
        async move {
            Ok(Subscription::spawn_linked(None, Subscription::default(), arguments, supervisor).await?.0.get_cell())
        }
    })
}

async fn emit(accounts: &Entities<Account>, numbers: std::ops::Range<u64>) {
    let asks = numbers.map(|number| {
        let meta = CommandMeta::new(CommandId::of(&["emit", &number.to_string()]), PATIENCE);
        accounts.ask(format!("k{}", number % 10), number, meta)
    });
    futures::future::join_all(asks).await.into_iter().for_each(|answer| drop(answer.unwrap()));
}

async fn mirrored(accounts: &Entities<Account>, key: u64, count: usize) -> Vec<u64> {
    let is_there = move |state: &Vec<u64>| (state.len() >= count).then(|| state.clone());
    accounts.wait_until(format!("k{key}"), Instant::now() + PATIENCE, is_there).await.unwrap()
}

fn expected(key: u64, end: u64) -> Vec<u64> {
    (0..end).filter(|number| number % 10 == key).collect()
}

#[tokio::test]
async fn every_event_has_its_effect_once_and_in_order_per_key_though_subscriber_and_subscription_fall() {
    let (source_dir, home_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let source = side(source_dir.path(), |_, _| vec![]).await;
    let place = Current::empty();
    place.set(Arc::clone(&source.journal));
    let counters = Arc::new(SubscriptionCounters::default());
    let may_refuse = Arc::new(AtomicBool::new(false));
    for round in 0..4 {
        let home = side(home_dir.path(), |journal, accounts| {
            vec![subscription(&place, journal, mirror(accounts, &may_refuse), &counters)]
        })
        .await;
        emit(&source.accounts, round * 500..round * 500 + 250).await;
        // The subscription is killed somewhere in the middle of its work.
        home.supervisor.send_message(SupervisorMessage::KillChild { name: "mirror".into() }).unwrap();
        emit(&source.accounts, round * 500 + 250..round * 500 + 500).await;
        if round < 3 {
            home.stop().await;
            continue;
        }
        for key in 0..10 {
            assert_eq!(mirrored(&home.accounts, key, 200).await, expected(key, 2_000), "key {key}");
        }
        home.stop().await;
    }
    source.stop().await;
}

#[tokio::test]
async fn what_is_refused_for_now_waits_and_a_source_that_is_away_only_delays() {
    let (source_dir, home_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let source = side(source_dir.path(), |_, _| vec![]).await;
    // The source is not there yet.
    let place = Current::empty();
    let counters = Arc::new(SubscriptionCounters::default());
    let is_refusing = Arc::new(AtomicBool::new(true));
    let home = side(home_dir.path(), |journal, accounts| {
        vec![subscription(&place, journal, mirror(accounts, &is_refusing), &counters)]
    })
    .await;
    emit(&source.accounts, 0..100).await;
    place.set(Arc::clone(&source.journal));
    while counters.retries.load(Ordering::SeqCst) < 30 {
        tokio::task::yield_now().await;
    }
    assert_eq!(counters.handled.load(Ordering::SeqCst), 0);
    is_refusing.store(false, Ordering::SeqCst);
    for key in 0..10 {
        assert_eq!(mirrored(&home.accounts, key, 10).await, expected(key, 100));
    }
    home.stop().await;
    source.stop().await;
}

#[tokio::test]
async fn poison_is_set_aside_and_the_rest_goes_on() {
    let (source_dir, home_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let source = side(source_dir.path(), |_, _| vec![]).await;
    let place = Current::empty();
    place.set(Arc::clone(&source.journal));
    let counters = Arc::new(SubscriptionCounters::default());
    let seen: Arc<Mutex<HashMap<String, Vec<u64>>>> = Arc::default();
    let (noting, done) = (Arc::clone(&seen), Arc::new(AtomicU64::new(0)));
    let counting = Arc::clone(&done);
    let handler: Handler<Message> = Arc::new(move |(key, number, _)| {
        counting.fetch_add(1, Ordering::SeqCst);
        let is_poison = number == 42;
        if !is_poison {
            noting.lock().unwrap().entry(key).or_default().push(number);
        }
        async move { if is_poison { Err(HandleError::Poison("the answer".into())) } else { Ok(()) } }.boxed()
    });
    let home = side(home_dir.path(), |journal, _| vec![subscription(&place, journal, handler, &counters)]).await;
    emit(&source.accounts, 0..100).await;
    let give_up_at = Instant::now() + PATIENCE;
    while done.load(Ordering::SeqCst) < 100 {
        assert!(Instant::now() < give_up_at);
        tokio::task::yield_now().await;
    }
    assert_eq!(counters.set_aside.load(Ordering::SeqCst), 1);
    let mut rest = expected(2, 100);
    rest.retain(|number| *number != 42);
    assert_eq!(seen.lock().unwrap()["k2"], rest);
    home.stop().await;
    source.stop().await;
}
